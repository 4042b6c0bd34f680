/* SPDX-License-Identifier: BSD-2-Clause */
/* What lhyvectl does for each verb. */
#include "vmm/ctl/verbs.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/util.h"
#include "vmm/control/socket.h"
#include "vmm/control/where.h"
#include "vmm/ctl/client.h"
#include "vmm/ctl/console.h"
#include "vmm/ctl/print.h"

enum { END_MS = 10000, ASK_S = 5 };

static void
print_json(const json_t *o)
{
	json_dumpf(o, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
	printf("\n");
}

/* ---- requests that need no more ---- */

int
ctl_post(const char *name, const char *verb, int cpu, struct err *err)
{
	char path[64];
	struct ctl_request q = {.method = "POST", .path = path};
	struct ctl_reply r;
	int ret;

	snprintf(path, sizeof(path), "/%s", verb);
	if (cpu >= 0)
		q.body = json_pack("{s:i}", "cpu", cpu);
	ret = ctl_call(name, &q, &r, err);
	json_decref(q.body);
	ctl_reply_free(&r);
	return ret;
}

static int
run_pause(const struct ctl_args *a, struct err *err)
{
	return ctl_post(a->name, "pause", -1, err);
}

static int
run_resume(const struct ctl_args *a, struct err *err)
{
	return ctl_post(a->name, "resume", -1, err);
}

static int
run_shutdown(const struct ctl_args *a, struct err *err)
{
	return ctl_post(a->name, "shutdown", -1, err);
}

static int
run_nmi(const struct ctl_args *a, struct err *err)
{
	return ctl_post(a->name, "nmi", a->cpu, err);
}

static int
run_snapshot(const struct ctl_args *a, struct err *err)
{
	return ctl_post(a->name, "snapshot", -1, err);
}

static int
run_suspend(const struct ctl_args *a, struct err *err)
{
	return ctl_post(a->name, "suspend", -1, err);
}

static int
run_migrate(const struct ctl_args *a, struct err *err)
{
	return ctl_post(a->name, "migrate", -1, err);
}

static int
run_inspect(const struct ctl_args *a, struct err *err)
{
	return err_set(err, ENOTSUP, "%s: inspect: not available yet", a->name);
}

/* ---- ends ---- */

/* The process at the other end has gone. */
static bool
wait_for_end(int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	return pidfd >= 0 && poll(&p, 1, END_MS) == 1;
}

int
ctl_end(const char *name, const char *verb, struct err *err)
{
	char path[64];
	const struct ctl_request q = {.method = "POST", .path = path};
	struct ctl_reply r;
	int ret;

	snprintf(path, sizeof(path), "/%s", verb);
	ret = ctl_call(name, &q, &r, err);
	if (ret == 0 && r.pidfd >= 0 && !wait_for_end(r.pidfd))
		ret = err_set(err, ETIMEDOUT, "%s: it answers, but does not end", name);
	ctl_reply_free(&r);
	return ret;
}

static int
run_reset(const struct ctl_args *a, struct err *err)
{
	return ctl_end(a->name, "reset", err);
}

static int
run_poweroff(const struct ctl_args *a, struct err *err)
{
	return ctl_end(a->name, "poweroff", err);
}

/* Whatever state the VM is in, afterwards there is none of that name, and nothing of it. */
static int
run_destroy(const struct ctl_args *a, struct err *err)
{
	const struct ctl_request q = {.method = "POST", .path = "/destroy", .timeout_s = ASK_S};
	char path[CONTROL_PATH_ROOM];
	struct err clean = {0};
	struct ctl_reply r;
	int ret = ctl_call(a->name, &q, &r, err);

	if (r.pidfd >= 0 && (ret != 0 || !wait_for_end(r.pidfd))) {
		(void)syscall(SYS_pidfd_send_signal, r.pidfd, SIGKILL, NULL, 0);
		ret = wait_for_end(r.pidfd) ? 0 : err_set(err, ETIMEDOUT, "%s: it does not end", a->name);
	}
	ctl_reply_free(&r);
	control_find(a->name, path);
	if (control_socket_clean(path, &clean) == 0 || ret == 0)
		return 0;
	return ret;
}

/* ---- list ---- */

struct names {
	char **path;
	size_t count;
};

static int
by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool
is_socket_name(const char *name)
{
	size_t len = strlen(name), end = strlen(CONTROL_SUFFIX);

	return len > end && strcmp(name + len - end, CONTROL_SUFFIX) == 0;
}

static int
add_folder(struct names *n, const char *folder, struct err *err)
{
	DIR *d = opendir(folder);
	struct dirent *e;
	int ret = 0;

	if (d == NULL)
		return 0; /* no VM of ours */
	while (ret == 0 && (e = readdir(d)) != NULL) {
		char **grown;

		if (!is_socket_name(e->d_name))
			continue;
		grown = reallocarray(n->path, n->count + 1, sizeof(*grown));
		if (grown != NULL)
			n->path = grown;
		if (grown == NULL || asprintf(&n->path[n->count], "%s/%s", folder, e->d_name) < 0)
			ret = err_set(err, ENOMEM, "out of memory");
		else
			n->count++;
	}
	closedir(d);
	return ret;
}

/* "NAME" of ".../NAME.sock" */
static void
name_of(const char *path, char room[static 128])
{
	const char *slash = strrchr(path, '/');

	snprintf(room, 128, "%s", slash != NULL ? slash + 1 : path);
	if (is_socket_name(room))
		room[strlen(room) - strlen(CONTROL_SUFFIX)] = '\0';
}

/* The status of the VM behind the path; NULL: none lives there. One that gives no answer lives. */
static json_t *
living(const char *path)
{
	const struct ctl_request q = {.method = "GET", .path = "/status", .timeout_s = ASK_S};
	struct err err = {0};
	struct ctl_reply r;
	char name[128];
	json_t *o = NULL;
	int ret;

	name_of(path, name);
	ret = ctl_call_path(path, name, &q, &r, &err);
	if (ret == 0)
		o = json_loadb(r.text != NULL ? r.text : "", r.len, 0, NULL);
	else if (ret == -ETIMEDOUT)
		o = json_pack("{s:s, s:s, s:i}", "name", name, "state", "silent", "pid", (int)r.pid);
	ctl_reply_free(&r);
	return o;
}

static int
run_list(const struct ctl_args *a, struct err *err)
{
	json_t *all = json_array();
	struct names n = {0};
	char folder[CONTROL_PATH_ROOM];
	int ret = 0;

	for (unsigned i = 0; ret == 0 && control_folder(i, folder) == 0; i++)
		ret = add_folder(&n, folder, err);
	if (n.count != 0)
		qsort(n.path, n.count, sizeof(*n.path), by_text);
	for (size_t i = 0; i < n.count; i++) {
		json_t *o = ret == 0 ? living(n.path[i]) : NULL;

		if (o != NULL)
			json_array_append_new(all, o);
		free(n.path[i]);
	}
	free(n.path);
	if (ret == 0 && a->json) {
		print_json(all);
	} else if (ret == 0) {
		print_list_row(NULL);
		for (size_t i = 0; i < json_array_size(all); i++)
			print_list_row(json_array_get(all, i));
	}
	json_decref(all);
	return ret;
}

/* ---- looks ---- */

static int
show(const struct ctl_args *a, const char *path, void (*print)(const json_t *o), struct err *err)
{
	json_t *o = ctl_get(a->name, path, err);

	if (o == NULL)
		return -err->code;
	if (a->json)
		print_json(o);
	else
		print(o);
	json_decref(o);
	return 0;
}

static int
run_status(const struct ctl_args *a, struct err *err)
{
	return show(a, "/status", print_status, err);
}

static void
regs_path(int cpu, char room[static 32])
{
	if (cpu >= 0)
		snprintf(room, 32, "/regs?cpu=%d", cpu);
	else
		snprintf(room, 32, "/regs");
}

static int
run_regs(const struct ctl_args *a, struct err *err)
{
	char path[32];

	regs_path(a->cpu, path);
	return show(a, path, print_regs, err);
}

int
ctl_stats(const char *name, int cpu, struct err *err)
{
	json_t *o = ctl_get(name, "/stats", err);

	if (o == NULL)
		return -err->code;
	print_stats(o, cpu);
	json_decref(o);
	return 0;
}

static int
print_metrics(const char *name, struct err *err)
{
	const struct ctl_request q = {.method = "GET", .path = "/metrics"};
	struct ctl_reply r;
	int ret = ctl_call(name, &q, &r, err);

	if (ret == 0 && r.text != NULL)
		fwrite(r.text, 1, r.len, stdout);
	ctl_reply_free(&r);
	return ret;
}

static int
run_stats(const struct ctl_args *a, struct err *err)
{
	json_t *o;

	if (a->prometheus)
		return print_metrics(a->name, err);
	if (!a->json)
		return ctl_stats(a->name, a->cpu, err);
	o = ctl_get(a->name, "/stats", err);
	if (o == NULL)
		return -err->code;
	print_json(o);
	json_decref(o);
	return 0;
}

int
ctl_get_all(const char *name, int cpu, struct err *err)
{
	char path[32];
	json_t *o;

	regs_path(MAX(cpu, 0), path);
	o = ctl_get(name, path, err);
	if (o == NULL)
		return -err->code;
	print_bhyve_regs(o);
	json_decref(o);
	return ctl_stats(name, MAX(cpu, 0), err);
}

static int
run_console(const struct ctl_args *a, struct err *err)
{
	return ctl_console(a->name, a->arg[0], err);
}

/* ---- configuration ---- */

static void
print_value(const json_t *reply)
{
	const json_t *v = json_object_get(reply, "value");

	if (json_is_string(v))
		printf("%s\n", json_string_value(v));
	else if (!json_is_null(v) && v != NULL)
		print_json(v);
}

static int
set_key(const char *name, const char *path, const char *value, struct err *err)
{
	struct ctl_request q = {.method = "PUT", .path = path, .body = json_pack("{s:s}", "value", value)};
	struct ctl_reply r;
	int ret;

	if (q.body == NULL)
		return err_set(err, EINVAL, "%s: the value is no UTF-8", name);
	ret = ctl_call(name, &q, &r, err);
	json_decref(q.body);
	ctl_reply_free(&r);
	return ret;
}

/* config NAME [KEY[=VALUE]] */
static int
run_config(const struct ctl_args *a, struct err *err)
{
	char *key, *quoted, *path = NULL, *eq;
	int ret;

	if (a->args == 0)
		return show(&(struct ctl_args){.name = a->name, .json = true}, "/config", NULL, err);
	key = strdup(a->arg[0]);
	eq = key != NULL ? strchr(key, '=') : NULL;
	if (eq != NULL)
		*eq = '\0';
	quoted = key != NULL ? ctl_encode(key) : NULL;
	if (quoted == NULL || asprintf(&path, "/config/%s", quoted) < 0)
		ret = err_set(err, ENOMEM, "out of memory");
	else if (eq != NULL)
		ret = set_key(a->name, path, eq + 1, err);
	else
		ret = show(a, path, print_value, err);
	free(path);
	free(quoted);
	free(key);
	return ret;
}

/* ---- the tables ---- */

/* clang-format off */
const struct ctl_verb ctl_verbs[] = {
	{"list", "list", "the VMs that run", false, 0, 0, run_list, "json"},
	{"status", "status NAME", "name, state, process, clock, consoles", true, 0, 0, run_status, "json"},
	{"pause", "pause NAME", "stop its CPUs, devices and clock", true, 0, 0, run_pause, NULL},
	{"resume", "resume NAME", "go on", true, 0, 0, run_resume, NULL},
	{"reset", "reset NAME", "end as a guest's reboot does", true, 0, 0, run_reset, NULL},
	{"poweroff", "poweroff NAME", "cut the power", true, 0, 0, run_poweroff, NULL},
	{"shutdown", "shutdown NAME", "press the ACPI power button", true, 0, 0, run_shutdown, NULL},
	{"nmi", "nmi NAME", "non-maskable interrupt, to CPU 0 or --cpu", true, 0, 0, run_nmi, "cpu"},
	{"destroy", "destroy NAME", "end the VM, whatever it does, and what it left", true, 0, 0, run_destroy, NULL},
	{"stats", "stats NAME", "counters", true, 0, 0, run_stats, "json|prometheus|cpu"},
	{"regs", "regs NAME", "registers and interrupt controllers", true, 0, 0, run_regs, "json|cpu"},
	{"console", "console NAME PORT", "join a serial port behind tcp= or a port on a socket; ~. leaves", true, 1, 1, run_console, NULL},
	{"config", "config NAME [KEY[=VALUE]]", "print the configuration or a key, or set one", true, 0, 1, run_config, "json"},
	{"snapshot", "snapshot NAME FILE", "not available yet", true, 1, 1, run_snapshot, NULL},
	{"suspend", "suspend NAME FILE", "not available yet", true, 1, 1, run_suspend, NULL},
	{"migrate", "migrate NAME tcp:HOST:PORT", "not available yet", true, 1, 1, run_migrate, "json|warm"},
	{"inspect", "inspect FILE [FILE]", "not available yet", true, 0, 1, run_inspect, "json|diff"},
};

const struct ctl_option ctl_options[] = {
	{"json", NULL, "print JSON", false},
	{"prometheus", NULL, "print counters as Prometheus reads them", false},
	{"cpu", "N", "this virtual CPU", false},
	{"warm", NULL, "migrate: stop the VM first", false},
	{"diff", NULL, "inspect: compare two", false},
	{"help", NULL, "this text", false},
	{"version", NULL, "the version", false},
	{"vm", "NAME", "bhyvectl's way to name a VM", true},
	{"get-all", NULL, "registers, segments and counters of a CPU", true},
	{"get-stats", NULL, "counters of a CPU", true},
	{"inject-nmi", NULL, "as nmi", true},
	{"force-reset", NULL, "as reset", true},
	{"force-poweroff", NULL, "as poweroff", true},
	{"checkpoint", "FILE", "as snapshot", true},
	{"suspend", "FILE", "as suspend", true},
	{"destroy", NULL, "as destroy", true},
};
/* clang-format on */
const unsigned ctl_verb_count = ARRAY_LEN(ctl_verbs);
const unsigned ctl_option_count = ARRAY_LEN(ctl_options);
