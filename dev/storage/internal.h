/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of a disk image share. */
#ifndef LHYVE_DEV_STORAGE_INTERNAL_H
#define LHYVE_DEV_STORAGE_INTERNAL_H

#include "dev/storage/block.h"

struct block_pool;
struct block_uring;

/* One blocking request, whole, on the calling thread: 0 or -errno. */
int block_perform(int fd, bool is_device, struct block_req *r);
/* `n` more bytes went: move iov and `at` on. True: all are through. */
bool block_advance(struct block_req *r, size_t n);

/* Threads that take requests; each one that is through rings `bell`. */
LH_MUST_CHECK struct block_pool *block_pool_create(int fd, bool is_device, int bell, struct err *err);
void block_pool_destroy(struct block_pool *p);
void block_pool_submit(struct block_pool *p, struct block_req *r);
struct block_req *block_pool_reap(struct block_pool *p); /* a list, or NULL */

/* io_uring for read, write and flush. create: NULL where the host has none. */
struct block_uring *block_uring_create(int fd, int bell);
void block_uring_destroy(struct block_uring *u);
/* false: the ring is full; reap first. */
bool block_uring_submit(struct block_uring *u, struct block_req *r);
void block_uring_kick(struct block_uring *u);
/* Whether completions ring the bell. Off, whoever turned it off looks for them, also after turning it on. */
void block_uring_bell(struct block_uring *u, bool on);
struct block_req *block_uring_reap(struct block_uring *u); /* a list, or NULL */

#endif
