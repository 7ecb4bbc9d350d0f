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
 * to a device once it has its list. When the exporter wants a buffer back, the
 * users of lists that can be revoked stop their devices, and the buffer is
 * unmapped at once; the others, and those that could not stop, keep what they have
 * until they give it back.
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
 * @sgt:	mapping of the whole buffer, never modified; NULL before it is mapped
 *		and after it was unmapped
 * @revoked:	the exporter has taken the buffer back; @sgt is there still if a
 *		device could not be stopped. Other lists join while it is mapped and
 *		not revoked
 * @users:	the ranges of lists that lie in the buffer, each with a pin of its own
 *		while @sgt is not NULL
 *
 * Protected by the reservation lock of the buffer.
 */
struct dma_sg_attach {
	struct dma_buf_attachment *attach;
	struct sg_table *sgt;
	bool revoked;
	struct list_head users;
};

/**
 * struct dma_sg_range - a piece of a buffer
 * @dmabuf:	the buffer, referenced
 * @offset:	first byte of the piece in @dmabuf
 * @len:	bytes
 * @kind:	which memory it is when there is no buffer
 * @shared:	attachment of @dmabuf, NULL until it is mapped
 * @user:	in @shared->users
 * @table:	the list it is a part of
 */
struct dma_sg_range {
	struct dma_buf *dmabuf;
	u64 offset;
	size_t len;
	enum dma_sg_kind kind;
	struct dma_sg_attach *shared;
	struct list_head user;
	struct dma_sg_table *table;
};

/**
 * struct dma_sg_list - a list, with room for what most of them have
 * @table:	what the caller knows of it
 * @range:	the only range
 * @entry:	the only entry
 */
struct dma_sg_list {
	struct dma_sg_table table;
	struct dma_sg_range range;
	struct scatterlist entry;
};

static struct dma_sg_list *to_dma_sg_list(struct dma_sg_table *table)
{
	return container_of(table, struct dma_sg_list, table);
}

/*
 * The exporter wants the buffer back. The devices are stopped one after the
 * other; then nobody uses the mapping any more.
 *
 * A device that could not be stopped keeps its addresses, or its accesses would
 * go to whoever gets them next. What it does with the memory is then for the
 * exporter to prevent, as with importers that are not told: dma_buf_unlink_sgt().
 */
static void dma_sg_invalidate(struct dma_buf_attachment *attach)
{
	struct dma_sg_attach *shared = attach->importer_priv;
	struct dma_sg_range *range;
	bool stopped = true;

	dma_resv_assert_held(attach->dmabuf->resv);

	/* Not mapped yet, or revoked before. */
	if (!shared->sgt || shared->revoked)
		return;

	/* For sgl_dma_revoked() */
	WRITE_ONCE(shared->revoked, true);
	list_for_each_entry(range, &shared->users, user)
		if (range->table->ops->revoke(range->table->priv))
			stopped = false;
	if (!stopped)
		return;

	dma_buf_unmap_attachment(attach, shared->sgt, DMA_BIDIRECTIONAL);
	shared->sgt = NULL;
	list_for_each_entry(range, &shared->users, user)
		dma_buf_unpin(attach);
}

/* The device stays where it is until its user is done: exporters may refuse. */
static const struct dma_buf_attach_ops dma_sg_importer_ops = {
	.allow_peer2peer = true,
};

static const struct dma_buf_attach_ops dma_sg_revocable_importer_ops = {
	.allow_peer2peer = true,
	.invalidate_mappings = dma_sg_invalidate,
};

static struct dma_sg_attach *
dma_sg_find_attach(struct dma_buf *dmabuf, struct device *dev,
		   const struct dma_buf_attach_ops *ops)
{
	struct dma_buf_attachment *attach;

	dma_resv_assert_held(dmabuf->resv);

	list_for_each_entry(attach, &dmabuf->attachments, node) {
		struct dma_sg_attach *shared = attach->importer_priv;

		if (attach->importer_ops == ops && attach->dev == dev &&
		    shared->sgt && !shared->revoked)
			return shared;
	}
	return NULL;
}

static int dma_sg_map_attach(struct dma_sg_attach *shared)
{
	struct dma_buf_attachment *attach = shared->attach;
	struct sg_table *sgt;
	long ret;

	sgt = dma_buf_map_attachment(attach, DMA_BIDIRECTIONAL);
	if (IS_ERR(sgt))
		return PTR_ERR(sgt);

	/* The exporter may still be moving the content to where it is mapped. */
	ret = dma_resv_wait_timeout(attach->dmabuf->resv,
				    DMA_RESV_USAGE_KERNEL, true,
				    MAX_SCHEDULE_TIMEOUT);
	if (ret < 0) {
		dma_buf_unmap_attachment(attach, sgt, DMA_BIDIRECTIONAL);
		return ret;
	}

	shared->sgt = sgt;
	return 0;
}

/*
 * Makes @range a user of @shared. The pin asks the exporter for each of them
 * whether the buffer may be used.
 */
static int dma_sg_join_attach(struct dma_sg_attach *shared,
			      struct dma_sg_range *range)
{
	int ret;

	ret = dma_buf_pin(shared->attach);
	if (ret)
		return ret;

	if (!shared->sgt) {
		ret = dma_sg_map_attach(shared);
		if (ret) {
			dma_buf_unpin(shared->attach);
			return ret;
		}
	}

	list_add_tail(&range->user, &shared->users);
	range->shared = shared;
	return 0;
}

/* Maps the buffer of @range for @dev, or joins a list that did so before. */
static int dma_sg_get_attach(struct dma_sg_range *range, struct device *dev,
			     const struct dma_buf_attach_ops *ops)
{
	struct dma_buf *dmabuf = range->dmabuf;
	struct dma_sg_attach *shared, *own;
	int ret;

	dma_resv_lock(dmabuf->resv, NULL);
	shared = dma_sg_find_attach(dmabuf, dev, ops);
	if (shared)
		ret = dma_sg_join_attach(shared, range);
	dma_resv_unlock(dmabuf->resv);
	if (shared)
		return ret;

	own = kzalloc_obj(*own, GFP_KERNEL_ACCOUNT);
	if (!own)
		return -ENOMEM;
	INIT_LIST_HEAD(&own->users);

	own->attach = dma_buf_dynamic_attach(dmabuf, dev, ops, own);
	if (IS_ERR(own->attach)) {
		ret = PTR_ERR(own->attach);
		goto err_free;
	}

	dma_resv_lock(dmabuf->resv, NULL);
	/* Somebody may have been faster. */
	shared = dma_sg_find_attach(dmabuf, dev, ops) ?: own;
	ret = dma_sg_join_attach(shared, range);
	dma_resv_unlock(dmabuf->resv);
	if (!ret && shared == own)
		return 0;

	dma_buf_detach(dmabuf, own->attach);
err_free:
	kfree(own);
	return ret;
}

static void dma_sg_put_attach(struct dma_sg_range *range)
{
	struct dma_sg_attach *shared = range->shared;
	struct dma_buf_attachment *attach = shared->attach;
	struct dma_buf *dmabuf = range->dmabuf;
	bool last;

	dma_resv_lock(dmabuf->resv, NULL);
	list_del(&range->user);
	last = list_empty(&shared->users);
	if (shared->sgt) {
		if (last) {
			dma_buf_unmap_attachment(attach, shared->sgt,
						 DMA_BIDIRECTIONAL);
			shared->sgt = NULL;
		}
		dma_buf_unpin(attach);
	}
	dma_resv_unlock(dmabuf->resv);
	if (!last)
		return;

	dma_buf_detach(dmabuf, attach);
	kfree(shared);
}

static void dma_sg_put_ranges(struct dma_sg_table *table)
{
	struct dma_sg_range *ranges = table->ranges;
	unsigned int nr = table->nr_ranges;

	while (nr--) {
		if (ranges[nr].shared)
			dma_sg_put_attach(&ranges[nr]);
		dma_buf_put(ranges[nr].dmabuf);
	}
	if (ranges != &to_dma_sg_list(table)->range)
		kvfree(ranges);
}

/*
 * The buffer behind @addr. -EFAULT: memory of no exporter, with @range->kind
 * telling which. -EACCES: the mapping does not allow what is asked for. *@vm_end
 * is set in any case.
 */
static int dma_sg_ask_vma(struct vm_area_struct *vma, unsigned long addr,
			  bool write, struct dma_sg_range *range,
			  unsigned long *vm_end)
{
	*vm_end = vma->vm_end;
	/* Without these GUP would have been the one to answer. */
	range->kind = vma->vm_flags & (VM_IO | VM_PFNMAP) ? DMA_SG_FOREIGN :
							    DMA_SG_ORDINARY;
	if (range->kind == DMA_SG_ORDINARY)
		return -EFAULT;
	if (!vma->vm_ops || !vma->vm_ops->p2p_buf)
		return -EFAULT;

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

/* Makes room for one more range. */
static int dma_sg_grow_ranges(struct dma_sg_table *table)
{
	unsigned int nr = table->nr_ranges;
	struct dma_sg_range *own = &to_dma_sg_list(table)->range;
	struct dma_sg_range *ranges;

	if (!nr) {
		table->ranges = own;
		return 0;
	}

	/* Grow by doubling: at 1, 2, 4, ... */
	if (nr & (nr - 1))
		return 0;
	ranges = kvrealloc(nr == 1 ? NULL : table->ranges,
			   array_size(2 * (size_t)nr, sizeof(*ranges)),
			   GFP_KERNEL_ACCOUNT);
	if (!ranges)
		return -ENOMEM;
	if (nr == 1)
		*ranges = *own;
	table->ranges = ranges;
	return 0;
}

/*
 * Appends @next to the ranges, or extends the last of them. Takes over the
 * reference of @next on success.
 */
static int dma_sg_add_range(struct dma_sg_table *table,
			    const struct dma_sg_range *next)
{
	unsigned int nr = table->nr_ranges;
	int ret;

	if (nr) {
		struct dma_sg_range *last = &table->ranges[nr - 1];

		if (last->dmabuf == next->dmabuf &&
		    last->offset + last->len == next->offset) {
			last->len += next->len;
			dma_buf_put(next->dmabuf);
			return 0;
		}
	}

	ret = dma_sg_grow_ranges(table);
	if (ret)
		return ret;
	table->ranges[table->nr_ranges++] = *next;
	return 0;
}

/*
 * Finds the buffers behind [@addr, @addr + @len) of current. Memory without an
 * exporter anywhere in the range beats any other answer, as then somebody else
 * is to decide about it.
 */
static int dma_sg_find_ranges(struct dma_sg_table *table, unsigned long addr,
			      size_t len, bool write)
{
	unsigned long end, vm_end;
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
			return ret;

		vm_end = min(vm_end, end);
		next.len = vm_end - addr;
		if (next.len > next.dmabuf->size ||
		    next.offset > next.dmabuf->size - next.len) {
			pr_warn_ratelimited("exporter %s: offset out of range\n",
					    next.dmabuf->exp_name);
			ret = -EFAULT;
		} else {
			ret = dma_sg_add_range(table, &next);
		}
		if (ret) {
			dma_buf_put(next.dmabuf);
			return ret;
		}
	}
	return refused;
}

/*
 * Copies the part of @range that each entry of its buffer's list holds to *@sg,
 * and moves *@sg on; only counts the entries once that is NULL. Returns their
 * number, or -ENODEV when the buffer was revoked in the meantime.
 */
static int dma_sg_slice(const struct dma_sg_range *range,
			struct scatterlist **sg)
{
	struct sg_table *sgt;
	u64 skip = range->offset;
	size_t left = range->len;
	struct scatterlist *from;
	int nents = 0;
	int i;

	dma_resv_lock(range->dmabuf->resv, NULL);
	sgt = range->shared->sgt;
	if (range->shared->revoked) {
		dma_resv_unlock(range->dmabuf->resv);
		return -ENODEV;
	}

	for_each_sgtable_dma_sg(sgt, from, i) {
		size_t len = sg_dma_len(from);

		if (skip >= len) {
			skip -= len;
			continue;
		}
		len = min(len - skip, left);
		if (*sg) {
			sg_dma_address(*sg) = sg_dma_address(from) + skip;
			sg_dma_len(*sg) = len;
			*sg = sg_next(*sg);
		}
		nents++;
		skip = 0;
		left -= len;
		if (!left)
			break;
	}
	dma_resv_unlock(range->dmabuf->resv);

	return WARN_ON_ONCE(left) ? -EINVAL : nents;
}

/* As dma_sg_slice(), for all ranges. */
static int dma_sg_slice_all(struct dma_sg_table *table, struct scatterlist *sg)
{
	unsigned int i;
	int ret, nents = 0;

	for (i = 0; i < table->nr_ranges; i++) {
		ret = dma_sg_slice(&table->ranges[i], &sg);
		if (ret < 0)
			return ret;
		if (check_add_overflow(nents, ret, &nents))
			return -EINVAL;
	}
	return nents;
}

static int dma_sg_make_entries(struct dma_sg_table *table)
{
	struct scatterlist *own = &to_dma_sg_list(table)->entry;
	int ret, nents;

	sg_init_table(own, 1);
	nents = dma_sg_slice_all(table, own);
	if (nents < 0)
		return nents;
	if (nents == 1) {
		table->sgt.sgl = own;
		table->sgt.nents = 1;
		return 0;
	}

	ret = sg_alloc_table(&table->sgt, nents, GFP_KERNEL_ACCOUNT);
	if (ret)
		return ret;
	/* Nothing for the CPU in here. */
	table->sgt.orig_nents = 0;
	ret = dma_sg_slice_all(table, table->sgt.sgl);
	return ret < 0 ? ret : 0;
}

static void dma_sg_free(struct dma_sg_table *table)
{
	struct dma_sg_list *list = to_dma_sg_list(table);

	/* A revocation looks at the table as long as its ranges are in use. */
	dma_sg_put_ranges(table);
	if (table->sgt.sgl != &list->entry) {
		/* sg_free_table() frees what was allocated. */
		table->sgt.orig_nents = table->sgt.nents;
		sg_free_table(&table->sgt);
	}
	kfree(list);
}

/**
 * sgl_dma_map_user - make a DMA-only list of device memory at a user address
 * @dev:	the device that will use the memory
 * @addr:	first byte, in the mm of current; not tagged
 * @len:	bytes
 * @write:	whether @dev, or somebody through it, may write
 * @ops:	how to stop @dev when an exporter takes its memory back; NULL when that
 *		is not possible. Exporters may refuse those, and what happens to the
 *		memory under them is for the exporter to say
 * @priv:	argument of @ops
 *
 * Every VMA in the range must belong to an exporter, see
 * &vm_operations_struct.p2p_buf; CPU page tables are not looked at. The mapping
 * is bidirectional, and pinned until sgl_dma_unmap(), or until it is revoked. It
 * is not charged to RLIMIT_MEMLOCK, as it is no memory of the system; the list is
 * charged to the memory cgroup of current.
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
 * * %-EINTR, %-ERESTARTSYS: interrupted, also while an exporter was still moving
 *		the content of a buffer
 * * %-ENOMEM, and what else an exporter returns
 */
struct dma_sg_table *sgl_dma_map_user(struct device *dev, unsigned long addr,
				      size_t len, bool write,
				      const struct dma_sg_ops *ops, void *priv)
{
	struct dma_sg_table *table;
	struct dma_sg_list *list;
	unsigned int i;
	int ret;

	might_sleep();

	list = kzalloc_obj(*list, GFP_KERNEL_ACCOUNT);
	if (!list)
		return ERR_PTR(-ENOMEM);
	table = &list->table;
	table->dev = dev;
	table->ops = ops;
	table->priv = priv;

	ret = dma_sg_find_ranges(table, addr, len, write);
	if (ret)
		goto err_free;

	for (i = 0; i < table->nr_ranges; i++) {
		table->ranges[i].table = table;
		ret = dma_sg_get_attach(&table->ranges[i], dev,
					ops ? &dma_sg_revocable_importer_ops :
					      &dma_sg_importer_ops);
		if (ret)
			goto err_free;
	}

	ret = dma_sg_make_entries(table);
	if (ret)
		goto err_free;
	return table;

err_free:
	dma_sg_free(table);
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
	dma_sg_free(table);
}
EXPORT_SYMBOL_NS_GPL(sgl_dma_unmap, "DMA_BUF");

/**
 * sgl_dma_next_run - find out how far user memory of one kind reaches
 * @addr:	first byte, in the mm of current; not tagged
 * @end:	where to stop
 * @write:	whether it would be written
 * @run_end:	end of the run, at most @end; both are at VMAs' ends, or @end
 *
 * Context: process context, may sleep.
 *
 * Return: an &enum dma_sg_kind; %-EFAULT when nothing is mapped at @addr; %-EINTR
 * and %-ENOMEM.
 */
int sgl_dma_next_run(unsigned long addr, unsigned long end, bool write,
		     unsigned long *run_end)
{
	int kind = -EFAULT;

	might_sleep();

	for (*run_end = addr; *run_end < end;) {
		struct dma_sg_range range = {};
		unsigned long vm_end = 0;
		int ret;

		ret = dma_sg_ask_addr(current->mm, *run_end, write, &range,
				      &vm_end);
		if (!ret)
			dma_buf_put(range.dmabuf);
		if (ret && ret != -EFAULT && ret != -EACCES && ret != -ENODEV)
			return ret;
		/* A hole, this time or the next. */
		if (!vm_end)
			break;

		ret = ret == -EFAULT ? range.kind : DMA_SG_EXPORTED;
		if (kind >= 0 && ret != kind)
			break;
		kind = ret;
		*run_end = min(vm_end, end);
	}
	return kind;
}
EXPORT_SYMBOL_NS_GPL(sgl_dma_next_run, "DMA_BUF");

static struct device *dma_sg_owner(struct dma_buf *dmabuf)
{
	return dmabuf->ops->p2p_owner ? dmabuf->ops->p2p_owner(dmabuf) : NULL;
}

/**
 * sgl_dma_get_owner - find out whose the memory at a user address is
 * @addr:	address in the mm of current; not tagged
 * @write:	whether it would be written
 *
 * Context: process context, may sleep.
 *
 * Return: the device, with a reference, whether or not its memory can be mapped;
 * NULL when it is nobody's, the owner does not say, or does not give access to it.
 */
struct device *sgl_dma_get_owner(unsigned long addr, bool write)
{
	struct dma_sg_range range = {};
	struct device *owner;
	unsigned long vm_end;

	might_sleep();

	if (dma_sg_ask_addr(current->mm, addr, write, &range, &vm_end))
		return NULL;

	owner = get_device(dma_sg_owner(range.dmabuf));
	dma_buf_put(range.dmabuf);
	return owner;
}
EXPORT_SYMBOL_NS_GPL(sgl_dma_get_owner, "DMA_BUF");

/**
 * sgl_dma_owner - tell whose memory a list is made of
 * @table:	from sgl_dma_map_user()
 *
 * Return: the device that owns the first piece, which stays until sgl_dma_unmap();
 * NULL when it is not known.
 */
struct device *sgl_dma_owner(const struct dma_sg_table *table)
{
	return dma_sg_owner(table->ranges[0].dmabuf);
}
EXPORT_SYMBOL_NS_GPL(sgl_dma_owner, "DMA_BUF");

/**
 * sgl_dma_revoked - tell whether memory of a list was taken back
 * @table:	from sgl_dma_map_user()
 *
 * Takes no lock: what is true stays true, the rest may change at any time. An
 * exporter that cannot stop the device, and takes its memory back all the same,
 * is not seen.
 *
 * Return: whether it was, be it with the help of the list's user or of the IOMMU.
 */
bool sgl_dma_revoked(const struct dma_sg_table *table)
{
	unsigned int i;

	for (i = 0; i < table->nr_ranges; i++) {
		const struct dma_sg_attach *shared = table->ranges[i].shared;

		if (READ_ONCE(shared->revoked) ||
		    READ_ONCE(shared->attach->unlinked))
			return true;
	}
	return false;
}
EXPORT_SYMBOL_NS_GPL(sgl_dma_revoked, "DMA_BUF");
