# shellcheck shell=bash
# The project's own parts, and the rdma-core provider. Sourced; works in the root.

rdma_core=/src/build/rdma-core
# what kernel driver, provider, device process and tests share
shared_headers=(/src/kernel/include/uapi/rdma/simhca-abi.h /src/kernel/drivers/infiniband/hw/simhca/simhca_hw.h)
guest_root=/src/build/guest-root # lies over the Debian root in the guest

rdma_core_tar() {
	local tar=${P2P_RDMA_CORE_TAR:-}
	printf '%s\n' "${tar:-$(echo /usr/src/rdma-core/rdma-core_*.orig.tar.*)}"
}

rdma_core_unpack() {
	rm -rf "$rdma_core"
	mkdir -p "$rdma_core"
	tar -C "$rdma_core" --strip-components=1 -xf "$(rdma_core_tar)"
	cmake -S "$rdma_core" -B "$rdma_core/build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo \
		-DCMAKE_INSTALL_PREFIX=/usr -DNO_MAN_PAGES=1 -DNO_PYVERBS=1
}

# The private ABI between libibverbs and providers, as the suffix of their names.
provider_suffix() { sed -nE 's/^set\(IBVERBS_PABI_VERSION "(.*)"\)$/rdmav\1/p' "$rdma_core/CMakeLists.txt"; }

provider_build() {
	local suffix dir
	suffix=$(provider_suffix)
	dir=$(dirname "$(find /usr/lib -name "librxe-$suffix.so")")
	[[ $dir != . ]] || die "the guest's providers are no $suffix: is this rdma-core source of the guest's version?"
	/src/providers/overlay.sh "$rdma_core"
	cmake --build "$rdma_core/build" --target "simhca-$suffix"
	install -D -m 644 -t "$guest_root$dir" "$rdma_core/build/lib/libsimhca-$suffix.so"
	install -D -m 644 -t "$guest_root/etc/libibverbs.d" "$rdma_core/build/providers/simhca/simhca.driver"
}

build_provider() {
	local hash
	step_if rdma-core-unpack "$(stat -L -c '%n %s %Y' "$(rdma_core_tar)")" "unpacking rdma-core" rdma_core_unpack
	hash=$(hash_of /src/providers /src/scripts/build.sh "${shared_headers[@]}" /src/build/stamp/root /src/build/stamp/rdma-core-unpack)
	step_if provider "$hash" "building the simhca provider" provider_build
}

# build_project PRESET: what CMakeLists.txt names, in build/cmake-PRESET.
project_build() {
	cmake --preset "$1"
	cmake --build --preset "$1"
}

build_project() {
	local hash
	hash=$(hash_of /src/CMakeLists.txt /src/CMakePresets.json /src/devices /src/tests "${shared_headers[@]}" /src/build/stamp/{root,unpack-linux})
	step_if "project-$1" "$hash" "building device process and tests ($1)" project_build "$1"
}

# What a guest needs; $1: guest or debug, the kernel.
build_for_guest() {
	kernel_source
	"kernel_build_$1"
	build_provider
	build_project release
}

build_all() {
	build_for_guest guest
	kernel_build_debug
	build_project sanitize
	build_project tsan
	build_project fuzz
}
