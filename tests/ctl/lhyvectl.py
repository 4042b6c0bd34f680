#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""lhyvectl: every verb and option, on VMs that run, sleep, died or never were. lhyvectl.py GUEST"""
import json
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402
import vm  # noqa: E402
from vm import VM, ctl  # noqa: E402


def listed():
    """The VMs that run, but those of other programs in /run/lhyve."""
    return [x["name"] for x in json.loads(ctl("list", "--json").stdout) if x.get("socket", "").startswith(vm.RUNTIME)]


def fails(t, args, why):
    r = ctl(*args)
    t.equal(f"lhyvectl {' '.join(args)}", (r.returncode, r.stdout, r.stderr), (1, "", f"lhyvectl: {why}\n"))


def wrong_lines(t):
    none = "none: no such VM is running (lhyvectl list shows those that are)"
    for args, why in (
            ([], "no verb (--help lists them)"),
            (["frob"], "frob: no such verb (--help lists them)"),
            (["status"], "status: one word too few (lhyvectl status NAME)"),
            (["status", "a", "b"], "b: one word too many (lhyvectl status NAME)"),
            (["list", "a"], "a: one word too many (lhyvectl list)"),
            (["console", "a"], "console: one word too few (lhyvectl console NAME PORT)"),
            (["snapshot", "a"], "snapshot: one word too few (lhyvectl snapshot NAME FILE)"),
            (["status", "a", "--frob"], "--frob: no such option (--help lists them)"),
            (["status", "a", "--json=1"], "--json=1: it takes no value"),
            (["pause", "a", "--json"], "--json: not with pause"),
            (["regs", "a", "--cpu"], "--cpu: no value (--cpu=N)"),
            (["regs", "a", "--cpu=x"], "--cpu=x: no number of a CPU"),
            (["--vm=a"], "--vm=a: nothing to do (--help lists the options)"),
            (["--vm=a", "--cpu=1"], "--vm=a: nothing to do (--help lists the options)"),
            (["--vm=a", "status"], "--vm: not with a verb (lhyvectl status NAME)"),
            (["--vm=a", "--get-all", "--json"], "--json: not with --vm"),
            (["--get-all"], "no verb (--help lists them)"),
            (["inspect", "file"], "file: inspect: not available yet"),
            (["inspect", "--diff", "a", "b"], "a: inspect: not available yet"),
            *((v.split() + ["none"], none) for v in ("status", "pause", "resume", "reset", "poweroff", "shutdown", "nmi",
                                                     "destroy", "stats", "regs", "config")),
            (["console", "none", "com1"], none), (["snapshot", "none", "f"], none),
            (["--vm=none", "--get-all"], none), (["--vm", "none", "--destroy"], none),
            (["status", "/nowhere/sock"], none.replace("none", "/nowhere/sock", 1)),
            (["status", "x" * 200], f"{vm.socket_of('x' * 200)}: longer than a socket's name may be")):
        fails(t, args, why)
    for option in ("--help", "--version"):
        r = ctl(option)
        t.check(option, r.returncode == 0 and "lhyvectl" in r.stdout and r.stderr == "", r)


def looks(t, v):
    r = ctl("list")
    rows = [line.split() for line in r.stdout.splitlines()]
    t.check("list", rows[0][:3] == ["NAME", "STATE", "PID"] and
            [x[:3] for x in rows if x[0] == "web1"] == [["web1", "running", str(v.process.pid)]], r.stdout)
    t.equal("list --json", listed(), ["web1"])
    r = ctl("status", "web1")
    t.check("status", f"pid      {v.process.pid}\n" in r.stdout and "state    running\n" in r.stdout, r.stdout)
    s = json.loads(ctl("status", "web1", "--json").stdout)
    t.equal("status --json", s["pid"], v.process.pid)
    t.check("status by path", ctl("status", v.path).stdout.startswith("name     web1\n"))
    r = ctl("regs", "web1", "--cpu=0")
    t.check("regs", "cpu0\n" in r.stdout and "r15 0x6c68797665" in r.stdout and "gdtr     base=0x" in r.stdout and
            "limit=0xffffffff access=0xa09b" in r.stdout and "ioapic\n" in r.stdout and "zmm31 0x" in r.stdout, r.stdout[:3000])
    t.equal("regs --json", [c["cpu"] for c in json.loads(ctl("regs", "web1", "--json").stdout)["cpus"]], [0, 1])
    fails(t, ["regs", "web1", "--cpu=2"], "web1: no such CPU (0 to 1)")
    r = ctl("stats", "web1")
    names = [line.split()[0] for line in r.stdout.splitlines()]
    t.check("stats", {"cpu0.exits.io", "cpu0.instructions", "cpu1.interrupts", "com1.tx_bytes", "cpu0.units_translated"} <= set(names), r.stdout)
    t.check("stats --json", json.loads(ctl("stats", "web1", "--json").stdout)["total"]["instructions"] > 0)
    t.check("stats --prometheus", ctl("stats", "web1", "--prometheus").stdout.startswith("# HELP lhyve_"))
    t.check("a full disk is an error", subprocess.run([vm.LHYVECTL, "stats", "web1"], stdout=open("/dev/full", "w"),
                                                      stderr=subprocess.PIPE).returncode == 1)


def actions(t, v):
    for verb, state in (("pause", "paused"), ("resume", "running")):
        r = ctl(verb, "web1")
        t.equal(verb, (r.returncode, r.stdout, r.stderr, v.status()["state"]), (0, "", "", state))
    for args, cpu in ((["nmi", "web1"], 0), (["nmi", "web1", "--cpu=1"], 1), (["--vm=web1", "--inject-nmi"], 0),
                      (["--vm", "web1", "--cpu", "1", "--inject-nmi"], 1)):
        r = ctl(*args)
        t.check(" ".join(args), r.returncode == 0 and r.stdout == "", r)
        v.expect(f"nmi {cpu}")
    for args in (["snapshot", "web1", "f"], ["suspend", "web1", "f"], ["migrate", "web1", "tcp:h:1", "--warm"]):
        fails(t, args, f"web1: {args[0]}: not available yet")
    fails(t, ["--vm=web1", "--checkpoint=f"], "web1: snapshot: not available yet")
    fails(t, ["--vm=web1", "--suspend=f"], "web1: suspend: not available yet")
    r = ctl("config", "web1")
    t.check("config", json.loads(r.stdout)["cpu"]["count"] == 2, r)
    t.equal("config NAME KEY", ctl("config", "web1", "cpu.count").stdout, "2\n")
    r = ctl("config", "web1", "log.level=debug")
    t.equal("config NAME KEY=VALUE", (r.returncode, ctl("config", "web1", "log.level").stdout), (0, "debug\n"))
    fails(t, ["config", "web1", "cpu.count=4"], "web1: cpu.count: cannot change while the VM runs")
    fails(t, ["config", "web1", "a/b c%=1"], "web1: unknown key 'a/b c%'")
    fails(t, ["console", "web1", "com2"], "web1: it has no port com2 (lhyvectl status web1 lists them)")
    fails(t, ["console", "web1", "com1"], "web1: com1 is stdio: only a port behind tcp=HOST:PORT or a socket can be joined "
          "(-l com1,tcp=127.0.0.1:0)")


def bhyve(t, v):
    r = ctl("--vm=web1", "--get-all")
    lines = r.stdout.splitlines()
    t.check("--get-all", r.returncode == 0 and "r15[0]\t\t0x0000006c68797665" in lines and
            "cs desc[0]\t\t0x0000000000000000/0xffffffff/0x0000a09b" in lines and "cs[0]\t\t0x0008" in lines and
            any(x.startswith("gdtr[0]\t\t0x") for x in lines) and any(x.startswith("cpu0.instructions") for x in lines), r.stdout[:2000])
    r = ctl("--vm=web1", "--get-stats", "--cpu=1")
    t.check("--get-stats", r.returncode == 0 and all(x.startswith("cpu1.") for x in r.stdout.splitlines()), r.stdout[:500])


def ends(t):
    for args, status in ((["reset", "e"], 0), (["poweroff", "e"], 1), (["destroy", "e"], 1), (["shutdown", "e"], 41),
                         (["--vm=e", "--force-reset"], 0), (["--vm=e", "--force-poweroff"], 1), (["--vm=e", "--destroy"], 1)):
        with VM("e") as v:
            r = ctl(*args)
            t.equal(" ".join(args), (r.returncode, r.stdout, r.stderr, v.ended(), vm.left_behind()), (0, "", "", status, []))
    with VM("e") as v:
        v.process.send_signal(signal.SIGSTOP)
        t.check("list: one that gives no answer lives", "silent" in ctl("list").stdout)
        r = ctl("destroy", "e")
        t.equal("destroy ends one that gives no answer", (r.returncode, r.stderr, v.process.wait(), vm.left_behind()),
                (0, "", -signal.SIGKILL, []))
    with VM("e") as v:
        v.process.kill()
        v.process.wait()
        t.equal("its files are there", vm.left_behind(), ["e.sock", "e.sock.lock"])
        fails(t, ["status", "e"], "e: no such VM is running (lhyvectl list shows those that are)")
        r = ctl("destroy", "e")
        t.equal("destroy cleans up after one that was killed", (r.returncode, r.stderr, vm.left_behind()), (0, "", []))
    with VM("b") as b, VM("a"):
        t.equal("two run", listed(), ["a", "b"])
        b.process.kill()
        b.process.wait()
        t.equal("one lives", listed(), ["a"])


def consoles(t):
    with VM("c", com1="tcp=127.0.0.1:0") as v:
        p = subprocess.Popen([vm.LHYVECTL, "console", "c", "com1"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        # What was said before it had joined is gone; a line after that comes here.
        while not select.select([p.stdout], [], [], 0.1)[0]:
            v.post("/nmi")
        t.check("console: joined", b"nmi 0" in p.stdout.readline())
        v.post("/poweroff")
        p.stdout.read()
        t.equal("console: ends with the VM", (p.wait(), v.ended()), (0, 1))
        p.stdout.close()
    with VM("c", com1="tcp=[::1]:0") as v:
        master, slave = pty.openpty()
        p = subprocess.Popen([vm.LHYVECTL, "console", "c", "com1"], stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        text = b""
        while b"nmi 0" not in text:
            v.post("/nmi")
            if select.select([master], [], [], 0.1)[0]:
                text += os.read(master, 4096)
        os.write(master, b"\r~.")
        t.equal("console: ~. on a terminal leaves", (p.wait(), v.status()["state"]), (0, "running"))
        os.close(slave)
        os.close(master)
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "port")
        with VM("c", "-s", f"3,virtio-console,agent={path}") as v:
            t.equal("status: a port on a socket", v.status()["consoles"][-1], {"name": "agent", "backend": path, "socket": path})
            p = subprocess.Popen([vm.LHYVECTL, "console", "c", "agent"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            while sum(line.endswith(path) for line in open("/proc/net/unix", encoding="utf-8").read().splitlines()) < 2:
                time.sleep(0.01)  # the one that listens and the one that it took
            v.post("/poweroff")
            t.equal("console: a port on a socket, till the VM ends", (p.stdout.read(), p.wait(), v.ended()), (b"", 0, 1))
            p.stdin.close()
            p.stdout.close()


def main():
    vm.GUEST = sys.argv[1]
    t = tap.Tap()
    wrong_lines(t)
    with VM("web1") as v:
        for part in (looks, actions, bhyve):
            part(t, v)
        v.post("/destroy")
        v.ended()
    ends(t)
    consoles(t)
    t.done()


main()
