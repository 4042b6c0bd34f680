/* SPDX-License-Identifier: BSD-2-Clause */
/* The UCL parser: texts and their JSON, wrong texts and their exact errors, limits, both emitters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/util.h"
#include "vmm/config/ucl.h"

static const struct ucl_variable variables[] = {{"NAME", "web1"}, {"LONG_NAME", "x y"}};
static const struct ucl_options options = {.variable = variables, .variables = 2, .no_files = true};

static struct ucl_tree *
parse(const char *text, struct err *err)
{
	*err = (struct err){0};
	return ucl_parse("t", text, strlen(text), &options, err);
}

/* What an emitter writes; JSON without its ends of lines and indentation. */
static char *
emitted(const struct ucl_tree *t, void (*emit)(const struct ucl_node *, FILE *), bool compact)
{
	char *text = NULL, *to;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	emit(ucl_root(t), f);
	fclose(f);
	to = text;
	for (const char *s = text; compact && *s != '\0';) {
		if (*s == '\n')
			s += 1 + strspn(s + 1, " ");
		else
			*to++ = *s++;
	}
	if (compact)
		*to = '\0';
	return text;
}

static void
expect(const char *text, const char *json)
{
	struct err err;
	struct ucl_tree *t = parse(text, &err), *again;
	char *got, *ucl, *back;

	if (t == NULL)
		fail_msg("%s\n%s", text, err.msg);
	got = emitted(t, ucl_emit_json, true);
	assert_string_equal(got, json);
	/* UCL reads back, and so does JSON. */
	ucl = emitted(t, ucl_emit, false);
	again = parse(ucl, &err);
	if (again == NULL)
		fail_msg("%s\n%s", ucl, err.msg);
	back = emitted(again, ucl_emit_json, true);
	assert_string_equal(back, json);
	ucl_free(again);
	free(back);
	if (strchr(got, '$') == NULL) { /* which would be a variable */
		again = parse(got, &err);
		assert_non_null(again);
		back = emitted(again, ucl_emit_json, true);
		assert_string_equal(back, json);
		ucl_free(again);
		free(back);
	}
	ucl_free(t);
	free(ucl);
	free(got);
}

struct good {
	const char *text, *json;
};

static void
expect_all(const struct good *row, size_t count)
{
	for (size_t i = 0; i < count; i++)
		expect(row[i].text, row[i].json);
}
#define EXPECT(...)                                               \
	do {                                                      \
		static const struct good rows_[] = {__VA_ARGS__}; \
		(void)state;                                      \
		expect_all(rows_, ARRAY_LEN(rows_));              \
	} while (0)

/* clang-format off */
static void
test_entries(void **state)
{
	EXPECT(
	    {"", "{}"}, {" \n# c\n/* d */", "{}"}, {"{}", "{}"}, {"[]", "[]"}, {"[1, {a = b}]", "[1,{\"a\": \"b\"}]"},
	    {"a = b", "{\"a\": \"b\"}"}, {"a : b;", "{\"a\": \"b\"}"}, {"a b,", "{\"a\": \"b\"}"},
	    {"a=b\nc=d", "{\"a\": \"b\",\"c\": \"d\"}"}, {"a=b;c=d;;,e f", "{\"a\": \"b\",\"c\": \"d\",\"e\": \"f\"}"},
	    {"a = b\r\nc = d\r\n", "{\"a\": \"b\",\"c\": \"d\"}"}, {"\xef\xbb\xbf" "a = b", "{\"a\": \"b\"}"},
	    {"\"a b\" = c; 'd' e", "{\"a b\": \"c\",\"d\": \"e\"}"}, {"a.b.c=1", "{\"a.b.c\": 1}"},
	    {"0 = a; _x/y-z = b; é = c", "{\"0\": \"a\",\"_x/y-z\": \"b\",\"é\": \"c\"}"},
	    {"\"\" = 1; a \"\" {b=1}", "{\"\": 1,\"a\": {\"\": {\"b\": 1}}}"}, {"a =\n b", "{\"a\": \"b\"}"}, {"{\"a\": {\"b\": null}, \"c\": [true, 1.5]}", "{\"a\": {\"b\": null},\"c\": [true,1.5]}"},
	    {"a /* c */ = /* d /* e */ f */ 5 /* g */;", "{\"a\": 5}"}, {"a = b # c\nd = e#f", "{\"a\": \"b\",\"d\": \"e\"}"},
	    {"a = /etc/*.conf\nb = x/y", "{\"a\": \"/etc/*.conf\",\"b\": \"x/y\"}"},
	    {"a = console=ttyS0 root=/dev/vda", "{\"a\": \"console=ttyS0 root=/dev/vda\"}"},
	    {"a = tcp:[::1]:90, b = x{1}", "{\"a\": \"tcp:[::1]:90\",\"b\": \"x{1}\"}"},
	    {"a = http://x:80/y", "{\"a\": \"http://x:80/y\"}"}, {"a = b\"c", "{\"a\": \"b\\\"c\"}"});
}

static void
test_sections(void **state)
{
	EXPECT(
	    {"s { a = 1 }", "{\"s\": {\"a\": 1}}"}, {"s\n{\n a = 1\n}\n", "{\"s\": {\"a\": 1}}"},
	    {"s = { a = 1 }; t: [1]", "{\"s\": {\"a\": 1},\"t\": [1]}"}, {"s { a = 1 } t { }", "{\"s\": {\"a\": 1},\"t\": {}}"},
	    {"disk \"root\" { a = 1 }", "{\"disk\": {\"root\": {\"a\": 1}}}"},
	    {"disk root {a=1}", "{\"disk\": {\"root\": {\"a\": 1}}}"}, {"disk 'r' x\n{a=1}", "{\"disk\": {\"r\": {\"x\": {\"a\": 1}}}}"},
	    {"s a [1, 2]", "{\"s\": {\"a\": [1,2]}}"},
	    {"a { b { c { d = 1 } } }", "{\"a\": {\"b\": {\"c\": {\"d\": 1}}}}"},
	    {"a = [1, 2,\n3\n4; 5,]", "{\"a\": [1,2,3,4,5]}"}, {"a = [x y\nz]", "{\"a\": [\"x y\",\"z\"]}"},
	    {"a = [[1], [], {b = [2]}]", "{\"a\": [[1],[],{\"b\": [2]}]}"}, {"a [b]", "{\"a\": [\"b\"]}"});
}

static void
test_repeated(void **state)
{
	EXPECT(
	    {"a=1;a=2;a=x", "{\"a\": [1,2,\"x\"]}"}, {"a=[1];a=[2]", "{\"a\": [[1],[2]]}"},
	    {"s {a=1}; s {b=2}", "{\"s\": [{\"a\": 1},{\"b\": 2}]}"},
	    {"d \"x\" {a=1}\nd \"y\" {a=2}", "{\"d\": [{\"x\": {\"a\": 1}},{\"y\": {\"a\": 2}}]}"},
	    {".priority 5\na=1\n.priority 3\na=2", "{\"a\": 1}"}, {".priority 1; a=1\n.priority \"2\"\na=2", "{\"a\": 2}"},
	    {"a=1\n.priority 0\na=2", "{\"a\": [1,2]}"},
	    {"x {a=1; b {c=2}}\ny {.inherit \"x\"\n d=3}", "{\"x\": {\"a\": 1,\"b\": {\"c\": 2}},\"y\": {\"a\": 1,\"b\": {\"c\": 2},\"d\": 3}}"},
	    {"x {a=1}\ny {a=0;.inherit x}", "{\"x\": {\"a\": 1},\"y\": {\"a\": 0}}"},
	    {"x {a=1}\ny {.inherit x;a=0}", "{\"x\": {\"a\": 1},\"y\": {\"a\": 0}}"},
	    {"x {a=1};x {b=2}\ny {.inherit x}", "{\"x\": [{\"a\": 1},{\"b\": 2}],\"y\": {\"a\": 1,\"b\": 2}}"});
}

static void
test_scalars(void **state)
{
	EXPECT(
	    {"a=1k;b=1kb;c=2M;d=2Mb;e=3g;f=3GB", "{\"a\": 1000,\"b\": 1024,\"c\": 2000000,\"d\": 2097152,\"e\": 3000000000,\"f\": 3221225472}"},
	    {"a=10ms;b=2s;c=10min;d=1h;e=1d;f=1w;g=1y;h=0.2s", "{\"a\": 0.01,\"b\": 2.0,\"c\": 600.0,\"d\": 3600.0,\"e\": 86400.0,\"f\": 604800.0,\"g\": 31536000.0,\"h\": 0.2}"},
	    {"a=0xff;b=-0x10;c=0XaB;d=-5;e=012", "{\"a\": 255,\"b\": -16,\"c\": 171,\"d\": -5,\"e\": 12}"},
	    {"a=1.5;b=1e3;c=-2.5E-3;d=1.5k;e=0.1", "{\"a\": 1.5,\"b\": 1000.0,\"c\": -0.0025,\"d\": 1500.0,\"e\": 0.1}"},
	    {"a=1e300;b=0.30000000000000004", "{\"a\": 1e+300,\"b\": 0.30000000000000004}"},
	    {"a=9223372036854775807;b=-9223372036854775808", "{\"a\": 9223372036854775807,\"b\": -9223372036854775808}"},
	    {"a=true;b=Yes;c=ON;d=false;e=no;f=Off;g=null", "{\"a\": true,\"b\": true,\"c\": true,\"d\": false,\"e\": false,\"f\": false,\"g\": null}"},
	    {"a=\"true\";b='1';c=\"null\"", "{\"a\": \"true\",\"b\": \"1\",\"c\": \"null\"}"},
	    {"a=10.0.0.1;b=5b;c=+5;d=.5;e=0x;f=1x;g=-;h=1kk;i=nan;j=5.", "{\"a\": \"10.0.0.1\",\"b\": \"5b\",\"c\": \"+5\",\"d\": \".5\",\"e\": \"0x\",\"f\": \"1x\",\"g\": \"-\",\"h\": \"1kk\",\"i\": \"nan\",\"j\": \"5.\"}"});
}

static void
test_strings(void **state)
{
	EXPECT(
	    {"a=\"\"", "{\"a\": \"\"}"}, {"a=\"x\\n\\t\\r\\b\\f\\\\\\/\\\"y\"", "{\"a\": \"x\\n\\t\\r\\b\\f\\\\/\\\"y\"}"},
	    {"a=\"\\u00e9\\u20ac\\ud83d\\ude00\\u0041\\u001f\"", "{\"a\": \"é€😀A\\u001f\"}"},
	    {"a='x\\n$NAME'", "{\"a\": \"x\\\\n$NAME\"}"}, {"a='it\\'s';b='l1\\\nl2'", "{\"a\": \"it's\",\"b\": \"l1l2\"}"},
	    {"a='x\ny'", "{\"a\": \"x\\ny\"}"}, {"a=\"#;{}[],=\"", "{\"a\": \"#;{}[],=\"}"},
	    {"a=<<EOD\nl1\n  l2 # \"x\"\nEOD\nb=1", "{\"a\": \"l1\\n  l2 # \\\"x\\\"\",\"b\": 1}"},
	    {"a <<E\nE", "{\"a\": \"\"}"}, {"a <<EOD\n\nx\n\nEOD\n", "{\"a\": \"\\nx\\n\"}"},
	    {"a=\"tab\there\"", "{\"a\": \"tab\\there\"}"}, {"a=<<eod", "{\"a\": \"<<eod\"}"});
}

static void
test_variables(void **state)
{
	EXPECT(
	    {"a=$NAME;b=${NAME}x;c=\"-$NAME-\";d='$NAME'", "{\"a\": \"web1\",\"b\": \"web1x\",\"c\": \"-web1-\",\"d\": \"$NAME\"}"},
	    {"a=\"$LONG_NAME\";b=<<E\n$NAME\nE\n", "{\"a\": \"x y\",\"b\": \"web1\"}"},
	    {"a=\"$OTHER ${OTHER} $ $$NAME ${NAME\"", "{\"a\": \"$OTHER ${OTHER} $ $$NAME ${NAME\"}"},
	    {"a=\"$$NAME $NAME $$ $x\"", "{\"a\": \"$NAME web1 $ $x\"}"}, {"a=\"\\u0024NAME\"", "{\"a\": \"$NAME\"}"},
	    {"a=$NAMES", "{\"a\": \"$NAMES\"}"});
}

static const struct {
	const char *text, *message;
} wrong[] = {
	{"a", "t:1:1: 'a' has no value (key = value; \"\" is an empty one)"},
	{"x=1\n  abc\ny=2", "t:2:3: 'abc' has no value (key = value; \"\" is an empty one)"},
	{"a = ;", "t:1:5: 'a' has no value (\"\" is an empty one)"},
	{"a = \"x", "t:1:5: this string does not end on its line (\\n, or <<EOD for several lines)"},
	{"a = \"x\ny\"", "t:1:5: this string does not end on its line (\\n, or <<EOD for several lines)"},
	{"a = 'x\ny", "t:1:5: this string does not end (')"},
	{"a = \"\\q\"", "t:1:6: no such escape: a backslash and 'q' (\\n \\t \\\" \\\\ ...; single quotes take all as it is)"},
	{"a = \"\\u12\"", "t:1:6: \\u takes four hexadecimal digits"},
	{"a = \"\\u0000\"", "t:1:6: a string cannot hold the character U+0000"},
	{"a = \"\\ud800x\"", "t:1:6: \\ud800 is half a character (a pair is \\uD8xx\\uDCxx)"},
	{"a = \"\\udc00\"", "t:1:6: \\udc00 is half a character (a pair is \\uD8xx\\uDCxx)"},
	{"a = \"\x01\"", "t:1:6: byte 0x01 in a string (\\u0001)"},
	{"a = b\x01", "t:1:6: byte 0x01 in a value (put it in quotes, as \\u0001)"},
	{"a = \xff", "t:1:5: byte 0xff is no UTF-8"}, {"a = \xc0\x80", "t:1:5: byte 0xc0 is no UTF-8"},
	{"a = \xed\xa0\x80", "t:1:5: byte 0xed is no UTF-8"}, {"a = \xe2\x82", "t:1:5: byte 0xe2 is no UTF-8"},
	{"a = <<EOD\nx", "t:1:5: no line 'EOD' ends this text"},
	{"a = <<EOD x\nEOD", "t:1:10: the word after << must end its line (capital letters only)"},
	{"a { b = 1", "t:1:3: what begins here does not end (})"}, {"a = [1", "t:1:5: this array does not end (])"},
	{"a = 1 }", "t:1:7: '}' after a value (end it with ; , or the end of the line)"}, {"a {} }", "t:1:6: '}' closes nothing"}, {"}", "t:1:1: '}' closes nothing"}, {"a = [1}]", "t:1:7: '}' after a value (end it with ; , or the end of the line)"},
	{"a { b = 1 ]", "t:1:11: ']' after a value (end it with ; , or the end of the line)"},
	{"\na = \"x\" y", "t:2:9: 'y' after a value (end it with ; , or the end of the line)"},
	{"a = 'x'b", "t:1:8: 'b' after a value (end it with ; , or the end of the line)"},
	{"= 1", "t:1:1: '=' where a key belongs"}, {"a!b = 1", "t:1:2: '!' in a key (keys are letters, digits and _ - . / + *, or in quotes)"},
	{"a /* b", "t:1:3: this comment does not end (*/; comments nest)"}, {"/* /* */", "t:1:1: this comment does not end (*/; comments nest)"},
	{"{a=1} b=2", "t:1:7: 'b' after the end of the whole"}, {"[1] 2", "t:1:5: '2' after the end of the whole"},
	{"a = 9223372036854775808", "t:1:5: 9223372036854775808 does not fit into 64 bits"}, {"a = 9999999999g", "t:1:5: 9999999999g does not fit into 64 bits"},
	{"a = 1e999", "t:1:5: 1e999 does not fit into 64 bits"}, {"a = 0x8000000000000000", "t:1:5: 0x8000000000000000 does not fit into 64 bits"},
	{".incldue \"x\"", "t:1:1: no such macro '.incldue' (.include, .try_include, .priority, .inherit)"},
	{".", "t:1:1: no such macro '.' (.include, .try_include, .priority, .inherit)"},
	{"\n.include \"x\"", "t:2:1: files cannot be included here"}, {".include(prio=1) \"x\"", "t:1:1: .include has no option 'prio' (try, glob, priority, duplicate)"},
	{".include(try=5) \"x\"", "t:1:1: try: neither true nor false"}, {".include(priority=16) \"x\"", "t:1:1: priority: not a number from 0 to 15"},
	{".include(duplicate=twice) \"x\"", "t:1:1: duplicate: none of append, merge, error, rewrite"},
	{".include(try=true,try=no) \"x\"", "t:1:19: 'try' is set already (at t:1)"},
	{".include(try=true \"x\"", "t:1:9: what begins here does not end ())"},
	{".priority 16", "t:1:1: .priority takes a number from 0 to 15"}, {".priority high", "t:1:1: .priority takes a number from 0 to 15"},
	{".priority(a=1) 2", "t:1:1: .priority takes no options"},
	{"a {.inherit b}", "t:1:4: there is no section 'b' to inherit from"}, {"b=1;a {.inherit b}", "t:1:8: 'b' is no section"},
	{"b {}; .inherit b", "t:1:7: .inherit belongs into a section"},
	{"a = [b =\n", "t:1:5: this array does not end (])"}, {"a [,]\nb", "t:2:1: 'b' has no value (key = value; \"\" is an empty one)"},
};
/* clang-format on */

static void
test_wrong(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		struct err err;
		struct ucl_tree *t = parse(wrong[i].text, &err);

		if (t != NULL)
			fail_msg("accepted: %s", wrong[i].text);
		assert_string_equal(err.msg, wrong[i].message);
	}
}

static void
test_zero_byte(void **state)
{
	struct err err = {0};

	(void)state;
	assert_null(ucl_parse("t", "a=1\nb=\0", 8, NULL, &err));
	assert_string_equal(err.msg, "t:2:3: a zero byte (not a text file?)");
}

/* `count` times `piece`. */
static char *
repeated(const char *piece, size_t count, const char *tail)
{
	size_t len = strlen(piece);
	char *s = malloc(len * count + strlen(tail) + 1);

	assert_non_null(s);
	for (size_t i = 0; i < count; i++)
		memcpy(s + i * len, piece, len);
	strcpy(s + len * count, tail);
	return s;
}

static void
test_limits(void **state)
{
	static const struct {
		const char *piece, *tail;
		size_t most;
		const char *message;
	} rows[] = {
	    {"a {", "", 64, "t:1:195: more than 64 objects and arrays in one another"},
	    {"[", "", 64, "t:1:65: more than 64 objects and arrays in one another"},
	    {"a ", "{}", 64, "t:1:131: more than 64 objects and arrays in one another"},
	};
	struct err err;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char *fits = repeated(rows[i].piece, rows[i].most, rows[i].tail);
		char *more = repeated(rows[i].piece, rows[i].most + 1, rows[i].tail);

		ucl_free(parse(fits, &err));
		assert_null(strstr(err.msg, "in one another"));
		assert_null(parse(more, &err));
		assert_string_equal(err.msg, rows[i].message);
		free(fits);
		free(more);
	}
	/* Copies of copies: twice as many each time. */
	char *bomb = repeated("a{x=1}\n", 1, ""), *grown;
	for (char c = 'b'; c < 'z'; c++) {
		assert_true(asprintf(&grown, "%s%c{p{.inherit %c};q{.inherit %c}}\n", bomb, c, c - 1, c - 1) >
			    0);
		free(bomb);
		bomb = grown;
	}
	assert_null(parse(bomb, &err));
	assert_non_null(strstr(err.msg, "more than 131072 values"));
	free(bomb);
	bomb = repeated("1,", UCL_MAX_NODES, "]");
	bomb[0] = '[';
	ucl_free(parse(bomb, &err));
	assert_int_equal(err.code, 0);
	free(bomb);
	bomb = repeated("1,", UCL_MAX_NODES + 1, "]");
	bomb[0] = '[';
	assert_null(parse(bomb, &err));
	assert_non_null(strstr(err.msg, "more than 131072 values"));
	free(bomb);
}

static void
test_many_keys(void **state)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	const struct ucl_node *n;
	struct ucl_tree *t;
	struct err err;

	(void)state;
	for (int i = 0; i < 5000; i++)
		fprintf(f, "k%d = %d\n", i % 2500, i);
	fclose(f);
	t = parse(text, &err);
	assert_non_null(t);
	assert_int_equal(ucl_root(t)->count, 2500);
	n = ucl_find(ucl_root(t), "k2499");
	assert_non_null(n);
	assert_true(n->implicit && n->count == 2);
	assert_int_equal(n->child[1]->integer, 4999);
	assert_int_equal(n->line, 2500);
	assert_null(ucl_find(ucl_root(t), "k2500"));
	ucl_free(t);
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_entries),  cmocka_unit_test(test_sections),
	    cmocka_unit_test(test_repeated), cmocka_unit_test(test_scalars),
	    cmocka_unit_test(test_strings),  cmocka_unit_test(test_variables),
	    cmocka_unit_test(test_wrong),    cmocka_unit_test(test_zero_byte),
	    cmocka_unit_test(test_limits),   cmocka_unit_test(test_many_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
