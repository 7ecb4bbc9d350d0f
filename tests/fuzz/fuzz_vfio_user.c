// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * libFuzzer: a client of the vfio-user server. The input is what it sends, in records:
 *
 *	u8 how		bits 0-1: 0 a message whose header is made here, 1 the same in two parts, 2 bytes as they
 *			are, 3 something the device does
 *			bits 2-4: descriptors sent along, 7: one more than there may be
 *			bits 5-7: the first of them; the others follow it
 *	u8 what		of a message: its command; with bit 7 it wants no reply
 *	u8 len		bytes that follow: payload, bytes, or what the device does
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bare_hca.h"
#include "input.h"
#include "vfu_proto.h"

#define PAGE		4096u
#define VECTORS		20u
#define MAX_FDS		(VFU_MAX_FDS + 1)

enum { FD_MEM, FD_MEM_READ_ONLY, FD_MEM_SHORT, FD_EVENT, FD_NULL, FD_SOCKET, FD_KINDS };

struct client {
	struct vfu_server *srv;
	int sock;
	int fds[FD_KINDS];
	int bar_fd;
	bool gone;
	uint8_t regs[4 * PAGE];
};

static int reg_read(void *ctx, uint64_t offset, void *buf, size_t len)
{
	struct client *c = ctx;

	CHECK(len && offset < sizeof(c->regs) && len <= sizeof(c->regs) - offset);
	memcpy(buf, c->regs + offset, len);
	return 0;
}

static int reg_write(void *ctx, uint64_t offset, const void *buf, size_t len)
{
	struct client *c = ctx;

	CHECK(len && offset < sizeof(c->regs) && len <= sizeof(c->regs) - offset);
	memcpy(c->regs + offset, buf, len);
	/* A device that throws its client out, in the middle of a message. */
	if (c->regs[0] == 0xdd)
		vfu_disconnect(c->srv);
	return 0;
}

static int new_memfd(unsigned int pages)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	CHECK(fd >= 0 && !ftruncate(fd, pages * PAGE));
	return fd;
}

static void describe(struct client *c)
{
	static const struct vfu_region_ops ops = { .read = reg_read, .write = reg_write };
	static const struct vfu_area areas[] = { { PAGE, PAGE }, { 3 * PAGE, 2 * PAGE } };

	c->srv = vfu_create(NULL, c);
	c->bar_fd = new_memfd(8);
	CHECK(c->srv && !vfu_pci_add_pm(c->srv) && !vfu_pci_add_pcie(c->srv) &&
	      !vfu_pci_add_msix(c->srv, VECTORS, VFU_BAR0, 2 * PAGE, VFU_BAR0, 3 * PAGE) &&
	      !vfu_region_set(c->srv, VFU_BAR0, 4 * PAGE, 0, &ops, c) &&
	      !vfu_region_set(c->srv, VFU_BAR2, 8 * PAGE, VFU_REGION_64BIT, NULL, NULL) &&
	      !vfu_region_set_mmap(c->srv, VFU_BAR2, c->bar_fd, 0, areas, 2));
}

static void open_client(struct client *c)
{
	char path[32];
	int sv[2];

	describe(c);
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv));
	CHECK(!vfu_adopt(c->srv, sv[0]));
	c->sock = sv[1];
	c->fds[FD_MEM] = new_memfd(16);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", c->fds[FD_MEM]);
	c->fds[FD_MEM_READ_ONLY] = open(path, O_RDONLY | O_CLOEXEC);
	c->fds[FD_MEM_SHORT] = new_memfd(1);
	c->fds[FD_EVENT] = eventfd(0, EFD_CLOEXEC);
	c->fds[FD_NULL] = open("/dev/null", O_RDWR | O_CLOEXEC);
	/* Not one of ours: who gives away his own end of the connection never leaves. */
	c->fds[FD_SOCKET] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static void close_client(struct client *c)
{
	unsigned int i;

	close(c->sock);
	for (i = 0; i < FD_KINDS; i++)
		close(c->fds[i]);
	/* The server sees the end, and has nothing left. */
	while (!vfu_process(c->srv))
		;
	vfu_destroy(c->srv);
	close(c->bar_fd);
}

/* What was passed on is closed again: descriptors of the server must not be lost here. */
static void swallow(struct client *c)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(MAX_FDS * sizeof(int))];
	static char buf[65536];
	struct iovec iov = { buf, sizeof(buf) };
	struct cmsghdr *m;
	size_t i;
	int fd;

	for (;;) {
		struct msghdr msg = {
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = control,
			.msg_controllen = sizeof(control),
		};

		if (recvmsg(c->sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0)
			return;
		m = CMSG_FIRSTHDR(&msg);
		for (i = 0; m && CMSG_LEN((i + 1) * sizeof(int)) <= m->cmsg_len; i++) {
			memcpy(&fd, CMSG_DATA(m) + i * sizeof(int), sizeof(fd));
			close(fd);
		}
	}
}

static void process(struct client *c)
{
	c->gone |= !!vfu_process(c->srv);
	swallow(c);
}

static void send_part(struct client *c, const void *buf, size_t len, uint8_t how)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(MAX_FDS * sizeof(int))] = { 0 };
	unsigned int i, num = how >> 2 & 7;
	struct iovec iov = { (void *)buf, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fds[MAX_FDS];
	struct cmsghdr *m;

	if (num == 7)
		num = MAX_FDS;
	for (i = 0; i < num; i++)
		fds[i] = c->fds[((how >> 5) + i) % FD_KINDS];
	if (num) {
		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE(num * sizeof(int));
		m = CMSG_FIRSTHDR(&msg);
		m->cmsg_level = SOL_SOCKET;
		m->cmsg_type = SCM_RIGHTS;
		m->cmsg_len = CMSG_LEN(num * sizeof(int));
		memcpy(CMSG_DATA(m), fds, num * sizeof(int));
	}
	c->gone |= sendmsg(c->sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0;
}

static void send_message(struct client *c, uint8_t how, uint8_t what, const uint8_t *payload,
			 size_t len)
{
	struct vfu_header hdr = {
		.id = what,
		.command = what & 0x7f,
		.size = sizeof(hdr) + len,
		.flags = what & 0x80 ? VFU_F_NO_REPLY : 0,
	};
	const size_t size = sizeof(hdr) + len;
	uint8_t buf[sizeof(hdr) + 255];
	size_t first = how & 1 ? (len + what) % size + 1 : size;

	memcpy(buf, &hdr, sizeof(hdr));
	memcpy(buf + sizeof(hdr), payload, len);
	send_part(c, buf, first, how);
	if (first == size)
		return;
	process(c);
	/* The descriptors were sent with the first part. */
	if (!c->gone)
		send_part(c, buf + first, size - first, 0);
}

/* The engine's side: it looks for memory, and raises interrupts. */
static void act(struct client *c, uint8_t what, const uint8_t *data, size_t len)
{
	struct dma_map *map = vfu_dma_map(c->srv);
	uint64_t iova = 0;
	uint8_t buf[255];

	memcpy(&iova, data, len < sizeof(iova) ? len : sizeof(iova));
	switch (what % 5) {
	case 0:
		dma_map_read(map, NULL, iova, buf, what);
		break;
	case 1:
		memcpy(buf, data, len);
		dma_map_write(map, NULL, iova, buf, len);
		break;
	case 2:
		vfu_irq_trigger(c->srv, what);
		break;
	case 3:
		vfu_disconnect(c->srv);
		break;
	case 4:
		c->gone |= !!shutdown(c->sock, SHUT_WR);
		break;
	}
}

static unsigned int open_fds(void)
{
	unsigned int n = 0;
	int fd;

	for (fd = 0; fd < 64; fd++)
		n += fcntl(fd, F_GETFD) != -1;
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned int before = open_fds();
	struct input in = { data, size };
	uint8_t record[3], bytes[255];
	struct client c = { 0 };
	size_t len;

	open_client(&c);
	while (!c.gone && input_take(&in, record, sizeof(record)) == sizeof(record)) {
		len = input_take(&in, bytes, record[2]);
		switch (record[0] & 3) {
		case 0:
		case 1:
			send_message(&c, record[0], record[1], bytes, len);
			break;
		case 2:
			if (len)
				send_part(&c, bytes, len, record[0]);
			break;
		case 3:
			act(&c, record[1], bytes, len);
			break;
		}
		process(&c);
	}
	close_client(&c);
	CHECK(open_fds() == before);
	return 0;
}
