// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * simhca: queues of kernel users: rings, posting, polling. Those of processes are the provider's.
 *
 * When the device is given up nothing completes any more. What was posted is flushed by who polls,
 * whom simhca_cq_comp_event_overdue() wakes, so that everybody can drain his queues.
 *
 * A completion is believed only if it is of a request that was posted and not completed: kernel
 * users take it as a pointer to what they have waiting. A device that tells another is given up.
 */

#include <linux/dma-mapping.h>
#include <linux/log2.h>

#include "simhca.h"

/* More at once is not always to be had, and more than MAX_PAGE_ORDER never is */
#define SIMHCA_RING_FRAG_SHIFT		(PAGE_SHIFT + PAGE_ALLOC_COSTLY_ORDER)
#define SIMHCA_RING_FRAG		BIT(SIMHCA_RING_FRAG_SHIFT)

#define SIMHCA_SEND_FLAGS	(IB_SEND_FENCE | IB_SEND_SIGNALED | IB_SEND_SOLICITED | \
				 IB_SEND_INLINE)

/* These are passed on as they are */
static_assert((int)IB_WR_RDMA_WRITE == SIMHCA_WR_RDMA_WRITE);
static_assert((int)IB_WR_RDMA_WRITE_WITH_IMM == SIMHCA_WR_RDMA_WRITE_WITH_IMM);
static_assert((int)IB_WR_SEND == SIMHCA_WR_SEND);
static_assert((int)IB_WR_SEND_WITH_IMM == SIMHCA_WR_SEND_WITH_IMM);
static_assert((int)IB_WR_RDMA_READ == SIMHCA_WR_RDMA_READ);
static_assert((int)IB_WR_ATOMIC_CMP_AND_SWP == SIMHCA_WR_ATOMIC_CMP_AND_SWP);
static_assert((int)IB_WR_ATOMIC_FETCH_AND_ADD == SIMHCA_WR_ATOMIC_FETCH_AND_ADD);
static_assert((int)IB_WR_LOCAL_INV == SIMHCA_WR_LOCAL_INV);
static_assert((int)IB_WR_SEND_WITH_INV == SIMHCA_WR_SEND_WITH_INV);
static_assert((int)IB_WR_REG_MR == SIMHCA_WR_REG_MR);
static_assert((int)IB_SEND_FENCE == SIMHCA_WR_FENCE);
static_assert((int)IB_SEND_SIGNALED == SIMHCA_WR_SIGNALED);
static_assert((int)IB_SEND_SOLICITED == SIMHCA_WR_SOLICITED);
static_assert((int)IB_SEND_INLINE == SIMHCA_WR_INLINE);
static_assert((int)IB_WC_SUCCESS == SIMHCA_WC_SUCCESS);
static_assert((int)IB_WC_WR_FLUSH_ERR == SIMHCA_WC_WR_FLUSH_ERR);
static_assert((int)IB_WC_RNR_RETRY_EXC_ERR == SIMHCA_WC_RNR_RETRY_EXC_ERR);

/* Of sends; the opcodes of enum simhca_wr_opcode */
static const enum ib_wc_opcode simhca_wc_opcodes[] = {
	[SIMHCA_WR_RDMA_WRITE] = IB_WC_RDMA_WRITE,
	[SIMHCA_WR_RDMA_WRITE_WITH_IMM] = IB_WC_RDMA_WRITE,
	[SIMHCA_WR_SEND] = IB_WC_SEND,
	[SIMHCA_WR_SEND_WITH_IMM] = IB_WC_SEND,
	[SIMHCA_WR_RDMA_READ] = IB_WC_RDMA_READ,
	[SIMHCA_WR_ATOMIC_CMP_AND_SWP] = IB_WC_COMP_SWAP,
	[SIMHCA_WR_ATOMIC_FETCH_AND_ADD] = IB_WC_FETCH_ADD,
	[SIMHCA_WR_LOCAL_INV] = IB_WC_LOCAL_INV,
	[SIMHCA_WR_SEND_WITH_INV] = IB_WC_SEND,
	[SIMHCA_WR_REG_MR] = IB_WC_REG_MR,
};

/* ---- rings ---------------------------------------------------------------------------------- */

static void simhca_ring_free_frags(struct simhca_dev *dev, struct simhca_ring *ring, u32 num)
{
	struct scatterlist *sg;
	u32 i;

	for_each_sg(ring->sgt.sgl, sg, num, i)
		dma_free_coherent(&dev->pdev->dev, sg_dma_len(sg), ring->frags[i],
				  sg_dma_address(sg));
	sg_free_table(&ring->sgt);
	kvfree(ring->frags);
	ring->frags = NULL;
}

static int simhca_ring_alloc(struct simhca_dev *dev, struct simhca_ring *ring, size_t size)
{
	/* A ring has its pages for itself */
	size_t left = PAGE_ALIGN(size);
	u32 num = DIV_ROUND_UP(left, SIMHCA_RING_FRAG);
	struct scatterlist *sg;
	dma_addr_t dma;
	u32 i;

	ring->frags = kvcalloc(num, sizeof(*ring->frags), GFP_KERNEL);
	if (!ring->frags)
		return -ENOMEM;
	if (sg_alloc_table(&ring->sgt, num, GFP_KERNEL)) {
		kvfree(ring->frags);
		ring->frags = NULL;
		return -ENOMEM;
	}

	for_each_sg(ring->sgt.sgl, sg, num, i) {
		size_t len = min_t(size_t, left, SIMHCA_RING_FRAG);

		ring->frags[i] = dma_alloc_coherent(&dev->pdev->dev, len, &dma, GFP_KERNEL);
		if (!ring->frags[i]) {
			simhca_ring_free_frags(dev, ring, i);
			return -ENOMEM;
		}
		sg_dma_address(sg) = dma;
		sg_dma_len(sg) = len;
		left -= len;
	}
	return 0;
}

static void simhca_ring_free(struct simhca_dev *dev, struct simhca_ring *ring)
{
	if (ring->frags)
		simhca_ring_free_frags(dev, ring, ring->sgt.orig_nents);
}

static void *simhca_ring_at(const struct simhca_ring *ring, size_t offset)
{
	return ring->frags[offset >> SIMHCA_RING_FRAG_SHIFT] + (offset & (SIMHCA_RING_FRAG - 1));
}

/**
 * simhca_ring_build - describe a ring, whoever it belongs to
 * @dev: the device
 * @umem: the ring of a process, or NULL; may be longer
 * @ring: otherwise that of a kernel user
 * @length: bytes
 * @sgl: filled in, for a command
 * @chunks: memory @sgl needs while the command is executed
 *
 * Return: 0 or an errno. Undone by simhca_sgl_free() after the command.
 */
int simhca_ring_build(struct simhca_dev *dev, struct ib_umem *umem,
		      const struct simhca_ring *ring, u64 length, struct simhca_sgl *sgl,
		      struct simhca_sgl_chunks *chunks)
{
	if (umem)
		return simhca_sgl_build(dev, umem, length, sgl, chunks);

	return simhca_sgl_build_table(dev, &ring->sgt, 0, length, sgl, chunks);
}

/* ---- work queues ---------------------------------------------------------------------------- */

static int simhca_kwq_init(struct simhca_dev *dev, struct simhca_kwq *wq, u32 max_wr,
			   size_t wqe_size, u32 min_log_stride)
{
	int err;

	wq->size = roundup_pow_of_two(max_wr);
	wq->log_stride = max_t(u32, order_base_2(wqe_size), min_log_stride);
	spin_lock_init(&wq->lock);

	wq->wrids = kvcalloc(wq->size, sizeof(*wq->wrids), GFP_KERNEL);
	if (!wq->wrids)
		return -ENOMEM;

	err = simhca_ring_alloc(dev, &wq->ring, (size_t)wq->size << wq->log_stride);
	if (err)
		kvfree(wq->wrids);
	return err;
}

static void simhca_kwq_cleanup(struct simhca_dev *dev, struct simhca_kwq *wq)
{
	if (!wq->size)
		return;
	simhca_ring_free(dev, &wq->ring);
	kvfree(wq->wrids);
}

static u32 simhca_kwq_sges(struct simhca_dev *dev, const struct simhca_kwq *wq, size_t head_size)
{
	return min_t(u32, dev->caps.max_sge,
		     (BIT(wq->log_stride) - head_size) / sizeof(struct simhca_sge));
}

/**
 * simhca_kqp_init - allocate the queues of a QP of a kernel user
 * @dev: the device
 * @qp: the QP
 * @cap: what is asked for; on return, what the queues can do
 *
 * Return: 0 or an errno. Undone by simhca_kqp_cleanup().
 */
int simhca_kqp_init(struct simhca_dev *dev, struct simhca_qp *qp, struct ib_qp_cap *cap)
{
	const struct simhca_caps *caps = &dev->caps;
	size_t payload;
	int err;

	if (cap->max_send_wr > BIT(caps->max_log_wr) || cap->max_recv_wr > BIT(caps->max_log_wr) ||
	    cap->max_send_sge > caps->max_sge || cap->max_recv_sge > caps->max_sge ||
	    cap->max_inline_data > caps->max_inline)
		return -EINVAL;

	payload = max3((size_t)cap->max_inline_data, sizeof(struct simhca_mem_wqe),
		       cap->max_send_sge * sizeof(struct simhca_sge));
	err = simhca_kwq_init(dev, &qp->sq, max(cap->max_send_wr, 1U),
			      sizeof(struct simhca_sq_wqe) + payload, SIMHCA_MIN_LOG_SQ_STRIDE);
	if (err)
		return err;
	qp->sq.max_sge = simhca_kwq_sges(dev, &qp->sq, sizeof(struct simhca_sq_wqe));
	cap->max_send_wr = qp->sq.size;
	cap->max_send_sge = qp->sq.max_sge;
	cap->max_inline_data = min_t(u32, caps->max_inline,
				     BIT(qp->sq.log_stride) - sizeof(struct simhca_sq_wqe));

	if (!cap->max_recv_wr) {
		cap->max_recv_sge = 0;
		return 0;
	}
	payload = max(cap->max_recv_sge, 1U) * sizeof(struct simhca_sge);
	err = simhca_kwq_init(dev, &qp->rq, cap->max_recv_wr,
			      sizeof(struct simhca_rq_wqe) + payload, SIMHCA_MIN_LOG_RQ_STRIDE);
	if (err) {
		qp->rq.size = 0;
		simhca_kwq_cleanup(dev, &qp->sq);
		return err;
	}
	qp->rq.max_sge = simhca_kwq_sges(dev, &qp->rq, sizeof(struct simhca_rq_wqe));
	cap->max_recv_wr = qp->rq.size;
	cap->max_recv_sge = qp->rq.max_sge;
	return 0;
}

/**
 * simhca_kqp_cleanup - free the queues of a QP
 * @dev: the device, which has forgotten the QP
 * @qp: the QP; nothing is done if it is that of a process
 */
void simhca_kqp_cleanup(struct simhca_dev *dev, struct simhca_qp *qp)
{
	simhca_kwq_cleanup(dev, &qp->rq);
	simhca_kwq_cleanup(dev, &qp->sq);
}

/**
 * simhca_ksrq_init - allocate an SRQ of a kernel user
 * @dev: the device
 * @srq: the SRQ
 * @attr: what is asked for; on return, what the queue can do
 *
 * Return: 0 or an errno. Undone by simhca_ksrq_cleanup().
 */
int simhca_ksrq_init(struct simhca_dev *dev, struct simhca_srq *srq, struct ib_srq_attr *attr)
{
	size_t payload = max(attr->max_sge, 1U) * sizeof(struct simhca_sge);
	struct simhca_kwq *wq = &srq->wq;
	int err;

	if (!attr->max_wr || attr->max_wr > BIT(dev->caps.max_log_wr) ||
	    attr->max_sge > dev->caps.max_sge)
		return -EINVAL;

	err = simhca_kwq_init(dev, wq, attr->max_wr, sizeof(struct simhca_rq_wqe) + payload,
			      SIMHCA_MIN_LOG_RQ_STRIDE);
	if (err)
		return err;

	err = -ENOMEM;
	srq->free_tags = kvcalloc(wq->size, sizeof(*srq->free_tags), GFP_KERNEL);
	if (!srq->free_tags)
		goto err_wq;
	srq->used_tags = bitmap_zalloc(wq->size, GFP_KERNEL);
	if (!srq->used_tags)
		goto err_tags;
	for (srq->num_free = 0; srq->num_free < wq->size; srq->num_free++)
		srq->free_tags[srq->num_free] = srq->num_free;

	wq->max_sge = simhca_kwq_sges(dev, wq, sizeof(struct simhca_rq_wqe));
	attr->max_wr = wq->size;
	attr->max_sge = wq->max_sge;
	return 0;

err_tags:
	kvfree(srq->free_tags);
err_wq:
	simhca_kwq_cleanup(dev, wq);
	return err;
}

/**
 * simhca_ksrq_cleanup - free an SRQ
 * @dev: the device, which has forgotten the SRQ
 * @srq: the SRQ; nothing is done if it is that of a process
 */
void simhca_ksrq_cleanup(struct simhca_dev *dev, struct simhca_srq *srq)
{
	bitmap_free(srq->used_tags);
	kvfree(srq->free_tags);
	simhca_kwq_cleanup(dev, &srq->wq);
}

/* ---- posting -------------------------------------------------------------------------------- */

static void *simhca_kwq_entry(const struct simhca_kwq *wq)
{
	return simhca_ring_at(&wq->ring, (size_t)(wq->head & (wq->size - 1)) << wq->log_stride);
}

static bool simhca_kwq_full(const struct simhca_kwq *wq)
{
	/* Pairs with simhca_kwq_complete(): what is overwritten is not looked at any more */
	return wq->head - smp_load_acquire(&wq->tail) >= wq->size;
}

static void simhca_kwq_advance(struct simhca_kwq *wq, u64 wr_id)
{
	wq->wrids[wq->head & (wq->size - 1)] = wr_id;
	wq->head++;
}

static int simhca_set_sges(const struct simhca_kwq *wq, struct simhca_sge *to,
			   const struct ib_sge *from, int num_sge)
{
	int i;

	if (num_sge < 0 || num_sge > wq->max_sge)
		return -EINVAL;
	for (i = 0; i < num_sge; i++) {
		to[i].addr = cpu_to_le64(from[i].addr);
		to[i].length = cpu_to_le32(from[i].length);
		to[i].lkey = cpu_to_le32(from[i].lkey);
	}
	return 0;
}

/* Of kernel users the addresses of inline data are those of the CPU */
static int simhca_set_inline(const struct simhca_qp *qp, struct simhca_sq_wqe *wqe,
			     const struct ib_send_wr *wr)
{
	void *data = wqe + 1;
	u32 len = 0;
	int i;

	for (i = 0; i < wr->num_sge; i++) {
		const struct ib_sge *sge = &wr->sg_list[i];

		if (sge->length > qp->cap.max_inline_data - len)
			return -EINVAL;
		memcpy(data + len, (void *)(uintptr_t)sge->addr, sge->length);
		len += sge->length;
	}
	wqe->inline_len = cpu_to_le32(len);
	return 0;
}

static void simhca_set_ud_dest(struct simhca_ud_dest *dest, const struct ib_ud_wr *wr)
{
	*dest = to_sah(wr->ah)->dest;
	dest->qpn = cpu_to_le32(wr->remote_qpn);
	dest->qkey = cpu_to_le32(wr->remote_qkey);
}

/* The list of segments is that of the MR: it must not be mapped anew before this has completed */
static void simhca_set_reg(struct simhca_sq_wqe *wqe, const struct ib_reg_wr *wr)
{
	struct simhca_mem_wqe *mem = (struct simhca_mem_wqe *)(wqe + 1);
	const struct simhca_fast_mem *fast = &to_smr(wr->mr)->fast;

	wqe->rkey = cpu_to_le32(wr->key);
	*mem = (struct simhca_mem_wqe) {
		.addr = cpu_to_le64(wr->mr->iova),
		.length = cpu_to_le64(wr->mr->length),
		.segs = cpu_to_le64(fast->dma),
		.num_segs = cpu_to_le32(fast->num),
		.access = cpu_to_le32(simhca_mr_access(wr->access)),
	};
}

/*
 * The fields of the head that depend on the operation. Those that a UD QP does not know are for the
 * device to refuse: ib_drain_qp() posts one to be flushed.
 */
static int simhca_set_operation(struct simhca_qp *qp, struct simhca_sq_wqe *wqe,
				const struct ib_send_wr *wr)
{
	switch (wr->opcode) {
	case IB_WR_SEND_WITH_IMM:
		wqe->imm_data = wr->ex.imm_data;
		fallthrough;
	case IB_WR_SEND:
		if (qp->ibqp.qp_type != IB_QPT_RC)
			simhca_set_ud_dest(&wqe->ud, ud_wr(wr));
		return 0;

	case IB_WR_RDMA_WRITE_WITH_IMM:
		wqe->imm_data = wr->ex.imm_data;
		fallthrough;
	case IB_WR_RDMA_WRITE:
	case IB_WR_RDMA_READ:
		wqe->remote_addr = cpu_to_le64(rdma_wr(wr)->remote_addr);
		wqe->rkey = cpu_to_le32(rdma_wr(wr)->rkey);
		return 0;

	case IB_WR_ATOMIC_CMP_AND_SWP:
		wqe->swap = cpu_to_le64(atomic_wr(wr)->swap);
		fallthrough;
	case IB_WR_ATOMIC_FETCH_AND_ADD:
		wqe->compare_add = cpu_to_le64(atomic_wr(wr)->compare_add);
		wqe->remote_addr = cpu_to_le64(atomic_wr(wr)->remote_addr);
		wqe->rkey = cpu_to_le32(atomic_wr(wr)->rkey);
		return 0;

	case IB_WR_SEND_WITH_INV:
	case IB_WR_LOCAL_INV:
		wqe->rkey = cpu_to_le32(wr->ex.invalidate_rkey);
		return 0;

	case IB_WR_REG_MR:
		simhca_set_reg(wqe, reg_wr(wr));
		return wr->num_sge || wr->send_flags & IB_SEND_INLINE ? -EINVAL : 0;

	default:
		return -EINVAL;
	}
}

static int simhca_build_send(struct simhca_qp *qp, const struct ib_send_wr *wr)
{
	struct simhca_sq_wqe *wqe = simhca_kwq_entry(&qp->sq);
	int err;

	if (wr->send_flags & ~SIMHCA_SEND_FLAGS)
		return -EINVAL;

	*wqe = (struct simhca_sq_wqe) {
		.opcode = wr->opcode,
		.flags = wr->send_flags,
	};
	if (qp->sig_type == IB_SIGNAL_ALL_WR)
		wqe->flags |= SIMHCA_WR_SIGNALED;

	err = simhca_set_operation(qp, wqe, wr);
	if (err)
		return err;

	if (wr->send_flags & IB_SEND_INLINE)
		return simhca_set_inline(qp, wqe, wr);
	wqe->num_sge = cpu_to_le16(wr->num_sge);
	return simhca_set_sges(&qp->sq, (struct simhca_sge *)(wqe + 1), wr->sg_list, wr->num_sge);
}

static void __iomem *simhca_qp_db(struct simhca_dev *dev, const struct simhca_qp *qp)
{
	return simhca_uar_addr(dev, qp->slot.uar->index) +
	       offsetof(struct simhca_uar, qp[qp->slot.index]);
}

static void simhca_ring_sq(struct simhca_dev *dev, struct simhca_qp *qp)
{
	/* writel() and writeb() are ordered after the entries, and after each other */
	writel(qp->sq.head, simhca_qp_db(dev, qp) + offsetof(struct simhca_qp_db, sq_pi));
	writeb(1, simhca_uar_addr(dev, qp->slot.uar->index) +
	       offsetof(struct simhca_uar, sq_group[qp->slot.index / SIMHCA_QPS_PER_GROUP]));
	simhca_kick(dev);
}

/* What is posted to a device that was given up waits for somebody who polls */
static void simhca_post_dead(struct simhca_dev *dev)
{
	/* Either who gives it up finds what was posted, or this finds that it was given up */
	smp_mb();
	if (READ_ONCE(dev->cmdq.dead))
		schedule_work(&dev->fail_work);
}

int simhca_post_send(struct ib_qp *ibqp, const struct ib_send_wr *wr,
		     const struct ib_send_wr **bad_wr)
{
	struct simhca_dev *dev = to_sdev(ibqp->device);
	struct simhca_qp *qp = to_sqp(ibqp);
	struct simhca_kwq *sq = &qp->sq;
	unsigned long flags;
	int err = 0;
	u32 start;

	if (READ_ONCE(qp->state) < IB_QPS_RTS) {
		*bad_wr = wr;
		return -EINVAL;
	}

	spin_lock_irqsave(&sq->lock, flags);
	start = sq->head;
	for (; wr; wr = wr->next) {
		err = simhca_kwq_full(sq) ? -ENOMEM : simhca_build_send(qp, wr);
		if (err) {
			*bad_wr = wr;
			break;
		}
		simhca_kwq_advance(sq, wr->wr_id);
	}
	if (sq->head != start)
		simhca_ring_sq(dev, qp);
	spin_unlock_irqrestore(&sq->lock, flags);

	simhca_post_dead(dev);
	return err;
}

static int simhca_build_recv(struct simhca_kwq *rq, const struct ib_recv_wr *wr)
{
	struct simhca_rq_wqe *wqe = simhca_kwq_entry(rq);

	*wqe = (struct simhca_rq_wqe) { .num_sge = cpu_to_le32(wr->num_sge) };
	return simhca_set_sges(rq, (struct simhca_sge *)(wqe + 1), wr->sg_list, wr->num_sge);
}

int simhca_post_recv(struct ib_qp *ibqp, const struct ib_recv_wr *wr,
		     const struct ib_recv_wr **bad_wr)
{
	struct simhca_dev *dev = to_sdev(ibqp->device);
	struct simhca_qp *qp = to_sqp(ibqp);
	struct simhca_kwq *rq = &qp->rq;
	unsigned long flags;
	int err = 0;
	u32 start;

	if (READ_ONCE(qp->state) == IB_QPS_RESET || !rq->size) {
		*bad_wr = wr;
		return -EINVAL;
	}

	spin_lock_irqsave(&rq->lock, flags);
	start = rq->head;
	for (; wr; wr = wr->next) {
		err = simhca_kwq_full(rq) ? -ENOMEM : simhca_build_recv(rq, wr);
		if (err) {
			*bad_wr = wr;
			break;
		}
		simhca_kwq_advance(rq, wr->wr_id);
	}
	if (rq->head != start)
		writel(rq->head, simhca_qp_db(dev, qp) + offsetof(struct simhca_qp_db, rq_pi));
	spin_unlock_irqrestore(&rq->lock, flags);

	simhca_post_dead(dev);
	return err;
}

int simhca_post_srq_recv(struct ib_srq *ibsrq, const struct ib_recv_wr *wr,
			 const struct ib_recv_wr **bad_wr)
{
	struct simhca_dev *dev = to_sdev(ibsrq->device);
	struct simhca_srq *srq = to_ssrq(ibsrq);
	struct simhca_kwq *wq = &srq->wq;
	unsigned long flags;
	int err = 0;
	u32 start;

	spin_lock_irqsave(&wq->lock, flags);
	start = wq->head;
	for (; wr; wr = wr->next) {
		struct simhca_rq_wqe *wqe = simhca_kwq_entry(wq);
		u32 tag;

		err = srq->num_free ? simhca_build_recv(wq, wr) : -ENOMEM;
		if (err) {
			*bad_wr = wr;
			break;
		}
		tag = srq->free_tags[--srq->num_free];
		__set_bit(tag, srq->used_tags);
		wqe->tag = cpu_to_le32(tag);
		wq->wrids[tag] = wr->wr_id;
		wq->head++;
	}
	if (wq->head != start)
		writel(wq->head, simhca_uar_addr(dev, srq->slot.uar->index) +
		       offsetof(struct simhca_uar, srq[srq->slot.index].pi));
	spin_unlock_irqrestore(&wq->lock, flags);
	return err;
}

/* The receive with this tag is completed. Returns false if there is none. */
static bool simhca_ksrq_take(struct simhca_srq *srq, u32 tag, u64 *wr_id)
{
	bool ok;

	spin_lock(&srq->wq.lock);
	ok = tag < srq->wq.size && __test_and_clear_bit(tag, srq->used_tags);
	if (ok) {
		*wr_id = srq->wq.wrids[tag];
		srq->free_tags[srq->num_free++] = tag;
	}
	spin_unlock(&srq->wq.lock);
	return ok;
}

/* ---- completion queues ---------------------------------------------------------------------- */

/**
 * simhca_kcq_init - allocate the ring of a CQ of a kernel user
 * @dev: the device
 * @kcq: the CQ
 * @log_size: log2 of entries
 *
 * Return: 0 or an errno. Undone by simhca_kcq_cleanup().
 */
int simhca_kcq_init(struct simhca_dev *dev, struct simhca_kcq *kcq, u32 log_size)
{
	spin_lock_init(&kcq->lock);
	INIT_LIST_HEAD(&kcq->send_qps);
	INIT_LIST_HEAD(&kcq->recv_qps);
	xa_init_flags(&kcq->qps, XA_FLAGS_LOCK_IRQ);
	return simhca_ring_alloc(dev, &kcq->ring, sizeof(struct simhca_cqe) << log_size);
}

/**
 * simhca_kcq_cleanup - free the ring of a CQ
 * @dev: the device, which has forgotten the CQ
 * @kcq: the CQ; nothing is done if it is that of a process
 */
void simhca_kcq_cleanup(struct simhca_dev *dev, struct simhca_kcq *kcq)
{
	if (!kcq->ring.frags)
		return;
	xa_destroy(&kcq->qps);
	simhca_ring_free(dev, &kcq->ring);
}

/**
 * simhca_kcq_event - the CQ has an event: it is not armed any more
 * @cq: a CQ of a kernel user
 *
 * Context: hard interrupt.
 */
void simhca_kcq_event(struct simhca_cq *cq)
{
	unsigned long flags;

	spin_lock_irqsave(&cq->kcq.lock, flags);
	cq->kcq.armed = false;
	cq->kcq.armed_any = false;
	spin_unlock_irqrestore(&cq->kcq.lock, flags);
}

static void __iomem *simhca_cq_db(const struct simhca_cq *cq)
{
	return simhca_uar_addr(to_sdev(cq->ibcq.device), cq->slot.uar->index) +
	       offsetof(struct simhca_uar, cq[cq->slot.index]);
}

/* The number of entries is a power of two */
static struct simhca_cqe *simhca_cqe(const struct simhca_cq *cq, u32 index)
{
	u32 entry = index & (cq->ibcq.cqe - 1);

	return simhca_ring_at(&cq->kcq.ring, entry * sizeof(struct simhca_cqe));
}

/* Did the device write the CQE with this number? 0 is the first since creation. */
static bool simhca_cqe_ready(const struct simhca_cq *cq, u32 index)
{
	return READ_ONCE(simhca_cqe(cq, index)->phase) == !(index & cq->ibcq.cqe);
}

static void simhca_store_ci(const struct simhca_cq *cq)
{
	/* writel() is ordered after the last look at the entries */
	writel(cq->kcq.ci, simhca_cq_db(cq) + offsetof(struct simhca_cq_db, ci));
}

static void simhca_kwq_complete(struct simhca_kwq *wq, u32 index)
{
	/* From here on the entry, and the unsignaled ones before it, may be overwritten */
	smp_store_release(&wq->tail, index + 1);
}

static void simhca_read_flags(const struct simhca_cqe *cqe, struct ib_wc *wc)
{
	u32 src = le32_to_cpu(cqe->src);

	if (cqe->flags & SIMHCA_CQE_IMM) {
		wc->ex.imm_data = cqe->imm_data;
		wc->wc_flags |= IB_WC_WITH_IMM;
	}
	if (cqe->flags & SIMHCA_CQE_INV) {
		wc->ex.invalidate_rkey = le32_to_cpu(cqe->inv_rkey);
		wc->wc_flags |= IB_WC_WITH_INVALIDATE;
	}
	if (cqe->flags & SIMHCA_CQE_GRH) {
		wc->src_qp = src & (BIT(SIMHCA_CQE_SL_SHIFT) - 1);
		wc->sl = src >> SIMHCA_CQE_SL_SHIFT;
		wc->wc_flags |= IB_WC_GRH;
	} else {
		wc->vendor_err = le32_to_cpu(cqe->vendor_err);
	}
}

/* Returns false if it is not of the requests that wait in this queue */
static bool simhca_kwq_take(const struct simhca_kwq *wq, u32 index, u64 *wr_id)
{
	/* There is no completion of what is just being posted */
	if (index - wq->tail >= READ_ONCE(wq->head) - wq->tail)
		return false;
	*wr_id = wq->wrids[index & (wq->size - 1)];
	return true;
}

/* Returns false if it is of nothing that waits for this CQ */
static bool simhca_read_cqe(struct simhca_cq *cq, const struct simhca_cqe *cqe, struct ib_wc *wc)
{
	struct simhca_qp *qp = xa_load(&cq->kcq.qps, le32_to_cpu(cqe->qpn));
	bool recv = cqe->flags & SIMHCA_CQE_RECV;
	u32 index = le32_to_cpu(cqe->wqe_index);
	struct simhca_kwq *wq;
	u64 wr_id;

	lockdep_assert_held(&cq->kcq.lock);

	if (!qp || (recv ? qp->ibqp.recv_cq : qp->ibqp.send_cq) != &cq->ibcq ||
	    cqe->opcode >= ARRAY_SIZE(simhca_wc_opcodes))
		return false;
	wq = recv ? &qp->rq : &qp->sq;
	if (wq->size) {
		if (!simhca_kwq_take(wq, index, &wr_id))
			return false;
	} else if (!recv || !qp->ibqp.srq ||
		   !simhca_ksrq_take(to_ssrq(qp->ibqp.srq), index, &wr_id)) {
		return false;
	}

	*wc = (struct ib_wc) {
		.wr_id = wr_id,
		.status = min_t(u8, cqe->status, IB_WC_GENERAL_ERR),
		.byte_len = le32_to_cpu(cqe->byte_len),
		.qp = &qp->ibqp,
		.port_num = SIMHCA_PORT,
	};
	if (!recv)
		wc->opcode = simhca_wc_opcodes[cqe->opcode];
	else if (cqe->opcode == SIMHCA_WR_RDMA_WRITE_WITH_IMM)
		wc->opcode = IB_WC_RECV_RDMA_WITH_IMM;
	else
		wc->opcode = IB_WC_RECV;
	simhca_read_flags(cqe, wc);
	if (wq->size)
		simhca_kwq_complete(wq, index);
	return true;
}

/* Sets *@confused if there is a completion that cannot be. It is not handed on. */
static int simhca_poll_ring(struct simhca_cq *cq, int num_entries, struct ib_wc *wc,
			    bool *confused)
{
	struct simhca_kcq *kcq = &cq->kcq;
	u32 start = kcq->ci;
	struct simhca_cqe cqe;
	int n = 0;

	lockdep_assert_held(&kcq->lock);

	while (n < num_entries && !*confused && simhca_cqe_ready(cq, kcq->ci)) {
		/* The rest of the entry is read after its phase, and but once */
		dma_rmb();
		cqe = *simhca_cqe(cq, kcq->ci);
		barrier();
		if (simhca_read_cqe(cq, &cqe, &wc[n]))
			n++;
		else
			*confused = true;
		kcq->ci++;
	}
	if (kcq->ci != start)
		simhca_store_ci(cq);
	return n;
}

static int simhca_flush_wq(struct simhca_qp *qp, struct simhca_kwq *wq, int num_entries,
			   struct ib_wc *wc)
{
	u32 head, tail = wq->tail;
	int n;

	if (!wq->size)
		return 0;

	spin_lock(&wq->lock);
	head = wq->head;
	spin_unlock(&wq->lock);

	for (n = 0; n < num_entries && tail != head; n++, tail++) {
		wc[n] = (struct ib_wc) {
			.wr_id = wq->wrids[tail & (wq->size - 1)],
			.status = IB_WC_WR_FLUSH_ERR,
			.qp = &qp->ibqp,
			.port_num = SIMHCA_PORT,
		};
		simhca_kwq_complete(wq, tail);
	}
	return n;
}

/*
 * The device was given up, and the ring is empty. Unsignaled requests are flushed as well, for
 * nobody knows how far it came.
 */
static int simhca_flush_cq(struct simhca_kcq *kcq, int num_entries, struct ib_wc *wc)
{
	struct simhca_qp *qp;
	int n = 0;

	list_for_each_entry(qp, &kcq->send_qps, send_entry)
		n += simhca_flush_wq(qp, &qp->sq, num_entries - n, wc + n);
	list_for_each_entry(qp, &kcq->recv_qps, recv_entry)
		n += simhca_flush_wq(qp, &qp->rq, num_entries - n, wc + n);
	return n;
}

static bool simhca_kwq_empty(struct simhca_kwq *wq)
{
	bool empty;

	spin_lock(&wq->lock);
	empty = wq->head == wq->tail;
	spin_unlock(&wq->lock);
	return empty;
}

static bool simhca_nothing_to_flush(struct simhca_kcq *kcq)
{
	struct simhca_qp *qp;

	list_for_each_entry(qp, &kcq->send_qps, send_entry)
		if (!simhca_kwq_empty(&qp->sq))
			return false;
	list_for_each_entry(qp, &kcq->recv_qps, recv_entry)
		if (qp->rq.size && !simhca_kwq_empty(&qp->rq))
			return false;
	return true;
}

/**
 * simhca_kcq_overdue - somebody waits for an event of a CQ where there is something to poll
 * @cq: a CQ of a kernel user
 *
 * True for one that is armed, so there is a handler; and if a request waits to be flushed, its QP
 * keeps the CQ alive.
 *
 * Context: any.
 */
bool simhca_kcq_overdue(struct simhca_cq *cq)
{
	struct simhca_dev *dev = to_sdev(cq->ibcq.device);
	struct simhca_kcq *kcq = &cq->kcq;

	guard(spinlock_irqsave)(&kcq->lock);
	return kcq->armed && (simhca_cqe_ready(cq, kcq->ci) ||
			      (READ_ONCE(dev->cmdq.dead) && !simhca_nothing_to_flush(kcq)));
}

int simhca_poll_cq(struct ib_cq *ibcq, int num_entries, struct ib_wc *wc)
{
	struct simhca_dev *dev = to_sdev(ibcq->device);
	struct simhca_cq *cq = to_scq(ibcq);
	bool confused = false;
	unsigned long flags;
	int n;

	spin_lock_irqsave(&cq->kcq.lock, flags);
	n = simhca_poll_ring(cq, num_entries, wc, &confused);
	if (!n && READ_ONCE(dev->cmdq.dead)) {
		/* It was reset before it was given up: what it wrote is there */
		smp_rmb();
		n = simhca_poll_ring(cq, num_entries, wc, &confused);
		if (!n)
			n = simhca_flush_cq(&cq->kcq, num_entries, wc);
	}
	spin_unlock_irqrestore(&cq->kcq.lock, flags);

	if (confused)
		simhca_dev_fail(dev, "completion of nothing that was posted");
	return n;
}

int simhca_req_notify_cq(struct ib_cq *ibcq, enum ib_cq_notify_flags flags)
{
	struct simhca_dev *dev = to_sdev(ibcq->device);
	struct simhca_cq *cq = to_scq(ibcq);
	struct simhca_kcq *kcq = &cq->kcq;
	unsigned long irq_flags;
	int missed = 0;
	u32 arm;

	spin_lock_irqsave(&kcq->lock, irq_flags);
	/* A pending request for any completion is not weakened (IBTA 11.4.2.2) */
	if ((flags & IB_CQ_SOLICITED_MASK) != IB_CQ_SOLICITED)
		kcq->armed_any = true;
	kcq->armed = true;
	arm = ++kcq->arm_seq << SIMHCA_CQ_ARM_SEQ_SHIFT;
	if (!kcq->armed_any)
		arm |= SIMHCA_CQ_ARM_SOLICITED;
	writel(arm, simhca_cq_db(cq) + offsetof(struct simhca_cq_db, arm));

	/* Either this finds the CQE, or the device finds the CQ armed */
	mb();
	if (flags & IB_CQ_REPORT_MISSED_EVENTS)
		missed = simhca_cqe_ready(cq, kcq->ci) ||
			 (READ_ONCE(dev->cmdq.dead) && !simhca_nothing_to_flush(kcq));
	spin_unlock_irqrestore(&kcq->lock, irq_flags);
	return missed;
}

/* ---- QPs and their CQs ---------------------------------------------------------------------- */

/* From the newest to the oldest: close the gaps by moving the CQEs of others up */
static void simhca_clean_cq(struct simhca_cq *cq, struct simhca_qp *qp)
{
	struct simhca_kcq *kcq = &cq->kcq;
	u32 index = kcq->ci, removed = 0;
	u64 wr_id;

	lockdep_assert_held(&kcq->lock);

	while (index - kcq->ci < cq->ibcq.cqe && simhca_cqe_ready(cq, index))
		index++;
	dma_rmb();

	while (index-- != kcq->ci) {
		struct simhca_cqe *cqe = simhca_cqe(cq, index);

		if (le32_to_cpu(cqe->qpn) == qp->ibqp.qp_num) {
			if (qp->ibqp.srq && cqe->flags & SIMHCA_CQE_RECV)
				simhca_ksrq_take(to_ssrq(qp->ibqp.srq),
						 le32_to_cpu(cqe->wqe_index), &wr_id);
			removed++;
		} else if (removed) {
			struct simhca_cqe *dest = simhca_cqe(cq, index + removed);
			u8 phase = dest->phase;

			*dest = *cqe;
			dest->phase = phase;
		}
	}
	if (removed) {
		kcq->ci += removed;
		simhca_store_ci(cq);
	}
}

/**
 * simhca_kqp_attach - completions of a QP may come
 * @qp: a QP of a kernel user
 *
 * Return: 0 or -ENOMEM. Undone by simhca_kqp_detach().
 */
int simhca_kqp_attach(struct simhca_qp *qp)
{
	struct simhca_kcq *send = &to_scq(qp->ibqp.send_cq)->kcq;
	struct simhca_kcq *recv = &to_scq(qp->ibqp.recv_cq)->kcq;
	u32 qpn = qp->ibqp.qp_num;
	int err;

	/* They may be one and the same */
	err = xa_err(xa_store_irq(&send->qps, qpn, qp, GFP_KERNEL));
	if (err)
		return err;
	err = xa_err(xa_store_irq(&recv->qps, qpn, qp, GFP_KERNEL));
	if (err) {
		xa_erase_irq(&send->qps, qpn);
		return err;
	}

	spin_lock_irq(&send->lock);
	list_add_tail(&qp->send_entry, &send->send_qps);
	spin_unlock_irq(&send->lock);

	spin_lock_irq(&recv->lock);
	list_add_tail(&qp->recv_entry, &recv->recv_qps);
	spin_unlock_irq(&recv->lock);
	return 0;
}

/**
 * simhca_kqp_detach - nobody will find the QP in its CQs any more
 * @qp: a QP of a kernel user, which the device has forgotten
 */
void simhca_kqp_detach(struct simhca_qp *qp)
{
	struct simhca_cq *send = to_scq(qp->ibqp.send_cq);
	struct simhca_cq *recv = to_scq(qp->ibqp.recv_cq);

	spin_lock_irq(&send->kcq.lock);
	simhca_clean_cq(send, qp);
	list_del(&qp->send_entry);
	xa_erase(&send->kcq.qps, qp->ibqp.qp_num);
	spin_unlock_irq(&send->kcq.lock);

	spin_lock_irq(&recv->kcq.lock);
	simhca_clean_cq(recv, qp);
	list_del(&qp->recv_entry);
	xa_erase(&recv->kcq.qps, qp->ibqp.qp_num);
	spin_unlock_irq(&recv->kcq.lock);
}

/* Of a QP with an SRQ, @wq is the receive queue that it does not have */
static void simhca_kwq_reset(struct simhca_cq *cq, struct simhca_qp *qp, struct simhca_kwq *wq)
{
	spin_lock_irq(&cq->kcq.lock);
	simhca_clean_cq(cq, qp);
	if (wq->size) {
		spin_lock(&wq->lock);
		wq->head = 0;
		wq->tail = 0;
		spin_unlock(&wq->lock);
	}
	spin_unlock_irq(&cq->kcq.lock);
}

/**
 * simhca_kqp_reset - a QP went to RESET: its queues are empty
 * @qp: a QP of a kernel user, whose doorbell the device has set to 0
 */
void simhca_kqp_reset(struct simhca_qp *qp)
{
	simhca_kwq_reset(to_scq(qp->ibqp.send_cq), qp, &qp->sq);
	if (qp->rq.size || qp->ibqp.srq)
		simhca_kwq_reset(to_scq(qp->ibqp.recv_cq), qp, &qp->rq);
}
