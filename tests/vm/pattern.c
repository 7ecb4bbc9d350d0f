// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#include "pattern.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXPECT_FILE "/out/" PATTERN_EXPECT_FILE
/* On tmpfs: is there once the guest has begun a new EXPECT_FILE. */
#define STARTED_FILE "/run/vram.expect.started"

/* The high bytes of a linear congruential generator (Numerical Recipes' constants). */
static void pattern_block(uint8_t *block, size_t len, uint32_t seed)
{
	uint32_t x = seed;

	for (size_t i = 0; i < len && i < PATTERN_BLOCK; i++) {
		x = x * 1664525u + 1013904223u;
		block[i] = x >> 24;
	}
}

void pattern_fill_from(void *dst, size_t len, uint32_t seed, size_t first)
{
	uint8_t block[PATTERN_BLOCK];

	pattern_block(block, len + first, seed);
	for (size_t at = 0, n; at < len; at += n) {
		size_t from = (first + at) % PATTERN_BLOCK;

		n = PATTERN_BLOCK - from;
		if (n > len - at)
			n = len - at;
		memcpy((uint8_t *)dst + at, block + from, n);
	}
}

void pattern_fill(void *dst, size_t len, uint32_t seed)
{
	pattern_fill_from(dst, len, seed, 0);
}

bool pattern_matches(const void *src, size_t len, uint32_t seed)
{
	uint8_t block[PATTERN_BLOCK];

	pattern_block(block, len, seed);
	for (size_t at = 0; at < len; at += PATTERN_BLOCK)
		if (memcmp((const uint8_t *)src + at, block,
			   len - at < PATTERN_BLOCK ? len - at : PATTERN_BLOCK))
			return false;
	return true;
}

int pattern_expect(uint64_t offset, size_t len, uint32_t seed)
{
	int fd, n, fresh = 0;
	char line[80];

	fd = open(STARTED_FILE, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd >= 0) {
		close(fd);
		fresh = O_TRUNC;
	}
	fd = open(EXPECT_FILE, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | fresh, 0666);
	if (fd < 0)
		return -1;
	(void)!fchmod(fd, 0666);
	n = snprintf(line, sizeof(line), "%" PRIu64 " %zu %" PRIu32 "\n", offset, len, seed);
	if (write(fd, line, n) != n) {
		close(fd);
		return -1;
	}
	return close(fd);
}
