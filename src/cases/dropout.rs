use super::case::{Case, Input};
use crate::ops::dropout::{DropoutOptions, dropout};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (shape, probability) in [(vec![1], 0.5), (vec![7, 11], 0.2), (vec![13, 3077], 0.9), (vec![5], 0.0)] {
        let inputs = vec![Input::normal(1, &shape), Input::index(&[3], vec![0x0123_4567, 0x89ab_cdef, 42])];
        let options = DropoutOptions { probability, stream: 3 };
        let case = Case::new("dropout", format!("{shape:?} p {probability}"), inputs, move |g, v| {
            dropout(g, v[0], v[1], options)
        });
        let case = case.within(1e-7, "one product, of the same mask");
        cases.push(if shape[0] == 13 { case.timed() } else { case });
    }
    cases
}
