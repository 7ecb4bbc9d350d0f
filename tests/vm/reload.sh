#!/bin/bash
# Unbind, bind and reset in a loop, idle and used. What the device process has afterwards is what it had; the kernel's lost
# memory is for kmemleak.
. "$(dirname "$0")/lib.sh"

hca=/sys/class/infiniband/$HCA
bdf=$(basename "$(readlink -f "$hca/device")")
driver=/sys/bus/pci/drivers/simhca
gid=$(<"$hca/ports/1/gids/1")

# Somebody has objects when the device goes.
round() {
	local user
	ib_write_bw -d "$HCA" --mmap="$VRAM_RESOURCE" &>/dev/null &
	user=$!
	wait_for_server "$user"
	if (($1 % 2)); then
		echo 1 >"/sys/bus/pci/devices/$bdf/reset"
	else
		echo "$bdf" >$driver/unbind
		echo "$bdf" >$driver/bind
	fi
	kill -9 $user
	wait $user 2>/dev/null || true
	wait_for_gid "$gid"
}

for i in 1 2; do round $i; done
host_ask simhcad remember
for ((i = 0; i < ${P2P_FULL:+1}20; i++)); do round $i; done
both_ends ib_write_bw -n 100
host_ask simhcad compare
