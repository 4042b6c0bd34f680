/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random instructions on the real processor and in the soft engine: everything must come out the same.
 * diff [-t] [CASES [SEED [ONLY]]]: ONLY is one case's number, which is then described. -t: by the
 * translator, else by the interpreter.
 * One step either ends in ring 3, or at the gate of the exception (world.h).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "base/util.h"
#include "tests/native/gen.h"
#include "tests/native/oracle.h"
#include "tests/native/rig.h"
#include "tests/native/world.h"

enum { MAX_DIFFERENCES = 20 };
static bool translated;

/* One instruction in the engine. False when it ended in another way than an instruction can here. */
static bool
engine_run(struct rig *r, struct oracle_state *s, const uint8_t *insn, unsigned len, char *why, size_t size)
{
	return world_run(r, s, insn, len, translated ? WORLD_STEP_TRANS : WORLD_STEP, 1, why, size);
}

/* The image that PUSHF pushed shows TF, by which the processor is stepped. */
static void
hide_pushed_tf(const struct gen_case *c, struct oracle_state *s)
{
	ZydisMnemonic m = c->info.mnemonic;
	uint64_t off = (s->compat ? (uint32_t)s->gpr[X86_RSP] : s->gpr[X86_RSP]) - ORACLE_DATA;

	if ((m == ZYDIS_MNEMONIC_PUSHF || m == ZYDIS_MNEMONIC_PUSHFD || m == ZYDIS_MNEMONIC_PUSHFQ) &&
	    s->vector == ORACLE_NO_FAULT && range_fits(off, 2, ORACLE_DATA_SIZE))
		s->data[off + 1] &= (uint8_t) ~(FL_TF >> 8);
}

static struct {
	uint64_t cases, different;
} per_category[ZYDIS_CATEGORY_MAX_VALUE + 1];
static bool told[ZYDIS_MNEMONIC_MAX_VALUE + 1]; /* one difference of each mnemonic is shown */

static bool
one_case(struct rig *r, const struct gen_case *c, uint64_t number)
{
	static struct oracle_state native, soft;
	char why[320] = "", text[256];
	bool same;

	native = soft = c->before;
	oracle_run(&native, c->insn, c->len);
	hide_pushed_tf(c, &native);
	same = engine_run(r, &soft, c->insn, c->len, why, sizeof(why)) &&
	       gen_compare(c, &native, &soft, why, sizeof(why));
	per_category[c->info.meta.category].cases++;
	per_category[c->info.meta.category].different += !same;
	if (!same && !told[c->info.mnemonic]) {
		told[c->info.mnemonic] = true;
		gen_describe(c, text, sizeof(text));
		printf("# case %" PRIu64 " (%s): %s\n#   %s\n", number, gen_category(c), text, why);
	}
	return same;
}

/* The state before a case, for one that is looked at alone. */
static void
describe(const struct gen_case *c)
{
	char text[256];

	gen_describe(c, text, sizeof(text));
	printf("# %s\n# rip %#" PRIx64 " rflags %#" PRIx64 "\n", text, c->before.rip, c->before.rflags);
	for (unsigned i = 0; i < 16; i += 4)
		printf("# gpr[%u..]: %016" PRIx64 " %016" PRIx64 " %016" PRIx64 " %016" PRIx64 "\n", i,
		       c->before.gpr[i], c->before.gpr[i + 1], c->before.gpr[i + 2], c->before.gpr[i + 3]);
	printf("# mxcsr %#x fcw %#x fsw %#x tags %#x\n", c->before.xs.mxcsr, get_le16(c->before.xs.fx),
	       get_le16(c->before.xs.fx + 2), c->before.xs.fx[4]);
}

/* Every case has a generator of its own, so that it can be made again without those before it. */
static void
make_case(struct gen_case *c, uint64_t seed, uint64_t number)
{
	struct gen_rng rng;

	gen_seed(&rng, seed + number * 0x9e3779b97f4a7c15ull);
	gen_random_insn(&rng, number % 5 == 4, c);
}

static unsigned tests_reported;

static unsigned
report(void)
{
	unsigned count = 0, failed = 0;

	for (unsigned i = 0; i <= ZYDIS_CATEGORY_MAX_VALUE; i++) {
		if (per_category[i].cases == 0)
			continue;
		failed += per_category[i].different != 0;
		printf("%s %u - %s: %" PRIu64 " cases, %" PRIu64 " different\n",
		       per_category[i].different != 0 ? "not ok" : "ok", ++count,
		       ZydisCategoryGetString((ZydisInstructionCategory)i), per_category[i].cases,
		       per_category[i].different);
	}
	tests_reported = count;
	return failed;
}

/* ---- XSAVE and FXSAVE: directed, since their images have parts that processors leave open ---- */
enum { IMAGE = 0x400, IMAGE_BYTES = 0x1000 };
#define XC_PKRU (1ull << 9) /* left out: the process's own PKRU is none of the case's state */

static void
directed_insn(struct gen_case *c, const char *bytes, unsigned len)
{
	ZydisDecoder d;

	ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	memcpy(c->insn, bytes, len);
	c->len = len;
	LH_ASSERT(ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, bytes, len, &c->info, c->operands)));
	c->before.rip = ORACLE_CODE + 0x100;
	c->before.rflags &= ~(uint64_t)FL_AC;
	c->before.gpr[X86_RBX] = ORACLE_DATA + IMAGE;
}

/* Out of an image: the last x87 instruction's opcode and pointers, and what is reserved or left to software.
 */
static void
normalise_image(uint8_t *p, uint8_t *other)
{
	memset(p + 5, 0, 19);
	memset(p + 464, 0, 48);
	if (!(p[512] & other[512] & 1) && (p[512] | other[512]) & 1) {
		memset(p, 0, 24); /* one of them saw x87 in its initial state, and wrote nothing */
		memset(p + 32, 0, 128);
	}
}

/* The processor may count a component as used that holds its initial values; never the other way. */
static bool
same_image(struct oracle_state *native, struct oracle_state *soft)
{
	uint8_t *n = native->data + IMAGE, *s = soft->data + IMAGE;

	if (native->vector != soft->vector || (s[512] & ~n[512]) != 0)
		return false;
	normalise_image(n, s);
	normalise_image(s, n);
	n[512] = s[512];
	return memcmp(native->data, soft->data, ORACLE_DATA_SIZE) == 0;
}

static unsigned
xsave_cases(struct rig *r, uint64_t seed, unsigned count)
{
	static const struct {
		const char *save, *restore;
		unsigned len;
		bool compact;
	} kinds[] = {
	    {"\x0f\xae\x23", "\x0f\xae\x2b", 3, false}, {"\x48\x0f\xae\x23", "\x48\x0f\xae\x2b", 4, false},
	    {"\x0f\xc7\x23", "\x0f\xae\x2b", 3, true},	{"\x48\x0f\xc7\x23", "\x48\x0f\xae\x2b", 4, true},
	    {"\x0f\xae\x03", "\x0f\xae\x0b", 3, false}, {"\x48\x0f\xae\x03", "\x48\x0f\xae\x0b", 4, false},
	};
	static struct oracle_state native, soft;
	static struct gen_case c;
	char why[320] = "";
	unsigned different = 0;

	for (unsigned n = 0; n < count; n++) {
		unsigned k = n % ARRAY_LEN(kinds);
		struct gen_rng rng;

		gen_seed(&rng, seed ^ (n * 0x9e3779b97f4a7c15ull));
		gen_random_insn(&rng, false, &c);
		directed_insn(&c, kinds[k].save, kinds[k].len);
		c.before.gpr[X86_RAX] = gen_next(&rng) & ~XC_PKRU;
		c.before.gpr[X86_RDX] = 0;
		memset(c.before.data + IMAGE, 0, IMAGE_BYTES);
		native = soft = c.before;
		oracle_run(&native, c.insn, c.len);
		bool same =
		    engine_run(r, &soft, c.insn, c.len, why, sizeof(why)) && same_image(&native, &soft);

		/* the processor's image back into another state */
		uint8_t image[IMAGE_BYTES];
		memcpy(image, native.data + IMAGE, sizeof(image));
		gen_random_insn(&rng, false, &c);
		directed_insn(&c, kinds[k].restore, kinds[k].len);
		c.before.gpr[X86_RAX] = gen_next(&rng) & ~XC_PKRU;
		c.before.gpr[X86_RDX] = 0;
		memcpy(c.before.data + IMAGE, image, sizeof(image));
		native = soft = c.before;
		oracle_run(&native, c.insn, c.len);
		same = same && engine_run(r, &soft, c.insn, c.len, why, sizeof(why)) &&
		       gen_compare(&c, &native, &soft, why, sizeof(why));
		if (!same && different++ < 5)
			printf("# XSAVE case %u, kind %u: %s\n", n, k, why);
	}
	return different;
}

int
main(int argc, char **argv)
{
	static struct gen_case c;
	if (argc > 1 && strcmp(argv[1], "-t") == 0) {
		translated = true;
		argv[1] = argv[0];
		argv++;
		argc--;
	}
	uint64_t cases = argc > 1 ? strtoull(argv[1], NULL, 0) : 200000, seed = 0;
	struct err err = {0};
	struct rig rig;
	unsigned failed;

	if (world_open(&rig, &err) != 0) {
		printf("1..1\nnot ok 1 - %s\n", err.msg);
		return 1;
	}
	if (oracle_open(&err) != 0) {
		printf("1..0 # SKIP %s\n", err.msg);
		return 0;
	}
	if (argc > 2)
		seed = strtoull(argv[2], NULL, 0);
	else if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
		return 1;
	printf("# %s %s%" PRIu64 " %" PRIu64 "\n", argv[0], translated ? "-t " : "", cases, seed);
	if (argc > 3) {
		uint64_t number = strtoull(argv[3], NULL, 0);

		make_case(&c, seed, number);
		describe(&c);
		one_case(&rig, &c, number);
	} else {
		for (uint64_t i = 0; i < cases; i++) {
			make_case(&c, seed, i);
			one_case(&rig, &c, i);
		}
	}
	failed = report();
	if (argc <= 3) {
		unsigned different = xsave_cases(&rig, seed, 6000);

		printf("%s %u - XSAVE and FXSAVE images: 6000 cases, %u different\n",
		       different ? "not ok" : "ok", tests_reported + 1, different);
		failed += different != 0;
	}
	printf("1..%u\n", tests_reported + (argc <= 3));
	rig_close(&rig);
	oracle_close();
	return failed != 0;
}
