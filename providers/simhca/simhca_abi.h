/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * simhca: commands to the kernel driver, with its own part of each behind libibverbs' part.
 */
#ifndef SIMHCA_ABI_H
#define SIMHCA_ABI_H

#include <infiniband/kern-abi.h>
#include <rdma/simhca-abi.h>
#include <kernel-abi/simhca-abi.h>

DECLARE_DRV_CMD(simhca_alloc_ucontext, IB_USER_VERBS_CMD_GET_CONTEXT,
		empty, simhca_ibv_alloc_ucontext_resp);
DECLARE_DRV_CMD(simhca_alloc_pd, IB_USER_VERBS_CMD_ALLOC_PD,
		empty, simhca_ibv_alloc_pd_resp);
DECLARE_DRV_CMD(simhca_create_ah, IB_USER_VERBS_CMD_CREATE_AH,
		empty, simhca_ibv_create_ah_resp);
DECLARE_DRV_CMD(simhca_create_cq, IB_USER_VERBS_EX_CMD_CREATE_CQ,
		simhca_ibv_create_cq, simhca_ibv_create_cq_resp);
DECLARE_DRV_CMD(simhca_resize_cq, IB_USER_VERBS_CMD_RESIZE_CQ,
		simhca_ibv_resize_cq, empty);
DECLARE_DRV_CMD(simhca_create_srq, IB_USER_VERBS_CMD_CREATE_SRQ,
		simhca_ibv_create_srq, simhca_ibv_create_srq_resp);
DECLARE_DRV_CMD(simhca_modify_srq, IB_USER_VERBS_CMD_MODIFY_SRQ,
		simhca_ibv_modify_srq, empty);
DECLARE_DRV_CMD(simhca_create_qp, IB_USER_VERBS_CMD_CREATE_QP,
		simhca_ibv_create_qp, simhca_ibv_create_qp_resp);

#endif /* SIMHCA_ABI_H */
