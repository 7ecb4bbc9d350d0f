/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * The HCA engine.
 *
 * A process has one fabric; each HCA in it belongs to a front end, which knows registers and
 * rings. The front end embeds the engine's objects in its own, fills in the fields marked [front
 * end] and calls the functions below; the engine calls the front end through struct engine_ops to
 * fetch work requests, to write completions and to report events.
 *
 * Threads: everything here runs in one thread, the engine thread. Only the DMA maps are shared
 * with others, under their read locks. The engine takes these around each turn of a QP, so
 * the ops that touch rings are called with the read lock of their HCA held and must not take it.
 *
 * Trust: numbers, addresses and work requests come from a guest and may be anything. A turn is
 * bounded in bytes, work requests and pieces, whatever is in them.
 *
 * Errors: negative errno values.
 */
#ifndef ENGINE_H
#define ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "dma_map.h"
#include "idtab.h"
#include "list.h"
#include "sgtab.h"

/* Numbers of objects, and other limits of an HCA. */
#define ENGINE_MAX_QPS		(1u << 16)
#define ENGINE_MAX_CQS		(1u << 16)
#define ENGINE_MAX_SRQS		(1u << 16)
#define ENGINE_MAX_MRS		(1u << 20)
#define ENGINE_MAX_PDS		(1u << 16)
#define ENGINE_MAX_SGE		16u
#define ENGINE_MAX_INLINE	256u
#define ENGINE_MAX_MSG		(1u << 31)
#define ENGINE_MAX_RD_ATOMIC	128u
#define ENGINE_MAX_GIDS		128u
#define ENGINE_KEY_SHIFT	8
#define ENGINE_GSI_QPN		1u		/* may only be UD */
#define ENGINE_FIRST_QPN	2u		/* of all others */
#define ENGINE_UD_HEADER	40u		/* bytes in front of a received datagram */
#define ENGINE_MAX_MCAST	64u		/* QPs attached to multicast groups */
#define ENGINE_FLOW_LABEL_MASK	0xfffffu

/* What one HCA's objects may take in this process; more is -ENOMEM. */
#define ENGINE_MEM_LIMIT	((uint64_t)512 << 20)

/* A turn ends after so much; DMA_MAP_MAX_CHUNK bounds the time a lock is held. */
#define ENGINE_TURN_BYTES	((uint32_t)DMA_MAP_MAX_CHUNK)
#define ENGINE_TURN_WRS		64u
/* A piece of a copy counts as at least this many bytes. */
#define ENGINE_PIECE_BYTES	256u

#define ENGINE_NO_TIMER		UINT64_MAX

/* Rights of memory and of the peer at a QP. Local read always is. */
#define ENGINE_ACCESS_LOCAL_WRITE	(1u << 0)
#define ENGINE_ACCESS_REMOTE_WRITE	(1u << 1)
#define ENGINE_ACCESS_REMOTE_READ	(1u << 2)
#define ENGINE_ACCESS_REMOTE_ATOMIC	(1u << 3)
#define ENGINE_ACCESS_MW_BIND		(1u << 4)	/* of an MR: windows may be bound to it */
#define ENGINE_ACCESS_ZERO_BASED	(1u << 5)	/* of a bind: addresses count from 0 */
#define ENGINE_ACCESS_REMOTE		(ENGINE_ACCESS_REMOTE_WRITE | ENGINE_ACCESS_REMOTE_READ | \
					 ENGINE_ACCESS_REMOTE_ATOMIC)
#define ENGINE_ACCESS_FLUSH_GLOBAL	(1u << 6)
#define ENGINE_ACCESS_FLUSH_PERSISTENT	(1u << 7)	/* of a QP: no memory here is persistent */
#define ENGINE_ACCESS_QP		(ENGINE_ACCESS_LOCAL_WRITE | ENGINE_ACCESS_REMOTE | \
					 ENGINE_ACCESS_FLUSH_GLOBAL | \
					 ENGINE_ACCESS_FLUSH_PERSISTENT)
#define ENGINE_ACCESS_ALL		(ENGINE_ACCESS_LOCAL_WRITE | ENGINE_ACCESS_REMOTE | \
					 ENGINE_ACCESS_MW_BIND | ENGINE_ACCESS_FLUSH_GLOBAL)

enum engine_opcode {			/* numbered as enum ibv_wr_opcode */
	ENGINE_WR_RDMA_WRITE		= 0,
	ENGINE_WR_RDMA_WRITE_WITH_IMM	= 1,
	ENGINE_WR_SEND			= 2,
	ENGINE_WR_SEND_WITH_IMM		= 3,
	ENGINE_WR_RDMA_READ		= 4,
	ENGINE_WR_ATOMIC_CMP_AND_SWP	= 5,
	ENGINE_WR_ATOMIC_FETCH_AND_ADD	= 6,
	ENGINE_WR_LOCAL_INV		= 7,
	ENGINE_WR_BIND_MW		= 8,
	ENGINE_WR_SEND_WITH_INV		= 9,
	ENGINE_WR_FLUSH			= 14,
	ENGINE_WR_ATOMIC_WRITE		= 15,
	ENGINE_WR_REG_MR		= 32,	/* of kernels: numbered as enum ib_wr_opcode */
};

/* A fence needs no flag: reads and atomics are complete before the next request starts. */
#define ENGINE_WR_SIGNALED		(1u << 0)
#define ENGINE_WR_SOLICITED		(1u << 1)
#define ENGINE_WR_INLINE		(1u << 2)
#define ENGINE_WR_FLUSH_MR		(1u << 3)	/* of FLUSH: all of it, not a range */

enum engine_wc_status {			/* numbered as enum ibv_wc_status */
	ENGINE_WC_SUCCESS		= 0,
	ENGINE_WC_LOC_LEN_ERR		= 1,
	ENGINE_WC_LOC_QP_OP_ERR		= 2,
	ENGINE_WC_LOC_PROT_ERR		= 4,
	ENGINE_WC_WR_FLUSH_ERR		= 5,
	ENGINE_WC_MW_BIND_ERR		= 6,	/* of all that change a key */
	ENGINE_WC_REM_INV_REQ_ERR	= 9,
	ENGINE_WC_REM_ACCESS_ERR	= 10,
	ENGINE_WC_REM_OP_ERR		= 11,
	ENGINE_WC_RETRY_EXC_ERR		= 12,
	ENGINE_WC_RNR_RETRY_EXC_ERR	= 13,
};

/* Which check failed; engine_wc.vendor_err, for people only. Numbers keep their meaning. */
enum engine_verr {
	ENGINE_VERR_NONE		= 0x00,
	ENGINE_VERR_WQE			= 0x01,	/* malformed work request */
	ENGINE_VERR_LENGTH		= 0x02,	/* message longer than allowed */
	ENGINE_VERR_ATOMIC_LENGTH	= 0x03,	/* local buffer of an atomic is not 8 bytes */
	ENGINE_VERR_RD_ATOMIC		= 0x04,	/* no reads or atomics allowed on this QP */
	ENGINE_VERR_KEY			= 0x10,	/* no such key */
	ENGINE_VERR_PD			= 0x11,	/* key of another PD */
	ENGINE_VERR_ACCESS		= 0x12,	/* memory does not allow this access */
	ENGINE_VERR_RANGE		= 0x13,	/* outside the memory region */
	ENGINE_VERR_DMA			= 0x14,	/* DMA address cannot be reached */
	ENGINE_VERR_FENCED		= 0x15,	/* key was fenced */
	ENGINE_VERR_TRANS		= 0x16,	/* memory changed since the request began */
	ENGINE_VERR_FREE		= 0x17,	/* key has no memory: not bound, not registered */
	ENGINE_VERR_IN_USE		= 0x18,	/* key has memory, or windows are bound to it */
	ENGINE_VERR_KEY_TYPE		= 0x19,	/* key is not of a kind that can do this */
	ENGINE_VERR_MW_QP		= 0x1a,	/* window of another QP */
	ENGINE_VERR_QP_ACCESS		= 0x20,	/* QP does not allow this access */
	ENGINE_VERR_ALIGN		= 0x21,	/* atomic on an unaligned address */
	ENGINE_VERR_RECV_LENGTH		= 0x22,	/* receive buffer too short */
	ENGINE_VERR_NO_PEER		= 0x30,	/* no answer: no such QP at that GID */
	ENGINE_VERR_PEER_STATE		= 0x31,	/* no answer: it cannot receive */
	ENGINE_VERR_PEER_OTHER		= 0x32,	/* no answer: it is connected elsewhere */
	ENGINE_VERR_PSN			= 0x33,	/* no answer: it expects another PSN */
	ENGINE_VERR_PEER_CQ		= 0x34,	/* responder lost its CQ */
	ENGINE_VERR_RNR			= 0x35,	/* no receive posted */
	ENGINE_VERR_SGID		= 0x36,	/* no such entry of the GID table */
	/* or'ed in at the responder's receive, or at the requester if the responder refused */
	ENGINE_VERR_RECV		= 0x100,
	ENGINE_VERR_REMOTE		= 0x200,
};

enum engine_event {
	ENGINE_EVENT_CQ_ERR,		/* of a CQ */
	ENGINE_EVENT_SRQ_ERR,		/* of an SRQ, these two */
	ENGINE_EVENT_SRQ_LIMIT,
	ENGINE_EVENT_QP_FATAL,		/* of a QP, all others */
	ENGINE_EVENT_QP_REQ_ERR,
	ENGINE_EVENT_QP_ACCESS_ERR,
	ENGINE_EVENT_COMM_EST,
	ENGINE_EVENT_SQ_DRAINED,
	ENGINE_EVENT_LAST_WQE,
};

enum engine_qp_type {			/* numbered as enum ibv_qp_type */
	ENGINE_QPT_RC		= 2,
	ENGINE_QPT_UC		= 3,
	ENGINE_QPT_UD		= 4,
};

enum engine_qp_state {			/* numbered as enum ibv_qp_state */
	ENGINE_QPS_RESET	= 0,
	ENGINE_QPS_INIT		= 1,
	ENGINE_QPS_RTR		= 2,
	ENGINE_QPS_RTS		= 3,
	ENGINE_QPS_SQD		= 4,
	ENGINE_QPS_SQE		= 5,
	ENGINE_QPS_ERR		= 6,
};

/* A part of a buffer; length 0 is an empty part, of which nothing is checked. */
struct engine_sge {
	uint64_t addr;
	uint32_t length;
	uint32_t key;
};

/* Where a datagram goes. A @qkey with its highest bit set means that of the sending QP. */
struct engine_ud_dest {
	uint8_t dgid[16];
	uint32_t qpn;
	uint32_t qkey;
	uint32_t sgid_index;
	uint32_t flow_label;
	uint8_t hop_limit;
	uint8_t tclass;
	uint8_t sl;
};

/*
 * What a key is to stand for, or what a flush is about.
 *
 * @addr: BIND_MW: first byte, as the MR names it; REG_MR: the name of the first byte
 * @length: bytes; FLUSH: from engine_send_wr.remote_addr on
 * @segs: [front end] REG_MR: where engine_ops.read_segs() finds the memory
 * @num_segs: REG_MR: and how much it finds there
 * @lkey: BIND_MW: the MR
 * @access: ENGINE_ACCESS_*; FLUSH: ENGINE_ACCESS_FLUSH_*
 */
struct engine_key_mem {
	uint64_t addr;
	uint64_t length;
	uint64_t segs;
	uint32_t num_segs;
	uint32_t lkey;
	uint32_t access;
};

/*
 * @index: of the work request in its queue
 * @opcode: &enum engine_opcode, or anything
 * @rkey: of the remote memory; LOCAL_INV, SEND_WITH_INV: the key that ends; BIND_MW, REG_MR: the
 *	  new key, whose index says which window or MR
 * @length: with ENGINE_WR_INLINE bytes of @inline_data; computed by the engine otherwise
 * @mem: of BIND_MW, REG_MR and FLUSH, which have no @sge
 * @ud: on UD QPs only
 */
struct engine_send_wr {
	uint32_t index;
	uint8_t opcode;
	uint8_t flags;
	uint16_t num_sge;
	uint32_t imm_data;
	uint32_t rkey;
	uint64_t remote_addr;
	uint64_t compare_add;
	uint64_t swap;
	uint64_t length;
	struct engine_ud_dest ud;
	union {
		struct engine_sge sge[ENGINE_MAX_SGE];
		uint8_t inline_data[ENGINE_MAX_INLINE];
		struct engine_key_mem mem;
	};
};

/*
 * @index: as above; of an SRQ what its completion is told by
 * @left: of an SRQ: receives posted after this one
 */
struct engine_recv_wr {
	uint32_t index;
	uint32_t left;
	uint32_t num_sge;
	struct engine_sge sge[ENGINE_MAX_SGE];
};

struct engine_qp;

/*
 * @opcode of a receive is that of the sender.
 * @inv_rkey: the key that the sender has ended
 * @grh: a datagram, ENGINE_UD_HEADER bytes of which are its header; @src_qpn and @sl are the
 *	 sender's
 */
struct engine_wc {
	struct engine_qp *qp;
	uint32_t index;
	uint32_t byte_len;
	uint32_t imm_data;
	uint32_t inv_rkey;
	uint32_t vendor_err;
	uint32_t src_qpn;
	uint8_t opcode;
	uint8_t status;
	uint8_t sl;
	bool recv;
	bool grh;
	bool with_imm;
	bool with_inv;
	bool solicited;
};

/*
 * @hca: [front end]
 * @cqn: [front end]
 * @refs: queues that use it; a CQ in use cannot be destroyed
 * @error: overrun or not reachable: no more completions
 */
struct engine_cq {
	struct engine_hca *hca;
	uint32_t cqn;
	uint32_t refs;
	bool error;
};

/*
 * A queue of receives: a part of a QP, or shared.
 *
 * @hca: [front end]
 * @pdn: [front end] of the memory that is received into
 * @srqn: [front end] 0: part of a QP, which is not created or destroyed by itself
 * @limit: of an SRQ: ENGINE_EVENT_SRQ_LIMIT when fewer receives than this are left; 0: no event
 * @refs: QPs that use the SRQ, which cannot be destroyed then
 * @error: not reachable: nothing can be fetched any more
 */
struct engine_rq {
	struct engine_hca *hca;
	uint32_t pdn;
	uint32_t srqn;
	uint32_t limit;
	uint32_t refs;
	bool error;
};

enum engine_key_type {
	ENGINE_KEY_MR,			/* has memory from its creation on */
	ENGINE_KEY_FAST_MR,		/* gets memory by work requests */
	ENGINE_KEY_MW_1,		/* memory window, IBTA's type 1 */
	ENGINE_KEY_MW_2,		/* and type 2B: of a QP while it is bound */
};

enum engine_key_state {
	ENGINE_KEY_VALID,
	ENGINE_KEY_FREE,		/* waits for a work request to give it memory */
	ENGINE_KEY_FENCED,		/* its memory was taken away: every use is refused */
};

/*
 * What a key belongs to: an MR or a window begins with this.
 *
 * @access: rights; of a window those of the peer
 * @since: engine_hca.mr_changes when it got its memory
 * @iova: address of its first byte in work requests
 */
struct engine_key {
	uint32_t key;
	uint32_t pdn;
	uint32_t access;
	enum engine_key_type type;
	enum engine_key_state state;
	uint64_t since;
	uint64_t iova;
};

/*
 * @mem: bytes that @sg has on the HCA's account
 * @windows: bound to it; while there is one, the MR stays as it is
 */
struct engine_mr {
	struct engine_key base;
	uint64_t mem;
	struct sgtab sg;
	struct list_head windows;
};

/*
 * @mr: where it is bound, or NULL
 * @offset: of its first byte there
 * @length: bytes
 * @qp: type 2: the only QP whose peer may use it; NULL while it is not bound
 * @mr_node: in @mr->windows
 * @qp_node: in @qp->windows
 */
struct engine_mw {
	struct engine_key base;
	struct engine_mr *mr;
	uint64_t offset;
	uint64_t length;
	struct engine_qp *qp;
	struct list_head mr_node;
	struct list_head qp_node;
};

struct engine_qp_attr {
	enum engine_qp_state state;
	uint8_t path_mtu;
	uint8_t timeout;
	uint8_t retry_cnt;
	uint8_t rnr_retry;
	uint8_t min_rnr_timer;
	uint8_t hop_limit;
	uint8_t tclass;
	uint32_t access;
	uint32_t qkey;
	uint32_t dest_qpn;
	uint32_t rq_psn;
	uint32_t sq_psn;
	uint16_t max_rd_atomic;
	uint16_t max_dest_rd_atomic;
	uint32_t sgid_index;
	uint8_t dgid[16];
	uint8_t dmac[6];
	uint8_t sl;
	uint32_t flow_label;
	bool sqd_notify;		/* SQD: say when the send queue is drained */
};

/* Which fields engine_qp_modify() takes. */
#define ENGINE_QP_STATE			(1u << 0)
#define ENGINE_QP_ACCESS		(1u << 1)
#define ENGINE_QP_QKEY			(1u << 2)
#define ENGINE_QP_AV			(1u << 3)
#define ENGINE_QP_PATH_MTU		(1u << 4)
#define ENGINE_QP_TIMEOUT		(1u << 5)
#define ENGINE_QP_RETRY_CNT		(1u << 6)
#define ENGINE_QP_RNR_RETRY		(1u << 7)
#define ENGINE_QP_MIN_RNR_TIMER		(1u << 8)
#define ENGINE_QP_RQ_PSN		(1u << 9)
#define ENGINE_QP_SQ_PSN		(1u << 10)
#define ENGINE_QP_MAX_RD_ATOMIC		(1u << 11)
#define ENGINE_QP_MAX_DEST_RD_ATOMIC	(1u << 12)
#define ENGINE_QP_DEST_QPN		(1u << 13)
#define ENGINE_QP_SQD_NOTIFY		(1u << 14)
#define ENGINE_QP_ALL			((1u << 15) - 1)

/* Where a QP waits, besides being idle. */
enum engine_qp_sched {
	ENGINE_QP_IDLE,
	ENGINE_QP_ACTIVE,		/* in fabric.active */
	ENGINE_QP_FLUSHED,		/* in fabric.flushed: ERR, queues were empty */
	ENGINE_QP_TIMER,		/* in the heap of timers */
	ENGINE_QP_PARKED,		/* unanswered with an infinite timeout */
};

struct engine_qp {
	/* [front end] */
	struct engine_hca *hca;
	uint32_t qpn;
	uint32_t pdn;
	enum engine_qp_type type;
	struct engine_cq *send_cq;
	struct engine_cq *recv_cq;
	struct engine_rq *rq;		/* NULL: no receive queue */

	/* What was set; @attr.state is the state, @attr.*_psn are current. */
	struct engine_qp_attr attr;

	/* scheduling */
	enum engine_qp_sched sched;
	uint32_t heap_pos;
	uint64_t timer;
	struct list_head node;

	/* requester */
	bool wr_valid;			/* @wr is the oldest request, not completed */
	bool wr_admitted;		/* responder accepted it, @done bytes are copied */
	uint64_t local_since;		/* engine_hca.mr_changes here, when it was admitted */
	uint64_t remote_since;		/* and at the responder */
	bool ack_timeout;		/* timer runs for an unanswered request */
	bool sq_dead;			/* nothing can be fetched any more */
	uint8_t retries_left;
	uint8_t rnr_left;
	uint32_t no_answer;		/* why unanswered, ENGINE_VERR_* */
	uint64_t done;
	struct engine_qp *peer;		/* NULL: look it up */
	uint64_t peer_generation;	/* of fabric.gid_generation at look-up */
	struct list_head peer_node;	/* in peer->requesters */
	struct sgtab_hint local_hint;
	struct sgtab_hint remote_hint;	/* in the map of @peer's HCA */

	/* requester, UD: where the last datagram went */
	struct engine_hca *ud_hca;	/* that has @ud_dgid, or NULL */
	uint64_t ud_generation;		/* of fabric.gid_generation at look-up; 0: none yet */
	uint8_t ud_dgid[16];

	/* responder */
	struct list_head requesters;	/* QPs whose @peer this is */
	struct list_head windows;	/* of type 2, bound by this QP */
	bool rwr_valid;			/* @rwr was fetched, not completed */
	bool comm_est;			/* COMM_EST was reported */
	bool last_wqe;			/* and LAST_WQE */
	struct sgtab_hint recv_hint;

	struct engine_recv_wr rwr;
	struct engine_send_wr wr;
};

struct engine_gid {
	bool valid;
	uint8_t gid[16];
};

struct engine_stats {
	uint64_t tx_wrs;
	uint64_t tx_bytes;
	uint64_t rx_msgs;
	uint64_t rx_bytes;
	uint64_t cqes;
	uint64_t cqe_errors;
	uint64_t rnr_naks;
	uint64_t translate_faults;
	uint64_t rnr_retries;
	uint64_t ack_timeouts;
	uint64_t remote_errors;
	uint64_t cq_overruns;
	uint64_t srq_limits;
	uint64_t ud_drops;
};

/*
 * What a front end does for the engine. All are called in the engine thread; those marked [locked]
 * with the read lock of the HCA's DMA map held.
 */
struct engine_ops {
	/*
	 * [locked] Takes the next work request from the queue. Returns 1; 0 when there is none;
	 * -EINVAL when it is malformed (@wr->index is valid, the others need not be);
	 * -EFAULT when the ring cannot be reached; -EOVERFLOW when the producer index is
	 * impossible. After the last two the queue is dead.
	 */
	int (*fetch_send)(struct engine_qp *qp, struct engine_send_wr *wr);
	int (*fetch_recv)(struct engine_rq *rq, struct engine_recv_wr *wr);

	/*
	 * [locked] Adds the memory of a REG_MR to @sg, which has room for it. Returns 0, -EFAULT
	 * when it cannot be reached, or what sgtab_add() returned.
	 */
	int (*read_segs)(struct engine_hca *hca, const struct engine_key_mem *mem,
			 struct sgtab *sg);

	/*
	 * [locked] Writes a completion, so that all stores before the call are visible
	 * before it, and raises the event of the CQ if it is armed. Returns 0, -ENOSPC when
	 * the CQ is full, -EFAULT when it cannot be reached.
	 */
	int (*complete)(struct engine_cq *cq, const struct engine_wc *wc);

	/* Called from anywhere; must not touch memory of the guest. */
	void (*qp_event)(struct engine_qp *qp, enum engine_event event);
	void (*cq_event)(struct engine_cq *cq, enum engine_event event);
	void (*srq_event)(struct engine_rq *rq, enum engine_event event);
};

/*
 * All HCAs of a process.
 *
 * @active: QPs with work to do
 * @flushed: QPs in ERR whose queues were found empty; looked at again now and then, since posting
 *	     a receive rings no doorbell
 * @gid_generation: changes whenever a GID appears or goes
 * @heap: QPs that wait for their timer, a binary heap
 */
struct fabric {
	struct list_head hcas;
	struct list_head active;
	struct list_head flushed;
	uint64_t now;
	uint64_t gid_generation;
	uint64_t flushed_scan;
	uint64_t flushed_interval;
	struct engine_qp **heap;
	uint32_t heap_len;
	uint32_t heap_cap;
	uint32_t num_qps;
};

struct engine_hca {
	struct fabric *fabric;
	const struct engine_ops *ops;
	struct dma_map *map;
	bool running;
	struct list_head node;
	struct idtab qps;
	struct idtab cqs;
	struct idtab srqs;
	struct idtab keys;		/* struct engine_key, by key index */
	uint64_t mr_changes;		/* times an MR got memory */
	struct engine_gid gids[ENGINE_MAX_GIDS];
	struct list_head mcasts;	/* QPs in multicast groups */
	uint32_t num_mcasts;
	struct engine_stats stats;
	uint64_t mem;			/* bytes taken, at most ENGINE_MEM_LIMIT */
};

/* ---- fabric ---- */

void fabric_init(struct fabric *fabric);

/* Its HCAs are destroyed. */
void fabric_destroy(struct fabric *fabric);

/*
 * Gives the QPs that have work their turns, in order, until @max_turns or a megabyte was copied.
 * @now is in nanoseconds of any clock that does not go back. Returns the number of turns in which
 * something was done.
 */
unsigned int fabric_poll(struct fabric *fabric, uint64_t now, unsigned int max_turns);

/* When fabric_poll() has something to do if nothing happens before, or ENGINE_NO_TIMER. */
uint64_t fabric_next_timer(const struct fabric *fabric);

/* Is there a QP with work? */
static inline bool fabric_busy(const struct fabric *fabric)
{
	return !list_empty(&fabric->active);
}

/* ---- HCA ---- */

/* Returns 0 or -ENOMEM. The HCA is not running. */
int engine_hca_init(struct engine_hca *hca, struct fabric *fabric, const struct engine_ops *ops,
		    struct dma_map *map);

/* All QPs, CQs, SRQs and MRs are gone. */
void engine_hca_destroy(struct engine_hca *hca);

/*
 * A HCA that does not run touches no memory; its QPs rest and answer nobody. When it runs
 * again they go on.
 */
void engine_hca_set_running(struct engine_hca *hca, bool running);

/* @gid NULL clears the entry. Returns 0 or -EINVAL. */
int engine_hca_set_gid(struct engine_hca *hca, uint32_t index, const uint8_t *gid);

/* Memory on account of a guest: zeroed, NULL when the HCA has too much already. */
void *engine_alloc(struct engine_hca *hca, uint64_t size);
void engine_free(struct engine_hca *hca, void *ptr, uint64_t size);

/* The account alone, for memory taken otherwise. Returns 0 or -ENOMEM. */
int engine_charge(struct engine_hca *hca, uint64_t size);
void engine_uncharge(struct engine_hca *hca, uint64_t size);

/* ---- memory regions and windows ---- */

/*
 * @sg is taken over (also its memory, @mem bytes on the HCA's account) if this returns 0.
 * Otherwise -EINVAL, -EEXIST, -ENOMEM.
 */
int engine_mr_create(struct engine_hca *hca, uint32_t key, uint32_t pdn, uint32_t access,
		     uint64_t iova, const struct sgtab *sg, uint64_t mem);

/*
 * An MR without memory, which gets it by REG_MR: at most @max_segs runs.
 * Returns 0, -EINVAL, -EEXIST, -ENOMEM.
 */
int engine_mr_create_fast(struct engine_hca *hca, uint32_t key, uint32_t pdn, uint32_t max_segs);

/* What engine_mr_rereg() changes. */
#define ENGINE_REREG_TRANS	(1u << 0)	/* @iova, @sg, @mem */
#define ENGINE_REREG_PD		(1u << 1)
#define ENGINE_REREG_ACCESS	(1u << 2)
#define ENGINE_REREG_ALL	0x7u

/*
 * Changes the parts in @mask, all at once. When this returns nothing uses the old memory any more.
 * A request that is under way then fails, for its bytes lie in two memories. @sg is taken over
 * as by engine_mr_create(). A fenced MR that gets memory works again.
 * Returns 0, -ENOENT, -EINVAL, -EBUSY when windows are bound to it; after an error nothing has
 * changed.
 */
int engine_mr_rereg(struct engine_hca *hca, uint32_t key, uint32_t mask, uint32_t pdn,
		    uint32_t access, uint64_t iova, const struct sgtab *sg, uint64_t mem);

/*
 * Takes the memory away: when this returns nothing uses it any more. The key stays taken until
 * engine_mr_destroy(); requests that use it fail, those under way, too.
 * Returns 0, also when it was fenced already, or -ENOENT.
 */
int engine_mr_fence(struct engine_hca *hca, uint32_t key);

/* Returns 0, -ENOENT, or -EBUSY when windows are bound to it. */
int engine_mr_destroy(struct engine_hca *hca, uint32_t key);

/*
 * A window that is not bound. @type is ENGINE_KEY_MW_1 or _2. Returns 0, -EINVAL, -EEXIST, -ENOMEM.
 */
int engine_mw_create(struct engine_hca *hca, uint32_t key, uint32_t pdn,
		     enum engine_key_type type);

/*
 * Bound or not. The variant of @key does not matter: work requests change it, and who destroys a
 * window need not know how far they came. Returns 0 or -ENOENT.
 */
int engine_mw_destroy(struct engine_hca *hca, uint32_t key);

/* All MRs and windows. */
void engine_mr_destroy_all(struct engine_hca *hca);

/* ---- completion queues ---- */

/* @cq: zeroed but for the fields of the front end. Returns 0, -EINVAL, -EEXIST, -ENOMEM. */
int engine_cq_create(struct engine_cq *cq);

/* Returns 0 or -EBUSY. */
int engine_cq_destroy(struct engine_cq *cq);

/* ---- shared receive queues ---- */

/* @rq: zeroed but for the fields of the front end, and @limit. As engine_cq_create(). */
int engine_srq_create(struct engine_rq *rq);

/* Returns 0 or -EBUSY. */
int engine_srq_destroy(struct engine_rq *rq);

/* ---- queue pairs ---- */

/* In SQD: is a request still under way? */
static inline bool engine_qp_draining(const struct engine_qp *qp)
{
	return qp->attr.state == ENGINE_QPS_SQD && qp->wr_valid;
}

/* @qp: zeroed but for the fields of the front end. Returns 0, -EINVAL, -EEXIST, -ENOMEM. */
int engine_qp_create(struct engine_qp *qp);

/* What it had not completed is forgotten; windows that it has bound are free, groups left. */
void engine_qp_destroy(struct engine_qp *qp);

/*
 * Changes the fields in @mask. Returns 0, -EINVAL (field out of range, transition or fields that do
 * not go together), -ENETUNREACH (no HCA has @attr->dgid). In RESET the front end's queues
 * must be empty.
 */
int engine_qp_modify(struct engine_qp *qp, const struct engine_qp_attr *attr, uint32_t mask);

/*
 * A UD QP gets what is sent to the multicast GID @gid. Returns 0, -EINVAL (not UD, not a multicast
 * GID), -EEXIST, -ENOMEM; detach 0 or -ENOENT. A QP that is destroyed leaves all groups.
 */
int engine_qp_attach(struct engine_qp *qp, const uint8_t *gid);
int engine_qp_detach(struct engine_qp *qp, const uint8_t *gid);

/* Sends were posted. */
void engine_qp_ring(struct engine_qp *qp);

#endif /* ENGINE_H */
