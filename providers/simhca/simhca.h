/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * simhca: objects of the provider and the functions behind its verbs.
 *
 * Locks, outer ones first: qp_table_mutex, the spinlocks of CQs by rising CQ number, those of
 * work queues and SRQs. uar_mutex is taken with none of them held.
 */
#ifndef SIMHCA_H
#define SIMHCA_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ccan/list.h>
#include <infiniband/driver.h>
#include <util/util.h>

#include "simhca_hw.h"

/*
 * A port of RoCE has no LID. Programs that know nothing of GIDs, ibv_rc_pingpong without options for
 * one, exchange LIDs all the same, so the provider makes them: a LID is the last two octets of the MAC
 * address. It stands for the port whose MAC address is otherwise like that of the local one, and for
 * the default GID of that port, which ib_core always keeps in the first entry of the table.
 */
#define SIMHCA_DEFAULT_GID_INDEX	0

#define SIMHCA_QP_TABLE_SHIFT	8
#define SIMHCA_QP_TABLE_SIZE	(SIMHCA_MAX_QPS >> SIMHCA_QP_TABLE_SHIFT)
#define SIMHCA_QP_LEAF_SIZE	(1u << SIMHCA_QP_TABLE_SHIFT)

struct simhca_qp;
struct simhca_uar_map;

struct simhca_context {
	struct verbs_context ibvctx;
	const struct simhca_status_page *status;	/* mapped read only */
	void *kick;
	uint32_t epoch;			/* simhca_status_page.epoch while objects live */

	uint32_t max_inline;
	uint32_t max_sge;
	uint32_t max_log_wr;
	uint32_t max_log_cqe;

	pthread_mutex_t uar_mutex;
	struct list_head uar_maps;	/* struct simhca_uar_map, under uar_mutex */

	/*
	 * Changes are made under qp_table_mutex, which destroying a QP holds
	 * from before its number is free in the kernel; entries are cleared
	 * under the locks of the QP's CQs, too. Polling a CQ reads the table
	 * with that CQ's lock only, so leaves stay until the context goes.
	 */
	pthread_mutex_t qp_table_mutex;
	struct simhca_qp **qp_table[SIMHCA_QP_TABLE_SIZE];
};

struct simhca_ah {
	struct ibv_ah ibvah;
	struct simhca_ud_dest dest;	/* but for QP and Q_Key */
};

/* What memory is for: resource_type of the allocator of a parent domain. */
enum simhca_resource {
	SIMHCA_RESOURCE_CQ = 1,
	SIMHCA_RESOURCE_SQ,
	SIMHCA_RESOURCE_RQ,
	SIMHCA_RESOURCE_SRQ,
};

/* @domains: parent domains made of it. @protection_domain: of a parent domain only */
struct simhca_pd {
	struct ibv_pd ibvpd;
	struct simhca_pd *protection_domain;
	atomic_uint domains;
};

struct simhca_td {
	struct ibv_td ibvtd;
	atomic_uint domains;		/* parent domains made of it */
};

struct simhca_parent_domain {
	struct simhca_pd pd;
	struct simhca_td *td;
	void *(*alloc)(struct ibv_pd *pd, void *pd_context, size_t size,
		       size_t alignment, uint64_t resource_type);
	void (*free)(struct ibv_pd *pd, void *pd_context, void *ptr,
		     uint64_t resource_type);
	void *pd_context;
};

/* Memory of a ring. @domain: whose allocator it is from, or NULL */
struct simhca_buf {
	void *addr;
	size_t size;
	enum simhca_resource type;
	struct simhca_parent_domain *domain;
};

struct simhca_cq {
	struct verbs_cq vcq;
	struct simhca_buf buf;		/* struct simhca_cqe */
	struct ibv_pd *pd;		/* a parent domain that new rings come from, or NULL */
	struct simhca_uar_map *uar_map;
	struct simhca_cq_db *db;
	uint32_t cqn;
	uint32_t log_size;

	pthread_spinlock_t lock;	/* guards the rest, and stores to *db */
	uint32_t ci;
	uint32_t arm_seq;
	bool armed_any;			/* armed for every completion, and no event taken since */
	struct ibv_wc wc;		/* what start_poll, next_poll found */
	uint64_t timestamp;
	struct list_head send_qps;	/* struct simhca_qp, whose send queues complete here */
	struct list_head recv_qps;
};

struct simhca_wq {
	struct simhca_buf buf;
	uint64_t *wrid;			/* by WQE number, modulo the size */
	uint32_t size;			/* WQEs: a power of two; 0: no such queue */
	uint32_t log_stride;
	uint32_t max_sge;

	pthread_spinlock_t lock;	/* guards @head, the ring, and its doorbell */
	uint32_t head;			/* WQEs posted since RESET, modulo 2^32 */
	atomic_uint tail;		/* of these completed; stored under the lock of the CQ */
};

/*
 * A receive is known by its tag, an index of @wrid: receives of an SRQ complete in any order. There are
 * as many tags as entries in the ring, or more if it once was larger. The ring is in order: while fewer
 * tags are taken than it has entries there is room in it.
 */
struct simhca_srq {
	struct ibv_srq ibvsrq;
	uint32_t log_stride;
	uint32_t max_sge;
	struct simhca_uar_map *uar_map;
	struct simhca_srq_db *db;

	pthread_spinlock_t lock;	/* guards the rest, the ring, and its doorbell */
	struct simhca_buf buf;
	uint32_t size;			/* WQEs: a power of two */
	uint32_t head;			/* WQEs posted, modulo 2^32 */
	uint64_t *wrid;			/* by tag */
	uint32_t *free_tags;
	uint32_t num_tags;
	uint32_t num_free;
};

struct simhca_qp {
	struct verbs_qp vqp;
	struct simhca_wq sq;
	struct simhca_wq rq;
	struct simhca_srq *srq;		/* instead of @rq, or NULL */
	/* between wr_start and wr_complete, under the lock of the SQ: */
	struct simhca_sq_wqe *wr_wqe;	/* the last one */
	uint32_t wr_start;		/* head before all of them */
	int wr_err;			/* the first error */
	struct simhca_uar_map *uar_map;
	struct simhca_qp_db *db;
	uint8_t *sq_group;
	uint32_t max_inline;
	bool sq_sig_all;
	struct list_node send_entry;	/* in the lists of its CQs */
	struct list_node recv_entry;
};

/* log2 of the smallest power of two that is not below @n */
static inline uint32_t simhca_log2_up(uint32_t n)
{
	return n > 1 ? ilog32(n - 1) : 0;
}

static inline struct simhca_context *to_simhca_ctx(struct ibv_context *ibvctx)
{
	return container_of(ibvctx, struct simhca_context, ibvctx.context);
}

static inline struct simhca_ah *to_simhca_ah(struct ibv_ah *ibvah)
{
	return container_of(ibvah, struct simhca_ah, ibvah);
}

static inline struct simhca_pd *to_simhca_pd(struct ibv_pd *ibvpd)
{
	return container_of(ibvpd, struct simhca_pd, ibvpd);
}

/* NULL if it is a protection domain. */
static inline struct simhca_parent_domain *to_simhca_domain(struct ibv_pd *ibvpd)
{
	struct simhca_pd *pd = to_simhca_pd(ibvpd);

	return pd->protection_domain ?
		       container_of(pd, struct simhca_parent_domain, pd) : NULL;
}

static inline struct simhca_td *to_simhca_td(struct ibv_td *ibvtd)
{
	return container_of(ibvtd, struct simhca_td, ibvtd);
}

static inline struct simhca_cq *to_simhca_cq(struct ibv_cq *ibvcq)
{
	return container_of(ibvcq, struct simhca_cq, vcq.cq);
}

static inline struct simhca_qp *to_simhca_qp(struct ibv_qp *ibvqp)
{
	return container_of(ibvqp, struct simhca_qp, vqp.qp);
}

static inline struct simhca_srq *to_simhca_srq(struct ibv_srq *ibvsrq)
{
	return container_of(ibvsrq, struct simhca_srq, ibvsrq);
}

/* simhca_buf.c */
int simhca_alloc_buf(struct simhca_buf *buf, struct ibv_pd *pd, size_t size,
		     enum simhca_resource type);
void simhca_free_buf(struct simhca_buf *buf);

/* simhca_pd.c */
struct ibv_pd *simhca_alloc_pd(struct ibv_context *ibvctx);
struct ibv_pd *simhca_alloc_parent_domain(
		struct ibv_context *ibvctx,
		struct ibv_parent_domain_init_attr *attr);
int simhca_dealloc_pd(struct ibv_pd *ibvpd);
struct ibv_pd *simhca_import_pd(struct ibv_context *ibvctx, uint32_t handle);
void simhca_unimport_pd(struct ibv_pd *ibvpd);
struct ibv_td *simhca_alloc_td(struct ibv_context *ibvctx,
			       struct ibv_td_init_attr *attr);
int simhca_dealloc_td(struct ibv_td *ibvtd);

/* simhca_ah.c */
struct ibv_ah *simhca_create_ah(struct ibv_pd *pd, struct ibv_ah_attr *attr);
int simhca_destroy_ah(struct ibv_ah *ibvah);

/* simhca_verbs.c */
int simhca_query_device_ex(struct ibv_context *ibvctx,
			   const struct ibv_query_device_ex_input *input,
			   struct ibv_device_attr_ex *attr, size_t attr_size);
int simhca_query_rt_values(struct ibv_context *ibvctx,
			   struct ibv_values_ex *values);
int simhca_query_port(struct ibv_context *ibvctx, uint8_t port,
		      struct ibv_port_attr *attr);
int simhca_resolve_lid(struct ibv_context *ibvctx,
		       const struct ibv_ah_attr *ah_attr,
		       struct ibv_ah_attr *real);
struct ibv_mr *simhca_reg_mr(struct ibv_pd *pd, void *addr, size_t length,
			     uint64_t hca_va, int access);
struct ibv_mr *simhca_reg_dmabuf_mr(struct ibv_pd *pd, uint64_t offset,
				    size_t length, uint64_t iova, int fd,
				    int access);
int simhca_rereg_mr(struct verbs_mr *vmr, int flags, struct ibv_pd *pd,
		    void *addr, size_t length, int access);
int simhca_dereg_mr(struct verbs_mr *vmr);
struct ibv_mr *simhca_import_mr(struct ibv_pd *pd, uint32_t handle);
void simhca_unimport_mr(struct ibv_mr *mr);
struct ibv_mw *simhca_alloc_mw(struct ibv_pd *pd, enum ibv_mw_type type);
int simhca_dealloc_mw(struct ibv_mw *mw);

/* simhca_cq.c */
struct ibv_cq *simhca_create_cq(struct ibv_context *ibvctx, int cqe,
				struct ibv_comp_channel *channel,
				int comp_vector);
struct ibv_cq_ex *simhca_create_cq_ex(struct ibv_context *ibvctx,
				      struct ibv_cq_init_attr_ex *attr);
int simhca_resize_cq(struct ibv_cq *ibvcq, int cqe);
int simhca_modify_cq(struct ibv_cq *ibvcq, struct ibv_modify_cq_attr *attr);
int simhca_destroy_cq(struct ibv_cq *ibvcq);
int simhca_poll_cq(struct ibv_cq *ibvcq, int num_entries, struct ibv_wc *wc);
int simhca_req_notify_cq(struct ibv_cq *ibvcq, int solicited_only);
void simhca_cq_event(struct ibv_cq *ibvcq);
void simhca_attach_cqs(struct simhca_qp *qp);
void simhca_detach_cqs(struct simhca_qp *qp);
void simhca_lock_cqs(struct simhca_qp *qp);
void simhca_unlock_cqs(struct simhca_qp *qp);
void simhca_clean_cqs(struct simhca_qp *qp);

/* simhca_srq.c */
struct ibv_srq *simhca_create_srq(struct ibv_pd *pd,
				  struct ibv_srq_init_attr *attr);
int simhca_modify_srq(struct ibv_srq *ibvsrq, struct ibv_srq_attr *attr,
		      int attr_mask);
int simhca_query_srq(struct ibv_srq *ibvsrq, struct ibv_srq_attr *attr);
int simhca_destroy_srq(struct ibv_srq *ibvsrq);
int simhca_post_srq_recv(struct ibv_srq *ibvsrq, struct ibv_recv_wr *wr,
			 struct ibv_recv_wr **bad_wr);
bool simhca_srq_take(struct simhca_srq *srq, uint32_t tag, uint64_t *wr_id);

/* simhca_wr.c */
bool simhca_wr_ops_ok(enum ibv_qp_type type, uint64_t send_ops_flags);
void simhca_set_wr_ops(struct simhca_qp *qp);

/* simhca_qp.c */
struct ibv_qp *simhca_create_qp(struct ibv_pd *pd,
				struct ibv_qp_init_attr *attr);
struct ibv_qp *simhca_create_qp_ex(struct ibv_context *ibvctx,
				   struct ibv_qp_init_attr_ex *attr);
int simhca_modify_qp(struct ibv_qp *ibvqp, struct ibv_qp_attr *attr,
		     int attr_mask);
int simhca_query_qp(struct ibv_qp *ibvqp, struct ibv_qp_attr *attr,
		    int attr_mask, struct ibv_qp_init_attr *init_attr);
int simhca_destroy_qp(struct ibv_qp *ibvqp);
int simhca_post_send(struct ibv_qp *ibvqp, struct ibv_send_wr *wr,
		     struct ibv_send_wr **bad_wr);
int simhca_bind_mw(struct ibv_qp *ibvqp, struct ibv_mw *mw,
		   struct ibv_mw_bind *bind);
int simhca_post_recv(struct ibv_qp *ibvqp, struct ibv_recv_wr *wr,
		     struct ibv_recv_wr **bad_wr);
int simhca_set_bind(struct simhca_sq_wqe *wqe, const struct ibv_mw *mw,
		    uint32_t rkey, const struct ibv_mw_bind_info *info);
struct simhca_qp *simhca_find_qp(struct simhca_context *ctx, uint32_t qpn);

#endif /* SIMHCA_H */
