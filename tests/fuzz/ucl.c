/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libFuzzer: any bytes as a UCL text and as a configuration file. What is read must come out as UCL and JSON
 * that read back to the same; what is refused leaves one line and a code.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/config.h"
#include "vmm/config/ucl.h"

static const struct ucl_variable variables[] = {{"NAME", "web1"}};
static const struct ucl_options options = {.variable = variables, .variables = 1, .no_files = true};
static char path[64];
static int fd;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	fd = memfd_create("conf", MFD_CLOEXEC);
	if (fd < 0)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return 0;
}

static void
require(int ok)
{
	if (!ok)
		abort();
}

static void
check_error(const struct err *err)
{
	require(err->code != 0 && err->msg[0] != '\0');
}

static char *
emitted(const struct ucl_tree *t, void (*emit)(const struct ucl_node *, FILE *))
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	require(f != NULL);
	emit(ucl_root(t), f);
	fclose(f);
	return text;
}

/* UCL reads back to the same JSON; only the limits of sizes may stand against it. */
static void
check_round_trip(const struct ucl_tree *t)
{
	char *json = emitted(t, ucl_emit_json), *text = emitted(t, ucl_emit), *again;
	struct err err = {0};
	struct ucl_tree *back = ucl_parse("back", text, strlen(text), &options, &err);

	require(back != NULL || strstr(err.msg, "more than") != NULL);
	if (back != NULL) {
		again = emitted(back, ucl_emit_json);
		require(strcmp(json, again) == 0);
		free(again);
	}
	ucl_free(back);
	free(text);
	free(json);
}

static struct config *
configured(const void *data, size_t size, struct err *err)
{
	struct config *c = config_create(err);

	require(c != NULL && ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
	if (config_read_file(c, path, err) == 0 && config_resolve(c, err) == 0)
		return c;
	check_error(err);
	config_destroy(c);
	return NULL;
}

static char *
dumped(const struct config *c, size_t *len)
{
	char *text = NULL;
	FILE *f = open_memstream(&text, len);

	require(f != NULL);
	config_dump(c, f);
	fclose(f);
	return text;
}

/* The tree that a file makes is the tree that its dump makes. */
static void
check_config(const void *data, size_t size)
{
	struct err err = {0};
	struct config *c = configured(data, size, &err), *again;
	char *first, *second;
	size_t len, len2;

	if (c == NULL)
		return;
	first = dumped(c, &len);
	again = configured(first, len, &err);
	require(again != NULL);
	second = dumped(again, &len2);
	require(strcmp(first, second) == 0);
	free(first);
	free(second);
	config_destroy(c);
	config_destroy(again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err = {0};
	struct ucl_tree *t = ucl_parse("fuzz", (const char *)data, size, &options, &err);

	if (t != NULL)
		check_round_trip(t);
	else
		check_error(&err);
	ucl_free(t);
	if (memmem(data, size, "include", 7) == NULL) /* no other files */
		check_config(data, size);
	return 0;
}
