// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Memory regions in the memory of other PCI devices
 *
 * The backend of ib_umem for user mappings that GUP cannot pin because there is
 * no struct page behind them: the buffer of the VMA's owner is mapped for the
 * HCA instead, see sgl_dma_map_user(). The result is an ordinary umem, of which
 * only the DMA side of the list exists. What is ordinary memory in a range that
 * has both is pinned as ever.
 */
#include <linux/cleanup.h>
#include <linux/dma-sg-table.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/overflow.h>
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
 * struct umem_p2p_piece - a part of a umem, memory of one kind
 * @table:	device memory, or NULL
 * @pinned:	ordinary memory, or NULL
 */
struct umem_p2p_piece {
	struct dma_sg_table *table;
	struct ib_umem *pinned;
};

/**
 * struct ib_umem_p2p - a umem in device memory, or in part in device memory
 * @umem:	the umem. Its list is that of the only piece, or all pieces' in one
 * @lock:	protects @revoked, @revoke and @priv; taken under the reservation
 *		locks of the buffers the umem lies in
 * @revoked:	an exporter has taken its memory back
 * @revoke:	provider's hook, or NULL
 * @priv:	argument of @revoke
 * @joined:	the list is not that of the only piece
 * @nr_pieces:	number of @pieces
 * @pieces:	in the order of their addresses
 */
struct ib_umem_p2p {
	struct ib_umem umem;
	struct mutex lock;	/* serialises revocation and the provider */
	bool revoked;
	void (*revoke)(void *priv);
	void *priv;
	bool joined;
	unsigned int nr_pieces;
	struct umem_p2p_piece pieces[] __counted_by(nr_pieces);
};

static struct ib_umem_p2p *to_ib_umem_p2p(struct ib_umem *umem)
{
	return container_of(umem, struct ib_umem_p2p, umem);
}

static void umem_p2p_revoke(void *priv)
{
	struct ib_umem_p2p *p2p = priv;

	guard(mutex)(&p2p->lock);

	/* One of its buffers was enough for all of it. */
	if (p2p->revoked)
		return;
	WRITE_ONCE(p2p->revoked, true);
	if (p2p->revoke)
		p2p->revoke(p2p->priv);
}

static const struct dma_sg_ops umem_p2p_ops = {
	.revoke = umem_p2p_revoke,
};

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

static struct ib_umem_p2p *umem_p2p_alloc(unsigned int nr_pieces)
{
	struct ib_umem_p2p *p2p;

	p2p = kvzalloc_flex(*p2p, pieces, nr_pieces);
	if (!p2p)
		return ERR_PTR(-ENOMEM);
	p2p->nr_pieces = nr_pieces;
	mutex_init(&p2p->lock);
	return p2p;
}

static void umem_p2p_free(struct ib_umem_p2p *p2p)
{
	struct sg_table *sgt = &p2p->umem.sgt_append.sgt;
	unsigned int i;

	if (p2p->joined) {
		/* sg_free_table() frees what was allocated. */
		sgt->orig_nents = sgt->nents;
		sg_free_table(sgt);
	}
	for (i = 0; i < p2p->nr_pieces; i++) {
		if (p2p->pieces[i].table)
			sgl_dma_unmap(p2p->pieces[i].table);
		ib_umem_release(p2p->pieces[i].pinned);
	}
	mutex_destroy(&p2p->lock);
	kvfree(p2p);
}

static struct dma_sg_table *umem_p2p_map(struct ib_umem_p2p *p2p,
					 struct ib_device *device,
					 unsigned long start, size_t len,
					 bool writable, bool revocable)
{
	return sgl_dma_map_user(device->dma_device, start, len, writable,
				revocable ? &umem_p2p_ops : NULL, p2p);
}

/* All of it is device memory, or %-EFAULT. */
static struct ib_umem_p2p *umem_p2p_get_device(struct ib_device *device,
					       unsigned long start, size_t len,
					       bool writable, bool revocable)
{
	struct dma_sg_table *table;
	struct ib_umem_p2p *p2p;

	p2p = umem_p2p_alloc(1);
	if (IS_ERR(p2p))
		return p2p;

	table = umem_p2p_map(p2p, device, start, len, writable, revocable);
	if (IS_ERR(table)) {
		umem_p2p_free(p2p);
		return ERR_CAST(table);
	}

	p2p->pieces[0].table = table;
	p2p->umem.sgt_append.sgt = table->sgt;
	return p2p;
}

static struct sg_table *umem_p2p_piece_sgt(struct umem_p2p_piece *piece)
{
	return piece->table ? &piece->table->sgt :
			      &piece->pinned->sgt_append.sgt;
}

/* Makes one list of the pieces' lists. */
static int umem_p2p_join(struct ib_umem_p2p *p2p)
{
	struct sg_table *sgt = &p2p->umem.sgt_append.sgt;
	struct scatterlist *from, *to;
	unsigned int i, nents = 0;
	int j, ret;

	for (i = 0; i < p2p->nr_pieces; i++) {
		unsigned int n = umem_p2p_piece_sgt(&p2p->pieces[i])->nents;

		if (check_add_overflow(nents, n, &nents))
			return -EINVAL;
	}

	ret = sg_alloc_table(sgt, nents, GFP_KERNEL);
	if (ret)
		return ret;
	/* The pages of the pinned pieces are not for the user of this list. */
	sgt->orig_nents = 0;
	p2p->joined = true;

	to = sgt->sgl;
	for (i = 0; i < p2p->nr_pieces; i++) {
		for_each_sgtable_dma_sg(umem_p2p_piece_sgt(&p2p->pieces[i]),
					from, j) {
			sg_dma_address(to) = sg_dma_address(from);
			sg_dma_len(to) = sg_dma_len(from);
			to = sg_next(to);
		}
	}
	return 0;
}

/*
 * Counts the runs of device memory and of other memory. 0 when there is no device
 * memory, or a hole; %-EINTR and %-ENOMEM.
 */
static int umem_p2p_count_runs(unsigned long start, size_t len, bool writable)
{
	unsigned long end = start + len, next;
	bool device = false;
	int ret, nr = 0;

	for (; start < end; start = next) {
		ret = sgl_dma_next_run(start, end, writable, &next);
		if (ret < 0)
			return ret == -EFAULT ? 0 : ret;
		device |= ret;
		nr++;
	}
	return device ? nr : 0;
}

/* Device memory and ordinary memory, in any order. */
static struct ib_umem_p2p *umem_p2p_get_mixed(struct ib_device *device,
					      unsigned long start, size_t len,
					      int access, bool revocable)
{
	bool writable = ib_access_writable(access);
	unsigned long end = start + len, next;
	struct ib_umem_p2p *p2p;
	unsigned int i;
	int ret, nr;

	nr = umem_p2p_count_runs(start, len, writable);
	if (nr <= 0)
		return ERR_PTR(nr ?: -EFAULT);

	p2p = umem_p2p_alloc(nr);
	if (IS_ERR(p2p))
		return p2p;

	for (i = 0; start < end; start = next, i++) {
		struct umem_p2p_piece piece = {};
		void *got;

		ret = sgl_dma_next_run(start, end, writable, &next);
		if (ret < 0)
			goto err_free;
		/* Somebody is changing the mappings. */
		if (i == p2p->nr_pieces) {
			ret = -EFAULT;
			goto err_free;
		}

		if (ret)
			got = piece.table =
				umem_p2p_map(p2p, device, start, next - start,
					     writable, revocable);
		else
			got = piece.pinned =
				ib_umem_get_va(device, start, next - start,
					       access);
		if (IS_ERR(got)) {
			ret = PTR_ERR(got);
			goto err_free;
		}
		p2p->pieces[i] = piece;
	}

	ret = i == p2p->nr_pieces ? umem_p2p_join(p2p) : -EFAULT;
	if (ret)
		goto err_free;
	return p2p;

err_free:
	umem_p2p_free(p2p);
	return ERR_PTR(ret);
}

/**
 * ib_umem_p2p_get - make a umem of device memory, where that is what it is
 * @device:	IB device
 * @addr:	user address, in the mm of current
 * @size:	bytes
 * @access:	IB access flags
 * @pin_err:	why the memory cannot be pinned, a negative errno
 * @revocable:	the provider has a hook, see ib_umem_set_revoke_locked()
 *
 * A part of the range may be ordinary memory. That part is pinned, and charged to
 * RLIMIT_MEMLOCK; device memory is not.
 *
 * Context: process context, may sleep; see sgl_dma_map_user().
 *
 * Return: the umem, or an ERR_PTR(): @pin_err where there is no memory of
 * exporters in the range, or a hole; %-EOPNOTSUPP when @device needs lists for the
 * CPU; the errors of sgl_dma_map_user(), and of ib_umem_get_va().
 */
struct ib_umem *ib_umem_p2p_get(struct ib_device *device, unsigned long addr,
				size_t size, int access, int pin_err,
				bool revocable)
{
	bool writable = ib_access_writable(access);
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
		ret = umem_p2p_count_runs(start, len, writable);
		if (ret <= 0)
			return ERR_PTR(ret ?: pin_err);
		ibdev_dbg(device,
			  "device memory at [%#lx, +%#zx) refused: the data path is the CPU\n",
			  addr, size);
		return ERR_PTR(-EOPNOTSUPP);
	}

	p2p = umem_p2p_get_device(device, start, len, writable, revocable);
	if (p2p == ERR_PTR(-EFAULT))
		p2p = umem_p2p_get_mixed(device, start, len, access, revocable);
	if (p2p == ERR_PTR(-EFAULT))
		return ERR_PTR(pin_err);
	if (IS_ERR(p2p)) {
		ibdev_dbg(device,
			  "device memory at [%#lx, +%#zx) refused: %pe\n",
			  addr, size, p2p);
		return ERR_CAST(p2p);
	}

	p2p->umem.ibdev = device;
	p2p->umem.address = addr;
	p2p->umem.iova = addr;
	p2p->umem.length = size;
	p2p->umem.writable = writable;
	p2p->umem.is_p2p = 1;
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
	umem_p2p_free(to_ib_umem_p2p(umem));
}

/**
 * ib_umem_p2p_lock - exclude revocation
 * @umem:	from ib_umem_p2p_get()
 */
void ib_umem_p2p_lock(struct ib_umem *umem)
{
	mutex_lock(&to_ib_umem_p2p(umem)->lock);
}

/**
 * ib_umem_p2p_unlock - end what ib_umem_p2p_lock() began
 * @umem:	from ib_umem_p2p_get()
 */
void ib_umem_p2p_unlock(struct ib_umem *umem)
{
	mutex_unlock(&to_ib_umem_p2p(umem)->lock);
}

/**
 * ib_umem_p2p_set_revoke_locked - set what stops the HCA
 * @umem:	from ib_umem_p2p_get(), locked
 * @revoke:	the hook, or NULL
 * @priv:	its argument
 */
void ib_umem_p2p_set_revoke_locked(struct ib_umem *umem,
				   void (*revoke)(void *priv), void *priv)
{
	struct ib_umem_p2p *p2p = to_ib_umem_p2p(umem);

	lockdep_assert_held(&p2p->lock);

	p2p->revoke = revoke;
	p2p->priv = priv;
}

/**
 * ib_umem_p2p_revoked - has an exporter taken its memory back?
 * @umem:	from ib_umem_p2p_get()
 *
 * Final when locked, a snapshot when not.
 *
 * Return: whether it has.
 */
bool ib_umem_p2p_revoked(struct ib_umem *umem)
{
	return READ_ONCE(to_ib_umem_p2p(umem)->revoked);
}
