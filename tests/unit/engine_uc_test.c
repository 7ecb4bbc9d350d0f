// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* The engine's unreliable connections: what nobody takes is dropped, and the sender never hears of it. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine_fake.h"

#define OTHER_KEY	0x200u

static int modify(struct fake_qp *qp, const struct engine_qp_attr *from, enum engine_qp_state state,
		  uint32_t mask)
{
	struct engine_qp_attr attr = *from;

	attr.state = state;
	return engine_qp_modify(&qp->base, &attr, ENGINE_QP_STATE | mask);
}

static void connect_one(struct fake_qp *qp, struct fake_qp *dest)
{
	struct engine_qp_attr attr = fake_attr(qp, dest);

	assert_int_equal(modify(qp, &attr, ENGINE_QPS_INIT, ENGINE_QP_ACCESS), 0);
	assert_int_equal(modify(qp, &attr, ENGINE_QPS_RTR,
				ENGINE_QP_AV | ENGINE_QP_PATH_MTU | ENGINE_QP_DEST_QPN |
				ENGINE_QP_RQ_PSN), 0);
	assert_int_equal(modify(qp, &attr, ENGINE_QPS_RTS, ENGINE_QP_SQ_PSN), 0);
}

static int uc_setup(void **state)
{
	struct fake_pair *t;

	fake_setup(state);
	t = *state;
	fake_qp_free(t->a);
	fake_qp_free(t->b);
	t->a = fake_qp_new_uc(&t->hca[0], 17, t->cq[0]);
	t->b = fake_qp_new_uc(&t->hca[1], 33, t->cq[1]);
	connect_one(t->a, t->b);
	connect_one(t->b, t->a);
	return 0;
}

/* The newest request of a has succeeded, whatever became of it. */
static void expect_sent(struct fake_pair *t)
{
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, t->a->sq_pi - 1, false, ENGINE_WC_SUCCESS, 0);
	assert_int_equal(t->a->base.attr.state, ENGINE_QPS_RTS);
	assert_int_equal(t->a->events, 0);
	assert_int_equal(fabric_next_timer(&t->fabric), ENGINE_NO_TIMER);
}

static void test_messages(void **state)
{
	const uint32_t len = 3 << 20;
	struct fake_pair *t = *state;
	uint8_t *src = fake_ptr(&t->hca[0], SRC), *dst = fake_ptr(&t->hca[1], DST);
	struct engine_send_wr *wr;
	const struct engine_wc *wc;

	fake_fill(src, len, 1);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, len, DST);
	expect_sent(t);
	assert_memory_equal(src, dst, len);
	fake_fill(src, len, 2);
	fake_recv(t->b, DST, len);
	fake_send(t->a, ENGINE_WR_SEND, SRC, len, 0);
	expect_sent(t);
	fake_expect_wc(t->cq[1], t->b, 0, true, ENGINE_WC_SUCCESS, 0);
	assert_memory_equal(src, dst, len);
	fake_recv(t->b, DST, 0);
	wr = fake_send(t->a, ENGINE_WR_RDMA_WRITE_WITH_IMM, SRC, 8, DST);
	wr->imm_data = 77;
	expect_sent(t);
	wc = fake_expect_wc(t->cq[1], t->b, 1, true, ENGINE_WC_SUCCESS, 0);
	assert_true(wc->with_imm);
	assert_int_equal(wc->imm_data, 77);
	fake_expect_quiet(t);
}

static void test_dropped(void **state)
{
	struct fake_pair *t = *state;
	uint8_t *dst = fake_ptr(&t->hca[1], DST);

	memset(fake_ptr(&t->hca[0], SRC), 0xaa, 100);
	/* no receive */
	fake_send(t->a, ENGINE_WR_SEND, SRC, 100, 0);
	expect_sent(t);
	/* too long: the receive stays for the next */
	fake_recv(t->b, DST, 50);
	fake_send(t->a, ENGINE_WR_SEND, SRC, 51, 0);
	expect_sent(t);
	fake_expect_quiet(t);
	assert_int_equal(dst[0], 0);
	fake_send(t->a, ENGINE_WR_SEND, SRC, 50, 0);
	expect_sent(t);
	fake_expect_wc(t->cq[1], t->b, 0, true, ENGINE_WC_SUCCESS, 0);
	assert_int_equal(dst[49], 0xaa);
	/* not allowed, by the memory and by the QP */
	memset(dst, 0, 100);
	fake_make_mr(&t->hca[1], OTHER_KEY, FAKE_PDN, ENGINE_ACCESS_REMOTE_READ, FAKE_IOVA, FAKE_MEM);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST)->rkey = OTHER_KEY;
	expect_sent(t);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST)->rkey = OTHER_KEY + 1;
	expect_sent(t);
	t->b->base.attr.access &= ~ENGINE_ACCESS_REMOTE_WRITE;
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	expect_sent(t);
	assert_int_equal(dst[0], 0);
	assert_int_equal(t->b->base.attr.state, ENGINE_QPS_RTS);
	assert_int_equal(t->b->events, 0);
	/* nobody there, and then somebody: numbers of packets do not matter */
	assert_int_equal(fake_set_state(t->b, ENGINE_QPS_RESET), 0);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	expect_sent(t);
	connect_one(t->b, t->a);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	expect_sent(t);
	assert_int_equal(dst[0], 0xaa);
	assert_int_equal(t->b->base.attr.rq_psn, t->a->base.attr.sq_psn);
	fake_expect_quiet(t);
}

/* Many at once, some of which find a receive: order stays, and none is lost that could be taken. */
static void test_list(void **state)
{
	struct fake_pair *t = *state;
	unsigned int i;

	for (i = 0; i < 10; i++)
		fake_recv(t->b, DST, 8);
	for (i = 0; i < 20; i++)
		fake_send(t->a, ENGINE_WR_SEND, SRC, i % 2 ? 9 : 8, 0);
	fake_run_all(t);
	for (i = 0; i < 20; i++)
		fake_expect_wc(t->cq[0], t->a, i, false, ENGINE_WC_SUCCESS, 0);
	for (i = 0; i < 10; i++)
		fake_expect_wc(t->cq[1], t->b, i, true, ENGINE_WC_SUCCESS, 0);
	fake_expect_quiet(t);
}

/* Memory of a receive that is not there is the receiver's own error. */
static void test_receiver_fails(void **state)
{
	struct fake_pair *t = *state;

	fake_recv(t->b, DST, 8)->sge[0].key = OTHER_KEY;
	fake_recv(t->b, DST, 8);
	fake_send(t->a, ENGINE_WR_SEND, SRC, 8, 0);
	fake_send(t->a, ENGINE_WR_SEND, SRC, 8, 0);
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	fake_expect_wc(t->cq[0], t->a, 1, false, ENGINE_WC_SUCCESS, 0);
	fake_expect_wc(t->cq[1], t->b, 0, true, ENGINE_WC_LOC_PROT_ERR,
		       ENGINE_VERR_KEY | ENGINE_VERR_RECV);
	fake_expect_wc(t->cq[1], t->b, 1, true, ENGINE_WC_WR_FLUSH_ERR, 0);
	fake_expect_quiet(t);
	fake_expect_states(t, ENGINE_QPS_RTS, ENGINE_QPS_ERR);
}

/* Own errors stop the send queue, and that alone. */
static void test_sender_fails(void **state)
{
	static const enum engine_opcode bad[] = {
		ENGINE_WR_RDMA_READ, ENGINE_WR_ATOMIC_FETCH_AND_ADD, ENGINE_WR_ATOMIC_CMP_AND_SWP,
		ENGINE_WR_SEND_WITH_INV, ENGINE_WR_FLUSH, ENGINE_WR_ATOMIC_WRITE,
	};
	struct engine_qp_attr attr = { 0 };
	struct fake_pair *t = *state;
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		fake_send(t->a, bad[i], SRC, 8, ALIGNED);
		fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
		fake_run_all(t);
		fake_expect_wc(t->cq[0], t->a, 2 * i, false, ENGINE_WC_LOC_QP_OP_ERR,
			       ENGINE_VERR_WQE);
		fake_expect_wc(t->cq[0], t->a, 2 * i + 1, false, ENGINE_WC_WR_FLUSH_ERR, 0);
		fake_expect_states(t, ENGINE_QPS_SQE, ENGINE_QPS_RTS);
		/* It still receives. */
		fake_send(t->b, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
		fake_run_all(t);
		fake_expect_wc(t->cq[1], t->b, i, false, ENGINE_WC_SUCCESS, 0);
		assert_int_equal(modify(t->a, &attr, ENGINE_QPS_RTS, 0), 0);
	}
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST)->sge[0].key = OTHER_KEY;
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 2 * i, false, ENGINE_WC_LOC_PROT_ERR, ENGINE_VERR_KEY);
	assert_int_equal(modify(t->a, &attr, ENGINE_QPS_RTS, 0), 0);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	expect_sent(t);
}

/* An RC and a UC QP do not know each other. */
static void test_types(void **state)
{
	struct fake_pair *t = *state;
	struct engine_qp_attr attr = fake_attr(t->a, t->b);
	struct fake_qp *rc;

	fake_qp_free(t->b);
	t->b = rc = fake_qp_new(&t->hca[1], 33, t->cq[1]);
	attr = fake_attr(rc, t->a);
	fake_to_init(rc, &attr);
	fake_to_rtr(rc, &attr);
	memset(fake_ptr(&t->hca[0], SRC), 0x44, 8);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	expect_sent(t);
	assert_int_equal(*fake_ptr(&t->hca[1], DST), 0);

	assert_int_equal(fake_set_state(t->a, ENGINE_QPS_RESET), 0);
	assert_int_equal(modify(t->a, &attr, ENGINE_QPS_INIT, 0), -EINVAL);
	assert_int_equal(modify(t->a, &attr, ENGINE_QPS_INIT, ENGINE_QP_ACCESS), 0);
	assert_int_equal(modify(t->a, &attr, ENGINE_QPS_RTR,
				ENGINE_QP_AV | ENGINE_QP_PATH_MTU | ENGINE_QP_DEST_QPN |
				ENGINE_QP_RQ_PSN | ENGINE_QP_MIN_RNR_TIMER), -EINVAL);
}

int main(void)
{
#define T(name)	cmocka_unit_test_setup_teardown(name, uc_setup, fake_teardown)
	const struct CMUnitTest tests[] = {
		T(test_messages),
		T(test_dropped),
		T(test_list),
		T(test_receiver_fails),
		T(test_sender_fails),
		T(test_types),
	};

	return cmocka_run_group_tests_name("engine_uc", tests, NULL, NULL);
}
