#!/bin/bash
# iommu.sh TYPE [RUNS CMD...]: assert that the HCA's IOMMU domain is of TYPE (DMA, DMA-FQ, identity), run CMD, and assert
# that the IOMMU mapped the device memory RUNS times, each time all of it, in one run of IOVAs.
. "$(dirname "$0")/lib.sh"

type=$1
got=$(<"/sys/class/infiniband/$HCA/device/iommu_group/type")
[[ $got == "$type" ]] || fail "the domain is of type $got, not $type"
echo "ok: the domain of $HCA is of type $got"
shift
(($#)) || exit 0
want=$1
shift

tracing=/sys/kernel/tracing
echo 0 >$tracing/trace
echo 1 >$tracing/events/iommu/map/enable
"$@"
echo 0 >$tracing/events/iommu/map/enable

# Resource 2 of the device
read -r start end _ < <(sed -n 3p "/sys/bus/pci/devices/$VRAM_BDF/resource")

# A mapping that continues the one before it in both address spaces belongs to the same run.
lengths=() next_iova=-1 next_paddr=-1
while read -r iova paddr size; do
	((paddr >= start && paddr <= end)) || continue
	((iova == next_iova && paddr == next_paddr)) || lengths+=(0)
	((lengths[-1] += size, next_iova = iova + size, next_paddr = paddr + size))
done < <(sed -nE 's/.* map: IOMMU: iova=(0x[0-9a-f]+) - .* paddr=(0x[0-9a-f]+) size=([0-9]+)$/\1 \2 \3/p' $tracing/trace)

((${#lengths[@]} == want)) || fail "${#lengths[@]} runs of IOVAs, not $want: ${lengths[*]}"
for length in ${lengths[@]+"${lengths[@]}"}; do
	((length == end - start + 1)) || fail "a run of $length bytes, not $((end - start + 1))"
done
echo "ok: $want runs of IOVAs, $((end - start + 1)) bytes each"
