# shellcheck shell=bash
# Helpers of ./run: messages, long steps, stamps. Sourced.

: "${P2P_TOP:=/src}" # where it is in the root

# Progress goes to stderr: standard output belongs to the guest's command.
say() { printf '%s\n' "$*" >&2; }
die() { printf 'run: %s\n' "$*" >&2; exit 1; }

# The path a person on the host would use for a path as seen in the root.
shown() {
	case $1 in
	/src/*) printf '%s\n' "${P2P_HOST_TOP:-/src}/${1#/src/}" ;;
	*) printf '%s\n' "$1" ;;
	esac
}

# One line now and then while step $1 runs: how long, and the log's last line.
step_ticker() {
	local start=$1 log=$2 parent=$3 never
	# A pipe that nobody writes to: a "sleep" would outlive this, and hold the locks that it inherits.
	exec {never}<> <(:)
	while ! read -r -t 30 -u "$never" && kill -0 "$parent" 2>/dev/null; do
		say "   $((SECONDS - start)) s: $(tail -n 1 "$log" | tr -d '\r' | cut -c 1-90)"
	done
}

# step NAME TITLE CMD...: run CMD with its output in build/log/NAME.log.
step() {
	local name=$1 title=$2 start=$SECONDS rc ticker log
	shift 2
	log=$P2P_TOP/build/log/$name.log
	mkdir -p "${log%/*}"
	say "== $title"
	: >"$log"
	step_ticker "$start" "$log" "$$" &
	ticker=$!
	# Not "cmd || rc=": that would switch off errexit inside CMD.
	set +e
	(
		set -e
		"$@"
	) >>"$log" 2>&1 </dev/null
	rc=$?
	set -e
	kill "$ticker" 2>/dev/null || true
	wait "$ticker" 2>/dev/null || true
	if ((rc)); then
		tail -n 20 "$log" | sed 's/^/   | /' >&2
		die "$title: failed with status $rc after $((SECONDS - start)) s; all of it is in $(shown "$log")"
	fi
	say "   $title: $((SECONDS - start)) s"
}

# hash_of PATH...: one hash over names and contents of files and folders.
hash_of() {
	local p
	for p in "$@"; do
		if [[ -e $p ]]; then find "$p" -type f -print0; fi
	done | sort -z | xargs -0r sha256sum | sha256sum | cut -c 1-32
}

# stamped NAME HASH: is what NAME stands for already made from HASH?
stamped() { [[ -f $P2P_TOP/build/stamp/$1 && $(<"$P2P_TOP/build/stamp/$1") == "$2" ]]; }
stamp() {
	mkdir -p "$P2P_TOP/build/stamp"
	printf '%s\n' "$2" >"$P2P_TOP/build/stamp/$1"
}

# step_if NAME HASH TITLE CMD...: a step that is skipped while HASH stays the same.
step_if() {
	local name=$1 hash=$2
	shift 2
	stamped "$name" "$hash" && return 0
	rm -f "$P2P_TOP/build/stamp/$name"
	step "$name" "$@"
	stamp "$name" "$hash"
}
