/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Q35 host bridge and ICH9 LPC bridge. Registers that firmware locks before an operating
 * system runs (PCIEXBAR, PMBASE, decode ranges) read as set and ignore writes; SMM and the
 * root complex register block do not exist (RCBA reads disabled).
 *
 * One lock guards the steering; PIRQ routes are copied out of configuration space when
 * they are written, so that a line change never needs the configuration lock.
 */
#include "dev/pci/q35.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "dev/pci/pci.h"

enum { VENDOR_INTEL = 0x8086, DEVICE_Q35_MCH = 0x29c0, DEVICE_ICH9_LPC = 0x2918 };
enum { MCH_PCIEXBAR = 0x60, MCH_PAM0 = 0x90, MCH_SMRAM = 0x9d };
enum {
	LPC_PMBASE = 0x40,
	LPC_ACPI_CNTL = 0x44,
	LPC_PIRQA = 0x60,
	LPC_SERIRQ = 0x64,
	LPC_PIRQE = 0x68,
	LPC_IO_DEC = 0x80,
	LPC_EN = 0x82,
	LPC_GEN_PMCON_1 = 0xa0,
	LPC_GEN_PMCON_3 = 0xa4
};
enum { PIRQ_OFF = 0x80, ISA_LINES = 16, PIRQS = 8, IOAPIC_PINS = 24, IOAPIC_PIRQA = 16 };

/* ---- host bridge ---- */

struct pci_func *
hostbridge_create(const struct hostbridge_cfg *cfg, struct err *err)
{
	const struct pci_func_cfg fc = {
	    .name = "hostbridge",
	    .vendor = VENDOR_INTEL,
	    .device = DEVICE_Q35_MCH,
	    .revision = 0x02,
	    .class_code = 0x060000,
	};
	struct pci_func *f = pci_func_create(&fc, NULL, NULL, err);
	unsigned length = cfg->ecam_buses == 64 ? 2 : cfg->ecam_buses == 128 ? 1 : 0;

	if (f == NULL)
		return NULL;
	pci_func_put(f, MCH_PCIEXBAR, 4, (uint32_t)cfg->ecam_base | length << 1 | 1);
	pci_func_put(f, MCH_PCIEXBAR + 4, 4, (uint32_t)(cfg->ecam_base >> 32));
	/* PAM: the BIOS area is shadowed, read-only. Writable only in look. */
	pci_func_set(f, MCH_PAM0, 4, 0x11111110, 0x33333330);
	pci_func_set(f, MCH_PAM0 + 4, 3, 0x111111, 0x333333);
	pci_func_put(f, MCH_SMRAM, 1, 0x12); /* D_LCK: closed for good */
	return f;
}

/* ---- LPC ---- */

struct lpc_state {
	uint32_t isa;  /* levels of ISA lines; from bit 16 on, of the second devices on them */
	uint32_t gsi;  /* of lines that go to an IOAPIC pin only */
	uint32_t pirq; /* of PIRQA-H */
};

static const struct field lpc_fields[] = {
    FIELD(1, struct lpc_state, isa, FIELD_U32),
    FIELD(2, struct lpc_state, gsi, FIELD_U32),
    FIELD(3, struct lpc_state, pirq, FIELD_U32),
};

static const struct field_table lpc_table = {
    .name = "ich9-lpc",
    .version = 1,
    .size = sizeof(struct lpc_state),
    .count = ARRAY_LEN(lpc_fields),
    .fields = lpc_fields,
};

struct lpc {
	struct lpc_wires w;
	struct pci_func *func;
	pthread_mutex_t lock;
	struct lpc_state st;
	/* derived */
	uint8_t route[PIRQS]; /* PIRQx_ROUT */
	uint16_t pic_out;
	uint32_t ioapic_out;
};

static uint16_t
isa_levels(const struct lpc *l)
{
	return (uint16_t)(l->st.isa | l->st.isa >> LPC_ISA_SECOND);
}

static uint16_t
pic_levels(const struct lpc *l)
{
	uint16_t v = isa_levels(l);

	for (unsigned i = 0; i < PIRQS; i++) {
		if ((l->st.pirq >> i & 1) != 0 && (l->route[i] & PIRQ_OFF) == 0)
			v |= (uint16_t)BIT(l->route[i] & 0xf);
	}
	return v;
}

/* ISA line 0 is wired to pin 2, where line 2 (the cascade) has no use; pin 0 belongs to the PIC's output. */
static uint32_t
ioapic_levels(const struct lpc *l)
{
	uint32_t isa = isa_levels(l);

	return (isa & ~5u) | (isa & 1u) << 2 | l->st.pirq << IOAPIC_PIRQA | l->st.gsi;
}

static void
drive(struct irq_wire w, uint32_t old, uint32_t now)
{
	for (uint32_t diff = old ^ now; diff != 0; diff &= diff - 1) {
		w.line = (unsigned)__builtin_ctz(diff);
		irq_set(&w, (now >> w.line & 1) != 0);
	}
}

static void
lpc_update(struct lpc *l)
{
	uint16_t pic = pic_levels(l), old_pic = l->pic_out;
	uint32_t ioapic = ioapic_levels(l), old_ioapic = l->ioapic_out;

	l->pic_out = pic;
	l->ioapic_out = ioapic;
	drive(l->w.pic, old_pic, pic);
	drive(l->w.ioapic, old_ioapic, ioapic);
}

static void
set_level(struct lpc *l, uint32_t *levels, unsigned n, bool level)
{
	pthread_mutex_lock(&l->lock);
	*levels = level ? *levels | 1u << n : *levels & ~(1u << n);
	lpc_update(l);
	pthread_mutex_unlock(&l->lock);
}

static void
isa_set(void *ctx, unsigned line, bool level)
{
	struct lpc *l = ctx;

	set_level(l, &l->st.isa, line % (2 * ISA_LINES), level);
}

static void
pirq_set(void *ctx, unsigned line, bool level)
{
	struct lpc *l = ctx;

	set_level(l, &l->st.pirq, line % PIRQS, level);
}

static void
gsi_set(void *ctx, unsigned line, bool level)
{
	struct lpc *l = ctx;

	if (line < IOAPIC_PINS)
		set_level(l, &l->st.gsi, line, level);
}

struct irq_wire
lpc_isa_wire(struct lpc *l, unsigned irq)
{
	return (struct irq_wire){isa_set, l, irq};
}

struct irq_wire
lpc_pirq_wire(struct lpc *l)
{
	return (struct irq_wire){pirq_set, l, 0};
}

struct irq_wire
lpc_gsi_wire(struct lpc *l)
{
	return (struct irq_wire){gsi_set, l, 0};
}

static unsigned
pirq_reg(unsigned pirq)
{
	return pirq < 4 ? LPC_PIRQA + pirq : LPC_PIRQE + pirq - 4;
}

static void
lpc_cfg_written(void *dev, unsigned off, unsigned size)
{
	struct lpc *l = dev;

	if (off >= LPC_PIRQE + 4 || off + size <= LPC_PIRQA)
		return;
	pthread_mutex_lock(&l->lock);
	for (unsigned i = 0; i < PIRQS; i++)
		l->route[i] = (uint8_t)pci_func_get(l->func, pirq_reg(i), 1);
	lpc_update(l);
	pthread_mutex_unlock(&l->lock);
}

static const struct pci_func_ops lpc_func_ops = {.cfg_written = lpc_cfg_written};

static void
declare_registers(struct lpc *l, const struct lpc_cfg *cfg)
{
	struct pci_func *f = l->func;

	/* I/O, memory and bus mastering cannot be switched off (data sheet 13.1.3). */
	pci_func_set(f, PCI_COMMAND, 2, PCI_CMD_IO | PCI_CMD_MEM | PCI_CMD_MASTER,
		     PCI_CMD_PERR | PCI_CMD_SERR);
	pci_func_put(f, LPC_PMBASE, 4, (cfg->pm_base & 0xff80u) | 1);
	pci_func_put(f, LPC_ACPI_CNTL, 1, 0x80); /* ACPI_EN, SCI on IRQ 9 */
	for (unsigned i = 0; i < PIRQS; i++) {
		pci_func_set(f, pirq_reg(i), 1, PIRQ_OFF, 0x8f);
		l->route[i] = PIRQ_OFF;
	}
	pci_func_set(f, LPC_SERIRQ, 1, 0x10, 0xff);
	pci_func_set(f, LPC_IO_DEC, 2, 0x0010, 0x1377); /* COMA 3f8, COMB 2f8 */
	pci_func_set(f, LPC_EN, 2, 0x3c03, 0x3f0f);
	pci_func_set(f, LPC_GEN_PMCON_1, 2, 0, 0x0600);
	pci_func_set(f, LPC_GEN_PMCON_3, 1, 0, 0xc1);
}

struct lpc *
lpc_create(const struct lpc_cfg *cfg, const struct lpc_wires *w, struct err *err)
{
	const struct pci_func_cfg fc = {
	    .name = "lpc",
	    .vendor = VENDOR_INTEL,
	    .device = DEVICE_ICH9_LPC,
	    .revision = 0x02,
	    .class_code = 0x060100,
	};
	struct lpc *l = calloc(1, sizeof(*l));

	if (l == NULL) {
		err_set(err, ENOMEM, "lpc: no memory");
		return NULL;
	}
	l->func = pci_func_create(&fc, &lpc_func_ops, l, err);
	if (l->func == NULL) {
		free(l);
		return NULL;
	}
	l->w = *w;
	pthread_mutex_init(&l->lock, NULL);
	declare_registers(l, cfg);
	return l;
}

struct pci_func *
lpc_func(struct lpc *l)
{
	return l->func;
}

static void
lpc_destroy(void *dev)
{
	struct lpc *l = dev;

	if (l == NULL)
		return;
	pthread_mutex_destroy(&l->lock);
	free(l);
}

static void
lpc_reset(void *dev)
{
	struct lpc *l = dev;

	/* The inputs are the devices'; they set them again when they are reset. Routes go with the function.
	 */
	pthread_mutex_lock(&l->lock);
	lpc_update(l);
	pthread_mutex_unlock(&l->lock);
}

static void *
lpc_st(void *dev)
{
	return &((struct lpc *)dev)->st;
}

/* The controllers' own saved state has the levels that they saw: nothing is driven. */
static int
lpc_post_load(void *dev, struct err *err)
{
	struct lpc *l = dev;

	(void)err;
	pthread_mutex_lock(&l->lock);
	l->st.gsi &= (uint32_t)(BIT(IOAPIC_PINS) - 1);
	l->st.pirq &= (uint32_t)(BIT(PIRQS) - 1);
	for (unsigned i = 0; i < PIRQS; i++)
		l->route[i] = (uint8_t)pci_func_get(l->func, pirq_reg(i), 1);
	l->pic_out = pic_levels(l);
	l->ioapic_out = ioapic_levels(l);
	pthread_mutex_unlock(&l->lock);
	return 0;
}

const struct device_ops lpc_device_ops = {
    .type = "ich9-lpc",
    .destroy = lpc_destroy,
    .reset = lpc_reset,
    .state = &lpc_table,
    .st = lpc_st,
    .post_load = lpc_post_load,
};
