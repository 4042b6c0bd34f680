/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The tap backend: a TAP interface of the host (Linux Documentation/networking/tuntap.rst), with
 * virtio_net_hdr on each frame, so that checksums and segmentation stay undone as long as they can.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/evloop.h"
#include "base/log.h"
#include "base/util.h"
#include "dev/net/net.h"
#include "dev/pci/model.h"

enum { BATCH = 64 };

struct tap {
	struct net_backend net; /* first */
	int fd;
	struct ev_source *source;
	uint32_t events;
	bool held; /* `frame` waits for room in the card */
	uint8_t hdr[NET_HDR_BYTES], frame[NET_FRAME_MAX];
	size_t len;
};

static void
want(struct tap *t, uint32_t events)
{
	if (t->source != NULL && t->events != events)
		ev_modify(t->source, events);
	t->events = events;
}

static bool
give(struct tap *t)
{
	t->held = !t->net.peer.rx(t->net.peer.ctx, t->hdr, t->frame, t->len);
	return !t->held;
}

static void
take(struct tap *t)
{
	struct iovec iov[] = {{t->hdr, sizeof(t->hdr)}, {t->frame, sizeof(t->frame)}};

	for (unsigned i = 0; i < BATCH; i++) {
		ssize_t n = readv(t->fd, iov, 2);

		if (n <= NET_HDR_BYTES)
			return;
		t->len = (size_t)n - NET_HDR_BYTES;
		if (!give(t)) {
			want(t, t->events & ~(uint32_t)EPOLLIN);
			return;
		}
	}
}

static void
on_tap(void *arg, uint32_t events)
{
	struct tap *t = arg;

	if ((events & EPOLLOUT) != 0) {
		want(t, t->events & ~(uint32_t)EPOLLOUT);
		t->net.peer.tx_ready(t->net.peer.ctx);
	}
	if ((events & EPOLLIN) != 0 && !t->held)
		take(t);
}

static bool
tap_send(struct net_backend *n, const uint8_t *hdr, const uint8_t *frame, size_t len)
{
	struct tap *t = (struct tap *)n;
	struct iovec iov[] = {{(void *)hdr, NET_HDR_BYTES}, {(void *)frame, len}};

	/* Other errors: the interface is down, or the header is nonsense. The frame is lost. */
	if (writev(t->fd, iov, 2) >= 0 || errno != EAGAIN)
		return true;
	want(t, t->events | EPOLLOUT);
	return false;
}

static void
tap_resume(struct net_backend *n)
{
	struct tap *t = (struct tap *)n;

	if (t->held && !give(t))
		return;
	want(t, t->events | EPOLLIN);
}

static void
tap_offload(struct net_backend *n, unsigned what)
{
	unsigned long flags = ((what & NET_OFFLOAD_CSUM) != 0 ? TUN_F_CSUM : 0u) |
			      ((what & NET_OFFLOAD_TSO4) != 0 ? TUN_F_TSO4 : 0u) |
			      ((what & NET_OFFLOAD_TSO6) != 0 ? TUN_F_TSO6 : 0u) |
			      ((what & NET_OFFLOAD_ECN) != 0 ? TUN_F_TSO_ECN : 0u);

	if (ioctl(((struct tap *)n)->fd, TUNSETOFFLOAD, flags) != 0)
		log_warn("%s: offloads: %s", n->where, strerror(errno));
}

static int
tap_start(struct net_backend *n, struct err *err)
{
	struct tap *t = (struct tap *)n;

	t->events = t->held ? 0 : EPOLLIN;
	t->source = ev_add(n->loop, t->fd, t->events, on_tap, t, err);
	return t->source != NULL ? 0 : -err->code;
}

static void
tap_stop(struct net_backend *n)
{
	struct tap *t = (struct tap *)n;

	ev_remove(t->source);
	t->source = NULL;
}

static void
tap_destroy(struct net_backend *n)
{
	struct tap *t = (struct tap *)n;

	if (t->fd >= 0)
		close(t->fd);
	free(t);
}

static const struct net_backend_ops tap_ops = {
    .vnet_hdr = true,
    .large = true,
    .default_mtu = 1500,
    .start = tap_start,
    .stop = tap_stop,
    .destroy = tap_destroy,
    .send = tap_send,
    .resume = tap_resume,
    .offload = tap_offload,
};

static int
open_tap(struct tap *t, const char *name, struct err *err)
{
	struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int bytes = NET_HDR_BYTES;

	if (strlen(name) >= IFNAMSIZ)
		return err_set(err, EINVAL, "%s.ifname: '%s' is too long for an interface (15 characters)",
			       t->net.where, name);
	memcpy(r.ifr_name, name, strlen(name));
	t->fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (t->fd < 0)
		return err_set(err, errno, "%s: /dev/net/tun: %s (backend=user needs no privilege)",
			       t->net.where, strerror(errno));
	if (ioctl(t->fd, TUNSETIFF, &r) == 0 && ioctl(t->fd, TUNSETVNETHDRSZ, &bytes) == 0 &&
	    ioctl(t->fd, TUNSETOFFLOAD, 0) == 0)
		return 0;
	return err_set(err, errno, "%s.ifname: %s: %s (%s)", t->net.where, name, strerror(errno),
		       errno == EBUSY ? "another process has it open"
				      : "as root: ip tuntap add dev NAME mode tap user YOU");
}

struct net_backend *
net_tap_create(const struct pci_model_env *env, struct err *err)
{
	const char *name = env->option(env->ctx, "ifname");
	struct tap *t = calloc(1, sizeof(*t));

	if (t == NULL) {
		err_set(err, ENOMEM, "%s: no memory", env->where);
		return NULL;
	}
	t->net.ops = &tap_ops;
	snprintf(t->net.where, sizeof(t->net.where), "%s", env->where);
	t->fd = -1;
	if (name == NULL)
		err_set(err, EINVAL, "%s.ifname: missing (the tap interface)", env->where);
	else if (open_tap(t, name, err) == 0)
		return &t->net;
	tap_destroy(&t->net);
	return NULL;
}
