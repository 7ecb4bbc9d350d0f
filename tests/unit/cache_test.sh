#!/bin/bash
# P2P_CACHE may be deleted between two runs: the next one compiles as before, and fills it again.
set -euo pipefail

# The root is entered once more, from itself.
P2P_TOP=$(cd "$(dirname "$0")/../.." && pwd)
P2P_CACHE=$(mktemp -d)/cache
export P2P_TOP P2P_CACHE
trap 'rm -rf "${P2P_CACHE%/cache}"' EXIT
for run in "no cache" "a cache" "deleted cache"; do
	[[ $run != deleted* ]] || rm -rf "$P2P_CACHE"
	unshare --mount --propagation unchanged "$P2P_TOP/scripts/root-enter.sh" -- sh -c 'echo "int main(void) { return 0; }" >/tmp/a.c && gcc -c -o /tmp/a.o /tmp/a.c &&
		gcc -o /tmp/a /tmp/a.o && /tmp/a'
	find "$P2P_CACHE/ccache" -type f | grep -q . || { echo "FAIL: $run: nothing is in it" >&2 && exit 1; }
	echo "ok: $run"
done
