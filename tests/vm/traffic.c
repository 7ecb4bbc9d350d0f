// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#define _GNU_SOURCE
#include "traffic.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "rc_pair.h"

#define BATCH 4
#define CHUNK (256 * 1024u)
#define BATCH_TIMEOUT_MS 5000

struct generator {
	struct traffic *t;
	struct rc_pair pair;
	uint8_t *dev, *host;
	struct ibv_mr *dev_mr, *host_mr;
	uint64_t at;
};

static void *count_events(void *arg)
{
	struct generator *g = arg;
	struct ibv_async_event event;

	while (!ibv_get_async_event(g->pair.ctx, &event)) {
		if ((unsigned int)event.event_type <= IBV_EVENT_WQ_FATAL)
			atomic_fetch_add(&g->t->events[event.event_type], 1);
		ibv_ack_async_event(&event);
	}
	return NULL;
}

static int post(struct generator *g, unsigned int i)
{
	uint8_t *dev = g->dev + g->at, *host = g->host + i * CHUNK;
	bool local = g->t->key == TRAFFIC_LOCAL_KEY;
	struct ibv_sge sge = {
		.addr = (uintptr_t)(local ? dev : host), .length = CHUNK,
		.lkey = local ? g->dev_mr->lkey : g->host_mr->lkey,
	};
	/* Two of three write to the device memory. */
	bool into = i % 3 != 2;
	struct ibv_send_wr wr = {
		.sg_list = &sge, .num_sge = 1, .send_flags = IBV_SEND_SIGNALED,
		.opcode = into == local ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE,
		.wr.rdma = {
			.remote_addr = (uintptr_t)(local ? host : dev),
			.rkey = local ? g->host_mr->rkey : g->dev_mr->rkey,
		},
	}, *bad;

	g->at = (g->at + CHUNK) % (g->t->len - CHUNK + 1);
	return ibv_post_send(g->pair.qp[0], &wr, &bad);
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Returns false when the QPs cannot be used as they are any more. */
static bool batch(struct generator *g)
{
	enum ibv_wc_status status = IBV_WC_SUCCESS;
	uint64_t end = now_ms() + BATCH_TIMEOUT_MS;
	struct traffic *t = g->t;
	int posted, n = 0;
	struct ibv_wc wc;

	memset(g->host, atomic_fetch_add(&t->tries, 1), BATCH * CHUNK);
	for (posted = 0; posted < BATCH; posted++)
		if (post(g, posted))
			break;
	while (n < posted && now_ms() < end) {
		if (ibv_poll_cq(g->pair.cq, 1, &wc) != 1)
			continue;
		n++;
		if (!wc.status)
			atomic_fetch_add(&t->done, 1);
		else if (!status && wc.status != IBV_WC_WR_FLUSH_ERR)
			status = wc.status;
	}
	if (n < BATCH) {
		atomic_fetch_add(&t->silent, 1);
		usleep(10000);
		return false;
	}
	if (status)
		atomic_fetch_add(&t->failed[status], 1);
	return !status;
}

static int begin(struct generator *g)
{
	struct traffic *t = g->t;
	int fd = t->fd, ret;
	uint64_t size;

	ret = rc_pair_open(&g->pair, NULL);
	if (ret)
		return ret;
	if (fd < 0)
		fd = vram_open(O_RDWR, &size);
	if (fd < 0)
		return fd;
	g->dev = mmap(NULL, t->len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, t->offset);
	g->host = mmap(NULL, BATCH * CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (g->dev == MAP_FAILED || g->host == MAP_FAILED)
		return -errno;
	g->dev_mr = ibv_reg_mr(g->pair.pd, g->dev, t->len, RC_PAIR_ALL);
	if (!g->dev_mr)
		return -errno;
	g->host_mr = ibv_reg_mr(g->pair.pd, g->host, BATCH * CHUNK, RC_PAIR_ALL);
	return g->host_mr ? 0 : -errno;
}

/* What a program does that was told its region is dead */
static void start_over(struct generator *g, bool rereg)
{
	struct traffic *t = g->t;
	uint8_t *at = g->dev;

	if (rereg) {
		at = g->host;
		t->reg_errno = ibv_rereg_mr(g->dev_mr, IBV_REREG_MR_CHANGE_TRANSLATION, NULL, at,
					    BATCH * CHUNK, 0) ? errno : 0;
	} else {
		t->dereg_errno = ibv_dereg_mr(g->dev_mr);
		g->dev_mr = ibv_reg_mr(g->pair.pd, at, t->len, RC_PAIR_ALL);
		t->reg_errno = g->dev_mr ? 0 : errno;
	}
	t->moved = -EIO;
	if (!t->reg_errno && !rc_pair_connect(&g->pair))
		t->moved = rc_pair_rdma(&g->pair, IBV_WR_RDMA_WRITE, g->host, g->host_mr->lkey, CHUNK,
					at, g->dev_mr->rkey);
	if (rereg)
		t->dereg_errno = ibv_dereg_mr(g->dev_mr);
	else if (g->dev_mr)
		ibv_dereg_mr(g->dev_mr);
}

static int run(struct traffic *t)
{
	struct generator g = { .t = t };
	pthread_t thread;
	int ret;

	ret = begin(&g);
	if (ret)
		return ret;
	if (pthread_create(&thread, NULL, count_events, &g))
		return -EAGAIN;
	while (atomic_load(&t->order) == TRAFFIC_RUN) {
		if (!batch(&g))
			rc_pair_connect(&g.pair);
		atomic_store(&t->ready, 1);
	}
	if (atomic_load(&t->order) == TRAFFIC_EXIT)
		return 0;
	start_over(&g, atomic_load(&t->order) == TRAFFIC_REREG);
	ibv_dereg_mr(g.host_mr);
	pthread_cancel(thread);
	pthread_join(thread, NULL);
	rc_pair_close(&g.pair);
	return 0;
}

struct traffic *traffic_start(enum traffic_key key, int fd, uint64_t offset, uint64_t len)
{
	struct traffic *t;
	pid_t pid;

	t = mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (t == MAP_FAILED)
		return NULL;
	t->key = key;
	t->fd = fd;
	t->offset = offset;
	t->len = len;
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return NULL;
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		atomic_store(&t->error, run(t));
		_exit(t->error ? 1 : 0);
	}
	t->pid = pid;
	for (int i = 0; i < 2000; i++) {
		if (atomic_load(&t->ready) && atomic_load(&t->done) >= 5 * BATCH)
			return t;
		if (atomic_load(&t->error))
			break;
		usleep(10000);
	}
	traffic_kill(t);
	errno = t->error ? -t->error : ETIMEDOUT;
	return NULL;
}

static int wait_end(struct traffic *t)
{
	int status;

	for (int i = 0; i < 2000; i++) {
		if (waitpid(t->pid, &status, WNOHANG) == t->pid)
			return status;
		usleep(10000);
	}
	return -1;
}

int traffic_end(struct traffic *t, enum traffic_order order)
{
	atomic_store(&t->order, order);
	return wait_end(t);
}

int traffic_kill(struct traffic *t)
{
	kill(t->pid, SIGKILL);
	return wait_end(t);
}

/* The first status that it has failed with, or 0 */
static enum ibv_wc_status first_failure(struct traffic *t)
{
	for (unsigned int status = 1; status <= IBV_WC_TM_RNDV_INCOMPLETE; status++)
		if (atomic_load(&t->failed[status]))
			return status;
	return IBV_WC_SUCCESS;
}

bool traffic_flows(struct traffic *t)
{
	unsigned long done = atomic_load(&t->done);

	/* A batch may have been under way. */
	for (int i = 0; i < 1000 && atomic_load(&t->done) <= done + BATCH; i++)
		usleep(10000);
	return atomic_load(&t->done) > done + BATCH && !first_failure(t);
}

enum ibv_wc_status traffic_failed(struct traffic *t)
{
	enum ibv_wc_status status = IBV_WC_SUCCESS;

	for (int i = 0; i < 1000 && !(status = first_failure(t)); i++)
		usleep(10000);
	return status;
}
