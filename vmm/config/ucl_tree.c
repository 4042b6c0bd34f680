/* SPDX-License-Identifier: BSD-2-Clause */
/* The values of a UCL tree: making, finding, and what a repeated key does. */
#include "vmm/config/ucl_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Objects with more members than this are looked up through a hash table. */
enum { LINEAR = 8 };

const char *
ucl_type_name(enum ucl_type type)
{
	static const char *const names[] = {
	    [UCL_NULL] = "null",      [UCL_BOOL] = "a boolean",	  [UCL_INT] = "a number",
	    [UCL_FLOAT] = "a number", [UCL_TIME] = "a time",	  [UCL_STRING] = "a string",
	    [UCL_ARRAY] = "an array", [UCL_OBJECT] = "an object",
	};

	return names[type];
}

const struct ucl_node *
ucl_root(const struct ucl_tree *t)
{
	return t->root;
}

struct ucl_node *
ucl_node_new(struct ucl_parser *p, enum ucl_type type, const struct ucl_lex *at)
{
	struct ucl_node *n;

	if (p->nodes == UCL_MAX_NODES) {
		ucl_fail(p, at, "more than %d values", UCL_MAX_NODES);
		return NULL;
	}
	n = calloc(1, sizeof(*n));
	if (n == NULL) {
		ucl_no_memory(p);
		return NULL;
	}
	p->nodes++;
	n->type = type;
	n->priority = (uint8_t)p->priority;
	n->file = at->file;
	n->line = at->line;
	n->column = (unsigned)(at->p - at->line_start) + 1;
	return n;
}

void
ucl_node_free(struct ucl_node *n)
{
	if (n == NULL)
		return;
	for (size_t i = 0; i < n->count; i++)
		ucl_node_free(n->child[i]);
	free(n->child);
	free(n->index);
	free(n->key);
	free(n->text);
	free(n);
}

static size_t
hash(const struct ucl_node *object, const char *key)
{
	uint64_t h = (uintptr_t)object * 0x9e3779b97f4a7c15ull;

	for (; *key != '\0'; key++)
		h = (h ^ (unsigned char)*key) * 0x100000001b3ull;
	return (size_t)(h ^ h >> 32);
}

/* The table has places, from 1, of members; 0 is free. Its size is a power of two, at most half of it used.
 */
static void
index_add(struct ucl_node *object, size_t at)
{
	size_t mask = object->index_size - 1, i = hash(object, object->child[at]->key) & mask;

	while (object->index[i] != 0)
		i = (i + 1) & mask;
	object->index[i] = (uint32_t)at + 1;
}

static int
index_grow(struct ucl_node *object)
{
	size_t size = object->index_size == 0 ? 4 * LINEAR : 2 * object->index_size;
	uint32_t *table = calloc(size, sizeof(*table));

	if (table == NULL)
		return -ENOMEM;
	free(object->index);
	object->index = table;
	object->index_size = size;
	for (size_t i = 0; i < object->count; i++)
		index_add(object, i);
	return 0;
}

/* The place of a member, or object->count. */
static size_t
find_place(const struct ucl_node *object, const char *key)
{
	size_t i;

	if (object->index == NULL) {
		for (i = 0; i < object->count && strcmp(object->child[i]->key, key) != 0; i++)
			;
		return i;
	}
	i = hash(object, key) & (object->index_size - 1);
	for (; object->index[i] != 0; i = (i + 1) & (object->index_size - 1))
		if (strcmp(object->child[object->index[i] - 1]->key, key) == 0)
			return object->index[i] - 1;
	return object->count;
}

const struct ucl_node *
ucl_find(const struct ucl_node *object, const char *key)
{
	size_t at = object->type == UCL_OBJECT ? find_place(object, key) : object->count;

	return at < object->count ? object->child[at] : NULL;
}

int
ucl_push(struct ucl_parser *p, struct ucl_node *array, struct ucl_node *n)
{
	if (array->count == array->room) {
		size_t room = array->room == 0 ? 4 : 2 * array->room;
		struct ucl_node **grown = reallocarray(array->child, room, sizeof(*grown));

		if (grown == NULL) {
			ucl_node_free(n);
			return ucl_no_memory(p);
		}
		array->child = grown;
		array->room = room;
	}
	array->child[array->count++] = n;
	if (array->type == UCL_OBJECT && array->index != NULL && 2 * array->count <= array->index_size)
		index_add(array, array->count - 1);
	else if (array->type == UCL_OBJECT && array->count > LINEAR && index_grow(array) != 0)
		return ucl_no_memory(p); /* the parse ends here: the old table is not asked again */
	return 0;
}

/* A second value for a key: both become elements of an implicit array. Takes n. */
static int
make_implicit(struct ucl_parser *p, struct ucl_node *object, size_t at, struct ucl_node *n)
{
	struct ucl_node *old = object->child[at], *array = old;
	struct ucl_lex here = {.file = old->file, .line = old->line};
	int r;

	if (old->type != UCL_ARRAY || !old->implicit) {
		array = ucl_node_new(p, UCL_ARRAY, &here);
		if (array == NULL) {
			ucl_node_free(n);
			return -p->err->code;
		}
		array->column = old->column;
		array->implicit = true;
		array->priority = old->priority;
		array->key = old->key;
		old->key = NULL;
		object->child[at] = array;
		r = ucl_push(p, array, old);
		if (r != 0) {
			ucl_node_free(n);
			return r;
		}
	}
	free(n->key);
	n->key = NULL;
	return ucl_push(p, array, n);
}

/* duplicate=merge: members into members, elements behind elements. Takes n. */
static int
merge(struct ucl_parser *p, struct ucl_node *object, size_t at, struct ucl_node *n)
{
	struct ucl_node *old = object->child[at];
	int r = 0;

	if (old->type != n->type || (n->type != UCL_OBJECT && n->type != UCL_ARRAY))
		return make_implicit(p, object, at, n);
	for (size_t i = 0; i < n->count && r == 0; i++) {
		struct ucl_node *moved = n->child[i];

		n->child[i] = NULL;
		r = n->type == UCL_OBJECT ? ucl_insert(p, old, moved) : ucl_push(p, old, moved);
	}
	ucl_node_free(n);
	return r;
}

static int
replace(struct ucl_node *object, size_t at, struct ucl_node *n)
{
	ucl_node_free(object->child[at]);
	object->child[at] = n;
	return 0;
}

int
ucl_insert(struct ucl_parser *p, struct ucl_node *object, struct ucl_node *n)
{
	size_t at = find_place(object, n->key);
	struct ucl_node *old;

	if (at == object->count)
		return ucl_push(p, object, n);
	old = object->child[at];
	if (old->inherited || p->duplicate == UCL_REWRITE)
		return replace(object, at, n);
	if (p->duplicate == UCL_ERROR) {
		err_set(p->err, EEXIST, "%s:%u:%u: '%s' is set already (at %s:%u)", n->file, n->line,
			n->column, n->key, old->file, old->line);
		ucl_node_free(n);
		return -EEXIST;
	}
	if (p->duplicate == UCL_MERGE)
		return merge(p, object, at, n);
	if (n->priority > old->priority)
		return replace(object, at, n);
	if (n->priority < old->priority) {
		ucl_node_free(n);
		return 0;
	}
	return make_implicit(p, object, at, n);
}

static char *
copy_text(struct ucl_parser *p, const char *text)
{
	char *copy;

	if (ucl_charge(p, strlen(text) + 1) != 0)
		return NULL;
	copy = strdup(text);
	if (copy == NULL)
		ucl_no_memory(p);
	return copy;
}

struct ucl_node *
ucl_node_copy(struct ucl_parser *p, const struct ucl_node *n)
{
	struct ucl_lex here = {.file = n->file, .line = n->line};
	struct ucl_node *copy = ucl_node_new(p, n->type, &here);

	if (copy == NULL)
		return NULL;
	copy->column = n->column;
	copy->quoted = n->quoted;
	copy->implicit = n->implicit;
	copy->priority = n->priority;
	if (n->type == UCL_BOOL)
		copy->boolean = n->boolean;
	else if (n->type == UCL_INT)
		copy->integer = n->integer;
	else if (n->type == UCL_FLOAT || n->type == UCL_TIME)
		copy->number = n->number;
	if ((n->key != NULL && (copy->key = copy_text(p, n->key)) == NULL) ||
	    (n->text != NULL && (copy->text = copy_text(p, n->text)) == NULL)) {
		ucl_node_free(copy);
		return NULL;
	}
	for (size_t i = 0; i < n->count; i++) {
		struct ucl_node *child = ucl_node_copy(p, n->child[i]);

		if (child == NULL || ucl_push(p, copy, child) != 0) {
			ucl_node_free(copy);
			return NULL;
		}
	}
	return copy;
}
