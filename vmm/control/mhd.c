/* SPDX-License-Identifier: BSD-2-Clause */
/* The functions of libmicrohttpd by name. */
#include "vmm/control/mhd.h"

#include "base/library.h"
#include "base/util.h"

#define SONAME "libmicrohttpd.so.12" /* of 0.9.34 and later, and of 1.0 */

#define FUNCTION(member)                                     \
	{                                                    \
		"MHD_" #member, offsetof(struct mhd, member) \
	}

static const struct library_function functions[] = {
    FUNCTION(start_daemon),
    FUNCTION(stop_daemon),
    FUNCTION(run),
    FUNCTION(get_timeout),
    FUNCTION(get_daemon_info),
    FUNCTION(get_connection_info),
    FUNCTION(lookup_connection_value_n),
    FUNCTION(create_response_from_buffer),
    FUNCTION(add_response_header),
    FUNCTION(queue_response),
    FUNCTION(destroy_response),
};

int
mhd_load(struct mhd *m, struct err *err)
{
	return library_load(SONAME, "libmicrohttpd", functions, ARRAY_LEN(functions), m, err);
}
