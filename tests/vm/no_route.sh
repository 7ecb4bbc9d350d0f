#!/bin/bash
# A host bridge that is not known to forward peer-to-peer traffic.
. "$(dirname "$0")/lib.sh"

expect_reg EREMOTEIO "$HCA" "$VRAM_RESOURCE"
expect_reg EREMOTEIO "$HCA" "${VRAM_RESOURCE}_wc" 4096 100
expect_reg ok "$HCA" "$(host_memory)"
