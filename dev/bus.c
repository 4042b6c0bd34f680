/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Address decoding. The regions are one sorted array that is never changed: a writer
 * makes a new one and swaps the pointer.
 *
 * Readers mark themselves in a counter slot, take the pointer, copy the region they
 * want out and leave: handlers run outside, so a handler may change the bus. A writer,
 * after the swap, waits until it has seen every slot empty (a reader that comes later
 * has the new array) and frees the old array. Slots are spread over threads, a cache
 * line each, so that vCPUs do not contend. `lock` serialises writers; it is taken last.
 *
 * A handler may still be running on another thread when io_bus_remove() returns: devices
 * are destroyed only when no vCPU runs.
 */
#include "dev/bus.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

#define SLOTS 16

struct region_array {
	size_t count;
	struct io_region r[];
};

struct reader_slot {
	_Alignas(64) _Atomic unsigned readers;
};

struct io_bus {
	struct reader_slot slot[SLOTS];
	_Atomic(struct region_array *) regions;
	uint64_t limit; /* addresses are below it */
	pthread_mutex_t lock;
	char name[24];
};

static _Atomic unsigned next_slot;

static unsigned
own_slot(void)
{
	static _Thread_local unsigned slot; /* + 1; 0: not chosen */

	if (UNLIKELY(slot == 0))
		slot = atomic_fetch_add_explicit(&next_slot, 1, memory_order_relaxed) % SLOTS + 1;
	return slot - 1;
}

/* The first region that ends after addr, or count. */
static size_t
array_search(const struct region_array *a, uint64_t addr)
{
	size_t lo = 0, hi = a->count;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (a->r[mid].base + (a->r[mid].len - 1) < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Copy out the region that holds addr. */
static bool
bus_find(struct io_bus *b, uint64_t addr, struct io_region *out)
{
	_Atomic unsigned *readers = &b->slot[own_slot()].readers;
	const struct region_array *a;
	bool found;
	size_t i;

	/* Sequentially consistent, as the writer's swap: one of the two sees the other. */
	atomic_fetch_add(readers, 1);
	a = atomic_load(&b->regions);
	i = array_search(a, addr);
	found = i < a->count && a->r[i].base <= addr;
	if (found)
		*out = a->r[i];
	atomic_fetch_sub_explicit(readers, 1, memory_order_release);
	return found;
}

/* Put in a new array, free the old one when nobody looks at it. With b->lock held. */
static void
bus_swap(struct io_bus *b, struct region_array *a)
{
	struct region_array *old = atomic_exchange(&b->regions, a);

	for (unsigned i = 0; i < SLOTS; i++) {
		while (atomic_load(&b->slot[i].readers) != 0)
			sched_yield();
	}
	free(old);
}

static struct region_array *
array_alloc(size_t count)
{
	struct region_array *a = malloc(sizeof(*a) + count * sizeof(a->r[0]));

	if (a != NULL)
		a->count = count;
	return a;
}

struct io_bus *
io_bus_create(const char *name, uint64_t limit, struct err *err)
{
	struct io_bus *b = aligned_alloc(_Alignof(struct io_bus), sizeof(*b));
	struct region_array *a = array_alloc(0);

	if (b == NULL || a == NULL) {
		free(b);
		free(a);
		err_set(err, ENOMEM, "%s bus: no memory", name);
		return NULL;
	}
	memset(b, 0, sizeof(*b));
	atomic_init(&b->regions, a);
	b->limit = limit;
	pthread_mutex_init(&b->lock, NULL);
	strncpy(b->name, name, sizeof(b->name) - 1);
	return b;
}

void
io_bus_destroy(struct io_bus *b)
{
	if (b == NULL)
		return;
	free(atomic_load(&b->regions));
	pthread_mutex_destroy(&b->lock);
	free(b);
}

int
io_bus_add(struct io_bus *b, const struct io_region *r, struct err *err)
{
	const struct region_array *old;
	struct region_array *a;
	int rc = 0;
	size_t i;

	if (r->len == 0 || !range_fits(r->base, r->len, b->limit) || (r->widths & IO_ANY) == 0) {
		return err_set(err, EINVAL, "%s bus: %s at 0x%llx, 0x%llx bytes, does not fit the bus",
			       b->name, r->name, (unsigned long long)r->base, (unsigned long long)r->len);
	}
	pthread_mutex_lock(&b->lock);
	old = atomic_load_explicit(&b->regions, memory_order_relaxed);
	i = array_search(old, r->base);
	if (i < old->count && old->r[i].base <= r->base + (r->len - 1)) {
		rc = err_set(err, EEXIST, "%s bus: %s at 0x%llx overlaps %s at 0x%llx", b->name, r->name,
			     (unsigned long long)r->base, old->r[i].name, (unsigned long long)old->r[i].base);
	} else if ((a = array_alloc(old->count + 1)) == NULL) {
		rc = err_set(err, ENOMEM, "%s bus: no memory for %s", b->name, r->name);
	} else {
		memcpy(a->r, old->r, i * sizeof(a->r[0]));
		a->r[i] = *r;
		memcpy(a->r + i + 1, old->r + i, (old->count - i) * sizeof(a->r[0]));
		bus_swap(b, a);
	}
	pthread_mutex_unlock(&b->lock);
	return rc;
}

void
io_bus_remove(struct io_bus *b, uint64_t base, const void *dev)
{
	const struct region_array *old;
	struct region_array *a;
	size_t i;

	pthread_mutex_lock(&b->lock);
	old = atomic_load_explicit(&b->regions, memory_order_relaxed);
	i = array_search(old, base);
	if (i < old->count && old->r[i].base == base && old->r[i].dev == dev) {
		a = array_alloc(old->count - 1);
		LH_ASSERT(a != NULL);
		memcpy(a->r, old->r, i * sizeof(a->r[0]));
		memcpy(a->r + i, old->r + i + 1, (old->count - i - 1) * sizeof(a->r[0]));
		bus_swap(b, a);
	}
	pthread_mutex_unlock(&b->lock);
}

/* ---- accesses ---- */

static bool
region_takes(const struct io_region *r, uint64_t off, unsigned size)
{
	/* IO_W1, 2, 4, 8 are the widths themselves. */
	return (size & (size - 1)) == 0 && (r->widths & size) != 0 && range_fits(off, size, r->len);
}

static uint64_t
region_read(const struct io_region *r, uint64_t off, unsigned size)
{
	return r->read != NULL ? r->read(r->dev, off, size) & size_mask(size) : size_mask(size);
}

static void
region_write(const struct io_region *r, uint64_t off, unsigned size, uint64_t val)
{
	if (r->write != NULL)
		r->write(r->dev, off, size, val & size_mask(size));
}

/*
 * One step of a split access: how many of the `left` bytes at off go together, and in an access of
 * which width at which offset. Naturally aligned pieces, the widest legal one; where only wider
 * ones are legal, the aligned one around these bytes. False: no legal access covers the first byte.
 */
static bool
split_step(const struct io_region *r, uint64_t off, unsigned left, uint64_t *at, unsigned *width, unsigned *n)
{
	for (unsigned w = 8; w >= 1; w /= 2) {
		if (w <= left && off % w == 0 && region_takes(r, off, w)) {
			*at = off;
			*width = *n = w;
			return true;
		}
	}
	for (unsigned w = 2; w <= 8; w *= 2) {
		if (region_takes(r, off & ~(uint64_t)(w - 1), w)) {
			*at = off & ~(uint64_t)(w - 1);
			*width = w;
			*n = MIN(left, (unsigned)(*at + w - off));
			return true;
		}
	}
	return false;
}

static uint64_t
read_piece(const struct io_region *r, uint64_t at, unsigned width, uint64_t off, unsigned n)
{
	return region_read(r, at, width) >> (8 * (off - at)) & size_mask(n);
}

/* A padded write reads the other bytes first. */
static void
write_piece(const struct io_region *r, uint64_t at, unsigned width, uint64_t off, unsigned n, uint64_t val)
{
	unsigned shift = 8 * (unsigned)(off - at);

	if (n < width) {
		uint64_t mask = size_mask(n) << shift;

		val = (region_read(r, at, width) & ~mask) | (val << shift & mask);
	}
	region_write(r, at, width, val);
}

/* Byte by byte through whatever is there. *val: in for writes, out for reads. */
static void
access_split(struct io_bus *b, uint64_t addr, unsigned size, uint64_t *val, bool write)
{
	uint64_t result = 0;
	unsigned n;

	for (unsigned done = 0; done < size; done += n) {
		uint64_t a = addr + done, piece = size_mask(1), at;
		struct io_region r;
		unsigned width;

		n = 1;
		if (a >= addr && bus_find(b, a, &r) && (r.widths & IO_SPLIT) != 0 &&
		    split_step(&r, a - r.base, size - done, &at, &width, &n)) {
			if (write)
				write_piece(&r, at, width, a - r.base, n, *val >> (8 * done));
			else
				piece = read_piece(&r, at, width, a - r.base, n);
		}
		result |= piece << (8 * done);
	}
	if (!write)
		*val = result;
}

uint64_t
io_bus_read(struct io_bus *b, uint64_t addr, unsigned size)
{
	uint64_t val = 0;
	struct io_region r;

	LH_ASSERT(size >= 1 && size <= 8);
	if (LIKELY(bus_find(b, addr, &r))) {
		if (LIKELY(region_takes(&r, addr - r.base, size)))
			return region_read(&r, addr - r.base, size);
		if ((r.widths & IO_SPLIT) == 0)
			return size_mask(size);
	}
	access_split(b, addr, size, &val, false);
	return val;
}

void
io_bus_write(struct io_bus *b, uint64_t addr, unsigned size, uint64_t val)
{
	struct io_region r;

	LH_ASSERT(size >= 1 && size <= 8);
	if (LIKELY(bus_find(b, addr, &r))) {
		if (LIKELY(region_takes(&r, addr - r.base, size))) {
			region_write(&r, addr - r.base, size, val);
			return;
		}
		if ((r.widths & IO_SPLIT) == 0)
			return;
	}
	access_split(b, addr, size, &val, true);
}
