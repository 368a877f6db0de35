use super::case::{Case, Input};
use crate::ops::activation::{leaky_relu, relu, sigmoid};

pub fn cases() -> Vec<Case> {
    let x = |n| vec![Input::normal(1, &[n])];
    vec![
        Case::new("activation", "relu n1", x(1), |g, v| relu(g, v[0])),
        Case::new("activation", "relu n40009", x(40_009), |g, v| relu(g, v[0])).timed(),
        Case::new("activation", "leaky_relu 0.01 n257", x(257), |g, v| leaky_relu(g, v[0], 0.01)),
        Case::new("activation", "relu of NaN", vec![Input::normal(1, &[300]).but(299, f64::NAN)], |g, v| {
            relu(g, v[0])
        }),
        Case::new("activation", "sigmoid n40009", x(40_009), |g, v| sigmoid(g, v[0])).timed(),
    ]
}
