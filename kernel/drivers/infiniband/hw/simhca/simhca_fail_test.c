// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * KUnit tests of simhca's verbs for kernel users when memory is short: each object is made with the
 * nth allocation failing, n = 1, 2, ... until nothing is left that could fail. What fails says so,
 * and leaves nothing behind: the next attempt needs the same numbers, doorbells and memory.
 *
 * Allocations that may sleep never fail before somebody allows it in debugfs: until then, and so
 * whenever they run at boot, these tests are skipped.
 */
#include <kunit/test.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <rdma/ib_cache.h>
#include <rdma/ib_verbs.h>

#include "simhca.h"
#include "simhca_test.h"

/* More allocations than any of this takes */
#define FAIL_MAX_NTH	1000

/* Rings are larger than a page, and than one piece of a ring */
#define FAIL_WRS	1024
#define FAIL_CQES	4096

/**
 * struct fail_verbs - what every test needs
 * @ibdev: the HCA
 * @pd: a PD
 * @cq: a CQ
 * @srq: an SRQ
 */
struct fail_verbs {
	struct ib_device *ibdev;
	struct ib_pd *pd;
	struct ib_cq *cq;
	struct ib_srq *srq;
};

static struct ib_srq *fail_create_srq(struct fail_verbs *t)
{
	struct ib_srq_init_attr init = {
		.attr = { .max_wr = FAIL_WRS, .max_sge = 2 },
		.srq_type = IB_SRQT_BASIC,
	};

	return ib_create_srq(t->pd, &init);
}

static struct ib_qp *fail_create_qp(struct fail_verbs *t, enum ib_qp_type type, struct ib_srq *srq)
{
	struct ib_qp_init_attr init = {
		.send_cq = t->cq,
		.recv_cq = t->cq,
		.srq = srq,
		.cap = {
			.max_send_wr = FAIL_WRS,
			.max_recv_wr = FAIL_WRS,
			.max_send_sge = 2,
			.max_recv_sge = 2,
		},
		.qp_type = type,
	};

	return ib_create_qp(t->pd, &init);
}

/* Does an allocation fail that may sleep? */
static bool fail_possible(void)
{
	void *p;

	current->fail_nth = 1;
	p = kmalloc(FAIL_WRS, GFP_KERNEL);
	current->fail_nth = 0;
	kfree(p);
	return !p;
}

static int fail_init(struct kunit *test)
{
	struct fail_verbs *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	if (!t)
		return -ENOMEM;
	test->priv = t;
	t->ibdev = simhca_test_find_hca();
	if (!t->ibdev)
		kunit_skip(test, "there is no simhca");
	if (!fail_possible())
		kunit_skip(test, "allocations do not fail");

	t->pd = ib_alloc_pd(t->ibdev, 0);
	if (IS_ERR(t->pd))
		return PTR_ERR(t->pd);
	t->cq = ib_alloc_cq(t->ibdev, NULL, 1, 0, IB_POLL_DIRECT);
	if (IS_ERR(t->cq))
		return PTR_ERR(t->cq);
	t->srq = fail_create_srq(t);
	return PTR_ERR_OR_ZERO(t->srq);
}

static void fail_exit(struct kunit *test)
{
	struct fail_verbs *t = test->priv;

	if (!t || !t->ibdev)
		return;
	if (!IS_ERR_OR_NULL(t->srq))
		ib_destroy_srq(t->srq);
	if (!IS_ERR_OR_NULL(t->cq))
		ib_free_cq(t->cq);
	if (!IS_ERR_OR_NULL(t->pd))
		ib_dealloc_pd(t->pd);
	ib_device_put(t->ibdev);
}

/* Makes something with every allocation failing in turn, and undoes it whenever it was made */
static void fail_each(struct kunit *test, void *(*make)(struct fail_verbs *t),
		      void (*undo)(void *made))
{
	struct fail_verbs *t = test->priv;
	unsigned int n, failed = 0;
	bool fired = true;
	void *made;

	for (n = 1; fired; n++) {
		KUNIT_ASSERT_LT(test, n, FAIL_MAX_NTH);
		current->fail_nth = n;
		made = make(t);
		fired = !current->fail_nth;
		current->fail_nth = 0;
		if (!IS_ERR(made)) {
			undo(made);
			continue;
		}
		KUNIT_ASSERT_TRUE(test, fired);
		KUNIT_ASSERT_EQ(test, PTR_ERR(made), -ENOMEM);
		failed++;
	}
	kunit_info(test, "%u allocations, %u failures", n - 2, failed);
	KUNIT_EXPECT_GT(test, failed, 0);
}

static void *make_pd(struct fail_verbs *t)
{
	return ib_alloc_pd(t->ibdev, 0);
}

static void undo_pd(void *made)
{
	ib_dealloc_pd(made);
}

static void fail_pd(struct kunit *test)
{
	fail_each(test, make_pd, undo_pd);
}

static void *make_cq(struct fail_verbs *t)
{
	return ib_alloc_cq(t->ibdev, NULL, FAIL_CQES, 0, IB_POLL_SOFTIRQ);
}

static void undo_cq(void *made)
{
	ib_free_cq(made);
}

static void fail_cq(struct kunit *test)
{
	fail_each(test, make_cq, undo_cq);
}

static void *make_srq(struct fail_verbs *t)
{
	return fail_create_srq(t);
}

static void undo_srq(void *made)
{
	ib_destroy_srq(made);
}

static void fail_srq(struct kunit *test)
{
	fail_each(test, make_srq, undo_srq);
}

static void *make_rc_qp(struct fail_verbs *t)
{
	return fail_create_qp(t, IB_QPT_RC, NULL);
}

static void *make_srq_qp(struct fail_verbs *t)
{
	return fail_create_qp(t, IB_QPT_RC, t->srq);
}

static void *make_ud_qp(struct fail_verbs *t)
{
	return fail_create_qp(t, IB_QPT_UD, NULL);
}

static void undo_qp(void *made)
{
	ib_destroy_qp(made);
}

static void fail_rc_qp(struct kunit *test)
{
	fail_each(test, make_rc_qp, undo_qp);
}

static void fail_srq_qp(struct kunit *test)
{
	fail_each(test, make_srq_qp, undo_qp);
}

static void fail_ud_qp(struct kunit *test)
{
	fail_each(test, make_ud_qp, undo_qp);
}

static void *make_fast_mr(struct fail_verbs *t)
{
	return ib_alloc_mr(t->pd, IB_MR_TYPE_MEM_REG, t->ibdev->attrs.max_fast_reg_page_list_len);
}

static void undo_mr(void *made)
{
	ib_dereg_mr(made);
}

static void fail_fast_mr(struct kunit *test)
{
	fail_each(test, make_fast_mr, undo_mr);
}

static void *make_ah(struct fail_verbs *t)
{
	struct rdma_ah_attr attr = { .type = RDMA_AH_ATTR_TYPE_ROCE };
	union ib_gid gid;
	int err;

	err = rdma_query_gid(t->ibdev, SIMHCA_PORT, 0, &gid);
	if (err)
		return ERR_PTR(err);

	rdma_ah_set_port_num(&attr, SIMHCA_PORT);
	rdma_ah_set_grh(&attr, &gid, 0, 0, 1, 0);
	return rdma_create_ah(t->pd, &attr, RDMA_CREATE_AH_SLEEPABLE);
}

static void undo_ah(void *made)
{
	rdma_destroy_ah(made, RDMA_DESTROY_AH_SLEEPABLE);
}

static void fail_ah(struct kunit *test)
{
	fail_each(test, make_ah, undo_ah);
}

static struct kunit_case simhca_fail_cases[] = {
	KUNIT_CASE(fail_pd),
	KUNIT_CASE(fail_cq),
	KUNIT_CASE(fail_srq),
	KUNIT_CASE(fail_rc_qp),
	KUNIT_CASE(fail_srq_qp),
	KUNIT_CASE(fail_ud_qp),
	KUNIT_CASE(fail_fast_mr),
	KUNIT_CASE(fail_ah),
	{}
};

static struct kunit_suite simhca_fail_suite = {
	.name = "simhca_fail",
	.init = fail_init,
	.exit = fail_exit,
	.test_cases = simhca_fail_cases,
};

kunit_test_suite(simhca_fail_suite);
