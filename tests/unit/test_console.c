/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Consoles on real descriptors: a pty for the terminal, pipes, files and sockets. Standard input and output
 * are exchanged for the test's own for the time of a test. The loop runs on a thread of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/evloop.h"
#include "base/util.h"
#include "dev/console/console.h"

enum { GOT_MAX = 1 << 16 };

struct rig {
	struct evloop *loop;
	pthread_t thread;
	bool looping;
	struct console *c;
	int saved_in, saved_out; /* standard input and output of the test program */

	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint8_t got[GOT_MAX];
	size_t got_len, room; /* of the peer */
	unsigned escapes, readies, lines;
	bool line;
};

/* ---- the peer ---- */

static size_t
peer_rx(void *ctx, const uint8_t *buf, size_t len)
{
	struct rig *r = ctx;
	size_t n;

	pthread_mutex_lock(&r->lock);
	n = MIN(MIN(len, r->room), GOT_MAX - r->got_len);
	memcpy(r->got + r->got_len, buf, n);
	r->got_len += n;
	r->room -= n;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
	return n;
}

static void
count(struct rig *r, unsigned *what)
{
	pthread_mutex_lock(&r->lock);
	(*what)++;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

static void
peer_tx_ready(void *ctx)
{
	struct rig *r = ctx;

	count(r, &r->readies);
}

static void
peer_line(void *ctx, bool connected)
{
	struct rig *r = ctx;

	r->line = connected;
	count(r, &r->lines);
}

static void
peer_escape(void *ctx)
{
	struct rig *r = ctx;

	count(r, &r->escapes);
}

static void
wait_got(struct rig *r, const char *text)
{
	pthread_mutex_lock(&r->lock);
	while (r->got_len < strlen(text))
		pthread_cond_wait(&r->changed, &r->lock);
	assert_int_equal(r->got_len, strlen(text));
	assert_memory_equal(r->got, text, r->got_len);
	r->got_len = 0;
	pthread_mutex_unlock(&r->lock);
}

static void
wait_count(struct rig *r, const unsigned *what, unsigned n)
{
	pthread_mutex_lock(&r->lock);
	while (*what < n)
		pthread_cond_wait(&r->changed, &r->lock);
	assert_int_equal(*what, n);
	pthread_mutex_unlock(&r->lock);
}

/* ---- rig ---- */

static void *
loop_main(void *arg)
{
	evloop_run(((struct rig *)arg)->loop);
	return NULL;
}

static int
setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct err err = {0};

	r->loop = evloop_create(&err);
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->changed, NULL);
	r->room = SIZE_MAX;
	r->saved_in = dup(0);
	r->saved_out = dup(1);
	fflush(stdout);
	*state = r;
	return 0;
}

static void
rig_std(int in, int out)
{
	fflush(stdout);
	if (in >= 0)
		assert_int_equal(dup2(in, 0), 0);
	if (out >= 0)
		assert_int_equal(dup2(out, 1), 1);
}

static void
rig_open(struct rig *r, enum console_type type, const char *path)
{
	const struct console_cfg cfg = {
	    .type = type, .name = "com1", .path = path, .escape = peer_escape, .escape_ctx = r};
	struct err err = {0};

	r->c = console_create(&cfg, r->loop, &err);
	if (r->c == NULL)
		fail_msg("%s", err.msg);
}

static void
rig_start(struct rig *r)
{
	const struct console_peer peer = {peer_rx, peer_tx_ready, peer_line, r};
	struct err err = {0};

	assert_int_equal(console_start(r->c, &peer, &err), 0);
	assert_int_equal(pthread_create(&r->thread, NULL, loop_main, r), 0);
	r->looping = true;
}

static void
rig_stop(struct rig *r)
{
	if (r->looping) {
		evloop_stop(r->loop);
		pthread_join(r->thread, NULL);
	}
	r->looping = false;
	console_destroy(r->c);
	r->c = NULL;
	dup2(r->saved_in, 0);
	dup2(r->saved_out, 1);
}

static int
teardown(void **state)
{
	struct rig *r = *state;

	rig_stop(r);
	close(r->saved_in);
	close(r->saved_out);
	evloop_destroy(r->loop);
	free(r);
	return 0;
}

static void
put(struct rig *r, const char *text)
{
	for (; *text != 0; text++)
		assert_true(console_tx(r->c, (uint8_t)*text));
}

static void
type_in(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void
expect_read(int fd, const char *text)
{
	char buf[256];
	size_t have = 0, want = strlen(text);

	assert_true(want < sizeof(buf));
	while (have < want) {
		ssize_t n = read(fd, buf + have, want - have);

		assert_true(n > 0);
		have += (size_t)n;
	}
	assert_memory_equal(buf, text, want);
}

static int
open_pty(char *name, size_t len)
{
	int fd = posix_openpt(O_RDWR | O_NOCTTY);

	assert_true(fd >= 0);
	assert_int_equal(grantpt(fd), 0);
	assert_int_equal(unlockpt(fd), 0);
	assert_int_equal(ptsname_r(fd, name, len), 0);
	return fd;
}

static bool
is_raw(int fd)
{
	struct termios t;

	assert_int_equal(tcgetattr(fd, &t), 0);
	return (t.c_lflag & (ICANON | ECHO | ISIG)) == 0 && (t.c_oflag & OPOST) == 0;
}

static bool
is_cooked(int fd)
{
	struct termios t;

	assert_int_equal(tcgetattr(fd, &t), 0);
	return (t.c_lflag & (ICANON | ECHO | ISIG)) == (ICANON | ECHO | ISIG) && (t.c_oflag & OPOST) != 0;
}

/* ---- tests ---- */

static void
test_terminal(void **state)
{
	struct rig *r = *state;
	char name[64];
	int master = open_pty(name, sizeof(name)), slave = open(name, O_RDWR | O_NOCTTY);

	rig_std(slave, slave);
	rig_open(r, CONSOLE_TYPE_STDIO, NULL);
	assert_true(is_cooked(slave));
	rig_start(r);
	assert_true(is_raw(slave));
	put(r, "login: ");
	expect_read(master, "login: ");
	type_in(master, "root\r");
	wait_got(r, "root\r");
	type_in(master, "\003"); /* not a signal */
	wait_got(r, "\003");
	rig_stop(r);
	assert_true(is_cooked(slave));
	close(master);
	close(slave);
}

static void
test_escapes(void **state)
{
	static const struct {
		const char *in, *out;
		unsigned escapes;
	} cases[] = {
	    {"\r~~", "\r~", 0},	  {"x~.y\r", "x~.y\r", 0},    {"~.", "", 1},
	    {"\n~.", "\n", 1},	  {"\r~x", "\r~x", 0},	      {"\r~\r~.", "\r~\r", 1},
	    {"~~.\r", "~.\r", 0}, {"\r~~~.\r", "\r~~.\r", 0}, {"~.after", "after", 1},
	};
	struct rig *r = *state;
	unsigned total = 0;
	int in[2], out[2];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(pipe(in) | pipe(out), 0);
		rig_std(in[0], out[1]);
		rig_open(r, CONSOLE_TYPE_STDIO, NULL);
		rig_start(r);
		type_in(in[1], cases[i].in);
		wait_got(r, cases[i].out);
		total += cases[i].escapes;
		wait_count(r, &r->escapes, total);
		rig_stop(r);
		close(in[0]);
		close(in[1]);
		close(out[0]);
		close(out[1]);
	}
}

/* `~.` works on a terminal although the guest reads nothing. */
static void
test_escape_of_stuck_guest(void **state)
{
	struct rig *r = *state;
	char name[64], line[513];
	int master = open_pty(name, sizeof(name)), slave = open(name, O_RDWR | O_NOCTTY);

	rig_std(slave, slave);
	r->room = 0;
	rig_open(r, CONSOLE_TYPE_STDIO, NULL);
	rig_start(r);
	memset(line, 'x', sizeof(line) - 1);
	line[sizeof(line) - 1] = 0;
	for (unsigned i = 0; i < 12; i++) /* more than the queue holds */
		type_in(master, line);
	type_in(master, "\r~.");
	wait_count(r, &r->escapes, 1);
	rig_stop(r);
	close(master);
	close(slave);
}

/* A pipe waits for the guest: nothing is lost, however slowly it is taken. */
static void
test_input_back_pressure(void **state)
{
	struct rig *r = *state;
	char text[3001];
	int in[2], out[2];

	assert_int_equal(pipe(in) | pipe(out), 0);
	rig_std(in[0], out[1]);
	r->room = 0;
	rig_open(r, CONSOLE_TYPE_STDIO, NULL);
	rig_start(r);
	for (unsigned i = 0; i < sizeof(text) - 1; i++)
		text[i] = (char)('a' + i % 26);
	text[sizeof(text) - 1] = 0;
	type_in(in[1], text);
	close(in[1]);
	for (unsigned i = 1; i < sizeof(text); i++) {
		pthread_mutex_lock(&r->lock);
		r->room = 1;
		pthread_mutex_unlock(&r->lock);
		console_rx_room(r->c);
		pthread_mutex_lock(&r->lock);
		while (r->got_len < i)
			pthread_cond_wait(&r->changed, &r->lock);
		pthread_mutex_unlock(&r->lock);
	}
	wait_got(r, text);
	rig_stop(r);
	close(in[0]);
	close(out[0]);
	close(out[1]);
}

static double
cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* Each kind of input that has ended, or never had anything: output goes on, and nobody spins. */
static void
input_ended(struct rig *r, int in)
{
	double before;
	int out[2];

	assert_int_equal(pipe(out), 0);
	rig_std(in, out[1]);
	rig_open(r, CONSOLE_TYPE_STDIO, NULL);
	rig_start(r);
	put(r, "first");
	expect_read(out[0], "first");
	before = cpu_seconds();
	poll(NULL, 0, 300);
	assert_true(cpu_seconds() - before < 0.2); /* a spinning loop burns 0.3 */
	put(r, "second");
	expect_read(out[0], "second");
	rig_stop(r);
	close(out[0]);
	close(out[1]);
}

static void
test_input_ended(void **state)
{
	struct rig *r = *state;
	int in[2], fd;

	fd = open("/dev/null", O_RDWR);
	input_ended(r, fd);
	close(fd);
	assert_int_equal(pipe(in), 0);
	close(in[1]);
	input_ended(r, in[0]);
	close(in[0]);
	/* The same with input still queued for a guest that takes none. */
	assert_int_equal(pipe(in), 0);
	type_in(in[1], "queued");
	close(in[1]);
	r->room = 0;
	input_ended(r, in[0]);
	close(in[0]);
}

static void
test_input_file(void **state)
{
	char path[] = "/tmp/lhyve-test-XXXXXX", text[2001];
	struct rig *r = *state;
	int fd = mkstemp(path), out[2];

	assert_true(fd >= 0);
	unlink(path);
	for (unsigned i = 0; i < sizeof(text) - 1; i++)
		text[i] = (char)('A' + i % 26);
	text[sizeof(text) - 1] = 0;
	type_in(fd, text);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(pipe(out), 0);
	rig_std(fd, out[1]);
	rig_open(r, CONSOLE_TYPE_STDIO, NULL);
	rig_start(r);
	wait_got(r, text);
	rig_stop(r);
	close(fd);
	close(out[0]);
	close(out[1]);
}

static void *
drain_main(void *arg)
{
	int fd = *(int *)arg;
	uint8_t buf[4096], next = 0;
	ssize_t n;
	size_t total = 0;

	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			if (buf[i] != (uint8_t)(next++ * 7 + 1))
				return NULL;
		}
		total += (size_t)n;
	}
	return (void *)total;
}

/* A full pipe: console_tx() refuses at some point, tells when it goes on, and every byte arrives in order. */
static void
test_output_back_pressure(void **state)
{
	struct rig *r = *state;
	size_t total = 0, goal = 3 << 20;
	unsigned refused = 0;
	int in = open("/dev/null", O_RDONLY), out[2];
	pthread_t reader;
	bool reading = false;
	void *read_total;

	assert_int_equal(pipe(out), 0);
	rig_std(in, out[1]);
	rig_open(r, CONSOLE_TYPE_STDIO, NULL);
	rig_start(r);
	while (total < goal) {
		if (console_tx(r->c, (uint8_t)((uint8_t)total * 7 + 1))) {
			total++;
			continue;
		}
		if (!reading)
			assert_int_equal(pthread_create(&reader, NULL, drain_main, &out[0]), 0);
		reading = true;
		wait_count(r, &r->readies, ++refused);
	}
	assert_true(refused > 0);
	rig_stop(r); /* waits for the rest */
	close(out[1]);
	pthread_join(reader, &read_total);
	assert_int_equal((size_t)read_total, goal);
	close(out[0]);
	close(in);
}

/* The reader goes away: output vanishes, nothing stops. */
/* A byte after a pause is there when the guest goes on; what follows it comes in order. */
static void
test_output_at_once(void **state)
{
	struct rig *r = *state;
	int out[2], in = open("/dev/null", O_RDONLY);
	struct pollfd p;

	assert_int_equal(pipe(out), 0);
	rig_std(in, out[1]);
	rig_open(r, CONSOLE_TYPE_STDIO, NULL);
	rig_start(r);
	p = (struct pollfd){.fd = out[0], .events = POLLIN};
	assert_true(console_tx(r->c, 'a'));
	assert_int_equal(poll(&p, 1, 0), 1);
	put(r, "bcdefgh");
	expect_read(out[0], "abcdefgh");
	rig_stop(r);
	close(out[0]);
	close(out[1]);
	close(in);
}

static void
test_output_broken_pipe(void **state)
{
	struct rig *r = *state;
	int in = open("/dev/null", O_RDONLY), out[2];

	assert_int_equal(pipe(out), 0);
	rig_std(in, out[1]);
	close(out[1]);
	rig_open(r, CONSOLE_TYPE_STDIO, NULL);
	rig_start(r);
	close(out[0]);
	for (unsigned i = 0; i < 3 << 20;) {
		if (console_tx(r->c, 'x'))
			i++;
		else
			sched_yield();
	}
	rig_stop(r);
	close(in);
}

static void
test_stdio_once(void **state)
{
	const struct console_cfg cfg = {.type = CONSOLE_TYPE_STDIO, .name = "com2"};
	struct rig *r = *state;
	struct err err = {0};

	rig_open(r, CONSOLE_TYPE_STDIO, NULL);
	assert_null(console_create(&cfg, r->loop, &err));
	assert_int_equal(strncmp(err.msg, "com2: ", 6), 0);
	rig_stop(r);
	rig_open(r, CONSOLE_TYPE_STDIO, NULL);
}

static void
test_path_file(void **state)
{
	char dir[] = "/tmp/lhyve-test-XXXXXX", path[64], buf[16];
	struct rig *r = *state;
	int fd;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/log", dir);
	for (unsigned i = 0; i < 2; i++) {
		rig_open(r, CONSOLE_TYPE_PATH, path);
		rig_start(r);
		put(r, i == 0 ? "one\n" : "two\n");
		rig_stop(r);
	}
	fd = open(path, O_RDONLY);
	assert_int_equal(read(fd, buf, sizeof(buf)), 8);
	assert_memory_equal(buf, "one\ntwo\n", 8);
	close(fd);
	unlink(path);
	rmdir(dir);
}

static void
test_path_pty(void **state)
{
	struct rig *r = *state;
	char name[64];
	int master = open_pty(name, sizeof(name)), slave = open(name, O_RDWR | O_NOCTTY);

	rig_open(r, CONSOLE_TYPE_PATH, name);
	rig_start(r);
	assert_true(is_raw(slave));
	put(r, "hello");
	expect_read(master, "hello");
	type_in(master, "back\n");
	wait_got(r, "back\n");
	rig_stop(r);
	assert_true(is_cooked(slave));
	close(slave);
	close(master);
}

static void
test_path_errors(void **state)
{
	static const struct {
		const char *path, *message;
	} cases[] = {
	    {"/", "com1: /: Is a directory (give a terminal, pty or file)"},
	    {"/dev/no-such-tty",
	     "com1: /dev/no-such-tty: No such file or directory (give a terminal, pty or file)"},
	    {"/no/such/folder/x", "com1: /no/such/folder/x: No such file or directory (is the folder there, "
				  "and may you write in it?)"},
	};
	struct rig *r = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct console_cfg cfg = {
		    .type = CONSOLE_TYPE_PATH, .name = "com1", .path = cases[i].path};
		struct err err = {0};

		assert_null(console_create(&cfg, r->loop, &err));
		assert_string_equal(err.msg, cases[i].message);
	}
}

static int
dial(unsigned port)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	return fd;
}

static void
test_tcp(void **state)
{
	struct rig *r = *state;
	int a, b;
	char c;

	rig_open(r, CONSOLE_TYPE_TCP, "127.0.0.1:0");
	rig_start(r);
	assert_int_equal(r->lines, 1);
	assert_false(r->line);
	put(r, "nobody hears this");
	a = dial(console_tcp_port(r->c));
	wait_count(r, &r->lines, 2);
	assert_true(r->line);
	put(r, "hello");
	expect_read(a, "hello");
	type_in(a, "~.\n~.yes"); /* no escapes here */
	wait_got(r, "~.\n~.yes");
	/* A second one is turned away. */
	b = dial(console_tcp_port(r->c));
	expect_read(b, "lhyve: this console has a client already\r\n");
	assert_int_equal(read(b, &c, 1), 0);
	close(b);
	/* One that stops sending still gets output; the next client takes its place. */
	shutdown(a, SHUT_WR);
	put(r, "more");
	expect_read(a, "more");
	b = dial(console_tcp_port(r->c));
	wait_count(r, &r->lines, 4);
	assert_true(r->line);
	assert_int_equal(read(a, &c, 1), 0);
	close(a);
	put(r, "b");
	expect_read(b, "b");
	/* A connection that breaks. */
	assert_int_equal(setsockopt(b, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger)),
			 0);
	close(b);
	wait_count(r, &r->lines, 5);
	assert_false(r->line);
	a = dial(console_tcp_port(r->c));
	wait_count(r, &r->lines, 6);
	put(r, "last words");
	rig_stop(r);
	expect_read(a, "last words");
	close(a);
	assert_int_equal(r->escapes, 0);
}

/* A client that reads nothing, and then goes while the writer is stuck in it. */
static void
test_tcp_stuck_client(void **state)
{
	struct rig *r = *state;
	int a;

	rig_open(r, CONSOLE_TYPE_TCP, "127.0.0.1:0");
	rig_start(r);
	a = dial(console_tcp_port(r->c));
	wait_count(r, &r->lines, 2);
	while (console_tx(r->c, 'x'))
		;
	assert_int_equal(setsockopt(a, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger)),
			 0);
	close(a);
	wait_count(r, &r->lines, 3);
	wait_count(r, &r->readies, 1);
	assert_true(console_tx(r->c, 'x'));
}

static void
test_tcp_errors(void **state)
{
	static const char *const bad[] = {"localhost", "localhost:", ":no-such-service", "no such host:1"};
	struct rig *r = *state;
	char taken[32];
	struct err err = {0};
	struct console_cfg cfg = {.type = CONSOLE_TYPE_TCP, .name = "com1"};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		cfg.path = bad[i];
		assert_null(console_create(&cfg, r->loop, &err));
		assert_int_equal(strncmp(err.msg, "com1: tcp=", 10), 0);
	}
	rig_open(r, CONSOLE_TYPE_TCP, "[::1]:0");
	snprintf(taken, sizeof(taken), "[::1]:%u", console_tcp_port(r->c));
	cfg.path = taken;
	assert_null(console_create(&cfg, r->loop, &err));
	assert_non_null(strstr(err.msg, "choose another port"));
}

/* ---- ways out of the process ---- */

enum way { WAY_EXIT, WAY_SIGNAL, WAY_ABORT };

static void
leave(struct rig *r, const char *tty, enum way way, int sig)
{
	const struct console_peer peer = {peer_rx, peer_tx_ready, peer_line, r};
	const struct console_cfg cfg = {.type = CONSOLE_TYPE_STDIO, .name = "com1"};
	struct rlimit none = {0, 0};
	struct err err = {0};
	struct console *c;
	int fd = open(tty, O_RDWR | O_NOCTTY);

	setrlimit(RLIMIT_CORE, &none);
	signal(sig, SIG_DFL); /* the test library or a sanitizer may have its own */
	signal(SIGABRT, SIG_DFL);
	dup2(fd, 0);
	dup2(fd, 1);
	c = console_create(&cfg, r->loop, &err);
	if (c == NULL || console_start(c, &peer, &err) != 0 || !is_raw(fd))
		_exit(99);
	if (way == WAY_EXIT)
		exit(7);
	if (way == WAY_ABORT)
		abort();
	raise(sig);
	_exit(98);
}

static void
test_ways_out(void **state)
{
	static const struct {
		enum way way;
		int sig;
	} ways[] = {
	    {WAY_EXIT, SIGTERM},   {WAY_SIGNAL, SIGINT},  {WAY_SIGNAL, SIGTERM}, {WAY_SIGNAL, SIGHUP},
	    {WAY_SIGNAL, SIGQUIT}, {WAY_SIGNAL, SIGSEGV}, {WAY_SIGNAL, SIGBUS},	 {WAY_ABORT, SIGABRT},
	};
	struct rig *r = *state;
	char name[64];
	int master = open_pty(name, sizeof(name)), slave = open(name, O_RDWR | O_NOCTTY);

	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		int status;
		pid_t pid;

		assert_true(is_cooked(slave));
		pid = fork();
		if (pid == 0)
			leave(r, name, ways[i].way, ways[i].sig);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (ways[i].way == WAY_EXIT) {
			assert_true(WIFEXITED(status));
			assert_int_equal(WEXITSTATUS(status), 7);
		} else {
			assert_true(WIFSIGNALED(status));
			assert_int_equal(WTERMSIG(status), ways[i].sig);
		}
		assert_true(is_cooked(slave));
	}
	close(slave);
	close(master);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_ways_out), /* first: it forks */
	    T(test_terminal),
	    T(test_escapes),
	    T(test_escape_of_stuck_guest),
	    T(test_input_back_pressure),
	    T(test_input_ended),
	    T(test_input_file),
	    T(test_output_back_pressure),
	    T(test_output_at_once),
	    T(test_output_broken_pipe),
	    T(test_stdio_once),
	    T(test_path_file),
	    T(test_path_pty),
	    T(test_path_errors),
	    T(test_tcp),
	    T(test_tcp_stuck_client),
	    T(test_tcp_errors),
	};

	signal(SIGPIPE, SIG_DFL); /* a console must not die of it */
	return cmocka_run_group_tests_name("console", tests, NULL, NULL);
}
