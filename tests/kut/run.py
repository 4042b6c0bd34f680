#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Run a built kvm-unit-tests tree (x86) on lhyve's engines, and on QEMU's TCG to compare.

The tree is no part of this project: its path is the argument or LHYVE_KUT; without one, everything is skipped.
Each entry of x86/unittests.cfg that needs no nested virtualization runs with its own CPUs, memory, arguments and
timeout. expected.txt says what each ends with, and why where that is not PASS; TAP compares with it.
"""
import argparse
import concurrent.futures
import os
import re
import shlex
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))
import tap  # noqa: E402

LHYVE = os.environ.get("LHYVE", os.path.join(HERE, "../../build/lhyve"))
# The guest writes v to port 0xf4 and the VMM exits with (v << 1) | 1: 0, 1, 38 and 63 are what that library ends with.
STATUS = {1: "PASS", 3: "FAIL", 77: "SKIP", 127: "ABORT"}
NESTED = ("vmx.flat", "svm.flat", "svm_npt.flat")
# Features of -cpu that lhyve has an option for. All others are what CPUID says on the engine; see expected.txt.
CPU_OPTIONS = {"-x2apic": ["-a"], "+x2apic": ["-x"]}
# What an entry wants switched on in KVM before it runs (a parameter of its module): a key of lhyve's.
CHECK_OPTIONS = {"/sys/module/kvm/parameters/enable_pmu=Y": "x86.pmu=true",
                 "/sys/module/kvm/parameters/enable_vmware_backdoor=Y": "x86.vmware_backdoors=true"}
# Devices that an entry adds, by their QEMU names: lhyve's options.
DEVICE_OPTIONS = {"intel-iommu": ["-o", "x86.vtd=true"], "edu": ["-s", "6,edu"]}
# What an entry is about, where the software engine offers it on every host when it is asked to.
SOFT_OPTIONS = {"la57": ["-o", "x86.la57=true"], "pku": ["-o", "x86.pku=true"], "pks": ["-o", "x86.pks=true"]}
SEEN = ("-cpu", "-m", "-machine", "-M", "-device", "-overcommit", "-smp")


class Entry:
    def __init__(self, name, keys):
        self.name = name
        self.file = keys.get("file", "")
        self.arch = keys.get("arch", "")
        self.smp = int(keys.get("smp", "1"))
        self.groups = keys.get("groups", "").split()
        self.seconds = int(keys.get("timeout", "90").rstrip("s"))
        args = keys.get("test_args", "").replace("`date +%s`", str(int(time.time())))
        self.append = " ".join(shlex.split(args))
        self.params = shlex.split(keys.get("qemu_params", keys.get("extra_params", "")))
        self.check = keys.get("check", "").split()
        self.accel = keys.get("accel", "")

    def param(self, option):
        for i, word in enumerate(self.params[:-1]):
            if word == option:
                return self.params[i + 1]
        return None

    def all_params(self, option):
        return [self.params[i + 1] for i, word in enumerate(self.params[:-1]) if word == option]

    def memory(self):
        return self.param("-m") or "128"


def read_config(path):
    entries, name, keys = [], None, {}
    with open(path, encoding="utf-8") as f:
        lines = f.read().splitlines()
    for line in lines + ["[]"]:
        line = line.strip()
        m = re.match(r"^\[(.*)\]$", line)
        if m:
            if name:
                entries.append(Entry(name, keys))
            name, keys = m[1], {}
        elif "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            keys[key.strip()] = value.split(" #")[0].strip()
    return entries


def tree_arch(tree):
    with open(os.path.join(tree, "config.mak"), encoding="utf-8") as f:
        m = re.search(r"^ARCH=(\S+)", f.read(), re.M)
    return m[1]


def left_out(entry, arch):
    """Why an entry does not belong to this run, or None."""
    if entry.file in NESTED:
        return "nested virtualization"
    if entry.arch and entry.arch != arch:
        return f"{entry.arch} only"
    if "nodefault" in entry.groups:
        return "not run by default"
    return None


def lhyve_command(engine, tree, entry):
    options = ["-o", f"engine={engine}", "-o", "control.socket=none", "-m", entry.memory(), "-c", str(entry.smp), "-l", "com1,stdio",
               "-l", "pc-testdev", "-l", "fwcfg,qemu", "-s", "5,pci-testdev"]
    for feature in (entry.param("-cpu") or "").split(",")[1:]:
        options += CPU_OPTIONS.get(feature, [])
    for device in entry.all_params("-device"):
        options += DEVICE_OPTIONS.get(device.split(",")[0], [])
    for check in entry.check:
        options += ["-o", CHECK_OPTIONS[check]] if check in CHECK_OPTIONS else []
    options += SOFT_OPTIONS.get(entry.name, []) if engine == "soft" else []
    options += ["-o", "boot.kernel=" + os.path.join(tree, "x86", entry.file)]
    if entry.append:
        options += ["-o", f"boot.cmdline={entry.append}"]
    return [LHYVE, *options, entry.name.replace("-", "_")]


def qemu_command(tree, entry):
    words = [w.replace("host", "max", 1) if w == "host" or w.startswith("host,") else w
             for w in entry.params if w != "-enable-kvm"]
    command = ["qemu-system-x86_64", "--no-reboot", "-nodefaults", "-device", "pc-testdev", "-device",
               "isa-debug-exit,iobase=0xf4,iosize=0x4", "-display", "none", "-serial", "stdio", "-device",
               "pci-testdev", "-accel", "tcg,thread=multi", "-kernel", os.path.join(tree, "x86", entry.file),
               "-smp", str(entry.smp), *words]
    if entry.append:
        command += ["-append", entry.append]
    return command


class Result:
    def __init__(self, status, seconds, output, detail=""):
        self.status, self.seconds, self.output, self.detail = status, seconds, output, detail


def summary(output):
    lines = [line for line in output.splitlines() if line.strip()]
    for line in reversed(lines):
        if line.startswith("SUMMARY:"):
            return line[9:]
    return lines[-1][:90] if lines else "no output"


def run(command, seconds):
    start = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        raw, _ = process.communicate(timeout=seconds)
        status = STATUS.get(process.returncode)
    except subprocess.TimeoutExpired:
        process.kill()
        raw, _ = process.communicate()
        status = "TIMEOUT"
    output = raw.decode(errors="replace").replace("\r", "")
    if status is None:
        code = process.returncode
        status = "CRASH" if code < 0 or code > 128 else "ENDED"
        return Result(status, time.monotonic() - start, output, f"exit {code}: {summary(output)}")
    if status == "FAIL" and "SUMMARY:" not in output:
        return Result(status, time.monotonic() - start, output, f"no summary: {summary(output)}")
    return Result(status, time.monotonic() - start, output, summary(output))


def read_expected(path):
    """{(arch, engine, entry): (status, reason)}; an engine or architecture "*" is any."""
    table = {}
    if not os.path.exists(path):
        return table
    with open(path, encoding="utf-8") as f:
        for line in f:
            words = line.split("#")[0].split(None, 4)
            if words:
                arch, engine, name, status = words[:4]
                table[arch, engine, name] = (status, words[4].strip() if len(words) > 4 else "")
    return table


def expected_of(table, arch, engine, name):
    for key in ((arch, engine, name), ("*", engine, name), (arch, "*", name), ("*", "*", name)):
        if key in table:
            return table[key]
    return ("PASS", "")


def engines_here(wanted):
    found = []
    for engine in ("soft", "kvm", "qemu"):
        if wanted and engine not in wanted:
            continue
        if engine == "qemu":
            ok = any(os.access(os.path.join(p, "qemu-system-x86_64"), os.X_OK) for p in os.environ["PATH"].split(":"))
        else:
            ok = probe(engine)
        if ok:
            found.append(engine)
        else:
            tap.Tap.note(f"{engine}: not available here")
    return found


def probe(engine):
    """lhyve refuses an engine that does not work before it looks at the kernel."""
    r = subprocess.run([LHYVE, "-o", f"engine={engine}", "-o", "boot.kernel=/dev/null", "-o", "control.socket=none",
                        "probe"],
                       stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return r.returncode == 4 and "boot.kernel" in r.stderr


def print_table(jobs, results, engines, table, arch, wall):
    print(f"# {'entry':28}" + "".join(f"{e:>19}" for e in engines) + "  remarks")
    total = dict.fromkeys(engines, 0.0)
    for entry in jobs:
        line, remarks = f"# {entry.name:28}", ""
        for e in engines:
            r = results[entry.name, e]
            total[e] += r.seconds
            line += f"{r.status:>10}{r.seconds:7.1f} s"
            if e != "qemu" and r.status != "PASS":
                reason = expected_of(table, arch, e, entry.name)[1]
                remarks += f"  {e}: {reason or r.detail}"
        print(line + remarks)
    print(f"# {'sum':28}" + "".join(f"{total[e]:17.1f} s" for e in engines))
    print(f"# {'wall time':28}" + "".join(f"{wall[e]:17.1f} s" for e in engines))
    for e in engines:
        passed = sum(results[j.name, e].status == "PASS" for j in jobs)
        print(f"# {e}: {passed} of {len(jobs)} pass")


def check(t, entry, engine, arch, result, table):
    want, reason = expected_of(table, arch, engine, entry.name)
    name = f"{arch} {engine} {entry.name}"
    tail = "\n".join(result.output.splitlines()[-12:])
    fails = "\n".join([line for line in result.output.splitlines() if line.startswith("FAIL")][:20])
    if result.status == want == "SKIP":
        t.skip(name, reason or result.detail)
    else:
        t.check(name, result.status == want, "" if result.status == want else
                f"{result.status} ({result.detail}), expected {want} {reason}\n{fails}\n{tail}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tree", nargs="?", help="a built kvm-unit-tests tree")
    parser.add_argument("--tree-from", default="LHYVE_KUT", help="environment variable that names it otherwise")
    parser.add_argument("only", nargs="*", help="entries (regular expressions); default: all")
    parser.add_argument("-j", type=int, default=2, dest="jobs")
    parser.add_argument("-e", "--engine", action="append", help="soft, kvm or qemu; default: all that work")
    parser.add_argument("--scale", type=float, default=1.0, help="multiply every timeout")
    parser.add_argument("--logs", help="folder for each run's output")
    args = parser.parse_args()
    args.tree = args.tree or os.environ.get(args.tree_from)
    t = tap.Tap()

    if not args.tree or not os.path.isfile(os.path.join(args.tree, "x86/unittests.cfg")):
        t.skip("kvm-unit-tests", f"no built kvm-unit-tests tree here (give its path, or set {args.tree_from})")
        t.done()
    arch = tree_arch(args.tree)
    engines = engines_here(args.engine)
    t.check("an engine works here", engines, "none of those that were asked for")
    table = read_expected(os.path.join(HERE, "expected.txt"))
    jobs = [e for e in read_config(os.path.join(args.tree, "x86/unittests.cfg")) if left_out(e, arch) is None
            and (not args.only or any(re.fullmatch(o, e.name) for o in args.only))]
    results = {}

    def job(entry, engine):
        command = qemu_command(args.tree, entry) if engine == "qemu" else lhyve_command(engine, args.tree, entry)
        r = run(command, entry.seconds * args.scale)
        results[entry.name, engine] = r
        print(f"# {r.status:8} {engine:5} {entry.name} ({r.seconds:.1f} s) {r.detail}", flush=True)
        if args.logs:
            os.makedirs(args.logs, exist_ok=True)
            with open(os.path.join(args.logs, f"{arch}-{engine}-{entry.name}.log"), "w", encoding="utf-8") as f:
                f.write(shlex.join(command) + "\n" + r.output)

    wall = {}
    for engine in engines:  # one after another, so that each has a time of its own
        start = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, args.jobs)) as pool:
            for future in [pool.submit(job, e, engine) for e in jobs]:
                future.result()
        wall[engine] = time.monotonic() - start
    print_table(jobs, results, engines, table, arch, wall)
    for entry in jobs:
        for engine in engines:
            if engine != "qemu":
                check(t, entry, engine, arch, results[entry.name, engine], table)
    t.done()


main()
