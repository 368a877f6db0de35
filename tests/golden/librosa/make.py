"""Writes pitch.json: what librosa.pyin makes of signals that tests/grading/pitch.rs makes by the same formulas."""
import json, pathlib
import librosa
import numpy as np

PI2 = 2 * np.pi


def harmonics(phase, orders):
    """Of a phase in cycles."""
    return sum(np.sin(PI2 * k * phase) / k for k in orders)


def noise(n):
    state, out = 1, np.empty(n)
    for i in range(n):
        state = (1664525 * state + 1013904223) % 2**32
        out[i] = state / 2**31 - 1
    return out


def signal(name, t):
    """Of times in seconds, before it is rounded to f32."""
    if name == "tone":  # between silences
        return np.where((t > 0.2) & (t < 0.8), 0.3 * np.sin(PI2 * 440 * t), 0)
    if name == "glide":  # three octaves
        return 0.2 * harmonics(110 * (np.exp2(3 * t) - 1) / (3 * np.log(2)), range(1, 7))
    if name == "vibrato":
        phase = 440 * t + 0.03 * 440 / 5.5 / PI2 * np.sin(PI2 * 5.5 * t)
        return 0.2 * harmonics(phase, range(1, 6)) + 0.01 * noise(len(t))
    if name == "noise":  # and a tone in it, then
        return np.where(t < 0.5, 0, 0.2) * np.sin(PI2 * 233 * t) + 0.1 * noise(len(t))
    if name == "no_fundamental":
        return 0.2 * harmonics(150 * t, range(2, 8))
    if name == "leaps":  # of an octave and more, without rests
        hz = np.array([220.0, 440, 880, 196, 1568, 1500])[np.minimum(t / 0.2, 5).astype(int)]
        return 0.2 * harmonics(hz * t, range(1, 4))
    if name == "other_options":
        return 0.2 * harmonics(200 * t + 100 * t * t, range(1, 5)) + 0.02 * noise(len(t))


cases = []
for name in ("tone", "glide", "vibrato", "noise", "no_fundamental", "leaps", "other_options"):
    rate, lowest, highest, frame, hop = (44100, 60, 2000, 2048, 256)
    if name == "other_options":
        rate, lowest, highest, frame, hop = (22050, 110, 900, 1024, 200)
    samples = signal(name, np.arange(int(1.2 * rate)) / rate).astype(np.float32).astype(float)
    f0, voiced, probability = librosa.pyin(samples, sr=rate, fmin=lowest, fmax=highest, frame_length=frame, hop_length=hop)
    cases.append(dict(name=name, rate=rate, lowest=lowest, highest=highest, frame=frame, hop=hop, samples=len(samples),
        f0=np.where(voiced, f0, 0).round(3).tolist(), probability=probability.round(7).tolist()))
pathlib.Path(__file__).with_name("pitch.json").write_text(json.dumps(cases) + "\n")
