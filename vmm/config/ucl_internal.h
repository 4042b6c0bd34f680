/* SPDX-License-Identifier: BSD-2-Clause */
/* What the parts of the UCL parser share. Functions return 0 or -errno with the parser's err set. */
#ifndef LHYVE_VMM_CONFIG_UCL_INTERNAL_H
#define LHYVE_VMM_CONFIG_UCL_INTERNAL_H

#include "vmm/config/ucl.h"

struct ucl_tree {
	struct ucl_node *root;
	char **file; /* names that nodes point to */
	size_t files;
};

/* A place in a text. Copying it is how the parser looks ahead. */
struct ucl_lex {
	const char *file;
	const char *p, *end;
	const char *line_start;
	unsigned line;
};

enum ucl_duplicate { UCL_APPEND, UCL_MERGE, UCL_ERROR, UCL_REWRITE };

struct ucl_parser {
	struct ucl_tree *tree;
	const struct ucl_options *options;
	struct err *err;
	struct ucl_lex lex;
	struct ucl_node *top;	 /* where .inherit looks */
	unsigned depth;		 /* of objects and arrays */
	unsigned include_depth, includes;
	size_t bytes, nodes;	 /* used of the limits */
	enum ucl_duplicate duplicate;
	unsigned priority;
	bool in_parentheses;	 /* macro arguments: a bare value ends at ')' too */
	const char *curdir, *filename; /* values of $CURDIR and $FILENAME */
};

/* An error at a place: "FILE:LINE:COLUMN: ...". */
int ucl_fail(struct ucl_parser *p, const struct ucl_lex *at, const char *fmt, ...) LH_PRINTF(3, 4);
int ucl_no_memory(struct ucl_parser *p);
/* Count bytes against UCL_MAX_BYTES. */
LH_MUST_CHECK int ucl_charge(struct ucl_parser *p, size_t bytes);

/* ucl_lex.c. Strings come back as malloc'ed text. */
static inline bool
ucl_at_end(const struct ucl_lex *l)
{
	return l->p == l->end;
}
static inline char
ucl_peek(const struct ucl_lex *l) /* '\0' at the end: the text has no zero bytes */
{
	return l->p < l->end ? *l->p : '\0';
}
void ucl_next(struct ucl_lex *l);
/* Pass over blanks and comments, and over ends of lines too when `lines`. */
LH_MUST_CHECK int ucl_skip(struct ucl_parser *p, bool lines);
/* What stands here, for messages: "'x'", "the end of the line". `room` holds 40 bytes. */
const char *ucl_describe(const struct ucl_lex *l, char room[static 40]);
/* A key or a section's name: bare or in quotes. *out NULL: nothing of that kind stands here. */
LH_MUST_CHECK int ucl_lex_name(struct ucl_parser *p, char **out);
/* A string in quotes, or a heredoc, if one begins here; else *out NULL. */
LH_MUST_CHECK int ucl_lex_string(struct ucl_parser *p, char **out);
/* A bare value: to the end of the line, or to one of , ; ] } #. May be empty. */
LH_MUST_CHECK int ucl_lex_bare(struct ucl_parser *p, char **out);
bool ucl_is_key_start(char c);
bool ucl_is_key_char(char c);

/* ucl_scalar.c: type and value of n->text, a bare word. -ERANGE when a number does not fit. */
LH_MUST_CHECK int ucl_scalar_classify(struct ucl_node *n);

/* ucl_tree.c */
struct ucl_node *ucl_node_new(struct ucl_parser *p, enum ucl_type type, const struct ucl_lex *at);
struct ucl_node *ucl_node_copy(struct ucl_parser *p, const struct ucl_node *n);
void ucl_node_free(struct ucl_node *n);
/* Both take `n`, in failure too. */
LH_MUST_CHECK int ucl_push(struct ucl_parser *p, struct ucl_node *array, struct ucl_node *n);
LH_MUST_CHECK int ucl_insert(struct ucl_parser *p, struct ucl_node *object, struct ucl_node *n);

/* ucl_parse.c: entries up to `close` (which is taken), or to the end of the text when it is '\0'. */
LH_MUST_CHECK int ucl_parse_body(struct ucl_parser *p, struct ucl_node *object, char close);
/* A text's whole content into an object; in an included file braces around it are allowed. */
LH_MUST_CHECK int ucl_parse_included(struct ucl_parser *p, struct ucl_node *object);

/* ucl_macro.c: at '.', in the body of `object`. */
LH_MUST_CHECK int ucl_macro(struct ucl_parser *p, struct ucl_node *object);
/* ucl_file.c. *text is malloc'ed. `at` is where errors stand, or NULL: the file's own name. */
LH_MUST_CHECK int ucl_load(struct ucl_parser *p, const char *path, const struct ucl_lex *at, char **text,
			   size_t *len);
/* Check that the text is text, and set the lexer to its beginning. */
LH_MUST_CHECK int ucl_begin(struct ucl_parser *p, const char *name, const char *text, size_t len);

#endif
