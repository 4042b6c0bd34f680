#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Libraries that are loaded when they are first needed: libraries.py OTHER_LIBRARY GUEST

A VM that has no use for one starts without it. Where one is missing, damaged or another one, who asks for it gets one line
that says what to install."""
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402

LHYVE = os.path.abspath(os.environ.get("LHYVE", "build/lhyve"))
OTHER, GUEST = sys.argv[1:]


def none_at_start():
    """What the loader maps before main()."""
    r = subprocess.run([LHYVE, "--version"], capture_output=True, text=True, check=True,
                       env={**os.environ, "LD_TRACE_LOADED_OBJECTS": "1"})
    assert "libc.so" in r.stdout, r.stdout
    found = re.findall(r"lib(?:slirp|glib|microhttpd|gnutls)\S*", r.stdout)
    assert not found, found


def with_library(top, soname, source):
    """An environment in which `soname` is a copy of `source`, or an empty file."""
    path = os.path.join(top, soname)
    if source:
        shutil.copy(source, path)
    else:
        open(path, "wb").close()
    return {**os.environ, "LD_LIBRARY_PATH": top}


def user_network(source, said):
    with tempfile.TemporaryDirectory() as top:
        r = subprocess.run([LHYVE, "-o", "engine=soft", "-o", "control.socket=none", "-s", "3,virtio-net,user", "-o",
                            "boot.kernel=/dev/null", "vm"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                           env=with_library(top, "libslirp.so.0", source))
    assert r.returncode == 4, r
    assert re.fullmatch(rf"lhyve: \S*3\S*: .*libslirp\.so\.0: {said}\n", r.stderr), r.stderr


def missing():
    user_network(None, r"file too short \(install libslirp\)")


def another():
    user_network(OTHER, r"undefined symbol: slirp_new \(install a newer libslirp\)")


def control_socket():
    """The client is cut off, and the guest runs on, till its power button ends it (tests/guest/control.c)."""
    with tempfile.TemporaryDirectory() as top:
        path = os.path.join(top, "socket")
        p = subprocess.Popen([LHYVE, "-o", "engine=soft", "-c", "2", "-l", "pc-testdev", "-l", "com1,stdio",
                              "-o", f"control.socket={path}", "-o", f"boot.kernel={GUEST}", "vm"],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             env=with_library(top, "libmicrohttpd.so.12", None))
        try:
            assert p.stdout.read(1), "the guest says nothing"
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(path)
                line = p.stderr.readline().decode()
                try:
                    assert s.recv(1) == b"", "an answer"
                except ConnectionResetError:
                    pass
            assert re.search(r"control: .*libmicrohttpd\.so\.12: file too short \(install libmicrohttpd\)", line), line
            p.send_signal(signal.SIGTERM)
            assert p.wait() == 41, p.returncode
        finally:
            p.kill()
            p.wait()


def main():
    t = tap.Tap()
    t.case("none of them at start", none_at_start)
    t.case("no libslirp for a card that wants it", missing)
    t.case("a libslirp without its functions", another)
    t.case("no libmicrohttpd for the first client of the control socket", control_socket)
    t.done()


main()
