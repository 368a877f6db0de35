//! `etude::contrastive`: slices and buffers give what the graph gives, progress is told and can end a run, and every bad input is
//! an error that names what is wrong.

use etude::Error;
use etude::cases::{normal, uniform};
use etude::contrastive::{
    Buffers, ContrastiveOptions, CpuLoss, DeviceLoss, Metric, Samples, all, bins, check, cross,
};
use etude::device::{Cpu, Device};
use etude::graph::Graph;
use std::ops::ControlFlow;

fn floats(values: Vec<f64>) -> Vec<f32> {
    values.into_iter().map(|v| v as f32).collect()
}

struct Set {
    z: Vec<f32>,
    labels: Vec<f32>,
    weights: Vec<f32>,
}

impl Set {
    fn new(seed: u64, n: usize, d: usize) -> Self {
        let weights = uniform(seed + 2, n).into_iter().map(|w| if w < 0.3 { 0.0 } else { w }).collect();
        let labels = bins(&floats(uniform(seed + 1, n)), 5).unwrap();
        Self { z: floats(normal(seed, n * d)), labels, weights: floats(weights) }
    }
    fn samples(&self, weighted: bool) -> Samples<'_> {
        let samples = Samples::new(&self.z, self.z.len() / self.labels.len(), &self.labels);
        if weighted { samples.weighted(&self.weights) } else { samples }
    }
}

#[test]
fn slices_and_buffers_give_the_graphs_bits() {
    let (n, m, d) = (130, 67, 9);
    let (a, b) = (Set::new(1, n, d), Set::new(5, m, d));
    let cpu = Cpu::<f32>::new(1).unwrap();
    let device: &dyn Device = &cpu;
    for (metric, weighted) in
        [Metric::Euclidean, Metric::Cosine].into_iter().flat_map(|m| [false, true].map(|w| (m, w)))
    {
        let options = ContrastiveOptions { metric, grad_scale: 3.0, tau: 1.0, margin: 0.8, weight: 2.0 };
        let mut g = Graph::new();
        let z = g.leaf(&device.upload(&a.z).unwrap(), None, &[n, d]).unwrap();
        let labels = g.bind(&device.upload(&a.labels).unwrap(), &[n]).unwrap();
        let weights = g.bind(&device.upload(&a.weights).unwrap(), &[n]).unwrap();
        let labels = match weighted {
            true => etude::ops::contrastive::Labels::weighted(labels, weights),
            false => labels.into(),
        };
        let loss = etude::ops::contrastive::contrastive(&mut g, z, labels, options).unwrap();
        g.backward(loss).unwrap();
        let dz = g.grad(z).unwrap();
        let mut step = g.compile(device, &[loss, dz]).unwrap();
        step.run().unwrap();
        let want = [loss, dz].map(|v| device.download(step.buf(v).unwrap()).unwrap());

        let (loss, gradient) = all(a.samples(weighted), options).unwrap();
        assert_eq!((&vec![loss], &gradient), (&want[0], &want[1]));

        let upload = |set: &Set| [&set.z, &set.labels, &set.weights].map(|v| device.upload(v).unwrap());
        let (on_a, on_b) = (upload(&a), upload(&b));
        let [sa, sb] = [&on_a, &on_b].map(|[embeddings, labels, weights]| Buffers {
            embeddings,
            labels,
            weights: weighted.then_some(weights),
        });
        let mut resident = DeviceLoss::all(device, d, sa, options).unwrap();
        for _ in 0..2 {
            resident.run().unwrap();
            assert_eq!(vec![resident.loss().unwrap()], want[0]);
            assert_eq!(device.download(&resident.gradients()[0]).unwrap(), want[1]);
        }

        let (loss, [da, db]) = cross(a.samples(weighted), b.samples(weighted), options).unwrap();
        let mut resident = DeviceLoss::cross(device, d, sa, sb, options).unwrap();
        resident.run().unwrap();
        assert_eq!(resident.loss().unwrap(), loss);
        assert_eq!(device.download(resident.loss_buf()).unwrap(), [loss]);
        let [of_a, of_b] = [0, 1].map(|i| device.download(&resident.gradients()[i]).unwrap());
        assert_eq!((of_a, of_b), (da, db));
    }
}

#[test]
fn progress_counts_every_pair_and_can_end_the_run() {
    let (n, d) = (1000u64, 3);
    let set = Set::new(1, n as usize, d);
    for threads in [1, 2] {
        let loss = CpuLoss::new(threads).unwrap();
        let mut gradient = vec![0.0; set.z.len()];
        for cross in [false, true] {
            let mut heard = Vec::new();
            let mut hear = |done, total| {
                heard.push((done, total));
                ControlFlow::Continue(())
            };
            let options = ContrastiveOptions::default();
            let half = Set::new(3, 333, d);
            let mut other = vec![0.0; half.z.len()];
            let pairs = if cross {
                let grads = [&mut gradient[..], &mut other[..]];
                loss.cross(set.samples(false), half.samples(false), options, grads, Some(&mut hear)).unwrap();
                n * 333
            } else {
                loss.all(set.samples(false), options, &mut gradient, Some(&mut hear)).unwrap();
                n * (n - 1) / 2
            };
            assert!(heard.len() > 3 && heard.windows(2).all(|w| w[0].0 < w[1].0), "{heard:?}");
            assert!(heard.iter().all(|h| h.1 == pairs));
            assert_eq!(heard.last().unwrap().0, pairs);
        }
        let mut calls = 0;
        let mut stop = |_, _| {
            calls += 1;
            if calls == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let samples = set.samples(false);
        let ended = loss.all(samples, ContrastiveOptions::default(), &mut gradient, Some(&mut stop));
        let message = ended.unwrap_err().to_string();
        assert!(message.contains("ended by its caller") && message.contains("499500"), "{message}");
        assert_eq!(calls, 3);
    }
}

/// Expects `result` to name the argument, and all of `words` in the message.
fn refused<T>(result: etude::Result<T>, argument: &str, words: &[&str]) {
    match result {
        Err(Error::Shape { argument: at, message, .. }) => {
            assert_eq!(at, argument, "{message}");
            assert!(words.iter().all(|w| message.contains(w)), "{words:?} in: {message}");
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("{argument}: taken; expected {words:?}"),
    }
}

#[test]
fn lengths_and_options_that_do_not_fit_are_refused() {
    let set = Set::new(1, 10, 4);
    let (z, labels, weights) = (&set.z[..], &set.labels[..], &set.weights[..]);
    let fine = ContrastiveOptions::default();
    let one = |samples: Samples<'_>| all(samples, fine).map(drop);
    // Rows and labels of other lengths.
    refused(one(Samples::new(&z[1..], 4, labels)), "embeddings", &["39", "[10, 4]"]);
    refused(one(Samples::new(z, 4, &labels[..9])), "embeddings", &["40", "[9, 4]"]);
    refused(one(Samples::new(z, 0, labels)), "embeddings", &["40", "[10, 0]"]);
    refused(one(Samples::new(z, usize::MAX, labels)), "embeddings", &["40"]);
    refused(one(Samples::new(z, 4, labels).weighted(&weights[..7])), "weights", &["7", "10"]);
    // No pair; nothing.
    refused(one(Samples::new(&z[..4], 4, &labels[..1])), "embeddings", &["two rows", "[1, 4]"]);
    refused(one(Samples::new(&[], 4, &[])), "embeddings", &["[0, 4]"]);
    // Two sets whose rows differ in length.
    let narrow = Samples::new(z, 2, &[0.0; 20]);
    refused(cross(Samples::new(z, 4, labels), narrow, fine), "others' embeddings", &["[20, 2]", "[10, 4]"]);
    refused(cross(Samples::new(z, 4, labels), Samples::new(&[], 4, &[]), fine), "others' embeddings", &[]);
    // A gradient of another length.
    let cpu = CpuLoss::new(1).unwrap();
    let samples = Samples::new(z, 4, labels);
    refused(cpu.all(samples, fine, &mut [0.0; 39], None), "gradient", &["39", "40"]);
    let grads: [&mut [f32]; 2] = [&mut [0.0; 40], &mut [0.0; 41]];
    refused(cpu.cross(samples, samples, fine, grads, None), "others' gradient", &["41", "40"]);
    // Options.
    for margin in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        refused(all(samples, ContrastiveOptions { margin, ..fine }), "margin", &["positive"]);
    }
    for tau in [-0.1, f32::NAN, f32::INFINITY] {
        refused(all(samples, ContrastiveOptions { tau, ..fine }), "tau", &["not negative"]);
    }
    refused(all(samples, ContrastiveOptions { weight: f32::NAN, ..fine }), "weight", &["finite"]);
    refused(
        all(samples, ContrastiveOptions { grad_scale: f32::INFINITY, ..fine }),
        "grad_scale",
        &["finite"],
    );
    // Bins.
    refused(bins(&[0.5f32], 1), "k", &["from 2", "1"]);
    refused(bins(&[0.5f32, f32::NAN], 5), "ratings", &["rating 1"]);
    // Buffers.
    let device = Cpu::<f32>::new(1).unwrap();
    let device: &dyn Device = &device;
    let [z, labels, weights] = [z, labels, &weights[..7]].map(|v| device.upload(v).unwrap());
    let buffers = Buffers { embeddings: &z, labels: &labels, weights: None };
    refused(DeviceLoss::all(device, 3, buffers, fine), "embeddings", &["40", "[10, 3]"]);
    let weighted = Buffers { weights: Some(&weights), ..buffers };
    refused(DeviceLoss::all(device, 4, weighted, fine), "weights", &["[7]", "[10, 4]"]);
}

#[test]
fn what_is_not_finite_is_named_by_row_and_column() {
    let (n, d) = (50, 6);
    let fine = ContrastiveOptions::default();
    let cpu = CpuLoss::new(1).unwrap().checked();
    let mut gradient = vec![0.0; n * d];
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut set = Set::new(1, n, d);
        set.z[31 * d + 4] = bad;
        let words = ["row 31", "column 4", &bad.to_string()];
        refused(cpu.all(set.samples(false), fine, &mut gradient, None), "embeddings", &words);
        let good = Set::new(2, n, d);
        let mut other = gradient.clone();
        let grads = [&mut gradient[..], &mut other[..]];
        let crossed = cpu.cross(good.samples(false), set.samples(false), fine, grads, None);
        refused(crossed, "others' embeddings", &words);
        // Masked out it does not count.
        set.weights[31] = 0.0;
        cpu.all(set.samples(true), fine, &mut gradient, None).unwrap();
        assert!(gradient.iter().all(|v| v.is_finite()));

        let device = Cpu::<f32>::new(1).unwrap();
        let device: &dyn Device = &device;
        let [z, labels, weights] = [&set.z, &set.labels, &set.weights].map(|v| device.upload(v).unwrap());
        let buffers = Buffers { embeddings: &z, labels: &labels, weights: None };
        refused(DeviceLoss::all(device, d, buffers, fine).unwrap().run_checked(), "embeddings", &words);
        let masked = Buffers { weights: Some(&weights), ..buffers };
        DeviceLoss::all(device, d, masked, fine).unwrap().run_checked().unwrap();

        let mut set = Set::new(1, n, d);
        set.labels[7] = bad;
        refused(cpu.all(set.samples(false), fine, &mut gradient, None), "labels", &["row 7"]);
        set.weights[8] = bad;
        refused(cpu.all(set.samples(true), fine, &mut gradient, None), "weights", &["row 8"]);
        set.weights[8] = -1.0;
        refused(cpu.all(set.samples(true), fine, &mut gradient, None), "weights", &["row 8", "-1"]);
    }
}

/// Labels and weights are looked at in any case; a row that is no number makes the loss NaN where nobody asked to be told.
#[test]
fn what_is_not_looked_at_makes_the_loss_nan() {
    let (n, d) = (50, 6);
    let fine = ContrastiveOptions::default();
    let device = Cpu::<f32>::new(1).unwrap();
    let device: &dyn Device = &device;
    let other = Set::new(2, n, d);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.5] {
        let on_device = |set: &Set| {
            let [z, labels, weights] = [&set.z, &set.labels, &set.weights].map(|v| device.upload(v).unwrap());
            let buffers = Buffers { embeddings: &z, labels: &labels, weights: Some(&weights) };
            let mut loss = DeviceLoss::all(device, d, buffers, fine).unwrap();
            loss.run().unwrap();
            loss.loss().unwrap()
        };
        if bad != -0.5 {
            let mut set = Set::new(1, n, d);
            set.z[31 * d + 4] = bad;
            let (loss, gradient) = all(set.samples(false), fine).unwrap();
            assert!(loss.is_nan() && gradient.iter().all(|v| v.is_nan()), "{bad}: {loss}");
            let (loss, _) = cross(other.samples(false), set.samples(false), fine).unwrap();
            assert!(loss.is_nan(), "{bad}: {loss}");
            set.weights[31] = 1.0;
            assert!(on_device(&set).is_nan());
            // Masked out it does not count.
            set.weights[31] = 0.0;
            assert!(all(set.samples(true), fine).unwrap().0.is_finite() && on_device(&set).is_finite());
        }
        let mut set = Set::new(1, n, d);
        set.labels[7] = bad;
        let words = ["row 7", "must be finite and not negative", &bad.to_string()];
        refused(all(set.samples(false), fine), "labels", &words);
        refused(cross(other.samples(false), set.samples(false), fine), "others' labels", &words);
        refused(check("mine", &set.labels, None), "labels", &words);
        set.weights[7] = 1.0;
        assert!(on_device(&set).is_nan());
        set.weights[7] = 0.0;
        check("mine", &set.labels, Some(&set.weights)).unwrap();
        assert!(all(set.samples(true), fine).unwrap().0.is_finite() && on_device(&set).is_finite());
        set.weights[9] = bad;
        let words = ["row 9", "must be finite and not negative", &bad.to_string()];
        refused(all(set.samples(true), fine), "weights", &words);
        refused(cross(other.samples(false), set.samples(true), fine), "others' weights", &words);
        refused(check("mine", &set.labels, Some(&set.weights)), "weights", &words);
        assert!(on_device(&set).is_nan());
    }
    refused(check("mine", &[1.0f64, 2.0], Some(&[1.0])), "weights", &["1 weights", "2 labels"]);
}
