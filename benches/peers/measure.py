"""One case of a comparison: every side checked, timed in turn, and its memory."""

import concurrent.futures
import math
import os
import time

from cases import CONVS, HUGE, LOSSES, title
from inputs import loss_reference
from sides import OTHER_NUMBERS, Failed, Side

TOLERANCE = 1e-4  # relative, f32 sides against the f64 reference
TF32_TOLERANCE = 1e-2  # 10 bits of each factor, 5e-4; sums that cancel lose more
BF16_TOLERANCE = 1e-2  # of a peer, which may round what it multiplies bf16 rows with to bf16


def percentile(values, q):
    s = sorted(values)
    at = q * (len(s) - 1)
    low = math.floor(at)
    return s[low] + (s[min(low + 1, len(s) - 1)] - s[low]) * (at - low)


def median(values):
    return percentile(values, 0.5)


def warm(commands, known, cases, left, say):
    """Compiles what the cases take, several at a time, into PyTorch's caches on disk; nothing is timed meanwhile."""
    start, share = time.monotonic(), max(0, left()) * 0.4
    over = lambda: start + min(share, 240) - time.monotonic()  # noqa: E731
    width = max(1, min(4, (os.cpu_count() or 1) // 3))
    todo = [c for c in cases if c[1][0] < HUGE]

    def some(name, which):
        side = None
        try:
            for op, sizes, _ in which:
                if op in known[name][2] and over() > 1:
                    side = side or Side(name, commands[name], set())
                    side.ask(" ".join(map(str, ("warm", op, *sizes))), over())
                    side.ask("forget", max(1, over()))
        except Failed as e:
            say(f"warming {name}: {e}")
        finally:
            if side:
                side.kill()

    parts = [(name, todo[i::width]) for i in range(width) for name in commands]
    with concurrent.futures.ThreadPoolExecutor(len(parts) or 1) as pool:
        list(pool.map(lambda part: some(*part), parts))
    took = time.monotonic() - start
    say(f"compilers warmed in {took:.0f} s")
    return round(took, 1)


def expected(op, sizes, sides, left, path):
    """Values in float64, and where `path` is one all of them there: by the first of PyTorch's sides where there is one, on the
    card if it is there."""
    for s in sides:
        if (s.worker or "").startswith("torch") and op != "step":
            try:
                values = s.ask(" ".join(map(str, ("reference", op, *sizes, path or "-"))), max(5, min(120, left())))["values"]
                s.ask("forget", 60)
                return values
            except Failed:
                continue
    if op in LOSSES and op != "loss16" and sizes[0] < HUGE:
        import numpy as np

        loss, grad = loss_reference(op, *sizes)
        if path:
            np.savez(path, loss, grad)
        return [float(loss), float(np.linalg.norm(grad))]
    return None


def error(side, request, reference, folder):
    """The largest |got - f64| of a side's value and gradients, each over the largest |f64| there."""
    import numpy as np

    path = os.path.join(folder, "values" + (".npz" if side.worker else ""))
    side.ask(f"values {path} {request}" + ("" if side.worker else " 1"), 120)
    with np.load(reference) as want:
        want = [want[name] for name in want.files]
    if side.worker:
        with np.load(path) as got:
            got = [got[name] for name in got.files]
    else:
        got = np.split(np.fromfile(path, np.float32), np.cumsum([w.size for w in want])[:-1])
    return max(float(np.abs(g.ravel() - w.ravel()).max() / np.abs(w).max()) for g, w in zip(got, want))


def measure(op, sizes, reps, sides, rounds, left, say, folder=None):
    """One case: every side checked, then timed in turn."""
    request = " ".join(map(str, (op, *sizes)))
    case = {"case": title(op, sizes), "op": op, "sizes": list(sizes), "sides": {}}
    say(f"{case['case']}: warming up")
    ms = {}
    path = folder and os.path.join(folder, "reference.npz")
    reference = expected(op, sizes, sides, left, path)
    # Where the matrices of several sides do not fit side by side, one after the other.
    alone = op not in ("step", *CONVS) and sizes[0] >= HUGE
    case["one_after_the_other"] = alone

    def check(s):
        reply = s.ask(f"{request} {1 if alone or reps < 3 else 3}", max(10, min(180, left())))
        nonlocal reference
        if "norms" in reply:
            got, names = reply["norms"], ("norm of the output", "of the first gradient", "of the second")
        elif "grad_norm" in reply:
            got, names = [reply["loss"], reply["grad_norm"]], ("loss", "gradient norm")
        else:
            got, names = [reply["loss"]], ("loss",)
        case["sides"][s.name] = side = {"form": reply.get("form"), "values": got}
        if "failed_forms" in reply:
            side["failed_forms"] = reply["failed_forms"]
        tolerance = TF32_TOLERANCE if s.name.endswith("TF32") else TOLERANCE
        if op == "loss16" and s.name != "etude":
            tolerance = BF16_TOLERANCE
        side["same"] = s.name not in OTHER_NUMBERS
        for what, value, want in zip(names, got, (side["same"] and reference) or got):
            if not math.isfinite(value) or abs(value - want) > tolerance * abs(want):
                side["wrong"] = f"{what} {value!r}, should be {want!r}"
                say(f"peers: {s.name}: {case['case']}: {side['wrong']}")
                return False
        ms[s.name] = []
        if folder and reference and side["same"]:
            side["error"] = error(s, request, path, folder)
        if folder and s.name == "etude":
            side["flops"] = reply["flops"]
            side["core_gflop_s"] = s.ask("peak")["gflop_s"]
        return True

    def attempt(s, what):
        try:
            return what(s)
        except Failed as e:
            say(f"peers: {s.name}: {case['case']}: {e}")
            ms.pop(s.name, None)
            case["sides"].setdefault(s.name, {})["failed"] = str(e)
            return False

    def block(s):
        ms[s.name].append(s.ask(f"{request} {reps}", max(5, min(120, left())))["ms"])
        return True

    def forget(s):
        if (s.worker or "").startswith("torch"):
            try:
                s.ask("forget", 60)
            except Failed:
                s.kill()

    if alone:
        for s in sides:
            if attempt(s, check):
                for _ in range(rounds):
                    if not attempt(s, block):
                        break
            forget(s)
    else:
        here = [s for s in sides if attempt(s, check)]
        say(f"{case['case']}: {rounds} rounds")
        for r in range(rounds):
            for s in here[r % max(1, len(here)) :] + here[: r % max(1, len(here))]:  # nobody is always first
                # Of one that takes seconds, and ten times as long as the fastest, one round says enough.
                took = {name: median(blocks[0]) for name, blocks in ms.items() if blocks}
                if s.name in ms and not (r and took.get(s.name, 0) > max(1000, 10 * min(took.values()))):
                    attempt(s, block)
        for s in sides:
            forget(s)
    for name, blocks in ms.items():
        case["sides"][name] |= measured(blocks, ms.get("etude")) | {"ms": blocks}
    return case


def memory(case, request, start, say):
    """What each side takes beyond what was there before, in a process that no timing went through: `start` makes one."""
    for name, side in case["sides"].items():
        # Memory that malloc was told to keep is no measure.
        if "median_ms" not in side or name.endswith("malloc tuned"):
            continue
        try:
            process = start(name)
            # Etude's makes its buffers when it records.
            words = f"memory {request} = {side['form']}" if process.worker else f"{request} 1"
            side["peak_kb"] = process.ask(words, 120)["peak_kb"]
            if not process.worker:
                process.quit()
            elif name.startswith("torch"):
                process.ask("forget")
        except Failed as e:
            say(f"peers: {name}: {case['case']}: memory: {e}")


def measured(blocks, etude):
    """Of milliseconds by round, and Etude's."""
    flat = [t for block in blocks for t in block]
    found = {"median_ms": median(flat), "p20_ms": percentile(flat, 0.2), "p80_ms": percentile(flat, 0.8)}
    if etude:
        found["over_etude"] = median([median(p) / median(e) for p, e in zip(blocks, etude)])
    return found
