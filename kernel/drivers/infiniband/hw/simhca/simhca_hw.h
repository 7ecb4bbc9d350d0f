/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * simhca: registers, doorbells, rings and commands of the simulated HCA.
 *
 * The one statement of the interface between the device and its software. The kernel driver,
 * the rdma-core provider, the device process and the tests all include this file.
 *
 * Everything in memory and in registers is little endian unless a field says otherwise.
 * Addresses in commands are DMA addresses: what the DMA API of the host gave for this function.
 */
#ifndef SIMHCA_HW_H
#define SIMHCA_HW_H

#include <linux/types.h>

/* ---- PCI identity ------------------------------------------------------------------------- */

#define SIMHCA_PCI_VENDOR_ID		0x1b36	/* Red Hat, the vendor of QEMU's own devices */
#define SIMHCA_PCI_DEVICE_ID		0x52d0	/* not registered: a simulation only */
#define SIMHCA_PCI_CLASS		0x020700	/* network controller, InfiniBand */

#define SIMHCA_PAGE_SIZE		4096

/* ---- BAR 0: registers, every access is a message to the device process --------------------- */

#define SIMHCA_BAR_REGS			0
#define SIMHCA_BAR_REGS_SIZE		0x4000
#define SIMHCA_REGS_PAGE		0x0000
#define SIMHCA_KICK_PAGE		0x1000	/* page that may be mapped into processes */
#define SIMHCA_MSIX_TABLE		0x2000
#define SIMHCA_MSIX_PBA			0x3000
#define SIMHCA_NUM_VECTORS		16
#define SIMHCA_CMD_VECTOR		0	/* triggered by responses; EQs may have it, too */

/* Registers of SIMHCA_REGS_PAGE; width in bits, RO/RW. A device that is gone reads all ones. */
#define SIMHCA_REG_MAGIC		0x00	/* 32 RO  SIMHCA_MAGIC */
#define SIMHCA_REG_VERSION		0x04	/* 32 RO  SIMHCA_VERSION */
#define SIMHCA_REG_STATUS		0x08	/* 32 RO  SIMHCA_STATUS_* */
#define SIMHCA_REG_CTRL			0x0c	/* 32 RW  SIMHCA_CTRL_* */
#define SIMHCA_REG_MAC			0x10	/* 64 RO  MAC address, first octet in bits 0-7 */
#define SIMHCA_REG_CMDQ_BASE		0x20	/* 64 RW  command ring, page aligned */
#define SIMHCA_REG_RSPQ_BASE		0x28	/* 64 RW  response ring, page aligned */
#define SIMHCA_REG_CMDQ_LOG_SIZE	0x30	/* 32 RW  log2 of entries, 1..CMDQ_MAX_LOG */

#define SIMHCA_MAGIC			0x484d4953	/* "SIMH" */
#define SIMHCA_VERSION			9
#define SIMHCA_CMDQ_MAX_LOG		8

#define SIMHCA_STATUS_ENABLED		(1u << 0)	/* rings accepted, commands are served */
#define SIMHCA_STATUS_FATAL		(1u << 1)	/* stopped; only a reset helps */

/* Writing ENABLE=1 takes the ring addresses; writing 0 is a reset: every object is gone. */
#define SIMHCA_CTRL_ENABLE		(1u << 0)

/* Any 32-bit write to SIMHCA_KICK_PAGE wakes a sleeping device. The value is ignored. */
#define SIMHCA_KICK_REG			0x00
/* In the same page, 64 bits, RO: the clock of completion timestamps, SIMHCA_CLOCK_KHZ. */
#define SIMHCA_CLOCK_REG		0x08
#define SIMHCA_CLOCK_KHZ		1000000	/* nanoseconds, of no particular beginning */

/* ---- BAR 2: doorbells, shared memory, an access is a plain load or store ------------------- */

#define SIMHCA_BAR_DB			2
#define SIMHCA_MAX_UARS			1024	/* pages, the first two included; a power of two */
#define SIMHCA_BAR_DB_SIZE		(SIMHCA_MAX_UARS * SIMHCA_PAGE_SIZE)
#define SIMHCA_STATUS_UAR		0	/* struct simhca_status_page */
#define SIMHCA_KERNEL_UAR		1	/* UAR of the kernel driver */
#define SIMHCA_FIRST_USER_UAR		2

/**
 * struct simhca_status_page - what the device tells everybody; software must map it read only
 * @asleep: 1 while the device does not look at doorbells and needs a kick
 * @epoch: number of the run that began with the last enable; 0 when it has ended, by a reset or
 *         because the device has stopped (%SIMHCA_STATUS_FATAL). No two runs of a device have the
 *         same number, and none is 0 or all ones: who finds another number here than when it
 *         created its objects knows that they are gone, and that their rings stay as they are.
 *         The kernel driver stores 0 itself when it gives the device up, which may be gone.
 */
struct simhca_status_page {
	__le32 asleep;
	__le32 epoch;
};

/*
 * Objects a UAR page has doorbells for. An object has one slot in one UAR for its whole life. The
 * device sets the slot to 0 when it creates the object, that of a QP also when the QP enters RESET,
 * and @eq_ci, @cmdq_pi at CREATE_EQ and at enable: indices start at 0 then.
 */
#define SIMHCA_UAR_QP_SLOTS		256
#define SIMHCA_UAR_CQ_SLOTS		128
#define SIMHCA_UAR_SRQ_SLOTS		64
#define SIMHCA_UAR_EQ_SLOTS		32	/* used in SIMHCA_KERNEL_UAR only */
#define SIMHCA_QPS_PER_GROUP		8
#define SIMHCA_UAR_QP_GROUPS		(SIMHCA_UAR_QP_SLOTS / SIMHCA_QPS_PER_GROUP)

/**
 * struct simhca_qp_db - doorbell of a QP
 * @sq_pi: send WQEs posted since the QP left RESET, modulo 2^32
 * @rq_pi: receive WQEs posted since then, modulo 2^32; needs no group byte, no kick. What is posted
 *         in state ERR is flushed within 0.1 s, for each thousand QPs that are in this state.
 */
struct simhca_qp_db {
	__le32 sq_pi;
	__le32 rq_pi;
};

/* Bit 0 of simhca_cq_db.arm: solicited completions only; bits 1-31: sequence number. */
#define SIMHCA_CQ_ARM_SOLICITED		(1u << 0)
#define SIMHCA_CQ_ARM_SEQ_SHIFT		1

/**
 * struct simhca_cq_db - doorbell of a CQ
 * @ci: CQEs consumed since creation, modulo 2^32. A CQE that finds the ring full is a CQ overrun.
 * @arm: each new sequence number asks for one event, on the next CQE. Starts as 0, not armed.
 *       Software stores @arm, executes a full barrier, and polls once more; the device stores the
 *       CQE, executes a full barrier, and loads @arm: one of the two sees the other.
 */
struct simhca_cq_db {
	__le32 ci;
	__le32 arm;
};

/**
 * struct simhca_srq_db - doorbell of an SRQ
 * @pi: receive WQEs posted since creation, modulo 2^32
 * @reserved: 0
 */
struct simhca_srq_db {
	__le32 pi;
	__le32 reserved;
};

/**
 * struct simhca_uar - one page of BAR 2
 * @qp: QP slots
 * @cq: CQ slots
 * @srq: SRQ slots
 * @sq_group: byte g is set to 1 after a @sq_pi in QP slots 8g..8g+7 was advanced. The device sets
 *            it to 0, executes a full barrier and loads the eight slots.
 * @reserved0: 0
 * @cmdq_pi: commands posted since enable, modulo 2^32 (SIMHCA_KERNEL_UAR only)
 * @reserved1: 0
 * @eq_ci: EQEs consumed since creation, modulo 2^32, by EQ number (SIMHCA_KERNEL_UAR only)
 * @reserved2: 0
 *
 * To post to an SQ, or a command: store the entries; store barrier; store the producer index; (SQ
 * only) store barrier, store 1 into the group byte; full barrier; load
 * &simhca_status_page.asleep; if it is not 0 write to the kick page.
 */
struct simhca_uar {
	struct simhca_qp_db qp[SIMHCA_UAR_QP_SLOTS];
	struct simhca_cq_db cq[SIMHCA_UAR_CQ_SLOTS];
	struct simhca_srq_db srq[SIMHCA_UAR_SRQ_SLOTS];
	__u8 sq_group[SIMHCA_UAR_QP_GROUPS];
	__u8 reserved0[0xe0];
	__le32 cmdq_pi;
	__u8 reserved1[0x3c];
	__le32 eq_ci[SIMHCA_UAR_EQ_SLOTS];
	__u8 reserved2[0x40];
};

/* ---- memory described to the device -------------------------------------------------------- */

/**
 * struct simhca_seg - a run of DMA addresses
 * @addr: first DMA address; any alignment
 * @len: bytes, not 0
 */
struct simhca_seg {
	__le64 addr;
	__le64 len;
};

#define SIMHCA_SEGS_PER_CHUNK		255

/**
 * struct simhca_seg_chunk - a page of segments, chained
 * @next: DMA address of the next chunk, page aligned; 0 in the last one
 * @nsegs: valid entries of @segs, 1..SIMHCA_SEGS_PER_CHUNK
 * @reserved: 0
 * @segs: the segments, in order
 */
struct simhca_seg_chunk {
	__le64 next;
	__le32 nsegs;
	__le32 reserved;
	struct simhca_seg segs[SIMHCA_SEGS_PER_CHUNK];
};

/**
 * struct simhca_sgl - a buffer
 * @addr: @nsegs == 1: DMA address of the buffer; otherwise of the first &struct simhca_seg_chunk
 * @length: bytes of the buffer, the sum of all segments
 * @nsegs: segments in all, at most SIMHCA_MAX_SEGS; 0: no buffer
 * @reserved: 0
 *
 * The device reads the chunks while it executes the command; they may be freed afterwards.
 */
struct simhca_sgl {
	__le64 addr;
	__le64 length;
	__le32 nsegs;
	__le32 reserved;
};

#define SIMHCA_MAX_SEGS			(1u << 26)

/* ---- limits (also told by SIMHCA_CMD_QUERY_DEV, which is what software must use) ------------ */

#define SIMHCA_MAX_QPS			(1u << 16)	/* QP numbers 2..MAX-1, and GSI */
#define SIMHCA_GSI_QPN			1		/* the QP for management, a UD QP */
#define SIMHCA_MAX_CQS			(1u << 16)	/* CQ numbers 1..MAX-1 */
#define SIMHCA_MAX_MRS			(1u << 20)	/* and windows: key index 1..MAX-1 */
#define SIMHCA_MAX_FAST_SEGS		1024		/* segments of a fast registration */
#define SIMHCA_MAX_PDS			(1u << 16)	/* PD numbers 1..MAX-1 */
#define SIMHCA_MAX_SRQS			(1u << 16)	/* SRQ numbers 1..MAX-1 */
#define SIMHCA_MAX_LOG_WR		15	/* log2 of WQEs of a queue */
#define SIMHCA_MAX_LOG_CQE		22
#define SIMHCA_MIN_LOG_SQ_STRIDE	6	/* log2 of bytes of an entry of a send queue */
#define SIMHCA_MIN_LOG_RQ_STRIDE	5	/* of a receive queue */
#define SIMHCA_MAX_LOG_STRIDE		9	/* of either */
#define SIMHCA_MAX_SGE			16
#define SIMHCA_MAX_INLINE		256	/* bytes */
#define SIMHCA_MAX_MSG			(1u << 31)	/* bytes */
#define SIMHCA_MAX_RD_ATOMIC		128
#define SIMHCA_GID_TABLE_LEN		128
#define SIMHCA_MAX_MCAST		64		/* QPs attached to multicast groups */
#define SIMHCA_MAX_EQS			SIMHCA_UAR_EQ_SLOTS

/* A key is (index << 8) | variant; lkey and rkey of an MR are the same number. */
#define SIMHCA_KEY_INDEX_SHIFT		8

/* ---- command ring ---------------------------------------------------------------------------- */

enum simhca_cmd_opcode {
	SIMHCA_CMD_QUERY_DEV	= 1,	/* out: struct simhca_dev_attr */
	SIMHCA_CMD_CREATE_EQ	= 2,
	SIMHCA_CMD_DESTROY_EQ	= 3,
	SIMHCA_CMD_SET_GID	= 4,
	SIMHCA_CMD_CREATE_MR	= 5,
	SIMHCA_CMD_DESTROY_MR	= 6,
	SIMHCA_CMD_CREATE_CQ	= 7,
	SIMHCA_CMD_DESTROY_CQ	= 8,
	SIMHCA_CMD_CREATE_QP	= 9,
	SIMHCA_CMD_MODIFY_QP	= 10,
	SIMHCA_CMD_QUERY_QP	= 11,	/* out: struct simhca_qp_attr */
	SIMHCA_CMD_DESTROY_QP	= 12,
	SIMHCA_CMD_QUERY_STATS	= 13,	/* out: struct simhca_stats */
	SIMHCA_CMD_FENCE_MR	= 14,
	SIMHCA_CMD_REREG_MR	= 15,
	SIMHCA_CMD_CREATE_MW	= 16,
	SIMHCA_CMD_DESTROY_MW	= 17,
	SIMHCA_CMD_CREATE_SRQ	= 18,
	SIMHCA_CMD_MODIFY_SRQ	= 19,
	SIMHCA_CMD_QUERY_SRQ	= 20,	/* out: struct simhca_srq_attr */
	SIMHCA_CMD_DESTROY_SRQ	= 21,
	SIMHCA_CMD_RESIZE_CQ	= 22,
	SIMHCA_CMD_MODIFY_CQ	= 23,
	SIMHCA_CMD_ATTACH_MCAST	= 24,
	SIMHCA_CMD_DETACH_MCAST	= 25,
};

enum simhca_cmd_status {
	SIMHCA_CMD_OK		= 0,
	SIMHCA_CMD_EINVAL	= 1,	/* a field is out of range, or contradicts another */
	SIMHCA_CMD_ENOENT	= 2,	/* no such object */
	SIMHCA_CMD_EEXIST	= 3,	/* the number is in use */
	SIMHCA_CMD_EBUSY	= 4,	/* still referenced */
	SIMHCA_CMD_ENOMEM	= 5,
	SIMHCA_CMD_EFAULT	= 6,	/* an address is not one the device was given */
	SIMHCA_CMD_EOPNOTSUPP	= 7,	/* unknown command or option */
	SIMHCA_CMD_ENETUNREACH	= 8,	/* RTR: no port has the destination GID */
};

/**
 * struct simhca_cmd_create_eq - create an event queue
 * @eqn: its number, below SIMHCA_MAX_EQS; also its slot in &simhca_uar.eq_ci
 * @vector: MSI-X vector it triggers when an EQE was written
 * @log_size: log2 of entries
 * @reserved: 0
 * @ring: the ring, entries &struct simhca_eqe, zeroed by software, exactly as long as they need
 */
struct simhca_cmd_create_eq {
	__le32 eqn;
	__le32 vector;
	__le32 log_size;
	__le32 reserved;
	struct simhca_sgl ring;
};

/*
 * Payload of every DESTROY command and of FENCE_MR: @id is eqn, key, cqn, qpn or srqn. A whole key
 * is compared, but for keys of windows and of SIMHCA_MR_FAST: work requests change their variant.
 *
 * An MR to which windows are bound can be neither destroyed nor re-registered (EBUSY). It can be
 * fenced, and its windows are as dead then. DESTROY_MW unbinds the window, DESTROY_QP all windows
 * of type 2 that the QP has bound.
 *
 * FENCE_MR takes the memory away from a key, which stays in use until DESTROY_MR. Requests that use
 * it, also those under way, complete with LOC_PROT_ERR or, for a remote key, REM_ACCESS_ERR.
 *
 * When FENCE_MR or DESTROY_MR of an MR has completed, the device does not touch its memory any
 * more.
 */
struct simhca_cmd_destroy {
	__le32 id;
};

/**
 * struct simhca_cmd_set_gid - set or clear an entry of the GID table
 * @index: entry
 * @valid: 1 set, 0 clear
 * @reserved: 0
 * @gid: the GID, network order
 * @mac: source MAC address
 * @reserved1: 0
 */
struct simhca_cmd_set_gid {
	__le32 index;
	__u8 valid;
	__u8 reserved[3];
	__u8 gid[16];
	__u8 mac[6];
	__u8 reserved1[2];
};

/* Rights of memory, and of the peer at a QP (simhca_qp_attr.access). Local read always is. */
#define SIMHCA_ACCESS_LOCAL_WRITE	(1u << 0)
#define SIMHCA_ACCESS_REMOTE_WRITE	(1u << 1)
#define SIMHCA_ACCESS_REMOTE_READ	(1u << 2)
#define SIMHCA_ACCESS_REMOTE_ATOMIC	(1u << 3)
#define SIMHCA_ACCESS_MW_BIND		(1u << 4)	/* of an MR: windows may be bound to it */
#define SIMHCA_ACCESS_ZERO_BASED	(1u << 5)	/* of BIND_MW: its addresses count from 0 */
#define SIMHCA_ACCESS_FLUSH_GLOBAL	(1u << 6)
#define SIMHCA_ACCESS_FLUSH_PERSISTENT	(1u << 7)	/* of QPs: memory does not have it */

/* The MR covers every DMA address the function can reach: IOVA = DMA address (get_dma_mr). */
#define SIMHCA_MR_DMA			(1u << 0)
/* The MR has no memory and no rights until REG_MR; @sgl.nsegs: the most segments it gets then. */
#define SIMHCA_MR_FAST			(1u << 1)

/**
 * struct simhca_cmd_create_mr - create a memory region
 * @key: lkey and rkey; the index must be free
 * @pdn: protection domain
 * @access: SIMHCA_ACCESS_*
 * @flags: SIMHCA_MR_*
 * @iova: address of its first byte in work requests
 * @length: bytes, not 0, equal to @sgl.length
 * @sgl: the memory (ignored with SIMHCA_MR_DMA)
 *
 * With SIMHCA_MR_FAST @access, @iova, @length, @sgl.addr and @sgl.length are 0.
 */
struct simhca_cmd_create_mr {
	__le32 key;
	__le32 pdn;
	__le32 access;
	__le32 flags;
	__le64 iova;
	__le64 length;
	struct simhca_sgl sgl;
};

enum simhca_mw_type {
	SIMHCA_MW_TYPE_1	= 1,	/* numbered as enum ibv_mw_type */
	SIMHCA_MW_TYPE_2	= 2,	/* of IBTA's kind 2B: of one QP and one PD */
};

/**
 * struct simhca_cmd_create_mw - create a memory window, not bound
 * @key: the index must be free of MRs and windows; BIND_MW chooses other variants
 * @pdn: protection domain
 * @type: &enum simhca_mw_type
 * @reserved: 0
 */
struct simhca_cmd_create_mw {
	__le32 key;
	__le32 pdn;
	__le32 type;
	__le32 reserved;
};

/* simhca_cmd_rereg_mr.mask: what is changed */
#define SIMHCA_REREG_TRANS		(1u << 0)	/* @iova, @length, @sgl */
#define SIMHCA_REREG_PD			(1u << 1)
#define SIMHCA_REREG_ACCESS		(1u << 2)

/**
 * struct simhca_cmd_rereg_mr - change a memory region, all parts at once or, after an error, none
 * @key: the MR
 * @pdn: protection domain
 * @access: SIMHCA_ACCESS_*
 * @mask: SIMHCA_REREG_*
 * @iova: address of its first byte in work requests
 * @length: bytes, not 0, equal to @sgl.length
 * @sgl: the memory
 *
 * With SIMHCA_REREG_TRANS the device does not touch the old memory any more when this has
 * completed, requests that were under way fail, and a fenced key works again.
 */
struct simhca_cmd_rereg_mr {
	__le32 key;
	__le32 pdn;
	__le32 access;
	__le32 mask;
	__le64 iova;
	__le64 length;
	struct simhca_sgl sgl;
};

#define SIMHCA_CQ_TIMESTAMP		(1u << 0)	/* @timestamp of its CQEs is valid */
/* Software never lets the ring overrun; the device does not look, and overwrites what is there. */
#define SIMHCA_CQ_IGNORE_OVERRUN	(1u << 1)

/**
 * struct simhca_cmd_create_cq - create a completion queue
 * @cqn: its number
 * @eqn: EQ for its events
 * @uar: UAR of its doorbell
 * @slot: and the slot there
 * @log_size: log2 of entries
 * @flags: SIMHCA_CQ_*
 * @ring: entries &struct simhca_cqe, zeroed by software, exactly as long as they need
 */
struct simhca_cmd_create_cq {
	__le32 cqn;
	__le32 eqn;
	__le32 uar;
	__le32 slot;
	__le32 log_size;
	__le32 flags;
	struct simhca_sgl ring;
};

/**
 * struct simhca_cmd_resize_cq - give a completion queue another ring
 * @cqn: the CQ
 * @log_size: log2 of entries
 * @ring: as that of CREATE_CQ
 *
 * The CQEs that were not consumed, by &simhca_cq_db.ci, move to the beginning of the new ring, and
 * indices start anew: the device sets @ci to 0. It does not touch the old ring any more when this
 * has completed. Until then software leaves ring and @ci alone. When the new ring is too small
 * (SIMHCA_CMD_EINVAL), or after any other error, all is as it was.
 */
struct simhca_cmd_resize_cq {
	__le32 cqn;
	__le32 log_size;
	struct simhca_sgl ring;
};

/**
 * struct simhca_cmd_modify_cq - moderate the events of a CQ
 * @cqn: the CQ
 * @count: the event comes with this many of the CQEs that were asked for,
 * @period: or when the first of them is so old, in us. 0 in one of the two, as in a new CQ: events
 *	    come at once.
 */
struct simhca_cmd_modify_cq {
	__le32 cqn;
	__le16 count;
	__le16 period;
};

/**
 * struct simhca_cmd_create_srq - create a shared receive queue
 * @srqn: its number
 * @pdn: protection domain of the memory that is received into
 * @uar: UAR of its doorbell
 * @slot: and the slot there
 * @log_size: log2 of entries
 * @log_stride: log2 of bytes of an entry
 * @limit: as in &struct simhca_srq_attr
 * @reserved: 0
 * @ring: entries &struct simhca_rq_wqe
 *
 * An entry may be used again as soon as the device has copied it, which software need not know
 * exactly: with at most (1 << @log_size) receives posted and not completed the ring has room.
 */
struct simhca_cmd_create_srq {
	__le32 srqn;
	__le32 pdn;
	__le32 uar;
	__le32 slot;
	__u8 log_size;
	__u8 log_stride;
	__u8 reserved[2];
	__le32 limit;
	struct simhca_sgl ring;
};

/* simhca_cmd_modify_srq.mask: what is changed */
#define SIMHCA_SRQ_LIMIT		(1u << 0)
#define SIMHCA_SRQ_RING			(1u << 1)	/* @log_size, @ring */

/**
 * struct simhca_cmd_modify_srq - change a shared receive queue, all parts at once or, after an error, none
 * @srqn: the SRQ
 * @mask: SIMHCA_SRQ_*
 * @limit: as in &struct simhca_srq_attr; not more than entries
 * @log_size: log2 of entries
 * @reserved: 0
 * @ring: the ring, entries as long as those of the old one
 *
 * With SIMHCA_SRQ_RING receives that were not taken move to the new ring, where receive number n is
 * entry n modulo its size, and numbers go on: @pi of the doorbell stays. The device does not touch
 * the old ring any more when this has completed. Until then software leaves ring and @pi alone. A
 * ring that has no room for the receives is refused (SIMHCA_CMD_EINVAL).
 */
struct simhca_cmd_modify_srq {
	__le32 srqn;
	__le32 mask;
	__le32 limit;
	__u8 log_size;
	__u8 reserved[3];
	struct simhca_sgl ring;
};

/**
 * struct simhca_srq_attr - attributes of an SRQ, output of QUERY_SRQ
 * @srqn: the SRQ
 * @limit: SIMHCA_EVENT_SRQ_LIMIT comes when a receive is wanted and fewer than this many remain
 *	   behind it, once: @limit is 0 again then. 0: no event.
 */
struct simhca_srq_attr {
	__le32 srqn;
	__le32 limit;
};

enum simhca_qp_type {
	SIMHCA_QPT_RC		= 2,	/* numbered as enum ibv_qp_type */
	SIMHCA_QPT_UC		= 3,
	SIMHCA_QPT_UD		= 4,
};

/**
 * struct simhca_cmd_create_qp - create a queue pair, in state RESET
 * @qpn: its number; SIMHCA_GSI_QPN must be UD
 * @type: &enum simhca_qp_type
 * @pdn: protection domain
 * @send_cqn: CQ for @sq
 * @recv_cqn: CQ for @rq
 * @srqn: SRQ, then without @rq; 0: none
 * @uar: UAR of its doorbell
 * @slot: and the slot there
 * @sq_log_size: log2 of entries of @sq
 * @sq_log_stride: log2 of bytes of an entry of @sq
 * @rq_log_size: log2 of entries of @rq
 * @rq_log_stride: log2 of bytes of an entry of @rq
 * @reserved: 0
 * @sq: send queue, entries &struct simhca_sq_wqe
 * @rq: receive queue, entries &struct simhca_rq_wqe; no buffer: no receive queue
 */
struct simhca_cmd_create_qp {
	__le32 qpn;
	__le32 type;
	__le32 pdn;
	__le32 send_cqn;
	__le32 recv_cqn;
	__le32 srqn;
	__le32 uar;
	__le32 slot;
	__u8 sq_log_size;
	__u8 sq_log_stride;
	__u8 rq_log_size;
	__u8 rq_log_stride;
	__le32 reserved;
	struct simhca_sgl sq;
	struct simhca_sgl rq;
};

enum simhca_qp_state {			/* numbered as enum ibv_qp_state */
	SIMHCA_QPS_RESET	= 0,
	SIMHCA_QPS_INIT		= 1,
	SIMHCA_QPS_RTR		= 2,
	SIMHCA_QPS_RTS		= 3,
	SIMHCA_QPS_SQD		= 4,
	SIMHCA_QPS_SQE		= 5,
	SIMHCA_QPS_ERR		= 6,
};

/* simhca_qp_attr.mask: which fields MODIFY_QP takes */
#define SIMHCA_QP_STATE			(1u << 0)
#define SIMHCA_QP_ACCESS		(1u << 1)
#define SIMHCA_QP_QKEY			(1u << 2)
/* @dgid @dmac @sgid_index @hop_limit @tclass @flow_label @sl */
#define SIMHCA_QP_AV			(1u << 3)
#define SIMHCA_QP_PATH_MTU		(1u << 4)
#define SIMHCA_QP_TIMEOUT		(1u << 5)
#define SIMHCA_QP_RETRY_CNT		(1u << 6)
#define SIMHCA_QP_RNR_RETRY		(1u << 7)
#define SIMHCA_QP_MIN_RNR_TIMER		(1u << 8)
#define SIMHCA_QP_RQ_PSN		(1u << 9)
#define SIMHCA_QP_SQ_PSN		(1u << 10)
#define SIMHCA_QP_MAX_RD_ATOMIC		(1u << 11)
#define SIMHCA_QP_MAX_DEST_RD_ATOMIC	(1u << 12)
#define SIMHCA_QP_DEST_QPN		(1u << 13)
#define SIMHCA_QP_SQD_NOTIFY		(1u << 14)
#define SIMHCA_QP_ALL			((1u << 15) - 1)

/**
 * struct simhca_qp_attr - attributes of a QP; MODIFY_QP takes it, QUERY_QP gives it
 * @qpn: the QP
 * @mask: MODIFY_QP: which fields are taken, SIMHCA_QP_*
 * @state: &enum simhca_qp_state
 * @path_mtu: numbered as enum ibv_mtu; what a UD QP may send, to be given at RTR
 * @timeout: local ACK timeout, 4.096 us * 2^timeout, 0: infinite
 * @retry_cnt: 0..7
 * @rnr_retry: 0..7, 7: for ever
 * @min_rnr_timer: code of IBTA 9.7.5.2.8, 0..31
 * @hop_limit: of the GRH
 * @tclass: of the GRH
 * @access: SIMHCA_ACCESS_REMOTE_*
 * @qkey: of UD
 * @dest_qpn: the peer
 * @rq_psn: 24 bits
 * @sq_psn: 24 bits
 * @max_rd_atomic: reads and atomics outstanding as requester
 * @max_dest_rd_atomic: and as responder
 * @sgid_index: entry of the GID table
 * @dgid: GID of the peer, network order
 * @dmac: MAC address of the peer
 * @sqd_notify: to SQD: 1: SIMHCA_EVENT_SQ_DRAINED comes when the send queue is drained
 * @sq_draining: QUERY_QP: 1 in SQD until then
 * @flow_label: of the GRH, 20 bits
 * @sl: service level
 * @reserved: 0
 */
struct simhca_qp_attr {
	__le32 qpn;
	__le32 mask;
	__u8 state;
	__u8 path_mtu;
	__u8 timeout;
	__u8 retry_cnt;
	__u8 rnr_retry;
	__u8 min_rnr_timer;
	__u8 hop_limit;
	__u8 tclass;
	__le32 access;
	__le32 qkey;
	__le32 dest_qpn;
	__le32 rq_psn;
	__le32 sq_psn;
	__le16 max_rd_atomic;
	__le16 max_dest_rd_atomic;
	__le32 sgid_index;
	__u8 dgid[16];
	__u8 dmac[6];
	__u8 sqd_notify;
	__u8 sq_draining;
	__le32 flow_label;
	__u8 sl;
	__u8 reserved[3];
};

/* Payload of QUERY_QP. */
struct simhca_cmd_query_qp {
	__le32 qpn;
};

/* Payload of QUERY_SRQ. */
struct simhca_cmd_query_srq {
	__le32 srqn;
};

/**
 * struct simhca_cmd_mcast - a UD QP joins or leaves a multicast group
 * @qpn: the QP
 * @reserved: 0
 * @gid: multicast GID, network order
 *
 * A QP that is destroyed leaves all groups.
 */
struct simhca_cmd_mcast {
	__le32 qpn;
	__le32 reserved;
	__u8 gid[16];
};

/**
 * struct simhca_cmd - entry of the command ring
 * @opcode: &enum simhca_cmd_opcode
 * @reserved: 0
 * @token: repeated in the response
 * @out_addr: DMA address of the output, for commands that have one
 * @payload: the command's own structure, by name (all DESTROY commands and FENCE_MR: @destroy)
 */
struct simhca_cmd {
	__le16 opcode;
	__le16 reserved;
	__le32 token;
	__le64 out_addr;
	union {
		struct simhca_cmd_create_eq create_eq;
		struct simhca_cmd_destroy destroy;
		struct simhca_cmd_set_gid set_gid;
		struct simhca_cmd_create_mr create_mr;
		struct simhca_cmd_rereg_mr rereg_mr;
		struct simhca_cmd_create_mw create_mw;
		struct simhca_cmd_create_cq create_cq;
		struct simhca_cmd_create_qp create_qp;
		struct simhca_qp_attr modify_qp;
		struct simhca_cmd_query_qp query_qp;
		struct simhca_cmd_resize_cq resize_cq;
		struct simhca_cmd_modify_cq modify_cq;
		struct simhca_cmd_create_srq create_srq;
		struct simhca_cmd_modify_srq modify_srq;
		struct simhca_cmd_query_srq query_srq;
		struct simhca_cmd_mcast mcast;
		__u8 raw[112];
	} payload;
};

/**
 * struct simhca_rsp - entry of the response ring; entry i answers command i; triggers vector 0
 * @status: &enum simhca_cmd_status
 * @opcode: of the command
 * @token: of the command
 * @reserved: 0
 * @phase: written last: 1 on the first pass over the ring, then 0, then 1, ...
 */
struct simhca_rsp {
	__le16 status;
	__le16 opcode;
	__le32 token;
	__u8 reserved[7];
	__u8 phase;
};

/**
 * struct simhca_dev_attr - output of SIMHCA_CMD_QUERY_DEV
 * @fw_ver: version of the device process, as ib_device_attr.fw_ver
 * @max_mr_size: bytes
 * @max_qp: QPs; their numbers are 2..@max_qp + 1
 * @max_cq: CQs; their numbers are 1..@max_cq
 * @max_mr: MRs and windows; their key indices are 1..@max_mr
 * @max_pd: PDs; their numbers are 1..@max_pd
 * @max_srq: SRQs; their numbers are 1..@max_srq
 * @max_log_wr: as SIMHCA_MAX_LOG_WR
 * @max_log_cqe: as SIMHCA_MAX_LOG_CQE
 * @max_sge: as SIMHCA_MAX_SGE
 * @max_inline: as SIMHCA_MAX_INLINE
 * @max_msg: as SIMHCA_MAX_MSG
 * @max_rd_atomic: as SIMHCA_MAX_RD_ATOMIC
 * @gid_table_len: as SIMHCA_GID_TABLE_LEN
 * @max_eq: as SIMHCA_MAX_EQS
 * @num_vectors: as SIMHCA_NUM_VECTORS
 * @max_fast_segs: as SIMHCA_MAX_FAST_SEGS
 * @reserved: 0
 */
struct simhca_dev_attr {
	__le64 fw_ver;
	__le64 max_mr_size;
	__le32 max_qp;
	__le32 max_cq;
	__le32 max_mr;
	__le32 max_pd;
	__le32 max_srq;
	__le32 max_log_wr;
	__le32 max_log_cqe;
	__le32 max_sge;
	__le32 max_inline;
	__le32 max_msg;
	__le32 max_rd_atomic;
	__le32 gid_table_len;
	__le32 max_eq;
	__le32 num_vectors;
	__le32 max_fast_segs;
	__le32 reserved;
};

/* Output of SIMHCA_CMD_QUERY_STATS: counts since enable. */
struct simhca_stats {
	__le64 tx_wrs;		/* send WQEs executed */
	__le64 tx_bytes;	/* payload bytes sent, written or read by them */
	__le64 rx_msgs;		/* SENDs and WRITEs with immediate received */
	__le64 rx_bytes;	/* payload bytes of them */
	__le64 cqes;		/* completions written */
	__le64 cqe_errors;	/* of these, with a status other than success */
	__le64 rnr_naks;	/* receiver-not-ready answers given */
	__le64 translate_faults;	/* DMA addresses that lay outside the granted regions */
	__le64 wakeups;		/* times the device was woken */
	__le64 events;		/* EQEs written */
	__le64 rnr_retries;	/* times a requester was told to wait for a receive */
	__le64 ack_timeouts;	/* times it got no answer in time */
	__le64 remote_errors;	/* requests refused by the responder */
	__le64 cq_overruns;	/* CQs lost because they were full */
	__le64 srq_limits;	/* times an SRQ fell below its limit */
	__le64 moderated;	/* completions that waited for others before an event came */
	__le64 ud_drops;	/* datagrams for this HCA that no QP took */
};

/* ---- work queues -------------------------------------------------------------------------- */

enum simhca_wr_opcode {			/* numbered as enum ibv_wr_opcode */
	SIMHCA_WR_RDMA_WRITE		= 0,
	SIMHCA_WR_RDMA_WRITE_WITH_IMM	= 1,
	SIMHCA_WR_SEND			= 2,
	SIMHCA_WR_SEND_WITH_IMM		= 3,
	SIMHCA_WR_RDMA_READ		= 4,
	SIMHCA_WR_ATOMIC_CMP_AND_SWP	= 5,
	SIMHCA_WR_ATOMIC_FETCH_AND_ADD	= 6,
	SIMHCA_WR_LOCAL_INV		= 7,
	SIMHCA_WR_BIND_MW		= 8,
	SIMHCA_WR_SEND_WITH_INV		= 9,
	SIMHCA_WR_FLUSH			= 14,
	SIMHCA_WR_ATOMIC_WRITE		= 15,
	SIMHCA_WR_REG_MR		= 32,	/* numbered as enum ib_wr_opcode */
};

#define SIMHCA_WR_FENCE			(1u << 0)	/* wait for earlier reads and atomics */
#define SIMHCA_WR_SIGNALED		(1u << 1)
#define SIMHCA_WR_SOLICITED		(1u << 2)
#define SIMHCA_WR_INLINE		(1u << 3)	/* @inline_len bytes instead of SGEs */
#define SIMHCA_WR_FLUSH_MR		(1u << 4)	/* of FLUSH: all of it, not a range */

/* A part of a buffer. @length 0 is an empty part, unlike in IBTA's encoding. */
struct simhca_sge {
	__le64 addr;
	__le32 length;
	__le32 lkey;
};

/**
 * struct simhca_ud_dest - where a datagram goes
 * @dgid: GID of the port or multicast group, network order
 * @dmac: MAC address of the next hop
 * @hop_limit: of the IP header
 * @tclass: of the IP header
 * @sgid_index: entry of the GID table
 * @flow_label: of the IP header, 20 bits
 * @qpn: the QP
 * @qkey: its Q_Key; with the highest bit set: the Q_Key of the sending QP
 * @sl: service level
 * @reserved: 0
 *
 * A datagram is received behind SIMHCA_UD_HEADER bytes: the IPv6 header with which RoCEv2 would
 * have brought it, or in the last 20 of them the IPv4 header.
 */
struct simhca_ud_dest {
	__u8 dgid[16];
	__u8 dmac[6];
	__u8 hop_limit;
	__u8 tclass;
	__le32 sgid_index;
	__le32 flow_label;
	__le32 qpn;
	__le32 qkey;
	__u8 sl;
	__u8 reserved[7];
};

#define SIMHCA_UD_HEADER		40
#define SIMHCA_FLOW_LABEL_MASK		0xfffff

/**
 * struct simhca_sq_wqe - head of an entry of a send queue; SGEs or inline data follow
 * @opcode: &enum simhca_wr_opcode
 * @flags: SIMHCA_WR_*
 * @num_sge: SGEs that follow, 0 with SIMHCA_WR_INLINE
 * @imm_data: immediate data, network order, passed on as it is
 * @inline_len: bytes of inline data that follow
 * @rkey: of the remote memory; LOCAL_INV, SEND_WITH_INV: the key that is invalidated; BIND_MW,
 *        REG_MR: the new key, whose index says which window or MR
 * @remote_addr: of the remote memory; 8-byte aligned for atomics and ATOMIC_WRITE
 * @compare_add: operand of FETCH_AND_ADD, comparand of CMP_AND_SWP
 * @swap: new value of CMP_AND_SWP
 * @reserved: 0
 * @ud: instead of these on a UD QP, whose only operations are SEND and SEND_WITH_IMM
 */
struct simhca_sq_wqe {
	__u8 opcode;
	__u8 flags;
	__le16 num_sge;
	__be32 imm_data;
	__le32 inline_len;
	__le32 rkey;
	union {
		struct {
			__le64 remote_addr;
			__le64 compare_add;
			__le64 swap;
			__u8 reserved[24];
		};
		struct simhca_ud_dest ud;
	};
};

/**
 * struct simhca_mem_wqe - follows the head of FLUSH, and of BIND_MW and REG_MR: what the key is for
 * @addr: BIND_MW: address of the first byte, as the MR names it; REG_MR: address of the first byte
 *        in work requests
 * @length: bytes; BIND_MW of a window of type 1: 0 unbinds it; FLUSH: from the remote address on
 * @segs: REG_MR: DMA address of @num_segs &struct simhca_seg, which the device reads before it
 *        completes the request
 * @num_segs: REG_MR: at most what the MR was created for
 * @lkey: BIND_MW: the MR; it must have SIMHCA_ACCESS_MW_BIND
 * @access: SIMHCA_ACCESS_*; BIND_MW: those of the peer, and SIMHCA_ACCESS_ZERO_BASED; FLUSH: what
 *          is asked for, SIMHCA_ACCESS_FLUSH_*
 * @reserved: 0
 *
 * A window of type 2 and the MR of a REG_MR must be free: new, or invalidated.
 */
struct simhca_mem_wqe {
	__le64 addr;
	__le64 length;
	__le64 segs;
	__le32 num_segs;
	__le32 lkey;
	__le32 access;
	__le32 reserved;
};

/**
 * struct simhca_rq_wqe - head of an entry of a receive queue; SGEs follow
 * @num_sge: SGEs that follow
 * @tag: of an SRQ: what software knows the receive by; ignored in other queues
 * @reserved: 0
 */
struct simhca_rq_wqe {
	__le32 num_sge;
	__le32 tag;
	__u8 reserved[8];
};

/* ---- completions and events ---------------------------------------------------------------- */

enum simhca_wc_status {			/* numbered as enum ibv_wc_status */
	SIMHCA_WC_SUCCESS		= 0,
	SIMHCA_WC_LOC_LEN_ERR		= 1,
	SIMHCA_WC_LOC_QP_OP_ERR		= 2,
	SIMHCA_WC_LOC_PROT_ERR		= 4,
	SIMHCA_WC_WR_FLUSH_ERR		= 5,
	SIMHCA_WC_MW_BIND_ERR		= 6,	/* BIND_MW, REG_MR, LOCAL_INV */
	SIMHCA_WC_REM_INV_REQ_ERR	= 9,
	SIMHCA_WC_REM_ACCESS_ERR	= 10,
	SIMHCA_WC_REM_OP_ERR		= 11,
	SIMHCA_WC_RETRY_EXC_ERR		= 12,
	SIMHCA_WC_RNR_RETRY_EXC_ERR	= 13,
};

#define SIMHCA_CQE_RECV			(1u << 0)	/* of a receive queue */
#define SIMHCA_CQE_IMM			(1u << 1)	/* @imm_data is valid */
#define SIMHCA_CQE_INV			(1u << 2)	/* @inv_rkey is valid */
#define SIMHCA_CQE_GRH			(1u << 3)	/* a datagram: @src, no @vendor_err */
#define SIMHCA_CQE_SL_SHIFT		24

/**
 * struct simhca_cqe - entry of a completion queue
 * @qpn: the QP
 * @wqe_index: number of the WQE in its queue since RESET, modulo 2^32; completions of a send
 *             queue complete all earlier unsignaled WQEs too. Of an SRQ: tag of the receive.
 * @byte_len: bytes received (receive; with the header of a datagram), read (RDMA READ, atomics)
 * @imm_data: network order
 * @inv_rkey: the key that the sender has invalidated
 * @timestamp: when it was written, by the clock of SIMHCA_CLOCK_REG; 0 unless the CQ has
 *             SIMHCA_CQ_TIMESTAMP
 * @vendor_err: which check failed; for people only
 * @src: of a datagram: the QP that sent it, and its service level << SIMHCA_CQE_SL_SHIFT
 * @opcode: &enum simhca_wr_opcode of the work request, for receives that of the sender
 * @status: &enum simhca_wc_status
 * @flags: SIMHCA_CQE_*
 * @phase: written last: 1 on the first pass over the ring, then 0, then 1, ...
 */
struct simhca_cqe {
	__le32 qpn;
	__le32 wqe_index;
	__le32 byte_len;
	union {
		__be32 imm_data;
		__le32 inv_rkey;
	};
	__le64 timestamp;
	union {
		__le32 vendor_err;
		__le32 src;
	};
	__u8 opcode;
	__u8 status;
	__u8 flags;
	__u8 phase;
};

enum simhca_event {
	SIMHCA_EVENT_COMP		= 1,	/* id: cqn */
	SIMHCA_EVENT_CQ_ERR		= 2,	/* id: cqn; overrun or ring not reachable */
	SIMHCA_EVENT_QP_FATAL		= 3,	/* id: qpn */
	SIMHCA_EVENT_QP_REQ_ERR		= 4,	/* id: qpn; responder got an invalid request */
	SIMHCA_EVENT_QP_ACCESS_ERR	= 5,	/* id: qpn; responder refused an access */
	SIMHCA_EVENT_COMM_EST		= 6,	/* id: qpn; message arrived in RTR */
	SIMHCA_EVENT_SQ_DRAINED		= 7,	/* id: qpn; if @sqd_notify asked for it */
	SIMHCA_EVENT_LAST_WQE		= 8,	/* id: qpn; in ERR, takes no more from its SRQ */
	SIMHCA_EVENT_DEV_FATAL		= 9,	/* id: 0 */
	SIMHCA_EVENT_SRQ_ERR		= 10,	/* id: srqn; ring not reachable, impossible index */
	SIMHCA_EVENT_SRQ_LIMIT		= 11,	/* id: srqn */
};

/**
 * struct simhca_eqe - entry of an event queue
 * @event: &enum simhca_event
 * @id: number of the object
 * @reserved: 0
 * @phase: written last: 1 on the first pass over the ring, then 0, then 1, ...
 *
 * EQ 0 gets asynchronous events; completion events go to the EQ of the CQ. When a ring is full
 * the device keeps the event until @eq_ci moves; it loses none.
 */
struct simhca_eqe {
	__le32 event;
	__le32 id;
	__u8 reserved[7];
	__u8 phase;
};

#define SIMHCA_ASYNC_EQN		0

#endif /* SIMHCA_HW_H */
