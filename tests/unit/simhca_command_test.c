// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* simhca's commands, as they should be and as they should not. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "front_client.h"

#define WAIT_MS		10000

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
	BAD(good, create_mr.access, 0x20, SIMHCA_CMD_EINVAL);
	BAD(good, create_mr.access, SIMHCA_ACCESS_REMOTE_WRITE, SIMHCA_CMD_EINVAL);
	BAD(good, create_mr.flags, 4, SIMHCA_CMD_EOPNOTSUPP);
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
	chunk[1].segs[9] = (struct simhca_seg) { 0, 100 };	/* not there: shows later */
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
	BAD(good, create_qp.type, 5, SIMHCA_CMD_EOPNOTSUPP);
	BAD(good, create_qp.srqn, 1, SIMHCA_CMD_ENOENT);
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

/* The path of a drained QP may be changed, and is told as it was set. */
static void test_path(void **state)
{
	struct front *t = *state;
	struct simhca_qp_attr attr, path = {
		.mask = SIMHCA_QP_AV, .hop_limit = 7, .tclass = 5, .sl = 3, .dmac = { 6, 5, 4 },
		.flow_label = SIMHCA_FLOW_LABEL_MASK,
	};

	memcpy(path.dgid, t->g[1].gid, sizeof(path.dgid));
	assert_int_equal(guest_modify(&t->qp[0], &path), SIMHCA_CMD_EINVAL);
	assert_int_equal(guest_modify_state(&t->qp[0], SIMHCA_QPS_SQD), SIMHCA_CMD_OK);
	path.flow_label++;
	assert_int_equal(guest_modify(&t->qp[0], &path), SIMHCA_CMD_EINVAL);
	path.flow_label--;
	assert_int_equal(guest_modify(&t->qp[0], &path), SIMHCA_CMD_OK);
	assert_int_equal(guest_query_qp(&t->qp[0], &attr), SIMHCA_CMD_OK);
	assert_int_equal(attr.hop_limit, path.hop_limit);
	assert_int_equal(attr.tclass, path.tclass);
	assert_int_equal(attr.sl, path.sl);
	assert_int_equal(attr.flow_label, path.flow_label);
	assert_int_equal(attr.sgid_index, path.sgid_index);
	assert_memory_equal(attr.dgid, path.dgid, sizeof(attr.dgid));
	assert_memory_equal(attr.dmac, path.dmac, sizeof(attr.dmac));
	assert_int_equal(attr.dest_qpn, 11);
}

int main(void)
{
#define T(name)	cmocka_unit_test_setup_teardown(name, front_setup, front_teardown)
#define C(name)	cmocka_unit_test_setup_teardown(name, front_setup_connected, front_teardown)
	const struct CMUnitTest tests[] = {
		T(test_commands),
		T(test_bad_create_eq),
		T(test_bad_set_gid),
		T(test_bad_create_mr),
		T(test_bad_chunks),
		T(test_bad_create_cq),
		T(test_bad_create_qp),
		C(test_modify_query_qp),
		C(test_path),
	};

	return cmocka_run_group_tests_name("simhca_command", tests, NULL, NULL);
}
