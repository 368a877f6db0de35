"""Small scores, and what pretty_midi and music21 say their notes are.

Writes *.mid, *.musicxml and *.mxl beside this file, and notes.json: for each file [MIDI pitch, start, end] of its notes in seconds.
README.md says with which versions.
"""

import json
from pathlib import Path

import mido
import music21 as m21
import pretty_midi
from music21 import converter, expressions, instrument, key, meter, note, repeat, spanner, stream, tempo

HERE = Path(__file__).parent
NOTES = {}


def midi(name, tracks, ticks=480, format=1):
    """A file of tracks of (delta, message), read back by pretty_midi."""
    file = mido.MidiFile(type=format, ticks_per_beat=ticks)
    for events in tracks:
        track = mido.MidiTrack()
        for delta, event in events:
            event.time = delta
            track.append(event)
        track.append(mido.MetaMessage("end_of_track", time=0))
        file.tracks.append(track)
    path = HERE / f"{name}.mid"
    file.save(path)
    played = [n for i in pretty_midi.PrettyMIDI(str(path)).instruments if not i.is_drum for n in i.notes]
    NOTES[path.name] = sorted(([n.pitch, n.start, n.end] for n in played), key=lambda n: n[1])


def on(pitch, velocity=80):
    return mido.Message("note_on", note=pitch, velocity=velocity)


def off(pitch):
    return mido.Message("note_off", note=pitch)


def bpm(quarters):
    return mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(quarters))


def midis():
    tune = [60, 60, 64, 62, 67]
    # Velocity 0 ends a note; no tempo is given; rests between.
    midi("plain", [[e for p in tune for e in ((120, on(p)), (360, on(p, 0)))]], format=0)
    # The tempo changes in the middle of a note, and on the tick of an onset, from a track of its own.
    conductor = [(0, mido.MetaMessage("track_name", name="Tempo")), (0, bpm(90)), (100, bpm(61.5)), (284, bpm(150)), (700, bpm(40))]
    held = [e for p in tune for e in ((0, on(p)), (192, off(p)))]
    midi("tempos", [conductor, held], ticks=96)
    # Percussion beside it.
    drum = [e for _ in range(6) for e in ((0, mido.Message("note_on", note=38, channel=9)), (96, mido.Message("note_off", note=38, channel=9)))]
    midi("percussion", [[(0, bpm(100))] + held, drum], ticks=96)


def sounding(score):
    """[pitch, start, end] in seconds of a score without repeats, as music21 plays it."""
    score = score.toSoundingPitch().stripTies()
    notes = []
    for entry in score.flatten().secondsMap:
        element = entry["element"]
        if isinstance(element, note.Note) and not element.duration.isGrace:
            notes.append([element.pitch.ps, entry["offsetSeconds"], entry["endTimeSeconds"]])
    return notes


def musicxml(name, part, compressed=False):
    """A score of a part, read back by music21 and its repeats played."""
    score = stream.Score([part])
    path = HERE / (f"{name}.mxl" if compressed else f"{name}.musicxml")
    score.write("mxl" if compressed else "musicxml", path)
    played = converter.parse(path)
    played = stream.Score([p.expandRepeats() for p in played.parts])
    NOTES[path.name] = sounding(played)


def measure(number, notes, *before):
    m = stream.Measure(number=number)
    for element in before:
        m.insert(0, element)
    for text in notes.split():
        length, pitch = text.split(":")
        m.append(note.Rest(quarterLength=float(length)) if pitch == "r" else note.Note(pitch, quarterLength=float(length)))
    return m


def scores():
    four = meter.TimeSignature("4/4")
    # A pickup, ties over a bar line and in a measure, dots, a triplet, rests, a dotted beat.
    a = measure(0, "1:G4", meter.TimeSignature("6/8"), tempo.MetronomeMark(number=72, referent=note.Note(quarterLength=1.5).duration))
    b = measure(1, "1.5:C4 0.5:r 1:C4")
    b.notes[-1].tie = m21.tie.Tie("start")
    c = measure(2, "0.5:C4 1:E4 1:E4 0.5:r")
    c.notes[0].tie = m21.tie.Tie("stop")
    d = stream.Measure(number=3)
    for p in ("F4", "A-4", "B#4"):
        d.append(note.Note(p, quarterLength=m21.common.opFrac(1 / 3)))
    d.append(note.Note("C5", quarterLength=2))
    musicxml("ties", stream.Part([a, b, c, d]))
    # Quarter tones, a transposing instrument, two tempos.
    a = measure(1, "1:C4 1:D4 1:E4 1:F4", four, instrument.Clarinet(), tempo.MetronomeMark(number=100))
    a.notes[1].pitch.accidental = "half-sharp"
    b = measure(2, "2:G4 2:A4", tempo.MetronomeMark(number=63.5))
    b.notes[1].pitch.accidental = "one-and-a-half-flat"
    musicxml("clarinet", stream.Part([a, b]))
    # A repeat with two endings, and grace notes.
    bars = [measure(i + 1, t) for i, t in enumerate(["1:C4 1:C4 2:D4", "4:E4", "2:F4 2:G4", "4:C5"])]
    bars[0].insert(0, four)
    bars[0].insert(0, tempo.MetronomeMark(number=120))
    bars[1].insert(0, note.Note("D4").getGrace())
    part = stream.Part(bars)
    part.insert(0, spanner.RepeatBracket([bars[1]], number=1))
    part.insert(0, spanner.RepeatBracket([bars[2]], number=2))
    bars[1].rightBarline = m21.bar.Repeat(direction="end")
    musicxml("endings", part)
    # Da capo al fine, compressed.
    bars = [measure(i + 1, t) for i, t in enumerate(["2:C4 2:D4", "4:E4", "1:G4 3:A4"])]
    bars[0].insert(0, meter.TimeSignature("4/4"))
    bars[0].insert(0, tempo.MetronomeMark(number=96))
    bars[1].append(repeat.Fine())
    bars[2].append(repeat.DaCapoAlFine())
    musicxml("dacapo", stream.Part(bars), compressed=True)


if __name__ == "__main__":
    midis()
    scores()
    lines = [f"{json.dumps(name)}: {json.dumps(notes)}" for name, notes in sorted(NOTES.items())]
    (HERE / "notes.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
