#!/usr/bin/env python3
"""The part of ./run bench traffic that runs in the guest: measures, prints a JSON object a line.

series: bw (MiB/s) and lat (us), by "kind" (tool), "memory" and "x" (bytes); the others: see below.
"""

import os
import subprocess

import perftest
from guest_link import ask, emit
from perftest import BW_AVERAGE, BW_RATE, LAT_TYPICAL, End

HCA, VRAM = os.environ["HCA"], os.environ["VRAM_RESOURCE"]
RXE = "rxe0"
KIB, MIB = 1 << 10, 1 << 20
HOST = "/dev/shm/host-memory"
# Where the two ends have their buffers, in disjoint ranges; perftest takes two messages of 8 MiB.
CLIENT_AT, SERVER_AT, EACH = 0, 64 * MIB, 32 * MIB
# Client's and server's memory, and how often it is measured
MEMORIES = {"host": (HOST, HOST, 7), "device": (VRAM, VRAM, 7), "host to device": (HOST, VRAM, 3),
            "device to host": (VRAM, HOST, 3)}
TOOLS = ("write", "read", "send")
BW_ITERATIONS, LAT_ITERATIONS, LAT_ROUNDS = 2500, 1000, 3
SMALL, SMALL_ITERATIONS = 2, 100000
AGAINST_ENGINE, AGAINST_ENGINE_ITERATIONS = MIB, 10000
RXE_SIZES = {SMALL: 2000, 64 * KIB: 100, MIB: 10}
RXE_HCA_ITERATIONS = {SMALL: SMALL_ITERATIONS, 64 * KIB: 50000, MIB: AGAINST_ENGINE_ITERATIONS}
ROUNDS = 5
# A pause after which the HCA sleeps, in us, and messages
GAP, GAP_ITERATIONS = 10000, 100
WAKING_ITERATIONS = 20000


class Values(dict):
    """Of each round, by what they are."""

    def add(self, value, **what):
        self.setdefault(tuple(sorted(what.items())), []).append(value)

    def emit(self):
        for what, values in self.items():
            emit(**dict(what), values=values)


def ends(near, far):
    return End(near, CLIENT_AT), End(far, SERVER_AT)


def measure_sizes(values):
    for turn in range(max(rounds for _, _, rounds in MEMORIES.values())):
        for tool in TOOLS:
            for memory, (near, far, rounds) in MEMORIES.items():
                if turn >= rounds:
                    continue
                for line in perftest.run(f"ib_{tool}_bw", HCA, *ends(near, far), "-a", "-n", BW_ITERATIONS):
                    values.add(line[BW_AVERAGE], series="bw", kind=tool, memory=memory, x=int(line[0]))
                if turn >= LAT_ROUNDS or near != far:
                    continue
                for line in perftest.run(f"ib_{tool}_lat", HCA, *ends(near, far), "-a", "-n", LAT_ITERATIONS):
                    values.add(line[LAT_TYPICAL], series="lat", kind=tool, memory=memory, x=int(line[0]))


def write_bw(device, memory, size, iterations, column):
    line, = perftest.run("ib_write_bw", device, *ends(memory, memory), "-s", size, "-n", iterations)
    return line[column]


def measure_against(values):
    """Against the engine on the host, asked for between the runs, and against rxe: MiB/s, of SMALL messages/us."""
    for _ in range(ROUNDS):
        values.add(write_bw(HCA, HOST, AGAINST_ENGINE, AGAINST_ENGINE_ITERATIONS, BW_AVERAGE),
                   series="against engine", kind="guest", x=AGAINST_ENGINE)
        values.add(ask(do="engine", size=AGAINST_ENGINE), series="against engine", kind="engine", x=AGAINST_ENGINE)
        for size, iterations in RXE_SIZES.items():
            column = BW_RATE if size == SMALL else BW_AVERAGE
            values.add(write_bw(HCA, HOST, size, RXE_HCA_ITERATIONS[size], column), series="against rxe", kind="simhca", x=size)
            values.add(write_bw(RXE, HOST, size, iterations, column), series="against rxe", kind="rxe", x=size)


def counter(name):
    with open(f"/sys/class/infiniband/{HCA}/ports/1/hw_counters/{name}") as f:
        return int(f.read())


def measure_waking(values):
    """us of a read of 8 bytes, and wake-ups a message: one after the other, and with a pause between them."""
    for _ in range(ROUNDS):
        for kind, gap, options in (("awake", 0, ["-n", WAKING_ITERATIONS]),
                                   ("asleep", GAP, ["-n", GAP_ITERATIONS, f"--latency_gap={GAP}"])):
            wakeups, requests = counter("wakeups"), counter("tx_wrs")
            line, = perftest.run("ib_read_lat", HCA, *ends(HOST, HOST), "-s", 8, *options)
            # The pause is in what ib_read_lat tells.
            values.add(line[LAT_TYPICAL] - gap, series="waking", kind=kind, x=8)
            values.add((counter("wakeups") - wakeups) / (counter("tx_wrs") - requests), series="wakeups", kind=kind, x=8)


def main():
    with open(HOST, "wb") as f:
        f.write(bytes(SERVER_AT + EACH))
    netdev = open(f"/sys/class/infiniband/{HCA}/ports/1/gid_attrs/ndevs/0").read().strip()
    subprocess.run(["rdma", "link", "add", RXE, "type", "rxe", "netdev", netdev], check=True)
    values = Values()
    measure_against(values)
    measure_waking(values)
    measure_sizes(values)
    values.emit()


main()
