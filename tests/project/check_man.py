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
    pages = sorted(glob.glob("doc/man/*.[0-9]"))
    t.check("there are manual pages", pages)
    for page in pages:
        if not shutil.which("mandoc"):
            t.skip(page, "mandoc is not installed")
            continue
        r = subprocess.run(["mandoc", "-Tlint", page], capture_output=True, text=True)
        t.check(page, r.returncode == 0 and not r.stdout, r.stdout + r.stderr)
    t.done()


main()
