// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* Shared receive queues; their rings are the front end's. */
#include <errno.h>

#include "internal.h"

int engine_srq_create(struct engine_rq *rq)
{
	if (!rq->srqn || !rq->pdn || rq->pdn >= ENGINE_MAX_PDS)
		return -EINVAL;
	return idtab_insert(&rq->hca->srqs, rq->srqn, rq);
}

int engine_srq_destroy(struct engine_rq *rq)
{
	if (rq->refs)
		return -EBUSY;
	idtab_remove(&rq->hca->srqs, rq->srqn);
	return 0;
}

void srq_check_limit(struct engine_rq *rq, uint32_t left)
{
	if (left >= rq->limit)
		return;
	/* It tells once; software sets it again. */
	rq->limit = 0;
	rq->hca->stats.srq_limits++;
	rq->hca->ops->srq_event(rq, ENGINE_EVENT_SRQ_LIMIT);
}
