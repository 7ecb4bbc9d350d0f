// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Queues of simhca: shared receive queues, completion queues that are resized, moderated, timestamped
 * or overrun, work requests by ibv_wr_*, a drained send queue, what can be asked about them all, and
 * what they and the port tell unasked.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pattern.h"
#include "rc_pair.h"

#define BUF (8ul << 20)
#define WAIT_MS 10000
#define QUIET_MS 100

#define ALL_SEND_OPS \
	(IBV_QP_EX_WITH_RDMA_WRITE | IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM | IBV_QP_EX_WITH_SEND | \
	 IBV_QP_EX_WITH_SEND_WITH_IMM | IBV_QP_EX_WITH_RDMA_READ | \
	 IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP | IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD | \
	 IBV_QP_EX_WITH_LOCAL_INV | IBV_QP_EX_WITH_BIND_MW | IBV_QP_EX_WITH_SEND_WITH_INV | \
	 IBV_QP_EX_WITH_FLUSH | IBV_QP_EX_WITH_ATOMIC_WRITE)

/* QP 0 sends to QP 1. */
FIXTURE(queues) {
	struct rc_pair pair;
	uint8_t *buf;
	struct ibv_mr *mr;
};

FIXTURE_SETUP(queues)
{
	ASSERT_EQ(0, rc_pair_open(&self->pair, NULL));
	self->buf = mmap(NULL, BUF, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->buf);
	self->mr = ibv_reg_mr(self->pair.pd, self->buf, BUF, RC_PAIR_ALL);
	ASSERT_NE(NULL, self->mr);
}

FIXTURE_TEARDOWN(queues)
{
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	rc_pair_close(&self->pair);
}

/* The next event about an object; false after @ms. What concerns the port is taken away. */
static bool next_event(struct ibv_context *ctx, struct ibv_async_event *event, int ms)
{
	struct pollfd pfd = { .fd = ctx->async_fd, .events = POLLIN };

	while (poll(&pfd, 1, ms) == 1 && !ibv_get_async_event(ctx, event)) {
		ibv_ack_async_event(event);
		switch (event->event_type) {
		case IBV_EVENT_CQ_ERR:
		case IBV_EVENT_QP_FATAL:
		case IBV_EVENT_QP_REQ_ERR:
		case IBV_EVENT_QP_ACCESS_ERR:
		case IBV_EVENT_SQ_DRAINED:
		case IBV_EVENT_QP_LAST_WQE_REACHED:
		case IBV_EVENT_SRQ_ERR:
		case IBV_EVENT_SRQ_LIMIT_REACHED:
		case IBV_EVENT_COMM_EST:
			return true;
		default:
			break;
		}
	}
	return false;
}

#define EXPECT_EVENT(type, member, object) do { \
		struct ibv_async_event _event; \
		ASSERT_TRUE(next_event(self->pair.ctx, &_event, WAIT_MS)); \
		ASSERT_EQ(type, _event.event_type); \
		ASSERT_EQ(object, _event.element.member); \
	} while (0)

#define EXPECT_NO_EVENT() do { \
		struct ibv_async_event _event = { 0 }; \
		ASSERT_FALSE(next_event(self->pair.ctx, &_event, QUIET_MS)) \
			TH_LOG("event %u", _event.event_type); \
	} while (0)

static int set_state(struct ibv_qp *qp, enum ibv_qp_state state)
{
	struct ibv_qp_attr attr = { .qp_state = state };

	return ibv_modify_qp(qp, &attr, IBV_QP_STATE);
}

static int poll_one(struct ibv_cq *cq, struct ibv_wc *wc)
{
	for (int i = 0; i < WAIT_MS * 100; i++) {
		int n = ibv_poll_cq(cq, 1, wc);

		if (n)
			return n;
		usleep(10);
	}
	return 0;
}

#define EXPECT_WC(cq, id, st) ({ \
		struct ibv_wc _wc; \
		ASSERT_EQ(1, poll_one(cq, &_wc)); \
		ASSERT_EQ(st, _wc.status) TH_LOG("vendor_err %#x", _wc.vendor_err); \
		ASSERT_EQ((uint64_t)(id), _wc.wr_id); \
		_wc; \
	})

static int post_send(struct ibv_qp *qp, uint64_t id, struct ibv_mr *mr, size_t off, uint32_t len,
		     unsigned int flags)
{
	struct ibv_sge sge = { (uintptr_t)mr->addr + off, len, mr->lkey };
	struct ibv_send_wr wr = {
		.wr_id = id, .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND, .send_flags = flags,
	}, *bad;

	return ibv_post_send(qp, &wr, &bad);
}

static int post_write(struct rc_pair *pair, uint64_t id, struct ibv_mr *mr)
{
	struct ibv_sge sge = { (uintptr_t)mr->addr, 64, mr->lkey };
	struct ibv_send_wr wr = {
		.wr_id = id, .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_RDMA_WRITE,
		.send_flags = IBV_SEND_SIGNALED,
		.wr.rdma = { (uintptr_t)mr->addr + 4096, mr->rkey },
	}, *bad;

	return ibv_post_send(pair->qp[0], &wr, &bad);
}

/* A value of hw_counters of the port, or of the device. */
static long counter(struct ibv_context *ctx, const char *where, const char *name)
{
	char path[256];
	long value = -1;
	FILE *f;

	/* What was read less than 10 ms ago is not read again. */
	usleep(20000);
	snprintf(path, sizeof(path), "/sys/class/infiniband/%s/%shw_counters/%s",
		 ibv_get_device_name(ctx->device), where, name);
	f = fopen(path, "r");
	if (!f)
		return -1;
	if (fscanf(f, "%ld", &value) != 1)
		value = -1;
	fclose(f);
	return value;
}

#define PORT_COUNTER(name) counter(self->pair.ctx, "ports/1/", name)

/* ---- shared receive queues ---- */

#define SRQ_QPS 3
#define SRQ_WR 16

/* Senders 0.. of a CQ of their own, receivers with one SRQ. */
struct shared {
	struct ibv_srq *srq;
	struct ibv_cq *send_cq, *recv_cq;
	struct ibv_qp *send[SRQ_QPS], *recv[SRQ_QPS];
};

static int shared_open(struct rc_pair *pair, struct shared *s)
{
	struct ibv_srq_init_attr srq_init = { .attr = { .max_wr = SRQ_WR, .max_sge = 2 } };
	struct ibv_qp_init_attr init = {
		.cap = { .max_send_wr = 64, .max_recv_wr = 7, .max_send_sge = 1,
			 .max_recv_sge = 5 },
		.qp_type = IBV_QPT_RC,
	};
	int ret = 0;

	s->srq = ibv_create_srq(pair->pd, &srq_init);
	s->send_cq = ibv_create_cq(pair->ctx, 1024, NULL, NULL, 0);
	s->recv_cq = ibv_create_cq(pair->ctx, 1024, NULL, NULL, 0);
	if (!s->srq || !s->send_cq || !s->recv_cq || srq_init.attr.max_wr != SRQ_WR ||
	    srq_init.attr.max_sge < 2)
		return -EINVAL;
	init.send_cq = s->send_cq;
	init.recv_cq = s->recv_cq;
	for (int i = 0; !ret && i < SRQ_QPS; i++) {
		init.srq = NULL;
		s->send[i] = ibv_create_qp(pair->pd, &init);
		init.srq = s->srq;
		s->recv[i] = ibv_create_qp(pair->pd, &init);
		if (!s->send[i] || !s->recv[i])
			return -errno;
		/* It has no receives of its own. */
		if (init.cap.max_recv_wr || init.cap.max_recv_sge)
			return -EPROTO;
		ret = rc_connect(s->send[i], s->recv[i]->qp_num);
		if (!ret)
			ret = rc_connect(s->recv[i], s->send[i]->qp_num);
	}
	return ret;
}

static int shared_close(struct shared *s)
{
	int ret = 0;

	for (int i = 0; i < SRQ_QPS; i++) {
		ret |= ibv_destroy_qp(s->send[i]);
		ret |= ibv_destroy_qp(s->recv[i]);
	}
	ret |= ibv_destroy_srq(s->srq);
	ret |= ibv_destroy_cq(s->send_cq);
	return ret | ibv_destroy_cq(s->recv_cq);
}

static int post_srq(struct ibv_srq *srq, uint64_t id, struct ibv_mr *mr, size_t off, uint32_t len)
{
	struct ibv_sge sge = { (uintptr_t)mr->addr + off, len, mr->lkey };
	struct ibv_recv_wr wr = { .wr_id = id, .sg_list = &sge, .num_sge = 1 }, *bad;

	return ibv_post_srq_recv(srq, &wr, &bad);
}

TEST_F_TIMEOUT(queues, srq_is_shared, 120)
{
	uint64_t posted = 0, taken = 0;
	struct shared s;
	struct ibv_wc wc;

	ASSERT_EQ(0, shared_open(&self->pair, &s));
	pattern_fill(self->buf, 1 << 20, 3);
	/* Filled to its end again and again, whoever takes the receives. */
	for (int round = 0; round < 200; round++) {
		while (posted - taken < SRQ_WR) {
			ASSERT_EQ(0, post_srq(s.srq, posted, self->mr,
					      (4 << 20) + posted % SRQ_WR * 4096, 4096));
			posted++;
		}
		ASSERT_EQ(ENOMEM, post_srq(s.srq, posted, self->mr, 0, 8));
		for (int i = 0; i < 1 + round % (SRQ_WR - SRQ_QPS); i++) {
			int who = (round + i) % SRQ_QPS;
			uint32_t len = 1 + (round * 31 + i) % 4000;

			ASSERT_EQ(0, post_send(s.send[who], 7, self->mr, i, len, 0));
			ASSERT_EQ(1, poll_one(s.recv_cq, &wc));
			ASSERT_EQ(IBV_WC_SUCCESS, wc.status);
			ASSERT_EQ(IBV_WC_RECV, wc.opcode);
			ASSERT_EQ(taken, wc.wr_id);
			ASSERT_EQ(len, wc.byte_len);
			ASSERT_EQ(s.recv[who]->qp_num, wc.qp_num);
			ASSERT_EQ(0, memcmp(self->buf + i, self->buf + (4 << 20) +
					    taken % SRQ_WR * 4096, len));
			taken++;
		}
		/* So that the unsignaled ones are known to be done */
		for (int i = 0; i < SRQ_QPS; i++) {
			ASSERT_EQ(0, post_send(s.send[i], 8, self->mr, 0, 1, IBV_SEND_SIGNALED));
			EXPECT_WC(s.recv_cq, taken, IBV_WC_SUCCESS);
			EXPECT_WC(s.send_cq, 8, IBV_WC_SUCCESS);
			taken++;
			ASSERT_EQ(0, post_srq(s.srq, posted, self->mr,
					      (4 << 20) + posted % SRQ_WR * 4096, 4096));
			posted++;
		}
	}
	ASSERT_EQ(0, shared_close(&s));
}

/* Receives that complete out of order leave no hole: as many as ever can be posted. */
TEST_F_TIMEOUT(queues, srq_out_of_order, 120)
{
	uint64_t posted = SRQ_WR;
	struct shared s;
	struct ibv_wc wc;
	bool overtaken = false;
	int big = 0;

	ASSERT_EQ(0, shared_open(&self->pair, &s));
	for (int i = 0; i < SRQ_WR; i++)
		ASSERT_EQ(0, post_srq(s.srq, i, self->mr, 4 << 20, 4 << 20));
	for (int round = 0; round < 20; round++) {
		ASSERT_EQ(0, post_send(s.send[0], 1, self->mr, 0, 4 << 20, IBV_SEND_SIGNALED));
		for (int i = 0; i < SRQ_WR - 2; i++)
			ASSERT_EQ(0, post_send(s.send[1], 2, self->mr, 0, 8,
					       IBV_SEND_SIGNALED));
		for (int i = 0; i < SRQ_WR - 1; i++) {
			ASSERT_EQ(1, poll_one(s.recv_cq, &wc));
			ASSERT_EQ(IBV_WC_SUCCESS, wc.status);
			if (wc.byte_len > 8)
				big++;
			else if (big == round)
				overtaken = true;
			ASSERT_EQ(0, post_srq(s.srq, posted++, self->mr, 4 << 20, 4 << 20));
			ASSERT_EQ(ENOMEM, post_srq(s.srq, 0, self->mr, 0, 8));
		}
		for (int i = 0; i < SRQ_WR - 1; i++) {
			ASSERT_EQ(1, poll_one(s.send_cq, &wc));
			ASSERT_EQ(IBV_WC_SUCCESS, wc.status);
		}
		ASSERT_EQ(round + 1, big);
	}
	ASSERT_TRUE(overtaken);
	ASSERT_EQ(0, shared_close(&s));
}

TEST_F_TIMEOUT(queues, srq_limit, 120)
{
	struct ibv_srq_attr attr = { .srq_limit = 3 };
	struct shared s;

	ASSERT_EQ(0, shared_open(&self->pair, &s));
	for (int i = 0; i < 5; i++)
		ASSERT_EQ(0, post_srq(s.srq, i, self->mr, 0, 64));
	ASSERT_EQ(0, ibv_modify_srq(s.srq, &attr, IBV_SRQ_LIMIT));
	memset(&attr, 0xff, sizeof(attr));
	ASSERT_EQ(0, ibv_query_srq(s.srq, &attr));
	ASSERT_EQ(SRQ_WR, attr.max_wr);
	ASSERT_LE(2, attr.max_sge);
	ASSERT_EQ(3, attr.srq_limit);

	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, post_send(s.send[i], 0, self->mr, 64, 8, 0));
		EXPECT_WC(s.recv_cq, i, IBV_WC_SUCCESS);
	}
	EXPECT_NO_EVENT();
	ASSERT_EQ(0, post_send(s.send[2], 0, self->mr, 64, 8, 0));
	EXPECT_EVENT(IBV_EVENT_SRQ_LIMIT_REACHED, srq, s.srq);
	EXPECT_WC(s.recv_cq, 2, IBV_WC_SUCCESS);
	ASSERT_EQ(0, ibv_query_srq(s.srq, &attr));
	ASSERT_EQ(0, attr.srq_limit);
	/* Once only */
	ASSERT_EQ(0, post_send(s.send[2], 0, self->mr, 64, 8, 0));
	EXPECT_WC(s.recv_cq, 3, IBV_WC_SUCCESS);
	EXPECT_NO_EVENT();
	ASSERT_LE(1, PORT_COUNTER("srq_limits"));

	attr.srq_limit = SRQ_WR + 1;
	ASSERT_EQ(EINVAL, ibv_modify_srq(s.srq, &attr, IBV_SRQ_LIMIT));
	ASSERT_EQ(EBUSY, ibv_destroy_srq(s.srq));
	ASSERT_EQ(0, shared_close(&s));
}

/* The next message goes into the receive with this id. */
static int srq_recv_one(struct shared *s, struct ibv_mr *mr, uint64_t id)
{
	int who = id % SRQ_QPS;
	struct ibv_wc wc;

	if (post_send(s->send[who], 0, mr, id % 4096, 8, IBV_SEND_SIGNALED) ||
	    poll_one(s->send_cq, &wc) != 1 || wc.status || poll_one(s->recv_cq, &wc) != 1)
		return -EIO;
	return wc.status == IBV_WC_SUCCESS && wc.wr_id == id &&
	       wc.qp_num == s->recv[who]->qp_num ? 0 : -EBADMSG;
}

/* What was posted stays in its order; there is room for as many as the new size says, of which posted ones are a part. */
TEST_F_TIMEOUT(queues, srq_resize, 120)
{
	static const uint32_t sizes[] = { 64, 16, 256, 8, 1024, 5, 1, 32768, 16 };
	struct ibv_srq_attr attr = { 0 }, got;
	uint64_t posted = 0, taken = 0;
	uint32_t now = SRQ_WR;
	struct shared s;

	ASSERT_EQ(0, shared_open(&self->pair, &s));
	for (int i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		attr.max_wr = sizes[i];
		for (; posted - taken < now && posted - taken < 300; posted++)
			ASSERT_EQ(0, post_srq(s.srq, posted, self->mr, 0, 64));
		while (posted - taken > sizes[i]) {
			/* Those of size 5 have room for 8. */
			if (posted - taken > 8)
				ASSERT_EQ(EINVAL, ibv_modify_srq(s.srq, &attr, IBV_SRQ_MAX_WR));
			ASSERT_EQ(0, srq_recv_one(&s, self->mr, taken++));
		}
		ASSERT_EQ(0, ibv_modify_srq(s.srq, &attr, IBV_SRQ_MAX_WR));
		ASSERT_EQ(0, ibv_query_srq(s.srq, &got));
		ASSERT_LE(sizes[i], got.max_wr);
		ASSERT_GT(2 * sizes[i], got.max_wr);
		now = got.max_wr;
		if (now <= 256) {
			for (; posted - taken < now; posted++)
				ASSERT_EQ(0, post_srq(s.srq, posted, self->mr, 0, 64));
			ASSERT_EQ(ENOMEM, post_srq(s.srq, posted, self->mr, 0, 64));
		}
		ASSERT_EQ(0, srq_recv_one(&s, self->mr, taken++));
	}
	while (taken != posted)
		ASSERT_EQ(0, srq_recv_one(&s, self->mr, taken++));
	ASSERT_EQ(0, shared_close(&s));
}

/* Size and limit together, or neither */
TEST_F(queues, srq_resize_and_limit)
{
	const int both = IBV_SRQ_MAX_WR | IBV_SRQ_LIMIT;
	struct ibv_srq_attr attr = { .max_wr = 32, .srq_limit = 33 };
	struct ibv_device_attr dev;
	struct shared s;

	ASSERT_EQ(0, ibv_query_device(self->pair.ctx, &dev));
	ASSERT_TRUE(dev.device_cap_flags & IBV_DEVICE_SRQ_RESIZE);
	ASSERT_EQ(0, shared_open(&self->pair, &s));
	ASSERT_EQ(EINVAL, ibv_modify_srq(s.srq, &attr, both));
	attr = (struct ibv_srq_attr) { .max_wr = dev.max_srq_wr + 1 };
	ASSERT_EQ(EINVAL, ibv_modify_srq(s.srq, &attr, both));
	attr.max_wr = 0;
	ASSERT_EQ(EINVAL, ibv_modify_srq(s.srq, &attr, both));
	ASSERT_EQ(0, ibv_query_srq(s.srq, &attr));
	ASSERT_EQ(SRQ_WR, attr.max_wr);
	ASSERT_EQ(0, attr.srq_limit);

	attr = (struct ibv_srq_attr) { .max_wr = 32, .srq_limit = 32 };
	ASSERT_EQ(0, ibv_modify_srq(s.srq, &attr, both));
	/* It would be above the size. */
	attr = (struct ibv_srq_attr) { .max_wr = 16 };
	ASSERT_EQ(EINVAL, ibv_modify_srq(s.srq, &attr, IBV_SRQ_MAX_WR));
	ASSERT_EQ(0, ibv_query_srq(s.srq, &attr));
	ASSERT_EQ(32, attr.max_wr);
	ASSERT_EQ(32, attr.srq_limit);
	attr = (struct ibv_srq_attr) { .max_wr = 16, .srq_limit = 2 };
	ASSERT_EQ(0, ibv_modify_srq(s.srq, &attr, both));
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0, post_srq(s.srq, i, self->mr, 0, 64));
	ASSERT_EQ(0, srq_recv_one(&s, self->mr, 0));
	EXPECT_EVENT(IBV_EVENT_SRQ_LIMIT_REACHED, srq, s.srq);
	ASSERT_EQ(0, srq_recv_one(&s, self->mr, 1));
	ASSERT_EQ(0, shared_close(&s));
}

struct srq_resizer {
	struct ibv_srq *srq;
	atomic_bool stop;
	atomic_uint done;
	int err;
};

static void *srq_resize_loop(void *arg)
{
	struct srq_resizer *r = arg;

	for (; !r->stop && !r->err; r->done++) {
		struct ibv_srq_attr attr = { .max_wr = SRQ_WR << r->done % 4 };

		r->err = ibv_modify_srq(r->srq, &attr, IBV_SRQ_MAX_WR);
	}
	return NULL;
}

TEST_F_TIMEOUT(queues, srq_resize_under_traffic, 120)
{
	struct srq_resizer r = { 0 };
	uint64_t posted = 0, taken = 0;
	pthread_t thread;
	struct shared s;

	ASSERT_EQ(0, shared_open(&self->pair, &s));
	r.srq = s.srq;
	ASSERT_EQ(0, pthread_create(&thread, NULL, srq_resize_loop, &r));
	while (taken < 3000 || r.done < 50) {
		for (; posted - taken < SRQ_WR; posted++)
			ASSERT_EQ(0, post_srq(s.srq, posted, self->mr, 0, 64));
		for (int i = 0; i < 5; i++)
			ASSERT_EQ(0, srq_recv_one(&s, self->mr, taken++));
	}
	r.stop = true;
	pthread_join(thread, NULL);
	ASSERT_EQ(0, r.err);
	ASSERT_EQ(0, shared_close(&s));
}

TEST_F_TIMEOUT(queues, srq_last_wqe, 120)
{
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;
	struct shared s;

	ASSERT_EQ(0, shared_open(&self->pair, &s));
	ASSERT_EQ(0, ibv_query_qp(s.recv[0], &attr, IBV_QP_CAP, &init));
	ASSERT_EQ(s.srq, init.srq);
	ASSERT_EQ(0, init.cap.max_recv_wr);

	ASSERT_EQ(0, post_srq(s.srq, 1, self->mr, 0, 64));
	ASSERT_EQ(0, set_state(s.recv[0], IBV_QPS_ERR));
	EXPECT_EVENT(IBV_EVENT_QP_LAST_WQE_REACHED, qp, s.recv[0]);
	/* What it did not take is there for others. */
	ASSERT_EQ(0, post_send(s.send[1], 0, self->mr, 64, 8, 0));
	EXPECT_WC(s.recv_cq, 1, IBV_WC_SUCCESS);
	EXPECT_NO_EVENT();
	ASSERT_EQ(0, shared_close(&s));
}

TEST_F(queues, srq_limits_of_the_device)
{
	struct ibv_srq_init_attr init = { .attr = { .max_sge = 1 } };
	struct ibv_device_attr attr;
	struct ibv_srq *srq;

	ASSERT_EQ(0, ibv_query_device(self->pair.ctx, &attr));
	ASSERT_LT(1000, attr.max_srq);
	for (int over = 0; over < 2; over++) {
		init.attr.max_wr = attr.max_srq_wr + over;
		srq = ibv_create_srq(self->pair.pd, &init);
		ASSERT_EQ(over, !srq);
		if (!over) {
			ASSERT_EQ(0, ibv_destroy_srq(srq));
		} else {
			ASSERT_EQ(EINVAL, errno);
		}
	}
	init.attr.max_wr = 1;
	for (int over = 0; over < 2; over++) {
		init.attr.max_sge = attr.max_srq_sge + over;
		srq = ibv_create_srq(self->pair.pd, &init);
		ASSERT_EQ(over, !srq);
		if (!over) {
			ASSERT_EQ(0, ibv_destroy_srq(srq));
		}
	}
}

/* ---- completion queues ---- */

TEST_F_TIMEOUT(queues, resize_moves_completions, 120)
{
	static const int sizes[] = { 300, 20, 33, 64, 4000, 17 };
	uint64_t id = 0, done = 0;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		for (int n = 0; n < 50 + 13 * (int)i; n++) {
			ASSERT_EQ(0, post_write(&self->pair, id++, self->mr));
			EXPECT_WC(self->pair.cq, done++, IBV_WC_SUCCESS);
		}
		for (int n = 0; n < 16; n++)
			ASSERT_EQ(0, post_write(&self->pair, id++, self->mr));
		EXPECT_WC(self->pair.cq, done++, IBV_WC_SUCCESS);
		usleep(20000);
		ASSERT_EQ(0, ibv_resize_cq(self->pair.cq, sizes[i]));
		ASSERT_LE(sizes[i], self->pair.cq->cqe);
		while (done < id)
			EXPECT_WC(self->pair.cq, done++, IBV_WC_SUCCESS);
	}
	for (int n = 0; n < 16; n++)
		ASSERT_EQ(0, post_write(&self->pair, id++, self->mr));
	usleep(20000);
	ASSERT_EQ(EINVAL, ibv_resize_cq(self->pair.cq, 8));
	ASSERT_EQ(EINVAL, ibv_resize_cq(self->pair.cq, 1 << 30));
	ASSERT_EQ(EINVAL, ibv_resize_cq(self->pair.cq, 0));
	while (done < id)
		EXPECT_WC(self->pair.cq, done++, IBV_WC_SUCCESS);
	ASSERT_LE(1, counter(self->pair.ctx, "", "resize_cq_err"));
}

struct resizer {
	struct ibv_cq *cq;
	atomic_bool stop;
	int resizes, err;
};

static void *resize_thread(void *arg)
{
	struct resizer *r = arg;

	for (; !r->stop && !r->err; r->resizes++)
		r->err = ibv_resize_cq(r->cq, 64 << r->resizes % 5);
	return NULL;
}

TEST_F_TIMEOUT(queues, resize_under_traffic, 120)
{
	struct resizer r = { .cq = self->pair.cq };
	uint64_t id = 0, done = 0;
	pthread_t thread;
	struct ibv_wc wc;

	ASSERT_EQ(0, pthread_create(&thread, NULL, resize_thread, &r));
	while (done < 20000 || r.resizes < 50) {
		while (id - done < 32)
			ASSERT_EQ(0, post_write(&self->pair, id++, self->mr));
		ASSERT_EQ(1, poll_one(self->pair.cq, &wc)) TH_LOG("%lu lost", done);
		ASSERT_EQ(IBV_WC_SUCCESS, wc.status);
		ASSERT_EQ(done++, wc.wr_id);
	}
	r.stop = true;
	pthread_join(thread, NULL);
	ASSERT_EQ(0, r.err);
}

static int moderate(struct ibv_cq *cq, uint16_t count, uint16_t period)
{
	struct ibv_modify_cq_attr attr = {
		.attr_mask = IBV_CQ_ATTR_MODERATE,
		.moderate = { .cq_count = count, .cq_period = period },
	};

	return ibv_modify_cq(cq, &attr);
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec * 1e-9;
}

TEST_F_TIMEOUT(queues, moderation, 120)
{
	struct pollfd pfd = { .fd = self->pair.channel->fd, .events = POLLIN };
	struct ibv_cq *cq = self->pair.cq, *got;
	void *context;
	bool in_time = false;
	double start;
	int n = 0;

#define EXPECT_COMPLETIONS(num) do { \
		ASSERT_EQ(1, poll(&pfd, 1, WAIT_MS)); \
		ASSERT_EQ(0, ibv_get_cq_event(self->pair.channel, &got, &context)); \
		ibv_ack_cq_events(got, 1); \
		for (int _i = 0; _i < (num); _i++) \
			EXPECT_WC(cq, n++, IBV_WC_SUCCESS); \
	} while (0)

	/* By time */
	ASSERT_EQ(0, moderate(cq, 100, 60000));
	ASSERT_EQ(0, ibv_req_notify_cq(cq, 0));
	start = seconds();
	for (int i = 0; i < 3; i++)
		ASSERT_EQ(0, post_write(&self->pair, i, self->mr));
	EXPECT_COMPLETIONS(3);
	ASSERT_LE(0.06, seconds() - start);
	ASSERT_LE(2, PORT_COUNTER("moderated_cqes"));

	/* By count: the last of them ends the wait of all. (A busy host can be late, but not always.) */
	ASSERT_EQ(0, moderate(cq, 5, UINT16_MAX));
	for (int i = 0; !in_time; i++) {
		ASSERT_GT(20, i);
		ASSERT_EQ(0, ibv_req_notify_cq(cq, 0));
		start = seconds();
		for (int j = 0; j < 5; j++)
			ASSERT_EQ(0, post_write(&self->pair, n + j, self->mr));
		EXPECT_COMPLETIONS(5);
		in_time = seconds() - start < UINT16_MAX * 1e-6;
	}

	/* None */
	ASSERT_EQ(0, moderate(cq, 0, 0));
	ASSERT_EQ(0, ibv_req_notify_cq(cq, 0));
	ASSERT_EQ(0, post_write(&self->pair, n, self->mr));
	EXPECT_COMPLETIONS(1);
}

static struct ibv_cq_ex *cq_ex(struct ibv_context *ctx, int cqe, uint64_t wc_flags, uint32_t flags)
{
	struct ibv_cq_init_attr_ex init = {
		.cqe = cqe, .wc_flags = wc_flags, .flags = flags,
		.comp_mask = flags ? IBV_CQ_INIT_ATTR_MASK_FLAGS : 0,
	};

	return ibv_create_cq_ex(ctx, &init);
}

static struct ibv_qp *qp_ex(struct rc_pair *pair, struct ibv_cq *cq, uint64_t send_ops)
{
	struct ibv_qp_init_attr_ex init = {
		.send_cq = cq, .recv_cq = cq, .qp_type = IBV_QPT_RC, .pd = pair->pd,
		.cap = { .max_send_wr = 32, .max_recv_wr = 32, .max_send_sge = 3,
			 .max_recv_sge = 1, .max_inline_data = 100 },
		.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS,
		.send_ops_flags = send_ops,
	};

	return ibv_create_qp_ex(pair->ctx, &init);
}

static int start_poll(struct ibv_cq_ex *cq)
{
	struct ibv_poll_cq_attr attr = { 0 };

	for (int i = 0; i < WAIT_MS * 100; i++) {
		int ret = ibv_start_poll(cq, &attr);

		if (ret != ENOENT)
			return ret;
		usleep(10);
	}
	return ENOENT;
}

TEST_F_TIMEOUT(queues, extended_cq, 120)
{
	struct ibv_cq_ex *cq = cq_ex(self->pair.ctx, 64, IBV_WC_STANDARD_FLAGS, 0);
	struct ibv_poll_cq_attr attr = { 0 };
	struct ibv_qp *qp;
	int n = 0;

	ASSERT_NE(NULL, cq);
	qp = qp_ex(&self->pair, ibv_cq_ex_to_cq(cq), ALL_SEND_OPS);
	ASSERT_NE(NULL, qp) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(0, rc_connect(qp, qp->qp_num));
	ASSERT_EQ(ENOENT, ibv_start_poll(cq, &attr));
	attr.comp_mask = 1;
	ASSERT_EQ(EINVAL, ibv_start_poll(cq, &attr));

	for (int i = 0; i < 4; i++) {
		struct ibv_sge sge = { (uintptr_t)self->buf + 100 * i, 64, self->mr->lkey };
		struct ibv_recv_wr recv = { .wr_id = 50 + i, .sg_list = &sge, .num_sge = 1 }, *bad_recv;
		struct ibv_send_wr wr = {
			.wr_id = 10 + i, .sg_list = &sge, .num_sge = 1, .imm_data = htobe32(77 + i),
			.opcode = IBV_WR_SEND_WITH_IMM, .send_flags = IBV_SEND_SIGNALED,
		}, *bad;

		ASSERT_EQ(0, ibv_post_recv(qp, &recv, &bad_recv));
		sge.length = 30 + i;
		ASSERT_EQ(0, ibv_post_send(qp, &wr, &bad));
	}
	usleep(20000);
	/* All eight are there: those of the receives and those of the sends in turn. */
	ASSERT_EQ(0, start_poll(cq));
	do {
		bool recv = !(n & 1);
		int i = n / 2;

		ASSERT_EQ(IBV_WC_SUCCESS, cq->status);
		ASSERT_EQ((recv ? 50 : 10) + i, cq->wr_id);
		ASSERT_EQ(recv ? IBV_WC_RECV : IBV_WC_SEND, ibv_wc_read_opcode(cq));
		ASSERT_EQ(qp->qp_num, ibv_wc_read_qp_num(cq));
		ASSERT_EQ(0, ibv_wc_read_vendor_err(cq));
		ASSERT_EQ(recv ? IBV_WC_WITH_IMM : 0, ibv_wc_read_wc_flags(cq));
		if (recv) {
			ASSERT_EQ(30 + i, ibv_wc_read_byte_len(cq));
			ASSERT_EQ(htobe32(77 + i), ibv_wc_read_imm_data(cq));
		}
		n++;
	} while (!ibv_next_poll(cq));
	ibv_end_poll(cq);
	ASSERT_EQ(8, n);

	/* The ring goes round many times. */
	for (int i = 0; i < 500; i++) {
		struct ibv_sge sge = { (uintptr_t)self->buf, 8, self->mr->lkey };
		struct ibv_send_wr wr = {
			.wr_id = i, .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_RDMA_WRITE,
			.send_flags = IBV_SEND_SIGNALED,
			.wr.rdma = { (uintptr_t)self->buf + 4096, self->mr->rkey },
		}, *bad;

		ASSERT_EQ(0, ibv_post_send(qp, &wr, &bad));
		ASSERT_EQ(0, start_poll(cq));
		ASSERT_EQ(i, cq->wr_id);
		ASSERT_EQ(ENOENT, ibv_next_poll(cq));
		ibv_end_poll(cq);
	}
	ASSERT_EQ(0, ibv_destroy_qp(qp));
	ASSERT_EQ(0, ibv_destroy_cq(ibv_cq_ex_to_cq(cq)));

	/* What it cannot do */
	ASSERT_EQ(NULL, cq_ex(self->pair.ctx, 64, IBV_WC_EX_WITH_CVLAN, 0));
	ASSERT_EQ(EOPNOTSUPP, errno);
	ASSERT_EQ(NULL, cq_ex(self->pair.ctx, 64,
			      IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK, 0));
	ASSERT_EQ(EOPNOTSUPP, errno);
}

static uint64_t clock_of(struct ibv_context *ctx)
{
	struct ibv_values_ex values = { .comp_mask = IBV_VALUES_MASK_RAW_CLOCK };

	return ibv_query_rt_values_ex(ctx, &values) ? 0 : (uint64_t)values.raw_clock.tv_nsec;
}

TEST_F_TIMEOUT(queues, timestamps, 120)
{
	struct ibv_cq_ex *cq = cq_ex(self->pair.ctx, 64, IBV_WC_EX_WITH_COMPLETION_TIMESTAMP,
				     IBV_CREATE_CQ_ATTR_SINGLE_THREADED);
	struct ibv_device_attr_ex attr;
	uint64_t before, after, stamp;
	struct ibv_qp *qp;
	double start;

	ASSERT_NE(NULL, cq);
	ASSERT_EQ(0, ibv_query_device_ex(self->pair.ctx, NULL, &attr));
	ASSERT_EQ(UINT64_MAX, attr.completion_timestamp_mask);
	ASSERT_EQ(1000000, attr.hca_core_clock);
	qp = qp_ex(&self->pair, ibv_cq_ex_to_cq(cq), ALL_SEND_OPS);
	ASSERT_NE(NULL, qp);
	ASSERT_EQ(0, rc_connect(qp, qp->qp_num));
	for (int i = 0; i < 20; i++) {
		struct ibv_send_wr wr = {
			.opcode = IBV_WR_RDMA_WRITE, .send_flags = IBV_SEND_SIGNALED,
		}, *bad;

		before = clock_of(self->pair.ctx);
		ASSERT_EQ(0, ibv_post_send(qp, &wr, &bad));
		ASSERT_EQ(0, start_poll(cq));
		stamp = ibv_wc_read_completion_ts(cq);
		ibv_end_poll(cq);
		after = clock_of(self->pair.ctx);
		ASSERT_LT(0, before);
		ASSERT_LE(before, stamp);
		ASSERT_LE(stamp, after);
	}
	/* A second has as many ticks as the device says. */
	before = clock_of(self->pair.ctx);
	start = seconds();
	usleep(200000);
	after = clock_of(self->pair.ctx);
	EXPECT_LT(0.1, (after - before) / (attr.hca_core_clock * 1e3));
	EXPECT_GT(10 * (seconds() - start), (after - before) / (attr.hca_core_clock * 1e3));
	ASSERT_EQ(0, ibv_destroy_qp(qp));
	ASSERT_EQ(0, ibv_destroy_cq(ibv_cq_ex_to_cq(cq)));
}

/* 20 completions in a CQ of 8. */
static struct ibv_qp *overrun(struct rc_pair *pair, struct ibv_cq *cq)
{
	struct ibv_qp *qp = qp_ex(pair, cq, ALL_SEND_OPS);
	struct ibv_send_wr wr = {
		.opcode = IBV_WR_RDMA_WRITE, .send_flags = IBV_SEND_SIGNALED,
	}, *bad;

	if (!qp || rc_connect(qp, qp->qp_num))
		return NULL;
	for (int i = 0; i < 20; i++)
		if (ibv_post_send(qp, &wr, &bad))
			return NULL;
	return qp;
}

TEST_F_TIMEOUT(queues, overrun, 120)
{
	struct ibv_cq_ex *ignored = cq_ex(self->pair.ctx, 8, 0, IBV_CREATE_CQ_ATTR_IGNORE_OVERRUN);
	struct ibv_cq *cq = ibv_create_cq(self->pair.ctx, 8, NULL, NULL, 0);
	struct ibv_qp_init_attr init;
	long overruns = PORT_COUNTER("cq_overruns");
	struct ibv_qp_attr attr;
	struct ibv_qp *qp;

	ASSERT_NE(NULL, ignored) TH_LOG("%s", strerror(errno));
	ASSERT_NE(NULL, cq);
	qp = overrun(&self->pair, ibv_cq_ex_to_cq(ignored));
	ASSERT_NE(NULL, qp);
	EXPECT_NO_EVENT();
	ASSERT_EQ(0, ibv_query_qp(qp, &attr, IBV_QP_STATE, &init));
	ASSERT_EQ(IBV_QPS_RTS, attr.qp_state);
	ASSERT_EQ(0, ibv_destroy_qp(qp));
	ASSERT_EQ(overruns, PORT_COUNTER("cq_overruns"));

	qp = overrun(&self->pair, cq);
	ASSERT_NE(NULL, qp);
	EXPECT_EVENT(IBV_EVENT_CQ_ERR, cq, cq);
	EXPECT_EVENT(IBV_EVENT_QP_FATAL, qp, qp);
	ASSERT_EQ(0, ibv_query_qp(qp, &attr, IBV_QP_STATE, &init));
	ASSERT_EQ(IBV_QPS_ERR, attr.qp_state);
	ASSERT_EQ(overruns + 1, PORT_COUNTER("cq_overruns"));
	ASSERT_EQ(0, ibv_destroy_qp(qp));
	ASSERT_EQ(0, ibv_destroy_cq(cq));
	ASSERT_EQ(0, ibv_destroy_cq(ibv_cq_ex_to_cq(ignored)));
}

/* ---- ibv_wr_* ---- */

FIXTURE(wr) {
	struct rc_pair pair;
	uint8_t *buf;
	struct ibv_mr *mr;
	struct ibv_qp *qp;		/* connected to itself */
	struct ibv_qp_ex *ex;
};

FIXTURE_SETUP(wr)
{
	ASSERT_EQ(0, rc_pair_open(&self->pair, NULL));
	self->buf = mmap(NULL, BUF, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->buf);
	self->mr = ibv_reg_mr(self->pair.pd, self->buf, BUF, RC_PAIR_ALL);
	ASSERT_NE(NULL, self->mr);
	self->qp = qp_ex(&self->pair, self->pair.cq, ALL_SEND_OPS);
	ASSERT_NE(NULL, self->qp);
	ASSERT_EQ(0, rc_connect(self->qp, self->qp->qp_num));
	self->ex = ibv_qp_to_qp_ex(self->qp);
	ASSERT_NE(NULL, self->ex);
}

FIXTURE_TEARDOWN(wr)
{
	EXPECT_EQ(0, ibv_destroy_qp(self->qp));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	rc_pair_close(&self->pair);
}

#define AT(off) ((uintptr_t)self->buf + (off))

static int recv_one(struct ibv_qp *qp, uint64_t id, struct ibv_mr *mr, size_t off)
{
	struct ibv_sge sge = { (uintptr_t)mr->addr + off, 4096, mr->lkey };
	struct ibv_recv_wr wr = { .wr_id = id, .sg_list = &sge, .num_sge = 1 }, *bad;

	return ibv_post_recv(qp, &wr, &bad);
}

TEST_F_TIMEOUT(wr, every_operation, 120)
{
	uint64_t *words = (uint64_t *)self->buf;
	struct ibv_sge sges[3] = {
		{ AT(0), 100, self->mr->lkey }, { AT(300), 1, self->mr->lkey },
		{ AT(200), 50, self->mr->lkey },
	};
	struct ibv_wc wc;

	pattern_fill(self->buf, 4096, 5);
	ASSERT_EQ(0, recv_one(self->qp, 90, self->mr, 8192));
	ASSERT_EQ(0, recv_one(self->qp, 91, self->mr, 12288));
	ASSERT_EQ(0, recv_one(self->qp, 92, self->mr, 16384));

	/* Many at once, one of them without a completion */
	ibv_wr_start(self->ex);
	self->ex->wr_flags = 0;
	self->ex->wr_id = 1;
	ibv_wr_rdma_write(self->ex, self->mr->rkey, AT(100000));
	ibv_wr_set_sge(self->ex, self->mr->lkey, AT(0), 4096);
	self->ex->wr_flags = IBV_SEND_SIGNALED;
	self->ex->wr_id = 2;
	ibv_wr_rdma_read(self->ex, self->mr->rkey, AT(100000));
	ibv_wr_set_sge(self->ex, self->mr->lkey, AT(200000), 4096);
	self->ex->wr_id = 3;
	ibv_wr_rdma_write_imm(self->ex, self->mr->rkey, AT(300000), htobe32(0xfeed));
	ibv_wr_set_sge_list(self->ex, 3, sges);
	self->ex->wr_id = 4;
	ibv_wr_send(self->ex);
	ibv_wr_set_sge(self->ex, self->mr->lkey, AT(7), 11);
	self->ex->wr_id = 5;
	ibv_wr_send_imm(self->ex, htobe32(0xbeef));
	ibv_wr_set_sge_list(self->ex, 3, sges);
	ASSERT_EQ(0, ibv_wr_complete(self->ex));

	EXPECT_WC(self->pair.cq, 2, IBV_WC_SUCCESS);
	ASSERT_TRUE(pattern_matches(self->buf + 200000, 4096, 5));
	wc = EXPECT_WC(self->pair.cq, 90, IBV_WC_SUCCESS);
	ASSERT_EQ(IBV_WC_RECV_RDMA_WITH_IMM, wc.opcode);
	ASSERT_EQ(htobe32(0xfeed), wc.imm_data);
	ASSERT_EQ(151, wc.byte_len);
	EXPECT_WC(self->pair.cq, 3, IBV_WC_SUCCESS);
	ASSERT_EQ(0, memcmp(self->buf + 300000, self->buf, 100));
	ASSERT_EQ(self->buf[300], self->buf[300100]);
	ASSERT_EQ(0, memcmp(self->buf + 300101, self->buf + 200, 50));
	wc = EXPECT_WC(self->pair.cq, 91, IBV_WC_SUCCESS);
	ASSERT_EQ(11, wc.byte_len);
	ASSERT_EQ(0, memcmp(self->buf + 12288, self->buf + 7, 11));
	EXPECT_WC(self->pair.cq, 4, IBV_WC_SUCCESS);
	wc = EXPECT_WC(self->pair.cq, 92, IBV_WC_SUCCESS);
	ASSERT_EQ(IBV_WC_WITH_IMM, wc.wc_flags);
	ASSERT_EQ(htobe32(0xbeef), wc.imm_data);
	EXPECT_WC(self->pair.cq, 5, IBV_WC_SUCCESS);

	/* Eight bytes, at once */
	words[0] = 40;
	ibv_wr_start(self->ex);
	self->ex->wr_id = 6;
	ibv_wr_atomic_fetch_add(self->ex, self->mr->rkey, AT(0), 2);
	ibv_wr_set_sge(self->ex, self->mr->lkey, AT(8), 8);
	self->ex->wr_id = 7;
	ibv_wr_atomic_cmp_swp(self->ex, self->mr->rkey, AT(0), 42, 1000);
	ibv_wr_set_sge(self->ex, self->mr->lkey, AT(16), 8);
	self->ex->wr_id = 8;
	ibv_wr_atomic_write(self->ex, self->mr->rkey, AT(24), &(uint64_t){ 0x1122334455667788 });
	ASSERT_EQ(0, ibv_wr_complete(self->ex));
	ASSERT_EQ(IBV_WC_FETCH_ADD, EXPECT_WC(self->pair.cq, 6, IBV_WC_SUCCESS).opcode);
	ASSERT_EQ(IBV_WC_COMP_SWAP, EXPECT_WC(self->pair.cq, 7, IBV_WC_SUCCESS).opcode);
	ASSERT_EQ(IBV_WC_ATOMIC_WRITE, EXPECT_WC(self->pair.cq, 8, IBV_WC_SUCCESS).opcode);
	ASSERT_EQ(1000, words[0]);
	ASSERT_EQ(40, words[1]);
	ASSERT_EQ(42, words[2]);
	ASSERT_EQ(0x1122334455667788, words[3]);
}

TEST_F_TIMEOUT(wr, inline_data, 120)
{
	char a[40], b[60];
	struct ibv_data_buf list[2] = { { a, sizeof(a) }, { b, sizeof(b) } };

	memset(a, 'a', sizeof(a));
	memset(b, 'b', sizeof(b));
	ibv_wr_start(self->ex);
	self->ex->wr_flags = IBV_SEND_SIGNALED;
	ibv_wr_rdma_write(self->ex, self->mr->rkey, AT(0));
	ibv_wr_set_inline_data_list(self->ex, 2, list);
	ibv_wr_rdma_write(self->ex, self->mr->rkey, AT(200));
	ibv_wr_set_inline_data(self->ex, b, 7);
	/* They are the application's again at once. */
	memset(a, 0, sizeof(a));
	memset(b, 0, sizeof(b));
	ASSERT_EQ(0, ibv_wr_complete(self->ex));
	for (int i = 0; i < 2; i++)
		EXPECT_WC(self->pair.cq, 0, IBV_WC_SUCCESS);
	for (int i = 0; i < 100; i++)
		ASSERT_EQ(i < 40 ? 'a' : 'b', self->buf[i]);
	ASSERT_EQ(0, memcmp(self->buf + 200, "bbbbbbb", 8));
}

/* An error takes back all of them, and so does ibv_wr_abort(). */
TEST_F_TIMEOUT(wr, all_or_nothing, 120)
{
	struct ibv_sge sges[100] = { 0 };
	static char big[5000];
	struct ibv_wc wc;

	self->ex->wr_flags = IBV_SEND_SIGNALED;
	for (int round = 0; round < 5; round++) {
		ibv_wr_start(self->ex);
		self->ex->wr_id = 1;
		ibv_wr_rdma_write(self->ex, self->mr->rkey, AT(0));
		ibv_wr_set_inline_data(self->ex, "lost", 5);
		self->ex->wr_id = 2;
		if (round == 0)
			for (int i = 0; i < 32; i++)
				ibv_wr_send(self->ex);
		else
			ibv_wr_rdma_write(self->ex, self->mr->rkey, AT(0));
		if (round == 1)
			ibv_wr_set_inline_data(self->ex, big, sizeof(big));
		if (round == 2)
			ibv_wr_set_sge_list(self->ex, 100, sges);
		if (round == 3)
			ibv_wr_flush(self->ex, self->mr->rkey, AT(0), 8, 1 << 5, IBV_FLUSH_RANGE);
		if (round == 4) {
			ibv_wr_abort(self->ex);
		} else {
			ASSERT_EQ(round ? EINVAL : ENOMEM, ibv_wr_complete(self->ex));
		}
	}
	ibv_wr_start(self->ex);
	self->ex->wr_id = 3;
	ibv_wr_rdma_write(self->ex, self->mr->rkey, AT(100));
	ibv_wr_set_inline_data(self->ex, "found", 6);
	ASSERT_EQ(0, ibv_wr_complete(self->ex));
	EXPECT_WC(self->pair.cq, 3, IBV_WC_SUCCESS);
	ASSERT_STREQ("found", (char *)self->buf + 100);
	ASSERT_EQ(0, self->buf[0]);
	ASSERT_EQ(0, ibv_poll_cq(self->pair.cq, 1, &wc));
}

TEST_F(wr, unknown_operations)
{
	struct ibv_qp *plain;

	ASSERT_EQ(NULL, qp_ex(&self->pair, self->pair.cq, IBV_QP_EX_WITH_TSO));
	ASSERT_EQ(EOPNOTSUPP, errno);
	plain = self->pair.qp[0];
	ASSERT_EQ(NULL, ibv_qp_to_qp_ex(plain));
}

/* ---- a drained send queue ---- */

TEST_F_TIMEOUT(queues, sq_drained, 120)
{
	struct ibv_qp_attr sqd = { .qp_state = IBV_QPS_SQD, .en_sqd_async_notify = 1 };
	struct ibv_qp *qp = self->pair.qp[0];
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;

	/* It may be changed while it is drained: it shall be patient. */
	ASSERT_EQ(0, set_state(qp, IBV_QPS_SQD));
	attr.rnr_retry = 7;
	ASSERT_EQ(0, ibv_modify_qp(qp, &attr, IBV_QP_RNR_RETRY));
	ASSERT_EQ(0, set_state(qp, IBV_QPS_RTS));

	/* One under way, for the other side is not ready, and one behind it */
	ASSERT_EQ(0, post_send(qp, 1, self->mr, 0, 8, IBV_SEND_SIGNALED));
	usleep(1000);
	ASSERT_EQ(0, post_send(qp, 2, self->mr, 0, 8, IBV_SEND_SIGNALED));
	ASSERT_EQ(0, ibv_modify_qp(qp, &sqd, IBV_QP_STATE | IBV_QP_EN_SQD_ASYNC_NOTIFY));
	EXPECT_NO_EVENT();
	ASSERT_EQ(0, ibv_query_qp(qp, &attr, IBV_QP_STATE, &init));
	ASSERT_EQ(1, attr.sq_draining);
	ASSERT_EQ(0, recv_one(self->pair.qp[1], 3, self->mr, 4096));
	ASSERT_EQ(0, recv_one(self->pair.qp[1], 4, self->mr, 4096));
	EXPECT_EVENT(IBV_EVENT_SQ_DRAINED, qp, qp);
	ASSERT_EQ(0, ibv_query_qp(qp, &attr, IBV_QP_STATE, &init));
	ASSERT_EQ(IBV_QPS_SQD, attr.qp_state);
	ASSERT_EQ(0, attr.sq_draining);
	EXPECT_WC(self->pair.cq, 3, IBV_WC_SUCCESS);
	EXPECT_WC(self->pair.cq, 1, IBV_WC_SUCCESS);

	/* More may be posted, and is sent when it goes on. */
	ASSERT_EQ(0, recv_one(self->pair.qp[1], 5, self->mr, 4096));
	ASSERT_EQ(0, post_send(qp, 6, self->mr, 0, 8, IBV_SEND_SIGNALED));
	usleep(QUIET_MS * 1000);
	ASSERT_EQ(0, ibv_poll_cq(self->pair.cq, 1, &(struct ibv_wc){ 0 }));
	ASSERT_EQ(0, set_state(qp, IBV_QPS_RTS));
	EXPECT_WC(self->pair.cq, 4, IBV_WC_SUCCESS);
	EXPECT_WC(self->pair.cq, 2, IBV_WC_SUCCESS);
	EXPECT_WC(self->pair.cq, 5, IBV_WC_SUCCESS);
	EXPECT_WC(self->pair.cq, 6, IBV_WC_SUCCESS);

	/* Who does not ask is not told. */
	ASSERT_EQ(0, set_state(qp, IBV_QPS_SQD));
	EXPECT_NO_EVENT();
}

/* ---- queries ---- */

TEST_F(queues, query_qp_tells_how_it_was_made)
{
	for (int all = 0; all < 2; all++) {
		struct ibv_qp_init_attr init = {
			.cap = { .max_send_wr = 10, .max_recv_wr = 20, .max_send_sge = 3,
				 .max_recv_sge = 2, .max_inline_data = 50 },
			.send_cq = self->pair.cq, .recv_cq = self->pair.cq, .qp_type = IBV_QPT_RC,
			.sq_sig_all = all, .qp_context = self,
		}, got;
		struct ibv_qp *qp = ibv_create_qp(self->pair.pd, &init);
		struct ibv_qp_attr attr;

		ASSERT_NE(NULL, qp);
		ASSERT_EQ(0, ibv_query_qp(qp, &attr, IBV_QP_STATE | IBV_QP_CAP, &got));
		ASSERT_EQ(IBV_QPS_RESET, attr.qp_state);
		ASSERT_EQ(all, got.sq_sig_all);
		ASSERT_EQ(0, memcmp(&init.cap, &got.cap, sizeof(got.cap)));
		ASSERT_EQ(0, memcmp(&init.cap, &attr.cap, sizeof(attr.cap)));
		ASSERT_LE(10, got.cap.max_send_wr);
		ASSERT_LE(20, got.cap.max_recv_wr);
		ASSERT_LE(3, got.cap.max_send_sge);
		ASSERT_LE(2, got.cap.max_recv_sge);
		ASSERT_LE(50, got.cap.max_inline_data);
		ASSERT_EQ(self->pair.cq, got.send_cq);
		ASSERT_EQ(self->pair.cq, got.recv_cq);
		ASSERT_EQ(NULL, got.srq);
		ASSERT_EQ(self, got.qp_context);
		ASSERT_EQ(IBV_QPT_RC, got.qp_type);
		ASSERT_EQ(0, ibv_destroy_qp(qp));
	}
}

TEST_F(queues, query_qp_tells_what_was_set)
{
	static const struct ibv_ah_attr no_path;
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;
	union ibv_gid gid;

	ASSERT_EQ(0, rc_gid(self->pair.ctx, &gid));
	ASSERT_EQ(0, ibv_query_qp(self->pair.qp[0], &attr, IBV_QP_STATE | IBV_QP_AV, &init));
	ASSERT_EQ(IBV_QPS_RTS, attr.qp_state);
	ASSERT_EQ(IBV_QPS_RTS, attr.cur_qp_state);
	ASSERT_EQ(IBV_MTU_1024, attr.path_mtu);
	ASSERT_EQ(IBV_MIG_MIGRATED, attr.path_mig_state);
	ASSERT_EQ(self->pair.qp[1]->qp_num, attr.dest_qp_num);
	ASSERT_EQ(IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC,
		  attr.qp_access_flags);
	ASSERT_EQ(1, attr.max_rd_atomic);
	ASSERT_EQ(1, attr.max_dest_rd_atomic);
	ASSERT_EQ(1, attr.min_rnr_timer);
	ASSERT_EQ(1, attr.port_num);
	ASSERT_EQ(10, attr.timeout);
	ASSERT_EQ(3, attr.retry_cnt);
	ASSERT_EQ(3, attr.rnr_retry);
	ASSERT_EQ(1, attr.ah_attr.is_global);
	ASSERT_EQ(0, memcmp(&gid, &attr.ah_attr.grh.dgid, sizeof(gid)));
	/* There is one P_Key and no other path: nothing of what the kernel's memory held before */
	ASSERT_EQ(0, attr.pkey_index);
	ASSERT_EQ(0, attr.alt_pkey_index);
	ASSERT_EQ(0, attr.alt_port_num);
	ASSERT_EQ(0, attr.alt_timeout);
	ASSERT_EQ(0, memcmp(&no_path, &attr.alt_ah_attr, sizeof(no_path)));
}

/* The path, too, which a drained QP may change (but for the hop limit, which is the route's) */
TEST_F(queues, query_qp_tells_the_path)
{
	struct ibv_qp *qp = self->pair.qp[0];
	struct ibv_qp_attr attr, path = { 0 };
	struct ibv_qp_init_attr init;

	ASSERT_EQ(0, ibv_query_qp(qp, &path, IBV_QP_AV, &init));
	path.ah_attr.sl = 3;
	path.ah_attr.grh.flow_label = 0x12345;
	path.ah_attr.grh.traffic_class = 0x26;
	ASSERT_EQ(0, set_state(qp, IBV_QPS_SQD));
	ASSERT_EQ(0, ibv_modify_qp(qp, &path, IBV_QP_AV));
	ASSERT_EQ(0, ibv_query_qp(qp, &attr, IBV_QP_AV, &init));
	ASSERT_EQ(0, memcmp(&path.ah_attr, &attr.ah_attr, sizeof(attr.ah_attr)));
	ASSERT_EQ(0, set_state(qp, IBV_QPS_RTS));
	ASSERT_EQ(0, post_write(&self->pair, 1, self->mr));
	EXPECT_WC(self->pair.cq, 1, IBV_WC_SUCCESS);
}

/* What the device says it can do it does, and not more. */
TEST_F(queues, query_device)
{
	struct ibv_device_attr_ex attr;
	struct ibv_qp_init_attr init = {
		.send_cq = self->pair.cq, .recv_cq = self->pair.cq, .qp_type = IBV_QPT_RC,
	};
	struct ibv_cq *cq;
	struct ibv_qp *qp;

	ASSERT_EQ(0, ibv_query_device_ex(self->pair.ctx, NULL, &attr));
	EXPECT_NE(0, attr.orig_attr.fw_ver[0]);
	EXPECT_EQ(1, attr.orig_attr.phys_port_cnt);
	EXPECT_EQ(1, attr.orig_attr.max_pkeys);
	EXPECT_EQ(IBV_ATOMIC_HCA, attr.orig_attr.atomic_cap);
	EXPECT_NE(0, attr.orig_attr.device_cap_flags & IBV_DEVICE_RC_RNR_NAK_GEN);
	EXPECT_EQ(UINT16_MAX, attr.cq_mod_caps.max_cq_count);
	EXPECT_EQ(UINT16_MAX, attr.cq_mod_caps.max_cq_period);

	for (int over = 0; over < 2; over++) {
		cq = ibv_create_cq(self->pair.ctx, attr.orig_attr.max_cqe + over, NULL, NULL, 0);
		EXPECT_EQ(over, !cq);
		if (cq)
			EXPECT_EQ(0, ibv_destroy_cq(cq));
		for (int what = 0; what < 4; what++) {
			init.cap = (struct ibv_qp_cap){
				.max_send_wr = what == 0 ? attr.orig_attr.max_qp_wr + over : 1,
				.max_recv_wr = what == 1 ? attr.orig_attr.max_qp_wr + over : 1,
				.max_send_sge = what == 2 ? attr.orig_attr.max_sge + over : 1,
				.max_recv_sge = what == 3 ? attr.orig_attr.max_sge + over : 1,
			};
			qp = ibv_create_qp(self->pair.pd, &init);
			EXPECT_EQ(over, !qp) TH_LOG("limit %d", what);
			if (qp)
				EXPECT_EQ(0, ibv_destroy_qp(qp));
		}
	}
}

TEST_F(queues, query_port)
{
	struct ibv_gid_entry entries[256];
	struct ibv_port_attr attr;
	bool v2 = false;
	ssize_t num;

	ASSERT_EQ(0, ibv_query_port(self->pair.ctx, 1, &attr));
	EXPECT_EQ(IBV_PORT_ACTIVE, attr.state);
	EXPECT_EQ(5, attr.phys_state);
	EXPECT_EQ(IBV_MTU_4096, attr.max_mtu);
	EXPECT_LE(IBV_MTU_1024, attr.active_mtu);
	EXPECT_EQ(IBV_LINK_LAYER_ETHERNET, attr.link_layer);
	EXPECT_EQ(1u << 31, attr.max_msg_sz);
	EXPECT_EQ(1, attr.pkey_tbl_len);
	EXPECT_NE(0, attr.active_speed);
	EXPECT_NE(0, attr.active_width);

	num = ibv_query_gid_table(self->pair.ctx, entries, 256, 0);
	ASSERT_LE(1, num);
	for (int i = 0; i < num; i++) {
		struct ibv_gid_entry one;

		EXPECT_EQ(1, entries[i].port_num);
		ASSERT_EQ(0, ibv_query_gid_ex(self->pair.ctx, 1, entries[i].gid_index, &one, 0));
		EXPECT_EQ(0, memcmp(&one, &entries[i], sizeof(one)));
		v2 |= one.gid_type == IBV_GID_TYPE_ROCE_V2;
	}
	EXPECT_TRUE(v2);
}

/* ---- events of the port, and of a QP that refuses ---- */

static bool port_event(struct ibv_context *ctx, enum ibv_event_type type)
{
	struct pollfd pfd = { .fd = ctx->async_fd, .events = POLLIN };
	struct ibv_async_event event;

	while (poll(&pfd, 1, WAIT_MS) == 1 && !ibv_get_async_event(ctx, &event)) {
		ibv_ack_async_event(&event);
		if (event.event_type == type)
			return event.element.port_num == 1;
	}
	return false;
}

static enum ibv_port_state port_state(struct ibv_context *ctx)
{
	struct ibv_port_attr attr;

	return ibv_query_port(ctx, 1, &attr) ? IBV_PORT_NOP : attr.state;
}

TEST_F_TIMEOUT(queues, port_down_and_up, 120)
{
	struct ibv_context *ctx = self->pair.ctx;
	char cmd[64], ndev[32] = "";
	union ibv_gid gid;
	FILE *f;

	snprintf(cmd, sizeof(cmd), "/sys/class/infiniband/%s/ports/1/gid_attrs/ndevs/0",
		 ibv_get_device_name(ctx->device));
	f = fopen(cmd, "r");
	ASSERT_NE(NULL, f);
	ASSERT_EQ(1, fscanf(f, "%31s", ndev));
	fclose(f);

	for (int up = 0; up < 2; up++) {
		snprintf(cmd, sizeof(cmd), "ip link set dev %s %s", ndev, up ? "up" : "down");
		ASSERT_EQ(0, system(cmd));
		ASSERT_TRUE(port_event(ctx, up ? IBV_EVENT_PORT_ACTIVE : IBV_EVENT_PORT_ERR));
		ASSERT_EQ(up ? IBV_PORT_ACTIVE : IBV_PORT_DOWN, port_state(ctx));
	}
	ASSERT_EQ(0, rc_gid(ctx, &gid));
	ASSERT_EQ(0, rc_pair_connect(&self->pair));
	ASSERT_EQ(0, post_write(&self->pair, 1, self->mr));
	EXPECT_WC(self->pair.cq, 1, IBV_WC_SUCCESS);
}

TEST_F_TIMEOUT(queues, who_refuses_is_told, 120)
{
	struct rc_pair *pair = &self->pair;
	struct ibv_sge sge = { (uintptr_t)self->buf, 8, self->mr->lkey };
	struct ibv_send_wr unaligned = {
		.wr_id = 1, .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_ATOMIC_FETCH_AND_ADD,
		.wr.atomic = { .remote_addr = (uintptr_t)self->buf + 4, .rkey = self->mr->rkey },
	}, *bad;

	ASSERT_EQ(IBV_WC_REM_ACCESS_ERR,
		  rc_pair_rdma(pair, IBV_WR_RDMA_WRITE, self->buf, self->mr->lkey, 8, self->buf,
			       self->mr->rkey ^ 0xff));
	EXPECT_EVENT(IBV_EVENT_QP_ACCESS_ERR, qp, pair->qp[1]);
	ASSERT_EQ(0, rc_pair_connect(pair));
	ASSERT_EQ(0, ibv_post_send(pair->qp[0], &unaligned, &bad));
	EXPECT_WC(pair->cq, 1, IBV_WC_REM_INV_REQ_ERR);
	EXPECT_EVENT(IBV_EVENT_QP_REQ_ERR, qp, pair->qp[1]);
	EXPECT_NO_EVENT();
}

/* ---- counters ---- */

TEST_F_TIMEOUT(queues, counters, 120)
{
	long wrs = PORT_COUNTER("tx_wrs"), bytes = PORT_COUNTER("tx_bytes");
	long msgs = PORT_COUNTER("rx_msgs"), rx = PORT_COUNTER("rx_bytes");
	long cqes = PORT_COUNTER("cqes"), errors = PORT_COUNTER("cqe_errors");
	long naks = PORT_COUNTER("rnr_naks"), retries = PORT_COUNTER("rnr_retries");
	long refused = PORT_COUNTER("remote_errors"), late = PORT_COUNTER("ack_timeouts");

	ASSERT_EQ(0, recv_one(self->pair.qp[1], 1, self->mr, 4096));
	ASSERT_EQ(0, post_send(self->pair.qp[0], 2, self->mr, 0, 100, IBV_SEND_SIGNALED));
	EXPECT_WC(self->pair.cq, 1, IBV_WC_SUCCESS);
	EXPECT_WC(self->pair.cq, 2, IBV_WC_SUCCESS);
	EXPECT_EQ(wrs + 1, PORT_COUNTER("tx_wrs"));
	EXPECT_EQ(bytes + 100, PORT_COUNTER("tx_bytes"));
	EXPECT_EQ(msgs + 1, PORT_COUNTER("rx_msgs"));
	EXPECT_EQ(rx + 100, PORT_COUNTER("rx_bytes"));
	EXPECT_EQ(cqes + 2, PORT_COUNTER("cqes"));
	EXPECT_EQ(errors, PORT_COUNTER("cqe_errors"));
	EXPECT_EQ(naks, PORT_COUNTER("rnr_naks"));

	/* Nobody receives: told so, three times again, and then given up. */
	ASSERT_EQ(0, post_send(self->pair.qp[0], 3, self->mr, 0, 100, IBV_SEND_SIGNALED));
	EXPECT_WC(self->pair.cq, 3, IBV_WC_RNR_RETRY_EXC_ERR);
	EXPECT_EQ(errors + 1, PORT_COUNTER("cqe_errors"));
	EXPECT_EQ(naks + 4, PORT_COUNTER("rnr_naks"));
	EXPECT_EQ(retries + 4, PORT_COUNTER("rnr_retries"));

	/* Refused */
	ASSERT_EQ(0, rc_pair_connect(&self->pair));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
		  rc_pair_rdma(&self->pair, IBV_WR_RDMA_WRITE, self->buf, self->mr->lkey, 8,
			       self->buf, 0xdead00));
	EXPECT_EQ(refused + 1, PORT_COUNTER("remote_errors"));

	/* Nobody answers. */
	ASSERT_EQ(0, rc_pair_connect(&self->pair));
	ASSERT_EQ(0, set_state(self->pair.qp[1], IBV_QPS_ERR));
	EXPECT_EQ(IBV_WC_RETRY_EXC_ERR,
		  rc_pair_rdma(&self->pair, IBV_WR_RDMA_WRITE, self->buf, self->mr->lkey, 8,
			       self->buf, self->mr->rkey));
	EXPECT_EQ(late + 4, PORT_COUNTER("ack_timeouts"));
}

TEST_HARNESS_MAIN
