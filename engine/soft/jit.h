/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The translator: guest blocks as host code. Private to engine/soft; the design is in doc/translator.md.
 *
 * A unit is guest code from one address on, within a page: up to an instruction that always leaves, side
 * exits on the way. It is keyed by guest-physical address and mode, and knows no linear address: what depends
 * on one is reckoned from jit_pagebase, the linear address of the page that the code runs in.
 *
 * In translated code GS points to the vCPU. Guest registers are in host registers (jit_host[]), vector
 * registers and MXCSR in the host's, the six arithmetic flags in EFLAGS or, as LAHF and SETO AL leave them,
 * in AX; RCX, R10 and R11 are scratch; RSP points to a stack of return addresses. Whatever is not simple is
 * left to the interpreter, either by a call (soft_jit_interp) or by leaving with the instruction not begun
 * (JX_STEP).
 */
#ifndef LHYVE_SOFT_JIT_H
#define LHYVE_SOFT_JIT_H

#include "engine/soft/cpu.h"

struct code_page;
struct emit;
struct jit;
struct soft_code;

/* Why translated code came back; cpu->rip says where the guest stands. */
enum jit_reason {
	JX_LOOKUP, /* go on at cpu->rip: no unit known there */
	JX_CHAIN,  /* as JX_LOOKUP, and cpu->jit_exit may be chained to what is found */
	JX_LEAVE,  /* look at attn */
	JX_STEP,   /* the interpreter must do the instruction at cpu->rip */
};

/* A unit's mode: soft_block's, the MMU index, and which units (FPU, SSE, AVX) are enabled. */
enum {
	JMODE_MMU_SHIFT = 8,
	JMODE_SSE = 1 << 10,
	JMODE_AVX = 1 << 11,
	JMODE_X87 = 1 << 12,
	JMODE_LA57 = 1 << 14,
	JMODE_TSC = 1 << 15, /* RDTSC is the host's and an offset */
	JMODE_ONE = 1 << 13, /* units of one instruction, not chained: for tests */
	/* variants of a unit, by how it is entered */
	JMODE_EFLAGS = 1 << 16, /* the guest's flags are in EFLAGS, else in AX */
	JMODE_SPLIT = 1 << 17,	/* every access checked by itself */
	JMODE_VERIFY = 1 << 18, /* leads nowhere by itself, leaves nothing to the interpreter */
	JMODE_VARIANT = JMODE_EFLAGS | JMODE_SPLIT,
};

struct jit_exit {	     /* a direct branch */
	uint8_t *rel32;	     /* its displacement, in the writable mapping */
	const uint8_t *stub; /* where it goes unchained, in the writable mapping */
	struct jit_unit *from;
	struct jit_exit *next_in; /* in the list of its target */
	int32_t target;		  /* page offset */
	uint32_t mode;		  /* of the unit that it leads to */
	bool backward;		  /* enters where attn is looked at */
	uint32_t br;		  /* to another page: jit_br */
	uint8_t *page; /* to another page: the displacement of what its linear address is compared with */
};

struct jit_fault { /* a host instruction that may trap */
	uint32_t host;
	uint16_t off;
	bool ax; /* the flags are in AX */
};

struct jit_unit {
	const uint8_t *entry; /* executable mapping; that of the stale exit once the unit is dropped */
	uint64_t gpa;
	uint32_t mode;
	uint32_t page_number;
	uint16_t bytes, nland, nfault, poll_len; /* poll_len: from the entry to behind the look at attn */
	uint32_t start, end;			 /* host code, offsets in the cache */
	_Atomic uint8_t valid;
	uint32_t runs;	  /* under soft.verify */
	uint64_t entered; /* where that is counted */
	uint16_t insns, accesses;
	struct jit_unit *hash_next, *page_next;
	struct jit_unit *whole;	 /* this stands for what that unit has of another page */
	struct jit_exit *in;	 /* exits that are chained to this unit */
	uint32_t *land;		 /* return landings: offset of the byte that closes them */
	struct jit_fault *fault; /* in order of host */
};

/* Host register of each guest register; EM_NONE: it stays in cpu->gpr[]. */
extern const uint8_t jit_host[16];

/* ---- jit_cache.c: memory for code, index of units ---- */
LH_MUST_CHECK struct jit *soft_jit_create(uint64_t cache_bytes, struct err *err);
void soft_jit_destroy(struct jit *j); /* NULL is fine */
struct jit_runs { /* of all units since the start; instructions and accesses of whole units */
	uint64_t units, insns, accesses;
};
struct jit_runs soft_jit_runs(const struct jit *j); /* the code lock is held */
/* Bytes of host code that are held. */
uint64_t soft_jit_bytes(const struct jit *j);
/* Called with the code lock held: */
/* A generation is about to be forgotten: nothing else leads there from a page's units, or from anywhere. No
 * vCPU is in translated code. All of these: a NULL jit is fine. */
void soft_jit_cut_page(struct soft_code *c, unsigned generation, struct code_page *p);
void soft_jit_forget(struct soft_code *c, unsigned generation);
/* New units go into that generation, which is empty. */
void soft_jit_fill(struct jit *j, unsigned generation);
bool soft_jit_written(struct jit *j, struct code_page *p, uint64_t gpa, uint64_t len);
void soft_jit_drop_page(struct jit *j, struct code_page *p);
/* Any thread: */
struct jit_unit *soft_jit_find(struct jit *j, uint64_t gpa, uint32_t mode);
/* The unit and guest page offset that a trapping host instruction belongs to. */
struct jit_unit *soft_jit_unit_of(struct soft_code *c, const uint8_t *pc);
struct soft_perf_map;
void soft_jit_name_routines(const struct jit *j, struct soft_perf_map *m);
bool soft_jit_contains(const struct jit *j, const void *pc);

/* ---- jit_trans.c ---- */
/* Translate at cpu->rip, which is fetched from hva = gpa. NULL: the first instruction is not to be
 * translated. */
struct jit_unit *soft_jit_translate(struct soft_cpu *cpu, uint64_t gpa, const uint8_t *hva, uint32_t mode);

/* ---- jit_run.c ---- */
int soft_jit_vcpu_init(struct soft_cpu *cpu, struct err *err);
void soft_jit_vcpu_fini(struct soft_cpu *cpu);
/* Run translated code until something else must be done. False: not in this mode. */
bool soft_jit_run(struct soft_cpu *cpu);
/* One instruction by translated code, for tests; ATTN_STEP is set. False: it takes the interpreter. */
bool soft_jit_one(struct soft_cpu *cpu);
/* Vector state to cpu->st, for whoever is about to use it or to use the host's vector registers. */
void soft_vec_sync(struct soft_cpu *cpu);
/* ---- jit_verify.c: soft.verify ---- */
LH_MUST_CHECK int soft_verify_create(struct soft_cpu *cpu, struct err *err);
void soft_verify_destroy(struct soft_cpu *cpu);
/* Entry n of tlb is about to allow writes to the page at hva. */
void soft_verify_page(struct soft_cpu *cpu, struct soft_tlb *tlb, unsigned n, uint8_t *hva);
/* `run` runs u, which is at cpu->rip, and sets cpu->rip; the interpreter repeats it. */
void soft_verify_unit(struct soft_cpu *cpu, struct jit_unit *u,
		      void (*run)(struct soft_cpu *cpu, const struct jit_unit *u));
/* Called by generated code. */
bool soft_jit_interp(struct soft_cpu *cpu, const struct soft_insn *i);
bool soft_jit_slow(struct soft_cpu *cpu, uint64_t la, uint32_t what);
bool soft_jit_group(struct soft_cpu *cpu, uint64_t la, uint32_t what);
const struct soft_insn *op_jit_resume(struct soft_cpu *cpu, const struct soft_insn *i);
/* A trap on this thread: one in translated code becomes JX_STEP there. False: not ours. */
bool soft_jit_signal(void *ucontext, void *fault_addr);

/* soft_jit_slow()'s and soft_jit_group()'s `what`: bytes, write, guest page offset */
enum { SLOW_SIZE = 0x7fff, SLOW_WRITE = 1 << 15, SLOW_OFF_SHIFT = 16 };

/* cpu->jit_br: which instruction made an indirect branch, for one whose target is not canonical */
enum { BR_JMP = 0, BR_CALL = 1 << 16, BR_RET = 1 << 17, BR_NONE = 1 << 18 /* the page's end was reached */ };

#endif
