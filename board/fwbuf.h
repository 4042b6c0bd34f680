/* SPDX-License-Identifier: BSD-2-Clause */
/* A growable byte buffer in which firmware tables are built. Running out of memory is sticky: test `failed`
 * once at the end. */
#ifndef LHYVE_BOARD_FWBUF_H
#define LHYVE_BOARD_FWBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fwbuf {
	uint8_t *p; /* NULL while empty */
	size_t len, room;
	bool failed;
};

void fwbuf_free(struct fwbuf *b);
/* Append. */
void fw_put(struct fwbuf *b, const void *data, size_t len);
void fw_zero(struct fwbuf *b, size_t len);
void fw_u8(struct fwbuf *b, uint8_t v);
void fw_u16(struct fwbuf *b, uint16_t v);
void fw_u32(struct fwbuf *b, uint32_t v);
void fw_u64(struct fwbuf *b, uint64_t v);
/* A fixed-width text field, padded with blanks. */
void fw_text(struct fwbuf *b, const char *s, size_t width);
/* Overwrite what is there. Nothing is done on a failed buffer. */
void fw_patch(struct fwbuf *b, size_t off, const void *data, size_t len);
/* Make the bytes [from, from + len) sum to 0 modulo 256 by setting the one at `at`. */
void fw_checksum(struct fwbuf *b, size_t from, size_t len, size_t at);

#endif
