/* SPDX-License-Identifier: BSD-2-Clause */
/* Join a VM's serial port from this terminal. One thread. */
#ifndef LHYVE_VMM_CTL_CONSOLE_H
#define LHYVE_VMM_CTL_CONSOLE_H

#include "base/err.h"

/* Until the VM closes the connection, `~.` after a newline, or, with no terminal, standard input has ended and the VM
 * closes. `port`: "com1". Only ports with a TCP backend can be joined. */
LH_MUST_CHECK int ctl_console(const char *name, const char *port, struct err *err);

#endif
