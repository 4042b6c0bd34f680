/* SPDX-License-Identifier: BSD-2-Clause */
/* The command line: bhyve(8)'s letters as writes into the configuration tree. One thread. */
#ifndef LHYVE_VMM_OPTIONS_H
#define LHYVE_VMM_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>
#include "base/err.h"

struct config;

enum options_action {
	OPTIONS_RUN,
	OPTIONS_HELP,	 /* -h, --help */
	OPTIONS_VERSION, /* --version */
	OPTIONS_SCHEMA,	 /* --schema */
	OPTIONS_DEVICES, /* -s help, -l help */
	OPTIONS_UCL,	 /* --ucl FILE */
};

/* Parse argv into c. 0, *action and (of OPTIONS_UCL, pointing into argv) *file, or -errno and one line in err. */
LH_MUST_CHECK int options_parse(int argc, char **argv, struct config *c, enum options_action *action,
				const char **file, struct err *err);
/* The letter of row i with the name of its argument (NULL: it takes none) and its help; false: there is no such row. */
bool options_letter(unsigned i, char *letter, const char **arg, const char **help);
void options_print_usage(FILE *out);
void options_print_devices(FILE *out);

#endif
