/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * The nth allocation of the kernel fails: n = 1, 2, ... until nothing is left that could fail.
 */
#ifndef FAILURES_H
#define FAILURES_H

#include <stdbool.h>

/* More allocations than any call that is tested takes. */
#define MAX_NTH 1000

/* Every kind of allocation may be made to fail. Returns 0 or a negative errno. */
int failures_setup(void);

/* What nth_arm() needs, of the calling thread. Returns a negative errno, or the fd. */
int nth_open(void);

/* From now on the @nth allocation of this thread fails, and only that. 0: none. */
void nth_arm(int fd, unsigned int nth);

/* Whether there were so many. None fails any more. */
bool nth_disarm(int fd);

/*
 * Which allocation to fail after the @nth. One of the slab allocator for itself may fail without
 * harm, @unnoticed, and is not made again once it was made: all after it have moved up, and one would
 * never have failed. So the same number comes again, some times; @tries counts, from 0.
 */
unsigned int nth_next(unsigned int nth, bool unnoticed, unsigned int *tries);

#endif
