/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The host's end of a serial line: the terminal, a device or file, a TCP listener.
 *
 * Input is read on the event loop, only while the peer has room. Output goes into a
 * bounded buffer that one writer thread empties with blocking writes, so that a slow
 * reader stalls nothing but itself; when the buffer is full console_tx() refuses.
 *
 * Threads: console_tx() and console_rx_room() from any thread; peer callbacks come from
 * the loop thread (rx, line) or the writer thread (tx_ready), with no console lock held.
 * create and destroy from any one thread; start and stop while the loop does not run, or on its thread.
 */
#ifndef LHYVE_DEV_CONSOLE_H
#define LHYVE_DEV_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

struct console;
struct evloop;

enum console_type {
	CONSOLE_TYPE_STDIO, /* standard input and output */
	CONSOLE_TYPE_PATH,  /* tty, pty, FIFO; or a regular file, which takes output only */
	CONSOLE_TYPE_UNIX,  /* path is a socket that we make and listen on; one client at a time */
	CONSOLE_TYPE_TCP,   /* path is "host:port" or "[v6]:port"; one client at a time */
};

struct console_cfg {
	enum console_type type;
	const char *name; /* "com1", for messages */
	const char *path;
	/* `~.` typed after a newline (stdio only). Loop thread. */
	void (*escape)(void *ctx);
	void *escape_ctx;
};

struct console_peer {
	size_t (*rx)(void *ctx, const uint8_t *buf, size_t len); /* returns bytes taken */
	void (*tx_ready)(void *ctx);				 /* after console_tx() had refused */
	void (*line)(void *ctx, bool connected);		 /* may be NULL: a client came or went */
	void *ctx;
};

/* Opens everything; reads nothing and leaves the terminal as it is until console_start(). */
LH_MUST_CHECK struct console *console_create(const struct console_cfg *cfg, struct evloop *loop,
					     struct err *err);
/* Raw mode, input and the writer thread begin. */
LH_MUST_CHECK int console_start(struct console *c, const struct console_peer *peer, struct err *err);
/*
 * No callback runs after return. Waits until what was written is out; gives up with a
 * warning when the reader takes nothing for 30 s. The terminal is as it was.
 */
void console_stop(struct console *c);
void console_destroy(struct console *c);

/* Queue one byte. false: the buffer is full; tx_ready() comes when there is room. */
bool console_tx(struct console *c, uint8_t byte);
/* The peer can take input again. */
void console_rx_room(struct console *c);
/* The TCP port listened on (for port 0). 0 for other kinds. */
unsigned console_tcp_port(const struct console *c);

/*
 * Give the terminal back as it was found. Async-signal-safe, any number of times. Runs by
 * itself at exit() and before the default action of a fatal signal; programs that end
 * another way (_exit, a handler of their own) call it.
 */
void console_tty_restore(void);

#endif
