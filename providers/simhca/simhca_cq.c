// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * simhca: completion queues.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>

#include <ccan/array_size.h>
#include <util/udma_barrier.h>

#include "simhca.h"
#include "simhca_abi.h"
#include "simhca_db.h"

static const enum ibv_wc_opcode simhca_send_wc_opcode[] = {
	[SIMHCA_WR_RDMA_WRITE]		 = IBV_WC_RDMA_WRITE,
	[SIMHCA_WR_RDMA_WRITE_WITH_IMM]	 = IBV_WC_RDMA_WRITE,
	[SIMHCA_WR_SEND]		 = IBV_WC_SEND,
	[SIMHCA_WR_SEND_WITH_IMM]	 = IBV_WC_SEND,
	[SIMHCA_WR_RDMA_READ]		 = IBV_WC_RDMA_READ,
	[SIMHCA_WR_ATOMIC_CMP_AND_SWP]	 = IBV_WC_COMP_SWAP,
	[SIMHCA_WR_ATOMIC_FETCH_AND_ADD] = IBV_WC_FETCH_ADD,
	[SIMHCA_WR_LOCAL_INV]		 = IBV_WC_LOCAL_INV,
	[SIMHCA_WR_BIND_MW]		 = IBV_WC_BIND_MW,
	[SIMHCA_WR_SEND_WITH_INV]	 = IBV_WC_SEND,
};

struct ibv_cq *simhca_create_cq(struct ibv_context *ibvctx, int cqe,
				struct ibv_comp_channel *channel,
				int comp_vector)
{
	struct simhca_context *ctx = to_simhca_ctx(ibvctx);
	struct simhca_create_cq_resp resp = {};
	struct simhca_create_cq cmd = {};
	struct simhca_cq *cq;
	int ret;

	if (cqe < 1 || cqe > 1 << ctx->max_log_cqe) {
		errno = EINVAL;
		return NULL;
	}

	cq = calloc(1, sizeof(*cq));
	if (!cq)
		return NULL;

	cq->log_size = simhca_log2_up(cqe);
	cq->buf_size = sizeof(*cq->buf) << cq->log_size;
	cq->buf = simhca_alloc_buf(cq->buf_size);
	if (!cq->buf) {
		ret = errno;
		goto err_free_cq;
	}

	cmd.buf_va = (uintptr_t)cq->buf;
	cmd.log_size = cq->log_size;
	ret = ibv_cmd_create_cq(ibvctx, 1 << cq->log_size, channel, comp_vector,
				&cq->ibvcq, &cmd.ibv_cmd, sizeof(cmd),
				&resp.ibv_resp, sizeof(resp));
	if (ret)
		goto err_free_buf;

	cq->uar_map = simhca_get_uar(ctx, resp.uar_mmap_key);
	if (!cq->uar_map) {
		ret = errno;
		goto err_destroy;
	}

	cq->db = &cq->uar_map->uar->cq[resp.slot];
	cq->cqn = resp.cqn;
	pthread_spin_init(&cq->lock, PTHREAD_PROCESS_PRIVATE);
	list_head_init(&cq->send_qps);
	list_head_init(&cq->recv_qps);

	return &cq->ibvcq;

err_destroy:
	ibv_cmd_destroy_cq(&cq->ibvcq);
err_free_buf:
	simhca_free_buf(cq->buf, cq->buf_size);
err_free_cq:
	free(cq);
	errno = ret;
	return NULL;
}

int simhca_destroy_cq(struct ibv_cq *ibvcq)
{
	struct simhca_context *ctx = to_simhca_ctx(ibvcq->context);
	struct simhca_cq *cq = to_simhca_cq(ibvcq);
	int ret;

	ret = ibv_cmd_destroy_cq(ibvcq);
	if (ret)
		return ret;

	pthread_spin_destroy(&cq->lock);
	simhca_put_uar(ctx, cq->uar_map);
	simhca_free_buf(cq->buf, cq->buf_size);
	free(cq);

	return 0;
}

static struct simhca_cqe *simhca_get_cqe(struct simhca_cq *cq, uint32_t index)
{
	return &cq->buf[index & ((1u << cq->log_size) - 1)];
}

/* Did the device write the CQE with this number, 0 being the first since creation? */
static bool simhca_cqe_is_written(struct simhca_cq *cq, uint32_t index)
{
	return simhca_get_cqe(cq, index)->phase !=
	       (index >> cq->log_size & 1);
}

/* Translate a CQE; false: it is of no QP that exists. Caller holds the lock of the CQ. */
static bool simhca_read_cqe(struct simhca_context *ctx,
			    const struct simhca_cqe *cqe, struct ibv_wc *wc)
{
	uint32_t wqe_index = le32toh(cqe->wqe_index);
	uint32_t qpn = le32toh(cqe->qpn);
	struct simhca_qp *qp;
	struct simhca_wq *wq;

	qp = simhca_find_qp(ctx, qpn);
	if (!qp)
		return false;

	wq = cqe->flags & SIMHCA_CQE_RECV ? &qp->rq : &qp->sq;
	if (!wq->size || cqe->opcode >= ARRAY_SIZE(simhca_send_wc_opcode))
		return false;

	*wc = (struct ibv_wc){
		.wr_id = wq->wrid[wqe_index & (wq->size - 1)],
		.status = cqe->status,
		.vendor_err = le32toh(cqe->vendor_err),
		.byte_len = le32toh(cqe->byte_len),
		.qp_num = qpn,
	};

	if (!(cqe->flags & SIMHCA_CQE_RECV))
		wc->opcode = simhca_send_wc_opcode[cqe->opcode];
	else if (cqe->opcode == SIMHCA_WR_RDMA_WRITE_WITH_IMM)
		wc->opcode = IBV_WC_RECV_RDMA_WITH_IMM;
	else
		wc->opcode = IBV_WC_RECV;

	if (cqe->flags & SIMHCA_CQE_IMM) {
		wc->imm_data = cqe->imm_data;
		wc->wc_flags = IBV_WC_WITH_IMM;
	}
	if (cqe->flags & SIMHCA_CQE_INV) {
		wc->invalidated_rkey = le32toh(cqe->inv_rkey);
		wc->wc_flags = IBV_WC_WITH_INV;
	}

	/* From here on the WQE, and the unsignaled ones before it, may be overwritten. */
	atomic_store_explicit(&wq->tail, wqe_index + 1, memory_order_release);

	return true;
}

/* Take completions out of the ring. Caller holds the lock of the CQ. */
static int simhca_poll_ring(struct simhca_context *ctx, struct simhca_cq *cq,
			    int num_entries, struct ibv_wc *wc)
{
	uint32_t start = cq->ci;
	int npolled = 0;

	while (npolled < num_entries && simhca_cqe_is_written(cq, cq->ci)) {
		udma_from_device_barrier();
		if (simhca_read_cqe(ctx, simhca_get_cqe(cq, cq->ci),
				    &wc[npolled]))
			npolled++;
		cq->ci++;
	}

	if (cq->ci != start)
		simhca_store_cq_ci(cq);

	return npolled;
}

static int simhca_flush_wq(struct simhca_wq *wq, uint32_t qpn, int num_entries,
			   struct ibv_wc *wc)
{
	uint32_t tail = atomic_load(&wq->tail);
	int n = 0;

	if (!wq->size)
		return 0;

	pthread_spin_lock(&wq->lock);
	for (; n < num_entries && tail != wq->head; n++, tail++)
		wc[n] = (struct ibv_wc){
			.wr_id = wq->wrid[tail & (wq->size - 1)],
			.status = IBV_WC_WR_FLUSH_ERR,
			.qp_num = qpn,
		};
	atomic_store(&wq->tail, tail);
	pthread_spin_unlock(&wq->lock);

	return n;
}

/*
 * The device is gone: what it has not completed is flushed here, unsignaled requests as well, for
 * nobody knows how far it came. Caller holds the lock of the CQ, and has emptied the ring.
 */
static int simhca_flush_cq(struct simhca_cq *cq, int num_entries,
			   struct ibv_wc *wc)
{
	struct simhca_qp *qp;
	int n = 0;

	list_for_each(&cq->send_qps, qp, send_entry)
		n += simhca_flush_wq(&qp->sq, qp->ibvqp.qp_num, num_entries - n,
				     wc + n);
	list_for_each(&cq->recv_qps, qp, recv_entry)
		n += simhca_flush_wq(&qp->rq, qp->ibvqp.qp_num, num_entries - n,
				     wc + n);

	return n;
}

int simhca_poll_cq(struct ibv_cq *ibvcq, int num_entries, struct ibv_wc *wc)
{
	struct simhca_context *ctx = to_simhca_ctx(ibvcq->context);
	struct simhca_cq *cq = to_simhca_cq(ibvcq);
	int npolled;

	pthread_spin_lock(&cq->lock);

	npolled = simhca_poll_ring(ctx, cq, num_entries, wc);
	if (!npolled && simhca_is_gone(ctx)) {
		/* What it wrote until it went comes first. */
		udma_from_device_barrier();
		npolled = simhca_poll_ring(ctx, cq, num_entries, wc);
		if (!npolled)
			npolled = simhca_flush_cq(cq, num_entries, wc);
	}

	pthread_spin_unlock(&cq->lock);

	return npolled;
}

int simhca_req_notify_cq(struct ibv_cq *ibvcq, int solicited_only)
{
	struct simhca_cq *cq = to_simhca_cq(ibvcq);

	pthread_spin_lock(&cq->lock);
	/* A pending request for any completion is not weakened (IBTA 11.4.2.2). */
	if (!solicited_only)
		cq->armed_any = true;
	simhca_arm_cq(cq, !cq->armed_any);
	pthread_spin_unlock(&cq->lock);

	return 0;
}

void simhca_cq_event(struct ibv_cq *ibvcq)
{
	struct simhca_cq *cq = to_simhca_cq(ibvcq);

	pthread_spin_lock(&cq->lock);
	cq->armed_any = false;
	pthread_spin_unlock(&cq->lock);
}

/* Its completions may come. Caller holds the locks of the QP's CQs. */
void simhca_attach_cqs(struct simhca_qp *qp)
{
	list_add_tail(&to_simhca_cq(qp->ibvqp.send_cq)->send_qps,
		      &qp->send_entry);
	list_add_tail(&to_simhca_cq(qp->ibvqp.recv_cq)->recv_qps,
		      &qp->recv_entry);
}

/* The QP is destroyed. Caller holds the locks of its CQs. */
void simhca_detach_cqs(struct simhca_qp *qp)
{
	list_del(&qp->send_entry);
	list_del(&qp->recv_entry);
}

void simhca_lock_cqs(struct simhca_qp *qp)
{
	struct simhca_cq *send_cq = to_simhca_cq(qp->ibvqp.send_cq);
	struct simhca_cq *recv_cq = to_simhca_cq(qp->ibvqp.recv_cq);

	if (send_cq == recv_cq) {
		pthread_spin_lock(&send_cq->lock);
	} else if (send_cq->cqn < recv_cq->cqn) {
		pthread_spin_lock(&send_cq->lock);
		pthread_spin_lock(&recv_cq->lock);
	} else {
		pthread_spin_lock(&recv_cq->lock);
		pthread_spin_lock(&send_cq->lock);
	}
}

void simhca_unlock_cqs(struct simhca_qp *qp)
{
	struct simhca_cq *send_cq = to_simhca_cq(qp->ibvqp.send_cq);
	struct simhca_cq *recv_cq = to_simhca_cq(qp->ibvqp.recv_cq);

	pthread_spin_unlock(&send_cq->lock);
	if (recv_cq != send_cq)
		pthread_spin_unlock(&recv_cq->lock);
}

static void simhca_clean_cq(struct simhca_cq *cq, uint32_t qpn)
{
	uint32_t size = 1u << cq->log_size;
	struct simhca_cqe *cqe, *dest;
	uint32_t index = cq->ci;
	uint32_t removed = 0;
	uint8_t phase;

	while (index - cq->ci < size && simhca_cqe_is_written(cq, index))
		index++;
	udma_from_device_barrier();

	/* From the newest to the oldest: close the gaps by moving the CQEs of others up. */
	while (index-- != cq->ci) {
		cqe = simhca_get_cqe(cq, index);
		if (le32toh(cqe->qpn) == qpn) {
			removed++;
		} else if (removed) {
			dest = simhca_get_cqe(cq, index + removed);
			phase = dest->phase;
			*dest = *cqe;
			dest->phase = phase;
		}
	}

	if (removed) {
		cq->ci += removed;
		simhca_store_cq_ci(cq);
	}
}

/*
 * Remove the completions of a QP that will not get new ones: it is in RESET or destroyed. Caller
 * holds the locks of its CQs.
 */
void simhca_clean_cqs(struct simhca_qp *qp)
{
	simhca_clean_cq(to_simhca_cq(qp->ibvqp.send_cq), qp->ibvqp.qp_num);
	if (qp->ibvqp.recv_cq != qp->ibvqp.send_cq)
		simhca_clean_cq(to_simhca_cq(qp->ibvqp.recv_cq),
				qp->ibvqp.qp_num);
}
