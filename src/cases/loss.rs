use super::case::{Case, Input, Role, uniform};
use crate::Result;
use crate::graph::{Graph, Var};
use crate::ops::loss::{LossOptions, bce, bce_with_logits, mse, mse_weighted};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for n in [1, 7, 512, 10_007] {
        let weight = if n == 7 { 0.3 } else { 1.0 };
        let options = LossOptions { weight };
        let target = || Input::real(&[n], uniform(2, n), Role::Constant);
        let logits = || Input::normal(1, &[n]);
        // Away from 0 and 1, where a central difference of the logarithm is itself inaccurate.
        let probability =
            Input::real(&[n, 1], uniform(3, n).into_iter().map(|p| 0.05 + 0.9 * p).collect(), Role::Grad);
        let add = |cases: &mut Vec<Case>, case: Case| {
            cases.push(if n > 1000 { case.timed() } else { case });
        };
        add(
            &mut cases,
            Case::new("loss", format!("mse n{n} weight {weight}"), vec![logits(), target()], move |g, v| {
                mse(g, v[0], v[1], options)
            }),
        );
        let weights = || {
            // A third of them masked.
            let kept = |(i, w): (usize, f64)| if i % 3 == 1 { 0.0 } else { w };
            Input::real(&[n], uniform(5, n).into_iter().enumerate().map(kept).collect(), Role::Constant)
        };
        add(
            &mut cases,
            Case::new(
                "loss",
                format!("mse_weighted n{n} weight {weight}"),
                vec![logits(), target(), weights()],
                move |g, v| mse_weighted(g, v[0], v[1], v[2], options),
            ),
        );
        add(
            &mut cases,
            Case::new(
                "loss",
                format!("bce n{n} weight {weight}"),
                vec![probability, target()],
                move |g, v| bce(g, v[0], v[1], options),
            ),
        );
        add(
            &mut cases,
            Case::new(
                "loss",
                format!("bce_with_logits n{n} weight {weight}"),
                vec![logits(), target()],
                move |g, v| bce_with_logits(g, v[0], v[1], options),
            ),
        );
    }
    for (what, loss) in [
        ("mse", mse as fn(&mut Graph, Var, Var, LossOptions) -> Result<Var>),
        ("bce", bce),
        ("bce_with_logits", bce_with_logits),
    ] {
        let x = Input::real(&[1500], uniform(3, 1500), Role::Constant).but(1499, f64::NAN);
        let target = Input::real(&[1500], uniform(4, 1500), Role::Constant);
        cases.push(Case::new("loss", format!("{what} of NaN"), vec![x, target], move |g, v| {
            loss(g, v[0], v[1], LossOptions::default())
        }));
    }
    // A number that is none shows where it counts, and nowhere else.
    for (what, at) in [("counts", 3), ("is masked", 4)] {
        let bad = |seed: u64| Input::real(&[1500], uniform(seed, 1500), Role::Constant).but(at, f64::NAN);
        let weights = Input::real(&[1500], vec![1.0; 1500], Role::Constant).but(4, 0.0);
        let inputs = vec![bad(3), bad(4), weights];
        cases.push(Case::new("loss", format!("mse_weighted of NaN that {what}"), inputs, |g, v| {
            mse_weighted(g, v[0], v[1], v[2], LossOptions::default())
        }));
    }
    let both = vec![Input::normal(1, &[7, 1]), Input::normal(2, &[7])];
    cases.push(Case::new("loss", "mse n7 both sides", both, |g, v| {
        mse(g, v[0], v[1], LossOptions::default())
    }));
    cases
}
