// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* Messages through simhca's doorbells and rings, between two guests, and the device's sleep. */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "front_client.h"

#define WAIT_MS		10000
#define QUIET_MS	20
#define STRESS_ROUNDS	20000

static void fill(uint8_t *p, size_t len, uint32_t seed)
{
	size_t i;

	for (i = 0; i < len; i++) {
		seed = seed * 1664525 + 1013904223;
		p[i] = seed >> 24;
	}
}

static void expect_cqe(struct guest_cq *cq, struct simhca_cqe *cqe, uint8_t status)
{
	assert_true(guest_poll_wait(cq, cqe, WAIT_MS));
	assert_int_equal(cqe->status, status);
}

static void post(struct front *t, uint8_t opcode, uint64_t addr, uint32_t len, uint64_t remote)
{
	struct simhca_sq_wqe wqe = {
		.opcode = opcode,
		.flags = SIMHCA_WR_SIGNALED,
		.num_sge = 1,
		.imm_data = 0xabcd,
		.rkey = GUEST_KEY,
		.remote_addr = remote,
		.compare_add = 5,
		.swap = 9,
	};

	guest_post_send(&t->qp[0], &wqe, addr, len, GUEST_KEY);
}

static void test_opcodes(void **state)
{
	struct front *t = *state;
	uint8_t *a = guest_ptr(&t->g[0], t->buf[0]), *b = guest_ptr(&t->g[1], t->buf[1]);
	const uint32_t len = 1500001;
	struct simhca_cqe cqe;
	uint64_t five = 5;

	fill(a, len, 1);
	post(t, SIMHCA_WR_RDMA_WRITE, t->buf[0], len, t->buf[1] + 3);
	guest_ring(&t->qp[0]);
	expect_cqe(&t->cq[0], &cqe, SIMHCA_WC_SUCCESS);
	assert_int_equal(cqe.qpn, 10);
	assert_int_equal(cqe.wqe_index, 0);
	assert_int_equal(cqe.opcode, SIMHCA_WR_RDMA_WRITE);
	assert_int_equal(cqe.flags, 0);
	assert_memory_equal(a, b + 3, len);

	fill(b, len, 2);
	post(t, SIMHCA_WR_RDMA_READ, t->buf[0] + 5, len, t->buf[1]);
	guest_ring(&t->qp[0]);
	expect_cqe(&t->cq[0], &cqe, SIMHCA_WC_SUCCESS);
	assert_int_equal(cqe.byte_len, len);
	assert_int_equal(cqe.wqe_index, 1);
	assert_memory_equal(a + 5, b, len);

	fill(a, len, 3);
	guest_post_recv(&t->qp[1], t->buf[1] + 7, len + 1, GUEST_KEY);
	post(t, SIMHCA_WR_SEND_WITH_IMM, t->buf[0], len, 0);
	guest_ring(&t->qp[0]);
	expect_cqe(&t->cq[0], &cqe, SIMHCA_WC_SUCCESS);
	expect_cqe(&t->cq[1], &cqe, SIMHCA_WC_SUCCESS);
	assert_int_equal(cqe.qpn, 11);
	assert_int_equal(cqe.byte_len, len);
	assert_int_equal(cqe.imm_data, 0xabcd);
	assert_int_equal(cqe.flags, SIMHCA_CQE_RECV | SIMHCA_CQE_IMM);
	assert_int_equal(cqe.opcode, SIMHCA_WR_SEND_WITH_IMM);
	assert_memory_equal(a, b + 7, len);

	memcpy(b, &five, sizeof(five));
	post(t, SIMHCA_WR_ATOMIC_CMP_AND_SWP, t->buf[0], 8, t->buf[1]);
	post(t, SIMHCA_WR_ATOMIC_FETCH_AND_ADD, t->buf[0] + 8, 8, t->buf[1]);
	guest_ring(&t->qp[0]);
	expect_cqe(&t->cq[0], &cqe, SIMHCA_WC_SUCCESS);
	expect_cqe(&t->cq[0], &cqe, SIMHCA_WC_SUCCESS);
	assert_int_equal(cqe.byte_len, 8);
	assert_int_equal(((uint64_t *)a)[0], 5);
	assert_int_equal(((uint64_t *)a)[1], 9);
	assert_int_equal(((uint64_t *)b)[0], 14);
}

static void test_inline(void **state)
{
	struct front *t = *state;
	struct simhca_sq_wqe wqe = {
		.opcode = SIMHCA_WR_RDMA_WRITE,
		.flags = SIMHCA_WR_SIGNALED | SIMHCA_WR_INLINE,
		.inline_len = 200,
		.rkey = GUEST_KEY,
		.remote_addr = t->buf[1],
	};
	struct simhca_cqe cqe;

	fill(guest_ptr(&t->g[0], t->buf[0]), 200, 4);
	guest_post_send(&t->qp[0], &wqe, t->buf[0], 0, 0);
	guest_ring(&t->qp[0]);
	expect_cqe(&t->cq[0], &cqe, SIMHCA_WC_SUCCESS);
	assert_memory_equal(guest_ptr(&t->g[0], t->buf[0]), guest_ptr(&t->g[1], t->buf[1]), 200);
}

/* What a provider would never write. */
static void test_malformed_wqes(void **state)
{
	static const struct simhca_sq_wqe bad[] = {
		{ .opcode = SIMHCA_WR_SEND, .num_sge = 17 },
		{ .opcode = SIMHCA_WR_SEND, .num_sge = 0xffff },
		{ .opcode = 0xff, .num_sge = 1 },
		{ .opcode = SIMHCA_WR_SEND, .flags = SIMHCA_WR_INLINE, .inline_len = 257 },
		{ .opcode = SIMHCA_WR_SEND, .flags = SIMHCA_WR_INLINE, .num_sge = 1 },
		{ .opcode = SIMHCA_WR_RDMA_READ, .flags = SIMHCA_WR_INLINE },
	};
	struct front *t = *state;
	struct simhca_cqe cqe;
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct simhca_sq_wqe wqe = bad[i];

		if (wqe.inline_len > 200)	/* keeps guest_post_send() within its ring */
			wqe.inline_len = UINT32_MAX;
		guest_post_send(&t->qp[0], &(struct simhca_sq_wqe) { 0 }, t->buf[0], 0, 0);
		memcpy(guest_ptr(&t->g[0], t->qp[0].sq), &wqe, sizeof(wqe));
		guest_ring(&t->qp[0]);
		expect_cqe(&t->cq[0], &cqe, SIMHCA_WC_LOC_QP_OP_ERR);
		assert_int_equal(cqe.vendor_err, ENGINE_VERR_WQE);
		assert_int_equal(guest_modify_state(&t->qp[0], SIMHCA_QPS_RESET), SIMHCA_CMD_OK);
		assert_int_equal(guest_uar(&t->g[0], 2)->qp[10].sq_pi, 0);
		t->qp[0].sq_pi = 0;
		t->qp[0].rq_pi = 0;
		guest_connect(&t->qp[0], &t->qp[1]);
	}
}

static void expect_qp_fatal(struct front *t)
{
	struct simhca_qp_attr attr;
	uint32_t event, id;

	assert_true(guest_wait_irq(&t->g[0], 0, WAIT_MS));
	while (!guest_next_event(&t->g[0], 0, &event, &id))
		assert_true(guest_wait_irq(&t->g[0], 0, WAIT_MS));
	assert_int_equal(event, SIMHCA_EVENT_QP_FATAL);
	assert_int_equal(id, 10);
	assert_int_equal(guest_query_qp(&t->qp[0], &attr), SIMHCA_CMD_OK);
	assert_int_equal(attr.state, SIMHCA_QPS_ERR);
}

static void test_impossible_index(void **state)
{
	struct front *t = *state;
	struct simhca_cqe cqe;

	t->qp[0].sq_pi = (1u << GUEST_WR_LOG) + 1;
	guest_ring(&t->qp[0]);
	expect_qp_fatal(t);
	assert_false(guest_poll_wait(&t->cq[0], &cqe, QUIET_MS));
	/* Others do not suffer. */
	t->qp[1].sq_pi = 0;
	assert_int_equal(guest_modify_state(&t->qp[0], SIMHCA_QPS_RESET), SIMHCA_CMD_OK);
	assert_int_equal(guest_modify_state(&t->qp[1], SIMHCA_QPS_RESET), SIMHCA_CMD_OK);
	t->qp[0].sq_pi = 0;
	guest_connect(&t->qp[0], &t->qp[1]);
	guest_connect(&t->qp[1], &t->qp[0]);
	post(t, SIMHCA_WR_RDMA_WRITE, t->buf[0], 8, t->buf[1]);
	guest_ring(&t->qp[0]);
	expect_cqe(&t->cq[0], &cqe, SIMHCA_WC_SUCCESS);
}

static void test_cq_overrun(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[0];
	struct guest_cq cq;
	struct guest_qp qp;
	struct simhca_sq_wqe wqe = {
		.opcode = SIMHCA_WR_RDMA_WRITE, .flags = SIMHCA_WR_SIGNALED, .num_sge = 1,
		.rkey = GUEST_KEY, .remote_addr = t->buf[0],
	};
	uint32_t event, id, seen = 0;
	unsigned int i;

	assert_int_equal(guest_create_cq(g, &cq, 6, 2), SIMHCA_CMD_OK);
	assert_int_equal(guest_create_qp(g, &qp, 20, &cq), SIMHCA_CMD_OK);
	guest_connect(&qp, &qp);
	for (i = 0; i < 5; i++)
		guest_post_send(&qp, &wqe, t->buf[0], 8, GUEST_KEY);
	guest_ring(&qp);
	while (seen != (1u << SIMHCA_EVENT_CQ_ERR | 1u << SIMHCA_EVENT_QP_FATAL)) {
		while (!guest_next_event(g, 0, &event, &id))
			assert_true(guest_wait_irq(g, 0, WAIT_MS));
		assert_int_equal(id, event == SIMHCA_EVENT_CQ_ERR ? 6 : 20);
		seen |= 1u << event;
	}
}

/* Queues in pieces that no page boundary respects. */
static void test_scattered_rings(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[0];
	struct simhca_seg segs[3];
	struct simhca_cmd cmd;
	struct simhca_cqe cqe = { 0 };
	uint8_t *out = (uint8_t *)&cqe;
	uint64_t sq[3], cq[3];
	struct simhca_sq_wqe wqe = {
		.opcode = SIMHCA_WR_RDMA_WRITE, .flags = SIMHCA_WR_SIGNALED, .num_sge = 1,
		.rkey = GUEST_KEY, .remote_addr = t->buf[1],
	};
	struct simhca_sge sge = { t->buf[0], 100, GUEST_KEY };
	uint8_t image[128];
	unsigned int i;

	for (i = 0; i < 3; i++) {
		guest_alloc(g, 77, 1);
		cq[i] = guest_alloc(g, 64, 1);
		guest_alloc(g, 5, 1);
		sq[i] = guest_alloc(g, 128, 1);
	}
	/* CQ of one entry: 10 + 21 + 1 bytes, the phase byte alone */
	segs[0] = (struct simhca_seg) { cq[0], 10 };
	segs[1] = (struct simhca_seg) { cq[1], 21 };
	segs[2] = (struct simhca_seg) { cq[2], 1 };
	cmd = (struct simhca_cmd) {
		.opcode = SIMHCA_CMD_CREATE_CQ,
		.payload.create_cq = { .cqn = 77, .eqn = 1, .uar = 9, .slot = 1 },
	};
	cmd.payload.create_cq.ring = guest_sgl_segs(g, segs, 3);
	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_OK);
	/* SQ of one entry of 128 bytes: 13 + 60 + 55 */
	segs[0] = (struct simhca_seg) { sq[0], 13 };
	segs[1] = (struct simhca_seg) { sq[1], 60 };
	segs[2] = (struct simhca_seg) { sq[2], 55 };
	cmd = (struct simhca_cmd) {
		.opcode = SIMHCA_CMD_CREATE_QP,
		.payload.create_qp = {
			.qpn = 10 + 1, .type = SIMHCA_QPT_RC, .pdn = GUEST_PDN, .send_cqn = 77,
			.recv_cqn = 77, .uar = 9, .slot = 200, .sq_log_stride = 7,
		},
	};
	cmd.payload.create_qp.qpn = 30;
	cmd.payload.create_qp.sq = guest_sgl_segs(g, segs, 3);
	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_OK);
	t->qp[0].qpn = 30;
	t->qp[1].g = g;		/* itself */
	wqe.remote_addr = t->buf[0] + 4096;
	guest_connect(&t->qp[0], &t->qp[0]);

	fill(guest_ptr(g, t->buf[0]), 100, 9);
	memset(image, 0, sizeof(image));
	memcpy(image, &wqe, sizeof(wqe));
	memcpy(image + sizeof(wqe), &sge, sizeof(sge));
	memcpy(guest_ptr(g, sq[0]), image, 13);
	memcpy(guest_ptr(g, sq[1]), image + 13, 60);
	memcpy(guest_ptr(g, sq[2]), image + 73, 55);
	guest_uar(g, 9)->qp[200].sq_pi = 1;
	__atomic_store_n(&guest_uar(g, 9)->sq_group[200 / 8], 1, __ATOMIC_RELEASE);
	guest_kick_if_asleep(g);
	for (i = 0; !*(volatile uint8_t *)guest_ptr(g, cq[2]); i++) {
		assert_true(i < 10000);
		usleep(1000);
	}
	memcpy(out, guest_ptr(g, cq[0]), 10);
	memcpy(out + 10, guest_ptr(g, cq[1]), 21);
	assert_int_equal(cqe.status, SIMHCA_WC_SUCCESS);
	assert_int_equal(cqe.qpn, 30);
	assert_memory_equal(guest_ptr(g, t->buf[0]), guest_ptr(g, t->buf[0] + 4096), 100);
}

/* An MR of 300 pages in reverse order, from an unaligned start. */
static void test_scattered_mr(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[1];
	const unsigned int n = 300;
	struct simhca_seg *segs = calloc(n, sizeof(*segs));
	uint64_t pages = guest_alloc(g, n * 4096, 4096);
	const uint64_t iova = 0x7f0000000123;
	struct simhca_sq_wqe wqe = {
		.opcode = SIMHCA_WR_RDMA_WRITE, .flags = SIMHCA_WR_SIGNALED, .num_sge = 1,
		.rkey = 0x2000, .remote_addr = iova + 1000,
	};
	struct simhca_cqe cqe;
	uint8_t *src, *dst;
	unsigned int i;

	for (i = 0; i < n; i++)
		segs[i] = (struct simhca_seg) { pages + (n - 1 - i) * 4096, 4096 };
	segs[0].addr += 0x123;
	segs[0].len -= 0x123;
	assert_int_equal(guest_create_mr(g, 0x2000, GUEST_ALL, iova, guest_sgl_segs(g, segs, n)),
			 SIMHCA_CMD_OK);
	src = guest_ptr(&t->g[0], t->buf[0]);
	fill(src, 1000000, 11);
	guest_post_send(&t->qp[0], &wqe, t->buf[0], 1000000, GUEST_KEY);
	guest_ring(&t->qp[0]);
	expect_cqe(&t->cq[0], &cqe, SIMHCA_WC_SUCCESS);
	dst = guest_ptr(g, pages);
	for (i = 0; i < 1000000; i++) {
		uint64_t pos = 0x123 + 1000 + i;

		assert_int_equal(dst[(n - 1 - pos / 4096) * 4096 + pos % 4096], src[i]);
	}
	free(segs);
}

static void test_dma_mr(void **state)
{
	struct front *t = *state;
	struct simhca_cmd cmd = {
		.opcode = SIMHCA_CMD_CREATE_MR,
		.payload.create_mr = {
			.key = 0x3000,
			.pdn = GUEST_PDN,
			.access = GUEST_ALL,
			.flags = SIMHCA_MR_DMA,
		},
	};
	struct simhca_sq_wqe wqe = {
		.opcode = SIMHCA_WR_RDMA_WRITE, .flags = SIMHCA_WR_SIGNALED, .num_sge = 1,
		.rkey = 0x3000, .remote_addr = t->buf[1] + 8,
	};
	struct simhca_cqe cqe;

	assert_int_equal(guest_cmd(&t->g[1], &cmd), SIMHCA_CMD_OK);
	fill(guest_ptr(&t->g[0], t->buf[0]), 64, 3);
	guest_post_send(&t->qp[0], &wqe, t->buf[0], 64, GUEST_KEY);
	wqe.remote_addr = GUEST_RAM_IOVA - 64;		/* not granted */
	guest_post_send(&t->qp[0], &wqe, t->buf[0], 64, GUEST_KEY);
	guest_ring(&t->qp[0]);
	expect_cqe(&t->cq[0], &cqe, SIMHCA_WC_SUCCESS);
	assert_memory_equal(guest_ptr(&t->g[0], t->buf[0]), guest_ptr(&t->g[1], t->buf[1] + 8), 64);
	expect_cqe(&t->cq[0], &cqe, SIMHCA_WC_REM_OP_ERR);
	assert_int_equal(cqe.vendor_err, ENGINE_VERR_DMA | ENGINE_VERR_REMOTE);
}

/* The queues wrap many times, completions come in order. */
static void test_many(void **state)
{
	struct front *t = *state;
	const uint32_t n = 3000;
	uint32_t posted = 0, done = 0;
	struct simhca_cqe cqe;

	while (done < n) {
		while (posted < n && posted - done < 1u << GUEST_WR_LOG) {
			guest_post_recv(&t->qp[1], t->buf[1] + posted % 1000, 16, GUEST_KEY);
			post(t, SIMHCA_WR_SEND, t->buf[0] + posted % 999, 16, 0);
			posted++;
		}
		guest_ring(&t->qp[0]);
		expect_cqe(&t->cq[0], &cqe, SIMHCA_WC_SUCCESS);
		assert_int_equal(cqe.wqe_index, done);
		expect_cqe(&t->cq[1], &cqe, SIMHCA_WC_SUCCESS);
		assert_int_equal(cqe.wqe_index, done);
		done++;
	}
}

/* Memory is taken away under running traffic: the message ends with an error, the unmap in time. */
static void test_unmap_under_traffic(void **state)
{
	struct front *t = *state;
	struct simhca_cqe cqe;
	unsigned int i, round;

	for (round = 0; round < 10; round++) {
		for (i = 0; i < 32; i++)
			post(t, SIMHCA_WR_RDMA_WRITE, t->buf[0], GUEST_BUF_SIZE, t->buf[1]);
		guest_ring(&t->qp[0]);
		usleep(200 * round);
		guest_dma_unmap(&t->g[1], t->buf[1], GUEST_BUF_SIZE);
		do {
			assert_true(guest_poll_wait(&t->cq[0], &cqe, WAIT_MS));
		} while (cqe.status == SIMHCA_WC_SUCCESS && cqe.wqe_index != 31);
		if (cqe.status != SIMHCA_WC_SUCCESS) {
			assert_int_equal(cqe.status, SIMHCA_WC_REM_OP_ERR);
			while (cqe.wqe_index != 31)
				expect_cqe(&t->cq[0], &cqe, SIMHCA_WC_WR_FLUSH_ERR);
		}
		guest_dma_map(&t->g[1], t->buf[1], GUEST_BUF_SIZE, t->g[1].ram_fd,
			      t->buf[1] - GUEST_RAM_IOVA);
		for (i = 0; i < 2; i++) {
			assert_int_equal(guest_modify_state(&t->qp[i], SIMHCA_QPS_RESET),
					 SIMHCA_CMD_OK);
			t->qp[i].sq_pi = 0;
			t->qp[i].rq_pi = 0;
		}
		guest_connect(&t->qp[0], &t->qp[1]);
		guest_connect(&t->qp[1], &t->qp[0]);
	}
}

/* ---- sleep ---- */

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static bool is_asleep(struct front *t)
{
	return __atomic_load_n(&guest_status(&t->g[0])->asleep, __ATOMIC_RELAXED);
}

/* The flag may still be that of the sleep that the last command ended. */
static void wait_asleep(struct front *t)
{
	unsigned int i;

	for (i = 0; !is_asleep(t); i++) {
		assert_true(i < 1000);
		usleep(1000);
	}
}

static bool stays_asleep(struct front *t, uint64_t ns)
{
	uint64_t start = now_ns();

	while (is_asleep(t))
		if (now_ns() - start >= ns)
			return true;
	return false;
}

static void test_sleeps(void **state)
{
	struct front *t = *state;
	struct timespec before, after;
	struct simhca_cmd cmd = { .opcode = SIMHCA_CMD_QUERY_STATS, .out_addr = t->g[0].out };

	wait_asleep(t);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
	usleep(200000);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
	assert_true((after.tv_sec - before.tv_sec) * 1000000000ll + after.tv_nsec - before.tv_nsec <
		    50000000);
	assert_int_equal(guest_cmd(&t->g[0], &cmd), SIMHCA_CMD_OK);
	assert_true(((struct simhca_stats *)guest_ptr(&t->g[0], t->g[0].out))->wakeups > 0);
}

/* What is posted to a QP in ERR rings no doorbell. Looking for it is no reason to be awake. */
static void test_sleeps_beside_error(void **state)
{
	struct front *t = *state;
	struct simhca_cqe cqe;
	unsigned int woke = 0;

	assert_int_equal(guest_modify_state(&t->qp[0], SIMHCA_QPS_ERR), SIMHCA_CMD_OK);
	do
		wait_asleep(t);
	while (!stays_asleep(t, 200000000) && ++woke < 4);
	assert_true(woke < 4);
	guest_post_recv(&t->qp[0], t->buf[0], 8, GUEST_KEY);
	expect_cqe(&t->cq[0], &cqe, SIMHCA_WC_WR_FLUSH_ERR);
}

struct stress {
	struct front *t;
	unsigned int guest;
	unsigned int lost;
	unsigned int asleep;	/* posts that found the device asleep */
};

/*
 * Posts and waits, after a pause that follows the moment at which the device falls asleep: longer
 * when it was still awake, shorter when it was not. Nobody else wakes it for good: a lost wake-up
 * shows as a message that is not completed.
 */
static void *stress_thread(void *arg)
{
	struct stress *s = arg;
	struct front *t = s->t;
	struct guest_qp *qp = &t->qp[s->guest];
	struct simhca_status_page *status = guest_status(qp->g);
	struct simhca_sq_wqe wqe = {
		.opcode = SIMHCA_WR_RDMA_WRITE, .flags = SIMHCA_WR_SIGNALED, .num_sge = 1,
		.rkey = GUEST_KEY, .remote_addr = t->buf[!s->guest],
	};
	uint32_t seed = 77 + s->guest;
	int64_t pause = 20000;
	struct simhca_cqe cqe;
	unsigned int i;

	for (i = 0; i < STRESS_ROUNDS; i++) {
		int64_t dither;
		uint64_t start = now_ns();

		seed = seed * 1664525 + 1013904223;
		dither = (int64_t)((seed >> 16) % 600) - 300;
		while ((int64_t)(now_ns() - start) < pause + dither)
			;
		guest_post_send(qp, &wqe, t->buf[s->guest], 8, GUEST_KEY);
		guest_ring(qp);
		if (__atomic_load_n(&status->asleep, __ATOMIC_RELAXED)) {
			s->asleep++;
			pause -= pause > 500 ? 100 : 0;
		} else {
			pause += pause < 100000 ? 100 : 0;
		}
		if (!guest_poll_wait(&t->cq[s->guest], &cqe, WAIT_MS) ||
		    cqe.status != SIMHCA_WC_SUCCESS) {
			s->lost++;
			break;
		}
	}
	return NULL;
}

static void test_no_wakeup_lost(void **state)
{
	struct front *t = *state;
	struct stress s[2] = { { .t = t, .guest = 0 }, { .t = t, .guest = 1 } };
	pthread_t thread;

	/* One alone, so that nobody else's kick helps; then both. */
	stress_thread(&s[0]);
	print_message("  %u of %u posts found the device asleep\n", s[0].asleep, STRESS_ROUNDS);
	assert_int_equal(s[0].lost, 0);
	assert_int_equal(pthread_create(&thread, NULL, stress_thread, &s[1]), 0);
	stress_thread(&s[0]);
	pthread_join(thread, NULL);
	assert_int_equal(s[0].lost, 0);
	assert_int_equal(s[1].lost, 0);
}

/* A receiver that waits for events only: none may be lost either. */
static void test_no_event_lost(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[1];
	struct simhca_sq_wqe wqe = { .opcode = SIMHCA_WR_SEND, .num_sge = 1 };
	struct simhca_cqe cqe;
	uint32_t event, id;
	unsigned int i;

	for (i = 0; i < STRESS_ROUNDS / 5; i++) {
		guest_post_recv(&t->qp[1], t->buf[1], 8, GUEST_KEY);
		guest_post_send(&t->qp[0], &wqe, t->buf[0], 8, GUEST_KEY);
		if (i & 1)
			guest_ring(&t->qp[0]);
		guest_arm(&t->cq[1], false);
		if (!(i & 1))
			guest_ring(&t->qp[0]);
		/* Arm, look once more, then wait. */
		while (!guest_poll(&t->cq[1], &cqe)) {
			assert_true(guest_wait_irq(g, 1, WAIT_MS));
			while (guest_next_event(g, 1, &event, &id))
				assert_int_equal(event, SIMHCA_EVENT_COMP);
		}
		assert_int_equal(cqe.wqe_index, i);
	}
}

/* Datagrams between management QPs, and to a group */
static void test_datagrams(void **state)
{
	struct front *t = *state;
	struct simhca_sq_wqe wqe = {
		.opcode = SIMHCA_WR_SEND_WITH_IMM,
		.flags = SIMHCA_WR_SIGNALED,
		.num_sge = 1,
		.imm_data = 0xabcd,
		.ud = { .qpn = SIMHCA_GSI_QPN, .qkey = 0x80010000, .hop_limit = 1, .sl = 5 },
	};
	struct simhca_cmd cmd = {
		.opcode = SIMHCA_CMD_ATTACH_MCAST,
		.payload.mcast = { .qpn = SIMHCA_GSI_QPN, .gid = { 0xff, 0x12, [15] = 1 } },
	};
	uint8_t *a = guest_ptr(&t->g[0], t->buf[0]), *b = guest_ptr(&t->g[1], t->buf[1]);
	struct guest_qp gsi[2];
	struct simhca_cqe cqe;
	unsigned int i;

	for (i = 0; i < 2; i++) {
		assert_int_equal(guest_create_qp_type(&t->g[i], &gsi[i], SIMHCA_GSI_QPN, &t->cq[i],
						      SIMHCA_QPT_UD, 0), SIMHCA_CMD_OK);
		guest_ud_start(&gsi[i], 0x80010000);
	}
	memcpy(wqe.ud.dgid, t->g[1].gid, sizeof(wqe.ud.dgid));
	assert_int_equal(guest_cmd(&t->g[1], &cmd), SIMHCA_CMD_OK);
	assert_int_equal(guest_cmd(&t->g[1], &cmd), SIMHCA_CMD_EEXIST);
	for (i = 0; i < 2; i++) {
		fill(a, 256, i);
		guest_post_recv(&gsi[1], t->buf[1], SIMHCA_UD_HEADER + 256, GUEST_KEY);
		guest_ring(&gsi[1]);
		guest_post_send(&gsi[0], &wqe, t->buf[0], 256, GUEST_KEY);
		guest_ring(&gsi[0]);
		expect_cqe(&t->cq[0], &cqe, SIMHCA_WC_SUCCESS);
		expect_cqe(&t->cq[1], &cqe, SIMHCA_WC_SUCCESS);
		assert_int_equal(cqe.qpn, SIMHCA_GSI_QPN);
		assert_int_equal(cqe.src, 5u << SIMHCA_CQE_SL_SHIFT | SIMHCA_GSI_QPN);
		assert_int_equal(cqe.byte_len, SIMHCA_UD_HEADER + 256);
		assert_int_equal(cqe.flags,
				 SIMHCA_CQE_RECV | SIMHCA_CQE_IMM | SIMHCA_CQE_GRH);
		assert_int_equal(cqe.imm_data, 0xabcd);
		assert_memory_equal(b + SIMHCA_UD_HEADER, a, 256);
		/* The second time to the group */
		memcpy(wqe.ud.dgid, cmd.payload.mcast.gid, sizeof(wqe.ud.dgid));
		wqe.ud.qpn = 0xffffff;
	}
	cmd.opcode = SIMHCA_CMD_DETACH_MCAST;
	assert_int_equal(guest_cmd(&t->g[1], &cmd), SIMHCA_CMD_OK);
	assert_int_equal(guest_cmd(&t->g[1], &cmd), SIMHCA_CMD_ENOENT);
	cmd.payload.mcast.qpn = 99;
	assert_int_equal(guest_cmd(&t->g[1], &cmd), SIMHCA_CMD_ENOENT);
	cmd.opcode = SIMHCA_CMD_ATTACH_MCAST;
	assert_int_equal(guest_cmd(&t->g[1], &cmd), SIMHCA_CMD_ENOENT);
	cmd.payload.mcast.qpn = t->qp[1].qpn;
	assert_int_equal(guest_cmd(&t->g[1], &cmd), SIMHCA_CMD_EINVAL);
}

int main(void)
{
#define C(name)	cmocka_unit_test_setup_teardown(name, front_setup_connected, front_teardown)
	const struct CMUnitTest tests[] = {
		C(test_opcodes),
		C(test_inline),
		C(test_malformed_wqes),
		C(test_impossible_index),
		C(test_cq_overrun),
		C(test_scattered_rings),
		C(test_scattered_mr),
		C(test_dma_mr),
		C(test_many),
		C(test_unmap_under_traffic),
		C(test_sleeps),
		C(test_sleeps_beside_error),
		C(test_no_wakeup_lost),
		C(test_no_event_lost),
		C(test_datagrams),
	};

	return cmocka_run_group_tests_name("simhca_traffic", tests, NULL, NULL);
}
