// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The client and the device of the vfio-user tests; see vfu_client.h.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "vfu_client.h"

const struct vfu_area bar4_areas[2] = {
	{ 4 * PAGE, 8 * PAGE },
	{ 16 * PAGE, PAGE },
};

/* ---- the device ---- */

static void on_connect(void *ctx)
{
	struct fixture *t = ctx;

	t->connects++;
	if (t->disconnect_in == 'c')
		vfu_disconnect(t->srv);
}

static void on_disconnect(void *ctx)
{
	struct dma_map_stats stats;
	struct fixture *t = ctx;

	t->disconnects++;
	dma_map_get_stats(t->dma, &stats);
	t->maps_at_disconnect = stats.maps;
}

static void on_reset(void *ctx, enum vfu_reset why)
{
	struct fixture *t = ctx;

	t->resets[why]++;
}

static void on_bus_master(void *ctx, bool on)
{
	struct fixture *t = ctx;

	t->bus_master = on;
}

static void on_log(void *ctx, enum vfu_log_level level, const char *line)
{
	struct fixture *t = ctx;

	assert_null(strchr(line, '\n'));
	t->log_lines[level]++;
}

static int reg_read(void *ctx, uint64_t offset, void *buf, size_t len)
{
	struct fixture *t = ctx;

	t->reads++;
	t->last_offset = offset;
	t->last_len = len;
	if (t->disconnect_in == 'r')
		vfu_disconnect(t->srv);
	if (t->io_error)
		return t->io_error;
	memcpy(buf, t->regs + offset, len);
	return 0;
}

static int reg_write(void *ctx, uint64_t offset, const void *buf, size_t len)
{
	struct fixture *t = ctx;

	t->writes++;
	t->last_offset = offset;
	t->last_len = len;
	if (t->io_error)
		return t->io_error;
	memcpy(t->regs + offset, buf, len);
	return 0;
}

static const struct vfu_region_ops reg_ops = { .read = reg_read, .write = reg_write };

int new_memfd(uint64_t size)
{
	int fd = memfd_create("vfio_user_test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

void describe(struct fixture *t)
{
	static const struct vfu_ops ops = {
		.connect = on_connect,
		.disconnect = on_disconnect,
		.reset = on_reset,
		.bus_master = on_bus_master,
		.log = on_log,
	};

	t->srv = vfu_create(&ops, t);
	assert_non_null(t->srv);
	t->dma = vfu_dma_map(t->srv);
	t->bar2_fd = new_memfd(BAR2_SIZE);
	t->bar4_fd = new_memfd(BAR4_FD_OFFSET + BAR4_SIZE);

	assert_int_equal(vfu_pci_set_id(t->srv, 0x1234, 0x5678, 0x9abc, 0xdef0), 0);
	assert_int_equal(vfu_pci_set_class(t->srv, 0x020700, 3), 0);
	assert_int_equal(vfu_pci_add_pcie(t->srv), 0);
	assert_int_equal(vfu_pci_add_msix(t->srv, VECTORS, VFU_BAR0, TABLE_OFFSET, VFU_BAR0,
					  PBA_OFFSET), 0);
	assert_int_equal(vfu_pci_add_pm(t->srv), 0);
	assert_int_equal(vfu_region_set(t->srv, VFU_BAR0, BAR0_SIZE, 0, &reg_ops, t), 0);
	assert_int_equal(vfu_region_set(t->srv, VFU_BAR2, BAR2_SIZE,
					VFU_REGION_64BIT | VFU_REGION_PREFETCH, NULL, NULL), 0);
	assert_int_equal(vfu_region_set_mmap(t->srv, VFU_BAR2, t->bar2_fd, 0, NULL, 0), 0);
	assert_int_equal(vfu_region_set(t->srv, VFU_BAR4, BAR4_SIZE, 0, &reg_ops, t), 0);
	assert_int_equal(vfu_region_set_mmap(t->srv, VFU_BAR4, t->bar4_fd, BAR4_FD_OFFSET,
					     bar4_areas, 2), 0);
}

/* ---- the client ---- */

int count_fds(void)
{
	int fd, n = 0;

	for (fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) != -1;
	return n;
}

void send_bytes(int sock, const void *buf, size_t len, const int *fds, unsigned int num_fds)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(MAX_TEST_FDS * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (void *)buf, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	if (num_fds) {
		msg.msg_control = control.buf;
		msg.msg_controllen = CMSG_SPACE(num_fds * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(num_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, num_fds * sizeof(int));
	}
	assert_int_equal(sendmsg(sock, &msg, MSG_NOSIGNAL), len);
}

void send_message(int sock, const struct message *m)
{
	uint8_t buf[sizeof(m->hdr) + sizeof(m->payload)];

	memcpy(buf, &m->hdr, sizeof(m->hdr));
	memcpy(buf + sizeof(m->hdr), m->payload, m->len);
	send_bytes(sock, buf, sizeof(m->hdr) + m->len, m->fds, m->num_fds);
}

void make_message(struct message *m, uint16_t command, const void *payload, size_t len)
{
	static uint16_t id;

	memset(&m->hdr, 0, sizeof(m->hdr));
	m->hdr.id = ++id;
	m->hdr.command = command;
	m->hdr.size = (uint32_t)(sizeof(m->hdr) + len);
	m->len = len;
	m->num_fds = 0;
	if (len)
		memcpy(m->payload, payload, len);
}

/* Receives one message; false when the server has closed. */
bool receive_message(int sock, struct message *m)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(MAX_TEST_FDS * sizeof(int))];
	} control;
	struct iovec iov = { &m->hdr, sizeof(m->hdr) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	struct cmsghdr *c;
	ssize_t n;

	n = recvmsg(sock, &msg, 0);
	if (n <= 0)
		return false;
	assert_int_equal(n, sizeof(m->hdr));
	m->num_fds = 0;
	c = CMSG_FIRSTHDR(&msg);
	if (c) {
		m->num_fds = (unsigned int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(m->fds, CMSG_DATA(c), m->num_fds * sizeof(int));
	}
	m->len = m->hdr.size - sizeof(m->hdr);
	assert_true(m->len <= sizeof(m->payload));
	if (m->len)
		assert_int_equal(recv(sock, m->payload, m->len, MSG_WAITALL), m->len);
	return true;
}

void expect_quiet(int sock)
{
	char c;

	assert_int_equal(recv(sock, &c, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

/* The server must have thrown us out. */
void expect_closed(struct fixture *t)
{
	struct vfu_stats stats;
	char c;

	assert_int_equal(vfu_process(t->srv), -ENOTCONN);
	/* ECONNRESET: there was something left it had not read */
	assert_true(recv(t->client, &c, 1, MSG_DONTWAIT) == 0 || errno == ECONNRESET);
	vfu_get_stats(t->srv, &stats);
	assert_int_equal(stats.protocol_errors, 1);
	assert_true(t->log_lines[VFU_LOG_ERROR] > 0);
}

/* Sends @m, replaces it by the reply, and returns the reply's errno. */
int transact(struct fixture *t, struct message *m)
{
	uint16_t id = m->hdr.id, command = m->hdr.command;

	send_message(t->client, m);
	assert_int_equal(vfu_process(t->srv), 0);
	assert_true(receive_message(t->client, m));
	expect_quiet(t->client);
	assert_int_equal(m->hdr.id, id);
	assert_int_equal(m->hdr.command, command);
	if (m->hdr.flags == VFU_F_TYPE_REPLY)
		return 0;
	assert_int_equal(m->hdr.flags, VFU_F_TYPE_REPLY | VFU_F_ERROR);
	assert_int_equal(m->len, 0);
	assert_int_equal(m->num_fds, 0);
	assert_int_not_equal(m->hdr.error, 0);
	return (int)m->hdr.error;
}

int call(struct fixture *t, struct message *m, uint16_t command, const void *payload,
	 size_t len)
{
	make_message(m, command, payload, len);
	return transact(t, m);
}

void make_version(struct message *m)
{
	static const char version[] = "\0\0\0\0{\"capabilities\":{\"max_msg_fds\":16,"
		"\"max_data_xfer_size\":1048576,\"pgsizes\":4096,\"max_dma_maps\":65535}}";

	make_message(m, VFU_VERSION, version, sizeof(version));
}

int dma_map(struct fixture *t, uint64_t iova, uint64_t size, uint32_t flags, int fd,
	    uint64_t offset)
{
	struct vfu_dma_map_req req = {
		.argsz = sizeof(req), .flags = flags, .offset = offset, .address = iova, .size = size,
	};
	struct message m;
	int ret;

	make_message(&m, VFU_DMA_MAP, &req, sizeof(req));
	if (fd != -1) {
		m.fds[0] = fd;
		m.num_fds = 1;
	}
	ret = transact(t, &m);
	assert_int_equal(m.len, 0);
	return ret;
}

int dma_unmap(struct fixture *t, uint64_t iova, uint64_t size, uint32_t flags)
{
	struct vfu_dma_unmap req = {
		.argsz = sizeof(req), .flags = flags, .address = iova, .size = size,
	};
	struct message m;
	int ret;

	ret = call(t, &m, VFU_DMA_UNMAP, &req, sizeof(req));
	if (!ret) {
		assert_int_equal(m.len, sizeof(req));
		assert_memory_equal(m.payload, &req, sizeof(req));
	}
	return ret;
}

int region_read(struct fixture *t, uint32_t region, uint64_t offset, void *buf,
		uint32_t len)
{
	struct vfu_region_rw req = { .offset = offset, .region = region, .count = len };
	struct message m;
	int ret;

	ret = call(t, &m, VFU_REGION_READ, &req, sizeof(req));
	if (!ret) {
		assert_int_equal(m.len, sizeof(req) + len);
		assert_memory_equal(m.payload, &req, sizeof(req));
		memcpy(buf, m.payload + sizeof(req), len);
	}
	return ret;
}

void make_write(struct message *m, uint32_t region, uint64_t offset, const void *buf,
		uint32_t len)
{
	struct vfu_region_rw req = { .offset = offset, .region = region, .count = len };

	make_message(m, VFU_REGION_WRITE, &req, sizeof(req));
	assert_true(len <= sizeof(m->payload) - sizeof(req));
	memcpy(m->payload + sizeof(req), buf, len);
	m->len += len;
	m->hdr.size += len;
}

int region_write(struct fixture *t, uint32_t region, uint64_t offset, const void *buf,
		 uint32_t len)
{
	struct message m;
	int ret;

	make_write(&m, region, offset, buf, len);
	ret = transact(t, &m);
	if (!ret)
		assert_int_equal(m.len, sizeof(struct vfu_region_rw));
	return ret;
}

uint32_t config_read(struct fixture *t, uint64_t offset, uint32_t len)
{
	uint32_t v = 0;

	assert_int_equal(region_read(t, VFIO_PCI_CONFIG_REGION_INDEX, offset, &v, len), 0);
	return v;
}

void config_write(struct fixture *t, uint64_t offset, uint32_t v, uint32_t len)
{
	assert_int_equal(region_write(t, VFIO_PCI_CONFIG_REGION_INDEX, offset, &v, len), 0);
}

int set_irqs(struct fixture *t, uint32_t flags, uint32_t index, uint32_t start,
	     uint32_t count, const int *fds, unsigned int num_fds)
{
	struct vfu_irq_set req = {
		.argsz = sizeof(req), .flags = flags, .index = index, .start = start, .count = count,
	};
	struct message m;

	make_message(&m, VFU_DEVICE_SET_IRQS, &req, sizeof(req));
	if (num_fds)
		memcpy(m.fds, fds, num_fds * sizeof(int));
	m.num_fds = num_fds;
	return transact(t, &m);
}

/* ---- fixtures ---- */

void start_raw(struct fixture *t)
{
	int sock[2];

	memset(t, 0, sizeof(*t));
	t->fds_before = count_fds();
	describe(t);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock), 0);
	t->client = sock[0];
	assert_int_equal(vfu_adopt(t->srv, sock[1]), 0);
}

void start(struct fixture *t)
{
	struct message m;

	start_raw(t);
	make_version(&m);
	assert_int_equal(transact(t, &m), 0);
	assert_int_equal(t->connects, 1);
}

/* Whatever happened, no descriptor may be left over. */
void finish(struct fixture *t)
{
	vfu_destroy(t->srv);
	assert_int_equal(t->connects, t->disconnects);
	if (t->client != -1)
		close(t->client);
	close(t->bar2_fd);
	close(t->bar4_fd);
	assert_int_equal(count_fds(), t->fds_before);
}

int setup_raw(void **state)
{
	*state = malloc(sizeof(struct fixture));
	start_raw(*state);
	return 0;
}

int setup(void **state)
{
	*state = malloc(sizeof(struct fixture));
	start(*state);
	return 0;
}

int teardown(void **state)
{
	finish(*state);
	free(*state);
	return 0;
}

void *run_server(void *arg)
{
	return (void *)(intptr_t)vfu_run(arg);
}
