use super::case::{Case, Input, Role, normal, uniform};
use crate::ops::batch_norm::{BatchNormOptions, BatchNormVars, Mode, batch_norm};

/// Why the gradient of two values a channel is not more accurate.
const TWO: &str = "normalised, two values are -1 and 1 whatever they were: the gradient is what eps leaves \
                   of a difference of equals, 1e-5 of its terms";

fn case(name: String, x: Input, options: BatchNormOptions) -> Case {
    let c = x.shape[1];
    let state = if options.mode == Mode::Train { Role::State } else { Role::Constant };
    let inputs = vec![
        x,
        Input::normal(2, &[c]),
        Input::normal(3, &[c]),
        Input::real(&[c], normal(4, c), state),
        Input::real(&[c], uniform(5, c).into_iter().map(|v| 0.5 + v).collect(), state),
    ];
    Case::new("batch_norm", name, inputs, move |g, v| {
        let vars = BatchNormVars { gamma: v[1], beta: v[2], running_mean: v[3], running_var: v[4] };
        batch_norm(g, v[0], vars, options)
    })
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let shapes: &[&[usize]] =
        &[&[2, 1], &[5, 7], &[1, 3, 2], &[3, 5, 257], &[2, 3, 5, 7], &[513, 16], &[512, 4, 331]];
    for mode in [Mode::Train, Mode::Eval] {
        for &shape in shapes {
            let options = if shape.len() == 4 {
                BatchNormOptions { mode, eps: 1e-3, momentum: 0.3 }
            } else {
                BatchNormOptions { mode, ..BatchNormOptions::default() }
            };
            let case = case(format!("{mode:?} {shape:?}").to_lowercase(), Input::normal(1, shape), options);
            let values: usize = shape.iter().product::<usize>() / shape[1];
            cases.push(match (values, mode) {
                (2, Mode::Train) => case.within(5e-3, TWO),
                (_, _) if shape[0] == 512 => case.timed(),
                _ => case,
            });
        }
    }
    let n = 4 * 3 * 101;
    let far = normal(1, n).into_iter().map(|v| 1e3 + v).collect();
    cases.push(case(
        "train mean 1e3 sd 1".into(),
        Input::real(&[4, 3, 101], far, Role::Grad),
        BatchNormOptions::default(),
    ));
    cases
}
