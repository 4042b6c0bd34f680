/* SPDX-License-Identifier: BSD-2-Clause */
/* Faults of the remapping unit: records and status (7.2, 11.4.9), and its two events (7.3, 11.4.10, 11.4.8).
 */
#include "dev/chipset/vtd_internal.h"

#include "base/log.h"

enum { FSTS_ANY = FSTS_PFO | FSTS_PPF | FSTS_IQE };
enum { FRR_HI_TYPE_READ = 62, FRR_HI_REASON = 32 };

/*
 * The unit's own messages are not remapped (5.1.6). With EIME the upper address has the destination's bits
 * 31:8 (5.1.7).
 */
static void
send(struct vtd *v, const uint32_t ev[EV_REGS])
{
	struct vtd_message m = {
	    .dest = (uint32_t)bits(ev[EV_ADDR], 12, 8) | (ev[EV_UADDR] & 0xffffff00),
	    .wide = true,
	    .logical = (ev[EV_ADDR] >> 2 & 1) != 0,
	    .mode = (uint8_t)bits(ev[EV_DATA], 8, 3),
	    .vector = (uint8_t)ev[EV_DATA],
	};

	if ((v->st.irt & IRTA_EIME) == 0)
		(void)v->w.msi(v->w.ctx, (uint64_t)ev[EV_UADDR] << 32 | ev[EV_ADDR], ev[EV_DATA]);
	else if (ev[EV_ADDR] >> 20 == 0xfee)
		(void)v->w.message(v->w.ctx, &m);
}

static void
flush(struct vtd *v, uint32_t ev[EV_REGS])
{
	if ((ev[EV_CTL] & EV_IP) == 0 || (ev[EV_CTL] & EV_IM) != 0)
		return;
	ev[EV_CTL] &= ~(uint32_t)EV_IP;
	send(v, ev);
}

void
vtd_event(struct vtd *v, uint32_t ev[EV_REGS])
{
	ev[EV_CTL] |= (uint32_t)EV_IP;
	flush(v, ev);
}

void
vtd_event_control(struct vtd *v, uint32_t ev[EV_REGS], uint32_t val)
{
	ev[EV_CTL] = (ev[EV_CTL] & ~(uint32_t)EV_IM) | (val & (uint32_t)EV_IM);
	flush(v, ev);
}

/* Only the first condition is an event; more come with the same interrupt (7.3). */
void
vtd_fault_status(struct vtd *v, uint32_t bit)
{
	bool first = (v->st.fsts & FSTS_ANY) == 0;

	v->st.fsts |= bit;
	if (first)
		vtd_event(v, v->st.fe);
}

static void
withdraw(struct vtd *v)
{
	if ((v->st.fsts & FSTS_ANY) == 0)
		v->st.fe[EV_CTL] &= ~(uint32_t)EV_IP;
}

void
vtd_fault_clear(struct vtd *v, uint32_t mask)
{
	v->st.fsts &= ~(mask & (FSTS_PFO | FSTS_IQE));
	withdraw(v);
}

void
vtd_frr_clear(struct vtd *v, unsigned n)
{
	uint64_t any = 0;

	v->st.frr_hi[n] &= ~FRR_F;
	for (unsigned i = 0; i < VTD_FRRS; i++)
		any |= v->st.frr_hi[i];
	if ((any & FRR_F) == 0)
		v->st.fsts &= ~(uint32_t)FSTS_PPF;
	withdraw(v);
}

void
vtd_fault(struct vtd *v, uint16_t sid, enum vtd_reason reason, uint64_t info, bool read)
{
	unsigned n = v->st.next_frr;

	log_guest("vtd: request of %02x:%02x.%u blocked: reason %#x, %#llx", sid >> 8, sid >> 3 & 0x1f,
		  sid & 7, (unsigned)reason, (unsigned long long)info);
	if ((v->st.fsts & FSTS_PFO) != 0)
		return;
	if ((v->st.frr_hi[n] & FRR_F) != 0) {
		vtd_fault_status(v, FSTS_PFO);
		return;
	}
	v->st.frr_lo[n] = info & ~0xfffull;
	v->st.frr_hi[n] =
	    FRR_F | (uint64_t)read << FRR_HI_TYPE_READ | (uint64_t)reason << FRR_HI_REASON | sid;
	v->st.next_frr = (n + 1) % VTD_FRRS;
	if ((v->st.fsts & FSTS_PPF) == 0)
		v->st.fsts = (v->st.fsts & ~(uint32_t)FSTS_FRI) | n << 8;
	vtd_fault_status(v, FSTS_PPF);
}
