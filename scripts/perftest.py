"""Debian's perftest between two processes of a guest, each with its buffer in a file that is mapped."""

import os
import re
import subprocess
import time

PORT = 18515  # perftest's


class End:
    """A buffer: at offset AT of the file PATH."""

    def __init__(self, path, at):
        self.options = [f"--mmap={path}", f"--mmap-offset={at}"]


def run(tool, device, client, server, *options, timeout=300):
    """One run of TOOL. Lines of the client's table: lists of numbers, the first one is the size."""
    common = [tool, "-d", device, "-F", *map(str, options)]
    if device.startswith("rxe"):
        common += ["-t", "8"] if tool.endswith("_bw") else []
    process = subprocess.Popen(common + server.options, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 30
    while not _listening(PORT) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    # Warnings, about the clock of a busy machine for one, would stand in the middle of a line of the table.
    done = subprocess.run(common + client.options + [os.environ["HCA_IP"]], capture_output=True, text=True,
                          timeout=timeout, check=False)
    output, _ = process.communicate(timeout=60)
    lines = [[float(word) for word in line.split()] for line in done.stdout.splitlines()
             if re.match(r" *\d+\s+\d+\s+[\d.]+\s", line)]
    if done.returncode or process.returncode or not lines:
        raise RuntimeError(f"{' '.join(common)}\nclient: {done.stdout}{done.stderr}\nserver: {output}")
    return lines


# Columns of those lines
BW_AVERAGE, BW_RATE = 3, 4  # MiB/s, messages/us
LAT_TYPICAL = 4  # us


def _listening(port):
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(name) as f:
            if any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in list(f)[1:]):
                return True
    return False
