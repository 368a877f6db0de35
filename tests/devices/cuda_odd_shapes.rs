//! The CUDA sources of the small kernels, run on the CPU and on a card, at shapes around every tile, warp, line and split, with
//! buffers that start at a multiple of 16 bytes and with buffers that do not.

use crate::gpu;
use crate::shifted::Shifted;
use crate::table::fault_on;
use etude::cases::{Case, Input, Role, normal, uniform};
use etude::device::{Cpu, Device, Launch};
use etude::graph::{Graph, Var};
use etude::kernel::{Elem, Params};
use etude::kernels::elementwise;
use etude::ops::batch_norm::{BatchNormOptions, BatchNormVars, Mode, batch_norm};
use etude::ops::dropout::{DropoutOptions, dropout};
use etude::ops::gather::{Layout, WindowOptions, gather_rows, gather_window};
use etude::ops::loss::{LossOptions, bce, bce_with_logits, mse};
use etude::ops::optim::{Adam, Sgd, adam, sgd};
use etude::ops::pool::{masked_mean_time, mean_time};
use etude::ops::similarity::{Similarity, similarity};
use etude::similarity::DeviceTopK;
use rayon::prelude::*;

/// Around the quad, the warp, the line, the tile of 64 columns, the block of 256 and the span of 1024.
const SIZES: [usize; 18] = [1, 2, 3, 4, 5, 7, 8, 31, 32, 33, 63, 64, 65, 127, 256, 257, 331, 1028];

/// Size `i` of an endless walk through [`SIZES`].
fn size(i: usize) -> usize {
    SIZES[i % SIZES.len()]
}

/// Why a gradient that is one number, or few, may be less accurate than a vector's.
const ONE_SUM: &str = "a sum of N terms of either sign, itself 1e-7 of the root of the sum of their squares wrong, may \
                       cancel to a hundredth of that root";

/// Every device, and every one again whose buffers begin one element after a multiple of 16 bytes.
fn both() -> Vec<Box<dyn Device>> {
    let unaligned = |device| Box::new(Shifted::all(device, 0)) as Box<dyn Device>;
    gpu::cuda().into_iter().chain(gpu::cuda().into_iter().map(unaligned)).collect()
}

fn check(cases: Vec<Case>) {
    let fault = |case: &Case| {
        let oracle = case.run(&Cpu::<f64>::new(1).unwrap()).unwrap();
        both().into_iter().find_map(|device| fault_on(&*device, case, &oracle))
    };
    let faults: Vec<String> = cases.par_iter().filter_map(fault).collect();
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), cases.len(), faults.join("\n"));
}

fn batch_norm_case([b, c, s]: [usize; 3], mode: Mode) -> Case {
    let state = if mode == Mode::Train { Role::State } else { Role::Constant };
    let inputs = vec![
        Input::normal(1, &[b, c, s]),
        Input::normal(2, &[c]),
        Input::normal(3, &[c]),
        Input::real(&[c], normal(4, c), state),
        Input::real(&[c], uniform(5, c).into_iter().map(|v| 0.5 + v).collect(), state),
    ];
    let case = Case::new("batch_norm", format!("{mode:?} b{b} c{c} s{s}"), inputs, move |g, v| {
        let vars = BatchNormVars { gamma: v[1], beta: v[2], running_mean: v[3], running_var: v[4] };
        batch_norm(g, v[0], vars, BatchNormOptions { mode, ..BatchNormOptions::default() })
    });
    if c < 5 { case.within(2e-5, ONE_SUM) } else { case }
}

#[test]
fn batch_norm_of_odd_shapes() {
    let mut cases = Vec::new();
    for mode in [Mode::Train, Mode::Eval] {
        for i in 0..54 {
            let shape = [size(5 * i + 3), size(7 * i + 4) % 70 + 1, size(i) % 400];
            // Fewer than three values a channel are a case of the table; a tensor of a few million says nothing more.
            if shape[0] * shape[2] > 2 && shape.iter().product::<usize>() < 300_000 {
                cases.push(batch_norm_case(shape, mode));
            }
        }
        // Splits of several tiles: long runs by quads and by single values, and runs of 1 and 3.
        for shape in [[3, 1, 180_004], [5, 1, 106_001], [530_001, 1, 1], [60_007, 3, 9]] {
            cases.push(batch_norm_case(shape, mode));
        }
    }
    check(cases);
}

#[test]
fn means_of_odd_shapes() {
    let mut cases = Vec::new();
    for i in 0..54 {
        let [b, c, t] = [size(5 * i + 1) % 40 + 1, size(7 * i) % 20 + 1, size(i)];
        let x = || Input::normal(1, &[b, c, t]);
        let lengths = (0..b).map(|j| [t, 0, 1, t / 2 + 1, t + 9, t - 1][j % 6] as u32).collect();
        cases.push(Case::new("pool", format!("mean b{b} c{c} t{t}"), vec![x()], |g, v| mean_time(g, v[0])));
        let inputs = vec![x(), Input::index(&[b], lengths)];
        cases.push(Case::new("pool", format!("masked b{b} c{c} t{t}"), inputs, |g, v| {
            masked_mean_time(g, v[0], v[1])
        }));
    }
    // Around the longest row of a warp.
    for t in [4095, 4096, 4097, 5000] {
        let case = Case::new("pool", format!("mean t{t}"), vec![Input::normal(1, &[2, 3, t])], |g, v| {
            mean_time(g, v[0])
        });
        cases.push(case);
    }
    check(cases);
}

#[test]
fn dropout_of_odd_sizes() {
    let sizes = SIZES.iter().copied().chain([1023, 1024, 1025, 5001]);
    let case = |n: usize| {
        let inputs = vec![Input::normal(1, &[n]), Input::index(&[3], vec![7, n as u32, 3])];
        let options = DropoutOptions { probability: 0.3, stream: n as u32 };
        Case::new("dropout", format!("dropout n{n}"), inputs, move |g, v| dropout(g, v[0], v[1], options))
            .within(1e-7, "one product, of the same mask")
    };
    check(sizes.map(case).collect());
}

/// Gradients that nothing gives are filled with zeros wherever they begin; no case of the table has one in a window.
#[test]
fn fills_of_odd_sizes() {
    for device in both() {
        for n in SIZES {
            let y = device.upload(&vec![f32::NAN; n]).unwrap();
            let params = Params::new(&elementwise::ElementwiseParams { n: n as u32, factor: 0.3 });
            let launch = Launch { kernel: &elementwise::FILL, bufs: vec![y.clone()], params };
            device.compile(vec![launch]).unwrap().run().unwrap();
            assert_eq!(device.download(&y).unwrap(), vec![0.3; n], "{} {n}", device.name());
        }
    }
}

type LossOp = fn(&mut Graph, Var, Var, LossOptions) -> etude::Result<Var>;

#[test]
fn losses_of_odd_sizes() {
    let losses: [(&str, LossOp); 3] = [("mse", mse), ("bce", bce), ("bce_with_logits", bce_with_logits)];
    let mut cases = Vec::new();
    // The last: more spans than the last block has threads.
    for n in SIZES.into_iter().chain([1023, 1024, 1025, 4097, 263_169]) {
        for (name, op) in losses {
            let values = if name == "bce" {
                uniform(1, n).into_iter().map(|p| 0.01 + 0.98 * p).collect()
            } else {
                normal(1, n)
            };
            let inputs =
                vec![Input::real(&[n], values, Role::Grad), Input::real(&[n], uniform(2, n), Role::Constant)];
            cases.push(Case::new("loss", format!("{name} n{n}"), inputs, move |g, v| {
                op(g, v[0], v[1], LossOptions { weight: 0.7 })
            }));
        }
    }
    check(cases);
}

#[test]
fn losses_at_the_ends_of_their_range() {
    let column = |values: &[f64], role| Input::real(&[values.len()], values.to_vec(), role);
    let probabilities = [0.0, 1.0, 0.0, 1.0, -3.0, 7.0, 0.5];
    let logits = [0.0, 1e4, -1e4, 1e30, -1e30, 88.0, -104.0];
    let targets = [0.0, 1.0, 1.0, 0.0, 0.3, 0.3, 1.0];
    let case = |name: &str, values, op: LossOp| {
        let inputs = vec![column(values, Role::Grad), column(&targets, Role::Constant)];
        Case::new("loss", format!("{name} at the ends"), inputs, move |g, v| {
            op(g, v[0], v[1], LossOptions::default())
        })
    };
    check(vec![case("bce", &probabilities, bce), case("bce_with_logits", &logits, bce_with_logits)]);
}

#[test]
fn windows_of_odd_shapes() {
    let mut cases = Vec::new();
    for i in 0..36 {
        let (batch, channels, columns) = (size(5 * i + 2) % 50 + 1, i % 5 + 1, size(i));
        let frames = size(7 * i + 3) + 1;
        let row = channels * frames;
        let mut data = normal(1, 3 * row);
        data.iter_mut().step_by(5).for_each(|v| *v = 0.0);
        let (t, f) = (columns as u32, frames as u32);
        // Plain, shrunk, stretched, to the row's end, none, and rows that are nowhere, end beyond the data or begin so far beyond
        // their end that a sum of 32 bits would be back at their start.
        let rows = (0..batch as u32).flat_map(|b| match b % 9 {
            0 => [b % 3 * row as u32, f, b * 7 % f, t],
            1 => [row as u32, f, 0, 2 * t + 3],
            2 => [0, f, b % f, t / 2 + 1],
            3 => [row as u32, f, f - 1, t],
            4 => [0, f, 0, u32::MAX],
            5 => [3 * row as u32 - 1, f, 0, t],
            6 => [u32::MAX, u32::MAX, u32::MAX, t],
            7 => [0, u32::MAX, 1, 0],
            _ => [0, f, u32::MAX, t],
        });
        let rows: Vec<u32> = rows.collect();
        let shift = normal(2, batch).into_iter().enumerate().map(|(i, v)| if i % 3 == 0 { 0.0 } else { v });
        let inputs = vec![
            Input::real(&[data.len()], data, Role::Constant),
            Input::index(&[batch, 4], rows),
            Input::real(&[batch], shift.collect(), Role::Constant),
        ];
        for layout in [Layout::Nct, Layout::Nct16n] {
            let options = WindowOptions { channels, columns, shift_channels: i % 3, layout };
            let name = format!("window b{batch} c{channels} t{columns} of {frames} {layout:?}");
            let case = Case::new("gather", name, inputs.clone(), move |g, v| {
                gather_window(g, v[0], v[1], v[2], options)
            });
            cases.push(case.within(1e-6, "copies, and one addition"));
        }
    }
    check(cases);
}

#[test]
fn rows_of_odd_shapes() {
    let case = |i: usize| {
        let (s, width, b) = (size(5 * i), size(i), size(7 * i + 3));
        let indices = (0..b as u32).map(|j| j * 5 % (s as u32 + 1)).collect();
        let inputs =
            vec![Input::real(&[s, width], normal(3, s * width), Role::Constant), Input::index(&[b], indices)];
        Case::new("gather", format!("rows s{s} width{width} b{b}"), inputs, |g, v| gather_rows(g, v[0], v[1]))
            .within(0.0, "copies")
    };
    check((0..36).map(case).collect());
}

#[test]
fn updates_of_odd_sizes() {
    let mut cases = Vec::new();
    for n in SIZES.into_iter().chain([1023, 1024, 1025, 5001]) {
        let real = |seed, role| Input::real(&[n], normal(seed, n), role);
        let hyper = || Input::real(&[3], vec![0.05, 0.271, 0.002_996], Role::Constant);
        let options = Sgd { momentum: 0.9, weight_decay: 0.01 };
        let inputs = vec![hyper(), real(1, Role::Constant), real(2, Role::State), real(3, Role::State)];
        cases.push(Case::new("optim", format!("sgd n{n}"), inputs, move |g, v| {
            sgd(g, v[2], v[1], v[3], v[0], options)?;
            Ok(v[2])
        }));
        for decoupled in [false, true] {
            let options = Adam { weight_decay: 0.01, decoupled, ..Adam::default() };
            let square = normal(4, n).into_iter().map(|v| 1e-3 * v * v).collect();
            let second = Input::real(&[n], square, Role::State);
            let inputs =
                vec![hyper(), real(1, Role::Constant), real(2, Role::State), real(3, Role::State), second];
            cases.push(Case::new(
                "optim",
                format!("adam decoupled {decoupled} n{n}"),
                inputs,
                move |g, v| {
                    adam(g, v[2], v[1], [v[3], v[4]], v[0], options)?;
                    Ok(v[2])
                },
            ));
        }
    }
    check(cases);
}

/// From 16,384 rows in all the gradients take larger blocks.
#[test]
fn gradients_of_many_rows() {
    let kinds = [Similarity::Dot, Similarity::Cosine, Similarity::SquaredEuclidean, Similarity::Euclidean];
    let case = |kind: Similarity| {
        let inputs = vec![Input::normal(1, &[16_390, 130]), Input::normal(2, &[17, 130])];
        Case::new("similarity", format!("{kind:?} of many rows"), inputs, move |g, v| {
            similarity(g, v[0], v[1], kind)
        })
        .within(1e-5, "sums of 16,390 terms")
    };
    check(Vec::from(kinds.map(case)));
}

/// Pairs that are near are taken from the rows themselves, four columns at a time where these begin at a multiple of 8 bytes: a
/// few that are alike among others, and all of them near, so that their distances are all that there is to see.
#[test]
fn near_pairs_in_16_bits() {
    let (n, m, d) = (70, 40, 16);
    let (a, mut b) = (normal(1, n * d), normal(2, m * d));
    b[..8 * d].copy_from_slice(&a[16 * d..24 * d]);
    let about_one = |seed, n: usize| {
        normal(seed, n * d).iter().map(|v| 1.0 + v.clamp(-1.0, 1.0).round() / 128.0).collect()
    };
    let mut cases = Vec::new();
    for stored in [Elem::F16, Elem::Bf16] {
        for kind in [Similarity::Cosine, Similarity::SquaredEuclidean, Similarity::Euclidean] {
            for (how, a, b) in [("some", a.clone(), b.clone()), ("all", about_one(3, n), about_one(4, m))] {
                let inputs =
                    [(n, a), (m, b)].map(|(n, z)| Input::real(&[n, d], z, Role::Grad).stored(stored));
                let name = format!("{kind:?} of {stored:?}, {how} near");
                let case = Case::new("similarity", name, inputs.to_vec(), move |g, v| {
                    similarity(g, v[0], v[1], kind)
                });
                cases.push(case.within(2e-5, "products are summed by tensor cores, which truncate"));
            }
        }
    }
    check(cases);
}

/// Exactly what the CPU gives where every similarity is a whole number ties too, and a row of NaN: around the 64 rows and 128
/// columns of a tile, the 32 columns that are staged and the 32 entries of a list that a warp moves, up to lists of a whole row.
#[test]
fn top_k_are_the_cpus() {
    let cpu = Cpu::<f32>::new(1).unwrap();
    let ours = both();
    for (n, m, d, k) in [
        (1, 1, 1, 1),
        (33, 5, 2, 5),
        (64, 128, 32, 1),
        (65, 129, 33, 129),
        (70, 300, 6, 20),
        (3, 400, 64, 33),
        (2, 700, 5, 256),
    ] {
        let [mut a, b] =
            [normal(1, n * d), normal(2, m * d)].map(|v| v.iter().map(|v| v.round()).collect::<Vec<f64>>());
        // A row with nothing to list.
        if n > 2 {
            a[d..2 * d].fill(f64::NAN);
        }
        for kind in [Similarity::Dot, Similarity::SquaredEuclidean] {
            let best = |device: &dyn Device| {
                let (a, b) = (device.upload(&a).unwrap(), device.upload(&b).unwrap());
                let mut top = DeviceTopK::compile(device, d, &a, &b, kind, k).unwrap();
                top.run().unwrap();
                let mut indices = vec![0u32; n * k];
                device.read(top.indices(), (&mut indices).into()).unwrap();
                let values: Vec<u32> =
                    device.download(top.values()).unwrap().into_iter().map(f32::to_bits).collect();
                (values, indices)
            };
            let want = best(&cpu);
            assert_eq!(n > 2, want.1.contains(&u32::MAX));
            for device in &ours {
                assert_eq!(best(&**device), want, "{} {kind:?} {n} {m} {d} {k}", device.name());
            }
        }
    }
}
