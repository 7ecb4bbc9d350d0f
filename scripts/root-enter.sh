#!/bin/bash
# root-enter.sh [NAME=VALUE...] -- CMD...: called by root_enter in a mount namespace of its own.
set -euo pipefail

root=$P2P_TOP/build/root
keep=()
while [[ $1 != -- ]]; do
	keep+=("$1")
	shift
done
shift

# The guest sees the root without what is mounted on it here.
mount --bind "$root" "$root/mnt/guest"
mount --rbind /dev "$root/dev"
mount --rbind /proc "$root/proc"
mount --bind /sys "$root/sys"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/run"
mount --bind "$P2P_TOP" "$root/src"
mkdir -p "$P2P_CACHE/ccache"
mount --bind "$P2P_CACHE" "$root/cache"
if [[ -n ${P2P_OUT:-} ]]; then
	mount --bind "$P2P_OUT" "$root/mnt/out"
fi

exec env -i HOME=/root LC_ALL=C.UTF-8 TERM="${TERM:-dumb}" PATH=/usr/lib/ccache:/usr/sbin:/usr/bin:/sbin:/bin \
	P2P_HOST_TOP="$P2P_TOP" ${P2P_OUT:+P2P_OUT="$P2P_OUT"} ${CI:+CI="$CI"} "${keep[@]}" \
	CCACHE_DIR=/cache/ccache CCACHE_MAXSIZE=10G CCACHE_NOHASHDIR=1 CCACHE_DEPEND=1 \
	CCACHE_SLOPPINESS=time_macros,include_file_mtime,include_file_ctime \
	KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 2026' KBUILD_BUILD_USER=p2p KBUILD_BUILD_HOST=mr \
	chroot "$root" sh -c 'cd /src && exec "$@"' sh "$@"
