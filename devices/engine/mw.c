// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* Memory windows, and the work requests that change what a key stands for (IBTA 10.6.7). */
#include <errno.h>

#include "internal.h"

/* ---- windows ---- */

int engine_mw_create(struct engine_hca *hca, uint32_t key, uint32_t pdn,
		     enum engine_key_type type)
{
	uint32_t index = key >> ENGINE_KEY_SHIFT;
	struct engine_mw *mw;
	int ret;

	if (!index || !mr_pdn_ok(pdn) || (type != ENGINE_KEY_MW_1 && type != ENGINE_KEY_MW_2))
		return -EINVAL;

	mw = engine_alloc(hca, sizeof(*mw));
	if (!mw)
		return -ENOMEM;
	mw->base.key = key;
	mw->base.pdn = pdn;
	mw->base.type = type;
	mw->base.state = ENGINE_KEY_FREE;
	list_init(&mw->mr_node);
	list_init(&mw->qp_node);
	ret = idtab_insert(&hca->keys, index, &mw->base);
	if (ret)
		engine_free(hca, mw, sizeof(*mw));
	return ret;
}

void mw_unbind(struct engine_mw *mw)
{
	list_del(&mw->mr_node);
	list_del(&mw->qp_node);
	mw->mr = NULL;
	mw->qp = NULL;
	mw->base.state = ENGINE_KEY_FREE;
}

void mw_unbind_all(struct engine_qp *qp)
{
	struct list_head *pos, *tmp;

	list_for_each_safe(pos, tmp, &qp->windows)
		mw_unbind(list_entry(pos, struct engine_mw, qp_node));
}

int engine_mw_destroy(struct engine_hca *hca, uint32_t key)
{
	struct engine_key *found = idtab_get(&hca->keys, key >> ENGINE_KEY_SHIFT);

	if (!found || !key_is_window(found))
		return -ENOENT;
	mw_unbind(key_mw(found));
	idtab_remove(&hca->keys, key >> ENGINE_KEY_SHIFT);
	engine_free(hca, key_mw(found), sizeof(struct engine_mw));
	return 0;
}

/* ---- bind ---- */

static uint32_t mw_check_access(uint32_t access, const struct engine_mr *mr)
{
	if (access & ~(ENGINE_ACCESS_REMOTE | ENGINE_ACCESS_ZERO_BASED) ||
	    !(mr->base.access & ENGINE_ACCESS_MW_BIND))
		return ENGINE_VERR_ACCESS;
	if (access & (ENGINE_ACCESS_REMOTE_WRITE | ENGINE_ACCESS_REMOTE_ATOMIC) &&
	    !(mr->base.access & ENGINE_ACCESS_LOCAL_WRITE))
		return ENGINE_VERR_ACCESS;
	return 0;
}

/* May @qp bind a window to this part of the MR? 0 and *@mrp if so. */
static uint32_t mw_check_mr(const struct engine_qp *qp, const struct engine_key_mem *mem,
			    struct engine_mr **mrp)
{
	struct engine_key *key = key_find(qp->hca, mem->lkey);
	struct engine_mr *mr;
	uint64_t off;

	if (!key)
		return ENGINE_VERR_KEY;
	if (key_is_window(key))
		return ENGINE_VERR_KEY_TYPE;
	if (key->pdn != qp->pdn)
		return ENGINE_VERR_PD;
	if (key->state == ENGINE_KEY_FENCED)
		return ENGINE_VERR_FENCED;
	if (key->state != ENGINE_KEY_VALID)
		return ENGINE_VERR_FREE;
	mr = key_mr(key);
	off = mem->addr - key->iova;
	if (mem->addr < key->iova || off > mr->sg.length || mem->length > mr->sg.length - off)
		return ENGINE_VERR_RANGE;
	*mrp = mr;
	return mw_check_access(mem->access, mr);
}

uint32_t key_bind(struct engine_qp *qp, const struct engine_send_wr *wr)
{
	struct engine_key *key = idtab_get(&qp->hca->keys, wr->rkey >> ENGINE_KEY_SHIFT);
	const struct engine_key_mem *mem = &wr->mem;
	struct engine_mr *mr = NULL;
	struct engine_mw *mw;
	uint32_t verr = 0;

	if (!key)
		return ENGINE_VERR_KEY;
	if (!key_is_window(key))
		return ENGINE_VERR_KEY_TYPE;
	if (key->pdn != qp->pdn)
		return ENGINE_VERR_PD;
	/* Type 1 may be bound anew, and no bytes unbind it. */
	if (key->type == ENGINE_KEY_MW_2 && key->state != ENGINE_KEY_FREE)
		return ENGINE_VERR_IN_USE;
	if (key->type == ENGINE_KEY_MW_2 && !mem->length)
		return ENGINE_VERR_LENGTH;
	if (mem->length)
		verr = mw_check_mr(qp, mem, &mr);
	if (verr)
		return verr;

	mw = key_mw(key);
	mw_unbind(mw);
	key->key = wr->rkey;
	if (!mr)
		return 0;
	mw->mr = mr;
	mw->offset = mem->addr - mr->base.iova;
	mw->length = mem->length;
	list_add_tail(&mw->mr_node, &mr->windows);
	if (key->type == ENGINE_KEY_MW_2) {
		mw->qp = qp;
		list_add_tail(&mw->qp_node, &qp->windows);
	}
	key->access = mem->access & ENGINE_ACCESS_REMOTE;
	key->iova = mem->access & ENGINE_ACCESS_ZERO_BASED ? 0 : mem->addr;
	key->since = ++qp->hca->mr_changes;
	key->state = ENGINE_KEY_VALID;
	return 0;
}

/* ---- fast registration ---- */

uint32_t key_register(struct engine_qp *qp, const struct engine_send_wr *wr)
{
	struct engine_key *key = idtab_get(&qp->hca->keys, wr->rkey >> ENGINE_KEY_SHIFT);
	const struct engine_key_mem *mem = &wr->mem;
	struct engine_mr *mr;
	uint64_t last;
	int ret;

	if (!key)
		return ENGINE_VERR_KEY;
	if (key->type != ENGINE_KEY_FAST_MR)
		return ENGINE_VERR_KEY_TYPE;
	if (key->pdn != qp->pdn)
		return ENGINE_VERR_PD;
	if (key->state != ENGINE_KEY_FREE)
		return ENGINE_VERR_IN_USE;
	mr = key_mr(key);
	if (!mr_access_ok(mem->access))
		return ENGINE_VERR_ACCESS;
	if (!mem->length || mem->num_segs > mr->sg.cap ||
	    __builtin_add_overflow(mem->addr, mem->length - 1, &last))
		return ENGINE_VERR_LENGTH;

	sgtab_reset(&mr->sg);
	ret = qp->hca->ops->read_segs(qp->hca, mem, &mr->sg);
	if (ret == -EFAULT) {
		qp->hca->stats.translate_faults++;
		return ENGINE_VERR_DMA;
	}
	if (ret || mr->sg.length != mem->length)
		return ENGINE_VERR_LENGTH;

	key->key = wr->rkey;
	key->access = mem->access;
	key->iova = mem->addr;
	key->since = ++qp->hca->mr_changes;
	key->state = ENGINE_KEY_VALID;
	return 0;
}

/* ---- invalidation ---- */

/* The peer may end only what it could use. */
static uint32_t key_check_peer(const struct engine_qp *qp, struct engine_key *key)
{
	if (key->state != ENGINE_KEY_VALID)
		return ENGINE_VERR_FREE;
	if (key->type == ENGINE_KEY_MW_2)
		return key_mw(key)->qp == qp ? 0 : ENGINE_VERR_MW_QP;
	return key->access & ENGINE_ACCESS_REMOTE ? 0 : ENGINE_VERR_ACCESS;
}

uint32_t key_invalidate(struct engine_qp *qp, uint32_t num, bool by_peer)
{
	struct engine_key *key = key_find(qp->hca, num);
	uint32_t verr = 0;

	if (!key)
		return ENGINE_VERR_KEY;
	if (key->type != ENGINE_KEY_FAST_MR && key->type != ENGINE_KEY_MW_2)
		return ENGINE_VERR_KEY_TYPE;
	if (key->pdn != qp->pdn)
		return ENGINE_VERR_PD;
	if (by_peer)
		verr = key_check_peer(qp, key);
	if (verr)
		return verr;
	if (key->type == ENGINE_KEY_MW_2) {
		mw_unbind(key_mw(key));
		return 0;
	}
	if (!list_empty(&key_mr(key)->windows))
		return ENGINE_VERR_IN_USE;
	key->state = ENGINE_KEY_FREE;
	return 0;
}
