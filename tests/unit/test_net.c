/* SPDX-License-Identifier: BSD-2-Clause */
/* Frames: checksums left undone, flows, filters; forwarded ports as they are written. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/util.h"
#include "dev/net/net.h"
#include "dev/net/receive.h"

/* RFC 1071, as it is written there. */
static uint16_t
slow_sum(const uint8_t *p, size_t len)
{
	uint32_t sum = 0;

	for (size_t i = 0; i + 1 < len; i += 2)
		sum += (uint32_t)(p[i] << 8 | p[i + 1]);
	if (len % 2 == 1)
		sum += (uint32_t)(p[len - 1] << 8);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void
test_checksum(void **state)
{
	uint8_t frame[1600], hdr[NET_HDR_BYTES] = {1};
	uint64_t seed = 7;

	(void)state;
	for (unsigned i = 0; i < 4000; i++) {
		size_t len = 60 + i % 1500, start = 14 + i % 30, field = i % 18 & ~1u;
		uint16_t want;

		for (size_t k = 0; k < len; k++) {
			seed = seed * 6364136223846793005ull + 1442695040888963407ull;
			frame[k] = i % 3 == 0 ? 0xff : (uint8_t)(seed >> 33);
		}
		want = slow_sum(frame + start, len - start);
		put_le16(hdr + 6, (uint16_t)start);
		put_le16(hdr + 8, (uint16_t)field);
		assert_true(net_finish_checksum(hdr, frame, len));
		assert_int_equal(frame[start + field] << 8 | frame[start + field + 1],
				 want != 0 ? want : 0xffff);
	}
	put_le16(hdr + 6, 59);
	put_le16(hdr + 8, 0);
	assert_false(net_finish_checksum(hdr, frame, 60));
	put_le16(hdr + 6, 20);
	put_le16(hdr + 8, 0xffff);
	assert_false(net_finish_checksum(hdr, frame, 60));
	hdr[0] = 0; /* nothing to do */
	assert_true(net_finish_checksum(hdr, frame, 60));
}

static void
test_flows(void **state)
{
	uint8_t a[74] = {[12] = 0x08, [14] = 0x45, [23] = 6, [26] = 10, 0,    2, 15, 10,
			 0,	      2,	   2,	     0x12,	0x34, 0, 80};
	uint8_t b[74];
	uint32_t h = net_flow_hash(a, sizeof(a));

	(void)state;
	memcpy(b, a, sizeof(b));
	memcpy(b + 26, a + 30, 4);
	memcpy(b + 30, a + 26, 4);
	memcpy(b + 34, a + 36, 2);
	memcpy(b + 36, a + 34, 2);
	assert_int_not_equal(h, 0);
	assert_int_equal(net_flow_hash(b, sizeof(b)), h); /* the way back */
	b[35]++;
	assert_int_not_equal(net_flow_hash(b, sizeof(b)), h);
	assert_int_equal(net_flow_hash(a, 40), 0);
	a[14] = 0x4f; /* a header that reaches past the frame's ports */
	assert_int_equal(net_flow_hash(a, 74), 0);
	a[13] = 6;
	assert_int_equal(net_flow_hash(a, sizeof(a)), 0);
}

static void
test_hostfwd(void **state)
{
	static const char *const bad[] = {
	    "",
	    "tcp",
	    "tcp:22",
	    "tcp:1-2",
	    "tcp::1-",
	    "tcp::-:1",
	    "tcp::0-:1",
	    "tcp::1-:65536",
	    "tcp:::1-:1",
	    "tcp:1.2.3:1-:1",
	    "tcp::1-:1x",
	    "icmp::1-:1",
	    "tcp::99999999999999999999-:1",
	    "tcp:1.2.3.4.5.6.7.8.9:1-:1",
	};
	struct net_hostfwd f;

	(void)state;
	assert_true(net_parse_hostfwd("tcp:127.0.0.1:2222-:22", &f));
	assert_false(f.udp);
	assert_int_equal(ntohl(f.host_addr), 0x7f000001);
	assert_int_equal(f.host_port, 2222);
	assert_int_equal(f.guest_addr, 0);
	assert_int_equal(f.guest_port, 22);
	assert_true(net_parse_hostfwd("udp::53-10.0.2.9:54", &f));
	assert_true(f.udp);
	assert_int_equal(f.host_addr, 0);
	assert_int_equal(ntohl(f.guest_addr), 0x0a000209);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (net_parse_hostfwd(bad[i], &f))
			fail_msg("'%s' is taken", bad[i]);
	}
}

static void
test_filter(void **state)
{
	static const uint8_t own[6] = {2, 0, 0, 0, 0, 1}, other[6] = {2, 0, 0, 0, 0, 2},
			     group[6] = {1, 0, 0x5e, 0, 0, 1};
	uint8_t frame[60] = {0};
	struct net_filter f = {0};

	(void)state;
	memcpy(frame, own, 6);
	assert_true(net_filter_takes(&f, own, frame, 60));
	assert_false(net_filter_takes(&f, own, frame, 13));
	memset(frame, 0xff, 6);
	assert_true(net_filter_takes(&f, own, frame, 60));
	memcpy(frame, other, 6);
	assert_false(net_filter_takes(&f, own, frame, 60));
	net_filter_add(&f, other);
	assert_true(net_filter_takes(&f, own, frame, 60));
	memcpy(frame, group, 6);
	assert_false(net_filter_takes(&f, own, frame, 60));
	f.allmulti = 1;
	assert_true(net_filter_takes(&f, own, frame, 60));
	net_filter_clear(&f);
	memcpy(frame, other, 6);
	assert_false(net_filter_takes(&f, own, frame, 60));
	for (unsigned i = 0; i < NET_FILTER_MACS + 1; i++)
		net_filter_add(&f, group);
	assert_true(net_filter_takes(&f, own, frame, 60)); /* more than fit: all */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_checksum),
	    cmocka_unit_test(test_flows),
	    cmocka_unit_test(test_hostfwd),
	    cmocka_unit_test(test_filter),
	};

	return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}
