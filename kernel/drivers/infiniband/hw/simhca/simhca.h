/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * simhca: what the files of the driver share.
 *
 * Layers, each uses those below it:
 *
 *	simhca_main.c	PCI function, ib_device, pairing with the net device
 *	simhca_verbs.c	device, port, GIDs, PDs, counters
 *	simhca_ah.c simhca_mr.c simhca_mw.c simhca_cq.c simhca_srq.c simhca_qp.c
 *			one kind of object each
 *	simhca_kq.c	rings of kernel users: posting and polling
 *	simhca_uar.c	doorbell pages and user contexts
 *	simhca_sgl.c	memory described to the device
 *	simhca_eq.c	interrupts and event queues
 *	simhca_cmd.c	command ring
 */
#ifndef SIMHCA_H
#define SIMHCA_H

#include <linux/dmapool.h>
#include <linux/idr.h>
#include <linux/if_ether.h>
#include <linux/mutex.h>
#include <linux/netdevice.h>
#include <linux/pci.h>
#include <linux/semaphore.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>
#include <rdma/ib_umem.h>
#include <rdma/ib_verbs.h>

#include "simhca_hw.h"

#define SIMHCA_PORT			1
#define SIMHCA_PKEY			0xffff
#define SIMHCA_PKEY_TABLE_LEN		1
#define SIMHCA_MAX_AH			INT_MAX	/* the device does not know of them */

#define SIMHCA_CMDQ_LOG_SIZE		6
#define SIMHCA_CMDQ_SIZE		BIT(SIMHCA_CMDQ_LOG_SIZE)

/* A mark in simhca_dev.qps */
#define SIMHCA_QP_OF_PROCESS		XA_MARK_1

/* Blocks of simhca_dev.out_pool; the output of any command fits */
#define SIMHCA_OUT_SIZE			256

/**
 * struct simhca_caps - struct simhca_dev_attr in CPU byte order
 * @fw_ver: as &ib_device_attr.fw_ver
 * @max_mr_size: bytes
 * @max_qp: QPs; their numbers are 2..@max_qp + 1
 * @max_cq: CQs; their numbers are 1..@max_cq
 * @max_mr: MRs and windows; their key indices are 1..@max_mr
 * @max_pd: PDs; their numbers are 1..@max_pd
 * @max_srq: SRQs; their numbers are 1..@max_srq
 * @max_log_wr: log2 of WQEs of a queue
 * @max_log_cqe: log2 of CQEs of a CQ
 * @max_sge: SGEs of a WQE
 * @max_inline: bytes
 * @max_msg: bytes
 * @max_rd_atomic: outstanding reads and atomics, either side
 * @gid_table_len: entries
 * @max_eq: EQ numbers
 * @max_fast_segs: segments of a fast registration
 */
struct simhca_caps {
	u64 fw_ver;
	u64 max_mr_size;
	u32 max_qp;
	u32 max_cq;
	u32 max_mr;
	u32 max_pd;
	u32 max_srq;
	u32 max_log_wr;
	u32 max_log_cqe;
	u32 max_sge;
	u32 max_inline;
	u32 max_msg;
	u32 max_rd_atomic;
	u32 gid_table_len;
	u32 max_eq;
	u32 max_fast_segs;
};

struct simhca_dev;
struct simhca_ucontext;
struct simhca_cmd_wait;

/**
 * struct simhca_uar_pool - doorbell pages of a user context, or of the kernel
 * @dev: the device
 * @uctx: the context, or NULL
 * @lock: protects @uars and the slots of its members
 * @uars: &struct simhca_uar_page; grows as needed
 */
struct simhca_uar_pool {
	struct simhca_dev *dev;
	struct simhca_ucontext *uctx;
	struct mutex lock;	/* protects @uars and their slots */
	struct list_head uars;
};

/**
 * struct simhca_cmdq - command and response ring
 * @cmds: command ring
 * @cmds_dma: its DMA address
 * @rsps: response ring
 * @rsps_dma: its DMA address
 * @credits: entries that are not in use; one is held from before posting until
 *           the caller is done, so the ring cannot be overrun
 * @lock: protects what follows. Taken in hard interrupts.
 * @pi: commands posted, modulo 2^32
 * @ci: responses consumed, modulo 2^32
 * @registered: the ib_device may be told of events
 * @dead: nothing more is posted, every command fails with -EIO. Set once, never cleared;
 *        read without @lock where a stale answer does no harm.
 * @wait: who waits for the command in this entry
 * @health: looks whether the device is alive, while the ib_device is registered
 */
struct simhca_cmdq {
	struct simhca_cmd *cmds;
	dma_addr_t cmds_dma;
	struct simhca_rsp *rsps;
	dma_addr_t rsps_dma;
	struct semaphore credits;
	spinlock_t lock;	/* protects all that follows */
	u32 pi;
	u32 ci;
	bool registered;
	bool dead;
	struct simhca_cmd_wait *wait[SIMHCA_CMDQ_SIZE];
	struct delayed_work health;
};

/**
 * struct simhca_eq - event queue, bound to the MSI-X vector of the same number
 * @dev: the device
 * @ring: the ring
 * @dma: its DMA address
 * @eqn: its number; also the vector
 * @ci: EQEs consumed, modulo 2^32. Belongs to the interrupt handler.
 * @irq: Linux interrupt number
 * @name: of the interrupt
 */
struct simhca_eq {
	struct simhca_dev *dev;
	struct simhca_eqe *ring;
	dma_addr_t dma;
	u32 eqn;
	u32 ci;
	int irq;
	char name[32];
};

/* Errors the driver met, for hw_counters of the device */
enum simhca_sw_counter {
	SIMHCA_CNT_CMD,
	SIMHCA_CNT_CMD_ERR,
	SIMHCA_CNT_CMD_TIMEOUT,
	SIMHCA_CNT_ALLOC_UCONTEXT_ERR,
	SIMHCA_CNT_MMAP_ERR,
	SIMHCA_CNT_REG_MR_ERR,
	SIMHCA_CNT_REREG_MR_ERR,
	SIMHCA_CNT_MR_FENCED,
	SIMHCA_CNT_CREATE_CQ_ERR,
	SIMHCA_CNT_RESIZE_CQ_ERR,
	SIMHCA_CNT_CREATE_SRQ_ERR,
	SIMHCA_CNT_MODIFY_SRQ_ERR,
	SIMHCA_CNT_CREATE_QP_ERR,
	SIMHCA_CNT_MODIFY_QP_ERR,
	SIMHCA_CNT_EVENT_LOST,
	SIMHCA_CNT_NUM
};

/**
 * struct simhca_dev - a PCI function
 * @ibdev: its ib_device
 * @pdev: the function
 * @regs: BAR 0
 * @db: BAR 2
 * @mac: MAC address of the net device it belongs to
 * @caps: what the device can do; constant after probe
 * @cmdq: command ring
 * @out_pool: blocks of SIMHCA_OUT_SIZE for outputs of commands
 * @eqs: event queues; 0 for asynchronous events, the others for completions
 * @num_eqs: how many
 * @netdev: the net device it is paired with, or NULL. Protected by rtnl_lock;
 *          ib_core holds the reference, use ib_device_get_netdev() elsewhere.
 * @netdev_nb: pairs and unpairs
 * @rescan_work: adds the GIDs of a net device that came late
 * @fail_work: wakes who waits for completions, once the device was given up
 * @pds: PD numbers
 * @uars: pages of BAR 2
 * @kernel_uars: those for objects of kernel users
 * @mrs: MRs and windows by key index
 * @next_mr: where the search for an index goes on; under the lock of @mrs
 * @key_variant: variant of new keys, changes whenever @next_mr wraps; under the lock of @mrs
 * @cqs: CQs by number, looked up by interrupt handlers; an entry is erased, and the
 *       handlers waited for, before a CQ is freed
 * @next_cqn: where the search for a number goes on; under the lock of @cqs
 * @srqs: SRQs by number, rules as for @cqs
 * @next_srqn: where the search for a number goes on; under the lock of @srqs
 * @qps: QPs by number, rules as for @cqs; those with SIMHCA_QP_OF_PROCESS are not the kernel's own
 * @next_qpn: where the search for a number goes on; under the lock of @qps
 * @counters: by &enum simhca_sw_counter
 */
struct simhca_dev {
	struct ib_device ibdev;
	struct pci_dev *pdev;
	void __iomem *regs;
	void __iomem *db;
	u8 mac[ETH_ALEN];
	struct simhca_caps caps;

	struct simhca_cmdq cmdq;
	struct dma_pool *out_pool;
	struct simhca_eq *eqs;
	u32 num_eqs;
	struct simhca_uar_pool kernel_uars;

	struct net_device *netdev;
	struct notifier_block netdev_nb;
	struct work_struct rescan_work;
	struct work_struct fail_work;

	struct ida pds;
	struct ida uars;
	struct xarray mrs;
	u32 next_mr;
	u8 key_variant;
	struct xarray cqs;
	u32 next_cqn;
	struct xarray srqs;
	u32 next_srqn;
	struct xarray qps;
	u32 next_qpn;

	atomic64_t counters[SIMHCA_CNT_NUM];
};

/**
 * struct simhca_ucontext - an open device file
 * @ibucontext: embedded
 * @status: mmap entry of the status page
 * @kick: mmap entry of the kick page
 * @uars: its doorbell pages
 */
struct simhca_ucontext {
	struct ib_ucontext ibucontext;
	struct rdma_user_mmap_entry *status;
	struct rdma_user_mmap_entry *kick;
	struct simhca_uar_pool uars;
};

/**
 * struct simhca_uar_page - a doorbell page
 * @list: in &simhca_uar_pool.uars
 * @index: page of BAR 2
 * @entry: for processes to map it, unless it is the kernel's
 * @qps: QP slots in use
 * @cqs: CQ slots in use
 * @srqs: SRQ slots in use
 */
struct simhca_uar_page {
	struct list_head list;
	u32 index;
	struct rdma_user_mmap_entry *entry;
	DECLARE_BITMAP(qps, SIMHCA_UAR_QP_SLOTS);
	DECLARE_BITMAP(cqs, SIMHCA_UAR_CQ_SLOTS);
	DECLARE_BITMAP(srqs, SIMHCA_UAR_SRQ_SLOTS);
};

enum simhca_slot_type {
	SIMHCA_SLOT_QP,
	SIMHCA_SLOT_CQ,
	SIMHCA_SLOT_SRQ,
};

/**
 * struct simhca_slot - a doorbell
 * @uar: its page
 * @index: the slot there
 */
struct simhca_slot {
	struct simhca_uar_page *uar;
	u32 index;
};

/**
 * struct simhca_ah - an address handle
 * @ibah: embedded
 * @dest: what it says about the destination, for work requests
 */
struct simhca_ah {
	struct ib_ah ibah;
	struct simhca_ud_dest dest;
};

struct simhca_pd {
	struct ib_pd ibpd;
	u32 pdn;
};

/**
 * struct simhca_mr_mem - memory of an MR
 * @mr: the MR
 * @umem: the memory
 * @nsegs: segments the device knows
 * @revocable: its owner can take it back
 */
struct simhca_mr_mem {
	struct simhca_mr *mr;
	struct ib_umem *umem;
	u32 nsegs;
	bool revocable;
};

/**
 * struct simhca_fast_mem - memory that a work request gives to an MR
 * @segs: the list that IB_WR_REG_MR names, read by the device
 * @dma: its DMA address
 * @max: segments it has room for; 0: not an MR of this kind
 * @num: segments it has. Belongs, as @segs, to who maps and posts.
 */
struct simhca_fast_mem {
	struct simhca_seg *segs;
	dma_addr_t dma;
	u32 max;
	u32 num;
};

/**
 * struct simhca_mr - a memory region
 * @ibmr: embedded
 * @access: IB_ACCESS_* it was registered with
 * @fast: of MRs for fast registration, which have no @mem
 * @lock: protects @mem and @fenced, and is held while the device is told of a change in them.
 *        Taken under the lock of a umem (ib_umem_revoke_lock()), never the other way round.
 * @mem: the memory that the key stands for
 * @fenced: the device does not use it any more
 */
struct simhca_mr {
	struct ib_mr ibmr;
	int access;
	struct simhca_fast_mem fast;
	struct mutex lock;	/* protects what follows */
	struct simhca_mr_mem *mem;
	bool fenced;
};

struct simhca_mw {
	struct ib_mw ibmw;
};

/**
 * struct simhca_ring - a ring of a kernel user, in pieces
 * @frags: the pieces, of SIMHCA_RING_FRAG bytes each but for the last one, or NULL. Entries are
 *         powers of two, so none lies in two of them.
 * @sgt: their DMA addresses; there are no pages in it
 */
struct simhca_ring {
	void **frags;
	struct sg_table sgt;
};

/**
 * struct simhca_kcq - what a CQ of a kernel user has
 * @ring: &struct simhca_cqe
 * @lock: protects what follows, and stores to the doorbell. Taken in hard interrupts, and outside
 *        &simhca_kwq.lock.
 * @ci: CQEs consumed, modulo 2^32
 * @arm_seq: sequence number of the last request for an event
 * @armed: there was no event since
 * @armed_any: it, or an earlier one since the last event, was for any completion
 * @send_qps: QPs of kernel users whose sends complete here
 * @recv_qps: those whose receives do
 * @qps: both, by number. Erased under @lock: what is found under it stays.
 */
struct simhca_kcq {
	struct simhca_ring ring;
	spinlock_t lock;	/* protects what follows */
	u32 ci;
	u32 arm_seq;
	bool armed;
	bool armed_any;
	struct list_head send_qps;
	struct list_head recv_qps;
	struct xarray qps;
};

/**
 * struct simhca_cq - a completion queue
 * @ibcq: embedded
 * @lock: one resize at a time, protects @umem
 * @umem: the ring, or NULL in a CQ of a kernel user
 * @kcq: what only such a CQ has
 * @eq: where its completion events go
 * @cqn: its number
 * @slot: its doorbell
 */
struct simhca_cq {
	struct ib_cq ibcq;
	struct mutex lock;	/* protects @umem */
	struct ib_umem *umem;
	struct simhca_kcq kcq;
	struct simhca_eq *eq;
	u32 cqn;
	struct simhca_slot slot;
};

/**
 * struct simhca_kwq - a work queue of a kernel user
 * @ring: the entries
 * @wrids: &ib_send_wr.wr_id, &ib_recv_wr.wr_id by WQE number, modulo @size
 * @size: WQEs, a power of two; 0: no such queue
 * @log_stride: log2 of bytes of an entry
 * @max_sge: SGEs an entry can hold
 * @lock: protects @head, the entries from there on, and the doorbell
 * @head: WQEs posted since RESET, modulo 2^32
 * @tail: of these completed. Written under the lock of the CQ, with a release store after the last
 *        look at what the entry was for.
 */
struct simhca_kwq {
	struct simhca_ring ring;
	u64 *wrids;
	u32 size;
	u32 log_stride;
	u32 max_sge;
	spinlock_t lock;	/* protects @head and the entries */
	u32 head;
	u32 tail;
};

/**
 * struct simhca_srq - a shared receive queue
 * @ibsrq: embedded
 * @umem: the ring, or NULL in an SRQ of a kernel user
 * @lock: one change at a time, protects @umem and stores to @max_wr
 * @wq: the queue of a kernel user; its &simhca_kwq.wrids are by tag, for receives complete in any
 *      order. There are as many tags as entries.
 * @free_tags: tags of no receive; under the lock of @wq
 * @num_free: how many; under the lock of @wq
 * @used_tags: a bit for each of the others; under the lock of @wq
 * @srqn: its number
 * @slot: its doorbell
 * @max_wr: receives the ring can hold
 * @log_stride: log2 of bytes of an entry
 * @max_sge: SGEs an entry can hold
 */
struct simhca_srq {
	struct ib_srq ibsrq;
	struct ib_umem *umem;
	struct mutex lock;	/* protects @umem and @max_wr */
	struct simhca_kwq wq;
	u32 *free_tags;
	u32 num_free;
	unsigned long *used_tags;
	u32 srqn;
	struct simhca_slot slot;
	u32 max_wr;
	u32 log_stride;
	u32 max_sge;
};

/**
 * struct simhca_qp - a queue pair
 * @ibqp: embedded
 * @sq_umem: send ring, or NULL in a QP of a kernel user
 * @rq_umem: receive ring, or NULL
 * @sq: send queue of a kernel user
 * @rq: receive queue of a kernel user
 * @send_entry: in &simhca_kcq.send_qps
 * @recv_entry: in &simhca_kcq.recv_qps
 * @slot: its doorbell
 * @cap: what the rings can hold
 * @sig_type: which sends are completed, as the caller said
 * @lock: serializes modify operations, protects @state
 * @state: the last state software asked for; the device may have gone to an
 *         error state since
 */
struct simhca_qp {
	struct ib_qp ibqp;
	struct ib_umem *sq_umem;
	struct ib_umem *rq_umem;
	struct simhca_kwq sq;
	struct simhca_kwq rq;
	struct list_head send_entry;
	struct list_head recv_entry;
	struct simhca_slot slot;
	struct ib_qp_cap cap;
	enum ib_sig_type sig_type;
	struct mutex lock;	/* one modify at a time */
	enum ib_qp_state state;
};

/**
 * struct simhca_sgl_chunks - a segment list in memory the device can read
 * @pages: the chunks
 * @num: how many; 0: the list is in the command itself
 */
struct simhca_sgl_chunks {
	struct simhca_seg_chunk **pages;
	u32 num;
};

static inline struct simhca_dev *to_sdev(struct ib_device *ibdev)
{
	return container_of(ibdev, struct simhca_dev, ibdev);
}

static inline struct simhca_ucontext *to_suctx(struct ib_ucontext *ibucontext)
{
	return container_of(ibucontext, struct simhca_ucontext, ibucontext);
}

static inline struct simhca_pd *to_spd(struct ib_pd *ibpd)
{
	return container_of(ibpd, struct simhca_pd, ibpd);
}

static inline struct simhca_ah *to_sah(struct ib_ah *ibah)
{
	return container_of(ibah, struct simhca_ah, ibah);
}

static inline struct simhca_mr *to_smr(struct ib_mr *ibmr)
{
	return container_of(ibmr, struct simhca_mr, ibmr);
}

static inline struct simhca_cq *to_scq(struct ib_cq *ibcq)
{
	return container_of(ibcq, struct simhca_cq, ibcq);
}

static inline struct simhca_srq *to_ssrq(struct ib_srq *ibsrq)
{
	return container_of(ibsrq, struct simhca_srq, ibsrq);
}

static inline struct simhca_qp *to_sqp(struct ib_qp *ibqp)
{
	return container_of(ibqp, struct simhca_qp, ibqp);
}

/* Of xa_alloc_cyclic(): verbs say that all numbers are used as they say that there is no memory */
static inline int simhca_xa_err(int ret)
{
	return ret == -EBUSY ? -ENOMEM : min(ret, 0);
}

static inline void simhca_count(struct simhca_dev *dev, enum simhca_sw_counter counter)
{
	atomic64_inc(&dev->counters[counter]);
}

static inline void __iomem *simhca_uar_addr(struct simhca_dev *dev, u32 uar)
{
	return dev->db + (size_t)uar * SIMHCA_PAGE_SIZE;
}

/* Where an object of this context, or with NULL of the kernel, gets its doorbell */
static inline struct simhca_uar_pool *simhca_uars(struct simhca_dev *dev,
						  struct simhca_ucontext *uctx)
{
	return uctx ? &uctx->uars : &dev->kernel_uars;
}

/* After a doorbell was rung. The device looks the other way round, see simhca_hw.h. */
static inline void simhca_kick(struct simhca_dev *dev)
{
	/* The doorbell before the load */
	mb();
	if (readl(simhca_uar_addr(dev, SIMHCA_STATUS_UAR) +
		  offsetof(struct simhca_status_page, asleep)))
		writel(1, dev->regs + SIMHCA_KICK_PAGE + SIMHCA_KICK_REG);
}

/* simhca_cmd.c */
int simhca_cmdq_init(struct simhca_dev *dev);
void simhca_cmdq_cleanup(struct simhca_dev *dev);
void simhca_cmdq_poll(struct simhca_dev *dev);
void simhca_cmdq_set_registered(struct simhca_dev *dev, bool registered);
int simhca_cmd_exec(struct simhca_dev *dev, struct simhca_cmd *cmd);
int simhca_cmd_query(struct simhca_dev *dev, struct simhca_cmd *cmd, void *out, size_t len);
void simhca_cmd_destroy(struct simhca_dev *dev, enum simhca_cmd_opcode opcode, u32 id);
int simhca_cmd_destroy_mr(struct simhca_dev *dev, u32 key);
void simhca_dev_reset(struct simhca_dev *dev);
void simhca_dev_fail(struct simhca_dev *dev, const char *why);
void simhca_health_start(struct simhca_dev *dev);
void simhca_health_stop(struct simhca_dev *dev);

/* simhca_eq.c */
int simhca_eqs_init(struct simhca_dev *dev);
int simhca_eqs_start(struct simhca_dev *dev);
void simhca_eqs_stop(struct simhca_dev *dev);
void simhca_eqs_cleanup(struct simhca_dev *dev);

/* simhca_sgl.c */
int simhca_sgl_build(struct simhca_dev *dev, struct ib_umem *umem, u64 length,
		     struct simhca_sgl *sgl, struct simhca_sgl_chunks *chunks);
int simhca_sgl_build_table(struct simhca_dev *dev, const struct sg_table *sgt, u64 offset,
			   u64 length, struct simhca_sgl *sgl, struct simhca_sgl_chunks *chunks);
void simhca_sgl_free(struct simhca_dev *dev, struct simhca_sgl *sgl,
		     struct simhca_sgl_chunks *chunks);

/* simhca_uar.c */
void simhca_uar_pool_init(struct simhca_uar_pool *pool, struct simhca_dev *dev,
			  struct simhca_ucontext *uctx);
void simhca_uar_pool_cleanup(struct simhca_uar_pool *pool);
int simhca_slot_alloc(struct simhca_uar_pool *pool, enum simhca_slot_type type,
		      struct simhca_slot *slot);
void simhca_slot_free(struct simhca_uar_pool *pool, enum simhca_slot_type type,
		      struct simhca_slot *slot);
int simhca_alloc_ucontext(struct ib_ucontext *ibucontext, struct ib_udata *udata);
int simhca_query_ucontext(struct ib_ucontext *ibucontext, struct uverbs_attr_bundle *attrs);
void simhca_dealloc_ucontext(struct ib_ucontext *ibucontext);
void simhca_disassociate_ucontext(struct ib_ucontext *ibucontext);
int simhca_mmap(struct ib_ucontext *ibucontext, struct vm_area_struct *vma);
void simhca_mmap_free(struct rdma_user_mmap_entry *rdma_entry);

/* simhca_kq.c */
int simhca_ring_build(struct simhca_dev *dev, struct ib_umem *umem,
		      const struct simhca_ring *ring, u64 length, struct simhca_sgl *sgl,
		      struct simhca_sgl_chunks *chunks);
int simhca_kcq_init(struct simhca_dev *dev, struct simhca_kcq *kcq, u32 log_size);
void simhca_kcq_cleanup(struct simhca_dev *dev, struct simhca_kcq *kcq);
void simhca_kcq_event(struct simhca_cq *cq);
bool simhca_kcq_overdue(struct simhca_cq *cq);
int simhca_kqp_init(struct simhca_dev *dev, struct simhca_qp *qp, struct ib_qp_cap *cap);
void simhca_kqp_cleanup(struct simhca_dev *dev, struct simhca_qp *qp);
int simhca_kqp_attach(struct simhca_qp *qp);
void simhca_kqp_detach(struct simhca_qp *qp);
void simhca_kqp_reset(struct simhca_qp *qp);
int simhca_post_send(struct ib_qp *ibqp, const struct ib_send_wr *wr,
		     const struct ib_send_wr **bad_wr);
int simhca_post_recv(struct ib_qp *ibqp, const struct ib_recv_wr *wr,
		     const struct ib_recv_wr **bad_wr);
int simhca_ksrq_init(struct simhca_dev *dev, struct simhca_srq *srq, struct ib_srq_attr *attr);
void simhca_ksrq_cleanup(struct simhca_dev *dev, struct simhca_srq *srq);
int simhca_post_srq_recv(struct ib_srq *ibsrq, const struct ib_recv_wr *wr,
			 const struct ib_recv_wr **bad_wr);
int simhca_poll_cq(struct ib_cq *ibcq, int num_entries, struct ib_wc *wc);
int simhca_req_notify_cq(struct ib_cq *ibcq, enum ib_cq_notify_flags flags);

/* simhca_ah.c */
int simhca_create_ah(struct ib_ah *ibah, struct rdma_ah_init_attr *init_attr,
		     struct ib_udata *udata);
int simhca_query_ah(struct ib_ah *ibah, struct rdma_ah_attr *attr);
int simhca_destroy_ah(struct ib_ah *ibah, u32 flags);

/* simhca_mr.c */
struct ib_mr *simhca_get_dma_mr(struct ib_pd *ibpd, int access);
struct ib_mr *simhca_reg_user_mr(struct ib_pd *ibpd, u64 start, u64 length, u64 virt_addr,
				 int access, struct ib_dmah *dmah, struct ib_udata *udata);
struct ib_mr *simhca_reg_user_mr_dmabuf(struct ib_pd *ibpd, u64 offset, u64 length,
					u64 virt_addr, int fd, int access, struct ib_dmah *dmah,
					struct uverbs_attr_bundle *attrs);
struct ib_mr *simhca_rereg_user_mr(struct ib_mr *ibmr, int flags, u64 start, u64 length,
				   u64 virt_addr, int access, struct ib_pd *ibpd,
				   struct ib_udata *udata);
struct ib_mr *simhca_alloc_mr(struct ib_pd *ibpd, enum ib_mr_type type, u32 max_num_sg);
int simhca_map_mr_sg(struct ib_mr *ibmr, struct scatterlist *sgl, int sg_nents,
		     unsigned int *sg_offset);
int simhca_dereg_mr(struct ib_mr *ibmr, struct ib_udata *udata);
bool simhca_mr_revocable(struct ib_device *ibdev);
int simhca_fill_res_mr_entry(struct sk_buff *msg, struct ib_mr *ibmr);

int simhca_key_alloc(struct simhca_dev *dev, void *owner, u32 *key);
void simhca_key_free(struct simhca_dev *dev, u32 key);
u32 simhca_mr_access(int access);

/* simhca_mw.c */
int simhca_alloc_mw(struct ib_mw *ibmw, struct ib_udata *udata);
int simhca_dealloc_mw(struct ib_mw *ibmw);

/* simhca_cq.c */
int simhca_create_cq(struct ib_cq *ibcq, const struct ib_cq_init_attr *attr,
		     struct uverbs_attr_bundle *attrs);
int simhca_create_user_cq(struct ib_cq *ibcq, const struct ib_cq_init_attr *attr,
			  struct uverbs_attr_bundle *attrs);
int simhca_resize_user_cq(struct ib_cq *ibcq, unsigned int cqe, struct ib_udata *udata);
int simhca_modify_cq(struct ib_cq *ibcq, u16 count, u16 period);
int simhca_destroy_cq(struct ib_cq *ibcq, struct ib_udata *udata);
void simhca_cq_comp_event(struct simhca_dev *dev, u32 cqn);
void simhca_cq_comp_event_overdue(struct simhca_dev *dev, bool processes);
void simhca_cq_error_event(struct simhca_dev *dev, u32 cqn);

/* simhca_srq.c */
int simhca_create_srq(struct ib_srq *ibsrq, struct ib_srq_init_attr *init_attr,
		      struct ib_udata *udata);
int simhca_modify_srq(struct ib_srq *ibsrq, struct ib_srq_attr *attr,
		      enum ib_srq_attr_mask attr_mask, struct ib_udata *udata);
int simhca_query_srq(struct ib_srq *ibsrq, struct ib_srq_attr *attr);
int simhca_destroy_srq(struct ib_srq *ibsrq, struct ib_udata *udata);
void simhca_srq_event(struct simhca_dev *dev, u32 srqn, enum ib_event_type type);

/* simhca_qp.c */
bool simhca_rq_ok(struct simhca_dev *dev, u64 va, u32 log_size, u32 log_stride, u32 max_wr,
		  u32 max_sge);
int simhca_create_qp(struct ib_qp *ibqp, struct ib_qp_init_attr *attr, struct ib_udata *udata);
int simhca_modify_qp(struct ib_qp *ibqp, struct ib_qp_attr *attr, int attr_mask,
		     struct ib_udata *udata);
int simhca_query_qp(struct ib_qp *ibqp, struct ib_qp_attr *attr, int attr_mask,
		    struct ib_qp_init_attr *init_attr);
int simhca_destroy_qp(struct ib_qp *ibqp, struct ib_udata *udata);
int simhca_attach_mcast(struct ib_qp *ibqp, union ib_gid *gid, u16 lid);
int simhca_detach_mcast(struct ib_qp *ibqp, union ib_gid *gid, u16 lid);
void simhca_qps_stop(struct simhca_dev *dev);
void simhca_qp_event(struct simhca_dev *dev, u32 qpn, enum ib_event_type type);

/* simhca_verbs.c */
enum ib_mtu simhca_active_mtu(struct simhca_dev *dev);
void simhca_set_ops(struct ib_device *ibdev);

#endif /* SIMHCA_H */
