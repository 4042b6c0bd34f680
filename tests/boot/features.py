#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Linux uses what the software engine adds to the host's processor: 5-level paging, protection keys."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import vmm  # noqa: E402
import tap  # noqa: E402

KEYS = ("x86.la57", "x86.pku", "x86.pks")
GUEST = "settle;echo,lhyve:,cpu;cat,/proc/cpuinfo;echo,lhyve:,warnings;warnings;poweroff"


def main():
    t = tap.Tap()
    try:
        if os.environ.get("LHYVE_ENGINE", "soft") != "soft":
            raise tap.Skip("the software engine only")
        kernel = vmm.Kernel("cloud-amd64")
    except tap.Skip as e:
        t.skip("features", e)
        t.done()
    with kernel:
        ended = vmm.run(vmm.command("lhyve", kernel, f"lhyve.run={GUEST}",
                                    options=[w for key in KEYS for w in ("-o", f"{key}=true")]))
        t.equal("boots and powers off", ended.status, vmm.EXIT["poweroff"])
        cpu = dict(line.split(":", 1) for line in ended.between("lhyve: cpu", "lhyve: warnings") if ":" in line)
        cpu = {key.strip(): value.strip() for key, value in cpu.items()}
        flags = cpu.get("flags", "").split()
        # The kernel shows la57 and ospke only when it has switched them on.
        t.check("with 5 levels", "la57" in flags and "57 bits virtual" in cpu["address sizes"], str(cpu))
        t.check("with user pages' keys", "pku" in flags and "ospke" in flags, str(flags))
        warnings = [w for w in ended.between("lhyve: warnings", "lhyve: end of warnings")
                    if not any(busy in w for busy in vmm.BUSY_HOST)]
        t.equal("without complaint", warnings, [])
    t.done()


main()
