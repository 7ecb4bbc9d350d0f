// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * What happens to a device while it works: its address map changes, its interrupts change, it is
 * reset. To be run with TSan, too.
 */
#include <linux/pci_regs.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "front_client.h"

#define WAIT_MS		20000
#define RACE_MS		60000	/* at most; a busy machine takes its time */
#define CHANGES		100
#define WRITES		8
#define TAKEN		0x5a

struct race {
	struct front *t;
	atomic_bool stop;
	atomic_uint changes;
	unsigned int late;	/* bytes that changed after they had been taken away */
};

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static uint32_t rnd(uint32_t *seed, uint32_t below)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed % below;
}

static void reconnect(struct front *t)
{
	unsigned int i;

	for (i = 0; i < FRONT_GUESTS; i++) {
		assert_int_equal(guest_modify_state(&t->qp[i], SIMHCA_QPS_RESET), SIMHCA_CMD_OK);
		t->qp[i].sq_pi = 0;
		t->qp[i].rq_pi = 0;
	}
	guest_connect(&t->qp[0], &t->qp[1]);
	guest_connect(&t->qp[1], &t->qp[0]);
}

static void post_writes(struct front *t)
{
	struct simhca_sq_wqe wqe = {
		.opcode = SIMHCA_WR_RDMA_WRITE,
		.flags = SIMHCA_WR_SIGNALED,
		.num_sge = 1,
		.rkey = GUEST_KEY,
		.remote_addr = t->buf[1],
	};
	unsigned int i;

	for (i = 0; i < WRITES; i++)
		guest_post_send(&t->qp[0], &wqe, t->buf[0], GUEST_BUF_SIZE, GUEST_KEY);
	guest_ring(&t->qp[0]);
}

struct outcome {
	unsigned int good;
	unsigned int failed;
};

/* Writes to all of the other guest's buffer. */
static void write_once(struct front *t, struct outcome *outcome)
{
	struct simhca_cqe cqe;
	unsigned int i;

	post_writes(t);
	for (i = 0; i < WRITES; i++) {
		assert_true(guest_poll_wait(&t->cq[0], &cqe, WAIT_MS));
		if (!cqe.status) {
			outcome->good++;
			continue;
		}
		/* The first one failed for a reason, the others since it did. */
		assert_true(cqe.status == SIMHCA_WC_REM_OP_ERR || cqe.status == SIMHCA_WC_WR_FLUSH_ERR);
		outcome->failed++;
	}
	if (cqe.status)
		reconnect(t);
}

/* An IOMMU that maps and unmaps, or device memory that goes and comes. */
static void *change_map(void *arg)
{
	struct race *race = arg;
	struct guest *g = &race->t->g[1];
	const uint32_t pages = GUEST_BUF_SIZE / SIMHCA_PAGE_SIZE;
	uint32_t seed = 4711;

	while (!atomic_load(&race->stop)) {
		uint32_t first = rnd(&seed, pages);
		uint64_t len = (1 + rnd(&seed, rnd(&seed, 4) ? 8 : pages)) * SIMHCA_PAGE_SIZE;
		uint64_t iova = race->t->buf[1] + (uint64_t)first * SIMHCA_PAGE_SIZE;
		uint8_t *p = guest_ptr(g, iova);
		uint64_t i;

		if (len > GUEST_BUF_SIZE - (uint64_t)first * SIMHCA_PAGE_SIZE)
			len = GUEST_BUF_SIZE - (uint64_t)first * SIMHCA_PAGE_SIZE;
		guest_dma_unmap(g, iova, len);
		memset(p, TAKEN, len);
		usleep(rnd(&seed, 200));
		for (i = 0; i < len; i++)
			race->late += ((volatile uint8_t *)p)[i] != TAKEN;
		guest_dma_map(g, iova, len, g->ram_fd, iova - GUEST_RAM_IOVA);
		atomic_fetch_add(&race->changes, 1);
		/* Long enough now and then that a message gets through. */
		usleep(rnd(&seed, 8) ? rnd(&seed, 500) : 20000);
	}
	return NULL;
}

static void test_map_changes(void **state)
{
	struct front *t = *state;
	struct race race = { .t = t };
	struct outcome during = { 0 }, after = { 0 };
	uint64_t end = now_ms() + RACE_MS;
	pthread_t thread;

	memset(guest_ptr(&t->g[0], t->buf[0]), 1, GUEST_BUF_SIZE);
	assert_int_equal(pthread_create(&thread, NULL, change_map, &race), 0);
	while (now_ms() < end &&
	       (atomic_load(&race.changes) < CHANGES || !during.good || !during.failed))
		write_once(t, &during);
	atomic_store(&race.stop, true);
	pthread_join(thread, NULL);
	assert_int_equal(race.late, 0);
	assert_true(atomic_load(&race.changes) >= CHANGES);
	assert_true(during.good && during.failed);
	/* All of it is there again. */
	write_once(t, &after);
	assert_int_equal(after.failed, 0);
	assert_memory_equal(guest_ptr(&t->g[0], t->buf[0]), guest_ptr(&t->g[1], t->buf[1]),
			    GUEST_BUF_SIZE);
}

/* Vectors lose their descriptors and get them again. */
static void *change_irqs(void *arg)
{
	struct race *race = arg;

	while (!atomic_load(&race->stop)) {
		guest_unhook_irqs(&race->t->g[0]);
		guest_hook_irqs(&race->t->g[0]);
		atomic_fetch_add(&race->changes, 1);
	}
	return NULL;
}

static void test_irqs_change(void **state)
{
	struct front *t = *state;
	struct race race = { .t = t };
	uint64_t end = now_ms() + RACE_MS;
	struct simhca_cqe cqe;
	uint32_t event, id;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, change_irqs, &race), 0);
	while (now_ms() < end && atomic_load(&race.changes) < CHANGES) {
		guest_arm(&t->cq[0], false);
		post_writes(t);
		while (t->cq[0].ci != t->qp[0].sq_pi)
			assert_true(guest_poll_wait(&t->cq[0], &cqe, WAIT_MS));
		while (guest_next_event(&t->g[0], 1, &event, &id))
			;
	}
	atomic_store(&race.stop, true);
	pthread_join(thread, NULL);
	assert_true(atomic_load(&race.changes) >= CHANGES);
}

/* All memory goes, rings and all, and the machine is reset; its peer lives on. */
static void test_everything_goes(void **state)
{
	struct front *t = *state;
	uint32_t seed = 42;
	unsigned int round;

	for (round = 0; round < 20; round++) {
		struct guest *g = &t->g[1];
		struct simhca_cqe cqe;
		unsigned int i;

		post_writes(t);
		usleep(rnd(&seed, 3000));
		guest_dma_unmap(g, GUEST_RAM_IOVA, GUEST_RAM_SIZE);
		for (i = 0; i < WRITES; i++)
			assert_true(guest_poll_wait(&t->cq[0], &cqe, WAIT_MS));
		guest_dma_map(g, GUEST_RAM_IOVA, GUEST_RAM_SIZE, g->ram_fd, 0);
		for (i = 0; i < FRONT_GUESTS; i++)
			guest_device_reset(&t->g[i]);
		for (i = 0; i < FRONT_GUESTS; i++) {
			guest_config_write16(&t->g[i], PCI_COMMAND,
					     PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
			t->g[i].ram_used = 0;
		}
		front_connect(t);
	}
}

/* Everything at once: the message threads reset what the engine thread works with. */
static void test_resets(void **state)
{
	struct front *t = *state;
	uint32_t seed = 7;
	unsigned int round, i;

	for (round = 0; round < 50; round++) {
		post_writes(t);
		usleep(rnd(&seed, 2000));
		i = rnd(&seed, FRONT_GUESTS);
		if (round % 2)
			guest_device_reset(&t->g[i]);
		else
			guest_reg_write(&t->g[i], SIMHCA_REG_CTRL, 0);
		guest_device_reset(&t->g[!i]);
		for (i = 0; i < FRONT_GUESTS; i++) {
			guest_config_write16(&t->g[i], PCI_COMMAND,
					     PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
			t->g[i].ram_used = 0;
		}
		front_connect(t);
	}
}

int main(void)
{
#define C(name)	cmocka_unit_test_setup_teardown(name, front_setup_connected, front_teardown)
	const struct CMUnitTest tests[] = {
		C(test_map_changes),
		C(test_irqs_change),
		C(test_everything_goes),
		C(test_resets),
	};

	return cmocka_run_group_tests_name("simhca_race", tests, NULL, NULL);
}
