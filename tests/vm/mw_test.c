// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Memory windows over ordinary and device memory: who may use them, and when they end: by a bind, by
 * an invalidation from either side, with their MR when its memory is taken away, with the process.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "holds.h"
#include "kselftest_harness.h"
#include "pattern.h"
#include "rc_pair.h"

#define MIB (1ul << 20)
#define BUF (2 * MIB)

/* Where in the device memory the windows lie, and what is in them. */
#define VRAM_AT (32 * MIB)
#define WINDOW_AT 12345
#define WINDOW_LEN 70001

#define MW_ALL (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC)

FIXTURE(mw) {
	struct rc_pair pair;
	uint8_t *local, *target;	/* BUF bytes each */
	struct ibv_mr *local_mr, *mr;
	struct ibv_mw *mw[2];		/* of type 1, and of type 2 */
};

FIXTURE_VARIANT(mw) {
	bool device;
};

FIXTURE_VARIANT_ADD(mw, host) { .device = false };
FIXTURE_VARIANT_ADD(mw, device) { .device = true };

static uint8_t *map_buffer(bool device)
{
	uint8_t *addr = MAP_FAILED;
	uint64_t size;
	int fd;

	if (!device)
		return mmap(NULL, BUF, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fd = vram_open(O_RDWR, &size);
	if (fd >= 0) {
		addr = mmap(NULL, BUF, PROT_READ | PROT_WRITE, MAP_SHARED, fd, VRAM_AT);
		close(fd);
	}
	return addr;
}

FIXTURE_SETUP(mw)
{
	ASSERT_EQ(0, rc_pair_open(&self->pair, NULL));
	self->local = map_buffer(false);
	ASSERT_NE(MAP_FAILED, self->local);
	self->target = map_buffer(variant->device);
	ASSERT_NE(MAP_FAILED, self->target);
	memset(self->target, 0, BUF);
	self->local_mr = ibv_reg_mr(self->pair.pd, self->local, BUF, RC_PAIR_ALL);
	ASSERT_NE(NULL, self->local_mr);
	self->mr = ibv_reg_mr(self->pair.pd, self->target, BUF,
			      IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_MW_BIND);
	ASSERT_NE(NULL, self->mr) TH_LOG("%s", strerror(errno));
	self->mw[0] = ibv_alloc_mw(self->pair.pd, IBV_MW_TYPE_1);
	ASSERT_NE(NULL, self->mw[0]) TH_LOG("%s", strerror(errno));
	self->mw[1] = ibv_alloc_mw(self->pair.pd, IBV_MW_TYPE_2);
	ASSERT_NE(NULL, self->mw[1]) TH_LOG("%s", strerror(errno));
}

FIXTURE_TEARDOWN(mw)
{
	for (int i = 0; i < 2; i++)
		if (self->mw[i])
			EXPECT_EQ(0, ibv_dealloc_mw(self->mw[i]));
	if (self->mr)
		EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	EXPECT_EQ(0, ibv_dereg_mr(self->local_mr));
	/* The next test finds nothing of this one, and neither does check_vram. */
	memset(self->target, 0, BUF);
	rc_pair_close(&self->pair);
}

static struct ibv_mw_bind_info bind_info(FIXTURE_DATA(mw) *self, uint64_t at, uint64_t len,
					 unsigned int access)
{
	return (struct ibv_mw_bind_info){
		.mr = self->mr, .addr = (uintptr_t)self->target + at, .length = len,
		.mw_access_flags = access,
	};
}

/* Both return the status of the completion, or a negative errno. */
static int bind_1(FIXTURE_DATA(mw) *self, struct ibv_mw_bind_info info)
{
	struct ibv_mw_bind bind = {
		.wr_id = 11, .send_flags = IBV_SEND_SIGNALED, .bind_info = info,
	};
	struct ibv_wc wc;
	int ret;

	ret = ibv_bind_mw(self->pair.qp[1], self->mw[0], &bind);
	if (ret)
		return -ret;
	ret = rc_pair_poll(&self->pair, &wc);
	if (ret)
		return ret;
	if (wc.wr_id != 11 || (!wc.status && wc.opcode != IBV_WC_BIND_MW))
		return -EPROTO;
	return wc.status;
}

static int post_1(struct ibv_qp *qp, struct ibv_send_wr *wr, struct rc_pair *pair,
		  enum ibv_wc_opcode opcode)
{
	struct ibv_send_wr *bad;
	struct ibv_wc wc;
	int ret;

	wr->wr_id = 22;
	wr->send_flags = IBV_SEND_SIGNALED;
	ret = ibv_post_send(qp, wr, &bad);
	if (ret)
		return -ret;
	ret = rc_pair_poll(pair, &wc);
	if (ret)
		return ret;
	if (wc.wr_id != 22 || (!wc.status && wc.opcode != opcode))
		return -EPROTO;
	return wc.status;
}

static int bind_2(FIXTURE_DATA(mw) *self, uint32_t rkey, struct ibv_mw_bind_info info)
{
	struct ibv_send_wr wr = {
		.opcode = IBV_WR_BIND_MW,
		.bind_mw = { .mw = self->mw[1], .rkey = rkey, .bind_info = info },
	};

	return post_1(self->pair.qp[1], &wr, &self->pair, IBV_WC_BIND_MW);
}

static int local_inv(FIXTURE_DATA(mw) *self, uint32_t rkey)
{
	struct ibv_send_wr wr = { .opcode = IBV_WR_LOCAL_INV, .invalidate_rkey = rkey };

	return post_1(self->pair.qp[1], &wr, &self->pair, IBV_WC_LOCAL_INV);
}

static int rdma(FIXTURE_DATA(mw) *self, enum ibv_wr_opcode op, uint32_t len, uintptr_t remote,
		uint32_t rkey)
{
	return rc_pair_rdma(&self->pair, op, self->local, self->local_mr->lkey, len,
			    (void *)remote, rkey);
}

#define AT(off) ((uintptr_t)self->target + (off))

/* Only what the window shows is written, and read back; one byte more is not. */
static void use_window(struct __test_metadata *_metadata, FIXTURE_DATA(mw) *self, uint32_t rkey,
		       uintptr_t first, uint32_t seed)
{
	pattern_fill(self->local, WINDOW_LEN, seed);
	ASSERT_EQ(IBV_WC_SUCCESS, rdma(self, IBV_WR_RDMA_WRITE, WINDOW_LEN, first, rkey));
	ASSERT_TRUE(pattern_matches(self->target + WINDOW_AT, WINDOW_LEN, seed));
	ASSERT_EQ(0, self->target[WINDOW_AT - 1]);
	ASSERT_EQ(0, self->target[WINDOW_AT + WINDOW_LEN]);
	memset(self->local, 0, WINDOW_LEN);
	ASSERT_EQ(IBV_WC_SUCCESS, rdma(self, IBV_WR_RDMA_READ, WINDOW_LEN, first, rkey));
	ASSERT_TRUE(pattern_matches(self->local, WINDOW_LEN, seed));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(IBV_WC_REM_ACCESS_ERR,
			  rdma(self, IBV_WR_RDMA_WRITE, 2,
			       i ? first + WINDOW_LEN - 1 : first - 1, rkey));
		ASSERT_EQ(0, rc_pair_connect(&self->pair));
	}
}

TEST_F(mw, type_1)
{
	uint32_t first = self->mw[0]->rkey, bound;

	ASSERT_EQ(IBV_WC_SUCCESS, bind_1(self, bind_info(self, WINDOW_AT, WINDOW_LEN, MW_ALL)));
	bound = self->mw[0]->rkey;
	EXPECT_NE(first, bound);
	use_window(_metadata, self, bound, AT(WINDOW_AT), 1);

	/* The MR stays as long as somebody looks through it. */
	EXPECT_EQ(EBUSY, ibv_dereg_mr(self->mr));
	use_window(_metadata, self, bound, AT(WINDOW_AT), 2);

	/* bound anew, to be read only */
	ASSERT_EQ(IBV_WC_SUCCESS, bind_1(self, bind_info(self, 0, 4096, IBV_ACCESS_REMOTE_READ)));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, rdma(self, IBV_WR_RDMA_READ, 8, AT(0), bound));
	ASSERT_EQ(0, rc_pair_connect(&self->pair));
	bound = self->mw[0]->rkey;
	EXPECT_EQ(IBV_WC_SUCCESS, rdma(self, IBV_WR_RDMA_READ, 8, AT(0), bound));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, rdma(self, IBV_WR_RDMA_WRITE, 8, AT(0), bound));
	ASSERT_EQ(0, rc_pair_connect(&self->pair));

	/* to nothing */
	ASSERT_EQ(IBV_WC_SUCCESS, bind_1(self, (struct ibv_mw_bind_info){ .mr = self->mr }));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
		  rdma(self, IBV_WR_RDMA_READ, 8, AT(0), self->mw[0]->rkey));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	self->mr = NULL;
}

TEST_F(mw, type_2)
{
	uint32_t rkey = ibv_inc_rkey(self->mw[1]->rkey);
	struct ibv_mw_bind bind = { .bind_info = bind_info(self, 0, 4096, MW_ALL) };

	EXPECT_EQ(EINVAL, ibv_bind_mw(self->pair.qp[1], self->mw[1], &bind));
	/* The index of the key is not the application's to choose. */
	EXPECT_EQ(-EINVAL, bind_2(self, rkey + 0x100, bind.bind_info));
	ASSERT_EQ(IBV_WC_SUCCESS,
		  bind_2(self, rkey, bind_info(self, WINDOW_AT, WINDOW_LEN, MW_ALL)));
	use_window(_metadata, self, rkey, AT(WINDOW_AT), 3);
	/* Bound is bound. */
	EXPECT_EQ(IBV_WC_MW_BIND_ERR, bind_2(self, ibv_inc_rkey(rkey), bind.bind_info));
	ASSERT_EQ(0, rc_pair_connect(&self->pair));
	use_window(_metadata, self, rkey, AT(WINDOW_AT), 4);

	ASSERT_EQ(IBV_WC_SUCCESS, local_inv(self, rkey));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, rdma(self, IBV_WR_RDMA_READ, 8, AT(WINDOW_AT), rkey));
	ASSERT_EQ(0, rc_pair_connect(&self->pair));
	rkey = ibv_inc_rkey(rkey);
	ASSERT_EQ(IBV_WC_SUCCESS,
		  bind_2(self, rkey, bind_info(self, WINDOW_AT, WINDOW_LEN, MW_ALL)));
	use_window(_metadata, self, rkey, AT(WINDOW_AT), 5);
	/* It is of this QP only: the other way round nobody has it. */
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, ({
		struct ibv_sge sge = { (uintptr_t)self->local, 8, self->local_mr->lkey };
		struct ibv_send_wr wr = {
			.sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_RDMA_READ,
			.wr.rdma = { AT(WINDOW_AT), rkey },
		};

		post_1(self->pair.qp[1], &wr, &self->pair, IBV_WC_RDMA_READ);
	}));
}

TEST_F(mw, zero_based)
{
	uint32_t rkey = ibv_inc_rkey(self->mw[1]->rkey);

	ASSERT_EQ(IBV_WC_SUCCESS,
		  bind_2(self, rkey, bind_info(self, WINDOW_AT, WINDOW_LEN,
					       MW_ALL | IBV_ACCESS_ZERO_BASED)));
	pattern_fill(self->local, WINDOW_LEN, 6);
	ASSERT_EQ(IBV_WC_SUCCESS, rdma(self, IBV_WR_RDMA_WRITE, WINDOW_LEN, 0, rkey));
	ASSERT_TRUE(pattern_matches(self->target + WINDOW_AT, WINDOW_LEN, 6));
	ASSERT_EQ(IBV_WC_SUCCESS, rdma(self, IBV_WR_RDMA_READ, 1, WINDOW_LEN - 1, rkey));
	ASSERT_EQ(self->target[WINDOW_AT + WINDOW_LEN - 1], self->local[0]);
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, rdma(self, IBV_WR_RDMA_READ, 1, WINDOW_LEN, rkey));
}

TEST_F(mw, atomics)
{
	volatile uint64_t *counter = (uint64_t *)(self->target + 4096);
	uint32_t rkey = ibv_inc_rkey(self->mw[1]->rkey);
	struct ibv_sge sge = { (uintptr_t)self->local, 8, self->local_mr->lkey };
	struct ibv_send_wr wr = {
		.sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_ATOMIC_FETCH_AND_ADD,
		.wr.atomic = { .remote_addr = AT(4096), .compare_add = 7, .rkey = rkey },
	};

	ASSERT_EQ(IBV_WC_SUCCESS,
		  bind_2(self, rkey, bind_info(self, 4096, 8, IBV_ACCESS_REMOTE_ATOMIC)));
	for (uint64_t i = 0; i < 100; i++) {
		ASSERT_EQ(IBV_WC_SUCCESS, post_1(self->pair.qp[0], &wr, &self->pair,
						 IBV_WC_FETCH_ADD));
		ASSERT_EQ(7 * i, *(uint64_t *)self->local);
		ASSERT_EQ(7 * (i + 1), *counter);
	}
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, rdma(self, IBV_WR_RDMA_READ, 8, AT(4096), rkey));
}

TEST_F(mw, send_with_invalidate)
{
	uint32_t rkey = ibv_inc_rkey(self->mw[1]->rkey);
	struct ibv_sge sge[2] = {
		{ (uintptr_t)self->local, 100, self->local_mr->lkey },
		{ (uintptr_t)self->local + 4096, 100, self->local_mr->lkey },
	};
	struct ibv_recv_wr recv = { .wr_id = 33, .sg_list = &sge[1], .num_sge = 1 }, *bad_recv;
	struct ibv_send_wr wr = {
		.wr_id = 44, .sg_list = sge, .num_sge = 1, .opcode = IBV_WR_SEND_WITH_INV,
		.send_flags = IBV_SEND_SIGNALED, .invalidate_rkey = rkey,
	}, *bad;
	struct ibv_wc wc;

	ASSERT_EQ(IBV_WC_SUCCESS,
		  bind_2(self, rkey, bind_info(self, WINDOW_AT, WINDOW_LEN, MW_ALL)));
	/* Once there is something to end, then there is not. */
	for (int i = 0; i < 2; i++) {
		pattern_fill(self->local, 100, i);
		ASSERT_EQ(0, ibv_post_recv(self->pair.qp[1], &recv, &bad_recv));
		ASSERT_EQ(0, ibv_post_send(self->pair.qp[0], &wr, &bad));
		for (int j = 0; j < 2; j++) {
			ASSERT_EQ(0, rc_pair_poll(&self->pair, &wc));
			if (wc.wr_id == 44) {
				EXPECT_EQ(i ? IBV_WC_REM_ACCESS_ERR : IBV_WC_SUCCESS, wc.status);
				continue;
			}
			ASSERT_EQ(33, wc.wr_id);
			EXPECT_EQ(i ? IBV_WC_REM_INV_REQ_ERR : IBV_WC_SUCCESS, wc.status);
			if (i)
				continue;
			EXPECT_EQ(IBV_WC_RECV, wc.opcode);
			EXPECT_EQ(IBV_WC_WITH_INV, wc.wc_flags);
			EXPECT_EQ(rkey, wc.invalidated_rkey);
			EXPECT_EQ(100, wc.byte_len);
			EXPECT_TRUE(pattern_matches(self->local + 4096, 100, i));
		}
		if (!i) {
			EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
				  rdma(self, IBV_WR_RDMA_READ, 8, AT(WINDOW_AT), rkey));
			ASSERT_EQ(0, rc_pair_connect(&self->pair));
		}
	}
}

TEST_F(mw, mistakes_have_their_status)
{
	uint32_t rkey = ibv_inc_rkey(self->mw[1]->rkey);
	struct ibv_pd *other_pd = ibv_alloc_pd(self->pair.ctx);
	struct ibv_mr *plain, *readable, *others;

	ASSERT_NE(NULL, other_pd);
	plain = ibv_reg_mr(self->pair.pd, self->target, BUF, RC_PAIR_ALL);
	ASSERT_NE(NULL, plain);
	readable = ibv_reg_mr(self->pair.pd, self->target, BUF, IBV_ACCESS_MW_BIND);
	ASSERT_NE(NULL, readable);
	others = ibv_reg_mr(other_pd, self->target, BUF, IBV_ACCESS_MW_BIND);
	ASSERT_NE(NULL, others);

	struct {
		const char *what;
		struct ibv_mr *mr;
		uint64_t at, len;
		unsigned int access;
	} cases[] = {
		{ "an MR without the right to bind", plain, 0, 8, IBV_ACCESS_REMOTE_READ },
		{ "to write where the MR may not", readable, 0, 8, IBV_ACCESS_REMOTE_WRITE },
		{ "an MR of another PD", others, 0, 8, IBV_ACCESS_REMOTE_READ },
		{ "before the MR", self->mr, -1, 8, IBV_ACCESS_REMOTE_READ },
		{ "longer than the MR", self->mr, 1, BUF, IBV_ACCESS_REMOTE_READ },
		{ "no bytes", self->mr, 0, 0, IBV_ACCESS_REMOTE_READ },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct ibv_mw_bind_info info = bind_info(self, cases[i].at, cases[i].len,
							 cases[i].access);

		info.mr = cases[i].mr;
		EXPECT_EQ(IBV_WC_MW_BIND_ERR, bind_2(self, rkey, info))
			TH_LOG("%s", cases[i].what);
		ASSERT_EQ(0, rc_pair_connect(&self->pair));
	}
	/* An MR is not the application's to invalidate. */
	EXPECT_EQ(IBV_WC_MW_BIND_ERR, local_inv(self, self->mr->rkey));
	EXPECT_EQ(0, ibv_dereg_mr(plain));
	EXPECT_EQ(0, ibv_dereg_mr(readable));
	EXPECT_EQ(0, ibv_dereg_mr(others));
	EXPECT_EQ(0, ibv_dealloc_pd(other_pd));
}

/* A process ends with its windows bound: nothing is in the way of those after it, and nothing is left. */
TEST_F(mw, exit_while_bound)
{
	struct holds before;
	int status;
	pid_t pid;

	ASSERT_EQ(0, holds_read(&before));
	for (int i = 0; i < 10; i++) {
		pid = fork();
		ASSERT_GE(pid, 0);
		if (!pid) {
			FIXTURE_DATA(mw) mine = {};

			if (rc_pair_open(&mine.pair, NULL))
				_exit(1);
			mine.target = map_buffer(variant->device);
			mine.mr = ibv_reg_mr(mine.pair.pd, mine.target, BUF,
					     IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_MW_BIND);
			mine.mw[0] = ibv_alloc_mw(mine.pair.pd, IBV_MW_TYPE_1);
			mine.mw[1] = ibv_alloc_mw(mine.pair.pd, IBV_MW_TYPE_2);
			if (!mine.mr || !mine.mw[0] || !mine.mw[1])
				_exit(2);
			if (bind_1(&mine, bind_info(&mine, 0, 4096, MW_ALL)) ||
			    bind_2(&mine, ibv_inc_rkey(mine.mw[1]->rkey),
				   bind_info(&mine, 0, 4096, MW_ALL)))
				_exit(3);
			_exit(ibv_dereg_mr(mine.mr) == EBUSY ? 0 : 4);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_EQ(0, status);
	}
	EXPECT_TRUE(holds_settle(&before));
}

/* What is pinned stays for who looks through a window, though the process has it no more. */
static void unmap_and_use(struct __test_metadata *_metadata, FIXTURE_DATA(mw) *self, uint32_t rkey)
{
	ASSERT_EQ(0, munmap(self->target, BUF));
	pattern_fill(self->local, 4096, 9);
	ASSERT_EQ(IBV_WC_SUCCESS, rdma(self, IBV_WR_RDMA_WRITE, 4096, AT(0), rkey));
	memset(self->local, 0, 4096);
	ASSERT_EQ(IBV_WC_SUCCESS, rdma(self, IBV_WR_RDMA_READ, 4096, AT(0), rkey));
	ASSERT_TRUE(pattern_matches(self->local, 4096, 9));
	ASSERT_EQ(self->target, mmap(self->target, BUF, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
}

/* Device memory is taken away: the MR is fenced, and so are the windows. */
TEST_F(mw, memory_goes)
{
	uint32_t rkey = ibv_inc_rkey(self->mw[1]->rkey);
	char path[PATH_MAX];
	int fd;

	ASSERT_EQ(IBV_WC_SUCCESS, bind_1(self, bind_info(self, 0, BUF, MW_ALL)));
	ASSERT_EQ(IBV_WC_SUCCESS, bind_2(self, rkey, bind_info(self, 0, BUF, MW_ALL)));
	if (!variant->device) {
		unmap_and_use(_metadata, self, rkey);
		return;
	}
	ASSERT_EQ(IBV_WC_SUCCESS, rdma(self, IBV_WR_RDMA_WRITE, 8, AT(0), rkey));
	ASSERT_EQ(IBV_WC_SUCCESS, rdma(self, IBV_WR_RDMA_WRITE, 8, AT(0), self->mw[0]->rkey));

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/reset", getenv("VRAM_BDF"));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(1, write(fd, "1", 1));
	close(fd);

	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, rdma(self, IBV_WR_RDMA_WRITE, 8, AT(0), rkey));
	ASSERT_EQ(0, rc_pair_connect(&self->pair));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
		  rdma(self, IBV_WR_RDMA_READ, 8, AT(0), self->mw[0]->rkey));
	ASSERT_EQ(0, rc_pair_connect(&self->pair));
	EXPECT_EQ(IBV_WC_MW_BIND_ERR, bind_1(self, bind_info(self, 0, BUF, MW_ALL)));
	ASSERT_EQ(0, rc_pair_connect(&self->pair));
	EXPECT_EQ(EBUSY, ibv_dereg_mr(self->mr));
	ASSERT_EQ(IBV_WC_SUCCESS, local_inv(self, rkey));
	EXPECT_EQ(0, ibv_dealloc_mw(self->mw[0]));
	self->mw[0] = NULL;
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));

	/* There is memory again, and a window to it. */
	self->mr = ibv_reg_mr(self->pair.pd, self->target, BUF,
			      IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_MW_BIND);
	ASSERT_NE(NULL, self->mr) TH_LOG("%s", strerror(errno));
	rkey = ibv_inc_rkey(rkey);
	ASSERT_EQ(IBV_WC_SUCCESS, bind_2(self, rkey, bind_info(self, 0, BUF, MW_ALL)));
	EXPECT_EQ(IBV_WC_SUCCESS, rdma(self, IBV_WR_RDMA_WRITE, 8, AT(0), rkey));
}

TEST_HARNESS_MAIN
