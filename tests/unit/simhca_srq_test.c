// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* Shared receive queues of simhca, by its commands, rings and doorbells. */
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
#define SRQN		3
#define SRQ_LOG		3
#define SRQ_STRIDE	6
#define SRQ_SLOT	63

struct srq {
	struct front *t;
	uint64_t ring;
	uint32_t log_size;
	uint32_t pi;
};

static struct simhca_cmd create_cmd(struct srq *s)
{
	struct simhca_cmd cmd = {
		.opcode = SIMHCA_CMD_CREATE_SRQ,
		.payload.create_srq = {
			.srqn = SRQN, .pdn = GUEST_PDN, .uar = 2, .slot = SRQ_SLOT,
			.log_size = SRQ_LOG, .log_stride = SRQ_STRIDE,
			.ring = guest_sgl(s->ring, 1u << (SRQ_LOG + SRQ_STRIDE)),
		},
	};

	return cmd;
}

/* The second guest's QP is replaced by one with an SRQ. */
static int setup(void **state)
{
	struct srq *s = calloc(1, sizeof(*s));
	struct simhca_cmd cmd;
	struct guest *g;

	front_setup_connected((void **)&s->t);
	g = &s->t->g[1];
	s->ring = guest_alloc(g, 4096, 4096);
	s->log_size = SRQ_LOG;
	/* What an earlier object left in the doorbell means nothing. */
	guest_uar(g, 2)->srq[SRQ_SLOT].pi = 77;
	cmd = create_cmd(s);
	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_OK);
	assert_int_equal(guest_create_qp_srq(g, &s->t->qp[1], 40, &s->t->cq[1], SRQN),
			 SIMHCA_CMD_OK);
	assert_int_equal(guest_modify_state(&s->t->qp[0], SIMHCA_QPS_RESET), SIMHCA_CMD_OK);
	guest_connect(&s->t->qp[1], &s->t->qp[0]);
	guest_connect(&s->t->qp[0], &s->t->qp[1]);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct srq *s = *state;

	front_teardown((void **)&s->t);
	free(s);
	return 0;
}

static void srq_ring(struct srq *s)
{
	__atomic_store_n(&guest_uar(&s->t->g[1], 2)->srq[SRQ_SLOT].pi, s->pi, __ATOMIC_RELEASE);
}

static void post_recv(struct srq *s, uint32_t tag)
{
	uint32_t entry = s->pi++ % (1u << s->log_size);
	uint8_t *at = guest_ptr(&s->t->g[1], s->ring + (entry << SRQ_STRIDE));
	struct simhca_rq_wqe wqe = { .num_sge = 1, .tag = tag };
	struct simhca_sge sge = { .addr = s->t->buf[1], .length = 64, .lkey = GUEST_KEY };

	memcpy(at, &wqe, sizeof(wqe));
	memcpy(at + sizeof(wqe), &sge, sizeof(sge));
	srq_ring(s);
}

/* Nobody polls for its completion: there is none. */
static void post_send(struct srq *s)
{
	struct simhca_sq_wqe wqe = { .opcode = SIMHCA_WR_SEND, .num_sge = 1 };

	guest_post_send(&s->t->qp[0], &wqe, s->t->buf[0], 16, GUEST_KEY);
	guest_ring(&s->t->qp[0]);
}

static void expect_event(struct srq *s, uint32_t event, uint32_t id)
{
	uint32_t got_event, got_id;
	unsigned int i;

	for (i = 0; !guest_next_event(&s->t->g[1], 0, &got_event, &got_id); i++) {
		assert_true(i < 1000);
		usleep(1000);
	}
	assert_int_equal(got_event, event);
	assert_int_equal(got_id, id);
}

static uint16_t command(struct srq *s, uint16_t opcode, uint32_t srqn, uint32_t limit)
{
	struct simhca_cmd cmd = {
		.opcode = opcode,
		.out_addr = s->t->g[1].out,
		.payload.modify_srq = {
			.srqn = srqn, .mask = SIMHCA_SRQ_LIMIT, .limit = limit,
		},
	};

	return guest_cmd(&s->t->g[1], &cmd);
}

static struct simhca_cmd resize_cmd(uint64_t ring, uint32_t log_size)
{
	struct simhca_cmd cmd = {
		.opcode = SIMHCA_CMD_MODIFY_SRQ,
		.payload.modify_srq = {
			.srqn = SRQN, .mask = SIMHCA_SRQ_RING, .log_size = log_size,
			.ring = guest_sgl(ring, 1ull << (log_size + SRQ_STRIDE)),
		},
	};

	return cmd;
}

/* To a new ring. What is in the old one afterwards means nothing. */
static uint16_t resize(struct srq *s, uint32_t log_size)
{
	const uint64_t bytes = 1ull << (s->log_size + SRQ_STRIDE);
	uint64_t ring = guest_alloc(&s->t->g[1], 1ull << (log_size + SRQ_STRIDE), 64);
	struct simhca_cmd cmd = resize_cmd(ring, log_size);
	uint16_t status = guest_cmd(&s->t->g[1], &cmd);

	if (status == SIMHCA_CMD_OK) {
		memset(guest_ptr(&s->t->g[1], s->ring), 0xff, bytes);
		s->ring = ring;
		s->log_size = log_size;
	}
	return status;
}

/* A message comes, into the receive with this tag. */
static void expect_recv(struct srq *s, uint32_t tag)
{
	struct simhca_cqe cqe;

	post_send(s);
	assert_true(guest_poll_wait(&s->t->cq[1], &cqe, WAIT_MS));
	assert_int_equal(cqe.status, SIMHCA_WC_SUCCESS);
	assert_int_equal(cqe.wqe_index, tag);
	assert_int_equal(cqe.byte_len, 16);
}

static uint32_t query_limit(struct srq *s)
{
	const struct simhca_srq_attr *attr = guest_ptr(&s->t->g[1], s->t->g[1].out);

	assert_int_equal(command(s, SIMHCA_CMD_QUERY_SRQ, SRQN, 0), SIMHCA_CMD_OK);
	assert_int_equal(attr->srqn, SRQN);
	return attr->limit;
}

/* The ring wraps many times; completions tell the tags. */
static void test_tags(void **state)
{
	struct srq *s = *state;
	struct simhca_cqe cqe;
	uint32_t i;

	for (i = 0; i < 100; i++) {
		post_recv(s, 0xabc000 + i);
		post_send(s);
		assert_true(guest_poll_wait(&s->t->cq[1], &cqe, WAIT_MS));
		assert_int_equal(cqe.status, SIMHCA_WC_SUCCESS);
		assert_int_equal(cqe.flags, SIMHCA_CQE_RECV);
		assert_int_equal(cqe.qpn, 40);
		assert_int_equal(cqe.byte_len, 16);
		assert_int_equal(cqe.wqe_index, 0xabc000 + i);
	}
}

static void test_limit(void **state)
{
	struct srq *s = *state;
	struct simhca_cqe cqe;
	uint32_t event, id, i;

	for (i = 0; i < 4; i++)
		post_recv(s, i);
	assert_int_equal(command(s, SIMHCA_CMD_MODIFY_SRQ, SRQN, 3), SIMHCA_CMD_OK);
	assert_int_equal(query_limit(s), 3);
	post_send(s);
	assert_true(guest_poll_wait(&s->t->cq[1], &cqe, WAIT_MS));
	assert_int_equal(query_limit(s), 3);
	assert_false(guest_next_event(&s->t->g[1], 0, &event, &id));
	post_send(s);
	expect_event(s, SIMHCA_EVENT_SRQ_LIMIT, SRQN);
	assert_int_equal(query_limit(s), 0);
}

/* Receives are taken in order, whatever the ring was when they were posted, and wherever in it they lay. */
static void test_resize(void **state)
{
	static const uint32_t logs[] = { 4, 3, 9, 10, 3, 12, 2, 2, 5 };
	struct srq *s = *state;
	uint32_t posted = 0, taken = 0, i, n;

	for (i = 0; i < sizeof(logs) / sizeof(*logs); i++) {
		for (n = 1u << s->log_size; posted - taken < n; posted++)
			post_recv(s, posted);
		/* As many remain as the new ring has room for, or all but three. */
		n = 1u << logs[i] < n ? 1u << logs[i] : n - 3;
		if (1u << logs[i] < 1u << s->log_size)
			assert_int_equal(resize(s, logs[i]), SIMHCA_CMD_EINVAL);
		for (; posted - taken > n; taken++)
			expect_recv(s, taken);
		assert_int_equal(resize(s, logs[i]), SIMHCA_CMD_OK);
		expect_recv(s, taken++);
	}
	while (taken != posted)
		expect_recv(s, taken++);
}

/* The QP never notices that the ring is another. */
static void test_resize_under_traffic(void **state)
{
	struct srq *s = *state;
	uint32_t posted = 0, taken = 0, i;
	struct simhca_cqe cqe;

	for (i = 0; i < 200; i++) {
		for (; posted - taken < 8; posted++)
			post_recv(s, posted);
		post_send(s);
		post_send(s);
		assert_int_equal(resize(s, 3 + i % 3), SIMHCA_CMD_OK);
		for (unsigned int j = 0; j < 2; j++, taken++) {
			assert_true(guest_poll_wait(&s->t->cq[1], &cqe, WAIT_MS));
			assert_int_equal(cqe.status, SIMHCA_WC_SUCCESS);
			assert_int_equal(cqe.wqe_index, taken);
		}
	}
}

/* Ring and limit together, or nothing. */
static void test_resize_commands(void **state)
{
	const uint64_t nowhere = GUEST_RAM_IOVA + GUEST_RAM_SIZE;
	struct srq *s = *state;
	struct guest *g = &s->t->g[1];
	struct simhca_cmd cmd;
	uint64_t ring = guest_alloc(g, 4096, 4096);
	uint32_t i;

	for (i = 0; i < 4; i++)
		post_recv(s, i);
	assert_int_equal(command(s, SIMHCA_CMD_MODIFY_SRQ, SRQN, 3), SIMHCA_CMD_OK);

#define BAD(field, value, status) do {							\
		cmd = resize_cmd(ring, 4);						\
		cmd.payload.modify_srq.field = value;					\
		assert_int_equal(guest_cmd(g, &cmd), status);				\
	} while (0)
	BAD(srqn, 4, SIMHCA_CMD_ENOENT);
	BAD(mask, 1u << 2 | SIMHCA_SRQ_RING, SIMHCA_CMD_EINVAL);
	BAD(log_size, SIMHCA_MAX_LOG_WR + 1, SIMHCA_CMD_EINVAL);
	BAD(log_size, 255, SIMHCA_CMD_EINVAL);
	BAD(log_size, 5, SIMHCA_CMD_EINVAL);
	BAD(ring.nsegs, 0, SIMHCA_CMD_EINVAL);
	BAD(ring.length, 1u << (3 + SRQ_STRIDE), SIMHCA_CMD_EINVAL);
	BAD(ring.addr, nowhere, SIMHCA_CMD_EFAULT);
	BAD(mask, SIMHCA_SRQ_RING | SIMHCA_SRQ_LIMIT, SIMHCA_CMD_OK);
	s->ring = ring;
	s->log_size = 4;
	assert_int_equal(query_limit(s), 0);
	BAD(limit, 99, SIMHCA_CMD_OK);		/* is not asked for */
#undef BAD
	assert_int_equal(query_limit(s), 0);

	/* The limit that stays must be possible, too; and the one that comes, with the ring that comes. */
	assert_int_equal(command(s, SIMHCA_CMD_MODIFY_SRQ, SRQN, 9), SIMHCA_CMD_OK);
	assert_int_equal(resize(s, 3), SIMHCA_CMD_EINVAL);
	cmd = resize_cmd(ring, 3);
	cmd.payload.modify_srq.mask |= SIMHCA_SRQ_LIMIT;
	cmd.payload.modify_srq.limit = 9;
	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_EINVAL);
	assert_int_equal(query_limit(s), 9);
	cmd.payload.modify_srq.limit = 8;
	cmd.payload.modify_srq.ring.addr = guest_alloc(g, 4096, 4096);
	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_OK);
	assert_int_equal(query_limit(s), 8);
	assert_int_equal(command(s, SIMHCA_CMD_MODIFY_SRQ, SRQN, 0), SIMHCA_CMD_OK);
	for (i = 0; i < 4; i++)
		expect_recv(s, i);
}

/* A producer index that cannot be is no reason to read, or write, elsewhere. */
static void test_resize_impossible_index(void **state)
{
	struct srq *s = *state;

	s->pi = (1u << SRQ_LOG) + 1;
	srq_ring(s);
	assert_int_equal(resize(s, 5), SIMHCA_CMD_EINVAL);
	s->pi = 0;
	srq_ring(s);
	assert_int_equal(resize(s, 5), SIMHCA_CMD_OK);
	post_recv(s, 11);
	expect_recv(s, 11);
}

static void test_impossible_index(void **state)
{
	struct srq *s = *state;
	uint32_t events = 0, event, id;
	unsigned int i;

	s->pi = (1u << SRQ_LOG) + 1;
	srq_ring(s);
	post_send(s);
	for (i = 0; events != (1u << SIMHCA_EVENT_SRQ_ERR | 1u << SIMHCA_EVENT_QP_FATAL |
			       1u << SIMHCA_EVENT_LAST_WQE); i++) {
		assert_true(i < 1000);
		while (guest_next_event(&s->t->g[1], 0, &event, &id)) {
			assert_int_equal(id, event == SIMHCA_EVENT_SRQ_ERR ? SRQN : 40);
			events |= 1u << event;
		}
		usleep(1000);
	}
}

static void test_commands(void **state)
{
	struct srq *s = *state;
	struct guest *g = &s->t->g[1];
	struct guest_qp qp;
	struct simhca_cmd cmd;

	assert_int_equal(command(s, SIMHCA_CMD_MODIFY_SRQ, 4, 0), SIMHCA_CMD_ENOENT);
	assert_int_equal(command(s, SIMHCA_CMD_QUERY_SRQ, 4, 0), SIMHCA_CMD_ENOENT);
	assert_int_equal(command(s, SIMHCA_CMD_DESTROY_SRQ, 4, 0), SIMHCA_CMD_ENOENT);
	assert_int_equal(command(s, SIMHCA_CMD_MODIFY_SRQ, SRQN, (1u << SRQ_LOG) + 1),
			 SIMHCA_CMD_EINVAL);
	assert_int_equal(guest_create_qp_srq(g, &qp, 41, &s->t->cq[1], 4), SIMHCA_CMD_ENOENT);
	assert_int_equal(command(s, SIMHCA_CMD_DESTROY_SRQ, SRQN, 0), SIMHCA_CMD_EBUSY);
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_QP, 40), SIMHCA_CMD_OK);

#define BAD(field, value, status) do {							\
		cmd = create_cmd(s);							\
		cmd.payload.create_srq.srqn = 9;					\
		cmd.payload.create_srq.slot = 0;					\
		cmd.payload.create_srq.field = value;					\
		assert_int_equal(guest_cmd(g, &cmd), status);				\
	} while (0)
	BAD(srqn, 0, SIMHCA_CMD_EINVAL);
	BAD(srqn, SRQN, SIMHCA_CMD_EEXIST);
	BAD(srqn, SIMHCA_MAX_SRQS, SIMHCA_CMD_EINVAL);
	BAD(pdn, 0, SIMHCA_CMD_EINVAL);
	BAD(uar, 0, SIMHCA_CMD_EINVAL);
	BAD(uar, SIMHCA_MAX_UARS, SIMHCA_CMD_EINVAL);
	BAD(slot, SRQ_SLOT, SIMHCA_CMD_EEXIST);
	BAD(slot, SIMHCA_UAR_SRQ_SLOTS, SIMHCA_CMD_EINVAL);
	BAD(log_size, SIMHCA_MAX_LOG_WR + 1, SIMHCA_CMD_EINVAL);
	BAD(log_size, SRQ_LOG + 1, SIMHCA_CMD_EINVAL);
	BAD(log_stride, 4, SIMHCA_CMD_EINVAL);
	BAD(log_stride, 10, SIMHCA_CMD_EINVAL);
	BAD(limit, (1u << SRQ_LOG) + 1, SIMHCA_CMD_EINVAL);
	BAD(ring.nsegs, 0, SIMHCA_CMD_EINVAL);
	BAD(reserved[0], 0, SIMHCA_CMD_OK);
#undef BAD
	assert_int_equal(command(s, SIMHCA_CMD_DESTROY_SRQ, 9, 0), SIMHCA_CMD_OK);
	assert_int_equal(command(s, SIMHCA_CMD_DESTROY_SRQ, SRQN, 0), SIMHCA_CMD_OK);
	assert_int_equal(command(s, SIMHCA_CMD_QUERY_SRQ, SRQN, 0), SIMHCA_CMD_ENOENT);
}

int main(void)
{
#define C(name)	cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		C(test_tags),
		C(test_limit),
		C(test_resize),
		C(test_resize_under_traffic),
		C(test_resize_commands),
		C(test_resize_impossible_index),
		C(test_impossible_index),
		C(test_commands),
	};

	return cmocka_run_group_tests_name("simhca_srq", tests, NULL, NULL);
}
