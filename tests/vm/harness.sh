#!/bin/bash
# harness.sh OUT SIMHCAD: ./run guest, and ./run guests, pass status and output on, and end with an error of their own,
# not in a hang, when a guest panics, a device process dies, or the time is up.
set -euo pipefail

run=$(cd "$(dirname "$0")/../.." && pwd)/run
out=$1
simhcad=$2
mkdir -p "$out"
rm -f "$out/guest/up"

fail() {
	echo "FAIL: $*" >&2
	exit 1
}

# expect STATUS WHAT ARGS...: of ./run guest, or of what $kind says; output goes to $out/stdout and $out/stderr.
kind=guest
expect() {
	local want=$1 what=$2 got=0
	shift 2
	"$run" "$kind" --debug --one-thread --out "$out/$kind" "$@" >"$out/stdout" 2>"$out/stderr" </dev/null || got=$?
	((got == want)) || fail "$what: status $got, not $want; $(tail -n 3 "$out/stderr")"
	echo "ok: $what: status $got"
}

expect 7 "status and output" --check-log --hcas 0 -- sh -c 'echo to stdout; echo to stderr >&2; exit 7'
[[ $(<"$out/stdout") == "to stdout" ]] || fail "standard output is: $(<"$out/stdout")"
grep -qx "to stderr" "$out/stderr" || fail "standard error is: $(<"$out/stderr")"

expect 0 "files" --check-log --hcas 0 --vram 1M -- sh -c 'test -e /src/run && ! touch /src/x 2>/dev/null && echo yes >/out/file'
[[ $(<"$out/guest/file") == yes ]] || fail "/out is not shared"
[[ $(stat -L -c %s "$out/guest/vram0") == 1048576 ]] || fail "vram0 is not the device memory"

expect 120 "panic" --hcas 0 -- sh -c 'echo c >/proc/sysrq-trigger; sleep 60'
expect 124 "time is up" --hcas 0 --timeout 15 -- sleep 600
expect 121 "device process that does not start" --simhcad /bin/false -- true
expect 123 "device process that does not exist" --simhcad /nowhere -- true

cat >"$out/dying" <<TEXT
#!/bin/sh
exec timeout -s KILL 25 "$simhcad" "\$@"
TEXT
chmod +x "$out/dying"
expect 121 "device process that dies" --simhcad "$out/dying" -- sleep 600

expect 122 "bad line in the log" --check-log --hcas 0 -- sh -c 'echo "BUG: a test" >/dev/kmsg'
expect 0 "good log" --check-log --hcas 0 -- true

kind=guests
expect 5 "status and output of two" --hcas 0 -- echo one -- sh -c 'echo two; exit 5'
[[ $(sort "$out/stdout") == $'a: one\nb: two' ]] || fail "standard output of two is: $(<"$out/stdout")"
expect 122 "bad line in the log of one of two" --check-log --hcas 0 -- sh -c 'echo "BUG: a test" >/dev/kmsg' -- true
kind=guest

"$run" guest --debug --one-thread --out "$out/guest" --hcas 0 --timeout 60 -- sh -c 'touch /out/up; sleep 20' &>/dev/null &
until [[ -e $out/guest/up ]] || ! kill -0 $! 2>/dev/null; do sleep 0.1; done
expect 123 "folder that is in use" --hcas 0 -- true
wait
