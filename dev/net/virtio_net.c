/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-net (Virtual I/O Device 1.2, 5.1). Queues: receive and transmit by pairs, then the control queue.
 *
 * A frame is preceded by a 12-byte header in both directions. The guest may leave checksums and segmentation
 * of TCP undone; a backend that knows the header passes that on, for the others the checksum is put in here.
 * Received frames of a flow go to the pair on which the guest sends that flow.
 *
 * Threads: frames on the loop's thread; the virtio lock guards queues, configuration and `st`.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "dev/net/net.h"
#include "dev/net/netdev.h"
#include "dev/net/receive.h"
#include "dev/pci/model.h"
#include "dev/pci/msi.h"
#include "dev/pci/pci.h"
#include "dev/virtio/own.h"
#include "dev/virtio/virtio.h"

enum { VIRTIO_ID_NET = 1, QUEUE_SIZE = 256, CTRL_SIZE = 64, PAIRS_MAX = 16, BATCH = 256 };
enum { FLOWS = 256, CHAINS_MAX = 64 };

#define F_CSUM		(1ull << 0)
#define F_GUEST_CSUM	(1ull << 1)
#define F_MTU		(1ull << 3)
#define F_MAC		(1ull << 5)
#define F_GUEST_TSO4	(1ull << 7)
#define F_GUEST_TSO6	(1ull << 8)
#define F_GUEST_ECN	(1ull << 9)
#define F_HOST_TSO4	(1ull << 11)
#define F_HOST_TSO6	(1ull << 12)
#define F_HOST_ECN	(1ull << 13)
#define F_MRG_RXBUF	(1ull << 15)
#define F_STATUS	(1ull << 16)
#define F_CTRL_VQ	(1ull << 17)
#define F_CTRL_RX	(1ull << 18)
#define F_MQ		(1ull << 22)
#define F_CTRL_MAC_ADDR (1ull << 23)

enum { CFG_MAC = 0, CFG_STATUS = 6, CFG_PAIRS = 8, CFG_MTU = 10, CFG_BYTES = 12, STATUS_LINK_UP = 1 };
enum { HDR_FLAGS = 0, HDR_GSO = 1, HDR_BUFFERS = 10, FLAG_NEEDS_CSUM = 1, FLAG_DATA_VALID = 2 };
enum { GSO_NONE = 0, GSO_TCPV4 = 1, GSO_TCPV6 = 4, GSO_ECN = 0x80 };

enum { CLASS_RX = 0, CLASS_MAC = 1, CLASS_MQ = 4 };
enum { RX_PROMISC = 0, RX_ALLMULTI = 1, MAC_TABLE_SET = 0, MAC_ADDR_SET = 1, MQ_PAIRS_SET = 0 };
enum { CTRL_OK = 0, CTRL_ERR = 1 };

struct net_state {
	struct net_filter filter;
	uint16_t pairs; /* in use */
	uint8_t link_down;
	uint8_t pad;
};

static const struct field net_fields[] = {
    FIELD(1, struct net_state, filter.promisc, FIELD_BOOL),
    FIELD(2, struct net_state, filter.allmulti, FIELD_BOOL),
    FIELD(3, struct net_state, filter.overflow, FIELD_BOOL),
    FIELD(4, struct net_state, filter.count, FIELD_U8),
    FIELD_ARRAY(5, struct net_state, filter.table, FIELD_BYTES, 6 * NET_FILTER_MACS),
    FIELD(6, struct net_state, pairs, FIELD_U16),
    FIELD(7, struct net_state, link_down, FIELD_BOOL),
    FIELD_TRANSIENT(struct net_state, pad, 1),
};

static const struct field_table net_table = {
    .name = "virtio-net",
    .version = 1,
    .size = sizeof(struct net_state),
    .count = ARRAY_LEN(net_fields),
    .fields = net_fields,
};

struct netdev {
	struct virtio *v;
	struct net_backend *backend;
	char where[64];
	unsigned pairs;
	struct net_state st;
	bool running;
	uint64_t rx_bytes, rx_frames, tx_bytes, tx_frames; /* virtio lock: for statistics */
	/* loop thread: */
	struct virtq_chain tx, ctrl;
	struct virtq_chain rx[CHAINS_MAX];
	uint8_t flow_pair[FLOWS]; /* by hash; where the guest last sent it */
	bool tx_blocked;
	bool sending; /* the lock is held: a backend may answer a frame before send returns */
	uint8_t frame[NET_FRAME_MAX];
};

static bool
has(const struct netdev *n, uint64_t feature)
{
	return (virtio_features(n->v) & feature) != 0;
}

/* ---- transmit ---- */

/* What the guest did not say that it would leave undone is nonsense. */
static bool
header_ok(const struct netdev *n, const uint8_t *hdr)
{
	uint8_t gso = hdr[HDR_GSO] & (uint8_t)~GSO_ECN;

	if ((hdr[HDR_FLAGS] & FLAG_NEEDS_CSUM) != 0 && !has(n, F_CSUM))
		return false;
	return gso == GSO_NONE || (gso == GSO_TCPV4 && has(n, F_HOST_TSO4)) ||
	       (gso == GSO_TCPV6 && has(n, F_HOST_TSO6));
}

/* Lock held. True: through with the chain. False: the backend is full. */
static bool
send_chain(struct netdev *n, struct virtq *q)
{
	uint8_t hdr[NET_HDR_BYTES];
	size_t len = n->tx.out_bytes - NET_HDR_BYTES;

	if (len == 0 || len > NET_FRAME_MAX || n->st.link_down)
		return true;
	virtq_read(q, &n->tx, 0, hdr, sizeof(hdr));
	virtq_read(q, &n->tx, NET_HDR_BYTES, n->frame, len);
	if (!header_ok(n, hdr)) {
		log_guest("%s: a frame with offloads that were not agreed on", n->where);
		return true;
	}
	if (n->pairs > 1)
		n->flow_pair[net_flow_hash(n->frame, len) % FLOWS] = (uint8_t)(q->index / 2);
	put_le16(hdr + HDR_BUFFERS, 0);
	if (!n->backend->ops->vnet_hdr && !net_finish_checksum(hdr, n->frame, len)) {
		log_guest("%s: a checksum outside its frame", n->where);
		return true;
	}
	if (!n->backend->ops->send(n->backend, hdr, n->frame, len))
		return false;
	n->tx_frames++;
	n->tx_bytes += len;
	return true;
}

static bool
send_one(struct netdev *n, struct virtq *q)
{
	struct virtq_mark mark = virtq_mark(q);

	if (!virtq_pop(q, &n->tx))
		return false;
	if (n->tx.out_bytes < NET_HDR_BYTES) {
		virtq_break(q, "a frame without its header");
		return false;
	}
	if (!send_chain(n, q)) {
		virtq_rewind(q, mark);
		n->tx_blocked = true;
		return false;
	}
	virtq_push(q, &n->tx, 0);
	return true;
}

static void
transmit(struct netdev *n, struct virtq *q)
{
	unsigned sent = 0;

	do {
		virtq_notifications(q, false);
		while (sent < BATCH && send_one(n, q))
			sent++;
	} while (sent < BATCH && !n->tx_blocked && virtq_notifications(q, true));
	virtio_signal(n->v, q);
	if (sent == BATCH)
		virtio_kick(n->v, q->index); /* others first */
}

static void
on_tx_ready(void *ctx)
{
	struct netdev *n = ctx;

	n->tx_blocked = false;
	for (unsigned i = 0; i < n->pairs; i++)
		virtio_kick(n->v, 2 * i + 1);
}

/* ---- receive ---- */

/* Header and frame into as many buffers as they take. Lock held. False: not enough of them now. */
static bool
fill_chains(struct netdev *n, struct virtq *q, uint8_t *hdr, const uint8_t *frame, size_t len)
{
	unsigned most = has(n, F_MRG_RXBUF) ? CHAINS_MAX : 1, count = 0;
	struct virtq_mark mark = virtq_mark(q);
	size_t total = NET_HDR_BYTES + len, room = 0, done = 0;
	uint32_t written[CHAINS_MAX];

	while (room < total && count < most) {
		if (virtq_pop(q, &n->rx[count])) {
			room += n->rx[count++].in_bytes;
		} else if (!virtq_notifications(q, true)) {
			/* Asked for at the end of what is there: the next buffer rings, not one that we saw.
			 */
			virtq_rewind(q, mark);
			return false;
		}
	}
	if (room < total || n->rx[0].in_bytes < NET_HDR_BYTES) {
		virtq_rewind(q, mark); /* larger than what the guest gives: lost */
		return true;
	}
	put_le16(hdr + HDR_BUFFERS, (uint16_t)count);
	virtq_write(q, &n->rx[0], 0, hdr, NET_HDR_BYTES);
	for (unsigned i = 0; i < count; i++) {
		size_t skip = i == 0 ? NET_HDR_BYTES : 0, part = MIN(len - done, n->rx[i].in_bytes - skip);

		virtq_write(q, &n->rx[i], skip, frame + done, part);
		done += part;
		written[i] = (uint32_t)(skip + part);
	}
	virtq_push_many(q, n->rx, written, count);
	n->rx_frames++;
	n->rx_bytes += len;
	virtio_signal(n->v, q);
	return true;
}

static struct virtq *
receive_queue(struct netdev *n, const uint8_t *frame, size_t len)
{
	unsigned pair = 0;

	if (n->st.pairs > 1) {
		pair = n->flow_pair[net_flow_hash(frame, len) % FLOWS];
		if (pair >= n->st.pairs)
			pair = 0;
	}
	return virtio_queue(n->v, 2 * pair);
}

/* Lock held. */
static bool
receive(struct netdev *n, const uint8_t *hdr, const uint8_t *frame, size_t len)
{
	uint8_t own[NET_HDR_BYTES] = {0};
	struct virtq *q;

	if (n->st.link_down || !virtio_live(n->v) ||
	    !net_filter_takes(&n->st.filter, virtio_config(n->v) + CFG_MAC, frame, len))
		return true;
	q = receive_queue(n, frame, len);
	if (!q->st.enabled || q->dead)
		return true;
	if (hdr != NULL)
		memcpy(own, hdr, sizeof(own));
	else if (has(n, F_GUEST_CSUM))
		own[HDR_FLAGS] = FLAG_DATA_VALID; /* it came from this host's own stack, or over its memory */
	if (!fill_chains(n, q, own, frame, len))
		return q->dead;
	virtq_notifications(q, false);
	return true;
}

static bool
on_rx(void *ctx, const uint8_t *hdr, const uint8_t *frame, size_t len)
{
	struct netdev *n = ctx;
	bool taken;

	if (n->sending)
		return receive(n, hdr, frame, len);
	virtio_lock(n->v);
	taken = receive(n, hdr, frame, len);
	virtio_unlock(n->v);
	return taken;
}

/* ---- control ---- */

static uint8_t
control_mac_table(struct netdev *n, struct virtq *q)
{
	struct net_filter f = n->st.filter;
	size_t off = 2;

	net_filter_clear(&f);
	/* Unicast, then multicast: a count and so many addresses each. */
	for (unsigned list = 0; list < 2; list++) {
		uint8_t raw[4], mac[6];
		uint32_t entries;

		if (virtq_read(q, &n->ctrl, off, raw, 4) != 4)
			return CTRL_ERR;
		off += 4;
		entries = get_le32(raw);
		if (entries > (n->ctrl.out_bytes - off) / 6)
			return CTRL_ERR;
		for (uint32_t i = 0; i < entries; i++, off += 6) {
			if (virtq_read(q, &n->ctrl, off, mac, 6) != 6)
				return CTRL_ERR;
			net_filter_add(&f, mac);
		}
	}
	n->st.filter = f;
	return CTRL_OK;
}

static uint8_t
control_rx(struct netdev *n, uint8_t command, const uint8_t *arg, size_t len)
{
	if (len < 1 || arg[0] > 1 || command > RX_ALLMULTI || !has(n, F_CTRL_RX))
		return CTRL_ERR;
	if (command == RX_PROMISC)
		n->st.filter.promisc = arg[0];
	else
		n->st.filter.allmulti = arg[0];
	return CTRL_OK;
}

static uint8_t
control_pairs(struct netdev *n, const uint8_t *arg, size_t len)
{
	unsigned pairs = len >= 2 ? get_le16(arg) : 0;

	if (!has(n, F_MQ) || pairs < 1 || pairs > n->pairs)
		return CTRL_ERR;
	n->st.pairs = (uint16_t)pairs;
	return CTRL_OK;
}

static uint8_t
control(struct netdev *n, struct virtq *q)
{
	uint8_t head[2 + 6];
	size_t len = virtq_read(q, &n->ctrl, 0, head, sizeof(head));

	if (len < 2)
		return CTRL_ERR;
	switch (head[0]) {
	case CLASS_RX:
		return control_rx(n, head[1], head + 2, len - 2);
	case CLASS_MAC:
		if (head[1] == MAC_TABLE_SET)
			return has(n, F_CTRL_RX) ? control_mac_table(n, q) : CTRL_ERR;
		if (head[1] != MAC_ADDR_SET || len != sizeof(head) || !has(n, F_CTRL_MAC_ADDR))
			return CTRL_ERR;
		memcpy(virtio_config(n->v) + CFG_MAC, head + 2, 6);
		return CTRL_OK;
	case CLASS_MQ:
		return head[1] == MQ_PAIRS_SET ? control_pairs(n, head + 2, len - 2) : CTRL_ERR;
	default:
		return CTRL_ERR;
	}
}

static void
work_control(struct netdev *n, struct virtq *q)
{
	unsigned taken = 0;
	uint8_t ack;

	do {
		while (taken < CTRL_SIZE && virtq_pop(q, &n->ctrl)) {
			if (n->ctrl.in_bytes < 1) {
				virtq_break(q, "a command with no room for its answer");
				return;
			}
			ack = control(n, q);
			virtq_write(q, &n->ctrl, 0, &ack, 1);
			virtq_push(q, &n->ctrl, 1);
			taken++;
		}
	} while (taken < CTRL_SIZE && virtq_notifications(q, true));
	virtio_signal(n->v, q);
	if (taken == CTRL_SIZE)
		virtio_kick(n->v, q->index);
}

/* ---- the model ---- */

static void
net_work(void *dev, unsigned index)
{
	struct netdev *n = dev;
	struct virtq *q = virtio_queue(n->v, index);
	bool tx = index % 2 == 1 && index < 2 * n->pairs;

	if (index % 2 == 0 && index < 2 * n->pairs) {
		n->backend->ops->resume(n->backend);
		return;
	}
	virtio_lock(n->v);
	n->sending = true;
	if (!tx)
		work_control(n, q);
	else if (!n->tx_blocked)
		transmit(n, q);
	n->sending = false;
	virtio_unlock(n->v);
	if (tx && n->running && n->backend->ops->sent != NULL)
		n->backend->ops->sent(n->backend);
}

static void
net_driver_ok(void *dev)
{
	struct netdev *n = dev;
	unsigned what =
	    (has(n, F_GUEST_CSUM) ? NET_OFFLOAD_CSUM : 0u) | (has(n, F_GUEST_TSO4) ? NET_OFFLOAD_TSO4 : 0u) |
	    (has(n, F_GUEST_TSO6) ? NET_OFFLOAD_TSO6 : 0u) | (has(n, F_GUEST_ECN) ? NET_OFFLOAD_ECN : 0u);

	if (n->backend->ops->offload != NULL)
		n->backend->ops->offload(n->backend, what);
}

/* The cable stays where it is. */
static void
show_link(struct netdev *n)
{
	put_le16(virtio_config(n->v) + CFG_STATUS, n->st.link_down ? 0 : STATUS_LINK_UP);
}

static void
net_was_reset(void *dev)
{
	struct netdev *n = dev;

	n->st.filter = (struct net_filter){.promisc = 1};
	n->st.pairs = 1;
	n->tx_blocked = false;
	if (n->v != NULL)
		show_link(n);
}

static const struct virtio_model net_model = {
    .type = "virtio-net",
    .id = VIRTIO_ID_NET,
    .class_code = 0x020000,
    .work = net_work,
    .driver_ok = net_driver_ok,
    .was_reset = net_was_reset,
};

/* ---- as a device ---- */

void
virtio_net_set_link(void *dev, bool up)
{
	struct netdev *n = dev;

	virtio_lock(n->v);
	if (n->st.link_down == up) {
		n->st.link_down = !up;
		show_link(n);
		virtio_config_changed(n->v);
	}
	virtio_unlock(n->v);
}

static void
net_destroy(void *dev)
{
	struct netdev *n = dev;

	if (n == NULL)
		return;
	if (n->backend != NULL)
		n->backend->ops->destroy(n->backend);
	virtq_chain_free(&n->tx);
	virtq_chain_free(&n->ctrl);
	for (unsigned i = 0; i < CHAINS_MAX; i++)
		virtq_chain_free(&n->rx[i]);
	free(n);
}

/* The transport's reset has come by net_was_reset(). */
static void
net_reset(void *dev)
{
	memset(((struct netdev *)dev)->flow_pair, 0, FLOWS);
}

static void
net_start(void *dev)
{
	struct netdev *n = dev;
	struct err err = {0};

	n->running = n->backend->ops->start(n->backend, &err) == 0;
	if (!n->running)
		log_error("%s: %s", n->where, err.msg);
}

static void
net_stop(void *dev)
{
	struct netdev *n = dev;

	if (n->running)
		n->backend->ops->stop(n->backend);
	n->running = false;
}

static void *
net_st(void *dev)
{
	return &((struct netdev *)dev)->st;
}

static int
net_post_load(void *dev, struct err *err)
{
	struct netdev *n = dev;

	if (n->st.pairs < 1 || n->st.pairs > n->pairs || n->st.filter.count > NET_FILTER_MACS)
		return err_set(err, EINVAL, "%s: a damaged state (take the snapshot again)", n->where);
	net_driver_ok(n);
	return 0;
}

static void
net_stats(void *dev, void (*fn)(void *arg, const char *name, uint64_t value), void *arg)
{
	struct netdev *n = dev;
	uint64_t v[4];

	virtio_lock(n->v);
	v[0] = n->rx_bytes;
	v[1] = n->rx_frames;
	v[2] = n->tx_bytes;
	v[3] = n->tx_frames;
	virtio_unlock(n->v);
	fn(arg, "rx.bytes", v[0]);
	fn(arg, "rx.frames", v[1]);
	fn(arg, "tx.bytes", v[2]);
	fn(arg, "tx.frames", v[3]);
}

const struct device_ops virtio_net_device_ops = {
    .type = "virtio-net",
    .destroy = net_destroy,
    .reset = net_reset,
    .start = net_start,
    .stop = net_stop,
    .state = &net_table,
    .st = net_st,
    .post_load = net_post_load,
    .stats = net_stats,
};

/* ---- making ---- */

/* Locally administered; the same for a VM and slot each time. */
static void
default_mac(const struct pci_model_env *env, uint8_t mac[static 6])
{
	uint64_t h = 0xcbf29ce484222325ull; /* FNV-1a */

	for (const char *p = env->vm_name; *p != '\0'; p++)
		h = (h ^ (uint8_t)*p) * 0x100000001b3ull;
	for (const char *p = env->where; *p != '\0'; p++)
		h = (h ^ (uint8_t)*p) * 0x100000001b3ull;
	mac[0] = 0x02;
	for (unsigned i = 1; i < 6; i++)
		mac[i] = (uint8_t)(h >> (8 * i));
}

static int
set_mac(const struct pci_model_env *env, uint8_t mac[static 6], struct err *err)
{
	const char *text = env->option(env->ctx, "mac");
	int end = 0;

	if (text == NULL) {
		default_mac(env, mac);
		return 0;
	}
	if (sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4],
		   &mac[5], &end) != 6 ||
	    text[end] != '\0' || strlen(text) != 17)
		return err_set(err, EINVAL, "%s.mac: '%s' is no address (02:00:00:00:00:01)", env->where,
			       text);
	if ((mac[0] & 1) != 0)
		return err_set(err, EINVAL,
			       "%s.mac: %s is a group's address, not a card's (an even first byte)",
			       env->where, text);
	return 0;
}

static uint64_t
offered(const struct netdev *n)
{
	uint64_t f = F_CSUM | F_GUEST_CSUM | F_MTU | F_MAC | F_MRG_RXBUF | F_STATUS | F_CTRL_VQ | F_CTRL_RX |
		     F_CTRL_MAC_ADDR;

	if (n->backend->ops->large)
		f |= F_HOST_TSO4 | F_HOST_TSO6 | F_HOST_ECN;
	if (n->backend->ops->vnet_hdr)
		f |= F_GUEST_TSO4 | F_GUEST_TSO6 | F_GUEST_ECN;
	return n->pairs > 1 ? f | F_MQ : f;
}

static struct virtio *
make_virtio(const struct pci_model_env *env, struct netdev *n, unsigned mtu, struct err *err)
{
	uint16_t sizes[2 * PAIRS_MAX + 1];
	uint8_t config[CFG_BYTES] = {0};
	struct virtio_cfg c = {
	    .model = &net_model,
	    .dev = n,
	    .name = env->where,
	    .features = offered(n),
	    .queues = 2 * n->pairs + 1,
	    .queue_size = sizes,
	    .config = config,
	    .config_len = sizeof(config),
	};

	if (set_mac(env, config + CFG_MAC, err) != 0)
		return NULL;
	put_le16(config + CFG_STATUS, STATUS_LINK_UP);
	put_le16(config + CFG_PAIRS, (uint16_t)n->pairs);
	put_le16(config + CFG_MTU, (uint16_t)mtu);
	for (unsigned i = 0; i < c.queues; i++)
		sizes[i] = i == 2 * n->pairs ? CTRL_SIZE : QUEUE_SIZE;
	return virtio_create_owned(env, &c, err);
}

static unsigned
choose_mtu(const struct pci_model_env *env)
{
	const char *kind = env->option(env->ctx, "backend");
	bool user = kind != NULL && strcmp(kind, "user") == 0;

	return (unsigned)pci_option_uint(env, "mtu", user ? NET_MTU_MAX : 1500);
}

static struct pci_func *
net_create(const struct pci_model_env *env, struct err *err)
{
	struct netdev *n = calloc(1, sizeof(*n));
	const struct net_peer peer = {on_rx, on_tx_ready, n};
	unsigned mtu = choose_mtu(env);
	const char *link;

	if (n == NULL) {
		err_set(err, ENOMEM, "%s: no memory", env->where);
		return NULL;
	}
	snprintf(n->where, sizeof(n->where), "%s", env->where);
	n->pairs = (unsigned)MIN(pci_option_uint(env, "queues", 1), (uint64_t)PAIRS_MAX);
	net_was_reset(n);
	n->backend = net_backend_create(env, mtu, &peer, err);
	if (n->backend != NULL)
		n->v = make_virtio(env, n, mtu, err);
	if (n->v == NULL) {
		net_destroy(n);
		return NULL;
	}
	if (env->own(env->ctx, &virtio_net_device_ops, n, "net", err) != 0)
		return NULL;
	link = env->option(env->ctx, "link");
	virtio_net_set_link(n, link == NULL || strcmp(link, "true") == 0);
	return virtio_func(n->v);
}

const struct pci_model virtio_net_model = {
    .name = "virtio-net",
    .help = "network card: backend=user[,hostfwd=...]|tap|unix[,mac=ADDRESS][,mtu=N][,queues=N]",
    .options = "name|packed|link|backend|hostfwd|ifname|path|peer|mac|mtu|queues",
    .create = net_create,
};
