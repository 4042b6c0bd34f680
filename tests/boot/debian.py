#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""A Debian on a disk image (examples/debian): systemd, login, ssh, transfers, fio, a power cut, fsck, a second boot."""
import concurrent.futures
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import pexpect

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import vmm  # noqa: E402
import tap  # noqa: E402

GUARD = int(os.environ.get("LHYVE_GUARD", "900"))  # seconds: against hangs only
PROMPT = "root@debian:~# "
os.environ["PATH"] += ":/usr/sbin:/sbin"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def build():
    env = dict(os.environ, LHYVE_CACHE=vmm.CACHE, EXTRA="fio iperf3")
    r = subprocess.run([os.path.join(vmm.ROOT, "examples/debian/build")], env=env, capture_output=True, text=True)
    if r.returncode == 75:
        raise tap.Skip(r.stderr.strip().splitlines()[-1])
    assert r.returncode == 0, r.stderr
    return r.stdout.strip()


class Machine:
    def __init__(self, folder, tmp, *options):
        self.folder, self.port = folder, free_port()
        self.image = os.path.join(tmp, "root.raw")
        self.pidfile = None
        engine = os.environ.get("LHYVE_ENGINE", "soft")
        self.name = f"debian-{os.getpid()}"
        argv = ["-k", os.path.join(folder, "debian.conf"), "-o", f"engine={engine}", "-o", f"disk.root.path={self.image}",
                "-o", f"net.lan.hostfwd=tcp:127.0.0.1:{self.port}-:22", *options, self.name]
        self.p = pexpect.spawn(vmm.LHYVE, argv, timeout=GUARD, encoding="utf-8", codec_errors="replace",
                               dimensions=(24, 200))

    def wait_login(self):
        self.p.expect_exact(PROMPT)
        # sshd may be a moment later than the console.
        while self.ssh("true", check=False).returncode != 0:
            assert self.p.isalive(), self.p.before

    def ssh(self, command, check=True, **kwargs):
        argv = ["ssh", "-q", "-i", os.path.join(self.folder, "key"), "-p", str(self.port), "-o", "BatchMode=yes",
                "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=20",
                "root@127.0.0.1", command]
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        r = subprocess.run(argv, capture_output=True, timeout=GUARD, **kwargs)
        assert not check or r.returncode == 0, f"{command}: {r.returncode}\n{r.stdout[-1000:]}\n{r.stderr[-1000:]}"
        return r

    def ctl(self, *words):
        program = os.path.join(os.path.dirname(vmm.LHYVE), "lhyvectl")
        r = subprocess.run([program, words[0], self.name, *words[1:]], capture_output=True, text=True, timeout=GUARD)
        assert r.returncode == 0, r.stderr

    def text(self, command):
        return self.ssh(command).stdout.decode(errors="replace").strip()

    def end(self):
        self.p.expect(pexpect.EOF)
        self.p.wait()
        return self.p.exitstatus


def md5(data):
    return hashlib.md5(data).hexdigest()


def system_runs(m):
    state = m.text("systemctl is-system-running --wait || true")
    failed = m.text("systemctl --failed --no-legend --plain")
    assert state == "running" and failed == "", f"{state}: {failed}"
    assert m.text("findmnt -n -o SOURCE,FSTYPE /").split() == ["/dev/vda", "ext4"]


def transfers(m):
    data = os.urandom(1 << 20) * 256
    assert m.ssh("cat >/root/big && md5sum </root/big", stdin=None, input=data).stdout.split()[0].decode() == md5(data)
    m.ssh("sync; echo 3 >/proc/sys/vm/drop_caches")
    assert md5(m.ssh("cat /root/big").stdout) == md5(data), "what came back is something else"
    m.ssh("rm /root/big")


def packages(m):
    """The mirror that the image was built from, from inside."""
    r = m.ssh("apt-get -q -o Acquire::http::Timeout=20 update && apt-get -q -y install hello && hello", check=False)
    if r.returncode != 0 and b"Hello" not in r.stdout:
        if re.search(rb"(Could not|Unable to|Failed to|Temporary failure|Cannot initiate)", r.stdout + r.stderr):
            raise tap.Skip("the mirror cannot be reached from a guest here")
    assert b"Hello, world!" in r.stdout, (r.stdout + r.stderr)[-2000:]


def iperf(m):
    if not shutil.which("iperf3"):
        raise tap.Skip("iperf3 is not installed here")
    port = free_port()
    server = subprocess.Popen(["iperf3", "-s", "-1", "-p", str(port)], stdout=subprocess.DEVNULL)
    try:
        out = m.text(f"iperf3 -c 10.0.2.2 -p {port} -t 3 -f m")
    finally:
        server.terminate()
        server.wait()
    tap.Tap.note(re.findall(r".*receiver", out)[-1])


def lspci(m):
    out = m.text("lspci -vv")
    assert out.count("Kernel driver in use: virtio-pci") == 2 and "MSI-X: Enable+" in out, out
    assert out.count("VirtIO: CommonCfg") == 2 and "!!!" not in out and "<access denied>" not in out, out
    assert m.text("lspci -xxxx -s 1f.0 | wc -l") != "0"


def rebind(m):
    """The network card, from a job that outlives the connection."""
    m.ssh("cd /sys/bus/pci/drivers/virtio-pci && setsid sh -c 'echo 0000:00:02.0 >unbind; sleep 1; "
          "echo 0000:00:02.0 >bind; echo done >/run/rebound' >/dev/null 2>&1 </dev/null &")
    while m.ssh("cat /run/rebound", check=False).stdout.strip() != b"done":
        assert m.p.isalive()


def fio(m):
    m.ssh("fio --name=v --directory=/root --size=64M --bs=4k --rw=randwrite --ioengine=libaio --iodepth=16 --direct=1 "
          "--verify=crc32c --do_verify=1 --verify_fatal=1 --randrepeat=0 --output=/root/fio.log; grep -q 'err= 0' /root/fio.log")


def under_load(m, load, fn, rounds):
    """fn(round) again and again while `load` runs in the guest."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(m.ssh, load)
        for n in range(rounds):
            time.sleep(0.3)
            fn(n)
        return running.result()


def paused(m):
    """Pause and resume while a disk is verified: nothing in flight is lost."""
    under_load(m, "fio --name=p --directory=/root --size=32M --bs=4k --rw=randrw --ioengine=libaio --iodepth=16 --direct=1 "
               "--verify=crc32c --verify_fatal=1 --runtime=8 --time_based", lambda n: (m.ctl("pause"), m.ctl("resume")), 12)


def flaps(m):
    """The cable out and in while a file comes: TCP carries it over."""
    slot = next(w.split(":")[1].split(".")[0] for w in m.text("lspci").split() if w.startswith("00:02"))
    key = f"pci.0.{int(slot, 16)}.0.link"
    under_load(m, "head -c 300M /dev/zero | md5sum >/dev/null; sleep 3", lambda n: m.ctl("config", f"{key}={'true' if n % 2 else 'false'}"), 8)
    assert m.text("cat /sys/class/net/e*/carrier") == "1"
    changes = m.text("cat /sys/class/net/e*/carrier_changes")
    assert int(changes) >= 8, changes


def power_cut(m):
    """What was flushed is there after kill -9; what fsck finds is a journal to replay, no more."""
    data = os.urandom(8 << 20)
    m.ssh("cat >/root/flushed && sync /root/flushed && sync -f /root", stdin=None, input=data)
    # Writers that never flush, to be cut in the middle.
    m.ssh("setsid sh -c 'while :; do dd if=/dev/urandom of=/root/noise.$((n++ % 8)) bs=64k count=64; done' "
          ">/dev/null 2>&1 </dev/null &")
    m.ssh("fio --name=w --directory=/root --size=32M --bs=4k --rw=randwrite --fsync=16 --runtime=3 --time_based >/dev/null")
    os.kill(m.p.pid, signal.SIGKILL)
    m.end()
    r = subprocess.run(["e2fsck", "-fy", m.image], capture_output=True, text=True)
    assert r.returncode in (0, 1), r.stdout + r.stderr
    r = subprocess.run(["e2fsck", "-fn", m.image], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout + r.stderr
    r = subprocess.run(["debugfs", "-R", "cat /root/flushed", m.image], capture_output=True)
    assert md5(r.stdout) == md5(data), f"{len(r.stdout)} bytes of {len(data)} are there, or others"
    return md5(data)


def survives(folder, tmp, t):
    m = Machine(folder, tmp)
    m.wait_login()
    t.check("it boots again after the power cut", m.text("md5sum /root/flushed") != "")
    t.case("its system runs again", system_runs, m)
    m.ssh("poweroff", check=False)
    t.equal("it powers off", m.end(), vmm.EXIT["poweroff"])
    r = subprocess.run(["e2fsck", "-fn", m.image], capture_output=True, text=True)
    t.check("fsck finds nothing", r.returncode == 0, r.stdout + r.stderr)


def main():
    t = tap.Tap()
    try:
        folder = build()
    except tap.Skip as e:
        t.skip("debian", e)
        t.done()
    with tempfile.TemporaryDirectory() as tmp:
        subprocess.run(["cp", "--sparse=always", os.path.join(folder, "root.raw"), tmp], check=True)
        m = Machine(folder, tmp)
        m.wait_login()
        t.check("it boots to a login, and ssh gets in", True)
        for name, fn in (("its system runs", system_runs), ("lspci -vv", lspci), ("256 MiB in and out", transfers),
                         ("apt-get install", packages), ("iperf3", iperf), ("unbound and bound again", rebind),
                         ("fio verifies", fio),
                         ("paused and resumed under load", paused), ("link flaps under load", flaps), ("a power cut", power_cut)):
            t.case(name, fn, m)
        survives(folder, tmp, t)
    t.done()


main()
