// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* The engine's messages: what arrives, and the status of what does not. */
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
#define NOWHERE		0xdead0000ull	/* a DMA address behind which there is nothing */

/* ---- what works ---- */

static void test_write(void **state)
{
	struct fake_pair *t = *state;
	const uint32_t sizes[] = { 0, 1, 63, 4096, 65536, 1 << 20, (1 << 20) + 1, 3 << 20 };
	uint8_t *src = fake_ptr(&t->hca[0], SRC), *dst = fake_ptr(&t->hca[1], DST);
	unsigned int i;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		fake_fill(src, sizes[i], i);
		memset(dst - 1, 0xee, sizes[i] + 2);
		fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, sizes[i], DST);
		fake_run_all(t);
		fake_expect_wc(t->cq[0], t->a, i, false, ENGINE_WC_SUCCESS, 0);
		fake_expect_quiet(t);
		assert_memory_equal(src, dst, sizes[i]);
		assert_int_equal(dst[-1], 0xee);
		assert_int_equal(dst[sizes[i]], 0xee);
	}
	assert_int_equal(t->hca[0].base.stats.tx_wrs, i);
	assert_int_equal(t->hca[1].base.stats.tx_wrs, 0);
}

static void test_read(void **state)
{
	struct fake_pair *t = *state;
	uint8_t *local = fake_ptr(&t->hca[0], SRC), *remote = fake_ptr(&t->hca[1], DST);
	const struct engine_wc *wc;

	fake_fill(remote, 2 << 20, 4);
	fake_send(t->a, ENGINE_WR_RDMA_READ, SRC, 2 << 20, DST);
	fake_run_all(t);
	wc = fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	assert_int_equal(wc->byte_len, 2 << 20);
	assert_memory_equal(local, remote, 2 << 20);
	fake_expect_quiet(t);
}

static void test_send_scatter_gather(void **state)
{
	struct fake_pair *t = *state;
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
	fake_fill(expect, sizeof(expect), 77);
	for (i = 0; i < 7; i++) {
		wr->sge[2 * i] = (struct engine_sge) { SRC + i * 1000, 100, FAKE_KEY };
		wr->sge[2 * i + 1] = (struct engine_sge) { 1, 0, 0xbad };
		memcpy(fake_ptr(&t->hca[0], SRC + i * 1000), expect + i * 100, 100);
	}
	rwr = fake_recv(t->b, DST, 13);
	rwr->num_sge = 16;
	for (i = 0; i < 16; i++)
		rwr->sge[i] = (struct engine_sge) { DST + i * 500, 57, FAKE_KEY };
	fake_run_all(t);

	wc = fake_wc(t->cq[1]);
	assert_non_null(wc);
	assert_int_equal(wc->status, ENGINE_WC_SUCCESS);
	assert_int_equal(wc->byte_len, 700);
	assert_int_equal(wc->imm_data, 0x01020304);
	assert_true(wc->with_imm && wc->recv && wc->solicited);
	assert_int_equal(wc->opcode, ENGINE_WR_SEND_WITH_IMM);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	for (i = 0; i < 700; i++) {
		mem = fake_ptr(&t->hca[1], DST + i / 57 * 500 + i % 57);
		assert_int_equal(*mem, expect[i]);
	}
	assert_int_equal(t->hca[1].base.stats.rx_msgs, 1);
	assert_int_equal(t->hca[1].base.stats.rx_bytes, 700);
}

static void test_write_imm(void **state)
{
	struct fake_pair *t = *state;
	const struct engine_wc *wc;
	struct engine_send_wr *wr;

	fake_fill(fake_ptr(&t->hca[0], SRC), 5000, 3);
	/* The receive's own buffer is not looked at. */
	fake_recv(t->b, 1, 1)->sge[0].key = 0xbad;
	fake_recv(t->b, 1, 1)->sge[0].key = 0xbad;
	wr = fake_send(t->a, ENGINE_WR_RDMA_WRITE_WITH_IMM, SRC, 5000, DST);
	wr->imm_data = 42;
	/* Nothing to write: the key does not matter. */
	fake_send(t->a, ENGINE_WR_RDMA_WRITE_WITH_IMM, SRC, 0, 0)->rkey = 0xbad;
	fake_run_all(t);
	wc = fake_expect_wc(t->cq[1], t->b, 0, true, ENGINE_WC_SUCCESS, 0);
	assert_int_equal(wc->byte_len, 5000);
	assert_int_equal(wc->imm_data, 42);
	assert_true(wc->with_imm);
	assert_memory_equal(fake_ptr(&t->hca[0], SRC), fake_ptr(&t->hca[1], DST), 5000);
	fake_expect_wc(t->cq[1], t->b, 1, true, ENGINE_WC_SUCCESS, 0);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	fake_expect_wc(t->cq[0], t->a, 1, false, ENGINE_WC_SUCCESS, 0);
}

static void test_inline(void **state)
{
	struct fake_pair *t = *state;
	struct engine_send_wr *wr;

	wr = fake_send(t->a, ENGINE_WR_RDMA_WRITE, 0, 0, DST);
	wr->flags |= ENGINE_WR_INLINE;
	wr->num_sge = 0;
	wr->length = ENGINE_MAX_INLINE;
	fake_fill(wr->inline_data, wr->length, 8);
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	assert_memory_equal(wr->inline_data, fake_ptr(&t->hca[1], DST), ENGINE_MAX_INLINE);
}

static void test_atomics(void **state)
{
	struct fake_pair *t = *state;
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
	fake_run_all(t);
	wc = fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	assert_int_equal(wc->byte_len, 8);
	fake_expect_wc(t->cq[0], t->a, 1, false, ENGINE_WC_SUCCESS, 0);
	fake_expect_wc(t->cq[0], t->a, 2, false, ENGINE_WC_SUCCESS, 0);
	assert_int_equal(local[0], 100);
	assert_int_equal(local[1], 99);
	assert_int_equal(local[2], 7);
	assert_int_equal(*remote, 7);
}

static void test_unsignaled_and_order(void **state)
{
	struct fake_pair *t = *state;
	uint32_t i;

	for (i = 0; i < 200; i++)
		fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST)->flags =
			i % 10 == 9 ? ENGINE_WR_SIGNALED : 0;
	fake_run_all(t);
	for (i = 9; i < 200; i += 10)
		fake_expect_wc(t->cq[0], t->a, i, false, ENGINE_WC_SUCCESS, 0);
	fake_expect_quiet(t);
	assert_int_equal(t->hca[0].base.stats.tx_wrs, 200);
}

static void test_loopback(void **state)
{
	struct fake_pair *t = *state;
	struct fake_qp *c = fake_qp_new(&t->hca[0], 100, t->cq[0]);
	struct fake_qp *d = fake_qp_new(&t->hca[0], 101, t->cq[0]);
	struct fake_qp *self = fake_qp_new(&t->hca[0], 102, t->cq[0]);

	fake_connect(c, d);
	fake_connect(self, self);
	fake_fill(fake_ptr(&t->hca[0], SRC), 4096, 5);
	fake_send(c, ENGINE_WR_RDMA_WRITE, SRC, 4096, DST);
	fake_run_all(t);
	fake_expect_wc(t->cq[0], c, 0, false, ENGINE_WC_SUCCESS, 0);
	assert_memory_equal(fake_ptr(&t->hca[0], SRC), fake_ptr(&t->hca[0], DST), 4096);

	/* A QP may be its own peer, and source and destination may overlap. */
	fake_recv(self, SRC + 10, 4096);
	fake_send(self, ENGINE_WR_SEND, SRC, 4096, 0);
	fake_run_all(t);
	fake_expect_wc(t->cq[0], self, 0, true, ENGINE_WC_SUCCESS, 0);
	fake_expect_wc(t->cq[0], self, 0, false, ENGINE_WC_SUCCESS, 0);
	fake_send(self, ENGINE_WR_RDMA_WRITE, SRC, 4096, DST)->rkey = 0xbad;
	fake_run_all(t);
	fake_expect_wc(t->cq[0], self, 1, false, ENGINE_WC_REM_ACCESS_ERR,
		       ENGINE_VERR_KEY | ENGINE_VERR_REMOTE);
	assert_int_equal(self->base.attr.state, ENGINE_QPS_ERR);

	fake_qp_free(c);
	fake_qp_free(d);
	fake_qp_free(self);
}

static void test_comm_est(void **state)
{
	struct fake_pair *t = *state;
	struct engine_qp_attr attr = fake_attr(t->b, t->a);

	assert_int_equal(fake_set_state(t->b, ENGINE_QPS_RESET), 0);
	fake_to_init(t->b, &attr);
	fake_to_rtr(t->b, &attr);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 1, DST);
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	assert_int_equal(t->b->events, EVENT(COMM_EST));
	t->b->events = 0;
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 1, DST);
	fake_run_all(t);
	assert_int_equal(t->b->events, 0);
	fake_to_rts(t->b, &attr);
}

/* ---- local errors ---- */

struct local_case {
	const char *name;
	void (*change)(struct fake_pair *t, struct engine_send_wr *wr);
	enum engine_opcode opcode;
	enum engine_wc_status status;
	uint32_t verr;
};

static void local_bad_key(struct fake_pair *t, struct engine_send_wr *wr)
{
	wr->sge[0].key = FAKE_KEY + 1;	/* right index, wrong variant */
}

static void local_no_key(struct fake_pair *t, struct engine_send_wr *wr)
{
	wr->sge[0].key = 0xffffffff;
}

/* Another MR as the local one */
static void local_mr(struct fake_pair *t, struct engine_send_wr *wr, uint32_t pdn, uint32_t access,
		     uint64_t addr)
{
	fake_make_mr(&t->hca[0], OTHER_KEY, pdn, access, addr, FAKE_MEM);
	wr->sge[0].key = OTHER_KEY;
}

static void local_pd(struct fake_pair *t, struct engine_send_wr *wr)
{
	local_mr(t, wr, FAKE_PDN + 1, FAKE_ALL, FAKE_IOVA);
}

static void local_read_only(struct fake_pair *t, struct engine_send_wr *wr)
{
	local_mr(t, wr, FAKE_PDN, ENGINE_ACCESS_REMOTE_READ, FAKE_IOVA);
}

static void local_range_low(struct fake_pair *t, struct engine_send_wr *wr)
{
	wr->sge[0].addr = FAKE_IOVA - 1;
}

static void local_range_high(struct fake_pair *t, struct engine_send_wr *wr)
{
	wr->sge[0].addr = FAKE_IOVA + FAKE_MEM - wr->sge[0].length + 1;
}

static void local_range_wrap(struct fake_pair *t, struct engine_send_wr *wr)
{
	wr->sge[0].addr = UINT64_MAX - 2;
}

static void local_dma(struct fake_pair *t, struct engine_send_wr *wr)
{
	local_mr(t, wr, FAKE_PDN, FAKE_ALL, NOWHERE);
}

static void local_too_long(struct fake_pair *t, struct engine_send_wr *wr)
{
	wr->num_sge = 2;
	wr->sge[0].length = ENGINE_MAX_MSG;
	wr->sge[1].length = 1;
}

static void local_atomic_len(struct fake_pair *t, struct engine_send_wr *wr)
{
	wr->sge[0].length = 4;
}

static void local_no_reads(struct fake_pair *t, struct engine_send_wr *wr)
{
	t->a->base.attr.max_rd_atomic = 0;
}

static void local_opcode(struct fake_pair *t, struct engine_send_wr *wr)
{
	wr->opcode = 7;
}

static void local_inline_read(struct fake_pair *t, struct engine_send_wr *wr)
{
	wr->flags |= ENGINE_WR_INLINE;
}

static void local_malformed(struct fake_pair *t, struct engine_send_wr *wr)
{
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

	for (i = 0; i < sizeof(local_cases) / sizeof(local_cases[0]); i++) {
		const struct local_case *c = &local_cases[i];
		struct engine_send_wr *wr;
		struct fake_pair *t;
		void *s;

		print_message("  %s\n", c->name);
		fake_setup(&s);
		t = s;
		fake_recv(t->b, DST, 4096);
		/* Unsignaled: errors complete nevertheless. */
		wr = fake_send(t->a, c->opcode, ALIGNED, 8, ALIGNED);
		wr->flags = 0;
		c->change(t, wr);
		fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
		fake_run_all(t);
		fake_expect_wc(t->cq[0], t->a, 0, false, c->status, c->verr);
		fake_expect_wc(t->cq[0], t->a, 1, false, ENGINE_WC_WR_FLUSH_ERR, 0);
		fake_expect_quiet(t);
		fake_expect_states(t, ENGINE_QPS_ERR, ENGINE_QPS_RTS);
		assert_int_equal(t->a->events | t->b->events, 0);
		fake_teardown(&s);
	}
}

/* ---- remote errors ---- */

struct remote_case {
	const char *name;
	void (*change)(struct fake_pair *t, struct engine_send_wr *wr);
	enum engine_opcode opcode;
	enum engine_wc_status status;
	enum engine_wc_status recv_status;	/* SUCCESS: the receive is flushed */
	uint32_t verr;
	uint32_t event;
};

static void remote_bad_key(struct fake_pair *t, struct engine_send_wr *wr)
{
	wr->rkey ^= 1;
}

/* Another MR as the remote one */
static void remote_mr(struct fake_pair *t, struct engine_send_wr *wr, uint32_t pdn, uint32_t access,
		      uint64_t addr)
{
	fake_make_mr(&t->hca[1], OTHER_KEY, pdn, access, addr, FAKE_MEM);
	wr->rkey = OTHER_KEY;
}

static void remote_pd(struct fake_pair *t, struct engine_send_wr *wr)
{
	remote_mr(t, wr, FAKE_PDN + 1, FAKE_ALL, FAKE_IOVA);
}

static void remote_no_write(struct fake_pair *t, struct engine_send_wr *wr)
{
	remote_mr(t, wr, FAKE_PDN, FAKE_ALL & ~ENGINE_ACCESS_REMOTE_WRITE, FAKE_IOVA);
}

static void remote_no_read(struct fake_pair *t, struct engine_send_wr *wr)
{
	remote_mr(t, wr, FAKE_PDN, FAKE_ALL & ~ENGINE_ACCESS_REMOTE_READ, FAKE_IOVA);
}

static void remote_no_atomic(struct fake_pair *t, struct engine_send_wr *wr)
{
	remote_mr(t, wr, FAKE_PDN, FAKE_ALL & ~ENGINE_ACCESS_REMOTE_ATOMIC, FAKE_IOVA);
}

static void remote_range(struct fake_pair *t, struct engine_send_wr *wr)
{
	wr->remote_addr = FAKE_IOVA + FAKE_MEM - 7;
}

static void remote_dma(struct fake_pair *t, struct engine_send_wr *wr)
{
	remote_mr(t, wr, FAKE_PDN, FAKE_ALL, NOWHERE);
	t->b->rq[0].sge[0].key = OTHER_KEY;
}

static void remote_qp_access(struct fake_pair *t, struct engine_send_wr *wr)
{
	t->b->base.attr.access = 0;
}

static void remote_no_reads(struct fake_pair *t, struct engine_send_wr *wr)
{
	t->b->base.attr.max_dest_rd_atomic = 0;
}

static void remote_align(struct fake_pair *t, struct engine_send_wr *wr)
{
	wr->remote_addr += 4;
}

static void remote_align_host(struct fake_pair *t, struct engine_send_wr *wr)
{
	/* aligned as an address, not in memory */
	fake_make_mr(&t->hca[1], OTHER_KEY, FAKE_PDN, FAKE_ALL, FAKE_IOVA + 4, 64);
	wr->rkey = OTHER_KEY;
	wr->remote_addr = FAKE_IOVA;
}

static void recv_short(struct fake_pair *t, struct engine_send_wr *wr)
{
	t->b->rq[0].sge[0].length = 7;
}

static void recv_key(struct fake_pair *t, struct engine_send_wr *wr)
{
	t->b->rq[0].sge[0].key = 0xbad;
}

static void recv_read_only(struct fake_pair *t, struct engine_send_wr *wr)
{
	remote_mr(t, wr, FAKE_PDN, 0, FAKE_IOVA);
	t->b->rq[0].sge[0].key = OTHER_KEY;
}

static void recv_malformed(struct fake_pair *t, struct engine_send_wr *wr)
{
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

	for (i = 0; i < sizeof(remote_cases) / sizeof(remote_cases[0]); i++) {
		const struct remote_case *c = &remote_cases[i];
		struct engine_send_wr *wr;
		struct fake_pair *t;
		void *s;

		print_message("  %s\n", c->name);
		fake_setup(&s);
		t = s;
		fake_recv(t->b, ALIGNED, 4096);
		fake_recv(t->b, ALIGNED, 4096);
		memset(fake_ptr(&t->hca[1], ALIGNED), 0x55, 16);
		wr = fake_send(t->a, c->opcode, ALIGNED, 8, ALIGNED);
		c->change(t, wr);
		fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
		fake_run_all(t);
		fake_expect_wc(t->cq[0], t->a, 0, false, c->status, c->verr | ENGINE_VERR_REMOTE);
		fake_expect_wc(t->cq[0], t->a, 1, false, ENGINE_WC_WR_FLUSH_ERR, 0);
		if (c->recv_status)
			fake_expect_wc(t->cq[1], t->b, 0, true, c->recv_status,
				       c->verr | ENGINE_VERR_RECV);
		else
			fake_expect_wc(t->cq[1], t->b, 0, true, ENGINE_WC_WR_FLUSH_ERR, 0);
		fake_expect_wc(t->cq[1], t->b, 1, true, ENGINE_WC_WR_FLUSH_ERR, 0);
		fake_expect_quiet(t);
		fake_expect_states(t, ENGINE_QPS_ERR, ENGINE_QPS_ERR);
		assert_int_equal(t->b->events, c->event);
		assert_int_equal(t->a->events, 0);
		assert_int_equal(*fake_ptr(&t->hca[1], ALIGNED + 8), 0x55);
		fake_teardown(&s);
	}
}

/* ---- eight bytes at once, and flushes ---- */

static void expect_last(struct fake_pair *t, enum engine_wc_status status, uint32_t verr)
{
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, t->a->sq_pi - 1, false, status, verr);
	fake_expect_quiet(t);
	if (status != ENGINE_WC_SUCCESS)
		fake_reconnect(t);
}

static void test_atomic_write(void **state)
{
	struct fake_pair *t = *state;
	uint8_t *src = fake_ptr(&t->hca[0], SRC), *dst = fake_ptr(&t->hca[1], ALIGNED);
	struct engine_send_wr *wr;

	fake_fill(src, 16, 1);
	memset(dst - 8, 0xee, 24);
	fake_send(t->a, ENGINE_WR_ATOMIC_WRITE, SRC, 8, ALIGNED);
	expect_last(t, ENGINE_WC_SUCCESS, 0);
	assert_memory_equal(src, dst, 8);
	assert_int_equal(dst[-1], 0xee);
	assert_int_equal(dst[8], 0xee);
	/* in parts, and inline */
	wr = fake_send(t->a, ENGINE_WR_ATOMIC_WRITE, SRC + 3, 5, ALIGNED);
	wr->num_sge = 2;
	wr->sge[1] = (struct engine_sge) { SRC, 3, FAKE_KEY };
	expect_last(t, ENGINE_WC_SUCCESS, 0);
	assert_memory_equal(src + 3, dst, 5);
	assert_memory_equal(src, dst + 5, 3);
	wr = fake_send(t->a, ENGINE_WR_ATOMIC_WRITE, 0, 0, ALIGNED);
	wr->flags |= ENGINE_WR_INLINE;
	wr->length = 8;
	memcpy(wr->inline_data, "whatever", 8);
	expect_last(t, ENGINE_WC_SUCCESS, 0);
	assert_memory_equal("whatever", dst, 8);

	fake_send(t->a, ENGINE_WR_ATOMIC_WRITE, SRC, 7, ALIGNED);
	expect_last(t, ENGINE_WC_LOC_LEN_ERR, ENGINE_VERR_ATOMIC_LENGTH);
	fake_send(t->a, ENGINE_WR_ATOMIC_WRITE, SRC, 8, ALIGNED + 4);
	expect_last(t, ENGINE_WC_REM_INV_REQ_ERR, ENGINE_VERR_ALIGN | ENGINE_VERR_REMOTE);
	fake_make_mr(&t->hca[1], OTHER_KEY, FAKE_PDN, FAKE_ALL & ~ENGINE_ACCESS_REMOTE_WRITE,
		     FAKE_IOVA, FAKE_MEM);
	fake_send(t->a, ENGINE_WR_ATOMIC_WRITE, SRC, 8, ALIGNED)->rkey = OTHER_KEY;
	expect_last(t, ENGINE_WC_REM_ACCESS_ERR, ENGINE_VERR_ACCESS | ENGINE_VERR_REMOTE);
	assert_memory_equal("whatever", dst, 8);
}

static struct engine_send_wr *flush(struct fake_pair *t, uint64_t addr, uint64_t length,
				    uint32_t access)
{
	struct engine_send_wr *wr = fake_send(t->a, ENGINE_WR_FLUSH, 0, 0, addr);

	wr->num_sge = 0;
	wr->mem = (struct engine_key_mem) { .length = length, .access = access };
	return wr;
}

static void test_flush_memory(void **state)
{
	struct fake_pair *t = *state;

	flush(t, FAKE_IOVA, FAKE_MEM, ENGINE_ACCESS_FLUSH_GLOBAL);
	expect_last(t, ENGINE_WC_SUCCESS, 0);
	flush(t, FAKE_IOVA + FAKE_MEM, 0, ENGINE_ACCESS_FLUSH_GLOBAL);
	expect_last(t, ENGINE_WC_SUCCESS, 0);
	flush(t, 0, 0, ENGINE_ACCESS_FLUSH_GLOBAL)->flags |= ENGINE_WR_FLUSH_MR;
	expect_last(t, ENGINE_WC_SUCCESS, 0);

	flush(t, 0, 0, ENGINE_ACCESS_FLUSH_GLOBAL);
	expect_last(t, ENGINE_WC_REM_ACCESS_ERR, ENGINE_VERR_RANGE | ENGINE_VERR_REMOTE);
	flush(t, FAKE_IOVA, FAKE_MEM + 1, ENGINE_ACCESS_FLUSH_GLOBAL);
	expect_last(t, ENGINE_WC_REM_ACCESS_ERR, ENGINE_VERR_RANGE | ENGINE_VERR_REMOTE);
	/* Nothing is persistent. */
	flush(t, FAKE_IOVA, 8, ENGINE_ACCESS_FLUSH_PERSISTENT);
	expect_last(t, ENGINE_WC_REM_ACCESS_ERR, ENGINE_VERR_ACCESS | ENGINE_VERR_REMOTE);
	fake_make_mr(&t->hca[1], OTHER_KEY, FAKE_PDN, FAKE_ALL & ~ENGINE_ACCESS_FLUSH_GLOBAL,
		     FAKE_IOVA, FAKE_MEM);
	flush(t, FAKE_IOVA, 8, ENGINE_ACCESS_FLUSH_GLOBAL)->rkey = OTHER_KEY;
	expect_last(t, ENGINE_WC_REM_ACCESS_ERR, ENGINE_VERR_ACCESS | ENGINE_VERR_REMOTE);
	assert_int_equal(engine_mr_fence(&t->hca[1].base, OTHER_KEY), 0);
	flush(t, FAKE_IOVA, 8, ENGINE_ACCESS_FLUSH_GLOBAL)->rkey = OTHER_KEY;
	expect_last(t, ENGINE_WC_REM_ACCESS_ERR, ENGINE_VERR_FENCED | ENGINE_VERR_REMOTE);
	t->b->base.attr.access &= ~ENGINE_ACCESS_FLUSH_GLOBAL;
	flush(t, FAKE_IOVA, 8, ENGINE_ACCESS_FLUSH_GLOBAL);
	expect_last(t, ENGINE_WC_REM_INV_REQ_ERR, ENGINE_VERR_QP_ACCESS | ENGINE_VERR_REMOTE);

	/* what is none */
	flush(t, FAKE_IOVA, 8, 0);
	expect_last(t, ENGINE_WC_LOC_QP_OP_ERR, ENGINE_VERR_WQE);
	flush(t, FAKE_IOVA, 8, ENGINE_ACCESS_REMOTE_READ);
	expect_last(t, ENGINE_WC_LOC_QP_OP_ERR, ENGINE_VERR_WQE);
	flush(t, FAKE_IOVA, 1ull << 32, ENGINE_ACCESS_FLUSH_GLOBAL);
	expect_last(t, ENGINE_WC_LOC_QP_OP_ERR, ENGINE_VERR_WQE);
	flush(t, FAKE_IOVA, 8, ENGINE_ACCESS_FLUSH_GLOBAL)->num_sge = 1;
	expect_last(t, ENGINE_WC_LOC_QP_OP_ERR, ENGINE_VERR_WQE);
}

int main(void)
{
#define T(name)	cmocka_unit_test_setup_teardown(name, fake_setup, fake_teardown)
	const struct CMUnitTest tests[] = {
		T(test_write),
		T(test_read),
		T(test_send_scatter_gather),
		T(test_write_imm),
		T(test_inline),
		T(test_atomics),
		T(test_atomic_write),
		T(test_flush_memory),
		T(test_unsignaled_and_order),
		T(test_loopback),
		T(test_comm_est),
		cmocka_unit_test(test_local_errors),
		cmocka_unit_test(test_remote_errors),
	};

	return cmocka_run_group_tests_name("engine", tests, NULL, NULL);
}
