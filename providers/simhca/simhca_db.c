// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * simhca: pages of doorbells, shared by the CQs and QPs of a context.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "simhca_db.h"

/*
 * The mapping of the page with this key, made if it is new. A key found here still means the same
 * page: the kernel gives none out again while it is mapped. NULL and errno if there is no memory.
 */
struct simhca_uar_map *simhca_get_uar(struct simhca_context *ctx, uint64_t key)
{
	struct simhca_uar_map *map;
	void *page;

	pthread_mutex_lock(&ctx->uar_mutex);
	list_for_each(&ctx->uar_maps, map, entry) {
		if (map->key == key) {
			map->refs++;
			goto out;
		}
	}

	map = malloc(sizeof(*map));
	if (!map)
		goto out;

	page = mmap(NULL, SIMHCA_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		    ctx->ibvctx.context.cmd_fd, key);
	if (page == MAP_FAILED) {
		free(map);
		map = NULL;
		goto out;
	}

	map->key = key;
	map->refs = 1;
	map->uar = page;
	list_add(&ctx->uar_maps, &map->entry);

out:
	pthread_mutex_unlock(&ctx->uar_mutex);
	return map;
}

void simhca_put_uar(struct simhca_context *ctx, struct simhca_uar_map *map)
{
	pthread_mutex_lock(&ctx->uar_mutex);
	if (!--map->refs) {
		list_del(&map->entry);
		munmap(map->uar, SIMHCA_PAGE_SIZE);
		free(map);
	}
	pthread_mutex_unlock(&ctx->uar_mutex);
}
