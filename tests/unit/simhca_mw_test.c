// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* simhca's commands and work requests for windows and fast registration, as they are on the wire. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "front_client.h"

#define WAIT_MS	10000
#define MW	0x8800u
#define FAST	0x8900u
#define BASE	0x8a00u

static struct simhca_cqe expect(struct front *t, unsigned int guest, uint8_t status)
{
	struct simhca_cqe cqe;

	guest_ring(&t->qp[guest]);
	assert_true(guest_poll_wait(&t->cq[guest], &cqe, WAIT_MS));
	assert_int_equal(cqe.status, status);
	return cqe;
}

static void post_key(struct front *t, unsigned int guest, uint8_t opcode, uint32_t key,
		     const struct simhca_mem_wqe *mem)
{
	struct simhca_sq_wqe wqe = {
		.opcode = opcode,
		.flags = SIMHCA_WR_SIGNALED,
		.rkey = key,
	};

	guest_post_mem(&t->qp[guest], &wqe, mem);
}

/* From guest 0 to guest 1. */
static void post_write(struct front *t, uint32_t rkey, uint64_t addr, uint32_t len)
{
	struct simhca_sq_wqe wqe = {
		.opcode = SIMHCA_WR_RDMA_WRITE,
		.flags = SIMHCA_WR_SIGNALED,
		.num_sge = 1,
		.rkey = rkey,
		.remote_addr = addr,
	};

	guest_post_send(&t->qp[0], &wqe, t->buf[0], len, GUEST_KEY);
}

static void reconnect(struct front *t)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		assert_int_equal(guest_modify_state(&t->qp[i], SIMHCA_QPS_RESET), SIMHCA_CMD_OK);
		t->qp[i].sq_pi = 0;
		t->qp[i].rq_pi = 0;
	}
	guest_connect(&t->qp[0], &t->qp[1]);
	guest_connect(&t->qp[1], &t->qp[0]);
}

static uint16_t create_mw(struct guest *g, uint32_t key, uint32_t pdn, uint32_t type)
{
	struct simhca_cmd cmd = {
		.opcode = SIMHCA_CMD_CREATE_MW,
		.payload.create_mw = { .key = key, .pdn = pdn, .type = type },
	};

	return guest_cmd(g, &cmd);
}

static struct simhca_cmd create_fast(uint32_t key, uint32_t max_segs)
{
	return (struct simhca_cmd) {
		.opcode = SIMHCA_CMD_CREATE_MR,
		.payload.create_mr = {
			.key = key,
			.pdn = GUEST_PDN,
			.flags = SIMHCA_MR_FAST,
			.sgl.nsegs = max_segs,
		},
	};
}

static void test_commands(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[1];
	struct simhca_cmd cmd;

	assert_int_equal(create_mw(g, MW, 0, SIMHCA_MW_TYPE_1), SIMHCA_CMD_EINVAL);
	assert_int_equal(create_mw(g, MW, SIMHCA_MAX_PDS, SIMHCA_MW_TYPE_1), SIMHCA_CMD_EINVAL);
	assert_int_equal(create_mw(g, MW, GUEST_PDN, 0), SIMHCA_CMD_EINVAL);
	assert_int_equal(create_mw(g, MW, GUEST_PDN, 3), SIMHCA_CMD_EINVAL);
	assert_int_equal(create_mw(g, 0xff, GUEST_PDN, SIMHCA_MW_TYPE_1), SIMHCA_CMD_EINVAL);
	assert_int_equal(create_mw(g, UINT32_MAX, GUEST_PDN, SIMHCA_MW_TYPE_1), SIMHCA_CMD_EINVAL);
	assert_int_equal(create_mw(g, GUEST_KEY, GUEST_PDN, SIMHCA_MW_TYPE_1), SIMHCA_CMD_EEXIST);
	assert_int_equal(create_mw(g, MW, GUEST_PDN, SIMHCA_MW_TYPE_1), SIMHCA_CMD_OK);
	assert_int_equal(create_mw(g, MW, GUEST_PDN, SIMHCA_MW_TYPE_2), SIMHCA_CMD_EEXIST);
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_MR, MW), SIMHCA_CMD_ENOENT);
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_FENCE_MR, MW), SIMHCA_CMD_ENOENT);
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_MW, GUEST_KEY), SIMHCA_CMD_ENOENT);
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_MW, MW + 5), SIMHCA_CMD_OK);
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_MW, MW), SIMHCA_CMD_ENOENT);

	cmd = create_fast(FAST, 0);
	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_EINVAL);
	cmd = create_fast(FAST, SIMHCA_MAX_FAST_SEGS + 1);
	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_EINVAL);
	cmd = create_fast(FAST, 8);
	cmd.payload.create_mr.access = SIMHCA_ACCESS_LOCAL_WRITE;
	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_EINVAL);
	cmd = create_fast(FAST, 8);
	cmd.payload.create_mr.sgl.addr = t->buf[1];
	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_EINVAL);
	cmd = create_fast(FAST, 8);
	cmd.payload.create_mr.flags |= SIMHCA_MR_DMA;
	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_EOPNOTSUPP);
	cmd = create_fast(FAST, SIMHCA_MAX_FAST_SEGS);
	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_OK);
	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_EEXIST);
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_MR, FAST + 5), SIMHCA_CMD_OK);

	/* What is left is gone with a reset. */
	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_OK);
	assert_int_equal(create_mw(g, MW, GUEST_PDN, SIMHCA_MW_TYPE_2), SIMHCA_CMD_OK);
}

static void test_window(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[1];
	uint8_t *src = guest_ptr(&t->g[0], t->buf[0]), *dst = guest_ptr(g, t->buf[1]);
	struct simhca_mem_wqe mem = {
		.addr = t->buf[1] + 100,
		.length = 50,
		.lkey = BASE,
		.access = SIMHCA_ACCESS_REMOTE_WRITE | SIMHCA_ACCESS_ZERO_BASED,
	};
	struct simhca_cqe cqe;

	assert_int_equal(guest_create_mr(g, BASE, GUEST_ALL | SIMHCA_ACCESS_MW_BIND, t->buf[1],
					 guest_sgl(t->buf[1], GUEST_BUF_SIZE)), SIMHCA_CMD_OK);
	assert_int_equal(create_mw(g, MW, GUEST_PDN, SIMHCA_MW_TYPE_2), SIMHCA_CMD_OK);
	post_key(t, 1, SIMHCA_WR_BIND_MW, MW + 3, &mem);
	cqe = expect(t, 1, SIMHCA_WC_SUCCESS);
	assert_int_equal(cqe.opcode, SIMHCA_WR_BIND_MW);
	assert_int_equal(cqe.flags, 0);
	memset(src, 0x77, 50);
	post_write(t, MW + 3, 0, 50);
	expect(t, 0, SIMHCA_WC_SUCCESS);
	assert_memory_equal(dst + 100, src, 50);
	assert_int_equal(dst[99], 0);
	assert_int_equal(dst[150], 0);
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_MR, BASE), SIMHCA_CMD_EBUSY);

	/* fenced below */
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_FENCE_MR, BASE), SIMHCA_CMD_OK);
	post_write(t, MW + 3, 0, 50);
	cqe = expect(t, 0, SIMHCA_WC_REM_ACCESS_ERR);
	assert_int_equal(cqe.vendor_err, ENGINE_VERR_FENCED | ENGINE_VERR_REMOTE);
	reconnect(t);
	post_key(t, 1, SIMHCA_WR_LOCAL_INV, MW + 3, &(struct simhca_mem_wqe) { 0 });
	cqe = expect(t, 1, SIMHCA_WC_SUCCESS);
	assert_int_equal(cqe.opcode, SIMHCA_WR_LOCAL_INV);
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_MR, BASE), SIMHCA_CMD_OK);
	post_key(t, 1, SIMHCA_WR_BIND_MW, MW + 4, &mem);
	expect(t, 1, SIMHCA_WC_MW_BIND_ERR);
}

static void test_fast(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[1];
	uint64_t list = guest_alloc(g, 4096, 4096) + 4096 - 24;	/* over a page's end */
	struct simhca_seg segs[3] = {
		{ t->buf[1] + 8192, 4096 }, { t->buf[1], 10 }, { t->buf[1] + 5, 4096 },
	};
	struct simhca_mem_wqe mem = {
		.addr = 0x1000,
		.length = 4096 + 10 + 4096,
		.segs = list,
		.num_segs = 3,
		.access = GUEST_ALL,
	};
	uint8_t *src = guest_ptr(&t->g[0], t->buf[0]), *dst = guest_ptr(g, t->buf[1]);
	struct simhca_cmd cmd = create_fast(FAST, 3);
	struct simhca_cqe cqe;
	struct simhca_sq_wqe send = {
		.opcode = SIMHCA_WR_SEND_WITH_INV,
		.flags = SIMHCA_WR_SIGNALED,
		.num_sge = 1,
		.rkey = FAST + 1,
	};

	guest_alloc(g, 4096, 4096);
	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_OK);
	memcpy(guest_ptr(g, list), segs, sizeof(segs));
	post_key(t, 1, SIMHCA_WR_REG_MR, FAST + 1, &mem);
	cqe = expect(t, 1, SIMHCA_WC_SUCCESS);
	assert_int_equal(cqe.opcode, SIMHCA_WR_REG_MR);
	memset(src, 0x31, 4096);
	memset(src + 4096, 0x32, 8192);
	post_write(t, FAST + 1, 0x1000, mem.length);
	expect(t, 0, SIMHCA_WC_SUCCESS);
	assert_memory_equal(dst + 8192, src, 4096);
	assert_memory_equal(dst, src + 4096, 4096 + 5);

	guest_post_recv(&t->qp[1], t->buf[1], 64, GUEST_KEY);
	guest_post_send(&t->qp[0], &send, t->buf[0], 64, GUEST_KEY);
	cqe = expect(t, 0, SIMHCA_WC_SUCCESS);
	assert_int_equal(cqe.opcode, SIMHCA_WR_SEND_WITH_INV);
	assert_true(guest_poll_wait(&t->cq[1], &cqe, WAIT_MS));
	assert_int_equal(cqe.status, SIMHCA_WC_SUCCESS);
	assert_int_equal(cqe.flags, SIMHCA_CQE_RECV | SIMHCA_CQE_INV);
	assert_int_equal(cqe.inv_rkey, FAST + 1);
	post_write(t, FAST + 1, 0x1000, 1);
	expect(t, 0, SIMHCA_WC_REM_ACCESS_ERR);
	reconnect(t);

	/* a list that cannot be read, wholly or in part, and one that is read past the address space */
	mem.segs = 0x10;
	post_key(t, 1, SIMHCA_WR_REG_MR, FAST + 2, &mem);
	cqe = expect(t, 1, SIMHCA_WC_MW_BIND_ERR);
	assert_int_equal(cqe.vendor_err, ENGINE_VERR_DMA);
	reconnect(t);
	mem.segs = UINT64_MAX - 20;
	post_key(t, 1, SIMHCA_WR_REG_MR, FAST + 2, &mem);
	expect(t, 1, SIMHCA_WC_MW_BIND_ERR);
	reconnect(t);
	mem.segs = GUEST_RAM_IOVA + GUEST_RAM_SIZE - 32;
	memcpy(guest_ptr(g, mem.segs), segs, 32);
	post_key(t, 1, SIMHCA_WR_REG_MR, FAST + 2, &mem);
	expect(t, 1, SIMHCA_WC_MW_BIND_ERR);
}

static uint32_t pick(uint32_t *seed, uint32_t num)
{
	*seed = *seed * 1664525 + 1013904223;
	return (*seed >> 16) % num;
}

/* Work requests that lie in every field: an error, and never a crash. */
static void test_nonsense(void **state)
{
	static const uint8_t opcodes[] = {
		SIMHCA_WR_LOCAL_INV, SIMHCA_WR_BIND_MW, SIMHCA_WR_REG_MR, SIMHCA_WR_SEND_WITH_INV,
	};
	static const uint32_t keys[] = { 0, MW, MW + 1, FAST, BASE, GUEST_KEY, UINT32_MAX };
	static const uint64_t values[] = { 0, 1, 4096, GUEST_RAM_IOVA, 1ull << 63, UINT64_MAX };
	struct front *t = *state;
	struct guest *g = &t->g[1];
	struct simhca_cmd cmd = create_fast(FAST, 3);
	struct simhca_cqe cqe;
	unsigned int i, failed = 0;
	uint32_t seed = 1;

	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_OK);
	assert_int_equal(create_mw(g, MW, GUEST_PDN, SIMHCA_MW_TYPE_1), SIMHCA_CMD_OK);
	assert_int_equal(guest_create_mr(g, BASE, GUEST_ALL | SIMHCA_ACCESS_MW_BIND, t->buf[1],
					 guest_sgl(t->buf[1], GUEST_BUF_SIZE)), SIMHCA_CMD_OK);
#define PICK(from)	from[pick(&seed, sizeof(from) / sizeof(from[0]))]
	for (i = 0; i < 500; i++) {
		struct simhca_mem_wqe mem = {
			.addr = PICK(values),
			.length = PICK(values),
			.segs = PICK(values),
			.num_segs = PICK(values),
			.lkey = PICK(keys),
			.access = PICK(values),
		};

		guest_post_recv(&t->qp[0], t->buf[0], 64, GUEST_KEY);
		post_key(t, 1, PICK(opcodes), PICK(keys), &mem);
		guest_ring(&t->qp[1]);
		assert_true(guest_poll_wait(&t->cq[1], &cqe, WAIT_MS));
		failed += cqe.status != SIMHCA_WC_SUCCESS;
		reconnect(t);
		while (guest_poll(&t->cq[0], &cqe))
			;
	}
	assert_true(failed > 100);
	assert_int_equal(guest_reg_read(g, SIMHCA_REG_STATUS), SIMHCA_STATUS_ENABLED);
}

int main(void)
{
#define C(name)	cmocka_unit_test_setup_teardown(name, front_setup_connected, front_teardown)
	const struct CMUnitTest tests[] = {
		C(test_commands),
		C(test_window),
		C(test_fast),
		C(test_nonsense),
	};

	return cmocka_run_group_tests_name("simhca_mw", tests, NULL, NULL);
}
