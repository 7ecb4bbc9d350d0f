/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * simhca: doorbells. The protocol is described at struct simhca_uar in simhca_hw.h.
 */
#ifndef SIMHCA_DB_H
#define SIMHCA_DB_H

#include <endian.h>
#include <stdatomic.h>

#include <util/mmio.h>
#include <util/udma_barrier.h>

#include "simhca.h"

/**
 * struct simhca_uar_map - a mapped page of doorbells
 * @entry: in &simhca_context.uar_maps
 * @key: its mmap offset
 * @refs: objects with a doorbell in it, under &simhca_context.uar_mutex
 * @uar: the page
 */
struct simhca_uar_map {
	struct list_node entry;
	uint64_t key;
	unsigned int refs;
	struct simhca_uar *uar;
};

struct simhca_uar_map *simhca_get_uar(struct simhca_context *ctx, uint64_t key);
void simhca_put_uar(struct simhca_context *ctx, struct simhca_uar_map *map);

static inline uint32_t simhca_read_epoch(const struct simhca_context *ctx)
{
	return le32toh(mmio_read32_le(&ctx->status->epoch));
}

/*
 * Has the device been reset or removed since the context was opened, or has it stopped? Then nothing
 * completes any more. The page of a device that was removed is replaced by zeros.
 */
static inline bool simhca_is_gone(const struct simhca_context *ctx)
{
	return simhca_read_epoch(ctx) != ctx->epoch;
}

/* Caller holds the lock of the SQ. */
static inline void simhca_ring_sq(struct simhca_context *ctx,
				  struct simhca_qp *qp)
{
	udma_to_device_barrier();
	mmio_write32_le(&qp->db->sq_pi, htole32(qp->sq.head));
	udma_ordering_write_barrier();
	mmio_write8(qp->sq_group, 1);

	/* Either the device sees the doorbell before it sleeps, or we see it asleep. */
	atomic_thread_fence(memory_order_seq_cst);
	if (mmio_read32_le(&ctx->status->asleep))
		mmio_write32_le(ctx->kick + SIMHCA_KICK_REG, 0);
}

/* Caller holds the lock of the RQ. */
static inline void simhca_ring_rq(struct simhca_qp *qp)
{
	udma_to_device_barrier();
	mmio_write32_le(&qp->db->rq_pi, htole32(qp->rq.head));
}

/* Caller holds the lock of the SRQ. */
static inline void simhca_ring_srq(struct simhca_srq *srq)
{
	udma_to_device_barrier();
	mmio_write32_le(&srq->db->pi, htole32(srq->head));
}

/* Caller holds the lock of the CQ. */
static inline void simhca_store_cq_ci(struct simhca_cq *cq)
{
	/* The device may overwrite the CQEs as soon as it sees the index: finish reading them. */
	atomic_thread_fence(memory_order_release);
	mmio_write32_le(&cq->db->ci, htole32(cq->ci));
}

/* Caller holds the lock of the CQ. */
static inline void simhca_arm_cq(struct simhca_cq *cq, bool solicited_only)
{
	uint32_t arm = ++cq->arm_seq << SIMHCA_CQ_ARM_SEQ_SHIFT;

	if (solicited_only)
		arm |= SIMHCA_CQ_ARM_SOLICITED;
	mmio_write32_le(&cq->db->arm, htole32(arm));

	/* The caller polls once more: either it finds the CQE or the device finds the CQ armed. */
	atomic_thread_fence(memory_order_seq_cst);
}

#endif /* SIMHCA_DB_H */
