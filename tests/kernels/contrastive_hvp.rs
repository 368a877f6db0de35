//! How the loss's gradient moves with its rows, against differences of the gradient itself, in f64.

use crate::contrastive_loss::{Form, Rows, run};
use etude::cases::{normal, relative, uniform};
use etude::device::{Cpu, Device};
use etude::graph::Graph;
use etude::ops::contrastive::{ContrastiveOptions, Labels, Metric};
use etude::ops::contrastive_hvp::contrastive_hvp;

const D: usize = 4;
type Side = (Rows, Vec<f64>, Option<Vec<f64>>);

/// Rows, for the cosine of norm 1, labels and weights, and how the rows move.
fn side(seed: u64, n: usize, metric: Metric, weighted: bool) -> (Side, Vec<f64>) {
    let mut z = normal(seed, n * D);
    if metric == Metric::Cosine {
        for row in z.chunks_exact_mut(D) {
            let norm = dot(row, row).sqrt();
            row.iter_mut().for_each(|v| *v /= norm);
        }
    }
    let labels = uniform(seed + 1, n).iter().map(|y| (4.0 * y).floor()).collect();
    let weights = weighted.then(|| (0..n).map(|i| [1.0, 0.0, 0.5, 2.0][i % 4]).collect::<Vec<_>>());
    let mut rows = Rows::new(z.clone(), labels).weigh(weights.clone());
    rows.z.clone_from(&z);
    ((rows, z, weights), normal(seed + 2, n * D))
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// What is left of `x` across `u`, of norm 1.
fn across(u: &[f64], x: &[f64]) -> Vec<f64> {
    let along = dot(u, x);
    x.iter().zip(u).map(|(x, u)| x - along * u).collect()
}

/// How the gradient moves, of the kernel's sums: what it says of Euclidean rows; of cosine ones, chained through the norms, which
/// are 1.
fn moves(metric: Metric, z: &[f64], v: &[f64], sums: &[f64]) -> Vec<f64> {
    let (sums, moved) = sums.split_at(z.len());
    let sums = sums.chunks_exact(D).zip(moved.chunks_exact(D));
    let rows = sums.zip(z.chunks_exact(D).zip(v.chunks_exact(D)));
    let moved = rows.map(|((g, moved), (u, v))| {
        if metric == Metric::Euclidean {
            return moved.to_vec();
        }
        let [of_moved, of_g, of_v] = [moved, g, v].map(|x| across(u, x));
        let (along_v, along_g, of_both) = (dot(u, v), dot(u, g), dot(g, &of_v));
        let at = |k: usize| of_moved[k] - along_v * of_g[k] - along_g * of_v[k] - of_both * u[k];
        (0..D).map(at).collect()
    });
    moved.collect::<Vec<_>>().concat()
}

/// The kernel's sums over pairs of `own` and `others`, or each other.
fn sums(own: &Side, v: &[f64], others: Option<(&Side, &[f64])>, opts: ContrastiveOptions) -> Vec<f64> {
    let cpu: &dyn Device = &Cpu::<f64>::new(1).unwrap();
    let mut g = Graph::new();
    let mut bind = |(rows, z, weights): &Side, v: &[f64]| {
        let u: Vec<f64> = match opts.metric {
            Metric::Euclidean => v.to_vec(),
            // Rows of norm 1 move across themselves.
            Metric::Cosine => {
                z.chunks_exact(D).zip(v.chunks_exact(D)).flat_map(|(u, v)| across(u, v)).collect()
            }
        };
        let n = rows.labels.len();
        let duals = g.bind(&cpu.upload(&[&z[..], &u].concat()).unwrap(), &[2, n, D]).unwrap();
        let mut of_rows = |v: &Vec<f64>| g.bind(&cpu.upload(v).unwrap(), &[n]).unwrap();
        let labels = of_rows(&rows.labels);
        (duals, weights.as_ref().map_or(labels.into(), |w| Labels::weighted(labels, of_rows(w))))
    };
    let (own, labels) = bind(own, v);
    let others = others.map(|(others, u)| bind(others, u));
    let sums = contrastive_hvp(&mut g, own, labels, others, opts).unwrap();
    let mut step = g.compile(cpu, &[sums]).unwrap();
    step.run().unwrap();
    cpu.download_f64(step.buf(sums).unwrap()).unwrap()
}

#[test]
fn the_gradient_moves_as_its_differences_say() {
    let step = 1e-6;
    for (metric, form, weighted, tau) in [Metric::Euclidean, Metric::Cosine].into_iter().flat_map(|m| {
        [Form::All, Form::Cross].into_iter().flat_map(move |f| [(m, f, false, 0.0), (m, f, true, 1.0)])
    }) {
        let opts = ContrastiveOptions { metric, margin: 0.8, tau, ..Default::default() };
        let ((own, v), (others, u)) = (side(1, 13, metric, weighted), side(5, 9, metric, weighted));
        let gradients = |by: f64| {
            let moved = |(rows, z, _): &Side, v: &[f64]| {
                let mut rows = rows.clone();
                rows.z = z.iter().zip(v).map(|(z, v)| z + by * v).collect();
                rows
            };
            run(&Cpu::<f64>::new(1).unwrap(), form, &moved(&own, &v), &moved(&others, &u), &[], opts)
        };
        let weights = |(rows, _, weights): &Side| weights.clone().unwrap_or(vec![1.0; rows.labels.len()]);
        let (s, t) = (weights(&own), weights(&others));
        let total: f64 = match form {
            Form::Cross => s.iter().sum::<f64>() * t.iter().sum::<f64>(),
            _ => (0..s.len()).map(|i| s[i] * s[..i].iter().sum::<f64>()).sum(),
        };
        let (ahead, behind) = (gradients(step), gradients(-step));
        let slope = |i: usize| {
            let of = ahead[i].iter().zip(&behind[i]);
            of.map(|(a, b)| total * (a - b) / (2.0 * step)).collect::<Vec<_>>()
        };
        let two = form == Form::Cross;
        let of_own = sums(&own, &v, two.then_some((&others, &u[..])), opts);
        let error = relative(&moves(metric, &own.1, &v, &of_own), &slope(1));
        // Central differences of a step of 1e-6, of gradients in f64.
        assert!(error < 1e-7, "{metric:?} {form:?}: {error}");
        if metric == Metric::Euclidean {
            let g: Vec<_> = of_own[..own.1.len()].iter().map(|g| g / total).collect();
            assert!(relative(&g, &gradients(0.0)[1]) < 1e-12);
        }
        if two {
            let of_others = sums(&others, &u, Some((&own, &v)), opts);
            let error = relative(&moves(metric, &others.1, &u, &of_others), &slope(2));
            assert!(error < 1e-7, "{metric:?} others: {error}");
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let cpu: &dyn Device = &Cpu::<f32>::new(1).unwrap();
    for (rows, labels, others, words) in [
        (&[3, 4, 2][..], 4, &[2, 4, 2][..], &["rows", "dual rows [2, N, D]", "[3, 4, 2]"][..]),
        (&[4, 4], 4, &[2, 4, 2], &["rows", "[4, 4]"]),
        (&[2, 4, 2], 5, &[2, 4, 2], &["labels", "[5]", "[2, 4, 2]"]),
        (&[2, 4, 2], 4, &[2, 4, 3], &["others", "[2, 4, 3]", "[2, 4, 2]"]),
        (&[2, 4, 2], 4, &[2, 3, 2], &["labels_o", "[4]", "[2, 3, 2]"]),
    ] {
        let mut g = Graph::new();
        let mut bind = |shape: &[usize]| {
            g.bind(&cpu.upload(&vec![0.0; shape.iter().product()]).unwrap(), shape).unwrap()
        };
        let (rows, of, others, labels_o) = (bind(rows), bind(&[labels]), bind(others), bind(&[4]));
        let options = ContrastiveOptions::default();
        let refused = contrastive_hvp(&mut g, rows, of, Some((others, labels_o.into())), options);
        let message = refused.unwrap_err().to_string();
        assert!(message.starts_with("contrastive_hvp: "), "{message}");
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    }
}
