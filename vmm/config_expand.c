/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Templates: values in which %(key) stands for another key's value, as in bhyve_config(5). They are made when
 * all is set, so that a file may refer to the name that the command line gives.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/util.h"
#include "vmm/config_internal.h"

enum {
	MAX_DEPTH = 16,
	MAX_TEXT = 64 << 10 /* bytes of a value */,
	MAX_KEYS = 1000 /* that one value refers to */
};

struct expansion {
	const struct config *c;
	const char *where, *name; /* of the value that is made */
	struct err *err;
	FILE *out;
	unsigned keys;
};

static int expand(struct expansion *x, const char *template, unsigned depth);

static const struct entry *
find_entry(const struct config *c, const char *name)
{
	for (size_t i = 0; i < c->count; i++) {
		if (strcmp(c->entry[i].name, name) == 0)
			return &c->entry[i];
	}
	return NULL;
}

/* The value of the key whose name has `len` bytes. */
static int
expand_key(struct expansion *x, const char *text, size_t len, unsigned depth)
{
	char name[CONFIG_NAME_ROOM];
	const struct config_key *k;
	const struct entry *e;

	snprintf(name, sizeof(name), "%.*s", (int)MIN(len, sizeof(name)), text);
	k = len < sizeof(name) ? config_key_find(name) : NULL;
	if (++x->keys > MAX_KEYS)
		return err_set(x->err, E2BIG, "%s: %s: it refers to more than %d keys", x->where, x->name,
			       MAX_KEYS);
	if (k == NULL)
		return err_set(x->err, ENOENT, "%s: %s: %%(%s): unknown key (%%%% is a percent sign)",
			       x->where, x->name, name);
	e = find_entry(x->c, k->alias != NULL && strcmp(k->alias, name) == 0 ? k->name : name);
	if (e == NULL && k->def == NULL)
		return err_set(x->err, ENOENT, "%s: %s: %%(%s): it is not set", x->where, x->name, name);
	if (e != NULL && e->where != NULL)
		return expand(x, e->value, depth + 1);
	fputs(e != NULL ? e->value : k->def, x->out);
	return 0;
}

static int
expand(struct expansion *x, const char *template, unsigned depth)
{
	int r = 0;

	if (depth > MAX_DEPTH)
		return err_set(x->err, ELOOP, "%s: %s: it refers to itself", x->where, x->name);
	for (const char *p = template; *p != '\0' && r == 0; p++) {
		const char *end = p[0] == '%' && p[1] == '(' ? strchr(p, ')') : NULL;

		if (ftell(x->out) > MAX_TEXT)
			return err_set(x->err, E2BIG, "%s: %s: longer than %d bytes", x->where, x->name,
				       MAX_TEXT);
		if (end != NULL) {
			r = expand_key(x, p + 2, (size_t)(end - p - 2), depth);
			p = end;
		} else {
			fputc(*p, x->out);
			p += p[0] == '%' && p[1] == '%';
		}
	}
	return r;
}

/* The value that the entry's template makes (malloc). */
static int
make_value(const struct config *c, const struct entry *e, char **value, struct err *err)
{
	size_t len = 0;
	struct expansion x = {.c = c, .where = e->where, .name = e->name, .err = err};
	int r;

	*value = NULL;
	x.out = open_memstream(value, &len);
	if (x.out == NULL)
		return err_set(err, ENOMEM, "%s: out of memory", e->where);
	r = expand(&x, e->value, 0);
	if (fclose(x.out) != 0 && r == 0)
		r = err_set(err, ENOMEM, "%s: out of memory", e->where);
	return r;
}

/* Each value is made while the others are still templates, so that none is expanded twice. */
int
config_resolve(struct config *c, struct err *err)
{
	char **made = calloc(c->count + 1, sizeof(*made));
	int r = made != NULL ? 0 : err_set(err, ENOMEM, "configuration: out of memory");

	for (size_t i = 0; i < c->count && r == 0; i++) {
		const struct entry *e = &c->entry[i];
		char *text = NULL;

		if (e->where == NULL)
			continue;
		r = make_value(c, e, &text, err);
		if (r == 0)
			r = config_check_value(e->key, e->where, e->name, text, &made[i], err);
		free(text);
	}
	for (size_t i = 0; made != NULL && i < c->count; i++) {
		struct entry *e = &c->entry[i];

		if (r != 0 || e->where == NULL) {
			free(r != 0 ? made[i] : NULL);
			continue;
		}
		free(e->value);
		free(e->where);
		e->value = made[i];
		e->where = NULL;
	}
	free(made);
	return r;
}
