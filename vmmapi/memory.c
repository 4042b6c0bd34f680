/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory: segments, their places, and the dirty log. */
#include "vmmapi/internal.h"

#include <errno.h>
#include <string.h>
#include "base/util.h"

enum { PAGE = 4096 };

/* ---- segments ---- */

int
vm_alloc_memseg(struct vmctx *ctx, int segid, size_t bytes, const char *name)
{
	struct err err = {0};

	if (ctx == NULL)
		return -EINVAL;
	if (segid < 0 || segid >= VM_SEGMENTS || bytes == 0 || bytes % PAGE != 0)
		return vmctx_fail(ctx, EINVAL, "%s: segment %d of %zu bytes (0 to %d; whole pages)",
				  ctx->name, segid, bytes, VM_SEGMENTS - 1);
	if (ctx->seg[segid] != NULL)
		return vmctx_fail(ctx, EEXIST, "%s: segment %d is there already", ctx->name, segid);
	ctx->seg[segid] = memobj_create(name != NULL ? name : ctx->name, bytes, &err);
	return ctx->seg[segid] != NULL ? 0 : vmctx_fail_err(ctx, &err);
}

int
vm_mmap_memseg(struct vmctx *ctx, vm_paddr_t gpa, int segid, uint64_t off, size_t len, int prot)
{
	enum gm_kind kind = prot & VM_PROT_WRITE ? GM_RAM : GM_ROM;
	struct err err = {0};

	if (ctx == NULL)
		return -EINVAL;
	if (segid < 0 || segid >= VM_SEGMENTS || ctx->seg[segid] == NULL)
		return vmctx_fail(ctx, ENOENT, "%s: no segment %d", ctx->name, segid);
	if (!(prot & VM_PROT_READ) || (prot & ~(VM_PROT_READ | VM_PROT_WRITE | VM_PROT_EXEC)) != 0)
		return vmctx_fail(ctx, EINVAL, "%s: protection %#x (VM_PROT_READ at least)", ctx->name,
				  (unsigned)prot);
	if (ctx->vm != NULL)
		return vmctx_fail(ctx, EBUSY, "%s: memory is fixed once there is a vCPU", ctx->name);
	if (gpmap_map(ctx->mem, gpa, len, ctx->seg[segid], off, kind, &err) != 0)
		return vmctx_fail_err(ctx, &err);
	return 0;
}

int
vm_setup_memory(struct vmctx *ctx, size_t bytes, enum vm_mmap_style style)
{
	const int all = VM_PROT_READ | VM_PROT_WRITE | VM_PROT_EXEC;
	vm_paddr_t high_base;
	size_t low, high;
	int r;

	if (ctx == NULL)
		return -EINVAL;
	if (style != VM_MMAP_NONE && style != VM_MMAP_ALL)
		return vmctx_fail(ctx, EINVAL, "%s: no such style %d", ctx->name, (int)style);
	r = vm_alloc_memseg(ctx, VM_SYSMEM, bytes, NULL);
	if (r != 0)
		return r;
	md_memory_split(bytes, &low, &high, &high_base);
	ctx->lowmem = low;
	ctx->highmem = high;
	if (style == VM_MMAP_NONE)
		return 0;
	r = vm_mmap_memseg(ctx, 0, VM_SYSMEM, 0, low, all);
	return r != 0 || high == 0 ? r : vm_mmap_memseg(ctx, high_base, VM_SYSMEM, low, high, all);
}

size_t
vm_get_lowmem_size(const struct vmctx *ctx)
{
	return ctx != NULL ? ctx->lowmem : 0;
}

size_t
vm_get_highmem_size(const struct vmctx *ctx)
{
	return ctx != NULL ? ctx->highmem : 0;
}

/* ---- access ---- */

void *
vm_map_gpa(struct vmctx *ctx, vm_paddr_t gpa, size_t len)
{
	const struct gm_range *r = ctx != NULL ? gpmap_find(ctx->mem, gpa) : NULL;

	if (r == NULL || !range_fits(gpa - r->gpa, len, r->len))
		return NULL;
	return r->hva + (gpa - r->gpa);
}

vm_paddr_t
vm_rev_map_gpa(struct vmctx *ctx, const void *addr)
{
	uintptr_t at = (uintptr_t)addr;

	for (size_t n = 0; ctx != NULL && n < gpmap_count(ctx->mem); n++) {
		const struct gm_range *r = gpmap_get(ctx->mem, n);

		if (at >= (uintptr_t)r->hva && at - (uintptr_t)r->hva < r->len)
			return r->gpa + (at - (uintptr_t)r->hva);
	}
	return ~(vm_paddr_t)0;
}

int
vm_read_gpa(struct vmctx *ctx, vm_paddr_t gpa, void *buf, size_t len)
{
	if (ctx == NULL || buf == NULL)
		return -EINVAL;
	if (!gm_read(ctx->mem, gpa, buf, len))
		return vmctx_fail(ctx, EFAULT, "%s: no memory at %#llx+%#zx", ctx->name,
				  (unsigned long long)gpa, len);
	return 0;
}

int
vm_write_gpa(struct vmctx *ctx, vm_paddr_t gpa, const void *buf, size_t len)
{
	if (ctx == NULL || buf == NULL)
		return -EINVAL;
	if (!gm_load(ctx->mem, gpa, buf, len))
		return vmctx_fail(ctx, EFAULT, "%s: no memory at %#llx+%#zx", ctx->name,
				  (unsigned long long)gpa, len);
	return 0;
}

/* ---- the dirty log ---- */

int
vm_dirty_log_start(struct vmctx *ctx)
{
	struct err err = {0};
	int r;

	if (ctx == NULL)
		return -EINVAL;
	r = vmctx_fix(ctx);
	if (r != 0)
		return r;
	if (ctx->dirty_log)
		return vmctx_fail(ctx, EALREADY, "%s: the dirty log runs already", ctx->name);
	if (ctx->ops->dirty_start(ctx->vm, &err) != 0)
		return vmctx_fail_err(ctx, &err);
	ctx->dirty_log = true;
	return 0;
}

int
vm_dirty_log_fetch(struct vmctx *ctx, vm_paddr_t gpa, uint8_t *bitmap, size_t bytes)
{
	struct err err = {0};

	if (ctx == NULL || bitmap == NULL)
		return -EINVAL;
	if (!ctx->dirty_log)
		return vmctx_fail(ctx, EINVAL, "%s: no dirty log (vm_dirty_log_start() first)", ctx->name);
	if (gpa % PAGE != 0 || bytes > SIZE_MAX / 8 / PAGE)
		return vmctx_fail(ctx, EINVAL, "%s: bad range of the dirty log", ctx->name);
	memset(bitmap, 0, bytes);
	if (ctx->ops->dirty_fetch(ctx->vm, gpa, bitmap, bytes, &err) != 0)
		return vmctx_fail_err(ctx, &err);
	return 0;
}

int
vm_dirty_log_stop(struct vmctx *ctx)
{
	if (ctx == NULL)
		return -EINVAL;
	if (!ctx->dirty_log)
		return vmctx_fail(ctx, EINVAL, "%s: no dirty log", ctx->name);
	ctx->ops->dirty_stop(ctx->vm);
	ctx->dirty_log = false;
	return 0;
}
