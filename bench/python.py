# SPDX-License-Identifier: BSD-2-Clause
"""What bench/lua.c has Lua do, in Python: prints "suite: python NANOSECONDS", measured as bench/measure.h does."""
import time


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def objects():
    t = [{"key": (n * 7919) % 3001, "name": "x" + str(n)} for n in range(3000)]
    t.sort(key=lambda o: o["key"])
    return sum(o["key"] * len(o["name"]) for o in t)


def sieve():
    s = [True] * 20001
    count = 0
    for n in range(2, 20001):
        if s[n]:
            count += 1
            for m in range(n * n, 20001, n):
                s[m] = False
    return count


def work():
    return fib(16) + objects() + sieve()


def measure():
    best = None
    work()
    for _ in range(5):
        begin = time.perf_counter_ns()
        rounds = passed = 0
        while passed < 20000000:
            work()
            rounds += 1
            passed = time.perf_counter_ns() - begin
        best = min(best or passed, passed // rounds)
    return best


print("suite: python", measure())
