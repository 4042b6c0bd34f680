/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The epoll loop. One mutex guards the list of sources and the marks below; it is
 * never held during a callback, and no other lock is taken under it.
 *
 * A source that is removed while the loop runs may still be in the batch of events
 * that epoll_wait() gave: it is marked dead and freed when that batch is done.
 */
#include "base/evloop.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"

#define BATCH 64

struct ev_source {
	struct evloop *loop;
	int fd;
	ev_fn fn;
	void *arg;
	bool dead;
	struct ev_source *prev, *next; /* in loop->sources or loop->dead */
};

struct evloop {
	int epfd, wakefd;
	pthread_mutex_t lock;
	pthread_cond_t idle; /* a callback has ended */
	/* under lock: */
	bool running, stop;
	pthread_t thread;	   /* valid while running */
	struct ev_source *current; /* whose callback runs */
	struct ev_source *sources, *dead;
};

static void
list_push(struct ev_source **head, struct ev_source *s)
{
	s->prev = NULL;
	s->next = *head;
	if (*head != NULL)
		(*head)->prev = s;
	*head = s;
}

static void
list_unlink(struct ev_source **head, struct ev_source *s)
{
	if (s->prev != NULL)
		s->prev->next = s->next;
	else
		*head = s->next;
	if (s->next != NULL)
		s->next->prev = s->prev;
}

static void
list_free(struct ev_source **head)
{
	while (*head != NULL) {
		struct ev_source *s = *head;

		*head = s->next;
		free(s);
	}
}

struct evloop *
evloop_create(struct err *err)
{
	struct evloop *l = calloc(1, sizeof(*l));
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};

	if (l == NULL) {
		err_set(err, ENOMEM, "event loop: no memory");
		return NULL;
	}
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	l->wakefd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->epfd < 0 || l->wakefd < 0 || epoll_ctl(l->epfd, EPOLL_CTL_ADD, l->wakefd, &ev) < 0) {
		err_set(err, errno, "event loop: %s (raise the limit of open files?)", strerror(errno));
		if (l->epfd >= 0)
			close(l->epfd);
		if (l->wakefd >= 0)
			close(l->wakefd);
		free(l);
		return NULL;
	}
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->idle, NULL);
	return l;
}

void
evloop_destroy(struct evloop *l)
{
	if (l == NULL)
		return;
	LH_ASSERT(!l->running);
	list_free(&l->sources);
	list_free(&l->dead);
	close(l->epfd);
	close(l->wakefd);
	pthread_cond_destroy(&l->idle);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

struct ev_source *
ev_add(struct evloop *l, int fd, uint32_t events, ev_fn fn, void *arg, struct err *err)
{
	struct ev_source *s = calloc(1, sizeof(*s));
	struct epoll_event ev = {.events = events, .data.ptr = s};

	if (s == NULL) {
		err_set(err, ENOMEM, "event loop: no memory");
		return NULL;
	}
	*s = (struct ev_source){.loop = l, .fd = fd, .fn = fn, .arg = arg};
	pthread_mutex_lock(&l->lock);
	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) < 0) {
		int code = errno;

		pthread_mutex_unlock(&l->lock);
		free(s);
		err_set(err, code, "event loop: descriptor %d cannot be watched: %s", fd, strerror(code));
		return NULL;
	}
	list_push(&l->sources, s);
	pthread_mutex_unlock(&l->lock);
	return s;
}

void
ev_modify(struct ev_source *s, uint32_t events)
{
	struct evloop *l = s->loop;
	struct epoll_event ev = {.events = events, .data.ptr = s};

	pthread_mutex_lock(&l->lock);
	if (!s->dead && epoll_ctl(l->epfd, EPOLL_CTL_MOD, s->fd, &ev) < 0)
		log_warn("event loop: descriptor %d: %s", s->fd, strerror(errno));
	pthread_mutex_unlock(&l->lock);
}

void
ev_remove(struct ev_source *s)
{
	struct evloop *l;

	if (s == NULL)
		return;
	l = s->loop;
	pthread_mutex_lock(&l->lock);
	LH_ASSERT(!s->dead);
	/* Fails when the descriptor was closed before; epoll has then dropped it already. */
	(void)epoll_ctl(l->epfd, EPOLL_CTL_DEL, s->fd, NULL);
	s->dead = true;
	list_unlink(&l->sources, s);
	if (!l->running) {
		free(s);
	} else {
		bool own = pthread_equal(l->thread, pthread_self());

		while (l->current == s && !own)
			pthread_cond_wait(&l->idle, &l->lock);
		list_push(&l->dead, s);
	}
	pthread_mutex_unlock(&l->lock);
}

/* One event of a batch: the source's callback, unless it is dead. */
static void
dispatch(struct evloop *l, struct ev_source *s, uint32_t events)
{
	pthread_mutex_lock(&l->lock);
	if (!s->dead) {
		l->current = s;
		pthread_mutex_unlock(&l->lock);
		s->fn(s->arg, events);
		pthread_mutex_lock(&l->lock);
		l->current = NULL;
		pthread_cond_broadcast(&l->idle);
	}
	pthread_mutex_unlock(&l->lock);
}

static bool
stop_taken(struct evloop *l)
{
	bool stop;

	pthread_mutex_lock(&l->lock);
	stop = l->stop;
	l->stop = false;
	pthread_mutex_unlock(&l->lock);
	return stop;
}

static void
run_batch(struct evloop *l)
{
	struct epoll_event ev[BATCH];
	int n = epoll_wait(l->epfd, ev, BATCH, -1);
	uint64_t count;

	for (int i = 0; i < n; i++) {
		if (ev[i].data.ptr != NULL)
			dispatch(l, ev[i].data.ptr, ev[i].events);
		else if (read(l->wakefd, &count, sizeof(count)) < 0 && errno != EAGAIN)
			log_warn("event loop: eventfd: %s", strerror(errno));
	}
	pthread_mutex_lock(&l->lock);
	list_free(&l->dead);
	pthread_mutex_unlock(&l->lock);
}

void
evloop_run(struct evloop *l)
{
	pthread_mutex_lock(&l->lock);
	LH_ASSERT(!l->running);
	l->running = true;
	l->thread = pthread_self();
	pthread_mutex_unlock(&l->lock);

	while (!stop_taken(l))
		run_batch(l);

	pthread_mutex_lock(&l->lock);
	l->running = false;
	pthread_mutex_unlock(&l->lock);
}

void
evloop_stop(struct evloop *l)
{
	uint64_t one = 1;

	pthread_mutex_lock(&l->lock);
	l->stop = true;
	pthread_mutex_unlock(&l->lock);
	/* EAGAIN: the counter is full of wakes already. */
	while (write(l->wakefd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}
