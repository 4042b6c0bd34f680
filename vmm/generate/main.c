/* SPDX-License-Identifier: BSD-2-Clause */
/* A program of the build's own: prints one of the files that are made of the tables. */
#include <stdio.h>
#include <string.h>
#include "base/util.h"
#include "vmm/generate/generate.h"

static const struct {
	const char *name;
	void (*print)(FILE *out);
} outputs[] = {
    {"mdoc", generate_mdoc},
    {"bash-lhyve", generate_bash_lhyve},
    {"bash-lhyvectl", generate_bash_lhyvectl},
    {"zsh-lhyve", generate_zsh_lhyve},
    {"zsh-lhyvectl", generate_zsh_lhyvectl},
    {"fish-lhyve", generate_fish_lhyve},
    {"fish-lhyvectl", generate_fish_lhyvectl},
};

int
main(int argc, char **argv)
{
	for (size_t i = 0; argc == 2 && i < ARRAY_LEN(outputs); i++) {
		if (strcmp(outputs[i].name, argv[1]) == 0) {
			outputs[i].print(stdout);
			return fflush(stdout) == 0 ? 0 : 1;
		}
	}
	fprintf(stderr, "usage: lhyve-generate mdoc|{bash,zsh,fish}-{lhyve,lhyvectl}\n");
	return 1;
}
