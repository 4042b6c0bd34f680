/* SPDX-License-Identifier: BSD-2-Clause */
/* Configuration files into the tree: UCL, or the flat form of bhyve_config(5). */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/util.h"
#include "vmm/config.h"
#include "vmm/config/ucl.h"

/* The longest name that sections make together, and the longest "FILE:LINE". */
enum { NAME_ROOM = 256, WHERE_ROOM = 300 };

static int apply(struct config *c, const char *name, const struct ucl_node *n, struct err *err);

/* The line without blanks around it; false: blank or a comment. */
static bool
trim(const char **line, size_t *len)
{
	while (*len > 0 && isspace((unsigned char)**line))
		++*line, --*len;
	while (*len > 0 && isspace((unsigned char)(*line)[*len - 1]))
		--*len;
	return *len > 0 && **line != '#';
}

/* name=value as bhyve_config(5) writes it, and not as UCL would. */
static bool
is_flat_line(const char *line, size_t len)
{
	size_t name = 0;

	while (name < len && (isalnum((unsigned char)line[name]) || strchr("._-", line[name]) != NULL))
		name++;
	if (name == 0 || !isalnum((unsigned char)*line) || name == len || line[name] != '=')
		return false;
	if (name + 1 == len)
		return true;
	return strchr(" \t\"'{[<", line[name + 1]) == NULL && strchr(";,{[", line[len - 1]) == NULL;
}

/* Call fn for each line that says something, until it returns non-zero. */
static int
each_line(const char *text, size_t len,
	  int (*fn)(void *arg, unsigned number, const char *line, size_t len, struct err *err), void *arg,
	  struct err *err)
{
	const char *end = text + len;
	unsigned number = 1;
	int r = 0;

	for (const char *p = text; p < end && r == 0; number++) {
		const char *eol = memchr(p, '\n', (size_t)(end - p)) ?: end, *line = p;
		size_t n = (size_t)(eol - p);

		if (trim(&line, &n))
			r = fn(arg, number, line, n, err);
		p = eol < end ? eol + 1 : end;
	}
	return r;
}

static int
not_flat(void *arg, unsigned number, const char *line, size_t len, struct err *err)
{
	(void)arg, (void)number, (void)err;
	return !is_flat_line(line, len);
}

struct flat {
	struct config *c;
	const char *path;
};

static int
assign_line(void *arg, unsigned number, const char *line, size_t len, struct err *err)
{
	const struct flat *f = arg;
	char where[WHERE_ROOM], *copy = strndup(line, len);
	int r;

	if (copy == NULL)
		return err_set(err, ENOMEM, "%s: out of memory", f->path);
	snprintf(where, sizeof(where), "%s:%u", f->path, number);
	r = config_assign(f->c, where, copy, err);
	free(copy);
	return r;
}

static void
place(const struct ucl_node *n, char where[static WHERE_ROOM])
{
	snprintf(where, WHERE_ROOM, "%s:%u", n->file, n->line);
}

/* The text that config_set() takes. Sizes keep their suffix: 2G is 2 GiB there, as in bhyve, not UCL's 2 *
 * 10^9. */
static const char *
value_text(const struct config_key *k, const struct ucl_node *n, char room[static 32])
{
	enum config_type type = k != NULL ? k->type : CONFIG_STRING;
	bool suffix = n->text != NULL &&
		      isalpha((unsigned char)n->text[strlen(n->text) - (*n->text != '\0')]) &&
		      strpbrk(n->text, "xX") == NULL;

	if (n->type == UCL_BOOL && type == CONFIG_BOOL)
		return n->boolean ? "true" : "false";
	if (n->type == UCL_INT && (type == CONFIG_INT || (type == CONFIG_SIZE && !suffix))) {
		snprintf(room, 32, "%lld", (long long)n->integer);
		return room;
	}
	return n->text;
}

static int
apply_scalar(struct config *c, const char *name, const struct ucl_node *n, struct err *err)
{
	const struct config_key *k = config_key_find(name);
	char where[WHERE_ROOM], room[32];

	place(n, where);
	if (k == NULL && config_section_known(name))
		return err_set(err, EINVAL, "%s: %s is a section, not a value (%s { ... })", where, name,
			       name);
	if (k != NULL && n->type == UCL_NULL)
		return err_set(err, EINVAL, "%s: %s: null is no value (leave the key out)", where, name);
	if (k != NULL && (k->type == CONFIG_STRING || k->type == CONFIG_PATH || k->type == CONFIG_LIST) &&
	    n->type != UCL_STRING)
		return err_set(err, EINVAL, "%s: %s: %s where a string belongs (\"%s\" in quotes)", where,
			       name, ucl_type_name(n->type), n->text);
	return config_set(c, where, name, value_text(k, n, room), err);
}

/* An array or a section where a key takes one value; or nothing of that name is known. */
static int
refuse_nested(const char *name, const struct ucl_node *n, struct err *err)
{
	char where[WHERE_ROOM], room[CONFIG_SECTION_ROOM];
	const char *near;

	place(n, where);
	if (config_key_find(name) != NULL)
		return err_set(err, EINVAL, "%s: %s: %s where one value belongs", where, name,
			       n->type == UCL_ARRAY ? "an array" : "a section");
	if (config_section_known(name))
		return err_set(err, EINVAL, "%s: %s is a section, not an array (%s { ... })", where, name,
			       name);
	near = config_section_nearest(name, room);
	if (near != NULL)
		return err_set(err, ENOENT, "%s: unknown section '%s' (did you mean '%s'?)", where, name,
			       near);
	return err_set(err, ENOENT, "%s: unknown section '%s' (lhyve --schema lists all keys)", where, name);
}

static int
apply_members(struct config *c, const char *prefix, const struct ucl_node *n, struct err *err)
{
	char name[NAME_ROOM];
	int r = 0;

	for (size_t i = 0; i < n->count && r == 0; i++) {
		const struct ucl_node *m = n->child[i];

		if (*m->key == '\0')
			return err_set(err, ENOENT, "%s:%u: an empty key", m->file, m->line);
		if ((size_t)snprintf(name, sizeof(name), "%s%s%s", prefix, *prefix != '\0' ? "." : "",
				     m->key) >= sizeof(name))
			return err_set(err, ENOENT,
				       "%s:%u: unknown key '%.40s...' (lhyve --schema lists all)", m->file,
				       m->line, name);
		r = apply(c, name, m, err);
	}
	return r;
}

/* A repeated key is set again; repeated sections add up. */
static int
apply_repeated(struct config *c, const char *name, const struct ucl_node *n, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < n->count && r == 0; i++)
		r = apply(c, name, n->child[i], err);
	return r;
}

/* An array of strings as one text. */
static int
apply_list(struct config *c, const char *name, const struct ucl_node *n, struct err *err)
{
	char where[WHERE_ROOM], *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	int r = 0;

	place(n, where);
	if (out == NULL)
		return err_set(err, ENOMEM, "%s: out of memory", where);
	for (size_t i = 0; i < n->count && r == 0; i++) {
		const struct ucl_node *m = n->child[i];

		if (m->type != UCL_STRING || strchr(m->text, ';') != NULL || *m->text == '\0')
			r = err_set(err, EINVAL,
				    "%s: %s: an element that is no string, empty, or has a semicolon", where,
				    name);
		else
			fprintf(out, "%s%s", i > 0 ? ";" : "", m->text);
	}
	if (fclose(out) != 0 && r == 0)
		r = err_set(err, ENOMEM, "%s: out of memory", where);
	if (r == 0)
		r = config_set(c, where, name, text, err);
	free(text);
	return r;
}

static int
apply(struct config *c, const char *name, const struct ucl_node *n, struct err *err)
{
	const struct config_key *k = config_key_find(name);

	if (n->type == UCL_ARRAY && !n->implicit && k != NULL && k->type == CONFIG_LIST)
		return apply_list(c, name, n, err);
	if (n->type == UCL_ARRAY && n->implicit)
		return apply_repeated(c, name, n, err);
	if (n->type != UCL_ARRAY && n->type != UCL_OBJECT)
		return apply_scalar(c, name, n, err);
	if (n->type == UCL_ARRAY || k != NULL || (n->count == 0 && !config_section_known(name)))
		return refuse_nested(name, n, err);
	return apply_members(c, name, n, err);
}

static int
read_ucl(struct config *c, const char *path, const char *text, size_t len, struct err *err)
{
	struct ucl_tree *t = ucl_parse(path, text, len, NULL, err);
	const struct ucl_node *root;
	int r;

	if (t == NULL)
		return -err->code;
	root = ucl_root(t);
	if (root->type == UCL_OBJECT)
		r = apply_members(c, "", root, err);
	else
		r = err_set(err, EINVAL, "%s:%u: an array where keys belong", root->file, root->line);
	ucl_free(t);
	return r;
}

int
config_read_file(struct config *c, const char *path, struct err *err)
{
	struct flat flat = {c, path};
	char *text;
	size_t len;
	int r = ucl_read_text(path, &text, &len, err);

	if (r != 0)
		return r;
	/* A zero byte is for the UCL parser to refuse. */
	if (memchr(text, '\0', len) == NULL && each_line(text, len, not_flat, NULL, err) == 0)
		r = each_line(text, len, assign_line, &flat, err);
	else
		r = read_ucl(c, path, text, len, err);
	free(text);
	return r;
}
