// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * stress [-s SEED] [-n OPERATIONS] [-t SECONDS] [-w WORKERS]
 *
 * Worker processes do at random, each in a window of the device memory of its own: map, unmap,
 * register, deregister, transfer, fork. Meanwhile the device is reset and gets and loses a driver,
 * which takes the memory of all regions back, and workers are killed. Each worker knows what every
 * page of its window must hold, and what every call may answer. At the end check_vram looks at
 * all of it from outside.
 *
 * Ends when OPERATIONS were done, with as much of what is to disturb them as enough() wants, and fails
 * if that takes longer than SECONDS, or anything goes wrong. Which operations a worker does, and on
 * what, depends on SEED and on nothing else: each draws the same number of random values whatever it
 * finds. Where it is when memory is taken back, or when it is killed, and what others do at the same
 * moment depends on time, too.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "holds.h"
#include "pattern.h"
#include "rc_pair.h"
#include "sizes.h"

#define PAGES 64u			/* of a window */
#define WINDOW (PAGES * PAGE)
#define MAPS 4
#define REGIONS 8
#define BATCH 16		/* transfers at once */
#define MAX_WORKERS 4
#define APART 400		/* operations between two disturbances, on average */
#define RESET 16		/* one of so many revocations is a reset */
#define RW (PROT_READ | PROT_WRITE)

enum op { OP_MAP, OP_UNMAP, OP_REGISTER, OP_DEREGISTER, OP_WRITE, OP_READ, OP_LOOK, OP_FORK, OP_REVOKE,
	  OP_KILL, NUM_OPS };

static const char *const op_names[NUM_OPS] = {
	"map", "unmap", "register", "deregister", "write", "read", "look", "fork", "revoke", "kill",
};

/* What all processes share. */
struct shared {
	atomic_ulong count[NUM_OPS];
	atomic_ulong refused;	/* registrations, because memory was just being taken back */
	atomic_ulong revoked;	/* transfers with a key whose memory was taken back */
	atomic_uint begun;	/* revocations that have begun */
	atomic_uint finished;	/* that have returned */
	atomic_bool stop;
	atomic_bool failed;
};

struct mapping {
	uint8_t *addr;		/* NULL: none */
	unsigned int first, pages;	/* in the window */
	int prot;
};

struct region {
	struct ibv_mr *mr;	/* NULL: none */
	uint8_t *addr;
	unsigned int first, pages;	/* whole pages of the window that are in it */
	unsigned int begun;	/* revocations, when the registration had returned */
	unsigned int finished;	/* and before it began */
};

struct worker {
	struct shared *shared;
	unsigned int nr;
	uint64_t random;
	unsigned int drawn;	/* random values, for one operation */
	int fd;
	struct rc_pair pair;
	struct mapping maps[MAPS];
	struct region regions[REGIONS];
	uint8_t *host;
	struct ibv_mr *host_mr;
	uint32_t next;		/* pattern */
	uint32_t page[PAGES];	/* pattern in each page; 0: unknown */
};

static unsigned int seed = 1;

#define FAIL(w, ...) do { \
	printf("stress: seed %u, worker %u: ", seed, (w)->nr); \
	printf(__VA_ARGS__); \
	printf("\n"); \
	fflush(stdout); \
	atomic_store(&(w)->shared->failed, true); \
	atomic_store(&(w)->shared->stop, true); \
	_exit(1); \
} while (0)

/* xorshift64* */
static uint32_t next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dull >> 32;
}

static uint64_t random_start(unsigned int a, unsigned int b)
{
	uint64_t state = 0x9e3779b97f4a7c15ull * (seed + 1) + 0xbf58476d1ce4e5b9ull * (a + 1) +
			 0x94d049bb133111ebull * (b + 1);

	state = state ?: 1;
	for (int i = 0; i < 8; i++)
		next_random(&state);
	return state;
}

static uint32_t draw(struct worker *w)
{
	w->drawn++;
	return next_random(&w->random);
}

static unsigned int choose(struct worker *w, unsigned int n)
{
	return draw(w) % n;
}

static uint64_t window(const struct worker *w)
{
	return w->nr * WINDOW;
}

/* ---- operations ---- */

static void count(struct worker *w, enum op op)
{
	atomic_fetch_add(&w->shared->count[op], 1);
}

static void unmap(struct worker *w)
{
	struct mapping *m = &w->maps[choose(w, MAPS)];

	if (!m->addr)
		return;
	count(w, OP_UNMAP);
	/* The region that was made in it does not mind. */
	if (munmap(m->addr, m->pages * PAGE))
		FAIL(w, "munmap: %m");
	m->addr = NULL;
}

static void map(struct worker *w)
{
	struct mapping *m = &w->maps[choose(w, MAPS)];
	unsigned int first = choose(w, PAGES), pages = choose(w, PAGES - first) + 1;
	int prot = choose(w, 8) ? RW : PROT_READ;

	count(w, OP_MAP);
	if (m->addr)
		munmap(m->addr, m->pages * PAGE);
	m->addr = mmap(NULL, pages * PAGE, prot, MAP_SHARED, w->fd, window(w) + first * PAGE);
	if (m->addr == MAP_FAILED)
		FAIL(w, "mmap: %m");
	m->first = first;
	m->pages = pages;
	m->prot = prot;
}

static void drop(struct worker *w, struct region *r)
{
	int ret = ibv_dereg_mr(r->mr);

	if (ret)
		FAIL(w, "ibv_dereg_mr: %s", strerror(ret));
	r->mr = NULL;
	count(w, OP_DEREGISTER);
}

static void deregister(struct worker *w)
{
	struct region *r = &w->regions[choose(w, REGIONS)];

	if (r->mr)
		drop(w, r);
}

static void register_region(struct worker *w)
{
	struct mapping *m = &w->maps[choose(w, MAPS)];
	struct region *r = &w->regions[choose(w, REGIONS)];
	unsigned int page = draw(w), pages = draw(w), skip = choose(w, PAGE);
	bool past = !choose(w, 16);
	uint8_t *end;
	unsigned int begun;
	int want = 0, error;
	size_t len;

	if (choose(w, 2))
		skip = 0;
	if (!m->addr)
		return;
	count(w, OP_REGISTER);
	if (r->mr)
		drop(w, r);
	page %= m->pages;
	pages = pages % (m->pages - page) + 1;
	len = pages * PAGE - skip;
	/* Over the end of the mapping, where nothing is, or nothing that could be registered */
	end = m->addr + m->pages * PAGE;
	if (past && mmap(end, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != end)
		past = false;
	if (past) {
		len = (m->pages - page) * PAGE - skip + 1;
		want = EFAULT;
	}
	if (m->prot == PROT_READ)
		want = EACCES;

	r->finished = atomic_load(&w->shared->finished);
	r->mr = ibv_reg_mr(w->pair.pd, m->addr + page * PAGE + skip, len, RC_PAIR_ALL);
	error = errno;
	begun = atomic_load(&w->shared->begun);
	r->begun = begun;
	if (past)
		munmap(end, PAGE);
	if (r->mr && want)
		FAIL(w, "registered what must give %s", strerrorname_np(want));
	if (!r->mr && error == ENODEV) {
		/* Only while a revocation is going on */
		if (begun == r->finished)
			FAIL(w, "ENODEV without a reason");
		atomic_fetch_add(&w->shared->refused, 1);
		return;
	}
	if (!r->mr && error != want)
		FAIL(w, "ibv_reg_mr: %s, not %s", strerrorname_np(error), strerrorname_np(want));
	if (!r->mr)
		return;
	r->first = m->first + page + !!skip;
	r->pages = pages - !!skip;
	r->addr = m->addr + (page + !!skip) * PAGE;
}

struct transfer {
	struct region *region;
	unsigned int first, pages;	/* in the window */
	bool write;			/* to the device memory */
	bool local;			/* with the key as local one */
	uint8_t *host;
};

/* A part of a random region in which none of the pages of @taken is; false if that is not to be had. */
static bool choose_transfer(struct worker *w, struct transfer *t, uint64_t *taken)
{
	struct region *r = &w->regions[choose(w, REGIONS)];
	unsigned int page = draw(w), pages = draw(w);
	bool large = !choose(w, 32);
	uint64_t mask;

	t->write = choose(w, 2);
	t->local = choose(w, 2);
	if (!r->mr || !r->pages)
		return false;
	page %= r->pages;
	t->pages = pages % (r->pages - page) + 1;
	if (t->pages > 2 && !large)
		t->pages = 2;
	t->region = r;
	t->first = r->first + page;
	t->host = w->host + t->first * PAGE;
	mask = (t->pages < PAGES ? (1ull << t->pages) - 1 : ~0ull) << t->first;
	if (*taken & mask)
		return false;
	*taken |= mask;
	return true;
}

static void post_transfer(struct worker *w, const struct transfer *t, uint64_t id)
{
	uint8_t *dev = t->region->addr + (t->first - t->region->first) * PAGE;
	struct ibv_sge sge = {
		.addr = (uintptr_t)(t->local ? dev : t->host), .length = t->pages * PAGE,
		.lkey = t->local ? t->region->mr->lkey : w->host_mr->lkey,
	};
	struct ibv_send_wr wr = {
		.wr_id = id, .sg_list = &sge, .num_sge = 1, .send_flags = IBV_SEND_SIGNALED,
		.opcode = t->write == t->local ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE,
		.wr.rdma = {
			.remote_addr = (uintptr_t)(t->local ? t->host : dev),
			.rkey = t->local ? w->host_mr->rkey : t->region->mr->rkey,
		},
	}, *bad;

	for (unsigned int i = 0; t->write && i < t->pages; i++) {
		pattern_fill(t->host + i * PAGE, PAGE, w->next + t->first + i);
		w->page[t->first + i] = 0;
	}
	if (ibv_post_send(w->pair.qp[0], &wr, &bad))
		FAIL(w, "ibv_post_send: %m");
}

/* A transfer that succeeded, after @finished revocations */
static void check_transfer(struct worker *w, const struct transfer *t, unsigned int finished)
{
	/* A revocation began after the registration, and was over before the transfer. */
	if (finished > t->region->begun)
		FAIL(w, "transferred with a revoked key");
	for (unsigned int i = 0; i < t->pages; i++) {
		uint32_t *known = &w->page[t->first + i];

		if (t->write)
			*known = w->next + t->first + i;
		else if (*known && !pattern_matches(t->host + i * PAGE, PAGE, *known))
			FAIL(w, "page %u: the HCA does not read pattern %u", t->first + i, *known);
	}
}

static void check_failure(struct worker *w, const struct transfer *t, enum ibv_wc_status status)
{
	enum ibv_wc_status want = t->local ? IBV_WC_LOC_PROT_ERR : IBV_WC_REM_ACCESS_ERR;
	int ret;

	if (status != want)
		FAIL(w, "transfer: status %d, not %d", status, want);
	if (atomic_load(&w->shared->begun) == t->region->finished)
		FAIL(w, "transfer: status %d without a reason", status);
	atomic_fetch_add(&w->shared->revoked, 1);
	ret = rc_pair_connect(&w->pair);
	if (ret)
		FAIL(w, "connect: %s", strerror(-ret));
	/* It will not work any more. */
	drop(w, t->region);
}

static void transfer(struct worker *w)
{
	unsigned int finished = atomic_load(&w->shared->finished), n = 0;
	struct transfer batch[BATCH], *failed = NULL;
	enum ibv_wc_status status = IBV_WC_SUCCESS;
	uint64_t taken = 0;
	struct ibv_wc wc;
	int ret;

	for (unsigned int i = 0; i < BATCH; i++)
		if (choose_transfer(w, &batch[n], &taken))
			post_transfer(w, &batch[n], n), n++;
	for (unsigned int i = 0; i < n; i++) {
		ret = rc_pair_poll(&w->pair, &wc);
		if (ret || wc.wr_id != i)
			FAIL(w, "completion: %s", strerror(-ret));
		if (!wc.status) {
			check_transfer(w, &batch[i], finished);
		} else if (!failed) {
			failed = &batch[i];
			status = wc.status;
		} else if (wc.status != IBV_WC_WR_FLUSH_ERR) {
			FAIL(w, "transfer: status %d after an error", wc.status);
		}
		count(w, batch[i].write ? OP_WRITE : OP_READ);
	}
	if (n)
		w->next += PAGES;
	if (failed)
		check_failure(w, failed, status);
}

/* With the CPU. A device that is being reset does not answer. */
static void look(struct worker *w)
{
	struct mapping *m = &w->maps[choose(w, MAPS)];
	unsigned int page = draw(w);

	if (!m->addr)
		return;
	page %= m->pages;
	if (!w->page[m->first + page])
		return;
	count(w, OP_LOOK);
	for (int i = 0; i < 1000; i++) {
		if (pattern_matches(m->addr + page * PAGE, PAGE, w->page[m->first + page]))
			return;
		usleep(10000);
	}
	FAIL(w, "page %u: the CPU does not see pattern %u", m->first + page, w->page[m->first + page]);
}

static void fork_child(struct worker *w)
{
	unsigned int what = choose(w, 3);
	int status;
	pid_t pid;

	count(w, OP_FORK);
	pid = fork();
	if (pid < 0)
		FAIL(w, "fork: %m");
	if (!pid) {
		/* All of this is the child's own. */
		for (int i = 0; what && i < MAPS; i++)
			if (w->maps[i].addr)
				munmap(w->maps[i].addr, w->maps[i].pages * PAGE);
		if (what == 2)
			raise(SIGKILL);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status != (what == 2 ? SIGKILL : 0))
		FAIL(w, "child: status %#x", status);
}

static void work(struct worker *w)
{
	static const struct { unsigned int weight, draws; void (*go)(struct worker *w); } ops[] = {
		{ 60, 4, map }, { 20, 1, unmap }, { 180, 7, register_region }, { 40, 1, deregister },
		{ 497, 6 * BATCH, transfer }, { 200, 2, look }, { 3, 1, fork_child },
	};
	unsigned int at = choose(w, 1000), i = 0;

	while (at >= ops[i].weight)
		at -= ops[i++].weight;
	w->drawn = 0;
	ops[i].go(w);
	if (w->drawn != ops[i].draws)
		FAIL(w, "operation %u depends on what it finds: %u random values", i, w->drawn);
}

/* ---- a worker's life ---- */

static void begin(struct worker *w)
{
	uint64_t size;
	int ret;

	w->fd = vram_open(O_RDWR, &size);
	if (w->fd < 0 || size < MAX_WORKERS * WINDOW)
		FAIL(w, "no device memory, or too little");
	ret = rc_pair_open(&w->pair, NULL);
	if (ret)
		FAIL(w, "QPs: %s", strerror(-ret));
	w->host = mmap(NULL, WINDOW, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	w->host_mr = ibv_reg_mr(w->pair.pd, w->host, WINDOW, RC_PAIR_ALL);
	if (!w->host_mr)
		FAIL(w, "ordinary memory: %m");
}

/* Leaves no page unknown, and tells check_vram. */
static void finish(struct worker *w)
{
	uint8_t *dev = mmap(NULL, WINDOW, RW, MAP_SHARED, w->fd, window(w));

	for (int i = 0; i < REGIONS; i++)
		if (w->regions[i].mr)
			drop(w, &w->regions[i]);
	for (unsigned int i = 0; i < PAGES; i++) {
		if (!w->page[i]) {
			w->page[i] = w->next++;
			pattern_fill(dev + i * PAGE, PAGE, w->page[i]);
		}
		if (pattern_expect(window(w) + i * PAGE, PAGE, w->page[i]))
			FAIL(w, "/out: %m");
	}
	if (ibv_dereg_mr(w->host_mr))
		FAIL(w, "ordinary memory: %m");
	rc_pair_close(&w->pair);
}

static pid_t start(struct shared *shared, unsigned int nr, unsigned int life)
{
	struct worker w = { .shared = shared, .nr = nr, .next = 1 + life * 10000000 };
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	w.random = random_start(nr, life);
	begin(&w);
	while (!atomic_load(&shared->stop))
		work(&w);
	finish(&w);
	_exit(0);
}

/* ---- what happens to them ---- */

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) >= 0;

	if (!ok)
		printf("stress: %s: %m\n", path);
	close(fd);
	return ok;
}

static bool write_device(const char *file, const char *text)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", getenv("VRAM_BDF"), file);
	return write_file(path, text);
}

static bool take_back(struct shared *shared, bool reset)
{
	bool ok;

	atomic_fetch_add(&shared->begun, 1);
	if (reset)
		ok = write_device("reset", "1");
	else
		ok = write_file("/sys/bus/pci/drivers/pci-stub/bind", getenv("VRAM_BDF"));
	atomic_fetch_add(&shared->finished, 1);
	atomic_fetch_add(&shared->count[OP_REVOKE], 1);
	return ok && (reset || write_file("/sys/bus/pci/drivers/pci-stub/unbind", getenv("VRAM_BDF")));
}

static unsigned long total(struct shared *shared)
{
	unsigned long sum = 0;

	for (int i = 0; i < NUM_OPS; i++)
		sum += atomic_load(&shared->count[i]);
	return sum;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static bool ended_well(pid_t pid, int want)
{
	int status;

	for (int i = 0; i < 3000; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid) {
			if (status != want)
				printf("stress: a worker ended with %#x\n", status);
			return status == want;
		}
		usleep(10000);
	}
	printf("stress: a worker does not end\n");
	return false;
}

/*
 * Were the @operations disturbed? The least that is asked for is well below what to expect; a fast
 * machine, whose workers do much while a device is reset, does more operations until it is there.
 */
static bool enough(struct shared *shared, unsigned long operations)
{
	return total(shared) >= operations &&
	       atomic_load(&shared->count[OP_REVOKE]) >= operations / 1000 &&
	       atomic_load(&shared->count[OP_KILL]) >= operations / 4000 &&
	       atomic_load(&shared->revoked) >= operations / 500 &&
	       atomic_load(&shared->refused) >= operations / 10000;
}

/* Until @end operations were done, or it is time to stop; false then. */
static bool wait_operations(struct shared *shared, unsigned long end, double deadline)
{
	while (!atomic_load(&shared->stop)) {
		if (now() > deadline) {
			printf("stress: not all of it in time\n");
			return false;
		}
		if (total(shared) >= end)
			return true;
		usleep(100);
	}
	return false;
}

/* Until there were @operations; false when something went wrong. */
static bool disturb(struct shared *shared, pid_t *pids, unsigned int workers, unsigned long operations,
		    double deadline)
{
	unsigned int life = 0, revocations = 0;
	uint64_t random = random_start(1000, 0);

	while (!enough(shared, operations)) {
		unsigned int what = next_random(&random) % 32, nr = next_random(&random) % workers;
		unsigned int wait = next_random(&random) % (2 * APART);

		if (!wait_operations(shared, total(shared) + wait, deadline))
			return false;
		if (what < 20) {
			if (!take_back(shared, !(revocations++ % RESET)))
				return false;
		} else if (what < 28) {
			kill(pids[nr], SIGKILL);
			if (!ended_well(pids[nr], SIGKILL))
				return false;
			atomic_fetch_add(&shared->count[OP_KILL], 1);
			pids[nr] = start(shared, nr, ++life);
		}
	}
	return true;
}

static bool stress(struct shared *shared, unsigned int workers, unsigned long operations,
		   double deadline)
{
	pid_t pids[MAX_WORKERS];
	struct holds before;
	bool ok;

	if (holds_read(&before) || !write_device("driver_override", "pci-stub"))
		return false;
	for (unsigned int i = 0; i < workers; i++)
		pids[i] = start(shared, i, 0);
	ok = disturb(shared, pids, workers, operations, deadline);
	atomic_store(&shared->stop, true);
	for (unsigned int i = 0; i < workers; i++)
		ok &= ended_well(pids[i], 0);
	ok &= write_device("driver_override", "\n");
	/* The BAR has a buffer of its own since it was mapped. */
	before.buf_refs = 1;
	return ok && holds_settle(&before) && !atomic_load(&shared->failed);
}

int main(int argc, char **argv)
{
	unsigned long operations = 100000;
	unsigned int workers = 2;
	struct shared *shared;
	double start = now();
	int seconds = 240;
	bool ok;
	int c;

	while ((c = getopt(argc, argv, "s:n:t:w:")) != -1) {
		switch (c) {
		case 's': seed = strtoul(optarg, NULL, 0); break;
		case 'n': operations = strtoul(optarg, NULL, 0); break;
		case 't': seconds = atoi(optarg); break;
		case 'w': workers = strtoul(optarg, NULL, 0); break;
		default: return 2;
		}
	}
	if (!workers || workers > MAX_WORKERS) {
		fprintf(stderr, "stress: 1 to %d workers\n", MAX_WORKERS);
		return 2;
	}
	shared = mmap(NULL, sizeof(*shared), RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 1;

	ok = stress(shared, workers, operations, start + seconds);
	printf("stress: seed %u, %lu operations in %.1f s:", seed, total(shared), now() - start);
	for (int i = 0; i < NUM_OPS; i++)
		printf(" %lu %s,", atomic_load(&shared->count[i]), op_names[i]);
	printf(" %lu refused, %lu revoked keys; %s\n", atomic_load(&shared->refused),
	       atomic_load(&shared->revoked), ok ? "ok" : "FAILED");
	return !ok;
}
