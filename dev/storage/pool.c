/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Blocking requests on threads of their own, and what a request is in system calls. One lock guards both
 * lists; nothing is taken under it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/util.h"
#include "dev/storage/internal.h"

enum { THREADS = 4, ZERO_CHUNK = 1 << 20 };

struct block_pool {
	int fd, bell;
	bool is_device, stop;
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct block_req *todo, **todo_end, *done;
	unsigned threads;
	pthread_t thread[THREADS];
};

/* ---- requests ---- */

bool
block_advance(struct block_req *r, size_t n)
{
	r->at += n;
	while (n > 0 && r->iovs > 0) {
		size_t part = MIN(n, r->iov->iov_len);

		r->iov->iov_base = (char *)r->iov->iov_base + part;
		r->iov->iov_len -= part;
		n -= part;
		if (r->iov->iov_len == 0) {
			r->iov++;
			r->iovs--;
		}
	}
	return r->at >= r->len;
}

/* A read that comes to the end of the image: it was cut since we opened it. */
static int
perform_rw(int fd, struct block_req *r)
{
	for (;;) {
		off_t off = (off_t)(r->off + r->at);
		ssize_t n = r->op == BLOCK_READ
				? preadv(fd, r->iov, r->iovs, off)
				: pwritev2(fd, r->iov, r->iovs, off, r->durable ? RWF_DSYNC : 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		if (block_advance(r, (size_t)n))
			return 0;
	}
}

static int
write_zeroes(int fd, uint64_t off, uint64_t len)
{
	static const _Alignas(4096) uint8_t zeroes[ZERO_CHUNK]; /* as O_DIRECT wants it */

	while (len > 0) {
		ssize_t n = pwrite(fd, zeroes, MIN(len, (uint64_t)ZERO_CHUNK), (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

static int
perform_zero(int fd, bool is_device, const struct block_req *r)
{
	int mode = r->unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;

	(void)is_device; /* fallocate(2) does both on block devices, too */
	if (fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)r->off, (off_t)r->len) == 0)
		return 0;
	/* Not every file system has it; ENOSPC is an answer. */
	if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL)
		return -errno;
	return write_zeroes(fd, r->off, r->len);
}

/* A discard is a hint: a host that cannot do it has done it. */
static int
perform_discard(int fd, bool is_device, const struct block_req *r)
{
	uint64_t range[2] = {r->off, r->len};
	int ret = is_device ? ioctl(fd, BLKDISCARD, range)
			    : fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)r->off,
					(off_t)r->len);

	return ret == 0 || errno == EOPNOTSUPP || errno == ENOSYS || errno == ENOTTY ? 0 : -errno;
}

int
block_perform(int fd, bool is_device, struct block_req *r)
{
	switch (r->op) {
	case BLOCK_READ:
	case BLOCK_WRITE:
		return perform_rw(fd, r);
	case BLOCK_FLUSH:
		return fdatasync(fd) == 0 ? 0 : -errno;
	case BLOCK_DISCARD:
		return perform_discard(fd, is_device, r);
	case BLOCK_ZERO:
		return perform_zero(fd, is_device, r);
	}
	return -EINVAL;
}

/* ---- threads ---- */

static void
ring(int bell)
{
	const uint64_t one = 1;

	while (write(bell, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void *
worker(void *arg)
{
	struct block_pool *p = arg;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		struct block_req *r;

		while (p->todo == NULL && !p->stop)
			pthread_cond_wait(&p->work, &p->lock);
		r = p->todo;
		if (r == NULL)
			break;
		p->todo = r->next;
		if (p->todo == NULL)
			p->todo_end = &p->todo;
		pthread_mutex_unlock(&p->lock);
		r->error = block_perform(p->fd, p->is_device, r);
		pthread_mutex_lock(&p->lock);
		r->next = p->done;
		p->done = r;
		ring(p->bell);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

struct block_pool *
block_pool_create(int fd, bool is_device, int bell, struct err *err)
{
	struct block_pool *p = calloc(1, sizeof(*p));
	int ret;

	if (p == NULL) {
		err_set(err, ENOMEM, "disk: no memory");
		return NULL;
	}
	p->fd = fd;
	p->is_device = is_device;
	p->bell = bell;
	p->todo_end = &p->todo;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	for (; p->threads < THREADS; p->threads++) {
		ret = pthread_create(&p->thread[p->threads], NULL, worker, p);
		if (ret != 0) {
			err_set(err, ret, "disk: a thread: %s", strerror(ret));
			block_pool_destroy(p);
			return NULL;
		}
	}
	return p;
}

void
block_pool_destroy(struct block_pool *p)
{
	if (p == NULL)
		return;
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->threads; i++)
		pthread_join(p->thread[i], NULL);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

void
block_pool_submit(struct block_pool *p, struct block_req *r)
{
	pthread_mutex_lock(&p->lock);
	r->next = NULL;
	*p->todo_end = r;
	p->todo_end = &r->next;
	pthread_cond_signal(&p->work);
	pthread_mutex_unlock(&p->lock);
}

struct block_req *
block_pool_reap(struct block_pool *p)
{
	struct block_req *list;

	pthread_mutex_lock(&p->lock);
	list = p->done;
	p->done = NULL;
	pthread_mutex_unlock(&p->lock);
	return list;
}
