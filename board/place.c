/* SPDX-License-Identifier: BSD-2-Clause */
#include "board/place.h"

#include <errno.h>

#include "base/util.h"
#include "board/loader.h"

void
place_init(struct place *p, const struct e820 *map)
{
	p->map = map;
	p->count = 0;
}

static bool
is_ram(const struct e820 *map, uint64_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < map->count; i++) {
		const struct e820_entry *e = &map->entry[i];

		if (e->type == E820_RAM && gpa >= e->addr && range_fits(gpa - e->addr, len, e->len))
			return true;
	}
	return false;
}

/* Some range that shares a byte with [gpa, end), or NULL. */
static const struct place_range *
taken(const struct place *p, uint64_t gpa, uint64_t end)
{
	for (unsigned i = 0; i < p->count; i++) {
		if (p->range[i].gpa < end && gpa < p->range[i].end)
			return &p->range[i];
	}
	return NULL;
}

static void
enter(struct place *p, uint64_t gpa, uint64_t end)
{
	p->range[p->count++] = (struct place_range){gpa, end};
}

int
place_claim(struct place *p, const struct boot_file *f, const char *what, uint64_t gpa, uint64_t len,
	    struct err *err)
{
	const struct place_range *other;

	if (len == 0)
		return 0;
	if (gpa + len < gpa || !is_ram(p->map, gpa, len))
		return boot_file_error(f, err,
				       "%s, %#llx bytes at %#llx, is outside memory (give more memory.size)",
				       what, (unsigned long long)len, (unsigned long long)gpa);
	other = taken(p, gpa, gpa + len);
	if (other != NULL)
		return boot_file_error(
		    f, err,
		    "%s, %#llx bytes at %#llx, overlaps what is loaded at %#llx (a damaged file? "
		    "copy it again)",
		    what, (unsigned long long)len, (unsigned long long)gpa, (unsigned long long)other->gpa);
	if (p->count == PLACE_RANGES)
		return boot_file_error(f, err, "has more than %d parts (a damaged file? copy it again)",
				       PLACE_RANGES);
	enter(p, gpa, gpa + len);
	return 0;
}

/* The lowest free place in [low, high). */
static bool
find_in(const struct place *p, uint64_t len, uint64_t align, uint64_t low, uint64_t high, uint64_t *gpa)
{
	const struct place_range *other;
	uint64_t at = align_up(low, align);

	while (at >= low && at < high && len <= high - at) {
		other = taken(p, at, at + len);
		if (other == NULL) {
			*gpa = at;
			return true;
		}
		at = align_up(other->end, align);
	}
	return false;
}

bool
place_find(struct place *p, uint64_t len, uint64_t align, uint64_t low, uint64_t high, uint64_t *gpa)
{
	uint64_t best = UINT64_MAX, at;

	for (unsigned i = 0; i < p->map->count; i++) {
		const struct e820_entry *e = &p->map->entry[i];

		if (e->type == E820_RAM &&
		    find_in(p, len, align, MAX(low, e->addr), MIN(high, e->addr + e->len), &at))
			best = MIN(best, at);
	}
	if (best == UINT64_MAX || p->count == PLACE_RANGES)
		return false;
	if (len != 0)
		enter(p, best, best + len);
	*gpa = best;
	return true;
}

uint64_t
place_end(const struct place *p, uint64_t limit)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < p->count; i++) {
		if (p->range[i].end <= limit)
			end = MAX(end, p->range[i].end);
	}
	return end;
}
