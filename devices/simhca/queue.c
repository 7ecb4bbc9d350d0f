// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Work and completion queues: what the engine asks of its front end.
 *
 * Every entry is copied once and then checked as a copy, since the guest may change it at any
 * time.
 */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "simhca.h"

#define SAME(a, b)	static_assert((int)(a) == (int)(b), #a)

/* These are handed on without translation. */
SAME(SIMHCA_WR_RDMA_WRITE, ENGINE_WR_RDMA_WRITE);
SAME(SIMHCA_WR_RDMA_WRITE_WITH_IMM, ENGINE_WR_RDMA_WRITE_WITH_IMM);
SAME(SIMHCA_WR_SEND, ENGINE_WR_SEND);
SAME(SIMHCA_WR_SEND_WITH_IMM, ENGINE_WR_SEND_WITH_IMM);
SAME(SIMHCA_WR_RDMA_READ, ENGINE_WR_RDMA_READ);
SAME(SIMHCA_WR_ATOMIC_CMP_AND_SWP, ENGINE_WR_ATOMIC_CMP_AND_SWP);
SAME(SIMHCA_WR_ATOMIC_FETCH_AND_ADD, ENGINE_WR_ATOMIC_FETCH_AND_ADD);
SAME(SIMHCA_WR_LOCAL_INV, ENGINE_WR_LOCAL_INV);
SAME(SIMHCA_WR_BIND_MW, ENGINE_WR_BIND_MW);
SAME(SIMHCA_WR_SEND_WITH_INV, ENGINE_WR_SEND_WITH_INV);
SAME(SIMHCA_WR_FLUSH, ENGINE_WR_FLUSH);
SAME(SIMHCA_WR_ATOMIC_WRITE, ENGINE_WR_ATOMIC_WRITE);
SAME(SIMHCA_WR_REG_MR, ENGINE_WR_REG_MR);
SAME(SIMHCA_WC_SUCCESS, ENGINE_WC_SUCCESS);
SAME(SIMHCA_WC_LOC_LEN_ERR, ENGINE_WC_LOC_LEN_ERR);
SAME(SIMHCA_WC_LOC_QP_OP_ERR, ENGINE_WC_LOC_QP_OP_ERR);
SAME(SIMHCA_WC_LOC_PROT_ERR, ENGINE_WC_LOC_PROT_ERR);
SAME(SIMHCA_WC_WR_FLUSH_ERR, ENGINE_WC_WR_FLUSH_ERR);
SAME(SIMHCA_WC_MW_BIND_ERR, ENGINE_WC_MW_BIND_ERR);
SAME(SIMHCA_WC_REM_INV_REQ_ERR, ENGINE_WC_REM_INV_REQ_ERR);
SAME(SIMHCA_WC_REM_ACCESS_ERR, ENGINE_WC_REM_ACCESS_ERR);
SAME(SIMHCA_WC_REM_OP_ERR, ENGINE_WC_REM_OP_ERR);
SAME(SIMHCA_WC_RETRY_EXC_ERR, ENGINE_WC_RETRY_EXC_ERR);
SAME(SIMHCA_WC_RNR_RETRY_EXC_ERR, ENGINE_WC_RNR_RETRY_EXC_ERR);
SAME(SIMHCA_MAX_SGE, ENGINE_MAX_SGE);
SAME(SIMHCA_MAX_INLINE, ENGINE_MAX_INLINE);
SAME(SIMHCA_UD_HEADER, ENGINE_UD_HEADER);
SAME(SIMHCA_FLOW_LABEL_MASK, ENGINE_FLOW_LABEL_MASK);
static_assert(sizeof(struct simhca_sq_wqe) == 64 && sizeof(struct simhca_rq_wqe) == 16 &&
	      sizeof(struct simhca_sge) == 16 && sizeof(struct simhca_mem_wqe) == 40 &&
	      sizeof(struct simhca_cqe) == 32,
	      "sizes of queue entries");

int queue_avail(const struct simhca_queue *q, const __le32 *pi)
{
	uint32_t avail = le32toh(__atomic_load_n(pi, __ATOMIC_ACQUIRE)) - q->ci;

	if (avail > 1u << q->log_size)
		return -EOVERFLOW;
	return avail;
}

static uint64_t queue_head(const struct simhca_queue *q)
{
	return (uint64_t)(q->ci & ((1u << q->log_size) - 1)) << q->log_stride;
}

static int queue_read_sges(struct simhca_dev *dev, struct simhca_queue *q, uint64_t off,
			   struct engine_sge *sge, uint32_t num_sge)
{
	struct simhca_sge wire[SIMHCA_MAX_SGE];
	uint32_t i;

	if (ring_read(dev, &q->ring, off, wire, num_sge * sizeof(wire[0])))
		return -EFAULT;
	for (i = 0; i < num_sge; i++) {
		sge[i].addr = le64toh(wire[i].addr);
		sge[i].length = le32toh(wire[i].length);
		sge[i].key = le32toh(wire[i].lkey);
	}
	return 0;
}

static int queue_read_mem(struct simhca_dev *dev, struct simhca_queue *q, uint64_t off,
			  struct engine_key_mem *mem)
{
	struct simhca_mem_wqe wire;

	if (ring_read(dev, &q->ring, off, &wire, sizeof(wire)))
		return -EFAULT;
	*mem = (struct engine_key_mem) {
		.addr = le64toh(wire.addr),
		.length = le64toh(wire.length),
		.segs = le64toh(wire.segs),
		.num_segs = le32toh(wire.num_segs),
		.lkey = le32toh(wire.lkey),
		.access = le32toh(wire.access),
	};
	return 0;
}

static void queue_read_ud_dest(struct engine_ud_dest *to, const struct simhca_ud_dest *from)
{
	memcpy(to->dgid, from->dgid, sizeof(to->dgid));
	to->qpn = le32toh(from->qpn);
	to->qkey = le32toh(from->qkey);
	to->sgid_index = le32toh(from->sgid_index);
	to->flow_label = le32toh(from->flow_label);
	to->hop_limit = from->hop_limit;
	to->tclass = from->tclass;
	to->sl = from->sl;
}

static int simhca_fetch_send(struct engine_qp *base, struct engine_send_wr *wr)
{
	struct simhca_qp *qp = to_qp(base);
	struct simhca_queue *q = &qp->sq;
	uint32_t room = (1u << q->log_stride) - sizeof(struct simhca_sq_wqe);
	struct simhca_sq_wqe wqe;
	uint32_t inline_len;
	uint64_t off;
	int ret;

	ret = queue_avail(q, &qp->uar->page->qp[qp->slot].sq_pi);
	if (ret <= 0)
		return ret;
	off = queue_head(q);
	if (ring_read(qp->dev, &q->ring, off, &wqe, sizeof(wqe)))
		return -EFAULT;
	off += sizeof(wqe);

	wr->index = q->ci++;
	wr->opcode = wqe.opcode;
	wr->flags = (wqe.flags & SIMHCA_WR_SIGNALED ? ENGINE_WR_SIGNALED : 0) |
		    (wqe.flags & SIMHCA_WR_SOLICITED ? ENGINE_WR_SOLICITED : 0) |
		    (wqe.flags & SIMHCA_WR_INLINE ? ENGINE_WR_INLINE : 0) |
		    (wqe.flags & SIMHCA_WR_FLUSH_MR ? ENGINE_WR_FLUSH_MR : 0);
	wr->num_sge = le16toh(wqe.num_sge);
	wr->imm_data = wqe.imm_data;
	wr->rkey = le32toh(wqe.rkey);
	if (base->type == ENGINE_QPT_UD) {
		queue_read_ud_dest(&wr->ud, &wqe.ud);
	} else {
		wr->remote_addr = le64toh(wqe.remote_addr);
		wr->compare_add = le64toh(wqe.compare_add);
		wr->swap = le64toh(wqe.swap);
	}

	if (wqe.flags & SIMHCA_WR_INLINE) {
		inline_len = le32toh(wqe.inline_len);
		if (wr->num_sge || inline_len > SIMHCA_MAX_INLINE || inline_len > room)
			return -EINVAL;
		wr->length = inline_len;
		ret = ring_read(qp->dev, &q->ring, off, wr->inline_data, inline_len);
	} else if (wqe.opcode == SIMHCA_WR_BIND_MW || wqe.opcode == SIMHCA_WR_REG_MR ||
		   wqe.opcode == SIMHCA_WR_FLUSH) {
		if (wr->num_sge || sizeof(struct simhca_mem_wqe) > room)
			return -EINVAL;
		ret = queue_read_mem(qp->dev, q, off, &wr->mem);
	} else {
		if (wr->num_sge > SIMHCA_MAX_SGE || wr->num_sge * sizeof(struct simhca_sge) > room)
			return -EINVAL;
		ret = queue_read_sges(qp->dev, q, off, wr->sge, wr->num_sge);
	}
	return ret ? ret : 1;
}

static int simhca_fetch_recv(struct engine_rq *base, struct engine_recv_wr *wr)
{
	struct simhca_rq *rq = to_rq(base);
	struct simhca_queue *q = &rq->q;
	uint32_t room = (1u << q->log_stride) - sizeof(struct simhca_rq_wqe);
	struct simhca_rq_wqe wqe;
	int avail, ret;
	uint64_t off;

	avail = queue_avail(q, rq->pi);
	if (avail <= 0)
		return avail;
	off = queue_head(q);
	if (ring_read(rq->dev, &q->ring, off, &wqe, sizeof(wqe)))
		return -EFAULT;

	wr->index = base->srqn ? le32toh(wqe.tag) : q->ci;
	wr->left = avail - 1;
	q->ci++;
	wr->num_sge = le32toh(wqe.num_sge);
	if (wr->num_sge > SIMHCA_MAX_SGE || wr->num_sge * sizeof(struct simhca_sge) > room)
		return -EINVAL;
	ret = queue_read_sges(rq->dev, q, off + sizeof(wqe), wr->sge, wr->num_sge);
	return ret ? ret : 1;
}

static int simhca_read_segs(struct engine_hca *hca, const struct engine_key_mem *mem,
			    struct sgtab *sg)
{
	return ring_add_segs(to_dev(hca), mem->segs, mem->num_segs, sg);
}

static int simhca_complete(struct engine_cq *base, const struct engine_wc *wc)
{
	struct simhca_cq *cq = to_cq(base);
	const struct simhca_cq_db *db = &cq->uar->page->cq[cq->slot];
	uint32_t size = 1u << cq->log_size;
	struct simhca_cqe cqe = {
		.qpn = htole32(wc->qp->qpn),
		.wqe_index = htole32(wc->index),
		.byte_len = htole32(wc->byte_len),
		.timestamp = cq->flags & SIMHCA_CQ_TIMESTAMP ? htole64(simhca_clock()) : 0,
		.vendor_err = htole32(wc->vendor_err),
		.opcode = wc->opcode,
		.status = wc->status,
		.flags = (wc->recv ? SIMHCA_CQE_RECV : 0) | (wc->with_imm ? SIMHCA_CQE_IMM : 0) |
			 (wc->with_inv ? SIMHCA_CQE_INV : 0) | (wc->grh ? SIMHCA_CQE_GRH : 0),
		.phase = !(cq->pi & size),
	};

	if (wc->with_inv)
		cqe.inv_rkey = htole32(wc->inv_rkey);
	else
		cqe.imm_data = wc->imm_data;
	if (wc->grh)
		cqe.src = htole32(wc->src_qpn | (uint32_t)wc->sl << SIMHCA_CQE_SL_SHIFT);

	if (!(cq->flags & SIMHCA_CQ_IGNORE_OVERRUN) &&
	    cq->pi - le32toh(__atomic_load_n(&db->ci, __ATOMIC_ACQUIRE)) >= size)
		return -ENOSPC;
	if (ring_write_entry(cq->dev, &cq->ring, (uint64_t)(cq->pi & (size - 1)) * sizeof(cqe),
			     &cqe, sizeof(cqe)))
		return -EFAULT;
	cq->pi++;
	cq_written(cq, wc->solicited);
	return 0;
}

static void simhca_qp_event(struct engine_qp *base, enum engine_event event)
{
	static const uint8_t wire[] = {
		[ENGINE_EVENT_QP_FATAL] = SIMHCA_EVENT_QP_FATAL,
		[ENGINE_EVENT_QP_REQ_ERR] = SIMHCA_EVENT_QP_REQ_ERR,
		[ENGINE_EVENT_QP_ACCESS_ERR] = SIMHCA_EVENT_QP_ACCESS_ERR,
		[ENGINE_EVENT_COMM_EST] = SIMHCA_EVENT_COMM_EST,
		[ENGINE_EVENT_SQ_DRAINED] = SIMHCA_EVENT_SQ_DRAINED,
		[ENGINE_EVENT_LAST_WQE] = SIMHCA_EVENT_LAST_WQE,
	};
	struct simhca_qp *qp = to_qp(base);

	event_raise(&qp->async, &qp->dev->async, wire[event]);
}

static void simhca_cq_event(struct engine_cq *base, enum engine_event event)
{
	struct simhca_cq *cq = to_cq(base);

	(void)event;	/* there is but one */
	event_raise(&cq->async, &cq->dev->async, SIMHCA_EVENT_CQ_ERR);
}

static void simhca_srq_event(struct engine_rq *base, enum engine_event event)
{
	struct simhca_srq *srq = to_srq(base);

	event_raise(&srq->async, &srq->rq.dev->async, event == ENGINE_EVENT_SRQ_ERR ?
		    SIMHCA_EVENT_SRQ_ERR : SIMHCA_EVENT_SRQ_LIMIT);
}

const struct engine_ops simhca_engine_ops = {
	.fetch_send = simhca_fetch_send,
	.fetch_recv = simhca_fetch_recv,
	.read_segs = simhca_read_segs,
	.complete = simhca_complete,
	.qp_event = simhca_qp_event,
	.cq_event = simhca_cq_event,
	.srq_event = simhca_srq_event,
};
