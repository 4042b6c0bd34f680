/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The soft engine's inside: one vCPU's working state, decoded instructions, and
 * the memory fast path. Private to engine/soft.
 *
 * How an instruction ends. A handler commits its results only after its last
 * memory access, so that any access may leave by soft_raise() (an exception) or
 * soft_exit() (a device has to be asked): both are a longjmp to the run loop.
 * After a device answered, the instruction runs again from its start; accesses
 * that already happened are answered from `iolog`, in order.
 *
 * Flags. The six arithmetic flags live in `fl` as `lahf; seto %al` leave them in
 * AX: bit 15 SF, 14 ZF, 12 AF, 10 PF, 8 CF, bit 0 OF. The rest is in `rflags`.
 *
 * Threads: a vCPU's struct belongs to the thread in run(), but for `attn`, which
 * any thread sets, and `running`, which any thread reads.
 */
#ifndef LHYVE_SOFT_CPU_H
#define LHYVE_SOFT_CPU_H

#include <setjmp.h>
#include <stdatomic.h>
#include "base/util.h"
#include "base/vmclock.h"
#include "engine/engine.h"
#include "mem/gpmap.h"

struct soft_cpu;
struct soft_insn;
struct soft_block;
struct soft_vm;
struct soft_stub;

/* Returns the next instruction to run, or NULL: back to the run loop with cpu->rip set. */
typedef const struct soft_insn *(*soft_op_fn)(struct soft_cpu *cpu, const struct soft_insn *i);

enum {
	REG_NONE = 16,	  /* reads as 0 */
	REG_RIPBASE = 17, /* linear IP of the current block's first byte */
	REG_SLOTS = 18,
	SEG_ZERO = 6, /* in seg_base[]: a base of 0 for flat segments */
};

/* soft_insn.flags */
enum {
	IF_EASLOW = 1 << 0, /* address size below 64, or a segment that needs checks */
	IF_LOCK = 1 << 1,
	IF_REP = 1 << 2,
	IF_REPNE = 1 << 3,
	IF_MEM = 1 << 4, /* the r/m operand is memory */
	IF_REG2 = 1 << 5,
	IF_STK32 = 1 << 6,
	IF_STK16 = 1 << 7,
	IF_SEGOVR = 1 << 8, /* an explicit segment prefix */
	IF_VEXW = 1 << 9,
	IF_BRANCH = 1 << 10, /* transfers control: only a block's last */
};

struct soft_insn {
	soft_op_fn fn;
	uint8_t dst, src;    /* byte offsets into gpr[] (AH is RAX's offset + 1) */
	uint8_t base, index; /* register numbers, REG_NONE, REG_RIPBASE */
	uint8_t scale, seg, segslot,
	    size; /* shift; X86_ES.. as in the architecture; index in seg_base[]; operand bytes */
	int32_t disp;
	uint16_t flags;
	uint16_t off; /* of this instruction in the block */
	int64_t imm;
	union {
		struct soft_block *link[2]; /* branches: known successors, not-taken and taken */
		struct {
			void *p;
			uint64_t v;
		} aux;
	};
	uint8_t len, addrsize, cc, imm2;
	uint16_t mnemonic;	       /* Zydis'; 0: no instruction */
	uint8_t imm_bytes, imm_signed; /* its last bytes are no more than imm, extended so; 0: not known */
};

/* soft_block.mode: what decoding depends on */
enum {
	MODE_16 = 0,
	MODE_32 = 1,
	MODE_64 = 2,
	MODE_CS = 3,
	MODE_SS32 = 4,
	MODE_FLAT = 8,	/* ES, SS, DS, CS: base 0, limit 4 GiB, present, writable; no check needed */
	MODE_REAL = 16, /* CR0.PE = 0 */
	MODE_VM86 = 32,
	MODE_USER = 64,
};

#define SOFT_BLOCK_MAX 64   /* instructions */
#define SOFT_MNEMONICS 2048 /* more than Zydis has */

struct soft_block {
	uint64_t gpa;
	uint8_t *hva;
	struct soft_block *hash_next;
	struct soft_block *page_next; /* the next block of the same page */
	_Atomic uint32_t valid;
	uint32_t mode;
	uint16_t bytes, count;
	uint32_t branches;	 /* 1: the last instruction is one */
	struct soft_insn insn[]; /* count, then one that ends the block when the last is no branch */
};

#define TLB_BITS   11
#define TLB_SIZE   (1u << TLB_BITS)
#define ITLB_SIZE  64u
#define TLB_LIST   256u
#define EXEC_PAGES 4096u
#define SINGLES	   4096u
#define JC_SIZE	   4096u
#define PAGE_MASK4 (~0xfffull)

enum { MMU_USER, MMU_KERNEL, MMU_KERNEL_AC, MMU_COUNT };

/*
 * The software TLB of one privilege. Entry n serves linear pages whose number is n modulo TLB_SIZE. A tag is
 * the negated linear page when reads / writes may use the pointer, so that tag + address of the last byte is
 * below 4096 exactly when the access lies in that page. An empty entry holds the tag of a page with another
 * n.
 */
struct soft_tlb_entry {
	uint64_t nr, nw;
	uint8_t *page;	  /* host pointer to the page's first byte */
	uintptr_t addend; /* the same less the linear page: what makes a linear address a host pointer */
};
struct soft_tlb {
	_Alignas(64) struct soft_tlb_entry e[TLB_SIZE];
	uint64_t gpa[TLB_SIZE]; /* of the page, and TLB_* bits */
};
#define TLB_ENTRY_SHIFT	   5
#define TLB_INDEX(la)	   ((unsigned)((la) >> 12) & (TLB_SIZE - 1))
#define TLB_NOTAG(n)	   (0 - ((uint64_t)(((n) + 2u) & (TLB_SIZE - 1)) << 12))
#define TLB_HIT(tag, last) ((tag) + (last) < 0x1000)

/* The second level (walk.c). Generation 0 is nobody's. */
#define TLB2_BITS 13
#define TLB2_SIZE (1u << TLB2_BITS)
struct soft_tlb2_entry {
	uint64_t tag, gpa, last;
	uint32_t gen;
	bool user, write, nx;
};
struct soft_tlb2 {
	uint32_t gen, gen_global, gen_last, floor; /* generations below floor are over */
	unsigned pcid;
	uint64_t huge; /* a bit a GiB modulo 64: has pieces of pages above 2 MiB */
	uint32_t pcid_gen[4096];
	struct soft_tlb2_entry e[TLB2_SIZE];
};

struct soft_itlb_entry {
	uint64_t tag; /* linear page | (1 when user) */
	bool global;
	uint8_t *hva;
	uint64_t gpa;
};

struct soft_jc_entry {
	uint64_t rip;
	struct soft_block *block;
	uint32_t gen, mode;
};

enum io_kind {
	IOLOG_MMIO_R,
	IOLOG_MMIO_W,
	IOLOG_IN,
	IOLOG_OUT,
	IOLOG_RDMSR,
	IOLOG_WRMSR,
	IOLOG_CR8_W,
	IOLOG_CR8_R
};

struct soft_iolog {
	uint8_t kind, size, fault;
	uint64_t addr, data;
};

#define IOLOG_MAX 512

/* How a longjmp left the handlers. */
enum { LEAVE_NONE, LEAVE_EXC, LEAVE_EXIT, LEAVE_BLOCK };

enum soft_exc_kind { EXCK_FAULT, EXCK_TRAP, EXCK_INT, EXCK_INT3, EXCK_EXT, EXCK_NMI };

/* Translated code by linear address, a table an MMU index. */
#define JIT_JC_BITS	  12
#define JIT_JC_SIZE	  (1u << JIT_JC_BITS)
#define JIT_JC_INDEX(rip) ((unsigned)((rip) ^ (rip) >> JIT_JC_SHIFT) & (JIT_JC_SIZE - 1))
#define JIT_JC_USED	  512u /* entries that are remembered as in use, to be emptied one by one */
struct jit_jc {
	uint64_t rip;	      /* JIT_JC_NONE: empty */
	const uint8_t *entry; /* of the unit, also of one that was dropped: close_entry() */
	uint64_t pagebase;
	struct jit_unit *unit;
};
#define JIT_JC_SHIFT	5		      /* log2 of its size */
#define JIT_JC_NONE	0x5555555555555555ull /* no canonical address */
#define JIT_STACK_BYTES (64 * KIB)
#define JIT_PAGES	8192u /* pages of code that have a number; 0 is none's */
#define JIT_PAGES_USED	256u  /* remembered, as JIT_JC_USED */
#define JIT_PAGE_NONE	UINT64_MAX

struct soft_cpu {
	uint64_t gpr[REG_SLOTS];
	uint16_t fl;
	uint8_t cpl;
	uint8_t shadow;		     /* enum x86_interrupt_shadow for the next instruction */
	_Atomic uint32_t attn;	     /* nonzero: leave at the next block boundary */
	struct soft_tlb *dtlb;	     /* the current MMU index's */
	const struct soft_insn *cur; /* for precise faults */
	struct soft_block *cur_block;
	uint64_t seg_base[8];
	uint64_t rip;		   /* valid between blocks */
	uint64_t rflags;	   /* without the arithmetic flags */
	uint64_t icount, branches; /* begun, by whole blocks; soft_uncount() takes back what was not */
	uint32_t mode, jc_gen;
	uint32_t jc_gen_local; /* counts flushes that kept global pages */
	uint32_t wprotects;    /* counts soft_tlb_wprotect() */
	uint8_t rmw_pending;   /* soft_rmw() gave a stand-in or a code page */
	uint8_t ac_on;	       /* CR0.AM, EFLAGS.AC and CPL 3: accesses go the slow way */
	uint8_t want_window, in_delivery;
	uint8_t single_shadow; /* the shadow that the single instruction started with */
	uint8_t tf_masked;     /* SYSCALL cleared TF: no trap after it */
	uint8_t want_flush;    /* there is no room for more code */
	uint8_t rep_open;      /* a REP was left between two iterations: the next event's RF */
	uint64_t rmw_la, rmw_size, rmw_gpa;
	uint64_t ip_mask; /* of IP in the current code segment */

	/* translated code (jit.h) */
	_Atomic uint32_t go; /* 0: leave at the next look; follows attn */
	uint8_t fpu_out;     /* 0: x87 state is in the host's unit, not in fximage; only while vec_live */
	uint8_t vec_live;    /* vector state is in the host's registers, not in st */
	uint8_t jit_on, jit_one;
	struct soft_cpu *self;
	const uint8_t *jit_code;
	void *jit_csp, *jit_sp, *jit_sp_top; /* C stack; return stack: now, empty */
	uint64_t jit_pagebase;		     /* linear address of the page of code that runs */
	uint64_t jit_la, jit_tmp, jit_tsc;   /* guest TSC = host TSC + jit_tsc */
	uintptr_t jit_addend;
	struct jit_exit *jit_exit;
	uint32_t jit_variant;	 /* under soft.verify: how the next unit is entered */
	uint32_t jit_br;	 /* BR_*: the last indirect branch */
	uint64_t jit_r11;	 /* while C code runs */
	uint64_t jit_addends[4]; /* of groups but the first, which has R11 (jit_group.c) */

	_Alignas(64) struct x86_state st;  /* the parts not shadowed above */
	_Alignas(64) uint8_t membuf[256];  /* operand of a stub or a stand-in for RMW */
	_Alignas(64) uint8_t fximage[576]; /* FXSAVE64's, and an XSAVE header that says x87 is in it */

	/* exception in flight */
	uint8_t exc_vec, exc_has_err, exc_kind;
	uint32_t exc_err;
	uint64_t exc_cr2;
	uint32_t exc_dr6;
	uint8_t delivering_vec; /* 255: an interrupt, benign */
	uint64_t deliver_ret, fault_rip;

	enum io_kind open_kind; /* of the exit that waits */
	struct soft_iolog iolog[IOLOG_MAX];
	unsigned iolog_n, iolog_pos;
	struct vm_exit *exit;
	bool exit_open; /* *exit waits for the caller's answer */

	uint8_t intr_vector;
	bool intr_pending, halted;
	struct {
		uint8_t vector, has_err, waits;
		uint32_t err;
	} injected;	    /* an exception of the caller's */
	uint64_t step_left; /* soft_vcpu_step(): instructions still allowed */
	bool step_limited;

	struct soft_vm *vm;
	unsigned id;
	struct x86_cpuid *cpuid;
	uint64_t cr4_allowed, efer_allowed, xcr0_allowed;
	uint64_t phys_mask;  /* address bits of MAXPHYADDR */
	uint64_t tsc_base;   /* host TSC + tsc_base = the VM clock's */
	uint8_t apic_on;     /* IA32_APIC_BASE.EN as last written */
	uint64_t tsc_offset; /* guest TSC = host TSC + vm offset + this */
	unsigned pauses;
	uint64_t pmu_icount, pmu_branches; /* when the counters were brought up to date (pmu.c) */
	struct tracer *trace;		   /* NULL: none (trace.c) */
	struct verify *verify;		   /* NULL: not asked for (jit_verify.c) */
	uint8_t pmu_on, pmi;		   /* a counter is enabled; one that interrupts has overflowed */
	_Atomic bool pmu_ticks;		   /* one is enabled that interrupts */
	struct vm_timer pmu_timer;

	jmp_buf jb;
	void *stub_rsp; /* host stack pointer while a stub runs */
	uint32_t host_mxcsr;

	struct soft_block *single[SINGLES]; /* instructions that ran alone */

	_Atomic uint32_t running; /* executing guest code: must acknowledge safepoints */

	struct {
		uint64_t blocks_decoded, insns_decoded, tlb_miss, tlb_flush, tlb_flush_part, io, mmio, msr,
		    hlt, exceptions, interrupts, smc, stub_calls, block_lookup, jit_units, jit_insns,
		    jit_lookup, jit_chain, jit_step, jit_verified, jit_interp_made, jit_interp, jit_slow,
		    jit_ns, jit_left, walks;
		/* by mnemonic: calls of the interpreter, and instructions that units leave to it */
		uint64_t helper[SOFT_MNEMONICS], step[SOFT_MNEMONICS];
	} ctr;
	struct soft_tlb tlb[MMU_COUNT];
	/* Entries of pages that are not global, filled since they were emptied: TLB_LIST + 1, any may be in
	 * use. */
	uint16_t tlb_fills[MMU_COUNT], tlb_list[MMU_COUNT][TLB_LIST];
	bool tlb_globals[MMU_COUNT]; /* there may be entries of global pages */
	bool tlb_large[MMU_COUNT];   /* some belong to pages above 4 KiB */
	struct soft_tlb2 tlb2;
	uint64_t exec_pages[EXEC_PAGES / 64]; /* a bit a page modulo EXEC_PAGES: code was fetched there */
	struct soft_itlb_entry itlb[ITLB_SIZE];
	struct soft_jc_entry jc[JC_SIZE];

	/* translated code: what is no business of the code itself */
	uint8_t *jit_stacks;	       /* a return stack an MMU index, guard pages between */
	void *jit_stack_sp[MMU_COUNT]; /* while another is in use */
	uint32_t jit_mode[MMU_COUNT];  /* whose table and stack these are */
	uint32_t jit_gen[MMU_COUNT];   /* jc_gen that they are good for */
	uint32_t jit_gen_local[MMU_COUNT];
	bool jit_local[MMU_COUNT]; /* code of pages that are not global ran since */
	uint16_t jit_used[MMU_COUNT][JIT_JC_USED];
	unsigned jit_nused[MMU_COUNT]; /* above JIT_JC_USED: any entry may be in use */
	unsigned jit_mmu;	       /* whose stack jit_sp is in */
	struct jit_jc jit_jc[MMU_COUNT][JIT_JC_SIZE];
	/* By number: the linear address at which that page of code was fetched since. */
	uint64_t jit_page_at[MMU_COUNT][JIT_PAGES];
	uint16_t jit_page_used[MMU_COUNT][JIT_PAGES_USED];
	unsigned jit_page_nused[MMU_COUNT]; /* above JIT_PAGES_USED: any may be known */
};

/* soft_cpu.attn: why the run loop has to look. STEP: one instruction at a time; LEAVE: this vCPU's own wish.
 */
enum { ATTN_KICK = 1, ATTN_FLUSH = 2, ATTN_WPROT = 4, ATTN_STEP = 16, ATTN_LEAVE = 32 };

static inline void
soft_attn_set(struct soft_cpu *cpu, uint32_t bit)
{
	atomic_fetch_or_explicit(&cpu->attn, bit, memory_order_seq_cst);
	atomic_store_explicit(&cpu->go, 0, memory_order_seq_cst);
}

#define CPU_REG(cpu, off, type) (*(type *)((char *)(cpu)->gpr + (off)))
#define STATE(cpu)		(&(cpu)->st)

static inline bool
soft_long_mode(const struct soft_cpu *cpu)
{
	return cpu->st.msr.efer & EFER_LMA;
}

static inline bool
soft_is64(const struct soft_cpu *cpu)
{
	return (cpu->mode & MODE_CS) == MODE_64;
}

static inline bool
soft_is_real(const struct soft_cpu *cpu)
{
	return !(cpu->st.cr0 & CR0_PE);
}

static inline bool
soft_is_vm86(const struct soft_cpu *cpu)
{
	return cpu->rflags & FL_VM;
}

static inline bool
soft_canonical(const struct soft_cpu *cpu, uint64_t la)
{
	unsigned sh = (cpu->st.cr4 & CR4_LA57) ? 7 : 16;
	return (uint64_t)((int64_t)(la << sh) >> sh) == la;
}

/* What a base register or an invalidation takes: canonical for the widest addresses that the processor knows,
 * whatever CR4.LA57 says. */
static inline bool
soft_canonical_wide(const struct soft_cpu *cpu, uint64_t la)
{
	unsigned sh = (cpu->cr4_allowed & CR4_LA57) ? 7 : 16;
	return (uint64_t)((int64_t)(la << sh) >> sh) == la;
}

/* ---- leaving (excp.c, soft.c) ---- */
void soft_raise(struct soft_cpu *cpu, unsigned vec) __attribute__((noreturn, cold));
void soft_raise_err(struct soft_cpu *cpu, unsigned vec, uint32_t err) __attribute__((noreturn, cold));
void soft_raise_pf(struct soft_cpu *cpu, uint64_t la, uint32_t err) __attribute__((noreturn, cold));
void soft_unsupported(struct soft_cpu *cpu, const char *fmt, ...) LH_PRINTF(2, 3)
    __attribute__((noreturn, cold));
#define soft_gp(cpu, err) soft_raise_err(cpu, EXC_GP, err)
#define soft_ud(cpu)	  soft_raise(cpu, EXC_UD)

/* ---- device accesses, replayed (soft.c) ---- */
/* The answer to this access, from the log or by leaving to the caller of run(). *fault: as the board said. */
uint64_t soft_io(struct soft_cpu *cpu, enum io_kind kind, uint64_t addr, unsigned size, uint64_t data,
		 bool *fault);
/* The instruction (or one iteration of a string instruction) is complete. */
static inline void
soft_iolog_clear(struct soft_cpu *cpu)
{
	cpu->iolog_n = cpu->iolog_pos = 0;
}

/* ---- memory (mmu.c) ---- */
uint64_t soft_load_slow(struct soft_cpu *cpu, uint64_t la, unsigned size);
void soft_store_slow(struct soft_cpu *cpu, uint64_t la, unsigned size, uint64_t val);
void *soft_rmw_slow(struct soft_cpu *cpu, uint64_t la, unsigned size);
void soft_rmw_finish(struct soft_cpu *cpu);
void soft_load_bytes(struct soft_cpu *cpu, uint64_t la, void *buf, unsigned len);
void soft_store_bytes(struct soft_cpu *cpu, uint64_t la, const void *buf, unsigned len);
/* Check that [la, la + len) can be written (or read), raising the fault that the access would. */
void soft_probe(struct soft_cpu *cpu, uint64_t la, unsigned len, bool write);
void soft_peek(struct soft_cpu *cpu, uint64_t la, uint8_t *buf, unsigned len); /* within a page */
void soft_probe_aligned(struct soft_cpu *cpu, uint64_t la, unsigned size,
			bool write); /* and #AC where that is on */
/* Host pointer to la for `write` or read when the whole page run allows it, else NULL. No fault raised. */
uint8_t *soft_direct(struct soft_cpu *cpu, uint64_t la, bool write);
/* Put la's page into the TLB so that [la, la + size) may be accessed through it. False: not possible, or not
 * allowed; no fault is raised. *addend: host pointer = la + it; for this one access when it is a write to a
 * page of code. */
bool soft_tlb_fill(struct soft_cpu *cpu, uint64_t la, unsigned size, bool write, uintptr_t *addend);
/* Implicit supervisor accesses: descriptor tables, TSS. */
uint64_t soft_load_sys(struct soft_cpu *cpu, uint64_t la, unsigned size);
void soft_store_sys(struct soft_cpu *cpu, uint64_t la, unsigned size, uint64_t val);
/* Set bits in a byte of a descriptor table (accessed, busy), atomically. */
void soft_or_sys(struct soft_cpu *cpu, uint64_t la, uint8_t set, uint8_t clear);
/* Forget translations (SDM vol. 3A 4.10.4): all; those of one process-context identifier; all but global
 * ones; those of one page there and global ones. */
void soft_tlb_flush(struct soft_cpu *cpu);
void soft_tlb_flush_pcid(struct soft_cpu *cpu, unsigned pcid);
void soft_tlb_flush_locals(struct soft_cpu *cpu);
void soft_tlb_flush_page(struct soft_cpu *cpu, uint64_t la, unsigned pcid);
/* CR3 was written. keep: what is known of pcid stays good. */
void soft_tlb_switch(struct soft_cpu *cpu, unsigned pcid, bool keep);
/* What accesses are allowed has changed (PKRU): ask again at each. */
void soft_tlb_recheck(struct soft_cpu *cpu);
#define TLB_ALL (~0ull)
/* Drop write permission to the page at gpa, or to all (TLB_ALL), from the TLB. */
void soft_tlb_wprotect(struct soft_cpu *cpu, uint64_t gpa);
void soft_mmu_update(struct soft_cpu *cpu); /* CPL, CR0, CR4, EFLAGS.AC changed: choose the MMU index */
/* Instruction fetch: host pointer and gpa of the byte at la; raises #PF. NULL: not RAM. */
uint8_t *soft_fetch_ptr(struct soft_cpu *cpu, uint64_t la, uint64_t *gpa);
/* As soft_fetch_ptr() for a page that was fetched from before, without faults. NULL: forgotten since. */
uint8_t *soft_fetch_known(const struct soft_cpu *cpu, uint64_t la, uint64_t *gpa);
/* Was the page that soft_fetch_ptr() just gave for la a global one? */
bool soft_fetch_global(const struct soft_cpu *cpu, uint64_t la);
/* PAE: load the four PDPTEs from cr3. False: reserved bits (#GP). */
bool soft_load_pdptes(struct soft_cpu *cpu, uint64_t cr3);
/* Address translation for tests and the debugger: no side effects. */
bool soft_translate(struct soft_cpu *cpu, uint64_t la, uint64_t *gpa);

uint64_t soft_ea_slow(struct soft_cpu *cpu, const struct soft_insn *i, unsigned size, bool write);
/* Segment check of an access at offset ea; the linear address. */
uint64_t soft_seg_la(struct soft_cpu *cpu, unsigned seg, uint64_t ea, unsigned size, bool write);

#define HOT static inline __attribute__((always_inline))
#define DEFINE_ACCESS(bits)                                                           \
	HOT uint##bits##_t soft_ld##bits(struct soft_cpu *cpu, uint64_t la)           \
	{                                                                             \
		const struct soft_tlb_entry *t = &cpu->dtlb->e[TLB_INDEX(la)];        \
		if (LIKELY(TLB_HIT(t->nr, la + bits / 8 - 1)))                        \
			return *(volatile uint##bits##_t *)(t->page + (la & 0xfff));  \
		return (uint##bits##_t)soft_load_slow(cpu, la, bits / 8);             \
	}                                                                             \
	HOT void soft_st##bits(struct soft_cpu *cpu, uint64_t la, uint##bits##_t val) \
	{                                                                             \
		const struct soft_tlb_entry *t = &cpu->dtlb->e[TLB_INDEX(la)];        \
		if (LIKELY(TLB_HIT(t->nw, la + bits / 8 - 1)))                        \
			*(volatile uint##bits##_t *)(t->page + (la & 0xfff)) = val;   \
		else                                                                  \
			soft_store_slow(cpu, la, bits / 8, val);                      \
	}
DEFINE_ACCESS(8)
DEFINE_ACCESS(16)
DEFINE_ACCESS(32)
DEFINE_ACCESS(64)

/* Memory to modify in place. When rmw_pending is set afterwards, call soft_rmw_finish() after the change. */
HOT void *
soft_rmw(struct soft_cpu *cpu, uint64_t la, unsigned size)
{
	const struct soft_tlb_entry *t = &cpu->dtlb->e[TLB_INDEX(la)];
	if (LIKELY(TLB_HIT(t->nw, la + size - 1)))
		return t->page + (la & 0xfff);
	return soft_rmw_slow(cpu, la, size);
}

static inline void
soft_rmw_done(struct soft_cpu *cpu)
{
	if (UNLIKELY(cpu->rmw_pending))
		soft_rmw_finish(cpu);
}

HOT uint64_t
soft_ea(const struct soft_cpu *cpu, const struct soft_insn *i)
{
	return cpu->gpr[i->base] + (cpu->gpr[i->index] << i->scale) + (int64_t)i->disp;
}

/* Linear address of the memory operand. Also marks the instruction as the current one. */
HOT uint64_t
soft_la(struct soft_cpu *cpu, const struct soft_insn *i, unsigned size, bool write)
{
	cpu->cur = i;
	if (UNLIKELY(i->flags & IF_EASLOW))
		return soft_ea_slow(cpu, i, size, write);
	return soft_ea(cpu, i) + cpu->seg_base[i->segslot];
}

static inline uint64_t
soft_insn_rip(const struct soft_cpu *cpu, const struct soft_insn *i)
{
	return (cpu->gpr[REG_RIPBASE] + i->off) & cpu->ip_mask;
}

static inline uint64_t
soft_next_rip(const struct soft_cpu *cpu, const struct soft_insn *i)
{
	return (cpu->gpr[REG_RIPBASE] + i->off + i->len) & cpu->ip_mask;
}

uint64_t soft_load(struct soft_cpu *cpu, uint64_t la, unsigned size);
void soft_store(struct soft_cpu *cpu, uint64_t la, unsigned size, uint64_t val);

/* Register of `size` bytes at byte offset off; a 32-bit write clears the upper half. */
static inline uint64_t
soft_reg_get(const struct soft_cpu *cpu, unsigned off, unsigned size)
{
	uint64_t v = 0;
	memcpy(&v, (const char *)cpu->gpr + off, size);
	return v;
}

static inline void
soft_reg_set(struct soft_cpu *cpu, unsigned off, unsigned size, uint64_t val)
{
	switch (size) {
	case 1:
		CPU_REG(cpu, off, uint8_t) = (uint8_t)val;
		break;
	case 2:
		CPU_REG(cpu, off, uint16_t) = (uint16_t)val;
		break;
	case 4:
		CPU_REG(cpu, off, uint64_t) = (uint32_t)val;
		break;
	default:
		CPU_REG(cpu, off, uint64_t) = val;
		break;
	}
}

/* ---- flags ---- */
static inline uint32_t
soft_fl_to_eflags(uint16_t fl)
{
	return ((fl >> 8) & (FL_SF | FL_ZF | FL_AF | FL_PF | FL_CF)) | ((fl & 1u) ? FL_OF : 0);
}

static inline uint16_t
soft_eflags_to_fl(uint64_t f)
{
	return (uint16_t)(((f & (FL_SF | FL_ZF | FL_AF | FL_PF | FL_CF)) << 8) | ((f & FL_OF) ? 1 : 0));
}

static inline uint64_t
soft_rflags(const struct soft_cpu *cpu)
{
	return cpu->rflags | soft_fl_to_eflags(cpu->fl) | FL_1;
}

/* Set all flags; recomputes what depends on them (MMU index, stepping, VM86 mode). */
void soft_set_rflags(struct soft_cpu *cpu, uint64_t f);

enum { SFL_SF = 1 << 15, SFL_ZF = 1 << 14, SFL_AF = 1 << 12, SFL_PF = 1 << 10, SFL_CF = 1 << 8, SFL_OF = 1 };

/* ---- control flow (block.c) ---- */
const struct soft_insn *soft_goto(struct soft_cpu *cpu, uint64_t rip); /* any target in this mode */
const struct soft_insn *soft_goto_link(struct soft_cpu *cpu, const struct soft_insn *i, uint64_t rip,
				       int slot);
const struct soft_insn *op_stale(struct soft_cpu *cpu,
				 const struct soft_insn *i); /* the block was overwritten */
/* The one instruction at cpu->rip, decoded. Raises fetch faults. */
struct soft_block *soft_single(struct soft_cpu *cpu);
/* soft.c: one instruction at cpu->rip, with all that goes with it; ATTN_STEP is set. */
void soft_run_single(struct soft_cpu *cpu);
struct soft_block *soft_block_find(struct soft_cpu *cpu, uint64_t rip);
void soft_update_mode(struct soft_cpu *cpu); /* CS, SS, CR0, EFER, VM changed */

/*
 * NEXT goes on by a tail call. A handler whose locals have their address taken cannot make one (the stack
 * would grow with every instruction): it ends in DONE, which goes back to the loop in run_guest().
 */
#define DONE(cpu, i) return (void)(cpu), (i) + 1
#ifdef SOFT_LOOP_DISPATCH
#define NEXT(cpu, i)  return (void)(cpu), (i) + 1
#define ENTER(cpu, b) return (b)->insn
#else
#define NEXT(cpu, i)  return (i)[1].fn((cpu), (i) + 1)
#define ENTER(cpu, b) return (b)->insn[0].fn((cpu), (b)->insn)
#endif

/* The block is left at instruction i, `done` (0 or 1) of which has ended: what follows was counted too early.
 */
static inline void
soft_uncount(struct soft_cpu *cpu, const struct soft_insn *i, unsigned done)
{
	const struct soft_block *b = cpu->cur_block;
	if (b == NULL || i < b->insn || i + done >= b->insn + b->count) /* translated code does not count */
		return;
	cpu->icount -= (uint64_t)(b->insn + b->count - i) - done;
	cpu->branches -= b->branches;
}

/* After an instruction that may have overwritten its own block, opened an interrupt, changed a mode... */
static inline const struct soft_insn *
soft_leave_after(struct soft_cpu *cpu, const struct soft_insn *i)
{
	cpu->rip = soft_next_rip(cpu, i);
	soft_uncount(cpu, i, 1);
	return NULL;
}

/* ---- traces (trace.c): called while cpu->trace is set ---- */
void soft_trace_close(struct soft_cpu *cpu);
void soft_trace_step(struct soft_cpu *cpu);				 /* an instruction begins */
void soft_trace_event(struct soft_cpu *cpu);				 /* exc_* is delivered */
void soft_trace_write(struct soft_cpu *cpu, uint64_t gpa, uint64_t len); /* RAM was written */

/* ---- counters, backdoors (pmu.c) ---- */
/* Count up to the instruction that runs, which is not counted yet. */
void soft_pmu_sync(struct soft_cpu *cpu);
void soft_pmu_init(struct soft_cpu *cpu);
void soft_pmu_fini(struct soft_cpu *cpu);
void soft_pmu_changed(struct soft_cpu *cpu);		   /* the controls in st.msr were written */
uint64_t soft_pmu_rdmsr(struct soft_cpu *cpu, unsigned n); /* MSR 0xc0010000 + n, n < 8 */
void soft_pmu_wrmsr(struct soft_cpu *cpu, unsigned n, uint64_t v);
uint64_t soft_rdpmc(struct soft_cpu *cpu, uint32_t index);
bool soft_vmware_port(const struct soft_cpu *cpu, uint16_t port, unsigned size);
/* The call through that port, answered in registers. False: the port is read as any other. */
bool soft_vmware_call(struct soft_cpu *cpu);

/* ---- decode.c ---- */
/* Decode one instruction of at most `avail` bytes. False: not enough bytes (needs the next page). */
enum soft_decode { DECODE_OK, DECODE_SHORT, DECODE_END /* OK, and it ends the block */ };
enum soft_decode soft_decode_insn(struct soft_cpu *cpu, uint32_t mode, const uint8_t *bytes, unsigned avail,
				  unsigned off, struct soft_insn *out);

/* ---- segments and transfers (seg.c, xfer.c, excp.c) ---- */
void soft_load_seg(struct soft_cpu *cpu, unsigned seg, uint16_t sel); /* MOV/POP/LxS to ES, SS, DS, FS, GS */
void soft_set_cpl(struct soft_cpu *cpu, unsigned cpl);
void soft_seg_changed(struct soft_cpu *cpu, unsigned seg); /* recompute seg_base[] and mode */
/* Read a descriptor; false: selector outside the table or null. */
bool soft_read_desc(struct soft_cpu *cpu, uint16_t sel, uint64_t *lo, uint64_t *la);
void soft_desc_to_seg(uint16_t sel, uint64_t desc, struct x86_segment *s);
void soft_far_jump(struct soft_cpu *cpu, uint16_t sel, uint64_t off, unsigned size, uint64_t next_rip);
void soft_far_call(struct soft_cpu *cpu, uint16_t sel, uint64_t off, unsigned size, uint64_t next_rip);
void soft_far_ret(struct soft_cpu *cpu, unsigned size, unsigned pop);
void soft_iret(struct soft_cpu *cpu, unsigned size);
void soft_syscall(struct soft_cpu *cpu, uint64_t next_rip);
void soft_sysret(struct soft_cpu *cpu, unsigned size);
void soft_sysenter(struct soft_cpu *cpu);
void soft_sysexit(struct soft_cpu *cpu, unsigned size);
/* Deliver the exception or interrupt in cpu->exc_*; may itself raise. ret_rip: what is pushed. */
void soft_deliver(struct soft_cpu *cpu, uint64_t ret_rip);
void soft_push(struct soft_cpu *cpu, unsigned size, uint64_t val);
uint64_t soft_sp_mask(const struct soft_cpu *cpu);

/* ---- system registers (sys.c, msr.c) ---- */
void soft_write_cr0(struct soft_cpu *cpu, uint64_t v);
void soft_write_cr3(struct soft_cpu *cpu, uint64_t v);
void soft_write_cr4(struct soft_cpu *cpu, uint64_t v);
void
soft_umip_check(struct soft_cpu *cpu); /* SGDT, SIDT, SLDT, STR, SMSW above ring 0: #GP(0) under CR4.UMIP */
uint64_t soft_rdtsc(struct soft_cpu *cpu);
uint64_t soft_rdmsr(struct soft_cpu *cpu, uint32_t msr);
void soft_wrmsr(struct soft_cpu *cpu, uint32_t msr, uint64_t v);
void soft_set_efer(struct soft_cpu *cpu, uint64_t v);
void soft_cpuid_filter(struct x86_cpuid *t); /* cpuid.c */
void soft_cpuid_add(struct x86_cpuid *t, uint32_t features);
void soft_cpuid(struct soft_cpu *cpu, uint32_t leaf, uint32_t sub, uint32_t out[4]);
uint32_t soft_xsave_size(struct soft_cpu *cpu, bool compact); /* of what XCR0 (and XSS) enable: CPUID 0xD */
bool soft_io_allowed(struct soft_cpu *cpu, uint16_t port, unsigned size);

/* ---- stubs (stub.c) ---- */
struct soft_stub_pool;
struct soft_stub_pool *soft_stub_pool_create(struct err *err);
/* Memory for generated code cannot be had; errno says why. */
void soft_no_code_memory(struct err *err);
void soft_stub_pool_destroy(struct soft_stub_pool *p);
bool soft_stub_full(const struct soft_stub_pool *p);
void soft_stub_reset(struct soft_stub_pool *p); /* nobody holds a stub */

/* ---- code pages (block.c) ---- */
struct soft_code;
/* At most `bytes` for decoded blocks and what goes with translated code. */
struct soft_code *soft_code_create(struct gpmap *mem, uint64_t bytes, struct err *err);
void soft_code_destroy(struct soft_code *c);
/* Has this RAM page decoded code? Writers must then call soft_code_written() after the write. */
bool soft_code_page(struct soft_vm *vm, uint64_t gpa);
void soft_code_written(struct soft_vm *vm, struct soft_cpu *cpu, uint64_t gpa, uint64_t len);
/* Room for code has run out, or the stubs' pool is full (evict.c). The first vCPU to say so asks all others
 * to stand between blocks with `running` off (they wait in soft_flush_wait()), makes room, and lets them go.
 * Called from the run loop, with no lock held and no block in use. */
void soft_code_flush(struct soft_cpu *self);
void soft_flush_wait(struct soft_cpu *cpu);
/* Acknowledge requests of other threads; called between blocks. */
void soft_safepoint(struct soft_cpu *cpu);

struct soft_vm {
	struct gpmap *mem;
	struct vm_clock *clock;
	struct soft_code *code;
	struct soft_stub_pool *stubs;
	struct soft_cpu **cpus;
	unsigned maxcpus;
	_Atomic unsigned ncpus;
	bool strict_msr, pmu, vmware_backdoors, verify, profile;
	struct soft_perf_map *perf_map; /* NULL: none is written */
	struct engine_trace trace;
	bool tsc_is_host;
	_Atomic bool logging; /* the dirty log runs */
	uint64_t *dirty;      /* a bit a page of the map (gm_range.first_page), once it has run. Atomic. */
};

/* All zero, aligned to a page; NULL: no memory. */
struct soft_cpu *soft_cpu_alloc(void);
void soft_cpu_free(struct soft_cpu *cpu);

/* dirty.c */
int soft_dirty_start(struct engine_vm *vm, struct err *err);
int soft_dirty_fetch(struct engine_vm *vm, uint64_t gpa, uint8_t *bitmap, size_t bytes, struct err *err);
void soft_dirty_stop(struct engine_vm *vm);
/* Something of ours wrote to [gpa, gpa + len), while the log runs. Any thread. */
void soft_dirty_host(struct soft_vm *vm, uint64_t gpa, uint64_t len);

static inline bool
soft_dirty_logging(const struct soft_vm *vm)
{
	return UNLIKELY(atomic_load_explicit(&vm->logging, memory_order_relaxed));
}

static inline void
soft_dirty_mark(struct soft_vm *vm, const struct gm_range *r, uint64_t gpa)
{
	uint64_t page = r->first_page + ((gpa - r->gpa) >> 12);
	__atomic_fetch_or(&vm->dirty[page / 64], 1ull << (page % 64), __ATOMIC_RELEASE);
}

static inline bool
soft_dirty_marked(const struct soft_vm *vm, const struct gm_range *r, uint64_t gpa)
{
	uint64_t page = r->first_page + ((gpa - r->gpa) >> 12);
	return __atomic_load_n(&vm->dirty[page / 64], __ATOMIC_RELAXED) >> (page % 64) & 1;
}

#endif
