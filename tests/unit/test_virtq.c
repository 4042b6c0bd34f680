/* SPDX-License-Identifier: BSD-2-Clause */
/* Virtqueues with a driver of our own on the other side: both rings, laps, events, and what a hostile one
 * does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <sys/uio.h>

#include "base/util.h"
#include "dev/virtio/queue.h"
#include "mem/gpmap.h"

enum {
	RAM = 1 << 20,
	SIZE = 8,
	DESC = 0x1000,
	DRIVER = 0x2000,
	DEVICE = 0x3000,
	TABLE = 0x4000,
	DATA = 0x8000
};
enum { NEXT = 1, WRITE = 2, INDIRECT = 4, AVAIL = 1 << 7, USED = 1 << 15 };

struct rig {
	struct memobj *obj;
	struct gpmap *mem;
	uint8_t *ram;
	struct virtq q;
	struct virtq_chain c;
	unsigned broken;
	char why[128];
	/* the driver's side */
	bool packed;
	uint16_t avail, seen; /* split: free running; packed: places */
	bool avail_wrap, used_wrap;
};

static void
on_broken(void *ctx, struct virtq *q, const char *why)
{
	struct rig *r = ctx;

	(void)q;
	r->broken++;
	strncpy(r->why, why, sizeof(r->why) - 1);
}

static void
rig_reset(struct rig *r, bool packed, bool event_idx)
{
	memset(r->ram, 0, RAM);
	r->packed = packed;
	r->avail = r->seen = 0;
	r->avail_wrap = r->used_wrap = true;
	r->broken = 0;
	virtq_reset(&r->q);
	virtq_features(&r->q, packed, true, event_idx);
	r->q.st.desc_gpa = DESC;
	r->q.st.driver_gpa = DRIVER;
	r->q.st.device_gpa = DEVICE;
	assert_true(virtq_enable(&r->q));
}

static int
setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct err err = {0};

	r->obj = memobj_create("test", RAM, &err);
	r->mem = gpmap_create(&err);
	assert_int_equal(gpmap_map(r->mem, 0, RAM, r->obj, 0, GM_RAM, &err), 0);
	r->ram = memobj_hva(r->obj);
	r->q = (struct virtq){.mem = r->mem, .max_size = SIZE, .broken = on_broken, .ctx = r};
	rig_reset(r, false, false);
	*state = r;
	return 0;
}

static int
teardown(void **state)
{
	struct rig *r = *state;

	virtq_chain_free(&r->c);
	gpmap_destroy(r->mem);
	memobj_destroy(r->obj);
	free(r);
	return 0;
}

/* ---- the driver ---- */

static void
put_desc(struct rig *r, uint64_t at, uint64_t gpa, uint32_t len, uint16_t flags, uint16_t next)
{
	put_le64(r->ram + at, gpa);
	put_le32(r->ram + at + 8, len);
	put_le16(r->ram + at + (r->packed ? 14 : 12), flags);
	put_le16(r->ram + at + (r->packed ? 12 : 14), next);
}

static void
split_offer(struct rig *r, uint16_t head)
{
	put_le16(r->ram + DRIVER + 4 + 2 * (r->avail % SIZE), head);
	put_le16(r->ram + DRIVER + 2, ++r->avail);
}

/* One descriptor into the packed ring, with the bits that make it available. */
static void
packed_put(struct rig *r, uint64_t gpa, uint32_t len, uint16_t flags, uint16_t id)
{
	flags |= r->avail_wrap ? AVAIL : USED;
	put_desc(r, DESC + 16u * r->avail, gpa, len, flags, id);
	if (++r->avail == SIZE) {
		r->avail = 0;
		r->avail_wrap = !r->avail_wrap;
	}
}

/* A chain of a readable and a writable buffer of 64 bytes each, tagged with `id`. */
static void
offer(struct rig *r, uint16_t id)
{
	uint64_t out = DATA + 256ull * id, in = out + 128;

	put_le32(r->ram + out, 0xabc0 + id);
	if (r->packed) {
		packed_put(r, out, 64, NEXT, 0xffff);
		packed_put(r, in, 64, WRITE, id);
		return;
	}
	put_desc(r, DESC + 16u * (2u * id), out, 64, NEXT, (uint16_t)(2 * id + 1));
	put_desc(r, DESC + 16u * (2u * id + 1), in, 64, WRITE, 0);
	split_offer(r, (uint16_t)(2 * id));
}

/* What came back: the id, or -1. */
static int
collect(struct rig *r, uint32_t *len)
{
	if (r->packed) {
		uint8_t *d = r->ram + DESC + 16u * r->seen;
		uint16_t flags = get_le16(d + 14), id = get_le16(d + 12);

		if (((flags & AVAIL) != 0) != r->used_wrap || ((flags & USED) != 0) != r->used_wrap)
			return -1;
		*len = get_le32(d + 8);
		r->seen += 2;
		if (r->seen >= SIZE) {
			r->seen -= SIZE;
			r->used_wrap = !r->used_wrap;
		}
		return id;
	}
	if (get_le16(r->ram + DEVICE + 2) == r->seen)
		return -1;
	*len = get_le32(r->ram + DEVICE + 4 + 8 * (r->seen % SIZE) + 4);
	return (int)get_le32(r->ram + DEVICE + 4 + 8 * (r->seen++ % SIZE)) / 2;
}

/* ---- good drivers ---- */

static void
check_chain(struct rig *r, uint16_t id)
{
	uint8_t word[4];

	assert_true(virtq_pop(&r->q, &r->c));
	assert_int_equal(r->c.out, 1);
	assert_int_equal(r->c.in, 1);
	assert_int_equal(r->c.out_bytes, 64);
	assert_int_equal(r->c.in_bytes, 64);
	assert_int_equal(virtq_read(&r->q, &r->c, 0, word, 4), 4);
	assert_int_equal(get_le32(word), 0xabc0 + id);
	assert_int_equal(virtq_write(&r->q, &r->c, 62, "xyz", 3), 2);
	assert_memory_equal(r->ram + DATA + 256 * id + 128 + 62, "xy", 2);
}

/* Many laps, several in flight, the sums of both sides agree. */
static void
run_laps(struct rig *r, bool packed, bool event_idx)
{
	uint32_t len = 0;

	rig_reset(r, packed, event_idx);
	for (unsigned lap = 0; lap < 70000; lap++) {
		assert_false(virtq_available(&r->q));
		offer(r, 0);
		offer(r, 1);
		assert_true(virtq_available(&r->q));
		check_chain(r, 0);
		virtq_push(&r->q, &r->c, 5);
		check_chain(r, 1);
		virtq_push(&r->q, &r->c, 0);
		assert_int_equal(collect(r, &len), 0);
		assert_int_equal(len, 5);
		assert_int_equal(collect(r, &len), 1);
		assert_int_equal(len, 0);
		assert_int_equal(collect(r, &len), -1);
		assert_false(virtq_pop(&r->q, &r->c));
	}
	assert_int_equal(r->broken, 0);
}

static void
test_laps(void **state)
{
	for (unsigned i = 0; i < 4; i++)
		run_laps(*state, (i & 1) != 0, (i & 2) != 0);
}

static void
test_rewind_and_many(void **state)
{
	struct rig *r = *state;
	struct virtq_chain two[2] = {{0}};
	const uint32_t written[2] = {7, 9};
	uint32_t len = 0;

	for (unsigned packed = 0; packed < 2; packed++) {
		rig_reset(r, packed != 0, false);
		offer(r, 0);
		offer(r, 1);
		struct virtq_mark m = virtq_mark(&r->q);

		assert_true(virtq_pop(&r->q, &two[0]));
		virtq_rewind(&r->q, m);
		assert_true(virtq_pop(&r->q, &two[0]));
		assert_true(virtq_pop(&r->q, &two[1]));
		assert_false(virtq_pop(&r->q, &r->c));
		virtq_push_many(&r->q, two, written, 2);
		assert_int_equal(collect(r, &len), 0);
		assert_int_equal(len, 7);
		assert_int_equal(collect(r, &len), 1);
		assert_int_equal(len, 9);
	}
	virtq_chain_free(&two[0]);
	virtq_chain_free(&two[1]);
}

static void
test_indirect(void **state)
{
	struct rig *r = *state;
	uint8_t bytes[300];

	for (unsigned packed = 0; packed < 2; packed++) {
		rig_reset(r, packed != 0, false);
		/* Split tables are linked, in any order; packed ones are taken as they stand. */
		put_desc(r, TABLE, DATA, 100, NEXT, 2);
		put_desc(r, TABLE + 16, DATA + 0x400, 50, WRITE, 0);
		put_desc(r, TABLE + 32, DATA + 0x200, 200, NEXT, 1);
		if (packed) {
			put_desc(r, TABLE + 16, DATA + 0x200, 200, 0, 0);
			put_desc(r, TABLE + 32, DATA + 0x400, 50, WRITE, 0);
			packed_put(r, TABLE, 48, INDIRECT, 6);
		} else {
			put_desc(r, DESC, TABLE, 48, INDIRECT, 0);
			split_offer(r, 0);
		}
		memset(r->ram + DATA, 'a', 100);
		memset(r->ram + DATA + 0x200, 'b', 200);
		assert_true(virtq_pop(&r->q, &r->c));
		assert_int_equal(r->c.out_bytes, 300);
		assert_int_equal(r->c.in_bytes, 50);
		assert_int_equal(r->c.slots, 1);
		assert_int_equal(virtq_read(&r->q, &r->c, 0, bytes, 400), 300);
		assert_int_equal(bytes[99], 'a');
		assert_int_equal(bytes[100], 'b');
		assert_int_equal(virtq_read(&r->q, &r->c, 250, bytes, 400), 50);
		if (packed)
			assert_int_equal(r->c.id, 6);
	}
}

static void
test_host_memory(void **state)
{
	struct rig *r = *state;
	struct iovec iov[4];

	offer(r, 0);
	assert_true(virtq_pop(&r->q, &r->c));
	assert_int_equal(virtq_iov(&r->q, &r->c, true, 10, 54, iov, 4), 1);
	assert_ptr_equal(iov[0].iov_base, r->ram + DATA + 128 + 10);
	assert_int_equal(iov[0].iov_len, 54);
	assert_int_equal(virtq_iov(&r->q, &r->c, true, 10, 55, iov, 4), -1);
	assert_int_equal(virtq_iov(&r->q, &r->c, false, 0, 64, iov, 0), -1);
}

/* ---- events ---- */

static void
test_split_events(void **state)
{
	struct rig *r = *state;

	rig_reset(r, false, false);
	put_le16(r->ram + DRIVER, 1); /* no interrupt */
	offer(r, 0);
	check_chain(r, 0);
	virtq_push(&r->q, &r->c, 0);
	assert_false(virtq_wants_interrupt(&r->q));
	put_le16(r->ram + DRIVER, 0);
	assert_true(virtq_wants_interrupt(&r->q));
	virtq_notifications(&r->q, false);
	assert_int_equal(get_le16(r->ram + DEVICE), 1);
	assert_false(virtq_notifications(&r->q, true));
	assert_int_equal(get_le16(r->ram + DEVICE), 0);
	offer(r, 0);
	assert_true(virtq_notifications(&r->q, true));

	rig_reset(r, false, true);
	for (unsigned n = 0; n < 4; n++)
		offer(r, (uint16_t)(n % 2));
	put_le16(r->ram + DRIVER + 4 + 2 * SIZE, 2); /* used_event: after the third */
	for (unsigned n = 0; n < 4; n++) {
		check_chain(r, (uint16_t)(n % 2));
		virtq_push(&r->q, &r->c, 0);
		assert_int_equal(virtq_wants_interrupt(&r->q),
				 n == 0 || n == 2); /* the first time in any case */
	}
	assert_false(virtq_notifications(&r->q, true));
	assert_int_equal(get_le16(r->ram + DEVICE + 4 + 8 * SIZE), 4); /* avail_event */
}

static void
test_packed_events(void **state)
{
	struct rig *r = *state;

	rig_reset(r, true, true);
	put_le16(r->ram + DRIVER + 2, 1); /* disabled */
	offer(r, 0);
	check_chain(r, 0);
	virtq_push(&r->q, &r->c, 0);
	assert_false(virtq_wants_interrupt(&r->q));
	put_le16(r->ram + DRIVER + 2, 0);
	offer(r, 1);
	check_chain(r, 1);
	virtq_push(&r->q, &r->c, 0);
	assert_true(virtq_wants_interrupt(&r->q));
	/* At the descriptor: place 6 of this lap, then place 0 of the next. */
	put_le16(r->ram + DRIVER + 2, 2);
	put_le16(r->ram + DRIVER, 6 | 1 << 15);
	offer(r, 0);
	check_chain(r, 0);
	virtq_push(&r->q, &r->c, 0); /* places 4, 5 */
	assert_false(virtq_wants_interrupt(&r->q));
	offer(r, 1);
	check_chain(r, 1);
	virtq_push(&r->q, &r->c, 0); /* 6, 7 */
	assert_true(virtq_wants_interrupt(&r->q));
	put_le16(r->ram + DRIVER, 0);
	offer(r, 0);
	check_chain(r, 0);
	virtq_push(&r->q, &r->c, 0); /* 0, 1 of the next lap */
	assert_true(virtq_wants_interrupt(&r->q));
	assert_false(virtq_notifications(&r->q, true));
	assert_int_equal(get_le16(r->ram + DEVICE), 2);
	assert_int_equal(get_le16(r->ram + DEVICE + 2), 2);
}

/* ---- hostile drivers: the queue breaks once, says why, and gives nothing more ---- */

static void
bad_head(struct rig *r)
{
	split_offer(r, SIZE);
}

static void
bad_index(struct rig *r)
{
	put_le16(r->ram + DRIVER + 2, SIZE + 1);
}

static void
bad_loop(struct rig *r)
{
	put_desc(r, DESC, DATA, 16, NEXT, 1);
	put_desc(r, DESC + 16, DATA, 16, NEXT, 0);
	split_offer(r, 0);
}

static void
bad_next(struct rig *r)
{
	put_desc(r, DESC, DATA, 16, NEXT, 1000);
	split_offer(r, 0);
}

static void
bad_one(struct rig *r, uint64_t gpa, uint32_t len, uint16_t flags)
{
	if (r->packed) {
		packed_put(r, gpa, len, flags, 0);
	} else {
		put_desc(r, DESC, gpa, len, flags, 0);
		split_offer(r, 0);
	}
}

static void
bad_outside(struct rig *r)
{
	bad_one(r, RAM, 1, WRITE);
}

static void
bad_over_end(struct rig *r)
{
	bad_one(r, RAM - 8, 16, 0);
}

static void
bad_wrap(struct rig *r)
{
	bad_one(r, UINT64_MAX - 8, 64, WRITE);
}

static void
bad_table_length(struct rig *r)
{
	bad_one(r, TABLE, 17, INDIRECT);
}

static void
bad_table_empty(struct rig *r)
{
	bad_one(r, TABLE, 0, INDIRECT);
}

static void
bad_table_outside(struct rig *r)
{
	bad_one(r, RAM, 32, INDIRECT);
}

static void
bad_table_in_table(struct rig *r)
{
	put_desc(r, TABLE, TABLE, 16, INDIRECT, 0);
	bad_one(r, TABLE, 16, INDIRECT);
}

static void
bad_table_and_next(struct rig *r)
{
	bad_one(r, TABLE, 16, INDIRECT | NEXT);
}

static void
bad_table_loop(struct rig *r)
{
	for (unsigned i = 0; i < 64; i++)
		put_desc(r, TABLE + 16 * i, DATA, 16, NEXT, 0);
	bad_one(r, TABLE, 16 * 64, INDIRECT);
}

static void
bad_order(struct rig *r)
{
	put_desc(r, TABLE, DATA, 16, WRITE | NEXT, 1);
	put_desc(r, TABLE + 16, DATA, 16, 0, 0);
	bad_one(r, TABLE, 32, INDIRECT);
}

static void
bad_endless(struct rig *r)
{
	for (unsigned i = 0; i < SIZE; i++)
		packed_put(r, DATA, 16, NEXT, 0);
}

static const struct {
	const char *name;
	void (*make)(struct rig *r);
	bool split, packed;
} bad[] = {
    {"head", bad_head, true, false},
    {"index", bad_index, true, false},
    {"loop", bad_loop, true, false},
    {"next", bad_next, true, false},
    {"endless", bad_endless, false, true},
    {"outside", bad_outside, true, true},
    {"over the end", bad_over_end, true, true},
    {"wrap", bad_wrap, true, true},
    {"table length", bad_table_length, true, true},
    {"empty table", bad_table_empty, true, true},
    {"table outside", bad_table_outside, true, true},
    {"table in table", bad_table_in_table, true, true},
    {"table and next", bad_table_and_next, true, true},
    {"table loop", bad_table_loop, true, true},
    {"order", bad_order, true, true},
};

static void
test_hostile(void **state)
{
	struct rig *r = *state;

	for (size_t i = 0; i < 2 * ARRAY_LEN(bad); i++) {
		bool packed = i % 2 == 1;

		if (packed ? !bad[i / 2].packed : !bad[i / 2].split)
			continue;
		rig_reset(r, packed, true);
		bad[i / 2].make(r);
		if (virtq_pop(&r->q, &r->c) || r->broken != 1 || r->why[0] == '\0')
			fail_msg("%s, packed %d: taken", bad[i / 2].name, packed);
		assert_false(virtq_available(&r->q));
		assert_false(virtq_pop(&r->q, &r->c));
		assert_false(virtq_wants_interrupt(&r->q));
		assert_false(virtq_notifications(&r->q, true));
		assert_int_equal(r->broken, 1);
	}
}

static void
test_indirect_not_agreed(void **state)
{
	struct rig *r = *state;

	r->q.indirect = false;
	put_desc(r, TABLE, DATA, 16, 0, 0);
	bad_one(r, TABLE, 16, INDIRECT);
	assert_false(virtq_pop(&r->q, &r->c));
	assert_int_equal(r->broken, 1);
}

static void
test_enable(void **state)
{
	struct rig *r = *state;
	const struct {
		uint64_t desc, driver, device;
		uint16_t size;
		bool packed, good;
	} row[] = {
	    {DESC, DRIVER, DEVICE, 8, false, true},	 {DESC, DRIVER, DEVICE, 4, false, true},
	    {DESC, DRIVER, DEVICE, 5, false, false},	 {DESC, DRIVER, DEVICE, 5, true, true},
	    {DESC, DRIVER, DEVICE, 0, false, false},	 {DESC, DRIVER, DEVICE, 16, false, false},
	    {DESC + 8, DRIVER, DEVICE, 8, false, false}, {DESC, DRIVER + 1, DEVICE, 8, false, false},
	    {DESC, DRIVER + 2, DEVICE, 8, false, true},	 {DESC, DRIVER + 2, DEVICE, 8, true, false},
	    {DESC, DRIVER, DEVICE + 2, 8, false, false}, {RAM - 16, DRIVER, DEVICE, 8, false, false},
	    {DESC, RAM, DEVICE, 8, false, false},	 {DESC, DRIVER, UINT64_MAX - 3, 8, false, false},
	};

	for (size_t i = 0; i < ARRAY_LEN(row); i++) {
		rig_reset(r, row[i].packed, false);
		r->q.st.enabled = 0;
		r->q.st.desc_gpa = row[i].desc;
		r->q.st.driver_gpa = row[i].driver;
		r->q.st.device_gpa = row[i].device;
		r->q.st.size = row[i].size;
		if (virtq_enable(&r->q) != row[i].good)
			fail_msg("row %zu", i);
	}
}

static void
test_state(void **state)
{
	struct rig *r = *state;
	struct err err = {0};
	size_t where;

	assert_true(field_table_complete(&virtq_field_table, &where));
	assert_int_equal(virtq_post_load(&r->q, &err), 0);
	r->q.st.size = 3;
	assert_int_not_equal(virtq_post_load(&r->q, &err), 0);
	r->q.st.size = SIZE;
	r->q.st.device_gpa = RAM;
	assert_int_not_equal(virtq_post_load(&r->q, &err), 0);
	rig_reset(r, true, false);
	r->q.st.avail = SIZE;
	assert_int_not_equal(virtq_post_load(&r->q, &err), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_laps, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_rewind_and_many, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_indirect, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_host_memory, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_split_events, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_packed_events, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_hostile, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_indirect_not_agreed, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_enable, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_state, setup, teardown),
	};

	return cmocka_run_group_tests_name("virtq", tests, NULL, NULL);
}
