/* SPDX-License-Identifier: BSD-2-Clause */
#include "vmm/devices.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "dev/pci/model.h"
#include "vmm/config.h"

enum { KEY_ROOM = 128, SLOTS = 32, FUNCTIONS = 8, LPC_SLOT = 31 };

/* ---- sections ---- */

struct section {
	char name[KEY_ROOM]; /* "disk.root" */
	uint64_t order;
};

struct sections {
	const struct config *c;
	struct section *list;
	size_t count;
	bool no_memory;
};

/* "disk.root.path": its section's length; 0: another key. */
static size_t
section_length(const char *name)
{
	const char *dot;

	if (strncmp(name, "disk.", 5) != 0 && strncmp(name, "net.", 4) != 0)
		return 0;
	dot = strchr(strchr(name, '.') + 1, '.');
	return dot != NULL ? (size_t)(dot - name) : 0;
}

static int
collect_section(void *arg, const char *name, const char *value)
{
	struct sections *s = arg;
	size_t len = section_length(name);
	uint64_t order = config_order(s->c, name);
	struct section *grown;

	(void)value;
	if (len == 0 || len >= KEY_ROOM)
		return 0;
	for (size_t i = 0; i < s->count; i++) {
		if (strlen(s->list[i].name) == len && strncmp(s->list[i].name, name, len) == 0) {
			s->list[i].order = MIN(s->list[i].order, order);
			return 0;
		}
	}
	grown = reallocarray(s->list, s->count + 1, sizeof(*grown));
	s->no_memory = grown == NULL;
	if (grown == NULL)
		return -ENOMEM;
	s->list = grown;
	snprintf(grown[s->count].name, KEY_ROOM, "%.*s", (int)len, name);
	grown[s->count++].order = order;
	return 0;
}

static int
by_order(const void *a, const void *b)
{
	const struct section *x = a, *y = b;

	return x->order < y->order ? -1 : x->order > y->order;
}

/* Function 0 of each slot first; then the others. */
static bool
free_slot(const struct config *c, char slot[static KEY_ROOM])
{
	char key[KEY_ROOM];

	for (unsigned fn = 0; fn < FUNCTIONS; fn++) {
		for (unsigned dev = 1; dev < SLOTS; dev++) {
			snprintf(slot, KEY_ROOM, "pci.0.%u.%u", dev, fn);
			snprintf(key, sizeof(key), "pci.0.%u.%u.device", dev, fn);
			if (dev != LPC_SLOT && !config_is_set(c, key))
				return true;
		}
	}
	return false;
}

/* The keys of one section, moved below the slot. */
struct move {
	struct config *c;
	const char *section, *slot;
	struct err *err;
	char names[32][KEY_ROOM];
	unsigned count;
};

static int
remember_key(void *arg, const char *name, const char *value)
{
	struct move *m = arg;
	size_t len = strlen(m->section);

	(void)value;
	if (strncmp(name, m->section, len) == 0 && name[len] == '.' && m->count < ARRAY_LEN(m->names))
		snprintf(m->names[m->count++], KEY_ROOM, "%s", name);
	return 0;
}

static int
set_below(struct move *m, const char *key, const char *value)
{
	char full[KEY_ROOM + 32];

	snprintf(full, sizeof(full), "%s.%s", m->slot, key);
	return config_set(m->c, m->section, full, value, m->err);
}

static int
move_section(struct move *m)
{
	bool disk = strncmp(m->section, "disk.", 5) == 0;
	size_t len = strlen(m->section);
	char key[KEY_ROOM + 32];
	const char *model;
	int ret;

	snprintf(key, sizeof(key), "%s.model", m->section);
	model = config_get(m->c, key);
	ret = set_below(m, "device", model != NULL ? model : disk ? "virtio-blk" : "virtio-net");
	if (ret == 0)
		ret = set_below(m, "name", strchr(m->section, '.') + 1);
	config_each(m->c, remember_key, m);
	for (unsigned i = 0; i < m->count && ret == 0; i++) {
		if (strcmp(m->names[i] + len + 1, "model") != 0)
			ret = set_below(m, m->names[i] + len + 1, config_get(m->c, m->names[i]));
		config_unset(m->c, m->names[i]);
	}
	return ret;
}

int
devices_expand(struct config *c, struct err *err)
{
	struct sections s = {.c = c};
	int ret = 0;

	config_each(c, collect_section, &s);
	if (s.no_memory)
		ret = err_set(err, ENOMEM, "configuration: out of memory");
	if (s.count > 0)
		qsort(s.list, s.count, sizeof(*s.list), by_order);
	for (size_t i = 0; i < s.count && ret == 0; i++) {
		char slot[KEY_ROOM];
		struct move *m = calloc(1, sizeof(*m));

		if (m == NULL)
			ret = err_set(err, ENOMEM, "configuration: out of memory");
		else if (!free_slot(c, slot))
			ret = err_set(err, ENOSPC,
				      "%s: no free slot on bus 0 (put it behind a bridge: pci.B.S.F)",
				      s.list[i].name);
		if (ret == 0) {
			m->c = c;
			m->section = s.list[i].name;
			m->slot = slot;
			m->err = err;
			ret = move_section(m);
		}
		free(m);
	}
	free(s.list);
	return ret;
}

/* ---- -s ---- */

static int
set_option(struct config *c, const char *where, const char *slot, const char *key, const char *value,
	   struct err *err)
{
	char full[KEY_ROOM];

	snprintf(full, sizeof(full), "%s.%s", slot, key);
	return config_set(c, where, full, value, err);
}

/* What stands first, without "=": the image; the network's kind, where bhyve's tapN and slirp are words of
 * ours. */
static int
set_first(struct config *c, const char *where, const char *slot, const char *device, const char *word,
	  struct err *err)
{
	int ret;

	if (strcmp(device, "virtio-blk") == 0)
		return set_option(c, where, slot, "path", word, err);
	if (strcmp(device, "virtio-net") != 0)
		return set_option(c, where, slot, word, "true", err);
	if (strncmp(word, "tap", 3) == 0 && word[3] != '\0') {
		ret = set_option(c, where, slot, "backend", "tap", err);
		return ret != 0 ? ret : set_option(c, where, slot, "ifname", word, err);
	}
	return set_option(c, where, slot, "backend", strcmp(word, "slirp") == 0 ? "user" : word, err);
}

/* bhyve's NAME=SOCKET of a console: port after port. */
static int
set_port(struct config *c, const char *where, const char *slot, unsigned n, const char *name,
	 const char *path, struct err *err)
{
	char key[32];
	int ret;

	snprintf(key, sizeof(key), "port.%u.name", n);
	ret = set_option(c, where, slot, key, name, err);
	snprintf(key, sizeof(key), "port.%u.path", n);
	return ret != 0 ? ret : set_option(c, where, slot, key, path, err);
}

int
devices_parse_options(struct config *c, const char *where, const char *slot, const char *device,
		      char *options, struct err *err)
{
	bool console = strcmp(device, "virtio-console") == 0;
	char *save = NULL;
	unsigned n = 0;
	int ret = 0;

	for (char *word = strtok_r(options, ",", &save); word != NULL && ret == 0;
	     word = strtok_r(NULL, ",", &save), n++) {
		char *eq = strchr(word, '=');

		if (eq != NULL)
			*eq++ = '\0';
		if (console && eq != NULL)
			ret = set_port(c, where, slot, n, word, eq, err);
		else if (console) /* a console of the guest's, without a name */
			ret = err_set(err, EINVAL, "%s: '%s' is no port (NAME=SOCKET, NAME=stdio)", where,
				      word);
		else if (n == 0 && eq == NULL)
			ret = set_first(c, where, slot, device, word, err);
		else
			ret = set_option(c, where, slot, word, eq != NULL ? eq : "true", err);
	}
	return ret;
}

/* ---- the board's list ---- */

struct listing {
	const struct config *c;
	struct board_pci *list;
	size_t count;
	struct err *err;
};

/* The host bridge and the LPC bridge are wired into the board: naming them is allowed, moving them is not. */
static int
check_chipset(const struct board_pci *p, const char *name, const char *value, struct err *err)
{
	unsigned slot = strcmp(value, "hostbridge") == 0 ? 0 : LPC_SLOT;

	if (p->bus == 0 && p->fn == 0 && p->slot == slot)
		return 0;
	return err_set(err, ENOTSUP, "%s: %s belongs at 0:%u:0 (-s %u,%s)", name, value, slot, slot, value);
}

static bool
is_chipset(const char *device)
{
	return strcmp(device, "hostbridge") == 0 || strcmp(device, "lpc") == 0;
}

static int
add_function(struct listing *l, const struct board_pci *p, const char *name)
{
	struct board_pci *grown;

	if (p->bus == 0 && (p->slot == 0 || p->slot == LPC_SLOT))
		return err_set(l->err, EEXIST, "%s: slot %u belongs to the %s (choose 1 to 30)", name,
			       p->slot, p->slot == 0 ? "host bridge" : "LPC bridge");
	grown = reallocarray(l->list, l->count + 1, sizeof(*grown));
	if (grown == NULL)
		return err_set(l->err, ENOMEM, "configuration: out of memory");
	l->list = grown;
	grown[l->count++] = *p;
	return 0;
}

/* "pci.0.3.0.mac" must be an option of what is in the slot. */
static int
check_option(struct listing *l, const struct board_pci *p, const char *name, const char *option)
{
	char key[KEY_ROOM];
	const char *device;
	const struct pci_model *m;

	snprintf(key, sizeof(key), "pci.%u.%u.%u.device", p->bus, p->slot, p->fn);
	device = config_get(l->c, key);
	if (device == NULL)
		return err_set(l->err, EINVAL, "%s: there is no device (set %s)", name, key);
	m = pci_model_find(device);
	if (m != NULL && pci_model_takes(m, option))
		return 0;
	return err_set(l->err, EINVAL, "%s: %s has no such option (%s)", name, device,
		       m != NULL ? m->options : "it has none");
}

static int
list_key(void *arg, const char *name, const char *value)
{
	struct listing *l = arg;
	struct board_pci p = {0};
	char canonical[KEY_ROOM];
	int end = 0;

	if (sscanf(name, "pci.%u.%u.%u.%n", &p.bus, &p.slot, &p.fn, &end) != 3 || end == 0)
		return 0;
	snprintf(canonical, sizeof(canonical), "pci.%u.%u.%u.", p.bus, p.slot, p.fn);
	if (p.bus > 255 || p.slot >= SLOTS || p.fn >= FUNCTIONS || strncmp(canonical, name, (size_t)end) != 0)
		return err_set(l->err, EINVAL, "%s: no such slot (pci.B.S.F, up to pci.255.31.7)", name);
	if (strcmp(name + end, "device") != 0)
		return check_option(l, &p, name, name + end);
	value = config_get(l->c, name);
	if (is_chipset(value))
		return check_chipset(&p, name, value, l->err);
	p.model = pci_model_find(value);
	LH_ASSERT(p.model != NULL);
	return add_function(l, &p, name);
}

static int
by_place(const void *a, const void *b)
{
	const struct board_pci *x = a, *y = b;
	unsigned px = x->bus << 8 | x->slot << 3 | x->fn, py = y->bus << 8 | y->slot << 3 | y->fn;

	return px < py ? -1 : px > py;
}

int
devices_list(const struct config *c, struct board_pci **list, size_t *count, struct err *err)
{
	struct listing l = {.c = c, .err = err};
	int ret = config_each(c, list_key, &l);

	if (ret != 0) {
		free(l.list);
		return ret;
	}
	if (l.count > 0)
		qsort(l.list, l.count, sizeof(*l.list), by_place);
	*list = l.list;
	*count = l.count;
	return 0;
}

const char *
devices_option(void *ctx, const char *key)
{
	return config_get(ctx, key);
}
