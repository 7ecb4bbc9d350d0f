#!/bin/bash
# Debian's own perftest and ibv_rc_pingpong, over device memory and over ordinary memory.
. "$(dirname "$0")/lib.sh"

# pair SERVER-ARGS -- CLIENT-ARGS: both ends; the common part is in "common".
pair() {
	local server_args=() server
	while [[ $1 != -- ]]; do
		server_args+=("$1")
		shift
	done
	shift
	"${common[@]}" "${server_args[@]}" >/tmp/server 2>&1 &
	server=$!
	for _ in {1..200}; do
		grep -q ':4853 .*:0000 0A ' /proc/net/tcp /proc/net/tcp6 && break # port 18515, listening
		sleep 0.05
	done
	"${common[@]}" "$@" "$HCA_IP" >/tmp/client 2>&1 || fail "${common[*]} $*: $(cat /tmp/client)"
	wait "$server" || fail "${common[*]}, server: $(cat /tmp/server)"
	echo "ok: ${common[*]}"
}

for tool in ib_write_bw ib_read_bw ib_send_bw ib_write_lat ib_read_lat ib_send_lat; do
	common=("$tool" -d "$HCA" -F -s 65536 -n 100)
	pair -- # ordinary memory, nothing but the device
	common+=("--mmap=$VRAM_RESOURCE")
	pair --mmap-offset=16777216 -- --mmap-offset=0
done
for tool in ib_atomic_bw ib_atomic_lat; do
	common=("$tool" -d "$HCA" -F -n 100)
	pair --
	common+=("--mmap=${VRAM_RESOURCE}_wc")
	pair --mmap-offset=16777216 -- --mmap-offset=0
done
# Events, all sizes, both directions, several QPs
common=(ib_read_bw -d "$HCA" -F -e -n 100)
pair --
common=(ib_send_bw -d "$HCA" -F -e -n 100 --mmap="$VRAM_RESOURCE")
pair --mmap-offset=16777216 -- --mmap-offset=0
common=(ib_write_bw -d "$HCA" -F -a -n 20 --mmap="$VRAM_RESOURCE")
pair --mmap-offset=67108864 -- --mmap-offset=0
common=(ib_write_bw -d "$HCA" -F -b -n 100 -q 4 --mmap="$VRAM_RESOURCE")
pair --mmap-offset=67108864 -- --mmap-offset=0
common=(ibv_rc_pingpong -d "$HCA")
pair --
common=(ibv_rc_pingpong -d "$HCA" -e -g 1)
pair --
