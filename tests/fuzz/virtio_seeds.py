#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Write the seeds of tests/fuzz/virtio.c: drivers that do things right, for libFuzzer to spoil. virtio_seeds.py FOLDER"""
import os
import struct
import sys

POKE, REG, REG_READ, CFG, NOTIFY, START, DESC, OFFER, PUMP, FRAME, RESET, HEADER = range(12)
BLK, NET, CONSOLE, RND = range(4)
NEXT, WRITE, INDIRECT = 1, 2, 4
PACKED, ALL = 1 << 34, (1 << 64) - 1
SPLIT = ALL & ~PACKED
DATA = 0x60000


def act(kind, device=0, x=0, y=0, a=0, b=0):
    return struct.pack("<BBBBIQ", kind, device, x, y, a & 0xffffffff, b & ALL)


def desc(device, queue, index, gpa, length, flags=0, link=0):
    return act(DESC, device, queue, index, length | flags << 16, gpa | link << 32)


def chain(device, queue, *bufs):
    out = b""
    for i, (gpa, length, flags) in enumerate(bufs):
        last = i == len(bufs) - 1
        out += desc(device, queue, i, gpa, length, flags | (0 if last else NEXT), i + 1)
    return out + act(OFFER, device, queue, 0) + act(PUMP)


def disk(kind, sector, flags, length=4096):
    return act(HEADER, BLK, kind, 0, 0, sector) + chain(BLK, 0, (DATA, 16, 0), (DATA + 0x1000, length, flags),
                                                        (DATA + 0x400, 1, WRITE))


def seeds():
    for name, features in (("split", SPLIT), ("split-no-events", SPLIT & ~(1 << 29)), ("plain", 1 << 32)):
        go = act(START, BLK, b=features)
        yield f"blk-{name}", go + disk(1, 3, 0) + disk(0, 3, WRITE) + act(RESET, BLK) + act(PUMP)
        go = act(START, NET, b=features)
        yield f"net-{name}", (go + chain(NET, 1, (DATA, 12, 0), (DATA + 64, 100, 0)) + desc(NET, 0, 0, DATA, 2048, WRITE)
                              + act(OFFER, NET, 0, 0) + act(FRAME, a=200, b=DATA) + act(PUMP) + act(PUMP))
        go = act(START, CONSOLE, b=features)
        yield f"console-{name}", (go + desc(CONSOLE, 2, 0, DATA, 64, WRITE) + act(OFFER, CONSOLE, 2, 0)
                                  + act(POKE, 0, 0, 7, DATA + 0x1000, 1 << 48) + chain(CONSOLE, 3, (DATA + 0x1000, 8, 0)))
        go = act(START, RND, b=features)
        yield f"rnd-{name}", go + chain(RND, 0, (DATA, 64, WRITE))
    go = act(START, BLK, b=SPLIT)
    yield "blk-flush", go + disk(4, 0, WRITE, 1)
    yield "blk-id", go + disk(8, 0, WRITE, 20)
    for kind, name in ((11, "discard"), (13, "zeroes")):
        yield f"blk-{name}", go + act(POKE, 0, 0, 7, DATA + 0x1008, 8) + disk(kind, 0, 0, 16)
    yield "blk-indirect", (go + act(HEADER, BLK, 0, 0, 0, 1) + b"".join(
        act(POKE, 0, 0, 7, 0x50000 + 16 * i + 8 * w, v) for i, d in enumerate(
            ((DATA, 16 | NEXT << 32 | 1 << 48), (DATA + 0x1000, 512 | (NEXT | WRITE) << 32 | 2 << 48),
             (DATA + 0x400, 1 | WRITE << 32))) for w, v in enumerate(d)) + chain(BLK, 0, (0x50000, 48, INDIRECT)))
    packed = act(START, BLK, b=ALL)
    base = 0x10000
    yield "blk-packed", packed + act(HEADER, BLK, 0, 0, 0, 1) + b"".join(
        act(POKE, 0, 0, 7, base + 16 * i, gpa) + act(POKE, 0, 0, 7, base + 16 * i + 8, length | 0 << 32 | (flags | 0x80) << 48)
        for i, (gpa, length, flags) in enumerate(((DATA, 16, NEXT), (DATA + 0x1000, 512, NEXT | WRITE),
                                                  (DATA + 0x400, 1, WRITE)))) + act(NOTIFY, BLK, 0) + act(PUMP)
    go = act(START, NET, b=SPLIT)
    for name, head in (("promisc", 0x010000), ("mac", 0x01), ("pairs", 0x020004)):
        yield f"net-control-{name}", go + act(POKE, 0, 0, 7, DATA, head) + chain(NET, 4, (DATA, 8, 0), (DATA + 64, 1, WRITE))
    yield "window", act(CFG, BLK, 0, 0, 0x94, 4) + act(CFG, BLK, 0, 0, 0x98, 0x14) + act(CFG, BLK, 0, 0, 0x9c, 1) + act(
        CFG, BLK, 0, 0, 0xa0, 1)
    yield "bars", act(CFG, BLK, 0, 0, 0x20, 0xffffffff) + act(CFG, BLK, 0, 0, 4, 0) + act(CFG, BLK, 0, 0, 4, 6)


def main():
    os.makedirs(sys.argv[1], exist_ok=True)
    for name, data in seeds():
        with open(os.path.join(sys.argv[1], name), "wb") as f:
            f.write(data)


main()
