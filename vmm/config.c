/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The configuration tree: a sorted array of concrete names with their texts. Small (tens of entries),
 * built once, read by name. Not thread-safe: the thread that made it uses it.
 */
#include "vmm/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/util.h"
#include "vmm/config/ucl.h"
#include "vmm/config_internal.h"

struct config *
config_create(struct err *err)
{
	struct config *c = calloc(1, sizeof(*c));

	if (c != NULL)
		c->read = calloc(config_schema_count, sizeof(*c->read));
	if (c != NULL && c->read != NULL)
		return c;
	err_set(err, ENOMEM, "configuration: out of memory");
	free(c);
	return NULL;
}

void
config_destroy(struct config *c)
{
	if (c == NULL)
		return;
	for (size_t i = 0; i < c->count; i++) {
		free(c->entry[i].name);
		free(c->entry[i].value);
		free(c->entry[i].where);
	}
	free(c->entry);
	free(c->read);
	free(c);
}

/* True when `word` is one of the words of "a|b|c". */
static bool
word_in(const char *list, const char *word)
{
	size_t len = strlen(word);

	if (strchr(word, '|') != NULL)
		return false;
	for (const char *p = list; p != NULL; p = strchr(p, '|')) {
		p += *p == '|';
		if (strncmp(p, word, len) == 0 && (p[len] == '|' || p[len] == '\0'))
			return true;
	}
	return false;
}

static bool
parse_bool(const char *text, bool *out)
{
	if (word_in("true|yes|on|1", text))
		*out = true;
	else if (word_in("false|no|off|0", text))
		*out = false;
	else
		return false;
	return true;
}

static bool
parse_uint(const char *text, uint64_t *out, char **end)
{
	if (!isdigit((unsigned char)*text))
		return false; /* strtoull() would take signs and blanks */
	errno = 0;
	*out = strtoull(text, end, 0);
	return errno == 0;
}

/* "512", "2G", "1024kb". */
static bool
parse_size(const char *text, uint64_t *out)
{
	static const char suffixes[] = "kmgt";
	char *end;
	const char *s;

	if (!parse_uint(text, out, &end))
		return false;
	if (*end == '\0')
		return true;
	s = strchr(suffixes, tolower((unsigned char)*end));
	if (s == NULL || (end[1] != '\0' && (tolower((unsigned char)end[1]) != 'b' || end[2] != '\0')))
		return false;
	return !__builtin_mul_overflow(*out, 1ull << (10 * (s - suffixes + 1)), out);
}

static bool
parse_number(const struct config_key *k, const char *text, uint64_t *out)
{
	char *end;

	if (k->type == CONFIG_SIZE)
		return parse_size(text, out);
	return parse_uint(text, out, &end) && *end == '\0';
}

static bool
is_uuid(const char *text)
{
	for (unsigned i = 0; i < 36; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
			return false;
	}
	return text[36] == '\0';
}

static int
check_number(const struct config_key *k, const char *where, const char *name, const char *value,
	     char **canonical, struct err *err)
{
	uint64_t v;

	if (!parse_number(k, value, &v))
		return err_set(err, EINVAL, "%s: %s: '%s' is no %s (%s)", where, name, value,
			       k->type == CONFIG_SIZE ? "size" : "number",
			       k->type == CONFIG_SIZE ? "a number with K, M, G or T, as 512M"
						      : "digits, or 0x and hexadecimal digits");
	/* bhyve's rule for -m: a small plain number counts MiB. */
	if (strcmp(k->name, "memory.size") == 0 && v < MIB &&
	    isdigit((unsigned char)value[strlen(value) - 1]))
		v *= MIB;
	if (k->max != 0 && (v < k->min || v > k->max)) {
		if (k->type == CONFIG_SIZE)
			return err_set(err, ERANGE, "%s: %s: %s is out of range (%lluM to %lluM)", where,
				       name, value, (unsigned long long)(k->min / MIB),
				       (unsigned long long)(k->max / MIB));
		return err_set(err, ERANGE, "%s: %s: %s is out of range (%llu to %llu)", where, name, value,
			       (unsigned long long)k->min, (unsigned long long)k->max);
	}
	if (asprintf(canonical, "%llu", (unsigned long long)v) < 0)
		return err_set(err, ENOMEM, "%s: out of memory", where);
	return 0;
}

/* A name becomes part of file names and log lines. */
static int
check_vm_name(const char *where, const char *name, struct err *err)
{
	static const char good[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+-";
	size_t len = strlen(name);

	if (len == 0 || len > 64 || strspn(name, good) != len || *name == '.')
		return err_set(err, EINVAL, "%s: '%s' cannot name a VM (1 to 64 letters, digits or ._+-)",
			       where, name);
	return 0;
}

/* Check a value by its row; *canonical is the text to keep (malloc). */
static int
check_value(const struct config_key *k, const char *where, const char *name, const char *value,
	    char **canonical, struct err *err)
{
	bool b;

	/* A dump must read back, and it is UCL. */
	if (!ucl_is_utf8(value))
		return err_set(err, EINVAL, "%s: %s: the value is no UTF-8", where, name);
	switch (k->type) {
	case CONFIG_INT:
	case CONFIG_SIZE:
		return check_number(k, where, name, value, canonical, err);
	case CONFIG_BOOL:
		if (!parse_bool(value, &b))
			return err_set(err, EINVAL, "%s: %s: '%s' is neither true nor false", where, name,
				       value);
		value = b ? "true" : "false";
		break;
	case CONFIG_CHOICE:
		if (*value == '\0' || !word_in(k->choices, value))
			return err_set(err, EINVAL, "%s: %s: no such choice '%s' (%s)", where, name, value,
				       k->choices);
		break;
	case CONFIG_LIST:
		if (*value == '\0')
			return err_set(err, EINVAL, "%s: %s: empty (leave the key out)", where, name);
		break;
	case CONFIG_PATH:
		if (*value == '\0')
			return err_set(err, EINVAL, "%s: %s: empty (give a file name)", where, name);
		break;
	case CONFIG_UUID:
		if (!is_uuid(value))
			return err_set(err, EINVAL, "%s: %s: '%s' is no UUID (8-4-4-4-12 hexadecimal digits)",
				       where, name, value);
		break;
	case CONFIG_STRING:
		if (strcmp(k->name, "name") == 0 && check_vm_name(where, value, err) != 0)
			return -err->code;
		break;
	}
	*canonical = strdup(value);
	return *canonical != NULL ? 0 : err_set(err, ENOMEM, "%s: out of memory", where);
}

/* The place of `name` in the array: its index, or where it belongs with *found false. */
static size_t
entry_place(const struct config *c, const char *name, bool *found)
{
	size_t lo = 0, hi = c->count;

	*found = false;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int d = strcmp(c->entry[mid].name, name);

		if (d == 0) {
			*found = true;
			return mid;
		}
		if (d < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Keep name=value; takes `value`, and `where` of a template. */
static int
entry_store(struct config *c, const struct config_key *k, const char *name, char *value, char *where)
{
	bool found;
	size_t at = entry_place(c, name, &found);
	struct entry *grown;
	char *copy;

	if (found) {
		free(c->entry[at].value);
		free(c->entry[at].where);
		c->entry[at].value = value;
		c->entry[at].where = where;
		return 0;
	}
	copy = strdup(name);
	grown = reallocarray(c->entry, c->count + 1, sizeof(*grown));
	if (grown != NULL)
		c->entry = grown;
	if (copy == NULL || grown == NULL) {
		free(copy);
		free(value);
		free(where);
		return -ENOMEM;
	}
	memmove(&grown[at + 1], &grown[at], (c->count - at) * sizeof(*grown));
	grown[at] =
	    (struct entry){.name = copy, .value = value, .key = k, .order = c->orders++, .where = where};
	c->count++;
	return 0;
}

/* The row of a name that somebody sets. */
static int
find_row(const char *where, const char *name, const struct config_key **k, struct err *err)
{
	char room[CONFIG_NAME_ROOM];
	const char *near;

	*k = config_key_find(name);
	if (*k != NULL)
		return 0;
	near = config_key_nearest(name, room);
	if (near != NULL)
		return err_set(err, ENOENT, "%s: unknown key '%s' (did you mean '%s'?)", where, name, near);
	return err_set(err, ENOENT, "%s: unknown key '%s' (lhyve --schema lists all)", where, name);
}

/* An alias is stored under the key's own name, so that both spell one value. */
static const char *
own_name(const struct config_key *k, const char *name)
{
	return k->alias != NULL && strcmp(name, k->alias) == 0 ? k->name : name;
}

int
config_check_value(const struct config_key *k, const char *where, const char *name, const char *value,
		   char **canonical, struct err *err)
{
	int r = check_value(k, where, name, value, canonical, err);

	if (r != 0 || k->only == NULL || (*k->only != '\0' && word_in(k->only, *canonical)))
		return r;
	r = *k->only == '\0' ? err_set(err, ENOTSUP, "%s: %s: not there yet (this version cannot: %s)", where,
				       name, k->help)
			     : err_set(err, ENOTSUP, "%s: %s=%s: not there yet (this version can: %s)", where,
				       name, *canonical, k->only);
	free(*canonical);
	return r;
}

int
config_set(struct config *c, const char *where, const char *name, const char *value, struct err *err)
{
	const struct config_key *k;
	char *canonical = NULL;
	int r = find_row(where, name, &k, err);

	if (r == 0)
		r = config_check_value(k, where, name, value, &canonical, err);
	if (r == 0 && entry_store(c, k, own_name(k, name), canonical, NULL) != 0)
		r = err_set(err, ENOMEM, "%s: out of memory", where);
	return r;
}

int
config_set_template(struct config *c, const char *where, const char *name, const char *value, struct err *err)
{
	const struct config_key *k;
	char *copy, *place;
	int r;

	if (strchr(value, '%') == NULL)
		return config_set(c, where, name, value, err);
	r = find_row(where, name, &k, err);
	if (r != 0)
		return r;
	copy = strdup(value);
	place = strdup(where);
	if (copy != NULL && place != NULL)
		return entry_store(c, k, own_name(k, name), copy, place) == 0
			   ? 0
			   : err_set(err, ENOMEM, "%s: out of memory", where);
	free(copy);
	free(place);
	return err_set(err, ENOMEM, "%s: out of memory", where);
}

int
config_assign(struct config *c, const char *where, const char *assignment, struct err *err)
{
	const char *eq = strchr(assignment, '=');
	char *name;
	int r;

	if (*assignment == '\0' || eq == assignment)
		return err_set(err, EINVAL, "%s: no key (name=value)", where);
	name = strndup(assignment, eq != NULL ? (size_t)(eq - assignment) : strlen(assignment));
	if (name == NULL)
		return err_set(err, ENOMEM, "%s: out of memory", where);
	r = config_set_template(c, where, name, eq != NULL ? eq + 1 : "true", err);
	free(name);
	return r;
}

static const struct config_key *
row_read(const struct config *c, const char *name)
{
	const struct config_key *k = config_key_find(name);

	LH_ASSERT(k != NULL);
	atomic_store_explicit(&c->read[k - config_schema], true, memory_order_relaxed);
	return k;
}

void
config_print_read(const struct config *c, FILE *out)
{
	for (unsigned i = 0; i < config_schema_count; i++) {
		if (atomic_load_explicit(&c->read[i], memory_order_relaxed))
			fprintf(out, "%s\n", config_schema[i].name);
	}
}

const char *
config_get(const struct config *c, const char *name)
{
	const struct config_key *k = row_read(c, name);
	bool found;
	size_t at;

	at = entry_place(c, name, &found);
	return found ? c->entry[at].value : k->def;
}

void
config_unset(struct config *c, const char *name)
{
	bool found;
	size_t at = entry_place(c, name, &found);

	LH_ASSERT(found);
	free(c->entry[at].name);
	free(c->entry[at].value);
	free(c->entry[at].where);
	memmove(&c->entry[at], &c->entry[at + 1], (--c->count - at) * sizeof(*c->entry));
}

uint64_t
config_order(const struct config *c, const char *name)
{
	bool found;
	size_t at = entry_place(c, name, &found);

	LH_ASSERT(found);
	return c->entry[at].order;
}

bool
config_is_set(const struct config *c, const char *name)
{
	bool found;

	(void)row_read(c, name);
	entry_place(c, name, &found);
	return found;
}

bool
config_bool(const struct config *c, const char *name)
{
	const char *text = config_get(c, name);
	bool v = false;

	LH_ASSERT(text != NULL && parse_bool(text, &v));
	return v;
}

uint64_t
config_uint(const struct config *c, const char *name)
{
	const char *text = config_get(c, name);
	uint64_t v = 0;

	LH_ASSERT(text != NULL && parse_number(config_key_find(name), text, &v));
	return v;
}

int
config_each(const struct config *c, int (*fn)(void *arg, const char *name, const char *value), void *arg)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < c->count; i++)
		r = fn(arg, c->entry[i].name, c->entry[i].value);
	return r;
}

int
config_each_of(const struct config *c, const char *row,
	       int (*fn)(void *arg, const char *name, const char *value), void *arg)
{
	const struct config_key *k = NULL;
	int r = 0;

	for (unsigned i = 0; i < config_schema_count && k == NULL; i++)
		k = strcmp(config_schema[i].name, row) == 0 ? &config_schema[i] : NULL;
	LH_ASSERT(k != NULL);
	atomic_store_explicit(&c->read[k - config_schema], true, memory_order_relaxed);
	for (size_t i = 0; r == 0 && i < c->count; i++) {
		if (c->entry[i].key == k)
			r = fn(arg, c->entry[i].name, c->entry[i].value);
	}
	return r;
}
