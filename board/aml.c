/* SPDX-License-Identifier: BSD-2-Clause */
/* AML byte code. One instance is used by one thread. */
#include "board/aml.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/util.h"

enum {
	OP_ZERO = 0x00,
	OP_ONE = 0x01,
	OP_NAME = 0x08,
	OP_BYTE = 0x0a,
	OP_WORD = 0x0b,
	OP_DWORD = 0x0c,
	OP_STRING = 0x0d,
	OP_QWORD = 0x0e,
	OP_SCOPE = 0x10,
	OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12,
	OP_METHOD = 0x14,
	OP_DUAL_NAME = 0x2e,
	OP_MULTI_NAME = 0x2f,
	OP_EXT = 0x5b,
	OP_LOCAL0 = 0x60,
	OP_ARG0 = 0x68,
	OP_IF = 0xa0,
	OP_ELSE = 0xa1,
	EXT_REGION = 0x80,
	EXT_FIELD = 0x81,
	EXT_DEVICE = 0x82,
};

void
aml_init(struct aml *a, struct fwbuf *out)
{
	*a = (struct aml){.out = out};
}

void
aml_op(struct aml *a, uint8_t op)
{
	fw_u8(a->out, op);
}

void
aml_ext_op(struct aml *a, uint8_t op)
{
	fw_u8(a->out, OP_EXT);
	fw_u8(a->out, op);
}

/* ---- PkgLength (20.2.4) ---- */

/* Its value counts its own bytes. */
static size_t
pkg_length(uint8_t out[4], size_t content)
{
	static const size_t limit[4] = {0x40, 0x1000, 0x100000, 0x10000000};
	size_t n = 1;

	while (content + n >= limit[n - 1])
		n++;
	content += n;
	if (n == 1) {
		out[0] = (uint8_t)content;
		return n;
	}
	out[0] = (uint8_t)((n - 1) << 6 | (content & 0xf));
	for (size_t i = 1; i < n; i++)
		out[i] = (uint8_t)(content >> (8 * i - 4));
	return n;
}

static void
open_term(struct aml *a)
{
	LH_ASSERT(a->depth < AML_DEPTH);
	a->open[a->depth++] = a->out->len;
}

/* Put `len` bytes before offset `at`. */
static void
insert(struct aml *a, size_t at, const void *data, size_t len)
{
	size_t tail = a->out->len - at;

	fw_zero(a->out, len);
	if (a->out->failed)
		return;
	memmove(a->out->p + at + len, a->out->p + at, tail);
	memcpy(a->out->p + at, data, len);
}

void
aml_end(struct aml *a)
{
	uint8_t len[4];
	size_t at;

	LH_ASSERT(a->depth > 0);
	at = a->open[--a->depth];
	insert(a, at, len, pkg_length(len, a->out->len - at));
}

/* ---- names (20.2.2) ---- */

static void
name_segment(struct aml *a, const char *s, size_t len)
{
	char seg[4] = {'_', '_', '_', '_'};

	LH_ASSERT(len >= 1 && len <= 4);
	memcpy(seg, s, len);
	fw_put(a->out, seg, 4);
}

void
aml_path(struct aml *a, const char *path)
{
	unsigned segments = 1;

	while (*path == '\\' || *path == '^')
		fw_u8(a->out, (uint8_t)*path++);
	if (*path == 0) {
		fw_u8(a->out, 0);
		return;
	}
	for (const char *p = path; *p != 0; p++)
		segments += *p == '.';
	if (segments == 2)
		fw_u8(a->out, OP_DUAL_NAME);
	if (segments > 2) {
		fw_u8(a->out, OP_MULTI_NAME);
		fw_u8(a->out, (uint8_t)segments);
	}
	for (;;) {
		size_t n = strcspn(path, ".");

		name_segment(a, path, n);
		if (path[n] == 0)
			return;
		path += n + 1;
	}
}

/* ---- declarations ---- */

void
aml_scope_begin(struct aml *a, const char *path)
{
	aml_op(a, OP_SCOPE);
	open_term(a);
	aml_path(a, path);
}

void
aml_device_begin(struct aml *a, const char *name)
{
	aml_ext_op(a, EXT_DEVICE);
	open_term(a);
	aml_path(a, name);
}

void
aml_method_begin(struct aml *a, const char *name, unsigned args, bool serialized)
{
	aml_op(a, OP_METHOD);
	open_term(a);
	aml_path(a, name);
	fw_u8(a->out, (uint8_t)((args & 7) | (serialized ? 8 : 0)));
}

void
aml_name(struct aml *a, const char *name)
{
	aml_op(a, OP_NAME);
	aml_path(a, name);
}

void
aml_region(struct aml *a, const char *name, enum aml_space space, uint64_t off, uint64_t len)
{
	aml_ext_op(a, EXT_REGION);
	aml_path(a, name);
	fw_u8(a->out, (uint8_t)space);
	aml_int(a, off);
	aml_int(a, len);
}

void
aml_field_begin(struct aml *a, const char *region, unsigned flags)
{
	aml_ext_op(a, EXT_FIELD);
	open_term(a);
	aml_path(a, region);
	fw_u8(a->out, (uint8_t)flags);
}

/* A unit's width is coded as a PkgLength that does not count itself. */
void
aml_field_unit(struct aml *a, const char *name, unsigned bits)
{
	if (name != NULL)
		name_segment(a, name, strlen(name));
	else
		fw_u8(a->out, 0);
	if (bits < 0x40) {
		fw_u8(a->out, (uint8_t)bits);
		return;
	}
	LH_ASSERT(bits < 0x1000);
	fw_u8(a->out, (uint8_t)(0x40 | (bits & 0xf)));
	fw_u8(a->out, (uint8_t)(bits >> 4));
}

/* ---- values ---- */

void
aml_int(struct aml *a, uint64_t v)
{
	if (v <= 1) {
		fw_u8(a->out, v == 0 ? OP_ZERO : OP_ONE);
	} else if (v <= UINT8_MAX) {
		fw_u8(a->out, OP_BYTE);
		fw_u8(a->out, (uint8_t)v);
	} else if (v <= UINT16_MAX) {
		fw_u8(a->out, OP_WORD);
		fw_u16(a->out, (uint16_t)v);
	} else if (v <= UINT32_MAX) {
		fw_u8(a->out, OP_DWORD);
		fw_u32(a->out, (uint32_t)v);
	} else {
		fw_u8(a->out, OP_QWORD);
		fw_u64(a->out, v);
	}
}

void
aml_string(struct aml *a, const char *s)
{
	fw_u8(a->out, OP_STRING);
	fw_put(a->out, s, strlen(s) + 1);
}

static unsigned
hex_digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *p = strchr(digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c);

	LH_ASSERT(p != NULL && c != 0);
	return (unsigned)(p - digits);
}

/* Three letters of five bits, four hex digits, big-endian (6.1.5). */
void
aml_eisaid(struct aml *a, const char *id)
{
	uint32_t v = 0;

	LH_ASSERT(strlen(id) == 7);
	for (unsigned i = 0; i < 3; i++)
		v = v << 5 | (uint32_t)(id[i] - '@');
	for (unsigned i = 3; i < 7; i++)
		v = v << 4 | hex_digit(id[i]);
	fw_u8(a->out, OP_DWORD);
	fw_u32(a->out, __builtin_bswap32(v));
}

void
aml_package_begin(struct aml *a, unsigned count)
{
	LH_ASSERT(count <= UINT8_MAX);
	aml_op(a, OP_PACKAGE);
	open_term(a);
	fw_u8(a->out, (uint8_t)count);
}

void
aml_buffer(struct aml *a, const void *data, size_t len)
{
	aml_op(a, OP_BUFFER);
	open_term(a);
	aml_int(a, len);
	fw_put(a->out, data, len);
	aml_end(a);
}

/* "aabbccdd-eeff-gghh-iijj-kkllmmnnoopp" becomes dd cc bb aa ff ee hh gg ii jj kk .. pp. */
void
aml_uuid(struct aml *a, const char *uuid)
{
	static const uint8_t at[16] = {6, 4, 2, 0, 11, 9, 16, 14, 19, 21, 24, 26, 28, 30, 32, 34};
	uint8_t bytes[16];

	LH_ASSERT(strlen(uuid) == 36);
	for (unsigned i = 0; i < 16; i++)
		bytes[i] = (uint8_t)(hex_digit(uuid[at[i]]) << 4 | hex_digit(uuid[at[i] + 1]));
	aml_buffer(a, bytes, sizeof(bytes));
}

void
aml_arg(struct aml *a, unsigned n)
{
	aml_op(a, (uint8_t)(OP_ARG0 + n));
}

void
aml_local(struct aml *a, unsigned n)
{
	aml_op(a, (uint8_t)(OP_LOCAL0 + n));
}

void
aml_if_begin(struct aml *a)
{
	aml_op(a, OP_IF);
	open_term(a);
}

void
aml_else_begin(struct aml *a)
{
	aml_op(a, OP_ELSE);
	open_term(a);
}

void
aml_no_target(struct aml *a)
{
	fw_u8(a->out, 0);
}

/* ---- resource descriptors ---- */

/* The buffer's length is a word that aml_resources_end() fills in, so that one form serves all sizes. */
void
aml_resources_begin(struct aml *a)
{
	aml_op(a, OP_BUFFER);
	open_term(a);
}

void
aml_resources_end(struct aml *a)
{
	size_t at = a->open[a->depth - 1], len;
	struct fwbuf size = {0};
	struct aml s;

	fw_u8(a->out, 0x79); /* end tag; a checksum of 0 means: none */
	fw_u8(a->out, 0);
	len = a->out->len - at;
	aml_init(&s, &size);
	aml_int(&s, len);
	if (size.failed)
		a->out->failed = true;
	else
		insert(a, at, size.p, size.len);
	fwbuf_free(&size);
	aml_end(a);
}

void
aml_res_io(struct aml *a, uint16_t base, uint8_t len)
{
	fw_u8(a->out, 0x47);
	fw_u8(a->out, 1); /* 16-bit decode */
	fw_u16(a->out, base);
	fw_u16(a->out, base);
	fw_u8(a->out, 1);
	fw_u8(a->out, len);
}

void
aml_res_irq(struct aml *a, uint16_t mask)
{
	fw_u8(a->out, 0x22);
	fw_u16(a->out, mask);
}

void
aml_res_irq_level(struct aml *a, uint16_t mask)
{
	fw_u8(a->out, 0x23);
	fw_u16(a->out, mask);
	fw_u8(a->out, 0x18);
}

void
aml_res_memory32(struct aml *a, uint32_t base, uint32_t len)
{
	fw_u8(a->out, 0x86);
	fw_u16(a->out, 9);
	fw_u8(a->out, 1); /* read-write */
	fw_u32(a->out, base);
	fw_u32(a->out, len);
}

/* Address space descriptors: word, dword and qword forms differ in the width of five numbers. */
static void
window(struct aml *a, unsigned width, uint8_t type, uint8_t flags, uint64_t first, uint64_t last)
{
	const uint64_t number[5] = {0, first, last, 0,
				    last - first + 1}; /* granularity, range, offset, length */

	fw_u8(a->out, width == 2 ? 0x88 : width == 4 ? 0x87 : 0x8a);
	fw_u16(a->out, (uint16_t)(3 + 5 * width));
	fw_u8(a->out, type);
	fw_u8(a->out, 0x0c); /* producer, fixed minimum and maximum, positive decode */
	fw_u8(a->out, flags);
	for (unsigned i = 0; i < 5; i++)
		fw_put(a->out, &number[i], width);
}

enum { WINDOW_MEMORY = 0, WINDOW_IO = 1, WINDOW_BUS = 2, FLAGS_IO_ENTIRE = 3, FLAGS_RW = 1 };

void
aml_res_bus_numbers(struct aml *a, uint16_t first, uint16_t last)
{
	window(a, 2, WINDOW_BUS, 0, first, last);
}

void
aml_res_io_window(struct aml *a, uint16_t first, uint16_t last)
{
	window(a, 2, WINDOW_IO, FLAGS_IO_ENTIRE, first, last);
}

void
aml_res_memory32_window(struct aml *a, uint32_t first, uint32_t last)
{
	window(a, 4, WINDOW_MEMORY, FLAGS_RW, first, last);
}

void
aml_res_memory64_window(struct aml *a, uint64_t first, uint64_t last)
{
	window(a, 8, WINDOW_MEMORY, FLAGS_RW, first, last);
}
