/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Endpoints of the control socket. `endpoints` is the one table; GET / prints it. A path that ends in "*"
 * takes the rest as its argument.
 */
#include "vmm/control/request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/util.h"
#include "board/board.h"
#include "vmm/config.h"
#include "vmm/config/ucl.h"
#include "vmm/control/json.h"
#include "vmm/control/running.h"
#include "vmm/control/stats.h"
#include "vmm/version.h"

#define TYPE_JSON	"application/json"
#define TYPE_PROMETHEUS "text/plain; version=0.0.4; charset=utf-8"

struct call {
	const struct control_vm *vm;
	const struct control_request *q;
	struct control_reply *r;
	const char *rest; /* what the path's "*" stands for */
};

/* ---- replies ---- */

/* Takes the text. */
static void
answer_text(struct control_reply *r, unsigned status, const char *type, char *text, size_t len)
{
	r->status = text != NULL ? status : 500;
	r->type = type;
	r->body = text;
	r->len = text != NULL ? len : 0;
}

/* Takes the object. */
static void
answer_json(struct control_reply *r, unsigned status, json_t *o)
{
	char *text = o != NULL ? json_dumps(o, JSON_INDENT(2)) : NULL, *line = NULL;
	int len = text != NULL ? asprintf(&line, "%s\n", text) : -1;

	free(text);
	json_decref(o);
	answer_text(r, status, TYPE_JSON, len >= 0 ? line : NULL, (size_t)MAX(len, 0));
}

void
control_answer_error(struct control_reply *r, unsigned status, const char *text)
{
	/* Bytes of the client's may be in the text, cut in the middle of a character: those make no JSON
	 * string. */
	json_t *s = json_string(text);

	answer_json(r, status,
		    json_pack("{s:o}", "error", s != NULL ? s : json_string("no UTF-8 in the request")));
}

static void
answer_err(struct call *c, unsigned status, const struct err *err)
{
	control_answer_error(c->r, status, err->msg);
}

/* ---- what a request holds ---- */

/* The body as an object; none is an empty one. NULL: the reply is made. */
static json_t *
body_object(struct call *c)
{
	char text[JSON_ERROR_TEXT_LENGTH + 64];
	json_error_t error;
	json_t *o;

	if (c->q->body_len == 0)
		return json_object();
	o = json_loadb(c->q->body, c->q->body_len, JSON_REJECT_DUPLICATES, &error);
	if (o != NULL && json_is_object(o))
		return o;
	if (o == NULL)
		snprintf(text, sizeof(text), "the body is no JSON: line %d: %s", error.line, error.text);
	else
		snprintf(text, sizeof(text), "the body is no JSON object");
	json_decref(o);
	control_answer_error(c->r, 400, text);
	return NULL;
}

/* Nothing is ignored: a member that no endpoint knows is an error. False: the reply is made. */
static bool
only_member(struct call *c, json_t *o, const char *known)
{
	const char *key;
	json_t *value;

	json_object_foreach(o, key, value)
	{
		char text[128];

		if (known != NULL && strcmp(key, known) == 0)
			continue;
		snprintf(text, sizeof(text), "unknown member '%.64s' in the body", key);
		control_answer_error(c->r, 400, text);
		return false;
	}
	return true;
}

/* An empty body, or an empty object. */
static bool
no_body(struct call *c)
{
	json_t *o = body_object(c);
	bool ok = o != NULL && only_member(c, o, NULL);

	json_decref(o);
	return ok;
}

static unsigned
cpu_count(const struct call *c)
{
	return board_cpu_count(c->vm->board);
}

static void
no_such_cpu(struct call *c)
{
	char text[80];

	snprintf(text, sizeof(text), "no such CPU (0 to %u)", cpu_count(c) - 1);
	control_answer_error(c->r, 400, text);
}

/* ?cpu=N: *first and *end are that one; else all. False: the reply is made. */
static bool
arg_cpus(struct call *c, unsigned *first, unsigned *end)
{
	const char *text = c->q->arg != NULL ? c->q->arg(c->q->arg_ctx, "cpu") : NULL;

	*first = 0;
	*end = cpu_count(c);
	if (text == NULL)
		return true;
	if (*text == '\0' || strlen(text) > 4 || strspn(text, "0123456789") != strlen(text) ||
	    (unsigned)atoi(text) >= *end) {
		no_such_cpu(c);
		return false;
	}
	*first = (unsigned)atoi(text);
	*end = *first + 1;
	return true;
}

/* ---- what it is ---- */

static json_t *
console_json(const struct call *c, unsigned i)
{
	char name[] = "com1", key[] = "lpc.com1.path";
	const char *path;
	json_t *o;

	name[3] = key[7] = (char)('1' + i);
	path = config_get(c->vm->config, key);
	if (path == NULL)
		return NULL;
	o = json_pack("{s:s, s:s}", "name", name, "backend", path);
	if (strncmp(path, "tcp=", 4) == 0)
		json_object_set_new(o, "tcp_port",
				    json_integer((json_int_t)board_console_port(c->vm->board, i)));
	return o;
}

struct devices {
	const struct config *config;
	json_t *array;
};

static int
add_device(void *arg, const char *key, const char *device)
{
	const struct devices *d = arg;
	char slot[64], name[80];
	const char *called;
	json_t *o;

	/* "pci.0.3.0.device" */
	snprintf(slot, sizeof(slot), "%.*s", (int)(strlen(key) - strlen(".device")), key);
	snprintf(name, sizeof(name), "%s.name", slot);
	called = config_get(d->config, name);
	o = json_pack("{s:s, s:s}", "slot", slot, "device", device);
	if (called != NULL)
		json_object_set_new(o, "name", json_string(called));
	json_array_append_new(d->array, o);
	return 0;
}

/* A port of virtio-console by the name it has in the guest, else by its key. */
static int
add_port(void *arg, const char *key, const char *path)
{
	const struct devices *d = arg;
	char port[80], name[96], *socket = NULL;
	const char *called, *colon = strrchr(path, ':');
	json_t *o;

	/* "pci.0.3.0.port.1.path" */
	snprintf(port, sizeof(port), "%.*s", (int)(strlen(key) - strlen(".path")), key);
	snprintf(name, sizeof(name), "%s.name", port);
	called = config_get(d->config, name);
	o = json_pack("{s:s, s:s}", "name", called != NULL ? called : port, "backend", path);
	if (strncmp(path, "tcp=", 4) == 0 && colon != NULL)
		json_object_set_new(o, "tcp_port", json_integer(atoi(colon + 1)));
	else if (strcmp(path, "stdio") != 0)
		socket = realpath(path, NULL);
	if (socket != NULL)
		json_object_set_new(o, "socket", json_string(socket));
	free(socket);
	json_array_append_new(d->array, o);
	return 0;
}

static json_t *
status_json(const struct call *c)
{
	const struct config *t = c->vm->config;
	struct board_status s;
	json_t *o, *consoles = json_array();
	struct devices devices = {t, json_array()}, ports = {t, consoles};

	board_get_status(c->vm->board, &s);
	for (unsigned i = 0; i < 4; i++) {
		json_t *console = console_json(c, i);

		if (console != NULL)
			json_array_append_new(consoles, console);
	}
	o = json_pack("{s:s, s:s, s:i, s:s, s:i, s:I, s:I, s:I, s:s, s:s}", "name", c->vm->name, "state",
		      s.ended	  ? "ending"
		      : s.paused  ? "paused"
		      : s.started ? "running"
				  : "starting",
		      "pid", (int)getpid(), "engine", c->vm->engine, "cpus", (int)cpu_count(c),
		      "memory_bytes", (json_int_t)config_uint(t, "memory.size"), "clock_ns",
		      (json_int_t)s.clock_ns, "tsc_khz", (json_int_t)s.tsc_khz, "socket", c->vm->socket,
		      "version", lhyve_version);
	config_each_of(t, "pci.*.*.*.port.*.path", add_port, &ports);
	json_object_set_new(o, "consoles", consoles);
	config_each_of(t, "pci.*.*.*.device", add_device, &devices);
	json_object_set_new(o, "devices", devices.array);
	return o;
}

static void
get_status(struct call *c)
{
	answer_json(c->r, 200, status_json(c));
}

static void
get_stats(struct call *c)
{
	struct control_stats s;
	struct err err = {0};

	if (control_stats_read(&s, c->vm->board, &err) != 0)
		answer_err(c, 503, &err);
	else
		answer_json(c->r, 200, control_stats_json(&s));
	control_stats_free(&s);
}

static void
print_gauge(FILE *out, const struct call *c, const char *name, const char *help, double value)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s gauge\n%s{vm=\"%s\"} %.9g\n", name, help, name, name,
		c->vm->name, value);
}

static void
print_metrics(FILE *out, const struct call *c, const struct control_stats *s)
{
	struct board_status st;

	board_get_status(c->vm->board, &st);
	print_gauge(out, c, "lhyve_paused", "1 while the VM is paused.", st.paused);
	print_gauge(out, c, "lhyve_cpus", "Virtual CPUs.", cpu_count(c));
	print_gauge(out, c, "lhyve_memory_bytes", "Guest RAM.",
		    (double)config_uint(c->vm->config, "memory.size"));
	print_gauge(out, c, "lhyve_clock_seconds", "What the VM clock shows.", (double)st.clock_ns / 1e9);
	control_stats_prometheus(s, c->vm->name, out);
}

static void
get_metrics(struct call *c)
{
	struct control_stats s;
	struct err err = {0};
	char *text = NULL;
	size_t len = 0;
	FILE *out = NULL;

	if (control_stats_read(&s, c->vm->board, &err) == 0)
		out = open_memstream(&text, &len);
	if (out != NULL) {
		print_metrics(out, c, &s);
		if (fclose(out) != 0) {
			free(text);
			text = NULL;
		}
	}
	answer_text(c->r, 200, TYPE_PROMETHEUS, text, len);
	control_stats_free(&s);
}

static void
get_regs(struct call *c)
{
	struct board_state s;
	struct err err = {0};
	unsigned first, end;

	if (!arg_cpus(c, &first, &end))
		return;
	if (board_get_state(c->vm->board, &s, &err) != 0) {
		answer_err(c, 503, &err);
		return;
	}
	answer_json(c->r, 200, control_json_regs(&s, first, end));
	board_state_free(&s);
}

/* ---- configuration ---- */

static void
get_config(struct call *c)
{
	char *ucl = NULL, *json = NULL;
	size_t ucl_len = 0, len = 0;
	struct err err = {0};
	FILE *out = open_memstream(&ucl, &ucl_len);
	struct ucl_tree *t = NULL;

	if (out != NULL) {
		config_dump(c->vm->config, out);
		fclose(out);
		t = ucl_parse("configuration", ucl, ucl_len, NULL, &err);
	}
	out = t != NULL ? open_memstream(&json, &len) : NULL;
	if (out != NULL) {
		ucl_emit_json(ucl_root(t), out);
		fclose(out);
	}
	ucl_free(t);
	free(ucl);
	answer_text(c->r, 200, TYPE_JSON, json, len);
}

static void
unknown_key(struct call *c)
{
	char room[CONFIG_NAME_ROOM], text[2 * CONFIG_NAME_ROOM + 64];
	const char *near = config_key_nearest(c->rest, room);

	if (near != NULL)
		snprintf(text, sizeof(text), "unknown key '%.100s' (did you mean '%s'?)", c->rest, near);
	else
		snprintf(text, sizeof(text), "unknown key '%.100s'", c->rest);
	control_answer_error(c->r, 404, text);
}

static json_t *
typed_value(const struct config *t, const struct config_key *k, const char *name)
{
	const char *text = config_get(t, name);

	if (text == NULL)
		return json_null();
	switch (k->type) {
	case CONFIG_BOOL:
		return json_boolean(config_bool(t, name));
	case CONFIG_INT:
	case CONFIG_SIZE:
		return json_integer((json_int_t)config_uint(t, name));
	default:
		return json_string(text);
	}
}

static void
answer_key(struct call *c, const struct config_key *k)
{
	/* An alias is another spelling of the key's own name. */
	const char *name = k->alias != NULL && strcmp(c->rest, k->alias) == 0 ? k->name : c->rest;

	answer_json(c->r, 200,
		    json_pack("{s:s, s:o, s:b, s:b}", "key", name, "value",
			      typed_value(c->vm->config, k, name), "set", config_is_set(c->vm->config, name),
			      "may_change", k->running));
}

static void
get_key(struct call *c)
{
	const struct config_key *k = config_key_find(c->rest);

	if (k == NULL)
		unknown_key(c);
	else
		answer_key(c, k);
}

/* A value as -o would have it. NULL: the reply is made, or no memory. */
static char *
value_text(struct call *c, const json_t *v)
{
	char *text = NULL;

	if (json_is_string(v) && strlen(json_string_value(v)) == json_string_length(v))
		return strdup(json_string_value(v));
	if (json_is_boolean(v))
		return strdup(json_is_true(v) ? "true" : "false");
	if (json_is_integer(v) && json_integer_value(v) >= 0)
		return asprintf(&text, "%lld", (long long)json_integer_value(v)) >= 0 ? text : NULL;
	control_answer_error(c->r, 400,
			     "no value (a body as {\"value\": \"debug\"}: a string, number or boolean)");
	return NULL;
}

static unsigned
status_of(const struct err *err)
{
	switch (err->code) {
	case ENOENT:
		return 404;
	case EBUSY:
		return 409;
	case ENOTSUP:
		return 501;
	case ENOMEM:
		return 500;
	case ECANCELED:
		return 503;
	default:
		return 400;
	}
}

static void
put_key(struct call *c)
{
	const struct config_key *k = config_key_find(c->rest);
	json_t *o = body_object(c);
	struct err err = {0};
	char *text;

	if (o == NULL)
		return;
	text = only_member(c, o, "value") ? value_text(c, json_object_get(o, "value")) : NULL;
	if (text != NULL) {
		if (k == NULL)
			unknown_key(c);
		else if (running_set(c->vm->config, c->vm->board, c->rest, text, &err) != 0)
			answer_err(c, status_of(&err), &err);
		else
			answer_key(c, k);
	}
	free(text);
	json_decref(o);
}

/* ---- what it does ---- */

static void
change_pause(struct call *c, int (*change)(struct board *b, struct err *err))
{
	struct err err = {0};

	if (!no_body(c))
		return;
	if (change(c->vm->board, &err) != 0)
		answer_err(c, status_of(&err), &err);
	else
		answer_json(c->r, 200, status_json(c));
}

static void
post_pause(struct call *c)
{
	change_pause(c, board_pause);
}

static void
post_resume(struct call *c)
{
	change_pause(c, board_resume);
}

static void
end_reset(struct board *b)
{
	board_end_now(b, BOARD_REBOOT);
}

static void
end_poweroff(struct board *b)
{
	board_end_now(b, BOARD_POWEROFF);
}

/* The VM ends once the client has its answer. */
static void
end_after(struct call *c, void (*end)(struct board *b))
{
	if (!no_body(c))
		return;
	answer_json(c->r, 202, json_pack("{s:s}", "state", "ending"));
	c->r->after = end;
}

static void
post_reset(struct call *c)
{
	end_after(c, end_reset);
}

static void
post_poweroff(struct call *c)
{
	end_after(c, end_poweroff);
}

static void
post_shutdown(struct call *c)
{
	if (!no_body(c))
		return;
	board_power_button(c->vm->board);
	answer_json(c->r, 200, status_json(c));
}

static void
post_nmi(struct call *c)
{
	json_t *o = body_object(c), *cpu;

	if (o == NULL)
		return;
	if (only_member(c, o, "cpu")) {
		cpu = json_object_get(o, "cpu");
		if (cpu != NULL && (!json_is_integer(cpu) || json_integer_value(cpu) < 0 ||
				    json_integer_value(cpu) >= (json_int_t)cpu_count(c))) {
			no_such_cpu(c);
		} else {
			board_nmi(c->vm->board, (unsigned)json_integer_value(cpu));
			answer_json(c->r, 200, status_json(c));
		}
	}
	json_decref(o);
}

static void
not_yet(struct call *c)
{
	char text[80];

	snprintf(text, sizeof(text), "%s: not available yet", c->q->path + 1);
	control_answer_error(c->r, 501, text);
}

static void get_root(struct call *c);

/* ---- the table ---- */

static const struct endpoint {
	const char *method, *path;
	void (*handle)(struct call *c);
	const char *help;
} endpoints[] = {
    {"GET", "/", get_root, "this list"},
    {"GET", "/status", get_status, "name, state, process, clock, consoles"},
    {"GET", "/stats", get_stats, "counters"},
    {"GET", "/metrics", get_metrics, "counters as Prometheus reads them"},
    {"GET", "/regs", get_regs, "registers of all virtual CPUs, or of ?cpu=N, and the interrupt controllers"},
    {"GET", "/config", get_config, "the resolved configuration"},
    {"GET", "/config/*", get_key, "one key of it"},
    {"PUT", "/config/*", put_key, "change a key that may change: {\"value\": \"debug\"}"},
    {"POST", "/pause", post_pause, "park the virtual CPUs and stop the VM clock"},
    {"POST", "/resume", post_resume, "go on"},
    {"POST", "/reset", post_reset, "end as a guest's reboot does"},
    {"POST", "/poweroff", post_poweroff, "cut the power"},
    {"POST", "/shutdown", post_shutdown, "press the ACPI power button"},
    {"POST", "/nmi", post_nmi, "non-maskable interrupt, to {\"cpu\": N} or CPU 0"},
    {"POST", "/destroy", post_poweroff, "end the VM"},
    {"POST", "/snapshot", not_yet, "not available yet"},
    {"POST", "/suspend", not_yet, "not available yet"},
    {"POST", "/migrate", not_yet, "not available yet"},
};

static void
get_root(struct call *c)
{
	json_t *a = json_array();

	for (size_t i = 0; i < ARRAY_LEN(endpoints); i++)
		json_array_append_new(a, json_pack("{s:s, s:s, s:s}", "method", endpoints[i].method, "path",
						   endpoints[i].path, "help", endpoints[i].help));
	answer_json(
	    c->r, 200,
	    json_pack("{s:s, s:s, s:o}", "name", c->vm->name, "version", lhyve_version, "endpoints", a));
}

/* *rest is what "*" stands for. */
static bool
path_fits(const char *pattern, const char *path, const char **rest)
{
	size_t len = strlen(pattern);

	*rest = NULL;
	if (pattern[len - 1] != '*')
		return strcmp(pattern, path) == 0;
	*rest = path + len - 1;
	return strncmp(pattern, path, len - 1) == 0 && path[len - 1] != '\0';
}

/* HEAD is GET; the library leaves the body out. */
static bool
method_fits(const struct endpoint *e, const char *method)
{
	return strcmp(e->method, method) == 0 ||
	       (strcmp(e->method, "GET") == 0 && strcmp(method, "HEAD") == 0);
}

void
control_answer(const struct control_vm *vm, const struct control_request *q, struct control_reply *r)
{
	struct call c = {vm, q, r, NULL};

	*r = (struct control_reply){.status = 500, .type = TYPE_JSON};
	for (size_t i = 0; i < ARRAY_LEN(endpoints); i++) {
		const struct endpoint *e = &endpoints[i];
		size_t used = strlen(r->allow);

		if (!path_fits(e->path, q->path, &c.rest))
			continue;
		if (method_fits(e, q->method)) {
			r->allow[0] = '\0';
			e->handle(&c);
			return;
		}
		snprintf(r->allow + used, sizeof(r->allow) - used, "%s%s", used != 0 ? ", " : "", e->method);
	}
	if (r->allow[0] != '\0')
		control_answer_error(r, 405, "this method is not for this path (GET / lists the endpoints)");
	else
		control_answer_error(r, 404, "no such path (GET / lists the endpoints)");
}
