/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/library.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

int
library_load(const char *soname, const char *package, const struct library_function *function, size_t count,
	     void *to, struct err *err)
{
	void *library = dlopen(soname, RTLD_NOW | RTLD_LOCAL);

	if (library == NULL)
		return err_set(err, ENOENT, "%s (install %s)", dlerror(), package);
	for (size_t i = 0; i < count; i++) {
		void *f = dlsym(library, function[i].name);

		if (f == NULL)
			return err_set(err, ENOSYS, "%s (install a newer %s)", dlerror(), package);
		memcpy((char *)to + function[i].offset, &f, sizeof(f));
	}
	return 0;
}
