// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * simgpu, the sample exporter: its buffers registered by pointer and as DMA-buf, which are the same
 * memory; taken back, moved, and left behind when the driver goes.
 *
 * Every test ends with the whole device memory free again. Runs with HCAs that can fence a key and
 * with those that cannot (simhca.revoke=none), with an IOMMU and without.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "file.h"
#include "pattern.h"
#include "rc_pair.h"
#include "simgpu.h"
#include "sizes.h"

#define STAGING (2 * MIB)
/* Behind an IOMMU, on a busy machine. It says when something hangs, no more. */
#define TIMEOUT 240

/* Tests that leave something for check_vram have a window of the device memory of their own. */
#define WINDOW (16 * MIB)
enum window { W_ELSEWHERE, W_CONTIGUOUS, W_FRAGMENTS, W_DESCENDING, W_EVICT, W_FORK, W_OFFSET, W_MANY };

/* A buffer, mapped and exported */
struct buf {
	struct simgpu_create c;
	uint8_t *map;
	int dmabuf;
};

enum way { POINTER, DMABUF, WAYS };

FIXTURE(simgpu) {
	struct rc_pair pair;
	int fd;
	bool hook, iova;	/* what stops the HCA: the driver's hook; the IOMMU */
	uint8_t *host;		/* STAGING bytes of ordinary memory */
	struct ibv_mr *host_mr;
};

static int device_write(const char *name, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", getenv("VRAM_BDF"), name);
	return write_file(path, text);
}

/* Binds simgpu, and nothing else, if it is not bound; opens its device file. */
static int simgpu_bind(void)
{
	int ret;

	if (access("/dev/simgpu0", F_OK)) {
		ret = device_write("driver_override", "simgpu");
		if (!ret)
			ret = write_file("/sys/bus/pci/drivers_probe", getenv("VRAM_BDF"));
		if (ret)
			return ret;
	}
	ret = open("/dev/simgpu0", O_RDWR | O_CLOEXEC);
	return ret < 0 ? -errno : ret;
}

static int simgpu_unbind(void)
{
	return device_write("driver/unbind", getenv("VRAM_BDF"));
}

static uint64_t vram_size(void)
{
	struct stat st;

	return stat(getenv("VRAM_RESOURCE"), &st) ? 0 : st.st_size;
}

static int command(int fd, unsigned long request, uint32_t handle, uint32_t flags)
{
	struct simgpu_handle arg = { .handle = handle, .flags = flags };
	int ret = ioctl(fd, request, &arg);

	return ret < 0 ? -errno : ret;
}

static int create(int fd, struct simgpu_create *c)
{
	return ioctl(fd, SIMGPU_IOC_CREATE, c) ? -errno : 0;
}

/* Allocates what @buf->c says, maps and exports it. */
static int buf_open(int fd, struct buf *buf)
{
	int ret = create(fd, &buf->c);

	if (ret)
		return ret;
	buf->map = mmap(NULL, buf->c.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			buf->c.mmap_offset);
	if (buf->map == MAP_FAILED)
		return -errno;
	buf->dmabuf = command(fd, SIMGPU_IOC_EXPORT, buf->c.handle, 0);
	return buf->dmabuf < 0 ? buf->dmabuf : 0;
}

/* The same in the window @w. */
static int buf_open_at(int fd, enum window w, struct buf *buf)
{
	struct simgpu_create below = { .size = w * WINDOW };
	int ret;

	if (!w)
		return buf_open(fd, buf);
	ret = create(fd, &below);
	if (!ret)
		ret = buf_open(fd, buf);
	return command(fd, SIMGPU_IOC_CLOSE, below.handle, 0) ?: ret;
}

static void buf_close(int fd, struct buf *buf)
{
	munmap(buf->map, buf->c.size);
	close(buf->dmabuf);
	command(fd, SIMGPU_IOC_CLOSE, buf->c.handle, 0);
}

static int buf_info(int fd, struct buf *buf, uint64_t offset, struct simgpu_info *info)
{
	*info = (struct simgpu_info){ .handle = buf->c.handle, .offset = offset };
	return ioctl(fd, SIMGPU_IOC_INFO, info) ? -errno : 0;
}

static uint64_t bar_offset(int fd, struct buf *buf, uint64_t offset)
{
	struct simgpu_info info;

	return buf_info(fd, buf, offset, &info) ? UINT64_MAX : info.bar_offset;
}

/* Registers a part of @buf. By either way the region is addressed by the pointer. NULL with errno. */
static struct ibv_mr *buf_reg(struct ibv_pd *pd, enum way way, struct buf *buf, size_t offset,
			      size_t len)
{
	if (way == POINTER)
		return ibv_reg_mr(pd, buf->map + offset, len, RC_PAIR_ALL);
	return ibv_reg_dmabuf_mr(pd, offset, len, (uintptr_t)buf->map + offset, buf->dmabuf,
				 RC_PAIR_ALL);
}

static int buf_reg_errno(struct ibv_pd *pd, enum way way, struct buf *buf)
{
	struct ibv_mr *mr = buf_reg(pd, way, buf, 0, buf->c.size);

	if (!mr)
		return errno;
	return ibv_dereg_mr(mr);
}

FIXTURE_SETUP(simgpu)
{
	char path[128];

	self->fd = simgpu_bind();
	ASSERT_GE(self->fd, 0) TH_LOG("simgpu: %s", strerror(-self->fd));
	ASSERT_EQ(0, rc_pair_open(&self->pair, NULL));
	/* A huge page, or an IOMMU costs more here than in what is to be tested. */
	self->host = aligned_alloc(2 * MIB, STAGING);
	ASSERT_NE(NULL, self->host);
	ASSERT_EQ(0, madvise(self->host, STAGING, MADV_HUGEPAGE));
	self->host_mr = ibv_reg_mr(self->pair.pd, self->host, STAGING, RC_PAIR_ALL);
	ASSERT_NE(NULL, self->host_mr);

	self->hook = hca_has_hook();
	snprintf(path, sizeof(path), "/sys/class/infiniband/%s/device/iommu_group/type",
		 getenv("HCA"));
	self->iova = file_says(path, "DMA");
}

/* Nothing is left of any buffer. */
FIXTURE_TEARDOWN(simgpu)
{
	struct simgpu_create all = { .size = vram_size() };

	EXPECT_EQ(0, ibv_dereg_mr(self->host_mr));
	free(self->host);
	rc_pair_close(&self->pair);
	close(self->fd);

	self->fd = simgpu_bind();
	EXPECT_EQ(0, create(self->fd, &all));
	close(self->fd);
}

/* Importers that a test which revokes lets in */
static uint32_t revocable(FIXTURE_DATA(simgpu) *self)
{
	return self->hook ? SIMGPU_REVOCABLE : SIMGPU_REVOCABLE_OR_IOVA;
}

/* Between @host and the device memory at @dev, through the remote key. */
static int remote(FIXTURE_DATA(simgpu) *self, enum ibv_wr_opcode op, struct ibv_mr *mr, void *dev,
		  size_t len)
{
	return rc_pair_rdma(&self->pair, op, self->host, self->host_mr->lkey, len, dev, mr->rkey);
}

/* The same, through the local key. */
static int local(FIXTURE_DATA(simgpu) *self, enum ibv_wr_opcode op, struct ibv_mr *mr, void *dev,
		 size_t len)
{
	return rc_pair_rdma(&self->pair, op, dev, mr->lkey, len, self->host, self->host_mr->rkey);
}

/* Writes the pattern @seed to @dev, and says so. */
static int fill(FIXTURE_DATA(simgpu) *self, struct ibv_mr *mr, void *dev, size_t len, uint32_t seed)
{
	pattern_fill(self->host, len, seed);
	return remote(self, IBV_WR_RDMA_WRITE, mr, dev, len);
}

/* Whether the pattern @seed is at @dev, for the HCA and for the CPU. */
static bool holds(FIXTURE_DATA(simgpu) *self, struct ibv_mr *mr, void *dev, size_t len,
		  uint32_t seed)
{
	memset(self->host, 0, len);
	return !local(self, IBV_WR_RDMA_WRITE, mr, dev, len) &&
	       pattern_matches(self->host, len, seed) && pattern_matches(dev, len, seed);
}

/*
 * The region is there, but nothing is behind its keys any more. Where it is the IOMMU that stops the
 * HCA, the responder knows only that something went wrong. Returns 0, or what came instead.
 */
static int expect_fenced(FIXTURE_DATA(simgpu) *self, struct ibv_mr *mr, void *dev)
{
	int want = self->hook ? IBV_WC_REM_ACCESS_ERR : IBV_WC_REM_OP_ERR;
	int at_local = local(self, IBV_WR_RDMA_WRITE, mr, dev, PAGE);
	int at_remote = rc_pair_connect(&self->pair) ?:
			remote(self, IBV_WR_RDMA_WRITE, mr, dev, PAGE);
	int ret = rc_pair_connect(&self->pair);

	if (at_local != IBV_WC_LOC_PROT_ERR)
		return at_local ?: -EPROTO;
	if (at_remote != want)
		return at_remote ?: -EPROTO;
	return ret;
}

/* What becomes of a process that reads *@p: 0, or a signal */
static int touch(volatile uint8_t *p)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		signal(SIGBUS, SIG_DFL);
		_exit(*p & 0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

/* How many faults it takes to read a byte of each page: how many have no PTE, if one fault makes one. */
__attribute__((no_sanitize("address"))) static long faults(const volatile uint8_t *addr, size_t len)
{
	struct rusage before, after;

	getrusage(RUSAGE_SELF, &before);
	for (size_t at = 0; at < len; at += PAGE)
		(void)addr[at];
	getrusage(RUSAGE_SELF, &after);
	return after.ru_minflt - before.ru_minflt;
}

TEST_F_TIMEOUT(simgpu, checks_what_it_is_asked, TIMEOUT)
{
	const uint64_t vram = vram_size();
	const struct simgpu_create bad[] = {
		{ .size = 0 },
		{ .size = 1 },
		{ .size = PAGE + 1 },
		{ .size = vram + PAGE },
		{ .size = UINT64_MAX - PAGE + 1 },
		{ .size = MIB, .frag_size = 100 },
		{ .size = MIB, .frag_size = 3 * PAGE },
		{ .size = MIB, .frag_size = 2 * MIB },
		{ .size = MIB, .frag_size = PAGE, .stride = PAGE / 2 },
		{ .size = MIB, .frag_size = 2 * PAGE, .stride = PAGE },
		{ .size = MIB, .frag_size = PAGE, .stride = PAGE + 1 },
		{ .size = MIB, .frag_size = PAGE, .stride = vram + PAGE },
		{ .size = (SIMGPU_MAX_FRAGS + 1) * PAGE, .frag_size = PAGE },
		{ .size = MIB, .flags = 0x4 },
		{ .size = MIB, .importers = SIMGPU_ANY + 1 },
		{ .size = MIB, .reserved = 1 },
	};
	struct simgpu_create big = { .size = vram, .frag_size = PAGE * 256, .stride = PAGE * 512 };
	struct simgpu_info info;
	struct buf buf = { .c.size = MIB };

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct simgpu_create c = bad[i];

		EXPECT_EQ(-EINVAL, create(self->fd, &c)) TH_LOG("%zu", i);
	}
	EXPECT_EQ(-ENOSPC, create(self->fd, &big));
	EXPECT_EQ(-EFAULT, create(self->fd, NULL));
	EXPECT_EQ(-1, ioctl(self->fd, _IO('G', 0x80), NULL));
	EXPECT_EQ(ENOTTY, errno);

	ASSERT_EQ(0, buf_open(self->fd, &buf));
	EXPECT_EQ(-EINVAL, buf_info(self->fd, &buf, MIB, &info));
	EXPECT_EQ(-EINVAL, command(self->fd, SIMGPU_IOC_REVOKE, buf.c.handle, SIMGPU_FORCE));
	EXPECT_EQ(-EINVAL, command(self->fd, SIMGPU_IOC_EVICT, buf.c.handle, 2));
	EXPECT_EQ(-ENOENT, command(self->fd, SIMGPU_IOC_CLOSE, buf.c.handle + 1, 0));
	EXPECT_EQ(-ENOENT, command(self->fd, SIMGPU_IOC_EVICT, 0, 0));

	/* Beyond the end, no buffer at all, and a private mapping. */
	EXPECT_EQ(MAP_FAILED, mmap(NULL, 2 * MIB, PROT_READ, MAP_SHARED, self->fd, buf.c.mmap_offset));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->fd, 0));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->fd,
				   buf.c.mmap_offset + MIB));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, self->fd, buf.c.mmap_offset));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, buf.dmabuf, 0));
	EXPECT_EQ(MAP_FAILED, mremap(buf.map, MIB, 2 * MIB, MREMAP_MAYMOVE));
	buf_close(self->fd, &buf);
}

/* Handles are of the open file, not of the device. */
TEST_F_TIMEOUT(simgpu, keeps_files_apart, TIMEOUT)
{
	struct buf buf = { .c.size = MIB };
	int other = simgpu_bind();

	ASSERT_GE(other, 0);
	ASSERT_EQ(0, buf_open(self->fd, &buf));
	EXPECT_EQ(-ENOENT, command(other, SIMGPU_IOC_REVOKE, buf.c.handle, 0));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, other, buf.c.mmap_offset));
	close(other);
	buf_close(self->fd, &buf);
}

/* Every shape of buffer, by both ways */
FIXTURE(shape) {
	FIXTURE_DATA(simgpu) s;
};

FIXTURE_VARIANT(shape) {
	enum window window;
	size_t size, frag_size, stride;
	uint32_t flags;
};

FIXTURE_VARIANT_ADD(shape, contiguous) { .window = W_CONTIGUOUS, .size = 2 * MIB };
FIXTURE_VARIANT_ADD(shape, fragments) {
	.window = W_FRAGMENTS, .size = 2 * MIB, .frag_size = 64 * KIB, .stride = 96 * KIB,
};
FIXTURE_VARIANT_ADD(shape, descending) {
	.window = W_DESCENDING, .size = 4 * MIB, .frag_size = 16 * KIB, .flags = SIMGPU_DESCENDING,
};
FIXTURE_VARIANT_ADD(shape, 65536_fragments) {
	.window = W_MANY, .size = SIMGPU_MAX_FRAGS * PAGE, .frag_size = PAGE, .stride = 2 * PAGE,
};

FIXTURE_SETUP(shape)
{
	simgpu_setup(_metadata, &self->s, NULL);
}

FIXTURE_TEARDOWN(shape)
{
	simgpu_teardown(_metadata, &self->s, NULL);
}

/*
 * Fragment by fragment, each with a pattern of its own, a MiB at the start, in the middle and at the
 * end. One way writes what the other one reads.
 */
TEST_F_TIMEOUT(shape, both_ways, TIMEOUT)
{
	FIXTURE_DATA(simgpu) *s = &self->s;
	struct buf buf = {
		.c = { .size = variant->size, .frag_size = variant->frag_size,
		       .stride = variant->stride, .flags = variant->flags,
		       .importers = revocable(s) },
	};
	const size_t frag = variant->frag_size ?: MIB, size = variant->size;
	const size_t parts[] = { 0, size / 2 / frag * frag, size - MIB };
	struct ibv_mr *mr[WAYS];
	struct simgpu_info info;

	ASSERT_EQ(0, buf_open_at(s->fd, variant->window, &buf));
	ASSERT_EQ(0, buf_info(s->fd, &buf, 0, &info));
	ASSERT_EQ(variant->frag_size ? size / frag : 1, info.nr_frags);
	for (enum way way = 0; way < WAYS; way++) {
		mr[way] = buf_reg(s->pair.pd, way, &buf, 0, size);
		ASSERT_NE(NULL, mr[way]) TH_LOG("way %d: %s", way, strerror(errno));
	}
	ASSERT_EQ(0, buf_info(s->fd, &buf, 0, &info));
	EXPECT_EQ(2, info.nr_pins);

	for (int i = 0; i < 3; i++) {
		uint8_t *part = buf.map + parts[i];

		for (size_t at = 0; at < MIB; at += frag) {
			uint32_t seed = 1000 * (i + 1) + at / frag;

			pattern_fill(s->host + at, frag, seed);
			ASSERT_EQ(0, pattern_expect(bar_offset(s->fd, &buf, parts[i] + at), frag, seed));
		}
		ASSERT_EQ(0, remote(s, IBV_WR_RDMA_WRITE, mr[i & 1], part, MIB));
		ASSERT_EQ(0, memcmp(s->host, part, MIB));
		memset(s->host + MIB, 0, MIB);
		ASSERT_EQ(0, rc_pair_rdma(&s->pair, IBV_WR_RDMA_READ, s->host + MIB, s->host_mr->lkey,
					  MIB, part, mr[!(i & 1)]->rkey));
		ASSERT_EQ(0, memcmp(s->host + MIB, part, MIB));
	}

	for (enum way way = 0; way < WAYS; way++) {
		ASSERT_EQ(0, ibv_dereg_mr(mr[way]));
	}
	ASSERT_EQ(0, buf_info(s->fd, &buf, 0, &info));
	EXPECT_EQ(0, info.nr_pins);
	buf_close(s->fd, &buf);
}

/* A mapping of a part of the buffer, and a region that is a part of that and not of whole pages */
TEST_F_TIMEOUT(simgpu, offsets, TIMEOUT)
{
	struct buf buf = {
		.c = { .size = MIB, .frag_size = 32 * KIB, .stride = 64 * KIB,
		       .importers = revocable(self) },
	};
	const size_t start = 3 * 32 * KIB + 2 * PAGE, skip = 123, len = 3 * PAGE + 45;
	struct ibv_mr *mr;
	uint8_t *map;

	ASSERT_EQ(0, buf_open_at(self->fd, W_OFFSET, &buf));
	for (int i = 0; i < 2; i++) {
		/* Through the device file, and through the DMA-buf */
		map = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
			   i ? buf.dmabuf : self->fd, (i ? 0 : buf.c.mmap_offset) + start);
		ASSERT_NE(MAP_FAILED, map);
		mr = ibv_reg_mr(self->pair.pd, map + skip, len, RC_PAIR_ALL);
		ASSERT_NE(NULL, mr);
		ASSERT_EQ(0, fill(self, mr, map + skip, len, 10 + i));
		ASSERT_TRUE(holds(self, mr, map + skip, len, 10 + i));
		ASSERT_TRUE(pattern_matches(buf.map + start + skip, len, 10 + i));
		ASSERT_EQ(0, ibv_dereg_mr(mr));
		munmap(map, 8 * PAGE);
	}
	/* It was in one fragment. */
	ASSERT_EQ(0, pattern_expect(bar_offset(self->fd, &buf, start) + skip, len, 11));
	buf_close(self->fd, &buf);
}

/* Page tables do not matter: neither none, nor some, nor all. */
TEST_F_TIMEOUT(simgpu, page_tables, TIMEOUT)
{
	for (int all = 0; all < 2; all++) {
		struct buf buf = {
			.c = { .size = MIB, .flags = all ? SIMGPU_FAULT_ALL : 0,
			       .importers = revocable(self) },
		};
		struct ibv_mr *mr;

		ASSERT_EQ(0, buf_open(self->fd, &buf));
		mr = buf_reg(self->pair.pd, POINTER, &buf, 0, MIB);
		ASSERT_NE(NULL, mr);
		ASSERT_EQ(0, fill(self, mr, buf.map, MIB, 5));
		EXPECT_EQ(all ? 1 : 128, faults(buf.map, MIB / 2));
		EXPECT_EQ(0, buf_reg_errno(self->pair.pd, POINTER, &buf));
		EXPECT_EQ(all ? 0 : 128, faults(buf.map, MIB));
		EXPECT_EQ(0, faults(buf.map, MIB));
		ASSERT_TRUE(holds(self, mr, buf.map, MIB, 5));
		memset(buf.map, 0, MIB);
		ASSERT_EQ(0, ibv_dereg_mr(mr));
		buf_close(self->fd, &buf);
	}
}

/* Who cannot be stopped is refused, by both ways; the two policies that need a way to stop. */
TEST_F_TIMEOUT(simgpu, lets_in_whom_it_can_stop, TIMEOUT)
{
	const int want[] = {
		[SIMGPU_REVOCABLE] = self->hook ? 0 : EOPNOTSUPP,
		[SIMGPU_REVOCABLE_OR_IOVA] = self->hook || self->iova ? 0 : EOPNOTSUPP,
		[SIMGPU_ANY] = 0,
	};

	for (uint32_t importers = 0; importers <= SIMGPU_ANY; importers++) {
		struct buf buf = { .c = { .size = MIB, .importers = importers } };

		ASSERT_EQ(0, buf_open(self->fd, &buf));
		for (enum way way = 0; way < WAYS; way++) {
			EXPECT_EQ(want[importers], buf_reg_errno(self->pair.pd, way, &buf))
				TH_LOG("importers %u, way %d", importers, way);
		}
		EXPECT_EQ(importers == SIMGPU_ANY ? -EOPNOTSUPP : 0,
			  command(self->fd, SIMGPU_IOC_REVOKE, buf.c.handle, 0));
		buf_close(self->fd, &buf);
	}
}

TEST_F_TIMEOUT(simgpu, revokes, TIMEOUT)
{
	struct simgpu_create all = { .size = vram_size() };
	struct buf buf = {
		.c = { .size = MIB, .frag_size = 64 * KIB, .stride = 128 * KIB,
		       .importers = revocable(self) },
	};
	struct ibv_mr *mr[WAYS + 1];
	struct simgpu_info info;

	ASSERT_EQ(0, buf_open(self->fd, &buf));
	for (int i = 0; i < WAYS + 1; i++) {
		mr[i] = buf_reg(self->pair.pd, i % WAYS, &buf, i * PAGE, 512 * KIB);
		ASSERT_NE(NULL, mr[i]);
		ASSERT_EQ(0, fill(self, mr[i], buf.map + i * PAGE, PAGE, 20 + i));
		ASSERT_TRUE(holds(self, mr[i], buf.map + i * PAGE, PAGE, 20 + i));
	}
	memset(buf.map, 0, MIB);

	ASSERT_EQ(0, command(self->fd, SIMGPU_IOC_REVOKE, buf.c.handle, 0));
	ASSERT_EQ(0, buf_info(self->fd, &buf, 0, &info));
	EXPECT_EQ(1, info.revoked);
	EXPECT_EQ(SIGBUS, touch(buf.map));
	EXPECT_EQ(SIGBUS, touch(buf.map + MIB - 1));
	for (int i = 0; i < WAYS + 1; i++) {
		EXPECT_EQ(0, expect_fenced(self, mr[i], buf.map + i * PAGE)) TH_LOG("%d", i);
	}

	/* The memory is free, while all that refers to it still exists. */
	EXPECT_EQ(0, create(self->fd, &all));
	EXPECT_EQ(0, command(self->fd, SIMGPU_IOC_CLOSE, all.handle, 0));

	/* For good, but no buffer other than this one */
	for (enum way way = 0; way < WAYS; way++) {
		EXPECT_EQ(ENODEV, buf_reg_errno(self->pair.pd, way, &buf)) TH_LOG("way %d", way);
	}
	EXPECT_EQ(MAP_FAILED, mmap(NULL, MIB, PROT_READ, MAP_SHARED, self->fd, buf.c.mmap_offset));
	EXPECT_EQ(ENODEV, errno);
	EXPECT_EQ(-ENODEV, command(self->fd, SIMGPU_IOC_EVICT, buf.c.handle, 0));
	EXPECT_EQ(0, command(self->fd, SIMGPU_IOC_REVOKE, buf.c.handle, 0));
	for (int i = 0; i < WAYS + 1; i++) {
		EXPECT_EQ(0, ibv_dereg_mr(mr[i]));
	}
	buf_close(self->fd, &buf);

	buf.c = (struct simgpu_create){ .size = MIB, .importers = revocable(self) };
	ASSERT_EQ(0, buf_open(self->fd, &buf));
	for (enum way way = 0; way < WAYS; way++) {
		EXPECT_EQ(0, buf_reg_errno(self->pair.pd, way, &buf));
	}
	buf_close(self->fd, &buf);
}

struct race {
	struct ibv_pd *pd;
	struct buf *buf;
	struct ibv_mr *mr[WAYS];
	int err[WAYS];
	atomic_bool stop;
};

static void *register_once(void *arg)
{
	struct race *race = arg;

	for (enum way way = 0; way < WAYS; way++) {
		race->mr[way] = buf_reg(race->pd, way, race->buf, 0, race->buf->c.size);
		race->err[way] = race->mr[way] ? 0 : errno;
	}
	return NULL;
}

TEST_F_TIMEOUT(simgpu, revokes_while_registering, TIMEOUT)
{
	int won[WAYS] = {};

	for (int round = 0; round < 200; round++) {
		struct buf buf = { .c = { .size = 64 * KIB, .importers = revocable(self) } };
		struct race race = { .pd = self->pair.pd, .buf = &buf };
		pthread_t thread;

		ASSERT_EQ(0, buf_open(self->fd, &buf));
		ASSERT_EQ(0, pthread_create(&thread, NULL, register_once, &race));
		usleep(round * 10);
		ASSERT_EQ(0, command(self->fd, SIMGPU_IOC_REVOKE, buf.c.handle, 0));
		pthread_join(thread, NULL);
		for (enum way way = 0; way < WAYS; way++) {
			if (!race.mr[way]) {
				ASSERT_EQ(ENODEV, race.err[way]);
				continue;
			}
			won[way]++;
			ASSERT_EQ(0, expect_fenced(self, race.mr[way], buf.map));
			ASSERT_EQ(0, ibv_dereg_mr(race.mr[way]));
		}
		buf_close(self->fd, &buf);
	}
	TH_LOG("registered before the revocation: %d by pointer, %d as DMA-buf, of 200", won[0], won[1]);
}

TEST_F_TIMEOUT(simgpu, evicts, TIMEOUT)
{
	struct buf buf = {
		.c = { .size = MIB, .frag_size = 64 * KIB, .stride = 128 * KIB,
		       .importers = revocable(self) },
	};
	uint64_t before, after;
	struct ibv_mr *mr;

	ASSERT_EQ(0, buf_open_at(self->fd, W_EVICT, &buf));
	for (size_t at = 0; at < MIB; at += 64 * KIB) {
		before = bar_offset(self->fd, &buf, at);
		pattern_fill(buf.map + at, 64 * KIB, 40 + at / PAGE);
		/* What was there stays there. */
		ASSERT_EQ(0, pattern_expect(before, 64 * KIB, 40 + at / PAGE));
	}

	/* Pinned, it stays where it is. */
	before = bar_offset(self->fd, &buf, 0);
	for (enum way way = 0; way < WAYS; way++) {
		mr = buf_reg(self->pair.pd, way, &buf, 0, MIB);
		ASSERT_NE(NULL, mr);
		EXPECT_EQ(-EBUSY, command(self->fd, SIMGPU_IOC_EVICT, buf.c.handle, 0));
		EXPECT_EQ(before, bar_offset(self->fd, &buf, 0));
		ASSERT_TRUE(holds(self, mr, buf.map, 64 * KIB, 40));
		ASSERT_EQ(0, ibv_dereg_mr(mr));
	}

	/* Otherwise everybody sees it at its new place: the first free one, below the window. */
	EXPECT_EQ(0, faults(buf.map, MIB));
	ASSERT_EQ(0, command(self->fd, SIMGPU_IOC_EVICT, buf.c.handle, 0));
	EXPECT_EQ(MIB / PAGE, faults(buf.map, MIB));
	for (size_t at = 0; at < MIB; at += 64 * KIB) {
		after = bar_offset(self->fd, &buf, at);
		ASSERT_LT(after, W_EVICT * WINDOW);
		ASSERT_TRUE(pattern_matches(buf.map + at, 64 * KIB, 40 + at / PAGE));
	}
	mr = buf_reg(self->pair.pd, POINTER, &buf, 0, MIB);
	ASSERT_NE(NULL, mr);
	for (size_t at = 0; at < MIB; at += 64 * KIB) {
		ASSERT_TRUE(holds(self, mr, buf.map + at, 64 * KIB, 40 + at / PAGE));
	}
	ASSERT_EQ(0, ibv_dereg_mr(mr));
	memset(buf.map, 0, MIB);

	/* By force, the pinned one is revoked. */
	mr = buf_reg(self->pair.pd, POINTER, &buf, 0, MIB);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(0, command(self->fd, SIMGPU_IOC_EVICT, buf.c.handle, SIMGPU_FORCE));
	EXPECT_EQ(0, expect_fenced(self, mr, buf.map));
	EXPECT_EQ(SIGBUS, touch(buf.map));
	ASSERT_EQ(0, ibv_dereg_mr(mr));
	buf_close(self->fd, &buf);

	/* But not if that was not agreed. */
	buf.c = (struct simgpu_create){ .size = MIB, .importers = SIMGPU_ANY };
	ASSERT_EQ(0, buf_open(self->fd, &buf));
	mr = buf_reg(self->pair.pd, POINTER, &buf, 0, MIB);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(-EBUSY, command(self->fd, SIMGPU_IOC_EVICT, buf.c.handle, SIMGPU_FORCE));
	ASSERT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_EQ(0, command(self->fd, SIMGPU_IOC_EVICT, buf.c.handle, SIMGPU_FORCE));
	buf_close(self->fd, &buf);

	/* Nowhere to go */
	buf.c = (struct simgpu_create){ .size = vram_size() / 2 + PAGE };
	ASSERT_EQ(0, buf_open(self->fd, &buf));
	EXPECT_EQ(-ENOSPC, command(self->fd, SIMGPU_IOC_EVICT, buf.c.handle, 0));
	buf_close(self->fd, &buf);
}

static void *register_loop(void *arg)
{
	struct race *race = arg;

	while (!atomic_load(&race->stop)) {
		struct ibv_mr *mr = buf_reg(race->pd, POINTER, race->buf, 0, race->buf->c.size);

		if (!mr || ibv_dereg_mr(mr)) {
			race->err[POINTER] = errno;
			break;
		}
		usleep(500);
	}
	return NULL;
}

/* Counts in every page; returns how far. */
static void *count_loop(void *arg)
{
	struct race *race = arg;
	uintptr_t count = 0;

	for (; !atomic_load(&race->stop); count++) {
		for (size_t at = 0; at < race->buf->c.size; at += PAGE)
			++*(volatile uint64_t *)(race->buf->map + at);
	}
	return (void *)count;
}

/* A thread counts in every page, another one registers and deregisters; no count gets lost. */
TEST_F_TIMEOUT(simgpu, evicts_under_use, TIMEOUT)
{
	struct buf buf = { .c = { .size = 64 * KIB, .importers = revocable(self) } };
	struct race race = { .pd = self->pair.pd, .buf = &buf };
	pthread_t registers, counts;
	int moved = 0, busy = 0;
	uint64_t places[2];
	void *count;

	ASSERT_EQ(0, buf_open(self->fd, &buf));
	memset(buf.map, 0, buf.c.size);
	ASSERT_EQ(0, pthread_create(&registers, NULL, register_loop, &race));
	ASSERT_EQ(0, pthread_create(&counts, NULL, count_loop, &race));
	while (moved < 200 || busy < 20) {
		int ret = command(self->fd, SIMGPU_IOC_EVICT, buf.c.handle, 0);

		if (!ret)
			places[moved++ & 1] = bar_offset(self->fd, &buf, 0);
		else
			busy++;
		ASSERT_TRUE(!ret || ret == -EBUSY);
		usleep(100);
	}
	atomic_store(&race.stop, true);
	pthread_join(registers, NULL);
	pthread_join(counts, &count);
	TH_LOG("moved %d times, pinned %d times, counted to %ju", moved, busy, (uintmax_t)count);
	EXPECT_EQ(0, race.err[POINTER]);
	EXPECT_NE(NULL, count);
	EXPECT_NE(places[0], places[1]);
	for (size_t at = 0; at < buf.c.size; at += PAGE)
		EXPECT_EQ((uintptr_t)count, *(volatile uint64_t *)(buf.map + at));

	/* It went to and fro between two places; leave both as they were. */
	memset(buf.map, 0, buf.c.size);
	EXPECT_EQ(0, command(self->fd, SIMGPU_IOC_EVICT, buf.c.handle, 0));
	buf_close(self->fd, &buf);
}

/* All that keeps a buffer, taken away one by one: handle, file, mapping, descriptor; then the region. */
TEST_F_TIMEOUT(simgpu, lives_as_long_as_it_is_used, TIMEOUT)
{
	struct simgpu_create all = { .size = vram_size() };
	struct buf buf = { .c = { .size = MIB, .importers = revocable(self) } };
	struct ibv_mr *mr;
	int fd = simgpu_bind();

	ASSERT_GE(fd, 0);
	ASSERT_EQ(0, buf_open(fd, &buf));
	ASSERT_EQ(0, command(fd, SIMGPU_IOC_CLOSE, buf.c.handle, 0));
	ASSERT_EQ(-ENOENT, command(fd, SIMGPU_IOC_CLOSE, buf.c.handle, 0));
	close(fd);
	for (enum way way = 0; way < WAYS; way++) {
		ASSERT_EQ(0, buf_reg_errno(self->pair.pd, way, &buf));
	}
	close(buf.dmabuf);
	mr = buf_reg(self->pair.pd, POINTER, &buf, 0, MIB);
	ASSERT_NE(NULL, mr);
	memset(buf.map, 0, MIB);
	munmap(buf.map, MIB);

	/* The region alone. The address means nothing to the HCA any more but an address. */
	ASSERT_EQ(0, fill(self, mr, buf.map, MIB, 60));
	memset(self->host, 0, MIB);
	ASSERT_EQ(0, remote(self, IBV_WR_RDMA_READ, mr, buf.map, MIB));
	ASSERT_TRUE(pattern_matches(self->host, MIB, 60));
	EXPECT_EQ(-ENOSPC, create(self->fd, &all));
	memset(self->host, 0, MIB);
	ASSERT_EQ(0, remote(self, IBV_WR_RDMA_WRITE, mr, buf.map, MIB));
	ASSERT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_EQ(0, create(self->fd, &all));
	EXPECT_EQ(0, command(self->fd, SIMGPU_IOC_CLOSE, all.handle, 0));
}

/* A child registers what it inherited; the parent has unmapped it. */
TEST_F_TIMEOUT(simgpu, fork, TIMEOUT)
{
	struct buf buf = { .c = { .size = MIB, .importers = revocable(self) } };
	int status, go[2];
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, buf_open_at(self->fd, W_FORK, &buf));
	ASSERT_EQ(0, pattern_expect(bar_offset(self->fd, &buf, 0), MIB, 70));
	*(volatile uint8_t *)buf.map = 0;
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		struct rc_pair pair;
		struct ibv_mr *mr, *host_mr;

		if (read(go[0], &c, 1) != 1 || rc_pair_open(&pair, NULL))
			_exit(1);
		host_mr = ibv_reg_mr(pair.pd, self->host, STAGING, RC_PAIR_ALL);
		mr = ibv_reg_mr(pair.pd, buf.map, MIB, RC_PAIR_ALL);
		if (!mr || !host_mr)
			_exit(2);
		pattern_fill(self->host, MIB, 70);
		if (rc_pair_rdma(&pair, IBV_WR_RDMA_WRITE, self->host, host_mr->lkey, MIB, buf.map,
				 mr->rkey))
			_exit(3);
		/* Regions and all go with the process. */
		_exit(pattern_matches(buf.map, MIB, 70) ? 0 : 4);
	}
	buf_close(self->fd, &buf);
	ASSERT_EQ(1, write(go[1], "", 1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	close(go[0]);
	close(go[1]);
}

static void *create_loop(void *arg)
{
	int fd = *(int *)arg;

	for (;;) {
		struct simgpu_create c = { .size = 64 * KIB, .frag_size = PAGE };
		int ret = create(fd, &c);

		if (ret)
			return (void *)(intptr_t)ret;
		command(fd, SIMGPU_IOC_CLOSE, c.handle, 0);
	}
}

/* The driver goes while files, mappings, DMA-bufs and regions are there, and somebody makes more. */
TEST_F_TIMEOUT(simgpu, unbinds_under_use, TIMEOUT)
{
	struct buf buf = { .c = { .size = MIB, .importers = revocable(self) } };
	struct ibv_mr *mr[WAYS];
	pthread_t thread;
	void *ret;
	int fd;

	for (int round = 0; round < 3; round++) {
		fd = simgpu_bind();
		ASSERT_GE(fd, 0);
		buf.c.mmap_offset = buf.c.handle = 0;
		ASSERT_EQ(0, buf_open(fd, &buf));
		for (enum way way = 0; way < WAYS; way++) {
			mr[way] = buf_reg(self->pair.pd, way, &buf, 0, MIB);
			ASSERT_NE(NULL, mr[way]);
		}
		ASSERT_EQ(0, fill(self, mr[POINTER], buf.map, MIB, 80));
		ASSERT_TRUE(holds(self, mr[DMABUF], buf.map, MIB, 80));
		memset(buf.map, 0, MIB);
		ASSERT_EQ(0, pthread_create(&thread, NULL, create_loop, &fd));

		ASSERT_EQ(0, simgpu_unbind());
		pthread_join(thread, &ret);
		EXPECT_EQ(-ENODEV, (intptr_t)ret);
		EXPECT_NE(0, access("/dev/simgpu0", F_OK));
		EXPECT_EQ(SIGBUS, touch(buf.map));
		for (enum way way = 0; way < WAYS; way++) {
			EXPECT_EQ(0, expect_fenced(self, mr[way], buf.map));
			EXPECT_EQ(ENODEV, buf_reg_errno(self->pair.pd, way, &buf));
		}
		/* Regions outlive the driver, or the driver's next life outlives them. */
		if (round & 1) {
			close(self->fd);
			self->fd = simgpu_bind();
			ASSERT_GE(self->fd, 0);
			EXPECT_EQ(0, expect_fenced(self, mr[POINTER], buf.map));
		}
		for (enum way way = 0; way < WAYS; way++) {
			EXPECT_EQ(0, ibv_dereg_mr(mr[way]));
		}
		buf_close(fd, &buf);
		close(fd);
	}
}

/*
 * A buffer for everybody: unbinding stops whom it can stop, and waits for the others. The holder is a
 * process that can be killed.
 */
TEST_F_TIMEOUT(simgpu, unbind_waits_for_whom_it_cannot_stop, TIMEOUT)
{
	const bool waits = !self->hook && !self->iova;
	pid_t holder, unbinder, done;
	int status, ready[2];
	char c;

	ASSERT_EQ(0, pipe(ready));
	holder = fork();
	ASSERT_GE(holder, 0);
	if (!holder) {
		struct buf buf = { .c = { .size = MIB, .importers = SIMGPU_ANY } };
		struct rc_pair pair;

		if (rc_pair_open(&pair, NULL) || buf_open(simgpu_bind(), &buf) ||
		    !buf_reg(pair.pd, POINTER, &buf, 0, MIB) ||
		    !buf_reg(pair.pd, DMABUF, &buf, 0, MIB) || write(ready[1], "", 1) != 1)
			_exit(1);
		pause();
	}
	ASSERT_EQ(1, read(ready[0], &c, 1));
	unbinder = fork();
	ASSERT_GE(unbinder, 0);
	if (!unbinder)
		_exit(simgpu_unbind() != 0);

	sleep(2);
	done = waitpid(unbinder, &status, waits ? WNOHANG : 0);
	EXPECT_EQ(waits ? 0 : unbinder, done);
	kill(holder, SIGKILL);
	if (!done)
		done = waitpid(unbinder, &status, 0);
	EXPECT_EQ(unbinder, done);
	EXPECT_EQ(0, status);
	ASSERT_EQ(holder, waitpid(holder, &status, 0));
	EXPECT_EQ(SIGKILL, WTERMSIG(status));
	close(ready[0]);
	close(ready[1]);
}

/* Needs a place where the device can be reset: behind a port of its own. */
TEST_F_TIMEOUT(simgpu, resets_under_use, TIMEOUT)
{
	struct buf buf = { .c = { .size = MIB, .importers = revocable(self) } };
	struct ibv_mr *mr[WAYS];

	ASSERT_EQ(0, buf_open(self->fd, &buf));
	for (enum way way = 0; way < WAYS; way++) {
		mr[way] = buf_reg(self->pair.pd, way, &buf, 0, MIB);
		ASSERT_NE(NULL, mr[way]);
	}
	ASSERT_EQ(0, device_write("reset", "1"));
	EXPECT_EQ(SIGBUS, touch(buf.map));
	for (enum way way = 0; way < WAYS; way++) {
		EXPECT_EQ(0, expect_fenced(self, mr[way], buf.map));
		EXPECT_EQ(ENODEV, buf_reg_errno(self->pair.pd, way, &buf));
		EXPECT_EQ(0, ibv_dereg_mr(mr[way]));
	}
	buf_close(self->fd, &buf);

	/* The same file gives new buffers. */
	ASSERT_EQ(0, buf_open(self->fd, &buf));
	for (enum way way = 0; way < WAYS; way++) {
		mr[way] = buf_reg(self->pair.pd, way, &buf, 0, MIB);
		ASSERT_NE(NULL, mr[way]);
		ASSERT_EQ(0, fill(self, mr[way], buf.map, MIB, 90));
		ASSERT_TRUE(holds(self, mr[way], buf.map, MIB, 90));
		ASSERT_EQ(0, ibv_dereg_mr(mr[way]));
	}
	memset(buf.map, 0, MIB);
	buf_close(self->fd, &buf);
}

TEST_HARNESS_MAIN
