#!/bin/bash
# Debian's own perftest: every tool over device memory, with --host-too also over ordinary memory.
. "$(dirname "$0")/lib.sh"

host_too=${1:-}

# traffic FILE TOOL ARGS...
traffic() {
	local file=$1
	shift
	[[ -z $host_too ]] || both_ends "$@" -F -n 100
	both_ends --in "$file" "$@" -F -n 100
}

for tool in ib_write_bw ib_read_bw ib_send_bw ib_write_lat ib_read_lat ib_send_lat; do
	traffic "$VRAM_RESOURCE" "$tool" -s 65536
done
for tool in ib_atomic_bw ib_atomic_lat; do
	traffic "${VRAM_RESOURCE}_wc" "$tool"
done
