/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an engine does: run guest code and report exits, in machine terms. Knows no
 * device. Both engines hand up identical exits.
 *
 * Threads: VM calls from the thread that owns the VM while no vCPU runs; vCPU calls
 * from the thread that runs that vCPU, or from another while that one is known to stay out
 * of run(), except engine kick (any thread, any time).
 */
#ifndef LHYVE_ENGINE_H
#define LHYVE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "x86/apic.h"
#include "x86/cpuid.h"
#include "x86/state.h"

struct gpmap;
struct vm_clock;
struct engine_vm;
struct engine_vcpu;

enum vm_exit_kind {
	VM_EXIT_INTR,	  /* kicked, or an interrupt window opened as asked for */
	VM_EXIT_IO,	  /* port access; for reads fill u.io.data before the next run */
	VM_EXIT_MMIO,	  /* outside RAM; for reads fill u.mmio.data before the next run */
	VM_EXIT_RDMSR,	  /* an MSR of the board's (APIC): fill u.msr.val or set u.msr.fault */
	VM_EXIT_WRMSR,	  /* may set u.msr.fault: #GP(0) */
	VM_EXIT_CR8,	  /* CR8 written: u.cr8 */
	VM_EXIT_CR8_READ, /* CR8 read: fill u.cr8 before the next run */
	VM_EXIT_HLT,	  /* HLT (or MWAIT) ended with no event; state.activity stays HALTED until inject or
			     set_state */
	VM_EXIT_PAUSE,	  /* spinning: yield if vCPUs outnumber processors */
	VM_EXIT_SHUTDOWN, /* triple fault */
	VM_EXIT_PMI,	  /* a performance counter overflowed that interrupts: the APIC's LVT says how */
	VM_EXIT_EOI,	  /* an APIC of the engine's ended a level-triggered interrupt: u.vector */
	VM_EXIT_RESET,	  /* an APIC of the engine's sent INIT to the boot processor */
	VM_EXIT_DEBUG,	  /* host debugger */
	VM_EXIT_UNSUPPORTED, /* the engine cannot go on: text in u.why (instruction and address) */
};

struct vm_exit {
	enum vm_exit_kind kind;
	union {
		struct {
			uint16_t port;
			uint8_t size; /* 1, 2, 4 */
			bool write;
			uint32_t data;
		} io;
		struct {
			uint64_t gpa;
			uint8_t size; /* 1..8, within one page */
			bool write;
			uint64_t data;
		} mmio;
		struct {
			uint32_t index;
			uint64_t val;
			bool fault;
		} msr;
		uint64_t cr8;
		uint8_t vector;
		char why[200];
	} u;
};

/* One record an instruction of one vCPU into a file (doc/debugging.md). */
struct engine_trace {
	const char *path; /* NULL: none */
	bool binary;
	bool translated; /* by translations of single instructions, where there are any */
	unsigned vcpu;
	uint64_t start, count; /* instructions left out first; at most so many then, 0: all */
};

/* Who has the interrupt controllers. */
enum engine_apic {
	ENGINE_APIC_USER,  /* the caller has all: exits as above */
	ENGINE_APIC_SPLIT, /* the engine has the local APICs: HLT, CR8, APIC MSRs and start-up messages do not
			      exit */
	ENGINE_APIC_KERNEL, /* and the I/O APIC, the 8259s and the 8254 */
	ENGINE_APIC_AUTO,   /* SPLIT where it is any good */
};

struct engine_vm_cfg {
	struct gpmap *mem;
	struct vm_clock *clock;
	unsigned maxcpus;
	enum engine_apic apic;
	bool dirty_ring; /* the dirty log by rings, where the engine has them, else by bitmaps */
	bool strict_msr; /* unknown MSR: #GP; else reads 0, writes dropped */
	bool pmu;	 /* performance counters count */
	bool vmware_backdoors;
	bool pit_discard; /* KERNEL: the 8254's ticks that the host is late for are lost */
	struct engine_trace trace;
	bool soft_verify;	  /* translated code is repeated by the interpreter and compared */
	bool soft_profile;	  /* runs of translated code are counted */
	bool soft_perf_map;	  /* write a map of translated code for perf */
	const char *soft_symbols; /* the guest's, for that map: a file of nm's form; NULL: none */
	bool soft_interpret;	  /* the soft engine translates nothing */
	uint64_t soft_code_cache; /* bytes for translated code, and as many again for what goes with it; 0: a
				     default */
};

/* What an engine may have of its own, in a kernel. Any thread, but where a vCPU is named. */
struct engine_accel {
	enum engine_apic (*apic)(struct engine_vm *vm); /* what AUTO became */
	/* A message to the local APICs. True: one took it, though it may have had it already. SPLIT and
	 * KERNEL. */
	bool (*msi)(struct engine_vm *vm, uint64_t addr, uint32_t data);
	/* SPLIT: the messages of the level-triggered pins, whose ends the caller wants to hear of
	 * (VM_EXIT_EOI). All of them at each change. */
	int (*pins)(struct engine_vm *vm, const struct x86_pin_message *pin, unsigned count);
	/* KERNEL: levels of the I/O APIC's pins and of the 8259s' lines. */
	void (*ioapic_line)(struct engine_vm *vm, unsigned pin, bool level);
	void (*pic_line)(struct engine_vm *vm, unsigned line, bool level);
	int (*get_ioapic)(struct engine_vm *vm, struct x86_ioapic *io);
	int (*set_ioapic)(struct engine_vm *vm, const struct x86_ioapic *io);
	int (*get_pic)(struct engine_vm *vm, struct x86_pic pic[2]);
	int (*set_pic)(struct engine_vm *vm, const struct x86_pic pic[2]);
	/* KERNEL: the 8254 and port 0x61. Its IRQ0 goes to the 8259s' line 0 and the I/O APIC's pin 2.
	 * Setting starts each count anew; NULL: no IRQ0 comes until the next one. */
	int (*get_pit)(struct engine_vm *vm, struct x86_pit *pit);
	int (*set_pit)(struct engine_vm *vm, const struct x86_pit *pit);
	/* SPLIT and KERNEL: the vCPU's local APIC, while it does not run. */
	int (*get_apic)(struct engine_vcpu *v, struct x86_apic *a);
	int (*set_apic)(struct engine_vcpu *v, const struct x86_apic *a);
	/* Writes of the guest of any size to gpa write to the eventfd, and do not exit. -errno: none can be
	 * had. */
	int (*doorbell)(struct engine_vm *vm, uint64_t gpa, int fd, bool add);
	/* SPLIT and KERNEL: each write to the eventfd sends this message, as msi() does, until it is taken
	 * away again (then all that was written has gone in). -errno: send it by msi(). To add takes as long
	 * as the kernel needs to change its routes: milliseconds. */
	int (*irqfd)(struct engine_vm *vm, int fd, uint64_t addr, uint32_t data, bool add);
};
/* Features of CPUID leaf 7 that an engine may have where the host's processor has not: bits of ECX. */
enum engine_feature { ENGINE_PKU = 1 << 3, ENGINE_LA57 = 1 << 16, ENGINE_PKS = 1u << 31 };

struct engine_ops {
	const char *name; /* "soft", "kvm" */
	/* Can VMs be made at all? NULL: always. */
	int (*usable)(struct err *err);
	/* Does all of it work, as far as can be told by running a few guest instructions? 0, or -errno. */
	int (*probe)(struct err *err);
	/* Unmake what finding out about the host has left; it takes a while, and is best called after the
	 * first vCPU was made. vm_destroy() does it too. NULL: nothing is ever left. */
	void (*tidy)(void);
	struct engine_vm *(*vm_create)(const struct engine_vm_cfg *cfg, struct err *err);
	void (*vm_destroy)(struct engine_vm *vm);
	/* Which CPUID features the engine can give on this host: host leaves, filtered. */
	void (*cpuid_filter)(struct x86_cpuid *table);
	/* Offer these (enum engine_feature) too, as far as the engine can do them itself. NULL: none. */
	void (*cpuid_add)(struct x86_cpuid *table, uint32_t features);
	struct engine_vcpu *(*vcpu_create)(struct engine_vm *vm, unsigned id, const struct x86_cpuid *cpuid,
					   struct err *err);
	void (*vcpu_destroy)(struct engine_vcpu *v);
	/* Run until an exit. *x holds the last exit on entry (with the caller's answer in it). */
	void (*run)(struct engine_vcpu *v, struct vm_exit *x);
	/* Make run() return VM_EXIT_INTR soon; if it is not running, at once on the next run(). */
	void (*kick)(struct engine_vcpu *v);
	void (*get_state)(struct engine_vcpu *v, unsigned mask, struct x86_state *s);
	int (*set_state)(struct engine_vcpu *v, unsigned mask, const struct x86_state *s, struct err *err);
	/* True when an external interrupt can be injected now (IF, no shadow, nothing pending). If not and
	 * `want_window`, run() exits with VM_EXIT_INTR as soon as it can. */
	bool (*intr_ready)(struct engine_vcpu *v, bool want_window);
	/* Deliver an external interrupt with the next run(); intr_ready() was true. Ends HALTED. */
	void (*inject_intr)(struct engine_vcpu *v, uint8_t vector);
	void (*inject_nmi)(struct engine_vcpu *v); /* latched until deliverable */
	/* A fault, to be delivered before the next instruction. */
	void (*inject_exception)(struct engine_vcpu *v, uint8_t vector, bool has_error, uint32_t error);
	/*
	 * Pages that were written since the start, or since the last fetch: a bit a page of 4 KiB from gpa
	 * on, set in `bitmap` (others stay as they are), and clean again. No vCPU runs.
	 */
	int (*dirty_start)(struct engine_vm *vm, struct err *err);
	int (*dirty_fetch)(struct engine_vm *vm, uint64_t gpa, uint8_t *bitmap, size_t bytes,
			   struct err *err);
	void (*dirty_stop)(struct engine_vm *vm);
	const struct engine_accel *accel; /* NULL: nothing; then cfg.apic is USER or AUTO */
	/* Named counters for statistics: calls fn for each. */
	void (*stats)(struct engine_vcpu *v, void (*fn)(void *arg, const char *name, uint64_t value),
		      void *arg);
};

extern const struct engine_ops engine_soft, engine_kvm;

#endif
