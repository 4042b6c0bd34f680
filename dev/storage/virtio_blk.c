/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-blk (Virtual I/O Device 1.2, 5.2) on a host image. Data goes between the image and guest memory with
 * no copy of ours.
 *
 * A request is a chain: 16 bytes of header to read, data, one byte of status to write. An error of the host
 * is the guest's I/O error and a line in the log.
 *
 * Threads: all work on the loop's thread; the virtio lock guards queues and configuration.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "dev/pci/model.h"
#include "dev/pci/msi.h"
#include "dev/pci/pci.h"
#include "dev/storage/blkdev.h"
#include "dev/storage/block.h"
#include "dev/virtio/own.h"
#include "dev/virtio/virtio.h"

enum { VIRTIO_ID_BLOCK = 2, QUEUE_SIZE = 256, QUEUES_MAX = 16, SECTOR = 512, ID_BYTES = 20 };
enum { SEGMENTS = QUEUE_SIZE - 2, RANGES = 16, RANGE_BYTES = 16, RANGE_SECTORS = 1 << 22 };

#define F_SEG_MAX      (1ull << 2)
#define F_RO	       (1ull << 5)
#define F_BLK_SIZE     (1ull << 6)
#define F_FLUSH	       (1ull << 9)
#define F_TOPOLOGY     (1ull << 10)
#define F_CONFIG_WCE   (1ull << 11)
#define F_MQ	       (1ull << 12)
#define F_DISCARD      (1ull << 13)
#define F_WRITE_ZEROES (1ull << 14)

/* Offsets in the configuration (5.2.4). */
enum {
	CFG_CAPACITY = 0,
	CFG_SEG_MAX = 12,
	CFG_BLK_SIZE = 20,
	CFG_PHYSICAL_EXP = 24,
	CFG_OPT_IO_SIZE = 28,
	CFG_WRITEBACK = 32,
	CFG_NUM_QUEUES = 34,
	CFG_MAX_DISCARD_SECTORS = 36,
	CFG_MAX_DISCARD_SEG = 40,
	CFG_DISCARD_ALIGN = 44,
	CFG_MAX_ZEROES_SECTORS = 48,
	CFG_MAX_ZEROES_SEG = 52,
	CFG_ZEROES_MAY_UNMAP = 56,
	CFG_BYTES = 60
};

enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };
enum { HEADER_BYTES = 16, RANGE_UNMAP = 1 };

struct blk;

/* One request in flight. Kept for reuse. */
struct blk_request {
	struct block_req r; /* first: found from it */
	struct blk *b;
	struct virtq *q;
	struct virtq_chain chain;
	struct iovec *iov;
	int iov_room;
	uint32_t data_in;	/* bytes read into guest memory */
	unsigned range, ranges; /* of a discard or write-zeroes: the one in work, how many */
	uint8_t range_raw[RANGES][RANGE_BYTES];
	struct blk_request *next_free;
};

struct blk {
	struct virtio *v;
	struct block *image;
	char where[64], id[ID_BYTES + 1];
	/* loop thread: */
	struct blk_request *free;
	unsigned in_flight;
	bool quiescing;
	uint64_t done_queues; /* to be signalled at the end of the batch */
	unsigned long errors;
	/* virtio lock: for statistics, by enum block_op */
	uint64_t requests[BLOCK_ZERO + 1], bytes[BLOCK_ZERO + 1], failed;
};

/* ---- the end of a request ---- */

/* Lock held. */
static void
finish(struct blk *b, struct blk_request *q, uint8_t status, uint32_t data)
{
	uint32_t status_at = q->chain.in_bytes - 1;

	if (data > 0)
		virtq_written(q->q, &q->chain, 0, data);
	virtq_write(q->q, &q->chain, status_at, &status, 1);
	virtq_push(q->q, &q->chain, status == S_OK ? data + 1 : 1);
	b->done_queues |= BIT(q->q->index);
	q->next_free = b->free;
	b->free = q;
}

/* Lines 1, 2, 4, 8, ... of a disk that fails again and again. */
static void
log_failure(struct blk *b, const struct block_req *r, int error)
{
	static const char *const what[] = {"read", "write", "flush", "discard", "write of zeroes"};

	b->errors++;
	if ((b->errors & (b->errors - 1)) == 0)
		log_warn("%s: %s: %s at byte %llu: %s (error %lu; the guest was told)", b->where,
			 block_path(b->image), what[r->op], (unsigned long long)r->off, strerror(-error),
			 b->errors);
}

static void
signal_done(struct blk *b)
{
	for (; b->done_queues != 0; b->done_queues &= b->done_queues - 1)
		virtio_signal(b->v, virtio_queue(b->v, (unsigned)__builtin_ctzll(b->done_queues)));
}

static bool start_range(struct blk *b, struct blk_request *q);

static void
on_done(struct block_req *r, int error)
{
	struct blk_request *q = (struct blk_request *)r;
	struct blk *b = q->b;

	if (error != 0)
		log_failure(b, r, error);
	virtio_lock(b->v);
	b->in_flight--;
	b->requests[r->op]++;
	b->bytes[r->op] += error == 0 ? r->len : 0;
	b->failed += error != 0;
	if (error != 0 || ++q->range >= q->ranges || !start_range(b, q))
		finish(b, q, error != 0 ? S_IOERR : S_OK, r->op == BLOCK_READ && error == 0 ? q->data_in : 0);
	virtio_unlock(b->v);
}

static void
on_batch_end(void *ctx)
{
	struct blk *b = ctx;

	virtio_lock(b->v);
	signal_done(b);
	virtio_unlock(b->v);
	if (b->quiescing && b->in_flight == 0) {
		b->quiescing = false;
		virtio_reset_done(b->v);
	}
}

/* ---- the start of a request. Lock held. ---- */

static struct blk_request *
request_get(struct blk *b)
{
	struct blk_request *q = b->free;

	if (q != NULL) {
		b->free = q->next_free;
		return q;
	}
	q = calloc(1, sizeof(*q));
	if (q != NULL) {
		q->b = b;
		q->r.done = on_done;
	}
	return q;
}

static void
request_put(struct blk *b, struct blk_request *q)
{
	q->next_free = b->free;
	b->free = q;
}

static void
request_free(struct blk_request *q)
{
	virtq_chain_free(&q->chain);
	free(q->iov);
	free(q);
}

/* A buffer may touch several ranges of RAM. */
static bool
iov_room(struct blk_request *q)
{
	int want = (int)(2 * (q->chain.out + q->chain.in) + 8);
	struct iovec *grown;

	if (q->iov_room >= want)
		return true;
	grown = reallocarray(q->iov, (size_t)want, sizeof(*grown));
	if (grown == NULL)
		return false;
	q->iov = grown;
	q->iov_room = want;
	return true;
}

static void
submit(struct blk *b, struct blk_request *q)
{
	b->in_flight++;
	block_submit(b->image, &q->r);
}

/* Whole sectors, all of them on the disk. */
static bool
place(const struct blk *b, uint64_t sector, uint64_t bytes)
{
	return bytes % SECTOR == 0 && sector <= UINT64_MAX / SECTOR &&
	       range_fits(sector * SECTOR, bytes, block_size(b->image));
}

static bool
write_through(const struct blk *b)
{
	uint64_t f = virtio_features(b->v);

	if ((f & F_CONFIG_WCE) != 0)
		return virtio_config(b->v)[CFG_WRITEBACK] == 0;
	return (f & F_FLUSH) == 0;
}

static uint8_t
start_rw(struct blk *b, struct blk_request *q, bool write, uint64_t sector)
{
	uint64_t bytes = write ? q->chain.out_bytes - HEADER_BYTES : q->chain.in_bytes - 1;

	if (!place(b, sector, bytes) || (write && block_ro(b->image)) || !iov_room(q))
		return S_IOERR;
	if (bytes == 0)
		return S_OK;
	q->r.iovs = virtq_iov(q->q, &q->chain, !write, write ? HEADER_BYTES : 0, bytes, q->iov, q->iov_room);
	if (q->r.iovs < 0)
		return S_IOERR;
	q->r.op = write ? BLOCK_WRITE : BLOCK_READ;
	q->r.off = sector * SECTOR;
	q->r.len = bytes;
	q->r.iov = q->iov;
	q->r.durable = write && write_through(b);
	q->data_in = write ? 0 : (uint32_t)bytes;
	submit(b, q);
	return UINT8_MAX;
}

static uint8_t
start_flush(struct blk *b, struct blk_request *q)
{
	if (block_ro(b->image))
		return S_OK;
	q->r.op = BLOCK_FLUSH;
	q->r.off = q->r.len = 0;
	submit(b, q);
	return UINT8_MAX;
}

static bool
start_range(struct blk *b, struct blk_request *q)
{
	const uint8_t *raw = q->range_raw[q->range];

	/* Empty ranges, which say nothing, are passed over. */
	while (get_le32(raw + 8) == 0) {
		if (++q->range >= q->ranges)
			return false;
		raw = q->range_raw[q->range];
	}
	q->r.off = get_le64(raw) * SECTOR;
	q->r.len = (uint64_t)get_le32(raw + 8) * SECTOR;
	q->r.unmap = (get_le32(raw + 12) & RANGE_UNMAP) != 0;
	submit(b, q);
	return true;
}

/* All ranges are checked before the first is done. */
static uint8_t
start_ranges(struct blk *b, struct blk_request *q, bool zero)
{
	uint32_t bytes = q->chain.out_bytes - HEADER_BYTES;

	q->ranges = bytes / RANGE_BYTES;
	if (bytes % RANGE_BYTES != 0 || q->ranges == 0 || q->ranges > RANGES || block_ro(b->image) ||
	    virtq_read(q->q, &q->chain, HEADER_BYTES, q->range_raw, bytes) != bytes)
		return S_IOERR;
	for (unsigned i = 0; i < q->ranges; i++) {
		const uint8_t *raw = q->range_raw[i];
		uint32_t sectors = get_le32(raw + 8), flags = get_le32(raw + 12);

		if ((flags & ~(zero ? RANGE_UNMAP : 0u)) != 0)
			return S_UNSUPP;
		if (sectors > RANGE_SECTORS || !place(b, get_le64(raw), (uint64_t)sectors * SECTOR))
			return S_IOERR;
	}
	q->r.op = zero ? BLOCK_ZERO : BLOCK_DISCARD;
	return start_range(b, q) ? UINT8_MAX : S_OK;
}

static uint8_t
get_id(struct blk *b, struct blk_request *q, uint32_t *data)
{
	*data =
	    (uint32_t)virtq_write(q->q, &q->chain, 0, b->id, MIN((uint32_t)ID_BYTES, q->chain.in_bytes - 1));
	return S_OK;
}

/* The status byte, or UINT8_MAX: under way. */
static uint8_t
start(struct blk *b, struct blk_request *q, uint32_t *data)
{
	uint8_t header[HEADER_BYTES];
	uint64_t f = virtio_features(b->v), sector;

	q->range = q->ranges = 0;
	q->r.durable = q->r.unmap = false;
	virtq_read(q->q, &q->chain, 0, header, sizeof(header));
	sector = get_le64(header + 8);
	switch (get_le32(header)) {
	case T_IN:
		return start_rw(b, q, false, sector);
	case T_OUT:
		return start_rw(b, q, true, sector);
	case T_FLUSH:
		return (f & F_FLUSH) != 0 ? start_flush(b, q) : S_UNSUPP;
	case T_GET_ID:
		return get_id(b, q, data);
	case T_DISCARD:
		return (f & F_DISCARD) != 0 ? start_ranges(b, q, false) : S_UNSUPP;
	case T_WRITE_ZEROES:
		return (f & F_WRITE_ZEROES) != 0 ? start_ranges(b, q, true) : S_UNSUPP;
	default:
		return S_UNSUPP;
	}
}

/* One chain. false: nothing more to take now. */
static bool
take_one(struct blk *b, struct virtq *vq)
{
	struct blk_request *q = request_get(b);
	uint32_t data = 0;
	uint8_t status;

	if (q == NULL)
		return false;
	q->q = vq;
	if (!virtq_pop(vq, &q->chain)) {
		request_put(b, q);
		return false;
	}
	if (q->chain.out_bytes < HEADER_BYTES || q->chain.in_bytes < 1) {
		request_put(b, q);
		virtq_break(vq, "a request without header or status");
		return false;
	}
	status = start(b, q, &data);
	if (status != UINT8_MAX)
		finish(b, q, status, data);
	return true;
}

static void
blk_work(void *dev, unsigned n)
{
	struct blk *b = dev;
	struct virtq *vq;
	unsigned taken = 0;

	virtio_lock(b->v);
	vq = virtio_queue(b->v, n);
	do {
		virtq_notifications(vq, false);
		while (taken < QUEUE_SIZE && take_one(b, vq))
			taken++;
	} while (taken < QUEUE_SIZE && virtq_notifications(vq, true));
	signal_done(b);
	virtio_unlock(b->v);
	block_kick(b->image);
	if (taken == QUEUE_SIZE)
		virtio_kick(b->v, n); /* others first */
}

static bool
blk_quiesce(void *dev)
{
	struct blk *b = dev;

	b->quiescing = b->in_flight > 0;
	return !b->quiescing;
}

/* Only the cache mode can be written. */
static void
blk_config_written(void *dev, unsigned off, unsigned len)
{
	struct blk *b = dev;
	uint8_t *now = virtio_config(b->v), writeback = now[CFG_WRITEBACK] != 0;
	bool hit = off <= CFG_WRITEBACK && off + len > CFG_WRITEBACK;

	virtio_config_restore(b->v);
	if (hit && (virtio_features(b->v) & F_CONFIG_WCE) != 0)
		now[CFG_WRITEBACK] = writeback;
}

static const struct virtio_model blk_model = {
    .type = "virtio-blk",
    .id = VIRTIO_ID_BLOCK,
    .class_code = 0x010000,
    .work = blk_work,
    .quiesce = blk_quiesce,
    .config_written = blk_config_written,
};

/* ---- as a device ---- */

static void
blk_destroy(void *dev)
{
	struct blk *b = dev;

	if (b == NULL)
		return;
	while (b->free != NULL) {
		struct blk_request *q = b->free;

		b->free = q->next_free;
		request_free(q);
	}
	block_destroy(b->image);
	free(b);
}

/* Configuration and queues are the transport's; after stop nothing is in flight. So there is no state here.
 */
static void
blk_reset(void *dev)
{
	(void)dev;
}

static void
blk_start(void *dev)
{
	struct blk *b = dev;
	struct err err = {0};

	if (block_start(b->image, &err) != 0)
		log_error("%s: %s", b->where, err.msg);
}

static void
blk_stop(void *dev)
{
	block_stop(((struct blk *)dev)->image);
}

static void
blk_stats(void *dev, void (*fn)(void *arg, const char *name, uint64_t value), void *arg)
{
	static const struct {
		const char *requests, *bytes;
	} names[BLOCK_ZERO + 1] = {
	    [BLOCK_READ] = {"read.requests", "read.bytes"},
	    [BLOCK_WRITE] = {"write.requests", "write.bytes"},
	    [BLOCK_FLUSH] = {"flush.requests", NULL},
	    [BLOCK_DISCARD] = {"discard.requests", "discard.bytes"},
	    [BLOCK_ZERO] = {"zero.requests", "zero.bytes"},
	};
	struct blk *b = dev;
	uint64_t requests[BLOCK_ZERO + 1], bytes[BLOCK_ZERO + 1], failed;

	virtio_lock(b->v);
	memcpy(requests, b->requests, sizeof(requests));
	memcpy(bytes, b->bytes, sizeof(bytes));
	failed = b->failed;
	virtio_unlock(b->v);
	for (unsigned op = 0; op <= BLOCK_ZERO; op++) {
		fn(arg, names[op].requests, requests[op]);
		if (names[op].bytes != NULL)
			fn(arg, names[op].bytes, bytes[op]);
	}
	fn(arg, "failed.requests", failed);
}

static const struct device_ops blk_device_ops = {
    .type = "virtio-blk",
    .destroy = blk_destroy,
    .reset = blk_reset,
    .start = blk_start,
    .stop = blk_stop,
    .stats = blk_stats,
};

/* ---- making ---- */

/* 20 characters that stay the same for a path. */
static void
default_serial(const char *path, char id[static ID_BYTES + 1])
{
	uint64_t h = 0xcbf29ce484222325ull; /* FNV-1a */

	for (; *path != '\0'; path++)
		h = (h ^ (uint8_t)*path) * 0x100000001b3ull;
	snprintf(id, ID_BYTES + 1, "LHYVE-%04X-%04X-%04X", (unsigned)(h >> 32 & 0xffff),
		 (unsigned)(h >> 16 & 0xffff), (unsigned)(h & 0xffff));
}

static void
fill_config(const struct blk *b, unsigned queues, uint8_t c[static CFG_BYTES])
{
	unsigned ratio = block_physical(b->image) / block_logical(b->image);

	memset(c, 0, CFG_BYTES);
	put_le64(c + CFG_CAPACITY, block_size(b->image) / SECTOR);
	put_le32(c + CFG_SEG_MAX, SEGMENTS);
	put_le32(c + CFG_BLK_SIZE, block_logical(b->image));
	c[CFG_PHYSICAL_EXP] = (uint8_t)__builtin_ctz(ratio);
	put_le16(c + CFG_PHYSICAL_EXP + 2, 1); /* min_io_size, in logical sectors */
	put_le32(c + CFG_OPT_IO_SIZE, 0);
	c[CFG_WRITEBACK] = 1;
	put_le16(c + CFG_NUM_QUEUES, (uint16_t)queues);
	put_le32(c + CFG_MAX_DISCARD_SECTORS, RANGE_SECTORS);
	put_le32(c + CFG_MAX_DISCARD_SEG, RANGES);
	put_le32(c + CFG_DISCARD_ALIGN, block_physical(b->image) / SECTOR);
	put_le32(c + CFG_MAX_ZEROES_SECTORS, RANGE_SECTORS);
	put_le32(c + CFG_MAX_ZEROES_SEG, RANGES);
	c[CFG_ZEROES_MAY_UNMAP] = 1;
}

/* "512" or "512/4096": powers of two. */
static int
parse_sectorsize(const struct pci_model_env *env, struct block_cfg *c, struct err *err)
{
	const char *text = env->option(env->ctx, "sectorsize");
	unsigned long v[2] = {0, 0};
	char *end;

	if (text == NULL)
		return 0;
	v[0] = v[1] = strtoul(text, &end, 10);
	if (*end == '/' && end != text)
		v[1] = strtoul(end + 1, &end, 10);
	for (unsigned i = 0; i < 2; i++) {
		if (*end != '\0' || v[i] < SECTOR || v[i] > 65536 || (v[i] & (v[i] - 1)) != 0 || v[1] < v[0])
			return err_set(
			    err, EINVAL,
			    "%s.sectorsize: '%s' is none (512, 4096 or 512/4096: logical/physical)",
			    env->where, text);
	}
	c->logical = (unsigned)v[0];
	c->physical = (unsigned)v[1];
	return 0;
}

static struct block *
open_image(const struct pci_model_env *env, struct err *err)
{
	const char *aio = env->option(env->ctx, "aio");
	char where[80];
	struct block_cfg c = {
	    .where = where,
	    .path = env->option(env->ctx, "path"),
	    .ro = pci_option_bool(env, "ro"),
	    .nocache = pci_option_bool(env, "nocache"),
	    .sync = pci_option_bool(env, "sync"),
	    .aio = aio == NULL || strcmp(aio, "auto") == 0 ? BLOCK_AIO_AUTO
		   : strcmp(aio, "threads") == 0	   ? BLOCK_AIO_THREADS
							   : BLOCK_AIO_URING,
	};

	snprintf(where, sizeof(where), "%s.path", env->where);
	if (c.path == NULL) {
		err_set(err, EINVAL, "%s.path: missing (the image of the disk)", env->where);
		return NULL;
	}
	if (parse_sectorsize(env, &c, err) != 0)
		return NULL;
	return block_create(&c, env->loop, err);
}

static struct virtio *
make_virtio(const struct pci_model_env *env, struct blk *b, struct err *err)
{
	unsigned queues = (unsigned)pci_option_uint(env, "queues", 1);
	uint16_t sizes[QUEUES_MAX];
	uint8_t config[CFG_BYTES];
	struct virtio_cfg c = {
	    .model = &blk_model,
	    .dev = b,
	    .name = env->where,
	    .features = F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY | F_CONFIG_WCE,
	    .queues = MIN(queues, (unsigned)QUEUES_MAX),
	    .queue_size = sizes,
	    .config = config,
	    .config_len = sizeof(config),
	};

	for (unsigned i = 0; i < QUEUES_MAX; i++)
		sizes[i] = QUEUE_SIZE;
	fill_config(b, c.queues, config);
	c.features |= block_ro(b->image) ? F_RO : 0;
	c.features |= c.queues > 1 ? F_MQ : 0;
	c.features |= block_can_discard(b->image) ? F_DISCARD | F_WRITE_ZEROES : 0;
	return virtio_create_owned(env, &c, err);
}

static struct pci_func *
blk_create(const struct pci_model_env *env, struct err *err)
{
	struct blk *b = calloc(1, sizeof(*b));
	const char *serial = env->option(env->ctx, "ser");

	if (b == NULL) {
		err_set(err, ENOMEM, "%s: no memory", env->where);
		return NULL;
	}
	snprintf(b->where, sizeof(b->where), "%s", env->where);
	b->image = open_image(env, err);
	if (b->image == NULL) {
		free(b);
		return NULL;
	}
	if (serial != NULL)
		strncpy(b->id, serial, ID_BYTES);
	else
		default_serial(block_path(b->image), b->id);
	block_set_batch_end(b->image, on_batch_end, b);
	b->v = make_virtio(env, b, err);
	if (b->v == NULL) {
		blk_destroy(b);
		return NULL;
	}
	if (env->own(env->ctx, &blk_device_ops, b, "blk", err) != 0)
		return NULL;
	return virtio_func(b->v);
}

const struct pci_model virtio_blk_model = {
    .name = "virtio-blk",
    .help = "disk: path=FILE[,ro][,nocache][,sync][,sectorsize=N[/N]][,ser=TEXT][,queues=N][,aio=threads]",
    .options = "name|packed|path|ro|nocache|sync|sectorsize|ser|queues|aio",
    .create = blk_create,
};
