#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""A distribution kernel goes to S3 and comes back by the RTC's alarm, with all CPUs, its console and its time.

    suspend.py [--vmm lhyve|qemu] [FLAVOUR [CPUS]]
"""
import argparse
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import vmm  # noqa: E402
import tap  # noqa: E402

GUEST = "settle;suspend,2;echo,lhyve:,time;date,-u,+%s;nproc;clocksource;echo,lhyve:,warnings;warnings;poweroff"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--vmm", choices=("lhyve", "qemu"), default="lhyve")
    parser.add_argument("flavour", nargs="?", default="cloud-amd64")
    parser.add_argument("cpus", type=int, nargs="?", default=2)
    args = parser.parse_args()
    t = tap.Tap()
    try:
        kernel = vmm.Kernel(args.flavour)
    except tap.Skip as e:
        t.skip("suspend", e)
        t.done()
    with kernel:
        before = int(time.time())
        ended = vmm.run(vmm.command(args.vmm, kernel, f"lhyve.run={GUEST}", cpus=args.cpus))
        after = time.time()
        lines = ended.out.splitlines()
        if not t.check("wakes up", "lhyve: awake" in lines, ended.out[-4000:] + ended.err):
            t.done()
        t.check("from S3", "s2idle [deep]" in lines, ended.out[-4000:])
        now, cpus, source = ended.between("lhyve: time", "lhyve: warnings")
        t.equal("with all CPUs", cpus, str(args.cpus))
        t.equal("with the TSC", source, "tsc")
        # Linux adds whole seconds of the RTC for the time it slept.
        t.check("at the right time", before - 1 <= int(now) <= after + 1, f"{now}, host {before} to {after:.1f}")
        warnings = [w for w in ended.between("lhyve: warnings", "lhyve: end of warnings")
                    if not any(busy in w for busy in vmm.BUSY_HOST)]
        t.equal("without complaint", warnings, [])
        t.equal("and powers off", ended.status, vmm.expected_exit(args.vmm, "poweroff"))
    t.done()


main()
