//! WGSL convolutions of any shape and options, and at the edges of every tile, against the f64 oracle.
#![cfg(feature = "wgpu")]

use etude::cases::{Case, Input};
use etude::device::wgpu::{ADAPTER_VARIABLE, Select, Wgpu};
use etude::ops::conv1d::{ConvOptions1d, conv1d};
use etude::ops::conv2d::{ConvOptions2d, conv2d};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn device() -> Wgpu {
    let select = if std::env::var_os(ADAPTER_VARIABLE).is_some() { Select::Auto } else { Select::Software };
    Wgpu::new(&select).unwrap()
}

/// An axis: input, taps, stride, padding, dilation.
type Axis = [usize; 5];

fn case1d(batch: usize, [groups, ci, co]: [usize; 3], [t, k, stride, padding, dilation]: Axis) -> Case {
    let options = ConvOptions1d { stride, padding, dilation, groups, ..Default::default() };
    let (x, w) = ([batch, ci * groups, t], [co * groups, ci, k]);
    let inputs = vec![Input::normal(1, &x), Input::normal(2, &w), Input::normal(3, &w[..1])];
    let name = format!("x{x:?} w{w:?} {options:?}");
    Case::new("conv1d", name, inputs, move |g, v| conv1d(g, v[0], v[1], Some(v[2]), options))
}

fn case2d(batch: usize, [groups, ci, co]: [usize; 3], a: [Axis; 2]) -> Case {
    let pair = |i: usize| [a[0][i], a[1][i]];
    let options =
        ConvOptions2d { stride: pair(2), padding: pair(3), dilation: pair(4), groups, ..Default::default() };
    let (x, w) = ([batch, ci * groups, a[0][0], a[1][0]], [co * groups, ci, a[0][1], a[1][1]]);
    let inputs = vec![Input::normal(1, &x), Input::normal(2, &w), Input::normal(3, &w[..1])];
    let name = format!("x{x:?} w{w:?} {options:?}");
    Case::new("conv2d", name, inputs, move |g, v| conv2d(g, v[0], v[1], Some(v[2]), options))
}

fn check(device: &Wgpu, case: &Case) {
    let (e, at) = case.parity(device).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    assert!(e <= 2e-6, "{} {}: {e:e} at {at}", case.stem, case.name);
}

#[test]
fn channels_and_positions_around_every_tile() {
    let device = device();
    for (ci, co) in [(4, 5), (5, 4), (16, 17), (17, 16), (3, 64), (65, 3), (20, 66)] {
        check(&device, &case1d(2, [1, ci, co], [131, 3, 2, 1, 1]));
    }
    for t in [63, 64, 65, 127, 128, 129, 255, 256, 257] {
        check(&device, &case1d(1, [1, 2, 3], [t, 1, 1, 0, 1]));
        check(&device, &case1d(1, [1, 6, 7], [t, 2, 3, 1, 1]));
    }
    check(&device, &case2d(2, [2, 17, 18], [[9, 3, 2, 1, 1], [7, 2, 1, 1, 2]]));
}

#[test]
fn any_shape_and_options() {
    let device = device();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut axis = |longest: usize| -> Axis {
        let [taps, stride, padding, dilation] = [6, 6, 8, 6].map(|n: usize| rng.random_range(1..n));
        let input = rng.random_range(1..=longest);
        let reach = (taps - 1) * dilation + 1;
        [input + reach.saturating_sub(input + 2 * padding), taps, stride, padding, dilation]
    };
    let channels = [[1, 3, 9], [3, 2, 1], [5, 1, 2], [1, 5, 18], [2, 3, 3], [1, 1, 1]];
    for round in 0..6 {
        let c = channels[round % channels.len()];
        check(&device, &case1d(1 + 3 * round, c, axis(60)));
        check(&device, &case2d(1 + round / 2, c, [axis(14), axis(14)]));
    }
}
