/* SPDX-License-Identifier: BSD-2-Clause */
/* UCL trees as text: UCL and JSON (RFC 8259). */
#include "vmm/config/ucl_internal.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void
indent(unsigned level, FILE *out)
{
	fprintf(out, "%*s", (int)(4 * level), "");
}

/* In UCL a dollar sign would begin a variable. */
static void
emit_quoted(const char *s, bool dollar, FILE *out)
{
	static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";

	putc('"', out);
	for (; *s != '\0'; s++) {
		const char *hit = strchr(from, *s);

		if (hit != NULL)
			fprintf(out, "\\%c", to[hit - from]);
		else if ((unsigned char)*s < ' ' || *s == 0x7f || (dollar && *s == '$'))
			fprintf(out, "\\u%04x", (unsigned char)*s);
		else
			putc(*s, out);
	}
	putc('"', out);
}

void
ucl_emit_string(const char *text, FILE *out)
{
	emit_quoted(text, true, out);
}

void
ucl_emit_key(const char *key, FILE *out)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";

	if (isalnum((unsigned char)*key) && key[strspn(key, plain)] == '\0')
		fputs(key, out);
	else
		emit_quoted(key, true, out);
}

/* The fewest digits that read back to the same number; always with a point or an exponent. */
static void
emit_number(double v, FILE *out)
{
	char text[40];

	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, v);
		if (strtod(text, NULL) == v)
			break;
	}
	fprintf(out, strpbrk(text, ".e") != NULL ? "%s" : "%s.0", text);
}

static void
emit_scalar(const struct ucl_node *n, bool json, FILE *out)
{
	switch (n->type) {
	case UCL_BOOL:
		fputs(n->boolean ? "true" : "false", out);
		break;
	case UCL_INT:
		fprintf(out, "%" PRId64, n->integer);
		break;
	case UCL_FLOAT:
	case UCL_TIME:
		emit_number(n->number, out);
		break;
	case UCL_STRING:
		emit_quoted(n->text, !json, out);
		break;
	default:
		fputs("null", out);
		break;
	}
}

static void
emit_json(const struct ucl_node *n, unsigned level, FILE *out)
{
	bool object = n->type == UCL_OBJECT;

	if (!object && n->type != UCL_ARRAY) {
		emit_scalar(n, true, out);
		return;
	}
	putc(object ? '{' : '[', out);
	for (size_t i = 0; i < n->count; i++) {
		fputs(i == 0 ? "\n" : ",\n", out);
		indent(level + 1, out);
		if (object) {
			emit_quoted(n->child[i]->key, false, out);
			fputs(": ", out);
		}
		emit_json(n->child[i], level + 1, out);
	}
	if (n->count > 0) {
		putc('\n', out);
		indent(level, out);
	}
	putc(object ? '}' : ']', out);
}

void
ucl_emit_json(const struct ucl_node *n, FILE *out)
{
	emit_json(n, 0, out);
	putc('\n', out);
}

static void emit_value(const struct ucl_node *n, unsigned level, FILE *out);

static void
emit_entry(const char *key, const struct ucl_node *n, unsigned level, FILE *out)
{
	indent(level, out);
	ucl_emit_key(key, out);
	fputs(n->type == UCL_OBJECT ? " " : " = ", out);
	emit_value(n, level, out);
	fputs(n->type == UCL_OBJECT ? "\n" : ";\n", out);
}

/* Members, one a line; a repeated key once for each of its values. */
static void
emit_members(const struct ucl_node *n, unsigned level, FILE *out)
{
	for (size_t i = 0; i < n->count; i++) {
		const struct ucl_node *m = n->child[i];

		if (m->type != UCL_ARRAY || !m->implicit || m->count < 2)
			emit_entry(m->key, m, level, out);
		else
			for (size_t j = 0; j < m->count; j++)
				emit_entry(m->key, m->child[j], level, out);
	}
}

static void
emit_value(const struct ucl_node *n, unsigned level, FILE *out)
{
	if (n->type == UCL_OBJECT) {
		fputs("{\n", out);
		emit_members(n, level + 1, out);
		indent(level, out);
		putc('}', out);
	} else if (n->type == UCL_ARRAY) {
		fputs("[\n", out);
		for (size_t i = 0; i < n->count; i++) {
			indent(level + 1, out);
			emit_value(n->child[i], level + 1, out);
			fputs(",\n", out);
		}
		indent(level, out);
		putc(']', out);
	} else {
		emit_scalar(n, false, out);
	}
}

void
ucl_emit(const struct ucl_node *n, FILE *out)
{
	if (n->type == UCL_OBJECT) {
		emit_members(n, 0, out);
		return;
	}
	emit_value(n, 0, out);
	putc('\n', out);
}
