//! The kernels under burn's autodiff.
//!
//! The loss's gradient comes with the loss: it is kept, and going backward multiplies it by the upstream gradient.

use crate::extension::{Gradients, Kernels, Set};
use crate::{ContrastiveOptions, ConvOptions1d, Similarity};
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients as Store;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, Shape};

#[derive(Debug)]
struct Loss;

/// `N` sets, each with the gradient that came with the loss.
impl<B: Backend, const N: usize> Backward<B, N> for Loss {
    type State = [FloatTensor<B>; N];

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Store, _: &mut Checkpointer) {
        // `[1, 1]`, against matrices.
        let upstream = B::float_reshape(grads.consume::<B>(&ops.node), Shape::from([1, 1]));
        for (parent, gradient) in ops.parents.into_iter().zip(ops.state) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, B::float_mul(gradient, upstream.clone()));
            }
        }
    }
}

#[derive(Debug)]
struct Matrix;

impl<B: Backend + Gradients> Backward<B, 2> for Matrix {
    type State = (NodeId, NodeId, Similarity);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Store, checkpointer: &mut Checkpointer) {
        let (a, b, kind) = ops.state;
        let [a, b] = [a, b].map(|id| checkpointer.retrieve_node_output::<FloatTensor<B>>(id));
        let dy = grads.consume::<B>(&ops.node);
        let (da, db) = B::similarity_backward(a, b, dy, kind);
        for (parent, gradient) in ops.parents.into_iter().zip([da, db]) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct Convolution;

impl<B: Backend + Gradients> Backward<B, 3> for Convolution {
    type State = (NodeId, NodeId, bool, ConvOptions1d);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Store, checkpointer: &mut Checkpointer) {
        let (x, w, biased, options) = ops.state;
        let [x, w] = [x, w].map(|id| checkpointer.retrieve_node_output::<FloatTensor<B>>(id));
        let dy = grads.consume::<B>(&ops.node);
        let [of_x, of_w, of_b] = ops.parents;
        if let Some(node) = of_x {
            grads.register::<B>(node.id, B::conv1d_x(x.clone(), w.clone(), dy.clone(), options));
        }
        if let Some(node) = of_w {
            grads.register::<B>(node.id, B::conv1d_w(x.clone(), w.clone(), dy.clone(), options));
        }
        // Without a bias the third parent is the weight again.
        if let Some(node) = of_b.filter(|_| biased) {
            grads.register::<B>(node.id, B::conv1d_b(x, w, dy, options));
        }
    }
}

/// A set beneath autodiff, and the node of its embeddings: labels and weights are constants.
fn inner<B: Backend, C: CheckpointStrategy>(set: Set<Autodiff<B, C>>) -> (Set<B>, NodeGuard) {
    let (z, node) = set.z.into_parts();
    let [labels, weights] = [set.labels, set.weights].map(|t| t.into_primitive());
    (Set { z, labels, weights, weighted: set.weighted }, node)
}

impl<B: Backend + Kernels + Gradients, C: CheckpointStrategy> Kernels for Autodiff<B, C> {
    fn contrastive(set: Set<Self>, options: ContrastiveOptions) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (set, node) = inner(set);
        let (loss, dz) = B::contrastive(set, options);
        let loss = match Backward::<B, 1>::prepare::<C>(Loss, [node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish([dz.clone()], loss),
            OpsKind::UnTracked(prep) => prep.finish(loss),
        };
        (loss, Self::from_inner(dz))
    }

    fn contrastive_cross(
        set: Set<Self>,
        others: Set<Self>,
        options: ContrastiveOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let ((set, of_z), (others, of_others)) = (inner(set), inner(others));
        let (loss, dz, dothers) = B::contrastive_cross(set, others, options);
        let nodes = [of_z, of_others];
        let loss = match Backward::<B, 2>::prepare::<C>(Loss, nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish([dz.clone(), dothers.clone()], loss),
            OpsKind::UnTracked(prep) => prep.finish(loss),
        };
        (loss, Self::from_inner(dz), Self::from_inner(dothers))
    }

    fn similarity(a: FloatTensor<Self>, b: FloatTensor<Self>, kind: Similarity) -> FloatTensor<Self> {
        match Backward::<B, 2>::prepare::<C>(Matrix, [a.node(), b.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&a), prep.checkpoint(&b), kind);
                prep.finish(state, B::similarity(a.into_primitive(), b.into_primitive(), kind))
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::similarity(a.into_primitive(), b.into_primitive(), kind))
            }
        }
    }

    fn conv1d_forward(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        biased: bool,
        options: ConvOptions1d,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), w.node(), b.node()];
        match Backward::<B, 3>::prepare::<C>(Convolution, nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&x), prep.checkpoint(&w), biased, options);
                let [x, w, b] = [x, w, b].map(|t| t.into_primitive());
                prep.finish(state, B::conv1d_forward(x, w, b, biased, options))
            }
            OpsKind::UnTracked(prep) => {
                let [x, w, b] = [x, w, b].map(|t| t.into_primitive());
                prep.finish(B::conv1d_forward(x, w, b, biased, options))
            }
        }
    }
}
