/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * perf's map (tools/perf/Documentation/jit-interface.txt of Linux), and what counters say about the
 * translator. Lines go out one by one, with the code lock held, so that perf finds them whenever it looks.
 * Code that is forgotten stays in the map; a later line for the same addresses stands behind it.
 */
#include "engine/soft/profile.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "engine/soft/jit_int.h"

enum { TOP = 10 };
_Static_assert(ZYDIS_MNEMONIC_MAX_VALUE < SOFT_MNEMONICS, "counters for all");

struct symbol {
	uint64_t at;
	char *name;
};

struct soft_perf_map {
	FILE *out;
	struct symbol *symbol; /* in order */
	size_t count, room;
};

/* ---- symbols ---- */
static int
by_address(const void *a, const void *b)
{
	const struct symbol *x = a, *y = b;
	return x->at < y->at ? -1 : x->at > y->at;
}

static int
add_symbol(struct soft_perf_map *m, uint64_t at, const char *name)
{
	if (m->count == m->room) {
		size_t room = m->room != 0 ? 2 * m->room : 1024;
		struct symbol *more = reallocarray(m->symbol, room, sizeof(*more));
		if (more == NULL)
			return -1;
		m->symbol = more;
		m->room = room;
	}
	m->symbol[m->count].at = at;
	m->symbol[m->count].name = strdup(name);
	return m->symbol[m->count++].name == NULL ? -1 : 0;
}

static int
read_symbols(struct soft_perf_map *m, const char *path, struct err *err)
{
	FILE *in = fopen(path, "re");
	char line[512], name[256], kind;
	uint64_t at;
	int r = 0;
	if (in == NULL)
		return err_set(err, errno, "debug.symbols: %s: %s", path, strerror(errno));
	while (r == 0 && fgets(line, sizeof(line), in) != NULL) {
		if (sscanf(line, "%" SCNx64 " %c %255s", &at, &kind, name) == 3 &&
		    strchr("tTwW", kind) != NULL)
			r = add_symbol(m, at, name);
	}
	fclose(in);
	if (r != 0)
		return err_set(err, ENOMEM, "debug.symbols: no memory");
	if (m->count == 0)
		return err_set(err, EINVAL, "debug.symbols: %s has no line of the form \"ADDRESS T NAME\"",
			       path);
	qsort(m->symbol, m->count, sizeof(*m->symbol), by_address);
	return 0;
}

/* The last symbol at or before `at`. NULL: none. */
static const struct symbol *
symbol_of(const struct soft_perf_map *m, uint64_t at)
{
	size_t lo = 0, hi = m->count;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (m->symbol[mid].at <= at)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo > 0 ? &m->symbol[lo - 1] : NULL;
}

/* ---- the map ---- */
struct soft_perf_map *
soft_perf_map_create(const char *symbols, struct err *err)
{
	struct soft_perf_map *m = calloc(1, sizeof(*m));
	char path[64];
	int fd;
	if (m == NULL) {
		err_set(err, ENOMEM, "debug.perf_map: no memory");
		return NULL;
	}
	snprintf(path, sizeof(path), "/tmp/perf-%ld.map", (long)getpid()); /* the place that perf knows */
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	m->out = fd >= 0 ? fdopen(fd, "w") : NULL;
	if (m->out == NULL) {
		err_set(err, errno, "debug.perf_map: %s: %s", path, strerror(errno));
		if (fd >= 0)
			close(fd);
	} else {
		setvbuf(m->out, NULL, _IOLBF, 0);
		if (symbols == NULL || read_symbols(m, symbols, err) == 0)
			return m;
	}
	soft_perf_map_destroy(m);
	return NULL;
}

void
soft_perf_map_destroy(struct soft_perf_map *m)
{
	if (m == NULL)
		return;
	if (m->out != NULL)
		fclose(m->out);
	for (size_t n = 0; n < m->count; n++)
		free(m->symbol[n].name);
	free(m->symbol);
	free(m);
}

void
soft_perf_map_routine(struct soft_perf_map *m, const void *at, size_t bytes, const char *name)
{
	fprintf(m->out, "%" PRIxPTR " %zx lhyve:%s\n", (uintptr_t)at, bytes, name);
}

void
soft_perf_map_unit(struct soft_perf_map *m, const void *at, size_t bytes, uint64_t rip, uint64_t gpa)
{
	const struct symbol *s = symbol_of(m, rip);
	fprintf(m->out, "%" PRIxPTR " %zx guest:", (uintptr_t)at, bytes);
	if (s != NULL)
		fprintf(m->out, "%s+0x%" PRIx64 " ", s->name, rip - s->at);
	fprintf(m->out, "rip=%" PRIx64 " gpa=%" PRIx64 "\n", rip, gpa);
}

void
soft_jit_name_routines(const struct jit *j, struct soft_perf_map *m)
{
	const struct jit_common *c = &j->c;
	const struct {
		const uint8_t *at;
		const char *name;
	} r[] = {
	    {c->enter, "enter"},	 {c->lookup, "lookup"}, {c->chain, "chain"},
	    {c->leave, "leave"},	 {c->step, "step"},	{c->slow, "slow"},
	    {c->group, "group"},	 {c->interp, "interp"}, {c->interp_end, "interp_end"},
	    {c->underflow, "underflow"}, {c->fault, "fault"},	{c->fpu_load, "fpu_load"},
	    {c->vec_save, "vec_save"},
	};
	for (unsigned n = 0; n < ARRAY_LEN(r); n++) {
		const uint8_t *end = j->rw + j->common_end;
		for (unsigned k = 0; k < ARRAY_LEN(r); k++) {
			if (r[k].at > r[n].at && r[k].at < end)
				end = r[k].at;
		}
		soft_perf_map_routine(m, jit_rx(j, r[n].at), (size_t)(end - r[n].at), r[n].name);
	}
}

/* ---- counters ---- */
static uint64_t
per_million(uint64_t part, uint64_t whole)
{
	return whole == 0 ? 0 : (uint64_t)((unsigned __int128)part * 1000000 / whole);
}

/* The vCPU's count of an instruction, the most frequent ones first. */
static void
top(const uint64_t *count, const char *what, void (*fn)(void *arg, const char *name, uint64_t value),
    void *arg)
{
	bool said[SOFT_MNEMONICS] = {false};
	for (unsigned n = 0; n < TOP; n++) {
		unsigned best = 0;
		char name[64];
		for (unsigned k = 1; k < SOFT_MNEMONICS; k++) {
			if (!said[k] && count[k] != 0 && (best == 0 || count[k] > count[best]))
				best = k;
		}
		if (best == 0)
			return;
		said[best] = true;
		snprintf(name, sizeof(name), "%s.%s", what, ZydisMnemonicGetString((ZydisMnemonic)best));
		fn(arg, name, count[best]);
	}
}

static void
unit_rows(struct soft_vm *vm, void (*fn)(void *arg, const char *name, uint64_t value), void *arg)
{
	struct soft_code *c = vm->code;
	struct jit_runs r;
	uint64_t left = 0, slow = 0, misses = 0, walks = 0;
	unsigned n = atomic_load(&vm->ncpus);
	pthread_mutex_lock(&c->lock);
	r = soft_jit_runs(c->jit);
	pthread_mutex_unlock(&c->lock);
	for (unsigned k = 0; k < n; k++) {
		const struct soft_cpu *cpu = vm->cpus[k];
		left += cpu->ctr.jit_left;
		slow += cpu->ctr.jit_slow;
		misses += cpu->ctr.tlb_miss;
		walks += cpu->ctr.walks;
	}
	fn(arg, "unit runs", r.units);
	fn(arg, "instructions of unit runs", r.insns);
	fn(arg, "accesses of unit runs", r.accesses);
	fn(arg, "unit runs looked up, per million", per_million(left, r.units));
	fn(arg, "TLB misses, per million accesses", per_million(slow, r.accesses));
	fn(arg, "page walks, per million TLB misses", per_million(walks, misses));
}

void
soft_profile_stats(struct soft_cpu *cpu, void (*fn)(void *arg, const char *name, uint64_t value), void *arg)
{
	if (cpu->vm->code->jit == NULL)
		return;
	top(cpu->ctr.helper, "helper", fn, arg);
	top(cpu->ctr.step, "step", fn, arg);
	if (cpu->id == 0 && cpu->vm->profile)
		unit_rows(cpu->vm, fn, arg);
}
