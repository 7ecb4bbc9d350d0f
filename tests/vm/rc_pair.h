/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Two RC queue pairs of one HCA, connected to each other, and the device memory of the guest: what
 * nearly every test needs. Functions return 0 or a negative errno unless they say otherwise.
 */
#ifndef RC_PAIR_H
#define RC_PAIR_H

#include <infiniband/verbs.h>
#include <stdbool.h>
#include <stdint.h>

#define RC_PAIR_DEPTH 64
#define RC_PAIR_ALL (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | \
		     IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC)

struct rc_pair {
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	struct ibv_comp_channel *channel;
	struct ibv_cq *cq;		/* of all four queues */
	struct ibv_qp *qp[2];
};

/* Opens the RDMA device @name, or $HCA when it is NULL; NULL with errno. */
struct ibv_context *hca_open(const char *name);

/* What simhca's driver does when memory is taken back: "hook" or "none" */
#define HCA_REVOKE "/sys/module/simhca/parameters/revoke"

/* Does it fence keys? Otherwise it is the IOMMU that stops the HCA. */
bool hca_has_hook(void);

/* The GID that QPs here have, with its index and type. Returns 0 or a negative errno. */
int rc_gid_entry(struct ibv_context *ctx, struct ibv_gid_entry *gid);

/* The GID of the HCA for RoCE v2 over IPv4. */
int rc_gid(struct ibv_context *ctx, union ibv_gid *gid);

/* Takes @qp through RESET to RTS, connected to the QP @dest_qpn of the HCA with @dest_gid. */
int rc_connect_to(struct ibv_qp *qp, const union ibv_gid *dest_gid, uint32_t dest_qpn);

/* The same to a QP of the same HCA. */
int rc_connect(struct ibv_qp *qp, uint32_t dest_qpn);

/* Makes and connects the pair. @name as for hca_open(). */
int rc_pair_open(struct rc_pair *pair, const char *name);

/* Frees what rc_pair_open() made. */
void rc_pair_close(struct rc_pair *pair);

/* Takes both QPs through RESET to RTS again. */
int rc_pair_connect(struct rc_pair *pair);

/*
 * Posts one signaled work request of @opcode on qp[0] and waits for its completion.
 * Returns the status of the completion (enum ibv_wc_status), or a negative errno.
 */
int rc_pair_rdma(struct rc_pair *pair, enum ibv_wr_opcode opcode, void *local, uint32_t lkey,
		 uint32_t len, const void *remote, uint32_t rkey);

/* errno of a registration that is given back at once; 0 if it works. */
int reg_errno(struct ibv_pd *pd, void *addr, size_t len, int access);

/* Waits at most 10 s for a completion. */
int rc_pair_poll(struct rc_pair *pair, struct ibv_wc *wc);

/* Opens $VRAM_RESOURCE with @flags (O_RDWR, O_RDONLY); gives its size. Negative errno, or the fd. */
int vram_open(int flags, uint64_t *size);

#endif
