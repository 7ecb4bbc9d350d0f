/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/* What the fuzzers of an HCA share: steps a guest can take besides what each is about. */
#ifndef FUZZ_HCA_H
#define FUZZ_HCA_H

#include "bare_hca.h"
#include "input.h"

/* Takes @len bytes of input: an u16, where, and what is written into the memory of the guest. */
void fuzz_store(struct bare_hca *h, struct input *in, size_t len);

/* The same: an u16, which doorbell of the first pages, and its value. */
void fuzz_doorbell(struct bare_hca *h, struct input *in, size_t len);

enum {
	FUZZ_TIME,		/* 2^@arg ns pass */
	FUZZ_CONSUME,		/* completions and events */
	FUZZ_BUS_MASTER,	/* is switched by bit 0 of @arg */
	FUZZ_UNMAP,		/* page @arg */
	FUZZ_MAP,		/* and again */
	FUZZ_STEPS,
};

void fuzz_step(struct bare *b, struct bare_hca *h, unsigned int step, uint8_t arg);

#endif /* FUZZ_HCA_H */
