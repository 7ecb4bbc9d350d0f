// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * KUnit tests of simhca's verbs for kernel users: fast registration, invalidation from either side,
 * what each mistake ends in, shared receive queues and large rings. They run on the first simhca of
 * the machine, over two connected queue pairs.
 */
#include <kunit/test.h>
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/etherdevice.h>
#include <linux/scatterlist.h>
#include <linux/sizes.h>
#include <rdma/ib_cache.h>
#include <rdma/ib_verbs.h>

#include "simhca.h"
#include "simhca_test.h"

#define TEST_WRS	16
#define TEST_SEGS	8
#define TEST_BUF	SZ_128K
/* All that a test has to wait for happens at once */
#define TEST_WAIT_MS	5000

#define TEST_RIGHTS	(IB_ACCESS_LOCAL_WRITE | IB_ACCESS_REMOTE_WRITE | IB_ACCESS_REMOTE_READ)

/**
 * struct test_end - a queue pair and its memory
 * @qp: the QP
 * @buf: TEST_BUF bytes
 * @dma: their DMA address
 * @mr: an MR for fast registration, of TEST_SEGS segments
 */
struct test_end {
	struct ib_qp *qp;
	u8 *buf;
	dma_addr_t dma;
	struct ib_mr *mr;
};

/**
 * struct test_verbs - what every test needs
 * @ibdev: the HCA
 * @pd: a PD
 * @cq: of all queues
 * @end: two QPs, connected to each other
 * @cqe: of all work requests
 * @wc: the last completions, oldest first
 * @num_wc: how many
 */
struct test_verbs {
	struct ib_device *ibdev;
	struct ib_pd *pd;
	struct ib_cq *cq;
	struct test_end end[2];
	struct ib_cqe cqe;
	struct ib_wc wc[2 * TEST_WRS];
	unsigned int num_wc;
};

static void test_done(struct ib_cq *cq, struct ib_wc *wc)
{
	struct test_verbs *t = container_of(wc->wr_cqe, struct test_verbs, cqe);

	if (t->num_wc < ARRAY_SIZE(t->wc))
		t->wc[t->num_wc++] = *wc;
}

/* Waits for @num completions since the last call */
static void test_wait(struct kunit *test, unsigned int num)
{
	struct test_verbs *t = test->priv;
	unsigned int i;

	for (i = 0; t->num_wc < num && i < TEST_WAIT_MS; i++) {
		if (!ib_process_cq_direct(t->cq, -1))
			usleep_range(500, 1000);
	}
	KUNIT_ASSERT_EQ(test, t->num_wc, num);
	t->num_wc = 0;
}

/* ---- two queue pairs ------------------------------------------------------------------------ */

/* Index of the default GID, which is there some time after the HCA is */
static int test_gid(struct test_verbs *t, union ib_gid *gid, u8 *mac)
{
	const struct ib_gid_attr *attr;
	unsigned int i;
	int err;

	for (i = 0; i < TEST_WAIT_MS / 20; i++) {
		attr = rdma_get_gid_attr(t->ibdev, SIMHCA_PORT, 0);
		if (!IS_ERR(attr)) {
			*gid = attr->gid;
			err = rdma_read_gid_l2_fields(attr, NULL, mac);
			rdma_put_gid_attr(attr);
			return err;
		}
		msleep(20);
	}
	return PTR_ERR(attr);
}

static int test_connect(struct test_verbs *t, struct ib_qp *qp, u32 dest_qpn)
{
	struct ib_qp_attr attr = { .qp_state = IB_QPS_RESET };
	union ib_gid gid;
	u8 mac[ETH_ALEN];
	int err;

	err = test_gid(t, &gid, mac);
	if (err)
		return err;

	err = ib_modify_qp(qp, &attr, IB_QP_STATE);
	if (err)
		return err;

	attr.qp_state = IB_QPS_INIT;
	attr.port_num = SIMHCA_PORT;
	attr.qp_access_flags = TEST_RIGHTS;
	err = ib_modify_qp(qp, &attr, IB_QP_STATE | IB_QP_PKEY_INDEX | IB_QP_PORT |
			   IB_QP_ACCESS_FLAGS);
	if (err)
		return err;

	attr.qp_state = IB_QPS_RTR;
	attr.path_mtu = IB_MTU_1024;
	attr.dest_qp_num = dest_qpn;
	attr.max_dest_rd_atomic = 1;
	attr.min_rnr_timer = 1;
	attr.ah_attr.type = RDMA_AH_ATTR_TYPE_ROCE;
	rdma_ah_set_port_num(&attr.ah_attr, SIMHCA_PORT);
	rdma_ah_set_grh(&attr.ah_attr, &gid, 0, 0, 1, 0);
	ether_addr_copy(attr.ah_attr.roce.dmac, mac);
	err = ib_modify_qp(qp, &attr, IB_QP_STATE | IB_QP_AV | IB_QP_PATH_MTU | IB_QP_DEST_QPN |
			   IB_QP_RQ_PSN | IB_QP_MAX_DEST_RD_ATOMIC | IB_QP_MIN_RNR_TIMER);
	if (err)
		return err;

	attr.qp_state = IB_QPS_RTS;
	attr.timeout = 14;
	attr.retry_cnt = 3;
	attr.rnr_retry = 3;
	attr.max_rd_atomic = 1;
	return ib_modify_qp(qp, &attr, IB_QP_STATE | IB_QP_TIMEOUT | IB_QP_RETRY_CNT |
			    IB_QP_RNR_RETRY | IB_QP_SQ_PSN | IB_QP_MAX_QP_RD_ATOMIC);
}

/* After an error: both QPs anew. What they had posted is gone without completions. */
static void test_reconnect(struct kunit *test)
{
	struct test_verbs *t = test->priv;
	int i;

	for (i = 0; i < 2; i++)
		KUNIT_ASSERT_EQ(test, 0, test_connect(t, t->end[i].qp, t->end[!i].qp->qp_num));
	ib_process_cq_direct(t->cq, -1);
	t->num_wc = 0;
}

static int test_end_init(struct test_verbs *t, struct test_end *end)
{
	struct ib_qp_init_attr init = {
		.send_cq = t->cq,
		.recv_cq = t->cq,
		.cap = {
			.max_send_wr = TEST_WRS,
			.max_recv_wr = TEST_WRS,
			.max_send_sge = 2,
			.max_recv_sge = 1,
		},
		.sq_sig_type = IB_SIGNAL_REQ_WR,
		.qp_type = IB_QPT_RC,
	};

	end->buf = kzalloc(TEST_BUF, GFP_KERNEL);
	if (!end->buf)
		return -ENOMEM;
	end->dma = ib_dma_map_single(t->ibdev, end->buf, TEST_BUF, DMA_BIDIRECTIONAL);
	if (ib_dma_mapping_error(t->ibdev, end->dma))
		return -ENOMEM;
	end->mr = ib_alloc_mr(t->pd, IB_MR_TYPE_SG_GAPS, TEST_SEGS);
	if (IS_ERR(end->mr))
		return PTR_ERR(end->mr);
	end->qp = ib_create_qp(t->pd, &init);
	return PTR_ERR_OR_ZERO(end->qp);
}

static void test_end_free(struct test_verbs *t, struct test_end *end)
{
	if (!IS_ERR_OR_NULL(end->qp))
		ib_destroy_qp(end->qp);
	if (!IS_ERR_OR_NULL(end->mr))
		ib_dereg_mr(end->mr);
	if (end->dma && !ib_dma_mapping_error(t->ibdev, end->dma))
		ib_dma_unmap_single(t->ibdev, end->dma, TEST_BUF, DMA_BIDIRECTIONAL);
	kfree(end->buf);
}

struct ib_device *simhca_test_find_hca(void)
{
	struct ib_device *ibdev = NULL;
	struct simhca_dev *dev;
	struct pci_dev *pdev;

	pdev = pci_get_device(SIMHCA_PCI_VENDOR_ID, SIMHCA_PCI_DEVICE_ID, NULL);
	if (!pdev)
		return NULL;

	device_lock(&pdev->dev);
	dev = pci_get_drvdata(pdev);
	if (dev && ib_device_try_get(&dev->ibdev))
		ibdev = &dev->ibdev;
	device_unlock(&pdev->dev);
	pci_dev_put(pdev);
	return ibdev;
}

static int test_verbs_init(struct kunit *test)
{
	struct test_verbs *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	int i, err;

	if (!t)
		return -ENOMEM;
	test->priv = t;
	t->cqe.done = test_done;
	t->ibdev = simhca_test_find_hca();
	if (!t->ibdev)
		kunit_skip(test, "there is no simhca");

	t->pd = ib_alloc_pd(t->ibdev, 0);
	if (IS_ERR(t->pd))
		return PTR_ERR(t->pd);
	t->cq = ib_alloc_cq(t->ibdev, NULL, 4 * TEST_WRS, 0, IB_POLL_DIRECT);
	if (IS_ERR(t->cq))
		return PTR_ERR(t->cq);
	for (i = 0; i < 2; i++) {
		err = test_end_init(t, &t->end[i]);
		if (err)
			return err;
	}
	for (i = 0; i < 2; i++) {
		err = test_connect(t, t->end[i].qp, t->end[!i].qp->qp_num);
		if (err)
			return err;
	}
	return 0;
}

static void test_verbs_exit(struct kunit *test)
{
	struct test_verbs *t = test->priv;
	int i;

	if (!t || !t->ibdev)
		return;
	for (i = 0; i < 2; i++)
		test_end_free(t, &t->end[i]);
	if (!IS_ERR_OR_NULL(t->cq))
		ib_free_cq(t->cq);
	if (!IS_ERR_OR_NULL(t->pd))
		ib_dealloc_pd(t->pd);
	ib_device_put(t->ibdev);
}

/* ---- work requests --------------------------------------------------------------------------- */

static void test_reg_wr(struct test_verbs *t, struct ib_reg_wr *reg, struct ib_mr *mr)
{
	*reg = (struct ib_reg_wr) {
		.wr = {
			.wr_cqe = &t->cqe,
			.opcode = IB_WR_REG_MR,
			.send_flags = IB_SEND_SIGNALED,
		},
		.mr = mr,
		.key = mr->rkey,
		.access = TEST_RIGHTS,
	};
}

/* Posts, and expects one completion with @status */
static void test_post(struct kunit *test, int end, const struct ib_send_wr *wr,
		      enum ib_wc_status status)
{
	struct test_verbs *t = test->priv;

	KUNIT_ASSERT_EQ(test, 0, ib_post_send(t->end[end].qp, wr, NULL));
	test_wait(test, 1);
	KUNIT_EXPECT_EQ(test, t->wc[0].status, status);
	KUNIT_EXPECT_PTR_EQ(test, t->wc[0].qp, t->end[end].qp);
}

static void test_reg(struct kunit *test, int end, enum ib_wc_status status)
{
	struct test_verbs *t = test->priv;
	struct ib_reg_wr reg;

	test_reg_wr(t, &reg, t->end[end].mr);
	test_post(test, end, &reg.wr, status);
	if (status == IB_WC_SUCCESS)
		KUNIT_EXPECT_EQ(test, t->wc[0].opcode, IB_WC_REG_MR);
}

static void test_local_inv(struct kunit *test, int end, u32 key, enum ib_wc_status status)
{
	struct test_verbs *t = test->priv;
	struct ib_send_wr wr = {
		.wr_cqe = &t->cqe,
		.opcode = IB_WR_LOCAL_INV,
		.send_flags = IB_SEND_SIGNALED,
		.ex.invalidate_rkey = key,
	};

	test_post(test, end, &wr, status);
	if (status == IB_WC_SUCCESS)
		KUNIT_EXPECT_EQ(test, t->wc[0].opcode, IB_WC_LOCAL_INV);
}

/* From the start of the buffer of end 0 to the peer's memory */
static void test_write(struct kunit *test, u64 remote_addr, u32 rkey, u32 length,
		       enum ib_wc_status status)
{
	struct test_verbs *t = test->priv;
	struct ib_sge sge = {
		.addr = t->end[0].dma,
		.length = length,
		.lkey = t->pd->local_dma_lkey,
	};
	struct ib_rdma_wr rdma = {
		.wr = {
			.wr_cqe = &t->cqe,
			.opcode = IB_WR_RDMA_WRITE,
			.send_flags = IB_SEND_SIGNALED,
			.sg_list = &sge,
			.num_sge = 1,
		},
		.remote_addr = remote_addr,
		.rkey = rkey,
	};

	test_post(test, 0, &rdma.wr, status);
	if (status != IB_WC_SUCCESS)
		test_reconnect(test);
}

/* Parts of the buffer of an end, as a mapped list; returns what ib_map_mr_sg() does */
static int test_map(struct kunit *test, int end, const u32 (*parts)[2], int num)
{
	struct scatterlist sg[2 * TEST_SEGS];
	struct test_verbs *t = test->priv;
	int i;

	KUNIT_ASSERT_LE(test, num, ARRAY_SIZE(sg));
	sg_init_table(sg, num);
	for (i = 0; i < num; i++) {
		sg_dma_address(&sg[i]) = t->end[end].dma + parts[i][0];
		sg_dma_len(&sg[i]) = parts[i][1];
	}
	return ib_map_mr_sg(t->end[end].mr, sg, num, NULL, PAGE_SIZE);
}

/* ---- tests ----------------------------------------------------------------------------------- */

/* A list with gaps, of any alignment: every byte goes where the list says, and none elsewhere */
static void reg_mr_list(struct kunit *test)
{
	static const u32 parts[][2] = {
		{ 0x1003, 0x0ffd }, { 0x5000, 1 }, { 0x9001, 0x1234 }, { 0x3000, 0x1000 },
	};
	struct test_verbs *t = test->priv;
	u8 *src = t->end[0].buf, *dst = t->end[1].buf;
	struct ib_mr *mr = t->end[1].mr;
	u32 length = 0;
	int i;

	for (i = 0; i < TEST_BUF; i++)
		src[i] = 1 + i % 251;
	KUNIT_ASSERT_EQ(test, test_map(test, 1, parts, ARRAY_SIZE(parts)), ARRAY_SIZE(parts));
	for (i = 0; i < ARRAY_SIZE(parts); i++)
		length += parts[i][1];
	KUNIT_ASSERT_EQ(test, mr->length, length);

	test_reg(test, 1, IB_WC_SUCCESS);
	test_write(test, mr->iova, mr->rkey, length, IB_WC_SUCCESS);
	for (i = 0; i < ARRAY_SIZE(parts); i++) {
		u8 *at = dst + parts[i][0];

		KUNIT_EXPECT_EQ(test, 0, memcmp(src, at, parts[i][1]));
		src += parts[i][1];
		memset(at, 0, parts[i][1]);
	}
	KUNIT_EXPECT_NULL(test, memchr_inv(dst, 0, TEST_BUF));

	test_write(test, mr->iova + 1, mr->rkey, length, IB_WC_REM_ACCESS_ERR);
	test_write(test, mr->iova - 1, mr->rkey, 1, IB_WC_REM_ACCESS_ERR);
}

/* Each use has a key of its own; the old one is not known any more */
static void reg_mr_keys(struct kunit *test)
{
	static const u32 part[][2] = { { 0, SZ_4K } };
	struct test_verbs *t = test->priv;
	struct ib_mr *mr = t->end[1].mr;
	u32 old = 0;
	int i;

	/* over the end of the variants */
	ib_update_fast_reg_key(mr, U8_MAX - 5);
	for (i = 0; i < 12; i++) {
		ib_update_fast_reg_key(mr, ib_inc_rkey(mr->rkey));
		KUNIT_ASSERT_EQ(test, test_map(test, 1, part, 1), 1);
		test_reg(test, 1, IB_WC_SUCCESS);
		test_write(test, mr->iova, mr->rkey, 64, IB_WC_SUCCESS);
		if (old)
			test_write(test, mr->iova, old, 64, IB_WC_REM_ACCESS_ERR);
		test_local_inv(test, 1, mr->rkey, IB_WC_SUCCESS);
		test_write(test, mr->iova, mr->rkey, 64, IB_WC_REM_ACCESS_ERR);
		old = mr->rkey;
	}
}

/* A list is cut where the MR is full; runs that follow each other need no room of their own */
static void reg_mr_room(struct kunit *test)
{
	struct test_verbs *t = test->priv;
	u32 parts[2 * TEST_SEGS][2];
	struct scatterlist sg;
	unsigned int offset;
	int i;

	for (i = 0; i < ARRAY_SIZE(parts); i++) {
		parts[i][0] = i * SZ_8K;
		parts[i][1] = SZ_4K;
	}
	KUNIT_EXPECT_EQ(test, test_map(test, 0, parts, TEST_SEGS), TEST_SEGS);
	KUNIT_EXPECT_EQ(test, test_map(test, 0, parts, TEST_SEGS + 3), TEST_SEGS);
	KUNIT_EXPECT_EQ(test, t->end[0].mr->length, TEST_SEGS * SZ_4K);
	for (i = 0; i < ARRAY_SIZE(parts); i++)
		parts[i][0] = i * SZ_4K;
	KUNIT_EXPECT_EQ(test, test_map(test, 0, parts, ARRAY_SIZE(parts)), ARRAY_SIZE(parts));
	KUNIT_EXPECT_EQ(test, t->end[0].mr->length, 2 * TEST_SEGS * SZ_4K);

	sg_init_table(&sg, 1);
	sg_dma_address(&sg) = t->end[0].dma;
	sg_dma_len(&sg) = SZ_4K;
	offset = 100;
	KUNIT_EXPECT_EQ(test, ib_map_mr_sg(t->end[0].mr, &sg, 1, &offset, PAGE_SIZE), 1);
	KUNIT_EXPECT_EQ(test, offset, 0);
	KUNIT_EXPECT_EQ(test, t->end[0].mr->iova, t->end[0].dma + 100);
	KUNIT_EXPECT_EQ(test, t->end[0].mr->length, SZ_4K - 100);
	offset = SZ_4K + 1;
	KUNIT_EXPECT_EQ(test, ib_map_mr_sg(t->end[0].mr, &sg, 1, &offset, PAGE_SIZE), -EINVAL);
	KUNIT_EXPECT_EQ(test, ib_map_mr_sg(t->end[0].mr, &sg, 0, NULL, PAGE_SIZE), -EINVAL);
}

/* Register, write with it and invalidate in one list: each sees what the one before has done */
static void reg_mr_chain(struct kunit *test)
{
	static const u32 part[][2] = { { 0, SZ_4K } };
	struct test_verbs *t = test->priv;
	struct ib_mr *mr = t->end[0].mr;
	struct ib_sge sge = { .length = 100 };
	struct ib_send_wr inv = {
		.wr_cqe = &t->cqe,
		.opcode = IB_WR_LOCAL_INV,
		.send_flags = IB_SEND_SIGNALED,
	};
	struct ib_rdma_wr rdma = {
		.wr = {
			.next = &inv,
			.wr_cqe = &t->cqe,
			.opcode = IB_WR_RDMA_WRITE,
			.sg_list = &sge,
			.num_sge = 1,
		},
	};
	struct ib_reg_wr reg;
	int i;

	KUNIT_ASSERT_EQ(test, test_map(test, 1, part, 1), 1);
	test_reg(test, 1, IB_WC_SUCCESS);
	rdma.remote_addr = t->end[1].mr->iova;
	rdma.rkey = t->end[1].mr->rkey;
	for (i = 0; i < 50; i++) {
		memset(t->end[0].buf, 1 + i, 100);
		ib_update_fast_reg_key(mr, ib_inc_rkey(mr->rkey));
		KUNIT_ASSERT_EQ(test, test_map(test, 0, part, 1), 1);
		test_reg_wr(t, &reg, mr);
		reg.wr.send_flags = 0;
		reg.wr.next = &rdma.wr;
		sge.addr = mr->iova;
		sge.lkey = mr->lkey;
		inv.ex.invalidate_rkey = mr->rkey;
		test_post(test, 0, &reg.wr, IB_WC_SUCCESS);
		KUNIT_ASSERT_EQ(test, t->wc[0].opcode, IB_WC_LOCAL_INV);
		KUNIT_ASSERT_EQ(test, 0, memcmp(t->end[0].buf, t->end[1].buf, 100));
	}
}

/* The peer ends it, and the receiver is told which */
static void send_with_inv(struct kunit *test)
{
	static const u32 part[][2] = { { 0, SZ_4K } };
	struct test_verbs *t = test->priv;
	struct ib_mr *mr = t->end[1].mr;
	struct ib_recv_wr recv = { .wr_cqe = &t->cqe };
	struct ib_send_wr send = {
		.wr_cqe = &t->cqe,
		.opcode = IB_WR_SEND_WITH_INV,
		.send_flags = IB_SEND_SIGNALED,
		.ex.invalidate_rkey = mr->rkey,
	};
	int i, j;

	KUNIT_ASSERT_EQ(test, test_map(test, 1, part, 1), 1);
	test_reg(test, 1, IB_WC_SUCCESS);
	for (i = 0; i < 2; i++) {
		KUNIT_ASSERT_EQ(test, 0, ib_post_recv(t->end[1].qp, &recv, NULL));
		KUNIT_ASSERT_EQ(test, 0, ib_post_send(t->end[0].qp, &send, NULL));
		test_wait(test, 2);
		for (j = 0; j < 2; j++) {
			struct ib_wc *wc = &t->wc[j];

			if (wc->qp == t->end[0].qp) {
				KUNIT_EXPECT_EQ(test, wc->status,
						i ? IB_WC_REM_ACCESS_ERR : IB_WC_SUCCESS);
				continue;
			}
			KUNIT_EXPECT_EQ(test, wc->status,
					i ? IB_WC_REM_INV_REQ_ERR : IB_WC_SUCCESS);
			if (i)
				continue;
			KUNIT_EXPECT_EQ(test, wc->opcode, IB_WC_RECV);
			KUNIT_EXPECT_TRUE(test, wc->wc_flags & IB_WC_WITH_INVALIDATE);
			KUNIT_EXPECT_EQ(test, wc->ex.invalidate_rkey, mr->rkey);
		}
		if (!i)
			test_write(test, mr->iova, mr->rkey, 8, IB_WC_REM_ACCESS_ERR);
	}
	test_reconnect(test);
	ib_update_fast_reg_key(mr, ib_inc_rkey(mr->rkey));
	test_reg(test, 1, IB_WC_SUCCESS);
	test_write(test, mr->iova, mr->rkey, 8, IB_WC_SUCCESS);
}

static void mistakes(struct kunit *test)
{
	static const u32 part[][2] = { { 0, SZ_4K } };
	struct test_verbs *t = test->priv;
	struct ib_mr *mr = t->end[1].mr;
	u32 max = t->ibdev->attrs.max_fast_reg_page_list_len;
	struct ib_reg_wr reg;

	KUNIT_EXPECT_TRUE(test, IS_ERR(ib_alloc_mr(t->pd, IB_MR_TYPE_MEM_REG, 0)));
	KUNIT_EXPECT_TRUE(test, IS_ERR(ib_alloc_mr(t->pd, IB_MR_TYPE_MEM_REG, max + 1)));

	KUNIT_ASSERT_EQ(test, test_map(test, 1, part, 1), 1);
	/* the peer may not write what the owner may not */
	test_reg_wr(t, &reg, mr);
	reg.access = IB_ACCESS_REMOTE_WRITE;
	test_post(test, 1, &reg.wr, IB_WC_MW_BIND_ERR);
	test_reconnect(test);
	/* what is registered must be invalidated first */
	test_reg(test, 1, IB_WC_SUCCESS);
	test_reg(test, 1, IB_WC_MW_BIND_ERR);
	test_reconnect(test);
	test_write(test, mr->iova, mr->rkey, 8, IB_WC_SUCCESS);
	/* by its whole key */
	test_local_inv(test, 1, ib_inc_rkey(mr->rkey), IB_WC_MW_BIND_ERR);
	test_reconnect(test);
	test_write(test, mr->iova, mr->rkey, 8, IB_WC_SUCCESS);
	test_local_inv(test, 1, mr->rkey, IB_WC_SUCCESS);
}

/* As many receives as there is room for, whatever was completed; and what draining waits for */
static void test_srq_use(struct kunit *test, struct ib_srq *srq, u32 max_wr, struct ib_qp *qp)
{
	struct test_verbs *t = test->priv;
	struct ib_send_wr send = {
		.wr_cqe = &t->cqe,
		.opcode = IB_WR_SEND,
		.send_flags = IB_SEND_SIGNALED,
	};
	struct ib_recv_wr recv = { .wr_cqe = &t->cqe };
	unsigned long start;
	u32 posted = 0;
	int i, j;

	for (i = 0; i < 50; i++) {
		for (; posted < max_wr; posted++)
			KUNIT_ASSERT_EQ(test, 0, ib_post_srq_recv(srq, &recv, NULL));
		KUNIT_ASSERT_EQ(test, -ENOMEM, ib_post_srq_recv(srq, &recv, NULL));
		for (j = 0; j < 3; j++)
			KUNIT_ASSERT_EQ(test, 0, ib_post_send(t->end[0].qp, &send, NULL));
		test_wait(test, 6);
		for (j = 0; j < 6; j++) {
			KUNIT_ASSERT_EQ(test, t->wc[j].status, IB_WC_SUCCESS);
			if (t->wc[j].qp == qp)
				posted--;
		}
		KUNIT_ASSERT_EQ(test, posted, max_wr - 3);
	}
	/* Waits for the event that no receive will be taken any more, for a minute at most */
	start = jiffies;
	ib_drain_qp(qp);
	KUNIT_EXPECT_TRUE(test, time_before(jiffies, start + 10 * HZ));
}

static void shared_receives(struct kunit *test)
{
	struct test_verbs *t = test->priv;
	struct ib_srq_init_attr srq_init = {
		.attr = { .max_wr = 4, .max_sge = 1 },
		.srq_type = IB_SRQT_BASIC,
	};
	struct ib_qp_init_attr init = {
		.send_cq = t->cq,
		.recv_cq = t->cq,
		.cap = { .max_send_wr = TEST_WRS, .max_send_sge = 1 },
		.qp_type = IB_QPT_RC,
	};
	struct ib_srq_attr attr;
	struct ib_srq *srq;
	struct ib_qp *qp;

	srq = ib_create_srq(t->pd, &srq_init);
	KUNIT_ASSERT_FALSE(test, IS_ERR(srq));
	KUNIT_EXPECT_EQ(test, 0, ib_query_srq(srq, &attr));
	KUNIT_EXPECT_EQ(test, attr.max_wr, srq_init.attr.max_wr);
	attr.srq_limit = attr.max_wr + 1;
	KUNIT_EXPECT_EQ(test, -EINVAL, ib_modify_srq(srq, &attr, IB_SRQ_LIMIT));

	init.srq = srq;
	qp = ib_create_qp(t->pd, &init);
	KUNIT_EXPECT_FALSE(test, IS_ERR(qp));
	if (!IS_ERR(qp)) {
		if (!test_connect(t, qp, t->end[0].qp->qp_num) &&
		    !test_connect(t, t->end[0].qp, qp->qp_num))
			test_srq_use(test, srq, attr.max_wr, qp);
		else
			KUNIT_FAIL(test, "cannot connect");
		ib_destroy_qp(qp);
	}
	ib_destroy_srq(srq);
}

/* Posts to @qp in batches until all its entries were used, each with a number of its own */
static void test_all_entries(struct kunit *test, struct ib_qp *qp, struct ib_cq *cq, u32 entries)
{
	struct ib_send_wr wr = {
		.opcode = IB_WR_SEND,
		.send_flags = IB_SEND_SIGNALED | IB_SEND_INLINE,
	};
	struct ib_wc wc;
	u64 posted = 0;
	u64 done = 0;
	int i;

	while (done < entries) {
		for (i = 0; i < 256; i++) {
			wr.wr_id = posted++;
			KUNIT_ASSERT_EQ(test, 0, ib_post_send(qp, &wr, NULL));
		}
		for (i = 0; done < posted && i < TEST_WAIT_MS;) {
			if (ib_poll_cq(cq, 1, &wc) != 1) {
				usleep_range(500, 1000);
				i++;
				continue;
			}
			KUNIT_ASSERT_EQ(test, wc.status, IB_WC_WR_FLUSH_ERR);
			KUNIT_ASSERT_EQ(test, wc.wr_id, done);
			done++;
		}
		KUNIT_ASSERT_EQ(test, done, posted);
	}
}

/*
 * As large as the HCA allows, which is more than can be had in one piece: every entry is one that
 * the device knows, too. A QP in ERR flushes what is posted.
 */
static void large_rings(struct kunit *test)
{
	struct test_verbs *t = test->priv;
	struct ib_device_attr *limits = &t->ibdev->attrs;
	struct ib_qp_attr attr = { .qp_state = IB_QPS_ERR };
	struct ib_cq_init_attr cq_init = { .cqe = SZ_1M };
	struct ib_qp_init_attr init = {
		.cap = {
			.max_send_wr = limits->max_qp_wr,
			.max_recv_wr = limits->max_qp_wr,
			.max_send_sge = limits->max_send_sge,
			.max_recv_sge = limits->max_recv_sge,
		},
		.qp_type = IB_QPT_RC,
	};
	struct ib_cq *cq;
	struct ib_qp *qp;

	cq = ib_create_cq(t->ibdev, NULL, NULL, NULL, &cq_init);
	KUNIT_ASSERT_FALSE(test, IS_ERR(cq));
	init.send_cq = cq;
	init.recv_cq = cq;
	qp = ib_create_qp(t->pd, &init);
	KUNIT_EXPECT_FALSE(test, IS_ERR(qp));
	if (!IS_ERR(qp)) {
		KUNIT_EXPECT_EQ(test, 0, test_connect(t, qp, qp->qp_num));
		KUNIT_EXPECT_EQ(test, 0, ib_modify_qp(qp, &attr, IB_QP_STATE));
		test_all_entries(test, qp, cq, limits->max_qp_wr + 1);
		ib_destroy_qp(qp);
	}
	ib_destroy_cq(cq);
}

static struct kunit_case simhca_verbs_cases[] = {
	KUNIT_CASE(reg_mr_list),
	KUNIT_CASE(reg_mr_keys),
	KUNIT_CASE(reg_mr_room),
	KUNIT_CASE(reg_mr_chain),
	KUNIT_CASE(send_with_inv),
	KUNIT_CASE(mistakes),
	KUNIT_CASE(shared_receives),
	KUNIT_CASE_SLOW(large_rings),
	{}
};

static struct kunit_suite simhca_verbs_suite = {
	.name = "simhca_verbs",
	.init = test_verbs_init,
	.exit = test_verbs_exit,
	.test_cases = simhca_verbs_cases,
};

kunit_test_suite(simhca_verbs_suite);
