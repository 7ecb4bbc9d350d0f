// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * simhca: memory described to the device, as runs of DMA addresses.
 *
 * Only the DMA side of a umem is used, so ordinary memory, a dma-buf and device memory are all
 * the same here.
 */

#include <linux/dma-mapping.h>

#include "simhca.h"

/**
 * struct simhca_seg_iter - walks the longest runs of DMA addresses of a table
 * @sg: next entry
 * @nents: entries left
 * @skip: bytes of @sg that lie before the buffer
 * @left: bytes of the buffer that are left
 * @addr: the run
 * @len: its bytes
 */
struct simhca_seg_iter {
	struct scatterlist *sg;
	unsigned int nents;
	u64 skip;
	u64 left;
	dma_addr_t addr;
	u64 len;
};

static void simhca_seg_start(struct simhca_seg_iter *iter, const struct sg_table *sgt, u64 offset,
			     u64 length)
{
	*iter = (struct simhca_seg_iter) {
		.sg = sgt->sgl,
		.nents = sgt->nents,
		.skip = offset,
		.left = length,
	};
}

static bool simhca_seg_next(struct simhca_seg_iter *iter)
{
	iter->len = 0;
	while (iter->left && iter->nents) {
		dma_addr_t addr = sg_dma_address(iter->sg) + iter->skip;
		u64 len = min_t(u64, sg_dma_len(iter->sg) - iter->skip, iter->left);

		if (iter->len && iter->addr + iter->len != addr)
			break;
		if (!iter->len)
			iter->addr = addr;
		iter->len += len;
		iter->left -= len;
		iter->skip = 0;
		iter->sg = sg_next(iter->sg);
		iter->nents--;
	}
	return iter->len;
}

static void simhca_chunks_unmap(struct simhca_dev *dev, struct simhca_sgl *sgl,
				struct simhca_sgl_chunks *chunks, u32 num)
{
	dma_addr_t dma = le64_to_cpu(sgl->addr);
	u32 i;

	for (i = 0; i < num; i++) {
		dma_unmap_single(&dev->pdev->dev, dma, sizeof(**chunks->pages), DMA_TO_DEVICE);
		dma = le64_to_cpu(chunks->pages[i]->next);
	}
}

/* From the last one to the first: a chunk must know where the next one is before it is mapped */
static int simhca_chunks_map(struct simhca_dev *dev, struct simhca_sgl *sgl,
			     struct simhca_sgl_chunks *chunks)
{
	dma_addr_t dma = 0;
	u32 i;

	for (i = chunks->num; i--;) {
		chunks->pages[i]->next = cpu_to_le64(dma);
		dma = dma_map_single(&dev->pdev->dev, chunks->pages[i], sizeof(**chunks->pages),
				     DMA_TO_DEVICE);
		if (dma_mapping_error(&dev->pdev->dev, dma))
			goto err_unmap;
	}
	sgl->addr = cpu_to_le64(dma);
	return 0;

err_unmap:
	for (i++; i < chunks->num; i++)
		dma_unmap_single(&dev->pdev->dev, le64_to_cpu(chunks->pages[i - 1]->next),
				 sizeof(**chunks->pages), DMA_TO_DEVICE);
	return -ENOMEM;
}

static void simhca_chunks_free(struct simhca_sgl_chunks *chunks)
{
	u32 i;

	for (i = 0; i < chunks->num; i++)
		free_page((unsigned long)chunks->pages[i]);
	kvfree(chunks->pages);
	chunks->pages = NULL;
	chunks->num = 0;
}

static int simhca_chunks_alloc(struct simhca_sgl_chunks *chunks, u32 num)
{
	chunks->pages = kvcalloc(num, sizeof(*chunks->pages), GFP_KERNEL_ACCOUNT);
	if (!chunks->pages)
		return -ENOMEM;

	for (chunks->num = 0; chunks->num < num; chunks->num++) {
		void *page = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);

		if (!page) {
			simhca_chunks_free(chunks);
			return -ENOMEM;
		}
		chunks->pages[chunks->num] = page;
	}
	return 0;
}

/**
 * simhca_sgl_build_table - describe a buffer by the DMA side of a scatter/gather table
 * @dev: the device
 * @sgt: the table
 * @offset: bytes of its first entry that lie before the buffer
 * @length: bytes of the buffer
 * @sgl: filled in, for a command
 * @chunks: memory @sgl needs while the command is executed
 *
 * Return: 0 or an errno. Undone by simhca_sgl_free() after the command.
 */
int simhca_sgl_build_table(struct simhca_dev *dev, const struct sg_table *sgt, u64 offset,
			   u64 length, struct simhca_sgl *sgl, struct simhca_sgl_chunks *chunks)
{
	struct simhca_seg_iter iter;
	u64 nsegs = 0;
	int err;
	u32 i;

	*chunks = (struct simhca_sgl_chunks) {};

	simhca_seg_start(&iter, sgt, offset, length);
	while (simhca_seg_next(&iter))
		nsegs++;
	if (WARN_ON_ONCE(iter.left) || nsegs > SIMHCA_MAX_SEGS)
		return -EINVAL;

	*sgl = (struct simhca_sgl) {
		.length = cpu_to_le64(length),
		.nsegs = cpu_to_le32(nsegs),
	};

	simhca_seg_start(&iter, sgt, offset, length);
	if (nsegs == 1) {
		simhca_seg_next(&iter);
		sgl->addr = cpu_to_le64(iter.addr);
		return 0;
	}

	err = simhca_chunks_alloc(chunks, DIV_ROUND_UP((u32)nsegs, SIMHCA_SEGS_PER_CHUNK));
	if (err)
		return err;

	for (i = 0; simhca_seg_next(&iter); i++) {
		struct simhca_seg_chunk *chunk = chunks->pages[i / SIMHCA_SEGS_PER_CHUNK];
		u32 pos = i % SIMHCA_SEGS_PER_CHUNK;

		chunk->segs[pos].addr = cpu_to_le64(iter.addr);
		chunk->segs[pos].len = cpu_to_le64(iter.len);
		chunk->nsegs = cpu_to_le32(pos + 1);
	}

	err = simhca_chunks_map(dev, sgl, chunks);
	if (err)
		simhca_chunks_free(chunks);
	return err;
}

/**
 * simhca_sgl_build - describe a buffer
 * @dev: the device
 * @umem: the memory
 * @length: bytes of it, from the start
 * @sgl: filled in, for a command
 * @chunks: memory @sgl needs while the command is executed
 *
 * Return: 0 or an errno. Undone by simhca_sgl_free() after the command.
 */
int simhca_sgl_build(struct simhca_dev *dev, struct ib_umem *umem, u64 length,
		     struct simhca_sgl *sgl, struct simhca_sgl_chunks *chunks)
{
	/* The list starts on the page the umem starts in, for dma-bufs too */
	return simhca_sgl_build_table(dev, &umem->sgt_append.sgt, ib_umem_offset(umem), length,
				      sgl, chunks);
}

/**
 * simhca_sgl_free - free what simhca_sgl_build() allocated
 * @dev: the device
 * @sgl: filled in by simhca_sgl_build() or simhca_sgl_build_table()
 * @chunks: as well
 */
void simhca_sgl_free(struct simhca_dev *dev, struct simhca_sgl *sgl,
		     struct simhca_sgl_chunks *chunks)
{
	simhca_chunks_unmap(dev, sgl, chunks, chunks->num);
	simhca_chunks_free(chunks);
}
