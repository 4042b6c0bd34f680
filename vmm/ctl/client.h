/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests to a VM's control socket (libcurl). One thread. */
#ifndef LHYVE_VMM_CTL_CLIENT_H
#define LHYVE_VMM_CTL_CLIENT_H

#include <jansson.h>
#include <stddef.h>
#include <sys/types.h>
#include "base/err.h"

struct ctl_request {
	const char *method, *path; /* "GET", "/regs?cpu=1": already encoded */
	json_t *body;		   /* NULL: none; not taken */
	long timeout_s;		   /* for the whole; 0: 30 s */
};

struct ctl_reply {
	long status; /* of HTTP: 200 to 299 */
	char *text;  /* the body, with a zero byte; free() */
	size_t len;
	pid_t pid;   /* of the VM's process, as the kernel has it; 0: not known */
	int pidfd;   /* that process, -1: not known; close() */
};

/*
 * Ask the VM `name` (or the socket of that path). Errors of the VM's come back with its own text and EPROTO, or ENOTSUP
 * for what it cannot do yet; ENOENT: no VM of this name runs. ETIMEDOUT: it gives no answer. *r is freed by
 * ctl_reply_free() in every case; pid and pidfd are set as soon as there was a connection.
 */
LH_MUST_CHECK int ctl_call(const char *name, const struct ctl_request *q, struct ctl_reply *r, struct err *err);
/* The same for a socket by its path, where errors call the VM `name`. */
LH_MUST_CHECK int ctl_call_path(const char *path, const char *name, const struct ctl_request *q, struct ctl_reply *r,
				struct err *err);
void ctl_reply_free(struct ctl_reply *r);

/* GET path as JSON: a new reference, or NULL and an error. */
LH_MUST_CHECK json_t *ctl_get(const char *name, const char *path, struct err *err);
/* A part of a path, percent-encoded (malloc), or NULL: out of memory. */
char *ctl_encode(const char *part);

#endif
