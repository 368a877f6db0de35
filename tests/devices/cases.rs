//! The case table: every op's gradient against finite differences on the oracle, and the f32
//! device against the oracle.

use etude::cases;
use etude::device::Cpu;

/// Central differences in f64 with h = 1e-6 carry h² of truncation and 1e-16/h of rounding.
const GRADIENT: f64 = 1e-6;

fn report(faults: Vec<String>, cases: usize) {
    assert!(faults.is_empty(), "{} of {cases} cases:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn gradients_match_finite_differences() {
    let mut faults = Vec::new();
    let table: Vec<_> =
        cases::all().into_iter().filter(|c| c.inputs.iter().any(|i| i.role == cases::Role::Grad)).collect();
    for case in &table {
        match case.gradient_error() {
            Ok(e) if e <= GRADIENT => {}
            Ok(e) => faults.push(format!("{} {}: {e:e}", case.stem, case.name)),
            Err(e) => faults.push(format!("{} {}: {e}", case.stem, case.name)),
        }
    }
    report(faults, table.len());
}

#[test]
fn f32_matches_the_oracle_on_one_and_three_threads() {
    let devices = [Cpu::<f32>::new(1).unwrap(), Cpu::<f32>::new(3).unwrap()];
    let mut faults = Vec::new();
    let table = cases::all();
    for case in &table {
        for device in &devices {
            match case.parity(device) {
                Ok((e, _)) if e <= case.tolerance => {}
                Ok((e, at)) => {
                    faults.push(format!(
                        "{} {}: {e:e} at {at}, over {:e}",
                        case.stem, case.name, case.tolerance
                    ));
                }
                Err(e) => faults.push(format!("{} {}: {e}", case.stem, case.name)),
            }
        }
    }
    report(faults, table.len());
}

#[test]
fn threads_do_not_change_a_bit() {
    let (one, three) = (Cpu::<f32>::new(1).unwrap(), Cpu::<f32>::new(3).unwrap());
    for case in cases::all() {
        assert_eq!(case.run(&one).unwrap(), case.run(&three).unwrap(), "{} {}", case.stem, case.name);
    }
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
