use super::case::{Case, Input, Role, normal};
use crate::ops::feed::{FeedVars, feed};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (steps, step, reals, words) in
        [(1, 0, 1, 1), (2, 0, 255, 257), (2, 1, 64, 3), (7, 3, 131, 1025), (7, 6, 1025, 64), (3, 2, 513, 5)]
    {
        let word = |i: usize| (i * 7919 % words) as u32;
        let inputs = vec![
            Input::real(&[1], normal(1, 1), Role::Constant),
            Input::real(&[steps, reals], normal(2, steps * reals), Role::Constant),
            Input::index(&[steps, words], (0..steps * words).map(word).collect()),
            Input { role: Role::State, ..Input::index(&[1], vec![step]) },
            Input::real(&[steps], normal(3, steps), Role::State),
            Input::real(&[reals], vec![0.0; reals], Role::State),
            Input { role: Role::State, ..Input::index(&[words], vec![0; words]) },
        ];
        let name = format!("next s{steps} at{step} reals{reals} words{words}");
        let case = Case::new("feed", name, inputs, |g, v| {
            let [loss, real_table, word_table, step, losses, reals, words] =
                [0, 1, 2, 3, 4, 5, 6].map(|i| v[i]);
            // Twice, so that a step begins where the one before left the counter.
            for _ in 0..2 {
                feed(g, loss, FeedVars { real_table, word_table, step, losses, reals, words })?;
            }
            Ok(reals)
        });
        cases.push(case.within(0.0, "copies"));
    }
    cases
}
