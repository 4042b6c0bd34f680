/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control socket of a running VM: HTTP/1.1 with JSON on a UNIX socket, served by one thread of its own. What a
 * client does, or fails to do, concerns that thread only: the number of connections, the size of requests and
 * the time for one are bounded (control.c has the limits).
 *
 * create, start, stop and destroy from the thread that owns the board.
 */
#ifndef LHYVE_VMM_CONTROL_CONTROL_H
#define LHYVE_VMM_CONTROL_CONTROL_H

#include "base/err.h"

struct board;
struct config;
struct control;

/*
 * Claim the socket that the configuration names (control.socket, or the default by the VM's name). Clients may connect
 * from now on, and wait. NULL and err->code 0: there is to be none (control.socket = none), or the default folder
 * cannot be had, of which a warning is logged. NULL and an error: a VM of this name is running, or the path is
 * no good.
 */
LH_MUST_CHECK struct control *control_create(struct config *c, struct err *err);
/*
 * Serve this board. The configuration tree is the control thread's until control_stop(). `engine` is its name.
 * Both take NULL.
 */
LH_MUST_CHECK int control_start(struct control *ctl, struct board *b, const char *engine, struct err *err);
/* Replies on their way go out first. Before board_destroy(). */
void control_stop(struct control *ctl);
/* The socket goes. */
void control_destroy(struct control *ctl);

#endif
