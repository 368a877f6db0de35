#!/usr/bin/env python3
"""Measures `etude contour` and librosa.pyin on recordings of known pitch, on one core; README.md says how to run and read it.

    benches/pitch/compare.py [--etude target/release/etude] [--keep FOLDER]
"""
import argparse, os, pathlib, subprocess, sys, tempfile, time

os.environ |= dict(OMP_NUM_THREADS="1", RAYON_NUM_THREADS="1")
if hasattr(os, "sched_setaffinity"):  # Linux: children inherit it
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
import librosa
import mido
import numpy as np
import soundfile

RATE, HOP, FRAME, LOWEST, HIGHEST = 44100, 256, 2048, 60, 2000
SOUNDFONT = "/usr/share/sounds/sf2/TimGM6mb.sf2"
# General MIDI programs from 0, and the lowest note of the melody.
INSTRUMENTS = dict(flute=(73, 67), clarinet=(71, 55), alto_sax=(65, 53), violin=(40, 62), choir_aahs=(52, 57),
    voice_oohs=(53, 57))
# Notes above the lowest, seconds of each; None is a rest.
MELODY = [(0, .5), (2, .5), (4, .25), (5, .25), (7, .5), (None, .5), (12, .5), (11, .25), (9, .25), (7, .5), (None, .5), (4, .75)]
# Instruments have attacks and tails, so what sounds is told by the level of what was played, in dB relative to its loudest frame:
# voiced above the first, unvoiced below the second, not counted between them. Nor are frames around the start of a note, in
# seconds before and after: its attack, the tail of the note before, and frames of 46 ms that hold both. White noise as of a room
# is added at the third level: without it a tail is a tone down to the last bit, and is tracked as one.
VOICED, UNVOICED, NOISE, AROUND = -35, -65, -50, (.025, .15)


def played(name, folder):
    """A melody through fluidsynth, without reverb and chorus; samples, and (start, note) of each note."""
    program, lowest = INSTRUMENTS[name]
    midi, track, notes, now, wait = mido.MidiFile(ticks_per_beat=480), mido.MidiTrack(), [], 0.5, 480
    midi.tracks.append(track)  # 120 beats a minute: 960 ticks a second
    track.append(mido.Message("program_change", program=program))
    for step, seconds in MELODY:
        ticks = int(960 * seconds)
        if step is None:
            wait += ticks
        else:
            track.append(mido.Message("note_on", note=lowest + step, velocity=90, time=wait))
            track.append(mido.Message("note_off", note=lowest + step, time=ticks))
            notes.append((now, lowest + step))
            wait = 0
        now += seconds
    track.append(mido.MetaMessage("end_of_track", time=960))
    midi.save(folder / "played.mid")
    subprocess.run(["fluidsynth", "-ni", "-R", "0", "-C", "0", "-g", "0.8", "-r", str(RATE), "-T", "wav", "-O", "s16",
        "-F", folder / "played.wav", SOUNDFONT, folder / "played.mid"], check=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    samples = soundfile.read(folder / "played.wav")[0].mean(1)
    return samples[:int((now + 1) * RATE)], notes


def harmonics(phase, orders):
    return sum(np.sin(2 * np.pi * k * phase) / k for k in orders)


def synthesised():
    """Name, samples and f0 at each sample, 0 in silence."""
    random = np.random.default_rng(0)
    hz = np.concatenate([[0] * (RATE // 2) + [f] * RATE for f in (110, 196, 261.6, 440, 659.3, 1046.5)])
    fade = np.convolve(hz > 0, np.hanning(441) / np.hanning(441).sum(), "same")
    t = np.arange(len(hz)) / RATE
    noise = random.normal(size=len(hz))
    yield "sines", .3 * fade * np.sin(2 * np.pi * np.cumsum(hz) / RATE), hz
    tones = .15 * fade * harmonics(np.cumsum(hz) / RATE, range(1, 9))
    yield "tones", tones, hz
    yield "tones in noise", tones + .02 * noise, hz
    yield "weak fundamental", tones - .14 * fade * np.sin(2 * np.pi * np.cumsum(hz) / RATE), hz
    glide = 110 * np.exp2(3 * (.5 - .5 * np.cos(2 * np.pi * t / 9)))
    yield "glide", .2 * harmonics(np.cumsum(glide) / RATE, range(1, 7)), glide
    vibrato = 392 * np.exp2(60 / 1200 * np.sin(2 * np.pi * 5.5 * t))
    yield "vibrato", .2 * harmonics(np.cumsum(vibrato) / RATE, range(1, 7)) + .002 * noise, vibrato


def loudness(samples):
    """The root mean square of each frame."""
    frames = librosa.util.frame(np.pad(samples, FRAME // 2), frame_length=FRAME, hop_length=HOP)
    return np.sqrt((frames**2).mean(0))


def truth_of_notes(samples, notes, times):
    """f0 of each frame, and which frames count."""
    level = 20 * np.log10(loudness(samples) + 1e-9)
    level -= level.max()
    f0, counts = np.zeros(len(times)), (level > VOICED) | (level < UNVOICED)
    for start, note in notes:
        f0[times >= start] = 440 * 2 ** ((note - 69) / 12)
        counts &= (times < start - AROUND[0]) | (times > start + AROUND[1])
    return np.where(level > VOICED, f0, 0), counts


def truth_of_samples(hz, times):
    """Frames that hold an edge of a tone do not count."""
    at = np.minimum((times * RATE).round().astype(int), len(hz) - 1)
    edges = np.flatnonzero(np.diff(hz > 0)) / RATE
    near = np.abs(times[:, None] - edges[None]).min(1, initial=np.inf) if len(edges) else np.full(len(times), np.inf)
    return hz[at].astype(float), near > FRAME / 2 / RATE


def measures(f0, truth, counts):
    voiced, is_voiced = f0[counts] > 0, truth[counts] > 0
    both = voiced & is_voiced
    cents = np.abs(1200 * np.log2(f0[counts][both] / truth[counts][both]))
    f1 = 2 * both.sum() / (voiced.sum() + is_voiced.sum())
    return np.median(cents), f1, np.mean(cents > 600)


def agreement(a, b):
    same = (a > 0) == (b > 0)
    both = (a > 0) & (b > 0)
    same[both] &= np.abs(1200 * np.log2(a[both] / b[both])) <= 10
    return same.mean()


def librosa_side(samples):
    start = time.perf_counter()
    f0, voiced, _ = librosa.pyin(samples, sr=RATE, fmin=LOWEST, fmax=HIGHEST, frame_length=FRAME, hop_length=HOP)
    return np.where(voiced, f0, 0), time.perf_counter() - start


def etude_side(etude, wav):
    """The whole process, of three the fastest: start, reading the file and writing the table too."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([etude, "contour", wav], capture_output=True, text=True)
        seconds.append(time.perf_counter() - start)
        if done.returncode:
            sys.exit(f"{etude} contour {wav}: {done.stderr}")
    lines = done.stdout.splitlines()
    column = lines[0].split(",").index("f0")
    return np.array([float(line.split(",")[column]) for line in lines[1:]]), min(seconds)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--etude", default="target/release/etude")
    options.add_argument("--keep", type=pathlib.Path, help="where the recordings stay")
    options = options.parse_args()
    folder = options.keep or pathlib.Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)

    def recordings():
        for name, samples, hz in synthesised():
            yield name, samples, lambda times, hz=hz: truth_of_samples(hz, times)
        for name in INSTRUMENTS:
            samples, notes = played(name, folder)
            noise = np.random.default_rng(1).normal(size=len(samples)) * loudness(samples).max() * 10 ** (NOISE / 20)
            yield name, samples + noise, lambda times, samples=samples, notes=notes: truth_of_notes(samples, notes, times)

    librosa_side(np.zeros(RATE))  # compiles
    print("| recording | seconds | median error, cents | voicing F1 | octave errors, % | agreement, % | real-time factor |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, samples, truth in recordings():
        wav = folder / f"{name.replace(' ', '_')}.wav"
        soundfile.write(wav, samples, RATE, subtype="PCM_16")
        samples = soundfile.read(wav)[0]
        (ours, our_time), (theirs, their_time) = etude_side(options.etude, wav), librosa_side(samples)
        assert len(ours) == len(theirs), (len(ours), len(theirs))
        f0, counts = truth(np.arange(len(theirs)) * HOP / RATE)
        (a, b, c), (x, y, z) = measures(ours, f0, counts), measures(theirs, f0, counts)
        length = len(samples) / RATE
        print(f"| {name.replace('_', ' ')} | {length:.1f} | {a:.2f} ({x:.2f}) | {b:.4f} ({y:.4f}) | {100 * c:.2f} "
            f"({100 * z:.2f}) | {100 * agreement(ours, theirs):.2f} | {our_time / length:.4f} ({their_time / length:.2f}) |",
            flush=True)


if __name__ == "__main__":
    main()
