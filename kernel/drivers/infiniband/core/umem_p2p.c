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
#include <linux/device.h>
#include <linux/dma-sg-table.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/overflow.h>
#include <linux/pci-p2pdma.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/sysfs.h>
#include <linux/uaccess.h>
#include <rdma/ib_umem.h>
#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/ib_verbs.h>
#include <rdma/restrack.h>

#define CREATE_TRACE_POINTS
#include <trace/events/umem_p2p.h>

#include "umem_p2p.h"

static bool umem_p2p = true;
module_param(umem_p2p, bool, 0444);
MODULE_PARM_DESC(umem_p2p,
		 "Let memory regions lie in memory of other PCI devices (default: true)");

/* For trace points and ibdev_dbg() */
static const char * const umem_p2p_reasons[] = {
	[IB_UVERBS_P2P_REASON_NONE]		= "none",
	[IB_UVERBS_P2P_REASON_NOT_MAPPED]	= "not mapped",
	[IB_UVERBS_P2P_REASON_NO_EXPORTER]	= "no exporter",
	[IB_UVERBS_P2P_REASON_ACCESS]		= "private or read-only mapping",
	[IB_UVERBS_P2P_REASON_CPU_DATA_PATH]	= "the data path is the CPU",
	[IB_UVERBS_P2P_REASON_NO_ROUTE]		= "no route",
	[IB_UVERBS_P2P_REASON_GONE]		= "revoked or not decoded",
	[IB_UVERBS_P2P_REASON_NOT_REVOCABLE]	= "not revocable",
	[IB_UVERBS_P2P_REASON_OTHER]		= "other",
};

/**
 * struct umem_p2p_req - what is asked for
 * @device:	who wants to use the memory
 * @addr:	first byte, as the user says
 * @size:	bytes, as the user says
 * @access:	IB access flags
 * @start:	the range in whole pages, of which a umem is made; not tagged
 * @end:	see @start; it was checked that there is no overflow
 * @ops:	how to stop @device, or NULL
 */
struct umem_p2p_req {
	struct ib_device *device;
	unsigned long addr;
	size_t size;
	int access;
	unsigned long start;
	unsigned long end;
	const struct dma_sg_ops *ops;
};

/**
 * struct umem_p2p_runs - what is there, without asking whether it can be used
 * @nr:		runs of memory of one kind
 * @device:	some of it is memory of exporters
 * @ordinary:	some of it is ordinary memory
 * @first:	first byte of memory of exporters
 * @reason:	why there cannot be a umem, and where counting ended
 */
struct umem_p2p_runs {
	unsigned int nr;
	bool device;
	bool ordinary;
	unsigned long first;
	enum ib_uverbs_p2p_reason reason;
};

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

static void umem_p2p_count(struct ib_device *device, enum ib_p2p_stat stat)
{
	atomic_long_inc(&device->p2p_stats[stat]);
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
	umem_p2p_count(p2p->umem.ibdev, IB_P2P_STAT_REVOKED);
	trace_umem_p2p_revoke(&p2p->umem);
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

/* A revocation may look at the umem as soon as a piece of it is mapped. */
static struct ib_umem_p2p *umem_p2p_alloc(const struct umem_p2p_req *req,
					  unsigned int nr_pieces)
{
	struct ib_umem_p2p *p2p;

	p2p = kvzalloc_flex(*p2p, pieces, nr_pieces);
	if (!p2p)
		return ERR_PTR(-ENOMEM);
	p2p->nr_pieces = nr_pieces;
	mutex_init(&p2p->lock);
	p2p->umem.ibdev = req->device;
	p2p->umem.address = req->addr;
	p2p->umem.iova = req->addr;
	p2p->umem.length = req->size;
	p2p->umem.writable = ib_access_writable(req->access);
	p2p->umem.is_p2p = 1;
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

static struct dma_sg_table *umem_p2p_map(const struct umem_p2p_req *req,
					 unsigned long start, size_t len,
					 void *priv)
{
	return sgl_dma_map_user(req->device->dma_device, start, len,
				ib_access_writable(req->access), req->ops,
				priv);
}

/* All of it is device memory, or %-EFAULT. */
static struct ib_umem_p2p *umem_p2p_get_device(const struct umem_p2p_req *req)
{
	struct dma_sg_table *table;
	struct ib_umem_p2p *p2p;

	p2p = umem_p2p_alloc(req, 1);
	if (IS_ERR(p2p))
		return p2p;

	table = umem_p2p_map(req, req->start, req->end - req->start, p2p);
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

static int umem_p2p_next_run(const struct umem_p2p_req *req,
			     unsigned long start, unsigned long *next)
{
	return sgl_dma_next_run(start, req->end,
				ib_access_writable(req->access), next);
}

/* %-EINTR and %-ENOMEM */
static int umem_p2p_look(const struct umem_p2p_req *req,
			 struct umem_p2p_runs *runs)
{
	unsigned long start, next;
	int kind;

	*runs = (struct umem_p2p_runs){};
	for (start = req->start; start < req->end; start = next) {
		kind = umem_p2p_next_run(req, start, &next);
		switch (kind) {
		case DMA_SG_ORDINARY:
			runs->ordinary = true;
			break;
		case DMA_SG_EXPORTED:
			if (!runs->device)
				runs->first = start;
			runs->device = true;
			break;
		case DMA_SG_FOREIGN:
			runs->reason = IB_UVERBS_P2P_REASON_NO_EXPORTER;
			return 0;
		case -EFAULT:
			runs->reason = IB_UVERBS_P2P_REASON_NOT_MAPPED;
			return 0;
		default:
			return kind;
		}
		runs->nr++;
	}
	return 0;
}

static const struct dma_sg_table *umem_p2p_first_table(struct ib_umem_p2p *p2p)
{
	unsigned int i;

	for (i = 0; i < p2p->nr_pieces; i++)
		if (p2p->pieces[i].table)
			return p2p->pieces[i].table;
	return NULL;
}

/* Device memory and ordinary memory, in any order, in @nr_runs runs. */
static struct ib_umem_p2p *umem_p2p_get_mixed(const struct umem_p2p_req *req,
					      unsigned int nr_runs)
{
	unsigned long start, next;
	struct ib_umem_p2p *p2p;
	unsigned int i = 0;
	int ret;

	p2p = umem_p2p_alloc(req, nr_runs);
	if (IS_ERR(p2p))
		return p2p;

	for (start = req->start; start < req->end; start = next, i++) {
		struct umem_p2p_piece piece = {};
		void *got;

		ret = umem_p2p_next_run(req, start, &next);
		if (ret < 0)
			goto err_free;
		/* Somebody is changing the mappings. */
		if (i == p2p->nr_pieces) {
			ret = -EFAULT;
			goto err_free;
		}

		if (ret == DMA_SG_EXPORTED) {
			piece.table = umem_p2p_map(req, start, next - start,
						   p2p);
			got = piece.table;
		} else {
			piece.pinned = ib_umem_get_va(req->device, start,
						      next - start,
						      req->access);
			got = piece.pinned;
		}
		if (IS_ERR(got)) {
			ret = PTR_ERR(got);
			goto err_free;
		}
		p2p->pieces[i] = piece;
	}

	/* As they may have left it without what the umem is for. */
	if (i != p2p->nr_pieces || !umem_p2p_first_table(p2p)) {
		ret = -EFAULT;
		goto err_free;
	}
	ret = umem_p2p_join(p2p);
	if (ret)
		goto err_free;
	return p2p;

err_free:
	umem_p2p_free(p2p);
	return ERR_PTR(ret);
}

/* Neither a list nor a reason why not */
static bool umem_p2p_interrupted(int err)
{
	return err == -EINTR || err == -ERESTARTSYS;
}

/* Why sgl_dma_map_user() fails */
static enum ib_uverbs_p2p_reason umem_p2p_map_reason(int err)
{
	switch (err) {
	case -EACCES:
		return IB_UVERBS_P2P_REASON_ACCESS;
	case -EREMOTEIO:
		return IB_UVERBS_P2P_REASON_NO_ROUTE;
	case -ENODEV:
		return IB_UVERBS_P2P_REASON_GONE;
	case -EOPNOTSUPP:
		return IB_UVERBS_P2P_REASON_NOT_REVOCABLE;
	default:
		return IB_UVERBS_P2P_REASON_OTHER;
	}
}

/* Tells everybody who wants to know, and gives @err back. */
static struct ib_umem *umem_p2p_refuse(const struct umem_p2p_req *req, int err,
				       enum ib_uverbs_p2p_reason reason)
{
	umem_p2p_count(req->device, IB_P2P_STAT_REFUSED);
	trace_umem_p2p_refuse(req->device, req->addr, req->size, err,
			      umem_p2p_reasons[reason]);
	ibdev_dbg(req->device, "memory at [%#lx, +%#zx) refused: %s (%pe)\n",
		  req->addr, req->size, umem_p2p_reasons[reason], ERR_PTR(err));
	return ERR_PTR(err);
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
	/* A umem is made of whole pages. The range was checked to not overflow. */
	const struct umem_p2p_req req = {
		.device = device,
		.addr = addr,
		.size = size,
		.access = access,
		.start = untagged_addr(addr) & PAGE_MASK,
		.end = PAGE_ALIGN(untagged_addr(addr) + size),
		.ops = revocable ? &umem_p2p_ops : NULL,
	};
	struct umem_p2p_runs runs;
	struct ib_umem_p2p *p2p;
	int ret;

	if (!umem_p2p || !umem_p2p_applies(pin_err))
		return ERR_PTR(pin_err);
	/* -EPERM comes before these are looked at. */
	if (!size || (access & IB_ACCESS_ON_DEMAND))
		return ERR_PTR(pin_err);

	if (device->needs_cpu_sgl)
		p2p = ERR_PTR(-EFAULT);
	else
		p2p = umem_p2p_get_device(&req);

	if (p2p == ERR_PTR(-EFAULT)) {
		ret = umem_p2p_look(&req, &runs);
		if (ret)
			return ERR_PTR(ret);
		if (runs.reason)
			return umem_p2p_refuse(&req, pin_err, runs.reason);
		/* What pinning says of ordinary memory is no matter of this. */
		if (!runs.device)
			return ERR_PTR(pin_err);
		if (device->needs_cpu_sgl)
			return umem_p2p_refuse(&req, -EOPNOTSUPP,
					       IB_UVERBS_P2P_REASON_CPU_DATA_PATH);
		p2p = umem_p2p_get_mixed(&req, runs.nr);
	}
	if (IS_ERR(p2p)) {
		ret = PTR_ERR(p2p);
		if (umem_p2p_interrupted(ret))
			return ERR_PTR(ret);
		return umem_p2p_refuse(&req, ret, umem_p2p_map_reason(ret));
	}

	umem_p2p_count(device, IB_P2P_STAT_MAPPED);
	umem_p2p_count(device, IB_P2P_STAT_REGIONS);
	trace_umem_p2p_map(&p2p->umem, p2p->nr_pieces, revocable);
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
	trace_umem_p2p_unmap(umem);
	atomic_long_dec(&umem->ibdev->p2p_stats[IB_P2P_STAT_REGIONS]);
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

/**
 * ib_umem_p2p_fill_res - put what is known of a umem in a netlink message
 * @msg:	the message
 * @umem:	from ib_umem_p2p_get()
 *
 * See ib_umem_fill_res_mr_entry().
 *
 * Return: 0, or %-EMSGSIZE.
 */
int ib_umem_p2p_fill_res(struct sk_buff *msg, struct ib_umem *umem)
{
	struct ib_umem_p2p *p2p = to_ib_umem_p2p(umem);
	const struct dma_sg_table *table = umem_p2p_first_table(p2p);
	struct device *owner = sgl_dma_owner(table);
	bool revoked = ib_umem_p2p_revoked(umem);
	unsigned int i;

	/* Not everybody is told, see dma_buf_unlink_sgt(). */
	for (i = 0; i < p2p->nr_pieces && !revoked; i++)
		revoked = p2p->pieces[i].table &&
			  sgl_dma_revoked(p2p->pieces[i].table);

	if (rdma_nl_put_driver_string(msg, "p2p_device",
				      owner ? dev_name(owner) : "unknown") ||
	    rdma_nl_put_driver_u32(msg, "p2p_segments",
				   umem->sgt_append.sgt.nents) ||
	    rdma_nl_put_driver_string(msg, "p2p_revocable",
				      str_yes_no(table->ops)) ||
	    rdma_nl_put_driver_string(msg, "p2p_revoked", str_yes_no(revoked)))
		return -EMSGSIZE;
	return 0;
}

/* Nobody uses the list of a query. */
static void umem_p2p_query_revoke(void *priv)
{
}

static const struct dma_sg_ops umem_p2p_query_ops = {
	.revoke = umem_p2p_query_revoke,
};

static void umem_p2p_query_owner(const struct umem_p2p_req *req,
				 unsigned long addr,
				 struct ib_uverbs_p2p_info *info)
{
	struct p2pdma_provider provider = {
		.owner = sgl_dma_get_owner(addr,
					   ib_access_writable(req->access)),
	};
	struct pci_dev *pdev;

	if (!provider.owner)
		return;
	if (!dev_is_pci(provider.owner))
		goto out_put;

	pdev = to_pci_dev(provider.owner);
	info->flags |= IB_UVERBS_P2P_OWNER;
	info->domain = pci_domain_nr(pdev->bus);
	info->bus = pdev->bus->number;
	info->devfn = pdev->devfn;

	if (req->device->needs_cpu_sgl)
		goto out_put;
	switch (pci_p2pdma_map_type(&provider, req->device->dma_device)) {
	case PCI_P2PDMA_MAP_BUS_ADDR:
		info->route = IB_UVERBS_P2P_ROUTE_BUS_ADDR;
		break;
	case PCI_P2PDMA_MAP_THRU_HOST_BRIDGE:
		info->route = IB_UVERBS_P2P_ROUTE_HOST_BRIDGE;
		break;
	default:
		break;
	}
out_put:
	put_device(provider.owner);
}

/* Maps each run of device memory, and gives it back. */
static int umem_p2p_query_map(const struct umem_p2p_req *req, u32 *segments)
{
	unsigned long start, next;
	struct dma_sg_table *table;
	int kind;

	for (start = req->start; start < req->end; start = next) {
		kind = umem_p2p_next_run(req, start, &next);
		if (kind < 0)
			return kind;
		if (kind != DMA_SG_EXPORTED)
			continue;

		table = umem_p2p_map(req, start, next - start, NULL);
		if (IS_ERR(table))
			return PTR_ERR(table);
		*segments += table->sgt.nents;
		sgl_dma_unmap(table);
	}
	return 0;
}

/**
 * ib_umem_p2p_query - find out whether there could be a umem
 * @device:	IB device
 * @addr:	user address, in the mm of current
 * @size:	bytes
 * @access:	IB access flags
 * @revocable:	the provider has a hook, see ib_umem_set_revoke_locked()
 * @info:	the answer
 *
 * Device memory is mapped for @device and unmapped again, as that is what can
 * fail. Ordinary memory is not looked at. The answer is one for this moment.
 *
 * Context: process context, may sleep; see sgl_dma_map_user().
 *
 * Return: 0 when there is an answer, also when it is a reason why not; or
 *
 * * %-EINVAL:	@size is 0, or the range wraps around
 * * %-EOPNOTSUPP: the feature is off, or @access is for on-demand paging
 * * %-ENOMEM, %-EINTR, %-ERESTARTSYS: there is no answer
 */
int ib_umem_p2p_query(struct ib_device *device, unsigned long addr, size_t size,
		      int access, bool revocable,
		      struct ib_uverbs_p2p_info *info)
{
	struct umem_p2p_req req = {
		.device = device,
		.addr = addr,
		.size = size,
		.access = access,
		.start = untagged_addr(addr) & PAGE_MASK,
		.ops = revocable ? &umem_p2p_query_ops : NULL,
	};
	struct umem_p2p_runs runs;
	unsigned long end;
	int ret;

	*info = (struct ib_uverbs_p2p_info){};
	if (!umem_p2p || (access & IB_ACCESS_ON_DEMAND))
		return -EOPNOTSUPP;
	if (!size || check_add_overflow(addr, size, &end) ||
	    PAGE_ALIGN(end) < end)
		return -EINVAL;
	req.end = PAGE_ALIGN(untagged_addr(addr) + size);

	ret = umem_p2p_look(&req, &runs);
	if (ret)
		return ret;

	if (runs.ordinary)
		info->flags |= IB_UVERBS_P2P_ORDINARY_MEMORY;
	if (runs.device) {
		info->flags |= IB_UVERBS_P2P_DEVICE_MEMORY;
		if (revocable)
			info->flags |= IB_UVERBS_P2P_REVOCABLE;
		umem_p2p_query_owner(&req, runs.first, info);
	}

	if (runs.reason) {
		info->reason = runs.reason;
		info->error = EFAULT;
		return 0;
	}
	if (!runs.device)
		return 0;
	if (device->needs_cpu_sgl) {
		info->reason = IB_UVERBS_P2P_REASON_CPU_DATA_PATH;
		info->error = EOPNOTSUPP;
		return 0;
	}

	ret = umem_p2p_query_map(&req, &info->segments);
	if (!ret)
		return 0;

	info->segments = 0;
	if (ret == -ENOMEM || umem_p2p_interrupted(ret))
		return ret;
	info->reason = umem_p2p_map_reason(ret);
	info->error = -ret;
	return 0;
}
EXPORT_SYMBOL(ib_umem_p2p_query);

static ssize_t umem_p2p_stat_show(struct device *dev, enum ib_p2p_stat stat,
				  char *buf)
{
	struct ib_device *device = rdma_device_to_ibdev(dev);

	return sysfs_emit(buf, "%ld\n",
			  atomic_long_read(&device->p2p_stats[stat]));
}

#define UMEM_P2P_STAT(_name, _stat)					\
static ssize_t _name##_show(struct device *dev,				\
			    struct device_attribute *attr, char *buf)	\
{									\
	return umem_p2p_stat_show(dev, _stat, buf);			\
}									\
static DEVICE_ATTR_RO(_name)

UMEM_P2P_STAT(regions, IB_P2P_STAT_REGIONS);
UMEM_P2P_STAT(mapped, IB_P2P_STAT_MAPPED);
UMEM_P2P_STAT(refused, IB_P2P_STAT_REFUSED);
UMEM_P2P_STAT(revoked, IB_P2P_STAT_REVOKED);

static struct attribute *umem_p2p_attrs[] = {
	&dev_attr_regions.attr,
	&dev_attr_mapped.attr,
	&dev_attr_refused.attr,
	&dev_attr_revoked.attr,
	NULL,
};

/* Of every RDMA device, also of those whose data path is the CPU: they refuse. */
const struct attribute_group ib_umem_p2p_attr_group = {
	.name = "umem_p2p",
	.attrs = umem_p2p_attrs,
};
