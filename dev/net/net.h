/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is behind a network card: user (libslirp), tap, unix. Frames are Ethernet, without FCS. Backends with
 * `vnet_hdr` take and give a 12-byte virtio_net_hdr with each frame (checksum and segmentation work to be
 * done by who receives it); the others want whole checksums.
 *
 * Threads: create and destroy from one thread; all else on the event loop's thread (or while it does not
 * run), as the peer's callbacks.
 */
#ifndef LHYVE_DEV_NET_NET_H
#define LHYVE_DEV_NET_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

struct evloop;
struct net_backend;
struct pci_model_env;

enum { NET_HDR_BYTES = 12, NET_FRAME_MAX = 65535 + 18, NET_MTU_MAX = 65520 };

/* The card. */
struct net_peer {
	/* A frame came. false: no room; it comes again after net_resume(). hdr is NULL without vnet_hdr. */
	bool (*rx)(void *ctx, const uint8_t *hdr, const uint8_t *frame, size_t len);
	/* After send had refused: try again. */
	void (*tx_ready)(void *ctx);
	void *ctx;
};

enum net_offload { NET_OFFLOAD_CSUM = 1, NET_OFFLOAD_TSO4 = 2, NET_OFFLOAD_TSO6 = 4, NET_OFFLOAD_ECN = 8 };

struct net_backend_ops {
	bool vnet_hdr;
	bool large;	      /* takes TCP segments beyond the MTU */
	unsigned default_mtu; /* of a card with none configured */
	LH_MUST_CHECK int (*start)(struct net_backend *n, struct err *err);
	void (*stop)(struct net_backend *n);
	void (*destroy)(struct net_backend *n);
	/* false: not now; tx_ready() follows. What cannot be sent at all is dropped, and true. */
	bool (*send)(struct net_backend *n, const uint8_t *hdr, const uint8_t *frame, size_t len);
	void (*sent)(struct net_backend *n);   /* may be NULL: after a batch of send */
	void (*resume)(struct net_backend *n); /* the card has room again */
	void (*offload)(struct net_backend *n,
			unsigned what); /* may be NULL: what the guest takes unfinished (NET_OFFLOAD_*) */
};

/* A backend embeds it at its start. */
struct net_backend {
	const struct net_backend_ops *ops;
	struct net_peer peer;
	struct evloop *loop;
	char where[64];
};

/* By the options of the card: backend, hostfwd, ifname, path, peer, mtu. */
LH_MUST_CHECK struct net_backend *net_backend_create(const struct pci_model_env *env, unsigned mtu,
						     const struct net_peer *peer, struct err *err);

/* The three makers. */
LH_MUST_CHECK struct net_backend *net_user_create(const struct pci_model_env *env, unsigned mtu,
						  struct err *err);
LH_MUST_CHECK struct net_backend *net_tap_create(const struct pci_model_env *env, struct err *err);
LH_MUST_CHECK struct net_backend *net_unix_create(const struct pci_model_env *env, struct err *err);

/* "tcp:127.0.0.1:2222-:22", "udp::53-10.0.2.15:53": addresses in network order, 0 where none was given. */
struct net_hostfwd {
	bool udp;
	uint32_t host_addr, guest_addr;
	uint16_t host_port, guest_port;
};
bool net_parse_hostfwd(const char *text, struct net_hostfwd *out);

/* What a virtio_net_hdr leaves undone: put the checksum into the frame. false: the header points outside. */
bool net_finish_checksum(const uint8_t *hdr, uint8_t *frame, size_t len);
/* The same number for both directions of a TCP or UDP flow; 0 for other frames. */
uint32_t net_flow_hash(const uint8_t *frame, size_t len);

#endif
