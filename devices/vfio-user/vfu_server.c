// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The server's life, its sockets, and whole messages in and out of them.
 *
 * Nothing is believed before it is complete: a header is checked when its 16
 * bytes are there, and the handler sees a message when all of it is, with its
 * descriptors. A malformed one ends the connection.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "vfu_priv.h"

/* A client that does not take its replies for this long is thrown out. */
#define SEND_TIMEOUT_MS		4000
/* Messages of one vfu_process() call, so that vfu_stop() is seen under load. */
#define BATCH			64
/* Payloads up to this size are the rule; a larger buffer is given back. */
#define SMALL_PAYLOAD		((size_t)8192)

void vfu_log(struct vfu_server *srv, enum vfu_log_level level, const char *fmt, ...)
{
	char line[256];
	va_list ap;

	if (!srv->ops.log)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	srv->ops.log(srv->ctx, level, line);
}

/* ---- life ---- */

struct vfu_server *vfu_create(const struct vfu_ops *ops, void *ctx)
{
	struct epoll_event ev = { .events = EPOLLIN };
	struct vfu_server *srv;
	unsigned int i;
	int ret;

	srv = calloc(1, sizeof(*srv));
	if (!srv)
		return NULL;
	if (ops)
		srv->ops = *ops;
	srv->ctx = ctx;
	srv->listen_fd = -1;
	srv->conn_fd = -1;
	for (i = 0; i < VFU_NUM_BARS; i++)
		srv->bars[i].fd = -1;
	vfu_pci_init(srv);

	ret = vfu_irq_init(srv);
	if (ret)
		goto err_free;
	ret = -ENOMEM;
	srv->dma = dma_map_create();
	if (!srv->dma)
		goto err_irq;
	srv->reply = malloc(VFU_MAX_PAYLOAD);
	if (!srv->reply)
		goto err_dma;
	srv->rx.payload = malloc(SMALL_PAYLOAD);
	if (!srv->rx.payload)
		goto err_reply;
	srv->rx.payload_size = SMALL_PAYLOAD;

	srv->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (srv->stop_fd < 0) {
		ret = -errno;
		goto err_payload;
	}
	srv->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (srv->epoll_fd < 0) {
		ret = -errno;
		goto err_stop;
	}
	ev.data.fd = srv->stop_fd;
	if (epoll_ctl(srv->epoll_fd, EPOLL_CTL_ADD, srv->stop_fd, &ev)) {
		ret = -errno;
		goto err_epoll;
	}
	return srv;

err_epoll:
	close(srv->epoll_fd);
err_stop:
	close(srv->stop_fd);
err_payload:
	free(srv->rx.payload);
err_reply:
	free(srv->reply);
err_dma:
	dma_map_destroy(srv->dma);
err_irq:
	vfu_irq_free(srv);
err_free:
	free(srv);
	errno = -ret;
	return NULL;
}

/* Removes our socket file, but not one that somebody else put in its place. */
static void remove_path(struct vfu_server *srv)
{
	struct stat st;

	if (!lstat(srv->path, &st) && st.st_dev == srv->path_dev && st.st_ino == srv->path_ino)
		unlink(srv->path);
	free(srv->path);
	srv->path = NULL;
}

static void drop_connection(struct vfu_server *srv);

void vfu_destroy(struct vfu_server *srv)
{
	if (!srv)
		return;
	drop_connection(srv);
	if (srv->listen_fd != -1) {
		close(srv->listen_fd);
		remove_path(srv);
	}
	close(srv->epoll_fd);
	close(srv->stop_fd);
	free(srv->rx.payload);
	free(srv->reply);
	vfu_region_free(srv);
	dma_map_destroy(srv->dma);
	vfu_irq_free(srv);
	free(srv);
}

struct dma_map *vfu_dma_map(struct vfu_server *srv)
{
	return srv->dma;
}

static uint64_t counter(const atomic_uint_fast64_t *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}

void vfu_get_stats(const struct vfu_server *srv, struct vfu_stats *stats)
{
	*stats = (struct vfu_stats){
		.connections = counter(&srv->count.connections),
		.messages = counter(&srv->count.messages),
		.refused = counter(&srv->count.refused),
		.protocol_errors = counter(&srv->count.protocol_errors),
		.resets = counter(&srv->count.resets),
		.irqs = counter(&srv->count.irqs),
		.irqs_dropped = counter(&srv->count.irqs_dropped),
	};
}

void vfu_do_reset(struct vfu_server *srv, enum vfu_reset why)
{
	static const char *const name[] = {
		[VFU_RESET_CONNECT] = "power on",
		[VFU_RESET_DEVICE] = "device reset",
		[VFU_RESET_FLR] = "function level reset",
	};

	vfu_log(srv, VFU_LOG_INFO, "%s", name[why]);
	if (why != VFU_RESET_CONNECT)
		vfu_inc(&srv->count.resets);
	vfu_pci_reset(srv);
	if (srv->ops.reset)
		srv->ops.reset(srv->ctx, why);
}

/* ---- connection ---- */

static int watch(struct vfu_server *srv, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.fd = fd };

	return epoll_ctl(srv->epoll_fd, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

static void close_rx_fds(struct vfu_rx *rx)
{
	unsigned int i;

	for (i = 0; i < rx->num_fds; i++)
		if (rx->fds[i] != -1)
			close(rx->fds[i]);
	rx->num_fds = 0;
}

static void drop_connection(struct vfu_server *srv)
{
	int fd = srv->conn_fd;

	if (fd == -1)
		return;

	/* first of all the guest must stop waiting for replies */
	srv->conn_fd = -1;
	epoll_ctl(srv->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	close(fd);

	close_rx_fds(&srv->rx);
	srv->rx.got = 0;
	srv->doomed = false;
	if (srv->versioned) {
		srv->versioned = false;
		vfu_log(srv, VFU_LOG_INFO, "client disconnected");
		vfu_pci_reset(srv);
		if (srv->ops.disconnect)
			srv->ops.disconnect(srv->ctx);
	}
	vfu_irq_disable_all(srv);
	dma_map_clear(srv->dma);

	if (srv->listen_fd != -1)
		watch(srv, srv->listen_fd);
}

static int take_connection(struct vfu_server *srv, int fd)
{
	int ret = watch(srv, fd);

	if (ret)
		return ret;
	/* the next client waits in the backlog until this one is gone */
	if (srv->listen_fd != -1)
		epoll_ctl(srv->epoll_fd, EPOLL_CTL_DEL, srv->listen_fd, NULL);
	srv->conn_fd = fd;
	vfu_inc(&srv->count.connections);
	return 0;
}

void vfu_disconnect(struct vfu_server *srv)
{
	if (srv->busy)
		srv->doomed = true;
	else
		drop_connection(srv);
}

/* The socket file @path exists: does nobody listen on it any more? */
static bool is_stale(const struct sockaddr_un *addr)
{
	struct stat st;
	bool stale;
	int fd;

	if (lstat(addr->sun_path, &st) || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	stale = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) &&
		errno == ECONNREFUSED;
	close(fd);
	return stale;
}

int vfu_listen(struct vfu_server *srv, const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct stat st;
	int fd, ret;

	if (srv->frozen)
		return -EBUSY;
	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	ret = vfu_region_validate(srv);
	if (ret)
		return ret;

	strcpy(addr.sun_path, path);
	srv->path = strdup(path);
	if (!srv->path)
		return -ENOMEM;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		ret = -errno;
		goto err_path;
	}
	ret = bind(fd, (struct sockaddr *)&addr, sizeof(addr)) ? -errno : 0;
	if (ret == -EADDRINUSE && is_stale(&addr)) {
		unlink(path);
		ret = bind(fd, (struct sockaddr *)&addr, sizeof(addr)) ? -errno : 0;
	}
	if (ret)
		goto err_close;
	if (lstat(path, &st) || listen(fd, 8)) {
		ret = -errno;
		goto err_unlink;
	}
	ret = watch(srv, fd);
	if (ret)
		goto err_unlink;

	srv->path_dev = st.st_dev;
	srv->path_ino = st.st_ino;
	srv->listen_fd = fd;
	srv->frozen = true;
	return 0;

err_unlink:
	unlink(path);
err_close:
	close(fd);
err_path:
	free(srv->path);
	srv->path = NULL;
	return ret;
}

int vfu_adopt(struct vfu_server *srv, int fd)
{
	int ret;

	if (srv->frozen)
		return -EBUSY;
	ret = vfu_region_validate(srv);
	if (!ret)
		ret = take_connection(srv, fd);
	if (ret)
		return ret;
	srv->adopted = true;
	srv->frozen = true;
	return 0;
}

static int accept_client(struct vfu_server *srv)
{
	int fd, ret;

	fd = accept4(srv->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0) {
		if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
			return 0;
		return -errno;
	}
	ret = take_connection(srv, fd);
	if (ret)
		close(fd);
	return ret;
}

/* ---- messages in ---- */

static void take_fds(struct vfu_rx *rx, struct msghdr *msg, bool *too_many)
{
	struct cmsghdr *c;
	size_t count, i;
	int fd;

	for (c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < count; i++) {
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (rx->num_fds < VFU_MAX_FDS) {
				rx->fds[rx->num_fds++] = fd;
			} else {
				close(fd);
				*too_many = true;
			}
		}
	}
}

/*
 * Receives at most @len bytes and any descriptors that come with them. Returns
 * the number of bytes, 0 when the client has closed, -EAGAIN, -EPROTO for more
 * descriptors than any message has, or another error.
 */
static ssize_t receive(struct vfu_server *srv, void *buf, size_t len)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(VFU_MAX_FDS * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	bool too_many;
	ssize_t n;

	do {
		n = recvmsg(srv->conn_fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;

	/* what did not fit into @control the kernel has closed already */
	too_many = msg.msg_flags & MSG_CTRUNC;
	take_fds(&srv->rx, &msg, &too_many);
	return too_many ? -EPROTO : n;
}

static bool header_ok(const struct vfu_header *hdr)
{
	const struct vfu_limits *lim = vfu_msg_limits(hdr->command);

	/* we send no commands, so there are no replies to get */
	return (hdr->flags & ~VFU_F_NO_REPLY) == VFU_F_TYPE_COMMAND &&
	       hdr->size >= sizeof(*hdr) + lim->min_size &&
	       hdr->size <= sizeof(*hdr) + lim->max_size;
}

static int make_room(struct vfu_rx *rx, size_t size)
{
	uint8_t *p;

	if (size <= rx->payload_size)
		return 0;
	p = realloc(rx->payload, size);
	if (!p)
		return -ENOMEM;
	rx->payload = p;
	rx->payload_size = size;
	return 0;
}

/* The counterpart of make_room(), once the message is dealt with. */
static void give_room_back(struct vfu_rx *rx)
{
	uint8_t *p;

	if (rx->payload_size <= SMALL_PAYLOAD)
		return;
	p = realloc(rx->payload, SMALL_PAYLOAD);
	if (!p)
		return;
	rx->payload = p;
	rx->payload_size = SMALL_PAYLOAD;
}

/*
 * Receives until a message is complete. Returns 1 then; 0 when the client has
 * closed; -EAGAIN when it has sent no more for now; -EPROTO; other errors.
 */
static int receive_message(struct vfu_server *srv)
{
	struct vfu_rx *rx = &srv->rx;
	const size_t hdr_size = sizeof(rx->hdr);
	ssize_t n;
	int ret;

	while (rx->got < hdr_size) {
		n = receive(srv, (uint8_t *)&rx->hdr + rx->got, hdr_size - rx->got);
		if (n <= 0)
			return (int)n;
		rx->got += (size_t)n;
		if (rx->got < hdr_size)
			continue;
		if (!header_ok(&rx->hdr))
			return -EPROTO;
		ret = make_room(rx, rx->hdr.size - hdr_size);
		if (ret)
			return ret;
	}
	while (rx->got < rx->hdr.size) {
		n = receive(srv, rx->payload + (rx->got - hdr_size), rx->hdr.size - rx->got);
		if (n <= 0)
			return (int)n;
		rx->got += (size_t)n;
	}
	return rx->num_fds <= vfu_msg_limits(rx->hdr.command)->max_fds ? 1 : -EPROTO;
}

/* ---- messages out ---- */

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int wait_writable(int fd, int64_t deadline)
{
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };
	int64_t left = deadline - now_ms();
	int n;

	if (left <= 0)
		return -ETIMEDOUT;
	n = poll(&pfd, 1, (int)left);
	if (n < 0 && errno != EINTR)
		return -errno;
	return 0;
}

/* Sends header and @size bytes of srv->reply, and @pass_fd unless it is -1. */
static int send_reply(struct vfu_server *srv, const struct vfu_header *hdr, size_t size,
		      int pass_fd)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov[2] = {
		{ .iov_base = (void *)hdr, .iov_len = sizeof(*hdr) },
		{ .iov_base = srv->reply, .iov_len = size },
	};
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	int64_t deadline = 0;
	struct cmsghdr *c;
	size_t sent, skip;
	ssize_t n;
	int ret;

	if (pass_fd != -1) {
		msg.msg_control = control.buf;
		msg.msg_controllen = sizeof(control.buf);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &pass_fd, sizeof(int));
	}

	for (sent = 0; sent < sizeof(*hdr) + size; sent += (size_t)n) {
		n = sendmsg(srv->conn_fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN) {
			if (!deadline)
				deadline = now_ms() + SEND_TIMEOUT_MS;
			ret = wait_writable(srv->conn_fd, deadline);
			if (ret)
				return ret;
			n = 0;
			continue;
		}
		if (n < 0 && errno == EINTR) {
			n = 0;
			continue;
		}
		if (n < 0)
			return -errno;

		/* descriptors went with the first byte */
		msg.msg_control = NULL;
		msg.msg_controllen = 0;
		skip = (size_t)n < iov[0].iov_len ? (size_t)n : iov[0].iov_len;
		iov[0].iov_base = (uint8_t *)iov[0].iov_base + skip;
		iov[0].iov_len -= skip;
		skip = (size_t)n - skip;
		iov[1].iov_base = (uint8_t *)iov[1].iov_base + skip;
		iov[1].iov_len -= skip;
	}
	return 0;
}

/* Handles the complete message in srv->rx. Returns an error to end the connection. */
static int handle_message(struct vfu_server *srv)
{
	struct vfu_header reply = {
		.id = srv->rx.hdr.id,
		.command = srv->rx.hdr.command,
		.flags = VFU_F_TYPE_REPLY,
	};
	struct vfu_answer answer;
	int ret;

	vfu_inc(&srv->count.messages);
	srv->busy = true;
	ret = vfu_msg_handle(srv, &answer);
	srv->busy = false;

	if (ret < 0)
		return ret;
	if (srv->doomed)
		return -ECONNABORTED;
	if (ret > 0) {
		vfu_inc(&srv->count.refused);
		reply.flags |= VFU_F_ERROR;
		reply.error = (uint32_t)ret;
		answer.size = 0;
		answer.fd = -1;
	}
	if (srv->rx.hdr.flags & VFU_F_NO_REPLY)
		return 0;
	reply.size = (uint32_t)(sizeof(reply) + answer.size);
	return send_reply(srv, &reply, answer.size, answer.fd);
}

static int one_message(struct vfu_server *srv)
{
	struct vfu_rx *rx = &srv->rx;
	int ret;

	ret = receive_message(srv);
	if (ret == 0)
		return rx->got ? -EPIPE : -ENOTCONN;
	if (ret < 0)
		return ret;

	ret = handle_message(srv);
	close_rx_fds(rx);
	give_room_back(rx);
	rx->got = 0;
	return ret;
}

static void serve_client(struct vfu_server *srv)
{
	unsigned int i;
	int ret;

	for (i = 0; i < BATCH; i++) {
		ret = one_message(srv);
		if (ret == -EAGAIN)
			return;
		if (!ret)
			continue;
		if (ret == -EPROTO) {
			vfu_inc(&srv->count.protocol_errors);
			vfu_log(srv, VFU_LOG_ERROR,
				"malformed message (command %u, size %u, flags 0x%x, %u fds): closing",
				srv->rx.hdr.command, srv->rx.hdr.size, srv->rx.hdr.flags,
				srv->rx.num_fds);
		} else if (ret != -ENOTCONN) {
			vfu_log(srv, VFU_LOG_ERROR, "connection lost: %s", strerror(-ret));
		}
		drop_connection(srv);
		return;
	}
}

/* ---- event loop ---- */

int vfu_fd(const struct vfu_server *srv)
{
	return srv->epoll_fd;
}

static int process(struct vfu_server *srv, int timeout_ms)
{
	struct epoll_event ev[3];
	uint64_t dummy;
	int i, n, ret;

	if (srv->adopted && srv->conn_fd == -1)
		return -ENOTCONN;

	n = epoll_wait(srv->epoll_fd, ev, 3, timeout_ms);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	for (i = 0; i < n; i++) {
		if (ev[i].data.fd == srv->stop_fd) {
			if (read(srv->stop_fd, &dummy, sizeof(dummy)) == sizeof(dummy))
				return -ECANCELED;
		} else if (ev[i].data.fd == srv->listen_fd) {
			ret = accept_client(srv);
			if (ret)
				return ret;
		} else if (ev[i].data.fd == srv->conn_fd) {
			serve_client(srv);
		}
	}
	return srv->adopted && srv->conn_fd == -1 ? -ENOTCONN : 0;
}

int vfu_process(struct vfu_server *srv)
{
	return process(srv, 0);
}

int vfu_run(struct vfu_server *srv)
{
	int ret;

	do {
		ret = process(srv, -1);
	} while (!ret);
	return ret == -ECANCELED || ret == -ENOTCONN ? 0 : ret;
}

void vfu_stop(struct vfu_server *srv)
{
	const uint64_t one = 1;
	int saved = errno;
	ssize_t n;

	n = write(srv->stop_fd, &one, sizeof(one));
	(void)n;	/* it can only fail when it is readable already */
	errno = saved;
}
