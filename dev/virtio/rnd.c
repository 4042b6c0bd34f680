/* SPDX-License-Identifier: BSD-2-Clause */
/* virtio-rnd (Virtual I/O Device 1.2, 5.4): the host's random numbers. No state beyond the transport's. */
#include "dev/virtio/rnd.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/util.h"
#include "dev/pci/model.h"
#include "dev/virtio/own.h"
#include "dev/virtio/virtio.h"

enum { VIRTIO_ID_ENTROPY = 4, QUEUE_SIZE = 64, CHUNK = 256, CHUNKS = 64 };

struct rnd {
	struct virtio *v;
	struct virtq_chain chain;
};

/* A driver that asks for gigabytes gets a part: it asks again (5.4.6.1). */
static uint32_t
fill(struct rnd *r, struct virtq *q)
{
	uint8_t bytes[CHUNK];
	size_t done = 0, n = 0;

	for (unsigned i = 0; i < CHUNKS && done < r->chain.in_bytes; i++) {
		if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
			break;
		n = virtq_write(q, &r->chain, done, bytes, MIN(sizeof(bytes), r->chain.in_bytes - done));
		done += n;
	}
	return (uint32_t)done;
}

static void
rnd_work(void *dev, unsigned n)
{
	struct rnd *r = dev;
	struct virtq *q;
	unsigned taken = 0;

	virtio_lock(r->v);
	q = virtio_queue(r->v, n);
	do {
		for (; taken < QUEUE_SIZE && virtq_pop(q, &r->chain); taken++)
			virtq_push(q, &r->chain, fill(r, q));
	} while (taken < QUEUE_SIZE && virtq_notifications(q, true));
	virtio_signal(r->v, q);
	virtio_unlock(r->v);
	if (taken == QUEUE_SIZE)
		virtio_kick(r->v, n);
}

static const struct virtio_model rnd_model = {
    .type = "virtio-rnd",
    .id = VIRTIO_ID_ENTROPY,
    .class_code = 0x100000,
    .work = rnd_work,
};

static void
rnd_destroy(void *dev)
{
	struct rnd *r = dev;

	virtq_chain_free(&r->chain);
	free(r);
}

static void
rnd_reset(void *dev)
{
	(void)dev;
}

static const struct device_ops rnd_device_ops = {
    .type = "virtio-rnd",
    .destroy = rnd_destroy,
    .reset = rnd_reset,
};

static struct pci_func *
rnd_create(const struct pci_model_env *env, struct err *err)
{
	static const uint16_t sizes[] = {QUEUE_SIZE};
	struct rnd *r = calloc(1, sizeof(*r));
	struct virtio_cfg c = {
	    .model = &rnd_model,
	    .dev = r,
	    .name = env->where,
	    .features = VIRTIO_F_IN_ORDER,
	    .queues = 1,
	    .queue_size = sizes,
	};

	if (r == NULL) {
		err_set(err, ENOMEM, "%s: no memory", env->where);
		return NULL;
	}
	r->v = virtio_create_owned(env, &c, err);
	if (r->v == NULL) {
		rnd_destroy(r);
		return NULL;
	}
	return env->own(env->ctx, &rnd_device_ops, r, "rnd", err) == 0 ? virtio_func(r->v) : NULL;
}

const struct pci_model virtio_rnd_model = {
    .name = "virtio-rnd",
    .help = "random numbers of the host",
    .options = "name|packed",
    .create = rnd_create,
};
