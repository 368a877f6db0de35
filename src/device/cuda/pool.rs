//! Memory in the order of a stream, from a pool of the device's own.
//!
//! The card's default pool gives what is free back to the system at each wait, so that the next launch allocates anew; and its
//! settings are not ours to change, because the process's other libraries use it. Ours keeps what is free for the next
//! allocation until it is told to give it back.

use cudarc::driver::sys::{self, CUdevice, CUmemPool_attribute as Attribute, CUmemoryPool, CUstream};
use cudarc::driver::{DriverError, result};

/// A pool of a card's memory; destroyed when dropped, once nothing of it is in use.
pub(super) struct Pool(CUmemoryPool);

// SAFETY: the driver's calls on a pool may come from any thread.
unsafe impl Send for Pool {}
// SAFETY: as above, at the same time.
unsafe impl Sync for Pool {}

impl Pool {
    /// A pool of memory of `card`, which keeps whatever it got.
    pub(super) fn new(card: CUdevice) -> Result<Self, DriverError> {
        // SAFETY: integers, a null pointer and enums that have a zero; what later versions of CUDA added is 0 where unused.
        let mut wanted: sys::CUmemPoolProps = unsafe { std::mem::zeroed() };
        wanted.allocType = sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED;
        wanted.location.type_ = sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE;
        wanted.location.id = card;
        // SAFETY: the description is whole.
        let pool = Self(unsafe { result::mem_pool::create(&raw const wanted) }?);
        let mut most = u64::MAX;
        let kept = Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        // SAFETY: the pool is ours, and this attribute is a cuuint64_t.
        unsafe { result::mem_pool::set_attribute(pool.0, kept, (&raw mut most).cast()) }?;
        Ok(pool)
    }

    /// The address of so many new bytes, in the order of `stream`, which is freed in the same way.
    ///
    /// # Safety
    /// The stream is alive and its context bound.
    pub(super) unsafe fn allocate(&self, bytes: usize, stream: CUstream) -> Result<u64, DriverError> {
        // SAFETY: the caller's promise, and the pool is ours.
        unsafe { result::mem_pool::alloc_async(self.0, bytes, stream) }
    }

    /// Gives back all that is free; what is freed in a stream's order is so once the stream has got there.
    pub(super) fn trim(&self) -> Result<(), DriverError> {
        // SAFETY: the pool is ours.
        unsafe { result::mem_pool::trim_to(self.0, 0) }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: ours, destroyed once; frees that are under way go on. There is nobody to tell of an error.
        let _ = unsafe { result::mem_pool::destroy(self.0) };
    }
}
