#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""iasl decompiles each ACPI table, and compiles what came out, without a warning, a remark or an error; the byte code
that comes back is the same but for the header's compiler fields. Usage: iasl.py DUMP_TABLES"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402

# (processors, HPET, MiB, VT-d): the least, the usual, x2APIC entries and RAM on both sides of the hole.
MACHINES = [(1, 0, 64, 0), (4, 1, 1024, 1), (300, 1, 8192, 0)]
TABLES = {"APIC", "DSDT", "FACP", "FACS", "MCFG", "XSDT"}
COMPLAINT = re.compile(r"^(?:Warning|Error|Remark|ACPI (?:Warning|Error|BIOS))|[Tt]able .*(?:invalid|incorrect)|"
                       r"Incorrect checksum|[1-9]\d* (?:Errors|Warnings|Remarks)|Invalid|Unknown", re.M)
# The checksum, and the compiler's own name and version.
HEADER_OF_COMPILER = [9] + list(range(28, 36))


def run(*command, cwd):
    p = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                       timeout=120)
    return p.returncode, p.stdout


def same_table(t, name, folder, table):
    """What was compiled says what was dumped. (iasl rewrites byte code in shorter forms: of the DSDT, its length only.)"""
    with open(os.path.join(folder, table + ".dat"), "rb") as f:
        want = bytearray(f.read())
    with open(os.path.join(folder, table + ".aml"), "rb") as f:
        got = bytearray(f.read())
    if table != "FACS":
        for i in HEADER_OF_COMPILER:
            want[i] = got[i] = 0
    if table == "DSDT":
        t.check(name, got[0:4] == b"DSDT" and len(want) * 3 // 4 < len(got) <= len(want), f"{len(want)} {len(got)}")
    else:
        t.check(name, got == want, f"{want.hex()}\n{got.hex()}")


def check_table(t, folder, label, table):
    code, out = run("iasl", "-d", table + ".dat", cwd=folder)
    t.check(f"{label}: {table} decompiles", code == 0 and not COMPLAINT.search(out), out)
    code, out = run("iasl", "-p", table, table + ".dsl", cwd=folder)
    if t.check(f"{label}: {table} compiles again", code == 0 and not COMPLAINT.search(out), out):
        same_table(t, f"{label}: {table} comes back the same", folder, table)


def main():
    t = tap.Tap()
    t.check("the pattern finds a warning", COMPLAINT.search("x\nWarning  3144 - ") is not None)
    t.check("the pattern finds a count", COMPLAINT.search("done. 0 Errors, 2 Warnings, 0 Remarks") is not None)
    t.check("the pattern passes a clean run",
            COMPLAINT.search("Compilation successful. 0 Errors, 0 Warnings, 0 Remarks, 49 Optimizations") is None)
    if shutil.which("iasl") is None:
        t.skip("ACPI tables", "no iasl (Debian package acpica-tools)")
        t.done()
    for cpus, hpet, mib, vtd in MACHINES:
        label = f"{cpus} CPUs, {mib} MiB"
        with tempfile.TemporaryDirectory() as folder:
            code, out = run(os.path.abspath(sys.argv[1]), folder, str(cpus), str(hpet), str(mib), str(vtd),
                            cwd=folder)
            t.check(f"{label}: tables are built", code == 0, out)
            tables = {name[:-4] for name in os.listdir(folder)}
            want = TABLES | ({"HPET"} if hpet else set()) | ({"DMAR"} if vtd else set())
            t.equal(f"{label}: which tables", sorted(tables), sorted(want))
            for table in sorted(tables):
                check_table(t, folder, label, table)
    t.done()


main()
