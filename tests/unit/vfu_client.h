/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * The client's end of a vfio-user socket, and a device at the other: what the
 * tests of the server share. Mostly single-threaded: send a message, let the
 * server process it, look at the reply.
 */
#ifndef VFU_CLIENT_H
#define VFU_CLIENT_H

#include <linux/vfio.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vfio_user.h"
#include "vfu_proto.h"

#define PAGE		((uint64_t)4096)
#define VECTORS		40u
#define MAX_TEST_FDS	20

/* BAR 0: registers by callback, MSI-X at 8 KiB and 12 KiB. BAR 2: mmap. BAR 4: both. */
#define BAR0_SIZE	(4 * PAGE)
#define TABLE_OFFSET	(2 * PAGE)
#define PBA_OFFSET	(3 * PAGE)
#define BAR2_SIZE	(64 * PAGE)
#define BAR4_SIZE	(32 * PAGE)
#define BAR4_FD_OFFSET	(3 * PAGE)

extern const struct vfu_area bar4_areas[2];

struct fixture {
	struct vfu_server *srv;
	struct dma_map *dma;
	int client;		/* our end, -1 once closed */
	int bar2_fd, bar4_fd;
	int fds_before;

	/* what the callbacks saw */
	unsigned int connects, disconnects;
	unsigned int resets[3];
	uint64_t maps_at_disconnect;
	int bus_master;
	int disconnect_in;	/* callback that calls vfu_disconnect(): 'c' or 'r' */
	uint64_t last_offset;
	size_t last_len;
	unsigned int reads, writes;
	int io_error;
	unsigned int log_lines[3];
	uint8_t regs[BAR4_SIZE];
};

struct message {
	struct vfu_header hdr;
	uint8_t payload[8192];
	size_t len;		/* of the payload */
	int fds[MAX_TEST_FDS];
	unsigned int num_fds;
};

#define TRIGGER_NONE	(VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER)
#define TRIGGER_BOOL	(VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_ACTION_TRIGGER)
#define TRIGGER_FD	(VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER)
#define MSIX		VFIO_PCI_MSIX_IRQ_INDEX

/* A new file of @size zero bytes. */
int new_memfd(uint64_t size);

/* Makes t->srv, not yet connected. */
void describe(struct fixture *t);

/* How many descriptors this process has open. */
int count_fds(void);

/* Sends raw bytes, with descriptors. */
void send_bytes(int sock, const void *buf, size_t len, const int *fds, unsigned int num_fds);
void send_message(int sock, const struct message *m);

/* Fills in a command with its payload (not above sizeof(m->payload)). */
void make_message(struct message *m, uint16_t command, const void *payload, size_t len);

/* Waits for one message; false when the server has closed. */
bool receive_message(int sock, struct message *m);

/* The server must have sent nothing. */
void expect_quiet(int sock);

/* The server must have thrown us out for a protocol error. */
void expect_closed(struct fixture *t);

/* Sends @m, lets the server process it, replaces @m by the reply; returns the reply's errno. */
int transact(struct fixture *t, struct message *m);

/* make_message() and transact(). */
int call(struct fixture *t, struct message *m, uint16_t command, const void *payload,
	 size_t len);
void make_version(struct message *m);

/* One command each; they check the reply and return its errno. */
int dma_map(struct fixture *t, uint64_t iova, uint64_t size, uint32_t flags, int fd,
	    uint64_t offset);
int dma_unmap(struct fixture *t, uint64_t iova, uint64_t size, uint32_t flags);
int region_read(struct fixture *t, uint32_t region, uint64_t offset, void *buf,
		uint32_t len);
void make_write(struct message *m, uint32_t region, uint64_t offset, const void *buf,
		uint32_t len);
int region_write(struct fixture *t, uint32_t region, uint64_t offset, const void *buf,
		 uint32_t len);

/* Config space; these must work. */
uint32_t config_read(struct fixture *t, uint64_t offset, uint32_t len);
void config_write(struct fixture *t, uint64_t offset, uint32_t v, uint32_t len);
int set_irqs(struct fixture *t, uint32_t flags, uint32_t index, uint32_t start,
	     uint32_t count, const int *fds, unsigned int num_fds);

/* A server on a socketpair, before VERSION; start(): after it. */
void start_raw(struct fixture *t);
void start(struct fixture *t);

/* Ends it; whatever happened, no descriptor may be left over. */
void finish(struct fixture *t);

/* The same for cmocka. */
int setup_raw(void **state);
int setup(void **state);
int teardown(void **state);

/* Thread that does vfu_run(@arg) and returns its result. */
void *run_server(void *arg);

#endif /* VFU_CLIENT_H */
