// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * simhca: memory regions.
 *
 * Memory of other devices can be taken back by its owner while it is registered. The device then
 * fences the key, which stays allocated, without memory, until the MR is deregistered, or
 * re-registered with other memory.
 *
 * MRs of kernel users get their memory by work requests (IB_WR_REG_MR). The list of its DMA
 * addresses belongs to the MR, and the device reads it while it executes the request.
 */

#include <linux/moduleparam.h>
#include <net/netlink.h>
#include <rdma/rdma_netlink.h>
#include <rdma/restrack.h>
#include <rdma/uverbs_ioctl.h>

#include "simhca.h"

#define SIMHCA_MR_ACCESS	(IB_ACCESS_LOCAL_WRITE | IB_ACCESS_REMOTE_WRITE | \
				 IB_ACCESS_REMOTE_READ | IB_ACCESS_REMOTE_ATOMIC | \
				 IB_ACCESS_FLUSH_GLOBAL | IB_ACCESS_MW_BIND | IB_ZERO_BASED)
#define SIMHCA_REREG_FLAGS	(IB_MR_REREG_TRANS | IB_MR_REREG_PD | IB_MR_REREG_ACCESS)

enum simhca_revoke {
	SIMHCA_REVOKE_NONE,
	SIMHCA_REVOKE_HOOK,
};

static const char * const simhca_revoke_names[] = {
	[SIMHCA_REVOKE_NONE] = "none",
	[SIMHCA_REVOKE_HOOK] = "hook",
};

static enum simhca_revoke simhca_revoke = SIMHCA_REVOKE_HOOK;

static int simhca_revoke_set(const char *val, const struct kernel_param *kp)
{
	int ret = sysfs_match_string(simhca_revoke_names, val);

	if (ret < 0)
		return ret;

	WRITE_ONCE(simhca_revoke, ret);
	return 0;
}

static int simhca_revoke_get(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%s\n", simhca_revoke_names[READ_ONCE(simhca_revoke)]);
}

static const struct kernel_param_ops simhca_revoke_ops = {
	.set = simhca_revoke_set,
	.get = simhca_revoke_get,
};

module_param_cb(revoke, &simhca_revoke_ops, NULL, 0644);
__MODULE_PARM_TYPE(revoke, "charp");
MODULE_PARM_DESC(revoke, "how memory is taken back from MRs registered from now on: hook (the device fences the key; default), none (it cannot, as in HCAs without a way to do it)");

/* What simhca_mem_get() would do now */
bool simhca_mr_revocable(struct ib_device *ibdev)
{
	return READ_ONCE(simhca_revoke) == SIMHCA_REVOKE_HOOK;
}

/* ---- memory --------------------------------------------------------------------------------- */

/**
 * struct simhca_mr_source - what a process wants to register
 * @start: user address, or offset in the dma-buf
 * @length: bytes
 * @fd: the dma-buf, or negative
 */
struct simhca_mr_source {
	u64 start;
	u64 length;
	int fd;
};

static struct ib_umem *simhca_umem_get(struct ib_device *ibdev, const struct simhca_mr_source *src,
				       int access, bool revocable)
{
	struct ib_umem_dmabuf *dmabuf;

	if (src->fd < 0 && revocable)
		return ib_umem_get_mr_revocable_and_lock(ibdev, src->start, src->length, access);
	if (src->fd < 0)
		return ib_umem_get_mr(ibdev, src->start, src->length, access);

	if (revocable)
		dmabuf = ib_umem_dmabuf_get_pinned_revocable_and_lock(ibdev, src->start,
								      src->length, src->fd, access);
	else
		dmabuf = ib_umem_dmabuf_get_pinned(ibdev, src->start, src->length, src->fd, access);
	return IS_ERR(dmabuf) ? ERR_CAST(dmabuf) : &dmabuf->umem;
}

/* The owner wants the memory back. Context: process, under the lock of the umem. */
static int simhca_mem_revoke(void *priv)
{
	struct simhca_mr_mem *mem = priv;
	struct simhca_dev *dev = to_sdev(mem->umem->ibdev);
	struct simhca_mr *mr = mem->mr;

	mutex_lock(&mr->lock);
	/* If not, the device has been told to use other memory, or to forget the key */
	if (mr->mem == mem) {
		simhca_cmd_destroy(dev, SIMHCA_CMD_FENCE_MR, mr->ibmr.lkey);
		mr->fenced = true;
		simhca_count(dev, SIMHCA_CNT_MR_FENCED);
		ibdev_dbg(&dev->ibdev, "MR %#x: fenced\n", mr->ibmr.lkey);
	}
	mutex_unlock(&mr->lock);
	return 0;
}

/* Whoever gets memory tells the device, and then calls simhca_mem_publish() or _drop() */
static struct simhca_mr_mem *simhca_mem_get(struct simhca_mr *mr, struct ib_device *ibdev,
					    const struct simhca_mr_source *src, int access)
{
	struct simhca_mr_mem *mem;
	int err;

	mem = kzalloc_obj(*mem);
	if (!mem)
		return ERR_PTR(-ENOMEM);

	mem->mr = mr;
	mem->revocable = simhca_mr_revocable(ibdev);
	mem->umem = simhca_umem_get(ibdev, src, access, mem->revocable);
	if (IS_ERR(mem->umem)) {
		err = PTR_ERR(mem->umem);
		ibdev_dbg(ibdev, "no umem for %s %#llx, %llu bytes: %pe\n",
			  src->fd < 0 ? "address" : "dma-buf at", src->start, src->length,
			  mem->umem);
		kfree(mem);
		return ERR_PTR(err);
	}
	return mem;
}

/* The device uses the memory: from here on its owner can have it back */
static void simhca_mem_publish(struct simhca_mr_mem *mem)
{
	if (!mem->revocable)
		return;
	ib_umem_set_revoke_locked(mem->umem, simhca_mem_revoke, mem);
	ib_umem_revoke_unlock(mem->umem);
}

static void simhca_mem_free(struct simhca_mr_mem *mem)
{
	ib_umem_release(mem->umem);
	kfree(mem);
}

/* The device does not use the memory any more: its owner need not ask */
static void simhca_mem_retire(struct simhca_mr_mem *mem)
{
	if (mem->revocable) {
		ib_umem_revoke_lock(mem->umem);
		ib_umem_set_revoke_locked(mem->umem, NULL, NULL);
		ib_umem_revoke_unlock(mem->umem);
	}
	simhca_mem_free(mem);
}

/* The device does not use the memory, and never has */
static void simhca_mem_drop(struct simhca_mr_mem *mem)
{
	if (mem->revocable)
		ib_umem_revoke_unlock(mem->umem);
	simhca_mem_free(mem);
}

/* ---- keys ----------------------------------------------------------------------------------- */

/**
 * simhca_key_alloc - a key for a new MR or window
 * @dev: the device
 * @owner: the MR or window
 * @key: the key
 *
 * An index comes back only after all others were tried, and then with another variant.
 *
 * Return: 0 or an errno. Undone by simhca_key_free().
 */
int simhca_key_alloc(struct simhca_dev *dev, void *owner, u32 *key)
{
	u32 index;
	int ret;

	xa_lock(&dev->mrs);
	ret = __xa_alloc_cyclic(&dev->mrs, &index, owner, XA_LIMIT(1, dev->caps.max_mr),
				&dev->next_mr, GFP_KERNEL);
	if (ret == 1)
		dev->key_variant++;
	*key = index << SIMHCA_KEY_INDEX_SHIFT | dev->key_variant;
	xa_unlock(&dev->mrs);

	return simhca_xa_err(ret);
}

/**
 * simhca_key_free - a key is not used any more
 * @dev: the device
 * @key: the key; its variant may have changed
 */
void simhca_key_free(struct simhca_dev *dev, u32 key)
{
	xa_erase(&dev->mrs, key >> SIMHCA_KEY_INDEX_SHIFT);
}

/* ---- regions -------------------------------------------------------------------------------- */

static int simhca_mr_check_access(struct simhca_dev *dev, int access)
{
	access &= ~(SIMHCA_MR_ACCESS | IB_ACCESS_OPTIONAL);
	if (!access)
		return 0;

	ibdev_dbg(&dev->ibdev, "MR access %#x is not supported\n", access);
	return -EOPNOTSUPP;
}

/**
 * simhca_mr_access - rights as the device knows them
 * @access: IB_ACCESS_*
 *
 * Return: SIMHCA_ACCESS_*
 */
u32 simhca_mr_access(int access)
{
	return (access & IB_ACCESS_LOCAL_WRITE ? SIMHCA_ACCESS_LOCAL_WRITE : 0) |
	       (access & IB_ACCESS_REMOTE_WRITE ? SIMHCA_ACCESS_REMOTE_WRITE : 0) |
	       (access & IB_ACCESS_REMOTE_READ ? SIMHCA_ACCESS_REMOTE_READ : 0) |
	       (access & IB_ACCESS_REMOTE_ATOMIC ? SIMHCA_ACCESS_REMOTE_ATOMIC : 0) |
	       (access & IB_ACCESS_FLUSH_GLOBAL ? SIMHCA_ACCESS_FLUSH_GLOBAL : 0) |
	       (access & IB_ACCESS_MW_BIND ? SIMHCA_ACCESS_MW_BIND : 0);
}

/* Address of the first byte in work requests */
static u64 simhca_mr_iova(u64 virt_addr, int access)
{
	return access & IB_ZERO_BASED ? 0 : virt_addr;
}

/* Whatever memory the umem is made of, this makes it an MR */
static int simhca_mr_create(struct simhca_mr *mr, struct simhca_mr_mem *mem, struct ib_pd *ibpd,
			    u64 iova, int access)
{
	struct simhca_cmd cmd = { .opcode = cpu_to_le16(SIMHCA_CMD_CREATE_MR) };
	struct simhca_cmd_create_mr *create = &cmd.payload.create_mr;
	struct simhca_dev *dev = to_sdev(ibpd->device);
	struct simhca_sgl_chunks chunks;
	u32 key;
	int err;

	err = simhca_sgl_build(dev, mem->umem, mem->umem->length, &create->sgl, &chunks);
	if (err)
		return err;

	err = simhca_key_alloc(dev, mr, &key);
	if (err)
		goto out_sgl;

	create->key = cpu_to_le32(key);
	create->pdn = cpu_to_le32(to_spd(ibpd)->pdn);
	create->access = cpu_to_le32(simhca_mr_access(access));
	create->iova = cpu_to_le64(iova);
	create->length = create->sgl.length;
	err = simhca_cmd_exec(dev, &cmd);
	if (err) {
		simhca_key_free(dev, key);
		goto out_sgl;
	}

	mem->nsegs = le32_to_cpu(create->sgl.nsegs);
	mr->mem = mem;
	mr->access = access;
	mr->ibmr.lkey = key;
	mr->ibmr.rkey = key;
	mr->ibmr.iova = iova;
	mr->ibmr.length = mem->umem->length;
	ibdev_dbg(&dev->ibdev, "MR %#x: iova %#llx, %llu bytes in %u segments, access %#x\n", key,
		  iova, mr->ibmr.length, mem->nsegs, access);
out_sgl:
	simhca_sgl_free(dev, &create->sgl, &chunks);
	return err;
}

/* All that the function can reach, for kernel users: work requests name DMA addresses */
struct ib_mr *simhca_get_dma_mr(struct ib_pd *ibpd, int access)
{
	struct simhca_cmd cmd = { .opcode = cpu_to_le16(SIMHCA_CMD_CREATE_MR) };
	struct simhca_cmd_create_mr *create = &cmd.payload.create_mr;
	struct simhca_dev *dev = to_sdev(ibpd->device);
	struct simhca_mr *mr;
	u32 key;
	int err;

	mr = kzalloc_obj(*mr);
	if (!mr)
		return ERR_PTR(-ENOMEM);
	mutex_init(&mr->lock);
	mr->access = access;

	err = simhca_key_alloc(dev, mr, &key);
	if (err)
		goto err_free;

	create->key = cpu_to_le32(key);
	create->pdn = cpu_to_le32(to_spd(ibpd)->pdn);
	create->access = cpu_to_le32(simhca_mr_access(access));
	create->flags = cpu_to_le32(SIMHCA_MR_DMA);
	err = simhca_cmd_exec(dev, &cmd);
	if (err)
		goto err_key;

	mr->ibmr.lkey = key;
	mr->ibmr.rkey = key;
	return &mr->ibmr;

err_key:
	simhca_key_free(dev, key);
err_free:
	mutex_destroy(&mr->lock);
	kfree(mr);
	simhca_count(dev, SIMHCA_CNT_REG_MR_ERR);
	return ERR_PTR(err);
}

static struct ib_mr *simhca_mr_register(struct ib_pd *ibpd, const struct simhca_mr_source *src,
					u64 virt_addr, int access, struct ib_dmah *dmah,
					struct ib_udata *udata)
{
	struct simhca_dev *dev = to_sdev(ibpd->device);
	struct simhca_mr_mem *mem;
	struct simhca_mr *mr;
	int err;

	err = ib_no_udata_io(udata);
	if (err)
		goto err_out;

	err = dmah ? -EOPNOTSUPP : simhca_mr_check_access(dev, access);
	if (err)
		goto err_out;

	err = -ENOMEM;
	mr = kzalloc_obj(*mr);
	if (!mr)
		goto err_out;
	mutex_init(&mr->lock);

	mem = simhca_mem_get(mr, ibpd->device, src, access);
	if (IS_ERR(mem)) {
		err = PTR_ERR(mem);
		goto err_free;
	}

	err = simhca_mr_create(mr, mem, ibpd, simhca_mr_iova(virt_addr, access), access);
	if (err)
		goto err_mem;

	simhca_mem_publish(mem);
	return &mr->ibmr;

err_mem:
	simhca_mem_drop(mem);
err_free:
	mutex_destroy(&mr->lock);
	kfree(mr);
err_out:
	simhca_count(dev, SIMHCA_CNT_REG_MR_ERR);
	return ERR_PTR(err);
}

struct ib_mr *simhca_reg_user_mr(struct ib_pd *ibpd, u64 start, u64 length, u64 virt_addr,
				 int access, struct ib_dmah *dmah, struct ib_udata *udata)
{
	const struct simhca_mr_source src = { .start = start, .length = length, .fd = -1 };

	return simhca_mr_register(ibpd, &src, virt_addr, access, dmah, udata);
}

struct ib_mr *simhca_reg_user_mr_dmabuf(struct ib_pd *ibpd, u64 offset, u64 length,
					u64 virt_addr, int fd, int access, struct ib_dmah *dmah,
					struct uverbs_attr_bundle *attrs)
{
	const struct simhca_mr_source src = { .start = offset, .length = length, .fd = fd };

	if (fd < 0)
		return ERR_PTR(-EBADF);
	return simhca_mr_register(ibpd, &src, virt_addr, access, dmah, &attrs->driver_udata);
}

/* In the device: all at once, or nothing. @mem is the new memory, or NULL. */
static int simhca_mr_change(struct simhca_mr *mr, struct simhca_mr_mem *mem, int flags, u64 iova,
			    struct ib_pd *ibpd, int access)
{
	struct simhca_cmd cmd = { .opcode = cpu_to_le16(SIMHCA_CMD_REREG_MR) };
	struct simhca_cmd_rereg_mr *rereg = &cmd.payload.rereg_mr;
	struct simhca_dev *dev = to_sdev(mr->ibmr.device);
	struct simhca_sgl_chunks chunks = {};
	u32 mask = 0;
	int err;

	if (mem) {
		mask |= SIMHCA_REREG_TRANS;
		err = simhca_sgl_build(dev, mem->umem, mem->umem->length, &rereg->sgl, &chunks);
		if (err)
			return err;
		mem->nsegs = le32_to_cpu(rereg->sgl.nsegs);
		rereg->iova = cpu_to_le64(iova);
		rereg->length = rereg->sgl.length;
	}
	if (flags & IB_MR_REREG_PD) {
		mask |= SIMHCA_REREG_PD;
		rereg->pdn = cpu_to_le32(to_spd(ibpd)->pdn);
	}
	if (flags & IB_MR_REREG_ACCESS) {
		mask |= SIMHCA_REREG_ACCESS;
		rereg->access = cpu_to_le32(simhca_mr_access(access));
	}
	rereg->key = cpu_to_le32(mr->ibmr.lkey);
	rereg->mask = cpu_to_le32(mask);

	/* The hook of the old memory must not fence the new one */
	mutex_lock(&mr->lock);
	err = simhca_cmd_exec(dev, &cmd);
	if (!err && mem) {
		mr->mem = mem;
		mr->fenced = false;
	}
	mutex_unlock(&mr->lock);

	simhca_sgl_free(dev, &rereg->sgl, &chunks);
	return err;
}

/*
 * The key stays, and so does the MR as it was if anything fails. Memory is exchanged before the
 * old one is released, under the lock of the new one only: two are never held at once.
 */
struct ib_mr *simhca_rereg_user_mr(struct ib_mr *ibmr, int flags, u64 start, u64 length,
				   u64 virt_addr, int access, struct ib_pd *ibpd,
				   struct ib_udata *udata)
{
	const struct simhca_mr_source src = { .start = start, .length = length, .fd = -1 };
	struct simhca_mr_mem *old, *mem = NULL;
	struct simhca_dev *dev = to_sdev(ibmr->device);
	struct simhca_mr *mr = to_smr(ibmr);
	int err;

	err = ib_no_udata_io(udata);
	if (err)
		goto err_out;

	err = -EOPNOTSUPP;
	if (flags & ~SIMHCA_REREG_FLAGS)
		goto err_out;

	/* uverbs has one change of an MR at a time: nobody else replaces this */
	old = mr->mem;
	err = ib_umem_check_rereg(old->umem, flags, access);
	if (err)
		goto err_out;

	if (!(flags & IB_MR_REREG_ACCESS))
		access = mr->access;
	err = simhca_mr_check_access(dev, access);
	/* Where the first byte is changes with the memory only */
	if (!err && !(flags & IB_MR_REREG_TRANS) && (access ^ mr->access) & IB_ZERO_BASED)
		err = -EINVAL;
	if (err)
		goto err_out;

	if (flags & IB_MR_REREG_TRANS) {
		mem = simhca_mem_get(mr, ibmr->device, &src, access);
		if (IS_ERR(mem)) {
			err = PTR_ERR(mem);
			goto err_out;
		}
	}

	err = simhca_mr_change(mr, mem, flags, simhca_mr_iova(virt_addr, access), ibpd, access);
	if (err)
		goto err_mem;
	mr->access = access;

	if (mem) {
		simhca_mem_publish(mem);
		simhca_mem_retire(old);
	}
	ibdev_dbg(&dev->ibdev, "MR %#x: changed %#x, %u segments, access %#x\n", ibmr->lkey, flags,
		  mr->mem->nsegs, access);
	return NULL;

err_mem:
	if (mem)
		simhca_mem_drop(mem);
err_out:
	simhca_count(dev, SIMHCA_CNT_REREG_MR_ERR);
	return ERR_PTR(err);
}

/* ---- fast registration ---------------------------------------------------------------------- */

static int simhca_fast_mr_create(struct simhca_mr *mr, struct ib_pd *ibpd)
{
	struct simhca_cmd cmd = { .opcode = cpu_to_le16(SIMHCA_CMD_CREATE_MR) };
	struct simhca_cmd_create_mr *create = &cmd.payload.create_mr;
	struct simhca_dev *dev = to_sdev(ibpd->device);
	u32 key;
	int err;

	err = simhca_key_alloc(dev, mr, &key);
	if (err)
		return err;

	create->key = cpu_to_le32(key);
	create->pdn = cpu_to_le32(to_spd(ibpd)->pdn);
	create->flags = cpu_to_le32(SIMHCA_MR_FAST);
	create->sgl.nsegs = cpu_to_le32(mr->fast.max);
	err = simhca_cmd_exec(dev, &cmd);
	if (err) {
		simhca_key_free(dev, key);
		return err;
	}

	mr->ibmr.lkey = key;
	mr->ibmr.rkey = key;
	ibdev_dbg(&dev->ibdev, "MR %#x: for fast registration, %u segments\n", key, mr->fast.max);
	return 0;
}

struct ib_mr *simhca_alloc_mr(struct ib_pd *ibpd, enum ib_mr_type type, u32 max_num_sg)
{
	struct simhca_dev *dev = to_sdev(ibpd->device);
	struct simhca_fast_mem *fast;
	struct simhca_mr *mr;
	int err;

	err = -EOPNOTSUPP;
	if (type != IB_MR_TYPE_MEM_REG && type != IB_MR_TYPE_SG_GAPS)
		goto err_out;

	err = -EINVAL;
	if (!max_num_sg || max_num_sg > dev->caps.max_fast_segs)
		goto err_out;

	err = -ENOMEM;
	mr = kzalloc_obj(*mr);
	if (!mr)
		goto err_out;
	mutex_init(&mr->lock);

	fast = &mr->fast;
	fast->max = max_num_sg;
	fast->segs = dma_alloc_coherent(&dev->pdev->dev, fast->max * sizeof(*fast->segs),
					&fast->dma, GFP_KERNEL);
	if (!fast->segs)
		goto err_free;

	err = simhca_fast_mr_create(mr, ibpd);
	if (err)
		goto err_segs;
	return &mr->ibmr;

err_segs:
	dma_free_coherent(&dev->pdev->dev, fast->max * sizeof(*fast->segs), fast->segs, fast->dma);
err_free:
	mutex_destroy(&mr->lock);
	kfree(mr);
err_out:
	simhca_count(dev, SIMHCA_CNT_REG_MR_ERR);
	return ERR_PTR(err);
}

/* A run that goes on where the one before ended needs no segment of its own */
static bool simhca_fast_add(struct simhca_fast_mem *fast, u64 addr, u64 len)
{
	struct simhca_seg *last = fast->segs + fast->num - 1;

	if (!len)
		return true;
	if (fast->num && le64_to_cpu(last->addr) + le64_to_cpu(last->len) == addr) {
		le64_add_cpu(&last->len, len);
		return true;
	}
	if (fast->num == fast->max)
		return false;
	fast->segs[fast->num++] = (struct simhca_seg) {
		.addr = cpu_to_le64(addr),
		.len = cpu_to_le64(len),
	};
	return true;
}

/* Gaps between the entries are no more to the device than pages that do not follow each other */
int simhca_map_mr_sg(struct ib_mr *ibmr, struct scatterlist *sgl, int sg_nents,
		     unsigned int *sg_offset)
{
	unsigned int skip = sg_offset ? *sg_offset : 0;
	struct simhca_fast_mem *fast = &to_smr(ibmr)->fast;
	struct scatterlist *sg;
	int i;

	if (sg_nents <= 0 || skip > sg_dma_len(sgl))
		return -EINVAL;

	fast->num = 0;
	ibmr->iova = sg_dma_address(sgl) + skip;
	ibmr->length = 0;
	for_each_sg(sgl, sg, sg_nents, i) {
		u64 len = sg_dma_len(sg) - skip;

		if (!simhca_fast_add(fast, sg_dma_address(sg) + skip, len))
			break;
		ibmr->length += len;
		skip = 0;
	}
	if (sg_offset)
		*sg_offset = 0;
	return i;
}

/**
 * simhca_fill_res_mr_entry - what "rdma resource show mr -dd" tells
 * @msg: to be added to
 * @ibmr: the MR
 *
 * Context: process; the MR is not deregistered meanwhile.
 *
 * Return: 0, or -EMSGSIZE.
 */
int simhca_fill_res_mr_entry(struct sk_buff *msg, struct ib_mr *ibmr)
{
	struct simhca_mr *mr = to_smr(ibmr);
	struct nlattr *attr;
	int err;

	/* MRs of the kernel have no memory of their own */
	if (!mr->mem)
		return 0;

	attr = nla_nest_start(msg, RDMA_NLDEV_ATTR_DRIVER);
	if (!attr)
		return -EMSGSIZE;

	mutex_lock(&mr->lock);
	err = rdma_nl_put_driver_u32(msg, "segments", mr->mem->nsegs);
	if (!err)
		err = rdma_nl_put_driver_u32(msg, "fenced", mr->fenced);
	if (!err)
		err = ib_umem_fill_res_mr_entry(msg, mr->mem->umem);
	mutex_unlock(&mr->lock);
	if (err) {
		nla_nest_cancel(msg, attr);
		return err;
	}

	nla_nest_end(msg, attr);
	return 0;
}

int simhca_dereg_mr(struct ib_mr *ibmr, struct ib_udata *udata)
{
	struct simhca_dev *dev = to_sdev(ibmr->device);
	struct simhca_mr *mr = to_smr(ibmr);
	struct simhca_mr_mem *mem;
	int err;

	err = ib_no_udata_io(udata);
	if (err)
		return err;

	mutex_lock(&mr->lock);
	err = simhca_cmd_destroy_mr(dev, ibmr->lkey);
	if (err) {
		mutex_unlock(&mr->lock);
		return err;
	}
	mem = mr->mem;
	mr->mem = NULL;
	mutex_unlock(&mr->lock);

	if (mem)
		simhca_mem_retire(mem);
	if (mr->fast.max)
		dma_free_coherent(&dev->pdev->dev, mr->fast.max * sizeof(*mr->fast.segs),
				  mr->fast.segs, mr->fast.dma);
	simhca_key_free(dev, ibmr->lkey);
	mutex_destroy(&mr->lock);
	kfree(mr);
	return 0;
}
