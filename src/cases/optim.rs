use super::case::{Case, Input, Role, normal};
use crate::ops::optim::{Adam, Sgd, adam, sgd};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for n in [1, 257, 40_009] {
        let real = |seed, role| Input::real(&[n], normal(seed, n), role);
        let hyper = || Input::real(&[3], vec![0.05, 0.271, 0.002_996], Role::Constant);
        for options in [Sgd { momentum: 0.0, weight_decay: 0.0 }, Sgd { momentum: 0.9, weight_decay: 0.01 }] {
            let inputs = vec![hyper(), real(1, Role::Constant), real(2, Role::State), real(3, Role::State)];
            let case =
                Case::new("optim", format!("sgd momentum {} n{n}", options.momentum), inputs, move |g, v| {
                    sgd(g, v[2], v[1], v[3], v[0], options)?;
                    Ok(v[2])
                });
            cases.push(if n > 10_000 { case.timed() } else { case });
        }
        for decoupled in [false, true] {
            let options = Adam { weight_decay: 0.01, decoupled, ..Adam::default() };
            let second =
                Input::real(&[n], normal(4, n).into_iter().map(|v| 1e-3 * v * v).collect(), Role::State);
            let inputs =
                vec![hyper(), real(1, Role::Constant), real(2, Role::State), real(3, Role::State), second];
            let case = Case::new("optim", format!("adam decoupled {decoupled} n{n}"), inputs, move |g, v| {
                adam(g, v[2], v[1], [v[3], v[4]], v[0], options)?;
                Ok(v[2])
            });
            cases.push(if n > 10_000 { case.timed() } else { case });
        }
    }
    cases
}
