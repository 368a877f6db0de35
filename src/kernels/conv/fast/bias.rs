//! The gradient of the bias.

use crate::dispatch;
use crate::kernel::Args;
use crate::kernels::conv::geometry::Geometry;
use crate::simd::{F32x16, LANES};

/// The gradient of the bias: sixteen sums for each channel of each sample, then sample by sample.
pub fn bwd_b(args: Args<'_, f32>, geometry: &Geometry) {
    let work = args.work;
    let [dy, db] = args.bufs();
    let (dy, db) = (dy.input(), db.output());
    work.pieces(db, 1, &|channel, db| {
        let planes = dy.chunks_exact(geometry.outputs()).skip(channel).step_by(geometry.channels());
        db[0] = planes.map(|plane| sum(work.simd, plane)).sum();
    });
}

dispatch! { fn sum(v: &[f32]) -> f32 = sum_body }

#[inline(always)]
unsafe fn sum_body<V: F32x16>(v: &[f32]) -> f32 {
    let (blocks, rest) = v.as_chunks::<LANES>();
    // SAFETY: blocks of sixteen.
    let lanes = unsafe {
        let mut lanes = V::splat(0.0);
        for block in blocks {
            lanes = lanes.add(V::load(block.as_ptr()));
        }
        lanes.sum()
    };
    lanes + rest.iter().sum::<f32>()
}
