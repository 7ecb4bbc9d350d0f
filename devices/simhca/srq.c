// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* Shared receive queues. */
#include <endian.h>
#include <errno.h>

#include "simhca.h"

static bool srq_limit_ok(const struct simhca_srq *srq, uint32_t limit)
{
	return limit <= 1u << srq->rq.q.log_size;
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
	if (!srq_limit_ok(srq, rq->base.limit))
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

uint16_t obj_modify_srq(struct simhca_dev *dev, const struct simhca_srq_attr *cmd)
{
	struct engine_rq *base = idtab_get(&dev->hca.srqs, le32toh(cmd->srqn));

	if (!base)
		return SIMHCA_CMD_ENOENT;
	if (!srq_limit_ok(to_srq(base), le32toh(cmd->limit)))
		return SIMHCA_CMD_EINVAL;
	base->limit = le32toh(cmd->limit);
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
