/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The KVM engine's inside. Private to engine/kvm.
 *
 * An access to a device leaves KVM_RUN in the middle of an instruction, which the next KVM_RUN completes with
 * the answer: `open` says that such a one waits. What KVM cannot emulate runs in the soft engine on the same
 * memory (assist.c); while `assist.open` that engine's vCPU holds the state.
 *
 * Threads: as in engine.h. `kicked` and `tid` are what other threads see of a vCPU.
 */
#ifndef LHYVE_KVM_INTERNAL_H
#define LHYVE_KVM_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include "engine/engine.h"
#include "engine/kvm/dev.h"

enum { KVM_MSR_ROWS = 96, KVM_XSAVE_PARTS = 5 };

struct kvm_vm {
	struct kvm_dev dev;
	int fd;
	struct engine_vm_cfg cfg;
	struct kvm_cpu **cpus; /* cfg.maxcpus */
	int *parked;	       /* descriptors of vCPUs that are gone, plus 1; 0: none */
	unsigned slots;	       /* memory slots in use: one a range of the map, in its order */
	enum engine_apic apic; /* never AUTO */
	bool no_hardware;      /* KVM emulates in part what is not 64-bit ring 3 (helped.c) */
	bool logging;	       /* the slots log writes */
	unsigned ring_entries; /* of each vCPU's dirty ring; 0: bitmaps */
	uint64_t *dirty;       /* a bit a page of the map (gm_range.first_page); while logging. Atomic. */
	struct {
		pthread_mutex_t lock;
		struct x86_pin_message pin[X86_IOAPIC_PINS];
		unsigned pins;
		struct kvm_msi_route *msi;		     /* made when first needed */
		uint64_t irqfds;			     /* added so far, for the statistics */
	} routes;					     /* routes.c */
	unsigned xsave_bytes, xsave_offset[KVM_XSAVE_PARTS]; /* xstate.c */
	/* Rows of the canonical MSRs that KVM holds (msr.c). Found out with the first vCPU. */
	bool msrs_known, msr_held[KVM_MSR_ROWS];

	pthread_mutex_t lock; /* the rest: made when first needed, by any vCPU */
	struct engine_vm *soft;
	void *spare; /* a page, for a slot that comes and goes (helped.c) */
	int broken;  /* parts that do not work here (kvm_examine()); -1: not known yet */
};

/* What the caller has to answer. */
enum kvm_open { OPEN_NONE, OPEN_IO, OPEN_MMIO, OPEN_RDMSR, OPEN_WRMSR };

struct kvm_cpu {
	struct kvm_vm *vm;
	unsigned id;
	uint32_t apic_id; /* KVM's number of the vCPU where KVM has its APIC */
	int fd;
	struct kvm_run *run;
	struct x86_cpuid *cpuid;
	uint64_t xfeatures; /* components that this guest has */

	_Atomic bool kicked;
	_Atomic int tid; /* of the thread in KVM_RUN, or 0 */
	int signal_tid;	 /* whose signal mask has been prepared */
	enum kvm_open open;
	unsigned io_done; /* items of string I/O, or bytes of memory, of this exit that are through */
	bool ready;	  /* an external interrupt can be injected */
	bool want_window, halted;
	uint64_t cr8;  /* as last told to, or by, the caller */
	bool deferred; /* an exit waits in run until CR8 has been told */
	bool tsc_known;
	uint64_t tsc_offset;	/* as last set */
	struct x86_msrs shadow; /* MSRs that KVM does not hold */
	struct kvm_dirty_gfn *ring;
	uint32_t ring_next;
	uint8_t *xsave; /* vm->xsave_bytes */

	struct {
		struct tracer *file; /* NULL: not traced */
		bool idle;	     /* nothing ran since the last look */
	} trace;

	struct {
		struct engine_vcpu *soft;
		bool open; /* it holds the state */

		unsigned burst;	  /* instructions to run before KVM is tried again */
		uint64_t flushes; /* soft_vcpu_flushes() when KVM last forgot its shadow pages */
		uint64_t rip;	  /* where KVM took over */
		uint64_t refused; /* where it gave up */
		struct x86_state *state;
		char why[60];
	} assist;

	struct {
		uint64_t runs, assists, assisted, shutdowns, signals, io, mmio, msr, windows, injected,
		    forgotten, native;
	} ctr;
};

static inline struct kvm_vm *
kvm_vm_of(struct engine_vm *v)
{
	return (struct kvm_vm *)(void *)v;
}

static inline struct kvm_cpu *
kvm_cpu_of(struct engine_vcpu *v)
{
	return (struct kvm_cpu *)(void *)v;
}

/* vm.c */
struct engine_vm *kvm_vm_create(const struct engine_vm_cfg *cfg, struct err *err);
void kvm_vm_destroy(struct engine_vm *v);
struct gm_range;
/* Map a range of guest memory, with or without the log of writes. 0, or -errno. */
int kvm_set_slot(struct kvm_vm *vm, unsigned slot, const struct gm_range *r, bool log);

/* dirty.c */
int kvm_dirty_start(struct engine_vm *v, struct err *err);
int kvm_dirty_fetch(struct engine_vm *v, uint64_t gpa, uint8_t *bitmap, size_t bytes, struct err *err);
void kvm_dirty_stop(struct engine_vm *v);
/* Rings are asked for before the first vCPU, and mapped with each. */
LH_MUST_CHECK int kvm_dirty_init(struct kvm_vm *vm, struct err *err);
LH_MUST_CHECK int kvm_dirty_vcpu(struct kvm_cpu *c, struct err *err);
void kvm_dirty_vcpu_end(struct kvm_cpu *c);
/* A ring is full: its pages are noted, and the vCPU can go on. From its thread. */
void kvm_dirty_drain(struct kvm_cpu *c);
/* The map's one watcher is the log's, if it runs: the interpreter needs none. */
void kvm_dirty_watch(struct kvm_vm *vm);

/* irqchip.c: controllers in KVM */
extern const struct engine_accel kvm_accel;
/* Settles vm->apic, once it is known whether KVM is any good; makes the controllers. Before the first vCPU.
 */
LH_MUST_CHECK int kvm_irqchip_init(struct kvm_vm *vm, struct err *err);
static inline bool
kvm_has_apic(const struct kvm_vm *vm)
{
	return vm->apic != ENGINE_APIC_USER;
}
/* KVM_GET_MP_STATE and KVM_SET_MP_STATE in canonical terms (enum x86_activity). */
int kvm_activity_get(struct kvm_cpu *c, uint8_t *activity);
int kvm_activity_set(struct kvm_cpu *c, uint8_t activity);
/* The interpreter wants something of the APIC in KVM: answer its exit. False: KVM must run the instruction.
 */
bool kvm_apic_answer(struct kvm_cpu *c, struct vm_exit *x, bool first);
/* An exit of the interpreter's that is the APIC's in KVM. */
bool kvm_apic_owns(struct kvm_cpu *c, const struct vm_exit *x);
/* The guest's TSC has another offset: a deadline that waits is measured anew. */
void kvm_apic_deadline_moved(struct kvm_cpu *c);

/* routes.c: what KVM's GSIs are. For where there are controllers in KVM. */
LH_MUST_CHECK int kvm_routes_init(struct kvm_vm *vm);
void kvm_routes_destroy(struct kvm_vm *vm);
unsigned kvm_ioapic_gsi(unsigned pin);
unsigned kvm_pic_gsi(unsigned line);
void kvm_msi_address(uint64_t addr, uint32_t *low, uint32_t *high); /* as KVM wants it */
int kvm_set_pins(struct engine_vm *v, const struct x86_pin_message *pin, unsigned count);
int kvm_set_irqfd(struct engine_vm *v, int fd, uint64_t addr, uint32_t data, bool add);
/* How many eventfds have been given to KVM so far. */
uint64_t kvm_irqfds_added(struct kvm_vm *vm);

/* pit.c */
LH_MUST_CHECK int kvm_pit_init(struct kvm_vm *vm);
int kvm_get_pit(struct engine_vm *v, struct x86_pit *pit);
int kvm_set_pit(struct engine_vm *v, const struct x86_pit *pit);

/* vcpu.c */
struct engine_vcpu *kvm_vcpu_create(struct engine_vm *v, unsigned id, const struct x86_cpuid *cpuid,
				    struct err *err);
void kvm_vcpu_destroy(struct engine_vcpu *v);

/* run.c */
void kvm_run(struct engine_vcpu *v, struct vm_exit *x);
void kvm_kick(struct engine_vcpu *v);
bool kvm_intr_ready(struct engine_vcpu *v, bool want_window);
void kvm_inject_intr(struct engine_vcpu *v, uint8_t vector);
void kvm_inject_nmi(struct engine_vcpu *v);
void kvm_inject_exception(struct engine_vcpu *v, uint8_t vector, bool has_error, uint32_t error);
bool kvm_take_kick(struct kvm_cpu *c);
/* KVM_RUN. 0, or -errno; -EINTR: a kick, or a signal. */
int kvm_enter(struct kvm_cpu *c);
/* End the instruction that an exit interrupted, with all the accesses it has: what is read is ones, what is
 * written goes nowhere. For a state that is to be replaced. */
void kvm_settle(struct kvm_cpu *c);

/* state.c */
void kvm_get_state(struct engine_vcpu *v, unsigned mask, struct x86_state *s);
int kvm_set_state(struct engine_vcpu *v, unsigned mask, const struct x86_state *s, struct err *err);
/* The same between KVM and *s only, whoever holds the state. */
int kvm_fetch(struct kvm_cpu *c, unsigned mask, struct x86_state *s);
LH_MUST_CHECK int kvm_store(struct kvm_cpu *c, unsigned mask, const struct x86_state *s, struct err *err);

/* Segments, tables, CR0 to CR4, EFER and XCR0 at once. */
int kvm_store_system(struct kvm_cpu *c, const struct x86_state *s);
int kvm_sregs_get(struct kvm_cpu *c, struct kvm_sregs2 *k);
int kvm_sregs_set(struct kvm_cpu *c, const struct kvm_sregs2 *k);
/* The board's APIC has a new base, or is off or on. */
int kvm_set_apic_base(struct kvm_cpu *c, uint64_t base);

/* xstate.c */
void kvm_xstate_init(struct kvm_vm *vm);
int kvm_xstate_fetch(struct kvm_cpu *c, struct x86_xstate *x);
int kvm_xstate_store(struct kvm_cpu *c, const struct x86_xstate *x);

/* msr.c */
LH_MUST_CHECK int kvm_msr_init(struct kvm_vm *vm, int vcpu_fd, struct err *err);
int kvm_msrs_fetch(struct kvm_cpu *c, struct x86_msrs *m);
int kvm_msrs_store(struct kvm_cpu *c, const struct x86_msrs *m);
/* Keep the guest's TSC on the VM's clock, which may have stood still. */
void kvm_tsc_follow(struct kvm_cpu *c);
LH_MUST_CHECK int kvm_msr_filter(struct kvm_vm *vm, struct err *err);
/* MSRs of the board's. */
bool kvm_msr_board(uint32_t msr);
/* An MSR that KVM does not know: read, or written. False: #GP(0). */
bool kvm_msr_unknown(struct kvm_cpu *c, uint32_t msr, bool write, uint64_t *val);

/* cpuid.c */
/* KVM offers less than any processor has: it must be examined before it is believed. */
bool kvm_cpuid_suspicious(void);
void kvm_cpuid_filter(struct x86_cpuid *t);
/* examine.c: what a vCPU that is offered this table tells its guest; `told` has room for nent entries. */
bool kvm_ask_cpuid(const struct x86_cpuid *offer, struct kvm_cpuid2 *told);
/* Unmake the VM that kvm_ask_cpuid() left. */
void kvm_examine_end(void);
LH_MUST_CHECK int kvm_cpuid_set(int vcpu_fd, const struct x86_cpuid *t, struct err *err);

/* assist.c */
/* Run one instruction, or a few, in the soft engine. True: *x holds an exit for the caller. */
bool kvm_assist(struct kvm_cpu *c, struct vm_exit *x, const char *why);
bool kvm_assist_continue(struct kvm_cpu *c, struct vm_exit *x);
/* The soft vCPU, and the soft VM when first needed. */
LH_MUST_CHECK int kvm_assist_init(struct kvm_cpu *c, struct err *err);
void kvm_assist_destroy(struct kvm_cpu *c);
/* KVM ended the guest with a triple fault. True: it may be KVM's own fault, so the soft engine should look.
 */
bool kvm_assist_doubts_shutdown(struct kvm_cpu *c);

/* trace.c: debug.trace by single steps; nothing, for vCPUs that are not the traced one. */
LH_MUST_CHECK int kvm_trace_init(struct kvm_cpu *c, struct err *err);
void kvm_trace_destroy(struct kvm_cpu *c);
/* The vCPU is between two instructions and will go on. Only where trace.file is set. */
void kvm_trace_step(struct kvm_cpu *c);

/* helped.c: with no hardware behind KVM (vm->no_hardware) the soft vCPU always holds the state. */
LH_MUST_CHECK int kvm_helped_init(struct kvm_cpu *c, struct err *err);
void kvm_helped_run(struct kvm_cpu *c, struct vm_exit *x);

#endif
