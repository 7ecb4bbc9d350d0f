#!/bin/bash
# The HCA's driver is unbound and bound, idle and under traffic; the same with its network device.
. "$(dirname "$0")/lib.sh"

hca=/sys/class/infiniband/$HCA
bdf=$(basename "$(readlink -f "$hca/device")")
driver=/sys/bus/pci/drivers/simhca
gid=$(<"$hca/ports/1/gids/1")

# ready WHEN: until the HCA has the GID of its IPv4 address again.
ready() {
	for _ in {1..200}; do
		grep -qsx "$gid" "$hca/ports/1/gids/"* && return
		sleep 0.1
	done
	fail "no GID $1"
}

# Until the client sends, and a second more.
wait_for_traffic() {
	for _ in {1..300}; do
		rdma resource show qp link "$HCA" | grep -q "state RTS" && sleep 1 && return
		sleep 0.1
	done
	fail "no traffic to unbind under: $(rdma resource show qp link "$HCA")"
}

for _ in 1 2 3; do
	echo "$bdf" >$driver/unbind
	echo "$bdf" >$driver/bind
done
ready "after bind"

ib_write_bw -d "$HCA" --run_infinitely -D 60 --mmap="$VRAM_RESOURCE" &>/dev/null &
server=$!
wait_for_server "$server"
ib_write_bw -d "$HCA" --run_infinitely -D 60 --mmap="$VRAM_RESOURCE" --mmap-offset=16777216 "$HCA_IP" &>/dev/null &
client=$!
wait_for_traffic
echo "$bdf" >$driver/unbind
kill -9 $server $client 2>/dev/null || true
wait $server $client 2>/dev/null || true
echo "$bdf" >$driver/bind
ready "after unbind under traffic"

netdev=$(hca_netdev)
nic=$(basename "$(readlink -f "/sys/class/net/$netdev/device")")
echo "$nic" >/sys/bus/virtio/drivers/virtio_net/unbind
grep -q DOWN "$hca/ports/1/state" || fail "the port is not down without its network device"
echo "$nic" >/sys/bus/virtio/drivers/virtio_net/bind
ip address add "$HCA_IP/24" dev "$netdev"
ip link set "$netdev" up
ready "after the network device came back"
grep -q ACTIVE "$hca/ports/1/state" || fail "the port is not active"
expect_reg ok "$HCA" "$VRAM_RESOURCE"
