/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Raw mode that is undone on every way out: console_stop(), exit(), a signal that ends
 * the process, and while it is stopped by SIGTSTP.
 *
 * A signal handler may run at any moment on any thread, so the saved modes are a fixed
 * table of slots whose state is one atomic, and nothing here takes a lock. Only
 * dispositions that are the default are replaced: a program's own handlers stay.
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/util.h"
#include "dev/console/internal.h"

enum slot_state { SLOT_FREE, SLOT_BUSY, SLOT_RAW };

static struct slot {
	_Atomic int state;
	int fd;
	struct termios saved, raw;
} slots[8];

static const int fatal_signals[] = {
    SIGHUP,  SIGINT,  SIGQUIT, SIGILL,	SIGTRAP, SIGABRT,   SIGBUS,  SIGFPE,
    SIGSEGV, SIGTERM, SIGSYS,  SIGXCPU, SIGXFSZ, SIGVTALRM, SIGPROF,
};

/* tcsetattr() of a background process would stop it: not with SIGTTOU blocked. */
static void
set_mode(int fd, const struct termios *t)
{
	sigset_t ttou, old;

	sigemptyset(&ttou);
	sigaddset(&ttou, SIGTTOU);
	pthread_sigmask(SIG_BLOCK, &ttou, &old);
	while (tcsetattr(fd, TCSANOW, t) < 0 && errno == EINTR)
		;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void
console_tty_restore(void)
{
	int saved_errno = errno;

	for (size_t i = 0; i < ARRAY_LEN(slots); i++) {
		if (atomic_load(&slots[i].state) == SLOT_RAW)
			set_mode(slots[i].fd, &slots[i].saved);
	}
	errno = saved_errno;
}

/* SA_RESETHAND has put the default back: the second delivery ends the process. */
static void
on_fatal(int sig)
{
	console_tty_restore();
	raise(sig);
}

static void
on_stop(int sig)
{
	(void)sig;
	console_tty_restore();
	raise(SIGSTOP);
}

/* Back in the foreground: raw again. In the background the terminal is somebody else's. */
static void
on_continue(int sig)
{
	int saved_errno = errno;

	(void)sig;
	for (size_t i = 0; i < ARRAY_LEN(slots); i++) {
		if (atomic_load(&slots[i].state) == SLOT_RAW && tcgetpgrp(slots[i].fd) == getpgrp())
			set_mode(slots[i].fd, &slots[i].raw);
	}
	errno = saved_errno;
}

static void
handle_default(int sig, void (*fn)(int), int flags)
{
	struct sigaction sa, old;

	if (sigaction(sig, NULL, &old) < 0 || (old.sa_flags & SA_SIGINFO) != 0 || old.sa_handler != SIG_DFL)
		return;
	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = fn;
	sa.sa_flags = flags;
	sigemptyset(&sa.sa_mask);
	sigaction(sig, &sa, NULL);
}

static void
install(void)
{
	atexit(console_tty_restore);
	for (size_t i = 0; i < ARRAY_LEN(fatal_signals); i++)
		handle_default(fatal_signals[i], on_fatal, SA_RESETHAND | SA_NODEFER);
	handle_default(SIGTSTP, on_stop, SA_RESTART);
	handle_default(SIGCONT, on_continue, SA_RESTART);
}

int
tty_raw_enter(int fd, struct err *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct slot *s = NULL;

	for (size_t i = 0; i < ARRAY_LEN(slots) && s == NULL; i++) {
		int expected = SLOT_FREE;

		if (atomic_compare_exchange_strong(&slots[i].state, &expected, SLOT_BUSY))
			s = &slots[i];
	}
	if (s == NULL)
		return err_set(err, EBUSY, "terminal: too many are in raw mode already");
	if (tcgetattr(fd, &s->saved) < 0) {
		int code = errno;

		atomic_store(&s->state, SLOT_FREE);
		return err_set(err, code, "terminal: %s", strerror(code));
	}
	s->fd = fd;
	s->raw = s->saved;
	cfmakeraw(&s->raw);
	pthread_once(&once, install);
	atomic_store(&s->state, SLOT_RAW);
	set_mode(fd, &s->raw);
	return 0;
}

void
tty_raw_leave(int fd)
{
	for (size_t i = 0; i < ARRAY_LEN(slots); i++) {
		if (atomic_load(&slots[i].state) != SLOT_RAW || slots[i].fd != fd)
			continue;
		set_mode(fd, &slots[i].saved);
		atomic_store(&slots[i].state, SLOT_FREE);
		return;
	}
}
