/* SPDX-License-Identifier: BSD-2-Clause */
/* What split and packed queues share: chains, their bounds, copies to and from them. */
#include "dev/virtio/queue.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>

#include "base/util.h"
#include "mem/gpmap.h"

static const struct field virtq_fields[] = {
    FIELD(1, struct virtq_state, desc_gpa, FIELD_U64),
    FIELD(2, struct virtq_state, driver_gpa, FIELD_U64),
    FIELD(3, struct virtq_state, device_gpa, FIELD_U64),
    FIELD(4, struct virtq_state, size, FIELD_U16),
    FIELD(5, struct virtq_state, msix_vector, FIELD_U16),
    FIELD(6, struct virtq_state, enabled, FIELD_BOOL),
    FIELD(7, struct virtq_state, avail_wrap, FIELD_BOOL),
    FIELD(8, struct virtq_state, used_wrap, FIELD_BOOL),
    FIELD(9, struct virtq_state, signalled_valid, FIELD_BOOL),
    FIELD(10, struct virtq_state, avail, FIELD_U16),
    FIELD(11, struct virtq_state, used, FIELD_U16),
    FIELD(12, struct virtq_state, signalled, FIELD_U16),
    FIELD_TRANSIENT(struct virtq_state, pad, 2),
};

const struct field_table virtq_field_table = {
    .name = "virtqueue",
    .version = 1,
    .size = sizeof(struct virtq_state),
    .count = ARRAY_LEN(virtq_fields),
    .fields = virtq_fields,
};

static const struct virtq_ops *
ops(const struct virtq *q)
{
	return q->packed ? &virtq_packed_ops : &virtq_split_ops;
}

/* ---- life ---- */

void
virtq_features(struct virtq *q, bool packed, bool indirect, bool event_idx)
{
	q->packed = packed;
	q->indirect = indirect;
	q->event_idx = event_idx;
}

void
virtq_reset(struct virtq *q)
{
	q->st =
	    (struct virtq_state){.size = q->max_size, .msix_vector = 0xffff, .avail_wrap = 1, .used_wrap = 1};
	q->dead = false;
}

void
virtq_break(struct virtq *q, const char *why)
{
	if (q->dead)
		return;
	q->dead = true;
	q->broken(q->ctx, q, why);
}

bool
virtq_enable(struct virtq *q)
{
	uint16_t size = q->st.size;

	if (size == 0 || size > q->max_size || (!q->packed && (size & (size - 1)) != 0)) {
		virtq_break(q, "its size is not legal");
		return false;
	}
	if (!ops(q)->rings_ok(q)) {
		virtq_break(q, "its rings are misaligned or not in memory");
		return false;
	}
	q->st.enabled = 1;
	return true;
}

int
virtq_post_load(struct virtq *q, struct err *err)
{
	bool fits = q->st.size != 0 && q->st.size <= q->max_size;

	if (q->packed)
		fits = fits && q->st.avail < q->st.size && q->st.used < q->st.size;
	else
		fits = fits && (q->st.size & (q->st.size - 1)) == 0;
	if (!fits || (q->st.enabled && !ops(q)->rings_ok(q)))
		return err_set(err, EINVAL, "virtqueue %u: a damaged state (take the snapshot again)",
			       q->index);
	q->dead = false;
	return 0;
}

bool
virtq_available(struct virtq *q)
{
	return q->st.enabled && !q->dead && ops(q)->available(q);
}

bool
virtq_pop(struct virtq *q, struct virtq_chain *c)
{
	if (!q->st.enabled || q->dead)
		return false;
	c->out = c->in = 0;
	c->out_bytes = c->in_bytes = 0;
	c->slots = 0;
	return ops(q)->pop(q, c);
}

struct virtq_mark
virtq_mark(const struct virtq *q)
{
	return (struct virtq_mark){q->st.avail, q->st.avail_wrap};
}

void
virtq_rewind(struct virtq *q, struct virtq_mark m)
{
	q->st.avail = m.avail;
	q->st.avail_wrap = m.wrap;
}

void
virtq_push_many(struct virtq *q, const struct virtq_chain *c, const uint32_t *len, unsigned count)
{
	if (q->st.enabled && !q->dead && count > 0)
		ops(q)->push(q, c, len, count);
}

void
virtq_push(struct virtq *q, const struct virtq_chain *c, uint32_t len)
{
	virtq_push_many(q, c, &len, 1);
}

bool
virtq_wants_interrupt(struct virtq *q)
{
	if (!q->st.enabled || q->dead)
		return false;
	/* What was given back must be visible before the driver's wish is read. */
	gm_fence();
	return ops(q)->wants_interrupt(q);
}

bool
virtq_notifications(struct virtq *q, bool on)
{
	return q->st.enabled && !q->dead && ops(q)->notifications(q, on);
}

/* ---- chains ---- */

void
virtq_chain_free(struct virtq_chain *c)
{
	free(c->buf);
	*c = (struct virtq_chain){0};
}

static bool
make_room(struct virtq *q, struct virtq_chain *c)
{
	unsigned room = c->room != 0 ? 2 * c->room : 8;
	struct virtq_buf *grown;

	if (c->out + c->in < c->room)
		return true;
	grown = reallocarray(c->buf, room, sizeof(*grown));
	if (grown == NULL) {
		virtq_break(q, "the host has no memory for its descriptors");
		return false;
	}
	c->buf = grown;
	c->room = room;
	return true;
}

bool
virtq_chain_add(struct virtq *q, struct virtq_chain *c, const struct virtq_desc *d)
{
	bool writable = (d->flags & VIRTQ_DESC_WRITE) != 0;
	uint32_t *total = writable ? &c->in_bytes : &c->out_bytes;

	if (c->out + c->in >= q->max_size) {
		virtq_break(q, "a chain is longer than the queue, or a loop");
		return false;
	}
	if (!writable && c->in > 0) {
		virtq_break(q, "a readable buffer follows a writable one");
		return false;
	}
	if (__builtin_add_overflow(*total, d->len, total)) {
		virtq_break(q, "a chain has 4 GiB or more");
		return false;
	}
	if (writable ? !gm_writable(q->mem, d->gpa, d->len) : !gm_readable(q->mem, d->gpa, d->len)) {
		virtq_break(q, "a buffer is not in memory");
		return false;
	}
	if (!make_room(q, c))
		return false;
	c->buf[c->out + c->in] = (struct virtq_buf){d->gpa, d->len};
	if (writable)
		c->in++;
	else
		c->out++;
	return true;
}

static bool
table_entry(struct virtq *q, const struct virtq_desc *table, unsigned n, struct virtq_desc *d)
{
	uint8_t raw[VIRTQ_DESC_BYTES];

	if (!gm_read(q->mem, table->gpa + (uint64_t)n * VIRTQ_DESC_BYTES, raw, sizeof(raw))) {
		virtq_break(q, "an indirect table is not in memory");
		return false;
	}
	/* The packed form has id and flags the other way round (2.8.13). */
	*d = (struct virtq_desc){
	    .gpa = get_le64(raw),
	    .len = get_le32(raw + 8),
	    .flags = get_le16(raw + (q->packed ? 14 : 12)),
	    .next = get_le16(raw + (q->packed ? 12 : 14)),
	};
	if ((d->flags & VIRTQ_DESC_INDIRECT) != 0) {
		virtq_break(q, "an indirect table in an indirect table");
		return false;
	}
	return true;
}

bool
virtq_chain_add_table(struct virtq *q, struct virtq_chain *c, const struct virtq_desc *table)
{
	unsigned entries = table->len / VIRTQ_DESC_BYTES, n = 0;
	struct virtq_desc d;

	if (!q->indirect || (table->flags & VIRTQ_DESC_NEXT) != 0 || entries == 0 ||
	    table->len % VIRTQ_DESC_BYTES != 0) {
		virtq_break(q, "an indirect table that may not be");
		return false;
	}
	/* virtq_chain_add() bounds the walk, whatever the links are. Packed tables have none: all count. */
	for (unsigned seen = 0; seen < (q->packed ? entries : UINT32_MAX); seen++) {
		if (n >= entries) {
			virtq_break(q, "a link out of an indirect table");
			return false;
		}
		if (!table_entry(q, table, n, &d) || !virtq_chain_add(q, c, &d))
			return false;
		if (!q->packed && (d.flags & VIRTQ_DESC_NEXT) == 0)
			break;
		n = q->packed ? n + 1 : d.next;
	}
	return true;
}

/* ---- contents ---- */

/*
 * The next piece of [off, off + len) in one of the two parts. *at walks the buffers; returns 0 at the
 * end of the part.
 */
struct walk {
	const struct virtq_buf *buf, *end;
	size_t skip;
};

static struct walk
walk_begin(const struct virtq_chain *c, bool writable, size_t off)
{
	struct walk w = {c->buf + (writable ? c->out : 0), c->buf + c->out + (writable ? c->in : 0), off};

	return w;
}

static size_t
walk_next(struct walk *w, size_t len, uint64_t *gpa)
{
	size_t n;

	while (w->buf < w->end && w->skip >= w->buf->len)
		w->skip -= w->buf++->len;
	if (w->buf == w->end)
		return 0;
	n = MIN(len, w->buf->len - w->skip);
	*gpa = w->buf->gpa + w->skip;
	w->skip += n;
	return n;
}

/* Buffers were found to be RAM when they were taken, and memory does not go away under a device. */
size_t
virtq_read(const struct virtq *q, const struct virtq_chain *c, size_t off, void *buf, size_t len)
{
	struct walk w = walk_begin(c, false, off);
	size_t done = 0, n;
	uint64_t gpa;

	while (done < len && (n = walk_next(&w, len - done, &gpa)) > 0) {
		if (!gm_read(q->mem, gpa, (uint8_t *)buf + done, n))
			break;
		done += n;
	}
	return done;
}

size_t
virtq_write(const struct virtq *q, const struct virtq_chain *c, size_t off, const void *buf, size_t len)
{
	struct walk w = walk_begin(c, true, off);
	size_t done = 0, n;
	uint64_t gpa;

	while (done < len && (n = walk_next(&w, len - done, &gpa)) > 0) {
		if (!gm_write(q->mem, gpa, (const uint8_t *)buf + done, n))
			break;
		done += n;
	}
	return done;
}

int
virtq_iov(const struct virtq *q, const struct virtq_chain *c, bool writable, size_t off, size_t len,
	  struct iovec *iov, int max)
{
	struct walk w = walk_begin(c, writable, off);
	size_t done = 0, n;
	uint64_t gpa;
	int used = 0, got;

	while (done < len && (n = walk_next(&w, len - done, &gpa)) > 0) {
		got = gm_iov(q->mem, gpa, n, writable, iov + used, max - used);
		if (got < 0)
			return -1;
		used += got;
		done += n;
	}
	return done == len ? used : -1;
}

void
virtq_written(const struct virtq *q, const struct virtq_chain *c, size_t off, size_t len)
{
	struct walk w = walk_begin(c, true, off);
	size_t done = 0, n;
	uint64_t gpa;

	while (done < len && (n = walk_next(&w, len - done, &gpa)) > 0) {
		gpmap_notify(q->mem, gpa, n);
		done += n;
	}
}
