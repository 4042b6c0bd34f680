/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The configuration tree: dotted names with text values, each checked against the one
 * schema table (vmm/schema.c) when it is set. Command line and files all end here.
 *
 * A plain value of the thread that made it; no locks. Strings that come back stay valid until the
 * key is set again or the tree is destroyed.
 */
#ifndef LHYVE_VMM_CONFIG_H
#define LHYVE_VMM_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "base/err.h"

enum config_type {
	CONFIG_BOOL,   /* true|false, yes|no, on|off, 1|0 */
	CONFIG_INT,    /* decimal, 0x hexadecimal or 0 octal */
	CONFIG_SIZE,   /* bytes, with K, M, G or T (powers of 1024) */
	CONFIG_STRING, /* any text */
	CONFIG_PATH,   /* a file's name: not empty */
	CONFIG_CHOICE, /* one word of `choices` */
	CONFIG_LIST,   /* texts; in the tree, and with -o, joined by ";" */
	CONFIG_UUID,   /* 8-4-4-4-12 hexadecimal digits */
};

/* One row of the schema. In `name`, a component "*" stands for a number (pci.*.*.*.device), "@" for a name of
 * letters, digits, _ and - (disk.@.path). */
struct config_key {
	const char *name;
	enum config_type type;
	const char *unit;    /* of CONFIG_INT, for people; or NULL */
	const char *def;     /* default text, or NULL: not set */
	uint64_t min, max;   /* CONFIG_INT and CONFIG_SIZE; both 0: no limits */
	const char *choices; /* CONFIG_CHOICE: "auto|kvm|soft" */
	const char *only;    /* the words (a|b) that this version can give; others are refused with a line
			      * that says so. NULL: all. "": none, the feature is not there yet */
	const char *help;    /* one line */
	const char *alias;   /* bhyve_config(5)'s flat name where it differs, or NULL */
	bool running;	     /* may change while the VM runs (vmm/control/running.h does it) */
};

extern const struct config_key config_schema[];
extern const unsigned config_schema_count;

/* The row that governs a concrete name (an alias too), or NULL. */
const struct config_key *config_key_find(const char *name);
/* True when keys may stand below `name`: a section. */
bool config_section_known(const char *name);
/* The known name nearest to a wrong one, written into `room`, or NULL when nothing is near. Numbers and names
 * of sections are those of the wrong one where they can be: disk.root.pth is near disk.root.path. */
enum { CONFIG_NAME_ROOM = 128 };
const char *config_key_nearest(const char *name, char room[static CONFIG_NAME_ROOM]);
/* The section of the top level nearest to a wrong one, copied into `room`, or NULL. */
enum { CONFIG_SECTION_ROOM = 32 };
const char *config_section_nearest(const char *name, char room[static CONFIG_SECTION_ROOM]);
/* For people: every key with type, default, range and help. */
void config_schema_print(FILE *out);

/* "integer", "path", ... */
const char *config_type_name(enum config_type type);

struct config;

LH_MUST_CHECK struct config *config_create(struct err *err);
void config_destroy(struct config *c);

/* Set a key; the last one wins. `where` says who asks ("-m 3Q", "vm.conf:12") and opens the error's text. */
LH_MUST_CHECK int config_set(struct config *c, const char *where, const char *name, const char *value,
			     struct err *err);
/*
 * The same for a value as bhyve_config(5) has them: %(key) stands for another key's value, %% for a percent sign.
 * It is checked by config_resolve(), once all is set.
 */
LH_MUST_CHECK int config_set_template(struct config *c, const char *where, const char *name, const char *value,
				      struct err *err);
/* Make values of all templates. Call it before anything is read. */
LH_MUST_CHECK int config_resolve(struct config *c, struct err *err);
/* "name=value" as -o takes it, the value a template; a bare name is name=true. */
LH_MUST_CHECK int config_assign(struct config *c, const char *where, const char *assignment, struct err *err);
/*
 * A UCL file, or one of bhyve_config(5): a file is of the latter kind when each of its lines is blank, a #
 * comment or name=value with nothing around "=" and a value without UCL's quotes, brackets or final
 * separator; its values are taken as they are. Sections become dotted names; a repeated key is set again.
 */
LH_MUST_CHECK int config_read_file(struct config *c, const char *path, struct err *err);

/* The text that was set, else the default, else NULL. An unknown name is a broken invariant. */
const char *config_get(const struct config *c, const char *name);
/* Take a key out of the tree; and when it was first set, as a number that only grows. It was set. */
void config_unset(struct config *c, const char *name);
uint64_t config_order(const struct config *c, const char *name);
bool config_is_set(const struct config *c, const char *name);
bool config_bool(const struct config *c, const char *name);
uint64_t config_uint(const struct config *c, const char *name); /* CONFIG_INT and CONFIG_SIZE */

/* The names of the schema's rows that were read so far, one a line: for the test that each has a reader. Reading
 * is config_get(), config_is_set(), config_bool() and config_uint(), not config_each(). */
void config_print_read(const struct config *c, FILE *out);

/* Each key that was set, by name: calls fn until it returns non-zero, and returns that. */
int config_each(const struct config *c, int (*fn)(void *arg, const char *name, const char *value), void *arg);
/* Those of one row of the schema ("boot.module.*.path"), which counts as read. */
int config_each_of(const struct config *c, const char *row, int (*fn)(void *arg, const char *name, const char *value),
		   void *arg);
/* The resolved tree, defaults included, sorted, as UCL that config_read_file() reads back. */
void config_dump(const struct config *c, FILE *out);

#endif
