// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * simhca: doorbell pages (UARs); user contexts and what they map: UARs, the status page, the kick
 * page.
 */

#include <rdma/simhca-abi.h>
#include <rdma/uverbs_ioctl.h>

#include "simhca.h"

/**
 * struct simhca_mmap_entry - a page of a BAR that a process may map
 * @rdma_entry: embedded
 * @addr: physical address
 * @writable: false: may be mapped read only
 */
struct simhca_mmap_entry {
	struct rdma_user_mmap_entry rdma_entry;
	phys_addr_t addr;
	bool writable;
};

static struct simhca_mmap_entry *to_smmap(struct rdma_user_mmap_entry *rdma_entry)
{
	return container_of(rdma_entry, struct simhca_mmap_entry, rdma_entry);
}

static struct rdma_user_mmap_entry *simhca_mmap_insert(struct simhca_ucontext *uctx,
						       phys_addr_t addr, bool writable)
{
	struct simhca_mmap_entry *entry;
	int err;

	entry = kzalloc_obj(*entry);
	if (!entry)
		return ERR_PTR(-ENOMEM);

	entry->addr = addr;
	entry->writable = writable;
	err = rdma_user_mmap_entry_insert(&uctx->ibucontext, &entry->rdma_entry, SIMHCA_PAGE_SIZE);
	if (err) {
		kfree(entry);
		return ERR_PTR(err);
	}
	return &entry->rdma_entry;
}

void simhca_mmap_free(struct rdma_user_mmap_entry *rdma_entry)
{
	kfree(to_smmap(rdma_entry));
}

int simhca_mmap(struct ib_ucontext *ibucontext, struct vm_area_struct *vma)
{
	struct simhca_dev *dev = to_sdev(ibucontext->device);
	struct rdma_user_mmap_entry *rdma_entry;
	struct simhca_mmap_entry *entry;
	int err = -EINVAL;

	rdma_entry = rdma_user_mmap_entry_get(ibucontext, vma);
	if (!rdma_entry)
		goto out;

	entry = to_smmap(rdma_entry);
	if (!entry->writable) {
		if (vma->vm_flags & VM_WRITE) {
			err = -EPERM;
			goto out_put;
		}
		vm_flags_clear(vma, VM_MAYWRITE);
	}
	err = rdma_user_mmap_io(ibucontext, vma, PHYS_PFN(entry->addr), SIMHCA_PAGE_SIZE,
				pgprot_noncached(vma->vm_page_prot), rdma_entry);
out_put:
	rdma_user_mmap_entry_put(rdma_entry);
out:
	if (err) {
		ibdev_dbg(&dev->ibdev, "cannot map page %#lx: %pe\n", vma->vm_pgoff, ERR_PTR(err));
		simhca_count(dev, SIMHCA_CNT_MMAP_ERR);
	}
	return err;
}

static struct simhca_uar_page *simhca_uar_alloc(struct simhca_uar_pool *pool)
{
	struct simhca_dev *dev = pool->dev;
	struct simhca_uar_page *uar;
	phys_addr_t addr;
	int err;

	uar = kzalloc_obj(*uar);
	if (!uar)
		return ERR_PTR(-ENOMEM);

	err = ida_alloc_range(&dev->uars, SIMHCA_FIRST_USER_UAR, SIMHCA_MAX_UARS - 1, GFP_KERNEL);
	if (err < 0)
		goto err_free;
	uar->index = err;

	/* What another process left there is none of this one's business */
	memset_io(simhca_uar_addr(dev, uar->index), 0, SIMHCA_PAGE_SIZE);
	if (!pool->uctx)
		return uar;

	addr = pci_resource_start(dev->pdev, SIMHCA_BAR_DB) +
	       (phys_addr_t)uar->index * SIMHCA_PAGE_SIZE;
	uar->entry = simhca_mmap_insert(pool->uctx, addr, true);
	if (IS_ERR(uar->entry)) {
		err = PTR_ERR(uar->entry);
		goto err_index;
	}
	return uar;

err_index:
	ida_free(&dev->uars, uar->index);
err_free:
	kfree(uar);
	return ERR_PTR(err);
}

static void simhca_uar_free(struct simhca_uar_pool *pool, struct simhca_uar_page *uar)
{
	if (pool->uctx)
		rdma_user_mmap_entry_remove(uar->entry);
	ida_free(&pool->dev->uars, uar->index);
	kfree(uar);
}

/**
 * simhca_uar_pool_init - initialize a set of doorbell pages
 * @pool: the set, without pages
 * @dev: the device
 * @uctx: the context that may map them, or NULL: the kernel
 */
void simhca_uar_pool_init(struct simhca_uar_pool *pool, struct simhca_dev *dev,
			  struct simhca_ucontext *uctx)
{
	pool->dev = dev;
	pool->uctx = uctx;
	mutex_init(&pool->lock);
	INIT_LIST_HEAD(&pool->uars);
}

/**
 * simhca_uar_pool_cleanup - free a set of doorbell pages
 * @pool: the set; all objects are gone, and so are all mappings: a UAR may be used by somebody else
 */
void simhca_uar_pool_cleanup(struct simhca_uar_pool *pool)
{
	struct simhca_uar_page *uar, *next;

	list_for_each_entry_safe(uar, next, &pool->uars, list) {
		list_del(&uar->list);
		simhca_uar_free(pool, uar);
	}
	mutex_destroy(&pool->lock);
}

static unsigned long *simhca_slot_map(struct simhca_uar_page *uar, enum simhca_slot_type type,
				      u32 *num)
{
	switch (type) {
	case SIMHCA_SLOT_QP:
		*num = SIMHCA_UAR_QP_SLOTS;
		return uar->qps;
	case SIMHCA_SLOT_SRQ:
		*num = SIMHCA_UAR_SRQ_SLOTS;
		return uar->srqs;
	case SIMHCA_SLOT_CQ:
	default:
		*num = SIMHCA_UAR_CQ_SLOTS;
		return uar->cqs;
	}
}

static bool simhca_slot_find(struct simhca_uar_page *uar, enum simhca_slot_type type,
			     struct simhca_slot *slot)
{
	unsigned long *map;
	u32 num;

	map = simhca_slot_map(uar, type, &num);
	slot->uar = uar;
	slot->index = find_first_zero_bit(map, num);
	if (slot->index == num)
		return false;

	__set_bit(slot->index, map);
	return true;
}

/**
 * simhca_slot_alloc - get a doorbell for an object
 * @pool: that of the context the object belongs to, or of the kernel
 * @type: kind of object
 * @slot: filled in
 *
 * Context: process.
 * Return: 0 or an errno.
 */
int simhca_slot_alloc(struct simhca_uar_pool *pool, enum simhca_slot_type type,
		      struct simhca_slot *slot)
{
	struct simhca_uar_page *uar;
	int err = 0;

	mutex_lock(&pool->lock);
	list_for_each_entry(uar, &pool->uars, list)
		if (simhca_slot_find(uar, type, slot))
			goto out;

	uar = simhca_uar_alloc(pool);
	if (IS_ERR(uar)) {
		err = PTR_ERR(uar);
		goto out;
	}
	list_add_tail(&uar->list, &pool->uars);
	simhca_slot_find(uar, type, slot);
out:
	mutex_unlock(&pool->lock);
	return err;
}

/**
 * simhca_slot_free - give a doorbell back
 * @pool: where it came from
 * @type: kind of object
 * @slot: the doorbell
 */
void simhca_slot_free(struct simhca_uar_pool *pool, enum simhca_slot_type type,
		      struct simhca_slot *slot)
{
	unsigned long *map;
	u32 num;

	mutex_lock(&pool->lock);
	map = simhca_slot_map(slot->uar, type, &num);
	__clear_bit(slot->index, map);
	mutex_unlock(&pool->lock);
}

static void simhca_ucontext_resp(struct simhca_ucontext *uctx,
				 struct simhca_ibv_alloc_ucontext_resp *resp)
{
	const struct simhca_caps *caps = &to_sdev(uctx->ibucontext.device)->caps;

	*resp = (struct simhca_ibv_alloc_ucontext_resp) {
		.status_mmap_key = rdma_user_mmap_get_offset(uctx->status),
		.kick_mmap_key = rdma_user_mmap_get_offset(uctx->kick),
		.max_inline = caps->max_inline,
		.max_sge = caps->max_sge,
		.max_log_wr = caps->max_log_wr,
		.max_log_cqe = caps->max_log_cqe,
	};
}

int simhca_alloc_ucontext(struct ib_ucontext *ibucontext, struct ib_udata *udata)
{
	struct simhca_ucontext *uctx = to_suctx(ibucontext);
	struct simhca_dev *dev = to_sdev(ibucontext->device);
	struct simhca_ibv_alloc_ucontext_resp resp;
	int err;

	simhca_uar_pool_init(&uctx->uars, dev, uctx);

	err = ib_is_udata_in_empty(udata);
	if (err)
		goto err_out;

	uctx->status = simhca_mmap_insert(uctx, pci_resource_start(dev->pdev, SIMHCA_BAR_DB) +
					  SIMHCA_STATUS_UAR * SIMHCA_PAGE_SIZE, false);
	if (IS_ERR(uctx->status)) {
		err = PTR_ERR(uctx->status);
		goto err_out;
	}
	uctx->kick = simhca_mmap_insert(uctx, pci_resource_start(dev->pdev, SIMHCA_BAR_REGS) +
					SIMHCA_KICK_PAGE, true);
	if (IS_ERR(uctx->kick)) {
		err = PTR_ERR(uctx->kick);
		goto err_status;
	}

	simhca_ucontext_resp(uctx, &resp);
	err = ib_respond_udata(udata, resp);
	if (err)
		goto err_kick;

	return 0;

err_kick:
	rdma_user_mmap_entry_remove(uctx->kick);
err_status:
	rdma_user_mmap_entry_remove(uctx->status);
err_out:
	simhca_uar_pool_cleanup(&uctx->uars);
	simhca_count(dev, SIMHCA_CNT_ALLOC_UCONTEXT_ERR);
	return err;
}

/* For another who has the file of a context, and uses it as his own */
int simhca_query_ucontext(struct ib_ucontext *ibucontext, struct uverbs_attr_bundle *attrs)
{
	struct simhca_ibv_alloc_ucontext_resp resp;

	simhca_ucontext_resp(to_suctx(ibucontext), &resp);
	return uverbs_copy_to_struct_or_zero(attrs, SIMHCA_ATTR_QUERY_CONTEXT_RESP, &resp,
					     sizeof(resp));
}

void simhca_dealloc_ucontext(struct ib_ucontext *ibucontext)
{
	struct simhca_ucontext *uctx = to_suctx(ibucontext);

	simhca_uar_pool_cleanup(&uctx->uars);
	rdma_user_mmap_entry_remove(uctx->kick);
	rdma_user_mmap_entry_remove(uctx->status);
}

/* Its presence says that a device can go away under open contexts. ib_core zaps the mappings. */
void simhca_disassociate_ucontext(struct ib_ucontext *ibucontext)
{
}
