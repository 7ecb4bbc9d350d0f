// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Many regions, large ones, and several users of one BAR: two processes, two HCAs. And what the
 * access flags mean for device memory.
 *
 * However many regions there are, each HCA has one attachment to the BAR.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "file.h"
#include "holds.h"
#include "kselftest_harness.h"
#include "pattern.h"
#include "rc_pair.h"
#include "simhca_hw.h"
#include "sizes.h"

#define RW (PROT_READ | PROT_WRITE)

#define NUM_MRS 10000
/* Coprime to NUM_MRS: i * STEP % NUM_MRS are all of them, out of order. */
#define STEP 3331

/* How long another process may take. */
#define WAIT_S 60

/* --max-mr of a guest */
#define FEW_KEYS 64

/* How long it may take to revoke NUM_MRS regions; the reset itself takes a second or two. */
#define REVOKE_S 60

FIXTURE(scale) {
	struct rc_pair pair;
	int fd;			/* of the device memory */
	uint64_t size;		/* and its size */
	uint8_t *host;		/* MIB of ordinary memory */
	struct ibv_mr *host_mr;
	struct holds before;
};

FIXTURE_SETUP(scale)
{
	self->fd = vram_open(O_RDWR, &self->size);
	ASSERT_GE(self->fd, 0);
	ASSERT_EQ(0, rc_pair_open(&self->pair, NULL));
	self->host = mmap(NULL, MIB, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->host);
	self->host_mr = ibv_reg_mr(self->pair.pd, self->host, MIB, RC_PAIR_ALL);
	ASSERT_NE(NULL, self->host_mr);
	/* The first mapping gives the BAR its buffer, which stays. */
	ASSERT_NE(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->fd, 0));
	ASSERT_EQ(0, holds_read(&self->before));
}

FIXTURE_TEARDOWN(scale)
{
	EXPECT_TRUE(holds_settle(&self->before));
	EXPECT_EQ(0, ibv_dereg_mr(self->host_mr));
	munmap(self->host, MIB);
	rc_pair_close(&self->pair);
	close(self->fd);
}

static uint8_t *map_vram(FIXTURE_DATA(scale) *self, uint64_t offset, size_t len)
{
	return mmap(NULL, len, RW, MAP_SHARED, self->fd, offset);
}

/* By RDMA WRITE to the remote address @remote and back by RDMA READ. 0, a status or an errno. */
static int round_trip(FIXTURE_DATA(scale) *self, uint64_t remote, uint32_t rkey, size_t len,
		      uint32_t seed)
{
	uint32_t lkey = self->host_mr->lkey;
	int ret;

	pattern_fill(self->host, len, seed);
	ret = rc_pair_rdma(&self->pair, IBV_WR_RDMA_WRITE, self->host, lkey, len, (void *)remote, rkey);
	if (ret)
		return ret;
	memset(self->host, 0, len);
	ret = rc_pair_rdma(&self->pair, IBV_WR_RDMA_READ, self->host, lkey, len, (void *)remote, rkey);
	if (ret)
		return ret;
	return pattern_matches(self->host, len, seed) ? 0 : -EBADMSG;
}

/* ---- many, and large ----------------------------------------------------------------------- */

/* The @i-th of many: two pages and a bit, so that neighbours overlap. */
static uint64_t mr_at(unsigned int i)
{
	return i * PAGE + i % PAGE;
}

#define MR_LEN (2 * PAGE + 100)

TEST_F_TIMEOUT(scale, ten_thousand, 600)
{
	struct ibv_mr **mr = calloc(NUM_MRS, sizeof(*mr));
	uint8_t *dev = map_vram(self, 0, NUM_MRS * PAGE + 3 * PAGE);
	struct holds now;

	ASSERT_NE(NULL, mr);
	ASSERT_NE(MAP_FAILED, dev);
	for (unsigned int i = 0; i < NUM_MRS; i++) {
		mr[i] = ibv_reg_mr(self->pair.pd, dev + mr_at(i), MR_LEN, RC_PAIR_ALL);
		ASSERT_NE(NULL, mr[i]) TH_LOG("%u: %s", i, strerror(errno));
	}
	ASSERT_EQ(0, holds_read(&now));
	ASSERT_EQ(self->before.attached + 1, now.attached);

	/* Every 101st, while the others come and go around it */
	for (unsigned int n = 0; n < NUM_MRS; n++) {
		unsigned int i = n * STEP % NUM_MRS;

		if (n % 101 == 0) {
			uint64_t at = mr_at(i);

			ASSERT_EQ(0, round_trip(self, (uintptr_t)dev + at, mr[i]->rkey, MR_LEN, n))
				TH_LOG("region %u", i);
			ASSERT_EQ(0, pattern_expect(at, MR_LEN, n));
			/* It ends where it was said to. */
			ASSERT_EQ(IBV_WC_REM_ACCESS_ERR,
				  round_trip(self, (uintptr_t)dev + at, mr[i]->rkey, MR_LEN + 1, n));
			ASSERT_EQ(0, rc_pair_connect(&self->pair));
		}
		ASSERT_EQ(0, ibv_dereg_mr(mr[i]));
	}
	free(mr);
	munmap(dev, NUM_MRS * PAGE + 3 * PAGE);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* Of this HCA: how many regions have been revoked */
static long count_revoked(void)
{
	char path[128];
	long count = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/class/infiniband/%s/umem_p2p/revoked", getenv("HCA"));
	f = fopen(path, "re");
	if (f) {
		if (fscanf(f, "%ld", &count) != 1)
			count = -1;
		fclose(f);
	}
	return count;
}

/* Takes the device memory back. */
static int reset_exporter(void)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/reset", getenv("VRAM_BDF"));
	return write_file(path, "1");
}

/* Through the remote key, or the local one: the status that says what is wrong with it */
static bool fenced(FIXTURE_DATA(scale) *self, uint8_t *at, struct ibv_mr *mr, bool local)
{
	struct ibv_mr *host = self->host_mr;
	int status;

	if (local)
		status = rc_pair_rdma(&self->pair, IBV_WR_RDMA_WRITE, at, mr->lkey, 1, self->host,
				      host->rkey);
	else
		status = rc_pair_rdma(&self->pair, IBV_WR_RDMA_WRITE, self->host, host->lkey, 1, at,
				      mr->rkey);
	return status == (local ? IBV_WC_LOC_PROT_ERR : IBV_WC_REM_ACCESS_ERR) &&
	       !rc_pair_connect(&self->pair);
}

/*
 * A reset of the device takes the memory of all of them back at once. Every key is dead: the kernel
 * has counted them, and one of 11 is tried, not all, for each try takes new connections.
 */
TEST_F_TIMEOUT(scale, revoke_ten_thousand, 600)
{
	struct ibv_mr **mr = calloc(NUM_MRS, sizeof(*mr));
	uint8_t *dev = map_vram(self, 0, NUM_MRS * PAGE + 3 * PAGE);
	long revoked = count_revoked();
	double start;

	ASSERT_NE(NULL, mr);
	ASSERT_NE(MAP_FAILED, dev);
	ASSERT_GE(revoked, 0);
	for (unsigned int i = 0; i < NUM_MRS; i++) {
		mr[i] = ibv_reg_mr(self->pair.pd, dev + mr_at(i), MR_LEN, RC_PAIR_ALL);
		ASSERT_NE(NULL, mr[i]) TH_LOG("%u: %s", i, strerror(errno));
	}

	start = now();
	ASSERT_EQ(0, reset_exporter());
	TH_LOG("revoked within %.1f s", now() - start);
	EXPECT_LT(now() - start, REVOKE_S);
	EXPECT_EQ(revoked + NUM_MRS, count_revoked());
	for (unsigned int i = 0; i < NUM_MRS; i += 11) {
		ASSERT_TRUE(fenced(self, dev + mr_at(i), mr[i], i & 1)) TH_LOG("region %u", i);
	}

	start = now();
	for (unsigned int i = 0; i < NUM_MRS; i++) {
		ASSERT_EQ(0, ibv_dereg_mr(mr[i]));
	}
	TH_LOG("deregistered within %.1f s", now() - start);
	/* The memory is as it was, and can be used again. */
	mr[0] = ibv_reg_mr(self->pair.pd, dev, MR_LEN, RC_PAIR_ALL);
	ASSERT_NE(NULL, mr[0]);
	EXPECT_EQ(0, round_trip(self, (uintptr_t)dev, mr[0]->rkey, MR_LEN, 1000));
	ASSERT_EQ(0, pattern_expect(0, MR_LEN, 1000));
	ASSERT_EQ(0, ibv_dereg_mr(mr[0]));
	free(mr);
	munmap(dev, NUM_MRS * PAGE + 3 * PAGE);
}

/* The same memory is taken back from two HCAs at once. */
TEST_F_TIMEOUT(scale, revoke_two_hcas, 120)
{
	static const char *const names[] = { "simhca0", "simhca1" };
	FIXTURE_DATA(scale) hca[2] = { *self, *self };
	uint8_t *dev = map_vram(self, 0, MIB);
	struct ibv_mr *mr[2];

	ASSERT_NE(MAP_FAILED, dev);
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, rc_pair_open(&hca[i].pair, names[i]));
		hca[i].host_mr = ibv_reg_mr(hca[i].pair.pd, self->host, MIB, RC_PAIR_ALL);
		ASSERT_NE(NULL, hca[i].host_mr);
		mr[i] = ibv_reg_mr(hca[i].pair.pd, dev, MIB, RC_PAIR_ALL);
		ASSERT_NE(NULL, mr[i]);
		ASSERT_EQ(0, round_trip(&hca[i], (uintptr_t)dev, mr[i]->rkey, MIB, 1100 + i));
	}
	ASSERT_EQ(0, reset_exporter());
	for (int i = 0; i < 2; i++) {
		EXPECT_TRUE(fenced(&hca[i], dev, mr[i], false)) TH_LOG("%s", names[i]);
		EXPECT_TRUE(fenced(&hca[i], dev, mr[i], true)) TH_LOG("%s", names[i]);
	}
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, ibv_dereg_mr(mr[i]));
		mr[i] = ibv_reg_mr(hca[i].pair.pd, dev, MIB, RC_PAIR_ALL);
		ASSERT_NE(NULL, mr[i]);
		EXPECT_EQ(0, round_trip(&hca[i], (uintptr_t)dev, mr[i]->rkey, MIB, 1102 + i));
		ASSERT_EQ(0, pattern_expect(0, MIB, 1102 + i));
		ASSERT_EQ(0, ibv_dereg_mr(mr[i]));
		ASSERT_EQ(0, ibv_dereg_mr(hca[i].host_mr));
		rc_pair_close(&hca[i].pair);
	}
	munmap(dev, MIB);
}

static uint32_t key_index(const struct ibv_mr *mr)
{
	return mr->rkey >> SIMHCA_KEY_INDEX_SHIFT;
}

/*
 * The key of a revoked region belongs to it until it is deregistered: nobody else gets it, even
 * though there is no other one left. For a guest with few keys.
 */
TEST_F_TIMEOUT(scale, revoked_key_is_not_reused, 120)
{
	uint8_t *dev = map_vram(self, 0, PAGE);
	struct ibv_mr *revoked, *mr[FEW_KEYS];
	struct ibv_device_attr attr;
	uint32_t index, key;
	int n = 0;

	ASSERT_NE(MAP_FAILED, dev);
	ASSERT_EQ(0, ibv_query_device(self->pair.ctx, &attr));
	ASSERT_EQ(FEW_KEYS, attr.max_mr);
	revoked = ibv_reg_mr(self->pair.pd, dev, PAGE, RC_PAIR_ALL);
	ASSERT_NE(NULL, revoked);
	index = key_index(revoked);
	key = revoked->rkey;
	ASSERT_EQ(0, reset_exporter());

	/* Some have keys: this, the one that is for moving data, and those of the kernel's own queue pairs. */
	while (n < FEW_KEYS && (mr[n] = ibv_reg_mr(self->pair.pd, self->host, MIB, RC_PAIR_ALL))) {
		ASSERT_NE(index, key_index(mr[n]));
		n++;
	}
	ASSERT_GT(n, FEW_KEYS / 2);
	ASSERT_LT(n, FEW_KEYS - 1);
	EXPECT_TRUE(fenced(self, dev, revoked, false));
	EXPECT_TRUE(fenced(self, dev, revoked, true));

	/* Then it is free, but the old key still is none. */
	ASSERT_EQ(0, ibv_dereg_mr(revoked));
	mr[n] = ibv_reg_mr(self->pair.pd, self->host, MIB, RC_PAIR_ALL);
	ASSERT_NE(NULL, mr[n]) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(index, key_index(mr[n]));
	EXPECT_NE(key, mr[n]->rkey);
	for (int i = 0; i <= n; i++) {
		ASSERT_EQ(0, ibv_dereg_mr(mr[i]));
	}
	munmap(dev, PAGE);
}

/* One region of more than 8 GiB, with bytes left out at both ends, and one inside of it */
TEST_F_TIMEOUT(scale, above_4g, 300)
{
	const uint64_t skip = 4095, len = self->size - 2 * skip;
	uint8_t *dev = map_vram(self, 0, self->size);
	struct ibv_mr *mr, *inner;

	ASSERT_GT(self->size, 8 * GIB);
	ASSERT_NE(MAP_FAILED, dev);
	mr = ibv_reg_mr(self->pair.pd, dev + skip, len, RC_PAIR_ALL);
	ASSERT_NE(NULL, mr) TH_LOG("%s", strerror(errno));
	inner = ibv_reg_mr(self->pair.pd, dev + 2 * GIB + 5, 5 * GIB, RC_PAIR_ALL);
	ASSERT_NE(NULL, inner) TH_LOG("%s", strerror(errno));

	for (unsigned int i = 0; i < 4; i++) {
		/* Before, over and after the borders of segments; the last byte but one */
		const uint64_t at[] = { skip, 4 * GIB - 7, 7 * GIB + 4, self->size - skip - 100 };
		struct ibv_mr *by = i == 1 ? inner : mr;
		size_t n = i == 3 ? 100 : 1001;

		if (i == 2)
			n = 1;
		ASSERT_EQ(0, round_trip(self, (uintptr_t)dev + at[i], by->rkey, n, 700 + i))
			TH_LOG("at %#lx", at[i]);
		ASSERT_EQ(0, pattern_expect(at[i], n, 700 + i));
	}
	ASSERT_EQ(IBV_WC_REM_ACCESS_ERR,
		  round_trip(self, (uintptr_t)dev + self->size - skip - 1, mr->rkey, 2, 0));
	ASSERT_EQ(0, rc_pair_connect(&self->pair));
	ASSERT_EQ(IBV_WC_REM_ACCESS_ERR,
		  round_trip(self, (uintptr_t)dev + 7 * GIB + 4, inner->rkey, 2, 0));
	ASSERT_EQ(0, rc_pair_connect(&self->pair));
	ASSERT_EQ(0, ibv_dereg_mr(mr));
	ASSERT_EQ(0, round_trip(self, (uintptr_t)dev + 7 * GIB + 4, inner->rkey, 1, 702));
	ASSERT_EQ(0, ibv_dereg_mr(inner));
	munmap(dev, self->size);
}

/* ---- flags --------------------------------------------------------------------------------- */

#define AT_FLAGS (128 * MIB)

/* Ordinary memory of the test, device memory, and the one beside the other */
enum memory { ORDINARY, DEVICE, MIXED, NUM_MEMORIES };

static uint8_t *map_memory(FIXTURE_DATA(scale) *self, enum memory kind)
{
	uint8_t *addr;

	if (kind == DEVICE)
		return map_vram(self, AT_FLAGS, MIB);
	addr = mmap(NULL, MIB, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (kind == ORDINARY || addr == MAP_FAILED)
		return addr;
	return mmap(addr, MIB / 2, RW, MAP_SHARED | MAP_FIXED, self->fd, AT_FLAGS) == MAP_FAILED ?
	       MAP_FAILED : addr;
}

TEST_F_TIMEOUT(scale, flags, 120)
{
	for (enum memory kind = 0; kind < NUM_MEMORIES; kind++) {
		uint8_t *addr = map_memory(self, kind);
		uint8_t *inner = addr + MIB / 2 - 1001;
		struct ibv_mr *mr;

		ASSERT_NE(MAP_FAILED, addr);

		/* An optional flag, of which the HCA may make nothing */
		mr = ibv_reg_mr(self->pair.pd, addr, MIB, RC_PAIR_ALL | IBV_ACCESS_RELAXED_ORDERING);
		ASSERT_NE(NULL, mr) TH_LOG("relaxed ordering: %s", strerror(errno));
		EXPECT_EQ(0, round_trip(self, (uintptr_t)addr, mr->rkey, MIB, 800 + kind));
		ASSERT_EQ(0, ibv_dereg_mr(mr));

		errno = 0;
		EXPECT_EQ(NULL, ibv_reg_mr(self->pair.pd, addr, MIB, RC_PAIR_ALL | IBV_ACCESS_ON_DEMAND));
		EXPECT_EQ(EOPNOTSUPP, errno);

		/* From 0 on, wherever the memory is */
		mr = ibv_reg_mr(self->pair.pd, inner, 3000, RC_PAIR_ALL | IBV_ACCESS_ZERO_BASED);
		ASSERT_NE(NULL, mr) TH_LOG("zero-based: %s", strerror(errno));
		EXPECT_EQ(0, round_trip(self, 0, mr->rkey, 3000, 810 + kind));
		EXPECT_TRUE(pattern_matches(inner, 3000, 810 + kind));
		EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, round_trip(self, (uintptr_t)inner, mr->rkey, 8, 0));
		ASSERT_EQ(0, rc_pair_connect(&self->pair));
		ASSERT_EQ(0, ibv_dereg_mr(mr));

		/* From an address of the application's choice on, as far into a page as the memory */
		const uint64_t iova = 0x123456789000ul + ((uintptr_t)inner & (PAGE - 1));

		mr = ibv_reg_mr_iova(self->pair.pd, inner, 3000, iova, RC_PAIR_ALL);
		ASSERT_NE(NULL, mr) TH_LOG("iova: %s", strerror(errno));
		EXPECT_EQ(0, round_trip(self, iova, mr->rkey, 3000, 820 + kind));
		EXPECT_TRUE(pattern_matches(inner, 3000, 820 + kind));
		EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, round_trip(self, iova - 1, mr->rkey, 8, 0));
		ASSERT_EQ(0, rc_pair_connect(&self->pair));
		ASSERT_EQ(0, ibv_dereg_mr(mr));
		errno = 0;
		EXPECT_EQ(NULL, ibv_reg_mr_iova(self->pair.pd, inner, 3000, iova + 1, RC_PAIR_ALL));
		EXPECT_EQ(EINVAL, errno);

		/* check_vram knows nothing of this. */
		memset(addr, 0, MIB);
		munmap(addr, MIB);
	}
}

/* ---- two users ----------------------------------------------------------------------------- */

#define AT_SHARED (160 * MIB)
#define LEN_SHARED (2 * MIB)

/* What the other process tells the test. */
struct talk {
	atomic_int stage;
	atomic_int go;
	int error;
	uint32_t test_qpn;	/* of the test's second QP */
	union ibv_gid test_gid;
	uint32_t qpn;
	union ibv_gid gid;
	uint64_t addr;
	uint32_t rkey;
};

static bool wait_for(atomic_int *stage, int want)
{
	for (int i = 0; i < WAIT_S * 100; i++) {
		if (atomic_load(stage) >= want)
			return true;
		usleep(10000);
	}
	return false;
}

/* Registers all of the shared part, lets the test write to it, and ends: deregistering, or just so. */
static int other_process(struct talk *talk, const char *hca, bool dereg)
{
	struct rc_pair pair;
	struct ibv_mr *mr;
	uint64_t size;
	uint8_t *addr;
	int fd, ret;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd = vram_open(O_RDWR, &size);
	if (fd < 0)
		return fd;
	addr = mmap(NULL, LEN_SHARED, RW, MAP_SHARED, fd, AT_SHARED);
	if (addr == MAP_FAILED)
		return -errno;
	ret = rc_pair_open(&pair, hca);
	if (ret)
		return ret;
	mr = ibv_reg_mr(pair.pd, addr, LEN_SHARED, RC_PAIR_ALL);
	if (!mr)
		return -errno;
	talk->addr = (uintptr_t)addr;
	talk->rkey = mr->rkey;
	talk->qpn = pair.qp[0]->qp_num;
	ret = rc_gid(pair.ctx, &talk->gid);
	if (!ret)
		ret = rc_connect_to(pair.qp[0], &talk->test_gid, talk->test_qpn);
	if (ret)
		return ret;
	atomic_store(&talk->stage, 1);
	if (!wait_for(&talk->go, 1))
		return -ETIMEDOUT;
	if (!pattern_matches(addr, LEN_SHARED / 2, 900))
		return -EBADMSG;
	if (dereg && ibv_dereg_mr(mr))
		return -EIO;
	return 0;
}

FIXTURE(two) {
	struct rc_pair pair;
	int fd;
	uint8_t *dev;			/* LEN_SHARED bytes */
	struct ibv_mr *mr;		/* all of them */
	struct talk *talk;
	struct holds before, alone;	/* without a region, and with that of the test */
	pid_t pid;
};

FIXTURE_VARIANT(two) {
	const char *hca;		/* of the other process */
	bool dereg;			/* in the end, instead of just exiting */
};

FIXTURE_VARIANT_ADD(two, processes) { .hca = "simhca0", .dereg = true };
FIXTURE_VARIANT_ADD(two, processes_one_exits) { .hca = "simhca0" };
FIXTURE_VARIANT_ADD(two, hcas) { .hca = "simhca1", .dereg = true };
FIXTURE_VARIANT_ADD(two, hcas_one_exits) { .hca = "simhca1" };

FIXTURE_SETUP(two)
{
	uint64_t size;

	self->fd = vram_open(O_RDWR, &size);
	ASSERT_GE(self->fd, 0);
	self->dev = mmap(NULL, LEN_SHARED, RW, MAP_SHARED, self->fd, AT_SHARED);
	ASSERT_NE(MAP_FAILED, self->dev);
	self->talk = mmap(NULL, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->talk);
	ASSERT_EQ(0, rc_pair_open(&self->pair, "simhca0"));
	ASSERT_EQ(0, holds_read(&self->before));
	self->talk->test_qpn = self->pair.qp[0]->qp_num;
	ASSERT_EQ(0, rc_gid(self->pair.ctx, &self->talk->test_gid));
	self->mr = ibv_reg_mr(self->pair.pd, self->dev, LEN_SHARED, RC_PAIR_ALL);
	ASSERT_NE(NULL, self->mr);
	ASSERT_EQ(0, holds_read(&self->alone));

	self->pid = fork();
	ASSERT_GE(self->pid, 0);
	if (!self->pid) {
		self->talk->error = other_process(self->talk, variant->hca, variant->dereg);
		_exit(!!self->talk->error);
	}
}

FIXTURE_TEARDOWN(two)
{
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	EXPECT_TRUE(holds_settle(&self->before));
	rc_pair_close(&self->pair);
	memset(self->dev, 0, LEN_SHARED);
	munmap(self->dev, LEN_SHARED);
	close(self->fd);
}

/* From the second half to the first, by the regions of two processes that both have all of it */
TEST_F_TIMEOUT(two, share_a_bar, 180)
{
	const bool own_hca = strcmp(variant->hca, "simhca0");
	const size_t half = LEN_SHARED / 2;
	struct holds now;
	int status;

	pattern_fill(self->dev + half, half, 900);
	ASSERT_TRUE(wait_for(&self->talk->stage, 1)) TH_LOG("error %d", self->talk->error);
	ASSERT_EQ(0, holds_read(&now));
	ASSERT_EQ(self->before.attached + 1 + own_hca, now.attached);

	ASSERT_EQ(0, rc_connect_to(self->pair.qp[0], &self->talk->gid, self->talk->qpn));
	ASSERT_EQ(IBV_WC_SUCCESS,
		  rc_pair_rdma(&self->pair, IBV_WR_RDMA_WRITE, self->dev + half, self->mr->lkey, half,
			       (void *)self->talk->addr, self->talk->rkey));
	atomic_store(&self->talk->go, 1);
	ASSERT_EQ(self->pid, waitpid(self->pid, &status, 0));
	ASSERT_TRUE(WIFEXITED(status) && !WEXITSTATUS(status)) TH_LOG("error %d", self->talk->error);

	/* What the other had is given back, what the test has is not. */
	ASSERT_TRUE(holds_settle(&self->alone));
	ASSERT_EQ(0, rc_pair_connect(&self->pair));
	memset(self->dev, 0, half);
	ASSERT_EQ(IBV_WC_SUCCESS,
		  rc_pair_rdma(&self->pair, IBV_WR_RDMA_WRITE, self->dev + half, self->mr->lkey, half,
			       self->dev, self->mr->rkey));
	ASSERT_TRUE(pattern_matches(self->dev, half, 900));
	if (!own_hca)
		ASSERT_EQ(IBV_WC_REM_ACCESS_ERR,
			  rc_pair_rdma(&self->pair, IBV_WR_RDMA_WRITE, self->dev + half, self->mr->lkey,
				       half, (void *)self->talk->addr, self->talk->rkey));
}

TEST_HARNESS_MAIN
