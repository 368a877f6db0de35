use super::{Case, Input, Role, uniform};
use crate::ops::contrastive::{
    ContrastiveOptions, Metric, contrastive, contrastive_cross, contrastive_halves,
};

const METRICS: [Metric; 2] = [Metric::Euclidean, Metric::Cosine];

/// Integer labels of five bins.
fn binned(seed: u64, n: usize) -> Input {
    Input::real(&[n], uniform(seed, n).iter().map(|y| (5.0 * y).floor()).collect(), Role::Constant)
}

/// Ratings as they are.
fn continuous(seed: u64, n: usize) -> Input {
    Input::real(&[n], uniform(seed, n), Role::Constant)
}

fn name(what: &str, n: usize, d: usize, o: ContrastiveOptions) -> String {
    format!("{what} n{n} d{d} {:?} margin {} tau {} weight {}", o.metric, o.margin, o.tau, o.weight)
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for metric in METRICS {
        for (n, d) in [(2, 1), (3, 2), (7, 5), (17, 16), (64, 16), (67, 31), (130, 130)] {
            let opts = ContrastiveOptions { metric, ..Default::default() };
            let seed = (n * 1000 + d) as u64;
            let z = || Input::normal(seed, &[n, d]);
            let all = |what, labels, opts| {
                Case::new("contrastive", name(what, n, d, opts), vec![z(), labels], move |g, v| {
                    contrastive(g, v[0], v[1], opts)
                })
            };
            cases.push(all("all binned", binned(seed + 1, n), opts));
            let opts = ContrastiveOptions { margin: 2.0, tau: 0.2, weight: 0.3, ..opts };
            cases.push(all("all continuous", continuous(seed + 2, n), opts));
            let pairing = (0..n as u32).rev().collect();
            cases.push(Case::new(
                "contrastive",
                name("halves", n, d, opts),
                vec![z(), continuous(seed + 3, n), Input::index(&[n], pairing)],
                move |g, v| contrastive_halves(g, v[0], v[1], v[2], opts),
            ));
            let m = n / 2 + 1;
            cases.push(Case::new(
                "contrastive",
                name("cross", n, d, opts),
                vec![z(), continuous(seed + 4, n), Input::normal(seed + 5, &[m, d]), continuous(seed + 6, m)],
                move |g, v| contrastive_cross(g, v[0], v[1], v[2], v[3], opts),
            ));
        }
    }
    cases
}
