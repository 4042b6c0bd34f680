/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guests whose vCPU is saved and restored after every exit, then again after every few instructions: its
 * state is exported, the vCPU thrown away, a new one made and the state imported, which must come out again
 * as it went in. The guest then checks that nothing changed for it. The machine is as small as these guests
 * allow: com1, a local APIC that sends to itself, the test devices. Last, the vCPU goes from one engine to
 * the other and back, at each exit.
 *
 * restore IMAGE...: TAP, three cases an image.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/util.h"
#include "mem/gpmap.h"
#include "engine/soft/soft.h"
#include "tests/native/rig.h"

enum { RAM = 32 * 1024 * 1024, COM1 = 0x3f8, EXIT_PORT = 0xf4, TEXT_MAX = 8000, EXITS_MAX = 20000000 };
enum { DEVICE = 0xff000000u, DEVICE_BYTES = 0x10000, LAPIC = 0xfee00000u };
enum { ICR = 0x300, ICR_NMI = 0x400, ICR_SELF_FIXED = 0x40000 };

enum how { EXITS, STEPS, ENGINES, HOWS };

struct machine {
	struct rig rig;
	const struct engine_ops *e; /* whose vCPU it is now */
	struct engine_vcpu *vcpu;
	struct engine_vm *other; /* KVM's, on the same memory; ENGINES only */
	uint8_t device[DEVICE_BYTES];
	uint32_t device_reads;
	uint64_t cr8;
	uint8_t pending[256]; /* vectors */
	char text[TEXT_MAX];
	size_t len;
	bool ended;
	unsigned status;
	unsigned saves;
	char why[600];
};

/* ---- devices ---- */

static uint32_t
port_read(struct machine *m, uint16_t port)
{
	return port == COM1 + 5 ? 0x20 : port == 0xec ? m->device_reads : ~0u;
}

static void
port_write(struct machine *m, uint16_t port, uint32_t v)
{
	if (port == COM1 && m->len < TEXT_MAX - 1)
		m->text[m->len++] = (char)v;
	else if (port == 0xec)
		m->device_reads = 0;
	else if (port == EXIT_PORT) {
		m->ended = true;
		m->status = v;
	}
}

static void
lapic_write(struct machine *m, uint32_t reg, uint32_t v)
{
	if (reg != ICR)
		return;
	if ((v & 0x700) == ICR_NMI)
		m->e->inject_nmi(m->vcpu);
	else if (v & ICR_SELF_FIXED)
		m->pending[v & 0xff] = 1;
}

static void
mmio(struct machine *m, struct vm_exit *x)
{
	uint64_t gpa = x->u.mmio.gpa;

	if (gpa >= DEVICE && gpa - DEVICE + x->u.mmio.size <= DEVICE_BYTES) {
		if (x->u.mmio.write) {
			memcpy(m->device + (gpa - DEVICE), &x->u.mmio.data, x->u.mmio.size);
		} else {
			m->device_reads++;
			x->u.mmio.data = 0;
			memcpy(&x->u.mmio.data, m->device + (gpa - DEVICE), x->u.mmio.size);
		}
	} else if (x->u.mmio.write) {
		if ((gpa & ~0xfffull) == LAPIC)
			lapic_write(m, gpa & 0xfff, (uint32_t)x->u.mmio.data);
	} else {
		x->u.mmio.data = (gpa & ~0xfffull) == LAPIC ? 0 : ~0ull;
	}
}

/* Answer an exit. False: the guest cannot go on. */
static bool
answer(struct machine *m, struct vm_exit *x)
{
	switch (x->kind) {
	case VM_EXIT_IO:
		if (x->u.io.write)
			port_write(m, x->u.io.port, x->u.io.data);
		else
			x->u.io.data = port_read(m, x->u.io.port);
		return true;
	case VM_EXIT_MMIO:
		mmio(m, x);
		return true;
	case VM_EXIT_RDMSR:
		x->u.msr.fault = x->u.msr.index != 0x1b;
		x->u.msr.val = 0xfee00900;
		return true;
	case VM_EXIT_WRMSR:
		x->u.msr.fault = x->u.msr.index != 0x1b;
		return true;
	case VM_EXIT_CR8:
		m->cr8 = x->u.cr8;
		return true;
	case VM_EXIT_CR8_READ:
		x->u.cr8 = m->cr8;
		return true;
	case VM_EXIT_HLT:
	case VM_EXIT_INTR:
	case VM_EXIT_PAUSE:
		return true;
	default:
		snprintf(m->why, sizeof(m->why), "exit %d: %s", (int)x->kind,
			 x->kind == VM_EXIT_UNSUPPORTED ? x->u.why : "");
		return false;
	}
}

/* ---- save and restore ---- */

/* A new vCPU of this engine has the state of the old one. What an engine does not tell apart is made the
 * same. */
static bool
same(struct machine *m, const struct x86_state *before, const struct x86_state *after)
{
	for (size_t n = 0; n < sizeof(*before); n++) {
		if (((const uint8_t *)before)[n] == ((const uint8_t *)after)[n])
			continue;
		snprintf(m->why, sizeof(m->why),
			 "restored state differs at byte %zu of struct x86_state, rip %#llx", n,
			 (unsigned long long)before->rip);
		return false;
	}
	return true;
}

static struct engine_vm *
vm_of(const struct machine *m)
{
	return m->e == &engine_kvm ? m->other : m->rig.vm;
}

static bool
swap_vcpu(struct machine *m)
{
	static struct x86_state before, after;
	struct err err = {0};

	memset(&before, 0, sizeof(before));
	memset(&after, 0, sizeof(after));
	m->e->get_state(m->vcpu, X86_STATE_ALL, &before);
	m->e->vcpu_destroy(m->vcpu);
	if (m->other != NULL)
		m->e = m->e == &engine_soft ? &engine_kvm : &engine_soft;
	m->vcpu = m->e->vcpu_create(vm_of(m), 0, &m->rig.cpuid, &err);
	if (m->vcpu == NULL || m->e->set_state(m->vcpu, X86_STATE_ALL, &before, &err) != 0) {
		snprintf(m->why, sizeof(m->why), "restore: %s", err.msg);
		return false;
	}
	m->saves++;
	if (m->other != NULL)
		return true; /* it is the guest that looks */
	m->e->get_state(m->vcpu, X86_STATE_ALL, &after);
	return same(m, &before, &after);
}

static void
inject(struct machine *m)
{
	for (unsigned v = 255; v >= 32; v--) {
		if (!m->pending[v])
			continue;
		if (m->e->intr_ready(m->vcpu, true)) {
			m->pending[v] = 0;
			m->e->inject_intr(m->vcpu, (uint8_t)v);
		}
		return;
	}
}

/* 1 to 64 instructions; the same ones in every run. */
static unsigned
some(uint32_t *random)
{
	*random = *random * 1664525 + 1013904223;
	return (*random >> 16) % 64 + 1;
}

/* STEPS: also save between any two instructions, not only where the guest leaves. */
static void
run(struct machine *m, enum how how)
{
	struct vm_exit x = {0};
	uint32_t random = 1;

	for (unsigned n = 0; n < EXITS_MAX && !m->ended; n++) {
		inject(m);
		if (how == STEPS)
			(void)soft_vcpu_step(m->vcpu, some(&random), &x);
		else
			m->e->run(m->vcpu, &x);
		if (!answer(m, &x))
			return;
		if (x.kind == VM_EXIT_INTR || x.kind == VM_EXIT_HLT) {
			if (!swap_vcpu(m))
				return;
			continue;
		}
		if (how != STEPS)
			m->e->kick(m->vcpu); /* finish the instruction, then come back: the swap is there */
	}
}

/* ---- an image ---- */

static uint64_t
field(const uint8_t *p, bool wide)
{
	return wide ? get_le64(p) : get_le32(p);
}

/* PT_LOADs of an ELF file of either class; its entry, or 0. */
static uint64_t
load(struct machine *m, const uint8_t *f, size_t len)
{
	bool w = f[4] == 2;
	const uint8_t *ph = f + field(f + (w ? 32 : 28), w);
	unsigned size = get_le16(f + (w ? 54 : 42)), count = get_le16(f + (w ? 56 : 44));

	for (unsigned n = 0; n < count; n++, ph += size) {
		uint64_t off = field(ph + (w ? 8 : 4), w), pa = field(ph + (w ? 24 : 12), w),
			 bytes = field(ph + (w ? 32 : 16), w);

		if (get_le32(ph) != 1)
			continue;
		if (off > len || bytes > len - off || !gm_load(m->rig.mem, pa, f + off, bytes))
			return 0;
	}
	return field(f + 24, w);
}

static void
start(struct machine *m, uint64_t entry)
{
	static struct x86_state s;
	struct err err = {0};

	x86_state_reset(&s);
	s.cr0 = CR0_PE | CR0_ET;
	for (unsigned n = 0; n < 6; n++)
		s.seg[n] = rig_segment(8, (n == X86_CS ? 0xb : 0x3) | SEG_S | SEG_P | SEG_DB | SEG_G);
	s.rip = entry;
	LH_ASSERT(m->e->set_state(m->vcpu, X86_STATE_ALL, &s, &err) == 0);
}

static uint8_t *
read_file(const char *path, size_t *len)
{
	FILE *f = fopen(path, "rb");
	uint8_t *p = malloc(RAM);

	LH_ASSERT(f != NULL && p != NULL);
	*len = fread(p, 1, RAM, f);
	fclose(f);
	LH_ASSERT(*len > 64);
	return p;
}

/* The KVM engine's VM on the same memory and clock. CPUID is what both give. */
static int
open_other(struct machine *m, struct err *err)
{
	static const struct x86_topology one = {1, 1, 1, 1, 1};
	struct engine_vm_cfg cfg = {
	    .maxcpus = 1, .strict_msr = true, .mem = m->rig.mem, .clock = m->rig.clock};

	m->other = engine_kvm.vm_create(&cfg, err);
	if (m->other == NULL)
		return -err->code;
	x86_cpuid_host(&m->rig.cpuid);
	engine_kvm.cpuid_filter(&m->rig.cpuid);
	x86_cpuid_finish(&m->rig.cpuid, &one, 0, true);
	return 0;
}

/* What the software engine has beside the host's features. */
static void
open_wide(struct machine *m, struct err *err)
{
	engine_soft.vcpu_destroy(m->vcpu);
	engine_soft.cpuid_add(&m->rig.cpuid, (uint32_t)ENGINE_LA57 | ENGINE_PKU | ENGINE_PKS);
	m->vcpu = engine_soft.vcpu_create(m->rig.vm, 0, &m->rig.cpuid, err);
	LH_ASSERT(m->vcpu != NULL);
}

static bool
test_image(const char *path, enum how how)
{
	struct machine *m = calloc(1, sizeof(*m));
	struct err err = {0};
	size_t len;
	uint8_t *file = read_file(path, &len);
	uint64_t entry;
	const char *last;
	bool ok;

	LH_ASSERT(m != NULL);
	if (rig_open(&m->rig, RAM, &err) != 0) {
		printf("# %s\n", err.msg);
		free(m);
		free(file);
		return false;
	}
	m->e = &engine_soft;
	m->vcpu = m->rig.vcpu;
	m->rig.vcpu = NULL;
	if (how != ENGINES)
		open_wide(m, &err);
	else if (open_other(m, &err) != 0)
		snprintf(m->why, sizeof(m->why), "%s", err.msg);
	entry = load(m, file, len);
	LH_ASSERT(entry != 0);
	start(m, entry);
	if (m->why[0] == '\0')
		run(m, how);
	last = strstr(m->text, "done: ");
	ok = m->ended && m->status == 0 && m->why[0] == '\0' && last != NULL && m->saves > 10;
	printf("# %u saves; %s", m->saves, last != NULL ? last : "no last line\n");
	if (!ok)
		printf("# %s\n# %s\n", m->why, m->text);
	m->e->vcpu_destroy(m->vcpu);
	if (m->other != NULL)
		engine_kvm.vm_destroy(m->other);
	rig_close(&m->rig);
	free(m);
	free(file);
	return ok;
}

int
main(int argc, char **argv)
{
	static const char *const text[HOWS] = {"saved and restored after each exit",
					       "saved and restored after a few instructions",
					       "moved between the engines after each exit"};
	struct err err = {0};
	bool all = true, kvm = engine_kvm.usable(&err) == 0;
	int count = 0;

	printf("1..%d\n", HOWS * (argc - 1));
	for (int n = 1; n < argc; n++) {
		const char *name = strrchr(argv[n], '/');

		name = name != NULL ? name + 1 : argv[n];
		for (int how = 0; how < HOWS; how++) {
			bool skip = how == ENGINES && !kvm;
			bool ok = skip || test_image(argv[n], (enum how)how);

			printf("%s %d - %s: %s%s%s\n", ok ? "ok" : "not ok", ++count, text[how], name,
			       skip ? " # SKIP " : "", skip ? err.msg : "");
			fflush(stdout);
			all = all && ok;
		}
	}
	return all ? 0 : 1;
}
