#!/bin/bash
# no_revoke.sh refused|allowed: an HCA that cannot be stopped (simhca.revoke=none), and no IOMMU that could do it. The
# owner of a BAR refuses it, unless the administrator allows it (p2pdma_buf.importers=any).
. "$(dirname "$0")/lib.sh"

[[ $(</sys/module/simhca/parameters/revoke) == none ]] || fail "simhca.revoke is $(</sys/module/simhca/parameters/revoke)"
case $1 in
refused) want=EOPNOTSUPP importers=revocable ;;
allowed) want=ok importers=any ;;
esac
[[ $(</sys/module/p2pdma_buf/parameters/importers) == "$importers" ]] || fail "p2pdma_buf.importers is not $importers"
expect_reg "$want" "$HCA" "$VRAM_RESOURCE"
expect_reg "$want" "$HCA" "${VRAM_RESOURCE}_wc" 4096 100
expect_reg ok "$HCA" "$(host_memory)"

# And then nobody stops it, which the log tells.
if [[ $1 == allowed ]]; then
	"$BIN/revoke_test" -t late_bytes_are_seen
	dmesg | grep "BAR 2 revoked, but a peer device still has it mapped for DMA" || fail "no alarm in the log"
fi

# With the hook the same HCA is as good as any.
echo hook >/sys/module/simhca/parameters/revoke
expect_reg ok "$HCA" "$VRAM_RESOURCE"
