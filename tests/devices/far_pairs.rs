//! Indices beyond 2^32 in the kernels over pairs of rows, which take as many elements as there is memory; `far.rs` says how.
//!
//! A block that owns rows at the far end of one set walks over all of the other. So either set is the large one in turn, and the
//! other has few rows. Where what is walked over is the large one, a block takes minutes here: top-k's `b`, the other rows of a
//! cosine or a Euclidean gradient, and of the loss. There the place of a row is taken by the function that takes it for the
//! block's own rows (`stage`, `Rows::row`, `stage_across`), or for `dy` (`stage_along`); what is left is `normalise`, for the
//! other rows of a cosine's gradient. Rows of 45 million columns, or as many best of a row, which alone let places within a tile
//! pass 2^32, take as long. `contrastive_all` owns and walks over the same rows; all but the number of a block is
//! `contrastive_cross`. A slice of the loss is only cut where both sets have 25,000 rows of 128 columns at most (`ENOUGH`), so
//! parts of the gradient have 2^25 elements at most.

use crate::far::{Far, near, number, run};
use etude::device::cuda::CudaOnCpu;
use etude::kernel::{Elem, Kernel, Params};
use etude::kernels::contrastive::{self, ContrastiveParams, Metric};
use etude::kernels::similarity::{self, Similarity, SimilarityParams, TopKParams};
use etude::kernels::similarity_hvp::{self, SimilarityHvpParams};
use std::ops::Range;

const BEYOND: u64 = 1 << 32;
const KINDS: [Similarity; 4] =
    [Similarity::Dot, Similarity::Cosine, Similarity::SquaredEuclidean, Similarity::Euclidean];

/// What rows are like.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Like {
    /// Numbers in [-1, 1].
    Plain,
    /// Each row of one matrix is near every third of the other.
    Near,
    /// Of the far side, whose squares are beyond what f32 holds well: those are summed again, of the rows as they are.
    Tiny,
}
use Like::{Near, Plain, Tiny};

impl Like {
    /// What the rows of a side are like, if it is the one that is looked at.
    fn of(self, far: bool) -> Self {
        if self == Tiny && !far { Plain } else { self }
    }

    /// By what gradients are multiplied, so that all are of the order of 1.
    fn size(self) -> f64 {
        if self == Tiny { 2f64.powi(-66) } else { 1.0 }
    }
}

/// Rows `[rows, d]`, of which those that were filled hold numbers.
struct Matrix {
    of: u64,
    d: u64,
    like: Like,
    far: Far,
}

impl Matrix {
    fn new(device: &CudaOnCpu, (of, like): (u64, Like), elem: Elem, [rows, d]: [u64; 2]) -> Self {
        Self { of, d, like, far: Far::new(device, elem, (rows * d) as usize) }
    }

    fn fill(&self, rows: impl IntoIterator<Item = u64>) {
        for i in rows {
            self.fill_part(i, 0..self.d);
        }
    }

    /// Elements of a row.
    fn fill_part(&self, i: u64, columns: Range<u64>) {
        let at = i * self.d + columns.start;
        self.far.put(at as usize, columns.map(|k| self.at(i, k)));
    }

    fn at(&self, i: u64, k: u64) -> f32 {
        match self.like {
            Plain => number(self.of, i, k),
            Tiny => number(self.of, i, k) * self.like.size() as f32,
            Near => number(0, i % 3, k) + if (self.of, k) == (1, 0) { 2f32.powi(-6) } else { 0.0 },
        }
    }

    fn part(&self, i: u64, columns: Range<u64>) -> Vec<f64> {
        columns.map(|k| self.at(i, k).into()).collect()
    }

    fn row(&self, i: u64) -> Vec<f64> {
        self.part(i, 0..self.d)
    }
}

/// The similarity of two rows.
fn of_rows(kind: Similarity, a: &[f64], b: &[f64]) -> f64 {
    let sum = |f: fn(f64, f64) -> f64| a.iter().zip(b).map(|(x, y)| f(*x, *y)).sum::<f64>();
    match kind {
        Similarity::Dot => sum(|x, y| x * y),
        Similarity::Cosine => sum(|x, y| x * y) / (sum(|x, _| x * x) * sum(|_, y| y * y)).sqrt(),
        Similarity::SquaredEuclidean => sum(|x, y| (x - y).powi(2)),
        Similarity::Euclidean => sum(|x, y| (x - y).powi(2)).sqrt(),
    }
}

/// Pieces of `own` rows of `rows`: that which has the 2^32nd of the elements of rows of `width`, and the last.
fn pieces(rows: u64, width: u64, own: u64) -> [u64; 2] {
    assert!(rows * width > BEYOND);
    [BEYOND / width / own, (rows - 1) / own]
}

/// The rows of a piece.
fn of_piece(piece: u64, rows: u64, own: u64) -> Range<u64> {
    piece * own..rows.min((piece + 1) * own)
}

const FWD: [(Elem, &Kernel); 3] =
    [(Elem::Real, &similarity::FWD), (Elem::F16, &similarity::FWD_F16), (Elem::Bf16, &similarity::FWD_BF16)];

/// Tiles of the matrix of `n` and `m` rows of `d`, at these rows and columns.
fn matrix(
    (elem, kernel): (Elem, &'static Kernel),
    kind: Similarity,
    like: Like,
    [n, m, d]: [u64; 3],
    tiles: &[[u64; 2]],
) {
    const SQUARE: u64 = 128;
    let device = CudaOnCpu::with_seed(0).unwrap();
    let (a, b) = (
        Matrix::new(&device, (1, like.of(n > m)), elem, [n, d]),
        Matrix::new(&device, (2, like.of(m > n)), elem, [m, d]),
    );
    let y = Far::new(&device, Elem::Real, (n * m) as usize);
    for [i, j] in tiles {
        a.fill(of_piece(*i, n, SQUARE));
        b.fill(of_piece(*j, m, SQUARE));
    }
    let params = Params::new(&SimilarityParams { n: n as u32, m: m as u32, d: d as u32, kind: kind as u32 });
    let blocks: Vec<u64> = tiles.iter().map(|[i, j]| i * m.div_ceil(SQUARE) + j).collect();
    run(&device, kernel, &[&a.far, &b.far, &y], params, &blocks);
    for [i, j] in tiles {
        let others: Vec<Vec<f64>> = of_piece(*j, m, SQUARE).map(|j| b.row(j)).collect();
        for i in of_piece(*i, n, SQUARE) {
            let row = a.row(i);
            for (j, other) in (j * SQUARE..).zip(&others) {
                let what = || format!("{} {kind:?} {like:?} [{n}, {m}, {d}]: entry {i}, {j}", kernel.name);
                near(y.get((i * m + j) as usize), of_rows(kind, &row, other), what);
            }
        }
    }
}

#[test]
fn similarities_at_the_end_of_a_large_matrix() {
    for row in FWD {
        for kind in KINDS {
            // Rows on 16 bytes and rows that are not; distances by differences, and by products.
            for [m, d] in [[65_600, 8], [65_603, 40]] {
                let n = 65_541;
                let crossing = [BEYOND / m / 128, BEYOND % m / 128];
                matrix(row, kind, Plain, [n, m, d], &[crossing, [(n - 1) / 128, (m - 1) / 128]]);
            }
        }
    }
}

/// Which kinds look at rows again that are so, and whether numbers of that type can be.
fn looks_again(elem: Elem, kind: Similarity, like: Like) -> bool {
    match like {
        Plain => true,
        Near => matches!(kind, Similarity::SquaredEuclidean | Similarity::Euclidean),
        Tiny => kind == Similarity::Cosine && elem != Elem::F16,
    }
}

#[test]
fn similarities_of_the_last_of_many_rows() {
    for row in FWD {
        for (kind, like) in KINDS.into_iter().flat_map(|kind| [Plain, Near, Tiny].map(|like| (kind, like))) {
            for d in [24, 21] {
                if looks_again(row.0, kind, like) {
                    let many = BEYOND / d + 200;
                    let far = pieces(many, d, 128);
                    matrix(row, kind, like, [many, 5, d], &far.map(|i| [i, 0]));
                    matrix(row, kind, like, [5, many, d], &far.map(|j| [0, j]));
                }
            }
        }
    }
}

#[test]
fn the_best_of_the_last_of_many_rows() {
    const TOP_ROWS: u64 = 64;
    let device = CudaOnCpu::with_seed(0).unwrap();
    let m = 40;
    // Far rows of `a`, on 16 bytes and not; far values and indices.
    for [d, k, n] in [[24, 3, BEYOND / 24 + 70], [21, 3, BEYOND / 21 + 70], [4, 16, BEYOND / 16 + 70]] {
        // Without rounding, so that of equal ones the lower index is first.
        for kind in [Similarity::Dot, Similarity::SquaredEuclidean] {
            let (a, b) = ([n, d], [m, d]);
            let a = Matrix::new(&device, (1, Plain), Elem::Real, a);
            let b = Matrix::new(&device, (2, Plain), Elem::Real, b);
            let values = Far::new(&device, Elem::Real, (n * k) as usize);
            let indices = Far::new(&device, Elem::Index, (n * k) as usize);
            let blocks = pieces(n, d.max(k), TOP_ROWS);
            b.fill(0..m);
            for block in blocks {
                a.fill(of_piece(block, n, TOP_ROWS));
            }
            let p = TopKParams { n: n as u32, m: m as u32, d: d as u32, kind: kind as u32, k: k as u32 };
            let bufs = [&a.far, &b.far, &values, &indices];
            run(&device, &similarity::TOPK, &bufs, Params::new(&p), &blocks);
            let others: Vec<Vec<f64>> = (0..m).map(|j| b.row(j)).collect();
            for i in blocks.into_iter().flat_map(|block| of_piece(block, n, TOP_ROWS)) {
                let row = a.row(i);
                let mut best: Vec<(usize, f64)> =
                    others.iter().map(|other| of_rows(kind, &row, other)).enumerate().collect();
                best.sort_by(
                    |(_, x), (_, y)| if kind == Similarity::Dot { y.total_cmp(x) } else { x.total_cmp(y) },
                );
                for (e, (j, value)) in (0..k).zip(best) {
                    let at = (i * k + e) as usize;
                    near(values.get(at), value, || format!("{kind:?} [{n}, {m}, {d}]: {e} of row {i}"));
                    assert_eq!(indices.get_index(at) as usize, j, "{kind:?} [{n}, {m}, {d}]: {e} of row {i}");
                }
            }
        }
    }
}

const BWD: [(Elem, &Kernel); 3] =
    [(Elem::Real, &similarity::BWD), (Elem::F16, &similarity::BWD_F16), (Elem::Bf16, &similarity::BWD_BF16)];

/// The gradient by `own` of the sum of `dy` times the similarities with `others`.
fn gradient_by(kind: Similarity, own: &[f64], others: &[Vec<f64>], dy: impl Fn(u64) -> f64) -> Vec<f64> {
    let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
    let mut sum = vec![0.0; own.len()];
    for (j, other) in (0..).zip(others) {
        let by = match kind {
            Similarity::Dot => dy(j),
            Similarity::Cosine => dy(j) / norm(other),
            Similarity::SquaredEuclidean => 2.0 * dy(j),
            Similarity::Euclidean => dy(j) / of_rows(kind, own, other).max(1e-300),
        };
        let differs = matches!(kind, Similarity::SquaredEuclidean | Similarity::Euclidean);
        for ((to, x), y) in sum.iter_mut().zip(own).zip(other) {
            *to += by * if differs { x - y } else { *y };
        }
    }
    if kind == Similarity::Cosine {
        let length = norm(own);
        let along = sum.iter().zip(own).map(|(v, x)| v * x).sum::<f64>() / length;
        for (to, x) in sum.iter_mut().zip(own) {
            *to = (*to - along * x / length) / length;
        }
    }
    sum
}

/// Gradients of pieces of one side, `second` that of `b`, in the `column`-th piece of their columns.
fn gradient(
    (elem, kernel): (Elem, &'static Kernel),
    (kind, like): (Similarity, Like),
    [n, m, d]: [u64; 3],
    second: bool,
    of: impl Fn(u64) -> [u64; 2],
    column: u64,
) {
    let device = CudaOnCpu::with_seed(0).unwrap();
    let (rows, width) = if n + m < 16_384 { (32, 64) } else { (128, 128) };
    let [of_a, of_b] = [n, m].map(|count| count.div_ceil(rows));
    let columns = column * width..d.min((column + 1) * width);
    let new = |of, elem, shape| Matrix::new(&device, of, elem, shape);
    let (a, b) = (new((1, like.of(!second)), elem, [n, d]), new((2, like.of(second)), elem, [m, d]));
    let dy = new((3, Plain), Elem::Real, [n, m]);
    let out = [n, m].map(|count| new((0, Plain), Elem::Real, [count, d]));
    let (own, count, other, others) = if second { (&b, m, &a, n) } else { (&a, n, &b, m) };
    let at = |i: u64, j: u64| if second { [j, i] } else { [i, j] };
    let pieces = of(rows);
    for j in 0..others {
        other.fill_part(j, columns.clone());
    }
    for i in pieces.into_iter().flat_map(|piece| of_piece(piece, count, rows)) {
        own.fill_part(i, columns.clone());
        for [i, j] in (0..others).map(|j| at(i, j)) {
            dy.fill_part(i, j..j + 1);
        }
    }
    let params = Params::new(&SimilarityParams { n: n as u32, m: m as u32, d: d as u32, kind: kind as u32 });
    let first = column * (of_a + of_b) + if second { of_a } else { 0 };
    let bufs = [&a.far, &b.far, &dy.far, &out[0].far, &out[1].far];
    run(&device, kernel, &bufs, params, &pieces.map(|piece| first + piece));
    let all: Vec<_> = (0..others).map(|j| other.part(j, columns.clone())).collect();
    for i in pieces.into_iter().flat_map(|piece| of_piece(piece, count, rows)) {
        let dy = |j| {
            let [i, j] = at(i, j);
            number(3, i, j).into()
        };
        for (k, want) in columns.clone().zip(gradient_by(kind, &own.part(i, columns.clone()), &all, dy)) {
            let what =
                || format!("{} {kind:?} {like:?} [{n}, {m}, {d}], second {second}: {i}, {k}", kernel.name);
            near(
                like.size() * out[usize::from(second)].far.get((i * d + k) as usize),
                like.size() * want,
                what,
            );
        }
    }
}

#[test]
fn gradients_of_the_last_of_many_rows() {
    for row in BWD {
        for (kind, like) in KINDS.into_iter().flat_map(|kind| [Plain, Near, Tiny].map(|like| (kind, like))) {
            // Far rows on 16 bytes, and not; a far `dy`.
            for [d, few] in [[24, 5], [21, 5], [3, 20]] {
                if looks_again(row.0, kind, like) {
                    let many = BEYOND / d.max(few - 1) + 200;
                    let far = |own| pieces(many, d.max(few), own);
                    gradient(row, (kind, like), [many, few, d], false, far, 0);
                    gradient(row, (kind, like), [few, many, d], true, far, 0);
                }
            }
        }
    }
}

/// Rows of both sides together are 2^32 and more: how a launch is cut goes by their sum.
#[test]
fn gradients_of_more_rows_than_32_bits_count() {
    let (many, few) = (BEYOND - 10, 20);
    gradient(BWD[0], (Similarity::Dot, Plain), [many, few, 1], false, |own| pieces(many, few, own), 0);
}

#[test]
fn gradients_from_the_last_of_rows_of_many_columns() {
    // Only these kinds look at no other columns than the block's own.
    for kind in [Similarity::Dot, Similarity::SquaredEuclidean] {
        for row in BWD {
            for d in [4_190_004, 4_190_003] {
                let (few, many) = (33, 1100);
                let first = |_| [0, 1];
                let last = |own| [0, (many - 1) / own];
                let column = (d - 1) / 64;
                gradient(row, (kind, Plain), [few, many, d], false, first, column);
                gradient(row, (kind, Plain), [few, many, d], true, last, column);
            }
        }
    }
}

/// Labels of rows.
fn label(of: u64, i: u64) -> f32 {
    0.25 * (number(of + 8, i, 0) + 1.0)
}

const OPTIONS: ContrastiveParams = ContrastiveParams {
    n: 0,
    m: 0,
    d: 0,
    metric: 0,
    margin: 6.0,
    tau: 1e-6,
    weight: 1.0,
    weighted: 0,
    grad_scale: 1.0,
};

/// The loss of a pair with this label distance, and the coefficient that the distance's gradient has in its.
fn contrast(p: &ContrastiveParams, distance: f64, w: f64) -> [f64; 2] {
    if w <= p.tau.into() {
        return [0.5 * distance * distance, distance];
    }
    let over = (f64::from(p.margin) * w - distance).max(0.0);
    [0.5 * over * over, -over]
}

/// The losses of a row's pairs, and their gradient by the row.
fn losses(p: &ContrastiveParams, own: (&[f64], f32), others: &[(Vec<f64>, f32)]) -> (f64, Vec<f64>) {
    let cosine = p.metric == Metric::Cosine as u32;
    let kind = if cosine { Similarity::Cosine } else { Similarity::Euclidean };
    let rows: Vec<Vec<f64>> = others.iter().map(|other| other.0.clone()).collect();
    let of: Vec<[f64; 2]> = others
        .iter()
        .map(|(row, label)| {
            let like = of_rows(kind, own.0, row);
            contrast(p, if cosine { 1.0 - like } else { like }, (own.1 - label).abs().into())
        })
        .collect();
    let sign = if cosine { -1.0 } else { 1.0 };
    let gradient = gradient_by(kind, own.0, &rows, |j| sign * of[j as usize][1]);
    (of.iter().map(|of| of[0]).sum(), gradient)
}

#[test]
fn losses_of_the_last_of_many_rows() {
    const OWN: u64 = 64;
    let kernels = [
        (Elem::Real, &contrastive::CROSS),
        (Elem::F16, &contrastive::CROSS_F16),
        (Elem::Bf16, &contrastive::CROSS_BF16),
    ];
    let device = CudaOnCpu::with_seed(0).unwrap();
    for (elem, kernel) in kernels {
        for metric in [Metric::Euclidean, Metric::Cosine] {
            for (d, second) in [(24, false), (24, true), (21, false), (21, true)] {
                let (many, few) = (BEYOND / d + 200, 37);
                let [n, m] = if second { [few, many] } else { [many, few] };
                let weight = (n * m) as f32;
                let p = ContrastiveParams {
                    n: n as u32,
                    m: m as u32,
                    d: d as u32,
                    metric: metric as u32,
                    weight,
                    ..OPTIONS
                };
                let sides =
                    [(1, n), (2, m)].map(|(of, rows)| Matrix::new(&device, (of, Plain), elem, [rows, d]));
                let labels = [n, m].map(|rows| Far::new(&device, Elem::Real, rows as usize));
                let out = [n, m].map(|rows| Far::new(&device, Elem::Real, (rows * d) as usize));
                let [loss, part] = [1, p.parts().cuda].map(|len| Far::new(&device, Elem::Real, len));
                let (own, other) = (usize::from(second), usize::from(!second));
                let pieces = pieces(many, d, OWN);
                let far: Vec<u64> = pieces.into_iter().flat_map(|piece| of_piece(piece, many, OWN)).collect();
                for (side, rows) in [(own, far.clone()), (other, (0..few).collect())] {
                    for i in rows {
                        sides[side].fill([i]);
                        labels[side].put(i as usize, [label(side as u64, i)]);
                    }
                }
                let blocks = pieces.map(|piece| piece + if second { n.div_ceil(OWN) } else { 0 });
                let [z, others] = [0, 1].map(|side| &sides[side].far);
                let bufs = [
                    z, &labels[0], &labels[0], others, &labels[1], &labels[1], &loss, &out[0], &out[1], &part,
                ];
                run(&device, kernel, &bufs, Params::new(&p), &blocks);
                let all: Vec<_> = (0..few).map(|j| (sides[other].row(j), label(other as u64, j))).collect();
                for i in far {
                    let row = sides[own].row(i);
                    let (_, gradient) = losses(&p, (&row, label(own as u64, i)), &all);
                    for (k, want) in (0..d).zip(gradient) {
                        let what = || format!("{} {metric:?} [{n}, {m}, {d}]: {i}, {k}", kernel.name);
                        near(out[own].get((i * d + k) as usize), want, what);
                    }
                }
            }
        }
    }
}

#[test]
fn losses_of_pairs_of_the_last_of_many_rows() {
    const ROWS: u64 = 32;
    let device = CudaOnCpu::with_seed(0).unwrap();
    for (metric, d) in [(Metric::Euclidean, 24), (Metric::Cosine, 21)] {
        let n = BEYOND / d + 70;
        let pairs = [[n - 1, BEYOND / d], [3, n - 4], [n - 6, n - 7]];
        let p = ContrastiveParams {
            n: n as u32,
            m: 3,
            d: d as u32,
            metric: metric as u32,
            weight: 3.0,
            ..OPTIONS
        };
        let z = Matrix::new(&device, (1, Plain), Elem::Real, [n, d]);
        let labels = Far::new(&device, Elem::Real, n as usize);
        let pairing = Far::new(&device, Elem::Index, 6);
        let dz = Far::new(&device, Elem::Real, (n * d) as usize);
        let [loss, part] = [1, p.halves_parts()].map(|len| Far::new(&device, Elem::Real, len));
        pairing.put_index(0, &pairs.concat().iter().map(|i| *i as u32).collect::<Vec<_>>());
        for i in pairs.concat() {
            z.fill([i]);
            labels.put(i as usize, [label(0, i)]);
        }
        let bufs = [&z.far, &labels, &labels, &pairing, &loss, &dz, &part];
        let blocks = [0, (n - 1) / ROWS, BEYOND / d / ROWS];
        run(&device, &contrastive::HALVES, &bufs, Params::new(&p), &blocks);
        for [i, j] in pairs.into_iter().flat_map(|[i, j]| [[i, j], [j, i]]) {
            let (own, other) = (z.row(i), z.row(j));
            let (_, gradient) = losses(&p, (&own, label(0, i)), &[(other, label(0, j))]);
            for (k, want) in (0..d).zip(gradient) {
                near(dz.get((i * d + k) as usize), want, || format!("{metric:?} [{n}, {d}]: {i}, {k}"));
            }
        }
    }
}

/// Rows, and how they move.
fn moving(device: &CudaOnCpu, of: u64, shape: [u64; 2]) -> [Matrix; 2] {
    [of, of + 2].map(|of| Matrix::new(device, (of, Plain), Elem::Real, shape))
}

fn hvp_params([n, m, d]: [u64; 3], side: u32) -> Params {
    Params::new(&SimilarityHvpParams { n: n as u32, m: m as u32, d: d as u32, side })
}

/// `2·(a − b)·(da − db)`.
fn moves_of([a, da]: [&[f64]; 2], [b, db]: [&[f64]; 2]) -> f64 {
    (0..a.len()).map(|k| 2.0 * (a[k] - b[k]) * (da[k] - db[k])).sum()
}

#[test]
fn moves_at_the_end_of_a_large_matrix_and_of_many_rows() {
    const SQUARE: u64 = 16;
    let many = BEYOND / 24 + 200;
    for [n, m, d] in [[65_541, 65_603, 5], [many, 5, 24], [5, many, 24]] {
        let device = CudaOnCpu::with_seed(0).unwrap();
        let (a, b) = (moving(&device, 1, [n, d]), moving(&device, 2, [m, d]));
        let moves = Far::new(&device, Elem::Real, (n * m) as usize);
        let (i, j) = ((n - 1) / SQUARE, (m - 1) / SQUARE);
        for (rows, piece, count) in [(&a, i, n), (&b, j, m)] {
            rows.iter().for_each(|of| of.fill(of_piece(piece, count, SQUARE)));
        }
        let bufs = [&a[0].far, &b[0].far, &a[1].far, &b[1].far, &moves];
        let block = i * m.div_ceil(SQUARE) + j;
        run(&device, &similarity_hvp::MOVES, &bufs, hvp_params([n, m, d], 0), &[block]);
        for i in of_piece(i, n, SQUARE) {
            for j in of_piece(j, m, SQUARE) {
                let ([x, dx], [y, dy]) =
                    ([&a[0], &a[1]].map(|of| of.row(i)), [&b[0], &b[1]].map(|of| of.row(j)));
                let want = moves_of([&x, &dx], [&y, &dy]);
                near(moves.get((i * m + j) as usize), want, || format!("[{n}, {m}, {d}]: moves {i}, {j}"));
            }
        }
    }
}

#[test]
fn slopes_at_the_end_of_a_large_matrix() {
    let [n, m] = [65_541, 65_603];
    let device = CudaOnCpu::with_seed(0).unwrap();
    let [y, moves, dy] = [1, 2, 3].map(|of| Matrix::new(&device, (of, Plain), Elem::Real, [n, m]));
    let [of_y, p, q] = [(); 3].map(|()| Far::new(&device, Elem::Real, (n * m) as usize));
    let i = n - 1;
    for of in [&y, &moves, &dy] {
        of.fill([i]);
    }
    let bufs = [&y.far, &moves.far, &dy.far, &of_y, &p, &q];
    run(&device, &similarity_hvp::SLOPES, &bufs, hvp_params([n, m, 1], 0), &[i]);
    for j in (0..m).step_by(97).chain([m - 1]) {
        let [y, moves, dy] = [&y, &moves, &dy].map(|of| f64::from(of.at(i, j)));
        let moved = moves / (2.0 * y);
        let want = if y < 1.2e-38 { [0.0; 3] } else { [moved, dy / y, -dy * moved / (y * y)] };
        for (of, want) in [&of_y, &p, &q].into_iter().zip(want) {
            near(of.get((i * m + j) as usize), want, || format!("slopes of {i}, {j}"));
        }
    }
}

#[test]
fn moves_of_the_gradients_of_the_last_of_many_rows() {
    const OWN: u64 = 16;
    let many = BEYOND / 24 + 200;
    // Where the rows are many, and where the matrix is large.
    for ([n, m, d], side) in
        [([many, 5, 24], 0), ([5, many, 24], 1), ([65_541, 65_603, 2], 0), ([65_541, 65_603, 2], 1)]
    {
        let device = CudaOnCpu::with_seed(0).unwrap();
        let (a, b) = (moving(&device, 1, [n, d]), moving(&device, 2, [m, d]));
        let [p, q] = [5, 6].map(|of| Matrix::new(&device, (of, Plain), Elem::Real, [n, m]));
        let (own, others, [rows, count]) = if side == 0 { (&a, &b, [n, m]) } else { (&b, &a, [m, n]) };
        let bent = Far::new(&device, Elem::Real, (rows * d) as usize);
        let piece = (rows - 1) / OWN;
        // All but the last of the others are zeros, and so are the factors of their pairs.
        let last = count.saturating_sub(3)..count;
        own.iter().for_each(|of| of.fill(of_piece(piece, rows, OWN)));
        others.iter().for_each(|of| of.fill(last.clone()));
        for i in of_piece(piece, rows, OWN) {
            for j in last.clone() {
                let [row, column] = if side == 0 { [i, j] } else { [j, i] };
                for of in [&p, &q] {
                    of.fill_part(row, column..column + 1);
                }
            }
        }
        let bufs = [&a[0].far, &b[0].far, &a[1].far, &b[1].far, &p.far, &q.far, &bent];
        run(&device, &similarity_hvp::ROWS, &bufs, hvp_params([n, m, d], side), &[piece]);
        for i in of_piece(piece, rows, OWN) {
            for k in 0..d {
                let of = |side: &[Matrix; 2], i| [&side[0], &side[1]].map(|of| f64::from(of.at(i, k)));
                let [x, dx] = of(own, i);
                let want = last.clone().map(|j| {
                    let ([y, dy], [row, column]) = (of(others, j), if side == 0 { [i, j] } else { [j, i] });
                    f64::from(p.at(row, column)) * (dx - dy) + f64::from(q.at(row, column)) * (x - y)
                });
                near(bent.get((i * d + k) as usize), want.sum(), || {
                    format!("[{n}, {m}, {d}] {side}: {i}, {k}")
                });
            }
        }
    }
}

#[test]
fn units_of_the_last_of_many_rows() {
    let d = 24;
    let n = BEYOND / d + 200;
    let device = CudaOnCpu::with_seed(0).unwrap();
    let [a, da] = moving(&device, 1, [n, d]);
    let i = n - 1;
    for of in [&a, &da] {
        of.fill([i]);
    }
    let units = Far::new(&device, Elem::Real, (2 * n * d) as usize);
    run(&device, &similarity_hvp::UNIT, &[&a.far, &da.far, &units], hvp_params([n, 1, d], 0), &[i]);
    let (row, moves) = (a.row(i), da.row(i));
    let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
    let along = row.iter().zip(&moves).map(|(a, b)| a * b).sum::<f64>() / norm;
    for k in 0..d as usize {
        let u = row[k] / norm;
        near(units.get((i * d) as usize + k), u, || format!("unit {k}"));
        let want = (moves[k] - u * along) / norm;
        near(units.get(((n + i) * d) as usize + k), want, || format!("how unit {k} moves"));
    }
    let of_units = Matrix::new(&device, (7, Plain), Elem::Real, [2 * n, d]);
    let bent = Far::new(&device, Elem::Real, (n * d) as usize);
    of_units.fill([i, n + i]);
    let bufs = [&a.far, &da.far, &of_units.far, &bent];
    run(&device, &similarity_hvp::BENT, &bufs, hvp_params([n, 1, d], 0), &[i]);
    let (g, dg) = (of_units.row(i), of_units.row(n + i));
    let u: Vec<f64> = row.iter().map(|v| v / norm).collect();
    let onto = |x: &[f64]| x.iter().zip(&u).map(|(a, b)| a * b).sum::<f64>();
    let across = |x: &[f64]| {
        let along = onto(x);
        x.iter().zip(&u).map(|(x, u)| x - u * along).collect::<Vec<_>>()
    };
    let du: Vec<f64> = across(&moves).iter().map(|v| v / norm).collect();
    let turn = g.iter().zip(&du).map(|(a, b)| a * b).sum::<f64>();
    let (of_g, of_dg, of_moves) = (across(&g), across(&dg), across(&moves));
    for k in 0..d as usize {
        let turned = (onto(&moves) * of_g[k] + onto(&g) * of_moves[k]) / norm;
        near(bent.get((i * d) as usize + k), (of_dg[k] - turned - turn * u[k]) / norm, || {
            format!("bent {k}")
        });
    }
}
