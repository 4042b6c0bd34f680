# SPDX-License-Identifier: BSD-2-Clause
"""The Test Anything Protocol, as much of it as the Python tests need.

    t = tap.Tap()
    t.check("name", condition, "what was seen")
    t.skip("name", "why")
    t.done()            # prints the plan and exits
"""
import sys
import traceback


class Skip(Exception):
    """Raised inside a case: this machine lacks what it needs."""


class Tap:
    def __init__(self):
        self.count = 0
        self.failed = 0

    def _line(self, ok, name, extra=""):
        self.count += 1
        if not ok:
            self.failed += 1
        print(f"{'ok' if ok else 'not ok'} {self.count} - {name}{extra}", flush=True)

    @staticmethod
    def note(text):
        for line in str(text).splitlines():
            print(f"# {line}", flush=True)

    def check(self, name, ok, detail=""):
        self._line(bool(ok), name)
        if not ok and detail:
            self.note(detail)
        return bool(ok)

    def equal(self, name, got, want):
        return self.check(name, got == want, f"got:  {got!r}\nwant: {want!r}")

    def skip(self, name, why):
        self._line(True, name, f" # SKIP {why}")

    def case(self, name, fn, *args):
        """Run fn(*args); an exception is the failure, Skip the skip."""
        try:
            fn(*args)
        except Skip as e:
            self.skip(name, e)
        except Exception:  # a broken test must be seen as failed, with its trace
            self._line(False, name)
            self.note(traceback.format_exc())
        else:
            self._line(True, name)

    def done(self):
        print(f"1..{self.count}", flush=True)
        sys.exit(1 if self.failed else 0)
