# shellcheck shell=bash
# The Debian 13 root in build/root: compiler, host of QEMU and guest. Sourced by ./run, works on the host.
# The root is made again when this file changes.

root_packages=(
	# compiler and kernel build
	build-essential bc bison flex libelf-dev libssl-dev libdw-dev zlib1g-dev pahole cpio kmod xz-utils zstd
	rsync quilt ccache sparse python3 perl git gcc-aarch64-linux-gnu
	# the project's own parts, and rdma-core
	cmake ninja-build pkg-config libnl-3-dev libnl-route-3-dev libsystemd-dev libudev-dev cython3 python3-dev
	pandoc python3-docutils libcmocka-dev clang llvm lld libclang-rt-dev shellcheck
	# what runs
	qemu-system-x86 rdma-core ibverbs-providers libibverbs-dev librdmacm-dev ibverbs-utils rdmacm-utils perftest
	python3-pyverbs nvme-cli iproute2 iputils-ping pciutils procps util-linux udev strace valgrind jq file gnuplot-nox
)

# QEMU: vfio-user-pci needs 10.1 or later. The kernel source: the one the series is for.
root_from_backports=(qemu-\* seabios ipxe-qemu linux-source-7.3)

# Sources of what the build needs, unless the user names an archive.
root_kernel_source() { [[ -n ${P2P_LINUX_TAR:-} ]] || echo linux-source-7.3; }
root_source_archives() { [[ -n ${P2P_RDMA_CORE_TAR:-} ]] || echo rdma-core; }

# The Debian mirror that the host itself uses; P2P_MIRROR overrides.
root_mirror() {
	if [[ -n ${P2P_MIRROR:-} ]]; then
		printf '%s\n' "${P2P_MIRROR%/}"
		return
	fi
	# shellcheck disable=SC2016 # apt's own variables
	apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages' |
		awk '$1 == "Debian" && $2 == "Debian" { sub("/$", "", $3); print $3; exit }'
}

# The host's proxies and date checks, as mmdebstrap options, one a line.
root_apt_options() {
	apt-config dump | sed -nE 's/^(Acquire::(Check-|https?::(Proxy|Verify)|Retries)[^ ]* ".*");$/--aptopt=\1/p'
}

root_mmdebstrap() {
	local new=$1 mirror options packages
	mirror=$(root_mirror)
	if [[ -z $mirror ]]; then
		apt-get update
		mirror=$(root_mirror)
	fi
	[[ -n $mirror ]] || die "no Debian mirror in this machine's apt sources: name one in P2P_MIRROR"
	if ! command -v mmdebstrap >/dev/null; then
		apt-get install -y --no-install-recommends mmdebstrap ||
			{ apt-get update && apt-get install -y --no-install-recommends mmdebstrap; }
	fi
	mapfile -t options < <(root_apt_options)
	mapfile -t packages < <(printf '%s\n' "${root_packages[@]}" && root_kernel_source)
	mkdir -p "$P2P_CACHE/deb"
	# Downloaded packages stay in the cache. The pins stand before anything is installed; the sources of
	# what the guest runs are fetched while apt's lists are there.
	# shellcheck disable=SC2016 # $1 is for mmdebstrap's hooks
	TMPDIR=/dev/shm mmdebstrap --variant=minbase --components=main "${options[@]}" \
		--aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
		--include="$(IFS=, && echo "${packages[*]}")" \
		--skip=download/empty --skip=essential/unlink \
		--setup-hook='mkdir -p "$1/var/cache/apt/archives"' \
		--setup-hook="sync-in '$P2P_CACHE/deb' /var/cache/apt/archives" \
		--setup-hook="mkdir -p \"\$1/etc/apt/preferences.d\" && printf 'Package: %s\nPin: release n=trixie-backports\nPin-Priority: 990\n' '${root_from_backports[*]}' >\"\$1/etc/apt/preferences.d/backports\"" \
		--customize-hook="sync-out /var/cache/apt/archives '$P2P_CACHE/deb'" \
		--customize-hook="'$P2P_TOP/scripts/root-customize.sh' \"\$1\" $(root_source_archives)" \
		trixie "$new" \
		"deb $mirror trixie main" "deb $mirror trixie-updates main" "deb $mirror trixie-backports main" \
		"deb-src $mirror trixie main" "deb-src $mirror trixie-updates main"
}

root_make() {
	local root=$P2P_TOP/build/root
	# One file system: a killed mmdebstrap may have left mounts.
	rm -rf --one-file-system "$root.new"
	root_mmdebstrap "$root.new"
	rm -rf --one-file-system "$root"
	mv "$root.new" "$root"
}

root_complete() {
	local src=$P2P_TOP/build/root/usr/src
	[[ -e $P2P_TOP/build/root/.p2p-mr-root ]] || return
	[[ -n ${P2P_LINUX_TAR:-} || -e $src/linux-source-7.3.tar.xz ]] || return
	[[ -n ${P2P_RDMA_CORE_TAR:-} || -d $src/rdma-core ]]
}

# Whoever works in the root holds a shared lock on it (passed on by exec); making it takes an exclusive one.
root_lock() {
	flock "$1" -n "$root_lock_fd" && return
	say "waiting for another ./run of this clone"
	flock "$1" "$root_lock_fd"
}

root_ensure() {
	local hash
	mkdir -p "$P2P_TOP/build"
	exec {root_lock_fd}>"$P2P_TOP/build/.root-lock"
	hash=$(hash_of "$P2P_TOP/scripts/root.sh" "$P2P_TOP/scripts/root-customize.sh")
	root_lock -s
	while ! stamped root "$hash" || ! root_complete; do
		flock -u "$root_lock_fd"
		root_lock -x
		# Another one may have made it meanwhile.
		root_complete || rm -f "$P2P_TOP/build/stamp/root"
		step_if root "$hash" "making the Debian 13 root (compiler, QEMU, guest)" root_make
		root_lock -s
	done
}

# root_enter [NAME=VALUE...] -- CMD...: become CMD in the root. Mounts are private to this process; the
# repository is at /src, so that paths (and ccache's hits) are the same for every clone; the cache is at /cache.
root_enter() {
	exec unshare --mount --propagation private "$P2P_TOP/scripts/root-enter.sh" "$@"
}
