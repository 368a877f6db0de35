use super::case::{Case, Input};
use crate::ops::{add, reshape, scale};

pub fn cases() -> Vec<Case> {
    let two = |n| vec![Input::normal(1, &[n]), Input::normal(2, &[n])];
    vec![
        Case::new("elementwise", "add n40009", two(40_009), |g, v| add(g, v[0], v[1])),
        Case::new("elementwise", "add fan-out x+x+y n7", two(7), |g, v| {
            let twice = add(g, v[0], v[0])?;
            add(g, twice, v[1])
        }),
        // What is handed to x twice is copied to its home, then added there.
        Case::new("elementwise", "add fan-out x+x+y into homes n1031", two(1031), |g, v| {
            let twice = add(g, v[0], v[0])?;
            add(g, twice, v[1])
        })
        .with_homes(),
        Case::new("elementwise", "scale -2.5 n33", vec![Input::normal(1, &[33])], |g, v| {
            scale(g, v[0], -2.5)
        }),
        Case::new(
            "elementwise",
            "reshape 6x5 then add",
            vec![Input::normal(1, &[6, 5]), Input::normal(2, &[30])],
            |g, v| {
                let flat = reshape(g, v[0], &[30])?;
                add(g, flat, v[1])
            },
        ),
    ]
}
