/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * MSI-X (PCI Local Bus 3.0 6.8.2). The BAR, 4 KiB:
 *
 *   000  table, 16 bytes an entry: address, upper address, data, control (bit 0: masked)
 *   800  pending bits, read-only
 *
 * Enable and function mask live in configuration space; copies of them are kept under the lock, so that
 * raising needs no configuration lock.
 *
 * A vector that has sent the same message for a while gets a route of the host's kernel, if there are any
 * (pci_root_wires.irqfd): an eventfd, which others than this process can signal too. Not at once, since a
 * change of routes takes the kernel long. Masks and pending bits stay here: what must not go is not written.
 */
#include "dev/pci/msi.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "dev/pci/internal.h"

enum { CAP_MSIX = 0x11, CAP_LEN = 12, CAP_CONTROL = 2, CAP_TABLE = 4, CAP_PBA = 8 };
enum { CONTROL_ENABLE = 1 << 15, CONTROL_MASK = 1 << 14 };
enum { BAR_BYTES = 4096, ENTRY_BYTES = 16, PBA = 0x800, PBA_WORDS = PCI_MSIX_VECTORS / 64 };
enum { ENTRY_MASKED = 1, ENTRY_CONTROL = 3 };
enum { ROUTE_AFTER = 64 }; /* messages */

struct msix_state {
	uint32_t table[PCI_MSIX_VECTORS][ENTRY_BYTES / 4];
	uint64_t pending[PBA_WORDS];
};

static const struct field msix_fields[] = {
    FIELD_ARRAY(1, struct msix_state, table, FIELD_U32, PCI_MSIX_VECTORS *ENTRY_BYTES / 4),
    FIELD_ARRAY(2, struct msix_state, pending, FIELD_U64, PBA_WORDS),
};

static const struct field_table msix_table = {
    .name = "pci-msix",
    .version = 1,
    .size = sizeof(struct msix_state),
    .count = ARRAY_LEN(msix_fields),
    .fields = msix_fields,
};

struct pci_msix {
	struct pci_func *f;
	unsigned vectors, cap;
	pthread_mutex_t lock;
	struct msix_state st;
	/* derived, under lock: */
	bool masked, master;
	_Atomic bool enabled;
	bool started;			    /* vectors may have routes */
	const struct pci_root_wires *wires; /* of any routes */
	struct {
		bool on;
		int fd;	       /* while on */
		unsigned sent; /* messages, while off */
	} route[PCI_MSIX_VECTORS];
};

/* ---- routes: lock held ---- */

static void
add_route(struct pci_msix *m, unsigned n)
{
	const uint32_t *e = m->st.table[n];
	int fd;

	m->route[n].sent = 0;
	m->wires = &m->f->bus->root->w;
	if (!m->started || m->wires->irqfd == NULL)
		return;
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0)
		return;
	m->route[n].fd = fd;
	m->route[n].on =
	    m->wires->irqfd(m->wires->irqfd_ctx, fd, (uint64_t)e[1] << 32 | (e[0] & ~3u), e[2], true) == 0;
	if (!m->route[n].on)
		close(fd);
}

static void
drop_route(struct pci_msix *m, unsigned n)
{
	m->route[n].sent = 0;
	if (!m->route[n].on)
		return;
	(void)m->wires->irqfd(m->wires->irqfd_ctx, m->route[n].fd, 0, 0, false);
	close(m->route[n].fd);
	m->route[n].on = false;
}

static void
drop_routes(struct pci_msix *m)
{
	for (unsigned n = 0; n < m->vectors; n++)
		drop_route(m, n);
}

/* The message goes by its route. False: it has none. */
static bool
signal_route(struct pci_msix *m, unsigned n)
{
	uint64_t one = 1;

	if (!m->route[n].on && ++m->route[n].sent > ROUTE_AFTER)
		add_route(m, n);
	if (!m->route[n].on || write(m->route[n].fd, &one, sizeof(one)) != sizeof(one))
		return false;
	atomic_fetch_add_explicit(&m->f->bus->root->messages_by_irqfd, 1, memory_order_relaxed);
	return true;
}

/* ---- messages ---- */

static bool
can_send(const struct pci_msix *m, unsigned n)
{
	return atomic_load(&m->enabled) && !m->masked && m->master && (m->st.table[n][3] & ENTRY_MASKED) == 0;
}

static void
send(struct pci_msix *m, unsigned n)
{
	const uint32_t *e = m->st.table[n];

	m->st.pending[n / 64] &= ~BIT(n % 64);
	if (!signal_route(m, n))
		pci_func_message(m->f, (uint64_t)e[1] << 32 | (e[0] & ~3u), e[2]);
}

static void
send_pending(struct pci_msix *m)
{
	for (unsigned n = 0; n < m->vectors; n++) {
		if ((m->st.pending[n / 64] >> (n % 64) & 1) != 0 && can_send(m, n))
			send(m, n);
	}
}

void
pci_msix_raise(struct pci_msix *m, unsigned n)
{
	if (n >= m->vectors || m->f->bus == NULL)
		return;
	pthread_mutex_lock(&m->lock);
	if (can_send(m, n))
		send(m, n);
	else if (atomic_load(&m->enabled))
		m->st.pending[n / 64] |= BIT(n % 64);
	pthread_mutex_unlock(&m->lock);
}

bool
pci_msix_enabled(const struct pci_msix *m)
{
	return atomic_load(&m->enabled);
}

unsigned
pci_msix_vectors(const struct pci_msix *m)
{
	return m->vectors;
}

void
pci_msix_sync(struct pci_msix *m)
{
	uint32_t control = pci_func_get(m->f, m->cap + CAP_CONTROL, 2);

	pthread_mutex_lock(&m->lock);
	atomic_store(&m->enabled, (control & CONTROL_ENABLE) != 0);
	m->masked = (control & CONTROL_MASK) != 0;
	m->master = pci_func_bus_master(m->f);
	if (m->f->bus != NULL)
		send_pending(m);
	pthread_mutex_unlock(&m->lock);
}

/* ---- the BAR ---- */

static uint32_t
read_dword(const struct pci_msix *m, uint64_t off)
{
	if (off < m->vectors * (uint64_t)ENTRY_BYTES)
		return m->st.table[off / ENTRY_BYTES][off % ENTRY_BYTES / 4];
	if (off >= PBA && off < PBA + 8 * PBA_WORDS)
		return (uint32_t)(m->st.pending[(off - PBA) / 8] >> (8 * (off & 4)));
	return 0;
}

static void
write_dword(struct pci_msix *m, uint64_t off, uint32_t val)
{
	unsigned n = (unsigned)(off / ENTRY_BYTES), reg = off % ENTRY_BYTES / 4;

	if (n >= m->vectors)
		return;
	val &= reg == ENTRY_CONTROL ? ENTRY_MASKED : ~0u;
	if (reg != ENTRY_CONTROL && m->st.table[n][reg] != val)
		drop_route(m, n);
	m->st.table[n][reg] = val;
	if ((m->st.pending[n / 64] >> (n % 64) & 1) != 0 && can_send(m, n))
		send(m, n);
}

static uint64_t
bar_read(void *dev, uint64_t off, unsigned size)
{
	struct pci_msix *m = ((struct pci_func *)dev)->msix;
	uint64_t v;

	pthread_mutex_lock(&m->lock);
	v = read_dword(m, off);
	if (size == 8)
		v |= (uint64_t)read_dword(m, off + 4) << 32;
	pthread_mutex_unlock(&m->lock);
	return v;
}

static void
bar_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct pci_msix *m = ((struct pci_func *)dev)->msix;

	pthread_mutex_lock(&m->lock);
	write_dword(m, off, (uint32_t)val);
	if (size == 8)
		write_dword(m, off + 4, (uint32_t)(val >> 32));
	pthread_mutex_unlock(&m->lock);
}

/* ---- as a device ---- */

static void
clear_table(struct pci_msix *m)
{
	m->st = (struct msix_state){0};
	for (unsigned n = 0; n < m->vectors; n++)
		m->st.table[n][3] = ENTRY_MASKED;
}

struct pci_msix *
pci_msix_create(struct pci_func *f, unsigned bar, unsigned vectors, struct err *err)
{
	const struct pci_bar b = {
	    .kind = PCI_BAR_MEM32,
	    .len = BAR_BYTES,
	    .widths = IO_W4 | IO_W8 | IO_SPLIT,
	    .read = bar_read,
	    .write = bar_write,
	    .of_func = true,
	};
	struct pci_msix *m = calloc(1, sizeof(*m));

	LH_ASSERT(vectors >= 1 && vectors <= PCI_MSIX_VECTORS && f->msix == NULL);
	if (m == NULL) {
		err_set(err, ENOMEM, "pci: no memory");
		return NULL;
	}
	m->f = f;
	m->vectors = vectors;
	m->cap = pci_func_cap(f, CAP_MSIX, CAP_LEN);
	LH_ASSERT(m->cap != 0);
	pci_func_set(f, m->cap + CAP_CONTROL, 2, vectors - 1, CONTROL_ENABLE | CONTROL_MASK);
	pci_func_put(f, m->cap + CAP_TABLE, 4, bar);
	pci_func_put(f, m->cap + CAP_PBA, 4, PBA | bar);
	pci_func_bar(f, bar, &b);
	pthread_mutex_init(&m->lock, NULL);
	clear_table(m);
	f->msix = m;
	return m;
}

static void
msix_destroy(void *dev)
{
	struct pci_msix *m = dev;

	if (m == NULL)
		return;
	pci_bus_remove(m->f); /* no access to the table any more */
	drop_routes(m);
	m->f->msix = NULL;
	pthread_mutex_destroy(&m->lock);
	free(m);
}

static void
msix_reset(void *dev)
{
	struct pci_msix *m = dev;

	pthread_mutex_lock(&m->lock);
	drop_routes(m);
	clear_table(m);
	pthread_mutex_unlock(&m->lock);
}

static void
msix_start(void *dev)
{
	struct pci_msix *m = dev;

	pthread_mutex_lock(&m->lock);
	m->started = true;
	pthread_mutex_unlock(&m->lock);
}

/* What a route was sent has gone in when it is dropped: before the APICs' state is taken. */
static void
msix_stop(void *dev)
{
	struct pci_msix *m = dev;

	pthread_mutex_lock(&m->lock);
	m->started = false;
	drop_routes(m);
	pthread_mutex_unlock(&m->lock);
}

static void *
msix_st(void *dev)
{
	return &((struct pci_msix *)dev)->st;
}

static int
msix_post_load(void *dev, struct err *err)
{
	struct pci_msix *m = dev;

	(void)err;
	for (unsigned n = 0; n < PCI_MSIX_VECTORS; n++) {
		m->st.table[n][3] &= ENTRY_MASKED;
		if (n >= m->vectors) {
			memset(m->st.table[n], 0, ENTRY_BYTES);
			m->st.pending[n / 64] &= ~BIT(n % 64);
		}
	}
	return 0;
}

const struct device_ops pci_msix_device_ops = {
    .type = "pci-msix",
    .destroy = msix_destroy,
    .reset = msix_reset,
    .start = msix_start,
    .stop = msix_stop,
    .state = &msix_table,
    .st = msix_st,
    .post_load = msix_post_load,
};
