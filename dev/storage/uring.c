/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Read, write and flush by io_uring(7). One thread uses the ring (the loop's); completions ring the bell. A
 * transfer that was cut short is sent again for its rest.
 */
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>

#include "base/util.h"
#include "dev/storage/internal.h"

enum { ENTRIES = 256 };

struct block_uring {
	struct io_uring ring;
	int fd;
	unsigned in_flight, unsent;
};

struct block_uring *
block_uring_create(int fd, int bell)
{
	struct block_uring *u = calloc(1, sizeof(*u));

	if (u == NULL)
		return NULL;
	u->fd = fd;
	/* Denied by a sandbox, switched off (kernel.io_uring_disabled), or an old kernel. */
	if (io_uring_queue_init(ENTRIES, &u->ring, 0) != 0) {
		free(u);
		return NULL;
	}
	if (io_uring_register_eventfd(&u->ring, bell) != 0) {
		block_uring_destroy(u);
		return NULL;
	}
	return u;
}

void
block_uring_destroy(struct block_uring *u)
{
	if (u == NULL)
		return;
	LH_ASSERT(u->in_flight == 0);
	io_uring_queue_exit(&u->ring);
	free(u);
}

static void
prepare(struct block_uring *u, struct io_uring_sqe *sqe, struct block_req *r)
{
	uint64_t off = r->off + r->at;

	switch (r->op) {
	case BLOCK_READ:
		io_uring_prep_readv(sqe, u->fd, r->iov, (unsigned)r->iovs, off);
		break;
	case BLOCK_WRITE:
		io_uring_prep_writev(sqe, u->fd, r->iov, (unsigned)r->iovs, off);
		sqe->rw_flags = r->durable ? RWF_DSYNC : 0;
		break;
	default:
		io_uring_prep_fsync(sqe, u->fd, IORING_FSYNC_DATASYNC);
		break;
	}
	io_uring_sqe_set_data(sqe, r);
}

/* As many in flight as the completion ring is sure to hold. */
bool
block_uring_submit(struct block_uring *u, struct block_req *r)
{
	struct io_uring_sqe *sqe = NULL;

	if (u->in_flight < ENTRIES)
		sqe = io_uring_get_sqe(&u->ring);
	if (sqe == NULL)
		return false;
	prepare(u, sqe, r);
	u->in_flight++;
	u->unsent++;
	return true;
}

void
block_uring_kick(struct block_uring *u)
{
	while (u->unsent > 0) {
		int n = io_uring_submit(&u->ring);

		if (n == -EINTR || n == -EAGAIN || n == -EBUSY)
			continue;
		LH_ASSERT(n >= 0);
		u->unsent -= MIN((unsigned)n, u->unsent);
	}
}

void
block_uring_bell(struct block_uring *u, bool on)
{
	(void)io_uring_cq_eventfd_toggle(&u->ring,
					 on); /* fails on kernels that ring always: one ring too many */
}

/* Whether the request is through; its error. */
static bool
is_through(struct block_req *r, int res)
{
	if (res == -EINTR || res == -EAGAIN)
		return false;
	r->error = res < 0 ? res : 0;
	if (res < 0 || r->op == BLOCK_FLUSH)
		return true;
	if (res == 0) {
		r->error = -EIO; /* the end of the image: it was cut since we opened it */
		return true;
	}
	return block_advance(r, (size_t)res);
}

struct block_req *
block_uring_reap(struct block_uring *u)
{
	struct block_req *list = NULL;
	struct io_uring_cqe *cqe;

	while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
		struct block_req *r = io_uring_cqe_get_data(cqe);
		int res = cqe->res;

		io_uring_cqe_seen(&u->ring, cqe);
		u->in_flight--;
		if (is_through(r, res)) {
			r->next = list;
			list = r;
		} else {
			bool sent = block_uring_submit(u, r);

			LH_ASSERT(sent); /* its place was just given back */
			block_uring_kick(u);
		}
	}
	return list;
}
