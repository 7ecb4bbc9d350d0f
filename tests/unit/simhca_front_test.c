// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* simhca's registers, commands, events and resets, driven through its vfio-user socket. */
#define _GNU_SOURCE
#include <linux/pci_regs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "front_client.h"

#define WAIT_MS		10000
#define QUIET_MS	20

static void test_registers(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[0];

	assert_int_equal(guest_reg_read(g, SIMHCA_REG_MAGIC), SIMHCA_MAGIC);
	assert_int_equal(guest_reg_read(g, SIMHCA_REG_VERSION), SIMHCA_VERSION);
	assert_int_equal(guest_reg_read(g, SIMHCA_REG_STATUS), 0);
	assert_int_equal(guest_reg_read64(g, SIMHCA_REG_MAC), 0x0700c0005452ull);
	guest_reg_write(g, SIMHCA_REG_CMDQ_BASE + 4, 0x12345678);
	assert_int_equal(guest_reg_read64(g, SIMHCA_REG_CMDQ_BASE), 0x1234567800000000ull);
	/* read only, unaligned, unknown */
	guest_reg_write(g, SIMHCA_REG_MAGIC, 0);
	guest_reg_write(g, SIMHCA_REG_CTRL + 2, SIMHCA_CTRL_ENABLE);
	guest_reg_write(g, 0x800, 1);
	assert_int_equal(guest_reg_read(g, SIMHCA_REG_MAGIC), SIMHCA_MAGIC);
	assert_int_equal(guest_reg_read(g, SIMHCA_REG_STATUS), 0);
	assert_int_equal(guest_reg_read(g, 0x800), 0);
	assert_int_equal(guest_config_read(g, 0), SIMHCA_PCI_DEVICE_ID << 16 | SIMHCA_PCI_VENDOR_ID);
}

static void test_commands(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[0];
	struct simhca_dev_attr *attr;
	struct simhca_cmd cmd = { .opcode = SIMHCA_CMD_QUERY_DEV };
	unsigned int i;

	guest_enable(g);
	cmd.out_addr = g->out;
	/* More often than the ring has entries, so that the phase turns. */
	for (i = 0; i < 100; i++) {
		memset(guest_ptr(g, g->out), 0, sizeof(*attr));
		assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_OK);
		attr = guest_ptr(g, g->out);
		assert_int_equal(attr->max_sge, SIMHCA_MAX_SGE);
		assert_int_equal(attr->num_vectors, SIMHCA_NUM_VECTORS);
		assert_true(guest_wait_irq(g, 0, WAIT_MS));
	}
	cmd.out_addr = GUEST_RAM_IOVA + GUEST_RAM_SIZE - 8;
	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_EFAULT);
	cmd.out_addr = UINT64_MAX - 3;
	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_EFAULT);
	cmd.opcode = 0;
	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_EOPNOTSUPP);
	cmd.opcode = 0xffff;
	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_EOPNOTSUPP);
}

static void test_enable_errors(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[0];
	static const struct {
		uint32_t base, log_size;
	} bad[] = { { 0x1000, 0 }, { 0x1000, SIMHCA_CMDQ_MAX_LOG + 1 }, { 0x1008, 4 } };
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		guest_reg_write(g, SIMHCA_REG_CMDQ_BASE, bad[i].base);
		guest_reg_write(g, SIMHCA_REG_CMDQ_LOG_SIZE, bad[i].log_size);
		guest_reg_write(g, SIMHCA_REG_CTRL, SIMHCA_CTRL_ENABLE);
		assert_int_equal(guest_reg_read(g, SIMHCA_REG_STATUS), SIMHCA_STATUS_FATAL);
		assert_int_equal(guest_status(g)->fatal, 1);
		guest_reg_write(g, SIMHCA_REG_CTRL, 0);
		assert_int_equal(guest_reg_read(g, SIMHCA_REG_STATUS), 0);
		assert_int_equal(guest_status(g)->fatal, 0);
	}
	guest_enable(g);
}

static void wait_status(struct guest *g, uint32_t status)
{
	unsigned int i;

	for (i = 0; i < 1000 && guest_reg_read(g, SIMHCA_REG_STATUS) != status; i++)
		usleep(1000);
	assert_int_equal(guest_reg_read(g, SIMHCA_REG_STATUS), status);
}

static void expect_event(struct guest *g, uint32_t eqn, uint32_t event, uint32_t id)
{
	uint32_t got_event, got_id;

	assert_true(guest_wait_irq(g, eqn, WAIT_MS));
	while (!guest_next_event(g, eqn, &got_event, &got_id))	/* the interrupt was an older one */
		assert_true(guest_wait_irq(g, eqn, WAIT_MS));
	assert_int_equal(got_event, event);
	assert_int_equal(got_id, id);
}

static void expect_no_event(struct guest *g)
{
	uint32_t event, id;

	usleep(QUIET_MS * 1000);
	assert_false(guest_next_event(g, 0, &event, &id));
	assert_false(guest_next_event(g, 1, &event, &id));
}

/* Command rings that lie: the device stops, says so, and works again after a reset. */
static void test_command_ring_errors(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[0];
	struct simhca_cmd cmd = { .opcode = SIMHCA_CMD_QUERY_DEV };

	guest_setup(g, 1);
	while (guest_wait_irq(g, 0, 0))
		;
	__atomic_store_n(&guest_uar(g, SIMHCA_KERNEL_UAR)->cmdq_pi, g->cmdq_pi + 17,
			 __ATOMIC_RELEASE);
	guest_kick_if_asleep(g);
	expect_event(g, 0, SIMHCA_EVENT_DEV_FATAL, 0);
	wait_status(g, SIMHCA_STATUS_ENABLED | SIMHCA_STATUS_FATAL);
	assert_int_equal(guest_status(g)->fatal, 1);
	guest_reg_write(g, SIMHCA_REG_CTRL, 0);

	/* a ring that is not there */
	guest_reg_write(g, SIMHCA_REG_CMDQ_BASE, 0x1000);
	guest_reg_write(g, SIMHCA_REG_CMDQ_LOG_SIZE, 4);
	guest_reg_write(g, SIMHCA_REG_CTRL, SIMHCA_CTRL_ENABLE);
	guest_uar(g, SIMHCA_KERNEL_UAR)->cmdq_pi = 1;
	guest_kick_if_asleep(g);
	wait_status(g, SIMHCA_STATUS_ENABLED | SIMHCA_STATUS_FATAL);
	guest_reg_write(g, SIMHCA_REG_CTRL, 0);

	/* a response ring that is not there */
	guest_setup(g, 1);
	guest_reg_write(g, SIMHCA_REG_CTRL, 0);
	guest_reg_write(g, SIMHCA_REG_CMDQ_BASE, g->cmdq);
	guest_reg_write(g, SIMHCA_REG_RSPQ_BASE, 0x1000);
	guest_reg_write(g, SIMHCA_REG_CMDQ_LOG_SIZE, GUEST_CMDQ_LOG);
	guest_reg_write(g, SIMHCA_REG_CTRL, SIMHCA_CTRL_ENABLE);
	guest_uar(g, SIMHCA_KERNEL_UAR)->cmdq_pi = 1;
	guest_kick_if_asleep(g);
	wait_status(g, SIMHCA_STATUS_ENABLED | SIMHCA_STATUS_FATAL);
	guest_reg_write(g, SIMHCA_REG_CTRL, 0);

	guest_setup(g, 1);
	cmd.out_addr = g->out;
	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_OK);
}

/* ---- objects ---- */

/* A valid command with one field changed, and what must come of it. */
#define BAD(good, field, value, expected) do { \
		struct simhca_cmd bad_cmd = (good); \
		bad_cmd.payload.field = (value); \
		assert_int_equal(guest_cmd(g, &bad_cmd), (expected)); \
	} while (0)

static void test_bad_create_eq(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[0];
	struct simhca_cmd good = {
		.opcode = SIMHCA_CMD_CREATE_EQ,
		.payload.create_eq = { .eqn = 2, .vector = 2, .log_size = 4 },
	};

	guest_setup(g, 1);
	good.payload.create_eq.ring = guest_sgl(guest_alloc(g, 4096, 4096), 256);
	BAD(good, create_eq.eqn, SIMHCA_MAX_EQS, SIMHCA_CMD_EINVAL);
	BAD(good, create_eq.eqn, UINT32_MAX, SIMHCA_CMD_EINVAL);
	BAD(good, create_eq.eqn, 0, SIMHCA_CMD_EEXIST);
	BAD(good, create_eq.vector, SIMHCA_NUM_VECTORS, SIMHCA_CMD_EINVAL);
	BAD(good, create_eq.log_size, 32, SIMHCA_CMD_EINVAL);
	BAD(good, create_eq.log_size, 5, SIMHCA_CMD_EINVAL);
	BAD(good, create_eq.ring.length, 255, SIMHCA_CMD_EINVAL);
	BAD(good, create_eq.ring.nsegs, 0, SIMHCA_CMD_EINVAL);
	BAD(good, create_eq.ring.nsegs, SIMHCA_MAX_SEGS + 1, SIMHCA_CMD_EINVAL);
	BAD(good, create_eq.ring.nsegs, 2, SIMHCA_CMD_EINVAL);	/* the chunk is all zero */
	BAD(good, create_eq.ring.addr, UINT64_MAX - 100, SIMHCA_CMD_EINVAL);
	assert_int_equal(guest_cmd(g, &good), SIMHCA_CMD_OK);
	assert_int_equal(guest_cmd(g, &good), SIMHCA_CMD_EEXIST);
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_EQ, 2), SIMHCA_CMD_OK);
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_EQ, 2), SIMHCA_CMD_ENOENT);
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_EQ, 1u << 31), SIMHCA_CMD_ENOENT);
}

static void test_bad_set_gid(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[0];
	struct simhca_cmd good = {
		.opcode = SIMHCA_CMD_SET_GID,
		.payload.set_gid = { .index = 3, .valid = 1 },
	};

	guest_setup(g, 1);
	BAD(good, set_gid.index, SIMHCA_GID_TABLE_LEN, SIMHCA_CMD_EINVAL);
	BAD(good, set_gid.valid, 2, SIMHCA_CMD_EINVAL);
	assert_int_equal(guest_cmd(g, &good), SIMHCA_CMD_OK);
	BAD(good, set_gid.valid, 0, SIMHCA_CMD_OK);
}

static void test_bad_create_mr(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[0];
	struct simhca_cmd good = {
		.opcode = SIMHCA_CMD_CREATE_MR,
		.payload.create_mr = {
			.key = 0x200,
			.pdn = 1,
			.access = GUEST_ALL,
			.iova = 0x1234,
			.length = 10000,
		},
	};

	guest_setup(g, 1);
	good.payload.create_mr.sgl = guest_sgl(guest_alloc(g, 10000, 1), 10000);
	BAD(good, create_mr.key, 0xff, SIMHCA_CMD_EINVAL);
	BAD(good, create_mr.key, SIMHCA_MAX_MRS << 8, SIMHCA_CMD_EINVAL);
	BAD(good, create_mr.pdn, 0, SIMHCA_CMD_EINVAL);
	BAD(good, create_mr.pdn, SIMHCA_MAX_PDS, SIMHCA_CMD_EINVAL);
	BAD(good, create_mr.access, 0x10, SIMHCA_CMD_EINVAL);
	BAD(good, create_mr.access, SIMHCA_ACCESS_REMOTE_WRITE, SIMHCA_CMD_EINVAL);
	BAD(good, create_mr.flags, 2, SIMHCA_CMD_EOPNOTSUPP);
	BAD(good, create_mr.length, 0, SIMHCA_CMD_EINVAL);
	BAD(good, create_mr.length, 9999, SIMHCA_CMD_EINVAL);
	BAD(good, create_mr.sgl.nsegs, 0, SIMHCA_CMD_EINVAL);
	BAD(good, create_mr.sgl.nsegs, SIMHCA_MAX_SEGS, SIMHCA_CMD_ENOMEM);
	BAD(good, create_mr.iova, UINT64_MAX, SIMHCA_CMD_EINVAL);
	assert_int_equal(guest_cmd(g, &good), SIMHCA_CMD_OK);
	BAD(good, create_mr.key, 0x201, SIMHCA_CMD_EEXIST);
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_MR, 0x201), SIMHCA_CMD_ENOENT);
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_MR, 0x200), SIMHCA_CMD_OK);
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_MR, UINT32_MAX), SIMHCA_CMD_ENOENT);
	/* The list is not looked at for all of memory. */
	good.payload.create_mr.flags = SIMHCA_MR_DMA;
	good.payload.create_mr.sgl.nsegs = 77;
	assert_int_equal(guest_cmd(g, &good), SIMHCA_CMD_OK);
}

static void test_bad_chunks(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[0];
	struct simhca_seg segs[600];
	struct simhca_seg_chunk *chunk;
	struct simhca_sgl sgl;
	uint64_t buf, second;
	uint32_t key = 0x100;
	unsigned int i;

	guest_setup(g, 1);
	buf = guest_alloc(g, 1200 * 100, 1);
	for (i = 0; i < 600; i++)
		segs[i] = (struct simhca_seg) { buf + i * 200, 100 };
	sgl = guest_sgl_segs(g, segs, 600);
	chunk = guest_ptr(g, sgl.addr);
	second = chunk[0].next;
#define EXPECT(status) \
	assert_int_equal(guest_create_mr(g, key += 0x100, GUEST_ALL, 0, sgl), (status))
	EXPECT(SIMHCA_CMD_OK);

	chunk[0].next = sgl.addr;		/* a cycle: too short for the length it claims */
	EXPECT(SIMHCA_CMD_EINVAL);
	chunk[0].next = second + 8;
	EXPECT(SIMHCA_CMD_EINVAL);
	chunk[0].next = 0;
	EXPECT(SIMHCA_CMD_EINVAL);
	chunk[0].next = 0x1000;
	EXPECT(SIMHCA_CMD_EFAULT);
	chunk[0].next = UINT64_MAX & ~4095ull;
	EXPECT(SIMHCA_CMD_EFAULT);
	chunk[0].next = second;
	chunk[2].next = second;			/* more than nsegs */
	EXPECT(SIMHCA_CMD_EINVAL);
	chunk[2].next = 0;
	for (i = 0; i < 2; i++) {
		chunk[1].nsegs = i ? SIMHCA_SEGS_PER_CHUNK + 1 : 0;
		EXPECT(SIMHCA_CMD_EINVAL);
	}
	chunk[1].nsegs = SIMHCA_SEGS_PER_CHUNK;
	chunk[2].nsegs++;
	EXPECT(SIMHCA_CMD_EINVAL);
	chunk[2].nsegs--;
	chunk[1].segs[9].len = 0;
	EXPECT(SIMHCA_CMD_EINVAL);
	chunk[1].segs[9].len = 101;
	EXPECT(SIMHCA_CMD_EINVAL);
	chunk[1].segs[9] = (struct simhca_seg) { UINT64_MAX, 100 };
	EXPECT(SIMHCA_CMD_EINVAL);
	chunk[1].segs[9] = (struct simhca_seg) { 0, 100 };	/* not there, but that shows later */
	EXPECT(SIMHCA_CMD_OK);
	chunk[1].segs[9].len = UINT64_MAX;
	EXPECT(SIMHCA_CMD_EINVAL);
	sgl.addr += 8;
	EXPECT(SIMHCA_CMD_EINVAL);
	sgl.addr = 0x5000;
	EXPECT(SIMHCA_CMD_EFAULT);

	/* All that was taken for failures was given back. */
	sgl.nsegs = 20u << 20;
	for (i = 0; i < 5; i++)
		EXPECT(SIMHCA_CMD_EFAULT);
#undef EXPECT
}

static void test_bad_create_cq(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[0];
	struct simhca_cmd good = {
		.opcode = SIMHCA_CMD_CREATE_CQ,
		.payload.create_cq = { .cqn = 6, .eqn = 1, .uar = 2, .slot = 3, .log_size = 0 },
	};

	guest_setup(g, 1);
	good.payload.create_cq.ring = guest_sgl(guest_alloc(g, 4096, 4096), 32);
	BAD(good, create_cq.cqn, 0, SIMHCA_CMD_EINVAL);
	BAD(good, create_cq.cqn, SIMHCA_MAX_CQS, SIMHCA_CMD_EINVAL);
	BAD(good, create_cq.eqn, 2, SIMHCA_CMD_ENOENT);
	BAD(good, create_cq.eqn, UINT32_MAX, SIMHCA_CMD_ENOENT);
	BAD(good, create_cq.uar, SIMHCA_STATUS_UAR, SIMHCA_CMD_EINVAL);
	BAD(good, create_cq.uar, SIMHCA_MAX_UARS, SIMHCA_CMD_EINVAL);
	BAD(good, create_cq.slot, SIMHCA_UAR_CQ_SLOTS, SIMHCA_CMD_EINVAL);
	BAD(good, create_cq.log_size, SIMHCA_MAX_LOG_CQE + 1, SIMHCA_CMD_EINVAL);
	BAD(good, create_cq.log_size, 1, SIMHCA_CMD_EINVAL);
	/* What was there before does not count. */
	guest_uar(g, 2)->cq[3].ci = 77;
	guest_uar(g, 2)->cq[3].arm = 77;
	assert_int_equal(guest_cmd(g, &good), SIMHCA_CMD_OK);
	assert_int_equal(guest_uar(g, 2)->cq[3].ci, 0);
	assert_int_equal(guest_uar(g, 2)->cq[3].arm, 0);
	BAD(good, create_cq.slot, 4, SIMHCA_CMD_EEXIST);
	BAD(good, create_cq.cqn, 7, SIMHCA_CMD_EEXIST);		/* the slot */
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_EQ, 1), SIMHCA_CMD_EBUSY);
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_CQ, 6), SIMHCA_CMD_OK);
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_CQ, 6), SIMHCA_CMD_ENOENT);
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_EQ, 1), SIMHCA_CMD_OK);
}

static void test_bad_create_qp(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[0];
	struct guest_cq cq;
	struct simhca_cmd good = {
		.opcode = SIMHCA_CMD_CREATE_QP,
		.payload.create_qp = {
			.qpn = 2, .type = SIMHCA_QPT_RC, .pdn = 1, .send_cqn = 8, .recv_cqn = 8,
			.uar = 5, .slot = 255, .sq_log_size = 3, .sq_log_stride = 6,
			.rq_log_size = 2, .rq_log_stride = 5,
		},
	};

	guest_setup(g, 1);
	assert_int_equal(guest_create_cq(g, &cq, 8, 4), SIMHCA_CMD_OK);
	good.payload.create_qp.sq = guest_sgl(guest_alloc(g, 4096, 4096), 512);
	good.payload.create_qp.rq = guest_sgl(guest_alloc(g, 4096, 4096), 128);
	BAD(good, create_qp.qpn, 1, SIMHCA_CMD_EINVAL);
	BAD(good, create_qp.qpn, SIMHCA_MAX_QPS, SIMHCA_CMD_EINVAL);
	BAD(good, create_qp.type, 3, SIMHCA_CMD_EOPNOTSUPP);
	BAD(good, create_qp.srqn, 1, SIMHCA_CMD_EOPNOTSUPP);
	BAD(good, create_qp.pdn, 0, SIMHCA_CMD_EINVAL);
	BAD(good, create_qp.send_cqn, 9, SIMHCA_CMD_ENOENT);
	BAD(good, create_qp.recv_cqn, UINT32_MAX, SIMHCA_CMD_ENOENT);
	BAD(good, create_qp.uar, 0, SIMHCA_CMD_EINVAL);
	BAD(good, create_qp.slot, 256, SIMHCA_CMD_EINVAL);
	BAD(good, create_qp.sq_log_size, SIMHCA_MAX_LOG_WR + 1, SIMHCA_CMD_EINVAL);
	BAD(good, create_qp.sq_log_size, 255, SIMHCA_CMD_EINVAL);
	BAD(good, create_qp.sq_log_stride, 5, SIMHCA_CMD_EINVAL);
	BAD(good, create_qp.sq_log_stride, 10, SIMHCA_CMD_EINVAL);
	BAD(good, create_qp.rq_log_stride, 4, SIMHCA_CMD_EINVAL);
	BAD(good, create_qp.rq_log_stride, 64, SIMHCA_CMD_EINVAL);
	BAD(good, create_qp.rq_log_size, 16, SIMHCA_CMD_EINVAL);
	BAD(good, create_qp.sq.nsegs, 0, SIMHCA_CMD_EINVAL);
	BAD(good, create_qp.rq.length, 64, SIMHCA_CMD_EINVAL);
	assert_int_equal(guest_cmd(g, &good), SIMHCA_CMD_OK);
	BAD(good, create_qp.slot, 4, SIMHCA_CMD_EEXIST);
	BAD(good, create_qp.qpn, 3, SIMHCA_CMD_EEXIST);
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_CQ, 8), SIMHCA_CMD_EBUSY);
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_QP, 3), SIMHCA_CMD_ENOENT);
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_QP, 2), SIMHCA_CMD_OK);
	/* no receive queue */
	good.payload.create_qp.rq.nsegs = 0;
	good.payload.create_qp.rq_log_stride = 0;
	assert_int_equal(guest_cmd(g, &good), SIMHCA_CMD_OK);
}

static void test_modify_query_qp(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[0];
	struct simhca_qp_attr attr = { .mask = SIMHCA_QP_STATE, .state = SIMHCA_QPS_RTS };
	struct guest_qp none = { .g = g, .qpn = 99 };
	struct simhca_cmd cmd = { .opcode = SIMHCA_CMD_QUERY_QP };

	assert_int_equal(guest_query_qp(&t->qp[0], &attr), SIMHCA_CMD_OK);
	assert_int_equal(attr.qpn, 10);
	assert_int_equal(attr.state, SIMHCA_QPS_RTS);
	assert_int_equal(attr.mask, SIMHCA_QP_ALL);
	assert_int_equal(attr.dest_qpn, 11);
	assert_int_equal(attr.sq_psn, 10);
	assert_int_equal(attr.rq_psn, 11);
	assert_int_equal(attr.path_mtu, 3);
	assert_int_equal(attr.max_rd_atomic, 16);
	assert_memory_equal(attr.dgid, t->g[1].gid, 16);
	assert_int_equal(guest_query_qp(&none, &attr), SIMHCA_CMD_ENOENT);
	assert_int_equal(guest_modify(&none, &attr), SIMHCA_CMD_ENOENT);
	cmd.payload.query_qp.qpn = 10;
	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_EFAULT);

	assert_int_equal(guest_modify_state(&t->qp[0], SIMHCA_QPS_INIT), SIMHCA_CMD_EINVAL);
	assert_int_equal(guest_modify_state(&t->qp[0], 200), SIMHCA_CMD_EINVAL);
	assert_int_equal(guest_modify_state(&t->qp[0], SIMHCA_QPS_RESET), SIMHCA_CMD_OK);
	attr = (struct simhca_qp_attr) {
		.mask = SIMHCA_QP_STATE | SIMHCA_QP_ACCESS, .state = SIMHCA_QPS_INIT,
	};
	assert_int_equal(guest_modify(&t->qp[0], &attr), SIMHCA_CMD_OK);
	attr = (struct simhca_qp_attr) {
		.mask = SIMHCA_QP_STATE | SIMHCA_QP_AV | SIMHCA_QP_PATH_MTU | SIMHCA_QP_DEST_QPN |
			SIMHCA_QP_RQ_PSN | SIMHCA_QP_MAX_DEST_RD_ATOMIC | SIMHCA_QP_MIN_RNR_TIMER,
		.state = SIMHCA_QPS_RTR,
		.path_mtu = 1,
		.dgid = { 1, 2, 3 },
	};
	assert_int_equal(guest_modify(&t->qp[0], &attr), SIMHCA_CMD_ENETUNREACH);
}

/* ---- resets ---- */

/* The device is as after power-on, and its objects can be made again. */
static void expect_fresh(struct front *t, struct guest *g)
{
	struct simhca_cmd cmd = { .opcode = SIMHCA_CMD_QUERY_STATS };
	struct simhca_stats *stats;
	struct guest_cq cq;
	struct guest_qp qp;

	(void)t;
	assert_int_equal(guest_reg_read(g, SIMHCA_REG_STATUS), 0);
	assert_int_equal(guest_reg_read64(g, SIMHCA_REG_CMDQ_BASE), 0);
	assert_int_equal(guest_uar(g, SIMHCA_FIRST_USER_UAR)->qp[10].sq_pi, 0);
	guest_config_write16(g, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	guest_setup(g, 1);
	assert_int_equal(guest_create_mr(g, GUEST_KEY, GUEST_ALL, 0, guest_sgl(0x1000, 10)),
			 SIMHCA_CMD_OK);
	assert_int_equal(guest_create_cq(g, &cq, 5, 4), SIMHCA_CMD_OK);
	assert_int_equal(guest_create_qp(g, &qp, 10, &cq), SIMHCA_CMD_OK);
	cmd.out_addr = g->out;
	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_OK);
	stats = guest_ptr(g, g->out);
	assert_int_equal(stats->tx_wrs, 0);
	assert_int_equal(stats->events, 0);
}

static void do_write(struct front *t)
{
	struct simhca_sq_wqe wqe = {
		.opcode = SIMHCA_WR_RDMA_WRITE,
		.flags = SIMHCA_WR_SIGNALED,
		.num_sge = 1,
		.rkey = GUEST_KEY,
		.remote_addr = t->buf[1],
	};
	struct simhca_cqe cqe;

	guest_post_send(&t->qp[0], &wqe, t->buf[0], 64, GUEST_KEY);
	guest_ring(&t->qp[0]);
	assert_true(guest_poll_wait(&t->cq[0], &cqe, WAIT_MS));
	assert_int_equal(cqe.status, SIMHCA_WC_SUCCESS);
}

static void test_reset_ctrl(void **state)
{
	struct front *t = *state;

	do_write(t);
	guest_reg_write(&t->g[0], SIMHCA_REG_CTRL, 0);
	expect_fresh(t, &t->g[0]);
}

static void test_reset_device(void **state)
{
	struct front *t = *state;

	do_write(t);
	guest_device_reset(&t->g[0]);
	expect_fresh(t, &t->g[0]);
}

static void test_reset_flr(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[0];
	uint32_t cap = guest_config_read(g, PCI_CAPABILITY_LIST) & 0xff;

	do_write(t);
	while ((guest_config_read(g, cap) & 0xff) != PCI_CAP_ID_EXP) {
		cap = guest_config_read(g, cap) >> 8 & 0xff;
		assert_int_not_equal(cap, 0);
	}
	guest_config_write16(g, cap + PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_BCR_FLR);
	expect_fresh(t, g);
}

/* The peer of a device that was reset gets an error, and both can go on. */
static void test_reset_peer(void **state)
{
	struct front *t = *state;
	struct simhca_sq_wqe wqe = { .opcode = SIMHCA_WR_SEND, .num_sge = 1 };
	struct simhca_cqe cqe;

	do_write(t);
	guest_reg_write(&t->g[1], SIMHCA_REG_CTRL, 0);
	guest_post_send(&t->qp[0], &wqe, t->buf[0], 64, GUEST_KEY);
	guest_ring(&t->qp[0]);
	assert_true(guest_poll_wait(&t->cq[0], &cqe, WAIT_MS));
	assert_int_equal(cqe.status, SIMHCA_WC_RETRY_EXC_ERR);
	guest_reg_write(&t->g[0], SIMHCA_REG_CTRL, 0);
	t->g[0].ram_used = 0;
	t->g[1].ram_used = 0;
	front_connect(t);
	do_write(t);
}

static void test_bus_master(void **state)
{
	struct front *t = *state;
	struct simhca_sq_wqe wqe = {
		.opcode = SIMHCA_WR_RDMA_WRITE,
		.flags = SIMHCA_WR_SIGNALED,
		.num_sge = 1,
		.rkey = GUEST_KEY,
		.remote_addr = t->buf[1],
	};
	struct simhca_cqe cqe;

	guest_config_write16(&t->g[0], PCI_COMMAND, PCI_COMMAND_MEMORY);
	guest_post_send(&t->qp[0], &wqe, t->buf[0], 64, GUEST_KEY);
	guest_ring(&t->qp[0]);
	assert_false(guest_poll_wait(&t->cq[0], &cqe, QUIET_MS));
	guest_config_write16(&t->g[0], PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_true(guest_poll_wait(&t->cq[0], &cqe, WAIT_MS));
	assert_int_equal(cqe.status, SIMHCA_WC_SUCCESS);
}

static int connect_to(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, path);
	assert_int_equal(connect(sock, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return sock;
}

/* A QEMU goes without a word, the next finds a new device. */
static void test_reconnect(void **state)
{
	static const uint8_t mac[6] = { 0x52, 0x54, 0, 0, 0, 1 };
	char dir[] = "/tmp/simhca-test-XXXXXX", path[64];
	struct poller *poller = poller_create(20);
	struct simhca_dev *dev;
	struct guest_cq cq;
	struct guest_qp qp;
	struct guest g;
	unsigned int i;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/socket", dir);
	dev = simhca_dev_create(poller, "c", mac, NULL);
	assert_non_null(dev);
	assert_int_equal(poller_start(poller), 0);
	assert_int_equal(simhca_dev_listen(dev, path), 0);
	for (i = 0; i < 5; i++) {
		guest_init(&g, connect_to(path));
		assert_int_equal(guest_reg_read(&g, SIMHCA_REG_STATUS), 0);
		guest_setup(&g, 1);
		assert_int_equal(guest_create_cq(&g, &cq, 5, 4), SIMHCA_CMD_OK);
		assert_int_equal(guest_create_qp(&g, &qp, 10, &cq), SIMHCA_CMD_OK);
		guest_connect(&qp, &qp);
		guest_fini(&g);
	}
	simhca_dev_stop(dev);
	assert_int_equal(access(path, F_OK), -1);
	poller_stop(poller);
	simhca_dev_destroy(dev);
	poller_destroy(poller);
	rmdir(dir);
}

/* ---- events ---- */

static void post_writes(struct front *t, unsigned int n, bool solicited)
{
	struct simhca_sq_wqe wqe = {
		.opcode = SIMHCA_WR_RDMA_WRITE_WITH_IMM,
		.flags = solicited ? SIMHCA_WR_SOLICITED : 0,
		.num_sge = 1,
		.rkey = GUEST_KEY,
		.remote_addr = t->buf[1],
	};
	struct simhca_cqe cqe;

	while (n--) {
		guest_post_recv(&t->qp[1], t->buf[1], 8, GUEST_KEY);
		guest_post_send(&t->qp[0], &wqe, t->buf[0], 8, GUEST_KEY);
		guest_ring(&t->qp[0]);
		assert_true(guest_poll_wait(&t->cq[1], &cqe, WAIT_MS));
		assert_int_equal(cqe.status, SIMHCA_WC_SUCCESS);
	}
}

static void test_completion_events(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[1];

	post_writes(t, 3, true);
	expect_no_event(g);			/* not armed */
	guest_arm(&t->cq[1], false);
	post_writes(t, 3, false);
	expect_event(g, 1, SIMHCA_EVENT_COMP, 5);
	expect_no_event(g);			/* one event an arming */
	guest_arm(&t->cq[1], true);
	post_writes(t, 3, false);
	expect_no_event(g);
	post_writes(t, 1, true);
	expect_event(g, 1, SIMHCA_EVENT_COMP, 5);
	/* first for solicited ones, then for any */
	guest_arm(&t->cq[1], true);
	guest_arm(&t->cq[1], false);
	post_writes(t, 1, false);
	expect_event(g, 1, SIMHCA_EVENT_COMP, 5);
	expect_no_event(g);
}

static void test_error_events(void **state)
{
	struct front *t = *state;
	struct simhca_sq_wqe wqe = {
		.opcode = SIMHCA_WR_RDMA_READ,
		.num_sge = 1,
		.rkey = GUEST_KEY ^ 1,
		.remote_addr = t->buf[1],
	};
	struct simhca_cqe cqe;

	/* An error is solicited, at both ends. */
	guest_arm(&t->cq[0], true);
	guest_post_send(&t->qp[0], &wqe, t->buf[0], 8, GUEST_KEY);
	guest_ring(&t->qp[0]);
	expect_event(&t->g[0], 1, SIMHCA_EVENT_COMP, 5);
	assert_true(guest_poll(&t->cq[0], &cqe));
	assert_int_equal(cqe.status, SIMHCA_WC_REM_ACCESS_ERR);
	assert_int_equal(cqe.vendor_err, ENGINE_VERR_KEY | ENGINE_VERR_REMOTE);
	expect_event(&t->g[1], 0, SIMHCA_EVENT_QP_ACCESS_ERR, 11);
}

/* More events than an EQ holds: none is lost, and nobody rings when there is room again. */
static void test_eq_full(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[0];
	const unsigned int n = 60;
	struct guest_qp *qp = calloc(n, sizeof(*qp));
	uint32_t event, id, seen = 0;
	unsigned int i, wait;

	for (i = 0; i < n; i++) {
		assert_int_equal(guest_create_qp(g, &qp[i], 100 + i, &t->cq[0]), SIMHCA_CMD_OK);
		guest_connect(&qp[i], &qp[i]);
	}
	for (i = 0; i < n; i++)
		assert_int_equal(guest_modify_state(&qp[i], SIMHCA_QPS_SQD), SIMHCA_CMD_OK);
	usleep(QUIET_MS * 1000);
	for (i = 0; i < n; i++) {
		for (wait = 0; !guest_next_event(g, 0, &event, &id); wait++) {
			assert_true(wait < 1000);
			usleep(1000);
		}
		assert_int_equal(event, SIMHCA_EVENT_SQ_DRAINED);
		seen += id;
	}
	assert_int_equal(seen, n * 100 + n * (n - 1) / 2);
	expect_no_event(g);
	free(qp);
}

static void test_eq_unreachable(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[0];
	struct guest_cq cq;
	struct guest_qp qp;
	struct simhca_cmd cmd = {
		.opcode = SIMHCA_CMD_CREATE_EQ,
		.payload.create_eq = {
			.eqn = 0, .vector = 0, .log_size = 4, .ring = { 0x1000, 256, 1, 0 },
		},
	};

	guest_setup(g, 1);
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_EQ, 0), SIMHCA_CMD_OK);
	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_OK);
	assert_int_equal(guest_create_cq(g, &cq, 5, 4), SIMHCA_CMD_OK);
	assert_int_equal(guest_create_qp(g, &qp, 10, &cq), SIMHCA_CMD_OK);
	guest_connect(&qp, &qp);
	guest_modify_state(&qp, SIMHCA_QPS_SQD);
	wait_status(g, SIMHCA_STATUS_ENABLED | SIMHCA_STATUS_FATAL);
	guest_reg_write(g, SIMHCA_REG_CTRL, 0);
	expect_fresh(t, g);
}

/* ---- garbage ---- */

static uint32_t xorshift(uint32_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 17;
	*x ^= *x << 5;
	return *x;
}

/* Small numbers, addresses that exist, and anything. */
static uint64_t garbage(struct front *t, uint32_t *seed)
{
	uint32_t r = xorshift(seed);

	switch (r % 4) {
	case 0:
		return r >> 8 & 15;
	case 1:
		return t->buf[0] + (r >> 8 & 0xff000);
	case 2:
		return 1ull << (r >> 8 & 63);
	default:
		return (uint64_t)xorshift(seed) << 32 | r;
	}
}

static void test_garbage_commands(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[0];
	uint32_t seed = 12345;
	unsigned int i, j;

	for (i = 0; i < 5000; i++) {
		struct simhca_cmd cmd = {
			.opcode = xorshift(&seed) % 15,
			.out_addr = garbage(t, &seed),
		};

		for (j = 0; j < sizeof(cmd.payload.raw); j += 4) {
			uint32_t v = garbage(t, &seed);

			memcpy(cmd.payload.raw + j, &v, 4);
		}
		guest_cmd(g, &cmd);
	}
	guest_reg_write(g, SIMHCA_REG_CTRL, 0);
	expect_fresh(t, g);
}

static void test_garbage_doorbells(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[0];
	uint32_t seed = 999;
	unsigned int i;

	for (i = 0; i < 20000; i++) {
		uint32_t at = xorshift(&seed) % (4 * SIMHCA_PAGE_SIZE / 4);
		uint32_t value = garbage(t, &seed);

		/* asleep must stay the device's, or nobody kicks; cmdq_pi would end it at once */
		if (at < SIMHCA_PAGE_SIZE / 4 ||
		    at == (SIMHCA_PAGE_SIZE + offsetof(struct simhca_uar, cmdq_pi)) / 4)
			continue;
		__atomic_store_n((uint32_t *)g->db + at, value, __ATOMIC_RELAXED);
		if (i % 16 == 0) {
			guest_uar(g, SIMHCA_FIRST_USER_UAR)->sq_group[1] = 1;
			guest_kick_if_asleep(g);
		}
	}
	guest_reg_write(g, SIMHCA_REG_CTRL, 0);
	expect_fresh(t, g);
}

int main(void)
{
#define T(name)	cmocka_unit_test_setup_teardown(name, front_setup, front_teardown)
#define C(name)	cmocka_unit_test_setup_teardown(name, front_setup_connected, front_teardown)
	const struct CMUnitTest tests[] = {
		T(test_registers),
		T(test_commands),
		T(test_enable_errors),
		T(test_command_ring_errors),
		T(test_bad_create_eq),
		T(test_bad_set_gid),
		T(test_bad_create_mr),
		T(test_bad_chunks),
		T(test_bad_create_cq),
		T(test_bad_create_qp),
		C(test_modify_query_qp),
		C(test_reset_ctrl),
		C(test_reset_device),
		C(test_reset_flr),
		C(test_reset_peer),
		C(test_bus_master),
		cmocka_unit_test(test_reconnect),
		C(test_completion_events),
		C(test_error_events),
		C(test_eq_full),
		T(test_eq_unreachable),
		C(test_garbage_commands),
		C(test_garbage_doorbells),
	};

	return cmocka_run_group_tests_name("simhca_front", tests, NULL, NULL);
}
