#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""check_vectors.py BUILD: the software engine's code leaves vector registers alone, and what it calls does too.

The guest's vector registers are in the host's while this code runs (doc/translator.md). So no instruction of it may use one,
and whatever it calls outside must use none either, all the way down, unless the caller saves them first (soft_vec_sync()) or
runs when there is no guest state to lose: SAVED says who and why. Of the C library only KEEPS may be called otherwise; those
are looked at in this host's libc.so.
"""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402

VECTOR = re.compile(r"%[xyz]mm\d|%mm\d|%k[0-7]\b|\bv?zero(?:all|upper)\b")
CALL = re.compile(r"^\s+[0-9a-f]+:\s+(?:bnd |notrack )*(?:call|j[a-z]+)\s+[0-9a-f]+ <([^>+]+)>$")
RELOCATION = re.compile(r"R_X86_64_(?:PLT32|GOTPCRELX|REX_GOTPCRELX|GOTPCREL|PC32)\s+([\w.@]+)")
LABEL = re.compile(r"^[0-9a-f]+ <([^>]+)>:$")

MAKES = "makes or ends a VM, a vCPU or what belongs to it: no guest code has run, or it has left run()"
BETWEEN = "engine_ops: called between runs"
BELOW = "called only by functions that call soft_vec_sync(), or by such ones"
SIGNAL = "a signal handler: the kernel gives the registers back"
SAVED = {
    "soft_code_create": MAKES, "soft_code_destroy": MAKES, "soft_arena_create": MAKES, "soft_arena_destroy": MAKES,
    "soft_jit_create": MAKES, "map_code": MAKES, "soft_jit_destroy": MAKES, "soft_no_code_memory": MAKES, "vec_all": MAKES, "soft_jit_vcpu_init": MAKES, "soft_jit_vcpu_fini": MAKES,
    "soft_vm_create": MAKES, "soft_vm_destroy": MAKES, "soft_vcpu_create": MAKES, "soft_vcpu_destroy": MAKES,
    "soft_stub_pool_create": MAKES, "soft_stub_pool_destroy": MAKES, "soft_stub_signals": MAKES, "install_signals": MAKES,
    "soft_verify_create": MAKES, "soft_verify_destroy": MAKES, "soft_trace_close": MAKES,
    "soft_perf_map_create": MAKES, "soft_perf_map_destroy": MAKES, "soft_perf_map_routine": MAKES, "read_symbols": MAKES,
    "soft_cpu_alloc": MAKES, "soft_cpu_free": MAKES, "soft_pmu_init": MAKES, "soft_pmu_fini": MAKES, "soft_cpuid_filter": MAKES, "init_decoders": MAKES, "init_isas": MAKES,
    "soft_get_state": BETWEEN, "soft_set_state": BETWEEN, "soft_profile_stats": BETWEEN, "soft_stats": BETWEEN, "top": BETWEEN,
    "soft_dirty_start": BETWEEN,
    "on_signal": SIGNAL, "soft_jit_signal": SIGNAL, "tick": "a timer's thread", "report": "the VM ends here",
    "intern": BELOW, "soft_stub_emit": BELOW, "try_stub": BELOW, "soft_stub_reset": BELOW, "finish": BELOW,
    "soft_perf_map_unit": BELOW, "soft_decode_zydis": BELOW, "jit_generic": BELOW, "one_insn": BELOW,
}
# Outside the engine: why vector instructions in these do no harm.
HARMLESS = {
    "x86_cpuid_find": "in the part that adds a leaf, which the engine never asks for",
    "lh_assert_failed": "does not come back",
}
KEEPS = {"longjmp", "_setjmp", "pthread_mutex_lock", "pthread_mutex_unlock", "pthread_mutex_trylock", "pthread_once", "sched_yield",
         "madvise", "sigaltstack", "syscall", "clock_gettime", "__errno_location", "__tls_get_addr"}


def words(argv):
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def plain(name):
    """Without what the compiler (.part, .constprop, .cold) or the linker (@plt, @@GLIBC) adds."""
    return re.split(r"[.@+-]", name.lstrip("."))[0]


class Function:
    def __init__(self):
        self.vector, self.calls = None, set()


def disassemble(path, *options):
    """{function: Function}; static functions of one name are one."""
    found, now = {}, None
    for line in words(["objdump", "-d", "--no-show-raw-insn", *options, path]).splitlines():
        m = LABEL.match(line)
        if m:
            now = found.setdefault(plain(m[1]), Function())
        elif now is not None and line.startswith((" ", "\t")):
            if VECTOR.search(line):
                now.vector = line.strip()
            m = RELOCATION.search(line) or CALL.match(line)
            if m:
                now.calls.add(plain(m[1]))
    return found


def engine(build):
    """The engine's own functions, from its objects, whose relocations tell what they call."""
    functions = {}
    folder = os.path.join(build, "libsoft.a.p")
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".o"):
            continue
        for n, f in disassemble(os.path.join(folder, name), "-r").items():
            have = functions.setdefault(n, Function())
            have.vector = have.vector or f.vector
            have.calls |= f.calls
    return functions


def below(name, own):
    """Who calls `name` without having saved the registers, though SAVED says that nobody does."""
    return [n for n, f in own.items()
            if name in f.calls and n != name and n not in SAVED and "soft_vec_sync" not in f.calls]


class Outside:
    """What the engine calls: the rest of lhyve, and libraries."""

    def __init__(self, build, own):
        path = os.path.join(build, "lhyve")
        self.rest = {n: f for n, f in disassemble(path).items() if n not in own}
        self.libraries = re.findall(r"=> (\S+)", words(["ldd", path]))
        self.plt = {plain(x) for x in re.findall(r" U (\S+)", words(["nm", "-D", path]))}
        self.libc = next(p for p in self.libraries if "/libc.so" in p)

    def vectors(self, name, seen):
        """Why `name` must not be called; None: it may."""
        if name in seen or name in HARMLESS:
            return None
        seen.add(name)
        if name in self.plt:
            return None if name in KEEPS else f"{name}, of a library"
        f = self.rest.get(name)
        if f is None:
            return f"{name}, which is not found"
        if f.vector:
            return f"{name}: {f.vector}"
        for callee in sorted(f.calls):
            why = self.vectors(callee, seen)
            if why:
                return f"{name} -> {why}"
        return None

    def keeps(self, name):
        """A vector instruction in the C library's function, or None."""
        for line in words(["nm", "-D", "-S", self.libc]).splitlines():
            w = line.split()
            if len(w) == 4 and w[2] in "TtWwi" and plain(w[3]) == name:
                at, size = int(w[0], 16), int(w[1], 16)
                code = words(["objdump", "-d", "--no-show-raw-insn", f"--start-address={at}", f"--stop-address={at + size}", self.libc])
                m = VECTOR.search(code)
                if m:
                    return f"{name}: {m[0]}"
        return None


def main():
    build = sys.argv[1]
    t = tap.Tap()
    own = engine(build)
    t.check("there is something to look at", len(own) > 1000, len(own))
    t.equal("no vector instruction in the engine", sorted(f"{n}: {f.vector}" for n, f in own.items() if f.vector), [])
    outside = Outside(build, own)
    bad, called = [], set()
    for name, f in sorted(own.items()):
        if name in SAVED or "soft_vec_sync" in f.calls:
            continue
        for callee in sorted(c for c in f.calls if c not in own and (c in outside.plt or c in outside.rest)):
            called.add(callee)
            why = outside.vectors(callee, set())
            if why:
                bad.append(f"{name} -> {why}")
    t.equal("what it calls with the guest's registers live has none either", bad, [])
    t.check("something is called so", {"gpmap_find", "longjmp"} <= called, sorted(called))
    t.equal("what is said to be below soft_vec_sync() is", [f"{n} -> {name}" for name, why in SAVED.items() if why is BELOW
                                                            for n in below(name, own)], [])
    t.equal("this C library's functions leave vector registers alone", [w for w in map(outside.keeps, sorted(KEEPS & called)) if w], [])
    t.done()


main()
