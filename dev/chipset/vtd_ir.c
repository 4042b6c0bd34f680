/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interrupt remapping (5.1): a message in remappable format carries an index into the table of entries
 * (9.10). In compatibility format it passes, or is blocked.
 *
 * Address, remappable: 19:5 handle 14:0, 4 one, 3 SHV, 2 handle 15. With SHV, data 15:0 are added to the
 * handle; without it, data says nothing.
 */
#include "dev/chipset/vtd_internal.h"

enum { ADDR_REMAPPABLE = 1 << 4, ADDR_SHV = 1 << 3, IRTE_BYTES = 16, MODE_FIXED = 0, MODE_LOWEST = 1 };
enum { SVT_NONE = 0, SVT_ID = 1, SVT_BUS = 2, SVT_RESERVED = 3 };
enum { NOT_CHECKED = -1 }; /* a source without an id */

#define IRTE_P		 BIT(0)
#define IRTE_FPD	 BIT(1)
#define IRTE_DM		 BIT(2)
#define IRTE_RH		 BIT(3)
#define IRTE_TM		 BIT(4)
#define IRTE_RESERVED	 0xff00f000ull /* IM among them: no posting here */
#define XAPIC_RESERVED	 0xffff00ff00000000ull
#define IRTE_HI_RESERVED 0xfffffffffff00000ull

static bool
has_reserved(const struct vtd *v, const uint64_t e[2])
{
	if ((v->st.irt & IRTA_EIME) == 0 && (e[0] & XAPIC_RESERVED) != 0)
		return true;
	return (e[0] & IRTE_RESERVED) != 0 || (e[1] & IRTE_HI_RESERVED) != 0 ||
	       bits(e[1], 18, 2) == SVT_RESERVED;
}

/* SVT, SQ and SID of the entry against the requester (9.10). */
static bool
source_fits(uint64_t hi, int sid)
{
	static const uint16_t ignored[] = {0, 4, 6, 7}; /* bits of the function number, by SQ */
	unsigned want = hi & 0xffff;

	if (sid == NOT_CHECKED)
		return true;
	switch (bits(hi, 18, 2)) {
	case SVT_ID:
		return (((unsigned)sid ^ want) & ~(unsigned)ignored[bits(hi, 16, 2)] & 0xffff) == 0;
	case SVT_BUS:
		return sid >> 8 >= (int)(want >> 8) && sid >> 8 <= (int)(want & 0xff);
	default:
		return true;
	}
}

static struct vtd_message
message_of(const struct vtd *v, uint64_t lo)
{
	bool wide = (v->st.irt & IRTA_EIME) != 0;
	struct vtd_message m = {
	    .dest = (uint32_t)(wide ? lo >> 32 : bits(lo, 40, 8)),
	    .wide = wide,
	    .logical = (lo & IRTE_DM) != 0,
	    .level = (lo & IRTE_TM) != 0,
	    .mode = (uint8_t)bits(lo, 5, 3),
	    .vector = (uint8_t)(lo >> 16),
	};

	if ((lo & IRTE_RH) != 0 && m.logical && m.mode == MODE_FIXED)
		m.mode = MODE_LOWEST;
	return m;
}

struct lookup {
	uint32_t index;
	uint64_t entry[2];
	bool quiet; /* the entry wants no record */
};

static enum vtd_reason
look_up(const struct vtd *v, int sid, uint32_t addr, uint32_t data, struct lookup *l)
{
	bool shv = (addr & ADDR_SHV) != 0;

	l->index = (uint32_t)(bits(addr, 5, 15) | bits(addr, 2, 1) << 15);
	if (shv && data >> 16 != 0)
		return VTD_IR_RESERVED;
	l->index += shv ? data : 0;
	if (l->index >= 2u << (v->st.irt & 0xf))
		return VTD_IR_INDEX;
	if (!gm_read(v->w.mem, (v->st.irt & ~0xfffull) + (uint64_t)l->index * IRTE_BYTES, l->entry,
		     sizeof(l->entry)))
		return VTD_IRTE_ACCESS;
	l->quiet = (l->entry[0] & IRTE_FPD) != 0;
	if ((l->entry[0] & IRTE_P) == 0)
		return VTD_IRTE_NOT_PRESENT;
	if (has_reserved(v, l->entry))
		return VTD_IRTE_RESERVED;
	return source_fits(l->entry[1], sid) ? VTD_OK : VTD_IR_SOURCE;
}

/* Lock held, remapping on. The message, or what forbids it. */
static enum vtd_reason
remap(struct vtd *v, int sid, uint32_t addr, uint32_t data, struct vtd_message *m)
{
	struct lookup l = {0};
	enum vtd_reason reason = look_up(v, sid, addr, data, &l);

	if (reason == VTD_OK)
		*m = message_of(v, l.entry[0]);
	else if (!l.quiet)
		vtd_fault(v, sid == NOT_CHECKED ? 0 : (uint16_t)sid, reason, (uint64_t)l.index << 48, false);
	return reason;
}

/* In x2APIC mode nothing passes; else what CFIS says (5.1.4). */
static bool
compat_blocked(struct vtd *v, int sid)
{
	if ((v->st.irt & IRTA_EIME) == 0 && (v->st.gsts & G_CFI) != 0)
		return false;
	vtd_fault(v, sid == NOT_CHECKED ? 0 : (uint16_t)sid, VTD_IR_COMPAT, 0, false);
	return true;
}

static bool
deliver(struct vtd *v, int sid, uint64_t addr, uint32_t data)
{
	bool remappable = (addr & ADDR_REMAPPABLE) != 0, on, blocked = false;
	struct vtd_message m;

	pthread_mutex_lock(&v->lock);
	on = (v->st.gsts & G_IRE) != 0 && addr >> 20 == 0xfee;
	if (on && remappable)
		blocked = remap(v, sid, (uint32_t)addr, data, &m) != VTD_OK;
	else if (on)
		blocked = compat_blocked(v, sid);
	pthread_mutex_unlock(&v->lock);
	if (blocked)
		return false;
	return on && remappable ? v->w.message(v->w.ctx, &m) : v->w.msi(v->w.ctx, addr, data);
}

void
vtd_pci_msi(void *vtd, uint16_t sid, uint64_t addr, uint32_t data)
{
	(void)deliver(vtd, sid, addr, data);
}

bool
vtd_ioapic_msi(void *vtd, uint32_t addr, uint32_t data)
{
	return deliver(vtd, NOT_CHECKED, addr, data);
}
