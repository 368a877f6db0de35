use super::{Case, Input, Role, normal};
use crate::kernel::Elem;
use crate::ops::similarity::{Similarity, similarity, similarity_topk};

const KINDS: [Similarity; 4] =
    [Similarity::Dot, Similarity::Cosine, Similarity::SquaredEuclidean, Similarity::Euclidean];

fn case(what: &str, kind: Similarity, a: Input, b: Input) -> Case {
    let name = format!("{kind:?} {what} a{:?} b{:?}", a.shape, b.shape);
    Case::new("similarity", name, vec![a, b], move |g, v| similarity(g, v[0], v[1], kind))
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in KINDS {
        for (n, m, d) in [
            (1, 1, 1),
            (1, 2, 3),
            (3, 1, 2),
            (7, 5, 16),
            (16, 48, 17),
            (48, 16, 32),
            (49, 53, 47),
            (97, 101, 64),
            (31, 67, 130),
        ] {
            cases.push(case("random", kind, Input::normal(1, &[n, d]), Input::normal(2, &[m, d])));
        }
        for (stored, (n, m, d)) in [
            (Elem::F16, (3, 5, 2)),
            (Elem::F16, (49, 53, 47)),
            (Elem::Bf16, (3, 5, 2)),
            (Elem::Bf16, (49, 53, 47)),
        ] {
            let rows = |seed, n| Input::normal(seed, &[n, d]).stored(stored);
            cases.push(case(&format!("{stored:?}"), kind, rows(1, n), rows(2, m)));
        }
        for (stored, d) in
            [(Elem::Real, 1), (Elem::Real, 5), (Elem::Real, 33), (Elem::F16, 17), (Elem::Bf16, 9)]
        {
            // In a row of one element nothing else makes the norm NaN.
            let rows = |seed| Input::normal(seed, &[40, d]).stored(stored);
            let (a, b) = (rows(1).but(7 * d, f64::NAN), rows(2).but(40 * d - 1, f64::NAN));
            cases.push(case(&format!("NaN {stored:?}"), kind, a, b));
        }
        for (n, m, d) in [(1024, 512, 16), (1024, 256, 128)] {
            cases.push(case("random", kind, Input::normal(1, &[n, d]), Input::normal(2, &[m, d])).timed());
        }
        cases.push(Case::new(
            "similarity",
            format!("{kind:?} of a with itself, off its diagonal's corner"),
            vec![Input::normal(3, &[20, 6])],
            move |g, v| {
                // Twice itself, so that no pair is at distance 0, where a distance has no derivative.
                let twice = crate::ops::scale(g, v[0], 2.0)?;
                similarity(g, v[0], twice, kind)
            },
        ));
        // What follows lies on corners, where finite differences say nothing: constant on one side, or wholly.
        let (n, d) = (50, 5);
        let mut rows = normal(4, n * d);
        rows[..d].fill(0.0);
        rows.copy_within(2 * d..4 * d, 20 * d);
        let z = Input::real(&[n, d], rows.clone(), Role::Constant);
        cases.push(case("zero and duplicate rows", kind, z.clone(), z));
    }
    for kind in KINDS {
        for (n, m, d, k) in [(1, 1, 1, 1), (3, 7, 2, 7), (48, 33, 17, 1), (50, 97, 16, 10), (33, 211, 67, 64)]
        {
            let rows = |seed, n| Input { role: Role::Constant, ..Input::normal(seed, &[n, d]) };
            let name = format!("{kind:?} top {k} of a[{n}, {d}] b[{m}, {d}]");
            cases.push(Case::new("similarity", name, vec![rows(1, n), rows(2, m)], move |g, v| {
                Ok(similarity_topk(g, v[0], v[1], kind, k)?[0])
            }));
        }
    }
    // Differentiable where they are smooth though rows repeat or vanish.
    let mut rows = normal(5, 50 * 5);
    rows[..5].fill(0.0);
    rows.copy_within(2 * 5..4 * 5, 20 * 5);
    let z = Input::real(&[50, 5], rows, Role::Grad);
    for kind in [Similarity::Dot, Similarity::SquaredEuclidean] {
        cases.push(Case::new(
            "similarity",
            format!("{kind:?} of one value with itself, zero and duplicate rows"),
            vec![z.clone()],
            move |g, v| similarity(g, v[0], v[0], kind),
        ));
    }
    cases
}
