#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""debug.trace and tools/trace-diff: trace.py GUEST_ELF (tests/guest/straight.c)"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))
import tap  # noqa: E402

TOOLS = os.path.join(HERE, "../../tools")
LHYVE = os.environ.get("LHYVE", "build/lhyve")
PASSED = 1


class Lab:
    def __init__(self, folder, guest):
        self.folder, self.guest = folder, guest

    def path(self, name):
        return os.path.join(self.folder, name)

    def trace(self, name, *options):
        """A trace of the whole guest."""
        words = [w for o in options for w in ("-o", f"debug.trace_{o}")]
        r = subprocess.run([LHYVE, "-o", "engine=soft", "-m", "32M", "-l", "com1,stdio", "-l", "pc-testdev", "-o",
                            f"boot.kernel={self.guest}", "-o", f"debug.trace={self.path(name)}", *words, "traced"],
                           stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert r.returncode == PASSED, f"exit {r.returncode}\n{r.stdout}{r.stderr}"
        return self.path(name)

    def diff(self, a, b, *options):
        r = subprocess.run([os.path.join(TOOLS, "trace-diff"), "--symbols", self.guest, a, b, *options],
                           capture_output=True, text=True)
        return r.returncode, r.stdout, r.stderr


def lines_of(path):
    with open(path, encoding="utf-8") as f:
        return f.read().splitlines(keepends=True)


def record_at(lines, rip, nth=0):
    return [i for i, line in enumerate(lines) if line.split()[1:2] == [rip]][nth]


def symbol(lab, name):
    sys.path.insert(0, TOOLS)
    import tracelib
    return f"{tracelib.Symbols(lab.guest).address(name):x}"


def equal(lab, a, b, *options):
    status, out, err = lab.diff(a, b, *options)
    assert status == 0, f"exit {status}\n{out}{err}"
    count = int(re.match(r"(\d+) instructions are equal", out)[1])
    assert count > 2000, out


def content(lab):
    """What the guest does, looked up in the text."""
    lines = lines_of(lab.path("text"))
    table, end = symbol(lab, "table"), symbol(lab, "straight_end")
    stores = [w for line in lines for w in line.split()[3:] if w.startswith(f"m:{table}=")]
    assert stores, f"no write to {table}"
    assert any(" ev=6" in line for line in lines), "no #UD"
    assert any(" ev=14:0" in line and " cr2=8000000000" in line for line in lines), "no #PF with its CR2"
    repeated = [line for line in lines if line.split()[2:3] == ["f3aa"]]
    assert len(repeated) >= 256 and all("m:" in line for line in repeated[:256]), "REP STOSB is one record a turn"
    record_at(lines, end)


def seeded(lab):
    """One register, one instruction missing, one written byte: each is found where it is. Line 2 is instruction 1."""
    lines = lines_of(lab.path("text"))
    at = record_at(lines, symbol(lab, "mix"), 7)
    for name, change in (("register", lambda x: re.sub(r" r[a-z0-9]+=\S+", " rax=1234567", x, count=1)),
                         ("missing", lambda x: "")):
        path = lab.path(f"seeded-{name}")
        where = next(i for i in range(at, len(lines)) if re.search(r" r[a-z0-9]+=", lines[i]))
        with open(path, "w", encoding="utf-8") as f:
            f.writelines(lines[:where] + [change(lines[where])] + lines[where + 1:])
        status, out, err = lab.diff(lab.path("text"), path)
        assert status == 1, f"{name}: exit {status} {out}{err}"
        assert f"first difference at instruction {where - 1}:" in out, f"{name}: line {where}:\n{out}"
        assert re.search(rf"=> {lines[where].split()[1]} <mix.*> +{lines[where].split()[2]} ", out), out
    path = lab.path("seeded-memory")
    where = next(i for i in range(at, len(lines)) if " m:" in lines[i])
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(lines[:where] + [re.sub(r"(m:[0-9a-f]+=)..", r"\1ee", lines[where])] + lines[where + 1:])
    status, out, _ = lab.diff(lab.path("text"), path)
    assert status == 1 and f"first difference at instruction {where - 1}:" in out and "memory:" in out, out


def window(lab):
    """start and count cut exactly that piece out."""
    part = lines_of(lab.trace("part", "start=1000", "count=500"))
    whole = lines_of(lab.path("text"))
    assert len(part) == 502, f"{len(part)} lines"
    assert [x.split()[1:] for x in part[2:]] == [x.split()[1:] for x in whole[1002:1502]]
    assert "rsp=" in part[1], "the starting state"


def damaged(lab):
    with open(lab.path("binary"), "rb") as f:
        data = f.read()
    with open(lab.path("cut"), "wb") as f:
        f.write(data[:len(data) // 2 | 1])
    status, _, err = lab.diff(lab.path("binary"), lab.path("cut"))
    assert status == 2 and "cut off" in err, f"{status} {err}"
    with open(lab.path("odd"), "w", encoding="utf-8") as f:
        f.write("# lhyve trace 1\n64 xyz 90\n")
    status, _, err = lab.diff(lab.path("odd"), lab.path("odd"))
    assert status == 2 and "line 2" in err, f"{status} {err}"


def unwritable(lab):
    r = subprocess.run([LHYVE, "-o", f"boot.kernel={lab.guest}", "-o", f"debug.trace={lab.folder}", "-o", "engine=soft",
                        "traced"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert r.returncode == 4 and "debug.trace: " in r.stderr and r.stderr.count("\n") == 1, r.stderr


def qemu(lab):
    """Up to the faults: QEMU saves no RF for them, as processors do."""
    if not shutil.which("qemu-system-x86_64"):
        raise tap.Skip("qemu-system-x86_64 is not installed")
    log = lab.path("qemu.log")
    subprocess.run(["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-nodefaults", "-display", "none", "-serial",
                    "stdio", "-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x4", "-m", "32", "-kernel",
                    lab.guest, "-singlestep", "-d", "in_asm,cpu,nochain", "-dfilter", "0x200000..0x2fffff", "-D", log],
                   stdin=subprocess.DEVNULL, capture_output=True, check=False)
    equal(lab, lab.path("text"), log, "--from", "main", "--until", "faults")
    # The comparison would see a difference: one register of one state.
    text = lines_of(log)
    at = next(i for i in range(len(text) * 9 // 10, 0, -1) if text[i].startswith("RAX="))
    text[at] = "RAX=5555555555555555" + text[at][20:]
    with open(log, "w", encoding="utf-8") as f:
        f.writelines(text)
    status, out, err = lab.diff(lab.path("text"), log, "--from", "main")
    assert status == 1 and "rax: " in out and "5555555555555555" in out, f"exit {status}\n{out}{err}"


def kvm(lab):
    """KVM's single steps: registers. REP instructions may be whole ones there. Up to the faults: what they push has the trap
    flag in it."""
    r = subprocess.run([LHYVE, "-o", "engine=kvm", "-m", "32M", "-l", "com1,stdio", "-l", "pc-testdev", "-o",
                        f"boot.kernel={lab.guest}", "-o", f"debug.trace={lab.path('kvm')}", "traced"],
                       stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if r.returncode == 4:
        raise tap.Skip(r.stderr.strip().splitlines()[-1])
    assert r.returncode == PASSED, f"exit {r.returncode}\n{r.stdout}{r.stderr}"
    equal(lab, lab.path("text"), lab.path("kvm"), "--until", "faults")
    equal(lab, lab.path("kvm"), lab.path("binary"), "--from", "main", "--until", "faults")
    lines = lines_of(lab.path("kvm"))
    assert not any(" m:" in line or " ev=" in line for line in lines)
    where = record_at(lines, symbol(lab, "mix"), 7)
    where = next(i for i in range(where, len(lines)) if re.search(r" r[a-z0-9]+=", lines[i]))
    lines[where] = re.sub(r" r[a-z0-9]+=\S+", " rdx=1234567", lines[where], count=1)
    with open(lab.path("kvm"), "w", encoding="utf-8") as f:
        f.writelines(lines)
    status, out, err = lab.diff(lab.path("text"), lab.path("kvm"))
    assert status == 1 and "rdx: " in out, f"exit {status}\n{out}{err}"


def kvm_window(lab):
    """The binary form, a piece in the middle, and the guest goes on to its end."""
    r = subprocess.run([LHYVE, "-o", "engine=kvm", "-m", "32M", "-l", "com1,stdio", "-l", "pc-testdev", "-o",
                        f"boot.kernel={lab.guest}", "-o", f"debug.trace={lab.path('part')}", "-o",
                        "debug.trace_format=binary", "-o", "debug.trace_start=1000", "-o", "debug.trace_count=500",
                        "traced"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if r.returncode == 4:
        raise tap.Skip(r.stderr.strip().splitlines()[-1])
    assert r.returncode == PASSED, f"exit {r.returncode}\n{r.stdout}{r.stderr}"
    sys.path.insert(0, TOOLS)
    import tracelib
    kind, steps = tracelib.open_trace(lab.path("part"))
    got = [(s.mode, s.rip, s.code) for s in steps]
    want = [(s.mode, s.rip, s.code) for s in tracelib.open_trace(lab.path("text"))[1]][1000:1500]
    assert kind == "registers" and got == want, f"{kind} {len(got)} {got[:3]} {want[:3]}"


def symbolize(lab):
    main = symbol(lab, "main")
    text = f"rip {main} and 0x{int(main, 16) + 2:016x}, not 12 nor ffffffffffffff00\n"
    r = subprocess.run([os.path.join(TOOLS, "symbolize"), lab.guest], input=text, capture_output=True, text=True)
    want = f"rip {main}<main> and 0x{int(main, 16) + 2:016x}<main+0x2>, not 12 nor ffffffffffffff00\n"
    assert r.stdout == want, f"{r.stdout}{r.stderr}"
    path = lab.path("System.map")
    with open(path, "w", encoding="utf-8") as f:
        f.write("ffffffff81000000 T _text\nffffffff81000100 t inner\nffffffff82000000 B _end\n                 U other\n")
    r = subprocess.run([os.path.join(TOOLS, "symbolize"), path, "--slide", "1000000"],
                       input="ffffffff82000104 ffffffff82000000\n", capture_output=True, text=True)
    assert r.stdout == "ffffffff82000104<inner+0x4> ffffffff82000000<_text>\n", f"{r.stdout}{r.stderr}"


def main():
    t = tap.Tap()
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(folder, sys.argv[1])
        until = ("--until", "straight_end")
        lab.trace("text")
        lab.trace("binary", "format=binary")
        lab.trace("translated", "format=binary", "translated=true")
        t.case("the guest's work is in the trace", content, lab)
        t.case("text and binary say the same", equal, lab, lab.path("text"), lab.path("binary"), *until)
        t.case("interpreted and translated", equal, lab, lab.path("text"), lab.path("translated"), *until)
        t.case("seeded differences", seeded, lab)
        t.case("start and count", window, lab)
        t.case("damaged traces", damaged, lab)
        t.case("a file that cannot be written", unwritable, lab)
        t.case("against QEMU", qemu, lab)
        t.case("against KVM", kvm, lab)
        t.case("start and count under KVM", kvm_window, lab)
        t.case("symbolize", symbolize, lab)
    t.done()


main()
