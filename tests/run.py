#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Run the tests that Meson knows of, count their cases, and close with "N passed, N failed, N skipped".

Tests speak TAP (cmocka's, or tests/tap.py's) or just exit. A test that dies, prints no plan, or prints
fewer cases than its plan counts as failed. The timeout of a test is a guard against hangs, nothing more.
"""
import argparse
import concurrent.futures
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

CASE = re.compile(r"^(not )?ok\b\s*(\d+)?\s*(?:-\s*)?(.*)$")
PLAN = re.compile(r"^1\.\.(\d+)(?:\s*#\s*skip\w*\s*(.*))?$", re.I)
SKIP = re.compile(r"#\s*skip\w*\b\s*:?\s*(.*)$", re.I)


class Result:
    def __init__(self, name):
        self.name = name
        self.passed = 0
        self.failures = []  # names of failed cases
        self.skips = []     # (case, reason)
        self.output = ""
        self.seconds = 0.0


def parse_tap(text, result):
    """Count the cases of `text`; returns a complaint about the stream itself, or None."""
    plan, seen, note = None, 0, ""
    for line in text.splitlines():
        line = line.strip()
        m = PLAN.match(line)
        if m:
            plan = int(m[1])
            if plan == 0:
                result.skips.append((result.name, m[2] or "no reason given"))
            continue
        if line.startswith("#"):
            note = line.lstrip("# ")
            continue
        m = CASE.match(line)
        if not m:
            note = line  # cmocka's messages
            continue
        seen += 1
        title = m[3]
        skip = SKIP.search(title)
        if skip:  # cmocka calls these "not ok", as TAP allows
            case = title[:skip.start()].rstrip(" -")
            # cmocka prints the case's name where the reason should be: the note before it has the reason.
            reason = skip[1] if case else (note or skip[1])
            result.skips.append((case or skip[1], reason or "no reason given"))
        elif m[1]:
            result.failures.append(title or f"case {seen}")
        else:
            result.passed += 1
    if plan is None:
        return "no plan: the test ended early"
    if plan != seen:
        return f"plan of {plan} cases, {seen} seen"
    return None


def environment(test, args, runtime):
    env = dict(os.environ)
    env.update(test["env"])
    env["LHYVE_BUILD"] = os.path.abspath(args.build)
    env["LHYVE"] = os.path.join(env["LHYVE_BUILD"], "lhyve")
    env["LHYVECTL"] = os.path.join(env["LHYVE_BUILD"], "lhyvectl")
    env["LHYVE_CACHE"] = os.path.abspath("build/cache")
    env["XDG_RUNTIME_DIR"] = runtime  # control sockets: tests give VMs the same names
    env["LHYVE_SANITIZER"] = args.sanitizer or ""
    env.setdefault("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0:allocator_may_return_null=1")
    env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1:halt_on_error=1")
    env.setdefault("TSAN_OPTIONS", "halt_on_error=1:second_deadlock_stack=1")
    return env


def end_group(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


running = set()  # processes whose groups must not outlive us


def stop(signum, _frame):
    for process in list(running):
        end_group(process)
    os._exit(128 + signum)


def run_one(test, args):
    result = Result(test["name"])
    command = list(test["cmd"])
    if args.sanitizer == "thread" and shutil.which("setarch"):
        command = ["setarch", "-R"] + command  # its shadow wants the classic memory layout
    limit = test["timeout"] * (10 if args.sanitizer else 1)
    start = time.monotonic()
    runtime = tempfile.mkdtemp(prefix="lhyve-")
    process = subprocess.Popen(command, cwd=test["workdir"] or None, env=environment(test, args, runtime),
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, errors="replace", start_new_session=True)
    running.add(process)
    complaint = None
    try:
        result.output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        end_group(process)
        result.output, _ = process.communicate()
        complaint = f"hangs: ended after {limit} s"
    end_group(process)  # whatever it left behind
    running.discard(process)
    shutil.rmtree(runtime, ignore_errors=True)
    result.seconds = time.monotonic() - start
    if test["protocol"] == "tap":
        stream = parse_tap(result.output, result)
        if not complaint and (stream or (process.returncode != 0 and not result.failures)):
            complaint = f"exit status {process.returncode}" + (f", {stream}" if stream else "")
    elif process.returncode == 77:
        lines = result.output.strip().splitlines()
        result.skips.append((result.name, lines[-1] if lines else "no reason given"))
    elif process.returncode == 0 and not complaint:
        result.passed = 1
    elif not complaint:
        complaint = f"exit status {process.returncode}"
    if complaint:
        result.failures.append(complaint)
    return result


def wanted_sanitized(suites, sanitizer):
    """Guests are slow under a sanitizer: of the boots, those that say which sanitizer they are for."""
    return "boot" not in suites or f"boot-{sanitizer}" in suites


def chosen(args):
    listing = subprocess.run(["meson", "introspect", args.build, "--tests"], capture_output=True, text=True)
    if listing.returncode != 0:
        sys.exit(f"tests/run.py: {args.build} is not configured: {listing.stdout}{listing.stderr}")
    tests = []
    for test in json.loads(listing.stdout):
        suites = {s.split(":")[-1] for s in test["suite"]}
        if args.suite and args.suite not in suites:
            continue
        if not args.suite and not args.only and (suites & {"fuzz"} or ("long" in suites and not args.long)):
            continue
        if args.sanitizer and not args.suite and not args.only and not wanted_sanitized(suites, args.sanitizer):
            continue
        if args.only and not any(re.search(o, test["name"]) for o in args.only):
            continue
        tests.append(test)
    return sorted(tests, key=lambda t: (-t.get("priority", 0), t["name"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", help="configured build directory")
    parser.add_argument("only", nargs="*", help="names (regular expressions) of tests; default: all")
    parser.add_argument("-j", type=int, default=2, dest="jobs")
    parser.add_argument("--long", action="store_true", help="the long tests too")
    parser.add_argument("--suite", help="this suite only")
    parser.add_argument("--sanitizer", help="the build has this sanitizer: limits are wider")
    parser.add_argument("-v", "--verbose", action="store_true", help="print every test's output")
    args = parser.parse_args()

    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, stop)
    tests = chosen(args)
    lock = threading.Lock()
    results = []

    def job(test):
        r = run_one(test, args)
        with lock:
            results.append(r)
            state = "FAIL" if r.failures else "ok" if r.passed else "skip"
            print(f"{state:4} {r.name}: {r.passed} passed, {len(r.failures)} failed, "
                  f"{len(r.skips)} skipped ({r.seconds:.1f} s)", flush=True)
            if r.failures or args.verbose:
                print("\n".join("    " + line for line in r.output.splitlines()[-400:]), flush=True)

    with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, args.jobs)) as pool:
        for future in [pool.submit(job, t) for t in tests]:
            future.result()

    failed = [(r.name, f) for r in results for f in r.failures]
    skipped = [(r.name, case, why) for r in results for case, why in r.skips]
    if failed:
        print("\nFailed:")
        for name, case in failed:
            print(f"  {name}: {case}")
    if skipped:
        print("\nSkipped:")
        for name, case, why in skipped:
            print(f"  {name}: {case}: {why}")
    passed = sum(r.passed for r in results)
    print(f"\n{passed} passed, {len(failed)} failed, {len(skipped)} skipped")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
