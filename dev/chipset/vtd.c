/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The remapping unit's registers (chapter 11) and its life. Registers are dwords here: a quadword access is
 * its lower half, then its upper one, where commands have their start bit.
 */
#include "dev/chipset/vtd.h"

#include <errno.h>
#include <stdlib.h>

#include "dev/bus.h"
#include "dev/chipset/vtd_internal.h"

enum {
	VTD_LEN = 0x1000,
	R_VER = 0x00,
	R_CAP = 0x08,
	R_ECAP = 0x10,
	R_GCMD = 0x18,
	R_GSTS = 0x1c,
	R_RTADDR = 0x20,
	R_CCMD = 0x28,
	R_FSTS = 0x34,
	R_FECTL = 0x38,
	R_IQH = 0x80,
	R_IQT = 0x88,
	R_IQA = 0x90,
	R_ICS = 0x9c,
	R_IECTL = 0xa0,
	R_IRTA = 0xb8,
	R_IOTLB = VTD_IRO + 8,
	R_FRR_END = VTD_FRO + 16 * VTD_FRRS,
};

static const struct field vtd_fields[] = {
    FIELD(1, struct vtd_st, rtaddr, FIELD_U64),
    FIELD(2, struct vtd_st, irta, FIELD_U64),
    FIELD(3, struct vtd_st, root, FIELD_U64),
    FIELD(4, struct vtd_st, irt, FIELD_U64),
    FIELD(5, struct vtd_st, ccmd, FIELD_U64),
    FIELD(6, struct vtd_st, iotlb, FIELD_U64),
    FIELD(7, struct vtd_st, iqh, FIELD_U64),
    FIELD(8, struct vtd_st, iqt, FIELD_U64),
    FIELD(9, struct vtd_st, iqa, FIELD_U64),
    FIELD_ARRAY(10, struct vtd_st, frr_lo, FIELD_U64, VTD_FRRS),
    FIELD_ARRAY(11, struct vtd_st, frr_hi, FIELD_U64, VTD_FRRS),
    FIELD(12, struct vtd_st, gsts, FIELD_U32),
    FIELD(13, struct vtd_st, fsts, FIELD_U32),
    FIELD(14, struct vtd_st, ics, FIELD_U32),
    FIELD_ARRAY(15, struct vtd_st, fe, FIELD_U32, EV_REGS),
    FIELD_ARRAY(16, struct vtd_st, ie, FIELD_U32, EV_REGS),
    FIELD(17, struct vtd_st, next_frr, FIELD_U32),
};

static const struct field_table vtd_table = {
    .name = "vtd",
    .version = 1,
    .size = sizeof(struct vtd_st),
    .count = ARRAY_LEN(vtd_fields),
    .fields = vtd_fields,
};

/* ---- what is offered ---- */

#define VERSION 0x10u
/* ND 16 bits, SAGAW 39 and 48, MGAW, ZLR, FRO, SLLPS 2M and 1G, PSI, NFR, MAMV, DWD, DRD. */
#define CAP                                                                                            \
	(6ull | 6ull << 8 | (VTD_MGAW - 1ull) << 16 | BIT(22) | (VTD_FRO / 16ull) << 24 | 3ull << 34 | \
	 BIT(39) | (VTD_FRRS - 1ull) << 40 | (uint64_t)VTD_MAMV << 48 | 3ull << 54)
/* C, QI, IR, PT, SC, IRO, MHMV 15; EIM is bit 4. */
#define ECAP (BIT(0) | BIT(1) | BIT(3) | BIT(6) | BIT(7) | (VTD_IRO / 16ull) << 8 | 15ull << 20)

static uint64_t
ecap(const struct vtd *v)
{
	return ECAP | (v->cfg.eim ? BIT(4) : 0);
}

/* ---- plain registers: memory with a mask ---- */

static const struct plain {
	uint16_t off, at; /* in the page, in st */
	uint32_t writable;
} plain[] = {
    {R_GSTS, offsetof(struct vtd_st, gsts), 0},
    {R_RTADDR, offsetof(struct vtd_st, rtaddr), 0xfffff000},
    {R_RTADDR + 4, offsetof(struct vtd_st, rtaddr) + 4, 0xffffffff},
    {R_CCMD, offsetof(struct vtd_st, ccmd), 0xffffffff},
    {R_CCMD + 4, offsetof(struct vtd_st, ccmd) + 4, 0},
    {R_FSTS, offsetof(struct vtd_st, fsts), 0},
    {R_FECTL, offsetof(struct vtd_st, fe), 0},
    {R_FECTL + 4, offsetof(struct vtd_st, fe) + 4, 0xffff},
    {R_FECTL + 8, offsetof(struct vtd_st, fe) + 8, 0xfffffffc},
    {R_FECTL + 12, offsetof(struct vtd_st, fe) + 12, 0xffffffff},
    {R_IQH, offsetof(struct vtd_st, iqh), 0},
    {R_IQT, offsetof(struct vtd_st, iqt), 0x7fff0},
    {R_IQA, offsetof(struct vtd_st, iqa), 0xfffff007},
    {R_IQA + 4, offsetof(struct vtd_st, iqa) + 4, 0xffffffff},
    {R_ICS, offsetof(struct vtd_st, ics), 0},
    {R_IECTL, offsetof(struct vtd_st, ie), 0},
    {R_IECTL + 4, offsetof(struct vtd_st, ie) + 4, 0xffff},
    {R_IECTL + 8, offsetof(struct vtd_st, ie) + 8, 0xfffffffc},
    {R_IECTL + 12, offsetof(struct vtd_st, ie) + 12, 0xffffffff},
    {R_IRTA, offsetof(struct vtd_st, irta), 0xfffff80f},
    {R_IRTA + 4, offsetof(struct vtd_st, irta) + 4, 0xffffffff},
    {R_IOTLB, offsetof(struct vtd_st, iotlb), 0xffffffff},
    {R_IOTLB + 4, offsetof(struct vtd_st, iotlb) + 4, 0},
};

/* The register's place in st, or NULL. */
static uint32_t *
plain_at(struct vtd *v, uint64_t off, uint32_t *mask)
{
	for (size_t i = 0; i < ARRAY_LEN(plain); i++) {
		if (plain[i].off == off) {
			*mask = plain[i].writable;
			return (uint32_t *)((char *)&v->st + plain[i].at);
		}
	}
	return NULL;
}

static uint32_t
read_frr(const struct vtd *v, uint64_t off)
{
	unsigned n = (unsigned)off / 16;
	uint64_t half = (off & 8) != 0 ? v->st.frr_hi[n] : v->st.frr_lo[n];

	return (uint32_t)(half >> (8 * (off & 4)));
}

static uint32_t
read_dword(struct vtd *v, uint64_t off)
{
	uint32_t mask, *reg = plain_at(v, off, &mask);

	if (reg != NULL)
		return *reg;
	if (off >= VTD_FRO && off < R_FRR_END)
		return read_frr(v, off - VTD_FRO);
	switch (off) {
	case R_VER:
		return VERSION;
	case R_CAP:
		return (uint32_t)CAP;
	case R_CAP + 4:
		return (uint32_t)(CAP >> 32);
	case R_ECAP:
		return (uint32_t)ecap(v);
	case R_ECAP + 4:
		return (uint32_t)(ecap(v) >> 32);
	default:
		return 0;
	}
}

/* ---- commands ---- */

static void
write_gcmd(struct vtd *v, uint32_t val)
{
	const uint32_t modes = (uint32_t)(G_TE | G_QIE | G_IRE | G_CFI);
	bool queue = (v->st.gsts & G_QIE) != 0;

	if ((val & G_SRTP) != 0)
		v->st.root = v->st.rtaddr;
	if ((val & G_SIRTP) != 0)
		v->st.irt = v->st.irta;
	v->st.gsts = (v->st.gsts & ~modes) | (val & modes) | (val & (uint32_t)(G_SRTP | G_SIRTP));
	if (queue != ((val & G_QIE) != 0))
		v->st.iqh = 0;
	if (!queue)
		vtd_queue_run(v);
}

/*
 * The upper half of CCMD (bit 31 ICC, 30:29 granularity, done in 28:27) and of IOTLB (31 IVT, 29:28, 26:25).
 * While the queue is on such a command is not carried out: no granularity is reported.
 */
static uint32_t
command_done(const struct vtd *v, uint32_t val, unsigned asked, unsigned done)
{
	uint32_t granularity = (v->st.gsts & G_QIE) == 0 ? (uint32_t)bits(val, asked, 2) : 0;

	return (val & ~(1u << 31 | 3u << done)) | granularity << done;
}

static void
write_dword(struct vtd *v, uint64_t off, uint32_t val)
{
	uint32_t mask = 0, *reg = plain_at(v, off, &mask);

	if (reg != NULL)
		*reg = (*reg & ~mask) | (val & mask);
	switch (off) {
	case R_GCMD:
		write_gcmd(v, val);
		break;
	case R_CCMD + 4:
		*reg = command_done(v, val, 29, 27);
		break;
	case R_IOTLB + 4:
		*reg = command_done(v, val, 28, 25);
		break;
	case R_FSTS:
		vtd_fault_clear(v, val);
		vtd_queue_run(v); /* IQE may have stopped it */
		break;
	case R_FECTL:
		vtd_event_control(v, v->st.fe, val);
		break;
	case R_IQT:
		vtd_queue_run(v);
		break;
	case R_ICS:
		v->st.ics &= ~(val & 1);
		v->st.ie[EV_CTL] &= v->st.ics != 0 ? UINT32_MAX : ~(uint32_t)EV_IP;
		break;
	case R_IECTL:
		vtd_event_control(v, v->st.ie, val);
		break;
	case R_IRTA:
		v->st.irta &= v->cfg.eim ? UINT64_MAX : ~(uint64_t)IRTA_EIME;
		break;
	default:
		if (off >= VTD_FRO && off < R_FRR_END && (off & 0xf) == 12 && val >> 31 != 0)
			vtd_frr_clear(v, (unsigned)(off - VTD_FRO) / 16);
		break;
	}
}

/* ---- accesses ---- */

static uint64_t
vtd_read(void *dev, uint64_t off, unsigned size)
{
	struct vtd *v = dev;
	uint64_t val;

	if ((off & (size - 1)) != 0)
		return size_mask(size);
	pthread_mutex_lock(&v->lock);
	val = read_dword(v, off);
	if (size == 8)
		val |= (uint64_t)read_dword(v, off + 4) << 32;
	pthread_mutex_unlock(&v->lock);
	return val;
}

static void
vtd_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct vtd *v = dev;

	if ((off & (size - 1)) != 0)
		return;
	pthread_mutex_lock(&v->lock);
	write_dword(v, off, (uint32_t)val);
	if (size == 8)
		write_dword(v, off + 4, (uint32_t)(val >> 32));
	pthread_mutex_unlock(&v->lock);
}

int
vtd_map(struct vtd *v, struct io_bus *mmio, struct err *err)
{
	const struct io_region r = {"vtd", v->cfg.base, VTD_LEN, IO_W4 | IO_W8, vtd_read, vtd_write, v};

	return io_bus_add(mmio, &r, err);
}

/* ---- life ---- */

static void
vtd_reset(void *dev)
{
	struct vtd *v = dev;

	pthread_mutex_lock(&v->lock);
	memset(&v->st, 0, sizeof(v->st));
	v->st.fe[EV_CTL] = v->st.ie[EV_CTL] = (uint32_t)EV_IM;
	pthread_mutex_unlock(&v->lock);
}

/* Addresses may be any: what they lead to is checked when it is used. */
static int
vtd_post_load(void *dev, struct err *err)
{
	const struct vtd *v = dev;
	const struct vtd_st *s = &v->st;
	const uint32_t gsts = (uint32_t)(G_TE | G_SRTP | G_QIE | G_IRE | G_SIRTP | G_CFI);
	const uint32_t control = (uint32_t)(EV_IM | EV_IP);

	if (s->next_frr >= VTD_FRRS || (s->gsts & ~gsts) != 0 || s->ics > 1 || (s->iqt & ~0x7fff0ull) != 0 ||
	    (s->iqh & ~0x7fff0ull) != 0 || (s->fe[EV_CTL] & ~control) != 0 ||
	    (s->ie[EV_CTL] & ~control) != 0 ||
	    (s->fsts & ~(uint32_t)(FSTS_PFO | FSTS_PPF | FSTS_IQE | FSTS_FRI)) != 0 ||
	    (!v->cfg.eim && ((s->irta | s->irt) & IRTA_EIME) != 0))
		return err_set(err, EINVAL, "vtd: impossible state (damaged snapshot)");
	return 0;
}

static void *
vtd_st(void *dev)
{
	return &((struct vtd *)dev)->st;
}

static void
vtd_copy_st(void *dev, void *to)
{
	struct vtd *v = dev;

	pthread_mutex_lock(&v->lock);
	*(struct vtd_st *)to = v->st;
	pthread_mutex_unlock(&v->lock);
}

static void
vtd_destroy(void *dev)
{
	struct vtd *v = dev;

	if (v == NULL)
		return;
	pthread_mutex_destroy(&v->lock);
	free(v);
}

struct vtd *
vtd_create(const struct vtd_cfg *cfg, const struct vtd_wires *w, struct err *err)
{
	struct vtd *v = calloc(1, sizeof(*v));

	if (v == NULL) {
		err_set(err, ENOMEM, "vtd: no memory");
		return NULL;
	}
	v->cfg = *cfg;
	if (v->cfg.base == 0)
		v->cfg.base = VTD_DEFAULT_BASE;
	if (v->cfg.maxphyaddr == 0)
		v->cfg.maxphyaddr = 52;
	v->w = *w;
	pthread_mutex_init(&v->lock, NULL);
	vtd_reset(v);
	return v;
}

const struct device_ops vtd_device_ops = {
    .type = "vtd",
    .destroy = vtd_destroy,
    .reset = vtd_reset,
    .state = &vtd_table,
    .st = vtd_st,
    .post_load = vtd_post_load,
    .copy_st = vtd_copy_st,
};
