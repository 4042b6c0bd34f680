/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lhyve(8): options into the tree, the tree into a board, the board until the guest ends, its end into the
 * exit status.
 *
 * Threads: main runs the board; one thread waits for signals (which all others block) and turns them
 * into calls to the board, so that no handler runs in signal context.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include "base/log.h"
#include "base/program.h"
#include "base/util.h"
#include "board/board.h"
#include "vmm/config.h"
#include "vmm/config/ucl.h"
#include "vmm/control/control.h"
#include "vmm/devices.h"
#include "vmm/logging.h"
#include "vmm/machine.h"
#include "vmm/options.h"
#include "vmm/version.h"

enum { EXIT_ERROR = BOARD_ERROR, START_MS = 1000 /* what starting needs is no longer needed */ };

/* Of each thread: the limit is what the C library gives to others than the first. */
#define STACK_MIN (256 * KIB)

/* The thread that takes signals while a board runs. */
struct signal_watch {
	pthread_t thread;
	struct board *board;
	int signal_fd, stop_fd;
};

/* A first SIGTERM, SIGINT or SIGHUP asks the guest to power off; a second one pulls the plug. As the thread
 * that has nothing else to do, it also trims the program once the guest runs. */
static void *
signal_main(void *arg)
{
	struct signal_watch *w = arg;
	struct pollfd p[2] = {{.fd = w->signal_fd, .events = POLLIN}, {.fd = w->stop_fd, .events = POLLIN}};
	struct signalfd_siginfo info;
	unsigned asked = 0;
	int left_ms = START_MS, ready;

	while ((ready = poll(p, ARRAY_LEN(p), left_ms)) >= 0 || errno == EINTR) {
		if (ready == 0) {
			program_trim();
			left_ms = -1;
			continue;
		}
		if (p[1].revents != 0)
			break;
		if (p[0].revents == 0 || read(w->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
			continue;
		if (asked++ == 0) {
			log_info("%s: pressing the power button", strsignal((int)info.ssi_signo));
			board_power_button(w->board);
		} else {
			log_warn("%s: ended by a second signal", strsignal((int)info.ssi_signo));
			board_end_now(w->board, BOARD_POWEROFF);
		}
	}
	return NULL;
}

/* Before any thread is made: threads inherit the mask. */
static void
signals_block(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ,
	       SIG_IGN); /* a disk image at the limit of file sizes: EFBIG is the guest's I/O error */
}

static int
signal_watch_start(struct signal_watch *w, struct board *b, const sigset_t *set, struct err *err)
{
	int r;

	w->board = b;
	w->signal_fd = signalfd(-1, set, SFD_CLOEXEC);
	w->stop_fd = eventfd(0, EFD_CLOEXEC);
	r = w->signal_fd < 0 || w->stop_fd < 0 ? errno : 0;
	if (r != 0) {
		err_set(err, r, "signals: %s%s", strerror(r), err_limit_hint(r));
	} else {
		r = pthread_create(&w->thread, NULL, signal_main, w);
		if (r == 0)
			return 0;
		err_set(err, r, "signals: no thread: %s (raise the limit of processes: ulimit -u)",
			strerror(r));
	}
	if (w->signal_fd >= 0)
		close(w->signal_fd);
	if (w->stop_fd >= 0)
		close(w->stop_fd);
	return -r;
}

static void
signal_watch_stop(struct signal_watch *w)
{
	uint64_t one = 1;

	LH_ASSERT(write(w->stop_fd, &one, sizeof(one)) == (ssize_t)sizeof(one));
	pthread_join(w->thread, NULL);
	close(w->signal_fd);
	close(w->stop_fd);
}

/* One line, whatever a file name or a value held. */
static int
complain(const struct err *err)
{
	char line[sizeof(err->msg)];
	size_t n = 0;

	for (const char *p = err->msg; *p != '\0'; p++)
		line[n++] = (unsigned char)*p < ' ' || *p == 0x7f ? '?' : *p;
	fprintf(stderr, "lhyve: %.*s\n", (int)n, line);
	return EXIT_ERROR;
}

/* The board until the guest ends, with signals and control socket. */
static int
run_board(struct board *board, struct control *ctl, const sigset_t *set)
{
	struct err err = {0};
	struct signal_watch watch;
	enum board_end end = BOARD_ERROR;

	if (signal_watch_start(&watch, board, set, &err) != 0)
		return complain(&err);
	if (control_start(ctl, board, board_engine(board), &err) != 0)
		complain(&err);
	else
		end = board_run(board);
	control_stop(ctl);
	signal_watch_stop(&watch);
	return end == BOARD_EXIT ? (int)board_exit_status(board) : (int)end;
}

static int
make_board(struct config *c, struct board_cfg *cfg)
{
	struct err err = {0};
	struct control *ctl;
	struct board *board;
	sigset_t set;
	int status = EXIT_ERROR;

	signals_block(&set);
	/* Before the board, which opens what only one VM may have. */
	ctl = control_create(c, &err);
	if (err.code != 0)
		return complain(&err);
	board = board_create(cfg, &err);
	if (board != NULL)
		status = run_board(board, ctl, &set);
	else
		complain(&err);
	board_destroy(board);
	control_destroy(ctl);
	return status;
}

/* For the test that each key has a reader. */
static int
write_reads(const struct config *c)
{
	const char *path = config_get(c, "debug.reads");
	struct err err = {0};
	FILE *out = path != NULL ? fopen(path, "we") : NULL;
	bool ok = out != NULL;

	if (path == NULL)
		return 0;
	if (ok) {
		config_print_read(c, out);
		ok = fclose(out) == 0;
	}
	if (ok)
		return 0;
	err_set(&err, errno, "debug.reads: %s: %s", path, strerror(errno));
	return complain(&err);
}

static int
run_machine(struct config *c)
{
	struct err err = {0};
	struct board_cfg cfg;
	int status;

	if (machine_board_cfg(c, &cfg, &err) != 0)
		return complain(&err);
	status = make_board(c, &cfg);
	machine_board_cfg_free(&cfg);
	return write_reads(c) == 0 ? status : EXIT_ERROR;
}

/* Any UCL file as JSON; no schema is applied. */
static int
print_ucl(const char *file)
{
	struct err err = {0};
	struct ucl_tree *t = ucl_read(file, NULL, &err);

	if (t == NULL)
		return complain(&err);
	ucl_emit_json(ucl_root(t), stdout);
	ucl_free(t);
	return 0;
}

static int
act(struct config *c, enum options_action action, const char *file)
{
	struct err err = {0};

	switch (action) {
	case OPTIONS_HELP:
		options_print_usage(stdout);
		return 0;
	case OPTIONS_VERSION:
		printf("lhyve %s\n", lhyve_version);
		return 0;
	case OPTIONS_SCHEMA:
		config_schema_print(stdout);
		return 0;
	case OPTIONS_DEVICES:
		options_print_devices(stdout);
		return 0;
	case OPTIONS_UCL:
		return print_ucl(file);
	case OPTIONS_RUN:
		break;
	}
	if (config_bool(c, "config.dump")) {
		config_dump(c, stdout);
		return 0;
	}
	if (logging_init(c, &err) != 0)
		return complain(&err);
	return run_machine(c);
}

static int
check_stack(struct err *err)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_STACK, &l) != 0 || l.rlim_cur == RLIM_INFINITY || l.rlim_cur >= STACK_MIN)
		return 0;
	return err_set(err, ENOMEM, "stacks of %llu KiB are too small (raise the limit: ulimit -s %llu)",
		       (unsigned long long)(l.rlim_cur / KIB), (unsigned long long)(STACK_MIN / KIB));
}

/* A function of its own: no stack before it has been checked. */
static __attribute__((noinline)) int
run(int argc, char **argv)
{
	enum options_action action;
	const char *file;
	struct err err = {0};
	struct config *c = config_create(&err);
	int status;

	if (c == NULL || options_parse(argc, argv, c, &action, &file, &err) != 0 ||
	    config_resolve(c, &err) != 0 || devices_expand(c, &err) != 0)
		status = complain(&err);
	else
		status = act(c, action, file);
	config_destroy(c);
	return status;
}

int
main(int argc, char **argv)
{
	struct err err = {0};

	return check_stack(&err) == 0 ? run(argc, argv) : complain(&err);
}
