/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libmicrohttpd, loaded when it is first needed. It brings a TLS library whose start costs every process some 4 ms
 * and 2 MiB, more than the rest of a small VM's start; most VMs are never asked anything.
 */
#ifndef LHYVE_VMM_CONTROL_MHD_H
#define LHYVE_VMM_CONTROL_MHD_H

#include <microhttpd.h>
#include "base/err.h"

struct mhd {
	__typeof__(MHD_start_daemon) *start_daemon;
	__typeof__(MHD_stop_daemon) *stop_daemon;
	__typeof__(MHD_run) *run;
	__typeof__(MHD_get_timeout) *get_timeout;
	__typeof__(MHD_get_daemon_info) *get_daemon_info;
	__typeof__(MHD_get_connection_info) *get_connection_info;
	__typeof__(MHD_lookup_connection_value_n) *lookup_connection_value_n;
	__typeof__(MHD_create_response_from_buffer) *create_response_from_buffer;
	__typeof__(MHD_add_response_header) *add_response_header;
	__typeof__(MHD_queue_response) *queue_response;
	__typeof__(MHD_destroy_response) *destroy_response;
};

/* Fill *m; the library stays loaded. One thread. */
LH_MUST_CHECK int mhd_load(struct mhd *m, struct err *err);

#endif
