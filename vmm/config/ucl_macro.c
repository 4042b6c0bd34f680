/* SPDX-License-Identifier: BSD-2-Clause */
/* UCL's macros: .include and .try_include, .priority, .inherit. Each may have options in parentheses. */
#include "vmm/config/ucl_internal.h"

#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include "base/util.h"

struct include {
	bool try, glob;
	unsigned priority;
	enum ucl_duplicate duplicate;
};

/* One use of a macro. */
struct macro {
	struct ucl_lex at;     /* its dot */
	struct ucl_node *args; /* what stood in parentheses, or NULL */
	char *value;
};

static int
option_bool(struct ucl_parser *p, const struct ucl_lex *at, const struct ucl_node *o, bool *out)
{
	if (o->type != UCL_BOOL)
		return ucl_fail(p, at, "%s: neither true nor false", o->key);
	*out = o->boolean;
	return 0;
}

static int
option_priority(struct ucl_parser *p, const struct ucl_lex *at, const struct ucl_node *o, unsigned *out)
{
	if (o->type != UCL_INT || o->integer < 0 || o->integer > UCL_MAX_PRIORITY)
		return ucl_fail(p, at, "priority: not a number from 0 to %d", UCL_MAX_PRIORITY);
	*out = (unsigned)o->integer;
	return 0;
}

static int
option_duplicate(struct ucl_parser *p, const struct ucl_lex *at, const struct ucl_node *o,
		 enum ucl_duplicate *out)
{
	static const char *const words[] = {
	    [UCL_APPEND] = "append", [UCL_MERGE] = "merge", [UCL_ERROR] = "error", [UCL_REWRITE] = "rewrite"};

	for (unsigned i = 0; i < ARRAY_LEN(words) && o->type == UCL_STRING; i++) {
		if (strcmp(o->text, words[i]) == 0) {
			*out = (enum ucl_duplicate)i;
			return 0;
		}
	}
	return ucl_fail(p, at, "duplicate: none of append, merge, error, rewrite");
}

static int
include_options(struct ucl_parser *p, const struct macro *m, struct include *inc)
{
	int r = 0;

	for (size_t i = 0; m->args != NULL && i < m->args->count && r == 0; i++) {
		const struct ucl_node *o = m->args->child[i];

		if (strcmp(o->key, "try") == 0)
			r = option_bool(p, &m->at, o, &inc->try);
		else if (strcmp(o->key, "glob") == 0)
			r = option_bool(p, &m->at, o, &inc->glob);
		else if (strcmp(o->key, "priority") == 0)
			r = option_priority(p, &m->at, o, &inc->priority);
		else if (strcmp(o->key, "duplicate") == 0)
			r = option_duplicate(p, &m->at, o, &inc->duplicate);
		else
			r = ucl_fail(p, &m->at,
				     ".include has no option '%.40s' (try, glob, priority, duplicate)",
				     o->key);
	}
	return r;
}

/* Parse a loaded text into the object as if it stood here, with a priority and a rule of its own. */
static int
include_text(struct ucl_parser *p, struct ucl_node *object, const struct include *inc, const char *path,
	     const char *text, size_t len)
{
	struct ucl_parser saved = *p;
	int r;

	p->include_depth++;
	p->priority = inc->priority;
	p->duplicate = inc->duplicate;
	p->in_parentheses = false;
	r = ucl_begin(p, path, text, len);
	if (r == 0)
		r = ucl_parse_included(p, object);
	p->include_depth--;
	p->priority = saved.priority;
	p->duplicate = saved.duplicate;
	p->in_parentheses = saved.in_parentheses;
	p->lex = saved.lex;
	p->curdir = saved.curdir;
	p->filename = saved.filename;
	return r;
}

static int
include_file(struct ucl_parser *p, struct ucl_node *object, const struct macro *m, const struct include *inc,
	     const char *path)
{
	char *text;
	size_t len;
	int r;

	if (p->include_depth == UCL_MAX_INCLUDE_DEPTH)
		return ucl_fail(p, &m->at, "more than %d files in one another (does one include itself?)",
				UCL_MAX_INCLUDE_DEPTH);
	if (++p->includes > UCL_MAX_INCLUDES)
		return ucl_fail(p, &m->at, "more than %d files are included", UCL_MAX_INCLUDES);
	r = ucl_load(p, path, &m->at, &text, &len);
	if (r != 0) {
		if (!inc->try || r == -EINVAL || r == -ENOMEM)
			return r;
		*p->err = (struct err){0};
		return 0;
	}
	r = include_text(p, object, inc, path, text, len);
	free(text);
	return r;
}

/* Files come in alphabetical order. */
static int
include_glob(struct ucl_parser *p, struct ucl_node *object, const struct macro *m, const struct include *inc,
	     const char *pattern)
{
	glob_t g = {0};
	int r = 0, got = glob(pattern, 0, NULL, &g);

	if (got != 0 && !inc->try)
		r = ucl_fail(p, &m->at, "no file is called '%.200s'", pattern);
	for (size_t i = 0; got == 0 && i < g.gl_pathc && r == 0; i++)
		r = include_file(p, object, m, inc, g.gl_pathv[i]);
	globfree(&g);
	return r;
}

/* A relative name starts at the including file's folder. */
static char *
resolve(const struct ucl_parser *p, const char *name)
{
	const char *slash = strrchr(p->lex.file, '/');
	char *path;

	if (*name == '/' || slash == NULL)
		return strdup(name);
	if (asprintf(&path, "%.*s/%s", (int)(slash - p->lex.file), p->lex.file, name) < 0)
		return NULL;
	return path;
}

static int
do_include(struct ucl_parser *p, struct ucl_node *object, const struct macro *m, bool try)
{
	struct include inc = {.try = try};
	char *path;
	int r = include_options(p, m, &inc);

	if (r != 0)
		return r;
	if (p->options != NULL && p->options->no_files)
		return ucl_fail(p, &m->at, "files cannot be included here");
	if (*m->value == '\0')
		return ucl_fail(p, &m->at, ".include names no file");
	path = resolve(p, m->value);
	if (path == NULL)
		return ucl_no_memory(p);
	r = inc.glob ? include_glob(p, object, m, &inc, path) : include_file(p, object, m, &inc, path);
	free(path);
	return r;
}

/* .priority and .inherit take a value only. */
static int
refuse_options(struct ucl_parser *p, const struct macro *m, const char *name)
{
	if (m->args == NULL || m->args->count == 0)
		return 0;
	return ucl_fail(p, &m->at, ".%s takes no options", name);
}

/* .priority N: of the keys that follow in this file. */
static int
do_priority(struct ucl_parser *p, const struct macro *m)
{
	const char *s = m->value;
	size_t digits = strspn(s, "0123456789");
	unsigned v =
	    digits > 0 && digits <= 2 && s[digits] == '\0' ? (unsigned)atoi(s) : UCL_MAX_PRIORITY + 1;

	if (refuse_options(p, m, "priority") != 0)
		return -p->err->code;
	if (v > UCL_MAX_PRIORITY)
		return ucl_fail(p, &m->at, ".priority takes a number from 0 to %d", UCL_MAX_PRIORITY);
	p->priority = v;
	return 0;
}

static unsigned
depth_of(const struct ucl_node *n)
{
	unsigned most = 0;

	for (size_t i = 0; i < n->count; i++)
		most = MAX(most, depth_of(n->child[i]));
	return most + (n->type == UCL_OBJECT || n->type == UCL_ARRAY);
}

/* Copies of the members that `object` does not have; a key that follows replaces them. */
static int
inherit_from(struct ucl_parser *p, struct ucl_node *object, const struct ucl_node *from)
{
	for (size_t i = 0; i < from->count; i++) {
		struct ucl_node *copy;
		int r;

		if (ucl_find(object, from->child[i]->key) != NULL)
			continue;
		copy = ucl_node_copy(p, from->child[i]);
		if (copy == NULL)
			return -p->err->code;
		copy->inherited = true;
		r = ucl_push(p, object, copy);
		if (r != 0)
			return r;
	}
	return 0;
}

/* .inherit "section": a section of the top level, which stands before this one. */
static int
do_inherit(struct ucl_parser *p, struct ucl_node *object, const struct macro *m)
{
	const struct ucl_node *from = ucl_find(p->top, m->value);
	int r = refuse_options(p, m, "inherit");

	if (r != 0)
		return r;
	if (from == NULL)
		return ucl_fail(p, &m->at, "there is no section '%.60s' to inherit from", m->value);
	if (object == p->top)
		return ucl_fail(p, &m->at, ".inherit belongs into a section");
	if (p->depth + depth_of(from) > UCL_MAX_DEPTH)
		return ucl_fail(p, &m->at, "more than %d objects and arrays in one another", UCL_MAX_DEPTH);
	if (from->type == UCL_OBJECT)
		return inherit_from(p, object, from);
	for (size_t i = 0; i < from->count && r == 0; i++) {
		if (!from->implicit || from->child[i]->type != UCL_OBJECT)
			break;
		r = inherit_from(p, object, from->child[i]);
		if (r != 0 || i + 1 == from->count)
			return r;
	}
	return ucl_fail(p, &m->at, "'%.60s' is no section", m->value);
}

/* (name = value, ...) */
static int
lex_arguments(struct ucl_parser *p, struct macro *m)
{
	enum ucl_duplicate duplicate = p->duplicate;
	bool parentheses = p->in_parentheses;
	int r;

	if (ucl_peek(&p->lex) != '(')
		return 0;
	if (p->depth == UCL_MAX_DEPTH)
		return ucl_fail(p, &m->at, "more than %d objects and arrays in one another", UCL_MAX_DEPTH);
	m->args = ucl_node_new(p, UCL_OBJECT, &p->lex);
	if (m->args == NULL)
		return -p->err->code;
	p->depth++;
	p->duplicate = UCL_ERROR;
	p->in_parentheses = true;
	r = ucl_parse_body(p, m->args, ')');
	p->in_parentheses = parentheses;
	p->duplicate = duplicate;
	p->depth--;
	return r != 0 ? r : ucl_skip(p, false);
}

static int
run(struct ucl_parser *p, struct ucl_node *object, const char *name, size_t len, const struct macro *m)
{
	if (len == 7 && memcmp(name, "include", 7) == 0)
		return do_include(p, object, m, false);
	if (len == 11 && memcmp(name, "try_include", 11) == 0)
		return do_include(p, object, m, true);
	if (len == 8 && memcmp(name, "priority", 8) == 0)
		return do_priority(p, m);
	if (len == 7 && memcmp(name, "inherit", 7) == 0)
		return do_inherit(p, object, m);
	return ucl_fail(p, &m->at, "no such macro '.%.*s' (.include, .try_include, .priority, .inherit)",
			(int)MIN(len, 60u), name);
}

int
ucl_macro(struct ucl_parser *p, struct ucl_node *object)
{
	struct macro m = {.at = p->lex};
	const char *name = ++p->lex.p;
	size_t len;
	int r;

	while (!ucl_at_end(&p->lex) && ((*p->lex.p >= 'a' && *p->lex.p <= 'z') || *p->lex.p == '_'))
		p->lex.p++;
	len = (size_t)(p->lex.p - name);
	r = ucl_skip(p, false);
	if (r == 0)
		r = lex_arguments(p, &m);
	if (r == 0)
		r = ucl_lex_string(p, &m.value);
	if (r == 0 && m.value == NULL)
		r = ucl_lex_bare(p, &m.value);
	if (r == 0)
		r = run(p, object, name, len, &m);
	ucl_node_free(m.args);
	free(m.value);
	return r;
}
