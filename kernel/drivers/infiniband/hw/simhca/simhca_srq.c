// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * simhca: shared receive queues.
 */

#include <linux/interrupt.h>
#include <rdma/simhca-abi.h>
#include <rdma/uverbs_ioctl.h>

#include "simhca.h"

/**
 * simhca_srq_event - something happened to an SRQ
 * @dev: the device
 * @srqn: the SRQ
 * @type: what
 *
 * Context: interrupt thread of the asynchronous EQ, which simhca_srq_forget() waits for.
 */
void simhca_srq_event(struct simhca_dev *dev, u32 srqn, enum ib_event_type type)
{
	struct simhca_srq *srq = xa_load(&dev->srqs, srqn);
	struct ib_event event = {
		.device = &dev->ibdev,
		.event = type,
	};

	if (!srq) {
		/* The event was already in the queue when the SRQ was destroyed */
		simhca_count(dev, SIMHCA_CNT_EVENT_LOST);
		return;
	}
	event.element.srq = &srq->ibsrq;
	if (srq->ibsrq.event_handler)
		srq->ibsrq.event_handler(&event, srq->ibsrq.srq_context);
}

/* No handler finds the SRQ any more, and none that did is still running */
static void simhca_srq_forget(struct simhca_dev *dev, struct simhca_srq *srq)
{
	xa_erase(&dev->srqs, srq->srqn);
	synchronize_irq(dev->eqs[SIMHCA_ASYNC_EQN].irq);
}

static int simhca_create_srq_cmd(struct simhca_dev *dev, struct simhca_srq *srq,
				 const struct simhca_ibv_create_srq *req, u32 limit)
{
	struct simhca_cmd cmd = { .opcode = cpu_to_le16(SIMHCA_CMD_CREATE_SRQ) };
	struct simhca_cmd_create_srq *create = &cmd.payload.create_srq;
	struct simhca_sgl_chunks chunks;
	int err;

	err = simhca_ring_build(dev, srq->umem, &srq->wq.ring,
				BIT(req->log_size + req->log_stride), &create->ring, &chunks);
	if (err)
		return err;

	create->srqn = cpu_to_le32(srq->srqn);
	create->pdn = cpu_to_le32(to_spd(srq->ibsrq.pd)->pdn);
	create->uar = cpu_to_le32(srq->slot.uar->index);
	create->slot = cpu_to_le32(srq->slot.index);
	create->log_size = req->log_size;
	create->log_stride = req->log_stride;
	create->limit = cpu_to_le32(limit);
	err = simhca_cmd_exec(dev, &cmd);

	simhca_sgl_free(dev, &create->ring, &chunks);
	return err;
}

static int simhca_srq_init_user(struct simhca_dev *dev, struct simhca_srq *srq,
				struct ib_srq_attr *attr, struct ib_udata *udata,
				struct simhca_ibv_create_srq *req)
{
	int err;

	err = ib_copy_validate_udata_in(udata, *req, log_stride);
	if (err)
		return err;

	if (!attr->max_wr || attr->max_sge > dev->caps.max_sge ||
	    !simhca_rq_ok(dev, req->buf_va, req->log_size, req->log_stride, attr->max_wr,
			  attr->max_sge)) {
		ibdev_dbg(&dev->ibdev, "SRQ: bad ring: va %#llx, log_size %u, log_stride %u\n",
			  req->buf_va, req->log_size, req->log_stride);
		return -EINVAL;
	}

	/* Not ib_umem_get_mr(): a ring does not lie in the memory of another device */
	srq->umem = ib_umem_get_va(&dev->ibdev, req->buf_va, BIT(req->log_size + req->log_stride),
				   IB_ACCESS_LOCAL_WRITE);
	if (IS_ERR(srq->umem))
		return PTR_ERR(srq->umem);

	attr->max_wr = BIT(req->log_size);
	return 0;
}

static int simhca_srq_init_kernel(struct simhca_dev *dev, struct simhca_srq *srq,
				  struct ib_srq_attr *attr, struct simhca_ibv_create_srq *req)
{
	int err;

	err = simhca_ksrq_init(dev, srq, attr);
	if (err)
		return err;

	*req = (struct simhca_ibv_create_srq) {
		.log_size = ilog2(srq->wq.size),
		.log_stride = srq->wq.log_stride,
	};
	return 0;
}

static void simhca_srq_free_ring(struct simhca_dev *dev, struct simhca_srq *srq)
{
	ib_umem_release(srq->umem);
	simhca_ksrq_cleanup(dev, srq);
}

int simhca_create_srq(struct ib_srq *ibsrq, struct ib_srq_init_attr *init_attr,
		      struct ib_udata *udata)
{
	struct simhca_ucontext *uctx =
		rdma_udata_to_drv_context(udata, struct simhca_ucontext, ibucontext);
	struct simhca_dev *dev = to_sdev(ibsrq->device);
	struct simhca_ibv_create_srq_resp resp = {};
	struct ib_srq_attr *attr = &init_attr->attr;
	struct simhca_srq *srq = to_ssrq(ibsrq);
	struct simhca_ibv_create_srq req;
	int err;

	if (init_attr->srq_type != IB_SRQT_BASIC) {
		err = -EOPNOTSUPP;
		goto err_out;
	}
	if (attr->srq_limit > attr->max_wr) {
		err = -EINVAL;
		goto err_out;
	}
	err = udata ? simhca_srq_init_user(dev, srq, attr, udata, &req) :
		      simhca_srq_init_kernel(dev, srq, attr, &req);
	if (err)
		goto err_out;

	mutex_init(&srq->lock);
	srq->log_stride = req.log_stride;
	srq->max_wr = attr->max_wr;
	srq->max_sge = attr->max_sge;

	err = simhca_slot_alloc(simhca_uars(dev, uctx), SIMHCA_SLOT_SRQ, &srq->slot);
	if (err)
		goto err_ring;

	err = xa_alloc_cyclic(&dev->srqs, &srq->srqn, srq, XA_LIMIT(1, dev->caps.max_srq),
			      &dev->next_srqn, GFP_KERNEL);
	err = simhca_xa_err(err);
	if (err)
		goto err_slot;

	err = simhca_create_srq_cmd(dev, srq, &req, attr->srq_limit);
	if (err)
		goto err_srqn;

	if (udata) {
		resp.uar_mmap_key = rdma_user_mmap_get_offset(srq->slot.uar->entry);
		resp.srqn = srq->srqn;
		resp.slot = srq->slot.index;
		err = ib_respond_udata(udata, resp);
		if (err)
			goto err_destroy;
	}

	ibdev_dbg(&dev->ibdev, "SRQ %u: %u WQEs, UAR %u slot %u\n", srq->srqn, srq->max_wr,
		  srq->slot.uar->index, srq->slot.index);
	return 0;

err_destroy:
	simhca_cmd_destroy(dev, SIMHCA_CMD_DESTROY_SRQ, srq->srqn);
err_srqn:
	simhca_srq_forget(dev, srq);
err_slot:
	simhca_slot_free(simhca_uars(dev, uctx), SIMHCA_SLOT_SRQ, &srq->slot);
err_ring:
	mutex_destroy(&srq->lock);
	simhca_srq_free_ring(dev, srq);
err_out:
	simhca_count(dev, SIMHCA_CNT_CREATE_SRQ_ERR);
	return err;
}

/* The ring that a process gives to its SRQ. Its entries are as long as they were. */
static struct ib_umem *simhca_srq_get_ring(struct simhca_dev *dev, struct simhca_srq *srq,
					   const struct ib_srq_attr *attr, struct ib_udata *udata,
					   u32 *log_size)
{
	struct simhca_ibv_modify_srq req;
	int err;

	err = ib_copy_validate_udata_in(udata, req, reserved);
	if (err)
		return ERR_PTR(err);

	if (req.reserved || !attr->max_wr ||
	    !simhca_rq_ok(dev, req.buf_va, req.log_size, srq->log_stride, attr->max_wr,
			  srq->max_sge)) {
		ibdev_dbg(&dev->ibdev, "SRQ %u: bad ring for %u WQEs: va %#llx, log_size %u\n",
			  srq->srqn, attr->max_wr, req.buf_va, req.log_size);
		return ERR_PTR(-EINVAL);
	}

	*log_size = req.log_size;
	return ib_umem_get_va(&dev->ibdev, req.buf_va, BIT(req.log_size + srq->log_stride),
			      IB_ACCESS_LOCAL_WRITE);
}

/* @umem: a new ring of 1 << @log_size entries, or NULL */
static int simhca_modify_srq_cmd(struct simhca_dev *dev, struct simhca_srq *srq, u32 mask,
				 u32 limit, struct ib_umem *umem, u32 log_size)
{
	struct simhca_cmd cmd = { .opcode = cpu_to_le16(SIMHCA_CMD_MODIFY_SRQ) };
	struct simhca_cmd_modify_srq *modify = &cmd.payload.modify_srq;
	struct simhca_sgl_chunks chunks = {};
	int err;

	if (umem) {
		err = simhca_sgl_build(dev, umem, BIT(log_size + srq->log_stride), &modify->ring,
				       &chunks);
		if (err)
			return err;
		mask |= SIMHCA_SRQ_RING;
	}
	modify->srqn = cpu_to_le32(srq->srqn);
	modify->mask = cpu_to_le32(mask);
	modify->limit = cpu_to_le32(limit);
	modify->log_size = log_size;
	err = simhca_cmd_exec(dev, &cmd);

	simhca_sgl_free(dev, &modify->ring, &chunks);
	return err;
}

int simhca_modify_srq(struct ib_srq *ibsrq, struct ib_srq_attr *attr,
		      enum ib_srq_attr_mask attr_mask, struct ib_udata *udata)
{
	struct simhca_dev *dev = to_sdev(ibsrq->device);
	struct simhca_srq *srq = to_ssrq(ibsrq);
	struct ib_umem *umem = NULL;
	u32 log_size = 0, max_wr;
	int err;

	/* Kernel users post in any context, and cannot be made to wait for another ring */
	if (attr_mask & ~(IB_SRQ_MAX_WR | IB_SRQ_LIMIT) ||
	    (attr_mask & IB_SRQ_MAX_WR && !udata)) {
		err = -EOPNOTSUPP;
		goto err_out;
	}
	if (attr_mask & IB_SRQ_MAX_WR) {
		umem = simhca_srq_get_ring(dev, srq, attr, udata, &log_size);
		err = PTR_ERR_OR_ZERO(umem);
	} else {
		err = ib_no_udata_io(udata);
	}
	if (err)
		goto err_out;

	/* The device uses one of the two rings, and knows which */
	mutex_lock(&srq->lock);
	max_wr = umem ? BIT(log_size) : srq->max_wr;
	err = -EINVAL;
	if (!(attr_mask & IB_SRQ_LIMIT) || attr->srq_limit <= max_wr)
		err = simhca_modify_srq_cmd(dev, srq,
					    attr_mask & IB_SRQ_LIMIT ? SIMHCA_SRQ_LIMIT : 0,
					    attr->srq_limit, umem, log_size);
	if (!err && umem) {
		swap(srq->umem, umem);
		WRITE_ONCE(srq->max_wr, max_wr);
	}
	mutex_unlock(&srq->lock);
	ib_umem_release(umem);
	if (!err)
		return 0;

err_out:
	simhca_count(dev, SIMHCA_CNT_MODIFY_SRQ_ERR);
	return err;
}

int simhca_query_srq(struct ib_srq *ibsrq, struct ib_srq_attr *attr)
{
	struct simhca_srq *srq = to_ssrq(ibsrq);
	struct simhca_cmd cmd = {
		.opcode = cpu_to_le16(SIMHCA_CMD_QUERY_SRQ),
		.payload.query_srq.srqn = cpu_to_le32(srq->srqn),
	};
	struct simhca_srq_attr hw;
	int err;

	err = simhca_cmd_query(to_sdev(ibsrq->device), &cmd, &hw, sizeof(hw));
	if (err)
		return err;

	attr->max_wr = READ_ONCE(srq->max_wr);
	attr->max_sge = srq->max_sge;
	attr->srq_limit = le32_to_cpu(hw.limit);
	return 0;
}

int simhca_destroy_srq(struct ib_srq *ibsrq, struct ib_udata *udata)
{
	struct simhca_ucontext *uctx =
		rdma_udata_to_drv_context(udata, struct simhca_ucontext, ibucontext);
	struct simhca_dev *dev = to_sdev(ibsrq->device);
	struct simhca_srq *srq = to_ssrq(ibsrq);
	int err;

	err = ib_no_udata_io(udata);
	if (err)
		return err;

	simhca_cmd_destroy(dev, SIMHCA_CMD_DESTROY_SRQ, srq->srqn);
	simhca_srq_forget(dev, srq);
	simhca_slot_free(simhca_uars(dev, uctx), SIMHCA_SLOT_SRQ, &srq->slot);
	mutex_destroy(&srq->lock);
	simhca_srq_free_ring(dev, srq);
	return 0;
}
