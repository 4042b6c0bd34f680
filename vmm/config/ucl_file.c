/* SPDX-License-Identifier: BSD-2-Clause */
/* UCL files: reading with bounds, and the check that what was read is text. */
#include "vmm/config/ucl_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* An error of the host about a file: at the line that names it, or alone. */
static int
file_error(struct ucl_parser *p, const struct ucl_lex *at, const char *path, const char *what, int code)
{
	if (at == NULL)
		return err_set(p->err, code, "%s: cannot %s: %s", path, what, strerror(code));
	return err_set(p->err, code, "%s:%u:%u: cannot %s '%s': %s", at->file, at->line,
		       (unsigned)(at->p - at->line_start) + 1, what, path, strerror(code));
}

/* What is included is a regular file: a pipe or a terminal would make the parser wait. */
static int
open_file(struct ucl_parser *p, const char *path, const struct ucl_lex *at, int *fd)
{
	struct stat st;

	*fd = open(path, O_RDONLY | O_CLOEXEC | (at != NULL ? O_NONBLOCK | O_NOCTTY : 0));
	if (*fd < 0)
		return file_error(p, at, path, "open", errno);
	if (at == NULL || (fstat(*fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))))
		return 0;
	close(*fd);
	return err_set(p->err, ENOTSUP, "%s:%u:%u: '%s' is no file (.include takes regular files)", at->file,
		       at->line, (unsigned)(at->p - at->line_start) + 1, path);
}

int
ucl_load(struct ucl_parser *p, const char *path, const struct ucl_lex *at, char **text, size_t *len)
{
	size_t room = UCL_MAX_FILE + 1;
	int fd, r = open_file(p, path, at, &fd);
	ssize_t got = 1;

	*text = NULL;
	*len = 0;
	if (r != 0)
		return r;
	*text = malloc(room);
	if (*text == NULL)
		r = ucl_no_memory(p);
	while (r == 0 && got > 0 && *len < room) {
		got = read(fd, *text + *len, room - *len);
		if (got < 0 && errno == EINTR)
			got = 1;
		else if (got < 0)
			r = file_error(p, at, path, "read", errno);
		else
			*len += (size_t)got;
	}
	close(fd);
	if (r == 0 && *len == room)
		r = err_set(p->err, EINVAL, "%s: more than %d KiB (no configuration file?)", path,
			    UCL_MAX_FILE >> 10);
	if (r != 0) {
		free(*text);
		*text = NULL;
	}
	return r;
}

/* The length of the UTF-8 character at s, or 0 when it is none. RFC 3629. */
static size_t
utf8_length(const unsigned char *s, size_t left)
{
	static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t n = s[0] < 0x80 ? 1 : s[0] >> 5 == 6 ? 2 : s[0] >> 4 == 14 ? 3 : s[0] >> 3 == 30 ? 4 : 0;
	unsigned c;

	if (n <= 1)
		return n;
	if (n > left)
		return 0;
	c = s[0] & (0x7fu >> n);
	for (size_t i = 1; i < n; i++) {
		if (s[i] >> 6 != 2)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	return c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : n;
}

static int
check_text(struct ucl_parser *p)
{
	struct ucl_lex l = p->lex;

	while (!ucl_at_end(&l)) {
		size_t n = utf8_length((const unsigned char *)l.p, (size_t)(l.end - l.p));

		if (*l.p == '\0')
			return ucl_fail(p, &l, "a zero byte (not a text file?)");
		if (n == 0)
			return ucl_fail(p, &l, "byte 0x%02x is no UTF-8", (unsigned char)*l.p);
		if (n == 1)
			ucl_next(&l);
		else
			l.p += n;
	}
	return 0;
}

/* Keep a string as long as the tree. NULL: out of memory. */
static const char *
keep(struct ucl_parser *p, const char *s)
{
	char **grown = reallocarray(p->tree->file, p->tree->files + 1, sizeof(*grown));
	char *copy = strdup(s);

	if (grown != NULL)
		p->tree->file = grown;
	if (grown == NULL || copy == NULL) {
		free(copy);
		ucl_no_memory(p);
		return NULL;
	}
	return grown[p->tree->files++] = copy;
}

/* $FILENAME and $CURDIR: the file with all links resolved, and its folder. */
static int
set_file_variables(struct ucl_parser *p, const char *name)
{
	char real[PATH_MAX], *slash;

	if (realpath(name, real) == NULL)
		snprintf(real, sizeof(real), "%s", name);
	p->filename = keep(p, real);
	slash = strrchr(real, '/');
	if (slash != NULL)
		slash[slash == real] = '\0';
	p->curdir = p->filename == NULL ? NULL : keep(p, slash != NULL ? real : ".");
	return p->curdir != NULL ? 0 : -p->err->code;
}

int
ucl_begin(struct ucl_parser *p, const char *name, const char *text, size_t len)
{
	const char *kept = keep(p, name);
	int r;

	if (kept == NULL)
		return -p->err->code;
	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { /* a byte order mark */
		text += 3;
		len -= 3;
	}
	r = ucl_charge(p, len);
	if (r != 0)
		return r;
	p->lex = (struct ucl_lex){.file = kept, .p = text, .end = text + len, .line_start = text, .line = 1};
	r = set_file_variables(p, name);
	return r != 0 ? r : check_text(p);
}
