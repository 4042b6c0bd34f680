/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory objects on memfd, and the guest-physical map: a sorted array that changes only while no vCPU runs.
 */
#define _GNU_SOURCE
/* gpmap_find() is called where the guest's vector registers are live (engine/soft/jit_run.c). */
#pragma GCC target("general-regs-only")
#include "mem/gpmap.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>
#include "base/util.h"

#define PAGE 4096ull

struct memobj {
	uint64_t size;
	int fd;
	void *hva;
};

struct gpmap {
	struct gm_range *r;
	size_t count;
	uint64_t pages;
	gm_watch_fn watch;
	void *watch_arg;
};

struct memobj *
memobj_create(const char *name, uint64_t size, struct err *err)
{
	struct memobj *m = calloc(1, sizeof(*m));
	if (m == NULL)
		goto nomem;
	m->size = size;
	m->fd = memfd_create(name, MFD_CLOEXEC);
	if (m->fd < 0 || size > INT64_MAX || ftruncate(m->fd, (off_t)size) != 0) {
		err_set(err, errno, "memory: %s, %llu MiB: %s%s", name, (unsigned long long)(size / MIB),
			strerror(errno), err_limit_hint(errno));
		goto fail;
	}
	m->hva = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, m->fd, 0);
	if (m->hva == MAP_FAILED) {
		m->hva = NULL;
		err_set(err, errno, "memory: %s, %llu MiB: %s (ask for less with memory.size)", name,
			(unsigned long long)(size / MIB), strerror(errno));
		goto fail;
	}
	return m;
nomem:
	err_set(err, ENOMEM, "memory: %s: no memory", name);
	return NULL;
fail:
	memobj_destroy(m);
	return NULL;
}

void
memobj_destroy(struct memobj *m)
{
	if (m == NULL)
		return;
	if (m->hva != NULL)
		munmap(m->hva, m->size);
	if (m->fd >= 0)
		close(m->fd);
	free(m);
}

uint64_t
memobj_size(const struct memobj *m)
{
	return m->size;
}

int
memobj_fd(const struct memobj *m)
{
	return m->fd;
}

void *
memobj_hva(const struct memobj *m)
{
	return m->hva;
}

struct gpmap *
gpmap_create(struct err *err)
{
	struct gpmap *g = calloc(1, sizeof(*g));
	if (g == NULL)
		err_set(err, ENOMEM, "memory map: no memory");
	return g;
}

void
gpmap_destroy(struct gpmap *g)
{
	if (g == NULL)
		return;
	free(g->r);
	free(g);
}

int
gpmap_map(struct gpmap *g, uint64_t gpa, uint64_t len, struct memobj *obj, uint64_t off, enum gm_kind kind,
	  struct err *err)
{
	size_t at = 0;
	if (len == 0 || ((gpa | len | off) & (PAGE - 1)) || !range_fits(off, len, obj->size) ||
	    gpa + len < gpa)
		return err_set(err, EINVAL, "memory map: bad range %#llx+%#llx", (unsigned long long)gpa,
			       (unsigned long long)len);
	while (at < g->count && g->r[at].gpa + g->r[at].len <= gpa)
		at++;
	if (at < g->count && g->r[at].gpa < gpa + len)
		return err_set(err, EEXIST, "memory map: %#llx+%#llx overlaps %#llx", (unsigned long long)gpa,
			       (unsigned long long)len, (unsigned long long)g->r[at].gpa);
	struct gm_range *n = realloc(g->r, (g->count + 1) * sizeof(*n));
	if (n == NULL)
		return err_set(err, ENOMEM, "memory map: no memory");
	g->r = n;
	memmove(&n[at + 1], &n[at], (g->count - at) * sizeof(*n));
	n[at] = (struct gm_range){.gpa = gpa,
				  .len = len,
				  .obj = obj,
				  .off = off,
				  .kind = kind,
				  .hva = (uint8_t *)obj->hva + off,
				  .first_page = g->pages};
	g->count++;
	g->pages += len / PAGE;
	return 0;
}

const struct gm_range *
gpmap_find(const struct gpmap *g, uint64_t gpa)
{
	for (size_t n = 0; n < g->count; n++) { /* a handful of ranges */
		if (gpa - g->r[n].gpa < g->r[n].len)
			return &g->r[n];
	}
	return NULL;
}

size_t
gpmap_count(const struct gpmap *g)
{
	return g->count;
}

const struct gm_range *
gpmap_get(const struct gpmap *g, size_t i)
{
	return &g->r[i];
}

uint64_t
gpmap_pages(const struct gpmap *g)
{
	return g->pages;
}

void
gpmap_set_watcher(struct gpmap *g, gm_watch_fn fn, void *arg)
{
	g->watch = fn;
	g->watch_arg = arg;
}

/* True when [gpa, gpa + len) lies in mapped ranges, all writable when `ram_only`. */
static bool
covered(const struct gpmap *g, uint64_t gpa, uint64_t len, bool ram_only)
{
	while (len != 0) {
		const struct gm_range *r = gpmap_find(g, gpa);
		if (r == NULL || (ram_only && r->kind != GM_RAM))
			return false;
		uint64_t n = MIN(len, r->len - (gpa - r->gpa));
		gpa += n;
		len -= n;
	}
	return true;
}

bool
gm_read(const struct gpmap *g, uint64_t gpa, void *buf, size_t len)
{
	uint8_t *p = buf;
	if (gpa + len < gpa || !covered(g, gpa, len, false))
		return false;
	while (len != 0) {
		const struct gm_range *r = gpmap_find(g, gpa);
		size_t n = (size_t)MIN(len, r->len - (gpa - r->gpa));
		memcpy(p, r->hva + (gpa - r->gpa), n);
		p += n;
		gpa += n;
		len -= n;
	}
	return true;
}

static bool
write_ranges(struct gpmap *g, uint64_t gpa, const void *buf, size_t len, bool ram_only)
{
	const uint8_t *p = buf;
	uint64_t start = gpa, total = len;
	if (gpa + len < gpa || !covered(g, gpa, len, ram_only))
		return false;
	while (len != 0) {
		const struct gm_range *r = gpmap_find(g, gpa);
		size_t n = (size_t)MIN(len, r->len - (gpa - r->gpa));
		memcpy(r->hva + (gpa - r->gpa), p, n);
		p += n;
		gpa += n;
		len -= n;
	}
	if (g->watch != NULL && total != 0)
		g->watch(g->watch_arg, start, total);
	return true;
}

bool
gm_write(struct gpmap *g, uint64_t gpa, const void *buf, size_t len)
{
	return write_ranges(g, gpa, buf, len, true);
}

bool
gm_load(struct gpmap *g, uint64_t gpa, const void *buf, size_t len)
{
	return write_ranges(g, gpa, buf, len, false);
}

void
gpmap_notify(struct gpmap *g, uint64_t gpa, uint64_t len)
{
	if (g->watch != NULL && len != 0 && covered(g, gpa, len, false))
		g->watch(g->watch_arg, gpa, len);
}

bool
gm_readable(const struct gpmap *g, uint64_t gpa, uint64_t len)
{
	return gpa + len >= gpa && covered(g, gpa, len, false);
}

bool
gm_writable(const struct gpmap *g, uint64_t gpa, uint64_t len)
{
	return gpa + len >= gpa && covered(g, gpa, len, true);
}

/* An even address inside a range of whole pages: both bytes are in it. */
bool
gm_load_u16(const struct gpmap *g, uint64_t gpa, uint16_t *v)
{
	const struct gm_range *r = (gpa & 1) == 0 ? gpmap_find(g, gpa) : NULL;

	if (r == NULL || r->kind != GM_RAM)
		return false;
	*v = __atomic_load_n((const uint16_t *)(const void *)(r->hva + (gpa - r->gpa)), __ATOMIC_ACQUIRE);
	return true;
}

bool
gm_store_u16(struct gpmap *g, uint64_t gpa, uint16_t v)
{
	const struct gm_range *r = (gpa & 1) == 0 ? gpmap_find(g, gpa) : NULL;

	if (r == NULL || r->kind != GM_RAM)
		return false;
	__atomic_store_n((uint16_t *)(void *)(r->hva + (gpa - r->gpa)), v, __ATOMIC_RELEASE);
	if (g->watch != NULL)
		g->watch(g->watch_arg, gpa, sizeof(v));
	return true;
}

int
gm_iov(const struct gpmap *g, uint64_t gpa, uint64_t len, bool write, struct iovec *iov, int max)
{
	int n = 0;

	if (!(write ? gm_writable(g, gpa, len) : gm_readable(g, gpa, len)))
		return -1;
	while (len != 0) {
		const struct gm_range *r = gpmap_find(g, gpa);
		uint64_t part = MIN(len, r->len - (gpa - r->gpa));

		if (n == max)
			return -1;
		iov[n++] = (struct iovec){r->hva + (gpa - r->gpa), (size_t)part};
		gpa += part;
		len -= part;
	}
	return n;
}
