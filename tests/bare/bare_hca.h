/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * HCAs without threads, sockets or clock, each with a guest made of a few pages: every step is taken
 * by who calls, so that what is found happens again. For tests that lie to the device, and for
 * fuzzers. What must not happen ends in abort().
 */
#ifndef BARE_HCA_H
#define BARE_HCA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "simhca.h"

#define CHECK(cond) \
	do { \
		if (!(cond)) { \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #cond); \
			abort(); \
		} \
	} while (0)

#define BARE_HCAS	2

/* Where the pages of a guest are, by DMA address. All can be written, but for the last. */
#define BARE_RAM	0x10000ull
#define BARE_CMDQ	(BARE_RAM + 0x0000)
#define BARE_RSPQ	(BARE_RAM + 0x1000)
#define BARE_OUT	(BARE_RAM + 0x2000)
#define BARE_EQ(i)	(BARE_RAM + 0x3000 + (i) * 0x1000)
#define BARE_CQ(i)	(BARE_RAM + 0x5000 + (i) * 0x1000)
#define BARE_CHUNKS	(BARE_RAM + 0x7000)
#define BARE_SQ(i)	(BARE_RAM + 0x8000 + (i) * 0x2000)
#define BARE_RQ(i)	(BARE_SQ(i) + 0x1000)
#define BARE_SRQ	(BARE_RAM + 0x18000)
#define BARE_BUF	(BARE_RAM + 0x19000)
#define BARE_BUF_SIZE	0x6000ull
#define BARE_FENCE	(BARE_RAM + 0x1f000)	/* can be read only */
#define BARE_RAM_SIZE	0x20000ull

#define BARE_CMDQ_LOG	4
#define BARE_EQ_LOG	6
#define BARE_CQ_LOG	5
#define BARE_WR_LOG	3
#define BARE_SQ_STRIDE	9
#define BARE_RQ_STRIDE	9

/* What bare_setup() makes, in each HCA. Free numbers are those above. */
#define BARE_PDN	1
#define BARE_UAR	SIMHCA_FIRST_USER_UAR
#define BARE_CQN(i)	(1 + (i))		/* 2 of them, doorbells in slots 0 and 1 */
#define BARE_SRQN	1			/* in slot 0 */
#define BARE_KEY	0x100			/* BARE_BUF, with all rights, by address */
#define BARE_KEY_SEGS	0x200			/* the same in runs of a page, backwards, from 0 on */
#define BARE_KEY_FAST	0x300			/* of up to 8 runs */
#define BARE_KEY_MW1	0x400
#define BARE_KEY_MW2	0x500
#define BARE_KEY_DMA	0x600			/* all DMA addresses */
#define BARE_QKEY	0x1234

/* QP i has number 2 + i, doorbell slot i, and queues at BARE_SQ(i), BARE_RQ(i). */
enum bare_qp {
	BARE_RC_A,		/* connected to BARE_RC_B of the same HCA */
	BARE_RC_B,
	BARE_UC_A,
	BARE_UC_B,
	BARE_UD,		/* in a multicast group */
	BARE_RC_SRQ,		/* receives from the SRQ; connected to that of the other HCA */
	BARE_RC_FAR,		/* connected to that of the other HCA */
	BARE_QPS,
};

#define BARE_QPN(i)	(2 + (i))

struct bare_hca {
	struct simhca_dev *dev;
	int ram_fd;
	uint8_t *ram;		/* BARE_RAM_SIZE bytes */
	uint32_t cmdq_pi;
	uint32_t sq_pi[BARE_QPS];
	uint32_t rq_pi[BARE_QPS];
	uint32_t srq_pi;
	uint8_t gid[16];
};

struct bare {
	struct poller *poller;
	uint64_t now;
	struct bare_hca hca[BARE_HCAS];
};

/* HCAs that master the bus, with their memory, not enabled. */
void bare_open(struct bare *b);
void bare_close(struct bare *b);

/* By the register. */
void bare_enable(struct bare_hca *h);

/*
 * A reset, memory of the guest zeroed. Checks that the device wrote only where it may, and that every
 * object of the guest, and every byte taken for it, was given back. @full: the DMA map, too, is as
 * after bare_open().
 */
void bare_reset(struct bare_hca *h, bool full);

/* Enables both, makes all that is listed above and connects it. After bare_reset() or bare_open(). */
void bare_setup(struct bare *b);

static inline void *bare_ptr(struct bare_hca *h, uint64_t addr)
{
	return h->ram + (addr - BARE_RAM);
}

static inline bool bare_fatal(const struct bare_hca *h)
{
	return atomic_load(&h->dev->status) & SIMHCA_STATUS_FATAL;
}

/* At most @rounds of the poller, @step_ns apart, while there is something to do. True if there is not. */
bool bare_run(struct bare *b, unsigned int rounds, uint64_t step_ns);

/* Returns SIMHCA_CMD_*, BARE_DEAD if the device does not serve commands. */
#define BARE_DEAD	0xffffu
uint16_t bare_cmd(struct bare *b, struct bare_hca *h, const struct simhca_cmd *cmd);

/* Commands that succeed after bare_setup(), one of each kind and variant. */
unsigned int bare_num_cmds(void);
void bare_make_cmd(struct bare *b, struct bare_hca *h, unsigned int i, struct simhca_cmd *cmd);

/* Send requests that succeed after bare_setup(), in order; their QP. */
struct bare_send {
	enum bare_qp qp;
	_Alignas(8) uint8_t entry[1 << BARE_SQ_STRIDE];
};

unsigned int bare_num_sends(void);
void bare_make_send(struct bare *b, struct bare_hca *h, unsigned int i, struct bare_send *send);

void bare_post_send(struct bare_hca *h, const struct bare_send *send);

/* A receive into BARE_BUF */
void bare_make_recv(uint8_t entry[1 << BARE_RQ_STRIDE]);

/* BARE_RC_SRQ: to its SRQ */
void bare_post_recv(struct bare_hca *h, enum bare_qp qp, const uint8_t entry[1 << BARE_RQ_STRIDE]);

/* Whom QP @qp of @h sends to: the QP, and its HCA. */
enum bare_qp bare_peer(struct bare *b, struct bare_hca *h, enum bare_qp qp,
		       struct bare_hca **peer_hca);

/* The QP and its peer go through RESET and are connected again. False if that is not possible. */
bool bare_reconnect(struct bare *b, struct bare_hca *h, enum bare_qp qp);

/* The guest consumes all completions and events. */
void bare_consume(struct bare_hca *h);

/* Values a liar would think of: ends of ranges, addresses and numbers that exist, and others. */
unsigned int bare_num_lies(void);
uint64_t bare_lie(unsigned int i);

#endif /* BARE_HCA_H */
