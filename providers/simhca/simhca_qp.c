// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * simhca: queue pairs: life cycle, posting of work requests.
 */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <ccan/minmax.h>

#include "simhca.h"
#include "simhca_abi.h"
#include "simhca_db.h"
#include "simhca_wqe.h"

/* Opcodes and flags of work requests are passed on as they are. */
static_assert((int)IBV_WR_RDMA_WRITE == SIMHCA_WR_RDMA_WRITE &&
	      (int)IBV_WR_RDMA_WRITE_WITH_IMM ==
		      SIMHCA_WR_RDMA_WRITE_WITH_IMM &&
	      (int)IBV_WR_SEND == SIMHCA_WR_SEND &&
	      (int)IBV_WR_SEND_WITH_IMM == SIMHCA_WR_SEND_WITH_IMM &&
	      (int)IBV_WR_RDMA_READ == SIMHCA_WR_RDMA_READ &&
	      (int)IBV_WR_ATOMIC_CMP_AND_SWP == SIMHCA_WR_ATOMIC_CMP_AND_SWP &&
	      (int)IBV_WR_ATOMIC_FETCH_AND_ADD ==
		      SIMHCA_WR_ATOMIC_FETCH_AND_ADD &&
	      (int)IBV_WR_LOCAL_INV == SIMHCA_WR_LOCAL_INV &&
	      (int)IBV_WR_BIND_MW == SIMHCA_WR_BIND_MW &&
	      (int)IBV_WR_SEND_WITH_INV == SIMHCA_WR_SEND_WITH_INV,
	      "opcodes differ");
static_assert((int)IBV_SEND_FENCE == SIMHCA_WR_FENCE &&
	      (int)IBV_SEND_SIGNALED == SIMHCA_WR_SIGNALED &&
	      (int)IBV_SEND_SOLICITED == SIMHCA_WR_SOLICITED &&
	      (int)IBV_SEND_INLINE == SIMHCA_WR_INLINE, "send flags differ");

#define SIMHCA_BIND_ACCESS	(IBV_ACCESS_REMOTE_WRITE |		\
				 IBV_ACCESS_REMOTE_READ |		\
				 IBV_ACCESS_REMOTE_ATOMIC |		\
				 IBV_ACCESS_LOCAL_WRITE |		\
				 IBV_ACCESS_ZERO_BASED)

#define SIMHCA_SEND_FLAGS	(IBV_SEND_FENCE | IBV_SEND_SIGNALED |	\
				 IBV_SEND_SOLICITED | IBV_SEND_INLINE)

struct simhca_qp *simhca_find_qp(struct simhca_context *ctx, uint32_t qpn)
{
	struct simhca_qp **leaf;

	if (qpn >= SIMHCA_MAX_QPS)
		return NULL;

	leaf = ctx->qp_table[qpn >> SIMHCA_QP_TABLE_SHIFT];
	return leaf ? leaf[qpn & (SIMHCA_QP_LEAF_SIZE - 1)] : NULL;
}

static int simhca_store_qp(struct simhca_context *ctx, struct simhca_qp *qp)
{
	uint32_t qpn = qp->vqp.qp.qp_num;
	struct simhca_qp ***leaf;
	int ret = 0;

	if (qpn >= SIMHCA_MAX_QPS)
		return EINVAL;

	pthread_mutex_lock(&ctx->qp_table_mutex);
	leaf = &ctx->qp_table[qpn >> SIMHCA_QP_TABLE_SHIFT];
	if (!*leaf)
		*leaf = calloc(SIMHCA_QP_LEAF_SIZE, sizeof(**leaf));
	if (*leaf)
		(*leaf)[qpn & (SIMHCA_QP_LEAF_SIZE - 1)] = qp;
	else
		ret = ENOMEM;
	pthread_mutex_unlock(&ctx->qp_table_mutex);

	return ret;
}

/* Caller holds the mutex of the table and the locks of the QP's CQs. */
static void simhca_clear_qp(struct simhca_context *ctx, struct simhca_qp *qp)
{
	uint32_t qpn = qp->vqp.qp.qp_num;

	ctx->qp_table[qpn >> SIMHCA_QP_TABLE_SHIFT]
		     [qpn & (SIMHCA_QP_LEAF_SIZE - 1)] = NULL;
}

/* The ring for @max_wr WQEs of at most @wqe_size bytes. */
static int simhca_alloc_wq(struct simhca_wq *wq, struct ibv_pd *pd,
			   enum simhca_resource type, uint32_t max_wr,
			   uint32_t wqe_size)
{
	int ret;

	wq->size = roundup_pow_of_two(max_wr);
	wq->log_stride = simhca_log2_up(wqe_size);

	wq->wrid = calloc(wq->size, sizeof(*wq->wrid));
	if (!wq->wrid)
		return ENOMEM;

	ret = simhca_alloc_buf(&wq->buf, pd, (size_t)wq->size << wq->log_stride,
			       type);
	if (ret)
		goto err_free_wrid;

	pthread_spin_init(&wq->lock, PTHREAD_PROCESS_PRIVATE);
	return 0;

err_free_wrid:
	free(wq->wrid);
	return ret;
}

static void simhca_free_wq(struct simhca_wq *wq)
{
	if (!wq->size)
		return;

	pthread_spin_destroy(&wq->lock);
	simhca_free_buf(&wq->buf);
	free(wq->wrid);
}

static uint32_t simhca_wq_sges(const struct simhca_context *ctx,
			       const struct simhca_wq *wq, size_t head_size)
{
	size_t room = (1u << wq->log_stride) - head_size;

	return min_t(uint32_t, ctx->max_sge, room / sizeof(struct simhca_sge));
}

static int simhca_check_init_attr(const struct simhca_context *ctx,
				  const struct ibv_qp_init_attr_ex *attr)
{
	uint32_t max_wr = 1u << ctx->max_log_wr;

	if (!check_comp_mask(attr->comp_mask,
			     IBV_QP_INIT_ATTR_PD |
				     IBV_QP_INIT_ATTR_CREATE_FLAGS |
				     IBV_QP_INIT_ATTR_SEND_OPS_FLAGS) ||
	    (attr->comp_mask & IBV_QP_INIT_ATTR_CREATE_FLAGS &&
	     attr->create_flags) ||
	    (attr->qp_type != IBV_QPT_RC && attr->qp_type != IBV_QPT_UC &&
	     attr->qp_type != IBV_QPT_UD))
		return EOPNOTSUPP;

	if (!(attr->comp_mask & IBV_QP_INIT_ATTR_PD))
		return EINVAL;

	if (attr->comp_mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS &&
	    !simhca_wr_ops_ok(attr->qp_type, attr->send_ops_flags))
		return EOPNOTSUPP;

	if (attr->cap.max_send_wr > max_wr ||
	    (!attr->srq && attr->cap.max_recv_wr > max_wr) ||
	    attr->cap.max_send_sge > ctx->max_sge ||
	    (!attr->srq && attr->cap.max_recv_sge > ctx->max_sge) ||
	    attr->cap.max_inline_data > ctx->max_inline)
		return EINVAL;

	return 0;
}

/* Allocate both queues, and tell in @cap what they can do. */
static int simhca_alloc_wqs(struct simhca_context *ctx, struct simhca_qp *qp,
			    struct ibv_pd *pd, struct ibv_qp_cap *cap)
{
	uint32_t payload;
	int ret;

	payload = max_t(uint32_t, cap->max_inline_data,
			cap->max_send_sge * sizeof(struct simhca_sge));
	payload = max_t(uint32_t, payload, sizeof(struct simhca_mem_wqe));
	ret = simhca_alloc_wq(&qp->sq, pd, SIMHCA_RESOURCE_SQ,
			      max_t(uint32_t, cap->max_send_wr, 1),
			      sizeof(struct simhca_sq_wqe) + payload);
	if (ret)
		return ret;

	qp->sq.max_sge = simhca_wq_sges(ctx, &qp->sq,
					sizeof(struct simhca_sq_wqe));
	payload = (1u << qp->sq.log_stride) - sizeof(struct simhca_sq_wqe);
	qp->max_inline = min_t(uint32_t, ctx->max_inline, payload);
	cap->max_send_wr = qp->sq.size;
	cap->max_send_sge = qp->sq.max_sge;
	cap->max_inline_data = qp->max_inline;

	if (qp->srq || !cap->max_recv_wr) {
		cap->max_recv_wr = 0;
		cap->max_recv_sge = 0;
		return 0;
	}

	payload = max_t(uint32_t, cap->max_recv_sge, 1) *
		  sizeof(struct simhca_sge);
	ret = simhca_alloc_wq(&qp->rq, pd, SIMHCA_RESOURCE_RQ, cap->max_recv_wr,
			      sizeof(struct simhca_rq_wqe) + payload);
	if (ret)
		goto err_free_sq;

	qp->rq.max_sge = simhca_wq_sges(ctx, &qp->rq,
					sizeof(struct simhca_rq_wqe));
	cap->max_recv_wr = qp->rq.size;
	cap->max_recv_sge = qp->rq.max_sge;

	return 0;

err_free_sq:
	simhca_free_wq(&qp->sq);
	return ret;
}

/* The QP went to RESET: both queues are empty, and the device has set their doorbells to 0. */
static void simhca_reset_wqs(struct simhca_qp *qp)
{
	qp->sq.head = 0;
	atomic_store(&qp->sq.tail, 0);
	qp->rq.head = 0;
	atomic_store(&qp->rq.tail, 0);
}

struct ibv_qp *simhca_create_qp_ex(struct ibv_context *ibvctx,
				   struct ibv_qp_init_attr_ex *attr)
{
	struct simhca_context *ctx = to_simhca_ctx(ibvctx);
	struct ibv_qp_init_attr_ex real_attr = *attr;
	struct simhca_create_qp_resp resp = {};
	struct simhca_create_qp cmd = {};
	struct simhca_qp *qp;
	int ret;

	ret = simhca_check_init_attr(ctx, attr);
	if (ret) {
		errno = ret;
		return NULL;
	}

	qp = calloc(1, sizeof(*qp));
	if (!qp)
		return NULL;

	qp->srq = attr->srq ? to_simhca_srq(attr->srq) : NULL;
	ret = simhca_alloc_wqs(ctx, qp, attr->pd, &real_attr.cap);
	if (ret)
		goto err_free_qp;

	cmd.sq_va = (uintptr_t)qp->sq.buf.addr;
	cmd.sq_log_size = simhca_log2_up(qp->sq.size);
	cmd.sq_log_stride = qp->sq.log_stride;
	if (qp->rq.size) {
		cmd.rq_va = (uintptr_t)qp->rq.buf.addr;
		cmd.rq_log_size = simhca_log2_up(qp->rq.size);
		cmd.rq_log_stride = qp->rq.log_stride;
	}
	/* The kernel has no business with the calls by which requests are posted. */
	real_attr.comp_mask = IBV_QP_INIT_ATTR_PD;
	ret = ibv_cmd_create_qp_ex(ibvctx, &qp->vqp, &real_attr, &cmd.ibv_cmd,
				   sizeof(cmd), &resp.ibv_resp, sizeof(resp));
	if (ret)
		goto err_free_wqs;

	qp->uar_map = simhca_get_uar(ctx, resp.uar_mmap_key);
	if (!qp->uar_map) {
		ret = errno;
		goto err_destroy;
	}

	qp->db = &qp->uar_map->uar->qp[resp.slot];
	qp->sq_group = &qp->uar_map->uar->sq_group[resp.slot /
						   SIMHCA_QPS_PER_GROUP];
	qp->sq_sig_all = attr->sq_sig_all;

	ret = simhca_store_qp(ctx, qp);
	if (ret)
		goto err_put_uar;

	simhca_lock_cqs(qp);
	simhca_attach_cqs(qp);
	simhca_unlock_cqs(qp);

	if (attr->comp_mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS)
		simhca_set_wr_ops(qp);
	attr->cap = real_attr.cap;
	return &qp->vqp.qp;

err_put_uar:
	simhca_put_uar(ctx, qp->uar_map);
err_destroy:
	ibv_cmd_destroy_qp(&qp->vqp.qp);
err_free_wqs:
	simhca_free_wq(&qp->rq);
	simhca_free_wq(&qp->sq);
err_free_qp:
	free(qp);
	errno = ret;
	return NULL;
}

struct ibv_qp *simhca_create_qp(struct ibv_pd *pd,
				struct ibv_qp_init_attr *attr)
{
	struct ibv_qp_init_attr_ex attr_ex = {
		.qp_context = attr->qp_context,
		.send_cq = attr->send_cq,
		.recv_cq = attr->recv_cq,
		.srq = attr->srq,
		.cap = attr->cap,
		.qp_type = attr->qp_type,
		.sq_sig_all = attr->sq_sig_all,
		.comp_mask = IBV_QP_INIT_ATTR_PD,
		.pd = pd,
	};
	struct ibv_qp *ibvqp;

	ibvqp = simhca_create_qp_ex(pd->context, &attr_ex);
	if (ibvqp)
		attr->cap = attr_ex.cap;
	return ibvqp;
}

int simhca_modify_qp(struct ibv_qp *ibvqp, struct ibv_qp_attr *attr,
		     int attr_mask)
{
	struct simhca_qp *qp = to_simhca_qp(ibvqp);
	struct ibv_modify_qp cmd = {};
	struct ibv_qp_attr real_attr;
	int ret;

	if (attr_mask & IBV_QP_AV && !attr->ah_attr.is_global) {
		real_attr = *attr;
		ret = simhca_resolve_lid(ibvqp->context, &attr->ah_attr,
					 &real_attr.ah_attr);
		if (ret)
			return ret;
		attr = &real_attr;
	}

	ret = ibv_cmd_modify_qp(ibvqp, attr, attr_mask, &cmd, sizeof(cmd));
	if (ret)
		return ret;

	if (attr_mask & IBV_QP_STATE && attr->qp_state == IBV_QPS_RESET) {
		simhca_lock_cqs(qp);
		simhca_clean_cqs(qp);
		simhca_reset_wqs(qp);
		simhca_unlock_cqs(qp);
	}

	return 0;
}

int simhca_query_qp(struct ibv_qp *ibvqp, struct ibv_qp_attr *attr,
		    int attr_mask, struct ibv_qp_init_attr *init_attr)
{
	struct ibv_query_qp cmd;

	return ibv_cmd_query_qp(ibvqp, attr, attr_mask, init_attr, &cmd,
				sizeof(cmd));
}

int simhca_destroy_qp(struct ibv_qp *ibvqp)
{
	struct simhca_context *ctx = to_simhca_ctx(ibvqp->context);
	struct simhca_qp *qp = to_simhca_qp(ibvqp);
	int ret;

	pthread_mutex_lock(&ctx->qp_table_mutex);

	ret = ibv_cmd_destroy_qp(ibvqp);
	if (ret) {
		pthread_mutex_unlock(&ctx->qp_table_mutex);
		return ret;
	}

	simhca_lock_cqs(qp);
	simhca_clean_cqs(qp);
	simhca_detach_cqs(qp);
	simhca_clear_qp(ctx, qp);
	simhca_unlock_cqs(qp);
	pthread_mutex_unlock(&ctx->qp_table_mutex);

	simhca_put_uar(ctx, qp->uar_map);
	simhca_free_wq(&qp->rq);
	simhca_free_wq(&qp->sq);
	free(qp);

	return 0;
}

static int simhca_set_inline(const struct simhca_qp *qp,
			     struct simhca_sq_wqe *wqe,
			     const struct ibv_send_wr *wr)
{
	void *data = wqe + 1;
	uint32_t len = 0;
	int i;

	for (i = 0; i < wr->num_sge; i++) {
		const struct ibv_sge *sge = &wr->sg_list[i];

		if (sge->length > qp->max_inline - len)
			return EINVAL;
		memcpy(data + len, (void *)(uintptr_t)sge->addr, sge->length);
		len += sge->length;
	}

	wqe->inline_len = htole32(len);
	return 0;
}

/* Rights of a window are those of the peer: what the owner may do is the MR's business. */
static uint32_t simhca_bind_access(unsigned int access)
{
	return (access & IBV_ACCESS_REMOTE_WRITE ?
			SIMHCA_ACCESS_REMOTE_WRITE : 0) |
	       (access & IBV_ACCESS_REMOTE_READ ?
			SIMHCA_ACCESS_REMOTE_READ : 0) |
	       (access & IBV_ACCESS_REMOTE_ATOMIC ?
			SIMHCA_ACCESS_REMOTE_ATOMIC : 0) |
	       (access & IBV_ACCESS_ZERO_BASED ? SIMHCA_ACCESS_ZERO_BASED : 0);
}

int simhca_set_bind(struct simhca_sq_wqe *wqe, const struct ibv_mw *mw,
		    uint32_t rkey, const struct ibv_mw_bind_info *info)
{
	struct simhca_mem_wqe *mem = (struct simhca_mem_wqe *)(wqe + 1);

	if ((mw->rkey ^ rkey) >> SIMHCA_KEY_INDEX_SHIFT ||
	    info->mw_access_flags & ~SIMHCA_BIND_ACCESS ||
	    (info->length && !info->mr))
		return EINVAL;

	wqe->rkey = htole32(rkey);
	*mem = (struct simhca_mem_wqe){
		.addr = htole64(info->addr),
		.length = htole64(info->length),
		.lkey = htole32(info->mr ? info->mr->lkey : 0),
		.access = htole32(simhca_bind_access(info->mw_access_flags)),
	};
	return 0;
}

static int simhca_build_sq_wqe(struct simhca_qp *qp,
			       const struct ibv_send_wr *wr)
{
	struct simhca_sq_wqe *wqe = simhca_get_wqe(&qp->sq, qp->sq.head);
	bool may_inline = false;

	if (wr->send_flags & ~SIMHCA_SEND_FLAGS)
		return EINVAL;

	*wqe = (struct simhca_sq_wqe){
		.opcode = wr->opcode,
		.flags = wr->send_flags,
	};
	if (qp->sq_sig_all)
		wqe->flags |= SIMHCA_WR_SIGNALED;
	if (qp->vqp.qp.qp_type == IBV_QPT_UD) {
		if (wr->opcode != IBV_WR_SEND &&
		    wr->opcode != IBV_WR_SEND_WITH_IMM)
			return EINVAL;
		simhca_set_ud_dest(wqe, wr->wr.ud.ah, wr->wr.ud.remote_qpn,
				   wr->wr.ud.remote_qkey);
	}

	switch (wr->opcode) {
	case IBV_WR_RDMA_WRITE_WITH_IMM:
		wqe->imm_data = wr->imm_data;
		SWITCH_FALLTHROUGH;
	case IBV_WR_RDMA_WRITE:
		may_inline = true;
		SWITCH_FALLTHROUGH;
	case IBV_WR_RDMA_READ:
		wqe->remote_addr = htole64(wr->wr.rdma.remote_addr);
		wqe->rkey = htole32(wr->wr.rdma.rkey);
		break;

	case IBV_WR_SEND_WITH_INV:
		wqe->rkey = htole32(wr->invalidate_rkey);
		may_inline = true;
		break;

	case IBV_WR_SEND_WITH_IMM:
		wqe->imm_data = wr->imm_data;
		SWITCH_FALLTHROUGH;
	case IBV_WR_SEND:
		may_inline = true;
		break;

	case IBV_WR_ATOMIC_CMP_AND_SWP:
		wqe->swap = htole64(wr->wr.atomic.swap);
		SWITCH_FALLTHROUGH;
	case IBV_WR_ATOMIC_FETCH_AND_ADD:
		wqe->compare_add = htole64(wr->wr.atomic.compare_add);
		wqe->remote_addr = htole64(wr->wr.atomic.remote_addr);
		wqe->rkey = htole32(wr->wr.atomic.rkey);
		break;

	case IBV_WR_LOCAL_INV:
		wqe->rkey = htole32(wr->invalidate_rkey);
		return wr->send_flags & IBV_SEND_INLINE ? EINVAL : 0;

	case IBV_WR_BIND_MW:
		if (wr->send_flags & IBV_SEND_INLINE)
			return EINVAL;
		return simhca_set_bind(wqe, wr->bind_mw.mw, wr->bind_mw.rkey,
				       &wr->bind_mw.bind_info);

	default:
		return EINVAL;
	}

	if (wr->send_flags & IBV_SEND_INLINE)
		return may_inline ? simhca_set_inline(qp, wqe, wr) : EINVAL;

	if ((unsigned int)wr->num_sge > qp->sq.max_sge)
		return EINVAL;
	wqe->num_sge = htole16(wr->num_sge);
	simhca_set_sges((struct simhca_sge *)(wqe + 1), wr->sg_list,
			wr->num_sge);

	return 0;
}

int simhca_post_send(struct ibv_qp *ibvqp, struct ibv_send_wr *wr,
		     struct ibv_send_wr **bad_wr)
{
	struct simhca_context *ctx = to_simhca_ctx(ibvqp->context);
	struct simhca_qp *qp = to_simhca_qp(ibvqp);
	struct simhca_wq *sq = &qp->sq;
	uint32_t start;
	int ret = 0;

	if (ibvqp->state < IBV_QPS_RTS) {
		*bad_wr = wr;
		return EINVAL;
	}

	pthread_spin_lock(&sq->lock);

	start = sq->head;
	for (; wr; wr = wr->next) {
		ret = simhca_wq_is_full(sq) ? ENOMEM :
					      simhca_build_sq_wqe(qp, wr);
		if (ret) {
			*bad_wr = wr;
			break;
		}
		sq->wrid[sq->head & (sq->size - 1)] = wr->wr_id;
		sq->head++;
	}

	if (sq->head != start)
		simhca_ring_sq(ctx, qp);

	pthread_spin_unlock(&sq->lock);

	return ret;
}

/* Windows of type 1: libibverbs has checked that it is one. */
int simhca_bind_mw(struct ibv_qp *ibvqp, struct ibv_mw *mw,
		   struct ibv_mw_bind *bind)
{
	struct ibv_send_wr wr = {
		.wr_id = bind->wr_id,
		.opcode = IBV_WR_BIND_MW,
		.send_flags = bind->send_flags,
		.bind_mw = {
			.mw = mw,
			.rkey = ibv_inc_rkey(mw->rkey),
			.bind_info = bind->bind_info,
		},
	};
	struct ibv_send_wr *bad_wr;
	int ret;

	ret = simhca_post_send(ibvqp, &wr, &bad_wr);
	if (!ret)
		mw->rkey = wr.bind_mw.rkey;

	return ret;
}

static int simhca_build_rq_wqe(struct simhca_qp *qp,
			       const struct ibv_recv_wr *wr)
{
	struct simhca_rq_wqe *wqe = simhca_get_wqe(&qp->rq, qp->rq.head);

	if ((unsigned int)wr->num_sge > qp->rq.max_sge)
		return EINVAL;

	*wqe = (struct simhca_rq_wqe){ .num_sge = htole32(wr->num_sge) };
	simhca_set_sges((struct simhca_sge *)(wqe + 1), wr->sg_list,
			wr->num_sge);

	return 0;
}

int simhca_post_recv(struct ibv_qp *ibvqp, struct ibv_recv_wr *wr,
		     struct ibv_recv_wr **bad_wr)
{
	struct simhca_qp *qp = to_simhca_qp(ibvqp);
	struct simhca_wq *rq = &qp->rq;
	uint32_t start;
	int ret = 0;

	if (ibvqp->state == IBV_QPS_RESET || !rq->size) {
		*bad_wr = wr;
		return EINVAL;
	}

	pthread_spin_lock(&rq->lock);

	start = rq->head;
	for (; wr; wr = wr->next) {
		ret = simhca_wq_is_full(rq) ? ENOMEM :
					      simhca_build_rq_wqe(qp, wr);
		if (ret) {
			*bad_wr = wr;
			break;
		}
		rq->wrid[rq->head & (rq->size - 1)] = wr->wr_id;
		rq->head++;
	}

	if (rq->head != start)
		simhca_ring_rq(qp);

	pthread_spin_unlock(&rq->lock);

	return ret;
}
