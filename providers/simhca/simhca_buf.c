// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * simhca: memory of rings, of the provider's own or from the allocator of a parent domain.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "simhca.h"

/* A child of fork() does not get it. */
static int simhca_map_buf(struct simhca_buf *buf)
{
	int ret;

	buf->addr = mmap(NULL, buf->size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buf->addr == MAP_FAILED)
		return errno;

	ret = ibv_dontfork_range(buf->addr, buf->size);
	if (ret)
		munmap(buf->addr, buf->size);

	return ret;
}

/*
 * Zeroed and page aligned. @pd is that of the object, or NULL. Rings are found by the device page by
 * page: a page must not hold anything else, so the size is rounded up.
 */
int simhca_alloc_buf(struct simhca_buf *buf, struct ibv_pd *pd, size_t size,
		     enum simhca_resource type)
{
	struct simhca_parent_domain *domain = pd ? to_simhca_domain(pd) : NULL;
	void *addr;

	buf->size = align(size, SIMHCA_PAGE_SIZE);
	buf->type = type;
	buf->domain = NULL;
	if (!domain || !domain->alloc)
		return simhca_map_buf(buf);

	addr = domain->alloc(&domain->pd.ibvpd, domain->pd_context, buf->size,
			     SIMHCA_PAGE_SIZE, type);
	if (addr == IBV_ALLOCATOR_USE_DEFAULT)
		return simhca_map_buf(buf);
	if (!addr)
		return ENOMEM;

	buf->addr = addr;
	buf->domain = domain;
	memset(addr, 0, buf->size);
	return 0;
}

void simhca_free_buf(struct simhca_buf *buf)
{
	struct simhca_parent_domain *domain = buf->domain;

	if (domain) {
		domain->free(&domain->pd.ibvpd, domain->pd_context, buf->addr,
			     buf->type);
		return;
	}
	ibv_dofork_range(buf->addr, buf->size);
	munmap(buf->addr, buf->size);
}
