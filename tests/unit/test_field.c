/* SPDX-License-Identifier: BSD-2-Clause */
/* Field tables: coverage, save and load of every kind, defaults, hostile bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <errno.h>

#include "base/util.h"
#include "state/field.h"

struct st {
	uint64_t u64;
	int64_t i64;
	uint32_t u32[3];
	uint16_t u16;
	uint8_t u8;
	bool flag;
	uint8_t bytes[7];
	uint8_t derived;
};

static const struct field fields[] = {
    FIELD(1, struct st, u64, FIELD_U64),
    FIELD(2, struct st, i64, FIELD_I64),
    FIELD_ARRAY(3, struct st, u32, FIELD_U32, 3),
    FIELD(4, struct st, u16, FIELD_U16),
    {.tag = 5,
     .name = "u8",
     .kind = FIELD_U8,
     .offset = offsetof(struct st, u8),
     .count = 1,
     .default_value = 0x5a},
    FIELD(6, struct st, flag, FIELD_BOOL),
    FIELD_ARRAY(7, struct st, bytes, FIELD_BYTES, 7),
    FIELD_TRANSIENT(struct st, derived, 1),
};

static const struct field_table table = {"thing", 1, sizeof(struct st), ARRAY_LEN(fields), fields};

static const struct st sample = {
    .u64 = 0x1122334455667788,
    .i64 = -5,
    .u32 = {1, 2, 0xffffffff},
    .u16 = 0xbeef,
    .u8 = 9,
    .flag = true,
    .bytes = "sevens",
    .derived = 77,
};

static size_t
save_sample(uint8_t *buf)
{
	return field_save(&table, &sample, buf);
}

static void
test_complete(void **state)
{
	struct field copy[ARRAY_LEN(fields)];
	struct field_table t = table;
	size_t where = 99;

	(void)state;
	assert_true(field_table_complete(&table, &where));
	t.fields = copy;
	memcpy(copy, fields, sizeof(fields));
	t.count--; /* the last row is gone */
	assert_false(field_table_complete(&t, &where));
	assert_int_equal(where, offsetof(struct st, derived));
	t.count++;
	copy[6].count = 8; /* overlaps */
	assert_false(field_table_complete(&t, &where));
	assert_int_equal(where, offsetof(struct st, derived));
	memcpy(copy, fields, sizeof(fields));
	copy[7].count = 1000; /* past the end */
	assert_false(field_table_complete(&t, &where));
	memcpy(copy, fields, sizeof(fields));
	copy[1].tag = 1; /* twice */
	assert_false(field_table_complete(&t, &where));
	memcpy(copy, fields, sizeof(fields));
	copy[1].tag = 0;
	assert_false(field_table_complete(&t, &where));
}

static void
test_round_trip(void **state)
{
	uint8_t buf[256], again[256];
	struct st st = {.derived = 3};
	size_t n = save_sample(buf);
	struct err err = {0};

	(void)state;
	assert_int_equal(n, field_save_size(&table));
	assert_int_equal(n, 7 * 8 + 8 + 8 + 12 + 2 + 1 + 1 + 7);
	assert_int_equal(field_load(&table, &st, buf, n, &err), 0);
	assert_null(field_compare(&table, &st, &sample));
	assert_int_equal(st.derived, 3); /* transient bytes are not touched */
	assert_int_equal(field_save(&table, &st, again), n);
	assert_memory_equal(buf, again, n);
	st.u32[2] = 0;
	assert_string_equal(field_compare(&table, &st, &sample), "u32");
	/* The form on disk: tag, kind, flags, count, little-endian value. */
	assert_memory_equal(buf, "\x01\x00\x03\x01\x01\x00\x00\x00\x88\x77\x66\x55\x44\x33\x22\x11", 16);
}

static void
test_missing(void **state)
{
	uint8_t buf[256];
	size_t n = save_sample(buf), u8_at = 16 + 16 + 20 + 10;
	struct st st = sample;
	struct err err = {0};

	(void)state;
	assert_int_equal(buf[u8_at], 5);
	memmove(buf + u8_at, buf + u8_at + 9, n - u8_at - 9);
	assert_int_equal(field_load(&table, &st, buf, n - 9, &err), 0);
	assert_int_equal(st.u8, 0x5a); /* the default of an optional one */
	assert_int_not_equal(field_load(&table, &st, buf + 16, n - 9 - 16, &err), 0);
	assert_non_null(strstr(err.msg, "thing.u64: missing"));
	assert_int_not_equal(field_load(&table, &st, buf, 0, &err), 0);
}

static void
test_unknown(void **state)
{
	uint8_t buf[256];
	size_t n = save_sample(buf);
	struct st st = {0};
	struct err err = {0};

	(void)state;
	put_le16(buf + n, 900);
	buf[n + 2] = FIELD_U16;
	buf[n + 3] = 0;
	put_le32(buf + n + 4, 2);
	memset(buf + n + 8, 0xee, 4);
	assert_int_equal(field_load(&table, &st, buf, n + 12, &err), 0); /* optional: skipped */
	assert_null(field_compare(&table, &st, &sample));
	buf[n + 3] = 1;
	assert_int_equal(field_load(&table, &st, buf, n + 12, &err), -ENOTSUP); /* required: refused */
	buf[n + 3] = 2;
	assert_int_not_equal(field_load(&table, &st, buf, n + 12, &err), 0);
	buf[n + 3] = 0;
	buf[n + 2] = 99;
	assert_int_not_equal(field_load(&table, &st, buf, n + 12, &err), 0);
}

static void
test_wrong_form(void **state)
{
	uint8_t buf[256];
	size_t n = save_sample(buf), flag_at = 16 + 16 + 20 + 10 + 9;
	struct st st = {.u64 = 42}, before = st;
	struct err err = {0};

	(void)state;
	buf[2] = FIELD_I64; /* another kind */
	assert_int_not_equal(field_load(&table, &st, buf, n, &err), 0);
	n = save_sample(buf);
	put_le32(buf + 4, 2); /* another count */
	assert_int_not_equal(field_load(&table, &st, buf, n, &err), 0);
	n = save_sample(buf);
	put_le32(buf + 4, 0xffffffff); /* beyond the end, and past 4 GiB */
	assert_int_not_equal(field_load(&table, &st, buf, n, &err), 0);
	n = save_sample(buf);
	assert_int_equal(buf[flag_at], 6);
	buf[flag_at + 8] = 2; /* no truth value */
	assert_int_not_equal(field_load(&table, &st, buf, n, &err), 0);
	n = save_sample(buf);
	memcpy(buf + n, buf, 16); /* twice */
	assert_int_not_equal(field_load(&table, &st, buf, n + 16, &err), 0);
	assert_non_null(strstr(err.msg, "twice"));
	assert_memory_equal(&st, &before, sizeof(st));
}

static void
test_truncated_and_flipped(void **state)
{
	uint8_t buf[256], bad[256];
	size_t n = save_sample(buf);
	struct st before = {.u64 = 42};
	unsigned refused = 0;

	(void)state;
	for (size_t cut = 0; cut < n; cut++) {
		struct st st = before;
		uint8_t *exact = malloc(cut + 1); /* so that ASan sees a read past the end */

		memcpy(exact, buf, cut);
		assert_int_not_equal(field_load(&table, &st, exact, cut, NULL), 0);
		assert_memory_equal(&st, &before, sizeof(st));
		free(exact);
	}
	for (size_t bit = 0; bit < n * 8; bit++) {
		struct st st = before;

		memcpy(bad, buf, n);
		bad[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (field_load(&table, &st, bad, n, NULL) != 0) {
			assert_memory_equal(&st, &before, sizeof(st));
			refused++;
		} else {
			assert_true(st.flag == true || st.flag == false);
		}
	}
	assert_true(refused > 7 * 8);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_complete),   cmocka_unit_test(test_round_trip),
	    cmocka_unit_test(test_missing),    cmocka_unit_test(test_unknown),
	    cmocka_unit_test(test_wrong_form), cmocka_unit_test(test_truncated_and_flipped),
	};

	return cmocka_run_group_tests_name("field", tests, NULL, NULL);
}
