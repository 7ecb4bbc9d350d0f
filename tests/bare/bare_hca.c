// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* HCAs without threads; see bare_hca.h. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bare_hca.h"
#include "poller.h"

#define BARE_ACCESS	(SIMHCA_ACCESS_LOCAL_WRITE | SIMHCA_ACCESS_REMOTE_WRITE | \
			 SIMHCA_ACCESS_REMOTE_READ | SIMHCA_ACCESS_REMOTE_ATOMIC | \
			 SIMHCA_ACCESS_MW_BIND | SIMHCA_ACCESS_FLUSH_GLOBAL)
#define BARE_PATTERN	0xa5

/* ---- memory, and what the message thread does ---- */

static void bare_map(struct bare_hca *h)
{
	struct dma_map *map = vfu_dma_map(h->dev->srv);

	dma_map_clear(map);
	CHECK(!dma_map_add(map, BARE_RAM, BARE_FENCE - BARE_RAM, DMA_MAP_READ | DMA_MAP_WRITE,
			   h->ram_fd, 0));
	CHECK(!dma_map_add(map, BARE_FENCE, SIMHCA_PAGE_SIZE, DMA_MAP_READ, h->ram_fd,
			   BARE_FENCE - BARE_RAM));
}

static void bare_clear_ram(struct bare_hca *h)
{
	memset(h->ram, 0, BARE_RAM_SIZE);
	memset(bare_ptr(h, BARE_FENCE), BARE_PATTERN, SIMHCA_PAGE_SIZE);
}

/* There is no other thread that would serve it. */
static void bare_request(struct bare_hca *h, enum simhca_request req)
{
	atomic_store(&h->dev->req, req);
	CHECK(dev_serve_request(h->dev));
}

static void bare_open_hca(struct bare *b, unsigned int i)
{
	static const uint8_t mac[6] = { 0x52, 0x54, 0x00, 0xc0, 0x00, 0x07 };
	struct bare_hca *h = &b->hca[i];

	memcpy(h->gid, (const uint8_t[16]) { 0xfe, 0x80, [15] = i + 1 }, sizeof(h->gid));
	h->dev = simhca_dev_create(b->poller, i ? "b" : "a", mac, NULL);
	CHECK(h->dev);
	h->ram_fd = memfd_create("bare", MFD_CLOEXEC);
	CHECK(h->ram_fd >= 0 && !ftruncate(h->ram_fd, BARE_RAM_SIZE));
	h->ram = mmap(NULL, BARE_RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, h->ram_fd, 0);
	CHECK(h->ram != MAP_FAILED);
	bare_clear_ram(h);
	bare_map(h);
	h->dev->req_bus_master = true;
	bare_request(h, SIMHCA_REQ_BUS_MASTER);
}

void bare_open(struct bare *b)
{
	unsigned int i;

	*b = (struct bare) { .now = 1000000000 };
	b->poller = poller_create(0, 0);
	CHECK(b->poller);
	for (i = 0; i < BARE_HCAS; i++)
		bare_open_hca(b, i);
}

void bare_close(struct bare *b)
{
	struct bare_hca *h;

	for (h = b->hca; h < b->hca + BARE_HCAS; h++) {
		bare_reset(h, false);
		simhca_dev_destroy(h->dev);
		munmap(h->ram, BARE_RAM_SIZE);
		close(h->ram_fd);
	}
	poller_destroy(b->poller);
}

void bare_enable(struct bare_hca *h)
{
	h->dev->reg_cmdq_base = BARE_CMDQ;
	h->dev->reg_rspq_base = BARE_RSPQ;
	h->dev->reg_cmdq_log_size = BARE_CMDQ_LOG;
	bare_request(h, SIMHCA_REQ_ENABLE);
	CHECK(atomic_load(&h->dev->status) == SIMHCA_STATUS_ENABLED);
}

static void bare_check_fence(struct bare_hca *h)
{
	const uint8_t *p = bare_ptr(h, BARE_FENCE);
	unsigned int i;

	for (i = 0; i < SIMHCA_PAGE_SIZE; i++)
		CHECK(p[i] == BARE_PATTERN);
}

static void bare_check_empty(const struct simhca_dev *dev)
{
	uint32_t i;

	CHECK(!dev->hca.qps.count && !dev->hca.cqs.count && !dev->hca.srqs.count &&
	      !dev->hca.keys.count && !dev->hca.num_mcasts && !dev->hca.mem);
	CHECK(list_empty(&dev->uars) && list_empty(&dev->waiting_cqs) && list_empty(&dev->async));
	for (i = 0; i < SIMHCA_MAX_EQS; i++)
		CHECK(!dev->eqs[i]);
}

void bare_reset(struct bare_hca *h, bool full)
{
	bare_check_fence(h);
	bare_request(h, SIMHCA_REQ_RESET);
	bare_check_empty(h->dev);
	CHECK(!atomic_load(&h->dev->status));
	if (full) {
		bare_map(h);
		h->dev->req_bus_master = true;
		bare_request(h, SIMHCA_REQ_BUS_MASTER);
	}
	bare_clear_ram(h);
	h->cmdq_pi = 0;
	h->srq_pi = 0;
	memset(h->sq_pi, 0, sizeof(h->sq_pi));
	memset(h->rq_pi, 0, sizeof(h->rq_pi));
}

bool bare_run(struct bare *b, unsigned int rounds, uint64_t step_ns)
{
	unsigned int i;

	for (i = 0; i < rounds; i++) {
		b->now += step_ns;
		if (!poller_round(b->poller, b->now))
			return true;
	}
	return false;
}

/* ---- commands ---- */

uint16_t bare_cmd(struct bare *b, struct bare_hca *h, const struct simhca_cmd *cmd)
{
	const uint32_t size = 1u << BARE_CMDQ_LOG;
	uint32_t entry = h->cmdq_pi % size;
	struct simhca_rsp *rsp = (struct simhca_rsp *)bare_ptr(h, BARE_RSPQ) + entry;
	struct simhca_uar *uar = dev_uar(h->dev, SIMHCA_KERNEL_UAR);
	uint8_t phase = !(h->cmdq_pi & size);

	if (!dev_running(h->dev))
		return BARE_DEAD;
	((struct simhca_cmd *)bare_ptr(h, BARE_CMDQ))[entry] = *cmd;
	rsp->phase = !phase;
	__atomic_store_n(&uar->cmdq_pi, ++h->cmdq_pi, __ATOMIC_RELAXED);
	poller_round(b->poller, b->now);
	if (bare_fatal(h))
		return BARE_DEAD;
	/* Unless the guest has made the device write there itself. */
	if (rsp->phase != phase || rsp->token != cmd->token || rsp->opcode != cmd->opcode)
		return BARE_DEAD;
	return rsp->status;
}

static struct simhca_sgl bare_sgl(uint64_t addr, uint64_t length)
{
	return (struct simhca_sgl) { .addr = addr, .length = length, .nsegs = 1 };
}

/* BARE_BUF page by page, the last one first. */
static struct simhca_sgl bare_sgl_segs(struct bare_hca *h)
{
	const uint32_t n = BARE_BUF_SIZE / SIMHCA_PAGE_SIZE;
	struct simhca_seg_chunk *chunk = bare_ptr(h, BARE_CHUNKS);
	uint32_t i;

	chunk->nsegs = n;
	chunk->next = 0;
	for (i = 0; i < n; i++)
		chunk->segs[i] = (struct simhca_seg) {
			.addr = BARE_BUF + (n - 1 - i) * SIMHCA_PAGE_SIZE,
			.len = SIMHCA_PAGE_SIZE,
		};
	return (struct simhca_sgl) { .addr = BARE_CHUNKS, .length = BARE_BUF_SIZE, .nsegs = n };
}

static void bare_must(struct bare *b, struct bare_hca *h, struct simhca_cmd cmd)
{
	uint16_t status = bare_cmd(b, h, &cmd);

	if (status)
		fprintf(stderr, "command %u: status %u\n", cmd.opcode, status);
	CHECK(!status);
}

static struct simhca_cmd cmd_eq(uint32_t eqn, uint64_t ring)
{
	return (struct simhca_cmd) {
		.opcode = SIMHCA_CMD_CREATE_EQ,
		.payload.create_eq = {
			.eqn = eqn,
			.vector = eqn,
			.log_size = BARE_EQ_LOG,
			.ring = bare_sgl(ring, sizeof(struct simhca_eqe) << BARE_EQ_LOG),
		},
	};
}

static struct simhca_cmd cmd_gid(struct bare_hca *h, uint32_t index)
{
	struct simhca_cmd cmd = {
		.opcode = SIMHCA_CMD_SET_GID,
		.payload.set_gid = { .index = index, .valid = 1 },
	};

	memcpy(cmd.payload.set_gid.gid, h->gid, sizeof(h->gid));
	return cmd;
}

static struct simhca_cmd cmd_mr(uint32_t key, uint32_t flags, uint64_t iova, struct simhca_sgl sgl)
{
	return (struct simhca_cmd) {
		.opcode = SIMHCA_CMD_CREATE_MR,
		.payload.create_mr = {
			.key = key,
			.pdn = BARE_PDN,
			.access = flags & SIMHCA_MR_FAST ? 0 : BARE_ACCESS,
			.flags = flags,
			.iova = iova,
			.length = sgl.length,
			.sgl = sgl,
		},
	};
}

static struct simhca_cmd cmd_mw(uint32_t key, uint32_t type)
{
	return (struct simhca_cmd) {
		.opcode = SIMHCA_CMD_CREATE_MW,
		.payload.create_mw = { .key = key, .pdn = BARE_PDN, .type = type },
	};
}

static struct simhca_cmd cmd_cq(uint32_t cqn, uint32_t slot, uint64_t ring)
{
	return (struct simhca_cmd) {
		.opcode = SIMHCA_CMD_CREATE_CQ,
		.payload.create_cq = {
			.cqn = cqn,
			.eqn = 1,
			.uar = BARE_UAR,
			.slot = slot,
			.log_size = BARE_CQ_LOG,
			.ring = bare_sgl(ring, sizeof(struct simhca_cqe) << BARE_CQ_LOG),
		},
	};
}

static struct simhca_cmd cmd_srq(uint32_t srqn, uint32_t slot, uint64_t ring)
{
	return (struct simhca_cmd) {
		.opcode = SIMHCA_CMD_CREATE_SRQ,
		.payload.create_srq = {
			.srqn = srqn,
			.pdn = BARE_PDN,
			.uar = BARE_UAR,
			.slot = slot,
			.log_size = BARE_WR_LOG,
			.log_stride = BARE_RQ_STRIDE,
			.limit = 2,
			.ring = bare_sgl(ring, 1ull << (BARE_WR_LOG + BARE_RQ_STRIDE)),
		},
	};
}

static uint32_t bare_type(enum bare_qp i)
{
	switch (i) {
	case BARE_UC_A:
	case BARE_UC_B:
		return SIMHCA_QPT_UC;
	case BARE_UD:
		return SIMHCA_QPT_UD;
	default:
		return SIMHCA_QPT_RC;
	}
}

/* A QP as @i, with this number and slot, whose queues it borrows. */
static struct simhca_cmd cmd_qp(enum bare_qp i, uint32_t qpn, uint32_t slot)
{
	struct simhca_cmd cmd = {
		.opcode = SIMHCA_CMD_CREATE_QP,
		.payload.create_qp = {
			.qpn = qpn,
			.type = bare_type(i),
			.pdn = BARE_PDN,
			.send_cqn = BARE_CQN(0),
			.recv_cqn = BARE_CQN(1),
			.uar = BARE_UAR,
			.slot = slot,
			.sq_log_size = BARE_WR_LOG,
			.sq_log_stride = BARE_SQ_STRIDE,
			.rq_log_size = BARE_WR_LOG,
			.rq_log_stride = BARE_RQ_STRIDE,
			.sq = bare_sgl(BARE_SQ(i), 1ull << (BARE_WR_LOG + BARE_SQ_STRIDE)),
			.rq = bare_sgl(BARE_RQ(i), 1ull << (BARE_WR_LOG + BARE_RQ_STRIDE)),
		},
	};

	if (i == BARE_RC_SRQ) {
		cmd.payload.create_qp.srqn = BARE_SRQN;
		cmd.payload.create_qp.rq = (struct simhca_sgl) { 0 };
	}
	return cmd;
}

enum bare_qp bare_peer(struct bare *b, struct bare_hca *h, enum bare_qp qp,
		       struct bare_hca **peer_hca)
{
	*peer_hca = h;
	switch (qp) {
	case BARE_RC_A:
		return BARE_RC_B;
	case BARE_RC_B:
		return BARE_RC_A;
	case BARE_UC_A:
		return BARE_UC_B;
	case BARE_UC_B:
		return BARE_UC_A;
	default:
		*peer_hca = &b->hca[h == &b->hca[0]];
		return qp;
	}
}

static uint32_t bare_mask(uint32_t type, uint8_t state)
{
	const uint32_t rtr = SIMHCA_QP_AV | SIMHCA_QP_PATH_MTU | SIMHCA_QP_DEST_QPN |
			     SIMHCA_QP_RQ_PSN;

	if (state == SIMHCA_QPS_INIT)
		return type == SIMHCA_QPT_UD ? SIMHCA_QP_QKEY : SIMHCA_QP_ACCESS;
	if (type == SIMHCA_QPT_UD)
		return state == SIMHCA_QPS_RTR ? SIMHCA_QP_PATH_MTU : SIMHCA_QP_SQ_PSN;
	if (type == SIMHCA_QPT_UC)
		return state == SIMHCA_QPS_RTR ? rtr : SIMHCA_QP_SQ_PSN;
	if (state == SIMHCA_QPS_RTR)
		return rtr | SIMHCA_QP_MAX_DEST_RD_ATOMIC | SIMHCA_QP_MIN_RNR_TIMER;
	return SIMHCA_QP_TIMEOUT | SIMHCA_QP_RETRY_CNT | SIMHCA_QP_RNR_RETRY | SIMHCA_QP_SQ_PSN |
	       SIMHCA_QP_MAX_RD_ATOMIC;
}

/* QP @i, with all that it needs to go to @state. */
static struct simhca_cmd cmd_modify(struct bare *b, struct bare_hca *h, enum bare_qp i,
				    uint8_t state)
{
	struct bare_hca *peer_hca;
	enum bare_qp peer = bare_peer(b, h, i, &peer_hca);
	struct simhca_cmd cmd = {
		.opcode = SIMHCA_CMD_MODIFY_QP,
		.payload.modify_qp = {
			.qpn = BARE_QPN(i),
			.mask = SIMHCA_QP_STATE | bare_mask(bare_type(i), state),
			.state = state,
			.access = SIMHCA_ACCESS_REMOTE_WRITE | SIMHCA_ACCESS_REMOTE_READ |
				  SIMHCA_ACCESS_REMOTE_ATOMIC | SIMHCA_ACCESS_FLUSH_GLOBAL,
			.path_mtu = 3,
			.timeout = 8,
			.retry_cnt = 2,
			.rnr_retry = 2,
			.min_rnr_timer = 1,
			.max_rd_atomic = 4,
			.max_dest_rd_atomic = 4,
			.qkey = BARE_QKEY,
			.dest_qpn = BARE_QPN(peer),
		},
	};

	memcpy(cmd.payload.modify_qp.dgid, peer_hca->gid, sizeof(cmd.payload.modify_qp.dgid));
	if (state == SIMHCA_QPS_RESET)
		cmd.payload.modify_qp.mask = SIMHCA_QP_STATE;
	return cmd;
}

static struct simhca_cmd cmd_mcast(uint16_t opcode, uint8_t last)
{
	struct simhca_cmd cmd = {
		.opcode = opcode,
		.payload.mcast.qpn = BARE_QPN(BARE_UD),
	};

	cmd.payload.mcast.gid[0] = 0xff;
	cmd.payload.mcast.gid[15] = last;
	return cmd;
}

static void bare_setup_hca(struct bare *b, struct bare_hca *h)
{
	unsigned int i;

	bare_enable(h);
	for (i = 0; i < 2; i++)
		bare_must(b, h, cmd_eq(i, BARE_EQ(i)));
	bare_must(b, h, cmd_gid(h, 0));
	bare_must(b, h, cmd_mr(BARE_KEY, 0, BARE_BUF, bare_sgl(BARE_BUF, BARE_BUF_SIZE)));
	bare_must(b, h, cmd_mr(BARE_KEY_SEGS, 0, 0, bare_sgl_segs(h)));
	bare_must(b, h, cmd_mr(BARE_KEY_FAST, SIMHCA_MR_FAST, 0, (struct simhca_sgl) { .nsegs = 8 }));
	bare_must(b, h, cmd_mr(BARE_KEY_DMA, SIMHCA_MR_DMA, 0, (struct simhca_sgl) { 0 }));
	bare_must(b, h, cmd_mw(BARE_KEY_MW1, SIMHCA_MW_TYPE_1));
	bare_must(b, h, cmd_mw(BARE_KEY_MW2, SIMHCA_MW_TYPE_2));
	for (i = 0; i < 2; i++)
		bare_must(b, h, cmd_cq(BARE_CQN(i), i, BARE_CQ(i)));
	bare_must(b, h, cmd_srq(BARE_SRQN, 0, BARE_SRQ));
	for (i = 0; i < BARE_QPS; i++)
		bare_must(b, h, cmd_qp(i, BARE_QPN(i), i));
	bare_must(b, h, cmd_mcast(SIMHCA_CMD_ATTACH_MCAST, 1));
}

void bare_setup(struct bare *b)
{
	unsigned int i, n;
	uint8_t state;

	for (n = 0; n < BARE_HCAS; n++)
		bare_setup_hca(b, &b->hca[n]);
	for (n = 0; n < BARE_HCAS; n++)
		for (i = 0; i < BARE_QPS; i++)
			for (state = SIMHCA_QPS_INIT; state <= SIMHCA_QPS_RTS; state++)
				bare_must(b, &b->hca[n], cmd_modify(b, &b->hca[n], i, state));
}

/* ---- one of each ---- */

enum bare_cmd_kind {
	CMD_QUERY_DEV,
	CMD_CREATE_EQ,
	CMD_DESTROY_EQ,
	CMD_SET_GID,
	CMD_CREATE_MR,
	CMD_CREATE_MR_SEGS,
	CMD_CREATE_MR_FAST,
	CMD_CREATE_MR_DMA,
	CMD_DESTROY_MR,
	CMD_FENCE_MR,
	CMD_REREG_MR,
	CMD_CREATE_MW,
	CMD_DESTROY_MW,
	CMD_CREATE_CQ,
	CMD_RESIZE_CQ,
	CMD_MODIFY_CQ,
	CMD_DESTROY_CQ,
	CMD_CREATE_SRQ,
	CMD_MODIFY_SRQ,
	CMD_QUERY_SRQ,
	CMD_DESTROY_SRQ,
	CMD_CREATE_QP,
	CMD_CREATE_QP_SRQ,
	CMD_MODIFY_QP,
	CMD_MODIFY_QP_RESET,
	CMD_QUERY_QP,
	CMD_DESTROY_QP,
	CMD_QUERY_STATS,
	CMD_ATTACH_MCAST,
	CMD_DETACH_MCAST,
	CMD_KINDS,
};

unsigned int bare_num_cmds(void)
{
	return CMD_KINDS;
}

static struct simhca_cmd cmd_destroy(uint16_t opcode, uint32_t id)
{
	return (struct simhca_cmd) { .opcode = opcode, .payload.destroy.id = id };
}

/* What cannot be destroyed since it is in use is made to be told so. */
static struct simhca_cmd make_cmd(struct bare *b, struct bare_hca *h, enum bare_cmd_kind kind)
{
	struct simhca_cmd cmd;

	switch (kind) {
	case CMD_QUERY_DEV:
		return (struct simhca_cmd) { .opcode = SIMHCA_CMD_QUERY_DEV };
	case CMD_CREATE_EQ:
		return cmd_eq(2, BARE_BUF);
	case CMD_DESTROY_EQ:
		return cmd_destroy(SIMHCA_CMD_DESTROY_EQ, 0);
	case CMD_SET_GID:
		return cmd_gid(h, 1);
	case CMD_CREATE_MR:
		return cmd_mr(0x700, 0, BARE_BUF, bare_sgl(BARE_BUF, BARE_BUF_SIZE));
	case CMD_CREATE_MR_SEGS:
		return cmd_mr(0x700, 0, 0, bare_sgl_segs(h));
	case CMD_CREATE_MR_FAST:
		return cmd_mr(0x700, SIMHCA_MR_FAST, 0, (struct simhca_sgl) { .nsegs = 8 });
	case CMD_CREATE_MR_DMA:
		return cmd_mr(0x700, SIMHCA_MR_DMA, 0, (struct simhca_sgl) { 0 });
	case CMD_DESTROY_MR:
		return cmd_destroy(SIMHCA_CMD_DESTROY_MR, BARE_KEY);
	case CMD_FENCE_MR:
		return cmd_destroy(SIMHCA_CMD_FENCE_MR, BARE_KEY);
	case CMD_REREG_MR:
		return (struct simhca_cmd) {
			.opcode = SIMHCA_CMD_REREG_MR,
			.payload.rereg_mr = {
				.key = BARE_KEY,
				.pdn = BARE_PDN,
				.access = BARE_ACCESS,
				.mask = SIMHCA_REREG_TRANS | SIMHCA_REREG_PD | SIMHCA_REREG_ACCESS,
				.length = BARE_BUF_SIZE,
				.sgl = bare_sgl_segs(h),
			},
		};
	case CMD_CREATE_MW:
		return cmd_mw(0x700, SIMHCA_MW_TYPE_2);
	case CMD_DESTROY_MW:
		return cmd_destroy(SIMHCA_CMD_DESTROY_MW, BARE_KEY_MW1);
	case CMD_CREATE_CQ:
		return cmd_cq(3, 2, BARE_BUF);
	case CMD_RESIZE_CQ:
		return (struct simhca_cmd) {
			.opcode = SIMHCA_CMD_RESIZE_CQ,
			.payload.resize_cq = {
				.cqn = BARE_CQN(0),
				.log_size = BARE_CQ_LOG + 1,
				.ring = bare_sgl(BARE_BUF,
						 sizeof(struct simhca_cqe) << (BARE_CQ_LOG + 1)),
			},
		};
	case CMD_MODIFY_CQ:
		return (struct simhca_cmd) {
			.opcode = SIMHCA_CMD_MODIFY_CQ,
			.payload.modify_cq = { .cqn = BARE_CQN(0), .count = 4, .period = 10 },
		};
	case CMD_DESTROY_CQ:
		return cmd_destroy(SIMHCA_CMD_DESTROY_CQ, BARE_CQN(0));
	case CMD_CREATE_SRQ:
		return cmd_srq(2, 1, BARE_BUF);
	case CMD_MODIFY_SRQ:
		return (struct simhca_cmd) {
			.opcode = SIMHCA_CMD_MODIFY_SRQ,
			.payload.modify_srq = { .srqn = BARE_SRQN, .limit = 1 },
		};
	case CMD_QUERY_SRQ:
		return (struct simhca_cmd) {
			.opcode = SIMHCA_CMD_QUERY_SRQ,
			.payload.query_srq.srqn = BARE_SRQN,
		};
	case CMD_DESTROY_SRQ:
		return cmd_destroy(SIMHCA_CMD_DESTROY_SRQ, BARE_SRQN);
	case CMD_CREATE_QP:
		return cmd_qp(BARE_RC_A, BARE_QPN(BARE_QPS), BARE_QPS);
	case CMD_CREATE_QP_SRQ:
		return cmd_qp(BARE_RC_SRQ, BARE_QPN(BARE_QPS), BARE_QPS);
	case CMD_MODIFY_QP:
		/* From RTS only some fields may be changed. */
		cmd = cmd_modify(b, h, BARE_RC_A, SIMHCA_QPS_RTS);
		cmd.payload.modify_qp.mask = SIMHCA_QP_ACCESS | SIMHCA_QP_MIN_RNR_TIMER;
		return cmd;
	case CMD_MODIFY_QP_RESET:
		return cmd_modify(b, h, BARE_RC_A, SIMHCA_QPS_RESET);
	case CMD_QUERY_QP:
		return (struct simhca_cmd) {
			.opcode = SIMHCA_CMD_QUERY_QP,
			.payload.query_qp.qpn = BARE_QPN(BARE_RC_A),
		};
	case CMD_DESTROY_QP:
		return cmd_destroy(SIMHCA_CMD_DESTROY_QP, BARE_QPN(BARE_RC_A));
	case CMD_QUERY_STATS:
		return (struct simhca_cmd) { .opcode = SIMHCA_CMD_QUERY_STATS };
	case CMD_ATTACH_MCAST:
		return cmd_mcast(SIMHCA_CMD_ATTACH_MCAST, 2);
	case CMD_DETACH_MCAST:
		return cmd_mcast(SIMHCA_CMD_DETACH_MCAST, 1);
	case CMD_KINDS:
		break;
	}
	abort();
}

void bare_make_cmd(struct bare *b, struct bare_hca *h, unsigned int i, struct simhca_cmd *cmd)
{
	*cmd = make_cmd(b, h, i);
	cmd->token = 0xc0de + i;
	cmd->out_addr = BARE_OUT;
}

/* ---- work requests ---- */

struct bare_send_kind {
	enum bare_qp qp;
	uint8_t opcode;
	uint8_t flags;
	uint8_t num_sge;
	uint16_t length;	/* of each SGE, or of inline data */
	uint32_t rkey;
	uint64_t remote_addr;
};

#define IN_BUF	BARE_KEY, BARE_BUF

static const struct bare_send_kind bare_sends[] = {
	{ BARE_RC_A, SIMHCA_WR_RDMA_WRITE, 0, 2, 3000, IN_BUF },
	{ BARE_RC_A, SIMHCA_WR_RDMA_WRITE, SIMHCA_WR_INLINE, 0, 100, BARE_KEY_SEGS, 4000 },
	{ BARE_RC_A, SIMHCA_WR_RDMA_WRITE_WITH_IMM, 0, 1, 100, IN_BUF },
	{ BARE_RC_A, SIMHCA_WR_SEND, SIMHCA_WR_SOLICITED, 16, 16, 0, 0 },
	{ BARE_RC_A, SIMHCA_WR_SEND_WITH_IMM, SIMHCA_WR_INLINE, 0, 256, 0, 0 },
	{ BARE_RC_A, SIMHCA_WR_RDMA_READ, SIMHCA_WR_FENCE, 2, 4096, BARE_KEY_SEGS, 0 },
	{ BARE_RC_A, SIMHCA_WR_ATOMIC_CMP_AND_SWP, 0, 1, 8, IN_BUF + 8 },
	{ BARE_RC_A, SIMHCA_WR_ATOMIC_FETCH_AND_ADD, 0, 1, 8, IN_BUF + 16 },
	{ BARE_RC_A, SIMHCA_WR_ATOMIC_WRITE, 0, 1, 8, IN_BUF + 24 },
	{ BARE_RC_A, SIMHCA_WR_FLUSH, 0, 0, 0, IN_BUF },
	{ BARE_RC_A, SIMHCA_WR_BIND_MW, 0, 0, 0, BARE_KEY_MW1 | 1, 0 },
	{ BARE_RC_A, SIMHCA_WR_BIND_MW, 0, 0, 0, BARE_KEY_MW2 | 1, 0 },
	{ BARE_RC_A, SIMHCA_WR_LOCAL_INV, 0, 0, 0, BARE_KEY_MW2 | 1, 0 },
	{ BARE_RC_A, SIMHCA_WR_REG_MR, 0, 0, 0, BARE_KEY_FAST | 1, 0 },
	{ BARE_RC_A, SIMHCA_WR_SEND_WITH_INV, 0, 1, 8, BARE_KEY_FAST | 1, 0 },
	{ BARE_UC_A, SIMHCA_WR_RDMA_WRITE_WITH_IMM, 0, 1, 2000, IN_BUF },
	{ BARE_UC_A, SIMHCA_WR_SEND, 0, 2, 500, 0, 0 },
	{ BARE_UD, SIMHCA_WR_SEND, 0, 2, 100, 0, 0 },
	{ BARE_UD, SIMHCA_WR_SEND_WITH_IMM, SIMHCA_WR_INLINE, 0, 64, 1, 0 },
	{ BARE_RC_SRQ, SIMHCA_WR_SEND, 0, 3, 500, 0, 0 },
	{ BARE_RC_FAR, SIMHCA_WR_RDMA_WRITE, 0, 1, 4096, IN_BUF },
	{ BARE_RC_FAR, SIMHCA_WR_RDMA_READ, 0, 1, 4096, BARE_KEY_DMA, BARE_BUF },
};

unsigned int bare_num_sends(void)
{
	return sizeof(bare_sends) / sizeof(bare_sends[0]);
}

static void make_mem(struct bare_hca *h, const struct bare_send_kind *kind,
		     struct simhca_mem_wqe *mem)
{
	const uint32_t n = 3;
	struct simhca_seg *segs = bare_ptr(h, BARE_CHUNKS);
	uint32_t i;

	*mem = (struct simhca_mem_wqe) {
		.addr = BARE_BUF,
		.length = SIMHCA_PAGE_SIZE,
		.lkey = BARE_KEY,
		.access = SIMHCA_ACCESS_REMOTE_WRITE | SIMHCA_ACCESS_REMOTE_READ,
	};
	if (kind->opcode == SIMHCA_WR_FLUSH)
		mem->access = SIMHCA_ACCESS_FLUSH_GLOBAL;
	if (kind->opcode != SIMHCA_WR_REG_MR)
		return;
	for (i = 0; i < n; i++)
		segs[i] = (struct simhca_seg) { BARE_BUF + 0x2000 * i, SIMHCA_PAGE_SIZE };
	mem->access |= SIMHCA_ACCESS_LOCAL_WRITE;
	mem->length = n * SIMHCA_PAGE_SIZE;
	mem->segs = BARE_CHUNKS;
	mem->num_segs = n;
}

/* A datagram goes to the UD QP of the other HCA, or, with an rkey, to the group. */
static void make_dest(struct bare *b, struct bare_hca *h, const struct bare_send_kind *kind,
		      struct simhca_ud_dest *dest)
{
	const struct bare_hca *other = &b->hca[h == &b->hca[0]];

	*dest = (struct simhca_ud_dest) { .qpn = BARE_QPN(BARE_UD), .qkey = BARE_QKEY };
	memcpy(dest->dgid, other->gid, sizeof(dest->dgid));
	if (kind->rkey)
		memcpy(dest->dgid, (const uint8_t[16]) { 0xff, [15] = 1 }, sizeof(dest->dgid));
}

void bare_make_send(struct bare *b, struct bare_hca *h, unsigned int i, struct bare_send *send)
{
	const struct bare_send_kind *kind = &bare_sends[i];
	struct simhca_sq_wqe wqe = {
		.opcode = kind->opcode,
		.flags = kind->flags | SIMHCA_WR_SIGNALED,
		.num_sge = kind->num_sge,
		.imm_data = 0x11223344,
		.inline_len = kind->flags & SIMHCA_WR_INLINE ? kind->length : 0,
		.rkey = kind->rkey,
		.remote_addr = kind->remote_addr,
	};
	struct simhca_sge *sge = (struct simhca_sge *)(send->entry + sizeof(wqe));
	unsigned int k;

	memset(send, 0, sizeof(*send));
	send->qp = kind->qp;
	if (kind->qp == BARE_UD)
		make_dest(b, h, kind, &wqe.ud);
	memcpy(send->entry, &wqe, sizeof(wqe));
	if (kind->opcode == SIMHCA_WR_BIND_MW || kind->opcode == SIMHCA_WR_REG_MR ||
	    kind->opcode == SIMHCA_WR_FLUSH)
		make_mem(h, kind, (struct simhca_mem_wqe *)sge);
	for (k = 0; k < kind->num_sge; k++)
		sge[k] = (struct simhca_sge) {
			.addr = BARE_BUF + 0x1000 + k * kind->length,
			.length = kind->length,
			.lkey = BARE_KEY,
		};
}

void bare_post_send(struct bare_hca *h, const struct bare_send *send)
{
	uint32_t pos = h->sq_pi[send->qp]++ % (1u << BARE_WR_LOG);
	struct simhca_uar *uar = dev_uar(h->dev, BARE_UAR);

	memcpy(bare_ptr(h, BARE_SQ(send->qp) + ((uint64_t)pos << BARE_SQ_STRIDE)), send->entry,
	       sizeof(send->entry));
	__atomic_store_n(&uar->qp[send->qp].sq_pi, h->sq_pi[send->qp], __ATOMIC_RELAXED);
	__atomic_store_n(&uar->sq_group[send->qp / SIMHCA_QPS_PER_GROUP], 1, __ATOMIC_RELAXED);
}

void bare_make_recv(uint8_t entry[1 << BARE_RQ_STRIDE])
{
	const struct simhca_rq_wqe wqe = { .num_sge = 2, .tag = 7 };
	const struct simhca_sge sge[2] = {
		{ .addr = BARE_BUF, .length = 100, .lkey = BARE_KEY },
		{ .addr = 0x1000, .length = 4000, .lkey = BARE_KEY_SEGS },
	};

	memset(entry, 0, 1 << BARE_RQ_STRIDE);
	memcpy(entry, &wqe, sizeof(wqe));
	memcpy(entry + sizeof(wqe), sge, sizeof(sge));
}

void bare_post_recv(struct bare_hca *h, enum bare_qp qp, const uint8_t entry[1 << BARE_RQ_STRIDE])
{
	bool srq = qp == BARE_RC_SRQ;
	uint32_t *pi = srq ? &h->srq_pi : &h->rq_pi[qp];
	uint32_t pos = (*pi)++ % (1u << BARE_WR_LOG);
	struct simhca_uar *uar = dev_uar(h->dev, BARE_UAR);

	memcpy(bare_ptr(h, (srq ? BARE_SRQ : BARE_RQ(qp)) + ((uint64_t)pos << BARE_RQ_STRIDE)), entry,
	       1 << BARE_RQ_STRIDE);
	__atomic_store_n(srq ? &uar->srq[0].pi : &uar->qp[qp].rq_pi, *pi, __ATOMIC_RELAXED);
}

bool bare_reconnect(struct bare *b, struct bare_hca *h, enum bare_qp qp)
{
	struct bare_hca *peer_hca;
	enum bare_qp peer = bare_peer(b, h, qp, &peer_hca);
	struct {
		struct bare_hca *h;
		enum bare_qp qp;
	} end[2] = { { h, qp }, { peer_hca, peer } };
	struct simhca_cmd cmd;
	unsigned int i;
	uint8_t state;

	for (state = SIMHCA_QPS_RESET; state <= SIMHCA_QPS_RTS; state++) {
		for (i = 0; i < 2; i++) {
			cmd = cmd_modify(b, end[i].h, end[i].qp, state);
			if (bare_cmd(b, end[i].h, &cmd))
				return false;
			end[i].h->sq_pi[end[i].qp] = 0;
			end[i].h->rq_pi[end[i].qp] = 0;
		}
	}
	return true;
}

void bare_consume(struct bare_hca *h)
{
	struct simhca_dev *dev = h->dev;
	struct engine_cq *cq;
	uint32_t i;

	for (i = 0; i < 2; i++) {
		cq = idtab_get(&dev->hca.cqs, BARE_CQN(i));
		if (cq)
			__atomic_store_n(&dev_uar(dev, BARE_UAR)->cq[i].ci, to_cq(cq)->pi,
					 __ATOMIC_RELAXED);
		if (dev->eqs[i])
			__atomic_store_n(&dev_uar(dev, SIMHCA_KERNEL_UAR)->eq_ci[i], dev->eqs[i]->pi,
					 __ATOMIC_RELAXED);
	}
}

/* ---- lies ---- */

static const uint64_t bare_lies[] = {
	0, 1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 17, 31, 32, 64, 100, 127, 128, 255, 256, 257,
	0x7ff, 0x800, 0xfff, 0x1000, 0x1001, 0x2000, 0x6000, 0x7fff, 0x8000, 0xffff, 0x10000,
	BARE_CMDQ, BARE_RSPQ, BARE_OUT, BARE_EQ(0), BARE_EQ(1), BARE_CQ(0), BARE_CQ(1), BARE_CHUNKS,
	BARE_SQ(0), BARE_RQ(0), BARE_SRQ, BARE_BUF, BARE_BUF + 1, BARE_FENCE - 8, BARE_FENCE,
	BARE_FENCE + 0xff8, BARE_RAM + BARE_RAM_SIZE - 1, BARE_RAM + BARE_RAM_SIZE,
	BARE_KEY | 1, BARE_KEY_SEGS, BARE_KEY_FAST, BARE_KEY_FAST | 1, BARE_KEY_MW1, BARE_KEY_MW1 | 1,
	BARE_KEY_MW2, BARE_KEY_MW2 | 1, BARE_KEY_DMA, 0x7fffff00, 0xfffff, 1ull << 20,
	(1ull << 26) - 1, 1ull << 26, 0x7fffffff, 0x80000000, 0xfffff000, 0xffffffff, 1ull << 32,
	1ull << 63, UINT64_MAX - 0xfff, UINT64_MAX,
};

unsigned int bare_num_lies(void)
{
	return sizeof(bare_lies) / sizeof(bare_lies[0]);
}

uint64_t bare_lie(unsigned int i)
{
	return bare_lies[i];
}
