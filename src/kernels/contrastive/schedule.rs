//! Which blocks of rows meet when.
//!
//! Blocks depend on the shape alone and meetings on the number of blocks, so that one thread or many add in the same order.
//! A task of a round holds its two blocks as nobody else does: they are moved to it, and back when the round is over.

use crate::kernel::Work;
use crate::kernels::pairs::TILE;
use std::array::from_fn;
use std::ops::{AddAssign, Range};

/// Most blocks that rows are cut into: the tasks of a round are half as many.
const BLOCKS: usize = 32;

/// Rows of a block, whole tiles: depends on the shape alone, so the sums' order does too.
pub fn block_rows(n: usize) -> usize {
    n.div_ceil(BLOCKS).max(2 * TILE).next_multiple_of(TILE)
}

/// The rows of block `b`.
pub fn block(n: usize, b: usize) -> Range<usize> {
    let rows = block_rows(n);
    b * rows..n.min((b + 1) * rows)
}

/// Who meets whom, by number: each two once, and nobody twice in a round.
#[derive(Debug, Clone, Copy)]
enum Meetings {
    /// So many players each other.
    Within(usize),
    /// So many players each of so many others, which are numbered from [`BLOCKS`] on.
    Across(usize, usize),
}

impl Meetings {
    fn rounds(self) -> usize {
        match self {
            Self::Within(count) => count.next_multiple_of(2) - 1,
            Self::Across(a, b) => a.max(b),
        }
    }

    /// Tasks of a round, some of which may have nothing to do.
    fn tasks(self) -> usize {
        match self {
            Self::Within(count) => count.div_ceil(2),
            Self::Across(a, _) => a,
        }
    }

    /// The two of task `k` in a round.
    fn of(self, round: usize, k: usize) -> Option<[usize; 2]> {
        if k >= self.tasks() {
            return None;
        }
        match self {
            // A round-robin tournament: one player stays, the others move round a circle. With an odd count the one
            // that stays is nobody, and who meets it pauses.
            Self::Within(count) => {
                let others = count.next_multiple_of(2) - 1;
                let (x, y) = match k {
                    0 => (round, others),
                    k => ((round + k) % others, (round + others - k) % others),
                };
                (x.max(y) < count).then_some([x.min(y), x.max(y)])
            }
            // In round `r` player `x` meets `x + r`.
            Self::Across(_, b) => {
                let y = (k + round) % self.rounds();
                (y < b).then_some([k, BLOCKS + y])
            }
        }
    }
}

/// What pairs come to: the sum of their losses, and how many they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Met {
    pub loss: f64,
    pub pairs: u64,
}

impl AddAssign for Met {
    fn add_assign(&mut self, other: Self) {
        self.loss += other.loss;
        self.pairs += other.pairs;
    }
}

fn total(met: impl Iterator<Item = Met>) -> Met {
    let mut total = Met::default();
    met.for_each(|m| total += m);
    total
}

/// The blocks of one set or of two, between rounds.
pub struct Table<B> {
    meetings: Meetings,
    /// Those of the second set from [`BLOCKS`] on.
    blocks: [Option<B>; 2 * BLOCKS],
}

/// Two blocks, where they go back to, and what came of their meeting.
struct Task<B> {
    from: [usize; 2],
    blocks: [B; 2],
    met: Met,
}

/// How many there are.
fn seat<B>(seats: &mut [Option<B>], blocks: impl Iterator<Item = B>) -> usize {
    seats.iter_mut().zip(blocks).map(|(seat, block)| *seat = Some(block)).count()
}

impl<B: Send> Table<B> {
    /// Of blocks that all meet each other.
    pub fn within(blocks: impl Iterator<Item = B>) -> Self {
        let mut seats = [const { None }; 2 * BLOCKS];
        let count = seat(&mut seats[..BLOCKS], blocks);
        Self { meetings: Meetings::Within(count), blocks: seats }
    }

    /// Of blocks of which each meets every one of `others`.
    pub fn across(blocks: impl Iterator<Item = B>, others: impl Iterator<Item = B>) -> Self {
        let mut seats = [const { None }; 2 * BLOCKS];
        let (a, b) = (seat(&mut seats[..BLOCKS], blocks), seat(&mut seats[BLOCKS..], others));
        Self { meetings: Meetings::Across(a, b), blocks: seats }
    }

    /// Every block of the first set by itself.
    pub fn alone(&mut self, work: Work, each: impl Fn(&mut B) -> Met + Sync) -> Met {
        let (Meetings::Within(count) | Meetings::Across(count, _)) = self.meetings;
        let mut met = [Met::default(); BLOCKS];
        work.pieces2((&mut self.blocks[..count], 1), (&mut met[..count], 1), &|_, block, met| {
            if let [Some(block)] = block {
                met[0] = each(block);
            }
        });
        total(met.into_iter())
    }

    pub fn rounds(&self) -> usize {
        self.meetings.rounds()
    }

    /// The meetings of a round, side by side; sums are taken in the order of the tasks.
    pub fn round(&mut self, work: Work, round: usize, meet: impl Fn(&mut B, &mut B) -> Met + Sync) -> Met {
        let mut tasks: [Option<Task<B>>; BLOCKS] = from_fn(|k| {
            let from = self.meetings.of(round, k)?;
            let blocks = from.map(|b| self.blocks[b].take().expect("nobody is in two tasks of a round"));
            Some(Task { from, blocks, met: Met::default() })
        });
        work.pieces(&mut tasks[..self.meetings.tasks()], 1, &|_, task| {
            if let [Some(Task { blocks: [x, y], met, .. })] = task {
                *met = meet(x, y);
            }
        });
        total(tasks.into_iter().flatten().map(|task| {
            for (b, block) in task.from.into_iter().zip(task.blocks) {
                self.blocks[b] = Some(block);
            }
            task.met
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCKS, Meetings, Met, TILE, Table, block, block_rows};
    use crate::kernel::Work;
    use crate::simd::Simd;
    use std::collections::HashSet;

    #[test]
    fn blocks_meet_once_and_are_in_one_task_of_a_round() {
        let within = (1..=BLOCKS).map(|n| (Meetings::Within(n), n * (n - 1) / 2));
        let sizes = [1, 2, 3, 7, 8, 31, BLOCKS];
        let across = sizes.into_iter().flat_map(|a| sizes.map(|b| (Meetings::Across(a, b), a * b)));
        for (meetings, pairs) in within.chain(across) {
            let mut met = HashSet::new();
            for round in 0..meetings.rounds() {
                let mut busy = HashSet::new();
                for [x, y] in (0..BLOCKS).filter_map(|k| meetings.of(round, k)) {
                    assert!(x < y && y < 2 * BLOCKS, "{meetings:?} {round}: {x} {y}");
                    assert!(
                        busy.insert(x) && busy.insert(y),
                        "{meetings:?} {round}: {x} or {y} in two tasks"
                    );
                    assert!(met.insert([x, y]), "{meetings:?}: {x} and {y} meet twice");
                }
            }
            assert_eq!(met.len(), pairs, "{meetings:?}");
        }
    }

    #[test]
    fn a_table_hands_out_every_meeting_and_takes_the_blocks_back() {
        for (threads, count) in [(1, 1), (1, 2), (2, 9), (2, BLOCKS)] {
            let work = Work { threads, simd: Simd::Portable };
            // Each block counts those that it has met.
            let mut table = Table::within((0..count).map(|b| (b, 0)));
            let one = Met { loss: 1.0, pairs: 1 };
            assert_eq!(table.alone(work, |_| one).pairs, count as u64);
            let mut pairs = 0;
            for round in 0..table.rounds() {
                let meet = |x: &mut (usize, usize), y: &mut (usize, usize)| {
                    assert!(x.0 < y.0);
                    (x.1, y.1) = (x.1 + 1, y.1 + 1);
                    one
                };
                pairs += table.round(work, round, meet).pairs;
            }
            assert_eq!(pairs as usize, count * (count - 1) / 2);
            let blocks: Vec<_> = table.blocks.into_iter().flatten().collect();
            assert_eq!(blocks, (0..count).map(|b| (b, count - 1)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn blocks_are_whole_tiles_that_cover_the_rows() {
        for n in (1usize..20_000).step_by(37).chain([2, 96, 97, 3072, 3073, 65_536]) {
            let count = n.div_ceil(block_rows(n));
            assert!(count <= BLOCKS && block_rows(n).is_multiple_of(TILE), "{n}");
            assert_eq!((0..count).map(|b| block(n, b).len()).sum::<usize>(), n);
        }
    }
}
