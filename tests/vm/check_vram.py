#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
"""Check the device memory of a guest, DIR/vram0, from outside.

check_vram.py DIR                 of a guest that has ended. DIR/vram.expect has lines "offset length seed", see
                                  pattern.h. Every byte that no line tells about must be zero. Holes of the file are
                                  not read.
check_vram.py --late SECONDS DIR  of a guest that runs and in which nothing may write to it: fill it, and look again and
                                  again for SECONDS whether it stays so.
"""

import os
import sys
import time

BLOCK = 65521
STEP = 16 << 20


def pattern(seed, length):
    x, block = seed, bytearray(BLOCK)
    for i in range(BLOCK):
        x = (x * 1664525 + 1013904223) & 0xFFFFFFFF
        block[i] = x >> 24
    return (bytes(block) * (length // BLOCK + 1))[:length]


def extents(fd, size):
    """The parts of the file that have data."""
    at = 0
    while at < size:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(fd, at, os.SEEK_HOLE)
        yield at, end
        at = end


def pieces(expected):
    """What the lines say, the later over the earlier: disjoint (start, end, seed, first)."""
    done = []
    for start, end, seed in reversed(expected):
        todo = [(start, end)]
        for a, b, _, _ in done:
            todo = [p for s, e in todo for p in ((s, min(e, a)), (max(s, b), e)) if p[0] < p[1]]
        done += [(s, e, seed, start) for s, e in todo]
    return sorted(done)


def first_difference(data, want):
    return next(i for i, (a, b) in enumerate(zip(data, want)) if a != b)


def late(folder, seconds):
    fd = os.open(os.path.join(folder, "vram0"), os.O_RDWR)
    size = os.fstat(fd).st_size
    want = pattern(time.monotonic_ns() & 0xFFFFFFFF, STEP)
    for at in range(0, size, STEP):
        os.pwrite(fd, want[:size - at], at)
    end = time.monotonic() + seconds
    rounds = 0
    while time.monotonic() < end:
        for at in range(0, size, STEP):
            data = os.pread(fd, STEP, at)
            if data != want[:len(data)]:
                sys.exit(f"late byte at {at + first_difference(data, want):#x}, round {rounds}")
        rounds += 1
    print(f"check_vram: {size} bytes unchanged in {rounds} rounds")


def at_end(folder):
    with open(os.path.join(folder, "vram.expect")) as f:
        lines = [tuple(map(int, line.split())) for line in f]
    expected = pieces([(o, o + n, seed) for o, n, seed in lines])
    if not expected:
        sys.exit("check_vram: vram.expect says nothing")

    fd = os.open(os.path.join(folder, "vram0"), os.O_RDONLY)
    size = os.fstat(fd).st_size
    for start, end, seed, first in expected:
        want = pattern(seed, end - first)[start - first:]
        data = os.pread(fd, end - start, start)
        if data != want:
            at = start + first_difference(data, want) if len(data) == len(want) else len(data)
            sys.exit(f"check_vram: {start:#x}..{end:#x} is not pattern {seed}: differs from {at:#x} on")

    for start, end in extents(fd, size):
        for at in range(start, end, STEP):
            data = bytearray(os.pread(fd, min(STEP, end - at), at))
            for s, e, _, _ in expected:
                s, e = max(s - at, 0), min(e - at, len(data))
                if s < e:
                    data[s:e] = bytes(e - s)
            if any(data):
                stray = next(i for i, b in enumerate(data) if b)
                sys.exit(f"check_vram: stray byte at {at + stray:#x}")
    print(f"check_vram: {sum(e - s for s, e, _, _ in expected)} bytes as expected, nothing else written")


def main():
    if sys.argv[1] == "--late":
        late(sys.argv[3], float(sys.argv[2]))
    else:
        at_end(sys.argv[1])


main()
