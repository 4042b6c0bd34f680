/* SPDX-License-Identifier: BSD-2-Clause */
/* The board's parts, shared by board.c (life), devices.c (the device table) and firmware.c. */
#ifndef LHYVE_BOARD_INTERNAL_H
#define LHYVE_BOARD_INTERNAL_H

#include <pthread.h>

#include "base/vmclock.h"
#include "board/board.h"
#include "board/cpus.h"
#include "board/machine.h"
#include "dev/chipset/ioapic.h"
#include "dev/chipset/lapic.h"
#include "dev/chipset/pic.h"
#include "dev/chipset/pit.h"
#include "dev/device.h"
#include "vmmapi/x86_64/lhyve.h"

struct acpi_image;
struct console;
struct gpmap;
struct vmctx;

struct board {
	struct board_cfg cfg;
	struct machine machine;
	uint32_t *apic_ids;
	const struct x86_cpuid *cpuid; /* what the engine offers; the library's */
	unsigned phys_bits;

	struct evloop *loop;
	struct vmctx *vm;
	struct vm_clock *clock; /* the VM's */
	struct gpmap *mem;	/* the VM's */
	struct io_bus *pio, *mmio;
	struct cpus *cpus;
	struct vm_timer halt_timer; /* with remote APICs: cpus_look_for_halt() */

	/* Every device, in order of creation. */
	struct device *device;
	size_t devices, device_room;

	/* Those that others are wired to. */
	struct lapic_set *lapic;
	enum vm_apic apic; /* who has the controllers; never AUTO */
	struct lapic_remote lapic_remote;
	struct ioapic_remote ioapic_remote;
	struct pic_remote pic_remote;
	struct pit_remote pit_remote;
	struct vtd *vtd; /* NULL: none */
	struct ioapic *ioapic;
	struct pic *pic;
	struct pit *pit;
	struct lpc *lpc;
	struct pci_root *pci;
	struct pci_bus *pci_bus[256]; /* by number; NULL: no bridge leads there */
	struct hpet *hpet;	      /* NULL: none */
	struct acpipm *acpipm;
	struct resetctl *resetctl;
	struct {
		int fd; /* eventfd: a wake event came; -1: none */
		struct ev_source *source;
		uint64_t facs_gpa; /* 0: no ACPI tables */
		bool deferred;	   /* woken while paused: loop thread only */
	} sleep;
	struct uart16550 *uart[MACHINE_COMS];
	struct console *console[MACHINE_COMS];

	/* What other threads want done on the event loop's thread: board/pause.c. */
	struct {
		pthread_mutex_t callers; /* one at a time; taken first */
		pthread_mutex_t lock;	 /* the rest */
		pthread_cond_t done;
		int fd; /* eventfd: a call waits; -1: none */
		struct ev_source *source;
		void (*fn)(struct board *b, void *arg); /* NULL: none waits */
		void *arg;
		bool closed; /* the loop has ended */
	} call;
	_Atomic bool started, paused; /* written on the loop's thread */

	pthread_mutex_t end_lock;
	bool ended; /* under end_lock */
	enum board_end end;
	unsigned exit_status; /* of BOARD_EXIT */
};

/* As board_end_now(), with the status that goes with BOARD_EXIT. */
void board_end_with(struct board *b, enum board_end end, unsigned status);

/* board/firmware.c */
void board_firmware_devices(struct board *b);
void board_firmware_state(struct board *b, struct x86_state *s);
LH_MUST_CHECK int board_firmware_memory(struct board *b, const struct acpi_image *acpi, struct err *err);

/* board/sleep.c: what acpipm's wires ask for, with `ctx` the board. */
LH_MUST_CHECK int board_sleep_init(struct board *b, struct err *err);
void board_sleep_destroy(struct board *b);
void board_sleep_enter(void *ctx);
void board_sleep_wake(void *ctx);
void board_sleep_resumed(struct board *b); /* a wake event that came during a pause happens now */

/* board/pause.c */
LH_MUST_CHECK int board_call_init(struct board *b, struct err *err);
void board_call_close(struct board *b); /* the loop has ended: callers go away with -ECANCELED */
void board_call_destroy(struct board *b);

/* board/remote.c: controllers in the host's kernel. As wires, with `ctx` the board. */
void board_remote_init(struct board *b);
void board_remote_pins(void *ctx, const struct x86_pin_message *pin, unsigned count);
void board_remote_doorbell(void *ctx, uint64_t gpa, int fd, bool add);
int board_remote_irqfd(void *ctx, int fd, uint64_t addr, uint32_t data, bool add);

/* board/devices.c */
/* The stop and start of each device, without the consoles' host ends. */
void board_halt_devices(struct board *b);
void board_wake_devices(struct board *b);
/* Power off and on for all that loses its state in S3; PCI addresses assigned anew. No vCPU runs. */
LH_MUST_CHECK int board_power_cycle_devices(struct board *b, struct err *err);
LH_MUST_CHECK int board_make_devices(struct board *b, struct err *err);
LH_MUST_CHECK int board_start_devices(struct board *b, struct err *err);
void board_stop_devices(struct board *b);
void board_destroy_devices(struct board *b);

#endif
