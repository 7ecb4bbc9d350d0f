// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* The engine's memory regions and tables, and many of its objects at once. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine_fake.h"

/* ---- memory regions ---- */

static void test_key_reuse(void **state)
{
	struct fake_pair *t = *state;
	struct engine_hca *hca = &t->hca[1].base;
	struct sgtab sg;

	fake_make_mr(&t->hca[1], 0x300, FAKE_PDN, FAKE_ALL, FAKE_IOVA, FAKE_MEM);
	sgtab_init_one(&sg, FAKE_IOVA, FAKE_MEM);
	assert_int_equal(engine_mr_create(hca, 0x301, FAKE_PDN, FAKE_ALL, FAKE_IOVA, &sg, 0),
			 -EEXIST);
	assert_int_equal(engine_mr_destroy(hca, 0x301), -ENOENT);
	assert_int_equal(engine_mr_destroy(hca, 0x300), 0);
	assert_int_equal(engine_mr_destroy(hca, 0x300), -ENOENT);
	fake_make_mr(&t->hca[1], 0x301, FAKE_PDN, FAKE_ALL, FAKE_IOVA, FAKE_MEM);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST)->rkey = 0x301;
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST)->rkey = 0x300;
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	fake_expect_wc(t->cq[0], t->a, 1, false, ENGINE_WC_REM_ACCESS_ERR,
		       ENGINE_VERR_KEY | ENGINE_VERR_REMOTE);
}

static void test_mr_checks(void **state)
{
	struct fake_pair *t = *state;
	struct engine_hca *hca = &t->hca[0].base;
	struct sgtab sg;

	sgtab_init_one(&sg, FAKE_IOVA, 4096);
	assert_int_equal(engine_mr_create(hca, 0xff, 1, 0, 0, &sg, 0), -EINVAL);
	assert_int_equal(engine_mr_create(hca, 0xffffffff, 1, 0, 0, &sg, 0), -EINVAL);
	assert_int_equal(engine_mr_create(hca, 0x500, 0, 0, 0, &sg, 0), -EINVAL);
	assert_int_equal(engine_mr_create(hca, 0x500, ENGINE_MAX_PDS, 0, 0, &sg, 0), -EINVAL);
	assert_int_equal(engine_mr_create(hca, 0x500, 1, ENGINE_ACCESS_ZERO_BASED, 0, &sg, 0), -EINVAL);
	assert_int_equal(engine_mr_create(hca, 0x500, 1, ENGINE_ACCESS_REMOTE_WRITE, 0, &sg, 0),
			 -EINVAL);
	assert_int_equal(engine_mr_create(hca, 0x500, 1, 0, UINT64_MAX - 4094, &sg, 0), -EINVAL);
	assert_int_equal(engine_mr_create(hca, 0x500, 1, 0, UINT64_MAX - 4095, &sg, 0), 0);
}

/* 65,536 pages in reverse order, so that no two can be merged, from an unaligned start. */
static void test_mr_many_segments(void **state)
{
	const uint32_t n = 65536;
	const uint64_t size = (uint64_t)n << 12, iova = 0x7000000064;
	struct fake_pair *t = *state;
	struct fake_hca *big = calloc(1, sizeof(*big));
	struct fake_cq *cq;
	struct fake_qp *c, *d;
	struct sgtab sg;
	uint64_t off;
	uint32_t i;

	fake_hca_init(big, &t->fabric, 9, size);
	cq = fake_cq_new(big, 1);
	c = fake_qp_new(big, 2, cq);
	d = fake_qp_new(big, 3, cq);
	fake_connect(c, d);

	assert_int_equal(sgtab_init(&sg, n), 0);
	assert_int_equal(engine_charge(&big->base, sgtab_mem(n)), 0);
	for (i = 0; i < n; i++)
		assert_int_equal(sgtab_add(&sg, FAKE_IOVA + size - ((i + 1ull) << 12) +
					   (i ? 0 : 100), i ? 4096 : 3996), 0);
	assert_int_equal(sgtab_add(&sg, 0, 1), -ENOSPC);
	sgtab_trim(&sg);
	assert_int_equal(engine_mr_create(&big->base, 0x200, FAKE_PDN, FAKE_ALL, iova, &sg,
					  sgtab_mem(n)), 0);

	/* 3 MiB from an odd place, to the region and back */
	fake_fill(fake_ptr(big, FAKE_IOVA + 1), 3 << 20, 6);
	off = 0x1234567;
	fake_send(c, ENGINE_WR_RDMA_WRITE, FAKE_IOVA + 1, 3 << 20, iova + off)->rkey = 0x200;
	fake_send(c, ENGINE_WR_RDMA_READ, FAKE_IOVA + (8 << 20), 3 << 20, iova + off)->rkey = 0x200;
	fake_run_all(t);
	fake_expect_wc(cq, c, 0, false, ENGINE_WC_SUCCESS, 0);
	assert_int_equal(fake_wc(cq)->status, ENGINE_WC_SUCCESS);
	for (i = 0; i < 3 << 20; i++) {
		uint64_t pos = off + i + 100;		/* in pages */
		uint64_t at = size - ((pos / 4096 + 1) << 12) + pos % 4096;

		assert_int_equal(big->mem[at], big->mem[1 + i]);
	}
	assert_memory_equal(big->mem + 1, big->mem + (8 << 20), 3 << 20);

	/* the last byte, and one more */
	fake_send(c, ENGINE_WR_RDMA_WRITE, FAKE_IOVA, 1, iova + size - 101)->rkey = 0x200;
	fake_send(c, ENGINE_WR_RDMA_WRITE, FAKE_IOVA, 1, iova + size - 100)->rkey = 0x200;
	fake_run_all(t);
	fake_expect_wc(cq, c, 2, false, ENGINE_WC_SUCCESS, 0);
	fake_expect_wc(cq, c, 3, false, ENGINE_WC_REM_ACCESS_ERR,
		       ENGINE_VERR_RANGE | ENGINE_VERR_REMOTE);
	fake_qp_free(c);
	fake_qp_free(d);
	fake_cq_free(cq);
	fake_hca_fini(big, size);
	free(big);
}

static void test_mr_one_gib(void **state)
{
	struct fake_pair *t = *state;
	struct fake_hca *big = calloc(1, sizeof(*big));
	const uint64_t size = 1ull << 30;
	struct fake_cq *cq;
	struct fake_qp *c, *d;

	fake_hca_init(big, &t->fabric, 9, size);
	cq = fake_cq_new(big, 1);
	c = fake_qp_new(big, 2, cq);
	d = fake_qp_new(big, 3, cq);
	fake_connect(c, d);
	fake_fill(big->mem, 4096, 1);
	fake_send(c, ENGINE_WR_RDMA_WRITE, FAKE_IOVA, 4096, FAKE_IOVA + size - 4096);
	fake_run_all(t);
	fake_expect_wc(cq, c, 0, false, ENGINE_WC_SUCCESS, 0);
	assert_memory_equal(big->mem, big->mem + size - 4096, 4096);
	fake_qp_free(c);
	fake_qp_free(d);
	fake_cq_free(cq);
	fake_hca_fini(big, size);
	free(big);
}

/* ---- keys that lose their memory, or get other ---- */

#define VICTIM	0x4200u		/* an MR of its own over the memory of FAKE_KEY */

static void make_victims(struct fake_pair *t)
{
	fake_make_mr(&t->hca[0], VICTIM, FAKE_PDN, FAKE_ALL, FAKE_IOVA, FAKE_MEM);
	fake_make_mr(&t->hca[1], VICTIM, FAKE_PDN, FAKE_ALL, FAKE_IOVA, FAKE_MEM);
}

static void test_fence(void **state)
{
	static const enum engine_opcode opcodes[] = {
		ENGINE_WR_RDMA_WRITE, ENGINE_WR_RDMA_READ, ENGINE_WR_ATOMIC_FETCH_AND_ADD,
	};
	struct fake_pair *t = *state;
	struct engine_hca *hca = &t->hca[1].base;
	struct sgtab sg;
	size_t i;

	make_victims(t);
	assert_int_equal(engine_mr_fence(hca, VICTIM + 1), -ENOENT);
	assert_int_equal(engine_mr_fence(hca, 0x600), -ENOENT);
	assert_int_equal(engine_mr_fence(hca, VICTIM), 0);
	assert_int_equal(engine_mr_fence(hca, VICTIM), 0);

	/* as a remote key: refused, and the responder hears of it */
	for (i = 0; i < sizeof(opcodes) / sizeof(opcodes[0]); i++) {
		fake_send(t->a, opcodes[i], ALIGNED, 8, ALIGNED)->rkey = VICTIM;
		fake_run_all(t);
		fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_REM_ACCESS_ERR,
			       ENGINE_VERR_FENCED | ENGINE_VERR_REMOTE);
		fake_expect_states(t, ENGINE_QPS_ERR, ENGINE_QPS_ERR);
		assert_int_equal(t->b->events, EVENT(QP_ACCESS_ERR));
		fake_reconnect(t);
	}

	/* as a local key of a receive, and of a request */
	fake_recv(t->b, DST, 8)->sge[0].key = VICTIM;
	fake_send(t->a, ENGINE_WR_SEND, SRC, 8, 0);
	fake_run_all(t);
	fake_expect_wc(t->cq[1], t->b, 0, true, ENGINE_WC_LOC_PROT_ERR,
		       ENGINE_VERR_FENCED | ENGINE_VERR_RECV);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_REM_OP_ERR,
		       ENGINE_VERR_FENCED | ENGINE_VERR_REMOTE);
	fake_reconnect(t);
	assert_int_equal(engine_mr_fence(&t->hca[0].base, VICTIM), 0);
	for (i = 0; i < sizeof(opcodes) / sizeof(opcodes[0]); i++) {
		fake_send(t->a, opcodes[i], ALIGNED, 8, ALIGNED)->sge[0].key = VICTIM;
		fake_run_all(t);
		fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_LOC_PROT_ERR,
			       ENGINE_VERR_FENCED);
		fake_expect_states(t, ENGINE_QPS_ERR, ENGINE_QPS_RTS);
		assert_int_equal(t->b->events, 0);
		fake_reconnect(t);
	}
	fake_expect_quiet(t);

	/* the key is taken until it is destroyed */
	sgtab_init_one(&sg, FAKE_IOVA, FAKE_MEM);
	assert_int_equal(engine_mr_create(hca, VICTIM, FAKE_PDN, FAKE_ALL, FAKE_IOVA, &sg, 0),
			 -EEXIST);
	assert_int_equal(engine_mr_destroy(hca, VICTIM), 0);
	assert_int_equal(engine_mr_create(hca, VICTIM, FAKE_PDN, FAKE_ALL, FAKE_IOVA, &sg, 0), 0);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 8, DST)->rkey = VICTIM;
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
}

/* The memory of the table is given back by the fence, once. */
static void test_fence_frees(void **state)
{
	struct fake_pair *t = *state;
	struct engine_hca *hca = &t->hca[1].base;
	uint64_t before = hca->mem;
	struct sgtab sg;
	unsigned int i;

	assert_int_equal(sgtab_init(&sg, 1000), 0);
	assert_int_equal(engine_charge(hca, sgtab_mem(1000)), 0);
	for (i = 0; i < 1000; i++)
		assert_int_equal(sgtab_add(&sg, FAKE_IOVA + 2 * i * 4096, 4096), 0);
	assert_int_equal(engine_mr_create(hca, VICTIM, FAKE_PDN, FAKE_ALL, 0, &sg,
					  sgtab_mem(1000)), 0);
	assert_int_equal(engine_mr_fence(hca, VICTIM), 0);
	assert_true(hca->mem < before + sgtab_mem(1000));
	assert_int_equal(engine_mr_fence(hca, VICTIM), 0);
	assert_int_equal(engine_mr_destroy(hca, VICTIM), 0);
	assert_int_equal(hca->mem, before);
}

#define LONG_LEN	(3u << 20)	/* takes several turns */

/* Fenced or given other memory while bytes are under way: the request fails, and none comes after. */
static void test_change_under_way(void **state)
{
	static const struct {
		enum engine_opcode opcode;
		bool local;
		enum engine_wc_status status;
	} cases[] = {
		{ ENGINE_WR_RDMA_WRITE, false, ENGINE_WC_REM_ACCESS_ERR },
		{ ENGINE_WR_RDMA_WRITE, true, ENGINE_WC_LOC_PROT_ERR },
		{ ENGINE_WR_RDMA_READ, false, ENGINE_WC_REM_ACCESS_ERR },
		{ ENGINE_WR_RDMA_READ, true, ENGINE_WC_LOC_PROT_ERR },
		{ ENGINE_WR_SEND, true, ENGINE_WC_LOC_PROT_ERR },
		{ ENGINE_WR_SEND, false, ENGINE_WC_REM_OP_ERR },
	};
	struct fake_pair *t = *state;
	uint8_t *image = malloc(FAKE_MEM);
	size_t i;

	for (i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
		enum engine_opcode opcode = cases[i / 2].opcode;
		bool local = cases[i / 2].local, rereg = i & 1;
		struct fake_hca *victim = &t->hca[!local];
		struct engine_hca *hca = &victim->base;
		struct engine_send_wr *wr;
		struct sgtab sg;

		make_victims(t);
		wr = fake_send(t->a, opcode, SRC, LONG_LEN, DST);
		if (local)
			wr->sge[0].key = VICTIM;
		else
			wr->rkey = VICTIM;
		fake_recv(t->b, DST, LONG_LEN)->sge[0].key = local ? FAKE_KEY : VICTIM;
		assert_int_equal(fabric_poll(&t->fabric, t->now, 1), 1);
		assert_int_equal(t->cq[0]->num, t->cq[0]->seen);

		assert_int_equal(engine_mr_fence(hca, VICTIM), 0);
		if (rereg) {
			sgtab_init_one(&sg, FAKE_IOVA, FAKE_MEM);
			assert_int_equal(engine_mr_rereg(hca, VICTIM, ENGINE_REREG_TRANS, 0, 0,
							 FAKE_IOVA, &sg, 0), 0);
		}
		memcpy(image, victim->mem, FAKE_MEM);
		fake_run_all(t);
		fake_expect_wc(t->cq[0], t->a, 0, false, cases[i / 2].status,
			       (rereg ? ENGINE_VERR_TRANS : ENGINE_VERR_FENCED) |
			       (local ? 0 : ENGINE_VERR_REMOTE));
		assert_memory_equal(image, victim->mem, FAKE_MEM);
		if (!local)
			assert_int_equal(t->b->events, opcode == ENGINE_WR_SEND ? 0 :
					 EVENT(QP_ACCESS_ERR));
		while (fake_wc(t->cq[1]))
			;
		assert_int_equal(engine_mr_destroy(&t->hca[0].base, VICTIM), 0);
		assert_int_equal(engine_mr_destroy(&t->hca[1].base, VICTIM), 0);
		fake_reconnect(t);
	}
	free(image);
}

/* Other memory, PD and rights under the same key: each alone and all at once, or nothing. */
static void test_rereg(void **state)
{
	struct fake_pair *t = *state;
	struct engine_hca *hca = &t->hca[1].base;
	uint8_t *mem = t->hca[1].mem;
	struct sgtab sg, none = { 0 };

	make_victims(t);
	sgtab_init_one(&sg, FAKE_IOVA + 0x10000, 0x1000);
	assert_int_equal(engine_mr_rereg(hca, VICTIM + 1, ENGINE_REREG_TRANS, 0, 0, 0, &sg, 0),
			 -ENOENT);
	assert_int_equal(engine_mr_rereg(hca, VICTIM, 0, 0, 0, 0, &sg, 0), -EINVAL);
	assert_int_equal(engine_mr_rereg(hca, VICTIM, 8, 0, 0, 0, &sg, 0), -EINVAL);
	assert_int_equal(engine_mr_rereg(hca, VICTIM, ENGINE_REREG_TRANS, 0, 0, 0, &none, 0),
			 -EINVAL);
	assert_int_equal(engine_mr_rereg(hca, VICTIM, ENGINE_REREG_TRANS, 0, 0, UINT64_MAX, &sg, 0),
			 -EINVAL);
	assert_int_equal(engine_mr_rereg(hca, VICTIM, ENGINE_REREG_ALL, 0, FAKE_ALL, 0, &sg, 0),
			 -EINVAL);
	assert_int_equal(engine_mr_rereg(hca, VICTIM, ENGINE_REREG_ALL, FAKE_PDN,
					 ENGINE_ACCESS_REMOTE_WRITE, 0, &sg, 0), -EINVAL);
	/* after all these it is as it was */
	fake_fill(fake_ptr(&t->hca[0], SRC), 64, 1);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 64, DST)->rkey = VICTIM;
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	assert_memory_equal(fake_ptr(&t->hca[0], SRC), fake_ptr(&t->hca[1], DST), 64);

	/* memory: the old address is outside */
	assert_int_equal(engine_mr_rereg(hca, VICTIM, ENGINE_REREG_TRANS, 0, 0, 0x777, &sg, 0), 0);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 64, 0x777 + 0x1000 - 64)->rkey = VICTIM;
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 64, DST)->rkey = VICTIM;
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 1, false, ENGINE_WC_SUCCESS, 0);
	assert_memory_equal(fake_ptr(&t->hca[0], SRC), mem + 0x11000 - 64, 64);
	fake_expect_wc(t->cq[0], t->a, 2, false, ENGINE_WC_REM_ACCESS_ERR,
		       ENGINE_VERR_RANGE | ENGINE_VERR_REMOTE);
	fake_reconnect(t);

	/* PD alone, rights alone */
	assert_int_equal(engine_mr_rereg(hca, VICTIM, ENGINE_REREG_PD, FAKE_PDN + 1, 0, 0, NULL, 0),
			 0);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 64, 0x777)->rkey = VICTIM;
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_REM_ACCESS_ERR,
		       ENGINE_VERR_PD | ENGINE_VERR_REMOTE);
	fake_reconnect(t);
	assert_int_equal(engine_mr_rereg(hca, VICTIM, ENGINE_REREG_PD | ENGINE_REREG_ACCESS,
					 FAKE_PDN, ENGINE_ACCESS_REMOTE_READ, 0, NULL, 0), 0);
	fake_send(t->a, ENGINE_WR_RDMA_READ, SRC, 64, 0x777)->rkey = VICTIM;
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 64, 0x777)->rkey = VICTIM;
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	fake_expect_wc(t->cq[0], t->a, 1, false, ENGINE_WC_REM_ACCESS_ERR,
		       ENGINE_VERR_ACCESS | ENGINE_VERR_REMOTE);
	fake_reconnect(t);

	/* a fenced one stays fenced until it gets memory */
	assert_int_equal(engine_mr_fence(hca, VICTIM), 0);
	assert_int_equal(engine_mr_rereg(hca, VICTIM, ENGINE_REREG_ACCESS, 0, FAKE_ALL, 0, NULL, 0),
			 0);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 64, 0x777)->rkey = VICTIM;
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_REM_ACCESS_ERR,
		       ENGINE_VERR_FENCED | ENGINE_VERR_REMOTE);
	fake_reconnect(t);
	assert_int_equal(engine_mr_rereg(hca, VICTIM, ENGINE_REREG_TRANS, 0, 0, 0x777, &sg, 0), 0);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 64, 0x777)->rkey = VICTIM;
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
}

/* ---- tables ---- */

static void test_sgtab(void **state)
{
	struct sgtab sg;
	uint64_t addr, n, off = 0, start[500], len[500];
	uint32_t i, seg, seed = 1;

	assert_int_equal(sgtab_init(&sg, 500), 0);
	assert_int_equal(sgtab_add(&sg, 5, 0), -EINVAL);
	assert_int_equal(sgtab_add(&sg, UINT64_MAX, 2), -EINVAL);
	for (i = 0; i < 500; i++) {
		seed = seed * 1664525 + 1013904223;
		start[i] = off;
		len[i] = (seed >> 20) + 1;
		if (i == 250)
			len[i] = 1 << 30;
		assert_int_equal(sgtab_add(&sg, (uint64_t)(500 - i) << 40, len[i]), 0);
		off += len[i];
	}
	assert_int_equal(sg.length, off);
	for (i = 0; i < 500; i++) {
		for (seg = 0; seg < 600; seg += 149) {
			uint32_t hint = seg;

			n = sgtab_at(&sg, &hint, start[i], &addr);
			assert_int_equal(n, len[i]);
			assert_int_equal(addr, (uint64_t)(500 - i) << 40);
			assert_int_equal(hint, i);
			hint = seg;
			n = sgtab_at(&sg, &hint, start[i] + len[i] - 1, &addr);
			assert_int_equal(n, 1);
		}
	}
	sgtab_destroy(&sg);

	/* Runs that continue each other are one. */
	assert_int_equal(sgtab_init(&sg, 3), 0);
	for (i = 0; i < 100; i++)
		assert_int_equal(sgtab_add(&sg, i * 4096, 4096), 0);
	sgtab_trim(&sg);
	assert_int_equal(sg.nsegs, 1);
	assert_null(sg.start);
	seg = 7;
	assert_int_equal(sgtab_at(&sg, &seg, 4095, &addr), 99 * 4096 + 1);
	sgtab_destroy(&sg);
}

static void test_idtab(void **state)
{
	struct idtab tab;
	uint32_t id;
	int x, y;

	assert_int_equal(idtab_init(&tab, 4096), 0);
	assert_int_equal(idtab_insert(&tab, 4096, &x), -EINVAL);
	assert_int_equal(idtab_insert(&tab, 4095, &x), 0);
	assert_int_equal(idtab_insert(&tab, 4095, &x), -EEXIST);
	assert_int_equal(idtab_insert(&tab, 3, &y), 0);
	assert_ptr_equal(idtab_get(&tab, 4095), &x);
	assert_null(idtab_get(&tab, 4));
	assert_null(idtab_get(&tab, 5000));
	id = 0;
	assert_ptr_equal(idtab_next(&tab, &id), &y);
	assert_int_equal(id, 3);
	id++;
	assert_ptr_equal(idtab_next(&tab, &id), &x);
	assert_int_equal(id, 4095);
	id++;
	assert_null(idtab_next(&tab, &id));
	idtab_remove(&tab, 3);
	idtab_remove(&tab, 3);
	assert_int_equal(tab.count, 1);
	assert_null(tab.leaves[0]);
	idtab_destroy(&tab);
}

static void test_memory_limit(void **state)
{
	struct fake_pair *t = *state;
	struct engine_hca *hca = &t->hca[0].base;
	uint64_t before = hca->mem;

	assert_int_equal(engine_charge(hca, ENGINE_MEM_LIMIT - before), 0);
	assert_int_equal(engine_charge(hca, 1), -ENOMEM);
	assert_null(engine_alloc(hca, 1));
	engine_uncharge(hca, ENGINE_MEM_LIMIT - before);
	assert_int_equal(engine_charge(hca, UINT64_MAX), -ENOMEM);
	assert_int_equal(hca->mem, before);
}

/* ---- many ---- */

static void test_fairness(void **state)
{
	struct fake_pair *t = *state;
	struct fake_qp *c = fake_qp_new(&t->hca[0], 100, t->cq[0]);
	struct fake_qp *d = fake_qp_new(&t->hca[1], 101, t->cq[1]);
	unsigned int turns = 0;

	fake_connect(c, d);
	fake_run_all(t);
	/* 12 MiB behind one doorbell, then a small one on another QP */
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 6 << 20, DST);
	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 6 << 20, DST);
	fake_send(c, ENGINE_WR_RDMA_WRITE, SRC, 64, DST);
	while (!t->cq[0]->num) {
		turns += fabric_poll(&t->fabric, t->now, 1);
		assert_true(turns <= 2);
	}
	fake_expect_wc(t->cq[0], c, 0, false, ENGINE_WC_SUCCESS, 0);
	fake_run_all(t);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	fake_expect_wc(t->cq[0], t->a, 1, false, ENGINE_WC_SUCCESS, 0);
	fake_qp_free(c);
	fake_qp_free(d);
}

static void test_idle_qps_cost_nothing(void **state)
{
	const unsigned int n = 4000;
	struct fake_pair *t = *state;
	struct fake_qp **qp = calloc(n, sizeof(*qp));
	struct engine_qp_attr attr;
	unsigned int i;

	for (i = 0; i < n; i++)
		qp[i] = fake_qp_new(&t->hca[i & 1], 1000 + i / 2, t->cq[i & 1]);
	for (i = 0; i < n; i += 2)
		fake_connect(qp[i], qp[i + 1]);
	/* Each looks once after RTS. */
	assert_int_equal(fake_run(&t->fabric, t->now), 0);
	for (i = 0; i < n; i++)
		qp[i]->fetches = 0;

	fake_send(t->a, ENGINE_WR_RDMA_WRITE, SRC, 64, DST);
	assert_int_equal(fake_run(&t->fabric, t->now), 1);
	fake_expect_wc(t->cq[0], t->a, 0, false, ENGINE_WC_SUCCESS, 0);
	for (i = 0; i < n; i++)
		assert_int_equal(qp[i]->fetches, 0);

	/* All wait for timers of different length, and each gets its turn in order. */
	for (i = 0; i < n; i += 2) {
		attr = qp[i + 1]->base.attr;
		attr.min_rnr_timer = 1 + i * 7 % 31;
		assert_int_equal(engine_qp_modify(&qp[i + 1]->base, &attr, ENGINE_QP_MIN_RNR_TIMER),
				 0);
		fake_send(qp[i], ENGINE_WR_SEND, SRC, 8, 0);
	}
	fake_run_all(t);
	assert_int_equal(t->fabric.heap_len, n / 2);
	for (i = 0; i < n; i += 2)
		fake_recv(qp[i + 1], DST, 8);
	while (t->fabric.heap_len) {
		uint64_t next = fabric_next_timer(&t->fabric);

		assert_true(next >= t->now);
		t->now = next;
		fake_run_all(t);
		while (fake_wc(t->cq[0]))
			;
		while (fake_wc(t->cq[1]))
			;
	}
	assert_int_equal(t->hca[1].base.stats.rx_msgs, n / 2);

	/* Removal from the middle of the heap. */
	for (i = 0; i < n; i += 2)
		fake_send(qp[i], ENGINE_WR_SEND, SRC, 8, 0);
	fake_run_all(t);
	for (i = 0; i < n; i++)
		fake_qp_free(qp[(uint64_t)i * 1237 % n]);
	assert_int_equal(t->fabric.heap_len, 0);
	free(qp);
}

static void test_two_requesters_one_responder(void **state)
{
	struct fake_pair *t = *state;
	struct fake_qp *c = fake_qp_new(&t->hca[0], 100, t->cq[0]);
	struct engine_qp_attr attr = fake_attr(c, t->b);
	const struct engine_wc *wc;

	/* Says it is connected to b, but b is connected to a. */
	fake_to_init(c, &attr);
	fake_to_rtr(c, &attr);
	attr.retry_cnt = 0;
	fake_to_rts(c, &attr);
	fake_send(c, ENGINE_WR_RDMA_WRITE, SRC, 8, DST);
	fake_run_all(t);
	t->now += 4096ull << 10;
	fake_run_all(t);
	wc = fake_wc(t->cq[0]);
	assert_non_null(wc);
	assert_int_equal(wc->status, ENGINE_WC_RETRY_EXC_ERR);
	assert_int_equal(wc->vendor_err, ENGINE_VERR_PEER_OTHER);
	fake_expect_states(t, ENGINE_QPS_RTS, ENGINE_QPS_RTS);
	fake_qp_free(c);
}

int main(void)
{
#define T(name)	cmocka_unit_test_setup_teardown(name, fake_setup, fake_teardown)
	const struct CMUnitTest tests[] = {
		T(test_key_reuse),
		T(test_mr_checks),
		T(test_mr_many_segments),
		T(test_mr_one_gib),
		T(test_fence),
		T(test_fence_frees),
		T(test_change_under_way),
		T(test_rereg),
		cmocka_unit_test(test_sgtab),
		cmocka_unit_test(test_idtab),
		T(test_memory_limit),
		T(test_fairness),
		T(test_idle_qps_cost_nothing),
		T(test_two_requesters_one_responder),
	};

	return cmocka_run_group_tests_name("engine_mr", tests, NULL, NULL);
}
