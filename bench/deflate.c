/* SPDX-License-Identifier: BSD-2-Clause */
/* Debian's zlib, on text that it can do something with. */
#include <stdlib.h>
#include <zlib.h>
#include "bench/measure.h"

static unsigned char text[1 << 16], packed[1 << 17], again[1 << 16];
static uLongf packed_len;

static void
fill(void)
{
	static const char *const words[] = {"guest ", "page ",	"table ", "of ",
					    "the ",   "host\n", "write ", "is "};
	uint32_t x = 1;
	for (unsigned n = 0; n + 8 < sizeof(text);) {
		x = x * 1664525 + 1013904223;
		const char *w = words[x >> 29];
		for (; *w != '\0'; w++)
			text[n++] = (unsigned char)*w;
	}
}

static void
deflate_work(void)
{
	packed_len = sizeof(packed);
	if (compress2(packed, &packed_len, text, sizeof(text), 6) != Z_OK)
		abort();
}

static void
inflate_work(void)
{
	uLongf len = sizeof(again);
	if (uncompress(again, &len, packed, packed_len) != Z_OK || len != sizeof(text))
		abort();
}

static const struct row rows[] = {{"deflate", deflate_work}, {"inflate", inflate_work}};

int
main(int argc, char **argv)
{
	fill();
	deflate_work();
	measure_rows(rows, 2, argc, argv);
	return 0;
}
