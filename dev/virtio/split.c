/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Split virtqueues (Virtual I/O Device 1.2, 2.7).
 *
 *   descriptors  16 * size     gpa(8) len(4) flags(2) next(2)
 *   driver area  6 + 2 * size  flags(2) idx(2) ring(2 each) used_event(2)
 *   device area  6 + 8 * size  flags(2) idx(2) ring(id 4, len 4 each) avail_event(2)
 */
#include "base/util.h"
#include "dev/virtio/queue.h"
#include "mem/gpmap.h"

enum { AVAIL_FLAGS = 0, AVAIL_IDX = 2, AVAIL_RING = 4, USED_FLAGS = 0, USED_IDX = 2, USED_RING = 4 };
enum { NO_INTERRUPT = 1, NO_NOTIFY = 1, USED_BYTES = 8 };

static uint64_t
used_event_gpa(const struct virtq *q)
{
	return q->st.driver_gpa + AVAIL_RING + 2ull * q->st.size;
}

static uint64_t
avail_event_gpa(const struct virtq *q)
{
	return q->st.device_gpa + USED_RING + (uint64_t)USED_BYTES * q->st.size;
}

static bool
split_rings_ok(struct virtq *q)
{
	const struct virtq_state *s = &q->st;

	return (s->desc_gpa & 15) == 0 && (s->driver_gpa & 1) == 0 && (s->device_gpa & 3) == 0 &&
	       gm_readable(q->mem, s->desc_gpa, (uint64_t)VIRTQ_DESC_BYTES * s->size) &&
	       gm_readable(q->mem, s->driver_gpa, 6 + 2ull * s->size) &&
	       gm_writable(q->mem, s->device_gpa, 6 + (uint64_t)USED_BYTES * s->size);
}

/* How many chains are there to be taken; 0 as well when the queue breaks. */
static unsigned
waiting(struct virtq *q)
{
	uint16_t idx, n;

	if (!gm_load_u16(q->mem, q->st.driver_gpa + AVAIL_IDX, &idx)) {
		virtq_break(q, "its driver area went away");
		return 0;
	}
	n = (uint16_t)(idx - q->st.avail);
	if (n > q->st.size) {
		virtq_break(q, "the available index jumped");
		return 0;
	}
	return n;
}

static bool
split_available(struct virtq *q)
{
	return waiting(q) > 0;
}

static bool
read_desc(struct virtq *q, uint16_t n, struct virtq_desc *d)
{
	uint8_t raw[VIRTQ_DESC_BYTES];

	if (n >= q->st.size) {
		virtq_break(q, "a link out of the descriptor table");
		return false;
	}
	if (!gm_read(q->mem, q->st.desc_gpa + (uint64_t)n * VIRTQ_DESC_BYTES, raw, sizeof(raw))) {
		virtq_break(q, "its descriptors went away");
		return false;
	}
	*d = (struct virtq_desc){get_le64(raw), get_le32(raw + 8), get_le16(raw + 12), get_le16(raw + 14)};
	return true;
}

static bool
split_pop(struct virtq *q, struct virtq_chain *c)
{
	struct virtq_desc d;
	uint16_t n;

	if (waiting(q) == 0)
		return false;
	if (!gm_load_u16(q->mem, q->st.driver_gpa + AVAIL_RING + 2ull * (q->st.avail & (q->st.size - 1)),
			 &n)) {
		virtq_break(q, "its driver area went away");
		return false;
	}
	c->id = n;
	/* virtq_chain_add() ends a loop of links. */
	do {
		if (!read_desc(q, n, &d))
			return false;
		if ((d.flags & VIRTQ_DESC_INDIRECT) != 0 ? !virtq_chain_add_table(q, c, &d)
							 : !virtq_chain_add(q, c, &d))
			return false;
		n = d.next;
	} while ((d.flags & VIRTQ_DESC_NEXT) != 0);
	c->slots = 1;
	q->st.avail++;
	return true;
}

static void
split_push(struct virtq *q, const struct virtq_chain *c, const uint32_t *len, unsigned count)
{
	bool ok = true;

	for (unsigned i = 0; i < count; i++) {
		uint8_t e[USED_BYTES];

		put_le32(e, c[i].id);
		put_le32(e + 4, len[i]);
		ok = ok && gm_write(q->mem,
				    q->st.device_gpa + USED_RING +
					(uint64_t)USED_BYTES * (q->st.used & (q->st.size - 1)),
				    e, sizeof(e));
		q->st.used++;
	}
	if (!ok || !gm_store_u16(q->mem, q->st.device_gpa + USED_IDX, q->st.used))
		virtq_break(q, "its device area went away");
}

static bool
split_wants_interrupt(struct virtq *q)
{
	uint16_t flags, event, old = q->st.signalled;
	bool valid = q->st.signalled_valid;

	if (!q->event_idx)
		return gm_load_u16(q->mem, q->st.driver_gpa + AVAIL_FLAGS, &flags) &&
		       (flags & NO_INTERRUPT) == 0;
	if (!gm_load_u16(q->mem, used_event_gpa(q), &event))
		return false;
	q->st.signalled = q->st.used;
	q->st.signalled_valid = 1;
	return !valid || virtq_passed(event, q->st.used, old);
}

static bool
split_notifications(struct virtq *q, bool on)
{
	bool ok = true;

	/* With EVENT_IDX an index that is left alone asks for nothing. */
	if (!q->event_idx)
		ok = gm_store_u16(q->mem, q->st.device_gpa + USED_FLAGS, on ? 0 : NO_NOTIFY);
	else if (on)
		ok = gm_store_u16(q->mem, avail_event_gpa(q), q->st.avail);
	if (!ok)
		virtq_break(q, "its device area went away");
	if (!on || !ok)
		return false;
	gm_fence();
	return waiting(q) > 0;
}

const struct virtq_ops virtq_split_ops = {
    .available = split_available,
    .pop = split_pop,
    .push = split_push,
    .wants_interrupt = split_wants_interrupt,
    .notifications = split_notifications,
    .rings_ok = split_rings_ok,
};
