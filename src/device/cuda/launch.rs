//! What a row's `cuda` and a launch's buffers become at an entry point.

use crate::device::buf::Buf;
use crate::device::launch::Launch;
use crate::kernel::{Kernel, Params};
use crate::{Error, Result};
use std::ffi::c_void;

/// Most blocks along x, y and z.
const GRID: [u32; 3] = [i32::MAX as u32, 65_535, 65_535];

/// A launch as an entry point takes it.
pub(super) struct Ready {
    pub kernel: &'static Kernel,
    /// Blocks; none where nothing is to be done.
    pub grid: Option<[u32; 3]>,
    /// Threads of a block.
    pub block: u32,
    /// Bytes of dynamic shared memory.
    pub shared: u32,
    /// The device address of each binding.
    addresses: Vec<u64>,
    params: Params,
    /// The address of the tickets, where the row draws any.
    tickets: Option<u64>,
}

impl Ready {
    /// Checks a launch against its row; `address` and `tickets` give device addresses, the latter of as many zeros as it is told.
    pub fn new(
        device: &'static str,
        launch: &Launch,
        address: impl Fn(&Buf) -> Result<u64>,
        tickets: impl FnOnce(u32) -> u64,
    ) -> Result<Self> {
        let kernel = launch.kernel;
        launch.check()?;
        let cuda = &kernel.cuda;
        let grid = (cuda.grid)(&launch.params);
        if grid.iter().zip(GRID).any(|(n, most)| *n > most) {
            let ([x, y, z], [a, b, c]) = (grid, GRID);
            let message = format!(
                "{} needs {x} x {y} x {z} blocks, CUDA takes {a} x {b} x {c}: use a smaller batch",
                kernel.name
            );
            return Err(Error::device(device, message));
        }
        Ok(Self {
            kernel,
            grid: (!grid.contains(&0)).then_some(grid),
            block: cuda.block,
            shared: (cuda.shared)(&launch.params),
            addresses: launch.bufs.iter().map(address).collect::<Result<_>>()?,
            params: launch.params,
            tickets: cuda.tickets.map(|count| tickets(count(&launch.params))),
        })
    }

    /// The address and the bytes of each argument, in the entry point's order.
    pub fn arguments(&self) -> impl Iterator<Item = (*mut c_void, u32)> {
        let address = |a: &u64| ((&raw const *a).cast_mut().cast(), 8);
        let params = self.params.as_bytes();
        let params = (!params.is_empty()).then(|| (params.as_ptr().cast_mut().cast(), params.len() as u32));
        self.addresses.iter().map(address).chain(params).chain(self.tickets.as_ref().map(address))
    }
}
