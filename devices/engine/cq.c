// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* Completion queues; their rings are the front end's. */
#include <errno.h>

#include "internal.h"

int engine_cq_create(struct engine_cq *cq)
{
	if (!cq->cqn)
		return -EINVAL;
	return idtab_insert(&cq->hca->cqs, cq->cqn, cq);
}

int engine_cq_destroy(struct engine_cq *cq)
{
	if (cq->refs)
		return -EBUSY;
	idtab_remove(&cq->hca->cqs, cq->cqn);
	return 0;
}

bool cq_complete(struct engine_cq *cq, const struct engine_wc *wc)
{
	struct engine_hca *hca = cq->hca;
	int ret;

	if (cq->error)
		return false;
	ret = hca->ops->complete(cq, wc);
	if (ret) {
		if (ret == -EFAULT)
			hca->stats.translate_faults++;
		else
			hca->stats.cq_overruns++;
		cq->error = true;
		hca->ops->cq_event(cq, ENGINE_EVENT_CQ_ERR);
		return false;
	}
	hca->stats.cqes++;
	if (wc->status != ENGINE_WC_SUCCESS)
		hca->stats.cqe_errors++;
	return true;
}
