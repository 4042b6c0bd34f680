#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Linux with the remapping unit: it finds it, puts DMA and interrupts through it, and names a device's bad access.

    remap.py [--no-x2apic]
"""
import hashlib
import os
import re
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import vmm  # noqa: E402
import tap  # noqa: E402

MIB = 1 << 20


def modules(kernel):
    found = []
    for folder, _, names in os.walk(kernel.dir):
        found += [os.path.join(folder, n) for n in names if re.match(r"virtio(|_ring|_blk|_pci.*)\.ko", n)]
    return sorted(found)


def boot(t, kernel, tmp, x2apic):
    label = "x2APIC" if x2apic else "xAPIC"
    guest, disk = os.path.join(tmp, "remap_guest"), os.path.join(tmp, "disk")
    data = os.urandom(4 * MIB)
    with open(os.path.join(vmm.HERE, "remap-guest"), encoding="utf-8") as f, open(guest, "w", encoding="utf-8") as to:
        to.write(f.read())
    with open(disk, "wb") as f:
        f.write(data)
    vmm.script("mkinitramfs", "amd64", kernel.initrd, guest, *modules(kernel))
    options = ["-o", "x86.vtd=true", "-s", f"3,virtio-blk,{disk}", "-s", "6,edu", *([] if x2apic else ["-a"])]
    ended = vmm.run(vmm.command("lhyve", kernel, "intel_iommu=on lhyve.run=virtio;remap_guest;poweroff", cpus=2,
                                options=options))
    out = ended.out
    if not t.check(f"{label}: boots", ended.status == vmm.EXIT["poweroff"] and "remap: end" in out.splitlines(),
                   out[-4000:] + ended.err):
        return
    said = "\n".join(ended.between("remap: kernel", "remap: fault"))
    t.check(f"{label}: DMA is remapped", "DMAR: Intel(R) Virtualization Technology for Directed I/O" in said, said)
    t.check(f"{label}: interrupts are", f"Enabled IRQ remapping in {'x2apic' if x2apic else 'xapic'} mode" in said, said)
    groups = re.search(r"^remap: groups (\d+)$", out, re.M)
    t.check(f"{label}: each device is in a group", groups and int(groups[1]) >= 3, said)
    table = "\n".join(ended.between("remap: interrupts", "remap: kernel"))
    t.check(f"{label}: the disk's come as messages through it",
            re.search(r"IR-PCI-MSIX?\S* .*virtio0-req", table) is not None, table)
    t.check(f"{label}: the serial port's too", re.search(r"IR-IO-APIC .*ttyS0", table) is not None, table)
    t.check(f"{label}: the disk reads as it was written",
            f"remap: disk {hashlib.md5(data).hexdigest()}" in out.splitlines(), out[-4000:])
    fault = "\n".join(ended.between("remap: fault", "remap: end"))
    t.check(f"{label}: the kernel names a read that no one allowed",
            re.search(r"\[DMA Read.*\] Request device \[00:06\.0\] fault addr 0x1234000 \[fault reason 0x0[26]\]",
                      fault) is not None, fault + ended.err)


def main():
    t = tap.Tap()
    try:
        kernel = vmm.Kernel("cloud-amd64")
    except tap.Skip as e:
        t.skip("remap", e)
        t.done()
    with kernel, tempfile.TemporaryDirectory() as tmp:
        for x2apic in (True, False):
            boot(t, kernel, tmp, x2apic)
    t.done()


main()
