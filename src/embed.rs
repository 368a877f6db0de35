//! Single calls on memory that is the caller's: what other frameworks' bindings are made of. No graph of the caller's, no
//! copy, and nothing kept between calls.
//!
//! Memory comes in through a device's `import` ([`Cpu::import`](crate::device::Cpu::import), `Cuda::import`,
//! `Wgpu::import`) as a [`Buf`], inputs and outputs alike. A call checks shapes and lengths, then runs: the CPU is done when
//! it returns; on CUDA the launches are enqueued on the device's stream, and on wgpu on its queue.
//!
//! ```
//! use etude::device::Cpu;
//! use etude::embed::Conv1d;
//! use etude::kernel::Elem;
//! use etude::ops::conv1d::ConvOptions1d;
//!
//! let cpu = Cpu::<f32>::new(1)?;
//! let (mut x, mut w) = (vec![1.0f32, 2.0, 3.0, 4.0], vec![1.0f32, -1.0]);
//! let conv = Conv1d::new([1, 1, 4], [1, 1, 2], ConvOptions1d::default())?;
//! let mut y = vec![0.0f32; conv.output().iter().product()];
//! // SAFETY: the vectors outlive the call, and nobody else touches them.
//! let [x, w, out] = unsafe {
//!     [&mut x, &mut w, &mut y].map(|v| cpu.import(v.as_mut_ptr().cast(), Elem::Real, v.len()).unwrap())
//! };
//! conv.forward(&cpu, &x, &w, None, &out)?;
//! assert_eq!(y, [-1.0, -1.0, -1.0]);
//! # Ok::<_, etude::Error>(())
//! ```

pub use crate::contrastive::Buffers;
use crate::contrastive::{Names, OTHERS, SAMPLES, check_as};
use crate::device::{Buf, Device, HostMut, Launch};
use crate::graph::{Graph, Var};
use crate::kernel::{Elem, Kernel, Params, stored_as};
use crate::kernels::{
    contrastive as kc, contrastive_hvp as kh, conv1d as k1, conv2d as k2, elementwise as ke, similarity as ks,
};
use crate::ops::contrastive as loss;
use crate::ops::contrastive::ContrastiveOptions;
use crate::ops::contrastive_hvp::hvp_params;
use crate::ops::conv1d::{self, ConvOptions1d};
use crate::ops::conv2d::{self, ConvOptions2d};
use crate::ops::info_nce::{self as nce, InfoNceOptions};
use crate::ops::rank_n_contrast as ranked;
use crate::ops::similarity::{self, Similarity};
use crate::{Error, Result};
use bytemuck::NoUninit;

fn launch<P: NoUninit>(kernel: &'static Kernel, params: &P, bufs: &[&Buf]) -> Launch {
    Launch { kernel, params: Params::new(params), bufs: bufs.iter().map(|&b| b.clone()).collect() }
}

/// Whether labels and weights in host memory are ones that the loss takes. They are read a piece at a time: what a call allocates
/// should not grow with its inputs.
fn look_at(
    device: &dyn Device,
    op: &'static str,
    names: Names,
    labels: &Buf,
    weights: Option<&Buf>,
) -> Result<()> {
    let [mut of_labels, mut of_weights] = [[0.0; 512]; 2];
    for first in (0..labels.len()).step_by(512) {
        let n = (labels.len() - first).min(512);
        let read =
            |buf: &Buf, to: &mut [f64]| device.read(&buf.window(first, n)?, HostMut::F64(&mut to[..n]));
        read(labels, &mut of_labels)?;
        weights.map(|weights| read(weights, &mut of_weights)).transpose()?;
        check_as(op, names, first, &of_labels[..n], weights.map(|_| &of_weights[..n]))?;
    }
    Ok(())
}

/// Whether a buffer has as many elements as its shape.
fn fits(op: &'static str, argument: &'static str, buf: &Buf, shape: &[usize]) -> Result<()> {
    let wanted = shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side));
    if wanted == Some(buf.len()) {
        return Ok(());
    }
    Err(Error::shape(op, argument, format!("{} elements for shape {shape:?}", buf.len())))
}

/// Whether what a call of several launches writes is apart from all else that it is given; each launch sees to its own.
fn apart(
    op: &'static str,
    read: &[(&'static str, &Buf)],
    written: &[(&'static str, Option<&Buf>)],
) -> Result<()> {
    let written = || written.iter().filter_map(|&(name, buf)| Some((name, buf?)));
    for (i, (name, buf)) in written().enumerate() {
        let others = read.iter().copied().chain(written().skip(i + 1));
        if let Some((other, _)) = { others }.find(|(_, other)| buf.overlaps(other)) {
            return Err(Error::shape(op, name, format!("overlaps `{other}`, but is written")));
        }
    }
    Ok(())
}

/// What the gradients of a convolution are wanted of.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConvGradients<'a> {
    /// By the input.
    pub x: Option<&'a Buf>,
    /// By the weight.
    pub weight: Option<&'a Buf>,
    /// By the bias.
    pub bias: Option<&'a Buf>,
}

macro_rules! conv {
    ($(#[$doc:meta])* $name:ident, $op:ident, $k:ident, $params:ident, $options:ident, $rank:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name {
            p: $k::$params,
            x: [usize; $rank],
            weight: [usize; $rank],
            output: [usize; $rank],
        }

        impl $name {
            const OP: &str = stringify!($op);

            /// For an input and a weight of these shapes.
            ///
            /// # Errors
            /// When shapes and options do not fit together, a dimension is empty, or 32 bits cannot index what they describe.
            pub fn new(x: [usize; $rank], weight: [usize; $rank], options: $options) -> Result<Self> {
                let (p, output) = $op::params(x, weight, None, options)?;
                Ok(Self { p, x, weight, output })
            }

            /// Shape of the output.
            pub fn output(&self) -> [usize; $rank] {
                self.output
            }

            /// The convolution into `y`; `bias` has an element for each output channel.
            ///
            /// # Errors
            /// When a buffer is of another length, or the device fails.
            pub fn forward(
                &self,
                device: &dyn Device,
                x: &Buf,
                weight: &Buf,
                bias: Option<&Buf>,
                y: &Buf,
            ) -> Result<()> {
                fits(Self::OP, "x", x, &self.x)?;
                fits(Self::OP, "weight", weight, &self.weight)?;
                fits(Self::OP, "y", y, &self.output)?;
                if let Some(bias) = bias {
                    fits(Self::OP, "bias", bias, &self.weight[..1])?;
                }
                let p = $k::$params { bias: bias.is_some().into(), ..self.p };
                device.run_once(vec![launch(&$k::FWD, &p, &[x, weight, bias.unwrap_or(weight), y])])
            }

            /// The gradients that are wanted, from that by the output, `dy`.
            ///
            /// # Errors
            /// When a buffer is of another length, a gradient overlaps anything else, or the device fails.
            pub fn backward(
                &self,
                device: &dyn Device,
                x: &Buf,
                weight: &Buf,
                dy: &Buf,
                gradients: ConvGradients<'_>,
            ) -> Result<()> {
                fits(Self::OP, "x", x, &self.x)?;
                fits(Self::OP, "weight", weight, &self.weight)?;
                fits(Self::OP, "dy", dy, &self.output)?;
                let ConvGradients { x: dx, weight: dw, bias: db } = gradients;
                let read = [("x", x), ("weight", weight), ("dy", dy)];
                apart(Self::OP, &read, &[("dx", dx), ("dweight", dw), ("dbias", db)])?;
                let (p, mut launches) = (&self.p, Vec::with_capacity(3));
                if let Some(dx) = dx {
                    fits(Self::OP, "dx", dx, &self.x)?;
                    launches.push(launch(&$k::BWD_X, p, &[dy, weight, dx]));
                }
                if let Some(dw) = dw {
                    fits(Self::OP, "dweight", dw, &self.weight)?;
                    let part = device.alloc(Elem::Real, device.scratch(p.parts()))?;
                    launches.push(launch(&$k::BWD_W, p, &[x, dy, &part, dw]));
                }
                if let Some(db) = db {
                    fits(Self::OP, "dbias", db, &self.weight[..1])?;
                    launches.push(launch(&$k::BWD_B, p, &[dy, db]));
                }
                device.run_once(launches)
            }
        }
    };
}

conv!(
    /// [`conv1d`](crate::ops::conv1d::conv1d): `x` `[batch, cin, t]`, `weight` `[cout, cin/groups, taps]`.
    Conv1d, conv1d, k1, Conv1dParams, ConvOptions1d, 3
);
conv!(
    /// [`conv2d`](crate::ops::conv2d::conv2d): `x` `[batch, cin, h, w]`, `weight` `[cout, cin/groups, kh, kw]`.
    Conv2d, conv2d, k2, Conv2dParams, ConvOptions2d, 4
);

/// [`similarity`](crate::ops::similarity::similarity): every row of `a` `[N, D]` against every row of `b` `[M, D]`, both in
/// f32 or both in 16 bits; the matrix `[N, M]` and the gradients are f32.
#[derive(Debug, Clone, Copy)]
pub struct PairwiseSimilarity {
    p: ks::SimilarityParams,
    shapes: [[usize; 2]; 2],
    batch: usize,
}

impl PairwiseSimilarity {
    const OP: &str = "similarity";

    /// For matrices of these shapes.
    ///
    /// # Errors
    /// When their columns differ, or a side is empty or beyond 32 bits.
    pub fn new(a: [usize; 2], b: [usize; 2], kind: Similarity) -> Result<Self> {
        let [n, m, d] = similarity::sizes(Self::OP, a, b)?;
        Ok(Self { p: ks::SimilarityParams { n, m, d, kind: kind as u32 }, shapes: [a, b], batch: 1 })
    }

    /// The same for `batch` matrices on either side, which lie one after another in every buffer.
    #[must_use]
    pub fn batch(self, batch: usize) -> Self {
        Self { batch, ..self }
    }

    /// Shape of a matrix.
    pub fn output(&self) -> [usize; 2] {
        [self.shapes[0][0], self.shapes[1][0]]
    }

    fn check(&self, argument: &'static str, buf: &Buf, [rows, columns]: [usize; 2]) -> Result<()> {
        let shape = [self.batch, rows, columns];
        fits(Self::OP, argument, buf, if self.batch == 1 { &shape[1..] } else { &shape })
    }

    /// A launch for each of the batch, which writes apart from what is read.
    fn run(&self, device: &dyn Device, kernel: &'static Kernel, bufs: &[&Buf]) -> Result<()> {
        let one = |i: usize| {
            let part = |buf: &&Buf| {
                let len = buf.len() / self.batch;
                buf.window(i * len, len)
            };
            let bufs = bufs.iter().map(part).collect::<Result<_>>()?;
            Ok(Launch { kernel, params: Params::new(&self.p), bufs })
        };
        let launches = (0..self.batch).map(one).collect::<Result<_>>()?;
        // SAFETY: each has its own part of what is written, and nothing else lies there.
        unsafe { device.run_each(launches) }
    }

    /// The matrix into `y`.
    ///
    /// # Errors
    /// When a buffer is of another length or type, or the device fails.
    pub fn forward(&self, device: &dyn Device, a: &Buf, b: &Buf, y: &Buf) -> Result<()> {
        self.check("a", a, self.shapes[0])?;
        self.check("b", b, self.shapes[1])?;
        self.check("y", y, self.output())?;
        apart(Self::OP, &[("a", a), ("b", b)], &[("y", Some(y))])?;
        let kernel = stored_as(Self::OP, "a", a.elem(), [&ks::FWD, &ks::FWD_F16, &ks::FWD_BF16])?;
        self.run(device, kernel, &[a, b, y])
    }

    /// The gradients by `a` and `b` from that by the matrix, `dy`.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn backward(&self, device: &dyn Device, [a, b, dy]: [&Buf; 3], [da, db]: [&Buf; 2]) -> Result<()> {
        let [of_a, of_b] = self.shapes;
        let shapes =
            [("a", a, of_a), ("b", b, of_b), ("dy", dy, self.output()), ("da", da, of_a), ("db", db, of_b)];
        for (argument, buf, shape) in shapes {
            self.check(argument, buf, shape)?;
        }
        apart(Self::OP, &[("a", a), ("b", b), ("dy", dy)], &[("da", Some(da)), ("db", Some(db))])?;
        let kernel = stored_as(Self::OP, "a", a.elem(), [&ks::BWD, &ks::BWD_F16, &ks::BWD_BF16])?;
        self.run(device, kernel, &[a, b, dy, da, db])
    }
}

/// [`contrastive`](crate::ops::contrastive::contrastive) over all pairs of one set of samples, or
/// [`contrastive_cross`](crate::ops::contrastive::contrastive_cross) over those of two.
///
/// The gradient comes with the loss, in the same pass: an autograd keeps it and scales it by what comes from upstream.
#[derive(Debug, Clone, Copy)]
pub struct Contrastive {
    p: kc::ContrastiveParams,
    cross: bool,
}

impl Contrastive {
    /// All pairs of `n` samples of `d` columns.
    ///
    /// # Errors
    /// When there is no pair, or an option does not fit.
    pub fn all([n, d]: [usize; 2], options: ContrastiveOptions) -> Result<Self> {
        let op = "contrastive";
        let [n, d] = loss::size(op, "embeddings", [n, d])?;
        loss::two_or_more(op, "embeddings", [n, d])?;
        Ok(Self { p: loss::params(op, [n, 0, d], 0, options)?, cross: false })
    }

    /// Every one of `n` samples with every one of `m` others.
    ///
    /// # Errors
    /// When columns differ, a side is empty, or an option does not fit.
    pub fn cross(samples: [usize; 2], others: [usize; 2], options: ContrastiveOptions) -> Result<Self> {
        let op = "contrastive_cross";
        let ([n, d], [m, columns]) =
            (loss::size(op, "embeddings", samples)?, loss::size(op, "others", others)?);
        if d != columns {
            let message = format!("shape {others:?} against embeddings of shape {samples:?}");
            return Err(Error::shape(op, "others", message));
        }
        loss::both_sides(op, n, m)?;
        Ok(Self { p: loss::params(op, [n, m, d], 0, options)?, cross: true })
    }

    /// The loss `[1]`, and the gradient by each set's embeddings, f32. `sets` is one, or for [`Self::cross`] two.
    ///
    /// A label or weight that is NaN, infinite or negative is an error on the CPU, where it can be seen; elsewhere it makes
    /// the loss NaN, as a row that is not finite does everywhere. A weight of 0 masks its sample's row and label.
    ///
    /// # Errors
    /// When a buffer is of another length or type, a label or weight is seen to be none, or the device fails.
    pub fn run(
        &self,
        device: &dyn Device,
        sets: &[Buffers<'_>],
        loss: &Buf,
        gradients: &[&Buf],
    ) -> Result<()> {
        let op = if self.cross { "contrastive_cross" } else { "contrastive" };
        let count = 1 + usize::from(self.cross);
        if sets.len() != count || gradients.len() != count {
            let message = format!("{} and {} gradients, takes {count} of each", sets.len(), gradients.len());
            return Err(Error::shape(op, "sets", message));
        }
        fits(op, "loss", loss, &[1])?;
        let (mut p, mut bufs) = (self.p, Vec::with_capacity(10));
        for (i, (set, gradient)) in sets.iter().zip(gradients).enumerate() {
            let (rows, d) = ([p.n, p.m][i] as usize, p.d as usize);
            let names = [SAMPLES, OTHERS][i];
            fits(op, names.rows, set.embeddings, &[rows, d])?;
            fits(op, names.labels, set.labels, &[rows])?;
            fits(op, names.gradient, gradient, &[rows, d])?;
            if let Some(weights) = set.weights {
                fits(op, names.weights, weights, &[rows])?;
                p.weighted |= 1 << i;
            }
            if device.on_host() {
                look_at(device, op, names, set.labels, set.weights)?;
            }
            bufs.extend([set.embeddings, set.labels, set.weights.unwrap_or(set.labels)]);
        }
        let rows = match self.cross {
            false => [&kc::ALL, &kc::ALL_F16, &kc::ALL_BF16],
            true => [&kc::CROSS, &kc::CROSS_F16, &kc::CROSS_BF16],
        };
        let kernel = stored_as(op, "embeddings", sets[0].embeddings.elem(), rows)?;
        let part = device.alloc(Elem::Real, device.scratch(p.parts()))?;
        bufs.push(loss);
        bufs.extend(gradients);
        bufs.push(&part);
        device.run_once(vec![launch(kernel, &p, &bufs)])
    }
}

/// [`contrastive_hvp`](crate::ops::contrastive_hvp::contrastive_hvp): the sums `[N, 2, D]` of the gradient of the loss at dual
/// rows, and of how it moves.
///
/// `own` are `n` samples of `d` columns, and `others`, where there are any, so many samples that they make pairs with, else each
/// other; `embeddings` are dual rows `[N, 2, D]`, f32.
///
/// # Errors
/// When a buffer is of another length, an option does not fit, or the device fails.
pub fn contrastive_hvp(
    device: &dyn Device,
    [n, d]: [usize; 2],
    own: Buffers<'_>,
    others: Option<(usize, Buffers<'_>)>,
    options: ContrastiveOptions,
    sums: &Buf,
) -> Result<()> {
    let op = "contrastive_hvp";
    let (m, of_others) = others.unwrap_or((n, own));
    let ([rows, columns], [m, _]) = (loss::size(op, "rows", [n, d])?, loss::size(op, "others", [m, d])?);
    let (mut weighted, mut bufs) = (0, Vec::with_capacity(7));
    for (i, (set, names, rows)) in [(own, SAMPLES, rows), (of_others, OTHERS, m)].into_iter().enumerate() {
        fits(op, names.rows, set.embeddings, &[rows as usize, 2, d])?;
        fits(op, names.labels, set.labels, &[rows as usize])?;
        if let Some(weights) = set.weights {
            fits(op, names.weights, weights, &[rows as usize])?;
            weighted |= 1 << i;
        }
        bufs.extend([set.embeddings, set.labels, set.weights.unwrap_or(set.labels)]);
    }
    fits(op, "sums", sums, &[n, 2, d])?;
    bufs.push(sums);
    let p = hvp_params(op, [rows, m, columns], (weighted, others.is_none()), options)?;
    device.run_once(vec![launch(&kh::ROWS, &p, &bufs)])
}

/// [`rank_n_contrast`](ranked::rank_n_contrast): the loss `[1]` of `n` rows of `d` columns, and where one is given the gradient
/// by them, f32.
///
/// A label that is not finite is an error on the CPU, where it can be seen; elsewhere it makes the loss NaN, as labels do
/// everywhere whose differences are not finite.
///
/// # Errors
/// When a buffer is of another length or type, an option does not fit, a label is seen to be no number, or the device fails.
pub fn rank_n_contrast(
    device: &dyn Device,
    [n, d]: [usize; 2],
    embeddings: &Buf,
    labels: &Buf,
    temperature: f32,
    loss: &Buf,
    gradient: Option<&Buf>,
) -> Result<()> {
    let op = "rank_n_contrast";
    fits(op, "embeddings", embeddings, &[n, d])?;
    fits(op, "labels", labels, &[n])?;
    fits(op, "loss", loss, &[1])?;
    if let Some(gradient) = gradient {
        fits(op, "gradient", gradient, &[n, d])?;
    }
    let read = [("embeddings", embeddings), ("labels", labels)];
    apart(op, &read, &[("loss", Some(loss)), ("gradient", gradient)])?;
    look_for_numbers(device, op, "labels", labels)?;
    let mut g = Graph::new();
    let z = bound(&mut g, embeddings, gradient, [n, d])?;
    let labels = g.bind(labels, &[n])?;
    let of_rows = ranked::rank_n_contrast(&mut g, z, labels, temperature)?;
    finish(g, device, of_rows, loss, gradient.is_some())
}

/// [`info_nce`](nce::info_nce): the loss `[1]` of `n` rows of `d` columns with their labels, an anchor each, held against each
/// other or against so many `others` with theirs; and where they are given the gradients by both, f32.
///
/// A label that is not finite is an error on the CPU, where it can be seen; elsewhere it makes the loss NaN, as labels do
/// everywhere whose differences, over sigma, are not finite.
///
/// # Errors
/// When a buffer is of another length or type, an option does not fit, a label is seen to be no number, or the device fails.
pub fn info_nce(
    device: &dyn Device,
    [n, d]: [usize; 2],
    [embeddings, labels]: [&Buf; 2],
    others: Option<(usize, [&Buf; 2])>,
    options: InfoNceOptions,
    loss: &Buf,
    [gradient, other_gradient]: [Option<&Buf>; 2],
) -> Result<()> {
    let op = "info_nce";
    let mut read = vec![("embeddings", embeddings), ("labels", labels)];
    fits(op, "embeddings", embeddings, &[n, d])?;
    fits(op, "labels", labels, &[n])?;
    look_for_numbers(device, op, "labels", labels)?;
    if let Some((m, [others, other_labels])) = others {
        fits(op, "others", others, &[m, d])?;
        fits(op, "other_labels", other_labels, &[m])?;
        look_for_numbers(device, op, "other_labels", other_labels)?;
        read.extend([("others", others), ("other_labels", other_labels)]);
    } else if other_gradient.is_some() {
        return Err(Error::shape(op, "other_gradient", "given without others"));
    }
    fits(op, "loss", loss, &[1])?;
    for (argument, gradient, rows) in
        [("gradient", gradient, n), ("other_gradient", other_gradient, others.map_or(0, |(m, _)| m))]
    {
        gradient.map_or(Ok(()), |gradient| fits(op, argument, gradient, &[rows, d]))?;
    }
    apart(op, &read, &[("loss", Some(loss)), ("gradient", gradient), ("other_gradient", other_gradient)])?;
    let mut g = Graph::new();
    let (z, of_z) = (bound(&mut g, embeddings, gradient, [n, d])?, g.bind(labels, &[n])?);
    let others = others.map(|(m, [rows, labels])| {
        Ok::<_, Error>((bound(&mut g, rows, other_gradient, [m, d])?, g.bind(labels, &[m])?))
    });
    let of_rows = nce::info_nce(&mut g, z, of_z, others.transpose()?, options)?;
    finish(g, device, of_rows, loss, gradient.is_some() || other_gradient.is_some())
}

/// Looks for a label that is not finite, where the host sees them.
fn look_for_numbers(
    device: &dyn Device,
    op: &'static str,
    argument: &'static str,
    labels: &Buf,
) -> Result<()> {
    if !device.on_host() {
        return Ok(());
    }
    let mut values = [0.0; 512];
    for first in (0..labels.len()).step_by(512) {
        let values = &mut values[..(labels.len() - first).min(512)];
        device.read(&labels.window(first, values.len())?, HostMut::F64(values))?;
        if let Some(at) = values.iter().position(|y| !y.is_finite()) {
            let message = format!("row {} is {}, must be finite", first + at, values[at]);
            return Err(Error::shape(op, argument, message));
        }
    }
    Ok(())
}

/// Rows, whose gradient goes where it is wanted.
fn bound(g: &mut Graph, rows: &Buf, gradient: Option<&Buf>, shape: [usize; 2]) -> Result<Var> {
    match gradient {
        Some(gradient) => g.leaf(rows, Some(gradient), &shape),
        None => g.bind(rows, &shape),
    }
}

/// Runs what is recorded: the loss to its place, and backward from it.
fn finish(mut g: Graph, device: &dyn Device, of_rows: Var, loss: &Buf, backward: bool) -> Result<()> {
    let to = g.bind(loss, &[1])?;
    g.launch(&ke::COPY, &ke::ElementwiseParams { n: 1, factor: 1.0 }, &[of_rows, to])?;
    if backward {
        g.backward(of_rows)?;
    }
    g.compile(device, &[])?.run()
}
