// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* Every value of the attributes that say when, and how often, a request is tried again. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine_fake.h"

/* Milliseconds of the codes of the RNR NAK timer, as IBTA 9.7.5.2.8 has them. */
static const char *const rnr_ms[32] = {
	"655.36", "0.01", "0.02", "0.03", "0.04", "0.06", "0.08", "0.12", "0.16", "0.24", "0.32",
	"0.48", "0.64", "0.96", "1.28", "1.92", "2.56", "3.84", "5.12", "7.68", "10.24", "15.36",
	"20.48", "30.72", "40.96", "61.44", "81.92", "122.88", "163.84", "245.76", "327.68",
	"491.52",
};

static uint64_t rnr_ns(unsigned int code)
{
	return (uint64_t)(strtod(rnr_ms[code], NULL) * 100 + 0.5) * (MS / 100);
}

/* Connects both QPs anew, the requester with these. */
static void connect_with(struct fake_pair *t, uint8_t timeout, uint8_t retry_cnt, uint8_t rnr_retry,
			 uint8_t min_rnr_timer)
{
	struct engine_qp_attr attr = fake_attr(t->a, t->b);

	attr.timeout = timeout;
	attr.retry_cnt = retry_cnt;
	attr.rnr_retry = rnr_retry;
	assert_int_equal(fake_set_state(t->a, ENGINE_QPS_RESET), 0);
	assert_int_equal(fake_set_state(t->b, ENGINE_QPS_RESET), 0);
	fake_to_init(t->a, &attr);
	fake_to_rtr(t->a, &attr);
	fake_to_rts(t->a, &attr);
	attr = fake_attr(t->b, t->a);
	attr.min_rnr_timer = min_rnr_timer;
	fake_to_init(t->b, &attr);
	fake_to_rtr(t->b, &attr);
}

/* The requester waits so long, not less and not more. */
static void expect_wait(struct fake_pair *t, uint64_t ns)
{
	fake_expect_quiet(t);
	assert_int_equal(fabric_next_timer(&t->fabric), t->now + ns);
	assert_int_equal(fake_run(&t->fabric, t->now + ns - 1), 0);
	fake_expect_quiet(t);
	t->now += ns;
	fake_run_all(t);
}

/* It is the responder's timer that counts, not the requester's own. */
static void test_rnr_timer_codes(void **state)
{
	struct fake_pair *t = *state;
	unsigned int code;

	for (code = 0; code < 32; code++) {
		connect_with(t, 14, 7, 1, code);
		t->a->base.attr.min_rnr_timer = (code + 5) % 32;
		fake_send(t->a, ENGINE_WR_SEND, SRC, 8, 0);
		fake_run_all(t);
		expect_wait(t, rnr_ns(code));
		fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_RNR_RETRY_EXC_ERR,
			       ENGINE_VERR_RNR);
	}
}

static void test_rnr_retry_counts(void **state)
{
	struct fake_pair *t = *state;
	unsigned int count, i;

	for (count = 0; count < 7; count++) {
		connect_with(t, 14, 7, count, 12);
		fake_send(t->a, ENGINE_WR_SEND, SRC, 8, 0);
		fake_run_all(t);
		for (i = 0; i < count; i++)
			expect_wait(t, rnr_ns(12));
		fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_RNR_RETRY_EXC_ERR,
			       ENGINE_VERR_RNR);
		assert_int_equal(t->a->base.attr.state, ENGINE_QPS_ERR);
		assert_int_equal(t->b->base.attr.state, ENGINE_QPS_RTR);
	}
	connect_with(t, 14, 7, 7, 12);
	fake_send(t->a, ENGINE_WR_SEND, SRC, 8, 0);
	fake_run_all(t);
	for (i = 0; i < 1000; i++)
		expect_wait(t, rnr_ns(12));
	fake_recv(t->b, DST, 8);
	expect_wait(t, rnr_ns(12));
	fake_expect_wc(t->cq[1], t->b, 0, true, ENGINE_WC_SUCCESS, 0);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
}

/* Each message has all its tries, and those after the one that waits keep their order. */
static void test_rnr_starts_anew(void **state)
{
	struct fake_pair *t = *state;
	unsigned int i;

	connect_with(t, 14, 7, 1, 12);
	for (i = 0; i < 5; i++)
		fake_send(t->a, ENGINE_WR_SEND, SRC, 8, 0);
	fake_run_all(t);
	for (i = 0; i < 5; i++) {
		fake_expect_quiet(t);
		fake_recv(t->b, DST, 8);
		assert_int_equal(fake_run(&t->fabric, t->now), 0);
		t->now += rnr_ns(12);
		fake_run_all(t);
		fake_expect_wc(t->cq[1], t->b, i, true, ENGINE_WC_SUCCESS, 0);
		fake_expect_wc(t->cq[0], t->a, i, false, ENGINE_WC_SUCCESS, 0);
	}
	assert_int_equal(t->hca[1].base.stats.rnr_naks, 5);
	assert_int_equal(fabric_next_timer(&t->fabric), ENGINE_NO_TIMER);
}

static void test_timeout_codes(void **state)
{
	struct fake_pair *t = *state;
	unsigned int code;

	for (code = 1; code < 32; code++) {
		connect_with(t, code, 0, 0, 12);
		assert_int_equal(fake_set_state(t->b, ENGINE_QPS_ERR), 0);
		fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
		fabric_poll(&t->fabric, t->now, 16);
		fake_expect_quiet(t);
		assert_int_equal(t->a->base.timer, t->now + (4096ull << code));
		fake_run(&t->fabric, t->now + (4096ull << code) - 1);
		fake_expect_quiet(t);
		t->now += 4096ull << code;
		fake_run_all(t);
		fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_RETRY_EXC_ERR,
			       ENGINE_VERR_PEER_STATE);
	}
}

static void test_retry_counts(void **state)
{
	struct fake_pair *t = *state;
	unsigned int count, i;

	for (count = 0; count < 8; count++) {
		connect_with(t, 10, count, 7, 12);
		fake_qp_free(t->b);
		t->b = NULL;
		fake_send(t->a, ENGINE_WR_RDMA_READ, SRC, 8, DST);
		fake_run_all(t);
		for (i = 0; i <= count; i++)
			expect_wait(t, 4096ull << 10);
		fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_RETRY_EXC_ERR,
			       ENGINE_VERR_NO_PEER);
		assert_int_equal(t->a->base.sched, ENGINE_QP_FLUSHED);
		t->b = fake_qp_new(&t->hca[1], 33, t->cq[1]);
	}
}

/* A NAK is an answer: it gives back the retries of the ACK timer, and not those of its own kind. */
static void test_both_counters(void **state)
{
	struct fake_pair *t = *state;
	struct engine_qp_attr attr = fake_attr(t->b, t->a);
	unsigned int i;

	connect_with(t, 10, 2, 2, 12);
	assert_int_equal(fake_set_state(t->b, ENGINE_QPS_RESET), 0);
	fake_send(t->a, ENGINE_WR_SEND, SRC, 8, 0);
	fake_run_all(t);
	expect_wait(t, 4096ull << 10);
	expect_wait(t, 4096ull << 10);
	fake_expect_quiet(t);
	fake_to_init(t->b, &attr);
	fake_to_rtr(t->b, &attr);
	expect_wait(t, 4096ull << 10);		/* the last try: not ready */
	assert_int_equal(t->a->base.retries_left, 2);
	expect_wait(t, rnr_ns(12));
	assert_int_equal(fake_set_state(t->b, ENGINE_QPS_RESET), 0);
	expect_wait(t, rnr_ns(12));		/* nobody there again */
	for (i = 0; i < 2; i++)
		expect_wait(t, 4096ull << 10);
	fake_to_init(t->b, &attr);
	fake_to_rtr(t->b, &attr);
	expect_wait(t, 4096ull << 10);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_RNR_RETRY_EXC_ERR, ENGINE_VERR_RNR);
}

/* A new timeout counts from the next try on, also for a request that waits. */
static void test_changed_while_waiting(void **state)
{
	struct fake_pair *t = *state;
	struct engine_qp_attr attr = fake_attr(t->b, t->a);

	connect_with(t, 14, 7, 7, 20);
	fake_send(t->a, ENGINE_WR_SEND, SRC, 8, 0);
	fake_run_all(t);
	fake_to_rts(t->b, &attr);
	attr.min_rnr_timer = 1;
	assert_int_equal(engine_qp_modify(&t->b->base, &attr, ENGINE_QP_MIN_RNR_TIMER), 0);
	fake_run_all(t);
	expect_wait(t, rnr_ns(20));
	expect_wait(t, rnr_ns(1));
	/* Software need not wait. */
	assert_int_equal(fake_set_state(t->a, ENGINE_QPS_ERR), 0);
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_WR_FLUSH_ERR, 0);
	assert_int_equal(t->a->base.sched, ENGINE_QP_FLUSHED);
}

/* Many wait at once: each is tried at its own time. */
static void test_many_timers(void **state)
{
	enum { QPS = 31 };
	struct fake_pair *t = *state;
	struct fake_qp *a[QPS], *b[QPS];
	uint64_t start = t->now, deadline;
	unsigned int i;

	for (i = 0; i < QPS; i++) {
		struct engine_qp_attr attr;

		a[i] = fake_qp_new(&t->hca[0], 100 + i, t->cq[0]);
		b[i] = fake_qp_new(&t->hca[1], 200 + i, t->cq[1]);
		fake_connect(a[i], b[i]);
		attr = fake_attr(b[i], a[i]);
		/* in an order that is not that of the times */
		attr.min_rnr_timer = 1 + i * 7 % QPS;
		assert_int_equal(engine_qp_modify(&b[i]->base, &attr, ENGINE_QP_MIN_RNR_TIMER), 0);
		fake_send(a[i], ENGINE_WR_SEND, SRC, 8, 0);
	}
	fake_run_all(t);
	for (i = 0; i < QPS; i++)
		fake_recv(b[i], DST, 8);
	for (i = 1; i <= QPS; i++) {
		const struct engine_wc *wc;

		deadline = start + rnr_ns(i);
		assert_int_equal(fabric_next_timer(&t->fabric), deadline);
		t->now = deadline;
		fake_run_all(t);
		wc = fake_wc(t->cq[0]);
		assert_non_null(wc);
		assert_int_equal(wc->status, ENGINE_WC_SUCCESS);
		assert_int_equal(1 + (wc->qp->qpn - 100) * 7 % QPS, i);
		assert_null(fake_wc(t->cq[0]));
		while (fake_wc(t->cq[1]))
			;
	}
	for (i = 0; i < QPS; i++) {
		fake_qp_free(a[i]);
		fake_qp_free(b[i]);
	}
}

/* A fence: what a read has brought is what the next request sends, whatever its size. */
static void test_read_then_send(void **state)
{
	const uint32_t len = 3 << 20;
	struct fake_pair *t = *state;

	fake_fill(fake_ptr(&t->hca[1], DST), len, 8);
	fake_send(t->a, ENGINE_WR_RDMA_READ, SRC, len, DST);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, len, DST + len);
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	fake_expect_wc(t->cq[0], t->a, 1, false, ENGINE_WC_SUCCESS, 0);
	assert_memory_equal(fake_ptr(&t->hca[1], DST), fake_ptr(&t->hca[1], DST + len), len);
}

int main(void)
{
#define T(name)	cmocka_unit_test_setup_teardown(name, fake_setup, fake_teardown)
	const struct CMUnitTest tests[] = {
		T(test_rnr_timer_codes),
		T(test_rnr_retry_counts),
		T(test_rnr_starts_anew),
		T(test_timeout_codes),
		T(test_retry_counts),
		T(test_both_counters),
		T(test_changed_while_waiting),
		T(test_many_timers),
		T(test_read_then_send),
	};

	return cmocka_run_group_tests_name("engine_retry", tests, NULL, NULL);
}
