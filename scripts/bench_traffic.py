#!/usr/bin/env -S python3 -B
"""Measure the traffic of the simulated HCA. Called by ./run inside the Debian 13 root.

The engine by itself and the device without a guest (programs of tests/bench), then Debian's perftest in a guest, on host
and device memory. Goals are ratios of what was measured in this run, medians of runs that took turns; those that are
missed are told. The status is 1 if it is not known why, or by more than what is known explains.

Writes traffic.json, traffic.txt and traffic.svg to build/bench.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

import guest_link
import plot
from report import bytes_name, finish, goal, print_lines, say

REPO = "/src"
OUT = REPO + "/build/bench"
BIN = REPO + "/build/cmake-release/bin"
KIB, MIB = 1 << 10, 1 << 20
LARGE = 64 * KIB  # what goals about bandwidth begin with
SMALL = 64
TOOLS = ("write", "read", "send")
MEMORIES = ("host", "device", "host to device", "device to host")


class Results:
    """Lists of values, one of each round; what they are is told by series, kind, x (bytes or a number) and memory."""

    def __init__(self, rows):
        self.rows = rows

    def select(self, **what):
        return [row for row in self.rows if all(row.get(key) == value for key, value in what.items())]

    def values(self, **what):
        found = self.select(**what)
        if len(found) != 1:
            sys.exit(f"bench: {len(found)} results for {what}")
        return found[0]["values"]

    def median(self, **what):
        return statistics.median(self.values(**what))

    def ratio(self, of, to):
        """The median of the ratios of values that were measured one after the other."""
        return statistics.median(a / b for a, b in zip(self.values(**of), self.values(**to)))

    def xs(self, **what):
        return sorted({row["x"] for row in self.select(**what)})

    def spread(self, **what):
        """The largest to the smallest, whatever x."""
        xs = self.xs(**what)
        ratios = [self.ratio({**what, "x": x}, {**what, "x": xs[0]}) for x in xs]
        return max(ratios) / min(ratios)


def program(name, *args):
    done = subprocess.run([f"{BIN}/{name}", *map(str, args)], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"bench: {name} ended with status {done.returncode}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def answer(request):
    """What the engine makes of messages of a size, in MiB/s."""
    rows = Results(program("engine_cost", 3, request["size"]))
    return request["size"] / MIB / (rows.median(series="size", kind="write", x=request["size"]) / 1e9)


def measure():
    out = OUT + "/traffic"
    guest_link.clean(out)
    say("== bench traffic: the engine, and the device, without a guest")
    rows = program("engine_cost") + program("device_cost")
    say("== bench traffic: a guest, some minutes")
    rows += guest_link.run(out, ["--timeout", "3000", "--drop-vram"], ["/src/scripts/traffic_guest.py"], answer)
    return Results(rows)


# ---- goals ------------------------------------------------------------------------------------------------------

EACH_MR = (
    "each message names keys that none has named for 100,000 messages. Their entries in the tables and the MRs come from "
    "memory then, not from a cache; that by itself (\"fetched alone\" in the table) is what is more. With one of the MRs in "
    "use it costs what it costs with one")
EACH_MR_MOST = 10


def engine_goals(results):
    def own(size, kind):
        return statistics.median(a - b for a, b in zip(results.values(series="size", kind=kind, x=size),
                                                       results.values(series="size", kind="memcpy", x=size)))

    sizes = [x for x in results.xs(series="size", kind="write") if x >= LARGE]
    for kind in TOOLS:
        yield goal(f"engine, {kind}: to memcpy of the same size, from 64K up, at worst",
                   min(results.ratio({"series": "size", "kind": "memcpy", "x": x}, {"series": "size", "kind": kind, "x": x})
                       for x in sizes), 0.8, least=True)
    for kind in TOOLS:
        yield goal(f"engine, {kind} of 64 bytes: its own cost in us", own(SMALL, kind) / 1000, 1)
    yield goal("engine: 1 to 10,000 QPs, most of them idle", results.spread(series="qps", kind="one"), 1.2)
    yield goal("engine: 1 to 100,000 MRs, one in use", results.spread(series="mrs", kind="one"), 1.2)
    yield goal("engine: 1 to 100,000 MRs, each in turn", results.spread(series="mrs", kind="each"), 1.2, known=(EACH_MR, EACH_MR_MOST))
    yield goal("device: 1 to 10,000 QPs, most of them idle, stream", results.spread(series="device-qps", kind="stream"), 1.2)
    yield goal("device: 1 to 10,000 QPs, most of them idle, ping", results.spread(series="device-qps", kind="ping"), 1.2)


def guest_goals(results):
    for kind in TOOLS:
        yield goal(f"guest, ib_{kind}_bw: device to host memory, from 64K up, at worst",
                   min(results.ratio({"series": "bw", "kind": kind, "memory": "device", "x": x},
                                     {"series": "bw", "kind": kind, "memory": "host", "x": x})
                       for x in results.xs(series="bw", kind=kind, memory="device") if x >= LARGE), 0.98, least=True)
    yield goal("guest, ib_write_bw of 1M: to the engine by itself",
               results.ratio({"series": "against engine", "kind": "guest"}, {"series": "against engine", "kind": "engine"}),
               0.7, least=True)
    sizes = results.xs(series="against rxe", kind="rxe")
    for size in sizes:
        yield goal(f"guest, ib_write_bw of {bytes_name(size)}: to rxe" + (", messages" if size == sizes[0] else ""),
                   results.ratio({"series": "against rxe", "kind": "simhca", "x": size},
                                 {"series": "against rxe", "kind": "rxe", "x": size}),
                   5 if size == sizes[0] else 100, least=True)


def doorbell_goals(results):
    yield goal("device: kicks a doorbell while it is awake", results.median(series="doorbell", kind="kicks"), 0)
    yield goal("device: one core for both ends and it, to the same with naps between",
               results.ratio({"series": "latency", "kind": "one core"}, {"series": "latency", "kind": "nap"}), 10)
    yield goal("guest: wake-ups a message of ib_read_lat", results.median(series="wakeups", kind="awake"), 0.01)
    yield goal("device: share of a core it takes while it sleeps, 10,000 QPs connected",
               results.median(series="idle", kind="cpu", x=10000) / 1e9, 0.01)


# ---- tables and plot --------------------------------------------------------------------------------------------

def print_engine(results):
    print("The engine by itself: ns a message, CPU time\n")
    kinds = ("memcpy", *TOOLS)
    print_lines([["bytes", *kinds, "write to memcpy"]] + [
        [bytes_name(x), *(f"{results.median(series='size', kind=kind, x=x):,.0f}" for kind in kinds),
         f"{results.ratio({'series': 'size', 'kind': 'memcpy', 'x': x}, {'series': 'size', 'kind': 'write', 'x': x}):.2f}"]
        for x in results.xs(series="size", kind="write")])
    print("ns a write of 64 bytes; device: with doorbells and rings, two threads\n")
    columns = [("QPs, one sends", "qps", "one"), ("each in turn", "qps", "each"), ("MRs, one in use", "mrs", "one"),
               ("each in turn", "mrs", "each"), ("fetched alone", "mrs", "fetch"), ("device, QPs, stream", "device-qps", "stream"), ("ping", "device-qps", "ping")]
    numbers = sorted({row["x"] for row in results.rows if row["series"] in ("qps", "mrs", "device-qps")})
    print_lines([["number"] + [title for title, _, _ in columns]] + [
        [f"{x:,}"] + [f"{results.median(series=series, kind=kind, x=x):,.0f}"
                      if results.select(series=series, kind=kind, x=x) else "-" for _, series, kind in columns]
        for x in numbers])


def print_waking(results):
    print("From a doorbell to the completion, us\n")
    rows = [["device, it spins", results.median(series="latency", kind="awake") / 1000],
            ["device, between naps", results.median(series="latency", kind="nap") / 1000],
            ["device, asleep: a kick", results.median(series="latency", kind="asleep") / 1000],
            ["device, one core for both ends and it", results.median(series="latency", kind="one core") / 1000],
            ["guest, ib_read_lat of 8 bytes", results.median(series="waking", kind="awake")],
            ["guest, the same when it sleeps", results.median(series="waking", kind="asleep")]]
    print_lines([["what", "us"]] + [[name, f"{value:,.2f}"] for name, value in rows])
    print(f"Ringing a doorbell while it is awake: {results.median(series='doorbell', kind='ns'):.1f} ns\n")


def print_guest(results, series, unit):
    print(f"Debian's ib_*_{series} in a guest, {unit}\n")
    columns = [(kind, memory) for kind in TOOLS for memory in MEMORIES
               if results.select(series=series, kind=kind, memory=memory)]
    print_lines([["bytes"] + [f"{kind} {memory}" for kind, memory in columns]] + [
        [bytes_name(x)] + [f"{results.median(series=series, kind=kind, memory=memory, x=x):,.2f}" for kind, memory in columns]
        for x in results.xs(series=series)])


def print_tables(results):
    print_engine(results)
    print_waking(results)
    print_guest(results, "bw", "MiB/s")
    print_guest(results, "lat", "us")


def lines(results, scale=lambda x, value: value, **what):
    return [(x, scale(x, results.median(x=x, **what))) for x in results.xs(**what)]


def draw(results, path):
    def mib(x, ns):
        return x / MIB / (ns / 1e9)

    engine = {f"engine, {kind}": lines(results, mib, series="size", kind=kind) for kind in TOOLS}
    engine["memcpy"] = lines(results, mib, series="size", kind="memcpy")

    def guest(series, kind):
        return {memory: lines(results, series=series, kind=kind, memory=memory) for memory in MEMORIES}

    rxe = [(x, y) for x, y in lines(results, series="against rxe", kind="rxe") if x >= LARGE]
    number = "ns a write of 64 bytes"
    plot.write(path, "Traffic of the simulated HCA", [
        [plot.Panel("The engine by itself", "bytes", "MiB/s", engine, plot.BINARY),
         plot.Panel("QPs", "QPs", number, {"engine, one sends": lines(results, series="qps", kind="one"),
                                           "engine, each in turn": lines(results, series="qps", kind="each"),
                                           "device, stream": lines(results, series="device-qps", kind="stream"),
                                           "device, ping": lines(results, series="device-qps", kind="ping")}),
         plot.Panel("MRs", "MRs", number, {"engine, one in use": lines(results, series="mrs", kind="one"),
                                           "engine, each in turn": lines(results, series="mrs", kind="each"),
                                           "fetched alone": lines(results, series="mrs", kind="fetch")})],
        [plot.Panel(f"ib_{kind}_bw in a guest", "bytes", "MiB/s",
                    {**guest("bw", kind), **({"rxe, host": rxe} if kind == "write" else {})}, plot.BINARY) for kind in TOOLS],
        [plot.Panel(f"ib_{kind}_lat in a guest", "bytes", "us", guest("lat", kind), plot.BINARY) for kind in TOOLS]])


def main():
    parser = argparse.ArgumentParser(prog="./run bench traffic", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing else on stdout")
    args = parser.parse_args()

    start = time.monotonic()
    guest_link.only_small_pages()
    results = measure()
    draw(results, OUT + "/traffic.svg")
    goals = [*engine_goals(results), *guest_goals(results), *doorbell_goals(results)]
    status = finish(OUT + "/traffic", {"rows": results.rows}, goals, lambda: print_tables(results), args.json)
    say(f"   bench traffic: {time.monotonic() - start:.0f} s")
    return status


if __name__ == "__main__":
    sys.exit(main())
