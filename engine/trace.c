/* SPDX-License-Identifier: BSD-2-Clause */
/* See trace.h. A record is written when the next instruction begins, so that an event's delivery counts with
 * it. */
#include "engine/trace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "base/log.h"
#include "base/util.h"
#include "engine/engine.h"

enum { MEM_MAX = 16384, EVENTS_MAX = 4, MEM_HEAD = 12 };

/* What is compared, in the order of the binary form's numbers. */
struct item {
	const char *name; /* %u: the element's number */
	uint16_t off, size, count;
};
#define ITEM(name, field, size, count)                                \
	{                                                             \
		name, offsetof(struct trace_snap, field), size, count \
	}
static const struct item items[] = {
    ITEM("", gpr, 8, 16), /* gpr_names */
    ITEM("fl", fl, 8, 1),	ITEM("cr0", cr0, 8, 1),	    ITEM("cr2", cr2, 8, 1),
    ITEM("cr3", cr3, 8, 1),	ITEM("cr4", cr4, 8, 1),	    ITEM("cr8", cr8, 8, 1),
    ITEM("efer", efer, 8, 1),	ITEM("xcr0", xcr0, 8, 1),   ITEM("sel%u", sel, 8, 6),
    ITEM("base%u", base, 8, 6), ITEM("gdtr%u", gdtr, 8, 2), ITEM("idtr%u", idtr, 8, 2),
    ITEM("ldtr", ldtr, 8, 1),	ITEM("tr", tr, 8, 1),	    ITEM("mxcsr", mxcsr, 8, 1),
    ITEM("k%u", k, 8, 8),	ITEM("fx", fx, 160, 1),	    ITEM("v%u", vec, 64, 32),
};
static const char *const gpr_names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					  "r8",	 "r9",	"r10", "r11", "r12", "r13", "r14", "r15"};

struct tracer {
	FILE *f;
	struct engine_trace cfg;
	uint64_t seen, written;
	bool pending; /* an instruction has begun whose record is not written */
	struct trace_snap was, now;
	uint64_t rip;
	uint8_t mode, bytes[TRACER_INSN_MAX], len;
	struct {
		uint8_t vec, has_err;
		uint32_t err;
	} event[EVENTS_MAX];
	unsigned events;
	uint8_t mem[MEM_MAX]; /* writes: gpa (8), length (4), bytes */
	unsigned mem_used;
	bool mem_cut;
};

struct tracer *
tracer_create(const struct engine_trace *cfg, bool registers_only, struct err *err)
{
	struct tracer *t = calloc(1, sizeof(*t));

	if (t == NULL) {
		err_set(err, ENOMEM, "debug.trace: no memory");
		return NULL;
	}
	t->cfg = *cfg;
	t->f = fopen(cfg->path, "w");
	if (t->f == NULL) {
		err_set(err, errno, "debug.trace: %s: %s", cfg->path, strerror(errno));
		free(t);
		return NULL;
	}
	setvbuf(t->f, NULL, _IOFBF, 1 << 20);
	if (cfg->binary)
		fwrite(registers_only ? "LHTRACR1" : "LHTRACE1", 8, 1, t->f);
	else
		fprintf(t->f, "# lhyve trace 1, vCPU %u, from instruction %llu%s\n", cfg->vcpu,
			(unsigned long long)cfg->start, registers_only ? ", registers only" : "");
	return t;
}

/* ---- text ---- */

static void
put_hex(FILE *f, const uint8_t *p, size_t n)
{
	while (n-- > 0)
		fprintf(f, "%02x", *p++);
}

static void
text_item(FILE *f, unsigned item, unsigned n, const uint8_t *value)
{
	char name[16];
	uint64_t v;

	snprintf(name, sizeof(name), items[item].name, n);
	fprintf(f, " %s=", item == 0 ? gpr_names[n] : name);
	if (items[item].size != 8) {
		put_hex(f, value, items[item].size);
		return;
	}
	memcpy(&v, value, 8);
	fprintf(f, "%llx", (unsigned long long)v);
}

static void
text_rest(struct tracer *t)
{
	for (unsigned at = 0; at < t->mem_used;) {
		uint32_t len = get_le32(t->mem + at + 8);

		fprintf(t->f, " m:%llx=", (unsigned long long)get_le64(t->mem + at));
		put_hex(t->f, t->mem + at + 12, len);
		at += 12 + len;
	}
	if (t->mem_cut)
		fputs(" m:more", t->f);
	for (unsigned n = 0; n < t->events; n++) {
		fprintf(t->f, " ev=%u", t->event[n].vec);
		if (t->event[n].has_err)
			fprintf(t->f, ":%x", t->event[n].err);
	}
	fputc('\n', t->f);
}

/* ---- binary: everything little-endian ---- */

static void
put_number(FILE *f, uint64_t v) /* seven bits a byte, the lowest first; bit 7: more */
{
	for (; v >= 0x80; v >>= 7)
		fputc((int)(v & 0x7f) | 0x80, f);
	fputc((int)v, f);
}

static void
binary_item(FILE *f, unsigned item, unsigned n, const uint8_t *value)
{
	unsigned size = items[item].size;

	while (size > 0 && value[size - 1] == 0)
		size--;
	fputc((int)item + 1, f);
	fputc((int)n, f);
	fputc((int)size, f);
	fwrite(value, size, 1, f);
}

static void
binary_rest(struct tracer *t)
{
	fputc(0, t->f); /* no more registers */
	for (unsigned at = 0; at < t->mem_used;) {
		uint32_t len = get_le32(t->mem + at + 8);

		put_number(t->f, len);
		put_number(t->f, get_le64(t->mem + at));
		fwrite(t->mem + at + 12, len, 1, t->f);
		at += 12 + len;
	}
	fputc(0, t->f);
	fputc((int)t->events | (t->mem_cut ? 0x80 : 0), t->f);
	for (unsigned n = 0; n < t->events; n++) {
		fputc(t->event[n].vec, t->f);
		fputc(t->event[n].has_err, t->f);
		put_number(t->f, t->event[n].err);
	}
}

/* ---- records ---- */

static void
put_head(struct tracer *t)
{
	static const char *const names[] = {"16", "32", "64"};

	if (t->cfg.binary) {
		fputc(t->mode << 4 | t->len, t->f);
		put_number(t->f, t->rip);
		fwrite(t->bytes, t->len, 1, t->f);
		return;
	}
	fprintf(t->f, "%s %llx ", names[t->mode], (unsigned long long)t->rip);
	if (t->len == 0)
		fputc('?', t->f);
	put_hex(t->f, t->bytes, t->len);
}

/* The pending record: what differs between t->was and t->now. The first has all that is not zero. */
static void
put_record(struct tracer *t)
{
	put_head(t);
	for (unsigned i = 0; i < ARRAY_LEN(items); i++) {
		for (unsigned n = 0; n < items[i].count; n++) {
			size_t at = items[i].off + (size_t)n * items[i].size;
			const uint8_t *now = (const uint8_t *)&t->now + at;

			if (memcmp(now, (const uint8_t *)&t->was + at, items[i].size) == 0)
				continue;
			if (t->cfg.binary)
				binary_item(t->f, i, n, now);
			else
				text_item(t->f, i, n, now);
		}
	}
	if (t->cfg.binary)
		binary_rest(t);
	else
		text_rest(t);
	t->events = t->mem_used = 0;
	t->mem_cut = false;
}

/* ---- an instruction's life ---- */

bool
tracer_pending(const struct tracer *t)
{
	return t->pending;
}

void
tracer_end(struct tracer *t, const struct trace_snap *now)
{
	t->now = *now;
	put_record(t);
	t->was = t->now;
	t->pending = false;
	t->written++;
}

enum tracer_next
tracer_next(struct tracer *t)
{
	if (t->seen++ < t->cfg.start) {
		t->events = t->mem_used = 0;
		return TRACER_SKIP;
	}
	if (t->cfg.count != 0 && t->written == t->cfg.count)
		return TRACER_DONE;
	return t->written == 0 ? TRACER_FIRST : TRACER_GO;
}

/* A record of no instruction: length and bytes empty, the first RIP. */
void
tracer_start(struct tracer *t, uint64_t rip, enum tracer_mode mode, const struct trace_snap *now)
{
	t->rip = rip;
	t->mode = (uint8_t)mode;
	t->len = 0;
	t->events = t->mem_used = 0;
	t->now = *now;
	put_record(t);
	t->was = t->now;
}

void
tracer_begin(struct tracer *t, uint64_t rip, enum tracer_mode mode, const uint8_t *bytes, unsigned n)
{
	static const struct {
		ZydisMachineMode mode;
		ZydisStackWidth width;
	} widths[] = {{ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16},
		      {ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32},
		      {ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64}};
	ZydisDecoder d;
	ZydisDecodedInstruction z;

	t->rip = rip;
	t->mode = (uint8_t)mode;
	t->len = 0;
	memcpy(t->bytes, bytes, MIN(n, (unsigned)TRACER_INSN_MAX));
	ZydisDecoderInit(&d, widths[mode].mode, widths[mode].width);
	if (n > 0 && ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&d, NULL, t->bytes, n, &z)))
		t->len = z.length;
	t->pending = true;
}

void
tracer_event(struct tracer *t, uint8_t vector, bool has_error, uint32_t error)
{
	if (t->events == EVENTS_MAX)
		return;
	t->event[t->events].vec = vector;
	t->event[t->events].has_err = has_error;
	t->event[t->events++].err = error;
}

uint8_t *
tracer_memory(struct tracer *t, uint64_t gpa, uint64_t len)
{
	uint8_t *p = t->mem + t->mem_used;

	if (len > MEM_MAX - MEM_HEAD || t->mem_used > MEM_MAX - MEM_HEAD - len) {
		t->mem_cut = true;
		return NULL;
	}
	put_le64(p, gpa);
	put_le32(p + 8, (uint32_t)len);
	t->mem_used += MEM_HEAD + (unsigned)len;
	return p + MEM_HEAD;
}

void
tracer_memory_undo(struct tracer *t, uint64_t len)
{
	t->mem_used -= MEM_HEAD + (unsigned)len;
	t->mem_cut = true;
}

void
tracer_destroy(struct tracer *t)
{
	if (t == NULL)
		return;
	if (ferror(t->f) | (fclose(t->f) != 0))
		log_error("debug.trace: %s: not all could be written (is the disk full?)", t->cfg.path);
	free(t);
}
