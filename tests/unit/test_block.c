/* SPDX-License-Identifier: BSD-2-Clause */
/* Disk images: opening and locking, both ways of asking the host, its errors, odd buffers with O_DIRECT. */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/evloop.h"
#include "base/util.h"
#include "dev/storage/block.h"

enum { BYTES = 1 << 20, MANY = 600 };

struct rig {
	struct evloop *loop;
	char path[32];
	struct block *b;
};

struct request {
	struct block_req r;
	struct iovec iov[3];
	int error, done;
};

static void
on_done(struct block_req *r, int error)
{
	struct request *q = container_of(r, struct request, r);

	q->error = error;
	q->done++;
}

static int
setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	int fd;

	strcpy(r->path, "/tmp/lhyve-blk-XXXXXX");
	fd = mkstemp(r->path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, BYTES), 0);
	close(fd);
	r->loop = evloop_create(NULL);
	*state = r;
	return 0;
}

static int
teardown(void **state)
{
	struct rig *r = *state;

	if (r->b != NULL) {
		block_stop(r->b);
		block_destroy(r->b);
	}
	unlink(r->path);
	evloop_destroy(r->loop);
	free(r);
	return 0;
}

static void
open_it(struct rig *r, struct block_cfg c)
{
	struct err err = {0};

	c.where = "disk";
	c.path = r->path;
	r->b = block_create(&c, r->loop, &err);
	if (r->b == NULL)
		fail_msg("%s", err.msg);
	assert_int_equal(block_start(r->b, &err), 0);
}

static void
close_it(struct rig *r)
{
	block_stop(r->b);
	block_destroy(r->b);
	r->b = NULL;
}

/* Send, and wait by stopping: all that is in flight ends first. */
static void
finish(struct rig *r)
{
	block_kick(r->b);
	block_stop(r->b);
	assert_int_equal(block_start(r->b, NULL), 0);
	assert_int_equal(block_in_flight(r->b), 0);
}

static int
rw(struct rig *r, enum block_op op, uint64_t off, void *buf, size_t len)
{
	struct request q = {.r = {.op = op, .off = off, .len = len, .done = on_done}};

	/* In pieces, as a guest's buffers are. */
	q.iov[0] = (struct iovec){buf, len / 4};
	q.iov[1] = (struct iovec){(char *)buf + len / 4, len / 4};
	q.iov[2] = (struct iovec){(char *)buf + 2 * (len / 4), len - 2 * (len / 4)};
	q.r.iov = q.iov;
	q.r.iovs = 3;
	block_submit(r->b, &q.r);
	finish(r);
	assert_int_equal(q.done, 1);
	return q.error;
}

static int
plain(struct rig *r, enum block_op op, uint64_t off, uint64_t len, bool unmap)
{
	struct request q = {.r = {.op = op, .off = off, .len = len, .unmap = unmap, .done = on_done}};

	block_submit(r->b, &q.r);
	finish(r);
	assert_int_equal(q.done, 1);
	return q.error;
}

static bool
all_are(const uint8_t *p, size_t n, uint8_t v)
{
	while (n > 0 && *p == v)
		p++, n--;
	return n == 0;
}

static void
check_data(struct rig *r)
{
	static _Alignas(4096) uint8_t out[65536 + 8], in[65536 + 8];

	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)(i * 7 + 1);
	assert_int_equal(rw(r, BLOCK_WRITE, 4096, out + 4, 65536), 0); /* at no alignment */
	assert_int_equal(rw(r, BLOCK_READ, 4096, in + 4, 65536), 0);
	assert_memory_equal(in + 4, out + 4, 65536);
	assert_int_equal(plain(r, BLOCK_FLUSH, 0, 0, false), 0);
	assert_int_equal(plain(r, BLOCK_ZERO, 4096, 4096, false), 0);
	assert_int_equal(plain(r, BLOCK_ZERO, 8192, 512, true), 0);
	assert_int_equal(plain(r, BLOCK_DISCARD, 16384, 4096, false), 0);
	assert_int_equal(rw(r, BLOCK_READ, 4096, in, 65536), 0);
	assert_true(all_are(in, 4096 + 512, 0));
	assert_memory_equal(in + 4608, out + 4 + 4608, 12288 - 4608);
	assert_true(all_are(in + 12288, 4096, 0));
	assert_memory_equal(in + 16384, out + 4 + 16384, 65536 - 16384);
}

static void
test_data(void **state)
{
	struct rig *r = *state;
	static const enum block_aio aio[] = {BLOCK_AIO_AUTO, BLOCK_AIO_THREADS};

	for (unsigned i = 0; i < 2 * ARRAY_LEN(aio); i++) {
		open_it(r, (struct block_cfg){.aio = aio[i / 2], .sync = i % 2 == 1});
		check_data(r);
		close_it(r);
	}
}

static void
test_direct(void **state)
{
	struct rig *r = *state;
	int fd = open(r->path, O_RDWR | O_DIRECT);

	if (fd < 0)
		skip(); /* a file system without */
	close(fd);
	open_it(r, (struct block_cfg){.nocache = true});
	check_data(r);
	close_it(r);
	open_it(r, (struct block_cfg){.nocache = true, .aio = BLOCK_AIO_THREADS});
	check_data(r);
}

/* More at once than any ring holds. */
static void
test_many(void **state)
{
	struct rig *r = *state;
	static struct request q[MANY];
	static uint8_t bytes[MANY][512];

	open_it(r, (struct block_cfg){0});
	for (unsigned pass = 0; pass < 2; pass++) {
		for (unsigned i = 0; i < MANY; i++) {
			q[i] = (struct request){.r = {.op = pass == 0 ? BLOCK_WRITE : BLOCK_READ,
						      .off = 512u * i,
						      .len = 512,
						      .iov = q[i].iov,
						      .iovs = 1,
						      .done = on_done}};
			if (pass == 0)
				memset(bytes[i], (int)(i % 251), 512);
			else
				memset(bytes[i], 0xff, 512);
			q[i].iov[0] = (struct iovec){bytes[i], 512};
			block_submit(r->b, &q[i].r);
		}
		finish(r);
		for (unsigned i = 0; i < MANY; i++) {
			assert_int_equal(q[i].done, 1);
			assert_int_equal(q[i].error, 0);
			assert_true(all_are(bytes[i], 512, (uint8_t)(i % 251)));
		}
	}
}

static void
test_lock(void **state)
{
	struct rig *r = *state;
	struct block_cfg c = {.where = "other", .path = r->path};
	struct err err = {0};
	struct block *second;

	open_it(r, (struct block_cfg){0});
	assert_null(block_create(&c, r->loop, &err));
	assert_int_equal(err.code, EBUSY);
	c.ro = true;
	assert_null(block_create(&c, r->loop, &err));
	close_it(r);
	open_it(r, (struct block_cfg){.ro = true});
	second = block_create(&c, r->loop, &err); /* readers share */
	assert_non_null(second);
	block_destroy(second);
	c.ro = false;
	assert_null(block_create(&c, r->loop, &err));
}

static void
test_cut_image(void **state)
{
	struct rig *r = *state;
	uint8_t buf[4096];

	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(truncate(r->path, BYTES), 0);
		open_it(r, (struct block_cfg){.aio = i == 0 ? BLOCK_AIO_AUTO : BLOCK_AIO_THREADS});
		assert_int_equal(truncate(r->path, 6144), 0);
		assert_int_equal(rw(r, BLOCK_READ, 0, buf, 4096), 0);
		assert_int_equal(rw(r, BLOCK_READ, 4096, buf, 4096), -EIO); /* half of it is there */
		assert_int_equal(rw(r, BLOCK_READ, 65536, buf, 4096), -EIO);
		close_it(r);
	}
}

/* What the host has no room for: an error, and writes where there is room go on. */
static void
test_limit(void **state)
{
	struct rig *r = *state;
	const struct rlimit low = {65536, RLIM_INFINITY};
	struct rlimit old;
	uint8_t buf[4096] = {0};

	open_it(r, (struct block_cfg){.aio = BLOCK_AIO_THREADS});
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	assert_int_equal(rw(r, BLOCK_WRITE, 131072, buf, 4096), -EFBIG);
	assert_int_equal(rw(r, BLOCK_WRITE, 4096, buf, 4096), 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(rw(r, BLOCK_WRITE, 131072, buf, 4096), 0);
}

static void
test_geometry(void **state)
{
	struct rig *r = *state;
	struct block_cfg c = {.where = "disk", .path = r->path, .logical = 4096};
	struct err err = {0};

	open_it(r, (struct block_cfg){.logical = 4096, .physical = 8192});
	assert_int_equal(block_size(r->b), BYTES);
	assert_int_equal(block_logical(r->b), 4096);
	assert_int_equal(block_physical(r->b), 8192);
	assert_false(block_ro(r->b));
	close_it(r);
	assert_int_equal(truncate(r->path, BYTES + 512), 0);
	assert_null(block_create(&c, r->loop, &err));
	assert_int_equal(err.code, EINVAL);
}

/* A block device over r->path, "/dev/loopN" in name; the device of the control node that made it, or -1. */
static int
loop_device(struct rig *r, char *name, size_t room)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), file, fd, n;
	struct loop_config c = {.block_size = 512};

	n = control >= 0 ? ioctl(control, LOOP_CTL_GET_FREE) : -1;
	if (control >= 0)
		close(control);
	if (n < 0)
		return -1;
	snprintf(name, room, "/dev/loop%d", n);
	fd = open(name, O_RDWR | O_CLOEXEC);
	file = open(r->path, O_RDWR | O_CLOEXEC);
	assert_true(file >= 0);
	c.fd = (unsigned)file;
	if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &c) != 0) {
		close(fd);
		fd = -1;
	}
	close(file);
	return fd;
}

/* The host's block devices are images as files are: size, sectors, all requests, what was written is on the
 * medium. */
static void
test_block_device(void **state)
{
	struct rig *r = *state;
	char file[sizeof(r->path)], name[32];
	uint8_t buf[8192], medium[8192];
	int fd = loop_device(r, name, sizeof(name)), back;

	if (fd < 0) {
		print_message("no loop device can be had here (%s)\n", strerror(errno));
		skip();
	}
	strcpy(file, r->path);
	strcpy(r->path, name);
	for (unsigned nocache = 0; nocache < 2; nocache++) {
		open_it(r, (struct block_cfg){.nocache = nocache});
		assert_int_equal(block_size(r->b), BYTES);
		assert_int_equal(block_logical(r->b), 512);
		memset(buf, 0x5a + (int)nocache, sizeof(buf));
		assert_int_equal(rw(r, BLOCK_WRITE, 4096, buf, sizeof(buf)), 0);
		assert_int_equal(plain(r, BLOCK_FLUSH, 0, 0, false), 0);
		back = open(file, O_RDONLY | O_CLOEXEC);
		assert_int_equal(pread(back, medium, sizeof(medium), 4096), sizeof(medium));
		close(back);
		assert_true(all_are(medium, sizeof(medium), 0x5a + nocache));
		for (unsigned unmap = 0; unmap < 2; unmap++) {
			assert_int_equal(rw(r, BLOCK_WRITE, 65536, buf, sizeof(buf)), 0);
			assert_int_equal(plain(r, BLOCK_ZERO, 65536, 4096, unmap), 0);
			assert_int_equal(rw(r, BLOCK_READ, 65536, buf, sizeof(buf)), 0);
			assert_true(all_are(buf, 4096, 0));
			assert_true(all_are(buf + 4096, 4096, 0x5a + nocache));
			memset(buf, 0x5a + (int)nocache, sizeof(buf));
		}
		assert_int_equal(plain(r, BLOCK_DISCARD, 131072, 65536, false), 0);
		close_it(r);
	}
	open_it(r, (struct block_cfg){.ro = true});
	assert_true(block_ro(r->b));
	close_it(r);
	ioctl(fd, LOOP_CLR_FD);
	close(fd);
	strcpy(r->path, file);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_data, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_direct, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_many, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_lock, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_cut_image, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_limit, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_geometry, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_block_device, setup, teardown),
	};

	return cmocka_run_group_tests_name("block", tests, NULL, NULL);
}
