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
#include "board/place.h"
#include "mem/gpmap.h"

enum { CHUNK = 1 << 18 };

static const struct boot_loader *const loaders[] = {
    &boot_loader_linux,
    &boot_loader_multiboot,
    &boot_loader_pvh,
    &boot_loader_elf,
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
boot_file_read(const struct boot_file *f, uint64_t off, void *buf, uint64_t len, struct err *err)
{
	ssize_t n = read_at(f->fd, buf, len, off);

	if (n < 0)
		return boot_file_error(f, err, "%s (check the file)", strerror((int)-n));
	if ((uint64_t)n < len)
		return boot_file_error(f, err, "became shorter while it was read (copy it again)");
	return 0;
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

		ret = boot_file_read(f, off, buf, want, err);
		if (ret == 0 && !gm_load(mem, gpa, buf, want))
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

static int
load_module(const struct boot_request *r, struct place *p, uint64_t floor, const char *key, const char *path,
	    struct boot_loaded *out, struct err *err)
{
	enum { PAGE = 4096 };
	struct boot_file f;
	int ret = boot_file_open(&f, key, path, err);

	if (ret != 0)
		return ret;
	out->len = f.size;
	if (!place_find(p, f.size, PAGE, floor, boot_ram_end(r), &out->gpa))
		ret = boot_file_error(&f, err,
				      "%llu bytes do not fit between %#llx and %#llx (give more memory.size)",
				      (unsigned long long)f.size, (unsigned long long)floor,
				      (unsigned long long)boot_ram_end(r));
	else
		ret = boot_file_load(&f, 0, f.size, r->mem, out->gpa, err);
	boot_file_close(&f);
	return ret;
}

int
boot_modules_load(const struct boot_request *r, struct place *p, uint64_t floor,
		  struct boot_loaded out[BOOT_MODULES], unsigned *count, struct err *err)
{
	int ret = 0;

	*count = 0;
	if (r->initrd != NULL) {
		out[0].cmdline = "";
		ret = load_module(r, p, floor, "boot.initrd", r->initrd, &out[(*count)++], err);
	}
	for (unsigned i = 0; i < r->modules && ret == 0; i++) {
		const struct board_module *m = &r->module[i];
		char key[40];

		snprintf(key, sizeof(key), "boot.module.%u.path", m->number);
		out[*count].cmdline = m->cmdline != NULL ? m->cmdline : "";
		ret = load_module(r, p, floor, key, m->path, &out[(*count)++], err);
	}
	return ret;
}

int
boot_find_room(const struct boot_request *r, struct place *p, uint64_t len, uint64_t *gpa, struct err *err)
{
	enum { PAGE = 4096, LOW_FLOOR = 0x10000 };

	/* Below 64 KiB live the interrupt vectors, BIOS data, and what real-mode programs use. */
	if (place_find(p, len, PAGE, LOW_FLOOR, MACHINE_BASE_RAM_END, gpa) ||
	    place_find(p, len, PAGE, MACHINE_HIGH_BASE, boot_ram_end(r), gpa))
		return 0;
	return err_set(err, ENOSPC,
		       "memory.size: no room for %llu bytes that the kernel is handed (give more)",
		       (unsigned long long)len);
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
		if (r->modules > 0 && !loaders[i]->takes_modules)
			ret = err_set(err, EINVAL, "boot.module: a %s kernel takes none (use boot.initrd)",
				      loaders[i]->name);
		else
			ret = loaders[i]->load(r, &f, bsp, err);
		boot_file_close(&f);
		return ret;
	}
	ret = boot_file_error(&f, err,
			      "is no kernel that can be booted (give a Linux bzImage, as /boot/vmlinuz-* is, "
			      "or an ELF or multiboot kernel)");
	boot_file_close(&f);
	return ret;
}
