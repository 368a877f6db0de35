use super::case::{Case, Input, Role, normal};
use crate::ops::dropout::DropoutOptions;
use crate::ops::linear::{Activation, dropped_linear, linear};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (b, i, o) in [(1, 1, 1), (3, 5, 7), (64, 64, 32), (513, 16, 8), (131, 67, 3), (512, 8, 1)] {
        for activation in [Activation::None, Activation::Relu, Activation::Sigmoid] {
            let inputs = vec![Input::normal(1, &[b, i]), Input::normal(2, &[o, i]), Input::normal(3, &[o])];
            let case = Case::new(
                "linear",
                format!("b{b} i{i} o{o} {activation:?}").to_lowercase(),
                inputs,
                move |g, v| linear(g, v[0], v[1], Some(v[2]), activation),
            );
            cases.push(if b > 200 && activation == Activation::Relu { case.timed() } else { case });
        }
    }
    let (x, w, b) = (Input::normal(1, &[13, 17]), Input::normal(2, &[5, 17]), Input::normal(3, &[5]));
    let constant = |shape: &[usize]| Input::real(shape, normal(4, shape.iter().product()), Role::Constant);
    cases.push(Case::new("linear", "b13 i17 o5 no bias", vec![x.clone(), w.clone()], |g, v| {
        linear(g, v[0], v[1], None, Activation::Relu)
    }));
    cases.push(Case::new(
        "linear",
        "b13 i17 o5 x constant",
        vec![constant(&[13, 17]), w, b.clone()],
        |g, v| linear(g, v[0], v[1], Some(v[2]), Activation::Sigmoid),
    ));
    cases.push(Case::new(
        "linear",
        "b13 i17 o5 w and bias constant",
        vec![x, constant(&[5, 17]), constant(&[5])],
        |g, v| linear(g, v[0], v[1], Some(v[2]), Activation::None),
    ));
    cases.push(Case::new(
        "linear",
        "b13 i17 o5 only bias",
        vec![constant(&[13, 17]), constant(&[5, 17]), b],
        |g, v| linear(g, v[0], v[1], Some(v[2]), Activation::Relu),
    ));
    for activation in [Activation::None, Activation::Relu, Activation::Sigmoid] {
        // One weight: one column of the output is NaN, and no more.
        let inputs = vec![constant(&[13, 17]), Input::normal(2, &[5, 17]).but(40, f64::NAN), constant(&[5])];
        let name = format!("b13 i17 o5 {activation:?} NaN in a weight").to_lowercase();
        cases.push(Case::new("linear", name, inputs, move |g, v| {
            linear(g, v[0], v[1], Some(v[2]), activation)
        }));
    }
    for (b, i, o, probability) in [(1, 1, 1, 0.5), (7, 5, 3, 0.3), (67, 33, 35, 0.2), (64, 64, 32, 0.2)] {
        let inputs = vec![
            Input::normal(1, &[b, i]),
            Input::normal(2, &[o, i]),
            Input::normal(3, &[o]),
            Input::index(&[3], vec![0x0123_4567, 0x89ab_cdef, 42]),
        ];
        let options = DropoutOptions { probability, stream: 1 };
        let case =
            Case::new("linear", format!("b{b} i{i} o{o} dropped {probability}"), inputs, move |g, v| {
                dropped_linear(g, v[0], Some((v[3], options)), v[1], Some(v[2]), Activation::Relu)
            });
        cases.push(if b == 64 { case.timed() } else { case });
    }
    cases
}
