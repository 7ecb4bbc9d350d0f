// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * What the engine's messages cost, without a guest and with a front end of arrays, for ./run bench traffic.
 *
 *	engine_cost [ROUNDS [BYTES]]	BYTES: only messages of this size
 *
 * Prints what result.h says, ns of CPU time of this thread per message, or per memcpy(). Rounds of all kinds and numbers of
 * a series take turns, so that what disturbs one disturbs the others, too.
 *
 *	size	x bytes, one after the other: memcpy, write, read, send
 *	qps	writes of 64 bytes, with x QPs connected: "one" sends, or "each" in turn
 *	mrs	writes of 64 bytes, with x MRs at both ends: of "one", or of "each" in turn; "fetch": only bringing each in turn
 *		from memory, one after the other, as such writes must
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine_fake.h"
#include "result.h"

#define DEFAULT_ROUNDS	11
#define SMALL		64u
#define MAX_SIZE	(8u << 20)
#define BATCH		ENGINE_TURN_WRS
/* A round of one place */
#define ROUND_BYTES	(32u << 20)
#define ROUND_WRS	16384u
#define FIRST_QPN	100u
#define FIRST_KEY	0x10u		/* its index */
/* Apart, so that neighbours in a table do not follow each other; coprime to all numbers of objects. */
#define STRIDE		7919u

static const uint32_t qp_numbers[] = { 1, 10, 100, 1000, 10000 };
static const uint32_t mr_numbers[] = { 1, 10, 100, 1000, 10000, 100000 };

static unsigned int rounds;

static uint64_t cpu_ns(void)
{
	return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

/* ---- messages ---- */

/* A message of @length bytes in the next place of the queue; the bell is rung later. */
static void fill_wr(struct fake_qp *qp, unsigned int at, enum engine_opcode opcode, uint32_t length,
		    uint32_t key)
{
	struct engine_send_wr *wr = &qp->sq[(qp->sq_pi + at) % FAKE_QUEUE];

	wr->opcode = opcode;
	wr->flags = ENGINE_WR_SIGNALED;
	wr->num_sge = 1;
	wr->rkey = key;
	wr->remote_addr = FAKE_IOVA;
	wr->sge[0] = (struct engine_sge) { .addr = FAKE_IOVA, .length = length, .key = key };
}

static void fill_recv(struct fake_qp *qp, unsigned int at, uint32_t length)
{
	struct engine_recv_wr *wr = &qp->rq[(qp->rq_pi + at) % FAKE_QUEUE];

	wr->num_sge = 1;
	wr->sge[0] = (struct engine_sge) { .addr = FAKE_IOVA, .length = length, .key = FAKE_KEY };
}

static void take_completions(struct fake_cq *cq, unsigned int n)
{
	assert_int_equal(cq->num - cq->seen, n);
	for (; cq->seen != cq->num; cq->seen++)
		assert_int_equal(cq->wc[cq->seen % FAKE_CQES].status, ENGINE_WC_SUCCESS);
}

/* Has the engine execute what @post puts into the queues, @n messages at once; the CPU time of it. */
static uint64_t run_batch(struct fake_pair *t, struct fake_qp *qp, unsigned int n)
{
	uint64_t start = cpu_ns();

	qp->sq_pi += n;
	engine_qp_ring(&qp->base);
	fake_run_all(t);
	return cpu_ns() - start;
}

/* ---- sizes ---- */

enum size_kind { COPY, WRITE, READ, SEND, SIZE_KINDS };

static const char *const size_names[] = {
	[COPY] = "memcpy", [WRITE] = "write", [READ] = "read", [SEND] = "send",
};

static const enum engine_opcode size_opcodes[] = {
	[WRITE] = ENGINE_WR_RDMA_WRITE, [READ] = ENGINE_WR_RDMA_READ, [SEND] = ENGINE_WR_SEND,
};

/* The very pointers that the engine copies between. */
static void *engine_ptr(struct fake_hca *hca)
{
	void *ptr;

	dma_map_read_lock(hca->map);
	assert_int_equal(dma_map_translate(hca->map, NULL, FAKE_IOVA, MAX_SIZE,
					   DMA_MAP_READ | DMA_MAP_WRITE, &ptr), MAX_SIZE);
	dma_map_read_unlock(hca->map);
	return ptr;
}

/* Not inlined, nor specialised for a length: the call a program would make. */
static void *(*volatile copy)(void *, const void *, size_t) = memcpy;

static uint64_t copy_batch(struct fake_pair *t, uint32_t size, unsigned int n)
{
	void *from = engine_ptr(&t->hca[0]), *to = engine_ptr(&t->hca[1]);
	uint64_t start = cpu_ns();

	while (n--)
		copy(to, from, size);
	return cpu_ns() - start;
}

static uint64_t message_batch(struct fake_pair *t, enum size_kind kind, uint32_t size,
			      unsigned int n)
{
	uint64_t ns;
	unsigned int i;

	for (i = 0; i < n; i++)
		fill_wr(t->a, i, size_opcodes[kind], size, FAKE_KEY);
	if (kind == SEND) {
		for (i = 0; i < n; i++)
			fill_recv(t->b, i, size);
		t->b->rq_pi += n;
	}
	ns = run_batch(t, t->a, n);
	take_completions(t->cq[0], n);
	take_completions(t->cq[1], kind == SEND ? n : 0);
	return ns;
}

static double size_round(struct fake_pair *t, enum size_kind kind, uint32_t size)
{
	uint32_t total = ROUND_BYTES / size, done, n;
	uint64_t ns = 0;

	if (total > ROUND_WRS)
		total = ROUND_WRS;
	for (done = 0; done < total; done += n) {
		n = total - done < BATCH ? total - done : BATCH;
		ns += kind == COPY ? copy_batch(t, size, n) : message_batch(t, kind, size, n);
	}
	return (double)ns / total;
}

static void measure_sizes(uint32_t min, uint32_t max)
{
	double (*ns)[rounds] = calloc(SIZE_KINDS, sizeof(*ns));
	struct fake_pair *t;
	enum size_kind kind;
	void *state;
	unsigned int r;
	uint32_t size;

	assert_non_null(ns);
	fake_setup(&state);
	t = state;
	/* Memory is there, and nothing in it is the same page of zeros. */
	memset(engine_ptr(&t->hca[0]), 1, MAX_SIZE);
	memset(engine_ptr(&t->hca[1]), 2, MAX_SIZE);
	for (size = min; size <= max; size *= 2) {
		for (r = 0; r < rounds; r++)
			for (kind = 0; kind < SIZE_KINDS; kind++)
				ns[kind][r] = size_round(t, kind, size);
		for (kind = 0; kind < SIZE_KINDS; kind++)
			print_result("size", size_names[kind], size, ns[kind], rounds);
	}
	fake_teardown(&state);
	free(ns);
}

/* ---- numbers of QPs ---- */

/* @qp: those at the near end, connected each to one at the far end */
struct many_qps {
	struct fake_pair *t;
	uint32_t num;
	struct fake_qp **qp;
	struct fake_qp **peer;
};

static void many_qps_init(struct many_qps *m, uint32_t num)
{
	void *state;
	uint32_t i;

	fake_setup(&state);
	m->t = state;
	m->num = num;
	m->qp = calloc(num, sizeof(*m->qp));
	m->peer = calloc(num, sizeof(*m->peer));
	assert_true(m->qp && m->peer);
	for (i = 0; i < num; i++) {
		m->qp[i] = fake_qp_new(&m->t->hca[0], FIRST_QPN + i, m->t->cq[0]);
		m->peer[i] = fake_qp_new(&m->t->hca[1], FIRST_QPN + i, m->t->cq[1]);
		fake_connect(m->qp[i], m->peer[i]);
	}
}

static void many_qps_fini(struct many_qps *m)
{
	void *state = m->t;
	uint32_t i;

	for (i = 0; i < m->num; i++) {
		fake_qp_free(m->qp[i]);
		fake_qp_free(m->peer[i]);
	}
	free(m->qp);
	free(m->peer);
	fake_teardown(&state);
}

static double qps_round(struct many_qps *m, bool each)
{
	uint32_t done, i, at = 0;
	uint64_t ns = 0;

	for (done = 0; done < ROUND_WRS; done += BATCH) {
		struct fake_qp *qp = m->qp[each ? at % m->num : 0];

		at += STRIDE;
		for (i = 0; i < BATCH; i++)
			fill_wr(qp, i, ENGINE_WR_RDMA_WRITE, SMALL, FAKE_KEY);
		ns += run_batch(m->t, qp, BATCH);
		take_completions(m->t->cq[0], BATCH);
	}
	return (double)ns / ROUND_WRS;
}

static void measure_qps(void)
{
	struct many_qps many[NUM(qp_numbers)];
	double ns[2][NUM(qp_numbers)][rounds];
	unsigned int i, each, r;

	for (i = 0; i < NUM(qp_numbers); i++)
		many_qps_init(&many[i], qp_numbers[i]);
	for (r = 0; r < rounds; r++)
		for (each = 0; each < 2; each++)
			for (i = 0; i < NUM(qp_numbers); i++)
				ns[each][i][r] = qps_round(&many[i], each);
	for (i = 0; i < NUM(qp_numbers); i++) {
		for (each = 0; each < 2; each++)
			print_result("qps", each ? "each" : "one", qp_numbers[i], ns[each][i], rounds);
		many_qps_fini(&many[i]);
	}
}

/* ---- numbers of MRs ---- */

struct many_mrs {
	struct fake_pair *t;
	uint32_t num;
};

static uint32_t mr_key(uint32_t i)
{
	return (FIRST_KEY + i) << ENGINE_KEY_SHIFT;
}

static void many_mrs_init(struct many_mrs *m, uint32_t num)
{
	void *state;
	uint32_t i;

	fake_setup(&state);
	m->t = state;
	m->num = num;
	for (i = 0; i < num; i++) {
		fake_make_mr(&m->t->hca[0], mr_key(i), FAKE_PDN, FAKE_ALL, FAKE_IOVA, SMALL);
		fake_make_mr(&m->t->hca[1], mr_key(i), FAKE_PDN, FAKE_ALL, FAKE_IOVA, SMALL);
	}
}

enum mrs_kind { ONE, EACH, FETCH, MRS_KINDS };

static const char *const mrs_names[] = { [ONE] = "one", [EACH] = "each", [FETCH] = "fetch" };

static uint32_t nth_key(struct many_mrs *m, enum mrs_kind kind, uint32_t n)
{
	return mr_key(kind == ONE ? 0 : (uint64_t)n * STRIDE % m->num);
}

static uint64_t fetch_batch(struct many_mrs *m, uint32_t first)
{
	uint64_t start = cpu_ns();
	unsigned int i, end;
	uint32_t never = 0;

	for (i = 0; i < BATCH; i++) {
		for (end = 0; end < 2; end++) {
			uint32_t index = nth_key(m, FETCH, first + i) >> ENGINE_KEY_SHIFT;
			const volatile struct engine_mr *mr =
				idtab_get(&m->t->hca[end].base.keys, index + never);

			/* Nothing, but only who has read it knows: the next one waits for it. */
			never = mr->mem + mr->base.state;
		}
	}
	return cpu_ns() - start;
}

static uint64_t write_batch(struct many_mrs *m, enum mrs_kind kind, uint32_t first)
{
	uint64_t ns;
	uint32_t i;

	for (i = 0; i < BATCH; i++)
		fill_wr(m->t->a, i, ENGINE_WR_RDMA_WRITE, SMALL, nth_key(m, kind, first + i));
	ns = run_batch(m->t, m->t->a, BATCH);
	take_completions(m->t->cq[0], BATCH);
	return ns;
}

static double mrs_round(struct many_mrs *m, enum mrs_kind kind)
{
	uint64_t ns = 0;
	uint32_t done;

	for (done = 0; done < ROUND_WRS; done += BATCH)
		ns += kind == FETCH ? fetch_batch(m, done) : write_batch(m, kind, done);
	return (double)ns / ROUND_WRS;
}

static void measure_mrs(void)
{
	double ns[MRS_KINDS][NUM(mr_numbers)][rounds];
	struct many_mrs many[NUM(mr_numbers)];
	enum mrs_kind kind;
	unsigned int i, r;
	void *state;

	for (i = 0; i < NUM(mr_numbers); i++)
		many_mrs_init(&many[i], mr_numbers[i]);
	for (r = 0; r < rounds; r++)
		for (kind = 0; kind < MRS_KINDS; kind++)
			for (i = 0; i < NUM(mr_numbers); i++)
				ns[kind][i][r] = mrs_round(&many[i], kind);
	for (i = 0; i < NUM(mr_numbers); i++) {
		for (kind = 0; kind < MRS_KINDS; kind++)
			print_result("mrs", mrs_names[kind], mr_numbers[i], ns[kind][i], rounds);
		state = many[i].t;
		fake_teardown(&state);
	}
}

int main(int argc, char **argv)
{
	uint32_t only = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;

	rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : DEFAULT_ROUNDS;
	if (argc > 3 || !rounds || (argc > 2 && !only) || only > MAX_SIZE) {
		fprintf(stderr, "usage: engine_cost [ROUNDS [BYTES]]\n");
		return 2;
	}
	if (only) {
		measure_sizes(only, only);
		return 0;
	}
	measure_sizes(2, MAX_SIZE);
	measure_qps();
	measure_mrs();
	return 0;
}
