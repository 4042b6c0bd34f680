/* SPDX-License-Identifier: BSD-2-Clause */
/* lhyvectl(8): verbs on running VMs, and bhyvectl's options. Exit 0, or 1 with one line that says why. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/util.h"
#include "vmm/ctl/verbs.h"
#include "vmm/version.h"

/* What the command line holds. */
struct line {
	const struct ctl_verb *verb;
	struct ctl_args args;
	const char *vm; /* --vm */
	bool given[32]; /* by index in ctl_options */
	const char *value[32];
};

/* One line, whatever a name or an answer held. */
static int
complain(const struct err *err)
{
	char line[sizeof(err->msg)];
	size_t n = 0;

	for (const char *p = err->msg; *p != '\0'; p++)
		line[n++] = (unsigned char)*p < ' ' || *p == 0x7f ? '?' : *p;
	fprintf(stderr, "lhyvectl: %.*s\n", (int)n, line);
	return 1;
}

static void
print_usage(FILE *out)
{
	fprintf(out, "usage: lhyvectl VERB [NAME] [options]\n       lhyvectl --vm=NAME [bhyvectl's "
		     "options]\nverbs:\n");
	for (unsigned i = 0; i < ctl_verb_count; i++)
		fprintf(out, "  %-28s %s\n", ctl_verbs[i].usage, ctl_verbs[i].help);
	fprintf(out, "options:\n");
	for (unsigned i = 0; i < ctl_option_count; i++) {
		const struct ctl_option *o = &ctl_options[i];
		char head[64];

		snprintf(head, sizeof(head), "--%s%s%s", o->name, o->arg != NULL ? "=" : "",
			 o->arg != NULL ? o->arg : "");
		fprintf(out, "  %-28s %s\n", head, o->help);
	}
}

static const struct ctl_verb *
find_verb(const char *name)
{
	for (unsigned i = 0; i < ctl_verb_count; i++)
		if (strcmp(ctl_verbs[i].name, name) == 0)
			return &ctl_verbs[i];
	return NULL;
}

static int
find_option(const char *name, size_t len)
{
	for (unsigned i = 0; i < ctl_option_count; i++)
		if (strlen(ctl_options[i].name) == len && strncmp(ctl_options[i].name, name, len) == 0)
			return (int)i;
	return -1;
}

static bool
given(const struct line *l, const char *name)
{
	int i = find_option(name, strlen(name));

	LH_ASSERT(i >= 0);
	return l->given[i];
}

static const char *
value(const struct line *l, const char *name)
{
	return l->value[find_option(name, strlen(name))];
}

/* --name, --name=value or --name value */
static int
parse_option(int argc, char **argv, int *at, struct line *l, struct err *err)
{
	const char *text = argv[*at] + 2, *eq = strchr(text, '=');
	size_t len = eq != NULL ? (size_t)(eq - text) : strlen(text);
	int i = find_option(text, len);

	if (i < 0)
		return err_set(err, EINVAL, "%s: no such option (--help lists them)", argv[*at]);
	l->given[i] = true;
	if (ctl_options[i].arg == NULL)
		return eq == NULL ? 0 : err_set(err, EINVAL, "%s: it takes no value", argv[*at]);
	l->value[i] = eq != NULL ? eq + 1 : *at + 1 < argc ? argv[++*at] : NULL;
	if (l->value[i] == NULL)
		return err_set(err, EINVAL, "--%s: no value (--%s=%s)", ctl_options[i].name,
			       ctl_options[i].name, ctl_options[i].arg);
	return 0;
}

static int
parse_word(const char *word, struct line *l, struct err *err)
{
	if (l->verb == NULL) {
		l->verb = find_verb(word);
		return l->verb != NULL ? 0
				       : err_set(err, EINVAL, "%s: no such verb (--help lists them)", word);
	}
	if (l->verb->takes_vm && l->args.name == NULL) {
		l->args.name = word;
		return 0;
	}
	if (l->args.args == l->verb->max_args)
		return err_set(err, EINVAL, "%s: one word too many (lhyvectl %s)", word, l->verb->usage);
	l->args.arg[l->args.args++] = word;
	return 0;
}

static int
parse_cpu(struct line *l, struct err *err)
{
	const char *text = value(l, "cpu");

	l->args.cpu = -1;
	if (!given(l, "cpu"))
		return 0;
	if (*text == '\0' || strlen(text) > 4 || strspn(text, "0123456789") != strlen(text))
		return err_set(err, EINVAL, "--cpu=%s: no number of a CPU", text);
	l->args.cpu = atoi(text);
	return 0;
}

/* Nothing is ignored: an option that the verb does not take is an error. */
static int
check_options(const struct line *l, struct err *err)
{
	for (unsigned i = 0; i < ctl_option_count; i++) {
		const char *name = ctl_options[i].name, *p;
		size_t len = strlen(name);
		bool takes = false;

		if (!l->given[i])
			continue;
		for (p = l->verb->options; p != NULL && !takes; p = strchr(p, '|')) {
			p += *p == '|';
			takes = strncmp(p, name, len) == 0 && (p[len] == '|' || p[len] == '\0');
		}
		if (!takes)
			return err_set(err, EINVAL, "--%s: not with %s", name, l->verb->name);
	}
	return 0;
}

static int
run_verb(struct line *l, struct err *err)
{
	int r = check_options(l, err);

	if (r != 0)
		return r;
	if ((l->verb->takes_vm && l->args.name == NULL) || l->args.args < l->verb->min_args)
		return err_set(err, EINVAL, "%s: one word too few (lhyvectl %s)", l->verb->name,
			       l->verb->usage);
	l->args.json = given(l, "json");
	l->args.prometheus = given(l, "prometheus");
	l->args.diff = given(l, "diff");
	l->args.warm = given(l, "warm");
	return l->verb->run(&l->args, err);
}

/* bhyvectl's options, in its order. */
static int
run_bhyve(const struct line *l, struct err *err)
{
	const char *vm = value(l, "vm");
	unsigned actions = 0;
	int r = 0;

	for (unsigned i = 0; i < ctl_option_count; i++) {
		if (l->given[i] && !ctl_options[i].bhyve && strcmp(ctl_options[i].name, "cpu") != 0)
			return err_set(err, EINVAL, "--%s: not with --vm", ctl_options[i].name);
		actions += l->given[i] && ctl_options[i].bhyve;
	}
	if (actions < 2)
		return err_set(err, EINVAL, "--vm=%s: nothing to do (--help lists the options)", vm);
	if (given(l, "inject-nmi"))
		r = ctl_post(vm, "nmi", l->args.cpu, err);
	if (r == 0 && given(l, "get-all"))
		r = ctl_get_all(vm, l->args.cpu, err);
	if (r == 0 && given(l, "get-stats"))
		r = ctl_stats(vm, MAX(l->args.cpu, 0), err);
	if (r == 0 && given(l, "checkpoint"))
		r = ctl_post(vm, "snapshot", -1, err);
	if (r == 0 && given(l, "suspend"))
		r = ctl_post(vm, "suspend", -1, err);
	if (r == 0 && given(l, "force-reset"))
		r = ctl_end(vm, "reset", err);
	if (r == 0 && given(l, "force-poweroff"))
		r = ctl_end(vm, "poweroff", err);
	if (r == 0 && given(l, "destroy"))
		r = find_verb("destroy")->run(&(struct ctl_args){.name = vm}, err);
	return r;
}

static int
run(struct line *l, struct err *err)
{
	int r = parse_cpu(l, err);

	if (r != 0)
		return r;
	if (given(l, "vm"))
		return l->verb == NULL
			   ? run_bhyve(l, err)
			   : err_set(err, EINVAL, "--vm: not with a verb (lhyvectl %s)", l->verb->usage);
	if (l->verb == NULL)
		return err_set(err, EINVAL, "no verb (--help lists them)");
	return run_verb(l, err);
}

int
main(int argc, char **argv)
{
	struct line l = {0};
	struct err err = {0};
	int r = 0;

	LH_ASSERT(ctl_option_count <= ARRAY_LEN(l.given));
	for (int i = 1; i < argc && r == 0; i++)
		r = strncmp(argv[i], "--", 2) == 0 ? parse_option(argc, argv, &i, &l, &err)
						   : parse_word(argv[i], &l, &err);
	if (r != 0)
		return complain(&err);
	if (given(&l, "help")) {
		print_usage(stdout);
		return 0;
	}
	if (given(&l, "version")) {
		printf("lhyvectl %s\n", lhyve_version);
		return 0;
	}
	if (run(&l, &err) != 0)
		return complain(&err);
	if (fflush(stdout) != 0) {
		err_set(&err, errno, "standard output: %s", strerror(errno));
		return complain(&err);
	}
	return 0;
}
