// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * simhca: verbs that are commands only: queries, memory regions and windows.
 */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <util/mmio.h>

#include "simhca.h"
#include "simhca_abi.h"

int simhca_query_device_ex(struct ibv_context *ibvctx,
			   const struct ibv_query_device_ex_input *input,
			   struct ibv_device_attr_ex *attr, size_t attr_size)
{
	struct ib_uverbs_ex_query_device_resp resp;
	size_t resp_size = sizeof(resp);
	uint64_t fw_ver;
	int ret;

	ret = ibv_cmd_query_device_any(ibvctx, input, attr, attr_size, &resp,
				       &resp_size);
	if (ret)
		return ret;

	fw_ver = resp.base.fw_ver;
	snprintf(attr->orig_attr.fw_ver, sizeof(attr->orig_attr.fw_ver),
		 "%u.%u.%u", (unsigned int)(fw_ver >> 32),
		 (unsigned int)(fw_ver >> 16 & 0xffff),
		 (unsigned int)(fw_ver & 0xffff));

	return 0;
}

/* Nanoseconds, by the clock of completion timestamps; each look is a message to the device. */
int simhca_query_rt_values(struct ibv_context *ibvctx,
			   struct ibv_values_ex *values)
{
	struct simhca_context *ctx = to_simhca_ctx(ibvctx);
	uint64_t now;

	if (!check_comp_mask(values->comp_mask, IBV_VALUES_MASK_RAW_CLOCK))
		return EINVAL;

	if (values->comp_mask & IBV_VALUES_MASK_RAW_CLOCK) {
		now = le64toh(mmio_read64_le(ctx->kick + SIMHCA_CLOCK_REG));
		values->raw_clock.tv_sec = 0;
		values->raw_clock.tv_nsec = now;
	}

	return 0;
}

int simhca_query_port(struct ibv_context *ibvctx, uint8_t port,
		      struct ibv_port_attr *attr)
{
	struct ibv_gid_entry entry;
	struct ibv_query_port cmd;
	int ret;

	ret = ibv_cmd_query_port(ibvctx, port, attr, &cmd, sizeof(cmd));
	if (ret)
		return ret;

	/* There is none while the port has no net device. */
	if (!ibv_query_gid_ex(ibvctx, port, SIMHCA_DEFAULT_GID_INDEX, &entry, 0))
		attr->lid = entry.gid.raw[14] << 8 | entry.gid.raw[15];

	return 0;
}

/*
 * Turn a path by LID into the path by GID that it stands for. @ah_attr may be what the caller of a
 * verb passed, so the result goes into @real.
 */
int simhca_resolve_lid(struct ibv_context *ibvctx,
		       const struct ibv_ah_attr *ah_attr,
		       struct ibv_ah_attr *real)
{
	struct ibv_gid_entry entry;
	int ret;

	ret = ibv_query_gid_ex(ibvctx, ah_attr->port_num,
			       SIMHCA_DEFAULT_GID_INDEX, &entry, 0);
	if (ret)
		return ret;

	*real = *ah_attr;
	entry.gid.raw[14] = ah_attr->dlid >> 8;
	entry.gid.raw[15] = ah_attr->dlid & 0xff;
	real->grh = (struct ibv_global_route){
		.dgid = entry.gid,
		.sgid_index = SIMHCA_DEFAULT_GID_INDEX,
		.hop_limit = 1,
	};
	real->is_global = 1;

	return 0;
}

struct ibv_mr *simhca_reg_mr(struct ibv_pd *pd, void *addr, size_t length,
			     uint64_t hca_va, int access)
{
	struct ib_uverbs_reg_mr_resp resp;
	struct ibv_reg_mr cmd;
	struct verbs_mr *vmr;
	int ret;

	vmr = calloc(1, sizeof(*vmr));
	if (!vmr)
		return NULL;

	ret = ibv_cmd_reg_mr(pd, addr, length, hca_va, access, vmr, &cmd,
			     sizeof(cmd), &resp, sizeof(resp));
	if (ret) {
		free(vmr);
		errno = ret;
		return NULL;
	}

	return &vmr->ibv_mr;
}

struct ibv_mr *simhca_reg_dmabuf_mr(struct ibv_pd *pd, uint64_t offset,
				    size_t length, uint64_t iova, int fd,
				    int access)
{
	struct verbs_mr *vmr;
	int ret;

	vmr = calloc(1, sizeof(*vmr));
	if (!vmr)
		return NULL;

	ret = ibv_cmd_reg_dmabuf_mr(pd, offset, length, iova, fd, access, vmr,
				    NULL);
	if (ret) {
		free(vmr);
		errno = ret;
		return NULL;
	}

	return &vmr->ibv_mr;
}

int simhca_rereg_mr(struct verbs_mr *vmr, int flags, struct ibv_pd *pd,
		    void *addr, size_t length, int access)
{
	struct ib_uverbs_rereg_mr_resp resp;
	struct ibv_rereg_mr cmd;

	return ibv_cmd_rereg_mr(vmr, flags, addr, length, (uintptr_t)addr,
				access, pd, &cmd, sizeof(cmd), &resp,
				sizeof(resp));
}

int simhca_dereg_mr(struct verbs_mr *vmr)
{
	int ret;

	ret = ibv_cmd_dereg_mr(vmr);
	if (ret)
		return ret;

	free(vmr);
	return 0;
}

/* As simhca_import_pd(). */
struct ibv_mr *simhca_import_mr(struct ibv_pd *pd, uint32_t handle)
{
	struct verbs_mr *vmr;
	int ret;

	vmr = calloc(1, sizeof(*vmr));
	if (!vmr)
		return NULL;

	ret = ibv_cmd_query_mr(pd, vmr, handle);
	if (ret) {
		free(vmr);
		errno = ret;
		return NULL;
	}

	return &vmr->ibv_mr;
}

void simhca_unimport_mr(struct ibv_mr *mr)
{
	free(verbs_get_mr(mr));
}

struct ibv_mw *simhca_alloc_mw(struct ibv_pd *pd, enum ibv_mw_type type)
{
	struct ib_uverbs_alloc_mw_resp resp;
	struct ibv_alloc_mw cmd;
	struct ibv_mw *mw;
	int ret;

	mw = calloc(1, sizeof(*mw));
	if (!mw)
		return NULL;

	ret = ibv_cmd_alloc_mw(pd, type, mw, &cmd, sizeof(cmd), &resp,
			       sizeof(resp));
	if (ret) {
		free(mw);
		errno = ret;
		return NULL;
	}

	return mw;
}

int simhca_dealloc_mw(struct ibv_mw *mw)
{
	int ret;

	ret = ibv_cmd_dealloc_mw(mw);
	if (ret)
		return ret;

	free(mw);
	return 0;
}
