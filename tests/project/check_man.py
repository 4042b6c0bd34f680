#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""The manual pages are clean mdoc."""
import glob
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402


def main():
    t = tap.Tap()
    build = os.environ.get("LHYVE_BUILD", "build")
    pages = sorted(p for p in glob.glob("doc/man/*.[0-9]") + glob.glob(os.path.join(build, "*.[0-9]"))
                   if ".so." not in p)
    t.check("there are manual pages, also of the build", {"lhyve.8", "lhyvectl.8", "lhyve_config.5"} <=
            {os.path.basename(p) for p in pages}, pages)
    for page in pages:
        if not shutil.which("mandoc"):
            t.skip(page, "mandoc is not installed")
            continue
        r = subprocess.run(["mandoc", "-Tlint", page], capture_output=True, text=True)
        t.check(os.path.basename(page), r.returncode == 0 and not r.stdout, r.stdout + r.stderr)
    t.done()


main()
