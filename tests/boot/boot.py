#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Boot a distribution kernel to busybox with no input, look at it from inside, and end it in each way there is.

    boot.py [--vmm lhyve|qemu] FLAVOUR CPUS END [kernel parameters]

END is poweroff, reboot, halt or triple. Warnings in dmesg are compared to a run of the same kernel in QEMU.
"""
import argparse
import json
import os
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import vmm  # noqa: E402
import tap  # noqa: E402

GUEST = "uname,-r;nproc;clocksource;echo,lhyve:,warnings;warnings"


def boot(which, kernel, cpus, end, extra):
    last = {"triple": "reboot"}.get(end, end)
    words = f"lhyve.run={GUEST};{last}" + (" reboot=t" if end == "triple" else "")
    return vmm.run(vmm.command(which, kernel, f"{words} {extra}".strip(), cpus=cpus))


def qemu_warnings(kernel, cpus, extra):
    """What QEMU's own run of this kernel says, kept in the cache for the next time."""
    if not shutil.which("qemu-system-x86_64"):
        raise tap.Skip("qemu-system-x86_64 is not installed: nothing to compare dmesg with")
    path = os.path.join(vmm.CACHE, f"qemu-dmesg-{kernel.flavour}-{cpus}.json")
    key = [kernel.package, cpus, extra, GUEST]
    try:
        with open(path, encoding="utf-8") as f:
            kept = json.load(f)
        if kept["key"] == key:
            return set(kept["warnings"])
    except (OSError, ValueError, KeyError):
        pass
    ended = boot("qemu", kernel, cpus, "poweroff", extra)
    lines = sorted({vmm.normal(x) for x in ended.between("lhyve: warnings", "lhyve: end of warnings")})
    with open(path + ".new", "w", encoding="utf-8") as f:
        json.dump({"key": key, "warnings": lines}, f, indent=1)
    os.replace(path + ".new", path)
    return set(lines)


def compare_warnings(kernel, cpus, extra, ours):
    known = qemu_warnings(kernel, cpus, extra)
    new = [x for x in ours if vmm.normal(x) not in known | vmm.BUSY_HOST]
    assert not new, "warnings that QEMU's run lacks:\n" + "\n".join(new)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--vmm", choices=("lhyve", "qemu"), default="lhyve")
    parser.add_argument("flavour")
    parser.add_argument("cpus", type=int)
    parser.add_argument("end", choices=("poweroff", "reboot", "halt", "triple"))
    parser.add_argument("extra", nargs="*")
    args = parser.parse_args()
    extra = " ".join(args.extra)
    t = tap.Tap()
    name = f"{args.flavour}, {args.cpus} CPUs, {args.end}"
    try:
        kernel = vmm.Kernel(args.flavour)
    except tap.Skip as e:
        t.skip(name, e)
        t.done()
    with kernel:
        ended = boot(args.vmm, kernel, args.cpus, args.end, extra)
        t.note(f"{kernel.package}: {ended.seconds:.1f} s")
        lines = ended.out.splitlines()
        if not t.check(f"{name}: reaches userland", "lhyve: userland" in lines, f"exit status {ended.status}\n{ended.out[-4000:]}{ended.err}"):
            t.done()
        at = lines.index("lhyve: userland") + 1
        t.equal(f"{name}: uname", lines[at], kernel.release)
        t.equal(f"{name}: CPUs online", lines[at + 1], str(args.cpus))
        t.note(f"clocksource: {lines[at + 2]}")
        t.equal(f"{name}: exit status", ended.status, vmm.expected_exit(args.vmm, args.end))
        t.equal(f"{name}: nothing on standard error", ended.err, "")
        t.case(f"{name}: no new warnings", compare_warnings, kernel, args.cpus, extra,
               ended.between("lhyve: warnings", "lhyve: end of warnings"))
    t.done()


main()
