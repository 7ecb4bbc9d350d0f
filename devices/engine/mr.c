// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* Memory regions and their keys. */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

static bool mr_pdn_ok(uint32_t pdn)
{
	return pdn && pdn < ENGINE_MAX_PDS;
}

/* IBTA 10.6.3.1: what the peer may change, the owner may, too. */
static bool mr_access_ok(uint32_t access)
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

static struct engine_mr *mr_find(struct engine_hca *hca, uint32_t key)
{
	struct engine_mr *mr = idtab_get(&hca->mrs, key >> ENGINE_KEY_SHIFT);

	return mr && mr->key == key ? mr : NULL;
}

static void mr_set_trans(struct engine_hca *hca, struct engine_mr *mr, uint64_t iova,
			 const struct sgtab *sg, uint64_t mem)
{
	mr->iova = iova;
	mr->sg = *sg;
	mr->mem = mem;
	mr->fenced = false;
	mr->since = ++hca->mr_changes;
}

static void mr_clear_trans(struct engine_hca *hca, struct engine_mr *mr)
{
	sgtab_destroy(&mr->sg);
	engine_uncharge(hca, mr->mem);
	mr->mem = 0;
}

int engine_mr_create(struct engine_hca *hca, uint32_t key, uint32_t pdn, uint32_t access,
		     uint64_t iova, const struct sgtab *sg, uint64_t mem)
{
	uint32_t index = key >> ENGINE_KEY_SHIFT;
	struct engine_mr *mr;
	int ret;

	if (!index || !mr_pdn_ok(pdn) || !mr_access_ok(access) || !mr_trans_ok(iova, sg))
		return -EINVAL;

	mr = engine_alloc(hca, sizeof(*mr));
	if (!mr)
		return -ENOMEM;
	mr->key = key;
	mr->pdn = pdn;
	mr->access = access;
	ret = idtab_insert(&hca->mrs, index, mr);
	if (ret) {
		engine_free(hca, mr, sizeof(*mr));
		return ret;
	}
	mr_set_trans(hca, mr, iova, sg, mem);
	return 0;
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

	if (mask & ENGINE_REREG_TRANS) {
		mr_clear_trans(hca, mr);
		mr_set_trans(hca, mr, iova, sg, mem);
	}
	if (mask & ENGINE_REREG_PD)
		mr->pdn = pdn;
	if (mask & ENGINE_REREG_ACCESS)
		mr->access = access;
	return 0;
}

/* Nothing is being copied: that happens in this thread, too, and looks the key up each turn. */
int engine_mr_fence(struct engine_hca *hca, uint32_t key)
{
	struct engine_mr *mr = mr_find(hca, key);

	if (!mr)
		return -ENOENT;
	mr_clear_trans(hca, mr);
	mr->fenced = true;
	return 0;
}

static void mr_free(struct engine_hca *hca, struct engine_mr *mr)
{
	idtab_remove(&hca->mrs, mr->key >> ENGINE_KEY_SHIFT);
	mr_clear_trans(hca, mr);
	engine_free(hca, mr, sizeof(*mr));
}

int engine_mr_destroy(struct engine_hca *hca, uint32_t key)
{
	struct engine_mr *mr = mr_find(hca, key);

	if (!mr)
		return -ENOENT;
	mr_free(hca, mr);
	return 0;
}

void engine_mr_destroy_all(struct engine_hca *hca)
{
	struct engine_mr *mr;
	uint32_t i = 0;

	while ((mr = idtab_next(&hca->mrs, &i)))
		mr_free(hca, mr);
}

uint32_t mr_check(struct engine_hca *hca, uint32_t key, uint32_t pdn, uint32_t access,
		  uint64_t addr, uint64_t length, uint64_t since, struct engine_mr **mrp)
{
	struct engine_mr *mr = mr_find(hca, key);

	if (!mr)
		return ENGINE_VERR_KEY;
	if (mr->pdn != pdn)
		return ENGINE_VERR_PD;
	if (mr->fenced)
		return ENGINE_VERR_FENCED;
	if (mr->since > since)
		return ENGINE_VERR_TRANS;
	if (access & ~mr->access)
		return ENGINE_VERR_ACCESS;
	if (addr < mr->iova || addr - mr->iova > mr->sg.length ||
	    length > mr->sg.length - (addr - mr->iova))
		return ENGINE_VERR_RANGE;
	*mrp = mr;
	return 0;
}
