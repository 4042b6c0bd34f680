/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-console (Virtual I/O Device 1.2, 5.3) with any ports up to 31, each on a host end of dev/console. A
 * port with a name is a byte stream (/dev/virtio-ports/NAME in Linux), one without is a console (hvc).
 *
 *   queue 0, 1   receive and transmit of port 0     2, 3   control, to and from the driver
 *   queue 2n+2, 2n+3   receive and transmit of port n
 *
 * Threads: work on the loop's thread; tx_ready comes from a writer's thread and only rings. The virtio lock
 * guards queues and `st`.
 */
#include "dev/virtio/console.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "dev/console/console.h"
#include "dev/pci/model.h"
#include "dev/virtio/own.h"
#include "dev/virtio/virtio.h"

enum { VIRTIO_ID_CONSOLE = 3, PORTS_MAX = 31, QUEUE_SIZE = 64, NAME_MAX_BYTES = 63, BATCH = 64 };
enum { QUEUE_CTRL_TO_GUEST = 2, QUEUE_CTRL_FROM_GUEST = 3 };

#define F_MULTIPORT (1ull << 1)

enum { CFG_MAX_PORTS = 4, CFG_BYTES = 12 };
enum { CTRL_BYTES = 8 };
enum { DEVICE_READY = 0, PORT_ADD = 1, PORT_READY = 3, CONSOLE_PORT = 4, PORT_OPEN = 6, PORT_NAME = 7 };

/* Messages that wait for a buffer, a bit each. */
enum { SAY_ADD = 1, SAY_CONSOLE = 2, SAY_NAME = 4, SAY_OPEN = 8 };

struct vcon_state {
	uint8_t say[PORTS_MAX];
	uint8_t guest_open[PORTS_MAX], host_open[PORTS_MAX];
	uint8_t pad[3];
	uint32_t sent[PORTS_MAX]; /* bytes of the next transmit buffer that are out already */
};

static const struct field vcon_fields[] = {
    FIELD_ARRAY(1, struct vcon_state, say, FIELD_U8, PORTS_MAX),
    FIELD_ARRAY(2, struct vcon_state, guest_open, FIELD_BOOL, PORTS_MAX),
    FIELD_ARRAY(3, struct vcon_state, host_open, FIELD_BOOL, PORTS_MAX),
    FIELD_TRANSIENT(struct vcon_state, pad, 3),
    FIELD_ARRAY(4, struct vcon_state, sent, FIELD_U32, PORTS_MAX),
};

static const struct field_table vcon_table = {
    .name = "virtio-console",
    .version = 1,
    .size = sizeof(struct vcon_state),
    .count = ARRAY_LEN(vcon_fields),
    .fields = vcon_fields,
};

struct vcon;

struct port {
	struct vcon *vc;
	unsigned n;
	struct console *end; /* NULL: this number is not there */
	char name[NAME_MAX_BYTES + 1];
};

struct vcon {
	struct virtio *v;
	char where[64];
	struct port port[PORTS_MAX];
	unsigned ports; /* the highest number + 1 */
	struct vcon_state st;
	struct virtq_chain chain;    /* loop thread */
	uint64_t rx_bytes, tx_bytes; /* virtio lock: for statistics */
};

static unsigned
rx_queue(unsigned port)
{
	return port == 0 ? 0 : 2 * port + 2;
}

static bool
multiport(const struct vcon *vc)
{
	return (virtio_features(vc->v) & F_MULTIPORT) != 0;
}

/* ---- to the driver ---- */

static uint16_t
take_message(struct vcon *vc, unsigned n, uint16_t *value)
{
	uint8_t *say = &vc->st.say[n];
	unsigned bit = *say & -*say;

	*say &= (uint8_t)~bit;
	*value = 1;
	switch (bit) {
	case SAY_ADD:
		return PORT_ADD;
	case SAY_CONSOLE:
		return CONSOLE_PORT;
	case SAY_NAME:
		return PORT_NAME;
	default:
		*value = vc->st.host_open[n];
		return PORT_OPEN;
	}
}

static void
send_message(struct vcon *vc, struct virtq *q, unsigned n)
{
	uint8_t m[CTRL_BYTES + NAME_MAX_BYTES];
	size_t len = CTRL_BYTES;
	uint16_t value, event = take_message(vc, n, &value);

	put_le32(m, n);
	put_le16(m + 4, event);
	put_le16(m + 6, value);
	if (event == PORT_NAME) {
		memcpy(m + len, vc->port[n].name, strlen(vc->port[n].name));
		len += strlen(vc->port[n].name);
	}
	virtq_push(q, &vc->chain, (uint32_t)virtq_write(q, &vc->chain, 0, m, len));
}

/* Lock held. Ports in order, and each port's messages in the order of their bits. */
static void
say_pending(struct vcon *vc)
{
	struct virtq *q = virtio_queue(vc->v, QUEUE_CTRL_TO_GUEST);

	if (!multiport(vc) || !virtio_live(vc->v))
		return;
	for (unsigned n = 0; n < vc->ports; n++) {
		while (vc->st.say[n] != 0) {
			if (!virtq_pop(q, &vc->chain)) {
				if (!virtq_notifications(q, true)) {
					virtio_signal(vc->v, q);
					return;
				}
				continue;
			}
			send_message(vc, q, n);
		}
	}
	virtio_signal(vc->v, q);
}

/* ---- control from the driver ---- */

static void
control(struct vcon *vc, const uint8_t m[static CTRL_BYTES])
{
	uint32_t n = get_le32(m);
	uint16_t event = get_le16(m + 4), value = get_le16(m + 6);

	if (event == DEVICE_READY) {
		for (n = 0; value == 1 && n < vc->ports; n++)
			vc->st.say[n] = vc->port[n].end != NULL ? SAY_ADD : 0;
		return;
	}
	if (n >= vc->ports || vc->port[n].end == NULL) {
		log_guest("%s: a message for port %u, which is not there", vc->where, n);
		return;
	}
	if (event == PORT_READY && value == 1) {
		vc->st.say[n] |= vc->port[n].name[0] != '\0' ? SAY_NAME : SAY_CONSOLE;
		vc->st.say[n] |= SAY_OPEN;
	} else if (event == PORT_OPEN) {
		vc->st.guest_open[n] = value != 0;
	}
}

static void
work_control(struct vcon *vc)
{
	struct virtq *q = virtio_queue(vc->v, QUEUE_CTRL_FROM_GUEST);
	uint8_t m[CTRL_BYTES];
	unsigned taken = 0;

	do {
		for (; taken < BATCH && virtq_pop(q, &vc->chain); taken++) {
			if (virtq_read(q, &vc->chain, 0, m, sizeof(m)) == sizeof(m))
				control(vc, m);
			virtq_push(q, &vc->chain, 0);
		}
	} while (taken < BATCH && virtq_notifications(q, true));
	virtio_signal(vc->v, q);
	if (taken == BATCH)
		virtio_kick(vc->v, q->index);
	say_pending(vc);
}

/* ---- data ---- */

/* The rest of the chain. False: the host's end is full; `sent` says how far it went. */
static bool
transmit_chain(struct vcon *vc, struct virtq *q, struct port *p)
{
	uint32_t *sent = &vc->st.sent[p->n];
	uint8_t bytes[512];
	size_t n;

	while ((n = virtq_read(q, &vc->chain, *sent, bytes, sizeof(bytes))) > 0) {
		for (size_t i = 0; i < n; i++, ++*sent) {
			if (!console_tx(p->end, bytes[i]))
				return false;
			vc->tx_bytes++;
		}
	}
	*sent = 0;
	return true;
}

static void
work_transmit(struct vcon *vc, struct port *p)
{
	struct virtq *q = virtio_queue(vc->v, rx_queue(p->n) + 1);
	unsigned taken = 0;
	bool full = false;

	do {
		while (taken < BATCH && !full) {
			struct virtq_mark mark = virtq_mark(q);

			if (!virtq_pop(q, &vc->chain))
				break;
			full = p->end != NULL && !transmit_chain(vc, q, p);
			if (full)
				virtq_rewind(q, mark);
			else
				virtq_push(q, &vc->chain, 0);
			taken++;
		}
	} while (taken < BATCH && !full && virtq_notifications(q, true));
	virtio_signal(vc->v, q);
	if (taken == BATCH && !full)
		virtio_kick(vc->v, q->index);
}

/* Loop thread. What a driver has not opened, or gives no buffers for, waits. */
static size_t
port_rx(void *ctx, const uint8_t *buf, size_t len)
{
	struct port *p = ctx;
	struct vcon *vc = p->vc;
	struct virtq *q;
	unsigned taken = 0; /* buffers without room are bounded, too */
	size_t done = 0;

	virtio_lock(vc->v);
	q = virtio_queue(vc->v, rx_queue(p->n));
	while (done < len && taken++ < 2 * QUEUE_SIZE && virtio_live(vc->v) &&
	       (!multiport(vc) || vc->st.guest_open[p->n])) {
		if (virtq_pop(q, &vc->chain)) {
			size_t n = virtq_write(q, &vc->chain, 0, buf + done, len - done);

			virtq_push(q, &vc->chain, (uint32_t)n);
			done += n;
		} else if (!virtq_notifications(q, true)) {
			break;
		}
	}
	vc->rx_bytes += done;
	virtio_signal(vc->v, q);
	virtio_unlock(vc->v);
	if (taken > 2 * QUEUE_SIZE)
		console_rx_room(p->end); /* others first */
	return done;
}

static void
port_tx_ready(void *ctx)
{
	struct port *p = ctx;

	virtio_kick(p->vc->v, rx_queue(p->n) + 1);
}

static void
port_line(void *ctx, bool connected)
{
	struct port *p = ctx;
	struct vcon *vc = p->vc;

	virtio_lock(vc->v);
	vc->st.host_open[p->n] = connected;
	if (multiport(vc)) {
		vc->st.say[p->n] |= SAY_OPEN;
		say_pending(vc);
	}
	virtio_unlock(vc->v);
}

static void
vcon_work(void *dev, unsigned index)
{
	struct vcon *vc = dev;
	unsigned n = index < 2 ? 0 : index / 2 - 1;
	bool rx = index % 2 == 0 && index != QUEUE_CTRL_TO_GUEST;

	virtio_lock(vc->v);
	if (index == QUEUE_CTRL_TO_GUEST)
		say_pending(vc);
	else if (index == QUEUE_CTRL_FROM_GUEST)
		work_control(vc);
	else if (!rx)
		work_transmit(vc, &vc->port[n]);
	virtio_unlock(vc->v);
	/* A port that was opened, or got buffers: what waits on the host's side can come. */
	for (unsigned i = 0; i < vc->ports; i++) {
		if (vc->port[i].end != NULL && ((rx && i == n) || index == QUEUE_CTRL_FROM_GUEST))
			console_rx_room(vc->port[i].end);
	}
}

static void
vcon_was_reset(void *dev)
{
	struct vcon *vc = dev;

	memset(vc->st.say, 0, sizeof(vc->st.say));
	memset(vc->st.guest_open, 0, sizeof(vc->st.guest_open));
	memset(vc->st.sent, 0, sizeof(vc->st.sent));
}

static const struct virtio_model vcon_model = {
    .type = "virtio-console",
    .id = VIRTIO_ID_CONSOLE,
    .class_code = 0x078000,
    .work = vcon_work,
    .was_reset = vcon_was_reset,
};

/* ---- as a device ---- */

static void
vcon_destroy(void *dev)
{
	struct vcon *vc = dev;

	for (unsigned n = 0; n < PORTS_MAX; n++)
		console_destroy(vc->port[n].end);
	virtq_chain_free(&vc->chain);
	free(vc);
}

static void
vcon_reset(void *dev)
{
	(void)dev; /* by vcon_was_reset() */
}

static void
vcon_start(void *dev)
{
	struct vcon *vc = dev;
	struct err err = {0};

	for (unsigned n = 0; n < vc->ports; n++) {
		const struct console_peer peer = {port_rx, port_tx_ready, port_line, &vc->port[n]};

		if (vc->port[n].end != NULL && console_start(vc->port[n].end, &peer, &err) != 0)
			log_error("%s: %s", vc->where, err.msg);
	}
}

static void
vcon_stop(void *dev)
{
	struct vcon *vc = dev;

	for (unsigned n = 0; n < vc->ports; n++) {
		if (vc->port[n].end != NULL)
			console_stop(vc->port[n].end);
	}
}

static void *
vcon_st(void *dev)
{
	return &((struct vcon *)dev)->st;
}

static int
vcon_post_load(void *dev, struct err *err)
{
	struct vcon *vc = dev;

	(void)err;
	for (unsigned n = 0; n < PORTS_MAX; n++) {
		vc->st.say[n] &= SAY_ADD | SAY_CONSOLE | SAY_NAME | SAY_OPEN;
		if (vc->port[n].end == NULL)
			vc->st.say[n] = 0;
	}
	return 0;
}

static void
vcon_stats(void *dev, void (*fn)(void *arg, const char *name, uint64_t value), void *arg)
{
	struct vcon *vc = dev;
	uint64_t rx, tx;

	virtio_lock(vc->v);
	rx = vc->rx_bytes;
	tx = vc->tx_bytes;
	virtio_unlock(vc->v);
	fn(arg, "rx.bytes", rx);
	fn(arg, "tx.bytes", tx);
}

static const struct device_ops vcon_device_ops = {
    .type = "virtio-console",
    .destroy = vcon_destroy,
    .reset = vcon_reset,
    .start = vcon_start,
    .stop = vcon_stop,
    .state = &vcon_table,
    .st = vcon_st,
    .post_load = vcon_post_load,
    .stats = vcon_stats,
};

/* ---- making ---- */

static int
make_port(const struct pci_model_env *env, struct vcon *vc, unsigned n, struct err *err)
{
	char key[32], where[80];
	struct port *p = &vc->port[n];
	struct console_cfg c = {.name = where};
	const char *name;

	snprintf(key, sizeof(key), "port.%u.name", n);
	name = env->option(env->ctx, key);
	snprintf(key, sizeof(key), "port.%u.path", n);
	c.path = env->option(env->ctx, key);
	if (c.path == NULL)
		return name == NULL ? 0 : err_set(err, EINVAL, "%s.%s: missing", env->where, key);
	if (name != NULL && strlen(name) > NAME_MAX_BYTES)
		return err_set(err, EINVAL, "%s.port.%u.name: more than %d bytes", env->where, n,
			       NAME_MAX_BYTES);
	snprintf(where, sizeof(where), "%s.%s", env->where, key);
	c.type = strcmp(c.path, "stdio") == 0	   ? CONSOLE_TYPE_STDIO
		 : strncmp(c.path, "tcp=", 4) == 0 ? CONSOLE_TYPE_TCP
						   : CONSOLE_TYPE_UNIX;
	c.escape = c.type == CONSOLE_TYPE_STDIO ? env->escape : NULL;
	c.escape_ctx = env->escape_ctx;
	c.path += c.type == CONSOLE_TYPE_TCP ? 4 : 0;
	snprintf(p->name, sizeof(p->name), "%s", name != NULL ? name : "");
	p->end = console_create(&c, env->loop, err);
	if (p->end == NULL)
		return -err->code;
	vc->st.host_open[n] = c.type == CONSOLE_TYPE_STDIO;
	vc->ports = n + 1;
	return 0;
}

static struct virtio *
make_virtio(const struct pci_model_env *env, struct vcon *vc, struct err *err)
{
	uint16_t sizes[VIRTIO_QUEUES_MAX];
	uint8_t config[CFG_BYTES] = {0};
	struct virtio_cfg c = {
	    .model = &vcon_model,
	    .dev = vc,
	    .name = env->where,
	    .features = F_MULTIPORT,
	    .queues = 2 * vc->ports + 2,
	    .queue_size = sizes,
	    .config = config,
	    .config_len = sizeof(config),
	};

	put_le32(config + CFG_MAX_PORTS, vc->ports);
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		sizes[i] = QUEUE_SIZE;
	return virtio_create_owned(env, &c, err);
}

static struct pci_func *
vcon_create(const struct pci_model_env *env, struct err *err)
{
	struct vcon *vc = calloc(1, sizeof(*vc));
	int ret = 0;

	if (vc == NULL) {
		err_set(err, ENOMEM, "%s: no memory", env->where);
		return NULL;
	}
	snprintf(vc->where, sizeof(vc->where), "%s", env->where);
	for (unsigned n = 0; n < PORTS_MAX; n++) {
		vc->port[n].vc = vc;
		vc->port[n].n = n;
		if (ret == 0)
			ret = make_port(env, vc, n, err);
	}
	if (ret == 0 && vc->ports == 0)
		ret = err_set(err, EINVAL, "%s: no port (port.0.path)", env->where);
	if (ret == 0)
		vc->v = make_virtio(env, vc, err);
	if (vc->v == NULL) {
		vcon_destroy(vc);
		return NULL;
	}
	return env->own(env->ctx, &vcon_device_ops, vc, "console", err) == 0 ? virtio_func(vc->v) : NULL;
}

const struct pci_model virtio_console_model = {
    .name = "virtio-console",
    .help = "serial ports: NAME=SOCKET|stdio|tcp=HOST:PORT[,NAME=...]",
    .options = "name|packed|port.*",
    .create = vcon_create,
};
