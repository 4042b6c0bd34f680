/* SPDX-License-Identifier: BSD-2-Clause */
/* The resolved configuration tree as UCL: dotted names become sections. */
#include <stdlib.h>
#include <string.h>
#include "base/util.h"
#include "vmm/config.h"
#include "vmm/config/ucl.h"

struct line {
	const char *name, *value;
	const struct config_key *key;
};

struct lines {
	struct line *line;
	size_t count;
};

static int
add_set(void *arg, const char *name, const char *value)
{
	struct lines *l = arg;

	if (strcmp(name, "config.dump") != 0)
		l->line[l->count++] = (struct line){name, value, config_key_find(name)};
	return 0;
}

static int
count_set(void *arg, const char *name, const char *value)
{
	(void)name, (void)value;
	++*(size_t *)arg;
	return 0;
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const struct line *)a)->name, ((const struct line *)b)->name);
}

/* A default that this version would refuse to be told is no part of the tree. */
static bool
default_shown(const struct config *c, const struct config_key *k)
{
	bool known = k->def != NULL && (k->only == NULL || *k->only != '\0');

	return known && strcmp(k->name, "config.dump") != 0 && !config_is_set(c, k->name);
}

/* The length of the sections that two names have in common, with the last dot. */
static size_t
common_sections(const char *a, const char *b)
{
	size_t common = 0;

	for (size_t i = 0; a[i] != '\0' && a[i] == b[i]; i++)
		if (a[i] == '.')
			common = i + 1;
	return common;
}

static unsigned
dots(const char *s, size_t len)
{
	unsigned n = 0;

	for (size_t i = 0; i < len && s[i] != '\0'; i++)
		n += s[i] == '.';
	return n;
}

static void
indent(unsigned level, FILE *out)
{
	fprintf(out, "%*s", (int)(4 * level), "");
}

/* Leave the sections of the last name, and enter those of the next, beyond what they have in common. */
static void
change_sections(const char *last, const char *next, FILE *out)
{
	size_t common = common_sections(last, next);
	unsigned level = dots(last, common);

	for (unsigned deep = dots(last, strlen(last)); deep > level; deep--) {
		indent(deep - 1, out);
		fputs("}\n", out);
	}
	for (const char *p = next + common, *dot; (dot = strchr(p, '.')) != NULL; p = dot + 1) {
		indent(level++, out);
		fprintf(out, "%.*s {\n", (int)(dot - p), p);
	}
}

/* "a;b" as ["a", "b"]. */
static void
print_list(const char *text, FILE *out)
{
	char *copy = strdup(text), *save = NULL;

	fputc('[', out);
	for (char *p = copy != NULL ? strtok_r(copy, ";", &save) : NULL; p != NULL;
	     p = strtok_r(NULL, ";", &save)) {
		if (p != copy)
			fputs(", ", out);
		ucl_emit_string(p, out);
	}
	fputc(']', out);
	free(copy);
}

static void
print_value(const struct config *c, const struct line *l, FILE *out)
{
	switch (l->key->type) {
	case CONFIG_INT:
	case CONFIG_SIZE:
		fprintf(out, "%llu", (unsigned long long)config_uint(c, l->name));
		break;
	case CONFIG_BOOL:
	case CONFIG_CHOICE:
		fputs(l->value, out);
		break;
	case CONFIG_LIST:
		print_list(l->value, out);
		break;
	default:
		ucl_emit_string(l->value, out);
		break;
	}
}

void
config_dump(const struct config *c, FILE *out)
{
	struct lines l = {0};
	const char *last = "";
	size_t set = 0;

	config_each(c, count_set, &set);
	l.line = calloc(set + config_schema_count, sizeof(*l.line));
	if (l.line == NULL)
		return;
	config_each(c, add_set, &l);
	for (unsigned i = 0; i < config_schema_count; i++)
		if (default_shown(c, &config_schema[i]))
			l.line[l.count++] =
			    (struct line){config_schema[i].name, config_schema[i].def, &config_schema[i]};
	qsort(l.line, l.count, sizeof(*l.line), by_name);
	for (size_t i = 0; i < l.count; i++) {
		const char *name = l.line[i].name, *dot = strrchr(name, '.');

		change_sections(last, name, out);
		indent(dots(name, strlen(name)), out);
		fprintf(out, "%s = ", dot != NULL ? dot + 1 : name);
		print_value(c, &l.line[i], out);
		fputs(";\n", out);
		last = name;
	}
	change_sections(last, "", out);
	free(l.line);
}
