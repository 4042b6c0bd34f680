/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libvmmapi: virtual machines for programs. This header holds for every machine; it includes the machine's
 * own, where exits, registers, capabilities and interrupt controllers are (vmmapi(3), doc/vmmapi.md).
 *
 * Calls return 0 or a negative errno value, and those that make something return NULL; what went wrong is
 * then told by the struct vm_error that the call was given, or by vm_get_error(). No call ends the process,
 * whatever it is given, but for pointers that do not point to what they should. No state is kept outside of
 * handles.
 *
 * Threads: a VM is set up, changed and destroyed by one thread while no other uses it. A vCPU is used by one
 * thread at a time. Any thread at any time: vm_suspend(), vm_kick(), vm_inject_nmi(), vm_map_gpa(),
 * interrupts. SIGUSR1 is blocked in a thread once it has run a vCPU on KVM.
 */
#ifndef VMMAPI_H
#define VMMAPI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vmctx;
struct vcpu;

struct vm_error {
	int code;	/* positive errno value; 0: none */
	char text[512]; /* one line: where, what, and what to do */
};

/* The one place that knows of architectures. */
#if defined(__x86_64__)
#include <vmmapi_x86_64.h>
#else
#error "libvmmapi: no header for this machine"
#endif

/* ---- life ---- */

enum vm_create_flags {
	VM_CREATE_INTC = 1,	  /* the machine's interrupt controllers, inside of the library */
	VM_CREATE_DIRTY_RING = 2, /* the dirty log by rings, where the engine has them */
};

/* engine: "kvm", "soft", or "auto" (NULL): the first that works. e may be NULL. */
struct vmctx *vm_create(const char *name, const char *engine, unsigned flags, struct vm_error *e);
void vm_destroy(struct vmctx *ctx); /* vCPUs are closed first, or with it; NULL is allowed */
const char *vm_get_name(const struct vmctx *ctx);
const char *vm_get_engine(const struct vmctx *ctx);
/* The last error of any call on this VM. */
void vm_get_error(struct vmctx *ctx, struct vm_error *e);

/* Before the first vCPU. maxcpus 0: sockets * cores * threads, which must not be more. */
int vm_set_topology(struct vmctx *ctx, uint16_t sockets, uint16_t cores, uint16_t threads, uint16_t maxcpus);
int vm_get_topology(const struct vmctx *ctx, uint16_t *sockets, uint16_t *cores, uint16_t *threads,
		    uint16_t *maxcpus);

/* ---- memory: before the first vCPU ---- */

typedef uint64_t vm_paddr_t; /* guest-physical */

enum vm_mmap_style { VM_MMAP_NONE, VM_MMAP_ALL };
enum vm_prot { VM_PROT_READ = 1, VM_PROT_WRITE = 2, VM_PROT_EXEC = 4 };
enum { VM_SYSMEM = 0, VM_SEGMENTS = 16 }; /* segment of vm_setup_memory(), and how many there are */

/* RAM from 0, around the machine's hole below 4 GiB, in one segment. VM_MMAP_NONE: place it yourself. */
int vm_setup_memory(struct vmctx *ctx, size_t bytes, enum vm_mmap_style style);
size_t vm_get_lowmem_size(const struct vmctx *ctx);
size_t vm_get_highmem_size(const struct vmctx *ctx);
/* A segment: memory with no address yet. */
int vm_alloc_memseg(struct vmctx *ctx, int segid, size_t bytes, const char *name);
/* Place segment bytes [off, off + len) at gpa. prot without VM_PROT_WRITE: the guest's writes are dropped. */
int vm_mmap_memseg(struct vmctx *ctx, vm_paddr_t gpa, int segid, uint64_t off, size_t len, int prot);
/* Host address of guest memory, or NULL when [gpa, gpa + len) is not all in one range. */
void *vm_map_gpa(struct vmctx *ctx, vm_paddr_t gpa, size_t len);
/* Guest-physical address of a pointer from vm_map_gpa(), or ~0. */
vm_paddr_t vm_rev_map_gpa(struct vmctx *ctx, const void *addr);
/* Copies; for memory that translated code may have been made of. 0, or -EFAULT and nothing is copied. */
int vm_read_gpa(struct vmctx *ctx, vm_paddr_t gpa, void *buf, size_t len);
int vm_write_gpa(struct vmctx *ctx, vm_paddr_t gpa, const void *buf, size_t len);

/* ---- the dirty log: pages that were written since start, or since the last fetch; no vCPU runs ---- */

int vm_dirty_log_start(struct vmctx *ctx);
/* One bit a 4 KiB page of [gpa, gpa + 32768 * bytes), lowest first; each is then clean. */
int vm_dirty_log_fetch(struct vmctx *ctx, vm_paddr_t gpa, uint8_t *bitmap, size_t bytes);
int vm_dirty_log_stop(struct vmctx *ctx);

/* ---- vCPUs ---- */

/* The first one fixes memory and topology. A vCPU is made once; opening it again gives the same handle. */
struct vcpu *vm_vcpu_open(struct vmctx *ctx, int id);
void vm_vcpu_close(struct vcpu *vcpu);
int vcpu_id(const struct vcpu *vcpu);
struct vmctx *vcpu_ctx(const struct vcpu *vcpu);
int vcpu_reset(struct vcpu *vcpu); /* power-on state */

enum vm_exitcode {
	VM_EXITCODE_BOGUS, /* kicked: nothing to do */
	VM_EXITCODE_MMIO,  /* no memory and no controller there: u.mmio; reads are answered in u.mmio.data */
	VM_EXITCODE_HLT,   /* the guest waits for an interrupt */
	VM_EXITCODE_PAUSE, /* it spins: let others run */
	VM_EXITCODE_SUSPENDED,	/* u.suspended */
	VM_EXITCODE_DEBUG,	/* */
	VM_EXITCODE_ERROR,	/* the engine cannot go on: u.error */
	VM_EXITCODE_MD = 0x100, /* from here on the machine's: enum vm_exitcode_md */
};

enum vm_suspend_how {
	VM_SUSPEND_NONE,
	VM_SUSPEND_RESET,
	VM_SUSPEND_POWEROFF,
	VM_SUSPEND_HALT,
	VM_SUSPEND_FAULT, /* of the guest's: on x86 a triple fault */
	VM_SUSPEND_LAST = VM_SUSPEND_FAULT,
};

struct vmexit {
	int exitcode; /* enum vm_exitcode, or the machine's */
	union {
		struct {
			vm_paddr_t gpa;
			uint8_t size; /* bytes, 1 to 8 */
			bool write;
			uint64_t data;
		} mmio;
		struct {
			enum vm_suspend_how how;
		} suspended;
		struct {
			char text[200];
		} error;
		union vmexit_md md;
	} u;
};

/* Run until an exit. *x holds the last exit, with its answer, on entry; all zero the first time. */
int vm_run(struct vcpu *vcpu, struct vmexit *x);
/* vm_run() of this vCPU returns VM_EXITCODE_BOGUS soon, between two instructions; if it is not running, the
 * next time, though an instruction whose access has just been answered ends first. */
int vm_kick(struct vcpu *vcpu);
/* All vCPUs' vm_run() return VM_EXITCODE_SUSPENDED, until vm_reinit(). The first reason counts; a later call
 * gives -EALREADY. */
int vm_suspend(struct vmctx *ctx, enum vm_suspend_how how);
/* No longer suspended; every vCPU in its power-on state. No vCPU runs. */
int vm_reinit(struct vmctx *ctx);

/* ---- registers: enum vm_reg_name is the machine's; the vCPU does not run ---- */

int vm_set_register(struct vcpu *vcpu, int reg, uint64_t val);
int vm_get_register(struct vcpu *vcpu, int reg, uint64_t *val);
/* All or nothing. */
int vm_set_register_set(struct vcpu *vcpu, unsigned count, const int *regs, const uint64_t *vals);
int vm_get_register_set(struct vcpu *vcpu, unsigned count, const int *regs, uint64_t *vals);

/* ---- events ---- */

/* A fault, before the next instruction. restart must be true: the instruction runs again after it. */
int vm_inject_exception(struct vcpu *vcpu, int vector, bool errcode_valid, uint32_t errcode, bool restart);
int vm_inject_nmi(struct vcpu *vcpu);

/* ---- capabilities: enum vm_cap_type is the machine's ---- */

int vm_capability_name2type(const char *name); /* -1: none of this name */
const char *vm_capability_type2name(int type); /* NULL: no such type */
int vm_get_capability(struct vcpu *vcpu, int type, int *val);
int vm_set_capability(struct vcpu *vcpu, int type, int val); /* -ENOTSUP: it is fixed */

/* ---- statistics ---- */

/* Counters, one call of fn each, from within. The vCPU does not run. */
int vm_get_stats(struct vcpu *vcpu, void (*fn)(void *arg, const char *name, uint64_t value), void *arg);

#ifdef __cplusplus
}
#endif

#endif
