# SPDX-License-Identifier: BSD-2-Clause
"""scripts/fetch-kernel run by several tests at once: each finds the kernel whole when its own call returns."""
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RELEASE = "6.1.0-0-cloud-amd64"
CALLERS = 16
ROUNDS = 10


def unpacked(cache):
    """A cache as fetch-package leaves it: the package's files, nothing moved yet."""
    out = os.path.join(cache, "kernel-cloud-amd64")
    for name in (f"boot/vmlinuz-{RELEASE}", f"lib/modules/{RELEASE}/modules.builtin", "package"):
        path = os.path.join(out, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="ascii") as f:
            f.write("linux-image 1\n")
    return out


def call(cache):
    r = subprocess.run([os.path.join(ROOT, "scripts", "fetch-kernel"), "cloud-amd64"], cwd=ROOT, capture_output=True, text=True,
                       env=dict(os.environ, LHYVE_CACHE=cache))
    if r.returncode != 0 or r.stderr:
        return f"exit status {r.returncode}: {r.stderr}"
    out = r.stdout.strip()
    if not os.path.isfile(os.path.join(out, "vmlinuz")):
        return "no vmlinuz"
    with open(os.path.join(out, "release"), encoding="ascii") as f:
        return f.read().strip()


def main():
    t = tap.Tap()
    seen = set()
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as cache, ThreadPoolExecutor(CALLERS) as pool:
            unpacked(cache)
            seen |= set(pool.map(call, [cache] * CALLERS))
    t.equal(f"{CALLERS} callers at once", seen, {RELEASE})
    t.done()


main()
