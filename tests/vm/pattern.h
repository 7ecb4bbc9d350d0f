/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Test data that check_vram on the host can make again: a block of PATTERN_BLOCK bytes, repeated.
 * The block's length is a prime, so that data that landed at a wrong offset does not look right.
 */
#ifndef PATTERN_H
#define PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PATTERN_BLOCK 65521
#define PATTERN_EXPECT_FILE "vram.expect"

/* Fills @len bytes at @dst with the pattern of @seed. */
void pattern_fill(void *dst, size_t len, uint32_t seed);

/* The same, from byte @first of the pattern on. */
void pattern_fill_from(void *dst, size_t len, uint32_t seed, size_t first);

/* Whether the @len bytes at @src are the pattern of @seed. */
bool pattern_matches(const void *src, size_t len, uint32_t seed);

/*
 * Tells check_vram, in the file PATTERN_EXPECT_FILE of /out, that the device memory must hold the
 * pattern of @seed in the @len bytes from @offset on when the guest has ended. What no line tells
 * about must be zero; later lines win. Returns 0 or -1 with errno.
 */
int pattern_expect(uint64_t offset, size_t len, uint32_t seed);

#endif
