/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The unix backend: a frame a datagram between two AF_UNIX sockets, `path` ours, `peer` the other's. What
 * QEMU calls dgram. A peer that is not there yet is an unplugged wire: frames are lost.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/evloop.h"
#include "base/log.h"
#include "base/util.h"
#include "dev/net/net.h"
#include "dev/pci/model.h"

enum { BATCH = 64, BUFFER_BYTES = 4 << 20 };

struct pair {
	struct net_backend net; /* first */
	int fd;
	struct sockaddr_un own, peer;
	bool connected, bound;
	struct ev_source *source;
	uint32_t events;
	bool held; /* `frame` waits for room in the card */
	uint8_t frame[NET_FRAME_MAX];
	size_t len;
};

static void
want(struct pair *p, uint32_t events)
{
	if (p->source != NULL && p->events != events)
		ev_modify(p->source, events);
	p->events = events;
}

static bool
give(struct pair *p)
{
	p->held = !p->net.peer.rx(p->net.peer.ctx, NULL, p->frame, p->len);
	return !p->held;
}

static void
take(struct pair *p)
{
	for (unsigned i = 0; i < BATCH; i++) {
		ssize_t n = recv(p->fd, p->frame, sizeof(p->frame), 0);

		if (n <= 0) {
			if (n < 0 && errno == ECONNRESET)
				p->connected = false;
			return;
		}
		p->len = (size_t)n;
		if (!give(p)) {
			want(p, p->events & ~(uint32_t)EPOLLIN);
			return;
		}
	}
}

static void
on_socket(void *arg, uint32_t events)
{
	struct pair *p = arg;

	if ((events & EPOLLOUT) != 0) {
		want(p, p->events & ~(uint32_t)EPOLLOUT);
		p->net.peer.tx_ready(p->net.peer.ctx);
	}
	if ((events & (EPOLLIN | EPOLLERR)) != 0 && !p->held)
		take(p);
}

/* Connected, a full queue of the peer can be waited for. */
static bool
connect_peer(struct pair *p)
{
	if (!p->connected)
		p->connected = connect(p->fd, (struct sockaddr *)&p->peer, sizeof(p->peer)) == 0;
	return p->connected;
}

static bool
unix_send(struct net_backend *n, const uint8_t *hdr, const uint8_t *frame, size_t len)
{
	struct pair *p = (struct pair *)n;

	(void)hdr;
	for (unsigned tries = 0; tries < 2 && connect_peer(p); tries++) {
		if (send(p->fd, frame, len, MSG_NOSIGNAL) >= 0)
			return true;
		if (errno == EAGAIN || errno == ENOBUFS) {
			want(p, p->events | EPOLLOUT);
			return false;
		}
		p->connected = false; /* it went; perhaps another one has come under its name */
	}
	return true;
}

static void
unix_resume(struct net_backend *n)
{
	struct pair *p = (struct pair *)n;

	if (p->held && !give(p))
		return;
	want(p, p->events | EPOLLIN);
}

static int
unix_start(struct net_backend *n, struct err *err)
{
	struct pair *p = (struct pair *)n;

	p->events = p->held ? 0 : EPOLLIN;
	p->source = ev_add(n->loop, p->fd, p->events, on_socket, p, err);
	return p->source != NULL ? 0 : -err->code;
}

static void
unix_stop(struct net_backend *n)
{
	struct pair *p = (struct pair *)n;

	ev_remove(p->source);
	p->source = NULL;
}

static void
unix_destroy(struct net_backend *n)
{
	struct pair *p = (struct pair *)n;

	if (p->bound)
		unlink(p->own.sun_path);
	if (p->fd >= 0)
		close(p->fd);
	free(p);
}

static const struct net_backend_ops unix_ops = {
    .default_mtu = 1500,
    .start = unix_start,
    .stop = unix_stop,
    .destroy = unix_destroy,
    .send = unix_send,
    .resume = unix_resume,
};

static int
set_name(const struct pci_model_env *env, const char *key, struct sockaddr_un *a, struct err *err)
{
	const char *path = env->option(env->ctx, key);

	if (path == NULL)
		return err_set(err, EINVAL,
			       "%s.%s: missing (a socket's name: path is ours, peer the other's)", env->where,
			       key);
	if (strlen(path) >= sizeof(a->sun_path))
		return err_set(err, ENAMETOOLONG, "%s.%s: %s: a socket's name has at most %zu bytes",
			       env->where, key, path, sizeof(a->sun_path) - 1);
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(a->sun_path, path, strlen(path));
	return 0;
}

/* A socket that nobody holds any more is left over from one that was killed. */
static bool
is_stale(struct pair *p)
{
	int probe = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool stale = probe >= 0 && connect(probe, (struct sockaddr *)&p->own, sizeof(p->own)) != 0 &&
		     errno == ECONNREFUSED;

	if (probe >= 0)
		close(probe);
	return stale;
}

static int
open_socket(struct pair *p, struct err *err)
{
	const int bytes = BUFFER_BYTES;

	p->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (p->fd < 0)
		return err_set(err, errno, "%s: a socket: %s", p->net.where, strerror(errno));
	(void)setsockopt(p->fd, SOL_SOCKET, SO_SNDBUF, &bytes,
			 sizeof(bytes)); /* as much as the host allows */
	if (bind(p->fd, (struct sockaddr *)&p->own, sizeof(p->own)) != 0 &&
	    (errno != EADDRINUSE || !is_stale(p) || unlink(p->own.sun_path) != 0 ||
	     bind(p->fd, (struct sockaddr *)&p->own, sizeof(p->own)) != 0))
		return err_set(err, errno, "%s.path: %s: %s", p->net.where, p->own.sun_path, strerror(errno));
	p->bound = true;
	return 0;
}

struct net_backend *
net_unix_create(const struct pci_model_env *env, struct err *err)
{
	struct pair *p = calloc(1, sizeof(*p));

	if (p == NULL) {
		err_set(err, ENOMEM, "%s: no memory", env->where);
		return NULL;
	}
	p->net.ops = &unix_ops;
	snprintf(p->net.where, sizeof(p->net.where), "%s", env->where);
	p->fd = -1;
	if (set_name(env, "path", &p->own, err) == 0 && set_name(env, "peer", &p->peer, err) == 0 &&
	    open_socket(p, err) == 0)
		return &p->net;
	unix_destroy(&p->net);
	return NULL;
}
