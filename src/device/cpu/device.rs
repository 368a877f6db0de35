//! The device itself.

use super::memory::Storage;
use super::plan::{CpuPlan, NAME, Shared, storage};
use crate::device::buf::Buf;
use crate::device::host::{Host, HostMut, decode, encode, same_len};
use crate::device::interface::{Device, Plan};
use crate::device::launch::Launch;
use crate::kernel::{Elem, Real, Scratch, Team, Work};
use crate::simd::Simd;
use crate::{Error, Result};
use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};

/// The most threads that a device starts: four for each core, and 64 at least. Thousands take seconds to start and make
/// nothing faster; a slip of the finger must not stall the machine.
pub fn most_threads() -> usize {
    (4 * std::thread::available_parallelism().map_or(1, usize::from)).max(64)
}

/// A device of `F`: `Cpu<f32>` to use, `Cpu<f64>` to check with.
pub struct Cpu<F: Real = f32> {
    shared: Arc<Shared>,
    float: std::marker::PhantomData<fn() -> F>,
}

impl<F: Real> Cpu<F> {
    /// A device that runs on `threads` threads; 0 takes every core. More than [`most_threads`] are that many.
    ///
    /// # Errors
    /// When the threads cannot be started.
    pub fn new(threads: usize) -> Result<Self> {
        Self::with_simd(threads, Simd::best())
    }

    /// As [`Cpu::new`], with the f32 twins restricted to an instruction set.
    ///
    /// # Errors
    /// When the processor lacks the set, or the threads cannot be started.
    pub fn with_simd(threads: usize, simd: Simd) -> Result<Self> {
        if !simd.is_supported() {
            return Err(Error::device(NAME, format!("this processor has no {simd:?}")));
        }
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n.min(most_threads()),
        };
        let pool = match threads {
            1 => None,
            n => Some((
                rayon::ThreadPoolBuilder::new()
                    .num_threads(n)
                    .thread_name(|i| format!("etude-cpu-{i}"))
                    .build()
                    .map_err(|e| Error::device(NAME, format!("cannot start {n} threads: {e}")))?,
                Team::new(n),
            )),
        };
        Ok(Self {
            shared: Arc::new(Shared { work: Work { threads, simd }, pool, lock: Mutex::new(()) }),
            float: std::marker::PhantomData,
        })
    }

    /// How many threads launches run on.
    pub fn threads(&self) -> usize {
        self.shared.work.threads
    }

    /// Where a buffer lies in memory, for what computes on it in its own way.
    #[cfg(feature = "cuda-on-cpu")]
    pub(in crate::device) fn address(&self, buf: &Buf) -> Result<usize> {
        Ok(storage::<F>(buf)?.range(buf).start)
    }

    /// Takes `len` elements of a caller's memory at `pointer`, without a copy. [`Elem::Real`] is `F` there.
    ///
    /// # Safety
    /// As long as a clone of the buffer lives the memory stays valid, and while the device writes it nobody else uses it, nor
    /// writes it while the device reads.
    ///
    /// # Errors
    /// When the pointer is null, or not aligned to an element.
    pub unsafe fn import(&self, pointer: *mut c_void, elem: Elem, len: usize) -> Result<Buf> {
        // Elements are aligned to their size.
        let align = elem.bytes::<F>();
        if pointer.is_null() && len > 0 {
            return Err(Error::device(NAME, format!("an imported pointer to {len} elements is null")));
        }
        if !(pointer as usize).is_multiple_of(align) {
            return Err(Error::device(
                "cpu",
                format!("an imported address {pointer:p} is no multiple of {align}"),
            ));
        }
        // A slice of no elements has an address too.
        let base = if pointer.is_null() { align as *mut u8 } else { pointer.cast() };
        Ok(Buf::new(Storage::<F>::theirs(base), elem, len))
    }

    /// Runs `f` on the device's threads, outside any plan.
    pub(crate) fn install<R: Send>(&self, f: impl FnOnce(Work) -> R + Send) -> R {
        match &self.shared.pool {
            Some((pool, _)) => pool.install(|| f(self.shared.work)),
            None => f(self.shared.work),
        }
    }
}

impl<F: Real> Device for Cpu<F> {
    fn name(&self) -> String {
        NAME.into()
    }

    fn on_host(&self) -> bool {
        true
    }

    fn alloc(&self, elem: Elem, len: usize) -> Result<Buf> {
        let storage = Storage::<F>::new(elem, len).ok_or_else(|| {
            Error::device(NAME, format!("out of memory for a buffer of {len} elements: use a smaller batch"))
        })?;
        Ok(Buf::new(storage, elem, len))
    }

    fn scratch(&self, _need: Scratch) -> usize {
        0
    }

    fn write(&self, dst: &Buf, src: Host<'_>) -> Result<()> {
        same_len("write", src.len(), dst.len())?;
        let bytes = encode::<F>(dst.elem(), src)?;
        let storage = storage::<F>(dst)?;
        let _held = self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the window has as many bytes, and the lock keeps plans and other copies away from it.
        unsafe { storage.start(dst).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    fn read(&self, src: &Buf, dst: HostMut<'_>) -> Result<()> {
        same_len("read", dst.len(), src.len())?;
        let storage = storage::<F>(src)?;
        decode::<F>(src.elem(), dst, |to| {
            let _held = self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: as in `write`.
            unsafe { to.as_mut_ptr().copy_from_nonoverlapping(storage.start(src), to.len()) };
            Ok(())
        })
    }

    fn compile(&self, launches: Vec<Launch>) -> Result<Box<dyn Plan>> {
        Ok(Box::new(CpuPlan::<F>::new(Arc::clone(&self.shared), launches)?))
    }

    unsafe fn run_each(&self, launches: Vec<Launch>) -> Result<()> {
        let mut plan = CpuPlan::<F>::new(Arc::clone(&self.shared), launches)?;
        // SAFETY: the caller's.
        unsafe { plan.run_each() };
        Ok(())
    }
}
