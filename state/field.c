/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Field tables. Pure functions over caller's memory: no state, no locks.
 *
 * The form of one saved field, little-endian, fields one after the other in any order:
 *
 *     0      2      3       4         8
 *     | tag  | kind | flags | count   | count elements of the kind's size
 *
 * flags bit 0: the writer's table required the field; a reader that does not know its
 * tag must refuse the stream. Without it, it skips.
 */
#include "state/field.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

#define HEADER_BYTES  8
#define FLAG_REQUIRED 1u
#define FLAGS_KNOWN   FLAG_REQUIRED

static const uint8_t kind_size[] = {
    [FIELD_U8] = 1,  [FIELD_U16] = 2,  [FIELD_U32] = 4,	  [FIELD_U64] = 8,
    [FIELD_I64] = 8, [FIELD_BOOL] = 1, [FIELD_BYTES] = 1,
};

static size_t
field_bytes(const struct field *f)
{
	return (size_t)kind_size[f->kind] * f->count;
}

bool
field_table_complete(const struct field_table *t, size_t *where)
{
	for (size_t at = 0; at < t->size; at++) {
		unsigned covers = 0;

		for (uint32_t i = 0; i < t->count; i++) {
			const struct field *f = &t->fields[i];

			covers += at >= f->offset && at - f->offset < field_bytes(f);
		}
		if (covers != 1) {
			*where = at;
			return false;
		}
	}
	/* No row reaches past the end, no tag is 0 or stands for two rows. */
	for (uint32_t i = 0; i < t->count; i++) {
		const struct field *f = &t->fields[i];

		*where = f->offset;
		if (!range_fits(f->offset, field_bytes(f), t->size) || (f->tag == 0) != f->transient)
			return false;
		for (uint32_t j = 0; j < i; j++) {
			if (!f->transient && t->fields[j].tag == f->tag)
				return false;
		}
	}
	return true;
}

size_t
field_save_size(const struct field_table *t)
{
	size_t size = 0;

	for (uint32_t i = 0; i < t->count; i++) {
		if (!t->fields[i].transient)
			size += HEADER_BYTES + field_bytes(&t->fields[i]);
	}
	return size;
}

size_t
field_save(const struct field_table *t, const void *st, void *buf)
{
	uint8_t *out = buf;

	for (uint32_t i = 0; i < t->count; i++) {
		const struct field *f = &t->fields[i];

		if (f->transient)
			continue;
		put_le16(out, f->tag);
		out[2] = (uint8_t)f->kind;
		out[3] = f->required ? FLAG_REQUIRED : 0;
		put_le32(out + 4, f->count);
		/* x86-64 hosts: members are little-endian already. */
		memcpy(out + HEADER_BYTES, (const uint8_t *)st + f->offset, field_bytes(f));
		out += HEADER_BYTES + field_bytes(f);
	}
	return (size_t)(out - (uint8_t *)buf);
}

static void
store_default(const struct field *f, uint8_t *st)
{
	unsigned size = kind_size[f->kind];

	/* The low bytes are the value at the member's width. */
	for (uint32_t i = 0; i < f->count; i++)
		memcpy(st + f->offset + (size_t)i * size, &f->default_value, size);
}

static uint32_t
row_of_tag(const struct field_table *t, uint16_t tag)
{
	uint32_t i;

	for (i = 0; i < t->count; i++) {
		if (!t->fields[i].transient && t->fields[i].tag == tag)
			break;
	}
	return i;
}

static bool
bools_valid(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (p[i] > 1)
			return false;
	}
	return true;
}

/* Check one field of the stream against its row and store it. */
static int
load_row(const struct field_table *t, const struct field *f, const uint8_t *head, uint8_t *st,
	 struct err *err)
{
	if (head[2] != f->kind || get_le32(head + 4) != f->count) {
		return err_set(err, EINVAL,
			       "%s.%s: saved as kind %u count %u, wanted kind %u count %u (another version?)",
			       t->name, f->name, head[2], get_le32(head + 4), (unsigned)f->kind, f->count);
	}
	if (f->kind == FIELD_BOOL && !bools_valid(head + HEADER_BYTES, f->count))
		return err_set(err, EINVAL, "%s.%s: a truth value that is neither 0 nor 1 (damaged state)",
			       t->name, f->name);
	memcpy(st + f->offset, head + HEADER_BYTES, field_bytes(f));
	return 0;
}

/* One field at p, with `left` bytes to the end. Returns its whole length, or -errno. `seen`: a flag a row. */
static int64_t
load_one(const struct field_table *t, const uint8_t *p, size_t left, uint8_t *st, bool *seen, struct err *err)
{
	uint64_t bytes;
	uint32_t row;
	uint16_t tag;
	int rc;

	if (left < HEADER_BYTES)
		return err_set(err, EINVAL, "%s: state ends in the middle of a field (truncated)", t->name);
	tag = get_le16(p);
	if (p[2] >= ARRAY_LEN(kind_size) || (p[3] & ~FLAGS_KNOWN) != 0 || tag == 0)
		return err_set(err, EINVAL, "%s: field %u has an unknown form (damaged, or a newer version)",
			       t->name, tag);
	bytes = HEADER_BYTES + (uint64_t)get_le32(p + 4) * kind_size[p[2]];
	if (bytes > left)
		return err_set(err, EINVAL, "%s: field %u is longer than the state (truncated)", t->name,
			       tag);
	row = row_of_tag(t, tag);
	if (row == t->count) {
		if ((p[3] & FLAG_REQUIRED) != 0)
			return err_set(
			    err, ENOTSUP,
			    "%s: field %u is not known here and cannot be left out (a newer version?)",
			    t->name, tag);
		return (int64_t)bytes;
	}
	if (seen[row])
		return err_set(err, EINVAL, "%s.%s: twice in one state (damaged state)", t->name,
			       t->fields[row].name);
	seen[row] = true;
	rc = load_row(t, &t->fields[row], p, st, err);
	return rc != 0 ? rc : (int64_t)bytes;
}

/* Defaults for rows that did not come; a required one is an error. */
static int
fill_missing(const struct field_table *t, uint8_t *st, const bool *seen, struct err *err)
{
	for (uint32_t i = 0; i < t->count; i++) {
		const struct field *f = &t->fields[i];

		if (seen[i] || f->transient)
			continue;
		if (f->required)
			return err_set(err, EINVAL, "%s.%s: missing from the state", t->name, f->name);
		store_default(f, st);
	}
	return 0;
}

int
field_load(const struct field_table *t, void *st, const void *buf, size_t len, struct err *err)
{
	uint8_t *copy = malloc(t->size + (size_t)t->count); /* the new st, then a seen flag a row */
	const uint8_t *p = buf;
	bool *seen;
	int rc = 0;

	if (copy == NULL)
		return err_set(err, ENOMEM, "%s: no memory", t->name);
	seen = (bool *)(copy + t->size);
	memcpy(copy, st, t->size);
	memset(seen, 0, t->count);
	while (len > 0 && rc == 0) {
		int64_t n = load_one(t, p, len, copy, seen, err);

		if (n < 0) {
			rc = (int)n;
		} else {
			p += n;
			len -= (size_t)n;
		}
	}
	if (rc == 0)
		rc = fill_missing(t, copy, seen, err);
	if (rc == 0)
		memcpy(st, copy, t->size);
	free(copy);
	return rc;
}

const char *
field_compare(const struct field_table *t, const void *a, const void *b)
{
	for (uint32_t i = 0; i < t->count; i++) {
		const struct field *f = &t->fields[i];

		if (!f->transient && memcmp((const uint8_t *)a + f->offset, (const uint8_t *)b + f->offset,
					    field_bytes(f)) != 0)
			return f->name;
	}
	return NULL;
}

const struct field *
field_find(const struct field_table *t, const char *name)
{
	for (uint32_t i = 0; i < t->count; i++) {
		if (strcmp(t->fields[i].name, name) == 0)
			return &t->fields[i];
	}
	return NULL;
}

uint64_t
field_get(const struct field *f, const void *st, uint32_t i)
{
	unsigned size = kind_size[f->kind];
	uint64_t v = 0;

	LH_ASSERT(i < f->count);
	memcpy(&v, (const uint8_t *)st + f->offset + (size_t)i * size, size);
	return v;
}
