// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * What messages through doorbells and rings cost, and waking the device, for ./run bench traffic: two guests made of memory
 * with a device process between them, which is this one; no QEMU, and no software of the guests.
 *
 *	device_cost [ROUNDS]
 *
 * Prints what result.h says; rounds of all kinds of a series take turns.
 *
 *	device-size	ns per write of x bytes, 64 posted at once: memcpy, write
 *	device-qps	ns per write of 64 bytes with x QPs connected of which one sends: "stream", 64 posted at once,
 *			and "ping", one after the other
 *	doorbell	ns that ringing takes while the device is awake, x times; "kicks" per doorbell
 *	latency		ns from posting a write of 8 bytes to its completion, after a pause of x us: "awake", "nap" (it looks now
 *			and then), "asleep" (needs a kick); "one core": awake, both threads confined to one core
 *	idle		CPU ns of the process in a second of sleep, with x QPs connected
 */
#define _GNU_SOURCE
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "front_client.h"
#include "result.h"

#define DEFAULT_ROUNDS	11
#define SMALL		64u
#define TINY		8u
#define BATCH		(1u << GUEST_WR_LOG)
#define BATCH_BYTES	(4u << 20)
#define BATCHES		101u
#define PINGS		500u
#define RINGS		1000u
#define WAIT_MS		10000
#define NAP_PAUSE_US	500u		/* longer than it spins, shorter than it takes naps */
#define ASLEEP_PINGS	100u
#define IDLE_US		200000u
#define FIRST_IDLE_QPN	256u

static const uint32_t sizes[] = { SMALL, 4096, 65536, 1 << 20 };
static const uint32_t qp_numbers[] = { 1, 100, 10000 };

static unsigned int rounds;

static uint64_t wall_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static double median(double *values, unsigned int num)
{
	qsort(values, num, sizeof(*values), compare);
	return values[num / 2];
}

/* ---- messages ---- */

static void take_cqe(struct front *t)
{
	uint64_t deadline = 0;
	struct simhca_cqe cqe;
	unsigned int i;

	/* No pause: who waits for a message polls. */
	for (i = 1; !guest_poll(&t->cq[0], &cqe); i++) {
		if (i % 65536)
			continue;
		if (!deadline)
			deadline = wall_ns() + WAIT_MS * 1000000ull;
		assert_true(wall_ns() < deadline);
	}
	assert_int_equal(cqe.status, SIMHCA_WC_SUCCESS);
}

static void post_write(struct front *t, uint32_t size, bool signaled)
{
	const struct simhca_sq_wqe wqe = {
		.opcode = SIMHCA_WR_RDMA_WRITE,
		.flags = signaled ? SIMHCA_WR_SIGNALED : 0,
		.num_sge = 1,
		.rkey = GUEST_KEY,
		.remote_addr = t->buf[1],
	};

	guest_post_send(&t->qp[0], &wqe, t->buf[0], size, GUEST_KEY);
}

/* Posts @n messages and rings once; the last one says that all are done. */
static uint64_t stream(struct front *t, uint32_t size, uint32_t n)
{
	uint64_t start;
	uint32_t i;

	for (i = 0; i < n; i++)
		post_write(t, size, i == n - 1);
	start = wall_ns();
	guest_ring(&t->qp[0]);
	take_cqe(t);
	return wall_ns() - start;
}

static uint64_t copy_batch(struct front *t, uint32_t size, uint32_t n)
{
	static void *(*volatile copy)(void *, const void *, size_t) = memcpy;
	void *from = guest_ptr(&t->g[0], t->buf[0]), *to = guest_ptr(&t->g[1], t->buf[1]);
	uint64_t start = wall_ns();

	while (n--)
		copy(to, from, size);
	return wall_ns() - start;
}

/* The median of many batches of what @batch does: others may want the cores, too. */
static double batches(struct front *t, uint32_t size,
		      uint64_t (*batch)(struct front *, uint32_t, uint32_t))
{
	uint32_t n = BATCH_BYTES / size < BATCH ? BATCH_BYTES / size : BATCH;
	double ns[BATCHES];
	unsigned int i;

	for (i = 0; i < BATCHES; i++)
		ns[i] = (double)batch(t, size, n) / n;
	return median(ns, BATCHES);
}

/* @pause_us between messages, or until the device sleeps when that is UINT32_MAX. */
static double ping_round(struct front *t, uint32_t n, uint32_t pause_us)
{
	const struct simhca_status_page *status = guest_status(&t->g[0]);
	double ns[PINGS];
	uint32_t i;

	for (i = 0; i < n; i++) {
		uint64_t start;

		if (pause_us == UINT32_MAX)
			while (!__atomic_load_n(&status->asleep, __ATOMIC_RELAXED))
				usleep(NAP_PAUSE_US);
		else if (pause_us)
			usleep(pause_us);
		post_write(t, TINY, true);
		start = wall_ns();
		guest_ring(&t->qp[0]);
		take_cqe(t);
		ns[i] = wall_ns() - start;
	}
	return median(ns, n);
}

static uint64_t wakeups(struct guest *g)
{
	struct simhca_cmd cmd = { .opcode = SIMHCA_CMD_QUERY_STATS, .out_addr = g->out };

	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_OK);
	return ((struct simhca_stats *)guest_ptr(g, g->out))->wakeups;
}

/* ---- a pair of guests, with @num QPs connected ---- */

static struct front *pair_new(uint32_t num)
{
	struct front *t;
	struct guest *g;
	void *state;
	uint32_t i;

	front_setup_with(&state, POLLER_NAPS, SIMHCA_MAX_MRS - 1);
	t = state;
	front_connect(t);
	memset(guest_ptr(&t->g[0], t->buf[0]), 1, GUEST_BUF_SIZE);
	memset(guest_ptr(&t->g[1], t->buf[1]), 2, GUEST_BUF_SIZE);
	g = &t->g[0];
	for (i = 1; i < num; i++) {
		uint64_t used = g->ram_used;
		struct guest_qp qp;

		assert_int_equal(guest_create_qp(g, &qp, FIRST_IDLE_QPN + i, &t->cq[0]),
				 SIMHCA_CMD_OK);
		guest_connect(&qp, &t->qp[1]);
		/* They stay idle: one memory is enough for the queues of all. */
		g->ram_used = used;
	}
	return t;
}

static void pair_free(struct front *t)
{
	void *state = t;

	front_teardown(&state);
}

/* ---- series ---- */

static void measure_sizes(struct front *t)
{
	double ns[2][NUM(sizes)][rounds];
	unsigned int i, r;

	for (r = 0; r < rounds; r++) {
		for (i = 0; i < NUM(sizes); i++) {
			ns[0][i][r] = batches(t, sizes[i], copy_batch);
			ns[1][i][r] = batches(t, sizes[i], stream);
		}
	}
	for (i = 0; i < NUM(sizes); i++) {
		print_result("device-size", "memcpy", sizes[i], ns[0][i], rounds);
		print_result("device-size", "write", sizes[i], ns[1][i], rounds);
	}
}

static void measure_idle(struct front *t, uint32_t num)
{
	double ns;
	uint64_t start;

	while (!__atomic_load_n(&guest_status(&t->g[0])->asleep, __ATOMIC_RELAXED))
		usleep(NAP_PAUSE_US);
	start = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	usleep(IDLE_US);
	ns = (clock_ns(CLOCK_PROCESS_CPUTIME_ID) - start) * 1e6 / IDLE_US;
	print_result("idle", "cpu", num, &ns, 1);
}

static void measure_qps(void)
{
	double ns[2][NUM(qp_numbers)][rounds];
	struct front *t[NUM(qp_numbers)];
	unsigned int i, r;

	for (i = 0; i < NUM(qp_numbers); i++)
		t[i] = pair_new(qp_numbers[i]);
	for (r = 0; r < rounds; r++) {
		for (i = 0; i < NUM(qp_numbers); i++) {
			ns[0][i][r] = batches(t[i], SMALL, stream);
			ns[1][i][r] = ping_round(t[i], PINGS, 0);
		}
	}
	for (i = 0; i < NUM(qp_numbers); i++) {
		print_result("device-qps", "stream", qp_numbers[i], ns[0][i], rounds);
		print_result("device-qps", "ping", qp_numbers[i], ns[1][i], rounds);
		measure_idle(t[i], qp_numbers[i]);
	}
	for (i = 0; i < NUM(qp_numbers); i++)
		pair_free(t[i]);
}

static void measure_doorbell(struct front *t)
{
	double ns[rounds], kicks;
	unsigned int r, i;
	uint64_t start, before = wakeups(&t->g[0]);

	for (r = 0; r < rounds; r++) {
		stream(t, SMALL, 1);
		start = wall_ns();
		for (i = 0; i < RINGS; i++)
			guest_ring(&t->qp[0]);
		ns[r] = (double)(wall_ns() - start) / RINGS;
	}
	kicks = (double)(wakeups(&t->g[0]) - before) / (rounds * RINGS);
	print_result("doorbell", "ns", RINGS, ns, rounds);
	print_result("doorbell", "kicks", RINGS, &kicks, 1);
}

static void measure_latency(struct front *t)
{
	enum { AWAKE, NAP, ASLEEP, ONE_CORE, KINDS };
	static const char *const names[] = {
		[AWAKE] = "awake", [NAP] = "nap", [ASLEEP] = "asleep", [ONE_CORE] = "one core",
	};
	double ns[KINDS][rounds];
	cpu_set_t all, one;
	struct front *same;
	unsigned int r, kind;

	/* The threads of a device inherit where its creator may run. */
	sched_getaffinity(0, sizeof(all), &all);
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	same = pair_new(1);
	sched_setaffinity(0, sizeof(all), &all);

	for (r = 0; r < rounds; r++) {
		ns[AWAKE][r] = ping_round(t, PINGS, 0);
		ns[NAP][r] = ping_round(t, ASLEEP_PINGS, NAP_PAUSE_US);
		ns[ASLEEP][r] = ping_round(t, ASLEEP_PINGS, UINT32_MAX);
		sched_setaffinity(0, sizeof(one), &one);
		ns[ONE_CORE][r] = ping_round(same, PINGS, 0);
		sched_setaffinity(0, sizeof(all), &all);
	}
	for (kind = 0; kind < KINDS; kind++)
		print_result("latency", names[kind], kind == NAP ? NAP_PAUSE_US : 0, ns[kind], rounds);
	pair_free(same);
}

int main(int argc, char **argv)
{
	struct front *t;

	rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : DEFAULT_ROUNDS;
	if (argc > 2 || !rounds) {
		fprintf(stderr, "usage: device_cost [ROUNDS]\n");
		return 2;
	}
	t = pair_new(1);
	measure_sizes(t);
	measure_doorbell(t);
	measure_latency(t);
	pair_free(t);
	measure_qps();
	return 0;
}
