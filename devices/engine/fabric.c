// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* The HCAs of a process, and which of their QPs has its turn when. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define FLUSHED_SCAN_MAX_NS	64000000ull
#define FLUSHED_SCAN_QPS	1024

/* ---- heap of timers ---- */

static void heap_set(struct fabric *fabric, uint32_t pos, struct engine_qp *qp)
{
	fabric->heap[pos] = qp;
	qp->heap_pos = pos;
}

static void heap_up(struct fabric *fabric, uint32_t pos, struct engine_qp *qp)
{
	while (pos) {
		uint32_t parent = (pos - 1) / 2;

		if (fabric->heap[parent]->timer <= qp->timer)
			break;
		heap_set(fabric, pos, fabric->heap[parent]);
		pos = parent;
	}
	heap_set(fabric, pos, qp);
}

static void heap_down(struct fabric *fabric, uint32_t pos, struct engine_qp *qp)
{
	for (;;) {
		uint32_t child = 2 * pos + 1;

		if (child >= fabric->heap_len)
			break;
		if (child + 1 < fabric->heap_len &&
		    fabric->heap[child + 1]->timer < fabric->heap[child]->timer)
			child++;
		if (fabric->heap[child]->timer >= qp->timer)
			break;
		heap_set(fabric, pos, fabric->heap[child]);
		pos = child;
	}
	heap_set(fabric, pos, qp);
}

static void heap_insert(struct fabric *fabric, struct engine_qp *qp)
{
	heap_up(fabric, fabric->heap_len++, qp);
}

static void heap_remove(struct fabric *fabric, struct engine_qp *qp)
{
	uint32_t pos = qp->heap_pos;
	struct engine_qp *last = fabric->heap[--fabric->heap_len];

	if (last == qp)
		return;
	if (pos && fabric->heap[(pos - 1) / 2]->timer > last->timer)
		heap_up(fabric, pos, last);
	else
		heap_down(fabric, pos, last);
}

/* ---- where a QP is ---- */

void qp_sched_idle(struct engine_qp *qp)
{
	switch (qp->sched) {
	case ENGINE_QP_ACTIVE:
	case ENGINE_QP_FLUSHED:
		list_del(&qp->node);
		break;
	case ENGINE_QP_TIMER:
		heap_remove(qp->hca->fabric, qp);
		break;
	case ENGINE_QP_IDLE:
	case ENGINE_QP_PARKED:
		break;
	}
	qp->sched = ENGINE_QP_IDLE;
}

void qp_sched_active(struct engine_qp *qp)
{
	if (qp->sched == ENGINE_QP_ACTIVE)
		return;
	qp_sched_idle(qp);
	list_add_tail(&qp->node, &qp->hca->fabric->active);
	qp->sched = ENGINE_QP_ACTIVE;
}

void qp_sched_flushed(struct engine_qp *qp)
{
	struct fabric *fabric = qp->hca->fabric;

	qp_sched_idle(qp);
	if (list_empty(&fabric->flushed))
		fabric->flushed_scan = fabric->now + fabric->flushed_interval;
	list_add_tail(&qp->node, &fabric->flushed);
	qp->sched = ENGINE_QP_FLUSHED;
}

void qp_sched_timer(struct engine_qp *qp, uint64_t delay_ns)
{
	qp_sched_idle(qp);
	qp->timer = qp->hca->fabric->now + delay_ns;
	heap_insert(qp->hca->fabric, qp);
	qp->sched = ENGINE_QP_TIMER;
}

void qp_sched_parked(struct engine_qp *qp)
{
	qp_sched_idle(qp);
	qp->sched = ENGINE_QP_PARKED;
}

void engine_qp_ring(struct engine_qp *qp)
{
	if (qp->sched != ENGINE_QP_IDLE && qp->sched != ENGINE_QP_FLUSHED)
		return;
	if (qp->attr.state == ENGINE_QPS_RTS || qp->attr.state == ENGINE_QPS_SQE ||
	    qp->attr.state == ENGINE_QPS_ERR)
		qp_sched_active(qp);
}

/* ---- fabric ---- */

void fabric_init(struct fabric *fabric)
{
	*fabric = (struct fabric) { .flushed_interval = FLUSHED_SCAN_MIN_NS };
	list_init(&fabric->hcas);
	list_init(&fabric->active);
	list_init(&fabric->flushed);
}

void fabric_destroy(struct fabric *fabric)
{
	free(fabric->heap);
	fabric->heap = NULL;
}

int fabric_add_qp(struct fabric *fabric)
{
	if (fabric->num_qps == fabric->heap_cap) {
		uint32_t cap = fabric->heap_cap ? 2 * fabric->heap_cap : 64;
		struct engine_qp **heap = realloc(fabric->heap, cap * sizeof(heap[0]));

		if (!heap)
			return -ENOMEM;
		fabric->heap = heap;
		fabric->heap_cap = cap;
	}
	fabric->num_qps++;
	return 0;
}

void fabric_remove_qp(struct fabric *fabric)
{
	fabric->num_qps--;
}

bool hca_has_gid(const struct engine_hca *hca, const uint8_t *gid)
{
	uint32_t i;

	for (i = 0; i < ENGINE_MAX_GIDS; i++)
		if (hca->gids[i].valid && !memcmp(hca->gids[i].gid, gid, sizeof(hca->gids[i].gid)))
			return true;
	return false;
}

struct engine_hca *fabric_find_gid(struct fabric *fabric, struct engine_hca *first,
				   const uint8_t *gid)
{
	struct list_head *pos;

	if (first->running && hca_has_gid(first, gid))
		return first;
	list_for_each(pos, &fabric->hcas) {
		struct engine_hca *hca = list_entry(pos, struct engine_hca, node);

		if (hca->running && hca_has_gid(hca, gid))
			return hca;
	}
	return NULL;
}

/* Receives posted to a QP in ERR must be flushed, but ring no doorbell. */
static void fabric_scan_flushed(struct fabric *fabric)
{
	struct list_head *pos, *tmp;
	unsigned int n = 0;

	list_for_each_safe(pos, tmp, &fabric->flushed) {
		if (n++ == FLUSHED_SCAN_QPS)
			break;
		qp_sched_active(list_entry(pos, struct engine_qp, node));
	}
	fabric->flushed_interval *= 2;
	if (fabric->flushed_interval > FLUSHED_SCAN_MAX_NS)
		fabric->flushed_interval = FLUSHED_SCAN_MAX_NS;
	fabric->flushed_scan = fabric->now + fabric->flushed_interval;
}

unsigned int fabric_poll(struct fabric *fabric, uint64_t now, unsigned int max_turns)
{
	unsigned int turns, useful = 0;
	uint32_t bytes = 0, done;

	fabric->now = now;
	while (fabric->heap_len && fabric->heap[0]->timer <= now)
		qp_sched_active(fabric->heap[0]);
	if (!list_empty(&fabric->flushed) && fabric->flushed_scan <= now)
		fabric_scan_flushed(fabric);

	for (turns = 0; turns < max_turns && bytes < ENGINE_TURN_BYTES &&
	     !list_empty(&fabric->active); turns++) {
		done = qp_turn(list_entry(fabric->active.next, struct engine_qp, node));
		bytes += done;
		useful += !!done;
	}
	return useful;
}

uint64_t fabric_next_timer(const struct fabric *fabric)
{
	uint64_t next = ENGINE_NO_TIMER;

	if (fabric_busy(fabric))
		return fabric->now;
	if (fabric->heap_len)
		next = fabric->heap[0]->timer;
	if (!list_empty(&fabric->flushed) && fabric->flushed_scan < next)
		next = fabric->flushed_scan;
	return next;
}

/* ---- HCA ---- */

int engine_hca_init(struct engine_hca *hca, struct fabric *fabric, const struct engine_ops *ops,
		    struct dma_map *map)
{
	*hca = (struct engine_hca) { .fabric = fabric, .ops = ops, .map = map };
	if (idtab_init(&hca->qps, ENGINE_MAX_QPS) || idtab_init(&hca->cqs, ENGINE_MAX_CQS) ||
	    idtab_init(&hca->srqs, ENGINE_MAX_SRQS) || idtab_init(&hca->keys, ENGINE_MAX_MRS)) {
		idtab_destroy(&hca->qps);
		idtab_destroy(&hca->cqs);
		idtab_destroy(&hca->srqs);
		idtab_destroy(&hca->keys);
		return -ENOMEM;
	}
	list_init(&hca->mcasts);
	list_add_tail(&hca->node, &fabric->hcas);
	return 0;
}

void engine_hca_destroy(struct engine_hca *hca)
{
	list_del(&hca->node);
	hca->fabric->gid_generation++;
	idtab_destroy(&hca->qps);
	idtab_destroy(&hca->cqs);
	idtab_destroy(&hca->srqs);
	idtab_destroy(&hca->keys);
}

void engine_hca_set_running(struct engine_hca *hca, bool running)
{
	struct engine_qp *qp;
	uint32_t i;

	if (hca->running == running)
		return;
	hca->running = running;
	hca->fabric->gid_generation++;
	if (!running)
		return;
	for (i = 0; (qp = idtab_next(&hca->qps, &i)); i++)
		engine_qp_ring(qp);
}

int engine_hca_set_gid(struct engine_hca *hca, uint32_t index, const uint8_t *gid)
{
	if (index >= ENGINE_MAX_GIDS)
		return -EINVAL;
	hca->gids[index].valid = gid;
	if (gid)
		memcpy(hca->gids[index].gid, gid, sizeof(hca->gids[index].gid));
	hca->fabric->gid_generation++;
	return 0;
}

int engine_charge(struct engine_hca *hca, uint64_t size)
{
	if (size > ENGINE_MEM_LIMIT - hca->mem)
		return -ENOMEM;
	hca->mem += size;
	return 0;
}

void engine_uncharge(struct engine_hca *hca, uint64_t size)
{
	hca->mem -= size;
}

void *engine_alloc(struct engine_hca *hca, uint64_t size)
{
	void *ptr;

	if (engine_charge(hca, size))
		return NULL;
	ptr = calloc(1, size);
	if (!ptr)
		engine_uncharge(hca, size);
	return ptr;
}

void engine_free(struct engine_hca *hca, void *ptr, uint64_t size)
{
	if (!ptr)
		return;
	free(ptr);
	engine_uncharge(hca, size);
}
