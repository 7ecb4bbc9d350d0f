// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* Objects by number. */
#include <errno.h>
#include <stdlib.h>

#include "idtab.h"

int idtab_init(struct idtab *tab, uint32_t max)
{
	tab->leaves = calloc(max >> IDTAB_LEAF_SHIFT, sizeof(tab->leaves[0]));
	if (!tab->leaves)
		return -ENOMEM;
	tab->max = max;
	tab->count = 0;
	return 0;
}

void idtab_destroy(struct idtab *tab)
{
	uint32_t i;

	if (!tab->leaves)
		return;
	for (i = 0; i < tab->max >> IDTAB_LEAF_SHIFT; i++)
		free(tab->leaves[i]);
	free(tab->leaves);
	tab->leaves = NULL;
	tab->max = 0;
	tab->count = 0;
}

int idtab_insert(struct idtab *tab, uint32_t id, void *obj)
{
	struct idtab_leaf **leaf;
	void **slot;

	if (id >= tab->max)
		return -EINVAL;
	leaf = &tab->leaves[id >> IDTAB_LEAF_SHIFT];
	if (!*leaf) {
		*leaf = calloc(1, sizeof(**leaf));
		if (!*leaf)
			return -ENOMEM;
	}
	slot = &(*leaf)->slot[id & (IDTAB_LEAF_SIZE - 1)];
	if (*slot)
		return -EEXIST;
	*slot = obj;
	(*leaf)->used++;
	tab->count++;
	return 0;
}

void idtab_remove(struct idtab *tab, uint32_t id)
{
	struct idtab_leaf **leaf;
	void **slot;

	if (!idtab_get(tab, id))
		return;
	leaf = &tab->leaves[id >> IDTAB_LEAF_SHIFT];
	slot = &(*leaf)->slot[id & (IDTAB_LEAF_SIZE - 1)];
	*slot = NULL;
	tab->count--;
	if (!--(*leaf)->used) {
		free(*leaf);
		*leaf = NULL;
	}
}

void *idtab_next(const struct idtab *tab, uint32_t *id)
{
	uint32_t i = *id;

	while (i < tab->max) {
		const struct idtab_leaf *leaf = tab->leaves[i >> IDTAB_LEAF_SHIFT];

		if (!leaf) {
			i = (i | (IDTAB_LEAF_SIZE - 1)) + 1;
			continue;
		}
		if (leaf->slot[i & (IDTAB_LEAF_SIZE - 1)]) {
			*id = i;
			return leaf->slot[i & (IDTAB_LEAF_SIZE - 1)];
		}
		i++;
	}
	return NULL;
}
