"""What the demo on the host and its part in the guest must agree on."""

# Message sizes
SIZES = (64 << 10, 1 << 20)
# What the destination holds before a transfer
POISON = 0x5A
