/* SPDX-License-Identifier: BSD-2-Clause */
/* UCL's grammar: entries, sections with names, objects, arrays. Recursive; depth is bounded. */
#include "vmm/config/ucl_internal.h"

#include <stdlib.h>
#include <string.h>

static int parse_value(struct ucl_parser *p, const char *key, struct ucl_node **out);

/* Names shown in errors are cut. */
#define SHOWN "%.60s"

static int
enter(struct ucl_parser *p, const struct ucl_lex *at)
{
	if (p->depth == UCL_MAX_DEPTH)
		return ucl_fail(p, at, "more than %d objects and arrays in one another", UCL_MAX_DEPTH);
	p->depth++;
	return 0;
}

static bool
is_separator(char c)
{
	return c == ',' || c == ';';
}

/* After an entry or an element: its line ends, a separator comes, or the closing bracket. Brackets end by
 * themselves. */
static int
check_separated(struct ucl_parser *p, char close, bool bracket)
{
	const struct ucl_lex *l = &p->lex;
	char room[40];
	int r = ucl_skip(p, false);

	if (r != 0 || bracket || ucl_at_end(l) || *l->p == '\n' || is_separator(*l->p) ||
	    (close != '\0' && *l->p == close))
		return r;
	return ucl_fail(p, l, "%s after a value (end it with ; , or the end of the line)",
			ucl_describe(l, room));
}

static int
parse_elements(struct ucl_parser *p, struct ucl_node *array)
{
	struct ucl_lex *l = &p->lex, start = *l;
	struct ucl_node *n;
	bool bracket;
	int r;

	for (ucl_next(l);;) {
		r = ucl_skip(p, true);
		if (r != 0)
			return r;
		if (ucl_at_end(l))
			return ucl_fail(p, &start, "this array does not end (])");
		if (*l->p == ']') {
			ucl_next(l);
			return 0;
		}
		if (is_separator(*l->p)) {
			ucl_next(l);
			continue;
		}
		bracket = *l->p == '[' || *l->p == '{';
		r = parse_value(p, NULL, &n);
		if (r == 0)
			r = ucl_push(p, array, n);
		if (r == 0)
			r = check_separated(p, ']', bracket);
		if (r != 0)
			return r;
	}
}

/* An object or array that begins here. */
static int
parse_nested(struct ucl_parser *p, struct ucl_node **out)
{
	bool object = ucl_peek(&p->lex) == '{';
	struct ucl_node *n = ucl_node_new(p, object ? UCL_OBJECT : UCL_ARRAY, &p->lex);
	int r;

	*out = NULL;
	if (n == NULL)
		return -p->err->code;
	r = enter(p, &p->lex);
	if (r == 0) {
		bool parentheses = p->in_parentheses;

		p->in_parentheses = false;
		r = object ? ucl_parse_body(p, n, '}') : parse_elements(p, n);
		p->in_parentheses = parentheses;
		p->depth--;
	}
	if (r == 0)
		*out = n;
	else
		ucl_node_free(n);
	return r;
}

static int
parse_scalar(struct ucl_parser *p, const char *key, struct ucl_node **out)
{
	struct ucl_lex at = p->lex;
	struct ucl_node *n;
	char *text, room[40];
	bool quoted;
	int r = ucl_lex_string(p, &text);

	quoted = text != NULL;
	if (r == 0 && !quoted)
		r = ucl_lex_bare(p, &text);
	if (r != 0)
		return r;
	n = ucl_node_new(p, UCL_STRING, &at);
	if (n == NULL) {
		free(text);
		return -p->err->code;
	}
	n->text = text;
	n->quoted = quoted;
	if (*text == '\0' && !quoted)
		r = key != NULL ? ucl_fail(p, &at, "'" SHOWN "' has no value (\"\" is an empty one)", key)
				: ucl_fail(p, &at, "%s where a value belongs", ucl_describe(&at, room));
	else if (!quoted && ucl_scalar_classify(n) != 0)
		r = ucl_fail(p, &at, SHOWN " does not fit into 64 bits", text);
	if (r == 0)
		*out = n;
	else
		ucl_node_free(n);
	return r;
}

static int
parse_value(struct ucl_parser *p, const char *key, struct ucl_node **out)
{
	*out = NULL;
	if (ucl_peek(&p->lex) == '{' || ucl_peek(&p->lex) == '[')
		return parse_nested(p, out);
	return parse_scalar(p, key, out);
}

/* The names of a section before its bracket. */
struct names {
	char *name[UCL_MAX_DEPTH];
	struct ucl_lex at[UCL_MAX_DEPTH];
	size_t count;
};

/* "section "name" name {" : true, and the lexer on the bracket. Else the lexer is where it was. */
static int
lex_section_names(struct ucl_parser *p, struct names *s, bool *found)
{
	struct ucl_lex start = p->lex;
	int r = 0;

	*found = false;
	while (r == 0) {
		char *name;

		r = ucl_skip(p, s->count > 0);
		if (r != 0)
			break;
		if (ucl_peek(&p->lex) == '{' || ucl_peek(&p->lex) == '[') {
			*found = true;
			return 0;
		}
		if (p->lex.line != start.line)
			break;
		s->at[s->count < UCL_MAX_DEPTH ? s->count : 0] = p->lex;
		r = ucl_lex_name(p, &name);
		if (r != 0 || name == NULL)
			break;
		if (s->count == UCL_MAX_DEPTH) {
			free(name);
			break;
		}
		s->name[s->count++] = name;
	}
	p->lex = start;
	return r;
}

/* Put `n` under the names, the last one innermost, and give the whole. Takes n. */
static int
wrap_in_names(struct ucl_parser *p, struct names *s, struct ucl_node **n)
{
	for (size_t i = s->count; i-- > 0;) {
		struct ucl_node *outer = ucl_node_new(p, UCL_OBJECT, &s->at[i]);
		int r;

		if (outer == NULL)
			return -p->err->code;
		(*n)->key = s->name[i];
		s->name[i] = NULL;
		(*n)->line = s->at[i].line;
		(*n)->column = (unsigned)(s->at[i].p - s->at[i].line_start) + 1;
		r = ucl_push(p, outer, *n);
		*n = outer;
		if (r != 0)
			return r;
	}
	return 0;
}

static int
parse_section(struct ucl_parser *p, struct names *s, struct ucl_node **out)
{
	struct ucl_lex start = p->lex;
	int r = 0;

	*out = NULL;
	if (p->depth + s->count >= UCL_MAX_DEPTH)
		return ucl_fail(p, &start, "more than %d objects and arrays in one another", UCL_MAX_DEPTH);
	p->depth += (unsigned)s->count;
	r = parse_nested(p, out);
	p->depth -= (unsigned)s->count;
	return r != 0 ? r : wrap_in_names(p, s, out);
}

/* Without = or : a section's names may come, or a bracket on one of the next lines. */
static int
parse_unseparated(struct ucl_parser *p, const char *key, const struct ucl_lex *at, struct ucl_node **out)
{
	struct names *s;
	bool found;
	int r;

	if (ucl_at_end(&p->lex) || *p->lex.p == '\n') {
		r = ucl_skip(p, true);
		if (r != 0)
			return r;
		if (ucl_peek(&p->lex) != '{')
			return ucl_fail(p, at, "'" SHOWN "' has no value (key = value; \"\" is an empty one)",
					key);
		return parse_nested(p, out);
	}
	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return ucl_no_memory(p);
	r = lex_section_names(p, s, &found);
	if (r == 0)
		r = found ? parse_section(p, s, out) : parse_value(p, key, out);
	for (size_t i = 0; i < s->count; i++)
		free(s->name[i]);
	free(s);
	return r;
}

static int
parse_key(struct ucl_parser *p, char **key)
{
	struct ucl_lex *l = &p->lex, at = *l;
	char room[40];
	int r = ucl_lex_name(p, key);

	if (r != 0)
		return r;
	if (*key == NULL)
		return ucl_fail(p, &at, "%s where a key belongs", ucl_describe(&at, room));
	if (!ucl_at_end(l) && strchr("=:{}[];, \t\r\n#/\"'", *l->p) == NULL)
		return ucl_fail(p, l, "%s in a key (keys are letters, digits and _ - . / + *, or in quotes)",
				ucl_describe(l, room));
	return ucl_skip(p, false);
}

static int
parse_entry(struct ucl_parser *p, struct ucl_node *object, bool *bracket)
{
	struct ucl_lex *l = &p->lex, at = *l;
	struct ucl_node *n = NULL;
	char *key = NULL;
	int r = parse_key(p, &key);

	if (r == 0 && (ucl_peek(l) == '=' || ucl_peek(l) == ':')) {
		ucl_next(l);
		r = ucl_skip(p, true);
		if (r == 0)
			r = parse_value(p, key, &n);
	} else if (r == 0) {
		r = parse_unseparated(p, key, &at, &n);
	}
	if (r != 0) {
		free(key);
		ucl_node_free(n);
		return r;
	}
	*bracket = n->type == UCL_OBJECT || n->type == UCL_ARRAY;
	n->key = key;
	n->line = at.line;
	n->column = (unsigned)(at.p - at.line_start) + 1;
	return ucl_insert(p, object, n);
}

int
ucl_parse_body(struct ucl_parser *p, struct ucl_node *object, char close)
{
	struct ucl_lex *l = &p->lex, start = *l;
	bool bracket;
	char room[40];
	int r;

	if (close != '\0')
		ucl_next(l); /* the opening bracket */
	for (;;) {
		bracket = false;
		r = ucl_skip(p, true);
		if (r != 0)
			return r;
		if (ucl_at_end(l))
			return close == '\0'
				   ? 0
				   : ucl_fail(p, &start, "what begins here does not end (%c)", close);
		if (*l->p == close) {
			ucl_next(l);
			return 0;
		}
		if (is_separator(*l->p)) {
			ucl_next(l);
			continue;
		}
		if (*l->p == '}' || *l->p == ']')
			return ucl_fail(p, l, "%s closes nothing", ucl_describe(l, room));
		r = *l->p == '.' ? ucl_macro(p, object) : parse_entry(p, object, &bracket);
		if (r == 0)
			r = check_separated(p, close, bracket);
		if (r != 0)
			return r;
	}
}

/* Nothing may follow the brackets around a whole file. */
static int
check_nothing_follows(struct ucl_parser *p)
{
	char room[40];
	int r = ucl_skip(p, true);

	while (r == 0 && is_separator(ucl_peek(&p->lex))) {
		ucl_next(&p->lex);
		r = ucl_skip(p, true);
	}
	if (r == 0 && !ucl_at_end(&p->lex))
		r = ucl_fail(p, &p->lex, "%s after the end of the whole", ucl_describe(&p->lex, room));
	return r;
}

int
ucl_parse_included(struct ucl_parser *p, struct ucl_node *object)
{
	int r = ucl_skip(p, true);

	if (r != 0)
		return r;
	if (ucl_peek(&p->lex) == '[')
		return ucl_fail(p, &p->lex, "an included file holds keys, not an array");
	if (ucl_peek(&p->lex) != '{')
		return ucl_parse_body(p, object, '\0');
	r = ucl_parse_body(p, object, '}');
	return r != 0 ? r : check_nothing_follows(p);
}

static int
parse_top(struct ucl_parser *p)
{
	int r = ucl_skip(p, true);

	if (r != 0)
		return r;
	p->tree->root = p->top = ucl_node_new(p, ucl_peek(&p->lex) == '[' ? UCL_ARRAY : UCL_OBJECT, &p->lex);
	if (p->top == NULL)
		return -p->err->code;
	if (p->top->type == UCL_OBJECT)
		return ucl_parse_included(p, p->top);
	p->depth = 1;
	r = parse_elements(p, p->top);
	return r != 0 ? r : check_nothing_follows(p);
}

struct ucl_tree *
ucl_parse(const char *name, const char *text, size_t len, const struct ucl_options *options, struct err *err)
{
	struct err unused = {0};
	struct ucl_parser p = {.options = options, .err = err != NULL ? err : &unused};

	p.tree = calloc(1, sizeof(*p.tree));
	p.lex.file = name;
	if (p.tree == NULL) {
		ucl_no_memory(&p);
		return NULL;
	}
	if (ucl_begin(&p, name, text, len) != 0 || parse_top(&p) != 0) {
		ucl_free(p.tree);
		return NULL;
	}
	return p.tree;
}

int
ucl_read_text(const char *path, char **text, size_t *len, struct err *err)
{
	struct err unused = {0};
	struct ucl_parser p = {.err = err != NULL ? err : &unused};

	p.lex.file = path;
	return ucl_load(&p, path, NULL, text, len);
}

struct ucl_tree *
ucl_read(const char *path, const struct ucl_options *options, struct err *err)
{
	struct ucl_tree *t;
	char *text;
	size_t len;

	if (ucl_read_text(path, &text, &len, err) != 0)
		return NULL;
	t = ucl_parse(path, text, len, options, err);
	free(text);
	return t;
}

void
ucl_free(struct ucl_tree *t)
{
	if (t == NULL)
		return;
	ucl_node_free(t->root);
	for (size_t i = 0; i < t->files; i++)
		free(t->file[i]);
	free(t->file);
	free(t);
}
