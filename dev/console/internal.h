/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of dev/console/ share. */
#ifndef LHYVE_DEV_CONSOLE_INTERNAL_H
#define LHYVE_DEV_CONSOLE_INTERNAL_H

#include <pthread.h>
#include <sys/types.h>

#include "dev/console/console.h"
#include "dev/console/terminal.h"

enum { CONSOLE_IN_BYTES = 4096, CONSOLE_OUT_BYTES = 1 << 20 };

struct console {
	struct console_cfg cfg;
	char name[32], path[256];
	struct evloop *loop;
	struct console_peer peer;
	bool started;

	/* Input: loop thread only. */
	int in_fd;  /* -1: ended or none */
	int own_fd; /* opened by path; -1: none */
	int raw_fd; /* the terminal in raw mode; -1: none */
	bool in_tty, in_socket;
	bool in_direct; /* epoll refuses it: always readable */
	struct ev_source *in_source;
	struct escape escape;
	size_t in_pos, in_len;
	uint8_t in[CONSOLE_IN_BYTES];
	int kick_fd; /* eventfd: the peer has room */
	struct ev_source *kick_source;

	/* TCP and UNIX: loop thread only. */
	int listen_fd, client_fd;
	bool bound; /* UNIX: the name is ours to remove */
	unsigned tcp_port;
	bool client_half; /* sends nothing more */
	struct ev_source *listen_source;

	/* Output: under lock. */
	pthread_mutex_t lock;
	pthread_cond_t work; /* for the writer */
	pthread_cond_t done; /* the writer wrote, or left write() */
	pthread_t writer;
	int out_fd; /* -1: output vanishes */
	bool out_socket, writing, stopping, refused, complained;
	uint64_t written; /* bytes, to see progress */
	uint64_t tx_ns;	  /* when the last byte came */
	size_t out_head, out_len;
	uint8_t *out;
};

LH_MUST_CHECK int console_open_stdio(struct console *c, struct err *err);
LH_MUST_CHECK int console_open_path(struct console *c, struct err *err);
LH_MUST_CHECK int console_open_tcp(struct console *c, struct err *err);
LH_MUST_CHECK int console_open_unix(struct console *c, struct err *err);
void console_close_stdio(struct console *c);
void console_close_tcp(struct console *c);
LH_MUST_CHECK int console_tcp_start(struct console *c, struct err *err);
void console_tcp_stop(struct console *c);

/* Begin reading fd; and end it. */
void console_in_begin(struct console *c, int fd);
void console_in_end(struct console *c);
/* TCP: the client went. */
void console_tcp_input_ended(struct console *c);
/* Send output to fd (-1: nowhere); the writer has let go of the old one on return. */
void console_out_set(struct console *c, int fd);

#endif
