// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* Objects made and destroyed by commands. */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "simhca.h"

#define SAME(a, b)	static_assert((int)(a) == (int)(b), #a)

SAME(SIMHCA_MAX_QPS, ENGINE_MAX_QPS);
SAME(SIMHCA_MAX_CQS, ENGINE_MAX_CQS);
SAME(SIMHCA_MAX_SRQS, ENGINE_MAX_SRQS);
SAME(SIMHCA_MAX_MRS, ENGINE_MAX_MRS);
SAME(SIMHCA_MAX_PDS, ENGINE_MAX_PDS);
SAME(SIMHCA_MAX_RD_ATOMIC, ENGINE_MAX_RD_ATOMIC);
SAME(SIMHCA_GID_TABLE_LEN, ENGINE_MAX_GIDS);
SAME(SIMHCA_KEY_INDEX_SHIFT, ENGINE_KEY_SHIFT);
SAME(SIMHCA_ACCESS_LOCAL_WRITE, ENGINE_ACCESS_LOCAL_WRITE);
SAME(SIMHCA_ACCESS_REMOTE_WRITE, ENGINE_ACCESS_REMOTE_WRITE);
SAME(SIMHCA_ACCESS_REMOTE_READ, ENGINE_ACCESS_REMOTE_READ);
SAME(SIMHCA_ACCESS_REMOTE_ATOMIC, ENGINE_ACCESS_REMOTE_ATOMIC);
SAME(SIMHCA_ACCESS_MW_BIND, ENGINE_ACCESS_MW_BIND);
SAME(SIMHCA_ACCESS_ZERO_BASED, ENGINE_ACCESS_ZERO_BASED);
SAME(SIMHCA_ACCESS_FLUSH_GLOBAL, ENGINE_ACCESS_FLUSH_GLOBAL);
SAME(SIMHCA_ACCESS_FLUSH_PERSISTENT, ENGINE_ACCESS_FLUSH_PERSISTENT);
SAME(SIMHCA_REREG_TRANS, ENGINE_REREG_TRANS);
SAME(SIMHCA_REREG_PD, ENGINE_REREG_PD);
SAME(SIMHCA_REREG_ACCESS, ENGINE_REREG_ACCESS);
SAME(SIMHCA_QP_STATE, ENGINE_QP_STATE);
SAME(SIMHCA_QP_ACCESS, ENGINE_QP_ACCESS);
SAME(SIMHCA_QP_QKEY, ENGINE_QP_QKEY);
SAME(SIMHCA_QP_AV, ENGINE_QP_AV);
SAME(SIMHCA_QP_PATH_MTU, ENGINE_QP_PATH_MTU);
SAME(SIMHCA_QP_TIMEOUT, ENGINE_QP_TIMEOUT);
SAME(SIMHCA_QP_RETRY_CNT, ENGINE_QP_RETRY_CNT);
SAME(SIMHCA_QP_RNR_RETRY, ENGINE_QP_RNR_RETRY);
SAME(SIMHCA_QP_MIN_RNR_TIMER, ENGINE_QP_MIN_RNR_TIMER);
SAME(SIMHCA_QP_RQ_PSN, ENGINE_QP_RQ_PSN);
SAME(SIMHCA_QP_SQ_PSN, ENGINE_QP_SQ_PSN);
SAME(SIMHCA_QP_MAX_RD_ATOMIC, ENGINE_QP_MAX_RD_ATOMIC);
SAME(SIMHCA_QP_MAX_DEST_RD_ATOMIC, ENGINE_QP_MAX_DEST_RD_ATOMIC);
SAME(SIMHCA_QP_DEST_QPN, ENGINE_QP_DEST_QPN);
SAME(SIMHCA_QP_SQD_NOTIFY, ENGINE_QP_SQD_NOTIFY);
SAME(SIMHCA_QPS_RESET, ENGINE_QPS_RESET);
SAME(SIMHCA_QPS_INIT, ENGINE_QPS_INIT);
SAME(SIMHCA_QPS_RTR, ENGINE_QPS_RTR);
SAME(SIMHCA_QPS_RTS, ENGINE_QPS_RTS);
SAME(SIMHCA_QPS_SQD, ENGINE_QPS_SQD);
SAME(SIMHCA_QPS_SQE, ENGINE_QPS_SQE);
SAME(SIMHCA_QPS_ERR, ENGINE_QPS_ERR);
SAME(SIMHCA_QPT_RC, ENGINE_QPT_RC);
SAME(SIMHCA_QPT_UC, ENGINE_QPT_UC);
SAME(SIMHCA_QPT_UD, ENGINE_QPT_UD);
SAME(SIMHCA_GSI_QPN, ENGINE_GSI_QPN);
SAME(SIMHCA_MAX_MCAST, ENGINE_MAX_MCAST);

uint16_t obj_status(int err)
{
	switch (err) {
	case 0:
		return SIMHCA_CMD_OK;
	case -ENOENT:
		return SIMHCA_CMD_ENOENT;
	case -EEXIST:
		return SIMHCA_CMD_EEXIST;
	case -EBUSY:
		return SIMHCA_CMD_EBUSY;
	case -ENOMEM:
		return SIMHCA_CMD_ENOMEM;
	case -EFAULT:
		return SIMHCA_CMD_EFAULT;
	case -EOPNOTSUPP:
		return SIMHCA_CMD_EOPNOTSUPP;
	case -ENETUNREACH:
		return SIMHCA_CMD_ENETUNREACH;
	default:
		return SIMHCA_CMD_EINVAL;
	}
}

/* ---- event queues ---- */

uint16_t obj_create_eq(struct simhca_dev *dev, const struct simhca_cmd_create_eq *cmd)
{
	uint32_t eqn = le32toh(cmd->eqn);
	uint32_t log_size = le32toh(cmd->log_size);
	struct simhca_eq *eq;
	int ret;

	if (eqn >= SIMHCA_MAX_EQS || le32toh(cmd->vector) >= SIMHCA_NUM_VECTORS ||
	    log_size > SIMHCA_MAX_LOG_CQE)
		return SIMHCA_CMD_EINVAL;
	if (dev->eqs[eqn])
		return SIMHCA_CMD_EEXIST;
	eq = engine_alloc(&dev->hca, sizeof(*eq));
	if (!eq)
		return SIMHCA_CMD_ENOMEM;
	eq->vector = le32toh(cmd->vector);
	eq->log_size = log_size;
	list_init(&eq->pending);
	ret = ring_create(dev, &eq->ring, &cmd->ring, sizeof(struct simhca_eqe) << log_size);
	if (ret) {
		engine_free(&dev->hca, eq, sizeof(*eq));
		return obj_status(ret);
	}
	__atomic_store_n(&dev_uar(dev, SIMHCA_KERNEL_UAR)->eq_ci[eqn], 0, __ATOMIC_RELAXED);
	dev->eqs[eqn] = eq;
	return SIMHCA_CMD_OK;
}

uint16_t obj_destroy_eq(struct simhca_dev *dev, uint32_t eqn)
{
	struct simhca_eq *eq = eqn < SIMHCA_MAX_EQS ? dev->eqs[eqn] : NULL;

	if (!eq)
		return SIMHCA_CMD_ENOENT;
	if (eq->refs)
		return SIMHCA_CMD_EBUSY;
	dev->eqs[eqn] = NULL;
	ring_destroy(dev, &eq->ring);
	engine_free(&dev->hca, eq, sizeof(*eq));
	return SIMHCA_CMD_OK;
}

/* ---- memory regions and windows ---- */

/* What SIMHCA_CMD_QUERY_DEV has told is what there is. */
static bool key_index_ok(const struct simhca_dev *dev, uint32_t key)
{
	return key >> SIMHCA_KEY_INDEX_SHIFT <= dev->max_mr;
}

static uint16_t obj_create_fast_mr(struct simhca_dev *dev, const struct simhca_cmd_create_mr *cmd)
{
	uint32_t max_segs = le32toh(cmd->sgl.nsegs);

	if (cmd->access || cmd->iova || cmd->length || cmd->sgl.addr || cmd->sgl.length ||
	    max_segs > SIMHCA_MAX_FAST_SEGS)
		return SIMHCA_CMD_EINVAL;
	return obj_status(engine_mr_create_fast(&dev->hca, le32toh(cmd->key), le32toh(cmd->pdn),
						max_segs));
}

uint16_t obj_create_mr(struct simhca_dev *dev, const struct simhca_cmd_create_mr *cmd)
{
	uint32_t flags = le32toh(cmd->flags);
	uint64_t iova = le64toh(cmd->iova);
	uint64_t mem = 0;
	struct sgtab sg;
	int ret = 0;

	if (!key_index_ok(dev, le32toh(cmd->key)))
		return SIMHCA_CMD_EINVAL;
	if (flags == SIMHCA_MR_FAST)
		return obj_create_fast_mr(dev, cmd);
	if (flags & ~SIMHCA_MR_DMA)
		return SIMHCA_CMD_EOPNOTSUPP;
	if (flags & SIMHCA_MR_DMA) {
		iova = 0;
		sgtab_init_one(&sg, 0, UINT64_MAX);
	} else {
		ret = ring_load_sgl(dev, &cmd->sgl, le64toh(cmd->length), &sg, &mem);
	}
	if (ret)
		return obj_status(ret);
	ret = engine_mr_create(&dev->hca, le32toh(cmd->key), le32toh(cmd->pdn),
			       le32toh(cmd->access), iova, &sg, mem);
	if (ret) {
		sgtab_destroy(&sg);
		engine_uncharge(&dev->hca, mem);
	}
	return obj_status(ret);
}

uint16_t obj_rereg_mr(struct simhca_dev *dev, const struct simhca_cmd_rereg_mr *cmd)
{
	uint32_t mask = le32toh(cmd->mask);
	struct sgtab sg = { 0 };
	uint64_t mem = 0;
	int ret;

	if (mask & SIMHCA_REREG_TRANS) {
		ret = ring_load_sgl(dev, &cmd->sgl, le64toh(cmd->length), &sg, &mem);
		if (ret)
			return obj_status(ret);
	}
	ret = engine_mr_rereg(&dev->hca, le32toh(cmd->key), mask, le32toh(cmd->pdn),
			      le32toh(cmd->access), le64toh(cmd->iova), &sg, mem);
	if (ret) {
		sgtab_destroy(&sg);
		engine_uncharge(&dev->hca, mem);
	}
	return obj_status(ret);
}

uint16_t obj_create_mw(struct simhca_dev *dev, const struct simhca_cmd_create_mw *cmd)
{
	enum engine_key_type type;

	if (!key_index_ok(dev, le32toh(cmd->key)))
		return SIMHCA_CMD_EINVAL;
	switch (le32toh(cmd->type)) {
	case SIMHCA_MW_TYPE_1:
		type = ENGINE_KEY_MW_1;
		break;
	case SIMHCA_MW_TYPE_2:
		type = ENGINE_KEY_MW_2;
		break;
	default:
		return SIMHCA_CMD_EINVAL;
	}
	return obj_status(engine_mw_create(&dev->hca, le32toh(cmd->key), le32toh(cmd->pdn), type));
}

/* ---- queue pairs ---- */

static int qp_create_queue(struct simhca_dev *dev, struct simhca_queue *q,
			   const struct simhca_sgl *sgl, uint8_t log_size, uint8_t log_stride)
{
	if (log_size > SIMHCA_MAX_LOG_WR)
		return -EINVAL;
	q->log_size = log_size;
	q->log_stride = log_stride;
	return ring_create(dev, &q->ring, sgl, 1ull << (log_size + log_stride));
}

int obj_create_rq(struct simhca_dev *dev, struct simhca_queue *q, const struct simhca_sgl *sgl,
		  uint8_t log_size, uint8_t log_stride)
{
	if (log_stride < SIMHCA_MIN_LOG_RQ_STRIDE || log_stride > SIMHCA_MAX_LOG_STRIDE)
		return -EINVAL;
	return qp_create_queue(dev, q, sgl, log_size, log_stride);
}

/* @srq: NULL: the QP has a receive queue of its own, or none. */
static int qp_create_queues(struct simhca_dev *dev, struct simhca_qp *qp,
			    const struct simhca_cmd_create_qp *cmd, struct engine_rq *srq)
{
	int ret;

	if (cmd->sq_log_stride < SIMHCA_MIN_LOG_SQ_STRIDE ||
	    cmd->sq_log_stride > SIMHCA_MAX_LOG_STRIDE || (srq && cmd->rq.nsegs))
		return -EINVAL;
	ret = qp_create_queue(dev, &qp->sq, &cmd->sq, cmd->sq_log_size, cmd->sq_log_stride);
	if (ret)
		return ret;
	qp->base.rq = srq;
	if (!cmd->rq.nsegs)
		return 0;
	ret = obj_create_rq(dev, &qp->rq.q, &cmd->rq, cmd->rq_log_size, cmd->rq_log_stride);
	if (ret) {
		ring_destroy(dev, &qp->sq.ring);
		return ret;
	}
	qp->base.rq = &qp->rq.base;
	return 0;
}

static void qp_destroy_queues(struct simhca_dev *dev, struct simhca_qp *qp)
{
	ring_destroy(dev, &qp->sq.ring);
	if (qp->base.rq == &qp->rq.base)
		ring_destroy(dev, &qp->rq.q.ring);
}

uint16_t obj_create_qp(struct simhca_dev *dev, const struct simhca_cmd_create_qp *cmd)
{
	struct engine_cq *send_cq = idtab_get(&dev->hca.cqs, le32toh(cmd->send_cqn));
	struct engine_cq *recv_cq = idtab_get(&dev->hca.cqs, le32toh(cmd->recv_cqn));
	struct engine_rq *srq = idtab_get(&dev->hca.srqs, le32toh(cmd->srqn));
	struct simhca_qp *qp;
	int ret;

	if (le32toh(cmd->type) != SIMHCA_QPT_RC && le32toh(cmd->type) != SIMHCA_QPT_UC &&
	    le32toh(cmd->type) != SIMHCA_QPT_UD)
		return SIMHCA_CMD_EOPNOTSUPP;
	if (!send_cq || !recv_cq || (cmd->srqn && !srq))
		return SIMHCA_CMD_ENOENT;
	qp = engine_alloc(&dev->hca, sizeof(*qp));
	if (!qp)
		return SIMHCA_CMD_ENOMEM;
	qp->dev = dev;
	qp->slot = le32toh(cmd->slot);
	qp->rq.base.hca = &dev->hca;
	qp->rq.base.pdn = le32toh(cmd->pdn);
	qp->rq.dev = dev;
	qp->base.hca = &dev->hca;
	qp->base.qpn = le32toh(cmd->qpn);
	qp->base.pdn = le32toh(cmd->pdn);
	qp->base.type = le32toh(cmd->type);
	qp->base.send_cq = send_cq;
	qp->base.recv_cq = recv_cq;
	event_init(&qp->async, qp->base.qpn);

	ret = qp_create_queues(dev, qp, cmd, srq);
	if (ret)
		goto err_free;
	ret = doorbell_get(dev, le32toh(cmd->uar), SIMHCA_SLOT_QP, qp->slot, qp, &qp->uar);
	if (ret)
		goto err_queues;
	qp->rq.pi = &qp->uar->page->qp[qp->slot].rq_pi;
	ret = engine_qp_create(&qp->base);
	if (ret)
		goto err_doorbell;
	return SIMHCA_CMD_OK;

err_doorbell:
	doorbell_put(dev, qp->uar, SIMHCA_SLOT_QP, qp->slot);
err_queues:
	qp_destroy_queues(dev, qp);
err_free:
	engine_free(&dev->hca, qp, sizeof(*qp));
	return obj_status(ret);
}

uint16_t obj_modify_qp(struct simhca_dev *dev, const struct simhca_qp_attr *cmd)
{
	struct engine_qp *base = idtab_get(&dev->hca.qps, le32toh(cmd->qpn));
	struct engine_qp_attr attr = {
		.state = cmd->state,
		.path_mtu = cmd->path_mtu,
		.timeout = cmd->timeout,
		.retry_cnt = cmd->retry_cnt,
		.rnr_retry = cmd->rnr_retry,
		.min_rnr_timer = cmd->min_rnr_timer,
		.hop_limit = cmd->hop_limit,
		.tclass = cmd->tclass,
		.access = le32toh(cmd->access),
		.qkey = le32toh(cmd->qkey),
		.dest_qpn = le32toh(cmd->dest_qpn),
		.rq_psn = le32toh(cmd->rq_psn),
		.sq_psn = le32toh(cmd->sq_psn),
		.max_rd_atomic = le16toh(cmd->max_rd_atomic),
		.max_dest_rd_atomic = le16toh(cmd->max_dest_rd_atomic),
		.sgid_index = le32toh(cmd->sgid_index),
		.sqd_notify = cmd->sqd_notify,
		.flow_label = le32toh(cmd->flow_label),
		.sl = cmd->sl,
	};
	struct simhca_qp *qp;
	int ret;

	if (!base)
		return SIMHCA_CMD_ENOENT;
	qp = to_qp(base);
	memcpy(attr.dgid, cmd->dgid, sizeof(attr.dgid));
	memcpy(attr.dmac, cmd->dmac, sizeof(attr.dmac));
	ret = engine_qp_modify(base, &attr, le32toh(cmd->mask));
	if (ret)
		return obj_status(ret);
	if (base->attr.state == ENGINE_QPS_RESET) {
		qp->sq.ci = 0;
		qp->rq.q.ci = 0;
		event_cancel(&qp->async);
		doorbell_clear_qp(qp->uar, qp->slot);
	}
	return SIMHCA_CMD_OK;
}

uint16_t obj_query_qp(struct simhca_dev *dev, uint32_t qpn, struct simhca_qp_attr *out)
{
	struct engine_qp *base = idtab_get(&dev->hca.qps, qpn);
	const struct engine_qp_attr *attr;

	if (!base)
		return SIMHCA_CMD_ENOENT;
	attr = &base->attr;
	*out = (struct simhca_qp_attr) {
		.qpn = htole32(qpn),
		.mask = htole32(SIMHCA_QP_ALL),
		.state = attr->state,
		.path_mtu = attr->path_mtu,
		.timeout = attr->timeout,
		.retry_cnt = attr->retry_cnt,
		.rnr_retry = attr->rnr_retry,
		.min_rnr_timer = attr->min_rnr_timer,
		.hop_limit = attr->hop_limit,
		.tclass = attr->tclass,
		.access = htole32(attr->access),
		.qkey = htole32(attr->qkey),
		.dest_qpn = htole32(attr->dest_qpn),
		.rq_psn = htole32(attr->rq_psn),
		.sq_psn = htole32(attr->sq_psn),
		.max_rd_atomic = htole16(attr->max_rd_atomic),
		.max_dest_rd_atomic = htole16(attr->max_dest_rd_atomic),
		.sgid_index = htole32(attr->sgid_index),
		.sqd_notify = attr->sqd_notify,
		.sq_draining = engine_qp_draining(base),
		.flow_label = htole32(attr->flow_label),
		.sl = attr->sl,
	};
	memcpy(out->dgid, attr->dgid, sizeof(out->dgid));
	memcpy(out->dmac, attr->dmac, sizeof(out->dmac));
	return SIMHCA_CMD_OK;
}

uint16_t obj_destroy_qp(struct simhca_dev *dev, uint32_t qpn)
{
	struct engine_qp *base = idtab_get(&dev->hca.qps, qpn);
	struct simhca_qp *qp;

	if (!base)
		return SIMHCA_CMD_ENOENT;
	qp = to_qp(base);
	engine_qp_destroy(base);
	event_cancel(&qp->async);
	doorbell_put(dev, qp->uar, SIMHCA_SLOT_QP, qp->slot);
	qp_destroy_queues(dev, qp);
	engine_free(&dev->hca, qp, sizeof(*qp));
	return SIMHCA_CMD_OK;
}

uint16_t obj_attach_mcast(struct simhca_dev *dev, const struct simhca_cmd_mcast *cmd)
{
	struct engine_qp *qp = idtab_get(&dev->hca.qps, le32toh(cmd->qpn));

	return qp ? obj_status(engine_qp_attach(qp, cmd->gid)) : SIMHCA_CMD_ENOENT;
}

uint16_t obj_detach_mcast(struct simhca_dev *dev, const struct simhca_cmd_mcast *cmd)
{
	struct engine_qp *qp = idtab_get(&dev->hca.qps, le32toh(cmd->qpn));

	return qp ? obj_status(engine_qp_detach(qp, cmd->gid)) : SIMHCA_CMD_ENOENT;
}

void obj_destroy_all(struct simhca_dev *dev)
{
	uint32_t i;

	for (i = 0; idtab_next(&dev->hca.qps, &i); i++)
		obj_destroy_qp(dev, i);
	for (i = 0; idtab_next(&dev->hca.srqs, &i); i++)
		obj_destroy_srq(dev, i);
	engine_mr_destroy_all(&dev->hca);
	for (i = 0; idtab_next(&dev->hca.cqs, &i); i++)
		obj_destroy_cq(dev, i);
	for (i = 0; i < SIMHCA_MAX_EQS; i++)
		obj_destroy_eq(dev, i);
	for (i = 0; i < SIMHCA_GID_TABLE_LEN; i++)
		engine_hca_set_gid(&dev->hca, i, NULL);
	event_cancel(&dev->fatal);
}
