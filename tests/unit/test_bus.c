/* SPDX-License-Identifier: BSD-2-Clause */
/* I/O bus: decoding, widths, splitting, changes from handlers and under load. */
#include "tests/unit/chipset_util.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

/* A device of 16 bytes that notes each access. */
struct mem {
	uint8_t byte[16];
	struct {
		uint64_t off;
		unsigned size;
		bool write;
	} log[32];
	unsigned n;
};

static uint64_t
mem_read(void *dev, uint64_t off, unsigned size)
{
	struct mem *m = dev;
	uint64_t val = 0;

	assert_true(off + size <= sizeof(m->byte));
	m->log[m->n % 32].off = off;
	m->log[m->n % 32].size = size;
	m->log[m->n++ % 32].write = false;
	memcpy(&val, m->byte + off, size);
	return val | (size < 8 ? ~size_mask(size) : 0); /* bits above the width are the bus's business */
}

static void
mem_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct mem *m = dev;

	assert_true(off + size <= sizeof(m->byte));
	assert_int_equal(val & ~size_mask(size), 0);
	m->log[m->n % 32].off = off;
	m->log[m->n % 32].size = size;
	m->log[m->n++ % 32].write = true;
	memcpy(m->byte + off, &val, size);
}

static void
add(struct io_bus *b, struct mem *m, uint64_t base, uint64_t len, unsigned widths)
{
	const struct io_region r = {"mem", base, len, widths, mem_read, mem_write, m};
	struct err err;

	for (unsigned i = 0; i < 16; i++)
		m->byte[i] = (uint8_t)(0x10 + i);
	assert_int_equal(io_bus_add(b, &r, &err), 0);
}

static void
test_nobody_home(void **state)
{
	struct io_bus *b = make_bus(0x10000);

	(void)state;
	assert_int_equal(io_bus_read(b, 0x80, 1), 0xff);
	assert_int_equal(io_bus_read(b, 0x80, 2), 0xffff);
	assert_int_equal(io_bus_read(b, 0xfffe, 4), 0xffffffff);
	assert_true(io_bus_read(b, UINT64_MAX - 3, 8) == UINT64_MAX);
	io_bus_write(b, 0x80, 4, 1);
	io_bus_write(b, UINT64_MAX, 8, 1);
	io_bus_destroy(b);
}

static void
test_overlap(void **state)
{
	static const struct {
		uint64_t base, len;
		int rc;
	} t[] = {
	    {0xf8, 8, 0},	   {0x108, 8, 0},
	    {0x0ff, 2, -EEXIST},   {0x100, 8, -EEXIST},
	    {0x107, 1, -EEXIST},   {0x0, 0x10000, -EEXIST},
	    {0x110, 0, -EINVAL},   {0xffff, 2, -EINVAL},
	    {0x10000, 1, -EINVAL}, {UINT64_MAX, 2, -EINVAL},
	    {0xffff, 1, 0},	   {0, 1, 0},
	};
	struct io_bus *b = make_bus(0x10000);
	struct mem m = {0};
	struct err err;

	(void)state;
	add(b, &m, 0x100, 8, IO_W1);
	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		const struct io_region r = {"new", t[i].base, t[i].len, IO_W1, mem_read, mem_write, &m};

		assert_int_equal(io_bus_add(b, &r, &err), t[i].rc);
		if (t[i].rc == -EEXIST)
			assert_true(strncmp(err.msg, "test bus: new at ", 17) == 0 &&
				    strstr(err.msg, " overlaps ") != NULL);
	}
	io_bus_destroy(b);
}

static void
test_widths(void **state)
{
	struct io_bus *b = make_bus(1ull << 40);
	struct mem m = {0};

	(void)state;
	add(b, &m, 0x1000, 16, IO_W4);
	assert_int_equal(io_bus_read(b, 0x1004, 4), 0x17161514);
	assert_int_equal(io_bus_read(b, 0x1004, 2), 0xffff);
	assert_int_equal(io_bus_read(b, 0x100e, 4), 0xffffffff); /* past the end */
	assert_true(io_bus_read(b, 0x1000, 8) == UINT64_MAX);
	io_bus_write(b, 0x1000, 1, 0);
	io_bus_write(b, 0x100d, 4, 0);
	assert_int_equal(m.n, 1);
	io_bus_write(b, 0x1000, 4, 0xffffffffaabbccddull);
	assert_int_equal(m.byte[3], 0xaa);
	io_bus_destroy(b);
}

static void
test_split(void **state)
{
	struct io_bus *b = make_bus(1ull << 40);
	struct mem m = {0}, w = {0};

	(void)state;
	add(b, &m, 0x1000, 16, IO_W1 | IO_W2 | IO_SPLIT);
	assert_int_equal(io_bus_read(b, 0x1001, 4), 0x14131211);
	assert_int_equal(m.n, 3); /* 1 + 2 + 1, naturally aligned */
	assert_int_equal(m.log[1].size, 2);
	assert_int_equal(m.log[1].off, 2);
	m.n = 0;
	io_bus_write(b, 0x1000, 8, 0x8877665544332211);
	assert_int_equal(m.n, 4);
	assert_memory_equal(m.byte, "\x11\x22\x33\x44\x55\x66\x77\x88", 8);
	assert_int_equal(io_bus_read(b, 0x1000, 3), 0x332211);
	/* Past the end: the rest is nobody's. */
	assert_int_equal(io_bus_read(b, 0x100f, 4), 0xffffff1f);
	io_bus_write(b, 0x100f, 4, 0x99);
	assert_int_equal(m.byte[15], 0x99);
	/* Beginning before it. */
	assert_int_equal(io_bus_read(b, 0xffe, 4), 0x2211ffff);
	/* Into the next region; padded to its only width. */
	add(b, &w, 0x1010, 16, IO_W4 | IO_SPLIT);
	assert_int_equal(io_bus_read(b, 0x100f, 4), 0x12111099);
	assert_int_equal(io_bus_read(b, 0x1013, 1), 0x13);
	assert_int_equal(io_bus_read(b, 0x1013, 2), 0x1413);
	w.n = 0;
	io_bus_write(b, 0x1011, 2, 0xbbaa);
	assert_int_equal(w.n, 2);
	assert_true(!w.log[0].write && w.log[1].write);
	assert_memory_equal(w.byte, "\x10\xaa\xbb\x13", 4);
	io_bus_destroy(b);
}

static void
test_remove(void **state)
{
	struct io_bus *b = make_bus(0x10000);
	struct mem m = {0};

	(void)state;
	add(b, &m, 0x100, 8, IO_W1);
	io_bus_remove(b, 0x101, &m);
	io_bus_remove(b, 0x100, b);
	assert_int_equal(io_bus_read(b, 0x100, 1), 0x10);
	io_bus_remove(b, 0x100, &m);
	assert_int_equal(io_bus_read(b, 0x100, 1), 0xff);
	add(b, &m, 0x104, 8, IO_W1);
	assert_int_equal(io_bus_read(b, 0x105, 1), 0x11);
	io_bus_destroy(b);
}

static void
test_many(void **state)
{
	struct io_bus *b = make_bus(1ull << 40);
	struct mem m = {0};
	uint64_t seed = 4;

	(void)state;
	for (unsigned i = 0; i < 500; i++) {
		uint64_t slot = next_random(&seed) % 1000;
		const struct io_region r = {"r", slot * 64, 16, IO_ANY, mem_read, mem_write, &m};

		(void)!io_bus_add(b, &r, NULL);
		assert_int_equal(io_bus_read(b, slot * 64 + 5, 1), m.byte[5]);
		assert_int_equal(io_bus_read(b, slot * 64 + 16, 1), 0xff);
	}
	io_bus_destroy(b);
}

/* A BAR that moves itself from inside its own write handler. */
struct mover {
	struct io_bus *b;
	uint64_t base;
};

static void mover_write(void *dev, uint64_t off, unsigned size, uint64_t val);

static uint64_t
mover_read(void *dev, uint64_t off, unsigned size)
{
	(void)off;
	(void)size;
	return ((struct mover *)dev)->base >> 8;
}

static void
mover_place(struct mover *m, uint64_t base)
{
	const struct io_region r = {"mover", base, 16, IO_ANY, mover_read, mover_write, m};

	m->base = base;
	assert_int_equal(io_bus_add(m->b, &r, NULL), 0);
}

static void
mover_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct mover *m = dev;

	(void)off;
	(void)size;
	io_bus_remove(m->b, m->base, m);
	mover_place(m, val);
}

static void
test_moves_itself(void **state)
{
	struct mover m = {.b = make_bus(0x10000)};

	(void)state;
	mover_place(&m, 0x1000);
	io_bus_write(m.b, 0x1000, 4, 0x2000);
	assert_int_equal(io_bus_read(m.b, 0x1000, 1), 0xff);
	assert_int_equal(io_bus_read(m.b, 0x2000, 1), 0x20);
	io_bus_destroy(m.b);
}

static uint64_t
constant_read(void *dev, uint64_t off, unsigned size)
{
	(void)off;
	(void)size;
	return *(const uint8_t *)dev;
}

/* Readers on other threads see the region or do not, and never another one in its place. */
struct load {
	struct io_bus *b;
	_Atomic bool stop;
	_Atomic unsigned bad, looks;
};

static void *
reader(void *arg)
{
	struct load *l = arg;

	while (!atomic_load(&l->stop)) {
		uint64_t fixed = io_bus_read(l->b, 0x8000, 2), moving = io_bus_read(l->b, 0x1000, 1);

		atomic_fetch_add(&l->looks, 1);
		if (fixed != 0x80 || (moving != 0xff && moving != 0x10))
			atomic_fetch_add(&l->bad, 1);
	}
	return NULL;
}

static void
test_concurrent(void **state)
{
	static uint8_t fixed_value = 0x80, moving_value = 0x10;
	const struct io_region fixed = {"fixed", 0x8000, 16, IO_ANY, constant_read, NULL, &fixed_value};
	struct io_region moving = {"moving", 0x1000, 16, IO_ANY, constant_read, NULL, &moving_value};
	struct load l = {.b = make_bus(0x10000)};
	pthread_t thread[3];

	(void)state;
	assert_int_equal(io_bus_add(l.b, &fixed, NULL), 0);
	assert_int_equal(io_bus_add(l.b, &moving, NULL), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, reader, &l), 0);
	for (unsigned i = 0; i < 3000; i++) {
		io_bus_remove(l.b, moving.base, &moving_value);
		moving.base ^= 0x3000;
		assert_int_equal(io_bus_add(l.b, &moving, NULL), 0);
		if (i % 64 == 0)
			sched_yield();
	}
	while (atomic_load(&l.looks) < 1000)
		sched_yield();
	atomic_store(&l.stop, true);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(l.bad, 0);
	io_bus_destroy(l.b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_nobody_home),	 cmocka_unit_test(test_overlap),
	    cmocka_unit_test(test_widths),	 cmocka_unit_test(test_split),
	    cmocka_unit_test(test_remove),	 cmocka_unit_test(test_many),
	    cmocka_unit_test(test_moves_itself), cmocka_unit_test(test_concurrent),
	};

	return cmocka_run_group_tests_name("bus", tests, NULL, NULL);
}
