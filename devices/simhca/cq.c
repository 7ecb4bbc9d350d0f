// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* Completion queues: made, resized, moderated and unmade. */
#include <endian.h>
#include <errno.h>

#include "simhca.h"

#define CQ_FLAGS	(SIMHCA_CQ_TIMESTAMP | SIMHCA_CQ_IGNORE_OVERRUN)

/* CQEs that are moved at once, under the lock of the DMA map. */
#define CQ_MOVE_BATCH	128u

static struct simhca_cq_db *cq_db(const struct simhca_cq *cq)
{
	return &cq->uar->page->cq[cq->slot];
}

/* ---- events ---- */

/* Did software ask for an event, which it did not get? The value of the doorbell is in *@arm. */
static bool cq_armed(const struct simhca_cq *cq, uint32_t *arm)
{
	*arm = le32toh(__atomic_load_n(&cq_db(cq)->arm, __ATOMIC_RELAXED));
	return *arm >> SIMHCA_CQ_ARM_SEQ_SHIFT != cq->arm >> SIMHCA_CQ_ARM_SEQ_SHIFT;
}

static void cq_stop_waiting(struct simhca_cq *cq)
{
	cq->waiting = 0;
	list_del(&cq->waiting_node);
}

static void cq_raise(struct simhca_cq *cq)
{
	uint32_t arm;

	cq_stop_waiting(cq);
	if (!cq_armed(cq, &arm))
		return;
	cq->arm = arm;
	event_raise(&cq->comp, &cq->eq->pending, SIMHCA_EVENT_COMP);
}

static void cq_wait(struct simhca_cq *cq)
{
	struct simhca_dev *dev = cq->dev;

	dev->moderated++;
	if (cq->waiting > 1)
		return;
	cq->deadline = dev->hca.fabric->now + cq->period_ns;
	list_add_tail(&cq->waiting_node, &dev->waiting_cqs);
	if (cq->deadline < dev->waiting_until)
		dev->waiting_until = cq->deadline;
}

void cq_written(struct simhca_cq *cq, bool solicited)
{
	uint32_t arm;

	/* Pairs with the barrier of who arms and polls once more. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!cq_armed(cq, &arm) || (arm & SIMHCA_CQ_ARM_SOLICITED && !solicited))
		return;
	cq->waiting++;
	if (cq->waiting >= cq->count || !cq->period_ns)
		cq_raise(cq);
	else
		cq_wait(cq);
}

void cq_poll_waiting(struct simhca_dev *dev, uint64_t now)
{
	struct list_head *pos, *tmp;

	if (now < dev->waiting_until)
		return;
	dev->waiting_until = ENGINE_NO_TIMER;
	list_for_each_safe(pos, tmp, &dev->waiting_cqs) {
		struct simhca_cq *cq = list_entry(pos, struct simhca_cq, waiting_node);

		if (cq->deadline <= now)
			cq_raise(cq);
		else if (cq->deadline < dev->waiting_until)
			dev->waiting_until = cq->deadline;
	}
}

uint16_t obj_modify_cq(struct simhca_dev *dev, const struct simhca_cmd_modify_cq *cmd)
{
	struct engine_cq *base = idtab_get(&dev->hca.cqs, le32toh(cmd->cqn));
	struct simhca_cq *cq;

	if (!base)
		return SIMHCA_CMD_ENOENT;
	cq = to_cq(base);
	cq->count = le16toh(cmd->count);
	cq->period_ns = le16toh(cmd->period) * 1000ull;
	/* They waited by other rules. */
	if (cq->waiting)
		cq_raise(cq);
	return SIMHCA_CMD_OK;
}

/* ---- creating and destroying ---- */

uint16_t obj_create_cq(struct simhca_dev *dev, const struct simhca_cmd_create_cq *cmd)
{
	uint32_t eqn = le32toh(cmd->eqn);
	struct simhca_cq *cq;
	int ret;

	if (eqn >= SIMHCA_MAX_EQS || !dev->eqs[eqn])
		return SIMHCA_CMD_ENOENT;
	if (le32toh(cmd->log_size) > SIMHCA_MAX_LOG_CQE || le32toh(cmd->flags) & ~CQ_FLAGS)
		return SIMHCA_CMD_EINVAL;
	cq = engine_alloc(&dev->hca, sizeof(*cq));
	if (!cq)
		return SIMHCA_CMD_ENOMEM;
	cq->dev = dev;
	cq->eq = dev->eqs[eqn];
	cq->slot = le32toh(cmd->slot);
	cq->log_size = le32toh(cmd->log_size);
	cq->flags = le32toh(cmd->flags);
	cq->base.hca = &dev->hca;
	cq->base.cqn = le32toh(cmd->cqn);
	list_init(&cq->waiting_node);
	event_init(&cq->comp, cq->base.cqn);
	event_init(&cq->async, cq->base.cqn);

	ret = ring_create(dev, &cq->ring, &cmd->ring, sizeof(struct simhca_cqe) << cq->log_size);
	if (ret)
		goto err_free;
	ret = doorbell_get(dev, le32toh(cmd->uar), SIMHCA_SLOT_CQ, cq->slot, NULL, &cq->uar);
	if (ret)
		goto err_ring;
	ret = engine_cq_create(&cq->base);
	if (ret)
		goto err_doorbell;
	cq->eq->refs++;
	return SIMHCA_CMD_OK;

err_doorbell:
	doorbell_put(dev, cq->uar, SIMHCA_SLOT_CQ, cq->slot);
err_ring:
	ring_destroy(dev, &cq->ring);
err_free:
	engine_free(&dev->hca, cq, sizeof(*cq));
	return obj_status(ret);
}

uint16_t obj_destroy_cq(struct simhca_dev *dev, uint32_t cqn)
{
	struct engine_cq *base = idtab_get(&dev->hca.cqs, cqn);
	struct simhca_cq *cq;
	int ret;

	if (!base)
		return SIMHCA_CMD_ENOENT;
	cq = to_cq(base);
	ret = engine_cq_destroy(base);
	if (ret)
		return obj_status(ret);
	cq_stop_waiting(cq);
	event_cancel(&cq->comp);
	event_cancel(&cq->async);
	cq->eq->refs--;
	doorbell_put(dev, cq->uar, SIMHCA_SLOT_CQ, cq->slot);
	ring_destroy(dev, &cq->ring);
	engine_free(&dev->hca, cq, sizeof(*cq));
	return SIMHCA_CMD_OK;
}

/* ---- resizing ---- */

/* Copies @num CQEs from number @ci on to the beginning of @ring. Returns 0 or -EFAULT. */
static int cq_move(struct simhca_cq *cq, struct simhca_ring *ring, uint32_t ci, uint32_t num)
{
	struct simhca_cqe cqe[CQ_MOVE_BATCH];
	uint32_t size = 1u << cq->log_size;
	uint32_t done, n, i;
	int ret = 0;

	for (done = 0; !ret && done < num; done += n) {
		uint32_t pos = (ci + done) & (size - 1);

		n = min_u32(min_u32(num - done, size - pos), CQ_MOVE_BATCH);
		dma_map_read_lock(cq->dev->hca.map);
		ret = ring_read(cq->dev, &cq->ring, (uint64_t)pos * sizeof(*cqe), cqe,
				n * sizeof(*cqe));
		for (i = 0; i < n; i++)
			cqe[i].phase = 1;
		if (!ret)
			ret = ring_write(cq->dev, ring, (uint64_t)done * sizeof(*cqe), cqe,
					 n * sizeof(*cqe));
		dma_map_read_unlock(cq->dev->hca.map);
	}
	if (ret)
		cq->dev->hca.stats.translate_faults++;
	return ret;
}

uint16_t obj_resize_cq(struct simhca_dev *dev, const struct simhca_cmd_resize_cq *cmd)
{
	struct engine_cq *base = idtab_get(&dev->hca.cqs, le32toh(cmd->cqn));
	uint32_t log_size = le32toh(cmd->log_size);
	struct simhca_ring ring = { 0 };
	struct simhca_cq *cq;
	uint32_t ci, num;
	int ret;

	if (!base)
		return SIMHCA_CMD_ENOENT;
	cq = to_cq(base);
	if (log_size > SIMHCA_MAX_LOG_CQE)
		return SIMHCA_CMD_EINVAL;
	ci = le32toh(__atomic_load_n(&cq_db(cq)->ci, __ATOMIC_ACQUIRE));
	num = cq->pi - ci;
	if (num > 1u << cq->log_size || num > 1u << log_size)
		return SIMHCA_CMD_EINVAL;
	ret = ring_create(dev, &ring, &cmd->ring, sizeof(struct simhca_cqe) << log_size);
	if (ret)
		return obj_status(ret);
	ret = cq_move(cq, &ring, ci, num);
	if (ret) {
		ring_destroy(dev, &ring);
		return obj_status(ret);
	}
	ring_destroy(dev, &cq->ring);
	cq->ring = ring;
	cq->log_size = log_size;
	cq->pi = num;
	__atomic_store_n(&cq_db(cq)->ci, 0, __ATOMIC_RELEASE);
	return SIMHCA_CMD_OK;
}
