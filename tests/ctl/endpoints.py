#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""The control socket of a running VM: every endpoint, by raw HTTP and by curl. endpoints.py GUEST"""
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402
import vm  # noqa: E402
from vm import VM  # noqa: E402


def symbols():
    out = subprocess.run(["nm", vm.GUEST], capture_output=True, text=True, check=True).stdout
    return {w[2]: int(w[0], 16) for w in (line.split() for line in out.splitlines()) if len(w) == 3}


def table(t, v):
    root = v.get("/").json
    rows = root["endpoints"]
    t.check("GET / lists the endpoints", len(rows) >= 15 and root["name"] == v.name, rows)
    for row in rows:
        if row["method"] == "GET":
            url = row["path"].replace("*", "cpu.count")
            r = v.get(url)
            t.check(f"GET {url}", r.status == 200 and r.body and r.headers["Cache-Control"] == "no-store", r.body[:300])
            head = vm.ask(v.path, "HEAD", url)
            t.check(f"HEAD {url}", head.status == 200 and head.body == b"", head.body)
        r = vm.ask(v.path, "PATCH", row["path"].replace("*", "cpu.count"))
        t.check(f"PATCH {row['path']} is not allowed", r.status == 405 and row["method"] in r.headers["Allow"], r.body)
    for verb in ("snapshot", "suspend", "migrate"):
        r = v.post(f"/{verb}", json.dumps({}))
        t.equal(f"POST /{verb}", (r.status, r.error), (501, f"{verb}: not available yet"))


def wrong(t, v):
    cases = [
        ("GET", "/nothing", None, 404, "no such path"),
        ("GET", "/status/", None, 404, "no such path"),
        ("GET", "//status", None, 404, "no such path"),
        ("GET", "/config/", None, 404, "no such path"),
        ("GET", "/regs?cpu=2", None, 400, "no such CPU (0 to 1)"),
        ("GET", "/regs?cpu=-1", None, 400, "no such CPU"),
        ("GET", "/regs?cpu=", None, 400, "no such CPU"),
        ("GET", "/regs?cpu=99999999999", None, 400, "no such CPU"),
        ("GET", "/config/cpu.cuont", None, 404, "did you mean 'cpu.count'?"),
        ("GET", "/config/%00%ff", None, 404, ""),
        ("GET", "/config/" + "x" * 5000, None, 404, "unknown key"),
        ("POST", "/nmi", "{", 400, "the body is no JSON"),
        ("POST", "/nmi", "[]", 400, "no JSON object"),
        ("POST", "/nmi", b"\xff\xfe", 400, "the body is no JSON"),
        ("POST", "/nmi", '{"cpu": 2}', 400, "no such CPU"),
        ("POST", "/nmi", '{"cpu": -1}', 400, "no such CPU"),
        ("POST", "/nmi", '{"cpu": 1e99}', 400, ""),
        ("POST", "/nmi", '{"cpu": "0"}', 400, "no such CPU"),
        ("POST", "/nmi", '{"cpu": 0, "cpu": 1}', 400, "no JSON"),
        ("POST", "/nmi", '{"ccpu": 0}', 400, "unknown member 'ccpu'"),
        ("POST", "/nmi", '{"cpu":' + "[" * 30000 + "}", 400, "no JSON"),
        ("POST", "/pause", '{"now": true}', 400, "unknown member"),
        ("POST", "/nmi", "x" * 65537, 413, "65536 bytes"),
        ("POST", "/nmi", "x" * 3000000, 413, "65536 bytes"),
        ("PUT", "/config/cpu.count", '{"value": 3}', 409, "cannot change while the VM runs"),
        ("PUT", "/config/log.level", '{"value": "loud"}', 400, "no such choice 'loud'"),
        ("PUT", "/config/log.level", '{"value": null}', 400, "no value"),
        ("PUT", "/config/log.level", '{"value": [1]}', 400, "no value"),
        ("PUT", "/config/log.level", "", 400, "no value"),
        ("PUT", "/config/log.lvel", '{"value": "info"}', 404, "did you mean 'log.level'?"),
    ]
    for method, url, body, status, text in cases:
        r = vm.ask(v.path, method, url, body)
        t.check(f"{method} {url[:40]} {str(body)[:40]}", r.status == status and text in r.error, f"{r.status} {r.body[:300]}")
    t.check("the VM runs on", v.status()["state"] == "running")


def curl(t, v):
    if not shutil.which("curl"):
        t.skip("curl", "curl is not installed")
        return
    def run(*args):
        return subprocess.run(["curl", "-sS", "--fail-with-body", "--unix-socket", v.path, *args], capture_output=True, text=True)
    r = run("http://localhost/status")
    t.check("curl: status", r.returncode == 0 and json.loads(r.stdout)["name"] == v.name, r)
    r = run("-X", "PUT", "-H", "Content-Type: application/json", "-d", '{"value": "info"}', "http://x/config/log.level")
    t.check("curl: a key that may change", r.returncode == 0 and json.loads(r.stdout)["value"] == "info", r)
    r = run("-X", "POST", "http://x/pause", "-X", "POST", "http://x/resume")
    t.check("curl: two requests on one connection", r.returncode == 0 and '"running"' in r.stdout, r)
    big = run("-H", "Transfer-Encoding: chunked", "-d", "x" * 100000, "http://x/nmi")
    t.check("curl: a chunked body that is too long", big.returncode == 22 and "65536" in big.stdout, big)
    small = run("-H", "Transfer-Encoding: chunked", "-d", '{"cpu": 1}', "http://x/nmi")
    t.check("curl: a chunked body", small.returncode == 0, small)
    v.expect("nmi 1")


def standing(v):
    """What must not change while a VM is paused."""
    regs, stats, status = v.get("/regs").json, v.get("/stats").json, v.status()
    return regs, stats, status["clock_ns"], status["state"]


def pause(t, v):
    before = v.status()["clock_ns"]
    r = v.post("/pause")
    t.check("pause", r.status == 200 and r.json["state"] == "paused", r.body)
    first = standing(v)
    time.sleep(0.5)
    second = standing(v)
    t.check("registers stand", first[0] == second[0])
    t.check("counters stand", first[1] == second[1], f"{first[1]}\n{second[1]}")
    t.check("the clock stands", first[2] == second[2] and first[2] >= before, f"{before} {first[2]} {second[2]}")
    t.check("a second pause changes nothing", v.post("/pause").json["state"] == "paused" and standing(v) == first)
    v.post("/nmi", '{"cpu": 1}')
    t.check("an NMI waits", standing(v)[1]["cpus"][1]["nmis"] == first[1]["cpus"][1]["nmis"])
    r = v.post("/resume")
    t.check("resume", r.status == 200 and r.json["state"] == "running", r.body)
    v.expect("nmi 1")
    t.check("the clock goes on", v.status()["clock_ns"] > first[2])
    t.check("a second resume changes nothing", v.post("/resume").json["state"] == "running")
    turns = int(v.get("/regs?cpu=0").json["cpus"][0]["general"]["r14"], 16)
    for _ in range(100):
        v.post("/pause")
        v.post("/resume")
    while int(v.get("/regs?cpu=0").json["cpus"][0]["general"]["r14"], 16) <= turns:
        pass
    t.check("after 100 pauses the guest goes on", True)
    v.post("/nmi")
    v.expect("nmi 0")


def legacy_chips(t, r, where):
    t.check("two PICs as firmware leaves them" + where, [int(c["vector_base"], 16) for c in r["pic"]["chip"]] == [8, 0x70] and
            [c["elcr"] for c in r["pic"]["chip"]] == ["0x0", "0x2"], r["pic"])
    t.check("the 8254 as firmware leaves it" + where, [(c["mode"], c["count"], c["rw"]) for c in r["pit"]["counter"]] ==
            [("0x3", "0x10000", "0x3"), ("0x2", "0x12", "0x1"), ("0x0", "0x0", "0x3")], r["pit"])


def in_kvm(t):
    """The same state, where the chips are in the host's kernel, and after a pause too."""
    kernel = ["-o", "engine=kvm", "-o", "x86.apic=kernel"]
    said = vm.lhyve(*kernel, "-o", "boot.kernel=/dev/null", "probe").stderr
    if "boot.kernel" not in said:
        t.skip("chips in KVM", said.strip())
        return
    with VM("kernel1", *kernel) as v:
        legacy_chips(t, v.get("/regs").json, " (KVM's)")
        v.post("/pause")
        legacy_chips(t, v.get("/regs").json, " (KVM's, paused)")
        v.post("/resume")
        legacy_chips(t, v.get("/regs").json, " (KVM's, again)")
        v.post("/destroy")
        v.ended()


def regs(t, v):
    all_cpus = v.get("/regs").json
    one = v.get("/regs?cpu=1").json
    t.check("all CPUs, or one", [c["cpu"] for c in all_cpus["cpus"]] == [0, 1] and [c["cpu"] for c in one["cpus"]] == [1])
    cpu0, cpu1 = all_cpus["cpus"]
    at = symbols()
    t.equal("R15 is what the guest put there", int(cpu0["general"]["r15"], 16), vm.MAGIC)
    t.equal("CR3 is the page tables'", int(cpu0["control"]["cr3"], 16), at["pml4"])
    t.equal("GDTR is the descriptor table's", int(cpu0["segment"]["gdtr"]["base"], 16), at["gdt"])
    t.check("IDTR", int(cpu0["segment"]["idtr"]["limit"], 16) == 0xfff, cpu0["segment"]["idtr"])
    cs = cpu0["segment"]["cs"]
    t.check("CS is 64-bit code", (cs["l"], cs["db"], cs["s"], cs["p"], cs["dpl"], cs["selector"], cs["access"]) ==
            (True, False, True, True, 0, "0x8", "0xa09b"), cs)
    t.check("EFER has LMA", int(cpu0["msr"]["efer"], 16) & 0x500 == 0x500)
    t.equal("CPU 1 halts", (cpu1["activity"], cpu1["apic_id"]), ("halted", 1))
    text = at["guest_printf"]
    t.check("RIP is in the guest's code", 0x200000 <= int(cpu0["general"]["rip"], 16) < text + 0x10000, cpu0["general"]["rip"])
    lapic = cpu0["lapic"]
    t.check("the boot processor's APIC is on, LINT0 is ExtINT", int(lapic["apic_base"], 16) == 0xfee00900 and
            int(lapic["lvt"]["lint0"], 16) & 0x700 == 0x700, lapic)
    t.check("24 I/O APIC pins, all masked", len(all_cpus["ioapic"]["redir"]) == 24 and
            all(p["masked"] for p in all_cpus["ioapic"]["redir"]))
    legacy_chips(t, all_cpus, "")
    names = {"general": 18, "control": 10, "debug": 6, "x87": 14, "vector": 32, "segment": 10}
    t.equal("every register", {n: len(cpu0[n]) for n in names}, names)


def counters(t, v):
    a = v.get("/stats").json["cpus"][0]
    while True:  # until its CPU got some time
        second = v.get("/stats").json
        b = second["cpus"][0]
        if b["exits"]["io"] > a["exits"]["io"] and b["instructions"] > a["instructions"]:
            break
    t.check("exits and instructions grow", True)
    t.check("totals are sums", second["total"]["instructions"] == sum(c["instructions"] for c in second["cpus"]) and
            second["total"]["exits"]["io"] == sum(c["exits"]["io"] for c in second["cpus"]))
    t.check("translated blocks are counted", b["units_translated"] > 0, b)
    t.equal("bytes on com1 are those that came", second["devices"]["com1"]["tx_bytes"], len(v.said))
    r = v.get("/metrics")
    t.check("Prometheus: type", r.headers["Content-Type"].startswith("text/plain; version=0.0.4"))
    text = r.body.decode()
    try:
        from prometheus_client.parser import text_string_to_metric_families
    except ImportError:
        t.skip("Prometheus: its own parser", "python3-prometheus-client is not installed")
    else:
        families = {f.name: f for f in text_string_to_metric_families(text)}
        exits = {(s.labels["cpu"], s.labels["cause"]): s.value for s in families["lhyve_exits"].samples}
        t.check("Prometheus: its own parser", exits[("0", "io")] >= b["exits"]["io"] and
                all(s.labels["vm"] == v.name for f in families.values() for s in f.samples), exits)
    bad = [x for x in text.splitlines() if not re.fullmatch(r'# (HELP|TYPE) .*|lhyve_\w+\{vm="\w+"(,\w+="[^"]*")*\} [\d.e+-]+', x)]
    t.check("Prometheus: every line", not bad, bad)


def config(t, v):
    tree = v.get("/config").json
    t.check("the configuration", tree["cpu"]["count"] == 2 and tree["memory"]["size"] == 32 << 20 and tree["name"] == v.name, tree)
    t.equal("an alias names its key", v.get("/config/cpus").json,
            {"key": "cpu.count", "value": 2, "set": True, "may_change": False})
    t.equal("a key that is not set", v.get("/config/boot.initrd").json["value"], None)
    for level in ("debug", "error", "info"):
        r = v.put("/config/log.level", json.dumps({"value": level}))
        t.check(f"log.level={level}", r.status == 200 and r.json["value"] == level and r.json["may_change"], r.body)
    t.check("nothing is logged yet about the power button", "power button" not in v.stderr())
    v.process.send_signal(signal.SIGTERM)
    v.expect("button")
    t.check("the change had its effect", v.ended() == 41 and "pressing the power button" in v.stderr(), v.stderr())


def ends(t):
    for verb, status in (("reset", 0), ("poweroff", 1), ("destroy", 1)):
        for paused in (False, True):
            with VM("ends") as v:
                if paused:
                    v.post("/pause")
                r = v.post(f"/{verb}")
                t.equal(f"{verb}{' while paused' if paused else ''}", (r.status, v.ended(), vm.left_behind()), (202, status, []))
    with VM("ends") as v:
        v.post("/pause")
        v.post("/shutdown")
        v.post("/resume")
        v.expect("button")
        t.equal("the power button, pressed while paused", (v.ended(), vm.left_behind()), (41, []))


def main():
    vm.GUEST = sys.argv[1]
    t = tap.Tap()
    with VM("web1") as v:
        st = os.stat(v.path)
        t.check("the socket is its owner's", stat.S_ISSOCK(st.st_mode) and stat.S_IMODE(st.st_mode) == 0o600, oct(st.st_mode))
        t.equal("so is its folder", stat.S_IMODE(os.stat(os.path.dirname(v.path)).st_mode), 0o700)
        s = v.status()
        t.check("status", (s["name"], s["state"], s["pid"], s["cpus"], s["memory_bytes"], s["consoles"]) ==
                ("web1", "running", v.process.pid, 2, 32 << 20, [{"name": "com1", "backend": "stdio"}]), s)
        for part in (table, wrong, curl, regs, pause, counters, config):
            part(t, v)
    in_kvm(t)
    ends(t)
    t.done()


main()
