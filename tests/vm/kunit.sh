#!/bin/bash
# kunit.sh TESTS GUEST-OPTIONS...: boot a guest with the KUnit suites switched on, and judge what they report. TESTS are
# names, separated by commas, of tests that must not be skipped there. The options must have --out DIR.
set -euo pipefail

top=$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd)

out_of() {
	while (($#)); do
		if [[ $1 == --out ]]; then echo "$2" && return; fi
		shift
	done
	echo "kunit.sh: no --out" >&2
	return 1
}

IFS=, read -ra must_run <<<"$1"
shift
out=$(out_of "$@")
"$top/run" guest --append kunit.enable=1 "$@" -- true
"$top/build/linux/tools/testing/kunit/kunit.py" parse "$out/console.log"
for name in "${must_run[@]}"; do
	grep -qE " ok [0-9]+ ${name}[[:space:]]*\$" "$out/console.log" || { echo "kunit.sh: $name did not run" >&2 && exit 1; }
done
