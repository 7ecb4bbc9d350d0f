#!/usr/bin/env python3
"""Measure what it costs to register memory. Called by ./run inside the Debian 13 root.

Counts the instructions that the guest's kernel executes in ib_umem_get_mr() or its like and in the release, without the
HCA's commands, so that a busy machine makes no difference; the least time that the whole calls took is told beside
them. For a DMA-buf, its export and the close of the descriptor are counted, too. Goals that are missed are told; the
status is 1 if it is not known why, or by more than what is known explains.

Writes register.json, register.txt and register.svg to build/bench.
"""

import argparse
import bisect
import collections
import os
import shutil
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
import plot  # noqa: E402
from report import bytes_name, finish, goal, print_lines, say  # noqa: E402

REPO = "/src"
OUT = REPO + "/build/bench"
KERNEL = REPO + "/build/kernel/guest"
BIN = REPO + "/build/cmake-release/bin"

GET_VA = ("ib_umem_get_mr", "ib_umem_get_mr_revocable_and_lock")
GET_DMABUF = ("ib_umem_dmabuf_get_pinned", "ib_umem_dmabuf_get_pinned_revocable_and_lock")
LOCKING = ("ib_umem_set_revoke_locked", "ib_umem_revoke_lock", "ib_umem_revoke_unlock")
EXPORT, RELEASE = "simgpu_ioctl", "ib_umem_release"
CLOSE = "__x64_sys_close"  # also of what is of no interest
WATCHED = (*GET_VA, *GET_DMABUF, *LOCKING, RELEASE, EXPORT, CLOSE)
NOT_COUNTED = ("__schedule",)  # what other tasks do meanwhile

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
MRS = 10000
# With an IOMMU, QEMU tells the HCA of each page by itself: that would take minutes for 1 GiB in pages of 4 KiB.
LIMIT, LIMIT_IOMMU = GIB, 16 * MIB
# Options of ./run guest, and arguments of reg_cost
GUESTS = {
    "plain": ([], ["all", LIMIT, MRS]),
    "iommu": (["--iommu"], ["all", LIMIT_IOMMU, MRS]),
    "off": (["--no-p2p"], ["ordinary", LIMIT]),
}
WHERE = {"plain": "without IOMMU", "iommu": "with an IOMMU", "off": "with the feature switched off"}
NAMES = {"ordinary": "ordinary memory, 4 KiB pages", "huge": "ordinary memory, huge pages",
         "bar": "device memory, sysfs BAR", "device": "device memory, simgpu", "dma-buf": "the same by DMA-buf"}
# Of a long series: MRs around these places
PLACES = (1, 2, 10, 100, 1000, 10000)
WINDOW = 100


# ---- the guest --------------------------------------------------------------------------------------------------

def read_symbols():
    """Pairs of address and name, by address, of what is code."""
    with open(KERNEL + "/System.map") as f:
        return sorted((int(address, 16), name) for address, kind, name in (line.split() for line in f)
                      if kind in "tTwW")


def plugin(out, profile):
    table = {name: address for address, name in read_symbols()}
    missing = [name for name in WATCHED + NOT_COUNTED if name not in table]
    if missing:
        sys.exit("bench: not in the guest's kernel: " + " ".join(missing))
    return ",".join([f"{BIN}/libinsns.so", f"out={out}/insns"] +
                    [f"watch={name}@{table[name]:x}" for name in WATCHED] +
                    [f"exclude={name}@{table[name]:x}" for name in NOT_COUNTED] +
                    (["profile=on"] if profile else []))


def run_guest(name, options, args, profile=False):
    """What reg_cost printed, and what the plugin counted meanwhile, a list of words a line."""
    out = f"{OUT}/{name}"
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    with open(out + "/operations", "w") as f:
        status = subprocess.run(
            [REPO + "/scripts/guest.py", "--out", out, "--plugin", plugin(out, profile), "--cpus", "1", "--mem", "3G",
             "--vram", "8G", "--drop-vram", "--timeout", "1200", *options, "--", BIN + "/reg_cost", *map(str, args)],
            stdout=f, check=False).returncode
    if status:
        sys.exit(f"bench: the guest ended with status {status}")
    with open(out + "/operations") as f, open(out + "/insns") as g:
        return [line.split() for line in f], [line.split() for line in g]


# ---- from operations and calls to MRs ---------------------------------------------------------------------------

class Calls:
    """The calls that were counted, in order."""

    def __init__(self, lines):
        self.lines = [(name, int(count)) for name, count in lines if not name.startswith("@")]
        self.at = 0

    def take(self, *names):
        """Instructions of the next call, which must be one of NAMES."""
        if CLOSE not in names:
            self.skip_close()
        name, count = self.lines[self.at] if self.at < len(self.lines) else ("the end", 0)
        if name not in names:
            sys.exit(f"bench: call {self.at}: {name}, not {' or '.join(names)}")
        self.at += 1
        return count

    def skip_close(self):
        while self.at < len(self.lines) and self.lines[self.at][0] == CLOSE:
            self.at += 1

    def take_reg(self):
        return self.take(*GET_VA, *GET_DMABUF) + self.take(LOCKING[0]) + self.take(LOCKING[2])

    def take_dereg(self):
        return self.take(LOCKING[1]) + self.take(LOCKING[0]) + self.take(LOCKING[2]) + self.take(RELEASE)


def read_mrs(operations, counted):
    """{(series, kind, bytes, segments): [MR, ...]}; an MR's place is how many its buffer had then, with itself."""
    calls = Calls(counted)
    cases = collections.defaultdict(list)
    live, buffer, export = [], 0, {}
    for op, *words in operations:
        if op == "case":
            series, kind, size, segments = words
            case = cases[series, kind, int(size), int(segments)]
        elif op == "ioctl":
            calls.take(EXPORT)
        elif op == "export":
            export = {"export": calls.take(EXPORT), "export_ns": int(words[0])}
        elif op == "reg":
            buffer += 1
            mr = {"place": buffer, "export": 0, "export_ns": 0, "get": calls.take_reg(), "reg_ns": int(words[0])}
            mr.update(export)
            export = {}
            case.append(mr)
            live.append(mr)
        elif op == "close":
            mr["export"] += calls.take(CLOSE)
            mr["export_ns"] += int(words[0])
        elif op == "dereg":
            buffer = 0
            mr = live.pop()
            mr.update(release=calls.take_dereg(), dereg_ns=int(words[0]))
            mr["instructions"] = mr["export"] + mr["get"] + mr["release"]
            mr["ns"] = mr["export_ns"] + mr["reg_ns"] + mr["dereg_ns"]
        else:
            sys.exit(f"bench: reg_cost said {op}")
    calls.skip_close()
    if calls.at != len(calls.lines):
        sys.exit(f"bench: {len(calls.lines) - calls.at} calls more than there should be")
    return cases


def summary(mrs, **what):
    """Medians of instructions, and the least time."""
    def median(key):
        return statistics.median(mr[key] for mr in mrs)

    return {**what, "instructions": median("instructions"), "export": median("export"), "get": median("get"),
            "release": median("release"), "us": round(min(mr["ns"] for mr in mrs) / 1000, 1), "mrs": len(mrs)}


def window(mrs, place):
    """The MR at PLACE, and others near it that should be like it."""
    if place == 1:
        near = range(1, 2)
    elif place < WINDOW:
        near = range(place, place + WINDOW // 10)
    else:
        near = range(place - WINDOW // 2, place + WINDOW // 2 + 1)
    return [mr for mr in mrs if mr["place"] in near]


def rows_of(guest, cases):
    for (series, kind, size, segments), mrs in cases.items():
        what = {"guest": guest, "series": series, "kind": kind, "bytes": size, "segments": segments}
        if series == "number":
            for place in (place for place in PLACES if place <= len(mrs)):
                yield summary(window(mrs, place), **what, mr=place)
        elif kind in ("ordinary", "huge"):
            yield summary(mrs, **what, mr=1)
        else:
            yield summary([mr for mr in mrs if mr["place"] == 1], **what, mr=1)
            yield summary([mr for mr in mrs if mr["place"] > 1], **what, mr=2)


class Rows(list):
    def find(self, **what):
        found = [row for row in self if all(row[key] == value for key, value in what.items())]
        if len(found) != 1:
            sys.exit(f"bench: {len(found)} rows for {what}")
        return found[0]

    def cost(self, **what):
        return self.find(**what)["instructions"]

    def select(self, **what):
        return [row for row in self if all(row[key] == value for key, value in what.items())]


# ---- goals ------------------------------------------------------------------------------------------------------

def against_dmabuf(rows, guest, mr):
    """The worst of all sizes and numbers of segments."""
    pairs = []
    for row in rows.select(guest=guest, kind="device", mr=mr):
        other = rows.cost(guest=guest, kind="dma-buf", mr=mr, series=row["series"], bytes=row["bytes"],
                          segments=row["segments"])
        pairs.append(row["instructions"] / other)
    return max(pairs)


FIRST_DEARER = (
    "an importer of DMA-bufs attaches and maps the buffer, once for each MR. The first MR by address does that, too, and "
    "more: some 1,000 instructions in which pinning is tried and fails (first, so that ordinary memory pays nothing for "
    "the feature), some 350 to find the owner of the address, and a list of its own beside that of the buffer, from which "
    "later MRs are made without mapping anything")
# Measured: 1.69. More than this has another reason.
FIRST_DEARER_MOST = 1.8


def goals_of(rows):
    def size(kind, length, mr, guest):
        return rows.cost(series="size", kind=kind, bytes=length, mr=mr, guest=guest)

    def flat(kind, mr, guest):
        return size(kind, GIB, mr, guest) / size(kind, 2 * MIB, mr, guest)

    def number(kind, guest):
        return (rows.cost(series="number", kind=kind, mr=MRS, guest=guest) /
                rows.cost(series="number", kind=kind, mr=2, guest=guest))

    yield goal("ordinary memory, 4 KiB: to the feature switched off",
               size("ordinary", 4 * KIB, 1, "plain") / size("ordinary", 4 * KIB, 1, "off"), 1.01)
    for kind in ("bar", "device"):
        for mr, which in ((1, "1st MR"), (2, "later MRs")):
            yield goal(f"{NAMES[kind]}, {which}: 1 GiB to 2 MiB", flat(kind, mr, "plain"), 1.2)
        yield goal(f"{NAMES[kind]}, later MRs: 1 GiB to 2 MiB, IOMMU", flat(kind, 2, "iommu"), 1.2)
    for kind in ("bar", "device"):
        for guest, which in (("plain", ""), ("iommu", ", IOMMU")):
            yield goal(f"{NAMES[kind]}: the {MRS:,}th MR to the 2nd{which}", number(kind, guest), 1.05)
    for guest, which in (("plain", ""), ("iommu", ", IOMMU")):
        yield goal(f"{NAMES['device']}, 1st MR: to {NAMES['dma-buf']}, at worst{which}",
                   against_dmabuf(rows, guest, 1), 1.0, known=(FIRST_DEARER, FIRST_DEARER_MOST))
        yield goal(f"{NAMES['device']}, later MRs: to {NAMES['dma-buf']}, at worst{which}",
                   against_dmabuf(rows, guest, 2), 1.0)
    for mr, which in ((1, "1st MR"), (2, "later MRs")):
        dearest = max(size(kind, GIB, mr, "plain") for kind in ("bar", "device"))
        yield goal(f"1 GiB of ordinary memory in 4 KiB pages: to device memory, {which}",
                   size("ordinary", GIB, 1, "plain") / dearest, 100, least=True)


# ---- table and plot ---------------------------------------------------------------------------------------------

def columns(kinds):
    """Title, kind, MR"""
    for kind in kinds:
        if kind in ("ordinary", "huge"):
            yield kind, kind, 1
        else:
            yield f"{kind}, 1st", kind, 1
            yield f"{kind}, later", kind, 2


def cell(rows):
    return f"{rows[0]['instructions']:,.0f}  {rows[0]['us']:,.0f} us" if rows else "-"


def print_series(rows, guest, series, key, name, kinds):
    chosen = rows.select(guest=guest, series=series)
    cols = [c for c in columns(kinds) if any(r["kind"] == c[1] for r in chosen)]
    if series == "number":
        cols = [(kind, kind, None) for kind in kinds]
    values = sorted({row[key] for row in chosen})
    lines = [[key if key != "mr" else "MR"] + [title for title, _, _ in cols]]
    for value in values:
        lines.append([name(value)] + [
            cell([r for r in chosen if r[key] == value and r["kind"] == kind and mr in (None, r["mr"])])
            for _, kind, mr in cols])
    print_lines(lines)


def print_tables(rows):
    for guest, words in WHERE.items():
        print(f"Instructions to register and release, {words}; then the time of the whole calls\n")
        print_series(rows, guest, "size", "bytes", bytes_name, NAMES)
        if guest == "off":
            continue
        print(f"{MRS:,} MRs at a time on one buffer, of {2 * MIB >> 20} MiB (ordinary: 4 KiB); medians around the MR, "
              f"{words}\n")
        print_series(rows, guest, "number", "mr", "{:,}".format, ("ordinary", "bar", "device", "dma-buf"))
        print(f"Buffers in fragments of 4 KiB, {words}\n")
        print_series(rows, guest, "segments", "segments", "{:,}".format, ("device", "dma-buf"))
    for kind, name in NAMES.items():
        print(f"{kind + ':':10} {name}")
    print(f"{'-:':10} not measured, the guest has no more memory; with an IOMMU, QEMU tells the HCA of each page by itself")
    print()


def lines_of(rows, guest, series, key, kinds):
    lines = {}
    for title, kind, mr in columns(kinds) if series != "number" else [(kind, kind, None) for kind in kinds]:
        points = [(r[key], r["instructions"]) for r in rows.select(guest=guest, series=series, kind=kind)
                  if mr in (None, r["mr"])]
        lines[title if series != "number" or kind == "ordinary" else f"{kind}, later"] = sorted(points)
    return lines


def draw(rows, path):
    first = [title for title, kind, mr in columns(NAMES) if mr == 1 and kind not in ("ordinary", "huge")]
    panels = []
    for guest in ("plain", "iommu"):
        words = WHERE[guest]
        panels.append([
            plot.Panel(f"Size, {words}", "bytes", "instructions",
                       lines_of(rows, guest, "size", "bytes", NAMES), plot.BINARY, first),
            plot.Panel(f"MRs at a time on one buffer, {words}", "the MR", "instructions",
                       lines_of(rows, guest, "number", "mr", ("ordinary", "bar", "device", "dma-buf"))),
            plot.Panel(f"Segments of the buffer, {words}", "segments of 4 KiB", "instructions",
                       lines_of(rows, guest, "segments", "segments", ("device", "dma-buf")), dashed=first)])
    plot.write(path, "What ib_umem_get_mr() and its release cost", panels)


def print_profile(kind, iommu):
    """Where the instructions of an MR go: functions, without what they call. Mean of many MRs on one buffer."""
    nr = 1000
    _, counted = run_guest("profile", ["--iommu"] if iommu else [], ["number", kind, nr], True)
    symbols = read_symbols()
    addresses = [address for address, _ in symbols]
    functions = collections.Counter()
    for name, count in counted:
        if name.startswith("@"):
            functions[symbols[bisect.bisect(addresses, int(name[1:], 16)) - 1][1]] += int(count)
    print(f"{sum(functions.values()) / nr:10,.1f}  all")
    for name, count in functions.most_common(40):
        print(f"{count / nr:10,.1f}  {name}")


def main():
    parser = argparse.ArgumentParser(prog="./run bench register", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing else on stdout")
    parser.add_argument("--profile", metavar="KIND", choices=NAMES,
                        help="only show the functions that registering this kind of memory goes through: "
                             + ", ".join(NAMES))
    parser.add_argument("--iommu", action="store_true", help="with --profile: in a guest with an IOMMU")
    args = parser.parse_args()
    if args.profile:
        print_profile(args.profile, args.iommu)
        return 0

    start = time.monotonic()
    rows = Rows()
    for guest, (options, reg_cost) in GUESTS.items():
        say(f"== bench register: {WHERE[guest]}")
        rows += rows_of(guest, read_mrs(*run_guest(guest, options, reg_cost)))
    draw(rows, OUT + "/register.svg")
    status = finish(OUT + "/register", {"rows": rows}, list(goals_of(rows)), lambda: print_tables(rows), args.json)
    say(f"   bench register: {time.monotonic() - start:.0f} s")
    return status


if __name__ == "__main__":
    sys.exit(main())
