#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
"""rdma-core's own test suite, as Debian ships it, on an RDMA device of this guest.

pyverbs_suite.py run [--memory device] [MODULE...]    on $HCA: fails unless all tests pass but those in pyverbs_suite.skips
pyverbs_suite.py compare [MODULE...]                  on $HCA and on rxe, side by side; rxe is the one that may fail
pyverbs_suite.py skips [MODULE...]                    what is skipped on $HCA and why, in words of the tests

The tests run in a process of their own that says what it is about to do. If it dies or hangs, that is the failure of
one test, and another process goes on with the next.
"""

import argparse
import collections
import ctypes
import fnmatch
import gzip
import json
import mmap
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
import unittest

SUITE = pathlib.Path("/usr/share/doc/rdma-core/tests")
HERE = pathlib.Path("/tmp/pyverbs")
SKIPS = pathlib.Path(__file__).with_suffix(".skips")
# How often it is started, without a test that begins, before it counts as one that does not start
STARTS = 3
# Of one test. The slowest, without KVM, take some seconds.
TIMEOUT_S = 120
# For tests of memory in huge pages
HUGE_PAGES = pathlib.Path("/proc/sys/vm/nr_hugepages")
# Modules of other devices' own verbs, whose tests have nothing to do with memory.
VENDORS = ("test_mlx5_", "test_efa")

Result = collections.namedtuple("Result", "outcome reason")  # outcome: ok, skip, fail


def unpack():
    """The suite, in the form that Python wants: Debian compresses long documentation."""
    if HERE.exists():
        return
    shutil.copytree(SUITE, HERE / "tests")
    for path in (HERE / "tests").glob("*.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()


# ---- in the process of the tests ----

class DeviceMemory:
    """Buffers in $VRAM_RESOURCE, one after the other, from the start again when there is no more."""

    def __init__(self):
        with open(os.environ["VRAM_RESOURCE"], "r+b") as f:
            self.map = mmap.mmap(f.fileno(), os.fstat(f.fileno()).st_size)
        self.start = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        self.next = 0

    def take(self, length):
        size = -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
        if self.next + size > len(self.map):
            self.next = 0
        at, self.next = self.next, self.next + size
        self.map[at:at + size] = bytes(size)
        return self.start + at


def regions_in_device_memory():
    """Every MR for which pyverbs would allocate memory lies in the BAR. pyverbs itself needs the class as it was."""
    import pyverbs.mr

    memory = DeviceMemory()
    regions = 0

    class MR(pyverbs.mr.MR):
        def __init__(self, creator, length=0, access=0, address=None, implicit=False, **kwargs):
            nonlocal regions
            if length and not address and not implicit and not kwargs:
                address = memory.take(length)
                regions += 1
            super().__init__(creator, length, access, address, implicit, **kwargs)

    for name, module in list(sys.modules.items()):
        if name.startswith("tests.") and getattr(module, "MR", None) is pyverbs.mr.MR:
            module.MR = MR
    return lambda: regions


class Recorder(unittest.TestResult):
    """Writes a line before and after each test."""

    def __init__(self, to, regions):
        super().__init__()
        self.to = to
        self.regions = regions

    def say(self, test, **what):
        self.to.write(json.dumps({"test": test.id(), **what}) + "\n")
        self.to.flush()

    def startTest(self, test):
        super().startTest(test)
        self.before = self.regions()
        self.say(test, outcome="running")
        # Some tests draw lots: each has the same luck every time.
        random.seed(test.id())
        signal.alarm(TIMEOUT_S)

    def stopTest(self, test):
        signal.alarm(0)
        super().stopTest(test)

    def end(self, test, outcome, reason=""):
        self.say(test, outcome=outcome, reason=" ".join(str(reason).split()),
                 regions=self.regions() - self.before)

    def addSuccess(self, test):
        self.end(test, "ok")

    def addSkip(self, test, reason):
        self.end(test, "skip", reason)

    def addFailure(self, test, err):
        self.end(test, "fail", self._exc_info_to_string(err, test))

    addError = addFailure

    def addExpectedFailure(self, test, err):
        self.end(test, "ok")

    def addUnexpectedSuccess(self, test):
        self.end(test, "fail", "succeeds unexpectedly")

    def addSubTest(self, test, subtest, err):
        if err:
            self.end(subtest.test_case, "fail", self._exc_info_to_string(err, test))


def on_alarm(_signal, _frame):
    raise TimeoutError(f"still running after {TIMEOUT_S} s")


def cases(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from cases(test)
        else:
            yield test


def child(device, memory, modules, results):
    """Runs what the file @results does not have yet, and appends to it."""
    sys.path.insert(0, str(HERE / "tests"))
    sys.path.insert(0, str(HERE))
    sys.argv[1:] = ["--dev", device]
    from args_parser import parser
    parser.parse_args()
    import tests
    regions = regions_in_device_memory() if memory == "device" else lambda: 0
    loader = unittest.TestLoader()
    done = set(read_results(results))
    suite = unittest.TestSuite()
    for module in tests.__test_modules__:
        if not modules or module.__name__.split(".")[-1] in modules:
            suite.addTests(t for t in cases(loader.loadTestsFromModule(module)) if t.id() not in done)
    signal.signal(signal.SIGALRM, on_alarm)
    with open(results, "a") as to:
        suite.run(Recorder(to, regions))


# ---- around it ----

def read_results(path):
    """What is known of each test; one that was running when its process ended has failed."""
    results = {}
    with open(path) as lines:
        for line in map(json.loads, lines):
            test, outcome, reason = line["test"], line["outcome"], line.get("reason", "")
            if outcome == "running":
                results[test] = Result("fail", "the process died")
            elif results.get(test, Result("", "")).outcome != "fail" or \
                    results[test].reason == "the process died":
                results[test] = Result(outcome, reason)
    return results


def run_suite(device, memory, modules):
    results = pathlib.Path(f"/tmp/pyverbs-{device}-{memory}.json")
    results.write_text("")
    args = [sys.executable, __file__, "child", device, memory, str(results), *modules]
    stuck = 0
    while True:
        before = len(read_results(results))
        started = time.monotonic()
        # What hangs in C does not hear the alarm.
        process = subprocess.Popen(args, stderr=subprocess.PIPE, text=True)
        try:
            watch(process, results)
        finally:
            process.kill()
            stderr = process.communicate()[1]
        if process.returncode == 0:
            break
        print(f"# the process of the tests ended with {process.returncode} after "
              f"{time.monotonic() - started:.0f} s: {stderr[-2000:]}", flush=True)
        # On a busy host, without KVM, an import of pyverbs has failed in Python itself (KeyError: __pyx_vtable__).
        stuck = stuck + 1 if len(read_results(results)) == before else 0
        if stuck == STARTS:
            sys.exit("FAIL: the suite does not start")
    regions = sum(json.loads(line).get("regions", 0) for line in results.read_text().splitlines())
    return read_results(results), regions


def watch(process, results):
    """Waits for the end of @process, or kills it when its file has not grown for too long."""
    size, changed = -1, time.monotonic()
    while process.poll() is None:
        now = results.stat().st_size
        if now != size:
            size, changed = now, time.monotonic()
        elif time.monotonic() - changed > TIMEOUT_S + 30:
            process.kill()
            return
        time.sleep(0.2)


def module_of(test):
    return test.split(".")[1]


def counts(results):
    """ok, skip, fail of each module"""
    table = collections.defaultdict(lambda: dict(ok=0, skip=0, fail=0))
    for test, result in results.items():
        table[module_of(test)][result.outcome] += 1
    return table


def print_failures(device, results):
    for test, result in results.items():
        if result.outcome == "fail":
            print(f"FAIL: {device}: {test}: {result.reason}")


def read_skips():
    """Pattern and reason, a line"""
    skips = {}
    for line in SKIPS.read_text().splitlines():
        if line and not line.startswith("#"):
            pattern, reason = line.split(maxsplit=1)
            skips[pattern] = reason
    return skips


def check_skips(results, modules):
    """Whether exactly those tests are skipped that the list says: a pattern must match, and match skipped tests only."""
    skips = read_skips()
    bad = 0
    for test, result in results.items():
        name = test.removeprefix("tests.")
        patterns = [p for p in skips if fnmatch.fnmatchcase(name, p)]
        if result.outcome == "skip" and not patterns:
            print(f"FAIL: skipped, and not in {SKIPS.name}: {name}: {result.reason}")
            bad += 1
        elif result.outcome == "ok" and patterns:
            print(f"FAIL: in {SKIPS.name}, and not skipped: {name} ({patterns[0]})")
            bad += 1
        for pattern in patterns:
            skips[pattern] = None
    for pattern, unused in skips.items():
        if unused and not modules:
            print(f"FAIL: in {SKIPS.name}, and no such test: {pattern}")
            bad += 1
    return bad


def print_table(columns):
    """@columns: name and counts() each"""
    print(f"{'module':24}" + "".join(f"{name:>28}" for name, _ in columns))
    print(" " * 24 + "".join(f"{'ok':>12}{'skipped':>10}{'failed':>6}" for _ in columns))
    modules = sorted(set().union(*(table for _, table in columns)))
    total = [dict(ok=0, skip=0, fail=0) for _ in columns]
    for module in [*modules, "all"]:
        row = f"{module:24}"
        for i, (_, table) in enumerate(columns):
            n = table[module] if module != "all" else total[i]
            row += f"{n['ok']:>12}{n['skip']:>10}{n['fail']:>6}"
            if module != "all":
                for key in n:
                    total[i][key] += n[key]
        print(row)
    return total


def command_run(args):
    hca = os.environ["HCA"]
    modules = args.modules or [] if args.memory == "host" else args.modules or modules_with_memory()
    results, regions = run_suite(hca, args.memory, modules)
    print_failures(hca, results)
    print_table([(f"{hca}, {args.memory} memory", counts(results))])
    bad = sum(r.outcome == "fail" for r in results.values()) + check_skips(results, modules)
    if args.memory == "device":
        print(f"# {regions} regions in device memory")
        bad += not regions
    sys.exit(1 if bad or not results else 0)


def modules_with_memory():
    return [p.stem for p in sorted((HERE / "tests").glob("test_*.py")) if not p.stem.startswith(VENDORS)]


def command_compare(args):
    hca = os.environ["HCA"]
    netdev = pathlib.Path(f"/sys/class/infiniband/{hca}/ports/1/gid_attrs/ndevs/0").read_text().strip()
    modules = args.modules or modules_with_memory()
    mine, _ = run_suite(hca, "host", modules)
    subprocess.run(["rdma", "link", "add", "rxe0", "type", "rxe", "netdev", netdev], check=True)
    rxe, _ = run_suite("rxe0", "host", modules)
    print_failures("rxe0", rxe)
    print_failures(hca, mine)
    total = print_table([(hca, counts(mine)), ("rxe", counts(rxe))])
    for test, result in mine.items():
        if result.outcome == "skip" and rxe.get(test, result).outcome == "ok":
            print(f"# rxe runs, {hca} skips: {test}: {result.reason}")
    sys.exit(0 if not total[0]["fail"] and total[0]["skip"] < total[1]["skip"] else 1)


def command_skips(args):
    results, _ = run_suite(os.environ["HCA"], "host", args.modules)
    for test, result in sorted(results.items()):
        if result.outcome == "skip":
            print(f"{test.removeprefix('tests.')} {result.reason}")


def main():
    if sys.argv[1:2] == ["child"]:
        device, memory, results, *modules = sys.argv[2:]
        child(device, memory, modules, results)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "compare", "skips"))
    parser.add_argument("--memory", choices=("host", "device"), default="host")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="test_mr, test_qp, ...")
    args = parser.parse_args()
    unpack()
    HUGE_PAGES.write_text("16")
    {"run": command_run, "compare": command_compare, "skips": command_skips}[args.command](args)


if __name__ == "__main__":
    main()
