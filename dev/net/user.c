/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The user backend: libslirp, a TCP/IP stack in this process. 10.0.2.0/24 and fec0::/64; the gateway and
 * the host are 10.0.2.2, DNS 10.0.2.3, the guest by DHCP 10.0.2.15. No privilege.
 *
 * Everything runs on the event loop's thread. libslirp says before each wait what it waits for; here that
 * becomes a difference to what the loop watches already, indexed by descriptor. Frames for which the card has
 * no room are kept, up to a bound: TCP windows limit them.
 */
#include <errno.h>
#include <slirp/libslirp.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/evloop.h"
#include "base/library.h"
#include "base/log.h"
#include "base/util.h"
#include "dev/net/net.h"
#include "dev/pci/model.h"

enum { KEPT_BYTES_MAX = 8 << 20, NSEC_PER_MSEC = 1000000 };

struct user;

/* libslirp's functions. It comes when the first card asks for it, and with it GLib. */
struct slirp_library {
	__typeof__(slirp_new) *new;
	__typeof__(slirp_cleanup) *cleanup;
	__typeof__(slirp_add_hostfwd) *add_hostfwd;
	__typeof__(slirp_input) *input;
	__typeof__(slirp_pollfds_fill) *pollfds_fill;
	__typeof__(slirp_pollfds_poll) *pollfds_poll;
	__typeof__(slirp_handle_timer) *handle_timer;
};

/* A descriptor of libslirp's. */
struct watched {
	struct user *u;
	int fd;
	struct ev_source *source; /* NULL: not watched */
	uint32_t events;	  /* EPOLL*, as watched */
	bool wanted;		  /* by the last round */
	int ready;		  /* SLIRP_POLL_* */
};

struct kept_frame {
	struct kept_frame *next;
	size_t len;
	uint8_t data[];
};

struct user_timer {
	struct user *u;
	int fd;
	struct ev_source *source;
	SlirpTimerId id;
	void *opaque;
};

struct user {
	struct net_backend net; /* first */
	struct slirp_library lib;
	Slirp *slirp;
	struct watched **watch; /* by descriptor */
	size_t watches;
	int timer; /* for libslirp's own time-outs */
	struct ev_source *timer_source;
	struct kept_frame *kept, **kept_end;
	size_t kept_bytes;
	bool running;
};

static void pump(struct user *u);

/* ---- what libslirp calls ---- */

static bool
keep_frame(struct user *u, const void *buf, size_t len)
{
	struct kept_frame *k;

	if (u->kept_bytes + len > KEPT_BYTES_MAX || (k = malloc(sizeof(*k) + len)) == NULL)
		return false;
	k->next = NULL;
	k->len = len;
	memcpy(k->data, buf, len);
	*u->kept_end = k;
	u->kept_end = &k->next;
	u->kept_bytes += len;
	return true;
}

static ssize_t
cb_send_packet(const void *buf, size_t len, void *opaque)
{
	struct user *u = opaque;

	if (u->running && (u->kept != NULL || !u->net.peer.rx(u->net.peer.ctx, NULL, buf, len)))
		(void)keep_frame(u, buf, len); /* beyond the bound it is lost, as on a wire */
	return (ssize_t)len;
}

static void
cb_guest_error(const char *msg, void *opaque)
{
	log_guest("%s: %s", ((struct user *)opaque)->net.where, msg);
}

static int64_t
cb_clock_get_ns(void *opaque)
{
	struct timespec t;

	(void)opaque;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * (int64_t)NSEC_PER_SEC + t.tv_nsec;
}

static void
on_user_timer(void *arg, uint32_t events)
{
	struct user_timer *t = arg;
	uint64_t count;

	(void)events;
	if (read(t->fd, &count, sizeof(count)) != sizeof(count))
		return;
	t->u->lib.handle_timer(t->u->slirp, t->id, t->opaque);
	pump(t->u);
}

static void
timer_gone(struct user_timer *t)
{
	if (t->source != NULL)
		ev_remove(t->source);
	if (t->fd >= 0)
		close(t->fd);
	free(t);
}

static void *
cb_timer_new(SlirpTimerId id, void *opaque, void *ctx)
{
	struct user_timer *t = calloc(1, sizeof(*t));
	struct user *u = ctx;
	struct err err = {0};

	if (t == NULL)
		return NULL;
	*t = (struct user_timer){.u = u, .id = id, .opaque = opaque};
	t->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (t->fd >= 0)
		t->source = ev_add(u->net.loop, t->fd, EPOLLIN, on_user_timer, t, &err);
	if (t->source == NULL)
		log_warn("%s: a timer: %s", u->net.where, t->fd < 0 ? strerror(errno) : err.msg);
	return t;
}

static void
cb_timer_free(void *timer, void *opaque)
{
	(void)opaque;
	if (timer != NULL)
		timer_gone(timer);
}

/* expire: milliseconds of the clock above. */
static void
cb_timer_mod(void *timer, int64_t expire, void *opaque)
{
	struct user_timer *t = timer;
	struct itimerspec when = {.it_value = {expire / 1000, expire % 1000 * NSEC_PER_MSEC + 1}};

	(void)opaque;
	if (t != NULL && t->fd >= 0)
		timerfd_settime(t->fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void
cb_register_poll_fd(int fd, void *opaque)
{
	(void)fd, (void)opaque;
}

/* It is about to be closed; its number may come back for another socket. */
static void
cb_unregister_poll_fd(int fd, void *opaque)
{
	struct user *u = opaque;
	struct watched *w = fd >= 0 && (size_t)fd < u->watches ? u->watch[fd] : NULL;

	if (w == NULL)
		return;
	if (w->source != NULL)
		ev_remove(w->source);
	w->source = NULL;
	w->ready = 0;
}

static void
cb_notify(void *opaque)
{
	(void)opaque; /* we are on its thread */
}

static const SlirpCb callbacks = {
    .send_packet = cb_send_packet,
    .guest_error = cb_guest_error,
    .clock_get_ns = cb_clock_get_ns,
    .timer_free = cb_timer_free,
    .timer_mod = cb_timer_mod,
    .register_poll_fd = cb_register_poll_fd,
    .unregister_poll_fd = cb_unregister_poll_fd,
    .notify = cb_notify,
    .timer_new_opaque = cb_timer_new,
};

/* ---- waiting ---- */

static int
get_ready(int index, void *opaque)
{
	struct user *u = opaque;
	struct watched *w = index >= 0 && (size_t)index < u->watches ? u->watch[index] : NULL;
	int ready = w != NULL ? w->ready : 0;

	if (w != NULL)
		w->ready = 0;
	return ready;
}

static void
poll_slirp(struct user *u)
{
	u->lib.pollfds_poll(u->slirp, 0, get_ready, u);
}

static void
on_socket(void *arg, uint32_t events)
{
	struct watched *w = arg;
	struct user *u = w->u;

	w->ready =
	    ((events & EPOLLIN) != 0 ? SLIRP_POLL_IN : 0) | ((events & EPOLLOUT) != 0 ? SLIRP_POLL_OUT : 0) |
	    ((events & EPOLLPRI) != 0 ? SLIRP_POLL_PRI : 0) |
	    ((events & EPOLLERR) != 0 ? SLIRP_POLL_ERR : 0) | ((events & EPOLLHUP) != 0 ? SLIRP_POLL_HUP : 0);
	poll_slirp(u);
	pump(u);
}

static void
on_timeout(void *arg, uint32_t events)
{
	struct user *u = arg;
	uint64_t count;

	(void)events;
	if (read(u->timer, &count, sizeof(count)) != sizeof(count))
		return;
	poll_slirp(u);
	pump(u);
}

static struct watched *
watch_of(struct user *u, int fd)
{
	if ((size_t)fd >= u->watches) {
		size_t room = align_up((size_t)fd + 1, 64);
		struct watched **grown = reallocarray(u->watch, room, sizeof(struct watched *));

		if (grown == NULL)
			return NULL;
		memset(grown + u->watches, 0, (room - u->watches) * sizeof(struct watched *));
		u->watch = grown;
		u->watches = room;
	}
	if (u->watch[fd] == NULL) {
		u->watch[fd] = calloc(1, sizeof(struct watched));
		if (u->watch[fd] != NULL)
			*u->watch[fd] = (struct watched){.u = u, .fd = fd};
	}
	return u->watch[fd];
}

/* The index that get_ready() is asked with is the descriptor. */
static int
add_poll(int fd, int events, void *opaque)
{
	struct user *u = opaque;
	struct watched *w = watch_of(u, fd);
	uint32_t want = ((events & SLIRP_POLL_IN) != 0 ? EPOLLIN : 0u) |
			((events & SLIRP_POLL_OUT) != 0 ? EPOLLOUT : 0u) |
			((events & SLIRP_POLL_PRI) != 0 ? EPOLLPRI : 0u);
	struct err err = {0};

	if (w == NULL)
		return -1;
	w->wanted = true;
	if (w->source == NULL) {
		w->source = ev_add(u->net.loop, fd, want, on_socket, w, &err);
		if (w->source == NULL)
			log_warn("%s: %s", u->net.where, err.msg);
	} else if (w->events != want) {
		ev_modify(w->source, want);
	}
	w->events = want;
	return fd;
}

/* Ask libslirp what it waits for, and let the loop watch that. */
static void
pump(struct user *u)
{
	uint32_t timeout_ms = UINT32_MAX;
	struct itimerspec when = {0};

	if (!u->running)
		return;
	for (size_t i = 0; i < u->watches; i++) {
		if (u->watch[i] != NULL)
			u->watch[i]->wanted = false;
	}
	u->lib.pollfds_fill(u->slirp, &timeout_ms, add_poll, u);
	for (size_t i = 0; i < u->watches; i++) {
		struct watched *w = u->watch[i];

		if (w != NULL && w->source != NULL && !w->wanted) {
			ev_remove(w->source);
			w->source = NULL;
		}
	}
	if (timeout_ms != UINT32_MAX) {
		when.it_value.tv_sec = timeout_ms / 1000;
		when.it_value.tv_nsec = (long)(timeout_ms % 1000) * NSEC_PER_MSEC + 1;
	}
	timerfd_settime(u->timer, 0, &when, NULL);
}

/* ---- as a backend ---- */

static bool
user_send(struct net_backend *n, const uint8_t *hdr, const uint8_t *frame, size_t len)
{
	struct user *u = (struct user *)n;

	(void)hdr;
	u->lib.input(u->slirp, frame, (int)len);
	return true;
}

static void
user_sent(struct net_backend *n)
{
	pump((struct user *)n);
}

static void
user_resume(struct net_backend *n)
{
	struct user *u = (struct user *)n;

	while (u->kept != NULL && n->peer.rx(n->peer.ctx, NULL, u->kept->data, u->kept->len)) {
		struct kept_frame *k = u->kept;

		u->kept = k->next;
		if (u->kept == NULL)
			u->kept_end = &u->kept;
		u->kept_bytes -= k->len;
		free(k);
	}
}

static int
user_start(struct net_backend *n, struct err *err)
{
	struct user *u = (struct user *)n;

	u->timer_source = ev_add(n->loop, u->timer, EPOLLIN, on_timeout, u, err);
	if (u->timer_source == NULL)
		return -err->code;
	u->running = true;
	pump(u);
	return 0;
}

static void
user_stop(struct net_backend *n)
{
	struct user *u = (struct user *)n;

	u->running = false;
	ev_remove(u->timer_source);
	u->timer_source = NULL;
	for (size_t i = 0; i < u->watches; i++) {
		if (u->watch[i] == NULL || u->watch[i]->source == NULL)
			continue;
		ev_remove(u->watch[i]->source);
		u->watch[i]->source = NULL;
	}
}

static void
user_destroy(struct net_backend *n)
{
	struct user *u = (struct user *)n;

	if (u->slirp != NULL)
		u->lib.cleanup(u->slirp);
	if (u->timer >= 0)
		close(u->timer);
	for (size_t i = 0; i < u->watches; i++)
		free(u->watch[i]);
	free(u->watch);
	while (u->kept != NULL) {
		struct kept_frame *k = u->kept;

		u->kept = k->next;
		free(k);
	}
	free(u);
}

static const struct net_backend_ops user_ops = {
    .large = true,
    .default_mtu = NET_MTU_MAX,
    .start = user_start,
    .stop = user_stop,
    .destroy = user_destroy,
    .send = user_send,
    .sent = user_sent,
    .resume = user_resume,
};

/* ---- making ---- */

#define SONAME "libslirp.so.0" /* of 4.1 and later */

#define FUNCTION(member)                                                 \
	{                                                                \
		"slirp_" #member, offsetof(struct slirp_library, member) \
	}

static int
load_slirp(struct user *u, struct err *err)
{
	static const struct library_function functions[] = {
	    FUNCTION(new),	    FUNCTION(cleanup),	    FUNCTION(add_hostfwd),  FUNCTION(input),
	    FUNCTION(pollfds_fill), FUNCTION(pollfds_poll), FUNCTION(handle_timer),
	};

	if (library_load(SONAME, "libslirp", functions, ARRAY_LEN(functions), &u->lib, err) != 0)
		return err_prefix(err, "%s", u->net.where);
	return 0;
}

static int
add_forward(struct user *u, const char *text, struct err *err)
{
	struct net_hostfwd f;
	struct in_addr host, guest;

	if (!net_parse_hostfwd(text, &f))
		return err_set(err, EINVAL, "%s.hostfwd: '%s' is none (tcp:127.0.0.1:2222-:22, or udp:...)",
			       u->net.where, text);
	host.s_addr = f.host_addr;
	guest.s_addr = f.guest_addr;
	if (u->lib.add_hostfwd(u->slirp, f.udp, host, f.host_port, guest, f.guest_port) != 0)
		return err_set(err, errno, "%s.hostfwd: %s: %s (choose another port)", u->net.where, text,
			       strerror(errno));
	return 0;
}

/* "a;b": as the schema keeps a list. */
static int
add_forwards(struct user *u, const char *list, struct err *err)
{
	char *copy = strdup(list), *save = NULL;
	int ret = 0;

	if (copy == NULL)
		return err_set(err, ENOMEM, "%s: no memory", u->net.where);
	for (char *p = strtok_r(copy, ";", &save); p != NULL && ret == 0; p = strtok_r(NULL, ";", &save))
		ret = add_forward(u, p, err);
	free(copy);
	return ret;
}

static int
make_slirp(struct user *u, unsigned mtu, struct err *err)
{
	SlirpConfig c = {
	    .version = 4,
	    .in_enabled = true,
	    .vnetwork.s_addr = htonl(0x0a000200),
	    .vnetmask.s_addr = htonl(0xffffff00),
	    .vhost.s_addr = htonl(0x0a000202),
	    .vdhcp_start.s_addr = htonl(0x0a00020f),
	    .vnameserver.s_addr = htonl(0x0a000203),
	    .in6_enabled = true,
	    .vprefix_len = 64,
	    .if_mtu = mtu,
	    .if_mru = mtu,
	};

	inet_pton(AF_INET6, "fec0::", &c.vprefix_addr6);
	inet_pton(AF_INET6, "fec0::2", &c.vhost6);
	inet_pton(AF_INET6, "fec0::3", &c.vnameserver6);
	u->slirp = u->lib.new(&c, &callbacks, u);
	return u->slirp != NULL ? 0 : err_set(err, EINVAL, "%s: libslirp does not start", u->net.where);
}

struct net_backend *
net_user_create(const struct pci_model_env *env, unsigned mtu, struct err *err)
{
	const char *forwards = env->option(env->ctx, "hostfwd");
	struct user *u = calloc(1, sizeof(*u));

	if (u == NULL) {
		err_set(err, ENOMEM, "%s: no memory", env->where);
		return NULL;
	}
	u->net.ops = &user_ops;
	u->net.loop = env->loop; /* libslirp makes timers at once */
	snprintf(u->net.where, sizeof(u->net.where), "%s", env->where);
	u->kept_end = &u->kept;
	u->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (u->timer < 0)
		err_set(err, errno, "%s: a timer: %s", env->where, strerror(errno));
	else if (load_slirp(u, err) == 0 && make_slirp(u, mtu, err) == 0 &&
		 (forwards == NULL || add_forwards(u, forwards, err) == 0))
		return &u->net;
	user_destroy(&u->net);
	return NULL;
}
