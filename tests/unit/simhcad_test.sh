#!/bin/bash
# simhcad_test.sh SIMHCAD: what the process says, what it refuses, and how it ends.
set -euo pipefail

simhcad=$1
dir=$(mktemp -d)
trap cleanup EXIT

cleanup() {
	local left
	mapfile -t left < <(jobs -pr)
	if ((${#left[@]})); then kill -s KILL "${left[@]}"; fi
	rm -rf "$dir"
}

fail() {
	echo "FAIL: $*" >&2
	exit 1
}

# says STATUS TEXT ARGS...: it ends with STATUS, and TEXT is in a line on standard error.
says() {
	local want=$1 text=$2 got=0
	shift 2
	timeout 20 "$simhcad" "$@" >"$dir/stdout" 2>"$dir/stderr" || got=$?
	((got == want)) || fail "simhcad $*: status $got, not $want: $(<"$dir/stderr")"
	grep -qF -- "$text" "$dir/stderr" || fail "simhcad $*: no '$text' in: $(<"$dir/stderr")"
	[[ ! -s $dir/stdout ]] || fail "simhcad $*: standard output is: $(<"$dir/stdout")"
	echo "ok: simhcad $*: $text"
}

test_help() {
	local option
	"$simhcad" --help >"$dir/stdout" 2>"$dir/stderr" || fail "--help: status $?"
	[[ ! -s $dir/stderr ]] || fail "--help: standard error is: $(<"$dir/stderr")"
	for option in --hca --spin-us --verbose --help --version; do
		grep -q -- "^  $option " "$dir/stdout" || fail "--help does not tell about $option"
	done
	"$simhcad" --version | grep -qxE 'simhcad [0-9]+\.[0-9]+' || fail "--version"
	echo "ok: --help and --version"
}

test_bad_options() {
	local many=() i
	says 2 "at least one --hca is needed"
	says 2 "no arguments, please" --hca "socket=$dir/a" more
	says 2 "Try simhcad --help" --frobnicate
	says 2 "--hca needs socket=PATH" --hca mac=52:54:00:c0:00:01
	says 2 "--hca needs socket=PATH" --hca socket=
	says 2 "--hca does not know color=red" --hca "socket=$dir/a,color=red"
	for i in banana 52:54:00:c0:00 52:54:00:c0:00:01:02 01:54:00:c0:00:01; do
		says 2 "not a unicast MAC address: $i" --hca "socket=$dir/a,mac=$i"
	done
	for i in -1 0 1048576 1s ""; do
		says 2 "max-mr takes 1 to 1048575" --hca "socket=$dir/a,max-mr=$i"
	done
	for i in -1 1000001 1s ""; do
		says 2 "--spin-us takes 0 to 1000000" --hca "socket=$dir/a" --spin-us "$i"
	done
	for i in {0..16}; do many+=(--hca "socket=$dir/$i"); done
	says 2 "more than 16 adapters" "${many[@]}"
	says 1 "$dir/none/a: cannot listen: No such file or directory" --hca "socket=$dir/none/a"
	echo "not a socket" >"$dir/file"
	says 1 "$dir/file: cannot listen: Address already in use" --hca "socket=$dir/file"
	[[ $(<"$dir/file") == "not a socket" ]] || fail "a file was taken for a socket"
	# The first of two sockets goes again when the second cannot be made.
	says 1 "cannot listen" --hca "socket=$dir/a" --hca "socket=$dir/none/b"
	[[ ! -e $dir/a ]] || fail "a socket is left"
}

# start: two adapters; sets "pid". What it says is in $dir/log.
start() {
	: >"$dir/log"
	"$simhcad" --hca "socket=$dir/hca0" --hca "socket=$dir/hca1" 2>"$dir/log" &
	pid=$!
	for _ in {1..400}; do
		if grep -qx "simhcad: ready" "$dir/log"; then break; fi
		kill -0 "$pid" || fail "simhcad ended at its start: $(<"$dir/log")"
		sleep 0.05
	done
	[[ -S $dir/hca0 && -S $dir/hca1 ]] || fail "ready without sockets: $(<"$dir/log")"
}

# test_end SIGNAL: with a connection on one of the sockets.
test_end() {
	local status=0 client
	start
	: >"$dir/client"
	python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
print("connected", flush=True)
s.recv(1)' "$dir/hca1" >"$dir/client" &
	client=$!
	for _ in {1..400}; do
		if grep -qx connected "$dir/client"; then break; fi
		sleep 0.05
	done
	grep -qx connected "$dir/client" || fail "no connection"
	kill -s "$1" "$pid"
	for _ in {1..400}; do
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.05
	done
	if kill -s KILL "$pid" 2>/dev/null; then fail "it does not end on SIG$1"; fi
	wait "$pid" || status=$?
	((status == 0)) || fail "SIG$1: status $status: $(<"$dir/log")"
	[[ ! -e $dir/hca0 && ! -e $dir/hca1 ]] || fail "SIG$1: a socket is left"
	# Its end is the end of the connection.
	wait "$client"
	echo "ok: SIG$1"
}

# A process that was killed leaves its sockets: they are taken over; those of one that lives are not.
test_stale_socket() {
	local first
	start
	kill -s KILL "$pid"
	wait "$pid" || true
	[[ -S $dir/hca0 ]] || fail "no socket was left"
	start
	first=$pid
	says 1 "$dir/hca0: cannot listen: Address already in use" --hca "socket=$dir/hca0"
	[[ -S $dir/hca0 ]] || fail "the socket of another process was removed"
	kill "$first"
	wait "$first" || fail "status $?"
	echo "ok: stale sockets"
}

test_help
test_bad_options
test_end TERM
test_end INT
test_stale_socket
