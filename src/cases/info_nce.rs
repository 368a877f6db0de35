use super::case::{Case, Input, Role, normal, uniform};
use crate::kernel::Elem;
use crate::ops::info_nce::{InfoNceOptions, in_blocks, info_nce, info_nce_rows, rows_in_blocks};

/// Labels on a grid of so many values, so that some are equal, or none are.
fn labels(seed: u64, n: usize, values: Option<u32>) -> Input {
    let labels = uniform(seed, n).into_iter();
    let labels = labels.map(|y| values.map_or(y, |values| (y * f64::from(values)).floor() - 1.0));
    Input::real(&[n], labels.collect(), Role::Constant)
}

/// Why a loss of logarithms of sums may be off by more than sums.
const EXPONENTS: &str = "exponents of up to a hundred, rounded before the exponential is taken of them";

fn options(sigma: f32, temperature: f32) -> InfoNceOptions {
    InfoNceOptions { sigma, temperature }
}

fn of_one_set(name: String, [z, labels]: [Input; 2], options: InfoNceOptions) -> Case {
    let of_one = move |g: &mut _, v: &[_]| info_nce(g, v[0], v[1], None, options);
    Case::new("info_nce", name, vec![z, labels], of_one).within(2e-5, EXPONENTS)
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (n, d, values, sigma, temperature) in [
        (2, 1, None, 0.5, 0.5),
        (3, 4, Some(1), 1.0, 0.1),
        (17, 5, None, 0.2, 0.1),
        (33, 8, None, 0.01, 1.0),
        (65, 16, Some(5), 0.5, 0.05),
        (150, 33, None, 0.1, 0.1),
    ] {
        let inputs = || [Input::normal(1, &[n, d]), labels(2, n, values)];
        let values = values.map_or("labels that differ".to_owned(), |values| format!("{values} labels"));
        let name = format!("n{n} d{d} {values} s {sigma} t {temperature}");
        let options = options(sigma, temperature);
        cases.push(of_one_set(name.clone(), inputs(), options));
        if n > 100 {
            let name = format!("{name}, in blocks of 64");
            let of_blocks = move |g: &mut _, v: &[_]| in_blocks(g, (v[0], v[1]), None, options, 64);
            let case = Case::new("info_nce", name, inputs().into(), of_blocks);
            cases.push(case.within(2e-5, EXPONENTS).with_homes());
        }
    }
    // Two sets; the second without a gradient; in blocks.
    let constant = |z: Input| Input { role: Role::Constant, ..z };
    for (n, m, name) in
        [(1, 1, ""), (1, 20, ""), (40, 7, ""), (9, 300, ", others without a gradient"), (100, 50, "")]
    {
        let others = Input::normal(3, &[m, 6]);
        let others = if name.is_empty() { others } else { constant(others) };
        let inputs = vec![Input::normal(4, &[n, 6]), labels(5, n, None), others, labels(6, m, None)];
        let of_two = move |g: &mut _, v: &[_]| {
            let of_block = if n == 100 { 32 } else { n };
            in_blocks(g, (v[0], v[1]), Some((v[2], v[3])), options(0.2, 0.2), of_block)
        };
        let case = Case::new("info_nce", format!("n{n} against m{m} d6{name}"), inputs, of_two);
        cases.push(case.within(2e-5, EXPONENTS).with_homes());
    }
    // The loss alone; rows of 16 bits.
    for (name, z) in [
        ("no gradient", constant(Input::normal(3, &[40, 8]))),
        ("f16", Input::normal(3, &[40, 8]).stored(Elem::F16)),
        ("bf16", Input::normal(3, &[40, 8]).stored(Elem::Bf16)),
    ] {
        cases.push(of_one_set(format!("n40 d8 {name}"), [z, labels(4, 40, Some(9))], options(2.0, 0.1)));
    }
    // Labels of which the nearest is many sigmas away; rows that are equal.
    let mut rows = normal(6, 30 * 6);
    rows.copy_within(..60, 60);
    let of = |z: Vec<f64>| Input::real(&[30, 6], z, Role::Grad);
    let apart = (0..30).map(|i| f64::from(i * i) + 0.25 * f64::from(i % 2)).collect();
    let apart = Input::real(&[30], apart, Role::Constant);
    cases.push(of_one_set(
        "n30 d6 labels far apart".into(),
        [of(normal(5, 30 * 6)), apart],
        options(0.5, 0.1),
    ));
    let equal = [of(rows), labels(7, 30, Some(11))];
    cases.push(of_one_set("n30 d6 rows that are equal".into(), equal, options(1.0, 0.07)));
    // The loss of each anchor.
    for (n, d, of_block) in [(2, 3, 2), (70, 6, 32)] {
        let inputs = vec![Input::normal(1, &[n, d]), labels(2, n, None)];
        let each =
            move |g: &mut _, v: &[_]| rows_in_blocks(g, (v[0], v[1]), None, options(0.2, 0.1), of_block);
        let case = Case::new("info_nce", format!("of rows n{n} d{d} in blocks of {of_block}"), inputs, each);
        cases.push(case.within(2e-5, EXPONENTS).with_homes());
    }
    let inputs =
        vec![Input::normal(1, &[9, 4]), labels(2, 9, None), Input::normal(3, &[40, 4]), labels(4, 40, None)];
    let each = |g: &mut _, v: &[_]| info_nce_rows(g, v[0], v[1], Some((v[2], v[3])), options(0.2, 0.1));
    cases.push(Case::new("info_nce", "of rows n9 against m40 d4", inputs, each).within(2e-5, EXPONENTS));
    let inputs = [Input::normal(8, &[512, 16]), labels(9, 512, None)];
    cases.push(
        of_one_set("n512 d16 labels that differ s 0.1 t 0.1".into(), inputs, options(0.1, 0.1)).timed(),
    );
    cases
}
