#!/usr/bin/env python3
"""Writes the set that planted.safetensors was trained on: melodies performed with planted errors, as pitch tracks.

    models/planted.py FOLDER [--takes 64000] [--melodies 8000] [--seed 1]

Melodies are random walks on a scale, 8 to 20 notes. A take is rated by the share of its notes without an error: each error is
planted at a note of its own, and all kinds count alike. One take in ten has none, most have up to 0.6 of the notes, and three in
a hundred are of another melody than they are compared with, and rated 0. The errors of a take are of one kind, or of any:

- wrong: the note is 1 to 3 semitones off;
- untuned: it is 40 to 75 cents off;
- late: it starts late by 40 to 80 % of its length and ends when it should;
- long: it takes 1.5 to 2.5 times as long, and all that follows waits;
- missing: there is silence in its place;
- extra: a note of 0.15 to 0.4 s, 1 to 4 semitones off, comes before it, and all that follows waits;
- pause: 0.3 to 1 s of silence come before it, and all that follows waits;
- drift: this note and the next three are each a quarter of a semitone higher, or lower, than the last, and the key stays there.

No error is what performers and trackers of pitch do anyway: any key, octave and tempo, vibrato, glides, deviations of pitch up to
12 cents (their standard deviation) and of onsets up to 20 ms, notes that ring on or end early, a last note that is held, drop-outs,
tones that are heard in the noise of silence.
"""
import argparse, csv, pathlib
import numpy as np

HOP = 256 / 44100
# How often an error is of the kind, where it may be of any.
KINDS = dict(wrong=.18, untuned=.07, late=.2, long=.15, missing=.14, extra=.13, pause=.05, drift=.08)


def melody(random):
    """(start, length, pitch) of each note, in seconds and semitones."""
    scale = [[0, 2, 4, 5, 7, 9, 11], [0, 2, 3, 5, 7, 8, 10]][random.integers(2)]
    tonic, beat, degree, now, notes = random.integers(55, 66), random.uniform(.35, .6), int(random.integers(6)), 0, []
    for _ in range(random.integers(8, 21)):
        length = beat * random.choice([.5, .5, 1, 1, 1.5, 2])
        notes.append((now, length, tonic + 12 * (degree // 7) + scale[degree % 7]))
        now += length + (.5 * beat if random.random() < .08 else 0)
        if random.random() >= .15:
            step, up = int(random.choice([1, 1, 1, 2, 2, 3, 4])), degree <= -3 or (degree < 9 and random.random() < .5)
            degree += step if up else -step
    return notes


def planted(notes, errors, random):
    """What is performed of a score: `errors` says the kind of error by note."""
    performed, delay, key, slides, step = [], 0, 0, 0, 0
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
            long = random.uniform(.15, .4)
            performed.append((start, long, pitch + sign() * random.integers(1, 5)))
            start, delay = start + long + .01, delay + long + .01
        elif kind == "pause":
            pause = random.uniform(.3, 1)
            start, delay = start + pause, delay + pause
        elif kind == "wrong":
            pitch += sign() * random.integers(1, 4)
        elif kind == "untuned":
            pitch += sign() * random.uniform(.4, .75)
        elif kind == "late":
            late = random.uniform(.4, .8) * length
            start, length = start + late, length - late
        elif kind == "long":
            longer = random.uniform(.5, 1.5) * length
            length, delay = length + longer, delay + longer
        performed.append((start, length, pitch))
    return performed


def tones_in_noise(pitch, random):
    """What a tracker hears in silence."""
    at = 0
    while True:
        at += int(random.exponential(.25) / HOP)
        length = max(2, int(random.exponential(.06) / HOP))
        if at >= len(pitch):
            return
        pitch[at:at + length] = random.uniform(34, 50) + .05 * random.normal(size=len(pitch[at:at + length])).cumsum()
        at += length


def contour(notes, shift, tempo, random):
    """The MIDI pitch of each frame, 0 where none is heard."""
    voice = random.random() < .6
    depth, rate, glide = random.uniform(0, .35) * voice, random.uniform(4.5, 6.5), random.uniform(.005, .04)
    jitter, dropout = random.uniform(.01, .1), random.uniform(0, .03)
    untuned, uneven = random.uniform(0, .12) * voice, random.uniform(0, .02) * (1 if voice else .3)
    rings, share, held = random.random() < .3, random.uniform(.85, 1.02), random.uniform(0, .8) * (random.random() < .7)
    before, after, heard = random.uniform(.05, 1.2), random.uniform(.1, 1.5), random.uniform(0, .05)
    begin, end = (before + at / tempo for at in (notes[0][0], max(start + length for start, length, _ in notes)))
    pitch = np.zeros(int((end + after) / HOP))
    if random.random() < .35:
        tones_in_noise(pitch, random)
    pitch[int(begin / HOP):int(end / HOP)] = 0
    last = None
    for i, (start, length, wanted) in enumerate(notes):
        following = before + heard + notes[i + 1][0] / tempo if i + 1 < len(notes) else np.inf
        starts = before + heard + start / tempo + uneven * random.normal()
        ends = before + heard + (start + share * length) / tempo + (random.uniform(.05, .3) if rings else 0)
        ends = min(ends + (held if i + 1 == len(notes) else 0), following)
        first, stop = max(0, int(starts / HOP)), int(ends / HOP)
        stop = min(len(pitch), max(stop, first + 4))
        if stop <= first:
            continue
        time, now = np.arange(stop - first) * HOP, wanted + shift + untuned * random.normal()
        glides = (0 if last is None else np.clip(last - now, -3, 3)) * np.exp(-time / glide)
        vibrato = depth * np.minimum(time / .3, 1) * np.sin(2 * np.pi * (random.random() + rate * time))
        sung = now + glides + vibrato + jitter * random.normal(size=len(time))
        sung[random.random(len(time)) < dropout] = 0
        pitch[first:stop], last = sung, now
    return pitch


def write_track(path, pitch):
    hertz = np.where(pitch > 0, 440 * 2 ** ((pitch - 69) / 12), 0)
    path.write_text("time,f0\n" + "".join(f"{i * HOP:.5f},{f:.2f}\n" for i, f in enumerate(hertz)))


def score_of(melody):
    return f"scores/{melody:05}.mid"


def write_score(path, notes):
    """A MIDI file, 960 ticks a second."""
    def varying(n):
        return bytes([*(0x80 | n >> 7 * k & 0x7f for k in range(3, 0, -1) if n >> 7 * k), n & 0x7f])
    events = sorted((round(960 * at), on, int(pitch)) for start, length, pitch in notes
        for at, on in ((start, 1), (start + length, 0)))
    track, now = b"", 0
    for at, on, pitch in events:
        track, now = track + varying(at - now) + bytes([0x90 if on else 0x80, pitch, 90]), at
    track += b"\x01\xff\x2f\x00"
    path.write_bytes(b"MThd\0\0\0\x06\0\0\0\x01" + (480).to_bytes(2) + b"MTrk" + len(track).to_bytes(4) + track)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=pathlib.Path)
    options.add_argument("--takes", type=int, default=64000)
    options.add_argument("--melodies", type=int, default=8000)
    options.add_argument("--seed", type=int, default=1)
    options = options.parse_args()
    for name in ["takes", "scores"]:
        (options.folder / name).mkdir(parents=True)
    melodies = []
    for number in range(options.melodies):
        melodies.append(melody(np.random.default_rng([options.seed, 1, number])))
        write_score(options.folder / score_of(number), melodies[-1])
    rows = [("path", "performer", "melody", "reference", "rating")]
    for number in range(options.takes):
        random = np.random.default_rng([options.seed, 2, number])
        of = int(random.integers(options.melodies))
        other = random.random() < .03
        notes = melodies[(of + 1) % options.melodies if other else of]
        kinds, chances = list(KINDS), list(KINDS.values())
        kinds, chances = ([random.choice(kinds)], [1]) if random.random() < .4 else (kinds, chances)
        share = random.choice([0, random.uniform(0, .6), random.uniform(.6, 1)], p=[.1, .83, .07])
        count = round(share * len(notes))
        errors = {int(at): random.choice(kinds, p=chances) for at in random.choice(len(notes), count, replace=False)}
        performed = planted(notes, errors, random) or notes[:1]
        octave = 12 * random.integers(-1, 2) if random.random() < .3 else 0
        path = f"takes/{number:05}.csv"
        write_track(options.folder / path, contour(performed, random.uniform(-7, 7) + octave, random.uniform(.8, 1.25), random))
        rating = 0 if other else 1 - count / len(notes)
        rows.append((path, f"p{number:05}", f"m{of:05}", score_of(of), f"{rating:.4f}"))
    with open(options.folder / "manifest.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)


if __name__ == "__main__":
    main()
