#!/bin/bash
# kunit.sh GUEST-OPTIONS...: boot a guest with the KUnit suites switched on, and judge what they report.
# The options must have --out DIR.
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

out=$(out_of "$@")
"$top/run" guest --append kunit.enable=1 "$@" -- true
"$top/build/linux/tools/testing/kunit/kunit.py" parse "$out/console.log"
