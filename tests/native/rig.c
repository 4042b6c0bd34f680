/* SPDX-License-Identifier: BSD-2-Clause */
/* See rig.h. */
#include "tests/native/rig.h"

#include <string.h>
#include "base/util.h"
#include "base/vmclock.h"
#include "mem/gpmap.h"

int
rig_open(struct rig *r, uint64_t ram_bytes, struct err *err)
{
	static const struct x86_topology one = {1, 1, 1, 1, 1};
	struct engine_vm_cfg cfg = {.maxcpus = 1, .strict_msr = true, .soft_code_cache = 32 * MIB};

	memset(r, 0, sizeof(*r));
	r->ram = memobj_create("ram", ram_bytes, err);
	r->mem = gpmap_create(err);
	r->clock = vm_clock_create(VM_CLOCK_MANUAL, err);
	if (r->ram == NULL || r->mem == NULL || r->clock == NULL ||
	    gpmap_map(r->mem, 0, ram_bytes, r->ram, 0, GM_RAM, err) != 0)
		goto fail;
	cfg.mem = r->mem;
	cfg.clock = r->clock;
	r->vm = engine_soft.vm_create(&cfg, err);
	if (r->vm == NULL)
		goto fail;
	x86_cpuid_host(&r->cpuid);
	engine_soft.cpuid_filter(&r->cpuid);
	x86_cpuid_finish(&r->cpuid, &one, 0, true);
	r->vcpu = engine_soft.vcpu_create(r->vm, 0, &r->cpuid, err);
	if (r->vcpu != NULL)
		return 0;
fail:
	rig_close(r);
	return -err->code;
}

void
rig_close(struct rig *r)
{
	if (r->vcpu != NULL)
		engine_soft.vcpu_destroy(r->vcpu);
	if (r->vm != NULL)
		engine_soft.vm_destroy(r->vm);
	if (r->clock != NULL)
		vm_clock_destroy(r->clock);
	if (r->mem != NULL)
		gpmap_destroy(r->mem);
	if (r->ram != NULL)
		memobj_destroy(r->ram);
	memset(r, 0, sizeof(*r));
}

void
rig_write(struct rig *r, uint64_t gpa, const void *buf, size_t len)
{
	LH_ASSERT(gm_write(r->mem, gpa, buf, len));
}

void
rig_read(struct rig *r, uint64_t gpa, void *buf, size_t len)
{
	LH_ASSERT(gm_read(r->mem, gpa, buf, len));
}

void
rig_write64(struct rig *r, uint64_t gpa, uint64_t v)
{
	rig_write(r, gpa, &v, sizeof(v));
}

struct x86_segment
rig_segment(uint16_t sel, uint32_t attr)
{
	return (struct x86_segment){.sel = sel, .attr = attr, .limit = 0xffffffff};
}
