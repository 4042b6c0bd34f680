/* SPDX-License-Identifier: BSD-2-Clause */
/* Paging (SDM vol. 3A ch. 4): walks, permissions, accessed and dirty bits, and the second-level TLB. */
#include "engine/soft/walk.h"

static bool
pte_read(struct soft_cpu *cpu, uint64_t gpa, unsigned size, uint64_t *pte)
{
	const struct gm_range *r = gpmap_find(cpu->vm->mem, gpa);
	if (r == NULL)
		return false; /* tables in device memory: nothing is present there */
	if (size == 8)
		*pte = __atomic_load_n((uint64_t *)(r->hva + (gpa - r->gpa)), __ATOMIC_RELAXED);
	else
		*pte = __atomic_load_n((uint32_t *)(r->hva + (gpa - r->gpa)), __ATOMIC_RELAXED);
	return true;
}

static void
walk_fault(struct walk *w, uint32_t err)
{
	w->fault = WALK_FAULT | err;
}

/* 32-bit paging: two levels of 4-byte entries, 4 MiB pages with PSE-36 (SDM 4.3). */
static void
walk_32(struct soft_cpu *cpu, uint64_t la, struct walk *w)
{
	uint64_t table = cpu->st.cr3 & 0xfffff000, pde = 0, pte = 0;
	w->entry_size = 4;
	w->entry_gpa[0] = table + ((la >> 22) & 0x3ff) * 4;
	w->levels = 1;
	if (!pte_read(cpu, w->entry_gpa[0], 4, &pde) || !(pde & PTE_P))
		return walk_fault(w, 0);
	w->entry[0] = pde;
	w->user = pde & PTE_U;
	w->write = pde & PTE_W;
	if ((pde & PTE_PS) && (cpu->st.cr4 & CR4_PSE)) {
		unsigned high = MIN(8u, (unsigned)__builtin_popcountll(cpu->phys_mask) - 32u);
		if (pde & (0x3fe000ull & ~(size_mask(1) >> (8 - high) << 13)))
			return walk_fault(w, PFEC_P | PFEC_RSVD);
		w->page = 4 * MIB;
		w->gpa = ((pde & 0xffc00000) | (bits(pde, 13, 8) << 32) | (la & 0x3fffff)) & cpu->phys_mask;
		w->last = pde;
		return;
	}
	w->entry_gpa[1] = (pde & 0xfffff000) + ((la >> 12) & 0x3ff) * 4;
	w->levels = 2;
	if (!pte_read(cpu, w->entry_gpa[1], 4, &pte) || !(pte & PTE_P))
		return walk_fault(w, 0);
	w->entry[1] = pte;
	w->user = w->user && (pte & PTE_U);
	w->write = w->write && (pte & PTE_W);
	w->page = 4 * KIB;
	w->gpa = (pte & 0xfffff000) | (la & 0xfff);
	w->last = pte;
}

/* PAE, 4-level and 5-level paging: 8-byte entries, `level` counts down to 1 (SDM 4.4, 4.5). */
static void
walk_64(struct soft_cpu *cpu, uint64_t la, struct walk *w, unsigned level, uint64_t table)
{
	bool nxe = cpu->st.msr.efer & EFER_NXE, lm = soft_long_mode(cpu);
	uint64_t rsvd =
	    (~cpu->phys_mask & 0x000ffffffffff000ull) | (nxe ? 0 : PTE_NX) | (lm ? 0 : 0x7ff0000000000000ull);
	uint64_t pte = 0;
	w->user = w->write = true;
	w->entry_size = 8;
	for (;; level--) {
		unsigned sh = 12 + 9 * (level - 1);
		w->entry_gpa[w->levels] = table + ((la >> sh) & 0x1ff) * 8;
		if (!pte_read(cpu, w->entry_gpa[w->levels], 8, &pte) || !(pte & PTE_P))
			return walk_fault(w, 0);
		w->entry[w->levels++] = pte;
		bool large = (pte & PTE_PS) && level > 1;
		if ((pte & rsvd) || (large && level > 3))
			return walk_fault(w, PFEC_P | PFEC_RSVD);
		w->user = w->user && (pte & PTE_U);
		w->write = w->write && (pte & PTE_W);
		w->nx = w->nx || (nxe && (pte & PTE_NX));
		if (level == 1 || large) {
			uint64_t mask = (1ull << sh) - 1;
			if (large && (pte & mask & ~0x1fffull))
				return walk_fault(w, PFEC_P | PFEC_RSVD);
			w->page = mask + 1;
			w->gpa = (pte & 0x000ffffffffff000ull & ~mask) | (la & mask);
			w->last = pte;
			return;
		}
		table = pte & 0x000ffffffffff000ull;
	}
}

static void
walk_tables(struct soft_cpu *cpu, uint64_t la, struct walk *w)
{
	w->user = w->write = w->nx = false;
	w->last = 0;
	w->levels = 0;
	w->fault = 0;
	if (!(cpu->st.cr0 & CR0_PG)) {
		w->gpa = la & 0xffffffff;
		w->page = 4 * KIB;
		w->user = w->write = true;
		return;
	}
	if (soft_long_mode(cpu))
		return walk_64(cpu, la, w, cpu->st.cr4 & CR4_LA57 ? 5 : 4,
			       cpu->st.cr3 & 0x000ffffffffff000ull);
	if (!(cpu->st.cr4 & CR4_PAE))
		return walk_32(cpu, la, w);
	uint64_t pdpte = cpu->st.pdpte[(la >> 30) & 3];
	if (!(pdpte & PTE_P))
		return walk_fault(w, 0);
	walk_64(cpu, la, w, 2, pdpte & 0x000ffffffffff000ull);
}

/* Protection keys for user and supervisor pages (SDM 4.6.2); data accesses in long mode only. */
static bool
pkey_denies(const struct soft_cpu *cpu, const struct walk *w, bool user, int acc)
{
	uint32_t rights;
	if (acc == ACC_EXEC || !soft_long_mode(cpu) || w->levels == 0)
		return false;
	if (w->user && (cpu->st.cr4 & CR4_PKE))
		rights = cpu->st.xs.pkru >> (2 * bits(w->last, 59, 4));
	else if (!w->user && (cpu->st.cr4 & CR4_PKS))
		rights = (uint32_t)cpu->st.msr.pkrs >> (2 * bits(w->last, 59, 4));
	else
		return false;
	return (rights & 1) || (acc == ACC_WRITE && (rights & 2) && (user || (cpu->st.cr0 & CR0_WP)));
}

uint32_t
soft_walk_check(const struct soft_cpu *cpu, const struct walk *w, unsigned idx, int acc)
{
	bool user = idx == MMU_USER;
	if (w->fault)
		return w->fault;
	if (w->levels == 0)
		return 0;
	if (pkey_denies(cpu, w, user, acc))
		return WALK_FAULT | PFEC_P | PFEC_PK;
	bool bad = (user && !w->user) || (acc == ACC_EXEC && w->nx) ||
		   (acc == ACC_WRITE && !w->write && (user || (cpu->st.cr0 & CR0_WP))) ||
		   (!user && w->user && acc == ACC_EXEC && (cpu->st.cr4 & CR4_SMEP)) ||
		   (!user && w->user && acc != ACC_EXEC && (cpu->st.cr4 & CR4_SMAP) && idx == MMU_KERNEL);
	return bad ? WALK_FAULT | PFEC_P : 0;
}

/* Set A in every entry used, and D in the last, by compare-exchange. False: an entry changed under us. */
static bool
walk_mark(struct soft_cpu *cpu, struct walk *w, bool dirty)
{
	for (unsigned l = 0; l < w->levels; l++) {
		uint64_t gpa = w->entry_gpa[l], old = w->entry[l],
			 set = PTE_A | (dirty && l == w->levels - 1 ? PTE_D : 0);
		if ((old & set) == set)
			continue;
		const struct gm_range *r = gpmap_find(cpu->vm->mem, gpa);
		if (r == NULL)
			return false;
		if (r->kind != GM_RAM)
			continue;
		void *p = r->hva + (gpa - r->gpa);
		uint32_t old32 = (uint32_t)old;
		if (w->entry_size == 8
			? !__atomic_compare_exchange_n((uint64_t *)p, &old, old | set, false,
						       __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
			: !__atomic_compare_exchange_n((uint32_t *)p, &old32, old32 | (uint32_t)set, false,
						       __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			return false;
		if (soft_dirty_logging(cpu->vm))
			soft_dirty_mark(cpu->vm, r, gpa);
		if (soft_code_page(cpu->vm, gpa))
			soft_code_written(cpu->vm, cpu, gpa, w->entry_size);
	}
	if (w->levels != 0)
		w->last |= PTE_A | (dirty ? PTE_D : 0);
	return true;
}

bool
soft_walk_global(const struct soft_cpu *cpu, const struct walk *w)
{
	return w->levels != 0 && (w->last & PTE_G) && (cpu->st.cr4 & CR4_PGE);
}

bool
soft_load_pdptes(struct soft_cpu *cpu, uint64_t cr3)
{
	uint64_t v[4], rsvd = (~cpu->phys_mask & ~0xfffull) | 0x1e6;
	for (unsigned n = 0; n < 4; n++) {
		if (!pte_read(cpu, (cr3 & 0xffffffe0) + n * 8, 8, &v[n]))
			v[n] = 0;
		if ((v[n] & PTE_P) && (v[n] & rsvd))
			return false;
	}
	memcpy(cpu->st.pdpte, v, sizeof(v));
	return true;
}

bool
soft_translate(struct soft_cpu *cpu, uint64_t la, uint64_t *gpa)
{
	struct walk w;
	walk_tables(cpu, la, &w);
	*gpa = w.gpa;
	return !w.fault;
}

/* ---- the second level ---- */
#define FRAGMENT     (2 * MIB) /* larger pages are kept in pieces of this size, in entries of their own */
#define HUGE_BIT(la) ((unsigned)((la) >> 30) & 63)

static uint64_t
index_mix(uint64_t number, uint64_t la, unsigned pcid)
{
	uint64_t space = la >> 63 ? 0 : pcid; /* the upper half is mostly global, and the same everywhere */
	return (number ^ number >> TLB2_BITS ^ space * 0x9e5) & (TLB2_SIZE - 1);
}

static struct soft_tlb2_entry *
slot_of(struct soft_cpu *cpu, uint64_t la, bool large, unsigned pcid)
{
	return &cpu->tlb2.e[index_mix(large ? la >> 21 : la >> 12, la, pcid)];
}

static uint64_t
tag_of(uint64_t la, bool large)
{
	return large ? (la & ~(FRAGMENT - 1)) | 1 : la & PAGE_MASK4;
}

static bool
live(const struct soft_tlb2 *t, const struct soft_tlb2_entry *e)
{
	return e->gen == t->gen || e->gen == t->gen_global;
}

/* What an earlier walk for la found. False: nothing that is still good. */
static bool
recall(struct soft_cpu *cpu, uint64_t la, struct walk *w)
{
	struct soft_tlb2 *t = &cpu->tlb2;
	bool large = false;
	const struct soft_tlb2_entry *e = slot_of(cpu, la, false, t->pcid);
	if (e->tag != tag_of(la, false) || !live(t, e)) {
		large = true;
		e = slot_of(cpu, la, true, t->pcid);
		if (e->tag != tag_of(la, true) || !live(t, e))
			return false;
	}
	w->gpa = e->gpa + (la & (large ? FRAGMENT - 1 : 0xfff));
	w->page = large ? FRAGMENT : 4 * KIB;
	w->user = e->user;
	w->write = e->write;
	w->nx = e->nx;
	w->last = e->last;
	w->levels = 1;
	w->fault = 0;
	return true;
}

static void
remember(struct soft_cpu *cpu, uint64_t la, const struct walk *w)
{
	struct soft_tlb2 *t = &cpu->tlb2;
	bool large = w->page > 4 * KIB;
	struct soft_tlb2_entry *e = slot_of(cpu, la, large, t->pcid);
	if (soft_walk_global(cpu, w) && !(la >> 63))
		return; /* INVLPG in any address space must find it */
	if (w->page > FRAGMENT)
		t->huge |= 1ull << HUGE_BIT(la);
	*e = (struct soft_tlb2_entry){.tag = tag_of(la, large),
				      .gpa = w->gpa - (la & (large ? FRAGMENT - 1 : 0xfff)),
				      .last = w->last,
				      .gen = soft_walk_global(cpu, w) ? t->gen_global : t->gen,
				      .user = w->user,
				      .write = w->write,
				      .nx = w->nx};
}

static uint32_t
new_gen(struct soft_cpu *cpu)
{
	struct soft_tlb2 *t = &cpu->tlb2;
	if (t->gen_last == UINT32_MAX) { /* nothing old may look new */
		memset(t->pcid_gen, 0, sizeof(t->pcid_gen));
		memset(t->e, 0, sizeof(t->e));
		t->gen = t->floor = 1;
		t->gen_global = t->gen_last = 2;
	}
	return ++t->gen_last;
}

void
soft_tlb2_flush(struct soft_cpu *cpu)
{
	struct soft_tlb2 *t = &cpu->tlb2;
	uint32_t gen = new_gen(cpu);
	t->floor = gen;
	t->gen = gen;
	t->gen_global = new_gen(cpu);
	t->pcid = cpu->st.cr4 & CR4_PCIDE ? cpu->st.cr3 & 0xfff : 0;
	t->pcid_gen[t->pcid] = gen;
	t->huge = 0;
}

void
soft_tlb2_flush_pcid(struct soft_cpu *cpu, unsigned pcid)
{
	struct soft_tlb2 *t = &cpu->tlb2;
	uint32_t gen = new_gen(cpu);
	t->pcid_gen[pcid] = gen;
	if (pcid == t->pcid)
		t->gen = gen;
}

void
soft_tlb2_flush_locals(struct soft_cpu *cpu)
{
	struct soft_tlb2 *t = &cpu->tlb2;
	t->floor = t->gen = new_gen(cpu);
	t->pcid_gen[t->pcid] = t->gen;
}

void
soft_tlb2_switch(struct soft_cpu *cpu, unsigned pcid, bool keep)
{
	struct soft_tlb2 *t = &cpu->tlb2;
	t->pcid = pcid;
	if (!keep || t->pcid_gen[pcid] < t->floor)
		t->pcid_gen[pcid] = new_gen(cpu);
	t->gen = t->pcid_gen[pcid];
}

bool
soft_tlb2_flush_page(struct soft_cpu *cpu, uint64_t la, unsigned pcid)
{
	struct soft_tlb2 *t = &cpu->tlb2;
	bool large = false;
	for (unsigned k = 0; k < 2; k++) {
		struct soft_tlb2_entry *e = slot_of(cpu, la, k, pcid);
		if (e->tag == tag_of(la, k)) {
			e->gen = 0;
			large |= k == 1;
		}
	}
	if (t->huge & 1ull << HUGE_BIT(la)) { /* other pieces of the page may be there */
		soft_tlb2_flush(cpu);
		large = true;
	}
	return large;
}

uint32_t
soft_walk(struct soft_cpu *cpu, uint64_t la, unsigned idx, int acc, struct walk *w)
{
	if ((cpu->st.cr0 & CR0_PG) && recall(cpu, la, w) && soft_walk_check(cpu, w, idx, acc) == 0 &&
	    (acc != ACC_WRITE || (w->last & PTE_D)))
		return 0;
	do {
		walk_tables(cpu, la, w);
		cpu->ctr.walks++;
		uint32_t f = soft_walk_check(cpu, w, idx, acc);
		if (UNLIKELY(f))
			return f;
	} while (!walk_mark(cpu, w, acc == ACC_WRITE));
	if (w->levels != 0)
		remember(cpu, la, w);
	return 0;
}
