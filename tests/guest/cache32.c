/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Cache instructions outside long mode: real mode, unreal mode, virtual-8086 mode, protected mode of 16 and
 * 32 bits at both levels, with and without paging.
 */
#include "tests/guest/cache_ops.h"

enum { LOW_CODE = 0x6800, LOW_DATA = 0x6000, LINEAR = 0x40000000u };
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static uint8_t high_code[64] __attribute__((aligned(4096)));
static uint8_t ram[2][4096] __attribute__((aligned(4096)));
static uint32_t directory[1024] __attribute__((aligned(4096)));
static uint32_t table[1024] __attribute__((aligned(4096)));

static int
run_real(struct context *c)
{
	return guest_enter_real(c, false);
}

static int
run_unreal(struct context *c)
{
	return guest_enter_real(c, true);
}

#define START(code, code_seg, data_seg, fl)                                                           \
	{                                                                                             \
		.ip = (code), .cs = (code_seg), .ss = (data_seg), .ds = (data_seg), .es = (data_seg), \
		.sp = 0x7000, .flags = (fl)                                                           \
	}
#define START32(code_seg, data_seg)                                                               \
	{                                                                                         \
		.ip = (uintptr_t)high_code, .cs = (code_seg), .ss = (data_seg), .ds = (data_seg), \
		.es = (data_seg), .sp = (uintptr_t)user_stack_top, .flags = 2                     \
	}

static void
with_mode(struct cache_mode m, const struct cache_place *places, unsigned count)
{
	cache_check_all(&m, places, count);
}

int
main(void)
{
	uint8_t *low = (uint8_t *)(uintptr_t)LOW_CODE;
	volatile uint8_t *data = (volatile uint8_t *)(uintptr_t)LOW_DATA;
	const struct cache_place small[] = {
	    {"RAM", LOW_DATA, 0, 0, data},
	    {"the segment's last byte", 0xffff, 0, 0, NULL},
	    {"the segment's end", 0x10000, 13, 0, NULL},
	};
	const struct cache_place big[] = {
	    {"RAM", (uintptr_t)ram[0] + 5, 0, 0, ram[0] + 5},
	    {"a page's last byte", (uintptr_t)ram[0] + 4095, 0, 0, ram[0] + 4095},
	    {"a device", CACHE_DEVICE, 0, 0, NULL},
	    {"a device's page end", CACHE_DEVICE + 4095, 0, 0, NULL},
	};
	const struct cache_place paged[] = {
	    {"RAM", LINEAR + 5, 0, 0, ram[0] + 5},
	    {"the last byte of RAM before a hole", LINEAR + 4095, 0, 0, ram[0] + 4095},
	    {"a page that is not there", LINEAR + 0x1000, 14, 0, NULL},
	    {"the end of one", LINEAR + 0x1fff, 14, 0, NULL},
	    {"a read-only page", LINEAR + 0x2007, 0, 0, ram[1] + 7},
	    {"the end of a read-only page", LINEAR + 0x2fff, 0, 0, ram[1] + 4095},
	    {"a device", LINEAR + 0x3000, 0, 0, NULL},
	};
	struct cache_mode p16 = {
	    "16-bit protected mode", low, true, false, START(LOW_CODE, SEL_CODE16, SEL_DATA, 2), guest_enter};
	struct cache_mode p32 = {"32-bit protected mode",     high_code,  false, false,
				 START32(SEL_CODE, SEL_DATA), guest_enter};
	struct cache_mode u32 = {"32-bit protected mode, CPL 3",	high_code,  false, true,
				 START32(SEL_USER_CODE, SEL_USER_DATA), guest_enter};

	with_mode((struct cache_mode){"real mode", low, true, false, START(LOW_CODE, 0, 0, 2), run_real},
		  small, COUNT(small));
	with_mode((struct cache_mode){"virtual-8086 mode", low, true, true, START(LOW_CODE, 0, 0, 0x23002),
				      guest_enter},
		  small, COUNT(small));
	with_mode((struct cache_mode){"unreal mode", low, true, false, START(LOW_CODE, 0, 0, 2), run_unreal},
		  big, COUNT(big));
	with_mode(p16, big, COUNT(big));
	with_mode(p32, big, COUNT(big));
	with_mode(u32, big, COUNT(big));
	for (unsigned n = 0; n < 1024; n++)
		directory[n] = n << 22 | 0xe7;
	directory[LINEAR >> 22] = (uintptr_t)table | 7;
	table[0] = (uintptr_t)ram[0] | 7;
	table[2] = (uintptr_t)ram[1] | 5;
	table[3] = CACHE_DEVICE | 7;
	write_cr4(read_cr4() | 0x10);
	write_cr3((uintptr_t)directory);
	write_cr0(read_cr0() | 0x80000000u | 1 << 16);
	with_mode(p16, paged, COUNT(paged));
	with_mode(p32, paged, COUNT(paged));
	with_mode(u32, paged, COUNT(paged));
	return guest_summary();
}
