//! The f32 instance: rows laid out, swept, and what the pairs added up made into gradients.

use super::params::ContrastiveParams;
use super::set::Set;
use super::sweep::{self, Hear};
use super::sweep_tile::Tiles;
use crate::kernel::{Args, Work, with_scratch};
use crate::kernels::pairs::{centre, lay_out, side_len};
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

/// The mean over all pairs of a set, and its gradient; none when `hear` ended the run.
pub(crate) fn loss_all(work: Work, p: &ContrastiveParams, mut set: Set<'_>, hear: Hear<'_>) -> Option<f32> {
    let d = p.d as usize;
    if !set.is_sound(d) {
        return Some(f32::NAN);
    }
    set.kept(d, |set| {
        let total = set.total_of_pairs();
        let Set { z, labels, weights, dz } = set;
        if total == 0.0 {
            dz.fill(0.0);
            return Some(0.0);
        }
        let n = labels.len();
        with_scratch(side_len(n, d), |mut scratch| {
            let (mut side, mut sums) = lay_out(d, p.cosine(), z, labels, weights, &mut scratch);
            centre(d, p.cosine(), &mut [&mut side]);
            let (scale, tiles) = (p.share(total), Tiles::new(p, weights.is_some()));
            let loss = scale * sweep::all(work, &tiles, n, tiles.blocks(&side, &mut sums, z), hear)?;
            sums.finish(&side, d, p.cosine(), (scale * f64::from(p.grad_scale)) as f32, z, dz);
            Some(loss as f32)
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
    z.kept(d, |z| others.kept(d, |others| cross_kept(work, p, z, others, hear)))
}

fn cross_kept(work: Work, p: &ContrastiveParams, z: Set<'_>, others: Set<'_>, hear: Hear<'_>) -> Option<f32> {
    let (n, m, d) = (z.labels.len(), others.labels.len(), p.d as usize);
    let total = z.total() * others.total();
    if total == 0.0 {
        z.dz.fill(0.0);
        others.dz.fill(0.0);
        return Some(0.0);
    }
    with_scratch(side_len(n, d) + side_len(m, d), |mut scratch| {
        let mut lay = |set: &Set<'_>| lay_out(d, p.cosine(), set.z, set.labels, set.weights, &mut scratch);
        let ((mut a, mut sums_a), (mut b, mut sums_b)) = (lay(&z), lay(&others));
        centre(d, p.cosine(), &mut [&mut a, &mut b]);
        let scale = p.share(total);
        let tiles = Tiles::new(p, z.weights.is_some() || others.weights.is_some());
        let blocks = [tiles.blocks(&a, &mut sums_a, z.z), tiles.blocks(&b, &mut sums_b, others.z)];
        let loss = scale * sweep::cross(work, &tiles, [n, m], blocks, hear)?;
        let scale = (scale * f64::from(p.grad_scale)) as f32;
        sums_a.finish(&a, d, p.cosine(), scale, z.z, z.dz);
        sums_b.finish(&b, d, p.cosine(), scale, others.z, others.dz);
        Some(loss as f32)
    })
}
