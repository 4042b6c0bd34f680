#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""virtio devices under Linux: busybox, the modules of the kernel's package, and what happens to disks and networks."""
import hashlib
import http.server
import os
import re
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

    def command(self, work, options, cpus=1):
        return vmm.command("lhyve", self.kernel, f"lhyve.run=virtio;virtio_guest,{work};poweroff", cpus=cpus,
                           memory="256M", options=["-o", "control.socket=none", *options])  # VMs of one name

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
    r = subprocess.run(lab.command("disk", ["-s", f"3,virtio-blk,{image}"]), capture_output=True, text=True,
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
    work = f"disk,readonly_disk,full_disk,shrunk_disk,random,network:{server.server_port},port,rebind"
    options = ["-s", f"3,virtio-blk,{image},ser=SERIAL-0,queues={queues}{suffix}",
               "-s", f"4,virtio-blk,{ro},ro{suffix}", "-s", f"5,virtio-blk,{lab.path('small')}/full.raw{suffix}",
               "-s", f"6,virtio-blk,{shrink},aio=threads{suffix}", "-s", "7,virtio-rnd",
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
                            ("a network", network, p, ports, 65520), ("a port", port, p, sock),
                            ("unbound and bound again", rebind, p, 7, image)):
        t.case(f"{name}: {case}", fn, *args)
        if not p.isalive():
            t.note(p.before[-2000:] if isinstance(p.before, str) else "")
            break
    t.equal(f"{name}: powers off", ended(p), vmm.EXIT["poweroff"])
    server.shutdown()
    os.rmdir(lab.path("small"))


def pair(lab):
    """Two VMs with a wire between them."""
    a, b = lab.path("wire.a"), lab.path("wire.b")
    vms = [lab.spawn(lab.command(f"ping_peer:{n}:{m}", ["-s", f"3,virtio-net,unix,path={own},peer={other}",
                                                        "-o", f"name=vm{n}"]))
           for n, m, own, other in ((1, 2, a, b), (2, 1, b, a))]
    for p in vms:
        m = answer(p, r"ping: (\d) packets received")
        assert m[1] == "5", m[0]
    for p in vms:
        p.send("\r")
        assert ended(p) == vmm.EXIT["poweroff"]
    assert not os.path.exists(a) and not os.path.exists(b), "a socket is left behind"


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
            t.case("two VMs on a wire", pair, lab)
    t.done()


main()
