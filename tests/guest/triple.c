/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A triple fault ends the machine: #PF whose gate lies beyond the IDT, so #GP, whose gate does too, so #DF,
 * whose gate does too (SDM vol. 3A 6.15). In 64-bit code at CPL 3, where the way in is the longest.
 */
#include "tests/guest/guest.h"

static void
fault(uint64_t unused)
{
	(void)unused;
	*(volatile uint8_t *)page_at(0) = 1;
}

int
main(void)
{
	struct dtable none = {0x7f, idt_pointer.base}; /* vectors 0 to 7 */

	guest_check(true, "never printed");
	(void)guest_summary();
	__asm__ volatile("lidt %0" : : "m"(none));
	guest_user(fault, 0);
	guest_printf("FAIL it goes on\n");
	return 2;
}
