/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * The simulated HCAs of a process.
 *
 * Threads: the engine thread (poller.c) owns all objects and all that is not marked otherwise. Each
 * device has a message thread in vfu_run(): register accesses and resets. What it wants done
 * it posts as a request and waits (dev_call()).
 */
#ifndef SIMHCA_H
#define SIMHCA_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "engine.h"
#include "simhca_hw.h"
#include "vfio_user.h"

/* Of the process; also what the device says its firmware is. */
#define SIMHCAD_VERSION_MAJOR	0
#define SIMHCAD_VERSION_MINOR	1

struct poller;

/* ---- for the process: poller.c, dev.c ---- */

struct simhca_dev;

/* @level as in vfio_user.h; @name is that of the device. */
typedef void (*simhca_log_fn)(const char *name, enum vfu_log_level level, const char *line);

/* How long to poll without finding anything, and how many naps of 25 us, before going to sleep. */
#define POLLER_SPIN_US		20
#define POLLER_NAPS		80

/* Returns NULL and sets errno. */
struct poller *poller_create(unsigned int spin_us, unsigned int naps);

/* Starts the engine thread; devices were added before. Returns 0 or a negative errno value. */
int poller_start(struct poller *poller);

/* Ends the thread. No device has a client any more. */
void poller_stop(struct poller *poller);

/* After poller_stop(), if it was started; devices are destroyed. NULL is allowed. */
void poller_destroy(struct poller *poller);

/* Any thread. */
void poller_wake(struct poller *poller);

/* @name must stay; @log may be NULL. Returns NULL and sets errno. */
struct simhca_dev *simhca_dev_create(struct poller *poller, const char *name,
				     const uint8_t mac[6], simhca_log_fn log);

/* There can be so many MRs and windows, 1 to SIMHCA_MAX_MRS - 1. Before it listens. */
void simhca_dev_set_max_mr(struct simhca_dev *dev, uint32_t max_mr);

/*
 * Listens at @path (or serves the connected socket @fd) and starts the message thread. The
 * poller runs. Returns 0 or a negative errno value.
 */
int simhca_dev_listen(struct simhca_dev *dev, const char *path);
int simhca_dev_adopt(struct simhca_dev *dev, int fd);

/* Ends the message thread and the connection; the poller still runs. */
void simhca_dev_stop(struct simhca_dev *dev);

/* Frees a device that was stopped; the poller does not run any more. NULL is allowed. */
void simhca_dev_destroy(struct simhca_dev *dev);

/* ---- between the files of this folder ---- */

/* A buffer of the guest. */
struct simhca_ring {
	struct sgtab sg;
	struct sgtab_hint hint;
	uint64_t mem;
};

/*
 * Something events are about. @pending has bit n set while event n (enum simhca_event)
 * is to be written; then @node is in a list of pending sources.
 */
struct simhca_evsrc {
	struct list_head node;
	uint32_t id;
	uint32_t pending;
};

/*
 * @pending: sources whose events go here; those about CQs in use only, asynchronous events are in
 *	     simhca_dev.async
 */
struct simhca_eq {
	uint32_t vector;
	uint32_t log_size;
	uint32_t pi;
	uint32_t refs;
	struct simhca_ring ring;
	struct list_head pending;
};

enum simhca_slot_type {
	SIMHCA_SLOT_QP,
	SIMHCA_SLOT_CQ,
	SIMHCA_SLOT_SRQ,
};

/* A doorbell page with live objects. @page is shared with the guest, who may write anything. */
struct simhca_uar_use {
	uint32_t index;
	uint32_t refs;
	struct simhca_uar *page;
	struct list_head node;
	struct simhca_qp *qp[SIMHCA_UAR_QP_SLOTS];
	bool cq[SIMHCA_UAR_CQ_SLOTS];
	bool srq[SIMHCA_UAR_SRQ_SLOTS];
};

/*
 * @arm: the value of the doorbell that was last answered by an event
 * @count, @period_ns: when events are due, simhca_cmd_modify_cq
 * @waiting: CQEs that were asked for, and wait for others; then it is in simhca_dev.waiting_cqs
 * @deadline: until then, at most
 */
struct simhca_cq {
	struct engine_cq base;
	struct simhca_dev *dev;
	struct simhca_eq *eq;
	struct simhca_uar_use *uar;
	uint32_t slot;
	uint32_t log_size;
	uint32_t flags;
	uint32_t pi;
	uint32_t arm;
	uint32_t count;
	uint32_t waiting;
	uint64_t period_ns;
	uint64_t deadline;
	struct list_head waiting_node;
	struct simhca_ring ring;
	struct simhca_evsrc comp;
	struct simhca_evsrc async;
};

struct simhca_queue {
	struct simhca_ring ring;
	uint32_t log_size;
	uint32_t log_stride;
	uint32_t ci;
};

/* @pi: in the doorbell page. The guest may write anything there. */
struct simhca_rq {
	struct engine_rq base;
	struct simhca_dev *dev;
	struct simhca_queue q;
	const __le32 *pi;
};

struct simhca_qp {
	struct engine_qp base;
	struct simhca_dev *dev;
	struct simhca_uar_use *uar;
	uint32_t slot;
	struct simhca_queue sq;
	struct simhca_rq rq;
	struct simhca_evsrc async;
};

struct simhca_srq {
	struct simhca_rq rq;
	struct simhca_uar_use *uar;
	uint32_t slot;
	struct simhca_evsrc async;
};

enum simhca_request {
	SIMHCA_REQ_NONE,
	SIMHCA_REQ_ENABLE,
	SIMHCA_REQ_RESET,
	SIMHCA_REQ_BUS_MASTER,
};

struct simhca_dev {
	struct engine_hca hca;
	struct poller *poller;
	struct list_head node;		/* in poller.devs */
	const char *name;
	simhca_log_fn log;
	uint8_t mac[6];
	uint32_t max_mr;
	struct vfu_server *srv;
	pthread_t thread;
	bool thread_started;

	/* doorbells, BAR 2: shared with the guest */
	int db_fd;
	uint8_t *db;

	/* message thread only */
	uint64_t reg_cmdq_base;
	uint64_t reg_rspq_base;
	uint32_t reg_cmdq_log_size;
	uint32_t reg_ctrl;

	/* written by the engine thread, read by the message thread */
	_Atomic uint32_t status;
	/* the other way round */
	_Atomic uint64_t kicks;

	/* the request of the message thread; @req_lock protects all three */
	pthread_mutex_t req_lock;
	pthread_cond_t req_done;
	_Atomic int req;
	bool req_bus_master;

	/* engine thread only from here */
	bool bus_master;
	uint32_t epoch;			/* runs so far; stays over resets */
	struct simhca_ring cmdq;
	struct simhca_ring rspq;
	uint32_t cmdq_log_size;
	uint32_t cmdq_ci;
	uint32_t irqs;			/* vectors to be triggered */
	bool events_blocked;		/* an EQ is full */
	uint64_t events;
	uint64_t moderated;
	struct list_head waiting_cqs;	/* with completions that wait for others */
	uint64_t waiting_until;		/* the first of their deadlines, or earlier */
	struct list_head async;		/* sources of asynchronous events */
	struct simhca_evsrc fatal;
	struct simhca_eq *eqs[SIMHCA_MAX_EQS];
	struct list_head uars;		/* in use */
	struct simhca_uar_use *uar_use[SIMHCA_MAX_UARS];
	struct simhca_seg_chunk chunk;	/* copy of what a command reads */
};

static inline struct simhca_dev *to_dev(struct engine_hca *hca)
{
	return container_of(hca, struct simhca_dev, hca);
}

static inline struct simhca_qp *to_qp(struct engine_qp *qp)
{
	return container_of(qp, struct simhca_qp, base);
}

static inline struct simhca_cq *to_cq(struct engine_cq *cq)
{
	return container_of(cq, struct simhca_cq, base);
}

static inline struct simhca_rq *to_rq(struct engine_rq *rq)
{
	return container_of(rq, struct simhca_rq, base);
}

static inline struct simhca_srq *to_srq(struct engine_rq *rq)
{
	return container_of(to_rq(rq), struct simhca_srq, rq);
}

static inline uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* In nanoseconds; the clock of the engine, and of completions. */
static inline uint64_t simhca_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* dev.c */

__attribute__((format(printf, 3, 4)))
void dev_log(struct simhca_dev *dev, enum vfu_log_level level, const char *fmt, ...);

static inline struct simhca_status_page *dev_status_page(struct simhca_dev *dev)
{
	return (struct simhca_status_page *)(dev->db + SIMHCA_STATUS_UAR * SIMHCA_PAGE_SIZE);
}

static inline struct simhca_uar *dev_uar(struct simhca_dev *dev, uint32_t index)
{
	return (struct simhca_uar *)(dev->db + index * SIMHCA_PAGE_SIZE);
}

/* Accepts rings and commands, and touches guest memory. */
static inline bool dev_running(const struct simhca_dev *dev)
{
	return dev->hca.running;
}

/* The device stops for good; @why is for the log. */
void dev_fatal(struct simhca_dev *dev, const char *why);

/* Serves the request of the message thread, if there is one. */
bool dev_serve_request(struct simhca_dev *dev);

/* cmd.c */

/* Executes commands, a bounded number; true if there was one. */
bool cmd_poll(struct simhca_dev *dev);

/* object.c, cq.c, srq.c: all return a SIMHCA_CMD_* */

uint16_t obj_create_eq(struct simhca_dev *dev, const struct simhca_cmd_create_eq *cmd);
uint16_t obj_destroy_eq(struct simhca_dev *dev, uint32_t eqn);
uint16_t obj_create_mr(struct simhca_dev *dev, const struct simhca_cmd_create_mr *cmd);
uint16_t obj_rereg_mr(struct simhca_dev *dev, const struct simhca_cmd_rereg_mr *cmd);
uint16_t obj_create_mw(struct simhca_dev *dev, const struct simhca_cmd_create_mw *cmd);
uint16_t obj_create_cq(struct simhca_dev *dev, const struct simhca_cmd_create_cq *cmd);
uint16_t obj_resize_cq(struct simhca_dev *dev, const struct simhca_cmd_resize_cq *cmd);
uint16_t obj_modify_cq(struct simhca_dev *dev, const struct simhca_cmd_modify_cq *cmd);
uint16_t obj_destroy_cq(struct simhca_dev *dev, uint32_t cqn);
uint16_t obj_create_srq(struct simhca_dev *dev, const struct simhca_cmd_create_srq *cmd);
uint16_t obj_modify_srq(struct simhca_dev *dev, const struct simhca_cmd_modify_srq *cmd);
uint16_t obj_query_srq(struct simhca_dev *dev, uint32_t srqn, struct simhca_srq_attr *out);
uint16_t obj_destroy_srq(struct simhca_dev *dev, uint32_t srqn);
uint16_t obj_create_qp(struct simhca_dev *dev, const struct simhca_cmd_create_qp *cmd);
uint16_t obj_modify_qp(struct simhca_dev *dev, const struct simhca_qp_attr *cmd);
uint16_t obj_query_qp(struct simhca_dev *dev, uint32_t qpn, struct simhca_qp_attr *out);
uint16_t obj_destroy_qp(struct simhca_dev *dev, uint32_t qpn);
uint16_t obj_attach_mcast(struct simhca_dev *dev, const struct simhca_cmd_mcast *cmd);
uint16_t obj_detach_mcast(struct simhca_dev *dev, const struct simhca_cmd_mcast *cmd);
void obj_destroy_all(struct simhca_dev *dev);
uint16_t obj_status(int err);

/* A receive queue has other strides than a send queue. Returns as ring_create(). */
int obj_create_rq(struct simhca_dev *dev, struct simhca_queue *q, const struct simhca_sgl *sgl,
		  uint8_t log_size, uint8_t log_stride);

/* cq.c */

/* [locked] A CQE was written: raises the event if one is due. */
void cq_written(struct simhca_cq *cq, bool solicited);

/* Raises the events of completions that have waited long enough. */
void cq_poll_waiting(struct simhca_dev *dev, uint64_t now);

/* ring.c */

/* Takes the buffer @sgl of @length bytes. Returns 0, -EINVAL, -ENOMEM, -EFAULT. */
int ring_load_sgl(struct simhca_dev *dev, const struct simhca_sgl *sgl, uint64_t length,
		  struct sgtab *sg, uint64_t *mem);
int ring_create(struct simhca_dev *dev, struct simhca_ring *ring, const struct simhca_sgl *sgl,
		uint64_t length);
void ring_destroy(struct simhca_dev *dev, struct simhca_ring *ring);

/* [locked] Appends @num_segs segments at @addr, any DMA address. As sgtab_add(), or -EFAULT. */
int ring_add_segs(struct simhca_dev *dev, uint64_t addr, uint32_t num_segs, struct sgtab *sg);

/* [locked] Copy out of the ring, and into it; return 0 or -EFAULT. */
int ring_read(struct simhca_dev *dev, struct simhca_ring *ring, uint64_t off, void *buf,
	      size_t len);
int ring_write(struct simhca_dev *dev, struct simhca_ring *ring, uint64_t off, const void *buf,
	       size_t len);

/*
 * [locked] Copies an entry into the ring, its last byte, the phase, after everything stored
 * before. Returns 0 or -EFAULT.
 */
int ring_write_entry(struct simhca_dev *dev, struct simhca_ring *ring, uint64_t off,
		     const void *buf, size_t len);

/* queue.c */

extern const struct engine_ops simhca_engine_ops;

/* How many entries are posted and not taken, by the doorbell @pi; more than the queue holds: -EOVERFLOW. */
int queue_avail(const struct simhca_queue *q, const __le32 *pi);

/* doorbell.c */

/* Looks at the doorbells of all UARs in use; true if a QP was found with something posted. */
bool doorbell_poll(struct simhca_dev *dev);

/*
 * Takes a free slot of a UAR, for a QP, CQ or SRQ; its doorbell is 0 then. @qp is the QP, NULL for
 * others. Returns 0, -EINVAL, -EEXIST, -ENOMEM.
 */
int doorbell_get(struct simhca_dev *dev, uint32_t index, enum simhca_slot_type type, uint32_t slot,
		 struct simhca_qp *qp, struct simhca_uar_use **use);
void doorbell_put(struct simhca_dev *dev, struct simhca_uar_use *use, enum simhca_slot_type type,
		  uint32_t slot);
void doorbell_clear_qp(struct simhca_uar_use *use, uint32_t slot);

/* event.c */

void event_init(struct simhca_evsrc *src, uint32_t id);
void event_raise(struct simhca_evsrc *src, struct list_head *pending, enum simhca_event event);
void event_cancel(struct simhca_evsrc *src);

/* Writes what is pending and raises interrupts; takes the DMA map's read lock. */
void event_flush(struct simhca_dev *dev);

#endif /* SIMHCA_H */
