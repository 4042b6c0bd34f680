/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * soft.verify: each unit of translated code is run, taken back, and done again by the interpreter, one
 * instruction after the other, until the interpreter stands where the unit ended with the same registers;
 * then the memory that either wrote is compared. A difference ends the VM with a report. That is done the
 * first times that a unit runs, and now and then later.
 *
 * Units do not lead to one another then, and instructions that translated code leaves to the interpreter end
 * a unit. Pages are copied when they become writable (soft_verify_page()), so that writes can be taken back:
 * nobody else may write guest memory meanwhile, which leaves one vCPU and no device with DMA.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/log.h"
#include "engine/soft/jit_int.h"

enum { PAGES_MAX = 256, STEPS_MAX = 4096, ALWAYS_FIRST = 64, THEN_EVERY = 256 };

struct registers {
	uint64_t gpr[16], rip, rflags;
	uint16_t fl;
	struct x86_state st;
	uint8_t fximage[512];
};

struct verify {
	struct registers before, after;
	unsigned npages;
	unsigned nopened;  /* TLB entries that allow writes; more than there is room for: any may */
	bool noting, lost; /* lost: more pages than there is room for */
	bool units;	   /* the unit uses the vector or x87 units */
	bool interpreting; /* still set at the next unit: the interpreter raised an exception */
	struct {
		struct soft_tlb *tlb;
		unsigned n;
	} opened[2 * PAGES_MAX];
	struct {
		uint8_t *hva;
		uint8_t old[4096], translated[4096];
	} page[PAGES_MAX];
};

int
soft_verify_create(struct soft_cpu *cpu, struct err *err)
{
	cpu->verify = calloc(1, sizeof(*cpu->verify));
	return cpu->verify != NULL ? 0 : err_set(err, ENOMEM, "soft.verify: no memory");
}

void
soft_verify_destroy(struct soft_cpu *cpu)
{
	free(cpu->verify);
	cpu->verify = NULL;
}

void
soft_verify_page(struct soft_cpu *cpu, struct soft_tlb *tlb, unsigned n, uint8_t *hva)
{
	struct verify *v = cpu->verify;
	if (v->nopened < ARRAY_LEN(v->opened)) {
		v->opened[v->nopened].tlb = tlb;
		v->opened[v->nopened].n = n;
	}
	v->nopened++;
	if (!v->noting)
		return;
	for (unsigned k = 0; k < v->npages; k++) {
		if (v->page[k].hva == hva)
			return;
	}
	if (v->npages == PAGES_MAX) {
		v->lost = true;
		return;
	}
	v->page[v->npages].hva = hva;
	memcpy(v->page[v->npages].old, hva, 4096);
	if (v->interpreting) /* translated code did not write it */
		memcpy(v->page[v->npages].translated, hva, 4096);
	v->npages++;
}

static void
save(struct soft_cpu *cpu, struct registers *r)
{
	memcpy(r->gpr, cpu->gpr, sizeof(r->gpr));
	if (cpu->verify->units) {
		soft_vec_sync(cpu);
		memcpy(r->fximage, cpu->fximage, sizeof(r->fximage));
		memcpy(&r->st, &cpu->st, sizeof(r->st));
	}
	r->rip = cpu->rip;
	r->rflags = cpu->rflags;
	r->fl = cpu->fl;
}

static void
load(struct soft_cpu *cpu, const struct registers *r)
{
	memcpy(cpu->gpr, r->gpr, sizeof(r->gpr));
	if (cpu->verify->units) {
		memcpy(cpu->fximage, r->fximage, sizeof(r->fximage));
		memcpy(&cpu->st, &r->st, sizeof(r->st));
	}
	cpu->rip = r->rip;
	cpu->rflags = r->rflags;
	cpu->fl = r->fl;
}

/* What differs between the vCPU and r. NULL: nothing. */
static const char *
difference(struct soft_cpu *cpu, const struct registers *r)
{
	if (cpu->rip != r->rip)
		return "RIP";
	if (memcmp(cpu->gpr, r->gpr, sizeof(r->gpr)) != 0)
		return "a general register";
	if (soft_fl_to_eflags(cpu->fl) != soft_fl_to_eflags(r->fl) || cpu->rflags != r->rflags)
		return "RFLAGS";
	if (!cpu->verify->units)
		return NULL;
	soft_vec_sync(cpu);
	if (memcmp(cpu->st.xs.vec, r->st.xs.vec, sizeof(r->st.xs.vec)) != 0)
		return "a vector register";
	if (cpu->st.xs.mxcsr != r->st.xs.mxcsr)
		return "MXCSR";
	return memcmp(cpu->fximage, r->fximage, 24) != 0 ||
		       memcmp(cpu->fximage + 32, r->fximage + 32, 128) != 0
		   ? "the x87 unit"
		   : NULL;
}

static void __attribute__((noreturn)) report(struct soft_cpu *cpu, const char *what)
{
	const struct verify *v = cpu->verify;
	log_error("soft.verify: unit at %#" PRIx64 " ended at %#" PRIx64 ", the interpreter is at %#" PRIx64
		  ": %s differs",
		  v->before.rip, v->after.rip, cpu->rip, what);
	for (unsigned r = 0; r < 16; r++) {
		log_error("soft.verify: register %2u: before %016" PRIx64 " translated %016" PRIx64
			  " interpreted %016" PRIx64 "%s",
			  r, v->before.gpr[r], v->after.gpr[r], cpu->gpr[r],
			  v->after.gpr[r] != cpu->gpr[r] ? " <" : "");
	}
	log_error("soft.verify: flags: before %#x translated %#x interpreted %#x",
		  soft_fl_to_eflags(v->before.fl), soft_fl_to_eflags(v->after.fl),
		  soft_fl_to_eflags(cpu->fl));
	soft_unsupported(cpu, "soft.verify: translated and interpreted code differ: %s", what);
}

/* Memory as it was before the unit, which translated code's stays aside. */
static void
take_back(struct verify *v)
{
	for (unsigned n = 0; n < v->npages; n++) {
		memcpy(v->page[n].translated, v->page[n].hva, 4096);
		memcpy(v->page[n].hva, v->page[n].old, 4096);
	}
}

/* No page may be written without soft_verify_page(). */
static void
close_pages(struct soft_cpu *cpu)
{
	struct verify *v = cpu->verify;
	if (v->nopened > ARRAY_LEN(v->opened))
		soft_tlb_wprotect(cpu, TLB_ALL);
	for (unsigned k = 0; k < MIN(v->nopened, ARRAY_LEN(v->opened)); k++)
		v->opened[k].tlb->e[v->opened[k].n].nw = TLB_NOTAG(v->opened[k].n);
	v->nopened = 0;
}

static void
begin(struct soft_cpu *cpu, const struct jit_unit *u)
{
	struct verify *v = cpu->verify;
	v->units = u->nfault != 0;
	save(cpu, &v->before);
	close_pages(cpu);
	v->npages = 0;
	v->lost = false;
	v->noting = true;
}

/* The interpreter's turn, until it is where the translated unit ended. */
static void
repeat(struct soft_cpu *cpu)
{
	struct verify *v = cpu->verify;
	const char *what = NULL;
	save(cpu, &v->after);
	take_back(v);
	load(cpu, &v->before);
	close_pages(cpu);
	v->interpreting = true;
	soft_attn_set(cpu, ATTN_STEP);
	for (unsigned n = 0; n < STEPS_MAX; n++) {
		if ((what = difference(cpu, &v->after)) == NULL)
			break;
		soft_run_single(cpu);
	}
	if (what == NULL)
		what = difference(cpu, &v->after);
	atomic_fetch_and(&cpu->attn, ~(uint32_t)ATTN_STEP);
	v->interpreting = v->noting = false;
	if (what != NULL)
		report(cpu, what);
	for (unsigned n = 0; n < v->npages; n++) {
		if (memcmp(v->page[n].hva, v->page[n].translated, 4096) != 0)
			report(cpu, "memory");
	}
}

void
soft_verify_unit(struct soft_cpu *cpu, struct jit_unit *u,
		 void (*run)(struct soft_cpu *cpu, const struct jit_unit *u))
{
	struct verify *v = cpu->verify;
	if (v->interpreting) {
		v->interpreting = false;
		report(cpu, "an exception, in the interpreter only: what it did");
	}
	if (u->runs++ >= ALWAYS_FIRST && u->runs % THEN_EVERY != 0) {
		run(cpu, u);
		return;
	}
	begin(cpu, u);
	run(cpu, u);
	if (v->lost)
		soft_unsupported(cpu, "soft.verify: a unit wrote too many pages");
	repeat(cpu);
	cpu->ctr.jit_verified++;
}
