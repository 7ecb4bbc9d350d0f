// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Memory regions in the memory of other PCI devices
 *
 * The backend of ib_umem for user mappings that GUP cannot pin because there is
 * no struct page behind them: the buffer of the VMA's owner is mapped for the
 * HCA instead, see sgl_dma_map_user(). The result is an ordinary umem, of which
 * only the DMA side of the list exists.
 */
#include <linux/dma-sg-table.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <rdma/ib_umem.h>
#include <rdma/ib_verbs.h>

#include "umem_p2p.h"

static bool umem_p2p = true;
module_param(umem_p2p, bool, 0444);
MODULE_PARM_DESC(umem_p2p,
		 "Let memory regions lie in memory of other PCI devices (default: true)");

/**
 * struct ib_umem_p2p - a umem in device memory
 * @umem:	the umem, with a copy of @table's list
 * @table:	the list, and what holds it
 */
struct ib_umem_p2p {
	struct ib_umem umem;
	struct dma_sg_table *table;
};

static struct ib_umem_p2p *to_ib_umem_p2p(struct ib_umem *umem)
{
	return container_of(umem, struct ib_umem_p2p, umem);
}

/* What pinning says of a range that could be device memory. */
static bool umem_p2p_applies(int pin_err)
{
	switch (pin_err) {
	case -EFAULT:	/* VM_IO or VM_PFNMAP, or nothing there */
	case -EEXIST:	/* a PTE without page in a VM_MIXEDMAP */
	case -EPERM:	/* not allowed to lock memory: not looked at yet */
	case -ENOMEM:	/* over RLIMIT_MEMLOCK: not looked at yet */
		return true;
	default:
		return false;
	}
}

/**
 * ib_umem_p2p_get - make a umem of device memory, where that is what it is
 * @device:	IB device
 * @addr:	user address, in the mm of current
 * @size:	bytes
 * @access:	IB access flags
 * @pin_err:	why the memory cannot be pinned, a negative errno
 *
 * Not charged to RLIMIT_MEMLOCK.
 *
 * Context: process context, may sleep; see sgl_dma_map_user().
 *
 * Return: the umem, or an ERR_PTR(): @pin_err where the range is not in whole
 * memory of exporters, %-EOPNOTSUPP when @device needs lists for the CPU, and the
 * errors of sgl_dma_map_user().
 */
struct ib_umem *ib_umem_p2p_get(struct ib_device *device, unsigned long addr,
				size_t size, int access, int pin_err)
{
	bool writable = ib_access_writable(access);
	struct dma_sg_table *table;
	struct ib_umem_p2p *p2p;
	unsigned long start;
	size_t len;
	int ret;

	if (!umem_p2p || !umem_p2p_applies(pin_err))
		return ERR_PTR(pin_err);
	/* -EPERM comes before these are looked at. */
	if (!size || (access & IB_ACCESS_ON_DEMAND))
		return ERR_PTR(pin_err);

	/* A umem is made of whole pages. The range was checked to not overflow. */
	start = untagged_addr(addr);
	len = PAGE_ALIGN(start + size) - (start & PAGE_MASK);
	start &= PAGE_MASK;

	if (device->needs_cpu_sgl) {
		ret = sgl_dma_check_user(start, len, writable);
		if (ret && ret != -EACCES && ret != -ENODEV)
			return ERR_PTR(ret == -EFAULT ? pin_err : ret);
		ibdev_dbg(device,
			  "device memory at [%#lx, +%#zx) refused: the data path is the CPU\n",
			  addr, size);
		return ERR_PTR(-EOPNOTSUPP);
	}

	table = sgl_dma_map_user(device->dma_device, start, len, writable);
	if (IS_ERR(table)) {
		ret = PTR_ERR(table);
		if (ret == -EFAULT)
			return ERR_PTR(pin_err);
		ibdev_dbg(device,
			  "device memory at [%#lx, +%#zx) refused: %pe\n",
			  addr, size, table);
		return ERR_PTR(ret);
	}

	p2p = kzalloc_obj(*p2p);
	if (!p2p) {
		sgl_dma_unmap(table);
		return ERR_PTR(-ENOMEM);
	}

	p2p->table = table;
	p2p->umem.ibdev = device;
	p2p->umem.address = addr;
	p2p->umem.iova = addr;
	p2p->umem.length = size;
	p2p->umem.writable = writable;
	p2p->umem.is_p2p = 1;
	p2p->umem.sgt_append.sgt = table->sgt;
	return &p2p->umem;
}

/**
 * ib_umem_p2p_release - release a umem of device memory
 * @umem:	from ib_umem_p2p_get()
 *
 * Context: process context, may sleep.
 */
void ib_umem_p2p_release(struct ib_umem *umem)
{
	struct ib_umem_p2p *p2p = to_ib_umem_p2p(umem);

	sgl_dma_unmap(p2p->table);
	kfree(p2p);
}
