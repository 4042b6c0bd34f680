/* SPDX-License-Identifier: BSD-2-Clause */
/* A disk image: opening, locking, geometry, and the way of a request to io_uring or the threads and back. */
#include "dev/storage/block.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/evloop.h"
#include "base/log.h"
#include "base/util.h"
#include "dev/storage/internal.h"

enum { SECTOR = 512, FILE_PHYSICAL = 4096, SECTOR_MAX = 65536 };

struct block {
	struct block_cfg cfg;
	char *path, where[64];
	int fd, bell;
	bool ro, is_device;
	uint64_t size;
	unsigned logical, physical;
	size_t align; /* of buffers and lengths with O_DIRECT; 1: any */
	struct evloop *loop;
	struct ev_source *source;
	struct block_pool *pool;
	struct block_uring *uring; /* NULL: threads do all */
	unsigned in_flight;
	struct block_req *waiting, **waiting_end; /* for room in the ring */
	void (*batch_end)(void *ctx);
	void *batch_ctx;
};

/* ---- opening ---- */

static int
open_error(struct block *b, struct err *err)
{
	int code = errno;
	const char *hint = code == ENOENT ? " (create it: truncate -s 10G FILE)"
			   : code == EINVAL && b->cfg.nocache
			       ? " (this file system knows no direct access: nocache=false)"
			       : "";

	return err_set(err, code, "%s: %s: %s%s", b->where, b->path, strerror(code), hint);
}

static int
open_image(struct block *b, struct err *err)
{
	int flags = O_CLOEXEC | O_NONBLOCK | (b->cfg.nocache ? O_DIRECT : 0) | (b->cfg.sync ? O_DSYNC : 0);
	struct stat st;

	b->ro = b->cfg.ro;
	b->fd = open(b->path, (b->ro ? O_RDONLY : O_RDWR) | flags);
	if (b->fd < 0 && !b->ro && (errno == EROFS || errno == EACCES || errno == EPERM)) {
		b->ro = true;
		b->fd = open(b->path, O_RDONLY | flags);
		if (b->fd >= 0)
			log_warn("%s: %s can only be read: the guest gets a read-only disk", b->where,
				 b->path);
	}
	if (b->fd < 0 || fstat(b->fd, &st) != 0)
		return open_error(b, err);
	/* O_NONBLOCK is for FIFOs that nobody writes; io_uring would take it for a wish to get EAGAIN. */
	if (fcntl(b->fd, F_SETFL, flags & O_DIRECT) != 0)
		return open_error(b, err);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(err, EINVAL, "%s: %s is neither a file nor a block device", b->where, b->path);
	b->is_device = S_ISBLK(st.st_mode);
	b->size = (uint64_t)st.st_size;
	if (b->is_device && ioctl(b->fd, BLKGETSIZE64, &b->size) != 0)
		return open_error(b, err);
	return 0;
}

/* Advisory among lhyves and whoever else asks; it goes with the descriptor. */
static int
lock_image(struct block *b, struct err *err)
{
	struct flock l = {.l_type = b->ro ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};

	if (fcntl(b->fd, F_OFD_SETLK, &l) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return err_set(err, EBUSY, "%s: %s is in use by another process (end it, or give a copy)",
			       b->where, b->path);
	/* Some network file systems know no locks. */
	log_warn("%s: %s cannot be locked: %s", b->where, b->path, strerror(errno));
	return 0;
}

static int
find_geometry(struct block *b, struct err *err)
{
	int logical = SECTOR;
	unsigned physical = FILE_PHYSICAL;

	if (b->is_device &&
	    (ioctl(b->fd, BLKSSZGET, &logical) != 0 || ioctl(b->fd, BLKPBSZGET, &physical) != 0))
		return open_error(b, err);
	if (b->is_device && b->cfg.logical != 0 && b->cfg.logical < (unsigned)logical)
		return err_set(err, EINVAL, "%s: %s has sectors of %d bytes (sectorsize cannot be less)",
			       b->where, b->path, logical);
	b->logical = b->cfg.logical != 0 ? b->cfg.logical : (unsigned)logical;
	b->physical = MAX(b->cfg.physical != 0 ? b->cfg.physical : physical, b->logical);
	b->align = b->cfg.nocache ? (size_t)MAX(logical, SECTOR) : 1;
	if (b->size == 0)
		return err_set(err, EINVAL, "%s: %s is empty (truncate -s 10G FILE)", b->where, b->path);
	if (b->size % b->logical != 0)
		return err_set(
		    err, EINVAL,
		    "%s: %s has %llu bytes, no multiple of its %u-byte sectors (truncate -s %%%u FILE)",
		    b->where, b->path, (unsigned long long)b->size, b->logical, b->logical);
	return 0;
}

static int
make_engines(struct block *b, struct err *err)
{
	b->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (b->bell < 0)
		return err_set(err, errno, "%s: eventfd: %s", b->where, strerror(errno));
	b->pool = block_pool_create(b->fd, b->is_device, b->bell, err);
	if (b->pool == NULL)
		return -err->code;
	if (b->cfg.aio == BLOCK_AIO_THREADS)
		return 0;
	b->uring = block_uring_create(b->fd, b->bell);
	if (b->uring == NULL && b->cfg.aio == BLOCK_AIO_URING)
		return err_set(err, ENOSYS, "%s: this host offers no io_uring (aio=threads)", b->where);
	return 0;
}

struct block *
block_create(const struct block_cfg *cfg, struct evloop *loop, struct err *err)
{
	struct block *b = calloc(1, sizeof(*b));

	if (b == NULL) {
		err_set(err, ENOMEM, "%s: no memory", cfg->where);
		return NULL;
	}
	b->cfg = *cfg;
	b->fd = b->bell = -1;
	b->loop = loop;
	b->waiting_end = &b->waiting;
	strncpy(b->where, cfg->where, sizeof(b->where) - 1);
	b->path = strdup(cfg->path);
	if (b->path == NULL)
		err_set(err, ENOMEM, "%s: no memory", cfg->where);
	else if (open_image(b, err) == 0 && lock_image(b, err) == 0 && find_geometry(b, err) == 0 &&
		 make_engines(b, err) == 0)
		return b;
	block_destroy(b);
	return NULL;
}

void
block_destroy(struct block *b)
{
	if (b == NULL)
		return;
	LH_ASSERT(b->in_flight == 0 && b->source == NULL);
	block_uring_destroy(b->uring);
	block_pool_destroy(b->pool);
	if (b->bell >= 0)
		close(b->bell);
	if (b->fd >= 0)
		close(b->fd);
	free(b->path);
	free(b);
}

/* ---- requests ---- */

static void
bounce_free(struct block_req *r)
{
	free(r->bounce);
	r->bounce = NULL;
}

/* Bytes between the request's own iovecs and its bounce buffer. */
static void
bounce_copy(const struct block_req *r, const struct iovec *iov, int iovs, bool in)
{
	char *p = r->bounce;

	for (int i = 0; i < iovs; i++) {
		if (in)
			memcpy(iov[i].iov_base, p, iov[i].iov_len);
		else
			memcpy(p, iov[i].iov_base, iov[i].iov_len);
		p += iov[i].iov_len;
	}
}

static bool
misaligned(const struct block *b, const struct block_req *r)
{
	if (b->align == 1 || r->op > BLOCK_WRITE)
		return false;
	for (int i = 0; i < r->iovs; i++) {
		if (((uintptr_t)r->iov[i].iov_base | r->iov[i].iov_len) % b->align != 0)
			return true;
	}
	return false;
}

/* The original iovecs of a bounced read are kept behind `bounce_iov` until it is through. */
struct kept_iov {
	struct iovec *iov;
	int iovs;
};

static bool
bounce_begin(struct block *b, struct block_req *r)
{
	struct kept_iov kept = {r->iov, r->iovs};
	size_t room = align_up(r->len, SECTOR_MAX);
	char *p;

	/* The kept iovecs stand behind the data. */
	if (posix_memalign((void **)&p, b->align, room + sizeof(kept)) != 0)
		return false;
	r->bounce = p;
	memcpy(p + room, &kept, sizeof(kept));
	if (r->op == BLOCK_WRITE)
		bounce_copy(r, r->iov, r->iovs, false);
	r->bounce_iov = (struct iovec){p, r->len};
	r->iov = &r->bounce_iov;
	r->iovs = 1;
	return true;
}

static void
bounce_end(struct block_req *r)
{
	struct kept_iov kept;

	if (r->bounce == NULL)
		return;
	memcpy(&kept, (char *)r->bounce + align_up(r->len, SECTOR_MAX), sizeof(kept));
	if (r->op == BLOCK_READ && r->error == 0)
		bounce_copy(r, kept.iov, kept.iovs, true);
	bounce_free(r);
}

static bool
send(struct block *b, struct block_req *r)
{
	if (b->uring != NULL && r->op <= BLOCK_FLUSH)
		return block_uring_submit(b->uring, r);
	block_pool_submit(b->pool, r);
	return true;
}

static void
put_off(struct block *b, struct block_req *r)
{
	r->next = NULL;
	*b->waiting_end = r;
	b->waiting_end = &r->next;
}

void
block_submit(struct block *b, struct block_req *r)
{
	r->at = 0;
	r->bounce = NULL;
	r->error = 0;
	b->in_flight++;
	if (misaligned(b, r) && !bounce_begin(b, r)) {
		b->in_flight--;
		r->done(r, -ENOMEM);
		return;
	}
	if (b->waiting != NULL || !send(b, r))
		put_off(b, r);
}

static void
send_waiting(struct block *b)
{
	while (b->waiting != NULL) {
		struct block_req *r = b->waiting, *next = r->next;

		if (!send(b, r))
			return;
		b->waiting = next;
		if (next == NULL)
			b->waiting_end = &b->waiting;
	}
}

unsigned
block_in_flight(const struct block *b)
{
	return b->in_flight;
}

static bool
finish_list(struct block *b, struct block_req *list)
{
	bool any = list != NULL;

	while (list != NULL) {
		struct block_req *r = list;

		list = r->next;
		bounce_end(r);
		b->in_flight--;
		r->done(r, r->error);
	}
	return any;
}

static void
reap(struct block *b)
{
	bool any = false;

	if (b->uring != NULL)
		any = finish_list(b, block_uring_reap(b->uring));
	any |= finish_list(b, block_pool_reap(b->pool));
	send_waiting(b);
	if (b->uring != NULL)
		block_uring_kick(b->uring);
	if (any && b->batch_end != NULL)
		b->batch_end(b->batch_ctx);
}

void
block_kick(struct block *b)
{
	if (b->uring == NULL)
		return;
	block_uring_bell(b->uring, false);
	block_uring_kick(b->uring);
	reap(b);
	block_uring_bell(b->uring, true);
	reap(b); /* what came in between rang for nobody */
}

static void
on_bell(void *arg, uint32_t events)
{
	struct block *b = arg;
	uint64_t count;

	(void)events;
	if (read(b->bell, &count, sizeof(count)) < 0 && errno != EAGAIN)
		log_warn("%s: eventfd: %s", b->where, strerror(errno));
	reap(b);
}

void
block_set_batch_end(struct block *b, void (*fn)(void *ctx), void *ctx)
{
	b->batch_end = fn;
	b->batch_ctx = ctx;
}

int
block_start(struct block *b, struct err *err)
{
	b->source = ev_add(b->loop, b->bell, EPOLLIN, on_bell, b, err);
	return b->source != NULL ? 0 : -err->code;
}

void
block_stop(struct block *b)
{
	struct pollfd p = {.fd = b->bell, .events = POLLIN};

	while (b->in_flight > 0) {
		block_kick(b);
		if (poll(&p, 1, -1) > 0)
			on_bell(b, EPOLLIN);
	}
	ev_remove(b->source);
	b->source = NULL;
}

/* ---- facts ---- */

uint64_t
block_size(const struct block *b)
{
	return b->size;
}

bool
block_ro(const struct block *b)
{
	return b->ro;
}

unsigned
block_logical(const struct block *b)
{
	return b->logical;
}

unsigned
block_physical(const struct block *b)
{
	return b->physical;
}

bool
block_can_discard(const struct block *b)
{
	return !b->ro;
}

const char *
block_path(const struct block *b)
{
	return b->path;
}

const char *
block_aio_name(const struct block *b)
{
	return b->uring != NULL ? "io_uring" : "threads";
}
