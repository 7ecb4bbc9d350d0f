// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* simhca's commands for memory regions that lose their memory, or get other, with traffic running. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "front_client.h"

#define WAIT_MS		10000
#define QUIET_MS	20
#define VICTIM		0x7700u		/* MR whose memory changes */
#define PATTERN		0x5a

static void expect_cqe(struct guest_cq *cq, struct simhca_cqe *cqe, uint8_t status)
{
	assert_true(guest_poll_wait(cq, cqe, WAIT_MS));
	assert_int_equal(cqe->status, status);
}

static void expect_event(struct guest *g, uint32_t event, uint32_t id)
{
	uint32_t got_event, got_id;

	while (!guest_next_event(g, 0, &got_event, &got_id))
		assert_true(guest_wait_irq(g, 0, WAIT_MS));
	assert_int_equal(got_event, event);
	assert_int_equal(got_id, id);
}

/* From guest 0 to guest 1, or the other way with RDMA_READ. */
static void post(struct front *t, uint8_t opcode, uint32_t lkey, uint32_t rkey, uint32_t len)
{
	struct simhca_sq_wqe wqe = {
		.opcode = opcode,
		.flags = SIMHCA_WR_SIGNALED,
		.num_sge = 1,
		.rkey = rkey,
		.remote_addr = t->buf[1],
	};

	guest_post_send(&t->qp[0], &wqe, t->buf[0], len, lkey);
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

static uint16_t fence(struct guest *g, uint32_t key)
{
	return guest_destroy(g, SIMHCA_CMD_FENCE_MR, key);
}

static void make_victim(struct front *t, unsigned int guest)
{
	assert_int_equal(guest_create_mr(&t->g[guest], VICTIM, GUEST_ALL, t->buf[guest],
					 guest_sgl(t->buf[guest], GUEST_BUF_SIZE)), SIMHCA_CMD_OK);
}

/* ---- one at a time ---- */

static void test_fence(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[1];
	struct simhca_cqe cqe;

	make_victim(t, 1);
	assert_int_equal(fence(g, VICTIM + 1), SIMHCA_CMD_ENOENT);
	assert_int_equal(fence(g, UINT32_MAX), SIMHCA_CMD_ENOENT);
	assert_int_equal(fence(g, VICTIM), SIMHCA_CMD_OK);
	assert_int_equal(fence(g, VICTIM), SIMHCA_CMD_OK);
	assert_int_equal(guest_create_mr(g, VICTIM, GUEST_ALL, t->buf[1],
					 guest_sgl(t->buf[1], 4096)), SIMHCA_CMD_EEXIST);

	post(t, SIMHCA_WR_RDMA_WRITE, GUEST_KEY, VICTIM, 64);
	guest_ring(&t->qp[0]);
	expect_cqe(&t->cq[0], &cqe, SIMHCA_WC_REM_ACCESS_ERR);
	assert_int_equal(cqe.vendor_err, ENGINE_VERR_FENCED | ENGINE_VERR_REMOTE);
	expect_event(g, SIMHCA_EVENT_QP_ACCESS_ERR, t->qp[1].qpn);
	reconnect(t);

	make_victim(t, 0);
	assert_int_equal(fence(&t->g[0], VICTIM), SIMHCA_CMD_OK);
	post(t, SIMHCA_WR_RDMA_READ, VICTIM, GUEST_KEY, 64);
	guest_ring(&t->qp[0]);
	expect_cqe(&t->cq[0], &cqe, SIMHCA_WC_LOC_PROT_ERR);
	assert_int_equal(cqe.vendor_err, ENGINE_VERR_FENCED);

	assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_MR, VICTIM), SIMHCA_CMD_OK);
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_MR, VICTIM), SIMHCA_CMD_ENOENT);
	assert_int_equal(fence(g, VICTIM), SIMHCA_CMD_ENOENT);
}

/* A valid command with one field changed, and what must come of it. */
#define BAD(good, field, value, expected) do { \
		struct simhca_cmd bad_cmd = (good); \
		bad_cmd.payload.rereg_mr.field = (value); \
		assert_int_equal(guest_cmd(g, &bad_cmd), (expected)); \
	} while (0)

/* What is wrong leaves the MR as it was; what is right changes all parts at once. */
static void test_rereg(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[1];
	uint64_t other = guest_alloc(g, 8192, 4096);
	struct simhca_seg segs[2] = { { other + 4096, 4096 }, { other, 4096 } };
	struct simhca_cmd good = {
		.opcode = SIMHCA_CMD_REREG_MR,
		.payload.rereg_mr = {
			.key = VICTIM,
			.pdn = GUEST_PDN,
			.access = GUEST_ALL,
			.mask = SIMHCA_REREG_TRANS | SIMHCA_REREG_PD | SIMHCA_REREG_ACCESS,
			.iova = t->buf[1] - 4000,
			.length = 8192,
		},
	};
	uint8_t *src = guest_ptr(&t->g[0], t->buf[0]), *dst = guest_ptr(g, other);
	struct simhca_cqe cqe;

	good.payload.rereg_mr.sgl = guest_sgl_segs(g, segs, 2);
	make_victim(t, 1);
	BAD(good, key, VICTIM + 1, SIMHCA_CMD_ENOENT);
	BAD(good, pdn, 0, SIMHCA_CMD_EINVAL);
	BAD(good, pdn, SIMHCA_MAX_PDS, SIMHCA_CMD_EINVAL);
	BAD(good, access, 0x20, SIMHCA_CMD_EINVAL);
	BAD(good, access, SIMHCA_ACCESS_REMOTE_WRITE, SIMHCA_CMD_EINVAL);
	BAD(good, mask, 0, SIMHCA_CMD_EINVAL);
	BAD(good, mask, 0xf, SIMHCA_CMD_EINVAL);
	BAD(good, iova, UINT64_MAX, SIMHCA_CMD_EINVAL);
	BAD(good, length, 0, SIMHCA_CMD_EINVAL);
	BAD(good, length, 8191, SIMHCA_CMD_EINVAL);
	BAD(good, sgl.nsegs, 0, SIMHCA_CMD_EINVAL);
	BAD(good, sgl.nsegs, SIMHCA_MAX_SEGS, SIMHCA_CMD_ENOMEM);
	BAD(good, sgl.addr, 0x1000, SIMHCA_CMD_EFAULT);

	memset(src, 0x11, 8192);
	post(t, SIMHCA_WR_RDMA_WRITE, GUEST_KEY, VICTIM, 8192);
	guest_ring(&t->qp[0]);
	expect_cqe(&t->cq[0], &cqe, SIMHCA_WC_SUCCESS);
	assert_memory_equal(guest_ptr(g, t->buf[1]), src, 8192);

	/* iova t->buf[1] is now byte 4000, and the second page lies before the first */
	assert_int_equal(guest_cmd(g, &good), SIMHCA_CMD_OK);
	memset(src, 0x22, 8192);
	post(t, SIMHCA_WR_RDMA_WRITE, GUEST_KEY, VICTIM, 4192);
	guest_ring(&t->qp[0]);
	expect_cqe(&t->cq[0], &cqe, SIMHCA_WC_SUCCESS);
	assert_memory_equal(dst + 4096 + 4000, src, 96);
	assert_memory_equal(dst, src, 4096);
	assert_int_equal(dst[4096 + 3999], 0);
	assert_int_equal(*(uint8_t *)guest_ptr(g, t->buf[1]), 0x11);

	/* fenced: only new memory helps */
	assert_int_equal(fence(g, VICTIM), SIMHCA_CMD_OK);
	BAD(good, mask, SIMHCA_REREG_PD | SIMHCA_REREG_ACCESS, SIMHCA_CMD_OK);
	post(t, SIMHCA_WR_RDMA_WRITE, GUEST_KEY, VICTIM, 8);
	guest_ring(&t->qp[0]);
	expect_cqe(&t->cq[0], &cqe, SIMHCA_WC_REM_ACCESS_ERR);
	reconnect(t);
	BAD(good, mask, SIMHCA_REREG_TRANS, SIMHCA_CMD_OK);
	post(t, SIMHCA_WR_RDMA_WRITE, GUEST_KEY, VICTIM, 8);
	guest_ring(&t->qp[0]);
	expect_cqe(&t->cq[0], &cqe, SIMHCA_WC_SUCCESS);
}

/* ---- with traffic ---- */

/* Which command takes the memory away. */
enum take_away {
	TAKE_NOT,	/* another key is fenced: shows that the test notices late bytes */
	TAKE_FENCE,
	TAKE_REREG,
	TAKE_DESTROY,
};

static void take_away(struct front *t, unsigned int guest, enum take_away how, uint64_t other)
{
	struct guest *g = &t->g[guest];
	struct simhca_cmd cmd = {
		.opcode = SIMHCA_CMD_REREG_MR,
		.payload.rereg_mr = {
			.key = VICTIM,
			.mask = SIMHCA_REREG_TRANS,
			.iova = t->buf[guest],
			.length = GUEST_BUF_SIZE,
			.sgl = guest_sgl(other, GUEST_BUF_SIZE),
		},
	};

	switch (how) {
	case TAKE_NOT:
		assert_int_equal(fence(g, VICTIM + 0x100), SIMHCA_CMD_OK);
		break;
	case TAKE_FENCE:
		assert_int_equal(fence(g, VICTIM), SIMHCA_CMD_OK);
		break;
	case TAKE_REREG:
		assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_OK);
		break;
	case TAKE_DESTROY:
		assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_MR, VICTIM), SIMHCA_CMD_OK);
		break;
	}
}

#define TRAFFIC_WRS	32u

/*
 * Requests of 4 MiB each are under way, by WRITE into guest 1 or by READ into guest 0, when
 * the memory they go to is taken away, filled with a pattern and given to others. Returns the status of
 * the first request that failed, or success; *@late: bytes that were written after the command.
 */
static uint8_t traffic_round(struct front *t, bool read, enum take_away how, uint64_t other,
			     unsigned int delay_us, size_t *late)
{
	unsigned int guest = read ? 0 : 1, i;
	uint8_t *mem = guest_ptr(&t->g[guest], t->buf[guest]);
	uint8_t failed = SIMHCA_WC_SUCCESS;
	struct simhca_cqe cqe;
	size_t n;

	make_victim(t, guest);
	memset(guest_ptr(&t->g[!guest], t->buf[!guest]), 0xc3, GUEST_BUF_SIZE);
	for (i = 0; i < TRAFFIC_WRS; i++)
		post(t, read ? SIMHCA_WR_RDMA_READ : SIMHCA_WR_RDMA_WRITE,
		     read ? VICTIM : GUEST_KEY, read ? GUEST_KEY : VICTIM, GUEST_BUF_SIZE);
	guest_ring(&t->qp[0]);
	usleep(delay_us);
	take_away(t, guest, how, other);
	memset(mem, PATTERN, GUEST_BUF_SIZE);

	for (i = 0; i < TRAFFIC_WRS; i++) {
		assert_true(guest_poll_wait(&t->cq[0], &cqe, WAIT_MS));
		assert_int_equal(cqe.wqe_index, i);
		if (failed != SIMHCA_WC_SUCCESS)
			assert_int_equal(cqe.status, SIMHCA_WC_WR_FLUSH_ERR);
		else
			failed = cqe.status;
	}
	for (n = 0, *late = 0; n < GUEST_BUF_SIZE; n++)
		*late += mem[n] != PATTERN;
	if (how != TAKE_DESTROY)
		assert_int_equal(guest_destroy(&t->g[guest], SIMHCA_CMD_DESTROY_MR, VICTIM),
				 SIMHCA_CMD_OK);
	reconnect(t);
	return failed;
}

static void test_no_late_byte(void **state)
{
	static const enum take_away hows[] = { TAKE_FENCE, TAKE_REREG, TAKE_DESTROY };
	struct front *t = *state;
	uint64_t other[2];
	unsigned int i, hits = 0;
	size_t late;

	for (i = 0; i < 2; i++) {
		other[i] = guest_alloc(&t->g[i], GUEST_BUF_SIZE, 4096);
		assert_int_equal(guest_create_mr(&t->g[i], VICTIM + 0x100, GUEST_ALL, t->buf[i],
						 guest_sgl(t->buf[i], 4096)), SIMHCA_CMD_OK);
	}
	for (i = 0; i < 60; i++) {
		bool read = i & 1;
		enum take_away how = hows[i / 2 % 3];
		uint8_t status = traffic_round(t, read, how, other[!read], i * 50, &late);

		assert_int_equal(late, 0);
		if (status == SIMHCA_WC_SUCCESS)
			continue;	/* all was done before, or each request had one memory */
		assert_int_equal(status, read ? SIMHCA_WC_LOC_PROT_ERR : SIMHCA_WC_REM_ACCESS_ERR);
		hits++;
	}
	assert_true(hits > 0);

	/* A busy machine may have done all of it before the pattern is written. */
	for (i = 0, late = 0; i < 100 && !late; i++)
		assert_int_equal(traffic_round(t, i & 1, TAKE_NOT, 0, 0, &late), SIMHCA_WC_SUCCESS);
	assert_true(late > 0);
	print_message("  %u of 60 commands found a request under way\n", hits);
}

/* ---- few keys ---- */

#define FEW_KEYS	(GUEST_KEY >> SIMHCA_KEY_INDEX_SHIFT)

static int setup_few_keys(void **state)
{
	front_setup_with(state, 0, FEW_KEYS);
	front_connect(*state);
	return 0;
}

static uint16_t create_mw(struct guest *g, uint32_t key)
{
	struct simhca_cmd cmd = {
		.opcode = SIMHCA_CMD_CREATE_MW,
		.payload.create_mw = { .key = key, .pdn = GUEST_PDN, .type = SIMHCA_MW_TYPE_2 },
	};

	return guest_cmd(g, &cmd);
}

static uint16_t create_fast_mr(struct guest *g, uint32_t key)
{
	struct simhca_cmd cmd = {
		.opcode = SIMHCA_CMD_CREATE_MR,
		.payload.create_mr = {
			.key = key, .pdn = GUEST_PDN, .flags = SIMHCA_MR_FAST, .sgl.nsegs = 1,
		},
	};

	return guest_cmd(g, &cmd);
}

/* There are as many keys as the device says, of whatever kind: GUEST_KEY has the last index. */
static void test_few_keys(void **state)
{
	const uint32_t last = GUEST_KEY, above = last + (1u << SIMHCA_KEY_INDEX_SHIFT);
	struct front *t = *state;
	struct guest *g = &t->g[0];
	struct simhca_sgl sgl = guest_sgl(t->buf[0], 4096);
	struct simhca_cmd query = { .opcode = SIMHCA_CMD_QUERY_DEV, .out_addr = g->out };
	const struct simhca_dev_attr *attr = guest_ptr(g, g->out);

	assert_int_equal(guest_cmd(g, &query), SIMHCA_CMD_OK);
	assert_int_equal(attr->max_mr, FEW_KEYS);

	assert_int_equal(guest_create_mr(g, above, GUEST_ALL, 0, sgl), SIMHCA_CMD_EINVAL);
	assert_int_equal(create_fast_mr(g, above), SIMHCA_CMD_EINVAL);
	assert_int_equal(create_mw(g, above), SIMHCA_CMD_EINVAL);

	assert_int_equal(guest_create_mr(g, last, GUEST_ALL, 0, sgl), SIMHCA_CMD_EEXIST);
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_MR, last), SIMHCA_CMD_OK);
	assert_int_equal(create_fast_mr(g, last), SIMHCA_CMD_OK);
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_MR, last), SIMHCA_CMD_OK);
	assert_int_equal(create_mw(g, last), SIMHCA_CMD_OK);
}

int main(void)
{
#define C(name)	cmocka_unit_test_setup_teardown(name, front_setup_connected, front_teardown)
	const struct CMUnitTest tests[] = {
		C(test_fence),
		C(test_rereg),
		C(test_no_late_byte),
		cmocka_unit_test_setup_teardown(test_few_keys, setup_few_keys, front_teardown),
	};

	return cmocka_run_group_tests_name("simhca_mr", tests, NULL, NULL);
}
