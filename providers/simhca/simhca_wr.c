// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * simhca: work requests posted by the calls of struct ibv_qp_ex.
 *
 * The SQ is locked from wr_start to wr_complete or wr_abort. Each request is built where it belongs,
 * and is the device's when all are: an error takes them all back.
 */
#include <errno.h>
#include <string.h>

#include "simhca.h"
#include "simhca_db.h"
#include "simhca_wqe.h"

#define SIMHCA_WR_OPS	(IBV_QP_EX_WITH_RDMA_WRITE |			\
			 IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM |		\
			 IBV_QP_EX_WITH_SEND |				\
			 IBV_QP_EX_WITH_SEND_WITH_IMM |			\
			 IBV_QP_EX_WITH_RDMA_READ |			\
			 IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP |		\
			 IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD |		\
			 IBV_QP_EX_WITH_LOCAL_INV |			\
			 IBV_QP_EX_WITH_BIND_MW |			\
			 IBV_QP_EX_WITH_SEND_WITH_INV |			\
			 IBV_QP_EX_WITH_FLUSH |				\
			 IBV_QP_EX_WITH_ATOMIC_WRITE)

/* Inline data has a call of its own. */
#define SIMHCA_WR_FLAGS	(IBV_SEND_FENCE | IBV_SEND_SIGNALED |		\
			 IBV_SEND_SOLICITED | IBV_SEND_INLINE)

#define SIMHCA_UC_WR_OPS	(IBV_QP_EX_WITH_RDMA_WRITE |		\
				 IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM |	\
				 IBV_QP_EX_WITH_SEND |			\
				 IBV_QP_EX_WITH_SEND_WITH_IMM |		\
				 IBV_QP_EX_WITH_LOCAL_INV |		\
				 IBV_QP_EX_WITH_BIND_MW)

#define SIMHCA_UD_WR_OPS	(IBV_QP_EX_WITH_SEND |			\
				 IBV_QP_EX_WITH_SEND_WITH_IMM)

static struct simhca_qp *to_simhca_qp_ex(struct ibv_qp_ex *qp_ex)
{
	return container_of(qp_ex, struct simhca_qp, vqp.qp_ex);
}

static void simhca_wr_fail(struct simhca_qp *qp, int err)
{
	if (!qp->wr_err)
		qp->wr_err = err;
}

/* The next request; it has no data yet. NULL after an error, which wr_complete tells. */
static struct simhca_sq_wqe *simhca_wr_begin(struct ibv_qp_ex *qp_ex,
					     uint8_t opcode)
{
	struct simhca_qp *qp = to_simhca_qp_ex(qp_ex);
	struct simhca_wq *sq = &qp->sq;

	if (qp_ex->wr_flags & ~SIMHCA_WR_FLAGS)
		simhca_wr_fail(qp, EINVAL);
	else if (simhca_wq_is_full(sq))
		simhca_wr_fail(qp, ENOMEM);
	if (qp->wr_err)
		return NULL;

	qp->wr_wqe = simhca_get_wqe(sq, sq->head);
	*qp->wr_wqe = (struct simhca_sq_wqe){
		.opcode = opcode,
		.flags = (qp_ex->wr_flags & ~IBV_SEND_INLINE) |
			 (qp->sq_sig_all ? SIMHCA_WR_SIGNALED : 0),
	};
	sq->wrid[sq->head & (sq->size - 1)] = qp_ex->wr_id;
	sq->head++;

	return qp->wr_wqe;
}

static struct simhca_sq_wqe *simhca_wr_remote(struct ibv_qp_ex *qp_ex,
					      uint8_t opcode, uint32_t rkey,
					      uint64_t remote_addr)
{
	struct simhca_sq_wqe *wqe = simhca_wr_begin(qp_ex, opcode);

	if (wqe) {
		wqe->rkey = htole32(rkey);
		wqe->remote_addr = htole64(remote_addr);
	}
	return wqe;
}

/* ---- opcodes */

static void simhca_wr_atomic_cmp_swp(struct ibv_qp_ex *qp_ex, uint32_t rkey,
				     uint64_t remote_addr, uint64_t compare,
				     uint64_t swap)
{
	struct simhca_sq_wqe *wqe =
		simhca_wr_remote(qp_ex, SIMHCA_WR_ATOMIC_CMP_AND_SWP, rkey,
				 remote_addr);

	if (wqe) {
		wqe->compare_add = htole64(compare);
		wqe->swap = htole64(swap);
	}
}

static void simhca_wr_atomic_fetch_add(struct ibv_qp_ex *qp_ex, uint32_t rkey,
				       uint64_t remote_addr, uint64_t add)
{
	struct simhca_sq_wqe *wqe =
		simhca_wr_remote(qp_ex, SIMHCA_WR_ATOMIC_FETCH_AND_ADD, rkey,
				 remote_addr);

	if (wqe)
		wqe->compare_add = htole64(add);
}

static void simhca_wr_atomic_write(struct ibv_qp_ex *qp_ex, uint32_t rkey,
				   uint64_t remote_addr, const void *value)
{
	struct simhca_sq_wqe *wqe = simhca_wr_remote(
		qp_ex, SIMHCA_WR_ATOMIC_WRITE, rkey, remote_addr);

	if (wqe) {
		wqe->flags |= SIMHCA_WR_INLINE;
		wqe->inline_len = htole32(sizeof(uint64_t));
		memcpy(wqe + 1, value, sizeof(uint64_t));
	}
}

static void simhca_wr_flush(struct ibv_qp_ex *qp_ex, uint32_t rkey,
			    uint64_t remote_addr, size_t len, uint8_t type,
			    uint8_t level)
{
	struct simhca_sq_wqe *wqe = simhca_wr_remote(qp_ex, SIMHCA_WR_FLUSH,
						     rkey, remote_addr);

	if (!wqe)
		return;
	if (!check_comp_mask(type, IBV_FLUSH_GLOBAL | IBV_FLUSH_PERSISTENT) ||
	    level > IBV_FLUSH_MR) {
		simhca_wr_fail(to_simhca_qp_ex(qp_ex), EINVAL);
		return;
	}
	if (level == IBV_FLUSH_MR)
		wqe->flags |= SIMHCA_WR_FLUSH_MR;
	*(struct simhca_mem_wqe *)(wqe + 1) = (struct simhca_mem_wqe){
		.length = htole64(len),
		.access = htole32((type & IBV_FLUSH_GLOBAL ?
					   SIMHCA_ACCESS_FLUSH_GLOBAL : 0) |
				  (type & IBV_FLUSH_PERSISTENT ?
					   SIMHCA_ACCESS_FLUSH_PERSISTENT : 0)),
	};
}

static void simhca_wr_bind_mw(struct ibv_qp_ex *qp_ex, struct ibv_mw *mw,
			      uint32_t rkey,
			      const struct ibv_mw_bind_info *info)
{
	struct simhca_sq_wqe *wqe = simhca_wr_begin(qp_ex, SIMHCA_WR_BIND_MW);
	int ret;

	if (!wqe)
		return;
	ret = simhca_set_bind(wqe, mw, rkey, info);
	if (ret)
		simhca_wr_fail(to_simhca_qp_ex(qp_ex), ret);
}

static void simhca_wr_local_inv(struct ibv_qp_ex *qp_ex, uint32_t rkey)
{
	struct simhca_sq_wqe *wqe = simhca_wr_begin(qp_ex, SIMHCA_WR_LOCAL_INV);

	if (wqe)
		wqe->rkey = htole32(rkey);
}

static void simhca_wr_rdma_read(struct ibv_qp_ex *qp_ex, uint32_t rkey,
				uint64_t remote_addr)
{
	simhca_wr_remote(qp_ex, SIMHCA_WR_RDMA_READ, rkey, remote_addr);
}

static void simhca_wr_rdma_write(struct ibv_qp_ex *qp_ex, uint32_t rkey,
				 uint64_t remote_addr)
{
	simhca_wr_remote(qp_ex, SIMHCA_WR_RDMA_WRITE, rkey, remote_addr);
}

static void simhca_wr_rdma_write_imm(struct ibv_qp_ex *qp_ex, uint32_t rkey,
				     uint64_t remote_addr, __be32 imm_data)
{
	struct simhca_sq_wqe *wqe =
		simhca_wr_remote(qp_ex, SIMHCA_WR_RDMA_WRITE_WITH_IMM, rkey,
				 remote_addr);

	if (wqe)
		wqe->imm_data = imm_data;
}

static void simhca_wr_send(struct ibv_qp_ex *qp_ex)
{
	simhca_wr_begin(qp_ex, SIMHCA_WR_SEND);
}

static void simhca_wr_send_imm(struct ibv_qp_ex *qp_ex, __be32 imm_data)
{
	struct simhca_sq_wqe *wqe =
		simhca_wr_begin(qp_ex, SIMHCA_WR_SEND_WITH_IMM);

	if (wqe)
		wqe->imm_data = imm_data;
}

static void simhca_wr_send_inv(struct ibv_qp_ex *qp_ex, uint32_t rkey)
{
	struct simhca_sq_wqe *wqe =
		simhca_wr_begin(qp_ex, SIMHCA_WR_SEND_WITH_INV);

	if (wqe)
		wqe->rkey = htole32(rkey);
}

static void simhca_wr_set_ud_addr(struct ibv_qp_ex *qp_ex, struct ibv_ah *ah,
				  uint32_t remote_qpn, uint32_t remote_qkey)
{
	struct simhca_qp *qp = to_simhca_qp_ex(qp_ex);

	if (!qp->wr_err)
		simhca_set_ud_dest(qp->wr_wqe, ah, remote_qpn, remote_qkey);
}

/* ---- data */

static void simhca_wr_set_sge_list(struct ibv_qp_ex *qp_ex, size_t num_sge,
				   const struct ibv_sge *sg_list)
{
	struct simhca_qp *qp = to_simhca_qp_ex(qp_ex);

	if (num_sge > qp->sq.max_sge)
		simhca_wr_fail(qp, EINVAL);
	if (qp->wr_err)
		return;
	qp->wr_wqe->num_sge = htole16(num_sge);
	simhca_set_sges((struct simhca_sge *)(qp->wr_wqe + 1), sg_list,
			num_sge);
}

static void simhca_wr_set_sge(struct ibv_qp_ex *qp_ex, uint32_t lkey,
			      uint64_t addr, uint32_t length)
{
	struct ibv_sge sge = { .addr = addr, .length = length, .lkey = lkey };

	simhca_wr_set_sge_list(qp_ex, 1, &sge);
}

static void simhca_wr_set_inline_data_list(struct ibv_qp_ex *qp_ex,
					   size_t num_buf,
					   const struct ibv_data_buf *bufs)
{
	struct simhca_qp *qp = to_simhca_qp_ex(qp_ex);
	uint32_t len = 0;
	size_t i;

	for (i = 0; i < num_buf && !qp->wr_err; i++) {
		if (bufs[i].length > qp->max_inline - len) {
			simhca_wr_fail(qp, EINVAL);
			break;
		}
		memcpy((void *)(qp->wr_wqe + 1) + len, bufs[i].addr,
		       bufs[i].length);
		len += bufs[i].length;
	}
	if (qp->wr_err)
		return;
	qp->wr_wqe->flags |= SIMHCA_WR_INLINE;
	qp->wr_wqe->inline_len = htole32(len);
}

static void simhca_wr_set_inline_data(struct ibv_qp_ex *qp_ex, void *addr,
				      size_t length)
{
	struct ibv_data_buf buf = { .addr = addr, .length = length };

	simhca_wr_set_inline_data_list(qp_ex, 1, &buf);
}

/* ---- begin and end */

static void simhca_wr_start(struct ibv_qp_ex *qp_ex)
{
	struct simhca_qp *qp = to_simhca_qp_ex(qp_ex);

	pthread_spin_lock(&qp->sq.lock);
	qp->wr_start = qp->sq.head;
	qp->wr_err = qp_ex->qp_base.state < IBV_QPS_RTS ? EINVAL : 0;
}

static void simhca_wr_abort(struct ibv_qp_ex *qp_ex)
{
	struct simhca_qp *qp = to_simhca_qp_ex(qp_ex);

	qp->sq.head = qp->wr_start;
	pthread_spin_unlock(&qp->sq.lock);
}

static int simhca_wr_complete(struct ibv_qp_ex *qp_ex)
{
	struct simhca_qp *qp = to_simhca_qp_ex(qp_ex);
	int ret = qp->wr_err;

	if (ret) {
		simhca_wr_abort(qp_ex);
		return ret;
	}
	if (qp->sq.head != qp->wr_start)
		simhca_ring_sq(to_simhca_ctx(qp_ex->qp_base.context), qp);
	pthread_spin_unlock(&qp->sq.lock);
	return 0;
}

bool simhca_wr_ops_ok(enum ibv_qp_type type, uint64_t send_ops_flags)
{
	switch (type) {
	case IBV_QPT_UD:
		return check_comp_mask(send_ops_flags, SIMHCA_UD_WR_OPS);
	case IBV_QPT_UC:
		return check_comp_mask(send_ops_flags, SIMHCA_UC_WR_OPS);
	default:
		return check_comp_mask(send_ops_flags, SIMHCA_WR_OPS);
	}
}

/* All of them: who did not ask for one does not call it. */
void simhca_set_wr_ops(struct simhca_qp *qp)
{
	struct ibv_qp_ex *qp_ex = &qp->vqp.qp_ex;

	qp_ex->wr_atomic_cmp_swp = simhca_wr_atomic_cmp_swp;
	qp_ex->wr_atomic_fetch_add = simhca_wr_atomic_fetch_add;
	qp_ex->wr_atomic_write = simhca_wr_atomic_write;
	qp_ex->wr_bind_mw = simhca_wr_bind_mw;
	qp_ex->wr_flush = simhca_wr_flush;
	qp_ex->wr_local_inv = simhca_wr_local_inv;
	qp_ex->wr_rdma_read = simhca_wr_rdma_read;
	qp_ex->wr_rdma_write = simhca_wr_rdma_write;
	qp_ex->wr_rdma_write_imm = simhca_wr_rdma_write_imm;
	qp_ex->wr_send = simhca_wr_send;
	qp_ex->wr_send_imm = simhca_wr_send_imm;
	qp_ex->wr_send_inv = simhca_wr_send_inv;
	qp_ex->wr_set_inline_data = simhca_wr_set_inline_data;
	qp_ex->wr_set_inline_data_list = simhca_wr_set_inline_data_list;
	qp_ex->wr_set_sge = simhca_wr_set_sge;
	qp_ex->wr_set_sge_list = simhca_wr_set_sge_list;
	qp_ex->wr_set_ud_addr = simhca_wr_set_ud_addr;
	qp_ex->wr_start = simhca_wr_start;
	qp_ex->wr_complete = simhca_wr_complete;
	qp_ex->wr_abort = simhca_wr_abort;
	qp->vqp.comp_mask |= VERBS_QP_EX;
}
