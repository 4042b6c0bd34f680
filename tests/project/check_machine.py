#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""libvmmapi's machine-independent files ask for no architecture: the one #if is where <vmmapi.h> includes the machine's
header; a machine's files stand in its folder, and no other file includes what is there."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402

MACHINES = ("x86_64", "aarch64")
ARCH = re.compile(r"^\s*#\s*(?:el)?if.*(__x86_64__|__i386__|__aarch64__|__arm__|_M_X64|_M_ARM64|__riscv)")
INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([^">]+)[">]')
# Names of x86's in code, where a machine-independent file has no business with them.
NAMES = re.compile(r"\b(x86_\w+|X86_\w+|VM_REG_GUEST_\w+|lapic\w*|ioapic\w*|intc_\w+)\b")


def complaints(path, lines):
    """What a machine-independent file must not have: [(line number, what)]."""
    bad = []
    code = re.sub(r"/\*.*?\*/", lambda m: "\n" * m[0].count("\n"), "".join(lines), flags=re.S).splitlines()
    for number, line in enumerate(code, 1):
        if ARCH.match(line) and not (path.endswith("vmmapi/vmmapi.h") and "__x86_64__" in line):
            bad.append((number, line.strip()))
        m = INCLUDE.match(line)
        if m and any(f"/{x}/" in m[1] for x in MACHINES):
            bad.append((number, line.strip()))
        m = NAMES.search(line)
        if m:
            bad.append((number, m[0]))
    return bad


def main():
    t = tap.Tap()
    t.check("the checker sees an #ifdef", complaints("vmmapi/a.c", ["#if defined(__aarch64__)\n"]))
    t.check("the checker sees an include", complaints("vmmapi/a.c", ['#include "vmmapi/x86_64/md.h"\n']))
    t.check("the checker sees a name", complaints("vmmapi/a.c", ["	x86_state_reset(&s);\n"]))
    seen, bad, asked = 0, [], 0
    for name in sorted(os.listdir("vmmapi")):
        if not name.endswith((".c", ".h")):
            continue
        seen += 1
        path = "vmmapi/" + name
        with open(path, encoding="utf-8") as f:
            lines = f.readlines()
        asked += sum(bool(ARCH.match(x)) for x in lines)
        bad += [f"{path}:{n}: {what}" for n, what in complaints(path, lines)]
    t.check("machine-independent files were found", seen >= 5)
    t.check("they know no machine", not bad, "\n".join(bad))
    t.equal("the architecture is asked for once", asked, 1)
    t.done()


main()
