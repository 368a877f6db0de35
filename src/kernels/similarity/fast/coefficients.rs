//! Coefficients of a slab of pairs: `g_ij = dy_ij / ‖a_i − b_j‖` of Euclidean ones.

use super::near::squared_f64;
use super::sides::Sides;
use super::sweep::{At, Take, sweep};
use crate::dispatch;
use crate::kernels::pairs::{Aligned, Lanes, padded};
use crate::simd::{LANES, fetch};

/// Pairs whose squared distance is below this share of their squared norms have a gradient of their own, in f64: in the
/// difference of two sums it would be lost.
const ALONE: f32 = 1e-5;
/// So do those whose square is beyond what the root of a vector is good for.
const SMALL: f32 = 1e-36;
const LARGE: f32 = 1e38;

/// Rows of coefficients from row `first` of the matrix on, `pitch` apart.
pub struct Slab<'a> {
    pub g: &'a [f32],
    pub pitch: usize,
    /// Columns.
    pub m: usize,
    pub first: usize,
    /// Whether sums of rows and columns are wanted.
    pub summed: bool,
    /// The upstream gradient, where `g` is what [`coefficients`] made of it.
    pub dy: Option<&'a [f32]>,
}

/// From one row of coefficients to the next: whole vectors, then one whose first element says whether some pair of the row has
/// a gradient of its own.
pub fn pitch(m: usize) -> usize {
    padded(m) + LANES
}

impl Slab<'_> {
    /// Adds to the sums `acc` of `count` columns from `first` on the pairs that have a gradient of their own. Their coefficient
    /// is 0; so may others' be, whose gradient vanishes.
    pub fn alone(&self, dy: &[f32], first: usize, a: &[f32], b: &[f32], acc: &mut [f32], count: usize) {
        let (d, dp) = (b.len() / self.m, acc.len() / count);
        for (i, g) in (self.first..).zip(self.g.chunks_exact(self.pitch)) {
            if g[self.pitch - LANES] == 0.0 {
                continue;
            }
            let dy = &dy[i * self.m..][..self.m];
            for j in first..first + count {
                if g[j] == 0.0 && dy[j] != 0.0 {
                    let (a, b) = (&a[i * d..][..d], &b[j * d..][..d]);
                    add_alone(dy[j], b, a, &mut acc[(j - first) * dp..][..d]);
                }
            }
        }
    }
}

/// Subtracts from `acc`, which a gradient is less, the gradient by `x` of `dy·‖x − other‖`, and says whether it has one: there
/// is none where the distance is 0.
fn add_alone(dy: f32, x: &[f32], other: &[f32], acc: &mut [f32]) -> bool {
    let square = squared_f64(x, other);
    if square == 0.0 {
        return false;
    }
    let g = f64::from(dy) / square.sqrt();
    for ((acc, &x), &other) in acc.iter_mut().zip(x).zip(other) {
        *acc -= (g * (f64::from(x) - f64::from(other))) as f32;
    }
    true
}

/// What [`coefficients`] takes along.
struct Strip<'a> {
    s: &'a Sides<'a>,
    norms: (&'a [f32], &'a [f32]),
    dy: &'a [f32],
    first: usize,
    acc: &'a mut [f32],
    g: &'a mut [f32],
}

impl Take for Strip<'_> {
    fn begin(&mut self, _i: usize, _rows: usize) {}

    #[inline(always)]
    unsafe fn take<V: Lanes, const R: usize, const C: usize>(&mut self, at: At, values: &[[V; C]; R]) {
        const ALL: u32 = (1 << LANES) - 1;
        let (m, pitch) = (self.s.m, pitch(self.s.m));
        for (q, values) in values.iter().enumerate().take(at.rows) {
            let (i, row) = (at.i + q, at.i + q - self.first);
            for (c, &value) in values.iter().enumerate() {
                let j = at.j + c * LANES;
                fetch(self.dy.as_ptr().wrapping_add(i * m + j + C * LANES));
                let dy = &self.dy[i * m + j..][..LANES.min(m - j)];
                // SAFETY: whole vectors of the slices; measures are padded.
                unsafe {
                    let dy = if dy.len() == LANES {
                        V::load(dy.as_ptr())
                    } else {
                        let mut lanes = Aligned([0.0; LANES]);
                        lanes.0[..dy.len()].copy_from_slice(dy);
                        V::load(lanes.0.as_ptr())
                    };
                    let norms = V::splat(self.norms.0[i]).add(V::load(self.norms.1[j..][..LANES].as_ptr()));
                    let limit = norms.mul(V::splat(ALONE)).max(V::splat(SMALL));
                    let far = value.gt(limit) & V::splat(LARGE).gt(value);
                    let mut g = dy.mul(value.rsqrt());
                    if far != ALL {
                        let mut lanes = Aligned([0.0; LANES]);
                        g.store(lanes.0.as_mut_ptr());
                        self.alone((i, j), ALL & !far, &mut lanes.0);
                        g = V::load(lanes.0.as_ptr());
                    }
                    g.store(self.g[row * pitch + j..][..LANES].as_mut_ptr());
                }
            }
        }
    }
}

impl Strip<'_> {
    /// Takes the pairs `bits` of row `i` and columns `j` and on for themselves.
    #[cold]
    #[inline(never)]
    fn alone(&mut self, (i, j): (usize, usize), mut bits: u32, g: &mut [f32; LANES]) {
        let (d, m, pitch, row) = (self.s.d, self.s.m, pitch(self.s.m), i - self.first);
        let dp = padded(d);
        while bits != 0 {
            let lane = bits.trailing_zeros() as usize;
            bits &= bits - 1;
            g[lane] = 0.0;
            if j + lane < m {
                let (a, b) = (&self.s.a_given[i * d..][..d], &self.s.b_given[(j + lane) * d..][..d]);
                if add_alone(self.dy[i * m + j + lane], a, b, &mut self.acc[row * dp..][..d]) {
                    self.g[row * pitch + pitch - LANES] = 1.0;
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn coefficients_body<V: Lanes>(
    s: &Sides<'_>,
    norms: (&[f32], &[f32]),
    dy: &[f32],
    first: usize,
    acc: &mut [f32],
    g: &mut [f32],
    scratch: &mut [f32],
) {
    let pitch = pitch(s.m);
    let rows = first..first + g.len() / pitch;
    g.chunks_exact_mut(pitch).for_each(|g| g[pitch - LANES] = 0.0);
    // SAFETY: the instruction set is the caller's.
    unsafe { sweep::<V, _>(s, rows, scratch, &mut Strip { s, norms, dy, first, acc, g }) };
}

dispatch! {
    /// The coefficients of the rows from `first` on into `g`; pairs that have a gradient of their own add it to `acc`.
    /// `scratch` is of [`Sides::packed_len`].
    pub fn coefficients(
        s: &Sides<'_>,
        norms: (&[f32], &[f32]),
        dy: &[f32],
        first: usize,
        acc: &mut [f32],
        g: &mut [f32],
        scratch: &mut [f32],
    ) = coefficients_body
}
