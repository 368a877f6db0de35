//! Dynamic time warping (Sakoe and Chiba, 1978) in a band around the diagonal, of pitch per block with 0.0 for unvoiced.
//!
//! A cell waits for its neighbours, so rows in order run at the latency of four operations a cell. Two orders do not: [`costs`]
//! takes sixteen key shifts side by side, [`path`] a whole anti-diagonal, whose cells wait for none of each other. Both give the
//! bits of plain loops.
//!
//! Comparisons are written out: `f32::min` looks for NaN, which none of these is.

use std::ops::Range;

/// A pitch difference costs at most this, in semitones: a wrong note is wrong however far off.
const CAP: f32 = 3.0;
/// The cost of a voiced block against an unvoiced one.
const VOICING: f32 = 1.5;
/// The cost of a step off the diagonal.
const OFF_DIAGONAL: f32 = 0.02;

/// Offsets that [`costs`] tries at once.
pub(super) const OFFSETS: usize = 16;

/// The columns of row `i` of `n` that lie in the band: `half_width` to each side of the cells that the
/// diagonal of an `n` by `m` table crosses in this row. At least those, so a path exists at half-width 0.
fn band(i: usize, n: usize, m: usize, half_width: usize) -> Range<usize> {
    // In 64 bits: of half an hour the product does not fit a 32-bit `usize`.
    let (row, n, columns) = (i as u64, n as u64, m as u64);
    let first = (row * columns / n) as usize;
    let end = ((row + 1) * columns).div_ceil(n) as usize;
    first.saturating_sub(half_width)..end.saturating_add(half_width).min(m)
}

fn least(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// The least cost of a path that warps `a` to `b + offset`, for each offset.
pub(super) fn costs(a: &[f32], b: &[f32], offsets: &[f32; OFFSETS], half_width: usize) -> [f32; OFFSETS] {
    const NEVER: [f32; OFFSETS] = [f32::INFINITY; OFFSETS];
    let (n, m) = (a.len(), b.len());
    let mut best = vec![NEVER; m]; // of the row above, overwritten from the left
    let mut last_first = 0;
    for (i, &pitch) in a.iter().enumerate() {
        let columns = band(i, n, m, half_width);
        let first = columns.start;
        // A path starts in the first cell, as if from a diagonal step at no cost. Else, `best` left of the
        // band is stale unless the row above reached there.
        let mut diagonal = match i {
            0 => [0.0; OFFSETS],
            _ if first > last_first => best[first - 1],
            _ => NEVER,
        };
        let mut left = NEVER;
        for (best, &other) in best[columns.clone()].iter_mut().zip(&b[columns]) {
            let mut local = [if (pitch > 0.0) == (other > 0.0) { 0.0 } else { VOICING }; OFFSETS];
            if pitch > 0.0 && other > 0.0 {
                for (local, offset) in local.iter_mut().zip(offsets) {
                    *local = least((pitch - other - offset).abs(), CAP);
                }
            }
            let above = *best;
            for lane in 0..OFFSETS {
                // Rounding is monotone, so that the least is the same before a sum as after it; `left` is waited for.
                let waiting = least(diagonal[lane], above[lane] + OFF_DIAGONAL);
                left[lane] = local[lane] + least(waiting, left[lane] + OFF_DIAGONAL);
            }
            (diagonal, *best) = (above, left);
        }
        last_first = first;
    }
    best.last().copied().unwrap_or([0.0; OFFSETS])
}

const DIAGONAL: u8 = 0;
const REFERENCE_REPEATS: u8 = 1;
const PERFORMANCE_REPEATS: u8 = 2;

/// Warps `a` to `b + offset`: the least cost, and a path of that cost. Of equal costs the diagonal wins.
pub(super) fn path(a: &[f32], b: &[f32], offset: f32, half_width: usize) -> (f32, Vec<[usize; 2]>) {
    let (n, m) = (a.len(), b.len());
    if n == 0 || m == 0 {
        return (0.0, Vec::new());
    }
    // Along an anti-diagonal columns fall where rows rise.
    let reversed: Vec<f32> = b.iter().rev().copied().collect();
    let bands: Vec<Range<usize>> = (0..n).map(|i| band(i, n, m, half_width)).collect();
    // The costs of three anti-diagonals by row, from 1 on: infinite around the rows that the band has there.
    let mut costs = [(); 3].map(|()| vec![f32::INFINITY; n + 2]);
    let [before, last, now] = &mut costs;
    // A path starts in the first cell, as if from a diagonal step at no cost.
    before[0] = 0.0;
    let mut steps: Vec<u8> = Vec::new();
    let mut diagonals = Vec::with_capacity(n + m - 1); // where the steps of each begin, and its first row
    let (mut first, mut end) = (0, 0);
    for d in 0..n + m - 1 {
        while bands[first].end + first <= d {
            first += 1;
        }
        while end < n && bands[end].start + end <= d {
            end += 1;
        }
        let from = steps.len();
        diagonals.push((from, first));
        steps.resize(from + (end - first), DIAGONAL);
        anti_diagonal(
            [&a[first..end], &reversed[m - 1 + first - d..]],
            offset,
            [&before[first..], &last[first..], &last[first + 1..]],
            &mut now[first + 1..],
            &mut steps[from..],
        );
        (now[first], now[end + 1]) = (f32::INFINITY, f32::INFINITY);
        std::mem::swap(before, last);
        std::mem::swap(last, now);
    }
    let cost = last[n];

    let (mut i, mut j) = (n - 1, m - 1);
    let mut path = vec![[i, j]];
    while (i, j) != (0, 0) {
        let (from, first) = diagonals[i + j];
        match steps[from + i - first] {
            REFERENCE_REPEATS => i -= 1,
            PERFORMANCE_REPEATS => j -= 1,
            _ => (i, j) = (i - 1, j - 1),
        }
        path.push([i, j]);
    }
    path.reverse();
    (cost, path)
}

/// The costs of the cells of an anti-diagonal, and the steps to them: a loop without a dependence, of which the compiler makes
/// SIMD.
fn anti_diagonal(
    [a, b]: [&[f32]; 2],
    offset: f32,
    [diagonal, above, left]: [&[f32]; 3],
    now: &mut [f32],
    steps: &mut [u8],
) {
    let n = steps.len();
    let (a, b, now) = (&a[..n], &b[..n], &mut now[..n]);
    let (diagonal, above, left) = (&diagonal[..n], &above[..n], &left[..n]);
    for k in 0..n {
        let apart = least((a[k] - b[k] - offset).abs(), CAP);
        let one_voiced = if (a[k] > 0.0) == (b[k] > 0.0) { 0.0 } else { VOICING };
        let local = if (a[k] > 0.0) & (b[k] > 0.0) { apart } else { one_voiced };
        let aside = least(above[k], left[k]) + OFF_DIAGONAL;
        let beside = if above[k] <= left[k] { REFERENCE_REPEATS } else { PERFORMANCE_REPEATS };
        steps[k] = if diagonal[k] <= aside { DIAGONAL } else { beside };
        now[k] = local + least(diagonal[k], aside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The whole table in plain loops, with infinity outside the band.
    fn plain(a: &[f32], b: &[f32], offset: f32, half_width: usize) -> (f32, Vec<[usize; 2]>) {
        let mut table = vec![vec![f32::INFINITY; b.len() + 1]; a.len() + 1];
        table[0][0] = 0.0;
        for i in 1..=a.len() {
            for j in 1..=b.len() {
                let local = match (a[i - 1] > 0.0, b[j - 1] > 0.0) {
                    (true, true) => (a[i - 1] - b[j - 1] - offset).abs().min(3.0),
                    (false, false) => 0.0,
                    _ => 1.5,
                };
                let aside = table[i - 1][j].min(table[i][j - 1]) + 0.02;
                if band(i - 1, a.len(), b.len(), half_width).contains(&(j - 1)) {
                    table[i][j] = local + table[i - 1][j - 1].min(aside);
                }
            }
        }
        let (mut i, mut j) = (a.len(), b.len());
        let mut path = vec![[i - 1, j - 1]];
        while (i, j) != (1, 1) {
            let [diagonal, above, left] = [table[i - 1][j - 1], table[i - 1][j], table[i][j - 1]];
            (i, j) = match diagonal <= above.min(left) + 0.02 {
                true => (i - 1, j - 1),
                false if above <= left => (i - 1, j),
                false => (i, j - 1),
            };
            path.push([i - 1, j - 1]);
        }
        path.reverse();
        (table[a.len()][b.len()], path)
    }

    /// Pitches of few values too, so that costs tie.
    fn blocks() -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec(prop_oneof![Just(0.0_f32), Just(52.0), Just(52.02), 50.0_f32..60.0], 1..40)
    }

    proptest! {
        #[test]
        fn both_orders_give_the_bits_of_plain_loops(
            a in blocks(),
            b in blocks(),
            half_width in 0_usize..50,
            offset in -3.0_f32..3.0,
        ) {
            let (cost, path) = path(&a, &b, offset, half_width);
            let (expected, plain_path) = plain(&a, &b, offset, half_width);
            prop_assert_eq!(cost.to_bits(), expected.to_bits());
            prop_assert_eq!(&path, &plain_path);
            let offsets = std::array::from_fn(|i| offset + i as f32);
            for (cost, offset) in costs(&a, &b, &offsets, half_width).into_iter().zip(offsets) {
                prop_assert_eq!(cost.to_bits(), plain(&a, &b, offset, half_width).0.to_bits());
            }
            prop_assert!(cost >= plain(&a, &b, offset, 99).0);
            prop_assert_eq!(path[0], [0, 0]);
            for step in path.windows(2) {
                let advance = [step[1][0] - step[0][0], step[1][1] - step[0][1]];
                prop_assert!([[1, 1], [0, 1], [1, 0]].contains(&advance));
            }
            for &[i, j] in &path {
                prop_assert!(band(i, a.len(), b.len(), half_width).contains(&j));
            }
        }
    }
}
