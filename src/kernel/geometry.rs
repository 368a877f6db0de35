//! How many workgroups and blocks a launch takes, as functions of its params alone.

use super::params::Params;

/// How many workgroups a stage takes. `[n, 1, 1]` may be any `n`: a device folds it over y, and the
/// shader numbers its workgroups with `group_of`. Other grids must keep each side within 65,535.
pub type Workgroups = fn(&Params) -> [u32; 3];

/// Elements that a workgroup of an elementwise shader owns: four for each of 256 threads.
pub const SPAN: u32 = 1024;

/// Workgroups for `n` elements at [`SPAN`] each.
pub const fn spans(n: u32) -> [u32; 3] {
    [n.div_ceil(SPAN), 1, 1]
}

/// Launch geometry of a CUDA twin: always one launch, whatever the WGSL twin takes. `kernels/README.md` has the
/// conventions.
#[derive(Clone, Copy)]
pub struct Cuda {
    /// Threads of a block; the kernel may rely on it.
    pub block: u32,
    /// Blocks. Depends on the params alone, so that a launch sums in the same order on every card. `y` and `z` stay
    /// within 65,535; a side of 0 is not launched.
    pub grid: fn(&Params) -> [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: fn(&Params) -> u32,
    /// Tickets of the launch. A block that is done draws one, so that the last of all, or of all that share a ticket, can finish
    /// the work: where there are any, the kernel takes `unsigned* ticket` after its params, all 0 at the start and 0 again at the
    /// end.
    pub tickets: Option<fn(&Params) -> u32>,
}

impl Cuda {
    /// A launch without dynamic shared memory or tickets.
    pub const fn new(block: u32, grid: fn(&Params) -> [u32; 3]) -> Self {
        Self { block, grid, shared: |_| 0, tickets: None }
    }

    /// With dynamic shared memory, in bytes.
    #[must_use]
    pub const fn shared(mut self, shared: fn(&Params) -> u32) -> Self {
        self.shared = shared;
        self
    }

    /// With a last block that finishes the launch.
    #[must_use]
    pub const fn ticket(self) -> Self {
        self.tickets(|_| 1)
    }

    /// With as many tickets, at least one, whatever the params: a last block for each part of the launch.
    #[must_use]
    pub const fn tickets(mut self, tickets: fn(&Params) -> u32) -> Self {
        self.tickets = Some(tickets);
        self
    }
}
