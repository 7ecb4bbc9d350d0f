/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Inside of the vfio-user server. Files:
 *   vfu_server.c  life, sockets, receiving and sending whole messages
 *   vfu_msg.c     what each command does
 *   vfu_region.c  BARs: description and access
 *   vfu_pci.c     config space and its capabilities
 *   vfu_irq.c     MSI-X vectors
 */
#ifndef VFU_PRIV_H
#define VFU_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "vfio_user.h"
#include "vfu_proto.h"

#define VFU_PAGE_SIZE		4096u
#define VFU_CONFIG_SIZE		256u
#define VFU_CONFIG_SIZE_EXT	4096u
#define VFU_MSIX_ENTRY		16u

struct vfu_bar {
	uint64_t size;			/* 0: no such BAR */
	unsigned int flags;
	struct vfu_region_ops ops;
	void *ctx;

	int fd;				/* -1: nothing to mmap() */
	uint64_t fd_offset;
	unsigned int num_areas;		/* 0 with an fd: the whole region */
	struct vfu_area areas[VFU_MAX_AREAS];
	uint8_t *mem;			/* our own mapping of the first @mem_size bytes */
	size_t mem_size;
};

struct vfu_config {
	uint8_t value[VFU_CONFIG_SIZE_EXT];
	uint8_t initial[VFU_CONFIG_SIZE_EXT];
	uint8_t writable[VFU_CONFIG_SIZE_EXT];	/* mask of bits the guest can change */
	uint32_t size;
	uint8_t next_cap;		/* where the next capability goes */
	uint8_t last_link;		/* byte that must point to it */
	/* offsets of the capabilities, 0: none */
	uint8_t pcie;
	uint8_t pm;
	uint8_t msix;
};

struct vfu_msix {
	unsigned int vectors;
	unsigned int table_bar, pba_bar;
	uint32_t table_offset, pba_offset;
	uint32_t table_size, pba_size;
	uint8_t *table;			/* only kept for the client to read back */
};

struct vfu_irq {
	pthread_mutex_t lock;		/* protects @fd */
	int *fd;			/* eventfd of each vector, -1: none */
};

/* A message on its way in. */
struct vfu_rx {
	struct vfu_header hdr;
	size_t got;			/* bytes so far, header included */
	uint8_t *payload;
	size_t payload_size;		/* room in @payload */
	int fds[VFU_MAX_FDS];		/* ours until taken: then -1 */
	unsigned int num_fds;
};

struct vfu_counters {
	atomic_uint_fast64_t connections;
	atomic_uint_fast64_t messages;
	atomic_uint_fast64_t refused;
	atomic_uint_fast64_t protocol_errors;
	atomic_uint_fast64_t resets;
	atomic_uint_fast64_t irqs;
	atomic_uint_fast64_t irqs_dropped;
};

/* Belongs to the message thread except where a field says otherwise. */
struct vfu_server {
	struct vfu_ops ops;
	void *ctx;

	/* description, constant once @frozen */
	bool frozen;
	struct vfu_bar bars[VFU_NUM_BARS];
	struct vfu_msix msix;
	struct vfu_config config;

	/* any thread */
	struct vfu_irq irq;
	struct dma_map *dma;
	atomic_bool bus_master;
	struct vfu_counters count;
	int stop_fd;			/* eventfd, readable after vfu_stop() */

	int epoll_fd;
	int listen_fd;			/* -1: none */
	char *path;
	dev_t path_dev;			/* which file at @path is ours to remove */
	ino_t path_ino;

	int conn_fd;			/* -1: no client */
	bool adopted;
	bool versioned;			/* VERSION went well, connect() was called */
	bool doomed;			/* close as soon as the callback has returned */
	bool busy;			/* handling a message, so callbacks may be running */
	struct vfu_rx rx;
	uint8_t *reply;			/* room for the largest reply */
};

static inline void vfu_inc(atomic_uint_fast64_t *counter)
{
	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* vfu_server.c */
void vfu_log(struct vfu_server *srv, enum vfu_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void vfu_do_reset(struct vfu_server *srv, enum vfu_reset why);

/* vfu_msg.c */

/* Payload and descriptors a command may have; NULL: not one we serve. */
struct vfu_limits {
	uint32_t min_size;
	uint32_t max_size;
	unsigned int max_fds;
};

const struct vfu_limits *vfu_msg_limits(uint16_t command);

/* What to send back: @size bytes of srv->reply, and a descriptor unless -1. */
struct vfu_answer {
	size_t size;
	int fd;
};

/*
 * Does what the complete message in srv->rx says. Returns 0; a positive errno
 * for an error reply; -EPROTO when the message is malformed.
 */
int vfu_msg_handle(struct vfu_server *srv, struct vfu_answer *answer);

/* vfu_region.c */
bool vfu_region_check(const struct vfu_server *srv, unsigned int index,
		      uint64_t offset, uint64_t len);
int vfu_region_read(struct vfu_server *srv, unsigned int index, uint64_t offset,
		    uint8_t *buf, size_t len);
int vfu_region_write(struct vfu_server *srv, unsigned int index, uint64_t offset,
		     const uint8_t *buf, size_t len);
int vfu_region_validate(const struct vfu_server *srv);
void vfu_region_free(struct vfu_server *srv);

/* vfu_pci.c */
void vfu_pci_init(struct vfu_server *srv);
void vfu_pci_set_bar(struct vfu_server *srv, unsigned int index);
void vfu_pci_reset(struct vfu_server *srv);
void vfu_pci_read(struct vfu_server *srv, uint64_t offset, uint8_t *buf, size_t len);
void vfu_pci_write(struct vfu_server *srv, uint64_t offset, const uint8_t *buf,
		   size_t len);

/* vfu_irq.c */
int vfu_irq_init(struct vfu_server *srv);
int vfu_irq_alloc(struct vfu_server *srv, unsigned int vectors);
void vfu_irq_free(struct vfu_server *srv);
void vfu_irq_disable_all(struct vfu_server *srv);
int vfu_irq_set_fds(struct vfu_server *srv, unsigned int start, unsigned int count,
		    int *fds);

#endif /* VFU_PRIV_H */
