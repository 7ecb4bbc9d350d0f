// SPDX-License-Identifier: GPL-2.0
/*
 * DMA-only scatter/gather lists of user memory that has no struct page
 *
 * From a user address to a list a device can use:
 *
 *  - the owner of each VMA in the range names the buffer behind it and the
 *    offset in that buffer (&vm_operations_struct.p2p_buf). Only the VMA is
 *    locked meanwhile, and nothing sleeps;
 *  - each buffer is attached, pinned and mapped for the device, with no lock of
 *    the mm held. There is one attachment for all the lists of one buffer and
 *    device, so that an IOMMU maps a buffer once;
 *  - the list of the caller is copied out of those of the buffers.
 *
 * The lists hold the buffers, not the VMAs: munmap() and the like do not matter
 * to a device once it has its list. What an exporter checks when it maps a buffer
 * it checks for the first list of a buffer and device, not for those that share
 * its attachment.
 */
#define pr_fmt(fmt) "dma-sg-user: " fmt

#include <linux/dma-buf.h>
#include <linux/dma-resv.h>
#include <linux/dma-sg-table.h>
#include <linux/export.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mmap_lock.h>
#include <linux/mmu_context.h>
#include <linux/overflow.h>
#include <linux/sched.h>
#include <linux/slab.h>

/**
 * struct dma_sg_attach - the attachment of a buffer to a device
 * @attach:	the attachment; its importer_priv points back here
 * @sgt:	mapping of the whole buffer; never modified
 * @users:	lists that use @sgt; the attachment is shared while it is not 0.
 *		Protected by the reservation lock of the buffer
 */
struct dma_sg_attach {
	struct dma_buf_attachment *attach;
	struct sg_table *sgt;
	unsigned int users;
};

/**
 * struct dma_sg_range - a piece of a buffer
 * @dmabuf:	the buffer, referenced
 * @offset:	first byte of the piece in @dmabuf
 * @len:	bytes
 * @shared:	attachment of @dmabuf, NULL until it is mapped
 */
struct dma_sg_range {
	struct dma_buf *dmabuf;
	u64 offset;
	size_t len;
	struct dma_sg_attach *shared;
};

/*
 * Lists are pinned for as long as their user wants them, there is no
 * invalidate_mappings(): exporters that insist on revoking refuse the
 * attachment.
 */
static const struct dma_buf_attach_ops dma_sg_importer_ops = {
	.allow_peer2peer = true,
};

static struct dma_sg_attach *dma_sg_find_attach(struct dma_buf *dmabuf,
						struct device *dev)
{
	struct dma_buf_attachment *attach;

	dma_resv_assert_held(dmabuf->resv);

	list_for_each_entry(attach, &dmabuf->attachments, node) {
		struct dma_sg_attach *shared = attach->importer_priv;

		if (attach->importer_ops == &dma_sg_importer_ops &&
		    attach->dev == dev && shared->users)
			return shared;
	}
	return NULL;
}

static int dma_sg_map_attach(struct dma_sg_attach *shared)
{
	struct dma_buf_attachment *attach = shared->attach;
	struct sg_table *sgt;
	long ret;

	ret = dma_buf_pin(attach);
	if (ret)
		return ret;

	sgt = dma_buf_map_attachment(attach, DMA_BIDIRECTIONAL);
	if (IS_ERR(sgt)) {
		ret = PTR_ERR(sgt);
		goto err_unpin;
	}

	/* The exporter may still be moving the content to where it is mapped. */
	ret = dma_resv_wait_timeout(attach->dmabuf->resv,
				    DMA_RESV_USAGE_KERNEL, true,
				    MAX_SCHEDULE_TIMEOUT);
	if (ret < 0)
		goto err_unmap;

	shared->sgt = sgt;
	return 0;

err_unmap:
	dma_buf_unmap_attachment(attach, sgt, DMA_BIDIRECTIONAL);
err_unpin:
	dma_buf_unpin(attach);
	return ret;
}

static struct dma_sg_attach *dma_sg_get_attach(struct dma_buf *dmabuf,
					       struct device *dev)
{
	struct dma_sg_attach *shared, *other;
	int ret;

	dma_resv_lock(dmabuf->resv, NULL);
	shared = dma_sg_find_attach(dmabuf, dev);
	if (shared)
		shared->users++;
	dma_resv_unlock(dmabuf->resv);
	if (shared)
		return shared;

	shared = kzalloc_obj(*shared);
	if (!shared)
		return ERR_PTR(-ENOMEM);

	shared->attach = dma_buf_dynamic_attach(dmabuf, dev,
						&dma_sg_importer_ops, shared);
	if (IS_ERR(shared->attach)) {
		ret = PTR_ERR(shared->attach);
		goto err_free;
	}

	dma_resv_lock(dmabuf->resv, NULL);
	other = dma_sg_find_attach(dmabuf, dev);
	if (other) {
		/* Somebody was faster. */
		other->users++;
		ret = 0;
	} else {
		ret = dma_sg_map_attach(shared);
		if (!ret)
			shared->users = 1;
	}
	dma_resv_unlock(dmabuf->resv);
	if (!other && !ret)
		return shared;

	dma_buf_detach(dmabuf, shared->attach);
err_free:
	kfree(shared);
	return ret ? ERR_PTR(ret) : other;
}

static void dma_sg_put_attach(struct dma_sg_attach *shared)
{
	struct dma_buf_attachment *attach = shared->attach;
	struct dma_buf *dmabuf = attach->dmabuf;
	bool last;

	dma_resv_lock(dmabuf->resv, NULL);
	last = !--shared->users;
	if (last) {
		dma_buf_unmap_attachment(attach, shared->sgt,
					 DMA_BIDIRECTIONAL);
		dma_buf_unpin(attach);
	}
	dma_resv_unlock(dmabuf->resv);
	if (!last)
		return;

	dma_buf_detach(dmabuf, attach);
	kfree(shared);
}

static void dma_sg_put_ranges(struct dma_sg_range *ranges, unsigned int nr)
{
	while (nr--) {
		if (ranges[nr].shared)
			dma_sg_put_attach(ranges[nr].shared);
		dma_buf_put(ranges[nr].dmabuf);
	}
	kvfree(ranges);
}

/*
 * The buffer behind @addr, and how far its VMA reaches. -EFAULT: memory of no
 * exporter. -EACCES: the mapping does not allow what is asked for; @vm_end is
 * valid then, too.
 */
static int dma_sg_ask_vma(struct vm_area_struct *vma, unsigned long addr,
			  bool write, struct dma_sg_range *range,
			  unsigned long *vm_end)
{
	/* Without these GUP would have been the one to answer. */
	if (!(vma->vm_flags & (VM_IO | VM_PFNMAP)))
		return -EFAULT;
	if (!vma->vm_ops || !vma->vm_ops->p2p_buf)
		return -EFAULT;

	*vm_end = vma->vm_end;
	if (!(vma->vm_flags & (write ? VM_WRITE : VM_READ)) ||
	    !arch_vma_access_permitted(vma, write, false, false))
		return -EACCES;
	return vma->vm_ops->p2p_buf(vma, addr, &range->dmabuf, &range->offset);
}

static int dma_sg_ask_addr(struct mm_struct *mm, unsigned long addr, bool write,
			   struct dma_sg_range *range, unsigned long *vm_end)
{
	struct vm_area_struct *vma;
	int ret;

	vma = lock_vma_under_rcu(mm, addr);
	if (vma) {
		ret = dma_sg_ask_vma(vma, addr, write, range, vm_end);
		vma_end_read(vma);
		return ret;
	}

	/* No VMA, or somebody is changing it. */
	ret = mmap_read_lock_killable(mm);
	if (ret)
		return ret;
	vma = vma_lookup(mm, addr);
	ret = vma ? dma_sg_ask_vma(vma, addr, write, range, vm_end) : -EFAULT;
	mmap_read_unlock(mm);
	return ret;
}

/*
 * Appends @next to @ranges, or extends the last of them. Takes over the
 * reference of @next on success.
 */
static int dma_sg_add_range(struct dma_sg_range **ranges, unsigned int *nr,
			    const struct dma_sg_range *next)
{
	struct dma_sg_range *last = *nr ? &(*ranges)[*nr - 1] : NULL;

	if (last && last->dmabuf == next->dmabuf &&
	    last->offset + last->len == next->offset) {
		last->len += next->len;
		dma_buf_put(next->dmabuf);
		return 0;
	}

	/* Grow by doubling: at 1, 2, 4, ... */
	if (!(*nr & (*nr - 1))) {
		size_t want = *nr ? 2 * (size_t)*nr : 1;

		last = kvrealloc(*ranges, array_size(want, sizeof(*last)),
				 GFP_KERNEL);
		if (!last)
			return -ENOMEM;
		*ranges = last;
	}
	(*ranges)[(*nr)++] = *next;
	return 0;
}

/*
 * Finds the buffers behind [@addr, @addr + @len) of current. Memory without an
 * exporter anywhere in the range beats any other answer, as then somebody else
 * is to decide about it.
 */
static int dma_sg_find_ranges(unsigned long addr, size_t len, bool write,
			      struct dma_sg_range **pranges, unsigned int *pnr)
{
	struct dma_sg_range *ranges = NULL;
	unsigned long end, vm_end;
	unsigned int nr = 0;
	int refused = 0;
	int ret;

	if (!len || check_add_overflow(addr, len, &end))
		return -EINVAL;

	for (; addr < end; addr = vm_end) {
		struct dma_sg_range next = {};

		ret = dma_sg_ask_addr(current->mm, addr, write, &next, &vm_end);
		if (ret == -EACCES || ret == -ENODEV) {
			refused = refused ?: ret;
			continue;
		}
		if (ret)
			goto err_put;

		vm_end = min(vm_end, end);
		next.len = vm_end - addr;
		if (next.len > next.dmabuf->size ||
		    next.offset > next.dmabuf->size - next.len) {
			pr_warn_ratelimited("exporter %s: offset out of range\n",
					    next.dmabuf->exp_name);
			ret = -EFAULT;
		} else {
			ret = dma_sg_add_range(&ranges, &nr, &next);
		}
		if (ret) {
			dma_buf_put(next.dmabuf);
			goto err_put;
		}
	}

	ret = refused;
	if (ret)
		goto err_put;

	*pranges = ranges;
	*pnr = nr;
	return 0;

err_put:
	dma_sg_put_ranges(ranges, nr);
	return ret;
}

/*
 * Copies the part of @range that each entry of its buffer's list holds, from
 * @sg on, or only counts the entries when @sg is NULL. Returns their number;
 * *@next is where the next range goes.
 */
static unsigned int dma_sg_slice(const struct dma_sg_range *range,
				 struct scatterlist *sg,
				 struct scatterlist **next)
{
	u64 skip = range->offset;
	size_t left = range->len;
	struct scatterlist *from;
	unsigned int nents = 0;
	int i;

	for_each_sgtable_dma_sg(range->shared->sgt, from, i) {
		size_t len = sg_dma_len(from);

		if (skip >= len) {
			skip -= len;
			continue;
		}
		len = min(len - skip, left);
		if (sg) {
			sg_dma_address(sg) = sg_dma_address(from) + skip;
			sg_dma_len(sg) = len;
			sg = sg_next(sg);
		}
		nents++;
		skip = 0;
		left -= len;
		if (!left)
			break;
	}
	if (next)
		*next = sg;
	return left ? 0 : nents;
}

/**
 * sgl_dma_map_user - make a DMA-only list of device memory at a user address
 * @dev:	the device that will use the memory
 * @addr:	first byte, in the mm of current; not tagged
 * @len:	bytes
 * @write:	whether @dev, or somebody through it, may write
 *
 * Every VMA in the range must belong to an exporter, see
 * &vm_operations_struct.p2p_buf; CPU page tables are not looked at. The mapping
 * is bidirectional, and pinned until sgl_dma_unmap(). It is not charged to
 * RLIMIT_MEMLOCK, as it is no memory of the system.
 *
 * Context: process context, may sleep. Takes the VMA lock, or the mmap_lock, and
 * the reservation locks of the buffers, one after the other, never two at once.
 *
 * Return: the list, or an ERR_PTR():
 *
 * * %-EFAULT:	there is a byte in the range that is not mapped, or no exporter's.
 *		This is found before anything else, and without side effects
 * * %-EACCES:	a mapping is private, or does not allow the access
 * * %-ENODEV:	the exporter has taken the memory back
 * * %-EREMOTEIO: there is no peer-to-peer route between the devices
 * * %-EOPNOTSUPP: the exporter wants importers that can be revoked
 * * %-EINVAL:	@len is 0, or the range wraps around
 * * %-ENOMEM, %-EINTR, and what else an exporter returns
 */
struct dma_sg_table *sgl_dma_map_user(struct device *dev, unsigned long addr,
				      size_t len, bool write)
{
	unsigned int i, nr_ranges, nents = 0;
	struct dma_sg_range *ranges;
	struct dma_sg_table *table;
	struct scatterlist *sg;
	int ret;

	might_sleep();

	ret = dma_sg_find_ranges(addr, len, write, &ranges, &nr_ranges);
	if (ret)
		return ERR_PTR(ret);

	table = kzalloc_obj(*table);
	if (!table) {
		ret = -ENOMEM;
		goto err_put;
	}
	table->dev = dev;
	table->ranges = ranges;
	table->nr_ranges = nr_ranges;

	for (i = 0; i < nr_ranges; i++) {
		struct dma_sg_range *range = &ranges[i];
		struct dma_sg_attach *shared;
		unsigned int n;

		shared = dma_sg_get_attach(range->dmabuf, dev);
		if (IS_ERR(shared)) {
			ret = PTR_ERR(shared);
			goto err_free;
		}
		range->shared = shared;

		n = dma_sg_slice(range, NULL, NULL);
		if (WARN_ON_ONCE(!n) || check_add_overflow(nents, n, &nents)) {
			ret = -EINVAL;
			goto err_free;
		}
	}

	ret = sg_alloc_table(&table->sgt, nents, GFP_KERNEL);
	if (ret)
		goto err_free;
	sg = table->sgt.sgl;
	for (i = 0; i < nr_ranges; i++)
		dma_sg_slice(&ranges[i], sg, &sg);
	/* Nothing for the CPU in here. */
	table->sgt.orig_nents = 0;
	return table;

err_free:
	kfree(table);
err_put:
	dma_sg_put_ranges(ranges, nr_ranges);
	return ERR_PTR(ret);
}
EXPORT_SYMBOL_NS_GPL(sgl_dma_map_user, "DMA_BUF");

/**
 * sgl_dma_unmap - give a list back
 * @table:	from sgl_dma_map_user(); the device must not use it any more
 *
 * Context: process context, may sleep. Takes reservation locks of the buffers.
 */
void sgl_dma_unmap(struct dma_sg_table *table)
{
	/* sg_free_table() frees what was allocated. */
	table->sgt.orig_nents = table->sgt.nents;
	sg_free_table(&table->sgt);
	dma_sg_put_ranges(table->ranges, table->nr_ranges);
	kfree(table);
}
EXPORT_SYMBOL_NS_GPL(sgl_dma_unmap, "DMA_BUF");

/**
 * sgl_dma_check_user - ask whether a user range is device memory
 * @addr:	first byte, in the mm of current; not tagged
 * @len:	bytes
 * @write:	whether it would be written
 *
 * Context: process context, may sleep.
 *
 * Return: 0, or the error with which sgl_dma_map_user() would end before it
 * looks at any device; %-EFAULT means that the range is not, or not in whole,
 * memory of an exporter.
 */
int sgl_dma_check_user(unsigned long addr, size_t len, bool write)
{
	struct dma_sg_range *ranges;
	unsigned int nr;
	int ret;

	might_sleep();

	ret = dma_sg_find_ranges(addr, len, write, &ranges, &nr);
	if (ret)
		return ret;
	dma_sg_put_ranges(ranges, nr);
	return 0;
}
EXPORT_SYMBOL_NS_GPL(sgl_dma_check_user, "DMA_BUF");
