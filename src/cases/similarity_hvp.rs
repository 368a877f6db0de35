use super::{Case, Input, Role, normal};
use crate::ops::similarity::{Similarity, similarity};
use crate::ops::similarity_hvp::{Moving, similarity_hvp};

const KINDS: [Similarity; 4] =
    [Similarity::Dot, Similarity::Cosine, Similarity::SquaredEuclidean, Similarity::Euclidean];

/// How the matrix moves, and how the gradients do: one of the three.
fn moves(what: &str, kind: Similarity, rows: [Input; 2], which: usize) -> Case {
    let ([n, m], d) = ([rows[0].shape[0], rows[1].shape[0]], rows[0].shape[1]);
    let along = |seed, n| Input { role: Role::Constant, ..Input::normal(seed, &[n, d]) };
    let dy = Input { role: Role::Constant, ..Input::normal(5, &[n, m]) };
    let [a, b] = rows.map(|of| Input { role: Role::Constant, ..of });
    let of = ["the matrix", "da", "db"][which];
    let name = format!("{kind:?} {what} a[{n}, {d}] b[{m}, {d}]: {of}");
    Case::new("similarity_hvp", name, vec![a, b, along(3, n), along(4, m), dy], move |g, v| {
        let y = similarity(g, v[0], v[1], kind)?;
        let (moves, by) = similarity_hvp(g, Moving { a: [v[0], v[2]], b: [v[1], v[3]], y }, v[4], kind)?;
        Ok([moves, by[0], by[1]][which])
    })
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in KINDS {
        for (n, m, d) in [(1, 1, 1), (1, 2, 3), (7, 5, 16), (16, 48, 17), (49, 53, 47), (31, 67, 130)] {
            // Of one pair of distances the value below is constant: its gradient is 0, and what is left of it rounding.
            if n * m == 1 && kind == Similarity::Euclidean {
                continue;
            }
            let inputs = vec![
                Input::normal(1, &[n, d]),
                Input::normal(2, &[m, d]),
                Input { role: if n == 1 { Role::Constant } else { Role::Grad }, ..Input::normal(3, &[n, m]) },
            ];
            let name = format!("{kind:?} gradients a[{n}, {d}] b[{m}, {d}]");
            // Out of both gradients one value.
            cases.push(Case::new("similarity_hvp", name, inputs, move |g, v| {
                let y = similarity(g, v[0], v[1], kind)?;
                let by = g.gradients(y, Some(v[2]), &[v[0], v[1]])?;
                similarity(g, by[0], by[1], Similarity::Dot)
            }));
        }
        for which in 0..3 {
            let rows = [Input::normal(1, &[256, 32]), Input::normal(2, &[128, 32])];
            cases.push(moves("random", kind, rows, which).timed());
            // Rows that are 0, that are one, that are far longer and shorter than others, and that hold a NaN.
            let (n, d) = (40, 5);
            let mut rows = normal(6, n * d);
            rows[..d].fill(0.0);
            rows.copy_within(2 * d..4 * d, 20 * d);
            // Squares of a row's elements need not fit, where it is of norm 1 first.
            let long = if kind == Similarity::Cosine { 1e25 } else { 1e12 };
            rows[7 * d..8 * d].iter_mut().for_each(|v| *v *= long);
            rows[8 * d..9 * d].iter_mut().for_each(|v| *v *= 1e-12);
            let z = Input::real(&[n, d], rows, Role::Constant);
            let case = moves("zero, equal, long and short rows", kind, [z.clone(), z.clone()], which);
            cases.push(case);
            if kind == Similarity::Dot || kind == Similarity::Cosine {
                let nan = z.but(9 * d, f64::NAN);
                cases.push(moves("NaN", kind, [nan.clone(), nan], which));
            }
        }
        cases.push(Case::new(
            "similarity_hvp",
            format!("{kind:?} gradient of a with twice itself"),
            vec![Input::normal(3, &[20, 6]), Input::normal(4, &[20, 20])],
            move |g, v| {
                let twice = crate::ops::scale(g, v[0], 2.0)?;
                let y = similarity(g, v[0], twice, kind)?;
                Ok(g.gradients(y, Some(v[1]), &[v[0]])?[0])
            },
        ));
    }
    cases
}
