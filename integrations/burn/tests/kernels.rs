//! Every kernel on burn's tensors, values and gradients against the f64 oracle.

mod common;

use burn::tensor::{DType, DeviceKind, Tensor};
use common::{labels, normal, tensor};
use etude::cases::relative;
use etude::device::{Buf, Cpu, Device};
use etude::embed::{self, Buffers, ConvGradients};
use etude_burn::{
    ContrastiveOptions, ConvOptions1d, Metric, Samples, Similarity, contrastive, contrastive_cross, conv1d,
    similarity,
};

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f32>().map(f64::from).collect()
}

/// f32 sums of at most a few hundred terms, in another order than the oracle's.
const TOLERANCE: f64 = 1e-5;

fn close(what: &str, got: &[f64], wanted: &[f64]) {
    let error = relative(got, wanted);
    // A NaN must not pass.
    assert!(error <= TOLERANCE, "{what}: relative error {error:e}");
}

/// The f64 oracle and what goes in and out of it.
struct Oracle(Cpu<f64>);

impl Oracle {
    fn new() -> Self {
        Self(Cpu::new(1).unwrap())
    }

    fn upload(&self, values: &[f32]) -> Buf {
        (&self.0 as &dyn Device).upload(values).unwrap()
    }

    fn empty(&self, len: usize) -> Buf {
        self.0.alloc(etude::kernel::Elem::Real, len).unwrap()
    }

    fn values(&self, buf: &Buf) -> Vec<f64> {
        let mut values = vec![0.0f64; buf.len()];
        self.0.read(buf, (&mut values[..]).into()).unwrap();
        values
    }
}

/// Embeddings, labels and weights.
type Set<'a> = (&'a [f32], &'a [f32], Option<&'a [f32]>);

/// The oracle's loss of one or two sets, and the gradients.
fn oracle_loss(sets: &[Set<'_>], d: usize, options: ContrastiveOptions) -> (f64, Vec<Vec<f64>>) {
    let oracle = Oracle::new();
    let sizes: Vec<[usize; 2]> = sets.iter().map(|s| [s.1.len(), d]).collect();
    let kernel = match sizes[..] {
        [z] => embed::Contrastive::all(z, options),
        [z, others] => embed::Contrastive::cross(z, others, options),
        _ => unreachable!(),
    };
    let bufs: Vec<_> = sets
        .iter()
        .map(|(z, l, w)| (oracle.upload(z), oracle.upload(l), w.map(|w| oracle.upload(w))))
        .collect();
    let buffers: Vec<_> =
        bufs.iter().map(|(z, l, w)| Buffers { embeddings: z, labels: l, weights: w.as_ref() }).collect();
    let (loss, gradients) =
        (oracle.empty(1), bufs.iter().map(|b| oracle.empty(b.0.len())).collect::<Vec<_>>());
    kernel.unwrap().run(&oracle.0, &buffers, &loss, &gradients.iter().collect::<Vec<_>>()).unwrap();
    (oracle.values(&loss)[0], gradients.iter().map(|g| oracle.values(g)).collect())
}

fn scaled(values: &[f64], factor: f64) -> Vec<f64> {
    values.iter().map(|v| v * factor).collect()
}

#[test]
fn the_loss_and_its_gradient_are_the_oracles() {
    let (n, d) = (67, 13);
    let (z, l) = (normal(1, n * d), labels(n));
    let w: Vec<f32> = (0..n).map(|i| (i % 3) as f32).collect();
    for (metric, weights) in [
        (Metric::Euclidean, None),
        (Metric::Cosine, None),
        (Metric::Euclidean, Some(&w)),
        (Metric::Cosine, Some(&w)),
    ] {
        let what = format!("{metric:?}, weighted: {}", weights.is_some());
        let options = ContrastiveOptions { metric, margin: 1.5, ..Default::default() };
        let leaf = tensor(&z, [n, d]).require_grad();
        let mut samples = Samples::new(leaf.clone(), tensor(&l, [n]));
        if let Some(w) = weights {
            samples = samples.weighted(tensor(w, [n]));
        }
        let loss = contrastive(samples, options).unwrap();
        // The upstream gradient is 3.
        let gradient = leaf.grad(&(loss.clone() * 3.0).backward()).unwrap();
        let (wanted, gradients) = oracle_loss(&[(&z, &l, weights.map(|w| &w[..]))], d, options);
        close(&format!("{what}: loss"), &values(loss), &[wanted]);
        close(&format!("{what}: gradient"), &values(gradient), &scaled(&gradients[0], 3.0));
    }
}

#[test]
fn the_loss_across_two_sets_is_the_oracles() {
    let (n, m, d) = (21, 34, 8);
    let (z, o) = (normal(1, n * d), normal(2, m * d));
    let (lz, lo) = (labels(n), labels(m));
    let w: Vec<f32> = (0..m).map(|i| 0.5 + (i % 2) as f32).collect();
    let options = ContrastiveOptions { margin: 1.5, ..Default::default() };
    let (a, b) = (tensor(&z, [n, d]).require_grad(), tensor(&o, [m, d]).require_grad());
    let samples = Samples::new(a.clone(), tensor(&lz, [n]));
    let others = Samples::new(b.clone(), tensor(&lo, [m])).weighted(tensor(&w, [m]));
    let loss = contrastive_cross(samples, others, options).unwrap();
    let store = loss.clone().backward();
    let (wanted, gradients) = oracle_loss(&[(&z, &lz, None), (&o, &lo, Some(&w))], d, options);
    close("loss", &values(loss), &[wanted]);
    close("gradient by z", &values(a.grad(&store).unwrap()), &gradients[0]);
    close("gradient by the others", &values(b.grad(&store).unwrap()), &gradients[1]);
}

#[test]
fn similarity_matrices_are_the_oracles() {
    let (n, m, d) = (19, 33, 12);
    let (a, b, dy) = (normal(1, n * d), normal(2, m * d), normal(3, n * m));
    for kind in [Similarity::Dot, Similarity::Cosine, Similarity::SquaredEuclidean, Similarity::Euclidean] {
        let oracle = Oracle::new();
        let kernel = embed::PairwiseSimilarity::new([n, d], [m, d], kind).unwrap();
        let [of_a, of_b, of_dy] = [&a, &b, &dy].map(|v| oracle.upload(v));
        let [y, da, db] = [n * m, n * d, m * d].map(|len| oracle.empty(len));
        kernel.forward(&oracle.0, &of_a, &of_b, &y).unwrap();
        kernel.backward(&oracle.0, [&of_a, &of_b, &of_dy], [&da, &db]).unwrap();

        let (left, right) = (tensor(&a, [n, d]).require_grad(), tensor(&b, [m, d]).require_grad());
        let matrix = similarity(left.clone(), right.clone(), kind).unwrap();
        let store = (matrix.clone() * tensor(&dy, [n, m])).sum().backward();
        close(&format!("{kind:?}"), &values(matrix), &oracle.values(&y));
        close(&format!("{kind:?}: da"), &values(left.grad(&store).unwrap()), &oracle.values(&da));
        close(&format!("{kind:?}: db"), &values(right.grad(&store).unwrap()), &oracle.values(&db));
    }
}

#[test]
fn one_matrix_on_both_sides_gets_both_gradients() {
    let (n, d) = (9, 4);
    let a = normal(1, n * d);
    let leaf = tensor(&a, [n, d]).require_grad();
    let gram = similarity(leaf.clone(), leaf.clone(), Similarity::Dot).unwrap();
    let other = leaf.clone().matmul(leaf.clone().transpose());
    let [ours, theirs] =
        [gram, other].map(|y| values(leaf.grad(&y.powi_scalar(2).sum().backward()).unwrap()));
    close("gradient", &ours, &theirs);
}

#[test]
fn convolutions_are_the_oracles() {
    let together = ConvOptions1d { stride: 2, padding: 3, dilation: 2, groups: 2, ..Default::default() };
    for (what, biased, options) in [
        ("plain", false, ConvOptions1d::default()),
        ("bias", true, ConvOptions1d::default()),
        ("together", true, together),
    ] {
        let (x_shape, w_shape) = ([3, 4, 29], [6, 4 / options.groups, 5]);
        let [x, w, b] =
            [x_shape.iter().product(), w_shape.iter().product(), 6].map(|n: usize| normal(n as u64, n));
        let kernel = embed::Conv1d::new(x_shape, w_shape, options).unwrap();
        let dy = normal(9, kernel.output().iter().product());
        let oracle = Oracle::new();
        let [of_x, of_w, of_b, of_dy] = [&x, &w, &b, &dy].map(|v| oracle.upload(v));
        let [y, dx, dw, db] = [dy.len(), x.len(), w.len(), b.len()].map(|len| oracle.empty(len));
        kernel.forward(&oracle.0, &of_x, &of_w, biased.then_some(&of_b), &y).unwrap();
        let wanted = ConvGradients { x: Some(&dx), weight: Some(&dw), bias: Some(&db) };
        kernel.backward(&oracle.0, &of_x, &of_w, &of_dy, wanted).unwrap();

        let (input, weight) = (tensor(&x, x_shape).require_grad(), tensor(&w, w_shape).require_grad());
        let bias = tensor(&b, [6]).require_grad();
        let output = conv1d(input.clone(), weight.clone(), biased.then(|| bias.clone()), options).unwrap();
        let store = (output.clone() * tensor(&dy, kernel.output())).sum().backward();
        close(&format!("{what}: y"), &values(output), &oracle.values(&y));
        close(&format!("{what}: dx"), &values(input.grad(&store).unwrap()), &oracle.values(&dx));
        close(&format!("{what}: dw"), &values(weight.grad(&store).unwrap()), &oracle.values(&dw));
        match bias.grad(&store) {
            Some(bias) => close(&format!("{what}: db"), &values(bias), &oracle.values(&db)),
            None => assert!(!biased, "{what}: no gradient of the bias"),
        }
    }
}

/// Without a gradient wanted, and on a device without autodiff.
#[test]
fn nothing_needs_autodiff() {
    let (n, d) = (10, 3);
    let (z, l) = (normal(1, n * d), labels(n));
    let options = ContrastiveOptions::default();
    let (wanted, _) = oracle_loss(&[(&z, &l, None)], d, options);
    let untracked = contrastive(Samples::new(tensor(&z, [n, d]), tensor(&l, [n])), options).unwrap();
    close("untracked", &values(untracked), &[wanted]);
    let plain = |values: &[f32]| tensor(values, [values.len()]).inner();
    let samples = Samples::new(plain(&z).reshape([n, d]), plain(&l));
    close("inner", &values(contrastive(samples, options).unwrap()), &[wanted]);
}

#[test]
fn slices_of_larger_tensors_are_read_where_they_are() {
    let (n, d) = (40, 5);
    let (all, l) = (normal(1, n * d), labels(n));
    // Rows of 20 bytes: from 16 on the slice is a window of the larger tensor; burn copies what starts at no multiple of its
    // alignment.
    for start in [1, 3, 16, 32] {
        let options = ContrastiveOptions { margin: 1.5, ..Default::default() };
        let whole = tensor(&all, [n, d]).require_grad();
        let samples =
            Samples::new(whole.clone().slice([start..n, 0..d]), tensor(&l, [n]).narrow(0, start, n - start));
        let loss = contrastive(samples, options).unwrap();
        let gradient = values(whole.grad(&loss.clone().backward()).unwrap());
        let (wanted, gradients) = oracle_loss(&[(&all[start * d..], &l[start..], None)], d, options);
        close(&format!("from row {start}: loss"), &values(loss), &[wanted]);
        assert!(gradient[..start * d].iter().all(|&g| g == 0.0), "from row {start}");
        close(&format!("from row {start}: gradient"), &gradient[start * d..], &gradients[0]);
    }
}

#[test]
fn what_does_not_lie_in_a_row_is_laid_out_anew() {
    let (n, d) = (17, 6);
    let columns = normal(1, n * d);
    let rows: Vec<f32> = (0..n * d).map(|i| columns[i % d * n + i / d]).collect();
    let l = labels(n);
    let options = ContrastiveOptions::default();
    let leaf = tensor(&columns, [d, n]).require_grad();
    let loss = contrastive(Samples::new(leaf.clone().transpose(), tensor(&l, [n])), options).unwrap();
    let gradient = leaf.grad(&loss.clone().backward()).unwrap().transpose();
    let (wanted, gradients) = oracle_loss(&[(&rows, &l, None)], d, options);
    close("loss", &values(loss), &[wanted]);
    close("gradient", &values(gradient), &gradients[0]);
}

#[test]
fn equal_rows_have_a_finite_gradient() {
    let (n, d) = (8, 4);
    let z = tensor(&vec![0.5; n * d], [n, d]).require_grad();
    let loss = contrastive(Samples::new(z.clone(), tensor(&labels(n), [n])), ContrastiveOptions::default());
    let gradient = values(z.grad(&loss.unwrap().backward()).unwrap());
    assert!(gradient.iter().all(|&g| g == 0.0), "{gradient:?}");
    let distances = similarity(z.clone(), z.clone(), Similarity::Euclidean).unwrap();
    let gradient = values(z.grad(&distances.sum().backward()).unwrap());
    assert!(gradient.iter().all(|&g| g == 0.0), "{gradient:?}");
}

/// burn's ops before and after, again and again: each must be done when the next begins.
#[test]
fn ops_wait_for_each_other() {
    let (n, d) = (64, 16);
    let (z, l) = (normal(1, n * d), labels(n));
    let options = ContrastiveOptions { margin: 3.0, ..Default::default() };
    for round in 1..=20 {
        let factor = round as f32 / 10.0;
        let leaf = tensor(&z, [n, d]).require_grad();
        let moved = (leaf.clone() * factor + 1.0).exp().log();
        let loss = contrastive(Samples::new(moved, tensor(&l, [n])), options).unwrap();
        let after = loss.sqrt() * 2.0;
        let gradient = values(leaf.grad(&after.clone().backward()).unwrap());
        let inner: Vec<f32> = z.iter().map(|v| v * factor + 1.0).collect();
        let (wanted, gradients) = oracle_loss(&[(&inner, &l, None)], d, options);
        close(&format!("round {round}: loss"), &values(after), &[wanted.sqrt() * 2.0]);
        let outer = f64::from(factor) / wanted.sqrt();
        close(&format!("round {round}: gradient"), &gradient, &scaled(&gradients[0], outer));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let z = || tensor(&normal(1, 12), [4, 3]);
    let l = || tensor(&labels(4), [4]);
    let options = ContrastiveOptions::default();
    let refused = |result: etude_burn::Result<Tensor<1>>, words: &[&str]| {
        let text = result.unwrap_err().to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    };
    refused(contrastive(Samples::new(z(), tensor(&labels(5), [5])), options), &["labels", "5", "[4, 3]"]);
    refused(
        contrastive(Samples::new(z(), l()).weighted(tensor(&labels(3), [3])), options),
        &["weights", "3"],
    );
    refused(contrastive(Samples::new(z().cast(DType::F16), l()), options), &["embeddings", "F16", "cast"]);
    let one = Samples::new(z().slice([0..1, 0..3]), l().narrow(0, 0, 1));
    refused(contrastive(one, options), &["embeddings", "two rows"]);
    let negative = ContrastiveOptions { margin: -1.0, ..options };
    refused(contrastive(Samples::new(z(), l()), negative), &["margin", "-1"]);
    let others = Samples::new(tensor(&normal(1, 8), [4, 2]), l());
    refused(contrastive_cross(Samples::new(z(), l()), others, options), &["others", "[4, 2]", "[4, 3]"]);

    let text = similarity(z(), tensor(&normal(1, 8), [4, 2]), Similarity::Dot).unwrap_err().to_string();
    assert!(text.contains("similarity: b") && text.contains("[4, 2]"), "{text}");
    let (x, w) = (tensor(&normal(1, 12), [1, 3, 4]), tensor(&normal(1, 8), [2, 2, 2]));
    let text = conv1d(x.clone(), w, None, ConvOptions1d::default()).unwrap_err().to_string();
    assert!(text.contains("conv1d: weight"), "{text}");
    let w = tensor(&normal(1, 12), [2, 3, 2]);
    let text = conv1d(x, w, Some(l()), ConvOptions1d::default()).unwrap_err().to_string();
    assert!(text.contains("conv1d: bias") && text.contains("[4]"), "{text}");

    let stranger = burn::tensor::Device::wgpu(DeviceKind::DefaultDevice);
    let lost = Samples::new(Tensor::ones([4, 3], &stranger), Tensor::ones([4], &stranger));
    refused(contrastive(lost, options), &["not shared", "etude_burn::init"]);
    let apart = Samples::new(z(), Tensor::ones([4], &stranger));
    refused(contrastive(apart, options), &["labels", "first argument"]);
}
