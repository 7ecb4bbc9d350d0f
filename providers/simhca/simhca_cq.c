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

#define SIMHCA_WC_FLAGS		(IBV_WC_STANDARD_FLAGS |		\
				 IBV_WC_EX_WITH_COMPLETION_TIMESTAMP)
#define SIMHCA_CQ_FLAGS		(IBV_CREATE_CQ_ATTR_SINGLE_THREADED |	\
				 IBV_CREATE_CQ_ATTR_IGNORE_OVERRUN)

/*
 * Who makes a CQ smaller knows what he has polled, not what is on its way:
 * no CQ is so small that a few more completions are too many.
 */
#define SIMHCA_MIN_CQE		8

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
	[SIMHCA_WR_FLUSH]		 = IBV_WC_FLUSH,
	[SIMHCA_WR_ATOMIC_WRITE]	 = IBV_WC_ATOMIC_WRITE,
};

static uint32_t simhca_log_cqe(uint32_t cqe)
{
	return simhca_log2_up(cqe < SIMHCA_MIN_CQE ? SIMHCA_MIN_CQE : cqe);
}

/* ---- polling */

static struct simhca_cqe *simhca_get_cqe(struct simhca_cq *cq, uint32_t index)
{
	struct simhca_cqe *ring = cq->buf.addr;

	return &ring[index & ((1u << cq->log_size) - 1)];
}

/* Did the device write the CQE with this number, 0 being the first since creation? */
static bool simhca_cqe_is_written(struct simhca_cq *cq, uint32_t index)
{
	return simhca_get_cqe(cq, index)->phase !=
	       (index >> cq->log_size & 1);
}

/* The WQE is completed. Caller holds the lock of the CQ. */
static bool simhca_wq_take(struct simhca_wq *wq, uint32_t wqe_index,
			   uint64_t *wr_id)
{
	if (!wq->size)
		return false;

	*wr_id = wq->wrid[wqe_index & (wq->size - 1)];
	/* From here on the WQE, and the unsignaled ones before it, may be overwritten. */
	atomic_store_explicit(&wq->tail, wqe_index + 1, memory_order_release);
	return true;
}

/* Translate a CQE; false: it is of no QP that exists. Caller holds the lock of the CQ. */
static bool simhca_read_cqe(struct simhca_context *ctx,
			    const struct simhca_cqe *cqe, struct ibv_wc *wc)
{
	uint32_t wqe_index = le32toh(cqe->wqe_index);
	uint32_t qpn = le32toh(cqe->qpn);
	bool recv = cqe->flags & SIMHCA_CQE_RECV;
	struct simhca_qp *qp;
	uint64_t wr_id;

	qp = simhca_find_qp(ctx, qpn);
	if (!qp || cqe->opcode >= ARRAY_SIZE(simhca_send_wc_opcode))
		return false;

	if (recv && qp->srq ?
		    !simhca_srq_take(qp->srq, wqe_index, &wr_id) :
		    !simhca_wq_take(recv ? &qp->rq : &qp->sq, wqe_index, &wr_id))
		return false;

	*wc = (struct ibv_wc){
		.wr_id = wr_id,
		.status = cqe->status,
		.vendor_err = le32toh(cqe->vendor_err),
		.byte_len = le32toh(cqe->byte_len),
		.qp_num = qpn,
	};

	if (!recv)
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
	if (cqe->flags & SIMHCA_CQE_GRH) {
		uint32_t src = le32toh(cqe->src);

		wc->src_qp = src & ((1u << SIMHCA_CQE_SL_SHIFT) - 1);
		wc->sl = src >> SIMHCA_CQE_SL_SHIFT;
		wc->vendor_err = 0;
		wc->wc_flags |= IBV_WC_GRH;
	}

	return true;
}

/*
 * Take completions out of the ring; the device must still be told how far that went. Caller holds the
 * lock of the CQ.
 */
static int simhca_poll_ring(struct simhca_context *ctx, struct simhca_cq *cq,
			    int num_entries, struct ibv_wc *wc)
{
	int npolled = 0;

	while (npolled < num_entries && simhca_cqe_is_written(cq, cq->ci)) {
		udma_from_device_barrier();
		if (simhca_read_cqe(ctx, simhca_get_cqe(cq, cq->ci),
				    &wc[npolled]))
			npolled++;
		cq->ci++;
	}

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
		n += simhca_flush_wq(&qp->sq, qp->vqp.qp.qp_num, num_entries - n,
				     wc + n);
	list_for_each(&cq->recv_qps, qp, recv_entry)
		n += simhca_flush_wq(&qp->rq, qp->vqp.qp.qp_num, num_entries - n,
				     wc + n);

	return n;
}

/* From the ring, or of a device that is gone. Caller holds the lock of the CQ. */
static int simhca_poll(struct simhca_cq *cq, int num_entries, struct ibv_wc *wc)
{
	struct simhca_context *ctx = to_simhca_ctx(cq->vcq.cq.context);
	int npolled;

	npolled = simhca_poll_ring(ctx, cq, num_entries, wc);
	if (!npolled && simhca_is_gone(ctx)) {
		/* What it wrote until it went comes first. */
		udma_from_device_barrier();
		npolled = simhca_poll_ring(ctx, cq, num_entries, wc);
		if (!npolled)
			npolled = simhca_flush_cq(cq, num_entries, wc);
	}

	return npolled;
}

int simhca_poll_cq(struct ibv_cq *ibvcq, int num_entries, struct ibv_wc *wc)
{
	struct simhca_cq *cq = to_simhca_cq(ibvcq);
	uint32_t start;
	int npolled;

	pthread_spin_lock(&cq->lock);
	start = cq->ci;
	npolled = simhca_poll(cq, num_entries, wc);
	if (cq->ci != start)
		simhca_store_cq_ci(cq);
	pthread_spin_unlock(&cq->lock);

	return npolled;
}

/* ---- extended CQs: the lock is held, and the ring the device's, from start_poll to end_poll */

static struct simhca_cq *to_simhca_cq_ex(struct ibv_cq_ex *cq_ex)
{
	return container_of(cq_ex, struct simhca_cq, vcq.cq_ex);
}

static int simhca_next_poll(struct ibv_cq_ex *cq_ex)
{
	struct simhca_cq *cq = to_simhca_cq_ex(cq_ex);
	uint32_t start = cq->ci;

	if (!simhca_poll(cq, 1, &cq->wc))
		return ENOENT;

	/* None if it was not in the ring. */
	cq->timestamp = cq->ci == start ? 0 :
			le64toh(simhca_get_cqe(cq, cq->ci - 1)->timestamp);
	cq_ex->wr_id = cq->wc.wr_id;
	cq_ex->status = cq->wc.status;
	return 0;
}

static void simhca_end_poll(struct ibv_cq_ex *cq_ex)
{
	struct simhca_cq *cq = to_simhca_cq_ex(cq_ex);

	simhca_store_cq_ci(cq);
	pthread_spin_unlock(&cq->lock);
}

static int simhca_start_poll(struct ibv_cq_ex *cq_ex,
			     struct ibv_poll_cq_attr *attr)
{
	struct simhca_cq *cq = to_simhca_cq_ex(cq_ex);
	int ret;

	if (!check_comp_mask(attr->comp_mask, 0))
		return EINVAL;

	pthread_spin_lock(&cq->lock);
	ret = simhca_next_poll(cq_ex);
	if (ret)
		simhca_end_poll(cq_ex);
	return ret;
}

static enum ibv_wc_opcode simhca_read_opcode(struct ibv_cq_ex *cq_ex)
{
	return to_simhca_cq_ex(cq_ex)->wc.opcode;
}

static uint32_t simhca_read_vendor_err(struct ibv_cq_ex *cq_ex)
{
	return to_simhca_cq_ex(cq_ex)->wc.vendor_err;
}

static unsigned int simhca_read_wc_flags(struct ibv_cq_ex *cq_ex)
{
	return to_simhca_cq_ex(cq_ex)->wc.wc_flags;
}

static uint32_t simhca_read_byte_len(struct ibv_cq_ex *cq_ex)
{
	return to_simhca_cq_ex(cq_ex)->wc.byte_len;
}

/* Also the key that was invalidated, see ibv_wc_read_invalidated_rkey(). */
static __be32 simhca_read_imm_data(struct ibv_cq_ex *cq_ex)
{
	return to_simhca_cq_ex(cq_ex)->wc.imm_data;
}

static uint32_t simhca_read_qp_num(struct ibv_cq_ex *cq_ex)
{
	return to_simhca_cq_ex(cq_ex)->wc.qp_num;
}

static uint32_t simhca_read_src_qp(struct ibv_cq_ex *cq_ex)
{
	return to_simhca_cq_ex(cq_ex)->wc.src_qp;
}

static uint32_t simhca_read_slid(struct ibv_cq_ex *cq_ex)
{
	return to_simhca_cq_ex(cq_ex)->wc.slid;
}

static uint8_t simhca_read_sl(struct ibv_cq_ex *cq_ex)
{
	return to_simhca_cq_ex(cq_ex)->wc.sl;
}

static uint8_t simhca_read_dlid_path_bits(struct ibv_cq_ex *cq_ex)
{
	return to_simhca_cq_ex(cq_ex)->wc.dlid_path_bits;
}

static uint64_t simhca_read_completion_ts(struct ibv_cq_ex *cq_ex)
{
	return to_simhca_cq_ex(cq_ex)->timestamp;
}

static void simhca_set_poll_ops(struct simhca_cq *cq, uint64_t wc_flags)
{
	struct ibv_cq_ex *cq_ex = &cq->vcq.cq_ex;

	cq_ex->start_poll = simhca_start_poll;
	cq_ex->next_poll = simhca_next_poll;
	cq_ex->end_poll = simhca_end_poll;
	cq_ex->read_opcode = simhca_read_opcode;
	cq_ex->read_vendor_err = simhca_read_vendor_err;
	cq_ex->read_wc_flags = simhca_read_wc_flags;
	if (wc_flags & IBV_WC_EX_WITH_BYTE_LEN)
		cq_ex->read_byte_len = simhca_read_byte_len;
	if (wc_flags & IBV_WC_EX_WITH_IMM)
		cq_ex->read_imm_data = simhca_read_imm_data;
	if (wc_flags & IBV_WC_EX_WITH_QP_NUM)
		cq_ex->read_qp_num = simhca_read_qp_num;
	if (wc_flags & IBV_WC_EX_WITH_SRC_QP)
		cq_ex->read_src_qp = simhca_read_src_qp;
	if (wc_flags & IBV_WC_EX_WITH_SLID)
		cq_ex->read_slid = simhca_read_slid;
	if (wc_flags & IBV_WC_EX_WITH_SL)
		cq_ex->read_sl = simhca_read_sl;
	if (wc_flags & IBV_WC_EX_WITH_DLID_PATH_BITS)
		cq_ex->read_dlid_path_bits = simhca_read_dlid_path_bits;
	if (wc_flags & IBV_WC_EX_WITH_COMPLETION_TIMESTAMP)
		cq_ex->read_completion_ts = simhca_read_completion_ts;
}

/* ---- events */

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
	list_add_tail(&to_simhca_cq(qp->vqp.qp.send_cq)->send_qps,
		      &qp->send_entry);
	list_add_tail(&to_simhca_cq(qp->vqp.qp.recv_cq)->recv_qps,
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
	struct simhca_cq *send_cq = to_simhca_cq(qp->vqp.qp.send_cq);
	struct simhca_cq *recv_cq = to_simhca_cq(qp->vqp.qp.recv_cq);

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
	struct simhca_cq *send_cq = to_simhca_cq(qp->vqp.qp.send_cq);
	struct simhca_cq *recv_cq = to_simhca_cq(qp->vqp.qp.recv_cq);

	pthread_spin_unlock(&send_cq->lock);
	if (recv_cq != send_cq)
		pthread_spin_unlock(&recv_cq->lock);
}

static void simhca_clean_cq(struct simhca_cq *cq, struct simhca_qp *qp)
{
	uint32_t qpn = qp->vqp.qp.qp_num;
	uint32_t size = 1u << cq->log_size;
	struct simhca_cqe *cqe, *dest;
	uint32_t index = cq->ci;
	uint32_t removed = 0;
	uint64_t wr_id;
	uint8_t phase;

	while (index - cq->ci < size && simhca_cqe_is_written(cq, index))
		index++;
	udma_from_device_barrier();

	/* From the newest to the oldest: close the gaps by moving the CQEs of others up. */
	while (index-- != cq->ci) {
		cqe = simhca_get_cqe(cq, index);
		if (le32toh(cqe->qpn) == qpn) {
			if (qp->srq && cqe->flags & SIMHCA_CQE_RECV)
				simhca_srq_take(qp->srq,
						le32toh(cqe->wqe_index),
						&wr_id);
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
	struct ibv_qp *ibvqp = &qp->vqp.qp;

	simhca_clean_cq(to_simhca_cq(ibvqp->send_cq), qp);
	if (ibvqp->recv_cq != ibvqp->send_cq)
		simhca_clean_cq(to_simhca_cq(ibvqp->recv_cq), qp);
}

/* ---- life cycle */

static struct simhca_cq *simhca_new_cq(struct ibv_context *ibvctx,
				       const struct ibv_cq_init_attr_ex *attr)
{
	struct simhca_context *ctx = to_simhca_ctx(ibvctx);
	struct ibv_cq_init_attr_ex real_attr = *attr;
	struct simhca_create_cq_resp resp = {};
	struct simhca_create_cq cmd = {};
	struct simhca_cq *cq;
	int ret;

	if (attr->cqe < 1 || attr->cqe > 1u << ctx->max_log_cqe) {
		errno = EINVAL;
		return NULL;
	}

	cq = calloc(1, sizeof(*cq));
	if (!cq)
		return NULL;

	cq->log_size = simhca_log_cqe(attr->cqe);
	if (attr->comp_mask & IBV_CQ_INIT_ATTR_MASK_PD)
		cq->pd = attr->parent_domain;
	ret = simhca_alloc_buf(&cq->buf, cq->pd,
			       sizeof(struct simhca_cqe) << cq->log_size,
			       SIMHCA_RESOURCE_CQ);
	if (ret)
		goto err_free_cq;

	cmd.buf_va = (uintptr_t)cq->buf.addr;
	cmd.log_size = cq->log_size;
	real_attr.cqe = 1u << cq->log_size;
	real_attr.comp_mask &= ~IBV_CQ_INIT_ATTR_MASK_PD;
	ret = ibv_cmd_create_cq_ex(ibvctx, &real_attr, &cq->vcq, &cmd.ibv_cmd,
				   sizeof(cmd), &resp.ibv_resp, sizeof(resp),
				   0);
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

	return cq;

err_destroy:
	ibv_cmd_destroy_cq(&cq->vcq.cq);
err_free_buf:
	simhca_free_buf(&cq->buf);
err_free_cq:
	free(cq);
	errno = ret;
	return NULL;
}

struct ibv_cq *simhca_create_cq(struct ibv_context *ibvctx, int cqe,
				struct ibv_comp_channel *channel,
				int comp_vector)
{
	struct ibv_cq_init_attr_ex attr = {
		.cqe = cqe > 0 ? cqe : 0,
		.channel = channel,
		.comp_vector = comp_vector,
	};
	struct simhca_cq *cq;

	cq = simhca_new_cq(ibvctx, &attr);
	return cq ? &cq->vcq.cq : NULL;
}

/*
 * Others of the process may resize, destroy QPs or empty the CQ at the same time, so what is
 * told to be used by one thread has its locks all the same.
 */
struct ibv_cq_ex *simhca_create_cq_ex(struct ibv_context *ibvctx,
				      struct ibv_cq_init_attr_ex *attr)
{
	struct simhca_cq *cq;

	if (!check_comp_mask(attr->comp_mask, IBV_CQ_INIT_ATTR_MASK_FLAGS |
			     IBV_CQ_INIT_ATTR_MASK_PD) ||
	    !check_comp_mask(attr->wc_flags, SIMHCA_WC_FLAGS) ||
	    (attr->comp_mask & IBV_CQ_INIT_ATTR_MASK_FLAGS &&
	     !check_comp_mask(attr->flags, SIMHCA_CQ_FLAGS))) {
		errno = EOPNOTSUPP;
		return NULL;
	}

	/* Who wants another's allocator must have it: a protection domain has none. */
	if (attr->comp_mask & IBV_CQ_INIT_ATTR_MASK_PD &&
	    (!attr->parent_domain || !to_simhca_domain(attr->parent_domain))) {
		errno = EINVAL;
		return NULL;
	}

	cq = simhca_new_cq(ibvctx, attr);
	if (!cq)
		return NULL;

	simhca_set_poll_ops(cq, attr->wc_flags);
	return &cq->vcq.cq_ex;
}

/* The device moves what is in the ring, and the index with it: nobody may poll meanwhile. */
int simhca_resize_cq(struct ibv_cq *ibvcq, int cqe)
{
	struct simhca_context *ctx = to_simhca_ctx(ibvcq->context);
	struct simhca_cq *cq = to_simhca_cq(ibvcq);
	struct ib_uverbs_resize_cq_resp resp;
	struct simhca_resize_cq cmd = {};
	struct simhca_buf buf, old;
	int ret;

	if (cqe < 1 || cqe > 1 << ctx->max_log_cqe)
		return EINVAL;

	cmd.log_size = simhca_log_cqe(cqe);
	ret = simhca_alloc_buf(&buf, cq->pd,
			       sizeof(struct simhca_cqe) << cmd.log_size,
			       SIMHCA_RESOURCE_CQ);
	if (ret)
		return ret;

	cmd.buf_va = (uintptr_t)buf.addr;
	pthread_spin_lock(&cq->lock);
	ret = ibv_cmd_resize_cq(ibvcq, cqe, &cmd.ibv_cmd, sizeof(cmd), &resp,
				sizeof(resp));
	old = ret ? buf : cq->buf;
	if (!ret) {
		cq->buf = buf;
		cq->log_size = cmd.log_size;
		cq->ci = 0;
	}
	pthread_spin_unlock(&cq->lock);
	simhca_free_buf(&old);

	return ret;
}

int simhca_modify_cq(struct ibv_cq *ibvcq, struct ibv_modify_cq_attr *attr)
{
	struct ibv_modify_cq cmd = {};

	return ibv_cmd_modify_cq(ibvcq, attr, &cmd, sizeof(cmd));
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
	simhca_free_buf(&cq->buf);
	free(cq);

	return 0;
}
