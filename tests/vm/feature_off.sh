#!/bin/bash
# feature_off.sh [--short]: ib_core.umem_p2p=0: every errno is that of the stock kernel. --short: of registrations on $HCA.
. "$(dirname "$0")/lib.sh"

[[ $(</sys/module/ib_core/parameters/umem_p2p) == N ]] || fail "the feature is on"
host=$(host_memory)
devices=("$HCA")
if [[ ${1:-} != --short ]]; then
	rdma link add rxe0 type rxe netdev "$(hca_netdev)"
	devices+=(rxe0)
fi

# unprivileged BYTES CMD...: as nobody, who may lock BYTES of memory.
unprivileged() {
	local bytes=$1
	shift
	prlimit --memlock="$bytes:$bytes" setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@"
}

for device in "${devices[@]}"; do
	for bar in "$VRAM_RESOURCE" "${VRAM_RESOURCE}_wc"; do
		for mapping in -- -p -r "-p -r"; do
			# shellcheck disable=SC2086 # two options
			expect_reg EFAULT $mapping "$device" "$bar"
		done
	done
	expect_reg EFAULT "$device" "$VRAM_RESOURCE" 4096 100
	expect_reg ok "$device" "$host"
	expect_reg ok -p "$device" "$host"
	expect_reg EFAULT -r "$device" "$host"
done

# The stock kernel looks at the limit first, whatever the memory is.
chmod a+rw "$VRAM_RESOURCE" "$host" /dev/infiniband/uverbs*
for device in "${devices[@]}"; do
	for file in "$VRAM_RESOURCE" "$host"; do
		reg_as=(unprivileged 65536)
		expect_reg ENOMEM "$device" "$file" 0 131072
		reg_as=(unprivileged 0)
		expect_reg EPERM "$device" "$file"
	done
	reg_as=(unprivileged 65536)
	expect_reg EFAULT "$device" "$VRAM_RESOURCE"
	expect_reg ok "$device" "$host"
done
reg_as=()
[[ ${1:-} != --short ]] || exit 0

! ib_write_bw -d "$HCA" -s 65536 -n 10 --mmap="$VRAM_RESOURCE" >/tmp/server 2>&1 &
server=$!
wait_for_server "$server"
! ib_write_bw -d "$HCA" -s 65536 -n 10 --mmap="$VRAM_RESOURCE" "$HCA_IP" >/tmp/client 2>&1 ||
	fail "ib_write_bw works on device memory"
grep -q "Couldn't allocate MR\|failed to create mr" /tmp/client || fail "$(cat /tmp/client)"
kill "$server" 2>/dev/null || true
echo "ok: ib_write_bw: $(grep -m 1 "MR\|mr" /tmp/client)"
