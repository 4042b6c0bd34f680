/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The invalidation queue (6.5.2): descriptors of 16 bytes. There is nothing to invalidate, but a descriptor
 * that is not a legal one stops the queue, and waiting is told when it is over.
 */
#include "base/log.h"
#include "dev/chipset/vtd_internal.h"

enum { DESC_BYTES = 16, ICS_IWC = 1 };
enum { D_CONTEXT = 1, D_IOTLB = 2, D_IEC = 4, D_WAIT = 5 };
enum { G_PAGES = 3 };
#define WAIT_IF BIT(4)
#define WAIT_SW BIT(5)

/* What must be 0 in each type: lower and upper half. */
static const struct {
	uint64_t lo, hi;
} reserved[] = {
    [D_CONTEXT] = {0xfffc00000000ffc0ull, UINT64_MAX},
    [D_IOTLB] = {0xffffffff0000ff00ull, 0xf80},
    [D_IEC] = {0xffff000007ffffe0ull, UINT64_MAX},
    [D_WAIT] = {0xffffff00ull, 3},
};

static bool
legal(const uint64_t d[2])
{
	unsigned type = d[0] & 0xf, granularity = (unsigned)bits(d[0], 4, 2);

	if (type >= ARRAY_LEN(reserved) ||
	    (type != D_CONTEXT && type != D_IOTLB && type != D_IEC && type != D_WAIT) ||
	    (d[0] & reserved[type].lo) != 0 || (d[1] & reserved[type].hi) != 0)
		return false;
	if (type == D_IOTLB && granularity == G_PAGES && (d[1] & 0x3f) > VTD_MAMV)
		return false;
	return (type != D_CONTEXT && type != D_IOTLB) || granularity != 0;
}

static void
wait_done(struct vtd *v, const uint64_t d[2])
{
	uint32_t status = (uint32_t)(d[0] >> 32);

	if ((d[0] & WAIT_SW) != 0 && !gm_write(v->w.mem, d[1], &status, sizeof(status)))
		log_guest("vtd: no memory for a wait's status at %#llx", (unsigned long long)d[1]);
	if ((d[0] & WAIT_IF) == 0 || (v->st.ics & ICS_IWC) != 0)
		return;
	v->st.ics |= ICS_IWC;
	vtd_event(v, v->st.ie);
}

void
vtd_queue_run(struct vtd *v)
{
	uint64_t bytes = 4096ull << (v->st.iqa & 7), base = v->st.iqa & ~0xfffull, d[2];

	if ((v->st.gsts & G_QIE) == 0 || (v->st.fsts & FSTS_IQE) != 0)
		return;
	if (v->st.iqt >= bytes || v->st.iqh >= bytes) {
		vtd_fault_status(v, FSTS_IQE);
		return;
	}
	/* Ends: the head takes each place once at most before it is where the tail is. */
	while (v->st.iqh != v->st.iqt) {
		if (!gm_read(v->w.mem, base + v->st.iqh, d, sizeof(d)) || !legal(d)) {
			log_guest("vtd: illegal descriptor in the invalidation queue at %#llx",
				  (unsigned long long)v->st.iqh);
			vtd_fault_status(v, FSTS_IQE);
			return;
		}
		if ((d[0] & 0xf) == D_WAIT)
			wait_done(v, d);
		v->st.iqh = (v->st.iqh + DESC_BYTES) & (bytes - 1);
	}
}
