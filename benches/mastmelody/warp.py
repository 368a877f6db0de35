"""Dynamic time warping of many pairs at once, by anti-diagonals.

The arrays are of (row, pair), so that a slice of rows is one run of memory. The cost of a cell is |a - b| up to
3 semitones, 1.5 of voiced against unvoiced, 0 of both unvoiced: with unvoiced blocks at a pitch out of reach it
is min(|a - b|, cap a + cap b), each cap 1.5 if voiced and 0 if not.
"""

from dataclasses import dataclass

import numpy as np
from takes import median_of_rows

UNVOICED = np.float32(1e4)
OFF_DIAGONAL = np.float32(0.02)
PAIRS = 192  # at once: the arrays of a diagonal stay in the second-level cache
SHIFTS = np.arange(-6, 7)
REFINE_BELOW = 1.5
SCRATCH = {}  # the way back of the last table: fresh pages cost more than the steps written to them


@dataclass
class Alignment:
    """Of blocks `a` to blocks `b`: the path's indices, its cost, and what to add to `b`."""

    i: np.ndarray
    j: np.ndarray
    cost: float
    octave: float
    shift: float


class Columns:
    """Sequences as columns, each raised by its offset."""

    def __init__(self, sequences, offsets=None):
        self.lengths = np.array([len(x) for x in sequences])
        values = np.full((len(sequences), self.lengths.max()), UNVOICED, np.float32)
        for row, x in zip(values, sequences):
            row[: len(x)] = x
        voiced = (values > 0) & (values < UNVOICED)
        if offsets is not None:
            values += offsets[:, None].astype(np.float32)
        values[~voiced] = UNVOICED
        self.values = np.ascontiguousarray(values.T)
        self.caps = np.ascontiguousarray(np.where(voiced, np.float32(1.5), np.float32(0)).T)

    def medians(self):
        """Of the voiced blocks."""
        return median_of_rows(np.where(self.caps > 0, self.values, np.inf).T, (self.caps > 0).sum(0))

    def reversed(self):
        """Padded in front: rows of an anti-diagonal, in the order of the other sequence's."""
        return np.ascontiguousarray(self.values[::-1]), np.ascontiguousarray(self.caps[::-1])


def half_widths(n, m):
    return np.clip(np.ceil(0.3 * np.maximum(n, m)), 64, 512).astype(int)


class Band:
    """Rows of each diagonal in the band of a pair (`begin` to `end`), and in that of any (`low` to `high`)."""

    def __init__(self, n, m, half_width):
        self.n, self.m, self.pairs, rows = n, m, len(n), n.max()
        i = np.arange(rows)[:, None]
        first = np.maximum(i * m // n - half_width, 0) + i
        end = np.minimum(-(-(i + 1) * m // n) + half_width, m) + i
        last = n + m - 2
        count, pairs = last.max() + 1, np.arange(self.pairs)
        inside = i < n

        def rows_before(diagonals):
            cells = (diagonals * self.pairs + pairs)[inside & (diagonals < count)]
            return np.bincount(cells, minlength=count * self.pairs).reshape(count, -1).cumsum(0)

        self.end, self.begin = rows_before(first), rows_before(end)
        over = np.arange(count)[:, None] > last
        self.low = np.where(over, rows, self.begin).min(1)
        self.high = np.where(over, 0, self.end).max(1)
        # A pair that is done is nobody's business: its cells are written and never read.
        self.begin[over], self.end[over] = 0, rows
        self.width = int((self.high - self.low).max())


class Table:
    """The least cost of a path within the band, and with `trace` the way back."""

    def __init__(self, a, b, band, trace):
        self.band = band
        self.fill(a, b, trace)

    def storage(self, count, width, pairs):
        size = count * width * pairs
        if len(SCRATCH.get("diagonal", ())) < size:
            SCRATCH.update(diagonal=np.empty(size, bool), up=np.empty(size, bool))
        shape = (count, width, pairs)
        return SCRATCH["diagonal"][:size].reshape(shape), SCRATCH["up"][:size].reshape(shape)

    def fill(self, a, b, trace):
        (b_values, b_caps), rows, band = b.reversed(), a.values.shape[0], self.band
        count, width, pairs = len(band.low), band.width, band.pairs
        lows, highs = band.low.tolist(), band.high.tolist()
        begins, ends = band.begin.max(1).tolist(), band.end.min(1).tolist()
        last = band.n + band.m - 2
        done = {d: np.flatnonzero(last == d) for d in np.unique(last).tolist()}
        index = np.arange(rows)[:, None]
        # Row i of a diagonal is at i + 1; around what is written stands infinity.
        before, ago, cell = (np.full((rows + 2, pairs), np.inf, np.float32) for _ in range(3))
        ago[0] = 0
        local, cap, best = (np.empty((width, pairs), np.float32) for _ in range(3))
        if trace:
            self.diagonal, self.up = self.storage(count, width, pairs)
        self.cost = np.empty(pairs, np.float32)
        for d in range(count):
            low, high = lows[d], highs[d]
            c, k, least = local[: high - low], cap[: high - low], best[: high - low]
            other = slice(len(b_values) - 1 - d + low, len(b_values) - 1 - d + high)
            np.subtract(a.values[low:high], b_values[other], out=c)
            np.abs(c, out=c)
            np.add(a.caps[low:high], b_caps[other], out=k)
            np.minimum(c, k, out=c)
            up, left, diagonal = before[low:high], before[low + 1 : high + 1], ago[low:high]
            np.minimum(up, left, out=least)
            np.add(least, OFF_DIAGONAL, out=least)
            if trace:
                # A diagonal step wins ties; then, open in the recipe, one that advances a alone.
                np.less_equal(diagonal, least, out=self.diagonal[d, : high - low])
                np.less_equal(up, left, out=self.up[d, : high - low])
            np.minimum(diagonal, least, out=least)
            np.add(least, c, out=cell[low + 1 : high + 1])
            cell[low] = cell[high + 1] = np.inf
            if begins[d] > low:
                np.putmask(cell[low + 1 : begins[d] + 1], index[low : begins[d]] < band.begin[d], np.inf)
            if ends[d] < high:
                edge = max(ends[d], low)
                np.putmask(cell[edge + 1 : high + 1], index[edge:high] >= band.end[d], np.inf)
            if d in done:
                self.cost[done[d]] = cell[band.n[done[d]], done[d]]
            before, ago, cell = cell, before, ago

    def paths(self):
        """The indices of each step, from the path's end, (step, pair), and the number of steps of each pair."""
        band, pairs = self.band, self.band.pairs
        count = len(band.low)
        start = (np.arange(count) * band.width - band.low) * pairs
        diagonal, up = self.diagonal.ravel(), self.up.ravel()
        diagonal[:pairs] = up[:pairs] = False  # the first cell: stay
        d, row = band.n + band.m - 2, (band.n - 1) * pairs + np.arange(pairs)
        ds, rows = np.empty((2, count, pairs), int)
        for step in range(count):
            ds[step], rows[step] = d, row
            if not d.any():
                break
            at = start[d] + row
            slant = diagonal[at]
            row = row - (slant | up[at]) * pairs
            d = np.maximum(d - slant - 1, 0)
        ds, rows = ds[: step + 1], rows[: step + 1] // pairs
        return rows, ds - rows, (ds > 0).sum(0) + 1


def key_shifts(a, b, octaves, half_width):
    """The integer shift of the cheapest path on every second block, in half the band.

    Open in the recipe: the band there, and which of equally cheap ones, the lowest.
    """
    offsets = (octaves[:, None] + SHIFTS).ravel()
    a = [x[::2] for x in a for _ in SHIFTS]
    b = [x[::2] for x in b for _ in SHIFTS]
    a, b = Columns(a), Columns(b, offsets)
    band = Band(a.lengths, b.lengths, np.repeat(-(-half_width // 2), len(SHIFTS)))
    costs = Table(a, b, band, trace=False).cost
    return SHIFTS[costs.reshape(-1, len(SHIFTS)).argmin(1)].astype(float)


def refinement(a, b, i, j, steps):
    """The median of the residuals below 1.5 semitones along each path, 0 without one.

    Open in the recipe: they are not folded into an octave, as the cost is not.
    """
    x, y = np.take_along_axis(a.values, i, 0), np.take_along_axis(b.values, j, 0)
    residual = x - y
    kept = (x < UNVOICED) & (y < UNVOICED) & (np.abs(residual) < REFINE_BELOW)
    kept &= np.arange(len(i))[:, None] < steps
    return median_of_rows(np.ascontiguousarray(np.where(kept, residual, np.inf).T), kept.sum(0))


def align_some(a, b, key_search):
    columns, raised = Columns(a), Columns(b)
    half_width = half_widths(columns.lengths, raised.lengths)
    octaves = 12 * np.floor((columns.medians() - raised.medians()).astype(float) / 12 + 0.5)
    shifts = np.zeros(len(a))
    if key_search:
        group = max(PAIRS // len(SHIFTS), 1)
        for k in range(0, len(a), group):
            part = slice(k, k + group)
            shifts[part] = key_shifts(a[part], b[part], octaves[part], half_width[part])
    band = Band(columns.lengths, raised.lengths, half_width)
    raised = Columns(b, octaves + shifts)
    shifts = shifts + refinement(columns, raised, *Table(columns, raised, band, trace=True).paths())
    table = Table(columns, Columns(b, octaves + shifts), band, trace=True)
    i, j, steps = table.paths()
    return [
        Alignment(i[s - 1 :: -1, k], j[s - 1 :: -1, k], float(table.cost[k]), octaves[k], shifts[k])
        for k, s in enumerate(steps.tolist())
    ]


def align(a, b, key_search):
    """Aligns each of `a` to the one of `b` beside it, pairs of about one size together."""
    order = sorted(range(len(a)), key=lambda k: len(a[k]) + len(b[k]))
    result = [None] * len(a)
    for some in np.array_split(order, -(-len(order) // PAIRS)):
        for k, found in zip(some, align_some([a[k] for k in some], [b[k] for k in some], key_search)):
            result[k] = found
    return result
