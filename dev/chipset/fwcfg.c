/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fw_cfg: see the header. An item that does not exist has no bytes; behind an item's end
 * everything reads 0. Writes to items are refused, as QEMU does since 2.4.
 */
#include "dev/chipset/fwcfg.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/util.h"
#include "dev/bus.h"
#include "mem/gpmap.h"

enum { PORT_SELECT = 0x510, PORT_BYTES = 2, PORT_DMA = 0x514, DMA_BYTES = 8 };
enum {
	ID_TRADITIONAL = 1 << 0,
	ID_DMA = 1 << 1,
	NOTHING_SELECTED = 0xffff,
	KEYS = FWCFG_FILE_FIRST + FWCFG_FILES
};
enum { KEY_WRITE = 1 << 14 };
enum { DMA_ERROR = 1 << 0, DMA_READ = 1 << 1, DMA_SKIP = 1 << 2, DMA_SELECT = 1 << 3, DMA_WRITE = 1 << 4 };
enum { DIR_ENTRY = 64, DMA_CHUNK = 4096 };

struct fwcfg_state {
	uint16_t selected;
	uint8_t pad[2];
	uint32_t offset;   /* in the selected item */
	uint32_t dma_high; /* what was written to 0x514 */
};

static const struct field fwcfg_fields[] = {
    FIELD(1, struct fwcfg_state, selected, FIELD_U16),
    FIELD_TRANSIENT(struct fwcfg_state, pad, 2),
    FIELD(2, struct fwcfg_state, offset, FIELD_U32),
    FIELD(3, struct fwcfg_state, dma_high, FIELD_U32),
};

static const struct field_table fwcfg_table = {
    .name = "fwcfg",
    .version = 1,
    .size = sizeof(struct fwcfg_state),
    .count = ARRAY_LEN(fwcfg_fields),
    .fields = fwcfg_fields,
};

struct fwcfg {
	struct gpmap *mem;
	pthread_mutex_t lock;
	struct fwcfg_state st;
	unsigned files;
	struct item {
		uint8_t *data;
		uint32_t len;
	} item[KEYS];
	char name[FWCFG_FILES][FWCFG_NAME_BYTES];
};

/* ---- reading ---- */

static const struct item *
selected(const struct fwcfg *f)
{
	static const struct item nothing;
	unsigned key = f->st.selected & ~(unsigned)KEY_WRITE;

	return key < KEYS ? &f->item[key] : &nothing;
}

/* The next bytes of the selected item; zeroes behind its end. */
static void
take(struct fwcfg *f, uint8_t *out, uint32_t len)
{
	const struct item *i = selected(f);
	uint32_t n = f->st.offset < i->len ? MIN(len, i->len - f->st.offset) : 0;

	if (n != 0)
		memcpy(out, i->data + f->st.offset, n);
	memset(out + n, 0, len - n);
	f->st.offset += n;
}

static uint64_t
port_read(void *dev, uint64_t off, unsigned size)
{
	struct fwcfg *f = dev;
	uint8_t byte = 0;

	if (off != 1 || size != 1)
		return 0;
	pthread_mutex_lock(&f->lock);
	take(f, &byte, 1);
	pthread_mutex_unlock(&f->lock);
	return byte;
}

static void
port_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct fwcfg *f = dev;

	if (off != 0 || size != 2)
		return;
	pthread_mutex_lock(&f->lock);
	f->st.selected = (uint16_t)val;
	f->st.offset = 0;
	pthread_mutex_unlock(&f->lock);
}

/* ---- DMA ---- */

/* The request in guest memory: control, length, address, all big-endian. */
struct request {
	uint32_t control, length;
	uint64_t address;
};

/* Copies no more than the item has; the rest of the guest's buffer becomes zero, and what lies outside RAM
 * ends it. */
static bool
transfer_in(struct fwcfg *f, const struct request *q)
{
	uint8_t buf[DMA_CHUNK];
	uint64_t done = 0;

	while (done < q->length) {
		uint32_t n = (uint32_t)MIN((uint64_t)DMA_CHUNK, q->length - done);

		take(f, buf, n);
		if (q->address + done < q->address || !gm_write(f->mem, q->address + done, buf, n))
			return false;
		done += n;
	}
	return true;
}

static void
skip(struct fwcfg *f, uint32_t len)
{
	const struct item *i = selected(f);

	f->st.offset += f->st.offset < i->len ? MIN(len, i->len - f->st.offset) : 0;
}

static void
run_request(struct fwcfg *f, uint64_t gpa)
{
	uint8_t raw[16], status[4];
	struct request q;
	bool ok = true;

	if (!gm_read(f->mem, gpa, raw, sizeof(raw))) {
		log_guest("fwcfg: a request outside memory, at %#llx", (unsigned long long)gpa);
		return;
	}
	q.control = __builtin_bswap32(get_le32(raw));
	q.length = __builtin_bswap32(get_le32(raw + 4));
	q.address = __builtin_bswap64(get_le64(raw + 8));
	if ((q.control & DMA_SELECT) != 0) {
		f->st.selected = (uint16_t)(q.control >> 16);
		f->st.offset = 0;
	}
	if ((q.control & DMA_READ) != 0)
		ok = transfer_in(f, &q);
	else if ((q.control & DMA_WRITE) != 0)
		ok = false;
	else if ((q.control & DMA_SKIP) != 0)
		skip(f, q.length);
	put_le32(status, __builtin_bswap32(ok ? 0 : DMA_ERROR));
	if (!gm_write(f->mem, gpa, status, sizeof(status)))
		log_guest("fwcfg: a request in read-only memory, at %#llx", (unsigned long long)gpa);
}

/* "QEMU CFG", big-endian as the register is. */
static uint64_t
dma_read(void *dev, uint64_t off, unsigned size)
{
	static const uint8_t signature[DMA_BYTES] = "QEMU CFG";
	uint64_t val = 0;

	(void)dev;
	memcpy(&val, signature + off, size);
	return val;
}

static void
dma_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct fwcfg *f = dev;
	uint64_t gpa;

	if (size == 8) {
		gpa = __builtin_bswap64(val);
	} else if (size == 4) {
		gpa = __builtin_bswap32((uint32_t)val);
	} else {
		return;
	}
	pthread_mutex_lock(&f->lock);
	if (size == 4 && off == 0) {
		f->st.dma_high = (uint32_t)gpa;
	} else {
		if (size == 4)
			gpa |= (uint64_t)f->st.dma_high << 32;
		f->st.dma_high = 0;
		run_request(f, gpa);
	}
	pthread_mutex_unlock(&f->lock);
}

int
fwcfg_map(struct fwcfg *f, struct io_bus *pio, struct err *err)
{
	const struct io_region ports = {"fwcfg",   PORT_SELECT, PORT_BYTES, IO_W1 | IO_W2,
					port_read, port_write,	f};
	const struct io_region dma = {"fwcfg dma", PORT_DMA, DMA_BYTES, IO_ANY, dma_read, dma_write, f};
	int ret = io_bus_add(pio, &ports, err);

	return ret != 0 ? ret : io_bus_add(pio, &dma, err);
}

/* ---- items ---- */

int
fwcfg_add(struct fwcfg *f, unsigned key, const void *data, size_t len, struct err *err)
{
	uint8_t *copy;

	LH_ASSERT(key < KEYS);
	if (len > UINT32_MAX)
		return err_set(err, E2BIG, "fwcfg: item %#x has %zu bytes, more than fit", key, len);
	copy = malloc(len != 0 ? len : 1);
	if (copy == NULL)
		return err_set(err, ENOMEM, "fwcfg: no memory");
	memcpy(copy, data, len);
	free(f->item[key].data);
	f->item[key] = (struct item){copy, (uint32_t)len};
	return 0;
}

int
fwcfg_add_int(struct fwcfg *f, unsigned key, uint64_t val, unsigned bytes, struct err *err)
{
	LH_ASSERT(bytes <= sizeof(val));
	return fwcfg_add(f, key, &val, bytes, err);
}

/* {count}, then {size, key, reserved, name} each, big-endian. */
static int
make_directory(struct fwcfg *f, struct err *err)
{
	uint8_t dir[4 + FWCFG_FILES * DIR_ENTRY] = {0};

	put_le32(dir, __builtin_bswap32(f->files));
	for (unsigned i = 0; i < f->files; i++) {
		uint8_t *e = dir + 4 + (size_t)DIR_ENTRY * i;

		put_le32(e, __builtin_bswap32(f->item[FWCFG_FILE_FIRST + i].len));
		put_le16(e + 4, __builtin_bswap16((uint16_t)(FWCFG_FILE_FIRST + i)));
		memcpy(e + 8, f->name[i], FWCFG_NAME_BYTES);
	}
	return fwcfg_add(f, FWCFG_FILE_DIR, dir, 4 + (size_t)DIR_ENTRY * f->files, err);
}

int
fwcfg_add_file(struct fwcfg *f, const char *name, const void *data, size_t len, struct err *err)
{
	int ret;

	if (f->files == FWCFG_FILES)
		return err_set(err, E2BIG, "fwcfg: %s: more than %d files", name, FWCFG_FILES);
	if (strlen(name) >= FWCFG_NAME_BYTES)
		return err_set(err, ENAMETOOLONG, "fwcfg: %s: a name has at most %d letters", name,
			       FWCFG_NAME_BYTES - 1);
	ret = fwcfg_add(f, FWCFG_FILE_FIRST + f->files, data, len, err);
	if (ret != 0)
		return ret;
	memset(f->name[f->files], 0, FWCFG_NAME_BYTES);
	memcpy(f->name[f->files], name, strlen(name));
	f->files++;
	return make_directory(f, err);
}

/* ---- device ---- */

static void
fwcfg_reset(void *dev)
{
	struct fwcfg *f = dev;

	pthread_mutex_lock(&f->lock);
	f->st = (struct fwcfg_state){.selected = NOTHING_SELECTED};
	pthread_mutex_unlock(&f->lock);
}

static void
fwcfg_destroy(void *dev)
{
	struct fwcfg *f = dev;

	if (f == NULL)
		return;
	for (unsigned i = 0; i < KEYS; i++)
		free(f->item[i].data);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

struct fwcfg *
fwcfg_create(struct gpmap *mem, struct err *err)
{
	struct fwcfg *f = calloc(1, sizeof(*f));
	int ret;

	if (f == NULL) {
		err_set(err, ENOMEM, "fwcfg: no memory");
		return NULL;
	}
	f->mem = mem;
	pthread_mutex_init(&f->lock, NULL);
	fwcfg_reset(f);
	ret = fwcfg_add(f, FWCFG_SIGNATURE, "QEMU", 4, err);
	if (ret == 0)
		ret = fwcfg_add_int(f, FWCFG_ID, ID_TRADITIONAL | ID_DMA, 4, err);
	if (ret == 0)
		ret = make_directory(f, err);
	if (ret == 0)
		return f;
	fwcfg_destroy(f);
	return NULL;
}

static void *
fwcfg_st(void *dev)
{
	return &((struct fwcfg *)dev)->st;
}

const struct device_ops fwcfg_device_ops = {
    .type = "fwcfg",
    .destroy = fwcfg_destroy,
    .reset = fwcfg_reset,
    .state = &fwcfg_table,
    .st = fwcfg_st,
};
