/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The VM clock. Two offsets, one onto the host's CLOCK_MONOTONIC and one onto its TSC, are
 * constant while the clock runs; stopping freezes both values, starting makes new offsets.
 *
 * Locks: `time` is read under a sequence count (readers never block), written with
 * `lock` held. `lock` also guards the heap and the timerfd; it is taken last, with any
 * device's lock held, and no callback runs under it.
 */
#include "base/vmclock.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/evloop.h"
#include "base/log.h"
#include "base/tsc_host.h"
#include "base/util.h"

#define SYNTH_TSC_KHZ 1000000ull /* a TSC made from ns counts ns: 1 GHz, and wraps after 584 years */
#define SAMPLES	      8

struct vm_clock {
	enum vm_clock_kind kind;
	bool tsc_is_host;

	_Atomic unsigned seq; /* odd while the next three change */
	_Atomic bool running;
	_Atomic uint64_t ns_base;  /* running: host ns + ns_base = now; stopped: now */
	_Atomic uint64_t tsc_base; /* the same for the TSC */
	_Atomic int64_t wall_base; /* manual clock: wall time - now */

	pthread_mutex_t lock;
	pthread_cond_t idle;	/* a callback has ended */
	struct vm_timer **heap; /* 1..count, by deadline */
	uint32_t count, room;
	struct vm_timer *current; /* whose callback runs */
	pthread_t current_thread;
	struct ev_source *source;
	int timerfd;
	uint64_t programmed_ns; /* when the timerfd fires; UINT64_MAX: never */
};

static uint64_t
host_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* Both host clocks at one instant: the narrowest of some readings. */
static void
host_sample(uint64_t *ns, uint64_t *tsc)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < SAMPLES; i++) {
		uint64_t t0 = tsc_host_read(), n = host_ns(), t1 = tsc_host_read();

		if (t1 - t0 < best) {
			best = t1 - t0;
			*ns = n;
			*tsc = t0 + (t1 - t0) / 2;
		}
	}
}

/* ---- reading ---- */

struct reading {
	bool running;
	uint64_t ns_base, tsc_base;
};

static struct reading
read_bases(struct vm_clock *c)
{
	struct reading r;
	unsigned seq;

	do {
		seq = atomic_load_explicit(&c->seq, memory_order_acquire);
		r.running = atomic_load_explicit(&c->running, memory_order_relaxed);
		r.ns_base = atomic_load_explicit(&c->ns_base, memory_order_relaxed);
		r.tsc_base = atomic_load_explicit(&c->tsc_base, memory_order_relaxed);
		atomic_thread_fence(memory_order_acquire);
	} while ((seq & 1) != 0 || atomic_load_explicit(&c->seq, memory_order_relaxed) != seq);
	return r;
}

/* With c->lock held. */
static void
write_bases(struct vm_clock *c, struct reading r)
{
	unsigned seq = atomic_load_explicit(&c->seq, memory_order_relaxed);

	atomic_store_explicit(&c->seq, seq + 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	atomic_store_explicit(&c->running, r.running, memory_order_relaxed);
	atomic_store_explicit(&c->ns_base, r.ns_base, memory_order_relaxed);
	atomic_store_explicit(&c->tsc_base, r.tsc_base, memory_order_relaxed);
	atomic_store_explicit(&c->seq, seq + 2, memory_order_release);
}

static bool
follows_host(const struct vm_clock *c, const struct reading *r)
{
	return c->kind == VM_CLOCK_HOST && r->running;
}

uint64_t
vm_clock_now_ns(struct vm_clock *c)
{
	struct reading r = read_bases(c);

	return follows_host(c, &r) ? host_ns() + r.ns_base : r.ns_base;
}

/* Of a TSC made from ns only: the host's rate is found when somebody asks for it. */
static uint64_t
ns_to_tsc(uint64_t ns)
{
	return (uint64_t)((unsigned __int128)ns * SYNTH_TSC_KHZ / 1000000);
}

uint64_t
vm_clock_tsc(struct vm_clock *c)
{
	struct reading r;

	if (!c->tsc_is_host)
		return ns_to_tsc(vm_clock_now_ns(c));
	r = read_bases(c);
	return r.running ? tsc_host_read() + r.tsc_base : r.tsc_base;
}

uint64_t
vm_clock_tsc_offset(struct vm_clock *c)
{
	struct reading r = read_bases(c);

	if (!c->tsc_is_host)
		return 0;
	return r.running ? r.tsc_base : r.tsc_base - tsc_host_read();
}

bool
vm_clock_tsc_is_host(const struct vm_clock *c)
{
	return c->tsc_is_host;
}

uint64_t
vm_clock_tsc_khz(struct vm_clock *c)
{
	return c->tsc_is_host ? tsc_host_khz() : SYNTH_TSC_KHZ;
}

uint64_t
vm_clock_tsc_to_ns(struct vm_clock *c, uint64_t tsc)
{
	uint64_t now_ns = vm_clock_now_ns(c), now_tsc = vm_clock_tsc(c), khz;
	unsigned __int128 delta;

	if (tsc <= now_tsc)
		return now_ns;
	/* Rounded up: a timer set to the result must not find the TSC short of its mark. */
	khz = vm_clock_tsc_khz(c);
	delta = ((unsigned __int128)(tsc - now_tsc) * 1000000 + khz - 1) / khz;
	return delta > UINT64_MAX - now_ns ? UINT64_MAX : now_ns + (uint64_t)delta;
}

int64_t
vm_clock_wall_ns(struct vm_clock *c)
{
	struct timespec ts;

	if (c->kind == VM_CLOCK_MANUAL)
		return atomic_load(&c->wall_base) + (int64_t)vm_clock_now_ns(c);
	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * (int64_t)NSEC_PER_SEC + ts.tv_nsec;
}

void
vm_clock_set_wall_ns(struct vm_clock *c, int64_t wall_ns)
{
	LH_ASSERT(c->kind == VM_CLOCK_MANUAL);
	atomic_store(&c->wall_base, wall_ns - (int64_t)vm_clock_now_ns(c));
}

/* ---- the heap: c->lock held ---- */

static void
heap_put(struct vm_clock *c, uint32_t i, struct vm_timer *t)
{
	c->heap[i] = t;
	__atomic_store_n(&t->heap_index, i, __ATOMIC_RELAXED);
}

static void
heap_up(struct vm_clock *c, uint32_t i, struct vm_timer *t)
{
	for (; i > 1 && c->heap[i / 2]->deadline_ns > t->deadline_ns; i /= 2)
		heap_put(c, i, c->heap[i / 2]);
	heap_put(c, i, t);
}

static void
heap_down(struct vm_clock *c, uint32_t i, struct vm_timer *t)
{
	for (;;) {
		uint32_t child = 2 * i;

		if (child > c->count)
			break;
		if (child < c->count && c->heap[child + 1]->deadline_ns < c->heap[child]->deadline_ns)
			child++;
		if (c->heap[child]->deadline_ns >= t->deadline_ns)
			break;
		heap_put(c, i, c->heap[child]);
		i = child;
	}
	heap_put(c, i, t);
}

static void
heap_insert(struct vm_clock *c, struct vm_timer *t)
{
	if (c->count + 1 >= c->room) {
		uint32_t room = c->room * 2 + 16;
		struct vm_timer **heap = realloc(c->heap, room * sizeof(heap[0]));

		LH_ASSERT(heap != NULL); /* a few pointers a device: no guest drives this number */
		c->heap = heap;
		c->room = room;
	}
	heap_up(c, ++c->count, t);
}

static void
heap_remove(struct vm_clock *c, struct vm_timer *t)
{
	uint32_t i = t->heap_index;
	struct vm_timer *last = c->heap[c->count--];

	__atomic_store_n(&t->heap_index, 0, __ATOMIC_RELAXED);
	if (last == t)
		return;
	if (i > 1 && c->heap[i / 2]->deadline_ns > last->deadline_ns)
		heap_up(c, i, last);
	else
		heap_down(c, i, last);
}

/*
 * Make the timerfd fire for the first timer. When it would fire earlier than that, it is
 * left alone: one idle wake is cheaper than a system call for each timer that moves on.
 */
static void
program_timerfd(struct vm_clock *c)
{
	struct reading r = read_bases(c);
	struct itimerspec its = {0};
	uint64_t first, host;

	if (c->source == NULL || !r.running || c->count == 0)
		return;
	first = c->heap[1]->deadline_ns;
	if (c->programmed_ns <= first)
		return;
	/* ns_base may be "negative"; a deadline before the host's own zero is simply due. */
	host = first - r.ns_base;
	if (first <= vm_clock_now_ns(c) || host == 0)
		host = 1;
	else if (host > (uint64_t)INT64_MAX)
		host = (uint64_t)INT64_MAX;
	its.it_value.tv_sec = (time_t)(host / NSEC_PER_SEC);
	its.it_value.tv_nsec = (long)(host % NSEC_PER_SEC);
	if (timerfd_settime(c->timerfd, TFD_TIMER_ABSTIME, &its, NULL) == 0)
		c->programmed_ns = first;
	else
		log_error("clock: timerfd_settime: %s", strerror(errno));
}

/* Take the first timer that is due at `now` and run it, lock dropped meanwhile. False: none is. */
static bool
run_one(struct vm_clock *c, uint64_t now)
{
	struct vm_timer *t;
	void (*fn)(void *);
	void *arg;

	if (c->count == 0 || c->heap[1]->deadline_ns > now)
		return false;
	t = c->heap[1];
	heap_remove(c, t);
	fn = t->fn;
	arg = t->arg;
	c->current = t;
	c->current_thread = pthread_self();
	pthread_mutex_unlock(&c->lock);
	fn(arg);
	pthread_mutex_lock(&c->lock);
	c->current = NULL;
	pthread_cond_broadcast(&c->idle);
	return true;
}

/*
 * The timerfd fired. One look at the time for the whole batch: a timer that re-arms itself in
 * the past runs again from the next event, after the loop's other sources have had their turn.
 */
static void
on_timerfd(void *arg, uint32_t events)
{
	struct vm_clock *c = arg;
	uint64_t expirations, now;

	(void)events;
	if (read(c->timerfd, &expirations, sizeof(expirations)) < 0 && errno != EAGAIN && errno != EINTR)
		log_warn("clock: timerfd: %s", strerror(errno));
	pthread_mutex_lock(&c->lock);
	c->programmed_ns = UINT64_MAX;
	now = vm_clock_now_ns(c);
	for (uint32_t left = c->count; left > 0 && read_bases(c).running && run_one(c, now); left--)
		;
	program_timerfd(c);
	pthread_mutex_unlock(&c->lock);
}

/* ---- timers ---- */

void
vm_timer_init(struct vm_timer *t, struct vm_clock *c, void (*fn)(void *arg), void *arg)
{
	*t = (struct vm_timer){.clock = c, .fn = fn, .arg = arg};
}

void
vm_timer_set(struct vm_timer *t, uint64_t deadline_ns)
{
	struct vm_clock *c = t->clock;

	pthread_mutex_lock(&c->lock);
	if (t->heap_index != 0)
		heap_remove(c, t);
	t->deadline_ns = deadline_ns;
	heap_insert(c, t);
	program_timerfd(c);
	pthread_mutex_unlock(&c->lock);
}

void
vm_timer_cancel(struct vm_timer *t)
{
	struct vm_clock *c = t->clock;

	/* Cheap when there is nothing to do: only the owner arms, and it is the one who calls. */
	if (!vm_timer_armed(t))
		return;
	pthread_mutex_lock(&c->lock);
	if (t->heap_index != 0)
		heap_remove(c, t);
	pthread_mutex_unlock(&c->lock);
}

void
vm_timer_cancel_sync(struct vm_timer *t)
{
	struct vm_clock *c = t->clock;

	if (c == NULL)
		return;
	pthread_mutex_lock(&c->lock);
	while (c->current == t && !pthread_equal(c->current_thread, pthread_self()))
		pthread_cond_wait(&c->idle, &c->lock);
	/* After the wait: the callback may have armed the timer again. */
	if (t->heap_index != 0)
		heap_remove(c, t);
	pthread_mutex_unlock(&c->lock);
}

bool
vm_timer_armed(const struct vm_timer *t)
{
	return __atomic_load_n(&t->heap_index, __ATOMIC_RELAXED) != 0;
}

/* ---- life ---- */

struct vm_clock *
vm_clock_create(enum vm_clock_kind kind, struct err *err)
{
	struct vm_clock *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		err_set(err, ENOMEM, "clock: no memory");
		return NULL;
	}
	c->kind = kind;
	c->tsc_is_host = kind == VM_CLOCK_HOST && tsc_host_usable();
	c->timerfd = -1;
	c->programmed_ns = UINT64_MAX;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->idle, NULL);
	return c;
}

void
vm_clock_destroy(struct vm_clock *c)
{
	if (c == NULL)
		return;
	ev_remove(c->source);
	if (c->timerfd >= 0)
		close(c->timerfd);
	free(c->heap);
	pthread_cond_destroy(&c->idle);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

int
vm_clock_attach(struct vm_clock *c, struct evloop *l, struct err *err)
{
	struct ev_source *source;

	LH_ASSERT(c->kind == VM_CLOCK_HOST && c->source == NULL);
	c->timerfd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (c->timerfd < 0)
		return err_set(err, errno, "clock: timerfd: %s", strerror(errno));
	source = ev_add(l, c->timerfd, EPOLLIN, on_timerfd, c, err);
	if (source == NULL) {
		close(c->timerfd);
		c->timerfd = -1;
		return err_prefix(err, "clock");
	}
	pthread_mutex_lock(&c->lock);
	c->source = source;
	program_timerfd(c);
	pthread_mutex_unlock(&c->lock);
	return 0;
}

void
vm_clock_start(struct vm_clock *c)
{
	struct reading r;

	pthread_mutex_lock(&c->lock);
	r = read_bases(c);
	if (!r.running) {
		uint64_t ns, tsc;

		r.running = true;
		if (c->kind == VM_CLOCK_HOST) {
			host_sample(&ns, &tsc);
			r.ns_base -= ns;
			r.tsc_base -= tsc;
		}
		write_bases(c, r);
		c->programmed_ns = UINT64_MAX;
		program_timerfd(c);
	}
	pthread_mutex_unlock(&c->lock);
}

void
vm_clock_stop(struct vm_clock *c)
{
	struct reading r;

	pthread_mutex_lock(&c->lock);
	r = read_bases(c);
	if (r.running) {
		uint64_t ns, tsc;

		r.running = false;
		if (c->kind == VM_CLOCK_HOST) {
			host_sample(&ns, &tsc);
			r.ns_base += ns;
			r.tsc_base += tsc;
		}
		write_bases(c, r);
	}
	pthread_mutex_unlock(&c->lock);
}

/* Move a manual clock to `ns`. With c->lock held. */
static void
set_now(struct vm_clock *c, uint64_t ns)
{
	struct reading r = read_bases(c);

	r.ns_base = ns;
	write_bases(c, r);
}

void
vm_clock_advance(struct vm_clock *c, uint64_t delta_ns)
{
	uint64_t end;

	LH_ASSERT(c->kind == VM_CLOCK_MANUAL);
	pthread_mutex_lock(&c->lock);
	end = vm_clock_now_ns(c) + delta_ns;
	while (c->count > 0 && c->heap[1]->deadline_ns <= end) {
		if (c->heap[1]->deadline_ns > vm_clock_now_ns(c))
			set_now(c, c->heap[1]->deadline_ns);
		run_one(c, vm_clock_now_ns(c));
	}
	set_now(c, end);
	pthread_mutex_unlock(&c->lock);
}
