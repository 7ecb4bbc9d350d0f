// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* Queue pairs of any type: states, completions, flushing. */
#include <errno.h>
#include <string.h>

#include "internal.h"

int engine_qp_create(struct engine_qp *qp)
{
	int ret;

	if ((qp->type != ENGINE_QPT_RC && qp->type != ENGINE_QPT_UC &&
	     qp->type != ENGINE_QPT_UD) || !qp->pdn ||
	    qp->pdn >= ENGINE_MAX_PDS)
		return -EINVAL;
	if (qp->qpn < ENGINE_FIRST_QPN &&
	    (qp->qpn != ENGINE_GSI_QPN || qp->type != ENGINE_QPT_UD))
		return -EINVAL;
	list_init(&qp->node);
	list_init(&qp->peer_node);
	list_init(&qp->requesters);
	list_init(&qp->windows);
	ret = idtab_insert(&qp->hca->qps, qp->qpn, qp);
	if (ret)
		return ret;
	ret = fabric_add_qp(qp->hca->fabric);
	if (ret) {
		idtab_remove(&qp->hca->qps, qp->qpn);
		return ret;
	}
	qp->send_cq->refs++;
	qp->recv_cq->refs++;
	if (qp->rq)
		qp->rq->refs++;
	return 0;
}

void qp_unlink_peer(struct engine_qp *qp)
{
	list_del(&qp->peer_node);
	qp->peer = NULL;
	qp->wr_admitted = false;
	qp->done = 0;
	qp->remote_hint = (struct sgtab_hint) { 0 };
}

static void qp_drop_requesters(struct engine_qp *qp)
{
	struct list_head *pos, *tmp;

	list_for_each_safe(pos, tmp, &qp->requesters)
		qp_unlink_peer(list_entry(pos, struct engine_qp, peer_node));
}

void engine_qp_destroy(struct engine_qp *qp)
{
	qp_sched_idle(qp);
	qp_unlink_peer(qp);
	qp_drop_requesters(qp);
	mw_unbind_all(qp);
	ud_detach_all(qp);
	idtab_remove(&qp->hca->qps, qp->qpn);
	fabric_remove_qp(qp->hca->fabric);
	qp->send_cq->refs--;
	qp->recv_cq->refs--;
	if (qp->rq)
		qp->rq->refs--;
}

/* ---- states ---- */

void qp_enter_error(struct engine_qp *qp)
{
	if (qp->attr.state == ENGINE_QPS_ERR)
		return;
	qp->attr.state = ENGINE_QPS_ERR;
	qp->ack_timeout = false;
	qp_unlink_peer(qp);
	qp_drop_requesters(qp);
	qp_sched_active(qp);
}

void qp_fatal(struct engine_qp *qp)
{
	if (qp->attr.state == ENGINE_QPS_ERR)
		return;
	qp->hca->ops->qp_event(qp, ENGINE_EVENT_QP_FATAL);
	qp_enter_error(qp);
}

static void qp_enter_reset(struct engine_qp *qp)
{
	qp_sched_idle(qp);
	qp_unlink_peer(qp);
	qp_drop_requesters(qp);
	memset(&qp->attr, 0, sizeof(qp->attr));
	qp->wr_valid = false;
	qp->ack_timeout = false;
	qp->sq_dead = false;
	qp->rwr_valid = false;
	if (qp->rq && !qp->rq->srqn)
		qp->rq->error = false;
	qp->comm_est = false;
	qp->last_wqe = false;
}

void qp_check_drained(struct engine_qp *qp)
{
	if (qp->attr.state == ENGINE_QPS_SQD && !qp->wr_valid && qp->attr.sqd_notify)
		qp->hca->ops->qp_event(qp, ENGINE_EVENT_SQ_DRAINED);
}

struct qp_transition {
	uint8_t from;
	uint8_t to;
	uint32_t required;
	uint32_t optional;
};

/* IBTA 11.2.5.2, table 96 "QP state transition properties". */
static const struct qp_transition qp_rc_transitions[] = {
	{ ENGINE_QPS_RESET, ENGINE_QPS_INIT, ENGINE_QP_ACCESS, 0 },
	{ ENGINE_QPS_INIT, ENGINE_QPS_INIT, 0, ENGINE_QP_ACCESS },
	{ ENGINE_QPS_INIT, ENGINE_QPS_RTR,
	  ENGINE_QP_AV | ENGINE_QP_PATH_MTU | ENGINE_QP_DEST_QPN | ENGINE_QP_RQ_PSN |
	  ENGINE_QP_MAX_DEST_RD_ATOMIC | ENGINE_QP_MIN_RNR_TIMER,
	  ENGINE_QP_ACCESS },
	{ ENGINE_QPS_RTR, ENGINE_QPS_RTS,
	  ENGINE_QP_TIMEOUT | ENGINE_QP_RETRY_CNT | ENGINE_QP_RNR_RETRY | ENGINE_QP_SQ_PSN |
	  ENGINE_QP_MAX_RD_ATOMIC,
	  ENGINE_QP_ACCESS | ENGINE_QP_MIN_RNR_TIMER },
	{ ENGINE_QPS_RTS, ENGINE_QPS_RTS, 0, ENGINE_QP_ACCESS | ENGINE_QP_MIN_RNR_TIMER },
	{ ENGINE_QPS_RTS, ENGINE_QPS_SQD, 0, ENGINE_QP_SQD_NOTIFY },
	{ ENGINE_QPS_SQD, ENGINE_QPS_RTS, 0, ENGINE_QP_ACCESS | ENGINE_QP_MIN_RNR_TIMER },
	{ ENGINE_QPS_SQD, ENGINE_QPS_SQD, 0,
	  ENGINE_QP_AV | ENGINE_QP_TIMEOUT | ENGINE_QP_RETRY_CNT | ENGINE_QP_RNR_RETRY |
	  ENGINE_QP_MAX_RD_ATOMIC | ENGINE_QP_MAX_DEST_RD_ATOMIC | ENGINE_QP_ACCESS |
	  ENGINE_QP_MIN_RNR_TIMER },
};

static const struct qp_transition qp_uc_transitions[] = {
	{ ENGINE_QPS_RESET, ENGINE_QPS_INIT, ENGINE_QP_ACCESS, 0 },
	{ ENGINE_QPS_INIT, ENGINE_QPS_INIT, 0, ENGINE_QP_ACCESS },
	{ ENGINE_QPS_INIT, ENGINE_QPS_RTR,
	  ENGINE_QP_AV | ENGINE_QP_PATH_MTU | ENGINE_QP_DEST_QPN | ENGINE_QP_RQ_PSN,
	  ENGINE_QP_ACCESS },
	{ ENGINE_QPS_RTR, ENGINE_QPS_RTS, ENGINE_QP_SQ_PSN, ENGINE_QP_ACCESS },
	{ ENGINE_QPS_RTS, ENGINE_QPS_RTS, 0, ENGINE_QP_ACCESS },
	{ ENGINE_QPS_RTS, ENGINE_QPS_SQD, 0, ENGINE_QP_SQD_NOTIFY },
	{ ENGINE_QPS_SQD, ENGINE_QPS_RTS, 0, ENGINE_QP_ACCESS },
	{ ENGINE_QPS_SQD, ENGINE_QPS_SQD, 0, ENGINE_QP_AV | ENGINE_QP_ACCESS },
	{ ENGINE_QPS_SQE, ENGINE_QPS_RTS, 0, ENGINE_QP_ACCESS },
};

/* The path MTU, which IBTA leaves to the port, bounds what may be sent. */
static const struct qp_transition qp_ud_transitions[] = {
	{ ENGINE_QPS_RESET, ENGINE_QPS_INIT, ENGINE_QP_QKEY, 0 },
	{ ENGINE_QPS_INIT, ENGINE_QPS_INIT, 0, ENGINE_QP_QKEY },
	{ ENGINE_QPS_INIT, ENGINE_QPS_RTR, ENGINE_QP_PATH_MTU, ENGINE_QP_QKEY },
	{ ENGINE_QPS_RTR, ENGINE_QPS_RTS, ENGINE_QP_SQ_PSN, ENGINE_QP_QKEY },
	{ ENGINE_QPS_RTS, ENGINE_QPS_RTS, 0, ENGINE_QP_QKEY },
	{ ENGINE_QPS_RTS, ENGINE_QPS_SQD, 0, ENGINE_QP_SQD_NOTIFY },
	{ ENGINE_QPS_SQD, ENGINE_QPS_RTS, 0, ENGINE_QP_QKEY },
	{ ENGINE_QPS_SQD, ENGINE_QPS_SQD, 0, ENGINE_QP_QKEY },
	{ ENGINE_QPS_SQE, ENGINE_QPS_RTS, 0, ENGINE_QP_QKEY },
};

static const struct {
	const struct qp_transition *table;
	size_t len;
} qp_transitions[] = {
	[ENGINE_QPT_RC] = { qp_rc_transitions,
			    sizeof(qp_rc_transitions) / sizeof(qp_rc_transitions[0]) },
	[ENGINE_QPT_UC] = { qp_uc_transitions,
			    sizeof(qp_uc_transitions) / sizeof(qp_uc_transitions[0]) },
	[ENGINE_QPT_UD] = { qp_ud_transitions,
			    sizeof(qp_ud_transitions) / sizeof(qp_ud_transitions[0]) },
};

static int qp_check_transition(enum engine_qp_type type, enum engine_qp_state from,
			       enum engine_qp_state to, uint32_t mask)
{
	const struct qp_transition *t = qp_transitions[type].table;
	const struct qp_transition *end = t + qp_transitions[type].len;

	mask &= ~ENGINE_QP_STATE;
	if (to == ENGINE_QPS_RESET || to == ENGINE_QPS_ERR)
		return mask ? -EINVAL : 0;
	for (; t < end; t++) {
		if (t->from != from || t->to != to)
			continue;
		if (t->required & ~mask)
			return -EINVAL;
		return mask & ~(t->required | t->optional) ? -EINVAL : 0;
	}
	return -EINVAL;
}

static int qp_check_attr(struct engine_qp *qp, const struct engine_qp_attr *attr, uint32_t mask)
{
	struct engine_hca *hca = qp->hca;

	if ((mask & ENGINE_QP_ACCESS && attr->access & ~ENGINE_ACCESS_QP) ||
	    (mask & ENGINE_QP_PATH_MTU && (attr->path_mtu < 1 || attr->path_mtu > 5)) ||
	    (mask & ENGINE_QP_TIMEOUT && attr->timeout > 31) ||
	    (mask & ENGINE_QP_RETRY_CNT && attr->retry_cnt > 7) ||
	    (mask & ENGINE_QP_RNR_RETRY && attr->rnr_retry > 7) ||
	    (mask & ENGINE_QP_MIN_RNR_TIMER && attr->min_rnr_timer > 31) ||
	    (mask & ENGINE_QP_RQ_PSN && attr->rq_psn >> 24) ||
	    (mask & ENGINE_QP_SQ_PSN && attr->sq_psn >> 24) ||
	    (mask & ENGINE_QP_DEST_QPN && attr->dest_qpn >> 24) ||
	    (mask & ENGINE_QP_MAX_RD_ATOMIC && attr->max_rd_atomic > ENGINE_MAX_RD_ATOMIC) ||
	    (mask & ENGINE_QP_MAX_DEST_RD_ATOMIC &&
	     attr->max_dest_rd_atomic > ENGINE_MAX_RD_ATOMIC))
		return -EINVAL;
	if (mask & ENGINE_QP_AV) {
		if (attr->flow_label & ~ENGINE_FLOW_LABEL_MASK)
			return -EINVAL;
		if (attr->sgid_index >= ENGINE_MAX_GIDS || !hca->gids[attr->sgid_index].valid)
			return -EINVAL;
		if (!fabric_find_gid(hca->fabric, hca, attr->dgid))
			return -ENETUNREACH;
	}
	return 0;
}

static void qp_take_attr(struct engine_qp_attr *to, const struct engine_qp_attr *from,
			 uint32_t mask)
{
	if (mask & ENGINE_QP_ACCESS)
		to->access = from->access;
	if (mask & ENGINE_QP_QKEY)
		to->qkey = from->qkey;
	if (mask & ENGINE_QP_AV) {
		to->hop_limit = from->hop_limit;
		to->tclass = from->tclass;
		to->sgid_index = from->sgid_index;
		to->flow_label = from->flow_label;
		to->sl = from->sl;
		memcpy(to->dgid, from->dgid, sizeof(to->dgid));
		memcpy(to->dmac, from->dmac, sizeof(to->dmac));
	}
	if (mask & ENGINE_QP_PATH_MTU)
		to->path_mtu = from->path_mtu;
	if (mask & ENGINE_QP_TIMEOUT)
		to->timeout = from->timeout;
	if (mask & ENGINE_QP_RETRY_CNT)
		to->retry_cnt = from->retry_cnt;
	if (mask & ENGINE_QP_RNR_RETRY)
		to->rnr_retry = from->rnr_retry;
	if (mask & ENGINE_QP_MIN_RNR_TIMER)
		to->min_rnr_timer = from->min_rnr_timer;
	if (mask & ENGINE_QP_RQ_PSN)
		to->rq_psn = from->rq_psn;
	if (mask & ENGINE_QP_SQ_PSN)
		to->sq_psn = from->sq_psn;
	if (mask & ENGINE_QP_MAX_RD_ATOMIC)
		to->max_rd_atomic = from->max_rd_atomic;
	if (mask & ENGINE_QP_MAX_DEST_RD_ATOMIC)
		to->max_dest_rd_atomic = from->max_dest_rd_atomic;
	if (mask & ENGINE_QP_DEST_QPN)
		to->dest_qpn = from->dest_qpn;
}

int engine_qp_modify(struct engine_qp *qp, const struct engine_qp_attr *attr, uint32_t mask)
{
	enum engine_qp_state from = qp->attr.state;
	enum engine_qp_state to = mask & ENGINE_QP_STATE ? attr->state : from;
	int ret;

	if (mask & ~ENGINE_QP_ALL || to > ENGINE_QPS_ERR)
		return -EINVAL;
	ret = qp_check_transition(qp->type, from, to, mask);
	if (ret)
		return ret;
	ret = qp_check_attr(qp, attr, mask);
	if (ret)
		return ret;

	if (to == ENGINE_QPS_RESET) {
		qp_enter_reset(qp);
		return 0;
	}
	if (to == ENGINE_QPS_ERR) {
		qp_enter_error(qp);
		return 0;
	}
	qp_take_attr(&qp->attr, attr, mask);
	if (from != to)
		qp->attr.sqd_notify = mask & ENGINE_QP_SQD_NOTIFY && attr->sqd_notify;
	qp->attr.state = to;
	if (mask & (ENGINE_QP_AV | ENGINE_QP_DEST_QPN)) {
		qp_unlink_peer(qp);
		qp_drop_requesters(qp);
	}
	if (mask & ENGINE_QP_RETRY_CNT)
		qp->retries_left = attr->retry_cnt;
	if (mask & ENGINE_QP_RNR_RETRY)
		qp->rnr_left = attr->rnr_retry;
	if (from != ENGINE_QPS_SQD)
		qp_check_drained(qp);
	engine_qp_ring(qp);
	return 0;
}

/* ---- completions ---- */

void qp_complete_send(struct engine_qp *qp, enum engine_wc_status status, uint32_t verr)
{
	const struct engine_send_wr *wr = &qp->wr;
	struct engine_wc wc = {
		.qp = qp,
		.index = wr->index,
		.vendor_err = verr,
		.opcode = wr->opcode,
		.status = status,
		.solicited = status != ENGINE_WC_SUCCESS,
	};

	qp->wr_valid = false;
	if (status == ENGINE_WC_SUCCESS) {
		if (!(wr->flags & ENGINE_WR_SIGNALED))
			return;
		if (wr->opcode >= ENGINE_WR_RDMA_READ &&
		    wr->opcode <= ENGINE_WR_ATOMIC_FETCH_AND_ADD)
			wc.byte_len = wr->length;
	}
	if (!cq_complete(qp->send_cq, &wc))
		qp_fatal(qp);
}

bool qp_complete_recv(struct engine_qp *qp, enum engine_wc_status status, uint32_t verr,
		      const struct engine_qp *sender)
{
	const struct engine_send_wr *wr = sender ? &sender->wr : NULL;
	struct engine_wc wc = {
		.qp = qp,
		.index = qp->rwr.index,
		.vendor_err = verr ? verr | ENGINE_VERR_RECV : 0,
		.opcode = wr ? wr->opcode : ENGINE_WR_SEND,
		.status = status,
		.recv = true,
		.solicited = status != ENGINE_WC_SUCCESS,
	};

	qp->rwr_valid = false;
	if (status == ENGINE_WC_SUCCESS) {
		wc.byte_len = wr->length;
		if (qp->type == ENGINE_QPT_UD) {
			wc.byte_len += ENGINE_UD_HEADER;
			wc.grh = true;
			wc.src_qpn = sender->qpn;
			wc.sl = wr->ud.sl;
		}
		wc.imm_data = wr->imm_data;
		wc.with_imm = wr->opcode == ENGINE_WR_SEND_WITH_IMM ||
			      wr->opcode == ENGINE_WR_RDMA_WRITE_WITH_IMM;
		wc.inv_rkey = wr->rkey;
		wc.with_inv = wr->opcode == ENGINE_WR_SEND_WITH_INV;
		wc.solicited = wr->flags & ENGINE_WR_SOLICITED;
		qp->hca->stats.rx_msgs++;
		qp->hca->stats.rx_bytes += wr->length;
	}
	if (cq_complete(qp->recv_cq, &wc))
		return true;
	qp_fatal(qp);
	return false;
}

/* ---- fetching ---- */

int qp_fetch_send(struct engine_qp *qp)
{
	int ret;

	if (qp->sq_dead)
		return 0;
	ret = qp->hca->ops->fetch_send(qp, &qp->wr);
	if (!ret)
		return 0;
	if (ret == 1 || ret == -EINVAL) {
		qp->wr_valid = true;
		qp->wr_admitted = false;
		qp->done = 0;
		return ret;
	}
	if (ret == -EFAULT)
		qp->hca->stats.translate_faults++;
	qp->sq_dead = true;
	qp_fatal(qp);
	return 0;
}

int qp_fetch_recv(struct engine_qp *qp)
{
	struct engine_rq *rq = qp->rq;
	int ret;

	/* An SRQ that is lost; each of its QPs is told when it wants something from it. */
	if (rq->error) {
		qp_fatal(qp);
		return 0;
	}
	ret = rq->hca->ops->fetch_recv(rq, &qp->rwr);
	if (!ret) {
		srq_check_limit(rq, 0);
		return 0;
	}
	if (ret == 1 || ret == -EINVAL) {
		qp->rwr_valid = true;
		srq_check_limit(rq, qp->rwr.left);
		return ret;
	}
	if (ret == -EFAULT)
		qp->hca->stats.translate_faults++;
	if (rq->srqn)
		rq->hca->ops->srq_event(rq, ENGINE_EVENT_SRQ_ERR);
	rq->error = true;
	qp_fatal(qp);
	return 0;
}

/* ---- turns ---- */

/* What others may still take from a shared queue stays there. */
static bool qp_owns_rq(const struct engine_qp *qp)
{
	return qp->rq && !qp->rq->srqn && !qp->rq->error;
}

/* Everything is flushed, so is the last receive that this QP had from its SRQ. */
static void qp_report_last_wqe(struct engine_qp *qp)
{
	if (!qp->rq || !qp->rq->srqn || qp->last_wqe)
		return;
	qp->last_wqe = true;
	qp->hca->ops->qp_event(qp, ENGINE_EVENT_LAST_WQE);
}

static bool qp_flush_one(struct engine_qp *qp)
{
	if (qp->wr_valid || qp_fetch_send(qp)) {
		qp_complete_send(qp, ENGINE_WC_WR_FLUSH_ERR, 0);
		return true;
	}
	if (qp->attr.state == ENGINE_QPS_SQE)
		return false;
	if (qp->rwr_valid || (qp_owns_rq(qp) && qp_fetch_recv(qp))) {
		qp_complete_recv(qp, ENGINE_WC_WR_FLUSH_ERR, 0, NULL);
		return true;
	}
	return false;
}

static uint32_t qp_flush_turn(struct engine_qp *qp)
{
	struct engine_hca *hca = qp->hca;
	unsigned int n = 0;

	dma_map_read_lock(hca->map);
	while (n < ENGINE_TURN_WRS && qp_flush_one(qp))
		n++;
	dma_map_read_unlock(hca->map);

	if (n)
		hca->fabric->flushed_interval = FLUSHED_SCAN_MIN_NS;
	if (n == ENGINE_TURN_WRS) {
		qp_sched_active(qp);
	} else if (qp->attr.state == ENGINE_QPS_SQE) {
		qp_sched_idle(qp);
	} else {
		qp_report_last_wqe(qp);
		if (qp_owns_rq(qp))
			qp_sched_flushed(qp);
		else
			qp_sched_idle(qp);
	}
	return n * ENGINE_PIECE_BYTES;
}

uint32_t qp_turn(struct engine_qp *qp)
{
	qp_sched_idle(qp);
	if (!qp->hca->running)
		return 0;
	switch (qp->attr.state) {
	case ENGINE_QPS_RTS:
	case ENGINE_QPS_SQD:
		return qp->type == ENGINE_QPT_UD ? ud_turn(qp) : rc_turn(qp);
	case ENGINE_QPS_SQE:
	case ENGINE_QPS_ERR:
		return qp_flush_turn(qp);
	case ENGINE_QPS_RESET:
	case ENGINE_QPS_INIT:
	case ENGINE_QPS_RTR:
		break;
	}
	return 0;
}
