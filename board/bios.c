/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The BIOS's traces. No firmware runs here, but real-mode programs that are loaded directly count on vectors
 * that return, on a timer that ticks, and on the PICs where every BIOS puts them.
 */
#include "board/bios.h"

#include "base/util.h"
#include "board/loader.h"
#include "board/machine.h"

/* Entry points of the IBM PC's BIOS, offsets in segment f000. */
enum { SEGMENT = 0xf000, TIMER = 0xfea5, SLAVE_EOI = 0xff23, MASTER_EOI = 0xff3a, RETURN = 0xff53 };
enum { VECTOR_TIMER = 0x08, VECTOR_SLAVE = 0x70, VECTORS = 256, IRQS = 8 };

/* Count the tick at 0040:006c, acknowledge, return. */
static const uint8_t timer_code[] = {
    0x50,			  /* push ax */
    0x1e,			  /* push ds */
    0x31, 0xc0,			  /* xor ax, ax */
    0x8e, 0xd8,			  /* mov ds, ax */
    0x83, 0x06, 0x6c, 0x04, 0x01, /* add word [0x46c], 1 */
    0x83, 0x16, 0x6e, 0x04, 0x00, /* adc word [0x46e], 0 */
    0xb0, 0x20,			  /* mov al, 0x20 */
    0xe6, 0x20,			  /* out 0x20, al */
    0x1f,			  /* pop ds */
    0x58,			  /* pop ax */
    0xcf,			  /* iret */
};
static const uint8_t slave_code[] = {0x50, 0xb0, 0x20, 0xe6, 0xa0, 0xe6, 0x20, 0x58, 0xcf};
static const uint8_t master_code[] = {0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf};
static const uint8_t return_code[] = {0xcf};

static void
put_code(struct gpmap *mem, unsigned offset, const uint8_t *code, size_t len)
{
	boot_poke(mem, SEGMENT * 16ull + offset, code, len);
}

static void
put_vector(struct gpmap *mem, unsigned vector, unsigned offset)
{
	uint32_t far_pointer = (uint32_t)SEGMENT << 16 | offset;

	boot_poke(mem, 4ull * vector, &far_pointer, 4);
}

static void
put_vectors(struct gpmap *mem)
{
	put_code(mem, TIMER, timer_code, sizeof(timer_code));
	put_code(mem, SLAVE_EOI, slave_code, sizeof(slave_code));
	put_code(mem, MASTER_EOI, master_code, sizeof(master_code));
	put_code(mem, RETURN, return_code, sizeof(return_code));
	for (unsigned v = 0; v < VECTORS; v++)
		put_vector(mem, v, RETURN);
	put_vector(mem, VECTOR_TIMER, TIMER);
	for (unsigned i = 1; i < IRQS; i++)
		put_vector(mem, VECTOR_TIMER + i, MASTER_EOI);
	for (unsigned i = 0; i < IRQS; i++)
		put_vector(mem, VECTOR_SLAVE + i, SLAVE_EOI);
}

/* BIOS data area: serial ports, EBDA segment, KiB of conventional memory; and the EBDA's own size. */
static void
put_data_area(struct gpmap *mem, unsigned coms)
{
	uint16_t kib = MACHINE_BASE_RAM_END / KIB, segment = MACHINE_BASE_RAM_END / 16;
	uint8_t ebda_kib = (MACHINE_VGA_BASE - MACHINE_BASE_RAM_END) / KIB;

	for (unsigned i = 0; i < MACHINE_COMS; i++) {
		if ((coms >> i & 1) != 0)
			boot_poke(mem, 0x400 + 2 * i, &machine_com[i].port, 2);
	}
	boot_poke(mem, 0x40e, &segment, 2);
	boot_poke(mem, 0x413, &kib, 2);
	boot_poke(mem, MACHINE_BASE_RAM_END, &ebda_kib, 1);
}

void
bios_fill_memory(struct gpmap *mem, unsigned coms)
{
	put_vectors(mem);
	put_data_area(mem, coms);
}
