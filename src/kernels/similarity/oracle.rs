//! The definition: plain double loops over the pairs.

use super::best::Best;
use super::params::{Similarity, SimilarityParams, TopKParams};
use crate::kernel::{Args, Real};

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

fn similarity_of<F: Real>(kind: Similarity, a: &[F], b: &[F]) -> F {
    match kind {
        Similarity::Dot => dot(a, b),
        Similarity::Cosine => dot(a, b) * inverse_norm(a) * inverse_norm(b),
        Similarity::SquaredEuclidean => squared(a, b),
        Similarity::Euclidean => squared(a, b).sqrt(),
    }
}

/// `y_ij` of every pair.
pub fn fwd<F: Real>(args: Args<'_, F>) {
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

/// The gradients by both rows of every pair.
pub fn bwd<F: Real>(args: Args<'_, F>) {
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

/// The best of each row.
pub fn top_k<F: Real>(args: Args<'_, F>) {
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
            let key = if p.kind().is_distance() { F::zero() - y } else { y };
            if key > best.least() {
                best.insert(key, j);
            }
        }
        best.finish(p.kind().is_distance());
    }
}
