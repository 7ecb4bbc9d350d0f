#!/bin/bash
# The device process dies under traffic of processes and of the kernel. Everybody hears of it, nothing hangs, and the
# driver lets the device go.
. "$(dirname "$0")/lib.sh"

bdf=$(basename "$(readlink -f "/sys/class/infiniband/$HCA/device")")
driver=/sys/bus/pci/drivers/simhca

ends() { ! kill -0 "$1" 2>/dev/null; }
# comes_back COMMAND...: with whatever answer
comes_back() {
	local rc=0
	timeout 60 "$@" &>/dev/null || rc=$?
	((rc != 124)) || fail "this hangs: $*"
}
sends() { rdma resource show qp link "$HCA" | grep -q "state RTS.*comm ib_write_bw"; }

ibv_asyncwatch -d "$HCA" >/tmp/events 2>&1 &
watcher=$!
ib_write_bw -d "$HCA" --run_infinitely -D 1 --mmap="$VRAM_RESOURCE" &>/dev/null &
server=$!
wait_for_server "$server"
ib_write_bw -d "$HCA" --run_infinitely -D 1 --mmap="$VRAM_RESOURCE" --mmap-offset=16777216 "$HCA_IP" &>/tmp/client &
client=$!
rping -s -a "$HCA_IP" &>/dev/null &
listener=$!
wait_for_server "$listener"
rping -c -a "$HCA_IP" &>/dev/null &
pinger=$!
wait_for sends

host_ask simhcad kill
wait_for grep -q "given up: registers read as all ones" <(dmesg -w)
wait_for grep -qi "fatal" /tmp/events
echo "ok: IB_EVENT_DEVICE_FATAL"
wait_for ends "$client"
wait "$client" && fail "ib_write_bw ended well: $(cat /tmp/client)"
echo "ok: who waits for completions is told"
comes_back rdma resource show qp link "$HCA"
comes_back rdma statistic show link "$HCA/1"
comes_back ibv_devinfo -d "$HCA"

# A reset does not bring it back, and neither does a driver that is bound again.
timeout 120 sh -c "echo 1 >/sys/bus/pci/devices/$bdf/reset" 2>/dev/null || true
[[ ! -e $driver/$bdf ]] || timeout 120 sh -c "echo $bdf >$driver/unbind" || fail "unbind fails"
echo "ok: unbind"
! timeout 120 sh -c "echo $bdf >$driver/bind" 2>/dev/null || fail "a dead device can be bound"
for process in $watcher $server $listener $pinger; do
	kill -9 "$process" 2>/dev/null || true
	wait "$process" 2>/dev/null || true
done
timeout 120 sh -c "echo 1 >/sys/bus/pci/devices/$bdf/remove" || fail "removal fails"
echo "ok: removal"
