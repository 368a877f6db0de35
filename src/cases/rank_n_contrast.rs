use super::case::{Case, Input, Role, normal, uniform};
use crate::kernel::Elem;
use crate::ops::rank_n_contrast::{in_blocks, rank_n_contrast, rows_in_blocks};

/// Labels on a grid of so many values, so that some are equal, or none are.
fn labels(seed: u64, n: usize, values: Option<u32>) -> Input {
    let labels = uniform(seed, n).into_iter();
    let labels = labels.map(|y| values.map_or(y, |values| (y * f64::from(values)).floor() - 1.0));
    Input::real(&[n], labels.collect(), Role::Constant)
}

/// Why a loss of logarithms of sums may be off by more than sums.
const LOGARITHMS: &str =
    "exponentials of up to a few hundred, rounded in their argument, and of logarithms of sums of such";

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (n, d, values, temperature) in [
        (2, 1, None, 2.0),
        (3, 4, Some(1), 1.0),
        (17, 5, None, 2.0),
        (65, 16, Some(5), 0.5),
        (150, 33, None, 0.25),
    ] {
        let inputs = || vec![Input::normal(1, &[n, d]), labels(2, n, values)];
        let values = values.map_or("labels that differ".to_owned(), |values| format!("{values} labels"));
        let name = format!("n{n} d{d} {values} t {temperature}");
        let case = Case::new("rank_n_contrast", &name, inputs(), move |g, v| {
            rank_n_contrast(g, v[0], v[1], temperature)
        });
        cases.push(case.within(2e-5, LOGARITHMS));
        if n > 100 {
            let case =
                Case::new("rank_n_contrast", format!("{name}, in blocks of 64"), inputs(), move |g, v| {
                    in_blocks(g, v[0], v[1], temperature, 64)
                });
            cases.push(case.within(2e-5, LOGARITHMS).with_homes());
        }
    }
    // The loss alone; rows of 16 bits.
    let constant = |z: Input| Input { role: Role::Constant, ..z };
    let of_rows = |z: Input| vec![z, labels(4, 40, Some(9))];
    for (name, z) in [
        ("no gradient", constant(Input::normal(3, &[40, 8]))),
        ("f16", Input::normal(3, &[40, 8]).stored(Elem::F16)),
        ("bf16", Input::normal(3, &[40, 8]).stored(Elem::Bf16)),
    ] {
        let case = Case::new("rank_n_contrast", format!("n40 d8 {name}"), of_rows(z), |g, v| {
            rank_n_contrast(g, v[0], v[1], 2.0)
        });
        cases.push(case.within(2e-5, LOGARITHMS));
    }
    // Rows so far apart that exponentials of their distances are nothing; rows that are equal.
    let far = normal(5, 30 * 6).into_iter().enumerate().map(|(i, v)| v + (100 * (i / 60)) as f64).collect();
    let mut twice = normal(6, 30 * 6);
    twice.copy_within(..60, 60);
    for (name, z) in [("far apart", far), ("rows that are equal", twice)] {
        let inputs = vec![Input::real(&[30, 6], z, Role::Grad), labels(7, 30, Some(11))];
        let case = Case::new("rank_n_contrast", format!("n30 d6 {name}"), inputs, |g, v| {
            rank_n_contrast(g, v[0], v[1], 0.5)
        });
        cases.push(case.within(1e-4, LOGARITHMS));
    }
    // The loss of each anchor.
    for (n, d, values, of_block) in [(2, 3, None, 2), (70, 6, Some(9), 32)] {
        let inputs = vec![Input::normal(1, &[n, d]), labels(2, n, values)];
        let name = format!("of rows n{n} d{d} in blocks of {of_block}");
        let case = Case::new("rank_n_contrast", name, inputs, move |g, v| {
            rows_in_blocks(g, v[0], v[1], 0.5, of_block)
        });
        cases.push(case.within(2e-5, LOGARITHMS).with_homes());
    }
    let inputs = vec![Input::normal(8, &[512, 16]), labels(9, 512, None)];
    let name = "n512 d16 labels that differ t 2";
    let case = Case::new("rank_n_contrast", name, inputs, |g, v| rank_n_contrast(g, v[0], v[1], 2.0));
    cases.push(case.within(2e-5, LOGARITHMS).timed());
    cases
}
