/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Between the files of the engine.
 */
#ifndef ENGINE_INTERNAL_H
#define ENGINE_INTERNAL_H

#include "engine.h"

/* ---- fabric.c ---- */

/* How soon QPs in ERR are looked at again after something was found there. */
#define FLUSHED_SCAN_MIN_NS	1000000ull

/* Each leaves the QP in the named place, wherever it was. */
void qp_sched_idle(struct engine_qp *qp);
void qp_sched_active(struct engine_qp *qp);
void qp_sched_flushed(struct engine_qp *qp);
void qp_sched_timer(struct engine_qp *qp, uint64_t delay_ns);
void qp_sched_parked(struct engine_qp *qp);

/* Room for the timers of one more QP. Returns 0 or -ENOMEM. */
int fabric_add_qp(struct fabric *fabric);
void fabric_remove_qp(struct fabric *fabric);

/* Running HCA with this GID, @first if it has it, or NULL. */
struct engine_hca *fabric_find_gid(struct fabric *fabric, struct engine_hca *first,
				   const uint8_t *gid);
bool hca_has_gid(const struct engine_hca *hca, const uint8_t *gid);

/* ---- mr.c ---- */

/* Of a request that has not been admitted: any memory will do. */
#define MR_SINCE_ANY	UINT64_MAX

struct xfer_side;

/*
 * Finds the memory of @sge and checks that @side may use it, and that it is the same since
 * engine_hca.mr_changes was @side->since. Returns an ENGINE_VERR_*; 0, the MR and the offset
 * there if all is well.
 */
uint32_t mr_check(const struct xfer_side *side, const struct engine_sge *sge,
		  struct engine_mr **mr, uint64_t *offset);

/* The same for any part of what @key stands for, without a range. */
uint32_t mr_check_rights(const struct xfer_side *side, uint32_t key);

bool mr_access_ok(uint32_t access);
bool mr_pdn_ok(uint32_t pdn);

static inline bool key_is_window(const struct engine_key *key)
{
	return key->type == ENGINE_KEY_MW_1 || key->type == ENGINE_KEY_MW_2;
}

static inline struct engine_mr *key_mr(struct engine_key *key)
{
	return container_of(key, struct engine_mr, base);
}

static inline struct engine_mw *key_mw(struct engine_key *key)
{
	return container_of(key, struct engine_mw, base);
}

/* What has this key, all of it, or NULL. */
struct engine_key *key_find(struct engine_hca *hca, uint32_t key);

/* ---- mw.c ---- */

/* To FREE. */
void mw_unbind(struct engine_mw *mw);

/* Those of a QP that is being destroyed. */
void mw_unbind_all(struct engine_qp *qp);

/*
 * What work requests do to keys of @qp's HCA and PD: BIND_MW, REG_MR [locked], LOCAL_INV or, by the
 * peer, SEND_WITH_INV. All return an ENGINE_VERR_*.
 */
uint32_t key_bind(struct engine_qp *qp, const struct engine_send_wr *wr);
uint32_t key_register(struct engine_qp *qp, const struct engine_send_wr *wr);
uint32_t key_invalidate(struct engine_qp *qp, uint32_t key, bool by_peer);

/* ---- cq.c ---- */

/* [locked] Returns false when the CQ is lost. */
bool cq_complete(struct engine_cq *cq, const struct engine_wc *wc);

/* ---- srq.c ---- */

/* A QP wanted a receive from the SRQ; @left remain. */
void srq_check_limit(struct engine_rq *rq, uint32_t left);

/* ---- qp.c ---- */

/* To ERR: queues will be flushed, requesters of this QP lose it. */
void qp_enter_error(struct engine_qp *qp);
void qp_fatal(struct engine_qp *qp);

/* [locked] Completes qp->wr, which is valid. A QP that loses its CQ so is in ERR afterwards. */
void qp_complete_send(struct engine_qp *qp, enum engine_wc_status status, uint32_t verr);

/*
 * [locked] Completes qp->rwr, which is valid; @sender->wr is the request, NULL for a flush.
 * Returns false when the CQ is lost; the QP is in ERR then.
 */
bool qp_complete_recv(struct engine_qp *qp, enum engine_wc_status status, uint32_t verr,
		      const struct engine_qp *sender);

/* [locked] Fetch into qp->wr, qp->rwr. 1: valid; 0: none or queue dead; -EINVAL: malformed. */
int qp_fetch_send(struct engine_qp *qp);
int qp_fetch_recv(struct engine_qp *qp);

/* One turn; returns bytes of work done. */
uint32_t qp_turn(struct engine_qp *qp);

/* Forget whom this QP sends to. */
void qp_unlink_peer(struct engine_qp *qp);

/* The QP has drained its send queue after SQD, if so. */
void qp_check_drained(struct engine_qp *qp);

/* ---- ud.c ---- */

uint32_t ud_turn(struct engine_qp *qp);

/* The QP leaves all multicast groups. */
void ud_detach_all(struct engine_qp *qp);

/* ---- rc.c ---- */

uint32_t rc_turn(struct engine_qp *qp);

/* ---- xfer.c ---- */

/*
 * One end of a copy: a list of SGEs, or inline data, with a position in it.
 *
 * @qp: the QP at this end; windows of others are closed to it
 * @access: ENGINE_ACCESS_* the memory must allow
 * @prot: and DMA_MAP_*
 * @since: as mr_check() takes it
 * @mr: of the SGE at the position, NULL: look it up
 * @mr_off: where the SGE starts there
 * @verr: why xfer_ptr() returned 0
 */
struct xfer_side {
	struct engine_hca *hca;
	const struct engine_qp *qp;
	struct sgtab_hint *hint;
	const struct engine_sge *sge;
	const uint8_t *inline_data;
	uint32_t num_sge;
	uint32_t pdn;
	uint32_t access;
	unsigned int prot;
	uint64_t since;
	uint32_t idx;
	uint32_t off;
	struct engine_mr *mr;
	uint64_t mr_off;
	uint32_t verr;
};

/* Checks all SGEs; returns an ENGINE_VERR_* or 0. */
uint32_t xfer_check(const struct xfer_side *side);

/* Goes to byte @pos, from the start. */
void xfer_seek(struct xfer_side *side, uint64_t pos);

/* [locked] Pointer to at most @want bytes at the position; 0: @verr says why. */
size_t xfer_ptr(struct xfer_side *side, size_t want, void **ptr);

void xfer_advance(struct xfer_side *side, size_t n);

enum xfer_result {
	XFER_DONE,
	XFER_BUDGET,		/* more to do, in another turn */
	XFER_SRC_ERR,
	XFER_DST_ERR,
};

/* [locked] Copies bytes *@done to @length, as long as *@budget lasts. */
enum xfer_result xfer_copy(struct xfer_side *src, struct xfer_side *dst, uint64_t length,
			   uint64_t *done, uint32_t *budget);

/* Of both ends. Always in the same order, so that several engine threads would do no harm. */
void xfer_lock_maps(struct dma_map *a, struct dma_map *b);
void xfer_unlock_maps(struct dma_map *a, struct dma_map *b);

#endif /* ENGINE_INTERNAL_H */
