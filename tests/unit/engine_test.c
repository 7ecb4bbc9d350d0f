// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* The engine, over a front end of arrays and a clock of the test's own. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine_fake.h"

#define SRC	(FAKE_IOVA + 0x1003)	/* of no alignment */
#define DST	(FAKE_IOVA + 0x400105)
#define ALIGNED	(FAKE_IOVA + 0x800000)
#define MS	1000000ull
#define EVENT(e)	(1u << ENGINE_EVENT_##e)

/* Two HCAs, @a of the first connected to @b of the second. */
struct fixture {
	struct fabric fabric;
	struct fake_hca hca[2];
	struct fake_cq *cq[2];
	struct fake_qp *a, *b;
	uint64_t now;
};

static int setup(void **state)
{
	struct fixture *t = calloc(1, sizeof(*t));
	unsigned int i;

	fabric_init(&t->fabric);
	for (i = 0; i < 2; i++) {
		fake_hca_init(&t->hca[i], &t->fabric, i + 1, FAKE_MEM);
		t->cq[i] = fake_cq_new(&t->hca[i], 9);
	}
	t->a = fake_qp_new(&t->hca[0], 17, t->cq[0]);
	t->b = fake_qp_new(&t->hca[1], 33, t->cq[1]);
	fake_connect(t->a, t->b);
	t->now = 5 * MS;
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *t = *state;
	unsigned int i;

	if (t->a)
		fake_qp_free(t->a);
	if (t->b)
		fake_qp_free(t->b);
	for (i = 0; i < 2; i++) {
		fake_cq_free(t->cq[i]);
		fake_hca_fini(&t->hca[i], FAKE_MEM);
	}
	assert_int_equal(t->fabric.num_qps, 0);
	assert_int_equal(t->fabric.heap_len, 0);
	fabric_destroy(&t->fabric);
	free(t);
	return 0;
}

static void fill(uint8_t *p, size_t len, uint32_t seed)
{
	size_t i;

	for (i = 0; i < len; i++) {
		seed = seed * 1664525 + 1013904223;
		p[i] = seed >> 24;
	}
}

static void run(struct fixture *t)
{
	fake_run(&t->fabric, t->now);
}

static void expect_wc(struct fake_cq *cq, struct fake_qp *qp, uint32_t index, bool recv,
		      enum engine_wc_status status, uint32_t verr)
{
	const struct engine_wc *wc = fake_wc(cq);

	assert_non_null(wc);
	assert_ptr_equal(wc->qp, &qp->base);
	assert_int_equal(wc->status, status);
	assert_int_equal(wc->vendor_err, verr);
	assert_int_equal(wc->index, index);
	assert_int_equal(wc->recv, recv);
	assert_int_equal(wc->solicited, status != ENGINE_WC_SUCCESS);
}

static void expect_quiet(struct fixture *t)
{
	assert_null(fake_wc(t->cq[0]));
	assert_null(fake_wc(t->cq[1]));
}

static void expect_states(struct fixture *t, enum engine_qp_state a, enum engine_qp_state b)
{
	assert_int_equal(t->a->base.attr.state, a);
	assert_int_equal(t->b->base.attr.state, b);
}

/* ---- what works ---- */

static void test_write(void **state)
{
	struct fixture *t = *state;
	const uint32_t sizes[] = { 0, 1, 63, 4096, 65536, 1 << 20, (1 << 20) + 1, 3 << 20 };
	uint8_t *src = fake_ptr(&t->hca[0], SRC), *dst = fake_ptr(&t->hca[1], DST);
	unsigned int i;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		fill(src, sizes[i], i);
		memset(dst - 1, 0xee, sizes[i] + 2);
		fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, sizes[i], DST);
		run(t);
		expect_wc(t->cq[0], t->a, i, false, ENGINE_WC_SUCCESS, 0);
		expect_quiet(t);
		assert_memory_equal(src, dst, sizes[i]);
		assert_int_equal(dst[-1], 0xee);
		assert_int_equal(dst[sizes[i]], 0xee);
	}
	assert_int_equal(t->hca[0].base.stats.tx_wrs, i);
	assert_int_equal(t->hca[1].base.stats.tx_wrs, 0);
}

static void test_read(void **state)
{
	struct fixture *t = *state;
	uint8_t *local = fake_ptr(&t->hca[0], SRC), *remote = fake_ptr(&t->hca[1], DST);
	const struct engine_wc *wc;

	fill(remote, 2 << 20, 4);
	fake_send(t->a, ENGINE_WR_RDMA_READ, SRC, 2 << 20, DST);
	run(t);
	wc = fake_wc(t->cq[0]);
	assert_non_null(wc);
	assert_int_equal(wc->status, ENGINE_WC_SUCCESS);
	assert_int_equal(wc->byte_len, 2 << 20);
	assert_memory_equal(local, remote, 2 << 20);
	expect_quiet(t);
}

static void test_send_scatter_gather(void **state)
{
	struct fixture *t = *state;
	struct engine_send_wr *wr;
	struct engine_recv_wr *rwr;
	const struct engine_wc *wc;
	uint8_t expect[700], *mem;
	unsigned int i;

	/* 7 parts of 100 bytes with empty ones between them, whose keys are wrong */
	wr = fake_send(t->a, ENGINE_WR_SEND_WITH_IMM, 0, 0, 0);
	wr->num_sge = 14;
	wr->imm_data = 0x01020304;
	wr->flags |= ENGINE_WR_SOLICITED;
	fill(expect, sizeof(expect), 77);
	for (i = 0; i < 7; i++) {
		wr->sge[2 * i] = (struct engine_sge) { SRC + i * 1000, 100, FAKE_KEY };
		wr->sge[2 * i + 1] = (struct engine_sge) { 1, 0, 0xbad };
		memcpy(fake_ptr(&t->hca[0], SRC + i * 1000), expect + i * 100, 100);
	}
	rwr = fake_recv(t->b, DST, 13);
	rwr->num_sge = 16;
	for (i = 0; i < 16; i++)
		rwr->sge[i] = (struct engine_sge) { DST + i * 500, 57, FAKE_KEY };
	run(t);

	wc = fake_wc(t->cq[1]);
	assert_non_null(wc);
	assert_int_equal(wc->status, ENGINE_WC_SUCCESS);
	assert_int_equal(wc->byte_len, 700);
	assert_int_equal(wc->imm_data, 0x01020304);
	assert_true(wc->with_imm && wc->recv && wc->solicited);
	assert_int_equal(wc->opcode, ENGINE_WR_SEND_WITH_IMM);
	expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	for (i = 0; i < 700; i++) {
		mem = fake_ptr(&t->hca[1], DST + i / 57 * 500 + i % 57);
		assert_int_equal(*mem, expect[i]);
	}
	assert_int_equal(t->hca[1].base.stats.rx_msgs, 1);
	assert_int_equal(t->hca[1].base.stats.rx_bytes, 700);
}

static void test_write_imm(void **state)
{
	struct fixture *t = *state;
	const struct engine_wc *wc;
	struct engine_send_wr *wr;

	fill(fake_ptr(&t->hca[0], SRC), 5000, 3);
	/* The receive's own buffer is not looked at. */
	fake_recv(t->b, 1, 1)->sge[0].key = 0xbad;
	fake_recv(t->b, 1, 1)->sge[0].key = 0xbad;
	wr = fake_send(t->a, ENGINE_WR_RDMA_WRITE_WITH_IMM, SRC, 5000, DST);
	wr->imm_data = 42;
	/* Nothing to write: the key does not matter. */
	fake_send(t->a, ENGINE_WR_RDMA_WRITE_WITH_IMM, SRC, 0, 0)->rkey = 0xbad;
	run(t);
	wc = fake_wc(t->cq[1]);
	assert_non_null(wc);
	assert_int_equal(wc->byte_len, 5000);
	assert_int_equal(wc->imm_data, 42);
	assert_true(wc->with_imm);
	assert_memory_equal(fake_ptr(&t->hca[0], SRC), fake_ptr(&t->hca[1], DST), 5000);
	expect_wc(t->cq[1], t->b, 1, true, ENGINE_WC_SUCCESS, 0);
	expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	expect_wc(t->cq[0], t->a, 1, false, ENGINE_WC_SUCCESS, 0);
}

static void test_inline(void **state)
{
	struct fixture *t = *state;
	struct engine_send_wr *wr;

	wr = fake_send(t->a, ENGINE_WR_RDMA_WRITE, 0, 0, DST);
	wr->flags |= ENGINE_WR_INLINE;
	wr->num_sge = 0;
	wr->length = ENGINE_MAX_INLINE;
	fill(wr->inline_data, wr->length, 8);
	run(t);
	expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	assert_memory_equal(wr->inline_data, fake_ptr(&t->hca[1], DST), ENGINE_MAX_INLINE);
}

static void test_atomics(void **state)
{
	struct fixture *t = *state;
	uint64_t *remote = (uint64_t *)fake_ptr(&t->hca[1], ALIGNED);
	uint64_t *local = (uint64_t *)fake_ptr(&t->hca[0], ALIGNED);
	struct engine_send_wr *wr;
	const struct engine_wc *wc;

	*remote = 100;
	wr = fake_send(t->a, ENGINE_WR_ATOMIC_FETCH_AND_ADD, ALIGNED, 8, ALIGNED);
	wr->compare_add = -1ull;
	wr = fake_send(t->a, ENGINE_WR_ATOMIC_CMP_AND_SWP, ALIGNED + 8, 8, ALIGNED);
	wr->compare_add = 99;
	wr->swap = 7;
	wr = fake_send(t->a, ENGINE_WR_ATOMIC_CMP_AND_SWP, 0, 0, ALIGNED);
	wr->compare_add = 99;
	wr->swap = 8;
	/* the answer in two parts */
	wr->num_sge = 2;
	wr->sge[0] = (struct engine_sge) { ALIGNED + 16, 3, FAKE_KEY };
	wr->sge[1] = (struct engine_sge) { ALIGNED + 19, 5, FAKE_KEY };
	run(t);
	wc = fake_wc(t->cq[0]);
	assert_non_null(wc);
	assert_int_equal(wc->byte_len, 8);
	expect_wc(t->cq[0], t->a, 1, false, ENGINE_WC_SUCCESS, 0);
	expect_wc(t->cq[0], t->a, 2, false, ENGINE_WC_SUCCESS, 0);
	assert_int_equal(local[0], 100);
	assert_int_equal(local[1], 99);
	assert_int_equal(local[2], 7);
	assert_int_equal(*remote, 7);
}

static void test_unsignaled_and_order(void **state)
{
	struct fixture *t = *state;
	uint32_t i;

	for (i = 0; i < 200; i++)
		fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST)->flags =
			i % 10 == 9 ? ENGINE_WR_SIGNALED : 0;
	run(t);
	for (i = 9; i < 200; i += 10)
		expect_wc(t->cq[0], t->a, i, false, ENGINE_WC_SUCCESS, 0);
	expect_quiet(t);
	assert_int_equal(t->hca[0].base.stats.tx_wrs, 200);
}

static void test_loopback(void **state)
{
	struct fixture *t = *state;
	struct fake_qp *c = fake_qp_new(&t->hca[0], 100, t->cq[0]);
	struct fake_qp *d = fake_qp_new(&t->hca[0], 101, t->cq[0]);
	struct fake_qp *self = fake_qp_new(&t->hca[0], 102, t->cq[0]);

	fake_connect(c, d);
	fake_connect(self, self);
	fill(fake_ptr(&t->hca[0], SRC), 4096, 5);
	fake_send(c, ENGINE_WR_RDMA_WRITE, SRC, 4096, DST);
	run(t);
	expect_wc(t->cq[0], c, 0, false, ENGINE_WC_SUCCESS, 0);
	assert_memory_equal(fake_ptr(&t->hca[0], SRC), fake_ptr(&t->hca[0], DST), 4096);

	/* A QP may be its own peer, and source and destination may overlap. */
	fake_recv(self, SRC + 10, 4096);
	fake_send(self, ENGINE_WR_SEND, SRC, 4096, 0);
	run(t);
	expect_wc(t->cq[0], self, 0, true, ENGINE_WC_SUCCESS, 0);
	expect_wc(t->cq[0], self, 0, false, ENGINE_WC_SUCCESS, 0);
	fake_send(self, ENGINE_WR_RDMA_WRITE, SRC, 4096, DST)->rkey = 0xbad;
	run(t);
	expect_wc(t->cq[0], self, 1, false, ENGINE_WC_REM_ACCESS_ERR,
		  ENGINE_VERR_KEY | ENGINE_VERR_REMOTE);
	assert_int_equal(self->base.attr.state, ENGINE_QPS_ERR);

	fake_qp_free(c);
	fake_qp_free(d);
	fake_qp_free(self);
}

static void test_comm_est(void **state)
{
	struct fixture *t = *state;
	struct engine_qp_attr attr = fake_attr(t->b, t->a);

	assert_int_equal(fake_set_state(t->b, ENGINE_QPS_RESET), 0);
	fake_to_init(t->b, &attr);
	fake_to_rtr(t->b, &attr);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 1, DST);
	run(t);
	expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	assert_int_equal(t->b->events, EVENT(COMM_EST));
	t->b->events = 0;
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 1, DST);
	run(t);
	assert_int_equal(t->b->events, 0);
	fake_to_rts(t->b, &attr);
}

/* ---- local errors ---- */

struct local_case {
	const char *name;
	void (*change)(struct fixture *t, struct engine_send_wr *wr);
	enum engine_opcode opcode;
	enum engine_wc_status status;
	uint32_t verr;
};

static void make_mr(struct fake_hca *hca, uint32_t key, uint32_t pdn, uint32_t access,
		    uint64_t addr, uint64_t length)
{
	struct sgtab sg;

	sgtab_init_one(&sg, addr, length);
	assert_int_equal(engine_mr_create(&hca->base, key, pdn, access, FAKE_IOVA, &sg, 0), 0);
}

static void local_bad_key(struct fixture *t, struct engine_send_wr *wr)
{
	(void)t;
	wr->sge[0].key = FAKE_KEY + 1;	/* right index, wrong variant */
}

static void local_no_key(struct fixture *t, struct engine_send_wr *wr)
{
	(void)t;
	wr->sge[0].key = 0xffffffff;
}

static void local_pd(struct fixture *t, struct engine_send_wr *wr)
{
	make_mr(&t->hca[0], 0x200, FAKE_PDN + 1, FAKE_ALL, FAKE_IOVA, FAKE_MEM);
	wr->sge[0].key = 0x200;
}

static void local_read_only(struct fixture *t, struct engine_send_wr *wr)
{
	make_mr(&t->hca[0], 0x200, FAKE_PDN, ENGINE_ACCESS_REMOTE_READ, FAKE_IOVA, FAKE_MEM);
	wr->sge[0].key = 0x200;
}

static void local_range_low(struct fixture *t, struct engine_send_wr *wr)
{
	(void)t;
	wr->sge[0].addr = FAKE_IOVA - 1;
}

static void local_range_high(struct fixture *t, struct engine_send_wr *wr)
{
	(void)t;
	wr->sge[0].addr = FAKE_IOVA + FAKE_MEM - wr->sge[0].length + 1;
}

static void local_range_wrap(struct fixture *t, struct engine_send_wr *wr)
{
	(void)t;
	wr->sge[0].addr = UINT64_MAX - 2;
}

static void local_dma(struct fixture *t, struct engine_send_wr *wr)
{
	make_mr(&t->hca[0], 0x200, FAKE_PDN, FAKE_ALL, 0xdead0000, FAKE_MEM);
	wr->sge[0].key = 0x200;
}

static void local_too_long(struct fixture *t, struct engine_send_wr *wr)
{
	(void)t;
	wr->num_sge = 2;
	wr->sge[0].length = ENGINE_MAX_MSG;
	wr->sge[1].length = 1;
}

static void local_atomic_len(struct fixture *t, struct engine_send_wr *wr)
{
	(void)t;
	wr->sge[0].length = 4;
}

static void local_no_reads(struct fixture *t, struct engine_send_wr *wr)
{
	(void)wr;
	t->a->base.attr.max_rd_atomic = 0;
}

static void local_opcode(struct fixture *t, struct engine_send_wr *wr)
{
	(void)t;
	wr->opcode = 7;
}

static void local_inline_read(struct fixture *t, struct engine_send_wr *wr)
{
	(void)t;
	wr->flags |= ENGINE_WR_INLINE;
}

static void local_malformed(struct fixture *t, struct engine_send_wr *wr)
{
	(void)wr;
	t->a->sq_error = -EINVAL;
}

static const struct local_case local_cases[] = {
	{ "key", local_bad_key, ENGINE_WR_RDMA_WRITE, ENGINE_WC_LOC_PROT_ERR, ENGINE_VERR_KEY },
	{ "no key", local_no_key, ENGINE_WR_SEND, ENGINE_WC_LOC_PROT_ERR, ENGINE_VERR_KEY },
	{ "pd", local_pd, ENGINE_WR_RDMA_WRITE, ENGINE_WC_LOC_PROT_ERR, ENGINE_VERR_PD },
	{ "read only", local_read_only, ENGINE_WR_RDMA_READ, ENGINE_WC_LOC_PROT_ERR,
	  ENGINE_VERR_ACCESS },
	{ "below", local_range_low, ENGINE_WR_RDMA_WRITE, ENGINE_WC_LOC_PROT_ERR,
	  ENGINE_VERR_RANGE },
	{ "above", local_range_high, ENGINE_WR_RDMA_READ, ENGINE_WC_LOC_PROT_ERR,
	  ENGINE_VERR_RANGE },
	{ "wrap", local_range_wrap, ENGINE_WR_RDMA_WRITE, ENGINE_WC_LOC_PROT_ERR,
	  ENGINE_VERR_RANGE },
	{ "dma", local_dma, ENGINE_WR_RDMA_WRITE, ENGINE_WC_LOC_PROT_ERR, ENGINE_VERR_DMA },
	{ "dma, read", local_dma, ENGINE_WR_RDMA_READ, ENGINE_WC_LOC_PROT_ERR, ENGINE_VERR_DMA },
	{ "dma, atomic", local_dma, ENGINE_WR_ATOMIC_FETCH_AND_ADD, ENGINE_WC_LOC_PROT_ERR,
	  ENGINE_VERR_DMA },
	{ "too long", local_too_long, ENGINE_WR_RDMA_WRITE, ENGINE_WC_LOC_LEN_ERR,
	  ENGINE_VERR_LENGTH },
	{ "atomic length", local_atomic_len, ENGINE_WR_ATOMIC_CMP_AND_SWP, ENGINE_WC_LOC_LEN_ERR,
	  ENGINE_VERR_ATOMIC_LENGTH },
	{ "no reads", local_no_reads, ENGINE_WR_RDMA_READ, ENGINE_WC_LOC_QP_OP_ERR,
	  ENGINE_VERR_RD_ATOMIC },
	{ "opcode", local_opcode, ENGINE_WR_SEND, ENGINE_WC_LOC_QP_OP_ERR, ENGINE_VERR_WQE },
	{ "inline read", local_inline_read, ENGINE_WR_RDMA_READ, ENGINE_WC_LOC_QP_OP_ERR,
	  ENGINE_VERR_WQE },
	{ "malformed", local_malformed, ENGINE_WR_SEND, ENGINE_WC_LOC_QP_OP_ERR,
	  ENGINE_VERR_WQE },
};

static void test_local_errors(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(local_cases) / sizeof(local_cases[0]); i++) {
		const struct local_case *c = &local_cases[i];
		struct engine_send_wr *wr;
		struct fixture *t;
		void *s;

		print_message("  %s\n", c->name);
		setup(&s);
		t = s;
		fake_recv(t->b, DST, 4096);
		/* Unsignaled: errors complete nevertheless. */
		wr = fake_send(t->a, c->opcode, ALIGNED, 8, ALIGNED);
		wr->flags = 0;
		c->change(t, wr);
		fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
		run(t);
		expect_wc(t->cq[0], t->a, 0, false, c->status, c->verr);
		expect_wc(t->cq[0], t->a, 1, false, ENGINE_WC_WR_FLUSH_ERR, 0);
		expect_quiet(t);
		expect_states(t, ENGINE_QPS_ERR, ENGINE_QPS_RTS);
		assert_int_equal(t->a->events | t->b->events, 0);
		teardown(&s);
	}
}

/* ---- remote errors ---- */

struct remote_case {
	const char *name;
	void (*change)(struct fixture *t, struct engine_send_wr *wr);
	enum engine_opcode opcode;
	enum engine_wc_status status;
	enum engine_wc_status recv_status;	/* SUCCESS: the receive is flushed */
	uint32_t verr;
	uint32_t event;
};

static void remote_bad_key(struct fixture *t, struct engine_send_wr *wr)
{
	(void)t;
	wr->rkey ^= 1;
}

static void remote_pd(struct fixture *t, struct engine_send_wr *wr)
{
	make_mr(&t->hca[1], 0x200, FAKE_PDN + 1, FAKE_ALL, FAKE_IOVA, FAKE_MEM);
	wr->rkey = 0x200;
}

static void remote_no_write(struct fixture *t, struct engine_send_wr *wr)
{
	make_mr(&t->hca[1], 0x200, FAKE_PDN, FAKE_ALL & ~ENGINE_ACCESS_REMOTE_WRITE, FAKE_IOVA,
		FAKE_MEM);
	wr->rkey = 0x200;
}

static void remote_no_read(struct fixture *t, struct engine_send_wr *wr)
{
	make_mr(&t->hca[1], 0x200, FAKE_PDN, FAKE_ALL & ~ENGINE_ACCESS_REMOTE_READ, FAKE_IOVA,
		FAKE_MEM);
	wr->rkey = 0x200;
}

static void remote_no_atomic(struct fixture *t, struct engine_send_wr *wr)
{
	make_mr(&t->hca[1], 0x200, FAKE_PDN, FAKE_ALL & ~ENGINE_ACCESS_REMOTE_ATOMIC, FAKE_IOVA,
		FAKE_MEM);
	wr->rkey = 0x200;
}

static void remote_range(struct fixture *t, struct engine_send_wr *wr)
{
	(void)t;
	wr->remote_addr = FAKE_IOVA + FAKE_MEM - 7;
}

static void remote_dma(struct fixture *t, struct engine_send_wr *wr)
{
	make_mr(&t->hca[1], 0x200, FAKE_PDN, FAKE_ALL, 0xdead0000, FAKE_MEM);
	wr->rkey = 0x200;
	t->b->rq[0].sge[0].key = 0x200;
}

static void remote_qp_access(struct fixture *t, struct engine_send_wr *wr)
{
	(void)wr;
	t->b->base.attr.access = 0;
}

static void remote_no_reads(struct fixture *t, struct engine_send_wr *wr)
{
	(void)wr;
	t->b->base.attr.max_dest_rd_atomic = 0;
}

static void remote_align(struct fixture *t, struct engine_send_wr *wr)
{
	(void)t;
	wr->remote_addr += 4;
}

static void remote_align_host(struct fixture *t, struct engine_send_wr *wr)
{
	/* aligned as an address, not in memory */
	make_mr(&t->hca[1], 0x200, FAKE_PDN, FAKE_ALL, FAKE_IOVA + 4, 64);
	wr->rkey = 0x200;
	wr->remote_addr = FAKE_IOVA;
}

static void recv_short(struct fixture *t, struct engine_send_wr *wr)
{
	(void)wr;
	t->b->rq[0].sge[0].length = 7;
}

static void recv_key(struct fixture *t, struct engine_send_wr *wr)
{
	(void)wr;
	t->b->rq[0].sge[0].key = 0xbad;
}

static void recv_read_only(struct fixture *t, struct engine_send_wr *wr)
{
	(void)wr;
	make_mr(&t->hca[1], 0x200, FAKE_PDN, 0, FAKE_IOVA, FAKE_MEM);
	t->b->rq[0].sge[0].key = 0x200;
}

static void recv_malformed(struct fixture *t, struct engine_send_wr *wr)
{
	(void)wr;
	t->b->rq_error = -EINVAL;
}

static const struct remote_case remote_cases[] = {
	{ "key", remote_bad_key, ENGINE_WR_RDMA_WRITE, ENGINE_WC_REM_ACCESS_ERR, 0,
	  ENGINE_VERR_KEY, EVENT(QP_ACCESS_ERR) },
	{ "key, read", remote_bad_key, ENGINE_WR_RDMA_READ, ENGINE_WC_REM_ACCESS_ERR, 0,
	  ENGINE_VERR_KEY, EVENT(QP_ACCESS_ERR) },
	{ "key, atomic", remote_bad_key, ENGINE_WR_ATOMIC_CMP_AND_SWP, ENGINE_WC_REM_ACCESS_ERR, 0,
	  ENGINE_VERR_KEY, EVENT(QP_ACCESS_ERR) },
	{ "pd", remote_pd, ENGINE_WR_RDMA_WRITE_WITH_IMM, ENGINE_WC_REM_ACCESS_ERR, 0,
	  ENGINE_VERR_PD, EVENT(QP_ACCESS_ERR) },
	{ "no write", remote_no_write, ENGINE_WR_RDMA_WRITE, ENGINE_WC_REM_ACCESS_ERR, 0,
	  ENGINE_VERR_ACCESS, EVENT(QP_ACCESS_ERR) },
	{ "no read", remote_no_read, ENGINE_WR_RDMA_READ, ENGINE_WC_REM_ACCESS_ERR, 0,
	  ENGINE_VERR_ACCESS, EVENT(QP_ACCESS_ERR) },
	{ "no atomic", remote_no_atomic, ENGINE_WR_ATOMIC_FETCH_AND_ADD, ENGINE_WC_REM_ACCESS_ERR,
	  0, ENGINE_VERR_ACCESS, EVENT(QP_ACCESS_ERR) },
	{ "range", remote_range, ENGINE_WR_RDMA_READ, ENGINE_WC_REM_ACCESS_ERR, 0,
	  ENGINE_VERR_RANGE, EVENT(QP_ACCESS_ERR) },
	{ "dma", remote_dma, ENGINE_WR_RDMA_WRITE, ENGINE_WC_REM_OP_ERR, 0, ENGINE_VERR_DMA,
	  EVENT(QP_FATAL) },
	{ "dma, read", remote_dma, ENGINE_WR_RDMA_READ, ENGINE_WC_REM_OP_ERR, 0, ENGINE_VERR_DMA,
	  EVENT(QP_FATAL) },
	{ "dma, atomic", remote_dma, ENGINE_WR_ATOMIC_FETCH_AND_ADD, ENGINE_WC_REM_OP_ERR, 0,
	  ENGINE_VERR_DMA, EVENT(QP_FATAL) },
	{ "dma, send", remote_dma, ENGINE_WR_SEND, ENGINE_WC_REM_OP_ERR, ENGINE_WC_LOC_PROT_ERR,
	  ENGINE_VERR_DMA, 0 },
	{ "qp access", remote_qp_access, ENGINE_WR_RDMA_WRITE, ENGINE_WC_REM_INV_REQ_ERR, 0,
	  ENGINE_VERR_QP_ACCESS, EVENT(QP_REQ_ERR) },
	{ "qp access, read", remote_qp_access, ENGINE_WR_RDMA_READ, ENGINE_WC_REM_INV_REQ_ERR, 0,
	  ENGINE_VERR_QP_ACCESS, EVENT(QP_REQ_ERR) },
	{ "no reads", remote_no_reads, ENGINE_WR_RDMA_READ, ENGINE_WC_REM_INV_REQ_ERR, 0,
	  ENGINE_VERR_RD_ATOMIC, EVENT(QP_REQ_ERR) },
	{ "unaligned", remote_align, ENGINE_WR_ATOMIC_CMP_AND_SWP, ENGINE_WC_REM_INV_REQ_ERR, 0,
	  ENGINE_VERR_ALIGN, EVENT(QP_REQ_ERR) },
	{ "unaligned in memory", remote_align_host, ENGINE_WR_ATOMIC_FETCH_AND_ADD,
	  ENGINE_WC_REM_INV_REQ_ERR, 0, ENGINE_VERR_ALIGN, EVENT(QP_REQ_ERR) },
	{ "receive too short", recv_short, ENGINE_WR_SEND, ENGINE_WC_REM_INV_REQ_ERR,
	  ENGINE_WC_LOC_LEN_ERR, ENGINE_VERR_RECV_LENGTH, 0 },
	{ "receive key", recv_key, ENGINE_WR_SEND_WITH_IMM, ENGINE_WC_REM_OP_ERR,
	  ENGINE_WC_LOC_PROT_ERR, ENGINE_VERR_KEY, 0 },
	{ "receive read only", recv_read_only, ENGINE_WR_SEND, ENGINE_WC_REM_OP_ERR,
	  ENGINE_WC_LOC_PROT_ERR, ENGINE_VERR_ACCESS, 0 },
	{ "receive malformed", recv_malformed, ENGINE_WR_RDMA_WRITE_WITH_IMM, ENGINE_WC_REM_OP_ERR,
	  ENGINE_WC_LOC_QP_OP_ERR, ENGINE_VERR_WQE, 0 },
};

static void test_remote_errors(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(remote_cases) / sizeof(remote_cases[0]); i++) {
		const struct remote_case *c = &remote_cases[i];
		struct engine_send_wr *wr;
		struct fixture *t;
		void *s;

		print_message("  %s\n", c->name);
		setup(&s);
		t = s;
		fake_recv(t->b, ALIGNED, 4096);
		fake_recv(t->b, ALIGNED, 4096);
		memset(fake_ptr(&t->hca[1], ALIGNED), 0x55, 16);
		wr = fake_send(t->a, c->opcode, ALIGNED, 8, ALIGNED);
		c->change(t, wr);
		fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
		run(t);
		expect_wc(t->cq[0], t->a, 0, false, c->status, c->verr | ENGINE_VERR_REMOTE);
		expect_wc(t->cq[0], t->a, 1, false, ENGINE_WC_WR_FLUSH_ERR, 0);
		if (c->recv_status)
			expect_wc(t->cq[1], t->b, 0, true, c->recv_status,
				  c->verr | ENGINE_VERR_RECV);
		else
			expect_wc(t->cq[1], t->b, 0, true, ENGINE_WC_WR_FLUSH_ERR, 0);
		expect_wc(t->cq[1], t->b, 1, true, ENGINE_WC_WR_FLUSH_ERR, 0);
		expect_quiet(t);
		expect_states(t, ENGINE_QPS_ERR, ENGINE_QPS_ERR);
		assert_int_equal(t->b->events, c->event);
		assert_int_equal(t->a->events, 0);
		assert_int_equal(*fake_ptr(&t->hca[1], ALIGNED + 8), 0x55);
		teardown(&s);
	}
}

/* ---- receiver not ready, nobody there ---- */

static void test_rnr(void **state)
{
	struct fixture *t = *state;

	fake_send(t->a, ENGINE_WR_SEND, SRC, 8, 0);
	run(t);
	expect_quiet(t);
	assert_int_equal(fabric_next_timer(&t->fabric), t->now + 640000);
	/* More posts do not wake it, time does. */
	engine_qp_ring(&t->a->base);
	assert_int_equal(fake_run(&t->fabric, t->now + 639999), 0);
	fake_recv(t->b, DST, 8);
	t->now += 640000;
	run(t);
	expect_wc(t->cq[1], t->b, 0, true, ENGINE_WC_SUCCESS, 0);
	expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	assert_int_equal(t->hca[1].base.stats.rnr_naks, 1);
	assert_int_equal(fabric_next_timer(&t->fabric), ENGINE_NO_TIMER);

	/* The counter starts anew: two retries, then the end. */
	fake_send(t->a, ENGINE_WR_RDMA_WRITE_WITH_IMM, SRC, 8, DST);
	run(t);
	t->now += 640000;
	run(t);
	expect_quiet(t);
	t->now += 640000;
	run(t);
	expect_wc(t->cq[0], t->a, 1, false, ENGINE_WC_RNR_RETRY_EXC_ERR, ENGINE_VERR_RNR);
	assert_int_equal(t->hca[1].base.stats.rnr_naks, 4);
	expect_states(t, ENGINE_QPS_ERR, ENGINE_QPS_RTS);
}

static void test_rnr_forever(void **state)
{
	struct fixture *t = *state;
	unsigned int i;

	t->a->base.attr.rnr_retry = 7;
	t->b->base.attr.min_rnr_timer = 0;	/* the longest: 655.36 ms */
	fake_send(t->a, ENGINE_WR_SEND, SRC, 8, 0);
	run(t);
	assert_int_equal(fabric_next_timer(&t->fabric), t->now + 655360000);
	for (i = 0; i < 100; i++) {
		t->now += 656 * MS;
		run(t);
	}
	expect_quiet(t);
	fake_recv(t->b, DST, 8);
	t->now += 656 * MS;
	run(t);
	expect_wc(t->cq[1], t->b, 0, true, ENGINE_WC_SUCCESS, 0);
	expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
}

/* Expects retry_cnt + 1 time-outs and then the error. */
static void expect_retry_exceeded(struct fixture *t, uint32_t index, uint32_t verr)
{
	unsigned int i;

	run(t);
	for (i = 0; i < 4; i++) {
		expect_quiet(t);
		assert_int_equal(t->a->base.sched, ENGINE_QP_TIMER);
		assert_int_equal(t->a->base.timer, t->now + (4096ull << 10));
		t->now += 4096ull << 10;
		run(t);
	}
	expect_wc(t->cq[0], t->a, index, false, ENGINE_WC_RETRY_EXC_ERR, verr);
	assert_int_equal(t->a->base.attr.state, ENGINE_QPS_ERR);
}

static void test_retry_no_qp(void **state)
{
	struct fixture *t = *state;

	fake_qp_free(t->b);
	t->b = NULL;
	fake_send(t->a, ENGINE_WR_SEND, SRC, 8, 0);
	expect_retry_exceeded(t, 0, ENGINE_VERR_NO_PEER);
}

static void test_retry_wrong_state(void **state)
{
	struct fixture *t = *state;

	assert_int_equal(fake_set_state(t->b, ENGINE_QPS_ERR), 0);
	fake_send(t->a, ENGINE_WR_RDMA_READ, SRC, 8, DST);
	expect_retry_exceeded(t, 0, ENGINE_VERR_PEER_STATE);
}

static void test_retry_connected_elsewhere(void **state)
{
	struct fixture *t = *state;
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
	struct fixture *t = *state;
	struct engine_qp_attr attr = fake_attr(t->b, t->a);

	/* One message and a peer that was reset: it does not know of that message. */
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 5000, DST);
	run(t);
	expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
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
	struct fixture *t = *state;

	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	run(t);
	expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	assert_int_equal(engine_hca_set_gid(&t->hca[1].base, 1, NULL), 0);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	expect_retry_exceeded(t, 1, ENGINE_VERR_NO_PEER);
}

static void test_retry_succeeds(void **state)
{
	struct fixture *t = *state;
	struct engine_qp_attr attr = fake_attr(t->b, t->a);

	assert_int_equal(fake_set_state(t->b, ENGINE_QPS_RESET), 0);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	run(t);
	t->now += 4096ull << 10;
	run(t);
	expect_quiet(t);
	assert_int_equal(t->a->base.retries_left, 2);
	fake_to_init(t->b, &attr);
	fake_to_rtr(t->b, &attr);
	t->now += 4096ull << 10;
	run(t);
	expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	assert_int_equal(t->a->base.retries_left, 3);
}

static void test_retry_infinite_timeout(void **state)
{
	struct fixture *t = *state;

	t->a->base.attr.timeout = 0;
	assert_int_equal(fake_set_state(t->b, ENGINE_QPS_ERR), 0);
	run(t);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	run(t);
	t->now += 3600ull * 1000 * MS;
	run(t);
	expect_quiet(t);
	/* Only software ends it. */
	assert_int_equal(fake_set_state(t->a, ENGINE_QPS_ERR), 0);
	run(t);
	expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_WR_FLUSH_ERR, 0);
}

static void test_not_running(void **state)
{
	struct fixture *t = *state;

	engine_hca_set_running(&t->hca[0].base, false);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	run(t);
	expect_quiet(t);
	engine_hca_set_running(&t->hca[0].base, true);
	run(t);
	expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);

	engine_hca_set_running(&t->hca[1].base, false);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	expect_retry_exceeded(t, 1, ENGINE_VERR_NO_PEER);
	engine_hca_set_running(&t->hca[1].base, true);
}

/* ---- states ---- */

static void test_flush(void **state)
{
	struct fixture *t = *state;
	uint32_t i;

	for (i = 0; i < 200; i++)
		fake_recv(t->a, DST, 8);
	for (i = 0; i < 150; i++)
		fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST)->flags = 0;
	assert_int_equal(fake_set_state(t->a, ENGINE_QPS_ERR), 0);
	run(t);
	for (i = 0; i < 150; i++)
		expect_wc(t->cq[0], t->a, i, false, ENGINE_WC_WR_FLUSH_ERR, 0);
	for (i = 0; i < 200; i++)
		expect_wc(t->cq[0], t->a, i, true, ENGINE_WC_WR_FLUSH_ERR, 0);
	expect_quiet(t);

	/* Sends posted now ring; receives are found soon. */
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	run(t);
	expect_wc(t->cq[0], t->a, 150, false, ENGINE_WC_WR_FLUSH_ERR, 0);
	for (i = 0; i < 10; i++) {
		t->now += 70 * MS;
		run(t);
	}
	fake_recv(t->a, DST, 8);
	assert_true(fabric_next_timer(&t->fabric) <= t->now + 64 * MS);
	t->now = fabric_next_timer(&t->fabric);
	run(t);
	expect_wc(t->cq[0], t->a, 200, true, ENGINE_WC_WR_FLUSH_ERR, 0);
	expect_quiet(t);

	/* And the QP can be used again. */
	assert_int_equal(fake_set_state(t->a, ENGINE_QPS_RESET), 0);
	assert_int_equal(fake_set_state(t->b, ENGINE_QPS_RESET), 0);
	fake_connect(t->a, t->b);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	run(t);
	expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	assert_int_equal(fabric_next_timer(&t->fabric), ENGINE_NO_TIMER);
}

static void test_reset_drops(void **state)
{
	struct fixture *t = *state;

	fake_send(t->a, ENGINE_WR_SEND, SRC, 8, 0);
	fake_send(t->a, ENGINE_WR_SEND, SRC, 8, 0);
	run(t);		/* waits: no receive */
	assert_int_equal(fake_set_state(t->a, ENGINE_QPS_RESET), 0);
	t->now += 1000 * MS;
	run(t);
	expect_quiet(t);
	assert_int_equal(t->a->base.attr.sq_psn, 0);
	assert_int_equal(fabric_next_timer(&t->fabric), ENGINE_NO_TIMER);
}

static void test_sqd(void **state)
{
	struct fixture *t = *state;
	struct engine_qp_attr attr = { .retry_cnt = 1 };

	/* One request is under way (no receive yet), one is not. */
	fake_send(t->a, ENGINE_WR_SEND, SRC, 8, 0);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	run(t);
	assert_int_equal(fake_set_state(t->a, ENGINE_QPS_SQD), 0);
	run(t);
	assert_int_equal(t->a->events, 0);
	fake_recv(t->b, DST, 8);
	t->now += 10 * MS;
	run(t);
	expect_wc(t->cq[1], t->b, 0, true, ENGINE_WC_SUCCESS, 0);
	expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	expect_quiet(t);
	assert_int_equal(t->a->events, EVENT(SQ_DRAINED));

	/* Responding goes on. */
	fake_send(t->b, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	run(t);
	expect_wc(t->cq[1], t->b, 0, false, ENGINE_WC_SUCCESS, 0);

	assert_int_equal(engine_qp_modify(&t->a->base, &attr, ENGINE_QP_RETRY_CNT), 0);
	assert_int_equal(t->a->base.attr.retry_cnt, 1);
	assert_int_equal(fake_set_state(t->a, ENGINE_QPS_RTS), 0);
	run(t);
	expect_wc(t->cq[0], t->a, 1, false, ENGINE_WC_SUCCESS, 0);

	t->a->events = 0;
	assert_int_equal(fake_set_state(t->a, ENGINE_QPS_SQD), 0);
	assert_int_equal(t->a->events, EVENT(SQ_DRAINED));
}

#define M_INIT	ENGINE_QP_ACCESS
#define M_RTR	(ENGINE_QP_AV | ENGINE_QP_PATH_MTU | ENGINE_QP_DEST_QPN | ENGINE_QP_RQ_PSN | \
		 ENGINE_QP_MAX_DEST_RD_ATOMIC | ENGINE_QP_MIN_RNR_TIMER)
#define M_RTS	(ENGINE_QP_TIMEOUT | ENGINE_QP_RETRY_CNT | ENGINE_QP_RNR_RETRY | \
		 ENGINE_QP_SQ_PSN | ENGINE_QP_MAX_RD_ATOMIC)

/* Brings t->a from RESET to @state. */
static void bring_to(struct fixture *t, enum engine_qp_state state)
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
	struct fixture *t = *state;
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
				for (bit = 0; bit < 14; bit++)
					assert_int_equal(engine_qp_modify(&t->a->base, &attr,
							 1 | 1u << bit), -EINVAL);
				assert_int_equal(engine_qp_modify(&t->a->base, &attr,
						 ENGINE_QP_ALL), -EINVAL);
				assert_int_equal(t->a->base.attr.state, from);
				continue;
			}
			/* every required bit, one at a time */
			for (bit = 1; bit < 14; bit++) {
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
			assert_int_equal(engine_qp_modify(&t->a->base, &attr, mask | 1u << 14),
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
	struct fixture *t = *state;
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
	struct fixture *t = *state;
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
	struct fixture *t = *state;
	unsigned int i;

	t->cq[0]->cap = 4;
	for (i = 0; i < 6; i++)
		fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	run(t);
	assert_int_equal(t->cq[0]->num, 4);
	assert_int_equal(t->cq[0]->events, EVENT(CQ_ERR));
	assert_int_equal(t->a->events, EVENT(QP_FATAL));
	expect_states(t, ENGINE_QPS_ERR, ENGINE_QPS_RTS);
}

static void test_responder_cq_overrun(void **state)
{
	struct fixture *t = *state;

	t->cq[1]->error = -EFAULT;
	fake_recv(t->b, DST, 8);
	fake_send(t->a, ENGINE_WR_SEND, SRC, 8, 0);
	run(t);
	expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_REM_OP_ERR,
		  ENGINE_VERR_PEER_CQ | ENGINE_VERR_REMOTE);
	assert_int_equal(t->cq[1]->events, EVENT(CQ_ERR));
	assert_int_equal(t->b->events, EVENT(QP_FATAL));
	assert_int_equal(t->hca[1].base.stats.translate_faults, 1);
	expect_states(t, ENGINE_QPS_ERR, ENGINE_QPS_ERR);
}

static void test_dead_queues(void **state)
{
	struct fixture *t = *state;

	t->b->rq_error = -EFAULT;
	fake_recv(t->b, DST, 8);
	fake_send(t->a, ENGINE_WR_SEND, SRC, 8, 0);
	run(t);
	expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_REM_OP_ERR,
		  ENGINE_VERR_WQE | ENGINE_VERR_REMOTE);
	assert_int_equal(t->b->events, EVENT(QP_FATAL));
	expect_states(t, ENGINE_QPS_ERR, ENGINE_QPS_ERR);
	expect_quiet(t);

	assert_int_equal(fake_set_state(t->a, ENGINE_QPS_RESET), 0);
	assert_int_equal(fake_set_state(t->b, ENGINE_QPS_RESET), 0);
	t->b->rq_error = 0;
	fake_connect(t->a, t->b);
	t->a->sq_error = -EOVERFLOW;
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	run(t);
	expect_quiet(t);
	assert_int_equal(t->a->events, EVENT(QP_FATAL));
	expect_states(t, ENGINE_QPS_ERR, ENGINE_QPS_RTS);
	/* Ringing a dead queue does nothing. */
	engine_qp_ring(&t->a->base);
	run(t);
	expect_quiet(t);
}

/* ---- what changes while a message is under way ---- */

static void test_mr_gone_midway(void **state)
{
	struct fixture *t = *state;
	const struct engine_wc *wc;

	make_mr(&t->hca[1], 0x200, FAKE_PDN, FAKE_ALL, FAKE_IOVA, FAKE_MEM);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 6 << 20, DST)->rkey = 0x200;
	fabric_poll(&t->fabric, t->now, 2);
	assert_int_equal(engine_mr_destroy(&t->hca[1].base, 0x200), 0);
	run(t);
	wc = fake_wc(t->cq[0]);
	assert_non_null(wc);
	assert_int_equal(wc->status, ENGINE_WC_REM_ACCESS_ERR);
	assert_int_equal(t->b->events, EVENT(QP_ACCESS_ERR));
}

static void test_unmap_midway(void **state)
{
	struct fixture *t = *state;
	struct engine_recv_wr *rwr = fake_recv(t->b, DST, 8 << 20);
	const struct engine_wc *wc;

	(void)rwr;
	fake_send(t->a, ENGINE_WR_SEND, SRC, 6 << 20, 0);
	fabric_poll(&t->fabric, t->now, 2);
	assert_true(dma_map_remove_range(t->hca[1].map, FAKE_IOVA, FAKE_MEM) > 0);
	run(t);
	wc = fake_wc(t->cq[0]);
	assert_non_null(wc);
	assert_int_equal(wc->status, ENGINE_WC_REM_OP_ERR);
	assert_int_equal(t->hca[1].base.stats.translate_faults, 1);
}

static void test_peer_gone_midway(void **state)
{
	struct fixture *t = *state;

	fake_recv(t->b, DST, 8 << 20);
	fake_send(t->a, ENGINE_WR_SEND, SRC, 6 << 20, 0);
	fabric_poll(&t->fabric, t->now, 2);
	fake_qp_free(t->b);
	t->b = NULL;
	expect_retry_exceeded(t, 0, ENGINE_VERR_NO_PEER);
}

static void test_requester_gone_midway(void **state)
{
	struct fixture *t = *state;

	fake_recv(t->b, DST, 8 << 20);
	fake_send(t->a, ENGINE_WR_SEND, SRC, 6 << 20, 0);
	fabric_poll(&t->fabric, t->now, 2);
	fake_qp_free(t->a);
	t->a = NULL;
	run(t);
	expect_quiet(t);
	/* Its receive was taken, so it is flushed. */
	assert_int_equal(fake_set_state(t->b, ENGINE_QPS_ERR), 0);
	run(t);
	expect_wc(t->cq[1], t->b, 0, true, ENGINE_WC_WR_FLUSH_ERR, 0);
}

/* ---- memory regions ---- */

static void test_key_reuse(void **state)
{
	struct fixture *t = *state;
	struct engine_hca *hca = &t->hca[1].base;
	struct sgtab sg;

	make_mr(&t->hca[1], 0x300, FAKE_PDN, FAKE_ALL, FAKE_IOVA, FAKE_MEM);
	sgtab_init_one(&sg, FAKE_IOVA, FAKE_MEM);
	assert_int_equal(engine_mr_create(hca, 0x301, FAKE_PDN, FAKE_ALL, FAKE_IOVA, &sg, 0),
			 -EEXIST);
	assert_int_equal(engine_mr_destroy(hca, 0x301), -ENOENT);
	assert_int_equal(engine_mr_destroy(hca, 0x300), 0);
	assert_int_equal(engine_mr_destroy(hca, 0x300), -ENOENT);
	make_mr(&t->hca[1], 0x301, FAKE_PDN, FAKE_ALL, FAKE_IOVA, FAKE_MEM);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST)->rkey = 0x301;
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST)->rkey = 0x300;
	run(t);
	expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	expect_wc(t->cq[0], t->a, 1, false, ENGINE_WC_REM_ACCESS_ERR,
		  ENGINE_VERR_KEY | ENGINE_VERR_REMOTE);
}

static void test_mr_checks(void **state)
{
	struct fixture *t = *state;
	struct engine_hca *hca = &t->hca[0].base;
	struct sgtab sg;

	sgtab_init_one(&sg, FAKE_IOVA, 4096);
	assert_int_equal(engine_mr_create(hca, 0xff, 1, 0, 0, &sg, 0), -EINVAL);
	assert_int_equal(engine_mr_create(hca, 0xffffffff, 1, 0, 0, &sg, 0), -EINVAL);
	assert_int_equal(engine_mr_create(hca, 0x500, 0, 0, 0, &sg, 0), -EINVAL);
	assert_int_equal(engine_mr_create(hca, 0x500, ENGINE_MAX_PDS, 0, 0, &sg, 0), -EINVAL);
	assert_int_equal(engine_mr_create(hca, 0x500, 1, 0x10, 0, &sg, 0), -EINVAL);
	assert_int_equal(engine_mr_create(hca, 0x500, 1, ENGINE_ACCESS_REMOTE_WRITE, 0, &sg, 0),
			 -EINVAL);
	assert_int_equal(engine_mr_create(hca, 0x500, 1, 0, UINT64_MAX - 4094, &sg, 0), -EINVAL);
	assert_int_equal(engine_mr_create(hca, 0x500, 1, 0, UINT64_MAX - 4095, &sg, 0), 0);
}

/* 65,536 pages in reverse order, so that no two can be merged, from an unaligned start. */
static void test_mr_many_segments(void **state)
{
	const uint32_t n = 65536;
	const uint64_t size = (uint64_t)n << 12;
	struct fixture *t = *state;
	struct fake_hca *big = calloc(1, sizeof(*big));
	struct fake_cq *cq;
	struct fake_qp *c, *d;
	struct sgtab sg;
	uint64_t off;
	uint32_t i;

	fake_hca_init(big, &t->fabric, 9, size);
	cq = fake_cq_new(big, 1);
	c = fake_qp_new(big, 2, cq);
	d = fake_qp_new(big, 3, cq);
	fake_connect(c, d);

	assert_int_equal(sgtab_init(&sg, n), 0);
	assert_int_equal(engine_charge(&big->base, sgtab_mem(n)), 0);
	for (i = 0; i < n; i++)
		assert_int_equal(sgtab_add(&sg, FAKE_IOVA + size - ((i + 1ull) << 12) + (i ? 0 : 100),
					   i ? 4096 : 3996), 0);
	assert_int_equal(sgtab_add(&sg, 0, 1), -ENOSPC);
	sgtab_trim(&sg);
	assert_int_equal(engine_mr_create(&big->base, 0x200, FAKE_PDN, FAKE_ALL, 0x7000000064, &sg,
					  sgtab_mem(n)), 0);

	/* 3 MiB from an odd place, to the region and back */
	fill(fake_ptr(big, FAKE_IOVA + 1), 3 << 20, 6);
	off = 0x1234567;
	fake_send(c, ENGINE_WR_RDMA_WRITE, FAKE_IOVA + 1, 3 << 20, 0x7000000064 + off)->rkey = 0x200;
	fake_send(c, ENGINE_WR_RDMA_READ, FAKE_IOVA + (8 << 20), 3 << 20, 0x7000000064 + off)->rkey =
		0x200;
	run(t);
	expect_wc(cq, c, 0, false, ENGINE_WC_SUCCESS, 0);
	assert_int_equal(fake_wc(cq)->status, ENGINE_WC_SUCCESS);
	for (i = 0; i < 3 << 20; i++) {
		uint64_t pos = off + i + 100;		/* in pages */
		uint64_t at = size - ((pos / 4096 + 1) << 12) + pos % 4096;

		assert_int_equal(big->mem[at], big->mem[1 + i]);
	}
	assert_memory_equal(big->mem + 1, big->mem + (8 << 20), 3 << 20);

	/* the last byte, and one more */
	fake_send(c, ENGINE_WR_RDMA_WRITE, FAKE_IOVA, 1, 0x7000000064 + size - 101)->rkey = 0x200;
	fake_send(c, ENGINE_WR_RDMA_WRITE, FAKE_IOVA, 1, 0x7000000064 + size - 100)->rkey = 0x200;
	run(t);
	expect_wc(cq, c, 2, false, ENGINE_WC_SUCCESS, 0);
	expect_wc(cq, c, 3, false, ENGINE_WC_REM_ACCESS_ERR,
		  ENGINE_VERR_RANGE | ENGINE_VERR_REMOTE);
	fake_qp_free(c);
	fake_qp_free(d);
	fake_cq_free(cq);
	fake_hca_fini(big, size);
	free(big);
}

static void test_mr_one_gib(void **state)
{
	struct fixture *t = *state;
	struct fake_hca *big = calloc(1, sizeof(*big));
	const uint64_t size = 1ull << 30;
	struct fake_cq *cq;
	struct fake_qp *c, *d;

	fake_hca_init(big, &t->fabric, 9, size);
	cq = fake_cq_new(big, 1);
	c = fake_qp_new(big, 2, cq);
	d = fake_qp_new(big, 3, cq);
	fake_connect(c, d);
	fill(big->mem, 4096, 1);
	fake_send(c, ENGINE_WR_RDMA_WRITE, FAKE_IOVA, 4096, FAKE_IOVA + size - 4096);
	run(t);
	expect_wc(cq, c, 0, false, ENGINE_WC_SUCCESS, 0);
	assert_memory_equal(big->mem, big->mem + size - 4096, 4096);
	fake_qp_free(c);
	fake_qp_free(d);
	fake_cq_free(cq);
	fake_hca_fini(big, size);
	free(big);
}

static void test_sgtab(void **state)
{
	struct sgtab sg;
	uint64_t addr, n, off = 0, start[500], len[500];
	uint32_t i, seg, seed = 1;

	(void)state;
	assert_int_equal(sgtab_init(&sg, 500), 0);
	assert_int_equal(sgtab_add(&sg, 5, 0), -EINVAL);
	assert_int_equal(sgtab_add(&sg, UINT64_MAX, 2), -EINVAL);
	for (i = 0; i < 500; i++) {
		seed = seed * 1664525 + 1013904223;
		start[i] = off;
		len[i] = (seed >> 20) + 1;
		if (i == 250)
			len[i] = 1 << 30;
		assert_int_equal(sgtab_add(&sg, (uint64_t)(500 - i) << 40, len[i]), 0);
		off += len[i];
	}
	assert_int_equal(sg.length, off);
	for (i = 0; i < 500; i++) {
		for (seg = 0; seg < 600; seg += 149) {
			uint32_t hint = seg;

			n = sgtab_at(&sg, &hint, start[i], &addr);
			assert_int_equal(n, len[i]);
			assert_int_equal(addr, (uint64_t)(500 - i) << 40);
			assert_int_equal(hint, i);
			hint = seg;
			n = sgtab_at(&sg, &hint, start[i] + len[i] - 1, &addr);
			assert_int_equal(n, 1);
		}
	}
	sgtab_destroy(&sg);

	/* Runs that continue each other are one. */
	assert_int_equal(sgtab_init(&sg, 3), 0);
	for (i = 0; i < 100; i++)
		assert_int_equal(sgtab_add(&sg, i * 4096, 4096), 0);
	sgtab_trim(&sg);
	assert_int_equal(sg.nsegs, 1);
	assert_null(sg.start);
	seg = 7;
	assert_int_equal(sgtab_at(&sg, &seg, 4095, &addr), 99 * 4096 + 1);
	sgtab_destroy(&sg);
}

static void test_idtab(void **state)
{
	struct idtab tab;
	uint32_t id;
	int x, y;

	(void)state;
	assert_int_equal(idtab_init(&tab, 4096), 0);
	assert_int_equal(idtab_insert(&tab, 4096, &x), -EINVAL);
	assert_int_equal(idtab_insert(&tab, 4095, &x), 0);
	assert_int_equal(idtab_insert(&tab, 4095, &x), -EEXIST);
	assert_int_equal(idtab_insert(&tab, 3, &y), 0);
	assert_ptr_equal(idtab_get(&tab, 4095), &x);
	assert_null(idtab_get(&tab, 4));
	assert_null(idtab_get(&tab, 5000));
	id = 0;
	assert_ptr_equal(idtab_next(&tab, &id), &y);
	assert_int_equal(id, 3);
	id++;
	assert_ptr_equal(idtab_next(&tab, &id), &x);
	assert_int_equal(id, 4095);
	id++;
	assert_null(idtab_next(&tab, &id));
	idtab_remove(&tab, 3);
	idtab_remove(&tab, 3);
	assert_int_equal(tab.count, 1);
	assert_null(tab.leaves[0]);
	idtab_destroy(&tab);
}

static void test_memory_limit(void **state)
{
	struct fixture *t = *state;
	struct engine_hca *hca = &t->hca[0].base;
	uint64_t before = hca->mem;

	assert_int_equal(engine_charge(hca, ENGINE_MEM_LIMIT - before), 0);
	assert_int_equal(engine_charge(hca, 1), -ENOMEM);
	assert_null(engine_alloc(hca, 1));
	engine_uncharge(hca, ENGINE_MEM_LIMIT - before);
	assert_int_equal(engine_charge(hca, UINT64_MAX), -ENOMEM);
	assert_int_equal(hca->mem, before);
}

/* ---- many ---- */

static void test_fairness(void **state)
{
	struct fixture *t = *state;
	struct fake_qp *c = fake_qp_new(&t->hca[0], 100, t->cq[0]);
	struct fake_qp *d = fake_qp_new(&t->hca[1], 101, t->cq[1]);
	unsigned int turns = 0;

	fake_connect(c, d);
	run(t);
	/* 12 MiB behind one doorbell, then a small one on another QP */
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 6 << 20, DST);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 6 << 20, DST);
	fake_send(c, ENGINE_WR_RDMA_WRITE, SRC, 64, DST);
	while (!t->cq[0]->num) {
		turns += fabric_poll(&t->fabric, t->now, 1);
		assert_true(turns <= 2);
	}
	expect_wc(t->cq[0], c, 0, false, ENGINE_WC_SUCCESS, 0);
	run(t);
	expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	expect_wc(t->cq[0], t->a, 1, false, ENGINE_WC_SUCCESS, 0);
	fake_qp_free(c);
	fake_qp_free(d);
}

static void test_idle_qps_cost_nothing(void **state)
{
	const unsigned int n = 4000;
	struct fixture *t = *state;
	struct fake_qp **qp = calloc(n, sizeof(*qp));
	struct engine_qp_attr attr;
	unsigned int i;

	for (i = 0; i < n; i++)
		qp[i] = fake_qp_new(&t->hca[i & 1], 1000 + i / 2, t->cq[i & 1]);
	for (i = 0; i < n; i += 2)
		fake_connect(qp[i], qp[i + 1]);
	assert_int_equal(fake_run(&t->fabric, t->now), n + 2);	/* each looks once after RTS */
	for (i = 0; i < n; i++)
		qp[i]->fetches = 0;

	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 64, DST);
	assert_int_equal(fake_run(&t->fabric, t->now), 1);
	expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	for (i = 0; i < n; i++)
		assert_int_equal(qp[i]->fetches, 0);

	/* All wait for timers of different length, and each gets its turn in order. */
	for (i = 0; i < n; i += 2) {
		attr = qp[i + 1]->base.attr;
		attr.min_rnr_timer = 1 + i * 7 % 31;
		assert_int_equal(engine_qp_modify(&qp[i + 1]->base, &attr, ENGINE_QP_MIN_RNR_TIMER),
				 0);
		fake_send(qp[i], ENGINE_WR_SEND, SRC, 8, 0);
	}
	run(t);
	assert_int_equal(t->fabric.heap_len, n / 2);
	for (i = 0; i < n; i += 2)
		fake_recv(qp[i + 1], DST, 8);
	while (t->fabric.heap_len) {
		uint64_t next = fabric_next_timer(&t->fabric);

		assert_true(next >= t->now);
		t->now = next;
		run(t);
		while (fake_wc(t->cq[0]))
			;
		while (fake_wc(t->cq[1]))
			;
	}
	assert_int_equal(t->hca[1].base.stats.rx_msgs, n / 2);

	/* Removal from the middle of the heap. */
	for (i = 0; i < n; i += 2)
		fake_send(qp[i], ENGINE_WR_SEND, SRC, 8, 0);
	run(t);
	for (i = 0; i < n; i++)
		fake_qp_free(qp[(uint64_t)i * 1237 % n]);
	assert_int_equal(t->fabric.heap_len, 0);
	free(qp);
}

static void test_two_requesters_one_responder(void **state)
{
	struct fixture *t = *state;
	struct fake_qp *c = fake_qp_new(&t->hca[0], 100, t->cq[0]);
	struct engine_qp_attr attr = fake_attr(c, t->b);
	const struct engine_wc *wc;

	/* Says it is connected to b, but b is connected to a. */
	fake_to_init(c, &attr);
	fake_to_rtr(c, &attr);
	attr.retry_cnt = 0;
	fake_to_rts(c, &attr);
	fake_send(c, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	run(t);
	t->now += 4096ull << 10;
	run(t);
	wc = fake_wc(t->cq[0]);
	assert_non_null(wc);
	assert_int_equal(wc->status, ENGINE_WC_RETRY_EXC_ERR);
	assert_int_equal(wc->vendor_err, ENGINE_VERR_PEER_OTHER);
	expect_states(t, ENGINE_QPS_RTS, ENGINE_QPS_RTS);
	fake_qp_free(c);
}

int main(void)
{
#define T(name)	cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_write),
		T(test_read),
		T(test_send_scatter_gather),
		T(test_write_imm),
		T(test_inline),
		T(test_atomics),
		T(test_unsignaled_and_order),
		T(test_loopback),
		T(test_comm_est),
		cmocka_unit_test(test_local_errors),
		cmocka_unit_test(test_remote_errors),
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
		T(test_key_reuse),
		T(test_mr_checks),
		T(test_mr_many_segments),
		T(test_mr_one_gib),
		cmocka_unit_test(test_sgtab),
		cmocka_unit_test(test_idtab),
		T(test_memory_limit),
		T(test_fairness),
		T(test_idle_qps_cost_nothing),
		T(test_two_requesters_one_responder),
	};

	return cmocka_run_group_tests_name("engine", tests, NULL, NULL);
}
