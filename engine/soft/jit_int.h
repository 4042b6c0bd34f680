/* SPDX-License-Identifier: BSD-2-Clause */
/* What the translator's own files share. */
#ifndef LHYVE_SOFT_JIT_INT_H
#define LHYVE_SOFT_JIT_INT_H

#include <Zydis/Zydis.h>
#include "engine/soft/code.h"
#include "engine/soft/emit.h"
#include "engine/soft/jit.h"

struct jit_common { /* routines at the start of the cache, writable mapping */
	const uint8_t *enter, *lookup, *chain, *leave, *step, *slow, *interp, *interp_end, *stale, *underflow,
	    *fault, *group, *far_miss, *far_stub, *vec_save, *fpu_load;
};

struct jit {
	uint8_t *rw, *rx;
	size_t bytes, common_end;
	size_t generation_bytes;
	/* Of the generation that is being filled: where new code goes, and where that ends; the same of what
	 * stands behind units and seldom runs, apart so that the rest is dense. */
	size_t used, limit, cold_begin, cold_used, cold_limit;
	size_t large; /* code up to here is on large pages, as far as the host has them */
	unsigned generation;
	struct jit_common c;
	struct jit_unit nowhere; /* what empty entries of the vCPUs' tables name: it leads to the lookup */
	struct jit_unit **hash;
	struct jit_unit **by_addr; /* `room` a generation, in order of start */
	size_t nunits[CODE_GENERATIONS], room;
	struct jit_runs gone; /* of units that were forgotten */
	struct jx_insn *pre; /* JIT_UNIT_INSNS: the unit that is being made, decoded; the code lock is held */
};

/* An access of an instruction: its address is a sum of symbols and an offset (jit_group.c). */
struct jx_acc {
	bool ok, write;
	uint8_t scale;
	uint16_t base, index, size;
	int64_t off;
};
enum { JX_ACC_OPERAND, JX_ACC_STACK };

#define JIT_GROUPS 4 /* at a time: the first has its addend in R11, the others in cpu->jit_addends[] */
struct jx_group {    /* [lo, hi) around the symbols of key was checked */
	bool live, write;
	struct jx_acc key;
	int64_t lo, hi;
};

struct jx_insn {
	struct jx_acc acc[2];
	bool follow; /* a branch: what comes next here is its target */
	bool hard;   /* groups do not look beyond it */
	const uint8_t *bytes;
	unsigned off; /* page offset */
	bool bad;     /* not an instruction, as far as the page goes */
	ZydisDecodedInstruction z;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
};

#define JIT_UNIT_CODE_MAX (64u * 1024) /* one unit's host code, with its cold part */
#define JIT_UNIT_INSNS	  64
#define JIT_ENTRY	  5 /* a unit's entry, from its start */

/* Is there room for one more, whatever it will be? */
static inline bool
jit_has_room(const struct jit *j)
{
	return j->used + JIT_UNIT_CODE_MAX <= j->limit && j->cold_used + JIT_UNIT_CODE_MAX <= j->cold_limit &&
	       j->nunits[j->generation] < j->room;
}

static inline const uint8_t *
jit_rx(const struct jit *j, const uint8_t *rw)
{
	return j->rx + (rw - j->rw);
}

/* How to have the flags of an instruction again: do it again (CMP, TEST), or take it back and do it again
 * (ADD, SUB). jit_flags.c */
enum { REC_NONE, REC_CMP, REC_TEST, REC_ADD, REC_SUB };
enum { REC_IMM = 17 };
struct jx_recipe {
	uint8_t kind, size; /* REC_*; bytes */
	uint8_t dst, src;   /* guest registers; REC_IMM */
	int64_t imm;
};

enum ool_kind { OOL_SLOW, OOL_GROUP, OOL_EXIT, OOL_FAR, OOL_INDIRECT, OOL_STEP, OOL_POLL, OOL_LOOKUP };

struct ool { /* code that stands behind the unit */
	enum ool_kind kind;
	uint8_t *from;	     /* displacement to patch */
	const uint8_t *back; /* OOL_SLOW, OOL_GROUP */
	uint32_t what;	     /* the same: SLOW_* */
	int32_t target;	     /* OOL_EXIT, OOL_FAR: page offset, may lie outside the page */
	uint32_t br;	     /* OOL_FAR, OOL_LOOKUP, OOL_INDIRECT: as jit_br */
	unsigned off;	     /* of the instruction */
	bool ax, host;	     /* the flags are in AX, in EFLAGS, else by rec */
	struct jx_recipe rec;
	bool one; /* OOL_SLOW: the address goes to R10 alone; OOL_GROUP: the addend, else to R11 */
};

#define JIT_OOL_MAX   (JIT_UNIT_INSNS * 4 + 2)
#define JIT_LAND_MAX  JIT_UNIT_INSNS
#define JIT_FAULT_MAX JIT_UNIT_INSNS

struct next_page {	    /* behind the one that is translated */
	const uint8_t *hva; /* NULL: not known */
	uint64_t gpa, n;    /* n: index in code->pages */
	uint32_t number, seq;
};

enum { IN_GPR = JIT_GROUPS };

struct jx { /* a translation under way */
	struct soft_cpu *cpu;
	struct jit *j;
	struct emit e;
	uint32_t mode;
	bool is64;
	unsigned mmu;
	unsigned off;		     /* page offset of the instruction */
	unsigned start_off, end_off; /* page offsets: the unit's first byte, behind its last one */
	const uint8_t *bytes;
	const ZydisDecodedInstruction *z;
	const ZydisDecodedOperand *op;
	unsigned limit;	   /* of instructions */
	unsigned n, count; /* index of the instruction in j->pre; how many there are */
	struct jx_group group[JIT_GROUPS];
	/* What is in that register beside: a group's addend, IN_GPR and a guest register that lies in the
	 * vCPU, or 0. */
	unsigned in_r10, in_rcx;
	int sp_off;	     /* guest RSP is this much more than its host register says */
	bool no_group;	     /* the instruction needs R11 for something else */
	bool fl_host, fl_ax; /* where the guest's flags are: EFLAGS, AX, or by the recipe; at least one */
	struct jx_recipe fl_rec;
	struct jit_unit *u;
	/* An instruction that goes on in the page behind is a unit of its own. */
	struct next_page next;
	bool straddles;
	uint8_t both[16]; /* its bytes */
	struct ool ool[JIT_OOL_MAX];
	unsigned nool;
	uint32_t land[JIT_LAND_MAX];
	unsigned nland;
	struct jit_fault fault[JIT_FAULT_MAX];
	unsigned nfault;
	bool fpu_known; /* the x87 unit holds the guest's state here */
	bool failed;	/* out of memory for what goes with the code */
};

#define CPU_OFF(member) offsetof(struct soft_cpu, member)
#define GPR_OFF(g)	(CPU_OFF(gpr) + 8 * (g))

/* ---- jit_cache.c ---- */
size_t
jit_full(struct jit *j); /* the lock is held: where what has become full since begins; j->large is its end */
void jit_settle(const struct jit *j, size_t from, size_t to);
void jit_insert(struct soft_code *c, struct jit_unit *u);
void jit_chain(struct soft_code *c, struct jit_exit *x, struct jit_unit *to);
/* ---- jit_common.c ---- */
void jit_emit_common(struct jit *j);
/* Jump to the unit at linear R10 when this vCPU's table has it. Returns the displacement of the branch that
 * is taken when it has not. */
uint8_t *jit_emit_lookup(struct emit *e, unsigned mmu);

/* ---- jit_flags.c ---- */
void jit_fl_save(struct jx *x);	      /* the flags are in AX (too) */
void jit_fl_save_early(struct jx *x); /* a save is to come, and cheaper before the check than by recipe */
void jit_fl_host(struct jx *x);	      /* the flags are in EFLAGS (too) */
void jit_fl_somewhere(struct jx *x);  /* the flags are in AX or EFLAGS */
void jit_fl_clobber(struct jx *x);    /* EFLAGS may be changed by what follows */
void jit_fl_set(struct jx *x);	      /* the guest's instruction has written them all, or was given them */
void jit_fl_note(struct jx *x);	      /* and may be done again */
bool jit_recipe_lost(const struct jx *x);		    /* the instruction writes what the recipe wants */
void jit_fl_forget(struct jx *x);			    /* is about to: do without it */
void jit_recipe(struct emit *e, const struct jx_recipe *r); /* the flags into EFLAGS; AX is lost */

/* ---- jit_mem.c: addresses, access to memory ---- */
/* A point to go back to when an instruction turns out not to be done in the way that was begun. */
struct jx_mark {
	uint8_t *p;
	unsigned nool, nfault;
	int sp_off;
	bool fl_host, fl_ax, fpu_known;
	struct jx_recipe fl_rec;
};
void jit_mark(const struct jx *x, struct jx_mark *m);
void jit_undo(struct jx *x, const struct jx_mark *m);
/* Make operand m, or what lies at a guest register (RSP, RBP) + disp, accessible: *at is it in host memory.
 * Uses R10, and RCX, which stays in use unless `one`. False: not done here. EFLAGS change. */
bool jit_operand(struct jx *x, const ZydisDecodedOperand *m, unsigned size, bool write, bool one,
		 struct em_at *at);
void jit_at(struct jx *x, unsigned g, int disp, unsigned size, bool write, bool one, struct em_at *at);
void jit_at_sp(struct jx *x, int disp, unsigned size, bool write, bool one, struct em_at *at);
/* Address parts of m + by to host register dst, without segment, in 64 or 32 bits. No flags. */
bool jit_emit_offset(struct jx *x, const ZydisDecodedOperand *m, int64_t by, unsigned dst, unsigned w);
/* Linear address of m + by to R10. Uses RCX, no flags. False: not done here. */
bool jit_emit_linear(struct jx *x, const ZydisDecodedOperand *m, int64_t by);
/* Copies in R10 and RCX of guest registers that lie in the vCPU: which one has g's, or EM_NONE; h has it now;
 * g is another one now. */
unsigned jit_copy(const struct jx *x, unsigned g);
void jit_copy_is(struct jx *x, unsigned h, unsigned g);
void jit_copy_drop(struct jx *x, unsigned g);
/* Guest register g, which has no host register, to h, R10 or RCX. */
void jit_copy_load(struct jx *x, unsigned h, unsigned g);
size_t jit_tag_off(const struct jx *x, bool write); /* of the TLB's tags, before the entry is added */
void jit_reg_load(struct jx *x, unsigned host, unsigned guest, unsigned w);
struct ool *jit_ool(struct jx *x, enum ool_kind kind, uint8_t *from);

bool jit_disp32_alone(const ZydisDecodedInstruction *z);

/* ---- jit_group.c ---- */
bool jit_has_access(const struct jx_insn *p);	/* to memory, by an operand */
void jit_analyse(struct jx *x, unsigned count); /* j->pre[0..count) */
/* Whether access `which` of the present instruction uses group *k, begins it (x->group[*k] is set; `moved`:
 * the one that was in R11 is in *moved from now on, when that is not 0), or neither. */
enum jit_group_how { GROUP_NO, GROUP_USE, GROUP_BEGIN };
enum jit_group_how jit_group_choose(struct jx *x, unsigned which, unsigned *k, unsigned *moved);
bool jit_group_covers(const struct jx *x, unsigned which); /* access `which` needs no check */
void jit_group_none(struct jx *x); /* R11, registers or mappings may be others from here */

/* ---- jit_isa.c ---- */
enum { KIND_NOT, KIND_PLAIN, KIND_TRAPS };
/* Is the instruction the host's own, may it trap there; *fpu: x87 or MMX. */
unsigned jit_insn_kind(const struct jx *x, bool *fpu);
enum { FLAGS_READ = 1, FLAGS_WRITTEN = 2 };
unsigned jit_insn_flags(const struct jx *x); /* FLAGS_READ also when some stay as they were */
bool jit_is_x87(const ZydisDecodedInstruction *z);

/* ---- jit_insn.c ---- */
/* The instruction by the host's own, with its registers and memory operand replaced. False: not that way. */
bool jit_generic(struct jx *x);

/* ---- jit_flow.c ---- */
enum jit_flow { FLOW_NOT /* none of these */, FLOW_NEXT, FLOW_END };
bool jit_is_jcc(const ZydisDecodedInstruction *z);
enum jit_flow jit_flow_insn(struct jx *x);
enum jit_flow jit_stack_insn(struct jx *x);
void jit_sp_settle(struct jx *x);			       /* RSP's host register is exact from here */
bool jit_sp_may_wait(const struct jx *x);		       /* the instruction does not care */
void jit_emit_goto(struct jx *x, int32_t target, uint32_t br); /* jump to a page offset; br: as jit_br */
void jit_emit_interp(struct jx *x, bool end);
void jit_emit_step(struct jx *x);
void jit_emit_ool(struct jx *x);

#endif
