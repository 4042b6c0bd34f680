/* SPDX-License-Identifier: BSD-2-Clause */
/* What the control socket's JSON is made of (jansson). Numbers that a double cannot hold are strings in
 * hexadecimal. Every function may give NULL or leave a member out when memory is short. Any thread. */
#ifndef LHYVE_VMM_CONTROL_JSON_H
#define LHYVE_VMM_CONTROL_JSON_H

#include <jansson.h>
#include <stdint.h>

struct board_state;

/* "0x1f" */
json_t *control_json_hex(uint64_t v);

/* vmm/control/regs.c: the vCPUs first <= n < end, with their local APICs, and the other interrupt controllers. */
json_t *control_json_regs(const struct board_state *s, unsigned first, unsigned end);

#endif
