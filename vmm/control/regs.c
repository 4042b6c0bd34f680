/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Registers as JSON. The state of vCPUs has a row a register here; that of the interrupt controllers is
 * written by their own field tables, with what people look for decoded.
 */
#include <stdio.h>
#include <string.h>
#include "base/util.h"
#include "board/board.h"
#include "state/field.h"
#include "vmm/control/json.h"
#include "x86/state.h"

json_t *
control_json_hex(uint64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "0x%llx", (unsigned long long)v);
	return json_string(text);
}

/* ---- general, control, debug and model-specific registers ---- */

enum section { S_GPR, S_CONTROL, S_DEBUG, S_MSR, S_EVENT, S_EXTENDED, SECTIONS };

static const char *const section_names[] = {
    [S_GPR] = "general", [S_CONTROL] = "control", [S_DEBUG] = "debug",
    [S_MSR] = "msr",	 [S_EVENT] = "event",	  [S_EXTENDED] = "extended",
};

struct reg {
	const char *name;
	enum section section;
	uint16_t offset, size;
	uint16_t count; /* more than 1: "name0", "name1" */
};

#define REG(section, name, member)                                                                          \
	{                                                                                                   \
		name, section, offsetof(struct x86_state, member), sizeof(((struct x86_state *)0)->member), \
		    1                                                                                       \
	}
#define REGS(section, name, member, n)                             \
	{                                                          \
		name, section, offsetof(struct x86_state, member), \
		    sizeof(((struct x86_state *)0)->member[0]), n  \
	}
#define MSR(name) REG(S_MSR, #name, msr.name)

/* clang-format off */
static const struct reg regs[] = {
	REG(S_GPR, "rax", gpr[X86_RAX]), REG(S_GPR, "rbx", gpr[X86_RBX]), REG(S_GPR, "rcx", gpr[X86_RCX]),
	REG(S_GPR, "rdx", gpr[X86_RDX]), REG(S_GPR, "rsi", gpr[X86_RSI]), REG(S_GPR, "rdi", gpr[X86_RDI]),
	REG(S_GPR, "rbp", gpr[X86_RBP]), REG(S_GPR, "rsp", gpr[X86_RSP]), REG(S_GPR, "r8", gpr[X86_R8]),
	REG(S_GPR, "r9", gpr[X86_R9]), REG(S_GPR, "r10", gpr[X86_R10]), REG(S_GPR, "r11", gpr[X86_R11]),
	REG(S_GPR, "r12", gpr[X86_R12]), REG(S_GPR, "r13", gpr[X86_R13]), REG(S_GPR, "r14", gpr[X86_R14]),
	REG(S_GPR, "r15", gpr[X86_R15]), REG(S_GPR, "rip", rip), REG(S_GPR, "rflags", rflags),
	REG(S_CONTROL, "cr0", cr0), REG(S_CONTROL, "cr2", cr2), REG(S_CONTROL, "cr3", cr3), REG(S_CONTROL, "cr4", cr4),
	REG(S_CONTROL, "cr8", cr8), REG(S_CONTROL, "xcr0", xcr0), REGS(S_CONTROL, "pdpte", pdpte, 4),
	REG(S_DEBUG, "dr0", dr[0]), REG(S_DEBUG, "dr1", dr[1]), REG(S_DEBUG, "dr2", dr[2]), REG(S_DEBUG, "dr3", dr[3]),
	REG(S_DEBUG, "dr6", dr[6]), REG(S_DEBUG, "dr7", dr[7]),
	MSR(efer), MSR(star), MSR(lstar), MSR(cstar), MSR(fmask), MSR(kernel_gs_base), MSR(tsc_aux), MSR(tsc_adjust),
	MSR(sysenter_cs), MSR(sysenter_esp), MSR(sysenter_eip), MSR(pat), MSR(misc_enable), MSR(spec_ctrl), MSR(xss),
	MSR(debugctl), MSR(mcg_status), MSR(feature_control), MSR(hwcr), MSR(syscfg), MSR(pkrs), MSR(virt_spec_ctrl),
	MSR(tsx_ctrl), MSR(mtrr_def_type), REGS(S_MSR, "mtrr_fix", msr.mtrr_fix, 11),
	REGS(S_MSR, "mtrr_var", msr.mtrr_var, 2 * X86_MTRR_VAR), REGS(S_MSR, "perf_ctl", msr.perf_ctl, 4),
	REGS(S_MSR, "perf_ctr", msr.perf_ctr, 4), REGS(S_MSR, "mc_ctl", msr.mc_ctl, 8),
	REGS(S_MSR, "mc_status", msr.mc_status, 8),
	REG(S_EVENT, "shadow", shadow), REG(S_EVENT, "nmi_blocked", nmi_blocked), REG(S_EVENT, "nmi_pending", nmi_pending),
	REG(S_EVENT, "pending_db", pending_db),
	REG(S_EXTENDED, "mxcsr", xs.mxcsr), REG(S_EXTENDED, "pkru", xs.pkru), REGS(S_EXTENDED, "k", xs.k, 8),
};
/* clang-format on */

static void
add_register(json_t *sections[SECTIONS], const struct reg *r, const struct x86_state *s)
{
	for (unsigned i = 0; i < r->count; i++) {
		char name[24];
		uint64_t v = 0;

		snprintf(name, sizeof(name), r->count > 1 ? "%s%u" : "%s", r->name, i);
		memcpy(&v, (const char *)s + r->offset + (size_t)i * r->size, r->size);
		json_object_set_new(sections[r->section], name, control_json_hex(v));
	}
}

/* ---- segments ---- */

static json_t *
segment(const struct x86_segment *g)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:i, s:b, s:i, s:b, s:b, s:b, s:b, s:b, s:b}", "selector",
			 control_json_hex(g->sel), "base", control_json_hex(g->base), "limit",
			 control_json_hex(g->limit), "access", control_json_hex(g->attr), "type",
			 (int)(g->attr & SEG_TYPE), "s", (g->attr & SEG_S) != 0, "dpl",
			 (int)((g->attr & SEG_DPL) >> SEG_DPL_SHIFT), "p", (g->attr & SEG_P) != 0, "avl",
			 (g->attr & SEG_AVL) != 0, "l", (g->attr & SEG_L) != 0, "db", (g->attr & SEG_DB) != 0,
			 "g", (g->attr & SEG_G) != 0, "unusable", (g->attr & SEG_UNUSABLE) != 0);
}

static json_t *
table(const struct x86_dtable *t)
{
	return json_pack("{s:o, s:o}", "base", control_json_hex(t->base), "limit",
			 control_json_hex(t->limit));
}

static json_t *
segments(const struct x86_state *s)
{
	static const char *const names[X86_NSEG] = {
	    [X86_ES] = "es", [X86_CS] = "cs", [X86_SS] = "ss",	   [X86_DS] = "ds",
	    [X86_FS] = "fs", [X86_GS] = "gs", [X86_LDTR] = "ldtr", [X86_TR] = "tr",
	};
	json_t *o = json_object();

	for (unsigned i = 0; i < X86_NSEG; i++)
		json_object_set_new(o, names[i], segment(&s->seg[i]));
	json_object_set_new(o, "gdtr", table(&s->gdtr));
	json_object_set_new(o, "idtr", table(&s->idtr));
	return o;
}

/* ---- x87 and vectors ---- */

/* Bytes as one number: the highest first. */
static json_t *
bytes(const uint8_t *p, unsigned n)
{
	char text[2 * 64 + 3] = "0x";

	for (unsigned i = 0; i < n; i++)
		snprintf(text + 2 + 2 * i, 3, "%02x", p[n - 1 - i]);
	return json_string(text);
}

/* The legacy area of FXSAVE64 (SDM vol. 1 table 10-2). */
static json_t *
x87(const uint8_t fx[static 160])
{
	json_t *o = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "fcw", control_json_hex(get_le16(fx)), "fsw",
			      control_json_hex(get_le16(fx + 2)), "ftw", control_json_hex(fx[4]), "fop",
			      control_json_hex(get_le16(fx + 6)), "fip", control_json_hex(get_le64(fx + 8)),
			      "fdp", control_json_hex(get_le64(fx + 16)));

	for (unsigned i = 0; i < 8; i++) {
		char name[] = "st0";

		name[2] = (char)('0' + i);
		json_object_set_new(o, name, bytes(fx + 32 + 16 * i, 10));
	}
	return o;
}

static json_t *
vectors(const struct x86_xstate *xs)
{
	json_t *o = json_object();

	for (unsigned i = 0; i < ARRAY_LEN(xs->vec); i++) {
		char name[8];

		snprintf(name, sizeof(name), "zmm%u", i);
		json_object_set_new(o, name, bytes(xs->vec[i], sizeof(xs->vec[i])));
	}
	return o;
}

/* ---- interrupt controllers ---- */

/* An array of 32-bit words as the numbers of the bits that are set. */
static json_t *
bit_numbers(const struct field *f, const void *st)
{
	json_t *a = json_array();

	for (uint32_t i = 0; i < 32 * f->count; i++) {
		if (field_get(f, st, i / 32) >> (i % 32) & 1)
			json_array_append_new(a, json_integer(i));
	}
	return a;
}

static json_t *
lvt(const struct field *f, const void *st)
{
	static const char *const names[] = {"cmci", "timer", "thermal", "perf", "lint0", "lint1", "error"};
	json_t *o = json_object();

	for (uint32_t i = 0; i < f->count && i < ARRAY_LEN(names); i++)
		json_object_set_new(o, names[i], control_json_hex(field_get(f, st, i)));
	return o;
}

/* A redirection entry (82093AA 3.2.4). */
static json_t *
redirection(const struct field *f, const void *st)
{
	static const char *const modes[] = {"fixed", "lowest", "smi", "reserved",
					    "nmi",   "init",   "6",   "extint"};
	json_t *a = json_array();

	for (uint32_t i = 0; i < f->count; i++) {
		uint64_t rte = field_get(f, st, i);

		json_array_append_new(a, json_pack("{s:i, s:o, s:i, s:s, s:i, s:b, s:b, s:b, s:b, s:b}",
						   "pin", (int)i, "entry", control_json_hex(rte), "vector",
						   (int)(rte & 0xff), "mode", modes[rte >> 8 & 7],
						   "destination", (int)(rte >> 56), "logical",
						   (int)(rte >> 11 & 1), "active_low", (int)(rte >> 13 & 1),
						   "level", (int)(rte >> 15 & 1), "remote_irr",
						   (int)(rte >> 14 & 1), "masked", (int)(rte >> 16 & 1)));
	}
	return a;
}

static const struct {
	const char *table, *field;
	json_t *(*make)(const struct field *f, const void *st);
} decoded[] = {
    {"lapic", "isr", bit_numbers}, {"lapic", "tmr", bit_numbers},    {"lapic", "irr", bit_numbers},
    {"lapic", "lvt", lvt},	   {"ioapic", "redir", redirection},
};

static json_t *
plain_value(const struct field *f, const void *st, uint32_t i)
{
	uint64_t v = field_get(f, st, i);

	return f->kind == FIELD_BOOL ? json_boolean(v != 0) : control_json_hex(v);
}

static json_t *
field_value(const struct field_table *t, const struct field *f, const void *st)
{
	json_t *a;

	for (size_t i = 0; i < ARRAY_LEN(decoded); i++) {
		if (strcmp(decoded[i].table, t->name) == 0 && strcmp(decoded[i].field, f->name) == 0)
			return decoded[i].make(f, st);
	}
	if (f->count == 1)
		return plain_value(f, st, 0);
	a = json_array();
	for (uint32_t i = 0; i < f->count; i++)
		json_array_append_new(a, plain_value(f, st, i));
	return a;
}

/* Put a value at a row's name: "chip[1].imr" is member imr of chip's element 1. */
static void
put_member(json_t *o, const char *name, json_t *value)
{
	char array[32], member[32];
	unsigned i;
	json_t *a;

	if (sscanf(name, "%31[a-z0-9_][%u].%31[a-z0-9_]", array, &i, member) != 3) {
		json_object_set_new(o, name, value);
		return;
	}
	a = json_object_get(o, array);
	if (a == NULL) {
		a = json_array();
		json_object_set_new(o, array, a);
	}
	while (json_array_size(a) <= i && json_array_append_new(a, json_object()) == 0)
		;
	json_object_set_new(json_array_get(a, i), member, value);
}

static json_t *
device(const struct board_device_state *d)
{
	json_t *o = json_object();

	for (uint32_t i = 0; i < d->table->count; i++) {
		const struct field *f = &d->table->fields[i];

		if (!f->transient)
			put_member(o, f->name, field_value(d->table, f, d->st));
	}
	return o;
}

static const struct board_device_state *
find_device(const struct board_state *s, const char *name)
{
	for (unsigned i = 0; i < s->devices; i++) {
		if (strcmp(s->device[i].name, name) == 0)
			return &s->device[i];
	}
	return NULL;
}

/* The processor priority register (SDM vol. 3A 11.8.3.1): made of TPR and the highest vector in service. */
static uint64_t
ppr(const struct board_device_state *d)
{
	const struct field *isr = field_find(d->table, "isr"), *tpr = field_find(d->table, "tpr");
	uint64_t task = field_get(tpr, d->st, 0);
	unsigned top = 0;

	for (uint32_t i = 0; i < 32 * isr->count; i++) {
		if (field_get(isr, d->st, i / 32) >> (i % 32) & 1)
			top = i;
	}
	return (task >> 4) >= (top >> 4) ? task : top & 0xf0;
}

static json_t *
local_apic(const struct board_state *s, unsigned cpu)
{
	const struct board_device_state *d;
	char name[24];
	json_t *o;

	snprintf(name, sizeof(name), "lapic.%u", cpu);
	d = find_device(s, name);
	if (d == NULL)
		return NULL;
	o = device(d);
	json_object_set_new(o, "ppr", control_json_hex(ppr(d)));
	return o;
}

/* ---- all ---- */

static json_t *
processor(const struct board_state *s, unsigned n)
{
	static const char *const activity[] = {
	    [ACT_RUNNING] = "running",
	    [ACT_HALTED] = "halted",
	    [ACT_WAIT_SIPI] = "wait-for-sipi",
	    [ACT_SHUTDOWN] = "shutdown",
	};
	const struct x86_state *c = &s->cpu[n];
	json_t *o = json_pack("{s:i, s:I, s:s}", "cpu", (int)n, "apic_id", (json_int_t)s->apic_id[n],
			      "activity", activity[MIN(c->activity, ACT_SHUTDOWN)]);
	json_t *sections[SECTIONS];

	for (unsigned i = 0; i < SECTIONS; i++) {
		sections[i] = json_object();
		json_object_set_new(o, section_names[i], sections[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(regs); i++)
		add_register(sections, &regs[i], c);
	json_object_set_new(o, "segment", segments(c));
	json_object_set_new(o, "x87", x87(c->xs.fx));
	json_object_set_new(o, "vector", vectors(&c->xs));
	json_object_set_new(o, "lapic", local_apic(s, n));
	return o;
}

json_t *
control_json_regs(const struct board_state *s, unsigned first, unsigned end)
{
	json_t *o = json_object(), *cpus = json_array();

	json_object_set_new(o, "cpus", cpus);
	for (unsigned i = first; i < end; i++)
		json_array_append_new(cpus, processor(s, i));
	for (unsigned i = 0; i < s->devices; i++) {
		if (strncmp(s->device[i].name, "lapic.", 6) != 0)
			json_object_set_new(o, s->device[i].name, device(&s->device[i]));
	}
	return o;
}
