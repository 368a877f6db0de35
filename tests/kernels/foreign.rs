//! A value of another graph is refused by every op, in every place, and never taken for one of this graph.

use etude::Result;
use etude::device::{Buf, Cpu, Device};
use etude::graph::{Graph, Var};
use etude::kernel::Elem;
use etude::ops::activation::{leaky_relu, relu, sigmoid};
use etude::ops::batch_norm::{BatchNormOptions, BatchNormVars, batch_norm};
use etude::ops::contrastive::{ContrastiveOptions, contrastive, contrastive_cross};
use etude::ops::conv_block::Features;
use etude::ops::conv1d::{ConvOptions1d, conv1d};
use etude::ops::conv2d::{ConvOptions2d, conv2d};
use etude::ops::dropout::{DropoutOptions, dropout};
use etude::ops::gather::gather_rows;
use etude::ops::linear::{Activation, linear};
use etude::ops::loss::{LossOptions, bce, mse};
use etude::ops::optim::{Sgd, sgd};
use etude::ops::pool::{masked_mean_time, mean_time};
use etude::ops::similarity::{Similarity, similarity, similarity_topk};
use etude::ops::{add, reshape, scale};

type Op = fn(&mut Graph, &[Var]) -> Result<()>;
/// Shapes and types of the values that an op takes.
type Values = &'static [(&'static [usize], Elem)];

/// Each op with the shapes of its values; those that hold whole numbers are marked.
const OPS: &[(&str, Values, Op)] = {
    use Elem::{Index, Real};
    &[
        ("add", &[(&[2, 3], Real), (&[2, 3], Real)], |g, v| add(g, v[0], v[1]).map(drop)),
        ("scale", &[(&[2, 3], Real)], |g, v| scale(g, v[0], 2.0).map(drop)),
        ("reshape", &[(&[2, 3], Real)], |g, v| reshape(g, v[0], &[3, 2]).map(drop)),
        ("relu", &[(&[2, 3], Real)], |g, v| relu(g, v[0]).map(drop)),
        ("leaky_relu", &[(&[2, 3], Real)], |g, v| leaky_relu(g, v[0], 0.1).map(drop)),
        ("sigmoid", &[(&[2, 3], Real)], |g, v| sigmoid(g, v[0]).map(drop)),
        ("linear", &[(&[2, 3], Real), (&[4, 3], Real), (&[4], Real)], |g, v| {
            linear(g, v[0], v[1], Some(v[2]), Activation::None).map(drop)
        }),
        ("conv1d", &[(&[2, 3, 9], Real), (&[4, 3, 5], Real), (&[4], Real)], |g, v| {
            conv1d(g, v[0], v[1], Some(v[2]), ConvOptions1d::default()).map(drop)
        }),
        ("conv2d", &[(&[2, 3, 9, 9], Real), (&[4, 3, 5, 5], Real), (&[4], Real)], |g, v| {
            conv2d(g, v[0], v[1], Some(v[2]), ConvOptions2d::default()).map(drop)
        }),
        ("batch_norm", &[(&[4, 3], Real), (&[3], Real), (&[3], Real), (&[3], Real), (&[3], Real)], |g, v| {
            let vars = BatchNormVars { gamma: v[1], beta: v[2], running_mean: v[3], running_var: v[4] };
            batch_norm(g, v[0], vars, BatchNormOptions::default()).map(drop)
        }),
        ("mean_time", &[(&[2, 3, 4], Real)], |g, v| mean_time(g, v[0]).map(drop)),
        ("masked_mean_time", &[(&[2, 3, 4], Real), (&[2], Index)], |g, v| {
            masked_mean_time(g, v[0], v[1]).map(drop)
        }),
        ("dropout", &[(&[2, 3], Real), (&[3], Index)], |g, v| {
            dropout(g, v[0], v[1], DropoutOptions { probability: 0.5, stream: 0 }).map(drop)
        }),
        ("gather_rows", &[(&[5, 3], Real), (&[4], Index)], |g, v| gather_rows(g, v[0], v[1]).map(drop)),
        ("mse", &[(&[4], Real), (&[4], Real)], |g, v| mse(g, v[0], v[1], LossOptions::default()).map(drop)),
        ("bce", &[(&[4], Real), (&[4], Real)], |g, v| bce(g, v[0], v[1], LossOptions::default()).map(drop)),
        ("contrastive", &[(&[4, 3], Real), (&[4], Real)], |g, v| {
            contrastive(g, v[0], v[1], ContrastiveOptions::default()).map(drop)
        }),
        ("contrastive_cross", &[(&[4, 3], Real), (&[4], Real), (&[5, 3], Real), (&[5], Real)], |g, v| {
            contrastive_cross(g, v[0], v[1], v[2], v[3], ContrastiveOptions::default()).map(drop)
        }),
        ("similarity", &[(&[4, 3], Real), (&[5, 3], Real)], |g, v| {
            similarity(g, v[0], v[1], Similarity::Dot).map(drop)
        }),
        ("similarity_topk", &[(&[4, 3], Real), (&[5, 3], Real)], |g, v| {
            similarity_topk(g, v[0], v[1], Similarity::Cosine, 2).map(drop)
        }),
        ("sgd", &[(&[4], Real), (&[4], Real), (&[4], Real), (&[4], Real)], |g, v| {
            sgd(g, v[0], v[1], v[2], v[3], Sgd { momentum: 0.9, weight_decay: 0.0 })
        }),
        ("conv_block", &[(&[1, 3, 9, 16], Real)], |g, v| Features::input(g, v[0], 16).map(drop)),
        ("backward", &[(&[1], Real)], |g, v| g.backward(v[0])),
        ("backward_from", &[(&[2], Real), (&[2], Real)], |g, v| g.backward_from(v[0], v[1])),
        ("give_grad", &[(&[2], Real), (&[2], Real)], |g, v| g.give_grad(v[0], v[1])),
        ("compile", &[(&[2], Real)], |g, v| {
            let cpu = Cpu::<f32>::new(1)?;
            g.compile(&cpu, &[v[0]]).map(drop)
        }),
    ]
};

/// One value of every shape, bound to `g`; the first is a leaf.
fn bound(g: &mut Graph, bufs: &[Buf], shapes: Values) -> Vec<Var> {
    let value = |(i, (buf, (shape, _))): (usize, (&Buf, &(&[usize], Elem)))| match i {
        0 => g.leaf(buf, None, shape).unwrap(),
        _ => g.bind(buf, shape).unwrap(),
    };
    bufs.iter().zip(shapes).enumerate().map(value).collect()
}

#[test]
fn every_op_refuses_values_of_another_graph() {
    let cpu = Cpu::<f32>::new(1).unwrap();
    for (name, shapes, op) in OPS {
        let bufs: Vec<Buf> =
            shapes.iter().map(|(shape, elem)| cpu.alloc(*elem, shape.iter().product()).unwrap()).collect();
        for foreign in 0..shapes.len() {
            // One that has more values than this graph, and one whose values count like this graph's.
            for more in [0, 40] {
                let mut other = Graph::new();
                for _ in 0..more {
                    other.temp(&[1]);
                }
                let others = bound(&mut other, &bufs, shapes);
                let mut g = Graph::new();
                let mut vars = bound(&mut g, &bufs, shapes);
                vars[foreign] = others[foreign];
                let error = op(&mut g, &vars).expect_err(name).to_string();
                // A shape may be looked at before whose it is: a value of another graph has none.
                assert!(
                    error.contains("another graph") || error.contains("[]"),
                    "{name}, value {foreign}: {error}"
                );
            }
        }
    }
}

#[test]
fn what_another_graph_kept_is_not_found() {
    let cpu = Cpu::<f32>::new(1).unwrap();
    let buf = cpu.alloc(Elem::Real, 2).unwrap();
    let mut g = Graph::new();
    let x = g.bind(&buf, &[2]).unwrap();
    let step = g.compile(&cpu, &[x]).unwrap();
    let mut other = Graph::new();
    let same_place = other.bind(&buf, &[2]).unwrap();
    assert!(step.buf(x).is_ok());
    assert!(step.buf(same_place).is_err());
    assert!(g.grad(same_place).is_none() && !g.needs_grad(same_place));
}
