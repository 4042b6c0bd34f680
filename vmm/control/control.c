/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control thread: libmicrohttpd's daemon, run by a loop of our own, so that it can be stopped, and so
 * that connections have a deadline as a whole: the library's own timeout starts anew with every byte.
 *
 * A connection that has not got a complete request across REQUEST_S seconds after it was made (or after its
 * last request) is shut down. When more than CONNECTIONS are open the one that has kept us waiting longest
 * goes, so that silent clients cannot keep others out.
 */
#include "vmm/control/control.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "base/log.h"
#include "base/util.h"
#include "vmm/config.h"
#include "vmm/control/mhd.h"
#include "vmm/control/request.h"
#include "vmm/control/socket.h"
#include "vmm/control/where.h"

enum {
	CONNECTIONS = 32,
	LIBRARY_CONNECTIONS = 2 * CONNECTIONS, /* those shut down but not yet closed count there */
	CONNECTION_BYTES = 32 << 10,	       /* of headers and buffers, each */
	REQUEST_S = 10,
	DRAIN_MS = 500, /* for replies that are on their way when the VM ends */
};

struct peer {
	struct MHD_Connection *connection; /* NULL: this place is free */
	int fd;
	int64_t since_ms; /* it was made, or its last request ended */
	uint64_t order;	  /* in which these came */
	bool cut;
};

/* A request while it comes in. */
struct incoming {
	char *body;
	size_t len;
	bool too_long, answered;
	void (*after)(struct board *b);
};

struct control {
	struct control_socket socket;
	struct control_vm vm;
	struct config *config;
	struct mhd mhd;
	struct MHD_Daemon *daemon; /* NULL until the first client comes */
	pthread_t thread;
	bool started;
	int stop_fd;
	struct peer peer[LIBRARY_CONNECTIONS];
	uint64_t order;	  /* of the next event in a peer's life */
	unsigned replies; /* on their way */
};

static int64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- connections ---- */

/* The library sees the end and closes it. */
static void
cut(struct peer *p)
{
	shutdown(p->fd, SHUT_RDWR);
	p->cut = true;
}

static void
cut_oldest(struct control *ctl)
{
	struct peer *oldest = NULL;

	for (unsigned i = 0; i < LIBRARY_CONNECTIONS; i++) {
		struct peer *p = &ctl->peer[i];

		if (p->connection != NULL && !p->cut && (oldest == NULL || p->order < oldest->order))
			oldest = p;
	}
	if (oldest != NULL)
		cut(oldest);
}

static unsigned
living_peers(const struct control *ctl)
{
	unsigned n = 0;

	for (unsigned i = 0; i < LIBRARY_CONNECTIONS; i++)
		n += ctl->peer[i].connection != NULL && !ctl->peer[i].cut;
	return n;
}

static void
peer_came(struct control *ctl, struct MHD_Connection *c, void **context)
{
	const union MHD_ConnectionInfo *fd =
	    ctl->mhd.get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);

	for (unsigned i = 0; i < LIBRARY_CONNECTIONS; i++) {
		if (ctl->peer[i].connection != NULL)
			continue;
		ctl->peer[i] = (struct peer){
		    .connection = c, .fd = fd->connect_fd, .since_ms = now_ms(), .order = ctl->order++};
		*context = &ctl->peer[i];
		break;
	}
	if (living_peers(ctl) > CONNECTIONS)
		cut_oldest(ctl);
}

static void
on_connection(void *arg, struct MHD_Connection *c, void **context, enum MHD_ConnectionNotificationCode code)
{
	struct peer *p = *context;

	if (code == MHD_CONNECTION_NOTIFY_STARTED)
		peer_came(arg, c, context);
	else if (p != NULL)
		p->connection = NULL;
}

/* How long the loop may sleep: until the first deadline, -1: for ever. What is overdue is cut. */
static int64_t
look_at_deadlines(struct control *ctl)
{
	int64_t now = now_ms(), first = -1;

	for (unsigned i = 0; i < LIBRARY_CONNECTIONS; i++) {
		struct peer *p = &ctl->peer[i];
		int64_t left = p->since_ms + REQUEST_S * 1000 - now;

		if (p->connection == NULL || p->cut)
			continue;
		if (left <= 0)
			cut(p);
		else if (first < 0 || left < first)
			first = left;
	}
	return first;
}

/* ---- requests ---- */

struct query {
	const struct mhd *mhd;
	struct MHD_Connection *connection;
};

static const char *
query_argument(void *ctx, const char *name)
{
	const struct query *q = ctx;
	const char *value = NULL;
	size_t len = 0;

	if (q->mhd->lookup_connection_value_n(q->connection, MHD_GET_ARGUMENT_KIND, name, strlen(name),
					      &value, &len) == MHD_NO)
		return NULL;
	return value != NULL ? value : "";
}

static enum MHD_Result
send_reply(const struct mhd *mhd, struct MHD_Connection *c, struct control_reply *r)
{
	struct MHD_Response *response;
	enum MHD_Result queued;

	if (r->body == NULL) {
		static char none[] = "{\"error\": \"out of memory\"}\n";

		response = mhd->create_response_from_buffer(strlen(none), none, MHD_RESPMEM_PERSISTENT);
	} else {
		response = mhd->create_response_from_buffer(r->len, r->body, MHD_RESPMEM_MUST_FREE);
		if (response == NULL)
			free(r->body);
	}
	if (response == NULL)
		return MHD_NO;
	(void)mhd->add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, r->type);
	(void)mhd->add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	if (r->allow[0] != '\0')
		(void)mhd->add_response_header(response, MHD_HTTP_HEADER_ALLOW, r->allow);
	queued = mhd->queue_response(c, r->status, response);
	mhd->destroy_response(response);
	return queued;
}

static enum MHD_Result
answer(struct control *ctl, struct MHD_Connection *c, const char *url, const char *method,
       struct incoming *in)
{
	struct query query = {&ctl->mhd, c};
	const struct control_request q = {
	    .method = method,
	    .path = url,
	    .arg = query_argument,
	    .arg_ctx = &query,
	    .body = in->body,
	    .body_len = in->len,
	};
	struct control_reply r = {.type = "application/json"};

	if (in->too_long)
		control_answer_error(&r, 413, "the body is longer than 65536 bytes");
	else
		control_answer(&ctl->vm, &q, &r);
	in->after = r.after;
	in->answered = true;
	ctl->replies++;
	return send_reply(&ctl->mhd, c, &r);
}

static void
take_body(struct incoming *in, const char *data, size_t size)
{
	char *grown = NULL;

	if (!in->too_long && size <= CONTROL_MAX_BODY - in->len)
		grown = realloc(in->body, in->len + size);
	if (grown == NULL) {
		in->too_long = true; /* the rest is read and dropped */
		return;
	}
	memcpy(grown + in->len, data, size);
	in->body = grown;
	in->len += size;
}

/* Called with the headers, then with each piece of the body, then at its end. */
static enum MHD_Result
on_request(void *arg, struct MHD_Connection *c, const char *url, const char *method, const char *version,
	   const char *data, size_t *size, void **context)
{
	struct control *ctl = arg;
	struct incoming *in = *context;

	(void)version;
	if (in == NULL) {
		in = calloc(1, sizeof(*in));
		*context = in;
		return in != NULL ? MHD_YES : MHD_NO;
	}
	if (*size != 0) {
		take_body(in, data, *size);
		*size = 0;
		return MHD_YES;
	}
	return answer(ctl, c, url, method, in);
}

/* The reply is out, or the client is gone. */
static void
on_completed(void *arg, struct MHD_Connection *c, void **context, enum MHD_RequestTerminationCode code)
{
	struct control *ctl = arg;
	const union MHD_ConnectionInfo *info =
	    ctl->mhd.get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct incoming *in = *context;
	struct peer *p = info != NULL ? info->socket_context : NULL;

	(void)code;
	if (p != NULL) {
		p->since_ms = now_ms();
		p->order = ctl->order++;
	}
	if (in == NULL)
		return;
	*context = NULL;
	ctl->replies -= in->answered;
	if (in->after != NULL)
		in->after(ctl->vm.board);
	free(in->body);
	free(in);
}

/* ---- the thread ---- */

static void
on_message(void *arg, const char *fmt, va_list ap)
{
	char text[256];

	(void)arg;
	vsnprintf(text, sizeof(text), fmt, ap);
	text[strcspn(text, "\r\n")] = '\0';
	log_debug("control: %s", text);
}

/* Until something happens, the library's or our first deadline comes, or limit_ms have passed (-1: no limit).
 * False: the thread is to stop. */
static bool
wait_for_work(struct control *ctl, int epoll_fd, int64_t limit_ms)
{
	struct pollfd p[2] = {{.fd = epoll_fd, .events = POLLIN}, {.fd = ctl->stop_fd, .events = POLLIN}};
	int64_t ms = look_at_deadlines(ctl);
	MHD_UNSIGNED_LONG_LONG library;

	if (ctl->mhd.get_timeout(ctl->daemon, &library) == MHD_YES && (ms < 0 || (int64_t)library < ms))
		ms = (int64_t)library;
	if (limit_ms >= 0 && (ms < 0 || limit_ms < ms))
		ms = limit_ms;
	(void)poll(p, limit_ms < 0 ? 2 : 1, (int)MIN(ms, INT32_MAX));
	return p[1].revents == 0;
}

static int
start_daemon(struct control *ctl, struct err *err)
{
	int r = mhd_load(&ctl->mhd, err);

	if (r != 0)
		return r;
	/* The listening descriptor goes over to the library, which closes it. */
	ctl->daemon = ctl->mhd.start_daemon(
	    MHD_USE_EPOLL | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request, ctl, MHD_OPTION_EXTERNAL_LOGGER,
	    on_message, NULL, MHD_OPTION_LISTEN_SOCKET, (MHD_socket)ctl->socket.listen_fd,
	    MHD_OPTION_CONNECTION_LIMIT, (unsigned)LIBRARY_CONNECTIONS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
	    (size_t)CONNECTION_BYTES, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)REQUEST_S,
	    MHD_OPTION_NOTIFY_COMPLETED, on_completed, ctl, MHD_OPTION_NOTIFY_CONNECTION, on_connection, ctl,
	    MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
	return ctl->daemon != NULL ? 0 : err_set(err, EIO, "the HTTP server does not start");
}

static void
serve(struct control *ctl)
{
	const union MHD_DaemonInfo *info = ctl->mhd.get_daemon_info(ctl->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	int64_t end;

	LH_ASSERT(info != NULL);
	while (wait_for_work(ctl, info->epoll_fd, -1))
		(void)ctl->mhd.run(ctl->daemon);
	end = now_ms() + DRAIN_MS;
	while (ctl->replies > 0 && now_ms() < end) {
		(void)wait_for_work(ctl, info->epoll_fd, MAX(end - now_ms(), 0));
		(void)ctl->mhd.run(ctl->daemon);
	}
}

/* False: the thread is to stop. */
static bool
wait_for_first_client(struct control *ctl)
{
	struct pollfd p[2] = {{.fd = ctl->socket.listen_fd, .events = POLLIN},
			      {.fd = ctl->stop_fd, .events = POLLIN}};

	while (p[0].revents == 0 && p[1].revents == 0)
		(void)poll(p, 2, -1);
	return p[1].revents == 0;
}

/* No server: who comes is refused, and who waits already is cut off. */
static void
refuse_clients(struct control *ctl)
{
	int fd;

	shutdown(ctl->socket.listen_fd, SHUT_RDWR);
	while ((fd = accept4(ctl->socket.listen_fd, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		close(fd);
}

static void *
control_main(void *arg)
{
	struct control *ctl = arg;
	struct err err = {0};

	pthread_setname_np(pthread_self(), "control");
	if (!wait_for_first_client(ctl))
		return NULL;
	if (start_daemon(ctl, &err) == 0) {
		serve(ctl);
	} else {
		log_error("control: %s", err.msg);
		refuse_clients(ctl);
	}
	return NULL;
}

/* ---- life ---- */

/* The path to claim, or NULL: none. *is_default: nobody asked for just this one. */
static const char *
socket_path(const struct config *c, char room[static CONTROL_PATH_ROOM], bool *is_default)
{
	const char *path = config_get(c, "control.socket");

	*is_default = path == NULL;
	if (path != NULL)
		return strcmp(path, "none") != 0 ? path : NULL;
	control_default_path(config_get(c, "name"), room);
	return room;
}

struct control *
control_create(struct config *c, struct err *err)
{
	char room[CONTROL_PATH_ROOM];
	bool is_default;
	const char *path = socket_path(c, room, &is_default);
	struct control *ctl;

	if (path == NULL)
		return NULL;
	ctl = calloc(1, sizeof(*ctl));
	if (ctl == NULL) {
		err_set(err, ENOMEM, "control: out of memory");
		return NULL;
	}
	ctl->config = c;
	ctl->stop_fd = -1;
	if (control_socket_claim(&ctl->socket, path, err) == 0)
		return ctl;
	free(ctl);
	if (is_default && err->code != EBUSY) {
		log_warn("no control socket: %s", err->msg);
		*err = (struct err){0};
	}
	return NULL;
}

int
control_start(struct control *ctl, struct board *b, const char *engine, struct err *err)
{
	int r;

	if (ctl == NULL)
		return 0;
	ctl->vm = (struct control_vm){
	    .board = b,
	    .config = ctl->config,
	    .name = config_get(ctl->config, "name"),
	    .engine = engine,
	    .socket = ctl->socket.path,
	};
	ctl->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (ctl->stop_fd < 0)
		return err_set(err, errno, "control: eventfd: %s (raise the limit of open files?)",
			       strerror(errno));
	r = pthread_create(&ctl->thread, NULL, control_main, ctl);
	if (r != 0)
		return err_set(err, r, "control: no thread: %s (raise the limit of processes: ulimit -u)",
			       strerror(r));
	ctl->started = true;
	return 0;
}

void
control_stop(struct control *ctl)
{
	const uint64_t one = 1;

	if (ctl == NULL || !ctl->started)
		return;
	LH_ASSERT(write(ctl->stop_fd, &one, sizeof(one)) == (ssize_t)sizeof(one));
	pthread_join(ctl->thread, NULL);
	ctl->started = false;
}

void
control_destroy(struct control *ctl)
{
	if (ctl == NULL)
		return;
	control_stop(ctl);
	if (ctl->daemon != NULL) {
		unlink(ctl->socket.path);
		ctl->mhd.stop_daemon(ctl->daemon);
		ctl->socket.listen_fd = -1;
	}
	if (ctl->stop_fd >= 0)
		close(ctl->stop_fd);
	control_socket_release(&ctl->socket);
	free(ctl);
}
