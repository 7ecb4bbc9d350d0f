// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * PCI config space (region 7): what a write may change, and what else it does.
 * QEMU emulates parts of it (BARs, MSI-X enable, some of PCIe) but reads all of
 * it when it starts, and passes on every write of the guest.
 */
#define _DEFAULT_SOURCE
#include <endian.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

#include "vfu_priv.h"

#define FIRST_CAP		0x40u
#define PM_CAP_SIZE		8u	/* PCI_PM_SIZEOF */
#define MSIX_CAP_SIZE		12u	/* PCI_CAP_MSIX_SIZEOF */
#define PCIE_CAP_SIZE		60u	/* version 2: up to and with Slot Status 2 */

#define COMMAND_WRITABLE	(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | \
				 PCI_COMMAND_PARITY | PCI_COMMAND_SERR | \
				 PCI_COMMAND_INTX_DISABLE)
#define DEVCTL_WRITABLE		(0x7fff & ~PCI_EXP_DEVCTL_AUX_PME)
#define DEVCTL_INITIAL		(PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_NOSNOOP_EN | \
				 PCI_EXP_DEVCTL_READRQ_512B)


static void put16(uint8_t *p, uint16_t v)
{
	v = htole16(v);
	memcpy(p, &v, sizeof(v));
}

static void put32(uint8_t *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof(v));
}

void vfu_pci_init(struct vfu_server *srv)
{
	struct vfu_config *cfg = &srv->config;

	cfg->size = VFU_CONFIG_SIZE;
	cfg->next_cap = FIRST_CAP;
	cfg->last_link = PCI_CAPABILITY_LIST;
	put16(cfg->writable + PCI_COMMAND, COMMAND_WRITABLE);
	cfg->writable[PCI_CACHE_LINE_SIZE] = 0xff;
	cfg->writable[PCI_INTERRUPT_LINE] = 0xff;
}

/* ---- description ---- */

int vfu_pci_set_id(struct vfu_server *srv, uint16_t vendor, uint16_t device,
		   uint16_t subsystem_vendor, uint16_t subsystem)
{
	uint8_t *p = srv->config.initial;

	if (srv->frozen)
		return -EBUSY;
	put16(p + PCI_VENDOR_ID, vendor);
	put16(p + PCI_DEVICE_ID, device);
	put16(p + PCI_SUBSYSTEM_VENDOR_ID, subsystem_vendor);
	put16(p + PCI_SUBSYSTEM_ID, subsystem);
	return 0;
}

int vfu_pci_set_class(struct vfu_server *srv, uint32_t class_code, uint8_t revision)
{
	if (srv->frozen)
		return -EBUSY;
	if (class_code > 0xffffff)
		return -EINVAL;
	put32(srv->config.initial + PCI_CLASS_REVISION, class_code << 8 | revision);
	return 0;
}

/* Puts the type bits and the size of BAR @index into its register(s). */
void vfu_pci_set_bar(struct vfu_server *srv, unsigned int index)
{
	const struct vfu_bar *bar = &srv->bars[index];
	unsigned int reg = PCI_BASE_ADDRESS_0 + 4 * index;
	uint64_t mask = ~(bar->size - 1);
	uint32_t type = PCI_BASE_ADDRESS_SPACE_MEMORY;

	if (bar->flags & VFU_REGION_PREFETCH)
		type |= PCI_BASE_ADDRESS_MEM_PREFETCH;
	if (bar->flags & VFU_REGION_64BIT) {
		type |= PCI_BASE_ADDRESS_MEM_TYPE_64;
		put32(srv->config.writable + reg + 4, (uint32_t)(mask >> 32));
	}
	put32(srv->config.initial + reg, type);
	put32(srv->config.writable + reg, (uint32_t)mask);
}

/* Appends a capability of @size bytes; returns its offset. */
static uint8_t add_cap(struct vfu_config *cfg, uint8_t id, unsigned int size)
{
	uint8_t pos = cfg->next_cap;

	cfg->initial[cfg->last_link] = pos;
	cfg->initial[pos + PCI_CAP_LIST_ID] = id;
	cfg->last_link = pos + PCI_CAP_LIST_NEXT;
	cfg->next_cap = (uint8_t)((pos + size + 3) & ~3u);
	cfg->initial[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	return pos;
}

int vfu_pci_add_pcie(struct vfu_server *srv)
{
	struct vfu_config *cfg = &srv->config;
	uint8_t *p, *w;

	if (srv->frozen)
		return -EBUSY;
	if (cfg->pcie)
		return -EEXIST;

	cfg->pcie = add_cap(cfg, PCI_CAP_ID_EXP, PCIE_CAP_SIZE);
	cfg->size = VFU_CONFIG_SIZE_EXT;
	p = cfg->initial + cfg->pcie;
	w = cfg->writable + cfg->pcie;

	put16(p + PCI_EXP_FLAGS, 2 | PCI_EXP_TYPE_ENDPOINT << 4);
	put32(p + PCI_EXP_DEVCAP, PCI_EXP_DEVCAP_EXT_TAG | PCI_EXP_DEVCAP_RBER |
	      PCI_EXP_DEVCAP_FLR);
	put16(p + PCI_EXP_DEVCTL, DEVCTL_INITIAL);
	put16(w + PCI_EXP_DEVCTL, DEVCTL_WRITABLE);
	/* an x16 link of 16 GT/s, so that nothing reports a bottleneck */
	put32(p + PCI_EXP_LNKCAP, PCI_EXP_LNKCAP_SLS_16_0GB | 16 << 4);
	put16(p + PCI_EXP_LNKSTA, PCI_EXP_LNKSTA_CLS_16_0GB | 16 << 4);
	put16(w + PCI_EXP_LNKCTL, PCI_EXP_LNKCTL_RCB | PCI_EXP_LNKCTL_CCC |
	      PCI_EXP_LNKCTL_ES);
	put32(p + PCI_EXP_LNKCAP2, PCI_EXP_LNKCAP2_SLS_2_5GB | PCI_EXP_LNKCAP2_SLS_5_0GB |
	      PCI_EXP_LNKCAP2_SLS_8_0GB | PCI_EXP_LNKCAP2_SLS_16_0GB);
	put16(p + PCI_EXP_LNKCTL2, PCI_EXP_LNKCTL2_TLS_16_0GT);
	return 0;
}

int vfu_pci_add_pm(struct vfu_server *srv)
{
	struct vfu_config *cfg = &srv->config;

	if (srv->frozen)
		return -EBUSY;
	if (cfg->pm)
		return -EEXIST;

	cfg->pm = add_cap(cfg, PCI_CAP_ID_PM, PM_CAP_SIZE);
	put16(cfg->initial + cfg->pm + PCI_PM_PMC, 3);
	put16(cfg->initial + cfg->pm + PCI_PM_CTRL, PCI_PM_CTRL_NO_SOFT_RESET);
	put16(cfg->writable + cfg->pm + PCI_PM_CTRL, PCI_PM_CTRL_STATE_MASK);
	return 0;
}

int vfu_pci_add_msix(struct vfu_server *srv, unsigned int vectors,
		     enum vfu_region table_bar, uint32_t table_offset,
		     enum vfu_region pba_bar, uint32_t pba_offset)
{
	struct vfu_config *cfg = &srv->config;
	struct vfu_msix *msix = &srv->msix;
	uint8_t *table;
	int ret;

	if (srv->frozen)
		return -EBUSY;
	if (cfg->msix)
		return -EEXIST;
	if (!vectors || vectors > VFU_MAX_VECTORS || table_bar >= VFU_NUM_BARS ||
	    pba_bar >= VFU_NUM_BARS || table_offset % 8 || pba_offset % 8)
		return -EINVAL;

	table = calloc(vectors, VFU_MSIX_ENTRY);
	if (!table)
		return -ENOMEM;
	ret = vfu_irq_alloc(srv, vectors);
	if (ret) {
		free(table);
		return ret;
	}

	*msix = (struct vfu_msix){
		.vectors = vectors,
		.table_bar = table_bar,
		.table_offset = table_offset,
		.table_size = vectors * VFU_MSIX_ENTRY,
		.pba_bar = pba_bar,
		.pba_offset = pba_offset,
		.pba_size = (vectors + 63) / 64 * 8,
		.table = table,
	};

	cfg->msix = add_cap(cfg, PCI_CAP_ID_MSIX, MSIX_CAP_SIZE);
	put16(cfg->initial + cfg->msix + PCI_MSIX_FLAGS, (uint16_t)(vectors - 1));
	put16(cfg->writable + cfg->msix + PCI_MSIX_FLAGS,
	      PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	put32(cfg->initial + cfg->msix + PCI_MSIX_TABLE, table_offset | table_bar);
	put32(cfg->initial + cfg->msix + PCI_MSIX_PBA, pba_offset | pba_bar);
	return 0;
}

/* ---- operation ---- */

bool vfu_bus_master(const struct vfu_server *srv)
{
	return atomic_load_explicit(&srv->bus_master, memory_order_acquire);
}

static void update_bus_master(struct vfu_server *srv)
{
	bool on = srv->config.value[PCI_COMMAND] & PCI_COMMAND_MASTER;

	if (on == vfu_bus_master(srv))
		return;
	atomic_store_explicit(&srv->bus_master, on, memory_order_release);
	if (srv->ops.bus_master)
		srv->ops.bus_master(srv->ctx, on);
}

void vfu_pci_reset(struct vfu_server *srv)
{
	struct vfu_msix *msix = &srv->msix;
	unsigned int i;

	memcpy(srv->config.value, srv->config.initial, sizeof(srv->config.value));
	if (msix->vectors)
		memset(msix->table, 0, msix->table_size);
	for (i = 0; i < msix->vectors; i++)
		msix->table[i * VFU_MSIX_ENTRY + PCI_MSIX_ENTRY_VECTOR_CTRL] =
			PCI_MSIX_ENTRY_CTRL_MASKBIT;
	update_bus_master(srv);
}

void vfu_pci_read(struct vfu_server *srv, uint64_t offset, uint8_t *buf, size_t len)
{
	memcpy(buf, srv->config.value + offset, len);
}

void vfu_pci_write(struct vfu_server *srv, uint64_t offset, const uint8_t *buf, size_t len)
{
	struct vfu_config *cfg = &srv->config;
	uint8_t pm_before = cfg->value[cfg->pm + PCI_PM_CTRL];
	uint64_t flr_byte = cfg->pcie + PCI_EXP_DEVCTL + 1u;
	uint8_t pm_state;
	uint64_t pos;
	size_t i;

	for (i = 0; i < len; i++) {
		pos = offset + i;
		cfg->value[pos] = (uint8_t)((cfg->value[pos] & ~cfg->writable[pos]) |
					    (buf[i] & cfg->writable[pos]));
	}

	if (cfg->pm) {
		/* D1 and D2 do not exist; writing them changes nothing */
		pm_state = cfg->value[cfg->pm + PCI_PM_CTRL] & PCI_PM_CTRL_STATE_MASK;
		if (pm_state == 1 || pm_state == 2)
			cfg->value[cfg->pm + PCI_PM_CTRL] = pm_before;
	}

	update_bus_master(srv);

	if (cfg->pcie && offset <= flr_byte && flr_byte - offset < len &&
	    (buf[flr_byte - offset] & PCI_EXP_DEVCTL_BCR_FLR >> 8))
		vfu_do_reset(srv, VFU_RESET_FLR);
}
