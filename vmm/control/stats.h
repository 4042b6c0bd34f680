/* SPDX-License-Identifier: BSD-2-Clause */
/* A VM's counters as JSON and as Prometheus text (exposition format 0.0.4). Control thread. */
#ifndef LHYVE_VMM_CONTROL_STATS_H
#define LHYVE_VMM_CONTROL_STATS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "base/err.h"

struct board;

struct control_counter {
	char who[32], name[48]; /* "cpu0" or a device; "exit.io" */
	uint64_t value;
};

struct control_stats {
	struct control_counter *row;
	size_t count, room;
	bool no_memory;
};

/* Read all counters; control_stats_free() in any case. */
LH_MUST_CHECK int control_stats_read(struct control_stats *s, struct board *b, struct err *err);
void control_stats_free(struct control_stats *s);

/* {"cpus": [{"cpu", "exits": {cause: n}, counter: n}], "devices": {name: {counter: n}}, "total": as a CPU} */
json_t *control_stats_json(const struct control_stats *s);
void control_stats_prometheus(const struct control_stats *s, const char *vm, FILE *out);

#endif
