/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libFuzzer: any bytes as requests to the control socket, as the HTTP library would hand them over: a line
 * "METHOD PATH [CPU]", then the body. The board is a fake one that counts what it is asked. Every reply is
 * JSON or Prometheus text, an error has its text, and nothing changes that must not.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "board/board.h"
#include "state/field.h"
#include "vmm/config.h"
#include "vmm/control/request.h"
#include "vmm/version.h"
#include "x86/state.h"

enum { CPUS = 3, MAX_REQUESTS = 16 };

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

const char lhyve_version[] = "fuzz";
struct board {
	bool paused;
	unsigned nmis, ends, links;
};
static struct board board;
static struct config *config;

static void
require(int ok)
{
	if (!ok)
		abort();
}

/* ---- the board ---- */

int
board_pause(struct board *b, struct err *err)
{
	(void)err;
	b->paused = true;
	return 0;
}

int
board_resume(struct board *b, struct err *err)
{
	(void)err;
	b->paused = false;
	return 0;
}

void
board_get_status(struct board *b, struct board_status *s)
{
	*s = (struct board_status){
	    .started = true, .paused = b->paused, .clock_ns = UINT64_MAX >> 1, .tsc_khz = 1};
}

unsigned
board_cpu_count(const struct board *b)
{
	(void)b;
	return CPUS;
}

unsigned
board_console_port(struct board *b, unsigned i)
{
	(void)b;
	return i == 1 ? 4321 : 0;
}

void
board_power_button(struct board *b)
{
	(void)b;
}

void
board_end_now(struct board *b, enum board_end end)
{
	require(end == BOARD_REBOOT || end == BOARD_POWEROFF);
	b->ends++;
}

void
board_nmi(struct board *b, unsigned cpu)
{
	require(cpu < CPUS);
	b->nmis++;
}

void
board_set_link(struct board *b, const char *slot, bool up)
{
	require(slot[0] != '\0');
	b->links += up;
}

static const struct field lapic_rows[] = {
    {.tag = 1, .name = "tpr", .kind = FIELD_U32, .count = 1, .offset = 0},
    {.tag = 2, .name = "isr", .kind = FIELD_U32, .count = 8, .offset = 4},
    {.tag = 3, .name = "chip[1].imr", .kind = FIELD_U8, .count = 1, .offset = 36},
};
static const struct field_table lapic_table = {"lapic", 1, 40, 3, lapic_rows};

int
board_get_state(struct board *b, struct board_state *s, struct err *err)
{
	static uint8_t st[CPUS][40];
	static struct board_device_state device[CPUS];
	static struct x86_state cpu[CPUS];
	static uint32_t apic_id[CPUS];

	(void)b, (void)err;
	for (unsigned i = 0; i < CPUS; i++) {
		device[i] = (struct board_device_state){.table = &lapic_table, .st = st[i]};
		snprintf(device[i].name, sizeof(device[i].name), "lapic.%u", i);
		memset(st[i], 0xff, sizeof(st[i]));
		memset(&cpu[i], 0xff, sizeof(cpu[i]));
	}
	*s = (struct board_state){CPUS, CPUS, apic_id, cpu, device};
	return 0;
}

void
board_state_free(struct board_state *s)
{
	*s = (struct board_state){0};
}

void
board_get_stats(struct board *b, void (*fn)(void *arg, const char *who, const char *name, uint64_t value),
		void *arg)
{
	(void)b;
	fn(arg, "cpu0", "exit.io", 1);
	fn(arg, "cpu2", "instructions", UINT64_MAX >> 1);
	fn(arg, "com1", "rx.bytes", 3);
}

/* ---- the requests ---- */

static void
use(int r)
{
	require(r == 0);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct err err = {0};

	(void)argc, (void)argv;
	config = config_create(&err);
	require(config != NULL);
	use(config_set(config, "fuzz", "name", "vm", &err));
	use(config_set(config, "fuzz", "lpc.com2.path", "tcp=[::1]:0", &err));
	use(config_set(config, "fuzz", "pci.0.3.0.device", "virtio-rnd", &err));
	return 0;
}

static const char *
argument(void *ctx, const char *name)
{
	return strcmp(name, "cpu") == 0 ? ctx : NULL;
}

static void
check_reply(const struct control_reply *r)
{
	json_t *o;

	require(r->status >= 200 && r->status < 600 && r->body != NULL && strlen(r->body) == r->len);
	require(r->after == NULL || r->status == 202);
	require((r->status == 405) == (r->allow[0] != '\0'));
	if (strcmp(r->type, "application/json") != 0) {
		require(r->status == 200 && strncmp(r->body, "# HELP", 6) == 0);
		return;
	}
	o = json_loadb(r->body, r->len, JSON_DECODE_ANY, NULL);
	require(o != NULL);
	require((r->status < 300) == (json_object_get(o, "error") == NULL));
	json_decref(o);
}

/* Only what may change while the VM runs has changed. */
static void
check_config(void)
{
	require(strcmp(config_get(config, "name"), "vm") == 0);
	require(!config_is_set(config, "cpu.count") && !config_is_set(config, "log.path"));
}

static void
ask(char *line, const char *body, size_t len)
{
	const struct control_vm vm = {&board, config, "vm", "soft", "/run/lhyve/vm.sock"};
	char *path = strchr(line, ' '), *cpu = NULL;
	struct control_request q = {
	    .method = line, .path = "/", .arg = argument, .body = body, .body_len = len};
	struct control_reply r;

	if (path != NULL) {
		*path++ = '\0';
		q.path = path;
		cpu = strchr(path, ' ');
	}
	if (cpu != NULL)
		*cpu++ = '\0';
	q.arg_ctx = cpu;
	control_answer(&vm, &q, &r);
	check_reply(&r);
	if (r.after != NULL)
		r.after(&board);
	free(r.body);
	check_config();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *at = (const char *)data, *end = at + size;

	/* Requests are separated by a zero byte. */
	for (unsigned i = 0; i < MAX_REQUESTS && at < end; i++) {
		const char *stop = memchr(at, '\0', (size_t)(end - at)) ?: end;
		const char *eol = memchr(at, '\n', (size_t)(stop - at)) ?: stop;
		const char *body = eol < stop ? eol + 1 : stop;
		char *line = strndup(at, (size_t)(eol - at));

		require(line != NULL);
		if ((size_t)(stop - body) <= CONTROL_MAX_BODY)
			ask(line, body, (size_t)(stop - body));
		free(line);
		at = stop + (stop < end);
	}
	return 0;
}
