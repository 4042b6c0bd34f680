/* SPDX-License-Identifier: BSD-2-Clause */
/* lhyvectl's verbs and options: one table each, from which usage and shell completions are made. One thread. */
#ifndef LHYVE_VMM_CTL_VERBS_H
#define LHYVE_VMM_CTL_VERBS_H

#include <stdbool.h>
#include "base/err.h"

/* What stands on the command line beside the verb. */
struct ctl_args {
	const char *name; /* of the VM; NULL: none was given */
	const char *arg[2];
	unsigned args;
	int cpu; /* --cpu=N, or -1 */
	bool json, prometheus, diff, warm;
};

struct ctl_verb {
	const char *name, *usage, *help;
	bool takes_vm;
	unsigned min_args, max_args; /* after the VM's name */
	int (*run)(const struct ctl_args *a, struct err *err);
	const char *options; /* "json|cpu": those it takes, or NULL */
};

extern const struct ctl_verb ctl_verbs[];
extern const unsigned ctl_verb_count;

struct ctl_option {
	const char *name, *arg, *help; /* arg NULL: it takes none */
	bool bhyve;		       /* one of bhyvectl's: used with --vm, without a verb */
};
extern const struct ctl_option ctl_options[];
extern const unsigned ctl_option_count;

/* bhyvectl's actions on one VM. */
LH_MUST_CHECK int ctl_post(const char *name, const char *verb, int cpu, struct err *err);
LH_MUST_CHECK int ctl_end(const char *name, const char *verb, struct err *err);
LH_MUST_CHECK int ctl_stats(const char *name, int cpu, struct err *err);
LH_MUST_CHECK int ctl_get_all(const char *name, int cpu, struct err *err);

#endif
