//! Gradients of ops with random shapes and options, on the oracle.

use etude::cases::{Case, Input, Role, normal, uniform};
use etude::ops::batch_norm::{BatchNormOptions, BatchNormVars, Mode, batch_norm};
use etude::ops::linear::{Activation, linear};
use etude::ops::pool::{masked_mean_time, mean_time};
use proptest::prelude::*;

/// As in the case table: truncation and rounding of central differences.
const GRADIENT: f64 = 1e-6;

/// Coarse, as a random sum may cancel to a small part of its terms; a wrong index is off by about 1.
const F32: f64 = 1e-2;

fn constant_if(constant: bool, input: Input) -> Input {
    if constant { Input { role: Role::Constant, ..input } } else { input }
}

fn check(case: &Case) -> Result<(), TestCaseError> {
    let error = case.gradient_error().map_err(|e| TestCaseError::fail(format!("{}: {e}", case.name)))?;
    prop_assert!(error <= GRADIENT, "{}: {error:e}", case.name);
    let device = etude::device::Cpu::<f32>::new(1).map_err(|e| TestCaseError::fail(e.to_string()))?;
    let (error, at) = case.parity(&device).map_err(|e| TestCaseError::fail(e.to_string()))?;
    prop_assert!(error <= F32, "{}: f32 off by {error:e} at {at}", case.name);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn linear_of_any_shape(
        b in 1usize..150, i in 1usize..40, o in 1usize..20, sigmoid: bool, bias: bool,
        frozen in 0usize..3, seed: u64,
    ) {
        // Not relu: among thousands of random outputs some are within a finite difference of its kink.
        let activation = if sigmoid { Activation::Sigmoid } else { Activation::None };
        let mut inputs = vec![
            constant_if(frozen == 1, Input::normal(seed, &[b, i])),
            constant_if(frozen == 2, Input::normal(seed ^ 1, &[o, i])),
        ];
        if bias {
            inputs.push(Input::normal(seed ^ 2, &[o]));
        }
        let name = format!("{b} {i} {o} {activation:?} bias {bias} frozen {frozen} seed {seed}");
        let case = Case::new("linear", name, inputs, move |g, v| {
            linear(g, v[0], v[1], v.get(2).copied(), activation)
        });
        check(&case)?;
    }

    #[test]
    fn batch_norm_of_any_shape(
        b in 1usize..20, c in 1usize..12, inner in proptest::collection::vec(1usize..9, 0..3),
        train: bool, momentum in 0f32..1.0, seed: u64,
    ) {
        // Fewer than three values a channel are a case of their own.
        prop_assume!(b * inner.iter().product::<usize>() > 4);
        let mut shape = vec![b, c];
        shape.extend(inner);
        let mode = if train { Mode::Train } else { Mode::Eval };
        let options = BatchNormOptions { mode, momentum, eps: 1e-3 };
        let state = if train { Role::State } else { Role::Constant };
        let inputs = vec![
            Input::normal(seed, &shape),
            Input::normal(seed ^ 1, &[c]),
            Input::normal(seed ^ 2, &[c]),
            Input::real(&[c], normal(seed ^ 3, c), state),
            Input::real(&[c], uniform(seed ^ 4, c).into_iter().map(|v| 0.5 + v).collect(), state),
        ];
        let name = format!("{shape:?} {mode:?} seed {seed}");
        let case = Case::new("batch_norm", name, inputs, move |g, v| {
            let vars = BatchNormVars { gamma: v[1], beta: v[2], running_mean: v[3], running_var: v[4] };
            batch_norm(g, v[0], vars, options)
        });
        check(&case)?;
    }

    #[test]
    fn means_of_any_shape(
        b in 1usize..12, c in 1usize..9, t in 1usize..600, masked: bool, seed: u64,
    ) {
        let mut inputs = vec![Input::normal(seed, &[b, c, t])];
        if masked {
            let lengths = uniform(seed ^ 1, b).into_iter().map(|u| (u * 1.2 * t as f64) as u32).collect();
            inputs.push(Input::index(&[b], lengths));
        }
        let case = Case::new("pool", format!("{b} {c} {t} masked {masked} seed {seed}"), inputs, move |g, v| {
            if masked { masked_mean_time(g, v[0], v[1]) } else { mean_time(g, v[0]) }
        });
        check(&case)?;
    }
}
