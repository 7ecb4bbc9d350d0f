// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* Receive queues that QPs share. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine_fake.h"

/* Two QPs of the second HCA with one SRQ; the QPs of the pair send to them. */
struct srq_pair {
	struct fake_pair *t;
	struct fake_srq *srq;
	struct fake_qp *send[2], *recv[2];
};

static int setup(void **state)
{
	struct srq_pair *s = calloc(1, sizeof(*s));
	unsigned int i;

	fake_setup((void **)&s->t);
	s->srq = fake_srq_new(&s->t->hca[1], 5);
	for (i = 0; i < 2; i++) {
		s->send[i] = fake_qp_new(&s->t->hca[0], 100 + i, s->t->cq[0]);
		s->recv[i] = fake_qp_new_srq(&s->t->hca[1], 200 + i, s->t->cq[1], s->srq);
		fake_connect(s->send[i], s->recv[i]);
	}
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct srq_pair *s = *state;
	unsigned int i;

	for (i = 0; i < 2; i++) {
		fake_qp_free(s->send[i]);
		if (s->recv[i])
			fake_qp_free(s->recv[i]);
	}
	fake_srq_free(s->srq);
	fake_teardown((void **)&s->t);
	free(s);
	return 0;
}

static void test_shared(void **state)
{
	struct srq_pair *s = *state;
	const struct engine_wc *wc;
	unsigned int i;

	fake_fill(fake_ptr(&s->t->hca[0], SRC), 64, 1);
	for (i = 0; i < 3; i++)
		fake_srq_recv(s->srq, 70 + i, DST + 100 * i, 64);
	for (i = 0; i < 3; i++) {
		fake_send(s->send[i & 1], ENGINE_WR_SEND, SRC + i, 32 + i, 0);
		fake_run_all(s->t);
		wc = fake_expect_wc(s->t->cq[1], s->recv[i & 1], 70 + i, true, ENGINE_WC_SUCCESS, 0);
		assert_int_equal(wc->byte_len, 32 + i);
		fake_expect_wc(s->t->cq[0], s->send[i & 1], i / 2, false, ENGINE_WC_SUCCESS, 0);
		assert_memory_equal(fake_ptr(&s->t->hca[0], SRC + i),
				    fake_ptr(&s->t->hca[1], DST + 100 * i), 32 + i);
	}
	fake_expect_quiet(s->t);
	assert_int_equal(s->srq->num_events, 0);
}

/* The memory is checked against the PD of the SRQ, not that of the QP. */
static void test_pd(void **state)
{
	struct srq_pair *s = *state;

	s->srq->base.pdn = FAKE_PDN + 1;
	fake_make_mr(&s->t->hca[1], 0x300, FAKE_PDN + 1, FAKE_ALL, FAKE_IOVA, FAKE_MEM);
	fake_srq_recv(s->srq, 1, DST, 64)->sge[0].key = 0x300;
	fake_send(s->send[0], ENGINE_WR_SEND, SRC, 64, 0);
	fake_run_all(s->t);
	fake_expect_wc(s->t->cq[1], s->recv[0], 1, true, ENGINE_WC_SUCCESS, 0);
	fake_expect_wc(s->t->cq[0], s->send[0], 0, false, ENGINE_WC_SUCCESS, 0);

	fake_srq_recv(s->srq, 2, DST, 64);
	fake_send(s->send[0], ENGINE_WR_SEND, SRC, 64, 0);
	fake_run_all(s->t);
	fake_expect_wc(s->t->cq[1], s->recv[0], 2, true, ENGINE_WC_LOC_PROT_ERR,
		       ENGINE_VERR_PD | ENGINE_VERR_RECV);
	fake_expect_wc(s->t->cq[0], s->send[0], 1, false, ENGINE_WC_REM_OP_ERR,
		       ENGINE_VERR_PD | ENGINE_VERR_REMOTE);
	fake_expect_quiet(s->t);
}

static void test_limit(void **state)
{
	struct srq_pair *s = *state;
	unsigned int i;

	for (i = 0; i < 4; i++)
		fake_srq_recv(s->srq, i, DST, 64);
	s->srq->base.limit = 2;
	for (i = 0; i < 4; i++) {
		fake_send(s->send[0], ENGINE_WR_SEND, SRC, 8, 0);
		fake_run_all(s->t);
		/* Three left, two left, one left: now. */
		assert_int_equal(s->srq->num_events, i >= 2);
	}
	assert_int_equal(s->srq->events, EVENT(SRQ_LIMIT));
	assert_int_equal(s->srq->base.limit, 0);
	assert_int_equal(s->t->hca[1].base.stats.srq_limits, 1);

	/* Somebody wants one, and there is none. */
	s->srq->base.limit = 1;
	fake_send(s->send[0], ENGINE_WR_SEND, SRC, 8, 0);
	fake_run_all(s->t);
	assert_int_equal(s->srq->num_events, 2);
	assert_int_equal(s->t->hca[1].base.stats.rnr_naks, 1);
	assert_int_equal(s->t->hca[0].base.stats.rnr_retries, 1);
}

/* In ERR a QP leaves the SRQ alone, and says when the receive it had is back. */
static void test_last_wqe(void **state)
{
	struct srq_pair *s = *state;

	fake_srq_recv(s->srq, 8, DST, 4 << 20);
	fake_srq_recv(s->srq, 9, DST, 64);
	fake_send(s->send[0], ENGINE_WR_SEND, SRC, 3 << 20, 0);
	/* One turn of each QP: of the message a megabyte is copied. */
	fabric_poll(&s->t->fabric, s->t->now, 16);
	assert_int_equal(s->srq->ci, 1);
	assert_null(fake_wc(s->t->cq[1]));
	assert_int_equal(fake_set_state(s->recv[0], ENGINE_QPS_ERR), 0);
	assert_int_equal(s->recv[0]->events, 0);
	fake_run_all(s->t);
	fake_expect_wc(s->t->cq[1], s->recv[0], 8, true, ENGINE_WC_WR_FLUSH_ERR, 0);
	assert_int_equal(s->recv[0]->events, EVENT(LAST_WQE));
	assert_int_equal(s->srq->ci, 1);
	assert_null(fake_wc(s->t->cq[1]));

	/* Once, until it was in RESET; also when there was nothing. */
	s->recv[0]->events = 0;
	fake_send(s->recv[0], ENGINE_WR_SEND, SRC, 8, 0);
	fake_run_all(s->t);
	fake_expect_wc(s->t->cq[1], s->recv[0], 0, false, ENGINE_WC_WR_FLUSH_ERR, 0);
	assert_int_equal(s->recv[0]->events, 0);
	assert_int_equal(fake_set_state(s->recv[0], ENGINE_QPS_RESET), 0);
	assert_int_equal(fake_set_state(s->recv[0], ENGINE_QPS_ERR), 0);
	fake_run_all(s->t);
	assert_int_equal(s->recv[0]->events, EVENT(LAST_WQE));

	/* The other one goes on. */
	fake_send(s->send[1], ENGINE_WR_SEND, SRC, 64, 0);
	fake_run_all(s->t);
	fake_expect_wc(s->t->cq[1], s->recv[1], 9, true, ENGINE_WC_SUCCESS, 0);
	assert_int_equal(s->recv[1]->events, 0);
}

/* An SRQ that cannot be reached says so once; its QPs end when they want something from it. */
static void test_error(void **state)
{
	struct srq_pair *s = *state;
	unsigned int i;

	fake_srq_recv(s->srq, 0, DST, 64);
	s->srq->error = -EFAULT;
	for (i = 0; i < 2; i++) {
		assert_int_equal(s->recv[i]->base.attr.state, ENGINE_QPS_RTS);
		fake_send(s->send[i], ENGINE_WR_SEND, SRC, 8, 0);
		fake_run_all(s->t);
		assert_int_equal(s->recv[i]->base.attr.state, ENGINE_QPS_ERR);
		assert_int_equal(s->recv[i]->events, EVENT(QP_FATAL) | EVENT(LAST_WQE));
		fake_expect_wc(s->t->cq[0], s->send[i], 0, false, ENGINE_WC_REM_OP_ERR,
			       ENGINE_VERR_WQE | ENGINE_VERR_REMOTE);
	}
	assert_int_equal(s->srq->events, EVENT(SRQ_ERR));
	assert_int_equal(s->srq->num_events, 1);
	assert_int_equal(s->t->hca[1].base.stats.translate_faults, 1);
	fake_expect_quiet(s->t);

	/* A RESET of a QP does not repair what others share. */
	assert_int_equal(fake_set_state(s->recv[0], ENGINE_QPS_RESET), 0);
	assert_true(s->srq->base.error);
}

static void test_objects(void **state)
{
	struct srq_pair *s = *state;
	struct engine_rq rq = { .hca = &s->t->hca[1].base, .pdn = FAKE_PDN };

	assert_int_equal(engine_srq_create(&rq), -EINVAL);
	rq.srqn = 5;
	assert_int_equal(engine_srq_create(&rq), -EEXIST);
	rq.srqn = ENGINE_MAX_SRQS;
	assert_int_equal(engine_srq_create(&rq), -EINVAL);
	rq.srqn = 6;
	rq.pdn = 0;
	assert_int_equal(engine_srq_create(&rq), -EINVAL);
	rq.pdn = ENGINE_MAX_PDS;
	assert_int_equal(engine_srq_create(&rq), -EINVAL);

	assert_int_equal(engine_srq_destroy(&s->srq->base), -EBUSY);
	fake_qp_free(s->recv[1]);
	s->recv[1] = NULL;
	assert_int_equal(engine_srq_destroy(&s->srq->base), -EBUSY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_shared, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pd, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_last_wqe, setup, teardown),
		cmocka_unit_test_setup_teardown(test_error, setup, teardown),
		cmocka_unit_test_setup_teardown(test_objects, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
