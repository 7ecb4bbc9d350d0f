// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * KUnit tests of sgl_dma_map_user() and of umems in device memory
 *
 * The exporter is made here: buffers whose DMA addresses are just numbers, and
 * files that map them. The VMAs, their locks and dma-buf are the real ones.
 */
#include <kunit/device.h>
#include <kunit/test.h>
#include <kunit/test-bug.h>
#include <linux/anon_inodes.h>
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/dma-sg-table.h>
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/sizes.h>
#include <rdma/ib_umem.h>
#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/ib_verbs.h>
#include <rdma/iter.h>

#include "umem_p2p.h"

/* Where the buffers of the exporter are for the device. */
#define TEST_DMA_BASE	0x100000000000ULL
/* From the end of one segment to the start of the next. */
#define TEST_DMA_GAP	SZ_16M

/**
 * struct test_buf - a buffer of nr_segs equal segments
 * @dmabuf:	the buffer
 * @owner:	whose memory it is, NULL if it does not say
 * @nr_segs:	number of segments
 * @seg_len:	bytes of each
 * @attach_err:	what attaching returns
 * @pin_err:	what pinning returns
 * @map_err:	what mapping returns
 * @attached:	attachments there are
 * @pinned:	pins there are
 * @mapped:	mappings there are
 * @maps:	mappings there ever were
 * @invalidates: another buffer, invalidated when this one is attached
 */
struct test_buf {
	struct dma_buf *dmabuf;
	struct device *owner;
	unsigned int nr_segs;
	size_t seg_len;
	int attach_err, pin_err, map_err;
	int attached, pinned, mapped, maps;
	struct test_buf *invalidates;
};

/**
 * struct test_map - a file that maps a buffer
 * @buf:	the buffer
 * @lie:	added to the offset the operation returns
 * @op_err:	what the operation returns
 */
struct test_map {
	struct test_buf *buf;
	u64 lie;
	int op_err;
};

static u64 test_dma_addr(struct test_buf *buf, unsigned int seg)
{
	return TEST_DMA_BASE + seg * (u64)(buf->seg_len + TEST_DMA_GAP);
}

static void test_invalidate(struct test_buf *buf)
{
	dma_resv_lock(buf->dmabuf->resv, NULL);
	dma_buf_invalidate_mappings(buf->dmabuf);
	dma_resv_unlock(buf->dmabuf->resv);
}

static int test_attach(struct dma_buf *dmabuf, struct dma_buf_attachment *attach)
{
	struct test_buf *buf = dmabuf->priv;

	if (buf->attach_err)
		return buf->attach_err;
	if (buf->invalidates)
		test_invalidate(buf->invalidates);
	buf->attached++;
	return 0;
}

static void test_detach(struct dma_buf *dmabuf,
			struct dma_buf_attachment *attach)
{
	struct test_buf *buf = dmabuf->priv;

	buf->attached--;
}

static int test_pin(struct dma_buf_attachment *attach)
{
	struct test_buf *buf = attach->dmabuf->priv;

	if (buf->pin_err)
		return buf->pin_err;
	buf->pinned++;
	return 0;
}

static void test_unpin(struct dma_buf_attachment *attach)
{
	struct test_buf *buf = attach->dmabuf->priv;

	buf->pinned--;
}

static struct sg_table *test_map_dma_buf(struct dma_buf_attachment *attach,
					 enum dma_data_direction dir)
{
	struct test_buf *buf = attach->dmabuf->priv;
	struct scatterlist *sg;
	struct sg_table *sgt;
	int i;

	if (buf->map_err)
		return ERR_PTR(buf->map_err);

	sgt = kzalloc_obj(*sgt);
	if (!sgt)
		return ERR_PTR(-ENOMEM);
	if (sg_alloc_table(sgt, buf->nr_segs, GFP_KERNEL)) {
		kfree(sgt);
		return ERR_PTR(-ENOMEM);
	}
	for_each_sgtable_dma_sg(sgt, sg, i) {
		sg_set_page(sg, NULL, 0, 0);
		sg_dma_address(sg) = test_dma_addr(buf, i);
		sg_dma_len(sg) = buf->seg_len;
	}
	buf->mapped++;
	buf->maps++;
	return sgt;
}

static void test_unmap_dma_buf(struct dma_buf_attachment *attach,
			       struct sg_table *sgt,
			       enum dma_data_direction dir)
{
	struct test_buf *buf = attach->dmabuf->priv;

	buf->mapped--;
	sg_free_table(sgt);
	kfree(sgt);
}

static void test_release(struct dma_buf *dmabuf)
{
}

static struct device *test_p2p_owner(struct dma_buf *dmabuf)
{
	struct test_buf *buf = dmabuf->priv;

	return buf->owner;
}

static const struct dma_buf_ops test_dma_buf_ops = {
	.attach = test_attach,
	.detach = test_detach,
	.pin = test_pin,
	.unpin = test_unpin,
	.map_dma_buf = test_map_dma_buf,
	.unmap_dma_buf = test_unmap_dma_buf,
	.release = test_release,
	.p2p_owner = test_p2p_owner,
};

static int test_p2p_buf(struct vm_area_struct *vma, unsigned long addr,
			struct dma_buf **dmabuf, u64 *offset)
{
	struct test_map *map = vma->vm_private_data;

	if (!(vma->vm_flags & VM_MAYSHARE))
		return -EACCES;
	if (map->op_err)
		return map->op_err;
	*offset = ((u64)vma->vm_pgoff << PAGE_SHIFT) + (addr - vma->vm_start) +
		  map->lie;
	*dmabuf = map->buf->dmabuf;
	get_dma_buf(*dmabuf);
	return 0;
}

static const struct vm_operations_struct test_vm_ops = {
	.p2p_buf = test_p2p_buf,
};

static int test_file_mmap(struct file *file, struct vm_area_struct *vma)
{
	vm_flags_set(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_ops = &test_vm_ops;
	vma->vm_private_data = file->private_data;
	return 0;
}

static const struct file_operations test_fops = {
	.mmap = test_file_mmap,
};

static void test_put_buf(void *dmabuf)
{
	dma_buf_put(dmabuf);
}

static struct test_buf *test_buf_new(struct kunit *test, unsigned int nr_segs,
				     size_t seg_len)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct test_buf *buf;

	buf = kunit_kzalloc(test, sizeof(*buf), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, buf);
	buf->nr_segs = nr_segs;
	buf->seg_len = seg_len;

	info.ops = &test_dma_buf_ops;
	info.size = nr_segs * seg_len;
	info.flags = O_RDWR;
	info.priv = buf;
	buf->dmabuf = dma_buf_export(&info);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, buf->dmabuf);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, test_put_buf,
							   buf->dmabuf));
	return buf;
}

/* Address space of a size to put mappings in, nothing mapped there. */
static unsigned long test_space(struct kunit *test, size_t len)
{
	unsigned long addr;

	KUNIT_ASSERT_EQ(test, 0, kunit_attach_mm());
	addr = vm_mmap(NULL, 0, len, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(addr));
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr, len));
	return addr;
}

static struct test_map *test_mmap(struct kunit *test, struct test_buf *buf,
				  unsigned long addr, u64 offset, size_t len,
				  unsigned long prot, unsigned long flags)
{
	struct test_map *map;
	struct file *file;
	unsigned long ret;

	map = kunit_kzalloc(test, sizeof(*map), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, map);
	map->buf = buf;
	file = anon_inode_getfile("[umem_p2p_test]", &test_fops, map, O_RDWR);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, file);
	file->f_mode |= FMODE_LSEEK | FMODE_PREAD | FMODE_PWRITE;
	ret = vm_mmap(file, addr, len, prot, flags | MAP_FIXED, offset);
	fput(file);
	KUNIT_ASSERT_EQ(test, addr, ret);
	return map;
}

#define test_mmap_rw(test, buf, addr, offset, len) \
	test_mmap(test, buf, addr, offset, len, PROT_READ | PROT_WRITE, MAP_SHARED)

static struct device *test_device(struct kunit *test)
{
	struct device *dev = kunit_device_register(test, "umem_p2p_test");

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dev);
	dev->dma_mask = &dev->coherent_dma_mask;
	KUNIT_ASSERT_EQ(test, 0, dma_set_mask_and_coherent(dev,
							   DMA_BIT_MASK(64)));
	return dev;
}

static void test_expect_idle(struct kunit *test, struct test_buf *buf)
{
	KUNIT_EXPECT_EQ(test, 0, buf->attached);
	KUNIT_EXPECT_EQ(test, 0, buf->pinned);
	KUNIT_EXPECT_EQ(test, 0, buf->mapped);
}

static void test_expect_sg(struct kunit *test, struct scatterlist *sg,
			   u64 addr, u64 len)
{
	KUNIT_ASSERT_NOT_NULL(test, sg);
	KUNIT_EXPECT_EQ(test, addr, (u64)sg_dma_address(sg));
	KUNIT_EXPECT_EQ(test, len, (u64)sg_dma_len(sg));
	KUNIT_EXPECT_PTR_EQ(test, NULL, sg_page(sg));
}

static void test_expect_map_err(struct kunit *test, struct device *dev,
				unsigned long addr, size_t len, bool write,
				int err)
{
	struct dma_sg_table *table = sgl_dma_map_user(dev, addr, len, write,
						      NULL, NULL);

	KUNIT_EXPECT_EQ(test, err, PTR_ERR_OR_ZERO(table));
	if (!IS_ERR(table))
		sgl_dma_unmap(table);
}

static void sgl_whole_buffer(struct kunit *test)
{
	struct test_buf *buf = test_buf_new(test, 1, SZ_1M);
	struct device *dev = test_device(test);
	unsigned long addr = test_space(test, SZ_1M);
	struct dma_sg_table *table;

	test_mmap_rw(test, buf, addr, 0, SZ_1M);
	table = sgl_dma_map_user(dev, addr, SZ_1M, true, NULL, NULL);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, table);
	KUNIT_EXPECT_EQ(test, 1, table->sgt.nents);
	KUNIT_EXPECT_EQ(test, 0, table->sgt.orig_nents);
	test_expect_sg(test, table->sgt.sgl, TEST_DMA_BASE, SZ_1M);
	sgl_dma_unmap(table);
	test_expect_idle(test, buf);
}

static void sgl_slices(struct kunit *test)
{
	const size_t seg = 4 * PAGE_SIZE;
	struct test_buf *buf = test_buf_new(test, 4, seg);
	struct device *dev = test_device(test);
	unsigned long addr = test_space(test, 4 * seg);
	size_t from, to;

	test_mmap_rw(test, buf, addr, 0, 4 * seg);

	/* Every pair of places around the borders of segments. */
	for (from = 0; from < 4 * seg; from += seg / 2) {
		for (to = from + seg / 2; to <= 4 * seg; to += seg / 2) {
			size_t a = from + 5, b = to - 3, at;
			struct dma_sg_table *table;
			struct scatterlist *sg;
			int i;

			table = sgl_dma_map_user(dev, addr + a, b - a, true,
						 NULL, NULL);
			KUNIT_ASSERT_NOT_ERR_OR_NULL(test, table);
			KUNIT_EXPECT_EQ(test, (b - 1) / seg - a / seg + 1,
					table->sgt.nents);
			at = a;
			for_each_sgtable_dma_sg(&table->sgt, sg, i) {
				size_t end = min(b, (at / seg + 1) * seg);

				test_expect_sg(test, sg,
					       test_dma_addr(buf, at / seg) +
					       at % seg, end - at);
				at = end;
			}
			KUNIT_EXPECT_EQ(test, at, b);
			sgl_dma_unmap(table);
		}
	}

	/* Borders exactly. */
	for (from = 0; from < 4; from++) {
		struct dma_sg_table *table;

		table = sgl_dma_map_user(dev, addr + from * seg, seg, true,
					 NULL, NULL);
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, table);
		KUNIT_EXPECT_EQ(test, 1, table->sgt.nents);
		test_expect_sg(test, table->sgt.sgl, test_dma_addr(buf, from),
			       seg);
		sgl_dma_unmap(table);
	}
	test_expect_idle(test, buf);
}

static void sgl_many_vmas(struct kunit *test)
{
	struct test_buf *a = test_buf_new(test, 1, SZ_1M);
	struct test_buf *b = test_buf_new(test, 1, SZ_1M);
	struct device *dev = test_device(test);
	unsigned long addr = test_space(test, SZ_1M);
	struct dma_sg_table *table;

	/* a whole from two VMAs, then b from its middle, then a again */
	test_mmap_rw(test, a, addr, 0, SZ_64K);
	test_mmap_rw(test, a, addr + SZ_64K, SZ_64K, SZ_64K);
	test_mmap_rw(test, b, addr + SZ_128K, SZ_512K, SZ_64K);
	test_mmap_rw(test, a, addr + SZ_128K + SZ_64K, 0, SZ_64K);

	table = sgl_dma_map_user(dev, addr + PAGE_SIZE, SZ_256K - PAGE_SIZE,
				 true, NULL, NULL);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, table);
	KUNIT_ASSERT_EQ(test, 3, table->sgt.nents);
	test_expect_sg(test, table->sgt.sgl, TEST_DMA_BASE + PAGE_SIZE,
		       SZ_128K - PAGE_SIZE);
	test_expect_sg(test, sg_next(table->sgt.sgl), TEST_DMA_BASE + SZ_512K,
		       SZ_64K);
	test_expect_sg(test, sg_next(sg_next(table->sgt.sgl)), TEST_DMA_BASE,
		       SZ_64K);
	KUNIT_EXPECT_EQ(test, 1, a->maps);
	KUNIT_EXPECT_EQ(test, 1, b->maps);
	sgl_dma_unmap(table);
	test_expect_idle(test, a);
	test_expect_idle(test, b);
}

static void sgl_shares_attachment(struct kunit *test)
{
	struct test_buf *buf = test_buf_new(test, 1, SZ_1M);
	struct device *dev = test_device(test);
	unsigned long addr = test_space(test, SZ_1M);
	struct dma_sg_table *one, *two;
	struct device *other;

	other = kunit_device_register(test, "umem_p2p_test_2");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, other);

	test_mmap_rw(test, buf, addr, 0, SZ_1M);
	one = sgl_dma_map_user(dev, addr, SZ_64K, true, NULL, NULL);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, one);
	two = sgl_dma_map_user(dev, addr + SZ_512K, SZ_64K, false, NULL, NULL);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, two);
	KUNIT_EXPECT_EQ(test, 1, buf->attached);
	KUNIT_EXPECT_EQ(test, 1, buf->mapped);

	/* Whoever comes first may leave first. */
	sgl_dma_unmap(one);
	KUNIT_EXPECT_EQ(test, 1, buf->mapped);
	test_expect_sg(test, two->sgt.sgl, TEST_DMA_BASE + SZ_512K, SZ_64K);

	/* Another device has an attachment of its own. */
	one = sgl_dma_map_user(other, addr, SZ_64K, true, NULL, NULL);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, one);
	KUNIT_EXPECT_EQ(test, 2, buf->attached);
	KUNIT_EXPECT_EQ(test, 2, buf->pinned);
	KUNIT_EXPECT_EQ(test, 2, buf->maps);
	sgl_dma_unmap(two);
	sgl_dma_unmap(one);
	test_expect_idle(test, buf);
}

static void sgl_survives_munmap(struct kunit *test)
{
	struct test_buf *buf = test_buf_new(test, 1, SZ_1M);
	struct device *dev = test_device(test);
	unsigned long addr = test_space(test, SZ_1M);
	struct dma_sg_table *table;

	test_mmap_rw(test, buf, addr, 0, SZ_1M);
	table = sgl_dma_map_user(dev, addr, SZ_1M, true, NULL, NULL);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, table);
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(addr, SZ_1M));
	KUNIT_EXPECT_EQ(test, 1, buf->mapped);
	test_expect_sg(test, table->sgt.sgl, TEST_DMA_BASE, SZ_1M);
	sgl_dma_unmap(table);
	test_expect_idle(test, buf);
}

static void sgl_large(struct kunit *test)
{
	const unsigned int nr_segs = 65536;
	struct test_buf *many = test_buf_new(test, nr_segs, PAGE_SIZE);
	const size_t seg = ALIGN_DOWN(UINT_MAX, PAGE_SIZE);
	struct test_buf *huge = test_buf_new(test, 3, seg);
	struct device *dev = test_device(test);
	struct dma_sg_table *table;
	struct scatterlist *sg;
	unsigned long addr;
	int i;

	addr = test_space(test, nr_segs * PAGE_SIZE);
	test_mmap_rw(test, many, addr, 0, nr_segs * PAGE_SIZE);
	table = sgl_dma_map_user(dev, addr + 1, nr_segs * PAGE_SIZE - 2, true,
				 NULL, NULL);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, table);
	KUNIT_ASSERT_EQ(test, nr_segs, table->sgt.nents);
	for_each_sgtable_dma_sg(&table->sgt, sg, i)
		if (sg_dma_address(sg) != test_dma_addr(many, i) + !i ||
		    sg_dma_len(sg) !=
		    PAGE_SIZE - !i - (i == nr_segs - 1))
			break;
	KUNIT_EXPECT_EQ(test, nr_segs, i);
	sgl_dma_unmap(table);
	test_expect_idle(test, many);

	addr = test_space(test, 3 * seg);
	test_mmap_rw(test, huge, addr, 0, 3 * seg);
	table = sgl_dma_map_user(dev, addr + seg - SZ_1M, seg + SZ_2M, true,
				 NULL, NULL);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, table);
	KUNIT_ASSERT_EQ(test, 3, table->sgt.nents);
	sg = table->sgt.sgl;
	test_expect_sg(test, sg, test_dma_addr(huge, 0) + seg - SZ_1M, SZ_1M);
	sg = sg_next(sg);
	test_expect_sg(test, sg, test_dma_addr(huge, 1), seg);
	sg = sg_next(sg);
	test_expect_sg(test, sg, test_dma_addr(huge, 2), SZ_1M);
	sgl_dma_unmap(table);
	test_expect_idle(test, huge);
}

static void sgl_refuses_what_is_no_exporters(struct kunit *test)
{
	struct test_buf *buf = test_buf_new(test, 1, SZ_1M);
	struct device *dev = test_device(test);
	unsigned long addr = test_space(test, SZ_1M);
	unsigned long ret;

	test_mmap_rw(test, buf, addr, 0, SZ_64K);
	test_mmap_rw(test, buf, addr + SZ_128K, SZ_128K, SZ_64K);

	test_expect_map_err(test, dev, addr, SZ_64K, true, 0);
	/* A hole, past the end, before the start, nothing at all */
	test_expect_map_err(test, dev, addr, SZ_128K + SZ_64K, true, -EFAULT);
	test_expect_map_err(test, dev, addr + SZ_128K, SZ_128K, true, -EFAULT);
	test_expect_map_err(test, dev, addr + SZ_64K, SZ_128K, true, -EFAULT);
	test_expect_map_err(test, dev, addr + SZ_512K, 1, true, -EFAULT);
	/* Ordinary memory in the hole */
	ret = vm_mmap(NULL, addr + SZ_64K, SZ_64K, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0);
	KUNIT_ASSERT_EQ(test, addr + SZ_64K, ret);
	test_expect_map_err(test, dev, addr, SZ_128K + SZ_64K, true, -EFAULT);
	test_expect_map_err(test, dev, addr + SZ_64K, SZ_64K, true, -EFAULT);
	/* No range */
	test_expect_map_err(test, dev, addr, 0, true, -EINVAL);
	test_expect_map_err(test, dev, addr, ULONG_MAX - addr, true, -EFAULT);
	test_expect_map_err(test, dev, addr, -addr, true, -EINVAL);

	KUNIT_EXPECT_EQ(test, 1, buf->maps);
	test_expect_idle(test, buf);
}

static void sgl_refuses_access(struct kunit *test)
{
	struct test_buf *buf = test_buf_new(test, 1, SZ_1M);
	struct device *dev = test_device(test);
	unsigned long addr = test_space(test, SZ_1M);

	test_mmap(test, buf, addr, 0, SZ_64K, PROT_READ, MAP_SHARED);
	test_expect_map_err(test, dev, addr, SZ_64K, true, -EACCES);
	test_expect_map_err(test, dev, addr, SZ_64K, false, 0);

	test_mmap(test, buf, addr, 0, SZ_64K, PROT_NONE, MAP_SHARED);
	test_expect_map_err(test, dev, addr, SZ_64K, false, -EACCES);

	test_mmap(test, buf, addr, 0, SZ_64K, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE);
	test_expect_map_err(test, dev, addr, SZ_64K, true, -EACCES);
	test_expect_map_err(test, dev, addr, SZ_64K, false, -EACCES);

	/* Somebody else's memory further on is what counts. */
	test_expect_map_err(test, dev, addr, SZ_128K, true, -EFAULT);
	test_expect_idle(test, buf);
}

static void sgl_unwinds(struct kunit *test)
{
	static const int errs[] = { -EREMOTEIO, -ENODEV, -ENOMEM, -EOPNOTSUPP };
	struct test_buf *a = test_buf_new(test, 2, SZ_64K);
	struct test_buf *b = test_buf_new(test, 1, SZ_64K);
	struct device *dev = test_device(test);
	unsigned long addr = test_space(test, SZ_1M);
	struct test_map *map;
	int i;

	test_mmap_rw(test, a, addr, 0, SZ_128K);
	map = test_mmap_rw(test, b, addr + SZ_128K, 0, SZ_64K);

	for (i = 0; i < ARRAY_SIZE(errs); i++) {
		int *fails[] = { &b->attach_err, &b->pin_err, &b->map_err,
				 &map->op_err, &a->map_err };
		int j;

		for (j = 0; j < ARRAY_SIZE(fails); j++) {
			*fails[j] = errs[i];
			test_expect_map_err(test, dev, addr, SZ_128K + SZ_64K,
					    true, errs[i]);
			*fails[j] = 0;
			test_expect_idle(test, a);
			test_expect_idle(test, b);
		}
	}

	/* An exporter that does not know its own buffer */
	map->lie = PAGE_SIZE;
	test_expect_map_err(test, dev, addr, SZ_128K + SZ_64K, true, -EFAULT);
	map->lie = -PAGE_SIZE;
	test_expect_map_err(test, dev, addr, SZ_128K + SZ_64K, true, -EFAULT);
	map->lie = 0;
	test_expect_map_err(test, dev, addr, SZ_128K + SZ_64K, true, 0);
	test_expect_idle(test, a);
	test_expect_idle(test, b);
}

static void test_expect_run(struct kunit *test, unsigned long addr,
			    unsigned long end, int kind, unsigned long run_end)
{
	unsigned long got = 0;

	KUNIT_EXPECT_EQ(test, kind, sgl_dma_next_run(addr, end, true, &got));
	if (kind >= 0)
		KUNIT_EXPECT_EQ(test, run_end, got);
}

/* Device memory: one VMA, one that refuses the access. Then the other kind. */
static void sgl_runs(struct kunit *test)
{
	struct test_buf *buf = test_buf_new(test, 1, SZ_1M);
	unsigned long addr = test_space(test, SZ_1M);
	unsigned long end = addr + SZ_1M;
	struct test_map *map;
	unsigned long ret;

	test_mmap_rw(test, buf, addr, 0, SZ_64K);
	test_mmap(test, buf, addr + SZ_64K, SZ_128K, SZ_64K, PROT_READ,
		  MAP_SHARED);
	ret = vm_mmap(NULL, addr + SZ_128K, SZ_64K, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0);
	KUNIT_ASSERT_EQ(test, addr + SZ_128K, ret);

	test_expect_run(test, addr, end, 1, addr + SZ_128K);
	test_expect_run(test, addr + PAGE_SIZE, addr + SZ_32K, 1,
			addr + SZ_32K);
	/* As far as something is mapped; then a hole */
	test_expect_run(test, addr + SZ_128K, end, 0,
			addr + SZ_128K + SZ_64K);
	test_expect_run(test, addr + SZ_128K + SZ_64K, end, -EFAULT, 0);

	/* Device memory that nobody exports is a kind of its own. */
	map = test_mmap_rw(test, buf, addr + SZ_256K, 0, SZ_64K);
	map->op_err = -EFAULT;
	test_mmap_rw(test, buf, addr + SZ_256K + SZ_64K, 0, SZ_64K);
	test_expect_run(test, addr + SZ_256K, end, DMA_SG_FOREIGN,
			addr + SZ_256K + SZ_64K);
	map->op_err = -ENODEV;
	test_expect_run(test, addr + SZ_256K, end, DMA_SG_EXPORTED,
			addr + SZ_256K + SZ_128K);
	KUNIT_EXPECT_EQ(test, 0, buf->maps);
}

static void sgl_owner(struct kunit *test)
{
	struct test_buf *buf = test_buf_new(test, 1, SZ_64K);
	unsigned long addr = test_space(test, SZ_128K);
	struct device *dev = test_device(test);
	struct dma_sg_table *table;
	struct device *owner;

	test_mmap_rw(test, buf, addr, 0, SZ_64K);
	table = sgl_dma_map_user(dev, addr, SZ_64K, true, NULL, NULL);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, table);
	KUNIT_EXPECT_PTR_EQ(test, NULL, sgl_dma_owner(table));
	KUNIT_EXPECT_PTR_EQ(test, NULL, sgl_dma_get_owner(addr, true));
	buf->owner = dev;
	KUNIT_EXPECT_PTR_EQ(test, dev, sgl_dma_owner(table));
	sgl_dma_unmap(table);

	/* Also where it cannot be mapped */
	buf->pin_err = -ENODEV;
	owner = sgl_dma_get_owner(addr + 1, true);
	KUNIT_EXPECT_PTR_EQ(test, dev, owner);
	put_device(owner);
	/* Past the mapping */
	KUNIT_EXPECT_PTR_EQ(test, NULL, sgl_dma_get_owner(addr + SZ_64K, true));
	test_expect_idle(test, buf);
}

struct test_revoke {
	struct test_buf *buf;
	int err;
	int calls;
	int mapped;
};

static int test_revoke(void *priv)
{
	struct test_revoke *revoke = priv;

	dma_resv_assert_held(revoke->buf->dmabuf->resv);
	revoke->calls++;
	revoke->mapped = revoke->buf->mapped;
	return revoke->err;
}

static const struct dma_sg_ops test_sg_ops = {
	.revoke = test_revoke,
};

static void sgl_revokes(struct kunit *test)
{
	struct test_buf *buf = test_buf_new(test, 1, SZ_1M);
	struct dma_sg_table *one, *two, *fixed;
	struct test_revoke a = { .buf = buf };
	struct test_revoke b = { .buf = buf };
	struct device *dev = test_device(test);
	unsigned long addr = test_space(test, SZ_1M);

	test_mmap_rw(test, buf, addr, 0, SZ_1M);
	one = sgl_dma_map_user(dev, addr, SZ_64K, true, &test_sg_ops, &a);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, one);
	two = sgl_dma_map_user(dev, addr + SZ_64K, SZ_64K, true, &test_sg_ops,
			       &b);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, two);
	KUNIT_EXPECT_EQ(test, 1, buf->attached);
	KUNIT_EXPECT_EQ(test, 2, buf->pinned);
	/* One that cannot be revoked does not share with those that can. */
	fixed = sgl_dma_map_user(dev, addr, SZ_64K, true, NULL, NULL);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, fixed);
	KUNIT_EXPECT_EQ(test, 2, buf->attached);
	KUNIT_EXPECT_EQ(test, 2, buf->mapped);

	/* First everybody stops, then the buffer is unmapped. */
	test_invalidate(buf);
	KUNIT_EXPECT_EQ(test, 1, a.calls);
	KUNIT_EXPECT_EQ(test, 1, b.calls);
	KUNIT_EXPECT_EQ(test, 2, a.mapped);
	KUNIT_EXPECT_EQ(test, 2, b.mapped);
	KUNIT_EXPECT_EQ(test, 1, buf->mapped);
	KUNIT_EXPECT_EQ(test, 1, buf->pinned);
	test_invalidate(buf);
	KUNIT_EXPECT_EQ(test, 1, a.calls);

	/* The exporter may have moved it: who comes now maps it anew. */
	sgl_dma_unmap(one);
	one = sgl_dma_map_user(dev, addr, SZ_64K, true, &test_sg_ops, &a);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, one);
	KUNIT_EXPECT_EQ(test, 3, buf->maps);
	sgl_dma_unmap(two);
	KUNIT_EXPECT_EQ(test, 2, buf->mapped);
	test_invalidate(buf);
	KUNIT_EXPECT_EQ(test, 2, a.calls);
	KUNIT_EXPECT_EQ(test, 1, b.calls);
	sgl_dma_unmap(fixed);
	sgl_dma_unmap(one);
	test_expect_idle(test, buf);
}

/* Addresses that a device may go on using stay its own. */
static void sgl_revoke_fails(struct kunit *test)
{
	struct test_buf *buf = test_buf_new(test, 1, SZ_1M);
	struct dma_sg_table *one, *two, *later;
	struct test_revoke a = { .buf = buf };
	struct test_revoke b = { .buf = buf, .err = -EIO };
	struct device *dev = test_device(test);
	unsigned long addr = test_space(test, SZ_1M);

	test_mmap_rw(test, buf, addr, 0, SZ_1M);
	one = sgl_dma_map_user(dev, addr, SZ_64K, true, &test_sg_ops, &a);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, one);
	two = sgl_dma_map_user(dev, addr, SZ_64K, true, &test_sg_ops, &b);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, two);

	test_invalidate(buf);
	KUNIT_EXPECT_EQ(test, 1, a.calls);
	KUNIT_EXPECT_EQ(test, 1, b.calls);
	KUNIT_EXPECT_EQ(test, 1, buf->mapped);
	KUNIT_EXPECT_EQ(test, 2, buf->pinned);
	KUNIT_EXPECT_TRUE(test, sgl_dma_revoked(one));
	KUNIT_EXPECT_TRUE(test, sgl_dma_revoked(two));
	test_invalidate(buf);
	KUNIT_EXPECT_EQ(test, 1, b.calls);

	/* Nobody joins it. */
	later = sgl_dma_map_user(dev, addr, SZ_64K, true, &test_sg_ops, &a);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, later);
	KUNIT_EXPECT_EQ(test, 2, buf->mapped);
	KUNIT_EXPECT_FALSE(test, sgl_dma_revoked(later));
	sgl_dma_unmap(later);

	sgl_dma_unmap(two);
	KUNIT_EXPECT_EQ(test, 1, buf->mapped);
	KUNIT_EXPECT_EQ(test, 1, buf->pinned);
	sgl_dma_unmap(one);
	test_expect_idle(test, buf);
}

/* A list that shares a mapping must not get around the exporter's no. */
static void sgl_asks_again(struct kunit *test)
{
	struct test_buf *buf = test_buf_new(test, 1, SZ_1M);
	struct device *dev = test_device(test);
	unsigned long addr = test_space(test, SZ_1M);
	struct dma_sg_table *table;

	test_mmap_rw(test, buf, addr, 0, SZ_1M);
	table = sgl_dma_map_user(dev, addr, SZ_1M, true, NULL, NULL);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, table);
	buf->pin_err = -ENODEV;
	test_expect_map_err(test, dev, addr, SZ_64K, true, -ENODEV);
	KUNIT_EXPECT_EQ(test, 1, buf->pinned);
	sgl_dma_unmap(table);
	test_expect_idle(test, buf);
}

static struct kunit_case sgl_test_cases[] = {
	KUNIT_CASE(sgl_whole_buffer),
	KUNIT_CASE(sgl_slices),
	KUNIT_CASE(sgl_many_vmas),
	KUNIT_CASE(sgl_shares_attachment),
	KUNIT_CASE(sgl_survives_munmap),
	KUNIT_CASE(sgl_large),
	KUNIT_CASE(sgl_refuses_what_is_no_exporters),
	KUNIT_CASE(sgl_refuses_access),
	KUNIT_CASE(sgl_unwinds),
	KUNIT_CASE(sgl_runs),
	KUNIT_CASE(sgl_owner),
	KUNIT_CASE(sgl_revokes),
	KUNIT_CASE(sgl_revoke_fails),
	KUNIT_CASE(sgl_asks_again),
	{}
};

static struct kunit_suite sgl_test_suite = {
	.name = "sgl_dma_map_user",
	.test_cases = sgl_test_cases,
};

struct test_ib_device {
	struct ib_device ibdev;
};

static void test_dealloc_ib_device(void *ibdev)
{
	ib_dealloc_device(ibdev);
}

/* An HCA nobody knows: enough for the umem, which looks at little of it. */
static struct ib_device *test_ib_device(struct kunit *test)
{
	struct test_ib_device *dev;

	dev = ib_alloc_device(test_ib_device, ibdev);
	KUNIT_ASSERT_NOT_NULL(test, dev);
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, test_dealloc_ib_device,
						  &dev->ibdev));
	dev->ibdev.dma_device = test_device(test);
	return &dev->ibdev;
}

static const int test_access = IB_ACCESS_LOCAL_WRITE | IB_ACCESS_REMOTE_WRITE;

static long test_stat(struct ib_device *ibdev, enum ib_p2p_stat stat)
{
	return atomic_long_read(&ibdev->p2p_stats[stat]);
}

static void test_expect_umem_err(struct kunit *test, struct ib_umem *umem,
				 int err)
{
	KUNIT_EXPECT_EQ(test, err, PTR_ERR_OR_ZERO(umem));
	ib_umem_release(umem);
}

static void umem_of_device_memory(struct kunit *test)
{
	struct test_buf *buf = test_buf_new(test, 4, SZ_64K);
	struct ib_device *ibdev = test_ib_device(test);
	unsigned long addr = test_space(test, SZ_256K);
	struct ib_block_iter biter;
	struct ib_umem *umem;
	unsigned int n = 0;
	char byte;

	test_mmap_rw(test, buf, addr, 0, SZ_256K);

	/* From the last byte of a page on, into the third segment */
	umem = ib_umem_get_mr(ibdev, addr + PAGE_SIZE - 1, SZ_128K, test_access);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, umem);
	KUNIT_EXPECT_TRUE(test, umem->is_p2p);
	KUNIT_EXPECT_TRUE(test, umem->writable);
	KUNIT_EXPECT_FALSE(test, umem->is_dmabuf);
	KUNIT_EXPECT_FALSE(test, umem->is_odp);
	KUNIT_EXPECT_EQ(test, SZ_128K, umem->length);
	KUNIT_EXPECT_EQ(test, PAGE_SIZE - 1, ib_umem_offset(umem));
	KUNIT_EXPECT_EQ(test, SZ_128K / PAGE_SIZE + 1, ib_umem_num_pages(umem));
	KUNIT_EXPECT_EQ(test, TEST_DMA_BASE + PAGE_SIZE - 1,
			(u64)ib_umem_start_dma_addr(umem));
	KUNIT_ASSERT_EQ(test, 3, umem->sgt_append.sgt.nents);
	KUNIT_EXPECT_EQ(test, PAGE_SIZE,
			ib_umem_find_best_pgsz(umem, PAGE_SIZE,
					       addr + PAGE_SIZE - 1));
	rdma_umem_for_each_dma_block(umem, &biter, PAGE_SIZE) {
		size_t at = n * PAGE_SIZE;

		KUNIT_EXPECT_EQ(test, test_dma_addr(buf, at / SZ_64K) +
				at % SZ_64K,
				(u64)rdma_block_iter_dma_address(&biter));
		n++;
	}
	KUNIT_EXPECT_EQ(test, SZ_128K / PAGE_SIZE + 1, n);

	KUNIT_EXPECT_EQ(test, -EINVAL, ib_umem_copy_from(&byte, umem, 0, 1));
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			ib_umem_check_rereg(umem, IB_MR_REREG_ACCESS, 0));
	ibdev->rereg_p2p_mr = 1;
	KUNIT_EXPECT_EQ(test, 0,
			ib_umem_check_rereg(umem, IB_MR_REREG_ACCESS, 0));
	ib_umem_release(umem);
	test_expect_idle(test, buf);
}

static void umem_of_a_read_only_mapping(struct kunit *test)
{
	struct test_buf *buf = test_buf_new(test, 1, SZ_64K);
	struct ib_device *ibdev = test_ib_device(test);
	unsigned long addr = test_space(test, SZ_64K);
	struct ib_umem *umem;

	test_mmap(test, buf, addr, 0, SZ_64K, PROT_READ, MAP_SHARED);
	test_expect_umem_err(test, ib_umem_get_mr(ibdev, addr, SZ_64K,
						  test_access), -EACCES);
	umem = ib_umem_get_mr(ibdev, addr, SZ_64K, IB_ACCESS_REMOTE_READ);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, umem);
	KUNIT_EXPECT_FALSE(test, umem->writable);
	ib_umem_release(umem);
	test_expect_idle(test, buf);
}

static void umem_of_ordinary_memory(struct kunit *test)
{
	struct ib_device *ibdev = test_ib_device(test);
	struct ib_umem *umem;
	unsigned long addr;

	KUNIT_ASSERT_EQ(test, 0, kunit_attach_mm());
	addr = vm_mmap(NULL, 0, SZ_64K, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(addr));
	umem = ib_umem_get_mr(ibdev, addr, SZ_64K, test_access);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, umem);
	KUNIT_EXPECT_FALSE(test, umem->is_p2p);
	KUNIT_EXPECT_NE(test, 0, umem->sgt_append.sgt.orig_nents);
	ib_umem_release(umem);
	KUNIT_EXPECT_EQ(test, 0, atomic64_read(&current->mm->pinned_vm));
}

static void umem_keeps_errors(struct kunit *test)
{
	static const int applies[] = { -EFAULT, -EEXIST, -EPERM, -ENOMEM };
	static const int stands[] = { -EINTR, -EINVAL, -EOPNOTSUPP, -EAGAIN,
				      -EREMOTEIO };
	struct test_buf *buf = test_buf_new(test, 1, SZ_64K);
	struct ib_device *ibdev = test_ib_device(test);
	unsigned long addr = test_space(test, SZ_128K);
	int i;

	test_mmap_rw(test, buf, addr, 0, SZ_64K);

	for (i = 0; i < ARRAY_SIZE(applies); i++) {
		test_expect_umem_err(test,
				     ib_umem_p2p_get(ibdev, addr, SZ_64K,
						     test_access, applies[i],
						     false),
				     0);
		/* Past the mapping */
		test_expect_umem_err(test,
				     ib_umem_p2p_get(ibdev, addr, SZ_128K,
						     test_access, applies[i],
						     false),
				     applies[i]);
		test_expect_umem_err(test,
				     ib_umem_p2p_get(ibdev, addr, SZ_64K,
						     IB_ACCESS_ON_DEMAND,
						     applies[i], false),
				     applies[i]);
	}
	for (i = 0; i < ARRAY_SIZE(stands); i++)
		test_expect_umem_err(test,
				     ib_umem_p2p_get(ibdev, addr, SZ_64K,
						     test_access, stands[i],
						     false),
				     stands[i]);

	/* Queues and doorbells */
	test_expect_umem_err(test, ib_umem_get_va(ibdev, addr, SZ_64K,
						  test_access), -EFAULT);
	test_expect_umem_err(test, ib_umem_get_mr(ibdev, addr, SZ_128K,
						  test_access), -EFAULT);
	buf->map_err = -EREMOTEIO;
	test_expect_umem_err(test, ib_umem_get_mr(ibdev, addr, SZ_64K,
						  test_access), -EREMOTEIO);
	test_expect_idle(test, buf);
}

static void umem_for_the_cpu(struct kunit *test)
{
	struct test_buf *buf = test_buf_new(test, 1, SZ_64K);
	struct ib_device *ibdev = test_ib_device(test);
	unsigned long addr = test_space(test, SZ_128K);

	ibdev->needs_cpu_sgl = 1;
	test_mmap_rw(test, buf, addr, 0, SZ_64K);
	test_expect_umem_err(test, ib_umem_get_mr(ibdev, addr, SZ_64K,
						  test_access), -EOPNOTSUPP);
	test_expect_umem_err(test, ib_umem_get_mr(ibdev, addr, SZ_128K,
						  test_access), -EFAULT);
	KUNIT_EXPECT_EQ(test, 0, buf->maps);
	test_expect_idle(test, buf);
}

static unsigned long test_mmap_ordinary(struct kunit *test, unsigned long addr,
					size_t len, unsigned long prot)
{
	unsigned long ret;

	ret = vm_mmap(NULL, addr, len, prot,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0);
	KUNIT_ASSERT_EQ(test, addr, ret);
	return ret;
}

static u64 test_pinned_pages(void)
{
	return atomic64_read(&current->mm->pinned_vm);
}

/* Ordinary, device, device of another buffer, ordinary, device */
static void umem_of_both(struct kunit *test)
{
	struct test_buf *one = test_buf_new(test, 2, SZ_64K);
	struct test_buf *two = test_buf_new(test, 1, SZ_64K);
	struct ib_device *ibdev = test_ib_device(test);
	unsigned long addr = test_space(test, SZ_512K);
	size_t total = 4 * SZ_64K + SZ_128K;
	struct ib_block_iter biter;
	struct ib_umem *umem;
	unsigned int n = 0;

	test_mmap_ordinary(test, addr, SZ_64K, PROT_READ | PROT_WRITE);
	test_mmap_rw(test, one, addr + SZ_64K, 0, SZ_128K);
	test_mmap_rw(test, two, addr + 3 * SZ_64K, 0, SZ_64K);
	test_mmap_ordinary(test, addr + 4 * SZ_64K, SZ_64K,
			   PROT_READ | PROT_WRITE);
	test_mmap_rw(test, one, addr + 5 * SZ_64K, SZ_64K, SZ_64K);

	umem = ib_umem_get_mr(ibdev, addr + 1, total - 2, test_access);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, umem);
	KUNIT_EXPECT_TRUE(test, umem->is_p2p);
	KUNIT_EXPECT_EQ(test, 0, umem->sgt_append.sgt.orig_nents);
	KUNIT_EXPECT_EQ(test, 2 * SZ_64K / PAGE_SIZE, test_pinned_pages());
	rdma_umem_for_each_dma_block(umem, &biter, PAGE_SIZE) {
		u64 got = rdma_block_iter_dma_address(&biter);
		size_t at = n++ * PAGE_SIZE;

		if (at >= SZ_64K && at < 3 * SZ_64K)
			KUNIT_EXPECT_EQ(test, got,
					test_dma_addr(one, at / SZ_64K - 1) +
					at % SZ_64K);
		else if (at >= 3 * SZ_64K && at < 4 * SZ_64K)
			KUNIT_EXPECT_EQ(test, got,
					test_dma_addr(two, 0) + at % SZ_64K);
		else if (at >= 5 * SZ_64K)
			KUNIT_EXPECT_EQ(test, got,
					test_dma_addr(one, 1) + at % SZ_64K);
		else
			KUNIT_EXPECT_LT(test, got, TEST_DMA_BASE);
	}
	KUNIT_EXPECT_EQ(test, total / PAGE_SIZE, n);
	ib_umem_release(umem);
	KUNIT_EXPECT_EQ(test, 0, test_pinned_pages());
	test_expect_idle(test, one);
	test_expect_idle(test, two);

	/* The exporter refuses, the last of all; a part that cannot be written */
	two->map_err = -EREMOTEIO;
	test_expect_umem_err(test, ib_umem_get_mr(ibdev, addr, total,
						  test_access), -EREMOTEIO);
	two->map_err = 0;
	test_mmap_ordinary(test, addr + 4 * SZ_64K, SZ_64K, PROT_READ);
	test_expect_umem_err(test, ib_umem_get_mr(ibdev, addr, total,
						  test_access), -EFAULT);
	/* A hole */
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr + 4 * SZ_64K, PAGE_SIZE));
	test_expect_umem_err(test, ib_umem_get_mr(ibdev, addr, total,
						  test_access), -EFAULT);
	/* For the CPU it is device memory, however little of it. */
	ibdev->needs_cpu_sgl = 1;
	test_expect_umem_err(test, ib_umem_get_mr(ibdev, addr, SZ_128K,
						  test_access), -EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, 0, test_pinned_pages());
	test_expect_idle(test, one);
	test_expect_idle(test, two);
}

static const struct ib_uverbs_p2p_info *
test_query(struct kunit *test, struct ib_device *ibdev, unsigned long addr,
	   size_t len)
{
	struct ib_uverbs_p2p_info *info;

	info = kunit_kzalloc(test, sizeof(*info), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, info);
	KUNIT_EXPECT_EQ(test, 0, ib_umem_p2p_query(ibdev, addr, len,
						   test_access, false, info));
	return info;
}

/* The errors of exporters, and what the query makes of them */
static void umem_query(struct kunit *test)
{
	static const struct {
		int err;
		enum ib_uverbs_p2p_reason reason;
	} errs[] = {
		{ -EREMOTEIO, IB_UVERBS_P2P_REASON_NO_ROUTE },
		{ -ENODEV, IB_UVERBS_P2P_REASON_GONE },
		{ -EOPNOTSUPP, IB_UVERBS_P2P_REASON_NOT_REVOCABLE },
		{ -EIO, IB_UVERBS_P2P_REASON_OTHER },
	};
	struct test_buf *buf = test_buf_new(test, 2, SZ_64K);
	struct ib_device *ibdev = test_ib_device(test);
	unsigned long addr = test_space(test, SZ_256K);
	const struct ib_uverbs_p2p_info *info;
	struct ib_uverbs_p2p_info none;
	size_t len;
	int i;

	test_mmap_rw(test, buf, addr, 0, SZ_128K);
	info = test_query(test, ibdev, addr + 1, SZ_128K - 2);
	KUNIT_EXPECT_EQ(test, IB_UVERBS_P2P_REASON_NONE, info->reason);
	KUNIT_EXPECT_EQ(test, IB_UVERBS_P2P_DEVICE_MEMORY, info->flags);
	KUNIT_EXPECT_EQ(test, 2, info->segments);

	for (i = 0; i < ARRAY_SIZE(errs); i++) {
		buf->map_err = errs[i].err;
		info = test_query(test, ibdev, addr, SZ_128K);
		KUNIT_EXPECT_EQ(test, errs[i].reason, info->reason);
		KUNIT_EXPECT_EQ(test, -errs[i].err, info->error);
		KUNIT_EXPECT_EQ(test, 0, info->segments);
		test_expect_umem_err(test, ib_umem_get_mr(ibdev, addr, SZ_128K,
							  test_access),
				     errs[i].err);
		KUNIT_EXPECT_EQ(test, i + 1,
				test_stat(ibdev, IB_P2P_STAT_REFUSED));
	}
	/* No answer is no reason. */
	buf->map_err = -ENOMEM;
	KUNIT_EXPECT_EQ(test, -ENOMEM,
			ib_umem_p2p_query(ibdev, addr, SZ_128K, test_access,
					  false, &none));
	buf->map_err = 0;

	test_mmap_ordinary(test, addr + SZ_128K, SZ_64K, PROT_READ);
	info = test_query(test, ibdev, addr, SZ_128K + SZ_64K);
	KUNIT_EXPECT_EQ(test, IB_UVERBS_P2P_REASON_NONE, info->reason);
	KUNIT_EXPECT_EQ(test, IB_UVERBS_P2P_DEVICE_MEMORY |
			      IB_UVERBS_P2P_ORDINARY_MEMORY, info->flags);
	KUNIT_EXPECT_EQ(test, 2, info->segments);
	info = test_query(test, ibdev, addr, SZ_256K);
	KUNIT_EXPECT_EQ(test, IB_UVERBS_P2P_REASON_NOT_MAPPED, info->reason);
	KUNIT_EXPECT_EQ(test, 0, test_pinned_pages());
	KUNIT_EXPECT_EQ(test, 0, test_stat(ibdev, IB_P2P_STAT_MAPPED));

	/* A CoCo guest: it does not matter what is there. */
	ibdev->cc_dma_bounce = 1;
	i = buf->maps;
	for (len = SZ_128K; len <= SZ_256K; len += SZ_64K) {
		info = test_query(test, ibdev, addr, len);
		KUNIT_EXPECT_EQ(test, IB_UVERBS_P2P_REASON_CPU_DATA_PATH,
				info->reason);
		KUNIT_EXPECT_EQ(test, EOPNOTSUPP, info->error);
		test_expect_umem_err(test, ib_umem_get_mr(ibdev, addr, len,
							  test_access),
				     -EOPNOTSUPP);
	}
	KUNIT_EXPECT_EQ(test, i, buf->maps);
	test_expect_idle(test, buf);
}

struct test_hook {
	struct ib_umem *umem;
	int err;
	int calls;
};

static int test_hook(void *priv)
{
	struct test_hook *hook = priv;

	hook->calls++;
	KUNIT_EXPECT_TRUE(kunit_get_current_test(),
			  ib_umem_p2p_revoked(hook->umem));
	return hook->err;
}

static void umem_is_revoked(struct kunit *test)
{
	struct test_buf *one = test_buf_new(test, 1, SZ_64K);
	struct test_buf *two = test_buf_new(test, 1, SZ_64K);
	struct ib_device *ibdev = test_ib_device(test);
	unsigned long addr = test_space(test, SZ_256K);
	struct test_hook hook = {};
	struct ib_umem *umem;

	test_mmap_rw(test, one, addr, 0, SZ_64K);
	test_mmap_ordinary(test, addr + SZ_64K, SZ_64K, PROT_READ | PROT_WRITE);
	test_mmap_rw(test, two, addr + SZ_128K, 0, SZ_64K);

	/* Two buffers, one region: the hook is called once. */
	umem = ib_umem_get_mr_revocable_and_lock(ibdev, addr, 3 * SZ_64K,
						 test_access);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, umem);
	hook.umem = umem;
	ib_umem_set_revoke_locked(umem, test_hook, &hook);
	ib_umem_revoke_unlock(umem);
	KUNIT_EXPECT_FALSE(test, ib_umem_p2p_revoked(umem));
	test_invalidate(two);
	KUNIT_EXPECT_EQ(test, 1, hook.calls);
	KUNIT_EXPECT_EQ(test, 0, two->mapped);
	KUNIT_EXPECT_EQ(test, 1, one->mapped);
	test_invalidate(one);
	KUNIT_EXPECT_EQ(test, 1, hook.calls);
	KUNIT_EXPECT_EQ(test, 0, one->mapped);
	KUNIT_EXPECT_EQ(test, 1, test_stat(ibdev, IB_P2P_STAT_REVOKED));
	/* Not freed before the provider is done with it */
	KUNIT_EXPECT_EQ(test, SZ_64K / PAGE_SIZE, test_pinned_pages());
	ib_umem_release(umem);
	KUNIT_EXPECT_EQ(test, 1, hook.calls);
	KUNIT_EXPECT_EQ(test, 0, test_pinned_pages());
	test_expect_idle(test, one);
	test_expect_idle(test, two);

	/* The hook is gone when the provider has destroyed its key. */
	umem = ib_umem_get_mr_revocable_and_lock(ibdev, addr, SZ_64K,
						 test_access);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, umem);
	hook.umem = umem;
	ib_umem_set_revoke_locked(umem, test_hook, &hook);
	ib_umem_set_revoke_locked(umem, NULL, NULL);
	ib_umem_revoke_unlock(umem);
	test_invalidate(one);
	KUNIT_EXPECT_EQ(test, 1, hook.calls);
	KUNIT_EXPECT_TRUE(test, ib_umem_p2p_revoked(umem));
	KUNIT_EXPECT_EQ(test, 1, test_stat(ibdev, IB_P2P_STAT_REVOKED));
	ib_umem_release(umem);
	test_expect_idle(test, one);

	/* Nothing of this disturbs ordinary memory. */
	umem = ib_umem_get_mr_revocable_and_lock(ibdev, addr + SZ_64K, SZ_64K,
						 test_access);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, umem);
	KUNIT_EXPECT_FALSE(test, umem->is_p2p);
	ib_umem_set_revoke_locked(umem, test_hook, &hook);
	ib_umem_revoke_unlock(umem);
	ib_umem_release(umem);
	KUNIT_EXPECT_EQ(test, 1, hook.calls);
}

/* The HCA cannot be stopped, so none of the buffers is unmapped. */
static void umem_revoke_fails(struct kunit *test)
{
	struct test_buf *one = test_buf_new(test, 1, SZ_64K);
	struct test_buf *two = test_buf_new(test, 1, SZ_64K);
	struct ib_device *ibdev = test_ib_device(test);
	unsigned long addr = test_space(test, SZ_128K);
	struct test_hook hook = { .err = -EIO };
	struct ib_umem *umem;

	test_mmap_rw(test, one, addr, 0, SZ_64K);
	test_mmap_rw(test, two, addr + SZ_64K, 0, SZ_64K);
	umem = ib_umem_get_mr_revocable_and_lock(ibdev, addr, SZ_128K,
						 test_access);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, umem);
	hook.umem = umem;
	ib_umem_set_revoke_locked(umem, test_hook, &hook);
	ib_umem_revoke_unlock(umem);

	test_invalidate(one);
	test_invalidate(two);
	KUNIT_EXPECT_EQ(test, 1, hook.calls);
	KUNIT_EXPECT_EQ(test, 1, one->mapped);
	KUNIT_EXPECT_EQ(test, 1, two->mapped);
	KUNIT_EXPECT_TRUE(test, ib_umem_p2p_revoked(umem));
	KUNIT_EXPECT_EQ(test, 0, test_stat(ibdev, IB_P2P_STAT_REVOKED));
	ib_umem_release(umem);
	test_expect_idle(test, one);
	test_expect_idle(test, two);
}

/* A buffer is taken back while the rest of the region is still being mapped. */
static void umem_revoked_too_early(struct kunit *test)
{
	struct test_buf *one = test_buf_new(test, 1, SZ_64K);
	struct test_buf *two = test_buf_new(test, 1, SZ_64K);
	struct ib_device *ibdev = test_ib_device(test);
	unsigned long addr = test_space(test, SZ_256K);
	struct ib_umem *umem;

	test_mmap_rw(test, one, addr, 0, SZ_64K);
	test_mmap_ordinary(test, addr + SZ_64K, SZ_64K, PROT_READ | PROT_WRITE);
	test_mmap_rw(test, two, addr + SZ_128K, 0, SZ_64K);
	two->invalidates = one;
	umem = ib_umem_get_mr_revocable_and_lock(ibdev, addr, 3 * SZ_64K,
						 test_access);
	test_expect_umem_err(test, umem, -ENODEV);
	KUNIT_EXPECT_EQ(test, 1, one->maps);
	KUNIT_EXPECT_EQ(test, 1, two->maps);
	KUNIT_EXPECT_EQ(test, 0, test_stat(ibdev, IB_P2P_STAT_REGIONS));
	KUNIT_EXPECT_EQ(test, 1, test_stat(ibdev, IB_P2P_STAT_REFUSED));
	KUNIT_EXPECT_EQ(test, 0, test_stat(ibdev, IB_P2P_STAT_REVOKED));
	KUNIT_EXPECT_EQ(test, 0, test_pinned_pages());
	test_expect_idle(test, one);
	test_expect_idle(test, two);
}

static struct kunit_case umem_test_cases[] = {
	KUNIT_CASE(umem_of_device_memory),
	KUNIT_CASE(umem_of_a_read_only_mapping),
	KUNIT_CASE(umem_of_ordinary_memory),
	KUNIT_CASE(umem_keeps_errors),
	KUNIT_CASE(umem_for_the_cpu),
	KUNIT_CASE(umem_of_both),
	KUNIT_CASE(umem_query),
	KUNIT_CASE(umem_is_revoked),
	KUNIT_CASE(umem_revoke_fails),
	KUNIT_CASE(umem_revoked_too_early),
	{}
};

static struct kunit_suite umem_test_suite = {
	.name = "umem_p2p",
	.test_cases = umem_test_cases,
};

kunit_test_suites(&sgl_test_suite, &umem_test_suite);
