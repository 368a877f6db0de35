//! The f32 instance: rows laid out, swept, and what the pairs added up made into gradients.

use super::block::Tiles;
use super::classes;
use super::order::{Order, order_len};
use super::params::ContrastiveParams;
use super::set::Set;
use super::side::{centre, lay_out, side_len};
use super::sweep::{self, Hear};
use crate::kernel::{Args, Work, with_scratch};
use std::ops::ControlFlow;

/// What a launch of a plan reports to: nobody.
fn unheard(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// All pairs of one set.
pub fn all(args: Args<'_, f32>) {
    let (p, work): (ContrastiveParams, _) = (args.params(), args.work);
    let [z, labels, weights, loss, dz, _] = args.bufs();
    let weights = p.weights(0, weights.input());
    let (labels, dz) = (labels.input(), dz.output());
    let value = z.widened(|z| loss_all(work, &p, Set { z, labels, weights, dz }, &mut unheard));
    loss.output()[0] = value.expect("nothing ends it");
}

/// Every pair of a row of one set and one of another.
pub fn cross(args: Args<'_, f32>) {
    let (p, work): (ContrastiveParams, _) = (args.params(), args.work);
    let [z, labels_z, weights_z, others, labels_o, weights_o, loss, dz, dothers, _] = args.bufs();
    let (of_z, dz) = ((labels_z.input(), p.weights(0, weights_z.input())), dz.output());
    let (of_o, dothers) = ((labels_o.input(), p.weights(1, weights_o.input())), dothers.output());
    let value = z.widened(|z| {
        others.widened(|others| {
            let z = Set { z, labels: of_z.0, weights: of_z.1, dz };
            let others = Set { z: others, labels: of_o.0, weights: of_o.1, dz: dothers };
            loss_cross(work, &p, z, others, &mut unheard)
        })
    });
    loss.output()[0] = value.expect("nothing ends it");
}

/// Whether equal labels are positive pairs that need not be met one by one.
fn has_classes(p: &ContrastiveParams) -> bool {
    !p.cosine() && p.tau >= 0.0
}

/// The mean over all pairs of a set, and its gradient; none when `hear` ended the run.
pub(crate) fn loss_all(work: Work, p: &ContrastiveParams, mut set: Set<'_>, hear: Hear<'_>) -> Option<f32> {
    let d = p.d as usize;
    if !set.is_sound(d) {
        return Some(f32::NAN);
    }
    with_scratch(order_len(set.labels.len()), |keys| {
        let order = Order::of(&set, d, keys);
        if order.len() < 2 {
            set.dz.fill(0.0);
            return Some(0.0);
        }
        with_scratch(side_len(order.len(), d), |scratch: &mut [f32]| {
            let (mut side, mut sums) = lay_out(d, p.cosine(), &set, &order, scratch);
            centre(work.simd, p.cosine(), &mut [&mut side]);
            let scale = p.share(side.total_of_pairs());
            let tiles = Tiles::new(p, set.weights.is_some(), order.step());
            let alike =
                if has_classes(p) { classes::within(work.simd, &side, &mut sums, set.z) } else { 0.0 };
            let others = sweep::all(work, &tiles, order.len(), tiles.blocks(&side, &mut sums, set.z), hear)?;
            sums.finish(
                work.simd,
                &side,
                p.cosine(),
                (scale * f64::from(p.grad_scale)) as f32,
                set.z,
                set.dz,
            );
            Some((scale * (alike + others)) as f32)
        })
    })
}

/// The mean over all pairs of a row of `z` and one of `others`, and its gradients; none when `hear` ended the run.
pub(crate) fn loss_cross(
    work: Work,
    p: &ContrastiveParams,
    mut z: Set<'_>,
    mut others: Set<'_>,
    hear: Hear<'_>,
) -> Option<f32> {
    let d = p.d as usize;
    if [z.is_sound(d), others.is_sound(d)] != [true; 2] {
        return Some(f32::NAN);
    }
    let [of_z, of_others] = [&z, &others].map(|set| order_len(set.labels.len()));
    with_scratch(of_z + of_others, |keys| {
        let (keys_z, keys_o) = keys.split_at_mut(of_z);
        let orders = [Order::of(&z, d, keys_z), Order::of(&others, d, keys_o)];
        if orders.iter().any(|order| order.len() == 0) {
            z.dz.fill(0.0);
            others.dz.fill(0.0);
            return Some(0.0);
        }
        cross_ordered(work, p, (z, others), &orders, hear)
    })
}

fn cross_ordered(
    work: Work,
    p: &ContrastiveParams,
    (z, others): (Set<'_>, Set<'_>),
    orders: &[Order<'_>; 2],
    hear: Hear<'_>,
) -> Option<f32> {
    let (d, [n, m]) = (p.d as usize, orders.each_ref().map(Order::len));
    with_scratch(side_len(n, d) + side_len(m, d), |scratch: &mut [f32]| {
        let (of_z, of_others) = scratch.split_at_mut(side_len(n, d));
        let (mut a, mut sums_a) = lay_out(d, p.cosine(), &z, &orders[0], of_z);
        let (mut b, mut sums_b) = lay_out(d, p.cosine(), &others, &orders[1], of_others);
        centre(work.simd, p.cosine(), &mut [&mut a, &mut b]);
        let scale = p.share(a.total() * b.total());
        let weighted = z.weights.is_some() || others.weights.is_some();
        let tiles = Tiles::new(p, weighted, 0.0);
        let alike = match has_classes(p) {
            true => classes::across(work.simd, [&a, &b], [&mut sums_a, &mut sums_b], [z.z, others.z]),
            false => 0.0,
        };
        let blocks = [tiles.blocks(&a, &mut sums_a, z.z), tiles.blocks(&b, &mut sums_b, others.z)];
        let unlike = sweep::cross(work, &tiles, [n, m], blocks, hear)?;
        let of_gradient = (scale * f64::from(p.grad_scale)) as f32;
        sums_a.finish(work.simd, &a, p.cosine(), of_gradient, z.z, z.dz);
        sums_b.finish(work.simd, &b, p.cosine(), of_gradient, others.z, others.dz);
        Some((scale * (alike + unlike)) as f32)
    })
}
