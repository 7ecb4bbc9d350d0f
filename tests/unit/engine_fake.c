// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* A front end of arrays. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine_fake.h"

static int fake_fetch_send(struct engine_qp *base, struct engine_send_wr *wr)
{
	struct fake_qp *qp = container_of(base, struct fake_qp, base);

	qp->fetches++;
	if (qp->sq_ci == qp->sq_pi)
		return 0;
	if (qp->sq_error && qp->sq_error != -EINVAL)
		return qp->sq_error;
	*wr = qp->sq[qp->sq_ci % FAKE_QUEUE];
	wr->index = qp->sq_ci++;
	return qp->sq_error ? qp->sq_error : 1;
}

static int fake_fetch_srq(struct fake_srq *srq, struct engine_recv_wr *wr)
{
	if (srq->ci == srq->pi)
		return 0;
	if (srq->error && srq->error != -EINVAL)
		return srq->error;
	*wr = srq->rq[srq->ci++ % FAKE_QUEUE];
	wr->left = srq->pi - srq->ci;
	return srq->error ? srq->error : 1;
}

static int fake_fetch_recv(struct engine_rq *rq, struct engine_recv_wr *wr)
{
	struct fake_qp *qp = container_of(rq, struct fake_qp, rq_base);

	if (rq->srqn)
		return fake_fetch_srq(container_of(rq, struct fake_srq, base), wr);
	if (qp->rq_ci == qp->rq_pi)
		return 0;
	if (qp->rq_error && qp->rq_error != -EINVAL)
		return qp->rq_error;
	*wr = qp->rq[qp->rq_ci % FAKE_QUEUE];
	wr->index = qp->rq_ci++;
	return qp->rq_error ? qp->rq_error : 1;
}

static int fake_read_segs(struct engine_hca *hca, const struct engine_key_mem *mem,
			  struct sgtab *sg)
{
	const struct fake_seg *segs = (const struct fake_seg *)(uintptr_t)mem->segs;
	uint32_t i;
	int ret;

	(void)hca;
	if (!segs)
		return -EFAULT;
	for (i = 0; i < mem->num_segs; i++) {
		ret = sgtab_add(sg, segs[i].addr, segs[i].len);
		if (ret)
			return ret;
	}
	return 0;
}

static int fake_complete(struct engine_cq *base, const struct engine_wc *wc)
{
	struct fake_cq *cq = container_of(base, struct fake_cq, base);

	if (cq->error)
		return cq->error;
	if (cq->num - cq->seen >= cq->cap)
		return -ENOSPC;
	cq->wc[cq->num++ % FAKE_CQES] = *wc;
	return 0;
}

static void fake_qp_event(struct engine_qp *base, enum engine_event event)
{
	container_of(base, struct fake_qp, base)->events |= 1u << event;
}

static void fake_cq_event(struct engine_cq *base, enum engine_event event)
{
	container_of(base, struct fake_cq, base)->events |= 1u << event;
}

static void fake_srq_event(struct engine_rq *base, enum engine_event event)
{
	struct fake_srq *srq = container_of(base, struct fake_srq, base);

	srq->events |= 1u << event;
	srq->num_events++;
}

const struct engine_ops fake_ops = {
	.fetch_send = fake_fetch_send,
	.fetch_recv = fake_fetch_recv,
	.read_segs = fake_read_segs,
	.complete = fake_complete,
	.qp_event = fake_qp_event,
	.cq_event = fake_cq_event,
	.srq_event = fake_srq_event,
};

void fake_hca_init(struct fake_hca *hca, struct fabric *fabric, uint8_t gid_last, uint64_t size)
{
	struct sgtab sg;

	memset(hca, 0, sizeof(*hca));
	hca->fd = memfd_create("fake", MFD_CLOEXEC);
	assert_int_equal(ftruncate(hca->fd, size), 0);
	hca->mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, hca->fd, 0);
	assert_true(hca->mem != MAP_FAILED);
	hca->map = dma_map_create();
	assert_non_null(hca->map);
	assert_int_equal(dma_map_add(hca->map, FAKE_IOVA, size, DMA_MAP_READ | DMA_MAP_WRITE,
				     hca->fd, 0), 0);
	assert_int_equal(engine_hca_init(&hca->base, fabric, &fake_ops, hca->map), 0);
	engine_hca_set_running(&hca->base, true);
	hca->gid[0] = 0xfe;
	hca->gid[15] = gid_last;
	assert_int_equal(engine_hca_set_gid(&hca->base, 1, hca->gid), 0);
	sgtab_init_one(&sg, FAKE_IOVA, size);
	assert_int_equal(engine_mr_create(&hca->base, FAKE_KEY, FAKE_PDN, FAKE_ALL, FAKE_IOVA, &sg,
					  0), 0);
}

void fake_hca_fini(struct fake_hca *hca, uint64_t size)
{
	engine_mr_destroy_all(&hca->base);
	assert_int_equal(hca->base.mem, 0);
	assert_int_equal(hca->base.qps.count, 0);
	assert_int_equal(hca->base.cqs.count, 0);
	assert_int_equal(hca->base.srqs.count, 0);
	engine_hca_destroy(&hca->base);
	dma_map_destroy(hca->map);
	munmap(hca->mem, size);
	close(hca->fd);
}

struct fake_cq *fake_cq_new(struct fake_hca *hca, uint32_t cqn)
{
	struct fake_cq *cq = calloc(1, sizeof(*cq));

	cq->base.hca = &hca->base;
	cq->base.cqn = cqn;
	cq->cap = FAKE_CQES;
	assert_int_equal(engine_cq_create(&cq->base), 0);
	return cq;
}

void fake_cq_free(struct fake_cq *cq)
{
	assert_int_equal(engine_cq_destroy(&cq->base), 0);
	free(cq);
}

struct fake_srq *fake_srq_new(struct fake_hca *hca, uint32_t srqn)
{
	struct fake_srq *srq = calloc(1, sizeof(*srq));

	srq->base.hca = &hca->base;
	srq->base.srqn = srqn;
	srq->base.pdn = FAKE_PDN;
	assert_int_equal(engine_srq_create(&srq->base), 0);
	return srq;
}

void fake_srq_free(struct fake_srq *srq)
{
	assert_int_equal(engine_srq_destroy(&srq->base), 0);
	free(srq);
}

static struct fake_qp *fake_qp_create(struct fake_hca *hca, uint32_t qpn, struct fake_cq *cq,
				      enum engine_qp_type type, struct fake_srq *srq)
{
	struct fake_qp *qp = calloc(1, sizeof(*qp));

	qp->cq = cq;
	qp->rq_base.hca = &hca->base;
	qp->rq_base.pdn = FAKE_PDN;
	qp->base.hca = &hca->base;
	qp->base.qpn = qpn;
	qp->base.pdn = FAKE_PDN;
	qp->base.type = type;
	qp->base.send_cq = &cq->base;
	qp->base.recv_cq = &cq->base;
	qp->base.rq = srq ? &srq->base : &qp->rq_base;
	assert_int_equal(engine_qp_create(&qp->base), 0);
	return qp;
}

struct fake_qp *fake_qp_new(struct fake_hca *hca, uint32_t qpn, struct fake_cq *cq)
{
	return fake_qp_create(hca, qpn, cq, ENGINE_QPT_RC, NULL);
}

struct fake_qp *fake_qp_new_srq(struct fake_hca *hca, uint32_t qpn, struct fake_cq *cq,
				struct fake_srq *srq)
{
	return fake_qp_create(hca, qpn, cq, ENGINE_QPT_RC, srq);
}

struct fake_qp *fake_qp_new_uc(struct fake_hca *hca, uint32_t qpn, struct fake_cq *cq)
{
	return fake_qp_create(hca, qpn, cq, ENGINE_QPT_UC, NULL);
}

struct fake_qp *fake_qp_new_ud(struct fake_hca *hca, uint32_t qpn, struct fake_cq *cq)
{
	return fake_qp_create(hca, qpn, cq, ENGINE_QPT_UD, NULL);
}

void fake_qp_free(struct fake_qp *qp)
{
	engine_qp_destroy(&qp->base);
	free(qp);
}

struct engine_qp_attr fake_attr(const struct fake_qp *qp, const struct fake_qp *dest)
{
	struct engine_qp_attr attr = {
		.path_mtu = 3,
		.timeout = 10,		/* 4.2 ms */
		.retry_cnt = 3,
		.rnr_retry = 2,
		.min_rnr_timer = 12,	/* 0.64 ms */
		.access = ENGINE_ACCESS_QP,
		.dest_qpn = dest->base.qpn,
		.rq_psn = dest->base.qpn * 5,
		.sq_psn = qp->base.qpn * 5,
		.max_rd_atomic = 4,
		.max_dest_rd_atomic = 4,
		.sgid_index = 1,
	};
	const struct fake_hca *hca = container_of(dest->base.hca, struct fake_hca, base);

	memcpy(attr.dgid, hca->gid, sizeof(attr.dgid));
	return attr;
}

static int fake_modify(struct fake_qp *qp, const struct engine_qp_attr *from,
		       enum engine_qp_state state, uint32_t mask)
{
	struct engine_qp_attr attr = *from;

	attr.state = state;
	return engine_qp_modify(&qp->base, &attr, ENGINE_QP_STATE | mask);
}

void fake_to_init(struct fake_qp *qp, const struct engine_qp_attr *attr)
{
	assert_int_equal(fake_modify(qp, attr, ENGINE_QPS_INIT, ENGINE_QP_ACCESS), 0);
}

void fake_to_rtr(struct fake_qp *qp, const struct engine_qp_attr *attr)
{
	assert_int_equal(fake_modify(qp, attr, ENGINE_QPS_RTR,
				     ENGINE_QP_AV | ENGINE_QP_PATH_MTU | ENGINE_QP_DEST_QPN |
				     ENGINE_QP_RQ_PSN | ENGINE_QP_MAX_DEST_RD_ATOMIC |
				     ENGINE_QP_MIN_RNR_TIMER), 0);
}

void fake_to_rts(struct fake_qp *qp, const struct engine_qp_attr *attr)
{
	assert_int_equal(fake_modify(qp, attr, ENGINE_QPS_RTS,
				     ENGINE_QP_TIMEOUT | ENGINE_QP_RETRY_CNT |
				     ENGINE_QP_RNR_RETRY | ENGINE_QP_SQ_PSN |
				     ENGINE_QP_MAX_RD_ATOMIC), 0);
}

static void fake_connect_one(struct fake_qp *qp, struct fake_qp *dest)
{
	struct engine_qp_attr attr = fake_attr(qp, dest);

	fake_to_init(qp, &attr);
	fake_to_rtr(qp, &attr);
	fake_to_rts(qp, &attr);
}

void fake_connect(struct fake_qp *a, struct fake_qp *b)
{
	fake_connect_one(a, b);
	if (a != b)
		fake_connect_one(b, a);
}

int fake_set_state(struct fake_qp *qp, enum engine_qp_state state)
{
	struct engine_qp_attr attr = { .state = state };
	int ret = engine_qp_modify(&qp->base, &attr, ENGINE_QP_STATE);

	if (!ret && state == ENGINE_QPS_RESET)
		qp->sq_pi = qp->sq_ci = qp->rq_pi = qp->rq_ci = 0;
	return ret;
}

struct engine_send_wr *fake_send(struct fake_qp *qp, enum engine_opcode opcode, uint64_t addr,
				 uint32_t length, uint64_t remote_addr)
{
	struct engine_send_wr *wr = &qp->sq[qp->sq_pi++ % FAKE_QUEUE];

	assert_true(qp->sq_pi - qp->sq_ci <= FAKE_QUEUE);
	memset(wr, 0, sizeof(*wr));
	wr->opcode = opcode;
	wr->flags = ENGINE_WR_SIGNALED;
	wr->num_sge = 1;
	wr->rkey = FAKE_KEY;
	wr->remote_addr = remote_addr;
	wr->sge[0] = (struct engine_sge) { addr, length, FAKE_KEY };
	engine_qp_ring(&qp->base);
	return wr;
}

static struct engine_send_wr *fake_send_key(struct fake_qp *qp, enum engine_opcode opcode,
					    uint32_t rkey)
{
	struct engine_send_wr *wr = fake_send(qp, opcode, 0, 0, 0);

	memset(wr->sge, 0, sizeof(wr->sge));
	wr->num_sge = 0;
	wr->rkey = rkey;
	return wr;
}

struct engine_send_wr *fake_bind(struct fake_qp *qp, uint32_t rkey, uint32_t lkey, uint64_t addr,
				 uint64_t length, uint32_t access)
{
	struct engine_send_wr *wr = fake_send_key(qp, ENGINE_WR_BIND_MW, rkey);

	wr->mem = (struct engine_key_mem) {
		.addr = addr,
		.length = length,
		.lkey = lkey,
		.access = access,
	};
	return wr;
}

struct engine_send_wr *fake_reg(struct fake_qp *qp, uint32_t key, const struct fake_seg *segs,
				uint32_t num_segs, uint64_t iova, uint32_t access)
{
	struct engine_send_wr *wr = fake_send_key(qp, ENGINE_WR_REG_MR, key);
	uint32_t i;

	wr->mem = (struct engine_key_mem) {
		.addr = iova,
		.segs = (uintptr_t)segs,
		.num_segs = num_segs,
		.access = access,
	};
	for (i = 0; i < num_segs; i++)
		wr->mem.length += segs[i].len;
	return wr;
}

struct engine_send_wr *fake_inv(struct fake_qp *qp, enum engine_opcode opcode, uint32_t rkey)
{
	return fake_send_key(qp, opcode, rkey);
}

struct engine_recv_wr *fake_recv(struct fake_qp *qp, uint64_t addr, uint32_t length)
{
	struct engine_recv_wr *wr = &qp->rq[qp->rq_pi++ % FAKE_QUEUE];

	assert_true(qp->rq_pi - qp->rq_ci <= FAKE_QUEUE);
	memset(wr, 0, sizeof(*wr));
	wr->num_sge = 1;
	wr->sge[0] = (struct engine_sge) { addr, length, FAKE_KEY };
	return wr;
}

struct engine_recv_wr *fake_srq_recv(struct fake_srq *srq, uint32_t tag, uint64_t addr,
				     uint32_t length)
{
	struct engine_recv_wr *wr = &srq->rq[srq->pi++ % FAKE_QUEUE];

	assert_true(srq->pi - srq->ci <= FAKE_QUEUE);
	memset(wr, 0, sizeof(*wr));
	wr->index = tag;
	wr->num_sge = 1;
	wr->sge[0] = (struct engine_sge) { addr, length, FAKE_KEY };
	return wr;
}

const struct engine_wc *fake_wc(struct fake_cq *cq)
{
	return cq->seen == cq->num ? NULL : &cq->wc[cq->seen++ % FAKE_CQES];
}

unsigned int fake_run(struct fabric *fabric, uint64_t now)
{
	unsigned int turns = 0;

	do {
		turns += fabric_poll(fabric, now, 16);
		assert_true(turns < 1000000);
	} while (fabric_busy(fabric));
	return turns;
}

/* ---- two HCAs ---- */

int fake_setup(void **state)
{
	struct fake_pair *t = calloc(1, sizeof(*t));
	unsigned int i;

	fabric_init(&t->fabric);
	for (i = 0; i < 2; i++) {
		fake_hca_init(&t->hca[i], &t->fabric, i + 1, FAKE_MEM);
		t->cq[i] = fake_cq_new(&t->hca[i], 9);
	}
	t->a = fake_qp_new(&t->hca[0], 17, t->cq[0]);
	t->b = fake_qp_new(&t->hca[1], 33, t->cq[1]);
	fake_connect(t->a, t->b);
	t->now = 5000000;
	*state = t;
	return 0;
}

int fake_teardown(void **state)
{
	struct fake_pair *t = *state;
	unsigned int i;

	if (t->a)
		fake_qp_free(t->a);
	if (t->b)
		fake_qp_free(t->b);
	for (i = 0; i < 2; i++) {
		fake_cq_free(t->cq[i]);
		fake_hca_fini(&t->hca[i], FAKE_MEM);
	}
	assert_int_equal(t->fabric.num_qps, 0);
	assert_int_equal(t->fabric.heap_len, 0);
	fabric_destroy(&t->fabric);
	free(t);
	return 0;
}

void fake_reconnect(struct fake_pair *t)
{
	struct fake_qp *qp[2] = { t->a, t->b };
	unsigned int i;

	for (i = 0; i < 2; i++) {
		assert_int_equal(fake_set_state(qp[i], ENGINE_QPS_RESET), 0);
		qp[i]->events = 0;
	}
	fake_connect(t->a, t->b);
	fake_run_all(t);
}

void fake_fill(uint8_t *p, size_t len, uint32_t seed)
{
	size_t i;

	for (i = 0; i < len; i++) {
		seed = seed * 1664525 + 1013904223;
		p[i] = seed >> 24;
	}
}

void fake_run_all(struct fake_pair *t)
{
	fake_run(&t->fabric, t->now);
}

const struct engine_wc *fake_expect_wc(struct fake_cq *cq, struct fake_qp *qp, uint32_t index,
				       bool recv, enum engine_wc_status status, uint32_t verr)
{
	const struct engine_wc *wc = fake_wc(cq);

	assert_non_null(wc);
	assert_ptr_equal(wc->qp, &qp->base);
	assert_int_equal(wc->status, status);
	assert_int_equal(wc->vendor_err, verr);
	assert_int_equal(wc->index, index);
	assert_int_equal(wc->recv, recv);
	assert_int_equal(wc->solicited, status != ENGINE_WC_SUCCESS);
	return wc;
}

void fake_expect_quiet(struct fake_pair *t)
{
	assert_null(fake_wc(t->cq[0]));
	assert_null(fake_wc(t->cq[1]));
}

void fake_expect_states(struct fake_pair *t, enum engine_qp_state a, enum engine_qp_state b)
{
	assert_int_equal(t->a->base.attr.state, a);
	assert_int_equal(t->b->base.attr.state, b);
}

void fake_make_mr(struct fake_hca *hca, uint32_t key, uint32_t pdn, uint32_t access,
		  uint64_t addr, uint64_t length)
{
	struct sgtab sg;

	sgtab_init_one(&sg, addr, length);
	assert_int_equal(engine_mr_create(&hca->base, key, pdn, access, FAKE_IOVA, &sg, 0), 0);
}
