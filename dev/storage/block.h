/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A disk image on the host: a regular file or a block device, read and written asynchronously, by io_uring
 * where the host has it, else by a few threads. Discard, write-zeroes and, without io_uring, everything, runs
 * on those threads.
 *
 * An image is locked (open file description lock, fcntl(2)) for as long as it is open: by readers
 * together or one writer alone. The lock dies with the process.
 *
 * Threads: create and destroy from one thread. start, stop, submit, kick on the loop's thread, or while the
 * loop does not run; callbacks come there. No locks that a user must know of.
 */
#ifndef LHYVE_DEV_STORAGE_BLOCK_H
#define LHYVE_DEV_STORAGE_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include "base/err.h"

struct block;
struct evloop;

enum block_aio { BLOCK_AIO_AUTO, BLOCK_AIO_URING, BLOCK_AIO_THREADS };

struct block_cfg {
	const char *where; /* opens messages: "pci.0.3.0.path" */
	const char *path;
	bool ro;
	bool nocache;		    /* O_DIRECT */
	bool sync;		    /* O_DSYNC: each write is durable */
	unsigned logical, physical; /* sector sizes; 0: the device's own, a file's 512 and 4096 */
	enum block_aio aio;
};

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_ZERO };

struct block_req {
	enum block_op op;
	uint64_t off, len; /* bytes; within block_size() */
	struct iovec *iov; /* read, write: `len` bytes in all; changed under way; the caller's until done */
	int iovs;
	bool durable; /* write: as with a flush behind it */
	bool unmap;   /* zero: the room may be given back */
	/* Loop thread, from block_poll(). error: 0 or -errno. */
	void (*done)(struct block_req *r, int error);
	/* The block's own. */
	struct block_req *next;
	uint64_t at;
	void *bounce;
	struct iovec bounce_iov;
	int error;
};

LH_MUST_CHECK struct block *block_create(const struct block_cfg *cfg, struct evloop *loop, struct err *err);
void block_destroy(struct block *b); /* nothing in flight */
/* After each batch of `done` calls. */
void block_set_batch_end(struct block *b, void (*fn)(void *ctx), void *ctx);

LH_MUST_CHECK int block_start(struct block *b, struct err *err);
/* Waits for what is in flight; its `done` calls come first. */
void block_stop(struct block *b);

/* Queue a request; block_kick() sends what is queued, and calls `done` of what the host answers at once (a
 * page cache does), as an event on the loop would. */
void block_submit(struct block *b, struct block_req *r);
void block_kick(struct block *b);
unsigned block_in_flight(const struct block *b);

uint64_t block_size(const struct block *b); /* bytes, a multiple of the logical sector */
bool block_ro(const struct block *b);	    /* asked for, or all that the medium allows */
unsigned block_logical(const struct block *b);
unsigned block_physical(const struct block *b);
bool block_can_discard(const struct block *b);
const char *block_path(const struct block *b);
const char *block_aio_name(const struct block *b); /* "io_uring", "threads" */

#endif
