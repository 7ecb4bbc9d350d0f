#!/usr/bin/env -S python3 -B
"""Measure ib_write_bw and ib_read_bw on device memory beside host memory. Called by ./run inside the Debian 13 root.

Fails when a registration does not give what it must, bytes are not where they must be, or the binaries are not
Debian's. A ratio below its goal is only told, as the machine may be busy.
"""

import argparse
import json
import mmap
import statistics
import sys
import time

import guest_link
from demo_common import POISON, SIZES
from report import say

REPO = "/src"
OUT = REPO + "/build/demo"
ROWS = ("host", "device", "device, feature off", "device, rxe", "host, rxe")
# What ibv_reg_mr() must say. None: it must work.
EXPECTED = {"host": None, "device": None, "device, feature off": "EFAULT", "device, rxe": "EOPNOTSUPP",
            "host, rxe": None}
GOAL_HOST, GOAL_RXE = 0.9, 50


class Memory:
    """The guest's device memory, as the host sees it."""

    def __init__(self, path):
        with open(path, "r+b") as f:
            self.bytes = mmap.mmap(f.fileno(), 0)

    def poison(self, ranges):
        for at, length in ranges:
            self.bytes[at:at + length] = bytes([POISON]) * length
        return True

    def same(self, ranges):
        near, far = (self.bytes[at:at + length] for at, length in ranges)
        return alike(near, far)


def alike(near, far):
    """perftest fills each end with random bytes of its own: equal means transferred, and all alike that the poison is
    still there, at both ends, or nothing."""
    return near == far and len(near) > 0 and near.count(near[0]) < len(near)


def answer(request):
    if request["do"] == "poison":
        return Memory(OUT + "/vram0").poison(request["ranges"])
    if request["do"] == "compare":
        return Memory(OUT + "/vram0").same(request["ranges"])
    with open(OUT + "/host-memory", "rb") as f:
        return alike(f.read(request["size"]), f.read(request["size"]))


def guest(options, what):
    return guest_link.run(OUT, ["--timeout", "800", "--check-log", *options], ["/src/scripts/demo_guest.py", what], answer)


def collect(lines):
    sizes = [str(size) for size in SIZES]
    rows = {name: {"memory": name, "reg_mr": None, "write_bw": dict.fromkeys(sizes), "read_bw": dict.fromkeys(sizes),
                   "verified": None} for name in ROWS}
    dpkg, runs = None, {}
    for line in lines:
        if "dpkg_verify" in line:
            dpkg = line
        elif "reg_mr" in line:
            rows[line["memory"]]["reg_mr"] = line["reg_mr"]
        elif "bw" in line:
            runs[line["memory"], line["bw"], line["size"]] = line["runs"]
            rows[line["memory"]][line["bw"]][str(line["size"])] = statistics.median(line["runs"])
        else:
            rows[line["memory"]]["verified"] = line["verified"]
    return list(rows.values()), runs, dpkg


def cells(row):
    reg = row["reg_mr"]
    yield row["memory"]
    yield f"{reg['us']:.0f} us" if reg["ok"] else reg["errno"]
    for bw in ("write_bw", "read_bw"):
        for value in row[bw].values():
            yield "-" if value is None else f"{value:.1f}"
    yield {True: "yes", False: "NO", None: "-"}[row["verified"]]


def print_table(rows):
    head = ["memory", "ibv_reg_mr", "write 64K", "write 1M", "read 64K", "read 1M", "verified"]
    table = [head] + [list(cells(row)) for row in rows]
    widths = [max(len(line[i]) for line in table) for i in range(len(head))]
    for n, line in enumerate(table):
        print("  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))))
        if n == 0:
            print("  ".join("-" * w for w in widths))
    print("ib_write_bw and ib_read_bw in MiB/s, medians of interleaved runs; both ends in the same kind of memory.")


def ratio(runs, of, to):
    """The smallest of the medians, over tools and sizes, of the ratios of runs made one after the other."""
    return min(statistics.median(a / b for a, b in zip(runs[of, bw, size], runs[to, bw, size]))
               for bw in ("write_bw", "read_bw") for size in SIZES)


def judge(rows, runs, dpkg):
    """Lines of what is not as it must be, after a few on how things compare."""
    wrong = []
    for row in rows:
        want, reg = EXPECTED[row["memory"]], row["reg_mr"]
        if reg["ok"] != (want is None) or reg["errno"] != want:
            wrong.append(f"{row['memory']}: ibv_reg_mr gave {reg['errno'] or 'a region'}, not {want or 'a region'}")
        if want is None and row["verified"] is not True:
            wrong.append(f"{row['memory']}: the bytes are not where they should be")
    if dpkg["status"] or dpkg["dpkg_verify"]:
        wrong.append("dpkg -V perftest libibverbs1: " + dpkg["dpkg_verify"].strip())
    to_host, to_rxe = ratio(runs, "device", "host"), ratio(runs, "device", "host, rxe")
    say(f"device memory against host memory: at least {to_host:.2f} (goal {GOAL_HOST})"
        f"{'' if to_host >= GOAL_HOST else ', MISSED'}; against rxe on host memory: at least {to_rxe:.0f} times"
        f" (goal {GOAL_RXE}){'' if to_rxe >= GOAL_RXE else ', MISSED'}")
    if not dpkg["status"] and not dpkg["dpkg_verify"]:
        say("dpkg -V perftest libibverbs1: clean, the binaries are Debian's own")
    return wrong


def main():
    parser = argparse.ArgumentParser(prog="./run demo", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the table as JSON, and nothing else on stdout")
    args = parser.parse_args()

    start = time.monotonic()
    guest_link.clean(OUT)
    guest_link.only_small_pages()
    say("== demo: a guest with the feature off")
    lines = guest(["--no-p2p"], "reg")
    say("== demo: measuring, about a minute")
    lines += guest([], "all")
    rows, runs, dpkg = collect(lines)
    if args.json:
        print(json.dumps(rows, indent=1))
    else:
        print_table(rows)
    wrong = judge(rows, runs, dpkg)
    say(f"   demo: {time.monotonic() - start:.0f} s")
    for line in wrong:
        say("demo: WRONG: " + line)
    return 1 if wrong else 0


sys.exit(main())
