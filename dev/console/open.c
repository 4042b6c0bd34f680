/* SPDX-License-Identifier: BSD-2-Clause */
/* Consoles on standard input and output, and on a path. Called by the board's owner before and after the VM
 * runs. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dev/console/internal.h"

static _Atomic bool stdio_taken;

int
console_open_stdio(struct console *c, struct err *err)
{
	if (atomic_exchange(&stdio_taken, true))
		return err_set(err, EBUSY,
			       "%s: standard input and output belong to another console (give stdio to one)",
			       c->name);
	c->in_fd = STDIN_FILENO;
	c->out_fd = STDOUT_FILENO;
	return 0;
}

void
console_close_stdio(struct console *c)
{
	(void)c;
	atomic_store(&stdio_taken, false);
}

static int
bad_path(struct console *c, struct err *err, int code, const char *hint)
{
	return err_set(err, code, "%s: %s: %s (%s)", c->name, c->path, strerror(code), hint);
}

/* A regular file or FIFO takes output. Both directions of a FIFO would give us our own output back. */
static int
open_output(struct console *c, int flags, struct err *err)
{
	c->own_fd = c->out_fd = open(c->path, flags | O_CLOEXEC, 0644);
	if (c->out_fd < 0)
		return bad_path(c, err, errno, "is the folder there, and may you write in it?");
	return 0;
}

int
console_open_path(struct console *c, struct err *err)
{
	bool missing = false;
	struct stat sb;
	int fd;

	if (stat(c->path, &sb) < 0) {
		missing = errno == ENOENT && strncmp(c->path, "/dev/", 5) != 0;
		if (!missing)
			return bad_path(c, err, errno, "give a terminal, pty or file");
	}
	if (missing || S_ISREG(sb.st_mode))
		return open_output(c, O_WRONLY | O_CREAT | O_APPEND, err);
	if (S_ISFIFO(sb.st_mode))
		return open_output(c, O_RDWR, err);
	if (!S_ISCHR(sb.st_mode))
		return bad_path(c, err, S_ISDIR(sb.st_mode) ? EISDIR : ENODEV,
				"give a terminal, pty or file");
	/* O_NONBLOCK: a serial line without carrier would hold open() up. */
	fd = open(c->path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return bad_path(c, err, errno, "may you read and write it?");
	if (fcntl(fd, F_SETFL, 0) < 0) {
		int code = errno;

		close(fd);
		return bad_path(c, err, code, "give a terminal, pty or file");
	}
	c->own_fd = c->in_fd = c->out_fd = fd;
	return 0;
}
