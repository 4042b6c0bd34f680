/* SPDX-License-Identifier: BSD-2-Clause */
/* Bytes of frames: checksums (RFC 1071), flows, and how backends are chosen. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "dev/net/net.h"
#include "dev/pci/model.h"

enum { HDR_FLAGS = 0, HDR_CSUM_START = 6, HDR_CSUM_OFFSET = 8, NEEDS_CSUM = 1 };
enum { ETH_BYTES = 14, ETH_TYPE = 12, TYPE_IPV4 = 0x0800, TYPE_IPV6 = 0x86dd, PROTO_TCP = 6, PROTO_UDP = 17 };

/* The sum of 16-bit words in host order, folded. Eight bytes at a time: ones' complement does not mind. */
static uint16_t
ones_sum(const uint8_t *p, size_t len)
{
	uint64_t sum = 0, word;

	for (; len >= 8; p += 8, len -= 8) {
		memcpy(&word, p, 8);
		sum += word;
		sum += sum < word;
	}
	word = 0;
	memcpy(&word, p, len);
	sum += word;
	sum += sum < word;
	sum = (sum >> 32) + (sum & UINT32_MAX);
	sum = (sum >> 32) + (sum & UINT32_MAX);
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	return (uint16_t)sum;
}

bool
net_finish_checksum(const uint8_t *hdr, uint8_t *frame, size_t len)
{
	unsigned start = get_le16(hdr + HDR_CSUM_START), field = start + get_le16(hdr + HDR_CSUM_OFFSET);
	uint16_t sum;

	if ((hdr[HDR_FLAGS] & NEEDS_CSUM) == 0)
		return true;
	if (!range_fits(start, 2, len) || !range_fits(field, 2, len))
		return false;
	sum = (uint16_t)~ones_sum(frame + start, len - start);
	/* UDP knows 0 as "none" (RFC 768); for TCP both zeroes are equal. */
	put_le16(frame + field, sum != 0 ? sum : 0xffff);
	return true;
}

static uint32_t
mix(uint32_t h)
{
	h ^= h >> 16;
	h *= 0x7feb352du;
	h ^= h >> 15;
	h *= 0x846ca68bu;
	return h ^ h >> 16;
}

uint32_t
net_flow_hash(const uint8_t *frame, size_t len)
{
	size_t l4, addrs, addr_bytes;
	uint32_t h = 0;
	uint8_t proto;

	if (len < ETH_BYTES + 40)
		return 0;
	switch (frame[ETH_TYPE] << 8 | frame[ETH_TYPE + 1]) {
	case TYPE_IPV4:
		l4 = ETH_BYTES + 4u * (frame[ETH_BYTES] & 0xf);
		proto = frame[ETH_BYTES + 9];
		addrs = ETH_BYTES + 12;
		addr_bytes = 4;
		break;
	case TYPE_IPV6:
		l4 = ETH_BYTES + 40;
		proto = frame[ETH_BYTES + 6];
		addrs = ETH_BYTES + 8;
		addr_bytes = 16;
		break;
	default:
		return 0;
	}
	if ((proto != PROTO_TCP && proto != PROTO_UDP) || !range_fits(l4, 4, len))
		return 0;
	/* Sums of both ends: the direction does not matter. */
	for (size_t i = 0; i < 2 * addr_bytes; i += 4)
		h += mix(get_le32(frame + addrs + i));
	h += mix(get_le16(frame + l4)) + mix(get_le16(frame + l4 + 2));
	return mix(h + proto) | 1;
}

/* ---- options ---- */

/* One end, "[address]:port", up to `end`. */
static bool
parse_end(const char *p, const char *end, uint32_t *addr, uint16_t *port)
{
	const char *colon = memchr(p, ':', (size_t)(end - p));
	char text[16] = "";
	unsigned long n = 0;
	struct in_addr in = {0};

	if (colon == NULL || colon - p >= (long)sizeof(text))
		return false;
	memcpy(text, p, (size_t)(colon - p));
	if (*text != '\0' && inet_pton(AF_INET, text, &in) != 1)
		return false;
	if (colon + 1 == end)
		return false;
	for (p = colon + 1; p < end; p++) {
		if (*p < '0' || *p > '9' || n > 65535)
			return false;
		n = 10 * n + (unsigned)(*p - '0');
	}
	*addr = in.s_addr;
	*port = (uint16_t)n;
	return n >= 1 && n <= 65535;
}

bool
net_parse_hostfwd(const char *text, struct net_hostfwd *out)
{
	const char *dash = strchr(text, '-');

	*out = (struct net_hostfwd){.udp = strncmp(text, "udp:", 4) == 0};
	if (dash == NULL || (!out->udp && strncmp(text, "tcp:", 4) != 0))
		return false;
	return parse_end(text + 4, dash, &out->host_addr, &out->host_port) &&
	       parse_end(dash + 1, text + strlen(text), &out->guest_addr, &out->guest_port);
}

struct net_backend *
net_backend_create(const struct pci_model_env *env, unsigned mtu, const struct net_peer *peer,
		   struct err *err)
{
	const char *kind = env->option(env->ctx, "backend");
	struct net_backend *n = NULL;

	if (kind == NULL)
		err_set(err, EINVAL, "%s.backend: missing (user, tap or unix)", env->where);
	else if (strcmp(kind, "user") == 0)
		n = net_user_create(env, mtu, err);
	else if (strcmp(kind, "tap") == 0)
		n = net_tap_create(env, err);
	else
		n = net_unix_create(env, err);
	if (n == NULL)
		return NULL;
	n->peer = *peer;
	n->loop = env->loop;
	return n;
}
