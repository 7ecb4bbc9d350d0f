/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * simhca: entries of work queues.
 */
#ifndef SIMHCA_WQE_H
#define SIMHCA_WQE_H

#include <endian.h>

#include "simhca.h"

static inline void *simhca_get_wqe(const struct simhca_wq *wq, uint32_t index)
{
	return wq->buf.addr + ((size_t)(index & (wq->size - 1)) << wq->log_stride);
}

/* Caller holds the lock of the queue. */
static inline bool simhca_wq_is_full(struct simhca_wq *wq)
{
	return wq->head - atomic_load_explicit(&wq->tail,
					       memory_order_acquire) >=
	       wq->size;
}

static inline void simhca_set_sges(struct simhca_sge *sge,
				   const struct ibv_sge *sg_list, int num_sge)
{
	int i;

	for (i = 0; i < num_sge; i++) {
		sge[i].addr = htole64(sg_list[i].addr);
		sge[i].length = htole32(sg_list[i].length);
		sge[i].lkey = htole32(sg_list[i].lkey);
	}
}

static inline void simhca_set_ud_dest(struct simhca_sq_wqe *wqe,
				      struct ibv_ah *ah, uint32_t qpn,
				      uint32_t qkey)
{
	wqe->ud = to_simhca_ah(ah)->dest;
	wqe->ud.qpn = htole32(qpn);
	wqe->ud.qkey = htole32(qkey);
}

#endif /* SIMHCA_WQE_H */
