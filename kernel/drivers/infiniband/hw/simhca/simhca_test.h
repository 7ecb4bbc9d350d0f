/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * simhca: what the KUnit tests share.
 */
#ifndef SIMHCA_TEST_H
#define SIMHCA_TEST_H

#include <rdma/ib_verbs.h>

/* The first one, kept from going away until ib_device_put(), or NULL */
struct ib_device *simhca_test_find_hca(void);

#endif /* SIMHCA_TEST_H */
