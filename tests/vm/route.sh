#!/bin/bash
# route.sh bus|bridge [CMD...]: assert the route between the HCA and the device memory, then run CMD. The guest was
# booted with kunit.enable=1: the suite pci_p2pdma has written down the route between all devices.
. "$(dirname "$0")/lib.sh"

# enum pci_p2pdma_map_type
declare -A map_type=([bus]=3 [bridge]=4)

hca_bdf=$(basename "$(readlink -f "/sys/class/infiniband/$HCA/device")")
line=$(dmesg | grep -m 1 "$hca_bdf -> $VRAM_BDF: map type") || fail "the kernel log has no route"
[[ $line == *"map type ${map_type[$1]},"* ]] || fail "the route is not $1: $line"
echo "ok: $line"
shift
if (($#)); then exec "$@"; fi
