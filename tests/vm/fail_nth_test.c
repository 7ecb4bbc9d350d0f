// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Every way to ask for, make, change and end a memory region, and to take its memory back, with the
 * nth allocation of the kernel failing: n = 1, 2, ... until nothing is left that could fail.
 *
 * What fails says so, leaves everything as it was, and works when it is tried again. Needs the
 * kernel of ./run guest --debug; with --leaks that also looks for what was lost.
 */
#define _GNU_SOURCE
#include "p2p_query.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/udmabuf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "failures.h"
#include "file.h"
#include "holds.h"
#include "kselftest_harness.h"
#include "pattern.h"
#include "rc_pair.h"
#include "simgpu.h"
#include "sizes.h"

#define LEN MIB
#define RW (PROT_READ | PROT_WRITE)

/* Parts of the device memory, LEN each: of the two buffers, and of a third. */
#define SLOTS 3
#define OTHER_SLOT 2

enum memory { ORDINARY, DEVICE, SCATTERED, MIXED, DMABUF, NUM_MEMORIES };

static const char *const memory_names[] = {
	"ordinary", "device", "scattered", "mixed", "dma-buf",
};

/* LEN bytes that can be registered. */
struct buffer {
	enum memory kind;
	uint8_t *addr;
	int dmabuf;		/* or -1 */
	uint64_t offset;	/* in @dmabuf */
};

/* SLOTS * LEN bytes of device memory */
struct device {
	int fd;			/* to map them, from @offset on */
	uint64_t offset;
	uint32_t handle;	/* of simgpu */
	int dmabuf;		/* or -1: the BAR itself */
};

FIXTURE(nth) {
	struct rc_pair pair;
	struct device dev;
	int nth;		/* /proc/thread-self/fail-nth */
	struct buffer buf[2];
	uint8_t *host;		/* LEN bytes to move data from */
	struct ibv_mr *host_mr;
	struct rc_pair other;	/* QPs in another PD of the same context */
	struct ibv_mr *other_host_mr;
	struct holds before;
	long pinned_before;
};

/* ---- memory -------------------------------------------------------------------------------- */

static int vram_write(const char *file, const char *text)
{
	char path[256];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", getenv("VRAM_BDF"), file);
	return write_file(path, text);
}

/* A buffer of simgpu, in fragments of two pages of which none continues the one before. */
static int simgpu_make(struct device *dev)
{
	struct simgpu_create create = {
		.size = SLOTS * LEN, .frag_size = 2 * PAGE, .flags = SIMGPU_DESCENDING,
		.importers = hca_has_hook() ? SIMGPU_REVOCABLE : SIMGPU_REVOCABLE_OR_IOVA,
	};
	struct simgpu_handle export = {};

	if (ioctl(dev->fd, SIMGPU_IOC_CREATE, &create))
		return -errno;
	dev->offset = create.mmap_offset;
	dev->handle = export.handle = create.handle;
	dev->dmabuf = ioctl(dev->fd, SIMGPU_IOC_EXPORT, &export);
	return dev->dmabuf < 0 ? -errno : 0;
}

static void simgpu_free(struct device *dev)
{
	struct simgpu_handle handle = { .handle = dev->handle };

	close(dev->dmabuf);
	ioctl(dev->fd, SIMGPU_IOC_CLOSE, &handle);
}

static int device_open(struct device *dev, bool simgpu)
{
	uint64_t size;
	int ret;

	*dev = (struct device){ .dmabuf = -1 };
	if (!simgpu) {
		dev->fd = vram_open(O_RDWR, &size);
		return dev->fd < 0 ? dev->fd : 0;
	}
	ret = vram_write("driver_override", "simgpu") ?:
	      write_file("/sys/bus/pci/drivers_probe", getenv("VRAM_BDF"));
	if (ret)
		return ret;
	dev->fd = open("/dev/simgpu0", O_RDWR | O_CLOEXEC);
	return dev->fd < 0 ? -errno : simgpu_make(dev);
}

static int device_close(struct device *dev, bool simgpu)
{
	if (simgpu)
		simgpu_free(dev);
	close(dev->fd);
	return simgpu ? vram_write("driver/unbind", getenv("VRAM_BDF")) : 0;
}

/* A dma-buf of ordinary memory, and a mapping of the same memory. */
static int udmabuf_make(struct buffer *buf)
{
	struct udmabuf_create create = { .flags = UDMABUF_FLAGS_CLOEXEC, .size = LEN };
	int ctl = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);

	create.memfd = memfd_create("udmabuf", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	if (ctl < 0 || (int)create.memfd < 0 || ftruncate(create.memfd, LEN) ||
	    fcntl(create.memfd, F_ADD_SEALS, F_SEAL_SHRINK))
		return -errno;
	buf->addr = mmap(NULL, LEN, RW, MAP_SHARED, create.memfd, 0);
	buf->dmabuf = ioctl(ctl, UDMABUF_CREATE, &create);
	close(create.memfd);
	close(ctl);
	return buf->addr == MAP_FAILED || buf->dmabuf < 0 ? -errno : 0;
}

/* Maps LEN bytes of @kind; device memory is that of @slot. A dma-buf is of @dev, or of ordinary memory. */
static int buffer_make(struct buffer *buf, enum memory kind, const struct device *dev, unsigned int slot)
{
	const uint64_t at = dev->offset + slot * LEN;
	const size_t part = LEN / 4;
	uint8_t *addr;

	*buf = (struct buffer){ .kind = kind, .dmabuf = -1 };
	if (kind == DMABUF && dev->dmabuf < 0)
		return udmabuf_make(buf);
	if (kind == DMABUF) {
		buf->dmabuf = dup(dev->dmabuf);
		buf->offset = slot * LEN;
	}
	if (kind == DMABUF || kind == DEVICE) {
		buf->addr = mmap(NULL, LEN, RW, MAP_SHARED, dev->fd, at);
		return buf->addr == MAP_FAILED ? -errno : 0;
	}

	addr = mmap(NULL, LEN, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (addr == MAP_FAILED)
		return -errno;
	/* The quarters of the memory in reverse; in MIXED every other one is ordinary memory. */
	for (size_t i = 0; kind != ORDINARY && i < 4; i += kind == MIXED ? 2 : 1)
		if (mmap(addr + i * part, part, RW, MAP_SHARED | MAP_FIXED, dev->fd,
			 at + (3 - i) * part) == MAP_FAILED)
			return -errno;
	/* Nothing is left to be allocated for the CPU. */
	memset(addr, 0, LEN);
	buf->addr = addr;
	return 0;
}

static void buffer_free(struct buffer *buf)
{
	if (buf->dmabuf >= 0)
		close(buf->dmabuf);
	munmap(buf->addr, LEN);
}

static struct ibv_mr *buffer_reg(const struct buffer *buf, struct ibv_pd *pd)
{
	if (buf->kind == DMABUF)
		return ibv_reg_dmabuf_mr(pd, buf->offset, LEN, (uintptr_t)buf->addr, buf->dmabuf,
					 RC_PAIR_ALL);
	return ibv_reg_mr(pd, buf->addr, LEN, RC_PAIR_ALL);
}

static uint32_t seed;

/*
 * Writes through the HCA to both ends and the middle of @buf, and looks with the CPU. Returns the
 * status of the completion, or a negative errno.
 */
static int move(FIXTURE_DATA(nth) *self, const struct buffer *buf, struct ibv_mr *mr)
{
	static const size_t at[] = { 0, LEN / 2 - 2000, LEN - 3000 };
	int ret;

	for (size_t i = 0; i < sizeof(at) / sizeof(*at); i++) {
		pattern_fill(self->host, 3000, ++seed);
		ret = rc_pair_rdma(&self->pair, IBV_WR_RDMA_WRITE, self->host, self->host_mr->lkey,
				   3000, buf->addr + at[i], mr->rkey);
		if (ret)
			return ret;
		if (!pattern_matches(buf->addr + at[i], 3000, seed))
			return -EBADMSG;
	}
	return 0;
}

/* The other way: reads through the HCA what the CPU wrote, in the other PD or the first. */
static int fetch(FIXTURE_DATA(nth) *self, bool other, const struct buffer *buf, struct ibv_mr *mr)
{
	struct ibv_mr *host_mr = other ? self->other_host_mr : self->host_mr;
	int ret;

	pattern_fill(buf->addr + LEN / 2, 3000, ++seed);
	memset(self->host, 0, 3000);
	ret = rc_pair_rdma(other ? &self->other : &self->pair, IBV_WR_RDMA_READ, self->host,
			   host_mr->lkey, 3000, buf->addr + LEN / 2, mr->rkey);
	if (ret)
		return ret;
	return pattern_matches(self->host, 3000, seed) ? 0 : -EBADMSG;
}

/* Has the HCA no access (any more)? */
static bool refused(FIXTURE_DATA(nth) *self, const struct buffer *buf, struct ibv_mr *mr)
{
	return move(self, buf, mr) == IBV_WC_REM_ACCESS_ERR && !rc_pair_connect(&self->pair);
}

/* Pages that are charged to this process: VmPin. */
static long pinned_kb(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[128];
	long kb = -1;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "VmPin: %ld", &kb) == 1)
			break;
	if (f)
		fclose(f);
	return kb;
}

static bool nothing_held(FIXTURE_DATA(nth) *self)
{
	return holds_settle(&self->before) && pinned_kb() == self->pinned_before;
}

#define ASSERT_NOTHING_HELD(nth) \
	ASSERT_TRUE(nothing_held(self)) TH_LOG("n = %u, pinned %ld kB, were %ld", nth, pinned_kb(), \
						self->pinned_before)

/* Another pair in another PD; the CQ is that of the first. */
static int other_open(FIXTURE_DATA(nth) *self)
{
	struct ibv_qp_init_attr init = {
		.send_cq = self->pair.cq, .recv_cq = self->pair.cq, .qp_type = IBV_QPT_RC,
		.cap = { .max_send_wr = 1, .max_recv_wr = 1, .max_send_sge = 1, .max_recv_sge = 1 },
	};

	self->other = self->pair;
	self->other.pd = ibv_alloc_pd(self->pair.ctx);
	if (!self->other.pd)
		return -errno;
	for (int i = 0; i < 2; i++) {
		self->other.qp[i] = ibv_create_qp(self->other.pd, &init);
		if (!self->other.qp[i])
			return -errno;
	}
	self->other_host_mr = ibv_reg_mr(self->other.pd, self->host, LEN, RC_PAIR_ALL);
	return self->other_host_mr ? rc_pair_connect(&self->other) : -errno;
}

static int other_close(FIXTURE_DATA(nth) *self)
{
	return ibv_dereg_mr(self->other_host_mr) ?: ibv_destroy_qp(self->other.qp[0]) ?:
	       ibv_destroy_qp(self->other.qp[1]) ?: ibv_dealloc_pd(self->other.pd);
}

/* ---- tests --------------------------------------------------------------------------------- */

FIXTURE_VARIANT(nth) {
	bool simgpu;		/* device memory of the sample driver, in many pieces, not the BAR itself */
};

FIXTURE_VARIANT_ADD(nth, bar) { .simgpu = false };
FIXTURE_VARIANT_ADD(nth, simgpu) { .simgpu = true };

FIXTURE_SETUP(nth)
{
	ASSERT_EQ(0, failures_setup());
	self->nth = nth_open();
	ASSERT_GE(self->nth, 0);
	ASSERT_EQ(0, device_open(&self->dev, variant->simgpu));
	ASSERT_EQ(0, rc_pair_open(&self->pair, NULL));
	self->host = mmap(NULL, LEN, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->host);
	self->host_mr = ibv_reg_mr(self->pair.pd, self->host, LEN, RC_PAIR_ALL);
	ASSERT_NE(NULL, self->host_mr);
	ASSERT_EQ(0, other_open(self));
}

FIXTURE_TEARDOWN(nth)
{
	EXPECT_EQ(0, other_close(self));
	EXPECT_EQ(0, ibv_dereg_mr(self->host_mr));
	munmap(self->host, LEN);
	rc_pair_close(&self->pair);
	EXPECT_EQ(0, device_close(&self->dev, variant->simgpu));
	close(self->nth);
}

static void hold(struct __test_metadata *_metadata, FIXTURE_DATA(nth) *self)
{
	ASSERT_EQ(0, holds_read(&self->before));
	self->pinned_before = pinned_kb();
	ASSERT_GE(self->pinned_before, 0);
}

/* Registers and deregisters one kind of memory. */
static void registers(struct __test_metadata *_metadata, FIXTURE_DATA(nth) *self, enum memory kind)
{
	struct buffer *buf = &self->buf[0];
	unsigned int n, tries = 0, failed = 0;
	struct ibv_mr *mr;
	bool fired = true;
	int err;

	ASSERT_EQ(0, buffer_make(buf, kind, &self->dev, 0));
	hold(_metadata, self);
	for (n = 1; fired; n = nth_next(n, fired && mr, &tries)) {
		ASSERT_LT(n, MAX_NTH);
		errno = 0;
		nth_arm(self->nth, n);
		mr = buffer_reg(buf, self->pair.pd);
		err = errno;
		fired = nth_disarm(self->nth);
		if (!mr) {
			ASSERT_TRUE(fired);
			ASSERT_EQ(ENOMEM, err) TH_LOG("%s, n = %u", memory_names[kind], n);
			failed++;
		} else {
			ASSERT_EQ(0, move(self, buf, mr)) TH_LOG("%s, n = %u", memory_names[kind], n);
			ASSERT_EQ(0, ibv_dereg_mr(mr));
		}
		ASSERT_NOTHING_HELD(n);
	}
	TH_LOG("%s: %u allocations, %u failures", memory_names[kind], n - 2, failed);
	ASSERT_GT(failed, 3);
	buffer_free(buf);
}

TEST_F_TIMEOUT(nth, registers, 600)
{
	for (enum memory kind = 0; kind < NUM_MEMORIES; kind++)
		registers(_metadata, self, kind);
}

/* Where another region keeps the device memory mapped */
TEST_F_TIMEOUT(nth, registers_beside_another, 600)
{
	struct buffer other;
	struct ibv_mr *mr;

	ASSERT_EQ(0, buffer_make(&other, DEVICE, &self->dev, OTHER_SLOT));
	mr = ibv_reg_mr(self->pair.pd, other.addr, LEN, RC_PAIR_ALL);
	ASSERT_NE(NULL, mr);
	registers(_metadata, self, DEVICE);
	registers(_metadata, self, MIXED);
	ASSERT_EQ(0, move(self, &other, mr));
	ASSERT_EQ(0, ibv_dereg_mr(mr));
	buffer_free(&other);
}

/* The query gives the same answer, or none. */
TEST_F_TIMEOUT(nth, queries, 600)
{
	const int cmd_fd = self->pair.ctx->cmd_fd;
	struct buffer *buf = &self->buf[0];

	/* A dma-buf has no address to be asked about, and ordinary memory needs no memory. */
	for (enum memory kind = DEVICE; kind < DMABUF; kind++) {
		struct ib_uverbs_p2p_info want, info;
		unsigned int n, tries = 0, failed = 0;
		bool fired = true;
		int ret;

		ASSERT_EQ(0, buffer_make(buf, kind, &self->dev, 0));
		hold(_metadata, self);
		ASSERT_EQ(0, p2p_query(cmd_fd, RDMA_DRIVER_UNKNOWN, buf->addr, LEN, RC_PAIR_ALL, &want));
		ASSERT_EQ(IB_UVERBS_P2P_REASON_NONE, want.reason);
		for (n = 1; fired; n = nth_next(n, fired && !ret, &tries)) {
			ASSERT_LT(n, MAX_NTH);
			nth_arm(self->nth, n);
			ret = p2p_query(cmd_fd, RDMA_DRIVER_UNKNOWN, buf->addr, LEN, RC_PAIR_ALL, &info);
			fired = nth_disarm(self->nth);
			if (ret) {
				ASSERT_TRUE(fired);
				ASSERT_EQ(-ENOMEM, ret) TH_LOG("%s, n = %u", memory_names[kind], n);
				failed++;
			} else {
				ASSERT_EQ(0, memcmp(&want, &info, sizeof(info)))
					TH_LOG("%s, n = %u: reason %u, error %u", memory_names[kind], n,
					       info.reason, info.error);
			}
			ASSERT_NOTHING_HELD(n);
		}
		TH_LOG("%s: %u allocations, %u failures", memory_names[kind], n - 2, failed);
		ASSERT_GT(failed, 0);
		buffer_free(buf);
	}
}

/* What cannot be deregistered for want of memory goes on to work, and can be later. */
TEST_F_TIMEOUT(nth, deregisters, 600)
{
	struct buffer *buf = &self->buf[0];

	for (enum memory kind = 0; kind < NUM_MEMORIES; kind++) {
		bool fired = true;

		ASSERT_EQ(0, buffer_make(buf, kind, &self->dev, 0));
		hold(_metadata, self);
		for (unsigned int n = 1; fired; n++) {
			struct ibv_mr *mr = buffer_reg(buf, self->pair.pd);
			int ret;

			ASSERT_LT(n, MAX_NTH);
			ASSERT_NE(NULL, mr);
			nth_arm(self->nth, n);
			ret = ibv_dereg_mr(mr);
			fired = nth_disarm(self->nth);
			if (ret) {
				ASSERT_TRUE(fired);
				ASSERT_EQ(ENOMEM, ret) TH_LOG("%s, n = %u", memory_names[kind], n);
				ASSERT_EQ(0, move(self, buf, mr));
				ASSERT_EQ(0, ibv_dereg_mr(mr));
			}
			ASSERT_NOTHING_HELD(n);
		}
		buffer_free(buf);
	}
}

struct change {
	int flags;
	enum memory from, to;
};

/* One change of a region, from buf[0] to buf[1]. After a failure it is what it was. */
static void rereg(struct __test_metadata *_metadata, FIXTURE_DATA(nth) *self,
		  const struct change *change)
{
	const struct buffer *now = &self->buf[change->flags & IBV_REREG_MR_CHANGE_TRANSLATION ? 1 : 0];
	unsigned int n, tries = 0, failed = 0;
	struct ibv_mr *mr = NULL;
	bool fired = true;
	int ret, err;

	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0, buffer_make(&self->buf[i], i ? change->to : change->from, &self->dev, i));
	hold(_metadata, self);
	for (n = 1; fired; n = nth_next(n, fired && !ret, &tries)) {
		ASSERT_LT(n, MAX_NTH);
		if (!mr) {
			mr = buffer_reg(&self->buf[0], self->pair.pd);
			ASSERT_NE(NULL, mr);
		}
		errno = 0;
		nth_arm(self->nth, n);
		ret = ibv_rereg_mr(mr, change->flags,
				   change->flags & IBV_REREG_MR_CHANGE_PD ? self->other.pd : NULL,
				   now->addr, LEN,
				   change->flags & IBV_REREG_MR_CHANGE_ACCESS ? IBV_ACCESS_REMOTE_READ : 0);
		err = errno;
		fired = nth_disarm(self->nth);
		if (ret) {
			ASSERT_TRUE(fired);
			ASSERT_EQ(ENOMEM, err) TH_LOG("n = %u: %d", n, ret);
			ASSERT_EQ(0, move(self, &self->buf[0], mr)) TH_LOG("n = %u", n);
			failed++;
			continue;
		}
		if (change->flags & (IBV_REREG_MR_CHANGE_PD | IBV_REREG_MR_CHANGE_ACCESS)) {
			ASSERT_TRUE(refused(self, now, mr));
			ASSERT_EQ(0, fetch(self, change->flags & IBV_REREG_MR_CHANGE_PD, now, mr))
				TH_LOG("n = %u", n);
		} else {
			ASSERT_EQ(0, move(self, now, mr)) TH_LOG("n = %u", n);
		}
		ASSERT_EQ(0, ibv_dereg_mr(mr));
		mr = NULL;
		ASSERT_NOTHING_HELD(n);
	}
	TH_LOG("flags %d, %s to %s: %u allocations, %u failures", change->flags,
	       memory_names[change->from], memory_names[change->to], n - 2, failed);
	ASSERT_GT(failed, 0);
	for (int i = 0; i < 2; i++)
		buffer_free(&self->buf[i]);
}

TEST_F_TIMEOUT(nth, rereg_memory, 900)
{
	struct change change = { .flags = IBV_REREG_MR_CHANGE_TRANSLATION };

	/* A dma-buf has no address to be re-registered by. */
	for (change.from = 0; change.from < DMABUF; change.from++)
		for (change.to = 0; change.to < DMABUF; change.to++)
			rereg(_metadata, self, &change);
}

TEST_F_TIMEOUT(nth, rereg_rights, 600)
{
	static const enum memory kinds[][2] = {
		{ ORDINARY, DEVICE }, { DEVICE, ORDINARY }, { MIXED, SCATTERED },
	};

	/* Every set of changes that has one of access or PD */
	for (int flags = 1; flags < IBV_REREG_MR_FLAGS_SUPPORTED + 1; flags++) {
		if (!(flags & ~IBV_REREG_MR_CHANGE_TRANSLATION))
			continue;
		for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
			const struct change change = { flags, kinds[i][0], kinds[i][1] };

			rereg(_metadata, self, &change);
		}
	}
}

/* Has the HCA no access, without a look by the CPU, for which there is nothing any more either? */
static bool fenced(FIXTURE_DATA(nth) *self, const struct buffer *buf, struct ibv_mr *mr)
{
	int want = hca_has_hook() ? IBV_WC_REM_ACCESS_ERR : IBV_WC_REM_OP_ERR;

	return rc_pair_rdma(&self->pair, IBV_WR_RDMA_WRITE, self->host, self->host_mr->lkey, 8,
			    buf->addr, mr->rkey) == want &&
	       !rc_pair_connect(&self->pair);
}

/*
 * The memory of a region is taken back: the device is reset, which gives the BAR a new buffer
 * afterwards, or simgpu does it. That the HCA is stopped must not depend on memory.
 */
TEST_F_TIMEOUT(nth, revokes, 600)
{
	struct buffer *buf = &self->buf[0];
	unsigned int n, revoked = 0;
	bool fired = true;
	int ctl = -1;

	if (!variant->simgpu) {
		char reset[256];

		snprintf(reset, sizeof(reset), "/sys/bus/pci/devices/%s/reset", getenv("VRAM_BDF"));
		ctl = open(reset, O_WRONLY | O_CLOEXEC);
		ASSERT_GE(ctl, 0);
	}
	/* The first mapping gives the BAR its buffer. */
	ASSERT_EQ(0, buffer_make(buf, DEVICE, &self->dev, 0));
	hold(_metadata, self);
	buffer_free(buf);
	for (n = 1; fired; n++) {
		struct simgpu_handle handle = { .handle = self->dev.handle };
		struct ibv_mr *mr;
		int ret;

		ASSERT_LT(n, MAX_NTH);
		/* Where there was no memory for a new buffer, this makes one. */
		ASSERT_EQ(0, buffer_make(buf, DEVICE, &self->dev, 0));
		ASSERT_NOTHING_HELD(n);
		mr = buffer_reg(buf, self->pair.pd);
		ASSERT_NE(NULL, mr) TH_LOG("n = %u: %s", n, strerror(errno));
		ASSERT_EQ(0, move(self, buf, mr));

		nth_arm(self->nth, n);
		ret = variant->simgpu ? ioctl(self->dev.fd, SIMGPU_IOC_REVOKE, &handle) :
					write(ctl, "1", 1);
		fired = nth_disarm(self->nth);
		if (ret >= 0) {
			ASSERT_TRUE(fenced(self, buf, mr)) TH_LOG("n = %u", n);
			revoked++;
		} else {
			ASSERT_TRUE(fired);
		}
		ASSERT_EQ(0, ibv_dereg_mr(mr));
		buffer_free(buf);
		if (variant->simgpu) {
			simgpu_free(&self->dev);
			ASSERT_EQ(0, simgpu_make(&self->dev));
		}
	}
	TH_LOG("%u allocations, %u revocations", n - 2, revoked);
	ASSERT_GT(revoked, 0);
	if (ctl >= 0)
		close(ctl);
}

TEST_HARNESS_MAIN
