// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* Shared receive queues. */
#include <endian.h>
#include <errno.h>

#include "simhca.h"

/* Bytes of receives that are moved at once, under the lock of the DMA map. */
#define SRQ_MOVE_BATCH	4096u

static bool srq_limit_ok(uint32_t log_size, uint32_t limit)
{
	return limit <= 1u << log_size;
}

uint16_t obj_create_srq(struct simhca_dev *dev, const struct simhca_cmd_create_srq *cmd)
{
	struct simhca_srq *srq = engine_alloc(&dev->hca, sizeof(*srq));
	struct simhca_rq *rq;
	int ret;

	if (!srq)
		return SIMHCA_CMD_ENOMEM;
	rq = &srq->rq;
	rq->dev = dev;
	rq->base.hca = &dev->hca;
	rq->base.srqn = le32toh(cmd->srqn);
	rq->base.pdn = le32toh(cmd->pdn);
	rq->base.limit = le32toh(cmd->limit);
	srq->slot = le32toh(cmd->slot);
	event_init(&srq->async, rq->base.srqn);

	ret = obj_create_rq(dev, &rq->q, &cmd->ring, cmd->log_size, cmd->log_stride);
	if (ret)
		goto err_free;
	ret = -EINVAL;
	if (!srq_limit_ok(rq->q.log_size, rq->base.limit))
		goto err_ring;
	ret = doorbell_get(dev, le32toh(cmd->uar), SIMHCA_SLOT_SRQ, srq->slot, NULL, &srq->uar);
	if (ret)
		goto err_ring;
	rq->pi = &srq->uar->page->srq[srq->slot].pi;
	ret = engine_srq_create(&rq->base);
	if (ret)
		goto err_doorbell;
	return SIMHCA_CMD_OK;

err_doorbell:
	doorbell_put(dev, srq->uar, SIMHCA_SLOT_SRQ, srq->slot);
err_ring:
	ring_destroy(dev, &rq->q.ring);
err_free:
	engine_free(&dev->hca, srq, sizeof(*srq));
	return obj_status(ret);
}

/* Copies the receives from the next one to be taken on, @num, to where @to has them. Returns 0 or -EFAULT. */
static int srq_move(struct simhca_dev *dev, struct simhca_queue *from, struct simhca_queue *to,
		    uint32_t num)
{
	const uint32_t from_size = 1u << from->log_size, to_size = 1u << to->log_size;
	const uint32_t stride = from->log_stride;
	uint8_t wqes[SRQ_MOVE_BATCH];
	uint32_t i = from->ci, n;
	int ret = 0;

	for (; !ret && num; num -= n, i += n) {
		uint32_t from_pos = i & (from_size - 1), to_pos = i & (to_size - 1);

		n = min_u32(min_u32(num, SRQ_MOVE_BATCH >> stride),
			    min_u32(from_size - from_pos, to_size - to_pos));
		dma_map_read_lock(dev->hca.map);
		ret = ring_read(dev, &from->ring, (uint64_t)from_pos << stride, wqes, n << stride);
		if (!ret)
			ret = ring_write(dev, &to->ring, (uint64_t)to_pos << stride, wqes,
					 n << stride);
		dma_map_read_unlock(dev->hca.map);
	}
	if (ret)
		dev->hca.stats.translate_faults++;
	return ret;
}

static int srq_set_ring(struct simhca_srq *srq, const struct simhca_sgl *sgl, uint8_t log_size)
{
	struct simhca_dev *dev = srq->rq.dev;
	struct simhca_queue *old = &srq->rq.q;
	struct simhca_queue new = { .ci = old->ci };
	int ret, num;

	num = queue_avail(old, srq->rq.pi);
	if (num < 0)
		return -EINVAL;
	ret = obj_create_rq(dev, &new, sgl, log_size, old->log_stride);
	if (ret)
		return ret;
	ret = (uint32_t)num > 1u << log_size ? -EINVAL : srq_move(dev, old, &new, num);
	if (ret) {
		ring_destroy(dev, &new.ring);
		return ret;
	}
	ring_destroy(dev, &old->ring);
	*old = new;
	return 0;
}

uint16_t obj_modify_srq(struct simhca_dev *dev, const struct simhca_cmd_modify_srq *cmd)
{
	struct engine_rq *base = idtab_get(&dev->hca.srqs, le32toh(cmd->srqn));
	uint32_t mask = le32toh(cmd->mask);
	struct simhca_srq *srq;
	uint8_t log_size;
	uint32_t limit;
	int ret;

	if (!base)
		return SIMHCA_CMD_ENOENT;
	srq = to_srq(base);
	log_size = mask & SIMHCA_SRQ_RING ? cmd->log_size : srq->rq.q.log_size;
	limit = mask & SIMHCA_SRQ_LIMIT ? le32toh(cmd->limit) : base->limit;
	if (mask & ~(SIMHCA_SRQ_LIMIT | SIMHCA_SRQ_RING) || log_size > SIMHCA_MAX_LOG_WR ||
	    !srq_limit_ok(log_size, limit))
		return SIMHCA_CMD_EINVAL;
	if (mask & SIMHCA_SRQ_RING) {
		ret = srq_set_ring(srq, &cmd->ring, log_size);
		if (ret)
			return obj_status(ret);
	}
	base->limit = limit;
	return SIMHCA_CMD_OK;
}

uint16_t obj_query_srq(struct simhca_dev *dev, uint32_t srqn, struct simhca_srq_attr *out)
{
	const struct engine_rq *base = idtab_get(&dev->hca.srqs, srqn);

	if (!base)
		return SIMHCA_CMD_ENOENT;
	*out = (struct simhca_srq_attr) {
		.srqn = htole32(srqn),
		.limit = htole32(base->limit),
	};
	return SIMHCA_CMD_OK;
}

uint16_t obj_destroy_srq(struct simhca_dev *dev, uint32_t srqn)
{
	struct engine_rq *base = idtab_get(&dev->hca.srqs, srqn);
	struct simhca_srq *srq;
	int ret;

	if (!base)
		return SIMHCA_CMD_ENOENT;
	srq = to_srq(base);
	ret = engine_srq_destroy(base);
	if (ret)
		return obj_status(ret);
	event_cancel(&srq->async);
	doorbell_put(dev, srq->uar, SIMHCA_SLOT_SRQ, srq->slot);
	ring_destroy(dev, &srq->rq.q.ring);
	engine_free(&dev->hca, srq, sizeof(*srq));
	return SIMHCA_CMD_OK;
}
