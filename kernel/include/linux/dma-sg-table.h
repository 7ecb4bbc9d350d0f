/* SPDX-License-Identifier: GPL-2.0 */
/*
 * DMA-only scatter/gather lists of user memory that has no struct page
 */
#ifndef _LINUX_DMA_SG_TABLE_H
#define _LINUX_DMA_SG_TABLE_H

#include <linux/err.h>
#include <linux/scatterlist.h>
#include <linux/types.h>

struct device;
struct dma_sg_range;

/**
 * struct dma_sg_ops - what the user of a list does when it is taken away
 * @revoke:	stop all access through the list; when this returns 0 the device does
 *		not touch the memory any more. The list stays allocated, but its
 *		addresses may come to mean something else. When it returns an error,
 *		the device could not be stopped: the addresses stay its own until
 *		sgl_dma_unmap(), and the exporter may let the IOMMU stop it. May be
 *		called several times for one list, once for each buffer, from the
 *		moment sgl_dma_map_user() is called until sgl_dma_unmap() returns.
 *		Called under the reservation lock of a buffer: it may sleep for
 *		bounded time and allocate memory, but takes no other reservation lock,
 *		and no lock of an mm.
 */
struct dma_sg_ops {
	int (*revoke)(void *priv);
};

/**
 * struct dma_sg_table - a DMA mapped list without struct page
 * @sgt:	the list. Only sg_dma_address() and sg_dma_len() of its @sgt.nents
 *		entries are valid: there are no page pointers, @sgt.orig_nents is 0,
 *		and nothing but a device can reach the memory. Entries are as long as
 *		the memory is contiguous for the device; the first starts at the
 *		first byte asked for, the last ends with the last one.
 * @dev:	the device the list is mapped for
 * @ops:	of a list that can be taken away, or NULL
 * @priv:	argument of @ops
 * @nr_ranges:	number of @ranges
 * @ranges:	the pieces of exported buffers the list is made of, private
 *
 * The list belongs to its caller and may be walked without locks until
 * sgl_dma_unmap().
 */
struct dma_sg_table {
	struct sg_table sgt;
	struct device *dev;
	const struct dma_sg_ops *ops;
	void *priv;
	unsigned int nr_ranges;
	struct dma_sg_range *ranges;
};

/**
 * enum dma_sg_kind - kinds of user memory
 * @DMA_SG_ORDINARY: memory that GUP pins
 * @DMA_SG_EXPORTED: memory of exporters, also of those that refuse the access or
 *	have taken it back
 * @DMA_SG_FOREIGN: other memory without struct page; nobody can use it
 */
enum dma_sg_kind {
	DMA_SG_ORDINARY,
	DMA_SG_EXPORTED,
	DMA_SG_FOREIGN,
};

#ifdef CONFIG_DMA_SG_USER
struct dma_sg_table *sgl_dma_map_user(struct device *dev, unsigned long addr,
				      size_t len, bool write,
				      const struct dma_sg_ops *ops, void *priv);
void sgl_dma_unmap(struct dma_sg_table *table);
int sgl_dma_next_run(unsigned long addr, unsigned long end, bool write,
		     unsigned long *run_end);
struct device *sgl_dma_get_owner(unsigned long addr, bool write);
struct device *sgl_dma_owner(const struct dma_sg_table *table);
bool sgl_dma_revoked(const struct dma_sg_table *table);
#else
static inline struct dma_sg_table *
sgl_dma_map_user(struct device *dev, unsigned long addr, size_t len, bool write,
		 const struct dma_sg_ops *ops, void *priv)
{
	return ERR_PTR(-EFAULT);
}

static inline void sgl_dma_unmap(struct dma_sg_table *table) { }

static inline int sgl_dma_next_run(unsigned long addr, unsigned long end,
				   bool write, unsigned long *run_end)
{
	*run_end = end;
	return DMA_SG_ORDINARY;
}

static inline struct device *sgl_dma_get_owner(unsigned long addr, bool write)
{
	return NULL;
}

static inline struct device *sgl_dma_owner(const struct dma_sg_table *table)
{
	return NULL;
}

static inline bool sgl_dma_revoked(const struct dma_sg_table *table)
{
	return false;
}
#endif

#endif /* _LINUX_DMA_SG_TABLE_H */
