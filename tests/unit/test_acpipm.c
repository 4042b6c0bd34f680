/* SPDX-License-Identifier: BSD-2-Clause */
/* ACPI power management and the reset controls, through a bus, on a manual clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "base/vmclock.h"
#include "dev/bus.h"
#include "dev/chipset/acpipm.h"
#include "dev/chipset/resetctl.h"

enum {
	PM = 0x600,
	STS = PM,
	EN = PM + 2,
	CNT = PM + 4,
	TMR = PM + 8,
	GPE_STS = PM + 0x20,
	GPE_EN = PM + 0x28
};
enum { BIT_TMR = 0x001, BIT_PWRBTN = 0x100, BIT_SLPBTN = 0x200 };

struct rig {
	struct io_bus *pio;
	struct vm_clock *clock;
	struct acpipm *pm;
	struct resetctl *rst;
	bool sci;
	unsigned offs, resets, sleeps, wakes;
};

static void
rig_sci(void *ctx, unsigned line, bool level)
{
	assert_int_equal(line, 9);
	((struct rig *)ctx)->sci = level;
}

static void
rig_off(void *ctx)
{
	((struct rig *)ctx)->offs++;
}

static void
rig_sleep(void *ctx)
{
	((struct rig *)ctx)->sleeps++;
}

static void
rig_wake(void *ctx)
{
	((struct rig *)ctx)->wakes++;
}

static void
rig_reset(void *ctx)
{
	((struct rig *)ctx)->resets++;
}

static int
setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct err err = {0};
	struct acpipm_wires w;
	struct resetctl_wires rw = {.reset = rig_reset, .ctx = r};

	r->pio = io_bus_create("pio", 0x10000, &err);
	r->clock = vm_clock_create(VM_CLOCK_MANUAL, &err);
	w = (struct acpipm_wires){.clock = r->clock,
				  .sci = {rig_sci, r, 9},
				  .poweroff = rig_off,
				  .sleep = rig_sleep,
				  .wake = rig_wake,
				  .ctx = r};
	r->pm = acpipm_create(&w, &err);
	r->rst = resetctl_create(&rw, &err);
	if (r->pm == NULL || r->rst == NULL || acpipm_map(r->pm, r->pio, PM, &err) != 0 ||
	    resetctl_map(r->rst, r->pio, &err) != 0)
		return -1;
	vm_clock_start(r->clock);
	*state = r;
	return 0;
}

static int
teardown(void **state)
{
	struct rig *r = *state;

	acpipm_device_ops.destroy(r->pm);
	resetctl_device_ops.destroy(r->rst);
	io_bus_destroy(r->pio);
	vm_clock_destroy(r->clock);
	free(r);
	return 0;
}

static unsigned
in(struct rig *r, unsigned port, unsigned size)
{
	return (unsigned)io_bus_read(r->pio, port, size);
}

static void
out(struct rig *r, unsigned port, unsigned size, uint32_t val)
{
	io_bus_write(r->pio, port, size, val);
}

static void
test_enable(void **state)
{
	struct rig *r = *state;

	assert_int_equal(in(r, CNT, 2), 0);
	out(r, CNT, 2, 1); /* SCI_EN is not the guest's */
	assert_int_equal(in(r, CNT, 2), 0);
	out(r, 0xb2, 1, ACPIPM_ACPI_ENABLE);
	assert_int_equal(in(r, CNT, 2), 1);
	assert_int_equal(in(r, 0xb2, 1), ACPIPM_ACPI_ENABLE);
	out(r, CNT, 2, 0);
	assert_int_equal(in(r, CNT, 2), 1);
	out(r, 0xb3, 1, 0x77);
	assert_int_equal(in(r, 0xb3, 1), 0x77);
	out(r, 0xb2, 1, ACPIPM_ACPI_DISABLE);
	assert_int_equal(in(r, CNT, 2), 0);
}

static void
test_buttons(void **state)
{
	struct rig *r = *state;

	acpipm_power_button(r->pm);
	assert_int_equal(in(r, STS, 2), BIT_PWRBTN);
	assert_false(r->sci);
	out(r, 0xb2, 1, ACPIPM_ACPI_ENABLE);
	assert_false(r->sci);
	out(r, EN, 2, BIT_PWRBTN | BIT_SLPBTN);
	assert_true(r->sci);
	out(r, STS, 2, BIT_SLPBTN); /* not this one */
	assert_true(r->sci);
	acpipm_sleep_button(r->pm);
	out(r, STS, 2, BIT_PWRBTN);
	assert_true(r->sci);
	out(r, STS, 2, BIT_SLPBTN);
	assert_false(r->sci);
	assert_int_equal(in(r, STS, 2), 0);
	/* Only defined enables stick; byte and dword accesses work on the same registers. */
	out(r, EN, 2, 0xffff);
	assert_int_equal(in(r, EN, 2), 0x721);
	acpipm_rtc_alarm(r->pm);
	assert_true(r->sci);
	assert_int_equal(in(r, STS, 2), 0x400);
	out(r, STS + 1, 1, 0x04);
	assert_false(r->sci);
	out(r, EN + 1, 1, 0x01);
	assert_int_equal(in(r, EN, 2), 0x121);
	acpipm_power_button(r->pm);
	assert_int_equal(in(r, STS, 4), 0x01210100);
	out(r, STS, 4, 0x01000100); /* clears status, sets enable */
	assert_int_equal(in(r, STS, 4), 0x01000000);
}

static void
test_gpe(void **state)
{
	struct rig *r = *state;

	out(r, 0xb2, 1, ACPIPM_ACPI_ENABLE);
	acpipm_gpe(r->pm, 13);
	assert_int_equal(in(r, GPE_STS + 1, 1), 0x20);
	assert_false(r->sci);
	out(r, GPE_EN + 1, 1, 0x20);
	assert_true(r->sci);
	out(r, GPE_STS, 4, 0xffffdfff);
	assert_true(r->sci);
	out(r, GPE_STS + 1, 1, 0x20);
	assert_false(r->sci);
	acpipm_gpe(r->pm, 63);
	out(r, GPE_EN + 7, 1, 0x80);
	assert_true(r->sci);
	assert_int_equal(in(r, GPE_STS + 4, 4), 0x80000000);
	acpipm_device_ops.reset(r->pm);
	assert_false(r->sci);
}

static void
test_timer(void **state)
{
	struct rig *r = *state;

	assert_int_equal(in(r, TMR, 4), 0);
	vm_clock_advance(r->clock, NSEC_PER_SEC);
	assert_int_equal(in(r, TMR, 4), 3579545);
	out(r, TMR, 4, 0);
	assert_int_equal(in(r, TMR, 4), 3579545);
	vm_clock_advance(r->clock, 1199 * NSEC_PER_SEC);
	assert_int_equal(in(r, TMR, 4), 3579545u * 1200u); /* 1200 s: 4295454000 has wrapped */
	assert_true(in(r, TMR, 4) < 1000000);
	assert_int_equal(in(r, TMR + 1, 1), in(r, TMR, 4) >> 8 & 0xff);
}

/* The top bit changes every 2^31 ticks, 599.93 s. */
static void
test_timer_carry(void **state)
{
	struct rig *r = *state;
	uint64_t half = mul_div_u64(1ull << 31, NSEC_PER_SEC, ACPIPM_TIMER_HZ);

	out(r, 0xb2, 1, ACPIPM_ACPI_ENABLE);
	vm_clock_advance(r->clock, half - 1000);
	assert_int_equal(in(r, STS, 2), 0);
	vm_clock_advance(r->clock, 2000);
	assert_int_equal(in(r, STS, 2), BIT_TMR); /* seen with no timer armed */
	out(r, EN, 2, BIT_TMR);
	assert_true(r->sci);
	out(r, STS, 2, BIT_TMR);
	assert_false(r->sci);
	vm_clock_advance(r->clock, half);
	assert_true(r->sci);
	out(r, STS, 2, BIT_TMR);
	assert_false(r->sci);
	vm_clock_advance(r->clock, half - 10000);
	assert_false(r->sci);
	vm_clock_advance(r->clock, 20000);
	assert_true(r->sci);
}

static void
test_poweroff(void **state)
{
	struct rig *r = *state;

	out(r, CNT, 2, 5 << 10 | 1 << 13); /* not in the tables */
	assert_int_equal(r->offs + r->sleeps, 0);
	out(r, CNT, 2, ACPIPM_SLP_TYP_S5 << 10);
	assert_int_equal(r->offs, 0);
	assert_int_equal(in(r, CNT, 2), ACPIPM_SLP_TYP_S5 << 10);
	out(r, CNT + 1, 1,
	    (ACPIPM_SLP_TYP_S5 << 10 | 1 << 13) >> 8); /* FreeBSD and some others write bytes */
	assert_int_equal(r->offs, 1);
	assert_int_equal(in(r, CNT, 2) & 1 << 13, 0);
	out(r, CNT, 2, ACPIPM_SLP_TYP_S5 << 10 | 1 << 13);
	assert_int_equal(r->offs, 2);
}

/* S3 ends by the power button, and by what is enabled; WAK_STS tells of it. */
static void
test_sleep(void **state)
{
	enum { S3 = ACPIPM_SLP_TYP_S3 << 10 | 1 << 13, WAK = 0x8000, RTC = 0x400 };
	struct rig *r = *state;

	out(r, CNT, 2, ACPIPM_SLP_TYP_S3 << 10); /* SLP_EN does it */
	assert_int_equal(r->sleeps, 0);
	out(r, CNT, 2, S3);
	out(r, CNT, 2, S3); /* another processor's, which had not stopped yet */
	assert_int_equal(r->sleeps, 1);
	assert_int_equal(r->offs, 0);
	acpipm_rtc_alarm(r->pm);
	acpipm_sleep_button(r->pm);
	acpipm_gpe(r->pm, 4);
	assert_int_equal(r->wakes, 0); /* none of them is enabled */
	assert_int_equal(in(r, STS, 2) & WAK, 0);
	acpipm_power_button(r->pm);
	assert_int_equal(r->wakes, 1);
	assert_int_equal(in(r, STS, 2), WAK | BIT_PWRBTN | BIT_SLPBTN | RTC);
	assert_int_equal(in(r, CNT, 2), ACPIPM_SLP_TYP_S3 << 10);
	out(r, STS, 2, 0xffff);
	assert_int_equal(in(r, STS, 2), 0);

	out(r, EN, 2, RTC);
	out(r, CNT, 2, S3);
	acpipm_rtc_alarm(r->pm);
	assert_int_equal(r->wakes, 2);
	acpipm_rtc_alarm(r->pm); /* awake: an event as any other */
	assert_int_equal(r->wakes, 2);
	out(r, CNT, 2, S3); /* one waits already */
	assert_int_equal(r->sleeps, 3);
	assert_int_equal(r->wakes, 3);

	out(r, STS, 2, 0xffff);
	out(r, EN, 2, 0);
	out(r, GPE_STS, 1, 0xff);
	out(r, GPE_EN, 1, 1 << 4);
	out(r, CNT, 2, S3);
	acpipm_gpe(r->pm, 4);
	assert_int_equal(r->wakes, 4);
}

static void
test_unused_registers(void **state)
{
	struct rig *r = *state;

	out(r, PM + 0x30, 4, 0x80000021);
	assert_int_equal(in(r, PM + 0x30, 4), 0x80000021);
	for (unsigned off = 0x40; off < ACPIPM_LEN; off += 4) {
		out(r, PM + off, 4, UINT32_MAX);
		assert_int_equal(in(r, PM + off, 4), 0);
	}
	/* All writes everywhere, in all widths, end nothing but by SLP_EN. */
	for (unsigned off = 0; off < ACPIPM_LEN; off++) {
		for (unsigned size = 1; size <= 4; size *= 2)
			out(r, PM + off, size, 0);
	}
	assert_int_equal(r->offs, 0);
}

static void
test_pm_state(void **state)
{
	const struct field_table *t = acpipm_device_ops.state;
	struct rig *r = *state;
	uint8_t saved[256], again[256];
	struct err err = {0};
	size_t where, len;

	assert_true(field_table_complete(t, &where));
	assert_true(field_table_complete(resetctl_device_ops.state, &where));
	out(r, 0xb2, 1, ACPIPM_ACPI_ENABLE);
	out(r, EN, 2, BIT_PWRBTN);
	acpipm_power_button(r->pm);
	len = field_save(t, acpipm_device_ops.st(r->pm), saved);
	acpipm_device_ops.reset(r->pm);
	assert_false(r->sci);
	assert_int_equal(field_load(t, acpipm_device_ops.st(r->pm), saved, len, &err), 0);
	assert_int_equal(acpipm_device_ops.post_load(r->pm, &err), 0);
	assert_true(r->sci);
	assert_int_equal(field_save(t, acpipm_device_ops.st(r->pm), again), len);
	assert_memory_equal(saved, again, len);
	/* One that was saved asleep sleeps again. */
	out(r, STS, 2, 0xffff);
	out(r, CNT, 2, ACPIPM_SLP_TYP_S3 << 10 | 1 << 13);
	len = field_save(t, acpipm_device_ops.st(r->pm), saved);
	acpipm_device_ops.reset(r->pm);
	assert_int_equal(field_load(t, acpipm_device_ops.st(r->pm), saved, len, &err), 0);
	assert_int_equal(acpipm_device_ops.post_load(r->pm, &err), 0);
	assert_int_equal(r->sleeps, 2);
	acpipm_power_button(r->pm);
	assert_int_equal(r->wakes, 1);
}

static void
test_cf9(void **state)
{
	struct rig *r = *state;

	resetctl_cf9_write(r->rst, 0x02);
	assert_int_equal(r->resets, 0);
	assert_int_equal(resetctl_cf9_read(r->rst), 0x02);
	resetctl_cf9_write(r->rst, 0x06);
	assert_int_equal(r->resets, 1);
	resetctl_cf9_write(r->rst, 0x0e); /* no edge */
	assert_int_equal(r->resets, 1);
	resetctl_cf9_write(r->rst, 0xf8);
	assert_int_equal(resetctl_cf9_read(r->rst), 0x08);
	resetctl_cf9_write(r->rst, 0x04);
	assert_int_equal(r->resets, 2);
	resetctl_device_ops.reset(r->rst);
	assert_int_equal(resetctl_cf9_read(r->rst), 0);
}

static void
test_port92(void **state)
{
	struct rig *r = *state;

	assert_int_equal(in(r, 0x92, 1), 0x02);
	out(r, 0x92, 1, 0x00);
	assert_int_equal(in(r, 0x92, 1), 0x00);
	out(r, 0x92, 1, 0xfe);
	assert_int_equal(in(r, 0x92, 1), 0x02);
	assert_int_equal(r->resets, 0);
	out(r, 0x92, 1, 0x03);
	assert_int_equal(r->resets, 1);
	out(r, 0x92, 1, 0x03);
	assert_int_equal(r->resets, 1);
}

static void
test_keyboard_controller(void **state)
{
	struct rig *r = *state;

	assert_int_equal(in(r, 0x64, 1) & 0x03, 0);
	out(r, 0x64, 1, 0xaa);
	assert_int_equal(in(r, 0x64, 1) & 0x0f, 0x0d);
	assert_int_equal(in(r, 0x60, 1), 0x55);
	assert_int_equal(in(r, 0x64, 1) & 0x01, 0);
	out(r, 0x64, 1, 0x60);
	out(r, 0x60, 1, 0x47);
	out(r, 0x64, 1, 0x20);
	assert_int_equal(in(r, 0x60, 1), 0x47);
	out(r, 0x64, 1, 0xd0);
	assert_int_equal(in(r, 0x60, 1) & 0x03, 0x03);
	out(r, 0x64, 1, 0xd1);
	out(r, 0x60, 1, 0xdd); /* A20 off, no reset */
	assert_int_equal(r->resets, 0);
	out(r, 0x64, 1, 0xd0);
	assert_int_equal(in(r, 0x60, 1), 0xdd);
	/* Nobody answers. */
	out(r, 0x60, 1, 0xff);
	assert_int_equal(in(r, 0x64, 1) & 0x41, 0x41);
	assert_int_equal(in(r, 0x60, 1), 0xfe);
	out(r, 0x64, 1, 0xd4);
	out(r, 0x60, 1, 0xff);
	assert_int_equal(in(r, 0x64, 1) & 0x61, 0x61);
	out(r, 0x64, 1, 0xff); /* pulses nothing */
	out(r, 0x64, 1, 0xfd);
	assert_int_equal(r->resets, 0);
	out(r, 0x64, 1, 0xfe);
	assert_int_equal(r->resets, 1);
	out(r, 0x64, 1, 0xd1);
	out(r, 0x60, 1, 0x02);
	assert_int_equal(r->resets, 2);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_enable),	 T(test_buttons),  T(test_gpe),	   T(test_timer),
	    T(test_timer_carry), T(test_poweroff), T(test_sleep),  T(test_unused_registers),
	    T(test_pm_state),	 T(test_cf9),	   T(test_port92), T(test_keyboard_controller),
	};

	return cmocka_run_group_tests_name("acpipm", tests, NULL, NULL);
}
