/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * A front end of arrays, for testing the engine: HCAs with memory, CQs and QPs, and a clock that
 * the test sets.
 */
#ifndef ENGINE_FAKE_H
#define ENGINE_FAKE_H

#include "engine.h"

#define FAKE_IOVA	0x10000000ull
#define FAKE_MEM	(16ull << 20)
#define FAKE_PDN	3u
#define FAKE_KEY	0x100u		/* index 1: all memory, all rights, iova = DMA address */
#define FAKE_QUEUE	256u
#define FAKE_CQES	1024u
#define FAKE_ALL	ENGINE_ACCESS_ALL

/* Places in that memory. */
#define SRC	(FAKE_IOVA + 0x1003)	/* of no alignment */
#define DST	(FAKE_IOVA + 0x400105)
#define ALIGNED	(FAKE_IOVA + 0x800000)

#define MS	1000000ull
#define EVENT(e)	(1u << ENGINE_EVENT_##e)

struct fake_hca {
	struct engine_hca base;
	struct dma_map *map;
	int fd;
	uint8_t *mem;
	uint8_t gid[16];
};

struct fake_cq {
	struct engine_cq base;
	struct engine_wc wc[FAKE_CQES];
	uint32_t num;		/* written */
	uint32_t seen;		/* taken by the test */
	uint32_t cap;
	int error;
	uint32_t events;
};

struct fake_pair;

struct fake_qp {
	struct engine_qp base;
	struct engine_rq rq_base;
	struct fake_cq *cq;
	struct engine_send_wr sq[FAKE_QUEUE];
	struct engine_recv_wr rq[FAKE_QUEUE];
	uint32_t sq_pi, sq_ci;
	uint32_t rq_pi, rq_ci;
	int sq_error, rq_error;	/* what fetching returns */
	uint32_t events;	/* mask of enum engine_event */
	uint32_t fetches;
};

struct fake_srq {
	struct engine_rq base;
	struct engine_recv_wr rq[FAKE_QUEUE];	/* @index is kept */
	uint32_t pi, ci;
	int error;		/* what fetching returns */
	uint32_t events;	/* mask of enum engine_event */
	uint32_t num_events;
};

extern const struct engine_ops fake_ops;

void fake_hca_init(struct fake_hca *hca, struct fabric *fabric, uint8_t gid_last, uint64_t size);
void fake_hca_fini(struct fake_hca *hca, uint64_t size);

struct fake_cq *fake_cq_new(struct fake_hca *hca, uint32_t cqn);
void fake_cq_free(struct fake_cq *cq);

struct fake_qp *fake_qp_new(struct fake_hca *hca, uint32_t qpn, struct fake_cq *cq);
struct fake_srq *fake_srq_new(struct fake_hca *hca, uint32_t srqn);
void fake_srq_free(struct fake_srq *srq);
/* A QP of type RC; @srq NULL: with a receive queue of its own. */
struct fake_qp *fake_qp_new_srq(struct fake_hca *hca, uint32_t qpn, struct fake_cq *cq,
				struct fake_srq *srq);
struct fake_qp *fake_qp_new_uc(struct fake_hca *hca, uint32_t qpn, struct fake_cq *cq);
struct fake_qp *fake_qp_new_ud(struct fake_hca *hca, uint32_t qpn, struct fake_cq *cq);
void fake_qp_free(struct fake_qp *qp);

/* What fake_connect() sets; a test may change it in between. */
struct engine_qp_attr fake_attr(const struct fake_qp *qp, const struct fake_qp *dest);
void fake_to_init(struct fake_qp *qp, const struct engine_qp_attr *attr);
void fake_to_rtr(struct fake_qp *qp, const struct engine_qp_attr *attr);
void fake_to_rts(struct fake_qp *qp, const struct engine_qp_attr *attr);
void fake_connect(struct fake_qp *a, struct fake_qp *b);
int fake_set_state(struct fake_qp *qp, enum engine_qp_state state);

/* Posts a signaled request with one SGE (key FAKE_KEY); returns it for changes. */
struct engine_send_wr *fake_send(struct fake_qp *qp, enum engine_opcode opcode, uint64_t addr,
				 uint32_t length, uint64_t remote_addr);
struct engine_recv_wr *fake_recv(struct fake_qp *qp, uint64_t addr, uint32_t length);

/* Posts to the SRQ; @tag is the index of its completion. */
struct engine_recv_wr *fake_srq_recv(struct fake_srq *srq, uint32_t tag, uint64_t addr,
				     uint32_t length);

/* What engine_key_mem.segs points to. */
struct fake_seg {
	uint64_t addr;
	uint64_t len;
};

/* These post signaled requests for a key, as fake_send(). */
struct engine_send_wr *fake_bind(struct fake_qp *qp, uint32_t rkey, uint32_t lkey, uint64_t addr,
				 uint64_t length, uint32_t access);
struct engine_send_wr *fake_reg(struct fake_qp *qp, uint32_t key, const struct fake_seg *segs,
				uint32_t num_segs, uint64_t iova, uint32_t access);
struct engine_send_wr *fake_inv(struct fake_qp *qp, enum engine_opcode opcode, uint32_t rkey);

/* Both QPs anew, with empty queues. */
void fake_reconnect(struct fake_pair *t);

/* The next completion, or NULL. */
const struct engine_wc *fake_wc(struct fake_cq *cq);

/* Runs until no QP has work; @now as it is. Returns the number of turns. */
unsigned int fake_run(struct fabric *fabric, uint64_t now);

static inline uint8_t *fake_ptr(struct fake_hca *hca, uint64_t iova)
{
	return hca->mem + (iova - FAKE_IOVA);
}

/* Two HCAs, @a of the first connected to @b of the second. */
struct fake_pair {
	struct fabric fabric;
	struct fake_hca hca[2];
	struct fake_cq *cq[2];
	struct fake_qp *a, *b;
	uint64_t now;
};

/* For cmocka; *@state is the pair. */
int fake_setup(void **state);
int fake_teardown(void **state);

/* fake_run() at @t->now. */
void fake_run_all(struct fake_pair *t);

void fake_fill(uint8_t *p, size_t len, uint32_t seed);

/* An MR of one run, iova FAKE_IOVA. */
void fake_make_mr(struct fake_hca *hca, uint32_t key, uint32_t pdn, uint32_t access, uint64_t addr,
		  uint64_t length);

/* These take completions, and assert. */
const struct engine_wc *fake_expect_wc(struct fake_cq *cq, struct fake_qp *qp, uint32_t index,
				       bool recv, enum engine_wc_status status, uint32_t verr);
void fake_expect_quiet(struct fake_pair *t);
void fake_expect_states(struct fake_pair *t, enum engine_qp_state a, enum engine_qp_state b);

#endif /* ENGINE_FAKE_H */
