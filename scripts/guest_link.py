"""Between a program on the host and its part in a guest, which prints a JSON object a line, and asks for things."""

import ctypes
import fcntl
import json
import os
import subprocess
import sys
import time

# ---- on the host ------------------------------------------------------------------------------------------------


def only_small_pages():
    """Both kinds of memory are shared memory of the host, but whether it may be in huge pages is set for each by itself.
    This forbids it to QEMU, the device process and this one, whose page faults make all of it."""
    pr_set_thp_disable = 41
    if ctypes.CDLL(None).prctl(pr_set_thp_disable, 1, 0, 0, 0):
        sys.exit("prctl(PR_SET_THP_DISABLE) fails")


def clean(out):
    """The folder OUT, without what the last guest left, and not while one runs in it."""
    os.makedirs(out + "/.guest", exist_ok=True)
    with open(out + "/.guest/lock", "w") as lock:  # scripts/guest.py has the same
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"another guest runs in {out}")
        for entry in os.scandir(out):
            if entry.name != ".guest":
                os.unlink(entry)


def run(out, options, command, answer):
    """Run COMMAND in a guest with the folder OUT, and do what it asks for: answer(request). What it printed."""
    with open(out + "/results", "w+") as results:
        process = subprocess.Popen(["/src/scripts/guest.py", "--out", out, *options, "--", *command], stdout=results)
        try:
            while process.poll() is None:
                _serve(out, answer)
                time.sleep(0.01)
        finally:
            process.terminate()
            process.wait()
        if process.returncode:
            sys.exit(f"{command[0]}: the guest ended with status {process.returncode}")
        results.seek(0)
        return [json.loads(line) for line in results]


def _serve(out, answer):
    if not os.path.exists(out + "/ask"):
        return
    with open(out + "/ask") as f:
        request = json.load(f)
    os.unlink(out + "/ask")
    with open(out + "/answer.new", "w") as f:
        json.dump(answer(request), f)
    os.rename(out + "/answer.new", out + "/answer")


# ---- in the guest -----------------------------------------------------------------------------------------------


def emit(**result):
    print(json.dumps(result), flush=True)


def ask(**request):
    """Let the host do something; its answer."""
    with open("/out/ask.new", "w") as f:
        json.dump(request, f)
    os.rename("/out/ask.new", "/out/ask")
    while not os.path.exists("/out/answer"):
        time.sleep(0.02)
    with open("/out/answer") as f:
        answer = json.load(f)
    os.unlink("/out/answer")
    return answer
