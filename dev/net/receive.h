/* SPDX-License-Identifier: BSD-2-Clause */
/* Which received frames a card takes (Virtual I/O Device 1.2, 5.1.6.5.1 - 5.1.6.5.2). Plain values, no locks.
 */
#ifndef LHYVE_DEV_NET_RECEIVE_H
#define LHYVE_DEV_NET_RECEIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NET_FILTER_MACS = 64 };

/* Part of a saved state. */
struct net_filter {
	uint8_t promisc, allmulti;
	uint8_t overflow; /* more addresses were asked for than there is room: take all */
	uint8_t count;
	uint8_t table[NET_FILTER_MACS][6];
};

void net_filter_clear(struct net_filter *f); /* the table */
void net_filter_add(struct net_filter *f, const uint8_t mac[static 6]);
/* Frames too short for an Ethernet header are taken by nobody. */
bool net_filter_takes(const struct net_filter *f, const uint8_t own[static 6], const uint8_t *frame,
		      size_t len);

#endif
