// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * What can be seen of memory regions in device memory: the query whether a range could be one, and
 * why not; that it says what ibv_reg_mr() does then; resource dumps, counters and tracepoints.
 *
 * P2P_ROUTE is the route that the query must tell: "bus", "bridge" or "none".
 */
#define _GNU_SOURCE
#include "p2p_query.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "file.h"
#include "holds.h"
#include "kselftest_harness.h"
#include "rc_pair.h"
#include "sizes.h"

#define RW (PROT_READ | PROT_WRITE)
#define TRACING "/sys/kernel/tracing/"

#define REASON(name) IB_UVERBS_P2P_REASON_##name

/* A file of the exporting device in sysfs */
static const char *exporter_file(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", getenv("VRAM_BDF"), name);
	return path;
}

FIXTURE(query) {
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	enum rdma_driver_id driver;
	int fd;			/* of the device memory */
	uint8_t *dev;		/* MIB of it, mapped */
	uint8_t *host;		/* MIB of ordinary memory */
	bool hook;		/* the HCA can fence keys */
	struct ib_uverbs_p2p_info info;
};

FIXTURE_SETUP(query)
{
	char revoke[16] = "";
	uint64_t size;
	int fd;

	self->driver = RDMA_DRIVER_UNKNOWN;
	self->ctx = hca_open(NULL);
	ASSERT_NE(NULL, self->ctx);
	self->pd = ibv_alloc_pd(self->ctx);
	ASSERT_NE(NULL, self->pd);
	self->fd = vram_open(O_RDWR, &size);
	ASSERT_GE(self->fd, 0);
	self->dev = mmap(NULL, MIB, RW, MAP_SHARED, self->fd, 0);
	ASSERT_NE(MAP_FAILED, self->dev);
	self->host = mmap(NULL, MIB, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->host);
	fd = open(HCA_REVOKE, O_RDONLY);
	ASSERT_GE(fd, 0);
	ASSERT_GT(read(fd, revoke, sizeof(revoke) - 1), 0);
	close(fd);
	self->hook = !strncmp(revoke, "hook", 4);
}

FIXTURE_TEARDOWN(query)
{
	munmap(self->host, MIB);
	munmap(self->dev, MIB);
	close(self->fd);
	ibv_dealloc_pd(self->pd);
	ibv_close_device(self->ctx);
}

static int query(FIXTURE_DATA(query) *self, const void *addr, uint64_t len, int access)
{
	return p2p_query(self->ctx->cmd_fd, self->driver, addr, len, access, &self->info);
}

/* The query gives this reason and errno, and ibv_reg_mr() the same errno. */
#define EXPECT_ANSWER(why, err, addr, len, access) do { \
	EXPECT_EQ(0, query(self, addr, len, access)); \
	EXPECT_EQ(why, self->info.reason); \
	EXPECT_EQ(err, self->info.error); \
	EXPECT_EQ(err, reg_errno(self->pd, addr, len, access)); \
	EXPECT_EQ((why) != REASON(NONE), (err) != 0); \
	for (size_t _i = 0; _i < sizeof(self->info.reserved); _i++) \
		EXPECT_EQ(0, self->info.reserved[_i]); \
} while (0)

/* Of device memory: the owner and the route, also where it cannot be registered */
#define EXPECT_OWNER(bdf, route_name) do { \
	char _bdf[32]; \
	EXPECT_EQ(IB_UVERBS_P2P_DEVICE_MEMORY | IB_UVERBS_P2P_OWNER, self->info.flags & \
		  (IB_UVERBS_P2P_DEVICE_MEMORY | IB_UVERBS_P2P_OWNER)); \
	snprintf(_bdf, sizeof(_bdf), "%04x:%02x:%02x.%x", self->info.domain, self->info.bus, \
		 self->info.devfn >> 3, self->info.devfn & 7); \
	EXPECT_STREQ(bdf, _bdf); \
	EXPECT_EQ(route(route_name), self->info.route); \
} while (0)

static enum ib_uverbs_p2p_route route(const char *name)
{
	if (!strcmp(name, "bus"))
		return IB_UVERBS_P2P_ROUTE_BUS_ADDR;
	if (!strcmp(name, "bridge"))
		return IB_UVERBS_P2P_ROUTE_HOST_BRIDGE;
	return IB_UVERBS_P2P_ROUTE_NONE;
}

static int have(FIXTURE_DATA(query) *self, int flag)
{
	return !!(self->info.flags & flag);
}

TEST_F(query, device_memory)
{
	struct holds before, after;

	ASSERT_EQ(0, holds_read(&before));
	EXPECT_ANSWER(REASON(NONE), 0, self->dev, MIB, RC_PAIR_ALL);
	EXPECT_OWNER(getenv("VRAM_BDF"), getenv("P2P_ROUTE"));
	EXPECT_EQ(1, self->info.segments);
	EXPECT_EQ(self->hook, have(self, IB_UVERBS_P2P_REVOCABLE));
	EXPECT_FALSE(have(self, IB_UVERBS_P2P_ORDINARY_MEMORY));
	/* Any part of it */
	EXPECT_ANSWER(REASON(NONE), 0, self->dev + 1, 1, 0);
	EXPECT_EQ(1, self->info.segments);
	EXPECT_ANSWER(REASON(NONE), 0, self->dev + PAGE - 1, 2 * PAGE + 3, IBV_ACCESS_REMOTE_READ);
	/* Nothing is left of it. */
	EXPECT_TRUE(holds_settle(&before));
	ASSERT_EQ(0, holds_read(&after));
}

TEST_F(query, several_pieces)
{
	uint8_t *space = mmap(NULL, 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, space);
	/* The BAR in another order, then ordinary memory between the two */
	ASSERT_EQ(space, mmap(space, PAGE, RW, MAP_SHARED | MAP_FIXED, self->fd, 8 * PAGE));
	ASSERT_EQ(space + PAGE, mmap(space + PAGE, PAGE, RW, MAP_SHARED | MAP_FIXED, self->fd, 0));
	EXPECT_ANSWER(REASON(NONE), 0, space, 2 * PAGE, RC_PAIR_ALL);
	EXPECT_EQ(2, self->info.segments);
	EXPECT_FALSE(have(self, IB_UVERBS_P2P_ORDINARY_MEMORY));

	ASSERT_EQ(space + 2 * PAGE, mmap(space + 2 * PAGE, PAGE, RW,
					 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	EXPECT_ANSWER(REASON(NONE), 0, space, 3 * PAGE, RC_PAIR_ALL);
	EXPECT_EQ(2, self->info.segments);
	EXPECT_TRUE(have(self, IB_UVERBS_P2P_ORDINARY_MEMORY));
	EXPECT_OWNER(getenv("VRAM_BDF"), getenv("P2P_ROUTE"));
	munmap(space, 4 * PAGE);
}

TEST_F(query, ordinary_memory)
{
	EXPECT_ANSWER(REASON(NONE), 0, self->host, MIB, RC_PAIR_ALL);
	EXPECT_EQ(IB_UVERBS_P2P_ORDINARY_MEMORY, self->info.flags);
	EXPECT_EQ(0, self->info.segments);
	EXPECT_EQ(IB_UVERBS_P2P_ROUTE_NONE, self->info.route);
	EXPECT_EQ(0, self->info.domain | self->info.bus | self->info.devfn);
}

TEST_F(query, not_mapped)
{
	uint8_t *space = mmap(NULL, 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, space);
	ASSERT_EQ(0, munmap(space, 4 * PAGE));
	ASSERT_EQ(space + PAGE, mmap(space + PAGE, PAGE, RW, MAP_SHARED | MAP_FIXED, self->fd, 0));
	EXPECT_ANSWER(REASON(NOT_MAPPED), EFAULT, space, PAGE, RC_PAIR_ALL);
	EXPECT_FALSE(have(self, IB_UVERBS_P2P_DEVICE_MEMORY));
	EXPECT_ANSWER(REASON(NOT_MAPPED), EFAULT, space, 2 * PAGE, RC_PAIR_ALL);
	EXPECT_ANSWER(REASON(NOT_MAPPED), EFAULT, space + PAGE, PAGE + 1, RC_PAIR_ALL);
	EXPECT_EQ(0, self->info.segments);
	EXPECT_ANSWER(REASON(NOT_MAPPED), EFAULT, NULL, 1, RC_PAIR_ALL);
	munmap(space + PAGE, PAGE);
}

/* A BAR smaller than a page: what else is in the page belongs to somebody else. */
TEST_F(query, no_exporter)
{
	int fd = open(exporter_file("resource0"), O_RDWR | O_CLOEXEC);
	uint8_t *regs, *space;

	ASSERT_GE(fd, 0);
	regs = mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, regs);
	EXPECT_ANSWER(REASON(NO_EXPORTER), EFAULT, regs, PAGE, RC_PAIR_ALL);
	EXPECT_EQ(0, self->info.flags);
	munmap(regs, PAGE);

	/* Beside memory that could be registered */
	space = mmap(NULL, 2 * PAGE, RW, MAP_SHARED, self->fd, 0);
	ASSERT_NE(MAP_FAILED, space);
	ASSERT_EQ(space + PAGE, mmap(space + PAGE, PAGE, RW, MAP_SHARED | MAP_FIXED, fd, 0));
	EXPECT_ANSWER(REASON(NO_EXPORTER), EFAULT, space, 2 * PAGE, RC_PAIR_ALL);
	EXPECT_ANSWER(REASON(NONE), 0, space, PAGE, RC_PAIR_ALL);
	munmap(space, 2 * PAGE);
	close(fd);
}

TEST_F(query, access)
{
	uint8_t *dev = mmap(NULL, MIB, RW, MAP_PRIVATE, self->fd, 0);

	ASSERT_NE(MAP_FAILED, dev);
	EXPECT_ANSWER(REASON(ACCESS), EACCES, dev, MIB, RC_PAIR_ALL);
	EXPECT_ANSWER(REASON(ACCESS), EACCES, dev, MIB, IBV_ACCESS_REMOTE_READ);
	EXPECT_TRUE(have(self, IB_UVERBS_P2P_DEVICE_MEMORY));
	munmap(dev, MIB);

	ASSERT_EQ(0, mprotect(self->dev, PAGE, PROT_READ));
	EXPECT_ANSWER(REASON(ACCESS), EACCES, self->dev, MIB, RC_PAIR_ALL);
	EXPECT_ANSWER(REASON(NONE), 0, self->dev, MIB, IBV_ACCESS_REMOTE_READ);
	EXPECT_ANSWER(REASON(NONE), 0, self->dev + PAGE, MIB - PAGE, RC_PAIR_ALL);
}

TEST_F(query, gone)
{
	int config = open(exporter_file("config"), O_RDWR | O_CLOEXEC);
	uint16_t on, off;

	ASSERT_GE(config, 0);
	ASSERT_EQ(2, pread(config, &on, 2, PCI_COMMAND));
	off = on & ~PCI_COMMAND_MEMORY;
	ASSERT_NE(on, off);
	ASSERT_EQ(2, pwrite(config, &off, 2, PCI_COMMAND));
	EXPECT_ANSWER(REASON(GONE), ENODEV, self->dev, MIB, RC_PAIR_ALL);
	EXPECT_OWNER(getenv("VRAM_BDF"), getenv("P2P_ROUTE"));
	EXPECT_EQ(0, self->info.segments);
	ASSERT_EQ(2, pwrite(config, &on, 2, PCI_COMMAND));
	EXPECT_ANSWER(REASON(NONE), 0, self->dev, MIB, RC_PAIR_ALL);
	close(config);
}

TEST_F(query, cpu_data_path)
{
	struct ibv_context *ctx = self->ctx;
	struct ibv_pd *pd = self->pd;
	char command[256];

	snprintf(command, sizeof(command),
		 "rdma link add rxe0 type rxe netdev $(cat /sys/class/infiniband/%s/ports/1/gid_attrs/ndevs/0)",
		 getenv("HCA"));
	ASSERT_EQ(0, system(command));
	self->ctx = hca_open("rxe0");
	ASSERT_NE(NULL, self->ctx);
	self->pd = ibv_alloc_pd(self->ctx);
	ASSERT_NE(NULL, self->pd);
	self->driver = RDMA_DRIVER_RXE;

	EXPECT_ANSWER(REASON(CPU_DATA_PATH), EOPNOTSUPP, self->dev, MIB, RC_PAIR_ALL);
	EXPECT_OWNER(getenv("VRAM_BDF"), "none");
	EXPECT_FALSE(have(self, IB_UVERBS_P2P_REVOCABLE));
	EXPECT_ANSWER(REASON(NONE), 0, self->host, MIB, RC_PAIR_ALL);
	EXPECT_ANSWER(REASON(NOT_MAPPED), EFAULT, NULL, 1, RC_PAIR_ALL);

	ibv_dealloc_pd(self->pd);
	ibv_close_device(self->ctx);
	self->ctx = ctx;
	self->pd = pd;
	EXPECT_EQ(0, system("rdma link delete rxe0"));
}

/* For a guest whose host bridge is not known to forward */
TEST_F(query, no_route)
{
	EXPECT_ANSWER(REASON(NO_ROUTE), EREMOTEIO, self->dev, MIB, RC_PAIR_ALL);
	EXPECT_OWNER(getenv("VRAM_BDF"), "none");
	EXPECT_EQ(0, self->info.segments);
	EXPECT_ANSWER(REASON(NONE), 0, self->host, MIB, RC_PAIR_ALL);
}

/* For a guest without IOMMU, and an HCA that cannot fence keys at first */
TEST_F(query, not_revocable)
{
	ASSERT_FALSE(self->hook);
	EXPECT_ANSWER(REASON(NOT_REVOCABLE), EOPNOTSUPP, self->dev, MIB, RC_PAIR_ALL);
	EXPECT_OWNER(getenv("VRAM_BDF"), getenv("P2P_ROUTE"));
	EXPECT_FALSE(have(self, IB_UVERBS_P2P_REVOCABLE));
	ASSERT_EQ(0, write_file(HCA_REVOKE, "hook"));
	EXPECT_ANSWER(REASON(NONE), 0, self->dev, MIB, RC_PAIR_ALL);
	EXPECT_TRUE(have(self, IB_UVERBS_P2P_REVOCABLE));
	ASSERT_EQ(0, write_file(HCA_REVOKE, "none"));
}

TEST_F(query, wrong_questions)
{
	EXPECT_EQ(-EINVAL, query(self, self->dev, 0, RC_PAIR_ALL));
	EXPECT_EQ(-EINVAL, query(self, self->dev, UINT64_MAX, RC_PAIR_ALL));
	EXPECT_EQ(-EINVAL, query(self, (void *)-PAGE, PAGE, RC_PAIR_ALL));
	/* Remote write access without local write access; a flag that does not exist */
	EXPECT_EQ(-EINVAL, query(self, self->dev, MIB, IBV_ACCESS_REMOTE_WRITE));
	EXPECT_EQ(-EINVAL, query(self, self->dev, MIB, 1 << 19));
	/* simhca has no on-demand paging. */
	EXPECT_EQ(-EOPNOTSUPP, query(self, self->dev, MIB, IBV_ACCESS_ON_DEMAND));
	/* Flags that only ask for it */
	EXPECT_EQ(0, query(self, self->dev, MIB, RC_PAIR_ALL | IBV_ACCESS_RELAXED_ORDERING));
	EXPECT_EQ(REASON(NONE), self->info.reason);
}

/* ---- counters ------------------------------------------------------------------------------- */

struct counters {
	long regions, mapped, refused, revoked;
};

static long counter(const char *name)
{
	char path[256];
	long value = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/class/infiniband/%s/umem_p2p/%s", getenv("HCA"), name);
	f = fopen(path, "re");
	if (!f || fscanf(f, "%ld", &value) != 1)
		value = -1;
	if (f)
		fclose(f);
	return value;
}

static struct counters counters(void)
{
	return (struct counters){ counter("regions"), counter("mapped"), counter("refused"),
				  counter("revoked") };
}

#define EXPECT_COUNTERS(before, d_regions, d_mapped, d_refused, d_revoked) do { \
	struct counters _now = counters(); \
	EXPECT_EQ((before).regions + (d_regions), _now.regions); \
	EXPECT_EQ((before).mapped + (d_mapped), _now.mapped); \
	EXPECT_EQ((before).refused + (d_refused), _now.refused); \
	EXPECT_EQ((before).revoked + (d_revoked), _now.revoked); \
} while (0)

/* Takes the device memory back from everybody: a driver probes. It has it again afterwards. */
static int revoke_memory(void)
{
	return write_file(exporter_file("driver_override"), "pci-stub") ?:
	       write_file("/sys/bus/pci/drivers/pci-stub/bind", getenv("VRAM_BDF"));
}

static int revoke_memory_end(void)
{
	return write_file("/sys/bus/pci/drivers/pci-stub/unbind", getenv("VRAM_BDF")) ?:
	       write_file(exporter_file("driver_override"), "\n");
}

TEST_F(query, counts)
{
	struct counters before = counters();
	struct ibv_mr *one, *two, *host;

	ASSERT_GE(before.regions, 0);
	one = ibv_reg_mr(self->pd, self->dev, MIB, RC_PAIR_ALL);
	ASSERT_NE(NULL, one);
	two = ibv_reg_mr(self->pd, self->dev, PAGE, 0);
	ASSERT_NE(NULL, two);
	/* No region of these */
	host = ibv_reg_mr(self->pd, self->host, MIB, RC_PAIR_ALL);
	ASSERT_NE(NULL, host);
	EXPECT_EQ(0, query(self, self->dev, MIB, RC_PAIR_ALL));
	EXPECT_EQ(0, query(self, NULL, MIB, RC_PAIR_ALL));
	EXPECT_COUNTERS(before, 2, 2, 0, 0);
	ASSERT_EQ(0, ibv_dereg_mr(one));
	EXPECT_COUNTERS(before, 1, 2, 0, 0);
	EXPECT_EQ(EFAULT, reg_errno(self->pd, NULL, PAGE, 0));
	EXPECT_COUNTERS(before, 1, 2, 1, 0);
	/* Who cannot be told is not counted: the IOMMU does it. */
	ASSERT_EQ(0, revoke_memory());
	EXPECT_COUNTERS(before, 1, 2, 1, self->hook ? 1 : 0);
	ASSERT_EQ(0, ibv_dereg_mr(two));
	ASSERT_EQ(0, ibv_dereg_mr(host));
	EXPECT_COUNTERS(before, 0, 2, 1, self->hook ? 1 : 0);
	ASSERT_EQ(0, revoke_memory_end());
}

/* ---- resource dumps ------------------------------------------------------------------------- */

/* Of how many MRs "rdma resource show mr -dd" tells @text; -1: it failed. */
static int dump_lines(const char *text)
{
	char line[1024];
	int lines = 0;
	FILE *f;

	f = popen("rdma -dd -j resource show mr | jq -c '.[]'", "re");
	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		printf("# %s", line);
		lines += !!strstr(line, text);
	}
	return pclose(f) ? -1 : lines;
}

static const char *dump_text(FIXTURE_DATA(query) *self, bool revoked)
{
	static char text[128];

	snprintf(text, sizeof(text),
		 "\"drv_p2p_device\":\"%s\",\"drv_p2p_segments\":1,"
		 "\"drv_p2p_revocable\":\"%s\",\"drv_p2p_revoked\":\"%s\"",
		 getenv("VRAM_BDF"), self->hook ? "yes" : "no", revoked ? "yes" : "no");
	return text;
}

TEST_F(query, dump_tells_of_device_memory)
{
	struct ibv_mr *host, *dev;

	host = ibv_reg_mr(self->pd, self->host, MIB, RC_PAIR_ALL);
	ASSERT_NE(NULL, host);
	EXPECT_EQ(0, dump_lines("p2p_"));
	EXPECT_EQ(1, dump_lines("\"mrn\":"));
	dev = ibv_reg_mr(self->pd, self->dev, MIB, RC_PAIR_ALL);
	ASSERT_NE(NULL, dev);
	EXPECT_EQ(1, dump_lines(dump_text(self, false)));
	EXPECT_EQ(2, dump_lines("\"mrn\":"));
	ASSERT_EQ(0, ibv_dereg_mr(dev));
	EXPECT_EQ(0, dump_lines("p2p_"));
	ASSERT_EQ(0, ibv_dereg_mr(host));
}

TEST_F(query, dump_tells_of_revocation)
{
	struct ibv_mr *old, *new;

	old = ibv_reg_mr(self->pd, self->dev, MIB, RC_PAIR_ALL);
	ASSERT_NE(NULL, old);
	ASSERT_EQ(0, revoke_memory());
	EXPECT_EQ(1, dump_lines(dump_text(self, true)));
	EXPECT_EQ(0, dump_lines(dump_text(self, false)));
	/* A region made after it */
	EXPECT_ANSWER(REASON(NONE), 0, self->dev, MIB, RC_PAIR_ALL);
	new = ibv_reg_mr(self->pd, self->dev, MIB, RC_PAIR_ALL);
	ASSERT_NE(NULL, new);
	EXPECT_EQ(1, dump_lines(dump_text(self, true)));
	EXPECT_EQ(1, dump_lines(dump_text(self, false)));
	ASSERT_EQ(0, ibv_dereg_mr(old));
	EXPECT_EQ(0, dump_lines(dump_text(self, true)));
	ASSERT_EQ(0, ibv_dereg_mr(new));
	ASSERT_EQ(0, revoke_memory_end());
}

/* ---- tracepoints ---------------------------------------------------------------------------- */

/* How many events have @format of the parameters in their line */
__attribute__((format(printf, 1, 2))) static int traced(const char *format, ...)
{
	char text[256], line[1024];
	int lines = 0;
	va_list ap;
	FILE *f;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	f = fopen(TRACING "trace", "re");
	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		lines += !!strstr(line, text);
	fclose(f);
	return lines;
}

TEST_F(query, traces)
{
	const char *hca = getenv("HCA");
	uint8_t *space;
	struct ibv_mr *mr;

	ASSERT_EQ(0, write_file(TRACING "trace", ""));
	ASSERT_EQ(0, write_file(TRACING "events/umem_p2p/enable", "1"));
	ASSERT_EQ(0, write_file(TRACING "events/dma_buf/dma_buf_unlink/enable", "1"));

	mr = ibv_reg_mr(self->pd, self->dev, MIB, RC_PAIR_ALL);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(1, traced("umem_p2p_map: device=%s addr=%p len=%lu segments=1 pieces=1 revocable=%d",
			    hca, self->dev, MIB, self->hook));
	ASSERT_EQ(0, revoke_memory());
	EXPECT_EQ(self->hook ? 1 : 0,
		  traced("umem_p2p_revoke: device=%s addr=%p len=%lu", hca, self->dev, MIB));
	/* Whom the IOMMU has cut off */
	EXPECT_EQ(self->hook ? 0 : 1, traced("dma_buf_unlink:"));
	EXPECT_EQ(0, traced("umem_p2p_unmap:"));
	ASSERT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_EQ(1, traced("umem_p2p_unmap: device=%s addr=%p len=%lu", hca, self->dev, MIB));
	ASSERT_EQ(0, revoke_memory_end());

	EXPECT_EQ(EFAULT, reg_errno(self->pd, NULL, PAGE, 0));
	EXPECT_EQ(1, traced("umem_p2p_refuse: device=%s addr=0x0 len=%lu err=%d reason=\"not mapped\"",
			    hca, PAGE, -EFAULT));
	ASSERT_EQ(0, mprotect(self->dev, MIB, PROT_READ));
	EXPECT_EQ(EACCES, reg_errno(self->pd, self->dev, MIB, RC_PAIR_ALL));
	EXPECT_EQ(1, traced("err=%d reason=\"private or read-only mapping\"", -EACCES));

	/* Ordinary memory beside it that cannot be pinned is none of the reasons. */
	space = mmap(NULL, 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, space);
	ASSERT_EQ(space, mmap(space, PAGE, RW, MAP_SHARED | MAP_FIXED, self->fd, 0));
	EXPECT_EQ(EFAULT, reg_errno(self->pd, space, 2 * PAGE, RC_PAIR_ALL));
	EXPECT_EQ(1, traced("err=%d reason=\"other\"", -EFAULT));
	/* And ordinary memory alone is nothing to tell of. */
	EXPECT_EQ(EFAULT, reg_errno(self->pd, space + PAGE, PAGE, RC_PAIR_ALL));
	EXPECT_EQ(0, reg_errno(self->pd, self->host, PAGE, RC_PAIR_ALL));
	EXPECT_EQ(3, traced("umem_p2p_refuse:"));
	EXPECT_EQ(1, traced("umem_p2p_map:"));
	munmap(space, 2 * PAGE);
	ASSERT_EQ(0, write_file(TRACING "events/umem_p2p/enable", "0"));
	ASSERT_EQ(0, write_file(TRACING "events/dma_buf/dma_buf_unlink/enable", "0"));
}

TEST_HARNESS_MAIN
