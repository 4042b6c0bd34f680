/* SPDX-License-Identifier: BSD-2-Clause */
/* Local APICs: modes, registers, priorities, messages, pins, errors. The timer has a file of its own. */
#include "tests/unit/chipset_util.h"

#include <errno.h>

#include "tests/unit/lapic_util.h"

static void
test_power_on(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(rdmsr(f, 0, 0x1b), 0xfee00900);
	assert_int_equal(rdmsr(f, 1, 0x1b), 0xfee00800);
	assert_int_equal(rd(f, 2, 0x20), 2u << 24);
	assert_int_equal(rd(f, 0, 0x30), 0x01060014);
	assert_int_equal(rd(f, 0, 0xe0), 0xffffffff);
	assert_int_equal(rd(f, 0, 0xf0), 0xff);
	for (unsigned off = 0x320; off <= 0x370; off += 0x10)
		assert_int_equal(rd(f, 0, off), 0x10000);
	assert_int_equal(rd(f, 0, 0x2f0), 0x10000);
	assert_int_equal(lapic_pending(f->set, 0), LAPIC_NONE);
}

static void
test_mmio_decoding(void **state)
{
	struct fixture *f = *state;
	uint64_t val;

	assert_false(lapic_mmio_read(f->set, 0, 0xfee01000, 4, &val));
	assert_false(lapic_mmio_write(f->set, 0, 0xfedff0f0, 4, 0));
	assert_int_equal(wrmsr(f, 1, 0x1b, 0xfeb00800), 0); /* one vCPU's window moves */
	assert_false(lapic_mmio_read(f->set, 1, 0xfee00020, 4, &val));
	assert_true(lapic_mmio_read(f->set, 1, 0xfeb00020, 4, &val));
	assert_true(lapic_mmio_read(f->set, 0, 0xfee00020, 4, &val));
	/* Bytes of a register; nothing between registers; narrow writes are dropped. */
	assert_true(lapic_mmio_read(f->set, 2, 0xfee00023, 1, &val));
	assert_int_equal(val, 2);
	assert_true(lapic_mmio_read(f->set, 2, 0xfee00024, 4, &val));
	assert_int_equal(val, 0);
	assert_true(lapic_mmio_write(f->set, 0, 0xfee00080, 1, 0x20));
	assert_int_equal(rd(f, 0, 0x80), 0);
	for (unsigned off = 0; off < 0x1000; off++) {
		for (unsigned size = 1; size <= 8; size++) {
			(void)lapic_mmio_read(f->set, 3, 0xfee00000u + off, size, &val);
			(void)lapic_mmio_write(f->set, 3, 0xfee00000u + off, size, UINT64_MAX);
		}
	}
}

static void
test_fixed_ipi(void **state)
{
	struct fixture *f = *state;

	enable_all(f);
	ipi(f, 0, 1, 0x4041);
	assert_int_equal(lapic_pending(f->set, 1), 0x41);
	assert_int_equal(lapic_pending(f->set, 0), LAPIC_NONE);
	assert_int_equal(f->cpu[1].wakes, 1);
	assert_int_equal(rd(f, 1, 0x220), 2); /* IRR 0x41 */
	assert_int_equal(lapic_accept(f->set, 1), 0x41);
	assert_int_equal(rd(f, 1, 0x220), 0);
	assert_int_equal(rd(f, 1, 0x120), 2);
	assert_int_equal(rd(f, 1, 0xa0), 0x40); /* PPR */
	assert_int_equal(lapic_pending(f->set, 1), LAPIC_NONE);
	assert_int_equal(lapic_accept(f->set, 1), -1);
	eoi(f, 1);
	assert_int_equal(rd(f, 1, 0x120), 0);
	assert_int_equal(f->eois, 0); /* an edge is not broadcast */
	assert_int_equal(rd(f, 0, 0x300) & 0x1000, 0);
}

static void
test_priorities(void **state)
{
	struct fixture *f = *state;

	enable_all(f);
	ipi(f, 0, 1, 0x4051);
	ipi(f, 0, 1, 0x4062);
	assert_int_equal(lapic_accept(f->set, 1), 0x62);
	ipi(f, 0, 1, 0x406f); /* the same class waits */
	assert_int_equal(lapic_pending(f->set, 1), LAPIC_NONE);
	ipi(f, 0, 1, 0x4070);
	assert_int_equal(lapic_accept(f->set, 1), 0x70);
	eoi(f, 1);
	assert_int_equal(lapic_pending(f->set, 1), LAPIC_NONE);
	f->cpu[1].wakes = 0;
	eoi(f, 1);
	assert_int_equal(f->cpu[1].wakes, 1);
	assert_int_equal(lapic_accept(f->set, 1), 0x6f);
	eoi(f, 1);
	assert_int_equal(lapic_accept(f->set, 1), 0x51);
}

static void
test_task_priority(void **state)
{
	struct fixture *f = *state;

	enable_all(f);
	wr(f, 1, 0x80, 0x53);
	assert_int_equal(lapic_get_cr8(f->set, 1), 5);
	assert_int_equal(rd(f, 1, 0xa0), 0x53);
	ipi(f, 0, 1, 0x405f);
	assert_int_equal(lapic_pending(f->set, 1), LAPIC_NONE);
	f->cpu[1].wakes = 0;
	lapic_set_cr8(f->set, 1, 4);
	assert_int_equal(rd(f, 1, 0x80), 0x40);
	assert_int_equal(f->cpu[1].wakes, 1);
	assert_int_equal(lapic_pending(f->set, 1), 0x5f);
	/* Raised again before it is accepted. */
	lapic_set_cr8(f->set, 1, 15);
	assert_int_equal(lapic_accept(f->set, 1), -1);
	lapic_set_cr8(f->set, 1, 0);
	assert_int_equal(lapic_accept(f->set, 1), 0x5f);
}

static void
test_shorthands(void **state)
{
	struct fixture *f = *state;

	enable_all(f);
	wr(f, 2, 0x300, 0x44031);
	assert_int_equal(pending_mask(f), 1u << 2);
	assert_int_equal(lapic_accept(f->set, 2), 0x31);
	eoi(f, 2);
	wr(f, 2, 0x300, 0x84032);
	assert_int_equal(pending_mask(f), 0xf);
	accept_all(f);
	wr(f, 2, 0x300, 0xc4033);
	assert_int_equal(pending_mask(f), 0xb);
	accept_all(f);
	ipi(f, 3, 0xff, 0x4034); /* physical broadcast, the sender too */
	assert_int_equal(pending_mask(f), 0xf);
}

static void
test_logical_flat(void **state)
{
	struct fixture *f = *state;

	enable_all(f);
	for (unsigned i = 0; i < CPUS; i++)
		wr(f, i, 0xd0, 1u << (24 + i) | 0xffffff);
	assert_int_equal(rd(f, 1, 0xd0), 0x02000000);
	ipi(f, 0, 0x0a, 0x4840 | 1);
	assert_int_equal(pending_mask(f), 0xa);
	accept_all(f);
	ipi(f, 0, 0xff, 0x4842);
	assert_int_equal(pending_mask(f), 0xf);
	accept_all(f);
	ipi(f, 0, 0xf0, 0x4843);
	assert_int_equal(pending_mask(f), 0);
}

static void
test_logical_cluster(void **state)
{
	struct fixture *f = *state;

	enable_all(f);
	for (unsigned i = 0; i < CPUS; i++) {
		wr(f, i, 0xe0, 0x0fffffff);
		wr(f, i, 0xd0, (i < 2 ? 0x10u : 0x20u) << 24 | 1u << (24 + i % 2));
	}
	ipi(f, 0, 0x13, 0x4841);
	assert_int_equal(pending_mask(f), 0x3);
	accept_all(f);
	ipi(f, 0, 0x22, 0x4841);
	assert_int_equal(pending_mask(f), 0x8);
	accept_all(f);
	ipi(f, 0, 0x31, 0x4841);
	assert_int_equal(pending_mask(f), 0);
}

static void
test_lowest_priority(void **state)
{
	struct fixture *f = *state;
	unsigned hits[CPUS] = {0};

	enable_all(f);
	for (unsigned i = 0; i < CPUS; i++)
		wr(f, i, 0xd0, 1u << (24 + i));
	wr(f, 0, 0x80, 0x40);
	wr(f, 1, 0x80, 0x30);
	wr(f, 3, 0x80, 0x40);
	assert_true(lapic_message(f->set, 0x0b, true, 1, 0x91, false));
	assert_int_equal(pending_mask(f), 0x2);
	accept_all(f);
	/* Ties go round. */
	for (unsigned i = 0; i < CPUS; i++)
		wr(f, i, 0x80, 0);
	for (unsigned n = 0; n < 4 * CPUS; n++) {
		assert_true(lapic_message(f->set, 0x0f, true, 1, 0x91, false));
		for (unsigned i = 0; i < CPUS; i++)
			hits[i] += lapic_pending(f->set, i) >= 0;
		assert_int_equal(__builtin_popcount(pending_mask(f)), 1);
		accept_all(f);
	}
	for (unsigned i = 0; i < CPUS; i++)
		assert_int_equal(hits[i], 4);
	/* Software-disabled ones do not take part. */
	for (unsigned i = 0; i < 3; i++)
		wr(f, i, 0xf0, 0xff);
	assert_true(lapic_message(f->set, 0x0f, true, 1, 0x91, false));
	assert_int_equal(pending_mask(f), 0x8);
}

static void
test_level_and_eoi_broadcast(void **state)
{
	struct fixture *f = *state;

	enable_all(f);
	assert_true(lapic_message(f->set, 1, false, 0, 0x61, true));
	assert_int_equal(rd(f, 1, 0x1b0), 2); /* TMR 0x61 */
	assert_int_equal(lapic_accept(f->set, 1), 0x61);
	eoi(f, 1);
	assert_int_equal(f->eois, 1);
	assert_int_equal(f->eoi_vector, 0x61);
	/* The same vector as an edge clears TMR. */
	assert_true(lapic_message(f->set, 1, false, 0, 0x61, false));
	assert_int_equal(rd(f, 1, 0x1b0), 0);
	assert_int_equal(lapic_accept(f->set, 1), 0x61);
	eoi(f, 1);
	assert_int_equal(f->eois, 1);
	/* Suppressed by SVR bit 12. */
	wr(f, 1, 0xf0, 0x11ff);
	assert_true(lapic_message(f->set, 1, false, 0, 0x61, true));
	assert_int_equal(lapic_accept(f->set, 1), 0x61);
	eoi(f, 1);
	assert_int_equal(f->eois, 1);
}

static void
test_nmi_init_sipi_smi(void **state)
{
	struct fixture *f = *state;

	/* These reach an APIC that software has not enabled. */
	ipi(f, 0, 2, 0x4400);
	assert_int_equal(f->cpu[2].nmis, 1);
	ipi(f, 0, 2, 0x4200);
	assert_int_equal(f->cpu[2].smis, 1);
	ipi(f, 0, 2, 0xc500); /* INIT assert, level */
	assert_int_equal(f->cpu[2].inits, 1);
	ipi(f, 0, 2, 0x8500); /* de-assert: nothing */
	assert_int_equal(f->cpu[2].inits, 1);
	ipi(f, 0, 2, 0x4500);
	assert_int_equal(f->cpu[2].inits, 2);
	ipi(f, 0, 2, 0x4608);
	assert_int_equal(f->cpu[2].sipis, 1);
	assert_int_equal(f->cpu[2].sipi_vector, 8);
	wr(f, 0, 0x300, 0xc4500);
	assert_int_equal(f->cpu[0].inits, 0);
	assert_int_equal(f->cpu[1].inits, 1);
	assert_int_equal(f->cpu[3].inits, 1);
	/* ExtINT and 3 are no IPIs. */
	ipi(f, 0, 2, 0x4700);
	ipi(f, 0, 2, 0x4300);
	assert_int_equal(pending_mask(f), 0);
	assert_false(lapic_message(f->set, 2, false, 6, 0x10, false));
	assert_false(lapic_message(f->set, 2, false, 3, 0x10, false));
	assert_int_equal(f->cpu[2].sipis, 1);
}

static void
test_software_disable(void **state)
{
	struct fixture *f = *state;

	ipi(f, 0, 1, 0x4041);
	assert_int_equal(pending_mask(f), 0);
	assert_false(lapic_message(f->set, 1, false, 0, 0x41, false));
	wr(f, 1, 0x350, 0x700);
	assert_int_equal(rd(f, 1, 0x350), 0x10700); /* stays masked */
	wr(f, 1, 0xf0, 0x1ff);
	wr(f, 1, 0x350, 0x31);
	assert_int_equal(rd(f, 1, 0x350), 0x31);
	assert_true(lapic_message(f->set, 1, false, 0, 0x41, false));
	wr(f, 1, 0xf0, 0xff);
	assert_int_equal(rd(f, 1, 0x350), 0x10031);
	assert_int_equal(lapic_accept(f->set, 1), 0x41); /* what was accepted is still delivered */
	wr(f, 1, 0xf0, 0x1ff);
	assert_int_equal(rd(f, 1, 0x350), 0x10031);
}

static void
test_errors(void **state)
{
	struct fixture *f = *state;

	enable_all(f);
	wr(f, 0, 0x370, 0x33);
	ipi(f, 0, 1, 0x400f); /* vector 15 */
	assert_int_equal(pending_mask(f), 1);
	assert_int_equal(lapic_accept(f->set, 0), 0x33);
	assert_int_equal(rd(f, 0, 0x280), 0); /* readable after a write only */
	wr(f, 0, 0x280, 0);
	assert_int_equal(rd(f, 0, 0x280), 0x20);
	wr(f, 0, 0x280, 0);
	assert_int_equal(rd(f, 0, 0x280), 0);
	eoi(f, 0);
	assert_true(lapic_message(f->set, 0, false, 0, 5, false));
	wr(f, 0, 0x280, 0);
	assert_int_equal(rd(f, 0, 0x280), 0x40);
	(void)rd(f, 0, 0x40);
	wr(f, 0, 0x280, 0);
	assert_int_equal(rd(f, 0, 0x280), 0x80);
	assert_int_equal(lapic_accept(f->set, 0), 0x33);
	eoi(f, 0);
	/* An illegal vector of the error entry itself does not recurse. */
	wr(f, 0, 0x370, 0x03);
	(void)rd(f, 0, 0x3f0);
	wr(f, 0, 0x280, 0);
	assert_int_equal(rd(f, 0, 0x280), 0xc0);
	assert_int_equal(lapic_pending(f->set, 0), LAPIC_NONE);
}

static void
test_extint(void **state)
{
	struct fixture *f = *state;

	f->extint_vector = 0x77;
	lapic_lint0(f->set, true);
	assert_int_equal(pending_mask(f), 0); /* masked */
	lapic_virtual_wire(f->set);
	assert_int_equal(lapic_pending(f->set, 0), LAPIC_EXTINT);
	assert_int_equal(f->cpu[0].wakes, 1);
	lapic_set_cr8(f->set, 0, 15); /* priorities do not matter */
	assert_int_equal(lapic_accept(f->set, 0), 0x77);
	assert_int_equal(rd(f, 0, 0x130), 0); /* not in ISR */
	lapic_lint0(f->set, false);
	assert_int_equal(lapic_pending(f->set, 0), LAPIC_NONE);
	/* As a message of the IOAPIC: once. */
	assert_true(lapic_message(f->set, 0, false, 7, 0, false));
	assert_int_equal(lapic_accept(f->set, 0), 0x77);
	assert_int_equal(lapic_pending(f->set, 0), LAPIC_NONE);
	/* With the APIC off the pins are INTR and NMI. */
	assert_int_equal(wrmsr(f, 0, 0x1b, 0xfee00100), 0);
	lapic_lint0(f->set, true);
	assert_int_equal(lapic_pending(f->set, 0), LAPIC_EXTINT);
	lapic_lint1_nmi(f->set);
	assert_int_equal(f->cpu[0].nmis, 1);
	assert_int_equal(f->cpu[1].nmis, 0);
}

static void
test_lint_pins(void **state)
{
	struct fixture *f = *state;

	enable_all(f);
	wr(f, 0, 0x350, 0x00039); /* fixed, edge: Linux' "virtual wire IRQ" */
	lapic_lint0(f->set, true);
	assert_int_equal(lapic_accept(f->set, 0), 0x39);
	eoi(f, 0);
	assert_int_equal(pending_mask(f), 0);
	lapic_lint0(f->set, false);
	wr(f, 0, 0x350, 0x08039); /* level */
	lapic_lint0(f->set, true);
	assert_int_equal(rd(f, 0, 0x350), 0xc039);
	assert_int_equal(lapic_accept(f->set, 0), 0x39);
	eoi(f, 0);
	assert_int_equal(lapic_accept(f->set, 0), 0x39); /* still high */
	lapic_lint0(f->set, false);
	eoi(f, 0);
	assert_int_equal(rd(f, 0, 0x350), 0x8039);
	assert_int_equal(pending_mask(f), 0);
	wr(f, 2, 0x360, 0x400);
	lapic_lint1_nmi(f->set);
	assert_int_equal(f->cpu[2].nmis, 1);
	assert_int_equal(f->cpu[1].nmis, 0);
}

static void
test_pmi(void **state)
{
	struct fixture *f = *state;

	enable_all(f);
	lapic_pmi(f->set, 1);
	assert_int_equal(lapic_pending(f->set, 1), LAPIC_NONE); /* masked */
	wr(f, 1, 0x340, 0x45);
	lapic_pmi(f->set, 1);
	assert_int_equal(pending_mask(f), 1 << 1);
	assert_int_equal(lapic_pending(f->set, 1), 0x45);
	assert_int_equal(rd(f, 1, 0x340), 0x45); /* AMD: it does not mask itself */
	wr(f, 2, 0x340, 4 << 8);
	lapic_pmi(f->set, 2);
	assert_int_equal(f->cpu[2].nmis, 1);
	assert_int_equal(wrmsr(f, 2, 0x1b, 0xfee00000), 0);
	lapic_pmi(f->set, 2);
	assert_int_equal(f->cpu[2].nmis, 1);
}

static void
test_msi(void **state)
{
	struct fixture *f = *state;

	enable_all(f);
	lapic_msi(f->set, 0xfee02000, 0x4045);
	assert_int_equal(pending_mask(f), 4);
	accept_all(f);
	lapic_msi(f->set, 0xfee02000, 0x8046); /* level de-assert */
	assert_int_equal(pending_mask(f), 0);
	lapic_msi(f->set, 0xfee02000, 0xc046);
	assert_int_equal(lapic_accept(f->set, 2), 0x46);
	eoi(f, 2);
	assert_int_equal(f->eoi_vector, 0x46);
	lapic_msi(f->set, 0xfee03000, 0x0400);
	assert_int_equal(f->cpu[3].nmis, 1);
	lapic_msi(f->set, 0xfee0f00c, 0x4047); /* redirection hint, logical: one of them */
	assert_int_equal(pending_mask(f), 0);  /* nobody has a logical id yet */
	for (unsigned i = 0; i < CPUS; i++)
		wr(f, i, 0xd0, 1u << (24 + i));
	lapic_msi(f->set, 0xfee0f00c, 0x4047);
	assert_int_equal(__builtin_popcount(pending_mask(f)), 1);
	accept_all(f);
	lapic_msi(f->set, 0x1fee00000, 0x4045);
	lapic_msi(f->set, 0xfed00000, 0x4045);
	assert_int_equal(pending_mask(f), 0);
}

/* Messages that a kernel can be given once and for all, in the form in which they go there one by one. */
static void
test_plain_messages(void **state)
{
	static const struct {
		uint64_t addr, to;
		uint32_t data, as;
		bool plain;
	} rows[] = {
	    {0xfee02000, 0xfee02000, 0x4045, 0x45, true},
	    {0xfee02004, 0xfee02004, 0x45, 0x45, true},
	    {0xfee0f00c, 0xfee0f00c, 0x47, 0x147, true}, /* a hint, logical: lowest priority */
	    {0xfee0f004, 0xfee0f00c, 0x147, 0x147, true},
	    {0xfee0f008, 0xfee0f000, 0x47, 0x47, true}, /* a hint, physical: nothing */
	    {0xfee02020, 0xfee02020, 0x45, 0x45, true}, /* a destination above 255 */
	    {0xfee02000, 0, 0xc046, 0, false},		/* level */
	    {0xfee02000, 0, 0x8046, 0, false},
	    {0xfee02000, 0, 0x200, 0, false}, /* SMI */
	    {0xfee02000, 0, 0x400, 0, false}, /* NMI */
	    {0xfee02000, 0, 0x500, 0, false},
	    {0xfee02000, 0, 0x720, 0, false},
	    {0x1fee00000, 0, 0x45, 0, false},
	    {0xfed00000, 0, 0x45, 0, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		uint64_t addr = rows[i].addr;
		uint32_t data = rows[i].data;

		assert_int_equal(lapic_msi_plain(&addr, &data), rows[i].plain);
		assert_int_equal(addr, rows[i].plain ? rows[i].to : rows[i].addr);
		assert_int_equal(data, rows[i].plain ? rows[i].as : rows[i].data);
	}
}

/* ---- modes ---- */

static void
test_base_transitions(void **state)
{
	enum { OFF = 0, X1 = 0x800, X2 = 0xc00, BAD = 0x400 };
	static const struct {
		unsigned from, to;
		int rc;
	} t[] = {
	    {X1, X1, 0},	 {X1, X2, 0},	     {X1, BAD, -EINVAL}, {X2, X1, -EINVAL},
	    {X2, X2, 0},	 {X2, BAD, -EINVAL}, {X2, OFF, 0},	 {OFF, X2, -EINVAL},
	    {OFF, BAD, -EINVAL}, {OFF, OFF, 0},	     {OFF, X1, 0},	 {X1, OFF, 0},
	};
	struct fixture *f = *state;

	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		lapic_device_ops.reset(f->set);
		if (t[i].from != X1)
			assert_int_equal(wrmsr(f, 1, 0x1b, 0xfee00000u | t[i].from), 0);
		assert_int_equal(wrmsr(f, 1, 0x1b, 0xfee00000u | t[i].to), t[i].rc);
		assert_int_equal(rdmsr(f, 1, 0x1b) & 0xc00, t[i].rc == 0 ? t[i].to : t[i].from);
	}
	lapic_device_ops.reset(f->set);
	assert_int_equal(wrmsr(f, 1, 0x1b, 0xfee00801), -EINVAL);
	assert_int_equal(wrmsr(f, 1, 0x1b, 0xfee00a00), -EINVAL);
	assert_int_equal(wrmsr(f, 1, 0x1b, 1ull << 46 | 0xfee00800), -EINVAL);
	assert_int_equal(wrmsr(f, 1, 0x1b, 1ull << 45 | 0xfee00800), 0);
	assert_int_equal(wrmsr(f, 1, 0x1b, 0xfee00900), 0);
	assert_int_equal(rdmsr(f, 1, 0x1b), 0xfee00800); /* the bootstrap flag is fixed */
}

static void
test_off_forgets(void **state)
{
	struct fixture *f = *state;

	enable_all(f);
	ipi(f, 0, 1, 0x4041);
	assert_int_equal(wrmsr(f, 1, 0x1b, 0xfee00000), 0);
	assert_int_equal(lapic_pending(f->set, 1), LAPIC_NONE);
	ipi(f, 0, 1, 0x4400);
	assert_int_equal(f->cpu[1].nmis, 0); /* off the bus */
	assert_int_equal(wrmsr(f, 1, 0x1b, 0xfee00800), 0);
	assert_int_equal(rd(f, 1, 0xf0), 0xff);
	assert_int_equal(lapic_pending(f->set, 1), LAPIC_NONE);
}

/* An xAPIC takes the id that it is given, shares it with others, and forgets it when it goes off. */
static void
test_xapic_id(void **state)
{
	struct fixture *f = *state;

	enable_all(f);
	wr(f, 1, 0x20, 7u << 24 | 0xffffff);
	assert_int_equal(rd(f, 1, 0x20), 7u << 24);
	assert_int_equal(lapic_id(f->set, 1), 1); /* CPUID's stays */
	ipi(f, 0, 1, 0x4041);
	assert_int_equal(pending_mask(f), 0); /* nobody is 1 now */
	ipi(f, 0, 7, 0x4042);
	assert_int_equal(pending_mask(f), 1 << 1);
	wr(f, 2, 0x20, 3u << 24);
	ipi(f, 0, 3, 0x4043);
	assert_int_equal(pending_mask(f), 1 << 1 | 1 << 2 | 1 << 3);
	lapic_init_reset(f->set, 1);
	assert_int_equal(rd(f, 1, 0x20), 7u << 24); /* INIT leaves it */
	assert_int_equal(wrmsr(f, 1, 0x1b, 0xfee00c00), 0);
	assert_int_equal(rdmsr(f, 1, 0x802), 1);
	assert_int_equal(wrmsr(f, 1, 0x1b, 0xfee00000), 0);
	assert_int_equal(wrmsr(f, 1, 0x1b, 0xfee00800), 0);
	assert_int_equal(rd(f, 1, 0x20), 1u << 24);
	lapic_device_ops.reset(f->set);
	assert_int_equal(rd(f, 2, 0x20), 2u << 24);
}

static void
test_x2apic_registers(void **state)
{
	struct fixture *f = *state;
	uint64_t val;

	assert_int_equal(lapic_msr_read(f->set, 1, 0x802, &val), -EINVAL); /* xAPIC mode */
	assert_int_equal(wrmsr(f, 1, 0x1b, 0xfee00c00), 0);
	assert_false(lapic_mmio_read(f->set, 1, 0xfee00020, 4, &val));
	assert_int_equal(rdmsr(f, 1, 0x802), 1);
	assert_int_equal(rdmsr(f, 1, 0x80d), 2); /* cluster 0, bit 1 */
	assert_int_equal(rdmsr(f, 1, 0x803), 0x01060014);
	assert_int_equal(wrmsr(f, 1, 0x80f, 0x1ff), 0);
	for (uint32_t msr = 0x800; msr < 0x900; msr++) {
		static const char readable[] =
		    "..rr....r.r..r.rrrrrrrrrrrrrrrrrrrrrrrrrr......rr.rrrrrrrr....r";
		static const char writable[] =
		    "........w..w...w........................w......ww.wwwwwww.....ww";
		unsigned i = msr - 0x800;
		bool r = i < sizeof(readable) - 1 && readable[i] == 'r';
		bool w = i < sizeof(writable) - 1 && writable[i] == 'w';

		assert_int_equal(lapic_msr_read(f->set, 1, msr, &val), r ? 0 : -EINVAL);
		if (msr != 0x830 && msr != 0x83f && msr != 0x80f)
			assert_int_equal(wrmsr(f, 1, msr, 0), w ? 0 : -EINVAL);
		if (msr != 0x830)
			assert_int_equal(wrmsr(f, 1, msr, 1ull << 32), -EINVAL);
		assert_true(lapic_msr_owned(msr));
	}
	assert_false(lapic_msr_owned(0x7ff));
	assert_false(lapic_msr_owned(0x900));
	assert_true(lapic_msr_owned(0x1b) && lapic_msr_owned(0x6e0));
}

static void
test_x2apic_reserved_bits(void **state)
{
	static const struct {
		uint32_t msr, bad;
	} t[] = {
	    {0x808, 0x100},   {0x80b, 1},      {0x80f, 0x400},	 {0x80f, 0x2000},   {0x828, 1},
	    {0x82f, 0x2000},  {0x830, 0x2000}, {0x830, 0x10000}, {0x830, 0x100000}, {0x832, 0x100},
	    {0x832, 0x80000}, {0x833, 0x2000}, {0x834, 0x8000},	 {0x835, 0x800},    {0x836, 0x20000},
	    {0x837, 0x100},   {0x83e, 4},      {0x83e, 0x10},	 {0x83f, 0x100},
	};
	struct fixture *f = *state;

	assert_int_equal(wrmsr(f, 1, 0x1b, 0xfee00c00), 0);
	for (unsigned i = 0; i < ARRAY_LEN(t); i++)
		assert_int_equal(wrmsr(f, 1, t[i].msr, t[i].bad), -EINVAL);
	assert_int_equal(wrmsr(f, 1, 0x83e, 0xb), 0);
	assert_int_equal(wrmsr(f, 1, 0x832, 0x710ff), 0);
}

static void
test_x2apic_messages(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < CPUS; i++) {
		assert_int_equal(wrmsr(f, i, 0x1b, 0xfee00c00), 0);
		assert_int_equal(wrmsr(f, i, 0x80f, 0x1ff), 0);
	}
	assert_int_equal(wrmsr(f, 0, 0x830, 2ull << 32 | 0x4041), 0);
	assert_int_equal(pending_mask(f), 4);
	assert_int_equal(rdmsr(f, 0, 0x830), 2ull << 32 | 0x4041);
	accept_all(f);
	assert_int_equal(wrmsr(f, 0, 0x830, 0xaull << 32 | 0x4842), 0); /* logical, cluster 0 */
	assert_int_equal(pending_mask(f), 0xa);
	accept_all(f);
	assert_int_equal(wrmsr(f, 0, 0x830, 0x1000aull << 32 | 0x4842), 0); /* cluster 1: nobody */
	assert_int_equal(wrmsr(f, 0, 0x830, 0xffull << 32 | 0x4042), 0);    /* 255 is an id like others */
	assert_int_equal(pending_mask(f), 0);
	assert_int_equal(wrmsr(f, 0, 0x830, 0xffffffffull << 32 | 0x4043), 0);
	assert_int_equal(pending_mask(f), 0xf);
	accept_all(f);
	assert_int_equal(wrmsr(f, 3, 0x83f, 0x55), 0);
	assert_int_equal(pending_mask(f), 8);
	accept_all(f);
	assert_int_equal(wrmsr(f, 3, 0x83f, 0x05), 0);
	assert_int_equal(wrmsr(f, 3, 0x828, 0), 0);
	assert_int_equal(rdmsr(f, 3, 0x828), 0x20);
	lapic_msi(f->set, 0xfeeff000, 0x4044); /* 8-bit broadcast reaches x2APICs */
	assert_int_equal(pending_mask(f), 0xf);
	accept_all(f);
	lapic_msi(f->set, 0xfee05004, 0x4044); /* logical, 8 bits: cluster 0 */
	assert_int_equal(pending_mask(f), 5);
}

static void
test_no_x2apic(void **state)
{
	struct fixture *f = *state;
	const struct lapic_cfg cfg = {.cpus = 1};
	const struct lapic_wires w = {.clock = f->clock, .cpu_ops = &recorder_ops, .cpu_ctx = f};
	struct lapic_set *s = lapic_create(&cfg, &w, NULL);

	assert_non_null(s);
	assert_int_equal(lapic_msr_write(s, 0, 0x1b, 0xfee00d00), -EINVAL);
	lapic_device_ops.destroy(s);
}

static void
test_large_ids(void **state)
{
	enum { N = 300 };
	struct fixture *f = *state;
	const struct lapic_wires w = {.clock = f->clock, .cpu_ops = &silent_ops, .cpu_ctx = f};
	uint32_t ids[N];
	const struct lapic_cfg cfg = {.cpus = N, .apic_ids = ids, .x2apic = true};
	struct lapic_set *s;
	struct err err;
	unsigned got = 0;

	for (unsigned i = 0; i < N; i++)
		ids[i] = 70000 - 3 * i;
	s = lapic_create(&cfg, &w, &err);
	assert_non_null(s);
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(lapic_msr_write(s, i, 0x1b, 0xfee00c00), 0);
		assert_int_equal(lapic_msr_write(s, i, 0x80f, 0x1ff), 0);
	}
	assert_int_equal(lapic_id(s, 7), 70000 - 21);
	assert_int_equal(lapic_msr_write(s, 0, 0x830, (uint64_t)ids[200] << 32 | 0x4041), 0);
	/* Logical: the cluster of 16 ids that vCPU 7 is in. */
	assert_int_equal(lapic_msr_write(s, 0, 0x830, (uint64_t)(ids[7] >> 4 << 16 | 0xffff) << 32 | 0x4842),
			 0);
	for (unsigned i = 0; i < N; i++) {
		int v = lapic_pending(s, i);

		if (ids[i] >> 4 == ids[7] >> 4)
			assert_int_equal(v, 0x42);
		else
			assert_int_equal(v, i == 200 ? 0x41 : LAPIC_NONE);
		got += v >= 0;
	}
	assert_in_range(got, 6, 7);
	lapic_device_ops.destroy(s);
	ids[5] = ids[6];
	assert_null(lapic_create(&cfg, &w, &err));
	assert_non_null(strstr(err.msg, "same APIC id"));
}

static void
test_init_reset(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(wrmsr(f, 2, 0x1b, 0xfeb00c00), 0);
	assert_int_equal(wrmsr(f, 2, 0x80f, 0x1ff), 0);
	assert_int_equal(wrmsr(f, 2, 0x83f, 0x66), 0);
	lapic_init_reset(f->set, 2);
	assert_int_equal(lapic_pending(f->set, 2), LAPIC_NONE);
	assert_int_equal(rdmsr(f, 2, 0x1b), 0xfeb00c00); /* base and mode stay */
	assert_int_equal(rdmsr(f, 2, 0x80f), 0xff);
	assert_int_equal(rdmsr(f, 2, 0x80d), 4);
	assert_int_equal(rdmsr(f, 2, 0x835), 0x10000);
}

static void
test_state(void **state)
{
	struct fixture *f = *state;
	void *dev = lapic_cpu_device(f->set, 1);
	const struct field_table *t = lapic_cpu_device_ops.state;
	uint8_t *st = lapic_cpu_device_ops.st(dev);
	uint64_t seed = 7, val;

	enable_all(f);
	wr(f, 1, 0x80, 0x20);
	assert_true(lapic_message(f->set, 1, false, 0, 0x61, true));
	check_device_state(&lapic_cpu_device_ops, dev);
	assert_int_equal(lapic_pending(f->set, 1), 0x61);
	/* A state loaded over another one wakes what became deliverable. */
	f->cpu[1].wakes = 0;
	assert_int_equal(lapic_accept(f->set, 1), 0x61);
	eoi(f, 1);
	assert_int_equal(f->eois, 1);
	for (unsigned round = 0; round < 3000; round++) {
		for (uint32_t i = 0; i < t->count; i++) {
			const struct field *fd = &t->fields[i];

			for (uint32_t b = 0; b < 4 && round % 3 != 0 && fd->kind != FIELD_BOOL; b++)
				st[fd->offset + b] = (uint8_t)next_random(&seed);
			if (fd->kind == FIELD_BOOL)
				st[fd->offset] = next_random(&seed) & 1;
		}
		if (lapic_cpu_device_ops.post_load(dev, NULL) != 0) {
			lapic_device_ops.reset(f->set);
			continue;
		}
		(void)lapic_accept(f->set, 1);
		(void)lapic_mmio_read(f->set, 1, 0xfee00390, 4, &val);
		vm_clock_advance(f->clock, 1000);
	}
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_power_on),
	    T(test_mmio_decoding),
	    T(test_fixed_ipi),
	    T(test_priorities),
	    T(test_task_priority),
	    T(test_shorthands),
	    T(test_logical_flat),
	    T(test_logical_cluster),
	    T(test_lowest_priority),
	    T(test_level_and_eoi_broadcast),
	    T(test_nmi_init_sipi_smi),
	    T(test_software_disable),
	    T(test_errors),
	    T(test_extint),
	    T(test_lint_pins),
	    T(test_pmi),
	    T(test_msi),
	    T(test_plain_messages),
	    T(test_base_transitions),
	    T(test_off_forgets),
	    T(test_xapic_id),
	    T(test_x2apic_registers),
	    T(test_x2apic_reserved_bits),
	    T(test_x2apic_messages),
	    T(test_no_x2apic),
	    T(test_large_ids),
	    T(test_init_reset),
	    T(test_state),
	};

	return cmocka_run_group_tests_name("lapic", tests, NULL, NULL);
}
