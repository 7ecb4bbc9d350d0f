// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * What simhca does with a work request: every operation over ordinary, device and dma-buf memory,
 * and the completion status of every mistake.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/udmabuf.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pattern.h"
#include "rc_pair.h"
#include "sizes.h"

#define BUF (2 * MIB)

/* Where in the device memory the data lies. */
#define VRAM_AT (64 * MIB)

FIXTURE(verbs) {
	struct rc_pair pair;
	uint8_t *local, *remote;	/* BUF bytes each */
	struct ibv_mr *local_mr, *remote_mr;
	int dmabuf;			/* behind @remote, or -1 */
};

FIXTURE_VARIANT(verbs) {
	enum { MEM_HOST, MEM_DEVICE, MEM_DMABUF } kind;
};

FIXTURE_VARIANT_ADD(verbs, host) { .kind = MEM_HOST };
FIXTURE_VARIANT_ADD(verbs, device) { .kind = MEM_DEVICE };
FIXTURE_VARIANT_ADD(verbs, dmabuf) { .kind = MEM_DMABUF };

/* A dma-buf of system memory, with a mapping of the same memory at *@addr. Negative errno. */
static int udmabuf_make(size_t len, uint8_t **addr)
{
	struct udmabuf_create create = { .flags = UDMABUF_FLAGS_CLOEXEC, .size = len };
	int memfd, ctl, fd = -1;

	memfd = memfd_create("udmabuf", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	if (memfd < 0)
		return -errno;
	ctl = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	if (ctl < 0)
		goto out_memfd;
	if (ftruncate(memfd, len) || fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK))
		goto out;
	*addr = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	if (*addr == MAP_FAILED)
		goto out;
	create.memfd = memfd;
	fd = ioctl(ctl, UDMABUF_CREATE, &create);
out:
	close(ctl);
out_memfd:
	close(memfd);
	return fd < 0 ? -errno : fd;
}

FIXTURE_SETUP(verbs)
{
	uint64_t size;
	int fd;

	self->dmabuf = -1;
	ASSERT_EQ(0, rc_pair_open(&self->pair, NULL));
	switch (variant->kind) {
	case MEM_DEVICE:
		fd = vram_open(O_RDWR, &size);
		ASSERT_GE(fd, 0);
		self->local = mmap(NULL, 2 * BUF, PROT_READ | PROT_WRITE, MAP_SHARED, fd, VRAM_AT);
		ASSERT_NE(MAP_FAILED, self->local);
		close(fd);
		self->remote = self->local + BUF;
		break;
	case MEM_HOST:
		self->local = mmap(NULL, 2 * BUF, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ASSERT_NE(MAP_FAILED, self->local);
		self->remote = self->local + BUF;
		break;
	case MEM_DMABUF:
		self->local = mmap(NULL, BUF, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				   -1, 0);
		ASSERT_NE(MAP_FAILED, self->local);
		self->dmabuf = udmabuf_make(BUF, &self->remote);
		ASSERT_GE(self->dmabuf, 0);
		break;
	}
	self->local_mr = ibv_reg_mr(self->pair.pd, self->local, BUF, RC_PAIR_ALL);
	ASSERT_NE(NULL, self->local_mr);
	if (variant->kind == MEM_DMABUF)
		self->remote_mr = ibv_reg_dmabuf_mr(self->pair.pd, 0, BUF,
						    (uintptr_t)self->remote, self->dmabuf,
						    RC_PAIR_ALL);
	else
		self->remote_mr = ibv_reg_mr(self->pair.pd, self->remote, BUF, RC_PAIR_ALL);
	ASSERT_NE(NULL, self->remote_mr) TH_LOG("%s", strerror(errno));
	memset(self->local, 0, BUF);
	memset(self->remote, 0, BUF);
}

FIXTURE_TEARDOWN(verbs)
{
	EXPECT_EQ(0, ibv_dereg_mr(self->local_mr));
	EXPECT_EQ(0, ibv_dereg_mr(self->remote_mr));
	/* The next test finds nothing of this one. */
	memset(self->local, 0, BUF);
	memset(self->remote, 0, BUF);
	rc_pair_close(&self->pair);
	if (self->dmabuf >= 0)
		close(self->dmabuf);
}

#define RDMA(op, at_l, at_r, len) \
	rc_pair_rdma(&self->pair, op, self->local + (at_l), self->local_mr->lkey, len, \
		     self->remote + (at_r), self->remote_mr->rkey)

static int post_recv(struct rc_pair *pair, uint64_t id, void *addr, uint32_t len, uint32_t lkey)
{
	struct ibv_sge sge = { .addr = (uintptr_t)addr, .length = len, .lkey = lkey };
	struct ibv_recv_wr wr = { .wr_id = id, .sg_list = &sge, .num_sge = !!len }, *bad;

	return ibv_post_recv(pair->qp[1], &wr, &bad);
}

TEST_F_TIMEOUT(verbs, write_and_read, 120)
{
	static const size_t sizes[] = { 0, 1, 7, 64, 4095, 4096, 65537, MIB + 1 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		size_t len = sizes[i];

		pattern_fill(self->local + 3, len, i);
		ASSERT_EQ(IBV_WC_SUCCESS, RDMA(IBV_WR_RDMA_WRITE, 3, 11, len));
		ASSERT_TRUE(pattern_matches(self->remote + 11, len, i));
		ASSERT_EQ(0, self->remote[10]);
		ASSERT_EQ(0, self->remote[11 + len]);
		memset(self->local, 0, BUF);
		ASSERT_EQ(IBV_WC_SUCCESS, RDMA(IBV_WR_RDMA_READ, 5, 11, len));
		ASSERT_TRUE(pattern_matches(self->local + 5, len, i));
		ASSERT_EQ(0, self->local[4]);
		ASSERT_EQ(0, self->local[5 + len]);
		memset(self->local, 0, BUF);
		memset(self->remote, 0, BUF);
	}
}

TEST_F_TIMEOUT(verbs, send_and_immediate, 120)
{
	struct ibv_wc wc[2];
	struct ibv_sge sge[3] = {
		{ (uintptr_t)self->local, 1000, self->local_mr->lkey },
		{ (uintptr_t)self->local + 5000, 1, self->local_mr->lkey },
		{ (uintptr_t)self->local + 9000, 3000, self->local_mr->lkey },
	};
	struct ibv_send_wr wr = {
		.wr_id = 1, .sg_list = sge, .num_sge = 3, .opcode = IBV_WR_SEND_WITH_IMM,
		.imm_data = htobe32(0xcafe), .send_flags = IBV_SEND_SIGNALED,
	}, *bad;

	pattern_fill(self->local, 12000, 9);
	ASSERT_EQ(0, post_recv(&self->pair, 2, self->remote + 1, 8000, self->remote_mr->lkey));
	ASSERT_EQ(0, ibv_post_send(self->pair.qp[0], &wr, &bad));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, rc_pair_poll(&self->pair, &wc[0]));
		ASSERT_EQ(IBV_WC_SUCCESS, wc[0].status);
		if (wc[0].wr_id == 2)
			wc[1] = wc[0];
	}
	ASSERT_EQ(2, wc[1].wr_id);
	ASSERT_EQ(IBV_WC_RECV, wc[1].opcode);
	ASSERT_EQ(4001, wc[1].byte_len);
	ASSERT_TRUE(wc[1].wc_flags & IBV_WC_WITH_IMM);
	ASSERT_EQ(htobe32(0xcafe), wc[1].imm_data);
	ASSERT_EQ(self->pair.qp[1]->qp_num, wc[1].qp_num);
	ASSERT_EQ(0, memcmp(self->remote + 1, self->local, 1000));
	ASSERT_EQ(self->local[5000], self->remote[1001]);
	ASSERT_EQ(0, memcmp(self->remote + 1002, self->local + 9000, 3000));

	/* Inline, the buffer is the application's again at once and needs no key. */
	strcpy((char *)self->local, "inline");
	sge[0] = (struct ibv_sge){ (uintptr_t)self->local, 7, 0 };
	wr.num_sge = 1;
	wr.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
	wr.send_flags = IBV_SEND_INLINE | IBV_SEND_SIGNALED;
	wr.wr.rdma.remote_addr = (uintptr_t)self->remote + 100;
	wr.wr.rdma.rkey = self->remote_mr->rkey;
	ASSERT_EQ(0, post_recv(&self->pair, 3, NULL, 0, 0));
	ASSERT_EQ(0, ibv_post_send(self->pair.qp[0], &wr, &bad));
	memset(self->local, 0, 7);
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, rc_pair_poll(&self->pair, &wc[0]));
		ASSERT_EQ(IBV_WC_SUCCESS, wc[0].status);
		if (wc[0].wr_id == 3)
			wc[1] = wc[0];
	}
	ASSERT_EQ(3, wc[1].wr_id);
	ASSERT_EQ(IBV_WC_RECV_RDMA_WITH_IMM, wc[1].opcode);
	ASSERT_EQ(7, wc[1].byte_len);
	ASSERT_STREQ("inline", (char *)self->remote + 100);
}

TEST_F_TIMEOUT(verbs, atomics, 120)
{
	uint64_t *old = (uint64_t *)(self->local + 64), *target = (uint64_t *)(self->remote + 128);
	struct ibv_sge sge = { (uintptr_t)old, 8, self->local_mr->lkey };
	struct ibv_send_wr wr = {
		.sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_ATOMIC_FETCH_AND_ADD,
		.send_flags = IBV_SEND_SIGNALED,
		.wr.atomic = { .remote_addr = (uintptr_t)target, .rkey = self->remote_mr->rkey,
			       .compare_add = 5 },
	}, *bad;
	struct ibv_wc wc;

	*target = 37;
	ASSERT_EQ(0, ibv_post_send(self->pair.qp[0], &wr, &bad));
	ASSERT_EQ(0, rc_pair_poll(&self->pair, &wc));
	ASSERT_EQ(IBV_WC_SUCCESS, wc.status);
	ASSERT_EQ(IBV_WC_FETCH_ADD, wc.opcode);
	ASSERT_EQ(37, *old);
	ASSERT_EQ(42, *target);

	wr.opcode = IBV_WR_ATOMIC_CMP_AND_SWP;
	for (int hit = 0; hit < 2; hit++) {
		wr.wr.atomic.compare_add = hit ? 42 : 41;
		wr.wr.atomic.swap = 1000;
		ASSERT_EQ(0, ibv_post_send(self->pair.qp[0], &wr, &bad));
		ASSERT_EQ(0, rc_pair_poll(&self->pair, &wc));
		ASSERT_EQ(IBV_WC_SUCCESS, wc.status);
		ASSERT_EQ(42, *old);
		ASSERT_EQ(hit ? 1000 : 42, *target);
	}

	wr.wr.atomic.remote_addr += 4;
	ASSERT_EQ(0, ibv_post_send(self->pair.qp[0], &wr, &bad));
	ASSERT_EQ(0, rc_pair_poll(&self->pair, &wc));
	ASSERT_EQ(IBV_WC_REM_INV_REQ_ERR, wc.status);
}

TEST_F_TIMEOUT(verbs, completion_events, 120)
{
	struct pollfd pfd = { .fd = self->pair.channel->fd, .events = POLLIN };
	struct ibv_sge sge = { (uintptr_t)self->local, 4096, self->local_mr->lkey };
	struct ibv_send_wr wr = {
		.sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_RDMA_WRITE,
		.send_flags = IBV_SEND_SIGNALED,
		.wr.rdma = { (uintptr_t)self->remote, self->remote_mr->rkey },
	}, *bad;
	struct ibv_cq *cq;
	struct ibv_wc wc;
	void *context;

	for (int i = 0; i < 100; i++) {
		ASSERT_EQ(0, ibv_req_notify_cq(self->pair.cq, 0));
		ASSERT_EQ(0, poll(&pfd, 1, 0));
		ASSERT_EQ(0, ibv_post_send(self->pair.qp[0], &wr, &bad));
		ASSERT_EQ(1, poll(&pfd, 1, 10000)) TH_LOG("event %d is lost", i);
		ASSERT_EQ(0, ibv_get_cq_event(self->pair.channel, &cq, &context));
		ASSERT_EQ(self->pair.cq, cq);
		ibv_ack_cq_events(cq, 1);
		ASSERT_EQ(1, ibv_poll_cq(cq, 1, &wc));
		ASSERT_EQ(IBV_WC_SUCCESS, wc.status);
	}

	/* Solicited only: a plain write does not count, a failure does. */
	ASSERT_EQ(0, ibv_req_notify_cq(self->pair.cq, 1));
	ASSERT_EQ(0, ibv_post_send(self->pair.qp[0], &wr, &bad));
	ASSERT_EQ(0, rc_pair_poll(&self->pair, &wc));
	ASSERT_EQ(0, poll(&pfd, 1, 100));
	wr.wr.rdma.rkey ^= 0xff00;
	ASSERT_EQ(0, ibv_post_send(self->pair.qp[0], &wr, &bad));
	ASSERT_EQ(1, poll(&pfd, 1, 10000));
	ASSERT_EQ(0, ibv_get_cq_event(self->pair.channel, &cq, &context));
	ibv_ack_cq_events(cq, 1);
}

TEST_F_TIMEOUT(verbs, mistakes_have_their_status, 120)
{
	struct rc_pair *pair = &self->pair;
	struct ibv_pd *other_pd = ibv_alloc_pd(pair->ctx);
	struct ibv_mr *other, *readable;
	struct ibv_wc wc;

	ASSERT_NE(NULL, other_pd);
	other = ibv_reg_mr(other_pd, self->local, BUF, RC_PAIR_ALL);
	ASSERT_NE(NULL, other);
	readable = ibv_reg_mr(pair->pd, self->local, BUF, IBV_ACCESS_REMOTE_READ);
	ASSERT_NE(NULL, readable);

	struct {
		const char *what;
		enum ibv_wr_opcode op;
		void *addr; uint32_t lkey; uint32_t len;
		void *remote; uint32_t rkey;
		enum ibv_wc_status status;
	} cases[] = {
		{ "unknown rkey", IBV_WR_RDMA_WRITE, self->local, self->local_mr->lkey, 8,
		  self->remote, 0xdead00, IBV_WC_REM_ACCESS_ERR },
		{ "rkey of another PD", IBV_WR_RDMA_READ, self->local, self->local_mr->lkey, 8,
		  self->local, other->rkey, IBV_WC_REM_ACCESS_ERR },
		{ "write without the right", IBV_WR_RDMA_WRITE, self->local, self->local_mr->lkey,
		  8, self->local, readable->rkey, IBV_WC_REM_ACCESS_ERR },
		{ "one byte too long", IBV_WR_RDMA_WRITE, self->local, self->local_mr->lkey, 2,
		  self->remote + BUF - 1, self->remote_mr->rkey, IBV_WC_REM_ACCESS_ERR },
		{ "one byte before", IBV_WR_RDMA_READ, self->local, self->local_mr->lkey, 8,
		  self->remote - 1, self->remote_mr->rkey, IBV_WC_REM_ACCESS_ERR },
		{ "unknown lkey", IBV_WR_RDMA_WRITE, self->local, 0xdead00, 8, self->remote,
		  self->remote_mr->rkey, IBV_WC_LOC_PROT_ERR },
		{ "lkey of another PD", IBV_WR_RDMA_WRITE, self->local, other->lkey, 8,
		  self->remote, self->remote_mr->rkey, IBV_WC_LOC_PROT_ERR },
		{ "local end past the region", IBV_WR_RDMA_WRITE, self->local + BUF - 4,
		  self->local_mr->lkey, 8, self->remote, self->remote_mr->rkey,
		  IBV_WC_LOC_PROT_ERR },
		{ "read into a read-only region", IBV_WR_RDMA_READ, self->local, readable->lkey, 8,
		  self->remote, self->remote_mr->rkey, IBV_WC_LOC_PROT_ERR },
		{ "nobody receives", IBV_WR_SEND, self->local, self->local_mr->lkey, 8, NULL, 0,
		  IBV_WC_RNR_RETRY_EXC_ERR },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		EXPECT_EQ((int)cases[i].status,
			  rc_pair_rdma(pair, cases[i].op, cases[i].addr, cases[i].lkey,
				       cases[i].len, cases[i].remote, cases[i].rkey))
			TH_LOG("%s", cases[i].what);
		/* The QP is in the error state: what comes later is flushed. */
		EXPECT_EQ(IBV_WC_WR_FLUSH_ERR, RDMA(IBV_WR_RDMA_WRITE, 0, 0, 8))
			TH_LOG("after %s", cases[i].what);
		ASSERT_EQ(0, rc_pair_connect(pair));
		ASSERT_EQ(IBV_WC_SUCCESS, RDMA(IBV_WR_RDMA_WRITE, 0, 0, 8));
	}

	/* A message longer than the receive */
	ASSERT_EQ(0, post_recv(pair, 7, self->remote, 100, self->remote_mr->lkey));
	ASSERT_EQ(IBV_WC_REM_INV_REQ_ERR,
		  ({ int s = rc_pair_rdma(pair, IBV_WR_SEND, self->local, self->local_mr->lkey, 101,
					  NULL, 0);
		     /* Its receive may complete first. */
		     s == -EPROTO ? (rc_pair_poll(pair, &wc), (int)wc.status) : s; }));
	EXPECT_EQ(0, ibv_dereg_mr(other));
	EXPECT_EQ(0, ibv_dereg_mr(readable));
	EXPECT_EQ(0, ibv_dealloc_pd(other_pd));
}

TEST_HARNESS_MAIN
