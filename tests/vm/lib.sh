# shellcheck shell=bash
# Helpers of the scripts that run in a guest. Sourced.
set -euo pipefail

BIN=$(dirname "$0")/../../build/cmake-sanitize/bin

fail() {
	echo "FAIL: $*" >&2
	exit 1
}

# expect_reg WANT REGMR-ARGS...: what ibv_reg_mr() gives, "ok" or the name of an errno, called through the words of
# "reg_as".
reg_as=()
expect_reg() {
	local want=$1 got
	shift
	got=$("${reg_as[@]}" "$BIN/regmr" "$@" | jq -r 'if .ok then "ok" else .errno end')
	[[ $got == "$want" ]] || fail "ibv_reg_mr on $*: $got, not $want"
	echo "ok: ibv_reg_mr on $*: $got"
}

hca_netdev() { cat "/sys/class/infiniband/$HCA/ports/1/gid_attrs/ndevs/0"; }

# A file of ordinary memory, to be mapped shared like a BAR.
host_memory() {
	local file=/dev/shm/host-memory
	truncate -s 64M "$file"
	echo "$file"
}

# wait_for COMMAND...: until it succeeds, for up to two minutes.
wait_for() {
	local i
	for ((i = 0; i < 2400; i++)); do
		if "$@"; then return; fi
		sleep 0.05
	done
	fail "this does not come true: $*"
}

# host_ask WORDS...: what host.h has for programs.
host_ask() {
	local number=$RANDOM$RANDOM dir=/out/.guest got text
	echo "$number $*" >$dir/ask.new
	mv $dir/ask.new $dir/ask
	for _ in {1..600}; do
		if read -r got text 2>/dev/null <$dir/answer && [[ $got == "$number" ]]; then
			[[ $text == ok ]] || fail "the host says to \"$*\": $text"
			return
		fi
		sleep 0.1
	done
	fail "the host says nothing to \"$*\""
}

# Until the HCA has the GID of its IPv4 address, $1.
wait_for_gid() {
	for _ in {1..600}; do
		grep -qsx "$1" "/sys/class/infiniband/$HCA/ports/1/gids/"* && return
		sleep 0.1
	done
	fail "no GID $1"
}

# A server of perftest or ibv_rc_pingpong listens, or one that uses the connection manager, or $1 has ended.
wait_for_server() {
	while kill -0 "$1" 2>/dev/null; do
		grep -q ':4853 .*:0000 0A ' /proc/net/tcp /proc/net/tcp6 && return # port 18515, listening
		[[ $(rdma resource show cm_id) != *"state LISTEN"* ]] || return 0
		sleep 0.05
	done
}

# both_ends [--in FILE] TOOL ARGS...: Debian's TOOL on $HCA as server and as client, with --in in disjoint halves of
# FILE, 256 MiB.
both_ends() {
	local server_in=() client_in=() server
	if [[ $1 == --in ]]; then
		server_in=("--mmap=$2" --mmap-offset=134217728)
		client_in=("--mmap=$2")
		shift 2
	fi
	"$@" -d "$HCA" "${server_in[@]}" >/tmp/server 2>&1 &
	server=$!
	wait_for_server "$server"
	"$@" -d "$HCA" "${client_in[@]}" "$HCA_IP" >/tmp/client 2>&1 || fail "$*: $(cat /tmp/client)"
	wait "$server" || fail "$*, server: $(cat /tmp/server)"
	echo "ok: $* ${client_in[*]}"
}
