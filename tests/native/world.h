/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The oracle's world in the soft engine: a VM that maps its code and data at the same addresses in ring 3,
 * with Linux's selectors, and an IDT whose gates lead to one HLT a vector. One thread.
 */
#ifndef LHYVE_TESTS_NATIVE_WORLD_H
#define LHYVE_TESTS_NATIVE_WORLD_H

#include "tests/native/oracle.h"
#include "tests/native/rig.h"

/* Before oracle_open(), whose signal handlers come on top of the engine's. rig_close() ends it. */
LH_MUST_CHECK int world_open(struct rig *r, struct err *err);

enum world_way {
	WORLD_STEP,	  /* `limit` instructions by the interpreter */
	WORLD_STEP_TRANS, /* the same, each by a translation of itself */
	WORLD_WHOLE,	  /* as any guest runs, until an exception */
};

/*
 * Run code at s->rip from *s; *s becomes the state after `limit` instructions, or at the exception that ended
 * it: then s->vector, error and cr2 say which. False: it ended in another way, described in why.
 */
bool world_run(struct rig *r, struct oracle_state *s, const uint8_t *code, unsigned len, enum world_way way,
	       uint64_t limit, char *why, size_t size);

#endif
