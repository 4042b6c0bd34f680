/* SPDX-License-Identifier: BSD-2-Clause */
/* Where control sockets lie: $XDG_RUNTIME_DIR/lhyve/NAME.sock, else /run/lhyve/NAME.sock. Any thread. */
#ifndef LHYVE_VMM_CONTROL_WHERE_H
#define LHYVE_VMM_CONTROL_WHERE_H

#include <stddef.h>
#include "base/err.h"

enum { CONTROL_PATH_ROOM = 4096 };
#define CONTROL_SUFFIX ".sock"

/* The folders that may have sockets, n = 0, 1; the first is where a new VM's goes. -ENOENT: no such n. */
LH_MUST_CHECK int control_folder(unsigned n, char room[static CONTROL_PATH_ROOM]);
/* The socket of a new VM of this name. */
void control_default_path(const char *name, char room[static CONTROL_PATH_ROOM]);
/* The socket of a VM that may run: a name with a slash is a path itself; else the first folder that has it, or the
 * default when none has. */
void control_find(const char *name, char room[static CONTROL_PATH_ROOM]);

#endif
