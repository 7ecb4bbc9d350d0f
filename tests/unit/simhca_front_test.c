// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* simhca's registers, resets and events, driven through its vfio-user socket. */
/* To SQD, with an event: the simplest one to be had. */
#define SQD_NOTIFY	{ .mask = SIMHCA_QP_STATE | SIMHCA_QP_SQD_NOTIFY,	\
			  .state = SIMHCA_QPS_SQD, .sqd_notify = 1 }

#define _GNU_SOURCE
#include <linux/pci_regs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "front_client.h"

#define WAIT_MS		10000
#define QUIET_MS	20

static void test_registers(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[0];

	assert_int_equal(guest_reg_read(g, SIMHCA_REG_MAGIC), SIMHCA_MAGIC);
	assert_int_equal(guest_reg_read(g, SIMHCA_REG_VERSION), SIMHCA_VERSION);
	assert_int_equal(guest_reg_read(g, SIMHCA_REG_STATUS), 0);
	assert_int_equal(guest_reg_read64(g, SIMHCA_REG_MAC), 0x0700c0005452ull);
	guest_reg_write(g, SIMHCA_REG_CMDQ_BASE + 4, 0x12345678);
	assert_int_equal(guest_reg_read64(g, SIMHCA_REG_CMDQ_BASE), 0x1234567800000000ull);
	/* read only, unaligned, unknown */
	guest_reg_write(g, SIMHCA_REG_MAGIC, 0);
	guest_reg_write(g, SIMHCA_REG_CTRL + 2, SIMHCA_CTRL_ENABLE);
	guest_reg_write(g, 0x800, 1);
	assert_int_equal(guest_reg_read(g, SIMHCA_REG_MAGIC), SIMHCA_MAGIC);
	assert_int_equal(guest_reg_read(g, SIMHCA_REG_STATUS), 0);
	assert_int_equal(guest_reg_read(g, 0x800), 0);
	assert_int_equal(guest_config_read(g, PCI_VENDOR_ID),
			 SIMHCA_PCI_DEVICE_ID << 16 | SIMHCA_PCI_VENDOR_ID);
}

/* Enables the device with rings at these addresses. */
static void enable(struct guest *g, uint64_t cmdq, uint64_t rspq, uint32_t log_size)
{
	guest_reg_write(g, SIMHCA_REG_CMDQ_BASE, cmdq);
	guest_reg_write(g, SIMHCA_REG_CMDQ_BASE + 4, cmdq >> 32);
	guest_reg_write(g, SIMHCA_REG_RSPQ_BASE, rspq);
	guest_reg_write(g, SIMHCA_REG_RSPQ_BASE + 4, rspq >> 32);
	guest_reg_write(g, SIMHCA_REG_CMDQ_LOG_SIZE, log_size);
	guest_reg_write(g, SIMHCA_REG_CTRL, SIMHCA_CTRL_ENABLE);
}

static void test_enable_errors(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[0];
	static const struct {
		uint64_t base;
		uint32_t log_size;
	} bad[] = {
		{ 0x1000, 0 },
		{ 0x1000, SIMHCA_CMDQ_MAX_LOG + 1 },
		{ 0x1008, 4 },
		{ UINT64_MAX - 0xfff, 6 },	/* would pass the end */
	};
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		enable(g, bad[i].base, 0, bad[i].log_size);
		assert_int_equal(guest_reg_read(g, SIMHCA_REG_STATUS), SIMHCA_STATUS_FATAL);
		assert_int_equal(guest_status(g)->epoch, 0);
		guest_reg_write(g, SIMHCA_REG_CTRL, 0);
		assert_int_equal(guest_reg_read(g, SIMHCA_REG_STATUS), 0);
		assert_int_equal(guest_status(g)->epoch, 0);
	}
	guest_enable(g);
}

/* Waits until a device that was enabled has stopped with an error, and resets it. */
static void expect_fatal(struct guest *g)
{
	const uint32_t status = SIMHCA_STATUS_ENABLED | SIMHCA_STATUS_FATAL;
	unsigned int i;

	for (i = 0; i < 1000 && guest_reg_read(g, SIMHCA_REG_STATUS) != status; i++)
		usleep(1000);
	assert_int_equal(guest_reg_read(g, SIMHCA_REG_STATUS), status);
	assert_int_equal(guest_status(g)->epoch, 0);
	guest_reg_write(g, SIMHCA_REG_CTRL, 0);
}

/* Says that there are commands up to @pi. */
static void announce_commands(struct guest *g, uint32_t pi)
{
	__atomic_store_n(&guest_uar(g, SIMHCA_KERNEL_UAR)->cmdq_pi, pi, __ATOMIC_RELEASE);
	guest_kick_if_asleep(g);
}

static void expect_event(struct guest *g, uint32_t eqn, uint32_t event, uint32_t id)
{
	uint32_t got_event, got_id;

	assert_true(guest_wait_irq(g, eqn, WAIT_MS));
	while (!guest_next_event(g, eqn, &got_event, &got_id))	/* the interrupt was an older one */
		assert_true(guest_wait_irq(g, eqn, WAIT_MS));
	assert_int_equal(got_event, event);
	assert_int_equal(got_id, id);
}

static void expect_no_event(struct guest *g)
{
	uint32_t event, id;

	usleep(QUIET_MS * 1000);
	assert_false(guest_next_event(g, 0, &event, &id));
	assert_false(guest_next_event(g, 1, &event, &id));
}

/* Command rings that lie: the device stops, says so, and works again after a reset. */
static void test_command_ring_errors(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[0];
	struct simhca_cmd cmd = { .opcode = SIMHCA_CMD_QUERY_DEV };

	guest_setup(g, 1);
	while (guest_wait_irq(g, 0, 0))
		;
	announce_commands(g, g->cmdq_pi + 17);
	expect_event(g, 0, SIMHCA_EVENT_DEV_FATAL, 0);
	expect_fatal(g);

	/* a ring that is not there */
	enable(g, 0x1000, g->rspq, GUEST_CMDQ_LOG);
	announce_commands(g, 1);
	expect_fatal(g);

	/* a response ring that is not there */
	guest_setup(g, 1);
	guest_reg_write(g, SIMHCA_REG_CTRL, 0);
	enable(g, g->cmdq, 0x1000, GUEST_CMDQ_LOG);
	announce_commands(g, 1);
	expect_fatal(g);

	guest_setup(g, 1);
	cmd.out_addr = g->out;
	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_OK);
}

/* ---- resets ---- */

/* The device is as after power-on, and its objects can be made again; the run has a new number. */
static void expect_fresh(struct guest *g, uint32_t old_epoch)
{
	struct simhca_cmd cmd = { .opcode = SIMHCA_CMD_QUERY_STATS };
	struct simhca_stats *stats;
	struct guest_cq cq;
	struct guest_qp qp;

	assert_int_equal(guest_reg_read(g, SIMHCA_REG_STATUS), 0);
	assert_int_equal(guest_status(g)->epoch, 0);
	assert_int_equal(guest_reg_read64(g, SIMHCA_REG_CMDQ_BASE), 0);
	assert_int_equal(guest_uar(g, SIMHCA_FIRST_USER_UAR)->qp[10].sq_pi, 0);
	guest_config_write16(g, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	guest_setup(g, 1);
	assert_int_not_equal(guest_status(g)->epoch, 0);
	assert_int_not_equal(guest_status(g)->epoch, old_epoch);
	assert_int_equal(guest_create_mr(g, GUEST_KEY, GUEST_ALL, 0, guest_sgl(0x1000, 10)),
			 SIMHCA_CMD_OK);
	assert_int_equal(guest_create_cq(g, &cq, 5, 4), SIMHCA_CMD_OK);
	assert_int_equal(guest_create_qp(g, &qp, 10, &cq), SIMHCA_CMD_OK);
	cmd.out_addr = g->out;
	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_OK);
	stats = guest_ptr(g, g->out);
	assert_int_equal(stats->tx_wrs, 0);
	assert_int_equal(stats->events, 0);
}

/* Sends from guest 0 to guest 1, one request. */
static void post(struct front *t, uint8_t opcode, uint8_t flags, uint32_t length, uint32_t rkey)
{
	struct simhca_sq_wqe wqe = {
		.opcode = opcode,
		.flags = flags,
		.num_sge = 1,
		.rkey = rkey,
		.remote_addr = t->buf[1],
	};

	guest_post_send(&t->qp[0], &wqe, t->buf[0], length, GUEST_KEY);
	guest_ring(&t->qp[0]);
}

static void expect_cqe(struct guest_cq *cq, uint8_t status)
{
	struct simhca_cqe cqe;

	assert_true(guest_poll_wait(cq, &cqe, WAIT_MS));
	assert_int_equal(cqe.status, status);
}

static void do_write(struct front *t)
{
	post(t, SIMHCA_WR_RDMA_WRITE, SIMHCA_WR_SIGNALED, 64, GUEST_KEY);
	expect_cqe(&t->cq[0], SIMHCA_WC_SUCCESS);
}

static void test_reset_ctrl(void **state)
{
	struct front *t = *state;
	uint32_t epoch = guest_status(&t->g[0])->epoch;

	do_write(t);
	guest_reg_write(&t->g[0], SIMHCA_REG_CTRL, 0);
	expect_fresh(&t->g[0], epoch);
}

static void test_reset_device(void **state)
{
	struct front *t = *state;
	uint32_t epoch = guest_status(&t->g[0])->epoch;

	do_write(t);
	guest_device_reset(&t->g[0]);
	expect_fresh(&t->g[0], epoch);
}

static void test_reset_flr(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[0];
	uint32_t epoch = guest_status(g)->epoch;
	uint32_t cap = guest_config_read(g, PCI_CAPABILITY_LIST) & 0xff;

	do_write(t);
	while ((guest_config_read(g, cap) & 0xff) != PCI_CAP_ID_EXP) {
		cap = guest_config_read(g, cap) >> 8 & 0xff;
		assert_int_not_equal(cap, 0);
	}
	guest_config_write16(g, cap + PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_BCR_FLR);
	expect_fresh(g, epoch);
}

/* The peer of a device that was reset gets an error, and both can go on. */
static void test_reset_peer(void **state)
{
	struct front *t = *state;

	do_write(t);
	guest_reg_write(&t->g[1], SIMHCA_REG_CTRL, 0);
	post(t, SIMHCA_WR_SEND, 0, 64, 0);
	expect_cqe(&t->cq[0], SIMHCA_WC_RETRY_EXC_ERR);
	guest_reg_write(&t->g[0], SIMHCA_REG_CTRL, 0);
	t->g[0].ram_used = 0;
	t->g[1].ram_used = 0;
	front_connect(t);
	do_write(t);
}

static void test_bus_master(void **state)
{
	struct front *t = *state;
	struct simhca_cqe cqe;

	guest_config_write16(&t->g[0], PCI_COMMAND, PCI_COMMAND_MEMORY);
	post(t, SIMHCA_WR_RDMA_WRITE, SIMHCA_WR_SIGNALED, 64, GUEST_KEY);
	assert_false(guest_poll_wait(&t->cq[0], &cqe, QUIET_MS));
	guest_config_write16(&t->g[0], PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	expect_cqe(&t->cq[0], SIMHCA_WC_SUCCESS);
}

static int connect_to(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, path);
	assert_int_equal(connect(sock, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return sock;
}

/* A QEMU goes without a word, the next finds a new device. */
static void test_reconnect(void **state)
{
	static const uint8_t mac[6] = { 0x52, 0x54, 0, 0, 0, 1 };
	char dir[] = "/tmp/simhca-test-XXXXXX", path[64];
	struct poller *poller = poller_create(20, POLLER_NAPS);
	struct simhca_dev *dev;
	struct guest_cq cq;
	struct guest_qp qp;
	struct guest g;
	unsigned int i;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/socket", dir);
	dev = simhca_dev_create(poller, "c", mac, NULL);
	assert_non_null(dev);
	assert_int_equal(poller_start(poller), 0);
	assert_int_equal(simhca_dev_listen(dev, path), 0);
	for (i = 0; i < 5; i++) {
		guest_init(&g, connect_to(path));
		assert_int_equal(guest_reg_read(&g, SIMHCA_REG_STATUS), 0);
		guest_setup(&g, 1);
		assert_int_equal(guest_create_cq(&g, &cq, 5, 4), SIMHCA_CMD_OK);
		assert_int_equal(guest_create_qp(&g, &qp, 10, &cq), SIMHCA_CMD_OK);
		guest_connect(&qp, &qp);
		guest_fini(&g);
	}
	simhca_dev_stop(dev);
	assert_int_equal(access(path, F_OK), -1);
	poller_stop(poller);
	simhca_dev_destroy(dev);
	poller_destroy(poller);
	rmdir(dir);
}

/* ---- events ---- */

static void post_writes(struct front *t, unsigned int n, bool solicited)
{
	while (n--) {
		guest_post_recv(&t->qp[1], t->buf[1], 8, GUEST_KEY);
		post(t, SIMHCA_WR_RDMA_WRITE_WITH_IMM, solicited ? SIMHCA_WR_SOLICITED : 0, 8,
		     GUEST_KEY);
		expect_cqe(&t->cq[1], SIMHCA_WC_SUCCESS);
	}
}

static void test_completion_events(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[1];

	post_writes(t, 3, true);
	expect_no_event(g);			/* not armed */
	guest_arm(&t->cq[1], false);
	post_writes(t, 3, false);
	expect_event(g, 1, SIMHCA_EVENT_COMP, 5);
	expect_no_event(g);			/* one event an arming */
	guest_arm(&t->cq[1], true);
	post_writes(t, 3, false);
	expect_no_event(g);
	post_writes(t, 1, true);
	expect_event(g, 1, SIMHCA_EVENT_COMP, 5);
	/* first for solicited ones, then for any */
	guest_arm(&t->cq[1], true);
	guest_arm(&t->cq[1], false);
	post_writes(t, 1, false);
	expect_event(g, 1, SIMHCA_EVENT_COMP, 5);
	expect_no_event(g);
}

static void test_error_events(void **state)
{
	struct front *t = *state;
	struct simhca_cqe cqe;

	/* An error is solicited, at both ends. */
	guest_arm(&t->cq[0], true);
	post(t, SIMHCA_WR_RDMA_READ, 0, 8, GUEST_KEY ^ 1);
	expect_event(&t->g[0], 1, SIMHCA_EVENT_COMP, 5);
	assert_true(guest_poll(&t->cq[0], &cqe));
	assert_int_equal(cqe.status, SIMHCA_WC_REM_ACCESS_ERR);
	assert_int_equal(cqe.vendor_err, ENGINE_VERR_KEY | ENGINE_VERR_REMOTE);
	expect_event(&t->g[1], 0, SIMHCA_EVENT_QP_ACCESS_ERR, 11);
}

/* More events than an EQ holds: none is lost, and nobody rings when there is room again. */
static void test_eq_full(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[0];
	const unsigned int n = 60;
	struct guest_qp *qp = calloc(n, sizeof(*qp));
	struct simhca_qp_attr sqd = SQD_NOTIFY;
	uint32_t event, id, seen = 0;
	unsigned int i, wait;

	for (i = 0; i < n; i++) {
		assert_int_equal(guest_create_qp(g, &qp[i], 100 + i, &t->cq[0]), SIMHCA_CMD_OK);
		guest_connect(&qp[i], &qp[i]);
	}
	for (i = 0; i < n; i++)
		assert_int_equal(guest_modify(&qp[i], &sqd), SIMHCA_CMD_OK);
	usleep(QUIET_MS * 1000);
	for (i = 0; i < n; i++) {
		for (wait = 0; !guest_next_event(g, 0, &event, &id); wait++) {
			assert_true(wait < 1000);
			usleep(1000);
		}
		assert_int_equal(event, SIMHCA_EVENT_SQ_DRAINED);
		seen += id;
	}
	assert_int_equal(seen, n * 100 + n * (n - 1) / 2);
	expect_no_event(g);
	free(qp);
}

static void test_eq_unreachable(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[0];
	struct guest_cq cq;
	struct guest_qp qp;
	struct simhca_qp_attr sqd = SQD_NOTIFY;
	struct simhca_cmd cmd = {
		.opcode = SIMHCA_CMD_CREATE_EQ,
		.payload.create_eq = {
			.eqn = 0, .vector = 0, .log_size = 4, .ring = { 0x1000, 256, 1, 0 },
		},
	};

	guest_setup(g, 1);
	assert_int_equal(guest_destroy(g, SIMHCA_CMD_DESTROY_EQ, 0), SIMHCA_CMD_OK);
	assert_int_equal(guest_cmd(g, &cmd), SIMHCA_CMD_OK);
	assert_int_equal(guest_create_cq(g, &cq, 5, 4), SIMHCA_CMD_OK);
	assert_int_equal(guest_create_qp(g, &qp, 10, &cq), SIMHCA_CMD_OK);
	guest_connect(&qp, &qp);
	guest_modify(&qp, &sqd);
	expect_fatal(g);
	expect_fresh(g, 0);
}

/* ---- garbage ---- */

static uint32_t xorshift(uint32_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 17;
	*x ^= *x << 5;
	return *x;
}

/* Small numbers, addresses that exist, and anything. */
static uint64_t garbage(struct front *t, uint32_t *seed)
{
	uint32_t r = xorshift(seed);

	switch (r % 4) {
	case 0:
		return r >> 8 & 15;
	case 1:
		return t->buf[0] + (r >> 8 & 0xff000);
	case 2:
		return 1ull << (r >> 8 & 63);
	default:
		return (uint64_t)xorshift(seed) << 32 | r;
	}
}

static void test_garbage_commands(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[0];
	uint32_t seed = 12345;
	unsigned int i, j;

	for (i = 0; i < 5000; i++) {
		struct simhca_cmd cmd = {
			.opcode = xorshift(&seed) % 15,
			.out_addr = garbage(t, &seed),
		};

		for (j = 0; j < sizeof(cmd.payload.raw); j += 4) {
			uint32_t v = garbage(t, &seed);

			memcpy(cmd.payload.raw + j, &v, 4);
		}
		guest_cmd(g, &cmd);
	}
	guest_reg_write(g, SIMHCA_REG_CTRL, 0);
	expect_fresh(g, 0);
}

static void test_garbage_doorbells(void **state)
{
	struct front *t = *state;
	struct guest *g = &t->g[0];
	uint32_t seed = 999;
	unsigned int i;

	for (i = 0; i < 20000; i++) {
		uint32_t at = xorshift(&seed) % (4 * SIMHCA_PAGE_SIZE / 4);
		uint32_t value = garbage(t, &seed);

		/* asleep must stay the device's, or nobody kicks; cmdq_pi would end it at once */
		if (at < SIMHCA_PAGE_SIZE / 4 ||
		    at == (SIMHCA_PAGE_SIZE + offsetof(struct simhca_uar, cmdq_pi)) / 4)
			continue;
		__atomic_store_n((uint32_t *)g->db + at, value, __ATOMIC_RELAXED);
		if (i % 16 == 0) {
			guest_uar(g, SIMHCA_FIRST_USER_UAR)->sq_group[1] = 1;
			guest_kick_if_asleep(g);
		}
	}
	guest_reg_write(g, SIMHCA_REG_CTRL, 0);
	expect_fresh(g, 0);
}

int main(void)
{
#define T(name)	cmocka_unit_test_setup_teardown(name, front_setup, front_teardown)
#define C(name)	cmocka_unit_test_setup_teardown(name, front_setup_connected, front_teardown)
	const struct CMUnitTest tests[] = {
		T(test_registers),
		T(test_enable_errors),
		T(test_command_ring_errors),
		C(test_reset_ctrl),
		C(test_reset_device),
		C(test_reset_flr),
		C(test_reset_peer),
		C(test_bus_master),
		cmocka_unit_test(test_reconnect),
		C(test_completion_events),
		C(test_error_events),
		C(test_eq_full),
		T(test_eq_unreachable),
		C(test_garbage_commands),
		C(test_garbage_doorbells),
	};

	return cmocka_run_group_tests_name("simhca_front", tests, NULL, NULL);
}
