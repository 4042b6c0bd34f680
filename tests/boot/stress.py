#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""stress.py [--vmm lhyve|qemu] SECONDS [NAME...]: Debian's stress-ng --verify in a guest of two vCPUs, SECONDS in all for its
classes cpu and vm, and signals, processes and bad addresses; or for the stressors named.

What stress-ng itself says it cannot do in this guest (no such device, no such right), or does only when asked for harm, is noted, not counted: it has to
be few. Afterwards the guest's kernel must have nothing to complain about.
"""
import argparse
import os
import re
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import vmm  # noqa: E402
import tap  # noqa: E402

NOT_HERE = {3, 4}  # stress-ng(1), exit status: no resource, not implemented
TROUBLE = re.compile(r"BUG|Oops|WARNING|general protection|rcu.*stall|lockup|blocked for more than|unchecked MSR|Bad page")


def boot(which, seconds, names):
    tree = vmm.tree("stress", "stress-ng")
    with tempfile.TemporaryDirectory() as tmp:
        script = os.path.join(tmp, "stress")
        shutil.copy(os.path.join(vmm.HERE, "stress-guest"), script)
        kernel = vmm.Kernel("cloud-amd64", [script], tree)
        with kernel:
            words = ",".join(["stress", str(seconds), *names])
            return vmm.run(vmm.command(which, kernel, f"lhyve.run={words};warnings;poweroff", cpus=2, memory="2G"))


def results(out):
    """{stressor: (status, messages)}"""
    found, before = {}, []
    for line in out.splitlines():
        m = re.fullmatch(r"stress: (\S+) (\d+)", line)
        if m:
            found[m[1]] = (int(m[2]), before)
            before = []
        elif line.startswith("stress-ng:"):
            before.append(line)
    return found


def report(t, ended):
    found = results(ended.out)
    planned = re.search(r"stress: (\d+) stressors", ended.out)
    t.check("every stressor ended", planned and int(planned[1]) == len(found),
            f"exit status {ended.status}\n{ended.out[-4000:]}\n{ended.err[-2000:]}")
    lacking = [n for n, (status, messages) in found.items() if status in NOT_HERE or any("--pathological" in x for x in messages)]
    for name, (status, messages) in found.items():
        if name not in lacking:
            t.check(f"stress-ng --{name}", status == 0, f"status {status}\n" + "\n".join(messages[-20:]))
    t.note(f"stress-ng cannot do here: {' '.join(lacking)}")
    t.check("few of them cannot be done", len(lacking) <= len(found) // 4, f"{len(lacking)} of {len(found)}")
    trouble = [x for x in ended.out.splitlines() if TROUBLE.search(x) and not x.startswith("stress-ng:")]
    t.check("the guest's kernel is content", not trouble, "\n".join(trouble[:40]))
    t.check("it powers off", "lhyve: end of warnings" in ended.out, f"exit status {ended.status}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--vmm", choices=("lhyve", "qemu"), default="lhyve")
    parser.add_argument("--log", help="the guest's output, into this file")
    parser.add_argument("seconds", type=int)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    t = tap.Tap()
    try:
        ended = boot(args.vmm, args.seconds, args.names)
    except tap.Skip as e:
        t.skip("stress-ng", e)
        t.done()
    if args.log:
        with open(args.log, "w", encoding="utf-8") as f:
            f.write(ended.out + ended.err)
    t.note(f"{ended.seconds:.0f} s in all")
    report(t, ended)
    t.done()


main()
