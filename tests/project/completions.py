#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Completions that the build makes: each shell reads them, and bash and fish complete with them."""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402

BUILD = os.environ.get("LHYVE_BUILD", "build")


def path(shell, program):
    return os.path.join(BUILD, f"{shell}-{program}")


def bash(line, programs=("lhyve", "lhyvectl")):
    """What bash offers for the last word of `line`, split as it splits."""
    words = line.split(" ")
    split = []
    for w in words:
        head, eq, tail = w.partition("=")
        split += [head] + ([eq] if eq else []) + ([tail] if tail else [])
    script = "".join(f". {path('bash', p)}\n" for p in programs)
    script += f"COMP_WORDS=({' '.join(repr(w) for w in split)})\nCOMP_CWORD={len(split) - 1}\n"
    script += f"_{words[0]} >/dev/null\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
    env = dict(os.environ, PATH=BUILD + os.pathsep + os.environ["PATH"])
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=env, check=True).stdout.split()


def fish(line):
    script = f"source {path('fish', line.split(' ')[0])}; complete -C {line!r}"
    r = subprocess.run(["fish", "--no-config", "-c", script], capture_output=True, text=True, check=True)
    return [x.split("\t")[0] for x in r.stdout.splitlines()]


def main():
    t = tap.Tap()
    for shell in ("bash", "zsh", "fish"):
        for program in ("lhyve", "lhyvectl"):
            name = f"{shell} -n: {program}"
            if not shutil.which(shell):
                t.skip(name, f"{shell} is not installed")
                continue
            r = subprocess.run([shell, "-n", path(shell, program)], capture_output=True, text=True)
            t.check(name, r.returncode == 0 and r.stderr == "", r.stderr)
    if not shutil.which("bash"):
        t.skip("bash completes", "bash is not installed")
    else:
        t.equal("bash: a key", bash("lhyve -o log.l"), ["log.level="])
        t.equal("bash: its value", bash("lhyve -o log.level=in"), ["info"])
        t.equal("bash: all its values", bash("lhyve -o log.level="), ["error", "warn", "info", "debug"])
        t.check("bash: letters", {"-k", "-m", "--schema"} <= set(bash("lhyve -")))
        t.equal("bash: a verb", bash("lhyvectl pow"), ["poweroff"])
        t.check("bash: an option", bash("lhyvectl stats x --prom") == ["--prometheus"])
    if not shutil.which("fish"):
        t.skip("fish completes", "fish is not installed")
    else:
        t.equal("fish: a key", sorted(fish("lhyve -o log.j")), ["log.json=", "log.json=false", "log.json=true"])
        t.equal("fish: a verb", fish("lhyvectl pow"), ["poweroff"])
    t.done()


main()
