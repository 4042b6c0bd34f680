#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""A layer includes only itself and the layers before it; tests and bench may include all."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402

LAYERS = ["base", "state", "mem", "x86", "engine", "vmmapi", "dev", "board", "vmm"]
# Layers that know nothing of some earlier one, whatever the order says.
FORBIDDEN = {"dev": {"engine", "vmmapi"}, "board": {"engine"}, "vmm": {"engine"}}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')


def complaint(path, included, exists):
    """Why `path` may not include "included", or None."""
    layer = path.split("/")[0]
    target = included.split("/")[0]
    if not exists:
        return "no such header from the root of the tree"
    if layer not in LAYERS:
        return None
    if target not in LAYERS:
        return f"{target}/ is no layer"
    if LAYERS.index(target) > LAYERS.index(layer):
        return f"{target}/ stands after {layer}/"
    if target in FORBIDDEN.get(layer, ()):
        return f"{layer}/ must not know {target}/"
    return None


def scan(root):
    bad = []
    seen = 0
    for top in LAYERS + ["tests", "bench", "tools"]:
        for folder, _, names in os.walk(os.path.join(root, top)):
            for name in sorted(names):
                if not name.endswith((".c", ".h", ".inc")):
                    continue
                full = os.path.join(folder, name)
                path = os.path.relpath(full, root)
                with open(full, encoding="utf-8", errors="replace") as f:
                    for number, line in enumerate(f, 1):
                        m = INCLUDE.match(line)
                        if not m:
                            continue
                        seen += 1
                        why = complaint(path, m[1], os.path.exists(os.path.join(root, m[1])))
                        if why:
                            bad.append(f'{path}:{number}: "{m[1]}": {why}')
    return seen, bad


def main():
    t = tap.Tap()
    t.check("the checker refuses base -> dev", complaint("base/a.c", "dev/bus.h", True))
    t.check("the checker refuses dev -> engine", complaint("dev/x/a.c", "engine/engine.h", True))
    t.check("the checker refuses paths that are not from the root", complaint("dev/a.c", "bus.h", False))
    t.check("the checker refuses vmm -> engine: lhyve is a caller of the library",
            complaint("vmm/a.c", "engine/engine.h", True) and complaint("board/a.c", "engine/kvm/kvm.h", True))
    t.check("the checker allows board -> vmmapi", not complaint("board/a.c", "vmmapi/lhyve.h", True))
    seen, bad = scan(os.getcwd())
    t.check("includes were found", seen > 10, f"{seen} lines")
    t.check("every include goes to the layer itself or one before it", not bad, "\n".join(bad))
    t.done()


main()
