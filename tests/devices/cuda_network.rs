//! The network's CUDA kernels, run on the CPU and on a card, beyond the case table: shapes around every tile, and memory that
//! starts at any element.

use crate::gpu;
use crate::table::fault_on;
use etude::cases::{Case, Input, Role, normal, relative, uniform};
use etude::device::{Cpu, Device};
use etude::graph::Graph;
use etude::ops::conv_block::{ConvBlock, Features, Mode, conv_block, mean_over_time};
use etude::ops::dropout::DropoutOptions;
use etude::ops::linear::{Activation, dropped_linear, linear};
use rayon::prelude::*;

/// `[batch, cin, t]` through layers of (channels, taps, stride) to the pooled embedding.
fn stack([batch, cin, t]: [usize; 3], layers: Vec<[usize; 3]>, first: Role) -> Case {
    let mut inputs = vec![Input::normal(1, &[batch.div_ceil(16), cin, t, 16])];
    inputs[0].role = first;
    let mut channels = cin;
    for (seed, &[cout, k, _]) in (2..).zip(&layers) {
        let values = |from: f64| uniform(seed, cout).into_iter().map(|v| from + v).collect::<Vec<_>>();
        inputs.push(Input::normal(10 * seed, &[cout, channels, k]));
        inputs.push(Input::real(&[cout], values(0.5), Role::Grad));
        inputs.push(Input::real(&[cout], values(-0.5), Role::Grad));
        inputs.push(Input::real(&[cout], values(-0.5), Role::State));
        inputs.push(Input::real(&[cout], values(0.5), Role::State));
        channels = cout;
    }
    Case::new("conv_block", format!("b{batch} c{cin} t{t} {layers:?} {first:?}"), inputs, move |g, v| {
        let mut x = Features::input(g, v[0], batch)?;
        for (v, &[_, _, stride]) in v[1..].chunks_exact(5).zip(&layers) {
            let [weight, gamma, beta, running_mean, running_var] = [v[0], v[1], v[2], v[3], v[4]];
            let layer = ConvBlock {
                weight,
                gamma,
                beta,
                running_mean,
                running_var,
                stride,
                eps: 1e-5,
                momentum: 0.1,
            };
            x = conv_block(g, x, &layer, Mode::Train)?;
        }
        mean_over_time(g, x, None)
    })
    .within(
        3e-5,
        "normalised layers divide by a spread that itself carries f32 sums, and a ReLU at its kink may flip",
    )
}

fn all_match(cases: Vec<Case>) {
    let fault = |case: &Case| {
        let oracle = case.run(&Cpu::<f64>::new(1).unwrap()).unwrap();
        gpu::cuda().into_iter().find_map(|device| fault_on(&*device, case, &oracle))
    };
    let faults: Vec<String> = cases.par_iter().filter_map(fault).collect();
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), cases.len(), faults.join("\n"));
}

#[test]
fn layers_of_odd_shapes_match_the_oracle() {
    // Around sixteen samples; 4, 8 and 32 channels; the runs of 8 taps; strides that have code of their own and others.
    let batches = [3, 16, 17, 33, 50];
    let channels = [1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 31, 33];
    let (taps, strides) = ([1, 2, 3, 4, 5, 6, 7, 8, 9, 17], [1, 2, 3, 4, 7]);
    let cases = (0..36).map(|i| {
        let [c, d] = [channels[i % 12], channels[(5 * i + i / 12 + 3) % 12]];
        let layer = |i: usize, c| [c, taps[i % 10], strides[i % 5]];
        let layers = vec![layer(3 * i + i / 10, c), layer(7 * i + 2 + i / 5, d)];
        let shortest = layers.iter().rev().fold(3 + i, |t, &[_, k, stride]| (t - 1) * stride + k);
        let first = if i % 3 == 0 { Role::Constant } else { Role::Grad };
        stack([batches[i % 5], channels[(7 * i + 1) % 6], shortest + i % 4], layers, first)
    });
    // So many blocks that each takes all residues of its positions.
    let many = [3, 2].map(|stride| stack([1060, 1, 300], vec![[2, 3, stride], [1, 2, 1]], Role::Grad));
    all_match(cases.chain(many).collect());
}

#[test]
fn linear_layers_of_odd_shapes_match_the_oracle() {
    let sizes = [1, 2, 3, 5, 31, 32, 33, 63, 64, 65, 127, 129, 257];
    let cases = (0..39).map(|i| {
        let [b, n, o] = [sizes[i % 13], sizes[(3 * i + 1) % 13], sizes[(5 * i + i / 13) % 13]];
        let mut inputs = vec![Input::normal(1, &[b, n]), Input::normal(2, &[o, n]), Input::normal(3, &[o])];
        inputs.push(Input::index(&[3], vec![5, 6, i as u32]));
        let options = DropoutOptions { probability: [0.0, 0.1, 0.5][i / 13], stream: 2 };
        Case::new("linear", format!("b{b} i{n} o{o} {options:?}"), inputs, move |g, v| {
            dropped_linear(g, v[0], Some((v[3], options)), v[1], Some(v[2]), Activation::Sigmoid)
        })
    });
    all_match(cases.collect());
}

#[test]
fn memory_may_start_at_any_element() {
    let ([batch, cin, t], [cout, k]) = ([19, 2, 30], [5, 4]);
    let run = |device: &dyn Device, offset: usize| -> Vec<Vec<f64>> {
        let mut g = Graph::new();
        let leaf = |g: &mut Graph, seed: u64, shape: &[usize]| {
            let n = shape.iter().product::<usize>();
            let whole = device.upload(&vec![0.0; n + offset]).unwrap();
            let window = whole.window(offset, n).unwrap();
            device.write(&window, (&normal(seed, n)).into()).unwrap();
            let grad = device.upload(&vec![0.0; n + offset]).unwrap().window(offset, n).unwrap();
            (g.leaf(&window, Some(&grad), shape).unwrap(), grad)
        };
        let (x, dx) = leaf(&mut g, 1, &[2, cin, t, 16]);
        let (weight, dweight) = leaf(&mut g, 2, &[cout, cin, k]);
        let (gamma, dgamma) = leaf(&mut g, 3, &[cout]);
        let (beta, dbeta) = leaf(&mut g, 4, &[cout]);
        let (w, dw) = leaf(&mut g, 5, &[3, cout]);
        let [running_mean, running_var] = [6, 7].map(|seed| {
            let buf = device.upload(&uniform(seed, cout)).unwrap();
            g.bind(&buf, &[cout]).unwrap()
        });
        let features = Features::input(&g, x, batch).unwrap();
        let layer =
            ConvBlock { weight, gamma, beta, running_mean, running_var, stride: 2, eps: 1e-5, momentum: 0.1 };
        let features = conv_block(&mut g, features, &layer, Mode::Train).unwrap();
        let embedding = mean_over_time(&mut g, features, None).unwrap();
        let y = linear(&mut g, embedding, w, None, Activation::Relu).unwrap();
        let up = g.bind(&device.upload(&normal(8, batch * 3)).unwrap(), &[batch, 3]).unwrap();
        g.backward_from(y, up).unwrap();
        g.compile(device, &[]).unwrap().run().unwrap();
        [dx, dweight, dgamma, dbeta, dw].map(|b| device.download_f64(&b).unwrap()).to_vec()
    };
    let want = run(&Cpu::<f64>::new(1).unwrap(), 0);
    for device in gpu::cuda() {
        for offset in 0..4 {
            for (got, want) in run(&*device, offset).iter().zip(&want) {
                let error = relative(got, want);
                assert!(error < 1e-5, "{}: offset {offset}: {error:e}", device.name());
            }
        }
    }
}
