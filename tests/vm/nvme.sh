#!/bin/bash
# nvme.sh host|target: the stock kernel's NVMe over RDMA between two guests. The namespace is a file of the target, whose
# bytes are compared with what went through the host's block device. Connected twice; then the target is killed.
. "$(dirname "$0")/lib.sh"

NQN=nqn.2014-08.org.example:disk
FILE=/dev/shm/namespace
DISK=/dev/nvme0n1
MIB=32
ROUNDS=2

sum() { sha256sum "$1" | cut -d ' ' -f 1; }

# tell NAME [TEXT], hear NAME: what the other guest must know. It never sees a part.
tell() { echo "${2:-}" >"/pair/.$1" && mv "/pair/.$1" "/pair/$1"; }
hear() { wait_for test -e "/pair/$1" && cat "/pair/$1"; }

# same WHAT A B
same() {
	[[ $2 == "$3" ]] || fail "$1: $2, not $3"
	echo "ok: $1"
}

# ---- target ----

serve() {
	local nvmet=/sys/kernel/config/nvmet
	local subsystem=$nvmet/subsystems/$NQN port=$nvmet/ports/1
	mount -t configfs none /sys/kernel/config
	mkdir "$subsystem" "$subsystem/namespaces/1" "$port"
	echo 1 >"$subsystem/attr_allow_any_host"
	echo "$FILE" >"$subsystem/namespaces/1/device_path"
	echo 1 >"$subsystem/namespaces/1/enable"
	echo rdma >"$port/addr_trtype"
	echo ipv4 >"$port/addr_adrfam"
	echo "$HCA_IP" >"$port/addr_traddr"
	echo 4420 >"$port/addr_trsvcid"
	ln -s "$subsystem" "$port/subsystems/$NQN"
}

target() {
	local round
	truncate -s ${MIB}M "$FILE"
	serve
	tell serving
	for ((round = 1; round <= ROUNDS; round++)); do
		same "round $round: the file has what was written" "$(hear "written.$round")" "$(sum "$FILE")"
		dd if=/dev/urandom of="$FILE" bs=1M count=$MIB conv=notrunc status=none
		tell "offered.$round" "$(sum "$FILE")"
	done
	sleep infinity
}

# ---- host ----

# QPs and MRs of kernel users; the one QP is that of the connection manager.
NONE="qp 1 mr 0"
kernel_objects() {
	local kind
	for kind in qp mr; do
		rdma -j resource show "$kind" | jq -r "map(select(.pid == null)) | \"$kind \(length)\""
	done | xargs
}

# piece CPU FIRST-MIB MIB KIB-OF-A-REQUEST DD-ARGS...: a CPU has a queue of its own.
piece() {
	local cpu=$1 at=$(($2 * 1024 / $4)) count=$(($3 * 1024 / $4)) size=$4
	shift 4
	taskset -c "$cpu" dd "$@" bs="${size}K" skip="$at" seek="$at" count="$count" conv=notrunc status=none
}

# copy DD-ARGS...: all of it, by both CPUs at once, in requests of several sizes: one page of data goes with a command,
# more of it is read, or written, by the target, through a fast registration.
copy() {
	local cpu half=$((MIB / 2)) jobs=() job
	for cpu in 0 1; do
		{
			piece "$cpu" $((cpu * half)) 1 4 "$@"
			piece "$cpu" $((cpu * half + 1)) 3 128 "$@"
			piece "$cpu" $((cpu * half + 4)) $((half - 4)) 1024 "$@"
		} &
		jobs+=($!)
	done
	for job in "${jobs[@]}"; do wait "$job" || fail "dd $*"; done
}

connect() {
	nvme connect -t rdma -a "$PEER_IP" -s 4420 -n "$NQN" -i 2 "$@"
	wait_for test -b "$DISK"
	same "two queues for data" "$(cat /sys/class/nvme/nvme0/queue_count)" 3
	same "memory is registered, always" "$(cat /sys/module/nvme_rdma/parameters/register_always)" Y
}

round() {
	connect
	head -c ${MIB}M /dev/urandom >/dev/shm/data
	copy if=/dev/shm/data of="$DISK" oflag=direct
	tell "written.$1" "$(sum /dev/shm/data)"
	offered=$(hear "offered.$1")
	copy if="$DISK" of=/dev/shm/data iflag=direct
	same "round $1: the host reads what the file has" "$offered" "$(sum /dev/shm/data)"
	[[ $(kernel_objects) != "$NONE" ]] || fail "no QP, and no MR"
	nvme disconnect -n "$NQN"
	same "nothing is left" "$(kernel_objects)" "$NONE"
}

# Writes until that fails, which it must say.
write_on() {
	while dd if=/dev/shm/data of="$DISK" oflag=direct bs=1M conv=notrunc status=none; do :; done 2>/dev/shm/error
}

lose_target() {
	local writer
	connect --keep-alive-tmo=2 --reconnect-delay=1 --fast_io_fail_tmo=1 --ctrl-loss-tmo=5
	write_on &
	writer=$!
	sleep 1
	kill -0 "$writer" || fail "cannot write: $(cat /dev/shm/error)"
	"$BIN/ask_host" "peer kill"
	wait_for eval "! kill -0 $writer 2>/dev/null"
	grep -qE 'Input/output error|Link has been severed' /dev/shm/error || fail "the writer says: $(cat /dev/shm/error)"
	echo "ok: $(cat /dev/shm/error)"
	# The connection manager tries for more than a minute before the driver gives up.
	[[ -n ${P2P_FULL:-} ]] || return 0
	wait_for test ! -e /sys/class/nvme/nvme0
	same "nothing is left" "$(kernel_objects)" "$NONE"
}

host() {
	local i
	hear serving >/dev/null
	for ((i = 1; i <= ROUNDS; i++)); do round $i; done
	lose_target
}

"$1"
