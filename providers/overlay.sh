#!/bin/bash
# Lay the simhca provider over an rdma-core source tree, ready to be built there as any other
# provider. Only what differs is touched, so that a second run does not cause a rebuild.
#
# Usage: overlay.sh RDMA_CORE_TREE
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly top

die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# copy DIR FILE...: into DIR, unless the same is there already
copy() {
	local dir=$1
	shift
	install -C -m 0644 -t "$dir" "$@"
}

# add_line FILE LINE BEFORE COUNT: LINE stands before each of the COUNT lines that read BEFORE
add_line() {
	local file=$1 line=$2 before=$3 count=$4

	grep -qxF -- "$line" "$file" ||
		sed -i "s|^${before}\$|${line}\n&|" "$file"
	[[ $(grep -cxF -- "$line" "$file") == "$count" ]] ||
		die "$file: '$before' is not there $count times; is this rdma-core 56.1?"
}

[[ $# == 1 ]] || die "usage: ${0##*/} RDMA_CORE_TREE"
tree=$1
[[ -f $tree/buildlib/make_abi_structs.py ]] || die "$tree is no rdma-core source tree"

mkdir -p "$tree/providers/simhca"
copy "$tree/providers/simhca" "$top"/providers/simhca/* \
	"$top/kernel/drivers/infiniband/hw/simhca/simhca_hw.h"
copy "$tree/kernel-headers/rdma" "$top/kernel/include/uapi/rdma/simhca-abi.h"

# In the list of headers, and in the list of those made into structs of commands.
add_line "$tree/kernel-headers/CMakeLists.txt" '  rdma/simhca-abi.h' '  rdma/siw-abi.h' 2
add_line "$tree/CMakeLists.txt" 'add_subdirectory(providers/simhca)' 'add_subdirectory(providers/siw)' 1
