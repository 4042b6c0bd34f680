/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interrupt controllers in their architectural form: what goes between models of ours and those that a kernel
 * has. Data only.
 */
#ifndef LHYVE_X86_APIC_H
#define LHYVE_X86_APIC_H

#include <stdbool.h>
#include <stdint.h>

enum {
	X86_APIC_PAGE_BYTES = 1024, /* registers of the page that are not reserved */
	X86_IOAPIC_PINS = 24,
	X86_PIC_LINES = 16,
};

/* A local APIC: SDM vol. 3A table 11-1. */
struct x86_apic {
	uint64_t base;	       /* IA32_APIC_BASE */
	uint64_t tsc_deadline; /* IA32_TSC_DEADLINE */
	/* By offset, 32 bits at each multiple of 16; the id as the mode has it, the count as of now. */
	uint8_t page[X86_APIC_PAGE_BYTES];
};

/* An I/O APIC: 82093AA, Intel 290566. */
struct x86_ioapic {
	uint64_t redir[X86_IOAPIC_PINS];
	uint32_t id; /* the ID register, bits 27:24 */
	uint32_t select;
	uint32_t lines; /* input levels */
};

/* An 8259A, Intel 231468, with the ELCR of its eight lines. */
struct x86_pic {
	uint8_t lines;	 /* input levels */
	uint8_t latched; /* IRR bits of edge-triggered inputs */
	uint8_t isr, imr, elcr;
	uint8_t vector_base;
	uint8_t lowest; /* input of lowest priority */
	uint8_t
	    init; /* initialisation word that the next write to the odd port is: 2 to 4 as 1 to 3; 0: none */
	bool want_icw4, aeoi, rotate_aeoi, sfnm;
	bool smm;      /* special mask mode */
	bool poll;     /* the next read is an acknowledge */
	bool read_isr; /* the even port reads ISR, not IRR */
};

/* A counter of an 8254, Intel 231164. Times in ticks of X86_PIT_HZ. */
enum { X86_PIT_HZ = 1193182 };
struct x86_pit_counter {
	uint64_t elapsed; /* since the count was loaded, as far as that is known */
	uint32_t count;	  /* in use, 1 to 65536; 0: none since the control word */
	uint16_t latch;
	uint8_t latched;   /* bytes of the latch that are to be read */
	uint8_t mode;	   /* 0 to 5 */
	uint8_t rw;	   /* 1 low byte, 2 high byte, 3 low then high */
	uint8_t write_low; /* the low byte, which waits for the high one */
	uint8_t status;	   /* latched */
	bool bcd, gate;
	bool status_latched, write_high_next, read_high_next;
};

struct x86_pit {
	struct x86_pit_counter counter[3];
	bool speaker; /* port 0x61: bit 1 */
	bool hpet;    /* the HPET has taken IRQ0 */
};

/* What an I/O APIC's pin sends, as a message to the local APICs (SDM vol. 3A 11.11). */
struct x86_pin_message {
	unsigned pin;
	uint64_t addr;
	uint32_t data;
};

#endif
