#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""verify.py FLAVOUR: Linux boots to userland while the interpreter repeats what translated code did."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402
import vmm  # noqa: E402


def main():
    flavour = sys.argv[1]
    t = tap.Tap()
    name = f"{flavour} under soft.verify"
    try:
        kernel = vmm.Kernel(flavour)
    except tap.Skip as e:
        t.skip(name, e)
        t.done()
    os.environ["LHYVE_ENGINE"] = "soft"
    with kernel:
        ended = vmm.run(vmm.command("lhyve", kernel, "lhyve.demo",
                                    options=["-o", "soft.verify=true", "-o", "debug.stats=true"]))
    t.check(f"{name}: reaches userland", "Linux lhyve" in ended.out and ended.status == vmm.EXIT["poweroff"],
            f"exit status {ended.status}\n{ended.out[-3000:]}\n{ended.err[-4000:]}")
    verified = re.search(r"units verified (\d+)", ended.err)
    count = int(verified[1]) if verified else 0
    t.note(f"{count} units repeated, {ended.seconds:.0f} s")
    t.check(f"{name}: units were repeated", count > 500000, ended.err[-3000:])
    t.done()


main()
