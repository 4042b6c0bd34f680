/* SPDX-License-Identifier: BSD-2-Clause */
/* The program and its libraries in this process. */
#ifndef LHYVE_BASE_PROGRAM_H
#define LHYVE_BASE_PROGRAM_H

/*
 * Unmap the pages of code and constants of the program and of its libraries: what only starting needed does
 * not stay resident, and what is needed comes back from the page cache with the next access. Any thread;
 * others may run meanwhile. Pages that were written to (relocations, data) stay.
 */
void program_trim(void);

#endif
