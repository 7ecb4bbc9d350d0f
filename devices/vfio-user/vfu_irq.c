// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* MSI-X vectors: an eventfd each, set by the message thread, written by any. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vfu_priv.h"

int vfu_irq_init(struct vfu_server *srv)
{
	return -pthread_mutex_init(&srv->irq.lock, NULL);
}

int vfu_irq_alloc(struct vfu_server *srv, unsigned int vectors)
{
	unsigned int i;

	srv->irq.fd = malloc(vectors * sizeof(*srv->irq.fd));
	if (!srv->irq.fd)
		return -ENOMEM;
	for (i = 0; i < vectors; i++)
		srv->irq.fd[i] = -1;
	return 0;
}

void vfu_irq_free(struct vfu_server *srv)
{
	vfu_irq_disable_all(srv);
	free(srv->irq.fd);
	pthread_mutex_destroy(&srv->irq.lock);
}

static void set_fd(struct vfu_irq *irq, unsigned int vector, int fd)
{
	if (irq->fd[vector] != -1)
		close(irq->fd[vector]);
	irq->fd[vector] = fd;
}

void vfu_irq_disable_all(struct vfu_server *srv)
{
	unsigned int i;

	pthread_mutex_lock(&srv->irq.lock);
	for (i = 0; i < srv->msix.vectors; i++)
		set_fd(&srv->irq, i, -1);
	pthread_mutex_unlock(&srv->irq.lock);
}

/*
 * Something written to from any thread must not block: only an eventfd will do,
 * and only a non-blocking one. (Anonymous inodes have no file type; those that
 * are no eventfd refuse the write or take it without harm.)
 */
static int make_usable(int fd)
{
	struct stat st;
	int flags;

	if (fstat(fd, &st))
		return -errno;
	if (st.st_mode & S_IFMT)
		return -EINVAL;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0)
		return -errno;
	if (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK))
		return -errno;
	return 0;
}

/*
 * Gives vectors [@start, @start + @count) the descriptors @fds, or none if @fds is NULL. The
 * descriptors taken are replaced by -1 there. All or nothing.
 */
int vfu_irq_set_fds(struct vfu_server *srv, unsigned int start, unsigned int count,
		    int *fds)
{
	unsigned int i;
	int ret;

	for (i = 0; fds && i < count; i++) {
		ret = make_usable(fds[i]);
		if (ret)
			return ret;
	}

	pthread_mutex_lock(&srv->irq.lock);
	for (i = 0; i < count; i++) {
		set_fd(&srv->irq, start + i, fds ? fds[i] : -1);
		if (fds)
			fds[i] = -1;
	}
	pthread_mutex_unlock(&srv->irq.lock);
	return 0;
}

int vfu_irq_trigger(struct vfu_server *srv, unsigned int vector)
{
	const uint64_t one = 1;
	ssize_t n;
	int fd;

	if (vector >= srv->msix.vectors)
		return -EINVAL;

	/* Under the lock, since the message thread may close the descriptor. */
	pthread_mutex_lock(&srv->irq.lock);
	fd = srv->irq.fd[vector];
	if (fd != -1)
		n = write(fd, &one, sizeof(one));
	pthread_mutex_unlock(&srv->irq.lock);

	if (fd == -1 || (n < 0 && errno != EAGAIN)) {
		vfu_inc(&srv->count.irqs_dropped);
		return -ENOTCONN;
	}
	/* EAGAIN: the counter is full, so the client has an interrupt to see anyway */
	vfu_inc(&srv->count.irqs);
	return 0;
}
