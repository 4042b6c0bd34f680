/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pc-testdev: see the header for its registers. `st` holds what the guest can read back;
 * wires out of the machine (exit, power-off) are called after the lock is dropped.
 */
#include "dev/test/pctest.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/util.h"
#include "dev/bus.h"

enum { DEBUG_LINE = 120, DEBUG_PORT_ID = 0xe9 };

struct pctest_state {
	uint8_t mem[PCTEST_MEM_BYTES];
	uint8_t latch[4];
	uint32_t reads;	  /* of mem */
	uint32_t gsi;	  /* levels */
	uint8_t shutdown; /* letters of "Shutdown" that came in a row */
	uint8_t line_len;
	uint8_t line[DEBUG_LINE];
	uint8_t pad[2];
};

static const struct field pctest_fields[] = {
    FIELD_ARRAY(1, struct pctest_state, mem, FIELD_BYTES, PCTEST_MEM_BYTES),
    FIELD_ARRAY(2, struct pctest_state, latch, FIELD_BYTES, 4),
    FIELD(3, struct pctest_state, reads, FIELD_U32),
    FIELD(4, struct pctest_state, gsi, FIELD_U32),
    FIELD(5, struct pctest_state, shutdown, FIELD_U8),
    FIELD(6, struct pctest_state, line_len, FIELD_U8),
    FIELD_ARRAY(7, struct pctest_state, line, FIELD_BYTES, DEBUG_LINE),
    FIELD_TRANSIENT(struct pctest_state, pad, 2),
};

static const struct field_table pctest_table = {
    .name = "pc-testdev",
    .version = 1,
    .size = sizeof(struct pctest_state),
    .count = ARRAY_LEN(pctest_fields),
    .fields = pctest_fields,
};

struct pctest {
	struct pctest_wires w;
	pthread_mutex_t lock;
	struct pctest_state st;
};

/* ---- registers ---- */

static uint64_t
latch_read(void *dev, uint64_t off, unsigned size)
{
	struct pctest *t = dev;
	uint64_t val = 0;

	pthread_mutex_lock(&t->lock);
	memcpy(&val, t->st.latch + off, size);
	pthread_mutex_unlock(&t->lock);
	return val;
}

static void
latch_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct pctest *t = dev;

	pthread_mutex_lock(&t->lock);
	memcpy(t->st.latch + off, &val, size);
	pthread_mutex_unlock(&t->lock);
}

static void
flush_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct pctest *t = dev;

	(void)off;
	(void)size;
	if (t->w.flush != NULL)
		t->w.flush(t->w.ctx, val & ~0xfffull);
}

static uint64_t
reads_read(void *dev, uint64_t off, unsigned size)
{
	struct pctest *t = dev;
	uint32_t val;

	pthread_mutex_lock(&t->lock);
	val = t->st.reads;
	pthread_mutex_unlock(&t->lock);
	return val >> (8 * off) & size_mask(size);
}

static void
reads_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct pctest *t = dev;

	(void)off;
	(void)size;
	(void)val;
	pthread_mutex_lock(&t->lock);
	t->st.reads = 0;
	pthread_mutex_unlock(&t->lock);
}

static void
exit_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct pctest *t = dev;

	(void)off;
	(void)size;
	log_info("pc-testdev: the guest ends with %#llx", (unsigned long long)val);
	if (t->w.exit != NULL)
		t->w.exit(t->w.ctx, (unsigned)(val << 1 | 1) & 0xff);
}

static uint64_t
debug_read(void *dev, uint64_t off, unsigned size)
{
	(void)dev;
	(void)off;
	(void)size;
	return DEBUG_PORT_ID;
}

static void
debug_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct pctest *t = dev;
	uint8_t c = (uint8_t)val;

	(void)off;
	(void)size;
	pthread_mutex_lock(&t->lock);
	if (c >= ' ' && c < 0x7f)
		t->st.line[t->st.line_len++] = c;
	if (c == '\n' || t->st.line_len == DEBUG_LINE) {
		log_guest("debug port: %.*s", (int)t->st.line_len, (const char *)t->st.line);
		t->st.line_len = 0;
	}
	pthread_mutex_unlock(&t->lock);
}

static void
gsi_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct pctest *t = dev;

	(void)size;
	pthread_mutex_lock(&t->lock);
	t->st.gsi &= ~(uint32_t)BIT(off);
	if (val != 0)
		t->st.gsi |= (uint32_t)BIT(off);
	irq_set(&t->w.gsi[off], val != 0);
	pthread_mutex_unlock(&t->lock);
}

static void
shutdown_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	static const char word[] = "Shutdown";
	struct pctest *t = dev;
	bool end;

	(void)off;
	(void)size;
	pthread_mutex_lock(&t->lock);
	if ((uint8_t)val != (uint8_t)word[t->st.shutdown])
		t->st.shutdown = 0; /* its first letter occurs only once */
	if ((uint8_t)val == (uint8_t)word[t->st.shutdown])
		t->st.shutdown++;
	end = word[t->st.shutdown] == '\0';
	if (end)
		t->st.shutdown = 0;
	pthread_mutex_unlock(&t->lock);
	if (end && t->w.poweroff != NULL)
		t->w.poweroff(t->w.ctx);
}

static uint64_t
mem_read(void *dev, uint64_t off, unsigned size)
{
	struct pctest *t = dev;
	uint64_t val = 0;

	pthread_mutex_lock(&t->lock);
	t->st.reads++;
	memcpy(&val, t->st.mem + off, size);
	pthread_mutex_unlock(&t->lock);
	return val;
}

static void
mem_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct pctest *t = dev;

	pthread_mutex_lock(&t->lock);
	memcpy(t->st.mem + off, &val, size);
	pthread_mutex_unlock(&t->lock);
}

/* What cannot be read floats. */
static uint64_t
ones_read(void *dev, uint64_t off, unsigned size)
{
	(void)dev;
	(void)off;
	return size_mask(size);
}

int
pctest_map(struct pctest *t, struct io_bus *pio, struct io_bus *mmio, struct err *err)
{
	enum { W124 = IO_W1 | IO_W2 | IO_W4 };
	const struct io_region ports[] = {
	    {"testdev latch", 0xe0, 4, W124, latch_read, latch_write, t},
	    {"testdev flush", 0xe4, 4, W124, ones_read, flush_write, t},
	    {"testdev reads", 0xec, 4, W124, reads_read, reads_write, t},
	    {"testdev exit", 0xf4, 4, W124, ones_read, exit_write, t},
	    {"testdev debug", 0x402, 1, IO_W1, debug_read, debug_write, t},
	    {"testdev gsi", 0x2000, PCTEST_GSIS, W124, ones_read, gsi_write, t},
	    {"testdev shutdown", 0x8900, 1, IO_W1, ones_read, shutdown_write, t},
	};
	const struct io_region mem = {
	    "testdev memory", PCTEST_MEM_BASE, PCTEST_MEM_BYTES, IO_ANY, mem_read, mem_write, t};
	int ret = io_bus_add(mmio, &mem, err);

	for (size_t i = 0; i < ARRAY_LEN(ports) && ret == 0; i++)
		ret = io_bus_add(pio, &ports[i], err);
	return ret;
}

/* ---- device ---- */

static void
pctest_reset(void *dev)
{
	struct pctest *t = dev;

	pthread_mutex_lock(&t->lock);
	memset(&t->st, 0, sizeof(t->st));
	for (unsigned i = 0; i < PCTEST_GSIS; i++)
		irq_set(&t->w.gsi[i], false);
	pthread_mutex_unlock(&t->lock);
}

static int
pctest_post_load(void *dev, struct err *err)
{
	struct pctest *t = dev;

	if (t->st.line_len >= DEBUG_LINE || t->st.shutdown > 7 || t->st.gsi >> PCTEST_GSIS != 0)
		return err_set(err, EINVAL, "pc-testdev: a damaged state (take the snapshot again)");
	return 0;
}

struct pctest *
pctest_create(const struct pctest_wires *w, struct err *err)
{
	struct pctest *t = calloc(1, sizeof(*t));

	if (t == NULL) {
		err_set(err, ENOMEM, "pc-testdev: no memory");
		return NULL;
	}
	t->w = *w;
	pthread_mutex_init(&t->lock, NULL);
	return t;
}

static void
pctest_destroy(void *dev)
{
	struct pctest *t = dev;

	if (t == NULL)
		return;
	pthread_mutex_destroy(&t->lock);
	free(t);
}

static void *
pctest_st(void *dev)
{
	return &((struct pctest *)dev)->st;
}

const struct device_ops pctest_device_ops = {
    .type = "pc-testdev",
    .destroy = pctest_destroy,
    .reset = pctest_reset,
    .state = &pctest_table,
    .st = pctest_st,
    .post_load = pctest_post_load,
};
