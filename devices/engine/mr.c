// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* Memory regions and their keys. */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

bool mr_pdn_ok(uint32_t pdn)
{
	return pdn && pdn < ENGINE_MAX_PDS;
}

/* IBTA 10.6.3.1: what the peer may change, the owner may, too. */
bool mr_access_ok(uint32_t access)
{
	if (access & ~ENGINE_ACCESS_ALL)
		return false;
	return !(access & (ENGINE_ACCESS_REMOTE_WRITE | ENGINE_ACCESS_REMOTE_ATOMIC)) ||
	       access & ENGINE_ACCESS_LOCAL_WRITE;
}

static bool mr_trans_ok(uint64_t iova, const struct sgtab *sg)
{
	uint64_t last;

	return sg->length && !__builtin_add_overflow(iova, sg->length - 1, &last);
}

struct engine_key *key_find(struct engine_hca *hca, uint32_t key)
{
	struct engine_key *found = idtab_get(&hca->keys, key >> ENGINE_KEY_SHIFT);

	return found && found->key == key ? found : NULL;
}

/* The MR that owns its memory from its creation on. */
static struct engine_mr *mr_find(struct engine_hca *hca, uint32_t key)
{
	struct engine_key *found = key_find(hca, key);

	return found && found->type == ENGINE_KEY_MR ? key_mr(found) : NULL;
}

static void mr_set_trans(struct engine_hca *hca, struct engine_mr *mr, uint64_t iova,
			 const struct sgtab *sg, uint64_t mem)
{
	mr->base.iova = iova;
	mr->sg = *sg;
	mr->mem = mem;
	mr->base.state = ENGINE_KEY_VALID;
	mr->base.since = ++hca->mr_changes;
}

static void mr_clear_trans(struct engine_hca *hca, struct engine_mr *mr)
{
	sgtab_destroy(&mr->sg);
	engine_uncharge(hca, mr->mem);
	mr->mem = 0;
}

static int mr_new(struct engine_hca *hca, uint32_t key, uint32_t pdn, uint32_t access,
		  enum engine_key_type type, struct engine_mr **mrp)
{
	uint32_t index = key >> ENGINE_KEY_SHIFT;
	struct engine_mr *mr;
	int ret;

	if (!index || !mr_pdn_ok(pdn) || !mr_access_ok(access))
		return -EINVAL;

	mr = engine_alloc(hca, sizeof(*mr));
	if (!mr)
		return -ENOMEM;
	mr->base.key = key;
	mr->base.pdn = pdn;
	mr->base.access = access;
	mr->base.type = type;
	mr->base.state = ENGINE_KEY_FREE;
	list_init(&mr->windows);
	ret = idtab_insert(&hca->keys, index, &mr->base);
	if (ret) {
		engine_free(hca, mr, sizeof(*mr));
		return ret;
	}
	*mrp = mr;
	return 0;
}

static void mr_free(struct engine_hca *hca, struct engine_mr *mr)
{
	idtab_remove(&hca->keys, mr->base.key >> ENGINE_KEY_SHIFT);
	mr_clear_trans(hca, mr);
	engine_free(hca, mr, sizeof(*mr));
}

int engine_mr_create(struct engine_hca *hca, uint32_t key, uint32_t pdn, uint32_t access,
		     uint64_t iova, const struct sgtab *sg, uint64_t mem)
{
	struct engine_mr *mr;
	int ret;

	if (!mr_trans_ok(iova, sg))
		return -EINVAL;
	ret = mr_new(hca, key, pdn, access, ENGINE_KEY_MR, &mr);
	if (!ret)
		mr_set_trans(hca, mr, iova, sg, mem);
	return ret;
}

int engine_mr_create_fast(struct engine_hca *hca, uint32_t key, uint32_t pdn, uint32_t max_segs)
{
	uint64_t mem = sgtab_mem(max_segs);
	struct engine_mr *mr;
	int ret;

	if (!max_segs)
		return -EINVAL;
	ret = mr_new(hca, key, pdn, 0, ENGINE_KEY_FAST_MR, &mr);
	if (ret)
		return ret;
	ret = engine_charge(hca, mem);
	if (ret)
		goto err_free;
	mr->mem = mem;
	ret = sgtab_init(&mr->sg, max_segs);
	if (ret)
		goto err_free;
	return 0;

err_free:
	mr_free(hca, mr);
	return ret;
}

int engine_mr_rereg(struct engine_hca *hca, uint32_t key, uint32_t mask, uint32_t pdn,
		    uint32_t access, uint64_t iova, const struct sgtab *sg, uint64_t mem)
{
	struct engine_mr *mr = mr_find(hca, key);

	if (!mr)
		return -ENOENT;
	if (!mask || mask & ~ENGINE_REREG_ALL ||
	    (mask & ENGINE_REREG_TRANS && !mr_trans_ok(iova, sg)) ||
	    (mask & ENGINE_REREG_PD && !mr_pdn_ok(pdn)) ||
	    (mask & ENGINE_REREG_ACCESS && !mr_access_ok(access)))
		return -EINVAL;
	if (!list_empty(&mr->windows))
		return -EBUSY;

	if (mask & ENGINE_REREG_TRANS) {
		mr_clear_trans(hca, mr);
		mr_set_trans(hca, mr, iova, sg, mem);
	}
	if (mask & ENGINE_REREG_PD)
		mr->base.pdn = pdn;
	if (mask & ENGINE_REREG_ACCESS)
		mr->base.access = access;
	return 0;
}

/*
 * Nothing is being copied: that happens in this thread, too, and looks the key up each turn.
 * Windows stay bound, and are as dead.
 */
int engine_mr_fence(struct engine_hca *hca, uint32_t key)
{
	struct engine_mr *mr = mr_find(hca, key);

	if (!mr)
		return -ENOENT;
	mr_clear_trans(hca, mr);
	mr->base.state = ENGINE_KEY_FENCED;
	return 0;
}

int engine_mr_destroy(struct engine_hca *hca, uint32_t key)
{
	struct engine_key *found = idtab_get(&hca->keys, key >> ENGINE_KEY_SHIFT);
	struct engine_mr *mr;

	/* Work requests change the variant of an MR for fast registration, and may fail to. */
	if (!found || key_is_window(found) ||
	    (found->type == ENGINE_KEY_MR && found->key != key))
		return -ENOENT;
	mr = key_mr(found);
	if (!list_empty(&mr->windows))
		return -EBUSY;
	mr_free(hca, mr);
	return 0;
}

void engine_mr_destroy_all(struct engine_hca *hca)
{
	struct engine_key *key;
	uint32_t i;

	for (i = 0; (key = idtab_next(&hca->keys, &i)); i++)
		if (key_is_window(key))
			engine_mw_destroy(hca, key->key);
	for (i = 0; (key = idtab_next(&hca->keys, &i)); i++)
		mr_free(hca, key_mr(key));
}

static uint32_t key_check_state(const struct engine_key *key, uint64_t since)
{
	switch (key->state) {
	case ENGINE_KEY_VALID:
		return key->since > since ? ENGINE_VERR_TRANS : 0;
	case ENGINE_KEY_FREE:
		return ENGINE_VERR_FREE;
	case ENGINE_KEY_FENCED:
		break;
	}
	return ENGINE_VERR_FENCED;
}

/* A window is for the peer of its QP, and no better than the MR below it. */
static uint32_t mr_check_window(const struct xfer_side *side, const struct engine_mw *mw)
{
	if (!(side->access & (ENGINE_ACCESS_REMOTE | ENGINE_ACCESS_FLUSH_GLOBAL |
			      ENGINE_ACCESS_FLUSH_PERSISTENT)))
		return ENGINE_VERR_KEY_TYPE;
	if (mw->qp && mw->qp != side->qp)
		return ENGINE_VERR_MW_QP;
	return key_check_state(&mw->mr->base, side->since);
}

/* All but the range. */
static uint32_t mr_check_key(const struct xfer_side *side, const struct engine_key *key)
{
	uint32_t verr;

	if (!key)
		return ENGINE_VERR_KEY;
	if (key->pdn != side->pdn)
		return ENGINE_VERR_PD;
	verr = key_check_state(key, side->since);
	if (!verr && key_is_window(key))
		verr = mr_check_window(side, container_of(key, const struct engine_mw, base));
	if (verr)
		return verr;
	return side->access & ~key->access ? ENGINE_VERR_ACCESS : 0;
}

uint32_t mr_check_rights(const struct xfer_side *side, uint32_t key)
{
	return mr_check_key(side, key_find(side->hca, key));
}

uint32_t mr_check(const struct xfer_side *side, const struct engine_sge *sge,
		  struct engine_mr **mrp, uint64_t *offset)
{
	struct engine_key *key = key_find(side->hca, sge->key);
	uint64_t start = 0, length;
	struct engine_mr *mr;
	uint32_t verr;

	verr = mr_check_key(side, key);
	if (verr)
		return verr;
	if (key_is_window(key)) {
		mr = key_mw(key)->mr;
		start = key_mw(key)->offset;
		length = key_mw(key)->length;
	} else {
		mr = key_mr(key);
		length = mr->sg.length;
	}
	if (sge->addr < key->iova || sge->addr - key->iova > length ||
	    sge->length > length - (sge->addr - key->iova))
		return ENGINE_VERR_RANGE;
	*mrp = mr;
	*offset = start + (sge->addr - key->iova);
	return 0;
}
