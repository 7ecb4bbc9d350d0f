/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR Linux-OpenIB) */
/*
 * ABI between the simhca driver and its rdma-core provider. Layout of rings and doorbells:
 * simhca_hw.h.
 */
#ifndef SIMHCA_ABI_USER_H
#define SIMHCA_ABI_USER_H

#include <linux/types.h>
#include <rdma/ib_user_ioctl_cmds.h>

#define SIMHCA_ABI_VERSION	2

/**
 * enum simhca_query_context_attrs - what UVERBS_METHOD_QUERY_CONTEXT tells of this driver
 * @SIMHCA_ATTR_QUERY_CONTEXT_RESP: &struct simhca_ibv_alloc_ucontext_resp of the context
 */
enum simhca_query_context_attrs {
	SIMHCA_ATTR_QUERY_CONTEXT_RESP = (1U << UVERBS_ID_NS_SHIFT),
};

/**
 * struct simhca_ibv_alloc_ucontext_resp - a context
 * @status_mmap_key: mmap offset of the status page, read only
 * @kick_mmap_key: mmap offset of the kick page, write
 * @max_inline: bytes
 * @max_sge: SGEs of a WQE
 * @max_log_wr: log2 of the WQEs of a queue
 * @max_log_cqe: log2 of the CQEs of a CQ
 */
struct simhca_ibv_alloc_ucontext_resp {
	__aligned_u64 status_mmap_key;
	__aligned_u64 kick_mmap_key;
	__u32 max_inline;
	__u32 max_sge;
	__u32 max_log_wr;
	__u32 max_log_cqe;
};

/**
 * struct simhca_ibv_alloc_pd_resp - a new PD
 * @pdn: its number in the device
 * @reserved: 0
 */
struct simhca_ibv_alloc_pd_resp {
	__u32 pdn;
	__u32 reserved;
};

/**
 * struct simhca_ibv_create_ah_resp - a new address handle
 * @dmac: MAC address of the next hop
 * @reserved: 0
 */
struct simhca_ibv_create_ah_resp {
	__u8 dmac[6];
	__u8 reserved[2];
};

/**
 * struct simhca_ibv_create_cq - create a CQ
 * @buf_va: ring in the process, page aligned, zeroed, (1 << @log_size) CQEs
 * @log_size: log2 of entries
 * @reserved: 0
 */
struct simhca_ibv_create_cq {
	__aligned_u64 buf_va;
	__u32 log_size;
	__u32 reserved;
};

/**
 * struct simhca_ibv_create_cq_resp - a new CQ
 * @uar_mmap_key: mmap offset of its UAR; CQs and QPs with the same key share the page
 * @cqn: its number
 * @slot: its slot in the UAR
 */
struct simhca_ibv_create_cq_resp {
	__aligned_u64 uar_mmap_key;
	__u32 cqn;
	__u32 slot;
};

/**
 * struct simhca_ibv_resize_cq - give a CQ another ring; the caller neither polls nor stores its index
 * @buf_va: ring in the process, page aligned, zeroed, (1 << @log_size) CQEs
 * @log_size: log2 of entries
 * @reserved: 0
 */
struct simhca_ibv_resize_cq {
	__aligned_u64 buf_va;
	__u32 log_size;
	__u32 reserved;
};

/**
 * struct simhca_ibv_create_srq - create an SRQ
 * @buf_va: ring in the process, page aligned
 * @log_size: log2 of entries
 * @log_stride: log2 of bytes of an entry
 */
struct simhca_ibv_create_srq {
	__aligned_u64 buf_va;
	__u32 log_size;
	__u32 log_stride;
};

/**
 * struct simhca_ibv_create_srq_resp - a new SRQ
 * @uar_mmap_key: mmap offset of its UAR
 * @srqn: its number
 * @slot: its slot in the UAR
 */
struct simhca_ibv_create_srq_resp {
	__aligned_u64 uar_mmap_key;
	__u32 srqn;
	__u32 slot;
};

/**
 * struct simhca_ibv_modify_srq - give an SRQ another ring; the caller does not post
 * @buf_va: ring in the process, page aligned, entries as long as those of the old one
 * @log_size: log2 of entries
 * @reserved: 0
 *
 * Only with IB_SRQ_MAX_WR.
 */
struct simhca_ibv_modify_srq {
	__aligned_u64 buf_va;
	__u32 log_size;
	__u32 reserved;
};

/**
 * struct simhca_ibv_create_qp - create a QP
 * @sq_va: send ring in the process, page aligned
 * @rq_va: receive ring, page aligned; 0: no receive queue, or an SRQ
 * @sq_log_size: log2 of entries
 * @sq_log_stride: log2 of bytes of an entry
 * @rq_log_size: log2 of entries
 * @rq_log_stride: log2 of bytes of an entry
 */
struct simhca_ibv_create_qp {
	__aligned_u64 sq_va;
	__aligned_u64 rq_va;
	__u32 sq_log_size;
	__u32 sq_log_stride;
	__u32 rq_log_size;
	__u32 rq_log_stride;
};

/**
 * struct simhca_ibv_create_qp_resp - a new QP
 * @uar_mmap_key: mmap offset of its UAR
 * @qpn: its number
 * @slot: its slot in the UAR
 */
struct simhca_ibv_create_qp_resp {
	__aligned_u64 uar_mmap_key;
	__u32 qpn;
	__u32 slot;
};

#endif /* SIMHCA_ABI_USER_H */
