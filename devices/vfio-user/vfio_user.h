/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * A PCI device as a process: the server side of the vfio-user protocol, as far
 * as QEMU's vfio-user-pci client (>= 10.1) speaks it. Protocol text:
 * docs/interop/vfio-user.rst in QEMU's source.
 *
 * Use: vfu_create(), describe the device (vfu_pci_*(), vfu_region_*()), then
 * vfu_listen() or vfu_adopt(), then vfu_run() in a thread of its own, or
 * vfu_process() whenever vfu_fd() is readable. One server is one device for one
 * client at a time; when a client goes, the next may connect and finds the
 * device as after power-on. A process may have any number of servers; there is
 * no global state.
 *
 * Threads: one thread, the message thread, calls vfu_run()/vfu_process(), and
 * all callbacks run in it. The functions marked "any thread" may be called from
 * every thread between vfu_create() and vfu_destroy(), also from callbacks. All
 * others belong to the message thread, or to anyone before it starts.
 *
 * Time: QEMU waits 5 s for a reply and is unusable for good after a late one.
 * So callbacks must be quick (register access, flags; no copying), and readers
 * of the DMA map must copy in chunks, as dma_map.h says.
 *
 * Errors: functions returning int give 0 or a negative errno value; vfu_create()
 * gives NULL and sets errno.
 *
 * Trust: what comes from the guest may be anything. The client itself is the
 * process that owns the guest; a malformed message from it never does harm
 * here, but it is a protocol error and ends the connection at once: the guest
 * then reads all-ones, which is far better than 5 s per access.
 */
#ifndef VFIO_USER_H
#define VFIO_USER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dma_map.h"

#ifdef __cplusplus
extern "C" {
#endif

struct vfu_server;

/* PCI regions; indices are those of VFIO (VFIO_PCI_BAR0_REGION_INDEX ...). */
enum vfu_region {
	VFU_BAR0 = 0,
	VFU_BAR1,
	VFU_BAR2,
	VFU_BAR3,
	VFU_BAR4,
	VFU_BAR5,
	VFU_NUM_BARS,
};

/* Why the device is being reset. */
enum vfu_reset {
	VFU_RESET_CONNECT,	/* a new client: as after power-on */
	VFU_RESET_DEVICE,	/* DEVICE_RESET message: reset of the machine or bus */
	VFU_RESET_FLR,		/* function level reset, written by the guest */
};

enum vfu_log_level {
	VFU_LOG_ERROR,		/* protocol error, connection lost by it */
	VFU_LOG_INFO,		/* connect, disconnect, reset, refused requests */
	VFU_LOG_DEBUG,		/* every message */
};

/*
 * The device's callbacks; each may be NULL. They run in the message thread and
 * must not call vfu_process(), vfu_run() or vfu_destroy().
 */
struct vfu_ops {
	/*
	 * The protocol version was agreed on; messages follow. reset() with
	 * VFU_RESET_CONNECT comes right before.
	 */
	void (*connect)(void *ctx);

	/*
	 * The client is gone, or was thrown out. Called once for each
	 * connect(), while all DMA maps still stand; they are removed right
	 * after it returns.
	 */
	void (*disconnect)(void *ctx);

	/*
	 * Forget all state set by the guest; nothing may reach guest memory on
	 * account of earlier commands when this returns. DMA maps stand, as do
	 * interrupt eventfds; PCI config space has been reset already. The
	 * contents of mmap()able areas are the callback's to clear.
	 */
	void (*reset)(void *ctx, enum vfu_reset why);

	/*
	 * The guest changed the PCI command register's Bus Master Enable bit
	 * (also by reset, before reset() is called). While it is off the device
	 * must not access memory or raise interrupts.
	 */
	void (*bus_master)(void *ctx, bool on);

	/* One line of text without newline. */
	void (*log)(void *ctx, enum vfu_log_level level, const char *line);
};

/*
 * Access to a region that the client does not do by mmap(). @offset and @len
 * lie inside the region, @len is 1 to 1 MiB and need be neither a power of two
 * nor aligned (guests' loads and stores arrive as 1, 2, 4 or 8). PCI is
 * little-endian, as are all hosts this runs on.
 *
 * Return 0 or a negative errno value. An errno from read() gives the guest
 * all-ones; one from write() is logged by QEMU.
 */
struct vfu_region_ops {
	int (*read)(void *ctx, uint64_t offset, void *buf, size_t len);
	int (*write)(void *ctx, uint64_t offset, const void *buf, size_t len);
};

/* Flags of vfu_region_set(). */
#define VFU_REGION_64BIT	0x1u	/* 64-bit BAR: takes the next index, too */
#define VFU_REGION_PREFETCH	0x2u	/* prefetchable */

/* A part of a region; both members are multiples of the page size. */
struct vfu_area {
	uint64_t offset;
	uint64_t size;
};

/* Most areas of one region. */
#define VFU_MAX_AREAS		16u

/* Most MSI-X vectors (PCI's own limit). */
#define VFU_MAX_VECTORS		2048u

struct vfu_stats {
	uint64_t connections;		/* clients accepted */
	uint64_t messages;		/* complete messages received */
	uint64_t refused;		/* of them: answered with an error */
	uint64_t protocol_errors;	/* connections closed by us for one */
	uint64_t resets;		/* DEVICE_RESET and FLR */
	uint64_t irqs;			/* interrupts handed to the client */
	uint64_t irqs_dropped;		/* raised while the vector had no eventfd */
};

/* ---- life ---- */

/*
 * Makes a server without any region. @ops (may be NULL) is copied; @ctx is
 * handed to its callbacks.
 */
struct vfu_server *vfu_create(const struct vfu_ops *ops, void *ctx);

/*
 * Ends the connection (disconnect() is called), closes and removes the socket,
 * frees @srv. The message thread has ended, nobody uses the DMA map. NULL is
 * allowed.
 */
void vfu_destroy(struct vfu_server *srv);

/* ---- description of the device; -EBUSY once vfu_listen()/vfu_adopt() worked ---- */

int vfu_pci_set_id(struct vfu_server *srv, uint16_t vendor, uint16_t device,
		   uint16_t subsystem_vendor, uint16_t subsystem);

/* @class_code: base class, subclass and interface, e.g. 0x020000 for Ethernet. */
int vfu_pci_set_class(struct vfu_server *srv, uint32_t class_code, uint8_t revision);

/*
 * Capabilities appear in config space in the order of the calls.
 * PCIe: endpoint, capable of function level reset; makes config space 4 KiB.
 * PM: power management version 3, D0 and D3hot, no soft reset, no PME.
 * -EEXIST if called twice.
 */
int vfu_pci_add_pcie(struct vfu_server *srv);
int vfu_pci_add_pm(struct vfu_server *srv);

/*
 * MSI-X with @vectors vectors; the table (16 bytes a vector) and the pending
 * bits (8 bytes per 64 vectors) lie in BARs at offsets that are multiples of 8.
 * The server serves these bytes itself, region callbacks never see them. They
 * must lie outside the mmap()able areas, best in pages of their own, since QEMU
 * keeps the table's page to itself.
 */
int vfu_pci_add_msix(struct vfu_server *srv, unsigned int vectors,
		     enum vfu_region table_bar, uint32_t table_offset,
		     enum vfu_region pba_bar, uint32_t pba_offset);

/*
 * Makes BAR @index @size bytes long (power of two, at least 4 KiB). @ops is copied; a missing
 * callback reads as zero and ignores writes. @ctx is handed to the callbacks.
 */
int vfu_region_set(struct vfu_server *srv, enum vfu_region index, uint64_t size,
		   unsigned int flags, const struct vfu_region_ops *ops, void *ctx);

/*
 * Lets the client mmap() @count areas of BAR @index: byte n of the region is byte
 * @fd_offset + n of @fd, which must be that long already; use a memfd, sealed against
 * shrinking. No area list (@count 0) means the whole region. @fd is duplicated.
 * The guest's loads and stores in these areas are seen only in the memory; such
 * accesses as still arrive as messages are done there as well, not by the callbacks.
 */
int vfu_region_set_mmap(struct vfu_server *srv, enum vfu_region index, int fd,
			uint64_t fd_offset, const struct vfu_area *areas,
			unsigned int count);

/* ---- connection ---- */

/*
 * Checks the description, creates a UNIX socket at @path and listens. A socket
 * file that nobody listens on is replaced; otherwise -EADDRINUSE. -EINVAL when the
 * description does not fit together (MSI-X outside its BAR, and so on).
 */
int vfu_listen(struct vfu_server *srv, const char *path);

/*
 * The same for a connected stream socket, e.g. of socketpair(); the server owns
 * @fd if this returns 0. It ends with this connection: vfu_run() then returns,
 * vfu_process() says -ENOTCONN.
 */
int vfu_adopt(struct vfu_server *srv, int fd);

/*
 * Descriptor to poll for reading (POLLIN, level-triggered) before vfu_process().
 * It stays the same over reconnections.
 */
int vfu_fd(const struct vfu_server *srv);

/*
 * Does what can be done without waiting for the client: accepts it, receives,
 * answers. (Only a client that does not take its replies is waited for, 4 s at
 * most, and then thrown out.)
 * Returns 0, -ECANCELED after vfu_stop(), -ENOTCONN when an adopted
 * connection has ended, or an error of the listening socket. Trouble with a
 * client is no error: that connection is closed.
 */
int vfu_process(struct vfu_server *srv);

/*
 * Runs vfu_process() until vfu_stop(), or until an adopted connection ends; both return 0.
 */
int vfu_run(struct vfu_server *srv);

/* Makes vfu_run() return. Any thread; safe in a signal handler. */
void vfu_stop(struct vfu_server *srv);

/*
 * Throws the client out, e.g. since the device is broken: its guest reads
 * all-ones from now on. Called in a callback it takes effect when that has
 * returned; the message is not answered.
 */
void vfu_disconnect(struct vfu_server *srv);

/* ---- in operation ---- */

/*
 * Raises MSI-X vector @vector. Any thread. Masking is the client's business
 * (QEMU takes the eventfd away or notes the interrupt as pending).
 * Returns 0, -EINVAL for a vector that does not exist, -ENOTCONN when the client
 * has not given an eventfd for it (the interrupt is lost, as in hardware with
 * MSI-X disabled).
 */
int vfu_irq_trigger(struct vfu_server *srv, unsigned int vector);

/*
 * What the client lets the device reach. Any thread; the pointer is the same for the whole
 * life of @srv. Empty while no client is connected.
 */
struct dma_map *vfu_dma_map(struct vfu_server *srv);

/* Bus Master Enable of the PCI command register. Any thread. */
bool vfu_bus_master(const struct vfu_server *srv);

/* Any thread. */
void vfu_get_stats(const struct vfu_server *srv, struct vfu_stats *stats);

#ifdef __cplusplus
}
#endif

#endif /* VFIO_USER_H */
