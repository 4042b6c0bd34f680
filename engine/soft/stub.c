/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * x87, MMX, SSE, AVX and AVX-512, and the rarer integer instructions: executed on
 * the host's own units. Which ones is a whitelist by instruction set. Memory
 * operands are checked and copied by the engine; a stub sees only the copy, placed
 * with the guest's own alignment, so that the host's alignment check is the guest's.
 *
 * A fault inside a stub (alignment #GP, unmasked #XM, pending #MF, #DE) comes as a
 * signal on the vCPU's thread; the handler leaves the stub before any guest state
 * was stored, and the fault becomes the guest's.
 *
 * Stub code lies in a memory object mapped twice: writable, and executable.
 * Lock: pool->lock for lookup and creation.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include "engine/soft/jit.h"
#include "engine/soft/ops.h"
#include "engine/soft/stub.h"

#ifndef POOL_BYTES
#define POOL_BYTES (16 * MIB)
#endif
#define HASH_SIZE 8192u

struct soft_stub_pool {
	pthread_mutex_t lock;
	uint8_t *rw, *rx;
	size_t used;
	bool full;
	struct soft_stub *hash[HASH_SIZE];
	struct soft_cpu *scratch; /* for trying a fresh stub: does it want its operand aligned? */
};

void
soft_no_code_memory(struct err *err)
{
	int code = errno != 0 ? errno : ENOMEM;
	const char *hint = code == EACCES || code == EPERM ? " (noexec policy?)" : err_limit_hint(code);

	err_set(err, code, "soft engine: no memory for generated code: %s%s", strerror(code), hint);
}

struct soft_stub_pool *
soft_stub_pool_create(struct err *err)
{
	struct soft_stub_pool *p = calloc(1, sizeof(*p));
	int fd = memfd_create("lhyve-stubs", MFD_CLOEXEC);
	if (p == NULL || fd < 0 || ftruncate(fd, (off_t)POOL_BYTES) != 0)
		goto fail;
	p->rw = mmap(NULL, POOL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	p->rx = mmap(NULL, POOL_BYTES, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	if (p->rw == MAP_FAILED || p->rx == MAP_FAILED)
		goto fail;
	close(fd);
	p->scratch = soft_cpu_alloc();
	if (p->scratch == NULL)
		goto fail;
	pthread_mutex_init(&p->lock, NULL);
	soft_stub_signals();
	return p;
fail:
	soft_no_code_memory(err);
	if (fd >= 0)
		close(fd);
	free(p);
	return NULL;
}

void
soft_stub_reset(struct soft_stub_pool *p)
{
	for (unsigned n = 0; n < HASH_SIZE; n++) {
		while (p->hash[n] != NULL) {
			struct soft_stub *s = p->hash[n];
			p->hash[n] = s->next;
			free(s);
		}
	}
	p->used = 0;
	p->full = false;
}

void
soft_stub_pool_destroy(struct soft_stub_pool *p)
{
	if (p == NULL)
		return;
	soft_stub_reset(p);
	soft_cpu_free(p->scratch);
	munmap(p->rw, POOL_BYTES);
	munmap(p->rx, POOL_BYTES);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

bool
soft_stub_full(const struct soft_stub_pool *p)
{
	return p->full;
}

/* ---- running ---- */
static __thread struct soft_cpu *tls_stub_cpu;
static struct sigaction old_actions[NSIG];
extern const uint8_t soft_stub_fault[];

/* rdi: cpu, rsi: code, rdx: operand. Saves what the ABI wants kept; the fault exit comes back here too. */
__asm__(".text\n"
	".p2align 4\n"
	"soft_stub_call:\n\t"
	"push %rbx\n\tpush %rbp\n\tpush %r12\n\tpush %r13\n\tpush %r14\n\tpush %r15\n\t"
	"mov %rsp, (%rcx)\n\t"
	"test %r8d, %r8d\n\t"
	"jnz 2f\n\t"
	"call *%rsi\n\t"
	"xor %eax, %eax\n"
	"1:\tpop %r15\n\tpop %r14\n\tpop %r13\n\tpop %r12\n\tpop %rbp\n\tpop %rbx\n\t"
	"ret\n"
	"2:\tpushfq\n\torl $0x40000, (%rsp)\n\tpopfq\n\t" /* EFLAGS.AC for the guest that checks alignment */
	"call *%rsi\n\t"
	"pushfq\n\tandl $~0x40000, (%rsp)\n\tpopfq\n\t"
	"xor %eax, %eax\n\t"
	"jmp 1b\n"
	".globl soft_stub_fault\n"
	"soft_stub_fault:\n\t" /* rax: trap + 1, rsp restored by the handler */
	"fninit\n\t"
	"ldmxcsr (%rdx)\n\t"
	"cld\n\t"
	"jmp 1b\n");
unsigned soft_stub_call(struct soft_cpu *cpu, const uint8_t *code, uint8_t *membuf, void **rsp_slot, bool ac);

static void
on_signal(int sig, siginfo_t *si, void *ctx)
{
	ucontext_t *uc = ctx;
	greg_t *g = uc->uc_mcontext.gregs;
	__asm__ volatile("pushfq\n\tandl $~0x40000, (%%rsp)\n\tpopfq"
			 :
			 :
			 : "cc", "memory"); /* AC may be the guest's */
	struct soft_cpu *cpu = tls_stub_cpu;
	if (cpu == NULL && soft_jit_signal(ctx, si->si_addr))
		return;
	if (cpu != NULL) {
		unsigned trap = (unsigned)g[REG_TRAPNO];
		if (trap == EXC_XM && uc->uc_mcontext.fpregs != NULL)
			cpu->st.xs.mxcsr |= uc->uc_mcontext.fpregs->mxcsr & 0x3f;
		tls_stub_cpu = NULL;
		g[REG_RIP] = (greg_t)(uintptr_t)soft_stub_fault;
		g[REG_RSP] = (greg_t)(uintptr_t)cpu->stub_rsp;
		g[REG_RDX] = (greg_t)(uintptr_t)&cpu->host_mxcsr;
		g[REG_RAX] = (greg_t)trap + 1;
		g[REG_EFL] &= ~(greg_t)FL_AC;
		return;
	}
	/* Not ours: as if we were not here. The instruction faults again under the old action. */
	sigaction(sig, &old_actions[sig], NULL);
}

static void
install_signals(void)
{
	static const int sigs[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
	struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
	for (unsigned n = 0; n < ARRAY_LEN(sigs); n++)
		sigaction(sigs[n], &sa, &old_actions[sigs[n]]);
}

void
soft_stub_signals(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, install_signals);
}

unsigned
soft_stub_enter(struct soft_cpu *cpu, const uint8_t *code, uint8_t *membuf)
{
	unsigned r;
	tls_stub_cpu = cpu;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	r = soft_stub_call(cpu, code, membuf, &cpu->stub_rsp, cpu->ac_on);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	tls_stub_cpu = NULL;
	return r;
}

void
soft_check_units(struct soft_cpu *cpu, unsigned units)
{
	uint64_t cr0 = cpu->st.cr0, cr4 = cpu->st.cr4;
	if (units & (UNIT_AVX | UNIT_EVEX | UNIT_GPR_VEX)) {
		if (soft_is_real(cpu) || soft_is_vm86(cpu))
			soft_ud(cpu);
	}
	if (units & UNIT_AVX) {
		if (!(cr4 & CR4_OSXSAVE) || (cpu->st.xcr0 & 6) != 6)
			soft_ud(cpu);
	} else if (units & UNIT_EVEX) {
		if (!(cr4 & CR4_OSXSAVE) || (cpu->st.xcr0 & 0xe6) != 0xe6)
			soft_ud(cpu);
	} else if (units & UNIT_SSE) {
		if ((cr0 & CR0_EM) || !(cr4 & CR4_OSFXSR))
			soft_ud(cpu);
	}
	if ((units & UNIT_MMX) && (cr0 & CR0_EM))
		soft_ud(cpu);
	if (((units & UNIT_X87) && (cr0 & (CR0_EM | CR0_TS))) || ((units & ~UNIT_GPR_VEX) && (cr0 & CR0_TS)))
		soft_raise(cpu, EXC_NM);
}

/* The trap of a stub as the guest's exception. */
static void __attribute__((noreturn))
stub_trap(struct soft_cpu *cpu, const struct soft_stub *s, unsigned trap)
{
	if (trap == EXC_XM && (s->units & UNIT_MMX))
		soft_mmx_enter(cpu); /* the x87 unit is in MMX mode by then */
	if (trap == EXC_XM && !(cpu->st.cr4 & CR4_OSXMMEXCPT))
		soft_ud(cpu);
	if (trap == EXC_GP || trap == EXC_AC)
		soft_raise_err(cpu, trap, 0);
	if (trap == EXC_PF || trap > EXC_XM) /* a stub touches only its operand's copy */
		soft_unsupported(cpu, "host trap %u in generated code", trap);
	soft_raise(cpu, trap);
}

static void
load_operand(struct soft_cpu *cpu, uint64_t la, uint8_t *buf, unsigned n)
{
	const struct soft_tlb_entry *t = &cpu->dtlb->e[TLB_INDEX(la)];
	if (LIKELY(TLB_HIT(t->nr, la + n - 1)))
		memcpy(buf, t->page + (la & 0xfff), n);
	else
		soft_load_bytes(cpu, la, buf, n);
}

/* Which elements of a masked memory operand are touched. */
static uint64_t
mask_bits(struct soft_cpu *cpu, const struct soft_stub *s)
{
	uint64_t m = 0, r = 0;
	if (s->mask == MASK_VEC) {
		for (unsigned n = 0; n < s->elem_count; n++)
			m |= (uint64_t)(cpu->st.xs.vec[s->mask_reg][(n + 1) * s->elem_size - 1] >> 7) << n;
		return m;
	}
	m = cpu->st.xs.k[s->mask_reg] & (s->mask_count >= 64 ? ~0ull : (1ull << s->mask_count) - 1);
	if (s->mask == MASK_K_PACKED) {
		unsigned n = (unsigned)__builtin_popcountll(m);
		return n >= 64 ? ~0ull : (1ull << n) - 1;
	}
	for (unsigned n = 0; n < s->mask_count; n++) /* broadcasts: several mask bits an element */
		r |= (m >> n & 1) << (n % s->elem_count);
	return r;
}

static void
load_masked(struct soft_cpu *cpu, const struct soft_stub *s, uint64_t la, uint8_t *buf)
{
	uint64_t m = mask_bits(cpu, s);
	memset(buf, 0, s->mem_size);
	for (unsigned n = 0; n < s->elem_count; n++) {
		if (m >> n & 1)
			soft_load_bytes(cpu, la + n * s->elem_size, buf + n * s->elem_size, s->elem_size);
	}
}

static void
store_masked(struct soft_cpu *cpu, const struct soft_stub *s, uint64_t la, const uint8_t *buf, uint64_t m,
	     bool probe)
{
	for (unsigned n = 0; n < s->elem_count; n++) {
		if (!(m >> n & 1))
			continue;
		if (probe)
			soft_probe(cpu, la + n * s->elem_size, s->elem_size, true);
		else
			soft_store_bytes(cpu, la + n * s->elem_size, buf + n * s->elem_size, s->elem_size);
	}
}

/* x87 environment pointers are the guest's, never those of the stub. */
static void
fix_x87_pointers(struct soft_cpu *cpu, const struct soft_insn *i, const struct soft_stub *s, uint64_t la,
		 uint8_t *buf, const uint8_t before[32])
{
	memcpy(cpu->fximage + 6, before + 6, 18);
	switch (s->x87_kind) {
	case X87_COMPUTE:
		put_le16(cpu->fximage + 6, i->aux.v & 0x7ff);
		put_le64(cpu->fximage + 8, soft_insn_rip(cpu, i));
		if (s->mem_size)
			put_le64(cpu->fximage + 16, la);
		break;
	case X87_STENV16:
		put_le16(buf + 6, get_le16(before + 8));
		put_le16(buf + 8, 0);
		put_le16(buf + 10, get_le16(before + 16));
		put_le16(buf + 12, 0);
		break;
	case X87_STENV32:
		put_le32(buf + 12, get_le32(before + 8));
		put_le32(buf + 16, (uint32_t)get_le16(before + 6) << 16);
		put_le32(buf + 20, get_le32(before + 16));
		put_le32(buf + 24, 0xffff0000);
		break;
	default:
		break;
	}
}

/* The result in buf goes to guest memory. A device may make this leave and come back: x87 state, which the
 * instruction changed already, must then still be the old one. */
static void
store_result(struct soft_cpu *cpu, const struct soft_stub *s, uint64_t la, const uint8_t *buf, uint64_t m,
	     const uint8_t *fx_before)
{
	uint8_t after[160];
	bool fx = s->units & UNIT_FXSTATE;
	if (fx) {
		memcpy(after, cpu->fximage, sizeof(after));
		memcpy(cpu->fximage, fx_before, sizeof(after));
	}
	if (s->mask != MASK_NONE)
		store_masked(cpu, s, la, buf, m, false);
	else
		soft_store_bytes(cpu, la, buf, s->mem_size);
	if (fx)
		memcpy(cpu->fximage, after, sizeof(after));
}

static void
preload(struct soft_cpu *cpu, uint64_t la, uint8_t *buf, unsigned n)
{
	unsigned first = (unsigned)MIN(n, 0x1000 - (la & 0xfff));
	soft_peek(cpu, la, buf, first);
	if (first < n)
		soft_peek(cpu, la + first, buf + first, n - first);
}

static bool
canonical(const struct soft_cpu *cpu, uint64_t la)
{
	return !soft_long_mode(cpu) || soft_canonical(cpu, la);
}

OP(op_stub)
{
	const struct soft_stub *s = i->aux.p;
	_Alignas(64) uint8_t room[256];
	uint8_t fx_before[160], *buf = room;
	uint64_t la = 0, m = 0;
	unsigned trap;

	cpu->cur = i;
	soft_vec_sync(cpu);
	soft_check_units(cpu, s->units);
	if ((s->units & UNIT_FXSTATE) && (cpu->fximage[2] & 0x80) && !s->x87_nowait)
		soft_raise(cpu, EXC_MF); /* a pending exception comes before anything that this one does */
	if (s->mem_size) {
		la = soft_la(cpu, i, s->mem_size, s->mem_write);
		buf = room + (la & 63);
		if (s->mask != MASK_NONE)
			m = mask_bits(cpu, s);
		if (UNLIKELY(la & (s->align - 1u)) && (s->mask == MASK_NONE || m != 0))
			soft_gp(cpu, 0);
		if (UNLIKELY(cpu->ac_on) && (la & (s->ac_align - 1u)) && s->mask == MASK_NONE &&
		    canonical(cpu, la)) /* else that comes first, below */
			soft_raise_err(cpu, EXC_AC, 0);
		if (s->mask != MASK_NONE) {
			if (s->mem_read)
				load_masked(cpu, s, la, buf);
			if (s->mem_write && s->whole_check)
				soft_probe(cpu, la, s->mem_size, true);
			else if (s->mem_write)
				store_masked(cpu, s, la, buf, m, true);
		} else {
			if (s->mem_write)
				soft_probe(cpu, la, s->mem_size, true);
			if (s->mem_read)
				load_operand(cpu, la, buf, s->mem_size);
			else if (s->units &
				 UNIT_X87) /* an unmasked exception stores nothing: then the old bytes stay */
				preload(cpu, la, buf, s->mem_size);
		}
	}
	if (s->units & UNIT_FXSTATE)
		memcpy(fx_before, cpu->fximage, sizeof(fx_before));
	cpu->ctr.stub_calls++;
	trap = soft_stub_enter(cpu, s->code, buf);
	if (UNLIKELY(trap != 0))
		stub_trap(cpu, s, trap - 1);
	if (s->units & UNIT_X87)
		fix_x87_pointers(cpu, i, s, la, buf, fx_before);
	if (s->mem_write)
		store_result(cpu, s, la, buf, m, fx_before);
	DONE(cpu, i);
}

/* The pool is full: start over with empty caches. */
static OP(op_stub_full)
{
	cpu->want_flush = 1;
	soft_attn_set(cpu, ATTN_LEAVE);
	/* it did not run: not counted, not stepped, its interrupt shadow kept */
	cpu->tf_masked = 1;
	cpu->shadow = cpu->single_shadow;
	if (cpu->step_limited)
		cpu->step_left++;
	cpu->rip = soft_insn_rip(cpu, i);
	return NULL;
}

/* ---- choosing ---- */

/* The whitelist: by instruction set; what each needs. Zero: not taken. */
static unsigned
units_of(const ZydisDecodedInstruction *z)
{
	ZydisISASet s = z->mnemonic == ZYDIS_MNEMONIC_FISTTP ? ZYDIS_ISA_SET_X87 : z->meta.isa_set;
	bool evex = z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX,
	     vex = z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
	if (s >= ZYDIS_ISA_SET_AVX512BW_128 && s <= ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_512 &&
	    s != ZYDIS_ISA_SET_AVX512ER_512 && s != ZYDIS_ISA_SET_AVX512ER_SCALAR &&
	    s != ZYDIS_ISA_SET_AVX512PF_512 &&
	    (s < ZYDIS_ISA_SET_AVX512_4FMAPS_512 || s > ZYDIS_ISA_SET_AVX512_4VNNIW_512))
		return UNIT_EVEX;
	switch (s) {
	case ZYDIS_ISA_SET_X87:
	case ZYDIS_ISA_SET_FCMOV:
	case ZYDIS_ISA_SET_SSE3X87:
		return UNIT_X87;
	case ZYDIS_ISA_SET_PENTIUMMMX:
	case ZYDIS_ISA_SET_SSSE3MMX:
		return UNIT_MMX;
	case ZYDIS_ISA_SET_SSE2MMX:
		return UNIT_MMX;
	case ZYDIS_ISA_SET_SSE:
	case ZYDIS_ISA_SET_SSE2:
	case ZYDIS_ISA_SET_SSE3:
	case ZYDIS_ISA_SET_SSE4:
	case ZYDIS_ISA_SET_SSE4A:
	case ZYDIS_ISA_SET_SSSE3:
	case ZYDIS_ISA_SET_AES:
	case ZYDIS_ISA_SET_PCLMULQDQ:
	case ZYDIS_ISA_SET_SHA:
		return UNIT_SSE;
	case ZYDIS_ISA_SET_SSE42: /* CRC32 and POPCNT's cousin are integer instructions */
		return z->mnemonic == ZYDIS_MNEMONIC_CRC32 ? 0x100 : UNIT_SSE;
	case ZYDIS_ISA_SET_GFNI:
		return vex ? UNIT_AVX : UNIT_SSE;
	case ZYDIS_ISA_SET_AVX:
	case ZYDIS_ISA_SET_AVX2:
	case ZYDIS_ISA_SET_AVX2GATHER:
	case ZYDIS_ISA_SET_AVXAES:
	case ZYDIS_ISA_SET_AVX_GFNI:
	case ZYDIS_ISA_SET_AVX_VNNI:
	case ZYDIS_ISA_SET_F16C:
	case ZYDIS_ISA_SET_FMA:
	case ZYDIS_ISA_SET_VAES:
	case ZYDIS_ISA_SET_VPCLMULQDQ:
		return evex ? UNIT_EVEX : UNIT_AVX;
	case ZYDIS_ISA_SET_BMI1:
	case ZYDIS_ISA_SET_BMI2:
		return vex ? UNIT_GPR_VEX : 0x100;
	case ZYDIS_ISA_SET_ADOX_ADCX:
	case ZYDIS_ISA_SET_LZCNT:
	case ZYDIS_ISA_SET_POPCNT:
	case ZYDIS_ISA_SET_MOVBE:
		return 0x100; /* plain integer */
	default:
		break;
	}
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_FCOMI:
	case ZYDIS_MNEMONIC_FCOMIP:
	case ZYDIS_MNEMONIC_FUCOMI:
	case ZYDIS_MNEMONIC_FUCOMIP:
		return UNIT_X87;
	case ZYDIS_MNEMONIC_SHLD:
	case ZYDIS_MNEMONIC_SHRD:
	case ZYDIS_MNEMONIC_BSF:
	case ZYDIS_MNEMONIC_BSR:
		return 0x100;
	default:
		return 0;
	}
}

static bool
is_vec_reg(ZydisRegister r, unsigned *n)
{
	if (r >= ZYDIS_REGISTER_XMM0 && r <= ZYDIS_REGISTER_XMM31)
		*n = (unsigned)(r - ZYDIS_REGISTER_XMM0);
	else if (r >= ZYDIS_REGISTER_YMM0 && r <= ZYDIS_REGISTER_YMM31)
		*n = (unsigned)(r - ZYDIS_REGISTER_YMM0);
	else if (r >= ZYDIS_REGISTER_ZMM0 && r <= ZYDIS_REGISTER_ZMM31)
		*n = (unsigned)(r - ZYDIS_REGISTER_ZMM0);
	else
		return false;
	return true;
}

static void
add_reg(struct stub_build *b, unsigned *units, ZydisRegister r, bool write)
{
	unsigned n, off = soft_reg_offset(r);
	if (off != REG_NONE * 8) {
		if (off / 8 == X86_RSP) {
			b->rsp_sub = 0; /* chosen later */
			b->rsp_written |= write;
		} else {
			b->gpr_used |= (uint16_t)(1u << off / 8);
			b->gpr_written |= write ? (uint16_t)(1u << off / 8) : 0;
		}
	} else if (is_vec_reg(r, &n)) {
		b->vec_used |= 1u << n;
		b->vec_written |= write ? 1u << n : 0;
	} else if (r >= ZYDIS_REGISTER_K0 && r <= ZYDIS_REGISTER_K7) {
		b->k_used |= (uint8_t)(1u << (r - ZYDIS_REGISTER_K0));
		b->k_written |= write ? (uint8_t)(1u << (r - ZYDIS_REGISTER_K0)) : 0;
	} else if (r >= ZYDIS_REGISTER_MM0 && r <= ZYDIS_REGISTER_MM7) {
		*units |= UNIT_MMX;
	}
}

/* Registers named, visible or hidden; some instructions (4FMAPS) name runs, none of which are taken. */
static const ZydisDecodedOperand *
collect(const struct dctx *d, struct stub_build *b, unsigned *units)
{
	const ZydisDecodedOperand *mem = NULL;
	b->rsp_sub = -1;
	for (unsigned n = 0; n < d->z->operand_count; n++) {
		const ZydisDecodedOperand *op = &d->op[n];
		if (op->type == ZYDIS_OPERAND_TYPE_MEMORY)
			mem = op;
		else if (op->type == ZYDIS_OPERAND_TYPE_REGISTER)
			add_reg(b, units, op->reg.value, op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE);
	}
	b->flags = d->z->cpu_flags != NULL &&
		   (d->z->cpu_flags->tested | d->z->cpu_flags->modified | d->z->cpu_flags->set_0 |
		    d->z->cpu_flags->set_1 | d->z->cpu_flags->undefined) != 0;
	return mem;
}

/* Host registers for the vCPU and operand pointers, and RSP's stand-in: low ones for what ModRM names. */
static void
choose_hosts(struct stub_build *b)
{
	static const uint8_t low[] = {3, 6, 7, 5, 1, 0, 2}, high[] = {15, 14, 11, 10, 9, 8, 13};
	unsigned taken = b->gpr_used | (b->flags ? 1u : 0), n = 0;
	/* RDX brings the operand pointer and RDI the vCPU: the first moves are C <- RDI, M <- RDX */
	for (n = 0; taken >> high[n] & 1; n++)
		;
	b->creg = high[n];
	for (n = 0; (taken >> low[n] & 1); n++)
		;
	b->mreg = low[n];
	taken |= 1u << b->mreg;
	if (b->rsp_sub >= 0) {
		for (n = 0; (taken >> low[n] & 1); n++)
			;
		b->rsp_sub = low[n];
	}
}

/* The whole operand is read, whatever the mask: the SDM's "NF" classes, and what Zydis files elsewhere. */
static bool
no_fault_suppression(const ZydisDecodedInstruction *z)
{
	ZydisExceptionClass c = z->meta.exception_class;
	ZydisMnemonic m = z->mnemonic;
	return m == ZYDIS_MNEMONIC_VGF2P8AFFINEQB || m == ZYDIS_MNEMONIC_VGF2P8AFFINEINVQB ||
	       m == ZYDIS_MNEMONIC_VCVTNE2PS2BF16 || c == ZYDIS_EXCEPTION_CLASS_E1NF ||
	       c == ZYDIS_EXCEPTION_CLASS_E4NF || c == ZYDIS_EXCEPTION_CLASS_E5NF ||
	       c == ZYDIS_EXCEPTION_CLASS_E6NF || c == ZYDIS_EXCEPTION_CLASS_E9NF ||
	       c == ZYDIS_EXCEPTION_CLASS_E10NF;
}

/* VEXTRACTxx to memory checks the whole operand (class E6NF), though it stores by the mask. */
static bool
is_extract(ZydisMnemonic m)
{
	return m == ZYDIS_MNEMONIC_VEXTRACTF32X4 || m == ZYDIS_MNEMONIC_VEXTRACTF32X8 ||
	       m == ZYDIS_MNEMONIC_VEXTRACTF64X2 || m == ZYDIS_MNEMONIC_VEXTRACTF64X4 ||
	       m == ZYDIS_MNEMONIC_VEXTRACTI32X4 || m == ZYDIS_MNEMONIC_VEXTRACTI32X8 ||
	       m == ZYDIS_MNEMONIC_VEXTRACTI64X2 || m == ZYDIS_MNEMONIC_VEXTRACTI64X4;
}

static const uint8_t broadcast_to[ZYDIS_BROADCAST_MODE_MAX_VALUE + 1] = {
    [ZYDIS_BROADCAST_MODE_1_TO_2] = 2,	 [ZYDIS_BROADCAST_MODE_1_TO_4] = 4,
    [ZYDIS_BROADCAST_MODE_1_TO_8] = 8,	 [ZYDIS_BROADCAST_MODE_1_TO_16] = 16,
    [ZYDIS_BROADCAST_MODE_1_TO_32] = 32, [ZYDIS_BROADCAST_MODE_1_TO_64] = 64,
    [ZYDIS_BROADCAST_MODE_2_TO_4] = 4,	 [ZYDIS_BROADCAST_MODE_2_TO_8] = 8,
    [ZYDIS_BROADCAST_MODE_2_TO_16] = 16, [ZYDIS_BROADCAST_MODE_4_TO_8] = 8,
    [ZYDIS_BROADCAST_MODE_4_TO_16] = 16, [ZYDIS_BROADCAST_MODE_8_TO_16] = 16,
};

static void
describe_mask(const struct dctx *d, const ZydisDecodedOperand *mem, struct soft_stub *s)
{
	const ZydisDecodedInstruction *z = d->z;
	ZydisMnemonic m = z->mnemonic;
	unsigned reg;
	s->elem_size = (uint8_t)(mem->element_size / 8);
	s->elem_count = (uint8_t)(s->elem_size ? s->mem_size / s->elem_size : 0);
	if (m == ZYDIS_MNEMONIC_VMASKMOVPS || m == ZYDIS_MNEMONIC_VMASKMOVPD ||
	    m == ZYDIS_MNEMONIC_VPMASKMOVD || m == ZYDIS_MNEMONIC_VPMASKMOVQ) {
		s->mask = MASK_VEC;
		s->elem_size = m == ZYDIS_MNEMONIC_VMASKMOVPS || m == ZYDIS_MNEMONIC_VPMASKMOVD ? 4 : 8;
		s->elem_count = s->mem_size / s->elem_size;
		if (is_vec_reg(d->op[1].reg.value, &reg))
			s->mask_reg = (uint8_t)reg;
		return;
	}
	if (z->avx.mask.reg <= ZYDIS_REGISTER_K0 || z->avx.mask.reg > ZYDIS_REGISTER_K7 || s->elem_count == 0)
		return;
	if (no_fault_suppression(z) && s->mem_read)
		return;
	s->mask_reg = (uint8_t)(z->avx.mask.reg - ZYDIS_REGISTER_K0);
	s->mask = z->meta.category == ZYDIS_CATEGORY_COMPRESS || z->meta.category == ZYDIS_CATEGORY_EXPAND
		      ? MASK_K_PACKED
		      : MASK_K;
	s->mask_count = s->elem_count;
	s->whole_check = !s->mem_read && is_extract(z->mnemonic);
	if (z->avx.broadcast.mode != ZYDIS_BROADCAST_MODE_INVALID) {
		s->mask_count = broadcast_to[z->avx.broadcast.mode];
	} else if (s->mem_read && s->elem_count > 1 && d->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		   is_vec_reg(d->op[0].reg.value, &reg) && d->op[0].element_count != s->elem_count &&
		   s->mask != MASK_K_PACKED && z->meta.category != ZYDIS_CATEGORY_CONVERT) {
		s->mask =
		    MASK_NONE; /* no element of the operand belongs to one of the destination: read whole */
	}
}

unsigned
soft_x87_kind(const ZydisDecodedInstruction *z)
{
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_FNSTENV:
	case ZYDIS_MNEMONIC_FNSAVE:
		return z->operand_width == 16 ? X87_STENV16 : X87_STENV32;
	case ZYDIS_MNEMONIC_FLDENV:
	case ZYDIS_MNEMONIC_FRSTOR:
	case ZYDIS_MNEMONIC_FNSTCW:
	case ZYDIS_MNEMONIC_FNSTSW:
	case ZYDIS_MNEMONIC_FLDCW:
	case ZYDIS_MNEMONIC_FNINIT:
	case ZYDIS_MNEMONIC_FNCLEX:
	case ZYDIS_MNEMONIC_FWAIT:
		return X87_CONTROL;
	default:
		return X87_COMPUTE;
	}
}

static bool
x87_nowait(ZydisMnemonic m)
{
	return m == ZYDIS_MNEMONIC_FNINIT || m == ZYDIS_MNEMONIC_FNCLEX || m == ZYDIS_MNEMONIC_FNSTENV ||
	       m == ZYDIS_MNEMONIC_FNSAVE || m == ZYDIS_MNEMONIC_FNSTSW || m == ZYDIS_MNEMONIC_FNSTCW ||
	       m == ZYDIS_MNEMONIC_FENI8087_NOP || m == ZYDIS_MNEMONIC_FDISI8087_NOP ||
	       m == ZYDIS_MNEMONIC_FSETPM287_NOP;
}

static unsigned
hash_key(const struct soft_stub *s)
{
	uint64_t h = s->sig;
	for (unsigned n = 0; n < s->nbytes; n++)
		h = (h ^ s->bytes[n]) * 0x100000001b3ull;
	return (unsigned)(h ^ h >> 29) % HASH_SIZE;
}

/* Run a fresh stub on initial values. Returns as soft_stub_enter() does. */
static unsigned
try_stub(struct soft_stub_pool *p, const struct soft_stub *s, uint8_t *operand, bool ac)
{
	memset(&p->scratch->st.xs, 0, sizeof(p->scratch->st.xs));
	memset(p->scratch->gpr, 0, sizeof(p->scratch->gpr));
	memset(p->scratch->fximage, 0, sizeof(p->scratch->fximage));
	p->scratch->st.xs.mxcsr = p->scratch->host_mxcsr = 0x1f80;
	memset(p->scratch->st.xs.k, 0xff, sizeof(p->scratch->st.xs.k));
	put_le16(p->scratch->fximage, 0x37f);
	put_le32(p->scratch->fximage + 24, 0x1f80);
	p->scratch->ac_on = ac;
	return soft_stub_enter(p->scratch, s->code, operand);
}

/* Does the instruction itself check its operand's alignment? Ask the host, with one that is misaligned. */
static uint8_t
alignment_of(struct soft_stub_pool *p, const struct soft_stub *s)
{
	_Alignas(64) uint8_t room[256] = {0};
	if (s->mem_size < 16 || !(s->units & UNIT_VECTOR))
		return 1;
	return try_stub(p, s, room + s->mem_size / 2, false) == EXC_GP + 1 ? s->mem_size : 1;
}

/* What EFLAGS.AC makes the host check. */
static uint8_t
ac_alignment_of(struct soft_stub_pool *p, const struct soft_stub *s)
{
	_Alignas(64) uint8_t room[256] = {0};
	unsigned a = 1;
	if (s->mem_size < 2)
		return 1;
	while (a < 64 && try_stub(p, s, room + a, true) == EXC_AC + 1)
		a *= 2;
	return (uint8_t)a;
}

/* #UD of an instruction that the host has not comes before its operand is looked at. */
static bool
is_missing(struct soft_stub_pool *p, const struct soft_stub *s)
{
	_Alignas(64) uint8_t room[256] = {0};
	return try_stub(p, s, room, false) == EXC_UD + 1;
}

static const struct soft_stub *
intern(struct soft_stub_pool *p, const struct soft_stub *key, const struct stub_build *b)
{
	unsigned h = hash_key(key);
	uint8_t code[STUB_CODE_MAX];
	pthread_mutex_lock(&p->lock);
	struct soft_stub *s = p->hash[h];
	while (s != NULL && (s->sig != key->sig || s->nbytes != key->nbytes ||
			     memcmp(s->bytes, key->bytes, s->nbytes) != 0))
		s = s->next;
	if (s == NULL) {
		unsigned n = soft_stub_emit(b, key->units, code);
		s = malloc(sizeof(*s));
		if (s == NULL || p->used + n > POOL_BYTES) {
			p->full = true;
			free(s);
			s = NULL;
		} else {
			*s = *key;
			memcpy(p->rw + p->used, code, n);
			s->code = p->rx + p->used;
			s->missing = is_missing(p, s);
			s->align = alignment_of(p, s);
			s->ac_align = ac_alignment_of(p, s);
			p->used = (size_t)align_up(p->used + n, 16);
			s->next = p->hash[h];
			p->hash[h] = s;
		}
	}
	pthread_mutex_unlock(&p->lock);
	return s;
}

/* Decoded by Zydis, but neither an instruction of the offered CPUID nor one that we take: #UD as on such a
 * processor. */
static enum soft_decode
not_taken(struct dctx *d)
{
	d->o->fn = op_ud;
	return DECODE_END;
}

static bool
is_pcmpstr(ZydisMnemonic m)
{
	return m == ZYDIS_MNEMONIC_PCMPISTRI || m == ZYDIS_MNEMONIC_PCMPISTRM ||
	       m == ZYDIS_MNEMONIC_PCMPESTRI || m == ZYDIS_MNEMONIC_PCMPESTRM ||
	       m == ZYDIS_MNEMONIC_VPCMPISTRI || m == ZYDIS_MNEMONIC_VPCMPISTRM ||
	       m == ZYDIS_MNEMONIC_VPCMPESTRI || m == ZYDIS_MNEMONIC_VPCMPESTRM;
}

/* Outside 64-bit mode there are no 64-bit elements to move to general registers; AMD faults, Intel ignores W.
 */
static bool
legacy_w1(const struct dctx *d)
{
	ZydisMnemonic m = d->z->mnemonic;
	return (d->mode & MODE_CS) != MODE_64 && d->z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX &&
	       d->z->raw.vex.W &&
	       (m == ZYDIS_MNEMONIC_VPINSRD || m == ZYDIS_MNEMONIC_VPEXTRD || m == ZYDIS_MNEMONIC_VPINSRQ ||
		m == ZYDIS_MNEMONIC_VPEXTRQ) &&
	       x86_cpuid_is_amd(d->cpu->cpuid);
}

enum soft_decode
soft_stub_decode(struct dctx *d)
{
	struct stub_build b = {0};
	struct soft_stub key = {0};
	unsigned units = units_of(d->z);
	soft_vec_sync(d->cpu); /* a fresh stub is tried */
	switch (d->z->meta.category) {
	case ZYDIS_CATEGORY_AVX2GATHER:
	case ZYDIS_CATEGORY_GATHER:
		return units ? soft_decode_gather(d, false) : not_taken(d);
	case ZYDIS_CATEGORY_SCATTER:
		return units ? soft_decode_gather(d, true) : not_taken(d);
	default:
		break;
	}
	if (units == 0 || d->z->encoding == ZYDIS_INSTRUCTION_ENCODING_3DNOW)
		return not_taken(d);
	switch (d->z->mnemonic) {
	case ZYDIS_MNEMONIC_MASKMOVQ:
	case ZYDIS_MNEMONIC_MASKMOVDQU:
	case ZYDIS_MNEMONIC_VMASKMOVDQU:
		return soft_decode_maskmov(d, d->z->mnemonic == ZYDIS_MNEMONIC_MASKMOVQ);
	case ZYDIS_MNEMONIC_VZEROALL:
	case ZYDIS_MNEMONIC_VZEROUPPER:
		d->o->fn = op_vzero;
		d->o->imm2 = d->z->mnemonic == ZYDIS_MNEMONIC_VZEROALL;
		return DECODE_OK;
	default:
		break;
	}
	if (legacy_w1(d))
		return not_taken(d);
	const ZydisDecodedOperand *mem = collect(d, &b, &units);
	choose_hosts(&b);
	if (mem != NULL && mem->mem.type == ZYDIS_MEMOP_TYPE_MEM) {
		soft_decode_mem(d, mem);
		key.mem_size = (uint8_t)(mem->size / 8);
		key.mem_read = mem->actions & ZYDIS_OPERAND_ACTION_MASK_READ;
		if (is_pcmpstr(d->z->mnemonic))
			key.mem_size = 16;
		key.mem_write = mem->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
		describe_mask(d, mem, &key);
	}
	if (!soft_stub_rewrite(d, &b) || b.insn_len > sizeof(key.bytes))
		return not_taken(d);
	memcpy(key.bytes, b.insn, b.insn_len);
	key.nbytes = (uint8_t)b.insn_len;
	key.units = (uint8_t)units;
	if (units & UNIT_X87) {
		key.x87_kind = (uint8_t)soft_x87_kind(d->z);
		key.x87_nowait = x87_nowait(d->z->mnemonic);
		d->o->aux.v = (uint64_t)(d->z->opcode & 7) << 8 | d->bytes[d->z->raw.modrm.offset];
	}
	key.sig = key.mem_size | (uint64_t)key.units << 8 | (uint64_t)key.mem_read << 16 |
		  (uint64_t)key.mem_write << 17 | (uint64_t)key.mask << 18 | (uint64_t)(b.rsp_sub + 1) << 20 |
		  (uint64_t)key.mask_reg << 24 | (uint64_t)key.elem_size << 32 |
		  (uint64_t)key.elem_count << 40 | (uint64_t)key.mask_count << 48 |
		  (uint64_t)key.x87_kind << 56 | (uint64_t)((d->mode & MODE_CS) == MODE_64) << 63;
	uint64_t fop = d->o->aux.v;
	d->o->aux.p = (void *)(uintptr_t)intern(d->cpu->vm->stubs, &key, &b);
	d->o->aux.v = fop;
	d->o->fn = d->o->aux.p != NULL ? op_stub : op_stub_full;
	if (d->o->fn == op_stub && ((const struct soft_stub *)d->o->aux.p)->missing)
		return not_taken(d);
	return d->o->fn == op_stub ? DECODE_OK : DECODE_END;
}
