// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * A guest that lies in every field: of each command, each work request, each receive and each
 * doorbell, every aligned field takes every value of bare_lie() once. The device
 * answers, harms nobody else, and afterwards has nothing left. (What it reads or writes out of
 * bounds is for ASAN to see.)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bare_hca.h"

/* Rounds and simulated time in which everything that can happen has happened. */
#define ROUNDS		200
#define STEP_NS		2000000

static struct bare bare;

static int setup(void **state)
{
	bare_open(&bare);
	return 0;
}

static int teardown(void **state)
{
	bare_close(&bare);
	return 0;
}

static void start_anew(void)
{
	unsigned int i;

	for (i = 0; i < BARE_HCAS; i++)
		bare_reset(&bare.hca[i], false);
	bare_setup(&bare);
}

/* A guest can stop its own device, but nobody else's. */
static void expect_alive(struct bare_hca *h)
{
	struct simhca_cmd cmd = {
		.opcode = SIMHCA_CMD_QUERY_DEV,
		.token = 0xa11fe,
		.out_addr = BARE_OUT,
	};

	assert_int_equal(bare_cmd(&bare, h, &cmd), SIMHCA_CMD_OK);
}

/*
 * Calls @try with copies of @len bytes that lie in one field, of four or eight bytes or, in the first
 * @narrow of them, of one or two.
 */
static void for_each_lie(const uint8_t *truth, size_t len, size_t narrow,
			 void (*try)(const uint8_t *lie))
{
	uint8_t lie[sizeof(struct simhca_cmd)];
	size_t width, off;
	unsigned int i;
	uint64_t value;

	assert_true(len <= sizeof(lie));
	for (width = 1; width <= 8; width *= 2) {
		for (off = 0; off + width <= (width < 4 ? narrow : len); off += width) {
			for (i = 0; i < bare_num_lies(); i++) {
				value = bare_lie(i);
				if (width < 8 && value >> (8 * width))
					continue;
				memcpy(lie, truth, len);
				memcpy(lie + off, &value, width);
				try(lie);
			}
			start_anew();
		}
	}
}

/* ---- commands ---- */

static void try_cmd(const uint8_t *lie)
{
	struct simhca_cmd cmd;
	uint16_t status;

	memcpy(&cmd, lie, sizeof(cmd));
	status = bare_cmd(&bare, &bare.hca[0], &cmd);
	/* Whatever it says about its output: the rings are not where outputs go. */
	if (status == BARE_DEAD || cmd.opcode == SIMHCA_CMD_DESTROY_EQ)
		start_anew();
	assert_true(status <= SIMHCA_CMD_ENETUNREACH || cmd.out_addr - BARE_RSPQ < SIMHCA_PAGE_SIZE);
}

static void test_commands_succeed(void **state)
{
	struct simhca_cmd cmd;
	unsigned int i, busy = 0;
	uint16_t status;

	for (i = 0; i < bare_num_cmds(); i++) {
		start_anew();
		bare_make_cmd(&bare, &bare.hca[0], i, &cmd);
		status = bare_cmd(&bare, &bare.hca[0], &cmd);
		busy += status == SIMHCA_CMD_EBUSY;
		if (status && status != SIMHCA_CMD_EBUSY)
			fail_msg("command %u, number %u: status %u", cmd.opcode, i, status);
	}
	/* CQ and SRQ; EQ 0 has no users. */
	assert_int_equal(busy, 2);
}

/* Most commands have no narrower fields than those of four bytes, but for the opcode. */
static size_t narrow_bytes(const struct simhca_cmd *cmd)
{
	switch (cmd->opcode) {
	case SIMHCA_CMD_SET_GID:
	case SIMHCA_CMD_MODIFY_CQ:
	case SIMHCA_CMD_CREATE_SRQ:
	case SIMHCA_CMD_CREATE_QP:
	case SIMHCA_CMD_MODIFY_QP:
		return sizeof(*cmd);
	default:
		return 4;
	}
}

static void test_commands_lie(void **state)
{
	struct simhca_cmd cmd;
	unsigned int i;

	for (i = 0; i < bare_num_cmds(); i++) {
		start_anew();
		bare_make_cmd(&bare, &bare.hca[0], i, &cmd);
		for_each_lie((const uint8_t *)&cmd, sizeof(cmd), narrow_bytes(&cmd), try_cmd);
		expect_alive(&bare.hca[0]);
		expect_alive(&bare.hca[1]);
	}
}

/* The list of segments of an MR and, where it begins, that of a REG_MR. */
static struct simhca_cmd chunk_cmd;

static void try_chunk(const uint8_t *lie)
{
	struct bare_hca *h = &bare.hca[0];
	struct simhca_cmd cmd = { .opcode = SIMHCA_CMD_DESTROY_MR };

	memcpy(bare_ptr(h, BARE_CHUNKS), lie, 64);
	assert_true(bare_cmd(&bare, h, &chunk_cmd) <= SIMHCA_CMD_EFAULT);
	cmd.payload.destroy.id = chunk_cmd.payload.create_mr.key;
	assert_true(bare_cmd(&bare, h, &cmd) <= SIMHCA_CMD_ENOENT);
}

static void test_segments_lie(void **state)
{
	struct bare_hca *h = &bare.hca[0];
	uint8_t truth[64];
	unsigned int i;

	for (i = 0; i < bare_num_cmds(); i++) {
		start_anew();
		bare_make_cmd(&bare, h, i, &chunk_cmd);
		if (chunk_cmd.opcode == SIMHCA_CMD_CREATE_MR &&
		    chunk_cmd.payload.create_mr.sgl.nsegs > 1 && !chunk_cmd.payload.create_mr.flags)
			break;
	}
	assert_true(i < bare_num_cmds());
	memcpy(truth, bare_ptr(h, BARE_CHUNKS), sizeof(truth));
	for_each_lie(truth, sizeof(truth), sizeof(truth), try_chunk);
}

/* ---- work requests ---- */

static unsigned int sends_done(struct bare_hca *h)
{
	const struct simhca_cqe *cqe = bare_ptr(h, BARE_CQ(0));
	unsigned int i;

	for (i = 0; i < 1u << BARE_CQ_LOG && cqe[i].phase; i++)
		if (cqe[i].status)
			return i;
	return i;
}

/* Wherever QP @qp of HCA 0 sends to, and the group of the datagrams. */
static void post_recv(enum bare_qp qp)
{
	uint8_t entry[1 << BARE_RQ_STRIDE];
	struct bare_hca *peer_hca;
	enum bare_qp peer = bare_peer(&bare, &bare.hca[0], qp, &peer_hca);

	bare_make_recv(entry);
	bare_post_recv(peer_hca, peer, entry);
	if (qp == BARE_UD)
		bare_post_recv(&bare.hca[0], qp, entry);
}

static bool takes_recv(const struct bare_send *send)
{
	switch (((const struct simhca_sq_wqe *)send->entry)->opcode) {
	case SIMHCA_WR_SEND:
	case SIMHCA_WR_SEND_WITH_IMM:
	case SIMHCA_WR_SEND_WITH_INV:
	case SIMHCA_WR_RDMA_WRITE_WITH_IMM:
		return true;
	default:
		return false;
	}
}

static void test_sends_succeed(void **state)
{
	struct bare_hca *h = &bare.hca[0];
	struct bare_send send;
	unsigned int i;

	start_anew();
	for (i = 0; i < bare_num_sends(); i++) {
		bare_make_send(&bare, h, i, &send);
		if (takes_recv(&send))
			post_recv(send.qp);
		bare_post_send(h, &send);
		assert_true(bare_run(&bare, ROUNDS, STEP_NS));
		if (sends_done(h) != i + 1)
			fail_msg("send %u: no completion, or an error", i);
	}
}

static struct bare_send lying;

/* A QP that has failed would not look at the next lie. */
static void mend(enum bare_qp qp)
{
	unsigned int i;

	if (bare_fatal(&bare.hca[0]) || bare_fatal(&bare.hca[1]) || bare.hca[0].srq_pi > 4 ||
	    bare.hca[1].srq_pi > 4 || !bare_reconnect(&bare, &bare.hca[0], qp)) {
		start_anew();
		return;
	}
	for (i = 0; i < BARE_HCAS; i++)
		bare_consume(&bare.hca[i]);
}

/* Head, and the first SGEs or what is there instead. */
#define SEND_BYTES	(sizeof(struct simhca_sq_wqe) + sizeof(struct simhca_mem_wqe))

static void try_send(const uint8_t *lie)
{
	struct bare_send send = lying;

	memcpy(send.entry, lie, SEND_BYTES);
	post_recv(send.qp);
	bare_post_send(&bare.hca[0], &send);
	bare_run(&bare, 20, STEP_NS);
	assert_false(bare_fatal(&bare.hca[1]));
	mend(send.qp);
}

static void test_sends_lie(void **state)
{
	unsigned int i;

	for (i = 0; i < bare_num_sends(); i++) {
		start_anew();
		bare_make_send(&bare, &bare.hca[0], i, &lying);
		for_each_lie(lying.entry, SEND_BYTES, 8, try_send);
		expect_alive(&bare.hca[1]);
	}
}

#define RECV_BYTES	(sizeof(struct simhca_rq_wqe) + 2 * sizeof(struct simhca_sge))

static void try_recv(const uint8_t *lie)
{
	uint8_t entry[1 << BARE_RQ_STRIDE] = { 0 };

	memcpy(entry, lie, RECV_BYTES);
	bare_post_recv(&bare.hca[1], lying.qp, entry);
	bare_post_send(&bare.hca[0], &lying);
	bare_run(&bare, 20, STEP_NS);
	assert_false(bare_fatal(&bare.hca[0]));
	mend(lying.qp);
}

/* The receiver lies, who has another HCA: in his own queue, in a shared one, in that of datagrams. */
static void test_recvs_lie(void **state)
{
	uint8_t truth[1 << BARE_RQ_STRIDE];
	struct bare_hca *peer_hca;
	unsigned int i;

	bare_make_recv(truth);
	for (i = 0; i < bare_num_sends(); i++) {
		start_anew();
		bare_make_send(&bare, &bare.hca[0], i, &lying);
		bare_peer(&bare, &bare.hca[0], lying.qp, &peer_hca);
		if (peer_hca == &bare.hca[1])
			for_each_lie(truth, RECV_BYTES, 8, try_recv);
	}
	expect_alive(&bare.hca[0]);
}

/* ---- doorbells ---- */

/* Only impossible numbers of commands stop the device, and every reset mends it. */
static void test_doorbells_lie(void **state)
{
	struct bare_hca *h = &bare.hca[0];
	struct bare_send send;
	unsigned int i, page;
	size_t off;

	start_anew();
	bare_make_send(&bare, h, 0, &send);
	for (page = 0; page <= BARE_UAR; page++) {
		for (off = 0; off < SIMHCA_PAGE_SIZE; off += 4) {
			uint32_t *db = (uint32_t *)((uint8_t *)dev_uar(h->dev, page) + off);
			bool cmdq = page == SIMHCA_KERNEL_UAR &&
				    off == offsetof(struct simhca_uar, cmdq_pi);

			for (i = 0; i < bare_num_lies(); i++) {
				__atomic_store_n(db, (uint32_t)bare_lie(i), __ATOMIC_RELAXED);
				dev_uar(h->dev, BARE_UAR)->sq_group[0] = 1;
				bare_run(&bare, 3, STEP_NS);
				assert_true(cmdq || !bare_fatal(h));
			}
			assert_true(!cmdq || bare_fatal(h));
			/* Objects that the neighbouring doorbells belong to live on. */
			if (cmdq || off % 64 == 60)
				start_anew();
		}
	}
	expect_alive(h);
	expect_alive(&bare.hca[1]);
}

int main(void)
{
#define T(name)	cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_commands_succeed),
		T(test_commands_lie),
		T(test_segments_lie),
		T(test_sends_succeed),
		T(test_sends_lie),
		T(test_recvs_lie),
		T(test_doorbells_lie),
	};

	return cmocka_run_group_tests_name("simhca_lies", tests, NULL, NULL);
}
