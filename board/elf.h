/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Executable ELF files (System V ABI, "Object Files"), 32-bit i386 and 64-bit x86-64: headers read
 * once and checked, segments loaded by physical address. Used by the loaders that take ELF.
 */
#ifndef LHYVE_BOARD_ELF_H
#define LHYVE_BOARD_ELF_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

struct boot_file;
struct boot_request;
struct place;

enum { ELF_SEGMENTS = 128, ELF_NOTE_BYTES = 1 << 16 };

struct elf_segment {
	uint64_t off, file_len; /* in the file */
	uint64_t vaddr, paddr, mem_len;
};

struct elf {
	const struct boot_file *file;
	bool is64;
	uint64_t entry; /* as the header says: virtual */
	unsigned segments, notes;
	struct elf_segment segment[ELF_SEGMENTS]; /* PT_LOAD with mem_len > 0 */
	struct elf_segment note[ELF_SEGMENTS];	  /* PT_NOTE */
};

bool elf_is(const struct boot_file *f);
/* Headers and program headers into *e. */
LH_MUST_CHECK int elf_parse(struct elf *e, const struct boot_file *f, struct err *err);
/* Claim and load all segments. */
LH_MUST_CHECK int elf_load(const struct elf *e, const struct boot_request *r, struct place *p,
			   struct err *err);
/* The physical address of a virtual one, as its segment is loaded; what no segment holds is taken as it is.
 */
uint64_t elf_physical(const struct elf *e, uint64_t vaddr);

/* The descriptor of a note: 1 found (*len bytes, at most `room`, in buf), 0 not there, or -errno. */
LH_MUST_CHECK int elf_find_note(const struct elf *e, const char *owner, uint32_t type, void *buf,
				uint32_t room, uint32_t *len, struct err *err);

#endif
