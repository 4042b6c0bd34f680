#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""The interactive shell on a pseudo-terminal: type, edit the line, Ctrl-C, the date, the escape `~.`; then signals.

    shell.py [--vmm lhyve|qemu] [FLAVOUR]
"""
import argparse
import os
import signal
import sys
import termios
import time

import pexpect

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import vmm  # noqa: E402
import tap  # noqa: E402

GUARD = int(os.environ.get("LHYVE_GUARD", "600"))  # seconds: against hangs only
PROMPT = "lhyve # "


class Session:
    def __init__(self, which, kernel, cmdline="", cpus=1):
        self.which = which
        argv = vmm.command(which, kernel, cmdline, cpus=cpus)
        self.p = pexpect.spawn(argv[0], argv[1:], timeout=GUARD, encoding="utf-8", codec_errors="replace",
                               dimensions=(24, 200))
        self.before_mode = termios.tcgetattr(self.p.child_fd)
        # The guest echoes what is typed, never at the speed of a paste into a FIFO of 16 bytes.
        self.p.delaybeforesend = 0.05

    def prompt(self):
        self.p.expect_exact(PROMPT)

    def ask(self, line, answer):
        """Type a line; its answer is a regular expression on a line of its own."""
        self.p.send(line + "\r")
        self.p.expect(r"\n" + answer + r"\r*\n")
        match = self.p.match
        self.prompt()
        return match

    def end(self):
        self.p.expect(pexpect.EOF)
        self.p.wait()
        return self.p.exitstatus if self.p.exitstatus is not None else -self.p.signalstatus

    def restored(self):
        return termios.tcgetattr(self.p.child_fd)[:6] == self.before_mode[:6]


def typing(s):
    s.ask("echo $((6 * 7))", "42")
    s.ask("tty", "/dev/(ttyS0|console)")


def editing(s):
    s.p.send("echo abX")
    s.p.send("\x7f")      # backspace
    s.p.send("d")
    s.p.send("\x1b[D")    # left
    s.p.send("c")
    s.p.send("\r")
    s.p.expect(r"\nabcd\r*\n")
    s.prompt()
    s.p.send("\x1b[A")    # up: the same line again
    s.p.send("\r")
    s.p.expect(r"\nabcd\r*\n")
    s.prompt()


def ctrl_c(s):
    s.p.send("sleep 100000\r")
    s.p.expect_exact("sleep 100000")
    s.p.send("\x03")
    s.prompt()
    s.ask("echo status $?", "status 130")


def job_control(s):
    s.p.send("sleep 100000\r")
    s.p.expect_exact("sleep 100000")
    s.p.send("\x1a")
    s.p.expect_exact("Stopped")
    s.prompt()
    s.ask("kill %1; echo gone", "gone")


def long_paste(s):
    """A line far longer than the UART's FIFO arrives whole."""
    words = "".join(chr(ord("a") + i % 26) for i in range(600))
    s.p.send(f"echo {words} | md5sum\r")
    s.p.expect(r"\n([0-9a-f]{32})  -\r*\n")
    import hashlib
    want = hashlib.md5((words + "\n").encode()).hexdigest()
    got = s.p.match[1]
    s.prompt()
    assert got == want, f"{got} != {want}"


def much_output(s):
    s.p.send("seq 1 3000 | md5sum; seq 1 3000; echo end\r")
    s.p.expect(r"\n([0-9a-f]{32})  -\r*\n")
    s.p.expect(r"\nend\r*\n")
    numbers = s.p.before.split()
    s.prompt()
    assert numbers == [str(i) for i in range(1, 3001)], f"{len(numbers)} numbers"


def date(s):
    """The guest's clock is within a second of ours. Its answer is from between the question and the answer's
    arrival. (QEMU's own RTC lags by up to a second more: the second one allowed there proves the test only.)"""
    before = time.time()
    m = s.ask("now", r"(\d{9,}\.\d+)")
    after = time.time()
    guest = float(m[1])
    slack = 1 if s.which == "lhyve" else 2
    assert before - slack < guest < after + slack, f"guest {guest:.3f}, host {before:.3f} to {after:.3f}"


def raw_bytes(s):
    """Control characters that a cooked terminal would eat reach the guest."""
    s.p.send("head -c 3 | od -An -tx1\r")
    s.p.expect_exact("od -An -tx1")
    s.p.send("\x16\x11x\x04\x04")  # ^V ^Q: literally; then x, and end of file twice
    s.p.expect(r"11 78")
    s.prompt()


def escape(s):
    s.p.send("\r")
    s.prompt()
    s.p.send("\r~.")
    status = s.end()
    assert status in vmm.EXIT.values(), f"status {status}"
    assert s.restored(), "the terminal is not as it was"


def interactive(t, which, kernel):
    s = Session(which, kernel)
    try:
        s.prompt()
    except (pexpect.EOF, pexpect.TIMEOUT):
        t.check("a prompt", False, s.p.before[-4000:])
        return
    t.check("a prompt", True)
    for name, fn in (("typing", typing), ("line editing and history", editing), ("Ctrl-C", ctrl_c),
                     ("Ctrl-Z and kill", job_control), ("a long line arrives whole", long_paste),
                     ("much output arrives whole", much_output), ("the guest's date", date),
                     ("literal control characters", raw_bytes)):
        t.case(name, fn, s)
    if which == "lhyve":
        t.case("~. ends it and gives the terminal back", escape, s)
    else:
        s.p.send("poweroff\r")
        t.equal("poweroff ends it", s.end(), 0)
    s.p.close(force=True)


def power_button(which, kernel):
    s = Session(which, kernel, "lhyve.run=power_button;poweroff")
    s.p.expect(r"lhyve: (waiting for the|no) power button")
    assert s.p.match[1] == "waiting for the", "the guest sees no power button"
    os.kill(s.p.pid, signal.SIGTERM)
    s.p.expect_exact("lhyve: power button")
    status = s.end()
    assert status == vmm.EXIT["poweroff"], f"status {status}"
    assert s.restored(), "the terminal is not as it was"


def second_signal(which, kernel):
    s = Session(which, kernel, "lhyve.run=sleep,100000")
    s.p.expect_exact("lhyve: userland")
    os.kill(s.p.pid, signal.SIGTERM)
    time.sleep(0.2)  # two signals at once may merge into one
    os.kill(s.p.pid, signal.SIGTERM)
    status = s.end()
    assert status == vmm.EXIT["poweroff"], f"status {status}"
    assert s.restored(), "the terminal is not as it was"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--vmm", choices=("lhyve", "qemu"), default="lhyve")
    parser.add_argument("flavour", nargs="?", default="cloud-amd64")
    args = parser.parse_args()
    t = tap.Tap()
    try:
        kernel = vmm.Kernel(args.flavour)
    except tap.Skip as e:
        t.skip(f"{args.flavour}: the shell", e)
        t.done()
    with kernel:
        interactive(t, args.vmm, kernel)
        if args.vmm == "lhyve":
            t.case("SIGTERM presses the power button", power_button, args.vmm, kernel)
            t.case("a second SIGTERM ends it", second_signal, args.vmm, kernel)
    t.done()


main()
