#!/usr/bin/env python3
"""Measures the chain from recordings to grades against errors that were planted; README.md says how to run and read it.

    benches/recordings/chain.py --scores midi [--model run/model.safetensors] [--etude target/release/etude] [--keep FOLDER]

The planted amount of a take is the number of its errors divided by the number of notes of its score. Each error is planted at a
note of its own, and all kinds count alike:

- wrong: the note is 1 to 3 semitones off;
- late: it starts late by 40 to 80 % of its length and ends when it should;
- long: it takes 1.5 to 2.5 times as long, and all that follows waits;
- missing: there is silence in its place;
- extra: a note of a quarter of a second, 1 to 4 semitones off, comes before it, and all that follows waits;
- drift: this note and the next three are each a quarter of a semitone higher, or lower, than the last, and the key stays there.
"""
import argparse, csv, pathlib, shutil, subprocess, sys, tempfile
import mido
import numpy as np
import scipy.stats
import soundfile

RATE, SOUNDFONT, TICKS = 44100, "/usr/share/sounds/sf2/TimGM6mb.sf2", 960  # ticks a second
# General MIDI programs from 0, and the lowest and highest note.
INSTRUMENTS = dict(flute=(73, 60, 96), clarinet=(71, 50, 91), violin=(40, 55, 96), alto_sax=(65, 49, 81), voice_oohs=(53, 48, 81))
KINDS = ["wrong", "late", "long", "missing", "extra", "drift"]
TAKES, OF_KIND, ERRORS_OF_KIND, LONG = 60, 10, 3, 180
# A take's key is up to so many semitones from the written one.
KEYS = {"in any key": 7, "near the written key": 1}
# White noise as of a room, in dB below the loudest 46 ms: without it a tail is a tone down to the last bit, tracked as one.
NOISE, FRAME = -50, 2048


def read(path):
    """(start, length, pitch) of each note, in seconds and semitones."""
    now, sounding, notes = 0, {}, []
    for message in mido.MidiFile(path):
        now += message.time
        if message.type == "note_on" and message.velocity:
            sounding[message.note] = now
        elif message.type in ("note_on", "note_off"):
            start = sounding.pop(message.note)
            notes.append((start, now - start, message.note))
    return sorted(notes)


def write(path, notes, program=None):
    """Notes as MIDI; what is between two semitones is bent."""
    midi, track, events, now = mido.MidiFile(ticks_per_beat=TICKS // 2), mido.MidiTrack(), [], 0
    midi.tracks.append(track)
    if program is not None:
        track.append(mido.Message("program_change", program=program))
    for start, length, pitch in notes:
        key, at, end = round(pitch), round(start * TICKS), round((start + length) * TICKS)
        bend = round((pitch - key) * 4096)  # 8192 is two semitones
        if program is not None:
            events.append((at, 1, mido.Message("pitchwheel", pitch=bend)))
        events += [(at, 2, mido.Message("note_on", note=key, velocity=90)), (end, 0, mido.Message("note_off", note=key))]
    for at, _, message in sorted(events, key=lambda event: event[:2]):
        track.append(message.copy(time=at - now))
        now = at
    track.append(mido.MetaMessage("end_of_track", time=TICKS))
    midi.save(path)


def planted(notes, errors, random):
    """What is played of a score: `errors` says the kind of error by note."""
    played, delay, key, slides, step = [], 0, 0, 0, 0
    sign = lambda: random.choice([-1, 1])
    for i, (start, length, pitch) in enumerate(notes):
        start, kind = start + delay, errors.get(i)
        if kind == "drift":
            slides, step = 4, sign() / 4
        if slides:
            slides, key = slides - 1, key + step
        pitch += key
        if kind == "missing":
            continue
        if kind == "extra":
            played.append((start, .24, pitch + sign() * random.integers(1, 5)))
            start, delay = start + .25, delay + .25
        elif kind == "wrong":
            pitch += sign() * random.integers(1, 4)
        elif kind == "late":
            late = random.uniform(.4, .8) * length
            start, length = start + late, length - late
        elif kind == "long":
            longer = random.uniform(.5, 1.5) * length
            length, delay = length + longer, delay + longer
        played.append((start, length, pitch))
    return played


def style(notes, random, reach):
    """Instrument, semitones from the written key and tempo, as they come."""
    name = random.choice(list(INSTRUMENTS))
    _, lowest, highest = INSTRUMENTS[name]
    pitches = [pitch for _, _, pitch in notes]
    shift = random.uniform(max(-reach, lowest - min(pitches)), min(reach, highest - max(pitches)))
    return name, shift, random.uniform(.85, 1.15)


def render(wav, notes, name, shift, tempo, random):
    """Through fluidsynth, without reverb and chorus, and with a room's noise; half a second before, one after."""
    played = [(.5 + start / tempo, length / tempo, pitch + shift) for start, length, pitch in notes]
    write(wav.with_suffix(".played.mid"), played, INSTRUMENTS[name][0])
    subprocess.run(["fluidsynth", "-ni", "-R", "0", "-C", "0", "-g", "0.8", "-r", str(RATE), "-T", "wav", "-O", "s16",
        "-F", wav, SOUNDFONT, wav.with_suffix(".played.mid")], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    samples = soundfile.read(wav)[0].mean(1)
    samples = samples[:int((max(start + length for start, length, _ in played) + 1) * RATE)]
    frames = samples[:len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    loudest = np.sqrt((frames**2).mean(1).max())
    soundfile.write(wav, samples + loudest * 10 ** (NOISE / 20) * random.normal(size=len(samples)), RATE, subtype="PCM_16")


def grades(options, rows, name):
    """`etude score` of a manifest of takes and their references; NaN for what it does not grade."""
    manifest = options.keep / f"{name}.csv"
    with open(manifest, "w", newline="") as file:
        csv.writer(file).writerows([("path", "reference"), *((wav.name, score) for wav, score in rows)])
    done = subprocess.run([options.etude, "score", *options.model, "--csv", manifest], capture_output=True, text=True)
    sys.stderr.write(done.stderr)
    lines = list(csv.DictReader(done.stdout.splitlines()))
    if [line["id"] for line in lines] != [wav.name for wav, _ in rows]:
        sys.exit(f"{name}: {len(lines)} grades of {len(rows)} takes")
    return np.array([float(line["grade"] or "nan") for line in lines])


def amounts(options, melodies, random, key):
    """Takes with ever more errors of all kinds."""
    names = [random.permutation(sorted(melodies)) for _ in range(-(-TAKES // len(melodies)))]
    rows, shares, pitch = [], [], []
    for i, name in enumerate(np.concatenate(names)[:TAKES]):
        notes = melodies[name]
        # Amounts from 0 to 1 in equal steps: up to half of the notes.
        count = round(i / (TAKES - 1) * len(notes) / 2)
        errors = {int(at): random.choice(KINDS) for at in random.choice(len(notes), count, replace=False)}
        wav = options.keep / f"amount-{i:02}-{name}.wav"
        render(wav, planted(notes, errors, random), *style(notes, random, KEYS[key]), random)
        rows.append((wav, options.scores / f"{name}.mid"))
        shares.append(count / len(notes))
        pitch.append(sum(kind not in ("late", "long") for kind in errors.values()) / len(notes))
    found, shares = grades(options, rows, "amounts"), np.array(shares)
    rank = lambda at: scipy.stats.spearmanr(found[at], shares[at]).statistic
    resampled = [rank(random.integers(TAKES, size=TAKES)) for _ in range(2000)]
    low, high = np.percentile(resampled, [2.5, 97.5])
    print(f"Takes {key}\n\nSpearman of grade and planted amount, {TAKES} takes: {rank(np.arange(TAKES)):.3f} "
        f"[{low:.3f}, {high:.3f}]")
    # Not the measure, but where it comes from.
    print(f"counted without late and long: {scipy.stats.spearmanr(found, pitch).statistic:.3f}\n")
    print("| share of notes with an error | takes | mean grade | lowest | highest |\n|---|--:|--:|--:|--:|")
    for least, most in [(-1, 0), (0, .1), (.1, .2), (.2, .3), (.3, .4), (.4, .5)]:
        these = found[(shares > least) & (shares <= most)]
        share = "none" if most == 0 else f"over {least}, to {most}" if least else f"to {most}"
        print(f"| {share} | {len(these)} | {these.mean():.2f} | {these.min():.2f} | {these.max():.2f} |")


def kinds(options, melodies, random, key):
    """Takes with some errors of one kind: the same melodies, notes, keys and tempi for all kinds."""
    rows = []
    for i, name in enumerate(random.permutation(sorted(melodies))[:OF_KIND]):
        notes, score = melodies[name], options.scores / f"{name}.mid"
        at, played = random.choice(len(notes), ERRORS_OF_KIND, replace=False), style(notes, random, KEYS[key])
        for kind in ["none", *KINDS]:
            errors = {int(i): kind for i in at}
            wav = options.keep / f"kind-{kind}-{i}.wav"
            render(wav, planted(notes, errors, random), *played, random)
            rows.append((wav, score))
    found = grades(options, rows, "kinds").reshape(OF_KIND, 1 + len(KINDS))
    print(f"\n| {ERRORS_OF_KIND} errors of one kind, {OF_KIND} takes | mean grade | lowest | highest |\n|---|--:|--:|--:|")
    for kind, these in zip(["none", *KINDS], found.T):
        print(f"| {kind} | {these.mean():.2f} | {these.min():.2f} | {these.max():.2f} |")


def apart(a, b):
    """Edits between two melodies in their best transposition: notes of another pitch or length, missing or added."""
    def edits(shift):
        costs = np.arange(len(b) + 1)
        for _, long, pitch in a:
            last, costs = costs, costs + 1
            for j, (_, length, other) in enumerate(b):
                same = pitch + shift == other and abs(long - length) < .06
                costs[j + 1] = min(last[j] + (not same), last[j + 1] + 1, costs[j] + 1)
        return costs[-1]
    return min(map(edits, range(-24, 25)))


def melodies_apart(options, melodies, random, key):
    """A right take of each melody against all scores."""
    names, rows = sorted(melodies), []
    for name in names:
        wav = options.keep / f"right-{name}.wav"
        render(wav, melodies[name], *style(melodies[name], random, KEYS[key]), random)
        rows += [(wav, options.scores / f"{other}.mid") for other in names]
    found = grades(options, rows, "right").reshape(len(names), -1)
    own, others = found.diagonal(), np.where(np.eye(len(names)), -np.inf, found)
    print(f"\nOwn score graded above all others: {np.sum(own > others.max(1))} of {len(names)} takes")
    print(f"own score: {own.mean():.2f} on average, at least {own.min():.2f}; best other: {others.max(1).mean():.2f} on average; "
        f"all others: {found[~np.eye(len(names), dtype=bool)].mean():.2f}")
    print(f"own score above another: {np.mean((own[:, None] > found)[~np.eye(len(names), dtype=bool)]):.2%} of pairs")
    for i in np.flatnonzero(own <= others.max(1)):
        for j in np.flatnonzero(found[i] >= own[i]):
            if i != j:
                print(f"- {names[i]}: {own[i]:.3f}, beside {names[j]}: {found[i, j]:.3f}, "
                    f"{apart(melodies[names[i]], melodies[names[j]])} notes apart")
    pairs = [(apart(melodies[a], melodies[b]), a, b) for i, a in enumerate(names) for b in names[:i]]
    near = [f"{a} and {b} {n}" for n, a, b in sorted(pairs) if n <= 3]
    print("nearest melodies, in notes that differ:", ", ".join(near) or "none")


def long_take(options, melodies, random):
    """Time and memory of a take of three minutes: melodies one after the other, with half a second between."""
    notes, now = [], 0
    for name in sorted(melodies) * 3:
        length = max(start + length for start, length, _ in melodies[name]) + .5
        if now + length > LONG - 1.5:
            break
        notes += [(now + start, length, pitch) for start, length, pitch in melodies[name]]
        now += length
    wav, score = options.keep / "long.wav", options.keep / "long.mid"
    write(score, notes)
    render(wav, notes, "flute", 0, 1, random)
    seconds = soundfile.info(wav).duration
    runs = []
    for _ in range(3):
        # GNU time, as what Python starts begins with Python's own memory.
        done = subprocess.run(["/usr/bin/time", "-f", "%e %M", options.etude, "score", *options.model, "--reference",
            score, wav], capture_output=True, text=True, check=True)
        runs.append(tuple(map(float, done.stderr.split()[-2:])))
    took, memory = min(run[0] for run in runs), max(run[1] for run in runs) / 1024
    grade = done.stdout.split("\t")[1].strip()
    print(f"\n{seconds:.0f} s and {len(notes)} notes: {took:.2f} s, at most {memory:.0f} MiB, grade {grade}")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--etude", default="target/release/etude", type=pathlib.Path)
    options.add_argument("--model", type=pathlib.Path, help="of `etude train`; absent: the built-in one")
    options.add_argument("--scores", required=True, type=pathlib.Path, help="a folder of melodies, MIDI")
    options.add_argument("--draws", type=int, nargs="+", default=[], help="only takes with ever more errors, of these seeds")
    options.add_argument("--keep", type=pathlib.Path, help="where the recordings stay")
    options = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options.keep = (options.keep or pathlib.Path(folder)).resolve()
        options.keep.mkdir(parents=True, exist_ok=True)
        options.etude, options.scores = options.etude.resolve(), options.scores.resolve()
        # Beside its run a model finds pitch that was heard before; each take is heard here.
        options.model = ["--model", shutil.copy(options.model, options.keep / "model.safetensors")] if options.model else []
        melodies = {path.stem: read(path) for path in options.scores.glob("*.mid")}
        if not melodies:
            sys.exit(f"{options.scores}: no MIDI files")
        for key, seed in ((key, seed) for key in KEYS for seed in options.draws):
            print(f"Seed {seed}: ", end="")
            amounts(options, melodies, np.random.default_rng(seed), key)
            print(flush=True)
        if options.draws:
            return
        for key in KEYS:
            for seed, part in enumerate([amounts, kinds, melodies_apart]):
                part(options, melodies, np.random.default_rng(seed), key)
                print(flush=True)
        long_take(options, melodies, np.random.default_rng(3))


if __name__ == "__main__":
    main()
