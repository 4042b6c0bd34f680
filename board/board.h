/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A PC: memory map, chipset, processors, firmware tables, boot loader. The board owns
 * every device and the vCPU threads; the caller (vmm/) owns configuration and process.
 *
 * Threads: create, run and destroy from one thread; the others from any.
 */
#ifndef LHYVE_BOARD_H
#define LHYVE_BOARD_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "vmmapi/x86_64/lhyve.h"
#include "x86/cpuid.h"

struct field_table;
struct pci_model;
struct x86_state;
struct board;

enum board_end {
	BOARD_REBOOT = 0,
	BOARD_POWEROFF = 1,
	BOARD_HALT = 2,
	BOARD_TRIPLE_FAULT = 3,
	BOARD_ERROR = 4,
	BOARD_EXIT = 6, /* a test device ended the VM with a status of its own, see board_exit_status() */
};

enum board_console_kind { CONSOLE_NONE, CONSOLE_STDIO, CONSOLE_PATH /* a tty, pty or file */, CONSOLE_TCP };

enum { BOARD_MODULES = 32 };

/* A file that goes into memory beside the kernel (multiboot, PVH), with its own text. */
struct board_module {
	unsigned number;	    /* of its key: boot.module.N */
	const char *path, *cmdline; /* the last may be NULL */
};

/* A function of a registered model (dev/pci/model.h). */
struct board_pci {
	unsigned bus, slot, fn;
	const struct pci_model *model;
};

struct board_cfg {
	const char *name; /* of the VM */
	enum vm_apic apic;
	const char *engine;    /* vm_create()'s: "auto", "kvm", "soft" */
	uint64_t memory_bytes; /* page multiple */
	struct x86_topology topo;
	struct {
		const char *kernel, *initrd, *cmdline; /* paths; initrd and cmdline may be NULL */
		struct board_module module[BOARD_MODULES];
		unsigned modules;
	} boot;
	struct {
		enum board_console_kind kind;
		const char *path;
	} com[4];
	bool x2apic, hpet, mptable, strict_msr, pmu, vmware_backdoors, acpi_tables;
	bool vtd;	  /* a remapping unit */
	bool pit_discard; /* ticks of the 8254 that the host is late for are lost */
	/* Offered even where the host's processor has none of it, when the engine can. */
	bool pku, pks, la57;
	bool rtc_localtime;
	bool pc_testdev, fwcfg;	     /* LPC devices */
	const struct board_pci *pci; /* in order of creation; the caller's, as long as the board */
	size_t pcis;
	/* The text of a key ("pci.0.3.0.path"), or NULL. Strings stay valid as long as the board. */
	const char *(*option)(void *ctx, const char *key);
	void *option_ctx;
	bool virtio_msix;
	const char *uuid; /* SMBIOS, or NULL: made from the name */
	bool soft_verify; /* see struct vm_tuning */
	bool soft_interpret, soft_perf_map;
	const char *soft_symbols;
	uint64_t soft_code_cache;
	struct vm_trace trace;
	bool stats; /* print counters at the end */
};

/* Build everything and load the kernel. No guest instruction runs. Every failure of the caller's making
 * (no such kernel, no room) is told in err, one line. */
LH_MUST_CHECK struct board *board_create(const struct board_cfg *cfg, struct err *err);
/* Run until the guest ends. */
enum board_end board_run(struct board *b);
void board_destroy(struct board *b);

void board_power_button(struct board *b);		 /* ACPI power button; async-signal-unsafe */
void board_end_now(struct board *b, enum board_end end); /* board_run() returns soon with this */
unsigned board_exit_status(struct board *b);		 /* after board_run() gave BOARD_EXIT: 0..255 */
void board_nmi(struct board *b, unsigned cpu);
/* Put the cable of the network card in a slot ("pci.0.3.0") in, or pull it out; nothing for other slots. */
void board_set_link(struct board *b, const char *slot, bool up);

/*
 * ---- a running board, seen from outside (board/pause.c) ----
 * Any thread but the event loop's and the vCPUs', from board_create() to board_destroy(). What has to wait
 * for the event loop waits until board_run() runs it; -ECANCELED: the guest has ended.
 */

/*
 * Pause: on return every vCPU is parked between two instructions, the VM clock stands, devices are stopped in
 * reverse order of their creation. Resume is the reverse. Neither nests; to do again what is done already is
 * no error. What arrives meanwhile (console input, an NMI, the power button) waits in the devices.
 */
LH_MUST_CHECK int board_pause(struct board *b, struct err *err);
LH_MUST_CHECK int board_resume(struct board *b, struct err *err);

struct board_status {
	bool started, paused, ended;
	uint64_t clock_ns; /* what the VM clock shows */
	uint64_t tsc_khz;
};
void board_get_status(struct board *b, struct board_status *s);
unsigned board_cpu_count(const struct board *b);
const char *board_engine(const struct board *b); /* that runs it: "kvm" or "soft" */
/* The TCP port that serial port i (from 0) listens on; 0: none. */
unsigned board_console_port(struct board *b, unsigned i);

/* A device's saved form, and a copy of it. */
struct board_device_state {
	char name[32]; /* "lapic.0", "ioapic" */
	const struct field_table *table;
	void *st;
};

/* All vCPUs and the interrupt controllers (devices with device_ops.copy_st) at one instant. */
struct board_state {
	unsigned cpus, devices;
	uint32_t *apic_id; /* one a vCPU */
	struct x86_state *cpu;
	struct board_device_state *device;
};
/* vCPUs are parked for as long as the copy takes. The caller frees it. */
LH_MUST_CHECK int board_get_state(struct board *b, struct board_state *s, struct err *err);
void board_state_free(struct board_state *s);

/*
 * Counters since the board was made, one call each: `who` is "cpu0" or a device's name. vCPUs are parked for
 * as long as it takes to add up theirs, so that numbers of one call belong together. fn must not call into
 * the board.
 */
void board_get_stats(struct board *b,
		     void (*fn)(void *arg, const char *who, const char *name, uint64_t value), void *arg);

#endif
