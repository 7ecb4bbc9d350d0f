// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* A guest made of a memfd. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "front_client.h"
#include "vfu_client.h"

#define GUEST_TIMEOUT_MS	20000

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- messages ---- */

/* Sends a command and takes its reply, which must be good; returns the reply's descriptor or -1. */
static int transact_fds(struct guest *g, uint16_t command, const void *payload, size_t len,
			void *reply, size_t reply_len, const int *fds, unsigned int num_fds)
{
	struct message m = {
		.hdr = { .command = command, .size = sizeof(m.hdr) + len },
		.len = len,
		.num_fds = num_fds,
	};

	memcpy(m.payload, payload, len);
	memcpy(m.fds, fds, num_fds * sizeof(*fds));
	pthread_mutex_lock(&g->lock);
	m.hdr.id = ++g->msg_id;
	send_message(g->sock, &m);
	assert_true(receive_message(g->sock, &m));
	assert_int_equal(m.hdr.id, g->msg_id);
	pthread_mutex_unlock(&g->lock);
	assert_int_equal(m.hdr.flags, VFU_F_TYPE_REPLY);
	assert_true(m.len >= reply_len);
	memcpy(reply, m.payload, reply_len);
	return m.num_fds ? m.fds[0] : -1;
}

static void transact_plain(struct guest *g, uint16_t command, const void *payload, size_t len,
			   void *reply, size_t reply_len)
{
	transact_fds(g, command, payload, len, reply, reply_len, &g->sock, 0);
}

static void guest_negotiate(struct guest *g)
{
	struct message m;

	make_version(&m);
	send_message(g->sock, &m);
	assert_true(receive_message(g->sock, &m));
	assert_int_equal(m.hdr.flags, VFU_F_TYPE_REPLY);
}

static void bar_write(struct guest *g, uint32_t region, uint64_t offset, const void *data,
			 uint32_t len)
{
	struct {
		struct vfu_region_rw rw;
		uint8_t data[8];
	} req = { .rw = { .offset = offset, .region = region, .count = len } };
	struct vfu_region_rw reply;

	memcpy(req.data, data, len);
	transact_plain(g, VFU_REGION_WRITE, &req, sizeof(req.rw) + len, &reply, sizeof(reply));
}

static void bar_read(struct guest *g, uint32_t region, uint64_t offset, void *data,
			uint32_t len)
{
	struct vfu_region_rw req = { .offset = offset, .region = region, .count = len };
	struct {
		struct vfu_region_rw rw;
		uint8_t data[8];
	} reply;

	transact_plain(g, VFU_REGION_READ, &req, sizeof(req), &reply, sizeof(reply.rw) + len);
	memcpy(data, reply.data, len);
}

uint32_t guest_reg_read(struct guest *g, uint32_t reg)
{
	uint32_t value;

	bar_read(g, VFIO_PCI_BAR0_REGION_INDEX, reg, &value, sizeof(value));
	return value;
}

uint64_t guest_reg_read64(struct guest *g, uint32_t reg)
{
	uint64_t value;

	bar_read(g, VFIO_PCI_BAR0_REGION_INDEX, reg, &value, sizeof(value));
	return value;
}

void guest_reg_write(struct guest *g, uint32_t reg, uint32_t value)
{
	bar_write(g, VFIO_PCI_BAR0_REGION_INDEX, reg, &value, sizeof(value));
}

void guest_config_write16(struct guest *g, uint32_t reg, uint16_t value)
{
	bar_write(g, VFIO_PCI_CONFIG_REGION_INDEX, reg, &value, sizeof(value));
}

uint32_t guest_config_read(struct guest *g, uint32_t reg)
{
	uint32_t value;

	bar_read(g, VFIO_PCI_CONFIG_REGION_INDEX, reg, &value, sizeof(value));
	return value;
}

void guest_device_reset(struct guest *g)
{
	transact_plain(g, VFU_DEVICE_RESET, "", 0, &g->msg_id, 0);
}

void guest_dma_map(struct guest *g, uint64_t iova, uint64_t size, int fd, uint64_t offset)
{
	struct vfu_dma_map_req req = {
		.argsz = sizeof(req),
		.flags = VFU_DMA_F_READ | VFU_DMA_F_WRITE,
		.offset = offset,
		.address = iova,
		.size = size,
	};

	transact_fds(g, VFU_DMA_MAP, &req, sizeof(req), &req, 0, &fd, 1);
}

void guest_dma_unmap(struct guest *g, uint64_t iova, uint64_t size)
{
	struct vfu_dma_unmap req = { .argsz = sizeof(req), .address = iova, .size = size };

	transact_plain(g, VFU_DMA_UNMAP, &req, sizeof(req), &req, sizeof(req));
}

static void guest_map_doorbells(struct guest *g)
{
	struct vfu_region_info info = {
		.argsz = 4096,
		.index = VFIO_PCI_BAR2_REGION_INDEX,
	};
	int fd;

	fd = transact_fds(g, VFU_DEVICE_GET_REGION_INFO, &info, sizeof(info), &info, sizeof(info),
			  &g->sock, 0);
	assert_true(fd >= 0);
	assert_int_equal(info.size, SIMHCA_BAR_DB_SIZE);
	g->db = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, info.offset);
	assert_true(g->db != MAP_FAILED);
	close(fd);
}

void guest_hook_irqs(struct guest *g)
{
	struct vfu_irq_set set = {
		.argsz = sizeof(set),
		.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = VFIO_PCI_MSIX_IRQ_INDEX,
		.count = SIMHCA_NUM_VECTORS,
	};

	transact_fds(g, VFU_DEVICE_SET_IRQS, &set, sizeof(set), &set, 0, g->irq,
		     SIMHCA_NUM_VECTORS);
}

void guest_unhook_irqs(struct guest *g)
{
	struct vfu_irq_set set = {
		.argsz = sizeof(set),
		.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = VFIO_PCI_MSIX_IRQ_INDEX,
	};

	transact_plain(g, VFU_DEVICE_SET_IRQS, &set, sizeof(set), &set, 0);
}

void guest_init(struct guest *g, int sock)
{
	unsigned int i;

	memset(g, 0, sizeof(*g));
	pthread_mutex_init(&g->lock, NULL);
	g->sock = sock;
	for (i = 0; i < SIMHCA_NUM_VECTORS; i++)
		g->irq[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	g->ram_fd = memfd_create("guest", MFD_CLOEXEC);
	assert_true(g->ram_fd >= 0);
	assert_int_equal(ftruncate(g->ram_fd, GUEST_RAM_SIZE), 0);
	g->ram = mmap(NULL, GUEST_RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, g->ram_fd, 0);
	assert_true(g->ram != MAP_FAILED);

	guest_negotiate(g);
	guest_map_doorbells(g);
	guest_hook_irqs(g);
	guest_dma_map(g, GUEST_RAM_IOVA, GUEST_RAM_SIZE, g->ram_fd, 0);
	guest_config_write16(g, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

void guest_fini(struct guest *g)
{
	unsigned int i;

	close(g->sock);
	pthread_mutex_destroy(&g->lock);
	for (i = 0; i < SIMHCA_NUM_VECTORS; i++)
		close(g->irq[i]);
	munmap(g->db, SIMHCA_BAR_DB_SIZE);
	munmap(g->ram, GUEST_RAM_SIZE);
	close(g->ram_fd);
}

/* ---- memory ---- */

uint64_t guest_alloc(struct guest *g, uint64_t size, uint64_t align)
{
	uint64_t at = (g->ram_used + align - 1) / align * align;

	assert_true(at + size <= GUEST_RAM_SIZE);
	g->ram_used = at + size;
	memset(g->ram + at, 0, size);
	return GUEST_RAM_IOVA + at;
}

struct simhca_uar *guest_uar(struct guest *g, uint32_t index)
{
	return (struct simhca_uar *)(g->db + index * SIMHCA_PAGE_SIZE);
}

struct simhca_status_page *guest_status(struct guest *g)
{
	return (struct simhca_status_page *)g->db;
}

/* ---- commands ---- */

void guest_enable(struct guest *g)
{
	g->cmdq = guest_alloc(g, sizeof(struct simhca_cmd) << GUEST_CMDQ_LOG, SIMHCA_PAGE_SIZE);
	g->rspq = guest_alloc(g, sizeof(struct simhca_rsp) << GUEST_CMDQ_LOG, SIMHCA_PAGE_SIZE);
	g->out = guest_alloc(g, SIMHCA_PAGE_SIZE, SIMHCA_PAGE_SIZE);
	g->cmdq_pi = 0;
	guest_reg_write(g, SIMHCA_REG_CMDQ_BASE, g->cmdq);
	guest_reg_write(g, SIMHCA_REG_CMDQ_BASE + 4, g->cmdq >> 32);
	guest_reg_write(g, SIMHCA_REG_RSPQ_BASE, g->rspq);
	guest_reg_write(g, SIMHCA_REG_RSPQ_BASE + 4, g->rspq >> 32);
	guest_reg_write(g, SIMHCA_REG_CMDQ_LOG_SIZE, GUEST_CMDQ_LOG);
	guest_reg_write(g, SIMHCA_REG_CTRL, SIMHCA_CTRL_ENABLE);
	assert_int_equal(guest_reg_read(g, SIMHCA_REG_STATUS), SIMHCA_STATUS_ENABLED);
}

void guest_kick_if_asleep(struct guest *g)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&guest_status(g)->asleep, __ATOMIC_RELAXED))
		guest_reg_write(g, SIMHCA_KICK_PAGE + SIMHCA_KICK_REG, 1);
}

uint16_t guest_cmd(struct guest *g, struct simhca_cmd *cmd)
{
	uint32_t size = 1u << GUEST_CMDQ_LOG;
	uint32_t entry = g->cmdq_pi % size;
	uint8_t phase = !(g->cmdq_pi & size);
	struct simhca_rsp *rsp = (struct simhca_rsp *)guest_ptr(g, g->rspq) + entry;
	uint64_t deadline = now_ms() + GUEST_TIMEOUT_MS;

	cmd->token = 0xc0de0000 + g->cmdq_pi;
	((struct simhca_cmd *)guest_ptr(g, g->cmdq))[entry] = *cmd;
	g->cmdq_pi++;
	__atomic_store_n(&guest_uar(g, SIMHCA_KERNEL_UAR)->cmdq_pi, g->cmdq_pi, __ATOMIC_RELEASE);
	guest_kick_if_asleep(g);
	while (__atomic_load_n(&rsp->phase, __ATOMIC_ACQUIRE) != phase) {
		assert_true(now_ms() < deadline);
		usleep(10);
	}
	assert_int_equal(rsp->token, cmd->token);
	assert_int_equal(rsp->opcode, cmd->opcode);
	return rsp->status;
}

uint16_t guest_destroy(struct guest *g, uint16_t opcode, uint32_t id)
{
	struct simhca_cmd cmd = { .opcode = opcode, .payload.destroy.id = id };

	return guest_cmd(g, &cmd);
}

/* ---- set-up ---- */

void guest_setup(struct guest *g, uint8_t gid_last)
{
	struct simhca_cmd cmd;
	uint32_t i;

	guest_enable(g);
	for (i = 0; i < 2; i++) {
		g->eq[i] = guest_alloc(g, sizeof(struct simhca_eqe) << GUEST_EQ_LOG, 4096);
		g->eq_ci[i] = 0;
		cmd = (struct simhca_cmd) {
			.opcode = SIMHCA_CMD_CREATE_EQ,
			.payload.create_eq = {
				.eqn = i,
				.vector = i,
				.log_size = GUEST_EQ_LOG,
				.ring = guest_sgl(g->eq[i],
						  sizeof(struct simhca_eqe) << GUEST_EQ_LOG),
			},
		};
		assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_OK);
	}
	memset(g->gid, 0, sizeof(g->gid));
	g->gid[0] = 0xfe;
	g->gid[1] = 0x80;
	g->gid[15] = gid_last;
	cmd = (struct simhca_cmd) {
		.opcode = SIMHCA_CMD_SET_GID,
		.payload.set_gid = { .index = 0, .valid = 1 },
	};
	memcpy(cmd.payload.set_gid.gid, g->gid, sizeof(g->gid));
	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_OK);
}

bool guest_next_event(struct guest *g, uint32_t eqn, uint32_t *event, uint32_t *id)
{
	uint32_t size = 1u << GUEST_EQ_LOG;
	struct simhca_eqe *eqe;

	eqe = (struct simhca_eqe *)guest_ptr(g, g->eq[eqn]) + g->eq_ci[eqn] % size;
	if (__atomic_load_n(&eqe->phase, __ATOMIC_ACQUIRE) != !(g->eq_ci[eqn] & size))
		return false;
	*event = eqe->event;
	*id = eqe->id;
	g->eq_ci[eqn]++;
	__atomic_store_n(&guest_uar(g, SIMHCA_KERNEL_UAR)->eq_ci[eqn], g->eq_ci[eqn],
			 __ATOMIC_RELEASE);
	return true;
}

bool guest_wait_irq(struct guest *g, unsigned int vector, int ms)
{
	struct pollfd pfd = { .fd = g->irq[vector], .events = POLLIN };
	uint64_t count;

	return poll(&pfd, 1, ms) == 1 &&
	       read(g->irq[vector], &count, sizeof(count)) == sizeof(count);
}

struct simhca_sgl guest_sgl(uint64_t addr, uint64_t length)
{
	return (struct simhca_sgl) { .addr = addr, .length = length, .nsegs = 1 };
}

struct simhca_sgl guest_sgl_segs(struct guest *g, const struct simhca_seg *segs, uint32_t n)
{
	struct simhca_sgl sgl = { .nsegs = n };
	uint32_t i, chunks = (n + SIMHCA_SEGS_PER_CHUNK - 1) / SIMHCA_SEGS_PER_CHUNK;
	struct simhca_seg_chunk *chunk;

	sgl.addr = guest_alloc(g, chunks * sizeof(*chunk), SIMHCA_PAGE_SIZE);
	chunk = guest_ptr(g, sgl.addr);
	for (i = 0; i < n; i++) {
		struct simhca_seg_chunk *c = &chunk[i / SIMHCA_SEGS_PER_CHUNK];

		c->segs[c->nsegs++] = segs[i];
		sgl.length += segs[i].len;
	}
	for (i = 0; i + 1 < chunks; i++)
		chunk[i].next = sgl.addr + (i + 1) * sizeof(*chunk);
	return sgl;
}

uint16_t guest_create_mr(struct guest *g, uint32_t key, uint32_t access, uint64_t iova,
			 struct simhca_sgl sgl)
{
	struct simhca_cmd cmd = {
		.opcode = SIMHCA_CMD_CREATE_MR,
		.payload.create_mr = {
			.key = key,
			.pdn = GUEST_PDN,
			.access = access,
			.iova = iova,
			.length = sgl.length,
			.sgl = sgl,
		},
	};

	return guest_cmd(g, &cmd);
}

uint16_t guest_create_cq(struct guest *g, struct guest_cq *cq, uint32_t cqn, uint32_t log_size)
{
	return guest_create_cq_ex(g, cq, cqn, log_size, 0);
}

uint16_t guest_create_cq_ex(struct guest *g, struct guest_cq *cq, uint32_t cqn, uint32_t log_size,
			    uint32_t flags)
{
	uint64_t len = sizeof(struct simhca_cqe) << log_size;
	struct simhca_cmd cmd;

	*cq = (struct guest_cq) {
		.g = g,
		.cqn = cqn,
		.log_size = log_size,
		.uar = SIMHCA_FIRST_USER_UAR,
		.slot = cqn % SIMHCA_UAR_CQ_SLOTS,
		.ring = guest_alloc(g, len, SIMHCA_PAGE_SIZE),
	};
	cmd = (struct simhca_cmd) {
		.opcode = SIMHCA_CMD_CREATE_CQ,
		.payload.create_cq = {
			.cqn = cqn,
			.eqn = 1,
			.uar = cq->uar,
			.slot = cq->slot,
			.log_size = log_size,
			.flags = flags,
			.ring = guest_sgl(cq->ring, len),
		},
	};
	return guest_cmd(g, &cmd);
}

uint16_t guest_create_qp(struct guest *g, struct guest_qp *qp, uint32_t qpn, struct guest_cq *cq)
{
	return guest_create_qp_type(g, qp, qpn, cq, SIMHCA_QPT_RC, 0);
}

uint16_t guest_create_qp_srq(struct guest *g, struct guest_qp *qp, uint32_t qpn,
			     struct guest_cq *cq, uint32_t srqn)
{
	return guest_create_qp_type(g, qp, qpn, cq, SIMHCA_QPT_RC, srqn);
}

uint16_t guest_create_qp_type(struct guest *g, struct guest_qp *qp, uint32_t qpn,
			      struct guest_cq *cq, uint32_t type, uint32_t srqn)
{
	uint64_t sq_len = 1ull << (GUEST_WR_LOG + GUEST_SQ_STRIDE);
	uint64_t rq_len = 1ull << (GUEST_WR_LOG + GUEST_RQ_STRIDE);
	struct simhca_cmd cmd;

	*qp = (struct guest_qp) {
		.g = g,
		.qpn = qpn,
		.uar = SIMHCA_FIRST_USER_UAR + qpn / SIMHCA_UAR_QP_SLOTS,
		.slot = qpn % SIMHCA_UAR_QP_SLOTS,
		.sq = guest_alloc(g, sq_len, SIMHCA_PAGE_SIZE),
		.rq = guest_alloc(g, rq_len, SIMHCA_PAGE_SIZE),
		.cq = cq,
	};
	cmd = (struct simhca_cmd) {
		.opcode = SIMHCA_CMD_CREATE_QP,
		.payload.create_qp = {
			.qpn = qpn,
			.type = type,
			.pdn = GUEST_PDN,
			.send_cqn = cq->cqn,
			.recv_cqn = cq->cqn,
			.srqn = srqn,
			.uar = qp->uar,
			.slot = qp->slot,
			.sq_log_size = GUEST_WR_LOG,
			.sq_log_stride = GUEST_SQ_STRIDE,
			.rq_log_size = GUEST_WR_LOG,
			.rq_log_stride = GUEST_RQ_STRIDE,
			.sq = guest_sgl(qp->sq, sq_len),
			.rq = srqn ? (struct simhca_sgl) { 0 } : guest_sgl(qp->rq, rq_len),
		},
	};
	return guest_cmd(g, &cmd);
}

uint16_t guest_modify(struct guest_qp *qp, struct simhca_qp_attr *attr)
{
	struct simhca_cmd cmd = { .opcode = SIMHCA_CMD_MODIFY_QP, .payload.modify_qp = *attr };

	cmd.payload.modify_qp.qpn = qp->qpn;
	return guest_cmd(qp->g, &cmd);
}

uint16_t guest_modify_state(struct guest_qp *qp, uint8_t state)
{
	struct simhca_qp_attr attr = { .mask = SIMHCA_QP_STATE, .state = state };

	return guest_modify(qp, &attr);
}

uint16_t guest_query_qp(struct guest_qp *qp, struct simhca_qp_attr *attr)
{
	struct simhca_cmd cmd = {
		.opcode = SIMHCA_CMD_QUERY_QP,
		.out_addr = qp->g->out,
		.payload.query_qp.qpn = qp->qpn,
	};
	uint16_t status = guest_cmd(qp->g, &cmd);

	memcpy(attr, guest_ptr(qp->g, qp->g->out), sizeof(*attr));
	return status;
}

void guest_ud_start(struct guest_qp *qp, uint32_t qkey)
{
	struct simhca_qp_attr attr = {
		.mask = SIMHCA_QP_STATE | SIMHCA_QP_QKEY,
		.state = SIMHCA_QPS_INIT,
		.qkey = qkey,
		.path_mtu = 3,
	};

	assert_int_equal(guest_modify(qp, &attr), SIMHCA_CMD_OK);
	attr.state = SIMHCA_QPS_RTR;
	attr.mask = SIMHCA_QP_STATE | SIMHCA_QP_PATH_MTU;
	assert_int_equal(guest_modify(qp, &attr), SIMHCA_CMD_OK);
	attr.state = SIMHCA_QPS_RTS;
	attr.mask = SIMHCA_QP_STATE | SIMHCA_QP_SQ_PSN;
	assert_int_equal(guest_modify(qp, &attr), SIMHCA_CMD_OK);
}

void guest_connect(struct guest_qp *qp, struct guest_qp *dest)
{
	struct simhca_qp_attr attr = {
		.mask = SIMHCA_QP_STATE | SIMHCA_QP_ACCESS,
		.state = SIMHCA_QPS_INIT,
		.access = SIMHCA_ACCESS_REMOTE_WRITE | SIMHCA_ACCESS_REMOTE_READ |
			  SIMHCA_ACCESS_REMOTE_ATOMIC,
		.path_mtu = 3,
		.min_rnr_timer = 12,
		.max_dest_rd_atomic = 16,
		.max_rd_atomic = 16,
		.timeout = 8,
		.retry_cnt = 2,
		.rnr_retry = 7,
		.rq_psn = dest->qpn,
		.sq_psn = qp->qpn,
		.dest_qpn = dest->qpn,
	};

	memcpy(attr.dgid, dest->g->gid, sizeof(attr.dgid));
	assert_int_equal(guest_modify(qp, &attr), SIMHCA_CMD_OK);
	attr.state = SIMHCA_QPS_RTR;
	attr.mask = SIMHCA_QP_STATE | SIMHCA_QP_AV | SIMHCA_QP_PATH_MTU | SIMHCA_QP_DEST_QPN |
		    SIMHCA_QP_RQ_PSN | SIMHCA_QP_MAX_DEST_RD_ATOMIC | SIMHCA_QP_MIN_RNR_TIMER;
	assert_int_equal(guest_modify(qp, &attr), SIMHCA_CMD_OK);
	attr.state = SIMHCA_QPS_RTS;
	attr.mask = SIMHCA_QP_STATE | SIMHCA_QP_TIMEOUT | SIMHCA_QP_RETRY_CNT |
		    SIMHCA_QP_RNR_RETRY | SIMHCA_QP_SQ_PSN | SIMHCA_QP_MAX_RD_ATOMIC;
	assert_int_equal(guest_modify(qp, &attr), SIMHCA_CMD_OK);
}

/* ---- data path ---- */

void guest_post_send(struct guest_qp *qp, const struct simhca_sq_wqe *wqe, uint64_t addr,
		     uint32_t length, uint32_t lkey)
{
	uint32_t entry = qp->sq_pi % (1u << GUEST_WR_LOG);
	uint8_t *at = guest_ptr(qp->g, qp->sq + ((uint64_t)entry << GUEST_SQ_STRIDE));
	struct simhca_sge sge = { .addr = addr, .length = length, .lkey = lkey };

	memcpy(at, wqe, sizeof(*wqe));
	if (!(wqe->flags & SIMHCA_WR_INLINE))
		memcpy(at + sizeof(*wqe), &sge, sizeof(sge));
	else
		memcpy(at + sizeof(*wqe), guest_ptr(qp->g, addr), wqe->inline_len);
	qp->sq_pi++;
}

void guest_post_mem(struct guest_qp *qp, const struct simhca_sq_wqe *wqe,
		    const struct simhca_mem_wqe *mem)
{
	uint32_t entry = qp->sq_pi % (1u << GUEST_WR_LOG);
	uint8_t *at = guest_ptr(qp->g, qp->sq + ((uint64_t)entry << GUEST_SQ_STRIDE));

	memcpy(at, wqe, sizeof(*wqe));
	memcpy(at + sizeof(*wqe), mem, sizeof(*mem));
	qp->sq_pi++;
}

void guest_post_recv(struct guest_qp *qp, uint64_t addr, uint32_t length, uint32_t lkey)
{
	uint32_t entry = qp->rq_pi % (1u << GUEST_WR_LOG);
	uint8_t *at = guest_ptr(qp->g, qp->rq + ((uint64_t)entry << GUEST_RQ_STRIDE));
	struct simhca_rq_wqe wqe = { .num_sge = 1 };
	struct simhca_sge sge = { .addr = addr, .length = length, .lkey = lkey };

	memcpy(at, &wqe, sizeof(wqe));
	memcpy(at + sizeof(wqe), &sge, sizeof(sge));
	qp->rq_pi++;
	__atomic_store_n(&guest_uar(qp->g, qp->uar)->qp[qp->slot].rq_pi, qp->rq_pi,
			 __ATOMIC_RELEASE);
}

void guest_ring(struct guest_qp *qp)
{
	struct simhca_uar *uar = guest_uar(qp->g, qp->uar);

	__atomic_store_n(&uar->qp[qp->slot].sq_pi, qp->sq_pi, __ATOMIC_RELEASE);
	__atomic_store_n(&uar->sq_group[qp->slot / SIMHCA_QPS_PER_GROUP], 1, __ATOMIC_RELEASE);
	guest_kick_if_asleep(qp->g);
}

bool guest_poll(struct guest_cq *cq, struct simhca_cqe *cqe)
{
	uint32_t size = 1u << cq->log_size;
	struct simhca_cqe *at = (struct simhca_cqe *)guest_ptr(cq->g, cq->ring) + cq->ci % size;

	if (__atomic_load_n(&at->phase, __ATOMIC_ACQUIRE) != !(cq->ci & size))
		return false;
	*cqe = *at;
	cq->ci++;
	__atomic_store_n(&guest_uar(cq->g, cq->uar)->cq[cq->slot].ci, cq->ci, __ATOMIC_RELEASE);
	return true;
}

bool guest_poll_wait(struct guest_cq *cq, struct simhca_cqe *cqe, int ms)
{
	uint64_t deadline = now_ms() + ms;
	unsigned int i;

	for (i = 0; !guest_poll(cq, cqe); i++) {
		if (now_ms() >= deadline)
			return false;
		if (i > 1000)
			usleep(20);
	}
	return true;
}

void guest_arm(struct guest_cq *cq, bool solicited)
{
	struct simhca_cq_db *db = &guest_uar(cq->g, cq->uar)->cq[cq->slot];
	uint32_t seq = (db->arm >> SIMHCA_CQ_ARM_SEQ_SHIFT) + 1;

	__atomic_store_n(&db->arm, seq << SIMHCA_CQ_ARM_SEQ_SHIFT |
			 (solicited ? SIMHCA_CQ_ARM_SOLICITED : 0), __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* ---- the process ---- */

int front_setup_with(void **state, unsigned int naps, uint32_t max_mr)
{
	static const uint8_t mac[6] = { 0x52, 0x54, 0x00, 0xc0, 0x00, 0x07 };
	struct front *t = calloc(1, sizeof(*t));
	unsigned int i;
	int sv[2];

	assert_non_null(t);
	t->poller = poller_create(POLLER_SPIN_US, naps);
	assert_non_null(t->poller);
	for (i = 0; i < FRONT_GUESTS; i++) {
		t->dev[i] = simhca_dev_create(t->poller, i ? "b" : "a", mac, NULL);
		assert_non_null(t->dev[i]);
		simhca_dev_set_max_mr(t->dev[i], max_mr);
	}
	assert_int_equal(poller_start(t->poller), 0);
	for (i = 0; i < FRONT_GUESTS; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
		assert_int_equal(simhca_dev_adopt(t->dev[i], sv[0]), 0);
		guest_init(&t->g[i], sv[1]);
	}
	*state = t;
	return 0;
}

int front_setup(void **state)
{
	return front_setup_with(state, 0, SIMHCA_MAX_MRS - 1);
}

int front_teardown(void **state)
{
	struct front *t = *state;
	unsigned int i;

	for (i = 0; i < FRONT_GUESTS; i++)
		guest_fini(&t->g[i]);
	for (i = 0; i < FRONT_GUESTS; i++)
		simhca_dev_stop(t->dev[i]);
	poller_stop(t->poller);
	for (i = 0; i < FRONT_GUESTS; i++)
		simhca_dev_destroy(t->dev[i]);
	poller_destroy(t->poller);
	free(t);
	return 0;
}

void front_connect(struct front *t)
{
	unsigned int i;

	for (i = 0; i < FRONT_GUESTS; i++) {
		struct guest *g = &t->g[i];

		guest_setup(g, i + 1);
		t->buf[i] = guest_alloc(g, GUEST_BUF_SIZE, 4096);
		assert_int_equal(guest_create_mr(g, GUEST_KEY, GUEST_ALL, t->buf[i],
						 guest_sgl(t->buf[i], GUEST_BUF_SIZE)),
				 SIMHCA_CMD_OK);
		assert_int_equal(guest_create_cq(g, &t->cq[i], 5, 7), SIMHCA_CMD_OK);
		assert_int_equal(guest_create_qp(g, &t->qp[i], 10 + i, &t->cq[i]), SIMHCA_CMD_OK);
	}
	guest_connect(&t->qp[0], &t->qp[1]);
	guest_connect(&t->qp[1], &t->qp[0]);
}

int front_setup_connected(void **state)
{
	front_setup(state);
	front_connect(*state);
	return 0;
}
