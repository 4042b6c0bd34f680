/* SPDX-License-Identifier: BSD-2-Clause */
/* Errors, log lines, event loop, VM clock and timers. No test waits for a time to pass and judges it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/err.h"
#include "base/evloop.h"
#include "base/log.h"
#include "base/program.h"
#include "base/tsc_host.h"
#include "base/util.h"
#include "base/vmclock.h"

/* ---- err ---- */

static void
test_err(void **state)
{
	struct err err = {0};
	char longname[2000];

	(void)state;
	assert_int_equal(err_set(&err, ENOENT, "disk %d: no %s", 3, "file\nhere"), -ENOENT);
	assert_int_equal(err.code, ENOENT);
	assert_string_equal(err.msg, "disk 3: no file here");
	assert_int_equal(err_prefix(&err, "vm%d", 1), -ENOENT);
	assert_string_equal(err.msg, "vm1: disk 3: no file here");
	assert_int_equal(err_set(&err, EIO, "%s (again)", err.msg), -EIO); /* its own text as an argument */
	assert_string_equal(err.msg, "vm1: disk 3: no file here (again)");
	assert_int_equal(err_set(NULL, EIO, "x"), -EIO);
	assert_int_equal(err_set(&err, 0, "x"), -EINVAL); /* never "no error" */
	memset(longname, 'a', sizeof(longname) - 1);
	longname[sizeof(longname) - 1] = '\0';
	err_set(&err, EIO, "end");
	err_prefix(&err, "%s", longname);
	assert_in_range(strlen(err.msg), sizeof(err.msg) - 4, sizeof(err.msg) - 1);
	err_set(&err, EIO, "%s", longname);
	err_prefix(&err, "p");
	assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
	assert_memory_equal(err.msg, "p: aaa", 6);
}

/* ---- log ---- */

static char *
read_all(int fd)
{
	static char buf[65536];
	ssize_t n = read(fd, buf, sizeof(buf) - 1);

	buf[n > 0 ? n : 0] = '\0';
	return buf;
}

static unsigned
count_lines(const char *s)
{
	unsigned n = 0;

	for (; *s != '\0'; s++)
		n += *s == '\n';
	return n;
}

static void
test_log(void **state)
{
	int p[2];
	const char *text;
	unsigned n;

	(void)state;
	assert_int_equal(pipe2(p, O_NONBLOCK), 0);
	log_init(p[1], LOG_WARN);
	log_info("not this");
	log_warn("two\nlines \033[2J");
	text = read_all(p[0]);
	assert_string_equal(text, "lhyve: warning: two lines  [2J\n");
	log_guest("level is info: silent");
	assert_string_equal(read_all(p[0]), "");
	log_init(p[1], LOG_INFO);
	{
		struct log_ratelimit rl = {0};

		/* Until one is left out: 10 in one second, and what earlier seconds let through. */
		for (n = 0; rl.dropped == 0; n++)
			log_guest_rl(&rl, "line %u", n);
		assert_int_equal(rl.count, 10);
		text = read_all(p[0]);
		assert_int_equal(count_lines(text), n - 1);
		assert_non_null(strstr(text, "line 0\n"));
		/* The next window tells what was left out. */
		rl.window_s -= 2;
		log_guest_rl(&rl, "after");
		text = read_all(p[0]);
		assert_non_null(strstr(text, "left out"));
		assert_non_null(strstr(text, "after"));
		assert_int_equal(rl.dropped, 0);
	}
	log_init(2, LOG_WARN);
	close(p[0]);
	close(p[1]);
}

/* What a JSON parser must get, whatever bytes a guest or a file put into the message. */
static void
test_log_json(void **state)
{
	const char *text, *message;
	int p[2];

	(void)state;
	assert_int_equal(pipe2(p, O_NONBLOCK), 0);
	log_set_output(p[1], LOG_JSON);
	log_warn("a \"b\" \\ \n\t \x7f \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \xff \xc3( \xed\xa0\x80 "
		 "\xc0\x80 \xe2\x82");
	log_set_output(2, LOG_TEXT);
	text = read_all(p[0]);
	assert_memory_equal(text, "{\"time\":\"20", 11);
	message = strstr(text, "Z\",\"level\":\"warning\",\"message\":\"");
	assert_non_null(message);
	assert_string_equal(
	    strchr(message + 30, ':') + 1,
	    "\"a \\\"b\\\" \\\\ \\u000a\\u0009 \\u007f \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 "
	    "\\ufffd \\ufffd( \\ufffd\\ufffd\\ufffd \\ufffd\\ufffd \\ufffd\\ufffd\"}\n");
	close(p[0]);
	close(p[1]);
}

/* ---- event loop ---- */

struct loop_test {
	struct evloop *l;
	struct ev_source *a, *b;
	int pa[2], pb[2];
	unsigned calls_a, calls_b;
	_Atomic bool inside, removed;
};

static void
stop_on_read(void *arg, uint32_t events)
{
	struct loop_test *t = arg;
	char c;

	assert_true((events & EPOLLIN) != 0);
	assert_int_equal(read(t->pa[0], &c, 1), 1);
	t->calls_a++;
	if (t->calls_a == 3)
		evloop_stop(t->l);
}

static void
test_loop_basic(void **state)
{
	struct loop_test t = {0};
	struct err err = {0};

	(void)state;
	t.l = evloop_create(&err);
	assert_non_null(t.l);
	assert_int_equal(pipe(t.pa), 0);
	t.a = ev_add(t.l, t.pa[0], EPOLLIN, stop_on_read, &t, &err);
	assert_non_null(t.a);
	assert_int_equal(write(t.pa[1], "xyz", 3), 3);
	evloop_run(t.l);
	assert_int_equal(t.calls_a, 3);
	evloop_stop(t.l); /* before run: run ends at once */
	evloop_run(t.l);
	/* Nothing watched for, nothing called. */
	ev_modify(t.a, 0);
	assert_int_equal(write(t.pa[1], "x", 1), 1);
	evloop_stop(t.l);
	evloop_run(t.l);
	assert_int_equal(t.calls_a, 3);
	ev_remove(t.a);
	t.a = ev_add(t.l, open("/dev/null", O_RDONLY), EPOLLIN, stop_on_read, &t, &err);
	assert_null(t.a);
	assert_int_equal(err.code, EPERM);
	assert_null(ev_add(t.l, -1, EPOLLIN, stop_on_read, &t, &err));
	evloop_destroy(t.l);
	close(t.pa[0]);
	close(t.pa[1]);
}

/* Two sources are ready; the first to run removes both. The other must not run. */
static void
remove_both(void *arg, uint32_t events)
{
	struct loop_test *t = arg;

	(void)events;
	t->calls_a++;
	ev_remove(t->a);
	ev_remove(t->b);
	evloop_stop(t->l);
}

static void
test_loop_remove_inside(void **state)
{
	struct loop_test t = {0};

	(void)state;
	t.l = evloop_create(NULL);
	assert_int_equal(pipe(t.pa), 0);
	assert_int_equal(pipe(t.pb), 0);
	t.a = ev_add(t.l, t.pa[0], EPOLLIN, remove_both, &t, NULL);
	t.b = ev_add(t.l, t.pb[0], EPOLLIN, remove_both, &t, NULL);
	assert_true(t.a != NULL && t.b != NULL);
	assert_int_equal(write(t.pa[1], "x", 1), 1);
	assert_int_equal(write(t.pb[1], "x", 1), 1);
	evloop_run(t.l);
	assert_int_equal(t.calls_a, 1);
	evloop_destroy(t.l);
	for (unsigned i = 0; i < 2; i++) {
		close(t.pa[i]);
		close(t.pb[i]);
	}
}

/* Removal from another thread waits for the callback. */
static void
slow_callback(void *arg, uint32_t events)
{
	struct loop_test *t = arg;

	(void)events;
	atomic_store(&t->inside, true);
	for (unsigned i = 0; i < 1000; i++) {
		assert_false(atomic_load(&t->removed));
		sched_yield();
	}
	atomic_store(&t->inside, false);
}

static void *
loop_thread(void *arg)
{
	evloop_run(((struct loop_test *)arg)->l);
	return NULL;
}

static void
test_loop_remove_outside(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		struct loop_test t = {0};
		pthread_t thread;

		t.l = evloop_create(NULL);
		assert_int_equal(pipe(t.pa), 0);
		t.a = ev_add(t.l, t.pa[0], EPOLLIN, slow_callback, &t, NULL);
		assert_non_null(t.a);
		assert_int_equal(pthread_create(&thread, NULL, loop_thread, &t), 0);
		assert_int_equal(write(t.pa[1], "x", 1), 1);
		while (!atomic_load(&t.inside))
			sched_yield();
		ev_remove(t.a);
		atomic_store(&t.removed, true);
		assert_false(atomic_load(&t.inside));
		evloop_stop(t.l);
		pthread_join(thread, NULL);
		evloop_destroy(t.l);
		close(t.pa[0]);
		close(t.pa[1]);
	}
}

/* ---- manual clock ---- */

struct timer_test {
	struct vm_clock *clock;
	struct vm_timer timer[8];
	uint64_t at[64];
	unsigned which[64];
	unsigned n;
};

struct timer_arg {
	struct timer_test *t;
	unsigned i;
	uint64_t again; /* period */
};

static void
note(void *arg)
{
	struct timer_arg *a = arg;
	struct timer_test *t = a->t;

	if (t->n < 64) {
		t->at[t->n] = vm_clock_now_ns(t->clock);
		t->which[t->n] = a->i;
	}
	t->n++;
	if (a->again != 0)
		vm_timer_set(&t->timer[a->i], vm_clock_now_ns(t->clock) + a->again);
}

static void
test_manual_clock(void **state)
{
	struct timer_test t = {.clock = vm_clock_create(VM_CLOCK_MANUAL, NULL)};
	struct timer_arg arg[8];

	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		arg[i] = (struct timer_arg){&t, i, 0};
		vm_timer_init(&t.timer[i], t.clock, note, &arg[i]);
	}
	assert_int_equal(vm_clock_now_ns(t.clock), 0);
	vm_timer_set(&t.timer[0], 300);
	vm_timer_set(&t.timer[1], 100);
	vm_timer_set(&t.timer[2], 200);
	vm_timer_set(&t.timer[3], 150);
	vm_timer_set(&t.timer[4], 250);
	vm_timer_set(&t.timer[0], 120); /* moved */
	vm_timer_cancel(&t.timer[4]);
	assert_false(vm_timer_armed(&t.timer[4]));
	assert_true(vm_timer_armed(&t.timer[0]));
	vm_clock_advance(t.clock, 99);
	assert_int_equal(t.n, 0);
	vm_clock_advance(t.clock, 1000);
	assert_int_equal(t.n, 4);
	assert_int_equal(t.which[0], 1);
	assert_int_equal(t.which[1], 0);
	assert_int_equal(t.which[2], 3);
	assert_int_equal(t.which[3], 2);
	assert_int_equal(t.at[1], 120); /* each at its own time */
	assert_int_equal(vm_clock_now_ns(t.clock), 1099);
	assert_int_equal(vm_clock_tsc_khz(t.clock), 1000000);
	assert_int_equal(vm_clock_tsc(t.clock), 1099);
	assert_int_equal(vm_clock_tsc_to_ns(t.clock, 2000), 2000);
	assert_int_equal(vm_clock_tsc_to_ns(t.clock, 5), 1099);
	assert_int_equal(vm_clock_tsc_to_ns(t.clock, UINT64_MAX), UINT64_MAX);
	assert_false(vm_clock_tsc_is_host(t.clock));
	/* A past deadline fires at the next advance; a periodic one many times in one. */
	t.n = 0;
	vm_timer_set(&t.timer[5], 1);
	vm_clock_advance(t.clock, 0);
	assert_int_equal(t.n, 1);
	arg[6].again = 10;
	vm_timer_set(&t.timer[6], 1109);
	vm_clock_advance(t.clock, 1000);
	assert_int_equal(t.n, 1 + 100);
	vm_timer_cancel_sync(&t.timer[6]);
	vm_clock_advance(t.clock, 1000);
	assert_int_equal(t.n, 101);
	vm_clock_set_wall_ns(t.clock, 5000);
	vm_clock_advance(t.clock, 7);
	assert_true(vm_clock_wall_ns(t.clock) == 5007);
	vm_clock_destroy(t.clock);
}

/* Many timers set, moved and cancelled at random: the heap gives them in order. */
static void
test_timer_heap(void **state)
{
	enum { N = 500 };
	static struct vm_timer timer[N];
	static struct timer_arg arg[N];
	struct timer_test t = {.clock = vm_clock_create(VM_CLOCK_MANUAL, NULL)};
	uint64_t seed = 1, last = 0, armed = 0;

	(void)state;
	for (unsigned i = 0; i < N; i++) {
		arg[i] = (struct timer_arg){&t, i, 0};
		vm_timer_init(&timer[i], t.clock, note, &arg[i]);
	}
	for (unsigned step = 0; step < 20000; step++) {
		unsigned i;

		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		i = (unsigned)(seed >> 33) % N;
		if ((seed >> 20 & 3) == 0)
			vm_timer_cancel(&timer[i]);
		else
			vm_timer_set(&timer[i], 1 + (seed >> 40) % 1000000);
	}
	for (unsigned i = 0; i < N; i++)
		armed += vm_timer_armed(&timer[i]);
	assert_in_range(armed, 100, N);
	while (armed > 0) {
		unsigned before = t.n = 0;

		vm_clock_advance(t.clock, 1000);
		for (unsigned i = before; i < t.n && i < 64; i++) {
			assert_true(t.at[i] >= last);
			assert_int_equal(timer[t.which[i]].deadline_ns, t.at[i]);
			last = t.at[i];
		}
		assert_true(t.n <= armed);
		armed -= t.n;
	}
	vm_clock_destroy(t.clock);
}

/* ---- host clock ---- */

static void
test_host_clock(void **state)
{
	struct vm_clock *c = vm_clock_create(VM_CLOCK_HOST, NULL);
	uint64_t a, b, tsc;

	(void)state;
	assert_non_null(c);
	assert_int_equal(vm_clock_now_ns(c), 0);
	assert_int_equal(vm_clock_tsc(c), 0);
	vm_clock_start(c);
	vm_clock_start(c);
	a = vm_clock_now_ns(c);
	while ((b = vm_clock_now_ns(c)) == a)
		;
	assert_true(b > a);
	if (vm_clock_tsc_is_host(c)) {
		uint64_t offset = vm_clock_tsc_offset(c);

		/* What an engine computes inline is what the call gives. */
		tsc = vm_clock_tsc(c);
		assert_true(tsc_host_read() + offset >= tsc);
		assert_int_equal(vm_clock_tsc_offset(c), offset);
		assert_int_equal(vm_clock_tsc_khz(c), tsc_host_khz());
	}
	/* ns and TSC started together: the same time within 1 % and a moment. */
	b = vm_clock_now_ns(c);
	tsc = vm_clock_tsc(c);
	assert_true(mul_div_u64(tsc, 1000000, vm_clock_tsc_khz(c)) + 1000000 >= b - b / 100);
	assert_true(vm_clock_tsc_to_ns(c, tsc + vm_clock_tsc_khz(c)) >= b);
	vm_clock_stop(c);
	vm_clock_stop(c);
	a = vm_clock_now_ns(c);
	tsc = vm_clock_tsc(c);
	assert_true(a >= b);
	for (unsigned i = 0; i < 1000; i++)
		sched_yield();
	assert_int_equal(vm_clock_now_ns(c), a);
	assert_int_equal(vm_clock_tsc(c), tsc);
	vm_clock_start(c);
	assert_true(vm_clock_now_ns(c) >= a);
	assert_true(vm_clock_tsc(c) >= tsc);
	assert_true(vm_clock_wall_ns(c) > 1600000000ll * 1000000000ll);
	vm_clock_destroy(c);
}

static void
test_tsc_frequency(void **state)
{
	(void)state;
	assert_in_range(tsc_host_khz(), 100000, 20000000);
	assert_int_equal(tsc_host_khz(), tsc_host_khz());
}

struct host_test {
	struct vm_clock *clock;
	struct evloop *loop;
	struct vm_timer timer[3];
	_Atomic unsigned fired, stop_at;
	uint64_t at[64];
	_Atomic bool inside;
};

static void
host_fired(void *arg)
{
	struct host_test *t = arg;
	unsigned n = atomic_fetch_add(&t->fired, 1) + 1;

	if (n <= 64)
		t->at[n - 1] = vm_clock_now_ns(t->clock);
	if (n == t->stop_at)
		evloop_stop(t->loop);
	else
		vm_timer_set(&t->timer[0], vm_clock_now_ns(t->clock) + 1000);
}

static void *
host_thread(void *arg)
{
	evloop_run(((struct host_test *)arg)->loop);
	return NULL;
}

static void
test_host_timers(void **state)
{
	struct host_test t = {.stop_at = 50};

	(void)state;
	t.clock = vm_clock_create(VM_CLOCK_HOST, NULL);
	t.loop = evloop_create(NULL);
	vm_timer_init(&t.timer[0], t.clock, host_fired, &t);
	vm_timer_set(&t.timer[0], 100000); /* before the clock runs, before it is attached */
	assert_int_equal(vm_clock_attach(t.clock, t.loop, NULL), 0);
	vm_clock_start(t.clock);
	evloop_run(t.loop);
	assert_int_equal(t.fired, 50);
	assert_true(t.at[0] >= 100000);
	for (unsigned i = 1; i < 50; i++)
		assert_true(t.at[i] >= t.at[i - 1] + 1000); /* never early */
	/* A stopped clock fires nothing; a started one goes on. */
	t.stop_at = 51;
	vm_clock_stop(t.clock);
	vm_timer_set(&t.timer[0], 0);
	evloop_stop(t.loop);
	evloop_run(t.loop);
	assert_int_equal(t.fired, 50);
	vm_clock_start(t.clock);
	evloop_run(t.loop);
	assert_int_equal(t.fired, 51);
	vm_clock_destroy(t.clock);
	evloop_destroy(t.loop);
}

static void
slow_timer(void *arg)
{
	struct host_test *t = arg;

	atomic_store(&t->inside, true);
	atomic_fetch_add(&t->fired, 1);
	for (unsigned i = 0; i < 200; i++)
		sched_yield();
	vm_timer_set(&t->timer[1], 0); /* arms itself again */
	atomic_store(&t->inside, false);
}

/* After vm_timer_cancel_sync() no callback runs, whatever the loop was doing. */
static void
test_cancel_sync(void **state)
{
	struct host_test t = {.stop_at = 0};
	pthread_t thread;

	(void)state;
	t.clock = vm_clock_create(VM_CLOCK_HOST, NULL);
	t.loop = evloop_create(NULL);
	assert_int_equal(vm_clock_attach(t.clock, t.loop, NULL), 0);
	vm_clock_start(t.clock);
	assert_int_equal(pthread_create(&thread, NULL, host_thread, &t), 0);
	vm_timer_init(&t.timer[1], t.clock, slow_timer, &t);
	for (unsigned round = 0; round < 50; round++) {
		unsigned fired = atomic_load(&t.fired);

		vm_timer_set(&t.timer[1], 0);
		while (atomic_load(&t.fired) == fired)
			sched_yield();
		vm_timer_cancel_sync(&t.timer[1]);
		assert_false(atomic_load(&t.inside));
		fired = atomic_load(&t.fired);
		for (unsigned i = 0; i < 50; i++)
			sched_yield();
		assert_int_equal(atomic_load(&t.fired), fired);
	}
	evloop_stop(t.loop);
	pthread_join(thread, NULL);
	vm_clock_destroy(t.clock);
	evloop_destroy(t.loop);
}

/* ---- the program's pages ---- */

/* KiB of files that are mapped without being writable. */
static unsigned long
resident_files(void)
{
	char line[512], perms[8] = "", name[256] = "";
	unsigned long kib, sum = 0;
	FILE *f = fopen("/proc/self/smaps", "r");

	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "%*x-%*x %7s %*s %*s %*s %255s", perms, name) >= 1 &&
		    strchr(line, '-') != NULL && strlen(perms) == 4)
			continue;
		if (sscanf(line, "Rss: %lu kB", &kib) == 1 && perms[1] == '-' && name[0] == '/')
			sum += kib;
		if (strncmp(line, "VmFlags:", 8) == 0)
			perms[0] = name[0] = '\0';
	}
	fclose(f);
	return sum;
}

static void
test_program_trim(void **state)
{
	static unsigned written = 5;
	static const char *relocated[] = {"a", "b"};
	unsigned long before = resident_files(), after;

	(void)state;
	written++;
	program_trim();
	after = resident_files();
	assert_true(before > 0 && after > 0); /* reading it takes code */
	assert_true(after < before);
	assert_int_equal(written, 6);
	assert_string_equal(relocated[written - 5], "b");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_err),
	    cmocka_unit_test(test_program_trim),
	    cmocka_unit_test(test_log),
	    cmocka_unit_test(test_log_json),
	    cmocka_unit_test(test_loop_basic),
	    cmocka_unit_test(test_loop_remove_inside),
	    cmocka_unit_test(test_loop_remove_outside),
	    cmocka_unit_test(test_manual_clock),
	    cmocka_unit_test(test_timer_heap),
	    cmocka_unit_test(test_host_clock),
	    cmocka_unit_test(test_tsc_frequency),
	    cmocka_unit_test(test_host_timers),
	    cmocka_unit_test(test_cancel_sync),
	};

	return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
