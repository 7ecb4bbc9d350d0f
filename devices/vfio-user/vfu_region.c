// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * BARs: their description, and accesses that come as messages. One access may
 * touch bytes of several owners (MSI-X table, pending bits, mmap()able memory,
 * callbacks); it is cut at their borders.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vfu_priv.h"

enum owner {
	OWNER_CALLBACK,
	OWNER_MEMORY,
	OWNER_MSIX_TABLE,
	OWNER_MSIX_PBA,
};

/* ---- description ---- */

static bool is_upper_half(const struct vfu_server *srv, unsigned int index)
{
	return index && (srv->bars[index - 1].flags & VFU_REGION_64BIT);
}

int vfu_region_set(struct vfu_server *srv, enum vfu_region index, uint64_t size,
		   unsigned int flags, const struct vfu_region_ops *ops, void *ctx)
{
	bool wide = flags & VFU_REGION_64BIT;
	struct vfu_bar *bar;

	if (srv->frozen)
		return -EBUSY;
	if (index >= VFU_NUM_BARS || (flags & ~(VFU_REGION_64BIT | VFU_REGION_PREFETCH)) ||
	    size < VFU_PAGE_SIZE || (size & (size - 1)) ||
	    (!wide && size > UINT32_C(1) << 31) || (wide && index == VFU_NUM_BARS - 1))
		return -EINVAL;

	bar = &srv->bars[index];
	if (bar->size || is_upper_half(srv, index) || (wide && bar[1].size))
		return -EEXIST;

	bar->size = size;
	bar->flags = flags;
	bar->ctx = ctx;
	if (ops)
		bar->ops = *ops;
	vfu_pci_set_bar(srv, index);
	return 0;
}

static bool areas_ok(const struct vfu_bar *bar, const struct vfu_area *areas,
		     unsigned int count)
{
	uint64_t end = 0;
	unsigned int i;

	for (i = 0; i < count; i++) {
		if (!areas[i].size || areas[i].size % VFU_PAGE_SIZE ||
		    areas[i].offset % VFU_PAGE_SIZE || areas[i].offset < end ||
		    areas[i].offset > bar->size ||
		    areas[i].size > bar->size - areas[i].offset)
			return false;
		end = areas[i].offset + areas[i].size;
	}
	return true;
}

int vfu_region_set_mmap(struct vfu_server *srv, enum vfu_region index, int fd,
			uint64_t fd_offset, const struct vfu_area *areas,
			unsigned int count)
{
	struct vfu_area whole;
	struct vfu_bar *bar;
	struct stat st;
	uint64_t end;
	void *mem;
	int copy;

	if (srv->frozen)
		return -EBUSY;
	if (index >= VFU_NUM_BARS)
		return -EINVAL;
	bar = &srv->bars[index];
	if (bar->fd != -1)
		return -EEXIST;
	if (!count) {
		whole = (struct vfu_area){ .size = bar->size };
		areas = &whole;
		count = 1;
	}
	if (count > VFU_MAX_AREAS || fd_offset % VFU_PAGE_SIZE || !areas_ok(bar, areas, count))
		return -EINVAL;

	end = areas[count - 1].offset + areas[count - 1].size;
	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) || fd_offset + end < end ||
	    (uint64_t)st.st_size < fd_offset + end)
		return -EINVAL;

	copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return -errno;
	mem = mmap(NULL, end, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, copy,
		   (off_t)fd_offset);
	if (mem == MAP_FAILED) {
		int err = errno;

		close(copy);
		return -err;
	}

	bar->fd = copy;
	bar->fd_offset = fd_offset;
	bar->num_areas = count;
	memcpy(bar->areas, areas, count * sizeof(*areas));
	bar->mem = mem;
	bar->mem_size = end;
	return 0;
}

/* Do @len bytes at @offset of BAR @index overlap what the client may mmap()? */
static bool hits_area(const struct vfu_bar *bar, uint64_t offset, uint64_t len)
{
	unsigned int i;

	for (i = 0; i < bar->num_areas; i++)
		if (offset < bar->areas[i].offset + bar->areas[i].size &&
		    bar->areas[i].offset < offset + len)
			return true;
	return false;
}

static bool msix_part_ok(const struct vfu_server *srv, unsigned int index,
			 uint64_t offset, uint64_t len)
{
	const struct vfu_bar *bar = &srv->bars[index];

	return bar->size && offset + len <= bar->size && !hits_area(bar, offset, len);
}

int vfu_region_validate(const struct vfu_server *srv)
{
	const struct vfu_msix *m = &srv->msix;

	if (!m->vectors)
		return 0;
	if (!msix_part_ok(srv, m->table_bar, m->table_offset, m->table_size) ||
	    !msix_part_ok(srv, m->pba_bar, m->pba_offset, m->pba_size))
		return -EINVAL;
	if (m->table_bar == m->pba_bar &&
	    m->table_offset < (uint64_t)m->pba_offset + m->pba_size &&
	    m->pba_offset < (uint64_t)m->table_offset + m->table_size)
		return -EINVAL;
	return 0;
}

void vfu_region_free(struct vfu_server *srv)
{
	struct vfu_bar *bar;

	for (bar = srv->bars; bar < srv->bars + VFU_NUM_BARS; bar++) {
		if (bar->fd == -1)
			continue;
		munmap(bar->mem, bar->mem_size);
		close(bar->fd);
	}
	free(srv->msix.table);
}

/* ---- access ---- */

/* Is [@offset, @offset + @len) inside region @index, BAR or config space? */
bool vfu_region_check(const struct vfu_server *srv, unsigned int index, uint64_t offset,
		      uint64_t len)
{
	uint64_t size;

	if (index == VFIO_PCI_CONFIG_REGION_INDEX)
		size = srv->config.size;
	else if (index < VFU_NUM_BARS)
		size = srv->bars[index].size;
	else
		return false;
	return len && offset < size && len <= size - offset;
}

/*
 * Is @offset in [@start, @start + @size)? Either way *@len is cut so that the bytes from
 * @offset on are all inside or all outside.
 */
static bool cut(uint64_t start, uint64_t size, uint64_t offset, size_t *len)
{
	if (offset < start) {
		if (start - offset < *len)
			*len = (size_t)(start - offset);
		return false;
	}
	if (offset - start >= size)
		return false;
	if (size - (offset - start) < *len)
		*len = (size_t)(size - (offset - start));
	return true;
}

/* Who owns the byte at @offset? Cuts *@len to what belongs to the same owner. */
static enum owner find_owner(const struct vfu_server *srv, unsigned int index,
			     uint64_t offset, size_t *len)
{
	const struct vfu_bar *bar = &srv->bars[index];
	const struct vfu_msix *m = &srv->msix;
	enum owner owner = OWNER_CALLBACK;
	unsigned int i;

	if (m->vectors && index == m->table_bar &&
	    cut(m->table_offset, m->table_size, offset, len))
		owner = OWNER_MSIX_TABLE;
	if (m->vectors && index == m->pba_bar &&
	    cut(m->pba_offset, m->pba_size, offset, len))
		owner = OWNER_MSIX_PBA;
	for (i = 0; i < bar->num_areas; i++)
		if (cut(bar->areas[i].offset, bar->areas[i].size, offset, len))
			owner = OWNER_MEMORY;
	return owner;
}

/*
 * Doorbells and flags in shared memory are polled by other threads, so what the
 * guest did in one access is done in one here.
 */
static void copy_once(void *dst, const void *src, size_t len)
{
	uintptr_t both = (uintptr_t)dst | (uintptr_t)src;

	if (len == 8 && !(both % 8))
		*(volatile uint64_t *)dst = *(const volatile uint64_t *)src;
	else if (len == 4 && !(both % 4))
		*(volatile uint32_t *)dst = *(const volatile uint32_t *)src;
	else if (len == 2 && !(both % 2))
		*(volatile uint16_t *)dst = *(const volatile uint16_t *)src;
	else
		memcpy(dst, src, len);
}

int vfu_region_read(struct vfu_server *srv, unsigned int index, uint64_t offset,
		    uint8_t *buf, size_t len)
{
	const struct vfu_bar *bar;
	size_t n;
	int ret;

	if (index == VFIO_PCI_CONFIG_REGION_INDEX) {
		vfu_pci_read(srv, offset, buf, len);
		return 0;
	}

	bar = &srv->bars[index];
	memset(buf, 0, len);
	for (; len; offset += n, buf += n, len -= n) {
		n = len;
		switch (find_owner(srv, index, offset, &n)) {
		case OWNER_MSIX_TABLE:
			memcpy(buf, srv->msix.table + (offset - srv->msix.table_offset), n);
			break;
		case OWNER_MSIX_PBA:
			/* nothing is ever pending here: masking is the client's */
			break;
		case OWNER_MEMORY:
			copy_once(buf, bar->mem + offset, n);
			break;
		case OWNER_CALLBACK:
			if (!bar->ops.read)
				break;
			ret = bar->ops.read(bar->ctx, offset, buf, n);
			if (ret)
				return ret;
			break;
		}
	}
	return 0;
}

int vfu_region_write(struct vfu_server *srv, unsigned int index, uint64_t offset,
		     const uint8_t *buf, size_t len)
{
	const struct vfu_bar *bar;
	size_t n;
	int ret;

	if (index == VFIO_PCI_CONFIG_REGION_INDEX) {
		vfu_pci_write(srv, offset, buf, len);
		return 0;
	}

	bar = &srv->bars[index];
	for (; len; offset += n, buf += n, len -= n) {
		n = len;
		switch (find_owner(srv, index, offset, &n)) {
		case OWNER_MSIX_TABLE:
			memcpy(srv->msix.table + (offset - srv->msix.table_offset), buf, n);
			break;
		case OWNER_MSIX_PBA:
			break;
		case OWNER_MEMORY:
			copy_once(bar->mem + offset, buf, n);
			break;
		case OWNER_CALLBACK:
			if (!bar->ops.write)
				break;
			ret = bar->ops.write(bar->ctx, offset, buf, n);
			if (ret)
				return ret;
			break;
		}
	}
	return 0;
}
