#!/bin/bash
# Datagrams, the connection manager and multicast, by the tools that Debian has for them, unmodified, as two processes of
# one guest.
. "$(dirname "$0")/lib.sh"

# ends SERVER-COMMAND -- CLIENT-COMMAND: both must end well.
ends() {
	local server_command=() server
	while [[ $1 != -- ]]; do
		server_command+=("$1")
		shift
	done
	shift
	"${server_command[@]}" >/tmp/server 2>&1 &
	server=$!
	wait_for_server "$server"
	timeout 60 "$@" >/tmp/client 2>&1 || fail "$*: $(cat /tmp/client /tmp/server)"
	timeout 60 tail --pid="$server" -f /dev/null || fail "${server_command[*]} does not end: $(cat /tmp/server)"
	wait "$server" || fail "${server_command[*]}: $(cat /tmp/server)"
	echo "ok: ${server_command[*]} -- $*"
}

# The kernel has none of that type.
ud_qp_of_process() { [[ $(rdma resource show qp link "$HCA") == *"type UD"* ]]; }

both_ends ibv_ud_pingpong -g 1
both_ends ibv_ud_pingpong -g 1 -e
both_ends ibv_ud_pingpong -g 1 -s 1 -n 100
both_ends ib_send_bw -c UD -F -n 1000
both_ends ib_send_bw -c UD -F -n 1000 -s 64 -e
both_ends ib_send_lat -c UD -F -n 1000
both_ends ib_send_lat -c UD -F -n 100 -s 1 -I 1

ends rping -s -a "$HCA_IP" -C 100 -V -- rping -c -a "$HCA_IP" -C 100 -V -v
grep -q "^ping data: rdma-ping-99" /tmp/client || fail "rping: $(cat /tmp/client)"
ends ucmatose -b "$HCA_IP" -c 10 -C 100 -- ucmatose -s "$HCA_IP" -c 10 -C 100
ends udaddy -b "$HCA_IP" -c 4 -C 100 -- udaddy -s "$HCA_IP" -c 4 -C 100
ends rdma_server -- rdma_client -s "$HCA_IP"
for tool in ib_write_bw ib_read_bw ib_send_bw ib_write_lat ib_send_lat; do
	both_ends "$tool" -R -F -n 100
done
both_ends --in "$VRAM_RESOURCE" ib_write_bw -R -F -n 100
both_ends ib_send_bw -R -c UD -F -n 100

# The receiver takes its ten messages whenever they come; the sender joins the group, too.
mckey -m 239.1.2.3 -b "$HCA_IP" >/tmp/server 2>&1 &
receiver=$!
wait_for ud_qp_of_process
sleep 1
timeout 60 mckey -m 239.1.2.3 -b "$HCA_IP" -s >/tmp/client 2>&1 || fail "mckey -s: $(cat /tmp/client)"
timeout 60 tail --pid="$receiver" -f /dev/null || fail "mckey has not got all messages: $(cat /tmp/server)"
wait "$receiver" || fail "mckey: $(cat /tmp/server)"
echo "ok: mckey"

# What all this came to
statistic=$(rdma statistic show link "$HCA/1")
[[ $statistic =~ tx_wrs\ ([0-9]+) ]] || fail "rdma statistic: $statistic"
((BASH_REMATCH[1] >= 5000)) || fail "rdma statistic: ${BASH_REMATCH[1]} work requests"
echo "ok: rdma statistic, ${BASH_REMATCH[1]} work requests"
