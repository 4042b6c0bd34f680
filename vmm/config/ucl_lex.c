/* SPDX-License-Identifier: BSD-2-Clause */
/* UCL's words: blanks and comments, names, strings in quotes, heredocs, bare values, variables. */
#include "vmm/config/ucl_internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* A string as it grows. */
struct text {
	char *s;
	size_t len, room;
};

int
ucl_fail(struct ucl_parser *p, const struct ucl_lex *at, const char *fmt, ...)
{
	char what[320];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	return err_set(p->err, EINVAL, "%s:%u:%u: %s", at->file, at->line,
		       (unsigned)(at->p - at->line_start) + 1, what);
}

int
ucl_no_memory(struct ucl_parser *p)
{
	return err_set(p->err, ENOMEM, "%s: out of memory", p->lex.file);
}

int
ucl_charge(struct ucl_parser *p, size_t bytes)
{
	if (bytes > UCL_MAX_BYTES - p->bytes)
		return ucl_fail(p, &p->lex, "more than %d MiB of text", UCL_MAX_BYTES >> 20);
	p->bytes += bytes;
	return 0;
}

static int
text_add(struct ucl_parser *p, struct text *t, const char *bytes, size_t len)
{
	if (t->len + len + 1 > t->room) {
		size_t room = 2 * (t->len + len) + 16;
		char *grown;

		if (ucl_charge(p, room - t->room) != 0)
			return -p->err->code;
		grown = realloc(t->s, room);
		if (grown == NULL)
			return ucl_no_memory(p);
		t->s = grown;
		t->room = room;
	}
	memcpy(t->s + t->len, bytes, len);
	t->len += len;
	t->s[t->len] = '\0';
	return 0;
}

/* Hand over the text when r is 0, else free it; returns r. */
static int
text_end(struct ucl_parser *p, struct text *t, int r, char **out)
{
	if (r == 0)
		r = text_add(p, t, "", 0);
	if (r != 0) {
		free(t->s);
		t->s = NULL;
	}
	*out = t->s;
	return r;
}

void
ucl_next(struct ucl_lex *l)
{
	if (*l->p++ == '\n') {
		l->line++;
		l->line_start = l->p;
	}
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static bool
looking_at(const struct ucl_lex *l, const char *word)
{
	size_t len = strlen(word);

	return (size_t)(l->end - l->p) >= len && memcmp(l->p, word, len) == 0;
}

static int
skip_comment(struct ucl_parser *p)
{
	struct ucl_lex start = p->lex;
	unsigned level = 0;

	do {
		if (ucl_at_end(&p->lex))
			return ucl_fail(p, &start, "this comment does not end (*/; comments nest)");
		if (looking_at(&p->lex, "/*")) {
			level++;
			p->lex.p += 2;
		} else if (looking_at(&p->lex, "*/")) {
			level--;
			p->lex.p += 2;
		} else {
			ucl_next(&p->lex);
		}
	} while (level > 0);
	return 0;
}

int
ucl_skip(struct ucl_parser *p, bool lines)
{
	struct ucl_lex *l = &p->lex;
	int r = 0;

	while (!ucl_at_end(l) && r == 0) {
		if (is_blank(*l->p) || (lines && *l->p == '\n'))
			ucl_next(l);
		else if (*l->p == '#')
			l->p = memchr(l->p, '\n', (size_t)(l->end - l->p)) ?: l->end;
		else if (looking_at(l, "/*"))
			r = skip_comment(p);
		else
			break;
	}
	return r;
}

const char *
ucl_describe(const struct ucl_lex *l, char room[static 40])
{
	unsigned char c;

	if (ucl_at_end(l))
		return "the end of the file";
	c = (unsigned char)*l->p;
	if (c == '\n')
		return "the end of the line";
	snprintf(room, 40, c > ' ' && c < 0x7f ? "'%c'" : "byte 0x%02x", c);
	return room;
}

bool
ucl_is_key_start(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '/' || (c & 0x80) != 0;
}

bool
ucl_is_key_char(char c)
{
	return ucl_is_key_start(c) || c == '-' || c == '.' || c == '+' || c == '*';
}

static const char *
variable(const struct ucl_parser *p, const char *name, size_t len)
{
	if (len == 6 && memcmp(name, "CURDIR", 6) == 0)
		return p->curdir;
	if (len == 8 && memcmp(name, "FILENAME", 8) == 0)
		return p->filename;
	for (size_t i = 0; p->options != NULL && i < p->options->variables; i++) {
		const struct ucl_variable *v = &p->options->variable[i];

		if (strlen(v->name) == len && memcmp(v->name, name, len) == 0)
			return v->value;
	}
	return NULL;
}

/* A known variable at s ("$NAME", "${NAME}"): its value, and its length in the source; else NULL. */
static const char *
variable_at(const struct ucl_parser *p, const char *s, const char *end, size_t *len)
{
	const char *name = s + 1, *stop;
	bool braces = name < end && *name == '{';

	name += braces;
	for (stop = name; stop < end && (isalnum((unsigned char)*stop) || *stop == '_'); stop++)
		;
	if (*s != '$' || stop == name || (braces && (stop == end || *stop != '}')))
		return NULL;
	*len = (size_t)(stop + braces - s);
	return variable(p, name, (size_t)(stop - name));
}

/* As in libucl: where no variable is known, the text stays as it is, "$$" too. */
static bool
has_variable(const struct ucl_parser *p, const char *s, const char *end)
{
	size_t len;

	for (; (s = memchr(s, '$', (size_t)(end - s))) != NULL; s++) {
		if (s + 1 < end && s[1] == '$')
			s++;
		else if (variable_at(p, s, end, &len) != NULL)
			return true;
	}
	return false;
}

/* One '$' of a string that has variables: the value, or the character itself. Advances *s. */
static int
add_dollar(struct ucl_parser *p, struct text *t, const char **s, const char *end)
{
	size_t len;
	const char *value = variable_at(p, *s, end, &len);

	if (value != NULL) {
		*s += len;
		return text_add(p, t, value, strlen(value));
	}
	*s += *s + 1 < end && (*s)[1] == '$' ? 2 : 1;
	return text_add(p, t, "$", 1);
}

/* A heredoc's or a bare value's text. */
static int
add_expanded(struct ucl_parser *p, struct text *t, const char *s, const char *end)
{
	int r = 0;

	if (!has_variable(p, s, end))
		return text_add(p, t, s, (size_t)(end - s));
	while (s < end && r == 0) {
		const char *dollar = memchr(s, '$', (size_t)(end - s)) ?: end;

		r = text_add(p, t, s, (size_t)(dollar - s));
		s = dollar;
		if (s < end && r == 0)
			r = add_dollar(p, t, &s, end);
	}
	return r;
}

/* Four hexadecimal digits at s, or -1. */
static int
hex4(const char *s, const char *end)
{
	int v = 0;

	if (end - s < 4)
		return -1;
	for (unsigned i = 0; i < 4; i++) {
		if (!isxdigit((unsigned char)s[i]))
			return -1;
		v = v << 4 | (isdigit((unsigned char)s[i]) ? s[i] - '0' : (s[i] | 0x20) - 'a' + 10);
	}
	return v;
}

static int
add_utf8(struct ucl_parser *p, struct text *t, unsigned c)
{
	char b[4];
	unsigned n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};

	for (unsigned i = n - 1; i > 0; i--, c >>= 6)
		b[i] = (char)(0x80 | (c & 0x3f));
	b[0] = (char)(lead[n] | c);
	return text_add(p, t, b, n);
}

/* \uXXXX, or two of them for a character above U+FFFF. The lexer stands on 'u'. */
static int
add_unicode(struct ucl_parser *p, struct text *t)
{
	struct ucl_lex *l = &p->lex, start = *l;
	int c = hex4(l->p + 1, l->end), low;

	start.p--;
	if (c < 0)
		return ucl_fail(p, &start, "\\u takes four hexadecimal digits");
	l->p += 5;
	if (c == 0)
		return ucl_fail(p, &start, "a string cannot hold the character U+0000");
	if (c >= 0xd800 && c < 0xe000) {
		low = c < 0xdc00 && looking_at(l, "\\u") ? hex4(l->p + 2, l->end) : -1;
		if (low < 0xdc00 || low >= 0xe000)
			return ucl_fail(p, &start, "\\u%04x is half a character (a pair is \\uD8xx\\uDCxx)",
					c);
		l->p += 6;
		c = 0x10000 + ((c - 0xd800) << 10 | (low - 0xdc00));
	}
	return add_utf8(p, t, (unsigned)c);
}

static int
add_escape(struct ucl_parser *p, struct text *t)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	struct ucl_lex *l = &p->lex, start = *l;
	const char *hit;
	char room[40];

	l->p++;
	if (ucl_peek(l) == 'u')
		return add_unicode(p, t);
	hit = ucl_at_end(l) ? NULL : strchr(from, *l->p);
	if (hit == NULL)
		return ucl_fail(
		    p, &start,
		    "no such escape: a backslash and %s (\\n \\t \\\" \\\\ ...; single quotes take "
		    "all as it is)",
		    ucl_describe(l, room));
	l->p++;
	return text_add(p, t, to + (hit - from), 1);
}

/* The end of the string that begins after the lexer's quote; for has_variable(). */
static const char *
quote_end(const struct ucl_lex *l)
{
	const char *s = l->p + 1;

	while (s < l->end && *s != '"' && *s != '\n')
		s += *s == '\\' && s + 1 < l->end ? 2 : 1;
	return s;
}

static int
lex_double(struct ucl_parser *p, char **out)
{
	struct ucl_lex *l = &p->lex, start = *l;
	const char *end = quote_end(l);
	bool expand = has_variable(p, l->p + 1, end);
	struct text t = {0};
	int r = 0;

	l->p++;
	while (r == 0) {
		const char *s = l->p;

		while (l->p < l->end && *l->p != '"' && *l->p != '\\' && (unsigned char)*l->p >= ' ' &&
		       !(expand && *l->p == '$'))
			l->p++;
		r = text_add(p, &t, s, (size_t)(l->p - s));
		if (r != 0)
			break;
		if (ucl_at_end(l) || *l->p == '\n') {
			r = ucl_fail(
			    p, &start,
			    "this string does not end on its line (\\n, or <<EOD for several lines)");
		} else if (*l->p == '"') {
			l->p++;
			break;
		} else if (*l->p == '\\') {
			r = add_escape(p, &t);
		} else if (*l->p == '$') {
			r = add_dollar(p, &t, &l->p, end);
		} else if (*l->p == '\t') {
			r = text_add(p, &t, l->p++, 1);
		} else {
			r = ucl_fail(p, l, "byte 0x%02x in a string (\\u%04x)", *l->p, *l->p);
		}
	}
	return text_end(p, &t, r, out);
}

/* All is as it stands but \' and a backslash at the end of a line. */
static int
lex_single(struct ucl_parser *p, char **out)
{
	struct ucl_lex *l = &p->lex, start = *l;
	struct text t = {0};
	int r = 0;

	for (l->p++; r == 0;) {
		if (ucl_at_end(l)) {
			r = ucl_fail(p, &start, "this string does not end (')");
		} else if (*l->p == '\'') {
			l->p++;
			break;
		} else if (looking_at(l, "\\'")) {
			l->p += 2;
			r = text_add(p, &t, "'", 1);
		} else if (looking_at(l, "\\\n")) {
			l->p++;
			ucl_next(l);
		} else {
			r = text_add(p, &t, l->p, 1);
			ucl_next(l);
		}
	}
	return text_end(p, &t, r, out);
}

/* <<WORD, lines, WORD on a line of its own. The first and the last end of line are not part of it. */
static int
lex_heredoc(struct ucl_parser *p, char **out)
{
	struct ucl_lex *l = &p->lex, start = *l;
	const char *word = l->p + 2, *body;
	struct text t = {0};
	size_t len;

	for (l->p += 2; !ucl_at_end(l) && *l->p >= 'A' && *l->p <= 'Z'; l->p++)
		;
	len = (size_t)(l->p - word);
	if (looking_at(l, "\r\n"))
		l->p++;
	if (ucl_peek(l) != '\n')
		return ucl_fail(p, l, "the word after << must end its line (capital letters only)");
	ucl_next(l);
	for (body = l->p; !ucl_at_end(l);) {
		const char *line = l->p, *eol = memchr(line, '\n', (size_t)(l->end - line)) ?: l->end;
		size_t width = (size_t)(eol - line);

		width -= width == len + 1 && eol[-1] == '\r';
		if (width == len && memcmp(line, word, len) == 0) {
			l->p += len;
			return text_end(p, &t, add_expanded(p, &t, body, line > body ? line - 1 : body), out);
		}
		l->p = eol;
		if (!ucl_at_end(l))
			ucl_next(l);
	}
	return ucl_fail(p, &start, "no line '%.*s' ends this text", (int)(len > 40 ? 40 : len), word);
}

int
ucl_lex_string(struct ucl_parser *p, char **out)
{
	const struct ucl_lex *l = &p->lex;

	*out = NULL;
	if (ucl_peek(l) == '"')
		return lex_double(p, out);
	if (ucl_peek(l) == '\'')
		return lex_single(p, out);
	if (looking_at(l, "<<") && l->end - l->p > 2 && l->p[2] >= 'A' && l->p[2] <= 'Z')
		return lex_heredoc(p, out);
	return 0;
}

int
ucl_lex_name(struct ucl_parser *p, char **out)
{
	struct ucl_lex *l = &p->lex;
	const char *s = l->p;
	struct text t = {0};

	*out = NULL;
	if (ucl_peek(l) == '"')
		return lex_double(p, out);
	if (ucl_peek(l) == '\'')
		return lex_single(p, out);
	if (ucl_at_end(l) || !ucl_is_key_start(*l->p))
		return 0;
	while (l->p < l->end && ucl_is_key_char(*l->p) && !looking_at(l, "/*"))
		l->p++;
	return text_end(p, &t, text_add(p, &t, s, (size_t)(l->p - s)), out);
}

/* True when a bare value ends here. `open` counts brackets that the value itself has opened. */
static bool
bare_ends(const struct ucl_parser *p, const char *start, unsigned open)
{
	const struct ucl_lex *l = &p->lex;
	char c = ucl_peek(l);

	if (ucl_at_end(l) || c == '\n' || c == '#' || c == ',' || c == ';')
		return true;
	if (open == 0 && (c == ']' || c == '}' || (c == ')' && p->in_parentheses)))
		return true;
	return looking_at(l, "/*") && (l->p == start || is_blank(l->p[-1]));
}

int
ucl_lex_bare(struct ucl_parser *p, char **out)
{
	struct ucl_lex *l = &p->lex;
	const char *s = l->p, *end;
	struct text t = {0};
	unsigned open = 0;

	*out = NULL;
	for (; !bare_ends(p, s, open); l->p++) {
		char c = *l->p;

		if (((unsigned char)c < ' ' && !is_blank(c)) || c == 0x7f)
			return ucl_fail(p, l, "byte 0x%02x in a value (put it in quotes, as \\u%04x)", c, c);
		open += c == '[' || c == '{' || (c == '(' && p->in_parentheses);
		open -= open > 0 && (c == ']' || c == '}' || (c == ')' && p->in_parentheses));
	}
	for (end = l->p; end > s && is_blank(end[-1]); end--)
		;
	return text_end(p, &t, add_expanded(p, &t, s, end), out);
}
