/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * UVERBS_METHOD_QUERY_P2P, which libibverbs does not have. Include it before <infiniband/verbs.h>,
 * which brings older definitions along.
 */
#ifndef P2P_QUERY_H
#define P2P_QUERY_H

#include <rdma/ib_user_ioctl_verbs.h>
#include <stdint.h>

/*
 * What the RDMA device behind the uverbs file @cmd_fd, of the provider @driver, says of @length
 * bytes at @addr. Returns 0 or a negative errno: there is no answer.
 */
int p2p_query(int cmd_fd, enum rdma_driver_id driver, const void *addr, uint64_t length,
	      uint32_t access, struct ib_uverbs_p2p_info *info);

#endif
