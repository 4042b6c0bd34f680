/* SPDX-License-Identifier: BSD-2-Clause */
/* edu: see the header for its registers. Work is done within the access that asks for it. */
#include "dev/test/edu.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/util.h"
#include "dev/bus.h"
#include "dev/pci/dma.h"
#include "dev/pci/model.h"
#include "dev/pci/msi.h"
#include "dev/pci/pci.h"

enum { VENDOR_QEMU = 0x1234, DEVICE_EDU = 0x11e8, SUBSYS_REDHAT = 0x1af4, SUBSYS_QEMU = 0x1100 };
enum { BAR_BYTES = 1 << 20, ID = 0x010000ed, BUFFER_AT = 0x40000, BUFFER_BYTES = 4096 };
enum {
	R_ID = 0x00,
	R_LIVENESS = 0x04,
	R_FACTORIAL = 0x08,
	R_STATUS = 0x20,
	R_IRQ_STATUS = 0x24,
	R_IRQ_RAISE = 0x60,
	R_IRQ_ACK = 0x64,
	R_DMA_SRC = 0x80,
	R_DMA_DST = 0x88,
	R_DMA_COUNT = 0x90,
	R_DMA_CMD = 0x98,
	R_END = 0xa0,
};
enum { STATUS_IRQ = 0x80, IRQ_FACTORIAL = 0x001, IRQ_DMA = 0x100 };
enum { CMD_START = 1, CMD_TO_MEMORY = 2, CMD_IRQ = 4, CMD_BITS = 7 };
#define DMA_MASK (BIT(28) - 1)

struct edu_state {
	uint64_t dma[4]; /* source, destination, count, command */
	uint32_t liveness, factorial, status, irq_status;
	uint8_t buffer[BUFFER_BYTES];
};

static const struct field edu_fields[] = {
    FIELD_ARRAY(1, struct edu_state, dma, FIELD_U64, 4),
    FIELD(2, struct edu_state, liveness, FIELD_U32),
    FIELD(3, struct edu_state, factorial, FIELD_U32),
    FIELD(4, struct edu_state, status, FIELD_U32),
    FIELD(5, struct edu_state, irq_status, FIELD_U32),
    FIELD_ARRAY(6, struct edu_state, buffer, FIELD_BYTES, BUFFER_BYTES),
};

static const struct field_table edu_table = {
    .name = "edu",
    .version = 1,
    .size = sizeof(struct edu_state),
    .count = ARRAY_LEN(edu_fields),
    .fields = edu_fields,
};

struct edu {
	struct pci_func *func;
	pthread_mutex_t lock;
	struct edu_state st;
};

/* ---- lock held ---- */

static void
raise_irq(struct edu *e, uint32_t what)
{
	e->st.irq_status |= what;
	if (e->st.irq_status != 0 && !pci_msi_raise(e->func, 0))
		pci_func_intx(e->func, true);
}

static void
ack_irq(struct edu *e, uint32_t what)
{
	e->st.irq_status &= ~what;
	if (e->st.irq_status == 0)
		pci_func_intx(e->func, false);
}

/* 34! is divisible by 2^32, and so are all that follow. */
static uint32_t
factorial(uint32_t n)
{
	uint32_t product = n < 34 ? 1 : 0;

	for (; n > 1 && product != 0; n--)
		product *= n;
	return product;
}

/* The device's end of a transfer, or NULL. */
static uint8_t *
buffer_at(struct edu *e, uint64_t addr, uint64_t len)
{
	if (addr < BUFFER_AT || !range_fits(addr - BUFFER_AT, len, BUFFER_BYTES))
		return NULL;
	return e->st.buffer + (addr - BUFFER_AT);
}

static bool
transfer(struct edu *e)
{
	uint64_t src = e->st.dma[0], dst = e->st.dma[1], len = e->st.dma[2];
	bool to_memory = (e->st.dma[3] & CMD_TO_MEMORY) != 0;
	uint8_t *p = buffer_at(e, to_memory ? src : dst, len);

	if (p == NULL)
		return false;
	return to_memory ? pci_func_dma_write(e->func, dst & DMA_MASK, p, len)
			 : pci_func_dma_read(e->func, src & DMA_MASK, p, len);
}

static void
write_command(struct edu *e, uint64_t val)
{
	e->st.dma[3] = val & CMD_BITS;
	if ((val & CMD_START) == 0)
		return;
	if (!transfer(e))
		log_guest("edu: transfer of %#llx bytes from %#llx to %#llx failed",
			  (unsigned long long)e->st.dma[2], (unsigned long long)e->st.dma[0],
			  (unsigned long long)e->st.dma[1]);
	e->st.dma[3] &= ~(uint64_t)CMD_START;
	if ((val & CMD_IRQ) != 0)
		raise_irq(e, IRQ_DMA);
}

static void
write_factorial(struct edu *e, uint32_t val)
{
	e->st.factorial = factorial(val);
	if ((e->st.status & STATUS_IRQ) != 0)
		raise_irq(e, IRQ_FACTORIAL);
}

static void
write_dword(struct edu *e, uint64_t off, uint32_t val)
{
	switch (off) {
	case R_LIVENESS:
		e->st.liveness = ~val;
		break;
	case R_FACTORIAL:
		write_factorial(e, val);
		break;
	case R_STATUS:
		e->st.status = val & STATUS_IRQ;
		break;
	case R_IRQ_RAISE:
		raise_irq(e, val);
		break;
	case R_IRQ_ACK:
		ack_irq(e, val);
		break;
	default:
		break;
	}
}

static uint32_t
read_dword(const struct edu *e, uint64_t off)
{
	switch (off) {
	case R_ID:
		return ID;
	case R_LIVENESS:
		return e->st.liveness;
	case R_FACTORIAL:
		return e->st.factorial;
	case R_STATUS:
		return e->st.status;
	case R_IRQ_STATUS:
		return e->st.irq_status;
	default:
		return UINT32_MAX;
	}
}

/* ---- accesses ---- */

static bool
is_dma(uint64_t off)
{
	return off >= R_DMA_SRC && off < R_END;
}

static bool
legal(uint64_t off, unsigned size)
{
	return off % size == 0 && (size == 4 || off >= R_DMA_SRC);
}

static uint64_t
edu_read(void *dev, uint64_t off, unsigned size)
{
	struct edu *e = dev;
	uint64_t val = size_mask(size);

	if (!legal(off, size))
		return val;
	pthread_mutex_lock(&e->lock);
	if (is_dma(off))
		val &= e->st.dma[(off - R_DMA_SRC) / 8] >> (8 * (off & 7));
	else
		val &= read_dword(e, off) | ~(uint64_t)UINT32_MAX;
	pthread_mutex_unlock(&e->lock);
	return val;
}

static void
edu_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct edu *e = dev;
	unsigned shift = 8 * (off & 7);
	uint64_t mask = size_mask(size) << shift, *reg;

	if (!legal(off, size))
		return;
	pthread_mutex_lock(&e->lock);
	if (!is_dma(off)) {
		write_dword(e, off, (uint32_t)val);
	} else {
		reg = &e->st.dma[(off - R_DMA_SRC) / 8];
		*reg = (*reg & ~mask) | (val << shift & mask);
		if (off == R_DMA_CMD)
			write_command(e, *reg);
		else if (off == R_DMA_CMD + 4)
			e->st.dma[3] &= CMD_BITS;
	}
	pthread_mutex_unlock(&e->lock);
}

/* ---- device ---- */

static void
edu_reset(void *dev)
{
	struct edu *e = dev;

	pthread_mutex_lock(&e->lock);
	memset(&e->st, 0, sizeof(e->st));
	pci_func_intx(e->func, false);
	pthread_mutex_unlock(&e->lock);
}

/* Any bits of the registers are a guest's; those that it could not have written are taken away. */
static int
edu_post_load(void *dev, struct err *err)
{
	struct edu *e = dev;

	(void)err;
	e->st.status &= STATUS_IRQ;
	e->st.dma[3] &= CMD_BITS & ~(uint64_t)CMD_START;
	return 0;
}

struct edu *
edu_create(struct err *err)
{
	const struct pci_func_cfg cfg = {
	    .name = "edu",
	    .vendor = VENDOR_QEMU,
	    .device = DEVICE_EDU,
	    .subsys_vendor = SUBSYS_REDHAT,
	    .subsys = SUBSYS_QEMU,
	    .revision = 0x10,
	    .class_code = 0x00ff00,
	    .intr_pin = 1,
	};
	const struct pci_bar bar = {PCI_BAR_MEM32, BAR_BYTES, IO_W4 | IO_W8, edu_read, edu_write};
	struct edu *e = calloc(1, sizeof(*e));

	if (e == NULL) {
		err_set(err, ENOMEM, "edu: no memory");
		return NULL;
	}
	e->func = pci_func_create(&cfg, NULL, e, err);
	if (e->func == NULL) {
		free(e);
		return NULL;
	}
	pthread_mutex_init(&e->lock, NULL);
	pci_func_bar(e->func, 0, &bar);
	pci_func_msi(e->func, 1);
	return e;
}

struct pci_func *
edu_func(struct edu *e)
{
	return e->func;
}

static void
edu_destroy(void *dev)
{
	struct edu *e = dev;

	if (e == NULL)
		return;
	pthread_mutex_destroy(&e->lock);
	free(e);
}

static void *
edu_st(void *dev)
{
	return &((struct edu *)dev)->st;
}

const struct device_ops edu_device_ops = {
    .type = "edu",
    .destroy = edu_destroy,
    .reset = edu_reset,
    .state = &edu_table,
    .st = edu_st,
    .post_load = edu_post_load,
};

static struct pci_func *
edu_create_model(const struct pci_model_env *env, struct err *err)
{
	struct edu *e = edu_create(err);
	struct pci_func *f;

	if (e == NULL)
		return NULL;
	f = edu_func(e);
	if (env->own(env->ctx, &edu_device_ops, e, "edu", err) != 0) {
		pci_func_device_ops.destroy(f);
		return NULL;
	}
	return env->own(env->ctx, &pci_func_device_ops, f, "", err) == 0 ? f : NULL;
}

const struct pci_model edu_model = {
    .name = "edu",
    .help = "a device to learn and test with: DMA, MSI, a line",
    .options = "name",
    .create = edu_create_model,
};
