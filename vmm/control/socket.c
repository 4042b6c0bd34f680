/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who holds the lock file's lock owns the socket. The lock is an open file description lock: it goes with the
 * last descriptor, so with the process, however that ends, and descriptors are closed on exec. A lock file
 * that is unlinked by its holder may still be opened by one who waits: hence the look whether it is the same
 * file.
 */
#include "vmm/control/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/util.h"

enum { BACKLOG = 1024, RETRIES = 100 };

static int
address(const char *path, struct sockaddr_un *a, struct err *err)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(a->sun_path))
		return err_set(err, ENAMETOOLONG,
			       "control.socket: %s: longer than a socket's name may be (%zu)", path,
			       sizeof(a->sun_path) - 1);
	memcpy(a->sun_path, path, strlen(path) + 1);
	return 0;
}

static int
fail(const char *path, int code, const char *hint, struct err *err)
{
	return err_set(err, code, "control.socket: %s: %s (%s)", path, strerror(code), hint);
}

/* The folder of the path; its parent must be there. */
static int
make_parent(const char *path, struct err *err)
{
	const char *slash = strrchr(path, '/');
	char *folder;
	int r = 0;

	if (slash == NULL || slash == path)
		return 0;
	folder = strndup(path, (size_t)(slash - path));
	if (folder == NULL)
		return err_set(err, ENOMEM, "control.socket: out of memory");
	if (mkdir(folder, 0700) != 0 && errno != EEXIST)
		r = fail(folder, errno, "set control.socket to another path, or none", err);
	free(folder);
	return r;
}

/* 1: locked and still the file of that name; 0: another one took its place; -errno. */
static int
try_lock(int fd, const char *lock_path)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	struct stat mine, there;

	if (fcntl(fd, F_OFD_SETLK, &lock) != 0)
		return errno == EACCES || errno == EAGAIN ? -EBUSY : -errno;
	if (fstat(fd, &mine) != 0)
		return -errno;
	if (lstat(lock_path, &there) != 0)
		return errno == ENOENT ? 0 : -errno;
	return mine.st_ino == there.st_ino && mine.st_dev == there.st_dev;
}

/* The lock's descriptor, or -errno. */
static int
take_lock(const char *lock_path)
{
	for (unsigned i = 0; i < RETRIES; i++) {
		int fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600), r;

		if (fd < 0)
			return -errno;
		r = try_lock(fd, lock_path);
		if (r > 0)
			return fd;
		close(fd);
		if (r < 0)
			return r;
	}
	return -EBUSY;
}

/* For people who look into the folder. Cutting a file short takes some file systems long: only what is left
 * over goes. */
static void
note_holder(int fd)
{
	char text[24];
	int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
	struct stat st;

	if (pwrite(fd, text, (size_t)n, 0) != n || fstat(fd, &st) != 0 || st.st_size <= n ||
	    ftruncate(fd, n) != 0)
		return;
}

/* With the lock held: whatever socket is there is a dead VM's. */
static int
remove_stale(const char *path, struct err *err)
{
	struct stat st;

	if (lstat(path, &st) != 0)
		return errno == ENOENT ? 0 : fail(path, errno, "choose another path", err);
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, EEXIST,
			       "control.socket: %s: it is there, and no socket (choose another path)", path);
	return unlink(path) == 0 ? 0 : fail(path, errno, "choose another path", err);
}

static int
listen_at(const char *path, struct err *err)
{
	struct sockaddr_un a;
	int fd, code;

	if (address(path, &a, err) != 0)
		return -err->code;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return fail(path, errno, "raise the limit of open files?", err);
	/* The socket's mode becomes the file's (and the umask takes bits away): never open to others. */
	if (fchmod(fd, 0600) == 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 &&
	    listen(fd, BACKLOG) == 0)
		return fd;
	code = errno;
	close(fd);
	return fail(path, code, "choose another path", err);
}

static int
set_paths(struct control_socket *s, const char *path, struct err *err)
{
	*s = (struct control_socket){.lock_fd = -1, .listen_fd = -1, .path = strdup(path)};
	if (s->path != NULL && asprintf(&s->lock_path, "%s.lock", path) >= 0)
		return 0;
	s->lock_path = NULL;
	return err_set(err, ENOMEM, "control.socket: out of memory");
}

static int
lock(struct control_socket *s, struct err *err)
{
	s->lock_fd = take_lock(s->lock_path);
	if (s->lock_fd >= 0)
		return 0;
	if (s->lock_fd == -EBUSY)
		return err_set(err, EBUSY,
			       "control.socket: %s: a VM with this socket is running (choose another name)",
			       s->path);
	return fail(s->lock_path, -s->lock_fd, "is the folder there, and may you write in it?", err);
}

int
control_socket_claim(struct control_socket *s, const char *path, struct err *err)
{
	struct sockaddr_un a;
	int r = set_paths(s, path, err);

	if (r == 0)
		r = address(path, &a, err);
	if (r == 0)
		r = make_parent(path, err);
	if (r == 0)
		r = lock(s, err);
	if (r == 0) {
		note_holder(s->lock_fd);
		r = remove_stale(path, err);
	}
	if (r == 0) {
		s->listen_fd = listen_at(path, err);
		r = MIN(s->listen_fd, 0);
	}
	if (r != 0)
		control_socket_release(s);
	return r;
}

void
control_socket_release(struct control_socket *s)
{
	if (s->path == NULL)
		return;
	if (s->listen_fd >= 0) {
		unlink(s->path);
		close(s->listen_fd);
	}
	if (s->lock_fd >= 0) {
		unlink(s->lock_path); /* while the lock is held: nobody else's */
		close(s->lock_fd);
	}
	free(s->path);
	free(s->lock_path);
	*s = (struct control_socket){0};
}

int
control_socket_clean(const char *path, struct err *err)
{
	struct control_socket s;
	struct stat st;
	int r;

	if (lstat(path, &st) != 0)
		return err_set(err, errno, "%s: %s", path, strerror(errno));
	r = set_paths(&s, path, err);
	if (r == 0)
		r = lock(&s, err);
	if (r == 0)
		r = remove_stale(path, err);
	control_socket_release(&s);
	return r;
}
