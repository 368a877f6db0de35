//! Calls on a caller's memory give what the graph gives, bit for bit on every device, and copy nothing.

use crate::gpu;
use etude::cases::{normal, relative, uniform};
use etude::contrastive::{ContrastiveOptions, Metric};
use etude::device::{Buf, Cpu, Device};
use etude::embed::{
    self, Buffers, Contrastive, Conv1d, Conv2d, ConvGradients, OfRows, PairLoss, Pairs, PairwiseSimilarity,
};
use etude::graph::{Graph, Var};
use etude::kernel::Elem;
use etude::ops::contrastive::{Labels, contrastive, contrastive_cross};
use etude::ops::contrastive_hvp::contrastive_hvp;
use etude::ops::conv1d::{ConvOptions1d, conv1d};
use etude::ops::conv2d::{ConvOptions2d, conv2d};
use etude::ops::info_nce::{InfoNceOptions, info_nce, info_nce_rows};
use etude::ops::pair_loss::{PairLossOptions, contrastive_rows, pair_loss};
use etude::ops::rank_n_contrast::{rank_n_contrast, rank_n_contrast_rows};
use etude::ops::similarity::{Similarity, similarity};

/// What a test computes, outputs after inputs; every buffer holds NaN first where it is an output.
type Call<'a> = dyn Fn(&dyn Device, &[Buf], &[Buf]) -> etude::Result<()> + 'a;
type Record<'a> = dyn Fn(&mut Graph, &[Var]) -> etude::Result<Var> + 'a;

/// The output and the gradients by the first `differentiable` inputs, recorded as a graph. The upstream is the last input where
/// the output is no scalar.
fn recorded(
    device: &dyn Device,
    inputs: &[Vec<f64>],
    shapes: &[&[usize]],
    differentiable: &[usize],
    record: &Record<'_>,
) -> Vec<Vec<f64>> {
    let mut g = Graph::new();
    let vars: Vec<_> = inputs
        .iter()
        .zip(shapes)
        .map(|(v, shape)| g.leaf(&device.upload(v).unwrap(), None, shape).unwrap())
        .collect();
    let y = record(&mut g, &vars).unwrap();
    match g.shape(y) {
        _ if differentiable.is_empty() => {}
        [1] => g.backward(y).unwrap(),
        _ => g.backward_from(y, *vars.last().unwrap()).unwrap(),
    }
    let keep: Vec<_> =
        [y].into_iter().chain(differentiable.iter().map(|&i| g.grad(vars[i]).unwrap())).collect();
    let mut step = g.compile(device, &keep).unwrap();
    step.run().unwrap();
    keep.iter().map(|&v| device.download_f64(step.buf(v).unwrap()).unwrap()).collect()
}

fn devices() -> Vec<Box<dyn Device>> {
    let mut devices: Vec<Box<dyn Device>> =
        vec![Box::new(Cpu::<f32>::new(1).unwrap()), Box::new(Cpu::<f64>::new(1).unwrap())];
    devices.extend(gpu::devices());
    devices
}

fn poisoned(device: &dyn Device, len: usize) -> Buf {
    device.upload(&vec![f64::NAN; len]).unwrap()
}

/// The graph's results are wanted to the last bit.
fn check(
    inputs: &[Vec<f64>],
    shapes: &[&[usize]],
    differentiable: &[usize],
    record: &Record<'_>,
    call: &Call<'_>,
) {
    for device in &devices() {
        let want = recorded(&**device, inputs, shapes, differentiable, record);
        let bufs: Vec<Buf> = inputs.iter().map(|v| device.upload(v).unwrap()).collect();
        let outputs: Vec<Buf> = want.iter().map(|w| poisoned(&**device, w.len())).collect();
        call(&**device, &bufs, &outputs).unwrap();
        for (i, (want, got)) in want.iter().zip(&outputs).enumerate() {
            let got = device.download_f64(got).unwrap();
            assert!(got == *want, "{} output {i}: {}", device.name(), relative(&got, want));
        }
    }
}

#[test]
fn convolutions() {
    for (groups, stride, padding, dilation) in [(1, 1, 0, 1), (2, 2, 1, 3), (2, 3, 2, 1)] {
        let options = ConvOptions1d { stride, padding, dilation, groups, ..Default::default() };
        let (x, w) = ([3, 4, 29], [6, 4 / groups, 5]);
        let conv = Conv1d::new(x, w, options).unwrap();
        let y = conv.output();
        let inputs = [
            normal(1, 3 * 4 * 29),
            normal(2, w.iter().product()),
            normal(3, 6),
            normal(4, y.iter().product()),
        ];
        check(
            &inputs,
            &[&x, &w, &[6], &y],
            &[0, 1, 2],
            &|g, v| conv1d(g, v[0], v[1], Some(v[2]), options),
            &|d, i, o| {
                conv.forward(d, &i[0], &i[1], Some(&i[2]), &o[0])?;
                let wanted = ConvGradients { x: Some(&o[1]), weight: Some(&o[2]), bias: Some(&o[3]) };
                conv.backward(d, &i[0], &i[1], &i[3], wanted)
            },
        );
    }
    let options = ConvOptions2d { stride: [2, 1], padding: [1, 2], ..Default::default() };
    let (x, w) = ([2, 3, 9, 11], [5, 3, 3, 4]);
    let conv = Conv2d::new(x, w, options).unwrap();
    let y = conv.output();
    let len = |shape: &[usize]| shape.iter().product::<usize>();
    let inputs = [normal(1, len(&x)), normal(2, len(&w)), normal(4, len(&y))];
    check(&inputs, &[&x, &w, &y], &[0, 1], &|g, v| conv2d(g, v[0], v[1], None, options), &|d, i, o| {
        conv.forward(d, &i[0], &i[1], None, &o[0])?;
        // One gradient at a time.
        conv.backward(d, &i[0], &i[1], &i[2], ConvGradients { x: Some(&o[1]), ..Default::default() })?;
        conv.backward(d, &i[0], &i[1], &i[2], ConvGradients { weight: Some(&o[2]), ..Default::default() })
    });
}

#[test]
fn matrices() {
    let (a, b) = ([17, 5], [23, 5]);
    for kind in [Similarity::Dot, Similarity::Cosine, Similarity::SquaredEuclidean, Similarity::Euclidean] {
        let of = PairwiseSimilarity::new(a, b, kind).unwrap();
        assert_eq!(of.output(), [17, 23]);
        check(
            &[normal(1, 85), normal(2, 115), normal(3, 17 * 23)],
            &[&a, &b, &[17, 23]],
            &[0, 1],
            &|g, v| similarity(g, v[0], v[1], kind),
            &|d, i, o| {
                of.forward(d, &i[0], &i[1], &o[0])?;
                of.backward(d, [&i[0], &i[1], &i[2]], [&o[1], &o[2]])
            },
        );
    }
}

#[test]
fn batches_of_matrices() {
    let [n, m, d] = [5, 4, 7];
    let of = PairwiseSimilarity::new([n, d], [m, d], Similarity::Cosine).unwrap();
    // a, b, dy; y, da, db.
    let lens = [n * d, m * d, n * m, n * m, n * d, m * d];
    let mut devices = devices();
    devices.push(Box::new(Cpu::<f32>::new(2).unwrap()));
    // On two threads one after another on both, and each on one of them.
    for (device, batch) in devices.iter().flat_map(|device| [(device, 3), (device, 9)]) {
        let buffers = || -> Vec<Buf> {
            let one = |(k, &len): (usize, &usize)| match k {
                0..3 => device.upload(&normal(k as u64 + 1, batch * len)).unwrap(),
                _ => poisoned(&**device, batch * len),
            };
            lens.iter().enumerate().map(one).collect()
        };
        let (all, parts) = (buffers(), buffers());
        of.batch(batch).forward(&**device, &all[0], &all[1], &all[3]).unwrap();
        of.batch(batch).backward(&**device, [&all[0], &all[1], &all[2]], [&all[4], &all[5]]).unwrap();
        for i in 0..batch {
            let part = |k: usize| parts[k].window(i * lens[k], lens[k]).unwrap();
            of.forward(&**device, &part(0), &part(1), &part(3)).unwrap();
            of.backward(&**device, [&part(0), &part(1), &part(2)], [&part(4), &part(5)]).unwrap();
        }
        for (together, one_by_one) in all[3..].iter().zip(&parts[3..]) {
            let [together, one_by_one] = [together, one_by_one].map(|b| device.download_f64(b).unwrap());
            assert_eq!(together, one_by_one, "{}", device.name());
        }
        let short = of.batch(batch).forward(&**device, &all[0], &all[1], &all[4]).unwrap_err().to_string();
        assert!(short.contains("y: ") && short.contains(&format!("[{batch}, 5, 4]")), "{short}");
    }
}

#[test]
fn a_batch_writes_what_no_other_of_it_reads() {
    let cpu = Cpu::<f32>::new(1).unwrap();
    let all = cpu.alloc(Elem::Real, 12).unwrap();
    let of = PairwiseSimilarity::new([2, 2], [2, 2], Similarity::Dot).unwrap().batch(2);
    // Where one lies, the other alone would write.
    let (rows, y) = (all.window(0, 8).unwrap(), all.window(4, 8).unwrap());
    let refused = of.forward(&cpu, &rows, &rows, &y).unwrap_err().to_string();
    assert!(refused.contains("y: overlaps"), "{refused}");
    let refused = of.backward(&cpu, [&rows, &rows, &rows], [&y, &y]).unwrap_err().to_string();
    assert!(refused.contains("da: overlaps"), "{refused}");
}

fn set<'a>(bufs: &'a [Buf], weighted: bool) -> Buffers<'a> {
    Buffers { embeddings: &bufs[0], labels: &bufs[1], weights: weighted.then_some(&bufs[2]) }
}

#[test]
fn losses() {
    let (n, m, d) = (19, 31, 6);
    for (metric, weighted) in [(Metric::Euclidean, false), (Metric::Cosine, true)] {
        let options = ContrastiveOptions { metric, ..Default::default() };
        let of = |seed, n| [normal(seed, n * d), uniform(seed + 1, n), uniform(seed + 2, n)];
        let label =
            |values, weights| if weighted { Labels::weighted(values, weights) } else { values.into() };
        let (a, b) = (of(1, n), of(5, m));
        check(
            &a,
            &[&[n, d], &[n], &[n]],
            &[0],
            &|g, v| contrastive(g, v[0], label(v[1], v[2]), options),
            &|dev, i, o| Contrastive::all([n, d], options)?.run(dev, &[set(i, weighted)], &o[0], &[&o[1]]),
        );
        check(
            &[a, b].concat(),
            &[&[n, d], &[n], &[n], &[m, d], &[m], &[m]],
            &[0, 3],
            &|g, v| contrastive_cross(g, v[0], label(v[1], v[2]), v[3], label(v[4], v[5]), options),
            &|dev, i, o| {
                let sets = [set(i, weighted), set(&i[3..], weighted)];
                Contrastive::cross([n, d], [m, d], options)?.run(dev, &sets, &o[0], &[&o[1], &o[2]])
            },
        );
    }
}

#[test]
fn gradients_at_dual_rows() {
    let (n, m, d) = (19, 31, 6);
    for (metric, weighted) in [(Metric::Euclidean, false), (Metric::Cosine, true)] {
        let options = ContrastiveOptions { metric, margin: 4.0, ..Default::default() };
        let of = |seed, n| [normal(seed, 2 * n * d), uniform(seed + 1, n), uniform(seed + 2, n)];
        let label =
            |values, weights| if weighted { Labels::weighted(values, weights) } else { values.into() };
        let (a, b) = (of(1, n), of(5, m));
        check(
            &a,
            &[&[2, n, d], &[n], &[n]],
            &[],
            &|g, v| contrastive_hvp(g, v[0], label(v[1], v[2]), None, options),
            &|dev, i, o| embed::contrastive_hvp(dev, [n, d], set(i, weighted), None, options, &o[0]),
        );
        check(
            &[a, b].concat(),
            &[&[2, n, d], &[n], &[n], &[2, m, d], &[m], &[m]],
            &[],
            &|g, v| {
                let others = (v[3], label(v[4], v[5]));
                contrastive_hvp(g, v[0], label(v[1], v[2]), Some(others), options)
            },
            &|dev, i, o| {
                let others = (m, set(&i[3..], weighted));
                embed::contrastive_hvp(dev, [n, d], set(i, weighted), Some(others), options, &o[0])
            },
        );
    }
}

#[test]
fn losses_by_rank() {
    let (n, d) = (70, 6);
    let inputs = [normal(1, n * d), uniform(2, n)];
    let shapes: [&[usize]; 2] = [&[n, d], &[n]];
    let call = |dev: &dyn Device, i: &[Buf], o: &[Buf]| {
        embed::rank_n_contrast(dev, [n, d], &i[0], &i[1], 0.5, &o[0], o.get(1))
    };
    check(&inputs, &shapes, &[0], &|g, v| rank_n_contrast(g, v[0], v[1], 0.5), &call);
    // Where nobody looks at labels, those that are no numbers make it NaN, wherever they lie.
    for device in devices().into_iter().filter(|device| !device.on_host()) {
        for (at, bad) in [(0, f64::NAN), (33, f64::INFINITY), (69, f64::NEG_INFINITY)] {
            let mut labels = inputs[1].clone();
            labels[at] = bad;
            let [z, labels] = [&inputs[0], &labels].map(|v| device.upload(v).unwrap());
            let loss = device.alloc(Elem::Real, 1).unwrap();
            call(&*device, &[z, labels], std::slice::from_ref(&loss)).unwrap();
            assert!(device.download_f64(&loss).unwrap()[0].is_nan(), "{}, {bad}", device.name());
        }
    }
}

#[test]
fn losses_by_nearness() {
    let (n, m, d) = (70, 30, 6);
    let options = InfoNceOptions { sigma: 0.2, temperature: 0.1 };
    let inputs = [normal(1, n * d), uniform(2, n), normal(3, m * d), uniform(4, m)];
    let shapes: [&[usize]; 4] = [&[n, d], &[n], &[m, d], &[m]];
    check(&inputs[..2], &shapes[..2], &[0], &|g, v| info_nce(g, v[0], v[1], None, options), &|dev, i, o| {
        embed::info_nce(dev, [n, d], [&i[0], &i[1]], None, options, &o[0], [o.get(1), None])
    });
    let call = |dev: &dyn Device, i: &[Buf], o: &[Buf]| {
        let others = Some((m, [&i[2], &i[3]]));
        embed::info_nce(dev, [n, d], [&i[0], &i[1]], others, options, &o[0], [o.get(1), o.get(2)])
    };
    check(&inputs, &shapes, &[0, 2], &|g, v| info_nce(g, v[0], v[1], Some((v[2], v[3])), options), &call);
    // Where nobody looks at labels, those that are no numbers make it NaN, wherever they lie.
    for device in devices().into_iter().filter(|device| !device.on_host()) {
        for (of, at, bad) in [(1, 0, f64::NAN), (1, 69, f64::INFINITY), (3, 17, f64::NEG_INFINITY)] {
            let mut inputs = inputs.clone();
            inputs[of][at] = bad;
            let bufs = inputs.map(|v| device.upload(&v).unwrap());
            let loss = device.alloc(Elem::Real, 1).unwrap();
            call(&*device, &bufs, std::slice::from_ref(&loss)).unwrap();
            assert!(device.download_f64(&loss).unwrap()[0].is_nan(), "{}, {bad}", device.name());
        }
    }
}

#[test]
fn losses_of_pairs() {
    let (rows, m) = (9, 70);
    for (metric, weighted, own) in [(Metric::Euclidean, true, Some(20)), (Metric::Cosine, false, None)] {
        let options = PairLossOptions { metric, margin: 2.0, tau: 0.2 };
        let inputs = [1, 2, 3, 4].map(|seed| uniform(seed, if seed == 4 { rows } else { rows * m }));
        let shapes: [&[usize]; 4] = [&[rows, m], &[rows, m], &[rows, m], &[rows]];
        let record = |g: &mut Graph, v: &[Var]| {
            let [sums, _] = pair_loss(g, v[0], v[1], weighted.then(|| v[2]), own, options)?;
            Ok(sums)
        };
        let call = |dev: &dyn Device, i: &[Buf], o: &[Buf]| {
            let pairs = Pairs { similarities: &i[0], apart: &i[1], weights: weighted.then(|| &i[2]) };
            let of = PairLoss::new([rows, m], own, options)?;
            of.forward(dev, pairs, &o[0], &poisoned(dev, rows))?;
            o.get(1).map_or(Ok(()), |slopes| of.backward(dev, pairs, &i[3], slopes))
        };
        check(&inputs, &shapes, &[0], &record, &call);
        // What is no number is seen where it counts, and where it does not has no part.
        for device in devices() {
            for (of, at, bad, seen) in [
                (0, 65, f64::NAN, true),
                (1, 69, f64::INFINITY, true),
                (1, 5, -1.0, true),
                (2, 3, f64::NAN, weighted),
                (2, 4, -0.5, weighted),
                (1, 20, f64::NAN, own.is_none()),
            ] {
                let mut inputs = inputs.clone();
                inputs[of][at] = bad;
                let bufs = inputs.map(|v| device.upload(&v).unwrap());
                let sums = poisoned(&*device, rows);
                call(&*device, &bufs, std::slice::from_ref(&sums)).unwrap();
                let sums = device.download_f64(&sums).unwrap();
                assert_eq!(sums[0].is_nan(), seen, "{}: {of} {at} {bad}: {sums:?}", device.name());
                assert!(sums[1..].iter().all(|v| v.is_finite()), "{}: {sums:?}", device.name());
            }
        }
    }
}

type OfRowsCall<'a> = dyn Fn(&dyn Device, &[Buf], OfRows<'_>) -> etude::Result<()> + 'a;

/// What a call gives is the op's, of which the last input is the upstream gradient; the losses first, then the gradients.
fn check_rows(
    inputs: &[Vec<f64>],
    shapes: &[&[usize]],
    differentiable: &[usize],
    record: &Record<'_>,
    call: &OfRowsCall<'_>,
) {
    check(inputs, shapes, differentiable, record, &|dev, i, o| {
        call(dev, i, OfRows::Losses(&o[0]))?;
        let by = [Some(&o[1]), o.get(2)];
        call(dev, i, OfRows::Gradients { upstream: i.last().unwrap(), by })
    });
}

#[test]
fn losses_of_rows() {
    let (n, m, d) = (70, 30, 6);
    let inputs =
        [normal(1, n * d), uniform(2, n), uniform(3, n), normal(4, m * d), uniform(5, m), uniform(6, m)];
    let inputs = [&inputs[..], &[normal(7, n)]].concat();
    let shapes: [&[usize]; 7] = [&[n, d], &[n], &[n], &[m, d], &[m], &[m], &[n]];
    let near = InfoNceOptions { sigma: 0.2, temperature: 0.1 };
    for (metric, cross) in [(Metric::Euclidean, false), (Metric::Cosine, true)] {
        let options = PairLossOptions { metric, margin: 2.0, tau: 0.2 };
        let record = |g: &mut Graph, v: &[Var]| {
            let others = cross.then(|| (v[3], Labels::weighted(v[4], v[5])));
            Ok(contrastive_rows(g, v[0], Labels::weighted(v[1], v[2]), others, options)?[0])
        };
        let differentiable: &[usize] = if cross { &[0, 3] } else { &[0] };
        check_rows(&inputs, &shapes, differentiable, &record, &|dev, i, of| {
            let set =
                |at: usize| Buffers { embeddings: &i[at], labels: &i[at + 1], weights: Some(&i[at + 2]) };
            let others = cross.then(|| (m, set(3)));
            embed::contrastive_rows(dev, [n, d], set(0), others, options, of, None)
        });
        let record =
            |g: &mut Graph, v: &[Var]| info_nce_rows(g, v[0], v[1], cross.then(|| (v[3], v[4])), near);
        check_rows(&inputs, &shapes, differentiable, &record, &|dev, i, of| {
            let others = cross.then(|| (m, [&i[3], &i[4]]));
            embed::info_nce_rows(dev, [n, d], [&i[0], &i[1]], others, near, of)
        });
    }
    let record = |g: &mut Graph, v: &[Var]| rank_n_contrast_rows(g, v[0], v[1], 0.5);
    check_rows(&inputs, &shapes, &[0], &record, &|dev, i, of| {
        embed::rank_n_contrast_rows(dev, [n, d], &i[0], &i[1], 0.5, of)
    });
}

#[test]
fn losses_of_rows_are_written_apart_from_all_else() {
    let cpu = Cpu::<f32>::new(1).unwrap();
    let dev: &dyn Device = &cpu;
    let all = dev.upload(&uniform(1, 64)).unwrap();
    let at = |first: usize, len: usize| all.window(first, len).unwrap();
    // Four rows of two columns: embeddings, labels, upstream, losses, what they weigh, gradient.
    let (z, labels, upstream, losses, totals, dz) =
        (at(0, 8), at(8, 4), at(12, 4), at(16, 4), at(20, 4), at(24, 8));
    let set = Buffers { embeddings: &z, labels: &labels, weights: None };
    let contrastive = |of, totals: Option<&Buf>| {
        embed::contrastive_rows(dev, [4, 2], set, None, PairLossOptions::default(), of, totals)
    };
    assert!(contrastive(OfRows::Losses(&losses), Some(&totals)).is_ok());
    let by = |gradient, others| OfRows::Gradients { upstream: &upstream, by: [Some(gradient), others] };
    assert!(contrastive(by(&dz, None), None).is_ok());
    for (of, totals, says) in [
        (OfRows::Losses(&labels), None, "losses: overlaps `labels`"),
        (OfRows::Losses(&losses), Some(&labels), "totals: overlaps `labels`"),
        (OfRows::Losses(&losses), Some(&losses), "losses: overlaps `totals`"),
        (by(&z, None), None, "gradient: overlaps `embeddings`"),
        (by(&dz, Some(&dz)), None, "other_gradient: given without others"),
    ] {
        let refused = contrastive(of, totals).unwrap_err().to_string();
        assert!(refused.contains(says), "{refused}");
    }
    let near = InfoNceOptions { sigma: 0.2, temperature: 0.1 };
    let refused = embed::info_nce_rows(dev, [4, 2], [&z, &labels], None, near, by(&dz, Some(&dz)));
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("other_gradient: given without others"), "{refused}");
    let block = at(32, 8);
    let refused = embed::rank_n_contrast_of_distances(dev, [2, 4], 0, &at(36, 4), 0.5, &block, &at(40, 2));
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("distances: overlaps `labels`"), "{refused}");
}

/// Of a block's shape, its first anchor, similarities and losses.
type SomeCall<'a> = dyn Fn([usize; 2], usize, &Buf, &Buf) -> etude::Result<()> + 'a;

/// Of some anchors' similarities, what the loss of all makes of them.
#[test]
fn losses_of_some_anchors() {
    let (n, m, first, rows) = (40, 25, 11, 9);
    let near = InfoNceOptions { sigma: 0.2, temperature: 0.1 };
    let (labels, others) = (uniform(1, n), uniform(2, m));
    let (own, across) = (uniform(3, n * n), uniform(4, n * m));
    for device in devices() {
        let dev = &*device;
        let up = |v: &[f64]| dev.upload(v).unwrap();
        let down = |buf: &Buf| dev.download_f64(buf).unwrap();
        let (labels, others) = (up(&labels), up(&others));
        // All anchors at once, and some of them: losses and slopes.
        let both = |s: &[f64], m: usize, call: &SomeCall<'_>| {
            let run = |first: usize, rows: usize| {
                let (s, losses) = (up(&s[first * m..(first + rows) * m]), poisoned(dev, rows));
                call([rows, m], first, &s, &losses).unwrap();
                (down(&losses), down(&s))
            };
            let (all, some) = (run(0, n), run(first, rows));
            assert_eq!(all.0[first..first + rows], some.0, "{}", dev.name());
            assert_eq!(all.1[first * m..(first + rows) * m], some.1, "{}", dev.name());
        };
        both(&own, n, &|[rows, _], first, s, losses| {
            embed::rank_n_contrast_of_distances(dev, [rows, n], first, &labels, 0.5, s, losses)
        });
        both(&own, n, &|shape, first, s, losses| {
            embed::info_nce_of_cosines(dev, shape, (first, true), [&labels, &labels], near, s, losses)
        });
        both(&across, m, &|shape, first, s, losses| {
            embed::info_nce_of_cosines(dev, shape, (first, false), [&labels, &others], near, s, losses)
        });
        let (s, losses) = (up(&own[..2 * n]), poisoned(dev, 2));
        let refused = embed::rank_n_contrast_of_distances(dev, [2, n], n - 1, &labels, 0.5, &s, &losses);
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("2 anchors from 39 on of 40"), "{refused}");
        let of_two = [&labels, &others];
        let s = up(&across[..m]);
        let one = poisoned(dev, 1);
        let refused = embed::info_nce_of_cosines(dev, [1, m], (0, true), of_two, near, &s, &one);
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("labels: 40 for the 25 rows of one set"), "{refused}");
    }
}

/// Imported memory is the caller's own: read and written where it lies, windows too.
#[test]
fn nothing_is_copied() {
    let cpu = Cpu::<f32>::new(1).unwrap();
    let mut a = vec![0.0f32, 0.0, 3.0, 4.0];
    let mut y = vec![f32::NAN; 4];
    // SAFETY: the vectors outlive the buffers and are only looked at between calls.
    let [rows, out] =
        unsafe { [&mut a, &mut y].map(|v| cpu.import(v.as_mut_ptr().cast(), Elem::Real, v.len()).unwrap()) };
    let of = PairwiseSimilarity::new([2, 2], [2, 2], Similarity::Euclidean).unwrap();
    of.forward(&cpu, &rows, &rows, &out).unwrap();
    assert_eq!(y, [0.0, 5.0, 5.0, 0.0]);
    a[2] = 0.0;
    let of = PairwiseSimilarity::new([1, 2], [1, 2], Similarity::Euclidean).unwrap();
    of.forward(&cpu, &rows.window(0, 2).unwrap(), &rows.window(2, 2).unwrap(), &out.window(3, 1).unwrap())
        .unwrap();
    assert_eq!(y, [0.0, 5.0, 5.0, 4.0]);
}

#[test]
fn what_does_not_fit_is_named() {
    let cpu = Cpu::<f32>::new(1).unwrap();
    let device: &dyn Device = &cpu;
    let buf = |n: usize| device.upload(&vec![1.0f32; n]).unwrap();
    let says = |result: etude::Result<()>, what: &str| {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(what), "{message} has no `{what}`");
    };
    let conv = Conv1d::new([1, 2, 8], [3, 2, 3], ConvOptions1d::default()).unwrap();
    says(conv.forward(device, &buf(15), &buf(18), None, &buf(18)), "x: 15 elements for shape [1, 2, 8]");
    says(conv.forward(device, &buf(16), &buf(18), Some(&buf(2)), &buf(18)), "bias: 2 elements");
    let wrong = buf(5);
    let gradients = ConvGradients { weight: Some(&wrong), ..Default::default() };
    says(conv.backward(device, &buf(16), &buf(18), &buf(18), gradients), "dweight: 5 elements");
    // What one launch of a call writes, the next would read.
    let (x, w, dy) = (buf(16), buf(18), buf(18));
    let gradients = ConvGradients { x: Some(&x), weight: Some(&wrong), ..Default::default() };
    says(conv.backward(device, &x, &w, &dy, gradients), "dx: overlaps `x`");
    let gradients = ConvGradients { bias: Some(&dy), ..Default::default() };
    says(conv.backward(device, &x, &w, &dy, gradients), "dbias: overlaps `dy`");
    let both = dy.window(0, 3).unwrap();
    let gradients = ConvGradients { weight: Some(&dy), bias: Some(&both), ..Default::default() };
    says(conv.backward(device, &x, &w, &buf(18), gradients), "dweight: overlaps `dbias`");
    says(Conv1d::new([1, 2, 8], [3, 1, 3], ConvOptions1d::default()).map(|_| ()), "weight: ");
    let of = Contrastive::all([4, 2], ContrastiveOptions::default()).unwrap();
    let (z, l) = (buf(8), buf(3));
    let set = Buffers { embeddings: &z, labels: &l, weights: None };
    says(of.run(device, &[set], &buf(1), &[&buf(8)]), "labels: 3 elements for shape [4]");
    says(of.run(device, &[set, set], &buf(1), &[&buf(8)]), "takes 1 of each");
    says(Contrastive::all([1, 2], ContrastiveOptions::default()).map(|_| ()), "two rows");
    let hvp = |set, others, sums| {
        embed::contrastive_hvp(device, [4, 2], set, others, ContrastiveOptions::default(), sums)
    };
    let (duals, four, sums, short) = (buf(16), buf(4), buf(16), buf(8));
    let of_four = Buffers { embeddings: &duals, labels: &four, weights: None };
    says(hvp(set, None, &sums), "embeddings: 8 elements for shape [2, 4, 2]");
    says(hvp(Buffers { labels: &l, ..of_four }, None, &sums), "labels: 3 elements for shape [4]");
    says(hvp(of_four, Some((3, of_four)), &sums), "others' embeddings: 16 elements for shape [2, 3, 2]");
    says(hvp(of_four, None, &short), "sums: 8 elements for shape [2, 4, 2]");
    says(hvp(of_four, None, &duals), "overlaps");

    let mut memory = vec![0.0f32; 8];
    let pointer: *mut f32 = memory.as_mut_ptr();
    // SAFETY: within the vector; what is refused is never touched.
    unsafe {
        let odd = pointer.cast::<u8>().add(1).cast();
        says(cpu.import(odd, Elem::Real, 1).map(|_| ()), "no multiple of 4");
        says(cpu.import(std::ptr::null_mut(), Elem::Real, 1).map(|_| ()), "null");
        // Two imports of one memory, one of them written.
        let (a, y) =
            (cpu.import(pointer.cast(), Elem::Real, 4), cpu.import(pointer.add(2).cast(), Elem::Real, 4));
        let of = PairwiseSimilarity::new([2, 2], [2, 2], Similarity::Dot).unwrap();
        says(of.forward(device, &a.unwrap(), &buf(4), &y.unwrap()), "overlaps");
    }
}

/// Labels and weights that are none are an error where they can be seen, and make the loss NaN where they cannot.
#[test]
fn labels_and_weights_that_are_none() {
    let (n, d) = (6, 3);
    for device in &devices() {
        let run = |at: usize, bad: f64, weight: f64| {
            let alternate = (0..n).map(|i| (i % 2) as f64).collect();
            let mut of = [normal(1, n * d), alternate, vec![1.0; n]];
            match at {
                1 => (of[1][2], of[2][2]) = (bad, weight),
                _ => of[2][4] = bad,
            }
            let [z, labels, weights] = of.map(|v| device.upload(&v).unwrap());
            let [loss, dz] = [1, n * d].map(|len| poisoned(&**device, len));
            let set = Buffers { embeddings: &z, labels: &labels, weights: Some(&weights) };
            let all = Contrastive::all([n, d], ContrastiveOptions::default()).unwrap();
            all.run(&**device, &[set], &loss, &[&dz]).map(|()| device.download_f64(&loss).unwrap()[0])
        };
        for bad in [f64::NAN, f64::INFINITY, -1.0] {
            for (at, names) in [(1, ["labels", "row 2"]), (2, ["weights", "row 4"])] {
                match (run(at, bad, 1.0), device.name() == "cpu") {
                    (Err(e), true) => {
                        assert!(names.iter().all(|name| e.to_string().contains(name)), "{e}");
                    }
                    (Ok(loss), false) => assert!(loss.is_nan(), "{} {names:?} {bad}: {loss}", device.name()),
                    (other, _) => panic!("{} {names:?} {bad}: {other:?}", device.name()),
                }
            }
            let masked = run(1, bad, 0.0).unwrap();
            assert!(masked.is_finite() && masked > 0.0, "{}: {masked}", device.name());
        }
    }
}
