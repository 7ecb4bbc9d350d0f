// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The engine thread: looks at requests, commands and doorbells of all devices, gives QPs their
 * turns, delivers events; and sleeps when there has been nothing to do for a moment.
 *
 * That goes in three steps. It spins for a few microseconds, as long as a virtual CPU takes to post
 * the next request. Then it takes naps between its looks for a few milliseconds: waking it costs
 * the guest much more than a nap costs anybody, and whoever shares its core runs meanwhile. Only
 * then it sleeps until somebody kicks.
 *
 * Going to sleep: set "asleep" in all status pages, full barrier, look at everything once more,
 * then wait. Who posts stores its index, full barrier, and loads "asleep" (simhca_hw.h). So either
 * we see the index or he sees the flag, and his kick ends the wait. The flag stays set until something
 * is found, so that holds for every look after a wait, too.
 */
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "poller.h"

#define POLLER_TURNS		16
#define POLLER_NAP_NS		25000ull
/* Nobody rings when an EQ has room again. */
#define POLLER_BLOCKED_NS	1000000ull
/* Timers of the engine are as short as 10 us. */
#define POLLER_TIMER_SLACK_NS	1000

struct poller {
	struct fabric fabric;
	struct list_head devs;
	uint64_t spin_ns;
	unsigned int naps;		/* at most, before sleeping */
	int wake_fd;
	atomic_bool stop;
	pthread_t thread;
};

#define for_each_dev(pos, poller) list_for_each(pos, &(poller)->devs)

static struct simhca_dev *poller_dev(struct list_head *pos)
{
	return list_entry(pos, struct simhca_dev, node);
}

bool poller_round(struct poller *poller, uint64_t now)
{
	struct list_head *pos;
	bool found = false;

	for_each_dev(pos, poller) {
		struct simhca_dev *dev = poller_dev(pos);

		found |= dev_serve_request(dev);
		if (dev_running(dev))
			found |= cmd_poll(dev);
		if (dev_running(dev))
			found |= doorbell_poll(dev);
	}
	found |= !!fabric_poll(&poller->fabric, now, POLLER_TURNS);
	for_each_dev(pos, poller) {
		cq_poll_waiting(poller_dev(pos), now);
		event_flush(poller_dev(pos));
	}
	return found;
}

static void poller_set_asleep(struct poller *poller, bool asleep)
{
	struct list_head *pos;

	for_each_dev(pos, poller)
		__atomic_store_n(&dev_status_page(poller_dev(pos))->asleep, htole32(asleep),
				 __ATOMIC_RELAXED);
}

static uint64_t poller_deadline(struct poller *poller, uint64_t now)
{
	uint64_t next = fabric_next_timer(&poller->fabric);
	struct list_head *pos;

	for_each_dev(pos, poller) {
		struct simhca_dev *dev = poller_dev(pos);

		if (dev->events_blocked && now + POLLER_BLOCKED_NS < next)
			next = now + POLLER_BLOCKED_NS;
		if (dev->waiting_until < next)
			next = dev->waiting_until;
	}
	return next;
}

/* Waits for a wake-up, or until @next. */
static void poller_wait(struct poller *poller, uint64_t now, uint64_t next)
{
	struct pollfd pfd = { .fd = poller->wake_fd, .events = POLLIN };
	struct timespec ts = { 0 };
	uint64_t count;

	if (next > now && next != ENGINE_NO_TIMER) {
		ts.tv_sec = (next - now) / 1000000000;
		ts.tv_nsec = (next - now) % 1000000000;
	}
	if (ppoll(&pfd, 1, next == ENGINE_NO_TIMER ? NULL : &ts, NULL) > 0 &&
	    read(poller->wake_fd, &count, sizeof(count)) < 0) {
		/* Nothing: somebody else cannot have read it, and looking again does no harm. */
	}
}

/* Still looks now and then, so nobody needs to kick. */
static void poller_nap(struct poller *poller)
{
	uint64_t now = simhca_clock();
	uint64_t next = poller_deadline(poller, now);

	poller_wait(poller, now, next < now + POLLER_NAP_NS ? next : now + POLLER_NAP_NS);
}

static bool poller_stopping(struct poller *poller)
{
	return atomic_load_explicit(&poller->stop, memory_order_relaxed);
}

/* Until there is something to do: a timer after which there is nothing ends no sleep. */
static void poller_sleep(struct poller *poller)
{
	uint64_t now;

	poller_set_asleep(poller, true);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (;;) {
		now = simhca_clock();
		if (poller_round(poller, now) || poller_stopping(poller))
			break;
		poller_wait(poller, now, poller_deadline(poller, now));
	}
	poller_set_asleep(poller, false);
}

static void *poller_thread(void *arg)
{
	struct poller *poller = arg;
	uint64_t now = simhca_clock();
	uint64_t idle_since = now;
	unsigned int naps = 0;

	prctl(PR_SET_NAME, "simhca-engine");
	prctl(PR_SET_TIMERSLACK, POLLER_TIMER_SLACK_NS);
	while (!poller_stopping(poller)) {
		now = simhca_clock();
		if (poller_round(poller, now)) {
			idle_since = now;
			naps = 0;
			continue;
		}
		if (now - idle_since < poller->spin_ns)
			continue;
		if (naps < poller->naps) {
			naps++;
			poller_nap(poller);
			continue;
		}
		poller_sleep(poller);
		idle_since = simhca_clock();
		naps = 0;
	}
	return NULL;
}

struct poller *poller_create(unsigned int spin_us, unsigned int naps)
{
	struct poller *poller = calloc(1, sizeof(*poller));

	if (!poller)
		return NULL;
	poller->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (poller->wake_fd < 0) {
		free(poller);
		return NULL;
	}
	poller->spin_ns = (uint64_t)spin_us * 1000;
	poller->naps = naps;
	list_init(&poller->devs);
	fabric_init(&poller->fabric);
	return poller;
}

int poller_start(struct poller *poller)
{
	return -pthread_create(&poller->thread, NULL, poller_thread, poller);
}

void poller_wake(struct poller *poller)
{
	uint64_t one = 1;

	/* Fails only when the counter is at its end: then it is readable already. */
	if (write(poller->wake_fd, &one, sizeof(one)) < 0)
		return;
}

void poller_stop(struct poller *poller)
{
	atomic_store(&poller->stop, true);
	poller_wake(poller);
	pthread_join(poller->thread, NULL);
}

void poller_destroy(struct poller *poller)
{
	if (!poller)
		return;
	fabric_destroy(&poller->fabric);
	close(poller->wake_fd);
	free(poller);
}

struct fabric *poller_fabric(struct poller *poller)
{
	return &poller->fabric;
}

void poller_add(struct poller *poller, struct simhca_dev *dev)
{
	list_add_tail(&dev->node, &poller->devs);
}
