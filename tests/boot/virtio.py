#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""virtio devices under Linux: busybox, the modules of the kernel's package, and what happens to disks and networks."""
import hashlib
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading

import pexpect

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import vmm  # noqa: E402
import tap  # noqa: E402

GUARD = int(os.environ.get("LHYVE_GUARD", "120"))  # seconds: against hangs only
MIB = 1 << 20


def modules(kernel):
    found = []
    for folder, _, names in os.walk(kernel.dir):
        found += [os.path.join(folder, n) for n in names if re.match(r"(virtio.*|.*failover)\.ko", n)]
    return sorted(found)


class Lab:
    def __init__(self, t, tmp):
        self.t, self.tmp = t, tmp
        self.ctl = os.path.join(os.path.dirname(vmm.LHYVE), "lhyvectl")
        self.kernel = vmm.Kernel("cloud-amd64")
        guest = os.path.join(tmp, "virtio_guest")
        with open(os.path.join(vmm.HERE, "virtio-guest"), encoding="utf-8") as f, \
                open(guest, "w", encoding="utf-8") as to:
            to.write(f.read())
        vmm.script("mkinitramfs", "amd64", self.kernel.initrd, guest, *modules(self.kernel))

    def path(self, name):
        return os.path.join(self.tmp, name)

    def image(self, name, mib, start=b""):
        with open(self.path(name), "wb") as f:
            f.write(start)
            f.truncate(mib * MIB)
        return self.path(name)

    def command(self, work, options, cpus=1, name="vm"):
        argv = vmm.command("lhyve", self.kernel, f"lhyve.run=virtio;virtio_guest,{work};poweroff", cpus=cpus,
                           memory="256M", options=options)
        return argv[:-1] + [self.name(name)]

    @staticmethod
    def name(name):
        return f"virtio-{os.getpid()}-{name}"

    def spawn(self, argv):
        p = pexpect.spawn(argv[0], argv[1:], timeout=GUARD, encoding="utf-8", codec_errors="replace", echo=False)
        p.delaybeforesend = None
        return p


def answer(p, pattern):
    """The match of `pattern` at the beginning of a line of the guest's."""
    p.expect(r"\n" + pattern + r"\r*(?=\n)")
    return p.match


def ended(p):
    p.expect(pexpect.EOF)
    p.wait()
    return p.exitstatus


def md5(data):
    return hashlib.md5(data).hexdigest()


# ---- what the guest and the host do together, one work after the other ----

def disk(lab, p, image, queues):
    m = answer(p, r"disk: serial (\S*)")
    assert m[1] == "SERIAL-0", m[1]
    m = answer(p, r"disk: sectors (\d+) of (\d+), queues (\d+)")
    assert (int(m[1]), int(m[2]), int(m[3])) == (64 * MIB // 512, 512, queues), m[0]
    m = answer(p, r"disk: sums (\w+) (\w+) (\w+)")
    assert m[1] == m[2] == m[3], m[0].strip()
    with open(image, "rb") as f:
        assert md5(f.read(4 * MIB)) == m[1], "the image has other bytes than the guest wrote"
    m = answer(p, r"disk: discarded (\d+)")
    assert m[1] == "0", f"{m[1]} bytes are left"
    return True


def readonly_disk(p):
    answer(p, "MAGIC")
    m = answer(p, r"readonly: (.*?)")
    assert m[1] == "refused, ro 1", m[1]


def full_disk(p, filler):
    answer(p, "full: error")
    os.unlink(f"/proc/{p.pid}/root{filler}")
    answer(p, "full: room again")


def shrunk_disk(p, image):
    answer(p, "65536")
    answer(p, "shrunk: ready")
    os.truncate(image, MIB)
    p.send("\r")
    answer(p, "0")
    answer(p, "shrunk: end 65536")


def busy(lab, image):
    r = subprocess.run(lab.command("disk", ["-s", f"3,virtio-blk,{image}"], name="busy"), capture_output=True, text=True,
                       stdin=subprocess.DEVNULL, timeout=GUARD)
    assert r.returncode == 4 and f"{image} is in use by another process" in r.stderr, r.stderr


class File(http.server.BaseHTTPRequestHandler):
    data = bytes(range(256)) * 4096

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.data)))
        self.end_headers()
        self.wfile.write(self.data)

    def log_message(self, *unused):
        pass


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def talk(port, send=None):
    """Connect to a forwarded port until the guest's end is there; what it sends, or None when it takes all of ours."""
    while True:
        with socket.create_connection(("127.0.0.1", port), timeout=GUARD) as s:
            if send is not None:
                s.sendall(send)
                s.shutdown(socket.SHUT_WR)
            got = b""
            try:
                while part := s.recv(65536):
                    got += part
            except ConnectionResetError:
                continue
            if send is not None or got:
                return got


def network(p, ports, mtu):
    m = answer(p, r"network: mtu (\d+), carrier (\d)")
    assert (m[1], m[2]) == (str(mtu), "1"), m[0]
    m = answer(p, r"network: lease (.*?)")
    assert m[1] == "lease of 10.0.2.15", m[1]
    m = answer(p, r"network: got (\w+)")
    assert m[1] == md5(File.data), m[0]
    answer(p, "network: listening")
    sent = md5(talk(ports[0]))
    data = os.urandom(3 * MIB)
    talk(ports[1], data)
    m = answer(p, r"network: sent (\w+), received (\w+)")
    assert m[1] == sent, "what the guest sent came as something else"
    assert m[2] == md5(data), "the guest got something else"


def cable(lab, p, name):
    """Out and in, by the control socket; the guest sees it, and traffic goes on."""
    answer(p, "cable: ready")
    for on in (0, 1):
        r = subprocess.run([lab.ctl, "config", name, f"pci.0.8.0.link={'true' if on else 'false'}"], capture_output=True,
                           text=True, timeout=GUARD)
        assert r.returncode == 0, r.stderr
        answer(p, f"cable: carrier {on}")
    m = answer(p, r"cable: (\d) packets received")
    assert m[1] == "3", m[0]


def counters(lab, name):
    """What went through the devices so far is counted."""
    r = subprocess.run([lab.ctl, "stats", name, "--json"], capture_output=True, text=True, timeout=GUARD, check=True)
    devices = json.loads(r.stdout)["devices"]
    disk, card = devices["pci.0.3.0.blk"], devices["pci.0.8.0.net"]
    assert disk["read_bytes"] > 0 and disk["write_bytes"] > 0 and disk["flush_requests"] > 0, disk
    assert disk["read_bytes"] % 512 == 0 and disk["failed_requests"] == 0, disk
    assert devices["pci.0.4.0.blk"]["write_bytes"] == 0, devices
    assert devices["pci.0.5.0.blk"]["failed_requests"] > 0, devices  # the full host disk
    assert card["rx_bytes"] >= 60 * card["rx_frames"] // 2 > 0 and card["tx_frames"] > 0, card


def port(p, path):
    answer(p, "port: org.lhyve.test")
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(GUARD)
        s.connect(path)
        s.sendall(b"hello from the host\n")
        got = b""
        while not got.endswith(b"\n"):
            got += s.recv(100)
    assert got == b"HELLO FROM THE HOST\n", got
    answer(p, "port: done")


def random(p):
    m = answer(p, r"random: (\d+)")
    assert int(m[1]) > 99000, f"100000 bytes were packed to {m[1]}"


def rebind(p, functions, image):
    m = answer(p, r"rebind: (\d+) functions, sum (\w+)")
    with open(image, "rb") as f:
        assert (int(m[1]), m[2]) == (functions, md5(f.read(4 * MIB))), m[0]


def in_small_tmpfs(lab, argv, mib, filler_mib):
    """The command with a tmpfs of its own at TMP/small, all but used up by a file; or None."""
    small = lab.path("small")
    os.mkdir(small)
    script = (f"mount -t tmpfs -o size={mib}m none {small} && truncate -s 16M {small}/full.raw && "
              f"head -c {filler_mib}M /dev/zero >{small}/filler && exec \"$@\"")
    unshare = ["unshare", "-m" if os.geteuid() == 0 else "-rm"]
    if subprocess.run([*unshare, "sh", "-c", script, "sh", "true"], capture_output=True).returncode != 0:
        return None
    return [*unshare, "sh", "-c", script, "sh", *argv]


def everything(lab, name, cpus, extra, split):
    """One VM with all devices. extra: options; split: no packed queues."""
    t = lab.t
    tag = "split" if split else "packed"
    suffix = ",packed=false" if split else ""
    queues = cpus
    image = lab.image(f"{tag}-a.raw", 64)
    ro = lab.image(f"{tag}-b.raw", 1, b"MAGIC\n")
    shrink = lab.image(f"{tag}-d.raw", 16)
    sock = lab.path(f"{tag}.sock")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), File)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ports = [free_port(), free_port()]
    forward = ";".join(f"tcp:127.0.0.1:{p}-:{g}" for p, g in zip(ports, (7, 8)))
    work = f"disk,readonly_disk,full_disk,shrunk_disk,random,network:{server.server_port},cable,port,rebind"
    options = ["-s", f"3,virtio-blk,{image},ser=SERIAL-0,queues={queues}{suffix}",
               "-s", f"4,virtio-blk,{ro},ro{suffix}", "-s", f"5,virtio-blk,{lab.path('small')}/full.raw{suffix}",
               "-s", f"6,virtio-blk,{shrink},aio=threads{suffix}", "-s", "10,pci-bridge,bus=1",
               "-s", "1:3:0,virtio-rnd",
               "-s", f"8,virtio-net,user,hostfwd={forward},queues={queues}{suffix}",
               "-s", f"9,virtio-console,org.lhyve.test={sock}", *extra]
    argv = in_small_tmpfs(lab, lab.command(work, options, cpus), 6, 4)
    if argv is None:
        t.skip(name, "no mount namespaces here")
        return
    p = lab.spawn(argv)
    for case, fn, *args in (("a disk", disk, lab, p, image, queues), ("a busy image", busy, lab, image),
                            ("a read-only disk", readonly_disk, p),
                            ("a full host disk", full_disk, p, f"{lab.path('small')}/filler"),
                            ("a shrunk image", shrunk_disk, p, shrink), ("random numbers", random, p),
                            ("a network", network, p, ports, 65520), ("the cable out and in", cable, lab, p, lab.name("vm")), ("counters", counters, lab, lab.name("vm")), ("a port", port, p, sock),
                            ("unbound and bound again", rebind, p, 7, image)):
        t.case(f"{name}: {case}", fn, *args)
        if not p.isalive():
            t.note(p.before[-2000:] if isinstance(p.before, str) else "")
            break
    t.equal(f"{name}: powers off", ended(p), vmm.EXIT["poweroff"])
    server.shutdown()
    os.rmdir(lab.path("small"))


def qemu_on_wire(lab, work, own, other):
    return vmm.command("qemu", lab.kernel, f"lhyve.run=virtio;virtio_guest,{work};poweroff", memory="256M") + [
        "-netdev", f"dgram,id=n,local.type=unix,local.path={own},remote.type=unix,remote.path={other}",
        "-device", "virtio-net-pci,netdev=n,mac=52:54:00:00:00:02,disable-legacy=on"]


def pair(lab, other_vmm):
    """Two VMs with a wire between them; the second may be QEMU, for which the first's frames are as good."""
    if other_vmm == "qemu" and not shutil.which("qemu-system-x86_64"):
        raise tap.Skip("qemu-system-x86_64 is not installed")
    a, b = lab.path("wire.a"), lab.path("wire.b")
    first = lab.command("ping_peer:1:2", ["-s", f"3,virtio-net,unix,path={a},peer={b}"], name="vm1")
    second = qemu_on_wire(lab, "ping_peer:2:1", b, a) if other_vmm == "qemu" else \
        lab.command("ping_peer:2:1", ["-s", f"3,virtio-net,unix,path={b},peer={a}"], name="vm2")
    vms = [lab.spawn(first), lab.spawn(second)]
    for p in vms:
        m = answer(p, r"ping: (\d) packets received")
        assert m[1] == "5", m[0]
    for p, which in zip(vms, ("lhyve", other_vmm)):
        p.send("\r")
        assert ended(p) == vmm.expected_exit(which, "poweroff")
    assert not os.path.exists(a), "a socket is left behind"
    if os.path.exists(b):
        os.unlink(b)  # QEMU leaves its own


# In the tap's network namespace: what comes on port 7 goes back on port 8; its sum is printed.
ECHO = """
import hashlib, socket
def serve(port, data=None):
    with socket.create_server(("10.8.0.1", port)) as s:
        c, _ = s.accept()
        with c:
            if data is not None:
                return c.sendall(data)
            got = b""
            while part := c.recv(65536):
                got += part
            return got
got = serve(7)
print(hashlib.md5(got).hexdigest())
serve(8, got)
"""


def on_tap(lab):
    """A tap interface in a network namespace of the VM's own: 8 MiB there and back, with TCP segmentation left undone."""
    unshare = ["unshare", "-n" if os.geteuid() == 0 else "-rn"]
    if not (shutil.which("ip") and shutil.which("nsenter") and os.path.exists("/dev/net/tun")) or \
            subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
        raise tap.Skip("no ip(8), no /dev/net/tun, or no network namespaces here")
    p = lab.spawn([*unshare, *lab.command("tap", ["-s", "3,virtio-net,tap0"])])
    answer(p, "tap: ready")
    enter = ["nsenter", "-t", str(p.pid), "-n"] + ([] if os.geteuid() == 0 else ["-U", "--preserve-credentials"])
    for words in ("addr add 10.8.0.1/24 dev tap0", "link set tap0 up"):
        subprocess.run([*enter, "ip", *words.split()], check=True, capture_output=True)
    r = subprocess.run([*enter, sys.executable, "-c", ECHO], capture_output=True, text=True, timeout=GUARD, check=True)
    m = answer(p, r"tap: sums (\w+) (\w+)")
    assert m[1] == m[2] == r.stdout.strip(), f"{m[0].strip()}, the host got {r.stdout}"
    assert ended(p) == vmm.EXIT["poweroff"]


def main():
    t = tap.Tap()
    with tempfile.TemporaryDirectory() as tmp:
        try:
            lab = Lab(t, tmp)
        except tap.Skip as e:
            t.skip("virtio", e)
            t.done()
        with lab.kernel:
            everything(lab, "packed, MSI-X, 2 CPUs", 2, [], False)
            everything(lab, "split, lines", 1, ["-W"], True)
            t.case("two VMs on a wire", pair, lab, "lhyve")
            t.case("a wire to QEMU", pair, lab, "qemu")
            t.case("a tap interface", on_tap, lab)
    t.done()


main()
