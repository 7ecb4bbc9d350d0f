// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Connections, reliable ones and others.
 *
 * There are no packets: a request is checked at both ends and copied, and what a responder would
 * answer is known at once. So requests complete in order, reads and atomics before the
 * next request starts. PSNs still advance by packets, so that a QP notices a peer that is no longer
 * the one it was connected to.
 *
 * A request passes these steps; the last two may take many turns:
 *   check	what the requester alone can tell (IBTA 9.9.2, requester's local errors)
 *   reach	is there a responder that would answer? If not the ACK timer runs
 *   admit	the responder's checks (IBTA 9.9.3): it accepts, is not ready, or refuses
 *   copy	by DMA address, from one end to the other
 *   finish	completions, the responder's first
 * Requests that concern a key of this end only pass the first.
 *
 * On an unreliable connection the requester never hears of the responder: a message that is not
 * taken is dropped, and complete for the one who sent it. Of its own errors it hears by SQE
 * (IBTA 10.3.1).
 */
#include <stddef.h>

#include "internal.h"

enum rc_step {
	RC_OK,			/* go on */
	RC_AGAIN,		/* in another turn: budget is used up, or UC dropped a message */
	RC_STOP,		/* in ERR or waiting; already where it belongs */
};

/* IBTA 9.7.5.2.8, table 45, in units of 10 us. */
static const uint32_t rc_rnr_delay[32] = {
	65536, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024,
	1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768, 49152,
};

static bool rc_is_atomic(const struct engine_send_wr *wr)
{
	return wr->opcode == ENGINE_WR_ATOMIC_CMP_AND_SWP ||
	       wr->opcode == ENGINE_WR_ATOMIC_FETCH_AND_ADD;
}

/* Its answer carries data. */
static bool rc_is_read(const struct engine_send_wr *wr)
{
	return wr->opcode == ENGINE_WR_RDMA_READ || rc_is_atomic(wr);
}

static bool rc_is_send(const struct engine_send_wr *wr)
{
	return wr->opcode == ENGINE_WR_SEND || wr->opcode == ENGINE_WR_SEND_WITH_IMM ||
	       wr->opcode == ENGINE_WR_SEND_WITH_INV;
}

/* Changes what a key stands for, at this end: needs no responder. */
static bool rc_is_local(const struct engine_send_wr *wr)
{
	return wr->opcode == ENGINE_WR_LOCAL_INV || wr->opcode == ENGINE_WR_BIND_MW ||
	       wr->opcode == ENGINE_WR_REG_MR;
}

static bool rc_is_uc(const struct engine_qp *qp)
{
	return qp->type == ENGINE_QPT_UC;
}

/* IBTA 9.8.1: what needs no answer. */
static bool rc_uc_opcode_ok(const struct engine_send_wr *wr)
{
	return wr->opcode <= ENGINE_WR_SEND_WITH_IMM || rc_is_local(wr);
}

static bool rc_opcode_ok(const struct engine_send_wr *wr)
{
	return wr->opcode <= ENGINE_WR_SEND_WITH_INV || wr->opcode == ENGINE_WR_FLUSH ||
	       wr->opcode == ENGINE_WR_ATOMIC_WRITE || wr->opcode == ENGINE_WR_REG_MR;
}

/* Of eight bytes, at once. */
static bool rc_is_word(const struct engine_send_wr *wr)
{
	return rc_is_atomic(wr) || wr->opcode == ENGINE_WR_ATOMIC_WRITE;
}

static bool rc_takes_recv(const struct engine_send_wr *wr)
{
	return rc_is_send(wr) || wr->opcode == ENGINE_WR_RDMA_WRITE_WITH_IMM;
}

static void rc_local_side(struct xfer_side *side, struct engine_qp *qp)
{
	const struct engine_send_wr *wr = &qp->wr;
	bool read = rc_is_read(wr);

	*side = (struct xfer_side) {
		.hca = qp->hca,
		.qp = qp,
		.hint = &qp->local_hint,
		.sge = wr->sge,
		.num_sge = wr->num_sge,
		.pdn = qp->pdn,
		.access = read ? ENGINE_ACCESS_LOCAL_WRITE : 0,
		.prot = read ? DMA_MAP_WRITE : DMA_MAP_READ,
		.since = qp->wr_admitted ? qp->local_since : MR_SINCE_ANY,
	};
	if (wr->flags & ENGINE_WR_INLINE) {
		side->inline_data = wr->inline_data;
		side->num_sge = 0;
	}
}

static void rc_recv_side(struct xfer_side *side, struct engine_qp *qp, struct engine_qp *peer)
{
	*side = (struct xfer_side) {
		.hca = peer->hca,
		.qp = peer,
		.hint = &peer->recv_hint,
		.sge = peer->rwr.sge,
		.num_sge = peer->rwr.num_sge,
		.pdn = peer->rq->pdn,
		.access = ENGINE_ACCESS_LOCAL_WRITE,
		.prot = DMA_MAP_WRITE,
		.since = qp->wr_admitted ? qp->remote_since : MR_SINCE_ANY,
	};
}

static uint32_t rc_remote_access(const struct engine_send_wr *wr)
{
	if (wr->opcode == ENGINE_WR_RDMA_READ)
		return ENGINE_ACCESS_REMOTE_READ;
	if (wr->opcode == ENGINE_WR_FLUSH)
		return wr->mem.access;
	return rc_is_atomic(wr) ? ENGINE_ACCESS_REMOTE_ATOMIC : ENGINE_ACCESS_REMOTE_WRITE;
}

/* @sge is where the one SGE of this side is put. */
static void rc_remote_side(struct xfer_side *side, struct engine_sge *sge, struct engine_qp *qp,
			   struct engine_qp *peer)
{
	const struct engine_send_wr *wr = &qp->wr;

	*sge = (struct engine_sge) {
		.addr = wr->remote_addr,
		.length = wr->length,
		.key = wr->rkey,
	};
	*side = (struct xfer_side) {
		.hca = peer->hca,
		.qp = peer,
		.hint = &qp->remote_hint,
		.sge = sge,
		.num_sge = 1,
		.pdn = peer->pdn,
		.access = rc_remote_access(wr),
		.prot = wr->opcode == ENGINE_WR_RDMA_READ ? DMA_MAP_READ : DMA_MAP_WRITE,
		.since = qp->wr_admitted ? qp->remote_since : MR_SINCE_ANY,
	};
	if (rc_is_atomic(wr))
		side->prot = DMA_MAP_READ | DMA_MAP_WRITE;
}

/* ---- how requests end ---- */

static enum rc_step rc_fail(struct engine_qp *qp, enum engine_wc_status status, uint32_t verr)
{
	qp_complete_send(qp, status, verr);
	if (!rc_is_uc(qp)) {
		qp_enter_error(qp);
		return RC_STOP;
	}
	/* If not it has lost its CQ, or was its own responder and failed there. */
	if (qp->attr.state != ENGINE_QPS_ERR)
		qp->attr.state = ENGINE_QPS_SQE;
	qp_sched_active(qp);
	return RC_STOP;
}

static uint32_t rc_next_psn(const struct engine_qp *qp)
{
	uint32_t mtu_shift = 7 + qp->attr.path_mtu;
	uint32_t packets = (qp->wr.length + (1u << mtu_shift) - 1) >> mtu_shift;

	return (qp->attr.sq_psn + (packets ? packets : 1)) & 0xffffff;
}

static enum rc_step rc_succeed(struct engine_qp *qp)
{
	qp->attr.sq_psn = rc_next_psn(qp);
	qp->retries_left = qp->attr.retry_cnt;
	qp->rnr_left = qp->attr.rnr_retry;
	qp->ack_timeout = false;
	qp->wr_admitted = false;
	qp->hca->stats.tx_wrs++;
	qp->hca->stats.tx_bytes += qp->wr.length;
	qp_complete_send(qp, ENGINE_WC_SUCCESS, 0);
	return qp->attr.state == ENGINE_QPS_ERR ? RC_STOP : RC_OK;
}

/* UC: nobody has taken it. The responder may not be the peer any more, for whom this turn is. */
static enum rc_step rc_drop(struct engine_qp *qp)
{
	enum rc_step step = rc_succeed(qp);

	return step == RC_OK ? RC_AGAIN : step;
}

/* The responder refuses: both ends go to ERR, the responder's software hears of it by @event. */
static enum rc_step rc_nak(struct engine_qp *qp, struct engine_qp *peer,
			   enum engine_wc_status status, uint32_t verr, enum engine_event event)
{
	if (rc_is_uc(qp))
		return rc_drop(qp);
	qp->hca->stats.remote_errors++;
	peer->hca->ops->qp_event(peer, event);
	qp_enter_error(peer);
	return rc_fail(qp, status, verr | ENGINE_VERR_REMOTE);
}

static enum rc_step rc_nak_invalid(struct engine_qp *qp, struct engine_qp *peer, uint32_t verr)
{
	return rc_nak(qp, peer, ENGINE_WC_REM_INV_REQ_ERR, verr, ENGINE_EVENT_QP_REQ_ERR);
}

static enum rc_step rc_nak_access(struct engine_qp *qp, struct engine_qp *peer, uint32_t verr)
{
	return rc_nak(qp, peer, ENGINE_WC_REM_ACCESS_ERR, verr, ENGINE_EVENT_QP_ACCESS_ERR);
}

/* The responder's receive fails, its completion says why; what the requester sees is @status. */
static enum rc_step rc_nak_recv(struct engine_qp *qp, struct engine_qp *peer,
				enum engine_wc_status recv_status, enum engine_wc_status status,
				uint32_t verr)
{
	/* What does not fit is dropped on UC, and the receive stays. */
	if (rc_is_uc(qp) && recv_status == ENGINE_WC_LOC_LEN_ERR)
		return rc_drop(qp);
	qp->hca->stats.remote_errors++;
	qp_complete_recv(peer, recv_status, verr, qp);
	qp_enter_error(peer);
	if (rc_is_uc(qp))
		return rc_drop(qp);
	return rc_fail(qp, status, verr | ENGINE_VERR_REMOTE);
}

/* The responder has lost a queue, and is in ERR already. */
static enum rc_step rc_lost(struct engine_qp *qp, uint32_t verr)
{
	if (rc_is_uc(qp))
		return rc_drop(qp);
	return rc_fail(qp, ENGINE_WC_REM_OP_ERR, verr | ENGINE_VERR_REMOTE);
}

/* Nobody answers (IBTA 9.7.6.1.3): retry after the ACK timeout, retry_cnt times. */
static enum rc_step rc_no_answer(struct engine_qp *qp)
{
	uint32_t verr = qp->no_answer;

	if (rc_is_uc(qp))
		return rc_drop(qp);
	if (qp->ack_timeout) {
		qp->hca->stats.ack_timeouts++;
		qp->ack_timeout = false;
		if (!qp->retries_left)
			return rc_fail(qp, ENGINE_WC_RETRY_EXC_ERR, verr);
		qp->retries_left--;
	}
	if (!qp->attr.timeout) {
		qp_sched_parked(qp);
		return RC_STOP;
	}
	qp->ack_timeout = true;
	qp_sched_timer(qp, 4096ull << qp->attr.timeout);
	return RC_STOP;
}

static enum rc_step rc_rnr(struct engine_qp *qp, struct engine_qp *peer)
{
	if (rc_is_uc(qp))
		return rc_drop(qp);
	peer->hca->stats.rnr_naks++;
	qp->hca->stats.rnr_retries++;
	/* An answer, too. */
	qp->ack_timeout = false;
	qp->retries_left = qp->attr.retry_cnt;
	if (qp->attr.rnr_retry != 7) {
		if (!qp->rnr_left)
			return rc_fail(qp, ENGINE_WC_RNR_RETRY_EXC_ERR, ENGINE_VERR_RNR);
		qp->rnr_left--;
	}
	qp_sched_timer(qp, rc_rnr_delay[peer->attr.min_rnr_timer] * 10000ull);
	return RC_STOP;
}

/* ---- check ---- */

static bool rc_flush_ok(const struct engine_send_wr *wr)
{
	return wr->mem.access && wr->mem.length <= ENGINE_MAX_MSG &&
	       !(wr->mem.access & ~(ENGINE_ACCESS_FLUSH_GLOBAL | ENGINE_ACCESS_FLUSH_PERSISTENT));
}

static enum rc_step rc_check(struct engine_qp *qp)
{
	struct engine_send_wr *wr = &qp->wr;
	bool no_data = rc_is_local(wr) || wr->opcode == ENGINE_WR_FLUSH;
	struct xfer_side local;
	uint32_t i, verr;

	if (!rc_opcode_ok(wr) || (rc_is_uc(qp) && !rc_uc_opcode_ok(wr)) ||
	    wr->num_sge > (no_data ? 0 : ENGINE_MAX_SGE) ||
	    (wr->flags & ENGINE_WR_INLINE &&
	     (rc_is_read(wr) || no_data || wr->length > ENGINE_MAX_INLINE)) ||
	    (wr->opcode == ENGINE_WR_FLUSH && !rc_flush_ok(wr)))
		return rc_fail(qp, ENGINE_WC_LOC_QP_OP_ERR, ENGINE_VERR_WQE);
	if (rc_is_read(wr) && !qp->attr.max_rd_atomic)
		return rc_fail(qp, ENGINE_WC_LOC_QP_OP_ERR, ENGINE_VERR_RD_ATOMIC);
	if (!(wr->flags & ENGINE_WR_INLINE)) {
		wr->length = 0;
		for (i = 0; i < wr->num_sge; i++)
			wr->length += wr->sge[i].length;
	}
	if (wr->length > ENGINE_MAX_MSG)
		return rc_fail(qp, ENGINE_WC_LOC_LEN_ERR, ENGINE_VERR_LENGTH);
	if (rc_is_word(wr) && wr->length != sizeof(uint64_t))
		return rc_fail(qp, ENGINE_WC_LOC_LEN_ERR, ENGINE_VERR_ATOMIC_LENGTH);
	rc_local_side(&local, qp);
	verr = xfer_check(&local);
	if (verr)
		return rc_fail(qp, ENGINE_WC_LOC_PROT_ERR, verr);
	return RC_OK;
}

/* ---- local requests ---- */

static enum rc_step rc_execute_local(struct engine_qp *qp)
{
	const struct engine_send_wr *wr = &qp->wr;
	uint32_t verr;

	if (wr->opcode == ENGINE_WR_BIND_MW)
		verr = key_bind(qp, wr);
	else if (wr->opcode == ENGINE_WR_REG_MR)
		verr = key_register(qp, wr);
	else
		verr = key_invalidate(qp, wr->rkey, false);
	if (verr)
		return rc_fail(qp, ENGINE_WC_MW_BIND_ERR, verr);
	qp->hca->stats.tx_wrs++;
	qp_complete_send(qp, ENGINE_WC_SUCCESS, 0);
	return qp->attr.state == ENGINE_QPS_ERR ? RC_STOP : RC_OK;
}

/* ---- reach ---- */

/* Would @peer, which may be NULL, answer? 0, or an ENGINE_VERR_*. */
static uint32_t rc_check_peer(const struct engine_qp *qp, const struct engine_qp *peer)
{
	if (!peer)
		return ENGINE_VERR_NO_PEER;
	if (peer->attr.state != ENGINE_QPS_RTR && peer->attr.state != ENGINE_QPS_RTS &&
	    peer->attr.state != ENGINE_QPS_SQD && peer->attr.state != ENGINE_QPS_SQE)
		return ENGINE_VERR_PEER_STATE;
	if (peer->type != qp->type || peer->attr.dest_qpn != qp->qpn ||
	    !hca_has_gid(qp->hca, peer->attr.dgid))
		return ENGINE_VERR_PEER_OTHER;
	return 0;
}

/* The QP that answers @qp, or NULL and why not in qp->no_answer. */
static struct engine_qp *rc_find_peer(struct engine_qp *qp)
{
	struct fabric *fabric = qp->hca->fabric;
	struct engine_hca *hca;
	struct engine_qp *peer;

	if (qp->peer && qp->peer_generation == fabric->gid_generation)
		return qp->peer;
	/* Which GIDs there are has changed, seldom so that it concerns this QP. */
	hca = fabric_find_gid(fabric, qp->hca, qp->attr.dgid);
	peer = hca ? idtab_get(&hca->qps, qp->attr.dest_qpn) : NULL;
	qp->no_answer = rc_check_peer(qp, peer);
	if (qp->no_answer) {
		qp_unlink_peer(qp);
		return NULL;
	}
	if (peer != qp->peer) {
		qp_unlink_peer(qp);
		qp->peer = peer;
		list_add_tail(&qp->peer_node, &peer->requesters);
	}
	qp->peer_generation = fabric->gid_generation;
	return peer;
}

/* ---- admit ---- */

/* Takes a receive for the message, if it needs one. */
static enum rc_step rc_admit_recv(struct engine_qp *qp, struct engine_qp *peer)
{
	const struct engine_send_wr *wr = &qp->wr;
	uint64_t room = 0;
	struct xfer_side side;
	uint32_t i, verr;
	int ret = 1;

	if (!peer->rq)
		return rc_nak_invalid(qp, peer, ENGINE_VERR_WQE);
	if (!peer->rwr_valid)
		ret = qp_fetch_recv(peer);
	if (ret < 0)
		return rc_nak_recv(qp, peer, ENGINE_WC_LOC_QP_OP_ERR, ENGINE_WC_REM_OP_ERR,
				   ENGINE_VERR_WQE);
	if (!ret) {
		if (peer->attr.state != ENGINE_QPS_ERR)
			return rc_rnr(qp, peer);
		return rc_lost(qp, ENGINE_VERR_WQE);
	}
	if (!rc_is_send(wr))
		return RC_OK;

	for (i = 0; i < peer->rwr.num_sge; i++)
		room += peer->rwr.sge[i].length;
	if (wr->length > room)
		return rc_nak_recv(qp, peer, ENGINE_WC_LOC_LEN_ERR, ENGINE_WC_REM_INV_REQ_ERR,
				   ENGINE_VERR_RECV_LENGTH);
	rc_recv_side(&side, qp, peer);
	verr = wr->length ? xfer_check(&side) : 0;
	if (verr)
		return rc_nak_recv(qp, peer, ENGINE_WC_LOC_PROT_ERR, ENGINE_WC_REM_OP_ERR, verr);
	return RC_OK;
}

/*
 * What was written is where everybody sees it already, and nothing here is persistent: what is left
 * of a flush is whether it is allowed.
 */
static uint32_t rc_check_flush(const struct engine_send_wr *wr, const struct xfer_side *side)
{
	const struct engine_sge range = {
		.addr = wr->remote_addr,
		.length = wr->mem.length,
		.key = wr->rkey,
	};
	struct engine_mr *mr;
	uint64_t off;

	if (wr->flags & ENGINE_WR_FLUSH_MR)
		return mr_check_rights(side, wr->rkey);
	return mr_check(side, &range, &mr, &off);
}

static enum rc_step rc_admit(struct engine_qp *qp, struct engine_qp *peer)
{
	const struct engine_send_wr *wr = &qp->wr;
	struct engine_sge sge;
	struct xfer_side side;
	uint32_t verr;

	if (!rc_is_send(wr)) {
		/* IBTA 9.7.4.1.2: a function this QP does not offer, not a memory error. */
		if (rc_remote_access(wr) & ~peer->attr.access)
			return rc_nak_invalid(qp, peer, ENGINE_VERR_QP_ACCESS);
		if (rc_is_read(wr) && !peer->attr.max_dest_rd_atomic)
			return rc_nak_invalid(qp, peer, ENGINE_VERR_RD_ATOMIC);
		if (rc_is_word(wr) && wr->remote_addr % sizeof(uint64_t))
			return rc_nak_invalid(qp, peer, ENGINE_VERR_ALIGN);
		rc_remote_side(&side, &sge, qp, peer);
		verr = wr->opcode == ENGINE_WR_FLUSH ? rc_check_flush(wr, &side) :
						       xfer_check(&side);
		if (verr)
			return rc_nak_access(qp, peer, verr);
	}
	return rc_takes_recv(wr) ? rc_admit_recv(qp, peer) : RC_OK;
}

/* ---- copy ---- */

static enum rc_step rc_local_copy_err(struct engine_qp *qp, uint32_t verr)
{
	return rc_fail(qp, ENGINE_WC_LOC_PROT_ERR, verr);
}

static enum rc_step rc_remote_copy_err(struct engine_qp *qp, struct engine_qp *peer, uint32_t verr)
{
	if (rc_is_send(&qp->wr))
		return rc_nak_recv(qp, peer, ENGINE_WC_LOC_PROT_ERR, ENGINE_WC_REM_OP_ERR, verr);
	if (verr == ENGINE_VERR_DMA)
		return rc_nak(qp, peer, ENGINE_WC_REM_OP_ERR, verr, ENGINE_EVENT_QP_FATAL);
	return rc_nak_access(qp, peer, verr);
}

/* The eight bytes that are changed at once. */
static enum rc_step rc_target(struct engine_qp *qp, struct engine_qp *peer, uint64_t **target)
{
	struct xfer_side remote;
	struct engine_sge sge;
	void *ptr;
	size_t n;

	rc_remote_side(&remote, &sge, qp, peer);
	n = xfer_ptr(&remote, sizeof(**target), &ptr);
	if (!n)
		return rc_remote_copy_err(qp, peer, remote.verr);
	if (n < sizeof(**target) || (uintptr_t)ptr % sizeof(**target))
		return rc_nak_invalid(qp, peer, ENGINE_VERR_ALIGN);
	*target = ptr;
	return RC_OK;
}

static enum rc_step rc_atomic_write(struct engine_qp *qp, struct engine_qp *peer,
				    uint32_t *budget)
{
	const struct engine_send_wr *wr = &qp->wr;
	struct xfer_side local, value = { 0 };
	uint64_t *target;
	uint64_t data = 0;
	enum rc_step step;

	value.inline_data = (const uint8_t *)&data;
	rc_local_side(&local, qp);
	while (qp->done < wr->length) {
		if (xfer_copy(&local, &value, wr->length, &qp->done, budget) == XFER_SRC_ERR)
			return rc_local_copy_err(qp, local.verr);
		if (!*budget)
			*budget = ENGINE_PIECE_BYTES;
	}
	step = rc_target(qp, peer, &target);
	if (step == RC_OK)
		__atomic_store_n(target, data, __ATOMIC_SEQ_CST);
	return step;
}

static enum rc_step rc_atomic(struct engine_qp *qp, struct engine_qp *peer, uint32_t *budget)
{
	const struct engine_send_wr *wr = &qp->wr;
	struct xfer_side local, answer = { 0 };
	uint64_t *target;
	enum rc_step step;
	uint64_t old;

	step = rc_target(qp, peer, &target);
	if (step != RC_OK)
		return step;
	if (wr->opcode == ENGINE_WR_ATOMIC_FETCH_AND_ADD) {
		old = __atomic_fetch_add(target, wr->compare_add, __ATOMIC_SEQ_CST);
	} else {
		old = wr->compare_add;
		__atomic_compare_exchange_n(target, &old, wr->swap, false, __ATOMIC_SEQ_CST,
					    __ATOMIC_SEQ_CST);
	}

	answer.inline_data = (const uint8_t *)&old;
	rc_local_side(&local, qp);
	while (qp->done < wr->length) {
		if (xfer_copy(&answer, &local, wr->length, &qp->done, budget) == XFER_DST_ERR)
			return rc_local_copy_err(qp, local.verr);
		/* Eight bytes; not worth another turn. */
		if (!*budget)
			*budget = ENGINE_PIECE_BYTES;
	}
	return RC_OK;
}

static enum rc_step rc_copy(struct engine_qp *qp, struct engine_qp *peer, uint32_t *budget)
{
	const struct engine_send_wr *wr = &qp->wr;
	struct xfer_side local, remote;
	struct engine_sge sge;
	bool read = wr->opcode == ENGINE_WR_RDMA_READ;
	enum xfer_result ret;

	if (!wr->length)
		return RC_OK;
	if (rc_is_atomic(wr))
		return rc_atomic(qp, peer, budget);
	if (wr->opcode == ENGINE_WR_ATOMIC_WRITE)
		return rc_atomic_write(qp, peer, budget);

	rc_local_side(&local, qp);
	if (rc_is_send(wr))
		rc_recv_side(&remote, qp, peer);
	else
		rc_remote_side(&remote, &sge, qp, peer);
	xfer_seek(&local, qp->done);
	xfer_seek(&remote, qp->done);
	if (read)
		ret = xfer_copy(&remote, &local, wr->length, &qp->done, budget);
	else
		ret = xfer_copy(&local, &remote, wr->length, &qp->done, budget);

	switch (ret) {
	case XFER_DONE:
		return RC_OK;
	case XFER_BUDGET:
		return RC_AGAIN;
	case XFER_SRC_ERR:
	case XFER_DST_ERR:
		break;
	}
	if ((ret == XFER_DST_ERR) == read)
		return rc_local_copy_err(qp, local.verr);
	return rc_remote_copy_err(qp, peer, remote.verr);
}

/* ---- finish ---- */

static enum rc_step rc_finish(struct engine_qp *qp, struct engine_qp *peer)
{
	const struct engine_send_wr *wr = &qp->wr;
	uint32_t verr;

	if (wr->opcode == ENGINE_WR_SEND_WITH_INV) {
		verr = key_invalidate(peer, wr->rkey, true);
		if (verr)
			return rc_nak_recv(qp, peer, ENGINE_WC_REM_INV_REQ_ERR,
					   ENGINE_WC_REM_ACCESS_ERR, verr);
	}
	peer->attr.rq_psn = rc_next_psn(qp);
	if (peer->attr.state == ENGINE_QPS_RTR && !peer->comm_est) {
		peer->comm_est = true;
		peer->hca->ops->qp_event(peer, ENGINE_EVENT_COMM_EST);
	}
	if (rc_takes_recv(wr) && !qp_complete_recv(peer, ENGINE_WC_SUCCESS, 0, qp))
		return rc_lost(qp, ENGINE_VERR_PEER_CQ);
	return rc_succeed(qp);
}

/* ---- turns ---- */

static enum rc_step rc_execute(struct engine_qp *qp, struct engine_qp *peer, uint32_t *budget)
{
	enum rc_step step;

	if (!qp->wr_admitted) {
		step = rc_check(qp);
		if (step != RC_OK)
			return step;
		if (rc_is_local(&qp->wr))
			return rc_execute_local(qp);
		if (!peer)
			return rc_no_answer(qp);
		if (peer->attr.rq_psn != qp->attr.sq_psn && !rc_is_uc(qp)) {
			qp->no_answer = ENGINE_VERR_PSN;
			return rc_no_answer(qp);
		}
		step = rc_admit(qp, peer);
		if (step != RC_OK)
			return step;
		qp->wr_admitted = true;
		qp->local_since = qp->hca->mr_changes;
		qp->remote_since = peer->hca->mr_changes;
	}
	step = rc_copy(qp, peer, budget);
	if (step != RC_OK)
		return step;
	return rc_finish(qp, peer);
}

uint32_t rc_turn(struct engine_qp *qp)
{
	struct engine_qp *peer = rc_find_peer(qp);
	struct dma_map *local = qp->hca->map;
	struct dma_map *remote = peer ? peer->hca->map : local;
	uint32_t budget = ENGINE_TURN_BYTES;
	enum rc_step step = RC_OK;
	unsigned int n;
	int ret;

	xfer_lock_maps(local, remote);
	for (n = 0; n < ENGINE_TURN_WRS && budget && step == RC_OK; n++) {
		if (!qp->wr_valid) {
			ret = qp->attr.state == ENGINE_QPS_SQD ? 0 : qp_fetch_send(qp);
			if (!ret) {
				step = RC_STOP;
				break;
			}
			if (ret < 0) {
				step = rc_fail(qp, ENGINE_WC_LOC_QP_OP_ERR, ENGINE_VERR_WQE);
				break;
			}
		}
		step = rc_execute(qp, peer, &budget);
		if (step == RC_OK)
			qp_check_drained(qp);
	}

	xfer_unlock_maps(local, remote);

	if (step != RC_STOP)
		qp_sched_active(qp);
	return ENGINE_TURN_BYTES - budget + n * ENGINE_PIECE_BYTES;
}
