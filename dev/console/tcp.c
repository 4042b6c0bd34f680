/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A console behind a TCP or UNIX listener: one client at a time, others are turned away. A client
 * that only listens on (it closed its sending side) is kept until its connection breaks
 * or the next one comes. All callbacks run on the loop thread.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/evloop.h"
#include "base/log.h"
#include "dev/console/internal.h"

/* A number up to 65535, or a service's name. */
static bool
is_port(const char *text)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	return end != text && *end == '\0' ? n <= 65535 : *text != '\0';
}

/* "host:port" or "[host]:port" in place. An empty host is the loopback address. */
static int
split_address(char *text, const char **host, const char **port)
{
	char *colon = strrchr(text, ':');
	size_t n;

	if (colon == NULL || colon[1] == 0)
		return -EINVAL;
	*colon = 0;
	*port = colon + 1;
	n = strlen(text);
	if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
		text[n - 1] = 0;
		text++;
	}
	*host = *text != 0 ? text : "127.0.0.1";
	return 0;
}

static int
listen_on(const struct addrinfo *ai)
{
	int one = 1, fd, code;

	fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, ai->ai_protocol);
	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, 4) == 0)
		return fd;
	code = errno;
	close(fd);
	return -code;
}

static unsigned
bound_port(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
		return 0;
	if (ss.ss_family == AF_INET6)
		return ntohs(((struct sockaddr_in6 *)&ss)->sin6_port);
	return ntohs(((struct sockaddr_in *)&ss)->sin_port);
}

int
console_open_tcp(struct console *c, struct err *err)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
	const char *host, *port;
	struct addrinfo *list;
	char text[sizeof(c->path)];
	int ret;

	snprintf(text, sizeof(text), "%s", c->path);
	if (split_address(text, &host, &port) != 0)
		return err_set(err, EINVAL, "%s: tcp=%s: no address (give host:port)", c->name, c->path);
	if (!is_port(port)) /* getaddrinfo(3) takes numbers modulo 65536 */
		return err_set(err, EINVAL, "%s: tcp=%s: no port %s (give host:port, 0 to 65535)", c->name,
			       c->path, port);
	ret = getaddrinfo(host, port, &hints, &list);
	if (ret != 0)
		return err_set(err, EINVAL, "%s: tcp=%s: %s (give host:port)", c->name, c->path,
			       gai_strerror(ret));
	ret = -EADDRNOTAVAIL;
	for (const struct addrinfo *ai = list; ai != NULL && ret < 0; ai = ai->ai_next)
		ret = listen_on(ai);
	freeaddrinfo(list);
	if (ret < 0)
		return err_set(err, -ret, "%s: tcp=%s: %s (choose another port?)", c->name, c->path,
			       strerror(-ret));
	c->listen_fd = ret;
	c->tcp_port = bound_port(ret);
	return 0;
}

/* A socket that nobody listens on is left over from one that was killed. */
static bool
is_stale(const struct sockaddr_un *a)
{
	int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool stale = probe >= 0 && connect(probe, (const struct sockaddr *)a, sizeof(*a)) != 0 &&
		     errno == ECONNREFUSED;

	if (probe >= 0)
		close(probe);
	return stale;
}

int
console_open_unix(struct console *c, struct err *err)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct addrinfo ai = {.ai_family = AF_UNIX,
			      .ai_socktype = SOCK_STREAM,
			      .ai_addr = (struct sockaddr *)&a,
			      .ai_addrlen = sizeof(a)};

	if (strlen(c->path) >= sizeof(a.sun_path))
		return err_set(err, ENAMETOOLONG, "%s: %s: a socket's name has at most %zu bytes", c->name,
			       c->path, sizeof(a.sun_path) - 1);
	memcpy(a.sun_path, c->path, strlen(c->path));
	c->listen_fd = listen_on(&ai);
	if (c->listen_fd == -EADDRINUSE && is_stale(&a) && unlink(c->path) == 0)
		c->listen_fd = listen_on(&ai);
	if (c->listen_fd < 0) {
		int code = -c->listen_fd;

		c->listen_fd = -1;
		return err_set(err, code, "%s: %s: %s (a socket is made there)", c->name, c->path,
			       strerror(code));
	}
	c->bound = true;
	return 0;
}

static void
client_drop(struct console *c)
{
	if (c->client_fd < 0)
		return;
	shutdown(c->client_fd, SHUT_RDWR); /* a write() that waits for this client returns */
	console_in_end(c);
	if (c->in_source != NULL)
		ev_remove(c->in_source);
	c->in_source = NULL;
	console_out_set(c, -1);
	close(c->client_fd);
	c->client_fd = -1;
	if (c->started && c->peer.line != NULL)
		c->peer.line(c->peer.ctx, false);
}

static void
client_broke(void *arg, uint32_t events)
{
	(void)events;
	client_drop(arg);
}

/* The sending side closed. Wait for the rest with no interest but in errors. */
void
console_tcp_input_ended(struct console *c)
{
	c->client_half = true;
	c->in_source = ev_add(c->loop, c->client_fd, 0, client_broke, c, NULL);
	if (c->in_source == NULL)
		client_drop(c);
}

static void
client_new(void *arg, uint32_t events)
{
	struct console *c = arg;
	int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC), one = 1;

	(void)events;
	if (fd < 0)
		return;
	if (c->client_fd >= 0 && c->client_half)
		client_drop(c);
	if (c->client_fd >= 0) {
		static const char busy[] = "lhyve: this console has a client already\r\n";

		(void)!send(fd, busy, sizeof(busy) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		close(fd);
		return;
	}
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	c->client_fd = fd;
	c->client_half = false;
	console_out_set(c, fd);
	if (c->peer.line != NULL)
		c->peer.line(c->peer.ctx, true);
	console_in_begin(c, fd);
}

int
console_tcp_start(struct console *c, struct err *err)
{
	c->listen_source = ev_add(c->loop, c->listen_fd, EPOLLIN, client_new, c, err);
	if (c->listen_source == NULL)
		return -err->code;
	if (c->peer.line != NULL)
		c->peer.line(c->peer.ctx, false);
	log_info("%s: listening on %s, port %u", c->name, c->path, c->tcp_port);
	return 0;
}

/* Output that is on its way has been sent by now. */
void
console_tcp_stop(struct console *c)
{
	if (c->listen_source != NULL)
		ev_remove(c->listen_source);
	c->listen_source = NULL;
}

void
console_close_tcp(struct console *c)
{
	client_drop(c);
	if (c->bound)
		unlink(c->path);
	if (c->listen_fd >= 0)
		close(c->listen_fd);
}
