/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How it works: raise() enters the handler on its own stack; the handler keeps the interrupted context,
 * writes the instruction's state over it with TF set, and returns. The kernel loads all of it, the processor
 * runs one instruction, and its trap or fault enters the handler again, which takes the state out and puts
 * the first context back. rt_sigreturn(2) restores general registers, flags, CS and SS, and the whole XSAVE
 * area (SDM vol. 1 13.4: standard format; a component whose XSTATE_BV bit is clear is in its initial state).
 *
 * Code is written through a second, not executable mapping, data through a second one that is always
 * writable.
 */
#include "tests/native/oracle.h"

#include <cpuid.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ucontext.h>
#include <unistd.h>
#include "base/util.h"

enum {
	XS_MAGIC1 = 0x46505853,
	XS_SW = 464,
	XS_BV = 512,
	XS_AREA_MAX = 16384,
	XC_X87 = 1,
	XC_SSE = 2,
	XC_AVX = 4,
	XC_K = 0x20,
	XC_ZMM_HI = 0x40,
	XC_HI16 = 0x80,
	XC_OURS = XC_X87 | XC_SSE | XC_AVX | XC_K | XC_ZMM_HI | XC_HI16,
	FLAGS_IN = FL_ARITH | FL_DF | FL_AC,
};

static const int signals[] = {SIGUSR1, SIGTRAP, SIGSEGV, SIGBUS, SIGFPE, SIGILL};

static struct {
	uint8_t *code, *data; /* the writable mappings */
	uint64_t components;
	uint32_t offset[8]; /* of XSAVE components */
	void *stack;
	struct sigaction old[ARRAY_LEN(signals)];
	struct oracle_state *running; /* the instruction's state while it runs */
	bool whole;		      /* not one instruction, but on until an exception */
	gregset_t saved_regs;
	uint8_t saved_xsave[XS_AREA_MAX];
	uint32_t xsave_size;
} o;

uint64_t
oracle_xcr0(void)
{
	return o.components;
}

unsigned
oracle_vector_bytes(void)
{
	return o.components & XC_ZMM_HI ? 64 : o.components & XC_AVX ? 32 : 16;
}

unsigned
oracle_vector_count(void)
{
	return o.components & XC_HI16 ? 32 : 16;
}

uint32_t
oracle_mxcsr_mask(void)
{
	_Alignas(16) uint8_t fx[512] = {0};
	uint32_t mask;

	__asm__ volatile("fxsave64 %0" : "=m"(fx));
	mask = get_le32(fx + 28);
	return mask != 0 ? mask : 0xffbf;
}

/* State into the signal frame's XSAVE area. */
static void
xsave_put(const struct x86_xstate *x, uint8_t *area)
{
	uint64_t bv;

	memcpy(area, x->fx, sizeof(x->fx));
	put_le32(area + 24, x->mxcsr);
	for (unsigned i = 0; i < 16; i++)
		memcpy(area + 160 + 16 * i, x->vec[i], 16);
	memcpy(&bv, area + XS_BV, 8);
	bv |= o.components;
	memcpy(area + XS_BV, &bv, 8);
	for (unsigned i = 0; i < 16; i++) {
		if (o.components & XC_AVX)
			memcpy(area + o.offset[2] + 16 * i, x->vec[i] + 16, 16);
		if (o.components & XC_ZMM_HI)
			memcpy(area + o.offset[6] + 32 * i, x->vec[i] + 32, 32);
		if (o.components & XC_HI16)
			memcpy(area + o.offset[7] + 64 * i, x->vec[16 + i], 64);
	}
	if (o.components & XC_K)
		memcpy(area + o.offset[5], x->k, 64);
}

static void
xsave_take(struct x86_xstate *x, const uint8_t *area)
{
	uint32_t pkru = x->pkru;
	uint64_t bv;

	memcpy(&bv, area + XS_BV, 8);
	memset(x, 0, sizeof(*x));
	x->pkru = pkru;
	x->mxcsr = get_le32(area + 24);
	if (bv & XC_X87)
		memcpy(x->fx, area, sizeof(x->fx));
	else
		put_le16(x->fx, 0x37f); /* FNINIT's */
	for (unsigned i = 0; i < 16; i++) {
		if (bv & XC_SSE)
			memcpy(x->vec[i], area + 160 + 16 * i, 16);
		if (bv & o.components & XC_AVX)
			memcpy(x->vec[i] + 16, area + o.offset[2] + 16 * i, 16);
		if (bv & o.components & XC_ZMM_HI)
			memcpy(x->vec[i] + 32, area + o.offset[6] + 32 * i, 32);
		if (bv & o.components & XC_HI16)
			memcpy(x->vec[16 + i], area + o.offset[7] + 64 * i, 64);
	}
	if (bv & o.components & XC_K)
		memcpy(x->k, area + o.offset[5], 64);
}

/* sigcontext's register of each general register. */
static const int greg_of[16] = {
    [X86_RAX] = REG_RAX, [X86_RCX] = REG_RCX, [X86_RDX] = REG_RDX, [X86_RBX] = REG_RBX,
    [X86_RSP] = REG_RSP, [X86_RBP] = REG_RBP, [X86_RSI] = REG_RSI, [X86_RDI] = REG_RDI,
    [X86_R8] = REG_R8,	 [X86_R9] = REG_R9,   [X86_R10] = REG_R10, [X86_R11] = REG_R11,
    [X86_R12] = REG_R12, [X86_R13] = REG_R13, [X86_R14] = REG_R14, [X86_R15] = REG_R15,
};

static void
enter(gregset_t regs, uint8_t *area, const struct oracle_state *s)
{
	uint64_t cs = s->compat ? ORACLE_CS32 : ORACLE_CS64;

	memcpy(o.saved_regs, regs, sizeof(gregset_t));
	memcpy(o.saved_xsave, area, o.xsave_size);
	for (unsigned i = 0; i < 16; i++)
		regs[greg_of[i]] = (greg_t)s->gpr[i];
	regs[REG_RIP] = (greg_t)s->rip;
	regs[REG_EFL] = (greg_t)((s->rflags & FLAGS_IN) | FL_1 | FL_IF | (o.whole ? 0 : FL_TF));
	/* cs, gs, fs, ss from the low end */
	regs[REG_CSGSFS] =
	    (greg_t)(((uint64_t)regs[REG_CSGSFS] & 0x0000ffffffff0000ull) | cs | (uint64_t)ORACLE_SS << 48);
	xsave_put(&s->xs, area);
}

static void
leave(gregset_t regs, uint8_t *area, struct oracle_state *s)
{
	for (unsigned i = 0; i < 16; i++)
		s->gpr[i] = (uint64_t)regs[greg_of[i]];
	s->rip = (uint64_t)regs[REG_RIP];
	s->rflags = (uint64_t)regs[REG_EFL] & ~(uint64_t)FL_TF;
	s->vector = regs[REG_TRAPNO] == EXC_DB ? ORACLE_NO_FAULT : (int)regs[REG_TRAPNO];
	s->error = (uint32_t)regs[REG_ERR];
	s->cr2 = (uint64_t)regs[REG_CR2];
	if (s->vector == ORACLE_NO_FAULT) {
		s->rflags &= ~(uint64_t)FL_RF; /* the trap's own: set between iterations */
		s->error = 0;
	}
	if (s->vector != EXC_PF)
		s->cr2 = 0;
	xsave_take(&s->xs, area);
	memcpy(regs, o.saved_regs, sizeof(gregset_t));
	memcpy(area, o.saved_xsave, o.xsave_size);
}

static struct oracle_state *volatile pending;

/* A fault of the program itself, or of the engine beside us, which has handlers of its own. */
static void
pass_on(int sig, siginfo_t *info, void *context)
{
	for (unsigned i = 0; i < ARRAY_LEN(signals); i++) {
		if (signals[i] != sig)
			continue;
		if (o.old[i].sa_flags & SA_SIGINFO)
			o.old[i].sa_sigaction(sig, info, context);
		else
			signal(sig, SIG_DFL); /* the instruction faults again */
	}
}

/* The kernel leaves AC as the instruction had it: clear it before C code reads anything unaligned.
 * rt_sigreturn(2) does not restore NT and ID: a POPF would hand them on to the next instruction. */
void oracle_signal_entry(int sig, siginfo_t *info, void *context);
void oracle_on_signal(int sig, siginfo_t *info, void *context) __attribute__((used));
__asm__(".text\n"
	".globl oracle_signal_entry\n"
	"oracle_signal_entry:\n"
	"	pushfq\n"
	"	andl $~0x244000, (%rsp)\n"
	"	popfq\n"
	"	jmp oracle_on_signal\n");

void
oracle_on_signal(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	uint8_t *area = (uint8_t *)uc->uc_mcontext.fpregs;
	struct oracle_state *s;

	if (sig == SIGUSR1 && pending != NULL) {
		o.running = pending;
		pending = NULL;
		enter(uc->uc_mcontext.gregs, area, o.running);
		return;
	}
	s = o.running;
	if (s == NULL) {
		pass_on(sig, info, context);
		return;
	}
	o.running = NULL;
	leave(uc->uc_mcontext.gregs, area, s);
}

void
oracle_put_code(const struct oracle_state *s, const uint8_t *code, unsigned len)
{
	LH_ASSERT(s->rip >= ORACLE_CODE && range_fits(s->rip - ORACLE_CODE, len, ORACLE_CODE_SIZE));
	memcpy(o.code + (s->rip - ORACLE_CODE), code, len);
}

static void
run(struct oracle_state *s, const uint8_t *insn, unsigned len, bool whole)
{
	o.whole = whole;
	oracle_put_code(s, insn, len);
	memcpy(o.data, s->data, ORACLE_DATA_SIZE);
	pending = s;
	raise(SIGUSR1);
	LH_ASSERT(pending == NULL && o.running == NULL);
	memcpy(s->data, o.data, ORACLE_DATA_SIZE);
}

void
oracle_run(struct oracle_state *s, const uint8_t *insn, unsigned len)
{
	run(s, insn, len, false);
}

void
oracle_run_whole(struct oracle_state *s, const uint8_t *code, unsigned len)
{
	run(s, code, len, true);
}

/* A memory object mapped writable anywhere, and at `where` with `prot`. */
static uint8_t *
map_twice(const char *name, uint64_t where, size_t size, int prot, struct err *err)
{
	int fd = memfd_create(name, MFD_CLOEXEC);
	uint8_t *writable = MAP_FAILED;
	void *fixed = MAP_FAILED;

	if (fd >= 0 && ftruncate(fd, (off_t)size) == 0) {
		writable = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		fixed = mmap((void *)where, size, prot, MAP_SHARED | MAP_FIXED, fd, 0);
	}
	if (writable == MAP_FAILED || fixed == MAP_FAILED)
		err_set(err, errno, "oracle: cannot map the %s: %s", name, strerror(errno));
	if (fd >= 0)
		close(fd);
	return writable == MAP_FAILED || fixed == MAP_FAILED ? NULL : writable;
}

static bool
reserve(uint64_t where, size_t size)
{
	return mmap((void *)where, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
		    0) == (void *)where;
}

static void
find_components(void)
{
	unsigned a, b, c, d;

	o.components = XC_X87 | XC_SSE;
	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return;
	__asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
	o.components = a & XC_OURS;
	for (unsigned i = 2; i < 8; i++)
		if (__get_cpuid_count(0xd, i, &a, &b, &c, &d))
			o.offset[i] = b;
	__get_cpuid_count(0xd, 0, &a, &b, &c, &d);
	o.xsave_size = b; /* of what XCR0 enables now */
}

static void
install_handlers(void)
{
	struct sigaction sa = {.sa_sigaction = oracle_signal_entry, .sa_flags = SA_SIGINFO | SA_ONSTACK};

	sigfillset(&sa.sa_mask);
	for (unsigned i = 0; i < ARRAY_LEN(signals); i++)
		sigaction(signals[i], &sa, &o.old[i]);
}

int
oracle_open(struct err *err)
{
	enum { STACK = 1 << 18 };
	stack_t ss = {.ss_size = STACK};

	find_components();
	if (o.xsave_size == 0 || o.xsave_size > XS_AREA_MAX)
		return err_set(err, ENOTSUP, "oracle: no XSAVE on this host");
	if (!reserve(ORACLE_DATA - ORACLE_FENCE, ORACLE_DATA_SIZE + 2 * ORACLE_FENCE) ||
	    !reserve(ORACLE_CODE, ORACLE_CODE_SIZE))
		return err_set(err, ENOMEM, "oracle: its addresses are taken in this process");
	o.code = map_twice("code", ORACLE_CODE, ORACLE_CODE_SIZE, PROT_READ | PROT_EXEC, err);
	o.data = map_twice("data", ORACLE_DATA, ORACLE_DATA_SIZE, PROT_READ | PROT_WRITE, err);
	if (o.code == NULL || o.data == NULL)
		return -ENOMEM;
	if (mprotect((void *)(uint64_t)(ORACLE_DATA + ORACLE_DATA_RO), ORACLE_DATA_SIZE - ORACLE_DATA_RO,
		     PROT_READ) != 0)
		return err_set(err, errno, "oracle: mprotect: %s", strerror(errno));
	/* Present from the start, or a write to the read-only page would not say so in its error code. */
	for (unsigned i = 0; i < ORACLE_DATA_SIZE; i += 4096)
		(void)*(volatile uint8_t *)(uint64_t)(ORACLE_DATA + i);
	o.stack = malloc(STACK);
	ss.ss_sp = o.stack;
	if (o.stack == NULL || sigaltstack(&ss, NULL) != 0)
		return err_set(err, ENOMEM, "oracle: no signal stack");
	/* Null in 64-bit processes, which never use them; compatibility mode does. */
	__asm__ volatile("movl %0, %%ds; movl %0, %%es" : : "r"(ORACLE_SS));
	install_handlers();
	return 0;
}

void
oracle_close(void)
{
	stack_t off = {.ss_flags = SS_DISABLE};

	for (unsigned i = 0; i < ARRAY_LEN(signals); i++)
		sigaction(signals[i], &o.old[i], NULL);
	sigaltstack(&off, NULL);
	free(o.stack);
	munmap((void *)(uint64_t)ORACLE_CODE, ORACLE_CODE_SIZE);
	munmap((void *)(uint64_t)(ORACLE_DATA - ORACLE_FENCE), ORACLE_DATA_SIZE + 2 * ORACLE_FENCE);
	munmap(o.code, ORACLE_CODE_SIZE);
	munmap(o.data, ORACLE_DATA_SIZE);
	memset(&o, 0, sizeof(o));
}
