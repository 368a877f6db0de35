//! GPU convolutions of any shape and options, and at the edges of every tile, against the f64 oracle: WGSL on Vulkan, the
//! CUDA sources on the CPU.

use crate::gpu;
use crate::table::fault_on;
use etude::cases::{Case, Input};
use etude::device::{Cpu, Device};
use etude::ops::conv1d::{ConvOptions1d, Precision, conv1d};
use etude::ops::conv2d::{ConvOptions2d, conv2d};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// An axis: input, taps, stride, padding, dilation.
type Axis = [usize; 5];

/// Sums of a few hundred terms, or the tolerance that the case table gives to factors in tf32.
fn tolerance(precision: Precision) -> f64 {
    if precision == Precision::Tf32 { 5e-4 } else { 2e-6 }
}

fn case1d(
    batch: usize,
    [groups, ci, co]: [usize; 3],
    [t, k, stride, padding, dilation]: Axis,
    precision: Precision,
) -> Case {
    let options = ConvOptions1d { stride, padding, dilation, groups, precision };
    let (x, w) = ([batch, ci * groups, t], [co * groups, ci, k]);
    let inputs = vec![Input::normal(1, &x), Input::normal(2, &w), Input::normal(3, &w[..1])];
    let name = format!("x{x:?} w{w:?} {options:?}");
    Case::new("conv1d", name, inputs, move |g, v| conv1d(g, v[0], v[1], Some(v[2]), options))
        .within(tolerance(precision), "its precision")
}

fn case2d(batch: usize, [groups, ci, co]: [usize; 3], a: [Axis; 2]) -> Case {
    let pair = |i: usize| [a[0][i], a[1][i]];
    let options =
        ConvOptions2d { stride: pair(2), padding: pair(3), dilation: pair(4), groups, ..Default::default() };
    let (x, w) = ([batch, ci * groups, a[0][0], a[1][0]], [co * groups, ci, a[0][1], a[1][1]]);
    let inputs = vec![Input::normal(1, &x), Input::normal(2, &w), Input::normal(3, &w[..1])];
    let name = format!("x{x:?} w{w:?} {options:?}");
    Case::new("conv2d", name, inputs, move |g, v| conv2d(g, v[0], v[1], Some(v[2]), options))
        .within(tolerance(Precision::F32), "its precision")
}

fn check(devices: &[Box<dyn Device>], case: &Case) {
    let oracle = case.run(&Cpu::<f64>::new(1).unwrap()).unwrap();
    let faults: Vec<_> = devices.iter().filter_map(|device| fault_on(&**device, case, &oracle)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Those that run the CUDA sources. Each shape has WGSL pipelines of its own, which a software driver compiles for a second:
/// shapes that are there for CUDA's tiles run in WGSL where they are something else to WGSL's.
fn cuda() -> Vec<Box<dyn Device>> {
    gpu::devices().into_iter().filter(|device| !device.name().starts_with("wgpu")).collect()
}

#[test]
fn channels_and_positions_around_every_tile() {
    let devices = gpu::devices();
    let around = [(4, 5), (5, 4), (8, 9), (9, 8), (16, 17), (17, 16), (3, 64), (65, 3), (20, 66), (33, 32)];
    for (ci, co) in around {
        for precision in [Precision::F32, Precision::Tf32] {
            check(&devices, &case1d(2, [1, ci, co], [131, 3, 2, 1, 1], precision));
        }
    }
    for t in [63, 64, 65, 127, 128, 129, 255, 256, 257] {
        check(&devices, &case1d(1, [1, 2, 3], [t, 1, 1, 0, 1], Precision::F32));
        check(&devices, &case1d(1, [1, 6, 7], [t, 2, 3, 1, 1], Precision::F32));
    }
    check(&devices, &case2d(2, [2, 17, 18], [[9, 3, 2, 1, 1], [7, 2, 1, 1, 2]]));
}

/// What CUDA does by tiles in shared memory: places by the thousand or sums of a thousand terms where rows are few, strides
/// beyond the table of phases, rows of weights that are multiples of 16 bytes and that are not.
#[test]
fn tiles_that_fill_a_card_and_long_sums() {
    let (devices, cuda) = (gpu::devices(), cuda());
    for precision in [Precision::F32, Precision::Tf32] {
        for (ci, co) in [(17, 33), (18, 24), (40, 36)] {
            check(&cuda, &case1d(67, [1, ci, co], [129, 2, 1, 0, 1], precision));
            check(&cuda, &case1d(67, [1, ci, co], [261, 4, 2, 3, 3], precision));
        }
        for (ci, co) in [(2, 3), (18, 40), (66, 5)] {
            check(&cuda, &case1d(3, [1, ci, co], [90, 3, 17, 2, 1], precision));
        }
        check(&devices, &case1d(2, [1, 9, 3], [130, 120, 1, 4, 1], precision));
        check(&devices, &case1d(2, [1, 3, 9], [240, 120, 2, 0, 1], precision));
    }
    check(&devices, &case2d(9, [2, 20, 34], [[33, 2, 1, 1, 1], [29, 3, 1, 0, 2]]));
    check(&devices, &case2d(2, [1, 33, 18], [[40, 3, 18, 1, 1], [23, 2, 2, 1, 1]]));
}

/// What CUDA does without tiles: few places with sums of hundreds of terms, and blocks enough to fill a card with few rows in
/// each.
#[test]
fn long_sums_of_few_places_and_many_of_few_rows() {
    let (all, cuda) = (gpu::devices(), cuda());
    for rows in [1, 3, 7, 20, 70] {
        let devices = if rows == 20 { &all } else { &cuda };
        check(devices, &case1d(2, [1, rows, 45], [60, 6, 1, 1, 2], Precision::F32));
        check(devices, &case1d(1, [1, rows, 90], [71, 6, 2, 3, 1], Precision::F32));
        check(devices, &case1d(2, [1, 45, rows], [61, 3, 2, 1, 1], Precision::Tf32));
        check(devices, &case2d(1, [1, rows, 45], [[7, 3, 1, 1, 1], [9, 2, 1, 1, 1]]));
    }
    for c in [[17, 1, 1], [17, 2, 3], [9, 9, 10]] {
        check(&all, &case1d(5, c, [1801, 3, 2, 1, 1], Precision::F32));
        check(&all, &case1d(9, c, [1003, 2, 1, 0, 3], Precision::F32));
    }
}

/// Rows of 16-byte multiples, in samples that tiles cross; runs of the weight's gradient that end inside a slice, and that
/// are left empty.
#[test]
fn long_batches() {
    let devices = gpu::devices();
    for [batch, t] in [[7, 84], [3, 400], [41, 32], [1, 1300], [65, 2]] {
        check(&devices, &case1d(batch, [1, 3, 5], [t, 3, 1, 1, 1], Precision::F32));
        check(&devices, &case1d(batch, [1, 2, 18], [t, 2, 2, 0, 1], Precision::F32));
    }
}

#[test]
fn any_shape_and_options() {
    let devices = gpu::devices();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut axis = |longest: usize| -> Axis {
        let [taps, stride, padding, dilation] = [6, 6, 8, 6].map(|n: usize| rng.random_range(1..n));
        let input = rng.random_range(1..=longest);
        let reach = (taps - 1) * dilation + 1;
        [input + reach.saturating_sub(input + 2 * padding), taps, stride, padding, dilation]
    };
    let channels = [[1, 3, 9], [3, 2, 1], [5, 1, 2], [1, 5, 18], [2, 3, 3], [1, 1, 1], [2, 34, 33]];
    for round in 0..14 {
        let c = channels[round % channels.len()];
        let precision = if round % 3 == 0 { Precision::Tf32 } else { Precision::F32 };
        check(&devices, &case1d(1 + 3 * (round % 6), c, axis(60), precision));
        check(&devices, &case2d(1 + round % 6 / 2, c, [axis(14), axis(14)]));
    }
}

/// llvmpipe ends a shader's loops after 65,535 turns: what comes of it must not look like a result.
#[cfg(feature = "wgpu")]
#[test]
fn a_sum_the_driver_cut_short_is_nan() {
    use etude::cases::{Role, relative, uniform};
    let device = gpu::wgpu();
    let cpu = Cpu::<f32>::new(2).unwrap();
    for [channels, taps] in [[2, 66_000], [9, 263_000]] {
        let inputs = [&[1, 1, taps + 9][..], &[channels, 1, taps]]
            .map(|s| Input::real(s, uniform(1, s.iter().product()), Role::Constant));
        let case = Case::new("conv1d", "long", inputs.to_vec(), |g, v| {
            conv1d(g, v[0], v[1], None, ConvOptions1d::default())
        });
        let (want, got) = (case.run(&cpu).unwrap(), case.run(&device).unwrap());
        let cut = got[0].1.iter().any(|v| v.is_nan());
        assert!(cut || relative(&got[0].1, &want[0].1) < 1e-4, "{taps} taps");
        assert!(cut || !device.adapter_name().contains("llvmpipe"), "{taps} taps: not long enough to tell");
    }
}

/// What fills a tile beyond the terms of a sum adds nothing whatever is in memory: an infinity stays in its windows. WGSL may
/// take numbers to be finite.
#[cfg(any(feature = "cuda-on-cpu", feature = "cuda-on-card"))]
#[test]
fn an_infinity_stays_in_its_windows() {
    gpu::cuda().iter().for_each(|device| infinity_stays_in_its_windows(&**device));
}

#[cfg(any(feature = "cuda-on-cpu", feature = "cuda-on-card"))]
fn infinity_stays_in_its_windows(device: &dyn Device) {
    let row = |n: usize, at: usize| -> Vec<f32> {
        (0..n).map(|i| if i == at { f32::INFINITY } else { 1.0 }).collect()
    };
    let [x, up, w] = [row(9, 4), row(7, 3), row(3, 3)].map(|v| device.upload(&v).unwrap());
    for two_axes in [false, true] {
        let shape = |n: usize| if two_axes { vec![1, 1, 1, n] } else { vec![1, 1, n] };
        let mut g = etude::graph::Graph::new();
        let (xv, wv) = (g.leaf(&x, None, &shape(9)).unwrap(), g.bind(&w, &shape(3)).unwrap());
        let upstream = g.bind(&up, &shape(7)).unwrap();
        let y = if two_axes {
            conv2d(&mut g, xv, wv, None, ConvOptions2d::default())
        } else {
            conv1d(&mut g, xv, wv, None, ConvOptions1d::default())
        }
        .unwrap();
        g.backward_from(y, upstream).unwrap();
        let keep = [y, g.grad(xv).unwrap()];
        let mut step = g.compile(device, &keep).unwrap();
        step.run().unwrap();
        let [y, dx] = keep.map(|v| device.download(step.buf(v).unwrap()).unwrap());
        let reached = |v: &[f32]| {
            v.iter()
                .map(|v| {
                    if v.is_finite() {
                        '.'
                    } else if v.is_nan() {
                        '?'
                    } else {
                        '+'
                    }
                })
                .collect::<String>()
        };
        assert_eq!([reached(&y), reached(&dx)], ["..+++..", "...+++..."], "two axes: {two_axes}");
    }
}
