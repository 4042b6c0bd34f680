# SPDX-License-Identifier: BSD-2-Clause
"""What the boot tests share: kernels, initramfs, and how lhyve (or QEMU, to prove the tests) is started."""
import os
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.abspath(os.path.join(HERE, "../.."))
sys.path.insert(0, os.path.join(HERE, ".."))
from tap import Skip  # noqa: E402

CACHE = os.environ.get("LHYVE_CACHE", os.path.join(ROOT, "build/cache"))
LHYVE = os.environ.get("LHYVE", os.path.join(ROOT, "build/lhyve"))
BASE_CMDLINE = "console=ttyS0 quiet panic=-1"

# lhyve(8)'s exit status by the guest's end. QEMU has one for all that end it.
EXIT = {"reboot": 0, "poweroff": 1, "halt": 2, "triple": 3, "error": 4}

# QEMU's run says these too, but only when the host is busy (seen in some of its runs, not in others).
BUSY_HOST = {"tsc: Unable to calibrate against PIT"}


def script(name, *args, **environment):
    env = dict(os.environ, LHYVE_CACHE=CACHE, **environment)
    r = subprocess.run([os.path.join(ROOT, "scripts", name), *args], cwd=ROOT, env=env, capture_output=True, text=True)
    if r.returncode == 75:
        raise Skip(r.stderr.strip().splitlines()[-1] if r.stderr.strip() else f"{name} {' '.join(args)}")
    if r.returncode != 0:
        raise RuntimeError(f"{name} {' '.join(args)}: exit {r.returncode}\n{r.stdout}{r.stderr}")
    return r.stdout.strip()


def tree(name, *packages):
    """The folder with these packages and all they depend on (scripts/fetch-tree); `name` tells trees apart."""
    path = os.path.join(CACHE, f"tree-{name}")
    script("fetch-tree", "amd64", path, *packages)
    return path


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read().strip()


class Kernel:
    """A distribution kernel and the initramfs that goes with it: `files` in /bin (modules: /lib), `tree` as /tree."""

    def __init__(self, flavour, files=(), tree=""):
        self.flavour = flavour
        self.dir = script("fetch-kernel", flavour)
        self.path = os.path.join(self.dir, "vmlinuz")
        self.release = read(os.path.join(self.dir, "release"))
        self.package = read(os.path.join(self.dir, "package"))
        self.initrd = os.path.join(CACHE, f"test-{flavour}-{os.getpid()}.cpio.gz")
        modules = []
        for folder, _, names in os.walk(self.dir):
            modules += [os.path.join(folder, n) for n in names if n in ("button.ko", "evdev.ko")]
        self.pack([*sorted(modules), *files], tree)

    def pack(self, files, tree=""):
        """Make the initramfs anew."""
        script("mkinitramfs", "i386" if self.flavour.startswith("686") else "amd64", self.initrd, *files, TREE=tree)

    def modules(self, pattern):
        """The kernel's modules whose names fit a regular expression."""
        return sorted(os.path.join(folder, n) for folder, _, names in os.walk(self.dir) for n in names
                      if re.fullmatch(pattern + r"\.ko", n))

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        os.unlink(self.initrd)


def command(vmm, kernel, cmdline="", cpus=1, memory="512M", initrd=None, options=(), path=None):
    """The argument vector that boots `kernel` with com1 on standard input and output."""
    path = path or kernel.path
    initrd = initrd or kernel.initrd
    words = f"{BASE_CMDLINE} {cmdline}".strip()
    if vmm == "qemu":
        return ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-nodefaults",
                "-display", "none", "-chardev", "stdio,id=com1,signal=off", "-serial", "chardev:com1", "-no-reboot", "-m", memory, "-smp", str(cpus),
                "-kernel", path, "-initrd", initrd, "-append", words]
    engine = os.environ.get("LHYVE_ENGINE", "soft")
    return [LHYVE, "-m", memory, "-c", str(cpus), "-l", "com1,stdio", "-o", f"engine={engine}",
            "-o", f"boot.kernel={path}", "-o", f"boot.initrd={initrd}", "-o", f"boot.cmdline={words}",
            *options, "test"]


def expected_exit(vmm, end):
    return 0 if vmm == "qemu" else EXIT[end]


class Ended:
    def __init__(self, status, out, err, seconds):
        self.status, self.out, self.err, self.seconds = status, out, err, seconds

    def between(self, start, end):
        """The lines between two marker lines."""
        lines = self.out.splitlines()
        if start not in lines or end not in lines:
            raise AssertionError(f"no '{start}' ... '{end}' in the guest's output:\n{self.out[-3000:]}\n{self.err}")
        return lines[lines.index(start) + 1:lines.index(end)]


def run(argv, stdin=subprocess.DEVNULL):
    """Run to the end (the test's own timeout guards against hangs)."""
    start = time.monotonic()
    r = subprocess.run(argv, stdin=stdin, capture_output=True)
    return Ended(r.returncode, r.stdout.decode(errors="replace").replace("\r", ""),
                 r.stderr.decode(errors="replace"), time.monotonic() - start)


def normal(line):
    """A kernel message without what differs from run to run: time stamp, numbers, addresses."""
    line = re.sub(r"^<\d+>", "", line)
    line = re.sub(r"^\[\s*[\d.]+\]\s*", "", line)
    return re.sub(r"0x[0-9a-fA-F]+|\b[0-9a-fA-F]{6,}\b|\d+", "N", line)
