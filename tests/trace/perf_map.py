#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""perf_map.py GUEST NAME: what debug.perf_map writes about one of our own guests, and the counters of --stats."""
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402

LHYVE = os.environ.get("LHYVE", "build/lhyve")
LINE = re.compile(r"([0-9a-f]+) ([0-9a-f]+) (lhyve:\w+|guest:(?:(\w+)\+0x([0-9a-f]+) )?rip=([0-9a-f]+) gpa=([0-9a-f]+))")


def run(guest, *options):
    """(exit status, what the map says, standard error)"""
    argv = [LHYVE, "-o", "engine=soft", "-m", "32M", "-l", "com1,stdio", "-l", "pc-testdev", "-o", f"boot.kernel={guest}",
            *options, "guest"]
    p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    err = p.communicate()[1]
    path = f"/tmp/perf-{p.pid}.map"
    text = None
    if os.path.exists(path):
        with open(path, encoding="ascii") as f:
            text = f.read()
        os.unlink(path)
    return p.returncode, text, err


def the_map(t, guest, name, text):
    lines = [LINE.fullmatch(x) for x in text.splitlines()]
    t.check("every line is START SIZE NAME", lines and all(lines), text[:2000])
    lines = [m for m in lines if m]
    routines = {m[3] for m in lines if m[3].startswith("lhyve:")}
    t.check("the common routines are there", {"lhyve:enter", "lhyve:lookup", "lhyve:slow", "lhyve:interp"} <= routines, routines)
    places = sorted((int(m[1], 16), int(m[2], 16)) for m in lines)
    apart = all(a + n <= b for (a, n), (b, _) in zip(places, places[1:]))
    t.check("no two lie in one place", apart and all(n > 0 for _, n in places), places[:50])
    units = [m for m in lines if m[6]]
    t.check("units are mapped one to one", units and all(m[6] == m[7] for m in units), len(units))
    nm = dict(reversed(x.split()[::2]) for x in subprocess.run(["nm", guest], capture_output=True, text=True, check=True)
              .stdout.splitlines() if len(x.split()) == 3)
    at = {int(m[5], 16) for m in units if m[4] == name}
    t.check(f"{name} has a unit at its start", 0 in at, sorted(at))
    t.check("offsets are from the symbols", all(int(m[6], 16) == int(nm[m[4]], 16) + int(m[5], 16) for m in units if m[4]))


def counters(t, err):
    rows = dict(re.findall(r"^lhyve: cpu0\.(.*) (\d+)$", err, re.M))
    for row in ("units translated", "translation, us", "unit runs", "instructions of unit runs", "accesses of unit runs",
                "unit runs looked up, per million", "TLB misses, per million accesses", "page walks, per million TLB misses",
                "bytes of translated code"):
        t.check(f"--stats: {row}", int(rows.get(row, 0)) > 0, err)
    helpers = [(x, int(n)) for x, n in rows.items() if x.startswith("helper.")]
    t.check("--stats: helpers, the most frequent first", helpers and [n for _, n in helpers] == sorted((n for _, n in helpers), reverse=True),
            helpers)
    t.check("instructions are no fewer than runs", int(rows["instructions of unit runs"]) >= int(rows["unit runs"]))


def main():
    guest, name = sys.argv[1:3]
    t = tap.Tap()
    with tempfile.TemporaryDirectory() as tmp:
        symbols = os.path.join(tmp, "map")
        with open(symbols, "w", encoding="ascii") as f:
            subprocess.run(["nm", guest], stdout=f, check=True)
        status, text, err = run(guest, "-o", "debug.perf_map=true", "-o", f"debug.symbols={symbols}", "--stats")
        if t.equal("it ends as always", status, 1) and t.check("there is a map", text is not None, err):
            the_map(t, guest, name, text)
            counters(t, err)
        status, text, _ = run(guest, "-o", "debug.perf_map=true")
        t.check("without symbols", status == 1 and text and "gpa=" in text and "+0x" not in text)
        t.check("none unless asked for", run(guest)[1] is None)
        status, text, err = run(guest, "-o", "debug.perf_map=true", "-o", f"debug.symbols={tmp}/none")
        t.check("no such symbols", status == 4 and "debug.symbols" in err and err.count("\n") == 1, err)
        with open(symbols, "w", encoding="ascii") as f:
            f.write("this is no map\n")
        status, text, err = run(guest, "-o", "debug.perf_map=true", "-o", f"debug.symbols={symbols}")
        t.check("symbols of another form", status == 4 and "debug.symbols" in err, err)
    t.done()


main()
