// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Registration while another thread changes the mapping, or takes the device away: it succeeds or
 * fails with the errno of the one reason that there is. What it gives works until its memory is taken
 * back, and not a moment longer. Sometimes a third thread looks at all regions meanwhile.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/netlink.h>
#include <pthread.h>
#include <rdma/rdma_netlink.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "file.h"
#include "holds.h"
#include "kselftest_harness.h"
#include "rc_pair.h"
#include "sizes.h"

#define LEN MIB
#define RW (PROT_READ | PROT_WRITE)
#define WORKERS 2
#define KEEP 8			/* regions that a registrar has open */
#define MAPPERS 6		/* more than processors: one that waits for its turn has been stopped anywhere */
#define USE 5			/* each of so many that it makes is used */
#define AGAIN 2			/* so many of the open ones, when memory was taken back */

FIXTURE(race) {
	struct rc_pair pair;
	struct holds before;
	int fd;
	uint8_t *dev;		/* LEN bytes of device memory, in which the other thread is at work */
	size_t len;		/* how many of them are registered */
	uint8_t *eyes;		/* the same memory, left alone */
	uint8_t *host;
	struct ibv_mr *host_mr;
	atomic_bool stop;
	atomic_ulong done;	/* registrations that succeeded */
	atomic_ulong refused[134];	/* that did not, by errno */
	atomic_ulong moved;	/* bytes through a region that was just made */
	atomic_ulong revoked;	/* that could not be moved: memory was taken back meanwhile, or before */
	atomic_ulong lost;	/* of these, before: it must not move */
	atomic_ulong rounds;	/* of the other thread */
	atomic_uint begun;	/* revocations that have begun */
	atomic_uint finished;	/* that have returned */
	atomic_int error;
	bool remap;		/* the mapping dies, and has to be made again */
	bool dump;		/* somebody looks */
	unsigned long dumped;	/* and has seen regions so many times */
};

/* A thread that makes regions, and what it moves a byte with */
struct worker {
	FIXTURE_DATA(race) *race;
	unsigned int nr;
	struct rc_pair pair;
	uint8_t *host;		/* a page to move to and from, and LEN bytes */
	struct ibv_mr *host_mr;	/* of that page */
	atomic_uint ready;	/* how many revocations it has prepared for */
};

/* What a worker makes in the device memory */
struct region {
	struct ibv_mr *mr;	/* NULL: none */
	unsigned int finished;	/* revocations, before it was made */
	unsigned int begun;	/* when it was there */
};

/* Of ordinary memory: nobody takes it back. */
#define NEVER_REVOKED UINT_MAX

FIXTURE_SETUP(race)
{
	uint64_t size;

	self->fd = vram_open(O_RDWR, &size);
	ASSERT_GE(self->fd, 0);
	self->dev = mmap(NULL, LEN, RW, MAP_SHARED, self->fd, 0);
	ASSERT_NE(MAP_FAILED, self->dev);
	self->len = LEN;
	self->eyes = mmap(NULL, LEN, RW, MAP_SHARED, self->fd, 0);
	ASSERT_NE(MAP_FAILED, self->eyes);
	ASSERT_EQ(0, rc_pair_open(&self->pair, NULL));
	self->host = mmap(NULL, LEN, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->host);
	self->host_mr = ibv_reg_mr(self->pair.pd, self->host, LEN, RC_PAIR_ALL);
	ASSERT_NE(NULL, self->host_mr);
	ASSERT_EQ(0, holds_read(&self->before));
}

FIXTURE_TEARDOWN(race)
{
	EXPECT_TRUE(holds_settle(&self->before));
	EXPECT_EQ(0, ibv_dereg_mr(self->host_mr));
	rc_pair_close(&self->pair);
	close(self->fd);
}

static void failed(FIXTURE_DATA(race) *self, int error)
{
	atomic_store(&self->error, error ?: -EIO);
	atomic_store(&self->stop, true);
}

/* The device file is not there at all times, and neither is its memory. */
static uint8_t *map_again(FIXTURE_DATA(race) *self)
{
	uint8_t *dev = MAP_FAILED;
	uint64_t size;
	int fd;

	while (dev == MAP_FAILED && !atomic_load(&self->stop)) {
		fd = vram_open(O_RDWR, &size);
		if (fd < 0)
			continue;
		dev = mmap(NULL, LEN, RW, MAP_SHARED, fd, 0);
		close(fd);
	}
	return dev;
}

static bool worker_open(struct worker *w)
{
	if (rc_pair_open(&w->pair, NULL))
		return false;
	w->host = mmap(NULL, PAGE + LEN, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (w->host == MAP_FAILED)
		return false;
	w->host_mr = ibv_reg_mr(w->pair.pd, w->host, PAGE, RC_PAIR_ALL);
	return w->host_mr;
}

static void worker_close(struct worker *w)
{
	if (ibv_dereg_mr(w->host_mr))
		failed(w->race, -errno);
	munmap(w->host, PAGE + LEN);
	rc_pair_close(&w->pair);
}

/*
 * A byte into the middle of @mr through the remote key, and back through the local one. Returns 0,
 * -EKEYREVOKED when the key did not let it through, or what went wrong.
 */
static int move(struct worker *w, struct ibv_mr *mr)
{
	uint8_t *at = (uint8_t *)mr->addr + mr->length / 2 + w->nr;
	enum ibv_wc_status fenced = IBV_WC_REM_ACCESS_ERR;
	int ret;

	w->host[0]++;
	w->host[1] = ~w->host[0];
	ret = rc_pair_rdma(&w->pair, IBV_WR_RDMA_WRITE, w->host, w->host_mr->lkey, 1, at, mr->rkey);
	if (!ret) {
		fenced = IBV_WC_LOC_PROT_ERR;
		ret = rc_pair_rdma(&w->pair, IBV_WR_RDMA_WRITE, at, mr->lkey, 1, w->host + 1,
				   w->host_mr->rkey);
	}
	if (!ret)
		return w->host[0] == w->host[1] ? 0 : -EBADMSG;
	if (ret > 0)
		ret = ret == (int)fenced ? -EKEYREVOKED : -EPROTO;
	return rc_pair_connect(&w->pair) ?: ret;
}

/*
 * It does not work when a revocation has begun after it was made and is over. While one goes on, or if
 * one did while it was made, both may be. Whether it works.
 */
static bool use(struct worker *w, const struct region *r)
{
	unsigned int finished = atomic_load(&w->race->finished);
	int ret = move(w, r->mr);

	if (!ret && finished > r->begun) {
		printf("# revocation %u has let a region escape\n", finished);
		failed(w->race, -EKEYREJECTED);
	} else if (!ret) {
		atomic_fetch_add(&w->race->moved, 1);
	} else if (ret == -EKEYREVOKED && atomic_load(&w->race->begun) > r->finished) {
		atomic_fetch_add(&w->race->revoked, 1);
		if (finished > r->begun)
			atomic_fetch_add(&w->race->lost, 1);
	} else {
		failed(w->race, ret);
	}
	return !ret;
}

static void refused(FIXTURE_DATA(race) *self, int error)
{
	atomic_fetch_add(&self->refused[error < 133 ? error : 133], 1);
}

static void drop(struct worker *w, struct region *r)
{
	if (r->mr && ibv_dereg_mr(r->mr))
		failed(w->race, -errno);
	r->mr = NULL;
}

/* The regions of a registrar */
struct regions {
	struct region open[KEEP];
	unsigned int made;	/* the newest is open[(made - 1) % KEEP] */
	struct region sure;	/* made after one revocation and before the next */
	struct region doubt;	/* made while one went on */
};

/*
 * Memory was taken back: uses some of the regions again. An open one that still works was made while
 * that went on. It may be on the new buffer, or have escaped with the old one: the next revocation
 * must find it.
 */
static void use_again(struct worker *w, struct regions *all)
{
	if (all->sure.mr)
		use(w, &all->sure);
	drop(w, &all->sure);
	if (all->doubt.mr)
		use(w, &all->doubt);
	drop(w, &all->doubt);
	for (unsigned int i = 1; i <= AGAIN; i++) {
		struct region *r = &all->open[(all->made - i) % KEEP];

		if (r->mr && use(w, r)) {
			drop(w, &all->doubt);
			all->doubt = *r;
			r->mr = NULL;
		}
	}
}

static void add(struct worker *w, struct regions *all, const struct region *new)
{
	struct region *old = &all->open[all->made % KEEP];

	if (!(all->made % USE))
		use(w, new);
	if (!all->sure.mr && new->begun == new->finished) {
		all->sure = *new;
		atomic_store(&w->ready, new->finished + 1);
		return;
	}
	drop(w, old);
	*old = *new;
	all->made++;
}

static void *registrar(void *arg)
{
	struct worker *w = arg;
	FIXTURE_DATA(race) *self = w->race;
	uint8_t *dev = self->remap ? MAP_FAILED : self->dev;
	struct regions all = {};
	unsigned int seen = 0;

	while (!atomic_load(&self->stop)) {
		struct region new = { .finished = atomic_load(&self->finished) };

		if (new.finished != seen) {
			use_again(w, &all);
			seen = new.finished;
		}
		if (dev == MAP_FAILED)
			dev = map_again(self);
		if (dev == MAP_FAILED)
			break;
		new.mr = ibv_reg_mr(w->pair.pd, dev, self->len, RC_PAIR_ALL);
		if (new.mr) {
			new.begun = atomic_load(&self->begun);
			atomic_fetch_add(&self->done, 1);
			add(w, &all, &new);
			continue;
		}
		refused(self, errno);
		/* Its device has gone; another may have come. */
		if (self->remap) {
			munmap(dev, LEN);
			dev = MAP_FAILED;
		}
	}
	if (atomic_load(&self->finished) != seen)
		use_again(w, &all);
	drop(w, &all.sure);
	drop(w, &all.doubt);
	for (int i = 0; i < KEEP; i++)
		drop(w, &all.open[i]);
	if (self->remap && dev != MAP_FAILED)
		munmap(dev, LEN);
	return NULL;
}

/*
 * Moves one region between ordinary memory and the device memory. To ordinary memory that works
 * always, whatever became of the memory before; otherwise the region stays what it was. Now and then
 * it stays in the device memory until that has been taken back.
 */
static void *changer(void *arg)
{
	struct worker *w = arg;
	FIXTURE_DATA(race) *self = w->race;
	struct region r = { .finished = NEVER_REVOKED, .begun = NEVER_REVOKED };
	uint8_t *ordinary = w->host + PAGE;
	unsigned int made = 0;

	atomic_store(&w->ready, UINT_MAX);
	r.mr = ibv_reg_mr(w->pair.pd, ordinary, LEN, RC_PAIR_ALL);
	if (!r.mr) {
		failed(self, -errno);
		return NULL;
	}
	for (bool to_device = true; !atomic_load(&self->stop); to_device = !to_device) {
		unsigned int finished = atomic_load(&self->finished);

		errno = 0;
		if (!ibv_rereg_mr(r.mr, IBV_REREG_MR_CHANGE_TRANSLATION, NULL,
				  to_device ? self->dev : ordinary, LEN, 0)) {
			r.finished = to_device ? finished : NEVER_REVOKED;
			r.begun = to_device ? atomic_load(&self->begun) : NEVER_REVOKED;
			if (to_device)
				atomic_fetch_add(&self->done, 1);
			/* What is fenced stays so when rights change. */
			if (to_device && ibv_rereg_mr(r.mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0,
						      RC_PAIR_ALL))
				failed(self, -errno);
			while (to_device && !(made % USE) && !atomic_load(&self->stop) &&
			       atomic_load(&self->finished) <= r.begun)
				usleep(1000);
			made += to_device;
		} else if (to_device) {
			refused(self, errno);
		} else {
			failed(self, -errno);
		}
		use(w, &r);
	}
	drop(w, &r);
	return NULL;
}

/* ---- the one that looks ---- */

/* As "rdma -dd resource show mr". Returns the number of messages with MRs, or a negative errno. */
static int dump_mrs(int fd)
{
	static _Alignas(struct nlmsghdr) char reply[1 << 16];
	struct {
		struct nlmsghdr header;
		struct nlattr attr;
		uint32_t index;
	} ask = {
		.header = {
			.nlmsg_len = sizeof(ask),
			.nlmsg_type = RDMA_NL_GET_TYPE(RDMA_NL_NLDEV, RDMA_NLDEV_CMD_RES_MR_GET),
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
		},
		.attr = {
			.nla_len = sizeof(ask.attr) + sizeof(ask.index),
			.nla_type = RDMA_NLDEV_ATTR_DEV_INDEX,
		},
		.index = 0,	/* There is one HCA. */
	};
	int messages = 0;

	if (send(fd, &ask, sizeof(ask), 0) < 0)
		return -errno;
	for (;;) {
		int n = recv(fd, reply, sizeof(reply), 0);

		if (n <= 0)
			return n ? -errno : -EPIPE;
		for (struct nlmsghdr *h = (void *)reply; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
			if (h->nlmsg_type == NLMSG_DONE) {
				int error = *(int *)NLMSG_DATA(h);

				return error < 0 ? error : messages;
			}
			if (h->nlmsg_type == NLMSG_ERROR)
				return ((struct nlmsgerr *)NLMSG_DATA(h))->error ?: -EPROTO;
			messages++;
		}
	}
}

static void *dumper(void *arg)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_RDMA), ret = 0;
	FIXTURE_DATA(race) *self = arg;

	while (ret >= 0 && !atomic_load(&self->stop)) {
		ret = dump_mrs(fd);
		if (ret > 0)
			self->dumped++;
	}
	if (ret < 0)
		failed(self, ret);
	close(fd);
	return NULL;
}

/* ---- the other thread ---- */

static void unmap_and_map(FIXTURE_DATA(race) *self)
{
	if (munmap(self->dev + LEN / 2, PAGE) ||
	    mmap(self->dev + LEN / 2, PAGE, RW, MAP_SHARED | MAP_FIXED_NOREPLACE, self->fd, LEN / 2) !=
	    self->dev + LEN / 2)
		failed(self, -errno);
}

static void protect_and_allow(FIXTURE_DATA(race) *self)
{
	if (mprotect(self->dev + LEN / 2, PAGE, PROT_READ) || mprotect(self->dev + LEN / 2, PAGE, RW))
		failed(self, -errno);
}

static void move_and_move_back(FIXTURE_DATA(race) *self)
{
	uint8_t *to = self->dev + 2 * LEN;

	if (mremap(self->dev, LEN, LEN, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to ||
	    mremap(to, LEN, LEN, MREMAP_MAYMOVE | MREMAP_FIXED, self->dev) != self->dev)
		failed(self, -errno);
}

enum kind { DEVICE, ORDINARY, HOLE, NUM_KINDS };

/* Few pages, so that all of them can be of one kind, and of another one a moment later */
#define PLACES 2

/* Puts memory of another kind into one page. Nobody else maps anything into a hole. */
static void change_kind(FIXTURE_DATA(race) *self, int place, enum kind kind)
{
	static enum kind is[PLACES];
	const uint64_t at = place * PAGE;
	int fixed = is[place] == HOLE ? MAP_FIXED_NOREPLACE : MAP_FIXED;
	uint8_t *addr = self->dev + at, *got = addr;

	if (kind == DEVICE)
		got = mmap(addr, PAGE, RW, MAP_SHARED | fixed, self->fd, at);
	else if (kind == ORDINARY)
		got = mmap(addr, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0);
	else if (munmap(addr, PAGE))
		got = MAP_FAILED;
	if (got != addr)
		failed(self, -errno);
	is[place] = kind;
}

static void change_kinds(FIXTURE_DATA(race) *self)
{
	static unsigned int seed;

	change_kind(self, rand_r(&seed) % PLACES, rand_r(&seed) % NUM_KINDS);
}

static void write_sysfs(FIXTURE_DATA(race) *self, const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		failed(self, -errno);
	close(fd);
}

static void write_device(FIXTURE_DATA(race) *self, const char *file, const char *text)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", getenv("VRAM_BDF"), file);
	write_sysfs(self, path, text);
}

static void remove_and_rescan(FIXTURE_DATA(race) *self)
{
	atomic_fetch_add(&self->begun, 1);
	write_device(self, "remove", "1");
	atomic_fetch_add(&self->finished, 1);
	write_sysfs(self, "/sys/bus/pci/rescan", "1");
}

static void reset(FIXTURE_DATA(race) *self)
{
	atomic_fetch_add(&self->begun, 1);
	write_device(self, "reset", "1");
	atomic_fetch_add(&self->finished, 1);
	/* Most of the time it is in reset all the same. */
	usleep(100000);
}

static void bind_and_unbind(FIXTURE_DATA(race) *self)
{
	atomic_fetch_add(&self->begun, 1);
	write_sysfs(self, "/sys/bus/pci/drivers/pci-stub/bind", getenv("VRAM_BDF"));
	atomic_fetch_add(&self->finished, 1);
	write_sysfs(self, "/sys/bus/pci/drivers/pci-stub/unbind", getenv("VRAM_BDF"));
}

/* Each worker has something to lose. */
static void wait_until_ready(FIXTURE_DATA(race) *self, struct worker *workers)
{
	for (int i = 0; i < WORKERS; i++)
		while (atomic_load(&workers[i].ready) <= atomic_load(&self->finished) &&
		       !atomic_load(&self->stop))
			usleep(100);
}

/*
 * @rounds of @disturb at least, and for @seconds at least, while others @work. Returns 0 or why it
 * ended early.
 */
static int race(FIXTURE_DATA(race) *self, void *(*work)(void *),
		void (*disturb)(FIXTURE_DATA(race) *), int rounds, int seconds)
{
	struct worker workers[WORKERS] = {};
	pthread_t threads[WORKERS], dump;
	time_t end;

	for (unsigned int i = 0; i < WORKERS; i++) {
		workers[i].race = self;
		workers[i].nr = i;
		if (!worker_open(&workers[i]))
			return -errno ?: -EIO;
	}
	for (int i = 0; i < WORKERS; i++)
		if (pthread_create(&threads[i], NULL, work, &workers[i]))
			return -EAGAIN;
	if (self->dump && pthread_create(&dump, NULL, dumper, self))
		return -EAGAIN;
	end = time(NULL) + seconds;
	while (!atomic_load(&self->stop) && (rounds > 0 || time(NULL) < end)) {
		wait_until_ready(self, workers);
		disturb(self);
		atomic_fetch_add(&self->rounds, 1);
		rounds--;
	}
	atomic_store(&self->stop, true);
	for (int i = 0; i < WORKERS; i++) {
		pthread_join(threads[i], NULL);
		worker_close(&workers[i]);
	}
	if (self->dump)
		pthread_join(dump, NULL);
	printf("# %lu rounds, %lu regions, %lu times used, %lu times revoked, %lu of these for sure, %lu dumps",
	       self->rounds, self->done, self->moved, self->revoked, self->lost, self->dumped);
	for (int i = 0; i < 134; i++)
		if (self->refused[i])
			printf(", %lu times %s", self->refused[i], strerrorname_np(i) ?: "another errno");
	printf("\n");
	return self->error;
}

/* Registrations that ended with another errno than these */
static unsigned long unexpected(FIXTURE_DATA(race) *self, int allowed, int also)
{
	unsigned long sum = 0;

	for (int i = 0; i < 134; i++)
		if (i != allowed && i != also)
			sum += self->refused[i];
	return sum;
}

/* Both happened, and nothing else; the pair still works, also on the memory that was fought for. */
static void expect_race(struct __test_metadata *_metadata, FIXTURE_DATA(race) *self, int allowed, int also)
{
	struct ibv_mr *mr;

	EXPECT_EQ(0, unexpected(self, allowed, also));
	EXPECT_GT(self->done, 0);
	EXPECT_GT(self->moved, 0);
	EXPECT_GT(self->refused[allowed], 0);
	EXPECT_EQ(self->dump, self->dumped > 0);
	mr = ibv_reg_mr(self->pair.pd, self->dev, LEN, RC_PAIR_ALL);
	ASSERT_NE(NULL, mr) TH_LOG("%s", strerror(errno));
	memset(self->host, __LINE__, LEN);
	EXPECT_EQ(0, rc_pair_rdma(&self->pair, IBV_WR_RDMA_WRITE, self->host, self->host_mr->lkey,
				  LEN, self->dev, mr->rkey));
	EXPECT_EQ(0, memcmp(self->host, self->eyes, LEN));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
}

TEST_F_TIMEOUT(race, munmap, 60)
{
	ASSERT_EQ(0, race(self, registrar, unmap_and_map, 200, 2));
	expect_race(_metadata, self, EFAULT, 0);
}

TEST_F_TIMEOUT(race, mprotect, 60)
{
	ASSERT_EQ(0, race(self, registrar, protect_and_allow, 200, 2));
	expect_race(_metadata, self, EACCES, 0);
}

TEST_F_TIMEOUT(race, mremap, 60)
{
	uint8_t *space;

	/* Room for moving there and back, that nobody else maps into */
	space = mmap(NULL, 4 * LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, space);
	ASSERT_EQ(0, munmap(self->dev, LEN));
	self->dev = mmap(space, LEN, RW, MAP_SHARED | MAP_FIXED, self->fd, 0);
	ASSERT_EQ(space, self->dev);
	ASSERT_EQ(0, race(self, registrar, move_and_move_back, 200, 2));
	expect_race(_metadata, self, EFAULT, 0);
}

/* Device memory, ordinary memory and nothing at all change places in the range. */
TEST_F_TIMEOUT(race, kinds, 60)
{
	self->dump = true;
	self->len = PLACES * PAGE;
	ASSERT_EQ(0, race(self, registrar, change_kinds, 1000, 2));
	for (int place = 0; place < PLACES; place++)
		change_kind(self, place, DEVICE);
	ASSERT_EQ(0, self->error);
	expect_race(_metadata, self, EFAULT, 0);
}

FIXTURE(revoke) {
	FIXTURE_DATA(race) race;
};

/* Who is at work while memory is taken back */
FIXTURE_VARIANT(revoke) {
	void *(*work)(void *);
};

FIXTURE_VARIANT_ADD(revoke, registers) { .work = registrar };
FIXTURE_VARIANT_ADD(revoke, reregisters) { .work = changer };

FIXTURE_SETUP(revoke)
{
	race_setup(_metadata, &self->race, NULL);
	self->race.dump = true;
}

FIXTURE_TEARDOWN(revoke)
{
	race_teardown(_metadata, &self->race, NULL);
}

static void take_back(struct __test_metadata *_metadata, FIXTURE_DATA(race) *self,
		      void *(*work)(void *), void (*disturb)(FIXTURE_DATA(race) *), int rounds)
{
	ASSERT_EQ(0, race(self, work, disturb, rounds, 2));
	/* Who registers loses at least one region each time. */
	EXPECT_GE(self->lost, work == registrar ? WORKERS * self->rounds : 1);
}

TEST_F_TIMEOUT(revoke, probe, 180)
{
	write_device(&self->race, "driver_override", "pci-stub");
	take_back(_metadata, &self->race, variant->work, bind_and_unbind, 30);
	write_device(&self->race, "driver_override", "\n");
	expect_race(_metadata, &self->race, ENODEV, 0);
}

TEST_F_TIMEOUT(revoke, reset, 180)
{
	take_back(_metadata, &self->race, variant->work, reset, 4);
	expect_race(_metadata, &self->race, ENODEV, 0);
}

TEST_F_TIMEOUT(race, remove, 180)
{
	uint64_t size;

	self->remap = true;
	take_back(_metadata, self, registrar, remove_and_rescan, 10);
	/* It is another device now. */
	munmap(self->dev, LEN);
	munmap(self->eyes, LEN);
	close(self->fd);
	self->fd = vram_open(O_RDWR, &size);
	ASSERT_GE(self->fd, 0);
	self->dev = mmap(NULL, LEN, RW, MAP_SHARED, self->fd, 0);
	ASSERT_NE(MAP_FAILED, self->dev);
	self->eyes = mmap(NULL, LEN, RW, MAP_SHARED, self->fd, 0);
	ASSERT_NE(MAP_FAILED, self->eyes);
	/* EFAULT: a device that was just found has its files before it has addresses. */
	expect_race(_metadata, self, ENODEV, EFAULT);
}

/* ---- mappings alone ---- */

FIXTURE(mappings) {
	atomic_uint removed;	/* times that the device was removed */
	atomic_uint seen;	/* mappings that were looked at then */
	atomic_uint alive;	/* and could still be read */
	atomic_ulong made;
	atomic_bool stop;
};

FIXTURE_SETUP(mappings)
{
}

FIXTURE_TEARDOWN(mappings)
{
}

static __thread sigjmp_buf bus_error;

static void on_bus_error(int signal)
{
	siglongjmp(bus_error, signal);
}

static bool readable(volatile uint8_t *dev)
{
	if (sigsetjmp(bus_error, 1))
		return false;
	(void)*dev;
	return true;
}

/* Maps the BAR again and again. When the device is removed the last mapping is left, made before or meanwhile. */
static void *mapper(void *arg)
{
	FIXTURE_DATA(mappings) *self = arg;
	uint8_t *last = MAP_FAILED, *dev;
	unsigned int removed = 0;
	uint64_t size;
	int fd = -1;

	while (!atomic_load(&self->stop)) {
		if (fd < 0)
			fd = vram_open(O_RDWR, &size);
		dev = fd < 0 ? MAP_FAILED : mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0);
		if (dev != MAP_FAILED) {
			atomic_fetch_add(&self->made, 1);
			if (last != MAP_FAILED)
				munmap(last, PAGE);
			last = dev;
			continue;
		}
		/* A file of a device that is gone */
		close(fd);
		fd = -1;
		if (removed == atomic_load(&self->removed))
			continue;
		removed = atomic_load(&self->removed);
		if (last != MAP_FAILED) {
			if (readable(last))
				atomic_fetch_add(&self->alive, 1);
			munmap(last, PAGE);
			last = MAP_FAILED;
		}
		atomic_fetch_add(&self->seen, 1);
	}
	return NULL;
}

/* Whatever was mapped while the device was removed, nothing is readable after that. */
TEST_F_TIMEOUT(mappings, remove, 90)
{
	struct sigaction action = { .sa_handler = on_bus_error };
	const unsigned int rounds = 30;
	pthread_t threads[MAPPERS];
	char remove[PATH_MAX];

	sigaction(SIGBUS, &action, NULL);
	snprintf(remove, sizeof(remove), "/sys/bus/pci/devices/%s/remove", getenv("VRAM_BDF"));
	for (int i = 0; i < MAPPERS; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, mapper, self));
	for (unsigned int round = 1; round <= rounds; round++) {
		unsigned long made = atomic_load(&self->made);

		while (atomic_load(&self->made) < made + 4 * MAPPERS)
			usleep(1000);
		ASSERT_EQ(0, write_file(remove, "1"));
		atomic_store(&self->removed, round);
		while (atomic_load(&self->seen) < round * MAPPERS)
			usleep(1000);
		ASSERT_EQ(0, write_file("/sys/bus/pci/rescan", "1"));
	}
	atomic_store(&self->stop, true);
	for (int i = 0; i < MAPPERS; i++)
		pthread_join(threads[i], NULL);
	printf("# %lu mappings\n", self->made);
	EXPECT_EQ(0, self->alive);
}

TEST_HARNESS_MAIN
