# SPDX-License-Identifier: BSD-2-Clause
"""A small guest (tests/guest/control.c) in lhyve, and raw HTTP to its control socket."""
import http.client
import json
import os
import socket
import subprocess
import tempfile
import time

LHYVE = os.environ.get("LHYVE", "build/lhyve")
LHYVECTL = os.environ.get("LHYVECTL", "build/lhyvectl")
RUNTIME = os.environ["XDG_RUNTIME_DIR"]
GUEST = None  # set by main
MAGIC = 0x6c68797665  # what the guest keeps in R15


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("lhyve", timeout=120)
        self.path = path

    def connect(self):
        self.sock = dial(self.path)


def dial(path):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)  # waits while the queue is full; with a time limit it would not
    s.settimeout(120)
    return s


def socket_of(name):
    return os.path.join(RUNTIME, "lhyve", name + ".sock")


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        return self.json.get("error", "")


def ask(path, method, url, body=None, headers=None):
    c = UnixConnection(path)
    try:
        c.request(method, url, body, headers or {})
        r = c.getresponse()
        return Reply(r.status, r.headers, r.read())
    finally:
        c.close()


class VM:
    """A running guest; com1 is read by a thread-less readline(), so tests read what they wait for."""

    def __init__(self, name, *options, com1="stdio", env=None, ready=True):
        self.name, self.path = name, socket_of(name)
        self.err = tempfile.TemporaryFile("a+")  # O_APPEND: reading it moves no offset of the writer
        com1 = ["-l", f"com1,{com1}"] if com1 else []
        self.process = subprocess.Popen(
            [LHYVE, "-c", "2", "-m", "32M", *com1, "-l", "pc-testdev", "-o", f"boot.kernel={GUEST}", *options, name],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.err, env=env)
        self.said = b""
        if ready and com1 == ["-l", "com1,stdio"]:
            self.expect("ready")
        while ready and com1 != ["-l", "com1,stdio"] and not self.loops():
            time.sleep(0.01)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.err.close()

    def loops(self):
        """The guest is where it says "ready", seen from outside."""
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended: {self.process.returncode} {self.stderr()}")
        try:
            return self.get("/regs?cpu=0").json["cpus"][0]["general"]["r15"] == hex(MAGIC)
        except OSError:
            return False

    def line(self):
        text = self.process.stdout.readline()
        self.said += text
        if not text:
            raise AssertionError(f"{self.name} ended: {self.said[-500:]} {self.stderr()}")
        return text.decode(errors="replace").strip()

    def expect(self, want):
        while self.line() != want:
            pass

    def get(self, url):
        return ask(self.path, "GET", url)

    def post(self, url, body=None):
        return ask(self.path, "POST", url, body)

    def put(self, url, body):
        return ask(self.path, "PUT", url, body)

    def status(self):
        return self.get("/status").json

    def ended(self):
        """Exit status, once it has ended (the test's own timeout guards against hangs)."""
        self.said += self.process.stdout.read()
        return self.process.wait()

    def stderr(self):
        self.err.seek(0)
        return self.err.read()


def lhyve(*args, env=None):
    return subprocess.run([LHYVE, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env)


def ctl(*args, stdin=subprocess.DEVNULL, env=None):
    return subprocess.run([LHYVECTL, *args], stdin=stdin, capture_output=True, text=True, env=env)


def left_behind():
    folder = os.path.join(RUNTIME, "lhyve")
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []
