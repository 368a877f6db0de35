#!/usr/bin/env python3
"""Etude against PyTorch and JAX, interleaved in one run: one thread each, or one card.

    benches/peers/peers.py                 the full table (about a quarter of an hour)
    benches/peers/peers.py --csv           the same, and a row of each side appended to benches/results/all.csv
    benches/peers/peers.py --quick         a few cases, about a minute
    benches/peers/peers.py --json out.json a machine-readable copy of everything
    benches/peers/peers.py --device cuda   on an NVIDIA card, against PyTorch there; scripts/gpu-report does that
    ... --budget 500 --json out.json       ends in time, says what it left out, and goes on from out.json the next time

Every side, Etude included, is a worker process that reads one request per line
and answers one JSON line (README.md has the protocol). The driver speaks to all
of them alike, round by round, so that a slow minute of the machine hits every
side. No side is timed before its values agree with a float64 reference; one that
fails, or takes too long, is shown as "–" with the reason, and a wrong one as
"wrong": then the exit status is 1.
"""

import argparse
import datetime
import functools
import importlib.util
import json
import math
import os
import signal
import sys
import tempfile
import time

import results
from cases import CASES, CASES_ON_CUDA, CASES_TO_TRY, DATA, SLIDES, seconds_of, title
from measure import measure, measured, median, memory, warm
from record import environment, rows
from report import report
from sides import MALLOC, NEEDS, ON_CPU, ON_CUDA, ONE_THREAD, Side, build_etude


def read(path):
    try:
        with open(path) as f:
            return json.load(f)
    except (OSError, TypeError, ValueError):
        return {}


def write(path, result):
    """In one piece: a reader never finds half a file."""
    if path:
        with open(path + ".new", "w") as f:
            json.dump(result, f, indent=1)
            f.write("\n")
        os.replace(path + ".new", path)


class Run:
    """What is compared, on which cores, until when, and what was found."""

    def __init__(self, args):
        self.args, self.start = args, time.monotonic()
        self.deadline = self.start + args.budget - 5 if args.budget else math.inf
        self.card = args.device == "cuda"
        self.on_cpu = not (self.card or args.trial)
        allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        # On a card the host's threads serve it, none is what is measured.
        self.core = set() if self.card else set(allowed[-1:])
        self.cores = set(allowed[-args.threads :])
        installed = lambda s: importlib.util.find_spec(NEEDS.get(s[0], "json"))  # noqa: E731
        self.known = {n: s for n, s in (ON_CPU if self.on_cpu else ON_CUDA).items() if installed(s)}
        begins = tuple(args.peers.split(",")) if args.peers else ""
        self.names = [n for n in self.known if n.startswith(begins)]
        self.cases = self.chosen()
        self.rounds = args.rounds or (3 if args.quick else 5 if self.on_cpu else 7)
        self.aside = functools.cache(self.for_memory)

    def say(self, text):
        print(f"{time.monotonic() - self.start:4.0f} s  {text}", file=sys.stderr, flush=True)

    def left(self):
        return self.deadline - time.monotonic()

    def chosen(self):
        args = self.args
        cases = CASES_TO_TRY if args.trial else CASES_ON_CUDA if self.card else CASES
        if args.quick and not args.trial:
            cases = [c for c in cases if c[1] in ((64, 1000), (1024, 16), *([] if self.card else [(2048, 16), SLIDES[4][1]]))]
        if args.only:
            cases = [c for c in cases if any(text in title(*c[:2]) for text in args.only.split(","))]
        return cases

    def etude(self, threads=1):
        command = [self.exe, "--bench", "--device", self.args.device, "--threads", str(threads)]
        one = threads == 1
        return Side("etude" if one else f"etude x{threads}", command, self.core if one else self.cores)

    def command(self, name):
        worker = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker.py")
        return [sys.executable, worker, self.known[name][0], "--device", self.args.device]

    def peer(self, name):
        worker, tuned, takes = self.known[name]
        return Side(name, self.command(name), self.core, MALLOC if tuned else {}, takes, worker)

    def for_memory(self, name):
        """A process that no timing goes through; Etude's is a new one each time."""
        # Of one heap: glibc gives what another thread's has free back to nobody.
        return Side(name, self.command(name), self.core, {"MALLOC_ARENA_MAX": "1"}, worker=self.known[name][0])

    def measure_memory(self, case, op, sizes):
        start = lambda name: self.etude() if name == "etude" else self.aside(name)  # noqa: E731
        memory(case, " ".join(map(str, (op, *sizes))), start, self.say)

    def scale(self, result, record):
        """Etude on one thread and on several, in turn."""
        pair = [self.etude(), self.etude(self.args.threads)]
        for op, sizes, reps in self.cases:
            if not (sizes == (512, 1000) or op == "loss" and sizes[0] == 4096):
                continue
            request = " ".join(map(str, (op, *sizes)))
            self.say(f"{title(op, sizes)}: {self.args.threads} threads")
            for s in pair:
                s.ask(f"{request} 3")
            ratio, one, many = [], [], []
            for _ in range(self.rounds):
                x, y = (s.ask(f"{request} {reps}")["ms"] for s in pair)
                ratio.append(median(x) / median(y))
                one, many = one + x, many + y
            found = {"case": title(op, sizes), "threads": self.args.threads, "speedup": median(ratio)}
            result["scaling"].append(found | {"one_ms": median(one), "many_ms": median(many)})
            case = {"case": title(op, sizes), "sides": {"etude": measured([many], [one])}}
            record(case, op, sizes, self.args.threads)
        for s in pair:
            s.quit()

    def go(self):
        args, load = self.args, os.getloadavg()[0]  # before cargo adds its own
        self.exe = None if args.no_etude else args.etude or build_etude(self.card)
        result = {**environment(), "device": args.device, "on": "one card" if self.card else "one thread", "load": [load]}
        result |= {"rounds": self.rounds, "cases": [], "left_out": [], "scaling": []}
        result["run"] = f"{datetime.datetime.now(datetime.timezone.utc):%Y%m%dT%H%M%S}-{result['commit'][:8]}"
        sides = ([self.etude()] if self.exe else []) + [self.peer(n) for n in self.names]

        def record(case, op, sizes, threads=1):
            if args.csv:
                results.append(args.csv, rows(result, case, op, sizes, threads))

        done = {c["case"]: c for c in (read(args.json) if args.budget else {}).get("cases", [])}
        if self.card and not args.no_warm:
            todo = [c for c in self.cases if title(*c[:2]) not in done]
            compiled = {n: self.command(n) for n in self.names if "compile" in self.known[n][0] or "graphs" in self.known[n][0]}
            result["warming_s"] = warm(compiled, self.known, todo, self.left, self.say)
        with tempfile.TemporaryDirectory(prefix="peers-") as folder:
            for op, sizes, reps in self.cases:
                name = title(op, sizes)
                if name in done:
                    result["cases"].append(done[name])
                    continue
                if self.left() < seconds_of(op, sizes, self.card):
                    result["left_out"].append(name)
                    continue
                those = [s for s in sides if op in s.takes]
                case = measure(op, sizes, reps, those, self.rounds, self.left, self.say, folder if self.on_cpu else None)
                if self.on_cpu and op not in DATA:  # which take what `loss` takes
                    self.measure_memory(case, op, sizes)
                result["cases"].append(case)
                write(args.json, result)
                record(case, op, sizes)
        for s in (*sides, *(self.aside(n) for n in self.names)):
            s.quit()
        if self.exe and self.on_cpu and args.threads > 1 and len(self.cores) == args.threads:
            self.scale(result, record)
        result["load"].append(os.getloadavg()[0])
        if load > 1 or result["load"][1] > args.threads + 1:
            self.say("peers: the machine was busy with something else: measure again when it is not")
        report(result, [s.name for s in sides])
        write(args.json, result)
        if any("wrong" in side for case in result["cases"] for side in case["sides"].values()):
            sys.exit("peers: a side's values are wrong")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quick", action="store_true", help="one small case of each kind, three rounds")
    p.add_argument("--etude", metavar="PATH", help="the bench executable (default: what cargo builds)")
    p.add_argument("--no-etude", action="store_true", help="the peers alone")
    p.add_argument("--peers", metavar="A,B", help="only the peers whose names begin so")
    p.add_argument("--only", metavar="TEXT", help='only the cases whose name holds one of TEXT,..., e.g. "loss N=4096"')
    p.add_argument("--rounds", type=int, help="rounds per case (default 5, on a card 7, quick 3)")
    p.add_argument("--threads", type=int, default=2, help="threads of the Etude-only scaling table (1: none)")
    p.add_argument("--json", metavar="FILE", help="write everything measured here, after each case")
    p.add_argument("--csv", metavar="FILE", nargs="?", const=str(results.FILE), help="append a row of each side (all.csv)")
    p.add_argument("--budget", type=float, metavar="S", help="end within so many seconds; cases that FILE holds already are kept")
    p.add_argument("--no-warm", action="store_true", help="on a card: compile each case only when its turn comes")
    p.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where every side computes")
    p.add_argument("--trial", action="store_true", help="small cases and the card's sides, only to see that all of it works")
    args = p.parse_args()
    if args.csv and (args.device != "cpu" or args.trial or args.peers or args.no_etude):
        p.error("--csv takes whole cases on a CPU: none with some sides alone")
    # A killed driver takes its sides along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("peers: told to end"))
    os.environ.update(ONE_THREAD)  # numpy's own, before it is imported
    if args.device == "cuda":
        # Several processes compile at a time; one number for all, which their cache may go by.
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "4")
    Run(args).go()


if __name__ == "__main__":
    main()
