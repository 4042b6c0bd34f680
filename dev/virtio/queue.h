/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Virtqueues as the device sees them: split and packed rings, indirect descriptors, notification by flags
 * and by EVENT_IDX (Virtual I/O Device 1.2, 2.6 - 2.8).
 *
 * The driver is hostile. Each descriptor is read once into a chain; a chain is bounded in descriptors (the
 * size that the device offers) and in bytes (4 GiB - 1), its buffers lie in RAM, readable ones before
 * writable ones. Whatever breaks these rules breaks the queue: `broken` is called once, and the queue gives
 * nothing until it is reset.
 *
 * Guest memory is reached by gpa in every access, so that dirty tracking and translated code see all of them.
 *
 * Threads: none of its own. Every call with the virtio device's lock held.
 */
#ifndef LHYVE_DEV_VIRTIO_QUEUE_H
#define LHYVE_DEV_VIRTIO_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "state/field.h"

struct gpmap;
struct iovec;

enum { VIRTQ_SIZE_MAX = 1024 }; /* of any device here */

/* A stretch of guest memory, known to be RAM. */
struct virtq_buf {
	uint64_t gpa;
	uint32_t len;
};

/* What a driver made available: `out` buffers to read, then `in` buffers to write. Zeroed before first use.
 */
struct virtq_chain {
	struct virtq_buf *buf; /* out + in of them */
	unsigned out, in, room;
	uint32_t out_bytes, in_bytes;
	uint16_t id;	/* head's index (split) or buffer id (packed) */
	uint16_t slots; /* descriptors of the ring itself */
};
void virtq_chain_free(struct virtq_chain *c);

/* Guest-visible and saved, a queue. */
struct virtq_state {
	uint64_t desc_gpa, driver_gpa, device_gpa;
	uint16_t size; /* as the driver set it */
	uint16_t msix_vector;
	uint8_t enabled;
	uint8_t avail_wrap, used_wrap; /* packed */
	uint8_t signalled_valid;       /* `signalled` says something */
	uint16_t avail, used;	       /* next to take, next to give back; split: free running */
	uint16_t signalled; /* split: `used` when an interrupt was last considered; packed: slots since */
	uint8_t pad[2];
};
extern const struct field_table virtq_field_table;

struct virtq {
	struct virtq_state st;
	/* set once */
	struct gpmap *mem;
	uint16_t max_size;
	unsigned index;
	void (*broken)(void *ctx, struct virtq *q, const char *why);
	void *ctx;
	/* by the negotiated features, see virtq_features() */
	bool packed, indirect, event_idx;
	bool dead; /* broken; or nothing is to be taken */
};

void virtq_features(struct virtq *q, bool packed, bool indirect, bool event_idx);
/* As after a device reset: disabled, the size the largest. */
void virtq_reset(struct virtq *q);
/* The driver enables it: rings must be aligned and in RAM, the size legal. false: broken. */
bool virtq_enable(struct virtq *q);
/* Check a loaded state. */
LH_MUST_CHECK int virtq_post_load(struct virtq *q, struct err *err);

/* Whether there is something to take: a look, no more. */
bool virtq_available(struct virtq *q);
/* Take the next chain. false: nothing there, or the queue is broken. */
bool virtq_pop(struct virtq *q, struct virtq_chain *c);
/* Undo the last pop of all chains since `mark` (of virtq_mark()), none of which was given back. */
struct virtq_mark {
	uint16_t avail;
	uint8_t wrap;
};
struct virtq_mark virtq_mark(const struct virtq *q);
void virtq_rewind(struct virtq *q, struct virtq_mark m);
/* Give a chain back: `len` bytes of its writable part were written. */
void virtq_push(struct virtq *q, const struct virtq_chain *c, uint32_t len);
/* As virtq_push() for several chains that the driver must see at once (one packet in several buffers). */
void virtq_push_many(struct virtq *q, const struct virtq_chain *c, const uint32_t *len, unsigned count);
/* Whether the driver wants an interrupt for what was given back since the last call. */
bool virtq_wants_interrupt(struct virtq *q);
/* Ask for notifications, or say that none are needed. True: more came before the driver could have seen the
 * request: look again. */
bool virtq_notifications(struct virtq *q, bool on);

/* Copy from the readable part, from byte `off` on; how many bytes there were. */
size_t virtq_read(const struct virtq *q, const struct virtq_chain *c, size_t off, void *buf, size_t len);
/* Copy into the writable part. */
size_t virtq_write(const struct virtq *q, const struct virtq_chain *c, size_t off, const void *buf,
		   size_t len);
/* Host memory of bytes [off, off + len) of the readable or writable part: entries used, or -1: not so many
 * bytes, or more than `max` entries. After the host wrote: virtq_written(). */
int virtq_iov(const struct virtq *q, const struct virtq_chain *c, bool writable, size_t off, size_t len,
	      struct iovec *iov, int max);
void virtq_written(const struct virtq *q, const struct virtq_chain *c, size_t off, size_t len);

/* ---- between queue.c, split.c and packed.c ---- */

/* One descriptor as it came. flags: VIRTQ_DESC_*. */
struct virtq_desc {
	uint64_t gpa;
	uint32_t len;
	uint16_t flags, next; /* packed: `next` is the buffer id */
};
enum { VIRTQ_DESC_NEXT = 1, VIRTQ_DESC_WRITE = 2, VIRTQ_DESC_INDIRECT = 4 };
enum { VIRTQ_DESC_BYTES = 16 };

void virtq_break(struct virtq *q, const char *why);
/* Append one buffer, or what an indirect table holds. false: the queue is broken. */
bool virtq_chain_add(struct virtq *q, struct virtq_chain *c, const struct virtq_desc *d);
bool virtq_chain_add_table(struct virtq *q, struct virtq_chain *c, const struct virtq_desc *d);
/* Whether `event` lies in (old, now], all free-running (2.7.10). */
static inline bool
virtq_passed(uint16_t event, uint16_t now, uint16_t old)
{
	return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

struct virtq_ops {
	bool (*available)(struct virtq *q);
	bool (*pop)(struct virtq *q, struct virtq_chain *c);
	void (*push)(struct virtq *q, const struct virtq_chain *c, const uint32_t *len, unsigned count);
	bool (*wants_interrupt)(struct virtq *q);
	bool (*notifications)(struct virtq *q, bool on);
	bool (*rings_ok)(struct virtq *q); /* alignment and place of the three areas */
};
extern const struct virtq_ops virtq_split_ops, virtq_packed_ops;

#endif
