#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Which engine is taken when /dev/kvm is not what it should be, and what is said. A mount namespace puts other things in its
place; where none can be made (no root), those cases are skipped."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import tap  # noqa: E402

LHYVE = os.environ.get("LHYVE", "build/lhyve")
COMMAND = "{lhyve} -o engine={engine} -o log.level=info -o boot.kernel=/dev/null vm"
CHOSEN = re.compile(r"^lhyve: info: engine: (kvm|soft)\b", re.M)


def run(engine, before="", user=""):
    """In a mount namespace of its own after the shell commands `before`; as another user when one is given."""
    command = COMMAND.format(lhyve=os.path.abspath(LHYVE), engine=engine)
    if user:
        command = f"setpriv --reuid={user} --regid={user} --clear-groups {command}"
    argv = ["sh", "-c", command]
    if before:
        argv = ["unshare", "-m", "sh", "-ec", f"{before}\nexec {command}"]
    r = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return r.returncode, r.stderr


def needs(*what):
    if os.geteuid() != 0:
        raise tap.Skip("needs root for a mount namespace")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
        raise tap.Skip("no mount namespaces here")
    for path in what:
        if not os.path.exists(path):
            raise tap.Skip(f"no {path} here")


def falls_to_soft(before, reason, user=""):
    needs("/dev/kvm")
    status, err = run("auto", before, user)
    assert status == 4 and CHOSEN.search(err)[1] == "soft", err
    assert re.search(r"engine: not kvm: .*" + reason, err), err
    status, err = run("kvm", before, user)
    assert status == 4 and re.search(r"^lhyve: engine=kvm: .*" + reason + r".* \(engine=soft works on every host\)$",
                                     err, re.M), err
    assert not CHOSEN.search(err), err


def group_is_named():
    """/dev/kvm as udev makes it, and a user who is in no group."""
    falls_to_soft("mount -t tmpfs t /mnt; mknod /mnt/kvm c 10 232; chgrp 65534 /mnt/kvm; chmod 660 /mnt/kvm; "
                  "mount --bind /mnt/kvm /dev/kvm",
                  r"no permission \(join the group nogroup: usermod -aG nogroup USER\)", "1234")


def no_group():
    falls_to_soft("mount -t tmpfs t /mnt; mknod /mnt/kvm c 10 232; chmod 600 /mnt/kvm; mount --bind /mnt/kvm /dev/kvm",
                  "no permission, and it belongs to no group", "1234")


def other_device():
    falls_to_soft("mount --bind /dev/null /dev/kvm", "API version -25, not 12")


def no_driver():
    falls_to_soft("mount -t tmpfs t /mnt; mknod /mnt/kvm c 240 99; mount --bind /mnt/kvm /dev/kvm",
                  "is virtualization on in the firmware")


def soft_needs_nothing():
    needs("/dev/kvm")
    status, err = run("soft", "mount --bind /dev/null /dev/kvm")
    assert status == 4 and "engine: soft" in err and "kvm" not in err, err


def auto_says_why():
    status, err = run("auto")
    assert status == 4, err
    assert CHOSEN.search(err), err
    if CHOSEN.search(err)[1] == "soft":
        assert re.search(r"^lhyve: info: engine: not kvm: \S.*$", err, re.M), err


def main():
    t = tap.Tap()
    t.case("auto says what it takes, and why not kvm", auto_says_why)
    t.case("no permission: the group is named", group_is_named)
    t.case("no permission, and no group has it", no_group)
    t.case("not KVM at all", other_device)
    t.case("no driver behind it", no_driver)
    t.case("soft does not look at /dev/kvm", soft_needs_nothing)
    t.done()


main()
