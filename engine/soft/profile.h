/* SPDX-License-Identifier: BSD-2-Clause */
/* What shows where the time goes: the map that perf(1) reads, and counters beyond the plain ones. Private to
 * engine/soft.
 */
#ifndef LHYVE_SOFT_PROFILE_H
#define LHYVE_SOFT_PROFILE_H

#include "engine/soft/cpu.h"

struct jit;
struct jit_unit;

/*
 * /tmp/perf-PID.map: a line "START BYTES NAME" for the common routines and for each unit that is made. A unit
 * is named after the guest address that it was made for: "guest:SYMBOL+OFFSET rip=LINEAR gpa=PHYSICAL", the
 * symbol when `symbols` (nm's form, System.map's; NULL: none) has one.
 */
struct soft_perf_map;
LH_MUST_CHECK struct soft_perf_map *soft_perf_map_create(const char *symbols, struct err *err);
void soft_perf_map_destroy(struct soft_perf_map *m); /* NULL is fine */
void soft_perf_map_routine(struct soft_perf_map *m, const void *at, size_t bytes, const char *name);
/* The code lock is held, vector registers are saved. rip: linear. */
void soft_perf_map_unit(struct soft_perf_map *m, const void *at, size_t bytes, uint64_t rip, uint64_t gpa);

/* Rates of the vCPU's and, for the first vCPU, of all units' runs (where they are counted: struct
 * engine_vm_cfg's soft_profile), and what the interpreter did most for translated code. Any thread. */
void soft_profile_stats(struct soft_cpu *cpu, void (*fn)(void *arg, const char *name, uint64_t value),
			void *arg);

#endif
