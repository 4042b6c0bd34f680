/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control socket's endpoints: one table of method, path and handler. Knows no sockets and no HTTP library; what
 * it is given is not trusted. Control thread, to which the board's outside calls and, while the VM runs, the
 * configuration tree belong.
 */
#ifndef LHYVE_VMM_CONTROL_REQUEST_H
#define LHYVE_VMM_CONTROL_REQUEST_H

#include <stddef.h>

struct board;
struct config;

enum { CONTROL_MAX_BODY = 64 << 10 /* bytes */ };

struct control_vm {
	struct board *board;
	struct config *config; /* resolved */
	const char *name, *engine;
	const char *socket; /* path, for status */
};

struct control_request {
	const char *method, *path; /* decoded, without the query */
	/* The query's argument of this name, decoded; NULL: there is none. */
	const char *(*arg)(void *ctx, const char *name);
	void *arg_ctx;
	const char *body; /* body_len bytes, at most CONTROL_MAX_BODY */
	size_t body_len;
};

struct control_reply {
	unsigned status;	 /* of HTTP */
	const char *type;	 /* media type */
	char allow[64];		 /* for 405; else empty */
	char *body;		 /* malloc; the caller's. NULL: out of memory, status is 500 */
	size_t len;
	/* To be called when the reply is on its way: it ends the VM. May be NULL. */
	void (*after)(struct board *b);
};

void control_answer(const struct control_vm *vm, const struct control_request *q, struct control_reply *r);
/* An error as the endpoints give it: {"error": text}. */
void control_answer_error(struct control_reply *r, unsigned status, const char *text);

#endif
