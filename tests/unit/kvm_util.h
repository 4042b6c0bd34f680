/* SPDX-License-Identifier: BSD-2-Clause */
/* Shared by the tests of the KVM engine: a VM of one processor on this host's /dev/kvm, and code to run in it. */
#ifndef LHYVE_TESTS_KVM_UTIL_H
#define LHYVE_TESTS_KVM_UTIL_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "base/vmclock.h"
#include "engine/engine.h"
#include "engine/kvm/kvm.h"
#include "mem/gpmap.h"

enum { RAM = 0x100000, ROM_GPA = 0xf0000, CODE = 0x1000, DATA = 0x2000, STACK = 0x8000 };

struct rig {
	struct memobj *ram;
	struct gpmap *mem;
	struct vm_clock *clock;
	struct engine_vm *vm;
	struct engine_vcpu *v;
	struct x86_cpuid cpuid;
	struct x86_state s;
	struct vm_exit x;
};

static inline struct rig *
rig_of(void **state)
{
	if (*state == NULL) {
		print_message("no usable /dev/kvm here\n");
		skip();
	}
	return *state;
}

static inline int
setup(void **state)
{
	static const struct x86_topology one = {1, 1, 1, 1, 1};
	static struct rig rig;
	struct rig *r = &rig;
	struct err err = {0};
	struct engine_vm_cfg cfg = {.maxcpus = 1, .strict_msr = true};

	*state = NULL;
	if (engine_kvm.usable(&err) != 0)
		return 0;
	memset(r, 0, sizeof(*r));
	r->ram = memobj_create("ram", RAM, &err);
	r->mem = gpmap_create(&err);
	r->clock = vm_clock_create(VM_CLOCK_HOST, &err);
	assert_non_null(r->ram);
	assert_int_equal(gpmap_map(r->mem, 0, ROM_GPA, r->ram, 0, GM_RAM, &err), 0);
	assert_int_equal(gpmap_map(r->mem, ROM_GPA, RAM - ROM_GPA, r->ram, ROM_GPA, GM_ROM, &err), 0);
	cfg.mem = r->mem;
	cfg.clock = r->clock;
	r->vm = engine_kvm.vm_create(&cfg, &err);
	if (r->vm == NULL)
		fail_msg("%s", err.msg);
	x86_cpuid_host(&r->cpuid);
	engine_kvm.cpuid_filter(&r->cpuid);
	x86_cpuid_finish(&r->cpuid, &one, 0, true);
	r->v = engine_kvm.vcpu_create(r->vm, 0, &r->cpuid, &err);
	if (r->v == NULL)
		fail_msg("%s", err.msg);
	engine_kvm.tidy();
	x86_state_reset(&r->s);
	r->s.seg[X86_CS].sel = 0;
	r->s.seg[X86_CS].base = 0;
	r->s.rip = CODE;
	r->s.gpr[X86_RSP] = STACK;
	*state = r;
	return 0;
}

static inline int
teardown(void **state)
{
	struct rig *r = *state;

	if (r == NULL)
		return 0;
	engine_kvm.vcpu_destroy(r->v);
	engine_kvm.vm_destroy(r->vm);
	vm_clock_destroy(r->clock);
	gpmap_destroy(r->mem);
	memobj_destroy(r->ram);
	return 0;
}

/* Real-mode code at CODE, and the state to begin with. */
static inline void
load(struct rig *r, const void *code, size_t len)
{
	struct err err = {0};

	assert_true(gm_write(r->mem, CODE, code, len));
	if (engine_kvm.set_state(r->v, X86_STATE_ALL, &r->s, &err) != 0)
		fail_msg("%s", err.msg);
}
#define LOAD(r, ...)                                   \
	do {                                           \
		const uint8_t code_[] = {__VA_ARGS__}; \
		load(r, code_, sizeof(code_));         \
	} while (0)

static inline void
run(struct rig *r, enum vm_exit_kind want)
{
	engine_kvm.run(r->v, &r->x);
	if (r->x.kind == VM_EXIT_UNSUPPORTED)
		fail_msg("%s", r->x.u.why);
	assert_int_equal(r->x.kind, want);
}

static inline void
get(struct rig *r)
{
	memset(&r->s, 0, sizeof(r->s));
	engine_kvm.get_state(r->v, X86_STATE_ALL, &r->s);
}

#endif
