/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * simgpu - a sample exporter of device memory: what user space needs
 *
 * /dev/simgpuN is the Nth device. A buffer is known by a handle, which belongs to
 * the open file that created it. It can be mapped,
 *
 *	mmap(NULL, length, prot, MAP_SHARED, fd, create.mmap_offset + offset)
 *
 * and exported as a DMA-buf; both are the same memory, and both keep the buffer
 * after its handle is closed. A mapping or a DMA-buf of a buffer that was revoked
 * stays, but there is nothing behind it any more: SIGBUS, ENODEV.
 */
#ifndef _SIMGPU_H
#define _SIMGPU_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define SIMGPU_MAX_FRAGS	65536

/* simgpu_create.flags */
/* Fragments descend in device memory: none continues the one before it. */
#define SIMGPU_DESCENDING	0x1
/* The first access to a mapping fills all its PTEs; otherwise one page each. */
#define SIMGPU_FAULT_ALL	0x2

/* simgpu_create.importers: who may map the buffer for DMA */
enum simgpu_importers {
	/* who gives the memory back when told to */
	SIMGPU_REVOCABLE,
	/* also who does not, if an IOMMU can take it away */
	SIMGPU_REVOCABLE_OR_IOVA,
	/* everybody: the buffer is not revoked before the last one is done with it */
	SIMGPU_ANY,
};

/**
 * struct simgpu_create - SIMGPU_IOC_CREATE: allocate a buffer
 * @size:	(in) bytes, a multiple of @frag_size
 * @frag_size:	(in) bytes of a fragment, whole pages; 0: one fragment
 * @stride:	(in) least distance from the start of a fragment to the next one's,
 *		whole pages; 0: @frag_size
 * @flags:	(in) SIMGPU_DESCENDING, SIMGPU_FAULT_ALL
 * @importers:	(in) &enum simgpu_importers
 * @handle:	(out) of the buffer
 * @reserved:	0
 * @mmap_offset: (out) where the buffer starts for mmap()
 *
 * What is in the memory is undefined. Errors: ENOSPC: there is no room; ENODEV:
 * the device is gone or being reset.
 */
struct simgpu_create {
	__u64 size;
	__u64 frag_size;
	__u64 stride;
	__u32 flags;
	__u32 importers;
	__u32 handle;
	__u32 reserved;
	__u64 mmap_offset;
};

/* simgpu_handle.flags of SIMGPU_IOC_EVICT: revoke the buffer if it is pinned */
#define SIMGPU_FORCE		0x1

/**
 * struct simgpu_handle - a command for a buffer
 * @handle:	(in) of the buffer
 * @flags:	(in) SIMGPU_FORCE for SIMGPU_IOC_EVICT, otherwise 0
 *
 * SIMGPU_IOC_CLOSE: forget the handle. The buffer lives on while it is mapped or
 * exported.
 *
 * SIMGPU_IOC_EXPORT: returns a new file descriptor, the buffer as DMA-buf.
 *
 * SIMGPU_IOC_REVOKE: take the memory back from the CPU and from all devices. When
 * this returns, nothing reaches it any more. EOPNOTSUPP: @importers is SIMGPU_ANY.
 *
 * SIMGPU_IOC_EVICT: move the content to another place in the device. EBUSY: it is
 * pinned; with SIMGPU_FORCE it is then revoked instead, unless it is for SIMGPU_ANY.
 * ENOSPC: there is no other place. ENODEV: it is revoked.
 */
struct simgpu_handle {
	__u32 handle;
	__u32 flags;
};

/**
 * struct simgpu_info - SIMGPU_IOC_INFO: where a buffer is, and who uses it
 * @handle:	(in) of the buffer
 * @nr_frags:	(out) number of fragments
 * @offset:	(in) a byte of the buffer
 * @bar_offset:	(out) and its place in device memory
 * @nr_pins:	(out) pins of importers
 * @revoked:	(out) 1: it was revoked, and @bar_offset is undefined
 */
struct simgpu_info {
	__u32 handle;
	__u32 nr_frags;
	__u64 offset;
	__u64 bar_offset;
	__u32 nr_pins;
	__u32 revoked;
};

#define SIMGPU_IOC_CREATE	_IOWR('G', 0x80, struct simgpu_create)
#define SIMGPU_IOC_CLOSE	_IOW('G', 0x81, struct simgpu_handle)
#define SIMGPU_IOC_EXPORT	_IOW('G', 0x82, struct simgpu_handle)
#define SIMGPU_IOC_REVOKE	_IOW('G', 0x83, struct simgpu_handle)
#define SIMGPU_IOC_EVICT	_IOW('G', 0x84, struct simgpu_handle)
#define SIMGPU_IOC_INFO		_IOWR('G', 0x85, struct simgpu_info)

#endif
