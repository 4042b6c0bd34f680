/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ACPI machine language, emitted front to back (ACPI 6.4 ch. 20). Terms that have a
 * length are opened with aml_*_begin() and closed with aml_end(), which writes the
 * shortest PkgLength. Names are paths as ASL writes them: "\\_SB.PCI0", "^X", "COM1".
 */
#ifndef LHYVE_BOARD_AML_H
#define LHYVE_BOARD_AML_H

#include "board/fwbuf.h"

enum { AML_DEPTH = 16 };

struct aml {
	struct fwbuf *out;
	unsigned depth;
	size_t open[AML_DEPTH]; /* where each open term's content begins */
};

void aml_init(struct aml *a, struct fwbuf *out);
void aml_end(struct aml *a);

/* ---- declarations ---- */
void aml_scope_begin(struct aml *a, const char *path);
void aml_device_begin(struct aml *a, const char *name);
void aml_method_begin(struct aml *a, const char *name, unsigned args, bool serialized);
void aml_name(struct aml *a, const char *name); /* the value follows */
enum aml_space { AML_SYSTEM_MEMORY = 0, AML_SYSTEM_IO = 1, AML_PCI_CONFIG = 2 };
void aml_region(struct aml *a, const char *name, enum aml_space space, uint64_t off, uint64_t len);
enum aml_field_flags { AML_BYTE_ACC = 1, AML_WORD_ACC = 2, AML_DWORD_ACC = 3 };
void aml_field_begin(struct aml *a, const char *region, unsigned flags);
void aml_field_unit(struct aml *a, const char *name, unsigned bits); /* name NULL: reserved */

/* ---- values ---- */
void aml_int(struct aml *a, uint64_t v);
void aml_string(struct aml *a, const char *s);
void aml_eisaid(struct aml *a, const char *id); /* "PNP0A08" */
void aml_package_begin(struct aml *a, unsigned count);
void aml_buffer(struct aml *a, const void *data, size_t len);
void aml_uuid(struct aml *a, const char *uuid); /* a buffer in ToUUID()'s order */
void aml_path(struct aml *a, const char *path); /* a reference by name */
void aml_arg(struct aml *a, unsigned n);
void aml_local(struct aml *a, unsigned n);

/* ---- statements and operators: operands follow in order ---- */
void aml_op(struct aml *a, uint8_t op);
void aml_ext_op(struct aml *a, uint8_t op);
void aml_if_begin(struct aml *a);
void aml_else_begin(struct aml *a);
void aml_no_target(struct aml *a); /* an operator's absent target */
enum {
	AML_STORE = 0x70,
	AML_ADD = 0x72,
	AML_SUBTRACT = 0x74,
	AML_SHIFT_LEFT = 0x79,
	AML_AND = 0x7b,
	AML_OR = 0x7d,
	AML_NOT = 0x80,
	AML_FIND_SET_RIGHT_BIT = 0x82,
	AML_LAND = 0x90,
	AML_LNOT = 0x92,
	AML_LEQUAL = 0x93,
	AML_RETURN = 0xa4,
	AML_CREATE_DWORD_FIELD = 0x8a,
	AML_CREATE_WORD_FIELD = 0x8b, /* source, byte index, aml_path(name) */
};

/* ---- resource descriptors (ACPI 6.4 ch. 6.4) ---- */
void aml_resources_begin(struct aml *a);
void aml_resources_end(struct aml *a);
void aml_res_io(struct aml *a, uint16_t base, uint8_t len);
void aml_res_irq(struct aml *a, uint16_t mask); /* IRQNoFlags */
/* Level, active low, shared. */
void aml_res_irq_level(struct aml *a, uint16_t mask);
void aml_res_memory32(struct aml *a, uint32_t base, uint32_t len);
void aml_res_bus_numbers(struct aml *a, uint16_t first, uint16_t last);
void aml_res_io_window(struct aml *a, uint16_t first, uint16_t last);
void aml_res_memory32_window(struct aml *a, uint32_t first, uint32_t last);
void aml_res_memory64_window(struct aml *a, uint64_t first, uint64_t last);

#endif
