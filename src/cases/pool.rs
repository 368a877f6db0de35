use super::case::{Case, Input};
use crate::ops::pool::{masked_mean_time, mean_time};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (b, c, t) in [(1, 1, 1), (3, 5, 7), (2, 3, 257), (17, 13, 35), (512, 16, 34)] {
        let x = || Input::normal(1, &[b, c, t]);
        // 0, 1, T, beyond T and others.
        let lengths: Vec<u32> =
            (0..b as u32).map(|i| [t as u32, 0, 1, t as u32 / 2 + 1, t as u32 + 9][i as usize % 5]).collect();
        let mean = Case::new("pool", format!("mean b{b} c{c} t{t}"), vec![x()], |g, v| mean_time(g, v[0]));
        let masked = Case::new(
            "pool",
            format!("masked mean b{b} c{c} t{t}"),
            vec![x(), Input::index(&[b], lengths)],
            |g, v| masked_mean_time(g, v[0], v[1]),
        );
        for case in [mean, masked] {
            cases.push(if b > 100 { case.timed() } else { case });
        }
    }
    let x = Input::normal(1, &[3, 5, 40]).but(577, f64::NAN);
    cases.push(Case::new("pool", "mean of NaN", vec![x.clone()], |g, v| mean_time(g, v[0])));
    let lengths = Input::index(&[3], vec![40, 7, 30]);
    cases.push(Case::new("pool", "masked mean of NaN", vec![x, lengths], |g, v| {
        masked_mean_time(g, v[0], v[1])
    }));
    cases
}
