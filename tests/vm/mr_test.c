// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Memory regions in device memory by plain ibv_reg_mr(): every shape of range, and every refusal.
 *
 * Data goes through the HCA, from and to ordinary memory; what must be in the device memory at the
 * end is written down for check_vram, which looks at it from outside of the guest.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/pci_regs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pattern.h"
#include "rc_pair.h"
#include "sizes.h"

/* Every test has a window of the device memory of its own. */
#define WINDOW (4 * MIB)
enum window { W_UNALIGNED, W_WHOLE, W_ADJACENT, W_RIGHTS, W_PLACES, W_MUNMAP, W_MEMLOCK, W_MPROTECT,
	      W_MANY, W_RINGS, W_MIXED };

#define AT(w) ((w) * WINDOW)

FIXTURE(mr) {
	struct rc_pair pair;
	int fd;			/* of the device memory */
	uint64_t size;		/* and its size */
	uint8_t *host;		/* WINDOW bytes of ordinary memory */
	struct ibv_mr *host_mr;
};

FIXTURE_SETUP(mr)
{
	self->fd = vram_open(O_RDWR, &self->size);
	ASSERT_GE(self->fd, 0);
	ASSERT_EQ(0, rc_pair_open(&self->pair, NULL));
	self->host = mmap(NULL, WINDOW, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->host);
	self->host_mr = ibv_reg_mr(self->pair.pd, self->host, WINDOW, RC_PAIR_ALL);
	ASSERT_NE(NULL, self->host_mr);
}

FIXTURE_TEARDOWN(mr)
{
	EXPECT_EQ(0, ibv_dereg_mr(self->host_mr));
	munmap(self->host, WINDOW);
	rc_pair_close(&self->pair);
	close(self->fd);
}

static void *map_vram(int fd, uint64_t offset, size_t len, int prot, int flags)
{
	return mmap(NULL, len, prot, flags, fd, offset);
}

/*
 * Moves @len bytes of the pattern @seed into the device memory at @dev by RDMA WRITE, fetches them
 * again by RDMA READ. @offset: where @dev lies in the device memory. Returns 0 when all is well.
 */
static int round_trip(FIXTURE_DATA(mr) *self, struct ibv_mr *mr, void *dev, uint64_t offset,
		      size_t len, uint32_t seed)
{
	struct rc_pair *pair = &self->pair;
	uint32_t lkey = self->host_mr->lkey;
	int ret;

	pattern_fill(self->host, len, seed);
	ret = rc_pair_rdma(pair, IBV_WR_RDMA_WRITE, self->host, lkey, len, dev, mr->rkey);
	if (ret)
		return ret;
	memset(self->host, 0, len);
	ret = rc_pair_rdma(pair, IBV_WR_RDMA_READ, self->host, lkey, len, dev, mr->rkey);
	if (ret)
		return ret;
	if (!pattern_matches(self->host, len, seed))
		return -EBADMSG;
	return pattern_expect(offset, len, seed);
}

#define ROUND_TRIP(mr, dev, offset, len, seed) \
	ASSERT_EQ(0, round_trip(self, mr, dev, offset, len, seed))

TEST_F_TIMEOUT(mr, unaligned_and_short, 120)
{
	static const struct { size_t start, len; } ranges[] = {
		{ 0, 1 }, { 1, 1 }, { PAGE - 1, 1 }, { PAGE - 1, 2 }, { 5 * PAGE + 17, 100 },
		{ 8 * PAGE + 1, 3 * PAGE }, { 16 * PAGE + 4095, 4097 }, { MIB + 3, MIB + 7 },
	};
	uint8_t *dev = map_vram(self->fd, AT(W_UNALIGNED), WINDOW, PROT_READ | PROT_WRITE, MAP_SHARED);

	ASSERT_NE(MAP_FAILED, dev);
	for (size_t i = 0; i < sizeof(ranges) / sizeof(*ranges); i++) {
		uint8_t *start = dev + ranges[i].start;
		size_t len = ranges[i].len;
		struct ibv_mr *mr = ibv_reg_mr(self->pair.pd, start, len, RC_PAIR_ALL);

		ASSERT_NE(NULL, mr) TH_LOG("range %zu: %s", i, strerror(errno));
		ROUND_TRIP(mr, start, AT(W_UNALIGNED) + ranges[i].start, len, 100 + i);

		/* The region ends where it was said to, not at the end of the page. */
		ASSERT_EQ(IBV_WC_REM_ACCESS_ERR,
			  rc_pair_rdma(&self->pair, IBV_WR_RDMA_WRITE, self->host,
				       self->host_mr->lkey, len + 1, start, mr->rkey));
		ASSERT_EQ(0, rc_pair_connect(&self->pair));
		ASSERT_EQ(0, ibv_dereg_mr(mr));

		/* And the key is gone with the region. */
		ASSERT_EQ(IBV_WC_REM_ACCESS_ERR,
			  rc_pair_rdma(&self->pair, IBV_WR_RDMA_READ, self->host,
				       self->host_mr->lkey, len, start, mr->rkey));
		ASSERT_EQ(0, rc_pair_connect(&self->pair));
	}
	munmap(dev, WINDOW);
}

TEST_F_TIMEOUT(mr, whole_bar, 120)
{
	uint8_t *dev = map_vram(self->fd, 0, self->size, PROT_READ | PROT_WRITE, MAP_SHARED);
	struct ibv_mr *mr;

	ASSERT_NE(MAP_FAILED, dev);
	mr = ibv_reg_mr(self->pair.pd, dev, self->size, RC_PAIR_ALL);
	ASSERT_NE(NULL, mr) TH_LOG("%s", strerror(errno));
	ROUND_TRIP(mr, dev + AT(W_WHOLE), AT(W_WHOLE), MIB, 200);
	ROUND_TRIP(mr, dev + self->size - 12345, self->size - 12345, 12345, 201);
	/* Both sides of each 4 GiB border, where lists are split. */
	for (uint64_t at = 4 * GIB; at < self->size; at += 4 * GIB)
		ROUND_TRIP(mr, dev + at - MIB, at - MIB, 2 * MIB + 1, 202 + at / GIB);
	ASSERT_EQ(0, ibv_dereg_mr(mr));
	munmap(dev, self->size);
}

TEST_F(mr, adjacent_mappings)
{
	const uint64_t at = AT(W_ADJACENT);
	struct ibv_mr *mr;
	uint8_t *dev;

	/* Three mappings side by side: the BAR in another order than in the address space. */
	dev = mmap(NULL, 3 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, dev);
	ASSERT_EQ(dev, mmap(dev, MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, self->fd,
			    at + 2 * MIB));
	ASSERT_EQ(dev + MIB, mmap(dev + MIB, MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
				  self->fd, at));
	ASSERT_EQ(dev + 2 * MIB, mmap(dev + 2 * MIB, MIB, PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_FIXED, self->fd, at + MIB));

	mr = ibv_reg_mr(self->pair.pd, dev + 1, 3 * MIB - 2, RC_PAIR_ALL);
	ASSERT_NE(NULL, mr) TH_LOG("%s", strerror(errno));
	/* Across each border, and the ends */
	ROUND_TRIP(mr, dev + 1, at + 2 * MIB + 1, 1000, 300);
	ROUND_TRIP(mr, dev + 2 * MIB + 5, at + MIB + 5, MIB - 6, 301);
	pattern_fill(self->host, MIB, 302);
	ASSERT_EQ(0, rc_pair_rdma(&self->pair, IBV_WR_RDMA_WRITE, self->host, self->host_mr->lkey,
				  MIB, dev + MIB / 2, mr->rkey));
	memset(self->host, 0, MIB);
	ASSERT_EQ(0, rc_pair_rdma(&self->pair, IBV_WR_RDMA_READ, self->host, self->host_mr->lkey,
				  MIB, dev + MIB / 2, mr->rkey));
	ASSERT_TRUE(pattern_matches(self->host, MIB, 302));
	/* The same through the CPU's eyes; then something that can be told in one line. */
	ASSERT_EQ(0, memcmp(dev + MIB / 2, self->host, MIB));
	ROUND_TRIP(mr, dev + MIB / 2, at + 2 * MIB + MIB / 2, MIB / 2, 303);
	ROUND_TRIP(mr, dev + MIB, at, MIB / 2, 304);
	ASSERT_EQ(0, ibv_dereg_mr(mr));
	munmap(dev, 3 * MIB);
}

TEST_F(mr, survives_munmap_and_mprotect)
{
	uint8_t *dev = map_vram(self->fd, AT(W_MUNMAP), MIB, PROT_READ | PROT_WRITE, MAP_SHARED);
	struct ibv_mr *mr;

	ASSERT_NE(MAP_FAILED, dev);
	mr = ibv_reg_mr(self->pair.pd, dev, MIB, RC_PAIR_ALL);
	ASSERT_NE(NULL, mr);
	ASSERT_EQ(0, mprotect(dev, MIB / 2, PROT_NONE));
	ROUND_TRIP(mr, dev, AT(W_MUNMAP), MIB / 2, 400);
	ASSERT_EQ(0, munmap(dev, MIB));
	ROUND_TRIP(mr, dev + MIB / 2, AT(W_MUNMAP) + MIB / 2, MIB / 2, 401);
	ASSERT_EQ(0, ibv_dereg_mr(mr));
}

TEST_F_TIMEOUT(mr, many_on_one_buffer, 120)
{
	struct ibv_mr *mr[256];
	uint8_t *dev = map_vram(self->fd, AT(W_MANY), MIB, PROT_READ | PROT_WRITE, MAP_SHARED);

	ASSERT_NE(MAP_FAILED, dev);
	for (int i = 0; i < 256; i++) {
		mr[i] = ibv_reg_mr(self->pair.pd, dev + i * PAGE, PAGE, RC_PAIR_ALL);
		ASSERT_NE(NULL, mr[i]);
	}
	/* Out of order: whoever leaves must not take the mapping of the others along. */
	for (int i = 0; i < 256; i++) {
		int k = i * 97 % 256;

		ROUND_TRIP(mr[k], dev + k * PAGE, AT(W_MANY) + k * PAGE, PAGE, 500 + k);
		ASSERT_EQ(0, ibv_dereg_mr(mr[k]));
	}
	munmap(dev, MIB);
}

/* VmPin of this process, in bytes */
static size_t pinned(void)
{
	FILE *file = fopen("/proc/self/status", "r");
	size_t kib = SIZE_MAX;
	char line[128];

	while (file && fgets(line, sizeof(line), file) && sscanf(line, "VmPin: %zu kB", &kib) != 1)
		;
	if (file)
		fclose(file);
	return kib * 1024;
}

/*
 * @n pieces of PIECE bytes side by side: 'd', device memory from @offset on, or 'o', ordinary
 * memory, as @kinds says.
 */
#define PIECE (256ul << 10)

static uint8_t *map_pieces(int fd, uint64_t offset, const char *kinds)
{
	size_t n = strlen(kinds);
	uint8_t *space;

	space = mmap(NULL, n * PIECE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (space == MAP_FAILED)
		return NULL;
	for (size_t i = 0; i < n; i++)
		if (kinds[i] == 'd' &&
		    mmap(space + i * PIECE, PIECE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			 fd, offset + i * PIECE) == MAP_FAILED)
			return NULL;
	return space;
}

TEST_F_TIMEOUT(mr, device_and_ordinary_memory_in_one_region, 120)
{
	static const char *const layouts[] = { "do", "od", "odo", "dod", "ddoodo", "odododod" };
	const size_t before = pinned();

	for (size_t l = 0; l < sizeof(layouts) / sizeof(*layouts); l++) {
		const char *kinds = layouts[l];
		size_t n = strlen(kinds), len = n * PIECE, ordinary = 0;
		const uint64_t at = AT(W_MIXED);
		struct ibv_mr *mr;
		uint8_t *mem;

		for (size_t i = 0; i < n; i++)
			ordinary += kinds[i] == 'o';
		mem = map_pieces(self->fd, at, kinds);
		ASSERT_NE(NULL, mem);
		mr = ibv_reg_mr(self->pair.pd, mem + 1, len - 2, RC_PAIR_ALL);
		ASSERT_NE(NULL, mr) TH_LOG("%s: %s", kinds, strerror(errno));
		/* What is pinned is charged, and nothing else. */
		ASSERT_EQ(before + ordinary * PIECE, pinned()) TH_LOG("%s", kinds);

		/* Through the HCA in one transfer, checked by the CPU; and the other way round. */
		pattern_fill(self->host, len, 700 + l);
		ASSERT_EQ(0, rc_pair_rdma(&self->pair, IBV_WR_RDMA_WRITE, self->host,
					  self->host_mr->lkey, len - 2, mem + 1, mr->rkey));
		ASSERT_TRUE(pattern_matches(mem + 1, len - 2, 700 + l)) TH_LOG("%s", kinds);
		pattern_fill(mem + 1, len - 2, 800 + l);
		memset(self->host, 0, len);
		ASSERT_EQ(0, rc_pair_rdma(&self->pair, IBV_WR_RDMA_READ, self->host,
					  self->host_mr->lkey, len - 2, mem + 1, mr->rkey));
		ASSERT_TRUE(pattern_matches(self->host, len - 2, 800 + l)) TH_LOG("%s", kinds);

		/* What check_vram must find: each piece of device memory by itself */
		for (size_t i = 0; i < n; i++) {
			size_t from = i ? i * PIECE : 1;
			size_t to = i < n - 1 ? (i + 1) * PIECE : len - 1;

			if (kinds[i] == 'd')
				ROUND_TRIP(mr, mem + from, at + from, to - from, 900 + i);
		}
		ASSERT_EQ(0, ibv_dereg_mr(mr));
		ASSERT_EQ(before, pinned());
		munmap(mem, len);
	}
}

TEST_F(mr, charges_the_ordinary_part_only)
{
	struct rlimit limit;
	uint8_t *fits = map_pieces(self->fd, AT(W_MIXED), "dod");
	uint8_t *not = map_pieces(self->fd, AT(W_MIXED), "dodo");
	size_t before;

	ASSERT_NE(NULL, fits);
	ASSERT_NE(NULL, not);
	ASSERT_EQ(0, ibv_dereg_mr(self->host_mr));
	/* The rings of the fixture count, too. */
	before = pinned();
	limit.rlim_cur = limit.rlim_max = before + PIECE;
	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	ASSERT_EQ(0, setgroups(0, NULL));
	ASSERT_EQ(0, setresgid(65534, 65534, 65534));
	ASSERT_EQ(0, setresuid(65534, 65534, 65534));

	EXPECT_EQ(0, reg_errno(self->pair.pd, fits, 3 * PIECE, RC_PAIR_ALL));
	EXPECT_EQ(ENOMEM, reg_errno(self->pair.pd, not, 4 * PIECE, RC_PAIR_ALL));
	/* A part that may not be written, after one that was pinned */
	ASSERT_EQ(0, mprotect(not + 3 * PIECE, PIECE, PROT_READ));
	EXPECT_EQ(EFAULT, reg_errno(self->pair.pd, not + 2 * PIECE, 2 * PIECE, RC_PAIR_ALL));
	EXPECT_EQ(before, pinned());
	self->host_mr = ibv_reg_mr(self->pair.pd, self->host, PAGE, RC_PAIR_ALL);
	ASSERT_NE(NULL, self->host_mr);
}

TEST_F(mr, refuses_what_is_not_memory)
{
	const uint64_t at = AT(W_PLACES);
	uint8_t *space, *dev;

	space = mmap(NULL, 4 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, space);
	ASSERT_EQ(0, munmap(space, 4 * MIB));
	dev = mmap(space, MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, self->fd, at);
	ASSERT_EQ(space, dev);
	ASSERT_EQ(space + 2 * MIB, mmap(space + 2 * MIB, MIB, PROT_READ | PROT_WRITE,
					MAP_SHARED | MAP_FIXED, self->fd, at + MIB));

	EXPECT_EQ(0, reg_errno(self->pair.pd, dev, MIB, RC_PAIR_ALL));
	/* Past the mapping, before it, over a hole, nothing at all */
	EXPECT_EQ(EFAULT, reg_errno(self->pair.pd, dev, MIB + 1, RC_PAIR_ALL));
	EXPECT_EQ(EFAULT, reg_errno(self->pair.pd, space + 2 * MIB - 1, MIB, RC_PAIR_ALL));
	EXPECT_EQ(EFAULT, reg_errno(self->pair.pd, dev, 3 * MIB, RC_PAIR_ALL));
	EXPECT_EQ(EFAULT, reg_errno(self->pair.pd, space + MIB, MIB, RC_PAIR_ALL));
	/* In the hole what cannot be pinned: behind device memory, between, before */
	ASSERT_EQ(space + MIB, mmap(space + MIB, MIB, PROT_NONE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	EXPECT_EQ(EFAULT, reg_errno(self->pair.pd, dev, MIB + PAGE, RC_PAIR_ALL));
	EXPECT_EQ(EFAULT, reg_errno(self->pair.pd, dev, 3 * MIB, RC_PAIR_ALL));
	EXPECT_EQ(EFAULT, reg_errno(self->pair.pd, space + MIB, MIB + PAGE, RC_PAIR_ALL));
	/* What the stock kernel refuses for itself stays as it is. */
	EXPECT_EQ(EINVAL, reg_errno(self->pair.pd, dev, 0, RC_PAIR_ALL));
	EXPECT_EQ(EOPNOTSUPP, reg_errno(self->pair.pd, dev, MIB,
					RC_PAIR_ALL | IBV_ACCESS_ON_DEMAND));
	munmap(space, 3 * MIB);
}

TEST_F(mr, refuses_access_the_mapping_does_not_give)
{
	const int prot = PROT_READ | PROT_WRITE;
	uint64_t size;
	uint8_t *dev;
	int ro;

	dev = map_vram(self->fd, AT(W_RIGHTS), MIB, prot, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, dev);
	EXPECT_EQ(EACCES, reg_errno(self->pair.pd, dev, MIB, RC_PAIR_ALL));
	EXPECT_EQ(EACCES, reg_errno(self->pair.pd, dev, MIB, IBV_ACCESS_REMOTE_READ));
	munmap(dev, MIB);

	dev = map_vram(self->fd, AT(W_RIGHTS), MIB, PROT_READ, MAP_SHARED);
	ASSERT_NE(MAP_FAILED, dev);
	EXPECT_EQ(EACCES, reg_errno(self->pair.pd, dev, MIB, RC_PAIR_ALL));
	EXPECT_EQ(0, reg_errno(self->pair.pd, dev, MIB, IBV_ACCESS_REMOTE_READ));
	munmap(dev, MIB);

	ro = vram_open(O_RDONLY, &size);
	ASSERT_GE(ro, 0);
	dev = map_vram(ro, AT(W_RIGHTS), MIB, PROT_READ, MAP_SHARED);
	ASSERT_NE(MAP_FAILED, dev);
	EXPECT_EQ(EACCES, reg_errno(self->pair.pd, dev, MIB, IBV_ACCESS_LOCAL_WRITE));
	EXPECT_EQ(0, reg_errno(self->pair.pd, dev, MIB, 0));
	munmap(dev, MIB);
	close(ro);
}

TEST_F(mr, unprivileged_with_small_memlock)
{
	const struct rlimit small = { 64 * 1024, 64 * 1024 }, none = { 0, 0 };
	uint8_t *dev = map_vram(self->fd, AT(W_MEMLOCK), WINDOW, PROT_READ | PROT_WRITE, MAP_SHARED);
	struct ibv_mr *mr;

	ASSERT_NE(MAP_FAILED, dev);
	/* Only root can make the file. */
	ASSERT_EQ(0, pattern_expect(AT(W_MEMLOCK), 0, 0));
	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &small));
	ASSERT_EQ(0, setgroups(0, NULL));
	ASSERT_EQ(0, setresgid(65534, 65534, 65534));
	ASSERT_EQ(0, setresuid(65534, 65534, 65534));

	mr = ibv_reg_mr(self->pair.pd, dev, WINDOW, RC_PAIR_ALL);
	ASSERT_NE(NULL, mr) TH_LOG("%s", strerror(errno));
	ROUND_TRIP(mr, dev + 1, AT(W_MEMLOCK) + 1, MIB, 600);
	ASSERT_EQ(0, ibv_dereg_mr(mr));
	/* Ordinary memory is charged as ever. */
	EXPECT_EQ(ENOMEM, reg_errno(self->pair.pd, self->host, WINDOW, RC_PAIR_ALL));
	/* And the errno of that check stands where there is nothing at all. */
	EXPECT_EQ(ENOMEM, reg_errno(self->pair.pd, (void *)PAGE, WINDOW, RC_PAIR_ALL));

	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &none));
	mr = ibv_reg_mr(self->pair.pd, dev, MIB, RC_PAIR_ALL);
	ASSERT_NE(NULL, mr) TH_LOG("%s", strerror(errno));
	ROUND_TRIP(mr, dev + 2, AT(W_MEMLOCK) + 2, MIB - 2, 601);
	ASSERT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_EQ(EPERM, reg_errno(self->pair.pd, self->host, PAGE, RC_PAIR_ALL));
}

struct mprotect_loop {
	uint8_t *addr;
	atomic_bool stop;
	atomic_ulong rounds;
};

static void *mprotect_loop(void *arg)
{
	struct mprotect_loop *loop = arg;

	while (!atomic_load(&loop->stop)) {
		/* Write access comes and goes beside the range, so that its VMA is split and merged. */
		mprotect(loop->addr, PAGE, PROT_READ);
		mprotect(loop->addr, PAGE, PROT_READ | PROT_WRITE);
		atomic_fetch_add(&loop->rounds, 1);
	}
	return NULL;
}

/* The debug kernel on a busy machine takes its time. */
TEST_F_TIMEOUT(mr, registers_while_another_thread_calls_mprotect, 180)
{
	struct mprotect_loop loop = {};
	pthread_t thread;
	uint8_t *dev = map_vram(self->fd, AT(W_MPROTECT), MIB, PROT_READ | PROT_WRITE, MAP_SHARED);

	ASSERT_NE(MAP_FAILED, dev);
	loop.addr = dev;
	ASSERT_EQ(0, pthread_create(&thread, NULL, mprotect_loop, &loop));
	for (int i = 0; i < 1000 || atomic_load(&loop.rounds) < 1000; i++) {
		ASSERT_EQ(0, reg_errno(self->pair.pd, dev + PAGE, MIB - PAGE, RC_PAIR_ALL))
			TH_LOG("round %d", i);
	}
	atomic_store(&loop.stop, true);
	pthread_join(thread, NULL);
	munmap(dev, MIB);
}

/* A file of the device in sysfs. */
static int device_file(const char *name, int flags)
{
	char path[256];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", getenv("VRAM_BDF"), name);
	return open(path, flags | O_CLOEXEC);
}

TEST_F(mr, refuses_a_device_that_does_not_decode)
{
	int config = device_file("config", O_RDWR);
	uint8_t *dev = map_vram(self->fd, AT(W_PLACES), MIB, PROT_READ | PROT_WRITE, MAP_SHARED);
	uint16_t on, off;

	ASSERT_GE(config, 0);
	ASSERT_NE(MAP_FAILED, dev);
	ASSERT_EQ(2, pread(config, &on, 2, PCI_COMMAND));
	ASSERT_TRUE(on & PCI_COMMAND_MEMORY);
	off = on & ~PCI_COMMAND_MEMORY;
	ASSERT_EQ(2, pwrite(config, &off, 2, PCI_COMMAND));
	EXPECT_EQ(ENODEV, reg_errno(self->pair.pd, dev, MIB, RC_PAIR_ALL));
	ASSERT_EQ(2, pwrite(config, &on, 2, PCI_COMMAND));
	EXPECT_EQ(0, reg_errno(self->pair.pd, dev, MIB, RC_PAIR_ALL));
	close(config);
	munmap(dev, MIB);
}

/* Whether power/runtime_status gets to be @want within 5 s. */
static bool runtime_status(const char *want)
{
	char got[32] = "";

	for (int i = 0; i < 100; i++) {
		int fd = device_file("power/runtime_status", O_RDONLY);
		ssize_t n = read(fd, got, sizeof(got) - 1);

		close(fd);
		if (n > 0 && !strncmp(got, want, strlen(want)))
			return true;
		usleep(50000);
	}
	return false;
}

TEST_F(mr, keeps_the_device_awake)
{
	int control = device_file("power/control", O_WRONLY);
	uint8_t *dev = map_vram(self->fd, AT(W_PLACES), MIB, PROT_READ | PROT_WRITE, MAP_SHARED);
	struct ibv_mr *one, *two;

	ASSERT_GE(control, 0);
	ASSERT_NE(MAP_FAILED, dev);
	ASSERT_EQ(4, write(control, "auto", 4));
	ASSERT_TRUE(runtime_status("suspended"));
	one = ibv_reg_mr(self->pair.pd, dev, MIB, RC_PAIR_ALL);
	ASSERT_NE(NULL, one);
	ASSERT_TRUE(runtime_status("active"));
	two = ibv_reg_mr(self->pair.pd, dev, PAGE, RC_PAIR_ALL);
	ASSERT_NE(NULL, two);
	ASSERT_EQ(0, ibv_dereg_mr(one));
	munmap(dev, MIB);
	usleep(500000);
	ASSERT_TRUE(runtime_status("active"));
	ASSERT_EQ(0, ibv_dereg_mr(two));
	ASSERT_TRUE(runtime_status("suspended"));
	ASSERT_EQ(2, write(control, "on", 2));
	close(control);
}

/*
 * Queues in device memory. The provider gets the memory of its rings from mmap(), and so from this
 * function, which the program exports.
 */
static int rings_fd = -1;
static int rings_diverted;

void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	if (rings_fd >= 0 && (flags & MAP_ANONYMOUS) && len < WINDOW) {
		rings_diverted++;
		fd = rings_fd;
		offset = AT(W_RINGS);
		flags = (flags & ~(MAP_ANONYMOUS | MAP_PRIVATE)) | MAP_SHARED;
	}
	return mmap64(addr, len, prot, flags, fd, offset);
}

TEST_F(mr, refuses_rings_in_device_memory)
{
	struct ibv_qp_init_attr init = {
		.send_cq = self->pair.cq, .recv_cq = self->pair.cq, .qp_type = IBV_QPT_RC,
		.cap = { .max_send_wr = 512, .max_recv_wr = 512, .max_send_sge = 1,
			 .max_recv_sge = 1 },
	};
	struct ibv_cq *cq;
	struct ibv_qp *qp;

	rings_fd = self->fd;
	errno = 0;
	cq = ibv_create_cq(self->pair.ctx, 1024, NULL, NULL, 0);
	EXPECT_EQ(NULL, cq);
	EXPECT_EQ(EFAULT, errno);
	EXPECT_GT(rings_diverted, 0);
	rings_diverted = 0;
	qp = ibv_create_qp(self->pair.pd, &init);
	EXPECT_EQ(NULL, qp);
	EXPECT_EQ(EFAULT, errno);
	EXPECT_GT(rings_diverted, 0);
	rings_fd = -1;

	/* With memory of its own the same works. */
	cq = ibv_create_cq(self->pair.ctx, 1024, NULL, NULL, 0);
	ASSERT_NE(NULL, cq);
	ASSERT_EQ(0, ibv_destroy_cq(cq));
	qp = ibv_create_qp(self->pair.pd, &init);
	ASSERT_NE(NULL, qp);
	ASSERT_EQ(0, ibv_destroy_qp(qp));
}

TEST_HARNESS_MAIN
