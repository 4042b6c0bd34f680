/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * HTTP by libcurl over a connection that we make ourselves, so that errors can say what they mean, and so
 * that we know which process is at the other end.
 */
#include "vmm/ctl/client.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
#include "vmm/control/where.h"

enum { MAX_REPLY = 64 << 20 /* bytes */, TIMEOUT_S = 30 };

/* ---- the connection ---- */

/* curl closes its socket; a second descriptor for it still knows who the other end was. */
static curl_socket_t
open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
	int *kept = arg, fd = socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);

	(void)purpose;
	if (fd < 0)
		return CURL_SOCKET_BAD;
	if (*kept >= 0)
		close(*kept);
	*kept = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return fd;
}

static void
know_peer(int fd, struct ctl_reply *r)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0 || peer.pid <= 0)
		return;
	r->pid = peer.pid;
	r->pidfd = (int)syscall(SYS_pidfd_open, peer.pid, 0);
}

static int
no_answer(CURL *c, CURLcode code, const char *path, const char *name, struct err *err)
{
	long os = 0;

	curl_easy_getinfo(c, CURLINFO_OS_ERRNO, &os);
	if (code == CURLE_COULDNT_CONNECT && (os == ENOENT || os == ECONNREFUSED))
		return err_set(err, ENOENT, "%s: no such VM is running (lhyvectl list shows those that are)",
			       name);
	/* A VM that accepts nobody has a full queue: EAGAIN. */
	if (code == CURLE_OPERATION_TIMEDOUT || (code == CURLE_COULDNT_CONNECT && os == EAGAIN))
		return err_set(err, ETIMEDOUT, "%s: the VM does not answer", name);
	if (code == CURLE_COULDNT_CONNECT && os != 0)
		return err_set(err, (int)os, "%s: %s", path, strerror((int)os));
	return err_set(err, EPROTO, "%s: no answer: %s", name, curl_easy_strerror(code));
}

/* ---- the request ---- */

static size_t
take_reply(char *data, size_t one, size_t size, void *arg)
{
	struct ctl_reply *r = arg;
	char *grown;

	(void)one;
	if (size > MAX_REPLY - r->len)
		return 0;
	grown = realloc(r->text, r->len + size + 1);
	if (grown == NULL)
		return 0;
	memcpy(grown + r->len, data, size);
	r->text = grown;
	r->len += size;
	r->text[r->len] = '\0';
	return size;
}

/* Whatever the VM's side sent, an error is one line. */
static int
refusal(const char *name, const struct ctl_reply *r, struct err *err)
{
	json_t *o = r->text != NULL ? json_loadb(r->text, r->len, 0, NULL) : NULL;
	const char *text = json_string_value(json_object_get(o, "error"));
	int ret;

	if (text == NULL)
		text = "an answer that is none (not a control socket?)";
	ret = err_set(err, r->status == 501 ? ENOTSUP : EPROTO, "%s: %s", name, text);
	json_decref(o);
	return ret;
}

static void
set_options(CURL *c, const char *path, const char *body, const struct ctl_request *q, struct ctl_reply *r,
	    int *kept)
{
	curl_easy_setopt(c, CURLOPT_UNIX_SOCKET_PATH, path);
	curl_easy_setopt(c, CURLOPT_PROXY, "");
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, kept);
	curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, q->method);
	curl_easy_setopt(c, CURLOPT_TIMEOUT, q->timeout_s != 0 ? q->timeout_s : (long)TIMEOUT_S);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take_reply);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, r);
	if (strcmp(q->method, "GET") != 0)
		curl_easy_setopt(c, CURLOPT_COPYPOSTFIELDS, body != NULL ? body : "");
}

static int
perform(CURL *c, const char *path, const char *name, const struct ctl_request *q, struct ctl_reply *r,
	struct err *err)
{
	char url[1024];
	CURLcode code;

	if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return err_set(err, ENAMETOOLONG, "%s: longer than a socket's name may be", path);
	if (snprintf(url, sizeof(url), "http://lhyve%s", q->path) >= (int)sizeof(url))
		return err_set(err, E2BIG, "%s: too long", q->path);
	curl_easy_setopt(c, CURLOPT_URL, url);
	code = curl_easy_perform(c);
	if (code != CURLE_OK)
		return no_answer(c, code, path, name, err);
	curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &r->status);
	return r->status >= 200 && r->status < 300 ? 0 : refusal(name, r, err);
}

int
ctl_call_path(const char *path, const char *name, const struct ctl_request *q, struct ctl_reply *r,
	      struct err *err)
{
	CURL *c = curl_easy_init();
	char *body = NULL;
	int kept = -1, ret;

	*r = (struct ctl_reply){.pidfd = -1};
	if (q->body != NULL)
		body = json_dumps(q->body, JSON_COMPACT);
	if (c == NULL || (q->body != NULL && body == NULL)) {
		ret = err_set(err, ENOMEM, "out of memory");
	} else {
		set_options(c, path, body, q, r, &kept);
		ret = perform(c, path, name, q, r, err);
		know_peer(kept, r);
	}
	if (c != NULL)
		curl_easy_cleanup(c);
	if (kept >= 0)
		close(kept);
	free(body);
	return ret;
}

int
ctl_call(const char *name, const struct ctl_request *q, struct ctl_reply *r, struct err *err)
{
	char path[CONTROL_PATH_ROOM];

	control_find(name, path);
	return ctl_call_path(path, name, q, r, err);
}

void
ctl_reply_free(struct ctl_reply *r)
{
	free(r->text);
	if (r->pidfd >= 0)
		close(r->pidfd);
	*r = (struct ctl_reply){.pidfd = -1};
}

json_t *
ctl_get(const char *name, const char *path, struct err *err)
{
	const struct ctl_request q = {.method = "GET", .path = path};
	struct ctl_reply r;
	json_t *o = NULL;

	if (ctl_call(name, &q, &r, err) == 0) {
		o = json_loadb(r.text != NULL ? r.text : "", r.len, 0, NULL);
		if (o == NULL)
			err_set(err, EPROTO, "%s: an answer that is no JSON", name);
	}
	ctl_reply_free(&r);
	return o;
}

char *
ctl_encode(const char *part)
{
	char *quoted = curl_easy_escape(NULL, part, 0), *copy = quoted != NULL ? strdup(quoted) : NULL;

	curl_free(quoted);
	return copy;
}
