#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Everything with an engine matrix on a real KVM: one that QEMU's TCG gives (nested.py). Guests; Linux with 1, 2 and 4
CPUs, and with a disk, for each place that APICs can be in; resets; unit tests of the KVM engine and of libvmmapi; moves
between the engines.

    run.py BUILD [NAME...]

QEMU's TCG is no perfect processor. expected.txt says what cannot pass on it, and why.
"""
import importlib.machinery
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, ".."))
import nested  # noqa: E402
guest_run = importlib.machinery.SourceFileLoader("guest_run", os.path.join(HERE, "../guest/run.py")).load_module()  # noqa: E402
import tap  # noqa: E402
import vmm  # noqa: E402

GUESTS = "tests/guest/guests.list"
APICS = ("user", "split", "kernel")  # x86.apic


def rows(path):
    with open(path, encoding="utf-8") as f:
        return [line.split(None, 6) for line in f if line.strip() and not line.startswith("#")]


def causes():
    with open(os.path.join(HERE, "expected.txt"), encoding="utf-8") as f:
        return dict(line.rstrip("\n").split(None, 1) for line in f if line.strip() and not line.startswith("#"))


def guests(build, files):
    """[(name, command, expected status, last line)] of the list's guests that KVM runs."""
    known, out, skipped = causes(), [], []
    for name, _, engines, cpus, memory, keys, expected in rows(GUESTS):
        engines = [e for e in engines.split(",") if e.partition("-")[0] == "kvm"]
        if not engines:
            continue
        if name in known:
            skipped.append((f"guest {name}", known[name]))
            continue
        files["guest_" + name] = f"{build}/tests/guest/guest_{name}"
        options = " ".join(f"-o {k.removeprefix('kvm:')}" for k in ([] if keys == "-" else keys.split(","))
                           if not k.startswith("soft:"))
        word, _, rest = expected.strip().partition(" ")
        status, last = (guest_run.ENDS[word], rest) if word in guest_run.ENDS else (guest_run.PASSED, expected.strip())
        for apic in (e.partition("-")[2] or "user" for e in engines):
            if f"{name},{apic}" in known:
                skipped.append((f"guest {name}, x86.apic={apic}", known[f"{name},{apic}"]))
                continue
            out.append((f"guest {name}, x86.apic={apic}", f"timeout -s KILL 120 ./lhyve -o engine=kvm -o x86.apic={apic} "
                        f"-c {cpus} -m {memory} -l com1,stdio -l pc-testdev -l fwcfg,qemu {options} "
                        f"-o boot.kernel=guest_{name} guest", status, last))
    return out, skipped


TRACED = ("./lhyve -o engine=kvm -m 32M -l com1,stdio -l pc-testdev -o boot.kernel=guest_straight "
          "-o debug.trace=/tmp/trace guest; status=$?; cat /tmp/trace; exit $status")


def compare_traces(t, build, text):
    """What the steps were there, and the software engine's trace made here."""
    record = re.compile(r"^(# lhyve trace|16 |32 |64 )")
    with tempfile.TemporaryDirectory() as folder:
        there, here = os.path.join(folder, "there"), os.path.join(folder, "here")
        with open(there, "w", encoding="utf-8") as f:
            f.writelines(x + "\n" for x in text.splitlines() if record.match(x))
        guest = f"{build}/tests/guest/guest_straight"
        subprocess.run([f"{build}/lhyve", "-o", "engine=soft", "-m", "32M", "-l", "com1,stdio", "-l", "pc-testdev", "-o",
                        f"boot.kernel={guest}", "-o", f"debug.trace={here}", "traced"], stdin=subprocess.DEVNULL,
                       capture_output=True, check=False)
        r = subprocess.run([os.path.join(nested.ROOT, "tools/trace-diff"), "--symbols", guest, "--until", "faults", here,
                            there], capture_output=True, text=True)
        m = re.match(r"(\d+) instructions are equal", r.stdout)
        t.check("single steps go as the software engine's", r.returncode == 0 and m and int(m[1]) > 2000,
                r.stdout + r.stderr)


WAYS_DOWN = ("init", "x2apic-init", "cf9", "keyboard")  # tests/guest/reset.c


def resets(build, files):
    """A guest that goes down by a reset and is started again, once a way down, as a script that runs VMs does it."""
    files["guest_reset"] = f"{build}/tests/guest/guest_reset"

    def went(text):
        up = re.findall(r"^up, to go down by (\S+)$", text, re.M)
        return None if up == [*WAYS_DOWN] else f"it came up for {up}"
    return [(f"resets, x86.apic={apic}", f"for way in {' '.join(WAYS_DOWN)}; do timeout -s KILL 120 ./lhyve -o engine=kvm "
             f"-o x86.apic={apic} -m 32M -l com1,stdio -o boot.kernel=guest_reset -o boot.cmdline=$way guest || exit 9; done",
             0, None, went) for apic in APICS]


# Warnings that are this host's and not the machine's: no clock keeps time on TCG, and KVM hands on what the processor says of
# its defences.
TCG_WARNINGS = re.compile(r"tsc:|clock|calibrat|hrtimer: interrupt took|rcu:.* stall|soft lockup|"
                          r"\bon the kernel command line$|Speculative Return Stack Overflow:")


def no_complaints(text):
    """None, or the warnings of the guest's kernel."""
    lines = text.splitlines()
    if "lhyve: end of warnings" not in lines:
        return "its warnings were not printed"
    found = [x for x in lines if re.match(r"<[0-4]>", x) and not TCG_WARNINGS.search(x)]
    return "\n".join(found) or None


def disk_holds(apic, text):
    """None, or what is wrong with the disk's data or the way of its interrupts."""
    m = re.search(r"^host: before (\w+) (\w+)$.*^guest: read (\w+)$.*^guest: wrote (\w+)$.*^host: after (\w+) (\w+)$",
                  text, re.M | re.S)
    if not m:
        return "not all checksums are there"
    first, second, read, wrote, first_after, second_after = m.groups()
    if len({first, second, wrote}) != 3 or (read, first_after, second_after) != (first, first, wrote):
        return f"checksums: {m.groups()}"
    count = {k: int(v) for k, v in re.findall(r"^lhyve: (\S+) (\d+)$", text, re.M)}
    busy = [count.get(f"pci.0.4.0.blk.{x}.requests", 0) for x in ("read", "write")]
    # A counter of 0 is not printed.
    ways = [count.get(x, 0) for x in ("cpu0.kvm.irqfds", "pci.messages.by_irqfd")]
    if min(busy) < 256 or "pci.0.4.0.blk.failed.requests" in count:
        return f"requests: {busy}"
    if any(ways) if apic == "user" else not all(ways):
        return f"eventfds given to KVM, and messages by them: {ways}"
    return no_complaints(text)


def boots(files, kernel, cpus, skipped):
    """Linux leaves XSAVE off: TCG's AMD-V (QEMU 7.2) does not intercept XSETBV, so that KVM, which loads XCR0 and makes CPUID
    leaf 0xd of what it knows of it, hears nothing of the guest's. test_kvm tells that apart from a fault of ours."""
    files["vmlinuz"], files["initrd"] = kernel.path, kernel.initrd
    files["disk-host"] = os.path.join(HERE, "disk-host")
    known, out = causes(), []

    def linux(name, n, apic, guest, status, last, before="", options="", check=None):
        words = f"{vmm.BASE_CMDLINE} noxsave lhyve.run={guest}"
        out.append((name, f"{before}timeout -s KILL 1200 ./lhyve -o engine=kvm -o x86.apic={apic} -c {n} -m 256M -l com1,stdio "
                    f"{options} -o boot.kernel=vmlinuz -o boot.initrd=initrd -o 'boot.cmdline={words}' linux", status, last, check))

    for apic in APICS:
        for n in cpus:
            if f"linux{n},{apic}" in known:
                skipped.append((f"Linux, {n} CPUs, x86.apic={apic}", known[f"linux{n},{apic}"]))
                continue
            linux(f"Linux, {n} CPUs, x86.apic={apic}", n, apic, "nproc;warnings;poweroff", 1, f"{n}", check=no_complaints)
        # Doorbells, and messages to the APICs wherever they are: the busy vector's by an irqfd where they are KVM's.
        linux(f"a disk, x86.apic={apic}", 2, apic, "virtio;disk-guest;warnings;poweroff", 1, None, "sh ./disk-host ",
              "--stats -s 4,virtio-blk,disk", lambda text, apic=apic: disk_holds(apic, text))
    linux("the 8254's ticks, x86.apic=kernel", 1, "kernel", "nproc;poweroff nolapic_timer", 1, "1", "", "-o x86.hpet=false")
    for apic in ("split", "kernel"):
        linux(f"S3, x86.apic={apic}", 2, apic, "settle;suspend,2;nproc;poweroff", 1, "s2idle [deep]")
        linux(f"halt, x86.apic={apic}", 2, apic, "halt", 2, None)
        linux(f"reset, x86.apic={apic}", 1, apic, "reboot", 0, None)
    return out


def programs(build, files):
    names = {"test_kvm": "tests/unit/test_kvm", "test_kvm_irqchip": "tests/unit/test_kvm_irqchip",
             "test_vmmapi": "tests/vmmapi/test_vmmapi", "restore": "tests/guest/guest_restore",
             "tinyvmm": "tests/vmmapi/tinyvmm"}
    for name, path in names.items():
        files[name] = f"{build}/{path}"
    for so in ("libvmmapi.so.1",):
        files[so] = os.path.realpath(f"{build}/libvmmapi.so")
    return [("test_kvm", "./test_kvm", 0, None),
            ("test_kvm_irqchip", "./test_kvm_irqchip", 0, None),
            ("test_vmmapi on kvm", "LD_LIBRARY_PATH=. ./test_vmmapi kvm", 0, None),
            ("tinyvmm on kvm", "LD_LIBRARY_PATH=. ./tinyvmm kvm", 0, "55"),
            ("moves between the engines", "./restore ./guest_straight", 0, None)]


def check(t, name, status, text, want, last, look=None):
    """look: of the text, what is wrong with it, or None."""
    lines = [x for x in text.splitlines() if x.strip() and not re.match(r"^\[ *\d+\.\d+\]", x)]
    failed = [x for x in lines if "FAIL" in x]
    apic = name.partition("x86.apic=")[2]
    if failed and name.startswith("guest") and set(failed) <= guest_run.differences("kvm-" + apic):
        t.note(f"{name}: {len(failed)} known differences of KVM's")
        want, last, failed = 3, f"done: * checks, {len(failed)} failed", []
    ok = status == want and not failed
    if last is not None and ok:
        pattern = re.escape(last).replace(r"\*", r"\d+")
        ok = any(re.fullmatch(pattern, x) for x in lines)
    wrong = look(text) if ok and look else None
    if look and ok:
        counters = re.findall(r"^lhyve: (pci.messages\S* \d+|\S*irqfds \d+|\S*blk.\w+.requests \d+)$", text, re.M)
        t.note(f"{name}: {', '.join(counters)}" if counters else "")
    t.check(name, ok and wrong is None, f"exit {status}, expected {want}\n{wrong or ''}\n{text[-3000:]}")


def skips(t, name, text):
    """Cases that a program of cmocka's skipped there; the line before tells why."""
    for why, case in re.findall(r"^(.*)\n\[  SKIPPED \] (test_\w+)$", text, re.M):
        if "[ " not in why:  # not the list at the end
            t.skip(f"{name}: {case}", why)


def main():
    build, only = sys.argv[1], sys.argv[2:]
    t = tap.Tap()
    try:
        with vmm.Kernel("cloud-amd64") as kernel:
            kernel.pack([*kernel.modules(r"virtio(_ring|_pci.*|_blk)?"), os.path.join(HERE, "disk-guest")])
            files = {"lhyve": f"{build}/lhyve", "guest_straight": f"{build}/tests/guest/guest_straight"}
            work, skipped = guests(build, files)
            work += programs(build, files) + resets(build, files) + boots(files, kernel, (1, 2, 4), skipped)
            work.append(("trace", TRACED, 1, None))
            probe = ("the probe finds it whole", "./lhyve -o engine=auto -o log.level=info -o boot.kernel=/dev/null x", 4,
                     "lhyve: info: engine: kvm")
            work = [probe] + [w for w in work if not only or any(re.search(o, w[0]) for o in only)]
            results = nested.run(kernel, files, [(w[0], w[1]) for w in work])
    except tap.Skip as e:
        t.skip("nested", e)
        t.done()
    for (name, _, want, last, *look), (status, text) in zip(work, results):
        check(t, name, status, text, want, last, *look)
        skips(t, name, text)
        if name == "trace" and status == want:
            compare_traces(t, build, text)
    for name, why in skipped:
        t.skip(name, why)
    t.done()


main()
