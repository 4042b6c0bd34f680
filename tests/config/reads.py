#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""A key that nobody reads fails: reads.py TRIPLE_GUEST CONTROL_GUEST

The tree records which rows of the schema are read at run time (debug.reads). A set of boots that uses every feature
must read every row; but for rows that cannot be told anything: not there yet, or one legal value, which is the default.
"""
import os
import re
import socket
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))
sys.path.insert(0, os.path.join(HERE, "../ctl"))
import tap  # noqa: E402
import vm  # noqa: E402

# Rows whose legal values all mean the same in this version. One that is read after all must go from here.
SAME = {}


def schema():
    rows = {}
    for line in vm.lhyve("--schema").stdout.splitlines():
        if not line.startswith(" "):
            rows[line] = {}
            row = rows[line]
        else:
            name, _, value = line.strip().partition(": ")
            row.setdefault(name, value)
    return rows


def needs_reader(row):
    only = row.get("this version")
    if only is None:  # "choice (host)": one choice, which is the default
        m = re.fullmatch(r"choice \(([^|)]*)\)", row["type"])
        return not m or m[1] != row["default"]
    return only not in ("not there yet", row["default"])


def reads(path):
    try:
        with open(path, encoding="utf-8") as f:
            return set(f.read().split())
    except FileNotFoundError:
        return set()


def boots(triple, tmp):
    """Command lines; some end with an error, after they have read what they are for."""
    for name in "abcd":
        with open(os.path.join(tmp, name), "wb") as f:
            f.truncate(1 << 20)
    disk = [f"disk.x.{k}" for k in (f"path={tmp}/a", "ro=true", "nocache=false", "sync=true", "sectorsize=512", "ser=X",
                                    "queues=2", "aio=threads", "model=virtio-blk", "packed=false")]
    net = [f"net.y.{k}" for k in ("backend=unix", f"path={tmp}/y", f"peer={tmp}/z", "mac=02:00:00:00:00:01", "mtu=1500",
                                  "queues=1", "packed=true", "model=virtio-net", "link=true")]
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]  # free a moment ago
    user = ["net.u.backend=user", f"net.u.hostfwd=tcp:127.0.0.1:{port}-:22"]
    base = ["-m", "32M", "-o", f"boot.kernel={triple}", "-o", f"boot.module.1.path={tmp}/b", "-o", "boot.module.1.cmdline=x"]
    keys = [w for k in [*disk, *net, *user] for w in ("-o", k)]
    yield [*base, *keys, "-s", f"9,virtio-console,org.lhyve.p={tmp}/port", "-s", "10,virtio-rnd", "-s", "11,pci-testdev", "-s", "12,pci-bridge,bus=1",
           "-l", f"com1,{tmp}/com1", "t"]
    yield [*base, "-o", "net.t.backend=tap", "-o", "net.t.ifname=lhyve-no-such", "t"]


def main():
    triple, vm.GUEST = sys.argv[1:]
    t = tap.Tap()
    rows = schema()
    t.check("there is a schema", len(rows) > 80, len(rows))
    seen = set()
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "reads")
        for i, args in enumerate(boots(triple, tmp)):
            r = subprocess.run([vm.LHYVE, "-o", f"debug.reads={path}", *args], stdin=subprocess.DEVNULL, capture_output=True,
                               text=True)
            t.note(f"exit {r.returncode} {r.stderr.strip()}")
            if i == 0:
                t.equal("the first boot works", r.returncode, 3)
            seen |= reads(path)
        with vm.VM("reads", "-s", "5,virtio-rnd", "-o", f"debug.reads={path}") as v:
            v.status()
            v.post("/destroy")
            v.ended()
        seen |= reads(path)
    t.check("rows are read", len(seen) > 40, seen)
    t.check("what was read is in the schema", seen <= set(rows), seen - set(rows))
    for name, row in rows.items():
        if name in SAME:
            t.check(f"{name}: its values still mean the same", row.get("this version") == SAME[name] and name not in seen)
        elif needs_reader(row):
            t.check(f"{name} is read", name in seen)
    r = vm.lhyve("-o", "debug.reads=/nowhere/x", "-m", "32M", "-o", f"boot.kernel={triple}", "t")
    t.check("a file that cannot be", r.returncode == 4 and "debug.reads: /nowhere/x: " in r.stderr, r.stderr)
    t.done()


main()
