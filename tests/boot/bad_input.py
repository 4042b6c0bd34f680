#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""What cannot boot: one line on standard error that names it, exit 4, nothing left behind."""
import os
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import vmm  # noqa: E402
import tap  # noqa: E402


def processes_with(pattern):
    """Processes other than us whose command line has `pattern`."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                if int(pid) != os.getpid() and pattern.encode() in f.read():
                    found.append(pid)
        except OSError:
            pass
    return found


class Bench:
    def __init__(self, t, kernel, tmp):
        self.t, self.kernel, self.tmp = t, kernel, tmp
        self.image = open(kernel.path, "rb").read()

    def file(self, name, data=b"", size=None):
        path = os.path.join(self.tmp, name)
        with open(path, "wb") as f:
            f.write(data)
            if size is not None:
                f.truncate(size)
        return path

    def refuse(self, name, says, memory="512M", path=None, initrd=None, cmdline=None, options=()):
        argv = vmm.command("lhyve", self.kernel, memory=memory, path=path, initrd=initrd, options=options)
        if cmdline is not None:
            argv[-1:-1] = ["-o", f"boot.cmdline={cmdline}"]
        before = sorted(os.listdir(self.tmp))
        try:
            r = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        except subprocess.TimeoutExpired as e:
            self.t.check(name, False, f"hangs; output: {(e.stdout or b'')[:200]}")
            return
        lines = r.stderr.splitlines()
        good = (r.returncode == 4 and len(lines) == 1 and lines[0].startswith("lhyve: ") and says in lines[0]
                and r.stdout == "" and sorted(os.listdir(self.tmp)) == before)
        self.t.check(name, good, f"exit {r.returncode}\nout: {r.stdout[:300]}\nerr: {r.stderr[:600]}")
        if good:
            self.t.note(lines[0][:200].replace(self.tmp, "TMP"))


def kernels(b):
    f = b.file
    missing = os.path.join(b.tmp, "none")
    b.refuse("no such kernel", missing, path=missing)
    b.refuse("a folder as the kernel", b.tmp, path=b.tmp)
    b.refuse("an empty kernel", "empty", path=f("empty"))
    b.refuse("a text file as the kernel", "text", path=f("text", b"#!/bin/sh\necho hello\n" * 1000))
    b.refuse("zeroes as the kernel", "zeroes", path=f("zeroes", size=1 << 20))
    b.refuse("an ELF program as the kernel", "/sh", path="/bin/sh")
    for size in (100, 0x1ff, 0x202, 0x264, 1024, 4096, 0x8000, len(b.image) // 2, len(b.image) - 4096):
        b.refuse(f"a kernel cut to {size} bytes", f"cut{size}", path=f(f"cut{size}", b.image[:size]))
    b.refuse("a device without end as the kernel", "/dev/zero", path="/dev/zero")
    b.refuse("/dev/null as the kernel", "/dev/null", path="/dev/null")
    fifo = os.path.join(b.tmp, "fifo")
    os.mkfifo(fifo)
    b.refuse("a FIFO as the kernel", "fifo", path=fifo)
    if os.geteuid() != 0:
        locked = f("locked", b.image)
        os.chmod(locked, 0)
        b.refuse("a kernel that may not be read", "locked", path=locked)
    old = bytearray(b.image[:1 << 20])
    old[0x206:0x208] = b"\x00\x01"
    b.refuse("a boot protocol older than any supported", "old", path=f("old", bytes(old)))
    huge_init = bytearray(b.image)
    huge_init[0x260:0x264] = b"\xff\xff\xff\xff"
    b.refuse("a kernel that wants 4 GiB to unpack", "hugeinit", path=f("hugeinit", bytes(huge_init)))


def rest(b):
    missing = os.path.join(b.tmp, "none")
    b.refuse("no such initrd", missing, initrd=missing)
    b.refuse("a folder as the initrd", b.tmp, initrd=b.tmp)
    b.refuse("a device without end as the initrd", "/dev/zero", initrd="/dev/zero")
    big = b.file("big", size=1 << 30)
    b.refuse("an initrd larger than memory", "big", initrd=big)
    b.refuse("an initrd that leaves no room", "fits", memory="128M", initrd=b.file("fits", size=90 << 20))
    b.refuse("an initrd beyond 4 GiB", "vast", memory="8G", initrd=b.file("vast", size=5 << 30))
    b.refuse("a command line beyond the kernel's limit", "cmdline", cmdline="x" * 100000)
    b.refuse("memory too small for the kernel", "memory", memory="8M")
    b.refuse("the smallest memory", "memory", memory="4M")
    b.refuse("memory beyond reason", "memory.size", memory="900000T")
    b.refuse("no memory at all", "memory.size", memory="0")
    b.refuse("a console in a folder that is not there", missing, options=("-l", f"com2,{missing}/tty"))
    b.refuse("a console on a port that cannot be", "com2", options=("-l", "com2,tcp=127.0.0.1:99999"))
    b.refuse("a console with no port", "com2", options=("-l", "com2,tcp=127.0.0.1"))


def main():
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    t = tap.Tap()
    try:
        kernel = vmm.Kernel("cloud-amd64")
    except tap.Skip as e:
        t.skip("bad input", e)
        t.done()
    with kernel, tempfile.TemporaryDirectory() as tmp:
        b = Bench(t, kernel, tmp)
        kernels(b)
        rest(b)
        t.equal("no process is left", processes_with(tmp), [])
    t.done()


main()
