// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * simhca: device, port, GIDs, protection domains, counters, and the table of all operations.
 */

#include <rdma/ib_addr.h>
#include <rdma/ib_cache.h>
#include <rdma/ib_mad.h>
#include <rdma/simhca-abi.h>

#define UVERBS_MODULE_NAME simhca
#include <rdma/uverbs_named_ioctl.h>

#include "simhca.h"

static int simhca_query_device(struct ib_device *ibdev, struct ib_device_attr *attr,
			       struct ib_udata *udata)
{
	struct simhca_dev *dev = to_sdev(ibdev);
	const struct simhca_caps *caps = &dev->caps;
	int err;

	err = ib_no_udata_io(udata);
	if (err)
		return err;

	memset(attr, 0, sizeof(*attr));
	attr->device_cap_flags = IB_DEVICE_CURR_QP_STATE_MOD | IB_DEVICE_PORT_ACTIVE_EVENT |
				 IB_DEVICE_SYS_IMAGE_GUID | IB_DEVICE_RC_RNR_NAK_GEN |
				 IB_DEVICE_SRQ_RESIZE | IB_DEVICE_MEM_WINDOW |
				 IB_DEVICE_MEM_WINDOW_TYPE_2B |
				 IB_DEVICE_MEM_MGT_EXTENSIONS | IB_DEVICE_FLUSH_GLOBAL |
				 IB_DEVICE_ATOMIC_WRITE;
	attr->kernel_cap_flags = IBK_SG_GAPS_REG;
	attr->fw_ver = caps->fw_ver;
	attr->sys_image_guid = ibdev->node_guid;
	attr->max_mr_size = caps->max_mr_size;
	attr->page_size_cap = PAGE_MASK;
	attr->vendor_id = dev->pdev->vendor;
	attr->vendor_part_id = dev->pdev->device;
	attr->hw_ver = dev->pdev->revision;
	attr->max_qp = caps->max_qp;
	attr->max_qp_wr = BIT(caps->max_log_wr);
	attr->max_send_sge = caps->max_sge;
	attr->max_recv_sge = caps->max_sge;
	attr->max_sge_rd = caps->max_sge;
	attr->max_cq = caps->max_cq;
	attr->max_cqe = BIT(caps->max_log_cqe);
	attr->max_mr = caps->max_mr;
	attr->max_mw = caps->max_mr;
	attr->max_fast_reg_page_list_len = caps->max_fast_segs;
	attr->max_pd = caps->max_pd;
	attr->max_ah = SIMHCA_MAX_AH;
	attr->max_mcast_grp = SIMHCA_MAX_MCAST;
	attr->max_mcast_qp_attach = SIMHCA_MAX_MCAST;
	attr->max_total_mcast_qp_attach = SIMHCA_MAX_MCAST;
	attr->max_srq = caps->max_srq;
	attr->max_srq_wr = BIT(caps->max_log_wr);
	attr->max_srq_sge = caps->max_sge;
	attr->max_qp_rd_atom = caps->max_rd_atomic;
	attr->max_qp_init_rd_atom = caps->max_rd_atomic;
	attr->max_res_rd_atom = caps->max_rd_atomic * attr->max_qp;
	attr->atomic_cap = IB_ATOMIC_HCA;
	attr->max_pkeys = SIMHCA_PKEY_TABLE_LEN;
	attr->timestamp_mask = U64_MAX;
	attr->hca_core_clock = SIMHCA_CLOCK_KHZ;
	attr->cq_caps.max_cq_moderation_count = U16_MAX;
	attr->cq_caps.max_cq_moderation_period = U16_MAX;
	return 0;
}

static void simhca_get_dev_fw_str(struct ib_device *ibdev, char *str)
{
	u64 ver = to_sdev(ibdev)->caps.fw_ver;

	snprintf(str, IB_FW_VERSION_NAME_MAX, "%u.%u.%u", (u32)(ver >> 32),
		 (u32)(ver >> 16) & 0xffff, (u32)ver & 0xffff);
}

/**
 * simhca_active_mtu - what a packet can carry
 * @dev: the device
 *
 * Return: what the net device allows, the least there is without one.
 */
enum ib_mtu simhca_active_mtu(struct simhca_dev *dev)
{
	enum ib_mtu mtu = IB_MTU_256;
	struct net_device *ndev;

	ndev = ib_device_get_netdev(&dev->ibdev, SIMHCA_PORT);
	if (ndev) {
		mtu = iboe_get_mtu(ndev->mtu) ?: IB_MTU_256;
		dev_put(ndev);
	}
	return mtu;
}

static int simhca_query_port(struct ib_device *ibdev, u32 port, struct ib_port_attr *attr)
{
	struct simhca_dev *dev = to_sdev(ibdev);
	struct net_device *ndev;

	/* ib_core has cleared *attr */
	attr->state = IB_PORT_DOWN;
	attr->max_mtu = IB_MTU_4096;
	attr->active_mtu = simhca_active_mtu(dev);
	attr->active_speed = IB_SPEED_SDR;
	attr->active_width = IB_WIDTH_1X;
	attr->gid_tbl_len = dev->caps.gid_table_len;
	attr->ip_gids = true;
	attr->max_msg_sz = dev->caps.max_msg;
	attr->pkey_tbl_len = SIMHCA_PKEY_TABLE_LEN;
	attr->max_vl_num = 1;

	ndev = ib_device_get_netdev(ibdev, port);
	if (ndev) {
		attr->state = ib_get_curr_port_state(ndev);
		ib_get_eth_speed(ibdev, port, &attr->active_speed, &attr->active_width);
		dev_put(ndev);
	}
	attr->phys_state = attr->state == IB_PORT_ACTIVE ? IB_PORT_PHYS_STATE_LINK_UP :
							   IB_PORT_PHYS_STATE_DISABLED;
	return 0;
}

static int simhca_get_port_immutable(struct ib_device *ibdev, u32 port,
				     struct ib_port_immutable *immutable)
{
	struct simhca_dev *dev = to_sdev(ibdev);

	immutable->core_cap_flags = RDMA_CORE_PORT_IBA_ROCE_UDP_ENCAP;
	immutable->max_mad_size = IB_MGMT_MAD_SIZE;
	immutable->gid_tbl_len = dev->caps.gid_table_len;
	immutable->pkey_tbl_len = SIMHCA_PKEY_TABLE_LEN;
	return 0;
}

static enum rdma_link_layer simhca_get_link_layer(struct ib_device *ibdev, u32 port)
{
	return IB_LINK_LAYER_ETHERNET;
}

static int simhca_query_pkey(struct ib_device *ibdev, u32 port, u16 index, u16 *pkey)
{
	if (index >= SIMHCA_PKEY_TABLE_LEN)
		return -EINVAL;

	*pkey = SIMHCA_PKEY;
	return 0;
}

static int simhca_add_gid(const struct ib_gid_attr *attr, void **context)
{
	struct simhca_cmd cmd = { .opcode = cpu_to_le16(SIMHCA_CMD_SET_GID) };
	struct simhca_cmd_set_gid *set = &cmd.payload.set_gid;
	int err;

	err = rdma_read_gid_l2_fields(attr, NULL, set->mac);
	if (err)
		return err;

	set->index = cpu_to_le32(attr->index);
	set->valid = 1;
	memcpy(set->gid, attr->gid.raw, sizeof(set->gid));
	return simhca_cmd_exec(to_sdev(attr->device), &cmd);
}

static int simhca_del_gid(const struct ib_gid_attr *attr, void **context)
{
	struct simhca_cmd cmd = {
		.opcode = cpu_to_le16(SIMHCA_CMD_SET_GID),
		.payload.set_gid.index = cpu_to_le32(attr->index),
	};

	return simhca_cmd_exec(to_sdev(attr->device), &cmd);
}

static int simhca_alloc_pd(struct ib_pd *ibpd, struct ib_udata *udata)
{
	struct simhca_dev *dev = to_sdev(ibpd->device);
	struct simhca_ibv_alloc_pd_resp resp = {};
	struct simhca_pd *pd = to_spd(ibpd);
	int err;

	err = ib_is_udata_in_empty(udata);
	if (err)
		return err;

	err = ida_alloc_range(&dev->pds, 1, dev->caps.max_pd, GFP_KERNEL);
	if (err < 0)
		return err;
	pd->pdn = err;

	if (!udata)
		return 0;

	resp.pdn = pd->pdn;
	err = ib_respond_udata(udata, resp);
	if (err)
		ida_free(&dev->pds, pd->pdn);
	return err;
}

static int simhca_dealloc_pd(struct ib_pd *ibpd, struct ib_udata *udata)
{
	int err;

	err = ib_no_udata_io(udata);
	if (err)
		return err;

	ida_free(&to_sdev(ibpd->device)->pds, to_spd(ibpd)->pdn);
	return 0;
}

static const struct rdma_stat_desc simhca_dev_stats[] = {
	[SIMHCA_CNT_CMD].name = "cmds",
	[SIMHCA_CNT_CMD_ERR].name = "cmds_err",
	[SIMHCA_CNT_CMD_TIMEOUT].name = "cmds_timeout",
	[SIMHCA_CNT_ALLOC_UCONTEXT_ERR].name = "alloc_ucontext_err",
	[SIMHCA_CNT_MMAP_ERR].name = "mmap_err",
	[SIMHCA_CNT_REG_MR_ERR].name = "reg_mr_err",
	[SIMHCA_CNT_REREG_MR_ERR].name = "rereg_mr_err",
	[SIMHCA_CNT_MR_FENCED].name = "mr_fenced",
	[SIMHCA_CNT_CREATE_CQ_ERR].name = "create_cq_err",
	[SIMHCA_CNT_RESIZE_CQ_ERR].name = "resize_cq_err",
	[SIMHCA_CNT_CREATE_SRQ_ERR].name = "create_srq_err",
	[SIMHCA_CNT_MODIFY_SRQ_ERR].name = "modify_srq_err",
	[SIMHCA_CNT_CREATE_QP_ERR].name = "create_qp_err",
	[SIMHCA_CNT_MODIFY_QP_ERR].name = "modify_qp_err",
	[SIMHCA_CNT_EVENT_LOST].name = "events_lost",
};

/* In the order of struct simhca_stats */
static const struct rdma_stat_desc simhca_port_stats[] = {
	{ .name = "tx_wrs" },
	{ .name = "tx_bytes" },
	{ .name = "rx_msgs" },
	{ .name = "rx_bytes" },
	{ .name = "cqes" },
	{ .name = "cqe_errors" },
	{ .name = "rnr_naks" },
	{ .name = "translate_faults" },
	{ .name = "wakeups" },
	{ .name = "events" },
	{ .name = "rnr_retries" },
	{ .name = "ack_timeouts" },
	{ .name = "remote_errors" },
	{ .name = "cq_overruns" },
	{ .name = "srq_limits" },
	{ .name = "moderated_cqes" },
	{ .name = "ud_drops" },
};

static_assert(ARRAY_SIZE(simhca_dev_stats) == SIMHCA_CNT_NUM);
static_assert(ARRAY_SIZE(simhca_port_stats) * sizeof(__le64) == sizeof(struct simhca_stats));

static struct rdma_hw_stats *simhca_alloc_hw_device_stats(struct ib_device *ibdev)
{
	return rdma_alloc_hw_stats_struct(simhca_dev_stats, ARRAY_SIZE(simhca_dev_stats),
					  RDMA_HW_STATS_DEFAULT_LIFESPAN);
}

static struct rdma_hw_stats *simhca_alloc_hw_port_stats(struct ib_device *ibdev, u32 port)
{
	return rdma_alloc_hw_stats_struct(simhca_port_stats, ARRAY_SIZE(simhca_port_stats),
					  RDMA_HW_STATS_DEFAULT_LIFESPAN);
}

static int simhca_get_hw_stats(struct ib_device *ibdev, struct rdma_hw_stats *stats, u32 port,
			       int index)
{
	struct simhca_cmd cmd = { .opcode = cpu_to_le16(SIMHCA_CMD_QUERY_STATS) };
	__le64 values[ARRAY_SIZE(simhca_port_stats)];
	struct simhca_dev *dev = to_sdev(ibdev);
	int err, i;

	if (!port) {
		for (i = 0; i < SIMHCA_CNT_NUM; i++)
			stats->value[i] = atomic64_read(&dev->counters[i]);
		return SIMHCA_CNT_NUM;
	}

	err = simhca_cmd_query(dev, &cmd, values, sizeof(values));
	if (err)
		return err;
	for (i = 0; i < ARRAY_SIZE(values); i++)
		stats->value[i] = le64_to_cpu(values[i]);
	return ARRAY_SIZE(values);
}

#define SIMHCA_UCONTEXT_RESP \
	UVERBS_ATTR_STRUCT(struct simhca_ibv_alloc_ucontext_resp, max_log_cqe)

ADD_UVERBS_ATTRIBUTES_SIMPLE(simhca_query_context, UVERBS_OBJECT_DEVICE,
			     UVERBS_METHOD_QUERY_CONTEXT,
			     UVERBS_ATTR_PTR_OUT(SIMHCA_ATTR_QUERY_CONTEXT_RESP,
						 SIMHCA_UCONTEXT_RESP, UA_MANDATORY));

static const struct uapi_definition simhca_uapi_defs[] = {
	UAPI_DEF_CHAIN_OBJ_TREE(UVERBS_OBJECT_DEVICE, &simhca_query_context),
	{}
};

static const struct ib_device_ops simhca_dev_ops = {
	.owner = THIS_MODULE,
	/* A provider finds the device by its PCI ID */
	.driver_id = RDMA_DRIVER_UNKNOWN,
	.uverbs_abi_ver = SIMHCA_ABI_VERSION,
	.uverbs_robust_udata = true,

	.add_gid = simhca_add_gid,
	.alloc_hw_device_stats = simhca_alloc_hw_device_stats,
	.alloc_hw_port_stats = simhca_alloc_hw_port_stats,
	.alloc_mr = simhca_alloc_mr,
	.alloc_mw = simhca_alloc_mw,
	.alloc_pd = simhca_alloc_pd,
	.alloc_ucontext = simhca_alloc_ucontext,
	.attach_mcast = simhca_attach_mcast,
	.create_ah = simhca_create_ah,
	.create_cq = simhca_create_cq,
	.create_qp = simhca_create_qp,
	.create_srq = simhca_create_srq,
	.create_user_ah = simhca_create_ah,
	.create_user_cq = simhca_create_user_cq,
	.dealloc_mw = simhca_dealloc_mw,
	.dealloc_pd = simhca_dealloc_pd,
	.dealloc_ucontext = simhca_dealloc_ucontext,
	.del_gid = simhca_del_gid,
	.dereg_mr = simhca_dereg_mr,
	.destroy_ah = simhca_destroy_ah,
	.destroy_cq = simhca_destroy_cq,
	.destroy_qp = simhca_destroy_qp,
	.destroy_srq = simhca_destroy_srq,
	.detach_mcast = simhca_detach_mcast,
	.disassociate_ucontext = simhca_disassociate_ucontext,
	.fill_res_mr_entry = simhca_fill_res_mr_entry,
	.get_dev_fw_str = simhca_get_dev_fw_str,
	.get_dma_mr = simhca_get_dma_mr,
	.get_hw_stats = simhca_get_hw_stats,
	.get_link_layer = simhca_get_link_layer,
	.get_port_immutable = simhca_get_port_immutable,
	.map_mr_sg = simhca_map_mr_sg,
	.mmap = simhca_mmap,
	.mmap_free = simhca_mmap_free,
	.modify_cq = simhca_modify_cq,
	.modify_qp = simhca_modify_qp,
	.modify_srq = simhca_modify_srq,
	.mr_revocable = simhca_mr_revocable,
	.poll_cq = simhca_poll_cq,
	.post_recv = simhca_post_recv,
	.post_send = simhca_post_send,
	.post_srq_recv = simhca_post_srq_recv,
	.query_ah = simhca_query_ah,
	.query_device = simhca_query_device,
	.query_pkey = simhca_query_pkey,
	.query_port = simhca_query_port,
	.query_qp = simhca_query_qp,
	.query_srq = simhca_query_srq,
	.query_ucontext = simhca_query_ucontext,
	.reg_user_mr = simhca_reg_user_mr,
	.reg_user_mr_dmabuf = simhca_reg_user_mr_dmabuf,
	.req_notify_cq = simhca_req_notify_cq,
	.rereg_user_mr = simhca_rereg_user_mr,
	.resize_user_cq = simhca_resize_user_cq,

	INIT_RDMA_OBJ_SIZE(ib_ah, simhca_ah, ibah),
	INIT_RDMA_OBJ_SIZE(ib_cq, simhca_cq, ibcq),
	INIT_RDMA_OBJ_SIZE(ib_mw, simhca_mw, ibmw),
	INIT_RDMA_OBJ_SIZE(ib_pd, simhca_pd, ibpd),
	INIT_RDMA_OBJ_SIZE(ib_qp, simhca_qp, ibqp),
	INIT_RDMA_OBJ_SIZE(ib_srq, simhca_srq, ibsrq),
	INIT_RDMA_OBJ_SIZE(ib_ucontext, simhca_ucontext, ibucontext),
};

/**
 * simhca_set_ops - tell ib_core what the device can do
 * @ibdev: not registered yet
 */
void simhca_set_ops(struct ib_device *ibdev)
{
	ibdev->driver_def = simhca_uapi_defs;
	ib_set_device_ops(ibdev, &simhca_dev_ops);
}
