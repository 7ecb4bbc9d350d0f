#!/usr/bin/env python3
"""Run a command in a fresh guest, or one in each of two. Called by ./run inside the Debian 13 root."""

import argparse
import ctypes
import fcntl
import hashlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time

REPO = "/src"
ROOT_VIEW = "/mnt/guest"  # the root without what is mounted in it
SIMHCAD = REPO + "/build/cmake-release/bin/simhcad"
KVM_VERDICT = REPO + "/build/kvm-works"
CHECK_VRAM = REPO + "/build/cmake-release/bin/check_vram"

# guest.cmake has the same.
FULL_TIMEOUT_FACTOR = 4

# Exit codes of this program's own; 124 is timeout(1)'s.
EXIT_PANIC, EXIT_DEVICE, EXIT_LOG, EXIT_SETUP, EXIT_TIMEOUT = 120, 121, 122, 123, 124

# Lines of the guest's kernel log that fail a run with --check-log: what the kernel says of faults, and what the
# project's own parts of it say when they could not keep a promise. (The exporter ib_core is a KUnit test that lies.)
BAD_LOG = re.compile(
    r"WARNING: |BUG: |INFO: possible |INFO: trying to register non-static key|possible (circular|recursive) locking"
    r"|\bOops\b|general protection fault|KASAN: |UBSAN: |refcount_t: |DMA-API: (?!preallocated|debugging (?:en|dis)abled)"
    r"|unreferenced object|kernel BUG at|Kernel panic|suspicious RCU usage|scheduling while atomic"
    r"|sleeping function called"
    r"|a peer device still has it mapped|waiting for a peer device|exporter (?!ib_core:)\S+: offset out of range"
    r"|simhca \S+: (?:device given up|command \d+ for object|device cannot be enabled|not usable after a reset|unknown event)"
    r"|failed to revoke mkey|mr revoke failed"
)

# Reports of the stock kernel, from the line that is bad on. 7.3.4's pciehp_unconfigure_device() takes reset_lock again
# under pci_rescan_remove_lock, the other way round than pciehp_ist(), with no other lock in between. And on a busy host
# its deadline scheduler forwards, in about one guest of a hundred, a server's timer that another CPU has started
# meanwhile.
STOCK_LOG = [re.compile(r"""WARNING: possible circular locking dependency detected
.*
-+
.* is trying to acquire lock:
\S+ \(&ctrl->reset_lock\)\S+ at: pciehp_unconfigure_device\+.*

but task is already holding lock:
\S+ \(pci_rescan_remove_lock\)\S+ at: pci_lock_rescan_remove\+.*

which lock already depends on the new lock\.


the existing dependency chain \(in reverse order\) is:

-> #1 \(pci_rescan_remove_lock\)"""),
             re.compile(r"WARNING: kernel/time/hrtimer\.c:\d+ at hrtimer_forward\+(?:.*\n){,25}.*\bdl_task_timer\+")]
STOCK_LOG_LINES = 30
LOG_TIME = re.compile(r"^\[ *\d+\.\d+\] ?", re.M)

EPILOG = f"""
CMD's output and exit status are passed on. Its standard input is empty; without CMD there is a shell on
the terminal. In the guest /src is this repository (read-only), /out is DIR, and the environment has HCA,
HCA_IP, VRAM_BDF and VRAM_RESOURCE. DIR also has console.log (the guest's kernel log), qemu.log,
simhcad.log and vram0 (the device memory). FILE and PROGRAM lie in this repository (build/ will do): the Debian
root that QEMU and they run in sees nothing else of the machine. A test can ask this program to unplug a device and
to check the device memory while the guest runs: tests/vm/host.h.

Exit status when it is not CMD's: {EXIT_PANIC} the guest panicked or ended by itself, {EXIT_DEVICE} a device process died,
{EXIT_LOG} bad lines in the kernel log, {EXIT_SETUP} the guest could not be set up, {EXIT_TIMEOUT} the time was up.
"""


PAIR_EPILOG = f"""
A-CMD runs in one guest and B-CMD in another, at the same time; output is passed on with the guest's letter in front of
each line, and the exit status is the first that is not 0. Their HCAs belong to one device process, and an Ethernet
connects the network devices: A has 10.0.0.1, B 10.0.0.2. Each guest has device memory of its own, and below DIR a folder of its
own, a/ and b/, which it sees as /out. Both see DIR/pair as /pair, where they can leave files for each other. The
environment has what it has in ./run guest, and PEER_IP. What a test can ask for: tests/vm/host.h; a guest that the other one has
killed has no status.

Exit status when it is not a CMD's: as of ./run guest.
"""


class Failure(Exception):
    """The run ends here: status for the caller and a line that says why."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def shown(path):
    """PATH as a person on the host knows it."""
    if path == "/mnt/out" or path.startswith("/mnt/out/"):
        return os.environ.get("P2P_OUT", "/mnt/out") + path[len("/mnt/out"):]
    if path.startswith(REPO + "/"):
        return os.environ.get("P2P_HOST_TOP", REPO) + path[len(REPO):]
    return path


def say(message):
    print(f"run guest: {message}", file=sys.stderr, flush=True)


def size(text):
    match = re.fullmatch(r"(\d+)([KMGT]?)(?:i?B)?", text, re.I)
    if not match:
        raise argparse.ArgumentTypeError(f"not a size: {text}")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[match[2].upper()]


def power_of_two(text):
    value = size(text)
    if value < 1 << 12 or value & (value - 1):
        raise argparse.ArgumentTypeError(f"a PCI BAR is a power of two, at least 4K: {text}")
    return value


def parse_args(argv):
    pair = argv[:1] == ["--pair"]  # ./run guests
    if pair:
        argv = argv[1:]
    p = argparse.ArgumentParser(
        prog="./run guests" if pair else "./run guest",
        usage="./run guests [OPTIONS] -- A-CMD... -- B-CMD..." if pair else "./run guest [OPTIONS] [-- CMD...]",
        epilog=PAIR_EPILOG if pair else EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    out = "build/out-pair" if pair else "build/out"
    p.add_argument("--out", metavar="DIR", default=f"{REPO}/{out}",
                   help=f"folder shared with the guest as /out, one guest at a time in each (default {out})")
    p.add_argument("--vram", metavar="SIZE", type=power_of_two, default="256M",
                   help="device memory, an ivshmem BAR (default 256M)")
    p.add_argument("--mem", metavar="SIZE", type=size, default="2G", help="guest RAM (default 2G)")
    p.add_argument("--cpus", metavar="N", type=int, default=2, help="virtual CPUs (default 2)")
    p.add_argument("--one-thread", action="store_true",
                   help="all virtual CPUs in one thread of the host: quicker than two that wait for each "
                   "other on a busy host, but nothing runs at the same time, and programs that poll wait "
                   "for each other (TCG only)")
    p.add_argument("--iommu", metavar="KIND", nargs="?", const="intel", choices=["intel", "virtio"],
                   help="translate DMA, strict: intel-iommu (default) or virtio-iommu")
    p.add_argument("--topology", choices=["bus", "ports", "port", "switch"], default="bus",
                   help="devices on the root bus, behind a root port each, functions behind one root port, or behind "
                   "one PCIe switch")
    p.add_argument("--hcas", metavar="N", type=int, default=1, help="simulated HCAs of a guest, simhca0.. (default 1)")
    p.add_argument("--max-mr", metavar="N", type=int, help="memory regions that an HCA can have (default 1048575)")
    p.add_argument("--no-p2p", action="store_true", help="boot with the feature switched off (ib_core.umem_p2p=0 p2pdma_buf.importers=off)")
    p.add_argument("--debug", action="store_true",
                   help="kernel with lockdep, KASAN, UBSAN, DMA-API debug, fault injection and the KUnit suites")
    p.add_argument("--leaks", action="store_true",
                   help="--debug, and kmemleak looks for lost memory at the end; slower")
    p.add_argument("--check-log", action="store_true",
                   help="fail when the guest's kernel log has a WARN, BUG, lockdep or DMA-API line, lost memory, or an "
                   "alarm of what was made here")
    p.add_argument("--allow-log", metavar="TEXT", action="append", default=[],
                   help="with --check-log: lines with TEXT are as they should be")
    p.add_argument("--timeout", metavar="S", type=float,
                   help="end the guest after S seconds (default 300, for a shell 0: never)")
    p.add_argument("--cpu", metavar="MODEL", default="EPYC,vendor=AuthenticAMD",
                   help="QEMU's CPU model; its vendor decides which peer-to-peer routes are allowed")
    p.add_argument("--append", metavar="ARGS", action="append", default=[], help="more kernel parameters")
    p.add_argument("--kernel", metavar="FILE", help="boot this bzImage; nothing is built")
    p.add_argument("--after", metavar="PROGRAM",
                   help="run PROGRAM DIR when CMD succeeded and the guest has ended; its failure is the run's")
    p.add_argument("--drop-vram", action="store_true", help="free the device memory afterwards, not at the next run")
    p.add_argument("--plugin", metavar="FILE[,ARG...]", help="load a plugin into QEMU, which then runs without KVM")
    p.add_argument("--simhcad", metavar="FILE", default=SIMHCAD, help="device process to use")
    argv, _, cmd = partition(argv, "--")
    args = p.parse_args(argv)
    if not 1 <= args.cpus <= 8:
        p.error("--cpus: 1 to 8")
    if not 0 <= args.hcas <= 8:
        p.error("--hcas: 0 to 8")
    args.cmd = cmd
    args.peer_cmd = None
    if pair:
        args.cmd, _, args.peer_cmd = partition(cmd, "--")
        if not args.cmd or not args.peer_cmd:
            p.error("a command for each of the two guests: -- A-CMD... -- B-CMD...")
    if args.timeout is None:
        args.timeout = 300 if cmd else 0
    # Below "./run test --full": every test looks for lost memory, which takes its time.
    if args.debug and os.environ.get("P2P_FULL"):
        args.leaks, args.timeout = True, args.timeout * FULL_TIMEOUT_FACTOR
    args.debug |= args.leaks
    name = "debug" if args.debug else "guest"
    args.kernel = args.kernel or f"{REPO}/build/kernel/{name}/arch/x86/boot/bzImage"
    args.out = os.path.abspath(args.out)
    return args


def partition(items, sep):
    if sep not in items:
        return items, None, []
    i = items.index(sep)
    return items[:i], sep, items[i + 1:]


def pdeathsig():
    """The child dies with this process, however that ends. (PR_SET_PDEATHSIG)"""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def spawn(argv, log, **kwargs):
    with open(log, "wb") as f:
        return subprocess.Popen(argv, stdin=kwargs.pop("stdin", subprocess.DEVNULL),
                                stdout=kwargs.pop("stdout", f), stderr=f, preexec_fn=pdeathsig, **kwargs)


def mac(guest, i):
    """Of HCA i of a guest, 0 or 1, and of the network device whose addresses it uses: the guest is told."""
    return f"52:54:00:c0:{guest:02x}:{i:02x}"


class Dirs:
    """Files of one run: DIR (kept) and a folder on tmpfs: sockets for the run, device memory until the next one."""

    def __init__(self, out):
        self.out = out
        self.guest = out + "/.guest"
        os.makedirs(self.guest, exist_ok=True)
        self.lock = open(self.guest + "/lock", "w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure(EXIT_SETUP, f"another guest runs in {shown(out)}; choose another --out") from None
        self.shm = "/dev/shm/p2p-mr." + hashlib.sha256(shown(out).encode()).hexdigest()[:16]
        self.drop_stale()
        shutil.rmtree(self.shm, ignore_errors=True)
        os.mkdir(self.shm, 0o700)
        with open(self.shm + "/for", "w") as f:
            f.write(shown(out))
        self.sockets = tempfile.mkdtemp(prefix="guest.", dir="/tmp")
        for name in ("stdout", "stderr", "exit", "cmd", "ask", "answer"):
            if os.path.lexists(f"{self.guest}/{name}"):
                os.unlink(f"{self.guest}/{name}")

    @staticmethod
    def drop_stale():
        """Device memory whose DIR this root sees to be gone stays in nobody's way."""
        for name in os.listdir("/dev/shm"):
            if not name.startswith("p2p-mr."):
                continue
            try:
                with open(f"/dev/shm/{name}/for") as f:
                    out = f.read()
            except OSError:
                continue
            top = os.environ.get("P2P_HOST_TOP", REPO)
            if out.startswith(top + "/") and not os.path.isdir(REPO + out[len(top):]):
                shutil.rmtree(f"/dev/shm/{name}", ignore_errors=True)

    def vram(self, length):
        path = self.shm + "/vram0"
        with open(path, "wb") as f:
            f.truncate(length)
        link = self.out + "/vram0"
        if os.path.lexists(link):
            os.unlink(link)
        os.symlink(path, link)
        return path

    def close(self, drop_vram):
        shutil.rmtree(self.sockets, ignore_errors=True)
        if drop_vram:
            shutil.rmtree(self.shm, ignore_errors=True)


def slots(args, count):
    """Where each of COUNT devices goes, as properties of it, and the bridges that make these places."""
    if args.topology == "bus":
        return [{"bus": "pcie.0"}] * count, []
    if args.topology == "port":
        return [{"bus": "port0", "addr": f"0.{i}", "multifunction": True} for i in range(count)], [
            {"driver": "pcie-root-port", "id": "port0", "bus": "pcie.0", "chassis": 1, "slot": 1}]
    if args.topology == "ports":
        # QEMU 11.1.3 aborts when it deletes a vfio-user-pci device with MSI-X. In a slot without power controller it does
        # not get so far, while the guest gives the device up as ever. The first device, the exporter, really goes.
        return [{"bus": f"port{i}"} for i in range(count)], [
            {"driver": "pcie-root-port", "id": f"port{i}", "bus": "pcie.0", "chassis": i + 1, "slot": i + 1,
             "power_controller_present": i == 0}
            for i in range(count)]
    return [{"bus": f"down{i}"} for i in range(count)], [
        {"driver": "pcie-root-port", "id": "port0", "bus": "pcie.0", "chassis": 1, "slot": 1},
        {"driver": "x3130-upstream", "id": "up0", "bus": "port0"},
    ] + [{"driver": "xio3130-downstream", "id": f"down{i}", "bus": "up0", "chassis": i + 2, "slot": i + 2}
         for i in range(count)]


def kernel_parameters(args):
    # A busy host makes the timer look broken and the TSC unstable.
    words = ["no_timer_check", "tsc=reliable", "console=ttyS0", "loglevel=7", "panic=-1", "oops=panic",
             "root=root", "rootfstype=9p", "rootflags=trans=virtio,version=9p2000.L,cache=loose,msize=512000",
             "ro", "init=/guest-init"]
    if args.iommu == "intel":
        words.append("intel_iommu=on")
    if args.iommu:
        words.append("iommu.strict=1")
    if args.topology == "ports":
        words.append("pcie_ports=native")  # or the kernel leaves hot-plug to ACPI, which QEMU is told not to do
    if args.leaks:
        words.append("kmemleak=on")
    if args.no_p2p:
        words += ["ib_core.umem_p2p=0", "p2pdma_buf.importers=off"]
    return " ".join(words + args.append)


def wire_argv(number, wire):
    """A port of the guest's hub whose frames come out at the other guest's, whichever of the two is there first."""
    here, there = wire[number], wire[1 - number]
    return ["-netdev", f"dgram,id=wire,local.type=unix,local.path={here},remote.type=unix,remote.path={there}",
            "-netdev", "hubport,id=wireport,hubid=0,netdev=wire"]


def qemu_argv(args, dirs, accel, vram, sockets, number, wire):
    machine = "q35" + (",kernel-irqchip=split" if args.iommu == "intel" else "")
    argv = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
            "-M", machine + ",memory-backend=ram", "-accel", accel, "-cpu", args.cpu, "-smp", str(args.cpus),
            "-m", f"{args.mem >> 20}M", "-object", f"memory-backend-memfd,id=ram,size={args.mem},share=on",
            "-kernel", args.kernel, "-append", kernel_parameters(args),
            "-serial", f"file:{dirs.out}/console.log", "-qmp", f"unix:{dirs.sockets}/qmp,server=on,wait=off"]
    if args.plugin:
        argv += ["-plugin", args.plugin]
    if args.topology == "ports":
        argv += ["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"]

    def device(**properties):
        argv.extend(["-device", json.dumps(properties)])

    # before the devices they translate for
    if args.iommu == "intel":
        device(driver="intel-iommu", intremap="on", **{"caching-mode": True})
    if args.iommu == "virtio":
        device(driver="virtio-iommu-pci")
    folders = [("root", ROOT_VIEW, True), ("src", REPO, True), ("out", dirs.out, False)]
    if wire:
        folders.append(("pair", os.path.dirname(dirs.out) + "/pair", False))
    for tag, path, readonly in folders:
        argv += ["-fsdev", f"local,id={tag},path={path},security_model=passthrough,multidevs=remap"
                 + (",readonly=on" if readonly else "")]
        device(driver="virtio-9p-pci", fsdev=tag, mount_tag=tag)
    if not args.cmd:
        argv += ["-chardev", "stdio,id=tty,signal=off"]
        device(driver="virtio-serial-pci", id="serial")
        device(driver="virtconsole", chardev="tty")
    places, bridges = slots(args, 1 + args.hcas)
    for bridge in bridges:
        device(**bridge)
    argv += ["-object", f"memory-backend-file,id=vram0,mem-path={vram},size={args.vram},share=on"]
    device(driver="ivshmem-plain", id="vram", memdev="vram0", **places[0])
    if args.hcas:
        # A hub with one port takes no packets: the transmit queue would time out. With a wire it has another one, and
        # must not have this: it answers connections to anybody with a reset.
        argv += wire_argv(number, wire) if wire else [
            "-netdev", "user,id=sink,restrict=on,ipv6=off", "-netdev", "hubport,id=sinkport,hubid=0,netdev=sink"]
    for i in range(args.hcas):
        # The network device of the same MAC gives the HCA its GIDs; a hub is all it is wired to.
        argv += ["-netdev", f"hubport,id=net{i},hubid=0"]
        device(driver="virtio-net-pci", netdev=f"net{i}", mac=mac(number, i), romfile="")
        device(driver="vfio-user-pci", id=f"hca{i}", socket={"type": "unix", "path": sockets[i]}, rombar=0,
               **{"x-msg-timeout": 60000}, **places[1 + i])
    return argv


class Pump:
    """Copies a file that grows to a file descriptor, with a prefix in front of each line, or as it is."""

    def __init__(self, path, fd, prefix=b""):
        self.path, self.fd, self.file = path, fd, None
        self.prefix, self.rest = prefix, b""

    def write(self, data):
        while data:
            data = data[os.write(self.fd, data):]

    def run(self):
        if self.file is None:
            if not os.path.exists(self.path):
                return
            self.file = open(self.path, "rb", buffering=0)
        while data := self.file.read(1 << 16):
            if self.prefix:
                *lines, self.rest = (self.rest + data).split(b"\n")
                data = b"".join(self.prefix + line + b"\n" for line in lines)
            self.write(data)

    def end(self):
        self.run()
        if self.rest:
            self.write(self.prefix + self.rest + b"\n")
            self.rest = b""


class Qmp:
    """QEMU's monitor. Nothing here waits."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.setblocking(False)
        self.buffer = b""
        self.send("qmp_capabilities")

    def send(self, command, **arguments):
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())

    def messages(self):
        try:
            while data := self.socket.recv(1 << 16):
                self.buffer += data
        except BlockingIOError:
            pass
        *lines, self.buffer = self.buffer.split(b"\n")
        return [json.loads(line) for line in lines]


class Unplug:
    """Until QEMU says that the device is gone. It never says so of HCAs, see slots()."""

    def __init__(self, qmp, device):
        self.qmp, self.device = qmp, device
        qmp.messages()
        qmp.send("device_del", id=device)

    def answer(self):
        for message in self.qmp.messages():
            if "error" in message:
                return message["error"]["desc"]
            if "return" in message and self.device.startswith("hca"):
                return "ok"
            if message.get("event") == "DEVICE_DELETED" and message["data"].get("device") == self.device:
                return "ok"
        return None


class LateBytes:
    """Fills the device memory, and looks for some time whether anything writes to it."""

    def __init__(self, out, seconds):
        self.process = subprocess.Popen([CHECK_VRAM, "--late", str(float(seconds)), out], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=pdeathsig)

    def answer(self):
        if self.process.poll() is None:
            return None
        text = self.process.stdout.read().decode().strip().replace("\n", "; ")
        return text if self.process.returncode else "ok"


class Killed:
    """A guest that ends without a word."""

    def __init__(self, guest):
        guest.kill()

    def answer(self):
        return "ok"


class ProcessKilled:
    """The device process ends without a word, and with it all HCAs."""

    def __init__(self, devices):
        devices.kill()

    def answer(self):
        return "ok"


class ProcessUsage:
    """What the device process holds is remembered; or it must be as it was remembered."""

    def __init__(self, devices, compare):
        self.text, usage = "ok", devices.usage()
        if not compare:
            devices.remembered = usage
            return
        for name, slack in (("descriptors", 0), ("threads", 0), ("mappings", 4), ("KiB", 4096)):
            before, now = devices.remembered[name], usage[name]
            say(f"simhcad: {name}: {before}, now {now}")
            if now > before + slack:
                self.text = f"simhcad has {now} {name}, had {before}"

    def answer(self):
        return self.text


class Requests:
    """What the guest asks for in /out/.guest/ask, one at a time: "NUMBER WORDS..."; answered by "NUMBER ok" or
    "NUMBER" and what went wrong."""

    def __init__(self, guest):
        self.guest, self.dirs = guest, guest.dirs
        self.number = self.task = None

    def begin(self, words):
        match words:
            case ["device_del", device]:
                return Unplug(self.guest.monitor(), device)
            case ["late", seconds]:
                return LateBytes(self.dirs.out, seconds)
            case ["peer", "device_del", device] if self.guest.peer:
                return Unplug(self.guest.peer.monitor(), device)
            case ["peer", "kill"] if self.guest.peer:
                return Killed(self.guest.peer)
            case ["simhcad", "kill"]:
                return ProcessKilled(self.guest.devices)
            case ["simhcad", "remember" | "compare" as what]:
                return ProcessUsage(self.guest.devices, what == "compare")
        raise ValueError(f"not known: {words}")

    def answer(self, text):
        with open(self.dirs.guest + "/answer.new", "w") as f:
            f.write(f"{self.number} {text}\n")
        os.rename(self.dirs.guest + "/answer.new", self.dirs.guest + "/answer")
        self.task = None

    def run(self):
        path = self.dirs.guest + "/ask"
        if self.task:
            text = self.task.answer()
            if text:
                self.answer(text)
        elif os.path.exists(path):
            with open(path) as f:
                self.number, *words = f.read().split()
            os.unlink(path)
            try:
                self.task = self.begin(words)
            except (ValueError, OSError) as error:
                self.answer(str(error))


class DeviceProcess:
    """simhcad, with the HCAs of all guests of a run."""

    def __init__(self, args, log):
        self.args, self.log, self.process = args, log, None
        self.killed, self.remembered = False, {}

    def start(self, hcas):
        """HCAS: pairs of socket and MAC address."""
        if not hcas:
            return
        if not os.path.exists(self.args.simhcad):
            raise Failure(EXIT_SETUP, f"no device process {shown(self.args.simhcad)}")
        argv = [self.args.simhcad]
        limit = "" if self.args.max_mr is None else f",max-mr={self.args.max_mr}"
        for path, address in hcas:
            argv += ["--hca", f"socket={path},mac={address}{limit}"]
        self.process = spawn(argv, self.log)
        deadline = time.monotonic() + 10
        while not all(os.path.exists(path) for path, _ in hcas) or b"ready" not in open(self.log, "rb").read():
            if self.process.poll() is not None:
                raise Failure(EXIT_DEVICE, f"simhcad ended at its start; see {shown(self.log)}")
            if time.monotonic() > deadline:
                raise Failure(EXIT_DEVICE, f"simhcad is not ready after 10 s; see {shown(self.log)}")
            time.sleep(0.01)

    def kill(self):
        self.killed = True
        self.process.kill()
        self.process.wait()

    def usage(self):
        proc = f"/proc/{self.process.pid}"
        with open(proc + "/maps") as maps, open(proc + "/smaps_rollup") as rollup:
            # Without what the guests have shared with it
            return {"descriptors": len(os.listdir(proc + "/fd")), "threads": len(os.listdir(proc + "/task")),
                    "mappings": len(maps.readlines()),
                    "KiB": int(re.search(r"^Anonymous:\s+(\d+)", rollup.read(), re.M)[1])}

    def check(self):
        if self.process and not self.killed and self.process.poll() is not None:
            raise Failure(EXIT_DEVICE, f"simhcad died ({ended(self.process)}); see {shown(self.log)}")

    def stop(self):
        if not self.process or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            say("simhcad does not end on SIGTERM")
            self.process.kill()
            self.process.wait()


class Guest:
    """One QEMU, and what its guest asks for. NUMBER: 0, or 1 for the second of two; PEER: the other one of the two."""

    def __init__(self, args, accel, devices, number=0, prefix=b""):
        self.args, self.accel, self.devices, self.number = args, accel, devices, number
        self.qemu = self.qmp = self.peer = None
        self.killed = False
        self.dirs = Dirs(args.out)
        self.sockets = [f"{self.dirs.sockets}/hca{i}" for i in range(args.hcas)]
        self.pumps = [Pump(self.dirs.guest + "/stdout", 1, prefix), Pump(self.dirs.guest + "/stderr", 2, prefix)]
        self.requests = Requests(self)

    def hcas(self):
        return [(path, mac(self.number, i)) for i, path in enumerate(self.sockets)]

    def write_request(self):
        with open(self.dirs.guest + "/cmd", "wb") as f:
            f.write(b"".join(os.fsencode(a) + b"\0" for a in self.args.cmd))
        env = {"P2P_HCA_MACS": " ".join(address for _, address in self.hcas()), "P2P_HOST": self.number + 1,
               "TERM": os.environ.get("TERM", "dumb")}
        if self.peer:
            env["P2P_PEER"] = self.peer.number + 1
        if self.args.leaks:
            env["P2P_LEAKS"] = 1
        if os.environ.get("P2P_FULL"):
            env["P2P_FULL"] = 1
        if not self.args.cmd and sys.stdin.isatty():
            env["COLUMNS"], env["LINES"] = os.get_terminal_size()
        with open(self.dirs.guest + "/env", "w") as f:
            f.writelines(f"{k}='{v}'\n" for k, v in env.items())

    def start(self):
        if not os.path.exists(self.args.kernel):
            raise Failure(EXIT_SETUP, f"no kernel {shown(self.args.kernel)}")
        self.write_request()
        wire = [guest.dirs.sockets + "/wire" for guest in sorted((self, self.peer), key=lambda guest: guest.number)] \
            if self.peer else None
        argv = qemu_argv(self.args, self.dirs, self.accel, self.dirs.vram(self.args.vram), self.sockets, self.number, wire)
        stdio = {} if self.args.cmd else {"stdin": None, "stdout": None}
        with open(self.dirs.out + "/qemu.cmd", "w") as f:
            f.write(" ".join(json.dumps(a) if re.search(r"[^\w@%+=:,./-]", a) else a for a in argv) + "\n")
        if os.path.exists(self.dirs.out + "/console.log"):
            os.unlink(self.dirs.out + "/console.log")
        self.qemu = spawn(argv, self.dirs.out + "/qemu.log", **stdio)

    def running(self):
        return self.qemu.poll() is None

    def monitor(self):
        self.qmp = self.qmp or Qmp(self.dirs.sockets + "/qmp")
        return self.qmp

    def serve(self):
        for pump in self.pumps:
            pump.run()
        self.requests.run()

    def kill(self):
        self.killed = True
        self.qemu.kill()

    def status(self):
        try:
            with open(self.dirs.guest + "/exit") as f:
                text = f.read()
        except FileNotFoundError:
            return None
        return text if text.endswith("\n") else None

    def verdict(self):
        """Of a guest that has ended, for whatever reason."""
        for pump in self.pumps:
            pump.end()
        log = self.dirs.out + "/console.log"
        status = self.status()
        if self.killed:
            return 0
        if status is None:
            if self.qemu.returncode:
                raise Failure(EXIT_SETUP, f"QEMU failed ({ended(self.qemu)}); see {shown(self.dirs.out)}/qemu.log")
            panic = [line for line in read_log(log) if "Kernel panic" in line]
            raise Failure(EXIT_PANIC, f"{panic[0] if panic else 'the guest ended without a status'}; see {shown(log)}")
        word, _, text = status.strip().partition(" ")
        if word == "setup":
            raise Failure(EXIT_SETUP, f"{text}; see {shown(log)}")
        return int(text)

    def stop(self):
        if self.qemu and self.qemu.poll() is None:
            self.qemu.kill()
            self.qemu.wait()
        self.dirs.close(self.args.drop_vram)


class Run:
    """One guest or two, and the device process."""

    def __init__(self, args, accel):
        self.args, self.guests = args, []
        self.devices = DeviceProcess(args, args.out + "/simhcad.log")
        self.deadline = time.monotonic() + args.timeout if args.timeout > 0 else None
        if args.peer_cmd is None:
            self.guests.append(Guest(args, accel, self.devices))
            return
        shutil.rmtree(args.out + "/pair", ignore_errors=True)
        os.makedirs(args.out + "/pair")
        for number, (name, cmd) in enumerate((("a", args.cmd), ("b", args.peer_cmd))):
            own = argparse.Namespace(**{**vars(args), "out": f"{args.out}/{name}", "cmd": cmd})
            self.guests.append(Guest(own, accel, self.devices, number, name.encode() + b": "))
        self.guests[0].peer, self.guests[1].peer = reversed(self.guests)

    def start(self):
        self.devices.start([hca for guest in self.guests for hca in guest.hcas()])
        for guest in self.guests:
            guest.start()

    def wait(self):
        """Until all guests have ended; the first status that is not 0."""
        watch = select.poll()
        for process in [guest.qemu for guest in self.guests] + [self.devices.process]:
            if process:
                watch.register(os.pidfd_open(process.pid), select.POLLIN)
        while any(guest.running() for guest in self.guests):
            # One that has ended stays readable: then there is nothing to wait for but time.
            if all(guest.running() for guest in self.guests) and not self.devices.killed:
                watch.poll(20)
            else:
                time.sleep(0.02)
            for guest in self.guests:
                guest.serve()
            # A guest's last act is to write its status; then it no longer matters who dies first.
            if any(guest.running() and guest.status() is None for guest in self.guests):
                self.devices.check()
            if self.deadline and time.monotonic() > self.deadline:
                raise Failure(EXIT_TIMEOUT, f"the guest was ended after {self.args.timeout:g} s; "
                              f"see {shown(self.guests[0].dirs.out)}/console.log")
        statuses = [guest.verdict() for guest in self.guests]
        return next((status for status in statuses if status), 0)

    def check(self):
        """What remains to be looked at when all commands have succeeded."""
        for guest in self.guests:
            if not guest.killed and self.args.after:
                status = subprocess.run([self.args.after, guest.args.out], check=False).returncode
                if status:
                    return status
        return 0

    def stop(self):
        for guest in self.guests:
            guest.stop()
        self.devices.stop()


def ended(process):
    code = process.returncode
    return f"exit status {code}" if code >= 0 else signal.Signals(-code).name


def read_log(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return [line.rstrip() for line in f]
    except FileNotFoundError:
        return []


def of_stock_kernel(report):
    """REPORT: a bad line and those that follow it."""
    text = LOG_TIME.sub("", "\n".join(report))
    return any(pattern.match(text) for pattern in STOCK_LOG)


def check_device_log(log):
    leaks = [line for line in read_log(log) if ": leak: " in line]
    if leaks:
        raise Failure(EXIT_LOG, f"{leaks[0]}; see {shown(log)}")


def check_log(out, allowed):
    """ALLOWED: texts of lines that are not bad in this guest."""
    lines = read_log(out + "/console.log")
    bad = [i for i, line in enumerate(lines) if BAD_LOG.search(line) and not any(text in line for text in allowed) and
           not of_stock_kernel(lines[i:i + STOCK_LOG_LINES])]
    if not bad:
        return
    say("the guest's kernel log has:")
    for i in bad[:10]:
        print("   | " + lines[i], file=sys.stderr)
    raise Failure(EXIT_LOG, f"{len(bad)} bad lines in the kernel log; see {shown(out)}/console.log")


def kvm_works(kernel):
    """/dev/kvm can exist, open, and still hang a guest: boot KERNEL once, and remember."""
    if not os.path.exists("/dev/kvm"):
        return False
    with open(KVM_VERDICT + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(KVM_VERDICT):
            say("trying KVM once (up to 20 s)")
            args = parse_args(["--out", REPO + "/build/kvm-test", "--hcas", "0", "--drop-vram", "--timeout", "20",
                               "--kernel", kernel, "--", "true"])
            try:
                works = run(args, "kvm") == 0
            except Failure as failure:
                if failure.status == EXIT_SETUP and not os.path.exists(kernel):
                    raise
                works = False
            with open(KVM_VERDICT, "w") as f:
                f.write("yes\n" if works else "no\n")
            say("KVM works" if works else "KVM does not work here: guests run with TCG")
    with open(KVM_VERDICT) as f:
        return f.read().strip() == "yes"


def accelerator(args):
    if args.plugin:
        choice = "tcg"
    else:
        choice = os.environ.get("P2P_ACCEL") or ("kvm" if kvm_works(args.kernel) else "tcg")
    return {"kvm": "kvm", "tcg": "tcg,thread=single" if args.one_thread else "tcg,thread=multi"}[choice]


def run(args, accel):
    os.makedirs(args.out, exist_ok=True)
    this = Run(args, accel)
    try:
        this.start()
        status = this.wait()
        if args.check_log:
            for guest in this.guests:
                check_log(guest.args.out, guest.args.allow_log)
            check_device_log(this.devices.log)
        return status or this.check()
    finally:
        this.stop()


def main():
    args = parse_args(sys.argv[1:])
    tty = termios.tcgetattr(0) if not args.cmd and sys.stdin.isatty() else None
    if args.iommu and args.topology == "switch":
        say("QEMU does not model peer-to-peer traffic below a switch together with a translating IOMMU: "
            "routes can be looked at, transfers will fault")
    if args.iommu == "virtio":
        say("QEMU's virtio-iommu tells HCAs nothing of mappings of device memory (VIRTIO_IOMMU_MAP_F_MMIO): transfers to "
            "and from it will fault")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda n, _: sys.exit(128 + n))
    try:
        return run(args, accelerator(args))
    except Failure as failure:
        say(failure)
        return failure.status
    except KeyboardInterrupt:
        return 130
    finally:
        if tty:
            termios.tcsetattr(0, termios.TCSADRAIN, tty)


if __name__ == "__main__":
    sys.exit(main())
