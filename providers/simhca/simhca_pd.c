// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * simhca: protection domains, thread domains, and parent domains, which are both in one, with an
 * allocator for the rings of objects made in them.
 *
 * Whatever is said to be used by one thread has its locks all the same: other threads may poll its CQ.
 */
#include <errno.h>
#include <stdlib.h>

#include "simhca.h"
#include "simhca_abi.h"

struct ibv_pd *simhca_alloc_pd(struct ibv_context *ibvctx)
{
	struct simhca_alloc_pd_resp resp;
	struct ibv_alloc_pd cmd;
	struct simhca_pd *pd;
	int ret;

	pd = calloc(1, sizeof(*pd));
	if (!pd)
		return NULL;

	ret = ibv_cmd_alloc_pd(ibvctx, &pd->ibvpd, &cmd, sizeof(cmd),
			       &resp.ibv_resp, sizeof(resp));
	if (ret) {
		free(pd);
		errno = ret;
		return NULL;
	}

	return &pd->ibvpd;
}

/* One that somebody else has allocated, and who deallocates it. */
struct ibv_pd *simhca_import_pd(struct ibv_context *ibvctx, uint32_t handle)
{
	struct simhca_pd *pd;

	pd = calloc(1, sizeof(*pd));
	if (!pd)
		return NULL;

	pd->ibvpd.context = ibvctx;
	pd->ibvpd.handle = handle;
	return &pd->ibvpd;
}

void simhca_unimport_pd(struct ibv_pd *ibvpd)
{
	free(to_simhca_pd(ibvpd));
}

struct ibv_pd *simhca_alloc_parent_domain(
		struct ibv_context *ibvctx,
		struct ibv_parent_domain_init_attr *attr)
{
	struct simhca_parent_domain *domain;

	if (ibv_check_alloc_parent_domain(attr))
		return NULL;

	/* A parent domain is made of a protection domain, not of another one. */
	if (!check_comp_mask(attr->comp_mask,
			     IBV_PARENT_DOMAIN_INIT_ATTR_ALLOCATORS |
			     IBV_PARENT_DOMAIN_INIT_ATTR_PD_CONTEXT) ||
	    to_simhca_domain(attr->pd) ||
	    (attr->comp_mask & IBV_PARENT_DOMAIN_INIT_ATTR_ALLOCATORS &&
	     (!attr->alloc || !attr->free))) {
		errno = EINVAL;
		return NULL;
	}

	domain = calloc(1, sizeof(*domain));
	if (!domain)
		return NULL;

	ibv_initialize_parent_domain(&domain->pd.ibvpd, attr->pd);
	domain->pd.protection_domain = to_simhca_pd(attr->pd);
	atomic_fetch_add(&domain->pd.protection_domain->domains, 1);
	if (attr->td) {
		domain->td = to_simhca_td(attr->td);
		atomic_fetch_add(&domain->td->domains, 1);
	}
	if (attr->comp_mask & IBV_PARENT_DOMAIN_INIT_ATTR_ALLOCATORS) {
		domain->alloc = attr->alloc;
		domain->free = attr->free;
	}
	if (attr->comp_mask & IBV_PARENT_DOMAIN_INIT_ATTR_PD_CONTEXT)
		domain->pd_context = attr->pd_context;

	return &domain->pd.ibvpd;
}

int simhca_dealloc_pd(struct ibv_pd *ibvpd)
{
	struct simhca_parent_domain *domain = to_simhca_domain(ibvpd);
	struct simhca_pd *pd = to_simhca_pd(ibvpd);
	int ret;

	if (domain) {
		atomic_fetch_sub(&pd->protection_domain->domains, 1);
		if (domain->td)
			atomic_fetch_sub(&domain->td->domains, 1);
		free(domain);
		return 0;
	}

	if (atomic_load(&pd->domains))
		return EBUSY;

	ret = ibv_cmd_dealloc_pd(ibvpd);
	if (ret)
		return ret;

	free(pd);
	return 0;
}

struct ibv_td *simhca_alloc_td(struct ibv_context *ibvctx,
			       struct ibv_td_init_attr *attr)
{
	struct simhca_td *td;

	if (attr->comp_mask) {
		errno = EINVAL;
		return NULL;
	}

	td = calloc(1, sizeof(*td));
	if (!td)
		return NULL;

	td->ibvtd.context = ibvctx;
	return &td->ibvtd;
}

int simhca_dealloc_td(struct ibv_td *ibvtd)
{
	struct simhca_td *td = to_simhca_td(ibvtd);

	if (atomic_load(&td->domains))
		return EBUSY;

	free(td);
	return 0;
}
