#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Run a libFuzzer target over its committed seeds, then over what it makes of them:
run.py TARGET SEEDS RUNS|SECONDSs. The target "none": this build has no libFuzzer."""
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402


def main():
    target, seeds, runs = sys.argv[1:]
    t = tap.Tap()
    files = sorted(os.path.join(seeds, f) for f in os.listdir(seeds))
    t.check("there are seeds", files)
    limit = f"-max_total_time={runs[:-1]}" if runs.endswith("s") else f"-runs={runs}"
    if target == "none":
        t.skip("fuzzing", "no clang with libFuzzer (apt-get install clang libclang-rt-14-dev)")
        t.done()
    with tempfile.TemporaryDirectory() as tmp:
        options = [f"-artifact_prefix={tmp}/", "-timeout=30", "-rss_limit_mb=2048"]
        r = subprocess.run([target, *options, *files], capture_output=True, text=True, errors="replace")
        t.check("the seeds", r.returncode == 0, r.stderr[-3000:])
        found = os.path.join(tmp, "corpus")
        os.mkdir(found)
        r = subprocess.run([target, *options, limit, "-max_len=16384", "-print_final_stats=1", found, seeds],
                           capture_output=True, text=True, errors="replace")
        t.check(f"{runs}{'' if runs.endswith('s') else ' runs'}", r.returncode == 0, r.stderr[-3000:])
        for name in os.listdir(tmp):
            if name != "corpus":
                with open(os.path.join(tmp, name), "rb") as f:
                    t.note(f"{name}: {f.read(512).hex()}")
        t.note(f"{len(os.listdir(found))} inputs that reach new code")
    t.done()


main()
