#!/bin/bash
# Kernel configurations that are compiled and not booted; called by "./run check-builds" in the root.
#   providers     every in-tree RDMA provider as a module; the .ko files are asserted by name
#   no-umem-p2p   what the series touches, with INFINIBAND_UMEM_P2P off
#   no-p2pdma     the same with PCI_P2PDMA off
#   arm64         what the series touches, for arm64
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
# shellcheck source=scripts/kernel.sh
. "${BASH_SOURCE[0]%/*}/kernel.sh"

providers=/src/build/kernel/providers

# C files that the series or the overlay brings or changes.
touched_sources() {
	{
		kernel_series | kernel_patched_files
		kernel_overlay_files
	} | grep '\.c$' | sort -u
}

# touched_targets SKIP: their objects, but for files that match the extended regular expression SKIP.
touched_targets() { touched_sources | grep -vE "$1" | sed 's/\.c$/.o/'; }

providers_modules() { sed -E 's/[[:space:]]*(#.*)?$//; /^$/d' "$kernel_configs/providers.modules"; }

# check_modules: those in providers.modules are there.
check_modules() {
	local module missing=0
	while read -r module; do
		if [[ ! -e $providers/$module ]]; then
			echo "missing: $module"
			missing=1
		fi
	done < <(providers_modules)
	return $missing
}

# check_exports: what the modules use of each other and of vmlinux.o is exported there.
check_exports() {
	(cd "$providers" && providers_modules | xargs nm -A --no-sort vmlinux.o) | awk -f /src/scripts/exports.awk
}

# What the series changes is built in, and the modules, but not the kernel around them nor the network drivers below them:
# the kernels of the guests are built as a whole. With this vmlinux.o modpost knows the namespaces of its exports.
build_providers() {
	local modules
	mapfile -t modules < <(providers_modules)
	kernel_config providers "$kernel_configs/providers.config"
	kernel_make providers drivers/dma-buf/ drivers/pci/
	(cd "$providers" && ld -r -o vmlinux.o --whole-archive drivers/{dma-buf,pci}/built-in.a && rm -f "${modules[@]}")
	kernel_make providers KBUILD_MODPOST_WARN=1 "${modules[@]}"
	check_modules
	check_exports
	echo "all ${#modules[@]} modules of providers.modules were built"
}

# check_objects NAME SKIP: every touched file but those that match was compiled.
check_objects() {
	local source missing=0
	while read -r source; do
		if [[ ! -e /src/build/kernel/$1/${source%.c}.o ]]; then
			echo "not compiled: $source"
			missing=1
		fi
	done < <(touched_sources | grep -vE "$2")
	return $missing
}

# build_touched NAME SKIP FRAGMENT...
build_touched() {
	local name=$1 skip=$2
	shift 2
	kernel_config_and_make "$name" "$(touched_targets "$skip" | tr '\n' ' ')" "$@"
	check_objects "$name" "$skip"
}

kunit='kunit|_test\.c$'
umem_p2p='drivers/dma-buf/dma-sg-user\.c|core/umem_p2p\.c|pci/p2pdma-buf\.c|samples/'

# build_without NAME SKIP OPTION...: with these options off.
build_without() {
	local name=$1 skip=$2 fragment=/src/build/kernel/$1.fragment option
	shift 2
	mkdir -p /src/build/kernel
	for option in "$@"; do printf 'CONFIG_%s=n\n' "$option"; done >"$fragment"
	build_touched "$name" "$kunit|$umem_p2p|$skip" "$kernel_configs/providers.config" "$fragment"
}

# What is for x86 only is not built.
build_arm64() {
	export ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu-
	build_touched arm64 "arch/x86/|hw/hfi1/|sw/rdmavt/" "$kernel_configs"/{arm64,kunit}.config
}

main() {
	local name
	(($#)) || set -- providers no-umem-p2p no-p2pdma arm64
	kernel_tree_hold -s
	for name in "$@"; do
		case $name in
		providers) step build-providers "all RDMA providers as modules" build_providers ;;
		no-umem-p2p) step build-no-umem-p2p "INFINIBAND_UMEM_P2P=n" build_without "$name" '^$' INFINIBAND_UMEM_P2P SAMPLE_SIMGPU ;;
		no-p2pdma) step build-no-p2pdma "PCI_P2PDMA=n" build_without "$name" 'pci/p2pdma\.c' PCI_P2PDMA INFINIBAND_UMEM_P2P SAMPLE_SIMGPU ;;
		arm64) step build-arm64 "touched files for arm64" build_arm64 ;;
		*) die "check-builds: no configuration $name" ;;
		esac
	done
}

main "$@"
