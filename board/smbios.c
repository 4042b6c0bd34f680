/* SPDX-License-Identifier: BSD-2-Clause */
/* SMBIOS structures 0, 1, 3, 4, 16, 17, 19, 32 and 127; numbers in comments are sections of DSP0134 3.3. */
#include "board/smbios.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"

enum { ANCHOR3_LEN = 24, ANCHOR2_LEN = 31, ANCHOR2_AT = 32, TABLE_AT = 64, STRINGS_MAX = 8 };
enum {
	HANDLE_BIOS = 0x0000,
	HANDLE_SYSTEM = 0x0100,
	HANDLE_CHASSIS = 0x0300,
	HANDLE_CPU = 0x0400,
	HANDLE_ARRAY = 0x1000,
	HANDLE_DIMM = 0x1100,
	HANDLE_MAPPED = 0x1300,
	HANDLE_BOOT = 0x2000,
	HANDLE_END = 0x7f00
};

#define VENDOR	"lhyve"
#define PRODUCT "Virtual Machine"

/* One structure under construction: the formatted area goes straight out, the strings after it. */
struct structure {
	struct fwbuf *out;
	size_t start;
	const char *string[STRINGS_MAX];
	unsigned strings;
};

struct table {
	struct fwbuf *out;
	unsigned count;
	size_t longest;
};

static struct structure
begin(struct table *t, uint8_t type, uint16_t handle)
{
	struct structure s = {.out = t->out, .start = t->out->len};

	fw_u8(s.out, type);
	fw_u8(s.out, 0); /* length */
	fw_u16(s.out, handle);
	return s;
}

/* A string's number; the text must live until end(). */
static void
string(struct structure *s, const char *text)
{
	if (text == NULL || *text == 0) {
		fw_u8(s->out, 0);
		return;
	}
	LH_ASSERT(s->strings < STRINGS_MAX);
	s->string[s->strings++] = text;
	fw_u8(s->out, (uint8_t)s->strings);
}

static void
end(struct table *t, struct structure *s)
{
	uint8_t len = (uint8_t)(s->out->len - s->start);

	fw_patch(s->out, s->start + 1, &len, 1);
	for (unsigned i = 0; i < s->strings; i++)
		fw_put(s->out, s->string[i], strlen(s->string[i]) + 1);
	fw_zero(s->out, s->strings == 0 ? 2 : 1);
	t->count++;
	t->longest = MAX(t->longest, s->out->len - s->start);
}

/* ---- identity ---- */

static int
hex(char c)
{
	return c >= '0' && c <= '9'	    ? c - '0'
	       : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10
					    : -1;
}

/* Text form to the wire form, whose first three fields are little-endian (7.2.1). */
static bool
uuid_parse(const char *text, uint8_t out[16])
{
	static const uint8_t order[16] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
	unsigned n = 0;

	for (; *text != 0 && n < 32; text++) {
		int digit = hex(*text);

		if (*text == '-' && n % 2 == 0)
			continue;
		if (digit < 0)
			return false;
		if (n % 2 == 0)
			out[order[n / 2]] = (uint8_t)(digit << 4);
		else
			out[order[n / 2]] |= (uint8_t)digit;
		n++;
	}
	return n == 32 && *text == 0;
}

/* The same name gives the same machine: FNV-1a over it, marked as a version 8 (custom) UUID. */
static void
uuid_from_name(const char *name, uint8_t out[16])
{
	for (unsigned half = 0; half < 2; half++) {
		uint64_t h = 0xcbf29ce484222325ull + half;

		for (const char *p = name; *p != 0; p++)
			h = (h ^ (uint8_t)*p) * 0x100000001b3ull;
		put_le64(out + 8 * half, h);
	}
	out[7] = (uint8_t)((out[7] & 0x0f) | 0x80);
	out[8] = (uint8_t)((out[8] & 0x3f) | 0x80);
}

/* ---- structures ---- */

static void
bios(struct table *t)
{
	struct structure s = begin(t, 0, HANDLE_BIOS);

	string(&s, VENDOR);
	string(&s, LHYVE_VERSION);
	fw_u16(s.out, 0xf000);
	string(&s, "01/01/2024");
	fw_u8(s.out, 0);
	fw_u64(s.out, 1ull << 3); /* characteristics not supported */
	fw_u8(s.out, 0x01);	  /* ACPI */
	fw_u8(s.out, 0x14);	  /* virtual machine; table may be read by type */
	fw_u8(s.out, 0);	  /* release */
	fw_u8(s.out, 1);
	fw_u8(s.out, 0xff); /* no embedded controller */
	fw_u8(s.out, 0xff);
	fw_u16(s.out, 0);
	end(t, &s);
}

static void
identity(struct table *t, const struct machine *m, const uint8_t uuid[16])
{
	struct structure s = begin(t, 1, HANDLE_SYSTEM);

	string(&s, VENDOR);
	string(&s, PRODUCT);
	string(&s, LHYVE_VERSION);
	string(&s, m->name);
	fw_put(s.out, uuid, 16);
	fw_u8(s.out, 6); /* woken by the power switch */
	string(&s, NULL);
	string(&s, PRODUCT);
	end(t, &s);
}

static void
chassis(struct table *t)
{
	struct structure s = begin(t, 3, HANDLE_CHASSIS);

	string(&s, VENDOR);
	fw_u8(s.out, 1); /* other */
	string(&s, LHYVE_VERSION);
	string(&s, NULL);
	string(&s, NULL);
	fw_u8(s.out, 3); /* boot-up, power, thermal state: safe */
	fw_u8(s.out, 3);
	fw_u8(s.out, 3);
	fw_u8(s.out, 2); /* security: unknown */
	fw_u32(s.out, 0);
	fw_u8(s.out, 0);
	fw_u8(s.out, 0);
	fw_u8(s.out, 0);
	fw_u8(s.out, 0);
	string(&s, NULL);
	end(t, &s);
}

static void
processor(struct table *t, const struct machine *m, unsigned socket)
{
	unsigned sockets = MAX(m->topo.sockets, 1), cpus = MAX(m->topo.cpus / sockets, 1);
	unsigned cores = m->topo.cores != 0 ? m->topo.cores : cpus;
	struct structure s = begin(t, 4, (uint16_t)(HANDLE_CPU + socket));
	char name[24];

	snprintf(name, sizeof(name), "CPU%u", socket);
	string(&s, name);
	fw_u8(s.out, 3); /* central processor */
	fw_u8(s.out, 2); /* family: unknown */
	string(&s, VENDOR);
	fw_u32(s.out, m->cpu_signature);
	fw_u32(s.out, m->cpu_features);
	string(&s, NULL);
	fw_u8(s.out, 0);
	fw_u16(s.out, 0); /* clocks: unknown */
	fw_u16(s.out, 0);
	fw_u16(s.out, 0);
	fw_u8(s.out, 0x41); /* populated, enabled */
	fw_u8(s.out, 1);
	fw_u16(s.out, 0xffff); /* caches: CPUID tells */
	fw_u16(s.out, 0xffff);
	fw_u16(s.out, 0xffff);
	string(&s, NULL);
	string(&s, NULL);
	string(&s, NULL);
	fw_u8(s.out, (uint8_t)MIN(cores, 255));
	fw_u8(s.out, (uint8_t)MIN(cores, 255));
	fw_u8(s.out, (uint8_t)MIN(cpus, 255));
	fw_u16(s.out, 0x0004); /* 64-bit capable */
	fw_u16(s.out, 2);
	fw_u16(s.out, (uint16_t)cores);
	fw_u16(s.out, (uint16_t)cores);
	fw_u16(s.out, (uint16_t)cpus);
	end(t, &s);
}

static void
memory_array(struct table *t, uint64_t bytes)
{
	struct structure s = begin(t, 16, HANDLE_ARRAY);

	fw_u8(s.out, 1); /* other */
	fw_u8(s.out, 3); /* system memory */
	fw_u8(s.out, 6); /* multi-bit ECC */
	fw_u32(s.out, bytes / KIB < 0x80000000 ? (uint32_t)(bytes / KIB) : 0x80000000);
	fw_u16(s.out, 0xfffe);
	fw_u16(s.out, 1);
	fw_u64(s.out, bytes / KIB < 0x80000000 ? 0 : bytes);
	end(t, &s);
}

static void
memory_device(struct table *t, uint64_t bytes)
{
	struct structure s = begin(t, 17, HANDLE_DIMM);
	uint64_t mib = bytes / MIB;

	fw_u16(s.out, HANDLE_ARRAY);
	fw_u16(s.out, 0xfffe);
	fw_u16(s.out, 64);
	fw_u16(s.out, 64);
	fw_u16(s.out, mib < 0x7fff ? (uint16_t)mib : 0x7fff);
	fw_u8(s.out, 9); /* DIMM */
	fw_u8(s.out, 0);
	string(&s, "DIMM 0");
	string(&s, NULL);
	fw_u8(s.out, 7);  /* RAM */
	fw_u16(s.out, 2); /* other */
	fw_u16(s.out, 0);
	string(&s, VENDOR);
	string(&s, NULL);
	string(&s, NULL);
	string(&s, NULL);
	fw_u8(s.out, 0);
	fw_u32(s.out, mib < 0x7fff ? 0 : (uint32_t)mib);
	fw_u16(s.out, 0);
	fw_u16(s.out, 0); /* voltages: unknown */
	fw_u16(s.out, 0);
	fw_u16(s.out, 0);
	end(t, &s);
}

static void
mapped(struct table *t, uint16_t handle, uint64_t base, uint64_t len)
{
	struct structure s;

	if (len == 0)
		return;
	s = begin(t, 19, handle);
	if ((base + len) / KIB < UINT32_MAX) {
		fw_u32(s.out, (uint32_t)(base / KIB));
		fw_u32(s.out, (uint32_t)((base + len) / KIB - 1));
	} else {
		fw_u32(s.out, UINT32_MAX);
		fw_u32(s.out, UINT32_MAX);
	}
	fw_u16(s.out, HANDLE_ARRAY);
	fw_u8(s.out, 1);
	fw_u64(s.out, (base + len) / KIB < UINT32_MAX ? 0 : base);
	fw_u64(s.out, (base + len) / KIB < UINT32_MAX ? 0 : base + len - 1);
	end(t, &s);
}

static void
structures(struct table *t, const struct machine *m, const uint8_t uuid[16])
{
	uint64_t bytes = m->low_ram + m->high_ram;
	struct structure s;

	bios(t);
	identity(t, m, uuid);
	chassis(t);
	for (unsigned i = 0; i < MAX(m->topo.sockets, 1); i++)
		processor(t, m, i);
	memory_array(t, bytes);
	memory_device(t, bytes);
	mapped(t, HANDLE_MAPPED, 0, m->low_ram);
	mapped(t, HANDLE_MAPPED + 1, MACHINE_HIGH_RAM_BASE, m->high_ram);
	s = begin(t, 32, HANDLE_BOOT);
	fw_zero(s.out, 7); /* reserved; no error detected */
	end(t, &s);
	s = begin(t, 127, HANDLE_END);
	end(t, &s);
}

/* ---- anchors (5.2) ---- */

static void
anchor3(struct fwbuf *out, const struct table *t, uint64_t gpa)
{
	size_t at = out->len;

	fw_put(out, "_SM3_", 5);
	fw_u8(out, 0);
	fw_u8(out, ANCHOR3_LEN);
	fw_u8(out, 3);
	fw_u8(out, 3);
	fw_u8(out, 0);
	fw_u8(out, 1);
	fw_u8(out, 0);
	fw_u32(out, (uint32_t)t->out->len);
	fw_u64(out, gpa + TABLE_AT);
	fw_checksum(out, at, ANCHOR3_LEN, at + 5);
}

static void
anchor2(struct fwbuf *out, const struct table *t, uint64_t gpa)
{
	size_t at = out->len;

	fw_put(out, "_SM_", 4);
	fw_u8(out, 0);
	fw_u8(out, ANCHOR2_LEN);
	fw_u8(out, 2);
	fw_u8(out, 8);
	fw_u16(out, (uint16_t)t->longest);
	fw_zero(out, 6);
	fw_put(out, "_DMI_", 5);
	fw_u8(out, 0);
	fw_u16(out, (uint16_t)t->out->len);
	fw_u32(out, (uint32_t)(gpa + TABLE_AT));
	fw_u16(out, (uint16_t)t->count);
	fw_u8(out, 0x28);
	fw_checksum(out, at + 16, ANCHOR2_LEN - 16, at + 21);
	fw_checksum(out, at, ANCHOR2_LEN, at + 4);
}

int
smbios_build(struct fwbuf *out, const struct machine *m, uint64_t gpa, struct err *err)
{
	struct fwbuf body = {0};
	struct table t = {.out = &body};
	uint8_t uuid[16];

	if (m->uuid == NULL)
		uuid_from_name(m->name, uuid);
	else if (!uuid_parse(m->uuid, uuid))
		return err_set(err, EINVAL,
			       "uuid: '%s' is none (give 32 hex digits, as uuidgen(1) prints them)", m->uuid);
	structures(&t, m, uuid);
	anchor3(out, &t, gpa);
	fw_zero(out, ANCHOR2_AT - out->len);
	/* The old anchor counts in 16 bits. */
	if (body.len <= UINT16_MAX)
		anchor2(out, &t, gpa);
	fw_zero(out, TABLE_AT - out->len);
	fw_put(out, body.p, body.len);
	out->failed |= body.failed;
	fwbuf_free(&body);
	return out->failed ? err_set(err, ENOMEM, "smbios: no memory") : 0;
}
