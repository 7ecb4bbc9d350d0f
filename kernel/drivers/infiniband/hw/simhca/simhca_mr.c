// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * simhca: memory regions.
 */

#include <rdma/uverbs_ioctl.h>

#include "simhca.h"

#define SIMHCA_MR_ACCESS	(IB_ACCESS_LOCAL_WRITE | IB_ACCESS_REMOTE_WRITE | \
				 IB_ACCESS_REMOTE_READ | IB_ACCESS_REMOTE_ATOMIC)

static u32 simhca_mr_access(int access)
{
	return (access & IB_ACCESS_LOCAL_WRITE ? SIMHCA_ACCESS_LOCAL_WRITE : 0) |
	       (access & IB_ACCESS_REMOTE_WRITE ? SIMHCA_ACCESS_REMOTE_WRITE : 0) |
	       (access & IB_ACCESS_REMOTE_READ ? SIMHCA_ACCESS_REMOTE_READ : 0) |
	       (access & IB_ACCESS_REMOTE_ATOMIC ? SIMHCA_ACCESS_REMOTE_ATOMIC : 0);
}

/* An index comes back only after all others were tried, and then with another variant */
static int simhca_key_alloc(struct simhca_dev *dev, struct simhca_mr *mr, u32 *key)
{
	u32 index;
	int ret;

	xa_lock(&dev->mrs);
	ret = __xa_alloc_cyclic(&dev->mrs, &index, mr, XA_LIMIT(1, dev->caps.max_mr),
				&dev->next_mr, GFP_KERNEL);
	if (ret == 1)
		dev->key_variant++;
	*key = index << SIMHCA_KEY_INDEX_SHIFT | dev->key_variant;
	xa_unlock(&dev->mrs);

	return ret < 0 ? ret : 0;
}

static void simhca_key_free(struct simhca_dev *dev, u32 key)
{
	xa_erase(&dev->mrs, key >> SIMHCA_KEY_INDEX_SHIFT);
}

static struct simhca_mr *simhca_mr_alloc(struct simhca_dev *dev, int access,
					 struct ib_dmah *dmah, struct ib_udata *udata)
{
	struct simhca_mr *mr;
	int err;

	err = ib_no_udata_io(udata);
	if (err)
		return ERR_PTR(err);

	if (dmah)
		return ERR_PTR(-EOPNOTSUPP);

	access &= ~IB_ACCESS_OPTIONAL;
	if (access & ~SIMHCA_MR_ACCESS) {
		ibdev_dbg(&dev->ibdev, "MR access %#x is not supported\n",
			  access & ~SIMHCA_MR_ACCESS);
		return ERR_PTR(-EOPNOTSUPP);
	}

	mr = kzalloc_obj(*mr);
	return mr ?: ERR_PTR(-ENOMEM);
}

/* Whatever memory the umem is made of, this makes it an MR */
static int simhca_mr_register(struct simhca_mr *mr, struct ib_pd *ibpd, u64 iova, int access)
{
	struct simhca_dev *dev = to_sdev(ibpd->device);
	struct simhca_cmd cmd = { .opcode = cpu_to_le16(SIMHCA_CMD_CREATE_MR) };
	struct simhca_cmd_create_mr *create = &cmd.payload.create_mr;
	struct simhca_sgl_chunks chunks;
	u64 last;
	u32 key;
	int err;

	if (check_add_overflow(iova, mr->umem->length - 1, &last))
		return -EINVAL;

	err = simhca_sgl_build(dev, mr->umem, &create->sgl, &chunks);
	if (err)
		return err;

	err = simhca_key_alloc(dev, mr, &key);
	if (err)
		goto err_sgl;

	create->key = cpu_to_le32(key);
	create->pdn = cpu_to_le32(to_spd(ibpd)->pdn);
	create->access = cpu_to_le32(simhca_mr_access(access));
	create->iova = cpu_to_le64(iova);
	create->length = cpu_to_le64(mr->umem->length);
	err = simhca_cmd_exec(dev, &cmd);
	if (err)
		goto err_key;

	simhca_sgl_free(dev, &create->sgl, &chunks);
	mr->ibmr.lkey = key;
	mr->ibmr.rkey = key;
	mr->ibmr.iova = iova;
	mr->ibmr.length = mr->umem->length;
	ibdev_dbg(&dev->ibdev, "MR %#x: iova %#llx, %llu bytes in %u segments, access %#x\n", key,
		  iova, mr->ibmr.length, le32_to_cpu(create->sgl.nsegs), access);
	return 0;

err_key:
	simhca_key_free(dev, key);
err_sgl:
	simhca_sgl_free(dev, &create->sgl, &chunks);
	return err;
}

struct ib_mr *simhca_reg_user_mr(struct ib_pd *ibpd, u64 start, u64 length, u64 virt_addr,
				 int access, struct ib_dmah *dmah, struct ib_udata *udata)
{
	struct simhca_dev *dev = to_sdev(ibpd->device);
	struct simhca_mr *mr;
	int err;

	mr = simhca_mr_alloc(dev, access, dmah, udata);
	if (IS_ERR(mr)) {
		err = PTR_ERR(mr);
		goto err_out;
	}

	mr->umem = ib_umem_get_mr(ibpd->device, start, length, access);
	if (IS_ERR(mr->umem)) {
		err = PTR_ERR(mr->umem);
		ibdev_dbg(&dev->ibdev, "no umem for %#llx, %llu bytes: %pe\n", start, length,
			  mr->umem);
		goto err_free;
	}

	err = simhca_mr_register(mr, ibpd, virt_addr, access);
	if (err)
		goto err_umem;

	return &mr->ibmr;

err_umem:
	ib_umem_release(mr->umem);
err_free:
	kfree(mr);
err_out:
	simhca_count(dev, SIMHCA_CNT_REG_MR_ERR);
	return ERR_PTR(err);
}

struct ib_mr *simhca_reg_user_mr_dmabuf(struct ib_pd *ibpd, u64 offset, u64 length,
					u64 virt_addr, int fd, int access, struct ib_dmah *dmah,
					struct uverbs_attr_bundle *attrs)
{
	struct simhca_dev *dev = to_sdev(ibpd->device);
	struct ib_umem_dmabuf *umem_dmabuf;
	struct simhca_mr *mr;
	int err;

	mr = simhca_mr_alloc(dev, access, dmah, &attrs->driver_udata);
	if (IS_ERR(mr)) {
		err = PTR_ERR(mr);
		goto err_out;
	}

	umem_dmabuf = ib_umem_dmabuf_get_pinned(ibpd->device, offset, length, fd, access);
	if (IS_ERR(umem_dmabuf)) {
		err = PTR_ERR(umem_dmabuf);
		ibdev_dbg(&dev->ibdev, "no umem for dma-buf at %#llx, %llu bytes: %pe\n", offset,
			  length, umem_dmabuf);
		goto err_free;
	}
	mr->umem = &umem_dmabuf->umem;

	err = simhca_mr_register(mr, ibpd, virt_addr, access);
	if (err)
		goto err_umem;

	return &mr->ibmr;

err_umem:
	ib_umem_release(mr->umem);
err_free:
	kfree(mr);
err_out:
	simhca_count(dev, SIMHCA_CNT_REG_MR_ERR);
	return ERR_PTR(err);
}

int simhca_dereg_mr(struct ib_mr *ibmr, struct ib_udata *udata)
{
	struct simhca_dev *dev = to_sdev(ibmr->device);
	struct simhca_mr *mr = to_smr(ibmr);
	int err;

	err = ib_no_udata_io(udata);
	if (err)
		return err;

	simhca_cmd_destroy(dev, SIMHCA_CMD_DESTROY_MR, ibmr->lkey);
	simhca_key_free(dev, ibmr->lkey);
	ib_umem_release(mr->umem);
	kfree(mr);
	return 0;
}
