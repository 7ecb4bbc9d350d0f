// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * simhca: address handles.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "simhca.h"
#include "simhca_abi.h"

/* The kernel checks the path, and finds the next hop. */
struct ibv_ah *simhca_create_ah(struct ibv_pd *pd, struct ibv_ah_attr *attr)
{
	struct simhca_create_ah_resp resp = {};
	struct ibv_ah_attr real_attr = *attr;
	struct simhca_ah *ah;
	int ret;

	if (!attr->is_global) {
		ret = simhca_resolve_lid(pd->context, attr, &real_attr);
		if (ret) {
			errno = ret;
			return NULL;
		}
	}

	ah = calloc(1, sizeof(*ah));
	if (!ah)
		return NULL;

	ret = ibv_cmd_create_ah(pd, &ah->ibvah, &real_attr, &resp.ibv_resp,
				sizeof(resp));
	if (ret) {
		free(ah);
		errno = ret;
		return NULL;
	}

	memcpy(ah->dest.dgid, real_attr.grh.dgid.raw, sizeof(ah->dest.dgid));
	memcpy(ah->dest.dmac, resp.dmac, sizeof(ah->dest.dmac));
	ah->dest.hop_limit = real_attr.grh.hop_limit;
	ah->dest.tclass = real_attr.grh.traffic_class;
	ah->dest.sgid_index = htole32(real_attr.grh.sgid_index);
	ah->dest.flow_label = htole32(real_attr.grh.flow_label & 0xfffff);
	ah->dest.sl = real_attr.sl;

	return &ah->ibvah;
}

int simhca_destroy_ah(struct ibv_ah *ibvah)
{
	int ret;

	ret = ibv_cmd_destroy_ah(ibvah);
	if (ret)
		return ret;

	free(to_simhca_ah(ibvah));
	return 0;
}
