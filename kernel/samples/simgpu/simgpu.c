// SPDX-License-Identifier: GPL-2.0
/*
 * simgpu - a sample exporter of device memory
 *
 * Treats the memory of QEMU's ivshmem-plain device as a GPU driver treats its
 * VRAM: it is cut into buffers, which user space maps, which other devices reach
 * by peer-to-peer DMA, and which the driver moves and takes back. There is no GPU:
 * what the memory is for is left out, so that what an exporter owes its importers
 * can be seen. Documentation/driver-api/dma-buf-p2p-exporter.rst goes with it.
 *
 * A buffer is a DMA-buf from the beginning, and everything that uses the buffer
 * holds a reference to the DMA-buf: handles, exported file descriptors, user
 * mappings, importers. Nothing else keeps it, nothing else releases it.
 *
 * The one rule about the memory itself: it is touched, or an address of it given
 * out, only under the reservation lock of the buffer, and only while the buffer is
 * not revoked. So whoever revokes every buffer may take the device away.
 *
 * Locks, outermost first:
 *
 *  - mmap_lock or the lock of a VMA, held where mappings are made and faulted in
 *  - the reservation lock of the buffer; importers are called under it
 *  - i_mmap_rwsem of the DMA-buf's file, in unmap_mapping_range()
 *  - simgpu::lock
 */

#include <linux/bitmap.h>
#include <linux/cleanup.h>
#include <linux/completion.h>
#include <linux/dma-buf-mapping.h>
#include <linux/dma-buf.h>
#include <linux/dma-resv.h>
#include <linux/fs.h>
#include <linux/idr.h>
#include <linux/io.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci-p2pdma.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/xarray.h>

#include "simgpu.h"

/* The BAR of ivshmem that is the memory */
#define SIMGPU_BAR		2

/* Above these bits of an mmap() offset stands the handle. */
#define SIMGPU_MMAP_SHIFT	40
#define SIMGPU_MMAP_PGOFF_MASK	(BIT(SIMGPU_MMAP_SHIFT - PAGE_SHIFT) - 1)
#define SIMGPU_MAX_HANDLE	(BIT(63 - SIMGPU_MMAP_SHIFT) - 1)

/**
 * struct simgpu - a device
 * @kref: held by the bound driver, by open files and by buffers
 * @pdev: the PCI device, referenced
 * @misc: /dev/simgpuN
 * @id: the N in it
 * @vram: physical range of the memory
 * @io: the memory, mapped for the kernel. As @provider, gone after remove(): only
 *	for a buffer that is not revoked, under its reservation lock
 * @provider: P2PDMA provider of the memory
 * @lock: protects the fields below
 * @offline: removed, or being reset; no new buffers
 * @used: bitmap of the pages in use
 * @bufs: buffers that may have to be revoked
 */
struct simgpu {
	struct kref kref;
	struct pci_dev *pdev;
	struct miscdevice misc;
	int id;
	struct phys_vec vram;
	void __iomem *io;
	struct p2pdma_provider *provider;

	struct mutex lock;	/* protects the fields below */
	bool offline;
	unsigned long *used;
	struct list_head bufs;
};

/**
 * struct simgpu_buf - a buffer
 * @gpu: its device, referenced
 * @dmabuf: the DMA-buf whose private data this is
 * @node: in simgpu::bufs
 * @frag_size: bytes of each fragment
 * @stride: least distance of two fragments when they are allocated
 * @nr_frags: their number
 * @flags: SIMGPU_DESCENDING, SIMGPU_FAULT_ALL
 * @importers: who may map it for DMA, &enum simgpu_importers
 * @frags: where the content is; NULL when the memory was given back. It and the
 *	rest is protected by the reservation lock
 * @nr_pins: while not 0, the content stays where it is
 * @nr_lasting: mappings for DMA that last until their importer ends them: all but
 *	those that simgpu_can_cut_off(), or that were cut off
 * @revoked: for good. Written under the reservation lock
 * @idle: completed when @nr_lasting is 0 after the revocation
 */
struct simgpu_buf {
	struct simgpu *gpu;
	struct dma_buf *dmabuf;
	struct list_head node;
	size_t frag_size;
	size_t stride;
	unsigned int nr_frags;
	u32 flags;
	u32 importers;

	struct phys_vec *frags;
	unsigned int nr_pins;
	unsigned int nr_lasting;
	bool revoked;
	struct completion idle;
};

/**
 * struct simgpu_mapping - a mapping for DMA
 * @next: the attachment's next, dma_buf_attachment::priv is the first; usually
 *	there is one, but an importer may make a new one before it unmaps the old
 * @sgt: what the importer got
 * @dir: direction of the DMA
 * @lasting: counted in simgpu_buf::nr_lasting
 */
struct simgpu_mapping {
	struct simgpu_mapping *next;
	struct sg_table *sgt;
	enum dma_data_direction dir;
	bool lasting;
};

/**
 * struct simgpu_file - an open file
 * @gpu: the device, referenced
 * @bufs: buffers by handle, each holding a reference
 */
struct simgpu_file {
	struct simgpu *gpu;
	struct xarray bufs;
};

static void simgpu_free(struct kref *kref)
{
	struct simgpu *gpu = container_of(kref, struct simgpu, kref);

	bitmap_free(gpu->used);
	pci_dev_put(gpu->pdev);
	kfree(gpu);
}

/* ---- Places in device memory -------------------------------------------- */

static void simgpu_free_frags(struct simgpu_buf *buf, struct phys_vec *frags)
{
	struct simgpu *gpu = buf->gpu;
	unsigned int i;

	if (!frags)
		return;

	scoped_guard(mutex, &gpu->lock)
		for (i = 0; i < buf->nr_frags && frags[i].len; i++)
			bitmap_clear(gpu->used,
				     PHYS_PFN(frags[i].paddr - gpu->vram.paddr),
				     PHYS_PFN(frags[i].len));
	kvfree(frags);
}

/*
 * A place for the content of @buf: first fit for every fragment. Memory is not
 * cleared, as a driver would that has users to keep apart.
 */
static struct phys_vec *simgpu_alloc_frags(struct simgpu_buf *buf)
{
	struct simgpu *gpu = buf->gpu;
	unsigned long size = PHYS_PFN(gpu->vram.len);
	unsigned long nr = PHYS_PFN(buf->frag_size);
	unsigned long at = 0;
	struct phys_vec *frags;
	unsigned int i;

	frags = kvzalloc_objs(*frags, buf->nr_frags);
	if (!frags)
		return ERR_PTR(-ENOMEM);

	mutex_lock(&gpu->lock);
	for (i = 0; i < buf->nr_frags; i++) {
		at = bitmap_find_next_zero_area(gpu->used, size, at, nr, 0);
		if (at >= size)
			break;

		bitmap_set(gpu->used, at, nr);
		frags[i].paddr = gpu->vram.paddr + PFN_PHYS(at);
		frags[i].len = buf->frag_size;
		at += PHYS_PFN(buf->stride);
	}
	mutex_unlock(&gpu->lock);

	if (i < buf->nr_frags) {
		simgpu_free_frags(buf, frags);
		return ERR_PTR(-ENOSPC);
	}

	if (buf->flags & SIMGPU_DESCENDING)
		for (i = 0; i < buf->nr_frags / 2; i++)
			swap(frags[i], frags[buf->nr_frags - 1 - i]);
	return frags;
}

static phys_addr_t simgpu_buf_phys(struct simgpu_buf *buf, u64 offset)
{
	dma_resv_assert_held(buf->dmabuf->resv);

	return buf->frags[offset / buf->frag_size].paddr +
	       offset % buf->frag_size;
}

/* ---- Taking memory back ------------------------------------------------- */

/* Importers that use fences may go on until these have signaled. */
static void simgpu_stop_importers(struct simgpu_buf *buf)
{
	dma_buf_invalidate_mappings(buf->dmabuf);
	dma_resv_wait_timeout(buf->dmabuf->resv, DMA_RESV_USAGE_BOOKKEEP, false,
			      MAX_SCHEDULE_TIMEOUT);
}

/* The next access of the CPU faults, and waits for the reservation lock. */
static void simgpu_zap(struct simgpu_buf *buf)
{
	unmap_mapping_range(buf->dmabuf->file->f_mapping, 0, 0, 1);
}

/*
 * The importer does not listen, but an IOMMU stands before its device. One that
 * does listen unmaps by itself, and may look at the memory until then.
 */
static bool simgpu_can_cut_off(struct dma_buf_attachment *attach,
			       struct sg_table *sgt)
{
	return !dma_buf_attach_revocable(attach) && dma_buf_sgt_has_iova(sgt);
}

/*
 * From now on these mappings lead nowhere. They stay allocated until unmap. With
 * @late also those of importers that listen, but did not unmap: their devices may
 * not have stopped.
 */
static void simgpu_cut_off_importers(struct simgpu_buf *buf, bool late)
{
	struct dma_buf_attachment *attach;
	struct simgpu_mapping *map;

	list_for_each_entry(attach, &buf->dmabuf->attachments, node) {
		if (!late && dma_buf_attach_revocable(attach))
			continue;
		for (map = attach->priv; map; map = map->next) {
			if (dma_buf_unlink_sgt(attach, map->sgt, map->dir) ||
			    !map->lasting)
				continue;
			map->lasting = false;
			buf->nr_lasting--;
		}
	}

	if (!buf->nr_lasting)
		complete_all(&buf->idle);
}

/*
 * When this returns, nothing reaches the memory any more, and it is free. The
 * caller holds a reference and no locks: the wait is for importers that need the
 * reservation lock, and who knows what else, to get to the end.
 *
 * They do so soon, they said; for a buffer that is for SIMGPU_ANY it may take as
 * long as there are processes that have it registered somewhere.
 */
static void simgpu_revoke(struct simgpu_buf *buf)
{
	struct dma_resv *resv = buf->dmabuf->resv;
	struct phys_vec *frags = NULL;

	dma_resv_lock(resv, NULL);
	WRITE_ONCE(buf->revoked, true);
	simgpu_zap(buf);
	simgpu_stop_importers(buf);
	simgpu_cut_off_importers(buf, false);
	dma_resv_unlock(resv);

	while (!wait_for_completion_timeout(&buf->idle, 10 * HZ)) {
		pci_warn(buf->gpu->pdev, "waiting for a peer device to unmap a buffer\n");
		dma_resv_lock(resv, NULL);
		simgpu_cut_off_importers(buf, true);
		dma_resv_unlock(resv);
	}

	dma_resv_lock(resv, NULL);
	swap(buf->frags, frags);
	dma_resv_unlock(resv);
	simgpu_free_frags(buf, frags);
}

/* Until this returns nobody gets a new buffer, afterwards nobody has an old one. */
static void simgpu_revoke_all(struct simgpu *gpu)
{
	struct simgpu_buf *buf;

	mutex_lock(&gpu->lock);
	gpu->offline = true;
	while ((buf = list_first_entry_or_null(&gpu->bufs, struct simgpu_buf,
					       node))) {
		list_del_init(&buf->node);

		/* On its way to simgpu_buf_release(): nobody uses it. */
		if (!get_file_active(&buf->dmabuf->file))
			continue;

		mutex_unlock(&gpu->lock);
		simgpu_revoke(buf);
		dma_buf_put(buf->dmabuf);
		mutex_lock(&gpu->lock);
	}
	mutex_unlock(&gpu->lock);
}

/* Here would be the GPU's copy engine, and a fence instead of the wait. */
static void simgpu_copy(struct simgpu_buf *buf, const struct phys_vec *to,
			void *bounce)
{
	struct simgpu *gpu = buf->gpu;
	unsigned int i;
	size_t at;

	for (i = 0; i < buf->nr_frags; i++) {
		void __iomem *src = gpu->io + (buf->frags[i].paddr - gpu->vram.paddr);
		void __iomem *dst = gpu->io + (to[i].paddr - gpu->vram.paddr);

		for (at = 0; at < buf->frag_size; at += PAGE_SIZE) {
			memcpy_fromio(bounce, src + at, PAGE_SIZE);
			memcpy_toio(dst + at, bounce, PAGE_SIZE);
			cond_resched();
		}
	}

	/* io is write-combining */
	wmb();
}

/*
 * Move the content to another place. Importers that did not pin the buffer are
 * told, and map it again when they need it. Those that did pin it cannot follow.
 */
static int simgpu_evict(struct simgpu_buf *buf, bool force)
{
	struct phys_vec *frags = NULL;
	void *bounce;
	int ret = 0;

	bounce = kmalloc(PAGE_SIZE, GFP_KERNEL);
	if (!bounce)
		return -ENOMEM;

	dma_resv_lock(buf->dmabuf->resv, NULL);
	if (buf->revoked) {
		ret = -ENODEV;
		goto out_unlock;
	}

	if (buf->nr_pins) {
		ret = -EBUSY;
		goto out_unlock;
	}

	frags = simgpu_alloc_frags(buf);
	if (IS_ERR(frags)) {
		ret = PTR_ERR(frags);
		frags = NULL;
		goto out_unlock;
	}

	simgpu_zap(buf);
	simgpu_stop_importers(buf);
	simgpu_copy(buf, frags, bounce);
	swap(buf->frags, frags);
out_unlock:
	dma_resv_unlock(buf->dmabuf->resv);
	simgpu_free_frags(buf, frags);
	kfree(bounce);

	if (ret == -EBUSY && force && buf->importers != SIMGPU_ANY) {
		simgpu_revoke(buf);
		ret = 0;
	}
	return ret;
}

/* ---- The DMA-buf -------------------------------------------------------- */

static int simgpu_buf_attach(struct dma_buf *dmabuf,
			     struct dma_buf_attachment *attach)
{
	/* There are no pages, and the memory cannot move to where some are. */
	return attach->peer2peer ? 0 : -EOPNOTSUPP;
}

/* Also called by importers that share an attachment, for each of their users. */
static int simgpu_buf_pin(struct dma_buf_attachment *attach)
{
	struct simgpu_buf *buf = attach->dmabuf->priv;

	dma_resv_assert_held(attach->dmabuf->resv);

	if (buf->revoked)
		return -ENODEV;

	buf->nr_pins++;
	return 0;
}

static void simgpu_buf_unpin(struct dma_buf_attachment *attach)
{
	struct simgpu_buf *buf = attach->dmabuf->priv;

	dma_resv_assert_held(attach->dmabuf->resv);

	buf->nr_pins--;
}

/* Who could not be made to stop has to be refused now: later is too late. */
static bool simgpu_accepts(struct dma_buf_attachment *attach,
			   struct sg_table *sgt)
{
	struct simgpu_buf *buf = attach->dmabuf->priv;

	switch (buf->importers) {
	case SIMGPU_ANY:
		return true;
	case SIMGPU_REVOCABLE_OR_IOVA:
		if (simgpu_can_cut_off(attach, sgt))
			return true;
		fallthrough;
	default:
		return dma_buf_attach_revocable(attach);
	}
}

static struct sg_table *simgpu_buf_map(struct dma_buf_attachment *attach,
				       enum dma_data_direction dir)
{
	struct simgpu_buf *buf = attach->dmabuf->priv;
	struct simgpu *gpu = buf->gpu;
	struct simgpu_mapping *map;
	struct sg_table *sgt;

	dma_resv_assert_held(attach->dmabuf->resv);

	if (buf->revoked)
		return ERR_PTR(-ENODEV);

	switch (pci_p2pdma_map_type(gpu->provider, attach->dev)) {
	case PCI_P2PDMA_MAP_BUS_ADDR:
	case PCI_P2PDMA_MAP_THRU_HOST_BRIDGE:
		break;
	default:
		pci_dbg(gpu->pdev, "no peer-to-peer route for %s\n",
			dev_name(attach->dev));
		return ERR_PTR(-EREMOTEIO);
	}

	map = kzalloc_obj(*map);
	if (!map)
		return ERR_PTR(-ENOMEM);

	sgt = dma_buf_phys_vec_to_sgt(attach, gpu->provider, buf->frags,
				      buf->nr_frags, buf->dmabuf->size, dir);
	if (IS_ERR(sgt))
		goto err_free;

	if (!simgpu_accepts(attach, sgt)) {
		pci_dbg(gpu->pdev, "%s could not be made to stop\n",
			dev_name(attach->dev));
		dma_buf_free_sgt(attach, sgt, dir);
		sgt = ERR_PTR(-EOPNOTSUPP);
		goto err_free;
	}

	map->lasting = !simgpu_can_cut_off(attach, sgt);
	if (map->lasting)
		buf->nr_lasting++;
	map->sgt = sgt;
	map->dir = dir;
	map->next = attach->priv;
	attach->priv = map;
	return sgt;

err_free:
	kfree(map);
	return sgt;
}

/* Also after the revocation, and after the device is gone: do not touch it. */
static void simgpu_buf_unmap(struct dma_buf_attachment *attach,
			     struct sg_table *sgt, enum dma_data_direction dir)
{
	struct simgpu_mapping **link = (struct simgpu_mapping **)&attach->priv;
	struct simgpu_buf *buf = attach->dmabuf->priv;
	struct simgpu_mapping *map;
	bool lasting;

	dma_resv_assert_held(attach->dmabuf->resv);

	while ((*link)->sgt != sgt)
		link = &(*link)->next;
	map = *link;
	*link = map->next;
	lasting = map->lasting;
	kfree(map);

	dma_buf_free_sgt(attach, sgt, dir);
	if (lasting && !--buf->nr_lasting && buf->revoked)
		complete_all(&buf->idle);
}

static void simgpu_buf_release(struct dma_buf *dmabuf)
{
	struct simgpu_buf *buf = dmabuf->priv;
	struct simgpu *gpu = buf->gpu;

	scoped_guard(mutex, &gpu->lock)
		list_del(&buf->node);
	simgpu_free_frags(buf, buf->frags);
	kfree(buf);
	kref_put(&gpu->kref, simgpu_free);
}

/* The buffer keeps simgpu, and that keeps the PCI device. */
static struct device *simgpu_buf_owner(struct dma_buf *dmabuf)
{
	struct simgpu_buf *buf = dmabuf->priv;

	return &buf->gpu->pdev->dev;
}

/* ---- Mappings for the CPU ----------------------------------------------- */

/*
 * PTEs are made here only, not in mmap(): until mmap() has returned, the VMA is
 * not yet among those that unmap_mapping_range() finds, and what it maps could not
 * be taken back.
 */
static vm_fault_t simgpu_vma_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct simgpu_buf *buf = vma->vm_private_data;
	unsigned long addr = vmf->address;
	unsigned long end = addr + PAGE_SIZE;
	vm_fault_t ret = VM_FAULT_SIGBUS;
	u64 offset;

	if (buf->flags & SIMGPU_FAULT_ALL) {
		addr = vma->vm_start;
		end = vma->vm_end;
	}

	/* A signal may be waiting, or the fault happens again. */
	if (dma_resv_lock_interruptible(buf->dmabuf->resv, NULL))
		return VM_FAULT_NOPAGE;

	if (buf->revoked)
		goto out_unlock;

	for (; addr < end; addr += PAGE_SIZE) {
		offset = ((u64)vma->vm_pgoff << PAGE_SHIFT) +
			 (addr - vma->vm_start);
		ret = vmf_insert_pfn(vma, addr,
				     PHYS_PFN(simgpu_buf_phys(buf, offset)));
		if (ret != VM_FAULT_NOPAGE)
			break;
	}

out_unlock:
	dma_resv_unlock(buf->dmabuf->resv);
	return ret;
}

/*
 * What makes a pointer into the buffer as good as its file descriptor. The VMA
 * keeps the DMA-buf, and vm_pgoff counts from the start of the buffer: dma_buf_mmap()
 * and the DMA-buf's own mmap() both see to it.
 */
static int simgpu_vma_p2p_buf(struct vm_area_struct *vma, unsigned long addr,
			      struct dma_buf **dmabuf, u64 *offset)
{
	struct simgpu_buf *buf = vma->vm_private_data;

	/* To fail early; who holds the reservation lock knows for certain. */
	if (READ_ONCE(buf->revoked))
		return -ENODEV;

	get_dma_buf(buf->dmabuf);
	*dmabuf = buf->dmabuf;
	*offset = ((u64)vma->vm_pgoff << PAGE_SHIFT) + (addr - vma->vm_start);
	return 0;
}

static const struct vm_operations_struct simgpu_vm_ops = {
	.fault		= simgpu_vma_fault,
	.p2p_buf	= simgpu_vma_p2p_buf,
};

static int simgpu_buf_mmap(struct dma_buf *dmabuf, struct vm_area_struct *vma)
{
	struct simgpu_buf *buf = dmabuf->priv;

	/* No copies on write: there is nothing to copy, and DMA would miss them. */
	if (!(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;

	if (READ_ONCE(buf->revoked))
		return -ENODEV;

	vm_flags_set(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_page_prot = pgprot_writecombine(vma->vm_page_prot);
	vma->vm_private_data = buf;
	vma->vm_ops = &simgpu_vm_ops;
	return 0;
}

static const struct dma_buf_ops simgpu_buf_ops = {
	.attach		= simgpu_buf_attach,
	.pin		= simgpu_buf_pin,
	.unpin		= simgpu_buf_unpin,
	.map_dma_buf	= simgpu_buf_map,
	.unmap_dma_buf	= simgpu_buf_unmap,
	.mmap		= simgpu_buf_mmap,
	.release	= simgpu_buf_release,
	.p2p_owner	= simgpu_buf_owner,
};

/* ---- The device file ---------------------------------------------------- */

/* Buffer of a handle, with a reference for the caller */
static struct simgpu_buf *simgpu_get_buf(struct simgpu_file *sfile, u32 handle)
{
	struct simgpu_buf *buf;

	xa_lock(&sfile->bufs);
	buf = xa_load(&sfile->bufs, handle);
	if (buf)
		get_dma_buf(buf->dmabuf);
	xa_unlock(&sfile->bufs);
	return buf;
}

static int simgpu_close_handle(struct simgpu_file *sfile, u32 handle)
{
	struct simgpu_buf *buf = xa_erase(&sfile->bufs, handle);

	if (!buf)
		return -ENOENT;

	dma_buf_put(buf->dmabuf);
	return 0;
}

static int simgpu_check_create(struct simgpu *gpu, struct simgpu_create *create)
{
	if (create->flags & ~(SIMGPU_DESCENDING | SIMGPU_FAULT_ALL) ||
	    create->importers > SIMGPU_ANY || create->reserved)
		return -EINVAL;

	create->frag_size = create->frag_size ?: create->size;
	create->stride = create->stride ?: create->frag_size;

	if (!create->size || create->size > gpu->vram.len ||
	    !PAGE_ALIGNED(create->frag_size) ||
	    create->size % create->frag_size ||
	    create->size / create->frag_size > SIMGPU_MAX_FRAGS)
		return -EINVAL;

	if (create->stride < create->frag_size ||
	    create->stride > gpu->vram.len || !PAGE_ALIGNED(create->stride))
		return -EINVAL;

	return 0;
}

static struct simgpu_buf *simgpu_create_buf(struct simgpu *gpu,
					    const struct simgpu_create *create)
{
	DEFINE_DMA_BUF_EXPORT_INFO(exp_info);
	struct simgpu_buf *buf;
	int ret;

	buf = kzalloc_obj(*buf);
	if (!buf)
		return ERR_PTR(-ENOMEM);

	buf->gpu = gpu;
	buf->frag_size = create->frag_size;
	buf->stride = create->stride;
	buf->nr_frags = create->size / create->frag_size;
	buf->flags = create->flags;
	buf->importers = create->importers;
	INIT_LIST_HEAD(&buf->node);
	init_completion(&buf->idle);

	buf->frags = simgpu_alloc_frags(buf);
	if (IS_ERR(buf->frags)) {
		ret = PTR_ERR(buf->frags);
		goto err_free;
	}

	exp_info.ops = &simgpu_buf_ops;
	exp_info.size = create->size;
	exp_info.flags = O_RDWR;
	exp_info.priv = buf;
	buf->dmabuf = dma_buf_export(&exp_info);
	if (IS_ERR(buf->dmabuf)) {
		ret = PTR_ERR(buf->dmabuf);
		goto err_free_frags;
	}

	/* From here on simgpu_buf_release() is what undoes it all. */
	kref_get(&gpu->kref);

	mutex_lock(&gpu->lock);
	ret = gpu->offline ? -ENODEV : 0;
	if (!ret)
		list_add_tail(&buf->node, &gpu->bufs);
	mutex_unlock(&gpu->lock);
	if (ret) {
		dma_buf_put(buf->dmabuf);
		return ERR_PTR(ret);
	}
	return buf;

err_free_frags:
	simgpu_free_frags(buf, buf->frags);
err_free:
	kfree(buf);
	return ERR_PTR(ret);
}

static int simgpu_ioctl_create(struct simgpu_file *sfile,
			       struct simgpu_create __user *arg)
{
	struct simgpu_create create;
	struct simgpu_buf *buf;
	int ret;

	if (copy_from_user(&create, arg, sizeof(create)))
		return -EFAULT;

	ret = simgpu_check_create(sfile->gpu, &create);
	if (ret)
		return ret;

	buf = simgpu_create_buf(sfile->gpu, &create);
	if (IS_ERR(buf))
		return PTR_ERR(buf);

	ret = xa_alloc(&sfile->bufs, &create.handle, buf,
		       XA_LIMIT(1, SIMGPU_MAX_HANDLE), GFP_KERNEL);
	if (ret) {
		dma_buf_put(buf->dmabuf);
		return ret;
	}

	create.mmap_offset = (u64)create.handle << SIMGPU_MMAP_SHIFT;
	if (copy_to_user(arg, &create, sizeof(create))) {
		simgpu_close_handle(sfile, create.handle);
		return -EFAULT;
	}
	return 0;
}

static int simgpu_ioctl_info(struct simgpu_file *sfile,
			     struct simgpu_info __user *arg)
{
	struct simgpu_info info;
	struct simgpu_buf *buf;
	int ret = 0;

	if (copy_from_user(&info, arg, sizeof(info)))
		return -EFAULT;

	buf = simgpu_get_buf(sfile, info.handle);
	if (!buf)
		return -ENOENT;

	if (info.offset >= buf->dmabuf->size) {
		ret = -EINVAL;
		goto out_put;
	}

	dma_resv_lock(buf->dmabuf->resv, NULL);
	info.nr_frags = buf->nr_frags;
	info.nr_pins = buf->nr_pins;
	info.revoked = buf->revoked;
	info.bar_offset = buf->revoked ? 0 :
			  simgpu_buf_phys(buf, info.offset) - buf->gpu->vram.paddr;
	dma_resv_unlock(buf->dmabuf->resv);

	if (copy_to_user(arg, &info, sizeof(info)))
		ret = -EFAULT;
out_put:
	dma_buf_put(buf->dmabuf);
	return ret;
}

static int simgpu_ioctl_handle(struct simgpu_file *sfile, unsigned int cmd,
			       struct simgpu_handle __user *uarg)
{
	struct simgpu_handle arg;
	struct simgpu_buf *buf;
	int ret = 0;

	if (copy_from_user(&arg, uarg, sizeof(arg)))
		return -EFAULT;

	if (arg.flags & ~(cmd == SIMGPU_IOC_EVICT ? SIMGPU_FORCE : 0))
		return -EINVAL;

	if (cmd == SIMGPU_IOC_CLOSE)
		return simgpu_close_handle(sfile, arg.handle);

	buf = simgpu_get_buf(sfile, arg.handle);
	if (!buf)
		return -ENOENT;

	switch (cmd) {
	case SIMGPU_IOC_EXPORT:
		ret = dma_buf_fd(buf->dmabuf, O_CLOEXEC);
		if (ret >= 0)
			return ret; /* and the reference is the descriptor's */
		break;
	case SIMGPU_IOC_REVOKE:
		if (buf->importers == SIMGPU_ANY)
			ret = -EOPNOTSUPP;
		else
			simgpu_revoke(buf);
		break;
	case SIMGPU_IOC_EVICT:
		ret = simgpu_evict(buf, arg.flags & SIMGPU_FORCE);
		break;
	}

	dma_buf_put(buf->dmabuf);
	return ret;
}

static long simgpu_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct simgpu_file *sfile = file->private_data;
	void __user *uarg = (void __user *)arg;

	switch (cmd) {
	case SIMGPU_IOC_CREATE:
		return simgpu_ioctl_create(sfile, uarg);
	case SIMGPU_IOC_INFO:
		return simgpu_ioctl_info(sfile, uarg);
	case SIMGPU_IOC_CLOSE:
	case SIMGPU_IOC_EXPORT:
	case SIMGPU_IOC_REVOKE:
	case SIMGPU_IOC_EVICT:
		return simgpu_ioctl_handle(sfile, cmd, uarg);
	default:
		return -ENOTTY;
	}
}

/* Makes the VMA one of the DMA-buf's file, as if that had been mapped. */
static int simgpu_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct simgpu_file *sfile = file->private_data;
	struct simgpu_buf *buf;
	int ret;

	buf = simgpu_get_buf(sfile, vma->vm_pgoff >>
				    (SIMGPU_MMAP_SHIFT - PAGE_SHIFT));
	if (!buf)
		return -EINVAL;

	ret = dma_buf_mmap(buf->dmabuf, vma,
			   vma->vm_pgoff & SIMGPU_MMAP_PGOFF_MASK);
	dma_buf_put(buf->dmabuf);
	return ret;
}

/* Under the lock of misc_deregister(), so the driver is still bound. */
static int simgpu_open(struct inode *inode, struct file *file)
{
	struct simgpu *gpu = container_of(file->private_data, struct simgpu, misc);
	struct simgpu_file *sfile;

	sfile = kzalloc_obj(*sfile);
	if (!sfile)
		return -ENOMEM;

	kref_get(&gpu->kref);
	sfile->gpu = gpu;
	xa_init_flags(&sfile->bufs, XA_FLAGS_ALLOC1);
	file->private_data = sfile;
	return 0;
}

static int simgpu_close(struct inode *inode, struct file *file)
{
	struct simgpu_file *sfile = file->private_data;
	struct simgpu_buf *buf;
	unsigned long handle;

	xa_for_each(&sfile->bufs, handle, buf)
		dma_buf_put(buf->dmabuf);
	xa_destroy(&sfile->bufs);
	kref_put(&sfile->gpu->kref, simgpu_free);
	kfree(sfile);
	return 0;
}

static const struct file_operations simgpu_fops = {
	.owner		= THIS_MODULE,
	.open		= simgpu_open,
	.release	= simgpu_close,
	.mmap		= simgpu_mmap,
	.unlocked_ioctl	= simgpu_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};

/* ---- The PCI device ----------------------------------------------------- */

static DEFINE_IDA(simgpu_ids);

static int simgpu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct simgpu *gpu;
	int ret;

	if (!(pci_resource_flags(pdev, SIMGPU_BAR) & IORESOURCE_MEM) ||
	    !PAGE_ALIGNED(pci_resource_start(pdev, SIMGPU_BAR)) ||
	    !PAGE_ALIGNED(pci_resource_len(pdev, SIMGPU_BAR)))
		return -ENODEV;

	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;

	ret = pcim_request_region(pdev, SIMGPU_BAR, KBUILD_MODNAME);
	if (ret)
		return ret;

	ret = pcim_p2pdma_init(pdev);
	if (ret)
		return ret;

	gpu = kzalloc_obj(*gpu);
	if (!gpu)
		return -ENOMEM;

	kref_init(&gpu->kref);
	mutex_init(&gpu->lock);
	INIT_LIST_HEAD(&gpu->bufs);
	gpu->pdev = pci_dev_get(pdev);
	gpu->vram.paddr = pci_resource_start(pdev, SIMGPU_BAR);
	gpu->vram.len = pci_resource_len(pdev, SIMGPU_BAR);
	gpu->provider = pcim_p2pdma_provider(pdev, SIMGPU_BAR);

	ret = -ENOMEM;
	gpu->io = devm_ioremap_wc(&pdev->dev, gpu->vram.paddr, gpu->vram.len);
	gpu->used = bitmap_zalloc(PHYS_PFN(gpu->vram.len), GFP_KERNEL);
	if (!gpu->io || !gpu->used)
		goto err_put;

	gpu->id = ida_alloc(&simgpu_ids, GFP_KERNEL);
	if (gpu->id < 0) {
		ret = gpu->id;
		goto err_put;
	}

	gpu->misc.name = devm_kasprintf(&pdev->dev, GFP_KERNEL, "simgpu%d",
					gpu->id);
	if (!gpu->misc.name)
		goto err_id;

	gpu->misc.minor = MISC_DYNAMIC_MINOR;
	gpu->misc.parent = &pdev->dev;
	gpu->misc.fops = &simgpu_fops;
	gpu->misc.mode = 0600;
	ret = misc_register(&gpu->misc);
	if (ret)
		goto err_id;

	pci_set_drvdata(pdev, gpu);
	return 0;

err_id:
	ida_free(&simgpu_ids, gpu->id);
err_put:
	kref_put(&gpu->kref, simgpu_free);
	return ret;
}

/* Open files and buffers may be left, but nothing behind them. */
static void simgpu_remove(struct pci_dev *pdev)
{
	struct simgpu *gpu = pci_get_drvdata(pdev);

	misc_deregister(&gpu->misc);
	simgpu_revoke_all(gpu);
	ida_free(&simgpu_ids, gpu->id);
	kref_put(&gpu->kref, simgpu_free);
}

/* What was in the memory is lost, and a peer must not see it half reset. */
static void simgpu_reset_prepare(struct pci_dev *pdev)
{
	simgpu_revoke_all(pci_get_drvdata(pdev));
}

static void simgpu_reset_done(struct pci_dev *pdev)
{
	struct simgpu *gpu = pci_get_drvdata(pdev);

	guard(mutex)(&gpu->lock);
	gpu->offline = false;
}

static const struct pci_error_handlers simgpu_err_handler = {
	.reset_prepare	= simgpu_reset_prepare,
	.reset_done	= simgpu_reset_done,
};

/* No IDs: ivshmem has other uses, so only driver_override binds it to this. */
static struct pci_driver simgpu_driver = {
	.name		= KBUILD_MODNAME,
	.probe		= simgpu_probe,
	.remove		= simgpu_remove,
	.err_handler	= &simgpu_err_handler,
};
module_pci_driver(simgpu_driver);

MODULE_DESCRIPTION("Sample exporter of device memory");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("DMA_BUF");
