// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* Datagrams: what arrives, behind which header, what is dropped, and what the sender hears of it. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine_fake.h"

#define QKEY		0x1234u
#define GSI_QKEY	0x80010000u
#define HEADER		ENGINE_UD_HEADER
#define MTU		4096u
#define OTHER_KEY	0x200u

static const uint8_t ip[2][16] = {
	{ [10] = 0xff, 0xff, 10, 0, 0, 1 },
	{ [10] = 0xff, 0xff, 10, 0, 0, 2 },
};

static const uint8_t group[16] = { 0xff, 0x0e, [15] = 9 };

static void ud_to_rts(struct fake_qp *qp, uint32_t qkey)
{
	struct engine_qp_attr attr = { .state = ENGINE_QPS_INIT, .qkey = qkey, .path_mtu = 5 };

	assert_int_equal(engine_qp_modify(&qp->base, &attr, ENGINE_QP_STATE | ENGINE_QP_QKEY), 0);
	attr.state = ENGINE_QPS_RTR;
	assert_int_equal(engine_qp_modify(&qp->base, &attr, ENGINE_QP_STATE | ENGINE_QP_PATH_MTU),
			 0);
	attr.state = ENGINE_QPS_RTS;
	assert_int_equal(engine_qp_modify(&qp->base, &attr, ENGINE_QP_STATE | ENGINE_QP_SQ_PSN), 0);
}

static int setup(void **state)
{
	struct fake_pair *t;
	unsigned int i;

	fake_setup(state);
	t = *state;
	fake_qp_free(t->a);
	fake_qp_free(t->b);
	t->a = fake_qp_new_ud(&t->hca[0], 17, t->cq[0]);
	t->b = fake_qp_new_ud(&t->hca[1], 33, t->cq[1]);
	ud_to_rts(t->a, QKEY);
	ud_to_rts(t->b, QKEY);
	for (i = 0; i < 2; i++)
		assert_int_equal(engine_hca_set_gid(&t->hca[i].base, 2, ip[i]), 0);
	return 0;
}

static struct engine_send_wr *send_to(struct fake_qp *qp, struct fake_qp *dest, uint64_t addr,
				      uint32_t length)
{
	struct engine_send_wr *wr = fake_send(qp, ENGINE_WR_SEND, addr, length, 0);

	wr->ud = (struct engine_ud_dest) {
		.qpn = dest->base.qpn, .qkey = QKEY, .sgid_index = 1, .flow_label = 0x54321,
		.hop_limit = 64, .tclass = 0x26, .sl = 3,
	};
	memcpy(wr->ud.dgid, container_of(dest->base.hca, struct fake_hca, base)->gid,
	       sizeof(wr->ud.dgid));
	return wr;
}

static uint8_t *dst(struct fake_pair *t)
{
	return fake_ptr(&t->hca[1], DST);
}

/* The datagram of @len bytes from SRC of the first HCA is at DST of the second. */
static void expect_arrived(struct fake_pair *t, uint32_t index, uint32_t len)
{
	const struct engine_wc *wc;

	wc = fake_expect_wc(t->cq[1], t->b, index, true, ENGINE_WC_SUCCESS, 0);
	assert_int_equal(wc->byte_len, HEADER + len);
	assert_true(wc->grh);
	assert_int_equal(wc->src_qpn, t->a->base.qpn);
	assert_int_equal(wc->sl, 3);
	assert_memory_equal(dst(t) + HEADER, fake_ptr(&t->hca[0], SRC), len);
}

static void expect_sent(struct fake_pair *t, uint32_t index)
{
	fake_expect_wc(t->cq[0], t->a, index, false, ENGINE_WC_SUCCESS, 0);
}

static void test_send(void **state)
{
	const uint32_t sizes[] = { 0, 1, 255, MTU };
	struct fake_pair *t = *state;
	unsigned int i;

	for (i = 0; i < 4; i++) {
		fake_fill(fake_ptr(&t->hca[0], SRC), sizes[i], i);
		memset(dst(t), 0xee, HEADER + MTU + 1);
		fake_recv(t->b, DST, HEADER + MTU);
		send_to(t->a, t->b, SRC, sizes[i]);
		fake_run_all(t);
		expect_arrived(t, i, sizes[i]);
		expect_sent(t, i);
		assert_int_equal(dst(t)[HEADER + sizes[i]], 0xee);
		/* IPv6: version, traffic class, flow label; length; UDP; hop limit; GIDs */
		assert_memory_equal(dst(t), "\x62\x65\x43\x21", 4);
		assert_int_equal(dst(t)[4] << 8 | dst(t)[5], 32 + ((sizes[i] + 3) & ~3u));
		assert_int_equal(dst(t)[6], 17);
		assert_int_equal(dst(t)[7], 64);
		assert_memory_equal(dst(t) + 8, t->hca[0].gid, 16);
		assert_memory_equal(dst(t) + 24, t->hca[1].gid, 16);
	}
	fake_expect_quiet(t);
	assert_int_equal(t->hca[0].base.stats.tx_wrs, 4);
	assert_int_equal(t->a->base.attr.sq_psn, 4);
}

static void test_imm_inline_and_pieces(void **state)
{
	struct fake_pair *t = *state;
	struct engine_send_wr *wr;
	struct engine_recv_wr *rwr;
	uint8_t *src = fake_ptr(&t->hca[0], SRC);

	fake_fill(src, 200, 1);
	wr = send_to(t->a, t->b, SRC, 0);
	wr->opcode = ENGINE_WR_SEND_WITH_IMM;
	wr->imm_data = 0xabcd;
	wr->flags |= ENGINE_WR_INLINE | ENGINE_WR_SOLICITED;
	wr->num_sge = 0;
	wr->length = 200;
	memcpy(wr->inline_data, src, 200);
	/* The header does not end where a piece ends. */
	rwr = fake_recv(t->b, DST, 7);
	rwr->sge[1] = (struct engine_sge) { DST + 7, 100, FAKE_KEY };
	rwr->sge[2] = (struct engine_sge) { DST + 107, 133, FAKE_KEY };
	rwr->num_sge = 3;
	fake_run_all(t);
	assert_int_equal(t->cq[1]->wc[0].imm_data, 0xabcd);
	assert_true(t->cq[1]->wc[0].with_imm);
	assert_true(t->cq[1]->wc[0].solicited);
	t->cq[1]->wc[0].solicited = false;
	expect_arrived(t, 0, 200);
	expect_sent(t, 0);
}

static void test_ipv4_header(void **state)
{
	struct fake_pair *t = *state;
	struct engine_send_wr *wr;
	uint32_t sum = 0;
	unsigned int i;

	fake_recv(t->b, DST, HEADER + 10);
	wr = send_to(t->a, t->b, SRC, 10);
	wr->ud.sgid_index = 2;
	memcpy(wr->ud.dgid, ip[1], 16);
	memset(dst(t), 0xee, HEADER);
	fake_run_all(t);
	expect_arrived(t, 0, 10);
	for (i = 0; i < 20; i++)
		assert_int_equal(dst(t)[i], 0);
	assert_int_equal(dst(t)[20], 0x45);
	assert_int_equal(dst(t)[21], 0x26);
	assert_int_equal(dst(t)[22] << 8 | dst(t)[23], 20 + 32 + 12);
	assert_int_equal(dst(t)[28], 64);
	assert_int_equal(dst(t)[29], 17);
	assert_memory_equal(dst(t) + 32, ip[0] + 12, 4);
	assert_memory_equal(dst(t) + 36, ip[1] + 12, 4);
	for (i = 20; i < 40; i += 2)
		sum += dst(t)[i] << 8 | dst(t)[i + 1];
	assert_int_equal((sum & 0xffff) + (sum >> 16), 0xffff);
}

/* ---- what is dropped: the sender's request succeeds, nothing else happens ---- */

static void drop_no_gid(struct fake_pair *t, struct engine_send_wr *wr)
{
	wr->ud.dgid[15] = 99;
}

static void drop_no_qp(struct fake_pair *t, struct engine_send_wr *wr)
{
	wr->ud.qpn = 34;
}

static void drop_far_qpn(struct fake_pair *t, struct engine_send_wr *wr)
{
	wr->ud.qpn = UINT32_MAX;
}

static void drop_qkey(struct fake_pair *t, struct engine_send_wr *wr)
{
	wr->ud.qkey++;
}

static void drop_state(struct fake_pair *t, struct engine_send_wr *wr)
{
	struct engine_qp_attr attr = { .state = ENGINE_QPS_INIT, .qkey = QKEY };

	assert_int_equal(fake_set_state(t->b, ENGINE_QPS_RESET), 0);
	assert_int_equal(engine_qp_modify(&t->b->base, &attr, ENGINE_QP_STATE | ENGINE_QP_QKEY), 0);
	fake_recv(t->b, DST, HEADER + 8);
}

static void drop_no_recv(struct fake_pair *t, struct engine_send_wr *wr)
{
	t->b->rq_pi = 0;
}

static void drop_short_recv(struct fake_pair *t, struct engine_send_wr *wr)
{
	t->b->rq[0].sge[0].length = HEADER + 7;
}

static void drop_no_rq(struct fake_pair *t, struct engine_send_wr *wr)
{
	t->b->base.rq = NULL;
}

static void test_drops(void **state)
{
	static const struct {
		const char *name;
		void (*change)(struct fake_pair *t, struct engine_send_wr *wr);
		bool counted;
	} cases[] = {
		{ "no such GID", drop_no_gid, false },
		{ "no such QP", drop_no_qp, true },
		{ "no such number", drop_far_qpn, true },
		{ "other Q_Key", drop_qkey, true },
		{ "does not receive yet", drop_state, true },
		{ "no receive", drop_no_recv, true },
		{ "short receive", drop_short_recv, true },
		{ "no receive queue", drop_no_rq, true },
	};
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct engine_send_wr *wr;
		struct fake_pair *t;
		void *s;

		print_message("  %s\n", cases[i].name);
		setup(&s);
		t = s;
		fake_recv(t->b, DST, HEADER + 8);
		memset(dst(t), 0xee, HEADER + 8);
		wr = send_to(t->a, t->b, SRC, 8);
		cases[i].change(t, wr);
		fake_run_all(t);
		expect_sent(t, 0);
		fake_expect_quiet(t);
		assert_int_equal(dst(t)[0], 0xee);
		assert_int_equal(t->hca[1].base.stats.ud_drops, cases[i].counted);
		assert_int_equal(t->a->base.attr.state, ENGINE_QPS_RTS);
		assert_int_equal(t->a->events | t->b->events, 0);
		fake_teardown(&s);
	}
}

/* A datagram for a connection is none, and the other way round. */
static void test_types(void **state)
{
	struct fake_pair *t = *state;
	struct engine_qp_attr attr = { .state = ENGINE_QPS_INIT };
	struct fake_qp *rc = fake_qp_new(&t->hca[1], 40, t->cq[1]);
	struct engine_qp_attr rc_attr = fake_attr(rc, t->a);

	fake_to_init(rc, &rc_attr);
	fake_to_rtr(rc, &rc_attr);
	fake_to_rts(rc, &rc_attr);
	fake_recv(rc, DST, 100);
	send_to(t->a, rc, SRC, 8);
	fake_run_all(t);
	expect_sent(t, 0);
	fake_recv(t->a, DST, 100);
	fake_send(rc, ENGINE_WR_SEND, SRC, 8, 0);
	fake_run_all(t);
	fake_expect_quiet(t);
	assert_int_equal(rc->base.no_answer, ENGINE_VERR_PEER_OTHER);
	fake_qp_free(rc);

	/* Attributes of the other type */
	assert_int_equal(fake_set_state(t->a, ENGINE_QPS_RESET), 0);
	assert_int_equal(engine_qp_modify(&t->a->base, &attr, ENGINE_QP_STATE | ENGINE_QP_ACCESS),
			 -EINVAL);
	assert_int_equal(engine_qp_modify(&t->a->base, &attr, ENGINE_QP_STATE), -EINVAL);
}

/* ---- errors of the sender ---- */

static void err_opcode(struct fake_pair *t, struct engine_send_wr *wr)
{
	wr->opcode = ENGINE_WR_RDMA_WRITE;
}

static void err_length(struct fake_pair *t, struct engine_send_wr *wr)
{
	wr->sge[0].length = MTU + 1;
}

static void err_sgid(struct fake_pair *t, struct engine_send_wr *wr)
{
	wr->ud.sgid_index = 3;
}

static void err_sgid_range(struct fake_pair *t, struct engine_send_wr *wr)
{
	wr->ud.sgid_index = UINT32_MAX;
}

static void err_key(struct fake_pair *t, struct engine_send_wr *wr)
{
	wr->sge[0].key = OTHER_KEY;
}

static void err_inline(struct fake_pair *t, struct engine_send_wr *wr)
{
	wr->flags |= ENGINE_WR_INLINE;
	wr->length = ENGINE_MAX_INLINE + 1;
}

/* Memory that is registered, but not there */
static void err_dma(struct fake_pair *t, struct engine_send_wr *wr)
{
	fake_make_mr(&t->hca[0], OTHER_KEY, FAKE_PDN, FAKE_ALL, 0xdead0000, 4096);
	wr->sge[0] = (struct engine_sge) { FAKE_IOVA, 8, OTHER_KEY };
}

static void test_send_errors(void **state)
{
	static const struct {
		const char *name;
		void (*change)(struct fake_pair *t, struct engine_send_wr *wr);
		enum engine_wc_status status;
		uint32_t verr;
	} cases[] = {
		{ "opcode", err_opcode, ENGINE_WC_LOC_QP_OP_ERR, ENGINE_VERR_WQE },
		{ "longer than the MTU", err_length, ENGINE_WC_LOC_LEN_ERR, ENGINE_VERR_LENGTH },
		{ "no such GID index", err_sgid, ENGINE_WC_LOC_QP_OP_ERR, ENGINE_VERR_SGID },
		{ "GID index", err_sgid_range, ENGINE_WC_LOC_QP_OP_ERR, ENGINE_VERR_SGID },
		{ "no such key", err_key, ENGINE_WC_LOC_PROT_ERR, ENGINE_VERR_KEY },
		{ "inline", err_inline, ENGINE_WC_LOC_QP_OP_ERR, ENGINE_VERR_WQE },
		{ "memory not there", err_dma, ENGINE_WC_LOC_PROT_ERR, ENGINE_VERR_DMA },
	};
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct engine_qp_attr attr = { .state = ENGINE_QPS_RTS };
		struct fake_pair *t;
		void *s;

		print_message("  %s\n", cases[i].name);
		setup(&s);
		t = s;
		fake_recv(t->a, SRC, HEADER + 8);
		fake_recv(t->b, DST, HEADER + MTU);
		cases[i].change(t, send_to(t->a, t->b, SRC, 8));
		send_to(t->a, t->b, SRC, 8);
		fake_run_all(t);
		fake_expect_wc(t->cq[0], t->a, 0, false, cases[i].status, cases[i].verr);
		fake_expect_wc(t->cq[0], t->a, 1, false, ENGINE_WC_WR_FLUSH_ERR, 0);
		fake_expect_quiet(t);
		fake_expect_states(t, ENGINE_QPS_SQE, ENGINE_QPS_RTS);

		/* What is posted is flushed, what arrives is taken, and software can go on. */
		send_to(t->a, t->b, SRC, 8);
		fake_run_all(t);
		fake_expect_wc(t->cq[0], t->a, 2, false, ENGINE_WC_WR_FLUSH_ERR, 0);
		send_to(t->b, t->a, SRC, 8);
		fake_run_all(t);
		fake_expect_wc(t->cq[0], t->a, 0, true, ENGINE_WC_SUCCESS, 0);
		fake_expect_wc(t->cq[1], t->b, 0, false, ENGINE_WC_SUCCESS, 0);
		assert_int_equal(engine_qp_modify(&t->a->base, &attr, ENGINE_QP_STATE), 0);
		send_to(t->a, t->b, SRC, 8);
		fake_run_all(t);
		expect_arrived(t, 0, 8);
		expect_sent(t, 3);
		fake_expect_quiet(t);
		fake_teardown(&s);
	}
}

/* ---- errors of the receiver, which the sender does not hear of ---- */

static void recv_malformed(struct fake_pair *t)
{
	t->b->rq_error = -EINVAL;
}

static void recv_key(struct fake_pair *t)
{
	t->b->rq[0].sge[0].key = OTHER_KEY;
}

static void recv_dma(struct fake_pair *t)
{
	fake_make_mr(&t->hca[1], OTHER_KEY, FAKE_PDN, FAKE_ALL, 0xdead0000, 4096);
	t->b->rq[0].sge[0] = (struct engine_sge) { FAKE_IOVA, HEADER + 8, OTHER_KEY };
}

static void test_recv_errors(void **state)
{
	static const struct {
		const char *name;
		void (*change)(struct fake_pair *t);
		enum engine_wc_status status;
		uint32_t verr;
	} cases[] = {
		{ "malformed", recv_malformed, ENGINE_WC_LOC_QP_OP_ERR, ENGINE_VERR_WQE },
		{ "no such key", recv_key, ENGINE_WC_LOC_PROT_ERR, ENGINE_VERR_KEY },
		{ "memory not there", recv_dma, ENGINE_WC_LOC_PROT_ERR, ENGINE_VERR_DMA },
	};
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fake_pair *t;
		void *s;

		print_message("  %s\n", cases[i].name);
		setup(&s);
		t = s;
		fake_recv(t->b, DST, HEADER + 8);
		cases[i].change(t);
		send_to(t->a, t->b, SRC, 8);
		fake_run_all(t);
		expect_sent(t, 0);
		fake_expect_wc(t->cq[1], t->b, 0, true, cases[i].status,
			       cases[i].verr | ENGINE_VERR_RECV);
		fake_expect_quiet(t);
		fake_expect_states(t, ENGINE_QPS_RTS, ENGINE_QPS_ERR);
		assert_int_equal(t->hca[1].base.stats.ud_drops, 1);
		fake_teardown(&s);
	}
}

static void test_to_itself(void **state)
{
	struct fake_pair *t = *state;
	const struct engine_wc *wc;

	fake_recv(t->a, DST, HEADER + 8);
	send_to(t->a, t->a, SRC, 8);
	fake_run_all(t);
	wc = fake_expect_wc(t->cq[0], t->a, 0, true, ENGINE_WC_SUCCESS, 0);
	assert_int_equal(wc->src_qpn, t->a->base.qpn);
	expect_sent(t, 0);

	/* Its receive fails, and with it the QP: the send was sent all the same. */
	fake_recv(t->a, DST, HEADER + 8)->sge[0].key = OTHER_KEY;
	send_to(t->a, t->a, SRC, 8);
	send_to(t->a, t->a, SRC, 8);
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 1, true, ENGINE_WC_LOC_PROT_ERR,
		       ENGINE_VERR_KEY | ENGINE_VERR_RECV);
	expect_sent(t, 1);
	fake_expect_wc(t->cq[0], t->a, 2, false, ENGINE_WC_WR_FLUSH_ERR, 0);
	fake_expect_quiet(t);
	fake_expect_states(t, ENGINE_QPS_ERR, ENGINE_QPS_RTS);
}

/* More than one turn, in order */
static void test_many(void **state)
{
	struct fake_pair *t = *state;
	unsigned int i;

	for (i = 0; i < 200; i++) {
		fake_ptr(&t->hca[0], ALIGNED)[i] = i;
		fake_recv(t->b, DST + 64 * i, 64);
		send_to(t->a, t->b, ALIGNED + i, 1);
	}
	fake_run_all(t);
	for (i = 0; i < 200; i++) {
		expect_sent(t, i);
		fake_expect_wc(t->cq[1], t->b, i, true, ENGINE_WC_SUCCESS, 0);
		assert_int_equal(fake_ptr(&t->hca[1], DST + 64 * i)[HEADER], i);
	}
	fake_expect_quiet(t);
}

static void test_drain(void **state)
{
	struct engine_qp_attr attr = { .state = ENGINE_QPS_SQD, .sqd_notify = true };
	struct fake_pair *t = *state;

	assert_int_equal(engine_qp_modify(&t->a->base, &attr,
					  ENGINE_QP_STATE | ENGINE_QP_SQD_NOTIFY), 0);
	assert_int_equal(t->a->events, EVENT(SQ_DRAINED));
	fake_recv(t->b, DST, HEADER + 8);
	send_to(t->a, t->b, SRC, 8);
	fake_run_all(t);
	fake_expect_quiet(t);
	attr.state = ENGINE_QPS_RTS;
	assert_int_equal(engine_qp_modify(&t->a->base, &attr, ENGINE_QP_STATE), 0);
	fake_run_all(t);
	expect_arrived(t, 0, 8);
	expect_sent(t, 0);
}

/* A HCA that stops or loses its GID is not found any more, and found again when it comes back. */
static void test_peer_goes(void **state)
{
	struct fake_pair *t = *state;
	unsigned int i;

	for (i = 0; i < 4; i++) {
		bool there = i % 2 == 0;

		if (i)
			engine_hca_set_running(&t->hca[1].base, there);
		fake_recv(t->b, DST, HEADER + 8);
		send_to(t->a, t->b, SRC, 8);
		fake_run_all(t);
		expect_sent(t, i);
		if (there)
			expect_arrived(t, i / 2, 8);
		fake_expect_quiet(t);
	}
}

static void test_gsi(void **state)
{
	struct fake_pair *t = *state;
	struct fake_qp *gsi = fake_qp_new_ud(&t->hca[1], ENGINE_GSI_QPN, t->cq[1]);
	struct fake_qp bad = {
		.base = {
			.hca = &t->hca[0].base, .qpn = ENGINE_GSI_QPN, .pdn = FAKE_PDN,
			.type = ENGINE_QPT_RC, .send_cq = &t->cq[0]->base,
			.recv_cq = &t->cq[0]->base,
		},
	};
	struct engine_send_wr *wr;

	assert_int_equal(engine_qp_create(&bad.base), -EINVAL);
	bad.base.type = ENGINE_QPT_UD;
	bad.base.qpn = 0;
	assert_int_equal(engine_qp_create(&bad.base), -EINVAL);

	/* A Q_Key with the highest bit is that of the sender, whatever the request says. */
	ud_to_rts(gsi, GSI_QKEY);
	fake_recv(gsi, DST, HEADER + 8);
	wr = send_to(t->a, gsi, SRC, 8);
	wr->ud.qkey = GSI_QKEY;
	fake_run_all(t);
	expect_sent(t, 0);
	fake_expect_quiet(t);
	assert_int_equal(fake_set_state(t->a, ENGINE_QPS_RESET), 0);
	ud_to_rts(t->a, GSI_QKEY);
	wr = send_to(t->a, gsi, SRC, 8);
	wr->ud.qkey = 0x80000000;
	fake_run_all(t);
	expect_sent(t, 0);
	fake_expect_wc(t->cq[1], gsi, 0, true, ENGINE_WC_SUCCESS, 0);
	fake_qp_free(gsi);
}

static void test_multicast(void **state)
{
	const uint8_t ipv4_group[16] = { [10] = 0xff, 0xff, 239, 1, 2, 3 };
	struct fake_pair *t = *state;
	struct fake_qp *c = fake_qp_new_ud(&t->hca[1], 50, t->cq[1]);
	struct engine_send_wr *wr;
	unsigned int i;

	ud_to_rts(c, QKEY);
	assert_int_equal(engine_qp_attach(&t->b->base, t->hca[1].gid), -EINVAL);
	assert_int_equal(engine_qp_attach(&t->b->base, ip[1]), -EINVAL);
	assert_int_equal(engine_qp_attach(&t->b->base, group), 0);
	assert_int_equal(engine_qp_attach(&t->b->base, group), -EEXIST);
	assert_int_equal(engine_qp_attach(&t->b->base, ipv4_group), 0);
	assert_int_equal(engine_qp_attach(&c->base, group), 0);
	assert_int_equal(engine_qp_attach(&t->a->base, group), 0);

	/* To both of the group, and to itself; the QP in the request means nothing. */
	fake_recv(t->a, DST, HEADER + 8);
	fake_recv(t->b, DST, HEADER + 8);
	fake_recv(c, ALIGNED, HEADER + 8);
	wr = send_to(t->a, t->b, SRC, 8);
	memcpy(wr->ud.dgid, group, sizeof(group));
	wr->ud.qpn = 0xffffff;
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 0, true, ENGINE_WC_SUCCESS, 0);
	expect_sent(t, 0);
	expect_arrived(t, 0, 8);
	fake_expect_wc(t->cq[1], c, 0, true, ENGINE_WC_SUCCESS, 0);
	assert_memory_equal(dst(t), fake_ptr(&t->hca[1], ALIGNED), HEADER + 8);
	fake_expect_quiet(t);

	/* Who left does not get it, and who has no receive loses it. */
	assert_int_equal(engine_qp_detach(&t->b->base, group), 0);
	assert_int_equal(engine_qp_detach(&t->b->base, group), -ENOENT);
	assert_int_equal(engine_qp_detach(&t->a->base, group), 0);
	fake_recv(t->b, DST, HEADER + 8);
	wr = send_to(t->a, t->b, SRC, 8);
	memcpy(wr->ud.dgid, group, sizeof(group));
	fake_run_all(t);
	expect_sent(t, 1);
	fake_expect_quiet(t);
	assert_int_equal(t->hca[1].base.stats.ud_drops, 1);
	wr = send_to(t->a, t->b, SRC, 8);
	memcpy(wr->ud.dgid, ipv4_group, sizeof(ipv4_group));
	fake_run_all(t);
	expect_sent(t, 2);
	expect_arrived(t, 1, 8);

	/* A QP that goes leaves its groups; there is a limit. */
	fake_qp_free(c);
	assert_int_equal(t->hca[1].base.num_mcasts, 1);
	for (i = 1; i < ENGINE_MAX_MCAST; i++) {
		uint8_t gid[16] = { 0xff, 1, i };

		assert_int_equal(engine_qp_attach(&t->b->base, gid), 0);
	}
	assert_int_equal(engine_qp_attach(&t->b->base, group), -ENOMEM);
}

int main(void)
{
#define T(name)	cmocka_unit_test_setup_teardown(name, setup, fake_teardown)
	const struct CMUnitTest tests[] = {
		T(test_send),
		T(test_imm_inline_and_pieces),
		T(test_ipv4_header),
		cmocka_unit_test(test_drops),
		T(test_types),
		cmocka_unit_test(test_send_errors),
		cmocka_unit_test(test_recv_errors),
		T(test_to_itself),
		T(test_many),
		T(test_drain),
		T(test_peer_goes),
		T(test_gsi),
		T(test_multicast),
	};

	return cmocka_run_group_tests_name("engine_ud", tests, NULL, NULL);
}
