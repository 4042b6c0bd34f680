/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Counters in two forms. They are read in one go, so that the board waits for no formatting. A row is the
 * board's name, "exit.io" or "instructions"; what a form makes of it depends on the name's beginning.
 */
#include "vmm/control/stats.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/util.h"
#include "board/board.h"

#define EXIT_PREFIX "exit."

/* ---- reading ---- */

static void
add_row(void *arg, const char *who, const char *name, uint64_t value)
{
	struct control_stats *s = arg;
	struct control_counter *row;

	if (s->count == s->room) {
		size_t room = s->room != 0 ? 2 * s->room : 256;

		row = reallocarray(s->row, room, sizeof(*row));
		if (row == NULL) {
			s->no_memory = true;
			return;
		}
		s->row = row;
		s->room = room;
	}
	row = &s->row[s->count++];
	snprintf(row->who, sizeof(row->who), "%s", who);
	snprintf(row->name, sizeof(row->name), "%s", name);
	row->value = value;
}

int
control_stats_read(struct control_stats *s, struct board *b, struct err *err)
{
	*s = (struct control_stats){0};
	board_get_stats(b, add_row, s);
	return s->no_memory ? err_set(err, ENOMEM, "out of memory") : 0;
}

void
control_stats_free(struct control_stats *s)
{
	free(s->row);
	*s = (struct control_stats){0};
}

static bool
is_cpu(const struct control_counter *row, unsigned *n)
{
	return sscanf(row->who, "cpu%u", n) == 1;
}

static bool
is_exit(const struct control_counter *row)
{
	return strncmp(row->name, EXIT_PREFIX, strlen(EXIT_PREFIX)) == 0;
}

static const char *
exit_cause(const struct control_counter *row)
{
	return row->name + strlen(EXIT_PREFIX);
}

/* ---- JSON ---- */

/* A counter's name as a member: "blocks decoded" is blocks_decoded. */
static void
member_name(const char *name, char room[static 48])
{
	snprintf(room, 48, "%s", name);
	for (char *p = room; *p != '\0'; p++) {
		if (*p == ' ' || *p == '.')
			*p = '_';
	}
}

static json_t *
member_object(json_t *o, const char *name)
{
	json_t *m = json_object_get(o, name);

	if (m != NULL)
		return m;
	json_object_set_new(o, name, json_object());
	return json_object_get(o, name);
}

static void
add_to(json_t *o, const char *name, uint64_t value)
{
	json_int_t before = json_integer_value(json_object_get(o, name));

	json_object_set_new(o, name, json_integer(before + (json_int_t)value));
}

static void
add_counter(json_t *o, const struct control_counter *row)
{
	char name[48];

	if (is_exit(row)) {
		add_to(member_object(o, "exits"), exit_cause(row), row->value);
		return;
	}
	member_name(row->name, name);
	add_to(o, name, row->value);
}

json_t *
control_stats_json(const struct control_stats *s)
{
	json_t *o = json_object(), *cpus = json_array(), *devices = json_object(), *total = json_object();
	unsigned n;

	json_object_set_new(o, "cpus", cpus);
	json_object_set_new(o, "devices", devices);
	json_object_set_new(o, "total", total);
	for (size_t i = 0; i < s->count; i++) {
		const struct control_counter *row = &s->row[i];

		if (!is_cpu(row, &n)) {
			add_counter(member_object(devices, row->who), row);
			continue;
		}
		while (json_array_size(cpus) <= n &&
		       json_array_append_new(cpus, json_pack("{s:i}", "cpu", (int)json_array_size(cpus))) ==
			   0)
			;
		add_counter(json_array_get(cpus, n), row);
		add_counter(total, row);
	}
	return o;
}

/* ---- Prometheus ---- */

enum which {
	W_EXIT,
	W_INTERRUPTS,
	W_NMIS,
	W_INSTRUCTIONS,
	W_ENGINE,
	W_RX,
	W_TX,
	W_READ,
	W_WRITE,
	W_DEVICE,
	WHICH
};

static const struct {
	const char *family, *help;
} families[] = {
    [W_EXIT] = {"lhyve_exits_total", "Exits of a virtual CPU from guest code, by cause."},
    [W_INTERRUPTS] = {"lhyve_interrupts_total", "External interrupts given to a virtual CPU."},
    [W_NMIS] = {"lhyve_nmis_total", "Non-maskable interrupts given to a virtual CPU."},
    [W_INSTRUCTIONS] = {"lhyve_instructions_total", "Guest instructions that the engine ran."},
    [W_ENGINE] = {"lhyve_engine_total", "The engine's own counters of a virtual CPU."},
    [W_RX] = {"lhyve_device_receive_bytes_total", "Bytes from the host into a device."},
    [W_TX] = {"lhyve_device_transmit_bytes_total", "Bytes from a device to the host."},
    [W_READ] = {"lhyve_disk_read_bytes_total", "Bytes that a disk read for the guest."},
    [W_WRITE] = {"lhyve_disk_written_bytes_total", "Bytes that a disk wrote for the guest."},
    [W_DEVICE] = {"lhyve_device_total", "Other counters of a device."},
};

static enum which
family_of(const struct control_counter *row)
{
	static const struct {
		const char *name;
		enum which which;
	} named[] = {{"interrupts", W_INTERRUPTS}, {"nmis", W_NMIS},   {"instructions", W_INSTRUCTIONS},
		     {"rx.bytes", W_RX},	   {"tx.bytes", W_TX}, {"read.bytes", W_READ},
		     {"write.bytes", W_WRITE}};
	unsigned n;

	if (is_exit(row))
		return W_EXIT;
	for (size_t i = 0; i < ARRAY_LEN(named); i++) {
		if (strcmp(named[i].name, row->name) == 0)
			return named[i].which;
	}
	return is_cpu(row, &n) ? W_ENGINE : W_DEVICE;
}

static void
sample(const struct control_counter *row, enum which w, const char *vm, FILE *out)
{
	unsigned n;

	fprintf(out, "%s{vm=\"%s\"", families[w].family, vm);
	if (is_cpu(row, &n))
		fprintf(out, ",cpu=\"%u\"", n);
	else
		fprintf(out, ",device=\"%s\"", row->who);
	if (w == W_EXIT)
		fprintf(out, ",cause=\"%s\"", exit_cause(row));
	if (w == W_ENGINE || w == W_DEVICE)
		fprintf(out, ",counter=\"%s\"", row->name);
	fprintf(out, "} %llu\n", (unsigned long long)row->value);
}

/* All samples of a family stand together, below their help and type. */
void
control_stats_prometheus(const struct control_stats *s, const char *vm, FILE *out)
{
	for (enum which w = 0; w < WHICH; w++) {
		bool first = true;

		for (size_t i = 0; i < s->count; i++) {
			if (family_of(&s->row[i]) != w)
				continue;
			if (first)
				fprintf(out, "# HELP %s %s\n# TYPE %s counter\n", families[w].family,
					families[w].help, families[w].family);
			first = false;
			sample(&s->row[i], w, vm, out);
		}
	}
}
