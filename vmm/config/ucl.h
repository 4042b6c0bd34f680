/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * UCL, the universal configuration language (the nginx-like form and JSON), as a tree of values.
 *
 * The language is that of libucl's documentation: sections with names, arrays, numbers with suffixes,
 * booleans, four kinds of strings, comments, variables, and the macros .include, .try_include, .priority
 * and .inherit. A repeated key makes an implicit array. What differs is in doc/configuration.md.
 *
 * No state between calls: any thread. A tree belongs to the caller and is read-only. Input is not trusted: depth,
 * size, number of values and of included files are bounded, and every error says FILE:LINE:COLUMN
 * (columns count bytes from 1).
 */
#ifndef LHYVE_VMM_CONFIG_UCL_H
#define LHYVE_VMM_CONFIG_UCL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "base/err.h"

enum {
	UCL_MAX_FILE = 1 << 20,	     /* bytes of one file */
	UCL_MAX_BYTES = 16 << 20,    /* bytes of all files and strings of a tree */
	UCL_MAX_NODES = 1 << 17,     /* values of a tree */
	UCL_MAX_DEPTH = 64,	     /* objects and arrays in one another */
	UCL_MAX_INCLUDE_DEPTH = 16,  /* files in one another */
	UCL_MAX_INCLUDES = 1024,     /* files of a tree */
	UCL_MAX_PRIORITY = 15,
};

enum ucl_type {
	UCL_NULL,
	UCL_BOOL,
	UCL_INT,
	UCL_FLOAT,
	UCL_TIME, /* seconds, in `number` */
	UCL_STRING,
	UCL_ARRAY,
	UCL_OBJECT,
};

struct ucl_node {
	enum ucl_type type;
	bool quoted;	  /* UCL_STRING: it was written in quotes or as a heredoc */
	bool implicit;	  /* UCL_ARRAY: made of a repeated key */
	bool inherited;	  /* came by .inherit: a key that follows replaces it */
	uint8_t priority; /* 0 to UCL_MAX_PRIORITY */
	char *key;	  /* in an object, else NULL */
	char *text;	  /* a string's value; another scalar as it was written ("2G"); else NULL. No zero bytes */
	union {
		bool boolean;
		int64_t integer;
		double number;
	};
	struct ucl_node **child; /* of arrays and objects, in order */
	size_t count;
	const char *file; /* where its key stands, else the value itself */
	unsigned line, column;
	size_t room; /* private */
	uint32_t *index;
	size_t index_size;
};

struct ucl_variable {
	const char *name, *value;
};

struct ucl_options {
	const struct ucl_variable *variable; /* beside CURDIR and FILENAME, which each file sets */
	size_t variables;
	bool no_files; /* .include is refused: for text that comes from elsewhere */
};

struct ucl_tree;

/* Parse a file, or a text that errors call `name`. options may be NULL. NULL and one line in err on errors. */
LH_MUST_CHECK struct ucl_tree *ucl_read(const char *path, const struct ucl_options *options, struct err *err);
LH_MUST_CHECK struct ucl_tree *ucl_parse(const char *name, const char *text, size_t len,
					 const struct ucl_options *options, struct err *err);
/* A file's text (malloc), for callers that look at it before they parse it: at most UCL_MAX_FILE bytes. */
LH_MUST_CHECK int ucl_read_text(const char *path, char **text, size_t *len, struct err *err);
void ucl_free(struct ucl_tree *t);
/* The whole: an object, or an array. Lives as long as the tree. */
const struct ucl_node *ucl_root(const struct ucl_tree *t);
/* The member `key` of an object, or NULL. */
const struct ucl_node *ucl_find(const struct ucl_node *object, const char *key);
/* For messages: "an object", "a string", ... */
const char *ucl_type_name(enum ucl_type type);

/* Write a tree as UCL that reads back to the same tree, or as canonical JSON: members in order of the file,
 * four blanks a level, integers in full, other numbers with the fewest digits that read back. */
void ucl_emit(const struct ucl_node *n, FILE *out);
void ucl_emit_json(const struct ucl_node *n, FILE *out);
/* One string as UCL in double quotes; one key, quoted where it must be. */
void ucl_emit_string(const char *text, FILE *out);
void ucl_emit_key(const char *key, FILE *out);

#endif
