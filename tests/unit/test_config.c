/* SPDX-License-Identifier: BSD-2-Clause */
/* The configuration tree, its schema, and the keys that depend on one another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/util.h"
#include "vmm/config.h"
#include "vmm/control/running.h"
#include "vmm/machine.h"
#include "vmm/options.h"

static struct config *
fresh(void)
{
	struct err err = {0};
	struct config *c = config_create(&err);

	assert_non_null(c);
	return c;
}

static void
test_schema_is_sound(void **state)
{
	struct config *c = fresh();
	struct err err = {0};

	(void)state;
	for (unsigned i = 0; i < config_schema_count; i++) {
		const struct config_key *k = &config_schema[i];

		assert_non_null(k->help);
		assert_true((k->type == CONFIG_CHOICE) == (k->choices != NULL));
		for (unsigned j = 0; j < i; j++)
			assert_string_not_equal(k->name, config_schema[j].name);
		if (k->alias != NULL)
			assert_ptr_equal(config_key_find(k->alias), k);
		/* A default passes its own row's checks, unless the key cannot be set at all. */
		if (k->def != NULL && (k->only == NULL || *k->only != '\0'))
			assert_int_equal(config_set(c, "default", k->name, k->def, &err), 0);
	}
	config_destroy(c);
}

static void
test_sizes(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
	    {"256", 256 * MIB},	       {"256M", 256 * MIB},    {"1g", GIB}, {"1GB", GIB}, {"8192k", 8 * MIB},
	    {"0x10000000", 256 * MIB}, {"33554432", 32 * MIB},
	};
	static const char *const bad[] = {
	    "", "M", "1MM", "1 M", " 1M", "+1M", "1.5G", "0x", "18446744073709551616", "99999999999T"};
	struct config *c = fresh();
	struct err err = {0};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(config_set(c, "t", "memory.size", good[i].text, &err), 0);
		assert_int_equal(config_uint(c, "memory.size"), good[i].bytes);
	}
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(config_set(c, "t", "memory.size", bad[i], &err), -EINVAL);
	assert_int_equal(config_uint(c, "memory.size"), 32 * MIB);
	config_destroy(c);
}

static void
test_alias_is_the_key(void **state)
{
	struct config *c = fresh();
	struct err err = {0};

	(void)state;
	assert_int_equal(config_set(c, "t", "cpus", "3", &err), 0);
	assert_true(config_is_set(c, "cpu.count"));
	assert_int_equal(config_set(c, "t", "cpu.count", "5", &err), 0);
	assert_int_equal(config_uint(c, "cpu.count"), 5);
	config_destroy(c);
}

static void
test_nearest(void **state)
{
	char room[CONFIG_NAME_ROOM];

	(void)state;
	assert_string_equal(config_key_nearest("memory.sise", room), "memory.size");
	assert_string_equal(config_key_nearest("cmdline", room), "boot.cmdline");
	assert_string_equal(config_key_nearest("cpsu", room), "cpus");
	assert_null(config_key_nearest("qqqqqqqqqqqqqqqq", room));
	/* Longer than any key, and than the distance's table. */
	assert_null(config_key_nearest(
	    "memory.size.memory.size.memory.size.memory.size.memory.size.memory.size.x.y.z", room));
	/* Numbers and names of sections stay. */
	assert_string_equal(config_key_nearest("disk.root.pth", room), "disk.root.path");
	assert_string_equal(config_key_nearest("pci.0.31.2.devcie", room), "pci.0.31.2.device");
	assert_string_equal(config_key_nearest("pci.0.x.0.device", room), "pci.0.*.0.device");
}

static void
test_sections(void **state)
{
	static const struct {
		const char *name;
		bool known;
	} rows[] = {{"cpu", true},	   {"pci", true},      {"pci.0.31", true},   {"pci.x", false},
		    {"boot.module", true}, {"lpc.com1", true}, {"disk.a-b", true},   {"disk", true},
		    {"", false},	   {"cp", false},      {"cpu.count", false}, {"console.com4", true},
		    {"cpu.", false}};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(config_section_known(rows[i].name), rows[i].known);
	assert_non_null(config_key_find("disk.my_root-1.path"));
	assert_null(config_key_find("disk..path"));
	assert_null(config_key_find("disk.a.b.path"));
}

/* Read a text as a configuration file. */
static int
read_text(struct config *c, const char *text, struct err *err)
{
	char path[] = "/tmp/lhyve-config-XXXXXX";
	int fd = mkstemp(path), r;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	*err = (struct err){0};
	r = config_read_file(c, path, err);
	unlink(path);
	return r;
}

static void
test_file_forms(void **state)
{
	/* The same tree in each form; the last rows are flat only when every line is. */
	static const char *const forms[] = {
	    "cpu.count=4\nmemory.size=2G\nboot.cmdline=a=b c,d;e # f\n",
	    "cpus = 4\nmemory { size = 2G }\nboot { cmdline = \"a=b c,d;e # f\" }\n",
	    "{\"cpu\": {\"count\": 4}, \"memory\": {\"size\": 2147483648}, \"boot\": {\"cmdline\": \"a=b "
	    "c,d;e # f\"}}",
	    "cpu.count=1;\ncpu { count = 4 }\nmemory.size=2048\nboot { cmdline <<E\na=b c,d;e # f\nE\n}",
	    "memory { size = \"2gb\"; }\nboot {}\ncpu { count = 0x4 }; boot { cmdline = 'a=b c,d;e # f' }",
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(forms); i++) {
		struct config *c = fresh();
		struct err err;

		if (read_text(c, forms[i], &err) != 0)
			fail_msg("%s: %s", forms[i], err.msg);
		assert_int_equal(config_uint(c, "cpu.count"), 4);
		assert_int_equal(config_uint(c, "memory.size"), 2 * GIB);
		assert_string_equal(config_get(c, "boot.cmdline"), "a=b c,d;e # f");
		config_destroy(c);
	}
}

/* Any text that a string can hold comes back from a dump. */
static void
test_dump_round_trip(void **state)
{
	static const char *const texts[] = {"",
					    "\"q\" 'q' \\",
					    "$CURDIR ${FILENAME} $$x",
					    "a\nb\tc\x7f\x01",
					    "# ; { } [ ]",
					    "\u20ac",
					    "10k",
					    "true",
					    "null",
					    " x "};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(texts); i++) {
		struct config *c = fresh(), *again = fresh();
		struct err err = {0};
		char *dump = NULL;
		size_t len;
		FILE *f = open_memstream(&dump, &len);

		assert_int_equal(config_set(c, "t", "boot.cmdline", texts[i], &err), 0);
		config_dump(c, f);
		fclose(f);
		if (read_text(again, dump, &err) != 0)
			fail_msg("%s: %s", dump, err.msg);
		assert_string_equal(config_get(again, "boot.cmdline"), texts[i]);
		config_destroy(c);
		config_destroy(again);
		free(dump);
	}
}

static void
test_topology(void **state)
{
	static const struct {
		const char *arg;
		int result;
		struct x86_topology want;
	} rows[] = {
	    {"1", 0, {1, 1, 1, 1, 1}},
	    {"4", 0, {4, 1, 4, 1, 4}},
	    {"4,sockets=2", 0, {4, 2, 2, 1, 4}},
	    {"4,threads=2", 0, {4, 1, 2, 2, 4}},
	    {"4,cores=2", 0, {4, 2, 2, 1, 4}},
	    {"cpus=6,sockets=1,cores=3", 0, {6, 1, 3, 2, 6}},
	    {"sockets=3,cores=5,threads=1", 0, {15, 3, 5, 1, 15}},
	    {"sockets=1,cores=6,threads=2,cpus=12", 0, {12, 1, 6, 2, 12}},
	    {"sockets=2,threads=2", 0, {4, 2, 1, 2, 4}},
	    {"4,sockets=3", -EINVAL, {0}},
	    {"4,sockets=2,cores=2,threads=2", -EINVAL, {0}},
	    {"2,cores=4", -EINVAL, {0}},
	};
	struct err err = {0};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		struct config *c = fresh();
		struct x86_topology got = {0};
		char arg[64], *argv[] = {(char[]){"lhyve"}, (char[]){"-c"}, arg, NULL};
		enum options_action action;
		const char *file;

		snprintf(arg, sizeof(arg), "%s", rows[i].arg);
		assert_int_equal(options_parse(3, argv, c, &action, &file, &err), 0);
		assert_int_equal(machine_topology(c, &got, &err), rows[i].result);
		assert_memory_equal(&got, &rows[i].want, sizeof(got));
		config_destroy(c);
	}
}

/* What the schema says may change while the VM runs is what has an effect then. */
static void
test_running(void **state)
{
	unsigned count = 0;

	(void)state;
	for (unsigned i = 0; i < config_schema_count; i++) {
		assert_int_equal(config_schema[i].running, running_known(config_schema[i].name));
		count += config_schema[i].running;
	}
	assert_true(count > 0);
}

static void
test_templates(void **state)
{
	static const char *const set[][2] = {
	    {"boot.kernel", "/vms/%(name)/%(memory.size)/%%(name)"}, /* both come later */
	    {"boot.initrd", "100%"},
	    {"boot.cmdline", "%(lpc.com1.path) %(cpus) %(log.level) %("},
	    {"lpc.com1.path", "/tmp/%(name)"},
	    {"lpc.com2.path", "/tmp/%(name)"},
	    {"name", "web1"},
	    {"memory.size", "%(cpu.count)G"},
	    {"cpus", "2"},
	};
	static const char *const want[][2] = {
	    {"boot.kernel", "/vms/web1/2G/%(name)"}, {"boot.initrd", "100%"},
	    {"boot.cmdline", "/tmp/web1 2 warn %("}, {"lpc.com2.path", "/later"},
	    {"memory.size", "2147483648"},
	};
	struct config *c = fresh();
	struct err err = {0};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(set); i++)
		assert_int_equal(config_set_template(c, "test", set[i][0], set[i][1], &err), 0);
	assert_int_equal(config_set(c, "test", "lpc.com2.path", "/later", &err), 0);
	assert_int_equal(config_resolve(c, &err), 0);
	for (unsigned i = 0; i < ARRAY_LEN(want); i++)
		assert_string_equal(config_get(c, want[i][0]), want[i][1]);
	config_destroy(c);
}

/* A billion bytes, or a billion empty words, are refused soon. */
static void
test_template_bombs(void **state)
{
	char ten[256] = "", *p = ten;
	struct err err = {0};

	(void)state;
	for (unsigned empty = 0; empty < 2; empty++) {
		struct config *c = fresh();
		int r;

		assert_int_equal(
		    config_set(c, "test", "boot.module.9.cmdline", empty ? "" : "0123456789", &err), 0);
		for (unsigned i = 0; i < 9; i++) {
			char name[32];

			p = ten;
			for (unsigned j = 0; j < 10; j++)
				p += sprintf(p, "%%(boot.module.%u.cmdline)", i + 1);
			snprintf(name, sizeof(name), "boot.module.%u.cmdline", i);
			assert_int_equal(config_set_template(c, "test", name, ten, &err), 0);
		}
		r = config_resolve(c, &err);
		assert_int_equal(r, -E2BIG);
		config_destroy(c);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_schema_is_sound),  cmocka_unit_test(test_sizes),
	    cmocka_unit_test(test_alias_is_the_key), cmocka_unit_test(test_nearest),
	    cmocka_unit_test(test_topology),	     cmocka_unit_test(test_sections),
	    cmocka_unit_test(test_file_forms),	     cmocka_unit_test(test_dump_round_trip),
	    cmocka_unit_test(test_running),	     cmocka_unit_test(test_templates),
	    cmocka_unit_test(test_template_bombs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
