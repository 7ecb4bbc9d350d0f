/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Wire format of vfio-user 0.0: docs/interop/vfio-user.rst in QEMU's source
 * (section titles in quotes below). All values are in host byte order, offsets
 * are those of the tables there. Constants the protocol takes over from VFIO
 * (VFIO_REGION_INFO_*, VFIO_IRQ_*, VFIO_DEVICE_FLAGS_*) are in <linux/vfio.h>;
 * the structures are repeated here, since those of the kernel grow.
 */
#ifndef VFU_PROTO_H
#define VFU_PROTO_H

#include <stdint.h>

/* "Commands"; 14 is not assigned */
enum vfu_command {
	VFU_VERSION = 1,
	VFU_DMA_MAP = 2,
	VFU_DMA_UNMAP = 3,
	VFU_DEVICE_GET_INFO = 4,
	VFU_DEVICE_GET_REGION_INFO = 5,
	VFU_DEVICE_GET_REGION_IO_FDS = 6,
	VFU_DEVICE_GET_IRQ_INFO = 7,
	VFU_DEVICE_SET_IRQS = 8,
	VFU_REGION_READ = 9,
	VFU_REGION_WRITE = 10,
	VFU_DMA_READ = 11,		/* server to client, not used */
	VFU_DMA_WRITE = 12,		/* the same */
	VFU_DEVICE_RESET = 13,
	VFU_REGION_WRITE_MULTI = 15,	/* only if negotiated, which we do not */
	VFU_DEVICE_FEATURE = 16,
	VFU_MIG_DATA_READ = 17,
	VFU_MIG_DATA_WRITE = 18,
};

/* "Header" */
struct vfu_header {
	uint16_t id;
	uint16_t command;
	uint32_t size;		/* of the message with header */
	uint32_t flags;
	uint32_t error;		/* errno, in replies with VFU_F_ERROR */
};

#define VFU_F_TYPE_MASK		0x0fu
#define VFU_F_TYPE_COMMAND	0x00u
#define VFU_F_TYPE_REPLY	0x01u
#define VFU_F_NO_REPLY		0x10u
#define VFU_F_ERROR		0x20u

/* "VFIO_USER_VERSION"; JSON text with its NUL may follow */
struct vfu_version {
	uint16_t major;
	uint16_t minor;
};

/* "VFIO_USER_DMA_MAP", 0 or 1 descriptor */
struct vfu_dma_map_req {
	uint32_t argsz;
	uint32_t flags;
	uint64_t offset;	/* in the file */
	uint64_t address;
	uint64_t size;
};

#define VFU_DMA_F_READ		0x1u
#define VFU_DMA_F_WRITE		0x2u
#define VFU_DMA_F_MMAP		0x4u
#define VFU_DMA_F_FILE_IO	0x8u

/* "VFIO_USER_DMA_UNMAP", request and reply */
struct vfu_dma_unmap {
	uint32_t argsz;
	uint32_t flags;
	uint64_t address;
	uint64_t size;
};

/* not in the text, but QEMU sends it: forget everything, whatever address and size are */
#define VFU_UNMAP_F_ALL		0x2u

/* "VFIO_USER_DEVICE_GET_INFO", request and reply */
struct vfu_device_info {
	uint32_t argsz;
	uint32_t flags;
	uint32_t num_regions;
	uint32_t num_irqs;
};

/* "VFIO_USER_DEVICE_GET_REGION_INFO", request and start of the reply */
struct vfu_region_info {
	uint32_t argsz;
	uint32_t flags;
	uint32_t index;
	uint32_t cap_offset;
	uint64_t size;
	uint64_t offset;	/* for mmap() */
};

/* "VFIO region info cap sparse mmap"; pairs of 64-bit offset and size follow */
struct vfu_cap_sparse {
	uint16_t id;
	uint16_t version;
	uint32_t next;
	uint32_t nr_areas;
	uint32_t reserved;
};

/* "VFIO_USER_DEVICE_GET_IRQ_INFO", request and reply */
struct vfu_irq_info {
	uint32_t argsz;
	uint32_t flags;
	uint32_t index;
	uint32_t count;
};

/* "VFIO_USER_DEVICE_SET_IRQS"; @count booleans or descriptors come with it */
struct vfu_irq_set {
	uint32_t argsz;
	uint32_t flags;
	uint32_t index;
	uint32_t start;
	uint32_t count;
};

/* "VFIO_USER_REGION_READ", "VFIO_USER_REGION_WRITE"; data may follow */
struct vfu_region_rw {
	uint64_t offset;
	uint32_t region;
	uint32_t count;
};

_Static_assert(sizeof(struct vfu_header) == 16, "wire format");
_Static_assert(sizeof(struct vfu_version) == 4, "wire format");
_Static_assert(sizeof(struct vfu_dma_map_req) == 32, "wire format");
_Static_assert(sizeof(struct vfu_dma_unmap) == 24, "wire format");
_Static_assert(sizeof(struct vfu_device_info) == 16, "wire format");
_Static_assert(sizeof(struct vfu_region_info) == 32, "wire format");
_Static_assert(sizeof(struct vfu_cap_sparse) == 16, "wire format");
_Static_assert(sizeof(struct vfu_irq_info) == 16, "wire format");
_Static_assert(sizeof(struct vfu_irq_set) == 20, "wire format");
_Static_assert(sizeof(struct vfu_region_rw) == 16, "wire format");

/*
 * What we announce. QEMU refuses more than 16 descriptors (VFIO_USER_MAX_MAX_FDS)
 * and more than 65535 maps, which it does not keep to itself.
 */
#define VFU_MAX_FDS		16
#define VFU_MAX_XFER		(1u << 20)
#define VFU_MAX_DMA_MAPS	65535

#define VFU_MAX_VERSION_TEXT	4096u
#define VFU_MAX_PAYLOAD		(sizeof(struct vfu_region_rw) + VFU_MAX_XFER)

#endif /* VFU_PROTO_H */
