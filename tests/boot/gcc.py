#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""gcc.py [--vmm lhyve|qemu] [COUNT]: Debian's gcc compiles lhyve's own sources in a guest of two vCPUs, and on this host, from the same
packages: the objects have to be the same, byte for byte."""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import vmm  # noqa: E402
import tap  # noqa: E402

LAYERS = ("base", "state", "mem", "x86", "engine", "vmmapi", "dev", "board")
OTHERS = re.compile(r"#include <(liburing|slirp)")  # libraries that the tree does not have
FLAGS = "-std=gnu17 -O2 -g -Wall -D_GNU_SOURCE= -DLHYVE_VERSION=\"0\" -Isrc -Isrc/vmmapi -Isrc/vmmapi/x86_64 -c"


def sources():
    """What can be compiled with the tree's headers, relative to the root of the project."""
    found = []
    for layer in LAYERS:
        for folder, _, names in os.walk(os.path.join(vmm.ROOT, layer)):
            found += [os.path.join(folder, n) for n in names if n.endswith(".c")]
    keep = []
    for path in sorted(found):
        with open(path, encoding="utf-8") as f:
            if not OTHERS.search(f.read()):
                keep.append(os.path.relpath(path, vmm.ROOT))
    return keep


def make_tree(top, files):
    """A copy of the packages' tree (by links) with the sources and the list of what to compile."""
    tree = os.path.join(top, "tree")
    subprocess.run(["cp", "-al", vmm.tree("gcc", "gcc", "libc6-dev", "libzydis-dev"), tree], check=True)
    for layer in LAYERS:
        shutil.copytree(os.path.join(vmm.ROOT, layer), os.path.join(tree, "src", layer))
    os.mkdir(os.path.join(tree, "out"))
    with open(os.path.join(tree, "files"), "w", encoding="utf-8") as f:
        for path in files:
            f.write(f"{path[:-2].replace('/', '_')}.o {FLAGS} src/{path}\n")
    return tree


def enter(tree):
    """The words that run a command in the tree on this host."""
    if os.geteuid() == 0:
        return ["chroot", tree]
    words = ["unshare", "-r", "chroot", tree]
    if not shutil.which("unshare") or subprocess.run([*words, "/usr/bin/gcc", "--version"], capture_output=True).returncode != 0:
        raise tap.Skip("no privilege to change the root directory here, nor a user namespace to do it in")
    return words


def on_host(tree, files):
    """{object: bytes}"""
    words = enter(tree)
    out = os.path.join(tree, "out")
    with open(os.path.join(tree, "files"), encoding="utf-8") as f:
        for line in f:
            name, *flags = line.split()
            r = subprocess.run([*words, "/usr/bin/gcc", *flags, "-o", f"out/{name}"], capture_output=True, text=True)
            assert r.returncode == 0, f"{name} on the host: {r.stderr[-2000:]}"
    objects = {}
    for name in os.listdir(out):
        with open(os.path.join(out, name), "rb") as f:
            objects[name] = f.read()
        os.unlink(os.path.join(out, name))
    assert len(objects) == len(files)
    return objects


def in_guest(which, tree, top):
    """How it ended, and {object: bytes}."""
    script, disk = os.path.join(top, "gcc-guest"), os.path.join(top, "disk")
    shutil.copy(os.path.join(vmm.HERE, "gcc-guest"), script)
    with open(disk, "wb") as f:
        f.truncate(256 << 20)
    with vmm.Kernel("cloud-amd64") as kernel:
        kernel.pack([script, *kernel.modules("virtio.*")], tree)
        argv = vmm.command(which, kernel, "lhyve.run=virtio;gcc-guest;poweroff", cpus=2, memory="2G")
        if which == "qemu":
            argv += ["-drive", f"file={disk},if=virtio,format=raw"]
        else:
            argv[1:1] = ["-s", f"3,virtio-blk,{disk}"]
        ended = vmm.run(argv)
    objects = {}
    if "gcc: written" in ended.out:
        with tarfile.open(disk) as tar:
            objects = {os.path.basename(m.name): tar.extractfile(m).read() for m in tar if m.isfile()}
    return ended, objects


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--vmm", choices=("lhyve", "qemu"), default="lhyve")
    parser.add_argument("count", type=int, nargs="?")
    args = parser.parse_args()
    t = tap.Tap()
    files = sources()[:args.count]
    with tempfile.TemporaryDirectory(dir=vmm.CACHE) as top:
        try:
            tree = make_tree(top, files)
            host = on_host(tree, files)
            ended, guest = in_guest(args.vmm, tree, top)
        except tap.Skip as e:
            t.skip("gcc", e)
            t.done()
    t.note(f"{len(files)} files, {sum(map(len, host.values()))} bytes of objects, {ended.seconds:.0f} s in the guest")
    t.check("some hundred files", args.count or len(files) >= 100, len(files))
    t.check("the guest compiles and powers off", guest and ended.status == vmm.expected_exit(args.vmm, "poweroff"),
            f"exit status {ended.status}\n{ended.out[-4000:]}\n{ended.err[-2000:]}")
    t.equal("no file is missing", sorted(set(host) - set(guest)), [])
    t.equal("all objects are the same", sorted(n for n in host if guest.get(n) != host[n]), [])
    t.done()


main()
