// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * simhca: queue pairs.
 */

#include <linux/etherdevice.h>
#include <linux/interrupt.h>
#include <rdma/simhca-abi.h>
#include <rdma/uverbs_ioctl.h>

#include "simhca.h"

#define SIMHCA_QP_MIN_LOG_SQ_STRIDE	6
#define SIMHCA_QP_MIN_LOG_RQ_STRIDE	5
#define SIMHCA_QP_MAX_LOG_STRIDE	9

#define SIMHCA_QP_ACCESS_FLAGS	(IB_ACCESS_REMOTE_WRITE | IB_ACCESS_REMOTE_READ | \
				 IB_ACCESS_REMOTE_ATOMIC)

/**
 * simhca_qp_event - something happened to a QP
 * @dev: the device
 * @qpn: the QP
 * @type: what
 *
 * Context: interrupt thread of the asynchronous EQ, which simhca_qp_forget() waits for.
 */
void simhca_qp_event(struct simhca_dev *dev, u32 qpn, enum ib_event_type type)
{
	struct simhca_qp *qp = xa_load(&dev->qps, qpn);
	struct ib_event event = {
		.device = &dev->ibdev,
		.event = type,
	};

	if (!qp) {
		/* The event was already in the queue when the QP was destroyed */
		simhca_count(dev, SIMHCA_CNT_EVENT_LOST);
		return;
	}
	event.element.qp = &qp->ibqp;
	if (qp->ibqp.event_handler)
		qp->ibqp.event_handler(&event, qp->ibqp.qp_context);
}

/* No handler finds the QP any more, and none that did is still running */
static void simhca_qp_forget(struct simhca_dev *dev, struct simhca_qp *qp)
{
	xa_erase(&dev->qps, qp->ibqp.qp_num);
	synchronize_irq(dev->eqs[SIMHCA_ASYNC_EQN].irq);
}

static int simhca_create_qp_cmd(struct simhca_dev *dev, struct simhca_qp *qp,
				const struct simhca_ibv_create_qp *req)
{
	struct simhca_cmd cmd = { .opcode = cpu_to_le16(SIMHCA_CMD_CREATE_QP) };
	struct simhca_cmd_create_qp *create = &cmd.payload.create_qp;
	struct simhca_sgl_chunks sq_chunks, rq_chunks = {};
	int err;

	err = simhca_sgl_build(dev, qp->sq_umem, qp->sq_umem->length, &create->sq, &sq_chunks);
	if (err)
		return err;
	if (qp->rq_umem) {
		err = simhca_sgl_build(dev, qp->rq_umem, qp->rq_umem->length, &create->rq,
				       &rq_chunks);
		if (err)
			goto out_sq;
		create->rq_log_size = req->rq_log_size;
		create->rq_log_stride = req->rq_log_stride;
	}

	create->qpn = cpu_to_le32(qp->ibqp.qp_num);
	create->type = cpu_to_le32(SIMHCA_QPT_RC);
	create->pdn = cpu_to_le32(to_spd(qp->ibqp.pd)->pdn);
	create->send_cqn = cpu_to_le32(to_scq(qp->ibqp.send_cq)->cqn);
	create->recv_cqn = cpu_to_le32(to_scq(qp->ibqp.recv_cq)->cqn);
	create->uar = cpu_to_le32(qp->slot.uar->index);
	create->slot = cpu_to_le32(qp->slot.index);
	create->sq_log_size = req->sq_log_size;
	create->sq_log_stride = req->sq_log_stride;
	err = simhca_cmd_exec(dev, &cmd);

	simhca_sgl_free(dev, &create->rq, &rq_chunks);
out_sq:
	simhca_sgl_free(dev, &create->sq, &sq_chunks);
	return err;
}

static int simhca_qp_check_type(struct simhca_dev *dev, const struct ib_qp_init_attr *attr,
				const struct uverbs_attr_bundle *attrs)
{
	/* Rings lie where the provider says, which knows one way to say it */
	if (uverbs_attr_is_valid(attrs, UVERBS_ATTR_CREATE_QP_BUF_UMEM) ||
	    uverbs_attr_is_valid(attrs, UVERBS_ATTR_CREATE_QP_SQ_BUF_UMEM) ||
	    uverbs_attr_is_valid(attrs, UVERBS_ATTR_CREATE_QP_RQ_BUF_UMEM))
		return -EOPNOTSUPP;
	if (attr->qp_type != IB_QPT_RC || attr->srq || attr->create_flags || attr->rwq_ind_tbl) {
		ibdev_dbg(&dev->ibdev, "QP: type %u, flags %#x, srq %u are not supported\n",
			  attr->qp_type, attr->create_flags, !!attr->srq);
		return -EOPNOTSUPP;
	}
	if (!attr->send_cq || !attr->recv_cq)
		return -EINVAL;
	return 0;
}

static bool simhca_queue_ok(u64 va, u32 log_size, u32 log_stride, u32 min_log_stride,
			    u32 max_log_size, u32 wrs, size_t wqe_size)
{
	return IS_ALIGNED(va, SIMHCA_PAGE_SIZE) && log_size <= max_log_size &&
	       log_stride >= min_log_stride && log_stride <= SIMHCA_QP_MAX_LOG_STRIDE &&
	       wrs <= BIT(log_size) && wqe_size <= BIT(log_stride);
}

/* The rings must hold what the caller was promised */
static int simhca_qp_check_rings(struct simhca_dev *dev, const struct ib_qp_cap *cap,
				 const struct simhca_ibv_create_qp *req)
{
	const struct simhca_caps *caps = &dev->caps;

	if (cap->max_send_sge > caps->max_sge || cap->max_recv_sge > caps->max_sge ||
	    cap->max_inline_data > caps->max_inline) {
		ibdev_dbg(&dev->ibdev, "QP: %u and %u SGEs, %u bytes inline are too many\n",
			  cap->max_send_sge, cap->max_recv_sge, cap->max_inline_data);
		return -EINVAL;
	}
	if (!req->sq_va ||
	    !simhca_queue_ok(req->sq_va, req->sq_log_size, req->sq_log_stride,
			     SIMHCA_QP_MIN_LOG_SQ_STRIDE, caps->max_log_wr, cap->max_send_wr,
			     sizeof(struct simhca_sq_wqe) +
			     max_t(size_t, cap->max_send_sge * sizeof(struct simhca_sge),
				   cap->max_inline_data))) {
		ibdev_dbg(&dev->ibdev, "QP: bad SQ: va %#llx, log_size %u, log_stride %u\n",
			  req->sq_va, req->sq_log_size, req->sq_log_stride);
		return -EINVAL;
	}
	if (!req->rq_va)
		return cap->max_recv_wr ? -EINVAL : 0;
	if (!simhca_queue_ok(req->rq_va, req->rq_log_size, req->rq_log_stride,
			     SIMHCA_QP_MIN_LOG_RQ_STRIDE, caps->max_log_wr, cap->max_recv_wr,
			     sizeof(struct simhca_rq_wqe) +
			     cap->max_recv_sge * sizeof(struct simhca_sge))) {
		ibdev_dbg(&dev->ibdev, "QP: bad RQ: va %#llx, log_size %u, log_stride %u\n",
			  req->rq_va, req->rq_log_size, req->rq_log_stride);
		return -EINVAL;
	}
	return 0;
}

/* Not ib_umem_get_mr(): a ring does not lie in the memory of another device */
static int simhca_qp_pin_rings(struct simhca_dev *dev, struct simhca_qp *qp,
			       const struct simhca_ibv_create_qp *req)
{
	qp->sq_umem = ib_umem_get_va(&dev->ibdev, req->sq_va,
				     BIT(req->sq_log_size + req->sq_log_stride),
				     IB_ACCESS_LOCAL_WRITE);
	if (IS_ERR(qp->sq_umem))
		return PTR_ERR(qp->sq_umem);

	if (!req->rq_va)
		return 0;

	qp->rq_umem = ib_umem_get_va(&dev->ibdev, req->rq_va,
				     BIT(req->rq_log_size + req->rq_log_stride),
				     IB_ACCESS_LOCAL_WRITE);
	if (IS_ERR(qp->rq_umem)) {
		ib_umem_release(qp->sq_umem);
		return PTR_ERR(qp->rq_umem);
	}
	return 0;
}

static void simhca_qp_unpin_rings(struct simhca_qp *qp)
{
	ib_umem_release(qp->rq_umem);
	ib_umem_release(qp->sq_umem);
}

int simhca_create_qp(struct ib_qp *ibqp, struct ib_qp_init_attr *attr, struct ib_udata *udata)
{
	struct simhca_ucontext *uctx =
		rdma_udata_to_drv_context(udata, struct simhca_ucontext, ibucontext);
	struct simhca_dev *dev = to_sdev(ibqp->device);
	struct simhca_ibv_create_qp_resp resp = {};
	struct simhca_qp *qp = to_sqp(ibqp);
	struct simhca_ibv_create_qp req;
	int err;

	err = simhca_qp_check_type(dev, attr, rdma_udata_to_uverbs_attr_bundle(udata));
	if (err)
		goto err_out;

	err = ib_copy_validate_udata_in(udata, req, rq_log_stride);
	if (err)
		goto err_out;

	err = simhca_qp_check_rings(dev, &attr->cap, &req);
	if (err)
		goto err_out;

	err = simhca_qp_pin_rings(dev, qp, &req);
	if (err)
		goto err_out;

	attr->cap.max_send_wr = BIT(req.sq_log_size);
	attr->cap.max_recv_wr = req.rq_va ? BIT(req.rq_log_size) : 0;
	qp->cap = attr->cap;
	mutex_init(&qp->lock);
	qp->state = IB_QPS_RESET;

	err = simhca_slot_alloc(uctx, SIMHCA_SLOT_QP, &qp->slot);
	if (err)
		goto err_rings;

	err = xa_alloc_cyclic(&dev->qps, &ibqp->qp_num, qp, XA_LIMIT(2, dev->caps.max_qp + 1),
			      &dev->next_qpn, GFP_KERNEL);
	if (err < 0)
		goto err_slot;

	err = simhca_create_qp_cmd(dev, qp, &req);
	if (err)
		goto err_qpn;

	resp.uar_mmap_key = rdma_user_mmap_get_offset(qp->slot.uar->entry);
	resp.qpn = ibqp->qp_num;
	resp.slot = qp->slot.index;
	err = ib_respond_udata(udata, resp);
	if (err)
		goto err_destroy;

	ibdev_dbg(&dev->ibdev, "QP %u: %u + %u WQEs, UAR %u slot %u\n", ibqp->qp_num,
		  qp->cap.max_send_wr, qp->cap.max_recv_wr, qp->slot.uar->index, qp->slot.index);
	return 0;

err_destroy:
	simhca_cmd_destroy(dev, SIMHCA_CMD_DESTROY_QP, ibqp->qp_num);
err_qpn:
	simhca_qp_forget(dev, qp);
err_slot:
	simhca_slot_free(uctx, SIMHCA_SLOT_QP, &qp->slot);
err_rings:
	mutex_destroy(&qp->lock);
	simhca_qp_unpin_rings(qp);
err_out:
	simhca_count(dev, SIMHCA_CNT_CREATE_QP_ERR);
	return err;
}

int simhca_destroy_qp(struct ib_qp *ibqp, struct ib_udata *udata)
{
	struct simhca_ucontext *uctx =
		rdma_udata_to_drv_context(udata, struct simhca_ucontext, ibucontext);
	struct simhca_dev *dev = to_sdev(ibqp->device);
	struct simhca_qp *qp = to_sqp(ibqp);
	int err;

	err = ib_no_udata_io(udata);
	if (err)
		return err;

	simhca_cmd_destroy(dev, SIMHCA_CMD_DESTROY_QP, ibqp->qp_num);
	simhca_qp_forget(dev, qp);
	simhca_slot_free(uctx, SIMHCA_SLOT_QP, &qp->slot);
	mutex_destroy(&qp->lock);
	simhca_qp_unpin_rings(qp);
	return 0;
}

static u32 simhca_qp_access(int access)
{
	return (access & IB_ACCESS_REMOTE_WRITE ? SIMHCA_ACCESS_REMOTE_WRITE : 0) |
	       (access & IB_ACCESS_REMOTE_READ ? SIMHCA_ACCESS_REMOTE_READ : 0) |
	       (access & IB_ACCESS_REMOTE_ATOMIC ? SIMHCA_ACCESS_REMOTE_ATOMIC : 0);
}

static int simhca_qp_access_to_ib(u32 access)
{
	return (access & SIMHCA_ACCESS_REMOTE_WRITE ? IB_ACCESS_REMOTE_WRITE : 0) |
	       (access & SIMHCA_ACCESS_REMOTE_READ ? IB_ACCESS_REMOTE_READ : 0) |
	       (access & SIMHCA_ACCESS_REMOTE_ATOMIC ? IB_ACCESS_REMOTE_ATOMIC : 0);
}

static int simhca_modify_qp_check(struct simhca_qp *qp, const struct ib_qp_attr *attr, int mask)
{
	const struct simhca_caps *caps = &to_sdev(qp->ibqp.device)->caps;
	enum ib_qp_state cur, next;

	if (mask & ~IB_QP_ATTR_STANDARD_BITS)
		return -EOPNOTSUPP;

	cur = mask & IB_QP_CUR_STATE ? attr->cur_qp_state : qp->state;
	next = mask & IB_QP_STATE ? attr->qp_state : cur;
	if (!ib_modify_qp_is_ok(cur, next, qp->ibqp.qp_type, mask))
		return -EINVAL;

	if (mask & IB_QP_PORT && attr->port_num != SIMHCA_PORT)
		return -EINVAL;
	if (mask & IB_QP_PKEY_INDEX && attr->pkey_index >= SIMHCA_PKEY_TABLE_LEN)
		return -EINVAL;
	if (mask & IB_QP_MAX_QP_RD_ATOMIC && attr->max_rd_atomic > caps->max_rd_atomic)
		return -EINVAL;
	if (mask & IB_QP_MAX_DEST_RD_ATOMIC && attr->max_dest_rd_atomic > caps->max_rd_atomic)
		return -EINVAL;
	if (mask & IB_QP_ALT_PATH ||
	    (mask & IB_QP_PATH_MIG_STATE && attr->path_mig_state != IB_MIG_MIGRATED))
		return -EOPNOTSUPP;
	if (mask & IB_QP_ACCESS_FLAGS &&
	    attr->qp_access_flags & ~(SIMHCA_QP_ACCESS_FLAGS | IB_ACCESS_LOCAL_WRITE))
		return -EOPNOTSUPP;
	return 0;
}

static void simhca_modify_qp_av(struct simhca_qp_attr *hw, const struct rdma_ah_attr *ah_attr)
{
	const struct ib_global_route *grh = rdma_ah_read_grh(ah_attr);

	memcpy(hw->dgid, grh->dgid.raw, sizeof(hw->dgid));
	ether_addr_copy(hw->dmac, ah_attr->roce.dmac);
	hw->sgid_index = cpu_to_le32(grh->sgid_index);
	hw->hop_limit = grh->hop_limit;
	hw->tclass = grh->traffic_class;
}

/* Port, P_Key index, migration state and SQD notification are not told to the device */
static void simhca_modify_qp_fill(struct simhca_qp_attr *hw, const struct ib_qp_attr *attr,
				  int mask)
{
	u32 hw_mask = 0;

	if (mask & IB_QP_STATE) {
		hw_mask |= SIMHCA_QP_STATE;
		hw->state = attr->qp_state;
	}
	if (mask & IB_QP_ACCESS_FLAGS) {
		hw_mask |= SIMHCA_QP_ACCESS;
		hw->access = cpu_to_le32(simhca_qp_access(attr->qp_access_flags));
	}
	if (mask & IB_QP_QKEY) {
		hw_mask |= SIMHCA_QP_QKEY;
		hw->qkey = cpu_to_le32(attr->qkey);
	}
	if (mask & IB_QP_AV) {
		hw_mask |= SIMHCA_QP_AV;
		simhca_modify_qp_av(hw, &attr->ah_attr);
	}
	if (mask & IB_QP_PATH_MTU) {
		hw_mask |= SIMHCA_QP_PATH_MTU;
		hw->path_mtu = attr->path_mtu;
	}
	if (mask & IB_QP_TIMEOUT) {
		hw_mask |= SIMHCA_QP_TIMEOUT;
		hw->timeout = attr->timeout;
	}
	if (mask & IB_QP_RETRY_CNT) {
		hw_mask |= SIMHCA_QP_RETRY_CNT;
		hw->retry_cnt = attr->retry_cnt;
	}
	if (mask & IB_QP_RNR_RETRY) {
		hw_mask |= SIMHCA_QP_RNR_RETRY;
		hw->rnr_retry = attr->rnr_retry;
	}
	if (mask & IB_QP_MIN_RNR_TIMER) {
		hw_mask |= SIMHCA_QP_MIN_RNR_TIMER;
		hw->min_rnr_timer = attr->min_rnr_timer;
	}
	if (mask & IB_QP_RQ_PSN) {
		hw_mask |= SIMHCA_QP_RQ_PSN;
		hw->rq_psn = cpu_to_le32(attr->rq_psn);
	}
	if (mask & IB_QP_SQ_PSN) {
		hw_mask |= SIMHCA_QP_SQ_PSN;
		hw->sq_psn = cpu_to_le32(attr->sq_psn);
	}
	if (mask & IB_QP_MAX_QP_RD_ATOMIC) {
		hw_mask |= SIMHCA_QP_MAX_RD_ATOMIC;
		hw->max_rd_atomic = cpu_to_le16(attr->max_rd_atomic);
	}
	if (mask & IB_QP_MAX_DEST_RD_ATOMIC) {
		hw_mask |= SIMHCA_QP_MAX_DEST_RD_ATOMIC;
		hw->max_dest_rd_atomic = cpu_to_le16(attr->max_dest_rd_atomic);
	}
	if (mask & IB_QP_DEST_QPN) {
		hw_mask |= SIMHCA_QP_DEST_QPN;
		hw->dest_qpn = cpu_to_le32(attr->dest_qp_num);
	}
	hw->mask = cpu_to_le32(hw_mask);
}

int simhca_modify_qp(struct ib_qp *ibqp, struct ib_qp_attr *attr, int attr_mask,
		     struct ib_udata *udata)
{
	struct simhca_cmd cmd = {
		.opcode = cpu_to_le16(SIMHCA_CMD_MODIFY_QP),
		.payload.modify_qp.qpn = cpu_to_le32(ibqp->qp_num),
	};
	struct simhca_dev *dev = to_sdev(ibqp->device);
	struct simhca_qp *qp = to_sqp(ibqp);
	int err;

	err = ib_no_udata_io(udata);
	if (err)
		goto out;

	mutex_lock(&qp->lock);
	err = simhca_modify_qp_check(qp, attr, attr_mask);
	if (err)
		goto out_unlock;

	simhca_modify_qp_fill(&cmd.payload.modify_qp, attr, attr_mask);
	err = simhca_cmd_exec(dev, &cmd);
	if (err)
		goto out_unlock;

	if (attr_mask & IB_QP_STATE)
		qp->state = attr->qp_state;
out_unlock:
	mutex_unlock(&qp->lock);
out:
	if (err) {
		ibdev_dbg(&dev->ibdev, "QP %u: modify with mask %#x failed: %pe\n", ibqp->qp_num,
			  attr_mask, ERR_PTR(err));
		simhca_count(dev, SIMHCA_CNT_MODIFY_QP_ERR);
	}
	return err;
}

int simhca_query_qp(struct ib_qp *ibqp, struct ib_qp_attr *attr, int attr_mask,
		    struct ib_qp_init_attr *init_attr)
{
	struct simhca_cmd cmd = {
		.opcode = cpu_to_le16(SIMHCA_CMD_QUERY_QP),
		.payload.query_qp.qpn = cpu_to_le32(ibqp->qp_num),
	};
	struct simhca_dev *dev = to_sdev(ibqp->device);
	struct simhca_qp *qp = to_sqp(ibqp);
	struct simhca_qp_attr hw;
	union ib_gid dgid;
	int err;

	err = simhca_cmd_query(dev, &cmd, &hw, sizeof(hw));
	if (err)
		return err;

	/* ib_core gives memory as it is, and tells the process all of it */
	memset(attr, 0, sizeof(*attr));
	memset(init_attr, 0, sizeof(*init_attr));
	attr->qp_state = hw.state;
	attr->cur_qp_state = hw.state;
	attr->path_mtu = hw.path_mtu;
	attr->path_mig_state = IB_MIG_MIGRATED;
	attr->qkey = le32_to_cpu(hw.qkey);
	attr->rq_psn = le32_to_cpu(hw.rq_psn);
	attr->sq_psn = le32_to_cpu(hw.sq_psn);
	attr->dest_qp_num = le32_to_cpu(hw.dest_qpn);
	attr->qp_access_flags = simhca_qp_access_to_ib(le32_to_cpu(hw.access));
	attr->port_num = SIMHCA_PORT;
	attr->max_rd_atomic = le16_to_cpu(hw.max_rd_atomic);
	attr->max_dest_rd_atomic = le16_to_cpu(hw.max_dest_rd_atomic);
	attr->min_rnr_timer = hw.min_rnr_timer;
	attr->timeout = hw.timeout;
	attr->retry_cnt = hw.retry_cnt;
	attr->rnr_retry = hw.rnr_retry;
	attr->cap = qp->cap;

	attr->ah_attr.type = RDMA_AH_ATTR_TYPE_ROCE;
	memcpy(dgid.raw, hw.dgid, sizeof(dgid.raw));
	rdma_ah_set_grh(&attr->ah_attr, &dgid, 0, le32_to_cpu(hw.sgid_index), hw.hop_limit,
			hw.tclass);
	rdma_ah_set_port_num(&attr->ah_attr, SIMHCA_PORT);
	ether_addr_copy(attr->ah_attr.roce.dmac, hw.dmac);

	init_attr->cap = qp->cap;
	init_attr->qp_type = ibqp->qp_type;
	init_attr->send_cq = ibqp->send_cq;
	init_attr->recv_cq = ibqp->recv_cq;
	return 0;
}
