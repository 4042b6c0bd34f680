/* SPDX-License-Identifier: BSD-2-Clause */
/* A serial port's TCP connection and this terminal, tied together. */
#include "vmm/ctl/console.h"

#include <errno.h>
#include <jansson.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/util.h"
#include "dev/console/terminal.h"
#include "vmm/ctl/client.h"

#define TCP "tcp="

struct session {
	int fd;
	bool terminal; /* standard input is one: raw mode, escapes */
	bool input;    /* it has not ended */
	struct escape escape;
};

static bool
write_all(int fd, const uint8_t *buf, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, buf, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		buf += n;
		len -= (size_t)n;
	}
	return true;
}

/* False: the session is over. */
static bool
from_vm(struct session *s)
{
	uint8_t buf[4096];
	ssize_t n = read(s->fd, buf, sizeof(buf));

	if (n < 0 && errno == EINTR)
		return true;
	return n > 0 && write_all(STDOUT_FILENO, buf, (size_t)n);
}

/* Through the escapes; -1: `~.` */
static ssize_t
filter(struct session *s, const uint8_t *in, size_t len, uint8_t *out)
{
	size_t used = 0;

	for (size_t i = 0; i < len; i++) {
		int n = escape_feed(&s->escape, in[i], out + used);

		if (n < 0)
			return -1;
		used += (size_t)n;
	}
	return (ssize_t)used;
}

static bool
from_user(struct session *s)
{
	uint8_t buf[512], out[2 * sizeof(buf)];
	ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));

	if (n < 0 && errno == EINTR)
		return true;
	if (n <= 0) {
		s->input = false;
		return shutdown(s->fd, SHUT_WR) == 0 && !s->terminal;
	}
	if (!s->terminal)
		return write_all(s->fd, buf, (size_t)n);
	n = filter(s, buf, (size_t)n, out);
	return n >= 0 && write_all(s->fd, out, (size_t)n);
}

static void
tie(struct session *s)
{
	bool on = true;

	while (on) {
		struct pollfd p[2] = {{.fd = s->fd, .events = POLLIN},
				      {.fd = s->input ? STDIN_FILENO : -1, .events = POLLIN}};

		if (poll(p, 2, -1) < 0 && errno != EINTR)
			break;
		if (p[1].revents != 0)
			on = from_user(s);
		if (on && p[0].revents != 0)
			on = from_vm(s);
	}
}

static int
dial(const char *host, long long port, struct err *err)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *list;
	char text[24];
	int fd = -1, code;

	snprintf(text, sizeof(text), "%lld", port);
	code = getaddrinfo(host, text, &hints, &list);
	if (code != 0)
		return err_set(err, EADDRNOTAVAIL, "%s: %s", host, gai_strerror(code));
	code = ECONNREFUSED;
	for (const struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next) {
		fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
		if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
			code = errno;
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(list);
	return fd >= 0 ? fd : err_set(err, code, "%s port %s: %s", host, text, strerror(code));
}

static int
dial_unix(const char *path, struct err *err)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), code = errno;

	if (strlen(path) >= sizeof(a.sun_path)) {
		code = ENAMETOOLONG;
	} else if (fd >= 0) {
		strcpy(a.sun_path, path);
		if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
			return fd;
		code = errno;
	}
	if (fd >= 0)
		close(fd);
	return err_set(err, code, "%s: %s", path, strerror(code));
}

/* "tcp=host:port": the host, "" is this one; a wildcard address is reached by this one's. */
static void
host_of(const char *backend, char room[static 256])
{
	const char *colon = strrchr(backend, ':');
	size_t len;

	snprintf(room, 256, "%s", backend + strlen(TCP));
	if (colon != NULL && (size_t)(colon - backend) - strlen(TCP) < 256)
		room[colon - backend - (ptrdiff_t)strlen(TCP)] = '\0';
	len = strlen(room);
	if (len >= 2 && room[0] == '[' && room[len - 1] == ']') {
		memmove(room, room + 1, len - 2);
		room[len - 2] = '\0';
	}
	if (*room == '\0' || strcmp(room, "0.0.0.0") == 0)
		snprintf(room, 256, "127.0.0.1");
	else if (strcmp(room, "::") == 0)
		snprintf(room, 256, "::1");
}

static int
open_port(const char *name, const json_t *status, const char *port, struct err *err)
{
	const json_t *consoles = json_object_get(status, "consoles");
	char host[256];

	for (size_t i = 0; i < json_array_size(consoles); i++) {
		const json_t *c = json_array_get(consoles, i);
		const char *its = json_string_value(json_object_get(c, "name"));
		const char *backend = json_string_value(json_object_get(c, "backend"));
		const char *path = json_string_value(json_object_get(c, "socket"));

		if (its == NULL || backend == NULL || strcmp(its, port) != 0)
			continue;
		if (path != NULL)
			return dial_unix(path, err);
		if (strncmp(backend, TCP, strlen(TCP)) != 0)
			return err_set(
			    err, ENOTSUP,
			    "%s: %s is %s: only a port behind tcp=HOST:PORT or a socket can be joined (-l "
			    "%s,tcp=127.0.0.1:0)",
			    name, port, backend, port);
		host_of(backend, host);
		return dial(host, (long long)json_integer_value(json_object_get(c, "tcp_port")), err);
	}
	return err_set(err, ENOENT, "%s: it has no port %s (lhyvectl status %s lists them)", name, port,
		       name);
}

int
ctl_console(const char *name, const char *port, struct err *err)
{
	struct session s = {.input = true, .terminal = isatty(STDIN_FILENO) == 1};
	json_t *status = ctl_get(name, "/status", err);
	int ret = 0;

	if (status == NULL)
		return -err->code;
	s.fd = open_port(name, status, port, err);
	json_decref(status);
	if (s.fd < 0)
		return s.fd;
	escape_init(&s.escape);
	if (s.terminal)
		ret = tty_raw_enter(STDIN_FILENO, err);
	if (ret == 0) {
		tie(&s);
		if (s.terminal)
			tty_raw_leave(STDIN_FILENO);
	}
	close(s.fd);
	return ret;
}
