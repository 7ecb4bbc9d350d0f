// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Check the device memory of a guest, DIR/vram0, from outside.
 *
 * check_vram DIR: of a guest that has ended. DIR/vram.expect has lines "offset length seed", see pattern.h; of two that
 * overlap the later wins. Every byte that no line tells about must be zero. Holes of the file that no line tells about
 * are not read.
 *
 * check_vram --late SECONDS DIR: of a guest that runs and in which nothing may write to it. Fill it, and look again and
 * again for SECONDS whether it stays so.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "pattern.h"

#define STEP (16u << 20)
#define MAX_LINES 4096

struct line {
	uint64_t offset, len;
	uint32_t seed;
};

static struct line lines[MAX_LINES];
static unsigned int num_lines;
static uint8_t want[STEP], got[STEP];

static void read_lines(const char *path)
{
	FILE *f = fopen(path, "r");
	struct line *line;
	int n;

	if (!f)
		err(1, "%s", path);
	for (;;) {
		if (num_lines == MAX_LINES)
			errx(1, "%s: more than %d lines", path, MAX_LINES);
		line = &lines[num_lines];
		n = fscanf(f, "%" SCNu64 " %" SCNu64 " %" SCNu32 "\n", &line->offset, &line->len, &line->seed);
		if (n != 3)
			break;
		num_lines++;
	}
	if (n != EOF || ferror(f))
		errx(1, "%s: line %u is not \"offset length seed\"", path, num_lines + 1);
	fclose(f);
}

static bool is_hole(int fd, uint64_t at, uint64_t len)
{
	off_t data = lseek(fd, at, SEEK_DATA);

	if (data < 0 && errno != ENXIO)
		err(1, "lseek");
	return data < 0 || (uint64_t)data >= at + len;
}

/* Puts what must be in the @len bytes at @at into want[]; whether any line tells about them. */
static bool expect(uint64_t at, size_t len)
{
	bool told = false;

	memset(want, 0, len);
	for (unsigned int i = 0; i < num_lines; i++) {
		const struct line *line = &lines[i];
		uint64_t from = line->offset > at ? line->offset : at;
		uint64_t to = line->offset + line->len < at + len ? line->offset + line->len : at + len;

		if (from >= to)
			continue;
		pattern_fill_from(want + (from - at), to - from, line->seed, from - line->offset);
		told = true;
	}
	return told;
}

static void check(int fd, uint64_t at, size_t len)
{
	bool told = expect(at, len);
	size_t i = 0;

	if (!told && is_hole(fd, at, len))
		return;
	if (pread(fd, got, len, at) != (ssize_t)len)
		err(1, "short read at %#" PRIx64, at);
	if (!memcmp(want, got, len))
		return;
	while (want[i] == got[i])
		i++;
	errx(1, "byte %#" PRIx64 " is %#x, not %#x", at + i, got[i], want[i]);
}

/* The last byte that a line tells about lies in the device memory. */
static void check_lines(uint64_t size)
{
	uint64_t bytes = 0;

	for (unsigned int i = 0; i < num_lines; i++) {
		if (lines[i].offset > size || lines[i].len > size - lines[i].offset)
			errx(1, "line %u reaches beyond the device memory", i + 1);
		bytes += lines[i].len;
	}
	if (!bytes)
		errx(1, PATTERN_EXPECT_FILE " says nothing");
}

static void check_at_end(int fd, uint64_t size)
{
	read_lines(PATTERN_EXPECT_FILE);
	check_lines(size);
	for (uint64_t at = 0; at < size; at += STEP)
		check(fd, at, size - at < STEP ? size - at : STEP);
	printf("check_vram: %u ranges as expected, nothing else written\n", num_lines);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void check_late(int fd, uint64_t size, double seconds)
{
	const double end = now() + seconds;
	unsigned int rounds = 0;

	/* Not the same each time: nobody could have written it before. */
	num_lines = 1;
	lines[0] = (struct line){ .len = size, .seed = time(NULL) };
	for (uint64_t at = 0; at < size; at += STEP) {
		size_t len = size - at < STEP ? size - at : STEP;

		expect(at, len);
		if (pwrite(fd, want, len, at) != (ssize_t)len)
			err(1, "short write at %#" PRIx64, at);
	}
	do {
		for (uint64_t at = 0; at < size; at += STEP)
			check(fd, at, size - at < STEP ? size - at : STEP);
		rounds++;
	} while (now() < end);
	printf("check_vram: %" PRIu64 " bytes unchanged in %u rounds\n", size, rounds);
}

int main(int argc, char **argv)
{
	bool late = argc == 4 && !strcmp(argv[1], "--late");
	struct stat st;
	int fd;

	if (argc != 2 && !late)
		errx(2, "usage: check_vram [--late SECONDS] DIR");
	if (chdir(argv[argc - 1]))
		err(1, "%s", argv[argc - 1]);
	fd = open("vram0", (late ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		err(1, "vram0");
	if (late)
		check_late(fd, st.st_size, strtod(argv[2], NULL));
	else
		check_at_end(fd, st.st_size);
	return 0;
}
