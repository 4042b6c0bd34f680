/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One unit: guest code from an address on, instruction after instruction, until one that always leaves, the
 * end of the page, or the limit.
 *
 *   start:   jmp poll                  leave: attn
 *   entry:   cmp gs:[go], 0            what looks up, calls, or branches backward enters here
 *            je start                  (no flags change where they are in EFLAGS: mov ecx, gs:[go]; jrcxz)
 *   inner:   the instructions          forward branches within the page enter here
 *
 * Slow paths and exit stubs stand apart, in the generation's other half.
 */
#include <time.h>
#include "engine/soft/decode.h"
#include "engine/soft/jit_int.h"
#include "engine/soft/ops.h"
#include "engine/soft/profile.h"

enum { UNROLLED_INSNS = JIT_UNIT_INSNS, UNROLL_MAX = 8 }; /* instructions, rounds */

/* A call of the interpreter's handler. end: what follows is not run from here. */
void
jit_emit_interp(struct jx *x, bool end)
{
	struct soft_insn *i = soft_code_alloc(x->cpu->vm->code, 2 * sizeof(*i));
	if (i == NULL) {
		x->failed = true;
		return;
	}
	memset(i, 0, 2 * sizeof(*i));
	soft_decode_insn(x->cpu, x->mode & 0xff, x->bytes, MIN(15u, 0x1000 - x->off), x->off, i);
	i[1].fn = op_jit_resume;
	i[1].off = (uint16_t)(x->off + i->len);
	i[1].base = i[1].index = REG_NONE;
	i[1].aux.p = x->u;
	x->fpu_known = false;
	jit_group_none(x);
	jit_fl_save(x);
	x->fl_host = false;
	x->fl_rec.kind = REC_NONE;
	em_mov_imm64(&x->e, H_R11, (uintptr_t)i);
	em_jmp(&x->e, end ? 0xe9 : 0xe8, end ? x->j->c.interp_end : x->j->c.interp);
}

static bool
does_nothing(const struct jx *x)
{
	if (x->z->opcode_map == ZYDIS_OPCODE_MAP_0F && x->z->opcode == 0x0d)
		return false; /* PREFETCH with a register: the interpreter knows the vendors */
	switch (x->z->mnemonic) {
	case ZYDIS_MNEMONIC_NOP:
	case ZYDIS_MNEMONIC_ENDBR64:
	case ZYDIS_MNEMONIC_ENDBR32:
	case ZYDIS_MNEMONIC_PREFETCHT0:
	case ZYDIS_MNEMONIC_PREFETCHT1:
	case ZYDIS_MNEMONIC_PREFETCHT2:
	case ZYDIS_MNEMONIC_PREFETCHNTA:
		return true;
	default:
		return false;
	}
}

/* False: the unit ends with this instruction. */
static bool
one_insn(struct jx *x)
{
	struct soft_insn probe;
	struct jx_mark before;
	if (x->sp_off != 0 && !jit_sp_may_wait(x))
		jit_sp_settle(x);
	jit_mark(x, &before);
	enum jit_flow f = jit_flow_insn(x);
	if (f != FLOW_NOT) {
		if (!jit_is_jcc(x->z))
			x->in_r10 = x->in_rcx = 0;
		return f == FLOW_NEXT;
	}
	if (jit_stack_insn(x) == FLOW_NEXT)
		return true;
	if (does_nothing(x) || jit_generic(x))
		return true;
	jit_undo(x, &before);
	jit_sp_settle(x);
	if (x->straddles || (x->mode & JMODE_VERIFY)) {
		jit_emit_step(x);
		return false;
	}
	bool end = soft_decode_insn(x->cpu, x->mode & 0xff, x->bytes, MIN(15u, 0x1000 - x->off), x->off,
				    &probe) == DECODE_END;
	jit_emit_interp(x, end);
	x->cpu->ctr.jit_interp_made++;
	return !end;
}

/* No flags change. Several vCPUs may count at a time: a few runs are lost then. */
static void
count_run(struct jx *x)
{
	struct emit *e = &x->e;
	em_mov_imm64(e, H_R11, (uintptr_t)&x->u->entered);
	em_mem(e, 1, 0x8b, H_RCX, H_R11, 0);
	em_lea(e, 1, H_RCX, H_RCX, EM_NONE, 0, 1);
	em_mem(e, 1, 0x89, H_RCX, H_R11, 0);
}

static void
emit_entry(struct jx *x)
{
	struct emit *e = &x->e;
	uint8_t *start;
	while (((uintptr_t)e->p + JIT_ENTRY) & 7) /* what stands there may be replaced at one go */
		em_8(e, 0xcc);
	start = e->p;
	x->u->start = (uint32_t)(start - x->j->rw);
	jit_ool(x, OOL_POLL, em_jmp(e, 0xe9, e->p));
	x->u->entry = jit_rx(x->j, e->p);
	LH_ASSERT(e->p == start + JIT_ENTRY);
	if (x->fl_host) {
		em_gs(e, 0, 0x8b, H_RCX, CPU_OFF(go));
		em_8(e, 0xe3);
	} else {
		em_8(e, 0x65); /* cmp dword gs:[go], 0 */
		em_8(e, 0x83);
		em_8(e, 0x3c);
		em_8(e, 0x25);
		em_32(e, (uint32_t)CPU_OFF(go));
		em_8(e, 0);
		em_8(e, 0x74); /* je */
	}
	em_8(e, (uint8_t)(start - (e->p + 1)));
	x->u->poll_len = (uint16_t)(jit_rx(x->j, e->p) - x->u->entry);
	if (x->cpu->vm->profile)
		count_run(x);
}

/* Nothing behind it is reached from it. */
static bool
ends_flow(const ZydisDecodedInstruction *z)
{
	switch (z->meta.category) {
	case ZYDIS_CATEGORY_UNCOND_BR:
	case ZYDIS_CATEGORY_RET:
	case ZYDIS_CATEGORY_SYSCALL:
	case ZYDIS_CATEGORY_SYSRET:
	case ZYDIS_CATEGORY_INTERRUPT:
		return true;
	default:
		return false;
	}
}

/* Does the conditional branch lead back to the unit's start? */
static bool
loops(const struct jx *x, const struct jx_insn *p)
{
	return jit_is_jcc(&p->z) &&
	       (int64_t)p->off + p->z.length + p->op[0].imm.value.s == (int64_t)x->start_off;
}

/*
 * j->pre[0..n) is a loop whose last instruction leads back: put its body there again, so that accesses of
 * several rounds are checked together (jit_group.c). Returns the new count.
 */
static unsigned
unroll(struct jx *x, unsigned n)
{
	struct jx_insn *pre = x->j->pre;
	unsigned total = n, accesses = 0;
	for (unsigned k = 0; k < n; k++)
		accesses += jit_has_access(&pre[k]);
	if (accesses == 0 || !x->is64 || (x->mode & (JMODE_ONE | JMODE_SPLIT)))
		return n;
	while (total + n <= UNROLLED_INSNS && total < UNROLL_MAX * n) {
		pre[total - 1].follow = true;
		memcpy(&pre[total], pre, n * sizeof(*pre));
		total += n;
		pre[total - 1].follow = false;
	}
	return total;
}

/* The instruction at the unit's start with its bytes of both pages. */
static void
decode_straddling(struct jx *x, struct jx_insn *p)
{
	unsigned avail = 0x1000 - p->off;
	memcpy(x->both, p->bytes, avail);
	memcpy(x->both + avail, x->next.hva, 15 - avail);
	p->bytes = x->both;
	p->bad = !ZYAN_SUCCESS(soft_decode_zydis(x->mode & 0xff, p->bytes, 15, &p->z, p->op));
	x->straddles = !p->bad && p->z.length > avail;
	p->bad = !x->straddles;
}

/* Is the page behind still the one whose bytes were decoded? Else the interpreter does the instruction. */
static void
check_next_page(struct jx *x)
{
	struct emit *e = &x->e;
	size_t at = CPU_OFF(jit_page_at) + (x->mmu * JIT_PAGES + x->next.number) * sizeof(uint64_t);
	jit_fl_clobber(x);
	em_gs_load(e, H_RCX, CPU_OFF(jit_pagebase));
	em_lea(e, x->is64, H_RCX, H_RCX, EM_NONE, 0, 0x1000);
	em_gs(e, 1, 0x3b, H_RCX, at); /* cmp */
	jit_ool(x, OOL_STEP, em_jcc(e, 5, e->p));
}

/* Decode what may become of the unit into j->pre. Returns how many. */
static unsigned
decode_unit(struct jx *x, const uint8_t *hva)
{
	unsigned n = 0, off = x->start_off, limit = x->mode & JMODE_ONE ? 1 : x->limit;
	while (n < limit && off < 0x1000) {
		struct jx_insn *p = &x->j->pre[n++];
		p->off = off;
		p->follow = false;
		p->bytes = hva + (off - x->start_off);
		p->bad = !ZYAN_SUCCESS(
		    soft_decode_zydis(x->mode & 0xff, p->bytes, MIN(0x1000 - off, 15u), &p->z, p->op));
		if (p->bad && n == 1 && off > 0x1000 - 15 && x->next.hva != NULL)
			decode_straddling(x, p);
		if (p->bad || x->straddles || ends_flow(&p->z))
			break;
		off += p->z.length;
		if (loops(x, p))
			return unroll(x, n);
	}
	return n;
}

/* All of the unit. False: nothing could be translated. */
static bool
emit_unit(struct jx *x, const uint8_t *hva)
{
	unsigned count = decode_unit(x, hva), n;
	bool more = true;
	jit_analyse(x, count);
	emit_entry(x);
	if (x->straddles)
		check_next_page(x);
	for (n = 0; n < count && more && !x->failed; n++) {
		const struct jx_insn *p = &x->j->pre[n];
		unsigned avail = x->straddles ? 15 : MIN(0x1000 - p->off, 15u),
			 len = p->bad ? avail : p->z.length;
		x->n = n;
		x->no_group = false;
		x->off = p->off;
		x->bytes = p->bytes;
		x->z = &p->z;
		x->op = p->op;
		x->end_off = MAX(x->end_off, p->off + len); /* bad: a change of any of these may mend it */
		if (p->bad) {
			if (n == 0 && avail < 15)
				return false;
			if (avail < 15)
				break; /* it may go on in the next page */
			jit_sp_settle(x);
			jit_emit_step(x);
			more = false;
			break;
		}
		x->u->insns++;
		x->u->accesses += jit_has_access(p);
		more = one_insn(x);
		x->off += len;
	}
	if (more && !x->failed) {
		jit_sp_settle(x);
		jit_emit_goto(x, (int32_t)x->off, BR_NONE);
	}
	x->cpu->ctr.jit_insns += n;
	return true;
}

/* What goes with the code, into the arena. False: full. */
static bool
finish_unit(struct jx *x)
{
	struct soft_code *c = x->cpu->vm->code;
	struct jit_unit *u = x->u;
	uint8_t *end = x->e.p;
	x->e.p = x->j->rw + x->j->cold_used;
	jit_emit_ool(x);
	LH_ASSERT((size_t)(x->e.p - x->j->rw) - x->j->cold_used <= JIT_UNIT_CODE_MAX);
	x->j->cold_used = (size_t)(x->e.p - x->j->rw);
	u->land = soft_code_alloc(c, x->nland * sizeof(*u->land) + 1);
	u->fault = soft_code_alloc(c, x->nfault * sizeof(*u->fault) + 1);
	if (x->failed || u->land == NULL || u->fault == NULL)
		return false;
	memcpy(u->land, x->land, x->nland * sizeof(*u->land));
	memcpy(u->fault, x->fault, x->nfault * sizeof(*u->fault));
	u->nland = (uint16_t)x->nland;
	u->nfault = (uint16_t)x->nfault;
	u->bytes = (uint16_t)(x->end_off - x->start_off);
	u->end = (uint32_t)(end - x->j->rw);
	LH_ASSERT(u->end - u->start <= JIT_UNIT_CODE_MAX);
	x->j->used = u->end;
	return true;
}

static uint64_t
now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Marks the page behind as code when an instruction that begins at cpu->rip may reach it. Only a page that
 * code was fetched from before, so that nothing is touched too early. */
static struct next_page
open_next_page(struct soft_cpu *cpu, uint32_t mode)
{
	struct next_page next = {0};
	if ((cpu->rip & 0xfff) <= 0x1000 - 15 || (mode & JMODE_VERIFY))
		return next;
	next.hva = soft_fetch_known(cpu, ((cpu->rip & PAGE_MASK4) + 0x1000) & cpu->ip_mask, &next.gpa);
	if (next.hva == NULL)
		return next;
	next.n = soft_code_open(cpu, next.gpa, &next.seq);
	next.number = cpu->vm->code->pages[next.n]->number;
	if (next.number == 0)
		next.hva = NULL;
	return next;
}

/* What the unit has of the page behind: a stand-in in that page's list. */
static void
enter_next_page(struct jx *x)
{
	struct code_page *p = x->cpu->vm->code->pages[x->next.n];
	struct jit_unit *s = x->u + 1;
	*s = (struct jit_unit){.entry = x->u->entry,
			       .gpa = x->next.gpa,
			       .bytes = (uint16_t)(x->end_off - 0x1000),
			       .whole = x->u,
			       .page_next = p->units};
	p->units = s;
}

/* Was nothing written to page n since it was opened? The lock is held. */
static bool
unwritten(const struct soft_code *c, uint64_t n, uint32_t seq)
{
	return c->pages[n]->seq == seq && atomic_load(&c->marked[n]);
}

struct jit_unit *
soft_jit_translate(struct soft_cpu *cpu, uint64_t gpa, const uint8_t *hva, uint32_t mode)
{
	struct soft_code *c = cpu->vm->code;
	struct jit *j = c->jit;
	struct jit_unit *u;
	uint64_t n;
	uint32_t seq;
	struct next_page next;
	struct jx x;

	soft_vec_sync(cpu);
	uint64_t began = now_ns();
	for (;;) {
		n = soft_code_open(cpu, gpa, &seq);
		next = open_next_page(cpu, mode);
		soft_code_lock(c, cpu);
		u = soft_jit_find(j, gpa, mode);
		if (u != NULL ||
		    (unwritten(c, n, seq) && (next.hva == NULL || unwritten(c, next.n, next.seq))))
			break;
		pthread_mutex_unlock(&c->lock); /* written meanwhile */
	}
	if (u != NULL)
		goto out;
	u = soft_code_alloc(c, (next.hva != NULL ? 2 : 1) * sizeof(*u));
	if (u == NULL || !jit_has_room(j))
		goto full;
	memset(u, 0, sizeof(*u));
	u->gpa = gpa;
	u->page_number = c->pages[n]->number;
	u->mode = mode;
	x = (struct jx){.cpu = cpu, .j = j, .mode = mode, .u = u, .next = next};
	x.e.p = j->rw + j->used;
	x.is64 = (mode & MODE_CS) == MODE_64;
	x.mmu = mode >> JMODE_MMU_SHIFT & 3;
	x.fl_host = mode & JMODE_EFLAGS;
	x.fl_ax = !x.fl_host;
	x.off = x.start_off = gpa & 0xfff;
	x.limit = c->pages[n]->made < UNITS_CROWD ? JIT_UNIT_INSNS : JIT_UNIT_INSNS / 4;
	if (!emit_unit(&x, hva)) {
		u = NULL;
		goto out;
	}
	if (!finish_unit(&x))
		goto full;
	u->valid = 1;
	u->page_next = c->pages[n]->units;
	c->pages[n]->units = u;
	if (x.straddles)
		enter_next_page(&x);
	c->pages[n]->made = (uint16_t)MIN(c->pages[n]->made + 1u, (unsigned)UNITS_CROWD);
	jit_insert(c, u);
	cpu->ctr.jit_units++;
	if (cpu->vm->perf_map != NULL)
		soft_perf_map_unit(cpu->vm->perf_map, j->rx + u->start, u->end - u->start, cpu->rip, gpa);
out:;
	size_t full = jit_full(j), end = j->large;
	pthread_mutex_unlock(&c->lock);
	jit_settle(j, full, end);
	cpu->ctr.jit_ns += now_ns() - began;
	return u;
full:
	c->full = true;
	pthread_mutex_unlock(&c->lock);
	soft_code_want_flush(cpu);
}
