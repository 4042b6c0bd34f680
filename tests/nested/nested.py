# SPDX-License-Identifier: BSD-2-Clause
"""A host with a real KVM, made of packages: Debian's cloud kernel in QEMU's TCG, whose AMD-V it emulates, with
busybox, KVM's modules, lhyve and the files of the test in an initramfs.

    results = nested.run(kernel, files, [(name, command), ...])

runs the commands there, one after another, by a shell; each result is (exit status, output)."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.abspath(os.path.join(HERE, "../.."))
sys.path.insert(0, os.path.join(HERE, ".."))
sys.path.insert(0, os.path.join(HERE, "../boot"))
import vmm  # noqa: E402
from tap import Skip  # noqa: E402

QEMU = "qemu-system-x86_64"
INIT = """#!/bin/sh
export PATH=/bin:/sbin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mkdir -p /run /dev/shm
insmod /lib/irqbypass.ko && insmod /lib/kvm.ko && insmod /lib/kvm-amd.ko
chmod 666 /dev/kvm
cd /test
n=0
while read -r line; do
	echo "lhyve-begin $n"
	sh -c "$line" </dev/null 2>&1
	status=$?
	echo
	echo "lhyve-end $n $status"
	n=$((n + 1))
done </test/commands
poweroff -f
"""


def libraries(program):
    """What the loader will look for, and the loader."""
    out = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return sorted(set(re.findall(r"(/\S+) \(0x", out)))


def initramfs(out, kernel, files, commands):
    """files: {name in /test: path}."""
    with tempfile.TemporaryDirectory() as top:
        def put(path, name, mode=0o755):
            to = os.path.join(top, name.lstrip("/"))
            os.makedirs(os.path.dirname(to), exist_ok=True)
            shutil.copyfile(path, to)
            os.chmod(to, mode)
        for name in ("bin", "dev", "proc", "sys", "tmp", "run", "lib"):
            os.makedirs(os.path.join(top, name))
        os.symlink("bin", os.path.join(top, "sbin"))
        box = next((p for p in ("/bin/busybox", "/usr/bin/busybox") if os.path.exists(p)), None)
        if box is None:
            raise Skip("no busybox here (busybox-static)")
        put(box, "bin/busybox")
        os.symlink("busybox", os.path.join(top, "bin/sh"))
        for program in {p for p in files.values() if is_dynamic(p)} | ({box} if is_dynamic(box) else set()):
            for lib in libraries(program):
                put(lib, lib)
        found = 0
        for folder, _, names in os.walk(kernel.dir):
            for name in names:
                if name in ("irqbypass.ko", "kvm.ko", "kvm-amd.ko"):
                    put(os.path.join(folder, name), "lib/" + name)
                    found += 1
        if found < 3:
            raise Skip(f"{kernel.package} has no KVM modules")
        for name, path in files.items():
            put(path, "test/" + name)
        with open(os.path.join(top, "init"), "w", encoding="utf-8") as f:
            f.write(INIT)
        os.chmod(os.path.join(top, "init"), 0o755)
        with open(os.path.join(top, "test/commands"), "w", encoding="utf-8") as f:
            f.writelines(c + "\n" for c in commands)
        with open(out, "wb") as f:
            subprocess.run("find . | cpio --quiet -o -H newc -R 0:0 | gzip -1", shell=True, cwd=top, stdout=f,
                           check=True)


def is_dynamic(path):
    with open(path, "rb") as f:
        if f.read(4) != b"\x7fELF":
            return False
    return subprocess.run(["ldd", path], capture_output=True).returncode == 0


def run(kernel, files, commands, memory="1536M", cpus=1, seconds=3000):
    """kernel: vmm.Kernel with KVM modules. files: {name in /test, where the commands run: path}. One CPU: with more, QEMU 7.2
    loses interrupts of a CPU that runs a nested guest."""
    if not shutil.which(QEMU):
        raise Skip(f"{QEMU} is not installed: no AMD-V to nest in")
    base = os.path.join(vmm.CACHE, f"nested-{os.getpid()}")
    argv = [QEMU, "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "EPYC,+svm,+npt,+nrip-save", "-nodefaults",
            "-display", "none", "-serial", "stdio", "-no-reboot", "-m", memory, "-smp", str(cpus), "-kernel", kernel.path,
            "-initrd", base + ".cpio.gz", "-append",
            "console=ttyS0 quiet panic=-1 nokaslr mitigations=off tsc=reliable"]
    try:
        initramfs(base + ".cpio.gz", kernel, files, [c for _, c in commands])
        with open(base + ".log", "wb") as f:
            try:
                err = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.PIPE,
                                     timeout=seconds).stderr
            except subprocess.TimeoutExpired:  # it is killed; what has ended by then counts
                err = b"(ended after %d s)" % seconds
        with open(base + ".log", encoding="utf-8", errors="replace", newline="") as f:
            text = f.read().replace("\r", "")
    finally:
        for end in (".cpio.gz", ".log"):
            if os.path.exists(base + end):
                os.unlink(base + end)
    results = []
    for n in range(len(commands)):
        m = re.search(rf"^lhyve-begin {n}$\n(.*?)\n?^lhyve-end {n} (\d+)$", text, re.S | re.M)
        results.append((int(m[2]), m[1]) if m else (None, text[-3000:] + err.decode(errors="replace")))
    return results
