// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* The map from IOVA to host memory: devices/vfio-user/dma_map.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "dma_map.h"

#define PAGE	((uint64_t)4096)
#define RW	(DMA_MAP_READ | DMA_MAP_WRITE)
#define TOP	(UINT64_C(1) << 63)

/* A memfd whose page n is filled with bytes n + 1 (modulo 256). */
static int make_file(unsigned int pages)
{
	int fd = memfd_create("dma_map_test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	uint8_t page[PAGE];
	unsigned int i;

	assert_true(fd >= 0);
	for (i = 0; i < pages; i++) {
		memset(page, (int)(i + 1), sizeof(page));
		assert_int_equal(pwrite(fd, page, sizeof(page), (off_t)(i * PAGE)),
				 sizeof(page));
	}
	return fd;
}

static size_t translate(struct dma_map *map, uint64_t iova, size_t len, unsigned int prot,
			void **ptr)
{
	size_t n;

	dma_map_read_lock(map);
	n = dma_map_translate(map, NULL, iova, len, prot, ptr);
	dma_map_read_unlock(map);
	return n;
}

/* The byte at @iova, or -1. */
static int peek(struct dma_map *map, uint64_t iova)
{
	uint8_t byte;

	return dma_map_read(map, NULL, iova, &byte, 1) ? -1 : byte;
}

static struct dma_map_stats stats_of(struct dma_map *map)
{
	struct dma_map_stats stats;

	dma_map_get_stats(map, &stats);
	return stats;
}

static int setup(void **state)
{
	*state = dma_map_create();
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	dma_map_destroy(*state);
	return 0;
}

static void add_and_translate(void **state)
{
	struct dma_map *map = *state;
	int fd = make_file(4);
	void *p, *q;

	assert_int_equal(translate(map, 0x10000, 1, DMA_MAP_READ, &p), 0);
	assert_null(p);

	/* pages 1 and 2 of the file */
	assert_int_equal(dma_map_add(map, 0x10000, 2 * PAGE, RW, fd, PAGE), 0);
	close(fd);

	assert_int_equal(translate(map, 0x10000, 1, DMA_MAP_READ, &p), 1);
	assert_int_equal(*(uint8_t *)p, 2);
	assert_int_equal(translate(map, 0x10ffc, 64, RW, &q), 64);
	assert_ptr_equal((uint8_t *)q - (uint8_t *)p, 0xffc);
	assert_int_equal(((uint8_t *)q)[0], 2);
	assert_int_equal(((uint8_t *)q)[4], 3);
	/* no more than there is, nothing on either side */
	assert_int_equal(translate(map, 0x11ff0, 64, RW, &q), 16);
	assert_int_equal(translate(map, 0x12000, 1, RW, &q), 0);
	assert_null(q);
	assert_int_equal(translate(map, 0xffff, 1, RW, &q), 0);
	assert_int_equal(translate(map, 0x10000, 0, RW, &q), 0);
}

static void protection(void **state)
{
	struct dma_map *map = *state;
	int fd = make_file(2);
	void *p;

	assert_int_equal(dma_map_add(map, 0, PAGE, DMA_MAP_READ, fd, 0), 0);
	assert_int_equal(dma_map_add(map, PAGE, PAGE, DMA_MAP_WRITE, fd, PAGE), 0);
	assert_int_equal(translate(map, 0, 8, DMA_MAP_READ, &p), 8);
	assert_int_equal(translate(map, 0, 8, DMA_MAP_WRITE, &p), 0);
	assert_int_equal(translate(map, 0, 8, RW, &p), 0);
	assert_int_equal(translate(map, PAGE, 8, DMA_MAP_READ, &p), 0);
	assert_int_equal(translate(map, PAGE, 8, DMA_MAP_WRITE, &p), 8);
	/* contiguous memory, but the second page may not be read */
	assert_int_equal(translate(map, 0, 2 * PAGE, DMA_MAP_READ, &p), PAGE);
	close(fd);
}

static void unreachable(void **state)
{
	struct dma_map *map = *state;
	void *p;

	assert_int_equal(dma_map_add(map, TOP, 16 * PAGE, RW, -1, 0), 0);
	assert_int_equal(stats_of(map).maps, 1);
	assert_int_equal(stats_of(map).unreachable, 1);
	assert_int_equal(translate(map, TOP, 8, DMA_MAP_READ, &p), 0);
	assert_null(p);
	assert_int_equal(dma_map_add(map, TOP + PAGE, PAGE, RW, -1, 0), -EEXIST);
	/* cut in two, then gone */
	assert_int_equal(dma_map_remove_range(map, TOP + PAGE, PAGE), 1);
	assert_int_equal(stats_of(map).unreachable, 2);
	assert_int_equal(dma_map_remove_range(map, TOP, TOP), 2);
	assert_int_equal(stats_of(map).unreachable, 0);
	assert_int_equal(stats_of(map).bytes, 0);
}

static void overlap(void **state)
{
	static const struct {
		uint64_t iova, size;
	} bad[] = {
		{ 4 * PAGE, 2 * PAGE },	/* the same */
		{ 4 * PAGE, PAGE }, { 5 * PAGE, PAGE },
		{ 3 * PAGE, 2 * PAGE }, { 5 * PAGE, 2 * PAGE },
		{ 3 * PAGE, 4 * PAGE }, { 0, 64 * PAGE }, { 5 * PAGE + 8, 8 },
	};
	struct dma_map *map = *state;
	int fd = make_file(64);
	unsigned int i;

	assert_int_equal(dma_map_add(map, 4 * PAGE, 2 * PAGE, RW, fd, 0), 0);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(dma_map_add(map, bad[i].iova, bad[i].size, RW, fd, 0), -EEXIST);
	assert_int_equal(dma_map_add(map, 3 * PAGE, PAGE, RW, fd, 0), 0);
	assert_int_equal(dma_map_add(map, 6 * PAGE, PAGE, RW, fd, 0), 0);
	assert_int_equal(stats_of(map).maps, 3);
	assert_int_equal(stats_of(map).refused, i);
	close(fd);
}

static void bad_arguments(void **state)
{
	struct dma_map *map = *state;
	int fd = make_file(2), pipe_fd[2], sock[2], dir, path, ro, wo;
	char name[64];

	assert_int_equal(dma_map_add(map, 0, 0, RW, fd, 0), -EINVAL);
	assert_int_equal(dma_map_add(map, UINT64_MAX, 2, RW, fd, 0), -EINVAL);
	assert_int_equal(dma_map_add(map, PAGE, UINT64_MAX, RW, fd, 0), -EINVAL);
	assert_int_equal(dma_map_add(map, 0, PAGE, 0, fd, 0), -EINVAL);
	assert_int_equal(dma_map_add(map, 0, PAGE, 4, fd, 0), -EINVAL);
	assert_int_equal(dma_map_add(map, 0, PAGE, RW, 9999, 0), -EBADF);

	/* past the end of the file: would be SIGBUS */
	assert_int_equal(dma_map_add(map, 0, 3 * PAGE, RW, fd, 0), -EINVAL);
	assert_int_equal(dma_map_add(map, 0, PAGE, RW, fd, 2 * PAGE), -EINVAL);
	assert_int_equal(dma_map_add(map, 0, 2 * PAGE, RW, fd, UINT64_MAX - PAGE + 1), -EINVAL);

	assert_int_equal(pipe(pipe_fd), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sock), 0);
	dir = open("/tmp", O_RDONLY | O_DIRECTORY);
	assert_int_equal(dma_map_add(map, 0, PAGE, RW, pipe_fd[0], 0), -EINVAL);
	assert_int_equal(dma_map_add(map, 0, PAGE, RW, sock[0], 0), -EINVAL);
	assert_int_equal(dma_map_add(map, 0, PAGE, RW, dir, 0), -EINVAL);

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	ro = open(name, O_RDONLY);
	if (ro >= 0) {
		wo = open(name, O_WRONLY);
		path = open(name, O_PATH);
		assert_int_equal(dma_map_add(map, 0, PAGE, RW, ro, 0), -EACCES);
		assert_int_equal(dma_map_add(map, 0, PAGE, DMA_MAP_WRITE, wo, 0), -EACCES);
		assert_true(dma_map_add(map, 0, PAGE, DMA_MAP_READ, path, 0) < 0);
		assert_int_equal(dma_map_add(map, 0, PAGE, DMA_MAP_READ, ro, 0), 0);
		assert_int_equal(peek(map, 0), 1);
		close(path);
		close(wo);
		close(ro);
	}
	assert_int_equal(dma_map_remove_range(map, 0, 0), -EINVAL);
	assert_int_equal(dma_map_remove_range(map, PAGE, UINT64_MAX), -EINVAL);

	close(dir);
	close(sock[0]);
	close(sock[1]);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	close(fd);
}

static void sealed_file(void **state)
{
	struct dma_map *map = *state;
	int fd = make_file(1);

	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	assert_int_equal(dma_map_add(map, 0, PAGE, RW, fd, 0), -EACCES);
	assert_int_equal(dma_map_add(map, 0, PAGE, DMA_MAP_READ, fd, 0), 0);
	assert_int_equal(peek(map, 0), 1);
	close(fd);
}

static void one_mapping_per_file(void **state)
{
	struct dma_map *map = *state;
	int a = make_file(8), b = make_file(8);
	uint64_t i;

	for (i = 0; i < 8; i++) {
		assert_int_equal(dma_map_add(map, 2 * i * PAGE, PAGE, RW, a, i * PAGE), 0);
		assert_int_equal(dma_map_add(map, (2 * i + 1) * PAGE, PAGE, RW, b, i * PAGE), 0);
	}
	assert_int_equal(stats_of(map).files, 2);
	assert_int_equal(dma_map_remove_range(map, PAGE, 15 * PAGE), 15);
	assert_int_equal(stats_of(map).files, 1);
	assert_int_equal(dma_map_remove_range(map, 0, PAGE), 1);
	assert_int_equal(stats_of(map).files, 0);
	/* and again, as a BAR during enumeration */
	assert_int_equal(dma_map_add(map, 0, PAGE, RW, a, 3 * PAGE), 0);
	assert_int_equal(peek(map, 0), 4);
	close(a);
	close(b);
}

static void file_grows(void **state)
{
	struct dma_map *map = *state;
	int fd = make_file(1);
	uint8_t byte = 77;

	assert_int_equal(dma_map_add(map, 0, PAGE, RW, fd, 0), 0);
	assert_int_equal(dma_map_add(map, PAGE, PAGE, RW, fd, PAGE), -EINVAL);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	assert_int_equal(pwrite(fd, &byte, 1, PAGE), 1);
	assert_int_equal(dma_map_add(map, PAGE, PAGE, RW, fd, PAGE), 0);
	assert_int_equal(stats_of(map).files, 1);
	assert_int_equal(peek(map, 0), 1);
	assert_int_equal(peek(map, PAGE), 77);
	close(fd);
}

static void adjacent_maps(void **state)
{
	struct dma_map *map = *state;
	int a = make_file(8), b = make_file(1);
	void *p;

	assert_int_equal(dma_map_add(map, 0, PAGE, RW, a, 0), 0);
	assert_int_equal(dma_map_add(map, PAGE, PAGE, RW, a, PAGE), 0);
	assert_int_equal(dma_map_add(map, 2 * PAGE, PAGE, RW, a, 2 * PAGE), 0);
	assert_int_equal(translate(map, 100, 8 * PAGE, RW, &p), 3 * PAGE - 100);
	assert_int_equal(translate(map, 100, 2 * PAGE, RW, &p), 2 * PAGE);
	/* not contiguous in memory: a jump in the file, another file */
	assert_int_equal(dma_map_add(map, 3 * PAGE, PAGE, RW, a, 5 * PAGE), 0);
	assert_int_equal(dma_map_add(map, 4 * PAGE, PAGE, RW, b, 0), 0);
	assert_int_equal(translate(map, 0, 8 * PAGE, RW, &p), 3 * PAGE);
	assert_int_equal(translate(map, 3 * PAGE, 8 * PAGE, RW, &p), PAGE);
	/* not contiguous in IOVA */
	assert_int_equal(dma_map_add(map, 6 * PAGE, PAGE, RW, a, 6 * PAGE), 0);
	assert_int_equal(translate(map, 4 * PAGE, 8 * PAGE, RW, &p), PAGE);
	close(a);
	close(b);
}

static void unmap_superset_and_nothing(void **state)
{
	struct dma_map *map = *state;
	int fd = make_file(16);
	uint64_t i;

	/* on an empty map */
	assert_int_equal(dma_map_remove_range(map, 0, TOP), 0);

	for (i = 0; i < 16; i++)
		assert_int_equal(dma_map_add(map, (16 + 2 * i) * PAGE, PAGE, RW, fd, i * PAGE), 0);
	/* below, above, between */
	assert_int_equal(dma_map_remove_range(map, 0, 16 * PAGE), 0);
	assert_int_equal(dma_map_remove_range(map, TOP, TOP), 0);
	assert_int_equal(dma_map_remove_range(map, 17 * PAGE, PAGE), 0);
	assert_int_equal(stats_of(map).maps, 16);
	assert_int_equal(stats_of(map).unmaps_empty, 4);
	/* some */
	assert_int_equal(dma_map_remove_range(map, 20 * PAGE, 8 * PAGE), 4);
	assert_int_equal(peek(map, 18 * PAGE), 2);
	assert_int_equal(peek(map, 20 * PAGE), -1);
	assert_int_equal(peek(map, 26 * PAGE), -1);
	assert_int_equal(peek(map, 28 * PAGE), 7);
	/* half the address space */
	assert_int_equal(dma_map_remove_range(map, 0, TOP), 12);
	assert_int_equal(stats_of(map).maps, 0);
	assert_int_equal(stats_of(map).bytes, 0);
	assert_int_equal(stats_of(map).files, 0);
	assert_int_equal(stats_of(map).split, 0);
	close(fd);
}

static void unmap_cuts(void **state)
{
	struct dma_map *map = *state;
	int fd = make_file(32);

	/* the end of one, the whole of one, the start of one */
	assert_int_equal(dma_map_add(map, 0, 4 * PAGE, RW, fd, 0), 0);
	assert_int_equal(dma_map_add(map, 4 * PAGE, 4 * PAGE, RW, fd, 4 * PAGE), 0);
	assert_int_equal(dma_map_add(map, 8 * PAGE, 4 * PAGE, RW, fd, 8 * PAGE), 0);
	assert_int_equal(dma_map_remove_range(map, 3 * PAGE, 6 * PAGE), 3);
	assert_int_equal(peek(map, 3 * PAGE - 1), 3);
	assert_int_equal(peek(map, 3 * PAGE), -1);
	assert_int_equal(peek(map, 9 * PAGE - 1), -1);
	assert_int_equal(peek(map, 9 * PAGE), 10);
	assert_int_equal(peek(map, 12 * PAGE - 1), 12);
	assert_int_equal(stats_of(map).maps, 2);
	assert_int_equal(stats_of(map).bytes, 6 * PAGE);

	/* a hole */
	assert_int_equal(dma_map_add(map, 16 * PAGE, 16 * PAGE, RW, fd, 16 * PAGE), 0);
	assert_int_equal(dma_map_remove_range(map, 20 * PAGE, PAGE), 1);
	assert_int_equal(peek(map, 20 * PAGE - 1), 20);
	assert_int_equal(peek(map, 20 * PAGE), -1);
	assert_int_equal(peek(map, 21 * PAGE), 22);
	assert_int_equal(stats_of(map).maps, 4);
	assert_int_equal(stats_of(map).bytes, 21 * PAGE);
	assert_int_equal(stats_of(map).split, 3);
	/* what was cut out can be mapped again, what stayed cannot */
	assert_int_equal(dma_map_add(map, 20 * PAGE, PAGE, RW, fd, 0), 0);
	assert_int_equal(dma_map_add(map, 21 * PAGE, PAGE, RW, fd, 0), -EEXIST);
	assert_int_equal(peek(map, 20 * PAGE), 1);
	assert_int_equal(dma_map_clear(map), 5);
	assert_int_equal(stats_of(map).files, 0);
	close(fd);
}

static void ends_of_address_space(void **state)
{
	struct dma_map *map = *state;
	int fd = make_file(2);
	uint64_t top = UINT64_MAX - PAGE + 1;
	void *p;

	assert_int_equal(dma_map_add(map, top, PAGE, RW, fd, PAGE), 0);
	assert_int_equal(dma_map_add(map, 0, PAGE, RW, fd, 0), 0);
	assert_int_equal(translate(map, top, 2 * PAGE, RW, &p), PAGE);
	assert_int_equal(peek(map, UINT64_MAX), 2);
	assert_int_equal(dma_map_remove_range(map, top - PAGE, 2 * PAGE), 1);
	assert_int_equal(dma_map_add(map, top, PAGE, RW, fd, PAGE), 0);
	/* cut at the very end, and everything but byte 0 */
	assert_int_equal(dma_map_remove_range(map, UINT64_MAX, 1), 1);
	assert_int_equal(peek(map, UINT64_MAX - 1), 2);
	assert_int_equal(dma_map_remove_range(map, 1, UINT64_MAX), 2);
	assert_int_equal(peek(map, 0), 1);
	assert_int_equal(peek(map, 1), -1);
	assert_int_equal(dma_map_clear(map), 1);
	/* one map as large as a size can say */
	assert_int_equal(dma_map_add(map, 0, UINT64_MAX, RW, -1, 0), 0);
	assert_int_equal(dma_map_add(map, UINT64_MAX, 1, RW, -1, 0), 0);
	assert_int_equal(dma_map_clear(map), 2);
	close(fd);
}

static void cursor(void **state)
{
	struct dma_map_cursor cur = { 0 };
	struct dma_map *map = *state;
	int fd = make_file(8);
	uint64_t i;
	void *p;

	for (i = 0; i < 8; i++)
		assert_int_equal(dma_map_add(map, i * PAGE, PAGE, RW, fd, (7 - i) * PAGE), 0);
	dma_map_read_lock(map);
	for (i = 0; i < 8 * PAGE; i += 512) {
		assert_int_equal(dma_map_translate(map, &cur, i, 512, RW, &p), 512);
		assert_int_equal(*(uint8_t *)p, 8 - i / PAGE);
	}
	for (i = 8; i--;)
		assert_int_equal(dma_map_translate(map, &cur, i * PAGE, 1, RW, &p), 1);
	dma_map_read_unlock(map);

	/* the node under the cursor is freed, then cut */
	assert_int_equal(dma_map_remove_range(map, 0, PAGE), 1);
	dma_map_read_lock(map);
	assert_int_equal(dma_map_translate(map, &cur, 0, 1, RW, &p), 0);
	assert_int_equal(dma_map_translate(map, &cur, PAGE, 1, RW, &p), 1);
	dma_map_read_unlock(map);
	assert_int_equal(dma_map_remove_range(map, PAGE, 512), 1);
	dma_map_read_lock(map);
	assert_int_equal(dma_map_translate(map, &cur, PAGE, 1, RW, &p), 0);
	assert_int_equal(dma_map_translate(map, &cur, PAGE + 512, PAGE, RW, &p), PAGE - 512);
	dma_map_read_unlock(map);
	close(fd);
}

static void copy_helpers(void **state)
{
	struct dma_map_cursor cur = { 0 };
	struct dma_map *map = *state;
	size_t size = 3 * DMA_MAP_MAX_CHUNK;
	uint8_t *out = malloc(size), *in = malloc(size);
	int fd = memfd_create("copy", MFD_CLOEXEC);
	size_t i;

	assert_true(fd >= 0 && out && in);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	/* three pieces in the wrong order */
	for (i = 0; i < 3; i++)
		assert_int_equal(dma_map_add(map, i * DMA_MAP_MAX_CHUNK, DMA_MAP_MAX_CHUNK, RW, fd,
					     (2 - i) * DMA_MAP_MAX_CHUNK), 0);
	for (i = 0; i < size; i++)
		out[i] = (uint8_t)(i * 2654435761u >> 13);
	assert_int_equal(dma_map_write(map, &cur, 5, out, size - 5), 0);
	assert_int_equal(dma_map_read(map, &cur, 5, in, size - 5), 0);
	assert_memory_equal(in, out, size - 5);
	assert_int_equal(pread(fd, in, 4, (off_t)(2 * DMA_MAP_MAX_CHUNK + 5)), 4);
	assert_memory_equal(in, out, 4);
	assert_int_equal(dma_map_read(map, NULL, 5, in, size), -EFAULT);
	assert_int_equal(dma_map_write(map, NULL, size, out, 1), -EFAULT);
	assert_int_equal(dma_map_read(map, NULL, size, in, 0), 0);
	close(fd);
	free(out);
	free(in);
}

/* ---- against a model ---- */

struct rng {
	uint64_t s;
};

static uint32_t rnd(struct rng *r, uint32_t below)
{
	r->s ^= r->s << 13;
	r->s ^= r->s >> 7;
	r->s ^= r->s << 17;
	return (uint32_t)(r->s >> 33) % below;
}

/* Random maps and unmaps over 256 pages; an array says what must be there. */
static void random_model(void **state)
{
	enum { PAGES = 256, FILE_PAGES = 200, STEPS = 20000 };
	struct dma_map_cursor cur = { 0 };
	struct dma_map *map = *state;
	struct rng rng = { 88172645463325252u };
	int model[PAGES], fd = make_file(FILE_PAGES);
	uint32_t step, start, count, off, i;
	bool overlaps, any;
	int64_t ret;
	void *p;

	for (i = 0; i < PAGES; i++)
		model[i] = -1;
	for (step = 0; step < STEPS; step++) {
		start = rnd(&rng, PAGES);
		count = 1 + rnd(&rng, rnd(&rng, 8) ? 8 : PAGES);
		if (count > PAGES - start)
			count = PAGES - start;
		if (rnd(&rng, 5)) {
			off = rnd(&rng, FILE_PAGES);
			overlaps = false;
			for (i = start; i < start + count; i++)
				overlaps |= model[i] != -1;
			ret = dma_map_add(map, start * PAGE, count * PAGE, RW, fd, off * PAGE);
			if (overlaps) {
				assert_int_equal(ret, -EEXIST);
			} else if (off + count > FILE_PAGES) {
				assert_int_equal(ret, -EINVAL);
			} else {
				assert_int_equal(ret, 0);
				for (i = 0; i < count; i++)
					model[start + i] = (uint8_t)(off + i + 1);
			}
		} else {
			any = false;
			for (i = start; i < start + count; i++) {
				any |= model[i] != -1;
				model[i] = -1;
			}
			ret = dma_map_remove_range(map, start * PAGE, count * PAGE);
			assert_int_equal(ret > 0, any);
		}
		for (i = 0; i < 4; i++) {
			start = rnd(&rng, PAGES);
			dma_map_read_lock(map);
			ret = (int64_t)dma_map_translate(map, &cur, start * PAGE + 7, 1, RW, &p);
			assert_int_equal(ret, model[start] != -1);
			if (ret)
				assert_int_equal(*(uint8_t *)p, model[start]);
			dma_map_read_unlock(map);
		}
	}
	count = 0;
	for (i = 0; i < PAGES; i++) {
		assert_int_equal(peek(map, i * PAGE), model[i]);
		count += model[i] != -1;
	}
	assert_int_equal(stats_of(map).bytes, count * PAGE);
	dma_map_clear(map);
	assert_int_equal(stats_of(map).maps, 0);
	assert_int_equal(stats_of(map).bytes, 0);
	close(fd);
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* 1 GiB behind a vIOMMU in 4 KiB pages, IOVAs going down as Linux hands them out. */
static void quarter_million_maps(void **state)
{
	enum { MAPS = 262144 };
	struct dma_map_cursor cur = { 0 };
	struct dma_map *map = *state;
	struct rng rng = { 1 };
	int fd = memfd_create("many", MFD_CLOEXEC);
	double t0, t1, t2, t3, t4;
	uint64_t i;
	void *p;

	assert_int_equal(ftruncate(fd, (off_t)(MAPS * PAGE)), 0);
	t0 = seconds();
	for (i = MAPS; i--;)
		assert_int_equal(dma_map_add(map, i * PAGE, PAGE, RW, fd, i * PAGE), 0);
	t1 = seconds();
	dma_map_read_lock(map);
	for (i = 0; i < MAPS; i++)
		if (!dma_map_translate(map, &cur, rnd(&rng, MAPS) * PAGE, 64, RW, &p))
			fail();
	t2 = seconds();
	for (i = 0; i < MAPS; i++)
		if (dma_map_translate(map, &cur, i * PAGE, 64, RW, &p) != 64)
			fail();
	dma_map_read_unlock(map);
	t3 = seconds();
	assert_int_equal(stats_of(map).files, 1);
	/* one by one in the lower half, at one blow in the upper */
	for (i = 0; i < MAPS / 2; i++)
		assert_int_equal(dma_map_remove_range(map, i * PAGE, PAGE), 1);
	t4 = seconds();
	assert_int_equal(dma_map_remove_range(map, 0, TOP), MAPS / 2);
	print_message("ns each: add %.0f, random look-up %.0f, sequential look-up %.0f, remove %.0f\n",
		      (t1 - t0) / MAPS * 1e9, (t2 - t1) / MAPS * 1e9, (t3 - t2) / MAPS * 1e9,
		      (t4 - t3) / (MAPS / 2) * 1e9);
	close(fd);
}

/* ---- threads ---- */

struct reader {
	pthread_t thread;
	struct dma_map *map;
	atomic_bool *stop;
	_Atomic uint64_t hits;
	uint64_t misses, wrong;
};

/* Every page of the window holds its number + 1, whenever it is mapped. */
static void *read_loop(void *arg)
{
	struct dma_map_cursor cur = { 0 };
	struct reader *r = arg;
	struct rng rng = { (uintptr_t)r | 1 };
	uint64_t page;
	uint8_t byte;
	void *p;

	while (!atomic_load(r->stop)) {
		page = rnd(&rng, 64);
		dma_map_read_lock(r->map);
		if (dma_map_translate(r->map, &cur, page * PAGE + rnd(&rng, PAGE), 1, RW, &p)) {
			byte = *(volatile uint8_t *)p;
			r->hits++;
			r->wrong += byte != page + 1;
		} else {
			r->misses++;
		}
		dma_map_read_unlock(r->map);
	}
	return NULL;
}

static uint64_t hits_of(const struct reader *r, int n)
{
	uint64_t hits = 0;

	while (n--)
		hits += atomic_load(&r[n].hits);
	return hits;
}

/*
 * The writer would never get its turn among four readers if they were preferred. However busy the machine is, there are
 * some turns of both; who never has one is found by ctest's limit.
 */
static void readers_against_writer(void **state)
{
	enum { READERS = 4 };
	struct reader r[READERS] = { 0 };
	struct dma_map *map = *state;
	atomic_bool stop = false;
	struct rng rng = { 99 };
	uint64_t page, count, done = 0;
	int fd = make_file(64);
	double end;
	int i;

	assert_int_equal(dma_map_add(map, 0, 64 * PAGE, RW, fd, 0), 0);
	for (i = 0; i < READERS; i++) {
		r[i].map = map;
		r[i].stop = &stop;
		assert_int_equal(pthread_create(&r[i].thread, NULL, read_loop, &r[i]), 0);
	}
	end = seconds() + 1;
	while (seconds() < end || done <= 100 || hits_of(r, READERS) <= 100) {
		page = rnd(&rng, 64);
		count = 1 + rnd(&rng, (uint32_t)(64 - page));
		dma_map_remove_range(map, page * PAGE, count * PAGE);
		assert_int_equal(dma_map_add(map, page * PAGE, count * PAGE, RW, fd, page * PAGE), 0);
		/* now and then nothing is left and the file is unmapped under the readers */
		if (!rnd(&rng, 16)) {
			dma_map_clear(map);
			assert_int_equal(dma_map_add(map, 0, 64 * PAGE, RW, fd, 0), 0);
		}
		done++;
	}
	atomic_store(&stop, true);
	for (i = 0; i < READERS; i++) {
		pthread_join(r[i].thread, NULL);
		assert_int_equal(r[i].wrong, 0);
	}
	close(fd);
}

struct pair {
	pthread_t thread;
	struct dma_map *a, *b;
	atomic_bool *stop;
	_Atomic uint64_t rounds;
};

static void *pair_loop(void *arg)
{
	struct pair *p = arg;

	while (!atomic_load(p->stop)) {
		dma_map_read_lock_pair(p->a, p->b);
		p->rounds++;
		dma_map_read_unlock_pair(p->a, p->b);
	}
	return NULL;
}

static bool had_turns(const struct pair *pair, int n)
{
	while (n && atomic_load(&pair[n - 1].rounds) > 100)
		n--;
	return !n;
}

/*
 * Two threads that take two maps in different order, and a writer on each map. A busy machine may let one of them wait
 * for longer than all of this takes: it ends when each had its turns, and if one never has, that is a deadlock, which ends
 * by ctest's limit.
 */
static void two_maps(void **state)
{
	struct dma_map *a = *state, *b = dma_map_create();
	atomic_bool stop = false;
	struct pair pair[3] = {
		{ .a = a, .b = b, .stop = &stop },
		{ .a = b, .b = a, .stop = &stop },
		{ .a = a, .b = a, .stop = &stop },
	};
	double end = seconds() + 0.5;
	int i;

	for (i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&pair[i].thread, NULL, pair_loop, &pair[i]), 0);
	while (seconds() < end || !had_turns(pair, 3)) {
		assert_int_equal(dma_map_add(a, 0, PAGE, RW, -1, 0), 0);
		assert_int_equal(dma_map_add(b, 0, PAGE, RW, -1, 0), 0);
		dma_map_clear(a);
		dma_map_clear(b);
	}
	atomic_store(&stop, true);
	for (i = 0; i < 3; i++)
		pthread_join(pair[i].thread, NULL);
	dma_map_destroy(b);
}

struct unmapper {
	struct dma_map *map;
	atomic_bool done;
};

static void *unmap_thread(void *arg)
{
	struct unmapper *u = arg;

	dma_map_remove_range(u->map, 0, PAGE);
	atomic_store(&u->done, true);
	return NULL;
}

static void unmap_waits_for_reader(void **state)
{
	struct unmapper u = { .map = *state };
	int fd = make_file(1);
	pthread_t thread;
	uint8_t *mem;
	void *p;

	assert_int_equal(dma_map_add(u.map, 0, PAGE, RW, fd, 0), 0);
	dma_map_read_lock(u.map);
	assert_int_equal(dma_map_translate(u.map, NULL, 0, 1, RW, &p), 1);
	assert_int_equal(pthread_create(&thread, NULL, unmap_thread, &u), 0);
	usleep(100000);
	assert_false(atomic_load(&u.done));
	mem = p;
	mem[0] = 42;	/* still mapped */
	dma_map_read_unlock(u.map);
	pthread_join(thread, NULL);
	assert_true(atomic_load(&u.done));
	assert_int_equal(stats_of(u.map).files, 0);
	close(fd);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(add_and_translate),
		T(protection),
		T(unreachable),
		T(overlap),
		T(bad_arguments),
		T(sealed_file),
		T(one_mapping_per_file),
		T(file_grows),
		T(adjacent_maps),
		T(unmap_superset_and_nothing),
		T(unmap_cuts),
		T(ends_of_address_space),
		T(cursor),
		T(copy_helpers),
		T(random_model),
		T(quarter_million_maps),
		T(readers_against_writer),
		T(two_maps),
		T(unmap_waits_for_reader),
	};

	return cmocka_run_group_tests_name("dma_map", tests, NULL, NULL);
}
