/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Decoded blocks: found by guest-physical address and mode, shared by all vCPUs,
 * looked up without a lock, dropped when their bytes are written.
 *
 * A RAM page that has blocks is marked; TLBs then give no direct writes to it, so
 * that every write comes to soft_code_written(). Marking a page first takes the
 * direct writes away from all other vCPUs (ATTN_WPROT, acknowledged between blocks).
 *
 * A dropped block's handlers are replaced by op_stale(), which leaves at once: its
 * memory stays until its generation is forgotten (evict.c), when every vCPU stands between blocks.
 *
 * Lock: code->lock guards lists, pages and the arena. It is only tried for, with
 * soft_safepoint() between tries, so that nobody who holds it waits for us.
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include "engine/soft/code.h"
#include "engine/soft/jit.h"
#include "engine/soft/ops.h"

#define HITS_KEPT    16 /* writes into code after which a page without code stays marked: more is to come */
#define COLD_INSNS   8	/* instructions of such a page that are interpreted after each of these writes */
#define QUIET_WRITES 64 /* writes beside the code of a page until the page is given back to data */

struct soft_code *
soft_code_create(struct gpmap *mem, uint64_t bytes, struct err *err)
{
	struct soft_code *c = calloc(1, sizeof(*c));
	if (c == NULL)
		goto nomem;
	c->mem = mem;
	c->npages = gpmap_pages(mem);
	pthread_mutex_init(&c->lock, NULL);
	c->marked = calloc(c->npages + 1, sizeof(*c->marked));
	c->pages = calloc(c->npages + 1, sizeof(struct code_page *));
	c->hash = calloc(1u << CODE_HASH_BITS, sizeof(*c->hash));
	if (soft_arena_create(c, bytes) == 0 && c->marked != NULL && c->pages != NULL && c->hash != NULL)
		return c;
	soft_code_destroy(c);
nomem:
	err_set(err, 12, "soft engine: no memory for decoded blocks");
	return NULL;
}

void
soft_code_destroy(struct soft_code *c)
{
	if (c == NULL)
		return;
	for (uint64_t n = 0; c->pages != NULL && n < c->npages; n++)
		free(c->pages[n]);
	soft_jit_destroy(c->jit);
	free((void *)c->marked);
	free(c->pages);
	free((void *)c->hash);
	soft_arena_destroy(c);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* Dense number of a RAM page, or npages when gpa is no RAM. */
static uint64_t
page_number(const struct soft_code *c, uint64_t gpa)
{
	const struct gm_range *r = gpmap_find(c->mem, gpa);
	return r == NULL ? c->npages : r->first_page + ((gpa - r->gpa) >> 12);
}

bool
soft_code_page(struct soft_vm *vm, uint64_t gpa)
{
	return atomic_load_explicit(&vm->code->marked[page_number(vm->code, gpa)], memory_order_seq_cst);
}

static unsigned
hash_of(uint64_t gpa, uint32_t mode)
{
	return soft_code_hash(gpa, mode, CODE_HASH_BITS);
}

void
soft_code_lock(struct soft_code *c, struct soft_cpu *cpu)
{
	if (cpu == NULL) {
		pthread_mutex_lock(&c->lock);
		return;
	}
	while (pthread_mutex_trylock(&c->lock) != 0) {
		soft_safepoint(cpu);
		sched_yield();
	}
}

/* ---- requests between vCPUs ---- */
void
soft_safepoint(struct soft_cpu *cpu)
{
	uint32_t a = atomic_load(&cpu->attn);
	if (a & ATTN_WPROT) {
		soft_tlb_wprotect(cpu, TLB_ALL);
		atomic_fetch_and(&cpu->attn, ~(uint32_t)ATTN_WPROT);
	}
}

/* Take direct writes to freshly marked pages away from all other vCPUs, and wait until they have noticed. */
static void
shoot_down_writes(struct soft_vm *vm, struct soft_cpu *self, uint64_t gpa)
{
	unsigned n = atomic_load(&vm->ncpus);
	soft_tlb_wprotect(self, gpa);
	for (unsigned k = 0; k < n; k++) {
		if (vm->cpus[k] != self)
			soft_attn_set(vm->cpus[k], ATTN_WPROT);
	}
	for (unsigned k = 0; k < n; k++) {
		struct soft_cpu *o = vm->cpus[k];
		while (o != self && atomic_load(&o->running) && (atomic_load(&o->attn) & ATTN_WPROT)) {
			soft_safepoint(self);
			sched_yield();
		}
	}
}

/* ---- dropping ---- */
static void
drop_block(struct soft_code *c, struct soft_block *b)
{
	_Atomic(struct soft_block *) *link = &c->hash[hash_of(b->gpa, b->mode)];
	atomic_store_explicit(&b->valid, 0, memory_order_relaxed);
	for (unsigned n = 0; n <= b->count; n++)
		__atomic_store_n(&b->insn[n].fn, op_stale, __ATOMIC_RELAXED);
	struct soft_block *p = atomic_load(link), *prev = NULL;
	while (p != NULL && p != b) {
		prev = p;
		p = p->hash_next;
	}
	if (p == NULL)
		return;
	if (prev == NULL) /* readers that stand on b still find the rest of the chain through it */
		atomic_store_explicit(link, b->hash_next, memory_order_release);
	else
		__atomic_store_n(&prev->hash_next, b->hash_next, __ATOMIC_RELEASE);
}

/* Does the write hit what was interpreted for being written often, as if it had been translated? */
static bool
written_cold(const struct code_page *p, uint64_t gpa, uint64_t len)
{
	uint64_t page = gpa & PAGE_MASK4;
	return p->hits == HITS_KEPT && page + p->cold_lo < gpa + len && gpa < page + p->cold_hi;
}

/* Drop what was decoded from [gpa, gpa + len) of page n. The lock is held. */
static void
page_written(struct soft_code *c, struct soft_cpu *cpu, uint64_t n, uint64_t gpa, uint64_t len)
{
	struct code_page *p = c->pages[n];
	struct soft_block **link = &p->blocks, *b;
	bool hit = false;
	p->seq++;
	while ((b = *link) != NULL) {
		if (b->gpa < gpa + len && gpa < b->gpa + b->bytes) {
			drop_block(c, b);
			*link = b->page_next;
			hit = true;
		} else {
			link = &b->page_next;
		}
	}
	hit |= soft_jit_written(c->jit, p, gpa, len);
	hit |= written_cold(p, gpa, len);
	if (hit) {
		if (cpu != NULL)
			cpu->ctr.smc++;
		p->hits = MIN(p->hits + 1, HITS_KEPT);
		p->near_writes = 0;
		p->cold = p->hits == HITS_KEPT ? COLD_INSNS : 0;
		p->cold_lo = 0x1000;
		p->cold_hi = 0;
	} else if (++p->near_writes >= QUIET_WRITES) {
		for (b = p->blocks; b != NULL; b = b->page_next)
			drop_block(c, b);
		p->blocks = NULL;
		soft_jit_drop_page(c->jit, p);
		p->hits = p->cold = 0;
	}
	if (p->blocks == NULL && p->units == NULL && p->hits < HITS_KEPT) {
		p->near_writes = p->made = 0;
		atomic_store(&c->marked[n], 0);
	}
}

void
soft_code_written(struct soft_vm *vm, struct soft_cpu *cpu, uint64_t gpa, uint64_t len)
{
	struct soft_code *c = vm->code;
	if (cpu != NULL && UNLIKELY(cpu->trace != NULL))
		soft_trace_write(cpu, gpa, len);
	for (uint64_t page = gpa & PAGE_MASK4; page < gpa + len; page += 0x1000) {
		uint64_t n = page_number(c, page);
		if (!atomic_load(&c->marked[n]))
			continue;
		soft_code_lock(c, cpu);
		if (atomic_load(&c->marked[n]))
			page_written(c, cpu, n, gpa, len);
		pthread_mutex_unlock(&c->lock);
	}
}

bool
soft_code_cold(struct soft_cpu *cpu, uint64_t gpa)
{
	struct soft_code *c = cpu->vm->code;
	uint64_t n = page_number(c, gpa);
	uint16_t cold;
	if (!atomic_load_explicit(&c->marked[n], memory_order_relaxed))
		return false;
	cold = __atomic_load_n(&c->pages[n]->cold, __ATOMIC_RELAXED); /* a hint: races do no harm */
	if (cold == 0)
		return false;
	struct code_page *p = c->pages[n];
	unsigned off = gpa & 0xfff;
	__atomic_store_n(&p->cold, (uint16_t)(cold - 1), __ATOMIC_RELAXED);
	__atomic_store_n(&p->cold_lo, (uint16_t)MIN(p->cold_lo, off), __ATOMIC_RELAXED);
	__atomic_store_n(&p->cold_hi, (uint16_t)MAX(p->cold_hi, off + 15), __ATOMIC_RELAXED);
	return true;
}

bool
soft_code_before_write(struct soft_cpu *cpu, uint64_t gpa, unsigned len)
{
	struct soft_code *c = cpu->vm->code;
	uint64_t n = page_number(c, gpa), at;
	const uint8_t *own;
	bool ok;
	if (atomic_load(&cpu->vm->ncpus) != 1 || (cpu->st.dr[7] & 0xff) || cpu->trace != NULL ||
	    cpu->verify != NULL)
		return false; /* another one may decode the old bytes between this and the write */
	own = soft_fetch_known(cpu, cpu->jit_pagebase, &at);
	if (own == NULL || ((at ^ gpa) & PAGE_MASK4) == 0)
		return false; /* the code that writes may be what is written */
	soft_code_lock(c, cpu);
	ok = atomic_load(&c->marked[n]) && c->pages[n]->near_writes + 1 < QUIET_WRITES;
	if (ok)
		page_written(c, cpu, n, gpa, len);
	pthread_mutex_unlock(&c->lock);
	return ok;
}

/* ---- making ---- */

/* Mark the page and give the write count to compare with when the block goes in. */
uint64_t
soft_code_open(struct soft_cpu *cpu, uint64_t gpa, uint32_t *seq)
{
	struct soft_code *c = cpu->vm->code;
	uint64_t n = page_number(c, gpa);
	bool fresh;
	soft_vec_sync(cpu); /* calloc(), and whoever opens a page is about to decode */
	soft_code_lock(c, cpu);
	if (c->pages[n] == NULL) {
		c->pages[n] = calloc(1, sizeof(struct code_page));
		LH_ASSERT(c->pages[n] != NULL);
		if (c->numbered + 1 < JIT_PAGES)
			c->pages[n]->number = ++c->numbered;
	}
	fresh = !atomic_load(&c->marked[n]);
	atomic_store(&c->marked[n], 1);
	*seq = c->pages[n]->seq;
	pthread_mutex_unlock(&c->lock);
	if (fresh)
		shoot_down_writes(cpu->vm, cpu, gpa & PAGE_MASK4);
	return n;
}

static size_t
block_bytes(unsigned count)
{
	return align_up(sizeof(struct soft_block) + (count + 1) * sizeof(struct soft_insn), 64);
}

static void
init_end(struct soft_insn *e, unsigned off)
{
	memset(e, 0, sizeof(*e));
	e->fn = op_end_block;
	e->off = (uint16_t)off;
	e->base = e->index = REG_NONE;
}

/* Decode from hva to at most the end of the page into `out`. 0 instructions: the first crosses the page. */
static unsigned
decode_block(struct soft_cpu *cpu, const uint8_t *hva, unsigned avail, struct soft_insn *out, unsigned *bytes)
{
	unsigned count = 0, off = 0;
	while (count < SOFT_BLOCK_MAX && off < avail) {
		enum soft_decode r =
		    soft_decode_insn(cpu, cpu->mode, hva + off, avail - off, off, &out[count]);
		if (r == DECODE_SHORT)
			break;
		off += out[count].len;
		count++;
		if (r == DECODE_END)
			break;
	}
	*bytes = off;
	init_end(&out[count], off);
	cpu->ctr.insns_decoded += count;
	cpu->ctr.blocks_decoded++;
	return count;
}

static struct soft_block *
hash_find(struct soft_code *c, uint64_t gpa, uint32_t mode)
{
	struct soft_block *b = atomic_load_explicit(&c->hash[hash_of(gpa, mode)], memory_order_acquire);
	while (b != NULL && (b->gpa != gpa || b->mode != mode))
		b = __atomic_load_n(&b->hash_next, __ATOMIC_ACQUIRE);
	return b;
}

/* Put a decoded block in. NULL: the page was written meanwhile, decode again. */
static struct soft_block *
insert_block(struct soft_cpu *cpu, uint64_t page_n, uint32_t seq, uint64_t gpa, uint8_t *hva,
	     const struct soft_insn *insns, unsigned count, unsigned bytes)
{
	struct soft_code *c = cpu->vm->code;
	struct soft_block *b = NULL;
	size_t need = block_bytes(count);

	soft_code_lock(c, cpu);
	struct code_page *p = c->pages[page_n];
	if (p->seq != seq || !atomic_load(&c->marked[page_n]))
		goto out;
	b = hash_find(c, gpa, cpu->mode);
	if (b != NULL)
		goto out;
	b = soft_code_alloc(c, need);
	if (b == NULL) {
		pthread_mutex_unlock(&c->lock);
		soft_code_want_flush(cpu);
	}
	memset(b, 0, sizeof(*b));
	b->gpa = gpa;
	b->hva = hva;
	b->mode = cpu->mode;
	b->bytes = (uint16_t)bytes;
	b->count = (uint16_t)count;
	b->branches = (insns[count - 1].flags & IF_BRANCH) != 0;
	b->valid = 1;
	memcpy(b->insn, insns, (count + 1) * sizeof(struct soft_insn));
	b->page_next = p->blocks;
	p->blocks = b;
	_Atomic(struct soft_block *) *link = &c->hash[hash_of(gpa, cpu->mode)];
	b->hash_next = atomic_load(link);
	atomic_store_explicit(link, b, memory_order_release);
out:
	pthread_mutex_unlock(&c->lock);
	return b;
}

/* ---- instructions that cross a page, or are not in RAM ---- */

/* Fetch up to 15 bytes at rip the slow way; raises #PF for a second page only when it is needed. */
static unsigned
fetch_bytes(struct soft_cpu *cpu, uint64_t la, uint8_t *buf, bool second)
{
	unsigned n = (unsigned)MIN(15, 0x1000 - (la & 0xfff));
	uint64_t gpa;
	uint8_t *p = soft_fetch_ptr(cpu, la, &gpa);
	if (p == NULL)
		return 0;
	memcpy(buf, p, n);
	if (second && n < 15) {
		uint64_t next = (la & PAGE_MASK4) + 0x1000;
		if (!soft_is64(cpu))
			next &= 0xffffffff;
		p = soft_fetch_ptr(cpu, next, &gpa);
		if (p == NULL)
			return n;
		memcpy(buf + n, p, 15 - n);
		n = 15;
	}
	return n;
}

uint64_t
soft_fetch_la(const struct soft_cpu *cpu, uint64_t rip)
{
	return soft_is64(cpu) ? rip : (rip + cpu->st.seg[X86_CS].base) & 0xffffffff;
}

/* #GP when the instruction's last byte lies past CS's limit; not in 64-bit mode. */
static void
check_fetch_limit(struct soft_cpu *cpu, uint64_t rip, unsigned len)
{
	if (!soft_is64(cpu) && rip + len - 1 > cpu->st.seg[X86_CS].limit) {
		cpu->cur = NULL;
		soft_gp(cpu, 0);
	}
}

/* Decode one instruction at rip into b (room for two). */
static void
decode_single(struct soft_cpu *cpu, uint64_t rip, struct soft_block *b)
{
	uint8_t buf[16];
	uint64_t la = soft_fetch_la(cpu, rip);
	unsigned n = fetch_bytes(cpu, la, buf, false);
	enum soft_decode r = DECODE_SHORT;
	if (n != 0)
		r = soft_decode_insn(cpu, cpu->mode, buf, n, 0, &b->insn[0]);
	if (r == DECODE_SHORT && n > 0 && n < 15) {
		n = fetch_bytes(cpu, la, buf, true);
		r = soft_decode_insn(cpu, cpu->mode, buf, n, 0, &b->insn[0]);
	}
	if (r == DECODE_SHORT) /* no RAM there: the open bus reads as ones, FF FF is no instruction */
		soft_ud(cpu);
	check_fetch_limit(cpu, rip, b->insn[0].len);
	b->count = 1;
	b->branches = (b->insn[0].flags & IF_BRANCH) != 0;
	b->bytes = b->insn[0].len;
	b->valid = 1;
	b->mode = cpu->mode;
	init_end(&b->insn[1], b->insn[0].len);
	cpu->ctr.insns_decoded++;
}

struct single {
	uint64_t la;
	uint8_t bytes[16];
	unsigned len;
	struct soft_block b;
};

/* Is it the instruction that is kept, with another constant? Code that is patched often. */
static bool
other_constant(struct single *s, const uint8_t *bytes)
{
	struct soft_insn *i = &s->b.insn[0];
	unsigned at = s->len - i->imm_bytes;
	uint64_t v = 0;
	if (i->imm_bytes == 0 || memcmp(bytes, s->bytes, at) != 0)
		return false;
	for (unsigned n = 0; n < i->imm_bytes; n++)
		v |= (uint64_t)bytes[at + n] << (8 * n);
	if (i->imm_signed && i->imm_bytes < 8 && (v >> (8 * i->imm_bytes - 1) & 1))
		v |= ~0ull << (8 * i->imm_bytes);
	i->imm = (int64_t)v;
	memcpy(s->bytes + at, bytes + at, i->imm_bytes);
	return true;
}

/* One instruction at rip: kept per vCPU, its bytes compared each time. */
static struct soft_block *
single_at(struct soft_cpu *cpu, uint64_t rip)
{
	uint64_t la = soft_fetch_la(cpu, rip);
	struct single **slot = (struct single **)&cpu->single[(la ^ la >> 12) & (SINGLES - 1)], *s = *slot;
	uint8_t buf[16] = {0};
	if (s == NULL) {
		soft_vec_sync(cpu);
		s = calloc(1, sizeof(*s) + 2 * sizeof(struct soft_insn));
		LH_ASSERT(s != NULL);
		s->la = 1; /* nothing yet */
		*slot = s;
	}
	if (s->la == la && s->b.mode == cpu->mode && s->len != 0) {
		unsigned n = fetch_bytes(cpu, la, buf, (la & 0xfff) + s->len > 0x1000);
		if (n >= s->len && (memcmp(buf, s->bytes, s->len) == 0 || other_constant(s, buf))) {
			check_fetch_limit(cpu, rip, s->len);
			return &s->b;
		}
	}
	s->len = 0;
	decode_single(cpu, rip, &s->b);
	if (s->b.insn[0].fn == op_ud) /* what it is not depends on bytes beyond its length: not kept */
		return &s->b;
	s->la = la;
	s->len = s->b.insn[0].len;
	fetch_bytes(cpu, la, s->bytes, (la & 0xfff) + s->len > 0x1000);
	return &s->b;
}

struct soft_block *
soft_single(struct soft_cpu *cpu)
{
	cpu->cur = NULL;
	return single_at(cpu, cpu->rip);
}

/* ---- finding ---- */
static struct soft_block *
block_make(struct soft_cpu *cpu, uint64_t rip, uint64_t la, uint64_t gpa, uint8_t *hva)
{
	struct soft_insn insns[SOFT_BLOCK_MAX + 1];
	unsigned bytes, count, avail = 0x1000 - (gpa & 0xfff);
	struct soft_block *b = NULL;
	(void)la;
	while (b == NULL) {
		uint32_t seq;
		uint64_t n = soft_code_open(cpu, gpa, &seq);
		count = decode_block(cpu, hva, avail, insns, &bytes);
		if (count == 0)
			return single_at(cpu, rip); /* it crosses the page's end */
		b = insert_block(cpu, n, seq, gpa, hva, insns, count, bytes);
	}
	return b;
}

struct soft_block *
soft_block_find(struct soft_cpu *cpu, uint64_t rip)
{
	struct soft_jc_entry *j = &cpu->jc[(rip ^ (rip >> 12)) & (JC_SIZE - 1)];
	uint64_t la = soft_fetch_la(cpu, rip), gpa;
	cpu->cur = NULL;
	cpu->rip = rip;
	cpu->ctr.block_lookup++;
	uint8_t *hva = soft_fetch_ptr(cpu, la, &gpa);
	if (hva == NULL)
		return soft_single(cpu); /* raises what a fetch from no memory gives */
	struct soft_block *b = hash_find(cpu->vm->code, gpa, cpu->mode);
	if (b == NULL)
		b = block_make(cpu, rip, la, gpa, hva);
	if (!soft_is64(cpu) && rip + b->bytes - 1 > cpu->st.seg[X86_CS].limit)
		return soft_single(cpu); /* the limit cuts the block: one at a time */
	if (b->gpa == gpa && b->valid) {
		j->rip = rip;
		j->mode = cpu->mode;
		j->gen = cpu->jc_gen + cpu->jc_gen_local;
		j->block = b;
	}
	return b;
}

static inline __attribute__((always_inline)) const struct soft_insn *
enter_block(struct soft_cpu *cpu, struct soft_block *b, uint64_t rip)
{
	cpu->gpr[REG_RIPBASE] = rip;
	cpu->icount += b->count;
	cpu->branches += b->branches;
	cpu->cur_block = b;
	ENTER(cpu, b);
}

const struct soft_insn *
soft_goto(struct soft_cpu *cpu, uint64_t rip)
{
	cpu->rip = rip;
	if (UNLIKELY(atomic_load_explicit(&cpu->attn, memory_order_relaxed) != 0))
		return NULL;
	struct soft_jc_entry *j = &cpu->jc[(rip ^ (rip >> 12)) & (JC_SIZE - 1)];
	struct soft_block *b = j->block;
	if (UNLIKELY(j->rip != rip || j->gen != cpu->jc_gen + cpu->jc_gen_local || j->mode != cpu->mode ||
		     !atomic_load_explicit(&b->valid, memory_order_relaxed)))
		b = soft_block_find(cpu, rip);
	return enter_block(cpu, b, rip);
}

/*
 * A direct branch. Within the page the successor is remembered in the instruction: same
 * physical page, same mode, whatever the address space. 16/32-bit code may also depend on
 * CS's base and limit, so it takes the general way.
 */
const struct soft_insn *
soft_goto_link(struct soft_cpu *cpu, const struct soft_insn *i, uint64_t rip, int slot)
{
	struct soft_block *b = __atomic_load_n(&i->link[slot], __ATOMIC_ACQUIRE);
	if (LIKELY(b != NULL && ((rip ^ cpu->gpr[REG_RIPBASE]) & PAGE_MASK4) == 0 &&
		   atomic_load_explicit(&b->valid, memory_order_relaxed) &&
		   atomic_load_explicit(&cpu->attn, memory_order_relaxed) == 0)) {
		cpu->rip = rip;
		return enter_block(cpu, b, rip);
	}
	if (!soft_is64(cpu) && !(cpu->mode & MODE_FLAT)) {
		if (rip > cpu->st.seg[X86_CS].limit) {
			cpu->cur = i;
			soft_gp(cpu, 0);
		}
		return soft_goto(cpu, rip);
	}
	if (UNLIKELY(soft_is64(cpu) && !soft_canonical(cpu, rip))) {
		cpu->cur = i;
		soft_gp(cpu, 0);
	}
	if (((rip ^ cpu->gpr[REG_RIPBASE]) & PAGE_MASK4) == 0 &&
	    atomic_load_explicit(&cpu->attn, memory_order_relaxed) == 0) {
		struct soft_block *from = cpu->cur_block;
		uint64_t base = cpu->gpr[REG_RIPBASE];
		cpu->rip = rip;
		b = soft_block_find(cpu, rip);
		if (from != NULL && from->gpa != 0 && b->gpa == (from->gpa & PAGE_MASK4) + (rip & 0xfff) &&
		    ((base ^ rip) & PAGE_MASK4) == 0 && atomic_load(&from->valid))
			__atomic_store_n(&((struct soft_insn *)(uintptr_t)i)->link[slot], b,
					 __ATOMIC_RELEASE);
		return enter_block(cpu, b, rip);
	}
	return soft_goto(cpu, rip);
}

OP(op_stale)
{
	cpu->rip = soft_insn_rip(cpu, i);
	soft_uncount(cpu, i, 0);
	return NULL;
}
