//! The fused network is the plain composition of ops, and its training learns.

use approx::{assert_abs_diff_eq, assert_relative_eq};
use etude::cases::{normal, uniform};
use etude::device::{Cpu, Device};
use etude::graph::{Graph, Var};
use etude::net::{Learn, NetConfig, PcConvNet};
use etude::ops::activation::relu;
use etude::ops::batch_norm::{self, BatchNormOptions, BatchNormVars, batch_norm};
use etude::ops::contrastive::{ContrastiveOptions, contrastive};
use etude::ops::conv1d::{ConvOptions1d, conv1d};
use etude::ops::linear::{Activation, linear};
use etude::ops::loss::{LossOptions, mse, mse_weighted};
use etude::ops::pool::mean_time;
use etude::optim::Method;

/// `[B, C, T]` as `[ceil(B/16), C, T, 16]`.
fn blocked(x: &[f64], [b, c, t]: [usize; 3]) -> Vec<f64> {
    let mut out = vec![0.0; b.div_ceil(16) * c * t * 16];
    for (i, &v) in x.iter().enumerate() {
        let (sample, channel, frame) = (i / (c * t), i / t % c, i % t);
        out[((sample / 16 * c + channel) * t + frame) * 16 + sample % 16] = v;
    }
    out
}

#[test]
fn the_fused_network_is_the_composition_of_plain_ops() {
    let cpu = Cpu::<f64>::new(1).unwrap();
    let device: &dyn Device = &cpu;
    let dims @ [batch, channels, frames] = [21, 2, 220];
    let (x, y) = (normal(1, batch * channels * frames), uniform(2, batch));
    let run = |fused: bool| {
        let net = PcConvNet::new(device, NetConfig::paper(channels, frames), 7).unwrap();
        let mut g = Graph::new();
        let vars = net.bind(&mut g, Learn::Yes, Learn::Yes).unwrap();
        let target = g.bind(&device.upload(&y).unwrap(), &[batch]).unwrap();
        let (rating, embedding) = if fused {
            let x = device.upload(&blocked(&x, dims)).unwrap();
            let x = g.bind(&x, &[batch.div_ceil(16), channels, frames, 16]).unwrap();
            let embedding = net.encode(&mut g, &vars, x, batch, None).unwrap();
            (net.rate(&mut g, &vars, embedding, None).unwrap(), embedding)
        } else {
            let mut a = g.bind(&device.upload(&x).unwrap(), &dims).unwrap();
            for i in 1..=3 {
                let of = |name: &str| vars.encoder.get(&format!("{name}{i}.weight")).unwrap();
                let norm = |name: &str| vars.encoder.get(&format!("norm{i}.{name}")).unwrap();
                let running = |g: &mut Graph, name: &str| -> Var {
                    let buf = net.running.buf(&format!("norm{i}.{name}")).unwrap();
                    g.bind(buf, &[buf.len()]).unwrap()
                };
                let options = ConvOptions1d { stride: 3, ..Default::default() };
                a = conv1d(&mut g, a, of("conv"), None, options).unwrap();
                let (running_mean, running_var) =
                    (running(&mut g, "running_mean"), running(&mut g, "running_var"));
                let (gamma, beta) = (norm("gamma"), norm("beta"));
                let vars = BatchNormVars { gamma, beta, running_mean, running_var };
                let options = BatchNormOptions { mode: batch_norm::Mode::Train, ..Default::default() };
                a = batch_norm(&mut g, a, vars, options).unwrap();
                a = relu(&mut g, a).unwrap();
            }
            let embedding = mean_time(&mut g, a).unwrap();
            let head = |name: &str| vars.head.get(name).unwrap();
            let (w, b) = (head("hidden.weight"), head("hidden.bias"));
            let h = linear(&mut g, embedding, w, Some(b), Activation::None).unwrap();
            let (w, b) = (head("out.weight"), head("out.bias"));
            (linear(&mut g, h, w, Some(b), Activation::Sigmoid).unwrap(), embedding)
        };
        let loss = mse(&mut g, rating, target, LossOptions::default()).unwrap();
        g.backward(loss).unwrap();
        let mut step = g.compile(device, &[loss, rating, embedding]).unwrap();
        step.run().unwrap();
        let mut all = Vec::new();
        for var in [loss, rating, embedding] {
            all.push(("output", device.download_f64(step.buf(var).unwrap()).unwrap()));
        }
        for (set, what) in [(&net.encoder, "encoder"), (&net.head, "head")] {
            all.push((what, device.download_f64(set.gradient()).unwrap()));
        }
        all.push(("running statistics", device.download_f64(net.running.theta()).unwrap()));
        all
    };
    for ((what, fused), (_, plain)) in run(true).iter().zip(&run(false)) {
        assert_eq!(fused.len(), plain.len());
        for (a, b) in fused.iter().zip(plain) {
            // Both in f64; the fused form sums in another order.
            assert!((a - b).abs() <= 1e-11 * b.abs().max(1.0), "{what}: {a} against {b}");
        }
        assert!(fused.iter().any(|v| *v != 0.0), "{what} is all zero");
    }
}

#[test]
fn a_schedule_rises_then_falls_along_a_cosine() {
    use etude::optim::Schedule;
    let cosine = Schedule::Cosine { lr: 0.4, warm_up: 4 };
    let at: Vec<f64> = (0..=24).map(|s| cosine.lr_at(s, 24)).collect();
    assert_relative_eq!(at[0], 0.1);
    assert_relative_eq!(at[3], 0.4);
    assert_relative_eq!(at[14], 0.2, epsilon = 1e-12);
    assert_abs_diff_eq!(at[24], 0.0);
    assert!(at[4..].windows(2).all(|w| w[1] < w[0]));
    assert_relative_eq!(Schedule::Constant { lr: 0.3, warm_up: 0 }.lr_at(1000, 10), 0.3);
}

/// The rating of the note head, its error, and the gradient of a weight of each layer; by plain ops too.
#[test]
fn the_note_head_is_three_linear_layers_and_shares_nothing() {
    let cpu = Cpu::<f64>::new(1).unwrap();
    let device: &dyn Device = &cpu;
    let (batch, features, frames) = (21, 7, 220);
    let rows = normal(3, batch * features);
    let notes = NetConfig::notes(features);
    let both = NetConfig { notes: notes.notes, ..NetConfig::paper(1, frames) };
    let target = uniform(2, batch);
    let run = |config: &NetConfig, plain: bool| -> Vec<Vec<f64>> {
        let net = PcConvNet::new(device, config.clone(), 7).unwrap();
        // The same weights whatever is beside them.
        let alone = PcConvNet::new(device, notes.clone(), 9).unwrap().tensors(device).unwrap();
        let mut tensors = net.tensors(device).unwrap();
        for t in &mut tensors {
            if let Some(same) = alone.iter().find(|other| other.name == t.name) {
                t.values.clone_from(&same.values);
            }
        }
        net.load(device, &tensors).unwrap();
        let mut g = Graph::new();
        let vars = net.bind(&mut g, Learn::Yes, Learn::Yes).unwrap();
        let x = g.bind(&device.upload(&rows).unwrap(), &[batch, features]).unwrap();
        let target = g.bind(&device.upload(&target).unwrap(), &[batch]).unwrap();
        let of = |name: &str| vars.head.get(name).or_else(|_| vars.encoder.get(name)).unwrap();
        let (hidden, rating) = if plain {
            let mut a = x;
            for (layer, activation) in
                [("notes1", Activation::Relu), ("notes2", Activation::Relu), ("notes3", Activation::Sigmoid)]
            {
                let (w, b) = (of(&format!("{layer}.weight")), of(&format!("{layer}.bias")));
                a = linear(&mut g, a, w, Some(b), activation).unwrap();
            }
            (a, a)
        } else {
            let hidden = net.encode_notes(&mut g, &vars, x, None).unwrap();
            (hidden, net.rate_notes(&mut g, &vars, hidden, None).unwrap())
        };
        let mut loss = mse(&mut g, rating, target, LossOptions::default()).unwrap();
        if config.has_path() {
            let x = device.upload(&blocked(&normal(1, batch * frames), [batch, 1, frames])).unwrap();
            let x = g.bind(&x, &[batch.div_ceil(16), 1, frames, 16]).unwrap();
            let embedding = net.encode(&mut g, &vars, x, batch, None).unwrap();
            let path = net.rate(&mut g, &vars, embedding, None).unwrap();
            let path = mse(&mut g, path, target, LossOptions::default()).unwrap();
            loss = etude::ops::add(&mut g, loss, path).unwrap();
        }
        g.backward(loss).unwrap();
        let mut wanted = vec![rating];
        for layer in ["notes1", "notes2", "notes3"] {
            wanted.push(g.grad(of(&format!("{layer}.weight"))).unwrap());
        }
        let mut step = g.compile(device, &[&wanted[..], &[hidden]].concat()).unwrap();
        step.run().unwrap();
        wanted.iter().map(|&v| device.download_f64(step.buf(v).unwrap()).unwrap()).collect()
    };
    let expected = run(&notes, true);
    assert!(expected.iter().all(|values| values.iter().any(|v| v.abs() > 1e-6)));
    for (made, expected) in
        run(&notes, false).iter().zip(&expected).chain(run(&both, false).iter().zip(&expected))
    {
        for (a, b) in made.iter().zip(expected) {
            assert_relative_eq!(a, b, epsilon = 1e-12);
        }
    }
}

#[test]
fn features_are_standardised_as_the_training_takes_were() {
    let cpu = Cpu::<f32>::new(1).unwrap();
    let net = PcConvNet::new(&cpu, NetConfig::notes(3), 7).unwrap();
    // Untrained it leaves them, but for the clipping.
    assert_eq!(net.standardise(&cpu, &[&[0.5, -9.0, 2.0]]).unwrap()[1], -2.5);
    let rows: [&[f32]; 4] = [&[1.0, 5.0, 0.0], &[3.0, 5.0, 0.0], &[1.0, 5.0, 0.0], &[3.0, 5.0, 100.0]];
    net.fit_standardisation(&cpu, &rows).unwrap();
    // Means 2, 5 and 25, deviations 1, 0 and 43.3: what never differed stays 0, unless it does now.
    let standard = net.standardise(&cpu, &[&[1.0, 5.0, 25.0], &[4.0, 5.1, 1000.0]]).unwrap();
    for (a, b) in standard.into_iter().zip([-1.0, 0.0, 0.0, 2.0, 2.5, 2.5]) {
        assert_abs_diff_eq!(a, b, epsilon = 1e-5);
    }
    let refused = |result: etude::Result<()>| result.unwrap_err().to_string();
    assert!(refused(net.fit_standardisation(&cpu, &[])).contains("3 features"));
    assert!(refused(net.fit_standardisation(&cpu, &[&[1.0]])).contains("3 features"));
    assert!(refused(net.fit_standardisation(&cpu, &[&[f32::NAN, 0.0, 0.0]])).contains("feature 0"));
    let narrow = net.standardise(&cpu, &[&[1.0, 2.0]]).unwrap_err().to_string();
    assert!(narrow.contains("takes 3 features, a take has 2"), "{narrow}");
    assert!(PcConvNet::new(&cpu, NetConfig::paper(1, 220), 0).unwrap().standardise(&cpu, &[]).is_err());
    // Kept with the weights.
    let other = PcConvNet::new(&cpu, NetConfig::notes(3), 8).unwrap();
    other.load(&cpu, &net.tensors(&cpu).unwrap()).unwrap();
    assert_eq!(other.standardise(&cpu, &rows).unwrap(), net.standardise(&cpu, &rows).unwrap());
}

#[test]
fn a_training_step_takes_few_launches() {
    let cpu = Cpu::<f32>::new(1).unwrap();
    let device: &dyn Device = &cpu;
    let (batch, frames) = (20, 220);
    // The paper's network, and one that drops values; both have a batch gathered in two launches before them.
    for config in [NetConfig::paper(1, frames), NetConfig::alignment(1, frames)] {
        let net = PcConvNet::new(device, config, 0).unwrap();
        let mut g = Graph::new();
        let vars = net.bind(&mut g, Learn::Yes, Learn::Yes).unwrap();
        let x = device.upload(&normal(1, 32 * frames)).unwrap();
        let x = g.bind(&x, &[2, 1, frames, 16]).unwrap();
        let state = g.bind(&device.upload(&[1u32, 2, 3]).unwrap(), &[3]).unwrap();
        let target = g.bind(&device.upload(&uniform(2, batch)).unwrap(), &[batch]).unwrap();
        let embedding = net.encode(&mut g, &vars, x, batch, None).unwrap();
        let rating = net.rate(&mut g, &vars, embedding, Some(state)).unwrap();
        let loss = mse(&mut g, rating, target, LossOptions::default()).unwrap();
        g.backward(loss).unwrap();
        net.optimize(device, &mut g, &vars, Method::Adam(Default::default())).unwrap();
        assert_eq!(g.compile(device, &[loss]).unwrap().launches(), 14);
    }
}

/// A weight that is NaN reaches the rating and the loss: no activation and no hinge on the way makes 0 of it.
#[test]
fn one_weight_that_is_no_number_is_seen_at_the_end() {
    fn losses(device: &dyn Device, tensor: &str) -> Vec<f64> {
        let (batch, frames) = (20, 220);
        let net = PcConvNet::new(device, NetConfig::paper(1, frames), 7).unwrap();
        let mut tensors = net.tensors(device).unwrap();
        tensors.iter_mut().find(|t| t.name == tensor).unwrap().values[0] = f32::NAN;
        net.load(device, &tensors).unwrap();
        let mut g = Graph::new();
        let vars = net.bind(&mut g, Learn::Yes, Learn::Yes).unwrap();
        let x = device.upload(&blocked(&normal(1, batch * frames), [batch, 1, frames])).unwrap();
        let x = g.bind(&x, &[batch.div_ceil(16), 1, frames, 16]).unwrap();
        let labels = (0..batch).map(|i| i as f64).collect::<Vec<_>>();
        let labels = g.bind(&device.upload(&labels).unwrap(), &[batch]).unwrap();
        let embedding = net.encode(&mut g, &vars, x, batch, None).unwrap();
        let rating = net.rate(&mut g, &vars, embedding, None).unwrap();
        let of = if tensor.starts_with("conv") { embedding } else { rating };
        let contrast = contrastive(&mut g, of, labels, ContrastiveOptions::default()).unwrap();
        let mut step = g.compile(device, &[rating, contrast]).unwrap();
        step.run().unwrap();
        [rating, contrast].iter().flat_map(|&v| device.download_f64(step.buf(v).unwrap()).unwrap()).collect()
    }
    for tensor in ["conv1.weight", "conv2.weight", "conv3.weight", "hidden.weight", "out.weight"] {
        for device in [&Cpu::<f64>::new(1).unwrap() as &dyn Device, &Cpu::<f32>::new(1).unwrap()] {
            let got = losses(device, tensor);
            assert!(got.iter().all(|v| v.is_nan()), "{tensor}: {got:?}");
        }
    }
}

#[test]
fn a_variance_that_is_none_is_refused() {
    let cpu = Cpu::<f32>::new(1).unwrap();
    let net = PcConvNet::new(&cpu, NetConfig::paper(1, 220), 7).unwrap();
    let tensors = net.tensors(&cpu).unwrap();
    for bad in [-1e-3, f32::NAN, f32::INFINITY] {
        let mut tensors = tensors.clone();
        tensors.iter_mut().find(|t| t.name == "norm2.running_var").unwrap().values[3] = bad;
        let message = net.load(&cpu, &tensors).unwrap_err().to_string();
        assert!(message.contains("norm2.running_var") && message.contains(&bad.to_string()), "{message}");
    }
    // As it was before.
    net.load(&cpu, &tensors).unwrap();
    let notes = PcConvNet::new(&cpu, NetConfig::notes(3), 7).unwrap();
    let mut tensors = notes.tensors(&cpu).unwrap();
    tensors.iter_mut().find(|t| t.name == "notes.deviation").unwrap().values[1] = -1.0;
    assert!(notes.load(&cpu, &tensors).unwrap_err().to_string().contains("notes.deviation holds -1"));
}

#[test]
fn a_rating_that_is_missing_moves_nothing() {
    let cpu = Cpu::<f64>::new(1).unwrap();
    let device: &dyn Device = &cpu;
    let (batch, width) = (5, 3);
    let (x, w, rated) = (normal(1, batch * width), normal(2, 2 * width), uniform(3, batch));
    // The gradient of the weights of a layer with so many outputs, of which the first alone is rated.
    let gradient = |outputs: usize| {
        let mut g = Graph::new();
        let x = g.bind(&device.upload(&x).unwrap(), &[batch, width]).unwrap();
        let (w, dw) = (
            device.upload(&w[..outputs * width]).unwrap(),
            device.upload(&vec![0.0; outputs * width]).unwrap(),
        );
        let w = g.leaf(&w, Some(&dw), &[outputs, width]).unwrap();
        let made = linear(&mut g, x, w, None, Activation::Sigmoid).unwrap();
        let row = |rating: f64, other: f64| [rating, other].into_iter().take(outputs).collect::<Vec<_>>();
        let targets: Vec<f64> = rated.iter().flat_map(|&rating| row(rating, f64::NAN)).collect();
        let weights: Vec<f64> = rated.iter().flat_map(|_| row(1.0, 0.0)).collect();
        let shape = [batch, outputs];
        let [targets, weights] =
            [targets, weights].map(|of| g.bind(&device.upload(&of).unwrap(), &shape).unwrap());
        let loss = match outputs {
            1 => mse(&mut g, made, targets, LossOptions::default()).unwrap(),
            _ => mse_weighted(&mut g, made, targets, weights, LossOptions::default()).unwrap(),
        };
        g.backward(loss).unwrap();
        let mut step = g.compile(device, &[loss]).unwrap();
        step.run().unwrap();
        (device.download_f64(step.buf(loss).unwrap()).unwrap()[0], device.download_f64(&dw).unwrap())
    };
    let ((one, of_one), (both, of_both)) = (gradient(1), gradient(2));
    assert_relative_eq!(both, one / 2.0, max_relative = 1e-12);
    for (one, both) in of_one.iter().zip(&of_both) {
        assert_relative_eq!(*both, one / 2.0, max_relative = 1e-12);
    }
    assert_eq!(of_both[width..], [0.0; 3]);
}
