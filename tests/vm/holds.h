/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * What memory regions hold, as the kernel counts it: to see that all of it is given back, and once.
 */
#ifndef HOLDS_H
#define HOLDS_H

#include <stdbool.h>

struct holds {
	long buf_refs;		/* references to the DMA-bufs of the device memory, all together */
	long attached;		/* attachments of HCAs to DMA-bufs, whosoever */
	long awake;		/* runtime PM usage count of the device */
	long pinned;		/* pinned pages of ordinary memory, of the whole system */
};

/* Returns 0 or a negative errno. */
int holds_read(struct holds *now);

/* Waits at most 10 s until all is as in @want. Says on standard output what is not, otherwise. */
bool holds_settle(const struct holds *want);

#endif
