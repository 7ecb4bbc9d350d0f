// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * simhca: address handles. The device does not know of them: each work request of a UD QP says
 * where it goes.
 */

#include <linux/etherdevice.h>
#include <rdma/simhca-abi.h>
#include <rdma/uverbs_ioctl.h>

#include "simhca.h"

/* Context: any; nothing here sleeps unless there is a process to be told. */
int simhca_create_ah(struct ib_ah *ibah, struct rdma_ah_init_attr *init_attr,
		     struct ib_udata *udata)
{
	const struct rdma_ah_attr *attr = init_attr->ah_attr;
	struct simhca_ud_dest *dest = &to_sah(ibah)->dest;
	struct simhca_ibv_create_ah_resp resp = {};
	const struct ib_global_route *grh;
	int err;

	err = ib_is_udata_in_empty(udata);
	if (err)
		return err;

	/* RoCE has no other addresses */
	if (!(rdma_ah_get_ah_flags(attr) & IB_AH_GRH))
		return -EINVAL;

	grh = rdma_ah_read_grh(attr);
	memcpy(dest->dgid, grh->dgid.raw, sizeof(dest->dgid));
	ether_addr_copy(dest->dmac, attr->roce.dmac);
	dest->hop_limit = grh->hop_limit;
	dest->tclass = grh->traffic_class;
	dest->sgid_index = cpu_to_le32(grh->sgid_index);
	dest->flow_label = cpu_to_le32(grh->flow_label & SIMHCA_FLOW_LABEL_MASK);
	dest->sl = rdma_ah_get_sl(attr);
	if (!udata)
		return 0;

	ether_addr_copy(resp.dmac, dest->dmac);
	return ib_respond_udata(udata, resp);
}

int simhca_query_ah(struct ib_ah *ibah, struct rdma_ah_attr *attr)
{
	const struct simhca_ud_dest *dest = &to_sah(ibah)->dest;
	union ib_gid dgid;

	memcpy(dgid.raw, dest->dgid, sizeof(dgid.raw));
	attr->type = ibah->type;
	rdma_ah_set_grh(attr, &dgid, le32_to_cpu(dest->flow_label), le32_to_cpu(dest->sgid_index),
			dest->hop_limit, dest->tclass);
	rdma_ah_set_sl(attr, dest->sl);
	rdma_ah_set_port_num(attr, SIMHCA_PORT);
	ether_addr_copy(attr->roce.dmac, dest->dmac);
	return 0;
}

int simhca_destroy_ah(struct ib_ah *ibah, u32 flags)
{
	return 0;
}
