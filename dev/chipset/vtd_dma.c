/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Translation of memory requests: root entry, context entry (9.1, 9.3), second-level paging entries (9.8).
 * Tables are read anew for each request. An entry is copied once and checked in the order of chapter 7:
 * present, reserved bits, permission.
 */
#include "dev/chipset/vtd_internal.h"

enum { ENTRY_BYTES = 16, PAGE_BITS = 12, LEVEL_BITS = 9 };
enum { CONTEXT_FPD = 1 << 1, TT_TRANSLATE = 0, TT_PASS = 2 };
enum { SL_R = 1 << 0, SL_W = 1 << 1, SL_PS = 1 << 7 };
#define CONTEXT_LO_RESERVED 0xff0ull
#define CONTEXT_HI_RESERVED 0xffffffffff000080ull
#define TABLE_ADDR	    0x000ffffffffff000ull

struct walk {
	struct vtd *v;
	uint64_t addr;
	bool write;
	uint64_t gpa;  /* result */
	uint64_t page; /* bytes of the page that it lies in */
	bool quiet;    /* the context entry wants no record */
};

/* Address bits that no memory has. */
static uint64_t
beyond(const struct vtd *v, uint64_t upto)
{
	return upto & ~(BIT(v->cfg.maxphyaddr) - 1);
}

/* Levels that a context entry's address width stands for (9.3); 0: none that we offer. */
static unsigned
levels(uint64_t context_hi)
{
	switch (context_hi & 7) {
	case 1:
		return 3;
	case 2:
		return 4;
	default:
		return 0;
	}
}

/* Super pages are at levels 2 and 3; above, the bit is reserved, at level 1 it is ignored. */
static bool
is_leaf(uint64_t e, unsigned level)
{
	return level == 1 || (level <= 3 && (e & SL_PS) != 0);
}

static enum vtd_reason
walk_pages(struct walk *k, uint64_t table, unsigned level)
{
	uint64_t e, reserved;

	for (;; level--) {
		unsigned shift = PAGE_BITS + LEVEL_BITS * (level - 1);

		if (!gm_read(k->v->w.mem, table + 8 * bits(k->addr, shift, LEVEL_BITS), &e, sizeof(e)))
			return VTD_TABLE_ACCESS;
		if ((e & (k->write ? SL_W : SL_R)) == 0)
			return k->write ? VTD_NO_WRITE : VTD_NO_READ;
		reserved = beyond(k->v, TABLE_ADDR) | (level == 4 ? SL_PS : 0);
		if (is_leaf(e, level))
			reserved |= (BIT(shift) - 1) & TABLE_ADDR;
		if ((e & reserved) != 0)
			return VTD_TABLE_RESERVED;
		if (is_leaf(e, level)) {
			k->page = BIT(shift);
			k->gpa = (e & TABLE_ADDR) | (k->addr & (BIT(shift) - 1));
			return VTD_OK;
		}
		table = e & TABLE_ADDR;
	}
}

static enum vtd_reason
walk_context(struct walk *k, uint64_t table, uint8_t devfn)
{
	uint64_t c[2];
	unsigned type, n;

	if (!gm_read(k->v->w.mem, table + (uint64_t)devfn * ENTRY_BYTES, c, sizeof(c)))
		return VTD_CONTEXT_ACCESS;
	k->quiet = (c[0] & CONTEXT_FPD) != 0;
	if ((c[0] & 1) == 0)
		return VTD_CONTEXT_NOT_PRESENT;
	if ((c[0] & (CONTEXT_LO_RESERVED | beyond(k->v, ~0xfffull))) != 0 ||
	    (c[1] & CONTEXT_HI_RESERVED) != 0)
		return VTD_CONTEXT_RESERVED;
	type = (unsigned)bits(c[0], 2, 2);
	n = levels(c[1]);
	if (n == 0 || (type != TT_TRANSLATE && type != TT_PASS))
		return VTD_CONTEXT_INVALID;
	if (k->addr >> (type == TT_PASS ? VTD_MGAW : PAGE_BITS + LEVEL_BITS * n) != 0)
		return VTD_BEYOND_WIDTH;
	if (type == TT_TRANSLATE)
		return walk_pages(k, c[0] & TABLE_ADDR, n);
	k->gpa = k->addr;
	k->page = BIT(PAGE_BITS);
	return VTD_OK;
}

static enum vtd_reason
walk(struct walk *k, uint16_t sid)
{
	uint64_t r[2];

	if (!gm_read(k->v->w.mem, k->v->st.root + (uint64_t)(sid >> 8) * ENTRY_BYTES, r, sizeof(r)))
		return VTD_ROOT_ACCESS;
	if ((r[0] & 1) == 0)
		return VTD_ROOT_NOT_PRESENT;
	if ((r[0] & (0xffe | beyond(k->v, ~0xfffull))) != 0 || r[1] != 0)
		return VTD_ROOT_RESERVED;
	return walk_context(k, r[0] & ~0xfffull, (uint8_t)sid);
}

bool
vtd_translate(void *vtd, uint16_t sid, uint64_t addr, bool write, uint64_t *gpa, uint64_t *len)
{
	struct vtd *v = vtd;
	struct walk k = {.v = v, .addr = addr, .write = write};
	enum vtd_reason reason;

	pthread_mutex_lock(&v->lock);
	if ((v->st.gsts & G_TE) == 0) {
		pthread_mutex_unlock(&v->lock);
		*gpa = addr;
		return true;
	}
	reason = walk(&k, sid);
	if (reason != VTD_OK && !k.quiet)
		vtd_fault(v, sid, reason, addr, !write);
	pthread_mutex_unlock(&v->lock);
	if (reason != VTD_OK)
		return false;
	*gpa = k.gpa;
	*len = MIN(*len, k.page - (addr & (k.page - 1)));
	return true;
}
