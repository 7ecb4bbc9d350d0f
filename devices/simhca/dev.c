// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* A device: its place on the bus, its registers, its resets. */
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "poller.h"
#include "simhca.h"

void dev_log(struct simhca_dev *dev, enum vfu_log_level level, const char *fmt, ...)
{
	char line[160];
	va_list ap;

	if (!dev->log)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	dev->log(dev->name, level, line);
}

/* ---- engine thread: state of the device ---- */

static void dev_update_running(struct simhca_dev *dev)
{
	uint32_t status = atomic_load(&dev->status);

	engine_hca_set_running(&dev->hca, dev->bus_master && status == SIMHCA_STATUS_ENABLED);
}

/* What everybody sees: 0 means that objects are gone, or do not work any more. */
static void dev_set_epoch(struct simhca_dev *dev, uint32_t epoch)
{
	__atomic_store_n(&dev_status_page(dev)->epoch, htole32(epoch), __ATOMIC_RELEASE);
}

void dev_fatal(struct simhca_dev *dev, const char *why)
{
	if (atomic_load(&dev->status) & SIMHCA_STATUS_FATAL)
		return;
	dev_log(dev, VFU_LOG_ERROR, "stopped: %s", why);
	atomic_fetch_or(&dev->status, SIMHCA_STATUS_FATAL);
	dev_set_epoch(dev, 0);
	event_raise(&dev->fatal, &dev->async, SIMHCA_EVENT_DEV_FATAL);
	dev_update_running(dev);
}

static void dev_reset(struct simhca_dev *dev)
{
	engine_hca_set_running(&dev->hca, false);
	obj_destroy_all(dev);
	if (dev->hca.mem)
		dev_log(dev, VFU_LOG_ERROR, "leak: a reset has left %llu bytes",
			(unsigned long long)dev->hca.mem);
	atomic_store(&dev->status, 0);
	atomic_store(&dev->kicks, 0);
	dev->irqs = 0;
	dev->events_blocked = false;
	dev->events = 0;
	dev->moderated = 0;
	dev->hca.stats = (struct engine_stats) { 0 };
	dev->cmdq_ci = 0;
	/* Doorbells and status page read as zero again, and take no memory. */
	if (fallocate(dev->db_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
		      SIMHCA_BAR_DB_SIZE))
		memset(dev->db, 0, SIMHCA_BAR_DB_SIZE);
}

/* Returns false if there can be no ring at @base. */
static bool dev_take_ring(struct simhca_ring *ring, uint64_t base, uint64_t length)
{
	uint64_t last;

	if (base % SIMHCA_PAGE_SIZE || __builtin_add_overflow(base, length - 1, &last))
		return false;
	*ring = (struct simhca_ring) { 0 };
	sgtab_init_one(&ring->sg, base, length);
	return true;
}

static void dev_enable(struct simhca_dev *dev)
{
	uint32_t log_size = dev->reg_cmdq_log_size;

	if (atomic_load(&dev->status))
		return;
	if (!log_size || log_size > SIMHCA_CMDQ_MAX_LOG ||
	    !dev_take_ring(&dev->cmdq, dev->reg_cmdq_base, sizeof(struct simhca_cmd) << log_size) ||
	    !dev_take_ring(&dev->rspq, dev->reg_rspq_base, sizeof(struct simhca_rsp) << log_size)) {
		dev_fatal(dev, "enabled with an invalid command ring");
		return;
	}
	dev->cmdq_log_size = log_size;
	dev->cmdq_ci = 0;
	__atomic_store_n(&dev_uar(dev, SIMHCA_KERNEL_UAR)->cmdq_pi, 0, __ATOMIC_RELAXED);
	if (++dev->epoch == UINT32_MAX)
		dev->epoch = 1;
	dev_set_epoch(dev, dev->epoch);
	atomic_store(&dev->status, SIMHCA_STATUS_ENABLED);
	dev_update_running(dev);
}

bool dev_serve_request(struct simhca_dev *dev)
{
	if (atomic_load_explicit(&dev->req, memory_order_acquire) == SIMHCA_REQ_NONE)
		return false;
	pthread_mutex_lock(&dev->req_lock);
	switch ((enum simhca_request)atomic_load(&dev->req)) {
	case SIMHCA_REQ_ENABLE:
		dev_enable(dev);
		break;
	case SIMHCA_REQ_RESET:
		dev_reset(dev);
		break;
	case SIMHCA_REQ_BUS_MASTER:
		dev->bus_master = dev->req_bus_master;
		dev_update_running(dev);
		break;
	case SIMHCA_REQ_NONE:
		break;
	}
	atomic_store(&dev->req, SIMHCA_REQ_NONE);
	pthread_cond_signal(&dev->req_done);
	pthread_mutex_unlock(&dev->req_lock);
	return true;
}

/* ---- message thread ---- */

/* Has the engine thread do it; a round of that is a matter of milliseconds. */
static void dev_call(struct simhca_dev *dev, enum simhca_request req)
{
	pthread_mutex_lock(&dev->req_lock);
	atomic_store(&dev->req, req);
	poller_wake(dev->poller);
	while (atomic_load(&dev->req) != SIMHCA_REQ_NONE)
		pthread_cond_wait(&dev->req_done, &dev->req_lock);
	pthread_mutex_unlock(&dev->req_lock);
}

static void dev_vfu_reset(void *ctx, enum vfu_reset why)
{
	struct simhca_dev *dev = ctx;

	(void)why;
	dev->reg_cmdq_base = 0;
	dev->reg_rspq_base = 0;
	dev->reg_cmdq_log_size = 0;
	dev->reg_ctrl = 0;
	dev_call(dev, SIMHCA_REQ_RESET);
}

static void dev_vfu_disconnect(void *ctx)
{
	struct simhca_dev *dev = ctx;

	dev_vfu_reset(dev, VFU_RESET_CONNECT);
	dev->req_bus_master = false;
	dev_call(dev, SIMHCA_REQ_BUS_MASTER);
}

static void dev_vfu_bus_master(void *ctx, bool on)
{
	struct simhca_dev *dev = ctx;

	/* Read by the engine thread under @req_lock only while a request is posted. */
	dev->req_bus_master = on;
	dev_call(dev, SIMHCA_REQ_BUS_MASTER);
}

static void dev_vfu_log(void *ctx, enum vfu_log_level level, const char *line)
{
	struct simhca_dev *dev = ctx;

	if (dev->log)
		dev->log(dev->name, level, line);
}

/* The registers as they read, for accesses of any width. */
static void dev_read_regs(struct simhca_dev *dev, uint8_t *regs)
{
	const uint32_t reg32[] = {
		[SIMHCA_REG_MAGIC / 4] = SIMHCA_MAGIC,
		[SIMHCA_REG_VERSION / 4] = SIMHCA_VERSION,
		[SIMHCA_REG_STATUS / 4] = atomic_load(&dev->status),
		[SIMHCA_REG_CTRL / 4] = dev->reg_ctrl,
		[SIMHCA_REG_CMDQ_LOG_SIZE / 4] = dev->reg_cmdq_log_size,
	};
	const uint64_t base[] = { htole64(dev->reg_cmdq_base), htole64(dev->reg_rspq_base) };
	size_t i;

	for (i = 0; i < sizeof(reg32) / sizeof(reg32[0]); i++) {
		uint32_t value = htole32(reg32[i]);

		memcpy(regs + i * 4, &value, sizeof(value));
	}
	memcpy(regs + SIMHCA_REG_MAC, dev->mac, sizeof(dev->mac));
	memcpy(regs + SIMHCA_REG_CMDQ_BASE, base, sizeof(base));
}

static int dev_bar0_read(void *ctx, uint64_t offset, void *buf, size_t len)
{
	uint8_t regs[SIMHCA_REG_CMDQ_LOG_SIZE + 4] = { 0 };
	struct simhca_dev *dev = ctx;
	uint64_t clock;

	memset(buf, 0, len);
	if (offset == SIMHCA_KICK_PAGE + SIMHCA_CLOCK_REG && len <= sizeof(clock)) {
		clock = htole64(simhca_clock());
		memcpy(buf, &clock, len);
		return 0;
	}
	if (offset >= sizeof(regs))
		return 0;
	dev_read_regs(dev, regs);
	memcpy(buf, regs + offset, len < sizeof(regs) - offset ? len : sizeof(regs) - offset);
	return 0;
}

static void dev_write_half(uint64_t *reg, unsigned int shift, uint32_t value)
{
	*reg = (*reg & ~(0xffffffffull << shift)) | (uint64_t)value << shift;
}

static void dev_write_ctrl(struct simhca_dev *dev, uint32_t value)
{
	dev->reg_ctrl = value & SIMHCA_CTRL_ENABLE;
	if (dev->reg_ctrl) {
		dev_call(dev, SIMHCA_REQ_ENABLE);
		return;
	}
	dev->reg_cmdq_base = 0;
	dev->reg_rspq_base = 0;
	dev->reg_cmdq_log_size = 0;
	dev_call(dev, SIMHCA_REQ_RESET);
}

static void dev_write_reg(struct simhca_dev *dev, uint64_t offset, uint32_t value)
{
	switch (offset) {
	case SIMHCA_REG_CTRL:
		dev_write_ctrl(dev, value);
		break;
	case SIMHCA_REG_CMDQ_BASE:
	case SIMHCA_REG_CMDQ_BASE + 4:
		dev_write_half(&dev->reg_cmdq_base, 8 * (offset % 8), value);
		break;
	case SIMHCA_REG_RSPQ_BASE:
	case SIMHCA_REG_RSPQ_BASE + 4:
		dev_write_half(&dev->reg_rspq_base, 8 * (offset % 8), value);
		break;
	case SIMHCA_REG_CMDQ_LOG_SIZE:
		dev->reg_cmdq_log_size = value;
		break;
	}
}

static int dev_bar0_write(void *ctx, uint64_t offset, const void *buf, size_t len)
{
	struct simhca_dev *dev = ctx;
	uint32_t value[2];

	if (offset >= SIMHCA_KICK_PAGE && offset < SIMHCA_KICK_PAGE + SIMHCA_PAGE_SIZE) {
		if (__atomic_load_n(&dev_status_page(dev)->asleep, __ATOMIC_RELAXED))
			atomic_fetch_add(&dev->kicks, 1);
		poller_wake(dev->poller);
		return 0;
	}
	/* Registers take aligned accesses of 32 and 64 bits. */
	if ((len != 4 && len != 8) || offset % len || offset >= SIMHCA_KICK_PAGE)
		return 0;
	memcpy(value, buf, len);
	dev_write_reg(dev, offset, le32toh(value[0]));
	if (len == 8)
		dev_write_reg(dev, offset + 4, le32toh(value[1]));
	return 0;
}

/* ---- making and unmaking ---- */

static int dev_create_doorbells(struct simhca_dev *dev)
{
	int ret;

	dev->db_fd = memfd_create("simhca-doorbells", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (dev->db_fd < 0)
		return -errno;
	if (ftruncate(dev->db_fd, SIMHCA_BAR_DB_SIZE) ||
	    fcntl(dev->db_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		goto err_close;
	dev->db = mmap(NULL, SIMHCA_BAR_DB_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, dev->db_fd, 0);
	if (dev->db == MAP_FAILED)
		goto err_close;
	return 0;

err_close:
	ret = -errno;
	close(dev->db_fd);
	return ret;
}

static int dev_describe(struct simhca_dev *dev)
{
	static const struct vfu_region_ops regs = {
		.read = dev_bar0_read,
		.write = dev_bar0_write,
	};
	struct vfu_server *srv = dev->srv;
	int ret;

	ret = vfu_pci_set_id(srv, SIMHCA_PCI_VENDOR_ID, SIMHCA_PCI_DEVICE_ID, SIMHCA_PCI_VENDOR_ID,
			     SIMHCA_PCI_DEVICE_ID);
	if (ret)
		return ret;
	ret = vfu_pci_set_class(srv, SIMHCA_PCI_CLASS, SIMHCA_VERSION);
	if (ret)
		return ret;
	ret = vfu_pci_add_pm(srv);
	if (ret)
		return ret;
	ret = vfu_pci_add_pcie(srv);
	if (ret)
		return ret;
	ret = vfu_pci_add_msix(srv, SIMHCA_NUM_VECTORS, SIMHCA_BAR_REGS, SIMHCA_MSIX_TABLE,
			       SIMHCA_BAR_REGS, SIMHCA_MSIX_PBA);
	if (ret)
		return ret;
	ret = vfu_region_set(srv, SIMHCA_BAR_REGS, SIMHCA_BAR_REGS_SIZE, 0, &regs, dev);
	if (ret)
		return ret;
	ret = vfu_region_set(srv, SIMHCA_BAR_DB, SIMHCA_BAR_DB_SIZE,
			     VFU_REGION_64BIT | VFU_REGION_PREFETCH, NULL, NULL);
	if (ret)
		return ret;
	return vfu_region_set_mmap(srv, SIMHCA_BAR_DB, dev->db_fd, 0, NULL, 0);
}

struct simhca_dev *simhca_dev_create(struct poller *poller, const char *name,
				     const uint8_t mac[6], simhca_log_fn log)
{
	static const struct vfu_ops ops = {
		.disconnect = dev_vfu_disconnect,
		.reset = dev_vfu_reset,
		.bus_master = dev_vfu_bus_master,
		.log = dev_vfu_log,
	};
	struct simhca_dev *dev;
	int ret = -ENOMEM;

	dev = calloc(1, sizeof(*dev));
	if (!dev)
		goto err;
	dev->poller = poller;
	dev->name = name;
	dev->log = log;
	memcpy(dev->mac, mac, sizeof(dev->mac));
	dev->max_mr = SIMHCA_MAX_MRS - 1;
	pthread_mutex_init(&dev->req_lock, NULL);
	pthread_cond_init(&dev->req_done, NULL);
	list_init(&dev->waiting_cqs);
	dev->waiting_until = ENGINE_NO_TIMER;
	list_init(&dev->async);
	list_init(&dev->uars);
	event_init(&dev->fatal, 0);

	ret = dev_create_doorbells(dev);
	if (ret)
		goto err_free;
	dev->srv = vfu_create(&ops, dev);
	if (!dev->srv) {
		ret = -errno;
		goto err_doorbells;
	}
	ret = dev_describe(dev);
	if (ret)
		goto err_srv;
	ret = engine_hca_init(&dev->hca, poller_fabric(poller), &simhca_engine_ops,
			      vfu_dma_map(dev->srv));
	if (ret)
		goto err_srv;
	poller_add(poller, dev);
	return dev;

err_srv:
	vfu_destroy(dev->srv);
err_doorbells:
	munmap(dev->db, SIMHCA_BAR_DB_SIZE);
	close(dev->db_fd);
err_free:
	pthread_cond_destroy(&dev->req_done);
	pthread_mutex_destroy(&dev->req_lock);
	free(dev);
err:
	errno = -ret;
	return NULL;
}

void simhca_dev_set_max_mr(struct simhca_dev *dev, uint32_t max_mr)
{
	dev->max_mr = max_mr;
}

static void *dev_thread(void *arg)
{
	struct simhca_dev *dev = arg;
	int ret = vfu_run(dev->srv);

	if (ret)
		dev_log(dev, VFU_LOG_ERROR, "serving ended: %s", strerror(-ret));
	return NULL;
}

static int dev_start(struct simhca_dev *dev)
{
	int ret = -pthread_create(&dev->thread, NULL, dev_thread, dev);

	dev->thread_started = !ret;
	return ret;
}

int simhca_dev_listen(struct simhca_dev *dev, const char *path)
{
	int ret = vfu_listen(dev->srv, path);

	return ret ? ret : dev_start(dev);
}

int simhca_dev_adopt(struct simhca_dev *dev, int fd)
{
	int ret = vfu_adopt(dev->srv, fd);

	return ret ? ret : dev_start(dev);
}

void simhca_dev_stop(struct simhca_dev *dev)
{
	if (dev->thread_started) {
		vfu_stop(dev->srv);
		pthread_join(dev->thread, NULL);
		dev->thread_started = false;
	}
	vfu_destroy(dev->srv);
	dev->srv = NULL;
}

void simhca_dev_destroy(struct simhca_dev *dev)
{
	if (!dev)
		return;
	vfu_destroy(dev->srv);
	engine_hca_destroy(&dev->hca);
	munmap(dev->db, SIMHCA_BAR_DB_SIZE);
	close(dev->db_fd);
	pthread_cond_destroy(&dev->req_done);
	pthread_mutex_destroy(&dev->req_lock);
	free(dev);
}
