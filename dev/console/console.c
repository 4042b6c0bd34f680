/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The two directions of a console. Input: read on the loop thread, through the escape
 * filter, into a small queue that the peer empties. A terminal is read even when the
 * peer has no room, so that `~.` works on a guest that is stuck; what does not fit is
 * lost, as on a terminal. Pipes, files and sockets wait instead.
 *
 * Output: a ring of 1 MiB and one thread with blocking writes. O_NONBLOCK is never set on
 * a descriptor that we did not open: it would change the terminal for other programs too.
 *
 * Lock: `lock` guards the output side; nothing else is taken under it.
 */
#include "dev/console/console.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/evloop.h"
#include "base/log.h"
#include "base/util.h"
#include "dev/console/internal.h"

enum { READ_BYTES = 512, WRITE_BYTES = 65536, PUMP_ROUNDS = 16, STALL_S = 30 };

/* ---- input ---- */

static void
in_unwatch(struct console *c)
{
	if (c->in_source != NULL)
		ev_remove(c->in_source);
	c->in_source = NULL;
}

void
console_in_end(struct console *c)
{
	uint8_t held[2];
	int n = escape_end(&c->escape, held);

	if (c->in_fd < 0)
		return;
	in_unwatch(c);
	c->in_fd = -1;
	c->in_direct = false;
	if (n > 0 && c->in_len < sizeof(c->in))
		c->in[c->in_len++] = held[0];
}

/* Through the filter into the queue. Surplus is dropped: only a terminal gets here with no room. */
static void
in_filter(struct console *c, const uint8_t *raw, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		uint8_t out[2];
		int n = 1;

		out[0] = raw[i];
		if (c->cfg.type == CONSOLE_TYPE_STDIO && c->cfg.escape != NULL)
			n = escape_feed(&c->escape, raw[i], out);
		if (n < 0)
			c->cfg.escape(c->cfg.escape_ctx);
		for (int j = 0; j < n && c->in_len < sizeof(c->in); j++)
			c->in[c->in_len++] = out[j];
	}
}

/* One read. Returns true when something arrived. */
static bool
in_read(struct console *c)
{
	uint8_t raw[READ_BYTES];
	ssize_t n;

	if (c->in_socket)
		n = recv(c->in_fd, raw, sizeof(raw), MSG_DONTWAIT);
	else
		n = read(c->in_fd, raw, sizeof(raw));
	if (n > 0) {
		in_filter(c, raw, (size_t)n);
		return true;
	}
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return false;
	console_in_end(c);
	if (c->in_socket)
		console_tcp_input_ended(c);
	return false;
}

static void
in_deliver(struct console *c)
{
	if (c->in_pos < c->in_len)
		c->in_pos += c->peer.rx(c->peer.ctx, &c->in[c->in_pos], c->in_len - c->in_pos);
	if (c->in_pos == c->in_len) {
		c->in_pos = c->in_len = 0;
	} else if (c->in_pos > 0) {
		memmove(c->in, &c->in[c->in_pos], c->in_len - c->in_pos);
		c->in_len -= c->in_pos;
		c->in_pos = 0;
	}
}

static void in_ready(void *arg, uint32_t events);

/* Watch the descriptor while input is wanted. A source with no interest would still report hang-ups, for
 * ever. */
static void
in_watch(struct console *c)
{
	bool wanted = c->in_fd >= 0 && !c->in_direct && (c->in_tty || c->in_len == 0);
	struct err err = {0};

	if (c->in_fd < 0)
		return; /* in_source, if any, is a half-closed client's */
	if (!wanted) {
		in_unwatch(c);
		return;
	}
	if (c->in_source != NULL)
		return;
	c->in_source = ev_add(c->loop, c->in_fd, EPOLLIN, in_ready, c, &err);
	if (c->in_source != NULL)
		return;
	if (err.code == EPERM) { /* a regular file, /dev/null */
		c->in_direct = true;
		console_rx_room(c);
		return;
	}
	if (err.code != EBADF)
		log_warn("%s: no input: %s", c->name, err.msg);
	console_in_end(c);
}

/* Hand over what is queued; read on where epoll cannot tell. */
static void
in_pump(struct console *c)
{
	in_deliver(c);
	for (unsigned i = 0; c->in_direct && c->in_len == 0; i++) {
		if (i == PUMP_ROUNDS) {
			console_rx_room(c); /* others on the loop first */
			return;
		}
		if (in_read(c) || c->in_len > 0)
			in_deliver(c);
	}
	in_watch(c);
}

static void
in_ready(void *arg, uint32_t events)
{
	struct console *c = arg;

	(void)events;
	in_read(c);
	in_pump(c);
}

static void
in_kicked(void *arg, uint32_t events)
{
	struct console *c = arg;
	uint64_t count;

	(void)events;
	if (read(c->kick_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		log_warn("%s: eventfd: %s", c->name, strerror(errno));
	in_pump(c);
}

void
console_rx_room(struct console *c)
{
	uint64_t one = 1;

	while (write(c->kick_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

void
console_in_begin(struct console *c, int fd)
{
	c->in_fd = fd;
	c->in_direct = false;
	escape_init(&c->escape);
	in_watch(c);
}

/* ---- output ---- */

enum { QUIET_NS = 10 * 1000 * 1000 };

static uint64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/*
 * With the lock, and nothing in the ring: a byte after a pause, somebody's echo or a first line, is written
 * at once, where the descriptor takes it without waiting. A stream goes by the writer, which writes many at a
 * time.
 */
static bool
out_at_once(struct console *c, uint8_t byte)
{
	struct iovec v = {.iov_base = &byte, .iov_len = 1};
	uint64_t now = now_ns(), since = now - c->tx_ns;
	sigset_t broken, old;
	ssize_t n;

	c->tx_ns = now;
	if (since < QUIET_NS || c->writing || c->out_socket || c->complained)
		return false;
	sigemptyset(&broken);
	sigaddset(&broken, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &broken, &old);
	n = pwritev2(c->out_fd, &v, 1, -1, RWF_NOWAIT);
	if (n < 0 && errno == EPIPE)
		sigtimedwait(&broken, NULL, &(struct timespec){0});
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	c->written += n == 1;
	return n == 1;
}

bool
console_tx(struct console *c, uint8_t byte)
{
	bool ok = true, first = false;

	pthread_mutex_lock(&c->lock);
	if (c->out_fd >= 0) {
		ok = c->out_len < CONSOLE_OUT_BYTES;
		if (c->out_len == 0 && out_at_once(c, byte)) {
			; /* gone */
		} else if (ok) {
			first = c->out_len == 0;
			c->out[(c->out_head + c->out_len++) % CONSOLE_OUT_BYTES] = byte;
		} else {
			c->refused = true;
		}
	}
	pthread_mutex_unlock(&c->lock);
	if (first) /* without the lock, which the writer takes first */
		pthread_cond_signal(&c->work);
	return ok;
}

/* Blocking; the one place where the writer may be cancelled. */
static ssize_t
out_write(int fd, bool socket, const uint8_t *p, size_t len)
{
	ssize_t n;
	int old, code;

	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old);
	n = socket ? send(fd, p, len, MSG_NOSIGNAL) : write(fd, p, len);
	code = errno;
	if (n < 0 && code == EAGAIN) { /* somebody made our standard output non-blocking */
		struct pollfd pfd = {.fd = fd, .events = POLLOUT};

		(void)poll(&pfd, 1, 1000);
	}
	pthread_setcancelstate(old, NULL);
	errno = code;
	return n;
}

/* After a failed write, with the lock: retry, drop this chunk, or give the descriptor up. */
static size_t
out_failed(struct console *c, int fd, size_t len, int code)
{
	if (code == EINTR || code == EAGAIN)
		return 0;
	if (!c->complained && !c->out_socket && code != EPIPE)
		log_warn("%s: output is lost: %s", c->name, strerror(code));
	c->complained = true;
	if (code != ENOSPC && code != EDQUOT && code != EFBIG && c->out_fd == fd)
		c->out_fd = -1;
	return len;
}

/* Write one run of the ring. Called and returns with the lock held. */
static void
out_some(struct console *c)
{
	size_t len = MIN(MIN(c->out_len, CONSOLE_OUT_BYTES - c->out_head), (size_t)WRITE_BYTES);
	const uint8_t *p = &c->out[c->out_head];
	int fd = c->out_fd, code;
	bool socket = c->out_socket;
	ssize_t n = (ssize_t)len;

	if (fd >= 0) {
		c->writing = true;
		pthread_mutex_unlock(&c->lock);
		n = out_write(fd, socket, p, len);
		code = errno;
		pthread_mutex_lock(&c->lock);
		c->writing = false;
		if (n < 0)
			n = (ssize_t)out_failed(c, fd, len, code);
	}
	c->out_head = (c->out_head + (size_t)n) % CONSOLE_OUT_BYTES;
	c->out_len -= (size_t)n;
	c->written += (uint64_t)n;
	pthread_cond_broadcast(&c->done);
}

static void *
writer_main(void *arg)
{
	struct console *c = arg;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	pthread_mutex_lock(&c->lock);
	while (c->out_len > 0 || c->refused || !c->stopping) {
		if (c->refused && c->out_len <= CONSOLE_OUT_BYTES / 2) {
			c->refused = false;
			pthread_mutex_unlock(&c->lock);
			c->peer.tx_ready(c->peer.ctx);
			pthread_mutex_lock(&c->lock);
		} else if (c->out_len > 0) {
			out_some(c);
		} else {
			pthread_cond_wait(&c->work, &c->lock);
		}
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

void
console_out_set(struct console *c, int fd)
{
	pthread_mutex_lock(&c->lock);
	c->out_fd = fd;
	while (c->writing)
		pthread_cond_wait(&c->done, &c->lock);
	/* What the last client did not take is not for the next. */
	c->out_head = c->out_len = 0;
	c->complained = false;
	pthread_cond_signal(&c->work); /* there is room for who was refused */
	pthread_mutex_unlock(&c->lock);
}

/* All signals stay with the other threads; SIGPIPE becomes EPIPE. */
static int
writer_start(struct console *c, struct err *err)
{
	sigset_t all, old;
	int ret;

	c->stopping = false;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&c->writer, NULL, writer_main, c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret != 0)
		return err_set(err, ret, "%s: no thread: %s (raise the limit of processes: ulimit -u)",
			       c->name, strerror(ret));
	return 0;
}

/* Wait for the ring to empty. false: nothing moved for STALL_S seconds. */
static bool
out_drain(struct console *c)
{
	bool moving = true;

	pthread_mutex_lock(&c->lock);
	c->stopping = true;
	pthread_cond_signal(&c->work);
	while (c->out_len > 0 && moving) {
		uint64_t before = c->written;
		struct timespec until;

		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += STALL_S;
		while (c->out_len > 0 && c->written == before && moving)
			moving = pthread_cond_timedwait(&c->done, &c->lock, &until) != ETIMEDOUT;
		moving |= c->written != before;
	}
	moving = c->out_len == 0;
	pthread_mutex_unlock(&c->lock);
	return moving;
}

static void
writer_stop(struct console *c)
{
	if (!out_drain(c)) {
		log_warn("%s: the last %zu bytes of output are lost: nobody reads them", c->name, c->out_len);
		pthread_cancel(c->writer);
	}
	pthread_join(c->writer, NULL);
	c->writing = false;
	c->out_head = c->out_len = 0;
}

/* ---- life ---- */

static int
open_kind(struct console *c, struct err *err)
{
	static int (*const open_fn[])(struct console * c, struct err * err) = {
	    [CONSOLE_TYPE_STDIO] = console_open_stdio,
	    [CONSOLE_TYPE_PATH] = console_open_path,
	    [CONSOLE_TYPE_UNIX] = console_open_unix,
	    [CONSOLE_TYPE_TCP] = console_open_tcp,
	};

	return open_fn[c->cfg.type](c, err);
}

struct console *
console_create(const struct console_cfg *cfg, struct evloop *loop, struct err *err)
{
	struct console *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		err_set(err, ENOMEM, "%s: no memory", cfg->name);
		return NULL;
	}
	c->cfg = *cfg;
	snprintf(c->name, sizeof(c->name), "%s", cfg->name);
	c->loop = loop;
	c->in_fd = c->out_fd = c->own_fd = c->raw_fd = c->listen_fd = c->client_fd = -1;
	c->in_socket = c->out_socket = cfg->type >= CONSOLE_TYPE_UNIX;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->work, NULL);
	pthread_cond_init(&c->done, NULL);
	c->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->out = malloc(CONSOLE_OUT_BYTES);
	if (c->kick_fd < 0 || c->out == NULL) {
		err_set(err, ENOMEM, "%s: no memory or descriptor left", c->name);
		goto fail;
	}
	if (cfg->path != NULL && strlen(cfg->path) >= sizeof(c->path)) {
		err_set(err, ENAMETOOLONG, "%s: the path is longer than %zu bytes", c->name,
			sizeof(c->path) - 1);
		goto fail;
	}
	snprintf(c->path, sizeof(c->path), "%s", cfg->path != NULL ? cfg->path : "");
	if (open_kind(c, err) == 0)
		return c;
fail:
	c->cfg.type = CONSOLE_TYPE_PATH; /* nothing was opened */
	console_destroy(c);
	return NULL;
}

/* Raw mode and the kinds of descriptors that need care. */
static int
start_input(struct console *c, struct err *err)
{
	if (c->in_socket)
		return console_tcp_start(c, err);
	if (c->in_fd < 0)
		return 0;
	c->in_tty = isatty(c->in_fd) == 1;
	if (c->in_tty) {
		int ret = tty_raw_enter(c->in_fd, err);

		if (ret != 0)
			return err_prefix(err, "%s", c->name);
		c->raw_fd = c->in_fd;
	}
	console_in_begin(c, c->in_fd);
	return 0;
}

int
console_start(struct console *c, const struct console_peer *peer, struct err *err)
{
	int ret;

	LH_ASSERT(!c->started);
	c->peer = *peer;
	c->kick_source = ev_add(c->loop, c->kick_fd, EPOLLIN, in_kicked, c, err);
	if (c->kick_source == NULL)
		return -err->code;
	ret = writer_start(c, err);
	if (ret != 0) {
		ev_remove(c->kick_source);
		c->kick_source = NULL;
		return ret;
	}
	c->started = true;
	ret = start_input(c, err);
	if (ret != 0)
		console_stop(c);
	return ret;
}

void
console_stop(struct console *c)
{
	if (!c->started)
		return;
	console_tcp_stop(c);
	ev_remove(c->kick_source);
	c->kick_source = NULL;
	in_unwatch(c);
	writer_stop(c);
	if (c->raw_fd >= 0)
		tty_raw_leave(c->raw_fd);
	c->raw_fd = -1;
	c->started = false;
}

void
console_destroy(struct console *c)
{
	if (c == NULL)
		return;
	console_stop(c);
	switch (c->cfg.type) {
	case CONSOLE_TYPE_STDIO:
		console_close_stdio(c);
		break;
	case CONSOLE_TYPE_UNIX:
	case CONSOLE_TYPE_TCP:
		console_close_tcp(c);
		break;
	case CONSOLE_TYPE_PATH:
		if (c->own_fd >= 0)
			close(c->own_fd);
		break;
	}
	if (c->kick_fd >= 0)
		close(c->kick_fd);
	free(c->out);
	pthread_cond_destroy(&c->work);
	pthread_cond_destroy(&c->done);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

unsigned
console_tcp_port(const struct console *c)
{
	return c->tcp_port;
}
