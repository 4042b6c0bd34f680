/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/program.h"

#include <link.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* The segments that nobody may write to; the last page of one may hold what follows it. */
static int
trim(struct dl_phdr_info *info, size_t size, void *arg)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	(void)size;
	(void)arg;
	if (info->dlpi_name[0] == '\0' && info->dlpi_addr == 0)
		return 0; /* linked to a fixed place, and maybe the kernel's own page of functions */
	for (unsigned n = 0; n < info->dlpi_phnum; n++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[n];
		uintptr_t from = (uintptr_t)(info->dlpi_addr + p->p_vaddr), end = from + p->p_filesz;

		from = (from + page - 1) & ~(page - 1);
		end &= ~(page - 1);
		if (p->p_type == PT_LOAD && !(p->p_flags & PF_W) && end > from)
			(void)madvise((void *)from, end - from, MADV_DONTNEED);
	}
	return 0;
}

void
program_trim(void)
{
	dl_iterate_phdr(trim, NULL);
}
