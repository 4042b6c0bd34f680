#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""examples/tinyvmm.c on each engine, and linked with the static library; what the libraries export; headers by themselves.

    tinyvmm.py PROGRAM STATIC-LIBRARY
"""
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402

INCLUDE = ["-Ivmmapi", "-Ivmmapi/x86_64"]


def run(program, engine):
    r = subprocess.run([program, engine], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if engine == "kvm" and "/dev/kvm" in r.stderr:
        raise tap.Skip(r.stderr.strip())
    assert (r.returncode, r.stdout) == (0, "55\n"), (r.returncode, r.stdout, r.stderr)
    assert f"engine {engine}, status 42" in r.stderr, r.stderr


def static(library):
    with tempfile.TemporaryDirectory() as top:
        out = os.path.join(top, "tinyvmm")
        subprocess.run(["cc", *INCLUDE, "-o", out, "examples/tinyvmm.c", library, "-lZydis", "-lm", "-lpthread"],
                       check=True)
        run(out, "soft")


def defined(library, *options):
    out = subprocess.run(["nm", *options, "--defined-only", library], capture_output=True, text=True, check=True).stdout
    return {m[1] for m in re.finditer(r" [TDBR] (\w+)(?:@@\S+)?$", out, re.M)}


def wanted():
    with open("vmmapi/libvmmapi.map", encoding="utf-8") as f:
        return set(re.findall(r"^\t(\w+);$", f.read(), re.M))


def declared():
    names = set()
    for path in ("vmmapi/vmmapi.h", "vmmapi/x86_64/vmmapi_x86_64.h"):
        with open(path, encoding="utf-8") as f:
            text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
        names |= set(re.findall(r"\b((?:vm|vcpu)_\w+)\(", text))
    return names


def header(compiler, *options):
    for first in ("vmmapi.h",):
        r = subprocess.run([compiler, *options, *INCLUDE, "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", "-"],
                           input=f"#include <{first}>\n", capture_output=True, text=True)
        assert r.returncode == 0, r.stderr


def main():
    program, library = sys.argv[1:3]
    shared = os.path.join(os.path.dirname(library), "libvmmapi.so")
    t = tap.Tap()
    for engine in ("soft", "kvm"):
        t.case(f"tinyvmm on {engine}", run, program, engine)
    t.case("tinyvmm with the static library", static, library)
    t.equal("the map has what the headers declare", sorted(wanted()), sorted(declared()))
    t.equal("the shared library exports that", sorted(defined(shared, "-D")), sorted(wanted()))
    t.equal("the static library too", sorted(defined(library)), sorted(wanted()))
    t.case("the header by itself, C11", header, "cc", "-std=c11", "-x", "c")
    t.done()


main()
