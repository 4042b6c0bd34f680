# SPDX-License-Identifier: BSD-2-Clause
"""Traces of instructions, symbols and disassembly: what trace-diff and symbolize share. doc/debugging.md has the formats."""
import bisect
import re
import struct
import subprocess
import tempfile

# The binary form's item numbers, from 1: (name, elements, bytes); engine/soft/trace.c has the same table.
ITEMS = [("", 16, 8), ("fl", 1, 8), ("cr0", 1, 8), ("cr2", 1, 8), ("cr3", 1, 8), ("cr4", 1, 8), ("cr8", 1, 8),
         ("efer", 1, 8), ("xcr0", 1, 8), ("sel%u", 6, 8), ("base%u", 6, 8), ("gdtr%u", 2, 8), ("idtr%u", 2, 8),
         ("ldtr", 1, 8), ("tr", 1, 8), ("mxcsr", 1, 8), ("k%u", 8, 8), ("fx", 1, 160), ("v%u", 32, 64)]
GPRS = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()
FLAG_NAMES = ((0, "CF"), (2, "PF"), (4, "AF"), (6, "ZF"), (7, "SF"), (8, "TF"), (9, "IF"), (10, "DF"), (11, "OF"),
              (14, "NT"), (16, "RF"), (17, "VM"), (18, "AC"), (21, "ID"))


class BadTrace(Exception):
    pass


class Step:
    """One instruction: where, its bytes (None: unknown), what it changed, and the state before it."""

    def __init__(self, rip, mode, code, changes, mem, events, before, where):
        self.rip, self.mode, self.code = rip, mode, code
        self.changes, self.mem, self.events = changes, mem, events
        self.before, self.where = before, where

    def effect(self):
        return (self.changes, self.mem, self.events)


# ---- our text ----

def text_value(name, word):
    return word if name == "fx" or name[0] == "v" else int(word, 16)


def parse_line(line, number):
    words = line.split()
    try:
        mode, rip = int(words[0]), int(words[1], 16)
        code = b"" if words[2] == "?" else bytes.fromhex(words[2])
        changes, mem, events = {}, [], []
        for word in words[3:]:
            name, _, value = word.partition("=")
            if name == "ev":
                events.append(value)
            elif name.startswith("m:"):
                mem.append((name[2:], value))
            else:
                changes[name] = text_value(name, value)
    except (ValueError, IndexError) as e:
        raise BadTrace(f"line {number}: not a record: {line.strip()[:80]!r} ({e})") from None
    return mode, rip, code, changes, mem, events


def text_records(f):
    for number, line in enumerate(f, 1):
        if line.strip() and not line.startswith("#"):
            yield (f"line {number}", *parse_line(line, number))


# ---- our binary ----

class Bytes:
    def __init__(self, f):
        self.f = f

    def take(self, n):
        data = self.f.read(n)
        if len(data) != n:
            raise BadTrace(f"offset {self.f.tell()}: cut off in the middle of a record")
        return data

    def byte(self):
        return self.take(1)[0]

    def number(self):
        value = shift = 0
        while True:
            b = self.byte()
            value |= (b & 0x7f) << shift
            shift += 7
            if b < 0x80:
                return value


def binary_changes(b):
    changes = {}
    while True:
        item = b.byte()
        if item == 0:
            return changes
        if item > len(ITEMS):
            raise BadTrace(f"offset {b.f.tell()}: no register group {item}")
        pattern, _, size = ITEMS[item - 1]
        n, used = b.byte(), b.byte()
        raw = b.take(used).ljust(size, b"\0")
        name = GPRS[n & 15] if item == 1 else pattern.replace("%u", str(n))
        changes[name] = struct.unpack("<Q", raw)[0] if size == 8 else raw.hex()


def binary_records(f):
    b = Bytes(f)
    while True:
        at, head = f.tell(), f.read(1)
        if not head:
            return
        mode, rip = 16 << (head[0] >> 4), b.number()
        code = b.take(head[0] & 15)
        changes, mem, events = binary_changes(b), [], []
        while True:
            length = b.number()
            if length == 0:
                break
            gpa = b.number()
            mem.append((f"{gpa:x}", b.take(length).hex()))
        count = b.byte()
        if count & 0x80:
            mem.append(("more", ""))
        for _ in range(count & 0x7f):
            vector, has_error, error = b.byte(), b.byte(), b.number()
            events.append(f"{vector}:{error:x}" if has_error else f"{vector}")
        yield f"offset {at}", mode, rip, code, changes, mem, events


def lhyve_steps(records):
    """The first record is the state that the rest starts from."""
    state = None
    for where, mode, rip, code, changes, mem, events in records:
        if state is None:
            state = {**dict.fromkeys(GPRS, 0), "fl": 0, **changes}
            continue
        before = dict(state)
        state.update(changes)
        yield Step(rip, mode, code, changes, mem, events, before, where)


# ---- QEMU's log: -d in_asm,cpu,nochain -singlestep ----

QEMU_REG = re.compile(r"\b(R[0-9A-D][0-9A-Z]?|E[A-DS][XIP]|EBP|EIP|EFL|RIP|RFL|CR[0-8]|EFER) ?=([0-9a-f]+)")
QEMU_CODE = re.compile(r"^(?:OBJD-T: ([0-9a-f]+)|0x([0-9a-f]+): +((?:[0-9a-f]{2} )+))")


def qemu_steps(f):
    """A state is printed before each instruction. RIP is the offset in CS, as in our traces."""
    regs, start = {}, 0
    for number, line in enumerate(f, 1):
        if re.match(r"[ER]AX=", line):
            if "rip" in regs:
                yield qemu_step(regs, start)
            regs, start = {}, number
        if not regs and not re.match(r"[ER]AX=", line):
            continue
        if "=" in line:
            for name, value in QEMU_REG.findall(line):
                regs[qemu_name(name)] = int(value, 16)
    if "rip" in regs:
        yield qemu_step(regs, start)


def qemu_name(name):
    if name in ("EFL", "RFL"):
        return "fl"
    name = name.lower()
    return "r" + name[1:] if name[0] == "e" and name != "efer" else name


def qemu_step(regs, start):
    return Step(regs["rip"], None, None, None, None, None, regs, f"line {start}")


# ---- any of them ----

def open_trace(path):
    """(kind, steps): "lhyve" knows changes and bytes; "registers" (KVM's) the same, but memory and events; "qemu" only
    the state before each instruction."""
    f = open(path, "rb")
    head = f.read(128)
    if head[:8] in (b"LHTRACE1", b"LHTRACR1"):
        f.seek(8)
        return "lhyve" if head[:8] == b"LHTRACE1" else "registers", lhyve_steps(binary_records(f))
    f.close()
    f = open(path, encoding="utf-8", errors="replace")
    if head.startswith(b"# lhyve trace 1"):
        kind = "registers" if b", registers only" in head.split(b"\n")[0] else "lhyve"
        return kind, lhyve_steps(text_records(f))
    return "qemu", qemu_steps(f)


def flag_text(value):
    return " ".join(name for bit, name in FLAG_NAMES if value >> bit & 1) or "-"


# ---- disassembly ----

def disassemble(code, rip, mode):
    """Text of one instruction, by objdump."""
    if not code:
        return "(no bytes)"
    machine = {16: "i8086", 32: "i386", 64: "i386:x86-64"}[mode]
    with tempfile.NamedTemporaryFile() as f:
        f.write(code)
        f.flush()
        try:
            r = subprocess.run(["objdump", "-D", "-b", "binary", "-m", machine, "-M", "intel",
                                f"--adjust-vma={rip:#x}", f.name], capture_output=True, text=True, check=False)
        except OSError:
            return f"{code.hex()} (objdump is missing: install binutils)"
    lines = [x.split("\t") for x in r.stdout.splitlines() if re.match(r"\s*[0-9a-f]+:\t", x)]
    return f"{code.hex():24} {' '.join(lines[0][2].split())}" if lines and len(lines[0]) > 2 else code.hex()


CF, PF, AF, ZF, SF, OF = 1, 4, 16, 64, 128, 0x800
GROUP_SHIFT = (0xc0, 0xc1, 0xd0, 0xd1, 0xd2, 0xd3)
LOGIC = {*range(0x08, 0x0e), *range(0x20, 0x26), *range(0x30, 0x36), 0x84, 0x85, 0xa8, 0xa9}
TWO_BYTE = {0xaf: SF | ZF | AF | PF, 0xa4: AF | OF, 0xa5: AF | OF, 0xac: AF | OF, 0xad: AF | OF,
            **dict.fromkeys((0xa3, 0xab, 0xb3, 0xbb, 0xba), OF | SF | AF | PF),
            **dict.fromkeys((0xbc, 0xbd), CF | OF | SF | AF | PF)}


def undefined_flags(code, mode):
    """Flags that the manuals leave undefined after an instruction (SDM vol. 1, appendix A), which emulators may set
    as they like."""
    i = 0
    while i < len(code) and code[i] in b"\x66\x67\xf0\xf2\xf3\x2e\x36\x3e\x26\x64\x65":
        i += 1
    if mode == 64 and i < len(code) and code[i] & 0xf0 == 0x40:
        i += 1
    op, after = (code[i:i + 1] or b"\x90")[0], (code[i + 1:i + 2] or b"\0")[0]
    reg = after >> 3 & 7
    if op == 0x0f:
        return TWO_BYTE.get(after, 0)
    if op in GROUP_SHIFT:
        return OF | (AF if reg >= 4 else 0)
    if op in (0x69, 0x6b):
        return SF | ZF | AF | PF
    if op in (0xf6, 0xf7):
        return (AF, AF, 0, 0, SF | ZF | AF | PF, SF | ZF | AF | PF, 0x8d5, 0x8d5)[reg]
    if op in LOGIC or (op in (0x80, 0x81, 0x83) and reg in (1, 4, 6)):
        return AF
    return 0


# ---- symbols ----

class Symbols:
    """Of a System.map (or `nm` output) or an ELF file."""

    def __init__(self, path=None):
        self.table = []
        if path is None:
            return
        with open(path, "rb") as f:
            data = f.read()
        self.table = elf_symbols(data) if data[:4] == b"\x7fELF" else map_symbols(data.decode(errors="replace"))
        if not self.table:
            raise BadTrace(f"{path}: no symbols (give a System.map, or an ELF file that is not stripped)")
        self.table.sort(key=lambda s: (s[0], s[1].startswith("."), s[1]))
        self.addresses = [a for a, _, _ in self.table]
        self.by_name = {n: a for a, n, _ in self.table}

    def address(self, text):
        """Of a name, or of a number in hexadecimal."""
        if self.table and text in self.by_name:
            return self.by_name[text]
        try:
            return int(text, 16)
        except ValueError:
            raise BadTrace(f"{text}: neither a known symbol nor a hexadecimal number") from None

    def name(self, address):
        """name+offset, or None outside of everything."""
        i = bisect.bisect_right(self.addresses, address) - 1 if self.table else -1
        if i < 0:
            return None
        start, _, size = self.table[i]
        i = bisect.bisect_left(self.addresses, start)  # the first of several names
        limit = size or (1 << 20 if i + 1 >= len(self.table) else max(1, self.table[-1][0] - start))
        if address - start >= max(limit, 1):
            return None
        off = address - start
        return self.table[i][1] + (f"+{off:#x}" if off else "")


def map_symbols(text):
    table = []
    for line in text.splitlines():
        m = re.match(r"([0-9a-f]{8,16}) ([A-Za-z?]) (\S+)", line)
        if m and m[2] not in "Uu?":
            table.append((int(m[1], 16), m[3], 0))
    return table


def elf_symbols(data):
    """Functions, objects and plain labels of .symtab, either class."""
    try:
        wide = data[4] == 2
        shoff, = struct.unpack_from("<Q" if wide else "<I", data, 40 if wide else 32)
        shentsize, shnum = struct.unpack_from("<HH", data, 58 if wide else 46)
        sections = [struct.unpack_from("<IIQQQQIIQQ" if wide else "<10I", data, shoff + i * shentsize)
                    for i in range(shnum)]
        table = []
        for s in sections:
            if s[1] != 2:  # SHT_SYMTAB
                continue
            strings = sections[s[6]][4]
            for at in range(s[4], s[4] + s[5], s[9]):
                if wide:
                    name, info, _, shndx, value, size = struct.unpack_from("<IBBHQQ", data, at)
                else:
                    name, value, size, info, _, shndx = struct.unpack_from("<IIIBBH", data, at)
                if shndx == 0 or info & 15 > 2 or name == 0:
                    continue
                end = data.index(b"\0", strings + name)
                table.append((value, data[strings + name:end].decode(errors="replace"), size))
        return table
    except (struct.error, IndexError, ValueError) as e:
        raise BadTrace(f"damaged ELF file: {e}") from None
