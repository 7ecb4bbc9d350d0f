// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * What each command does. The framing was checked before (vfu_server.c): the
 * payload has between min_size and max_size bytes, and no more descriptors
 * came than max_fds. A handler looks at the rest of the message first and acts
 * then.
 *
 * A handler returns 0, a negative errno for an error reply, or -EPROTO for a
 * message no sane client sends, which ends the connection.
 */
#include <errno.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <string.h>

#include "vfu_priv.h"

/*
 * INTx, MSI and MSI-X, the least QEMU asks for. VFIO's ERR and REQ do not exist
 * here; with them, but without vectors, QEMU warns that error recovery is missing.
 */
#define NUM_IRQS	(VFIO_PCI_MSIX_IRQ_INDEX + 1)

static const struct vfu_limits limits[] = {
	[VFU_VERSION] = { sizeof(struct vfu_version),
			  sizeof(struct vfu_version) + VFU_MAX_VERSION_TEXT, 0 },
	[VFU_DMA_MAP] = { sizeof(struct vfu_dma_map_req), sizeof(struct vfu_dma_map_req), 1 },
	[VFU_DMA_UNMAP] = { sizeof(struct vfu_dma_unmap), sizeof(struct vfu_dma_unmap), 0 },
	[VFU_DEVICE_GET_INFO] = { sizeof(struct vfu_device_info),
				  sizeof(struct vfu_device_info), 0 },
	[VFU_DEVICE_GET_REGION_INFO] = { sizeof(struct vfu_region_info),
					 sizeof(struct vfu_region_info), 0 },
	[VFU_DEVICE_GET_IRQ_INFO] = { sizeof(struct vfu_irq_info),
				      sizeof(struct vfu_irq_info), 0 },
	[VFU_DEVICE_SET_IRQS] = { sizeof(struct vfu_irq_set),
				  sizeof(struct vfu_irq_set) + VFU_MAX_VECTORS, VFU_MAX_FDS },
	[VFU_REGION_READ] = { sizeof(struct vfu_region_rw), sizeof(struct vfu_region_rw), 0 },
	[VFU_REGION_WRITE] = { sizeof(struct vfu_region_rw), VFU_MAX_PAYLOAD, 0 },
	[VFU_DEVICE_RESET] = { 0, 0, 0 },
};

/* Commands we do not serve are read over, whatever they carry, and refused. */
static const struct vfu_limits limits_unknown = { 0, VFU_MAX_PAYLOAD, 0 };

const struct vfu_limits *vfu_msg_limits(uint16_t command)
{
	switch (command) {
	case VFU_VERSION:
	case VFU_DMA_MAP:
	case VFU_DMA_UNMAP:
	case VFU_DEVICE_GET_INFO:
	case VFU_DEVICE_GET_REGION_INFO:
	case VFU_DEVICE_GET_IRQ_INFO:
	case VFU_DEVICE_SET_IRQS:
	case VFU_REGION_READ:
	case VFU_REGION_WRITE:
	case VFU_DEVICE_RESET:
		return &limits[command];
	default:
		return &limits_unknown;
	}
}

static size_t payload_len(const struct vfu_server *srv)
{
	return srv->rx.hdr.size - sizeof(struct vfu_header);
}

/* Sets the answer to @size bytes of @data. */
static void answer_with(struct vfu_server *srv, struct vfu_answer *answer,
			const void *data, size_t size)
{
	memcpy(srv->reply, data, size);
	answer->size = size;
}

static int do_version(struct vfu_server *srv, struct vfu_answer *answer)
{
	const struct vfu_version reply = { .major = 0, .minor = 0 };
	size_t len = payload_len(srv);
	struct vfu_version req;
	int n;

	memcpy(&req, srv->rx.payload, sizeof(req));
	if (srv->versioned || (srv->rx.hdr.flags & VFU_F_NO_REPLY))
		return -EPROTO;
	if (len > sizeof(req) && srv->rx.payload[len - 1])
		return -EPROTO;
	if (req.major != reply.major) {
		vfu_log(srv, VFU_LOG_ERROR, "client speaks vfio-user %u.%u, not 0.0",
			req.major, req.minor);
		return -EPROTO;
	}

	/*
	 * What the client can do is of no interest: we send one descriptor at
	 * most and never more data than it asked for, nor commands.
	 */
	memcpy(srv->reply, &reply, sizeof(reply));
	n = sprintf((char *)srv->reply + sizeof(reply),
		    "{\"capabilities\":{\"max_msg_fds\":%u,\"max_data_xfer_size\":%u,"
		    "\"max_dma_maps\":%u,\"pgsizes\":%u}}",
		    VFU_MAX_FDS, VFU_MAX_XFER, VFU_MAX_DMA_MAPS, VFU_PAGE_SIZE);
	answer->size = sizeof(reply) + (size_t)n + 1;

	srv->versioned = true;
	vfu_do_reset(srv, VFU_RESET_CONNECT);
	if (srv->ops.connect)
		srv->ops.connect(srv->ctx);
	return 0;
}

static int do_dma_map(struct vfu_server *srv)
{
	struct vfu_dma_map_req req;
	unsigned int prot = 0;
	int fd = -1;

	memcpy(&req, srv->rx.payload, sizeof(req));
	if (req.argsz < sizeof(req) ||
	    (req.flags & ~(VFU_DMA_F_READ | VFU_DMA_F_WRITE | VFU_DMA_F_MMAP |
			   VFU_DMA_F_FILE_IO)))
		return -EINVAL;
	if (req.flags & VFU_DMA_F_FILE_IO)
		return -EOPNOTSUPP;
	if (srv->rx.num_fds)
		fd = srv->rx.fds[0];
	else if (req.flags & VFU_DMA_F_MMAP)
		return -EINVAL;

	if (req.flags & VFU_DMA_F_READ)
		prot |= DMA_MAP_READ;
	if (req.flags & VFU_DMA_F_WRITE)
		prot |= DMA_MAP_WRITE;
	vfu_log(srv, VFU_LOG_DEBUG, "map 0x%llx + 0x%llx %s%s%s",
		(unsigned long long)req.address, (unsigned long long)req.size,
		prot & DMA_MAP_READ ? "r" : "", prot & DMA_MAP_WRITE ? "w" : "",
		fd == -1 ? ", no file" : "");
	return dma_map_add(srv->dma, req.address, req.size, prot, fd, req.offset);
}

/*
 * "must match exactly a previous mapping", says the text; but a vIOMMU of QEMU
 * flushes whole aligned ranges, with any number of maps in them or none.
 */
static int do_dma_unmap(struct vfu_server *srv, struct vfu_answer *answer)
{
	struct vfu_dma_unmap req;
	int64_t count;

	memcpy(&req, srv->rx.payload, sizeof(req));
	if (req.argsz < sizeof(req) || (req.flags & ~VFU_UNMAP_F_ALL))
		return -EINVAL;

	if (req.flags & VFU_UNMAP_F_ALL)
		count = dma_map_clear(srv->dma);
	else
		count = dma_map_remove_range(srv->dma, req.address, req.size);
	if (count < 0)
		return (int)count;
	vfu_log(srv, VFU_LOG_DEBUG, "unmap 0x%llx + 0x%llx: %lld maps",
		(unsigned long long)req.address, (unsigned long long)req.size,
		(long long)count);
	answer_with(srv, answer, &req, sizeof(req));
	return 0;
}

static int do_get_info(struct vfu_server *srv, struct vfu_answer *answer)
{
	struct vfu_device_info info;

	memcpy(&info, srv->rx.payload, sizeof(info));
	if (info.argsz < sizeof(info))
		return -EINVAL;
	info = (struct vfu_device_info){
		.argsz = sizeof(info),
		.flags = VFIO_DEVICE_FLAGS_RESET | VFIO_DEVICE_FLAGS_PCI,
		.num_regions = VFIO_PCI_NUM_REGIONS,
		.num_irqs = NUM_IRQS,
	};
	answer_with(srv, answer, &info, sizeof(info));
	return 0;
}

/* Can the client mmap() all of the region, so that no list of areas is needed? */
static bool is_whole(const struct vfu_bar *bar)
{
	return bar->num_areas == 1 && !bar->areas[0].offset && bar->areas[0].size == bar->size;
}

static int do_get_region_info(struct vfu_server *srv, struct vfu_answer *answer)
{
	const uint32_t rw = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	struct vfu_region_info info;
	const struct vfu_bar *bar;
	struct vfu_cap_sparse cap;
	uint32_t room, areas_size;

	memcpy(&info, srv->rx.payload, sizeof(info));
	if (info.argsz < sizeof(info) || info.index >= VFIO_PCI_NUM_REGIONS)
		return -EINVAL;

	room = info.argsz;
	info = (struct vfu_region_info){ .argsz = sizeof(info), .index = info.index };
	if (info.index == VFIO_PCI_CONFIG_REGION_INDEX) {
		info.flags = rw;
		info.size = srv->config.size;
	}
	if (info.index >= VFU_NUM_BARS || !srv->bars[info.index].size) {
		answer_with(srv, answer, &info, sizeof(info));
		return 0;
	}

	bar = &srv->bars[info.index];
	info.flags = rw;
	info.size = bar->size;
	if (bar->fd == -1) {
		answer_with(srv, answer, &info, sizeof(info));
		return 0;
	}

	info.flags |= VFIO_REGION_INFO_FLAG_MMAP;
	info.offset = bar->fd_offset;
	if (is_whole(bar)) {
		answer->fd = bar->fd;
		answer_with(srv, answer, &info, sizeof(info));
		return 0;
	}

	areas_size = bar->num_areas * (uint32_t)sizeof(bar->areas[0]);
	info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
	info.cap_offset = sizeof(info);
	info.argsz = (uint32_t)(sizeof(info) + sizeof(cap)) + areas_size;
	answer_with(srv, answer, &info, sizeof(info));
	/* "Message sizes": the client asks again with room for argsz */
	if (room < info.argsz)
		return 0;

	cap = (struct vfu_cap_sparse){
		.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP,
		.version = 1,
		.nr_areas = bar->num_areas,
	};
	memcpy(srv->reply + sizeof(info), &cap, sizeof(cap));
	memcpy(srv->reply + sizeof(info) + sizeof(cap), bar->areas, areas_size);
	answer->size = info.argsz;
	answer->fd = bar->fd;
	return 0;
}

static unsigned int irq_count(const struct vfu_server *srv, uint32_t index)
{
	return index == VFIO_PCI_MSIX_IRQ_INDEX ? srv->msix.vectors : 0;
}

static int do_get_irq_info(struct vfu_server *srv, struct vfu_answer *answer)
{
	struct vfu_irq_info info;

	memcpy(&info, srv->rx.payload, sizeof(info));
	if (info.argsz < sizeof(info) || info.index >= NUM_IRQS)
		return -EINVAL;
	info.argsz = sizeof(info);
	info.count = irq_count(srv, info.index);
	/* without NORESIZE: any vector can be set at any time */
	info.flags = info.count ? VFIO_IRQ_INFO_EVENTFD : 0;
	answer_with(srv, answer, &info, sizeof(info));
	return 0;
}

static int do_set_irqs(struct vfu_server *srv)
{
	const uint8_t *bools = srv->rx.payload + sizeof(struct vfu_irq_set);
	size_t extra = payload_len(srv) - sizeof(struct vfu_irq_set);
	struct vfu_irq_set req;
	uint32_t data, action, i;

	memcpy(&req, srv->rx.payload, sizeof(req));
	data = req.flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
	action = req.flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;

	/* the message must fit together before its values count */
	if (extra != (data == VFIO_IRQ_SET_DATA_BOOL ? req.count : 0))
		return -EPROTO;
	if (srv->rx.num_fds &&
	    (data != VFIO_IRQ_SET_DATA_EVENTFD || srv->rx.num_fds != req.count))
		return -EPROTO;

	if (req.argsz < sizeof(req) || req.flags != (data | action) ||
	    req.index >= NUM_IRQS)
		return -EINVAL;
	/* MSI-X cannot be masked here; of two bits at a time none matches */
	if (action != VFIO_IRQ_SET_ACTION_TRIGGER)
		return -EINVAL;
	if (req.start > irq_count(srv, req.index) ||
	    req.count > irq_count(srv, req.index) - req.start)
		return -EINVAL;

	switch (data) {
	case VFIO_IRQ_SET_DATA_NONE:
		if (!req.count && req.index == VFIO_PCI_MSIX_IRQ_INDEX)
			vfu_irq_disable_all(srv);
		for (i = 0; i < req.count; i++)
			vfu_irq_trigger(srv, req.start + i);
		return 0;
	case VFIO_IRQ_SET_DATA_BOOL:
		for (i = 0; i < req.count; i++)
			if (bools[i])
				vfu_irq_trigger(srv, req.start + i);
		return 0;
	case VFIO_IRQ_SET_DATA_EVENTFD:
		return vfu_irq_set_fds(srv, req.start, req.count,
				       srv->rx.num_fds ? srv->rx.fds : NULL);
	default:
		return -EINVAL;
	}
}

static int do_region_read(struct vfu_server *srv, struct vfu_answer *answer)
{
	struct vfu_region_rw req;
	int ret;

	memcpy(&req, srv->rx.payload, sizeof(req));
	if (req.count > VFU_MAX_XFER ||
	    !vfu_region_check(srv, req.region, req.offset, req.count))
		return -EINVAL;
	ret = vfu_region_read(srv, req.region, req.offset, srv->reply + sizeof(req), req.count);
	if (ret)
		return ret;
	memcpy(srv->reply, &req, sizeof(req));
	answer->size = sizeof(req) + req.count;
	return 0;
}

static int do_region_write(struct vfu_server *srv, struct vfu_answer *answer)
{
	struct vfu_region_rw req;
	int ret;

	memcpy(&req, srv->rx.payload, sizeof(req));
	if (payload_len(srv) - sizeof(req) != req.count)
		return -EPROTO;
	if (!vfu_region_check(srv, req.region, req.offset, req.count))
		return -EINVAL;
	ret = vfu_region_write(srv, req.region, req.offset, srv->rx.payload + sizeof(req),
			       req.count);
	if (ret)
		return ret;
	answer_with(srv, answer, &req, sizeof(req));
	return 0;
}

static int dispatch(struct vfu_server *srv, struct vfu_answer *answer)
{
	switch (srv->rx.hdr.command) {
	case VFU_VERSION:
		return do_version(srv, answer);
	case VFU_DMA_MAP:
		return do_dma_map(srv);
	case VFU_DMA_UNMAP:
		return do_dma_unmap(srv, answer);
	case VFU_DEVICE_GET_INFO:
		return do_get_info(srv, answer);
	case VFU_DEVICE_GET_REGION_INFO:
		return do_get_region_info(srv, answer);
	case VFU_DEVICE_GET_IRQ_INFO:
		return do_get_irq_info(srv, answer);
	case VFU_DEVICE_SET_IRQS:
		return do_set_irqs(srv);
	case VFU_REGION_READ:
		return do_region_read(srv, answer);
	case VFU_REGION_WRITE:
		return do_region_write(srv, answer);
	case VFU_DEVICE_RESET:
		vfu_do_reset(srv, VFU_RESET_DEVICE);
		return 0;
	case VFU_DEVICE_FEATURE:
		return -ENOTTY;		/* what VFIO says, and QEMU expects, for "no such feature" */
	default:
		return -EOPNOTSUPP;
	}
}

int vfu_msg_handle(struct vfu_server *srv, struct vfu_answer *answer)
{
	uint16_t command = srv->rx.hdr.command;
	int ret;

	/* "Connection Initiation": VERSION comes first */
	if (!srv->versioned && command != VFU_VERSION)
		return -EPROTO;

	answer->size = 0;
	answer->fd = -1;
	ret = dispatch(srv, answer);
	if (ret >= 0 || ret == -EPROTO)
		return ret < 0 ? ret : 0;

	/* QEMU asks every device for the ERR interrupt; no news that it is refused */
	vfu_log(srv, command == VFU_DEVICE_GET_IRQ_INFO ? VFU_LOG_DEBUG : VFU_LOG_INFO,
		"command %u refused: %s", command, strerror(-ret));
	return -ret;
}
