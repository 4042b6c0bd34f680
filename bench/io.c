/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Disk and network rates from inside a guest, a line each on standard output: "io: NAME RATE". Static, no
 * libraries.
 *
 *   bench_io disk DEVICE        sequential (1 MiB) and random (4 KiB, one and 16 at a time), past the page
 * cache bench_io net ADDRESS PORT   a TCP stream out, and one in, from bench/run's server
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 1 << 20, PAGE = 4096, DEPTH = 16, STREAM_MIB = 256, SEQUENTIAL_MIB = 256 };
static const double random_seconds = 2;

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void
fail(const char *what)
{
	perror(what);
	exit(1);
}

static void *
aligned(size_t bytes)
{
	void *p = NULL;

	if (posix_memalign(&p, PAGE, bytes) != 0)
		fail("memory");
	memset(p, 0x5a, bytes);
	return p;
}

static void
sequential(int fd, uint64_t size, int write)
{
	uint8_t *buf = aligned(BLOCK);
	double start = now();

	for (unsigned i = 0; i < SEQUENTIAL_MIB; i++) {
		off_t off = (off_t)((uint64_t)i * BLOCK % size);
		ssize_t n = write ? pwrite(fd, buf, BLOCK, off) : pread(fd, buf, BLOCK, off);

		if (n != BLOCK)
			fail("sequential");
	}
	if (write && fdatasync(fd) != 0)
		fail("fdatasync");
	printf("io: sequential-%s %.1f\n", write ? "write" : "read", SEQUENTIAL_MIB / (now() - start));
	free(buf);
}

static uint64_t
random_offset(uint64_t size)
{
	static uint64_t x = 88172645463325252ull;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x % (size / PAGE) * PAGE;
}

static void
prepare(struct iocb *c, int fd, uint8_t *buf, uint64_t size, int write)
{
	*c = (struct iocb){
	    .aio_fildes = (uint32_t)fd,
	    .aio_lio_opcode = write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
	    .aio_buf = (uint64_t)(uintptr_t)buf,
	    .aio_nbytes = PAGE,
	    .aio_offset = (int64_t)random_offset(size),
	    .aio_data = (uint64_t)(uintptr_t)c,
	};
}

static void
random_io(int fd, uint64_t size, int write, unsigned depth)
{
	aio_context_t ctx = 0;
	struct iocb cb[DEPTH], *list[DEPTH];
	struct io_event ev[DEPTH];
	uint8_t *buf = aligned((size_t)DEPTH * PAGE);
	unsigned long done = 0;
	double start = now(), took;

	if (syscall(SYS_io_setup, DEPTH, &ctx) != 0)
		fail("io_setup");
	for (unsigned i = 0; i < depth; i++) {
		prepare(&cb[i], fd, buf + (size_t)i * PAGE, size, write);
		list[i] = &cb[i];
	}
	if (syscall(SYS_io_submit, ctx, depth, list) != (long)depth)
		fail("io_submit");
	while ((took = now() - start) < random_seconds) {
		long n = syscall(SYS_io_getevents, ctx, 1, depth, ev, NULL);

		for (long i = 0; i < n; i++) {
			struct iocb *c = (struct iocb *)(uintptr_t)ev[i].data;

			if (ev[i].res != PAGE)
				fail("random");
			prepare(c, fd, (uint8_t *)(uintptr_t)c->aio_buf, size, write);
			list[i] = c;
		}
		if (n < 0 || syscall(SYS_io_submit, ctx, n, list) != n)
			fail("io_submit");
		done += (unsigned long)n;
	}
	syscall(SYS_io_destroy, ctx);
	printf("io: random-%s-%u %.0f\n", write ? "write" : "read", depth, (double)done / took);
	free(buf);
}

static int
disk(const char *path)
{
	int fd = open(path, O_RDWR | O_DIRECT);
	off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;

	if (size < BLOCK)
		fail(path);
	for (int write = 1; write >= 0; write--)
		sequential(fd, (uint64_t)size, write);
	for (unsigned depth = 1; depth <= DEPTH; depth += DEPTH - 1) {
		random_io(fd, (uint64_t)size, 0, depth);
		random_io(fd, (uint64_t)size, 1, depth);
	}
	return 0;
}

/* The server says with a byte that all has come. */
static double
stream(const struct sockaddr_in *to, int out)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	uint64_t left = (uint64_t)STREAM_MIB << 20;
	uint8_t *buf = aligned(BLOCK);
	char way = out ? 'o' : 'i', ack;
	double start;

	if (fd < 0 || connect(fd, (const struct sockaddr *)to, sizeof(*to)) != 0 || write(fd, &way, 1) != 1)
		fail("connect");
	start = now();
	while (left > 0) {
		size_t part = left < BLOCK ? (size_t)left : BLOCK;
		ssize_t n = out ? write(fd, buf, part) : read(fd, buf, part);

		if (n <= 0)
			fail("stream");
		left -= (uint64_t)n;
	}
	if (out && read(fd, &ack, 1) != 1)
		fail("ack");
	close(fd);
	free(buf);
	return STREAM_MIB / (now() - start);
}

static int
net(const char *address, const char *port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};

	if (inet_pton(AF_INET, address, &to.sin_addr) != 1)
		fail(address);
	printf("io: net-out %.1f\n", stream(&to, 1));
	printf("io: net-in %.1f\n", stream(&to, 0));
	return 0;
}

int
main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 3 && strcmp(argv[1], "disk") == 0)
		return disk(argv[2]);
	if (argc == 4 && strcmp(argv[1], "net") == 0)
		return net(argv[2], argv[3]);
	fprintf(stderr, "usage: bench_io disk DEVICE | net ADDRESS PORT\n");
	return 1;
}
