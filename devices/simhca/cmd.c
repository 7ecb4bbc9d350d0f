// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* The command ring. */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "simhca.h"

/* Commands between two looks at the doorbells. */
#define CMD_BATCH	8

/* As in ib_device_attr.fw_ver: major, minor, patch level. */
#define CMD_FW_VER	((uint64_t)SIMHCAD_VERSION_MAJOR << 32 | SIMHCAD_VERSION_MINOR << 16)

static_assert(sizeof(struct simhca_cmd) == 128 && sizeof(struct simhca_rsp) == 16,
	      "sizes of command ring entries");

static uint16_t cmd_out(struct simhca_dev *dev, const struct simhca_cmd *cmd, const void *out,
			size_t len)
{
	if (!dma_map_write(dev->hca.map, NULL, le64toh(cmd->out_addr), out, len))
		return SIMHCA_CMD_OK;
	dev->hca.stats.translate_faults++;
	return SIMHCA_CMD_EFAULT;
}

static uint16_t cmd_query_dev(struct simhca_dev *dev, const struct simhca_cmd *cmd)
{
	struct simhca_dev_attr attr = {
		.fw_ver = htole64(CMD_FW_VER),
		.max_mr_size = htole64(UINT64_MAX),
		.max_qp = htole32(SIMHCA_MAX_QPS - ENGINE_FIRST_QPN),
		.max_cq = htole32(SIMHCA_MAX_CQS - 1),
		.max_mr = htole32(dev->max_mr),
		.max_pd = htole32(SIMHCA_MAX_PDS - 1),
		.max_srq = htole32(SIMHCA_MAX_SRQS - 1),
		.max_log_wr = htole32(SIMHCA_MAX_LOG_WR),
		.max_log_cqe = htole32(SIMHCA_MAX_LOG_CQE),
		.max_sge = htole32(SIMHCA_MAX_SGE),
		.max_inline = htole32(SIMHCA_MAX_INLINE),
		.max_msg = htole32(SIMHCA_MAX_MSG),
		.max_rd_atomic = htole32(SIMHCA_MAX_RD_ATOMIC),
		.gid_table_len = htole32(SIMHCA_GID_TABLE_LEN),
		.max_eq = htole32(SIMHCA_MAX_EQS),
		.num_vectors = htole32(SIMHCA_NUM_VECTORS),
		.max_fast_segs = htole32(SIMHCA_MAX_FAST_SEGS),
	};

	return cmd_out(dev, cmd, &attr, sizeof(attr));
}

static uint16_t cmd_query_stats(struct simhca_dev *dev, const struct simhca_cmd *cmd)
{
	const struct engine_stats *stats = &dev->hca.stats;
	struct simhca_stats out = {
		.tx_wrs = htole64(stats->tx_wrs),
		.tx_bytes = htole64(stats->tx_bytes),
		.rx_msgs = htole64(stats->rx_msgs),
		.rx_bytes = htole64(stats->rx_bytes),
		.cqes = htole64(stats->cqes),
		.cqe_errors = htole64(stats->cqe_errors),
		.rnr_naks = htole64(stats->rnr_naks),
		.translate_faults = htole64(stats->translate_faults),
		.wakeups = htole64(atomic_load(&dev->kicks)),
		.events = htole64(dev->events),
		.rnr_retries = htole64(stats->rnr_retries),
		.ack_timeouts = htole64(stats->ack_timeouts),
		.remote_errors = htole64(stats->remote_errors),
		.cq_overruns = htole64(stats->cq_overruns),
		.srq_limits = htole64(stats->srq_limits),
		.moderated = htole64(dev->moderated),
		.ud_drops = htole64(stats->ud_drops),
	};

	return cmd_out(dev, cmd, &out, sizeof(out));
}

static uint16_t cmd_query_qp(struct simhca_dev *dev, const struct simhca_cmd *cmd)
{
	struct simhca_qp_attr attr;
	uint16_t status;

	status = obj_query_qp(dev, le32toh(cmd->payload.query_qp.qpn), &attr);
	return status == SIMHCA_CMD_OK ? cmd_out(dev, cmd, &attr, sizeof(attr)) : status;
}

static uint16_t cmd_query_srq(struct simhca_dev *dev, const struct simhca_cmd *cmd)
{
	struct simhca_srq_attr attr;
	uint16_t status;

	status = obj_query_srq(dev, le32toh(cmd->payload.query_srq.srqn), &attr);
	return status == SIMHCA_CMD_OK ? cmd_out(dev, cmd, &attr, sizeof(attr)) : status;
}

static uint16_t cmd_set_gid(struct simhca_dev *dev, const struct simhca_cmd_set_gid *cmd)
{
	if (cmd->valid > 1)
		return SIMHCA_CMD_EINVAL;
	return obj_status(engine_hca_set_gid(&dev->hca, le32toh(cmd->index),
					     cmd->valid ? cmd->gid : NULL));
}

static uint16_t cmd_execute(struct simhca_dev *dev, const struct simhca_cmd *cmd)
{
	uint32_t id = le32toh(cmd->payload.destroy.id);

	switch (le16toh(cmd->opcode)) {
	case SIMHCA_CMD_QUERY_DEV:
		return cmd_query_dev(dev, cmd);
	case SIMHCA_CMD_CREATE_EQ:
		return obj_create_eq(dev, &cmd->payload.create_eq);
	case SIMHCA_CMD_DESTROY_EQ:
		return obj_destroy_eq(dev, id);
	case SIMHCA_CMD_SET_GID:
		return cmd_set_gid(dev, &cmd->payload.set_gid);
	case SIMHCA_CMD_CREATE_MR:
		return obj_create_mr(dev, &cmd->payload.create_mr);
	case SIMHCA_CMD_DESTROY_MR:
		return obj_status(engine_mr_destroy(&dev->hca, id));
	case SIMHCA_CMD_FENCE_MR:
		return obj_status(engine_mr_fence(&dev->hca, id));
	case SIMHCA_CMD_REREG_MR:
		return obj_rereg_mr(dev, &cmd->payload.rereg_mr);
	case SIMHCA_CMD_CREATE_MW:
		return obj_create_mw(dev, &cmd->payload.create_mw);
	case SIMHCA_CMD_DESTROY_MW:
		return obj_status(engine_mw_destroy(&dev->hca, id));
	case SIMHCA_CMD_CREATE_CQ:
		return obj_create_cq(dev, &cmd->payload.create_cq);
	case SIMHCA_CMD_DESTROY_CQ:
		return obj_destroy_cq(dev, id);
	case SIMHCA_CMD_RESIZE_CQ:
		return obj_resize_cq(dev, &cmd->payload.resize_cq);
	case SIMHCA_CMD_MODIFY_CQ:
		return obj_modify_cq(dev, &cmd->payload.modify_cq);
	case SIMHCA_CMD_CREATE_SRQ:
		return obj_create_srq(dev, &cmd->payload.create_srq);
	case SIMHCA_CMD_MODIFY_SRQ:
		return obj_modify_srq(dev, &cmd->payload.modify_srq);
	case SIMHCA_CMD_QUERY_SRQ:
		return cmd_query_srq(dev, cmd);
	case SIMHCA_CMD_DESTROY_SRQ:
		return obj_destroy_srq(dev, id);
	case SIMHCA_CMD_CREATE_QP:
		return obj_create_qp(dev, &cmd->payload.create_qp);
	case SIMHCA_CMD_MODIFY_QP:
		return obj_modify_qp(dev, &cmd->payload.modify_qp);
	case SIMHCA_CMD_QUERY_QP:
		return cmd_query_qp(dev, cmd);
	case SIMHCA_CMD_DESTROY_QP:
		return obj_destroy_qp(dev, id);
	case SIMHCA_CMD_QUERY_STATS:
		return cmd_query_stats(dev, cmd);
	case SIMHCA_CMD_ATTACH_MCAST:
		return obj_attach_mcast(dev, &cmd->payload.mcast);
	case SIMHCA_CMD_DETACH_MCAST:
		return obj_detach_mcast(dev, &cmd->payload.mcast);
	default:
		return SIMHCA_CMD_EOPNOTSUPP;
	}
}

static int cmd_fetch(struct simhca_dev *dev, uint32_t entry, struct simhca_cmd *cmd)
{
	int ret;

	dma_map_read_lock(dev->hca.map);
	ret = ring_read(dev, &dev->cmdq, (uint64_t)entry * sizeof(*cmd), cmd, sizeof(*cmd));
	dma_map_read_unlock(dev->hca.map);
	return ret;
}

static int cmd_respond(struct simhca_dev *dev, uint32_t entry, const struct simhca_rsp *rsp)
{
	int ret;

	dma_map_read_lock(dev->hca.map);
	ret = ring_write_entry(dev, &dev->rspq, (uint64_t)entry * sizeof(*rsp), rsp, sizeof(*rsp));
	dma_map_read_unlock(dev->hca.map);
	dev->irqs |= 1u << SIMHCA_CMD_VECTOR;
	return ret;
}

static uint32_t cmd_pi(struct simhca_dev *dev)
{
	return le32toh(__atomic_load_n(&dev_uar(dev, SIMHCA_KERNEL_UAR)->cmdq_pi,
				       __ATOMIC_ACQUIRE));
}

bool cmd_poll(struct simhca_dev *dev)
{
	uint32_t size = 1u << dev->cmdq_log_size;
	uint32_t avail = cmd_pi(dev) - dev->cmdq_ci;
	struct simhca_cmd cmd;
	unsigned int n;

	if (!avail)
		return false;
	if (avail > size) {
		dev_fatal(dev, "more commands than the ring holds");
		return true;
	}
	for (n = 0; n < avail && n < CMD_BATCH; n++) {
		uint32_t entry = dev->cmdq_ci & (size - 1);
		struct simhca_rsp rsp = { .phase = !(dev->cmdq_ci & size) };

		if (cmd_fetch(dev, entry, &cmd)) {
			dev_fatal(dev, "the command ring cannot be reached");
			break;
		}
		rsp.status = htole16(cmd_execute(dev, &cmd));
		rsp.opcode = cmd.opcode;
		rsp.token = cmd.token;
		if (rsp.status)
			dev_log(dev, VFU_LOG_DEBUG, "command %u: status %u", le16toh(cmd.opcode),
				le16toh(rsp.status));
		dev->cmdq_ci++;
		if (cmd_respond(dev, entry, &rsp)) {
			dev_fatal(dev, "the response ring cannot be reached");
			break;
		}
	}
	return true;
}
