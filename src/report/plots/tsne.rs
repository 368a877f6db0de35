//! t-SNE, exact.

use super::axis::extent;
use super::principal::principal;
use rayon::prelude::*;

/// Rows that are placed at most: time goes with their square.
pub(super) const ROWS: usize = 1000;

/// Neighbours that a row effectively has, where there are enough.
const PERPLEXITY: f64 = 30.0;

/// Steps, how many of them with attraction exaggerated, and by how much.
const STEPS: usize = 750;
const EARLY: usize = 250;
const EXAGGERATION: f64 = 12.0;

/// Places `rows`, all of one length, in the plane so that those near each other stay so (van der Maaten and Hinton, 2008). Begins
/// with the principal components, made small, and a rate of n / 12 (Kobak and Berens, 2019): nothing is random, and sums have one
/// order, so that the same rows give the same places whatever the number of threads.
///
/// Takes O(n²) memory and, a step, O(n²) time. Rows that are all alike stay where they began.
pub(super) fn tsne(rows: &[&[f32]]) -> Vec<[f64; 2]> {
    let n = rows.len();
    let mut at = principal(rows).0;
    if n < 4 {
        return at;
    }
    let spread = (at.iter().map(|p| p[0] * p[0]).sum::<f64>() / n as f64).sqrt();
    if spread <= 0.0 {
        return at;
    }
    at.iter_mut().flatten().for_each(|v| *v *= 1e-4 / spread);
    let near = similarities(rows);
    let rate = (n as f64 / EXAGGERATION).max(10.0);
    let (mut speed, mut gains) = (vec![[0.0; 2]; n], vec![[1.0f64; 2]; n]);
    for step in 0..STEPS {
        let (exaggeration, momentum) = if step < EARLY { (EXAGGERATION, 0.5) } else { (1.0, 0.8) };
        let slopes = slopes(&near, &at, exaggeration);
        for (i, slope) in slopes.into_iter().enumerate() {
            for k in 0..2 {
                // A coordinate that keeps its direction gains speed (Jacobs, 1988).
                let turns = (slope[k] > 0.0) == (speed[i][k] > 0.0);
                gains[i][k] = if turns { (gains[i][k] * 0.8).max(0.01) } else { gains[i][k] + 0.2 };
                speed[i][k] = momentum * speed[i][k] - rate * gains[i][k] * slope[k];
                at[i][k] += speed[i][k];
            }
        }
        for k in 0..2 {
            let mean = at.iter().map(|p| p[k]).sum::<f64>() / n as f64;
            at.iter_mut().for_each(|p| p[k] -= mean);
        }
    }
    at
}

/// The gradient of the divergence: `4 Σ_j (e·p_ij − q_ij)(y_i − y_j) / (1 + ‖y_i − y_j‖²)`, without the constant 4.
fn slopes(near: &[f64], at: &[[f64; 2]], exaggeration: f64) -> Vec<[f64; 2]> {
    let n = at.len();
    // Attraction, repulsion and the sum that makes q of the latter, of each row.
    let of_row = |i: usize| {
        let (mut pull, mut push, mut sum) = ([0.0; 2], [0.0; 2], -1.0); // −1: itself
        for (p, other) in near[i * n..][..n].iter().zip(at) {
            let gap = [at[i][0] - other[0], at[i][1] - other[1]];
            let q = 1.0 / (1.0 + gap[0] * gap[0] + gap[1] * gap[1]);
            sum += q;
            for k in 0..2 {
                pull[k] += p * q * gap[k];
                push[k] += q * q * gap[k];
            }
        }
        (pull, push, sum)
    };
    let parts: Vec<_> = (0..n).into_par_iter().map(of_row).collect();
    let total = parts.iter().map(|part| part.2).sum::<f64>().max(f64::MIN_POSITIVE);
    parts.iter().map(|(pull, push, _)| [0, 1].map(|k| exaggeration * pull[k] - push[k] / total)).collect()
}

/// `p_ij`, row-major `[n, n]`: Gaussian similarities of the perplexity, made symmetric; they add up to 1.
fn similarities(rows: &[&[f32]]) -> Vec<f64> {
    let n = rows.len();
    let perplexity = PERPLEXITY.min((n - 1) as f64 / 3.0);
    let of_row = |i: usize| {
        let squared =
            |other: &&[f32]| rows[i].iter().zip(*other).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        let far: Vec<f64> = rows.iter().map(squared).collect();
        conditional(&far, i, perplexity)
    };
    let given: Vec<Vec<f64>> = (0..n).into_par_iter().map(of_row).collect();
    let both = |k: usize| (given[k / n][k % n] + given[k % n][k / n]) / (2 * n) as f64;
    (0..n * n).map(both).collect()
}

/// `p_j|i` of squared distances `far` from row `own`: the width of the Gaussian is found by bisection.
fn conditional(far: &[f64], own: usize, perplexity: f64) -> Vec<f64> {
    let others = || far.iter().enumerate().filter(|(j, _)| *j != own).map(|(_, d)| *d);
    // Distances over their mean, so that one range of widths holds for all; less the least, so that nothing underflows.
    let (least, _) = extent(others()).unwrap_or((0.0, 0.0));
    let mean = others().map(|d| d - least).sum::<f64>() / (far.len() - 1) as f64;
    let unit = if mean > 0.0 { mean } else { 1.0 };
    let weigh = |beta: f64| -> Vec<f64> {
        let weight = |(j, d): (usize, &f64)| if j == own { 0.0 } else { (-beta * (d - least) / unit).exp() };
        let weights: Vec<f64> = far.iter().enumerate().map(weight).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|w| w / sum).collect()
    };
    let entropy = |p: &[f64]| -p.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f64>();
    // On a logarithmic scale.
    let (mut low, mut high) = (-40.0f64, 40.0f64);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if entropy(&weigh(middle.exp())) > perplexity.ln() { low = middle } else { high = middle }
    }
    weigh((0.5 * (low + high)).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three clouds of ten rows each, far apart in ten dimensions.
    fn clouds() -> Vec<Vec<f32>> {
        let wobble = |i: usize, k: usize| ((i * 31 + k * 17) as f32 * 0.754_877_7).fract();
        (0..30)
            .map(|i| (0..10).map(|k| wobble(i, k) + if k == i / 10 { 20.0 } else { 0.0 }).collect())
            .collect()
    }

    fn place(rows: &[Vec<f32>]) -> Vec<[f64; 2]> {
        tsne(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    #[test]
    fn rows_of_a_cloud_stay_together() {
        let at = place(&clouds());
        let far = |a: [f64; 2], b: [f64; 2]| ((a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)).sqrt();
        for i in 0..30 {
            let of = |same: bool| (0..30).filter(move |j| *j != i && (j / 10 == i / 10) == same);
            let inside = of(true).map(|j| far(at[i], at[j])).fold(0.0, f64::max);
            let outside = of(false).map(|j| far(at[i], at[j])).fold(f64::INFINITY, f64::min);
            assert!(inside < outside, "row {i}: {inside} inside its cloud, {outside} to the next");
        }
    }

    #[test]
    fn places_do_not_depend_on_threads() {
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| place(&clouds()))
        };
        assert_eq!(on(1), on(3));
    }

    #[test]
    fn the_perplexity_is_met() {
        let far: Vec<f64> = (0..200).map(|i| f64::from(i * i) * 1e-3).collect();
        let p = conditional(&far, 7, 30.0);
        let entropy: f64 = -p.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f64>();
        assert!((entropy.exp() - 30.0).abs() < 1e-6 && p[7] == 0.0, "{}", entropy.exp());
    }

    #[test]
    fn rows_alike_and_few_rows_are_placed() {
        for rows in [vec![], vec![vec![1.0; 3]; 1], vec![vec![1.0; 3]; 9], clouds()[..5].to_vec()] {
            let at = place(&rows);
            assert!(at.len() == rows.len() && at.iter().flatten().all(|v| v.is_finite()), "{at:?}");
        }
    }
}
