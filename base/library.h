/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A shared library that is loaded when it is first needed, for what most VMs never use: each library that the
 * program is linked with costs every start of every VM (mapping it and its own dependencies, relocating them,
 * and pages that stay).
 */
#ifndef LHYVE_BASE_LIBRARY_H
#define LHYVE_BASE_LIBRARY_H

#include <stddef.h>
#include "base/err.h"

/* A function of the library and where its address goes: a function pointer `offset` bytes into the caller's
 * structure. */
struct library_function {
	const char *name;
	size_t offset;
};

/*
 * Load `soname` and fill the pointers of *to; `package` is what the message tells to install. The library
 * stays loaded. -ENOENT: it is not there, or cannot be loaded; -ENOSYS: it lacks a function. Any thread.
 */
LH_MUST_CHECK int library_load(const char *soname, const char *package,
			       const struct library_function *function, size_t count, void *to,
			       struct err *err);

#endif
