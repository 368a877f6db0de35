use super::case::{Case, Input, Role, uniform};
use crate::kernel::Elem;
use crate::kernels::contrastive::Metric;
use crate::ops::contrastive::Labels;
use crate::ops::pair_loss::{PairLossOptions, contrastive_rows, pair_loss, rows_in_blocks};

/// Distances, or cosines.
fn similarities(seed: u64, [rows, m]: [usize; 2], metric: Metric) -> Input {
    let values = uniform(seed, rows * m).into_iter();
    let values = values.map(|v| if metric == Metric::Cosine { 2.0 * v - 1.0 } else { 3.0 * v });
    Input::real(&[rows, m], values.collect(), Role::Grad)
}

/// Label distances of so many grades, or of any size.
fn apart(seed: u64, [rows, m]: [usize; 2], grades: Option<f64>) -> Input {
    let values = uniform(seed, rows * m).into_iter();
    let values = values.map(|v| grades.map_or(v, |grades| (grades * v).floor()));
    Input::real(&[rows, m], values.collect(), Role::Constant)
}

/// Of which a third is 0.
fn weights(seed: u64, [rows, m]: [usize; 2]) -> Input {
    let values = uniform(seed, rows * m).into_iter().map(|v| (1.5 * v - 0.5).max(0.0));
    Input::real(&[rows, m], values.collect(), Role::Constant)
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case = |name: String, inputs: Vec<Input>, own, options, result: usize| {
        let weighted = inputs.len() > 2;
        cases.push(Case::new("pair_loss", name, inputs, move |g, v| {
            Ok(pair_loss(g, v[0], v[1], weighted.then(|| v[2]), own, options)?[result])
        }));
    };
    for (shape, grades, own, metric, margin, tau) in [
        ([1, 1], None, None, Metric::Euclidean, 2.0, 0.0),
        ([1, 2], Some(3.0), Some(1), Metric::Euclidean, 1.0, 0.0),
        ([3, 15], Some(3.0), None, Metric::Cosine, 0.5, 0.0),
        ([7, 16], None, Some(9), Metric::Euclidean, 2.0, 0.3),
        ([5, 33], Some(4.0), Some(0), Metric::Cosine, 0.4, 1.0),
        ([40, 300], None, Some(200), Metric::Euclidean, 3.0, 0.1),
        ([9, 257], None, None, Metric::Cosine, 1.5, 0.2),
    ] {
        let ([rows, m], options) = (shape, PairLossOptions { metric, margin, tau });
        let of = own.map_or(String::new(), |first| format!(" own from {first}"));
        let name = format!("rows{rows} m{m}{of} {metric:?} margin {margin} tau {tau}").to_lowercase();
        let inputs = || vec![similarities(1, shape, metric), apart(2, shape, grades)];
        let weighted = || [inputs(), vec![weights(3, shape)]].concat();
        case(name.clone(), inputs(), own, options, 0);
        case(format!("{name} weighted"), weighted(), own, options, 0);
        // Of which there is no gradient.
        let mut constant = weighted();
        constant[0].role = Role::Constant;
        case(format!("{name} what they weigh"), constant, own, options, 1);
    }
    // What has no weight has no part, whatever it holds; a NaN of what has is seen.
    let shape = [4, 40];
    let but = |input: Input, at, value| Input { role: input.role, ..input.but(at, value) };
    let masked = vec![
        but(similarities(4, shape, Metric::Euclidean), 61, 1e30),
        but(apart(5, shape, None), 61, f64::NAN),
        but(weights(6, shape), 61, 0.0),
    ];
    let options = PairLossOptions { margin: 2.0, ..PairLossOptions::default() };
    case("rows4 m40 a pair that is none masked out".into(), masked, None, options, 0);
    let shape = [512, 512];
    let inputs = vec![similarities(7, shape, Metric::Euclidean), apart(8, shape, None), weights(9, shape)];
    case("rows512 m512 own from 0 weighted".into(), inputs, Some(0), options, 0);
    if let Some(last) = cases.last_mut() {
        last.bench = true;
    }
    cases.extend(of_rows());
    cases
}

/// Of embeddings and labels, in blocks.
fn of_rows() -> Vec<Case> {
    let vector = |seed: u64, n: usize| Input::real(&[n], uniform(seed, n), Role::Constant);
    let weights = |seed: u64, n: usize| {
        let values = uniform(seed, n).into_iter().map(|v| (1.5 * v - 0.5).max(0.0));
        Input::real(&[n], values.collect(), Role::Constant)
    };
    let mut cases = Vec::new();
    for (n, d, metric, weighted, of_block) in [
        (2, 3, Metric::Euclidean, false, 2),
        (17, 5, Metric::Cosine, true, 17),
        (70, 6, Metric::Euclidean, true, 32),
        (40, 4, Metric::Cosine, false, 9),
    ] {
        let options = PairLossOptions { metric, margin: 2.0, tau: 0.1 };
        let inputs = vec![Input::normal(1, &[n, d]), vector(2, n), weights(3, n)];
        let name = format!("of rows n{n} d{d} {metric:?} in blocks of {of_block}").to_lowercase();
        cases.push(
            Case::new("pair_loss", name, inputs, move |g, v| {
                let labels = if weighted { Labels::weighted(v[1], v[2]) } else { v[1].into() };
                Ok(rows_in_blocks(g, (v[0], labels), None, options, of_block)?[0])
            })
            .with_homes(),
        );
    }
    for (n, m, metric, elem) in [
        (1, 1, Metric::Euclidean, None),
        (9, 30, Metric::Cosine, None),
        (20, 7, Metric::Euclidean, Some(Elem::Bf16)),
    ] {
        let options = PairLossOptions { metric, margin: 2.0, tau: 0.1 };
        let rows = |seed, n| {
            let rows = Input::normal(seed, &[n, 4]);
            elem.map_or(rows.clone(), |elem| rows.stored(elem))
        };
        let inputs = vec![rows(4, n), vector(5, n), rows(6, m), vector(7, m), weights(8, m)];
        let name = format!("of rows n{n} against m{m} {metric:?}").to_lowercase();
        cases.push(Case::new("pair_loss", name, inputs, move |g, v| {
            let others = (v[2], Labels::weighted(v[3], v[4]));
            Ok(contrastive_rows(g, v[0], v[1], Some(others), options)?[0])
        }));
    }
    cases
}
