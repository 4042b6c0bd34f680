/* SPDX-License-Identifier: BSD-2-Clause */
/* pci-testdev: see the header. Tests are rows of a table; registers are bytes made on the fly. */
#include "dev/test/pcitest.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/util.h"
#include "dev/bus.h"
#include "dev/pci/model.h"
#include "dev/pci/pci.h"

enum { VENDOR_REDHAT = 0x1b36, DEVICE_TESTDEV = 0x0005, SUBSYS_REDHAT = 0x1af4, SUBSYS_QEMU = 0x1100 };
enum { MEM_BYTES = 4096, IO_BYTES = 256, REG_TEST = 0, HEADER = 0x10, TEST_BYTES = 64 };

struct kind {
	const char *name;
	bool any_data; /* else only writes of `data` in `width` count */
};
static const struct kind kinds[] = {
    {"no-eventfd", true},
    {"wildcard-eventfd", true},
    {"datamatch-eventfd", false},
};
enum { TEST_WIDTH = 1, TEST_DATA = 0xfa, NO_TEST = 0xff };

struct pcitest_state {
	uint8_t bar;  /* of the running test */
	uint8_t test; /* row of kinds, or NO_TEST */
	uint8_t pad[2];
	uint32_t count;
};

static const struct field pcitest_fields[] = {
    FIELD(1, struct pcitest_state, bar, FIELD_U8),
    FIELD(2, struct pcitest_state, test, FIELD_U8),
    FIELD_TRANSIENT(struct pcitest_state, pad, 2),
    FIELD(3, struct pcitest_state, count, FIELD_U32),
};

static const struct field_table pcitest_table = {
    .name = "pci-testdev",
    .version = 1,
    .size = sizeof(struct pcitest_state),
    .count = ARRAY_LEN(pcitest_fields),
    .fields = pcitest_fields,
};

struct pcitest {
	pthread_mutex_t lock;
	struct pci_func *func;
	struct pcitest_state st;
};

static uint32_t
target(unsigned bar)
{
	return (bar == 0 ? MEM_BYTES : IO_BYTES) / 2;
}

/* The running test's registers; another BAR's read as those of no test. */
static void
registers(const struct pcitest *t, uint8_t out[TEST_BYTES])
{
	memset(out, 0, TEST_BYTES);
	if (t->st.test == NO_TEST)
		return;
	out[0] = t->st.test;
	out[1] = TEST_WIDTH;
	put_le32(out + 4, target(t->st.bar));
	put_le32(out + 8, TEST_DATA);
	put_le32(out + 12, t->st.count);
	memcpy(out + HEADER, kinds[t->st.test].name, strlen(kinds[t->st.test].name) + 1);
}

static uint64_t
test_read(struct pcitest *t, unsigned bar, uint64_t off, unsigned size)
{
	uint8_t regs[TEST_BYTES];
	uint64_t val = 0;

	pthread_mutex_lock(&t->lock);
	if (t->st.bar == bar && range_fits(off, size, TEST_BYTES)) {
		registers(t, regs);
		memcpy(&val, regs + off, size);
	}
	pthread_mutex_unlock(&t->lock);
	return val;
}

static void
test_write(struct pcitest *t, unsigned bar, uint64_t off, unsigned size, uint64_t val)
{
	const struct kind *k;

	pthread_mutex_lock(&t->lock);
	if (off == REG_TEST) {
		t->st.bar = (uint8_t)bar;
		t->st.test = (val & 0xff) < ARRAY_LEN(kinds) ? (uint8_t)val : NO_TEST;
		t->st.count = 0;
	} else if (t->st.test != NO_TEST && t->st.bar == bar && off == target(bar)) {
		k = &kinds[t->st.test];
		if (k->any_data || (size == TEST_WIDTH && val == TEST_DATA))
			t->st.count++;
	}
	pthread_mutex_unlock(&t->lock);
}

static uint64_t
mem_read(void *dev, uint64_t off, unsigned size)
{
	return test_read(dev, 0, off, size);
}

static void
mem_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	test_write(dev, 0, off, size, val);
}

static uint64_t
port_read(void *dev, uint64_t off, unsigned size)
{
	return test_read(dev, 1, off, size);
}

static void
port_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	test_write(dev, 1, off, size, val);
}

/* ---- device ---- */

static void
pcitest_reset(void *dev)
{
	struct pcitest *t = dev;

	pthread_mutex_lock(&t->lock);
	t->st = (struct pcitest_state){.test = NO_TEST};
	pthread_mutex_unlock(&t->lock);
}

static int
pcitest_post_load(void *dev, struct err *err)
{
	struct pcitest *t = dev;

	if (t->st.bar > 1 || (t->st.test != NO_TEST && t->st.test >= ARRAY_LEN(kinds)))
		return err_set(err, EINVAL, "pci-testdev: a damaged state (take the snapshot again)");
	return 0;
}

struct pcitest *
pcitest_create(struct err *err)
{
	const struct pci_func_cfg cfg = {
	    .name = "pci-testdev",
	    .vendor = VENDOR_REDHAT,
	    .device = DEVICE_TESTDEV,
	    .subsys_vendor = SUBSYS_REDHAT,
	    .subsys = SUBSYS_QEMU,
	    .class_code = 0x00ff00,
	};
	const struct pci_bar mem = {PCI_BAR_MEM32, MEM_BYTES, IO_W1 | IO_W2 | IO_W4 | IO_SPLIT, mem_read,
				    mem_write};
	const struct pci_bar io = {PCI_BAR_IO, IO_BYTES, IO_W1 | IO_W2 | IO_W4 | IO_SPLIT, port_read,
				   port_write};
	struct pcitest *t = calloc(1, sizeof(*t));

	if (t == NULL) {
		err_set(err, ENOMEM, "pci-testdev: no memory");
		return NULL;
	}
	t->func = pci_func_create(&cfg, NULL, t, err);
	if (t->func == NULL) {
		free(t);
		return NULL;
	}
	pthread_mutex_init(&t->lock, NULL);
	pci_func_bar(t->func, 0, &mem);
	pci_func_bar(t->func, 1, &io);
	pcitest_reset(t);
	return t;
}

struct pci_func *
pcitest_func(struct pcitest *t)
{
	return t->func;
}

static void
pcitest_destroy(void *dev)
{
	struct pcitest *t = dev;

	if (t == NULL)
		return;
	pthread_mutex_destroy(&t->lock);
	free(t);
}

static void *
pcitest_st(void *dev)
{
	return &((struct pcitest *)dev)->st;
}

const struct device_ops pcitest_device_ops = {
    .type = "pci-testdev",
    .destroy = pcitest_destroy,
    .reset = pcitest_reset,
    .state = &pcitest_table,
    .st = pcitest_st,
    .post_load = pcitest_post_load,
};

static struct pci_func *
pcitest_create_model(const struct pci_model_env *env, struct err *err)
{
	struct pcitest *t = pcitest_create(err);
	struct pci_func *f;

	if (t == NULL)
		return NULL;
	f = pcitest_func(t);
	if (env->own(env->ctx, &pcitest_device_ops, t, "test", err) != 0) {
		pci_func_device_ops.destroy(f);
		return NULL;
	}
	return env->own(env->ctx, &pci_func_device_ops, f, "", err) == 0 ? f : NULL;
}

const struct pci_model pcitest_model = {
    .name = "pci-testdev",
    .help = "a device that tests look for: counts writes",
    .options = "name",
    .create = pcitest_create_model,
};
