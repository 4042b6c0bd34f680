/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The one epoll loop of a VM. Callbacks run on the thread that is inside
 * evloop_run(), never concurrently with one another. Registration and
 * evloop_stop() may be called from any thread, also from callbacks.
 */
#ifndef LHYVE_BASE_EVLOOP_H
#define LHYVE_BASE_EVLOOP_H

#include <stdint.h>
#include "base/err.h"

struct evloop;
struct ev_source; /* one registered descriptor; owned by the loop until ev_remove() */

typedef void (*ev_fn)(void *arg, uint32_t events); /* events: EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR */

LH_MUST_CHECK struct evloop *evloop_create(struct err *err);
void evloop_destroy(struct evloop *l);

/* Watch fd (which stays the caller's). A descriptor that epoll refuses (EPERM: a regular file,
 * or /dev/null) gives NULL with err->code == EPERM; the caller reads it directly. */
LH_MUST_CHECK struct ev_source *ev_add(struct evloop *l, int fd, uint32_t events, ev_fn fn, void *arg,
				       struct err *err);
void ev_modify(struct ev_source *s, uint32_t events);

/* After return on the loop's own thread, or after the callback in flight has ended when called from
 * another thread, fn is not called again. */
void ev_remove(struct ev_source *s);

/* Run callbacks until evloop_stop(). */
void evloop_run(struct evloop *l);
void evloop_stop(struct evloop *l);

#endif
