#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Everything with an engine matrix on a real KVM: one that QEMU's TCG gives (nested.py). Guests, Linux with 1, 2 and 4
CPUs, unit tests of the KVM engine and of libvmmapi, moves between the engines.

    run.py BUILD [NAME...]

QEMU's TCG is no perfect processor. expected.txt says which guests cannot pass on it, and why.
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
        status, last = (3, rest) if word == "TRIPLE" else (1, expected.strip())
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


def boots(files, kernel, cpus):
    files["vmlinuz"], files["initrd"] = kernel.path, kernel.initrd
    out = []
    def linux(name, n, apic, guest, status, last, before="", options=""):
        words = f"{vmm.BASE_CMDLINE} lhyve.run={guest}"
        out.append((name, f"{before}timeout -s KILL 300 ./lhyve -o engine=kvm -o x86.apic={apic} -c {n} -m 256M -l com1,stdio "
                    f"{options} -o boot.kernel=vmlinuz -o boot.initrd=initrd -o 'boot.cmdline={words}' linux", status, last))

    for n in cpus:
        linux(f"Linux, {n} CPUs", n, "auto", "uname,-r;nproc;poweroff", 1, f"{n}")
    for apic in ("user", "kernel"):
        linux(f"Linux, 2 CPUs, x86.apic={apic}", 2, apic, "uname,-r;nproc;poweroff", 1, "2")
    for apic in ("user", "split", "kernel"):  # doorbells, and messages to the APICs wherever they are
        linux(f"a disk, x86.apic={apic}", 2, apic, "virtio;dd,if=/dev/zero,of=/dev/vda,bs=1M,count=32,conv=fsync;"
              "dd,if=/dev/vda,of=/dev/null,bs=64k;poweroff", 1, "512+0 records in", "truncate -s 32M disk; ",
              "-s 4,virtio-blk,disk")
    linux("the 8254's ticks, x86.apic=kernel", 1, "kernel", "nproc;poweroff nolapic_timer", 1, "1", "", "-o x86.hpet=false")
    for apic in ("split", "kernel"):
        linux(f"S3, x86.apic={apic}", 2, apic, "settle;suspend,2;nproc;poweroff", 1, "s2idle [deep]")
        linux(f"halt, x86.apic={apic}", 2, apic, "halt", 2, None)
        linux(f"reset, x86.apic={apic}", 1, apic, "reboot", 0, None)
    return out


def programs(build, files):
    names = {"test_kvm": "tests/unit/test_kvm", "test_kvm_irqchip": "tests/unit/test_kvm_irqchip",
             "test_vmmapi": "tests/vmmapi/test_vmmapi", "restore": "tests/guest/guest_restore"}
    for name, path in names.items():
        files[name] = f"{build}/{path}"
    for so in ("libvmmapi.so.1",):
        files[so] = os.path.realpath(f"{build}/libvmmapi.so")
    return [("test_kvm", "./test_kvm", 0, None),
            ("test_kvm_irqchip", "./test_kvm_irqchip", 0, None),
            ("test_vmmapi on kvm", "LD_LIBRARY_PATH=. ./test_vmmapi kvm", 0, None),
            ("moves between the engines", "./restore ./guest_straight", 0, None)]


def check(t, name, status, text, want, last):
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
    t.check(name, ok, f"exit {status}, expected {want}\n{text[-3000:]}")


def main():
    build, only = sys.argv[1], sys.argv[2:]
    t = tap.Tap()
    try:
        with vmm.Kernel("cloud-amd64") as kernel:
            kernel.pack(kernel.modules(r"(virtio.*|failover|net_failover)\.ko"))
            files = {"lhyve": f"{build}/lhyve", "guest_straight": f"{build}/tests/guest/guest_straight"}
            work, skipped = guests(build, files)
            work += programs(build, files) + boots(files, kernel, (1, 2, 4))
            work.append(("trace", TRACED, 1, None))
            probe = ("the probe finds it whole", "./lhyve -o engine=auto -o log.level=info -o boot.kernel=/dev/null x", 4,
                     "lhyve: info: engine: kvm")
            work = [probe] + [w for w in work if not only or any(re.search(o, w[0]) for o in only)]
            results = nested.run(kernel, files, [(w[0], w[1]) for w in work])
    except tap.Skip as e:
        t.skip("nested", e)
        t.done()
    for (name, _, want, last), (status, text) in zip(work, results):
        check(t, name, status, text, want, last)
        if name == "trace" and status == want:
            compare_traces(t, build, text)
    for name, why in skipped:
        t.skip(name, why)
    t.done()


main()
