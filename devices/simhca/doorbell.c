// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* Doorbell pages. Only those with live objects are looked at. */
#include <endian.h>
#include <errno.h>

#include "simhca.h"

static void doorbell_uar_put(struct simhca_dev *dev, struct simhca_uar_use *use)
{
	if (--use->refs)
		return;
	list_del(&use->node);
	dev->uar_use[use->index] = NULL;
	engine_free(&dev->hca, use, sizeof(*use));
}

static struct simhca_uar_use *doorbell_uar_get(struct simhca_dev *dev, uint32_t index)
{
	struct simhca_uar_use *use = dev->uar_use[index];

	if (!use) {
		use = engine_alloc(&dev->hca, sizeof(*use));
		if (!use)
			return NULL;
		use->index = index;
		use->page = dev_uar(dev, index);
		list_add_tail(&use->node, &dev->uars);
		dev->uar_use[index] = use;
	}
	use->refs++;
	return use;
}

static uint32_t doorbell_slots(enum simhca_slot_type type)
{
	switch (type) {
	case SIMHCA_SLOT_QP:
		return SIMHCA_UAR_QP_SLOTS;
	case SIMHCA_SLOT_CQ:
		return SIMHCA_UAR_CQ_SLOTS;
	case SIMHCA_SLOT_SRQ:
		return SIMHCA_UAR_SRQ_SLOTS;
	}
	return 0;
}

static bool doorbell_taken(const struct simhca_uar_use *use, enum simhca_slot_type type,
			   uint32_t slot)
{
	switch (type) {
	case SIMHCA_SLOT_QP:
		return use->qp[slot];
	case SIMHCA_SLOT_CQ:
		return use->cq[slot];
	case SIMHCA_SLOT_SRQ:
		return use->srq[slot];
	}
	return true;
}

void doorbell_clear_qp(struct simhca_uar_use *use, uint32_t slot)
{
	__atomic_store_n(&use->page->qp[slot].sq_pi, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&use->page->qp[slot].rq_pi, 0, __ATOMIC_RELAXED);
}

int doorbell_get(struct simhca_dev *dev, uint32_t index, enum simhca_slot_type type, uint32_t slot,
		 struct simhca_qp *qp, struct simhca_uar_use **usep)
{
	struct simhca_uar_use *use;

	if (index == SIMHCA_STATUS_UAR || index >= SIMHCA_MAX_UARS || slot >= doorbell_slots(type))
		return -EINVAL;
	use = doorbell_uar_get(dev, index);
	if (!use)
		return -ENOMEM;
	if (doorbell_taken(use, type, slot)) {
		doorbell_uar_put(dev, use);
		return -EEXIST;
	}
	/* What an earlier object left there means nothing. */
	switch (type) {
	case SIMHCA_SLOT_QP:
		use->qp[slot] = qp;
		doorbell_clear_qp(use, slot);
		break;
	case SIMHCA_SLOT_CQ:
		use->cq[slot] = true;
		__atomic_store_n(&use->page->cq[slot].ci, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&use->page->cq[slot].arm, 0, __ATOMIC_RELAXED);
		break;
	case SIMHCA_SLOT_SRQ:
		use->srq[slot] = true;
		__atomic_store_n(&use->page->srq[slot].pi, 0, __ATOMIC_RELAXED);
		break;
	}
	*usep = use;
	return 0;
}

void doorbell_put(struct simhca_dev *dev, struct simhca_uar_use *use, enum simhca_slot_type type,
		  uint32_t slot)
{
	switch (type) {
	case SIMHCA_SLOT_QP:
		use->qp[slot] = NULL;
		break;
	case SIMHCA_SLOT_CQ:
		use->cq[slot] = false;
		break;
	case SIMHCA_SLOT_SRQ:
		use->srq[slot] = false;
		break;
	}
	doorbell_uar_put(dev, use);
}

static bool doorbell_poll_group(struct simhca_uar_use *use, unsigned int group)
{
	uint32_t slot = group * SIMHCA_QPS_PER_GROUP;
	bool found = false;
	unsigned int i;

	/* Pairs with the barrier of who posts: we see its index, or it sets the byte again. */
	__atomic_store_n(&use->page->sq_group[group], 0, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (i = 0; i < SIMHCA_QPS_PER_GROUP; i++, slot++) {
		struct simhca_qp *qp = use->qp[slot];

		if (!qp)
			continue;
		if (le32toh(__atomic_load_n(&use->page->qp[slot].sq_pi, __ATOMIC_ACQUIRE)) ==
		    qp->sq.ci)
			continue;
		engine_qp_ring(&qp->base);
		found = true;
	}
	return found;
}

static bool doorbell_poll_uar(struct simhca_uar_use *use)
{
	const uint64_t *groups = (const uint64_t *)use->page->sq_group;
	bool found = false;
	unsigned int i, j;

	for (i = 0; i < SIMHCA_UAR_QP_GROUPS / sizeof(*groups); i++) {
		if (!__atomic_load_n(&groups[i], __ATOMIC_ACQUIRE))
			continue;
		for (j = i * sizeof(*groups); j < (i + 1) * sizeof(*groups); j++)
			if (__atomic_load_n(&use->page->sq_group[j], __ATOMIC_ACQUIRE))
				found |= doorbell_poll_group(use, j);
	}
	return found;
}

bool doorbell_poll(struct simhca_dev *dev)
{
	struct list_head *pos;
	bool found = false;

	list_for_each(pos, &dev->uars)
		found |= doorbell_poll_uar(list_entry(pos, struct simhca_uar_use, node));
	return found;
}
