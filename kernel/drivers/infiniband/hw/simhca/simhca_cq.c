// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * simhca: completion queues.
 */

#include <linux/interrupt.h>
#include <linux/log2.h>
#include <rdma/simhca-abi.h>
#include <rdma/uverbs_ioctl.h>

#include "simhca.h"

#define SIMHCA_CQ_FLAGS		(IB_UVERBS_CQ_FLAGS_TIMESTAMP_COMPLETION | \
				 IB_UVERBS_CQ_FLAGS_IGNORE_OVERRUN)

/**
 * simhca_cq_comp_event - a CQ has an event
 * @dev: the device
 * @cqn: the CQ
 *
 * Context: hard interrupt of an EQ, of that of the CQ unless the device is confused, or with the
 * lock of &simhca_dev.cqs. simhca_cq_forget() waits for it.
 */
void simhca_cq_comp_event(struct simhca_dev *dev, u32 cqn)
{
	struct simhca_cq *cq = xa_load(&dev->cqs, cqn);

	if (!cq) {
		/* The event was already in the queue when the CQ was destroyed */
		simhca_count(dev, SIMHCA_CNT_EVENT_LOST);
		return;
	}
	if (!cq->umem)
		simhca_kcq_event(cq);
	if (cq->ibcq.comp_handler)
		cq->ibcq.comp_handler(&cq->ibcq, cq->ibcq.cq_context);
}

/**
 * simhca_cq_error_event - a CQ does not work any more
 * @dev: the device
 * @cqn: the CQ
 *
 * Context: interrupt thread of the asynchronous EQ, which simhca_cq_forget() waits for.
 */
void simhca_cq_error_event(struct simhca_dev *dev, u32 cqn)
{
	struct simhca_cq *cq = xa_load(&dev->cqs, cqn);
	struct ib_event event = {
		.device = &dev->ibdev,
		.event = IB_EVENT_CQ_ERR,
	};

	if (!cq) {
		simhca_count(dev, SIMHCA_CNT_EVENT_LOST);
		return;
	}
	event.element.cq = &cq->ibcq;
	if (cq->ibcq.event_handler)
		cq->ibcq.event_handler(&event, cq->ibcq.cq_context);
}

/**
 * simhca_cq_comp_event_overdue - find the events that somebody waits for in vain
 * @dev: the device
 * @processes: let processes look, too, at all of their CQs: there will be no event any more
 *
 * One event that is lost would keep a kernel user from ever going away, and the device with him. To
 * one that is late another does no harm.
 *
 * Context: process.
 */
void simhca_cq_comp_event_overdue(struct simhca_dev *dev, bool processes)
{
	struct simhca_cq *cq;
	unsigned long cqn;

	/* The lock keeps simhca_cq_forget() away */
	xa_lock(&dev->cqs);
	xa_for_each(&dev->cqs, cqn, cq)
		if (cq->umem ? processes : simhca_kcq_overdue(cq))
			simhca_cq_comp_event(dev, cqn);
	xa_unlock(&dev->cqs);
}

/* No handler finds the CQ any more, and none that did is still running */
static void simhca_cq_forget(struct simhca_dev *dev, struct simhca_cq *cq)
{
	u32 i;

	xa_erase(&dev->cqs, cq->cqn);
	for (i = 0; i < dev->num_eqs; i++)
		synchronize_irq(dev->eqs[i].irq);
}

static u32 simhca_cq_flags(u32 flags)
{
	return (flags & IB_UVERBS_CQ_FLAGS_TIMESTAMP_COMPLETION ? SIMHCA_CQ_TIMESTAMP : 0) |
	       (flags & IB_UVERBS_CQ_FLAGS_IGNORE_OVERRUN ? SIMHCA_CQ_IGNORE_OVERRUN : 0);
}

static int simhca_create_cq_cmd(struct simhca_dev *dev, struct simhca_cq *cq, u32 log_size,
				u32 flags)
{
	struct simhca_cmd cmd = { .opcode = cpu_to_le16(SIMHCA_CMD_CREATE_CQ) };
	struct simhca_cmd_create_cq *create = &cmd.payload.create_cq;
	struct simhca_sgl_chunks chunks;
	int err;

	err = simhca_ring_build(dev, cq->umem, &cq->kcq.ring,
				sizeof(struct simhca_cqe) << log_size, &create->ring, &chunks);
	if (err)
		return err;

	create->cqn = cpu_to_le32(cq->cqn);
	create->eqn = cpu_to_le32(cq->eq->eqn);
	create->uar = cpu_to_le32(cq->slot.uar->index);
	create->slot = cpu_to_le32(cq->slot.index);
	create->log_size = cpu_to_le32(log_size);
	create->flags = cpu_to_le32(simhca_cq_flags(flags));
	err = simhca_cmd_exec(dev, &cmd);

	simhca_sgl_free(dev, &create->ring, &chunks);
	return err;
}

static bool simhca_cq_ring_ok(struct simhca_dev *dev, u64 va, u32 log_size, u32 cqe)
{
	if (log_size <= dev->caps.max_log_cqe && cqe <= BIT(log_size) &&
	    IS_ALIGNED(va, SIMHCA_PAGE_SIZE))
		return true;

	ibdev_dbg(&dev->ibdev, "CQ: bad ring for %u CQEs: va %#llx, log_size %u\n", cqe, va,
		  log_size);
	return false;
}

/* The ring is there; a CQ that was made is undone by simhca_cq_unmake() */
static int simhca_cq_make(struct simhca_dev *dev, struct simhca_cq *cq,
			  struct simhca_ucontext *uctx, const struct ib_cq_init_attr *attr,
			  u32 log_size)
{
	struct simhca_uar_pool *uars = simhca_uars(dev, uctx);
	int err;

	mutex_init(&cq->lock);
	cq->ibcq.cqe = BIT(log_size);
	cq->eq = &dev->eqs[1 + attr->comp_vector];

	err = simhca_slot_alloc(uars, SIMHCA_SLOT_CQ, &cq->slot);
	if (err)
		goto err_lock;

	err = xa_alloc_cyclic(&dev->cqs, &cq->cqn, cq, XA_LIMIT(1, dev->caps.max_cq),
			      &dev->next_cqn, GFP_KERNEL);
	err = simhca_xa_err(err);
	if (err)
		goto err_slot;

	err = simhca_create_cq_cmd(dev, cq, log_size, attr->flags);
	if (err)
		goto err_cqn;

	ibdev_dbg(&dev->ibdev, "CQ %u: %u CQEs, EQ %u, UAR %u slot %u\n", cq->cqn, cq->ibcq.cqe,
		  cq->eq->eqn, cq->slot.uar->index, cq->slot.index);
	return 0;

err_cqn:
	simhca_cq_forget(dev, cq);
err_slot:
	simhca_slot_free(uars, SIMHCA_SLOT_CQ, &cq->slot);
err_lock:
	mutex_destroy(&cq->lock);
	return err;
}

static void simhca_cq_unmake(struct simhca_dev *dev, struct simhca_cq *cq,
			     struct simhca_ucontext *uctx)
{
	simhca_cmd_destroy(dev, SIMHCA_CMD_DESTROY_CQ, cq->cqn);
	simhca_cq_forget(dev, cq);
	simhca_slot_free(simhca_uars(dev, uctx), SIMHCA_SLOT_CQ, &cq->slot);
	mutex_destroy(&cq->lock);
}

int simhca_create_cq(struct ib_cq *ibcq, const struct ib_cq_init_attr *attr,
		     struct uverbs_attr_bundle *attrs)
{
	struct simhca_dev *dev = to_sdev(ibcq->device);
	struct simhca_cq *cq = to_scq(ibcq);
	u32 log_size;
	int err;

	err = attr->flags ? -EOPNOTSUPP : -EINVAL;
	if (attr->flags || !attr->cqe || attr->cqe > BIT(dev->caps.max_log_cqe))
		goto err_out;

	log_size = order_base_2(attr->cqe);
	err = simhca_kcq_init(dev, &cq->kcq, log_size);
	if (err)
		goto err_out;

	err = simhca_cq_make(dev, cq, NULL, attr, log_size);
	if (err)
		goto err_ring;
	return 0;

err_ring:
	simhca_kcq_cleanup(dev, &cq->kcq);
err_out:
	simhca_count(dev, SIMHCA_CNT_CREATE_CQ_ERR);
	return err;
}

int simhca_create_user_cq(struct ib_cq *ibcq, const struct ib_cq_init_attr *attr,
			  struct uverbs_attr_bundle *attrs)
{
	struct ib_udata *udata = &attrs->driver_udata;
	struct simhca_ucontext *uctx =
		rdma_udata_to_drv_context(udata, struct simhca_ucontext, ibucontext);
	struct simhca_dev *dev = to_sdev(ibcq->device);
	struct simhca_ibv_create_cq_resp resp = {};
	struct simhca_cq *cq = to_scq(ibcq);
	struct simhca_ibv_create_cq req;
	int err;

	if (attr->flags & ~SIMHCA_CQ_FLAGS) {
		err = -EOPNOTSUPP;
		goto err_out;
	}
	err = ib_copy_validate_udata_in(udata, req, reserved);
	if (err)
		goto err_out;

	if (req.reserved || !simhca_cq_ring_ok(dev, req.buf_va, req.log_size, attr->cqe)) {
		err = -EINVAL;
		goto err_out;
	}

	/* Unless the caller says otherwise, a ring does not lie in the memory of another device */
	cq->umem = ib_umem_get_cq_buf_or_va(ibcq->device, attrs, req.buf_va,
					    sizeof(struct simhca_cqe) << req.log_size,
					    IB_ACCESS_LOCAL_WRITE);
	if (IS_ERR(cq->umem)) {
		err = PTR_ERR(cq->umem);
		goto err_out;
	}

	err = simhca_cq_make(dev, cq, uctx, attr, req.log_size);
	if (err)
		goto err_umem;

	resp.uar_mmap_key = rdma_user_mmap_get_offset(cq->slot.uar->entry);
	resp.cqn = cq->cqn;
	resp.slot = cq->slot.index;
	err = ib_respond_udata(udata, resp);
	if (err)
		goto err_unmake;
	return 0;

err_unmake:
	simhca_cq_unmake(dev, cq, uctx);
err_umem:
	ib_umem_release(cq->umem);
err_out:
	simhca_count(dev, SIMHCA_CNT_CREATE_CQ_ERR);
	return err;
}

int simhca_destroy_cq(struct ib_cq *ibcq, struct ib_udata *udata)
{
	struct simhca_ucontext *uctx =
		rdma_udata_to_drv_context(udata, struct simhca_ucontext, ibucontext);
	struct simhca_dev *dev = to_sdev(ibcq->device);
	struct simhca_cq *cq = to_scq(ibcq);
	int err;

	err = ib_no_udata_io(udata);
	if (err)
		return err;

	simhca_cq_unmake(dev, cq, uctx);
	ib_umem_release(cq->umem);
	simhca_kcq_cleanup(dev, &cq->kcq);
	return 0;
}

static int simhca_resize_cq_cmd(struct simhca_dev *dev, struct simhca_cq *cq,
				struct ib_umem *umem, u32 log_size)
{
	struct simhca_cmd cmd = { .opcode = cpu_to_le16(SIMHCA_CMD_RESIZE_CQ) };
	struct simhca_cmd_resize_cq *resize = &cmd.payload.resize_cq;
	struct simhca_sgl_chunks chunks;
	int err;

	err = simhca_sgl_build(dev, umem, sizeof(struct simhca_cqe) << log_size, &resize->ring,
			       &chunks);
	if (err)
		return err;

	resize->cqn = cpu_to_le32(cq->cqn);
	resize->log_size = cpu_to_le32(log_size);
	err = simhca_cmd_exec(dev, &cmd);

	simhca_sgl_free(dev, &resize->ring, &chunks);
	return err;
}

int simhca_resize_user_cq(struct ib_cq *ibcq, unsigned int cqe, struct ib_udata *udata)
{
	struct simhca_dev *dev = to_sdev(ibcq->device);
	struct simhca_cq *cq = to_scq(ibcq);
	struct simhca_ibv_resize_cq req;
	struct ib_umem *umem;
	int err;

	err = ib_copy_validate_udata_in(udata, req, reserved);
	if (err)
		goto err_out;

	/* Afterwards there is no way back */
	err = ib_respond_empty_udata(udata);
	if (err)
		goto err_out;

	if (req.reserved || !simhca_cq_ring_ok(dev, req.buf_va, req.log_size, cqe)) {
		err = -EINVAL;
		goto err_out;
	}

	umem = ib_umem_get_va(ibcq->device, req.buf_va,
			      sizeof(struct simhca_cqe) << req.log_size, IB_ACCESS_LOCAL_WRITE);
	if (IS_ERR(umem)) {
		err = PTR_ERR(umem);
		goto err_out;
	}

	/* The device uses one of the two rings, and knows which */
	mutex_lock(&cq->lock);
	err = simhca_resize_cq_cmd(dev, cq, umem, req.log_size);
	if (!err) {
		swap(cq->umem, umem);
		ibcq->cqe = BIT(req.log_size);
	}
	mutex_unlock(&cq->lock);
	ib_umem_release(umem);
	if (!err)
		return 0;

err_out:
	simhca_count(dev, SIMHCA_CNT_RESIZE_CQ_ERR);
	return err;
}

int simhca_modify_cq(struct ib_cq *ibcq, u16 count, u16 period)
{
	struct simhca_cmd cmd = {
		.opcode = cpu_to_le16(SIMHCA_CMD_MODIFY_CQ),
		.payload.modify_cq = {
			.cqn = cpu_to_le32(to_scq(ibcq)->cqn),
			.count = cpu_to_le16(count),
			.period = cpu_to_le16(period),
		},
	};

	return simhca_cmd_exec(to_sdev(ibcq->device), &cmd);
}
