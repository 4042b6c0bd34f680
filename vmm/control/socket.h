/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The claim of a VM on its control socket: a lock beside it (PATH.lock) that dies with its holder, and the
 * listening socket. One thread at a time.
 */
#ifndef LHYVE_VMM_CONTROL_SOCKET_H
#define LHYVE_VMM_CONTROL_SOCKET_H

#include "base/err.h"

struct control_socket {
	char *path, *lock_path;
	int lock_fd, listen_fd;
};

/*
 * Take the path: -EBUSY when a living VM has it. What a dead one left is taken over. The socket is there with mode
 * 0600 from its first moment; its folder is made (0700) if it is missing. Connections wait until somebody accepts.
 */
LH_MUST_CHECK int control_socket_claim(struct control_socket *s, const char *path, struct err *err);
/* Socket and lock go; a zeroed one is left alone. */
void control_socket_release(struct control_socket *s);

/* Remove what a dead VM left at this path. 0; -EBUSY: it lives; -ENOENT: there is nothing. */
LH_MUST_CHECK int control_socket_clean(const char *path, struct err *err);

#endif
