// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* Completion queues of simhca: other rings, moderated events, timestamps, overruns. */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "front_client.h"

#define WAIT_MS		10000
#define QUIET_MS	50

static void post(struct front *t, unsigned int n)
{
	struct simhca_sq_wqe wqe = {
		.opcode = SIMHCA_WR_RDMA_WRITE, .flags = SIMHCA_WR_SIGNALED, .num_sge = 1,
		.rkey = GUEST_KEY, .remote_addr = t->buf[1],
	};

	while (n--)
		guest_post_send(&t->qp[0], &wqe, t->buf[0], 8, GUEST_KEY);
	guest_ring(&t->qp[0]);
}

/* @n CQEs are written that were not consumed. */
static void wait_written(struct guest_cq *cq, uint32_t n)
{
	const struct simhca_cqe *ring = guest_ptr(cq->g, cq->ring);
	uint32_t size = 1u << cq->log_size, last = cq->ci + n - 1;
	unsigned int i;

	for (i = 0; __atomic_load_n(&ring[last & (size - 1)].phase, __ATOMIC_ACQUIRE) != !(last & size); i++) {
		assert_true(i < WAIT_MS);
		usleep(1000);
	}
}

static void expect(struct front *t, uint32_t index)
{
	struct simhca_cqe cqe;

	assert_true(guest_poll_wait(&t->cq[0], &cqe, WAIT_MS));
	assert_int_equal(cqe.status, SIMHCA_WC_SUCCESS);
	assert_int_equal(cqe.wqe_index, index);
}

static uint16_t try_resize(struct guest_cq *cq, uint64_t ring, uint32_t log_size)
{
	struct simhca_cmd cmd = {
		.opcode = SIMHCA_CMD_RESIZE_CQ,
		.payload.resize_cq = {
			.cqn = cq->cqn,
			.log_size = log_size,
			.ring = guest_sgl(ring, sizeof(struct simhca_cqe) << log_size),
		},
	};

	return guest_cmd(cq->g, &cmd);
}

static uint16_t resize(struct guest_cq *cq, uint32_t log_size)
{
	uint64_t ring = guest_alloc(cq->g, sizeof(struct simhca_cqe) << log_size, 4096);
	uint16_t status = try_resize(cq, ring, log_size);

	if (status == SIMHCA_CMD_OK) {
		cq->ring = ring;
		cq->log_size = log_size;
		cq->ci = 0;
		assert_int_equal(guest_uar(cq->g, cq->uar)->cq[cq->slot].ci, 0);
	}
	return status;
}

/* What is in the ring moves along, from any place of it, to a ring of any size. */
static void test_resize(void **state)
{
	static const uint32_t log_sizes[] = { 9, 5, 6, 7, 4, 12, 7 };
	struct front *t = *state;
	uint32_t index = 0, i, j;

	for (i = 0; i < sizeof(log_sizes) / sizeof(log_sizes[0]); i++) {
		/* Somewhere in the ring, in an odd or an even pass */
		for (j = 0; j < 100 + 37 * i; j++) {
			post(t, 1);
			expect(t, index++);
		}
		post(t, 16);
		expect(t, index++);
		wait_written(&t->cq[0], 15);
		assert_int_equal(resize(&t->cq[0], log_sizes[i]), SIMHCA_CMD_OK);
		for (j = 1; j < 16; j++)
			expect(t, index++);
		assert_false(guest_poll(&t->cq[0], &(struct simhca_cqe) { 0 }));
	}
}

/* After an error all is as it was. */
static void test_resize_errors(void **state)
{
	struct front *t = *state;
	struct guest_cq *cq = &t->cq[0];
	uint64_t ring = guest_alloc(cq->g, 4096, 4096);
	struct guest_cq none = *cq;
	uint32_t i;

	none.cqn = 999;
	post(t, 10);
	expect(t, 0);
	wait_written(cq, 9);
	assert_int_equal(try_resize(&none, ring, 7), SIMHCA_CMD_ENOENT);
	assert_int_equal(try_resize(cq, ring, 3), SIMHCA_CMD_EINVAL);
	assert_int_equal(try_resize(cq, ring, SIMHCA_MAX_LOG_CQE + 1), SIMHCA_CMD_EINVAL);
	assert_int_equal(try_resize(cq, 0x7000, 7), SIMHCA_CMD_EFAULT);
	/* A consumer index that cannot be */
	guest_uar(cq->g, cq->uar)->cq[cq->slot].ci += 1000;
	assert_int_equal(try_resize(cq, ring, 7), SIMHCA_CMD_EINVAL);
	guest_uar(cq->g, cq->uar)->cq[cq->slot].ci -= 1000;
	for (i = 1; i < 10; i++)
		expect(t, i);
	/* Exactly what is needed */
	post(t, 8);
	wait_written(cq, 8);
	assert_int_equal(try_resize(cq, ring, 2), SIMHCA_CMD_EINVAL);
	assert_int_equal(resize(cq, 3), SIMHCA_CMD_OK);
	for (; i < 18; i++)
		expect(t, i);
	post(t, 1);
	expect(t, i);
}

static void test_resize_under_traffic(void **state)
{
	struct front *t = *state;
	uint32_t posted = 0, done = 0, i;

	for (i = 0; i < 60; i++) {
		while (posted - done < 1u << GUEST_WR_LOG) {
			post(t, 1);
			posted++;
		}
		assert_int_equal(resize(&t->cq[0], 6 + i % 4), SIMHCA_CMD_OK);
		while (done < posted - i % 3)
			expect(t, done++);
	}
}

static uint16_t moderate(struct guest_cq *cq, uint16_t count, uint16_t period)
{
	struct simhca_cmd cmd = {
		.opcode = SIMHCA_CMD_MODIFY_CQ,
		.payload.modify_cq = { .cqn = cq->cqn, .count = count, .period = period },
	};

	return guest_cmd(cq->g, &cmd);
}

static bool event_within(struct guest_cq *cq, int ms)
{
	uint32_t event, id;

	if (!guest_wait_irq(cq->g, 1, ms))
		return false;
	assert_true(guest_next_event(cq->g, 1, &event, &id));
	assert_int_equal(event, SIMHCA_EVENT_COMP);
	assert_int_equal(id, cq->cqn);
	assert_false(guest_next_event(cq->g, 1, &event, &id));
	return true;
}

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void test_moderation(void **state)
{
	struct front *t = *state;
	struct guest_cq *cq = &t->cq[0];
	uint64_t start;
	uint32_t i;

	assert_int_equal(moderate(&(struct guest_cq) { .g = cq->g, .cqn = 999 }, 1, 1),
			 SIMHCA_CMD_ENOENT);

	/* By count: the period is long. */
	assert_int_equal(moderate(cq, 4, UINT16_MAX), SIMHCA_CMD_OK);
	start = now_us();
	guest_arm(cq, false);
	post(t, 4);
	assert_true(event_within(cq, WAIT_MS));
	assert_true(now_us() - start < UINT16_MAX);

	/* Not armed: nothing is counted, and nothing comes. */
	post(t, 8);
	assert_false(event_within(cq, QUIET_MS + UINT16_MAX / 1000));

	/* By time: the first of them may be so old. */
	guest_arm(cq, false);
	start = now_us();
	post(t, 3);
	assert_true(event_within(cq, WAIT_MS));
	assert_true(now_us() - start >= UINT16_MAX);
	assert_false(event_within(cq, QUIET_MS + UINT16_MAX / 1000));

	/* Switched off those that wait are told, and the next comes at once. */
	for (i = 0; i < 2; i++) {
		assert_int_equal(moderate(cq, 1000, UINT16_MAX), SIMHCA_CMD_OK);
		guest_arm(cq, false);
		start = now_us();
		post(t, 2);
		expect(t, 15 + 3 * i);
		expect(t, 15 + 3 * i + 1);
		assert_int_equal(moderate(cq, i ? 0 : 7, i ? 7 : 0), SIMHCA_CMD_OK);
		assert_true(event_within(cq, WAIT_MS));
		guest_arm(cq, false);
		post(t, 1);
		assert_true(event_within(cq, WAIT_MS));
		expect(t, 15 + 3 * i + 2);
	}
}

static void test_moderation_consumes(void **state)
{
	struct front *t = *state;
	uint32_t i;

	for (i = 0; i < 15; i++) {
		post(t, 1);
		expect(t, i);
	}
	test_moderation(state);
}

/* A CQ that waits may be destroyed; on a busy machine it may not wait any more by then. */
static void test_moderation_destroy(void **state)
{
	struct front *t = *state;
	uint64_t start;

	assert_int_equal(moderate(&t->cq[0], 100, UINT16_MAX), SIMHCA_CMD_OK);
	guest_arm(&t->cq[0], false);
	start = now_us();
	post(t, 1);
	expect(t, 0);
	assert_int_equal(guest_destroy(&t->g[0], SIMHCA_CMD_DESTROY_QP, 10), SIMHCA_CMD_OK);
	assert_int_equal(guest_destroy(&t->g[0], SIMHCA_CMD_DESTROY_CQ, 5), SIMHCA_CMD_OK);
	if (now_us() - start >= UINT16_MAX)
		return;
	usleep(2 * UINT16_MAX);
	assert_false(guest_wait_irq(&t->g[0], 1, 0));
}

static void use_cq(struct front *t, uint32_t log_size, uint32_t flags)
{
	struct guest *g = &t->g[0];

	assert_int_equal(guest_create_cq_ex(g, &t->cq[0], 6, log_size, flags), SIMHCA_CMD_OK);
	assert_int_equal(guest_create_qp(g, &t->qp[0], 20, &t->cq[0]), SIMHCA_CMD_OK);
	assert_int_equal(guest_modify_state(&t->qp[1], SIMHCA_QPS_RESET), SIMHCA_CMD_OK);
	guest_connect(&t->qp[1], &t->qp[0]);
	guest_connect(&t->qp[0], &t->qp[1]);
}

static uint64_t read_clock(struct guest *g)
{
	return guest_reg_read64(g, SIMHCA_KICK_PAGE + SIMHCA_CLOCK_REG);
}

static void test_timestamps(void **state)
{
	struct front *t = *state;
	struct simhca_cqe cqe;
	uint64_t last, after;
	unsigned int i;

	post(t, 1);
	assert_true(guest_poll_wait(&t->cq[0], &cqe, WAIT_MS));
	assert_int_equal(cqe.timestamp, 0);

	use_cq(t, 4, SIMHCA_CQ_TIMESTAMP);
	for (i = 0; i < 5; i++) {
		last = read_clock(&t->g[0]);
		post(t, 1);
		assert_true(guest_poll_wait(&t->cq[0], &cqe, WAIT_MS));
		after = read_clock(&t->g[0]);
		assert_true(cqe.timestamp >= last && cqe.timestamp <= after);
	}
}

static void test_ignore_overrun(void **state)
{
	struct front *t = *state;
	struct simhca_qp_attr attr;
	uint32_t event, id;

	use_cq(t, 2, SIMHCA_CQ_IGNORE_OVERRUN);
	post(t, 11);
	usleep(QUIET_MS * 1000);
	assert_false(guest_next_event(&t->g[0], 0, &event, &id));
	assert_int_equal(guest_query_qp(&t->qp[0], &attr), SIMHCA_CMD_OK);
	assert_int_equal(attr.state, SIMHCA_QPS_RTS);
	/* The last ones are there. */
	t->cq[0].ci = 8;
	expect(t, 8);
	expect(t, 9);
	expect(t, 10);
}

static void test_flags(void **state)
{
	struct front *t = *state;
	struct guest_cq cq;

	assert_int_equal(guest_create_cq_ex(&t->g[0], &cq, 6, 4, 1u << 2), SIMHCA_CMD_EINVAL);
}

int main(void)
{
#define C(name)	cmocka_unit_test_setup_teardown(name, front_setup_connected, front_teardown)
	const struct CMUnitTest tests[] = {
		C(test_resize),
		C(test_resize_errors),
		C(test_resize_under_traffic),
		C(test_moderation_consumes),
		C(test_moderation_destroy),
		C(test_timestamps),
		C(test_ignore_overrun),
		C(test_flags),
	};

	return cmocka_run_group_tests_name("simhca_cq", tests, NULL, NULL);
}
