/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest memory. A memory object (memfd) is mapped into lhyve once and placed at
 * any number of guest-physical ranges. Devices and loaders reach guest memory
 * only through gm_read()/gm_write(); host pointers are for mem/ and engine/.
 *
 * Threads: lookups and accesses from any thread without a lock; mappings change
 * only while no vCPU runs.
 */
#ifndef LHYVE_MEM_GPMAP_H
#define LHYVE_MEM_GPMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

struct memobj;
struct gpmap;

/* Anonymous shared memory of `size` bytes (a page multiple), zeroed, not resident until touched. */
LH_MUST_CHECK struct memobj *memobj_create(const char *name, uint64_t size, struct err *err);
void memobj_destroy(struct memobj *m); /* after every gpmap that holds it is gone */
uint64_t memobj_size(const struct memobj *m);
int memobj_fd(const struct memobj *m);
void *memobj_hva(const struct memobj *m);

enum gm_kind { GM_RAM, GM_ROM }; /* ROM: guest writes are dropped */

struct gm_range {
	uint64_t gpa, len; /* bytes, page multiples */
	struct memobj *obj;
	uint64_t off; /* of gpa in obj */
	enum gm_kind kind;
	uint8_t *hva;	     /* of gpa */
	uint64_t first_page; /* dense number of this range's first page: index for per-page tables */
};

LH_MUST_CHECK struct gpmap *gpmap_create(struct err *err);
void gpmap_destroy(struct gpmap *g);

/* Place obj[off, off + len) at gpa. Fails on overlap or misalignment. */
LH_MUST_CHECK int gpmap_map(struct gpmap *g, uint64_t gpa, uint64_t len, struct memobj *obj, uint64_t off,
			    enum gm_kind kind, struct err *err);

/* The range that holds gpa, or NULL (device or nothing). */
const struct gm_range *gpmap_find(const struct gpmap *g, uint64_t gpa);
size_t gpmap_count(const struct gpmap *g);
const struct gm_range *gpmap_get(const struct gpmap *g, size_t i); /* in order of gpa */
uint64_t gpmap_pages(const struct gpmap *g);			   /* pages of all ranges */

/*
 * Copy between host and guest memory. Whole length inside RAM/ROM or nothing is
 * done and false comes back. gm_write() writes RAM only, tells the engines'
 * watchers (translated code) and marks pages dirty.
 */
LH_MUST_CHECK bool gm_read(const struct gpmap *g, uint64_t gpa, void *buf, size_t len);
LH_MUST_CHECK bool gm_write(struct gpmap *g, uint64_t gpa, const void *buf, size_t len);
/* As gm_write(), and into ROM as well: for loaders, before the VM runs. */
LH_MUST_CHECK bool gm_load(struct gpmap *g, uint64_t gpa, const void *buf, size_t len);

/*
 * An aligned 16-bit value that the guest changes while we look: one load that what follows cannot pass, one
 * store that what came before cannot pass. false: gpa is odd, or not RAM.
 */
LH_MUST_CHECK bool gm_load_u16(const struct gpmap *g, uint64_t gpa, uint16_t *v);
LH_MUST_CHECK bool gm_store_u16(struct gpmap *g, uint64_t gpa, uint16_t v);

/*
 * What we stored into guest memory is visible to the guest before what we load next is read: the two sides of a
 * queue's "more?" and "wake me". (As a function of ours, since ThreadSanitizer knows no fences.)
 */
static inline void
gm_fence(void)
{
	__asm__ volatile("lock; addl $0, (%%rsp)" ::: "memory", "cc");
}

/* True when the whole of [gpa, gpa + len) can be read (RAM or ROM), or written (RAM). */
bool gm_readable(const struct gpmap *g, uint64_t gpa, uint64_t len);
bool gm_writable(const struct gpmap *g, uint64_t gpa, uint64_t len);

/*
 * The host memory behind [gpa, gpa + len), for a system call that reads or writes it (readv, io_uring): fills
 * up to `max` entries, returns how many, or -1 when a byte is not there or the room does not do. Valid until
 * the VM is destroyed. Who lets the host write calls gpmap_notify() afterwards.
 */
struct iovec;
LH_MUST_CHECK int gm_iov(const struct gpmap *g, uint64_t gpa, uint64_t len, bool write, struct iovec *iov,
			 int max);

/* One watcher is called after each gm_write() with the range written, from the writing thread. */
typedef void (*gm_watch_fn)(void *arg, uint64_t gpa, uint64_t len);
void gpmap_set_watcher(struct gpmap *g, gm_watch_fn fn, void *arg);
/* Tell the watcher about [gpa, gpa + len), all of it RAM or ROM, as if it had been written. */
void gpmap_notify(struct gpmap *g, uint64_t gpa, uint64_t len);

#endif
