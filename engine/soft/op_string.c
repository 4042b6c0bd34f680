/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * String instructions. Each iteration is committed by itself, so that faults and
 * interrupts find RCX, RSI and RDI as the architecture has them. Runs within a
 * page of plain RAM go by the host's own REP instruction, which also gives the
 * right answer for overlapping operands.
 */
#include "engine/soft/ops.h"

#define POLL_ITERATIONS 256 /* between looks at `attn` in the element-wise loops */

struct strctx {
	uint64_t count;
	uint64_t amask;
	int64_t step;
	unsigned n;
	bool rep;
	bool checked; /* segments need checks */
};

static inline void
str_begin(struct soft_cpu *cpu, const struct soft_insn *i, struct strctx *c)
{
	cpu->cur = i;
	c->n = i->size;
	c->amask = size_mask(i->addrsize);
	c->step = cpu->rflags & FL_DF ? -(int64_t)i->size : (int64_t)i->size;
	c->rep = i->flags & (IF_REP | IF_REPNE);
	c->count = c->rep ? cpu->gpr[X86_RCX] & c->amask : 1;
	c->checked = (cpu->mode & MODE_CS) != MODE_64;
}

static inline uint64_t
src_la(struct soft_cpu *cpu, const struct soft_insn *i, const struct strctx *c)
{
	uint64_t ea = cpu->gpr[X86_RSI] & c->amask;
	return c->checked ? soft_seg_la(cpu, i->seg, ea, c->n, false) : ea + cpu->seg_base[i->segslot];
}

static inline uint64_t
dst_la(struct soft_cpu *cpu, const struct strctx *c, bool write)
{
	uint64_t ea = cpu->gpr[X86_RDI] & c->amask;
	return c->checked ? soft_seg_la(cpu, X86_ES, ea, c->n, write) : ea;
}

static inline void
reg_add(struct soft_cpu *cpu, unsigned r, const struct strctx *c, int64_t delta)
{
	uint64_t v = cpu->gpr[r] + (uint64_t)delta;
	if (c->amask == 0xffff)
		CPU_REG(cpu, r * 8, uint16_t) = (uint16_t)v;
	else
		cpu->gpr[r] = v & c->amask;
}

/* `k` iterations are done. */
static inline void
commit(struct soft_cpu *cpu, struct strctx *c, uint64_t k, bool si, bool di)
{
	int64_t d = c->step * (int64_t)k;
	if (si)
		reg_add(cpu, X86_RSI, c, d);
	if (di)
		reg_add(cpu, X86_RDI, c, d);
	c->count -= k;
	if (c->rep)
		reg_add(cpu, X86_RCX, c, -(int64_t)k);
	soft_iolog_clear(cpu);
}

/* Something waits (a kick, a single step): come back to this instruction later. */
static inline bool
must_pause(struct soft_cpu *cpu, const struct strctx *c)
{
	return c->rep && c->count != 0 && (atomic_load_explicit(&cpu->attn, memory_order_relaxed) != 0);
}

static const struct soft_insn *
again(struct soft_cpu *cpu, const struct soft_insn *i)
{
	cpu->rip = soft_insn_rip(cpu, i);
	cpu->rep_open = 1;
	return NULL;
}

/* Elements from la to the end of its page (upward), at most count. 0: not even one whole. */
static inline uint64_t
page_run(uint64_t la, const struct strctx *c)
{
	return MIN((0x1000 - (la & 0xfff)) / c->n, c->count);
}

/* Flat or 64-bit, upward, not stepping: whole runs may go at once. An expand-up flat segment cannot fault
 * inside. */
static inline bool
can_run(const struct soft_cpu *cpu, const struct soft_insn *i, const struct strctx *c)
{
	if (atomic_load_explicit(&cpu->attn, memory_order_relaxed) & ATTN_STEP)
		return false;
	return c->rep && c->step > 0 && (!c->checked || (cpu->mode & MODE_FLAT)) &&
	       (i->seg <= X86_DS || !c->checked) && c->amask != 0xffff;
}

static bool
movs_run(struct soft_cpu *cpu, const struct soft_insn *i, struct strctx *c)
{
	uint64_t s = src_la(cpu, i, c), d = dst_la(cpu, c, true), k = MIN(page_run(s, c), page_run(d, c));
	uint64_t left = k;
	uint8_t *sp, *dp;
	if (k < 2 || (sp = soft_direct(cpu, s, false)) == NULL || (dp = soft_direct(cpu, d, true)) == NULL)
		return false;
	switch (c->n) { /* by its own elements: source and destination may overlap by less than one */
	case 8:
		__asm__ volatile("rep movsq" : "+S"(sp), "+D"(dp), "+c"(left) : : "memory");
		break;
	case 4:
		__asm__ volatile("rep movsl" : "+S"(sp), "+D"(dp), "+c"(left) : : "memory");
		break;
	case 2:
		__asm__ volatile("rep movsw" : "+S"(sp), "+D"(dp), "+c"(left) : : "memory");
		break;
	default:
		__asm__ volatile("rep movsb" : "+S"(sp), "+D"(dp), "+c"(left) : : "memory");
		break;
	}
	commit(cpu, c, k, true, true);
	return true;
}

OP(op_movs)
{
	struct strctx c;
	str_begin(cpu, i, &c);
	bool run = can_run(cpu, i, &c);
	for (unsigned n = 0; c.count != 0; n++) {
		if (run && movs_run(cpu, i, &c)) {
			if (must_pause(cpu, &c))
				return again(cpu, i);
			continue;
		}
		uint64_t v = soft_load(cpu, src_la(cpu, i, &c), c.n);
		soft_store(cpu, dst_la(cpu, &c, true), c.n, v);
		commit(cpu, &c, 1, true, true);
		if ((n % POLL_ITERATIONS == 0) && must_pause(cpu, &c))
			return again(cpu, i);
	}
	DONE(cpu, i);
}

static bool
stos_run(struct soft_cpu *cpu, struct strctx *c)
{
	uint64_t d = dst_la(cpu, c, true), k = page_run(d, c), left = k;
	uint8_t *dp;
	if (k < 2 || (dp = soft_direct(cpu, d, true)) == NULL)
		return false;
	uint64_t a = cpu->gpr[X86_RAX];
	switch (c->n) {
	case 1:
		__asm__ volatile("rep stosb" : "+D"(dp), "+c"(left) : "a"(a) : "memory");
		break;
	case 2:
		__asm__ volatile("rep stosw" : "+D"(dp), "+c"(left) : "a"(a) : "memory");
		break;
	case 4:
		__asm__ volatile("rep stosl" : "+D"(dp), "+c"(left) : "a"(a) : "memory");
		break;
	default:
		__asm__ volatile("rep stosq" : "+D"(dp), "+c"(left) : "a"(a) : "memory");
		break;
	}
	commit(cpu, c, k, false, true);
	return true;
}

OP(op_stos)
{
	struct strctx c;
	str_begin(cpu, i, &c);
	bool run = can_run(cpu, i, &c);
	for (unsigned n = 0; c.count != 0; n++) {
		if (run && stos_run(cpu, &c)) {
			if (must_pause(cpu, &c))
				return again(cpu, i);
			continue;
		}
		soft_store(cpu, dst_la(cpu, &c, true), c.n, soft_reg_get(cpu, 0, c.n));
		commit(cpu, &c, 1, false, true);
		if ((n % POLL_ITERATIONS == 0) && must_pause(cpu, &c))
			return again(cpu, i);
	}
	DONE(cpu, i);
}

OP(op_lods)
{
	struct strctx c;
	str_begin(cpu, i, &c);
	for (unsigned n = 0; c.count != 0; n++) {
		uint64_t v = soft_load(cpu, src_la(cpu, i, &c), c.n);
		soft_reg_set(cpu, 0, c.n, v);
		commit(cpu, &c, 1, true, false);
		if ((n % POLL_ITERATIONS == 0) && must_pause(cpu, &c))
			return again(cpu, i);
	}
	DONE(cpu, i);
}

/* Flags of a - b in n bytes, by the host's CMP. */
static uint16_t
cmp_flags(uint64_t a, uint64_t b, unsigned n)
{
	uint16_t f;
	switch (n) {
	case 1:
		__asm__("cmpb %b2, %b1\n\t" SOFT_FLAGS_OUT : "=&a"(f) : "q"(a), "q"(b) : "cc");
		break;
	case 2:
		__asm__("cmpw %w2, %w1\n\t" SOFT_FLAGS_OUT : "=&a"(f) : "r"(a), "r"(b) : "cc");
		break;
	case 4:
		__asm__("cmpl %k2, %k1\n\t" SOFT_FLAGS_OUT : "=&a"(f) : "r"(a), "r"(b) : "cc");
		break;
	default:
		__asm__("cmpq %2, %1\n\t" SOFT_FLAGS_OUT : "=&a"(f) : "r"(a), "r"(b) : "cc");
		break;
	}
	return f;
}

/* REPE stops at a difference, REPNE at equality. */
static inline bool
rep_stops(const struct soft_insn *i, uint16_t fl)
{
	bool zf = fl & SFL_ZF;
	return i->flags & IF_REPNE ? zf : !zf;
}

OP(op_cmps)
{
	struct strctx c;
	str_begin(cpu, i, &c);
	for (unsigned n = 0; c.count != 0; n++) {
		uint64_t b =
		    soft_load(cpu, dst_la(cpu, &c, false), c.n); /* ES:rDI first, as AMD does: seen in CR2 */
		uint64_t a = soft_load(cpu, src_la(cpu, i, &c), c.n);
		commit(cpu, &c, 1, true, true);
		cpu->fl = cmp_flags(a, b, c.n);
		if (c.rep && rep_stops(i, cpu->fl))
			break;
		if ((n % POLL_ITERATIONS == 0) && must_pause(cpu, &c))
			return again(cpu, i);
	}
	DONE(cpu, i);
}

OP(op_scas)
{
	struct strctx c;
	str_begin(cpu, i, &c);
	for (unsigned n = 0; c.count != 0; n++) {
		uint64_t b = soft_load(cpu, dst_la(cpu, &c, false), c.n);
		commit(cpu, &c, 1, false, true);
		cpu->fl = cmp_flags(soft_reg_get(cpu, 0, c.n), b, c.n);
		if (c.rep && rep_stops(i, cpu->fl))
			break;
		if ((n % POLL_ITERATIONS == 0) && must_pause(cpu, &c))
			return again(cpu, i);
	}
	DONE(cpu, i);
}

OP(op_ins)
{
	struct strctx c;
	uint16_t port = CPU_REG(cpu, X86_RDX * 8, uint16_t);
	bool fault;
	str_begin(cpu, i, &c);
	if (!soft_io_allowed(cpu, port, c.n))
		soft_gp(cpu, 0);
	while (c.count != 0) {
		uint64_t la = dst_la(cpu, &c, true);
		soft_probe(cpu, la, c.n, true); /* the port must not be read when the store faults */
		uint64_t v = soft_io(cpu, IOLOG_IN, port, c.n, 0, &fault);
		soft_store(cpu, la, c.n, v);
		commit(cpu, &c, 1, false, true);
		if (must_pause(cpu, &c))
			return again(cpu, i);
	}
	DONE(cpu, i);
}

OP(op_outs)
{
	struct strctx c;
	uint16_t port = CPU_REG(cpu, X86_RDX * 8, uint16_t);
	bool fault;
	str_begin(cpu, i, &c);
	if (!soft_io_allowed(cpu, port, c.n))
		soft_gp(cpu, 0);
	while (c.count != 0) {
		uint64_t v = soft_load(cpu, src_la(cpu, i, &c), c.n);
		soft_io(cpu, IOLOG_OUT, port, c.n, v, &fault);
		commit(cpu, &c, 1, true, false);
		if (must_pause(cpu, &c))
			return again(cpu, i);
	}
	DONE(cpu, i);
}
