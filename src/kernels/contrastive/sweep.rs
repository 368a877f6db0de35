//! The f32 sweep: every pair of blocks once, in rounds, each pair of them in one task.

use super::block::{Block, Tiles};
use super::schedule::{Met, Table};
use crate::kernel::Work;
use std::ops::ControlFlow;

/// Hears how many pairs of how many are done, and may end the run; it is called a few dozen times.
pub type Hear<'a> = &'a mut (dyn FnMut(u64, u64) -> ControlFlow<()> + Send);

/// Every pair of two of the `n` rows of `blocks`. The sum of losses; none when `hear` ended it.
pub fn all<'a>(
    work: Work,
    tiles: &Tiles,
    n: usize,
    blocks: impl Iterator<Item = Block<'a>>,
    hear: Hear<'_>,
) -> Option<f64> {
    let pairs = n as u64 * (n as u64).saturating_sub(1) / 2;
    let mut table = Table::within(blocks);
    let met = table.alone(work, |x| tiles.within(work.simd, x));
    hear(met.pairs, pairs).is_continue().then_some(())?;
    rounds(work, tiles, table, met, pairs, hear)
}

/// Every pair of one of `n` rows of `blocks` and one of `m` rows of `others`.
pub fn cross<'a>(
    work: Work,
    tiles: &Tiles,
    [n, m]: [usize; 2],
    [blocks, others]: [impl Iterator<Item = Block<'a>>; 2],
    hear: Hear<'_>,
) -> Option<f64> {
    let table = Table::across(blocks, others);
    rounds(work, tiles, table, Met::default(), n as u64 * m as u64, hear)
}

/// The rounds of a table, of whose `pairs` some are `met` already.
fn rounds(
    work: Work,
    tiles: &Tiles,
    mut table: Table<Block<'_>>,
    mut met: Met,
    pairs: u64,
    hear: Hear<'_>,
) -> Option<f64> {
    for round in 0..table.rounds() {
        met += table.round(work, round, |x, y| tiles.between(work.simd, x, y));
        hear(met.pairs, pairs).is_continue().then_some(())?;
    }
    Some(met.loss)
}
