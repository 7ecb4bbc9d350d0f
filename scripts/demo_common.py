"""What the demo on the host and its part in the guest must agree on."""

# Message sizes
SIZES = (64 << 10, 1 << 20)
# What both ends hold before perftest fills them: a run that transferred nothing is not taken for one by the bytes of the
# last one.
POISON = 0x5A
