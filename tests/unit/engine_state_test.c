// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* The engine's QPs: retries, timers, states, queues that fail, changes under traffic. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine_fake.h"

/* ---- receiver not ready, nobody there ---- */

static void test_rnr(void **state)
{
	struct fake_pair *t = *state;

	fake_send(t->a, ENGINE_WR_SEND, SRC, 8, 0);
	fake_run_all(t);
	fake_expect_quiet(t);
	assert_int_equal(fabric_next_timer(&t->fabric), t->now + 640000);
	/* More posts do not wake it, time does. */
	engine_qp_ring(&t->a->base);
	assert_int_equal(fake_run(&t->fabric, t->now + 639999), 0);
	fake_recv(t->b, DST, 8);
	t->now += 640000;
	fake_run_all(t);
	fake_expect_wc(t->cq[1], t->b, 0, true, ENGINE_WC_SUCCESS, 0);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	assert_int_equal(t->hca[1].base.stats.rnr_naks, 1);
	assert_int_equal(fabric_next_timer(&t->fabric), ENGINE_NO_TIMER);

	/* The counter starts anew: two retries, then the end. */
	fake_send(t->a, ENGINE_WR_RDMA_WRITE_WITH_IMM, SRC, 8, DST);
	fake_run_all(t);
	t->now += 640000;
	fake_run_all(t);
	fake_expect_quiet(t);
	t->now += 640000;
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 1, false, ENGINE_WC_RNR_RETRY_EXC_ERR, ENGINE_VERR_RNR);
	assert_int_equal(t->hca[1].base.stats.rnr_naks, 4);
	fake_expect_states(t, ENGINE_QPS_ERR, ENGINE_QPS_RTS);
}

static void test_rnr_forever(void **state)
{
	struct fake_pair *t = *state;
	unsigned int i;

	t->a->base.attr.rnr_retry = 7;
	t->b->base.attr.min_rnr_timer = 0;	/* the longest: 655.36 ms */
	fake_send(t->a, ENGINE_WR_SEND, SRC, 8, 0);
	fake_run_all(t);
	assert_int_equal(fabric_next_timer(&t->fabric), t->now + 655360000);
	for (i = 0; i < 100; i++) {
		t->now += 656 * MS;
		fake_run_all(t);
	}
	fake_expect_quiet(t);
	fake_recv(t->b, DST, 8);
	t->now += 656 * MS;
	fake_run_all(t);
	fake_expect_wc(t->cq[1], t->b, 0, true, ENGINE_WC_SUCCESS, 0);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
}

/* Expects retry_cnt + 1 time-outs and then the error. */
static void expect_retry_exceeded(struct fake_pair *t, uint32_t index, uint32_t verr)
{
	unsigned int i;

	fake_run_all(t);
	for (i = 0; i < 4; i++) {
		fake_expect_quiet(t);
		assert_int_equal(t->a->base.sched, ENGINE_QP_TIMER);
		assert_int_equal(t->a->base.timer, t->now + (4096ull << 10));
		t->now += 4096ull << 10;
		fake_run_all(t);
	}
	fake_expect_wc(t->cq[0], t->a, index, false, ENGINE_WC_RETRY_EXC_ERR, verr);
	assert_int_equal(t->a->base.attr.state, ENGINE_QPS_ERR);
}

static void test_retry_no_qp(void **state)
{
	struct fake_pair *t = *state;

	fake_qp_free(t->b);
	t->b = NULL;
	fake_send(t->a, ENGINE_WR_SEND, SRC, 8, 0);
	expect_retry_exceeded(t, 0, ENGINE_VERR_NO_PEER);
}

static void test_retry_wrong_state(void **state)
{
	struct fake_pair *t = *state;

	assert_int_equal(fake_set_state(t->b, ENGINE_QPS_ERR), 0);
	fake_send(t->a, ENGINE_WR_RDMA_READ, SRC, 8, DST);
	expect_retry_exceeded(t, 0, ENGINE_VERR_PEER_STATE);
}

static void test_retry_connected_elsewhere(void **state)
{
	struct fake_pair *t = *state;
	struct engine_qp_attr attr = fake_attr(t->b, t->a);

	attr.dest_qpn++;
	assert_int_equal(fake_set_state(t->b, ENGINE_QPS_RESET), 0);
	fake_to_init(t->b, &attr);
	fake_to_rtr(t->b, &attr);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	expect_retry_exceeded(t, 0, ENGINE_VERR_PEER_OTHER);
}

static void test_retry_psn(void **state)
{
	struct fake_pair *t = *state;
	struct engine_qp_attr attr = fake_attr(t->b, t->a);

	/* One message and a peer that was reset: it does not know of that message. */
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 5000, DST);
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	assert_int_equal(t->a->base.attr.sq_psn, 17 * 5 + 5);	/* 5 packets of 1 KiB */
	assert_int_equal(t->b->base.attr.rq_psn, 17 * 5 + 5);
	assert_int_equal(fake_set_state(t->b, ENGINE_QPS_RESET), 0);
	fake_to_init(t->b, &attr);
	fake_to_rtr(t->b, &attr);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	expect_retry_exceeded(t, 1, ENGINE_VERR_PSN);
}

static void test_retry_gid_gone(void **state)
{
	struct fake_pair *t = *state;

	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	assert_int_equal(engine_hca_set_gid(&t->hca[1].base, 1, NULL), 0);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	expect_retry_exceeded(t, 1, ENGINE_VERR_NO_PEER);
}

static void test_retry_succeeds(void **state)
{
	struct fake_pair *t = *state;
	struct engine_qp_attr attr = fake_attr(t->b, t->a);

	assert_int_equal(fake_set_state(t->b, ENGINE_QPS_RESET), 0);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	fake_run_all(t);
	t->now += 4096ull << 10;
	fake_run_all(t);
	fake_expect_quiet(t);
	assert_int_equal(t->a->base.retries_left, 2);
	fake_to_init(t->b, &attr);
	fake_to_rtr(t->b, &attr);
	t->now += 4096ull << 10;
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	assert_int_equal(t->a->base.retries_left, 3);
}

static void test_retry_infinite_timeout(void **state)
{
	struct fake_pair *t = *state;

	t->a->base.attr.timeout = 0;
	assert_int_equal(fake_set_state(t->b, ENGINE_QPS_ERR), 0);
	fake_run_all(t);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	fake_run_all(t);
	t->now += 3600ull * 1000 * MS;
	fake_run_all(t);
	fake_expect_quiet(t);
	/* Only software ends it. */
	assert_int_equal(fake_set_state(t->a, ENGINE_QPS_ERR), 0);
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_WR_FLUSH_ERR, 0);
}

static void test_not_running(void **state)
{
	struct fake_pair *t = *state;

	engine_hca_set_running(&t->hca[0].base, false);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	fake_run_all(t);
	fake_expect_quiet(t);
	engine_hca_set_running(&t->hca[0].base, true);
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);

	engine_hca_set_running(&t->hca[1].base, false);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	expect_retry_exceeded(t, 1, ENGINE_VERR_NO_PEER);
	engine_hca_set_running(&t->hca[1].base, true);
}

/* ---- states ---- */

static void test_flush(void **state)
{
	struct fake_pair *t = *state;
	uint32_t i;

	for (i = 0; i < 200; i++)
		fake_recv(t->a, DST, 8);
	for (i = 0; i < 150; i++)
		fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST)->flags = 0;
	assert_int_equal(fake_set_state(t->a, ENGINE_QPS_ERR), 0);
	fake_run_all(t);
	for (i = 0; i < 150; i++)
		fake_expect_wc(t->cq[0], t->a, i, false, ENGINE_WC_WR_FLUSH_ERR, 0);
	for (i = 0; i < 200; i++)
		fake_expect_wc(t->cq[0], t->a, i, true, ENGINE_WC_WR_FLUSH_ERR, 0);
	fake_expect_quiet(t);

	/* Sends posted now ring; receives are found soon. */
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 150, false, ENGINE_WC_WR_FLUSH_ERR, 0);
	for (i = 0; i < 10; i++) {
		t->now += 70 * MS;
		assert_int_equal(fake_run(&t->fabric, t->now), 0);
	}
	fake_recv(t->a, DST, 8);
	assert_true(fabric_next_timer(&t->fabric) <= t->now + 64 * MS);
	t->now = fabric_next_timer(&t->fabric);
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 200, true, ENGINE_WC_WR_FLUSH_ERR, 0);
	fake_expect_quiet(t);

	/* And the QP can be used again. */
	assert_int_equal(fake_set_state(t->a, ENGINE_QPS_RESET), 0);
	assert_int_equal(fake_set_state(t->b, ENGINE_QPS_RESET), 0);
	fake_connect(t->a, t->b);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	assert_int_equal(fabric_next_timer(&t->fabric), ENGINE_NO_TIMER);
}

static void test_reset_drops(void **state)
{
	struct fake_pair *t = *state;

	fake_send(t->a, ENGINE_WR_SEND, SRC, 8, 0);
	fake_send(t->a, ENGINE_WR_SEND, SRC, 8, 0);
	fake_run_all(t);		/* waits: no receive */
	assert_int_equal(fake_set_state(t->a, ENGINE_QPS_RESET), 0);
	t->now += 1000 * MS;
	fake_run_all(t);
	fake_expect_quiet(t);
	assert_int_equal(t->a->base.attr.sq_psn, 0);
	assert_int_equal(fabric_next_timer(&t->fabric), ENGINE_NO_TIMER);
}

static int to_sqd_notify(struct fake_qp *qp)
{
	struct engine_qp_attr attr = { .state = ENGINE_QPS_SQD, .sqd_notify = true };

	return engine_qp_modify(&qp->base, &attr, ENGINE_QP_STATE | ENGINE_QP_SQD_NOTIFY);
}

static void test_sqd(void **state)
{
	struct fake_pair *t = *state;
	struct engine_qp_attr attr = { .retry_cnt = 1 };

	/* One request is under way (no receive yet), one is not. */
	fake_send(t->a, ENGINE_WR_SEND, SRC, 8, 0);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	fake_run_all(t);
	assert_int_equal(to_sqd_notify(t->a), 0);
	fake_run_all(t);
	assert_int_equal(t->a->events, 0);
	assert_true(engine_qp_draining(&t->a->base));
	fake_recv(t->b, DST, 8);
	t->now += 10 * MS;
	fake_run_all(t);
	fake_expect_wc(t->cq[1], t->b, 0, true, ENGINE_WC_SUCCESS, 0);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	fake_expect_quiet(t);
	assert_int_equal(t->a->events, EVENT(SQ_DRAINED));
	assert_false(engine_qp_draining(&t->a->base));

	/* Responding goes on. */
	fake_send(t->b, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	fake_run_all(t);
	fake_expect_wc(t->cq[1], t->b, 0, false, ENGINE_WC_SUCCESS, 0);

	assert_int_equal(engine_qp_modify(&t->a->base, &attr, ENGINE_QP_RETRY_CNT), 0);
	assert_int_equal(t->a->base.attr.retry_cnt, 1);
	assert_int_equal(fake_set_state(t->a, ENGINE_QPS_RTS), 0);
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 1, false, ENGINE_WC_SUCCESS, 0);

	t->a->events = 0;
	assert_int_equal(to_sqd_notify(t->a), 0);
	assert_int_equal(t->a->events, EVENT(SQ_DRAINED));

	/* Who does not ask is not told, and who asked once is not told of the next time. */
	t->a->events = 0;
	assert_int_equal(fake_set_state(t->a, ENGINE_QPS_RTS), 0);
	assert_int_equal(fake_set_state(t->a, ENGINE_QPS_SQD), 0);
	assert_int_equal(t->a->events, 0);
}

#define M_INIT	ENGINE_QP_ACCESS
#define M_RTR	(ENGINE_QP_AV | ENGINE_QP_PATH_MTU | ENGINE_QP_DEST_QPN | ENGINE_QP_RQ_PSN | \
		 ENGINE_QP_MAX_DEST_RD_ATOMIC | ENGINE_QP_MIN_RNR_TIMER)
#define M_RTS	(ENGINE_QP_TIMEOUT | ENGINE_QP_RETRY_CNT | ENGINE_QP_RNR_RETRY | \
		 ENGINE_QP_SQ_PSN | ENGINE_QP_MAX_RD_ATOMIC)

/* Brings t->a from RESET to @state. */
static void bring_to(struct fake_pair *t, enum engine_qp_state state)
{
	struct engine_qp_attr attr = fake_attr(t->a, t->b);

	assert_int_equal(fake_set_state(t->a, ENGINE_QPS_RESET), 0);
	if (state == ENGINE_QPS_ERR)
		assert_int_equal(fake_set_state(t->a, ENGINE_QPS_ERR), 0);
	if (state == ENGINE_QPS_RESET || state == ENGINE_QPS_ERR)
		return;
	fake_to_init(t->a, &attr);
	if (state == ENGINE_QPS_INIT)
		return;
	fake_to_rtr(t->a, &attr);
	if (state == ENGINE_QPS_RTR)
		return;
	fake_to_rts(t->a, &attr);
	if (state == ENGINE_QPS_SQD)
		assert_int_equal(fake_set_state(t->a, ENGINE_QPS_SQD), 0);
}

static void test_transitions(void **state)
{
	/* 0: not allowed; otherwise the mask that is required, with STATE */
	static const uint32_t need[7][7] = {
		[ENGINE_QPS_RESET] = { [ENGINE_QPS_INIT] = M_INIT | 1 },
		[ENGINE_QPS_INIT] = { [ENGINE_QPS_INIT] = 1, [ENGINE_QPS_RTR] = M_RTR | 1 },
		[ENGINE_QPS_RTR] = { [ENGINE_QPS_RTS] = M_RTS | 1 },
		[ENGINE_QPS_RTS] = { [ENGINE_QPS_RTS] = 1, [ENGINE_QPS_SQD] = 1 },
		[ENGINE_QPS_SQD] = { [ENGINE_QPS_RTS] = 1, [ENGINE_QPS_SQD] = 1 },
	};
	struct fake_pair *t = *state;
	struct engine_qp_attr attr = fake_attr(t->a, t->b);
	uint32_t from, to, bit;
	int ret;

	for (from = 0; from < 7; from++) {
		if (from == ENGINE_QPS_SQE)	/* a RC QP is never there */
			continue;
		for (to = 0; to < 7; to++) {
			uint32_t mask = need[from][to];

			if (to == ENGINE_QPS_RESET || to == ENGINE_QPS_ERR)
				mask = 1;
			attr.state = to;
			if (!mask) {
				bring_to(t, from);
				for (bit = 0; bit < 15; bit++)
					assert_int_equal(engine_qp_modify(&t->a->base, &attr,
							 1 | 1u << bit), -EINVAL);
				assert_int_equal(engine_qp_modify(&t->a->base, &attr,
						 ENGINE_QP_ALL), -EINVAL);
				assert_int_equal(t->a->base.attr.state, from);
				continue;
			}
			/* every required bit, one at a time */
			for (bit = 1; bit < 15; bit++) {
				if (!(mask & 1u << bit))
					continue;
				bring_to(t, from);
				ret = engine_qp_modify(&t->a->base, &attr, mask & ~(1u << bit));
				assert_int_equal(ret, -EINVAL);
				assert_int_equal(t->a->base.attr.state, from);
			}
			/* one that no transition of RC takes */
			assert_int_equal(engine_qp_modify(&t->a->base, &attr,
					 mask | ENGINE_QP_QKEY), -EINVAL);
			assert_int_equal(engine_qp_modify(&t->a->base, &attr, mask | 1u << 15),
					 -EINVAL);
			bring_to(t, from);
			assert_int_equal(engine_qp_modify(&t->a->base, &attr, mask), 0);
			assert_int_equal(t->a->base.attr.state, to);
		}
	}
	attr.state = 7;
	assert_int_equal(engine_qp_modify(&t->a->base, &attr, 1), -EINVAL);
}

static void test_modify_values(void **state)
{
	struct fake_pair *t = *state;
	const struct engine_qp_attr good = fake_attr(t->a, t->b);
	struct engine_qp_attr attr;

#define BAD_RTR(field, value) do { \
		attr = good; \
		attr.state = ENGINE_QPS_RTR; \
		attr.field = (value); \
		assert_int_equal(engine_qp_modify(&t->a->base, &attr, M_RTR | 1), -EINVAL); \
	} while (0)
#define BAD_RTS(field, value) do { \
		attr = good; \
		attr.state = ENGINE_QPS_RTS; \
		attr.field = (value); \
		assert_int_equal(engine_qp_modify(&t->a->base, &attr, M_RTS | 1), -EINVAL); \
	} while (0)

	bring_to(t, ENGINE_QPS_INIT);
	BAD_RTR(path_mtu, 0);
	BAD_RTR(path_mtu, 6);
	BAD_RTR(rq_psn, 1 << 24);
	BAD_RTR(dest_qpn, 1 << 24);
	BAD_RTR(min_rnr_timer, 32);
	BAD_RTR(max_dest_rd_atomic, ENGINE_MAX_RD_ATOMIC + 1);
	BAD_RTR(sgid_index, 0);			/* empty */
	BAD_RTR(sgid_index, ENGINE_MAX_GIDS);
	attr = good;
	attr.state = ENGINE_QPS_RTR;
	attr.dgid[7] ^= 1;
	assert_int_equal(engine_qp_modify(&t->a->base, &attr, M_RTR | 1), -ENETUNREACH);
	assert_int_equal(t->a->base.attr.state, ENGINE_QPS_INIT);

	bring_to(t, ENGINE_QPS_RTR);
	BAD_RTS(timeout, 32);
	BAD_RTS(retry_cnt, 8);
	BAD_RTS(rnr_retry, 8);
	BAD_RTS(sq_psn, 1 << 24);
	BAD_RTS(max_rd_atomic, ENGINE_MAX_RD_ATOMIC + 1);
	bring_to(t, ENGINE_QPS_RTS);
	attr.access = 0x10;
	assert_int_equal(engine_qp_modify(&t->a->base, &attr, ENGINE_QP_ACCESS), -EINVAL);
}

static void test_create_checks(void **state)
{
	struct fake_pair *t = *state;
	struct engine_qp qp = t->a->base;
	struct engine_cq cq = { .hca = &t->hca[0].base };

	assert_int_equal(engine_qp_create(&qp), -EEXIST);
	qp.qpn = 1;
	assert_int_equal(engine_qp_create(&qp), -EINVAL);
	qp.qpn = ENGINE_MAX_QPS;
	assert_int_equal(engine_qp_create(&qp), -EINVAL);
	qp.qpn = 5;
	qp.pdn = 0;
	assert_int_equal(engine_qp_create(&qp), -EINVAL);
	assert_int_equal(engine_cq_create(&cq), -EINVAL);
	cq.cqn = 9;
	assert_int_equal(engine_cq_create(&cq), -EEXIST);
	assert_int_equal(engine_cq_destroy(&t->cq[0]->base), -EBUSY);
}

/* ---- queues that fail ---- */

static void test_cq_overrun(void **state)
{
	struct fake_pair *t = *state;
	unsigned int i;

	t->cq[0]->cap = 4;
	for (i = 0; i < 6; i++)
		fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	fake_run_all(t);
	assert_int_equal(t->cq[0]->num, 4);
	assert_int_equal(t->cq[0]->events, EVENT(CQ_ERR));
	assert_int_equal(t->a->events, EVENT(QP_FATAL));
	fake_expect_states(t, ENGINE_QPS_ERR, ENGINE_QPS_RTS);
}

static void test_responder_cq_overrun(void **state)
{
	struct fake_pair *t = *state;

	t->cq[1]->error = -EFAULT;
	fake_recv(t->b, DST, 8);
	fake_send(t->a, ENGINE_WR_SEND, SRC, 8, 0);
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_REM_OP_ERR,
		       ENGINE_VERR_PEER_CQ | ENGINE_VERR_REMOTE);
	assert_int_equal(t->cq[1]->events, EVENT(CQ_ERR));
	assert_int_equal(t->b->events, EVENT(QP_FATAL));
	assert_int_equal(t->hca[1].base.stats.translate_faults, 1);
	fake_expect_states(t, ENGINE_QPS_ERR, ENGINE_QPS_ERR);
}

static void test_dead_queues(void **state)
{
	struct fake_pair *t = *state;

	t->b->rq_error = -EFAULT;
	fake_recv(t->b, DST, 8);
	fake_send(t->a, ENGINE_WR_SEND, SRC, 8, 0);
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_REM_OP_ERR,
		       ENGINE_VERR_WQE | ENGINE_VERR_REMOTE);
	assert_int_equal(t->b->events, EVENT(QP_FATAL));
	fake_expect_states(t, ENGINE_QPS_ERR, ENGINE_QPS_ERR);
	fake_expect_quiet(t);

	assert_int_equal(fake_set_state(t->a, ENGINE_QPS_RESET), 0);
	assert_int_equal(fake_set_state(t->b, ENGINE_QPS_RESET), 0);
	t->b->rq_error = 0;
	fake_connect(t->a, t->b);
	t->a->sq_error = -EOVERFLOW;
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	fake_run_all(t);
	fake_expect_quiet(t);
	assert_int_equal(t->a->events, EVENT(QP_FATAL));
	fake_expect_states(t, ENGINE_QPS_ERR, ENGINE_QPS_RTS);
	/* Ringing a dead queue does nothing. */
	engine_qp_ring(&t->a->base);
	fake_run_all(t);
	fake_expect_quiet(t);
}

/* ---- what changes while a message is under way ---- */

static void test_mr_gone_midway(void **state)
{
	struct fake_pair *t = *state;
	const struct engine_wc *wc;

	fake_make_mr(&t->hca[1], 0x200, FAKE_PDN, FAKE_ALL, FAKE_IOVA, FAKE_MEM);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 6 << 20, DST)->rkey = 0x200;
	fabric_poll(&t->fabric, t->now, 2);
	assert_int_equal(engine_mr_destroy(&t->hca[1].base, 0x200), 0);
	fake_run_all(t);
	wc = fake_wc(t->cq[0]);
	assert_non_null(wc);
	assert_int_equal(wc->status, ENGINE_WC_REM_ACCESS_ERR);
	assert_int_equal(t->b->events, EVENT(QP_ACCESS_ERR));
}

static void test_unmap_midway(void **state)
{
	struct fake_pair *t = *state;
	struct engine_recv_wr *rwr = fake_recv(t->b, DST, 8 << 20);
	const struct engine_wc *wc;

	(void)rwr;
	fake_send(t->a, ENGINE_WR_SEND, SRC, 6 << 20, 0);
	fabric_poll(&t->fabric, t->now, 2);
	assert_true(dma_map_remove_range(t->hca[1].map, FAKE_IOVA, FAKE_MEM) > 0);
	fake_run_all(t);
	wc = fake_wc(t->cq[0]);
	assert_non_null(wc);
	assert_int_equal(wc->status, ENGINE_WC_REM_OP_ERR);
	assert_int_equal(t->hca[1].base.stats.translate_faults, 1);
}

static void test_peer_gone_midway(void **state)
{
	struct fake_pair *t = *state;

	fake_recv(t->b, DST, 8 << 20);
	fake_send(t->a, ENGINE_WR_SEND, SRC, 6 << 20, 0);
	fabric_poll(&t->fabric, t->now, 2);
	fake_qp_free(t->b);
	t->b = NULL;
	expect_retry_exceeded(t, 0, ENGINE_VERR_NO_PEER);
}

static void test_requester_gone_midway(void **state)
{
	struct fake_pair *t = *state;

	fake_recv(t->b, DST, 8 << 20);
	fake_send(t->a, ENGINE_WR_SEND, SRC, 6 << 20, 0);
	fabric_poll(&t->fabric, t->now, 2);
	fake_qp_free(t->a);
	t->a = NULL;
	fake_run_all(t);
	fake_expect_quiet(t);
	/* Its receive was taken, so it is flushed. */
	assert_int_equal(fake_set_state(t->b, ENGINE_QPS_ERR), 0);
	fake_run_all(t);
	fake_expect_wc(t->cq[1], t->b, 0, true, ENGINE_WC_WR_FLUSH_ERR, 0);
}

int main(void)
{
#define T(name)	cmocka_unit_test_setup_teardown(name, fake_setup, fake_teardown)
	const struct CMUnitTest tests[] = {
		T(test_rnr),
		T(test_rnr_forever),
		T(test_retry_no_qp),
		T(test_retry_wrong_state),
		T(test_retry_connected_elsewhere),
		T(test_retry_psn),
		T(test_retry_gid_gone),
		T(test_retry_succeeds),
		T(test_retry_infinite_timeout),
		T(test_not_running),
		T(test_flush),
		T(test_reset_drops),
		T(test_sqd),
		T(test_transitions),
		T(test_modify_values),
		T(test_create_checks),
		T(test_cq_overrun),
		T(test_responder_cq_overrun),
		T(test_dead_queues),
		T(test_mr_gone_midway),
		T(test_unmap_midway),
		T(test_peer_gone_midway),
		T(test_requester_gone_midway),
	};

	return cmocka_run_group_tests_name("engine_state", tests, NULL, NULL);
}
