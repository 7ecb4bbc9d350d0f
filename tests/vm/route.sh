#!/bin/bash
# route.sh bus|bridge|none [CMD...]: assert the route between the HCA and the device memory, then run CMD. The guest was
# booted with kunit.enable=1: the suite pci_p2pdma has written down the route between all devices.
. "$(dirname "$0")/lib.sh"

declare -A name=([bus]=BUS_ADDR [bridge]=THRU_HOST_BRIDGE [none]=NOT_SUPPORTED)

# The number of a name in enum pci_p2pdma_map_type
map_type=$(awk -v name="PCI_P2PDMA_MAP_${name[$1]}" '/^enum pci_p2pdma_map_type \{/ { inside = 1 } /^}/ { inside = 0 }
	inside && $1 ~ /^PCI_P2PDMA_MAP_/ { if ($1 == name ",") print n + 0; n++ }' /src/build/linux/include/linux/pci-p2pdma.h)
[[ $map_type ]] || fail "no PCI_P2PDMA_MAP_${name[$1]}"

hca_bdf=$(basename "$(readlink -f "/sys/class/infiniband/$HCA/device")")
line=$(dmesg | grep -m 1 "$hca_bdf -> $VRAM_BDF: map type") || fail "the kernel log has no route"
[[ $line == *"map type $map_type,"* ]] || fail "the route is not $1: $line"
echo "ok: $line"
shift
if (($#)); then exec "$@"; fi
