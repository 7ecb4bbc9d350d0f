// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests for the mapping of MMIO memory behind a dma-buf
 *
 * They run on devices of the machine: the exporter gives away memory of an
 * ivshmem-plain device of QEMU, which is nothing but a BAR full of memory, and
 * the importer is any PCI function without a driver whose route to it goes
 * through the host bridge. Only mappings are made and looked at, nothing is
 * transferred.
 *
 * Half of the cases need an importer behind a translating IOMMU, the other half
 * one that is not: boot with and without intel_iommu=on to run them all.
 */
#include <kunit/test.h>
#include <linux/dma-buf.h>
#include <linux/dma-buf-mapping.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/iommu.h>
#include <linux/pci.h>
#include <linux/pci-p2pdma.h>
#include <linux/sizes.h>
#include <trace/events/dma.h>
#include <trace/events/kmem.h>

#define IVSHMEM_DEVICE_ID	0x1110
#define IVSHMEM_MEMORY_BAR	2

/* Above what any IOMMU page table takes, and above the DMA mask set below */
#define UNMAPPABLE_ADDR		BIT_ULL(60)
#define WIDE_DMA_MASK		DMA_BIT_MASK(52)

#define MAX_RANGES		64
#define MAX_LIVE_MAPPINGS	16

/* One buffer of up to MAX_RANGES ranges, attached to the importer */
struct mapping_test {
	struct pci_dev *exporter;
	struct pci_dev *importer;
	struct p2pdma_provider provider;
	phys_addr_t bar;
	struct phys_vec ranges[MAX_RANGES];
	size_t nr_ranges;
	size_t size;
	u64 old_dma_mask;
	struct dma_buf *dmabuf;
	struct dma_buf_attachment *attach;
	struct sg_table *exported_sgt;	/* last one, as the exporter sees it */
};

KUNIT_DEFINE_ACTION_WRAPPER(put_pci_dev, pci_dev_put, struct pci_dev *);
KUNIT_DEFINE_ACTION_WRAPPER(put_dma_buf, dma_buf_put, struct dma_buf *);

static struct sg_table *exporter_map(struct dma_buf_attachment *attach,
				     enum dma_data_direction dir)
{
	struct mapping_test *ctx = attach->dmabuf->priv;

	ctx->exported_sgt = dma_buf_phys_vec_to_sgt(attach, &ctx->provider,
						    ctx->ranges,
						    ctx->nr_ranges, ctx->size,
						    dir);
	return ctx->exported_sgt;
}

static void exporter_release(struct dma_buf *dmabuf)
{
	/* Runs after the test is over, there is nothing left to look at */
}

static const struct dma_buf_ops exporter_ops = {
	.map_dma_buf = exporter_map,
	.unmap_dma_buf = dma_buf_free_sgt,
	.release = exporter_release,
};

static const struct dma_buf_attach_ops importer_ops = {
	.allow_peer2peer = true,
};

static void detach(void *data)
{
	struct dma_buf_attachment *attach = data;

	dma_buf_detach(attach->dmabuf, attach);
}

static struct dma_buf_attachment *attach_device(struct kunit *test,
						struct device *dev)
{
	struct mapping_test *ctx = test->priv;
	struct dma_buf_attachment *attach;

	attach = dma_buf_dynamic_attach(ctx->dmabuf, dev, &importer_ops, ctx);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, attach);
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, detach, attach));
	return attach;
}

static struct sg_table *map_buffer(struct dma_buf_attachment *attach)
{
	struct sg_table *sgt;

	dma_resv_lock(attach->dmabuf->resv, NULL);
	sgt = dma_buf_map_attachment(attach, DMA_BIDIRECTIONAL);
	dma_resv_unlock(attach->dmabuf->resv);
	return sgt;
}

static void unmap_buffer(struct dma_buf_attachment *attach, struct sg_table *sgt)
{
	dma_resv_lock(attach->dmabuf->resv, NULL);
	dma_buf_unmap_attachment(attach, sgt, DMA_BIDIRECTIONAL);
	dma_resv_unlock(attach->dmabuf->resv);
}

static int unlink_buffer(struct dma_buf_attachment *attach, struct sg_table *sgt)
{
	int ret;

	dma_resv_lock(attach->dmabuf->resv, NULL);
	ret = dma_buf_unlink_sgt(attach, sgt, DMA_BIDIRECTIONAL);
	dma_resv_unlock(attach->dmabuf->resv);
	return ret;
}

static void clear_ranges(struct mapping_test *ctx)
{
	ctx->nr_ranges = 0;
	ctx->size = 0;
}

static void append_range(struct mapping_test *ctx, phys_addr_t paddr, size_t len)
{
	ctx->ranges[ctx->nr_ranges++] = (struct phys_vec) {
		.paddr = paddr,
		.len = len,
	};
	ctx->size += len;
}

/* Neither in order nor adjacent, so that each has to be linked by itself */
static void append_scattered_ranges(struct mapping_test *ctx)
{
	append_range(ctx, ctx->bar + 8 * PAGE_SIZE, 4 * PAGE_SIZE);
	append_range(ctx, ctx->bar, PAGE_SIZE);
	append_range(ctx, ctx->bar + 32 * PAGE_SIZE, 2 * PAGE_SIZE);
}

static struct iommu_domain *importer_domain(struct mapping_test *ctx)
{
	return iommu_get_domain_for_dev(&ctx->importer->dev);
}

static bool importer_is_translated(struct mapping_test *ctx)
{
	struct iommu_domain *domain = importer_domain(ctx);

	return domain && iommu_is_dma_domain(domain);
}

static void require_iommu(struct kunit *test)
{
	if (!importer_is_translated(test->priv))
		kunit_skip(test, "importer is not behind a translating IOMMU");
}

static void require_no_iommu(struct kunit *test)
{
	if (importer_is_translated(test->priv))
		kunit_skip(test, "importer is behind a translating IOMMU");
}

static void restore_dma_mask(void *data)
{
	struct mapping_test *ctx = data;

	dma_set_mask(&ctx->importer->dev, ctx->old_dma_mask);
}

/* The importer has no driver that could mind */
static void set_dma_mask(struct kunit *test, u64 mask)
{
	struct mapping_test *ctx = test->priv;

	ctx->old_dma_mask = dma_get_mask(&ctx->importer->dev);
	KUNIT_ASSERT_EQ(test, 0, dma_set_mask(&ctx->importer->dev, mask));
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, restore_dma_mask, ctx));
}

/* Expect the ranges of @ctx one after the other, or nothing, from @iova on */
static void expect_translation(struct kunit *test, dma_addr_t iova, bool linked)
{
	struct mapping_test *ctx = test->priv;
	struct iommu_domain *domain = importer_domain(ctx);
	size_t i, off;

	for (i = 0; i < ctx->nr_ranges; i++) {
		for (off = 0; off < ctx->ranges[i].len; off += PAGE_SIZE) {
			KUNIT_EXPECT_EQ_MSG(test,
					    iommu_iova_to_phys(domain, iova),
					    linked ? ctx->ranges[i].paddr + off : 0,
					    "range %zu, offset %#zx", i, off);
			iova += PAGE_SIZE;
		}
	}
}

/*
 * Ledger of what is mapped with dma_map_phys() for one device. It is kept with
 * the tracepoints in there, as DMA-API debugging keeps its own, but can be asked.
 * Only the test maps anything for this device, so no lock is needed.
 */
struct dma_ledger {
	struct device *dev;
	unsigned int maps;
	unsigned int bad_unmaps;
	unsigned int nr_live;
	struct {
		dma_addr_t addr;
		size_t size;
	} live[MAX_LIVE_MAPPINGS];
};

static void ledger_map(void *data, struct device *dev, phys_addr_t phys,
		       dma_addr_t addr, size_t size,
		       enum dma_data_direction dir, unsigned long attrs)
{
	struct dma_ledger *ledger = data;

	if (dev != ledger->dev || addr == DMA_MAPPING_ERROR)
		return;

	ledger->maps++;
	if (WARN_ON(ledger->nr_live == MAX_LIVE_MAPPINGS))
		return;

	ledger->live[ledger->nr_live].addr = addr;
	ledger->live[ledger->nr_live].size = size;
	ledger->nr_live++;
}

static void ledger_unmap(void *data, struct device *dev, dma_addr_t addr,
			 size_t size, enum dma_data_direction dir,
			 unsigned long attrs)
{
	struct dma_ledger *ledger = data;
	unsigned int i;

	if (dev != ledger->dev)
		return;

	for (i = 0; i < ledger->nr_live; i++) {
		if (ledger->live[i].addr == addr &&
		    ledger->live[i].size == size) {
			ledger->live[i] = ledger->live[--ledger->nr_live];
			return;
		}
	}
	ledger->bad_unmaps++;
}

static void close_ledger(void *data)
{
	unregister_trace_dma_unmap_phys(ledger_unmap, data);
	unregister_trace_dma_map_phys(ledger_map, data);
	tracepoint_synchronize_unregister();
}

static struct dma_ledger *open_ledger(struct kunit *test)
{
	struct mapping_test *ctx = test->priv;
	struct dma_ledger *ledger;

	ledger = kunit_kzalloc(test, sizeof(*ledger), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, ledger);
	ledger->dev = &ctx->importer->dev;

	if (register_trace_dma_map_phys(ledger_map, ledger))
		kunit_skip(test, "kernel has no tracepoints");
	if (register_trace_dma_unmap_phys(ledger_unmap, ledger)) {
		unregister_trace_dma_map_phys(ledger_map, ledger);
		kunit_skip(test, "kernel has no tracepoints");
	}
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, close_ledger, ledger));
	return ledger;
}

/* Several ranges share one IOVA: each must be found at its own place in it */
static void test_ranges_in_one_iova(struct kunit *test)
{
	struct mapping_test *ctx = test->priv;
	struct sg_table *sgt;
	dma_addr_t iova;

	require_iommu(test);

	append_scattered_ranges(ctx);
	sgt = map_buffer(ctx->attach);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, sgt);

	iova = sg_dma_address(sgt->sgl);
	KUNIT_EXPECT_EQ(test, sgt->nents, 1);
	KUNIT_EXPECT_EQ(test, sg_dma_len(sgt->sgl), ctx->size);
	expect_translation(test, iova, true);

	unmap_buffer(ctx->attach, sgt);
	expect_translation(test, iova, false);
}

struct kfree_watch {
	const void *ptr;
	bool freed;
};

static void watch_kfree(void *data, unsigned long call_site, const void *ptr)
{
	struct kfree_watch *watch = data;

	if (ptr == watch->ptr)
		WRITE_ONCE(watch->freed, true);
}

static void stop_watching(void *data)
{
	unregister_trace_kfree(watch_kfree, data);
	tracepoint_synchronize_unregister();
}

/* A mapping that is gone leaves no scatterlist behind */
static void test_scatterlist_is_freed(struct kunit *test)
{
	struct mapping_test *ctx = test->priv;
	struct kfree_watch *watch;
	struct sg_table *sgt;

	watch = kunit_kzalloc(test, sizeof(*watch), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, watch);

	set_dma_mask(test, WIDE_DMA_MASK);
	append_range(ctx, ctx->bar, PAGE_SIZE);
	sgt = map_buffer(ctx->attach);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, sgt);
	/* What tells importers that there is no CPU side */
	KUNIT_EXPECT_EQ(test, ctx->exported_sgt->orig_nents, 0);

	watch->ptr = ctx->exported_sgt->sgl;
	if (register_trace_kfree(watch_kfree, watch)) {
		unmap_buffer(ctx->attach, sgt);
		kunit_skip(test, "kernel has no tracepoints");
	}

	unmap_buffer(ctx->attach, sgt);
	stop_watching(watch);
	KUNIT_EXPECT_TRUE(test, watch->freed);
}

/* The second of three ranges fails: unmap the first, and nothing else */
static void test_failure_unmaps_what_was_mapped(struct kunit *test)
{
	struct mapping_test *ctx = test->priv;
	struct sg_table *sgt = NULL;
	struct dma_ledger *ledger;

	require_no_iommu(test);
	set_dma_mask(test, WIDE_DMA_MASK);
	ledger = open_ledger(test);

	append_range(ctx, ctx->bar, PAGE_SIZE);
	append_range(ctx, UNMAPPABLE_ADDR, PAGE_SIZE);
	append_range(ctx, ctx->bar + PAGE_SIZE, PAGE_SIZE);
	/* dma_direct_map_phys() warns once about addresses out of reach */
	kunit_warning_suppress(test)
		sgt = map_buffer(ctx->attach);
	KUNIT_EXPECT_PTR_EQ(test, sgt, ERR_PTR(-ENOMEM));

	KUNIT_EXPECT_EQ(test, ledger->maps, 1);
	KUNIT_EXPECT_EQ(test, ledger->bad_unmaps, 0);
	KUNIT_EXPECT_EQ(test, ledger->nr_live, 0);
}

/*
 * Fail to link the first range, and the second, over and over. Were the IOVA
 * lost each time, no buffer of this size could be mapped any more.
 */
static void test_failure_frees_iova(struct kunit *test)
{
	struct mapping_test *ctx = test->priv;
	size_t bar_len = pci_resource_len(ctx->exporter, IVSHMEM_MEMORY_BAR);
	size_t left, len;
	struct sg_table *sgt;
	int i, bad;

	require_iommu(test);
	set_dma_mask(test, DMA_BIT_MASK(32));

	for (i = 0; i < 16; i++) {
		bad = i & 1;
		clear_ranges(ctx);
		if (bad == 0)
			append_range(ctx, UNMAPPABLE_ADDR, SZ_512M - PAGE_SIZE);
		append_range(ctx, ctx->bar, PAGE_SIZE);
		if (bad == 1)
			append_range(ctx, UNMAPPABLE_ADDR, SZ_512M - PAGE_SIZE);

		sgt = map_buffer(ctx->attach);
		KUNIT_ASSERT_PTR_EQ_MSG(test, sgt, ERR_PTR(-ERANGE),
					"attempt %d", i);
	}

	clear_ranges(ctx);
	for (left = SZ_512M; left && ctx->nr_ranges < MAX_RANGES; left -= len) {
		len = min(left, bar_len);
		append_range(ctx, ctx->bar, len);
	}
	sgt = map_buffer(ctx->attach);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, sgt);
	KUNIT_EXPECT_EQ(test, sgt->nents, 1);
	unmap_buffer(ctx->attach, sgt);
}

/*
 * Without an IOVA, more than fits into one entry is mapped entry by entry, as
 * it is unmapped. The range is not the BAR's, which would have to be as large,
 * but is nowhere near RAM, and nobody goes there.
 */
static void test_above_4g_unmapped_as_mapped(struct kunit *test)
{
	struct mapping_test *ctx = test->priv;
	phys_addr_t start = ALIGN(ctx->bar, SZ_1T) + SZ_1T;
	struct dma_ledger *ledger;
	struct scatterlist *sg;
	struct sg_table *sgt;
	dma_addr_t next;
	int i;

	require_no_iommu(test);
	set_dma_mask(test, WIDE_DMA_MASK);
	ledger = open_ledger(test);

	append_range(ctx, start, SZ_4G + SZ_64K);
	append_range(ctx, ctx->bar, PAGE_SIZE);
	sgt = map_buffer(ctx->attach);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, sgt);

	KUNIT_EXPECT_EQ(test, sgt->nents, 3);
	KUNIT_EXPECT_EQ(test, ledger->maps, sgt->nents);
	next = start;
	for_each_sgtable_dma_sg(sgt, sg, i) {
		if (i == 2) {
			KUNIT_EXPECT_EQ(test, next, start + SZ_4G + SZ_64K);
			next = ctx->bar;
		}
		KUNIT_EXPECT_EQ(test, sg_dma_address(sg), next);
		next += sg_dma_len(sg);
	}
	KUNIT_EXPECT_EQ(test, next, ctx->bar + PAGE_SIZE);

	unmap_buffer(ctx->attach, sgt);
	KUNIT_EXPECT_EQ(test, ledger->bad_unmaps, 0);
	KUNIT_EXPECT_EQ(test, ledger->nr_live, 0);
}

/* The translation goes at once, the addresses stay taken until the list goes */
static void test_unlink_keeps_iova(struct kunit *test)
{
	struct mapping_test *ctx = test->priv;
	struct sg_table *sgt, *exported_sgt, *other_sgt;
	struct dma_buf_attachment *other;
	dma_addr_t iova, other_iova;

	require_iommu(test);

	append_scattered_ranges(ctx);
	other = attach_device(test, &ctx->importer->dev);
	sgt = map_buffer(ctx->attach);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, sgt);
	exported_sgt = ctx->exported_sgt;
	iova = sg_dma_address(sgt->sgl);
	expect_translation(test, iova, true);

	KUNIT_EXPECT_EQ(test, unlink_buffer(ctx->attach, exported_sgt), 0);
	expect_translation(test, iova, false);
	KUNIT_EXPECT_EQ(test, unlink_buffer(ctx->attach, exported_sgt), 0);
	KUNIT_EXPECT_EQ(test, sg_dma_address(sgt->sgl), iova);
	KUNIT_EXPECT_EQ(test, sg_dma_len(sgt->sgl), ctx->size);

	other_sgt = map_buffer(other);
	KUNIT_EXPECT_NOT_ERR_OR_NULL(test, other_sgt);
	if (!IS_ERR_OR_NULL(other_sgt)) {
		other_iova = sg_dma_address(other_sgt->sgl);
		KUNIT_EXPECT_FALSE(test, other_iova < iova + ctx->size &&
				   iova < other_iova + ctx->size);
		expect_translation(test, iova, false);
		unmap_buffer(ctx->attach, sgt);
		expect_translation(test, other_iova, true);
		unmap_buffer(other, other_sgt);
	} else {
		unmap_buffer(ctx->attach, sgt);
	}
}

/* Without an IOVA nothing can be unlinked, and the caller must get to know */
static void test_unlink_without_iova(struct kunit *test)
{
	struct mapping_test *ctx = test->priv;
	struct dma_ledger *ledger;
	struct sg_table *sgt;

	require_no_iommu(test);
	set_dma_mask(test, WIDE_DMA_MASK);
	ledger = open_ledger(test);

	append_scattered_ranges(ctx);
	sgt = map_buffer(ctx->attach);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, sgt);

	KUNIT_EXPECT_EQ(test, unlink_buffer(ctx->attach, ctx->exported_sgt),
			-EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, ledger->nr_live, ctx->nr_ranges);

	unmap_buffer(ctx->attach, sgt);
	KUNIT_EXPECT_EQ(test, ledger->bad_unmaps, 0);
	KUNIT_EXPECT_EQ(test, ledger->nr_live, 0);
}

/* The same for bus addresses: a device reaches its own memory with them */
static void test_unlink_bus_addresses(struct kunit *test)
{
	struct mapping_test *ctx = test->priv;
	struct dma_buf_attachment *attach;
	struct sg_table *sgt;

	append_range(ctx, ctx->bar + PAGE_SIZE, PAGE_SIZE);
	attach = attach_device(test, &ctx->exporter->dev);
	sgt = map_buffer(attach);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, sgt);
	KUNIT_EXPECT_EQ(test, sg_dma_address(sgt->sgl),
			pci_bus_address(ctx->exporter, IVSHMEM_MEMORY_BAR) +
			PAGE_SIZE);

	KUNIT_EXPECT_EQ(test, unlink_buffer(attach, ctx->exported_sgt), -EOPNOTSUPP);
	unmap_buffer(attach, sgt);
}

static struct pci_dev *find_importer(struct mapping_test *ctx)
{
	struct pci_dev *pdev = NULL;

	for_each_pci_dev(pdev) {
		if (pdev == ctx->exporter || pdev->dev.driver ||
		    pdev->hdr_type != PCI_HEADER_TYPE_NORMAL ||
		    pdev->class >> 16 == PCI_BASE_CLASS_BRIDGE)
			continue;

		if (pci_p2pdma_map_type(&ctx->provider, &pdev->dev) ==
		    PCI_P2PDMA_MAP_THRU_HOST_BRIDGE)
			break;
	}
	return pdev;
}

static int mapping_test_init(struct kunit *test)
{
	DEFINE_DMA_BUF_EXPORT_INFO(exp_info);
	struct mapping_test *ctx;
	int ret;

	ctx = kunit_kzalloc(test, sizeof(*ctx), GFP_KERNEL);
	if (!ctx)
		return -ENOMEM;
	test->priv = ctx;

	ctx->exporter = pci_get_device(PCI_VENDOR_ID_REDHAT_QUMRANET,
				       IVSHMEM_DEVICE_ID, NULL);
	if (!ctx->exporter)
		kunit_skip(test, "no ivshmem-plain device");
	ret = kunit_add_action_or_reset(test, put_pci_dev, ctx->exporter);
	if (ret)
		return ret;

	ctx->bar = pci_resource_start(ctx->exporter, IVSHMEM_MEMORY_BAR);
	if (pci_resource_len(ctx->exporter, IVSHMEM_MEMORY_BAR) < SZ_16M)
		kunit_skip(test, "ivshmem-plain device has less than 16 MiB");
	ctx->provider.owner = &ctx->exporter->dev;
	ctx->provider.bus_offset =
		pci_bus_address(ctx->exporter, IVSHMEM_MEMORY_BAR) - ctx->bar;

	ctx->importer = find_importer(ctx);
	if (!ctx->importer)
		kunit_skip(test, "no PCI function without driver behind the host bridge");
	ret = kunit_add_action_or_reset(test, put_pci_dev, ctx->importer);
	if (ret)
		return ret;

	exp_info.ops = &exporter_ops;
	exp_info.size = PAGE_SIZE;	/* nobody asks */
	exp_info.priv = ctx;
	ctx->dmabuf = dma_buf_export(&exp_info);
	if (IS_ERR(ctx->dmabuf))
		return PTR_ERR(ctx->dmabuf);
	ret = kunit_add_action_or_reset(test, put_dma_buf, ctx->dmabuf);
	if (ret)
		return ret;

	ctx->attach = attach_device(test, &ctx->importer->dev);
	return 0;
}

static struct kunit_case mapping_test_cases[] = {
	KUNIT_CASE(test_ranges_in_one_iova),
	KUNIT_CASE(test_scatterlist_is_freed),
	KUNIT_CASE(test_failure_unmaps_what_was_mapped),
	KUNIT_CASE(test_failure_frees_iova),
	KUNIT_CASE(test_above_4g_unmapped_as_mapped),
	KUNIT_CASE(test_unlink_keeps_iova),
	KUNIT_CASE(test_unlink_without_iova),
	KUNIT_CASE(test_unlink_bus_addresses),
	{}
};

static struct kunit_suite mapping_test_suite = {
	.name = "dma_buf_mapping",
	.init = mapping_test_init,
	.test_cases = mapping_test_cases,
};

kunit_test_suite(mapping_test_suite);
