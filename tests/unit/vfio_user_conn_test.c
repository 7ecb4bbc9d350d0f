// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The vfio-user server and clients that do not behave: framing, malformed
 * messages, connections that come and go, noise.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "vfu_client.h"

/* ---- framing ---- */

static void refused_commands(void **state)
{
	static const uint16_t commands[] = { 0, 6, 11, 12, 14, 15, 17, 18, 19, 0xffff };
	struct fixture *t = *state;
	struct vfu_stats stats;
	struct message m;
	uint8_t junk[100] = { 1, 2, 3 };
	unsigned int i;

	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		assert_int_equal(call(t, &m, commands[i], junk, i * 11), EOPNOTSUPP);
	assert_int_equal(call(t, &m, VFU_DEVICE_FEATURE, junk, 8), ENOTTY);
	vfu_get_stats(t->srv, &stats);
	assert_int_equal(stats.refused, i + 1);
	assert_int_equal(stats.protocol_errors, 0);
}

static void byte_by_byte(void **state)
{
	struct fixture *t = *state;
	int fd = new_memfd(PAGE);
	struct vfu_dma_map_req req = { .argsz = sizeof(req), .flags = 3, .size = PAGE };
	struct message m;
	uint8_t buf[48];
	unsigned int i, round;

	for (round = 0; round < 3; round++) {
		make_message(&m, VFU_DMA_MAP, &req, sizeof(req));
		memcpy(buf, &m.hdr, 16);
		memcpy(buf + 16, &req, 32);
		for (i = 0; i < sizeof(buf); i++) {
			expect_quiet(t->client);
			/* the descriptor with the first, a middle, the last byte */
			send_bytes(t->client, buf + i, 1, &fd, i == round * 47 / 2);
			assert_int_equal(vfu_process(t->srv), 0);
		}
		assert_true(receive_message(t->client, &m));
		assert_int_equal(m.hdr.flags, VFU_F_TYPE_REPLY);
		req.address += PAGE;
	}
	close(fd);
}

static void pipelined(void **state)
{
	struct fixture *t = *state;
	uint8_t buf[200 * 64];
	size_t len = 0;
	struct message m;
	uint32_t i, v;
	uint16_t first = 0;

	for (i = 0; i < 200; i++) {
		v = i;
		make_write(&m, VFU_BAR0, 8, &v, 4);
		if (!i)
			first = m.hdr.id;
		/* every other one posted */
		if (i % 2)
			m.hdr.flags |= VFU_F_NO_REPLY;
		memcpy(buf + len, &m.hdr, sizeof(m.hdr));
		memcpy(buf + len + sizeof(m.hdr), m.payload, m.len);
		len += m.hdr.size;
	}
	send_bytes(t->client, buf, len, NULL, 0);
	while (t->writes < 200)
		assert_int_equal(vfu_process(t->srv), 0);
	for (i = 0; i < 200; i += 2) {
		assert_true(receive_message(t->client, &m));
		assert_int_equal(m.hdr.id, (uint16_t)(first + i));
		assert_int_equal(m.hdr.flags, VFU_F_TYPE_REPLY);
	}
	expect_quiet(t->client);
	memcpy(&v, t->regs + 8, 4);
	assert_int_equal(v, 199);
	/* a posted one that fails says nothing either */
	make_write(&m, VFU_BAR1, 8, &v, 4);
	m.hdr.flags |= VFU_F_NO_REPLY;
	send_message(t->client, &m);
	assert_int_equal(vfu_process(t->srv), 0);
	expect_quiet(t->client);
}

/* Everything that must end the connection. */
struct malformed {
	const char *what;
	bool before_version;
	uint16_t command;
	uint32_t len;		/* of the payload, in header and fact */
	int size_delta;		/* header lies by this much */
	uint32_t flags;
	unsigned int num_fds;
	uint8_t payload[48];
};

#define IRQ_PAYLOAD(flag, cnt) { 20, 0, 0, 0, flag, 0, 0, 0, MSIX, 0, 0, 0, 0, 0, 0, 0, cnt }

static const struct malformed malformed[] = {
	{ "size 0", .command = VFU_DEVICE_RESET, .size_delta = -16 },
	{ "size below header", .command = VFU_DEVICE_RESET, .size_delta = -1 },
	{ "size without end", .command = VFU_REGION_WRITE, .size_delta = 0x7fffffff },
	{ "size one over the largest", .command = VFU_REGION_WRITE,
	  .size_delta = 16 + (1 << 20) + 1 },
	{ "size without end, unknown command", .command = 99, .size_delta = 0x7fffffff },
	{ "reply nobody asked for", .command = VFU_DMA_READ, .len = 16, .flags = VFU_F_TYPE_REPLY },
	{ "unknown type", .command = VFU_DEVICE_RESET, .flags = 2 },
	{ "error in a command", .command = VFU_DEVICE_RESET, .flags = VFU_F_ERROR },
	{ "unknown flag", .command = VFU_DEVICE_RESET, .flags = 0x40 },
	{ "reset before version", .before_version = true, .command = VFU_DEVICE_RESET },
	{ "map before version", .before_version = true, .command = VFU_DMA_MAP, .len = 32, .num_fds = 1 },
	{ "read before version", .before_version = true, .command = VFU_REGION_READ, .len = 16 },
	{ "unknown command before version", .before_version = true, .command = 99 },
	{ "version without numbers", .before_version = true, .command = VFU_VERSION, .len = 2 },
	{ "version 1.0", .before_version = true, .command = VFU_VERSION, .len = 4, .payload = { 1 } },
	{ "version text without end", .before_version = true, .command = VFU_VERSION, .len = 8,
	  .payload = { 0, 0, 0, 0, '{', '}', ' ', ' ' } },
	{ "version text too long", .before_version = true, .command = VFU_VERSION, .len = 4, .size_delta = 4097 },
	{ "version without reply", .before_version = true, .command = VFU_VERSION, .len = 4,
	  .flags = VFU_F_NO_REPLY },
	{ "version with descriptor", .before_version = true, .command = VFU_VERSION, .len = 4, .num_fds = 1 },
	{ "version twice", .command = VFU_VERSION, .len = 4 },
	{ "map too short", .command = VFU_DMA_MAP, .len = 31, .num_fds = 1 },
	{ "map too long", .command = VFU_DMA_MAP, .len = 33, .num_fds = 1 },
	{ "map with two descriptors", .command = VFU_DMA_MAP, .len = 32, .num_fds = 2 },
	{ "map with 17 descriptors", .command = VFU_DMA_MAP, .len = 32, .num_fds = 17 },
	{ "unmap too short", .command = VFU_DMA_UNMAP, .len = 23 },
	{ "unmap too long", .command = VFU_DMA_UNMAP, .len = 40 },
	{ "unmap with descriptor", .command = VFU_DMA_UNMAP, .len = 24, .num_fds = 1 },
	{ "info too short", .command = VFU_DEVICE_GET_INFO, .len = 12 },
	{ "info with descriptors", .command = VFU_DEVICE_GET_INFO, .len = 16, .num_fds = 16 },
	{ "region info too short", .command = VFU_DEVICE_GET_REGION_INFO, .len = 16 },
	{ "region info too long", .command = VFU_DEVICE_GET_REGION_INFO, .len = 48 },
	{ "irq info too short", .command = VFU_DEVICE_GET_IRQ_INFO, .len = 8 },
	{ "irq set too short", .command = VFU_DEVICE_SET_IRQS, .len = 16 },
	{ "irq set too long", .command = VFU_DEVICE_SET_IRQS, .size_delta = 20 + 2049 },
	{ "irq booleans missing", .command = VFU_DEVICE_SET_IRQS, .len = 20,
	  .payload = IRQ_PAYLOAD(TRIGGER_BOOL, 2) },
	{ "irq booleans too many", .command = VFU_DEVICE_SET_IRQS, .len = 23,
	  .payload = IRQ_PAYLOAD(TRIGGER_BOOL, 2) },
	{ "irq data where none is due", .command = VFU_DEVICE_SET_IRQS, .len = 24,
	  .payload = IRQ_PAYLOAD(TRIGGER_NONE, 1) },
	{ "irq descriptors where none are due", .command = VFU_DEVICE_SET_IRQS, .len = 20, .num_fds = 1,
	  .payload = IRQ_PAYLOAD(TRIGGER_NONE, 1) },
	{ "irq descriptors too few", .command = VFU_DEVICE_SET_IRQS, .len = 20, .num_fds = 1,
	  .payload = IRQ_PAYLOAD(TRIGGER_FD, 2) },
	{ "irq descriptors too many", .command = VFU_DEVICE_SET_IRQS, .len = 20, .num_fds = 3,
	  .payload = IRQ_PAYLOAD(TRIGGER_FD, 2) },
	{ "irq descriptors beyond the limit", .command = VFU_DEVICE_SET_IRQS, .len = 20, .num_fds = 18,
	  .payload = IRQ_PAYLOAD(TRIGGER_FD, 18) },
	{ "read too short", .command = VFU_REGION_READ, .len = 12 },
	{ "read with data", .command = VFU_REGION_READ, .len = 20 },
	{ "write too short", .command = VFU_REGION_WRITE, .len = 15 },
	{ "write with less than it says", .command = VFU_REGION_WRITE, .len = 18,
	  .payload = { [12] = 4 } },
	{ "write with more than it says", .command = VFU_REGION_WRITE, .len = 24,
	  .payload = { [12] = 4 } },
	{ "write with descriptor", .command = VFU_REGION_WRITE, .len = 20, .num_fds = 1,
	  .payload = { [12] = 4 } },
	{ "reset with payload", .command = VFU_DEVICE_RESET, .len = 1 },
	{ "unknown command with descriptor", .command = 99, .len = 4, .num_fds = 1 },
};

static void malformed_messages(void **state)
{
	const struct malformed *bad;
	struct fixture t;
	struct message m;
	unsigned int i, k;
	int fd[MAX_TEST_FDS];

	for (k = 0; k < MAX_TEST_FDS; k++)
		fd[k] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	for (i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
		bad = &malformed[i];
		if (bad->before_version)
			start_raw(&t);
		else
			start(&t);
		make_message(&m, bad->command, bad->payload, bad->len);
		m.hdr.size += (uint32_t)bad->size_delta;
		m.hdr.flags = bad->flags;
		memcpy(m.fds, fd, sizeof(fd));
		m.num_fds = bad->num_fds;
		send_message(t.client, &m);
		if (vfu_process(t.srv) != -ENOTCONN)
			fail_msg("not refused: %s", bad->what);
		expect_closed(&t);
		assert_int_equal(t.reads + t.writes, 0);
		assert_int_equal(t.resets[VFU_RESET_DEVICE], 0);
		assert_int_equal(t.connects, !bad->before_version);
		assert_int_equal(t.disconnects, t.connects);
		finish(&t);
	}
	for (k = 0; k < MAX_TEST_FDS; k++)
		close(fd[k]);
}

/* ---- connection ---- */

static void client_leaves_in_the_middle(void **state)
{
	struct vfu_dma_map_req req = { .argsz = sizeof(req), .flags = 3, .size = PAGE };
	struct vfu_stats stats;
	struct fixture t;
	struct message m;
	uint8_t buf[48];
	unsigned int n;
	int fd = new_memfd(PAGE);

	for (n = 0; n < sizeof(buf); n++) {
		start(&t);
		make_message(&m, VFU_DMA_MAP, &req, sizeof(req));
		memcpy(buf, &m.hdr, 16);
		memcpy(buf + 16, &req, 32);
		if (n)
			send_bytes(t.client, buf, n, &fd, 1);
		if (n % 2)
			assert_int_equal(vfu_process(t.srv), 0);
		close(t.client);
		t.client = -1;
		assert_int_equal(vfu_process(t.srv), -ENOTCONN);
		assert_int_equal(t.disconnects, 1);
		vfu_get_stats(t.srv, &stats);
		assert_int_equal(stats.protocol_errors, 0);
		finish(&t);
	}
	close(fd);
}

static void disconnect_cleans_up(void **state)
{
	struct fixture *t = *state;
	int mem = new_memfd(PAGE), fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct dma_map_stats stats;

	assert_int_equal(dma_map(t, 0, PAGE, 3, mem, 0), 0);
	assert_int_equal(dma_map(t, PAGE, PAGE, 3, -1, 0), 0);
	assert_int_equal(set_irqs(t, TRIGGER_FD, MSIX, 0, 1, &fd, 1), 0);
	config_write(t, PCI_COMMAND, PCI_COMMAND_MASTER, 2);
	shutdown(t->client, SHUT_WR);
	assert_int_equal(vfu_process(t->srv), -ENOTCONN);
	assert_int_equal(t->disconnects, 1);
	assert_int_equal(t->maps_at_disconnect, 2);
	assert_int_equal(t->bus_master, 0);
	dma_map_get_stats(t->dma, &stats);
	assert_int_equal(stats.maps, 0);
	assert_int_equal(stats.files, 0);
	assert_int_equal(vfu_irq_trigger(t->srv, 0), -ENOTCONN);
	assert_int_equal(vfu_run(t->srv), 0);
	close(mem);
	close(fd);
}

static void thrown_out_by_device(void **state)
{
	struct vfu_region_rw req = { .count = 4 };
	struct fixture t;
	struct message m;
	char c;
	int i;

	for (i = 0; i < 3; i++) {
		start_raw(&t);
		t.disconnect_in = i == 0 ? 'c' : i == 1 ? 'r' : 0;
		make_version(&m);
		send_message(t.client, &m);
		make_message(&m, VFU_REGION_READ, &req, sizeof(req));
		send_message(t.client, &m);
		if (i == 2) {
			assert_int_equal(vfu_process(t.srv), 0);
			vfu_disconnect(t.srv);
			vfu_disconnect(t.srv);
		}
		assert_int_equal(vfu_process(t.srv), -ENOTCONN);
		assert_int_equal(t.connects, 1);
		assert_int_equal(t.disconnects, 1);
		assert_int_equal(t.reads, i != 0);
		if (i)
			assert_true(receive_message(t.client, &m));	/* the version */
		if (i == 2)
			assert_true(receive_message(t.client, &m));	/* and the read */
		assert_true(recv(t.client, &c, 1, MSG_DONTWAIT) == 0 || errno == ECONNRESET);
		finish(&t);
	}
}

/* A client that does not take its replies must not hold the message thread for good. */
static void client_does_not_read(void **state)
{
	struct vfu_region_rw req = { .region = VFU_BAR2, .count = BAR2_SIZE };
	struct fixture *t = *state;
	struct message m;
	int i, ret = 0;

	make_message(&m, VFU_REGION_READ, &req, sizeof(req));
	for (i = 0; i < 16 && !ret; i++) {
		send_message(t->client, &m);
		ret = vfu_process(t->srv);
	}
	assert_int_equal(ret, -ENOTCONN);
	assert_int_equal(t->disconnects, 1);
}

static int connect_to(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static void listening(void **state)
{
	char dir[] = "/tmp/vfio_user_test.XXXXXX", path[64], longer[256];
	struct fixture t = { 0 }, other = { 0 };
	struct message m;
	int first, second, mem;
	struct stat st;
	pthread_t thread;
	uint32_t v = 0;
	void *ret;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/sock", dir);
	t.fds_before = count_fds();
	describe(&t);
	t.client = -1;
	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = 0;
	assert_int_equal(vfu_listen(t.srv, longer), -ENAMETOOLONG);
	assert_int_equal(vfu_listen(t.srv, "/nonexistent/directory/sock"), -ENOENT);
	/* a file that is no socket stays */
	mem = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	close(mem);
	assert_int_equal(vfu_listen(t.srv, path), -EADDRINUSE);
	assert_int_equal(stat(path, &st), 0);
	unlink(path);
	assert_int_equal(vfu_listen(t.srv, path), 0);
	assert_int_equal(vfu_listen(t.srv, path), -EBUSY);
	assert_int_equal(vfu_process(t.srv), 0);

	/* somebody is there already */
	other.fds_before = count_fds();
	describe(&other);
	other.client = -1;
	assert_int_equal(vfu_listen(other.srv, path), -EADDRINUSE);
	finish(&other);

	/* two clients: the second is served when the first has gone, and finds a new device */
	assert_int_equal(pthread_create(&thread, NULL, run_server, t.srv), 0);
	first = connect_to(path);
	second = connect_to(path);
	mem = new_memfd(PAGE);
	make_version(&m);
	send_message(second, &m);
	send_message(first, &m);
	assert_true(receive_message(first, &m));
	v = 0xfe000000;
	make_write(&m, 7, PCI_BASE_ADDRESS_0, &v, 4);
	send_message(first, &m);
	assert_true(receive_message(first, &m));
	{
		struct vfu_dma_map_req req = { .argsz = sizeof(req), .flags = 3, .size = PAGE };

		make_message(&m, VFU_DMA_MAP, &req, sizeof(req));
		m.fds[0] = mem;
		m.num_fds = 1;
		send_message(first, &m);
		assert_true(receive_message(first, &m));
		assert_int_equal(m.hdr.flags, VFU_F_TYPE_REPLY);
	}
	assert_int_equal(dma_map_read(t.dma, NULL, 0, &v, 4), 0);
	expect_quiet(second);
	close(first);
	assert_true(receive_message(second, &m));
	assert_int_equal(m.hdr.command, VFU_VERSION);
	assert_int_equal(dma_map_read(t.dma, NULL, 0, &v, 4), -EFAULT);
	{
		struct vfu_region_rw req = {
			.offset = PCI_BASE_ADDRESS_0, .region = 7, .count = 4,
		};

		make_message(&m, VFU_REGION_READ, &req, sizeof(req));
		send_message(second, &m);
		assert_true(receive_message(second, &m));
		memcpy(&v, m.payload + 16, 4);
		assert_int_equal(v, 0);
	}
	/* a malformed message ends the second one, a third is welcome */
	make_message(&m, VFU_DEVICE_RESET, "x", 1);
	send_message(second, &m);
	assert_false(receive_message(second, &m));
	close(second);
	first = connect_to(path);
	make_version(&m);
	send_message(first, &m);
	assert_true(receive_message(first, &m));
	vfu_stop(t.srv);
	pthread_join(thread, &ret);
	assert_null(ret);
	assert_int_equal(t.connects, 3);
	assert_int_equal(t.disconnects, 2);
	assert_int_equal(t.resets[VFU_RESET_CONNECT], 3);
	close(first);
	close(mem);
	finish(&t);
	assert_int_equal(stat(path, &st), -1);

	/* a socket left by a dead process is replaced */
	t = (struct fixture){ .client = -1, .fds_before = count_fds() };
	describe(&t);
	{
		struct sockaddr_un addr = { .sun_family = AF_UNIX };

		strcpy(addr.sun_path, path);
		first = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(bind(first, (struct sockaddr *)&addr, sizeof(addr)), 0);
		close(first);
	}
	assert_int_equal(vfu_listen(t.srv, path), 0);
	finish(&t);
	assert_int_equal(rmdir(dir), 0);
}

/* ---- noise ---- */

struct rng {
	uint64_t s;
};

static uint32_t rnd(struct rng *r, uint32_t below)
{
	r->s ^= r->s << 13;
	r->s ^= r->s >> 7;
	r->s ^= r->s << 17;
	return (uint32_t)(r->s >> 33) % below;
}

/* Reads away whatever the server said, descriptors included. */
static void swallow(int sock)
{
	char buf[65536], control[CMSG_SPACE(16 * sizeof(int))];
	struct iovec iov = { buf, sizeof(buf) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;
	size_t i;
	int fd;

	do {
		msg.msg_control = control;
		msg.msg_controllen = sizeof(control);
		if (recvmsg(sock, &msg, MSG_DONTWAIT) <= 0)
			return;
		for (c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
			for (i = 0; CMSG_LEN((i + 1) * sizeof(int)) <= c->cmsg_len; i++) {
				memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
				close(fd);
			}
		}
	} while (1);
}

static void random_bytes(void **state)
{
	struct rng rng = { 42 };
	struct fixture t;
	uint8_t buf[512];
	unsigned int i, k, len;

	for (i = 0; i < 1000; i++) {
		if (i % 2)
			start(&t);
		else
			start_raw(&t);
		for (k = 0; k < 20; k++) {
			len = 1 + rnd(&rng, sizeof(buf));
			for (unsigned int j = 0; j < len; j++)
				buf[j] = (uint8_t)rnd(&rng, rnd(&rng, 2) ? 256 : 20);
			send_bytes(t.client, buf, len, NULL, 0);
			if (vfu_process(t.srv))
				break;
			swallow(t.client);
		}
		finish(&t);
	}
}

/* Values that are likely to matter, more often than others. */
static uint64_t nasty(struct rng *r)
{
	static const uint64_t v[] = {
		0, 1, 2, 3, 4, 7, 8, 16, 20, 32, 4095, 4096, 4097, 0x10000, 1 << 20, (1 << 20) + 1,
		0x7fffffff, 0x80000000, 0xfffff000, 0xffffffff, 0x100000000, UINT64_C(1) << 63,
		UINT64_MAX - 4095, UINT64_MAX,
	};

	return rnd(r, 4) ? v[rnd(r, sizeof(v) / sizeof(v[0]))] : rnd(r, 1 << 16) * PAGE;
}

/* Messages of the right shape with wrong contents, and sometimes a wrong shape. */
static void random_messages(void **state)
{
	static const uint32_t size_of[] = {
		[VFU_DMA_MAP] = 32, [VFU_DMA_UNMAP] = 24, [VFU_DEVICE_GET_INFO] = 16,
		[VFU_DEVICE_GET_REGION_INFO] = 32, [VFU_DEVICE_GET_IRQ_INFO] = 16,
		[VFU_DEVICE_SET_IRQS] = 20, [VFU_REGION_READ] = 16, [VFU_REGION_WRITE] = 24,
		[VFU_DEVICE_RESET] = 0, [18] = 8,
	};
	int fd[4] = { new_memfd(16 * PAGE), eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), -1, -1 };
	struct rng rng = { 4711 };
	struct dma_map_stats stats;
	uint64_t survived = 0;
	struct fixture t;
	struct message m;
	uint32_t word[16];
	unsigned int i, k;
	uint64_t v;
	int ret = -1;

	fd[2] = dup(fd[1]);
	fd[3] = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (i = 0; i < 30000; i++) {
		if (ret) {
			if (i)
				finish(&t);
			start(&t);
		}
		for (k = 0; k < 16; k++) {
			v = nasty(&rng);
			word[k] = (uint32_t)(rnd(&rng, 8) ? v : v >> 32);
		}
		make_message(&m, (uint16_t)(2 + rnd(&rng, 17)), word, 0);
		m.len = m.hdr.command < 19 ? size_of[m.hdr.command] : 0;
		memcpy(m.payload, word, m.len);
		/* mostly plausible */
		if (rnd(&rng, 8))
			m.payload[0] = 0xff;
		if (m.hdr.command == VFU_DMA_MAP && rnd(&rng, 8))
			memcpy(m.payload + 4, &(uint32_t){ 1 + rnd(&rng, 3) }, 4);
		if (m.hdr.command == VFU_DMA_UNMAP && rnd(&rng, 8))
			memcpy(m.payload + 4, &(uint32_t){ 0 }, 4);
		if (m.hdr.command == VFU_DEVICE_SET_IRQS && rnd(&rng, 8))
			memcpy(m.payload + 4, &(uint32_t){ 1u << rnd(&rng, 3) | 8u << rnd(&rng, 3) }, 4);
		if (m.hdr.command == VFU_REGION_WRITE || m.hdr.command == VFU_REGION_READ) {
			memcpy(m.payload + 8, &(uint32_t){ rnd(&rng, 9) }, 4);
			memcpy(m.payload + 12, &(uint32_t){ 8 }, 4);
			if (rnd(&rng, 2))
				memcpy(m.payload, &(uint64_t){ rnd(&rng, 0x400) }, 8);
		}
		if (!rnd(&rng, 64))
			m.len = rnd(&rng, 64);
		m.hdr.size = (uint32_t)(sizeof(m.hdr) + m.len);
		if (!rnd(&rng, 128))
			m.hdr.size += rnd(&rng, 9) - 4;
		if (!rnd(&rng, 16))
			m.hdr.flags = rnd(&rng, 64) ? VFU_F_NO_REPLY : rnd(&rng, 256);
		if (m.hdr.command == VFU_DMA_MAP || m.hdr.command == VFU_DEVICE_SET_IRQS ||
		    !rnd(&rng, 64))
			m.num_fds = rnd(&rng, rnd(&rng, 8) ? 2 : 5);
		for (k = 0; k < m.num_fds; k++)
			m.fds[k] = fd[m.hdr.command == VFU_DMA_MAP && rnd(&rng, 4) ? 0 : rnd(&rng, 4)];
		send_message(t.client, &m);
		ret = vfu_process(t.srv);
		swallow(t.client);
		survived += !ret;
		/* the engine's side at the same addresses */
		dma_map_read(t.dma, NULL, nasty(&rng), word, 32);
		vfu_irq_trigger(t.srv, rnd(&rng, 48));
	}
	dma_map_get_stats(t.dma, &stats);
	finish(&t);
	/* it was not all refused at the door */
	assert_true(survived > i / 2);
	for (k = 0; k < 4; k++)
		close(fd[k]);
}

#define T(name)		cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(refused_commands),
		T(byte_by_byte),
		T(pipelined),
		cmocka_unit_test(malformed_messages),
		cmocka_unit_test(client_leaves_in_the_middle),
		T(disconnect_cleans_up),
		cmocka_unit_test(thrown_out_by_device),
		T(client_does_not_read),
		cmocka_unit_test(listening),
		cmocka_unit_test(random_bytes),
		cmocka_unit_test(random_messages),
	};

	return cmocka_run_group_tests_name("vfio_user_conn", tests, NULL, NULL);
}
