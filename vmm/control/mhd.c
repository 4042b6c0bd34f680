/* SPDX-License-Identifier: BSD-2-Clause */
/* The functions of libmicrohttpd by name. */
#include "vmm/control/mhd.h"

#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include "base/util.h"

#define SONAME "libmicrohttpd.so.12" /* of 0.9.34 and later, and of 1.0 */

#define FUNCTION(member)                                     \
	{                                                    \
		"MHD_" #member, offsetof(struct mhd, member) \
	}

static const struct {
	const char *name;
	size_t offset;
} functions[] = {
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
	void *library = dlopen(SONAME, RTLD_NOW | RTLD_LOCAL);

	if (library == NULL)
		return err_set(err, ENOENT, "%s (install libmicrohttpd)", dlerror());
	for (size_t i = 0; i < ARRAY_LEN(functions); i++) {
		void *f = dlsym(library, functions[i].name);

		if (f == NULL)
			return err_set(err, ENOSYS, "%s (install a newer libmicrohttpd)", dlerror());
		memcpy((char *)m + functions[i].offset, &f, sizeof(f));
	}
	return 0;
}
