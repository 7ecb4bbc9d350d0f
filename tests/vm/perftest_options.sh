#!/bin/bash
# The options of Debian's perftest that RC queue pairs can do, over device memory, and ibv_rc_pingpong.
. "$(dirname "$0")/lib.sh"

# A command of perftest a line. What each tool does without options is in perftest.sh.
commands() {
	grep -v '^#' <<-TEXT
		# all sizes, and odd ones
		ib_write_bw -a -n 5
		ib_read_bw -s 1 -n 100
		ib_write_bw -s 4097 -n 100
		ib_send_lat -s 3 -n 100
		ib_read_lat -s 7 -n 100
		ib_send_bw -s 1000003 -n 20
		ib_write_bw -s 8388608 -n 5
		# for a time instead of a number
		ib_write_bw -D 1
		ib_read_bw -D 2 -f 0 -q 4 -b
		ib_send_lat -D 1
		ib_atomic_bw -D 1
		# QPs, both directions, depths
		ib_write_bw -q 16 -b -n 50
		ib_send_bw -q 4 -b -n 100
		ib_atomic_bw -q 4 -b -n 100
		ib_write_bw -t 1 -n 100
		ib_write_bw -t 2048 -n 4096 -s 64
		ib_send_bw -t 1 -r 1 -n 100
		ib_send_bw -r 1024 -n 2048 -s 64
		ib_read_bw -o 1 -n 100
		ib_read_bw -o 16 -n 100
		# several work requests a doorbell, completions, inline data
		ib_write_bw -l 16 -q 2 -b -n 128
		ib_send_bw -l 8 --recv_post_list=8 -n 128
		ib_write_bw -Q 1 -n 100
		ib_write_bw -I 64 -s 64 -n 100
		ib_send_lat -I 32 -s 32 -n 100
		# events
		ib_read_bw -e -n 100
		ib_send_bw -e -b -n 100
		ib_atomic_lat -e -n 50
		# the connection
		ib_write_bw -c RC -x 0 -n 100
		ib_write_bw -c UC -q 2 -n 100
		ib_write_lat -c UC -n 100
		ib_send_lat -c UC -n 100
		ib_read_bw -x 1 -n 100
		ib_write_bw -m 256 -n 100
		ib_send_bw -m 4096 -n 100
		ib_write_bw -p 18515 -i 1 -S 3 -u 14 --tclass=32 --retry_count=3 -n 100
		ib_write_bw --ipv6 -n 100
		# other verbs, and ways to post
		ib_write_bw --write_with_imm -q 4 -b -n 100
		ib_atomic_bw -A CMP_AND_SWAP -n 100
		ib_write_bw --use_old_post_send -n 100
		ib_write_bw --no_lock -q 2 -n 100
		# a shared receive queue
		ib_send_bw --use-srq -q 4 -n 100
		ib_send_lat --use-srq -n 100
		# reports
		ib_write_bw -N --report_gbits -n 100
		ib_write_bw -b --report-both -n 100
		ib_read_bw --reversed -n 100
		ib_write_lat -H -U -n 100
		ib_write_bw -w 10 --rate_limit_type=SW --perform_warm_up -n 100
	TEXT
}

# endless TOOL ARGS...: until it is ended; it must still run then and have told several times how fast it is.
endless() {
	local server client
	stdbuf -oL "$@" -d "$HCA" --mmap="$VRAM_RESOURCE" --mmap-offset=134217728 &>/tmp/server &
	server=$!
	wait_for_server "$server"
	stdbuf -oL "$@" -d "$HCA" --mmap="$VRAM_RESOURCE" "$HCA_IP" &>/tmp/client &
	client=$!
	for _ in {1..100}; do
		(($(grep -cE '^ [0-9]+ +[0-9]+ ' /tmp/client) < 3)) || break
		sleep 0.2
	done
	kill -0 "$client" || fail "$*: $(cat /tmp/client)"
	kill "$server" "$client"
	wait "$server" "$client" || true
	(($(grep -cE '^ [0-9]+ +[0-9]+ ' /tmp/client) >= 3)) || fail "$*: $(cat /tmp/client)"
	echo "ok: $*"
}

while read -ra words; do
	both_ends --in "$VRAM_RESOURCE" "${words[@]}" -F </dev/null
done < <(commands)
endless ib_write_bw -F -D 1 --run_infinitely
# With --mmap perftest 25.01 forgets all buffers but the last.
both_ends ib_write_bw --mr_per_qp -q 4 -F -n 100
both_ends ibv_rc_pingpong
both_ends ibv_rc_pingpong -e -g 1
both_ends ibv_rc_pingpong -t
both_ends ibv_rc_pingpong -N
both_ends ibv_srq_pingpong
