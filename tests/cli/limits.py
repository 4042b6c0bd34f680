#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""What the host may lack: limits.py KVM_LESS TRIPLE_GUEST

Capabilities and memory of KVM's (by a library before the C library), open files, address space, sizes of files and stacks, processes. Whatever it is, lhyve ends
with status 4 and one line, or the guest runs to its end (a triple fault, 3): never by a signal."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402

LHYVE = os.path.abspath(os.environ.get("LHYVE", "build/lhyve"))
KVM_LESS, GUEST = sys.argv[1:]
KVM_CREATE_VM, KVM_CREATE_VCPU, KVM_SET_USER_MEMORY_REGION, KVM_SET_MSRS = "ae01", "ae41", "4020ae46", "4008ae89"
ENOMEM, EBUSY, EMFILE = 12, 16, 24
CAP_READONLY_MEM, CAP_MSR_FILTER, CAP_SPLIT_IRQCHIP, CAP_SIGNAL_MSI = 81, 189, 121, 77


def run(engine, limit="", apic="auto", **env):
    command = (f"exec '{LHYVE}' -m 32M -l com1,stdio -o engine={engine} -o x86.apic={apic} -o control.socket=none "
               f"-o boot.kernel='{GUEST}' limits")
    r = subprocess.run(["sh", "-c", f"{limit}\n{command}"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                       env={**os.environ, **env})
    return r.returncode, r.stderr


def less(engine, apic="auto", **what):
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise tap.Skip("no /dev/kvm here")
    return run(engine, apic=apic, LD_PRELOAD=KVM_LESS, **what)


def one_line(status, err, pattern):
    assert status == 4, (status, err)
    assert re.fullmatch(rf"lhyve: {pattern}\n", err), err


def no_capability():
    """kvm: an error that names it. auto: the software engine."""
    for cap, name in ((CAP_READONLY_MEM, "KVM_CAP_READONLY_MEM"), (CAP_MSR_FILTER, "KVM_CAP_X86_MSR_FILTER")):
        one_line(*less("kvm", NO_CAP=str(cap)), rf"engine=kvm: /dev/kvm: this kernel's KVM lacks {name} \(Linux 5\.10 has it\) "
                 r"\(engine=soft works on every host\)")
        assert less("auto", NO_CAP=str(cap))[0] == 3


def no_controllers():
    """x86.apic=auto does without; by name it is an error."""
    assert less("kvm", NO_CAP=str(CAP_SPLIT_IRQCHIP))[0] == 3
    one_line(*less("kvm", "split", NO_CAP=str(CAP_SPLIT_IRQCHIP)),
             r"kvm: this kernel's KVM lacks interrupt controllers of this kind \(use x86\.apic=user\)")
    one_line(*less("kvm", "kernel", NO_CAP=str(CAP_SIGNAL_MSI)), r"kvm: this kernel's KVM lacks .*")


def no_memory_in_kvm():
    one_line(*less("kvm", FAIL=f"{KVM_CREATE_VM}:{ENOMEM}"), r"kvm: no VM: Cannot allocate memory.*")
    one_line(*less("kvm", FAIL=f"{KVM_CREATE_VCPU}:{ENOMEM}"), r"kvm: .*Cannot allocate memory.*")
    one_line(*less("kvm", "user", FAIL=f"{KVM_SET_USER_MEMORY_REGION}:{ENOMEM}"), r"kvm: .*Cannot allocate memory.*")
    assert less("auto", FAIL=f"{KVM_CREATE_VM}:{ENOMEM}")[0] == 3


def in_use():
    one_line(*less("kvm", FAIL=f"{KVM_CREATE_VM}:{EBUSY}"), r"kvm: no VM: .*another hypervisor is running\)")


def few_files(engine):
    """From none at all to enough."""
    ends = set()
    for n in range(3, 40):
        status, err = run(engine, f"ulimit -n {n}")
        ends.add(status)
        if status == 127 or "loading shared libraries" in err:
            continue
        assert status in (3, 4), (n, status, err)
        if status == 4:
            lines = err.splitlines()
            assert len(lines) == 1 and re.search(r"open files|ulimit -n|descriptor", lines[0]), (n, err)
    assert {3, 4} <= ends, ends


def little_address_space(engine):
    ends = set()
    for kib in (*range(20000, 100000, 4000), *range(100000, 700000, 20000)):
        status, err = run(engine, f"ulimit -v {kib}")
        ends.add(status)
        if status == 127 or "loading shared libraries" in err:
            continue
        assert status in (3, 4), (kib, status, err)
        assert status == 3 or len(err.splitlines()) == 1, (kib, err)
    assert {3, 4} <= ends, ends


def small_files(engine):
    """Guest memory and translated code are files to the kernel."""
    one_line(*run(engine, "ulimit -f 1"),
             r"memory: limits, 32 MiB: File too large \(raise the limit of file sizes: ulimit -f\)")
    status, err = run(engine, "ulimit -f 65536")  # in units of 512 bytes: room for the memory alone
    if engine == "kvm":
        assert status == 3, (status, err)
    else:
        one_line(status, err, r"soft engine: no memory for generated code: File too large \(raise .*")


def small_stacks(engine):
    for kib in (32, 64, 255):
        one_line(*run(engine, f"ulimit -s {kib}"),
                 rf"stacks of {kib} KiB are too small \(raise the limit: ulimit -s 256\)")
    assert run(engine, "ulimit -s 256")[0] == 3
    assert run(engine, "ulimit -s unlimited")[0] == 3


def few_processes():
    """Of a user who has none else; threads count."""
    if os.geteuid() != 0:
        raise tap.Skip("needs root to be another user")
    ends = []
    with tempfile.TemporaryDirectory() as top:
        for path in (LHYVE, GUEST):
            shutil.copy(path, top)
        os.chmod(top, 0o755)
        os.chmod(os.path.join(top, os.path.basename(GUEST)), 0o644)
        for n in range(1, 12):
            r = subprocess.run(
                ["prlimit", f"--nproc={n}", "setpriv", "--reuid=41234", "--regid=41234", "--clear-groups",
                 os.path.join(top, os.path.basename(LHYVE)), "-m", "32M", "-l", "com1,stdio", "-o", "engine=soft", "-o",
                 "control.socket=none", "-o", f"boot.kernel={os.path.join(top, os.path.basename(GUEST))}", "limits"],
                stdin=subprocess.DEVNULL, capture_output=True, text=True)
            ends.append(r.returncode)
            if r.returncode != 3:
                one_line(r.returncode, r.stderr, r".*no thread: .*ulimit -u\)")
    assert ends[0] == 4 and ends[-1] == 3, ends


def main():
    t = tap.Tap()
    t.case("a capability is missing", no_capability)
    t.case("interrupt controllers are missing", no_controllers)
    t.case("KVM has no memory", no_memory_in_kvm)
    t.case("another hypervisor has the processor", in_use)
    for engine in ("soft", "kvm"):
        if engine == "kvm" and not os.access("/dev/kvm", os.R_OK | os.W_OK):
            t.skip("limits on kvm", "no /dev/kvm here")
            continue
        t.case(f"few open files on {engine}", few_files, engine)
        t.case(f"little address space on {engine}", little_address_space, engine)
        t.case(f"small files on {engine}", small_files, engine)
        t.case(f"small stacks on {engine}", small_stacks, engine)
    t.case("few processes", few_processes)
    t.done()


main()
