// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * How long a memory region lives, whatever happens to the mapping and to the process it was made
 * from. Every test runs over device memory, over ordinary memory, and what has to do with processes
 * over both in one region: what goes on and what ends is the same.
 *
 * A region is asked by moving bytes through the HCA; a second mapping of the same memory, which
 * nothing happens to, tells where they went. What regions hold, as the kernel counts it, is the
 * same before and after each test.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "holds.h"
#include "kselftest_harness.h"
#include "pattern.h"
#include "rc_pair.h"
#include "sizes.h"

#define LEN MIB

#define RW (PROT_READ | PROT_WRITE)

/* What another process tells the test. */
struct talk {
	atomic_int stage;	/* the other process counts up here ... */
	atomic_int go;		/* ... and the test here */
	uint32_t test_qpn;	/* QP of the test to connect to */
	uint32_t qpn;		/* QP of the other process */
	uint64_t addr;		/* its region */
	uint32_t rkey;
	int error;		/* why it gave up */
};

FIXTURE(lifetime) {
	struct rc_pair pair;
	int fd;			/* of the device */
	int memfd;		/* of ordinary memory */
	size_t device;		/* so many of LEN bytes are device memory, the first ones */
	uint8_t *eyes;		/* LEN bytes of it, as the CPU sees them */
	uint8_t *host;		/* LEN bytes of ordinary memory, to move data from and to */
	struct ibv_mr *host_mr;
	struct talk *talk;
	struct holds before;
	int hidden_errno;	/* of a registration that the mapping's protection forbids */
};

FIXTURE_VARIANT(lifetime) {
	size_t device;
};

FIXTURE_VARIANT_ADD(lifetime, device) { .device = LEN };
FIXTURE_VARIANT_ADD(lifetime, ordinary) { .device = 0 };
FIXTURE_VARIANT_ADD(lifetime, mixed) { .device = LEN / 2 };

/* All of the memory once more */
static uint8_t *map(FIXTURE_DATA(lifetime) *self)
{
	uint8_t *at = mmap(NULL, LEN, RW, MAP_SHARED, self->memfd, 0);

	if (at != MAP_FAILED && self->device &&
	    mmap(at, self->device, RW, MAP_SHARED | MAP_FIXED, self->fd, 0) != at)
		return MAP_FAILED;
	return at;
}

FIXTURE_SETUP(lifetime)
{
	uint64_t size;

	self->device = variant->device;
	self->hidden_errno = variant->device ? EACCES : EFAULT;
	self->fd = vram_open(O_RDWR, &size);
	ASSERT_GE(self->fd, 0);
	self->memfd = memfd_create("ordinary", MFD_CLOEXEC);
	ASSERT_GE(self->memfd, 0);
	ASSERT_EQ(0, ftruncate(self->memfd, LEN));
	self->eyes = map(self);
	ASSERT_NE(MAP_FAILED, self->eyes);
	ASSERT_EQ(0, rc_pair_open(&self->pair, NULL));
	if (getenv("RDMAV_FORK_SAFE"))
		ASSERT_EQ(IBV_FORK_UNNEEDED, ibv_is_fork_initialized());
	self->host = mmap(NULL, LEN, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->host);
	self->host_mr = ibv_reg_mr(self->pair.pd, self->host, LEN, RC_PAIR_ALL);
	ASSERT_NE(NULL, self->host_mr);
	self->talk = mmap(NULL, sizeof(*self->talk), RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->talk);
	ASSERT_EQ(0, holds_read(&self->before));
}

FIXTURE_TEARDOWN(lifetime)
{
	EXPECT_TRUE(holds_settle(&self->before));
	EXPECT_EQ(0, ibv_dereg_mr(self->host_mr));
	rc_pair_close(&self->pair);
	close(self->memfd);
	close(self->fd);
}

/* Of @len bytes from @offset on: how many are device memory */
static size_t device_part(FIXTURE_DATA(lifetime) *self, size_t offset, size_t len)
{
	if (offset >= self->device)
		return 0;
	return len < self->device - offset ? len : self->device - offset;
}

/*
 * Writes through the region of @rkey and looks with the CPU, then the other way. The part begins
 * at @addr, which is byte @offset of the memory. Returns 0, a completion status or an errno.
 */
static int moves(FIXTURE_DATA(lifetime) *self, struct rc_pair *pair, uint64_t addr, uint32_t rkey,
		 size_t offset, size_t len, uint32_t seed)
{
	uint32_t lkey = self->host_mr->lkey;
	int ret;

	pattern_fill(self->host, len, seed);
	ret = rc_pair_rdma(pair, IBV_WR_RDMA_WRITE, self->host, lkey, len, (void *)addr, rkey);
	if (ret)
		return ret;
	if (!pattern_matches(self->eyes + offset, len, seed))
		return -EBADMSG;
	pattern_fill(self->eyes + offset, len, seed + 1);
	ret = rc_pair_rdma(pair, IBV_WR_RDMA_READ, self->host, lkey, len, (void *)addr, rkey);
	if (ret)
		return ret;
	if (!pattern_matches(self->host, len, seed + 1))
		return -EBADMSG;
	len = device_part(self, offset, len);
	return len ? pattern_expect(offset, len, seed + 1) : 0;
}

/* All of a region of the test's own, whole and then in a part that is not aligned to anything */
static int region_moves(FIXTURE_DATA(lifetime) *self, struct ibv_mr *mr, uint32_t seed)
{
	uint64_t addr = (uintptr_t)mr->addr;
	int ret;

	ret = moves(self, &self->pair, addr, mr->rkey, 0, LEN, seed);
	return ret ?: moves(self, &self->pair, addr + 4095, mr->rkey, 4095, LEN / 2, seed + 2);
}

/* ---- what happens to the mapping ---- */

TEST_F(lifetime, munmap_anywhere)
{
	static const struct { size_t start, len, step; } holes[] = {
		{ 0, LEN, LEN },		/* all of it */
		{ 0, PAGE, LEN },		/* the beginning */
		{ LEN - PAGE, PAGE, LEN },	/* the end */
		{ LEN / 4, LEN / 2, LEN },	/* the middle */
		{ PAGE, PAGE, 2 * PAGE },	/* every second page */
	};

	for (size_t i = 0; i < sizeof(holes) / sizeof(*holes); i++) {
		uint8_t *dev = map(self);
		struct ibv_mr *mr;

		ASSERT_NE(MAP_FAILED, dev);
		mr = ibv_reg_mr(self->pair.pd, dev, LEN, RC_PAIR_ALL);
		ASSERT_NE(NULL, mr);
		for (size_t at = holes[i].start; at < LEN; at += holes[i].step)
			ASSERT_EQ(0, munmap(dev + at, holes[i].len));
		EXPECT_EQ(0, region_moves(self, mr, 100 + 10 * i)) TH_LOG("hole %zu", i);
		EXPECT_EQ(EFAULT, reg_errno(self->pair.pd, dev, LEN, RC_PAIR_ALL));
		EXPECT_EQ(EFAULT, reg_errno(self->pair.pd, dev + holes[i].start, 1, RC_PAIR_ALL));

		/* Whatever comes to these addresses next is none of the region's business. */
		for (size_t at = holes[i].start; at < LEN; at += holes[i].step)
			ASSERT_EQ(dev + at, mmap(dev + at, holes[i].len, RW, MAP_PRIVATE |
						 MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
		EXPECT_EQ(0, region_moves(self, mr, 104 + 10 * i)) TH_LOG("hole %zu, filled", i);
		for (size_t at = holes[i].start; at < LEN; at += holes[i].step)
			for (size_t k = 0; k < holes[i].len; k++)
				ASSERT_EQ(0, dev[at + k]);
		ASSERT_EQ(0, munmap(dev, LEN));
		EXPECT_EQ(0, ibv_dereg_mr(mr));
		ASSERT_TRUE(holds_settle(&self->before));
	}
}

TEST_F(lifetime, mremap)
{
	uint8_t *dev = map(self), *half, *space;
	struct ibv_mr *mr, *moved;

	ASSERT_NE(MAP_FAILED, dev);
	mr = ibv_reg_mr(self->pair.pd, dev, LEN, RC_PAIR_ALL);
	ASSERT_NE(NULL, mr);
	space = mmap(NULL, 2 * LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, space);

	/* The second half elsewhere: the region still is one, and so is the memory. */
	half = mremap(dev + LEN / 2, LEN / 2, LEN / 2, MREMAP_MAYMOVE | MREMAP_FIXED, space);
	ASSERT_EQ(space, half);
	EXPECT_EQ(0, region_moves(self, mr, 200));
	EXPECT_EQ(EFAULT, reg_errno(self->pair.pd, dev, LEN, RC_PAIR_ALL));
	moved = ibv_reg_mr(self->pair.pd, half, LEN / 2, RC_PAIR_ALL);
	ASSERT_NE(NULL, moved) TH_LOG("%s", strerror(errno));
	EXPECT_EQ(0, moves(self, &self->pair, (uintptr_t)half, moved->rkey, LEN / 2, LEN / 2, 210));
	EXPECT_EQ(0, memcmp(half, self->eyes + LEN / 2, LEN / 2));
	EXPECT_EQ(0, ibv_dereg_mr(moved));

	/* All of it back together, at a new place; then smaller */
	ASSERT_EQ(space + LEN, mremap(dev, LEN / 2, LEN / 2, MREMAP_MAYMOVE | MREMAP_FIXED,
				      space + LEN));
	ASSERT_EQ(space + LEN + LEN / 2, mremap(half, LEN / 2, LEN / 2, MREMAP_MAYMOVE |
						MREMAP_FIXED, space + LEN + LEN / 2));
	EXPECT_EQ(0, region_moves(self, mr, 220));
	EXPECT_EQ(EFAULT, reg_errno(self->pair.pd, dev, 1, RC_PAIR_ALL));
	moved = ibv_reg_mr(self->pair.pd, space + LEN, LEN, RC_PAIR_ALL);
	ASSERT_NE(NULL, moved) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(space + LEN, mremap(space + LEN, LEN, PAGE, 0));
	EXPECT_EQ(0, region_moves(self, moved, 230));
	EXPECT_EQ(0, region_moves(self, mr, 240));
	EXPECT_EQ(0, ibv_dereg_mr(moved));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	munmap(space, 2 * LEN);
}

TEST_F(lifetime, mprotect)
{
	uint8_t *dev = map(self);
	struct ibv_mr *mr;

	ASSERT_NE(MAP_FAILED, dev);
	mr = ibv_reg_mr(self->pair.pd, dev, LEN, RC_PAIR_ALL);
	ASSERT_NE(NULL, mr);
	ASSERT_EQ(0, mprotect(dev + PAGE, PAGE, PROT_READ));
	EXPECT_EQ(0, region_moves(self, mr, 300));
	EXPECT_EQ(self->hidden_errno, reg_errno(self->pair.pd, dev, LEN, RC_PAIR_ALL));
	EXPECT_EQ(0, reg_errno(self->pair.pd, dev, LEN, IBV_ACCESS_REMOTE_READ));
	ASSERT_EQ(0, mprotect(dev, LEN, PROT_NONE));
	EXPECT_EQ(0, region_moves(self, mr, 310));
	EXPECT_EQ(self->hidden_errno, reg_errno(self->pair.pd, dev, LEN, RC_PAIR_ALL));
	EXPECT_EQ(self->hidden_errno, reg_errno(self->pair.pd, dev, LEN, IBV_ACCESS_REMOTE_READ));
	ASSERT_EQ(0, mprotect(dev, LEN, RW));
	EXPECT_EQ(0, reg_errno(self->pair.pd, dev, LEN, RC_PAIR_ALL));
	EXPECT_EQ(0, region_moves(self, mr, 320));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	munmap(dev, LEN);
}

/* ---- what happens to the process ---- */

#define WAIT_MS 20000

static int wait_for(atomic_int *where, int what)
{
	for (int i = 0; i < WAIT_MS; i++) {
		if (atomic_load(where) >= what)
			return 0;
		usleep(1000);
	}
	return -ETIMEDOUT;
}

/* In the other process: it is at @stage now, and goes on when the test says so. */
static void pause_at(struct talk *talk, int stage)
{
	atomic_store(&talk->stage, stage);
	if (wait_for(&talk->go, stage))
		_exit(99);
}

/* In the test: until the other process pauses at @stage. */
static int reaches(FIXTURE_DATA(lifetime) *self, int stage)
{
	return wait_for(&self->talk->stage, stage) ?: self->talk->error;
}

static void let_go(FIXTURE_DATA(lifetime) *self, int stage)
{
	atomic_store(&self->talk->go, stage);
}

/* In the other process: the end, with a reason. */
static void give_up(struct talk *talk, int error)
{
	talk->error = error ?: -EIO;
	atomic_store(&talk->stage, 1000);
	_exit(1);
}

/* In the other process: a context of its own, a region, and a QP that is connected to the test's. */
static struct ibv_mr *open_and_register(FIXTURE_DATA(lifetime) *self, struct rc_pair *pair)
{
	struct talk *talk = self->talk;
	uint8_t *mem = map(self);
	struct ibv_mr *mr;
	int ret;

	ret = rc_pair_open(pair, NULL);
	if (ret || mem == MAP_FAILED)
		give_up(talk, ret);
	mr = ibv_reg_mr(pair->pd, mem, LEN, RC_PAIR_ALL);
	if (!mr)
		give_up(talk, -errno);
	ret = rc_connect(pair->qp[1], talk->test_qpn);
	if (ret)
		give_up(talk, ret);
	talk->qpn = pair->qp[1]->qp_num;
	talk->addr = (uintptr_t)mem;
	talk->rkey = mr->rkey;
	return mr;
}

/* Returns as fork() does; the child does not outlive the test. */
static pid_t spawn(FIXTURE_DATA(lifetime) *self)
{
	pid_t pid;

	memset(self->talk, 0, sizeof(*self->talk));
	self->talk->test_qpn = self->pair.qp[0]->qp_num;
	fflush(stdout);
	pid = fork();
	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

/* Status of the process @pid, once it has ended */
static int ended(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid ? status : -1;
}

/* Through the region of the other process */
static int remote_moves(FIXTURE_DATA(lifetime) *self, uint32_t seed)
{
	return moves(self, &self->pair, self->talk->addr, self->talk->rkey, 0, LEN, seed);
}

static int connect_to_other(FIXTURE_DATA(lifetime) *self)
{
	return rc_connect(self->pair.qp[0], self->talk->qpn);
}

/* Nothing of the other process answers any more, and nothing of it holds anything. */
#define EXPECT_GONE(seed) do { \
	EXPECT_TRUE(holds_settle(&self->before)); \
	EXPECT_EQ(IBV_WC_RETRY_EXC_ERR, remote_moves(self, seed)); \
} while (0)

TEST_F(lifetime, fork_child_exits_first)
{
	uint8_t *dev = map(self);
	struct ibv_mr *mr;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, dev);
	mr = ibv_reg_mr(self->pair.pd, dev, LEN, RC_PAIR_ALL);
	ASSERT_NE(NULL, mr);
	for (int i = 0; i < 5; i++) {
		pid = spawn(self);
		ASSERT_GE(pid, 0);
		if (!pid) {
			if (i & 1)
				munmap(dev, LEN);
			pause_at(self->talk, 1);
			_exit(0);
		}
		ASSERT_EQ(0, reaches(self, 1));
		EXPECT_EQ(0, region_moves(self, mr, 400 + 20 * i));
		let_go(self, 1);
		ASSERT_EQ(0, ended(pid));
		EXPECT_EQ(0, region_moves(self, mr, 410 + 20 * i));
	}
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	munmap(dev, LEN);
}

/* What RDMAV_FORK_SAFE does on kernels that do not copy pinned pages at fork() */
TEST_F(lifetime, fork_without_the_mapping)
{
	uint8_t *dev = map(self);
	struct ibv_mr *mr;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, dev);
	mr = ibv_reg_mr(self->pair.pd, dev, LEN, RC_PAIR_ALL);
	ASSERT_NE(NULL, mr);
	ASSERT_EQ(0, madvise(dev, LEN, MADV_DONTFORK));
	pid = spawn(self);
	ASSERT_GE(pid, 0);
	if (!pid) {
		struct rc_pair pair;
		int ret = rc_pair_open(&pair, NULL);

		_exit(ret || reg_errno(pair.pd, dev, LEN, RC_PAIR_ALL) != EFAULT);
	}
	EXPECT_EQ(0, ended(pid));
	EXPECT_EQ(0, region_moves(self, mr, 500));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	munmap(dev, LEN);
}

TEST_F(lifetime, fork_parent_exits_first)
{
	pid_t pid = spawn(self);

	ASSERT_GE(pid, 0);
	if (!pid) {
		struct rc_pair pair;

		open_and_register(self, &pair);
		if (!fork()) {
			/* Has nothing but the file descriptor. */
			pause_at(self->talk, 1);
			pause_at(self->talk, 2);
			_exit(0);
		}
		if (wait_for(&self->talk->go, 1))
			_exit(1);
		_exit(0);
	}
	ASSERT_EQ(0, reaches(self, 1));
	ASSERT_EQ(0, connect_to_other(self));
	EXPECT_EQ(0, remote_moves(self, 600));
	let_go(self, 1);
	ASSERT_EQ(0, ended(pid));
	ASSERT_EQ(0, reaches(self, 2));
	EXPECT_EQ(0, remote_moves(self, 602));
	let_go(self, 2);
	EXPECT_GONE(604);
}

TEST_F(lifetime, fork_child_registers)
{
	uint8_t *dev = map(self);
	struct rc_pair inherited;
	struct ibv_mr *mr;
	pid_t pid;

	/* What it has from its parent, with a context of its own */
	ASSERT_NE(MAP_FAILED, dev);
	pid = spawn(self);
	ASSERT_GE(pid, 0);
	if (!pid) {
		struct rc_pair pair;

		open_and_register(self, &pair);
		mr = ibv_reg_mr(pair.pd, dev, LEN, RC_PAIR_ALL);
		if (!mr)
			give_up(self->talk, -errno);
		self->talk->rkey = mr->rkey;
		self->talk->addr = (uintptr_t)dev;
		pause_at(self->talk, 1);
		_exit(0);
	}
	ASSERT_EQ(0, reaches(self, 1));
	ASSERT_EQ(0, connect_to_other(self));
	EXPECT_EQ(0, remote_moves(self, 700));
	let_go(self, 1);
	ASSERT_EQ(0, ended(pid));
	EXPECT_GONE(702);
	ASSERT_EQ(0, rc_pair_connect(&self->pair));

	/* The same with its parent's context: the region belongs to that. */
	ASSERT_EQ(0, rc_pair_open(&inherited, NULL));
	mr = ibv_reg_mr(inherited.pd, self->host, LEN, RC_PAIR_ALL);
	ASSERT_NE(NULL, mr);
	pid = spawn(self);
	ASSERT_GE(pid, 0);
	if (!pid) {
		mr = ibv_reg_mr(inherited.pd, dev, LEN, RC_PAIR_ALL);
		if (!mr)
			give_up(self->talk, -errno);
		self->talk->rkey = mr->rkey;
		pause_at(self->talk, 1);
		_exit(0);
	}
	ASSERT_EQ(0, reaches(self, 1));
	self->talk->addr = (uintptr_t)dev;
	{
		struct ibv_mr *own = self->host_mr;

		self->host_mr = mr;
		EXPECT_EQ(0, moves(self, &inherited, self->talk->addr, self->talk->rkey, 0, LEN, 710));
		let_go(self, 1);
		EXPECT_EQ(0, ended(pid));
		EXPECT_EQ(0, moves(self, &inherited, self->talk->addr, self->talk->rkey, 0, LEN, 712));
		self->host_mr = own;
	}
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	/* Only the kernel knows the child's region: it goes with the context. */
	rc_pair_close(&inherited);
	munmap(dev, LEN);
	EXPECT_TRUE(holds_settle(&self->before));
}

struct traffic {
	FIXTURE_DATA(lifetime) *self;
	struct ibv_mr *mr;
	atomic_bool stop;
	atomic_int rounds;
	atomic_int error;
};

static void *traffic(void *arg)
{
	struct traffic *t = arg;

	while (!atomic_load(&t->stop) && !atomic_load(&t->error)) {
		int round = atomic_fetch_add(&t->rounds, 1);

		atomic_store(&t->error, moves(t->self, &t->self->pair, (uintptr_t)t->mr->addr,
					      t->mr->rkey, 0, LEN, 800 + round));
	}
	return NULL;
}

TEST_F(lifetime, fork_under_traffic)
{
	struct traffic t = { .self = self };
	uint8_t *dev = map(self);
	pthread_t thread;

	ASSERT_NE(MAP_FAILED, dev);
	t.mr = ibv_reg_mr(self->pair.pd, dev, LEN, RC_PAIR_ALL);
	ASSERT_NE(NULL, t.mr);
	ASSERT_EQ(0, pthread_create(&thread, NULL, traffic, &t));
	for (int i = 0; i < 20 || atomic_load(&t.rounds) < 20; i++) {
		pid_t pid = fork();

		ASSERT_GE(pid, 0);
		if (!pid) {
			if (i & 1)
				munmap(dev, LEN);
			_exit(0);
		}
		ASSERT_EQ(0, ended(pid));
		ASSERT_EQ(0, atomic_load(&t.error));
	}
	atomic_store(&t.stop, true);
	pthread_join(thread, NULL);
	EXPECT_EQ(0, atomic_load(&t.error));
	EXPECT_EQ(0, ibv_dereg_mr(t.mr));
	munmap(dev, LEN);
}

TEST_F(lifetime, exec)
{
	for (int keep = 0; keep < 2; keep++) {
		int input[2];
		pid_t pid;

		ASSERT_EQ(0, pipe2(input, O_CLOEXEC));
		pid = spawn(self);
		ASSERT_GE(pid, 0);
		if (!pid) {
			struct rc_pair pair;

			open_and_register(self, &pair);
			if (keep)
				fcntl(pair.ctx->cmd_fd, F_SETFD, 0);
			dup2(input[0], 0);
			pause_at(self->talk, 1);
			/* A program that knows nothing of verbs, and ends with its input. */
			execl("/bin/cat", "cat", NULL);
			_exit(1);
		}
		close(input[0]);
		ASSERT_EQ(0, reaches(self, 1));
		ASSERT_EQ(0, connect_to_other(self));
		EXPECT_EQ(0, remote_moves(self, 900 + 10 * keep));
		let_go(self, 1);
		/* It answers when it runs. */
		for (int i = 0; i < 2000; i++) {
			char path[64], comm[16] = "";
			int fd;

			snprintf(path, sizeof(path), "/proc/%d/comm", pid);
			fd = open(path, O_RDONLY);
			ASSERT_GE(fd, 0);
			ASSERT_GT(read(fd, comm, sizeof(comm)), 0);
			close(fd);
			if (!strcmp(comm, "cat\n"))
				break;
			usleep(1000);
		}
		if (keep) {
			EXPECT_EQ(0, remote_moves(self, 902 + 10 * keep));
		} else {
			EXPECT_GONE(902);
		}
		close(input[1]);
		EXPECT_EQ(0, ended(pid));
		if (keep) {
			EXPECT_GONE(914);
		}
	}
}

TEST_F(lifetime, exit_with_regions)
{
	struct holds now;
	pid_t pid;

	pid = spawn(self);
	ASSERT_GE(pid, 0);
	if (!pid) {
		struct rc_pair pair;
		struct ibv_mr *mr = open_and_register(self, &pair);

		for (size_t at = 0; at < LEN; at += LEN / 64)
			if (!ibv_reg_mr(pair.pd, (uint8_t *)mr->addr + at, LEN / 64, RC_PAIR_ALL))
				give_up(self->talk, -errno);
		pause_at(self->talk, 1);
		exit(0);
	}
	ASSERT_EQ(0, reaches(self, 1));
	ASSERT_EQ(0, connect_to_other(self));
	EXPECT_EQ(0, remote_moves(self, 1000));
	/* The counts do count. */
	ASSERT_EQ(0, holds_read(&now));
	if (self->device) {
		EXPECT_EQ(self->before.buf_refs + 1 + 64 * self->device / LEN, now.buf_refs);
		EXPECT_EQ(self->before.attached + 1, now.attached);
		EXPECT_EQ(self->before.awake + 1, now.awake);
	}
	/* Once in the whole, and once in a part; and there are rings. */
	EXPECT_GE(now.pinned - self->before.pinned, 2 * (LEN - self->device) / PAGE);
	let_go(self, 1);
	EXPECT_EQ(0, ended(pid));
	EXPECT_GONE(1002);
}

/* The file descriptor of the context, over a socket */
static int send_fd(int socket, int fd)
{
	union { struct cmsghdr align; char buf[CMSG_SPACE(sizeof(int))]; } control = {};
	struct iovec iov = { "x", 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf,
			      .msg_controllen = sizeof(control.buf) };
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
	return sendmsg(socket, &msg, 0) == 1 ? 0 : -errno;
}

static int receive_fd(int socket)
{
	union { struct cmsghdr align; char buf[CMSG_SPACE(sizeof(int))]; } control;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf,
			      .msg_controllen = sizeof(control.buf) };
	struct cmsghdr *cmsg;
	int fd;

	if (recvmsg(socket, &msg, MSG_CMSG_CLOEXEC) != 1)
		return -errno;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (!cmsg || cmsg->cmsg_type != SCM_RIGHTS)
		return -EBADMSG;
	memcpy(&fd, CMSG_DATA(cmsg), sizeof(int));
	return fd;
}

/* The test itself is the other process: it is not related to the first one's memory. */
TEST_F(lifetime, descriptor_passed_on)
{
	int sockets[2], fd;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets));
	pid = spawn(self);
	ASSERT_GE(pid, 0);
	if (!pid) {
		struct rc_pair pair;

		open_and_register(self, &pair);
		if (send_fd(sockets[1], pair.ctx->cmd_fd))
			give_up(self->talk, -errno);
		pause_at(self->talk, 1);
		raise(SIGKILL);
	}
	ASSERT_EQ(0, reaches(self, 1));
	fd = receive_fd(sockets[0]);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(0, connect_to_other(self));
	EXPECT_EQ(0, remote_moves(self, 1100));
	let_go(self, 1);
	EXPECT_EQ(SIGKILL, ended(pid));
	EXPECT_EQ(0, remote_moves(self, 1102));
	/* On its way in a socket that nobody reads */
	ASSERT_EQ(0, send_fd(sockets[1], fd));
	close(fd);
	EXPECT_EQ(0, remote_moves(self, 1104));
	close(sockets[0]);
	close(sockets[1]);
	EXPECT_GONE(1106);
}

/* ---- SIGKILL ---- */

struct registrar {
	struct ibv_pd *pd;
	struct talk *talk;
	uint8_t *mem;
	unsigned int seed;
};

static void *register_for_ever(void *arg)
{
	struct registrar *r = arg;

	for (;;) {
		size_t at = rand_r(&r->seed) % LEN, len = rand_r(&r->seed) % (LEN - at) + 1;
		struct ibv_mr *mr = ibv_reg_mr(r->pd, r->mem + at, len, RC_PAIR_ALL);

		if (!mr)
			give_up(r->talk, -errno);
		atomic_fetch_add(&r->talk->stage, 1);
		/* Some stay. */
		if (rand_r(&r->seed) & 3)
			ibv_dereg_mr(mr);
	}
	return NULL;
}

#define KILLS 15

TEST_F_TIMEOUT(lifetime, killed_while_registering, 120)
{
	unsigned int seed = 1;

	for (int i = 0; i < KILLS; i++) {
		pid_t pid = spawn(self);

		ASSERT_GE(pid, 0);
		if (!pid) {
			struct registrar r[2];
			struct rc_pair pair;
			pthread_t thread;

			r[0] = (struct registrar){ .talk = self->talk, .mem = map(self), .seed = i };
			if (r[0].mem == MAP_FAILED || rc_pair_open(&pair, NULL))
				give_up(self->talk, -errno);
			r[0].pd = pair.pd;
			r[1] = r[0];
			r[1].seed += 1000;
			if (pthread_create(&thread, NULL, register_for_ever, &r[0]))
				give_up(self->talk, -EAGAIN);
			register_for_ever(&r[1]);
		}
		ASSERT_EQ(0, reaches(self, 10));
		usleep(rand_r(&seed) % 5000);
		kill(pid, SIGKILL);
		ASSERT_EQ(SIGKILL, ended(pid));
		ASSERT_EQ(0, self->talk->error) TH_LOG("%s", strerror(-self->talk->error));
		ASSERT_TRUE(holds_settle(&self->before)) TH_LOG("kill %d", i);
	}
}

/* Keeps the send queue of a QP filled, into the region and out of it. */
static void send_for_ever(struct rc_pair *pair, struct ibv_mr *mr, struct talk *talk)
{
	uint8_t *mem = mr->addr;
	struct ibv_send_wr *bad;
	struct ibv_wc wc;

	for (unsigned int i = 0;; i++) {
		struct ibv_sge sge = { (uintptr_t)mem + i % 16 * 1000, LEN / 4, mr->lkey };
		struct ibv_send_wr wr = {
			.sg_list = &sge, .num_sge = 1, .send_flags = IBV_SEND_SIGNALED,
			.opcode = i & 1 ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ,
			.wr.rdma = { (uintptr_t)mem + LEN / 2 + i % 7 * PAGE, mr->rkey },
		};
		int ret;

		ret = ibv_post_send(pair->qp[0], &wr, &bad);
		if (ret)
			give_up(talk, -ret);
		if (i < 16)
			continue;
		ret = rc_pair_poll(pair, &wc);
		if (ret || wc.status)
			give_up(talk, ret ?: -EIO);
		atomic_fetch_add(&talk->stage, 1);
	}
}

TEST_F_TIMEOUT(lifetime, killed_under_traffic, 120)
{
	unsigned int seed = 2;

	for (int i = 0; i < KILLS; i++) {
		pid_t pid = spawn(self);

		ASSERT_GE(pid, 0);
		if (!pid) {
			struct rc_pair pair;
			struct ibv_mr *mr = open_and_register(self, &pair);

			if (rc_pair_connect(&pair))
				give_up(self->talk, -errno);
			send_for_ever(&pair, mr, self->talk);
		}
		ASSERT_EQ(0, reaches(self, 10));
		usleep(rand_r(&seed) % 5000);
		kill(pid, SIGKILL);
		ASSERT_EQ(SIGKILL, ended(pid));
		ASSERT_EQ(0, self->talk->error) TH_LOG("%s", strerror(-self->talk->error));
		ASSERT_TRUE(holds_settle(&self->before)) TH_LOG("kill %d", i);

		/* What held nothing any more writes nothing any more. */
		pattern_fill(self->eyes, LEN, 1200 + i);
		usleep(20000);
		ASSERT_TRUE(pattern_matches(self->eyes, LEN, 1200 + i)) TH_LOG("kill %d", i);
	}
	if (self->device)
		ASSERT_EQ(0, pattern_expect(0, self->device, 1200 + KILLS - 1));
}

TEST_HARNESS_MAIN
