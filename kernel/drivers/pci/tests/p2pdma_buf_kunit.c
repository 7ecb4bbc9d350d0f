// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for the DMA-bufs behind user space mappings of PCI BARs
 *
 * They run on an ivshmem-plain device of QEMU without a driver, with a VMA that
 * looks like one made by mmap() of resource2 and an importer that does what
 * drivers do. The importing device is the ivshmem device itself, to which there
 * is always a route.
 */
#include <kunit/test.h>
#include <linux/dma-buf.h>
#include <linux/dma-resv.h>
#include <linux/file.h>
#include <linux/jiffies.h>
#include <linux/kref.h>
#include <linux/mm.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/pm_runtime.h>
#include <linux/scatterlist.h>
#include <linux/sizes.h>
#include <linux/workqueue.h>

#include "../pci.h"

#define IVSHMEM_DEVICE_ID	0x1110
#define IVSHMEM_REGISTER_BAR	0	/* 256 bytes */
#define IVSHMEM_MEMORY_BAR	2

#define VMA_START		0x7f0000000000UL
#define SHARED			(VM_READ | VM_WRITE | VM_MAYREAD | \
				 VM_MAYWRITE | VM_SHARED | VM_MAYSHARE)
#define PRIVATE			(VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE)

struct buf_test {
	struct pci_dev *pdev;
	struct vm_area_struct vma;
	struct dma_buf *dmabuf;
};

/* What to do when the exporter invalidates the mappings */
enum importer_kind {
	UNMAPS,
	UNMAPS_LATER,
	NOT_REVOCABLE,
};

struct importer {
	enum importer_kind kind;
	struct dma_buf_attachment *attach;
	struct sg_table *sgt;
	unsigned int invalidated;
	bool was_locked;
	struct delayed_work work;
};

static void importer_unmap(struct importer *imp)
{
	if (imp->sgt)
		dma_buf_unmap_attachment(imp->attach, imp->sgt,
					 DMA_BIDIRECTIONAL);
	imp->sgt = NULL;
}

static void importer_work(struct work_struct *work)
{
	struct importer *imp = container_of(to_delayed_work(work),
					    struct importer, work);

	dma_resv_lock(imp->attach->dmabuf->resv, NULL);
	importer_unmap(imp);
	dma_resv_unlock(imp->attach->dmabuf->resv);
}

static void importer_invalidate(struct dma_buf_attachment *attach)
{
	struct importer *imp = attach->importer_priv;

	imp->invalidated++;
	imp->was_locked = dma_resv_is_locked(attach->dmabuf->resv);
	if (imp->kind == UNMAPS)
		importer_unmap(imp);
	else
		schedule_delayed_work(&imp->work, HZ / 5);
}

static const struct dma_buf_attach_ops importer_ops = {
	.allow_peer2peer = true,
	.invalidate_mappings = importer_invalidate,
};

static const struct dma_buf_attach_ops not_revocable_ops = {
	.allow_peer2peer = true,
};

static const struct dma_buf_attach_ops not_peer2peer_ops = {
	.invalidate_mappings = importer_invalidate,
};

static void importer_detach(void *data)
{
	struct importer *imp = data;
	struct dma_buf *dmabuf = imp->attach->dmabuf;

	cancel_delayed_work_sync(&imp->work);
	dma_resv_lock(dmabuf->resv, NULL);
	importer_unmap(imp);
	dma_resv_unlock(dmabuf->resv);
	dma_buf_detach(dmabuf, imp->attach);
}

static struct importer *importer_attach(struct kunit *test, struct device *dev,
					enum importer_kind kind)
{
	struct buf_test *ctx = test->priv;
	struct importer *imp;

	imp = kunit_kzalloc(test, sizeof(*imp), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, imp);
	INIT_DELAYED_WORK(&imp->work, importer_work);
	imp->kind = kind;
	imp->attach = dma_buf_dynamic_attach(ctx->dmabuf, dev,
					     kind == NOT_REVOCABLE ?
					     &not_revocable_ops : &importer_ops,
					     imp);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, imp->attach);
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, importer_detach, imp));
	return imp;
}

static int importer_map(struct importer *imp)
{
	struct sg_table *sgt;

	sgt = dma_buf_map_attachment_unlocked(imp->attach, DMA_BIDIRECTIONAL);
	if (IS_ERR(sgt))
		return PTR_ERR(sgt);

	imp->sgt = sgt;
	return 0;
}

/* What dma_buf_pin() does, given back at once */
static int importer_pin(struct importer *imp)
{
	struct dma_buf *dmabuf = imp->attach->dmabuf;
	int ret;

	dma_resv_lock(dmabuf->resv, NULL);
	ret = dma_buf_pin(imp->attach);
	if (!ret)
		dma_buf_unpin(imp->attach);
	dma_resv_unlock(dmabuf->resv);
	return ret;
}

/*
 * mmap() of all of @bar, as far as the exporter can see it. It is not VM_PFNMAP: there
 * are no PTEs to take away, nor an mm.
 */
static void fake_mmap(struct kunit *test, int bar, vm_flags_t flags)
{
	struct buf_test *ctx = test->priv;
	struct vm_area_struct *vma = &ctx->vma;

	memset(vma, 0, sizeof(*vma));
	vma->vm_start = VMA_START;
	vma->vm_end = VMA_START +
		      PAGE_ALIGN(pci_resource_len(ctx->pdev, bar));
	vma->vm_pgoff = pci_resource_start(ctx->pdev, bar) >> PAGE_SHIFT;
	vm_flags_init(vma, flags);

	pci_p2pdma_buf_mmap(ctx->pdev, bar, vma);
	KUNIT_ASSERT_NOT_NULL(test, vma->vm_ops);
	KUNIT_ASSERT_NOT_NULL(test, vma->vm_ops->p2p_buf);
}

static int p2p_buf(struct buf_test *ctx, unsigned long addr,
		   struct dma_buf **dmabuf, u64 *offset)
{
	return ctx->vma.vm_ops->p2p_buf(&ctx->vma, addr, dmabuf, offset);
}

KUNIT_DEFINE_ACTION_WRAPPER(put_dma_buf, dma_buf_put, struct dma_buf *);

/* mmap() of the memory BAR, and a reference to the buffer behind it */
static void get_buf(struct kunit *test)
{
	struct buf_test *ctx = test->priv;
	u64 offset;

	fake_mmap(test, IVSHMEM_MEMORY_BAR, SHARED);
	KUNIT_ASSERT_EQ(test, 0,
			p2p_buf(ctx, VMA_START, &ctx->dmabuf, &offset));
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, put_dma_buf,
						  ctx->dmabuf));
}

static void expect_offset(struct kunit *test, unsigned long addr, u64 expected)
{
	struct buf_test *ctx = test->priv;
	struct dma_buf *dmabuf;
	u64 offset;
	int ret;

	ret = p2p_buf(ctx, addr, &dmabuf, &offset);
	KUNIT_EXPECT_EQ(test, 0, ret);
	if (ret)
		return;

	KUNIT_EXPECT_PTR_EQ(test, dmabuf, ctx->dmabuf);
	KUNIT_EXPECT_EQ(test, offset, expected);
	dma_buf_put(dmabuf);
}

static void test_offset(struct kunit *test)
{
	struct buf_test *ctx = test->priv;

	get_buf(test);
	KUNIT_EXPECT_EQ(test, ctx->dmabuf->size,
			pci_resource_len(ctx->pdev, IVSHMEM_MEMORY_BAR));

	expect_offset(test, VMA_START, 0);
	expect_offset(test, VMA_START + 1, 1);
	expect_offset(test, ctx->vma.vm_end - 1, ctx->dmabuf->size - 1);

	/* munmap() of the first two pages, mremap() of the rest */
	ctx->vma.vm_start += 2 * PAGE_SIZE;
	ctx->vma.vm_pgoff += 2;
	expect_offset(test, VMA_START + 2 * PAGE_SIZE, 2 * PAGE_SIZE);
	ctx->vma.vm_start -= PMD_SIZE;
	ctx->vma.vm_end -= PMD_SIZE;
	expect_offset(test, ctx->vma.vm_start + 7, 2 * PAGE_SIZE + 7);

	/* Another mmap() of the same BAR */
	fake_mmap(test, IVSHMEM_MEMORY_BAR, SHARED);
	expect_offset(test, VMA_START + PAGE_SIZE, PAGE_SIZE);
}

static void test_no_buffer(struct kunit *test)
{
	struct buf_test *ctx = test->priv;
	struct dma_buf *dmabuf = NULL;
	u64 offset = 42;

	/* Whether the BAR has a buffer does not matter to a private mapping. */
	fake_mmap(test, IVSHMEM_MEMORY_BAR, PRIVATE);
	KUNIT_EXPECT_EQ(test, -EACCES,
			p2p_buf(ctx, VMA_START, &dmabuf, &offset));
	get_buf(test);
	fake_mmap(test, IVSHMEM_MEMORY_BAR, PRIVATE);
	KUNIT_EXPECT_EQ(test, -EACCES,
			p2p_buf(ctx, VMA_START, &dmabuf, &offset));

	/* Does not fill the page that is mapped */
	KUNIT_ASSERT_FALSE(test,
			   PAGE_ALIGNED(pci_resource_len(ctx->pdev,
							 IVSHMEM_REGISTER_BAR)));
	fake_mmap(test, IVSHMEM_REGISTER_BAR, SHARED);
	KUNIT_EXPECT_EQ(test, -EFAULT,
			p2p_buf(ctx, VMA_START, &dmabuf, &offset));

	KUNIT_EXPECT_NULL(test, dmabuf);
	KUNIT_EXPECT_EQ(test, offset, 42);
}

static void test_map(struct kunit *test)
{
	struct buf_test *ctx = test->priv;
	struct scatterlist *sg;
	struct importer *imp;
	u64 addr;
	int i;

	get_buf(test);
	imp = importer_attach(test, &ctx->pdev->dev, UNMAPS);
	KUNIT_ASSERT_EQ(test, 0, importer_map(imp));

	addr = pci_bus_address(ctx->pdev, IVSHMEM_MEMORY_BAR);
	for_each_sgtable_dma_sg(imp->sgt, sg, i) {
		KUNIT_EXPECT_EQ(test, sg_dma_address(sg), addr);
		KUNIT_EXPECT_NULL(test, sg_page(sg));
		addr += sg_dma_len(sg);
	}
	KUNIT_EXPECT_EQ(test, addr,
			pci_bus_address(ctx->pdev, IVSHMEM_MEMORY_BAR) +
			ctx->dmabuf->size);
	/* No longer than they have to be */
	KUNIT_EXPECT_EQ(test, imp->sgt->nents,
			DIV_ROUND_UP(ctx->dmabuf->size, SZ_4G - PAGE_SIZE));
}

static void test_refused_importers(struct kunit *test)
{
	struct buf_test *ctx = test->priv;
	struct device *dev = &ctx->pdev->dev;
	struct importer *imp;

	get_buf(test);
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			PTR_ERR(dma_buf_attach(ctx->dmabuf, dev)));
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			PTR_ERR(dma_buf_dynamic_attach(ctx->dmabuf, dev,
						       &not_peer2peer_ops,
						       NULL)));

	/* Not PCI, so there is no route */
	imp = importer_attach(test, &platform_bus, UNMAPS);
	KUNIT_EXPECT_EQ(test, -EREMOTEIO, importer_map(imp));
}

static void test_decoding_off(struct kunit *test)
{
	struct buf_test *ctx = test->priv;
	struct importer *imp;
	u16 cmd;
	int ret;

	get_buf(test);
	imp = importer_attach(test, &ctx->pdev->dev, UNMAPS);

	pci_read_config_word(ctx->pdev, PCI_COMMAND, &cmd);
	pci_write_config_word(ctx->pdev, PCI_COMMAND,
			      cmd & ~PCI_COMMAND_MEMORY);
	ret = importer_map(imp);
	pci_write_config_word(ctx->pdev, PCI_COMMAND, cmd);

	KUNIT_EXPECT_EQ(test, ret, -ENODEV);
	KUNIT_EXPECT_EQ(test, 0, importer_map(imp));
}

static int usage_count(struct pci_dev *pdev)
{
	return atomic_read(&pdev->dev.power.usage_count);
}

static void test_stays_resumed(struct kunit *test)
{
	struct buf_test *ctx = test->priv;
	struct importer *imp;
	int idle;

	if (!IS_ENABLED(CONFIG_PM))
		kunit_skip(test, "no runtime PM");

	get_buf(test);
	idle = usage_count(ctx->pdev);

	imp = importer_attach(test, &ctx->pdev->dev, UNMAPS);
	KUNIT_EXPECT_EQ(test, usage_count(ctx->pdev), idle + 1);
	KUNIT_EXPECT_EQ(test, 0, importer_map(imp));
	KUNIT_EXPECT_FALSE(test, pm_runtime_suspended(&ctx->pdev->dev));

	kunit_release_action(test, importer_detach, imp);
	KUNIT_EXPECT_EQ(test, usage_count(ctx->pdev), idle);
}

static void expect_revoked(struct kunit *test, struct importer *imp)
{
	struct buf_test *ctx = test->priv;
	struct dma_buf_attachment *attach;

	KUNIT_EXPECT_EQ(test, imp->invalidated, 1);
	KUNIT_EXPECT_TRUE(test, imp->was_locked);
	KUNIT_EXPECT_NULL(test, imp->sgt);

	KUNIT_EXPECT_EQ(test, -ENODEV, importer_map(imp));
	attach = dma_buf_dynamic_attach(ctx->dmabuf, &ctx->pdev->dev,
					&importer_ops, NULL);
	KUNIT_EXPECT_EQ(test, -ENODEV, PTR_ERR(attach));
}

static void test_revoke(struct kunit *test)
{
	struct buf_test *ctx = test->priv;
	struct dma_buf *dmabuf;
	struct importer *imp;
	u64 offset;

	get_buf(test);
	imp = importer_attach(test, &ctx->pdev->dev, UNMAPS);
	KUNIT_ASSERT_EQ(test, 0, importer_map(imp));

	pci_p2pdma_buf_block(ctx->pdev);
	expect_revoked(test, imp);
	KUNIT_EXPECT_EQ(test, -ENODEV,
			p2p_buf(ctx, VMA_START, &dmabuf, &offset));

	/* Nothing is left to revoke, and nobody gets a new one */
	pci_p2pdma_buf_block(ctx->pdev);
	KUNIT_EXPECT_EQ(test, imp->invalidated, 1);
	pci_p2pdma_buf_unblock(ctx->pdev);
	fake_mmap(test, IVSHMEM_MEMORY_BAR, SHARED);
	KUNIT_EXPECT_EQ(test, -ENODEV,
			p2p_buf(ctx, VMA_START, &dmabuf, &offset));

	/* Then the old mapping of the BAR finds another buffer */
	pci_p2pdma_buf_unblock(ctx->pdev);
	KUNIT_ASSERT_EQ(test, 0, p2p_buf(ctx, VMA_START, &dmabuf, &offset));
	KUNIT_EXPECT_PTR_NE(test, dmabuf, ctx->dmabuf);
	dma_buf_put(dmabuf);
	get_buf(test);
	KUNIT_EXPECT_EQ(test, -ENODEV, importer_map(imp));
	imp = importer_attach(test, &ctx->pdev->dev, UNMAPS);
	KUNIT_EXPECT_EQ(test, 0, importer_map(imp));
}

/* As around a reset */
static void revoke(struct kunit *test)
{
	struct buf_test *ctx = test->priv;

	pci_p2pdma_buf_block(ctx->pdev);
	pci_p2pdma_buf_unblock(ctx->pdev);
}

static void test_revoke_waits(struct kunit *test)
{
	struct buf_test *ctx = test->priv;
	struct importer *imp, *other;

	get_buf(test);
	imp = importer_attach(test, &ctx->pdev->dev, UNMAPS);
	KUNIT_ASSERT_EQ(test, 0, importer_map(imp));
	other = importer_attach(test, &ctx->pdev->dev, UNMAPS_LATER);
	KUNIT_ASSERT_EQ(test, 0, importer_map(other));

	revoke(test);
	expect_revoked(test, imp);
	expect_revoked(test, other);
}

/* Bus addresses: there is no IOVA to take away, so only the importer can stop. */
static void test_refuses_what_cannot_be_revoked(struct kunit *test)
{
	struct buf_test *ctx = test->priv;
	struct importer *imp, *other;

	get_buf(test);
	imp = importer_attach(test, &ctx->pdev->dev, NOT_REVOCABLE);
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP, importer_map(imp));
	other = importer_attach(test, &ctx->pdev->dev, UNMAPS);
	KUNIT_ASSERT_EQ(test, 0, importer_map(other));

	revoke(test);
	expect_revoked(test, other);
	KUNIT_EXPECT_EQ(test, imp->invalidated, 0);
	KUNIT_EXPECT_EQ(test, -ENODEV, importer_map(imp));
}

/* A mapping that lives on must not be joined when the BAR cannot be used. */
static void test_pin(struct kunit *test)
{
	struct buf_test *ctx = test->priv;
	struct importer *imp;
	u16 cmd;
	int ret;

	get_buf(test);
	imp = importer_attach(test, &ctx->pdev->dev, UNMAPS_LATER);
	KUNIT_ASSERT_EQ(test, 0, importer_map(imp));
	KUNIT_EXPECT_EQ(test, 0, importer_pin(imp));

	pci_read_config_word(ctx->pdev, PCI_COMMAND, &cmd);
	pci_write_config_word(ctx->pdev, PCI_COMMAND,
			      cmd & ~PCI_COMMAND_MEMORY);
	ret = importer_pin(imp);
	pci_write_config_word(ctx->pdev, PCI_COMMAND, cmd);
	KUNIT_EXPECT_EQ(test, -ENODEV, ret);
	KUNIT_EXPECT_EQ(test, 0, importer_pin(imp));

	revoke(test);
	KUNIT_EXPECT_EQ(test, -ENODEV, importer_pin(imp));
}

static struct pci_dev *find_ivshmem(void)
{
	return pci_get_device(PCI_VENDOR_ID_REDHAT_QUMRANET, IVSHMEM_DEVICE_ID,
			      NULL);
}

static void test_remove(struct kunit *test)
{
	struct buf_test *ctx = test->priv;
	struct pci_dev *pdev = ctx->pdev;
	struct pci_bus *bus = pdev->bus;
	struct importer *imp;

	get_buf(test);
	imp = importer_attach(test, &pdev->dev, UNMAPS);
	KUNIT_ASSERT_EQ(test, 0, importer_map(imp));

	pci_lock_rescan_remove();
	pci_stop_and_remove_bus_device(pdev);
	pci_unlock_rescan_remove();
	expect_revoked(test, imp);

	/* The buffer keeps the device until the last importer is gone. */
	KUNIT_EXPECT_GT(test, kref_read(&pdev->dev.kobj.kref), 1);
	kunit_release_action(test, importer_detach, imp);
	kunit_release_action(test, put_dma_buf, ctx->dmabuf);
	flush_delayed_fput();
	KUNIT_EXPECT_EQ(test, kref_read(&pdev->dev.kobj.kref), 1);

	pci_lock_rescan_remove();
	pci_dev_put(pdev);
	pci_rescan_bus(bus);
	pci_unlock_rescan_remove();
	ctx->pdev = find_ivshmem();
	KUNIT_ASSERT_NOT_NULL(test, ctx->pdev);

	get_buf(test);
	imp = importer_attach(test, &ctx->pdev->dev, UNMAPS);
	KUNIT_EXPECT_EQ(test, 0, importer_map(imp));
}

static int buf_test_init(struct kunit *test)
{
	struct buf_test *ctx;

	ctx = kunit_kzalloc(test, sizeof(*ctx), GFP_KERNEL);
	if (!ctx)
		return -ENOMEM;
	test->priv = ctx;

	ctx->pdev = find_ivshmem();
	if (!ctx->pdev)
		kunit_skip(test, "no ivshmem-plain device");
	if (ctx->pdev->dev.driver)
		kunit_skip(test, "ivshmem-plain device is bound to a driver");

	return 0;
}

static void buf_test_exit(struct kunit *test)
{
	struct buf_test *ctx = test->priv;

	if (ctx && ctx->pdev) {
		revoke(test);
		pci_dev_put(ctx->pdev);
	}
}

static struct kunit_case buf_test_cases[] = {
	KUNIT_CASE(test_offset),
	KUNIT_CASE(test_no_buffer),
	KUNIT_CASE(test_map),
	KUNIT_CASE(test_refused_importers),
	KUNIT_CASE(test_decoding_off),
	KUNIT_CASE(test_stays_resumed),
	KUNIT_CASE(test_revoke),
	KUNIT_CASE(test_revoke_waits),
	KUNIT_CASE(test_refuses_what_cannot_be_revoked),
	KUNIT_CASE(test_pin),
	KUNIT_CASE(test_remove),
	{}
};

static struct kunit_suite buf_test_suite = {
	.name = "pci_p2pdma_buf",
	.init = buf_test_init,
	.exit = buf_test_exit,
	.test_cases = buf_test_cases,
};

kunit_test_suite(buf_test_suite);
