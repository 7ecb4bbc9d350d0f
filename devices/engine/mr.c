// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* Memory regions and their keys. */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

int engine_mr_create(struct engine_hca *hca, uint32_t key, uint32_t pdn, uint32_t access,
		     uint64_t iova, const struct sgtab *sg, uint64_t mem)
{
	uint32_t index = key >> ENGINE_KEY_SHIFT;
	struct engine_mr *mr;
	uint64_t last;
	int ret;

	if (!index || !pdn || pdn >= ENGINE_MAX_PDS || (access & ~ENGINE_ACCESS_ALL) ||
	    !sg->length || __builtin_add_overflow(iova, sg->length - 1, &last))
		return -EINVAL;
	/* IBTA 10.6.3.1: what the peer may change, the owner may, too. */
	if ((access & (ENGINE_ACCESS_REMOTE_WRITE | ENGINE_ACCESS_REMOTE_ATOMIC)) &&
	    !(access & ENGINE_ACCESS_LOCAL_WRITE))
		return -EINVAL;

	mr = engine_alloc(hca, sizeof(*mr));
	if (!mr)
		return -ENOMEM;
	*mr = (struct engine_mr) {
		.key = key,
		.pdn = pdn,
		.access = access,
		.iova = iova,
		.mem = mem,
		.sg = *sg,
	};
	ret = idtab_insert(&hca->mrs, index, mr);
	if (ret)
		engine_free(hca, mr, sizeof(*mr));
	return ret;
}

static void mr_free(struct engine_hca *hca, struct engine_mr *mr)
{
	idtab_remove(&hca->mrs, mr->key >> ENGINE_KEY_SHIFT);
	sgtab_destroy(&mr->sg);
	engine_uncharge(hca, mr->mem);
	engine_free(hca, mr, sizeof(*mr));
}

int engine_mr_destroy(struct engine_hca *hca, uint32_t key)
{
	struct engine_mr *mr = idtab_get(&hca->mrs, key >> ENGINE_KEY_SHIFT);

	if (!mr || mr->key != key)
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
		  uint64_t addr, uint64_t length, struct engine_mr **mrp)
{
	struct engine_mr *mr = idtab_get(&hca->mrs, key >> ENGINE_KEY_SHIFT);

	if (!mr || mr->key != key)
		return ENGINE_VERR_KEY;
	if (mr->pdn != pdn)
		return ENGINE_VERR_PD;
	if (access & ~mr->access)
		return ENGINE_VERR_ACCESS;
	if (addr < mr->iova || addr - mr->iova > mr->sg.length ||
	    length > mr->sg.length - (addr - mr->iova))
		return ENGINE_VERR_RANGE;
	*mrp = mr;
	return 0;
}
