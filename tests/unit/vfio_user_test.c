// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * What the vfio-user server does for a client that behaves: regions, config
 * space, DMA, interrupts; and what it accepts as description of a device.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "vfu_client.h"

/* ---- version, device, regions ---- */

static void version(void **state)
{
	struct fixture *t = *state;
	struct message m;

	assert_int_equal(t->connects, 0);
	make_version(&m);
	m.payload[2] = 7;	/* a minor version of the future */
	assert_int_equal(transact(t, &m), 0);
	assert_true(m.len > sizeof(struct vfu_version));
	assert_int_equal(m.payload[0] | m.payload[1] << 8, 0);
	assert_int_equal(m.payload[2] | m.payload[3] << 8, 0);
	assert_int_equal(m.payload[m.len - 1], 0);
	assert_string_equal((char *)m.payload + 4,
			    "{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576,"
			    "\"max_dma_maps\":65535,\"pgsizes\":4096}}");
	assert_int_equal(t->connects, 1);
	assert_int_equal(t->resets[VFU_RESET_CONNECT], 1);
}

static void version_without_text(void **state)
{
	struct fixture *t = *state;
	struct message m;

	assert_int_equal(call(t, &m, VFU_VERSION, "\0\0\0\0", 4), 0);
	assert_int_equal(t->connects, 1);
}

static void device_info(void **state)
{
	struct vfu_device_info info = { .argsz = sizeof(info) };
	struct fixture *t = *state;
	struct message m;

	assert_int_equal(call(t, &m, VFU_DEVICE_GET_INFO, &info, sizeof(info)), 0);
	assert_int_equal(m.len, sizeof(info));
	memcpy(&info, m.payload, sizeof(info));
	assert_int_equal(info.argsz, sizeof(info));
	assert_int_equal(info.flags, VFIO_DEVICE_FLAGS_RESET | VFIO_DEVICE_FLAGS_PCI);
	assert_int_equal(info.num_regions, 9);
	assert_int_equal(info.num_irqs, 3);
	info.argsz = 15;
	assert_int_equal(call(t, &m, VFU_DEVICE_GET_INFO, &info, sizeof(info)), EINVAL);
}

static int region_info(struct fixture *t, uint32_t index, uint32_t argsz, struct message *m,
		       struct vfu_region_info *info)
{
	int ret;

	*info = (struct vfu_region_info){ .argsz = argsz, .index = index };
	ret = call(t, m, VFU_DEVICE_GET_REGION_INFO, info, sizeof(*info));
	if (!ret)
		memcpy(info, m->payload, sizeof(*info));
	return ret;
}

static void plain_regions(void **state)
{
	const uint32_t rw = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	struct fixture *t = *state;
	struct vfu_region_info info;
	struct message m;
	uint32_t i;

	for (i = 0; i < 9; i++) {
		if (i == VFU_BAR2 || i == VFU_BAR4)
			continue;
		assert_int_equal(region_info(t, i, 32, &m, &info), 0);
		assert_int_equal(m.len, 32);
		assert_int_equal(m.num_fds, 0);
		assert_int_equal(info.argsz, 32);
		assert_int_equal(info.index, i);
		assert_int_equal(info.flags, i == 0 || i == 7 ? rw : 0);
		assert_int_equal(info.size, i == 0 ? BAR0_SIZE : i == 7 ? 4096 : 0);
	}
	assert_int_equal(region_info(t, 9, 32, &m, &info), EINVAL);
	assert_int_equal(region_info(t, UINT32_MAX, 32, &m, &info), EINVAL);
	assert_int_equal(region_info(t, 0, 31, &m, &info), EINVAL);
}

static void mmap_region(void **state)
{
	struct fixture *t = *state;
	struct vfu_region_info info;
	struct message m;
	uint8_t byte;
	uint8_t *p;

	assert_int_equal(region_info(t, VFU_BAR2, 32, &m, &info), 0);
	assert_int_equal(info.flags, VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE |
			 VFIO_REGION_INFO_FLAG_MMAP);
	assert_int_equal(info.size, BAR2_SIZE);
	assert_int_equal(m.len, 32);
	assert_int_equal(m.num_fds, 1);
	p = mmap(NULL, BAR2_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, m.fds[0],
		 (off_t)info.offset);
	assert_ptr_not_equal(p, MAP_FAILED);
	p[12345] = 0x5a;
	assert_int_equal(pread(t->bar2_fd, &byte, 1, 12345), 1);
	assert_int_equal(byte, 0x5a);
	munmap(p, BAR2_SIZE);
	close(m.fds[0]);
}

static void sparse_region(void **state)
{
	struct fixture *t = *state;
	struct vfu_region_info info;
	struct vfu_cap_sparse cap;
	struct message m;

	/* first without room for the capability, as QEMU asks */
	assert_int_equal(region_info(t, VFU_BAR4, 32, &m, &info), 0);
	assert_int_equal(m.len, 32);
	assert_int_equal(m.num_fds, 0);
	assert_int_equal(info.argsz, 32 + 16 + 32);
	assert_int_equal(info.cap_offset, 32);

	assert_int_equal(region_info(t, VFU_BAR4, info.argsz, &m, &info), 0);
	assert_int_equal(m.len, info.argsz);
	assert_int_equal(m.num_fds, 1);
	assert_int_equal(info.flags, VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE |
			 VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_CAPS);
	assert_int_equal(info.offset, BAR4_FD_OFFSET);
	memcpy(&cap, m.payload + info.cap_offset, sizeof(cap));
	assert_int_equal(cap.id, VFIO_REGION_INFO_CAP_SPARSE_MMAP);
	assert_int_equal(cap.version, 1);
	assert_int_equal(cap.next, 0);
	assert_int_equal(cap.nr_areas, 2);
	assert_memory_equal(m.payload + 48, bar4_areas, sizeof(bar4_areas));
	close(m.fds[0]);
}

static void trapped_access(void **state)
{
	struct fixture *t = *state;
	uint8_t buf[64], in[64];
	unsigned int i;

	for (i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i + 1);
	assert_int_equal(region_write(t, VFU_BAR0, 0x10, buf, 8), 0);
	assert_int_equal(t->last_offset, 0x10);
	assert_int_equal(t->last_len, 8);
	assert_memory_equal(t->regs + 0x10, buf, 8);
	assert_int_equal(region_read(t, VFU_BAR0, 0x10, in, 8), 0);
	assert_memory_equal(in, buf, 8);
	assert_int_equal(region_write(t, VFU_BAR0, 0x101, buf, 33), 0);
	assert_int_equal(region_read(t, VFU_BAR0, 0x101, in, 33), 0);
	assert_memory_equal(in, buf, 33);

	t->io_error = -EIO;
	assert_int_equal(region_read(t, VFU_BAR0, 0, in, 4), EIO);
	assert_int_equal(region_write(t, VFU_BAR0, 0, in, 4), EIO);
	t->io_error = 0;

	t->reads = 0;
	t->writes = 0;
	assert_int_equal(region_read(t, VFU_BAR0, 0, in, 0), EINVAL);
	assert_int_equal(region_write(t, VFU_BAR0, 0, in, 0), EINVAL);
	assert_int_equal(region_read(t, VFU_BAR0, BAR0_SIZE, in, 1), EINVAL);
	assert_int_equal(region_read(t, VFU_BAR0, BAR0_SIZE - 4, in, 8), EINVAL);
	assert_int_equal(region_read(t, VFU_BAR0, UINT64_MAX - 3, in, 8), EINVAL);
	assert_int_equal(region_read(t, VFU_BAR0, 0, in, UINT32_MAX), EINVAL);
	assert_int_equal(region_write(t, VFU_BAR0, BAR0_SIZE - 4, in, 8), EINVAL);
	assert_int_equal(region_read(t, VFU_BAR1, 0, in, 4), EINVAL);
	assert_int_equal(region_read(t, VFU_BAR3, 0, in, 4), EINVAL);	/* upper half of BAR 2 */
	assert_int_equal(region_read(t, 6, 0, in, 4), EINVAL);
	assert_int_equal(region_read(t, 8, 0, in, 4), EINVAL);
	assert_int_equal(region_read(t, UINT32_MAX, 0, in, 4), EINVAL);
	assert_int_equal(region_read(t, 7, 4094, in, 4), EINVAL);
	assert_int_equal(t->reads, 0);
	assert_int_equal(t->writes, 0);
}

static void large_access(void **state)
{
	static uint8_t buf[VFU_MAX_XFER];
	struct vfu_region_rw req = { .region = VFU_BAR2 };
	struct fixture *t = *state;
	struct message m;

	/* more than the region has, then more than a message may carry */
	req.count = BAR2_SIZE + 1;
	assert_int_equal(call(t, &m, VFU_REGION_READ, &req, sizeof(req)), EINVAL);
	/* one that needs a large buffer */
	make_message(&m, VFU_REGION_WRITE, &req, sizeof(req));
	req.count = sizeof(buf);
	memcpy(m.payload, &req, sizeof(req));
	m.hdr.size = (uint32_t)(sizeof(m.hdr) + sizeof(req) + sizeof(buf));
	send_message(t->client, &m);
	for (size_t sent = 0; sent < sizeof(buf); sent += 65536) {
		send_bytes(t->client, buf + sent, 65536, NULL, 0);
		assert_int_equal(vfu_process(t->srv), 0);
	}
	assert_true(receive_message(t->client, &m));
	assert_int_equal(m.hdr.error, EINVAL);	/* the BAR is smaller */
	memset(buf, 0x77, sizeof(buf));
	assert_int_equal(region_write(t, VFU_BAR2, 0, buf, 8000), 0);
	assert_int_equal(pread(t->bar2_fd, m.payload, 8000, 0), 8000);
	assert_memory_equal(m.payload, buf, 8000);
}

/* Bytes of callbacks, shared memory, MSI-X table and pending bits in one access. */
static void mixed_access(void **state)
{
	struct fixture *t = *state;
	uint8_t buf[4096], in[4096];
	uint32_t v;

	memset(buf, 0xa5, sizeof(buf));
	/* sparse BAR: 16 bytes before and after the start of area 0 */
	assert_int_equal(region_write(t, VFU_BAR4, 4 * PAGE - 16, buf, 32), 0);
	assert_int_equal(t->last_offset, 4 * PAGE - 16);
	assert_int_equal(t->last_len, 16);
	assert_memory_equal(t->regs + 4 * PAGE - 16, buf, 16);
	assert_int_equal(t->regs[4 * PAGE], 0);
	assert_int_equal(pread(t->bar4_fd, in, 32, BAR4_FD_OFFSET + 4 * PAGE), 32);
	assert_memory_equal(in, buf, 16);
	assert_int_equal(in[16], 0);
	assert_int_equal(region_read(t, VFU_BAR4, 4 * PAGE - 16, in, 33), 0);
	assert_memory_equal(in, buf, 32);
	assert_int_equal(in[32], 0);
	/* end of area 0 */
	assert_int_equal(region_write(t, VFU_BAR4, 12 * PAGE - 4, buf, 8), 0);
	assert_int_equal(t->last_offset, 12 * PAGE);
	assert_int_equal(t->last_len, 4);

	/* table: kept, starts masked; callbacks see nothing of it */
	t->reads = 0;
	t->writes = 0;
	assert_int_equal(region_read(t, VFU_BAR0, TABLE_OFFSET + 12, &v, 4), 0);
	assert_int_equal(v, PCI_MSIX_ENTRY_CTRL_MASKBIT);
	assert_int_equal(region_write(t, VFU_BAR0, TABLE_OFFSET, buf, VECTORS * 16), 0);
	assert_int_equal(region_read(t, VFU_BAR0, TABLE_OFFSET, in, VECTORS * 16), 0);
	assert_memory_equal(in, buf, VECTORS * 16);
	/* pending bits: read-only zero */
	assert_int_equal(region_write(t, VFU_BAR0, PBA_OFFSET, buf, 8), 0);
	assert_int_equal(region_read(t, VFU_BAR0, PBA_OFFSET, in, 8), 0);
	assert_int_equal(in[0] | in[7], 0);
	assert_int_equal(t->reads + t->writes, 0);
	/* behind the table the callback is asked again */
	assert_int_equal(region_read(t, VFU_BAR0, TABLE_OFFSET + VECTORS * 16 - 4, in, 8), 0);
	assert_int_equal(t->reads, 1);
	assert_int_equal(t->last_offset, TABLE_OFFSET + VECTORS * 16);
	assert_int_equal(t->last_len, 4);
}

/* ---- config space ---- */

static unsigned int find_cap(struct fixture *t, uint8_t id)
{
	unsigned int pos = config_read(t, PCI_CAPABILITY_LIST, 1);
	unsigned int n;

	for (n = 0; pos && n < 48; n++, pos = config_read(t, pos + 1, 1))
		if (config_read(t, pos, 1) == id)
			return pos;
	return 0;
}

static void config_header(void **state)
{
	struct fixture *t = *state;
	uint8_t all[4096];
	unsigned int pos;

	assert_int_equal(config_read(t, 0, 4), 0x56781234);
	assert_int_equal(config_read(t, PCI_SUBSYSTEM_VENDOR_ID, 4), 0xdef09abc);
	assert_int_equal(config_read(t, PCI_CLASS_REVISION, 4), 0x02070003);
	assert_int_equal(config_read(t, PCI_HEADER_TYPE, 1), 0);
	assert_int_equal(config_read(t, PCI_STATUS, 2), PCI_STATUS_CAP_LIST);
	assert_int_equal(config_read(t, PCI_INTERRUPT_PIN, 1), 0);
	assert_int_equal(region_read(t, 7, 0, all, sizeof(all)), 0);
	assert_int_equal(all[0x100] | all[0x101] | all[0x102] | all[0x103], 0);

	/* read-only: identity, status, capabilities */
	config_write(t, 0, 0xffffffff, 4);
	config_write(t, PCI_CLASS_REVISION, 0, 4);
	config_write(t, PCI_STATUS, 0xffff, 2);
	config_write(t, PCI_CAPABILITY_LIST, 0xff, 1);
	config_write(t, PCI_SUBSYSTEM_VENDOR_ID, 0, 4);
	assert_int_equal(config_read(t, 0, 4), 0x56781234);
	assert_int_equal(config_read(t, PCI_CLASS_REVISION, 4), 0x02070003);
	assert_int_equal(config_read(t, PCI_STATUS, 2), PCI_STATUS_CAP_LIST);
	assert_int_equal(config_read(t, PCI_SUBSYSTEM_VENDOR_ID, 4), 0xdef09abc);
	config_write(t, PCI_INTERRUPT_LINE, 0x1b, 1);
	assert_int_equal(config_read(t, PCI_INTERRUPT_LINE, 1), 0x1b);

	pos = find_cap(t, PCI_CAP_ID_EXP);
	assert_int_not_equal(pos, 0);
	assert_int_equal(config_read(t, pos + PCI_EXP_FLAGS, 2), 2);
	assert_true(config_read(t, pos + PCI_EXP_DEVCAP, 4) & PCI_EXP_DEVCAP_FLR);
	pos = find_cap(t, PCI_CAP_ID_MSIX);
	assert_int_not_equal(pos, 0);
	assert_int_equal(config_read(t, pos + PCI_MSIX_FLAGS, 2), VECTORS - 1);
	assert_int_equal(config_read(t, pos + PCI_MSIX_TABLE, 4), TABLE_OFFSET);
	assert_int_equal(config_read(t, pos + PCI_MSIX_PBA, 4), PBA_OFFSET);
	config_write(t, pos, 0xffffffff, 4);
	assert_int_equal(config_read(t, pos + PCI_MSIX_FLAGS, 2),
			 (VECTORS - 1) | PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	config_write(t, pos + PCI_MSIX_TABLE, 0xffffffff, 4);
	assert_int_equal(config_read(t, pos + PCI_MSIX_TABLE, 4), TABLE_OFFSET);
	assert_int_not_equal(find_cap(t, PCI_CAP_ID_PM), 0);
}

static void bar_sizing(void **state)
{
	struct fixture *t = *state;
	unsigned int i;

	for (i = 0; i < 6; i++)
		config_write(t, PCI_BASE_ADDRESS_0 + 4 * i, 0xffffffff, 4);
	assert_int_equal(config_read(t, PCI_BASE_ADDRESS_0, 4), (uint32_t)~(BAR0_SIZE - 1));
	assert_int_equal(config_read(t, PCI_BASE_ADDRESS_1, 4), 0);
	assert_int_equal(config_read(t, PCI_BASE_ADDRESS_2, 4), (uint32_t)~(BAR2_SIZE - 1) | 0xc);
	assert_int_equal(config_read(t, PCI_BASE_ADDRESS_3, 4), 0xffffffff);
	assert_int_equal(config_read(t, PCI_BASE_ADDRESS_4, 4), (uint32_t)~(BAR4_SIZE - 1));
	assert_int_equal(config_read(t, PCI_BASE_ADDRESS_5, 4), 0);
	config_write(t, PCI_BASE_ADDRESS_2, 0xfe012345, 4);
	config_write(t, PCI_BASE_ADDRESS_3, 0x12, 4);
	assert_int_equal(config_read(t, PCI_BASE_ADDRESS_2, 4), 0xfe00000c);
	assert_int_equal(config_read(t, PCI_BASE_ADDRESS_3, 4), 0x12);
	/* a byte at a time */
	config_write(t, PCI_BASE_ADDRESS_0 + 3, 0xab, 1);
	assert_int_equal(config_read(t, PCI_BASE_ADDRESS_0, 4), 0xabffc000);
	config_write(t, PCI_ROM_ADDRESS, 0xffffffff, 4);
	assert_int_equal(config_read(t, PCI_ROM_ADDRESS, 4), 0);
}

static void command_register(void **state)
{
	struct fixture *t = *state;

	assert_false(vfu_bus_master(t->srv));
	config_write(t, PCI_COMMAND, 0xffff, 2);
	assert_int_equal(config_read(t, PCI_COMMAND, 2),
			 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY |
			 PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE);
	assert_true(vfu_bus_master(t->srv));
	assert_int_equal(t->bus_master, 1);
	config_write(t, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	assert_false(vfu_bus_master(t->srv));
	assert_int_equal(t->bus_master, 0);
}

static void power_states(void **state)
{
	struct fixture *t = *state;
	unsigned int pos = find_cap(t, PCI_CAP_ID_PM) + PCI_PM_CTRL;

	assert_int_equal(config_read(t, pos, 2), PCI_PM_CTRL_NO_SOFT_RESET);
	config_write(t, pos, 3, 2);
	assert_int_equal(config_read(t, pos, 2), PCI_PM_CTRL_NO_SOFT_RESET | 3);
	config_write(t, pos, 1, 2);
	assert_int_equal(config_read(t, pos, 2), PCI_PM_CTRL_NO_SOFT_RESET | 3);
	config_write(t, pos, 0, 2);
	assert_int_equal(config_read(t, pos, 2), PCI_PM_CTRL_NO_SOFT_RESET);
	assert_int_equal(t->resets[VFU_RESET_FLR], 0);
}

static void resets(void **state)
{
	struct fixture *t = *state;
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), mem = new_memfd(PAGE);
	unsigned int devctl = find_cap(t, PCI_CAP_ID_EXP) + PCI_EXP_DEVCTL;
	struct message m;
	uint32_t initial, v;

	assert_int_equal(dma_map(t, 0, PAGE, 3, mem, 0), 0);
	assert_int_equal(set_irqs(t, TRIGGER_FD, MSIX, 0, 1, &fd, 1), 0);
	config_write(t, PCI_COMMAND, PCI_COMMAND_MASTER, 2);
	config_write(t, PCI_BASE_ADDRESS_0, 0xfe000000, 4);
	initial = config_read(t, devctl, 2);
	config_write(t, devctl, initial | PCI_EXP_DEVCTL_CERE, 2);
	assert_int_equal(t->resets[VFU_RESET_FLR], 0);
	config_write(t, devctl, initial | PCI_EXP_DEVCTL_BCR_FLR, 2);
	assert_int_equal(t->resets[VFU_RESET_FLR], 1);
	assert_int_equal(t->bus_master, 0);
	assert_false(vfu_bus_master(t->srv));
	assert_int_equal(config_read(t, PCI_COMMAND, 2), 0);
	assert_int_equal(config_read(t, PCI_BASE_ADDRESS_0, 4), 0);
	assert_int_equal(config_read(t, devctl, 2), initial);
	/* by its upper byte alone, and within a longer write */
	config_write(t, devctl + 1, PCI_EXP_DEVCTL_BCR_FLR >> 8, 1);
	assert_int_equal(t->resets[VFU_RESET_FLR], 2);
	v = PCI_EXP_DEVCTL_BCR_FLR;
	config_write(t, devctl, v, 4);
	assert_int_equal(t->resets[VFU_RESET_FLR], 3);

	config_write(t, PCI_COMMAND, PCI_COMMAND_MASTER, 2);
	assert_int_equal(call(t, &m, VFU_DEVICE_RESET, NULL, 0), 0);
	assert_int_equal(m.len, 0);
	assert_int_equal(t->resets[VFU_RESET_DEVICE], 1);
	assert_false(vfu_bus_master(t->srv));

	/* maps and eventfds belong to the client and survive */
	assert_int_equal(dma_map_read(t->dma, NULL, 0, &v, 4), 0);
	assert_int_equal(vfu_irq_trigger(t->srv, 0), 0);
	close(fd);
	close(mem);
}

/* ---- DMA ---- */

static void dma(void **state)
{
	struct dma_map_stats stats;
	struct fixture *t = *state;
	int fd = new_memfd(16 * PAGE), ro;
	char name[64];
	uint32_t v = 0x12345678;

	assert_int_equal(pwrite(fd, &v, 4, 5 * PAGE), 4);
	assert_int_equal(dma_map(t, 0x100000, 8 * PAGE, 3, fd, 4 * PAGE), 0);
	v = 0;
	assert_int_equal(dma_map_read(t->dma, NULL, 0x101000, &v, 4), 0);
	assert_int_equal(v, 0x12345678);
	v = 0x87654321;
	assert_int_equal(dma_map_write(t->dma, NULL, 0x100000, &v, 4), 0);
	assert_int_equal(pread(fd, &v, 4, 4 * PAGE), 4);
	assert_int_equal(v, 0x87654321);
	/* "mmap" said aloud; read-only */
	assert_int_equal(dma_map(t, 0x200000, PAGE, 1 | 4, fd, 0), 0);
	assert_int_equal(dma_map_write(t->dma, NULL, 0x200000, &v, 4), -EFAULT);
	/* without a file */
	assert_int_equal(dma_map(t, 0x300000, PAGE, 3, -1, 0), 0);
	assert_int_equal(dma_map_read(t->dma, NULL, 0x300000, &v, 4), -EFAULT);

	assert_int_equal(dma_map(t, 0x100000, PAGE, 3, fd, 0), EEXIST);
	assert_int_equal(dma_map(t, 0x300000, PAGE, 3, fd, 0), EEXIST);
	assert_int_equal(dma_map(t, 0x400000, PAGE, 3 | 4, -1, 0), EINVAL);
	assert_int_equal(dma_map(t, 0x400000, PAGE, 3 | 8, fd, 0), EOPNOTSUPP);
	assert_int_equal(dma_map(t, 0x400000, PAGE, 3 | 16, fd, 0), EINVAL);
	assert_int_equal(dma_map(t, 0x400000, PAGE, 0, fd, 0), EINVAL);
	assert_int_equal(dma_map(t, 0x400000, 0, 3, fd, 0), EINVAL);
	assert_int_equal(dma_map(t, UINT64_MAX, 2, 3, fd, 0), EINVAL);
	assert_int_equal(dma_map(t, 0x400000, 17 * PAGE, 3, fd, 0), EINVAL);
	assert_int_equal(dma_map(t, 0x400000, PAGE, 3, t->client, 0), EINVAL);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	ro = open(name, O_RDONLY);
	if (ro >= 0) {
		assert_int_equal(dma_map(t, 0x400000, PAGE, 3, ro, 0), EACCES);
		close(ro);
	}

	/* nothing, half a map, a superset, the size 0, all */
	assert_int_equal(dma_unmap(t, 0x500000, PAGE, 0), 0);
	assert_int_equal(dma_unmap(t, 0x104000, 4 * PAGE, 0), 0);
	assert_int_equal(dma_map_read(t->dma, NULL, 0x103ffc, &v, 4), 0);
	assert_int_equal(dma_map_read(t->dma, NULL, 0x104000, &v, 4), -EFAULT);
	assert_int_equal(dma_unmap(t, 0, 0x200000, 0), 0);
	assert_int_equal(dma_map_read(t->dma, NULL, 0x100000, &v, 4), -EFAULT);
	assert_int_equal(dma_map_read(t->dma, NULL, 0x200000, &v, 4), 0);
	assert_int_equal(dma_unmap(t, 0, 0, 0), EINVAL);
	assert_int_equal(dma_unmap(t, 0, UINT64_C(1) << 63, 1), EINVAL);
	assert_int_equal(dma_unmap(t, 0, UINT64_C(1) << 63, 0), 0);
	assert_int_equal(dma_unmap(t, UINT64_C(1) << 63, UINT64_C(1) << 63, 0), 0);
	dma_map_get_stats(t->dma, &stats);
	assert_int_equal(stats.maps, 0);
	assert_int_equal(dma_map(t, 0x100000, 8 * PAGE, 3, fd, 4 * PAGE), 0);
	assert_int_equal(dma_unmap(t, 0, 0, 2), 0);
	dma_map_get_stats(t->dma, &stats);
	assert_int_equal(stats.maps, 0);
	assert_int_equal(stats.files, 0);
	close(fd);
}

static void unmap_reply_waits_for_copy(void **state)
{
	struct vfu_dma_unmap req = { .argsz = sizeof(req), .size = PAGE };
	struct fixture *t = *state;
	int fd = new_memfd(PAGE);
	pthread_t thread;
	struct pollfd pfd = { .fd = t->client, .events = POLLIN };
	struct message m;
	void *p, *ret;

	assert_int_equal(dma_map(t, 0, PAGE, 3, fd, 0), 0);
	assert_int_equal(pthread_create(&thread, NULL, run_server, t->srv), 0);
	dma_map_read_lock(t->dma);
	assert_int_equal(dma_map_translate(t->dma, NULL, 0, 8, 3, &p), 8);
	make_message(&m, VFU_DMA_UNMAP, &req, sizeof(req));
	send_message(t->client, &m);
	assert_int_equal(poll(&pfd, 1, 100), 0);
	*(volatile uint64_t *)p = 1;
	dma_map_read_unlock(t->dma);
	assert_true(receive_message(t->client, &m));
	assert_int_equal(m.hdr.flags, VFU_F_TYPE_REPLY);
	vfu_stop(t->srv);
	pthread_join(thread, &ret);
	assert_null(ret);
	close(fd);
}

/* ---- interrupts ---- */

static uint64_t drain(int fd)
{
	uint64_t n = 0;

	return read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

static void irq_info(void **state)
{
	struct vfu_irq_info info;
	struct fixture *t = *state;
	struct message m;
	uint32_t i;

	for (i = 0; i < 3; i++) {
		info = (struct vfu_irq_info){ .argsz = sizeof(info), .index = i };
		assert_int_equal(call(t, &m, VFU_DEVICE_GET_IRQ_INFO, &info, sizeof(info)), 0);
		assert_int_equal(m.len, sizeof(info));
		memcpy(&info, m.payload, sizeof(info));
		assert_int_equal(info.index, i);
		assert_int_equal(info.count, i == MSIX ? VECTORS : 0);
		assert_int_equal(info.flags, i == MSIX ? VFIO_IRQ_INFO_EVENTFD : 0);
	}
	info = (struct vfu_irq_info){ .argsz = sizeof(info), .index = 3 };
	assert_int_equal(call(t, &m, VFU_DEVICE_GET_IRQ_INFO, &info, sizeof(info)), EINVAL);
}

static void irqs(void **state)
{
	struct fixture *t = *state;
	struct vfu_stats stats;
	unsigned int i;
	int fd[16], flags;

	for (i = 0; i < 16; i++)
		fd[i] = eventfd(0, EFD_CLOEXEC | (i ? EFD_NONBLOCK : 0));
	assert_int_equal(vfu_irq_trigger(t->srv, 0), -ENOTCONN);
	assert_int_equal(vfu_irq_trigger(t->srv, VECTORS), -EINVAL);

	/* as QEMU begins: one without a descriptor, then off, then some, then more */
	assert_int_equal(set_irqs(t, TRIGGER_FD, MSIX, 0, 1, NULL, 0), 0);
	assert_int_equal(set_irqs(t, TRIGGER_NONE, MSIX, 0, 0, NULL, 0), 0);
	assert_int_equal(set_irqs(t, TRIGGER_NONE, VFIO_PCI_INTX_IRQ_INDEX, 0, 0, NULL, 0), 0);
	assert_int_equal(set_irqs(t, TRIGGER_FD, MSIX, 0, 1, fd, 1), 0);
	assert_int_equal(vfu_irq_trigger(t->srv, 0), 0);
	assert_int_equal(vfu_irq_trigger(t->srv, 0), 0);
	/* a writer must never block, so the server made it so */
	flags = fcntl(fd[0], F_GETFL);
	assert_true(flags & O_NONBLOCK);
	assert_int_equal(drain(fd[0]), 2);
	assert_int_equal(set_irqs(t, TRIGGER_FD, MSIX, 0, 16, fd, 16), 0);
	assert_int_equal(vfu_irq_trigger(t->srv, 15), 0);
	assert_int_equal(drain(fd[15]), 1);
	assert_int_equal(set_irqs(t, TRIGGER_FD, MSIX, VECTORS - 1, 1, fd + 3, 1), 0);
	assert_int_equal(vfu_irq_trigger(t->srv, VECTORS - 1), 0);
	assert_int_equal(drain(fd[3]), 1);

	/* triggered by the client */
	assert_int_equal(set_irqs(t, TRIGGER_NONE, MSIX, 4, 2, NULL, 0), 0);
	assert_int_equal(drain(fd[4]), 1);
	assert_int_equal(drain(fd[5]), 1);

	/* some taken away, then all */
	assert_int_equal(set_irqs(t, TRIGGER_FD, MSIX, 1, 2, NULL, 0), 0);
	assert_int_equal(vfu_irq_trigger(t->srv, 2), -ENOTCONN);
	assert_int_equal(vfu_irq_trigger(t->srv, 3), 0);
	assert_int_equal(set_irqs(t, TRIGGER_NONE, MSIX, 0, 0, NULL, 0), 0);
	assert_int_equal(vfu_irq_trigger(t->srv, 3), -ENOTCONN);
	assert_int_equal(drain(fd[2]), 0);

	vfu_get_stats(t->srv, &stats);
	assert_int_equal(stats.irqs, 7);
	assert_int_equal(stats.irqs_dropped, 3);
	for (i = 0; i < 16; i++)
		close(fd[i]);
}

static void irq_bools(void **state)
{
	struct {
		struct vfu_irq_set set;
		uint8_t on[3];
	} __attribute__((packed)) req = {
		.set = { .argsz = sizeof(req), .flags = TRIGGER_BOOL, .index = MSIX, .count = 3 },
		.on = { 1, 0, 1 },
	};
	struct fixture *t = *state;
	struct message m;
	int fd[3], i;

	for (i = 0; i < 3; i++)
		fd[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_int_equal(set_irqs(t, TRIGGER_FD, MSIX, 0, 3, fd, 3), 0);
	assert_int_equal(call(t, &m, VFU_DEVICE_SET_IRQS, &req, sizeof(req)), 0);
	for (i = 0; i < 3; i++) {
		assert_int_equal(drain(fd[i]), i != 1);
		close(fd[i]);
	}
}

static void bad_irqs(void **state)
{
	struct fixture *t = *state;
	int fd[2] = { eventfd(0, EFD_NONBLOCK), -1 }, pipe_fd[2];

	assert_int_equal(pipe(pipe_fd), 0);
	assert_int_equal(set_irqs(t, TRIGGER_FD, MSIX, 0, 1, fd, 1), 0);

	assert_int_equal(set_irqs(t, TRIGGER_FD, 3, 0, 1, fd, 1), EINVAL);
	assert_int_equal(set_irqs(t, TRIGGER_FD, VFIO_PCI_MSI_IRQ_INDEX, 0, 1, fd, 1), EINVAL);
	assert_int_equal(set_irqs(t, TRIGGER_FD, MSIX, VECTORS, 1, fd, 1), EINVAL);
	assert_int_equal(set_irqs(t, TRIGGER_FD, MSIX, UINT32_MAX, 1, fd, 1), EINVAL);
	assert_int_equal(set_irqs(t, TRIGGER_FD, MSIX, 1, VECTORS, NULL, 0), EINVAL);
	assert_int_equal(set_irqs(t, TRIGGER_NONE, MSIX, 1, UINT32_MAX, NULL, 0), EINVAL);
	assert_int_equal(set_irqs(t, 0, MSIX, 0, 1, NULL, 0), EINVAL);
	assert_int_equal(set_irqs(t, 0xff00 | TRIGGER_NONE, MSIX, 0, 1, NULL, 0), EINVAL);
	assert_int_equal(set_irqs(t, TRIGGER_NONE | VFIO_IRQ_SET_DATA_EVENTFD, MSIX, 0, 1, NULL, 0),
			 EINVAL);
	assert_int_equal(set_irqs(t, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK, MSIX, 0, 1,
				  NULL, 0), EINVAL);
	assert_int_equal(set_irqs(t, TRIGGER_NONE | VFIO_IRQ_SET_ACTION_MASK, MSIX, 0, 1, NULL, 0),
			 EINVAL);

	/* descriptors that could block or hurt; the first of two being good changes nothing */
	fd[1] = pipe_fd[1];
	assert_int_equal(set_irqs(t, TRIGGER_FD, MSIX, 0, 2, fd, 2), EINVAL);
	fd[1] = t->bar2_fd;
	assert_int_equal(set_irqs(t, TRIGGER_FD, MSIX, 0, 2, fd, 2), EINVAL);
	fd[1] = t->client;
	assert_int_equal(set_irqs(t, TRIGGER_FD, MSIX, 1, 1, fd + 1, 1), EINVAL);
	assert_int_equal(vfu_irq_trigger(t->srv, 1), -ENOTCONN);
	assert_int_equal(vfu_irq_trigger(t->srv, 0), 0);
	assert_int_equal(drain(fd[0]), 1);

	close(fd[0]);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

struct trigger_thread {
	struct vfu_server *srv;
	atomic_bool stop;
};

static void *trigger_loop(void *arg)
{
	struct trigger_thread *tt = arg;

	while (!atomic_load(&tt->stop))
		vfu_irq_trigger(tt->srv, 0);
	return NULL;
}

static void irq_race(void **state)
{
	struct fixture *t = *state;
	struct trigger_thread tt = { .srv = t->srv };
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), i;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, trigger_loop, &tt), 0);
	for (i = 0; i < 1000; i++) {
		assert_int_equal(set_irqs(t, TRIGGER_FD, MSIX, 0, 1, &fd, 1), 0);
		assert_int_equal(set_irqs(t, TRIGGER_NONE, MSIX, 0, 0, NULL, 0), 0);
	}
	atomic_store(&tt.stop, true);
	pthread_join(thread, NULL);
	close(fd);
}

/* ---- description ---- */

static void description(void **state)
{
	const struct vfu_area bad_areas[][2] = {
		{ { 0, 100 } }, { { 100, PAGE } }, { { 0, 0 } }, { { 0, 8 * PAGE } },
		{ { 4 * PAGE, PAGE } }, { { PAGE, 2 * PAGE }, { 2 * PAGE, PAGE } },
		{ { 2 * PAGE, PAGE }, { 0, PAGE } },
	};
	struct vfu_server *s = vfu_create(NULL, NULL);
	int fd = new_memfd(4 * PAGE), sock[2];
	struct vfu_area one = { PAGE, PAGE };
	unsigned int i;

	assert_non_null(s);
	assert_int_equal(vfu_pci_set_class(s, 0x1000000, 0), -EINVAL);
	assert_int_equal(vfu_region_set(s, VFU_NUM_BARS, PAGE, 0, NULL, NULL), -EINVAL);
	assert_int_equal(vfu_region_set(s, VFU_BAR0, 2048, 0, NULL, NULL), -EINVAL);
	assert_int_equal(vfu_region_set(s, VFU_BAR0, 3 * PAGE, 0, NULL, NULL), -EINVAL);
	assert_int_equal(vfu_region_set(s, VFU_BAR0, UINT64_C(1) << 32, 0, NULL, NULL), -EINVAL);
	assert_int_equal(vfu_region_set(s, VFU_BAR0, PAGE, 8, NULL, NULL), -EINVAL);
	assert_int_equal(vfu_region_set(s, VFU_BAR5, PAGE, VFU_REGION_64BIT, NULL, NULL), -EINVAL);
	assert_int_equal(vfu_region_set(s, VFU_BAR1, 4 * PAGE, 0, NULL, NULL), 0);
	assert_int_equal(vfu_region_set(s, VFU_BAR1, 4 * PAGE, 0, NULL, NULL), -EEXIST);
	assert_int_equal(vfu_region_set(s, VFU_BAR0, PAGE, VFU_REGION_64BIT, NULL, NULL), -EEXIST);
	assert_int_equal(vfu_region_set(s, VFU_BAR2, UINT64_C(1) << 36, VFU_REGION_64BIT, NULL, NULL), 0);
	assert_int_equal(vfu_region_set(s, VFU_BAR3, PAGE, 0, NULL, NULL), -EEXIST);

	for (i = 0; i < sizeof(bad_areas) / sizeof(bad_areas[0]); i++)
		assert_int_equal(vfu_region_set_mmap(s, VFU_BAR1, fd, 0, bad_areas[i],
						     bad_areas[i][1].size ? 2 : 1), -EINVAL);
	assert_int_equal(vfu_region_set_mmap(s, VFU_BAR1, fd, 100, &one, 1), -EINVAL);
	assert_int_equal(vfu_region_set_mmap(s, VFU_BAR1, fd, 3 * PAGE, &one, 1), -EINVAL);
	assert_int_equal(vfu_region_set_mmap(s, VFU_BAR2, fd, 0, NULL, 0), -EINVAL);
	assert_int_equal(vfu_region_set_mmap(s, VFU_BAR4, fd, 0, &one, 1), -EINVAL);
	assert_int_equal(vfu_region_set_mmap(s, VFU_BAR1, -1, 0, &one, 1), -EBADF);
	assert_int_equal(vfu_region_set_mmap(s, VFU_BAR1, fd, 0, &one, 1), 0);
	assert_int_equal(vfu_region_set_mmap(s, VFU_BAR1, fd, 0, &one, 1), -EEXIST);
	close(fd);

	assert_int_equal(vfu_pci_add_pm(s), 0);
	assert_int_equal(vfu_pci_add_pm(s), -EEXIST);
	assert_int_equal(vfu_pci_add_msix(s, 0, VFU_BAR1, 0, VFU_BAR1, 2048), -EINVAL);
	assert_int_equal(vfu_pci_add_msix(s, 2049, VFU_BAR1, 0, VFU_BAR1, 2048), -EINVAL);
	assert_int_equal(vfu_pci_add_msix(s, 4, VFU_BAR1, 4, VFU_BAR1, 2048), -EINVAL);
	/* in the mmap area: found out when the connection is set up */
	assert_int_equal(vfu_pci_add_msix(s, 4, VFU_BAR1, PAGE, VFU_BAR1, 2048), 0);
	assert_int_equal(vfu_pci_add_msix(s, 4, VFU_BAR1, 0, VFU_BAR1, 2048), -EEXIST);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sock), 0);
	assert_int_equal(vfu_adopt(s, sock[0]), -EINVAL);
	assert_int_equal(vfu_listen(s, "/tmp/never"), -EINVAL);
	vfu_destroy(s);

	/* table and pending bits overlap; table past the end; no such BAR */
	for (i = 0; i < 3; i++) {
		s = vfu_create(NULL, NULL);
		assert_int_equal(vfu_region_set(s, VFU_BAR1, PAGE, 0, NULL, NULL), 0);
		assert_int_equal(vfu_pci_add_msix(s, 4, i == 2 ? VFU_BAR2 : VFU_BAR1,
						  i == 1 ? PAGE - 56 : 0, VFU_BAR1, i ? 64 : 56), 0);
		assert_int_equal(vfu_adopt(s, sock[0]), -EINVAL);
		vfu_destroy(s);
	}

	s = vfu_create(NULL, NULL);
	fd = new_memfd(PAGE);
	assert_int_equal(vfu_adopt(s, fd), -EPERM);
	close(fd);
	assert_int_equal(vfu_adopt(s, fd), -EBADF);
	assert_int_equal(vfu_pci_add_pcie(s), 0);
	assert_int_equal(vfu_pci_add_pcie(s), -EEXIST);
	assert_int_equal(vfu_adopt(s, sock[0]), 0);
	assert_int_equal(vfu_pci_set_id(s, 1, 2, 3, 4), -EBUSY);
	assert_int_equal(vfu_pci_set_class(s, 0, 0), -EBUSY);
	assert_int_equal(vfu_pci_add_pcie(s), -EBUSY);
	assert_int_equal(vfu_pci_add_pm(s), -EBUSY);
	assert_int_equal(vfu_pci_add_msix(s, 1, VFU_BAR0, 0, VFU_BAR0, 16), -EBUSY);
	assert_int_equal(vfu_region_set(s, VFU_BAR1, PAGE, 0, NULL, NULL), -EBUSY);
	assert_int_equal(vfu_region_set_mmap(s, VFU_BAR1, 0, 0, NULL, 0), -EBUSY);
	assert_int_equal(vfu_adopt(s, sock[0]), -EBUSY);
	vfu_destroy(s);
	vfu_destroy(NULL);
	close(sock[1]);
}

/* Out of descriptors in each step. */
static void creation_fails(void **state)
{
	int open_fds = count_fds(), lowest = dup(0), got = 0;
	struct rlimit old, few;
	struct vfu_server *s;
	rlim_t i;

	close(lowest);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	for (i = 0; i < 3; i++) {
		few = (struct rlimit){ (rlim_t)lowest + i, old.rlim_max };
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
		errno = 0;
		s = vfu_create(NULL, NULL);
		if (!s)
			assert_int_equal(errno, EMFILE);
		got += !!s;
		vfu_destroy(s);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
		assert_int_equal(count_fds(), open_fds);
	}
	assert_true(got < 2);
}

/* The descriptor to poll says when there is something to do. */
static void event_loop(void **state)
{
	struct fixture *t = *state;
	struct pollfd pfd = { .fd = vfu_fd(t->srv), .events = POLLIN };
	struct message m;

	assert_int_equal(poll(&pfd, 1, 0), 0);
	make_message(&m, VFU_DEVICE_RESET, NULL, 0);
	send_message(t->client, &m);
	assert_int_equal(poll(&pfd, 1, 1000), 1);
	assert_int_equal(vfu_process(t->srv), 0);
	assert_true(receive_message(t->client, &m));
	assert_int_equal(poll(&pfd, 1, 0), 0);
	vfu_stop(t->srv);
	assert_int_equal(poll(&pfd, 1, 0), 1);
	assert_int_equal(vfu_process(t->srv), -ECANCELED);
	assert_int_equal(vfu_process(t->srv), 0);
}

/* No callbacks, no capabilities: reads as zero, has 256 bytes of config space. */
static void bare_device(void **state)
{
	struct fixture t = { 0 };
	struct vfu_region_info info;
	uint32_t v = 1;
	struct message m;
	int sock[2];

	t.srv = vfu_create(NULL, NULL);
	assert_int_equal(vfu_region_set(t.srv, VFU_BAR0, PAGE, 0, NULL, NULL), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sock), 0);
	assert_int_equal(vfu_adopt(t.srv, sock[1]), 0);
	t.client = sock[0];
	make_version(&m);
	assert_int_equal(transact(&t, &m), 0);
	assert_int_equal(region_info(&t, 7, 32, &m, &info), 0);
	assert_int_equal(info.size, 256);
	assert_int_equal(config_read(&t, PCI_STATUS, 2), 0);
	assert_int_equal(region_write(&t, 0, 0, &v, 4), 0);
	assert_int_equal(region_read(&t, 0, 0, &v, 4), 0);
	assert_int_equal(v, 0);
	config_write(&t, PCI_COMMAND, 0xffff, 2);
	assert_true(vfu_bus_master(t.srv));
	assert_int_equal(vfu_irq_trigger(t.srv, 0), -EINVAL);
	assert_int_equal(set_irqs(&t, TRIGGER_FD, MSIX, 0, 1, NULL, 0), EINVAL);
	assert_int_equal(call(&t, &m, VFU_DEVICE_RESET, NULL, 0), 0);
	vfu_destroy(t.srv);
	close(t.client);
}

#define T(name)		cmocka_unit_test_setup_teardown(name, setup, teardown)
#define T_RAW(name)	cmocka_unit_test_setup_teardown(name, setup_raw, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T_RAW(version),
		T_RAW(version_without_text),
		T(device_info),
		T(plain_regions),
		T(mmap_region),
		T(sparse_region),
		T(trapped_access),
		T(large_access),
		T(mixed_access),
		T(config_header),
		T(bar_sizing),
		T(command_register),
		T(power_states),
		T(resets),
		T(dma),
		T(unmap_reply_waits_for_copy),
		T(irq_info),
		T(irqs),
		T(irq_bools),
		T(bad_irqs),
		T(irq_race),
		cmocka_unit_test(description),
		cmocka_unit_test(creation_fails),
		T(event_loop),
		cmocka_unit_test(bare_device),
	};

	return cmocka_run_group_tests_name("vfio_user", tests, NULL, NULL);
}
