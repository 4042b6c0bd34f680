#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Configuration files: bad/*.conf are refused with exactly the line of their .err; good/*.conf are the JSON of their
.json, by lhyve --ucl and, but for own-*.conf, by the system's libucl where there is one."""
import glob
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))
import tap  # noqa: E402

LHYVE = os.path.abspath(os.environ.get("LHYVE", "build/lhyve"))
LIBUCL = os.environ.get("LIBUCL_JSON")


def run(folder, *command):
    return subprocess.run(command, cwd=os.path.join(HERE, folder), stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=60)


def names(folder):
    return sorted(os.path.basename(f)[:-5] for f in glob.glob(os.path.join(HERE, folder, "*.conf")))


def read(folder, name):
    with open(os.path.join(HERE, folder, name), encoding="utf-8") as f:
        return f.read()


def bad(t):
    all_names = names("bad")
    t.check("there are at least 60 wrong configurations", len(all_names) >= 60, len(all_names))
    for name in all_names:
        want = read("bad", name + ".err")
        r = run("bad", LHYVE, "-k", name + ".conf", "vm")
        t.equal(f"bad: {name}", (r.returncode, r.stdout, r.stderr), (4, "", want))


def good(t):
    for name in names("good"):
        want = read("good", name + ".json")
        r = run("good", LHYVE, "--ucl", name + ".conf")
        t.equal(f"good: {name}", (r.returncode, r.stdout, r.stderr), (0, want, ""))
        t.check(f"good: {name}: what is expected is JSON", json.loads(want) is not None)


def no_float(x):
    """libucl prints six digits of fractions only."""
    if isinstance(x, dict):
        return {k: no_float(v) for k, v in x.items()}
    if isinstance(x, list):
        return [no_float(v) for v in x]
    return round(float(x), 6) if isinstance(x, (int, float)) and not isinstance(x, bool) else x


def libucl(t):
    if not LIBUCL:
        t.skip("libucl reads the same", "no libucl on this machine")
        return
    for name in names("good"):
        if not name.startswith("own-"):
            r = run("good", LIBUCL, name + ".conf")
            got = no_float(json.loads(r.stdout)) if r.returncode == 0 else r.stderr
            t.equal(f"libucl: {name}", got, no_float(json.loads(read("good", name + ".json"))))


def main():
    t = tap.Tap()
    bad(t)
    good(t)
    libucl(t)
    t.done()


main()
