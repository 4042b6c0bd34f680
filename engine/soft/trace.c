/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * debug.trace: what each instruction of one vCPU changed. The vCPU runs one instruction at a time and
 * has no entry in its TLB that allows writes, so that every one comes by (mmu.c). A record is written when
 * the next instruction begins: registers are compared with what they were when its own began, so that an
 * event's delivery in between counts with it. doc/debugging.md describes both forms of the file.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "base/log.h"
#include "engine/soft/jit.h"

enum { INSN_MAX = 15, MEM_MAX = 16384, EVENTS_MAX = 4 };

struct snap {
	uint64_t gpr[16];
	uint64_t fl, cr0, cr2, cr3, cr4, cr8, efer, xcr0;
	uint64_t sel[6], base[6], gdtr[2], idtr[2], ldtr, tr;
	uint64_t mxcsr, k[8];
	uint8_t fx[160];
	uint8_t vec[32][64];
};

/* What is compared, in the order of the binary form's numbers. */
struct item {
	const char *name; /* %u: the element's number */
	uint16_t off, size, count;
};
#define ITEM(name, field, size, count)                          \
	{                                                       \
		name, offsetof(struct snap, field), size, count \
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

struct soft_trace {
	FILE *f;
	struct engine_trace cfg;
	uint64_t seen, written;
	bool pending; /* an instruction has begun whose record is not written */
	struct snap was, now;
	uint64_t rip;
	uint8_t mode, bytes[INSN_MAX], len;
	struct {
		uint8_t vec, has_err;
		uint32_t err;
	} event[EVENTS_MAX];
	unsigned events;
	uint8_t mem[MEM_MAX]; /* writes: gpa (8), length (4), bytes */
	unsigned mem_used;
	bool mem_cut;
};

struct soft_trace *
soft_trace_create(const struct engine_trace *cfg, struct err *err)
{
	struct soft_trace *t = calloc(1, sizeof(*t));

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
		fwrite("LHTRACE1", 8, 1, t->f);
	else
		fprintf(t->f, "# lhyve trace 1, vCPU %u, from instruction %llu\n", cfg->vcpu,
			(unsigned long long)cfg->start);
	return t;
}

/* ---- looking at the vCPU ---- */

static void
take_snap(struct soft_cpu *cpu, struct snap *s)
{
	const struct x86_state *st = &cpu->st;

	soft_vec_sync(cpu);
	memcpy(s->gpr, cpu->gpr, sizeof(s->gpr));
	s->fl = soft_rflags(cpu);
	s->cr0 = st->cr0;
	s->cr2 = st->cr2;
	s->cr3 = st->cr3;
	s->cr4 = st->cr4;
	s->cr8 = st->cr8;
	s->efer = st->msr.efer;
	s->xcr0 = st->xcr0;
	for (unsigned n = 0; n < 6; n++) {
		s->sel[n] = st->seg[n].sel;
		s->base[n] = st->seg[n].base;
	}
	s->gdtr[0] = st->gdtr.base;
	s->gdtr[1] = st->gdtr.limit;
	s->idtr[0] = st->idtr.base;
	s->idtr[1] = st->idtr.limit;
	s->ldtr = st->seg[X86_LDTR].sel;
	s->tr = st->seg[X86_TR].sel;
	s->mxcsr = st->xs.mxcsr;
	memcpy(s->k, st->xs.k, sizeof(s->k));
	memcpy(s->fx, cpu->fximage, sizeof(s->fx));
	memcpy(s->vec, st->xs.vec, sizeof(s->vec));
}

/* The bytes at RIP as far as they can be read without a side effect; their number by decoding. */
static void
take_bytes(struct soft_cpu *cpu, struct soft_trace *t)
{
	static const ZydisMachineMode modes[] = {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_MACHINE_MODE_LEGACY_32,
						 ZYDIS_MACHINE_MODE_LONG_64};
	uint64_t la = soft_is64(cpu) ? cpu->rip : (cpu->rip + cpu->st.seg[X86_CS].base) & 0xffffffff;
	ZydisDecoder d;
	ZydisDecodedInstruction z;
	unsigned n = 0;

	while (n < INSN_MAX) {
		uint64_t at = la + n, gpa;
		unsigned part = (unsigned)MIN(INSN_MAX - n, 0x1000 - (at & 0xfff));

		if (!soft_translate(cpu, at, &gpa) || !gm_read(cpu->vm->mem, gpa, t->bytes + n, part))
			break;
		n += part;
	}
	t->mode = cpu->mode & MODE_CS;
	t->len = 0;
	ZydisDecoderInit(&d, modes[t->mode],
			 t->mode == MODE_16   ? ZYDIS_STACK_WIDTH_16
			 : t->mode == MODE_32 ? ZYDIS_STACK_WIDTH_32
					      : ZYDIS_STACK_WIDTH_64);
	if (n > 0 && ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&d, NULL, t->bytes, n, &z)))
		t->len = z.length;
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
text_rest(struct soft_trace *t)
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
binary_rest(struct soft_trace *t)
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
put_head(struct soft_trace *t)
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
put_record(struct soft_trace *t)
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

static void
finish(struct soft_cpu *cpu)
{
	struct soft_trace *t = cpu->trace;

	if (!t->pending)
		return;
	take_snap(cpu, &t->now);
	put_record(t);
	t->was = t->now;
	t->pending = false;
	t->written++;
}

void
soft_trace_close(struct soft_cpu *cpu)
{
	struct soft_trace *t = cpu->trace;

	if (t == NULL)
		return;
	finish(cpu);
	if (ferror(t->f) | (fclose(t->f) != 0))
		log_error("debug.trace: %s: not all could be written (is the disk full?)", t->cfg.path);
	free(t);
	cpu->trace = NULL;
}

/* A record of no instruction (length and bytes empty, the first RIP): the state that all begins with. */
static void
put_start(struct soft_cpu *cpu)
{
	struct soft_trace *t = cpu->trace;

	t->rip = cpu->rip;
	t->mode = cpu->mode & MODE_CS;
	t->len = 0;
	t->events = t->mem_used = 0;
	take_snap(cpu, &t->now);
	put_record(t);
	t->was = t->now;
}

void
soft_trace_step(struct soft_cpu *cpu)
{
	struct soft_trace *t = cpu->trace;

	if (cpu->iolog_n != 0)
		return; /* a device answered: the same instruction again */
	soft_vec_sync(cpu);
	finish(cpu);
	if (t->seen++ < t->cfg.start) {
		t->events = t->mem_used = 0;
		return;
	}
	if (t->cfg.count != 0 && t->written == t->cfg.count) {
		soft_trace_close(cpu);
		cpu->jit_one = 0;
		soft_tlb_flush(cpu);
		soft_attn_set(cpu, ATTN_LEAVE);
		return;
	}
	if (t->written == 0)
		put_start(cpu);
	t->rip = cpu->rip;
	take_bytes(cpu, t);
	t->pending = true;
}

void
soft_trace_event(struct soft_cpu *cpu)
{
	struct soft_trace *t = cpu->trace;
	bool interrupt = cpu->exc_kind == EXCK_EXT;

	if (t->events == EVENTS_MAX)
		return;
	t->event[t->events].vec = cpu->exc_vec;
	t->event[t->events].has_err = !interrupt && cpu->exc_has_err;
	t->event[t->events++].err = cpu->exc_has_err ? cpu->exc_err : 0;
}

void
soft_trace_write(struct soft_cpu *cpu, uint64_t gpa, uint64_t len)
{
	struct soft_trace *t = cpu->trace;

	if (!t->pending)
		return;
	soft_vec_sync(cpu);
	if (len > MEM_MAX - 12 || t->mem_used > MEM_MAX - 12 - len ||
	    !gm_read(cpu->vm->mem, gpa, t->mem + t->mem_used + 12, len)) {
		t->mem_cut = true;
		return;
	}
	put_le64(t->mem + t->mem_used, gpa);
	put_le32(t->mem + t->mem_used + 8, (uint32_t)len);
	t->mem_used += 12 + (unsigned)len;
}
