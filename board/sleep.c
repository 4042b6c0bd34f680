/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ACPI S3 (ACPI 6.4 ch. 16.1.3, 16.3.2): RAM stays, the suspend well and the RTC stay, the rest
 * loses its power; after a wake event the boot processor goes to the FACS's waking vector, as
 * firmware would send it there, and the others wait for start-up messages.
 *
 * The vCPU that writes SLP_EN holds all vCPUs from within the power management device; its wake
 * wire writes to an eventfd, and the rest happens on the event loop's thread.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/evloop.h"
#include "base/log.h"
#include "base/util.h"
#include "board/entry.h"
#include "board/internal.h"
#include "mem/gpmap.h"
#include "x86/state.h"

enum { FACS_WAKING_VECTOR = 12, FACS_X_WAKING_VECTOR = 24, FACS_BYTES = 64, REAL_MODE_END = 0x100000 };

void
board_sleep_enter(void *ctx)
{
	cpus_hold(((struct board *)ctx)->cpus);
}

void
board_sleep_wake(void *ctx)
{
	const uint64_t one = 1;
	ssize_t n = write(((struct board *)ctx)->sleep.fd, &one, sizeof(one));

	LH_ASSERT(n == sizeof(one)); /* the counter is read each time: it never fills up */
}

/* Protected mode where X_Firmware_Waking_Vector says, else real mode at a physical address below 1 MiB
 * (5.2.10). */
static bool
waking_state(struct board *b, struct x86_state *s)
{
	uint8_t facs[FACS_BYTES];
	uint64_t vector, x_vector;

	if (b->sleep.facs_gpa == 0 || !gm_read(b->mem, b->sleep.facs_gpa, facs, sizeof(facs)))
		return false;
	vector = get_le32(facs + FACS_WAKING_VECTOR);
	x_vector = get_le64(facs + FACS_X_WAKING_VECTOR);
	if (x_vector != 0 && x_vector <= UINT32_MAX) {
		entry_flat(s, x_vector);
		return true;
	}
	if (vector == 0 || vector >= REAL_MODE_END) {
		log_guest("acpi: waking vector 0x%llx: nowhere to wake up", (unsigned long long)vector);
		return false;
	}
	s->seg[X86_CS].sel = (uint16_t)(vector >> 4);
	s->seg[X86_CS].base = vector & ~15u;
	s->rip = vector & 15;
	return true;
}

static int
restart(struct board *b, struct err *err)
{
	struct x86_state bsp, ap;
	int ret = board_power_cycle_devices(b, err);

	if (ret != 0)
		return ret;
	board_firmware_devices(b);
	x86_state_reset(&ap);
	board_firmware_state(b, &ap);
	bsp = ap;
	ap.activity = ACT_WAIT_SIPI;
	if (!waking_state(b, &bsp)) {
		board_end_now(b, BOARD_REBOOT); /* firmware would start the machine anew */
		return 0;
	}
	for (unsigned i = 0; i < b->machine.topo.cpus && ret == 0; i++)
		ret = cpus_restart(b->cpus, i, i == 0 ? &bsp : &ap, err);
	return ret;
}

static void
on_wake(void *arg, uint32_t events)
{
	struct board *b = arg;
	struct err err = {0};
	uint64_t count;

	(void)events;
	if (read(b->sleep.fd, &count, sizeof(count)) != sizeof(count))
		return;
	b->sleep.deferred = b->paused;
	if (b->paused)
		return;
	cpus_pause(b->cpus);
	if (restart(b, &err) != 0) {
		log_error("wake from S3: %s", err.msg);
		board_end_now(b, BOARD_ERROR);
	}
	cpus_resume(b->cpus);
	cpus_resume(b->cpus); /* board_sleep_enter()'s */
}

void
board_sleep_resumed(struct board *b)
{
	if (!b->sleep.deferred)
		return;
	b->sleep.deferred = false;
	board_sleep_wake(b);
}

int
board_sleep_init(struct board *b, struct err *err)
{
	b->sleep.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (b->sleep.fd < 0)
		return err_set(err, errno, "board: eventfd: %s (raise the limit of open files?)",
			       strerror(errno));
	b->sleep.source = ev_add(b->loop, b->sleep.fd, EPOLLIN, on_wake, b, err);
	return b->sleep.source != NULL ? 0 : -err->code;
}

void
board_sleep_destroy(struct board *b)
{
	if (b->sleep.source != NULL)
		ev_remove(b->sleep.source);
	if (b->sleep.fd >= 0)
		close(b->sleep.fd);
}
