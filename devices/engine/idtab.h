/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Objects by number: a table of two levels. Look-up is two loads, whatever is in it.
 */
#ifndef ENGINE_IDTAB_H
#define ENGINE_IDTAB_H

#include <stddef.h>
#include <stdint.h>

#define IDTAB_LEAF_SHIFT	9
#define IDTAB_LEAF_SIZE		(1u << IDTAB_LEAF_SHIFT)

struct idtab_leaf {
	uint32_t used;
	void *slot[IDTAB_LEAF_SIZE];
};

struct idtab {
	struct idtab_leaf **leaves;
	uint32_t max;		/* numbers below it exist */
	uint32_t count;		/* objects in the table */
};

/* Returns 0 or -ENOMEM. @max is a multiple of IDTAB_LEAF_SIZE. */
int idtab_init(struct idtab *tab, uint32_t max);

/* The objects themselves are the caller's. */
void idtab_destroy(struct idtab *tab);

/* Returns 0, -EINVAL for a number out of range, -EEXIST, -ENOMEM. */
int idtab_insert(struct idtab *tab, uint32_t id, void *obj);

void idtab_remove(struct idtab *tab, uint32_t id);

/* Returns the object with the lowest number not below *@id and sets *@id to it, or NULL. */
void *idtab_next(const struct idtab *tab, uint32_t *id);

static inline void *idtab_get(const struct idtab *tab, uint32_t id)
{
	const struct idtab_leaf *leaf;

	if (id >= tab->max)
		return NULL;
	leaf = tab->leaves[id >> IDTAB_LEAF_SHIFT];
	return leaf ? leaf->slot[id & (IDTAB_LEAF_SIZE - 1)] : NULL;
}

#endif /* ENGINE_IDTAB_H */
