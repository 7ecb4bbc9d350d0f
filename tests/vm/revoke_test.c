// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Device memory, or the HCA, is taken away under traffic, in every way and order that there is.
 *
 * Two processes move data with a key that is revoked then, one as local key, one as remote key, and
 * try again and again. When the revocation has returned, the host fills the device memory and looks
 * whether a byte changes. It does not: the driver of the HCA fences the key, or the IOMMU cuts the
 * HCA off (simhca.revoke=none).
 *
 * The device memory is the BAR itself, or buffers of simgpu, the sample exporter.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "file.h"
#include "holds.h"
#include "host.h"
#include "kselftest_harness.h"
#include "pattern.h"
#include "rc_pair.h"
#include "simgpu.h"
#include "sizes.h"
#include "traffic.h"

#define RW (PROT_READ | PROT_WRITE)

/* Parts of the device memory: of the two processes, and of the test itself */
#define PART (4 * MIB)
#define AT_TEST (2 * PART)

/* An action that takes longer than this hangs. */
#define ACTION_S 20

enum action {
	NOTHING,
	/* of the exporter */
	REMOVE, PROBE, RESET, UNPLUG,
	/* of simgpu: one buffer by command, one that is in the way, all because the driver goes */
	GPU_REVOKE, GPU_EVICT, GPU_UNBIND,
	/* of the HCA */
	HCA_UNBIND, HCA_REMOVE, HCA_RESET, HCA_UNPLUG,
};

enum end { DEREG, REREG, EXIT, KILL };

static bool of_hca(enum action action)
{
	return action >= HCA_UNBIND;
}

static bool of_simgpu(enum action action)
{
	return action >= GPU_REVOKE && action <= GPU_UNBIND;
}

/* Is the device memory still there afterwards? */
static bool memory_stays(enum action action)
{
	return action == PROBE || action == RESET;
}

static int write_device(const char *bdf, const char *file, const char *text)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", bdf, file);
	return write_file(path, text);
}

static const char *exporter_bdf(void)
{
	return getenv("VRAM_BDF");
}

FIXTURE(revoke) {
	char hca_bdf[32];
	int gpu;			/* /dev/simgpu0, or -1 */
	struct simgpu_create buf;	/* that the traffic is on then */
	uint8_t *dev;			/* mapping of the test's part */
	struct holds before;
	struct traffic *traffic[2];
	bool gone_memory, gone_hca;
};

FIXTURE_VARIANT(revoke) {
	enum action actions[2];
	enum end ends[2];
};

#define VARIANT(name, ...) \
	FIXTURE_VARIANT_ADD(revoke, name) { __VA_ARGS__ }

VARIANT(remove, .actions = { REMOVE }, .ends = { DEREG, REREG });
VARIANT(probe, .actions = { PROBE }, .ends = { DEREG, REREG });
VARIANT(reset, .actions = { RESET }, .ends = { EXIT, KILL });
VARIANT(remove_hca_unbind, .actions = { REMOVE, HCA_UNBIND }, .ends = { DEREG, REREG });
VARIANT(hca_unbind_remove, .actions = { HCA_UNBIND, REMOVE }, .ends = { DEREG, KILL });
VARIANT(remove_hca_remove, .actions = { REMOVE, HCA_REMOVE }, .ends = { EXIT, KILL });
VARIANT(hca_remove_remove, .actions = { HCA_REMOVE, REMOVE }, .ends = { DEREG, EXIT });
VARIANT(reset_hca_reset, .actions = { RESET, HCA_RESET }, .ends = { DEREG, KILL });
VARIANT(hca_reset_reset, .actions = { HCA_RESET, RESET }, .ends = { DEREG, EXIT });
VARIANT(probe_hca_unbind, .actions = { PROBE, HCA_UNBIND }, .ends = { DEREG, KILL });
VARIANT(hca_unbind_probe, .actions = { HCA_UNBIND, PROBE }, .ends = { DEREG, EXIT });
/* The ends of a guest: what was unplugged stays so. */
VARIANT(unplug_hca_unplug, .actions = { UNPLUG, HCA_UNPLUG }, .ends = { DEREG, EXIT });
VARIANT(hca_unplug_unplug, .actions = { HCA_UNPLUG, UNPLUG }, .ends = { DEREG, KILL });
VARIANT(gpu_revoke, .actions = { GPU_REVOKE }, .ends = { DEREG, REREG });
VARIANT(gpu_evict, .actions = { GPU_EVICT }, .ends = { DEREG, KILL });
VARIANT(gpu_unbind, .actions = { GPU_UNBIND }, .ends = { REREG, EXIT });
VARIANT(gpu_revoke_hca_unbind, .actions = { GPU_REVOKE, HCA_UNBIND }, .ends = { DEREG, KILL });
VARIANT(hca_unbind_gpu_unbind, .actions = { HCA_UNBIND, GPU_UNBIND }, .ends = { DEREG, EXIT });

/* Presses the attention button of the HCA's slot; the kernel waits for 5 s before it acts. */
static int unplug_hca(FIXTURE_DATA(revoke) *self)
{
	char path[PATH_MAX];
	int ret;

	ret = host_ask("device_del hca0", ACTION_S);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", self->hca_bdf);
	for (int i = 0; !ret && i < 100 * ACTION_S; i++) {
		if (access(path, F_OK))
			return 0;
		usleep(10000);
	}
	return ret ?: -ETIMEDOUT;
}

static int simgpu_command(FIXTURE_DATA(revoke) *self, unsigned long request, uint32_t flags)
{
	struct simgpu_handle arg = { .handle = self->buf.handle, .flags = flags };

	return ioctl(self->gpu, request, &arg) ? -errno : 0;
}

/* What is pinned does not move, and the traffic on it goes on; by force it is taken back. */
static int simgpu_evict(FIXTURE_DATA(revoke) *self)
{
	int ret = simgpu_command(self, SIMGPU_IOC_EVICT, 0);

	if (ret != -EBUSY)
		return ret ?: -EPROTO;
	for (int k = 0; k < 2; k++)
		if (!traffic_flows(self->traffic[k]))
			return -EIO;
	return simgpu_command(self, SIMGPU_IOC_EVICT, SIMGPU_FORCE);
}

static int simgpu_unbind(void)
{
	return write_device(exporter_bdf(), "driver/unbind", exporter_bdf());
}

/* Of the ways to reset a device the kernel takes the first: it must be @method. */
static int reset_by(const char *method, const char *bdf)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/reset_method", bdf);
	if (!file_says(path, method))
		return -EPROTO;
	return write_device(bdf, "reset", "1");
}

static int act(FIXTURE_DATA(revoke) *self, enum action action)
{
	switch (action) {
	case GPU_REVOKE:
		return simgpu_command(self, SIMGPU_IOC_REVOKE, 0);
	case GPU_EVICT:
		return simgpu_evict(self);
	case GPU_UNBIND:
		return simgpu_unbind();
	case REMOVE:
		return write_device(exporter_bdf(), "remove", "1");
	case RESET:
		return reset_by("bus", exporter_bdf());
	case PROBE:
		return write_device(exporter_bdf(), "driver_override", "pci-stub") ?:
		       write_file("/sys/bus/pci/drivers/pci-stub/bind", exporter_bdf());
	case UNPLUG:
		return host_ask("device_del vram", ACTION_S);
	case HCA_UNBIND:
		return write_file("/sys/bus/pci/drivers/simhca/unbind", self->hca_bdf);
	case HCA_REMOVE:
		return write_device(self->hca_bdf, "remove", "1");
	case HCA_RESET:
		return reset_by("flr", self->hca_bdf);
	case HCA_UNPLUG:
		return unplug_hca(self);
	default:
		return -EINVAL;
	}
}

static int undo(FIXTURE_DATA(revoke) *self, enum action action)
{
	switch (action) {
	case REMOVE:
	case HCA_REMOVE:
		return write_file("/sys/bus/pci/rescan", "1");
	case PROBE:
		return write_file("/sys/bus/pci/drivers/pci-stub/unbind", exporter_bdf()) ?:
		       write_device(exporter_bdf(), "driver_override", "\n");
	case HCA_UNBIND:
		return write_file("/sys/bus/pci/drivers/simhca/bind", self->hca_bdf);
	case GPU_REVOKE:
	case GPU_EVICT:
		return simgpu_unbind() ?: write_device(exporter_bdf(), "driver_override", "\n");
	case GPU_UNBIND:
		return write_device(exporter_bdf(), "driver_override", "\n");
	default:
		return 0;
	}
}

static uint8_t *map_part(void)
{
	uint8_t *dev = MAP_FAILED;
	uint64_t size;
	int fd;

	fd = vram_open(O_RDWR, &size);
	if (fd >= 0) {
		dev = mmap(NULL, PART, RW, MAP_SHARED, fd, AT_TEST);
		close(fd);
	}
	return dev;
}

static sigjmp_buf bus_error;

static void on_bus_error(int signal)
{
	siglongjmp(bus_error, signal);
}

/* 0, or the signal that a load and a store end in */
static int cpu_access(uint8_t *dev)
{
	struct sigaction action = { .sa_handler = on_bus_error }, old;
	volatile uint8_t *byte = dev + 12345;
	int ret;

	sigaction(SIGBUS, &action, &old);
	ret = sigsetjmp(bus_error, 1);
	if (!ret) {
		uint8_t was = *byte;

		*byte = ~was;
		if (*byte != (uint8_t)~was)
			ret = -EIO;
		*byte = was;
	}
	sigaction(SIGBUS, &old, NULL);
	return ret;
}

/* All of what a new region needs, on the mapping @dev. 0, an errno of ibv_reg_mr(), or a negative one. */
static int new_region(uint8_t *dev)
{
	uint8_t *host = mmap(NULL, MIB, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct ibv_mr *mr = NULL, *host_mr = NULL;
	struct rc_pair pair;
	int ret;

	ret = rc_pair_open(&pair, NULL);
	if (ret)
		return ret;
	host_mr = ibv_reg_mr(pair.pd, host, MIB, RC_PAIR_ALL);
	mr = ibv_reg_mr(pair.pd, dev, PART, RC_PAIR_ALL);
	if (!mr || !host_mr) {
		ret = errno;
		goto out;
	}
	pattern_fill(host, MIB, 4711);
	ret = -rc_pair_rdma(&pair, IBV_WR_RDMA_WRITE, host, host_mr->lkey, MIB, dev + MIB, mr->rkey);
	if (!ret && !pattern_matches(dev + MIB, MIB, 4711))
		ret = -EBADMSG;
out:
	if (mr)
		ibv_dereg_mr(mr);
	if (host_mr)
		ibv_dereg_mr(host_mr);
	rc_pair_close(&pair);
	munmap(host, MIB);
	return ret;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* Until the HCA is there, with its address, and can do all that it could before; at most 20 s. */
static int wait_usable(void)
{
	int ret = -ENODEV;

	for (int i = 0; i < 200; i++) {
		uint8_t *dev = map_part();

		if (dev != MAP_FAILED) {
			ret = new_region(dev);
			munmap(dev, PART);
			if (!ret)
				return 0;
		}
		usleep(100000);
	}
	return ret;
}

/* Gives the device to simgpu, and has a buffer of all three parts made, in pieces. */
static int simgpu_open(struct simgpu_create *buf)
{
	int fd, ret;

	*buf = (struct simgpu_create){
		.size = 3 * PART, .frag_size = 64 * KIB, .flags = SIMGPU_DESCENDING,
		.importers = hca_has_hook() ? SIMGPU_REVOCABLE : SIMGPU_REVOCABLE_OR_IOVA,
	};
	ret = write_device(exporter_bdf(), "driver_override", "simgpu") ?:
	      write_file("/sys/bus/pci/drivers_probe", exporter_bdf());
	if (ret)
		return ret;
	fd = open("/dev/simgpu0", O_RDWR | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, SIMGPU_IOC_CREATE, buf))
		return -errno;
	return fd;
}

FIXTURE_SETUP(revoke)
{
	char path[PATH_MAX], link[PATH_MAX];
	ssize_t n;

	snprintf(path, sizeof(path), "/sys/class/infiniband/%s/device", getenv("HCA"));
	n = readlink(path, link, sizeof(link) - 1);
	ASSERT_GT(n, 0);
	link[n] = 0;
	snprintf(self->hca_bdf, sizeof(self->hca_bdf), "%.31s", basename(link));
	self->dev = map_part();
	ASSERT_NE(MAP_FAILED, self->dev);
	ASSERT_EQ(0, new_region(self->dev));
	ASSERT_EQ(0, holds_read(&self->before));
	self->gpu = -1;
	if (of_simgpu(variant->actions[0]) || of_simgpu(variant->actions[1])) {
		munmap(self->dev, PART);
		self->gpu = simgpu_open(&self->buf);
		ASSERT_GE(self->gpu, 0) TH_LOG("simgpu: %s", strerror(-self->gpu));
		self->dev = mmap(NULL, PART, RW, MAP_SHARED, self->gpu,
				 self->buf.mmap_offset + AT_TEST);
		ASSERT_NE(MAP_FAILED, self->dev);
		ASSERT_EQ(0, new_region(self->dev));
	}
	for (int k = 0; k < 2; k++) {
		self->traffic[k] = traffic_start(k ? TRAFFIC_REMOTE_KEY : TRAFFIC_LOCAL_KEY,
						 self->gpu, self->buf.mmap_offset + k * PART, PART);
		ASSERT_NE(NULL, self->traffic[k]) TH_LOG("%s", strerror(errno));
	}
}

FIXTURE_TEARDOWN(revoke)
{
}

/* What a revoked key gives: the local one, and the remote one */
static void revoked_status(enum ibv_wc_status *local, enum ibv_wc_status *remote,
			   enum ibv_event_type *event)
{
	bool hook = hca_has_hook();

	*local = IBV_WC_LOC_PROT_ERR;
	/* To the responder, an address the IOMMU does not translate is no bad key. */
	*remote = hook ? IBV_WC_REM_ACCESS_ERR : IBV_WC_REM_OP_ERR;
	*event = hook ? IBV_EVENT_QP_ACCESS_ERR : IBV_EVENT_QP_FATAL;
}

/* Other failures than @status that @t has seen */
static unsigned long other_failures(struct traffic *t, enum ibv_wc_status status)
{
	unsigned long sum = 0;

	for (unsigned int i = 0; i <= IBV_WC_TM_RNDV_INCOMPLETE; i++)
		if (i != status)
			sum += atomic_load(&t->failed[i]);
	return sum;
}

TEST_F_TIMEOUT(revoke, under_traffic, 120)
{
	enum ibv_wc_status status[2];
	enum ibv_event_type event;

	revoked_status(&status[0], &status[1], &event);
	for (int i = 0; i < 2 && variant->actions[i]; i++) {
		enum action action = variant->actions[i];
		unsigned long done[2], tries[2], silent[2];
		double start = now();
		struct holds held;

		ASSERT_EQ(0, act(self, action)) TH_LOG("action %d", action);
		for (int k = 0; k < 2; k++) {
			done[k] = atomic_load(&self->traffic[k]->done);
			tries[k] = atomic_load(&self->traffic[k]->tries);
			silent[k] = atomic_load(&self->traffic[k]->silent);
		}
		EXPECT_LT(now() - start, ACTION_S);
		/* They go on trying meanwhile. */
		EXPECT_EQ(0, host_ask("late 2", ACTION_S));
		self->gone_hca |= of_hca(action);
		self->gone_memory |= !of_hca(action);

		for (int k = 0; k < 2; k++) {
			struct traffic *t = self->traffic[k];

			/* What had completed when the action returned may have been seen later. */
			EXPECT_LE(atomic_load(&t->done), done[k] + 4) TH_LOG("traffic %d", k);
			EXPECT_GT(atomic_load(&t->tries), tries[k]) TH_LOG("traffic %d", k);
			if (self->gone_hca)
				continue;
			ASSERT_EQ(status[k], traffic_failed(t)) TH_LOG("traffic %d", k);
			EXPECT_EQ(0, other_failures(t, status[k])) TH_LOG("traffic %d", k);
			EXPECT_GT(atomic_load(&t->failed[status[k]]), 2) TH_LOG("traffic %d", k);
			EXPECT_EQ(silent[k], atomic_load(&t->silent)) TH_LOG("traffic %d", k);
		}
		if (!self->gone_hca) {
			EXPECT_EQ(0, self->traffic[0]->events[event]);
			EXPECT_GT(self->traffic[1]->events[event], 0);
		}

		if (of_hca(action)) {
			/* The regions are gone with the HCA, whatever their processes do. */
			ASSERT_EQ(0, holds_read(&held));
			EXPECT_EQ(0, held.attached);
			continue;
		}
		EXPECT_EQ(memory_stays(action) ? 0 : SIGBUS, cpu_access(self->dev));
		if (self->gone_hca)
			continue;
		EXPECT_EQ(memory_stays(action) ? 0 : ENODEV, new_region(self->dev));
	}

	for (int k = 0; k < 2; k++) {
		struct traffic *t = self->traffic[k];

		switch (variant->ends[k]) {
		case DEREG:
			ASSERT_EQ(0, traffic_end(t, TRAFFIC_DEREG)) TH_LOG("%s", strerror(-t->error));
			if (self->gone_hca)
				break;
			EXPECT_EQ(0, t->dereg_errno);
			EXPECT_EQ(memory_stays(variant->actions[0]) ? 0 : ENODEV, t->reg_errno);
			EXPECT_EQ(t->reg_errno ? -EIO : 0, t->moved);
			break;
		case REREG:
			ASSERT_EQ(0, traffic_end(t, TRAFFIC_REREG)) TH_LOG("%s", strerror(-t->error));
			if (self->gone_hca)
				break;
			EXPECT_EQ(0, t->reg_errno);
			EXPECT_EQ(0, t->moved);
			EXPECT_EQ(0, t->dereg_errno);
			break;
		case EXIT:
			ASSERT_EQ(0, traffic_end(t, TRAFFIC_EXIT));
			break;
		case KILL:
			ASSERT_EQ(SIGKILL, traffic_kill(t));
			break;
		}
	}

	for (int i = 1; i >= 0; i--)
		ASSERT_EQ(0, undo(self, variant->actions[i]));
	if (variant->actions[0] == UNPLUG || variant->actions[1] == UNPLUG)
		return;
	ASSERT_EQ(0, wait_usable());
	munmap(self->dev, PART);
	if (self->gpu >= 0)
		close(self->gpu);
	/* A device that came back has been mapped again: its buffer is there, as before. */
	EXPECT_TRUE(holds_settle(&self->before));
}

/* Guests in which there is nothing to revoke, or nobody who does */
FIXTURE(not_revoked) {
};

FIXTURE_SETUP(not_revoked)
{
}

FIXTURE_TEARDOWN(not_revoked)
{
}

/*
 * The check for late bytes can fail: with simhca.revoke=none p2pdma_buf.importers=any nobody stops
 * the HCA when the device is removed.
 */
TEST_F_TIMEOUT(not_revoked, late_bytes_are_seen, 120)
{
	struct traffic *traffic[2];
	unsigned long done;

	for (int k = 0; k < 2; k++) {
		traffic[k] = traffic_start(k ? TRAFFIC_REMOTE_KEY : TRAFFIC_LOCAL_KEY, -1, k * PART,
					   PART);
		ASSERT_NE(NULL, traffic[k]) TH_LOG("%s", strerror(errno));
	}
	ASSERT_EQ(0, write_device(exporter_bdf(), "remove", "1"));
	done = atomic_load(&traffic[0]->done);
	EXPECT_EQ(-EBADMSG, host_ask("late 2", ACTION_S));
	EXPECT_GT(atomic_load(&traffic[0]->done), done);
	for (int k = 0; k < 2; k++)
		EXPECT_EQ(0, traffic_end(traffic[k], TRAFFIC_DEREG));
	/* When the traffic has stopped, so have the bytes. */
	EXPECT_EQ(0, host_ask("late 1", ACTION_S));
	ASSERT_EQ(0, write_file("/sys/bus/pci/rescan", "1"));
	ASSERT_EQ(0, wait_usable());
}

/*
 * What the stock kernel does, p2pdma_buf.importers=off: a mapping of the BAR goes on reading and
 * writing where the BAR was, after the device was removed. That it ends in SIGBUS when the feature
 * is on is seen above.
 */
TEST_F(not_revoked, stock_mapping_outlives_removal)
{
	uint8_t *dev = map_part();

	ASSERT_NE(MAP_FAILED, dev);
	EXPECT_EQ(EFAULT, new_region(dev));
	pattern_fill(dev, MIB, 42);
	ASSERT_EQ(0, write_device(exporter_bdf(), "remove", "1"));
	EXPECT_EQ(0, cpu_access(dev));
	EXPECT_TRUE(pattern_matches(dev, MIB, 42));
	pattern_fill(dev, MIB, 43);
	EXPECT_TRUE(pattern_matches(dev, MIB, 43));
	/* The memory of the device has it. */
	EXPECT_EQ(0, pattern_expect(AT_TEST, MIB, 43));
	munmap(dev, PART);
}

TEST_HARNESS_MAIN
