#!/bin/bash
# run.sh FUZZER [SECONDS]: all inputs of corpus/FUZZER, then new ones. What is found is kept in build/fuzz, for the
# next run, and what fails beside it.
# run.sh --keep FUZZER: corpus/FUZZER becomes the smallest set of all known inputs that covers as much.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)

keep=
if [[ $1 == --keep ]]; then
	keep=1
	shift
fi
name=$1
seconds=${2:-${P2P_FULL:+600}}
corpus=$top/tests/fuzz/corpus/$name
found=$top/build/fuzz/$name
options=(-max_len=1024 -timeout=20 -rss_limit_mb=2048 -artifact_prefix="$found." -verbosity=0 -print_final_stats=1)
mkdir -p "$found"

if [[ -n $keep ]]; then
	rm -rf "$found.small"
	mkdir "$found.small"
	"$top/build/cmake-fuzz/bin/$name" "${options[@]}" -merge=1 "$found.small" "$corpus" "$found"
	rm -rf "$corpus"
	mv "$found.small" "$corpus"
	exit
fi
exec "$top/build/cmake-fuzz/bin/$name" "${options[@]}" -max_total_time="${seconds:-5}" "$found" "$corpus"
