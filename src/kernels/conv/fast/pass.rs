//! One axis of a correlation, forward or backward, as passes over phases of the stride.
//!
//! The gradient of the input is a convolution too. The positions of `dx` that are congruent modulo the stride see the same
//! taps, a subset of the kernel in reverse order, and see `dy` with stride 1: one [`Phase`] each (filter banks know it as
//! the polyphase decomposition). So forward and backward are the same [`Pass`] with other numbers.

use crate::kernels::conv::geometry::{Axis, gcd};

/// One axis of a pass over the source: `units` steps, each from one source step to `to_step` destinations.
#[derive(Debug, Clone, Copy)]
pub struct Pass {
    /// Steps in all.
    pub units: usize,
    /// Source positions from one unit to the next.
    pub from_step: usize,
    /// Source positions that a unit sees, first to last.
    pub reach: usize,
    /// The first source position that unit 0 sees.
    pub from_start: isize,
    /// Destination positions of a unit; each is a phase of its own.
    pub to_step: usize,
    /// The first destination position of unit 0.
    pub to_start: isize,
    /// Source positions from one tap of a phase to the next.
    pub tap_step: usize,
    pub axis: Axis,
}

/// The taps that one destination position of each unit sees, in order of their source positions.
#[derive(Debug, Clone, Copy)]
pub struct Phase {
    pub taps: usize,
    /// Source position of the first tap, from the first that the unit sees.
    pub first: usize,
    /// The first tap's place in the kernel, and from each to the next.
    pub kernel_first: usize,
    pub kernel_step: isize,
}

impl Phase {
    pub fn kernel(&self, tap: usize) -> usize {
        self.kernel_first.wrapping_add_signed(self.kernel_step * tap as isize)
    }
}

impl Pass {
    /// From input to output: a unit is an output position.
    pub fn forward(axis: Axis) -> Self {
        Self {
            units: axis.output,
            from_step: axis.stride,
            reach: (axis.kernel - 1) * axis.dilation + 1,
            from_start: -(axis.padding as isize),
            to_step: 1,
            to_start: 0,
            tap_step: axis.dilation,
            axis,
        }
    }

    /// From the output's gradient to the input's: a unit is `stride` input positions, counted from
    /// where the padding starts. Tap `k` brings `dy[u − ⌊k·dilation/stride⌋]` to unit `u`'s position
    /// of phase `k·dilation mod stride`.
    pub fn backward(axis: Axis) -> Self {
        let first = axis.padding / axis.stride;
        let last = (axis.padding + axis.input - 1) / axis.stride;
        let furthest = (axis.kernel - 1) * axis.dilation / axis.stride;
        Self {
            units: last - first + 1,
            from_step: 1,
            reach: furthest + 1,
            from_start: first as isize - furthest as isize,
            to_step: axis.stride,
            to_start: (first * axis.stride) as isize - axis.padding as isize,
            tap_step: axis.dilation / gcd(axis.stride, axis.dilation),
            axis,
        }
    }

    pub fn forward_phase(&self) -> Phase {
        Phase { taps: self.axis.kernel, first: 0, kernel_first: 0, kernel_step: 1 }
    }

    pub fn backward_phase(&self, residue: usize) -> Phase {
        let Axis { kernel, stride, dilation, .. } = self.axis;
        let step = stride / gcd(stride, dilation);
        match (0..kernel.min(step)).find(|k| k * dilation % stride == residue) {
            None => Phase { taps: 0, first: 0, kernel_first: 0, kernel_step: 0 },
            Some(k) => {
                let taps = (kernel - 1 - k) / step + 1;
                let last = k + (taps - 1) * step;
                Phase {
                    taps,
                    first: self.reach - 1 - last * dilation / stride,
                    kernel_first: last,
                    kernel_step: -(step as isize),
                }
            }
        }
    }

    /// Source positions that `n` units see.
    pub fn span(&self, n: usize) -> usize {
        (n - 1).saturating_mul(self.from_step).saturating_add(self.reach)
    }
}
