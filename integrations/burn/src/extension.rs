//! The kernels as a backend extension: on burn's wgpu backend, and lazily under its fusion.

use crate::tensor::run;
use crate::{ContrastiveOptions, ConvOptions1d, Result, Similarity};
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, DType, ExtensionType, Shape, TensorMetadata, backend_extension};
use burn_cubecl::CubeBackend;
use etude::embed::{self, Buffers, ConvGradients};

/// A set of samples.
#[derive(ExtensionType)]
#[extension_type(fusion)]
pub struct Set<B: Backend> {
    /// Embeddings `[N, D]`.
    pub z: FloatTensor<B>,
    /// Labels `[N]`.
    pub labels: FloatTensor<B>,
    /// Weights `[N]`, or where there are none the labels again.
    pub weights: FloatTensor<B>,
    /// Whether there are weights.
    pub weighted: bool,
}

/// Sizes of a tensor whose rank was checked when the op was called.
fn dims<const D: usize>(shape: &Shape) -> [usize; D] {
    std::array::from_fn(|i| shape[i])
}

fn spec(shape: impl Into<Shape>) -> TensorSpec {
    TensorSpec::new(shape.into(), DType::F32)
}

/// `[N, M]` of matrices of `N` and `M` rows.
fn pairs(a: &Shape, b: &Shape) -> Shape {
    Shape::from([a[0], b[0]])
}

/// What an op that was accepted says again.
fn accepted<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|e| panic!("{e}"))
}

fn conv(x: &Shape, w: &Shape, options: ConvOptions1d) -> embed::Conv1d {
    accepted(embed::Conv1d::new(dims(x), dims(w), options))
}

/// The ops.
#[backend_extension(Cube, Fusion, Autodiff)]
pub(crate) trait Kernels: Backend {
    /// The loss `[1]` over all pairs and its gradient `[N, D]`.
    #[fusion(meta = |set, _options| (spec([1]), set.z.clone()))]
    fn contrastive(
        #[extension_type] set: Set<Self>,
        options: ContrastiveOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The loss `[1]` across two sets and its gradients `[N, D]` and `[M, D]`.
    #[fusion(meta = |set, others, _options| (spec([1]), set.z.clone(), others.z.clone()))]
    fn contrastive_cross(
        #[extension_type] set: Set<Self>,
        #[extension_type] others: Set<Self>,
        options: ContrastiveOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The matrix `[N, M]`.
    #[fusion(dtype = a, shape = pairs(a, b))]
    fn similarity(a: FloatTensor<Self>, b: FloatTensor<Self>, kind: Similarity) -> FloatTensor<Self>;

    /// The convolution; `w` comes again in the place of a bias that is not `biased`.
    #[fusion(dtype = x, shape = Shape::from(conv(x, w, *options).output()))]
    fn conv1d_forward(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        biased: bool,
        options: ConvOptions1d,
    ) -> FloatTensor<Self>;
}

/// What [`Kernels`] go backward with, beneath autodiff.
#[backend_extension(Cube, Fusion)]
pub(crate) trait Gradients: Backend {
    /// The gradients by `a` and `b`.
    #[fusion(meta = |a, b, _dy, _kind| (a.clone(), b.clone()))]
    fn similarity_backward(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        kind: Similarity,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradient by `x`.
    #[fusion(dtype = x, shape = x)]
    fn conv1d_x(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        options: ConvOptions1d,
    ) -> FloatTensor<Self>;

    /// The gradient by `w`.
    #[fusion(dtype = w, shape = w)]
    fn conv1d_w(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        options: ConvOptions1d,
    ) -> FloatTensor<Self>;

    /// The gradient by the bias.
    #[fusion(dtype = w, shape = Shape::from([w[0]]))]
    fn conv1d_b(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        options: ConvOptions1d,
    ) -> FloatTensor<Self>;
}

impl Kernels for CubeBackend {
    fn contrastive(set: Set<Self>, options: ContrastiveOptions) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let Set { z, labels, weights, weighted } = set;
        let shape = z.shape();
        let kernel = accepted(embed::Contrastive::all(dims(&shape), options));
        let [loss, dz] =
            run([z, labels, weights], [Shape::from([1]), shape], |device, [z, l, w], [loss, dz]| {
                let set = Buffers { embeddings: z, labels: l, weights: weighted.then_some(w) };
                kernel.run(device, &[set], loss, &[dz])
            });
        (loss, dz)
    }

    fn contrastive_cross(
        set: Set<Self>,
        others: Set<Self>,
        options: ContrastiveOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (of_z, of_others) = (set.z.shape(), others.z.shape());
        let kernel = accepted(embed::Contrastive::cross(dims(&of_z), dims(&of_others), options));
        let weighted = [set.weighted, others.weighted];
        let inputs = [set.z, set.labels, set.weights, others.z, others.labels, others.weights];
        let [loss, dz, dothers] = run(
            inputs,
            [Shape::from([1]), of_z, of_others],
            |device, [z, lz, wz, o, lo, wo], [loss, dz, dothers]| {
                let set = Buffers { embeddings: z, labels: lz, weights: weighted[0].then_some(wz) };
                let others = Buffers { embeddings: o, labels: lo, weights: weighted[1].then_some(wo) };
                kernel.run(device, &[set, others], loss, &[dz, dothers])
            },
        );
        (loss, dz, dothers)
    }

    fn similarity(a: FloatTensor<Self>, b: FloatTensor<Self>, kind: Similarity) -> FloatTensor<Self> {
        let (of_a, of_b) = (a.shape(), b.shape());
        let kernel = accepted(embed::PairwiseSimilarity::new(dims(&of_a), dims(&of_b), kind));
        let [y] = run([a, b], [pairs(&of_a, &of_b)], |device, [a, b], [y]| kernel.forward(device, a, b, y));
        y
    }

    fn conv1d_forward(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        biased: bool,
        options: ConvOptions1d,
    ) -> FloatTensor<Self> {
        let kernel = conv(&x.shape(), &w.shape(), options);
        let [y] = run([x, w, b], [Shape::from(kernel.output())], |device, [x, w, b], [y]| {
            kernel.forward(device, x, w, biased.then_some(b), y)
        });
        y
    }
}

impl Gradients for CubeBackend {
    fn similarity_backward(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        kind: Similarity,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (of_a, of_b) = (a.shape(), b.shape());
        let kernel = accepted(embed::PairwiseSimilarity::new(dims(&of_a), dims(&of_b), kind));
        let [da, db] = run([a, b, dy], [of_a, of_b], |device, [a, b, dy], [da, db]| {
            kernel.backward(device, [a, b, dy], [da, db])
        });
        (da, db)
    }

    fn conv1d_x(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        options: ConvOptions1d,
    ) -> FloatTensor<Self> {
        let (shape, kernel) = (x.shape(), conv(&x.shape(), &w.shape(), options));
        let [dx] = run([x, w, dy], [shape], |device, [x, w, dy], [dx]| {
            kernel.backward(device, x, w, dy, ConvGradients { x: Some(dx), ..Default::default() })
        });
        dx
    }

    fn conv1d_w(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        options: ConvOptions1d,
    ) -> FloatTensor<Self> {
        let (shape, kernel) = (w.shape(), conv(&x.shape(), &w.shape(), options));
        let [dw] = run([x, w, dy], [shape], |device, [x, w, dy], [dw]| {
            kernel.backward(device, x, w, dy, ConvGradients { weight: Some(dw), ..Default::default() })
        });
        dw
    }

    fn conv1d_b(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        options: ConvOptions1d,
    ) -> FloatTensor<Self> {
        let kernel = conv(&x.shape(), &w.shape(), options);
        let channels = Shape::from([w.shape()[0]]);
        let [db] = run([x, w, dy], [channels], |device, [x, w, dy], [db]| {
            kernel.backward(device, x, w, dy, ConvGradients { bias: Some(db), ..Default::default() })
        });
        db
    }
}
