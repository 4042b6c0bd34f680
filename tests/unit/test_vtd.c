/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The remapping unit: translation and what stops it, fault records and their event, the invalidation queue,
 * interrupt entries, and tables that lead in circles or out of memory. Sections are the VT-d specification's.
 */
#include "tests/unit/chipset_util.h"

#include <errno.h>

#include "dev/chipset/vtd.h"
#include "mem/gpmap.h"

enum { RAM = 4 << 20, FRRS = 8 };
enum {
	VER = 0,
	CAP = 8,
	ECAP = 0x10,
	GCMD = 0x18,
	GSTS = 0x1c,
	RTADDR = 0x20,
	CCMD = 0x28,
	FSTS = 0x34,
	FECTL = 0x38,
	FEDATA = 0x3c,
	FEADDR = 0x40,
	FEUADDR = 0x44,
	IQH = 0x80,
	IQT = 0x88,
	IQA = 0x90,
	ICS = 0x9c,
	IECTL = 0xa0,
	IEDATA = 0xa4,
	IEADDR = 0xa8,
	IRTA = 0xb8,
	IOTLB = 0x208,
	FRR = 0x220,
};
enum { TE = 1u << 31, SRTP = 1 << 30, QIE = 1 << 26, IRE = 1 << 25, SIRTP = 1 << 24, CFI = 1 << 23 };
enum { IM = 1u << 31, IP = 1 << 30, PFO = 1, PPF = 2, IQE = 0x10 };
/* Where the tests' tables are. */
enum { ROOT = 0x1000, CONTEXT = 0x2000, TABLE = 0x10000, IRT = 0x20000, QUEUE = 0x30000, STATUS = 0x40000 };
enum { SID = 3 << 3, R = 1, W = 2, PS = 0x80 };

struct rig {
	struct io_bus *bus;
	struct memobj *obj;
	struct gpmap *mem;
	struct vtd *v;
	unsigned messages, msis;
	struct vtd_message m;
	uint64_t addr;
	uint32_t data;
};

static bool
on_message(void *ctx, const struct vtd_message *m)
{
	((struct rig *)ctx)->messages++;
	((struct rig *)ctx)->m = *m;
	return true;
}

static bool
on_msi(void *ctx, uint64_t addr, uint32_t data)
{
	((struct rig *)ctx)->msis++;
	((struct rig *)ctx)->addr = addr;
	((struct rig *)ctx)->data = data;
	return true;
}

static int
make(void **state, bool eim)
{
	struct rig *r = calloc(1, sizeof(*r));
	const struct vtd_cfg cfg = {.maxphyaddr = 40, .eim = eim};
	struct vtd_wires w = {.message = on_message, .msi = on_msi, .ctx = r};

	r->bus = make_bus(1ull << 40);
	r->obj = memobj_create("ram", RAM, NULL);
	w.mem = r->mem = gpmap_create(NULL);
	assert_int_equal(gpmap_map(r->mem, 0, RAM, r->obj, 0, GM_RAM, NULL), 0);
	r->v = vtd_create(&cfg, &w, NULL);
	assert_non_null(r->v);
	assert_int_equal(vtd_map(r->v, r->bus, NULL), 0);
	*state = r;
	return 0;
}

static int
setup(void **state)
{
	return make(state, false);
}

static int
setup_eim(void **state)
{
	return make(state, true);
}

static int
teardown(void **state)
{
	struct rig *r = *state;

	vtd_device_ops.destroy(r->v);
	gpmap_destroy(r->mem);
	memobj_destroy(r->obj);
	io_bus_destroy(r->bus);
	free(r);
	return 0;
}

static uint32_t
rd(struct rig *r, unsigned off)
{
	return (uint32_t)io_bus_read(r->bus, VTD_DEFAULT_BASE + off, 4);
}

static uint64_t
rd8(struct rig *r, unsigned off)
{
	return io_bus_read(r->bus, VTD_DEFAULT_BASE + off, 8);
}

static void
wr(struct rig *r, unsigned off, uint32_t val)
{
	io_bus_write(r->bus, VTD_DEFAULT_BASE + off, 4, val);
}

static void
wr8(struct rig *r, unsigned off, uint64_t val)
{
	io_bus_write(r->bus, VTD_DEFAULT_BASE + off, 8, val);
}

static void
poke(struct rig *r, uint64_t gpa, uint64_t val)
{
	assert_true(gm_write(r->mem, gpa, &val, 8));
}

/* A mode bit of GCMD on or off, the others as they are. */
static void
mode(struct rig *r, uint32_t bit, bool on)
{
	const uint32_t modes = TE | QIE | IRE | CFI;

	wr(r, GCMD, on ? (rd(r, GSTS) & modes) | bit : rd(r, GSTS) & modes & ~bit);
}

/* Root, and the context entry of SID; translation on. */
static void
domain(struct rig *r, uint64_t context_lo, uint64_t context_hi)
{
	poke(r, ROOT, CONTEXT | 1);
	poke(r, ROOT + 8, 0);
	poke(r, CONTEXT + 16 * SID, context_lo);
	poke(r, CONTEXT + 16 * SID + 8, context_hi);
	wr8(r, RTADDR, ROOT);
	mode(r, SRTP, true);
	mode(r, (uint32_t)TE, true);
}

/* The page at `addr` of 39 bits: three tables, the last entry is what is given. */
static void
page(struct rig *r, uint64_t addr, uint64_t entry)
{
	poke(r, TABLE + 8 * (addr >> 30 & 511), (TABLE + 0x1000) | R | W);
	poke(r, TABLE + 0x1000 + 8 * (addr >> 21 & 511), (TABLE + 0x2000) | R | W);
	poke(r, TABLE + 0x2000 + 8 * (addr >> 12 & 511), entry);
}

static const uint64_t nowhere = 0xdead;

/* Where addr leads, or `nowhere`. */
static uint64_t
at(struct rig *r, uint64_t addr, bool write)
{
	uint64_t gpa = 0, len = 1;

	return vtd_translate(r->v, SID, addr, write, &gpa, &len) ? gpa : nowhere;
}

/* A record is there at place n, for reason; then it is cleared. */
static void
check_fault(struct rig *r, unsigned n, unsigned reason, uint64_t addr, bool read)
{
	uint64_t lo = rd8(r, FRR + 16 * n), hi = rd8(r, FRR + 16 * n + 8);

	assert_int_equal(hi >> 63, 1);
	assert_int_equal(bits(hi, 32, 8), reason);
	assert_int_equal(bits(hi, 62, 1), read);
	assert_int_equal(hi & 0xffff, SID);
	assert_int_equal(lo, addr);
	wr(r, FRR + 16 * n + 12, 1u << 31);
	assert_int_equal(rd8(r, FRR + 16 * n + 8) >> 63, 0);
}

/* ---- registers ---- */

static void
test_registers(void **state)
{
	struct rig *r = *state;
	uint64_t cap = rd8(r, CAP);

	assert_int_equal(rd(r, VER), 0x10);
	assert_int_equal(bits(cap, 8, 5), 6);	       /* 39 and 48 bits */
	assert_int_equal(bits(cap, 16, 6), 47);	       /* MGAW */
	assert_int_equal(bits(cap, 24, 10), FRR / 16); /* FRO */
	assert_int_equal(bits(cap, 40, 8), FRRS - 1);
	assert_int_equal(bits(rd8(r, ECAP), 8, 10), 0x20);
	assert_int_equal(rd8(r, ECAP) >> 4 & 1, 0);
	assert_int_equal(rd(r, FECTL), IM);
	assert_int_equal(rd(r, IECTL), IM);
	wr8(r, CAP, 0);
	wr(r, GSTS, UINT32_MAX);
	assert_int_equal(rd8(r, CAP), cap);
	assert_int_equal(rd(r, GSTS), 0);
	wr8(r, RTADDR, UINT64_MAX);
	assert_int_equal(rd8(r, RTADDR), 0xfffffffffffff000);
	/* Without EIM the bit that turns x2APIC mode on cannot be set. */
	wr8(r, IRTA, UINT64_MAX);
	assert_int_equal(rd8(r, IRTA), 0xfffffffffffff00f);
	assert_int_equal(io_bus_read(r->bus, VTD_DEFAULT_BASE, 1), 0xff);
	assert_int_equal(rd(r, 0xffc), 0);
	wr(r, 0xffc, 5);
}

/* Without the queue, invalidation is two registers; it is done when it is asked for. */
static void
test_register_invalidation(void **state)
{
	struct rig *r = *state;

	wr8(r, CCMD, BIT(63) | 2ull << 61 | 0x12345678);
	assert_int_equal(rd8(r, CCMD), 2ull << 61 | 2ull << 59 | 0x12345678);
	wr8(r, IOTLB, BIT(63) | 1ull << 60);
	assert_int_equal(rd8(r, IOTLB), 1ull << 60 | 1ull << 57);
	mode(r, QIE, true);
	wr8(r, IOTLB, BIT(63) | 1ull << 60);
	assert_int_equal(rd8(r, IOTLB), 1ull << 60);
}

/* ---- translation ---- */

static void
test_off(void **state)
{
	struct rig *r = *state;
	uint64_t gpa = 0, len = 1 << 20;

	assert_true(vtd_translate(r->v, SID, 0x123456789abc, true, &gpa, &len));
	assert_int_equal(gpa, 0x123456789abc);
	assert_int_equal(len, 1 << 20);
}

static void
test_pages(void **state)
{
	struct rig *r = *state;
	uint64_t gpa, len = 1 << 20;

	domain(r, TABLE | 1, 1);
	page(r, 0x40201000, 0x345000 | R | W);
	assert_true(vtd_translate(r->v, SID, 0x40201010, true, &gpa, &len));
	assert_int_equal(gpa, 0x345010);
	assert_int_equal(len, 0x1000 - 0x10);
	/* 2 MiB and 1 GiB. */
	poke(r, TABLE + 0x1000 + 8 * 3, 0x7fe00000 | R | W | PS);
	len = 8 << 20;
	assert_true(vtd_translate(r->v, SID, 0x40612345, false, &gpa, &len));
	assert_int_equal(gpa, 0x7fe12345);
	assert_int_equal(len, 0x200000 - 0x12345);
	poke(r, TABLE + 8 * 2, 0xc0000000 | R | PS);
	assert_int_equal(at(r, 0x81234567, false), 0xc1234567);
	assert_int_equal(rd(r, FSTS), 0);
	/* Four levels. */
	poke(r, TABLE + 0x3000 + 8 * 0x1ff, TABLE | R | W);
	domain(r, (TABLE + 0x3000) | 1, 2);
	assert_int_equal(at(r, 0xff8040201000, false), 0x345000);
	/* Pass-through. */
	domain(r, 2 << 2 | 1, 2);
	assert_int_equal(at(r, 0xabcdef123456, true), 0xabcdef123456);
	assert_int_equal(rd(r, FSTS), 0);
}

static void
test_blocked(void **state)
{
	static const struct {
		uint64_t lo, hi, entry, addr;
		bool write;
		unsigned reason;
	} row[] = {
	    {0, 1, 0, 0x1000, false, 0x02},				/* context entry not present */
	    {TABLE | 1, 3, 0, 0x1000, true, 0x03},			/* five levels are not offered */
	    {TABLE | 1 | 3 << 2, 1, 0, 0x1000, true, 0x03},		/* nor is that type */
	    {TABLE | 1 | 1 << 2, 1, 0, 0x1000, true, 0x03},		/* nor device TLBs */
	    {TABLE | 1, 1, 0x5000 | R | W, 1ull << 39, true, 0x04},	/* beyond 39 bits */
	    {1 | 2 << 2, 2, 0, 1ull << 48, true, 0x04},			/* beyond 48, passed through */
	    {TABLE | 1, 1, 0x5000 | R, 0x1000, true, 0x05},		/* no write */
	    {TABLE | 1, 1, 0x5000 | W, 0x1000, false, 0x06},		/* no read */
	    {TABLE | 1, 1, 0, 0x1000, false, 0x06},			/* neither */
	    {(uint64_t)RAM | 1, 1, 0x5000 | R | W, 0x1000, true, 0x07}, /* table where no memory is */
	    {0xfffffff000 | 1, 1, 0x5000 | R | W, 0x1000, true, 0x07},	/* at the end of addresses */
	    {TABLE | 1 | 0x10, 1, 0, 0x1000, true, 0x0b},		/* reserved */
	    {TABLE | 1 | 1ull << 40, 1, 0, 0x1000, true, 0x0b},		/* address too wide */
	    {TABLE | 1, 1 | 0x80, 0, 0x1000, true, 0x0b},		/* reserved, upper half */
	    {TABLE | 1, 1, 1ull << 40 | R | W, 0x1000, false, 0x0c},	/* page too far */
	};
	struct rig *r = *state;

	for (size_t i = 0; i < ARRAY_LEN(row); i++) {
		domain(r, row[i].lo, row[i].hi);
		page(r, 0x1000, row[i].entry);
		assert_int_equal(at(r, row[i].addr + 0x123, row[i].write), nowhere);
		assert_int_equal(rd(r, FSTS), PPF | i % FRRS << 8);
		check_fault(r, i % FRRS, row[i].reason, row[i].addr, !row[i].write);
		assert_int_equal(rd(r, FSTS) & 0xff, 0);
	}
}

/* A large page's low address bits, and its bit in the fourth level. */
static void
test_large_reserved(void **state)
{
	struct rig *r = *state;

	domain(r, TABLE | 1, 1);
	poke(r, TABLE + 8 * 1, (TABLE + 0x1000) | R | W);
	poke(r, TABLE + 0x1000, 0x201000 | R | W | PS);
	assert_int_equal(at(r, 0x40000000, false), nowhere);
	check_fault(r, 0, 0x0c, 0x40000000, true);
	domain(r, (TABLE + 0x3000) | 1, 2);
	poke(r, TABLE + 0x3000, TABLE | R | W | PS);
	assert_int_equal(at(r, 0x40000000, false), nowhere);
	check_fault(r, 1, 0x0c, 0x40000000, true);
}

static void
test_root(void **state)
{
	struct rig *r = *state;

	domain(r, TABLE | 1, 1);
	poke(r, ROOT, CONTEXT);
	assert_int_equal(at(r, 0, false), nowhere);
	check_fault(r, 0, 0x01, 0, true);
	poke(r, ROOT, CONTEXT | 3);
	assert_int_equal(at(r, 0, false), nowhere);
	check_fault(r, 1, 0x0a, 0, true);
	poke(r, ROOT, CONTEXT | 1);
	poke(r, ROOT + 8, 1);
	assert_int_equal(at(r, 0, false), nowhere);
	check_fault(r, 2, 0x0a, 0, true);
	poke(r, ROOT, RAM | 1);
	poke(r, ROOT + 8, 0);
	assert_int_equal(at(r, 0, false), nowhere);
	check_fault(r, 3, 0x09, 0, true);
	/* Written is not taken over yet. */
	poke(r, ROOT, CONTEXT | 1);
	wr8(r, RTADDR, 0xfffffffffffff000);
	assert_int_equal(at(r, 0, false), nowhere);
	check_fault(r, 4, 0x06, 0, true);
	mode(r, SRTP, true);
	assert_int_equal(at(r, 0, false), nowhere);
	check_fault(r, 5, 0x08, 0, true);
}

/* Tables that are their own next one: as many steps as levels, whatever they say. */
static void
test_circles(void **state)
{
	struct rig *r = *state;

	domain(r, (uint64_t)CONTEXT | 1, 2); /* the context table for a page table */
	for (unsigned i = 0; i < 512; i++)
		poke(r, CONTEXT + 8 * i, CONTEXT | 3);
	poke(r, CONTEXT + 16 * SID, CONTEXT | 1);
	poke(r, CONTEXT + 16 * SID + 8, 2);
	assert_int_equal(at(r, 0x123, true), CONTEXT | 0x123);
	poke(r, TABLE, TABLE | R | W);
	domain(r, TABLE | 1, 1);
	assert_int_equal(at(r, 0xabc, true), TABLE | 0xabc);
}

/* ---- faults ---- */

static void
test_records_run_out(void **state)
{
	struct rig *r = *state;

	domain(r, TABLE | 1, 1);
	for (unsigned i = 0; i < FRRS; i++)
		assert_int_equal(at(r, 0x1000 * i, true), nowhere);
	assert_int_equal(rd(r, FSTS), PPF);
	assert_int_equal(at(r, 0x77000, true), nowhere);
	assert_int_equal(rd(r, FSTS), PPF | PFO);
	/* While it overflows, nothing is recorded, even where a record is free. */
	for (unsigned i = 0; i < FRRS; i++)
		check_fault(r, i, 0x05, 0x1000 * i, false);
	assert_int_equal(at(r, 0x78000, true), nowhere);
	assert_int_equal(rd(r, FSTS), PFO);
	wr(r, FSTS, PFO);
	assert_int_equal(rd(r, FSTS), 0);
	assert_int_equal(at(r, 0x79000, true), nowhere);
	check_fault(r, 0, 0x05, 0x79000, false);
}

/* A context entry's FPD: blocked all the same, but with no record. */
static void
test_quiet(void **state)
{
	struct rig *r = *state;

	domain(r, TABLE | 3, 1);
	assert_int_equal(at(r, 0x1000, true), nowhere);
	domain(r, 2, 1);
	assert_int_equal(at(r, 0x1000, true), nowhere);
	assert_int_equal(rd(r, FSTS), 0);
}

static void
test_fault_event(void **state)
{
	struct rig *r = *state;

	wr(r, FEDATA, 0x1234);
	wr(r, FEADDR, 0xfee01000);
	domain(r, TABLE | 1, 1);
	assert_int_equal(at(r, 0x1000, true), nowhere);
	assert_int_equal(r->msis, 0);
	assert_int_equal(rd(r, FECTL), IM | IP);
	wr(r, FECTL, 0);
	assert_int_equal(r->msis, 1);
	assert_int_equal(r->addr, 0xfee01000);
	assert_int_equal(r->data, 0x1234);
	assert_int_equal(rd(r, FECTL), 0);
	/* More of the same: no further message until status was clear. */
	assert_int_equal(at(r, 0x2000, true), nowhere);
	assert_int_equal(r->msis, 1);
	check_fault(r, 0, 0x05, 0x1000, false);
	check_fault(r, 1, 0x05, 0x2000, false);
	assert_int_equal(at(r, 0x3000, true), nowhere);
	assert_int_equal(r->msis, 2);
	check_fault(r, 2, 0x05, 0x3000, false);
	/* Masked, and gone before it is unmasked. */
	wr(r, FECTL, IM);
	assert_int_equal(at(r, 0x4000, true), nowhere);
	assert_int_equal(rd(r, FECTL), IM | IP);
	check_fault(r, 3, 0x05, 0x4000, false);
	assert_int_equal(rd(r, FECTL), IM);
	wr(r, FECTL, 0);
	assert_int_equal(r->msis, 2);
}

/* ---- the invalidation queue ---- */

static void
descriptor(struct rig *r, unsigned n, uint64_t lo, uint64_t hi)
{
	poke(r, QUEUE + 16 * n, lo);
	poke(r, QUEUE + 16 * n + 8, hi);
}

static void
test_queue(void **state)
{
	struct rig *r = *state;
	uint32_t status = 0;

	wr(r, IEDATA, 0x55);
	wr(r, IEADDR, 0xfee00000);
	wr(r, IECTL, 0);
	wr8(r, IQA, QUEUE);
	descriptor(r, 0, 1 | 1 << 4, 0);		   /* contexts, all */
	descriptor(r, 1, 2 | 3 << 4 | 7ull << 16, 0x5000); /* a page */
	descriptor(r, 2, 4, 0);				   /* interrupt entries */
	descriptor(r, 3, 5 | 1 << 5 | 0xcafeull << 32, STATUS);
	wr(r, IQT, 4 * 16);
	assert_int_equal(rd(r, IQH), 0); /* off */
	mode(r, QIE, true);
	assert_int_equal(rd(r, IQH), 4 * 16);
	assert_true(gm_read(r->mem, STATUS, &status, 4));
	assert_int_equal(status, 0xcafe);
	assert_int_equal(r->msis, 0);
	descriptor(r, 4, 5 | 1 << 4, 0);
	wr(r, IQT, 5 * 16);
	assert_int_equal(r->msis, 1);
	assert_int_equal(r->data, 0x55);
	assert_int_equal(rd(r, ICS), 1);
	/* A second one while the first is not acknowledged says nothing more. */
	descriptor(r, 5, 5 | 1 << 4, 0);
	wr(r, IQT, 6 * 16);
	assert_int_equal(r->msis, 1);
	wr(r, ICS, 1);
	assert_int_equal(rd(r, ICS), 0);
	/* Around the end. */
	for (unsigned i = 6; i < 256; i++)
		descriptor(r, i, 4, 0);
	wr(r, IQT, 2 * 16);
	assert_int_equal(rd(r, IQH), 2 * 16);
	assert_int_equal(rd(r, FSTS), 0);
	/* Status that is to go where no memory is: dropped. */
	descriptor(r, 2, 5 | 1 << 5, 0xfffffffffffffffc);
	wr(r, IQT, 3 * 16);
	assert_int_equal(rd(r, IQH), 3 * 16);
	mode(r, QIE, false);
	assert_int_equal(rd(r, IQH), 0);
}

static void
test_queue_errors(void **state)
{
	static const struct {
		uint64_t lo, hi;
	} bad[] = {
	    {0, 0},
	    {3 | 1 << 4, 0}, /* device TLB */
	    {6, 0},
	    {0xf, 0},
	    {1, 0}, /* no granularity */
	    {2, 0},
	    {1 | 1 << 4 | 1 << 6, 0}, /* reserved */
	    {1 | 1 << 4, 1},
	    {2 | 3 << 4, 63}, /* mask too large */
	    {2 | 1 << 4 | BIT(40), 0},
	    {4 | BIT(20), 0},
	    {5 | BIT(10), 0},
	    {5, 3},
	};
	struct rig *r = *state;

	wr(r, FECTL, 0);
	wr8(r, IQA, QUEUE);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		descriptor(r, 0, 4, 0);
		descriptor(r, 1, bad[i].lo, bad[i].hi);
		descriptor(r, 2, 4, 0);
		wr(r, IQT, 3 * 16);
		mode(r, QIE, true);
		assert_int_equal(rd(r, FSTS), IQE);
		assert_int_equal(rd(r, IQH), 16);
		assert_int_equal(r->msis, i + 1);
		wr(r, IQT, 3 * 16); /* stopped */
		assert_int_equal(rd(r, IQH), 16);
		descriptor(r, 1, 4, 0);
		wr(r, FSTS, IQE);
		assert_int_equal(rd(r, FSTS), 0);
		assert_int_equal(rd(r, IQH), 3 * 16);
		mode(r, QIE, false);
	}
}

/* A queue where no memory is, a tail beyond it, the longest one full of descriptors. */
static void
test_queue_hostile(void **state)
{
	struct rig *r = *state;

	wr8(r, IQA, 0xfffffffffffff007);
	wr(r, IQT, 16);
	mode(r, QIE, true);
	assert_int_equal(rd(r, FSTS), IQE);
	mode(r, QIE, false);
	wr8(r, IQA, QUEUE);
	wr(r, IQT, UINT32_MAX);
	assert_int_equal(rd(r, IQT), 0x7fff0);
	wr(r, FSTS, IQE);
	mode(r, QIE, true);
	assert_int_equal(rd(r, FSTS), IQE);
	assert_int_equal(rd(r, IQH), 0);
	mode(r, QIE, false);
	wr8(r, IQA, 0x100000 | 7);
	for (unsigned i = 0; i < 32768; i++) {
		poke(r, 0x100000 + 16 * i, 5 | 1 << 5);
		poke(r, 0x100008 + 16 * i, STATUS);
	}
	wr(r, FSTS, IQE);
	mode(r, QIE, true);
	assert_int_equal(rd(r, IQH), 0x7fff0);
	assert_int_equal(rd(r, FSTS), 0);
}

/* ---- interrupts ---- */

static void
remapping(struct rig *r, uint64_t irta)
{
	wr8(r, IRTA, irta);
	mode(r, SIRTP, true);
	mode(r, IRE, true);
}

static void
entry(struct rig *r, unsigned n, uint64_t lo, uint64_t hi)
{
	poke(r, IRT + 16 * n, lo);
	poke(r, IRT + 16 * n + 8, hi);
}

/* The address of a message with that handle. */
static uint64_t
handle(unsigned n, bool subhandle)
{
	return 0xfee00010 | (n & 0x7fffu) << 5 | (n >> 15 & 1) << 2 | (uint64_t)subhandle << 3;
}

static void
test_interrupts(void **state)
{
	struct rig *r = *state;

	vtd_pci_msi(r->v, SID, 0xfee01000, 0x31); /* off: as it comes */
	assert_int_equal(r->msis, 1);
	remapping(r, IRT | 3);					       /* 16 entries */
	entry(r, 3, 1 | 0x41 << 16 | 5ull << 40, 0);		       /* fixed, physical 5 */
	entry(r, 5, 1 | 4 | 8 | 0x10 | 0x42 << 16 | 0x81ull << 40, 0); /* logical, hint, level */
	vtd_pci_msi(r->v, SID, handle(3, false), 0xffffffff);
	assert_int_equal(r->messages, 1);
	assert_int_equal(r->m.dest, 5);
	assert_int_equal(r->m.vector, 0x41);
	assert_int_equal(r->m.mode, 0);
	assert_false(r->m.logical || r->m.level || r->m.wide);
	vtd_pci_msi(r->v, SID, handle(1, true), 4);
	assert_int_equal(r->messages, 2);
	assert_int_equal(r->m.dest, 0x81);
	assert_int_equal(r->m.vector, 0x42);
	assert_int_equal(r->m.mode, 1); /* lowest priority */
	assert_true(r->m.logical && r->m.level);
	assert_true(vtd_ioapic_msi(r->v, (uint32_t)handle(3, false), 0));
	assert_int_equal(r->messages, 3);
	assert_int_equal(rd(r, FSTS), 0);
}

static void
test_interrupt_faults(void **state)
{
	static const struct {
		uint64_t lo, hi;
		unsigned handle;
		bool subhandle;
		uint32_t data;
		unsigned reason, index;
	} row[] = {
	    {1, 0, 2, true, 0x10000, 0x20, 2},
	    {1, 0, 16, false, 0, 0x21, 16},
	    {1, 0, 2, true, 0xffff, 0x21, 1}, /* the record has 16 bits of it */
	    {0, 0, 2, false, 0, 0x22, 2},
	    {1 | 1 << 12, 0, 2, false, 0, 0x24, 2},
	    {1 | 1ull << 32, 0, 2, false, 0, 0x24, 2}, /* destination beyond 8 bits */
	    {1, 3 << 18, 2, false, 0, 0x24, 2},
	    {1, BIT(20), 2, false, 0, 0x24, 2},
	    {1, 1 << 18 | (SID + 1), 2, false, 0, 0x26, 2},
	    {1, 2 << 18 | 0x0102, 2, false, 0, 0x26, 2}, /* buses 1..2 */
	};
	struct rig *r = *state;

	remapping(r, IRT | 3);
	for (size_t i = 0; i < ARRAY_LEN(row); i++) {
		entry(r, 2, row[i].lo, row[i].hi);
		vtd_pci_msi(r->v, SID, handle(row[i].handle, row[i].subhandle), row[i].data);
		check_fault(r, i % FRRS, row[i].reason, (uint64_t)row[i].index << 48, false);
	}
	assert_int_equal(r->messages, 0);
	entry(r, 2, 2, 0); /* FPD */
	vtd_pci_msi(r->v, SID, handle(2, false), 0);
	assert_int_equal(rd(r, FSTS) & PPF, 0);
	/* No memory. */
	remapping(r, 0xffffffffff000 | 0xf);
	vtd_pci_msi(r->v, SID, handle(0xffff, false), 0);
	check_fault(r, 2, 0x23, 0xffffull << 48, false);
	assert_int_equal(r->messages, 0);
}

static void
test_sources(void **state)
{
	static const struct {
		uint64_t hi;
		uint16_t sid;
		bool fits;
	} row[] = {
	    {1 << 18 | 0x19, 0x19, true},
	    {1 << 18 | 0x19, 0x1d, false},
	    {1 << 18 | 1 << 16 | 0x19, 0x1d, true}, /* function bit 2 is ignored */
	    {1 << 18 | 1 << 16 | 0x19, 0x1b, false},
	    {1 << 18 | 2 << 16 | 0x19, 0x1f, true},
	    {1 << 18 | 2 << 16 | 0x19, 0x1e, false},
	    {1 << 18 | 3 << 16 | 0x19, 0x1e, true},
	    {1 << 18 | 3 << 16 | 0x19, 0x21, false},
	    {2 << 18 | 0x0102, 0x0100, true},
	    {2 << 18 | 0x0102, 0x02ff, true},
	    {2 << 18 | 0x0102, 0x0300, false},
	    {0x0102, 0x0300, true},
	};
	struct rig *r = *state;

	remapping(r, IRT);
	for (size_t i = 0; i < ARRAY_LEN(row); i++) {
		entry(r, 1, 1, row[i].hi);
		r->messages = 0;
		vtd_pci_msi(r->v, row[i].sid, handle(1, false), 0);
		assert_int_equal(r->messages, row[i].fits);
	}
	/* The IOAPIC's is not checked. */
	entry(r, 1, 1, 1 << 18 | 0x19);
	assert_true(vtd_ioapic_msi(r->v, (uint32_t)handle(1, false), 0));
}

/* Messages in the old format pass only while CFI says so. */
static void
test_compatibility(void **state)
{
	struct rig *r = *state;

	remapping(r, IRT | 3);
	vtd_pci_msi(r->v, SID, 0xfee01000, 0x31);
	assert_int_equal(r->msis, 0);
	check_fault(r, 0, 0x25, 0, false);
	mode(r, CFI, true);
	vtd_pci_msi(r->v, SID, 0xfee01000, 0x31);
	assert_int_equal(r->msis, 1);
	assert_int_equal(r->data, 0x31);
}

static void
test_x2apic(void **state)
{
	struct rig *r = *state;

	assert_int_equal(rd8(r, ECAP) >> 4 & 1, 1);
	remapping(r, IRT | 1 << 11 | 3);
	entry(r, 3, 1 | 0x41 << 16 | 0x12345678ull << 32, 0);
	vtd_pci_msi(r->v, SID, handle(3, false), 0);
	assert_int_equal(r->messages, 1);
	assert_true(r->m.wide);
	assert_int_equal(r->m.dest, 0x12345678);
	mode(r, CFI, true); /* says nothing in this mode */
	vtd_pci_msi(r->v, SID, 0xfee01000, 0x31);
	assert_int_equal(r->msis, 0);
	/* The unit's own event has the destination in two places. */
	wr(r, FEUADDR, 0x12345600);
	wr(r, FEADDR, 0xfee78000);
	wr(r, FEDATA, 0x99);
	wr(r, FECTL, 0);
	assert_int_equal(r->messages, 2);
	assert_int_equal(r->m.dest, 0x12345678);
	assert_int_equal(r->m.vector, 0x99);
}

/* ---- state ---- */

static void
test_state(void **state)
{
	struct rig *r = *state;
	struct err err = {0};

	domain(r, TABLE | 1, 1);
	assert_int_equal(at(r, 0x1000, true), nowhere);
	wr8(r, IQA, QUEUE | 2);
	wr(r, IQT, 0x40);
	mode(r, QIE, true);
	wr8(r, IRTA, IRT | 3);
	mode(r, SIRTP, true);
	check_device_state(&vtd_device_ops, r->v);
	assert_int_equal(rd(r, GSTS), TE | SRTP | SIRTP | QIE);
	vtd_device_ops.reset(r->v);
	assert_int_equal(rd(r, GSTS), 0);
	assert_int_equal(at(r, 0x1000, true), 0x1000);
	assert_int_equal(vtd_device_ops.post_load(r->v, &err), 0);
}

/* Registers written at random, requests in between: nothing but answers. */
static void
test_random(void **state)
{
	struct rig *r = *state;
	uint64_t seed = 1, gpa, len;

	for (unsigned i = 0; i < 0x8000; i += 8)
		poke(r, i, (uint64_t)next_random(&seed) << 32 | next_random(&seed));
	for (unsigned i = 0; i < 200000; i++) {
		uint32_t what = next_random(&seed), val = next_random(&seed);

		wr(r, (what & 0x3f) * 4 + ((what & 0x40) != 0 ? 0x200 : 0), what & 0x80 ? val & 0x7007 : val);
		len = 1 + (val & 0xfff);
		if (vtd_translate(r->v, (uint16_t)what, val & 0x7fffff, val >> 31 != 0, &gpa, &len))
			assert_in_range(len, 1, 0x1000);
		vtd_pci_msi(r->v, (uint16_t)val, 0xfee00000 | (val & 0xfffff), what);
		assert_true(rd(r, IQH) <= 0x7fff0);
	}
	assert_int_equal(vtd_device_ops.post_load(r->v, NULL), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_registers),
	    T(test_register_invalidation),
	    T(test_off),
	    T(test_pages),
	    T(test_blocked),
	    T(test_large_reserved),
	    T(test_root),
	    T(test_circles),
	    T(test_records_run_out),
	    T(test_quiet),
	    T(test_fault_event),
	    T(test_queue),
	    T(test_queue_errors),
	    T(test_queue_hostile),
	    T(test_interrupts),
	    T(test_interrupt_faults),
	    T(test_sources),
	    T(test_compatibility),
	    cmocka_unit_test_setup_teardown(test_x2apic, setup_eim, teardown),
	    T(test_state),
	    T(test_random),
	};

	return cmocka_run_group_tests_name("vtd", tests, NULL, NULL);
}
