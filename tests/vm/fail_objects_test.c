// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Every kind of object but memory regions, of processes and of kernel users, made and changed with the nth allocation of
 * the kernel failing: n = 1, 2, ... until nothing is left that could fail.
 *
 * What fails says so, and works when it is tried again. A part of it that the device was left with would keep something
 * from being destroyed, for which the driver gives the device up; what the kernel has lost is found with --leaks.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "failures.h"
#include "file.h"
#include "kselftest_harness.h"
#include "rc_pair.h"

/* The suite of simhca_fail_test.c, which runs when its file "run" is written to. */
#define SUITE "/sys/kernel/debug/kunit/simhca_fail/"

/* Rings are larger than a page. */
#define ENTRIES 512

FIXTURE(objects) {
	struct rc_pair pair;
	int nth;
	struct ibv_srq *srq;
	struct ibv_cq *cq;
	unsigned int changes;
};

FIXTURE_SETUP(objects)
{
	struct ibv_srq_init_attr srq = { .attr = { .max_wr = 1, .max_sge = 1 } };

	ASSERT_EQ(0, failures_setup());
	self->nth = nth_open();
	ASSERT_GE(self->nth, 0);
	ASSERT_EQ(0, rc_pair_open(&self->pair, NULL));
	self->srq = ibv_create_srq(self->pair.pd, &srq);
	self->cq = ibv_create_cq(self->pair.ctx, 1, NULL, NULL, 0);
	ASSERT_NE(NULL, self->srq);
	ASSERT_NE(NULL, self->cq);
}

FIXTURE_TEARDOWN(objects)
{
	EXPECT_EQ(0, ibv_destroy_cq(self->cq));
	EXPECT_EQ(0, ibv_destroy_srq(self->srq));
	rc_pair_close(&self->pair);
	close(self->nth);
}

/* ---- of processes ---- */

/* One way to make something; @end undoes it, and returns an errno. */
struct way {
	const char *name;
	void *(*make)(FIXTURE_DATA(objects) *self);
	int (*end)(void *made);
};

static void *make_context(FIXTURE_DATA(objects) *self)
{
	return ibv_open_device(self->pair.ctx->device);
}

static int end_context(void *made)
{
	return ibv_close_device(made);
}

static void *make_pd(FIXTURE_DATA(objects) *self)
{
	return ibv_alloc_pd(self->pair.ctx);
}

static int end_pd(void *made)
{
	return ibv_dealloc_pd(made);
}

static void *make_cq(FIXTURE_DATA(objects) *self)
{
	return ibv_create_cq(self->pair.ctx, ENTRIES, NULL, self->pair.channel, 0);
}

static int end_cq(void *made)
{
	return ibv_destroy_cq(made);
}

static void *make_srq(FIXTURE_DATA(objects) *self)
{
	struct ibv_srq_init_attr init = { .attr = { .max_wr = ENTRIES, .max_sge = 4 } };

	return ibv_create_srq(self->pair.pd, &init);
}

static int end_srq(void *made)
{
	return ibv_destroy_srq(made);
}

static void *make_qp_of(FIXTURE_DATA(objects) *self, enum ibv_qp_type type, struct ibv_srq *srq)
{
	struct ibv_qp_init_attr init = {
		.send_cq = self->pair.cq, .recv_cq = self->pair.cq, .srq = srq, .qp_type = type,
		.cap = { .max_send_wr = ENTRIES, .max_recv_wr = ENTRIES, .max_send_sge = 4, .max_recv_sge = 4 },
	};

	return ibv_create_qp(self->pair.pd, &init);
}

static void *make_rc_qp(FIXTURE_DATA(objects) *self)
{
	return make_qp_of(self, IBV_QPT_RC, NULL);
}

static void *make_srq_qp(FIXTURE_DATA(objects) *self)
{
	return make_qp_of(self, IBV_QPT_RC, self->srq);
}

static void *make_ud_qp(FIXTURE_DATA(objects) *self)
{
	return make_qp_of(self, IBV_QPT_UD, NULL);
}

static int end_qp(void *made)
{
	return ibv_destroy_qp(made);
}

static void *make_mw(FIXTURE_DATA(objects) *self)
{
	return ibv_alloc_mw(self->pair.pd, IBV_MW_TYPE_2);
}

static int end_mw(void *made)
{
	return ibv_dealloc_mw(made);
}

static void *make_ah(FIXTURE_DATA(objects) *self)
{
	struct ibv_ah_attr attr = { .is_global = 1, .port_num = 1 };
	struct ibv_gid_entry gid;
	int ret = rc_gid_entry(self->pair.ctx, &gid);

	if (ret) {
		errno = -ret;
		return NULL;
	}
	attr.grh.dgid = gid.gid;
	attr.grh.sgid_index = gid.gid_index;
	attr.grh.hop_limit = 1;
	return ibv_create_ah(self->pair.pd, &attr);
}

static int end_ah(void *made)
{
	return ibv_destroy_ah(made);
}

/* The three that change what is there: to a size that is another each time. */

static uint32_t next_size(FIXTURE_DATA(objects) *self)
{
	return ENTRIES << self->changes++ % 2;
}

static void *result(FIXTURE_DATA(objects) *self, int ret)
{
	errno = ret;
	return ret ? NULL : self;
}

static void *resize_cq(FIXTURE_DATA(objects) *self)
{
	return result(self, ibv_resize_cq(self->cq, next_size(self)));
}

static void *resize_srq(FIXTURE_DATA(objects) *self)
{
	struct ibv_srq_attr attr = { .max_wr = next_size(self) };

	return result(self, ibv_modify_srq(self->srq, &attr, IBV_SRQ_MAX_WR));
}

static void *connect_qps(FIXTURE_DATA(objects) *self)
{
	return result(self, -rc_pair_connect(&self->pair));
}

static int end_change(void *made)
{
	(void)made;
	return 0;
}

static const struct way ways[] = {
	{ "context", make_context, end_context },
	{ "PD", make_pd, end_pd },
	{ "CQ", make_cq, end_cq },
	{ "SRQ", make_srq, end_srq },
	{ "RC QP", make_rc_qp, end_qp },
	{ "RC QP with SRQ", make_srq_qp, end_qp },
	{ "UD QP", make_ud_qp, end_qp },
	{ "window", make_mw, end_mw },
	{ "AH", make_ah, end_ah },
	{ "resize CQ", resize_cq, end_change },
	{ "resize SRQ", resize_srq, end_change },
	{ "connect", connect_qps, end_change },
};

static void try_way(struct __test_metadata *_metadata, FIXTURE_DATA(objects) *self, const struct way *way)
{
	unsigned int n, tries = 0, failed = 0;
	bool fired = true;
	void *made;
	int err;

	for (n = 1; fired; n = nth_next(n, fired && !err, &tries)) {
		ASSERT_LT(n, MAX_NTH);
		errno = 0;
		nth_arm(self->nth, n);
		made = way->make(self);
		err = made ? 0 : errno;
		fired = nth_disarm(self->nth);
		if (made) {
			ASSERT_EQ(0, way->end(made)) TH_LOG("%s, n = %u", way->name, n);
			continue;
		}
		ASSERT_TRUE(fired) TH_LOG("%s, n = %u: %s", way->name, n, strerror(err));
		/* libibverbs has errnos of its own for a device that it cannot open; routes give ENOBUFS */
		if (way->make != make_context)
			ASSERT_TRUE(err == ENOMEM || err == ENOBUFS)
				TH_LOG("%s, n = %u: %s", way->name, n, strerror(err));
		failed++;
		/* It works when there is memory. */
		made = way->make(self);
		ASSERT_NE(NULL, made) TH_LOG("%s, n = %u: %s", way->name, n, strerror(errno));
		ASSERT_EQ(0, way->end(made)) TH_LOG("%s, n = %u", way->name, n);
	}
	TH_LOG("%s: %u allocations, %u failures", way->name, n - 2, failed);
	ASSERT_GT(failed, 0);
}

TEST_F_TIMEOUT(objects, of_processes, 600)
{
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		try_way(_metadata, self, &ways[i]);
}

/* ---- of kernel users ---- */

TEST(of_kernel_users)
{
	char results[8192];
	ssize_t n;
	int fd;

	ASSERT_EQ(0, failures_setup());
	ASSERT_EQ(0, write_file(SUITE "run", "1"));
	fd = open(SUITE "results", O_RDONLY | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	n = read(fd, results, sizeof(results) - 1);
	ASSERT_GT(n, 0);
	results[n] = '\0';
	close(fd);
	ASSERT_EQ(NULL, strstr(results, "not ok")) TH_LOG("%s", results);
	ASSERT_EQ(NULL, strstr(results, "SKIP")) TH_LOG("%s", results);
	ASSERT_NE(NULL, strstr(results, "ok 1 simhca_fail")) TH_LOG("%s", results);
}

TEST_HARNESS_MAIN
