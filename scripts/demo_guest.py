#!/usr/bin/env python3
"""The part of the demo that runs in the guest: measures, prints a JSON object a line.

demo_guest.py reg             only what registering device memory gives
demo_guest.py all             everything
"""

import json
import os
import re
import subprocess
import sys
import time

from demo_common import POISON, SIZES

HCA, HCA_IP, VRAM = os.environ["HCA"], os.environ["HCA_IP"], os.environ["VRAM_RESOURCE"]
REGMR = "/src/build/cmake-release/bin/regmr"
MIB = 1 << 20
# Where client and server have their buffers: in disjoint ranges of the same memory.
CLIENT_AT, SERVER_AT, EACH = 0, 8 * MIB, 4 * MIB
HOST_MEMORY = "/dev/shm/host-memory"
ROUNDS = 5
RXE_ROUNDS = 2
ITERATIONS = {HCA: dict(zip(SIZES, (150000, 10000))), "rxe0": dict(zip(SIZES, (100, 10)))}


def emit(**result):
    print(json.dumps(result), flush=True)


def ask(**request):
    """Let the host do something with the device memory; its answer."""
    with open("/out/ask.new", "w") as f:
        json.dump(request, f)
    os.rename("/out/ask.new", "/out/ask")
    while not os.path.exists("/out/answer"):
        time.sleep(0.02)
    with open("/out/answer") as f:
        answer = json.load(f)
    os.unlink("/out/answer")
    return answer


def register(memory, device, path):
    out = subprocess.run([REGMR, device, path, str(CLIENT_AT), str(EACH)], check=True, capture_output=True, text=True)
    emit(memory=memory, reg_mr=json.loads(out.stdout))


def perftest(tool, device, path, size):
    """One run of Debian's TOOL, both ends in the file PATH; MiB/s, or the reason why not."""
    common = [tool, "-d", device, "-s", str(size), "-n", str(ITERATIONS[device][size]), "-F", f"--mmap={path}"]
    if device == "rxe0":
        common += ["-t", "8"]
    server = subprocess.Popen(common + [f"--mmap-offset={SERVER_AT}"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 30
    while not listening(18515) and server.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    client = subprocess.run(common + [f"--mmap-offset={CLIENT_AT}", HCA_IP], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, timeout=60)
    output, _ = server.communicate(timeout=20)
    if client.returncode or server.returncode:
        raise RuntimeError(f"{' '.join(common)}\nclient: {client.stdout}\nserver: {output}")
    # Columns: bytes, iterations, peak, average, message rate
    match = re.search(rf"^ {size} +\d+ +[\d.]+ +([\d.]+)", client.stdout, re.M)
    return float(match[1])


def listening(port):
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(name) as f:
            if any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in list(f)[1:]):
                return True
    return False


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
                    runs.setdefault((memory, tool, size), []).append(perftest(tool, device, path, size))
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
