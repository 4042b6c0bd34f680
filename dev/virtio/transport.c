/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The PCI transport's registers (Virtual I/O Device 1.2, 4.1). BAR 1 is MSI-X; BAR 4 (64-bit), 16 KiB:
 *
 *   0000  common configuration    1000  ISR status
 *   2000  device configuration    3000  notifications, four bytes a queue
 *
 * and a window in configuration space (4.1.4.9) onto the same BAR, for those who cannot map it.
 *
 * Common configuration is a table: offset, size, and a getter and setter each.
 */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "dev/bus.h"
#include "dev/virtio/internal.h"

enum { VENDOR_VIRTIO = 0x1af4, DEVICE_BASE = 0x1040, SUBSYS_MODERN = 0x1100 };
enum { BAR_MSIX = 1, BAR_REGS = 4, BAR_REGS_BYTES = 0x4000, AREA_BYTES = 0x1000 };
enum { AREA_COMMON, AREA_ISR, AREA_DEVICE, AREA_NOTIFY };
enum { CAP_VENDOR = 0x09, CAP_LEN = 16, CAP_NOTIFY_LEN = 20, CAP_PCI_LEN = 20, NOTIFY_MULTIPLIER = 4 };
enum { CFG_COMMON = 1, CFG_NOTIFY = 2, CFG_ISR = 3, CFG_DEVICE = 4, CFG_PCI = 5 };
enum { CAP_CFG_LEN = 2, CAP_CFG_TYPE = 3, CAP_BAR = 4, CAP_OFFSET = 8, CAP_LENGTH = 12, CAP_DATA = 16 };

/* ---- interrupts ---- */

static void
update_intx(struct virtio *v)
{
	pci_func_intx(v->func, v->st.isr != 0);
}

void
virtio_interrupt(struct virtio *v, uint16_t vector, uint8_t isr)
{
	if (v->msix != NULL && pci_msix_enabled(v->msix)) {
		if (vector != VIRTIO_NO_VECTOR)
			pci_msix_raise(v->msix, vector);
		return;
	}
	v->st.isr |= isr;
	if (!pci_msi_raise(v->func, 0))
		update_intx(v);
}

void
virtio_transport_reset(struct virtio *v)
{
	pci_func_intx(v->func, false);
}

/* ---- common configuration (4.1.4.3) ---- */

static struct virtq *
selected(struct virtio *v)
{
	return v->st.queue_select < v->cfg.queues ? &v->queue[v->st.queue_select] : NULL;
}

static uint64_t
get_device_feature(struct virtio *v)
{
	unsigned n = v->st.device_feature_select;

	return n < 2 ? v->device_features >> (32 * n) & UINT32_MAX : 0;
}

static uint64_t
get_driver_feature(struct virtio *v)
{
	unsigned n = v->st.driver_feature_select;

	return n < 2 ? v->st.driver_features >> (32 * n) & UINT32_MAX : 0;
}

/* Fixed once FEATURES_OK is set (3.1.1, 2.2.1). */
static void
set_driver_feature(struct virtio *v, uint64_t val)
{
	unsigned n = v->st.driver_feature_select;

	if ((v->st.status & VIRTIO_STATUS_FEATURES_OK) != 0)
		return;
	if (n < 2)
		v->st.driver_features =
		    (v->st.driver_features & ~(UINT32_MAX * 1ull << (32 * n))) | val << (32 * n);
}

static uint16_t
usable_vector(const struct virtio *v, uint64_t vector)
{
	return v->msix != NULL && vector < pci_msix_vectors(v->msix) ? (uint16_t)vector : VIRTIO_NO_VECTOR;
}

static void
set_config_vector(struct virtio *v, uint64_t val)
{
	v->st.config_msix_vector = usable_vector(v, val);
}

static void
set_queue_vector(struct virtio *v, uint64_t val)
{
	if (selected(v) != NULL)
		selected(v)->st.msix_vector = usable_vector(v, val);
}

static uint64_t
get_queue_vector(struct virtio *v)
{
	return selected(v) != NULL ? selected(v)->st.msix_vector : VIRTIO_NO_VECTOR;
}

static uint64_t
get_num_queues(struct virtio *v)
{
	return v->cfg.queues;
}

static uint64_t
get_queue_size(struct virtio *v)
{
	return selected(v) != NULL ? selected(v)->st.size : 0;
}

static uint64_t
get_queue_enable(struct virtio *v)
{
	return selected(v) != NULL && selected(v)->st.enabled;
}

static uint64_t
get_notify_off(struct virtio *v)
{
	return selected(v) != NULL ? v->st.queue_select : 0;
}

/* A queue's registers are fixed while it is enabled. */
static struct virtq *
changeable(struct virtio *v)
{
	struct virtq *q = selected(v);

	return q != NULL && !q->st.enabled && !v->st.resetting ? q : NULL;
}

static void
set_queue_size(struct virtio *v, uint64_t val)
{
	if (changeable(v) != NULL)
		changeable(v)->st.size = (uint16_t)val;
}

static void
set_queue_enable(struct virtio *v, uint64_t val)
{
	struct virtq *q = changeable(v);

	if (q != NULL && val == 1 && (v->st.status & VIRTIO_STATUS_FEATURES_OK) != 0 && virtq_enable(q) &&
	    (v->st.status & VIRTIO_STATUS_DRIVER_OK) != 0)
		virtio_kick(v, q->index);
}

/* The old one until the work in flight has ended. */
static uint64_t
get_status(struct virtio *v)
{
	return v->st.status;
}

static void
set_status(struct virtio *v, uint64_t val)
{
	virtio_set_status(v, (uint8_t)val);
}

static uint64_t
get_device_feature_select(struct virtio *v)
{
	return v->st.device_feature_select;
}

static void
set_device_feature_select(struct virtio *v, uint64_t val)
{
	v->st.device_feature_select = (uint32_t)val;
}

static uint64_t
get_driver_feature_select(struct virtio *v)
{
	return v->st.driver_feature_select;
}

static void
set_driver_feature_select(struct virtio *v, uint64_t val)
{
	v->st.driver_feature_select = (uint32_t)val;
}

static uint64_t
get_config_vector(struct virtio *v)
{
	return v->st.config_msix_vector;
}

static uint64_t
get_generation(struct virtio *v)
{
	return v->st.config_generation;
}

static uint64_t
get_queue_select(struct virtio *v)
{
	return v->st.queue_select;
}

static void
set_queue_select(struct virtio *v, uint64_t val)
{
	v->st.queue_select = (uint16_t)val;
}

/* The three addresses: 64-bit registers that are written whole or in halves. */
enum { RING_DESC, RING_DRIVER, RING_DEVICE };

static uint64_t *
ring_gpa(struct virtq *q, unsigned which)
{
	return which == RING_DESC     ? &q->st.desc_gpa
	       : which == RING_DRIVER ? &q->st.driver_gpa
				      : &q->st.device_gpa;
}

static const struct reg {
	uint8_t off, size;
	uint64_t (*get)(struct virtio *v);
	void (*set)(struct virtio *v, uint64_t val);
} regs[] = {
    {0x00, 4, get_device_feature_select, set_device_feature_select},
    {0x04, 4, get_device_feature, NULL},
    {0x08, 4, get_driver_feature_select, set_driver_feature_select},
    {0x0c, 4, get_driver_feature, set_driver_feature},
    {0x10, 2, get_config_vector, set_config_vector},
    {0x12, 2, get_num_queues, NULL},
    {0x14, 1, get_status, set_status},
    {0x15, 1, get_generation, NULL},
    {0x16, 2, get_queue_select, set_queue_select},
    {0x18, 2, get_queue_size, set_queue_size},
    {0x1a, 2, get_queue_vector, set_queue_vector},
    {0x1c, 2, get_queue_enable, set_queue_enable},
    {0x1e, 2, get_notify_off, NULL},
};
enum { REG_RINGS = 0x20, REG_RINGS_END = 0x38, REG_NOTIFY_DATA = 0x38, COMMON_BYTES = 0x3a };

static uint64_t
rings_read(struct virtio *v, unsigned off, unsigned size)
{
	struct virtq *q = selected(v);
	unsigned skip = off & 7;

	if (q == NULL || skip + size > 8)
		return 0;
	return *ring_gpa(q, (off - REG_RINGS) / 8) >> (8 * skip) & size_mask(size);
}

static void
rings_write(struct virtio *v, unsigned off, unsigned size, uint64_t val)
{
	struct virtq *q = changeable(v);
	unsigned skip = off & 7;
	uint64_t *gpa;

	if (q == NULL || skip + size > 8)
		return;
	gpa = ring_gpa(q, (off - REG_RINGS) / 8);
	*gpa = (*gpa & ~(size_mask(size) << (8 * skip))) | val << (8 * skip);
}

/* 4.1.3.1: each register in an access of its own width; others read as nothing. */
static uint64_t
common_read(struct virtio *v, unsigned off, unsigned size)
{
	if (off >= REG_RINGS && off < REG_RINGS_END)
		return rings_read(v, off, size);
	for (size_t i = 0; i < ARRAY_LEN(regs); i++) {
		if (regs[i].off == off && regs[i].size == size)
			return regs[i].get(v);
	}
	return 0;
}

static void
common_write(struct virtio *v, unsigned off, unsigned size, uint64_t val)
{
	if (off >= REG_RINGS && off < REG_RINGS_END) {
		rings_write(v, off, size, val);
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(regs); i++) {
		if (regs[i].off == off && regs[i].size == size && regs[i].set != NULL)
			regs[i].set(v, val);
	}
}

/* ---- the other areas ---- */

/* Reading clears (4.1.4.5). */
static uint64_t
isr_read(struct virtio *v)
{
	uint8_t isr = v->st.isr;

	v->st.isr = 0;
	update_intx(v);
	return isr;
}

static uint64_t
device_read(struct virtio *v, unsigned off, unsigned size)
{
	uint64_t val = 0;

	if (range_fits(off, size, v->cfg.config_len))
		memcpy(&val, v->st.config + off, size);
	return val;
}

static void
device_write(struct virtio *v, unsigned off, unsigned size, uint64_t val)
{
	if (!range_fits(off, size, v->cfg.config_len) || v->cfg.model->config_written == NULL ||
	    v->st.resetting)
		return;
	memcpy(v->st.config + off, &val, size);
	v->cfg.model->config_written(v->cfg.dev, off, size);
}

static uint64_t
bar_read(void *dev, uint64_t off, unsigned size)
{
	struct virtio *v = dev;
	unsigned at = off % AREA_BYTES;
	uint64_t val = 0;

	pthread_mutex_lock(&v->lock);
	switch (off / AREA_BYTES) {
	case AREA_COMMON:
		val = common_read(v, at, size);
		break;
	case AREA_ISR:
		val = at == 0 ? isr_read(v) : 0;
		break;
	case AREA_DEVICE:
		val = device_read(v, at, size);
		break;
	}
	pthread_mutex_unlock(&v->lock);
	return val;
}

/* A notification takes no lock: the loop's thread may hold it for the length of a copy. */
static void
bar_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct virtio *v = dev;
	unsigned at = off % AREA_BYTES, n = at / NOTIFY_MULTIPLIER;

	if (off / AREA_BYTES == AREA_NOTIFY) {
		if (n < v->cfg.queues)
			virtio_kick(v, n);
		return;
	}
	pthread_mutex_lock(&v->lock);
	if (off / AREA_BYTES == AREA_COMMON)
		common_write(v, at, size, val);
	else if (off / AREA_BYTES == AREA_DEVICE)
		device_write(v, at, size, val);
	pthread_mutex_unlock(&v->lock);
}

/* ---- the window in configuration space ---- */

/* Where pci_cfg_data leads now; false: nowhere (another BAR, not 1, 2 or 4 bytes, misaligned). */
static bool
window(const struct virtio *v, uint32_t *off, unsigned *len)
{
	unsigned cap = v->pci_cfg_cap;

	*off = pci_func_get(v->func, cap + CAP_OFFSET, 4);
	*len = pci_func_get(v->func, cap + CAP_LENGTH, 4);
	return pci_func_get(v->func, cap + CAP_BAR, 1) == BAR_REGS && (*len == 1 || *len == 2 || *len == 4) &&
	       *off % *len == 0 && range_fits(*off, *len, BAR_REGS_BYTES);
}

static bool
is_window(const struct virtio *v, unsigned off, unsigned size)
{
	unsigned data = v->pci_cfg_cap + CAP_DATA;

	return off < data + 4 && off + size > data;
}

static void
cfg_reading(void *dev, unsigned off, unsigned size)
{
	struct virtio *v = dev;
	uint32_t at;
	unsigned len;

	if (is_window(v, off, size) && window(v, &at, &len))
		pci_func_put(v->func, v->pci_cfg_cap + CAP_DATA, len, (uint32_t)bar_read(v, at, len));
}

static void
move_doorbell(struct virtio *v)
{
	uint64_t gpa = pci_func_bar_mapped(v->func, BAR_REGS);

	if (v->cfg.doorbell == NULL || gpa == v->doorbell_gpa)
		return;
	for (unsigned n = 0; n < v->cfg.queues; n++) {
		uint64_t off = AREA_NOTIFY * AREA_BYTES + n * NOTIFY_MULTIPLIER;

		if (v->doorbell_gpa != UINT64_MAX)
			v->cfg.doorbell(v->cfg.doorbell_ctx, v->doorbell_gpa + off, v->bell, false);
		if (gpa != UINT64_MAX)
			v->cfg.doorbell(v->cfg.doorbell_ctx, gpa + off, v->bell, true);
	}
	v->doorbell_gpa = gpa;
}

static void
cfg_written(void *dev, unsigned off, unsigned size)
{
	struct virtio *v = dev;
	uint32_t at;
	unsigned len;

	/* A whole space comes from a reset or a restore: no access was made. */
	if (size <= 4 && is_window(v, off, size) && window(v, &at, &len))
		bar_write(v, at, len, pci_func_get(v->func, v->pci_cfg_cap + CAP_DATA, len));
	if (off < PCI_BAR0 + 24) {
		move_doorbell(v);
		/* Bus mastering may be on again: what was rung for meanwhile is still to be done. */
		for (unsigned n = 0; n < v->cfg.queues; n++)
			virtio_kick(v, n);
	}
}

static const struct pci_func_ops func_ops = {.cfg_written = cfg_written, .cfg_reading = cfg_reading};

/* ---- declaration ---- */

static unsigned
add_cap(struct virtio *v, unsigned len, unsigned type, unsigned area, unsigned bytes)
{
	unsigned cap = pci_func_cap(v->func, CAP_VENDOR, len);

	LH_ASSERT(cap != 0);
	pci_func_put(v->func, cap + CAP_CFG_LEN, 1, len);
	pci_func_put(v->func, cap + CAP_CFG_TYPE, 1, type);
	pci_func_put(v->func, cap + CAP_BAR, 1, type == CFG_PCI ? 0 : BAR_REGS);
	pci_func_put(v->func, cap + CAP_OFFSET, 4, area * AREA_BYTES);
	pci_func_put(v->func, cap + CAP_LENGTH, 4, bytes);
	return cap;
}

static void
declare(struct virtio *v)
{
	const struct pci_bar bar = {
	    .kind = PCI_BAR_MEM64_PREFETCH,
	    .len = BAR_REGS_BYTES,
	    .widths = IO_ANY,
	    .read = bar_read,
	    .write = bar_write,
	};
	unsigned cap;

	pci_func_bar(v->func, BAR_REGS, &bar);
	add_cap(v, CAP_LEN, CFG_COMMON, AREA_COMMON, COMMON_BYTES);
	cap = add_cap(v, CAP_NOTIFY_LEN, CFG_NOTIFY, AREA_NOTIFY, v->cfg.queues * NOTIFY_MULTIPLIER);
	pci_func_put(v->func, cap + CAP_DATA, 4, NOTIFY_MULTIPLIER);
	add_cap(v, CAP_LEN, CFG_ISR, AREA_ISR, 1);
	if (v->cfg.config_len > 0)
		add_cap(v, CAP_LEN, CFG_DEVICE, AREA_DEVICE, v->cfg.config_len);
	cap = add_cap(v, CAP_PCI_LEN, CFG_PCI, 0, 0);
	v->pci_cfg_cap = cap;
	pci_func_set(v->func, cap + CAP_BAR, 1, 0, 0xff);
	pci_func_set(v->func, cap + CAP_OFFSET, 4, 0, UINT32_MAX);
	pci_func_set(v->func, cap + CAP_LENGTH, 4, 0, UINT32_MAX);
	pci_func_set(v->func, cap + CAP_DATA, 4, 0, UINT32_MAX);
}

int
virtio_transport_init(struct virtio *v, struct err *err)
{
	const struct pci_func_cfg fc = {
	    .name = v->cfg.model->type,
	    .vendor = VENDOR_VIRTIO,
	    .device = (uint16_t)(DEVICE_BASE + v->cfg.model->id),
	    .subsys_vendor = VENDOR_VIRTIO,
	    .subsys = SUBSYS_MODERN,
	    .revision = 1,
	    .class_code = v->cfg.model->class_code,
	    .intr_pin = 1,
	};

	v->func = pci_func_create(&fc, &func_ops, v, err);
	if (v->func == NULL)
		return -err->code;
	if (v->cfg.msix) {
		v->msix = pci_msix_create(v->func, BAR_MSIX, v->cfg.queues + 1, err);
		if (v->msix == NULL) {
			pci_func_device_ops.destroy(v->func);
			return -err->code;
		}
	} else {
		pci_func_msi(v->func, 1);
	}
	declare(v);
	return 0;
}
