#!/usr/bin/env python3
"""Measures whether `etude score --notes` finds errors that were planted, and where; README.md says how to run and read it.

    benches/recordings/spans.py --scores midi [--model run/model.safetensors] [--etude target/release/etude] [--keep FOLDER]

Takes are rendered as chain.py renders them, with three errors of the kinds that it names. In frames of 10 ms, from the first note
to the last, the ROC-AUC of what a frame costs tells how well costly spans show where the errors are: a frame costs what its span
costs over its length, 0 outside of spans. What is said of each note is compared with what was planted.
"""
import argparse, json, pathlib, subprocess, sys, tempfile
import numpy as np
import scipy.stats
from chain import KEYS, KINDS, planted, read, render, style

ERRORS, FRAME, NEAR = 3, .01, .15


def truth(notes, errors, random):
    """What is played as `planted` says it, the time span of each error, and whose note it is."""
    state = random.bit_generator.state
    played = planted(notes, errors, random)
    random.bit_generator.state = state
    spans, at, delay = [], 0, 0
    for i, (start, length, _) in enumerate(notes):
        kind = errors.get(i)
        if kind == "missing":
            spans.append((kind, i, start + delay, start + delay + length))
            continue
        if kind == "extra":
            spans.append((kind, i, played[at][0], played[at + 1][0]))
            at, delay = at + 1, delay + .25
        here, long, _ = played[at]
        at += 1
        if kind == "wrong":
            spans.append((kind, i, here, here + long))
        elif kind == "late":
            spans.append((kind, i, start + delay, here + long))
        elif kind == "long":
            spans.append((kind, i, here, here + long))
            delay += long - length
        elif kind == "drift":
            spans.append((kind, i, here, here + 4 * long))
    return played, spans


def auc(scores, labels):
    ranks, positive = scipy.stats.rankdata(scores), int(labels.sum())
    return (ranks[labels].sum() - positive * (positive + 1) / 2) / (positive * (len(labels) - positive))


def score(options, takes):
    """What `etude score --notes` says of each take beside its score."""
    manifest = options.keep / "spans.csv"
    lines = [f"{wav.name},{options.scores / name}.mid" for wav, name, *_ in takes]
    manifest.write_text("\n".join(["path,reference", *lines]) + "\n")
    command = [options.etude, "score", *options.model, "--notes", "--json", manifest]
    done = subprocess.run(command, capture_output=True, text=True)
    sys.stderr.write(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--etude", default="target/release/etude", type=pathlib.Path)
    options.add_argument("--model", type=pathlib.Path, help="of `etude train`; absent: the built-in one")
    options.add_argument("--scores", required=True, type=pathlib.Path, help="a folder of melodies, MIDI")
    options.add_argument("--key", choices=KEYS, default="near the written key", help="of the takes")
    options.add_argument("--draw", type=int, default=5, help="a seed: which errors are planted where")
    options.add_argument("--keep", type=pathlib.Path, help="where the recordings stay; one folder a draw and key")
    options = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options.keep = (options.keep or pathlib.Path(folder)).resolve()
        options.keep.mkdir(parents=True, exist_ok=True)
        options.etude, options.scores = options.etude.resolve(), options.scores.resolve()
        options.model = ["--model", options.model.resolve()] if options.model else []
        melodies = {path.stem: read(path) for path in options.scores.glob("*.mid")}
        if not melodies:
            sys.exit(f"{options.scores}: no MIDI files")
        print(f"{ERRORS} errors a take, {len(melodies)} takes a kind, {options.key}, draw {options.draw}\n")
        takes = []
        for number, kind in enumerate(["none", *KINDS, "any"]):
            for melody, name in enumerate(sorted(melodies)):
                random, notes = np.random.default_rng([options.draw, number, melody]), melodies[name]
                # Apart from each other, and from the end, where a drift would be cut short.
                places = random.permutation(range(1, len(notes) - 4, 4 if kind == "drift" else 2))[:ERRORS]
                sudden = [k for k in KINDS if k != "drift"]
                errors = {int(at): kind if kind in KINDS else random.choice(sudden) for at in places}
                errors = {} if kind == "none" else errors
                played, spans = truth(notes, errors, random)
                instrument, shift, tempo = style(notes, random, KEYS[options.key])
                wav = options.keep / f"{kind}-{name}.wav"
                if not wav.exists():
                    render(wav, played, instrument, shift, tempo, random)
                takes.append((wav, name, kind, played, spans, tempo, notes))
        found = score(options, takes)
        report(takes, found)


def report(takes, found):
    rows = {}
    for (wav, name, kind, played, spans, tempo, notes), take in zip(takes, found):
        row = rows.setdefault(kind, dict(auc=[], each=[], planted=0, said=0, others=0, right=0, late=[], longer=[]))
        if take["grade"] is None:
            print(f"{wav.name}: {take['error']}")
            continue
        when = lambda t: .5 + t / tempo
        begin, end = when(played[0][0]), when(played[-1][0] + played[-1][1])
        frames = np.arange(begin, end, FRAME)
        cost, wrong = np.zeros(len(frames)), np.zeros(len(frames), bool)
        for span in take["spans"]:
            at = (frames >= span["start"]) & (frames < span["end"])
            # A note that is skipped without a pause has a span of no length.
            cost[at] = span["cost"] / max(span["end"] - span["start"], FRAME)
        for _, _, start, stop in spans:
            wrong |= (frames >= when(start)) & (frames < when(stop))
        if spans:
            row["auc"].append((cost, wrong))
            row["each"].append(auc(cost, wrong))
        said = {note["number"]: note for note in take["notes"] if note["number"]}
        extras = [note for note in take["notes"] if note["outcome"] == "extra"]
        by = {i: (k, start, stop) for k, i, start, stop in spans}
        for i in range(len(notes)):
            note, (k, start, stop) = said[i + 1], by.get(i, ("none", 0, 0))
            if k == "extra":
                row["planted"] += 1
                row["said"] += any(abs(extra["start"] - when(start)) < NEAR for extra in extras)
                extras = [extra for extra in extras if abs(extra["start"] - when(start)) >= NEAR]
            elif k in ("wrong", "missing"):
                row["planted"] += 1
                row["said"] += note["outcome"] == k
            elif k == "late" and note["late"] is not None:
                row["late"].append(note["late"] - (played_onset(notes, played, spans, i) - start) / tempo)
            elif k == "long" and note["longer"] is not None:
                row["longer"].append(note["longer"] - (stop - start - notes[i][1]) / tempo)
            elif k == "none":
                row["others"] += 1
                row["right"] += note["outcome"] == "right"
        row["others"] += len(extras)
    sudden = [kind for kind in KINDS if kind != "drift"]
    print("| planted | ROC-AUC of frames, all takes | mean of takes | errors named | other notes said right | error of the deviation, s |")
    print("|---|--:|--:|--:|--:|--:|")
    for kind, row in rows.items():
        pooled = auc(*map(np.concatenate, zip(*row["auc"]))) if row["auc"] else float("nan")
        off = np.median(np.abs(row["late"] + row["longer"] or [np.nan]))
        print(f"| {kind} | {pooled:.3f} | {np.mean(row['each'] or [np.nan]):.3f} | {row['said']} of {row['planted']} | "
            f"{row['right'] / max(row['others'], 1):.1%} of {row['others']} | {off:.3f} |")
    all_takes = [pair for kind in sudden for pair in rows[kind]["auc"]]
    print(f"\nof all takes of {', '.join(sudden)}: {auc(*map(np.concatenate, zip(*all_takes))):.3f}")


def played_onset(notes, played, spans, i):
    """When a late note begins: its span ends where it does."""
    stop = next(stop for kind, at, _, stop in spans if at == i)
    return next(start for start, length, _ in played if abs(start + length - stop) < 1e-6)


if __name__ == "__main__":
    main()
