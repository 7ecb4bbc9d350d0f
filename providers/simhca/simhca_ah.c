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
	struct simhca_ah *ah;
	int ret;

	/* Connections may be made by LID (simhca_resolve_lid()), but a datagram has a GRH on RoCE. */
	if (!attr->is_global) {
		errno = EINVAL;
		return NULL;
	}

	ah = calloc(1, sizeof(*ah));
	if (!ah)
		return NULL;

	ret = ibv_cmd_create_ah(pd, &ah->ibvah, attr, &resp.ibv_resp,
				sizeof(resp));
	if (ret) {
		free(ah);
		errno = ret;
		return NULL;
	}

	memcpy(ah->dest.dgid, attr->grh.dgid.raw, sizeof(ah->dest.dgid));
	memcpy(ah->dest.dmac, resp.dmac, sizeof(ah->dest.dmac));
	ah->dest.hop_limit = attr->grh.hop_limit;
	ah->dest.tclass = attr->grh.traffic_class;
	ah->dest.sgid_index = htole32(attr->grh.sgid_index);
	ah->dest.flow_label = htole32(attr->grh.flow_label &
				      SIMHCA_FLOW_LABEL_MASK);
	ah->dest.sl = attr->sl;

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
