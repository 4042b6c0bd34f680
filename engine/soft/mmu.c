/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The software TLB, and the slow path of every memory access: page faults, device
 * memory, page crossings, watchpoints, alignment checks. The walk is walk.c's.
 *
 * A TLB entry lets an access go straight to host memory. It is made only for RAM,
 * and for writes only when the page's D bit is set and no decoded code lies in it.
 */
#include <pthread.h>
#include "engine/pieces.h"
#include "engine/soft/code.h"
#include "engine/soft/cpu.h"
#include "engine/soft/jit.h"
#include "engine/soft/walk.h"

#define TLB_LARGE  1ull /* in soft_tlb.gpa[]: part of a page above 4 KiB */
#define TLB_GLOBAL 2ull /* stays when CR3 is written */
#define TLB_CODE   4ull /* may be written but for the code that lies there */

/* An always-missing TLB, for when every access needs the slow path (alignment checks). */
static struct soft_tlb tlb_nothing;
static pthread_once_t tlb_nothing_once = PTHREAD_ONCE_INIT;

static void
tlb_init(struct soft_tlb *t)
{
	for (unsigned n = 0; n < TLB_SIZE; n++)
		t->e[n].nr = t->e[n].nw = TLB_NOTAG(n);
}

static void
tlb_nothing_init(void)
{
	tlb_init(&tlb_nothing);
}

static void
empty(struct soft_tlb *t, unsigned n)
{
	t->e[n].nr = t->e[n].nw = TLB_NOTAG(n);
}

/* Empty the first level; `global`: of global pages too (SDM vol. 3A 4.10.4.1). */
static void
tlb_clear(struct soft_cpu *cpu, unsigned idx, bool global)
{
	struct soft_tlb *t = &cpu->tlb[idx];
	unsigned fills = cpu->tlb_fills[idx];
	if (global && cpu->tlb_globals[idx]) {
		tlb_init(t);
	} else if (fills <= TLB_LIST) {
		for (unsigned k = 0; k < fills; k++)
			empty(t, cpu->tlb_list[idx][k]);
	} else {
		for (unsigned n = 0; n < TLB_SIZE; n++) {
			if (!(t->gpa[n] & TLB_GLOBAL))
				empty(t, n);
		}
	}
	cpu->tlb_fills[idx] = 0;
	cpu->tlb_globals[idx] &= !global;
	cpu->tlb_large[idx] &= !global;
}

static void
tlb_clear_all(struct soft_cpu *cpu, bool global)
{
	pthread_once(&tlb_nothing_once, tlb_nothing_init);
	for (unsigned idx = 0; idx < MMU_COUNT; idx++)
		tlb_clear(cpu, idx, global);
}

/* What is known of linear addresses of code. */
static void
forget_code(struct soft_cpu *cpu, bool global)
{
	for (unsigned n = 0; n < ITLB_SIZE; n++) {
		if (global || !cpu->itlb[n].global)
			cpu->itlb[n].tag = 2;
	}
	if (global) {
		cpu->jc_gen++;
		memset(cpu->exec_pages, 0, sizeof(cpu->exec_pages));
	} else {
		cpu->jc_gen_local++;
	}
}

void
soft_tlb_flush(struct soft_cpu *cpu)
{
	tlb_clear_all(cpu, true);
	soft_tlb2_flush(cpu);
	forget_code(cpu, true);
	cpu->ctr.tlb_flush++;
}

void
soft_tlb_recheck(struct soft_cpu *cpu)
{
	tlb_clear_all(cpu, true);
}

void
soft_tlb_switch(struct soft_cpu *cpu, unsigned pcid, bool keep)
{
	soft_tlb2_switch(cpu, pcid, keep);
	tlb_clear_all(cpu, false);
	forget_code(cpu, false);
	cpu->ctr.tlb_flush++;
}

void
soft_tlb_flush_pcid(struct soft_cpu *cpu, unsigned pcid)
{
	cpu->ctr.tlb_flush_part++;
	soft_tlb2_flush_pcid(cpu, pcid);
	if (pcid == cpu->tlb2.pcid) {
		tlb_clear_all(cpu, false);
		forget_code(cpu, false);
	}
}

void
soft_tlb_flush_locals(struct soft_cpu *cpu)
{
	cpu->ctr.tlb_flush_part++;
	soft_tlb2_flush_locals(cpu);
	tlb_clear_all(cpu, false);
	forget_code(cpu, false);
}

/* The first level's entry for la, and the rest of a large page that holds it. */
static void
tlb_clear_page(struct soft_cpu *cpu, unsigned idx, uint64_t la)
{
	struct soft_tlb *t = &cpu->tlb[idx];
	empty(t, TLB_INDEX(la));
	for (unsigned n = 0; n < TLB_SIZE && cpu->tlb_large[idx]; n++) {
		struct soft_tlb_entry *e = &t->e[n];
		uint64_t tag = 0 - (e->nr != TLB_NOTAG(n) ? e->nr : e->nw);
		if ((t->gpa[n] & TLB_LARGE) && ((tag ^ la) & ~(GIB - 1)) == 0)
			empty(t, n);
	}
}

void
soft_tlb_flush_page(struct soft_cpu *cpu, uint64_t la, unsigned pcid)
{
	bool large = soft_tlb2_flush_page(cpu, la, pcid);
	cpu->ctr.tlb_flush_part++;
	if (pcid != cpu->tlb2.pcid)
		return;
	for (unsigned idx = 0; idx < MMU_COUNT; idx++)
		tlb_clear_page(cpu, idx, la);
	for (unsigned n = 0; n < ITLB_SIZE; n++)
		cpu->itlb[n].tag = 2;
	if (large || (cpu->exec_pages[(la >> 12) % EXEC_PAGES / 64] >> ((la >> 12) % 64) & 1))
		forget_code(cpu, true);
}

void
soft_tlb_wprotect(struct soft_cpu *cpu, uint64_t gpa)
{
	cpu->wprotects++;
	for (unsigned idx = 0; idx < MMU_COUNT; idx++) {
		struct soft_tlb *t = &cpu->tlb[idx];
		for (unsigned n = 0; n < TLB_SIZE && (cpu->tlb_fills[idx] != 0 || cpu->tlb_globals[idx]);
		     n++) {
			if (gpa == TLB_ALL) {
				t->gpa[n] &= ~TLB_CODE;
				t->e[n].nw = TLB_NOTAG(n);
			} else if ((t->gpa[n] & PAGE_MASK4) == gpa) {
				t->gpa[n] |= t->e[n].nw == t->e[n].nr ? TLB_CODE : 0;
				t->e[n].nw = TLB_NOTAG(n);
			}
		}
	}
}

static unsigned
mmu_index(const struct soft_cpu *cpu)
{
	if (cpu->cpl == 3)
		return MMU_USER;
	return (cpu->st.cr4 & CR4_SMAP) && (cpu->rflags & FL_AC) ? MMU_KERNEL_AC : MMU_KERNEL;
}

void
soft_mmu_update(struct soft_cpu *cpu)
{
	cpu->ac_on = cpu->cpl == 3 && (cpu->st.cr0 & CR0_AM) && (cpu->rflags & FL_AC);
	cpu->dtlb = cpu->ac_on ? &tlb_nothing : &cpu->tlb[mmu_index(cpu)];
}

static void __attribute__((noreturn, cold))
raise_walk(struct soft_cpu *cpu, uint64_t la, uint32_t err, unsigned idx, int acc)
{
	bool nx_bit = (cpu->st.msr.efer & EFER_NXE && cpu->st.cr4 & CR4_PAE) || (cpu->st.cr4 & CR4_SMEP);
	err &= ~WALK_FAULT;
	soft_raise_pf(cpu, la,
		      err | (acc == ACC_WRITE ? PFEC_W : 0) | (idx == MMU_USER ? PFEC_U : 0) |
			  (acc == ACC_EXEC && nx_bit ? PFEC_I : 0));
}

/* A non-canonical linear address: #SS for stack references, else #GP. */
static void __attribute__((noreturn, cold)) raise_noncanonical(struct soft_cpu *cpu)
{
	soft_raise_err(cpu, cpu->cur != NULL && cpu->cur->seg == X86_SS ? EXC_SS : EXC_GP, 0);
}

static void
translate(struct soft_cpu *cpu, uint64_t la, unsigned idx, int acc, struct walk *w)
{
	uint32_t f = soft_walk(cpu, la, idx, acc, w);
	if (UNLIKELY(f))
		raise_walk(cpu, la, f, idx, acc);
}

/* ---- watchpoints ---- */
static bool
watched_page(const struct soft_cpu *cpu, uint64_t la)
{
	for (unsigned n = 0; n < 4; n++) {
		if ((cpu->st.dr[7] >> (2 * n) & 3) && (cpu->st.dr[7] >> (16 + 4 * n) & 3) != 0 &&
		    ((cpu->st.dr[n] ^ la) & PAGE_MASK4) == 0)
			return true;
	}
	return false;
}

/* Data breakpoints (SDM vol. 3B 17.2.5): remembered, delivered as a trap after the instruction. */
static void
watch_check(struct soft_cpu *cpu, uint64_t la, unsigned size, bool write)
{
	static const uint8_t len_of[4] = {1, 2, 8, 4};
	if (LIKELY((cpu->st.dr[7] & 0xff) == 0))
		return;
	for (unsigned n = 0; n < 4; n++) {
		unsigned rw = cpu->st.dr[7] >> (16 + 4 * n) & 3,
			 len = len_of[cpu->st.dr[7] >> (18 + 4 * n) & 3];
		uint64_t a = cpu->st.dr[n] & ~(uint64_t)(len - 1);
		if (rw == 0 || rw == 2 || (rw == 1 && !write) || la >= a + len || a >= la + size)
			continue;
		if (cpu->st.dr[7] >> (2 * n) & 3) {
			cpu->st.pending_db |= 1u << n;
			soft_attn_set(cpu, ATTN_LEAVE);
		}
	}
}

/* ---- filling ---- */
struct target {
	uint8_t *hva; /* NULL: device */
	uint64_t gpa;
	bool code; /* soft_code_written() after a write */
	bool rom;
};

static void
note_fill(struct soft_cpu *cpu, unsigned idx, unsigned n)
{
	if (cpu->tlb_fills[idx] < TLB_LIST)
		cpu->tlb_list[idx][cpu->tlb_fills[idx]] = (uint16_t)n;
	cpu->tlb_fills[idx] = (uint16_t)MIN(cpu->tlb_fills[idx] + 1u, TLB_LIST + 1);
}

/* Where la leads, and into the TLB with it. A fault is raised, or, with `fault`, reported there. */
static struct target
resolve_or(struct soft_cpu *cpu, uint64_t la, unsigned idx, int acc, uint32_t *fault)
{
	unsigned n = TLB_INDEX(la);
	struct soft_tlb *tlb = &cpu->tlb[idx];
	struct soft_tlb_entry *e = &tlb->e[n];
	struct target t = {0};
	struct walk w;
	uint64_t ntag = 0 - (la & PAGE_MASK4);

	if ((acc == ACC_READ ? e->nr : e->nw) == ntag) {
		t.hva = e->page + (la & 0xfff);
		t.gpa = (tlb->gpa[n] & PAGE_MASK4) | (la & 0xfff);
		return t;
	}
	if (acc == ACC_WRITE && e->nr == ntag && (tlb->gpa[n] & TLB_CODE) &&
	    soft_code_page(cpu->vm, tlb->gpa[n] & PAGE_MASK4)) { /* code that is written often */
		t.hva = e->page + (la & 0xfff);
		t.gpa = (tlb->gpa[n] & PAGE_MASK4) | (la & 0xfff);
		t.code = true;
		return t;
	}
	if (soft_long_mode(cpu) && !soft_canonical(cpu, la))
		raise_noncanonical(cpu);
	cpu->ctr.tlb_miss++;
	if (fault == NULL)
		translate(cpu, la, idx, acc, &w);
	else if ((*fault = soft_walk(cpu, la, idx, acc, &w)) != 0)
		return t;
	t.gpa = w.gpa;
	const struct gm_range *r = gpmap_find(cpu->vm->mem, w.gpa);
	if (r == NULL)
		return t;
	t.hva = r->hva + (w.gpa - r->gpa);
	t.rom = r->kind != GM_RAM;
	bool logged = true;
	if (soft_dirty_logging(cpu->vm) && !t.rom) {
		if (acc == ACC_WRITE)
			soft_dirty_mark(cpu->vm, r, w.gpa);
		logged = soft_dirty_marked(cpu->vm, r, w.gpa);
	}
	t.code = cpu->trace != NULL || soft_code_page(cpu->vm, w.gpa); /* a trace sees every write */
	if (UNLIKELY(cpu->st.dr[7] & 0xff) && watched_page(cpu, la))
		return t;
	uint64_t old_r = e->nr;
	bool writable = !t.rom && logged &&
			(w.levels == 0 || acc == ACC_WRITE ||
			 ((w.last & PTE_D) && soft_walk_check(cpu, &w, idx, ACC_WRITE) == 0));
	e->nr = ntag;
	e->nw = writable && !t.code ? ntag : TLB_NOTAG(n);
	if (UNLIKELY(cpu->verify != NULL) && e->nw == ntag)
		soft_verify_page(cpu, tlb, n, t.hva - (la & 0xfff));
	if (acc == ACC_WRITE && old_r != ntag && w.levels != 0 &&
	    soft_walk_check(cpu, &w, idx, ACC_READ) != 0)
		e->nr = TLB_NOTAG(n);
	e->page = t.hva - (la & 0xfff);
	e->addend = (uintptr_t)t.hva - la;
	tlb->gpa[n] = (w.gpa & PAGE_MASK4) | (w.page > 4096 ? TLB_LARGE : 0) |
		      (soft_walk_global(cpu, &w) ? TLB_GLOBAL : 0);
	cpu->tlb_large[idx] |= w.page > 4096;
	if (tlb->gpa[n] & TLB_GLOBAL)
		cpu->tlb_globals[idx] = true;
	else
		note_fill(cpu, idx, n);
	return t;
}

static struct target
resolve(struct soft_cpu *cpu, uint64_t la, unsigned idx, int acc)
{
	return resolve_or(cpu, la, idx, acc, NULL);
}

bool
soft_tlb_fill(struct soft_cpu *cpu, uint64_t la, unsigned size, bool write, uintptr_t *addend)
{
	unsigned idx = mmu_index(cpu), n = TLB_INDEX(la);
	int acc = write ? ACC_WRITE : ACC_READ;
	uint32_t fault = 0;
	if ((la & 0xfff) + size > 0x1000 || (soft_long_mode(cpu) && !soft_canonical(cpu, la)))
		return false;
	struct target t = resolve_or(cpu, la, idx, acc, &fault);
	if (fault != 0)
		return false;
	*addend = (uintptr_t)t.hva - la;
	if (TLB_HIT(write ? cpu->dtlb->e[n].nw : cpu->dtlb->e[n].nr, la))
		return true;
	return t.code && !t.rom && t.hva != NULL && soft_code_before_write(cpu, t.gpa, size);
}

static uint64_t
next_page(const struct soft_cpu *cpu, uint64_t la)
{
	uint64_t n = (la & PAGE_MASK4) + 0x1000;
	return soft_is64(cpu) ? n : n & 0xffffffff;
}

static void
io_read_bytes(struct soft_cpu *cpu, uint64_t gpa, uint8_t *buf, unsigned len)
{
	bool fault;
	while (len != 0) {
		unsigned n = engine_io_piece(gpa, len);
		uint64_t v = soft_io(cpu, IOLOG_MMIO_R, gpa, n, 0, &fault);
		memcpy(buf, &v, n);
		gpa += n;
		buf += n;
		len -= n;
	}
}

static void
io_write_bytes(struct soft_cpu *cpu, uint64_t gpa, const uint8_t *buf, unsigned len)
{
	bool fault;
	while (len != 0) {
		unsigned n = engine_io_piece(gpa, len);
		uint64_t v = 0;
		memcpy(&v, buf, n);
		soft_io(cpu, IOLOG_MMIO_W, gpa, n, v, &fault);
		gpa += n;
		buf += n;
		len -= n;
	}
}

/* One store of plain size keeps its atomicity. */
static void
copy_out(uint8_t *dst, const void *src, unsigned len)
{
	switch (len) {
	case 1:
		*(volatile uint8_t *)dst = *(const uint8_t *)src;
		break;
	case 2:
		*(volatile uint16_t *)dst = get_le16(src);
		break;
	case 4:
		*(volatile uint32_t *)dst = get_le32(src);
		break;
	case 8:
		*(volatile uint64_t *)dst = get_le64(src);
		break;
	default:
		memcpy(dst, src, len);
		break;
	}
}

static void
copy_in(void *dst, const uint8_t *src, unsigned len)
{
	switch (len) {
	case 1:
		*(uint8_t *)dst = *(const volatile uint8_t *)src;
		break;
	case 2:
		put_le16(dst, *(const volatile uint16_t *)src);
		break;
	case 4:
		put_le32(dst, *(const volatile uint32_t *)src);
		break;
	case 8:
		put_le64(dst, *(const volatile uint64_t *)src);
		break;
	default:
		memcpy(dst, src, len);
		break;
	}
}

static void
write_target(struct soft_cpu *cpu, const struct target *t, const uint8_t *buf, unsigned len)
{
	if (t->hva == NULL) {
		io_write_bytes(cpu, t->gpa, buf, len);
	} else if (!t->rom) {
		copy_out(t->hva, buf, len);
		if (t->code)
			soft_code_written(cpu->vm, cpu, t->gpa, len);
	}
}

static void
load_idx(struct soft_cpu *cpu, uint64_t la, uint8_t *buf, unsigned len, unsigned idx)
{
	unsigned first = (unsigned)MIN(len, 0x1000 - (la & 0xfff));
	while (len != 0) {
		struct target t = resolve(cpu, la, idx, ACC_READ);
		watch_check(cpu, la, first, false);
		if (t.hva != NULL)
			copy_in(buf, t.hva, first);
		else
			io_read_bytes(cpu, t.gpa, buf, first);
		buf += first;
		len -= first;
		la = next_page(cpu, la);
		first = len;
	}
}

static void
store_idx(struct soft_cpu *cpu, uint64_t la, const uint8_t *buf, unsigned len, unsigned idx)
{
	unsigned first = (unsigned)MIN(len, 0x1000 - (la & 0xfff));
	struct target t = resolve(cpu, la, idx, ACC_WRITE), t2 = {0};
	if (first < len) { /* both pages must allow it before either is written */
		t2 = resolve(cpu, next_page(cpu, la), idx, ACC_WRITE);
		t = resolve(cpu, la, idx, ACC_WRITE);
	}
	watch_check(cpu, la, len, true);
	/* A device first: the instruction runs again when it has answered, and must find RAM as it was. */
	bool second_first = first < len && t2.hva == NULL && t.hva != NULL;
	if (second_first)
		write_target(cpu, &t2, buf + first, len - first);
	write_target(cpu, &t, buf, first);
	if (first < len && !second_first)
		write_target(cpu, &t2, buf + first, len - first);
}

static void
align_check(struct soft_cpu *cpu, uint64_t la, unsigned size)
{
	if (UNLIKELY(cpu->ac_on) && (la & (size - 1)) && cpu->cpl == 3) {
		if (soft_long_mode(cpu) && !soft_canonical(cpu, la))
			raise_noncanonical(cpu); /* comes first */
		soft_raise_err(cpu, EXC_AC, 0);
	}
}

uint64_t
soft_load_slow(struct soft_cpu *cpu, uint64_t la, unsigned size)
{
	uint64_t v = 0;
	align_check(cpu, la, size);
	load_idx(cpu, la, (uint8_t *)&v, size, mmu_index(cpu));
	return v;
}

void
soft_store_slow(struct soft_cpu *cpu, uint64_t la, unsigned size, uint64_t val)
{
	align_check(cpu, la, size);
	store_idx(cpu, la, (const uint8_t *)&val, size, mmu_index(cpu));
}

void
soft_load_bytes(struct soft_cpu *cpu, uint64_t la, void *buf, unsigned len)
{
	load_idx(cpu, la, buf, len, mmu_index(cpu));
}

void
soft_store_bytes(struct soft_cpu *cpu, uint64_t la, const void *buf, unsigned len)
{
	uint8_t *p;
	if (len > 1024) { /* XSAVE areas: page by page, each already probed by the caller */
		while (len != 0) {
			unsigned n = (unsigned)MIN(len, 0x1000 - (la & 0xfff));
			store_idx(cpu, la, buf, n, mmu_index(cpu));
			buf = (const uint8_t *)buf + n;
			la += n;
			len -= n;
		}
		return;
	}
	if ((la & 0xfff) + len <= 0x1000 && (p = soft_direct(cpu, la, true)) != NULL)
		memcpy(p, buf, len);
	else
		store_idx(cpu, la, buf, len, mmu_index(cpu));
}

uint64_t
soft_load(struct soft_cpu *cpu, uint64_t la, unsigned size)
{
	switch (size) {
	case 1:
		return soft_ld8(cpu, la);
	case 2:
		return soft_ld16(cpu, la);
	case 4:
		return soft_ld32(cpu, la);
	default:
		return soft_ld64(cpu, la);
	}
}

void
soft_store(struct soft_cpu *cpu, uint64_t la, unsigned size, uint64_t val)
{
	switch (size) {
	case 1:
		soft_st8(cpu, la, (uint8_t)val);
		break;
	case 2:
		soft_st16(cpu, la, (uint16_t)val);
		break;
	case 4:
		soft_st32(cpu, la, (uint32_t)val);
		break;
	default:
		soft_st64(cpu, la, val);
		break;
	}
}

void
soft_probe(struct soft_cpu *cpu, uint64_t la, unsigned len, bool write)
{
	unsigned idx = mmu_index(cpu);
	uint64_t left = len, n;
	for (; left != 0; left -= n, la = next_page(cpu, la)) {
		resolve(cpu, la, idx, write ? ACC_WRITE : ACC_READ);
		n = MIN(left, 0x1000 - (la & 0xfff));
	}
}

/* What lies there, without asking a device: zeros then. The access was checked before. */
void
soft_peek(struct soft_cpu *cpu, uint64_t la, uint8_t *buf, unsigned len)
{
	struct target t = resolve(cpu, la, mmu_index(cpu), ACC_WRITE);
	if (t.hva != NULL)
		memcpy(buf, t.hva, len);
	else
		memset(buf, 0, len);
}

void
soft_probe_aligned(struct soft_cpu *cpu, uint64_t la, unsigned size, bool write)
{
	align_check(cpu, la, size);
	soft_probe(cpu, la, size, write);
}

uint8_t *
soft_direct(struct soft_cpu *cpu, uint64_t la, bool write)
{
	const struct soft_tlb_entry *e = &cpu->dtlb->e[TLB_INDEX(la)];
	uint64_t ntag = 0 - (la & PAGE_MASK4);
	if ((write ? e->nw : e->nr) != ntag) {
		if (cpu->ac_on)
			return NULL;
		resolve(cpu, la, mmu_index(cpu), write ? ACC_WRITE : ACC_READ);
		if ((write ? e->nw : e->nr) != ntag)
			return NULL;
	}
	return e->page + (la & 0xfff);
}

/* ---- read-modify-write ---- */
enum { RMW_NONE, RMW_CODE, RMW_BOUNCE };

void *
soft_rmw_slow(struct soft_cpu *cpu, uint64_t la, unsigned size)
{
	unsigned idx = mmu_index(cpu);
	align_check(cpu, la, size);
	struct target t = resolve(cpu, la, idx, ACC_WRITE);
	cpu->rmw_la = la;
	cpu->rmw_size = size;
	if ((la & 0xfff) + size <= 0x1000 && t.hva != NULL && !t.rom) {
		watch_check(cpu, la, size, true);
		if (t.code) {
			cpu->rmw_pending = RMW_CODE;
			cpu->rmw_gpa = t.gpa;
		}
		return t.hva;
	}
	/* Across a page end, or on a device: read, change, write. Not atomic for other vCPUs (Quirks page).
	 */
	if ((la & 0xfff) + size > 0x1000)
		resolve(cpu, next_page(cpu, la), idx, ACC_WRITE);
	load_idx(cpu, la, cpu->membuf, size, idx);
	cpu->rmw_pending = RMW_BOUNCE;
	return cpu->membuf;
}

void
soft_rmw_finish(struct soft_cpu *cpu)
{
	unsigned how = cpu->rmw_pending;
	cpu->rmw_pending = RMW_NONE;
	if (how == RMW_CODE)
		soft_code_written(cpu->vm, cpu, cpu->rmw_gpa, cpu->rmw_size);
	else
		store_idx(cpu, cpu->rmw_la, cpu->membuf, (unsigned)cpu->rmw_size, mmu_index(cpu));
}

/* ---- implicit supervisor accesses: SMAP applies whatever EFLAGS.AC says ---- */
uint64_t
soft_load_sys(struct soft_cpu *cpu, uint64_t la, unsigned size)
{
	uint64_t v = 0;
	if (!soft_long_mode(cpu))
		la &= 0xffffffff;
	load_idx(cpu, la, (uint8_t *)&v, size, MMU_KERNEL);
	return v;
}

void
soft_store_sys(struct soft_cpu *cpu, uint64_t la, unsigned size, uint64_t val)
{
	if (!soft_long_mode(cpu))
		la &= 0xffffffff;
	store_idx(cpu, la, (const uint8_t *)&val, size, MMU_KERNEL);
}

void
soft_or_sys(struct soft_cpu *cpu, uint64_t la, uint8_t set, uint8_t clear)
{
	if (!soft_long_mode(cpu))
		la &= 0xffffffff;
	struct target t = resolve(cpu, la, MMU_KERNEL, ACC_WRITE);
	if (t.hva != NULL && !t.rom) {
		if (set)
			__atomic_fetch_or(t.hva, set, __ATOMIC_SEQ_CST);
		if (clear)
			__atomic_fetch_and(t.hva, (uint8_t)~clear, __ATOMIC_SEQ_CST);
		if (t.code)
			soft_code_written(cpu->vm, cpu, t.gpa, 1);
	} else {
		uint8_t v;
		load_idx(cpu, la, &v, 1, MMU_KERNEL);
		v = (uint8_t)((v | set) & ~clear);
		store_idx(cpu, la, &v, 1, MMU_KERNEL);
	}
}

/* ---- instruction fetch ---- */
uint8_t *
soft_fetch_ptr(struct soft_cpu *cpu, uint64_t la, uint64_t *gpa)
{
	unsigned idx = cpu->cpl == 3 ? MMU_USER : MMU_KERNEL;
	uint64_t tag = (la & PAGE_MASK4) | (idx == MMU_USER);
	struct soft_itlb_entry *e = &cpu->itlb[(la >> 12) & (ITLB_SIZE - 1)];
	if (LIKELY(e->tag == tag)) {
		*gpa = e->gpa | (la & 0xfff);
		return e->hva + (la & 0xfff);
	}
	if (soft_long_mode(cpu) && !soft_canonical(cpu, la))
		soft_gp(cpu, 0);
	struct walk w;
	translate(cpu, la, idx, ACC_EXEC, &w);
	*gpa = w.gpa;
	const struct gm_range *r = gpmap_find(cpu->vm->mem, w.gpa);
	if (r == NULL)
		return NULL;
	cpu->exec_pages[(la >> 12) % EXEC_PAGES / 64] |= 1ull << ((la >> 12) % 64);
	e->tag = tag;
	e->global = soft_walk_global(cpu, &w);
	e->hva = r->hva + ((w.gpa & PAGE_MASK4) - r->gpa);
	e->gpa = w.gpa & PAGE_MASK4;
	return e->hva + (la & 0xfff);
}

bool
soft_fetch_global(const struct soft_cpu *cpu, uint64_t la)
{
	return cpu->itlb[(la >> 12) & (ITLB_SIZE - 1)].global;
}

uint8_t *
soft_fetch_known(const struct soft_cpu *cpu, uint64_t la, uint64_t *gpa)
{
	const struct soft_itlb_entry *e = &cpu->itlb[(la >> 12) & (ITLB_SIZE - 1)];
	if (e->tag != ((la & PAGE_MASK4) | (cpu->cpl == 3)))
		return NULL;
	*gpa = e->gpa | (la & 0xfff);
	return e->hva + (la & 0xfff);
}
