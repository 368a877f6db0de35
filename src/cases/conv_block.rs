use super::{Case, Input, Role, uniform};
use crate::ops::conv_block::{ConvBlock, Features, Mode, conv_block, mean_over_time};

/// Taps and stride of a layer, and its output channels.
type Layer = (usize, usize, usize);

/// A stack of layers over `[batch, cin, t]` and the pooled embedding.
fn stack(batch: usize, cin: usize, t: usize, layers: &'static [Layer], masked: bool, mode: Mode) -> Case {
    let mut inputs = vec![Input::normal(1, &[batch.div_ceil(16), cin, t, 16])];
    let mut channels = cin;
    for (i, &(cout, k, _)) in layers.iter().enumerate() {
        let seed = 10 * (i as u64 + 1);
        let values = |seed, from: f64| uniform(seed, cout).into_iter().map(|v| from + v).collect::<Vec<_>>();
        inputs.push(Input::normal(seed, &[cout, channels, k]));
        inputs.push(Input::real(&[cout], values(seed + 1, 0.5), Role::Grad));
        inputs.push(Input::real(&[cout], values(seed + 2, -0.5), Role::Grad));
        inputs.push(Input::real(&[cout], values(seed + 3, -0.5), Role::State));
        inputs.push(Input::real(&[cout], values(seed + 4, 0.5), Role::State));
        channels = cout;
    }
    if masked {
        let lengths = (0..batch).map(|b| (1 + b * 7 % 5) as f64).collect();
        inputs.push(Input::real(&[batch], lengths, Role::Constant));
    }
    if mode == Mode::Eval {
        // Evaluation has no backward.
        for input in &mut inputs {
            input.role = Role::Constant;
        }
    }
    let name = format!("{mode:?} b{batch} c{cin} t{t} {layers:?}{}", if masked { " masked" } else { "" });
    Case::new("conv_block", name, inputs, move |g, v| {
        let mut x = Features::input(g, v[0], batch)?;
        for (i, &(_, _, stride)) in layers.iter().enumerate() {
            let [weight, gamma, beta, running_mean, running_var] = std::array::from_fn(|j| v[1 + 5 * i + j]);
            let layer = ConvBlock {
                weight,
                gamma,
                beta,
                running_mean,
                running_var,
                stride,
                eps: 1e-5,
                momentum: 0.1,
            };
            x = conv_block(g, x, &layer, mode)?;
        }
        mean_over_time(g, x, masked.then(|| v[v.len() - 1]))
    })
    .within(
        3e-5,
        "three normalised layers: each divides by a spread that itself carries f32 sums, \
         and a ReLU at its kink may flip",
    )
}

/// The same over an input that takes no gradient, as the network's own.
fn constant_input(mut case: Case) -> Case {
    case.inputs[0].role = Role::Constant;
    case.name += " x constant";
    case
}

/// The same with a NaN in input `place`: no activation may make 0 of it.
fn not_a_number(mut case: Case, place: usize, what: &str) -> Case {
    case.inputs[place] = case.inputs[place].clone().but(0, f64::NAN);
    case.inputs.iter_mut().for_each(|input| input.role = Role::Constant);
    case.name += &format!(" NaN in {what}");
    case
}

pub fn cases() -> Vec<Case> {
    const PAPER: &[Layer] = &[(4, 7, 3), (8, 7, 3), (16, 7, 3)];
    const RECIPE: &[Layer] = &[(32, 7, 2), (64, 5, 2)];
    // Weights beyond what a tile of a shader holds at once: many channels, many taps, both.
    const WIDE: &[Layer] = &[(70, 9, 1), (37, 13, 2), (41, 1, 3)];
    const LONG: &[Layer] = &[(2, 600, 7), (3, 11, 1)];
    vec![
        stack(2, 1, 1, &[(1, 1, 1)], false, Mode::Train).within(
            1e-2,
            "two values normalise to -1 and 1 whatever they are: the gradient left over is eps/variance of the terms that cancel",
        ),
        stack(5, 1, 9, &[(3, 2, 1)], false, Mode::Train),
        stack(16, 2, 31, &[(5, 3, 2), (7, 4, 1)], true, Mode::Train),
        stack(17, 3, 23, &[(9, 2, 5)], false, Mode::Train),
        stack(33, 2, 40, &[(12, 5, 3), (11, 3, 2)], true, Mode::Train),
        stack(20, 1, 200, PAPER, false, Mode::Train),
        stack(20, 1, 200, PAPER, true, Mode::Eval),
        stack(35, 14, 40, RECIPE, false, Mode::Train),
        constant_input(stack(35, 14, 40, RECIPE, false, Mode::Train)),
        stack(18, 3, 37, WIDE, false, Mode::Train),
        constant_input(stack(5, 70, 19, &[(33, 10, 4)], true, Mode::Train)),
        stack(3, 2, 700, LONG, false, Mode::Train),
        not_a_number(stack(20, 1, 200, PAPER, true, Mode::Eval), 0, "one sample"),
        not_a_number(stack(20, 1, 200, PAPER, false, Mode::Eval), 1, "a weight"),
        not_a_number(stack(20, 2, 31, &[(5, 3, 2)], false, Mode::Train), 1, "a weight"),
        not_a_number(stack(33, 2, 40, &[(12, 5, 3), (11, 3, 2)], true, Mode::Train), 7, "a gamma"),
        stack(64, 1, 1000, PAPER, false, Mode::Train).timed(),
    ]
}
