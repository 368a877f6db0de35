//! The case table: every op's gradient against finite differences on the oracle, and the f32
//! device against the oracle.

use crate::table::{CPU, bits, fault, faults};
use etude::cases::{Case, Role};

/// Central differences in f64 with h = 1e-6 carry h² of truncation and 1e-16/h of rounding.
const GRADIENT: f64 = 1e-6;

#[test]
fn gradients_match_finite_differences() {
    let differentiable = |case: &Case| case.inputs.iter().any(|i| i.role == Role::Grad);
    faults(|_, case| match differentiable(case).then(|| case.gradient_error())? {
        Ok(e) if e <= GRADIENT => None,
        Ok(e) => Some(format!("{e:e}")),
        Err(e) => Some(e.to_string()),
    });
}

#[test]
fn f32_matches_the_oracle_on_one_and_three_threads() {
    let [one, three] = &CPU;
    faults(|i, _| fault(i, &one[i]).or_else(|| fault(i, &three[i])));
}

#[test]
fn threads_do_not_change_a_bit() {
    let [one, three] = &CPU;
    faults(|i, _| {
        let [one, three] = [&one[i], &three[i]].map(|o| bits(o.as_ref().unwrap()));
        (one != three).then(|| "differs".into())
    });
}

#[test]
fn every_kernel_is_named_after_its_stem_and_found_by_name() {
    for (stem, kernels) in etude::kernels::REGISTRY {
        for kernel in *kernels {
            assert!(kernel.name.starts_with(stem), "{} is not of stem {stem}", kernel.name);
            assert!(
                std::ptr::eq(etude::kernels::by_name(kernel.name).unwrap(), *kernel),
                "{} twice",
                kernel.name
            );
        }
    }
}
