# shellcheck shell=bash
# The kernel: one source tree (Linux, overlay, patch series), one build folder a configuration.
# Sourced; works in the root.

kernel_tree=/src/build/linux
kernel_state=/src/build/linux-state # originals of changed files (orig/) and what is not Linux as it came (managed)
kernel_patches=/src/kernel/patches/7.3
kernel_configs=/src/kernel/configs

kernel_tar() { printf '%s\n' "${P2P_LINUX_TAR:-/usr/src/linux-source-7.3.tar.xz}"; }

# Names of the series' patches, in order. A patch that the series forgets is an error.
kernel_series() {
	local listed forgotten
	listed=$(sed -E 's/[[:space:]]*(#.*)?$//; /^$/d' "$kernel_patches/series")
	forgotten=$(find "$kernel_patches" -name '*.patch' -printf '%f\n' | sort | comm -23 - <(sort <<<"$listed"))
	[[ -z $forgotten ]] || die "not in kernel/patches/7.3/series: $forgotten"
	printf '%s\n' "$listed"
}

# Files that the patches named on standard input change.
kernel_patched_files() {
	(cd "$kernel_patches" && xargs -r sed -nE 's/^(---|\+\+\+) [ab]\/([^[:space:]]+).*/\2/p') | sort -u
}

# Paths of the overlay, relative to the tree: folders only, files beside them are documents.
kernel_overlay_files() {
	(cd /src/kernel && find . -mindepth 2 \( -path './patches/*' -o -path './configs/*' \) -prune -o -mindepth 2 -type f -printf '%P\n') |
		sort
}

kernel_unpack() {
	mkdir -p "$kernel_tree" "$kernel_state"
	find "$kernel_tree" "$kernel_state" -mindepth 1 -delete
	tar -C "$kernel_tree" --strip-components=1 -xf "$(kernel_tar)"
	mkdir "$kernel_state/orig"
	: >"$kernel_state/managed"
}

# Original of each file named on standard input, kept aside before it is changed for the first time.
kernel_keep_originals() {
	local file orig=$kernel_state/orig
	while read -r file; do
		[[ -e $orig/$file || ! -e $kernel_tree/$file ]] && continue
		grep -qxF "$file" "$kernel_state/managed" && continue
		mkdir -p "$orig/${file%/*}"
		cp -p "$kernel_tree/$file" "$orig/$file"
	done
}

# kernel_stage PATCH...: overlay and patched files, alone, in $kernel_state/stage.
kernel_stage() {
	local stage=$kernel_state/stage orig=$kernel_state/orig file
	rm -rf "$stage"
	mkdir -p "$stage"
	kernel_overlay_files >"$stage/.overlay"
	while read -r file; do
		if [[ -e $kernel_tree/$file ]] && ! grep -qxF "$file" "$kernel_state/managed"; then
			die "kernel/$file exists in Linux already: change it by a patch"
		fi
	done <"$stage/.overlay"
	rsync -a --files-from="$stage/.overlay" /src/kernel/ "$stage/"
	(($#)) || return 0
	printf '%s\n' "$@" | kernel_patched_files >"$stage/.patched"
	kernel_keep_originals <"$stage/.patched"
	(cd "$orig" && while read -r file; do [[ ! -e $file ]] || printf '%s\n' "$file"; done <"$stage/.patched") |
		rsync -a --files-from=- "$orig/" "$stage/"
	printf '%s\n' "$@" >"$stage/.series"
	(cd "$stage" && QUILT_PATCHES=$kernel_patches QUILT_SERIES=$stage/.series quilt --quiltrc - push -a --fuzz=0 -q)
}

# kernel_sync PATCH...: bring the tree to Linux + overlay + these patches, writing only files that differ,
# so that make builds only what changed.
kernel_sync() {
	local stage=$kernel_state/stage managed=$kernel_state/managed file
	kernel_stage "$@"
	(cd "$stage" && find . \( -name .pc -o -path './.[a-z]*' \) -prune -o -type f -printf '%P\n') | sort >"$stage/.managed"
	comm -13 "$stage/.managed" "$managed" >"$stage/.dropped"
	# Stands before the first write: an interrupted run must know what it may have written.
	sort -u "$stage/.managed" "$managed" -o "$managed"
	while read -r file; do
		cmp -s "$stage/$file" "$kernel_tree/$file" && continue
		mkdir -p "$(dirname "$kernel_tree/$file")"
		cp "$stage/$file" "$kernel_tree/$file"
		printf 'wrote %s\n' "$file"
	done <"$stage/.managed"
	while read -r file; do
		if [[ -e $kernel_state/orig/$file ]]; then
			cp "$kernel_state/orig/$file" "$kernel_tree/$file"
		else
			rm -f "$kernel_tree/$file"
		fi
		printf 'restored %s\n' "$file"
	done <"$stage/.dropped"
	cp "$stage/.managed" "$managed"
	rm -rf "$stage"
}

kernel_tar_id() { stat -L -c '%n %s %Y' "$(kernel_tar)"; }

# Hash of all that the tree is made from.
kernel_tree_hash() {
	{
		kernel_tar_id
		find /src/kernel -mindepth 1 -maxdepth 1 -type d ! -name configs -print0 | sort -z |
			while IFS= read -r -d '' p; do hash_of "$p"; done
		hash_of /src/scripts/kernel.sh
	} | sha256sum | cut -c 1-32
}

# The tree's lock: exclusive for who changes it, shared for who builds from it and does not hold ./run's build lock.
# kernel_tree_hold -s|-x: held until "kernel_tree_fd" is closed.
kernel_tree_hold() {
	mkdir -p "${kernel_tree%/*}"
	exec {kernel_tree_fd}>"$kernel_tree.lock"
	flock "$1" -n "$kernel_tree_fd" && return
	say "waiting for another ./run that builds kernels"
	flock "$1" "$kernel_tree_fd"
}

kernel_source() {
	local series patches
	if stamped unpack-linux "$(kernel_tar_id)" && stamped kernel-source "$(kernel_tree_hash)"; then return; fi
	kernel_tree_hold -x
	step_if "unpack-linux" "$(kernel_tar_id)" "unpacking Linux" kernel_unpack
	series=$(kernel_series)
	mapfile -t patches <<<"$series"
	step_if "kernel-source" "$(kernel_tree_hash)" "Linux + overlay + ${#patches[@]} patches" \
		kernel_sync "${patches[@]}"
	exec {kernel_tree_fd}>&-
}

# kernel_make NAME ARGS...: one at a time in each build folder.
kernel_make() {
	local name=$1
	shift
	flock "/src/build/kernel/$name.lock" make -C "$kernel_tree" O="/src/build/kernel/$name" -j"$(nproc)" "$@"
}

# The lines of the fragments that .config does not say; the last fragment wins.
kernel_lost_lines() {
	local config=$1
	shift
	sed -nE 's/^(CONFIG_[A-Za-z0-9_]+)=n$/\1 n/p; s/^# (CONFIG_[A-Za-z0-9_]+) is not set$/\1 n/p; s/^(CONFIG_[A-Za-z0-9_]+)=(.+)$/\1 \2/p' "$@" |
		awk '{ k = $1; $1 = ""; want[k] = substr($0, 2) } END { for (k in want) print k "=" want[k] }' | sort |
		while IFS= read -r line; do
			case $line in
			*=n) ! grep -q "^${line%=n}=" "$config" ;;
			*) grep -qxF "$line" "$config" ;;
			esac || printf '%s\n' "$line"
		done
}

# kernel_config NAME FRAGMENT...: nothing but what the fragments ask for (ARCH from the environment).
kernel_config() {
	local name=$1 out=/src/build/kernel/$1 lost
	shift
	mkdir -p "$out"
	cat "$@" >"$out/fragments"
	kernel_make "$name" KCONFIG_ALLCONFIG="$out/fragments" allnoconfig
	lost=$(kernel_lost_lines "$out/.config" "$@")
	if [[ -n $lost ]]; then
		printf 'lines of %s that did not survive into .config:\n%s\n' "$*" "$lost"
		return 1
	fi
}

kernel_config_and_make() {
	local name=$1 targets=$2
	shift 2
	kernel_config "$name" "$@"
	# shellcheck disable=SC2086 # several targets
	kernel_make "$name" $targets
}

# kernel_build NAME TARGETS FRAGMENT...
kernel_build() {
	local name=$1 targets=$2 hash
	shift 2
	hash=$({ kernel_tree_hash; hash_of "$@"; cat /src/build/stamp/root; echo "$targets ${KASAN_SANITIZE:-}"; } | sha256sum)
	step_if "kernel-$name" "$hash" "building kernel $name" kernel_config_and_make "$name" "$targets" "$@"
}

kernel_build_guest() { kernel_build guest bzImage "$kernel_configs/guest.config"; }

# The kernel's build takes these from the environment, where no Makefile of a folder or line for an object says n.
kernel_build_debug() {
	local -x KASAN_SANITIZE UBSAN_SANITIZE
	# shellcheck disable=SC2016 # for make
	KASAN_SANITIZE='$(if $(filter '$(sed '/^#/d' "$kernel_configs/sanitized" | tr '\n' ' ')',$(obj)/$(target-stem)),,n)'
	UBSAN_SANITIZE=$KASAN_SANITIZE
	kernel_build debug bzImage "$kernel_configs"/{guest,debug,kunit}.config
}
