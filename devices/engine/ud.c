// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Unreliable datagrams.
 *
 * A datagram is copied at once to every QP that takes it, one or those of a multicast group, behind
 * the header with which a RoCEv2 port would have received it. What nobody takes is dropped; the
 * sender hears only of its own errors, which put it into SQE (IBTA 10.3.1): sends are flushed until
 * software goes on, receives are not concerned.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "internal.h"

#define UD_GRH_VERSION	6
#define UD_PROTO_UDP	17
/* UDP, BTH, DETH, ImmDt, ICRC */
#define UD_HEADERS	(8 + 12 + 8)
#define UD_IMM		4
#define UD_ICRC		4

#define UD_QKEY_OF_QP	(1u << 31)

/* ---- headers ---- */

struct ud_ipv4 {
	uint8_t version_ihl;
	uint8_t tos;
	uint16_t length;
	uint16_t id;
	uint16_t frag_off;
	uint8_t ttl;
	uint8_t protocol;
	uint16_t check;
	uint8_t saddr[4];
	uint8_t daddr[4];
};

/* A GRH and an IPv6 header are the same. */
struct ud_ipv6 {
	uint32_t version_tclass_flow;
	uint16_t payload_len;
	uint8_t next_header;
	uint8_t hop_limit;
	uint8_t sgid[16];
	uint8_t dgid[16];
};

/* An IPv4 header lies in the second half. */
union ud_header {
	uint8_t bytes[ENGINE_UD_HEADER];
	struct ud_ipv6 v6;
	struct {
		uint8_t none[20];
		struct ud_ipv4 v4;
	};
};

static bool ud_is_ipv4(const uint8_t *gid)
{
	static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };

	return !memcmp(gid, prefix, sizeof(prefix));
}

static bool ud_is_multicast(const uint8_t *gid)
{
	return gid[0] == 0xff || (ud_is_ipv4(gid) && gid[12] >> 4 == 0xe);
}

static uint16_t ud_checksum(const struct ud_ipv4 *ip)
{
	uint16_t words[sizeof(*ip) / 2];
	uint32_t sum = 0;
	size_t i;

	memcpy(words, ip, sizeof(words));
	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return ~(sum + (sum >> 16));
}

static void ud_make_header(const struct engine_qp *qp, union ud_header *header)
{
	const struct engine_send_wr *wr = &qp->wr;
	const uint8_t *sgid = qp->hca->gids[wr->ud.sgid_index].gid;
	/* Data is padded to words. */
	uint16_t length = UD_HEADERS + (wr->opcode == ENGINE_WR_SEND_WITH_IMM ? UD_IMM : 0) +
			  ((wr->length + 3) & ~3ull) + UD_ICRC;

	*header = (union ud_header) { 0 };
	if (ud_is_ipv4(sgid) && ud_is_ipv4(wr->ud.dgid)) {
		header->v4.version_ihl = 0x45;
		header->v4.tos = wr->ud.tclass;
		header->v4.length = htobe16(sizeof(header->v4) + length);
		header->v4.frag_off = htobe16(0x4000);	/* do not fragment */
		header->v4.ttl = wr->ud.hop_limit;
		header->v4.protocol = UD_PROTO_UDP;
		memcpy(header->v4.saddr, sgid + 12, sizeof(header->v4.saddr));
		memcpy(header->v4.daddr, wr->ud.dgid + 12, sizeof(header->v4.daddr));
		header->v4.check = ud_checksum(&header->v4);
		return;
	}
	header->v6.version_tclass_flow = htobe32((uint32_t)UD_GRH_VERSION << 28 |
						 (uint32_t)wr->ud.tclass << 20 |
						 (wr->ud.flow_label & ENGINE_FLOW_LABEL_MASK));
	header->v6.payload_len = htobe16(length);
	header->v6.next_header = UD_PROTO_UDP;
	header->v6.hop_limit = wr->ud.hop_limit;
	memcpy(header->v6.sgid, sgid, sizeof(header->v6.sgid));
	memcpy(header->v6.dgid, wr->ud.dgid, sizeof(header->v6.dgid));
}

/* ---- receiver ---- */

static void ud_local_side(struct xfer_side *side, struct engine_qp *qp)
{
	const struct engine_send_wr *wr = &qp->wr;

	*side = (struct xfer_side) {
		.hca = qp->hca,
		.qp = qp,
		.hint = &qp->local_hint,
		.sge = wr->sge,
		.num_sge = wr->num_sge,
		.pdn = qp->pdn,
		.prot = DMA_MAP_READ,
		.since = MR_SINCE_ANY,
	};
	if (wr->flags & ENGINE_WR_INLINE) {
		side->inline_data = wr->inline_data;
		side->num_sge = 0;
	}
}

static void ud_recv_side(struct xfer_side *side, struct engine_qp *dest)
{
	*side = (struct xfer_side) {
		.hca = dest->hca,
		.qp = dest,
		.hint = &dest->recv_hint,
		.sge = dest->rwr.sge,
		.num_sge = dest->rwr.num_sge,
		.pdn = dest->rq->pdn,
		.access = ENGINE_ACCESS_LOCAL_WRITE,
		.prot = DMA_MAP_WRITE,
		.since = MR_SINCE_ANY,
	};
}

/* IBTA 9.6.1.5, 9.8.3: does it look at the datagram at all? */
static bool ud_accepts(const struct engine_qp *qp, const struct engine_qp *dest)
{
	uint32_t qkey = qp->wr.ud.qkey & UD_QKEY_OF_QP ? qp->attr.qkey : qp->wr.ud.qkey;

	return dest->type == ENGINE_QPT_UD && dest->rq && dest->attr.qkey == qkey &&
	       (dest->attr.state == ENGINE_QPS_RTR || dest->attr.state == ENGINE_QPS_RTS ||
		dest->attr.state == ENGINE_QPS_SQD || dest->attr.state == ENGINE_QPS_SQE);
}

static void ud_fail_recv(struct engine_qp *qp, struct engine_qp *dest,
			 enum engine_wc_status status, uint32_t verr)
{
	qp_complete_recv(dest, status, verr, qp);
	qp_enter_error(dest);
}

/* A receive with room for the datagram? What does not fit is dropped, and the receive stays. */
static bool ud_take_recv(struct engine_qp *qp, struct engine_qp *dest)
{
	struct xfer_side side;
	uint64_t room = 0;
	uint32_t i, verr;
	int ret = 1;

	if (!dest->rwr_valid)
		ret = qp_fetch_recv(dest);
	if (ret < 0)
		ud_fail_recv(qp, dest, ENGINE_WC_LOC_QP_OP_ERR, ENGINE_VERR_WQE);
	if (ret <= 0)
		return false;

	for (i = 0; i < dest->rwr.num_sge; i++)
		room += dest->rwr.sge[i].length;
	if (room < ENGINE_UD_HEADER + qp->wr.length)
		return false;
	ud_recv_side(&side, dest);
	verr = xfer_check(&side);
	if (verr)
		ud_fail_recv(qp, dest, ENGINE_WC_LOC_PROT_ERR, verr);
	return !verr;
}

/* A datagram is short: it is not worth another turn, however scattered it is. */
static enum xfer_result ud_copy_part(struct xfer_side *src, struct xfer_side *dst, uint64_t length,
				     uint32_t *cost)
{
	uint32_t budget = ENGINE_TURN_BYTES;
	enum xfer_result ret;
	uint64_t done = 0;

	do {
		ret = xfer_copy(src, dst, length, &done, &budget);
		*cost += ENGINE_TURN_BYTES - budget;
		budget = ENGINE_TURN_BYTES;
	} while (ret == XFER_BUDGET);
	return ret;
}

/*
 * [locked, both maps] Returns an ENGINE_VERR_* if the sender's memory cannot be read. If not, the
 * datagram is delivered or dropped.
 */
static uint32_t ud_deliver(struct engine_qp *qp, struct engine_qp *dest,
			   const union ud_header *header, uint32_t *cost)
{
	struct xfer_side src = { .inline_data = header->bytes };
	struct xfer_side dst;
	enum xfer_result ret;

	if (!ud_take_recv(qp, dest)) {
		dest->hca->stats.ud_drops++;
		return 0;
	}
	ud_recv_side(&dst, dest);
	ret = ud_copy_part(&src, &dst, ENGINE_UD_HEADER, cost);
	if (ret == XFER_DONE) {
		ud_local_side(&src, qp);
		ret = ud_copy_part(&src, &dst, qp->wr.length, cost);
	}
	if (ret == XFER_SRC_ERR)
		return src.verr;
	if (ret == XFER_DST_ERR) {
		ud_fail_recv(qp, dest, ENGINE_WC_LOC_PROT_ERR, dst.verr);
		dest->hca->stats.ud_drops++;
		return 0;
	}
	qp_complete_recv(dest, ENGINE_WC_SUCCESS, 0, qp);
	return 0;
}

static uint32_t ud_deliver_locked(struct engine_qp *qp, struct engine_qp *dest,
				  const union ud_header *header, uint32_t *cost)
{
	uint32_t verr;

	xfer_lock_maps(qp->hca->map, dest->hca->map);
	verr = ud_deliver(qp, dest, header, cost);
	xfer_unlock_maps(qp->hca->map, dest->hca->map);
	return verr;
}

/* ---- multicast ---- */

/* @gid: a QP that is attached to this group */
struct ud_mcast {
	struct list_head node;
	struct engine_qp *qp;
	uint8_t gid[16];
};

static struct ud_mcast *ud_find_mcast(const struct engine_qp *qp, const uint8_t *gid)
{
	struct list_head *pos;

	list_for_each(pos, &qp->hca->mcasts) {
		struct ud_mcast *mcast = list_entry(pos, struct ud_mcast, node);

		if (mcast->qp == qp && !memcmp(mcast->gid, gid, sizeof(mcast->gid)))
			return mcast;
	}
	return NULL;
}

int engine_qp_attach(struct engine_qp *qp, const uint8_t *gid)
{
	struct engine_hca *hca = qp->hca;
	struct ud_mcast *mcast;

	if (qp->type != ENGINE_QPT_UD || !ud_is_multicast(gid))
		return -EINVAL;
	if (ud_find_mcast(qp, gid))
		return -EEXIST;
	if (hca->num_mcasts == ENGINE_MAX_MCAST)
		return -ENOMEM;
	mcast = engine_alloc(hca, sizeof(*mcast));
	if (!mcast)
		return -ENOMEM;
	mcast->qp = qp;
	memcpy(mcast->gid, gid, sizeof(mcast->gid));
	list_add_tail(&mcast->node, &hca->mcasts);
	hca->num_mcasts++;
	return 0;
}

static void ud_detach(struct engine_hca *hca, struct ud_mcast *mcast)
{
	list_del(&mcast->node);
	hca->num_mcasts--;
	engine_free(hca, mcast, sizeof(*mcast));
}

int engine_qp_detach(struct engine_qp *qp, const uint8_t *gid)
{
	struct ud_mcast *mcast = ud_find_mcast(qp, gid);

	if (!mcast)
		return -ENOENT;
	ud_detach(qp->hca, mcast);
	return 0;
}

void ud_detach_all(struct engine_qp *qp)
{
	struct list_head *pos, *tmp;

	list_for_each_safe(pos, tmp, &qp->hca->mcasts) {
		struct ud_mcast *mcast = list_entry(pos, struct ud_mcast, node);

		if (mcast->qp == qp)
			ud_detach(qp->hca, mcast);
	}
}

static uint32_t ud_deliver_mcast(struct engine_qp *qp, struct engine_hca *hca,
				 const union ud_header *header, uint32_t *cost)
{
	struct list_head *pos;
	uint32_t verr = 0;

	list_for_each(pos, &hca->mcasts) {
		struct ud_mcast *mcast = list_entry(pos, struct ud_mcast, node);

		if (memcmp(mcast->gid, qp->wr.ud.dgid, sizeof(mcast->gid)) ||
		    !ud_accepts(qp, mcast->qp))
			continue;
		verr = ud_deliver_locked(qp, mcast->qp, header, cost);
		if (verr)
			break;
	}
	return verr;
}

/* ---- sender ---- */

static uint32_t ud_send_mcast(struct engine_qp *qp, const union ud_header *header, uint32_t *cost)
{
	struct list_head *pos;
	uint32_t verr = 0;

	list_for_each(pos, &qp->hca->fabric->hcas) {
		struct engine_hca *hca = list_entry(pos, struct engine_hca, node);

		if (hca->running)
			verr = ud_deliver_mcast(qp, hca, header, cost);
		if (verr)
			break;
	}
	return verr;
}

/* Most datagrams go where the one before went. */
static struct engine_hca *ud_find_hca(struct engine_qp *qp)
{
	struct fabric *fabric = qp->hca->fabric;

	if (qp->ud_generation == fabric->gid_generation &&
	    !memcmp(qp->ud_dgid, qp->wr.ud.dgid, sizeof(qp->ud_dgid)))
		return qp->ud_hca;
	memcpy(qp->ud_dgid, qp->wr.ud.dgid, sizeof(qp->ud_dgid));
	qp->ud_hca = fabric_find_gid(fabric, qp->hca, qp->ud_dgid);
	qp->ud_generation = fabric->gid_generation;
	return qp->ud_hca;
}

static uint32_t ud_send(struct engine_qp *qp, uint32_t *cost)
{
	union ud_header header;
	struct engine_hca *hca;
	struct engine_qp *dest;

	ud_make_header(qp, &header);
	if (ud_is_multicast(qp->wr.ud.dgid))
		return ud_send_mcast(qp, &header, cost);
	hca = ud_find_hca(qp);
	dest = hca ? idtab_get(&hca->qps, qp->wr.ud.qpn) : NULL;
	if (dest && ud_accepts(qp, dest))
		return ud_deliver_locked(qp, dest, &header, cost);
	if (hca)
		hca->stats.ud_drops++;
	return 0;
}

/* [locked] What the sender alone can tell; computes the length. */
static enum engine_wc_status ud_check(struct engine_qp *qp, uint32_t *verr)
{
	struct engine_send_wr *wr = &qp->wr;
	struct xfer_side local;
	uint32_t i;

	*verr = ENGINE_VERR_WQE;
	if ((wr->opcode != ENGINE_WR_SEND && wr->opcode != ENGINE_WR_SEND_WITH_IMM) ||
	    (wr->flags & ENGINE_WR_INLINE && wr->length > ENGINE_MAX_INLINE) ||
	    wr->num_sge > ENGINE_MAX_SGE)
		return ENGINE_WC_LOC_QP_OP_ERR;
	*verr = ENGINE_VERR_SGID;
	if (wr->ud.sgid_index >= ENGINE_MAX_GIDS || !qp->hca->gids[wr->ud.sgid_index].valid)
		return ENGINE_WC_LOC_QP_OP_ERR;
	if (!(wr->flags & ENGINE_WR_INLINE)) {
		wr->length = 0;
		for (i = 0; i < wr->num_sge; i++)
			wr->length += wr->sge[i].length;
	}
	*verr = ENGINE_VERR_LENGTH;
	if (wr->length > 1u << (7 + qp->attr.path_mtu))
		return ENGINE_WC_LOC_LEN_ERR;
	ud_local_side(&local, qp);
	*verr = xfer_check(&local);
	return *verr ? ENGINE_WC_LOC_PROT_ERR : ENGINE_WC_SUCCESS;
}

/* Completes the request. */
static void ud_finish(struct engine_qp *qp, enum engine_wc_status status, uint32_t verr)
{
	dma_map_read_lock(qp->hca->map);
	qp_complete_send(qp, status, verr);
	dma_map_read_unlock(qp->hca->map);

	if (status == ENGINE_WC_SUCCESS) {
		qp->attr.sq_psn = (qp->attr.sq_psn + 1) & 0xffffff;
		qp->hca->stats.tx_wrs++;
		qp->hca->stats.tx_bytes += qp->wr.length;
	} else if (qp->attr.state != ENGINE_QPS_ERR) {
		/* If not it has lost its CQ, or has sent to itself and failed there. */
		qp->attr.state = ENGINE_QPS_SQE;
	}
}

/* Returns false when there is nothing to send. */
static bool ud_next(struct engine_qp *qp, uint32_t *cost)
{
	enum engine_wc_status status = ENGINE_WC_LOC_QP_OP_ERR;
	uint32_t verr = ENGINE_VERR_WQE;
	int ret = 1;

	dma_map_read_lock(qp->hca->map);
	if (!qp->wr_valid)
		ret = qp->attr.state == ENGINE_QPS_SQD ? 0 : qp_fetch_send(qp);
	if (ret > 0)
		status = ud_check(qp, &verr);
	dma_map_read_unlock(qp->hca->map);
	if (!ret)
		return false;

	if (status == ENGINE_WC_SUCCESS) {
		verr = ud_send(qp, cost);
		if (verr)
			status = ENGINE_WC_LOC_PROT_ERR;
	}
	ud_finish(qp, status, verr);
	return true;
}

uint32_t ud_turn(struct engine_qp *qp)
{
	uint32_t cost = 0;
	unsigned int n;

	for (n = 0; n < ENGINE_TURN_WRS && cost < ENGINE_TURN_BYTES; n++) {
		if (!ud_next(qp, &cost))
			return cost + n * ENGINE_PIECE_BYTES;
		if (qp->attr.state == ENGINE_QPS_ERR || qp->attr.state == ENGINE_QPS_SQE)
			break;
		qp_check_drained(qp);
	}
	/* More to send, or to flush. */
	qp_sched_active(qp);
	return cost + n * ENGINE_PIECE_BYTES;
}
