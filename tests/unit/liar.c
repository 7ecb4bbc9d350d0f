// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * simhcad_liar: simhcad, linked with --wrap so that what its devices tell passes through here. A
 * register that real ones do not have says which kinds of it become nonsense, now and then: one
 * field takes a value that is likely to hurt. For tests of drivers.
 */
#include <stdint.h>
#include <string.h>

#include "simhca.h"

#define LIAR_REG	0xff0	/* 32 bits, of the page of registers */
#define LIE_CQE		(1u << 0)
#define LIE_EQE		(1u << 1)
#define LIE_RSP		(1u << 2)
#define LIE_OUT		(1u << 3)	/* outputs of commands */
#define LIE_REG		(1u << 4)

static _Atomic uint32_t lies;
static struct vfu_region_ops honest;

/* One of so many chances; any sequence will do, the same in each run. */
static uint32_t rnd(uint32_t below)
{
	static _Atomic uint32_t state = 12345;
	uint32_t x = atomic_fetch_add(&state, 0x9e3779b9);

	x = (x ^ x >> 16) * 0x85ebca6b;
	x = (x ^ x >> 13) * 0xc2b2ae35;
	return (x ^ x >> 16) % below;
}

/* Changes a field of @buf in one of eight times. */
static void lie(uint32_t kind, uint8_t *buf, size_t len)
{
	static const uint32_t nonsense[] = {
		0, 1, 2, 3, 7, 8, 31, 64, 255, 256, 4096, 0xffff, 1u << 20, 0x7fffffff, 0x80000000,
		0xfffffffe, UINT32_MAX,
	};
	uint32_t value = nonsense[rnd(sizeof(nonsense) / sizeof(nonsense[0]))];
	size_t width = rnd(2) ? 1 : 4;

	if (!(atomic_load(&lies) & kind) || len < 4 || rnd(8))
		return;
	memcpy(buf + rnd(len / width) * width, &value, width);
}

int __real_ring_write_entry(struct simhca_dev *dev, struct simhca_ring *ring, uint64_t off,
			    const void *buf, size_t len);
int __wrap_ring_write_entry(struct simhca_dev *dev, struct simhca_ring *ring, uint64_t off,
			    const void *buf, size_t len);

int __wrap_ring_write_entry(struct simhca_dev *dev, struct simhca_ring *ring, uint64_t off,
			    const void *buf, size_t len)
{
	uint8_t entry[sizeof(struct simhca_cqe)];

	memcpy(entry, buf, len);
	if (ring == &dev->rspq)
		lie(LIE_RSP, entry, len);
	else
		lie(len == sizeof(struct simhca_cqe) ? LIE_CQE : LIE_EQE, entry, len);
	return __real_ring_write_entry(dev, ring, off, entry, len);
}

int __real_dma_map_write(struct dma_map *map, struct dma_map_cursor *cur, uint64_t iova,
			 const void *buf, size_t len);
int __wrap_dma_map_write(struct dma_map *map, struct dma_map_cursor *cur, uint64_t iova,
			 const void *buf, size_t len);

int __wrap_dma_map_write(struct dma_map *map, struct dma_map_cursor *cur, uint64_t iova,
			 const void *buf, size_t len)
{
	uint8_t out[512];

	if (len > sizeof(out))
		return __real_dma_map_write(map, cur, iova, buf, len);
	memcpy(out, buf, len);
	lie(LIE_OUT, out, len);
	return __real_dma_map_write(map, cur, iova, out, len);
}

static int liar_read(void *ctx, uint64_t offset, void *buf, size_t len)
{
	int ret = honest.read(ctx, offset, buf, len);

	lie(LIE_REG, buf, len);
	return ret;
}

static int liar_write(void *ctx, uint64_t offset, const void *buf, size_t len)
{
	uint32_t value;

	if (offset != LIAR_REG || len != sizeof(value))
		return honest.write(ctx, offset, buf, len);
	memcpy(&value, buf, len);
	atomic_store(&lies, value);
	return 0;
}

int __real_vfu_region_set(struct vfu_server *srv, enum vfu_region index, uint64_t size,
			  unsigned int flags, const struct vfu_region_ops *ops, void *ctx);
int __wrap_vfu_region_set(struct vfu_server *srv, enum vfu_region index, uint64_t size,
			  unsigned int flags, const struct vfu_region_ops *ops, void *ctx);

int __wrap_vfu_region_set(struct vfu_server *srv, enum vfu_region index, uint64_t size,
			  unsigned int flags, const struct vfu_region_ops *ops, void *ctx)
{
	static const struct vfu_region_ops liar = { .read = liar_read, .write = liar_write };

	if (!ops)
		return __real_vfu_region_set(srv, index, size, flags, ops, ctx);
	honest = *ops;
	return __real_vfu_region_set(srv, index, size, flags, &liar, ctx);
}
