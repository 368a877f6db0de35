//! Similarity matrices: every row of `a` against every row of `b`.
//!
//! ```text
//! dot                y_ij = a_i·b_j
//! cosine             y_ij = a_i·b_j / (‖a_i‖‖b_j‖); 0, with gradient 0, when a row is zero
//! squared Euclidean  y_ij = ‖a_i − b_j‖²
//! Euclidean          y_ij = ‖a_i − b_j‖; gradient 0 where that is 0
//! ```
//!
//! Shapes: `a` `[n, d]`, `b` `[m, d]`, `y` and `dy` `[n, m]`, `da` `[n, d]`, `db` `[m, d]`.
//!
//! The f32 instance cuts `y` into strips of `TILE` rows, one task each, and walks a strip tile by tile
//! (`src/kernels/pairwise.rs` has the steps): `2·d` flops a pair forward (`3·d` for distances, by differences, which
//! do not cancel), one write per entry. Backward, a task owns a strip of rows of `da` or of `db` and reads
//! `dy` once for each: `2·d` flops a pair and side, and another `3·d` for Euclidean, whose distances
//! are computed again rather than kept. Sums are taken tile after tile, whatever the threads.
//!
//! Top-k walks the strips in the same way and keeps each row's best in order: the matrix is never in memory. A vector
//! of similarities is compared with the row's least at once, and about `k·ln(m/k)` of `m` are inserted.
//!
//! A gradient is two sums whose difference counts, `(Σ_j g_ij)·a_i − Σ_j g_ij·b_j`, rounded by 6e-8 of their size
//! about the rows' mean. Euclidean pairs nearer than about 3e-3 of their norms, where the gradient does not shrink with the
//! distance, are computed each on its own in f64.

use super::pairwise::{
    Aligned, Lanes, Layout, TILE, centre, combine, lay_out, padded, products, row_len, side_len,
};
use crate::dispatch;
use crate::kernel::{Args, Binding, Cost, Cuda, Elem, Kernel, Real, Twin, Work, params, with_scratch};
use crate::simd::LANES;

/// What is computed of two rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Similarity {
    /// `a·b`.
    Dot = 0,
    /// `a·b / (‖a‖‖b‖)`.
    Cosine = 1,
    /// `‖a − b‖²`.
    SquaredEuclidean = 2,
    /// `‖a − b‖`.
    Euclidean = 3,
}

params! {
    /// Params of both kernels.
    pub struct SimilarityParams {
        /// Rows of `a`.
        pub n: u32,
        /// Rows of `b`.
        pub m: u32,
        /// Columns of both.
        pub d: u32,
        /// A [`Similarity`].
        pub kind: u32,
    }
}

/// Rows and columns of `y` that a block of the CUDA twin owns.
const SQUARE: u32 = 128;
/// Rows of `a` that a block of the CUDA twin of [`TOPK`] owns.
const TOP_ROWS: u32 = 64;

/// Columns that the CUDA twins of [`FWD`] and [`BWD`] stage at once.
const STEP: u32 = 16;
/// Rows of both sets below which a block of the CUDA twin of [`BWD`] owns few of them.
const FEW_ROWS: u64 = 16384;

/// Floats between two columns of so many staged rows.
const fn pitch(rows: u32) -> u32 {
    rows + 4
}

/// Floats of a stage of `k` columns of a tile of pairs: `wm` of eight warps over 32 rows each, the others over 64 columns each.
const fn pairs(wm: u32, k: u32) -> u32 {
    k * (pitch(32 * wm) + pitch(64 * (8 / wm)))
}

/// How the eight warps of a block of the CUDA twin of [`BWD`] share its work: over rows, columns, and rows of the other set.
struct Sweep {
    wm: u32,
    wn: u32,
    wk: u32,
}

impl Sweep {
    fn of(p: &SimilarityParams) -> Self {
        if u64::from(p.n) + u64::from(p.m) < FEW_ROWS {
            Self { wm: 1, wn: 1, wk: 8 }
        } else {
            Self { wm: 4, wn: 2, wk: 1 }
        }
    }

    fn rows(&self) -> u32 {
        32 * self.wm
    }

    fn columns(&self) -> u32 {
        64 * self.wn
    }

    fn blocks(&self, p: &SimilarityParams) -> u32 {
        p.n.div_ceil(self.rows()) + p.m.div_ceil(self.rows())
    }

    /// Floats of shared memory.
    fn floats(&self, kind: Similarity) -> u32 {
        let (rows, columns) = (self.rows(), self.columns());
        let k = if self.wk == 8 { 2 * STEP } else { STEP };
        let shares = if self.wk == 1 { 0 } else { self.wk / 2 * self.wm * self.wn * 2048 };
        if kind == Similarity::Euclidean {
            let (across, k_pairs) = (64 * (8 / self.wm), if self.wm == 1 { STEP / 2 } else { STEP });
            let stage = pairs(self.wm, k_pairs).max(k * pitch(columns)).max(shares.div_ceil(3));
            // Stages, half a tile's coefficients, norms, and sums.
            3 * stage + across / 2 * rows + rows + across + 256
        } else {
            3 * k * (pitch(rows) + pitch(columns)) + shares + 256
        }
    }
}

impl SimilarityParams {
    fn kind(&self) -> Similarity {
        use Similarity::{Cosine, Dot, Euclidean, SquaredEuclidean};
        match self.kind {
            0 => Dot,
            1 => Cosine,
            2 => SquaredEuclidean,
            _ => Euclidean,
        }
    }

    fn dims(&self) -> [usize; 3] {
        [self.n as usize, self.m as usize, self.d as usize]
    }
}

/// `y_ij` of every pair.
pub static FWD: Kernel = fwd("similarity_fwd", &fwd_bindings(Elem::Real));
/// [`FWD`] of rows stored as f16.
pub static FWD_F16: Kernel = fwd("similarity_fwd_f16", &fwd_bindings(Elem::F16));
/// [`FWD`] of rows stored as bf16.
pub static FWD_BF16: Kernel = fwd("similarity_fwd_bf16", &fwd_bindings(Elem::Bf16));

const fn fwd_bindings(stored: Elem) -> [Binding; 3] {
    [Binding::stored("a", stored), Binding::stored("b", stored), Binding::output("y")]
}

const fn fwd(name: &'static str, bindings: &'static [Binding]) -> Kernel {
    Kernel {
        name,
        bindings,
        params: SimilarityParams::LAYOUT,
        cpu: Twin { f32: fwd_tiled, f64: fwd_plain },
        workgroups: match bindings[0].elem {
            Elem::Bf16 => &[],
            _ => &[|p| {
                let p: SimilarityParams = p.get();
                [p.n.div_ceil(64) * p.m.div_ceil(64), 1, 1]
            }],
        },
        cuda: Cuda::new(256, |p| {
            let p: SimilarityParams = p.get();
            [p.n.div_ceil(SQUARE) * p.m.div_ceil(SQUARE), 1, 1]
        })
        .shared(match bindings[0].elem {
            // Three stages of both sides' columns, and norms.
            Elem::Real => |_| 4 * (3 * pairs(4, STEP) + 2 * SQUARE),
            // Both sides' panels of 8 chunks, twice, and norms.
            _ => |_| 4 * 8 * 16 * SQUARE + 8 * SQUARE,
        }),
        cost: |p| {
            let [n, m, d] = p.get::<SimilarityParams>().dims();
            Cost::new(2 * n * m * d, n * m + (n + m) * d)
        },
    }
}

/// `da_i = Σ_j dy_ij ∂y_ij/∂a_i` and `db_j = Σ_i dy_ij ∂y_ij/∂b_j`.
pub static BWD: Kernel = bwd("similarity_bwd", &bwd_bindings(Elem::Real));
/// [`BWD`] of rows stored as f16.
pub static BWD_F16: Kernel = bwd("similarity_bwd_f16", &bwd_bindings(Elem::F16));
/// [`BWD`] of rows stored as bf16.
pub static BWD_BF16: Kernel = bwd("similarity_bwd_bf16", &bwd_bindings(Elem::Bf16));

const fn bwd_bindings(stored: Elem) -> [Binding; 5] {
    [
        Binding::stored("a", stored),
        Binding::stored("b", stored),
        Binding::input("dy"),
        Binding::output("da"),
        Binding::output("db"),
    ]
}

const fn bwd(name: &'static str, bindings: &'static [Binding]) -> Kernel {
    Kernel {
        name,
        bindings,
        params: SimilarityParams::LAYOUT,
        cpu: Twin { f32: bwd_tiled, f64: bwd_plain },
        workgroups: match bindings[0].elem {
            Elem::Bf16 => &[],
            _ => &[|p| {
                let p: SimilarityParams = p.get();
                [p.n.div_ceil(32) + p.m.div_ceil(32), 1, 1]
            }],
        },
        cuda: Cuda::new(256, |p| {
            let p: SimilarityParams = p.get();
            [Sweep::of(&p).blocks(&p), p.d.div_ceil(Sweep::of(&p).columns()), 1]
        })
        .shared(|p| {
            let p: SimilarityParams = p.get();
            4 * Sweep::of(&p).floats(p.kind())
        })
        .tickets(|p| {
            let p: SimilarityParams = p.get();
            Sweep::of(&p).blocks(&p)
        }),
        cost: |p| {
            let [n, m, d] = p.get::<SimilarityParams>().dims();
            Cost::new(4 * n * m * d, n * m + 2 * (n + m) * d)
        },
    }
}

params! {
    /// Params of [`TOPK`].
    pub struct TopKParams {
        /// Rows of `a`.
        pub n: u32,
        /// Rows of `b`.
        pub m: u32,
        /// Columns of both.
        pub d: u32,
        /// A [`Similarity`].
        pub kind: u32,
        /// How many of each row's similarities are wanted; at most `m`.
        pub k: u32,
    }
}

impl TopKParams {
    fn pairs(&self) -> SimilarityParams {
        SimilarityParams { n: self.n, m: self.m, d: self.d, kind: self.kind }
    }
}

/// The `k` largest similarities, or least distances, of each row of `a` and which rows of `b` they are with.
///
/// `values` and `indices` are `[n, k]`, the best first; of equal ones the lower index is first. What is NaN or infinite in the wrong
/// direction is not among them: where fewer than `k` are left, the rest are NaN, with index `2^32 - 1`.
pub static TOPK: Kernel = Kernel {
    name: "similarity_topk",
    bindings: &[
        Binding::input("a"),
        Binding::input("b"),
        Binding::output("values"),
        Binding::index_output("indices"),
    ],
    params: TopKParams::LAYOUT,
    cpu: Twin { f32: topk_tiled, f64: topk_plain },
    workgroups: &[|p| [p.get::<TopKParams>().n.div_ceil(32), 1, 1]],
    cuda: Cuda::new(256, |p| [p.get::<TopKParams>().n.div_ceil(TOP_ROWS), 1, 1])
        // Both sides' panels of 8 quads, twice, a tile of keys, norms, and the least of each row.
        .shared(|_| 2 * 8 * 16 * (TOP_ROWS + SQUARE) + 4 * (TOP_ROWS * SQUARE + 2 * TOP_ROWS + SQUARE)),
    cost: |p| {
        let p: TopKParams = p.get();
        let [n, m, d] = p.pairs().dims();
        Cost::new(2 * n * m * d, 2 * n * p.k as usize + (n + m) * d)
    },
};

/// A row's best so far, as keys of which larger is better, in falling order.
struct Best<'a, F> {
    keys: &'a mut [F],
    indices: &'a mut [u32],
}

impl<F: Real> Best<'_, F> {
    fn start(&mut self) {
        self.keys.fill(F::neg_infinity());
        self.indices.fill(u32::MAX);
    }

    /// What a key must be beyond to be among them.
    fn least(&self) -> F {
        self.keys[self.keys.len() - 1]
    }

    /// Takes `key`, which is beyond the least, with an index greater than all before.
    fn insert(&mut self, key: F, index: u32) {
        let at = self.keys.partition_point(|&k| k >= key);
        let last = self.keys.len() - 1;
        self.keys.copy_within(at..last, at + 1);
        self.indices.copy_within(at..last, at + 1);
        (self.keys[at], self.indices[at]) = (key, index);
    }

    /// From keys back to similarities.
    fn finish(&mut self, nearest: bool) {
        for (key, &index) in self.keys.iter_mut().zip(&*self.indices) {
            if index == u32::MAX {
                *key = F::nan();
            } else if nearest {
                *key = F::zero() - *key;
            }
        }
    }
}

/// Whether less is better.
fn nearest(kind: Similarity) -> bool {
    matches!(kind, Similarity::SquaredEuclidean | Similarity::Euclidean)
}

fn similarity_of<F: Real>(kind: Similarity, a: &[F], b: &[F]) -> F {
    match kind {
        Similarity::Dot => dot(a, b),
        Similarity::Cosine => dot(a, b) * inverse_norm(a) * inverse_norm(b),
        Similarity::SquaredEuclidean => squared(a, b),
        Similarity::Euclidean => squared(a, b).sqrt(),
    }
}

fn topk_plain<F: Real>(args: Args<'_, F>) {
    let top: TopKParams = args.params();
    let (p, k) = (top.pairs(), top.k as usize);
    let d = p.d as usize;
    let [a, b, values, indices] = args.bufs();
    let (a, b) = (a.input(), b.input());
    let rows = values.output().chunks_exact_mut(k).zip(indices.index_output().chunks_exact_mut(k));
    for ((keys, indices), a) in rows.zip(a.chunks_exact(d)) {
        let mut best = Best { keys, indices };
        best.start();
        for (j, b) in (0..).zip(b.chunks_exact(d)) {
            let y = similarity_of(p.kind(), a, b);
            let key = if nearest(p.kind()) { F::zero() - y } else { y };
            if key > best.least() {
                best.insert(key, j);
            }
        }
        best.finish(nearest(p.kind()));
    }
}

fn topk_tiled(args: Args<'_, f32>) {
    let (top, work): (TopKParams, _) = (args.params(), args.work);
    let [a, b, values, indices] = args.bufs();
    topk_f32(work, &top, a.input(), b.input(), values.output(), indices.index_output());
}

/// The best `k` of each row of `a`.
pub(crate) fn topk_f32(
    work: Work,
    top: &TopKParams,
    a: &[f32],
    b: &[f32],
    values: &mut [f32],
    indices: &mut [u32],
) {
    let (p, k) = (top.pairs(), top.k as usize);
    let [n, m, d] = p.dims();
    let unit = p.kind() == Similarity::Cosine;
    with_scratch(side_len(n, d) + side_len(m, d), |mut scratch| {
        let a = lay_out(d, unit, a, &[], None, &mut scratch);
        let b = lay_out(d, unit, b, &[], None, &mut scratch);
        work.pieces2((values, TILE * k), (indices, TILE * k), |strip, values, indices| {
            topk_strip(work.simd, &p, &a.panels[strip * TILE * d..], b.panels, k, values, indices);
        });
    });
}

dispatch! {
    fn topk_strip(
        p: &SimilarityParams,
        a: &[f32],
        b: &[f32],
        k: usize,
        values: &mut [f32],
        indices: &mut [u32],
    ) = topk_strip_body
}

/// Up to `TILE` rows.
#[inline(always)]
unsafe fn topk_strip_body<V: Lanes>(
    p: &SimilarityParams,
    a: &[f32],
    b: &[f32],
    k: usize,
    values: &mut [f32],
    indices: &mut [u32],
) {
    let [_, m, d] = p.dims();
    let (rows, nearest) = (values.len() / k, nearest(p.kind()));
    for (keys, indices) in values.chunks_exact_mut(k).zip(indices.chunks_exact_mut(k)) {
        Best { keys, indices }.start();
    }
    let mut tile = Aligned([0.0; TILE * TILE]);
    let t = tile.0.as_mut_ptr();
    for j0 in (0..m).step_by(TILE) {
        let columns = TILE.min(m - j0);
        // SAFETY: `similarities` checks the panels; vectors inside the tile.
        unsafe {
            similarities::<V>(p, (a, rows), (&b[j0 * d..], columns), t);
            for r in 0..rows {
                let (keys, indices) = (&mut values[r * k..][..k], &mut indices[r * k..][..k]);
                let mut best = Best { keys, indices };
                for c in (0..padded(columns)).step_by(LANES) {
                    let at = t.add(r * TILE + c);
                    if nearest {
                        V::splat(0.0).sub(V::load(at)).store(at);
                    }
                    let mut bits = V::load(at).gt(V::splat(best.least()));
                    bits &= u32::MAX >> (32 - LANES.min(columns - c));
                    while bits != 0 {
                        let lane = bits.trailing_zeros() as usize;
                        bits &= bits - 1;
                        let key = *at.add(lane);
                        // The least has risen since the vector was compared.
                        if key > best.least() {
                            best.insert(key, (j0 + c + lane) as u32);
                        }
                    }
                }
            }
        }
    }
    for (keys, indices) in values.chunks_exact_mut(k).zip(indices.chunks_exact_mut(k)) {
        Best { keys, indices }.finish(nearest);
    }
}

fn dot<F: Real>(a: &[F], b: &[F]) -> F {
    a.iter().zip(b).map(|(&a, &b)| a * b).sum()
}

fn squared<F: Real>(a: &[F], b: &[F]) -> F {
    a.iter().zip(b).map(|(&a, &b)| (a - b) * (a - b)).sum()
}

/// 1 / norm; 0 for a zero row.
fn inverse_norm<F: Real>(a: &[F]) -> F {
    let norm = dot(a, a).sqrt();
    if norm > F::zero() { norm.recip() } else { F::zero() }
}

fn fwd_plain<F: Real>(args: Args<'_, F>) {
    let p: SimilarityParams = args.params();
    let [_, m, d] = p.dims();
    let [a, b, y] = args.bufs();
    a.widened(|a| {
        b.widened(|b| {
            for (i, y) in y.output().chunks_exact_mut(m).enumerate() {
                let a = &a[i * d..][..d];
                for (y, b) in y.iter_mut().zip(b.chunks_exact(d)) {
                    *y = similarity_of(p.kind(), a, b);
                }
            }
        })
    });
}

fn bwd_plain<F: Real>(args: Args<'_, F>) {
    let p: SimilarityParams = args.params();
    let [n, m, d] = p.dims();
    let [a, b, dy, da, db] = args.bufs();
    let (dy, da, db) = (dy.input(), da.output(), db.output());
    da.fill(F::zero());
    db.fill(F::zero());
    a.widened(|a| {
        b.widened(|b| {
            for i in 0..n {
                for j in 0..m {
                    let g = dy[i * m + j];
                    let (ai, bj) = (&a[i * d..][..d], &b[j * d..][..d]);
                    let (da, db) = (&mut da[i * d..][..d], &mut db[j * d..][..d]);
                    let mut add = |k: usize, ga: F, gb: F| {
                        da[k] += g * ga;
                        db[k] += g * gb;
                    };
                    match p.kind() {
                        Similarity::Dot => (0..d).for_each(|k| add(k, bj[k], ai[k])),
                        Similarity::Cosine => {
                            let (ra, rb) = (inverse_norm(ai), inverse_norm(bj));
                            if ra * rb != F::zero() {
                                let cos = dot(ai, bj) * ra * rb;
                                for k in 0..d {
                                    let (a, b) = (ai[k] * ra, bj[k] * rb);
                                    add(k, ra * (b - cos * a), rb * (a - cos * b));
                                }
                            }
                        }
                        Similarity::SquaredEuclidean | Similarity::Euclidean => {
                            let factor = match p.kind() {
                                Similarity::SquaredEuclidean => F::of(2.0),
                                _ => squared(ai, bj).sqrt().recip(),
                            };
                            // Where the distance is 0 the gradient is.
                            if factor.is_finite() {
                                (0..d)
                                    .for_each(|k| add(k, factor * (ai[k] - bj[k]), factor * (bj[k] - ai[k])));
                            }
                        }
                    }
                }
            }
        })
    });
}

// The f32 instance.

fn fwd_tiled(args: Args<'_, f32>) {
    let p: SimilarityParams = args.params();
    let work = args.work;
    let [a, b, y] = args.bufs();
    a.widened(|a| b.widened(|b| fwd_f32(work, &p, a, b, y.output())));
}

/// The matrix of `a` and `b` into `y`.
pub(crate) fn fwd_f32(work: Work, p: &SimilarityParams, a: &[f32], b: &[f32], y: &mut [f32]) {
    let [n, m, d] = p.dims();
    let unit = p.kind() == Similarity::Cosine;
    with_scratch(side_len(n, d) + side_len(m, d), |mut scratch| {
        let a = lay_out(d, unit, a, &[], None, &mut scratch);
        let b = lay_out(d, unit, b, &[], None, &mut scratch);
        work.pieces(y, TILE * m, |strip, y| {
            fwd_strip(work.simd, p, &a.panels[strip * TILE * d..], b.panels, y);
        });
    });
}

dispatch! {
    fn fwd_strip(p: &SimilarityParams, a: &[f32], b: &[f32], y: &mut [f32]) = fwd_strip_body
}

/// The tile of similarities of `rows` rows of `a` and `columns` of `b`, whose panels start there.
///
/// # Safety
/// `tile` is good for `TILE`² elements; the instruction set of `V` is there.
#[inline(always)]
unsafe fn similarities<V: Lanes>(
    p: &SimilarityParams,
    (a, rows): (&[f32], usize),
    (b, columns): (&[f32], usize),
    tile: *mut f32,
) {
    let d = p.d as usize;
    assert!(a.len() >= padded(rows) * d && b.len() >= padded(columns) * d);
    let (ap, bp) = ((a.as_ptr(), padded(rows)), (b.as_ptr(), padded(columns) / LANES));
    // SAFETY: whole panels, by the assertion; vectors inside the tile.
    unsafe {
        match p.kind() {
            Similarity::Dot | Similarity::Cosine => products::<V, false>(d, ap, bp, false, tile),
            _ => products::<V, true>(d, ap, bp, false, tile),
        }
        if p.kind() == Similarity::Euclidean {
            for r in 0..rows {
                for c in (0..padded(columns)).step_by(LANES) {
                    let at = tile.add(r * TILE + c);
                    V::load(at).sqrt().store(at);
                }
            }
        }
    }
}

/// Up to `TILE` rows of `y`.
#[inline(always)]
unsafe fn fwd_strip_body<V: Lanes>(p: &SimilarityParams, a: &[f32], b: &[f32], y: &mut [f32]) {
    let [_, m, d] = p.dims();
    let rows = y.len() / m;
    let mut tile = Aligned([0.0; TILE * TILE]);
    for j0 in (0..m).step_by(TILE) {
        let columns = TILE.min(m - j0);
        // SAFETY: the tile is whole.
        unsafe { similarities::<V>(p, (a, rows), (&b[j0 * d..], columns), tile.0.as_mut_ptr()) };
        for (y, t) in y.chunks_exact_mut(m).zip(tile.0.chunks_exact(TILE)) {
            y[j0..j0 + columns].copy_from_slice(&t[..columns]);
        }
    }
}

fn bwd_tiled(args: Args<'_, f32>) {
    let p: SimilarityParams = args.params();
    let work = args.work;
    let [a, b, dy, da, db] = args.bufs();
    let (da, db) = (da.output(), db.output());
    a.widened(|a| b.widened(|b| bwd_f32(work, &p, (a, da), (b, db), dy.input())));
}

/// The gradients by both arguments of [`fwd_f32`].
pub(crate) fn bwd_f32(
    work: Work,
    p: &SimilarityParams,
    (a, da): (&[f32], &mut [f32]),
    (b, db): (&[f32], &mut [f32]),
    dy: &[f32],
) {
    let [n, m, d] = p.dims();
    let unit = p.kind() == Similarity::Cosine;
    with_scratch(side_len(n, d) + side_len(m, d), |mut scratch| {
        let mut sides =
            [lay_out(d, unit, a, &[], None, &mut scratch), lay_out(d, unit, b, &[], None, &mut scratch)];
        if p.kind() != Similarity::Dot {
            centre(d, unit, &mut sides);
        }
        let [mut la, mut lb] = sides;
        let strip = TILE * row_len(d);
        let scale = match p.kind() {
            Similarity::SquaredEuclidean => 2.0,
            Similarity::Cosine => -1.0,
            _ => 1.0,
        };
        for of_b in [false, true] {
            let (acc, sums) = if of_b {
                (std::mem::take(&mut lb.acc), std::mem::take(&mut lb.sums))
            } else {
                (std::mem::take(&mut la.acc), std::mem::take(&mut la.sums))
            };
            // The sums share no strip with each other: they are handed out in step with `acc`.
            let given = Given { p, a, b, la: &la, lb: &lb, dy };
            work.pieces2((&mut *acc, strip), (&mut *sums, TILE), |at, acc, sums| {
                bwd_strip(work.simd, &given, of_b, at * TILE, acc, sums);
            });
            if of_b {
                (lb.acc, lb.sums) = (acc, sums);
            } else {
                (la.acc, la.sums) = (acc, sums);
            }
        }
        la.finish(d, unit, scale, a, da);
        lb.finish(d, unit, scale, b, db);
    });
}

/// What every strip of a backward launch reads.
struct Given<'a> {
    p: &'a SimilarityParams,
    a: &'a [f32],
    b: &'a [f32],
    la: &'a Layout<'a>,
    lb: &'a Layout<'a>,
    dy: &'a [f32],
}

dispatch! {
    fn bwd_strip(given: &Given<'_>, of_b: bool, first: usize, acc: &mut [f32], sums: &mut [f32]) = bwd_strip_body
}

/// Up to `TILE` rows from `first` on of one side's sums: `Σ g·other` into `acc`, `Σ g` into `sums`.
#[inline(always)]
unsafe fn bwd_strip_body<V: Lanes>(
    given: &Given<'_>,
    of_b: bool,
    first: usize,
    acc: &mut [f32],
    sums: &mut [f32],
) {
    let Given { p, la, lb, .. } = given;
    let [n, m, d] = p.dims();
    let dp = row_len(d);
    let (mut tile, mut up) = (Aligned([0.0; TILE * TILE]), Aligned([0.0; TILE * TILE]));
    let across = if of_b { n } else { m };
    for other in (0..across).step_by(TILE) {
        let (i0, j0) = if of_b { (other, first) } else { (first, other) };
        let (rows, columns) = (TILE.min(n - i0), TILE.min(m - j0));
        let (rp, cp) = (padded(rows), padded(columns));
        for r in 0..rows {
            let row = &mut up.0[r * TILE..][..cp];
            row[..columns].copy_from_slice(&given.dy[(i0 + r) * m + j0..][..columns]);
            row[columns..].fill(0.0);
        }
        let t = tile.0.as_mut_ptr();
        let (mut row_sums, mut column_sums) = ([0.0; TILE], Aligned([0.0; TILE]));
        // SAFETY: whole panels and vectors of the layouts, which are padded, and of the tiles.
        unsafe {
            if p.kind() == Similarity::Euclidean {
                let ap = (la.panels[i0 * d..].as_ptr(), rp);
                products::<V, true>(d, ap, (lb.panels[j0 * d..].as_ptr(), cp / LANES), false, t);
            }
            for (r, sum_of_row) in (0..rows).zip(row_sums.iter_mut()) {
                let mut row_sum = V::splat(0.0);
                for c in (0..cp).step_by(LANES) {
                    let mut g = V::load(up.0.as_ptr().add(r * TILE + c));
                    let at = t.add(r * TILE + c);
                    match p.kind() {
                        // `finish` subtracts, and a dot product has nothing else to it.
                        Similarity::Dot => g = V::splat(0.0).sub(g),
                        Similarity::Euclidean => {
                            let distance = V::load(at);
                            // Bounded so that the root of no square, 0 and infinity included, is a NaN.
                            g = g.mul(distance.max(V::splat(1e-37)).min(V::splat(1e38)).rsqrt());
                            let limit = V::splat(la.near[i0 + r]).add(V::load(lb.near[j0 + c..].as_ptr()));
                            let mut bits = limit.gt(distance);
                            if bits != 0 {
                                g = limit.if_gt(distance, V::splat(0.0), g);
                                // Where the distance is 0 there is no gradient, and beyond the columns no row.
                                bits &= distance.gt(V::splat(0.0));
                                bits &= u32::MAX >> (32 - LANES.min(columns - c));
                            }
                            while bits != 0 {
                                let c = c + bits.trailing_zeros() as usize;
                                let row = if of_b { c } else { r };
                                near_pair(given, of_b, i0 + r, j0 + c, &mut acc[row * dp..][..d]);
                                bits &= bits - 1;
                            }
                        }
                        _ => {}
                    }
                    g.store(at);
                    row_sum = row_sum.add(g);
                    let sum = column_sums.0.as_mut_ptr().add(c);
                    V::load(sum).add(g).store(sum);
                }
                *sum_of_row = row_sum.sum();
            }
        }
        tile.0[rows * TILE..rp * TILE].fill(0.0);
        if p.kind() != Similarity::Dot {
            let of_tile = if of_b { &column_sums.0 } else { &row_sums };
            sums.iter_mut().zip(of_tile).for_each(|(s, g)| *s += g);
        }
        let (ar, br) = (la.rows[i0 * dp..].as_ptr(), lb.rows[j0 * dp..].as_ptr());
        // SAFETY: whole sixteens of the layouts' rows, and `acc` is a strip of such rows.
        unsafe {
            if of_b {
                assert!(acc.len() >= cp * dp);
                combine::<V, true>(t, d, (acc.as_mut_ptr(), cp), (ar, rp), false);
            } else {
                assert!(acc.len() >= rp * dp);
                combine::<V, false>(t, d, (acc.as_mut_ptr(), rp), (br, cp), false);
            }
        }
    }
}

/// The Euclidean gradient of a pair too near for the tiles, from its difference in f64.
#[cold]
#[inline(never)]
fn near_pair(given: &Given<'_>, of_b: bool, i: usize, j: usize, acc: &mut [f32]) {
    let [_, m, d] = given.p.dims();
    let (a, b) = (&given.a[i * d..][..d], &given.b[j * d..][..d]);
    let difference = |k: usize| f64::from(a[k]) - f64::from(b[k]);
    let distance = (0..d).map(|k| difference(k).powi(2)).sum::<f64>().sqrt();
    let g = f64::from(given.dy[i * m + j]) / distance;
    let g = if of_b { -g } else { g };
    for (k, acc) in acc.iter_mut().enumerate() {
        *acc -= (g * difference(k)) as f32;
    }
}

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[&FWD, &FWD_F16, &FWD_BF16, &BWD, &BWD_F16, &BWD_BF16, &TOPK];
