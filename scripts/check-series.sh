#!/bin/bash
# check-series.sh [--no-build]: is the kernel series fit to send? Called by "./run check-series" in the root.
# Compiles after every patch the folders in which the series changes sources (nothing is linked, but what their modules
# use of each other must be exported), then checkpatch --strict, sparse and kernel-doc on all that is new. The tree is
# one of its own, mounted where the usual one is: with the same paths ccache knows what was compiled before.
# A patch is built again only when it, one before it or the overlay changed.
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
# shellcheck source=scripts/kernel.sh
. "${BASH_SOURCE[0]%/*}/kernel.sh"

fragments=("$kernel_configs"/{providers,kunit}.config)
reports=/src/build/series/reports
shared_header=drivers/infiniband/hw/simhca/simhca_hw.h
trace_header=include/trace/events/umem_p2p.h

# Become this program again with the own tree in place.
own_tree() {
	local dir
	if [[ -z ${P2P_OWN_TREE:-} ]]; then
		exec env P2P_OWN_TREE=1 unshare --mount --propagation unchanged "$0" "$@"
	fi
	for dir in linux linux-state; do
		mkdir -p "/src/build/series/$dir" "/src/build/$dir"
		mount --bind "/src/build/series/$dir" "/src/build/$dir"
	done
}

# ---- building ----------------------------------------------------------------------------------------------

# The tree as it is after PATCH..., configured by as much of the fragments as exists there.
prepare() {
	kernel_sync "$@"
	mkdir -p /src/build/kernel/series
	cat "${fragments[@]}" >/src/build/kernel/series/fragments
	kernel_make series KCONFIG_ALLCONFIG=/src/build/kernel/series/fragments allnoconfig
}

# With all patches there, every line of the fragments must be in .config.
prepare_all() {
	kernel_sync "$@"
	kernel_config series "${fragments[@]}"
}

# Folders in which the series changes or brings sources, drivers/infiniband/ and the like: whoever uses what it changes
# in headers is there, as far as ${fragments[@]} ask for it.
series_folders() {
	{ printf '%s\n' "$@" | kernel_patched_files; kernel_overlay_files; } |
		sed -nE 's|^(samples/).*\.c$|\1|p; t; s|^([^/]+/[^/]+/).*\.c$|\1|p' | sort -u
}

# check_exports FOLDER...: what the modules in these use of each other and of what is built in there is exported.
check_exports() {
	cd /src/build/kernel/series
	{
		find "$@" -maxdepth 1 -name built-in.a
		find "$@" -maxdepth 1 -name modules.order -exec cat {} +
	} | xargs nm -A --no-sort | awk -f /src/scripts/exports.awk
}

# build_after FOLDERS PATCH...
build_after() {
	local folders=$1
	shift
	prepare "$@"
	# shellcheck disable=SC2086 # several targets
	kernel_make series $folders
	# shellcheck disable=SC2086 # several folders
	check_exports $folders
}

build_every_patch() {
	local hash done_patches=() patch folders
	folders=$(series_folders "$@")
	hash=$({ kernel_tar_id; hash_of "${fragments[@]}" /src/build/stamp/root; kernel_overlay_files |
		(cd /src/kernel && xargs sha256sum); } | sha256sum)
	for patch in "$@"; do
		done_patches+=("$patch")
		hash=$({ echo "$hash"; cat "$kernel_patches/$patch"; } | sha256sum)
		step_if "series-${patch%%-*}" "$hash" "build after ${patch%.patch}" build_after "$folders" "${done_patches[@]}"
	done
}

# ---- checkpatch --------------------------------------------------------------------------------------------

# checkpatch OPTIONS...: look at the files named on standard input. Complaints, and nothing else, are added to
# $reports/checkpatch; what kept it from looking to $reports/checkpatch.errors: it may die with the status of a
# complaint.
checkpatch() {
	local rc=0
	xargs -P "$(nproc)" -n 4 perl scripts/checkpatch.pl --strict --quiet --no-summary --show-types "$@" \
		>>"$reports/checkpatch" 2>>"$reports/checkpatch.errors" || rc=$?
	# That is what xargs makes of the status of a complaint.
	if ((rc && rc != 123)); then echo "checkpatch.pl: xargs ended with status $rc" >>"$reports/checkpatch.errors"; fi
}

# (MAINTAINERS has no entry for what is not upstream; --file does not ask for one.)
check_checkpatch() {
	rm -f "$reports"/checkpatch{,.errors}
	cd "$kernel_tree"
	printf '%s\n' "${@/#/$kernel_patches/}" | checkpatch
	kernel_overlay_files | grep -vxF -e "$shared_header" -e "$trace_header" | checkpatch --file
	# As in include/uapi/: user space has no BIT().
	echo "$shared_header" | checkpatch --ignore BIT_MACRO --file
	# As all of include/trace/events/: TRACE_EVENT() has a layout of its own.
	echo "$trace_header" | checkpatch --ignore PARENTHESIS_ALIGNMENT,OPEN_ENDED_LINE --file
	cat "$reports"/checkpatch{,.errors}
	[[ ! -s $reports/checkpatch && ! -s $reports/checkpatch.errors ]]
}

# ---- sparse ------------------------------------------------------------------------------------------------

objects_of() { grep '\.c$' | sed 's/\.c$/.o/'; }

# sparse_report OUTPUT OBJECT...: what sparse says of these, without line numbers, sorted.
sparse_report() {
	local output=$1
	shift
	(cd /src/build/kernel/series && rm -f "$@")
	kernel_make series C=2 CHECK=/src/scripts/sparse.sh -k "$@" >"$output.log" 2>&1 ||
		{ grep -E ': error: |\*\*\* ' "$output.log"; return 1; }
	sed -nE 's#^(\.\./)*(/src/build/linux/)?([^ :]+):[0-9]+:([0-9]+:)? (warning|error): (.*)#\3: \5: \6#p' \
		"$output.log" | sort -u >"$output"
}

# ---- kernel-doc --------------------------------------------------------------------------------------------

sources_of() { grep '\.[ch]$'; }

# kernel_doc_report OUTPUT FILE...: what kernel-doc says of these, without line numbers, sorted.
kernel_doc_report() {
	local output=$1
	shift
	(cd "$kernel_tree" && scripts/kernel-doc -none -Wall "$@") 2>&1 |
		sed -E 's/^([A-Za-z]+: [^:]+):[0-9]+/\1/' | sort -u >"$output"
}

# ---- what is new of what they say --------------------------------------------------------------------------

# check_reports NAME FILTER REPORT PATCH...: REPORT on what FILTER makes of the files' names. New files must be clean;
# changed ones must have no warning that they had not before.
check_reports() {
	local name=$1 filter=$2 report=$3 new=() touched=()
	shift 3
	mapfile -t new < <(kernel_overlay_files | "$filter")
	mapfile -t touched < <(printf '%s\n' "$@" | kernel_patched_files | "$filter")
	prepare
	"$report" "$reports/$name.base" "${touched[@]}"
	prepare "$@"
	"$report" "$reports/$name" "${touched[@]}" "${new[@]}"
	comm -13 "$reports/$name.base" "$reports/$name" >"$reports/$name.new"
	cat "$reports/$name.new"
	echo "$name: ${#new[@]} new and ${#touched[@]} changed files"
	[[ ! -s $reports/$name.new ]]
}

# ---- all of it ---------------------------------------------------------------------------------------------

main() {
	local series patches build=1
	own_tree "$@"
	case ${1:-} in
	'') ;;
	--no-build) build=0 ;;
	*) die "check-series: no option $1" ;;
	esac
	mkdir -p "$reports"
	step_if series-unpack "$(kernel_tar_id)" "unpacking Linux for the series" kernel_unpack
	series=$(kernel_series)
	mapfile -t patches <<<"$series"
	if ((build)); then build_every_patch "${patches[@]}"; fi
	step series-prepare "the whole series" prepare_all "${patches[@]}"
	step series-checkpatch "checkpatch --strict" check_checkpatch "${patches[@]}"
	step series-sparse "sparse" check_reports sparse objects_of sparse_report "${patches[@]}"
	step series-kernel-doc "kernel-doc" \
		check_reports kernel-doc sources_of kernel_doc_report "${patches[@]}"
	if ((build)); then
		say "check-series: ${#patches[@]} patches: what each leaves compiles; checkpatch, sparse and kernel-doc are clean"
	else
		say "check-series: ${#patches[@]} patches: checkpatch, sparse and kernel-doc are clean (not built one by one)"
	fi
}

main "$@"
