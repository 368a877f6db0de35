//! The case table on a real Vulkan device against the f64 oracle, outputs poisoned first.

use crate::gpu;
use crate::table::{WGPU, bits, fault, faults};
use etude::cases::{Case, Input, Role, uniform};
use etude::device::Device;
use etude::graph::{Graph, Var};
use etude::kernel::Elem;
use etude::kernels::REGISTRY;
use etude::kernels::source::shader;
use etude::ops::batch_norm::{BatchNormOptions, BatchNormVars, batch_norm};
use etude::ops::contrastive::contrastive_halves;
use etude::ops::linear::{Activation, linear};
use etude::ops::loss::{LossOptions, bce, bce_with_logits, mse};
use etude::ops::pool::mean_time;

/// Stems without a shader. Must shrink to nothing.
const MISSING: &[&str] = &[];

/// Why a single channel's gradients are not more accurate.
const ONE_CHANNEL: &str = "the gradient of gamma is one sum, of 16,065 terms that cancel to 2.9 at worst: \
                           1e-7 of the root of their squares is 5e-6 of it, before their own errors";

#[test]
fn the_list_of_missing_shaders_is_exact() {
    for (stem, kernels) in REGISTRY {
        let have = shader(stem, Elem::Real).is_some();
        assert_eq!(have, !MISSING.contains(stem), "{stem}: update MISSING");
        for kernel in kernels.iter().filter(|_| have) {
            // WGSL has no bf16.
            let can = kernel.stored() != Elem::Bf16;
            assert_eq!(!kernel.workgroups.is_empty(), can, "{}: `groups`", kernel.name);
        }
    }
}

#[test]
fn every_case_matches_the_oracle() {
    let device = gpu::wgpu();
    let f16 = device.alloc(Elem::F16, 1).is_ok();
    assert!(f16 || !device.adapter_name().contains("llvmpipe"), "Mesa has f16");
    faults(|i, case| match &WGPU.runs[0][i] {
        _ if MISSING.contains(&case.stem) => None,
        // A type that is not there is refused, and the message says what to do.
        Err(e) if case.stores(Elem::Bf16) && e.to_string().contains("has no bf16") => None,
        Err(e) if case.stores(Elem::F16) && !f16 && e.to_string().contains("has no f16") => None,
        Ok(_) if case.stores(Elem::Bf16) => Some("WGSL has no bf16".into()),
        outcome => fault(i, outcome),
    });
}

#[test]
fn a_run_repeats_bit_for_bit() {
    let device = gpu::wgpu();
    faults(|i, case| {
        if MISSING.contains(&case.stem) || !gpu::holds(&device, case) {
            return None;
        }
        let [a, b] = [0, 1].map(|run| bits(WGPU.runs[run][i].as_ref().unwrap()));
        (a != b).then(|| "differs".into())
    });
}

#[test]
fn odd_shapes_match_the_oracle() {
    let device = gpu::wgpu();
    // Around the tile of 32, the workgroup of 256, the span of 1024, and in between.
    let sizes = [1, 2, 3, 7, 31, 32, 33, 63, 65, 127, 255, 256, 257, 331];
    let pick = |i: usize| sizes[i % sizes.len()];
    let mut faults = Vec::new();
    let mut check = |case: Case| match case.parity(&device) {
        Ok((e, _)) if e <= case.tolerance => {}
        Ok((e, at)) => faults.push(format!("{}: {e:e} at {at}, over {:e}", case.name, case.tolerance)),
        Err(e) => faults.push(format!("{}: {e}", case.name)),
    };
    for i in 0..28 {
        let (b, n, o) = (pick(i), pick(3 * i + 5), pick(5 * i + i / 14 + 2));
        let inputs = vec![Input::normal(1, &[b, n]), Input::normal(2, &[o, n]), Input::normal(3, &[o])];
        check(Case::new("linear", format!("linear b{b} i{n} o{o}"), inputs, |g, v| {
            linear(g, v[0], v[1], Some(v[2]), Activation::None)
        }));
        let c = 1 + i % 5;
        let x = || Input::normal(4, &[b, c, n]);
        check(Case::new("pool", format!("mean b{b} c{c} t{n}"), vec![x()], |g, v| mean_time(g, v[0])));
        let target = Input::real(&[b, c, n], uniform(5, b * c * n), Role::Constant);
        check(Case::new("loss", format!("mse {b} {c} {n}"), vec![x(), target], |g, v| {
            mse(g, v[0], v[1], LossOptions::default())
        }));
        if b * n > 2 {
            let state = |seed| Input::real(&[c], uniform(seed, c), Role::State);
            let inputs = vec![x(), Input::normal(6, &[c]), Input::normal(7, &[c]), state(8), state(9)];
            let case = Case::new("batch_norm", format!("batch norm b{b} c{c} s{n}"), inputs, |g, v| {
                let vars = BatchNormVars { gamma: v[1], beta: v[2], running_mean: v[3], running_var: v[4] };
                batch_norm(g, v[0], vars, BatchNormOptions::default())
            });
            check(if c == 1 { case.within(2e-5, ONE_CHANNEL) } else { case });
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// A training run that has come apart must not look like one that goes on: comparisons and bounds let no NaN slip.
#[test]
fn what_is_no_number_stays_none() {
    let device = gpu::wgpu();
    let run = |case: Case| case.run(&device).unwrap();
    // The last of more terms than a workgroup has.
    let column = |role, last| {
        let mut values = vec![0.25; 1500];
        *values.last_mut().unwrap() = last;
        Input::real(&[1500], values, role)
    };
    for (name, loss) in [
        ("mse", mse as fn(&mut Graph, Var, Var, LossOptions) -> etude::Result<Var>),
        ("bce", bce),
        ("bce_logits", bce_with_logits),
    ] {
        let inputs = vec![column(Role::Grad, f64::NAN), column(Role::Constant, 0.5)];
        let outcome =
            run(Case::new("loss", name, inputs, move |g, v| loss(g, v[0], v[1], LossOptions::default())));
        let ends = outcome.iter().map(|(_, values)| values.last().unwrap());
        assert!(outcome.len() == 2 && ends.into_iter().all(|v| v.is_nan()), "{name}: {:?}", outcome[0]);
    }
    let inputs = vec![Input::real(&[1, 2], vec![f64::NAN, 1.0], Role::Constant), Input::normal(1, &[3, 2])];
    let outcome =
        run(Case::new("linear", "relu", inputs, |g, v| linear(g, v[0], v[1], None, Activation::Relu)));
    assert!(outcome[0].1.iter().all(|v| v.is_nan()), "{:?}", outcome[0]);
    // A pairing that names a row twice, far from the first workgroup's rows.
    for n in [20, 200] {
        let mut pairing: Vec<u32> = (0..n).collect();
        pairing[n as usize - 1] = pairing[n as usize - 2];
        let n = n as usize;
        let labels = Input::real(&[n], uniform(2, n), Role::Constant);
        let inputs = vec![Input::normal(1, &[n, 3]), labels, Input::index(&[n], pairing)];
        let outcome = run(Case::new("contrastive", "halves", inputs, |g, v| {
            contrastive_halves(g, v[0], v[1], v[2], Default::default())
        }));
        assert!(outcome[0].1[0].is_nan(), "{n}: {:?}", outcome[0]);
    }
}
