/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Packed virtqueues (Virtual I/O Device 1.2, 2.8): one ring of descriptors that both sides write.
 *
 *   descriptor   gpa(8) len(4) id(2) flags(2)
 *   event area   off_wrap(2) flags(2)   one the driver's, one the device's
 *
 * `avail` and `used` are places in the ring, each with a wrap counter.
 */
#include "base/util.h"
#include "dev/virtio/queue.h"
#include "mem/gpmap.h"

enum { DESC_ID = 12, DESC_FLAGS = 14, FLAG_AVAIL = 1 << 7, FLAG_USED = 1 << 15 };
enum { EVENT_OFF_WRAP = 0, EVENT_FLAGS = 2, EVENT_BYTES = 4 };
enum { EVENT_ENABLE = 0, EVENT_DISABLE = 1, EVENT_DESC = 2 };

static uint64_t
desc_gpa(const struct virtq *q, uint16_t n)
{
	return q->st.desc_gpa + (uint64_t)n * VIRTQ_DESC_BYTES;
}

static bool
packed_rings_ok(struct virtq *q)
{
	const struct virtq_state *s = &q->st;

	return (s->desc_gpa & 15) == 0 && (s->driver_gpa & 3) == 0 && (s->device_gpa & 3) == 0 &&
	       gm_writable(q->mem, s->desc_gpa, (uint64_t)VIRTQ_DESC_BYTES * s->size) &&
	       gm_readable(q->mem, s->driver_gpa, EVENT_BYTES) &&
	       gm_writable(q->mem, s->device_gpa, EVENT_BYTES);
}

static void
advance(const struct virtq *q, uint16_t *at, uint8_t *wrap, unsigned n)
{
	unsigned next = *at + n;

	if (next >= q->st.size) {
		next -= q->st.size;
		*wrap ^= 1;
	}
	*at = (uint16_t)next;
}

/* The flags of the next descriptor, when it is available. */
static bool
next_flags(struct virtq *q, uint16_t *flags)
{
	bool avail, used;

	if (!gm_load_u16(q->mem, desc_gpa(q, q->st.avail) + DESC_FLAGS, flags)) {
		virtq_break(q, "its ring went away");
		return false;
	}
	avail = (*flags & FLAG_AVAIL) != 0;
	used = (*flags & FLAG_USED) != 0;
	return avail == (q->st.avail_wrap != 0) && used != avail;
}

static bool
packed_available(struct virtq *q)
{
	uint16_t flags;

	return next_flags(q, &flags);
}

/* All but the flags, which were read first and are read no more. */
static bool
read_desc(struct virtq *q, uint16_t n, uint16_t flags, struct virtq_desc *d)
{
	uint8_t raw[DESC_FLAGS];

	if (!gm_read(q->mem, desc_gpa(q, n), raw, sizeof(raw))) {
		virtq_break(q, "its ring went away");
		return false;
	}
	*d = (struct virtq_desc){get_le64(raw), get_le32(raw + 8), flags, get_le16(raw + DESC_ID)};
	return true;
}

static bool
packed_pop(struct virtq *q, struct virtq_chain *c)
{
	uint16_t flags, at = q->st.avail;
	uint8_t wrap = q->st.avail_wrap;
	struct virtq_desc d;

	if (!next_flags(q, &flags))
		return false;
	for (;;) {
		if (!read_desc(q, at, flags, &d))
			return false;
		if ((flags & VIRTQ_DESC_INDIRECT) != 0 ? !virtq_chain_add_table(q, c, &d)
						       : !virtq_chain_add(q, c, &d))
			return false;
		c->slots++;
		advance(q, &at, &wrap, 1);
		if ((flags & VIRTQ_DESC_NEXT) == 0)
			break;
		if (c->slots >= q->st.size) {
			virtq_break(q, "a chain is longer than the ring");
			return false;
		}
		/* The rest of a chain was written before its first descriptor's flags. */
		if (!gm_load_u16(q->mem, desc_gpa(q, at) + DESC_FLAGS, &flags)) {
			virtq_break(q, "its ring went away");
			return false;
		}
	}
	c->id = d.next; /* the last one's id is the chain's */
	q->st.avail = at;
	q->st.avail_wrap = wrap;
	return true;
}

/* The flags of the first chain are written last: the driver sees all or none. */
static void
packed_push(struct virtq *q, const struct virtq_chain *c, const uint32_t *len, unsigned count)
{
	uint16_t first = q->st.used, first_flags = 0;
	bool ok = true;

	for (unsigned i = 0; i < count; i++) {
		uint16_t flags = (uint16_t)((q->st.used_wrap ? FLAG_AVAIL | FLAG_USED : 0) |
					    (len[i] > 0 ? VIRTQ_DESC_WRITE : 0));
		uint8_t body[6];

		put_le32(body, len[i]);
		put_le16(body + 4, c[i].id);
		ok = ok && gm_write(q->mem, desc_gpa(q, q->st.used) + 8, body, sizeof(body));
		if (i == 0)
			first_flags = flags;
		else
			ok = ok && gm_store_u16(q->mem, desc_gpa(q, q->st.used) + DESC_FLAGS, flags);
		advance(q, &q->st.used, &q->st.used_wrap, c[i].slots);
		q->st.signalled = (uint16_t)(q->st.signalled + c[i].slots);
	}
	if (!ok || !gm_store_u16(q->mem, desc_gpa(q, first) + DESC_FLAGS, first_flags))
		virtq_break(q, "its ring went away");
}

/* 2.8.10: the driver's event as a number on the lap of `used`. `signalled` counts what was given back since.
 */
static bool
packed_wants_interrupt(struct virtq *q)
{
	uint16_t flags, off_wrap, event, now = q->st.used, old = (uint16_t)(now - q->st.signalled);
	bool valid = q->st.signalled_valid;

	q->st.signalled = 0;
	q->st.signalled_valid = 1;
	if (!gm_load_u16(q->mem, q->st.driver_gpa + EVENT_FLAGS, &flags) || flags == EVENT_DISABLE)
		return false;
	if (flags != EVENT_DESC || !q->event_idx || !valid)
		return true;
	if (!gm_load_u16(q->mem, q->st.driver_gpa + EVENT_OFF_WRAP, &off_wrap))
		return false;
	event = off_wrap & 0x7fff;
	if ((off_wrap >> 15) != q->st.used_wrap)
		event = (uint16_t)(event - q->st.size);
	return virtq_passed(event, now, old);
}

static bool
packed_notifications(struct virtq *q, bool on)
{
	uint16_t flags = on ? EVENT_ENABLE : EVENT_DISABLE;
	bool ok = true;

	if (on && q->event_idx) {
		ok = gm_store_u16(q->mem, q->st.device_gpa + EVENT_OFF_WRAP,
				  (uint16_t)(q->st.avail | q->st.avail_wrap << 15));
		flags = EVENT_DESC;
	}
	if (!ok || !gm_store_u16(q->mem, q->st.device_gpa + EVENT_FLAGS, flags)) {
		virtq_break(q, "its device area went away");
		return false;
	}
	if (!on)
		return false;
	gm_fence();
	return packed_available(q);
}

const struct virtq_ops virtq_packed_ops = {
    .available = packed_available,
    .pop = packed_pop,
    .push = packed_push,
    .wants_interrupt = packed_wants_interrupt,
    .notifications = packed_notifications,
    .rings_ok = packed_rings_ok,
};
