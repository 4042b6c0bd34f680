/* SPDX-License-Identifier: BSD-2-Clause */
/* JSON as text. What is printed came over a socket: nothing is assumed of its shape. */
#include "vmm/ctl/print.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/util.h"

enum { LINE = 110, INLINE = 150 };

/* ---- any object ---- */

/* A value as text (malloc), or NULL when it holds others. */
static char *
scalar(const json_t *v)
{
	char *text = NULL;

	if (json_is_string(v)) {
		text = strdup(json_string_value(v));
		for (char *p = text; p != NULL && *p != '\0'; p++) {
			if ((unsigned char)*p < ' ' || *p == 0x7f) /* nothing for the terminal to obey */
				*p = '?';
		}
		return text;
	}
	if (json_is_object(v) || json_is_array(v))
		return NULL;
	text = json_dumps(v, JSON_ENCODE_ANY);
	return text;
}

/* "1 2 3" of an array of values, or NULL. */
static char *
scalar_list(const json_t *a)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = json_is_array(a) ? open_memstream(&text, &len) : NULL;
	bool ok = f != NULL;

	for (size_t i = 0; ok && i < json_array_size(a); i++) {
		char *one = scalar(json_array_get(a, i));

		ok = one != NULL;
		if (ok)
			fprintf(f, "%s%s", i != 0 ? " " : "", one);
		free(one);
	}
	if (f != NULL)
		fclose(f);
	if (ok)
		return text;
	free(text);
	return NULL;
}

static char *
value_text(const json_t *v)
{
	char *text = scalar(v);

	return text != NULL ? text : scalar_list(v);
}

/* "name=value ..." of an object of values, or NULL when it holds others or is long. */
static char *
object_line(const json_t *o)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = json_is_object(o) ? open_memstream(&text, &len) : NULL;
	bool ok = f != NULL;
	const char *key;
	json_t *v;

	if (f == NULL)
		return NULL;
	json_object_foreach((json_t *)o, key, v)
	{
		char *one = value_text(v);

		ok = ok && one != NULL;
		if (one != NULL)
			fprintf(f, "%s%s=%s", ftell(f) != 0 ? " " : "", key, *one != '\0' ? one : "-");
		free(one);
	}
	fclose(f);
	if (ok && len <= INLINE)
		return text;
	free(text);
	return NULL;
}

static void
print_indent(unsigned n)
{
	printf("%*s", (int)(2 * n), "");
}

/* Values first, as many a line as fit. */
static void
print_values(const json_t *o, unsigned indent)
{
	unsigned used = 0;
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)o, key, v)
	{
		char *text = value_text(v);
		unsigned len;

		if (text == NULL)
			continue;
		len = (unsigned)(strlen(key) + strlen(text) + 3);
		if (used != 0 && used + len > LINE) {
			printf("\n");
			used = 0;
		}
		if (used == 0)
			print_indent(indent);
		used += (unsigned)printf("%s%s %s", used != 0 ? "  " : "", key, *text != '\0' ? text : "-");
		free(text);
	}
	if (used != 0)
		printf("\n");
}

static void
print_nested(const char *name, const json_t *v, unsigned indent)
{
	char *line = object_line(v);

	print_indent(indent);
	if (line != NULL) {
		printf("%-8s %s\n", name, line);
	} else {
		printf("%s\n", name);
		print_object(v, indent + 1);
	}
	free(line);
}

static void
print_array(const char *name, const json_t *a, unsigned indent)
{
	for (size_t i = 0; i < json_array_size(a); i++) {
		char label[80];

		snprintf(label, sizeof(label), "%.48s[%zu]", name, i);
		print_nested(label, json_array_get(a, i), indent);
	}
}

void
print_object(const json_t *o, unsigned indent)
{
	const char *key;
	json_t *v;

	print_values(o, indent);
	json_object_foreach((json_t *)o, key, v)
	{
		char *text = value_text(v);

		if (text == NULL && json_is_array(v))
			print_array(key, v, indent);
		else if (text == NULL)
			print_nested(key, v, indent);
		free(text);
	}
}

/* ---- status ---- */

static const char *
string_at(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s != NULL ? s : "-";
}

static long long
number_at(const json_t *o, const char *key)
{
	return (long long)json_integer_value(json_object_get(o, key));
}

void
print_list_row(const json_t *s)
{
	if (s == NULL)
		printf("%-20s %-10s %8s %-7s %5s %10s %12s\n", "NAME", "STATE", "PID", "ENGINE", "CPUS",
		       "MEMORY", "CLOCK");
	else
		printf("%-20s %-10s %8lld %-7s %5lld %9lldM %11.1fs\n", string_at(s, "name"),
		       string_at(s, "state"), number_at(s, "pid"), string_at(s, "engine"),
		       number_at(s, "cpus"), number_at(s, "memory_bytes") >> 20,
		       (double)number_at(s, "clock_ns") / 1e9);
}

void
print_status(const json_t *s)
{
	const json_t *consoles = json_object_get(s, "consoles"), *devices = json_object_get(s, "devices");

	printf("name     %s\nstate    %s\npid      %lld\nengine   %s\ncpus     %lld\nmemory   %lld MiB\n",
	       string_at(s, "name"), string_at(s, "state"), number_at(s, "pid"), string_at(s, "engine"),
	       number_at(s, "cpus"), number_at(s, "memory_bytes") >> 20);
	printf("clock    %.3f s\nsocket   %s\nversion  %s\n", (double)number_at(s, "clock_ns") / 1e9,
	       string_at(s, "socket"), string_at(s, "version"));
	for (size_t i = 0; i < json_array_size(consoles); i++) {
		const json_t *c = json_array_get(consoles, i);

		printf("%-8s %s", string_at(c, "name"), string_at(c, "backend"));
		if (number_at(c, "tcp_port") != 0)
			printf(" (port %lld)", number_at(c, "tcp_port"));
		printf("\n");
	}
	for (size_t i = 0; i < json_array_size(devices); i++) {
		const json_t *d = json_array_get(devices, i);

		printf("%-12s %-14s %s\n", string_at(d, "slot"), string_at(d, "device"),
		       string_at(d, "name"));
	}
}

/* ---- counters ---- */

static void
print_counters(const char *prefix, const json_t *o)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)o, key, v)
	{
		char name[128];

		snprintf(name, sizeof(name), "%.60s.%.60s", prefix, key);
		if (json_is_object(v))
			print_counters(name, v);
		else if (json_is_integer(v) && strcmp(key, "cpu") != 0)
			printf("%-44s %lld\n", name, (long long)json_integer_value(v));
	}
}

void
print_stats(const json_t *stats, int cpu)
{
	const json_t *cpus = json_object_get(stats, "cpus"), *devices = json_object_get(stats, "devices");
	const char *key;
	json_t *v;

	for (size_t i = 0; i < json_array_size(cpus); i++) {
		char prefix[24];

		snprintf(prefix, sizeof(prefix), "cpu%zu", i);
		if (cpu < 0 || (size_t)cpu == i)
			print_counters(prefix, json_array_get(cpus, i));
	}
	if (cpu >= 0)
		return;
	json_object_foreach((json_t *)devices, key, v) print_counters(key, v);
}

/* ---- registers ---- */

void
print_regs(const json_t *regs)
{
	const json_t *cpus = json_object_get(regs, "cpus");
	const char *key;
	json_t *v;

	for (size_t i = 0; i < json_array_size(cpus); i++) {
		const json_t *c = json_array_get(cpus, i);

		printf("%scpu%lld\n", i != 0 ? "\n" : "", number_at(c, "cpu"));
		print_object(c, 1);
	}
	json_object_foreach((json_t *)regs, key, v)
	{
		if (!json_is_object(v))
			continue;
		printf("\n%s\n", key);
		print_object(v, 1);
	}
}

static unsigned long long
hex_at(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s != NULL ? strtoull(s, NULL, 16) : 0;
}

static void
print_bhyve_segment(const char *name, const json_t *g, long long cpu)
{
	bool table = json_object_get(g, "access") == NULL;

	if (table) {
		printf("%s[%lld]\t\t0x%016llx/0x%08llx\n", name, cpu, hex_at(g, "base"), hex_at(g, "limit"));
		return;
	}
	printf("%s desc[%lld]\t\t0x%016llx/0x%08llx/0x%08llx\n", name, cpu, hex_at(g, "base"),
	       hex_at(g, "limit"), hex_at(g, "access"));
	printf("%s[%lld]\t\t0x%04llx\n", name, cpu, hex_at(g, "selector"));
}

static void
print_bhyve_cpu(const json_t *c)
{
	static const char *const sections[] = {"general", "control", "debug", "msr"};
	long long n = number_at(c, "cpu");
	const char *key;
	json_t *v;

	for (size_t i = 0; i < ARRAY_LEN(sections); i++) {
		json_object_foreach(json_object_get(c, sections[i]), key, v)
		    printf("%s[%lld]\t\t0x%016llx\n", key, n, hex_at(json_object_get(c, sections[i]), key));
	}
	json_object_foreach(json_object_get(c, "segment"), key, v) print_bhyve_segment(key, v, n);
}

void
print_bhyve_regs(const json_t *regs)
{
	const json_t *cpus = json_object_get(regs, "cpus");

	for (size_t i = 0; i < json_array_size(cpus); i++)
		print_bhyve_cpu(json_array_get(cpus, i));
}
