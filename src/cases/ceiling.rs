use super::case::{Case, Input, Role, uniform};
use crate::kernel::Elem;
use crate::ops::ceiling::multiply_adds;

/// Why half precision is no nearer.
const HALF: &str = "each of sixteen numbers is within 2^-11 of its value at every step, and of a geometric sum that is up to \
                    twice as much";

pub fn cases() -> Vec<Case> {
    // Factors below 1/2, so that the numbers stay small.
    let x =
        |n: usize| Input::real(&[n], uniform(1, n).into_iter().map(|v| 0.5 * v).collect(), Role::Constant);
    vec![
        Case::new("ceiling", "multiply-adds n1", vec![x(1)], |g, v| multiply_adds(g, v[0], 1)),
        Case::new("ceiling", "multiply-adds n1031", vec![x(1031)], |g, v| multiply_adds(g, v[0], 9)),
        Case::new("ceiling", "multiply-adds F16 n1031", vec![x(1031).stored(Elem::F16)], |g, v| {
            multiply_adds(g, v[0], 9)
        })
        .within(1e-3, HALF),
    ]
}
