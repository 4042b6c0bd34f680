/* SPDX-License-Identifier: BSD-2-Clause */
/* The program's version as --version prints it. */
#ifndef LHYVE_VMM_VERSION_H
#define LHYVE_VMM_VERSION_H

extern const char lhyve_version[];

#endif
