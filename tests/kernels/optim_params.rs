//! Parameter sets, optimizers over them, and schedules.

use etude::device::{Cpu, Device};
use etude::graph::Graph;
use etude::ops::linear::{Activation, linear};
use etude::ops::loss::{LossOptions, mse};
use etude::ops::optim::{Adam, Sgd};
use etude::optim::{ALIGNMENT, Method, Optimizer, ParamSet, Schedule};

fn close(a: f64, b: f64, within: f64) -> bool {
    (a - b).abs() <= within * b.abs().max(1e-3)
}

/// A scalar written out, step by step, in f64: `y = w·x`, loss `(w·x − t)²`.
fn by_hand(method: Method, lrs: &[f64], w: f64, x: f64, t: f64) -> Vec<f64> {
    let (mut w, mut v, mut m, mut out) = (w, 0.0, 0.0, Vec::new());
    for (step, lr) in lrs.iter().enumerate() {
        let grad = 2.0 * (w * x - t) * x;
        match method {
            Method::Sgd(o) => {
                let d = grad + f64::from(o.weight_decay) * w;
                v = if step == 0 { d } else { f64::from(o.momentum) * v + d };
                w -= lr * v;
            }
            Method::Adam(o) => {
                let rest = |beta: f64| f64::from((1.0 - beta) as f32);
                let (b1, b2) = (1.0 - rest(o.beta1), 1.0 - rest(o.beta2));
                let decay = f64::from(o.weight_decay);
                let mut d = grad;
                if o.decoupled {
                    w -= lr * decay * w;
                } else {
                    d += decay * w;
                }
                m = b1 * m + (1.0 - b1) * d;
                v = b2 * v + (1.0 - b2) * d * d;
                let k = step as i32 + 1;
                let (mean, square) = (m / (1.0 - b1.powi(k)), v / (1.0 - b2.powi(k)));
                w -= lr * mean / (square.sqrt() + f64::from(o.eps));
            }
        }
        out.push(w);
    }
    out
}

#[test]
fn optimizers_follow_their_definitions_over_many_steps() {
    let cpu = Cpu::<f64>::new(1).unwrap();
    let device: &dyn Device = &cpu;
    let lrs: Vec<f64> = (0..50).map(|i| 0.01 + 0.001 * f64::from(i % 7)).collect();
    for method in [
        Method::Sgd(Sgd { momentum: 0.0, weight_decay: 0.0 }),
        Method::Sgd(Sgd { momentum: 0.9, weight_decay: 0.05 }),
        Method::Adam(Adam { weight_decay: 0.1, decoupled: false, ..Adam::default() }),
        Method::Adam(Adam { weight_decay: 0.1, decoupled: true, ..Adam::default() }),
        Method::Adam(Adam { beta1: 0.0, ..Adam::default() }),
    ] {
        let params = ParamSet::new(device, &[("w", &[1, 1])]).unwrap();
        params.write(device, "w", &[0.7f64]).unwrap();
        let mut optimizer = Optimizer::new(device, &params, method).unwrap();
        let mut g = Graph::new();
        let leaves = params.leaves(&mut g).unwrap();
        let x = g.bind(&device.upload(&[1.5f64]).unwrap(), &[1, 1]).unwrap();
        let t = g.bind(&device.upload(&[-0.4f64]).unwrap(), &[1]).unwrap();
        let y = linear(&mut g, x, leaves.get("w").unwrap(), None, Activation::None).unwrap();
        let loss = mse(&mut g, y, t, LossOptions::default()).unwrap();
        g.backward(loss).unwrap();
        optimizer.record(&mut g, &params, &leaves).unwrap();
        let mut step = g.compile(device, &[]).unwrap();
        for (i, (lr, want)) in lrs.iter().zip(by_hand(method, &lrs, 0.7, 1.5, -0.4)).enumerate() {
            optimizer.before_step(device, *lr).unwrap();
            step.run().unwrap();
            let got = device.download_f64(params.buf("w").unwrap()).unwrap()[0];
            assert!(close(got, want, 1e-12), "{method:?} step {i}: {got} for {want}");
        }
        assert_eq!(optimizer.steps(), 50);
    }
}

#[test]
fn a_step_of_a_small_network_is_few_launches_and_learns() {
    let cpu = Cpu::<f32>::new(1).unwrap();
    let device: &dyn Device = &cpu;
    let shapes: [(&str, &[usize]); 4] =
        [("hidden.w", &[8, 3]), ("hidden.b", &[8]), ("out.w", &[1, 8]), ("out.b", &[1])];
    let params = ParamSet::new(device, &shapes).unwrap();
    for (name, shape) in shapes {
        let values = etude::cases::normal(name.len() as u64, shape.iter().product());
        params.write(device, name, &values).unwrap();
    }
    let x = etude::cases::normal(1, 3 * 64);
    let target: Vec<f64> = x.chunks(3).map(|x| 1.0 / (1.0 + (x[0] * x[1] - x[2]).exp())).collect();
    let mut optimizer = Optimizer::new(device, &params, Method::Adam(Adam::default())).unwrap();
    let mut g = Graph::new();
    let p = params.leaves(&mut g).unwrap();
    let x = g.bind(&device.upload(&x).unwrap(), &[64, 3]).unwrap();
    let t = g.bind(&device.upload(&target).unwrap(), &[64]).unwrap();
    let (w, b) = (p.get("hidden.w").unwrap(), p.get("hidden.b").unwrap());
    let h = linear(&mut g, x, w, Some(b), Activation::Relu).unwrap();
    let (w, b) = (p.get("out.w").unwrap(), p.get("out.b").unwrap());
    let y = linear(&mut g, h, w, Some(b), Activation::Sigmoid).unwrap();
    let loss = mse(&mut g, y, t, LossOptions::default()).unwrap();
    g.backward(loss).unwrap();
    optimizer.record(&mut g, &params, &p).unwrap();
    let mut step = g.compile(device, &[loss]).unwrap();
    // Two layers, the loss, two backward, the update.
    assert_eq!(step.launches(), 6);
    let mut losses = Vec::new();
    for i in 0..300 {
        let lr = Schedule::Cosine { lr: 0.05, warm_up: 10 }.lr_at(i, 300);
        optimizer.before_step(device, lr).unwrap();
        step.run().unwrap();
        losses.push(device.download(step.buf(loss).unwrap()).unwrap()[0]);
    }
    assert!(losses[299] < losses[0] / 10.0, "from {} to {}", losses[0], losses[299]);
    // What lies between the tensors stays 0.
    let (theta, mut covered) = (device.download(params.theta()).unwrap(), vec![false; params.theta().len()]);
    let mut at = 0;
    for (_, shape) in shapes {
        let len: usize = shape.iter().product();
        covered[at..at + len].fill(true);
        at = (at + len).next_multiple_of(ALIGNMENT);
    }
    assert_eq!(at, theta.len());
    for (i, (&v, covered)) in theta.iter().zip(covered).enumerate() {
        assert!(covered || v == 0.0, "padding element {i} is {v}");
    }
}

#[test]
fn a_parameter_without_a_gradient_is_named() {
    let cpu = Cpu::<f32>::new(1).unwrap();
    let device: &dyn Device = &cpu;
    let params = ParamSet::new(device, &[("used", &[1, 1][..]), ("forgotten", &[3])]).unwrap();
    let other = ParamSet::new(device, &[("used", &[1, 1][..]), ("forgotten", &[3])]).unwrap();
    let optimizer = Optimizer::new(device, &params, Method::Sgd(Sgd::default())).unwrap();
    let mut g = Graph::new();
    let leaves = params.leaves(&mut g).unwrap();
    let w = leaves.get("used").unwrap();
    let x = g.bind(&device.upload(&[1f32]).unwrap(), &[1, 1]).unwrap();
    let t = g.bind(&device.upload(&[1f32]).unwrap(), &[1]).unwrap();
    let y = linear(&mut g, x, w, None, Activation::None).unwrap();
    let loss = mse(&mut g, y, t, LossOptions::default()).unwrap();
    let error = optimizer.record(&mut g, &params, &leaves).unwrap_err().to_string();
    assert!(error.contains("`used`"), "{error}");
    g.backward(loss).unwrap();
    let error = optimizer.record(&mut g, &params, &leaves).unwrap_err().to_string();
    assert!(error.contains("`forgotten`"), "{error}");
    let error = optimizer.record(&mut g, &other, &leaves).unwrap_err().to_string();
    assert!(error.contains("another parameter set"), "{error}");
}

#[test]
fn tensors_are_written_and_read_by_name() {
    let cpu = Cpu::<f32>::new(1).unwrap();
    let device: &dyn Device = &cpu;
    let params = ParamSet::new(device, &[("a", &[2, 3][..]), ("b", &[65]), ("c", &[1])]).unwrap();
    assert_eq!((params.count(), params.theta().len()), (72, 64 + 128 + 64));
    assert_eq!(params.shape("b").unwrap(), [65]);
    params.write(device, "a", &[1f32, 2., 3., 4., 5., 6.]).unwrap();
    params.write(device, "c", &[7f32]).unwrap();
    let all = params.read_all(device).unwrap();
    assert_eq!(all.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(all[0].values, [1., 2., 3., 4., 5., 6.]);
    let copy = ParamSet::new(device, &[("c", &[1][..]), ("a", &[2, 3]), ("b", &[65])]).unwrap();
    copy.write_all(device, &all).unwrap();
    assert_eq!(device.download(copy.buf("a").unwrap()).unwrap(), all[0].values);
    assert_eq!(device.download(copy.buf("c").unwrap()).unwrap(), [7.0]);

    let message = |r: etude::Result<()>| r.unwrap_err().to_string();
    assert!(message(copy.write_all(device, &all[1..])).contains("`a` was given 0 times"));
    let mut twice = all.clone();
    twice.push(all[2].clone());
    assert!(message(copy.write_all(device, &twice)).contains("`c` was given 2 times"));
    let mut turned = all.clone();
    turned[0].shape = vec![3, 2];
    assert!(message(copy.write_all(device, &turned)).contains("[3, 2]"));
    assert!(message(params.write(device, "d", &[7f32])).contains("there are a, b, c"));
    assert!(message(params.write(device, "c", &[7f32, 8.])).contains("2 values"));
    let make = |tensors: &[(&str, &[usize])]| ParamSet::new(device, tensors).map(|_| ());
    assert!(message(make(&[("a", &[1]), ("a", &[2])])).contains("two parameters"));
    assert!(message(make(&[("a", &[0])])).contains("[0]"));
    assert!(message(make(&[("a", &[usize::MAX, 2])])).contains("cannot have shape"));
    assert!(make(&[]).is_err());
}

#[test]
fn options_out_of_range_are_refused() {
    let cpu = Cpu::<f32>::new(1).unwrap();
    let device: &dyn Device = &cpu;
    let params = ParamSet::new(device, &[("a", &[2])]).unwrap();
    for method in [
        Method::Sgd(Sgd { momentum: 1.0, weight_decay: 0.0 }),
        Method::Sgd(Sgd { momentum: 0.0, weight_decay: f32::NAN }),
        Method::Adam(Adam { beta1: -0.1, ..Adam::default() }),
        Method::Adam(Adam { beta2: 1.0, ..Adam::default() }),
        Method::Adam(Adam { eps: 0.0, ..Adam::default() }),
        Method::Adam(Adam { weight_decay: f32::INFINITY, ..Adam::default() }),
    ] {
        assert!(Optimizer::new(device, &params, method).is_err(), "{method:?}");
    }
    let mut optimizer = Optimizer::new(device, &params, Method::Sgd(Sgd::default())).unwrap();
    for lr in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(optimizer.before_step(device, lr).is_err(), "{lr}");
    }
    assert_eq!(optimizer.steps(), 0);
}

#[test]
fn schedules_rise_and_fall() {
    let cosine = Schedule::Cosine { lr: 2.0, warm_up: 4 };
    assert_eq!((0..4).map(|s| cosine.lr_at(s, 104)).collect::<Vec<_>>(), [0.5, 1.0, 1.5, 2.0]);
    assert!(close(cosine.lr_at(4, 104), 2.0, 1e-12));
    assert!(close(cosine.lr_at(54, 104), 1.0, 1e-12));
    assert!(cosine.lr_at(103, 104) > 0.0 && cosine.lr_at(103, 104) < 1e-3);
    assert_eq!((cosine.lr_at(104, 104), cosine.lr_at(u64::MAX, 104)), (0.0, 0.0));
    // A run shorter than its warm-up only rises.
    assert_eq!(cosine.lr_at(1, 2), 1.0);
    let constant = Schedule::Constant { lr: 0.005, warm_up: 0 };
    assert_eq!((constant.lr_at(0, 10), constant.lr_at(999, 10)), (0.005, 0.005));
    assert_eq!(Schedule::Constant { lr: 1.0, warm_up: 2 }.lr_at(0, 10), 0.5);
    assert_eq!(Schedule::Cosine { lr: 1.0, warm_up: 0 }.lr_at(0, 0), 0.0);
}
