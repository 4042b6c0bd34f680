/* SPDX-License-Identifier: BSD-2-Clause */
/* The folders of control sockets. */
#include "vmm/control/where.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SYSTEM_FOLDER "/run/lhyve"

int
control_folder(unsigned n, char room[static CONTROL_PATH_ROOM])
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	/* The XDG base directory specification: relative paths are to be ignored. */
	bool own = runtime != NULL && *runtime == '/' && strlen(runtime) < CONTROL_PATH_ROOM - 16;

	if (own && n == 0)
		snprintf(room, CONTROL_PATH_ROOM, "%s/lhyve", runtime);
	else if (n == (own ? 1u : 0u))
		snprintf(room, CONTROL_PATH_ROOM, "%s", SYSTEM_FOLDER);
	else
		return -ENOENT;
	return 0;
}

static void
append_name(char room[static CONTROL_PATH_ROOM], const char *name)
{
	size_t used = strlen(room);

	snprintf(room + used, CONTROL_PATH_ROOM - used, "/%s%s", name, CONTROL_SUFFIX);
}

void
control_default_path(const char *name, char room[static CONTROL_PATH_ROOM])
{
	if (control_folder(0, room) == 0)
		append_name(room, name);
}

void
control_find(const char *name, char room[static CONTROL_PATH_ROOM])
{
	struct stat st;

	if (strchr(name, '/') != NULL) {
		snprintf(room, CONTROL_PATH_ROOM, "%s", name);
		return;
	}
	for (unsigned n = 0; control_folder(n, room) == 0; n++) {
		append_name(room, name);
		if (lstat(room, &st) == 0)
			return;
	}
	control_default_path(name, room);
}
