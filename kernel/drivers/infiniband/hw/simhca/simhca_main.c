// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * simhca: the PCI function, the ib_device, and the net device it belongs to.
 *
 * The port has the GIDs of the net device with the same MAC address, which is another function
 * with a driver of its own. It may be there first, come later, go, and come back.
 */

#include <linux/etherdevice.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/module.h>
#include <net/addrconf.h>

#include "simhca.h"

MODULE_DESCRIPTION("Driver of the simulated HCA");
MODULE_LICENSE("Dual BSD/GPL");

static_assert(sizeof(struct simhca_uar) == SIMHCA_PAGE_SIZE);
static_assert(sizeof(struct simhca_seg_chunk) == SIMHCA_PAGE_SIZE);
static_assert(sizeof(struct simhca_cmd) == 128);
static_assert(sizeof(struct simhca_rsp) == 16);
static_assert(sizeof(struct simhca_sq_wqe) == 64);
static_assert(sizeof(struct simhca_rq_wqe) == 16);
static_assert(sizeof(struct simhca_mem_wqe) == 40);
static_assert(sizeof(struct simhca_cqe) == 32);
static_assert(sizeof(struct simhca_eqe) == 16);
static_assert(sizeof(struct simhca_dev_attr) <= SIMHCA_OUT_SIZE);
static_assert(sizeof(struct simhca_qp_attr) <= SIMHCA_OUT_SIZE);
static_assert(sizeof(struct simhca_srq_attr) <= SIMHCA_OUT_SIZE);
static_assert(sizeof(struct simhca_stats) <= SIMHCA_OUT_SIZE);
static_assert(SIMHCA_CMDQ_LOG_SIZE <= SIMHCA_CMDQ_MAX_LOG);
static_assert(SIMHCA_PAGE_SIZE == PAGE_SIZE);

#define SIMHCA_BARS	(BIT(SIMHCA_BAR_REGS) | BIT(SIMHCA_BAR_DB))

/* Adds the GIDs of the net device. What is there already stays as it is. */
static void simhca_rescan(struct work_struct *work)
{
	struct simhca_dev *dev = container_of(work, struct simhca_dev, rescan_work);
	struct net_device *ndev;

	rdma_roce_rescan_port(&dev->ibdev, SIMHCA_PORT);

	ndev = ib_device_get_netdev(&dev->ibdev, SIMHCA_PORT);
	if (ndev) {
		ib_dispatch_port_state_event(&dev->ibdev, ndev);
		dev_put(ndev);
	}
}

static void simhca_failed(struct work_struct *work)
{
	simhca_cq_comp_event_overdue(container_of(work, struct simhca_dev, fail_work), true);
}

static void simhca_pair(struct simhca_dev *dev, struct net_device *ndev)
{
	int err;

	if (dev->netdev || !ether_addr_equal(ndev->perm_addr, dev->mac))
		return;

	err = ib_device_set_netdev(&dev->ibdev, ndev, SIMHCA_PORT);
	if (err) {
		dev_warn(&dev->pdev->dev, "cannot pair with %s: %pe\n", ndev->name, ERR_PTR(err));
		return;
	}
	dev->netdev = ndev;
	/* ib_core may have looked for GIDs before this */
	if (dev->cmdq.registered)
		schedule_work(&dev->rescan_work);
}

static void simhca_unpair(struct simhca_dev *dev, struct net_device *ndev)
{
	if (dev->netdev != ndev)
		return;

	ib_device_set_netdev(&dev->ibdev, NULL, SIMHCA_PORT);
	dev->netdev = NULL;
}

/* Context: rtnl_lock. Registration and unregistration replay the events of all net devices. */
static int simhca_netdev_event(struct notifier_block *nb, unsigned long event, void *arg)
{
	struct simhca_dev *dev = container_of(nb, struct simhca_dev, netdev_nb);
	struct net_device *ndev = netdev_notifier_info_to_dev(arg);

	switch (event) {
	case NETDEV_REGISTER:
		simhca_pair(dev, ndev);
		break;
	case NETDEV_UNREGISTER:
		simhca_unpair(dev, ndev);
		break;
	}
	return NOTIFY_DONE;
}

static int simhca_query_caps(struct simhca_dev *dev)
{
	struct simhca_cmd cmd = { .opcode = cpu_to_le16(SIMHCA_CMD_QUERY_DEV) };
	struct simhca_caps *caps = &dev->caps;
	struct simhca_dev_attr attr;
	int err;

	err = simhca_cmd_query(dev, &cmd, &attr, sizeof(attr));
	if (err)
		return err;

	caps->fw_ver = le64_to_cpu(attr.fw_ver);
	caps->max_mr_size = le64_to_cpu(attr.max_mr_size);
	caps->max_qp = le32_to_cpu(attr.max_qp);
	caps->max_cq = le32_to_cpu(attr.max_cq);
	caps->max_mr = le32_to_cpu(attr.max_mr);
	caps->max_pd = le32_to_cpu(attr.max_pd);
	caps->max_srq = le32_to_cpu(attr.max_srq);
	caps->max_log_wr = le32_to_cpu(attr.max_log_wr);
	caps->max_log_cqe = le32_to_cpu(attr.max_log_cqe);
	caps->max_sge = le32_to_cpu(attr.max_sge);
	caps->max_inline = le32_to_cpu(attr.max_inline);
	caps->max_msg = le32_to_cpu(attr.max_msg);
	caps->max_rd_atomic = le32_to_cpu(attr.max_rd_atomic);
	caps->gid_table_len = le32_to_cpu(attr.gid_table_len);
	caps->max_eq = le32_to_cpu(attr.max_eq);
	caps->max_fast_segs = le32_to_cpu(attr.max_fast_segs);

	/* What the driver computes with must be in the range its types were chosen for */
	if (!caps->max_qp || !caps->max_cq || !caps->max_mr || !caps->max_pd ||
	    caps->max_qp > SIMHCA_MAX_QPS - 2 || caps->max_cq > SIMHCA_MAX_CQS - 1 ||
	    caps->max_mr > SIMHCA_MAX_MRS - 1 || caps->max_pd > SIMHCA_MAX_PDS - 1 ||
	    !caps->max_srq || caps->max_srq > SIMHCA_MAX_SRQS - 1 ||
	    caps->max_log_wr > SIMHCA_MAX_LOG_WR || caps->max_log_cqe > SIMHCA_MAX_LOG_CQE ||
	    caps->max_sge > SIMHCA_MAX_SGE || caps->max_inline > SIMHCA_MAX_INLINE ||
	    caps->max_rd_atomic > SIMHCA_MAX_RD_ATOMIC || !caps->gid_table_len ||
	    caps->gid_table_len > SIMHCA_GID_TABLE_LEN || caps->max_eq < dev->num_eqs ||
	    caps->max_fast_segs > SIMHCA_MAX_FAST_SEGS) {
		dev_err(&dev->pdev->dev, "device tells limits that are out of range\n");
		return -EPROTO;
	}
	return 0;
}

static int simhca_check_identity(struct simhca_dev *dev)
{
	u32 magic = readl(dev->regs + SIMHCA_REG_MAGIC);
	u32 version = readl(dev->regs + SIMHCA_REG_VERSION);
	u64 mac = lo_hi_readq(dev->regs + SIMHCA_REG_MAC);
	int i;

	if (magic != SIMHCA_MAGIC || version != SIMHCA_VERSION) {
		dev_err(&dev->pdev->dev, "magic %#x, version %u: not known to this driver\n",
			magic, version);
		return -ENODEV;
	}
	for (i = 0; i < ETH_ALEN; i++)
		dev->mac[i] = mac >> (8 * i);
	if (!is_valid_ether_addr(dev->mac)) {
		dev_err(&dev->pdev->dev, "invalid MAC address %pM\n", dev->mac);
		return -ENODEV;
	}
	return 0;
}

static int simhca_map_bars(struct simhca_dev *dev)
{
	struct pci_dev *pdev = dev->pdev;
	int err;

	if (pci_resource_len(pdev, SIMHCA_BAR_REGS) < SIMHCA_BAR_REGS_SIZE ||
	    pci_resource_len(pdev, SIMHCA_BAR_DB) < SIMHCA_BAR_DB_SIZE) {
		dev_err(&pdev->dev, "BARs are missing or too small\n");
		return -ENODEV;
	}
	err = pci_request_selected_regions(pdev, SIMHCA_BARS, KBUILD_MODNAME);
	if (err)
		return err;

	err = -ENOMEM;
	dev->regs = pci_ioremap_bar(pdev, SIMHCA_BAR_REGS);
	if (!dev->regs)
		goto err_regions;
	dev->db = pci_ioremap_bar(pdev, SIMHCA_BAR_DB);
	if (!dev->db)
		goto err_regs;
	return 0;

err_regs:
	iounmap(dev->regs);
err_regions:
	pci_release_selected_regions(pdev, SIMHCA_BARS);
	return err;
}

static void simhca_unmap_bars(struct simhca_dev *dev)
{
	iounmap(dev->db);
	iounmap(dev->regs);
	pci_release_selected_regions(dev->pdev, SIMHCA_BARS);
}

static void simhca_init_objects(struct simhca_dev *dev)
{
	ida_init(&dev->pds);
	ida_init(&dev->uars);
	simhca_uar_pool_init(&dev->kernel_uars, dev, NULL);
	xa_init_flags(&dev->mrs, XA_FLAGS_ALLOC);
	xa_init_flags(&dev->cqs, XA_FLAGS_ALLOC);
	xa_init_flags(&dev->srqs, XA_FLAGS_ALLOC);
	xa_init_flags(&dev->qps, XA_FLAGS_ALLOC);
	INIT_WORK(&dev->rescan_work, simhca_rescan);
	INIT_WORK(&dev->fail_work, simhca_failed);
	dev->netdev_nb.notifier_call = simhca_netdev_event;
}

static void simhca_destroy_objects(struct simhca_dev *dev)
{
	xa_destroy(&dev->qps);
	xa_destroy(&dev->srqs);
	xa_destroy(&dev->cqs);
	xa_destroy(&dev->mrs);
	simhca_uar_pool_cleanup(&dev->kernel_uars);
	ida_destroy(&dev->uars);
	ida_destroy(&dev->pds);
}

static int simhca_register(struct simhca_dev *dev)
{
	struct ib_device *ibdev = &dev->ibdev;
	int err;

	ibdev->node_type = RDMA_NODE_IB_CA;
	ibdev->phys_port_cnt = 1;
	ibdev->num_comp_vectors = dev->num_eqs - 1;
	ibdev->rereg_p2p_mr = 1;
	ibdev->dev.parent = &dev->pdev->dev;
	strscpy(ibdev->node_desc, "simhca", sizeof(ibdev->node_desc));
	addrconf_addr_eui48((u8 *)&ibdev->node_guid, dev->mac);
	simhca_set_ops(ibdev);

	/* Pairs with a net device that is there already */
	err = register_netdevice_notifier(&dev->netdev_nb);
	if (err)
		return err;

	err = ib_register_device(ibdev, "simhca%d", &dev->pdev->dev);
	if (err)
		goto err_notifier;

	simhca_cmdq_set_registered(dev, true);
	simhca_health_start(dev);
	/* For a net device that came while ib_register_device() was running */
	schedule_work(&dev->rescan_work);
	return 0;

err_notifier:
	unregister_netdevice_notifier(&dev->netdev_nb);
	cancel_work_sync(&dev->fail_work);
	return err;
}

static void simhca_unregister(struct simhca_dev *dev)
{
	simhca_cmdq_set_registered(dev, false);
	unregister_netdevice_notifier(&dev->netdev_nb);
	cancel_work_sync(&dev->rescan_work);
	ib_unregister_device(&dev->ibdev);
	simhca_health_stop(dev);
	/* Until then kernel users may post to a device that was given up */
	cancel_work_sync(&dev->fail_work);
}

static int simhca_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct simhca_dev *dev;
	int err;

	dev = ib_alloc_device(simhca_dev, ibdev);
	if (!dev)
		return -ENOMEM;
	dev->pdev = pdev;
	pci_set_drvdata(pdev, dev);
	simhca_init_objects(dev);

	err = pci_enable_device_mem(pdev);
	if (err)
		goto err_dealloc;

	err = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (err)
		goto err_disable;
	dma_set_max_seg_size(&pdev->dev, UINT_MAX);

	err = simhca_map_bars(dev);
	if (err)
		goto err_disable;

	err = simhca_check_identity(dev);
	if (err)
		goto err_bars;

	/* What an earlier kernel left must not run on when it may master again */
	simhca_dev_reset(dev);
	pci_set_master(pdev);
	err = simhca_cmdq_init(dev);
	if (err)
		goto err_master;

	err = simhca_eqs_init(dev);
	if (err)
		goto err_cmdq;

	err = simhca_query_caps(dev);
	if (err)
		goto err_eqs;

	err = simhca_eqs_start(dev);
	if (err)
		goto err_eqs;

	err = simhca_register(dev);
	if (err)
		goto err_stop;

	return 0;

err_stop:
	simhca_eqs_stop(dev);
err_eqs:
	simhca_eqs_cleanup(dev);
err_cmdq:
	simhca_cmdq_cleanup(dev);
err_master:
	pci_clear_master(pdev);
err_bars:
	simhca_unmap_bars(dev);
err_disable:
	pci_disable_device(pdev);
err_dealloc:
	simhca_destroy_objects(dev);
	ib_dealloc_device(&dev->ibdev);
	pci_set_drvdata(pdev, NULL);
	return err;
}

static void simhca_remove(struct pci_dev *pdev)
{
	struct simhca_dev *dev = pci_get_drvdata(pdev);

	/* It did not come back after a reset */
	if (!dev)
		return;

	/* Do not wait for commands of a device that was pulled out */
	if (!pci_device_is_present(pdev))
		simhca_dev_fail(dev, "it is gone");

	simhca_qps_stop(dev);
	simhca_unregister(dev);
	simhca_eqs_stop(dev);
	simhca_eqs_cleanup(dev);
	simhca_cmdq_cleanup(dev);
	pci_clear_master(pdev);
	simhca_unmap_bars(dev);
	pci_disable_device(pdev);
	simhca_destroy_objects(dev);
	ib_dealloc_device(&dev->ibdev);
	pci_set_drvdata(pdev, NULL);
}

/* The next kernel has other things in the memory that the device was given. */
static void simhca_shutdown(struct pci_dev *pdev)
{
	struct simhca_dev *dev = pci_get_drvdata(pdev);

	if (!dev)
		return;
	simhca_health_stop(dev);
	simhca_dev_reset(dev);
}

/* Context: these two as probe and remove. */
static void simhca_reset_prepare(struct pci_dev *pdev)
{
	struct simhca_dev *dev = pci_get_drvdata(pdev);

	if (dev)
		simhca_dev_fail(dev, "it is being reset");
}

/* Nothing in the device is as it was: to its users it was removed, and a new one has come. */
static void simhca_reset_done(struct pci_dev *pdev)
{
	int err;

	simhca_remove(pdev);
	err = simhca_probe(pdev, NULL);
	if (err)
		dev_err(&pdev->dev, "not usable after a reset: %pe\n", ERR_PTR(err));
}

static const struct pci_device_id simhca_pci_table[] = {
	{ PCI_DEVICE(SIMHCA_PCI_VENDOR_ID, SIMHCA_PCI_DEVICE_ID) },
	{ }
};
MODULE_DEVICE_TABLE(pci, simhca_pci_table);

static const struct pci_error_handlers simhca_err_handlers = {
	.reset_prepare = simhca_reset_prepare,
	.reset_done = simhca_reset_done,
};

static struct pci_driver simhca_pci_driver = {
	.name = KBUILD_MODNAME,
	.id_table = simhca_pci_table,
	.probe = simhca_probe,
	.remove = simhca_remove,
	.shutdown = simhca_shutdown,
	.err_handler = &simhca_err_handlers,
};
module_pci_driver(simhca_pci_driver);
