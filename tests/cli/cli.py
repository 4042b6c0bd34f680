#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""The command line: wrong ones (bad.txt) give their exact line and exit 4; dump, schema, version, help work."""
import json
import os
import shlex
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))
import tap  # noqa: E402

LHYVE = os.environ.get("LHYVE", "build/lhyve")


def lhyve(*args):
    return subprocess.run([LHYVE, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True)


def cases(path):
    command = None
    with open(path, encoding="utf-8") as f:
        for line in f:
            line = line.rstrip("\n")
            if line.startswith("$"):
                command = line[1:].strip()
            elif command is not None and line:
                yield command, line
                command = None


def bad_lines(t):
    with tempfile.TemporaryDirectory() as tmp:
        for command, want in cases(os.path.join(HERE, "bad.txt")):
            place = {"{tmp}": tmp, "{dir}": HERE}
            for mark, value in place.items():
                command, want = command.replace(mark, value), want.replace(mark, value)
            r = lhyve(*shlex.split(command))
            got = (r.returncode, r.stdout, r.stderr)
            t.equal(f"lhyve {command}".replace(tmp, "TMP").replace(HERE, "DIR").replace("#", ""), got, (4, "", want + "\n"))
        t.check("nothing is left behind", os.listdir(tmp) == [])


def at(tree, key):
    for part in key.split("."):
        tree = tree.get(part, {})
    return tree


def dump(t):
    conf = os.path.join(HERE, "good.conf")
    uuid = "01234567-89ab-cdef-0123-456789abcdef"
    first = lhyve("-k", conf, "-U", uuid, "-o", "config.dump=true")
    with open(os.path.join(HERE, "good.dump"), encoding="utf-8") as f:
        t.equal("a configuration file, resolved", (first.returncode, first.stdout, first.stderr), (0, f.read(), ""))
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as f:
        f.write(first.stdout)
        f.flush()
        again = lhyve("-k", f.name, "-o", "config.dump")
    t.equal("the dump reads back to itself", again.stdout, first.stdout)
    letters = lhyve("-aAHIPDu", "-Yw", "-c4,cores=2", "-m", "512", "-x", "-s", "0,hostbridge", "-s0:31:0,lpc", "-l",
                    "com1,stdio", "-o", "config.dump=yes", "vm")
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as f:
        f.write(letters.stdout)
        f.flush()
        tree = json.loads(lhyve("--ucl", f.name).stdout or "{}")
    want = {"name": "vm", "cpu.count": 4, "cpu.cores": 2, "memory.size": 512 << 20, "x86.x2apic": True,
            "x86.mptable": False, "x86.strictmsr": False, "pci.0.31.0.device": "lpc", "lpc.com1.path": "stdio"}
    got = {key: at(tree, key) for key in want}
    t.check("letters are writes into the tree", letters.returncode == 0 and got == want, f"{got}\n{letters.stderr}")


def texts(t):
    schema = lhyve("--schema")
    t.check("--schema lists the keys", schema.returncode == 0 and "\nboot.kernel\n    type: path\n" in schema.stdout)
    version = lhyve("--version")
    t.check("--version", version.returncode == 0 and version.stdout.startswith("lhyve ") and
            version.stdout.count("\n") == 1, version.stdout)
    for option in ("-h", "--help"):
        r = lhyve(option)
        t.check(f"{option} prints the usage", r.returncode == 0 and r.stdout.startswith("usage: lhyve [options] name\n")
                and r.stderr == "")
    for option in ("-s", "-l"):
        r = lhyve(option, "help")
        t.check(f"{option} help lists devices", r.returncode == 0 and "hostbridge" in r.stdout and "com1" in r.stdout)
    man = open(os.path.join(HERE, "../../doc/man/lhyve.8"), encoding="utf-8").read()
    letters = [line.split()[0] for line in lhyve("-h").stdout.splitlines() if line.startswith("  -") and line[3] != "-"]
    missing = [x for x in letters if f".It Fl {x[1]}" not in man]
    t.check("the manual has every option", letters and not missing, " ".join(missing))


def main():
    t = tap.Tap()
    bad_lines(t)
    dump(t)
    texts(t)
    t.done()


main()
