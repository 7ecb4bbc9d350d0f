// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Event queues.
 *
 * An event is a bit at its object until there is room in the EQ, so none is lost and none needs
 * memory. Writing them is put off to the end of a round of the poller.
 */
#include <endian.h>
#include <string.h>

#include "simhca.h"

void event_init(struct simhca_evsrc *src, uint32_t id)
{
	list_init(&src->node);
	src->id = id;
	src->pending = 0;
}

void event_raise(struct simhca_evsrc *src, struct list_head *pending, enum simhca_event event)
{
	if (!src->pending)
		list_add_tail(&src->node, pending);
	src->pending |= 1u << event;
}

void event_cancel(struct simhca_evsrc *src)
{
	list_del(&src->node);
	src->pending = 0;
}

static bool event_write(struct simhca_dev *dev, struct simhca_eq *eq, uint32_t event, uint32_t id)
{
	uint32_t mask = (1u << eq->log_size) - 1;
	struct simhca_eqe eqe = {
		.event = htole32(event),
		.id = htole32(id),
		.phase = !(eq->pi >> eq->log_size & 1),
	};

	if (ring_write_entry(dev, &eq->ring, (uint64_t)(eq->pi & mask) * sizeof(eqe), &eqe,
			     sizeof(eqe)))
		return false;
	eq->pi++;
	dev->events++;
	dev->irqs |= 1u << eq->vector;
	return true;
}

/* Returns false when the ring cannot be reached. */
static bool event_flush_list(struct simhca_dev *dev, uint32_t eqn, struct list_head *pending)
{
	struct simhca_eq *eq = dev->eqs[eqn];
	const struct simhca_uar *uar = dev_uar(dev, SIMHCA_KERNEL_UAR);

	while (!list_empty(pending)) {
		struct simhca_evsrc *src = list_entry(pending->next, struct simhca_evsrc, node);
		uint32_t ci = le32toh(__atomic_load_n(&uar->eq_ci[eqn], __ATOMIC_ACQUIRE));

		if (eq->pi - ci >= 1u << eq->log_size) {
			dev->events_blocked = true;
			return true;
		}
		if (!event_write(dev, eq, __builtin_ctz(src->pending), src->id)) {
			dev->hca.stats.translate_faults++;
			return false;
		}
		src->pending &= src->pending - 1;
		if (!src->pending)
			list_del(&src->node);
	}
	return true;
}

static bool event_any(struct simhca_dev *dev)
{
	uint32_t i;

	if (!list_empty(&dev->async) && dev->eqs[SIMHCA_ASYNC_EQN])
		return true;
	for (i = 0; i < SIMHCA_MAX_EQS; i++)
		if (dev->eqs[i] && !list_empty(&dev->eqs[i]->pending))
			return true;
	return false;
}

static void event_drop_list(struct list_head *pending)
{
	while (!list_empty(pending))
		event_cancel(list_entry(pending->next, struct simhca_evsrc, node));
}

/* The device has stopped and cannot even say so. */
static void event_drop_all(struct simhca_dev *dev)
{
	uint32_t i;

	event_drop_list(&dev->async);
	for (i = 0; i < SIMHCA_MAX_EQS; i++)
		if (dev->eqs[i])
			event_drop_list(&dev->eqs[i]->pending);
}

static void event_flush_all(struct simhca_dev *dev)
{
	bool ok = true;
	uint32_t i;

	dev->events_blocked = false;
	if (!event_any(dev))
		return;
	dma_map_read_lock(dev->hca.map);
	if (dev->eqs[SIMHCA_ASYNC_EQN])
		ok = event_flush_list(dev, SIMHCA_ASYNC_EQN, &dev->async);
	for (i = 0; ok && i < SIMHCA_MAX_EQS; i++)
		if (dev->eqs[i])
			ok = event_flush_list(dev, i, &dev->eqs[i]->pending);
	dma_map_read_unlock(dev->hca.map);
	if (!ok)
		dev_fatal(dev, "an event queue cannot be reached");
	if (!ok)
		event_drop_all(dev);
}

void event_flush(struct simhca_dev *dev)
{
	uint32_t irqs;

	/* A device that has stopped still says so. */
	if (!dev->bus_master || !(atomic_load(&dev->status) & SIMHCA_STATUS_ENABLED))
		return;
	event_flush_all(dev);
	for (irqs = dev->irqs; irqs; irqs &= irqs - 1)
		vfu_irq_trigger(dev->srv, __builtin_ctz(irqs));
	dev->irqs = 0;
}
