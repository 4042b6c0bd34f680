/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The virtio device behind its transport: status, reset, bells, and the loop's side of them. Threads and
 * locks: see virtio.h.
 */
#include "dev/virtio/virtio.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/evloop.h"
#include "base/log.h"
#include "base/util.h"
#include "dev/virtio/internal.h"

#define COMMON_FEATURES \
	(VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1 | VIRTIO_F_RING_PACKED)

static const struct field virtio_fields[] = {
    FIELD(1, struct virtio_state, driver_features, FIELD_U64),
    FIELD(2, struct virtio_state, device_feature_select, FIELD_U32),
    FIELD(3, struct virtio_state, driver_feature_select, FIELD_U32),
    FIELD(4, struct virtio_state, queue_select, FIELD_U16),
    FIELD(5, struct virtio_state, config_msix_vector, FIELD_U16),
    FIELD(6, struct virtio_state, status, FIELD_U8),
    FIELD(7, struct virtio_state, isr, FIELD_U8),
    FIELD(8, struct virtio_state, config_generation, FIELD_U8),
    FIELD(9, struct virtio_state, resetting, FIELD_BOOL),
    FIELD_ARRAY(10, struct virtio_state, config, FIELD_BYTES, VIRTIO_CONFIG_MAX),
};

static const struct field_table virtio_table = {
    .name = "virtio",
    .version = 1,
    .size = sizeof(struct virtio_state),
    .count = ARRAY_LEN(virtio_fields),
    .fields = virtio_fields,
};

/* ---- what models use ---- */

void
virtio_lock(struct virtio *v)
{
	pthread_mutex_lock(&v->lock);
}

void
virtio_unlock(struct virtio *v)
{
	pthread_mutex_unlock(&v->lock);
}

struct virtq *
virtio_queue(struct virtio *v, unsigned n)
{
	return &v->queue[n];
}

bool
virtio_live(const struct virtio *v)
{
	return (v->st.status & (VIRTIO_STATUS_DRIVER_OK | VIRTIO_STATUS_NEEDS_RESET |
				VIRTIO_STATUS_FAILED)) == VIRTIO_STATUS_DRIVER_OK &&
	       !v->st.resetting && pci_func_bus_master(v->func);
}

uint64_t
virtio_features(const struct virtio *v)
{
	return v->st.driver_features & v->device_features;
}

uint8_t *
virtio_config(struct virtio *v)
{
	return v->st.config;
}

void
virtio_config_restore(struct virtio *v)
{
	memcpy(v->st.config, v->config_reset, sizeof(v->st.config));
}

void
virtio_config_changed(struct virtio *v)
{
	v->st.config_generation++;
	if ((v->st.status & VIRTIO_STATUS_DRIVER_OK) != 0)
		virtio_interrupt(v, v->st.config_msix_vector, VIRTIO_ISR_CONFIG);
}

void
virtio_signal(struct virtio *v, struct virtq *q)
{
	if (virtq_wants_interrupt(q))
		virtio_interrupt(v, q->st.msix_vector, VIRTIO_ISR_QUEUE);
}

/* 2.1.2: the driver is told by a configuration change, when it is ready to be told. */
void
virtio_broken(struct virtio *v, const char *why)
{
	log_guest("%s: the driver must reset it: %s", v->name, why);
	if ((v->st.status & VIRTIO_STATUS_NEEDS_RESET) != 0)
		return;
	v->st.status |= VIRTIO_STATUS_NEEDS_RESET;
	virtio_config_changed(v);
}

static void
queue_broken(void *ctx, struct virtq *q, const char *why)
{
	char text[128];

	snprintf(text, sizeof(text), "queue %u: %s", q->index, why);
	virtio_broken(ctx, text);
}

/* ---- bells ---- */

void
virtio_ring(struct virtio *v)
{
	const uint64_t one = 1;

	/* EAGAIN: the counter is full of rings already. */
	while (write(v->bell, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

void
virtio_kick(struct virtio *v, unsigned n)
{
	uint64_t bit = BIT(n % VIRTIO_QUEUES_MAX);

	if ((atomic_fetch_or(&v->rung, bit) & bit) == 0)
		virtio_ring(v);
}

static void
kick_all(struct virtio *v)
{
	for (unsigned n = 0; n < v->cfg.queues; n++)
		virtio_kick(v, n);
}

void
virtio_driver_ok(struct virtio *v)
{
	if (v->cfg.model->driver_ok != NULL)
		v->cfg.model->driver_ok(v->cfg.dev);
	kick_all(v);
}

void
virtio_poll(struct virtio *v)
{
	uint64_t rung = atomic_exchange(&v->rung, 0);
	bool live;

	if (atomic_exchange(&v->reset_asked, false)) {
		if (v->cfg.model->quiesce == NULL || v->cfg.model->quiesce(v->cfg.dev))
			virtio_reset_done(v);
	}
	/* An engine's doorbell rings without saying for whom. */
	if (rung == 0 && v->doorbell_gpa != UINT64_MAX)
		rung = UINT64_MAX;
	for (unsigned n = 0; n < v->cfg.queues; n++) {
		if ((rung >> n & 1) == 0)
			continue;
		pthread_mutex_lock(&v->lock);
		live = virtio_live(v) && v->queue[n].st.enabled;
		pthread_mutex_unlock(&v->lock);
		if (live)
			v->cfg.model->work(v->cfg.dev, n);
	}
}

static void
on_bell(void *arg, uint32_t events)
{
	struct virtio *v = arg;
	uint64_t count;

	(void)events;
	if (read(v->bell, &count, sizeof(count)) == sizeof(count))
		virtio_poll(v);
}

/* ---- status ---- */

/* All registers as at power-on; the driver starts anew. Lock held. */
static void
clear(struct virtio *v)
{
	v->st = (struct virtio_state){.config_msix_vector = VIRTIO_NO_VECTOR};
	memcpy(v->st.config, v->config_reset, sizeof(v->st.config));
	for (unsigned n = 0; n < v->cfg.queues; n++)
		virtq_reset(&v->queue[n]);
	if (v->cfg.model->was_reset != NULL)
		v->cfg.model->was_reset(v->cfg.dev);
	virtio_transport_reset(v);
}

void
virtio_reset_done(struct virtio *v)
{
	pthread_mutex_lock(&v->lock);
	clear(v);
	pthread_mutex_unlock(&v->lock);
}

/* 3.1.1: FEATURES_OK stays clear when the device does not accept. */
static bool
features_acceptable(const struct virtio *v)
{
	return (v->st.driver_features & ~v->device_features) == 0 &&
	       (v->st.driver_features & VIRTIO_F_VERSION_1) != 0;
}

static void
queues_take_features(struct virtio *v)
{
	uint64_t f = virtio_features(v);

	for (unsigned n = 0; n < v->cfg.queues; n++)
		virtq_features(&v->queue[n], (f & VIRTIO_F_RING_PACKED) != 0,
			       (f & VIRTIO_F_INDIRECT_DESC) != 0, (f & VIRTIO_F_EVENT_IDX) != 0);
}

void
virtio_set_status(struct virtio *v, uint8_t status)
{
	uint8_t old = v->st.status, kept = old & VIRTIO_STATUS_NEEDS_RESET;

	if (status == 0) {
		/* What is clear already needs no work on the loop's thread. */
		if (old == 0 && !v->st.resetting) {
			clear(v);
			return;
		}
		v->st.resetting = 1;
		atomic_store(&v->reset_asked, true);
		virtio_ring(v);
		return;
	}
	if (v->st.resetting)
		return;
	/* Bits are only added until a reset. */
	status |= old;
	if ((status & VIRTIO_STATUS_FEATURES_OK) != 0 && (old & VIRTIO_STATUS_FEATURES_OK) == 0) {
		if (features_acceptable(v))
			queues_take_features(v);
		else
			status &= (uint8_t)~VIRTIO_STATUS_FEATURES_OK;
	}
	if ((status & VIRTIO_STATUS_FEATURES_OK) == 0)
		status &= (uint8_t)~VIRTIO_STATUS_DRIVER_OK;
	v->st.status = (uint8_t)((status & ~VIRTIO_STATUS_NEEDS_RESET) | kept);
	if ((v->st.status & VIRTIO_STATUS_DRIVER_OK) != 0 && (old & VIRTIO_STATUS_DRIVER_OK) == 0)
		virtio_driver_ok(v);
}

/* ---- as a device ---- */

static int
make_queues(struct virtio *v, struct err *err)
{
	v->queue = calloc(v->cfg.queues, sizeof(*v->queue));
	if (v->queue == NULL)
		return err_set(err, ENOMEM, "%s: no memory", v->name);
	for (unsigned n = 0; n < v->cfg.queues; n++) {
		struct virtq *q = &v->queue[n];
		uint16_t size = v->cfg.queue_size[n];

		LH_ASSERT(size > 0 && size <= VIRTQ_SIZE_MAX && (size & (size - 1)) == 0);
		q->mem = v->cfg.mem;
		q->max_size = size;
		q->index = n;
		q->broken = queue_broken;
		q->ctx = v;
		virtq_reset(q);
	}
	return 0;
}

struct virtio *
virtio_create(const struct virtio_cfg *cfg, struct err *err)
{
	struct virtio *v = calloc(1, sizeof(*v));

	LH_ASSERT(cfg->queues <= VIRTIO_QUEUES_MAX && cfg->config_len <= VIRTIO_CONFIG_MAX);
	if (v == NULL) {
		err_set(err, ENOMEM, "%s: no memory", cfg->name);
		return NULL;
	}
	v->cfg = *cfg;
	snprintf(v->name, sizeof(v->name), "%s", cfg->name);
	v->cfg.name = v->name;
	v->device_features = cfg->features | COMMON_FEATURES;
	if (cfg->no_packed)
		v->device_features &= ~VIRTIO_F_RING_PACKED;
	v->doorbell_gpa = UINT64_MAX;
	if (cfg->config_len > 0)
		memcpy(v->config_reset, cfg->config, cfg->config_len);
	memcpy(v->st.config, v->config_reset, sizeof(v->st.config));
	v->st.config_msix_vector = VIRTIO_NO_VECTOR;
	pthread_mutex_init(&v->lock, NULL);
	v->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (v->bell < 0)
		err_set(err, errno, "%s: eventfd: %s (raise the limit of open files?)", v->name,
			strerror(errno));
	else if (make_queues(v, err) == 0 && virtio_transport_init(v, err) == 0)
		return v;
	virtio_device_ops.destroy(v);
	return NULL;
}

struct pci_func *
virtio_func(struct virtio *v)
{
	return v->func;
}

struct pci_msix *
virtio_msix(struct virtio *v)
{
	return v->msix;
}

unsigned
virtio_queues(const struct virtio *v)
{
	return v->cfg.queues;
}

/* The function and its MSI-X are devices of their own. */
static void
virtio_destroy(void *dev)
{
	struct virtio *v = dev;

	if (v == NULL)
		return;
	if (v->bell >= 0)
		close(v->bell);
	pthread_mutex_destroy(&v->lock);
	free(v->queue);
	free(v);
}

static void
virtio_reset(void *dev)
{
	struct virtio *v = dev;

	atomic_store(&v->rung, 0);
	atomic_store(&v->reset_asked, false);
	virtio_reset_done(v);
}

/* What the guest rang for, or wants undone, before a pause or in a snapshot is looked at again. */
static void
virtio_start(void *dev)
{
	struct virtio *v = dev;
	struct err err = {0};

	if (v->cfg.loop != NULL) {
		v->bell_source = ev_add(v->cfg.loop, v->bell, EPOLLIN, on_bell, v, &err);
		if (v->bell_source == NULL)
			log_error("%s: %s", v->name, err.msg);
	}
	if (v->st.resetting)
		atomic_store(&v->reset_asked, true);
	kick_all(v);
	virtio_ring(v);
}

static void
virtio_stop(void *dev)
{
	struct virtio *v = dev;

	if (v->bell_source != NULL)
		ev_remove(v->bell_source);
	v->bell_source = NULL;
}

static void *
virtio_st(void *dev)
{
	return &((struct virtio *)dev)->st;
}

static int
virtio_post_load(void *dev, struct err *err)
{
	struct virtio *v = dev;
	bool bad = (v->st.driver_features & ~v->device_features) != 0;

	if ((v->st.status & VIRTIO_STATUS_FEATURES_OK) != 0 && bad)
		return err_set(
		    err, ENOTSUP,
		    "%s: the guest uses features 0x%llx that this device does not offer (start it with the "
		    "options that the snapshot was taken with)",
		    v->name, (unsigned long long)(v->st.driver_features & ~v->device_features));
	queues_take_features(v);
	return 0;
}

const struct device_ops virtio_device_ops = {
    .type = "virtio",
    .destroy = virtio_destroy,
    .reset = virtio_reset,
    .start = virtio_start,
    .stop = virtio_stop,
    .state = &virtio_table,
    .st = virtio_st,
    .post_load = virtio_post_load,
};

/* ---- queues as devices ---- */

void *
virtio_queue_device(struct virtio *v, unsigned n)
{
	return &v->queue[n];
}

static void
queue_nothing(void *dev)
{
	(void)dev; /* the transport's reset and destroy have done it */
}

static void *
queue_st(void *dev)
{
	return &((struct virtq *)dev)->st;
}

static int
queue_post_load(void *dev, struct err *err)
{
	return virtq_post_load(dev, err);
}

const struct device_ops virtio_queue_device_ops = {
    .type = "virtqueue",
    .destroy = queue_nothing,
    .reset = queue_nothing,
    .state = &virtq_field_table,
    .st = queue_st,
    .post_load = queue_post_load,
};
