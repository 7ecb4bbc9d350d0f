// SPDX-License-Identifier: GPL-2.0
/*
 * DMA-bufs behind user space mappings of PCI memory BARs
 *
 * A process that maps a memory BAR through sysfs (resourceN, resourceN_wc) can
 * hand the address to a subsystem that lets a peer device access it, RDMA for
 * instance. Behind such a mapping stands one DMA-buf per BAR, which covers the
 * whole BAR: the p2p_buf() operation of the VMA finds it, and an importer then
 * attaches to it and maps it as it does with any other DMA-buf. Its scatterlists
 * carry DMA addresses only; there is no struct page behind a BAR.
 *
 * No driver is involved, so nothing here may depend on one being bound: the
 * DMA-buf belongs to the PCI device, and the PCI core revokes it when the BAR goes
 * away or moves, and before the device is reset or gets a driver.
 *
 * Revoking must work whatever the importer does: it is told to stop its device;
 * where it cannot, an IOMMU cuts the device off. An importer for which there is
 * neither is refused, unless the administrator says otherwise by the kernel
 * parameter p2pdma_buf.importers.
 */

#include <linux/cleanup.h>
#include <linux/completion.h>
#include <linux/dma-buf-mapping.h>
#include <linux/dma-buf.h>
#include <linux/dma-resv.h>
#include <linux/err.h>
#include <linux/fcntl.h>
#include <linux/ioport.h>
#include <linux/jiffies.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/pci-p2pdma.h>
#include <linux/pci.h>
#include <linux/pfn.h>
#include <linux/pm_runtime.h>
#include <linux/rwsem.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>

#include "pci.h"

enum pci_p2pdma_importers {
	PCI_P2PDMA_IMPORTERS_OFF,
	PCI_P2PDMA_IMPORTERS_REVOCABLE,
	PCI_P2PDMA_IMPORTERS_ANY,
};

static const char * const importers_names[] = {
	[PCI_P2PDMA_IMPORTERS_OFF]	 = "off",
	[PCI_P2PDMA_IMPORTERS_REVOCABLE] = "revocable",
	[PCI_P2PDMA_IMPORTERS_ANY]	 = "any",
};

static enum pci_p2pdma_importers importers = PCI_P2PDMA_IMPORTERS_REVOCABLE;

static int importers_set(const char *val, const struct kernel_param *kp)
{
	int ret = sysfs_match_string(importers_names, val);

	if (ret < 0)
		return ret;
	importers = ret;
	return 0;
}

static int importers_get(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%s\n", importers_names[importers]);
}

static const struct kernel_param_ops importers_ops = {
	.set = importers_set,
	.get = importers_get,
};

module_param_cb(importers, &importers_ops, NULL, 0444);
MODULE_PARM_DESC(importers,
		 "Who may use BARs that user space has mapped for peer-to-peer DMA: off, revocable, any (default: revocable)");

/*
 * How long a revocation waits for the importers. They promise to unmap within
 * bounded time (see dma_buf_invalidate_mappings()); one that breaks the promise
 * must not make the removal of the device hang.
 */
#define PCI_P2PDMA_BUF_REVOKE_TIMEOUT	(10 * HZ)

/**
 * struct pci_p2pdma_buf - what the DMA-buf of a BAR stands for
 * @pdev: PCI device, referenced until the DMA-buf is released
 * @bar: BAR number
 * @phys: CPU physical range of the BAR when the DMA-buf was created
 * @provider: P2PDMA provider of the BAR. It is not pcim_p2pdma_provider()'s:
 *	that one is freed when a driver unbinds, and here there may be none.
 * @nr_mapped: number of DMA mappings through which a device can reach the BAR;
 *	protected by the reservation lock
 * @revoked: never map it again; written under the reservation lock
 * @unmapped: completed when @nr_mapped falls to 0 after the revocation
 */
struct pci_p2pdma_buf {
	struct pci_dev *pdev;
	int bar;
	struct phys_vec phys;
	struct p2pdma_provider provider;
	unsigned int nr_mapped;
	bool revoked;
	struct completion unmapped;
};

/**
 * struct pci_p2pdma_buf_user - an attachment of the DMA-buf of a BAR
 * @sgt: the mapping, or NULL
 * @dir: its direction
 * @written_off: the revocation does not wait for it: the IOMMU has cut the device
 *	off, or nothing can
 * @awake: it keeps the device resumed
 *
 * Protected by the reservation lock.
 */
struct pci_p2pdma_buf_user {
	struct sg_table *sgt;
	enum dma_data_direction dir;
	bool written_off;
	bool awake;
};

/**
 * struct pci_p2pdma_bar - where a mapping of a BAR finds the BAR's DMA-buf
 * @pdev: PCI device, not referenced: it owns this
 * @nr: BAR number
 * @lock: protects the fields below
 * @dmabuf: the BAR's present DMA-buf, holding a reference, or NULL
 * @revoked: it was revoked, or could not be made while pci_dev::p2pdma_blocked;
 *	pci_p2pdma_buf_unblock() makes a new one
 */
struct pci_p2pdma_bar {
	struct pci_dev *pdev;
	int nr;
	spinlock_t lock;	/* protects the fields below */
	struct dma_buf *dmabuf;
	bool revoked;
};

/**
 * struct pci_p2pdma_bars - the standard BARs of a device, pci_dev::p2pdma_bars
 * @revoking: held while DMA-bufs are revoked: who comes second, and finds none
 *	left, waits for the first
 * @faulting: held for read while PTEs of BARs are made, for write while they are
 *	taken away
 * @bar: the BARs
 *
 * It lives from the first mmap() until the PCI device is released, while a DMA-buf
 * in it keeps the PCI device: pci_p2pdma_buf_block() breaks the cycle.
 */
struct pci_p2pdma_bars {
	struct mutex revoking;		/* one revocation at a time */
	struct rw_semaphore faulting;	/* PTEs against pci_dev::p2pdma_zapped */
	struct pci_p2pdma_bar bar[PCI_STD_NUM_BARS];
};

/* A driver may move the BARs of its device, pci_resize_resource(). */
static bool pci_p2pdma_buf_in_place(struct pci_p2pdma_buf *buf)
{
	return pci_resource_start(buf->pdev, buf->bar) == buf->phys.paddr &&
	       pci_resource_len(buf->pdev, buf->bar) == buf->phys.len;
}

/* The device is awake: pci_p2pdma_buf_attach() saw to it. */
static bool pci_p2pdma_buf_decoded(struct pci_p2pdma_buf *buf)
{
	struct pci_dev *pdev = buf->pdev;
	u16 cmd;

	if (!pci_p2pdma_buf_in_place(buf))
		return false;

	if (pci_dev_is_disconnected(pdev))
		return false;

	/* VFs: the PF decides, and it does not disable them one by one. */
	if (pdev->no_command_memory)
		return true;

	pci_read_config_word(pdev, PCI_COMMAND, &cmd);
	return !PCI_POSSIBLE_ERROR(cmd) && (cmd & PCI_COMMAND_MEMORY);
}

static int pci_p2pdma_buf_attach(struct dma_buf *dmabuf,
				 struct dma_buf_attachment *attach)
{
	struct pci_p2pdma_buf *buf = dmabuf->priv;
	struct pci_p2pdma_buf_user *user;
	int ret;

	if (!attach->peer2peer)
		return -EOPNOTSUPP;

	/* Only to fail early, pci_p2pdma_buf_pin() and _map() decide. */
	if (READ_ONCE(buf->revoked))
		return -ENODEV;

	user = kzalloc_obj(*user);
	if (!user)
		return -ENOMEM;

	/*
	 * Not in map(): that runs under the reservation lock, in which a
	 * driver's resume may take the reservation locks of its own buffers.
	 */
	ret = pm_runtime_resume_and_get(&buf->pdev->dev);
	if (ret) {
		pci_dbg(buf->pdev, "BAR %d: no peer-to-peer DMA, cannot resume: %d\n",
			buf->bar, ret);
		kfree(user);
		return -ENODEV;
	}

	user->awake = true;
	attach->priv = user;
	return 0;
}

static void pci_p2pdma_buf_detach(struct dma_buf *dmabuf,
				  struct dma_buf_attachment *attach)
{
	struct pci_p2pdma_buf *buf = dmabuf->priv;
	struct pci_p2pdma_buf_user *user = attach->priv;

	if (user->awake)
		pm_runtime_put(&buf->pdev->dev);
	kfree(user);
}

static int pci_p2pdma_buf_usable(struct pci_p2pdma_buf *buf,
				 struct device *importer)
{
	if (buf->revoked)
		return -ENODEV;

	/* To a peer this is no different from a BAR that is gone. */
	if (!pci_p2pdma_buf_decoded(buf)) {
		pci_dbg(buf->pdev, "BAR %d: no peer-to-peer DMA for %s, not decoded\n",
			buf->bar, dev_name(importer));
		return -ENODEV;
	}

	return 0;
}

/*
 * A BAR does not move while it is in use, it is revoked. But an importer may be
 * about to use a mapping that it has made earlier for another purpose.
 */
static int pci_p2pdma_buf_pin(struct dma_buf_attachment *attach)
{
	dma_resv_assert_held(attach->dmabuf->resv);

	return pci_p2pdma_buf_usable(attach->dmabuf->priv, attach->dev);
}

static void pci_p2pdma_buf_unpin(struct dma_buf_attachment *attach)
{
}

/* Can the mapping be taken back at any time, whatever the importer does? */
static bool pci_p2pdma_buf_can_revoke(struct dma_buf_attachment *attach,
				      struct sg_table *sgt)
{
	return dma_buf_attach_revocable(attach) || dma_buf_sgt_has_iova(sgt) ||
	       importers == PCI_P2PDMA_IMPORTERS_ANY;
}

static struct sg_table *pci_p2pdma_buf_map(struct dma_buf_attachment *attach,
					   enum dma_data_direction dir)
{
	struct pci_p2pdma_buf *buf = attach->dmabuf->priv;
	struct pci_p2pdma_buf_user *user = attach->priv;
	struct sg_table *sgt;
	const char *route;
	int ret;

	dma_resv_assert_held(attach->dmabuf->resv);

	ret = pci_p2pdma_buf_usable(buf, attach->dev);
	if (ret)
		return ERR_PTR(ret);

	/* No importer wants that, and revoking would have to know them all. */
	if (user->sgt)
		return ERR_PTR(-EBUSY);

	switch (pci_p2pdma_map_type(&buf->provider, attach->dev)) {
	case PCI_P2PDMA_MAP_BUS_ADDR:
		route = "bus address";
		break;
	case PCI_P2PDMA_MAP_THRU_HOST_BRIDGE:
		route = "host bridge";
		break;
	default:
		pci_dbg(buf->pdev, "BAR %d: no peer-to-peer route for %s\n",
			buf->bar, dev_name(attach->dev));
		return ERR_PTR(-EREMOTEIO);
	}

	sgt = dma_buf_phys_vec_to_sgt(attach, &buf->provider, &buf->phys, 1,
				      buf->phys.len, dir);
	if (IS_ERR(sgt))
		return sgt;

	if (!pci_p2pdma_buf_can_revoke(attach, sgt)) {
		dma_buf_free_sgt(attach, sgt, dir);
		pci_dbg(buf->pdev, "BAR %d: no peer-to-peer DMA for %s, it could not be revoked (route: %s, no IOVA, see p2pdma_buf.importers)\n",
			buf->bar, dev_name(attach->dev), route);
		return ERR_PTR(-EOPNOTSUPP);
	}

	user->sgt = sgt;
	user->dir = dir;
	user->written_off = false;
	buf->nr_mapped++;
	pci_dbg(buf->pdev, "BAR %d: mapped for %s, route: %s\n", buf->bar,
		dev_name(attach->dev), route);
	return sgt;
}

static void pci_p2pdma_buf_unmap(struct dma_buf_attachment *attach,
				 struct sg_table *sgt,
				 enum dma_data_direction dir)
{
	struct pci_p2pdma_buf *buf = attach->dmabuf->priv;
	struct pci_p2pdma_buf_user *user = attach->priv;

	dma_resv_assert_held(attach->dmabuf->resv);

	dma_buf_free_sgt(attach, sgt, dir);
	user->sgt = NULL;
	if (!user->written_off && !--buf->nr_mapped && buf->revoked)
		complete_all(&buf->unmapped);

	/* It may stay attached for long, and will never map again. */
	if (buf->revoked && user->awake) {
		pm_runtime_put(&buf->pdev->dev);
		user->awake = false;
	}
}

static void pci_p2pdma_buf_release(struct dma_buf *dmabuf)
{
	struct pci_p2pdma_buf *buf = dmabuf->priv;

	pci_dev_put(buf->pdev);
	kfree(buf);
}

static struct device *pci_p2pdma_buf_owner(struct dma_buf *dmabuf)
{
	struct pci_p2pdma_buf *buf = dmabuf->priv;

	return &buf->pdev->dev;
}

static const struct dma_buf_ops pci_p2pdma_buf_ops = {
	.attach		= pci_p2pdma_buf_attach,
	.detach		= pci_p2pdma_buf_detach,
	.pin		= pci_p2pdma_buf_pin,
	.unpin		= pci_p2pdma_buf_unpin,
	.map_dma_buf	= pci_p2pdma_buf_map,
	.unmap_dma_buf	= pci_p2pdma_buf_unmap,
	.release	= pci_p2pdma_buf_release,
	.p2p_owner	= pci_p2pdma_buf_owner,
};

static struct dma_buf *pci_p2pdma_buf_export(struct pci_dev *pdev, int bar)
{
	DEFINE_DMA_BUF_EXPORT_INFO(exp_info);
	struct pci_p2pdma_buf *buf;
	struct dma_buf *dmabuf;

	buf = kzalloc_obj(*buf);
	if (!buf)
		return ERR_PTR(-ENOMEM);

	buf->pdev = pci_dev_get(pdev);
	buf->bar = bar;
	buf->phys.paddr = pci_resource_start(pdev, bar);
	buf->phys.len = pci_resource_len(pdev, bar);
	buf->provider.owner = &pdev->dev;
	buf->provider.bus_offset =
		pci_bus_address(pdev, bar) - pci_resource_start(pdev, bar);
	init_completion(&buf->unmapped);

	exp_info.ops = &pci_p2pdma_buf_ops;
	exp_info.size = buf->phys.len;
	exp_info.flags = O_RDWR;
	exp_info.priv = buf;

	dmabuf = dma_buf_export(&exp_info);
	if (IS_ERR(dmabuf)) {
		pci_dev_put(buf->pdev);
		kfree(buf);
	}

	return dmabuf;
}

static struct pci_p2pdma_bars *pci_p2pdma_get_bars(struct pci_dev *pdev)
{
	struct pci_p2pdma_bars *bars, *old;
	int i;

	bars = READ_ONCE(pdev->p2pdma_bars);
	if (bars)
		return bars;

	bars = kzalloc_obj(*bars);
	if (!bars)
		return NULL;

	mutex_init(&bars->revoking);
	init_rwsem(&bars->faulting);
	for (i = 0; i < PCI_STD_NUM_BARS; i++) {
		bars->bar[i].pdev = pdev;
		bars->bar[i].nr = i;
		spin_lock_init(&bars->bar[i].lock);
	}

	/* Several processes may map their first BAR at the same time. */
	old = cmpxchg(&pdev->p2pdma_bars, NULL, bars);
	if (old) {
		kfree(bars);
		return old;
	}

	return bars;
}

/*
 * A BAR that has no addresses: something else is there. And mmap() rounds the
 * length of a BAR up to whole pages, and a small BAR can start in the middle of
 * one. DMA must not do that: what else lies in that page belongs to somebody else.
 */
static bool pci_p2pdma_bar_fits(struct pci_dev *pdev, int bar)
{
	return pci_resource_n(pdev, bar)->parent &&
	       PAGE_ALIGNED(pci_resource_start(pdev, bar)) &&
	       PAGE_ALIGNED(pci_resource_len(pdev, bar));
}

/* Gives a BAR its DMA-buf, if there may be one and there is none. */
static void pci_p2pdma_fill_bar(struct pci_p2pdma_bar *slot)
{
	struct pci_dev *pdev = slot->pdev;
	struct dma_buf *dmabuf;

	if (!pci_p2pdma_bar_fits(pdev, slot->nr))
		return;

	scoped_guard(spinlock, &slot->lock) {
		if (slot->dmabuf && pci_p2pdma_buf_in_place(slot->dmabuf->priv))
			return;
		if (atomic_read(&pdev->p2pdma_blocked)) {
			slot->revoked = true;
			return;
		}
	}

	/*
	 * That can fail for want of memory. The mapping itself works without, so
	 * do not fail the mmap(); the next one tries again.
	 */
	dmabuf = pci_p2pdma_buf_export(pdev, slot->nr);
	if (IS_ERR(dmabuf))
		return;

	scoped_guard(spinlock, &slot->lock) {
		if (atomic_read(&pdev->p2pdma_blocked)) {
			slot->revoked = true;
		} else if (!slot->dmabuf ||
			   !pci_p2pdma_buf_in_place(slot->dmabuf->priv)) {
			swap(slot->dmabuf, dmabuf);
			slot->revoked = false;
		}
	}

	/* One of a BAR that has moved, or this one is not wanted any more. */
	if (dmabuf)
		dma_buf_put(dmabuf);
}

/* Where p2p_buf() finds the DMA-buf of @bar; NULL if there is no such place. */
static struct pci_p2pdma_bar *pci_p2pdma_get_bar(struct pci_dev *pdev, int bar)
{
	struct pci_p2pdma_bars *bars;

	if (!pci_p2pdma_bar_fits(pdev, bar))
		return NULL;

	bars = pci_p2pdma_get_bars(pdev);
	if (!bars)
		return NULL;

	pci_p2pdma_fill_bar(&bars->bar[bar]);
	return &bars->bar[bar];
}

static int pci_p2pdma_vma_p2p_buf(struct vm_area_struct *vma,
				  unsigned long addr, struct dma_buf **dmabuf,
				  u64 *offset)
{
	struct pci_p2pdma_bar *slot = vma->vm_private_data;
	struct pci_p2pdma_buf *buf;
	phys_addr_t paddr;

	/* The process may be looking at a copy of the BAR. */
	if (!(vma->vm_flags & VM_MAYSHARE))
		return -EACCES;

	if (!slot)
		return -EFAULT;

	guard(spinlock)(&slot->lock);

	if (!slot->dmabuf)
		return slot->revoked ? -ENODEV : -EFAULT;

	/* pci_mmap_resource_range() made vm_pgoff the PFN of the BAR. */
	paddr = ((phys_addr_t)vma->vm_pgoff << PAGE_SHIFT) +
		(addr - vma->vm_start);

	/* A driver has claimed it: the mapping is dead for the CPU, too. */
	if (iomem_is_exclusive(paddr))
		return -ENODEV;

	buf = slot->dmabuf->priv;
	if (paddr < buf->phys.paddr ||
	    paddr - buf->phys.paddr >= buf->phys.len)
		return -EFAULT;

	get_dma_buf(slot->dmabuf);
	*dmabuf = slot->dmabuf;
	*offset = paddr - buf->phys.paddr;
	return 0;
}

/* Does @vma still show its BAR? */
static bool pci_p2pdma_vma_in_place(struct vm_area_struct *vma)
{
	struct pci_p2pdma_bar *slot = vma->vm_private_data;
	phys_addr_t paddr = PFN_PHYS(vma->vm_pgoff);

	return !atomic_read(&slot->pdev->p2pdma_zapped) &&
	       pci_p2pdma_bar_fits(slot->pdev, slot->nr) &&
	       paddr >= pci_resource_start(slot->pdev, slot->nr) &&
	       paddr + (vma->vm_end - vma->vm_start) - 1 <=
	       pci_resource_end(slot->pdev, slot->nr);
}

/*
 * Makes the PTEs of all that one page table covers: user space that touches a BAR
 * goes on to touch what is beside.
 */
static vm_fault_t pci_p2pdma_vma_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct pci_p2pdma_bar *slot = vma->vm_private_data;
	unsigned long first = max(ALIGN_DOWN(vmf->address, PMD_SIZE),
				  vma->vm_start);
	unsigned long left = min(PMD_SIZE - (first & ~PMD_MASK),
				 vma->vm_end - first);
	unsigned long pfn = vma->vm_pgoff - PHYS_PFN(vma->vm_start);
	unsigned long addr;
	vm_fault_t ret;

	/* One that had all its PTEs from the start has lost them for good. */
	if (!slot)
		return VM_FAULT_SIGBUS;

	guard(rwsem_read)(&slot->pdev->p2pdma_bars->faulting);

	/* What a driver claims, of all or a part of the BAR, is not for user space. */
	if (!pci_p2pdma_vma_in_place(vma) ||
	    iomem_is_exclusive(PFN_PHYS(pfn + PHYS_PFN(vmf->address))))
		return VM_FAULT_SIGBUS;

	ret = vmf_insert_pfn(vma, vmf->address, pfn + PHYS_PFN(vmf->address));
	if (ret != VM_FAULT_NOPAGE ||
	    resource_is_exclusive(&iomem_resource,
				  PFN_PHYS(pfn + PHYS_PFN(first)), left))
		return ret;

	for (addr = first; addr < first + left; addr += PAGE_SIZE) {
		if (vmf_insert_pfn(vma, addr, pfn + PHYS_PFN(addr)) !=
		    VM_FAULT_NOPAGE)
			break;
	}

	return VM_FAULT_NOPAGE;
}

#ifdef CONFIG_HAVE_IOREMAP_PROT
static int pci_p2pdma_vma_access(struct vm_area_struct *vma, unsigned long addr,
				 void *buf, int len, int write)
{
	int ret;

	/* generic_access_phys() finds the BAR by the PTE. */
	ret = fixup_user_fault(vma->vm_mm, addr, write ? FAULT_FLAG_WRITE : 0,
			       NULL);
	if (ret)
		return ret;

	return generic_access_phys(vma, addr, buf, len, write);
}
#endif

static const struct vm_operations_struct pci_p2pdma_vm_ops = {
	.fault		= pci_p2pdma_vma_fault,
#ifdef CONFIG_HAVE_IOREMAP_PROT
	.access		= pci_p2pdma_vma_access,
#endif
	.p2p_buf	= pci_p2pdma_vma_p2p_buf,
};

/**
 * pci_p2pdma_buf_mmap - put the DMA-buf of a BAR behind a mapping of the BAR
 * @pdev: PCI device
 * @bar: number of the memory BAR
 * @vma: mapping just made by pci_mmap_resource_range() for a sysfs file
 *
 * Give @vma the operation p2p_buf(), and the BAR its DMA-buf if it has none. Take
 * the PTEs away again that pci_mmap_resource_range() has made: until mmap() ends,
 * nobody finds @vma who wants to zap the BAR, and the file may be gone by then. A
 * page fault makes them, which kernfs does not let happen without the file. (A
 * private mapping that can be written to must have all PTEs from the start, and
 * keeps them.)
 *
 * kernfs demands that all mappings of an open file have the same vm_ops, so every
 * mapping gets the operation, also one for which it can only fail: a private one
 * (-EACCES), and one of a BAR that does not fill its pages (-EFAULT).
 *
 * The operation uses what @pdev owns and takes no reference to @pdev. Only kernfs
 * makes that safe: it calls the operation under an active reference of the file,
 * which @pdev outlives. A mapping of another file must not use this.
 *
 * Context: mmap() of the file, may sleep.
 */
void pci_p2pdma_buf_mmap(struct pci_dev *pdev, int bar,
			 struct vm_area_struct *vma)
{
	struct pci_p2pdma_bar *slot;

	if (importers == PCI_P2PDMA_IMPORTERS_OFF)
		return;

	/* Also for a private mapping: pci_p2pdma_buf_zap() is to know of it. */
	slot = pci_p2pdma_get_bar(pdev, bar);
	if (slot && (vma->vm_flags & VM_MAYSHARE)) {
		vma->vm_private_data = slot;
		zap_special_vma_range(vma, vma->vm_start,
				      vma->vm_end - vma->vm_start);
	}

	vma->vm_ops = &pci_p2pdma_vm_ops;
}

/*
 * The IOMMU stops the devices of those who do not unmap soon: of all, or of those
 * only who were not told to. The addresses stay their own until they unmap.
 * Returns whether that has stopped them.
 */
static bool pci_p2pdma_buf_write_off(struct dma_buf *dmabuf, bool all)
{
	struct pci_p2pdma_buf *buf = dmabuf->priv;
	struct dma_buf_attachment *attach;
	bool stopped = true;

	dma_resv_assert_held(dmabuf->resv);

	list_for_each_entry(attach, &dmabuf->attachments, node) {
		struct pci_p2pdma_buf_user *user = attach->priv;

		if (!user->sgt || user->written_off ||
		    (!all && dma_buf_attach_revocable(attach)))
			continue;
		if (dma_buf_unlink_sgt(attach, user->sgt, user->dir))
			stopped = false;
		user->written_off = true;
		buf->nr_mapped--;
	}

	return stopped;
}

static void pci_p2pdma_buf_revoke_one(struct dma_buf *dmabuf)
{
	struct pci_p2pdma_buf *buf = dmabuf->priv;
	bool idle, stopped;

	dma_resv_lock(dmabuf->resv, NULL);
	WRITE_ONCE(buf->revoked, true);
	dma_buf_invalidate_mappings(dmabuf);
	idle = dma_resv_wait_timeout(dmabuf->resv, DMA_RESV_USAGE_BOOKKEEP,
				     false, PCI_P2PDMA_BUF_REVOKE_TIMEOUT) > 0;
	stopped = pci_p2pdma_buf_write_off(dmabuf, false);
	if (!buf->nr_mapped)
		complete_all(&buf->unmapped);
	dma_resv_unlock(dmabuf->resv);

	/* Without the lock: an importer that did not unmap yet needs it. */
	if (!wait_for_completion_timeout(&buf->unmapped,
					 PCI_P2PDMA_BUF_REVOKE_TIMEOUT)) {
		dma_resv_lock(dmabuf->resv, NULL);
		if (!pci_p2pdma_buf_write_off(dmabuf, true))
			stopped = false;
		dma_resv_unlock(dmabuf->resv);
	}

	if (!idle || !stopped)
		pci_err(buf->pdev, "BAR %d revoked, but a peer device still has it mapped for DMA\n",
			buf->bar);
}

/**
 * pci_p2pdma_buf_block - take the BARs of a device back from its peers
 * @pdev: PCI device
 *
 * Stop all peer-to-peer DMA that goes through the DMA-bufs of @pdev's BARs: no
 * new attachment and no new mapping succeeds (-ENODEV), the importers are told to
 * give up the mappings they have, and when this returns they have done so, or the
 * IOMMU does not translate for them any more. If one has not, because it was let
 * in by p2pdma_buf.importers=any or takes too long, that is logged as an error.
 * Call it before the BARs go away or change their meaning.
 *
 * The DMA-bufs revoked here stay so for good. The BARs get new ones when
 * pci_p2pdma_buf_unblock() was called as often as this.
 *
 * Mappings of the BARs into user space are left as they are, see
 * pci_p2pdma_buf_zap().
 *
 * Context: May sleep. Importers are called under the reservation lock of the
 * DMA-buf; the caller may hold device_lock() and pci_rescan_remove_lock, which
 * importers therefore must not take on the way to unmapping.
 */
void pci_p2pdma_buf_block(struct pci_dev *pdev)
{
	struct pci_p2pdma_bars *bars;
	struct dma_buf *dmabuf;
	int i;

	atomic_inc(&pdev->p2pdma_blocked);
	/* Whoever makes p2pdma_bars after it was looked for below sees that. */
	smp_mb__after_atomic();

	bars = READ_ONCE(pdev->p2pdma_bars);
	if (!bars)
		return;

	guard(mutex)(&bars->revoking);

	for (i = 0; i < PCI_STD_NUM_BARS; i++) {
		struct pci_p2pdma_bar *slot = &bars->bar[i];

		scoped_guard(spinlock, &slot->lock) {
			dmabuf = slot->dmabuf;
			if (dmabuf) {
				slot->dmabuf = NULL;
				slot->revoked = true;
			}
		}

		if (dmabuf) {
			pci_p2pdma_buf_revoke_one(dmabuf);
			dma_buf_put(dmabuf);
		}
	}
}

/**
 * pci_p2pdma_buf_unblock - let peers use the BARs of a device again
 * @pdev: PCI device
 *
 * The counterpart of pci_p2pdma_buf_block(). BARs that are mapped into user space
 * get new DMA-bufs, which p2p_buf() finds also from mappings made before. Where
 * there is no memory for one, the next mmap() tries again.
 *
 * Context: May sleep.
 */
void pci_p2pdma_buf_unblock(struct pci_dev *pdev)
{
	struct pci_p2pdma_bars *bars;
	bool revoked;
	int i;

	if (!atomic_dec_and_test(&pdev->p2pdma_blocked))
		return;

	/* Whoever makes these after that sees that nothing is blocked. */
	bars = READ_ONCE(pdev->p2pdma_bars);
	if (!bars)
		return;

	for (i = 0; i < PCI_STD_NUM_BARS; i++) {
		struct pci_p2pdma_bar *slot = &bars->bar[i];

		/* The lock: who still saw it blocked has said so in @revoked. */
		scoped_guard(spinlock, &slot->lock)
			revoked = slot->revoked;
		if (revoked)
			pci_p2pdma_fill_bar(slot);
	}
}

/**
 * pci_p2pdma_buf_zap - take the BARs of a device away from user space
 * @pdev: PCI device
 *
 * What was mapped through sysfs, /proc/bus/pci or /dev/mem becomes SIGBUS: for
 * when the addresses become free for other devices. After pci_p2pdma_buf_unzap()
 * mappings made through sysfs work again if the BAR is where it was and the file
 * still exists.
 *
 * The caller sees to it that nobody maps the BARs in other ways any more. BARs
 * that share a page with something else are left out. Nothing happens if no BAR
 * was ever mapped through sysfs, and with p2pdma_buf.importers=off.
 *
 * Context: May sleep.
 */
void pci_p2pdma_buf_zap(struct pci_dev *pdev)
{
	struct pci_p2pdma_bars *bars;
	int i;

	atomic_inc(&pdev->p2pdma_zapped);
	/* Whoever makes p2pdma_bars after it was looked for below sees that. */
	smp_mb__after_atomic();

	bars = READ_ONCE(pdev->p2pdma_bars);
	if (!bars)
		return;

	guard(rwsem_write)(&bars->faulting);

	for (i = 0; i < PCI_STD_NUM_BARS; i++) {
		if (!(pci_resource_flags(pdev, i) & IORESOURCE_MEM) ||
		    !pci_p2pdma_bar_fits(pdev, i))
			continue;

		unmap_mapping_range(iomem_get_mapping(),
				    pci_resource_start(pdev, i),
				    pci_resource_len(pdev, i), 1);
	}
}

/**
 * pci_p2pdma_buf_unzap - give the BARs of a device back to user space
 * @pdev: PCI device
 *
 * The counterpart of pci_p2pdma_buf_zap(), for when the addresses are settled.
 *
 * Context: Any.
 */
void pci_p2pdma_buf_unzap(struct pci_dev *pdev)
{
	atomic_dec(&pdev->p2pdma_zapped);
}

/**
 * pci_p2pdma_buf_free - free what pci_p2pdma_buf_mmap() left in a PCI device
 * @pdev: PCI device that is being released
 *
 * No DMA-buf is left: each holds a reference to @pdev.
 */
void pci_p2pdma_buf_free(struct pci_dev *pdev)
{
	kfree(pdev->p2pdma_bars);
}
