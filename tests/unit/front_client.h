/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * A guest made of a memfd: what QEMU and a driver do with a simhca device, over its real socket.
 * Functions that cannot fail but by a bug assert, those that a test wants to see fail return.
 */
#ifndef FRONT_CLIENT_H
#define FRONT_CLIENT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "simhca.h"

#define GUEST_RAM_IOVA		0x40000000ull
#define GUEST_RAM_SIZE		(64ull << 20)
#define GUEST_CMDQ_LOG		4
#define GUEST_EQ_LOG		4

struct guest {
	pthread_mutex_t lock;		/* protects these two: one message at a time */
	int sock;
	uint16_t msg_id;
	int ram_fd;
	uint8_t *ram;
	uint64_t ram_used;		/* bump allocator */
	uint8_t *db;			/* BAR 2 */
	int irq[SIMHCA_NUM_VECTORS];
	uint64_t cmdq;			/* IOVAs */
	uint64_t rspq;
	uint64_t out;
	uint32_t cmdq_pi;
	uint64_t eq[2];
	uint32_t eq_ci[2];
	uint8_t gid[16];
};

/* A CQ, QP of the guest; all in UAR 2 unless a test says otherwise. */
struct guest_cq {
	struct guest *g;
	uint32_t cqn;
	uint32_t log_size;
	uint32_t ci;
	uint32_t uar;
	uint32_t slot;
	uint64_t ring;
};

struct guest_qp {
	struct guest *g;
	uint32_t qpn;
	uint32_t slot;
	uint32_t uar;
	uint64_t sq;
	uint64_t rq;
	uint32_t sq_pi;
	uint32_t rq_pi;
	struct guest_cq *cq;
};

#define GUEST_WR_LOG	6
#define GUEST_SQ_STRIDE	9
#define GUEST_RQ_STRIDE	9
#define GUEST_PDN	7

/*
 * A process with two devices, each with a guest: what all tests of the front end start with. For
 * cmocka; *@state is a struct front.
 */
#define FRONT_GUESTS	2

struct front {
	struct poller *poller;
	struct simhca_dev *dev[FRONT_GUESTS];
	struct guest g[FRONT_GUESTS];
	struct guest_cq cq[FRONT_GUESTS];
	struct guest_qp qp[FRONT_GUESTS];
	uint64_t buf[FRONT_GUESTS];	/* GUEST_BUF_SIZE bytes, MR GUEST_KEY, iova = address */
};

#define GUEST_KEY	0x1042u
#define GUEST_BUF_SIZE	(4ull << 20)
#define GUEST_ALL	(SIMHCA_ACCESS_LOCAL_WRITE | SIMHCA_ACCESS_REMOTE_WRITE | \
			 SIMHCA_ACCESS_REMOTE_READ | SIMHCA_ACCESS_REMOTE_ATOMIC)

int front_setup(void **state);
/* With a poller that takes so many naps (none above: it soon sleeps), and so many keys of each HCA. */
int front_setup_with(void **state, unsigned int naps, uint32_t max_mr);
int front_teardown(void **state);

/* Guests enabled, with EQs, MR, CQ 5 and QP 10 or 11, connected to each other. */
int front_setup_connected(void **state);
void front_connect(struct front *t);

/* ---- QEMU's part ---- */

/* Connects over @sock (owned), maps RAM and BAR 2, hooks up all interrupts, bus master on. */
void guest_init(struct guest *g, int sock);
void guest_fini(struct guest *g);

uint32_t guest_reg_read(struct guest *g, uint32_t reg);
uint64_t guest_reg_read64(struct guest *g, uint32_t reg);
void guest_reg_write(struct guest *g, uint32_t reg, uint32_t value);
void guest_config_write16(struct guest *g, uint32_t reg, uint16_t value);
uint32_t guest_config_read(struct guest *g, uint32_t reg);
void guest_device_reset(struct guest *g);
void guest_dma_map(struct guest *g, uint64_t iova, uint64_t size, int fd, uint64_t offset);
void guest_dma_unmap(struct guest *g, uint64_t iova, uint64_t size);
void guest_hook_irqs(struct guest *g);
void guest_unhook_irqs(struct guest *g);

/* ---- memory ---- */

uint64_t guest_alloc(struct guest *g, uint64_t size, uint64_t align);

static inline void *guest_ptr(struct guest *g, uint64_t iova)
{
	return g->ram + (iova - GUEST_RAM_IOVA);
}

struct simhca_uar *guest_uar(struct guest *g, uint32_t index);
struct simhca_status_page *guest_status(struct guest *g);

/* ---- the driver's part ---- */

void guest_enable(struct guest *g);
void guest_kick_if_asleep(struct guest *g);

/* Returns SIMHCA_CMD_*, asserts that an answer comes. */
uint16_t guest_cmd(struct guest *g, struct simhca_cmd *cmd);
uint16_t guest_destroy(struct guest *g, uint16_t opcode, uint32_t id);

/* EQs 0 (vector 0) and 1 (vector 1), and a GID at index 0. */
void guest_setup(struct guest *g, uint8_t gid_last);
bool guest_next_event(struct guest *g, uint32_t eqn, uint32_t *event, uint32_t *id);
/* Waits for interrupt @vector; false after @ms. */
bool guest_wait_irq(struct guest *g, unsigned int vector, int ms);

struct simhca_sgl guest_sgl(uint64_t addr, uint64_t length);
/* @n segments as chunks in guest memory. */
struct simhca_sgl guest_sgl_segs(struct guest *g, const struct simhca_seg *segs, uint32_t n);
uint16_t guest_create_mr(struct guest *g, uint32_t key, uint32_t access, uint64_t iova,
			 struct simhca_sgl sgl);
uint16_t guest_create_cq(struct guest *g, struct guest_cq *cq, uint32_t cqn, uint32_t log_size);
/* @flags: SIMHCA_CQ_* */
uint16_t guest_create_cq_ex(struct guest *g, struct guest_cq *cq, uint32_t cqn, uint32_t log_size,
			    uint32_t flags);
uint16_t guest_create_qp(struct guest *g, struct guest_qp *qp, uint32_t qpn, struct guest_cq *cq);
/* @srqn: 0: with a receive queue of its own. */
uint16_t guest_create_qp_srq(struct guest *g, struct guest_qp *qp, uint32_t qpn,
			     struct guest_cq *cq, uint32_t srqn);
uint16_t guest_create_qp_type(struct guest *g, struct guest_qp *qp, uint32_t qpn,
			      struct guest_cq *cq, uint32_t type, uint32_t srqn);
uint16_t guest_modify(struct guest_qp *qp, struct simhca_qp_attr *attr);
uint16_t guest_modify_state(struct guest_qp *qp, uint8_t state);
uint16_t guest_query_qp(struct guest_qp *qp, struct simhca_qp_attr *attr);
/* RESET to RTS; @dest may be in another guest. */
void guest_connect(struct guest_qp *qp, struct guest_qp *dest);

/* RESET to RTS, of a UD QP. */
void guest_ud_start(struct guest_qp *qp, uint32_t qkey);

void guest_post_send(struct guest_qp *qp, const struct simhca_sq_wqe *wqe, uint64_t addr,
		     uint32_t length, uint32_t lkey);
void guest_post_mem(struct guest_qp *qp, const struct simhca_sq_wqe *wqe,
		    const struct simhca_mem_wqe *mem);
void guest_post_recv(struct guest_qp *qp, uint64_t addr, uint32_t length, uint32_t lkey);
/* Publishes what was posted. */
void guest_ring(struct guest_qp *qp);
/* Takes a CQE if there is one. */
bool guest_poll(struct guest_cq *cq, struct simhca_cqe *cqe);
/* Waits at most @ms. */
bool guest_poll_wait(struct guest_cq *cq, struct simhca_cqe *cqe, int ms);
void guest_arm(struct guest_cq *cq, bool solicited);

#endif /* FRONT_CLIENT_H */
