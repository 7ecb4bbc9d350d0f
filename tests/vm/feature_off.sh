#!/bin/bash
# ib_core.umem_p2p=0: every errno is that of the stock kernel.
. "$(dirname "$0")/lib.sh"

[[ $(</sys/module/ib_core/parameters/umem_p2p) == N ]] || fail "the feature is on"
host=$(host_memory)
rdma link add rxe0 type rxe netdev "$(hca_netdev)"
for device in "$HCA" rxe0; do
	expect_reg EFAULT "$device" "$VRAM_RESOURCE"
	expect_reg EFAULT "$device" "${VRAM_RESOURCE}_wc"
	expect_reg ok "$device" "$host"
done
! ib_write_bw -d "$HCA" -s 65536 -n 10 --mmap="$VRAM_RESOURCE" >/tmp/server 2>&1 &
server=$!
sleep 2
! ib_write_bw -d "$HCA" -s 65536 -n 10 --mmap="$VRAM_RESOURCE" "$HCA_IP" >/tmp/client 2>&1 ||
	fail "ib_write_bw works on device memory"
grep -q "Couldn't allocate MR\|failed to create mr" /tmp/client || fail "$(cat /tmp/client)"
kill "$server" 2>/dev/null || true
echo "ok: ib_write_bw: $(grep -m 1 "MR\|mr" /tmp/client)"
