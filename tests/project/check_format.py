#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Every C file is as clang-format leaves it (headers are laid out by hand), and opens with its licence."""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402

FOLDERS = ["base", "state", "mem", "x86", "engine", "vmmapi", "dev", "board", "vmm", "tests", "bench"]


def sources():
    for top in FOLDERS:
        for folder, _, names in os.walk(top):
            for name in sorted(names):
                if name.endswith((".c", ".h")):
                    yield os.path.join(folder, name)


def formatter():
    """clang-format of the major version whose output the tree has, or None."""
    for name in ("clang-format-14", "clang-format"):
        if shutil.which(name):
            version = subprocess.run([name, "--version"], capture_output=True, text=True).stdout
            if " version 14." in version:
                return name
    return None


def main():
    t = tap.Tap()
    files = list(sources())
    bare = [f for f in files if "SPDX-License-Identifier: BSD-2-Clause" not in open(f, encoding="utf-8").readline()]
    t.check("every source opens with its licence", not bare, "\n".join(bare))
    tool = formatter()
    if not tool:
        t.skip("clang-format", "clang-format 14 is not installed")
    else:
        r = subprocess.run([tool, "--dry-run", "-Werror"] + [f for f in files if f.endswith(".c")],
                           capture_output=True, text=True)
        t.check("clang-format", r.returncode == 0, r.stderr[:4000])
    t.done()


main()
