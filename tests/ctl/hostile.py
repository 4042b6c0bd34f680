#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Clients that are silent, slow or hostile; VMs that are killed; names that are taken. hostile.py GUEST"""
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402
import vm  # noqa: E402
from vm import VM  # noqa: E402


def served(v):
    """The control socket answers, and the guest runs meanwhile."""
    first = v.get("/stats").json["cpus"][0]["instructions"]
    while v.get("/stats").json["cpus"][0]["instructions"] == first:
        pass
    return v.status()["state"] == "running"


def descriptors(v):
    return len(os.listdir(f"/proc/{v.process.pid}/fd"))


def answer(s):
    """All that comes until the other end closes."""
    data = b""
    while True:
        try:
            part = s.recv(65536)
        except ConnectionError:
            return data
        if not part:
            return data
        data += part


def cut_off(s):
    try:
        return answer(s) is not None
    except socket.timeout:
        return False


def slow(t, v):
    """Of a set of clients that never finish, each is cut off, and nobody else waits for them."""
    starts = {
        "nothing at all": b"",
        "half a request line": b"GET /sta",
        "half a header": b"GET /status HTTP/1.1\r\nHo",
        "headers without an end": b"GET /status HTTP/1.1\r\nHost: x\r\n",
        "half a body": b"POST /nmi HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
        "half a chunk": b"POST /nmi HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{",
        "a request that waits for a reader": b"GET /regs HTTP/1.1\r\nHost: x\r\n\r\n" * 60,
    }
    clients = {name: vm.dial(v.path) for name in starts}
    for name, s in clients.items():
        s.sendall(starts[name])
    drip = vm.dial(v.path)
    t.check("slow clients are there: others are served", served(v))
    dripped = 0
    try:
        while True:  # a byte now and then, for ever
            drip.sendall(b"G" if dripped == 0 else b"E")
            dripped += 1
            time.sleep(0.3)
            served(v)
    except OSError:
        pass
    t.check("one byte at a time: cut off", dripped > 3, dripped)
    drip.close()
    for name, s in clients.items():
        t.check(f"{name}: cut off", cut_off(s))
        s.close()


def crowd(t, v):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    before = descriptors(v)
    clients, most = [], 0
    for i in range(1000):
        clients.append(vm.dial(v.path))
        if i % 100 == 99:
            t.check(f"{i + 1} silent clients: one more is served", served(v))
            most = max(most, descriptors(v))
    t.check("no more than 64 of them are held", most - before <= 70, f"{before} {most}")
    for s in clients:
        s.close()
    t.check("1000 went: served", served(v))
    for _ in range(1000):
        with vm.dial(v.path) as s:
            s.sendall(b"GET /sta")
    t.check("1000 came and went: served", served(v))
    while descriptors(v) > before + 2:
        v.status()
    t.check("their descriptors are free again", True)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def garbage(t, v):
    sends = {
        "random bytes": os.urandom(100000),
        "zero bytes": bytes(100000),
        "one endless line": b"GET /" + b"a" * 200000,
        "a huge header": b"GET /status HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200000 + b"\r\n\r\n",
        "many headers": b"GET /status HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 20000 + b"\r\n",
        "many arguments": b"GET /regs?" + b"cpu=1&" * 10000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        "a body of 16 EiB": b"POST /nmi HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551615\r\n\r\n",
        "a negative length": b"POST /nmi HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "a length that is none": b"POST /nmi HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        "a chunk that is none": b"POST /nmi HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "a chunk of 16 EiB": b"POST /nmi HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        "no host": b"GET /status HTTP/1.1\r\n\r\n",
        "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
        "a version from the future": b"GET /status HTTP/9.9\r\nHost: x\r\n\r\n",
        "a TLS greeting": bytes.fromhex("1603010200010001fc0303") + os.urandom(500),
    }
    for name, data in sends.items():
        with vm.dial(v.path) as s:
            try:
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            got = answer(s)
        t.check(f"{name}: refused", not got.startswith(b"HTTP/1.1 2") and served(v), got[:200])
    with vm.dial(v.path) as s:
        s.sendall(b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n" * 50 + b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        t.equal("51 requests at once", answer(s).count(b"HTTP/1.1 200"), 51)
    with vm.dial(v.path) as s:
        s.sendall(b"GET /status HTTP/1.0\r\n\r\n")
        t.check("HTTP/1.0", answer(s).startswith(b"HTTP/1.") and served(v))
    with vm.dial(v.path) as s:
        s.sendall(b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n")
        s.shutdown(socket.SHUT_WR)
        got = answer(s)
    t.check("a client that says nothing more is answered", got.startswith(b"HTTP/1.1 200"), got[:200])
    for _ in range(100):
        with vm.dial(v.path) as s:
            s.sendall(b"GET /regs HTTP/1.1\r\nHost: x\r\n\r\n")
    t.check("100 asked and were gone before the answer", served(v))


def killed(t):
    with VM("mortal") as v:
        v.process.kill()
        v.process.wait()
    t.equal("killed: its files are there", vm.left_behind(), ["mortal.sock", "mortal.sock.lock"])
    r = vm.ctl("list")
    t.check("list shows the living only", r.returncode == 0 and "mortal" not in r.stdout, r)
    with VM("mortal") as v:
        t.check("its next start takes over", served(v))
        v.process.send_signal(signal.SIGABRT)
        v.process.wait()
    with VM("mortal") as v:
        t.check("after an abort, too", served(v))
        v.post("/destroy")
        v.ended()
    t.equal("nothing is left", vm.left_behind(), [])
    for i in range(20):  # killed at any moment of its start
        p = subprocess.Popen([vm.LHYVE, "-m", "32M", "-o", f"boot.kernel={vm.GUEST}", "mortal"], stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.001 * (i % 10))
        p.kill()
        p.wait()
    with VM("mortal") as v:
        t.check("killed 20 times while it started", served(v))


def same_name(t):
    with VM("twin") as v:
        r = vm.lhyve("-m", "32M", "-o", f"boot.kernel={vm.GUEST}", "twin")
        want = f"lhyve: control.socket: {v.path}: a VM with this socket is running (choose another name)\n"
        t.equal("the second of a name is refused", (r.returncode, r.stdout, r.stderr), (4, "", want))
        t.check("the first goes on", served(v))
        many = [subprocess.Popen([vm.LHYVE, "-m", "32M", "-o", f"boot.kernel={vm.GUEST}", "twin"],
                                 stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(5)]
        t.equal("and five more at once", [(p.communicate()[1].decode(), p.returncode) for p in many], [(want, 4)] * 5)
        t.check("the first still goes on", served(v))
    racers = [subprocess.Popen([vm.LHYVE, "-m", "32M", "-l", "pc-testdev", "-o", f"boot.kernel={vm.GUEST}", "race"],
                               stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(6)]
    losers = 0
    while losers < 5:
        losers += os.waitstatus_to_exitcode(os.waitpid(-1, 0)[1]) == 4
    t.equal("of six that start at once one lives", vm.ask(vm.socket_of("race"), "GET", "/status").json["name"], "race")
    vm.ask(vm.socket_of("race"), "POST", "/destroy")
    for p in racers:
        try:
            p.wait()
        except ChildProcessError:
            pass


def paths(t):
    def refused(name, path, want, env=None):
        r = vm.lhyve("-m", "32M", "-o", f"boot.kernel={vm.GUEST}", "-o", f"control.socket={path}", "paths", env=env)
        t.check(name, r.returncode == 4 and want in r.stderr and r.stderr.count("\n") == 1, f"{r.returncode} {r.stderr}")
    plain = os.path.join(vm.RUNTIME, "plain")
    with open(plain, "w", encoding="utf-8") as f:
        f.write("precious")
    refused("a file that is no socket is left alone", plain, "it is there, and no socket")
    with open(plain, encoding="utf-8") as f:
        t.equal("what is in it stays", f.read(), "precious")
    refused("a folder", vm.RUNTIME, "no socket")
    link = os.path.join(vm.RUNTIME, "link")
    os.symlink(plain, link)
    refused("a symbolic link", link, "no socket")
    os.symlink(plain, os.path.join(vm.RUNTIME, "s.lock"))
    refused("a lock that is a symbolic link", os.path.join(vm.RUNTIME, "s"), "symbolic link")
    refused("a path too long", os.path.join(vm.RUNTIME, "x" * 120), "longer than a socket's name")
    refused("no such folder", "/nowhere/at/all/sock", "No such file or directory")
    own = os.path.join(vm.RUNTIME, "deep", "own.sock")
    with VM("own", "-o", f"control.socket={own}") as v:
        v.path = own
        t.check("a path of one's own", v.status()["socket"] == own and vm.ctl("status", own).returncode == 0)
        v.post("/destroy")
        t.equal("and it goes", (v.ended(), os.listdir(os.path.dirname(own))), (1, []))
    before = vm.left_behind()
    with VM("none", "-o", "control.socket=none") as v, VM("none", "-o", "control.socket=none") as w:
        t.equal("no socket at all: names do not matter", vm.left_behind(), before)
        v.process.send_signal(signal.SIGTERM)
        w.process.send_signal(signal.SIGTERM)
        t.equal("and signals work", (v.ended(), w.ended()), (41, 41))
    env = dict(os.environ, XDG_RUNTIME_DIR="/nowhere")
    with VM("nowhere", env=env) as v:
        v.process.send_signal(signal.SIGTERM)
        t.check("no folder for a default socket: a warning, and it runs", v.ended() == 41 and "lhyve: warning: no control socket:" in v.stderr(), v.stderr())


def logs(t):
    path = os.path.join(vm.RUNTIME, "log")
    with VM("logs", "-o", f"log.path={path}", "-o", "log.json=true", "-o", "log.level=info") as v:
        v.process.send_signal(signal.SIGTERM)
        v.ended()
        with open(path, encoding="utf-8") as f:
            lines = [json.loads(line) for line in f]
        t.check("log.path and log.json", v.stderr() == "" and any("power button" in x["message"] for x in lines) and
                all(set(x) == {"time", "level", "message"} and x["level"] == "info" and x["time"].endswith("Z") for x in lines), lines)
    r = vm.lhyve("-o", "log.path=/nowhere/log", "-o", f"boot.kernel={vm.GUEST}", "logs")
    t.check("a log that cannot be", r.returncode == 4 and r.stderr.startswith("lhyve: log.path: /nowhere/log: No such file"), r.stderr)


def main():
    vm.GUEST = sys.argv[1]
    t = tap.Tap()
    with VM("web1") as v:
        for part in (garbage, crowd, slow):
            part(t, v)
        held = [vm.dial(v.path) for _ in range(3)]
        held[0].sendall(b"GET /status HTTP/1.1\r\n")
        v.post("/destroy")
        t.equal("clients in mid-request do not keep it from ending", (v.ended(), vm.left_behind()), (1, []))
    for part in (killed, same_name, paths, logs):
        part(t)
    t.done()


main()
