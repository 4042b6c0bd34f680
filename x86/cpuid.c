/* SPDX-License-Identifier: BSD-2-Clause */
/* CPUID tables: reading the host's, topology and hypervisor leaves, lookup (SDM vol. 2, CPUID; APM vol. 3,
 * appendix E). */
#include "x86/cpuid.h"
#include <cpuid.h>
#include <string.h>
#include "base/util.h"

struct x86_cpuid_leaf *
x86_cpuid_find(struct x86_cpuid *t, uint32_t leaf, uint32_t subleaf, bool add)
{
	for (unsigned n = 0; n < t->count; n++) {
		struct x86_cpuid_leaf *l = &t->leaf[n];
		if (l->leaf == leaf && (!l->has_subleaf || l->subleaf == subleaf))
			return l;
	}
	if (!add || t->count == X86_CPUID_MAX)
		return NULL;
	struct x86_cpuid_leaf *l = &t->leaf[t->count++];
	*l = (struct x86_cpuid_leaf){.leaf = leaf, .subleaf = subleaf};
	return l;
}

static struct x86_cpuid_leaf *
add_host(struct x86_cpuid *t, uint32_t leaf, uint32_t sub, bool has_sub)
{
	struct x86_cpuid_leaf *l;
	if (t->count == X86_CPUID_MAX)
		return NULL;
	l = &t->leaf[t->count++];
	*l = (struct x86_cpuid_leaf){.leaf = leaf, .subleaf = sub, .has_subleaf = has_sub};
	__cpuid_count(leaf, sub, l->eax, l->ebx, l->ecx, l->edx);
	return l;
}

/* Components of XSAVE that have a leaf: bits of XCR0 and of IA32_XSS (SDM vol. 1 13.2). */
static void
add_components(struct x86_cpuid *t)
{
	const struct x86_cpuid_leaf *user = add_host(t, 0xd, 0, true), *super = add_host(t, 0xd, 1, true);
	uint64_t has;

	if (user == NULL || super == NULL)
		return;
	has = user->eax | super->ecx | (uint64_t)(user->edx | super->edx) << 32;
	for (uint32_t sub = 2; sub < 63; sub++) {
		const struct x86_cpuid_leaf *l = has >> sub & 1 ? add_host(t, 0xd, sub, true) : NULL;

		if (l != NULL && l->eax == 0)
			t->count--;
	}
}

/* Caches end with one of no type. */
static void
add_subleaves(struct x86_cpuid *t, uint32_t leaf)
{
	uint32_t max = leaf == 7 ? 0 : 8;

	for (uint32_t sub = 0; sub <= max; sub++) {
		const struct x86_cpuid_leaf *l = add_host(t, leaf, sub, true);

		if (l == NULL)
			return;
		if (leaf == 7 && sub == 0)
			max = MIN(l->eax, 4u);
		if (leaf != 7 && (l->eax & 31) == 0)
			return;
	}
}

static void
read_leaf(struct x86_cpuid *t, uint32_t leaf)
{
	if (leaf == 0xd)
		add_components(t);
	else if (leaf == 4 || leaf == 7 || leaf == 0x8000001d)
		add_subleaves(t, leaf);
	else
		add_host(t, leaf, 0, false);
}

/*
 * The leaves that tell of the processor alone. Others tell of this host's power, monitors, topology or
 * virtualization. Each that is read costs a guest of another hypervisor an exit, 2 to 70 us.
 */
static const struct {
	uint32_t first, last;
} described[] = {
    {0, 2},
    {4, 4},
    {7, 7},
    {0xd, 0xd},
    {0x15, 0x16},
    {0x80000000, 0x80000008},
    {0x8000001d, 0x8000001e},
    {0x80000021, 0x80000021},
};

void
x86_cpuid_host(struct x86_cpuid *t)
{
	uint32_t max, ext, b, c, d;

	memset(t, 0, sizeof(*t));
	__cpuid(0, max, b, c, d);
	__cpuid(0x80000000, ext, b, c, d);
	for (size_t n = 0; n < ARRAY_LEN(described); n++) {
		for (uint32_t l = described[n].first; l <= described[n].last; l++) {
			if (l <= (l < 0x80000000 ? max : ext))
				read_leaf(t, l);
		}
	}
}

bool
x86_cpuid_is_amd(const struct x86_cpuid *t)
{
	const struct x86_cpuid_leaf *l = x86_cpuid_find((struct x86_cpuid *)(uintptr_t)t, 0, 0, false);
	return l != NULL && (l->ebx == 0x68747541 || l->ebx == 0x6f677948); /* "Auth", "Hygo" */
}

void
x86_cpuid_query(const struct x86_cpuid *t, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
	struct x86_cpuid *mt = (struct x86_cpuid *)(uintptr_t)t;
	const struct x86_cpuid_leaf *l = x86_cpuid_find(mt, leaf, sub, false);
	uint32_t max = t->count ? t->leaf[0].eax : 0;
	if (l == NULL && leaf > max && !x86_cpuid_is_amd(t) && (leaf < 0x40000000 || leaf > 0x4fffffff)) {
		const struct x86_cpuid_leaf *e = x86_cpuid_find(mt, 0x80000000, 0, false);
		if (leaf < 0x80000000 || e == NULL || leaf > e->eax)
			l = x86_cpuid_find(mt, max, sub, false); /* Intel answers with the last basic leaf */
	}
	out[0] = l != NULL ? l->eax : 0;
	out[1] = l != NULL ? l->ebx : 0;
	out[2] = l != NULL ? l->ecx : (leaf == 0xb || leaf == 0x1f ? sub & 0xff : 0);
	out[3] = l != NULL ? l->edx : 0;
}

/* ---- topology ---- */
static unsigned
bits_for(unsigned n)
{
	return n <= 1 ? 0 : 32 - (unsigned)__builtin_clz(n - 1);
}

uint32_t
x86_apic_id(const struct x86_topology *p, unsigned cpu)
{
	unsigned tb = bits_for(p->threads), cb = bits_for(p->cores);
	unsigned thread = cpu % p->threads, core = cpu / p->threads % p->cores,
		 socket = cpu / p->threads / p->cores;
	return socket << (tb + cb) | core << tb | thread;
}

static void
finish_basic(struct x86_cpuid *t, const struct x86_topology *p, uint32_t id, bool x2apic)
{
	struct x86_cpuid_leaf *l = x86_cpuid_find(t, 1, 0, true);
	unsigned per_socket = p->cores * p->threads;
	l->ebx = (l->ebx & 0xffff) | (per_socket > 1 ? 1u << bits_for(per_socket) : 1u) << 16 | id << 24;
	l->ecx |= 1u << 31 | 1u << 24; /* hypervisor, TSC deadline */
	l->ecx = x2apic ? l->ecx | 1u << 21 : l->ecx & ~(1u << 21);
	l->edx = per_socket > 1 ? l->edx | 1u << 28 : l->edx & ~(1u << 28);
}

/* Leaf 0xB: threads, cores. */
static void
finish_extended_topology(struct x86_cpuid *t, const struct x86_topology *p, uint32_t id)
{
	unsigned tb = bits_for(p->threads), cb = bits_for(p->cores);
	const struct x86_cpuid_leaf rows[] = {
	    {0xb, 0, true, tb, p->threads, 1 << 8 | 0, id},
	    {0xb, 1, true, tb + cb, p->cores * p->threads, 2 << 8 | 1, id},
	    {0xb, 2, true, 0, 0, 2, id},
	};
	for (unsigned n = 0; n < ARRAY_LEN(rows) && t->count < X86_CPUID_MAX; n++)
		t->leaf[t->count++] = rows[n];
}

/* Cache leaves: how many logical processors share each level (bits 25:14), cores a package (31:26, leaf 4).
 */
static void
finish_caches(struct x86_cpuid *t, const struct x86_topology *p)
{
	for (unsigned n = 0; n < t->count; n++) {
		struct x86_cpuid_leaf *l = &t->leaf[n];
		if (l->leaf != 4 && l->leaf != 0x8000001d)
			continue;
		unsigned level = l->eax >> 5 & 7, share = level >= 3 ? p->cores * p->threads : p->threads;
		l->eax = (l->eax & 0x3fff) | (MIN(1u << bits_for(share), 4096u) - 1) << 14;
		if (l->leaf == 4)
			l->eax |= (MIN(1u << bits_for(p->cores), 64u) - 1) << 26;
	}
}

static void
finish_amd(struct x86_cpuid *t, const struct x86_topology *p, unsigned cpu, uint32_t id)
{
	struct x86_cpuid_leaf *l;
	unsigned per_socket = p->cores * p->threads;
	if ((l = x86_cpuid_find(t, 0x80000008, 0, false)) != NULL)
		l->ecx = x86_cpuid_is_amd(t) ? bits_for(per_socket) << 12 | MIN(per_socket - 1, 255u) : 0;
	if ((l = x86_cpuid_find(t, 0x8000001e, 0, false)) != NULL) {
		l->eax = id;
		l->ebx = (p->threads - 1) << 8 | (cpu / p->threads % p->cores & 0xff);
		l->ecx = cpu / per_socket & 0xff;
		l->edx = 0;
	}
	if ((l = x86_cpuid_find(t, 0x80000001, 0, false)) != NULL && x86_cpuid_is_amd(t))
		l->ecx = per_socket > 1 ? l->ecx | 1u << 1 : l->ecx & ~(1u << 1); /* CmpLegacy */
}

static void
add_leaf(struct x86_cpuid *t, uint32_t leaf, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
	struct x86_cpuid_leaf *l = x86_cpuid_find(t, leaf, 0, true);
	if (l != NULL) {
		l->eax = a;
		l->ebx = b;
		l->ecx = c;
		l->edx = d;
	}
}

void
x86_cpuid_finish(struct x86_cpuid *t, const struct x86_topology *p, unsigned cpu, bool x2apic)
{
	static const char id_text[12] = "bhyve bhyve ";
	uint32_t id = x86_apic_id(p, cpu), sig[3];
	finish_basic(t, p, id, x2apic);
	finish_extended_topology(t, p, id);
	finish_caches(t, p);
	finish_amd(t, p, cpu, id);
	memcpy(sig, id_text, sizeof(sig));
	add_leaf(t, 0x40000000, 0x40000000, sig[0], sig[1], sig[2]);
}
