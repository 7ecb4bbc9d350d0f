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
