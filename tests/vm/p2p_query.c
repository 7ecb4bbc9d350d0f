// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#include "p2p_query.h"

#include <errno.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <string.h>
#include <sys/ioctl.h>

/* Up to 8 bytes stand in the attribute itself. */
static struct ib_uverbs_attr attr_in(uint16_t id, uint16_t len, uint64_t value)
{
	return (struct ib_uverbs_attr){
		.attr_id = id, .len = len, .flags = UVERBS_ATTR_F_MANDATORY, .data = value,
	};
}

int p2p_query(int cmd_fd, enum rdma_driver_id driver, const void *addr, uint64_t length,
	      uint32_t access, struct ib_uverbs_p2p_info *info)
{
	struct {
		struct ib_uverbs_ioctl_hdr hdr;
		struct ib_uverbs_attr attrs[4];
	} cmd = {
		.hdr = {
			.length = sizeof(cmd),
			.object_id = UVERBS_OBJECT_DEVICE,
			.method_id = UVERBS_METHOD_QUERY_P2P,
			.num_attrs = 4,
			.driver_id = driver,
		},
		.attrs = {
			attr_in(UVERBS_ATTR_QUERY_P2P_ADDR, 8, (uintptr_t)addr),
			attr_in(UVERBS_ATTR_QUERY_P2P_LENGTH, 8, length),
			attr_in(UVERBS_ATTR_QUERY_P2P_ACCESS_FLAGS, 4, access),
			attr_in(UVERBS_ATTR_QUERY_P2P_RESP, sizeof(*info), (uintptr_t)info),
		},
	};

	memset(info, 0xa5, sizeof(*info));
	return ioctl(cmd_fd, RDMA_VERBS_IOCTL, &cmd) ? -errno : 0;
}
