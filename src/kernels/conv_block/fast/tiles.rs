//! How a block's positions are cut.

use crate::kernels::conv_block::params::ConvBlockParams;

/// Most positions of a tile: eight channels of `dy`, which the weight gradient reads again and again, take 32 KiB then. Fewer
/// would make the sums of weights pass through memory more often.
const SPAN: usize = 64;

/// Tiles of `positions`, the last of what is left: which depends on shapes alone.
#[derive(Clone, Copy)]
pub struct Tiles {
    positions: usize,
    count: usize,
    span: usize,
}

impl Tiles {
    /// Of so many positions.
    pub fn of(positions: usize) -> Self {
        Self { positions, count: positions.div_ceil(SPAN).max(1), span: positions.min(SPAN) }
    }

    /// How many there are.
    pub fn count(self) -> usize {
        self.count
    }

    /// Where tile `i` begins, and where it ends.
    pub fn range(self, i: usize) -> (usize, usize) {
        (i * self.span, ((i + 1) * self.span).min(self.positions))
    }

    /// Positions of the longest.
    pub fn span(self) -> usize {
        self.span
    }

    /// Frames of the input that a tile touches at most: those that its taps see, and all of its own.
    pub fn frames(self, p: &ConvBlockParams) -> usize {
        let frames = (self.span() - 1) * p.stride as usize + (p.k as usize).max(p.stride as usize);
        frames.min(p.t as usize)
    }
}

/// The places of (channel, tap), in the order of packed weights: channels and taps with the floats from one to the next.
pub fn terms(places: &mut [usize], [channels, channel]: [usize; 2], [taps, tap]: [usize; 2]) {
    assert_eq!(places.len(), channels * taps);
    for (c, places) in places.chunks_exact_mut(taps.max(1)).enumerate() {
        for (k, place) in places.iter_mut().enumerate() {
            *place = c * channel + k * tap;
        }
    }
}
