/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A KVM that has less, for LD_PRELOAD: NO_CAP=number, an extension that KVM_CHECK_EXTENSION denies;
 * FAIL=request:errno in hexadecimal and decimal, an ioctl that fails (struct sizes are part of a request's
 * number).
 */
#include <dlfcn.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

int ioctl(int fd, unsigned long request, ...);

static int
fails(unsigned long request)
{
	const char *fail = getenv("FAIL");
	char *end;

	if (fail == NULL || strtoul(fail, &end, 16) != (request & 0xffffffff) || *end != ':')
		return 0;
	return atoi(end + 1);
}

int
ioctl(int fd, unsigned long request, ...)
{
	int (*real)(int, unsigned long, void *);
	const char *cap = getenv("NO_CAP");
	void *found = dlsym(RTLD_NEXT, "ioctl"), *arg;
	int code = fails(request);
	va_list ap;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	memcpy(&real, &found, sizeof(real));
	if (request == KVM_CHECK_EXTENSION && cap != NULL && strtoul(cap, NULL, 0) == (unsigned long)arg)
		return 0;
	if (code == 0)
		return real(fd, request, arg);
	errno = code;
	return -1;
}
