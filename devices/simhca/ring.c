// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* Buffers of the guest: how they are described, and access to their entries. */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "simhca.h"

/* Reads @nsegs segments from a chain of chunks. Its length is bounded by @nsegs, cycle or not. */
static int ring_load_chunks(struct simhca_dev *dev, uint64_t addr, uint32_t nsegs,
			    struct sgtab *sg)
{
	struct simhca_seg_chunk *chunk = &dev->chunk;
	struct dma_map_cursor cur = { 0 };
	uint32_t i, n;
	int ret;

	while (nsegs) {
		if (!addr || addr % SIMHCA_PAGE_SIZE)
			return -EINVAL;
		ret = dma_map_read(dev->hca.map, &cur, addr, chunk, sizeof(*chunk));
		if (ret) {
			dev->hca.stats.translate_faults++;
			return ret;
		}
		n = le32toh(chunk->nsegs);
		if (!n || n > SIMHCA_SEGS_PER_CHUNK || n > nsegs)
			return -EINVAL;
		for (i = 0; i < n; i++) {
			ret = sgtab_add(sg, le64toh(chunk->segs[i].addr),
					le64toh(chunk->segs[i].len));
			if (ret)
				return ret;
		}
		nsegs -= n;
		addr = le64toh(chunk->next);
	}
	return addr ? -EINVAL : 0;
}

int ring_load_sgl(struct simhca_dev *dev, const struct simhca_sgl *sgl, uint64_t length,
		  struct sgtab *sg, uint64_t *mem)
{
	uint32_t nsegs = le32toh(sgl->nsegs);
	uint64_t addr = le64toh(sgl->addr);
	uint64_t last, used;
	int ret;

	*mem = 0;
	if (!nsegs || nsegs > SIMHCA_MAX_SEGS || !length || le64toh(sgl->length) != length)
		return -EINVAL;
	if (nsegs == 1) {
		if (__builtin_add_overflow(addr, length - 1, &last))
			return -EINVAL;
		sgtab_init_one(sg, addr, length);
		return 0;
	}

	*mem = sgtab_mem(nsegs);
	if (engine_charge(&dev->hca, *mem))
		return -ENOMEM;
	ret = sgtab_init(sg, nsegs);
	if (ret)
		goto err_uncharge;
	ret = ring_load_chunks(dev, addr, nsegs, sg);
	if (!ret && sg->length != length)
		ret = -EINVAL;
	if (ret)
		goto err_destroy;
	sgtab_trim(sg);
	used = sgtab_mem(sg->cap);
	engine_uncharge(&dev->hca, *mem - used);
	*mem = used;
	return 0;

err_destroy:
	sgtab_destroy(sg);
err_uncharge:
	engine_uncharge(&dev->hca, *mem);
	*mem = 0;
	return ret;
}

int ring_create(struct simhca_dev *dev, struct simhca_ring *ring, const struct simhca_sgl *sgl,
		uint64_t length)
{
	ring->hint = (struct sgtab_hint) { 0 };
	return ring_load_sgl(dev, sgl, length, &ring->sg, &ring->mem);
}

void ring_destroy(struct simhca_dev *dev, struct simhca_ring *ring)
{
	sgtab_destroy(&ring->sg);
	engine_uncharge(&dev->hca, ring->mem);
	ring->mem = 0;
}

int ring_add_segs(struct simhca_dev *dev, uint64_t addr, uint32_t num_segs, struct sgtab *sg)
{
	struct simhca_ring ring = { 0 };
	struct simhca_seg seg;
	uint64_t last;
	uint32_t i;
	int ret;

	if (__builtin_add_overflow(addr, (uint64_t)num_segs * sizeof(seg), &last))
		return -EFAULT;
	sgtab_init_one(&ring.sg, addr, (uint64_t)num_segs * sizeof(seg));
	for (i = 0; i < num_segs; i++) {
		ret = ring_read(dev, &ring, (uint64_t)i * sizeof(seg), &seg, sizeof(seg));
		if (!ret)
			ret = sgtab_add(sg, le64toh(seg.addr), le64toh(seg.len));
		if (ret)
			return ret;
	}
	return 0;
}

int ring_read(struct simhca_dev *dev, struct simhca_ring *ring, uint64_t off, void *buf,
	      size_t len)
{
	uint8_t *to = buf;
	void *from;
	size_t n;

	for (; len; to += n, off += n, len -= n) {
		n = sgtab_ptr(&ring->sg, &ring->hint, dev->hca.map, off, len, DMA_MAP_READ, &from);
		if (!n)
			return -EFAULT;
		memcpy(to, from, n);
	}
	return 0;
}

int ring_write(struct simhca_dev *dev, struct simhca_ring *ring, uint64_t off, const void *buf,
	       size_t len)
{
	const uint8_t *from = buf;
	void *to;
	size_t n;

	for (; len; from += n, off += n, len -= n) {
		n = sgtab_ptr(&ring->sg, &ring->hint, dev->hca.map, off, len, DMA_MAP_WRITE, &to);
		if (!n)
			return -EFAULT;
		memcpy(to, from, n);
	}
	return 0;
}

int ring_write_entry(struct simhca_dev *dev, struct simhca_ring *ring, uint64_t off,
		     const void *buf, size_t len)
{
	const uint8_t *from = buf;
	void *to;
	size_t n;

	for (;; from += n, off += n, len -= n) {
		n = sgtab_ptr(&ring->sg, &ring->hint, dev->hca.map, off, len, DMA_MAP_WRITE, &to);
		if (!n)
			return -EFAULT;
		if (n == len)
			break;
		memcpy(to, from, n);
	}
	memcpy(to, from, n - 1);
	__atomic_store_n((uint8_t *)to + n - 1, from[n - 1], __ATOMIC_RELEASE);
	return 0;
}
