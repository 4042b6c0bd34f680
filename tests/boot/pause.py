#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""A distribution kernel that is paused again and again, from its first instruction on, and does not see it.

    pause.py [FLAVOUR [CPUS]]
"""
import os
import random
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../ctl"))
import vmm  # noqa: E402
import tap  # noqa: E402
import vm  # noqa: E402

GUEST = ("echo,lhyve:,work;sha256sum,/bin/busybox;sleep,1;sha256sum,/bin/busybox;cat,/proc/uptime;nproc;clocksource;"
         "echo,lhyve:,warnings;warnings;poweroff")


# Linux's early check that ten ticks of the PIT come in 40 ms: some are one where the host lets a VM wait for its
# processors, as each resume may. Nothing else that depends on time is allowed.
STOLEN = vmm.BUSY_HOST | {"MP-BIOS bug: 8254 timer not connected to IO-APIC"}


class Paused:
    """What was done to the VM: rounds, and for how long at least it stood."""

    def __init__(self, path):
        self.path, self.rounds, self.seconds = path, 0, 0.0

    def round(self, seconds):
        try:
            if vm.ask(self.path, "POST", "/pause").status != 200:
                return
            start = time.monotonic()
            time.sleep(seconds)
            stood = time.monotonic() - start
            if vm.ask(self.path, "POST", "/resume").status == 200:
                self.rounds += 1
                self.seconds += stood
        except (OSError, vm.http.client.HTTPException):
            pass  # not there yet, or gone


def main():
    flavour = sys.argv[1] if len(sys.argv) > 1 else "cloud-amd64"
    cpus = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    t = tap.Tap()
    try:
        kernel = vmm.Kernel(flavour)
    except tap.Skip as e:
        t.skip("pause", e)
        t.done()
    with kernel:
        start = time.monotonic()
        p = subprocess.Popen(vmm.command("lhyve", kernel, f"lhyve.run={GUEST}", cpus=cpus), stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        paused = Paused(vm.socket_of("test"))
        dice = random.Random(1)
        while p.poll() is None:
            paused.round(2.5 if paused.rounds == 10 else dice.random() * 0.1)
            time.sleep(dice.random() * 0.1)
        elapsed = time.monotonic() - start
        out, err = p.communicate()
        ended = vmm.Ended(p.returncode, out.decode(errors="replace").replace("\r", ""), err.decode(errors="replace"), elapsed)
        t.note(f"{paused.rounds} pauses, {paused.seconds:.1f} of {elapsed:.1f} s")
        t.check("it was paused", paused.rounds > 0)
        first, second, uptime, seen, source = ended.between("lhyve: work", "lhyve: warnings")
        t.check("what it computes is right", first == second and first.endswith("/bin/busybox"), first + second)
        up = float(uptime.split()[0])
        t.check("its time stood while it was paused", up <= elapsed - paused.seconds, f"{up} {elapsed} {paused.seconds}")
        t.equal("with all CPUs and the TSC", (seen, source), (str(cpus), "tsc"))
        warnings = [w for w in ended.between("lhyve: warnings", "lhyve: end of warnings")
                    if not any(busy in w for busy in STOLEN)]
        t.equal("without complaint", warnings, [])
        t.equal("and powers off", ended.status, vmm.expected_exit("lhyve", "poweroff"))
    t.done()


main()
