/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * A process that keeps an HCA moving data into device memory and out of it, and does not stop for
 * errors: after each it connects its QPs again and tries the same key again.
 */
#ifndef TRAFFIC_H
#define TRAFFIC_H

#include <infiniband/verbs.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Which key is that of the device memory; the other end is ordinary memory. */
enum traffic_key { TRAFFIC_LOCAL_KEY, TRAFFIC_REMOTE_KEY };

enum traffic_order {
	TRAFFIC_RUN,
	TRAFFIC_DEREG,		/* deregister, register again, move data if that works, clean up, end */
	TRAFFIC_REREG,		/* the same, but with ibv_rereg_mr(), to ordinary memory */
	TRAFFIC_EXIT,		/* end with everything open */
};

/* Shared with whoever started it. */
struct traffic {
	enum traffic_key key;
	int fd;			/* what is mapped; negative: the device memory itself */
	uint64_t offset, len;	/* of it */
	atomic_int order;
	atomic_int ready;
	atomic_int error;	/* it could not even begin, or not end: negative errno */
	atomic_ulong tries;	/* batches posted */
	atomic_ulong done;	/* work requests that succeeded */
	atomic_ulong failed[IBV_WC_TM_RNDV_INCOMPLETE + 1];	/* first failure of a batch, by status */
	atomic_ulong silent;	/* batches that did not complete in time, or could not be posted */
	atomic_ulong events[IBV_EVENT_WQ_FATAL + 1];	/* asynchronous ones, by type */
	int dereg_errno, reg_errno;	/* of ibv_dereg_mr(), and of ibv_reg_mr() or ibv_rereg_mr() */
	int moved;		/* what rc_pair_rdma() said of the region then */
	pid_t pid;
};

/*
 * Starts a process on @len bytes of device memory, those at @offset of a mapping of @fd, or of
 * $VRAM_RESOURCE where @fd is negative, and waits until data flows. Returns NULL with errno when it
 * does not.
 */
struct traffic *traffic_start(enum traffic_key key, int fd, uint64_t offset, uint64_t len);

/* Gives an order that ends it, and waits for that at most 20 s. Returns its wait status, or -1. */
int traffic_end(struct traffic *t, enum traffic_order order);

/* The same with SIGKILL. */
int traffic_kill(struct traffic *t);

/* Waits at most 10 s until more has been moved. Whether it has, and nothing has failed yet. */
bool traffic_flows(struct traffic *t);

/* Waits at most 10 s until it has failed with a status. Returns the first such, or 0. */
enum ibv_wc_status traffic_failed(struct traffic *t);

#endif
