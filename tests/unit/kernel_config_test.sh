#!/bin/bash
# A line of a configuration fragment that does not survive into .config is an error (scripts/kernel.sh).
set -euo pipefail

top=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$top/scripts/lib.sh"
# shellcheck source=scripts/kernel.sh
. "$top/scripts/kernel.sh"

dir=$(mktemp -d)
trap 'rm -rf "$dir" /src/build/kernel/config-test' EXIT

fail() {
	echo "FAIL: $*" >&2
	exit 1
}

cat >"$dir/first" <<'TEXT'
# a comment, and CONFIG_COMMENT=y in one
CONFIG_YES=y
CONFIG_MODULE=m
CONFIG_TEXT="a = b"
CONFIG_NUMBER=64
# CONFIG_OFF is not set
CONFIG_ALSO_OFF=n
CONFIG_CHANGED=y
TEXT
echo 'CONFIG_CHANGED=m' >"$dir/last"

# What make leaves of them when every line survives
cat >"$dir/good" <<'TEXT'
CONFIG_YES=y
CONFIG_YES_AND_MORE=y
CONFIG_MODULE=m
CONFIG_TEXT="a = b"
CONFIG_NUMBER=64
# CONFIG_OFF is not set
CONFIG_CHANGED=m
TEXT

# lost WANT SED-SCRIPT: the lines that are lost when SED-SCRIPT changes the good .config.
lost() {
	local got
	sed -E "$2" "$dir/good" >"$dir/config"
	got=$(kernel_lost_lines "$dir/config" "$dir/first" "$dir/last" | tr '\n' ' ')
	[[ $got == "${1:+$1 }" ]] || fail "after $2 lost are: $got, not: $1"
	echo "ok: $2: ${1:-nothing lost}"
}

lost '' ''
lost '' '/OFF/d'
lost CONFIG_YES=y '/CONFIG_YES=/d'
lost CONFIG_YES=y 's/CONFIG_YES=y/# CONFIG_YES is not set/'
lost CONFIG_MODULE=m 's/MODULE=m/MODULE=y/'
lost 'CONFIG_TEXT="a = b"' 's/a = b/a/'
lost CONFIG_NUMBER=64 's/64/640/'
lost CONFIG_OFF=n 's/# CONFIG_OFF is not set/CONFIG_OFF=y/'
lost CONFIG_ALSO_OFF=n 's/# CONFIG_OFF/CONFIG_ALSO_OFF=m\n&/'
lost CONFIG_CHANGED=m 's/CHANGED=m/CHANGED=y/'
lost 'CONFIG_CHANGED=m CONFIG_YES=y' '/YES=|CHANGED/d'

# And the step that configures a kernel fails of it, and names the line.
kernel_make() { cp "$dir/config" "/src/build/kernel/$1/.config"; }
if kernel_config config-test "$dir/first" "$dir/last" >"$dir/said"; then fail "no error"; fi
grep -qx CONFIG_YES=y "$dir/said" || fail "the line is not named: $(<"$dir/said")"
cp "$dir/good" "$dir/config"
kernel_config config-test "$dir/first" "$dir/last" || fail "an error without a lost line"
echo "ok: kernel_config"
