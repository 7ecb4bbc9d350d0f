/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * What devices ask of the engine thread's owner.
 */
#ifndef SIMHCA_POLLER_H
#define SIMHCA_POLLER_H

#include "simhca.h"

struct fabric *poller_fabric(struct poller *poller);

/* Before poller_start(). */
void poller_add(struct poller *poller, struct simhca_dev *dev);

/*
 * One look at everything, at @now by simhca_clock(); true if there was something to do. What the
 * engine thread does, and who has none: a test of a poller that was not started.
 */
bool poller_round(struct poller *poller, uint64_t now);

#endif /* SIMHCA_POLLER_H */
