//! Long sums of the fast twins, in two levels and a fixed order: sixteen strided partial sums in each block of terms, in
//! f32, and the blocks one after another in f64.

/// Terms that are added in f32.
const BLOCK: usize = 256;

/// `Σ f(i)` over `0..n`, in f64 over blocks; `block(from, to)` adds up one of them.
fn blocks(n: usize, block: impl Fn(usize, usize) -> f32) -> f64 {
    (0..n).step_by(BLOCK).fold(0.0, |sum, from| sum + f64::from(block(from, n.min(from + BLOCK))))
}

/// Adds sixteen partial sums, halves onto each other.
fn fold(mut acc: [f32; 16]) -> f32 {
    for half in [8, 4, 2, 1] {
        for l in 0..half {
            let other = acc[l + half];
            acc[l] += other;
        }
    }
    acc[0]
}

/// `Σ f(x)`.
pub(super) fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    blocks(x.len(), |from, to| {
        let (lanes, rest) = x[from..to].as_chunks::<16>();
        let tail = rest.iter().fold(0.0, |s, &x| s + f(x));
        if lanes.is_empty() {
            return tail;
        }
        let mut acc = [0.0; 16];
        for x in lanes {
            for l in 0..16 {
                acc[l] += f(x[l]);
            }
        }
        fold(acc) + tail
    })
}

/// `Σ f(a, b)` over two slices of one length.
pub(super) fn sum2(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f64 {
    blocks(a.len().min(b.len()), |from, to| {
        let ((a, a_rest), (b, b_rest)) = (a[from..to].as_chunks::<16>(), b[from..to].as_chunks::<16>());
        let tail = a_rest.iter().zip(b_rest).fold(0.0, |s, (&a, &b)| s + f(a, b));
        if a.is_empty() {
            return tail;
        }
        let mut acc = [0.0; 16];
        for (a, b) in a.iter().zip(b) {
            for l in 0..16 {
                acc[l] += f(a[l], b[l]);
            }
        }
        fold(acc) + tail
    })
}
