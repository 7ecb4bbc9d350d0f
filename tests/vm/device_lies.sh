#!/bin/bash
# device_lies.sh KIND...: a device that returns nonsense (tests/unit/liar.c), one kind after the other. Whatever becomes of
# who uses it: the kernel lives, and an honest device works again after unbind and bind.
. "$(dirname "$0")/lib.sh"

device=$(readlink -f "/sys/class/infiniband/$HCA/device")
bdf=$(basename "$device")
driver=/sys/bus/pci/drivers/simhca
gid=$(<"/sys/class/infiniband/$HCA/ports/1/gids/1")

# lie KINDS: to the register that only this device has
lie() {
	python3 - "$device/resource0" "$1" <<'PYTHON'
import ctypes, mmap, sys
with open(sys.argv[1], "r+b") as bar:
    registers = mmap.mmap(bar.fileno(), 4096)
ctypes.c_uint32.from_buffer(registers, 0xff0).value = int(sys.argv[2])
PYTHON
}

# Processes, the kernel's queue pair for management, and questions
use() {
	timeout -s KILL 20 ib_send_bw -d "$HCA" -n 500 &
	sleep 1
	timeout -s KILL 20 ib_send_bw -d "$HCA" -n 500 "$HCA_IP"
	timeout -s KILL 20 rping -s -a "$HCA_IP" -C 20 &
	sleep 1
	timeout -s KILL 20 rping -c -a "$HCA_IP" -C 20
	timeout -s KILL 20 rdma resource show qp link "$HCA"
	timeout -s KILL 20 rdma statistic show link "$HCA/1"
	timeout -s KILL 20 ibv_devinfo -v -d "$HCA"
	timeout -s KILL 20 ibv_srq_pingpong -d "$HCA" -g 1 &
	sleep 1
	timeout -s KILL 20 ibv_srq_pingpong -d "$HCA" -g 1 "$HCA_IP"
	wait
}

for kind in "$@"; do
	lie "$kind"
	use &>/tmp/use || true
	# Bound under lies, too: that may fail.
	timeout 120 sh -c "echo $bdf >$driver/unbind" || fail "unbind fails"
	timeout 120 sh -c "echo $bdf >$driver/bind" 2>/dev/null || true
	lie 0
	[[ ! -e $driver/$bdf ]] || timeout 120 sh -c "echo $bdf >$driver/unbind" || fail "unbind fails"
	timeout 120 sh -c "echo $bdf >$driver/bind" || fail "an honest device cannot be bound"
	wait_for_gid "$gid"
	both_ends ib_send_bw -n 500
	echo "ok: lies of kind $kind"
done
dmesg | grep -c "given up" | sed 's/^/given up: /'
