/* SPDX-License-Identifier: BSD-2-Clause */
/* What all boot loaders share, and their table. */
#include "board/loader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "mem/gpmap.h"

enum { CHUNK = 1 << 18 };

static const struct boot_loader *const loaders[] = {
    &boot_loader_linux,
};

int
boot_file_error(const struct boot_file *f, struct err *err, const char *fmt, ...)
{
	char text[384];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* A long path is cut at its front: the end says more, and the text must stay. */
	return err_set(err, EINVAL, "%s: %s: %s", f->key,
		       strlen(f->path) > 100 ? f->path + strlen(f->path) - 100 : f->path, text);
}

/* Read exactly len bytes unless the file ends before. Returns the number read or -errno. */
static ssize_t
read_at(int fd, void *buf, size_t len, uint64_t off)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

static const char *
open_hint(int code)
{
	return code == ENOENT	? "check the name"
	       : code == EACCES ? "may this user read it?"
				: "check the file";
}

static int
check_kind(struct boot_file *f, struct err *err)
{
	struct stat sb;

	if (fstat(f->fd, &sb) < 0)
		return boot_file_error(f, err, "%s (check the file)", strerror(errno));
	if (S_ISDIR(sb.st_mode))
		return boot_file_error(f, err, "is a folder (give a file)");
	if (!S_ISREG(sb.st_mode))
		return boot_file_error(f, err, "is no regular file (copy it to one)");
	f->size = (uint64_t)sb.st_size;
	if (f->size == 0)
		return boot_file_error(f, err, "is empty (copy it again)");
	return 0;
}

int
boot_file_open(struct boot_file *f, const char *key, const char *path, struct err *err)
{
	ssize_t n;
	int ret;

	*f = (struct boot_file){.key = key, .path = path};
	/* O_NONBLOCK: a FIFO must not hold us up before it is refused. */
	f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (f->fd < 0)
		return boot_file_error(f, err, "%s (%s)", strerror(errno), open_hint(errno));
	ret = check_kind(f, err);
	if (ret == 0) {
		n = read_at(f->fd, f->head, sizeof(f->head), 0);
		if (n < 0)
			ret = boot_file_error(f, err, "%s (check the file)", strerror((int)-n));
		else
			f->head_len = (size_t)n;
	}
	if (ret != 0)
		boot_file_close(f);
	return ret;
}

void
boot_file_close(struct boot_file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

int
boot_file_load(const struct boot_file *f, uint64_t off, uint64_t len, struct gpmap *mem, uint64_t gpa,
	       struct err *err)
{
	uint8_t *buf = malloc(CHUNK);
	int ret = 0;

	if (buf == NULL)
		return err_set(err, ENOMEM, "%s: no memory", f->key);
	while (len > 0 && ret == 0) {
		size_t want = (size_t)MIN(len, (uint64_t)CHUNK);
		ssize_t n = read_at(f->fd, buf, want, off);

		if (n < 0)
			ret = boot_file_error(f, err, "%s (check the file)", strerror((int)-n));
		else if ((size_t)n < want)
			ret = boot_file_error(f, err, "became shorter while it was read (copy it again)");
		else if (!gm_load(mem, gpa, buf, want))
			ret = boot_file_error(f, err,
					      "does not fit into memory at %#llx (give more memory.size)",
					      (unsigned long long)gpa);
		off += want;
		gpa += want;
		len -= want;
	}
	free(buf);
	return ret;
}

uint64_t
boot_ram_end(const struct boot_request *r)
{
	for (unsigned i = 0; i < r->map->count; i++) {
		const struct e820_entry *e = &r->map->entry[i];

		if (e->type == E820_RAM && e->addr == MACHINE_HIGH_BASE)
			return e->addr + e->len;
	}
	return MACHINE_HIGH_BASE;
}

void
boot_poke(struct gpmap *mem, uint64_t gpa, const void *data, size_t len)
{
	LH_ASSERT(gm_load(mem, gpa, data, len));
}

int
boot_load(const struct boot_request *r, struct x86_state *bsp, struct err *err)
{
	struct boot_file f;
	int ret = boot_file_open(&f, "boot.kernel", r->kernel, err);

	if (ret != 0)
		return ret;
	for (size_t i = 0; i < ARRAY_LEN(loaders); i++) {
		if (!loaders[i]->probe(&f))
			continue;
		ret = loaders[i]->load(r, &f, bsp, err);
		boot_file_close(&f);
		return ret;
	}
	ret = boot_file_error(&f, err, "%s (give a Linux bzImage, as /boot/vmlinuz-* is)",
			      f.head_len >= 4 && memcmp(f.head, "\177ELF", 4) == 0
				  ? "is an ELF file, no bzImage"
				  : "is no kernel that can be booted");
	boot_file_close(&f);
	return ret;
}
