#!/bin/bash
# The HCA's driver is unbound and bound, idle and under traffic; the same with its network device.
. "$(dirname "$0")/lib.sh"

hca=/sys/class/infiniband/$HCA
bdf=$(basename "$(readlink -f "$hca/device")")
driver=/sys/bus/pci/drivers/simhca
gid=$(<"$hca/ports/1/gids/1")

sent() { cat "$hca/ports/1/hw_counters/tx_bytes"; }

# Until the client sends, and goes on sending.
wait_for_traffic() {
	local before more=0
	for _ in {1..150}; do
		before=$(sent)
		sleep 0.2
		(($(sent) > before)) && ((++more == 5)) && return
	done
	fail "no traffic to unbind under: $before bytes sent"
}

# ends_with_error PID NAME: nobody has to kill it.
ends_with_error() {
	for _ in {1..200}; do
		if ! kill -0 "$1" 2>/dev/null; then
			! wait "$1" || fail "the $2 has noticed nothing: $(<"/tmp/$2")"
			echo "ok: the $2 has ended with an error"
			return
		fi
		sleep 0.1
	done
	fail "the $2 does not end: $(<"/tmp/$2")"
}

for _ in 1 2 3; do
	echo "$bdf" >$driver/unbind
	echo "$bdf" >$driver/bind
done
wait_for_gid "$gid"

ib_write_bw -d "$HCA" --run_infinitely -D 60 --mmap="$VRAM_RESOURCE" &>/tmp/server &
server=$!
wait_for_server "$server"
ib_write_bw -d "$HCA" --run_infinitely -D 60 --mmap="$VRAM_RESOURCE" --mmap-offset=16777216 "$HCA_IP" &>/tmp/client &
client=$!
wait_for_traffic
echo "$bdf" >$driver/unbind
ends_with_error $client client
ends_with_error $server server
echo "$bdf" >$driver/bind
wait_for_gid "$gid"

netdev=$(hca_netdev)
nic=$(basename "$(readlink -f "/sys/class/net/$netdev/device")")
echo "$nic" >/sys/bus/virtio/drivers/virtio_net/unbind
grep -q DOWN "$hca/ports/1/state" || fail "the port is not down without its network device"
echo "$nic" >/sys/bus/virtio/drivers/virtio_net/bind
ip address add "$HCA_IP/24" dev "$netdev"
ip link set "$netdev" up
wait_for_gid "$gid"
grep -q ACTIVE "$hca/ports/1/state" || fail "the port is not active"
expect_reg ok "$HCA" "$VRAM_RESOURCE"
