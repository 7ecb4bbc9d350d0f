// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * pair_test a|b data|kill|unplug: one end of a connection between the HCAs of two guests; a begins. What the ends have to
 * tell each other lies in files of /pair.
 *
 * data: every operation between every two kinds of memory; check_vram finds the rest of the truth in each guest's
 *	device memory.
 * kill, unplug: b goes away, or only its HCA, while a writes to it, and a's requests must end as those to a peer
 *	that does not answer.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "host.h"
#include "pattern.h"
#include "rc_pair.h"

#define PEER_TIMEOUT_S 120
#define END_TIMEOUT_S 30
#define SLOT (512ul << 10)
#define LEN 300001ul
#define VRAM_AT (64ul << 20)
#define KINDS 2
#define OPS 3
#define SLOTS (OPS * KINDS * KINDS)
#define BUF (SLOTS * SLOT)
#define DEPTH 16
#define ENOUGH 1000	/* writes before b goes */
#define SEED 100u

enum kind { HOST, DEVICE };
enum op { WRITE, READ, SEND };

struct end {
	union ibv_gid gid;
	uint32_t qpn;
	uint32_t rkey[KINDS];
	uint64_t addr[KINDS];
};

static char self, other;
static struct rc_pair rc;
static struct ibv_qp *qp;
static uint8_t *mem[KINDS];
static struct ibv_mr *mr[KINDS];
static struct end peer;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* ---- the other end ---- */

static void tell(const char *what, const void *data, size_t len)
{
	char tmp[64], path[64];
	FILE *f;

	snprintf(tmp, sizeof(tmp), "/pair/.%s.%c", what, self);
	snprintf(path, sizeof(path), "/pair/%s.%c", what, self);
	f = fopen(tmp, "w");
	if (!f || (len && fwrite(data, len, 1, f) != 1) || fclose(f) || rename(tmp, path))
		err(1, "%s", path);
}

static void hear(const char *what, void *data, size_t len)
{
	const double end = now() + PEER_TIMEOUT_S;
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/pair/%s.%c", what, other);
	while (access(path, F_OK)) {
		if (now() > end)
			errx(1, "nothing heard of the other end: %s", what);
		usleep(20000);
	}
	f = fopen(path, "r");
	if (!f || (len && fread(data, len, 1, f) != 1))
		err(1, "%s", path);
	fclose(f);
}

static void meet(const char *what)
{
	tell(what, NULL, 0);
	hear(what, NULL, 0);
}

static void open_end(void)
{
	struct end mine;
	uint64_t size;
	int fd, ret;

	ret = rc_pair_open(&rc, NULL);
	if (ret)
		errx(1, "no HCA: %s", strerror(-ret));
	fd = vram_open(O_RDWR, &size);
	if (fd < 0)
		errx(1, "no device memory: %s", strerror(-fd));
	mem[HOST] = mmap(NULL, BUF, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mem[DEVICE] = mmap(NULL, BUF, PROT_READ | PROT_WRITE, MAP_SHARED, fd, VRAM_AT);
	for (int i = 0; i < KINDS; i++) {
		if (mem[i] == MAP_FAILED)
			err(1, "mmap");
		mr[i] = ibv_reg_mr(rc.pd, mem[i], BUF, RC_PAIR_ALL);
		if (!mr[i])
			err(1, "ibv_reg_mr");
		mine.rkey[i] = mr[i]->rkey;
		mine.addr[i] = (uintptr_t)mem[i];
	}
	close(fd);
	ret = rc_gid(rc.ctx, &mine.gid);
	if (ret)
		errx(1, "no GID: %s", strerror(-ret));
	qp = rc.qp[0];
	mine.qpn = qp->qp_num;
	tell("end", &mine, sizeof(mine));
	hear("end", &peer, sizeof(peer));
	ret = rc_connect_to(qp, &peer.gid, peer.qpn);
	if (ret)
		errx(1, "cannot connect: %s", strerror(-ret));
}

/* ---- requests ---- */

static void post_recv(enum kind kind, size_t at, size_t len)
{
	struct ibv_sge sge = { .addr = (uintptr_t)mem[kind] + at, .length = len, .lkey = mr[kind]->lkey };
	struct ibv_recv_wr wr = { .sg_list = &sge, .num_sge = 1 }, *bad;

	if (ibv_post_recv(qp, &wr, &bad))
		errx(1, "ibv_post_recv");
}

/* Returns an errno. */
static int post(enum ibv_wr_opcode opcode, enum kind kind, enum kind remote, size_t at, size_t len)
{
	struct ibv_sge sge = { .addr = (uintptr_t)mem[kind] + at, .length = len, .lkey = mr[kind]->lkey };
	struct ibv_send_wr wr = {
		.sg_list = &sge, .num_sge = 1, .opcode = opcode, .send_flags = IBV_SEND_SIGNALED,
		.wr.rdma = { .remote_addr = peer.addr[remote] + at, .rkey = peer.rkey[remote] },
	}, *bad;

	return ibv_post_send(qp, &wr, &bad);
}

static enum ibv_wc_status poll_one(double end)
{
	struct ibv_wc wc;
	int n;

	do {
		n = ibv_poll_cq(rc.cq, 1, &wc);
		if (n < 0)
			errx(1, "ibv_poll_cq");
		if (n)
			return wc.status;
	} while (now() < end);
	errx(1, "no completion in time");
}

/* ---- data ---- */

static bool is_source(enum op op)
{
	return (op == READ) == (self == 'b');
}

static void data(void)
{
	static const enum ibv_wr_opcode opcodes[] = {
		[WRITE] = IBV_WR_RDMA_WRITE, [READ] = IBV_WR_RDMA_READ, [SEND] = IBV_WR_SEND,
	};
	const bool first = self == 'a';

	open_end();
	for (unsigned int i = 0; i < SLOTS; i++) {
		enum op op = i / (KINDS * KINDS);
		enum kind kind = first ? i / KINDS % KINDS : i % KINDS;

		if (is_source(op))
			pattern_fill(mem[kind] + i * SLOT, LEN + i, SEED + i);
		if (!first && op == SEND)
			post_recv(kind, i * SLOT, LEN + i);
	}
	meet("ready");
	for (unsigned int i = 0; i < SLOTS; i++) {
		enum op op = i / (KINDS * KINDS);
		enum ibv_wc_status status;

		if (!first && op != SEND)
			continue;
		if (first && post(opcodes[op], i / KINDS % KINDS, i % KINDS, i * SLOT, LEN + i))
			errx(1, "cannot post request %u", i);
		status = poll_one(now() + END_TIMEOUT_S);
		if (status)
			errx(1, "request %u: %s", i, ibv_wc_status_str(status));
	}
	meet("done");
	for (unsigned int i = 0; i < SLOTS; i++) {
		enum kind kind = first ? i / KINDS % KINDS : i % KINDS;

		if (!pattern_matches(mem[kind] + i * SLOT, LEN + i, SEED + i))
			errx(1, "slot %u has other bytes", i);
		if (kind == DEVICE && pattern_expect(VRAM_AT + i * SLOT, LEN + i, SEED + i))
			err(1, PATTERN_EXPECT_FILE);
	}
	printf("ok: %u requests\n", SLOTS);
}

/* ---- b goes ---- */

static void ask_in_background(const char *request)
{
	pid_t pid = fork();

	if (pid < 0)
		err(1, "fork");
	if (!pid)
		_exit(host_ask(request, END_TIMEOUT_S) ? 1 : 0);
}

static void expect_end(const char *request, bool survives)
{
	unsigned int posted = 0, done = 0;
	enum ibv_wc_status status;
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;
	double end = now() + END_TIMEOUT_S;
	int ret, child;

	do {
		while (posted - done < DEPTH)
			if (post(IBV_WR_RDMA_WRITE, posted % KINDS, posted / KINDS % KINDS, posted % SLOTS * SLOT, LEN))
				errx(1, "cannot post after %u requests", done);
			else
				posted++;
		status = poll_one(end);
		if (!status && ++done == ENOUGH) {
			ask_in_background(request);
			end = now() + END_TIMEOUT_S;
		}
	} while (!status);
	if (done < ENOUGH || status != IBV_WC_RETRY_EXC_ERR)
		errx(1, "request %u: %s", done, ibv_wc_status_str(status));
	for (done++; done < posted; done++) {
		status = poll_one(end);
		if (status != IBV_WC_WR_FLUSH_ERR)
			errx(1, "request %u: %s", done, ibv_wc_status_str(status));
	}
	if (ibv_query_qp(qp, &attr, IBV_QP_STATE, &init) || attr.qp_state != IBV_QPS_ERR)
		errx(1, "the QP is in state %d", attr.qp_state);
	/* An HCA that is unplugged may have its GID a little longer than its QPs. */
	ret = survives ? -ENETUNREACH : rc_connect_to(qp, &peer.gid, peer.qpn);
	if (ret != -ENETUNREACH)
		errx(1, "connecting to who is gone: %s", strerror(-ret));
	if (wait(&child) < 0 || child)
		errx(1, "the host did not do it");
	printf("ok: request %u was not answered, the others were flushed\n", done - DEPTH + 1);
}

static void lose(const char *request, bool survives)
{
	struct ibv_async_event event = { 0 };

	open_end();
	if (self == 'b')
		for (unsigned int i = 0; i < DEPTH; i++)
			post_recv(i % KINDS, i * SLOT % BUF, LEN);
	meet("ready");
	if (self == 'a') {
		expect_end(request, survives);
		tell("over", NULL, 0);
		return;
	}
	/* Without its HCA what is posted is flushed. A guest that is killed does not come to an end. */
	for (unsigned int i = 0; i < DEPTH; i++)
		if (poll_one(now() + PEER_TIMEOUT_S) != IBV_WC_WR_FLUSH_ERR)
			errx(1, "receive %u was not flushed", i);
	if (!survives)
		errx(1, "this guest was to be killed");
	if (ibv_get_async_event(rc.ctx, &event) || event.event_type != IBV_EVENT_DEVICE_FATAL)
		errx(1, "event %u, not that the device is gone", event.event_type);
	hear("over", NULL, 0);
	printf("ok: flushed\n");
}

int main(int argc, char **argv)
{
	if (argc != 3 || (strcmp(argv[1], "a") && strcmp(argv[1], "b")))
		errx(2, "usage: pair_test a|b data|kill|unplug");
	self = argv[1][0];
	other = self == 'a' ? 'b' : 'a';
	if (!strcmp(argv[2], "data"))
		data();
	else if (!strcmp(argv[2], "kill"))
		lose("peer kill", false);
	else if (!strcmp(argv[2], "unplug"))
		lose("peer device_del hca0", true);
	else
		errx(2, "not known: %s", argv[2]);
	return 0;
}
