/* SPDX-License-Identifier: BSD-2-Clause */
/* The board's parts, shared by board.c (life), devices.c (the device table) and firmware.c. */
#ifndef LHYVE_BOARD_INTERNAL_H
#define LHYVE_BOARD_INTERNAL_H

#include <pthread.h>

#include "board/board.h"
#include "board/cpus.h"
#include "board/machine.h"
#include "dev/device.h"

struct acpi_image;
struct console;
struct engine_vm;
struct gpmap;
struct memobj;

struct board {
	struct board_cfg cfg;
	struct machine machine;
	uint32_t *apic_ids;
	struct x86_cpuid cpuid;	     /* what the engine offers */
	struct x86_cpuid *cpu_cpuid; /* each vCPU's, made of it; the engine keeps pointers */
	unsigned phys_bits;

	struct evloop *loop;
	struct vm_clock *clock;
	struct memobj *ram;
	struct gpmap *mem;
	struct io_bus *pio, *mmio;
	struct cpus *cpus;
	struct engine_vm *vm;

	/* Every device, in order of creation. */
	struct device *device;
	size_t devices, device_room;

	/* Those that others are wired to. */
	struct lapic_set *lapic;
	struct ioapic *ioapic;
	struct pic *pic;
	struct lpc *lpc;
	struct pci_root *pci;
	struct pci_bus *pci_bus[256]; /* by number; NULL: no bridge leads there */
	struct hpet *hpet; /* NULL: none */
	struct acpipm *acpipm;
	struct resetctl *resetctl;
	struct {
		int fd; /* eventfd: a wake event came; -1: none */
		struct ev_source *source;
		uint64_t facs_gpa; /* 0: no ACPI tables */
	} sleep;
	struct uart16550 *uart[MACHINE_COMS];
	struct console *console[MACHINE_COMS];

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

/* board/devices.c */
/* Power off and on for all that loses its state in S3; PCI addresses assigned anew. No vCPU runs. */
LH_MUST_CHECK int board_power_cycle_devices(struct board *b, struct err *err);
LH_MUST_CHECK int board_make_devices(struct board *b, struct err *err);
LH_MUST_CHECK int board_start_devices(struct board *b, struct err *err);
void board_stop_devices(struct board *b);
void board_destroy_devices(struct board *b);

#endif
