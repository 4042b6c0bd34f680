/* SPDX-License-Identifier: BSD-2-Clause */
/* What the control socket says, for people. To standard output. */
#ifndef LHYVE_VMM_CTL_PRINT_H
#define LHYVE_VMM_CTL_PRINT_H

#include <jansson.h>

/* Any object: members that are values several a line, objects below their names, one a line where they fit. */
void print_object(const json_t *o, unsigned indent);
void print_status(const json_t *status);
/* One row of `lhyvectl list`; NULL: the heading. */
void print_list_row(const json_t *status);
/* A counter a line: "cpu0.exits.io 12". cpu < 0: of all CPUs and devices. */
void print_stats(const json_t *stats, int cpu);
void print_regs(const json_t *regs);
/* As bhyvectl's --get-all prints registers: "rax[0]", two tabs, 16 digits; "cs desc[0]" with base/limit/access. */
void print_bhyve_regs(const json_t *regs);

#endif
