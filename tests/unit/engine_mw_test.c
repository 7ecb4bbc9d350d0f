// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* The engine's memory windows, fast registration, and invalidation by either end. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine_fake.h"

#define MW1	0x4300u		/* windows and an MR for fast registration, at both ends */
#define MW2	0x4400u
#define FAST	0x4500u
#define BASE	0x4600u		/* an MR to bind to */
#define WEAK	0x4700u		/* without local write */
#define UNBINDABLE 0x4800u
#define OTHER_PD 0x4900u
#define FAST_SEGS 16u
#define REMOTE_RW (ENGINE_ACCESS_REMOTE_WRITE | ENGINE_ACCESS_REMOTE_READ)

static int mw_setup(void **state)
{
	struct fake_pair *t;
	unsigned int i;

	fake_setup(state);
	t = *state;
	for (i = 0; i < 2; i++) {
		struct fake_hca *hca = &t->hca[i];

		fake_make_mr(hca, BASE, FAKE_PDN, FAKE_ALL, FAKE_IOVA, FAKE_MEM);
		fake_make_mr(hca, WEAK, FAKE_PDN, ENGINE_ACCESS_MW_BIND, FAKE_IOVA, FAKE_MEM);
		fake_make_mr(hca, UNBINDABLE, FAKE_PDN, FAKE_ALL & ~ENGINE_ACCESS_MW_BIND, FAKE_IOVA, FAKE_MEM);
		fake_make_mr(hca, OTHER_PD, FAKE_PDN + 1, FAKE_ALL, FAKE_IOVA, FAKE_MEM);
		assert_int_equal(engine_mw_create(&hca->base, MW1, FAKE_PDN, ENGINE_KEY_MW_1), 0);
		assert_int_equal(engine_mw_create(&hca->base, MW2, FAKE_PDN, ENGINE_KEY_MW_2), 0);
		assert_int_equal(engine_mr_create_fast(&hca->base, FAST, FAKE_PDN, FAST_SEGS), 0);
	}
	return 0;
}

/* The newest request of @qp ends so, and nothing else does. */
static void expect(struct fake_pair *t, struct fake_qp *qp, enum engine_wc_status status,
		   uint32_t verr)
{
	fake_run_all(t);
	fake_expect_wc(qp->cq, qp, qp->sq_pi - 1, false, status, verr);
	fake_expect_quiet(t);
}

static void expect_ok(struct fake_pair *t, struct fake_qp *qp)
{
	expect(t, qp, ENGINE_WC_SUCCESS, 0);
}

/* Eight bytes from a to @addr of b's memory, by @rkey; what must come of it. */
static void write_by(struct fake_pair *t, uint32_t rkey, uint64_t addr, uint32_t verr)
{
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, addr)->rkey = rkey;
	if (!verr) {
		expect_ok(t, t->a);
		return;
	}
	expect(t, t->a, ENGINE_WC_REM_ACCESS_ERR, verr | ENGINE_VERR_REMOTE);
	assert_int_equal(t->b->events, EVENT(QP_ACCESS_ERR));
	fake_reconnect(t);
}

/* A request of @qp for a key fails so; the QP is connected anew. */
static void expect_refused(struct fake_pair *t, struct fake_qp *qp, uint32_t verr)
{
	expect(t, qp, ENGINE_WC_MW_BIND_ERR, verr);
	assert_int_equal(qp->base.attr.state, ENGINE_QPS_ERR);
	assert_int_equal(t->a->events | t->b->events, 0);
	fake_reconnect(t);
}

/* ---- windows ---- */

static void test_create(void **state)
{
	struct fake_pair *t = *state;
	struct engine_hca *hca = &t->hca[0].base;
	uint64_t before = hca->mem;
	struct sgtab sg;

	assert_int_equal(engine_mw_create(hca, 0xff, 1, ENGINE_KEY_MW_1), -EINVAL);
	assert_int_equal(engine_mw_create(hca, 0x500, 0, ENGINE_KEY_MW_1), -EINVAL);
	assert_int_equal(engine_mw_create(hca, 0x500, ENGINE_MAX_PDS, ENGINE_KEY_MW_1), -EINVAL);
	assert_int_equal(engine_mw_create(hca, 0x500, 1, ENGINE_KEY_MR), -EINVAL);
	assert_int_equal(engine_mw_create(hca, 0x500, 1, ENGINE_KEY_FAST_MR), -EINVAL);
	assert_int_equal(engine_mw_create(hca, BASE + 1, 1, ENGINE_KEY_MW_1), -EEXIST);
	assert_int_equal(engine_mr_create_fast(hca, BASE + 1, 1, 1), -EEXIST);
	assert_int_equal(engine_mr_create_fast(hca, 0x500, 1, 0), -EINVAL);
	assert_int_equal(engine_mr_create_fast(hca, 0x500, 0, 1), -EINVAL);
	assert_int_equal(engine_mr_create_fast(hca, 0x500, 1, UINT32_MAX), -ENOMEM);
	assert_int_equal(hca->mem, before);

	/* what is of one kind cannot be destroyed, fenced or changed as another */
	sgtab_init_one(&sg, FAKE_IOVA, 4096);
	assert_int_equal(engine_mw_destroy(hca, BASE), -ENOENT);
	assert_int_equal(engine_mw_destroy(hca, FAST), -ENOENT);
	assert_int_equal(engine_mr_destroy(hca, MW1), -ENOENT);
	assert_int_equal(engine_mr_fence(hca, MW1), -ENOENT);
	assert_int_equal(engine_mr_fence(hca, FAST), -ENOENT);
	assert_int_equal(engine_mr_rereg(hca, FAST, ENGINE_REREG_TRANS, 0, 0, 0, &sg, 0), -ENOENT);
	assert_int_equal(engine_mw_destroy(hca, MW1), 0);
	assert_int_equal(engine_mw_destroy(hca, MW1), -ENOENT);
	assert_int_equal(engine_mr_destroy(hca, FAST + 7), 0);
	assert_int_equal(engine_mr_destroy(hca, FAST), -ENOENT);
}

/* What is not bound is of no use, and a window never is for its owner. */
static void test_unbound(void **state)
{
	struct fake_pair *t = *state;

	write_by(t, MW1, DST, ENGINE_VERR_FREE);
	write_by(t, MW2, DST, ENGINE_VERR_FREE);
	write_by(t, FAST, DST, ENGINE_VERR_FREE);
	fake_bind(t->a, MW1 + 1, BASE, FAKE_IOVA, FAKE_MEM, REMOTE_RW);
	expect_ok(t, t->a);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST)->sge[0].key = MW1 + 1;
	expect(t, t->a, ENGINE_WC_LOC_PROT_ERR, ENGINE_VERR_KEY_TYPE);
}

static void test_type_1(void **state)
{
	struct fake_pair *t = *state;
	uint8_t *src = fake_ptr(&t->hca[0], SRC), *dst = fake_ptr(&t->hca[1], DST);

	fake_bind(t->b, MW1 + 1, BASE, DST, 100, ENGINE_ACCESS_REMOTE_WRITE);
	expect_ok(t, t->b);
	fake_fill(src, 100, 3);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 100, DST)->rkey = MW1 + 1;
	expect_ok(t, t->a);
	assert_memory_equal(src, dst, 100);
	/* from its first byte to its last */
	write_by(t, MW1 + 1, DST - 1, ENGINE_VERR_RANGE);
	write_by(t, MW1 + 1, DST + 92, 0);
	write_by(t, MW1 + 1, DST + 93, ENGINE_VERR_RANGE);
	/* with its own rights, not those of the MR */
	fake_send(t->a, ENGINE_WR_RDMA_READ, SRC, 8, DST)->rkey = MW1 + 1;
	expect(t, t->a, ENGINE_WC_REM_ACCESS_ERR, ENGINE_VERR_ACCESS | ENGINE_VERR_REMOTE);
	fake_reconnect(t);

	/* bound elsewhere at once: the old key is gone */
	fake_bind(t->b, MW1 + 2, BASE, DST + 1000, 8, ENGINE_ACCESS_REMOTE);
	expect_ok(t, t->b);
	write_by(t, MW1 + 1, DST, ENGINE_VERR_KEY);
	write_by(t, MW1 + 2, DST, ENGINE_VERR_RANGE);
	write_by(t, MW1 + 2, DST + 1000, 0);
	/* to nothing: unbound */
	fake_bind(t->b, MW1 + 3, 0, 0, 0, 0);
	expect_ok(t, t->b);
	write_by(t, MW1 + 2, DST + 1000, ENGINE_VERR_KEY);
	write_by(t, MW1 + 3, DST + 1000, ENGINE_VERR_FREE);
	assert_int_equal(engine_mr_destroy(&t->hca[1].base, BASE), 0);
}

static void test_zero_based(void **state)
{
	struct fake_pair *t = *state;
	uint8_t *src = fake_ptr(&t->hca[0], SRC), *dst = fake_ptr(&t->hca[1], DST);
	uint32_t key = MW1 + 1;
	unsigned int i;

	/* of either type */
	for (i = 0; i < 2; i++, key = MW2 + 1) {
		fake_bind(t->b, key, BASE, DST, 100, REMOTE_RW | ENGINE_ACCESS_ZERO_BASED);
		expect_ok(t, t->b);
		fake_fill(src, 100, i);
		fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 100, 0)->rkey = key;
		expect_ok(t, t->a);
		assert_memory_equal(src, dst, 100);
		fake_send(t->a, ENGINE_WR_RDMA_READ, SRC + 500, 60, 40)->rkey = key;
		expect_ok(t, t->a);
		assert_memory_equal(src + 500, dst + 40, 60);
		write_by(t, key, 93, ENGINE_VERR_RANGE);
		write_by(t, key, DST, ENGINE_VERR_RANGE);
	}
}

/* Type 2 is bound once, and is its QP's alone. */
static void test_type_2(void **state)
{
	struct fake_pair *t = *state;
	struct fake_qp *c = fake_qp_new(&t->hca[0], 40, t->cq[0]);
	struct fake_qp *d = fake_qp_new(&t->hca[1], 41, t->cq[1]);

	fake_connect(c, d);
	fake_bind(t->b, MW2 + 1, BASE, FAKE_IOVA, FAKE_MEM, ENGINE_ACCESS_REMOTE);
	expect_ok(t, t->b);
	write_by(t, MW2 + 1, DST, 0);
	fake_send(t->a, ENGINE_WR_ATOMIC_FETCH_AND_ADD, SRC, 8, ALIGNED)->rkey = MW2 + 1;
	expect_ok(t, t->a);

	fake_send(c, ENGINE_WR_RDMA_WRITE, SRC, 8, DST)->rkey = MW2 + 1;
	expect(t, c, ENGINE_WC_REM_ACCESS_ERR, ENGINE_VERR_MW_QP | ENGINE_VERR_REMOTE);
	assert_int_equal(d->events, EVENT(QP_ACCESS_ERR));

	fake_bind(t->b, MW2 + 2, BASE, FAKE_IOVA, FAKE_MEM, ENGINE_ACCESS_REMOTE);
	expect_refused(t, t->b, ENGINE_VERR_IN_USE);
	write_by(t, MW2 + 1, DST, 0);
	fake_inv(t->b, ENGINE_WR_LOCAL_INV, MW2 + 1);
	expect_ok(t, t->b);
	write_by(t, MW2 + 1, DST, ENGINE_VERR_FREE);
	fake_bind(t->b, MW2 + 2, BASE, FAKE_IOVA, 0, ENGINE_ACCESS_REMOTE);
	expect_refused(t, t->b, ENGINE_VERR_LENGTH);
	fake_bind(t->b, MW2 + 2, BASE, FAKE_IOVA, FAKE_MEM, ENGINE_ACCESS_REMOTE);
	expect_ok(t, t->b);
	write_by(t, MW2 + 2, DST, 0);
	write_by(t, MW2 + 1, DST, ENGINE_VERR_KEY);

	/* The window stays when its QP goes, but not bound. */
	fake_qp_free(c);
	fake_qp_free(d);
	fake_qp_free(t->b);
	assert_int_equal(engine_mr_destroy(&t->hca[1].base, BASE), 0);
	t->b = fake_qp_new(&t->hca[1], 33, t->cq[1]);
	fake_reconnect(t);
	write_by(t, MW2 + 2, DST, ENGINE_VERR_FREE);
}

static void test_bind_errors(void **state)
{
	static const struct {
		uint32_t key, lkey;
		uint64_t addr, length;
		uint32_t access, verr;
	} bad[] = {
		{ 0x500, BASE, DST, 8, 0, ENGINE_VERR_KEY },
		{ BASE + 1, BASE, DST, 8, 0, ENGINE_VERR_KEY_TYPE },
		{ FAST + 1, BASE, DST, 8, 0, ENGINE_VERR_KEY_TYPE },
		{ MW1 + 1, 0x500, DST, 8, 0, ENGINE_VERR_KEY },
		{ MW1 + 1, BASE + 1, DST, 8, 0, ENGINE_VERR_KEY },
		{ MW1 + 1, MW2, DST, 8, 0, ENGINE_VERR_KEY_TYPE },
		{ MW1 + 1, FAST, DST, 8, 0, ENGINE_VERR_FREE },
		{ MW1 + 1, OTHER_PD, DST, 8, 0, ENGINE_VERR_PD },
		{ MW1 + 1, UNBINDABLE, DST, 8, ENGINE_ACCESS_REMOTE_READ, ENGINE_VERR_ACCESS },
		{ MW1 + 1, WEAK, DST, 8, ENGINE_ACCESS_REMOTE_WRITE, ENGINE_VERR_ACCESS },
		{ MW1 + 1, WEAK, DST, 8, ENGINE_ACCESS_REMOTE_ATOMIC, ENGINE_VERR_ACCESS },
		{ MW1 + 1, BASE, DST, 8, ENGINE_ACCESS_MW_BIND, ENGINE_VERR_ACCESS },
		{ MW1 + 1, BASE, DST, 8, 0x100, ENGINE_VERR_ACCESS },
		{ MW1 + 1, BASE, FAKE_IOVA - 1, 8, 0, ENGINE_VERR_RANGE },
		{ MW1 + 1, BASE, FAKE_IOVA + 1, FAKE_MEM, 0, ENGINE_VERR_RANGE },
		{ MW1 + 1, BASE, FAKE_IOVA + FAKE_MEM, 1, 0, ENGINE_VERR_RANGE },
		{ MW1 + 1, BASE, DST, UINT64_MAX, 0, ENGINE_VERR_RANGE },
		{ MW1 + 1, BASE, UINT64_MAX, 8, 0, ENGINE_VERR_RANGE },
	};
	struct fake_pair *t = *state;
	size_t i;

	fake_bind(t->b, MW1 + 9, BASE, DST, 8, ENGINE_ACCESS_REMOTE);
	expect_ok(t, t->b);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		fake_bind(t->b, bad[i].key, bad[i].lkey, bad[i].addr, bad[i].length,
			  bad[i].access);
		expect_refused(t, t->b, bad[i].verr);
	}
	/* A window of another PD */
	assert_int_equal(engine_mw_create(&t->hca[1].base, 0x500, FAKE_PDN + 1, ENGINE_KEY_MW_1),
			 0);
	fake_bind(t->b, 0x501, OTHER_PD, DST, 8, 0);
	expect_refused(t, t->b, ENGINE_VERR_PD);
	/* A bind that failed has changed nothing. */
	write_by(t, MW1 + 9, DST, 0);
	/* Reading needs no local write. */
	fake_bind(t->b, MW1 + 1, WEAK, DST, 8, ENGINE_ACCESS_REMOTE_READ);
	expect_ok(t, t->b);
	fake_send(t->a, ENGINE_WR_RDMA_READ, SRC, 8, DST)->rkey = MW1 + 1;
	expect_ok(t, t->a);
	/* SGEs and inline data are for others. */
	fake_bind(t->b, MW1 + 1, BASE, DST, 8, 0)->num_sge = 1;
	expect(t, t->b, ENGINE_WC_LOC_QP_OP_ERR, ENGINE_VERR_WQE);
	fake_reconnect(t);
	fake_bind(t->b, MW1 + 1, BASE, DST, 8, 0)->flags |= ENGINE_WR_INLINE;
	expect(t, t->b, ENGINE_WC_LOC_QP_OP_ERR, ENGINE_VERR_WQE);
}

/* While windows are bound an MR cannot go or change; when it is fenced they are dead with it. */
static void test_mr_below(void **state)
{
	struct fake_pair *t = *state;
	struct engine_hca *hca = &t->hca[1].base;
	struct sgtab sg;

	sgtab_init_one(&sg, FAKE_IOVA, FAKE_MEM);
	fake_bind(t->b, MW1 + 1, BASE, FAKE_IOVA, FAKE_MEM, ENGINE_ACCESS_REMOTE);
	expect_ok(t, t->b);
	fake_bind(t->b, MW2 + 1, BASE, FAKE_IOVA, FAKE_MEM, ENGINE_ACCESS_REMOTE);
	expect_ok(t, t->b);
	assert_int_equal(engine_mr_destroy(hca, BASE), -EBUSY);
	assert_int_equal(engine_mr_rereg(hca, BASE, ENGINE_REREG_TRANS, 0, 0, FAKE_IOVA, &sg, 0),
			 -EBUSY);
	assert_int_equal(engine_mr_rereg(hca, BASE, ENGINE_REREG_ACCESS, 0, 0, 0, NULL, 0), -EBUSY);
	write_by(t, MW1 + 1, DST, 0);
	write_by(t, MW2 + 1, DST, 0);

	assert_int_equal(engine_mr_fence(hca, BASE), 0);
	write_by(t, MW1 + 1, DST, ENGINE_VERR_FENCED);
	write_by(t, MW2 + 1, DST, ENGINE_VERR_FENCED);
	fake_bind(t->b, MW1 + 2, BASE, FAKE_IOVA, FAKE_MEM, ENGINE_ACCESS_REMOTE);
	expect_refused(t, t->b, ENGINE_VERR_FENCED);
	assert_int_equal(engine_mr_destroy(hca, BASE), -EBUSY);
	assert_int_equal(engine_mw_destroy(hca, MW1), 0);
	fake_inv(t->b, ENGINE_WR_LOCAL_INV, MW2 + 1);
	expect_ok(t, t->b);
	assert_int_equal(engine_mr_rereg(hca, BASE, ENGINE_REREG_TRANS, 0, 0, FAKE_IOVA, &sg, 0),
			 0);
	assert_int_equal(engine_mr_destroy(hca, BASE), 0);
}

#define LONG_LEN	(3u << 20)	/* takes several turns */

/* A message is under way through a window that is unbound, bound anew or loses its MR. */
static void test_midway(void **state)
{
	struct fake_pair *t = *state;
	unsigned int how;

	for (how = 0; how < 4; how++) {
		uint32_t mw = how == 3 ? MW2 : MW1;
		uint32_t verr = ENGINE_VERR_KEY;

		fake_bind(t->b, mw + 1, BASE, FAKE_IOVA, FAKE_MEM, ENGINE_ACCESS_REMOTE);
		expect_ok(t, t->b);
		fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, LONG_LEN, DST)->rkey = mw + 1;
		assert_int_equal(fabric_poll(&t->fabric, t->now, 1), 1);
		if (how == 0) {
			fake_bind(t->b, mw + 2, 0, 0, 0, 0);
		} else if (how == 1) {
			fake_bind(t->b, mw + 1, BASE, FAKE_IOVA, FAKE_MEM, ENGINE_ACCESS_REMOTE);
			verr = ENGINE_VERR_TRANS;
		} else if (how == 2) {
			assert_int_equal(engine_mr_fence(&t->hca[1].base, BASE), 0);
			verr = ENGINE_VERR_FENCED;
		} else {
			fake_inv(t->b, ENGINE_WR_LOCAL_INV, mw + 1);
			verr = ENGINE_VERR_FREE;
		}
		/* b's request has its turn after one of a's. */
		fake_run_all(t);
		if (how != 2)
			fake_expect_wc(t->cq[1], t->b, t->b->sq_pi - 1, false, ENGINE_WC_SUCCESS,
				       0);
		fake_expect_wc(t->cq[0], t->a, t->a->sq_pi - 1, false, ENGINE_WC_REM_ACCESS_ERR,
			       verr | ENGINE_VERR_REMOTE);
		fake_expect_quiet(t);
		fake_reconnect(t);
		if (how == 2) {
			struct sgtab sg;

			assert_int_equal(engine_mw_destroy(&t->hca[1].base, MW1), 0);
			sgtab_init_one(&sg, FAKE_IOVA, FAKE_MEM);
			assert_int_equal(engine_mr_rereg(&t->hca[1].base, BASE, ENGINE_REREG_TRANS,
							 0, 0, FAKE_IOVA, &sg, 0), 0);
		}
	}
}

/* ---- fast registration ---- */

static void test_fast(void **state)
{
	const struct fake_seg segs[3] = {
		{ FAKE_IOVA + 0x5003, 997 }, { FAKE_IOVA + 0x9000, 4096 }, { FAKE_IOVA + 1, 10 },
	};
	const uint32_t len = 997 + 4096 + 10;
	uint8_t *mem, *src;
	struct fake_pair *t = *state;

	mem = t->hca[1].mem;
	src = fake_ptr(&t->hca[0], SRC);
	fake_reg(t->b, FAST + 1, segs, 3, 0x777, FAKE_ALL & ~ENGINE_ACCESS_MW_BIND);
	expect_ok(t, t->b);
	fake_fill(src, len, 5);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, len, 0x777)->rkey = FAST + 1;
	expect_ok(t, t->a);
	assert_memory_equal(mem + 0x5003, src, 997);
	assert_memory_equal(mem + 0x9000, src + 997, 4096);
	assert_memory_equal(mem + 1, src + 997 + 4096, 10);
	write_by(t, FAST + 1, 0x777 + len - 7, ENGINE_VERR_RANGE);

	/* also as a local key: read back */
	fake_send(t->b, ENGINE_WR_RDMA_WRITE, 0x777, len, SRC + 100000)->sge[0].key = FAST + 1;
	expect_ok(t, t->b);
	assert_memory_equal(src, src + 100000, len);

	/* A window may be bound to it, and it may not go then. */
	fake_inv(t->b, ENGINE_WR_LOCAL_INV, FAST + 1);
	expect_ok(t, t->b);
	fake_reg(t->b, FAST + 1, segs, 3, 0x777, FAKE_ALL);
	fake_bind(t->b, MW2 + 1, FAST + 1, 0x777 + 997, 4096, REMOTE_RW);
	fake_run_all(t);
	fake_expect_wc(t->cq[1], t->b, t->b->sq_pi - 2, false, ENGINE_WC_SUCCESS, 0);
	expect_ok(t, t->b);
	fake_send(t->a, ENGINE_WR_RDMA_READ, SRC + 200000, 4096, 0x777 + 997)->rkey = MW2 + 1;
	expect_ok(t, t->a);
	assert_memory_equal(src + 200000, src + 997, 4096);
	fake_inv(t->b, ENGINE_WR_LOCAL_INV, FAST + 1);
	expect_refused(t, t->b, ENGINE_VERR_IN_USE);
	fake_inv(t->b, ENGINE_WR_LOCAL_INV, MW2 + 1);
	fake_inv(t->b, ENGINE_WR_LOCAL_INV, FAST + 1);
	fake_run_all(t);
	fake_expect_wc(t->cq[1], t->b, t->b->sq_pi - 2, false, ENGINE_WC_SUCCESS, 0);
	expect_ok(t, t->b);

	/* The next key, to the very end of the room; the old one is not known any more. */
	fake_reg(t->b, FAST + 2, segs, 1, 0, FAKE_ALL);
	expect_ok(t, t->b);
	write_by(t, FAST + 1, 0, ENGINE_VERR_KEY);
	write_by(t, FAST + 2, 0, 0);
}

static void test_fast_errors(void **state)
{
	struct fake_seg segs[2 * FAST_SEGS];
	struct fake_pair *t = *state;
	struct engine_hca *hca = &t->hca[1].base;
	uint32_t i;

	for (i = 0; i < 2 * FAST_SEGS; i++)
		segs[i] = (struct fake_seg) { FAKE_IOVA + 2 * i * 4096, 4096 };
	fake_reg(t->b, 0x500, segs, 1, 0, FAKE_ALL);
	expect_refused(t, t->b, ENGINE_VERR_KEY);
	fake_reg(t->b, BASE, segs, 1, 0, FAKE_ALL);
	expect_refused(t, t->b, ENGINE_VERR_KEY_TYPE);
	fake_reg(t->b, MW2, segs, 1, 0, FAKE_ALL);
	expect_refused(t, t->b, ENGINE_VERR_KEY_TYPE);
	assert_int_equal(engine_mr_create_fast(hca, 0x500, FAKE_PDN + 1, 1), 0);
	fake_reg(t->b, 0x500, segs, 1, 0, FAKE_ALL);
	expect_refused(t, t->b, ENGINE_VERR_PD);
	fake_reg(t->b, FAST, segs, 1, 0, FAKE_ALL | ENGINE_ACCESS_ZERO_BASED);
	expect_refused(t, t->b, ENGINE_VERR_ACCESS);
	fake_reg(t->b, FAST, segs, 1, 0, ENGINE_ACCESS_REMOTE_WRITE);
	expect_refused(t, t->b, ENGINE_VERR_ACCESS);
	fake_reg(t->b, FAST, segs, 0, 0, FAKE_ALL);
	expect_refused(t, t->b, ENGINE_VERR_LENGTH);
	fake_reg(t->b, FAST, segs, FAST_SEGS + 1, 0, FAKE_ALL);
	expect_refused(t, t->b, ENGINE_VERR_LENGTH);
	fake_reg(t->b, FAST, segs, 2, UINT64_MAX - 8190, FAKE_ALL);
	expect_refused(t, t->b, ENGINE_VERR_LENGTH);
	fake_reg(t->b, FAST, segs, 2, 0, FAKE_ALL)->mem.length--;
	expect_refused(t, t->b, ENGINE_VERR_LENGTH);
	fake_reg(t->b, FAST, segs, 2, 0, FAKE_ALL)->mem.segs = 0;
	expect_refused(t, t->b, ENGINE_VERR_DMA);
	assert_int_equal(hca->stats.translate_faults, 1);
	segs[1].len = 0;
	fake_reg(t->b, FAST, segs, 2, 0, FAKE_ALL);
	expect_refused(t, t->b, ENGINE_VERR_LENGTH);
	segs[1].len = 4096;
	/* after all these it is as it was */
	write_by(t, FAST, 0, ENGINE_VERR_FREE);

	fake_reg(t->b, FAST, segs, FAST_SEGS, 0, FAKE_ALL);
	expect_ok(t, t->b);
	fake_reg(t->b, FAST + 1, segs, 1, 0, FAKE_ALL);
	expect_refused(t, t->b, ENGINE_VERR_IN_USE);
	write_by(t, FAST, FAST_SEGS * 4096 - 8, 0);
	/* An address behind which there is nothing is noticed when it is used. */
	fake_inv(t->b, ENGINE_WR_LOCAL_INV, FAST);
	expect_ok(t, t->b);
	segs[0].addr = 0xdead0000;
	fake_reg(t->b, FAST, segs, 1, 0, FAKE_ALL);
	expect_ok(t, t->b);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, 0)->rkey = FAST;
	expect(t, t->a, ENGINE_WC_REM_OP_ERR, ENGINE_VERR_DMA | ENGINE_VERR_REMOTE);
}

/* ---- invalidation ---- */

static void test_local_inv(void **state)
{
	static const struct {
		uint32_t key, verr;
	} bad[] = {
		{ 0x500, ENGINE_VERR_KEY }, { BASE, ENGINE_VERR_KEY_TYPE },
		{ MW1, ENGINE_VERR_KEY_TYPE }, { MW2 + 1, ENGINE_VERR_KEY },
		{ FAST + 1, ENGINE_VERR_KEY }, { 0x600, ENGINE_VERR_PD },
	};
	struct fake_pair *t = *state;
	size_t i;

	assert_int_equal(engine_mr_create_fast(&t->hca[1].base, 0x600, FAKE_PDN + 1, 1), 0);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		fake_inv(t->b, ENGINE_WR_LOCAL_INV, bad[i].key);
		expect_refused(t, t->b, bad[i].verr);
	}
	/* What is free already may be freed. */
	fake_inv(t->b, ENGINE_WR_LOCAL_INV, MW2);
	expect_ok(t, t->b);
	fake_inv(t->b, ENGINE_WR_LOCAL_INV, FAST);
	expect_ok(t, t->b);
	/* Local requests need no peer, and no answer. */
	fake_qp_free(t->a);
	t->a = NULL;
	fake_bind(t->b, MW2 + 1, BASE, DST, 8, REMOTE_RW);
	expect_ok(t, t->b);
	/* Unsignaled ones are silent. */
	fake_inv(t->b, ENGINE_WR_LOCAL_INV, MW2 + 1)->flags = 0;
	fake_run_all(t);
	fake_expect_quiet(t);
	assert_int_equal(t->hca[1].base.stats.tx_wrs, 4);
}

static void test_send_with_inv(void **state)
{
	const struct fake_seg seg = { FAKE_IOVA, 4096 };
	struct fake_pair *t = *state;
	const struct engine_wc *wc;
	struct engine_send_wr *wr;
	uint32_t key = MW2 + 1;
	unsigned int i;

	fake_bind(t->b, MW2 + 1, BASE, FAKE_IOVA, FAKE_MEM, REMOTE_RW);
	expect_ok(t, t->b);
	fake_reg(t->b, FAST + 1, &seg, 1, 0, FAKE_ALL);
	expect_ok(t, t->b);
	for (i = 0; i < 2; i++, key = FAST + 1) {
		fake_fill(fake_ptr(&t->hca[0], SRC), 64, i);
		fake_recv(t->b, DST, 64);
		wr = fake_send(t->a, ENGINE_WR_SEND_WITH_INV, SRC, 64, 0);
		wr->rkey = key;
		fake_run_all(t);
		wc = fake_expect_wc(t->cq[1], t->b, i, true, ENGINE_WC_SUCCESS, 0);
		assert_true(wc->with_inv);
		assert_false(wc->with_imm);
		assert_int_equal(wc->inv_rkey, key);
		assert_int_equal(wc->byte_len, 64);
		expect_ok(t, t->a);
		assert_memory_equal(fake_ptr(&t->hca[0], SRC), fake_ptr(&t->hca[1], DST), 64);
	}
	write_by(t, MW2 + 1, DST, ENGINE_VERR_FREE);
	write_by(t, FAST + 1, 0, ENGINE_VERR_FREE);
	fake_reg(t->b, FAST + 2, &seg, 1, 0, FAKE_ALL);
	expect_ok(t, t->b);
	/* Others say so, too, that there was none. */
	fake_recv(t->b, DST, 8);
	fake_send(t->a, ENGINE_WR_SEND, SRC, 8, 0)->rkey = FAST + 2;
	fake_run_all(t);
	wc = fake_expect_wc(t->cq[1], t->b, 0, true, ENGINE_WC_SUCCESS, 0);
	assert_false(wc->with_inv);
	expect_ok(t, t->a);
	write_by(t, FAST + 2, 0, 0);
}

/* What the peer may not end: both QPs fail, its receive says why. */
static void test_send_with_inv_errors(void **state)
{
	const struct fake_seg seg = { FAKE_IOVA, 4096 };
	const struct {
		uint32_t key, verr;
	} bad[] = {
		{ 0x500, ENGINE_VERR_KEY }, { BASE, ENGINE_VERR_KEY_TYPE },
		{ MW1 + 1, ENGINE_VERR_KEY_TYPE }, { MW2, ENGINE_VERR_FREE },
		{ FAST + 1, ENGINE_VERR_ACCESS }, { 0x600, ENGINE_VERR_PD },
		{ 0x701, ENGINE_VERR_MW_QP }, { 0x801, ENGINE_VERR_IN_USE },
	};
	struct fake_pair *t = *state;
	struct engine_hca *hca = &t->hca[1].base;
	struct fake_qp *other = fake_qp_new(&t->hca[1], 41, t->cq[1]);
	size_t i;

	fake_connect(other, other);
	fake_bind(t->b, MW1 + 1, BASE, FAKE_IOVA, FAKE_MEM, REMOTE_RW);
	expect_ok(t, t->b);
	fake_reg(t->b, FAST + 1, &seg, 1, 0, ENGINE_ACCESS_LOCAL_WRITE);
	expect_ok(t, t->b);
	assert_int_equal(engine_mr_create_fast(hca, 0x600, FAKE_PDN + 1, 1), 0);
	assert_int_equal(engine_mw_create(hca, 0x700, FAKE_PDN, ENGINE_KEY_MW_2), 0);
	fake_bind(other, 0x701, BASE, FAKE_IOVA, FAKE_MEM, REMOTE_RW);
	expect_ok(t, other);
	assert_int_equal(engine_mr_create_fast(hca, 0x800, FAKE_PDN, 1), 0);
	fake_reg(t->b, 0x801, &seg, 1, 0, FAKE_ALL);
	expect_ok(t, t->b);
	assert_int_equal(engine_mw_create(hca, 0x900, FAKE_PDN, ENGINE_KEY_MW_1), 0);
	fake_bind(t->b, 0x901, 0x801, 0, 8, REMOTE_RW);
	expect_ok(t, t->b);

	fake_reconnect(t);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		fake_recv(t->b, DST, 8);
		fake_inv(t->a, ENGINE_WR_SEND_WITH_INV, bad[i].key);
		fake_run_all(t);
		fake_expect_wc(t->cq[1], t->b, 0, true, ENGINE_WC_REM_INV_REQ_ERR,
			       bad[i].verr | ENGINE_VERR_RECV);
		expect(t, t->a, ENGINE_WC_REM_ACCESS_ERR, bad[i].verr | ENGINE_VERR_REMOTE);
		fake_expect_states(t, ENGINE_QPS_ERR, ENGINE_QPS_ERR);
		fake_reconnect(t);
	}
	fake_qp_free(other);
}

/* One list of requests, as a server of storage has it: each sees what the one before has done. */
static void test_order(void **state)
{
	const struct fake_seg seg = { DST, 4096 };
	struct fake_pair *t = *state;
	unsigned int i;

	for (i = 0; i < 50; i++) {
		uint32_t n = t->b->sq_pi;

		fake_reg(t->b, FAST + i, &seg, 1, 0, FAKE_ALL)->flags = 0;
		fake_send(t->b, ENGINE_WR_RDMA_READ, 0, 64, SRC)->sge[0].key = FAST + i;
		fake_inv(t->b, ENGINE_WR_LOCAL_INV, FAST + i)->flags = 0;
		fake_send(t->b, ENGINE_WR_RDMA_WRITE, DST, 64, SRC + 64);
		fake_fill(fake_ptr(&t->hca[0], SRC), 64, i);
		fake_run_all(t);
		fake_expect_wc(t->cq[1], t->b, n + 1, false, ENGINE_WC_SUCCESS, 0);
		fake_expect_wc(t->cq[1], t->b, n + 3, false, ENGINE_WC_SUCCESS, 0);
		assert_memory_equal(fake_ptr(&t->hca[0], SRC), fake_ptr(&t->hca[0], SRC + 64), 64);
	}
}

/* Requests for keys are flushed like others. */
static void test_flush(void **state)
{
	struct fake_pair *t = *state;

	fake_bind(t->b, 0x500, BASE, DST, 8, 0);
	fake_bind(t->b, MW1 + 1, BASE, DST, 8, REMOTE_RW);
	fake_inv(t->b, ENGINE_WR_LOCAL_INV, MW2);
	fake_run_all(t);
	fake_expect_wc(t->cq[1], t->b, 0, false, ENGINE_WC_MW_BIND_ERR, ENGINE_VERR_KEY);
	fake_expect_wc(t->cq[1], t->b, 1, false, ENGINE_WC_WR_FLUSH_ERR, 0);
	fake_expect_wc(t->cq[1], t->b, 2, false, ENGINE_WC_WR_FLUSH_ERR, 0);
	fake_reconnect(t);
	write_by(t, MW1 + 1, DST, ENGINE_VERR_KEY);
}

int main(void)
{
#define T(name)	cmocka_unit_test_setup_teardown(name, mw_setup, fake_teardown)
	const struct CMUnitTest tests[] = {
		T(test_create),
		T(test_unbound),
		T(test_type_1),
		T(test_zero_based),
		T(test_type_2),
		T(test_bind_errors),
		T(test_mr_below),
		T(test_midway),
		T(test_fast),
		T(test_fast_errors),
		T(test_local_inv),
		T(test_send_with_inv),
		T(test_send_with_inv_errors),
		T(test_order),
		T(test_flush),
	};

	return cmocka_run_group_tests_name("engine_mw", tests, NULL, NULL);
}
