#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Each of examples/*.conf is UCL, resolves to a tree whose dump reads back to itself, and makes a machine (which then
misses the kernel that this test names); or is refused with the line that examples.txt has."""
import glob
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
EXAMPLES = os.path.normpath(os.path.join(HERE, "../../examples"))
sys.path.insert(0, os.path.join(HERE, ".."))
import tap  # noqa: E402

LHYVE = os.path.abspath(os.environ.get("LHYVE", "build/lhyve"))


def lhyve(*args):
    return subprocess.run([LHYVE, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


def expectations():
    with open(os.path.join(HERE, "examples.txt"), encoding="utf-8") as f:
        rows = [line.strip().split(": ", 1) for line in f if line.strip() and not line.startswith("#")]
    return {name: want.replace("{examples}", EXAMPLES) for name, want in rows}


def runs(t, name, conf, tmp):
    dump = lhyve("-k", conf, "-o", "config.dump=true")
    t.check(f"{name}: resolves", dump.returncode == 0 and dump.stderr == "", dump.stderr)
    path = os.path.join(tmp, "dump.conf")
    with open(path, "w", encoding="utf-8") as f:
        f.write(dump.stdout)
    t.equal(f"{name}: the dump reads back", lhyve("-k", path, "-o", "config.dump=true").stdout, dump.stdout)
    kernel = os.path.join(tmp, "no-kernel")
    # Ports and sockets that other programs may have are not what is asked here.
    ports = ["-o", f"lpc.com1.path={tmp}/com1", "-o", f"lpc.com2.path={tmp}/com2", "-o",
             f"control.socket={tmp}/control"]
    r = lhyve("-k", conf, *ports, "-o", f"boot.kernel={kernel}", "-o", f"boot.initrd={kernel}",
              "-o", "log.level=warn")
    t.check(f"{name}: makes a machine", r.returncode == 4 and kernel in r.stderr and r.stderr.count("\n") == 1,
            f"{r.returncode} {r.stderr}")


def main():
    t = tap.Tap()
    want = expectations()
    files = {os.path.basename(f)[:-5]: f for f in glob.glob(os.path.join(EXAMPLES, "*.conf"))}
    t.equal("each example has a row", sorted(files), sorted(want))
    with tempfile.TemporaryDirectory() as tmp:
        for name, conf in sorted(files.items()):
            parsed = lhyve("--ucl", conf)
            t.check(f"{name}: is UCL", parsed.returncode == 0 and json.loads(parsed.stdout).get("name"), parsed.stderr)
            if want.get(name) == "runs":
                runs(t, name, conf, tmp)
            else:
                r = lhyve("-k", conf)
                t.equal(f"{name}: is refused", (r.returncode, r.stdout, r.stderr), (4, "", want.get(name, "") + "\n"))
    t.done()


main()
