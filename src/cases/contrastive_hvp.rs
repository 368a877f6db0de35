use super::case::{Case, Data, Input, Role, normal, uniform};
use crate::ops::contrastive::{ContrastiveOptions, Labels, Metric, contrastive, contrastive_cross};
use crate::ops::contrastive_hvp::contrastive_hvp;
use crate::ops::scale;
use crate::ops::similarity::{Similarity, similarity};

/// Dual rows `[2, n, d]`; of norm 1 for the cosine, but for the first and the last, which are 0 where there are several.
fn duals(seed: u64, n: usize, d: usize, metric: Metric) -> Input {
    let mut values = normal(seed, 2 * n * d);
    if metric == Metric::Cosine {
        for (i, row) in values[..n * d].chunks_exact_mut(d).enumerate() {
            let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
            let norm = if n > 3 && (i == 0 || i + 1 == n) { f64::INFINITY } else { norm };
            row.iter_mut().for_each(|v| *v /= norm);
        }
    }
    Input::real(&[2, n, d], values, Role::Constant)
}

fn labels(seed: u64, n: usize) -> Input {
    Input::real(&[n], uniform(seed, n).iter().map(|y| (5.0 * y).floor()).collect(), Role::Constant)
}

/// Weights up to 2; every third sample is masked, and holds no numbers.
fn weights(seed: u64, [rows, labels]: [&mut Input; 2]) -> Input {
    let [n, d] = [rows.shape[1], rows.shape[2]];
    for i in (1..n).step_by(3) {
        if let (Data::Real(rows), Data::Real(labels)) = (&mut rows.data, &mut labels.data) {
            for first in [i * d, (n + i) * d] {
                rows[first..][..d].fill(if i % 2 == 0 { f64::NAN } else { f64::INFINITY });
            }
            labels[i] = f64::NAN;
        }
    }
    let weights = uniform(seed, n).into_iter().enumerate();
    let weights = weights.map(|(i, w)| if i % 3 == 1 { 0.0 } else { 0.5 + 1.5 * w });
    Input::real(&[n], weights.collect(), Role::Constant)
}

/// All pairs of `n`, and those across with `m` others; with weights and without.
fn forms(n: usize, m: usize, d: usize, opts: ContrastiveOptions) -> Vec<Case> {
    let name = |what: &str| {
        let ContrastiveOptions { metric, margin, tau, .. } = opts;
        format!("{what} n{n} d{d} {metric:?} margin {margin} tau {tau}")
    };
    let set = |seed: u64, n: usize| [duals(seed, n, d, opts.metric), labels(seed + 1, n)];
    let (own, others) = (set(1, n), set(3, m));
    let masked = |[rows, labels]: &[Input; 2], seed: u64| {
        let (mut rows, mut labels) = (rows.clone(), labels.clone());
        let weights = weights(seed, [&mut rows, &mut labels]);
        [rows, labels, weights]
    };
    let (of_own, of_others) = (masked(&own, 5), masked(&others, 6));
    vec![
        Case::new("contrastive_hvp", name("all"), own.to_vec(), move |g, v| {
            contrastive_hvp(g, v[0], v[1], None, opts)
        }),
        Case::new("contrastive_hvp", name("all, weights"), of_own.to_vec(), move |g, v| {
            contrastive_hvp(g, v[0], Labels::weighted(v[1], v[2]), None, opts)
        }),
        Case::new("contrastive_hvp", name(&format!("m{m}")), [own.clone(), others].concat(), move |g, v| {
            contrastive_hvp(g, v[0], v[1], Some((v[2], v[3].into())), opts)
        }),
        Case::new(
            "contrastive_hvp",
            name(&format!("m{m}, weights")),
            [&of_own[..], &of_others].concat(),
            move |g, v| {
                let of_others = Labels::weighted(v[4], v[5]);
                contrastive_hvp(g, v[0], Labels::weighted(v[1], v[2]), Some((v[3], of_others)), opts)
            },
        ),
        Case::new(
            "contrastive_hvp",
            name(&format!("m{m}, weights of the others")),
            [&own[..], &of_others].concat(),
            move |g, v| contrastive_hvp(g, v[0], v[1], Some((v[2], Labels::weighted(v[3], v[4]))), opts),
        ),
    ]
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for metric in [Metric::Euclidean, Metric::Cosine] {
        for (n, m, d, margin, tau) in
            [(2, 1, 1, 2.0, 0.0), (17, 40, 5, 0.75, 1.0), (48, 16, 32, 4.0, 0.0), (33, 83, 67, 0.3, 2.0)]
        {
            let weight = if n == 17 { 0.5 } else { 1.0 };
            cases.extend(forms(
                n,
                m,
                d,
                ContrastiveOptions { metric, margin, tau, weight, ..Default::default() },
            ));
        }
        let opts = ContrastiveOptions { metric, margin: 2.0, ..Default::default() };
        let inputs = vec![duals(7, 512, 16, metric), labels(8, 512)];
        let name = format!("all n512 d16 {metric:?} margin 2 tau 0");
        let case = Case::new("contrastive_hvp", name, inputs, move |g, v| {
            contrastive_hvp(g, v[0], v[1], None, opts)
        });
        cases.push(case.timed());
    }
    // One row twice: a negative pair at distance 0 adds nothing.
    let mut values = normal(9, 2 * 20 * 3);
    values.copy_within(..6, 30);
    let inputs = vec![Input::real(&[2, 20, 3], values, Role::Constant), labels(10, 20)];
    let opts = ContrastiveOptions { margin: 2.0, ..Default::default() };
    cases.push(Case::new("contrastive_hvp", "rows that are equal", inputs, move |g, v| {
        contrastive_hvp(g, v[0], v[1], None, opts)
    }));
    cases.extend(gradients());
    cases
}

/// The gradients of the loss, which are differentiated in turn.
fn gradients() -> Vec<Case> {
    let mut cases = Vec::new();
    for metric in [Metric::Euclidean, Metric::Cosine] {
        let opts = ContrastiveOptions { metric, margin: 0.75, tau: 1.0, weight: 0.5, grad_scale: 2.0 };
        for (n, m, d) in [(2, 1, 2), (17, 9, 5), (50, 33, 64)] {
            let rows = |seed, n| Input::normal(seed, &[n, d]);
            let weights = |seed, n| Input::real(&[n], uniform(seed, n), Role::Constant).but(0, 0.0);
            let name = |what: &str| format!("gradient {what} n{n} m{m} d{d} {metric:?}");
            let all = vec![rows(1, n), labels(2, n)];
            cases.push(Case::new("contrastive_hvp", name("all"), all.clone(), move |g, v| {
                let loss = contrastive(g, v[0], v[1], opts)?;
                Ok(g.gradients(loss, None, &[v[0]])?[0])
            }));
            let cross = [all.clone(), vec![rows(3, m), labels(4, m)]].concat();
            cases.push(Case::new("contrastive_hvp", name("across"), cross.clone(), move |g, v| {
                let loss = contrastive_cross(g, v[0], v[1], v[2], v[3], opts)?;
                let loss = scale(g, loss, 3.0)?;
                let by = g.gradients(loss, None, &[v[0], v[2]])?;
                similarity(g, by[0], by[1], Similarity::Dot)
            }));
            if n == 2 {
                continue;
            }
            let weighted = [all, vec![weights(5, n)]].concat();
            cases.push(Case::new("contrastive_hvp", name("all, weights"), weighted, move |g, v| {
                let loss = contrastive(g, v[0], Labels::weighted(v[1], v[2]), opts)?;
                Ok(g.gradients(loss, None, &[v[0]])?[0])
            }));
            let weighted = [cross, vec![weights(6, m)]].concat();
            cases.push(Case::new("contrastive_hvp", name("across, weights"), weighted, move |g, v| {
                let loss = contrastive_cross(g, v[0], v[1], v[2], Labels::weighted(v[3], v[4]), opts)?;
                Ok(g.gradients(loss, None, &[v[2]])?[0])
            }));
        }
    }
    cases
}
