#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Run one of our own guests as guests.list says: run.py LIST NAME IMAGE [qemu]

On each engine that the list names and that works here; kvm-split and kvm-kernel are KVM with x86.apic so. With `qemu`, on QEMU's TCG instead: a second opinion on the
guest itself, for those who write one (it does not count device reads).
"""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402

LHYVE = os.environ.get("LHYVE", "build/lhyve")
PASSED = 1  # 0 to port 0xf4
ENDS = {"TRIPLE": 3, "RESET": 0}  # a first word of what is expected: how else a guest may end


def entry(path, name):
    with open(path, encoding="utf-8") as f:
        for line in f:
            words = line.split(None, 6)
            if words and words[0] == name:
                keys = [] if words[5] == "-" else words[5].split(",")  # KEY=VALUE, or ENGINE:KEY=VALUE
                return words[2].split(","), words[3], words[4], keys, words[6].strip()
    sys.exit(f"{path}: no guest {name}")


def works(engine):
    """lhyve refuses an engine that does not work before it looks at the kernel. What it says of it."""
    engine, _, apic = engine.partition("-")
    r = subprocess.run([LHYVE, "-o", f"engine={engine}", "-o", f"x86.apic={apic or 'auto'}", "-o", "log.level=info", "-o",
                        "boot.kernel=/dev/null", "probe"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if "boot.kernel" not in r.stderr:
        raise tap.Skip(r.stderr.strip() or f"exit {r.returncode}")
    return r.stderr


def differences(engine):
    """Lines that a guest may print where the interrupt controllers are KVM's."""
    kinds = {engine.partition("-")[2]} - {""}
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "kernel_apic.txt"), encoding="utf-8") as f:
        rows = [line.rstrip("\n").split("\t") for line in f if line.strip() and not line.startswith("#")]
    return {r[-1] for r in rows if kinds & set(r[0].split(","))}


def believable(engine, name, said):
    """Controllers in a KVM with no hardware behind it set no ISR bit, and deliver an interrupt twice now and then."""
    if "-" in engine and "kvm, though" in said and name in ("irqs", "msi", "timers"):
        raise tap.Skip("the interrupt controllers in this host's KVM do not work (no hardware behind it)")


def keys_for(engine, keys):
    """Those without an engine's name before them, and those with this one's."""
    named = [k.rpartition(":") for k in keys]
    return [key for only, _, key in named if only in ("", engine)]


def command(engine, cpus, memory, keys, image):
    if engine == "qemu":
        return ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-nodefaults", "-display", "none", "-serial",
                "stdio", "-no-reboot", "-device", "pc-testdev", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x4",
                "-smp", cpus, "-m", memory, "-kernel", image]
    engine, _, apic = engine.partition("-")
    keys = [*keys, f"x86.apic={apic}"] if apic else keys
    return [LHYVE, "-o", f"engine={engine}", "-c", cpus, "-m", memory, "-l", "com1,stdio", "-l", "pc-testdev",
            "-l", "fwcfg,qemu", *[w for k in keys_for(engine, keys) for w in ("-o", k)], "-o", f"boot.kernel={image}", "guest"]


def run(engine, name, cpus, memory, keys, image, expected):
    known = set()
    if engine != "qemu":
        believable(engine, name, works(engine))
        known = differences(engine)
    r = subprocess.run(command(engine, cpus, memory, keys, image), stdin=subprocess.DEVNULL, capture_output=True)
    out = r.stdout.decode(errors="replace").replace("\r", "")
    lines = out.split("\n")[:-1]
    for line in lines:
        if line.startswith("SKIP"):
            tap.Tap.note(f"{engine}: this CPU has no {line[5:]}")
    word, _, rest = expected.partition(" ")
    status, expected = (ENDS[word], rest) if word in ENDS else (PASSED, expected)
    pattern = re.escape(expected).replace(r"\*", r"\d+")
    failed = [x for x in lines if "FAIL" in x]
    if failed and set(failed) <= known:  # and the guest counts them
        tap.Tap.note(f"{engine}: {len(failed)} known differences of KVM's")
        status, pattern = ENDS["TRIPLE"], rf"done: \d+ checks, {len(failed)} failed"
    elif failed:
        pattern = "no failures"
    if r.returncode != status or not lines or not re.fullmatch(pattern, lines[-1]):
        raise AssertionError(f"exit {r.returncode}, expected {status} and '{expected}'\n{out[-6000:]}\n"
                             f"{r.stderr.decode(errors='replace')[-2000:]}")
    tap.Tap.note(f"{engine}: {lines[-1]}")


def main():
    path, name, image = sys.argv[1:4]
    engines, cpus, memory, keys, expected = entry(path, name)
    t = tap.Tap()
    for engine in sys.argv[4:] or engines:
        t.case(f"{name} on {engine}", run, engine, name, cpus, memory, keys, image, expected)
        if engine == "soft":
            t.case(f"{name} on soft, interpreted", run, engine, name, cpus, memory, [*keys, "soft.translate=false"],
                   image, expected)
    t.done()


if __name__ == "__main__":
    main()
