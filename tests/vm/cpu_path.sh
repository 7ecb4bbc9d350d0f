#!/bin/bash
# Providers whose data path is the CPU: refused for device memory with an errno of its own, unharmed otherwise.
. "$(dirname "$0")/lib.sh"

host=$(host_memory)
netdev=$(hca_netdev)
rdma link add rxe0 type rxe netdev "$netdev"
rdma link add siw0 type siw netdev "$netdev"
for device in rxe0 siw0; do
	expect_reg EOPNOTSUPP "$device" "$VRAM_RESOURCE"
	expect_reg EOPNOTSUPP "$device" "$VRAM_RESOURCE" 4096 100
	expect_reg ok "$device" "$host"
done
expect_reg ok "$HCA" "$VRAM_RESOURCE"
expect_reg ok "$HCA" "$host"
