/* SPDX-License-Identifier: BSD-2-Clause */
#include "dev/net/receive.h"

#include <string.h>

#include "base/util.h"

enum { ETH_BYTES = 14 };

void
net_filter_clear(struct net_filter *f)
{
	f->overflow = 0;
	f->count = 0;
	memset(f->table, 0, sizeof(f->table));
}

void
net_filter_add(struct net_filter *f, const uint8_t mac[static 6])
{
	if (f->count == NET_FILTER_MACS)
		f->overflow = 1;
	else
		memcpy(f->table[f->count++], mac, 6);
}

bool
net_filter_takes(const struct net_filter *f, const uint8_t own[static 6], const uint8_t *frame, size_t len)
{
	static const uint8_t everyone[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	bool group;

	if (len < ETH_BYTES)
		return false;
	group = (frame[0] & 1) != 0;
	if (f->promisc || f->overflow || (group && f->allmulti) || memcmp(frame, everyone, 6) == 0 ||
	    memcmp(frame, own, 6) == 0)
		return true;
	for (unsigned i = 0; i < f->count; i++) {
		if (memcmp(frame, f->table[i], 6) == 0)
			return true;
	}
	return false;
}
