/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The routines that all translated code shares, generated once a VM: entering and
 * leaving, calls into the interpreter, the slow path of memory accesses, lookups.
 *
 *   entering     C stack -> jit_csp, guest registers into host registers, RSP = the return stack
 *   leaving      the reverse; EAX = enum jit_reason
 *
 * All of them want the flags in AX.
 */
#include <sys/platform/x86.h>
#include "engine/soft/jit_int.h"

const uint8_t jit_host[16] = {H_R9, H_R15,   H_RDX,   H_RBX,   H_R14,	H_RBP, H_RSI, H_RDI,
			      H_R8, EM_NONE, EM_NONE, EM_NONE, EM_NONE, H_R13, H_R12, EM_NONE};

static void
save_gprs(struct emit *e)
{
	for (unsigned g = 0; g < 16; g++) {
		if (jit_host[g] != EM_NONE)
			em_gs_store(e, jit_host[g], GPR_OFF(g));
	}
}

static void
load_gprs(struct emit *e, bool all)
{
	for (unsigned g = 0; g < 16; g++) {
		unsigned h = jit_host[g];
		bool kept = h == H_RBX || h == H_RBP || h >= H_R12;
		if (h != EM_NONE && (all || !kept))
			em_gs_load(e, h, GPR_OFF(g));
	}
}

static void
save_flags(struct emit *e)
{
	em_8(e, 0x66); /* mov gs:[fl], ax */
	em_gs(e, 0, 0x89, H_RAX, CPU_OFF(fl));
}

static void
load_flags(struct emit *e)
{
	em_8(e, 0x65); /* movzx eax, word gs:[fl] */
	em_8(e, 0x0f);
	em_8(e, 0xb7);
	em_8(e, H_RAX << 3 | 4);
	em_8(e, 0x25);
	em_32(e, (uint32_t)CPU_OFF(fl));
}

static void
call_c(struct emit *e, uintptr_t fn)
{
	em_mov_imm64(e, H_RAX, fn);
	em_8(e, 0xff); /* call rax */
	em_8(e, 0xd0);
}

/* RSP += n, flags whatever */
static void
drop_rsp(struct emit *e, unsigned n)
{
	em_lea(e, 1, H_RSP, H_RSP, EM_NONE, 0, (int32_t)n);
}

/* vmovdqu or movdqu of vector register r at [R11 + where it lies in the state] */
static void
mov_vec(struct emit *e, bool store, unsigned r, int level)
{
	uint32_t disp = (uint32_t)(CPU_OFF(st.xs.vec) + 64 * r);
	if (level == 2) {
		em_8(e, 0x62);
		em_8(e, 1 | (r & 8 ? 0 : 0x80) | 0x40 | (r & 16 ? 0 : 0x10));
		em_8(e, 0xfe);
		em_8(e, 0x48);
	} else if (level == 1) {
		em_vex3(e, r, 0, H_R11, 1, 0, 0, 1, 2);
	} else {
		em_8(e, 0xf3);
		em_8(e, 0x41 | (r >> 3) << 2);
		em_8(e, 0x0f);
	}
	em_8(e, store ? 0x7f : 0x6f);
	em_8(e, 0x80 | (r & 7) << 3 | (H_R11 & 7));
	em_32(e, disp);
}

static int
vec_level(void)
{
	return CPU_FEATURE_ACTIVE(AVX512BW) ? 2 : CPU_FEATURE_ACTIVE(AVX) ? 1 : 0;
}

static void
mov_k(struct emit *e, bool store, unsigned k)
{
	em_vex3(e, k, 0, H_R11, 1, 1, 0, 0, 0);
	em_8(e, store ? 0x91 : 0x90);
	em_8(e, 0x80 | k << 3 | (H_R11 & 7));
	em_32(e, (uint32_t)(CPU_OFF(st.xs.k) + 8 * k));
}

static void
mov_mxcsr(struct emit *e, unsigned n, size_t disp)
{
	em_8(e, 0x41);
	em_8(e, 0x0f);
	em_8(e, 0xae);
	em_8(e, 0x80 | n << 3 | (H_R11 & 7));
	em_32(e, (uint32_t)disp);
}

/* All vector state between the registers and cpu->st; R11 = the vCPU. */
static void
vec_all(struct emit *e, bool store)
{
	int level = vec_level();
	for (unsigned r = 0; r < (level == 2 ? 32u : 16u); r++)
		mov_vec(e, store, r, level);
	for (unsigned k = 0; k < 8 && level == 2; k++)
		mov_k(e, store, k);
	if (store)
		mov_mxcsr(e, 3, CPU_OFF(st.xs.mxcsr));
	mov_mxcsr(e, 2, store ? CPU_OFF(host_mxcsr) : CPU_OFF(st.xs.mxcsr));
	if (store && level > 0) { /* vzeroupper */
		em_8(e, 0xc5);
		em_8(e, 0xf8);
		em_8(e, 0x77);
	}
}

/* When the vector state lies in cpu->st, load it. Changes R11, flags. */
static void
vec_load_if_out(struct emit *e)
{
	em_8(e, 0x65); /* cmp byte gs:[vec_live], 0 */
	em_8(e, 0x80);
	em_8(e, 0x3c);
	em_8(e, 0x25);
	em_32(e, (uint32_t)CPU_OFF(vec_live));
	em_8(e, 0);
	uint8_t *skip = em_jcc(e, 5, e->p);
	em_gs_load(e, H_R11, CPU_OFF(self));
	vec_all(e, false);
	em_8(e, 0x65); /* mov byte gs:[vec_live], 1 */
	em_8(e, 0xc6);
	em_8(e, 0x04);
	em_8(e, 0x25);
	em_32(e, (uint32_t)CPU_OFF(vec_live));
	em_8(e, 1);
	em_patch(skip, e->p);
}

static void
to_c_stack(struct emit *e)
{
	em_gs_store(e, H_RSP, CPU_OFF(jit_sp));
	em_gs_load(e, H_RSP, CPU_OFF(jit_csp));
}

/* Back to the caller of enter; registers are saved, RSP is the C stack's. EAX: the reason. */
static void
emit_return(struct emit *e)
{
	static const uint8_t kept[] = {H_R15, H_R14, H_R13, H_R12, H_RBP, H_RBX};
	drop_rsp(e, 8);
	for (unsigned n = 0; n < sizeof(kept); n++)
		em_pop(e, kept[n]);
	em_8(e, 0xc3);
}

/* unsigned enter(cpu, code): code in the executable mapping */
static void
emit_enter(struct emit *e)
{
	static const uint8_t kept[] = {H_RBX, H_RBP, H_R12, H_R13, H_R14, H_R15};
	for (unsigned n = 0; n < sizeof(kept); n++)
		em_push(e, kept[n]);
	drop_rsp(e, (unsigned)-8);
	em_gs_store(e, H_RSP, CPU_OFF(jit_csp));
	em_gs_store(e, H_RSI, CPU_OFF(jit_code));
	vec_load_if_out(e);
	load_flags(e);
	em_mov(e, 0, H_RCX, H_RAX); /* in EFLAGS as well, for units that want them there */
	em_fl_load(e);
	em_mov(e, 0, H_RAX, H_RCX);
	load_gprs(e, true);
	em_gs_load(e, H_R10,
		   CPU_OFF(rip)); /* another vCPU may drop the unit now: then this leads to the lookup */
	em_gs_load(e, H_RSP, CPU_OFF(jit_sp));
	em_8(e, 0x65); /* jmp gs:[jit_code] */
	em_8(e, 0xff);
	em_8(e, 0x24);
	em_8(e, 0x25);
	em_32(e, (uint32_t)CPU_OFF(jit_code));
}

/* Leave for `reason`; where = H_R10: the linear RIP, H_R11: a page offset or an exit. */
static void
emit_leave(struct emit *e, enum jit_reason reason)
{
	save_gprs(e);
	save_flags(e);
	switch (reason) {
	case JX_LOOKUP:
		em_gs_store(e, H_R10, CPU_OFF(rip));
		break;
	case JX_CHAIN:
		em_gs_store(e, H_R11, CPU_OFF(jit_exit));
		break;
	default:
		em_gs_load(e, H_RCX, CPU_OFF(jit_pagebase));
		em_lea(e, 1, H_R11, H_R11, H_RCX, 0, 0);
		em_gs_store(e, H_R11, CPU_OFF(rip));
		break;
	}
	to_c_stack(e);
	em_mov_imm32(e, H_RAX, reason);
	emit_return(e);
}

/* To a C function of the vCPU, a linear address and SLOW_*: from R10 and RCX. ZF: it said no. */
static void
call_slow(struct emit *e, uintptr_t fn)
{
	save_gprs(e);
	save_flags(e);
	drop_rsp(e, 8); /* it stays where it lies: the C code has another stack */
	to_c_stack(e);
	em_gs_store(e, H_R11, CPU_OFF(jit_r11));
	em_gs_load(e, H_RDI, CPU_OFF(self));
	em_mov(e, 1, H_RSI, H_R10);
	em_mov(e, 0, H_RDX, H_RCX);
	call_c(e, fn);
	em_8(e, 0x84); /* test al, al */
	em_8(e, 0xc0);
}

/* Back from there into the unit; no flags. */
static void
return_slow(struct emit *e)
{
	em_gs_load(e, H_RSP, CPU_OFF(jit_sp));
	drop_rsp(e, (unsigned)-8);
	load_flags(e);
	load_gprs(e, false);
}

/* Memory slow path. Gives RCX so that [R10 + RCX] may be used; R11 stays. */
static void
emit_slow(struct emit *e)
{
	call_slow(e, (uintptr_t)soft_jit_slow);
	uint8_t *bail = em_jcc(e, 4, e->p);
	return_slow(e);
	em_gs_load(e, H_R10, CPU_OFF(jit_la));
	em_gs_load(e, H_RCX, CPU_OFF(jit_addend));
	em_gs_load(e, H_R11, CPU_OFF(jit_r11));
	em_8(e, 0xc3);
	em_patch(bail, e->p);
	em_mov_imm32(e, H_RAX, JX_STEP);
	emit_return(e);
}

/* A group's slow path. Gives R10, what is to be added, or ZF: it cannot be. */
static void
emit_group(struct emit *e)
{
	call_slow(e, (uintptr_t)soft_jit_group);
	return_slow(e);
	em_gs_load(e, H_R10, CPU_OFF(jit_addend));
	em_gs_load(e, H_R11, CPU_OFF(jit_r11));
	em_8(e, 0xc3);
}

/* R11 = the instruction. end: it does not come back to the code behind. */
static void
emit_interp(struct emit *e, bool end)
{
	uint8_t *gone = NULL;
	save_gprs(e);
	save_flags(e);
	if (!end)
		drop_rsp(e, 8); /* what the interpreter leaves by a long jump is gone */
	to_c_stack(e);
	em_gs_load(e, H_RDI, CPU_OFF(self));
	em_mov(e, 1, H_RSI, H_R11);
	call_c(e, (uintptr_t)soft_jit_interp);
	if (!end) {
		em_8(e, 0x84);
		em_8(e, 0xc0);
		gone = em_jcc(e, 4, e->p);
		em_gs_load(e, H_RSP, CPU_OFF(jit_sp));
		drop_rsp(e, (unsigned)-8);
		vec_load_if_out(e);
		load_flags(e);
		load_gprs(e, true);
		em_8(e, 0xc3);
		em_patch(gone, e->p);
	}
	em_mov_imm32(e, H_RAX, JX_LEAVE);
	emit_return(e);
}

uint8_t *
jit_emit_lookup(struct emit *e, unsigned mmu)
{
	size_t t = CPU_OFF(jit_jc) + mmu * sizeof(((struct soft_cpu *)NULL)->jit_jc[0]);
	em_rorx(e, H_R11, H_R10, 64 - JIT_JC_SHIFT); /* JIT_JC_INDEX() */
	em_rr(e, 0, 0x31, H_R10, H_R11);	     /* xor r11d, r10d */
	em_alu_imm(e, 0, 4, H_R11, (JIT_JC_SIZE - 1) << JIT_JC_SHIFT);
	em_gsi(e, 1, 0x3b, H_R10, H_R11, t + offsetof(struct jit_jc, rip)); /* cmp */
	uint8_t *miss = em_jcc(e, 5, e->p);
	em_gsi(e, 1, 0x8b, H_RCX, H_R11, t + offsetof(struct jit_jc, pagebase));
	em_gs_store(e, H_RCX, CPU_OFF(jit_pagebase));
	em_gsi(e, 0, 0xff, 4, H_R11, t + offsetof(struct jit_jc, entry)); /* jmp */
	return miss;
}

/*
 * R11 = an exit to another page, whose unit is not known, or whose page is elsewhere now. miss: jit_pagebase
 * is the branch's own page; else that of the target, where the unit was dropped.
 */
static void
emit_far(struct jit *j, struct emit *e, bool miss)
{
	if (miss) {
		em_8(e, 0x49); /* cmp qword [r11 + next_in], 0 */
		em_8(e, 0x83);
		em_8(e, 0x80 | 7 << 3 | (H_R11 & 7));
		em_32(e, (uint32_t)offsetof(struct jit_exit, next_in));
		em_8(e, 0);
		em_jcc(e, 4, j->c.chain);
	}
	em_mem(e, 0, 0x8b, H_RCX, H_R11, (int32_t)offsetof(struct jit_exit, br));
	em_gs(e, 0, 0x89, H_RCX, CPU_OFF(jit_br));
	em_mem(e, 1, 0x63, H_RCX, H_R11, (int32_t)offsetof(struct jit_exit, target)); /* movsxd */
	if (!miss)
		em_alu_imm(e, 0, 4, H_RCX, 0xfff);
	em_gs_load(e, H_R10, CPU_OFF(jit_pagebase));
	em_lea(e, 1, H_R10, H_R10, H_RCX, 0, 0);
	em_gs(e, 1, 0x23, H_R10, CPU_OFF(ip_mask)); /* and */
	em_jmp(e, 0xe9, j->c.lookup);
}

static const uint8_t *
begin(struct emit *e)
{
	while ((uintptr_t)e->p & 15)
		em_8(e, 0xcc);
	return e->p;
}

/* A trap in translated code: the handler saved all, and RSP is still the return stack's. */
static void
emit_fault(struct emit *e)
{
	to_c_stack(e);
	em_mov_imm32(e, H_RAX, JX_STEP);
	emit_return(e);
}

/* The return stack is empty: begin again, and find the target by its address. */
static void
emit_underflow(struct jit *j, struct emit *e)
{
	em_gs_load(e, H_RSP, CPU_OFF(jit_sp_top));
	em_jmp(e, 0xe9, j->c.lookup);
}

static void
set_fpu_out(struct emit *e, unsigned v)
{
	em_8(e, 0x41); /* mov byte [r11 + fpu_out], v */
	em_8(e, 0xc6);
	em_8(e, 0x80 | (H_R11 & 7));
	em_32(e, (uint32_t)CPU_OFF(fpu_out));
	em_8(e, v);
}

/* void vec_save(cpu): vector and x87 state to cpu. The last x87 instruction's opcode and pointers are those
 * that translated code noted in fximage, not the host's. */
static void
emit_vec_save(struct emit *e)
{
	static const uint8_t keep[] = {H_RAX, H_RCX, H_RDX};
	em_mov(e, 1, H_R11, H_RDI);
	vec_all(e, true);
	em_8(e, 0x41); /* cmp byte [r11 + fpu_out], 0 */
	em_8(e, 0x80);
	em_8(e, 0x80 | 7 << 3 | (H_R11 & 7));
	em_32(e, (uint32_t)CPU_OFF(fpu_out));
	em_8(e, 0);
	uint8_t *out = em_jcc(e, 5, e->p);
	for (unsigned n = 0; n < 3; n++)
		em_mem(e, 1, 0x8b, keep[n], H_R11, (int32_t)CPU_OFF(fximage) + 8 * (int32_t)n);
	em_8(e, 0x49); /* fxsave64 [r11 + fximage] */
	em_8(e, 0x0f);
	em_8(e, 0xae);
	em_8(e, 0x80 | (H_R11 & 7));
	em_32(e, (uint32_t)CPU_OFF(fximage));
	em_8(e, 0xdb); /* fninit */
	em_8(e, 0xe3);
	/* bytes 0-5 are the host's, 6 and 7 what was kept */
	em_8(e, 0x48); /* shr rax, 48 */
	em_8(e, 0xc1);
	em_8(e, 0xe8);
	em_8(e, 48);
	em_8(e, 0x66);
	em_mem(e, 0, 0x89, H_RAX, H_R11, (int32_t)CPU_OFF(fximage) + 6);
	em_mem(e, 1, 0x89, H_RCX, H_R11, (int32_t)CPU_OFF(fximage) + 8);
	em_mem(e, 1, 0x89, H_RDX, H_R11, (int32_t)CPU_OFF(fximage) + 16);
	set_fpu_out(e, 1);
	em_patch(out, e->p);
	em_8(e, 0xc3);
}

/* The guest's x87 state, and nothing else, into the host's unit. Changes RCX, R10; no flags. */
static void
emit_fpu_load(struct emit *e)
{
	em_gs_store(e, H_R11, CPU_OFF(jit_r11));
	em_gs_load(e, H_R11, CPU_OFF(self));
	em_mov(e, 1, H_RCX, H_RAX);
	em_mov(e, 1, H_R10, H_RDX);
	em_mov_imm32(e, H_RAX, 1);
	em_mov_imm32(e, H_RDX, 0);
	em_8(e, 0x49); /* xrstor64 [r11 + fximage] */
	em_8(e, 0x0f);
	em_8(e, 0xae);
	em_8(e, 0x80 | 5 << 3 | (H_R11 & 7));
	em_32(e, (uint32_t)CPU_OFF(fximage));
	em_mov(e, 1, H_RAX, H_RCX);
	em_mov(e, 1, H_RDX, H_R10);
	set_fpu_out(e, 0);
	em_gs_load(e, H_R11, CPU_OFF(jit_r11));
	em_8(e, 0xc3);
}

void
jit_emit_common(struct jit *j)
{
	struct emit e = {.p = j->rw};
	struct jit_common *c = &j->c;
	c->enter = begin(&e);
	emit_enter(&e);
	c->lookup = begin(&e);
	c->stale = c->lookup; /* R10 is the target there as well */
	emit_leave(&e, JX_LOOKUP);
	c->chain = begin(&e);
	emit_leave(&e, JX_CHAIN);
	c->far_miss = begin(&e);
	emit_far(j, &e, true);
	c->far_stub = begin(&e);
	emit_far(j, &e, false);
	c->leave = begin(&e);
	emit_leave(&e, JX_LEAVE);
	c->step = begin(&e);
	emit_leave(&e, JX_STEP);
	c->slow = begin(&e);
	emit_slow(&e);
	c->group = begin(&e);
	emit_group(&e);
	c->interp = begin(&e);
	emit_interp(&e, false);
	c->interp_end = begin(&e);
	emit_interp(&e, true);
	c->underflow = begin(&e);
	emit_underflow(j, &e);
	c->fault = begin(&e);
	emit_fault(&e);
	c->fpu_load = begin(&e);
	emit_fpu_load(&e);
	c->vec_save = begin(&e);
	emit_vec_save(&e);
	begin(&e);
	j->nowhere.entry = jit_rx(j, c->lookup);
	j->used = (size_t)(e.p - j->rw);
}
