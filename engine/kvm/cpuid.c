/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * CPUID under KVM: what the soft engine offers on this host, less what this host's KVM cannot give, so that a
 * guest may move between the engines. One difference is wanted: a processor needs its guest's defences
 * against speculation, where translated code does not (doc/quirks.md).
 */
#include "engine/kvm/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/util.h"

#define B(n) (1u << (n))

enum { KVM_LEAVES = 256 };

/* Words of features, of which a guest gets no bit that KVM does not know. */
static const struct {
	uint32_t leaf, sub;
	unsigned word;	/* eax, ebx, ecx, edx */
	uint32_t ours;	/* set by x86_cpuid_finish(), or by KVM itself as the guest runs */
	uint32_t guard; /* taken over from KVM: speculation control */
} words[] = {
    {1, 0, 2, B(21) | B(24) | B(27) | B(31), 0},
    {1, 0, 3, B(9) | B(28), 0},
    {7, 0, 1, 0, 0},
    {7, 0, 2, 0, 0},
    /* MD_CLEAR, SPEC_CTRL, STIBP, L1D flush, ARCH_CAPABILITIES, SSBD */
    {7, 0, 3, 0, B(10) | B(26) | B(27) | B(28) | B(29) | B(31)},
    {7, 1, 0, 0, 0},
    {0xd, 0, 0, 0, 0},
    {0xd, 1, 0, 0, 0},
    {0x80000001, 0, 2, B(1) | B(22), 0},
    {0x80000001, 0, 3, B(9), 0},
    {0x80000007, 0, 3, 0, 0},
    /* IBPB, IBRS, STIBP, always-on forms, SSBD, VIRT_SSBD, SSB_NO, PSFD, BTC_NO */
    {0x80000008, 0, 1, 0,
     B(12) | B(14) | B(15) | B(16) | B(17) | B(18) | B(24) | B(25) | B(26) | B(28) | B(29)},
    /* LFENCE, NullSelClrBase, automatic IBRS, SBPB, IBPB_BRTYPE, SRSO_NO */
    {0x80000021, 0, 0, 0, B(2) | B(6) | B(8) | B(27) | B(28) | B(29)},
    {0x80000021, 0, 2, 0, B(1) | B(2)},
};

static struct kvm_cpuid2 *
table_alloc(void)
{
	struct kvm_cpuid2 *k = calloc(1, sizeof(*k) + KVM_LEAVES * sizeof(k->entries[0]));

	if (k != NULL)
		k->nent = KVM_LEAVES;
	return k;
}

static const struct kvm_cpuid_entry2 *
entry_find(const struct kvm_cpuid2 *k, uint32_t leaf, uint32_t sub)
{
	for (unsigned n = 0; n < k->nent; n++) {
		const struct kvm_cpuid_entry2 *e = &k->entries[n];

		if (e->function == leaf && (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == sub))
			return e;
	}
	return NULL;
}

static uint32_t *
word_of(struct x86_cpuid_leaf *l, unsigned word)
{
	uint32_t *const w[4] = {&l->eax, &l->ebx, &l->ecx, &l->edx};

	return w[word];
}

static uint32_t
entry_word(const struct kvm_cpuid2 *k, uint32_t leaf, uint32_t sub, unsigned word)
{
	const struct kvm_cpuid_entry2 *e = entry_find(k, leaf, sub);
	const uint32_t w[4] = {e != NULL ? e->eax : 0, e != NULL ? e->ebx : 0, e != NULL ? e->ecx : 0,
			       e != NULL ? e->edx : 0};

	return w[word];
}

/* XSAVE without XCR0 components, and components without XSAVE, go together. */
static void
without_xsave(struct x86_cpuid *t)
{
	struct x86_cpuid_leaf *one = x86_cpuid_find(t, 1, 0, false);
	unsigned kept = 0;

	/* xsave avx fma f16c; avx2, avx512, pku; vaes vpclmul and what else is VEX-encoded */
	one->ecx &= ~(B(26) | B(28) | B(12) | B(29));
	for (unsigned n = 0; n < t->count; n++) {
		struct x86_cpuid_leaf l = t->leaf[n];

		if (l.leaf == 7 && l.subleaf == 0) {
			l.ebx &= ~(B(5) | B(16) | B(17) | B(21) | B(28) | B(30) | B(31));
			l.ecx &= ~(B(1) | B(3) | B(6) | B(9) | B(10) | B(11) | B(12) | B(14));
		}
		if (l.leaf == 7 && l.subleaf == 1)
			l.eax = 0;
		if (l.leaf != 0xd)
			t->leaf[kept++] = l;
	}
	t->count = kept;
}

/* Sizes follow from the components that are left (SDM vol. 1 13.5). */
static void
fit_xsave(struct x86_cpuid *t)
{
	struct x86_cpuid_leaf *d = x86_cpuid_find(t, 0xd, 0, false), *one = x86_cpuid_find(t, 1, 0, false);
	uint32_t size = 576, kept = 0;

	if (one == NULL || d == NULL)
		return;
	if (!(one->ecx & B(26)) || (d->eax & 3) != 3) {
		without_xsave(t);
		return;
	}
	for (unsigned n = 0; n < t->count; n++) {
		struct x86_cpuid_leaf l = t->leaf[n];

		if (l.leaf == 0xd && l.subleaf > 1 && !(d->eax >> l.subleaf & 1))
			continue;
		if (l.leaf == 0xd && l.subleaf > 1)
			size = MAX(size, l.eax + l.ebx);
		t->leaf[kept++] = l;
	}
	t->count = kept;
	d = x86_cpuid_find(t, 0xd, 0, false);
	d->ecx = size;
}

/* No feature that the host's KVM does not have. */
static void
limit(struct x86_cpuid *t, const struct kvm_cpuid2 *k)
{
	for (size_t n = 0; n < ARRAY_LEN(words); n++) {
		struct x86_cpuid_leaf *l = x86_cpuid_find(t, words[n].leaf, words[n].sub, false);
		uint32_t have = entry_word(k, words[n].leaf, words[n].sub, words[n].word), *w;

		if (l == NULL)
			continue;
		w = word_of(l, words[n].word);
		*w = (*w & (have | words[n].ours) & ~words[n].guard) | (have & words[n].guard);
	}
	fit_xsave(t);
}

/*
 * Some hosts' KVM offers next to nothing and then adds features of the processor to the table that it is
 * given. The guest's table has to say what the guest will see: ask a vCPU. SSE3, which all other hosts have,
 * gives them away.
 */
static bool
offers_too_little(const struct kvm_cpuid2 *k)
{
	return !(entry_word(k, 1, 0, 2) & 1);
}

bool
kvm_cpuid_suspicious(void)
{
	const struct kvm_cpuid2 *k = kvm_supported_cpuid();

	return k != NULL && offers_too_little(k);
}

/* NULL: it cannot be asked. */
static struct kvm_cpuid2 *
ask_vcpu(const struct x86_cpuid *t, const struct kvm_cpuid2 *offered)
{
	struct kvm_cpuid2 *k = table_alloc();
	struct x86_cpuid less = *t;

	limit(&less, offered);
	if (k != NULL && kvm_ask_cpuid(&less, k))
		return k;
	free(k);
	return NULL;
}

void
kvm_cpuid_filter(struct x86_cpuid *t)
{
	const struct kvm_cpuid2 *k = kvm_supported_cpuid();
	struct kvm_cpuid2 *more = NULL;

	engine_soft.cpuid_filter(t);
	if (k == NULL)
		return; /* the VM cannot be made either, and that says why */
	if (offers_too_little(k))
		more = ask_vcpu(t, k);
	limit(t, more != NULL ? more : k);
	free(more);
}

int
kvm_cpuid_set(int vcpu_fd, const struct x86_cpuid *t, struct err *err)
{
	struct kvm_cpuid2 *k = table_alloc();
	int r;

	if (k == NULL)
		return err_set(err, ENOMEM, "kvm: no memory");
	k->nent = t->count;
	for (unsigned n = 0; n < t->count; n++) {
		const struct x86_cpuid_leaf *l = &t->leaf[n];

		k->entries[n] = (struct kvm_cpuid_entry2){
		    .function = l->leaf,
		    .index = l->subleaf,
		    .flags = l->has_subleaf ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
		    .eax = l->eax,
		    .ebx = l->ebx,
		    .ecx = l->ecx,
		    .edx = l->edx,
		};
	}
	r = kvm_ioctl(vcpu_fd, KVM_SET_CPUID2, k);
	free(k);
	return r == 0 ? 0 : err_set(err, -r, "kvm: KVM_SET_CPUID2: %s", strerror(-r));
}
