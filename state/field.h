/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Field tables: one row for each guest-visible member of a device's `st` struct.
 * The same table saves, loads, compares and dumps. A tag means one thing for ever.
 */
#ifndef LHYVE_STATE_FIELD_H
#define LHYVE_STATE_FIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

enum field_kind { FIELD_U8, FIELD_U16, FIELD_U32, FIELD_U64, FIELD_I64, FIELD_BOOL, FIELD_BYTES };

struct field {
	uint16_t tag; /* permanent; unique in its table; never 0 */
	const char *name;
	enum field_kind kind;
	uint32_t offset;	/* in st */
	uint32_t count;		/* array length; bytes for FIELD_BYTES */
	uint64_t default_value; /* for a stream that lacks an optional field */
	bool required;
	bool transient; /* declared, but not saved: derived or host-only bytes, padding */
};

struct field_table {
	const char *name; /* "uart16550" */
	uint16_t version;
	uint32_t size; /* sizeof st */
	uint32_t count;
	const struct field *fields;
};

#define FIELD(tag_, type, member, kind_)                                                           \
	{                                                                                          \
		.tag = (tag_), .name = #member, .kind = (kind_), .offset = offsetof(type, member), \
		.count = 1, .required = true                                                       \
	}
#define FIELD_ARRAY(tag_, type, member, kind_, n)                                                  \
	{                                                                                          \
		.tag = (tag_), .name = #member, .kind = (kind_), .offset = offsetof(type, member), \
		.count = (n), .required = true                                                     \
	}
#define FIELD_TRANSIENT(type, member, bytes)                                                      \
	{                                                                                         \
		.tag = 0, .name = #member, .kind = FIELD_BYTES, .offset = offsetof(type, member), \
		.count = (bytes), .transient = true                                               \
	}

/* True when every byte of st is covered by exactly one row; else *where is the first byte that is not. */
bool field_table_complete(const struct field_table *t, size_t *where);

/* Bytes that a save of t needs. */
size_t field_save_size(const struct field_table *t);
/* Write st as tagged little-endian fields into buf (at least field_save_size()). Returns the bytes written.
 */
size_t field_save(const struct field_table *t, const void *st, void *buf);
/* Read them back; hostile input gives an error and leaves *st as it was. Unknown optional tags are skipped.
 */
LH_MUST_CHECK int field_load(const struct field_table *t, void *st, const void *buf, size_t len,
			     struct err *err);
/* The first differing field's name, or NULL when equal. */
const char *field_compare(const struct field_table *t, const void *a, const void *b);

/* For people: the row of this name, or NULL; and element i (< count) of a row as a number. */
const struct field *field_find(const struct field_table *t, const char *name);
uint64_t field_get(const struct field *f, const void *st, uint32_t i);

#endif
