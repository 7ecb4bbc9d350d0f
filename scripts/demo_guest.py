#!/usr/bin/env python3
"""The part of the demo that runs in the guest: measures, prints a JSON object a line.

demo_guest.py reg             only what registering device memory gives
demo_guest.py all             everything
"""

import json
import os
import subprocess
import sys

import perftest
from demo_common import POISON, SIZES
from guest_link import ask, emit

HCA, VRAM = os.environ["HCA"], os.environ["VRAM_RESOURCE"]
REGMR = "/src/build/cmake-release/bin/regmr"
MIB = 1 << 20
# Where client and server have their buffers: in disjoint ranges of the same memory.
CLIENT_AT, SERVER_AT, EACH = 0, 8 * MIB, 4 * MIB
HOST_MEMORY = "/dev/shm/host-memory"
ROUNDS = 5
RXE_ROUNDS = 2
ITERATIONS = {HCA: dict(zip(SIZES, (150000, 10000))), "rxe0": dict(zip(SIZES, (100, 10)))}


def register(memory, device, path):
    out = subprocess.run([REGMR, device, path, str(CLIENT_AT), str(EACH)], check=True, capture_output=True, text=True)
    emit(memory=memory, reg_mr=json.loads(out.stdout))


def bandwidth(tool, device, path, size):
    """One run of Debian's TOOL, both ends in the file PATH; MiB/s."""
    line, = perftest.run(tool, device, perftest.End(path, CLIENT_AT), perftest.End(path, SERVER_AT),
                         "-s", size, "-n", ITERATIONS[device][size])
    return line[perftest.BW_AVERAGE]


def poison(memory, size):
    if memory.startswith("device"):
        ask(do="poison", ranges=[[CLIENT_AT, size], [SERVER_AT, 2 * size]])
        return
    with open(HOST_MEMORY, "r+b") as f:
        for at, length in ((CLIENT_AT, size), (SERVER_AT, 2 * size)):
            f.seek(at)
            f.write(bytes([POISON]) * length)


def verified(memory, size):
    """Whether what one end had is what the other has now; perftest's far end is the second half of its buffer."""
    near, far = CLIENT_AT, SERVER_AT + size
    if memory.startswith("device"):
        return ask(do="compare", ranges=[[near, size], [far, size]])
    with open(HOST_MEMORY, "rb") as f, open("/out/host-memory", "wb") as copy:
        for at in (near, far):
            f.seek(at)
            copy.write(f.read(size))
    return ask(do="compare-copy", size=size)


def measure(rows):
    """Interleaved: one run of each row in turn. rows: memory, device, path, rounds."""
    runs, good = {}, {}
    for turn in range(ROUNDS):
        for tool in ("ib_write_bw", "ib_read_bw"):
            for size in SIZES:
                for memory, device, path, rounds in rows:
                    if turn >= rounds:
                        continue
                    poison(memory, size)
                    runs.setdefault((memory, tool, size), []).append(bandwidth(tool, device, path, size))
                    good[memory] = verified(memory, size) and good.get(memory, True)
    for (memory, tool, size), values in runs.items():
        emit(memory=memory, bw=tool[3:], size=size, runs=values)
    for memory, ok in good.items():
        emit(memory=memory, verified=ok)


def main():
    if sys.argv[1] == "reg":
        register("device, feature off", HCA, VRAM)
        return
    with open(HOST_MEMORY, "wb") as f:
        f.write(bytes(SERVER_AT + EACH))
    netdev = open(f"/sys/class/infiniband/{HCA}/ports/1/gid_attrs/ndevs/0").read().strip()
    subprocess.run(["rdma", "link", "add", "rxe0", "type", "rxe", "netdev", netdev], check=True)
    verify = subprocess.run(["dpkg", "-V", "perftest", "libibverbs1"], capture_output=True, text=True)
    emit(dpkg_verify=verify.stdout + verify.stderr, status=verify.returncode)
    register("host", HCA, HOST_MEMORY)
    register("device", HCA, VRAM)
    register("device, rxe", "rxe0", VRAM)
    register("host, rxe", "rxe0", HOST_MEMORY)
    measure([("host", HCA, HOST_MEMORY, ROUNDS), ("device", HCA, VRAM, ROUNDS),
             ("host, rxe", "rxe0", HOST_MEMORY, RXE_ROUNDS)])


main()
