"""Notes of a melody and of its references, and what a take made of them: 47 note and 12 edit features."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from takes import median_of_rows
from warp import align

OTHERS, BEST = 12, 24  # references that one is ranked by; that serve both heads
MIN_BLOCKS = 4  # of a note
DETUNINGS = (-0.4, -0.2, 0.0, 0.2, 0.4)
FEATURES = 47 + 12


@dataclass
class Melody:
    """The best references (blocks) in order of typicality, the consensus' notes, and each reference's own."""

    ids: list
    typicality: list
    references: list
    notes: list  # (pitch, start, end)
    pitch: np.ndarray  # (reference, note), likewise start and end
    start: np.ndarray
    end: np.ndarray


def whole(x):
    """Round, halves up."""
    return np.floor(x + 0.5)


def fold(x):
    return x - 12 * whole(x / 12)


def rank(references):
    """Typicality of each: the median, over up to 12 others, of the cost of its path to the other per step."""
    count = len(references)
    others = min(OTHERS, count - 1)
    if not others:
        return np.zeros(count)
    pairs = [(k, (k + 1 + i * (count - 1) // others) % count) for k in range(count) for i in range(others)]
    # Open in the recipe: which one is `a`. As in the steps after it, the one that is judged.
    found = align([references[k] for k, _ in pairs], [references[o] for _, o in pairs], key_search=False)
    return np.median(np.reshape([path.cost / len(path.i) for path in found], (count, others)), 1)


def consensus(ranked):
    """Blocks: medians over the references aligned to the best one, then over those aligned to these medians."""
    centre = ranked[0]
    some = ranked[
        : max(int(0.75 * len(ranked)), 3)
    ]  # open in the recipe: rounded down, the best one among them
    for _ in range(2):
        paths = align(some, [centre] * len(some), key_search=False)
        block = np.concatenate([path.j for path in paths])
        raw = np.concatenate([x[path.i] for x, path in zip(some, paths)])
        shift = np.repeat([path.octave + path.shift for path in paths], [len(path.i) for path in paths])
        value = np.where(raw > 0, raw - shift, np.inf)
        order = np.lexsort((value, block))  # by block, the unvoiced last
        total = np.bincount(block, minlength=len(centre))
        voiced = np.bincount(block[raw > 0], minlength=len(centre))
        first, value = total.cumsum() - total, value[order]
        middle = (value[first + np.maximum(voiced - 1, 0) // 2] + value[first + voiced // 2]) / 2
        centre = np.where((voiced > 0) & (2 * voiced >= total), middle, 0).astype(np.float32)
    return centre


def runs(centre):
    """Notes of a consensus: runs of one rounded pitch, at least 4 blocks long."""
    pitch = whole(centre.astype(float))
    edges = np.flatnonzero(np.diff(pitch, prepend=-1, append=-1))
    notes = [(int(pitch[s]), int(s), int(e)) for s, e in pairwise(edges)]
    return [(p, s, e) for p, s, e in notes if p > 0 and e - s >= MIN_BLOCKS]


def melody(ids, references):
    typicality = rank(references)
    order = sorted(range(len(ids)), key=lambda k: (typicality[k], ids[k]))
    centre = consensus([references[k] for k in order])
    notes = runs(centre)
    best = order[:BEST]
    paths = align([references[k] for k in best], [centre] * len(best), key_search=False)
    shape = (len(best), len(notes))
    pitch, start, end = np.empty(shape), np.empty(shape, int), np.empty(shape, int)
    for k, path in enumerate(paths):
        for q, (p, s, e) in enumerate(notes):
            at, after = np.searchsorted(path.j, [s, e])
            pitch[k, q] = p + path.octave + path.shift
            start[k, q], end[k, q] = path.i[at], path.i[after - 1] + 1
            if q:
                start[k, q] = max(start[k, q], start[k, q - 1] + 1)
                end[k, q - 1] = max(min(end[k, q - 1], start[k, q]), start[k, q - 1] + 1)
        if notes:  # open in the recipe: no next note bounds the last one
            end[k, -1] = max(end[k, -1], start[k, -1] + 1)
    typicality, references = [float(typicality[k]) for k in best], [references[k] for k in best]
    return Melody([ids[k] for k in best], typicality, references, notes, pitch, start, end)


def longest(flags):
    """The longest run of true in each row."""
    best = run = np.zeros(len(flags), int)
    for column in np.transpose(flags):
        run = (run + 1) * column
        best = np.maximum(best, run)
    return best


def largest(x, count):
    """The largest of each row, falling, padded with 0."""
    return np.pad(-np.sort(-x, 1)[:, :count], ((0, 0), (0, max(count - x.shape[1], 0))))


def mean(x):
    return x.mean(1) if x.shape[1] else np.zeros(len(x))


def sd_where(x, kept, least, otherwise):
    """Deviation of each row's kept values; `otherwise` of fewer than `least`."""
    count = kept.sum(1)
    some = np.maximum(count, 1)
    centre = (x * kept).sum(1) / some
    return np.where(count < least, otherwise, np.sqrt((((x - centre[:, None]) * kept) ** 2).sum(1) / some))


def onset_features(onset, start, present):
    """Residuals about a line on the score's onsets, and local tempo, of one take: 5 numbers."""
    y, s = onset[present].astype(float), start[present].astype(float)
    if len(y) < 3:
        return 20, 40, 1, 2, 0
    centred = s - s.mean()
    residual = y - y.mean() - centred * (centred @ y) / (centred @ centred)
    g = np.log(np.maximum(np.diff(y) / np.maximum(np.diff(s), 1), 0.1))
    middle = np.median(g)
    return residual.std(), np.abs(residual).max(), g.std(), np.abs(g - middle).max(), middle


def matched(take, path, start, end):
    """Of a take's path to a reference: the first take block matched to each note and the number of them."""
    # Reference indices do not fall along the path, so a note's steps are one run, and so are its take blocks.
    first, after = np.searchsorted(path.j, start), np.searchsorted(path.j, end)
    some = after > first
    at = path.i[np.minimum(first, len(path.i) - 1)]
    return at, np.where(some, path.i[np.maximum(after - 1, 0)] + 1 - at, 0)


def note_features(takes, paths, melody):
    """The 47 features of each take, means over the references. `paths[t][k]` is of take t to reference k.

    Open in the recipe: the first half of an odd number of notes is the smaller one; the first note has index 0.
    """
    count = len(melody.notes)
    references = len(melody.references)
    if not count:
        return np.zeros((len(takes), 47))
    rows = [(take, path, k) for take, of_take in zip(takes, paths) for k, path in enumerate(of_take)]
    found = [matched(take, path, melody.start[k], melody.end[k]) for take, path, k in rows]
    onset, size = np.stack([f[0] for f in found]), np.stack([f[1] for f in found])  # (row, note)
    which = np.array([k for _, _, k in rows])
    start, end = melody.start[which], melody.end[which]
    target = melody.pitch[which] + np.array([[path.octave + path.shift] for _, path, _ in rows])

    # The blocks of each note, (row, note, block), padded with 0 as if unvoiced.
    width = max(int(size.max()), 1)
    padded = np.zeros((len(rows), max(len(take) for take in takes) + width))
    for row, (take, _, _) in zip(padded, rows):
        row[: len(take)] = take
    block = np.arange(width)
    at = (onset[..., None] + block).reshape(len(rows), -1)
    heard = np.take_along_axis(padded, at, 1).reshape(*size.shape, width)
    voiced = (heard > 0) & (block < size[..., None])
    trim = np.where(size > 4, size // 5, 0)[..., None]
    core = voiced & (block >= trim) & (block < size[..., None] - trim)
    cored = core.sum(2)
    z = np.where(cored > 0, fold(median_of_rows(np.where(core, heard, np.inf), cored) - target), 3.0)
    a = np.minimum(np.abs(z), 3)
    some = np.maximum(size, 1)
    t = (voiced & (np.abs(fold(heard - target[..., None])) < 0.5)).sum(2) / some
    u = voiced.sum(2) / some
    log_length = np.log((size + 1) / (end - start + 1))
    length = log_length - np.median(log_length, 1, keepdims=True)
    v = np.minimum(np.abs(np.diff(z, axis=1)), 4)
    weight = end - start
    off, near, half = a > 0.75, a < 0.5, count // 2
    smallest = np.sort(t, 1)[:, :4]
    smallest = np.pad(smallest, ((0, 0), (0, 4 - smallest.shape[1])), mode="edge")
    columns = [
        [np.full(len(rows), count), (cored == 0).mean(1)],
        [a.mean(1), (a * weight).sum(1) / weight.sum(1), np.median(a, 1)],
        [(a > limit).mean(1) for limit in (0.5, 0.8, 1.5)],
        [(a > limit).sum(1) for limit in (0.5, 0.8, 1.5)],
        largest(a, 5).T,
        [mean(v), mean(v > 0.7), (v > 0.7).sum(1), *largest(v, 3).T],
        np.array([onset_features(o, s, n > 0) for o, s, n in zip(onset, start, size)]).T,
        [length.std(1), *largest(np.abs(length), 3).T],
        [u.mean(1), u.min(1), t.mean(1), *smallest.T, (t < 0.3).mean(1)],
        [a[:, 0], a[:, -1], mean(a[:, :half]), mean(a[:, half:]), longest(off), longest(near) / count],
        [np.where(off.any(1), off.argmax(1) / count, 1.0), sd_where(z, a < 1.5, 2, 1.0)],
    ]
    features = np.stack([column for group in columns for column in group], 1)
    return features.reshape(len(takes), references, 47).mean(1)


def transcribe(take):
    """Notes of a take, (pitch, blocks): a voiced block within .6 of the median of its last 8 extends a note.

    Open in the recipe: a note's pitch is the median of all of its blocks.
    """
    notes, note = [], []

    def close():
        if len(note) >= MIN_BLOCKS:
            notes.append((middle_of(note), len(note)))

    for x in take.tolist():
        if note and (x == 0 or abs(x - middle_of(note[-8:])) > 0.6):
            close()
            note = []
        if x > 0:
            note.append(x)
    if note:
        close()
    return notes


def middle_of(values):
    values = sorted(values)
    return (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2


def edits(notes, score):
    """The cheapest way from score to take: its cost and its steps ("sub", d), ("insert", 0) or ("delete", 0)."""
    added = [0.6 * (0.3 + 0.7 * min(blocks / 8, 1)) for _, blocks in notes]
    cost = [j * 0.8 for j in range(len(score) + 1)]
    back = [[("delete", 0.0)] * (len(score) + 1)]
    for (x, _), insertion in zip(notes, added):
        above, cost, steps = cost, [cost[0] + insertion], [("insert", 0.0)]
        for j, y in enumerate(score):
            d = abs(x - y) % 12
            d = min(d, 12 - d)
            best, step = above[j] + min(max(d - 0.3, 0), 1.2), ("sub", d)
            if above[j + 1] + insertion < best:
                best, step = above[j + 1] + insertion, ("insert", 0.0)
            if cost[j] + 0.8 < best:
                best, step = cost[j] + 0.8, ("delete", 0.0)
            cost.append(best)
            steps.append(step)
        back.append(steps)
    i, j, path = len(notes), len(score), []
    while i or j:
        step = back[i][j]
        path.append(step)
        i -= step[0] != "delete"
        j -= step[0] != "insert"
    return cost[-1], path[::-1]


def edit_features(take, path, score):
    """12 features of a take, `path` being its alignment to the best reference.

    Open in the recipe: any other step of the edit, an insertion too, ends a run of matches.
    """
    notes, m = transcribe(take), max(len(score), 1)
    raised = [[p + path.octave + path.shift + detuning for p, _, _ in score] for detuning in DETUNINGS]
    cost, steps = min((edits(notes, pitches) for pitches in raised), key=lambda found: found[0])
    ds = [d for kind, d in steps if kind == "sub"]
    hits = [kind == "sub" and d < 0.5 for kind, d in steps]
    wrong = [d for d in ds if d >= 0.5]
    inserted, deleted = (sum(step[0] == kind for step in steps) for kind in ("insert", "delete"))
    ds.append(0.0)
    features = [cost / m, cost, sum(hits) / m, len(wrong), sum(d > 1 for d in wrong), inserted, deleted]
    features += [longest([hits])[0] / m, sum(ds) / len(ds), middle_of(ds)]
    return [*features, len(notes) / m, len(notes) - len(score)]


def features(takes, paths, melody):
    """All 59 of each take."""
    edit = [edit_features(take, of_take[0], melody.notes) for take, of_take in zip(takes, paths)]
    return np.hstack([note_features(takes, paths, melody), edit])
