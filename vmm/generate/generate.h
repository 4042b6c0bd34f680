/* SPDX-License-Identifier: BSD-2-Clause */
/* What the build makes of the tables: the manual of the configuration, completions for shells. One thread. */
#ifndef LHYVE_VMM_GENERATE_H
#define LHYVE_VMM_GENERATE_H

#include <stdio.h>

/* lhyve_config.5 in mdoc. */
void generate_mdoc(FILE *out);
/* Completions of one program. */
void generate_bash_lhyve(FILE *out);
void generate_bash_lhyvectl(FILE *out);
void generate_zsh_lhyve(FILE *out);
void generate_zsh_lhyvectl(FILE *out);
void generate_fish_lhyve(FILE *out);
void generate_fish_lhyvectl(FILE *out);

#endif
