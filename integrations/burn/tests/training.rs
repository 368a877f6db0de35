//! A tiny training loop in which burn's own ops change places with ours: the loss curve stays.

mod common;

use burn::backend::ops::ConvOptions;
use burn::tensor::{Tensor, activation, module};
use common::{labels, normal, tensor};
use etude_burn::{ContrastiveOptions, ConvOptions1d, Samples, contrastive, conv1d};

const ROWS: usize = 32;
const FRAMES: usize = 40;
const CHANNELS: usize = 6;
const MARGIN: f32 = 0.5;

/// The loss as one writes it with burn alone, through a Gram matrix; the mean over ordered pairs is that over unordered ones.
fn by_hand(z: Tensor<2>, labels: Tensor<1>) -> Tensor<1> {
    let squares = z.clone().powi_scalar(2).sum_dim(1);
    let gram = z.clone().matmul(z.transpose());
    let d2 = (squares.clone() + squares.transpose() - gram * 2.0).clamp_min(1e-12);
    let labels = labels.reshape([ROWS, 1]);
    let apart = (labels.clone() - labels.transpose()).abs();
    let hinge = (apart.clone() * MARGIN - d2.clone().sqrt()).clamp_min(0.0).powi_scalar(2);
    let terms = hinge.mask_where(apart.equal_elem(0.0), d2);
    terms.sum() * (0.5 / (ROWS * (ROWS - 1)) as f64)
}

/// The losses of 25 steps of gradient descent on a convolution, then the mean over time.
fn curve(ours: bool) -> Vec<f32> {
    let x = tensor(&normal(1, ROWS * 2 * FRAMES), [ROWS, 2, FRAMES]);
    let l = tensor(&labels(ROWS), [ROWS]);
    let mut w = tensor(&normal(2, CHANNELS * 2 * 5), [CHANNELS, 2, 5]).require_grad();
    let mut losses = Vec::new();
    for _ in 0..25 {
        let y = match ours {
            true => {
                let options = ConvOptions1d { stride: 2, padding: 1, ..Default::default() };
                conv1d(x.clone(), w.clone(), None, options).unwrap()
            }
            false => module::conv1d(x.clone(), w.clone(), None, ConvOptions::new([2], [1], [1], 1)),
        };
        let z = activation::relu(y).mean_dim(2).squeeze_dim::<2>(2);
        let loss = match ours {
            true => {
                let options = ContrastiveOptions { margin: MARGIN, ..Default::default() };
                contrastive(Samples::new(z, l.clone()), options).unwrap()
            }
            false => by_hand(z, l.clone()),
        };
        let step = w.grad(&loss.backward()).unwrap() * 2.0;
        losses.push(loss.into_scalar::<f32>());
        w = Tensor::from_inner(w.inner() - step).require_grad();
    }
    losses
}

#[test]
fn the_loss_curve_is_that_of_burns_own_ops() {
    let (ours, theirs) = (curve(true), curve(false));
    assert!(ours[24] < 0.9 * ours[0], "nothing is learned: {ours:?}");
    for (step, (a, b)) in ours.iter().zip(&theirs).enumerate() {
        // Rounding, which steps pass on; a NaN must not pass.
        assert!((a - b).abs() <= 1e-4 * b.abs(), "step {step}: {a} against {b}");
    }
}
