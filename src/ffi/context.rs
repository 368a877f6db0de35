//! Where calls run, and how their pointers become buffers.

use super::pointer::{give, null, some};
use super::status::{EtudeStatus, entry};
use crate::device::{Buf, Cpu, Device};
use crate::kernel::Elem;
use crate::{Error, Result};
use std::ffi::c_void;

/// Where calls run. Made by etude_cpu_new() and its like, freed by etude_context_free().
///
/// Any thread may use it, several at once too; on the CPU their calls then wait for each other.
pub struct EtudeContext {
    place: Place,
}

enum Place {
    Cpu(Cpu<f32>),
    #[cfg(feature = "cuda")]
    Cuda(crate::device::Cuda),
}

/// A call's context and name: what turns its pointers into buffers.
pub(super) struct Call<'a> {
    context: &'a EtudeContext,
    op: &'static str,
}

impl<'a> Call<'a> {
    /// # Safety
    /// `context` is null or one of ours.
    pub(super) unsafe fn new(op: &'static str, context: *const EtudeContext) -> Result<Self> {
        // SAFETY: the caller's promise.
        Ok(Self { context: unsafe { some(op, "context", context) }?, op })
    }

    pub(super) fn device(&self) -> &'a dyn Device {
        match &self.context.place {
            Place::Cpu(cpu) => cpu,
            #[cfg(feature = "cuda")]
            Place::Cuda(cuda) => cuda,
        }
    }

    /// # Safety
    /// `pointer` is null or leads to as many elements as `shape` has, which stay as they are until the buffer is dropped and what
    /// was launched with it is done.
    pub(super) unsafe fn optional<T>(
        &self,
        argument: &'static str,
        pointer: *const T,
        elem: Elem,
        shape: &[usize],
    ) -> Result<Option<Buf>> {
        if pointer.is_null() {
            return Ok(None);
        }
        let fail = |message: String| Error::shape(self.op, argument, message);
        // No object is larger than half the address space.
        let len = shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side));
        let len = len.filter(|&n| n <= isize::MAX as usize / 4);
        let len = len.ok_or_else(|| fail(format!("shape {shape:?} is beyond any memory")))?;
        // SAFETY: the caller's promise.
        let imported = unsafe {
            match &self.context.place {
                Place::Cpu(cpu) => cpu.import(pointer.cast_mut().cast(), elem, len),
                #[cfg(feature = "cuda")]
                Place::Cuda(cuda) => cuda.import(pointer as u64, elem, len, ()),
            }
        };
        imported.map(Some).map_err(|e| fail(e.to_string()))
    }

    /// # Safety
    /// As [`Self::optional`].
    pub(super) unsafe fn buf<T>(
        &self,
        argument: &'static str,
        pointer: *const T,
        elem: Elem,
        shape: &[usize],
    ) -> Result<Buf> {
        // SAFETY: the caller's promise.
        unsafe { self.optional(argument, pointer, elem, shape) }?.ok_or_else(|| null(self.op, argument))
    }
}

/// A context for the CPU on `threads` threads, 0 for as many as there are cores. Calls take host pointers, and are done when they
/// return. The result is the same to the last bit whatever the number of threads.
///
/// # Safety
/// `context` is valid to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn etude_cpu_new(threads: usize, context: *mut *mut EtudeContext) -> EtudeStatus {
    // SAFETY: the caller's promise.
    entry(|| unsafe { give_context("etude_cpu_new", context, || Ok(Place::Cpu(Cpu::new(threads)?))) })
}

/// A context for NVIDIA card `ordinal` as CUDA counts them, with a stream of its own, in the card's primary context (the CUDA
/// runtime's).
///
/// Calls take device pointers (EtudeSamples, descriptions of shapes and `context` itself stay on the host), are enqueued and
/// return at once: wait with etude_synchronize() before reading results or freeing memory. Kernels are compiled or loaded when
/// first used, so that call takes longer.
///
/// # Safety
/// `context` is valid to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn etude_cuda_new(ordinal: usize, context: *mut *mut EtudeContext) -> EtudeStatus {
    #[cfg(feature = "cuda")]
    let make = || Ok(Place::Cuda(crate::device::Cuda::new(ordinal)?));
    #[cfg(not(feature = "cuda"))]
    let make = || without_cuda(ordinal);
    // SAFETY: the caller's promise.
    entry(|| unsafe { give_context("etude_cuda_new", context, make) })
}

/// As etude_cuda_new(), on a stream of the caller's: a cudaStream_t or CUstream of card `ordinal`'s primary context, null for the
/// default stream. Calls are in order with whatever else is enqueued there. The stream must outlive the context.
///
/// # Safety
/// `stream` is such a stream, and `context` is valid to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn etude_cuda_on_stream(
    ordinal: usize,
    stream: *mut c_void,
    context: *mut *mut EtudeContext,
) -> EtudeStatus {
    #[cfg(feature = "cuda")]
    // SAFETY: the caller's promise.
    let make = || Ok(Place::Cuda(unsafe { crate::device::Cuda::on_stream(ordinal, stream) }?));
    #[cfg(not(feature = "cuda"))]
    let make = || {
        let _ = stream;
        without_cuda(ordinal)
    };
    // SAFETY: the caller's promise.
    entry(|| unsafe { give_context("etude_cuda_on_stream", context, make) })
}

#[cfg(not(feature = "cuda"))]
fn without_cuda(ordinal: usize) -> Result<Place> {
    let message = format!("card {ordinal}: the library was built without the feature `cuda`");
    Err(Error::device("cuda", message))
}

/// # Safety
/// `out` is null or valid to write.
unsafe fn give_context(
    op: &'static str,
    out: *mut *mut EtudeContext,
    make: impl FnOnce() -> Result<Place>,
) -> Result<()> {
    // SAFETY: the caller's promise. Null first: where making fails, nothing looks like a context.
    unsafe { give(op, "context", out, std::ptr::null_mut()) }?;
    let context = Box::new(EtudeContext { place: make()? });
    // SAFETY: as above.
    unsafe { give(op, "context", out, Box::into_raw(context)) }
}

/// Frees a context; nothing where it is null. What is enqueued on CUDA still runs.
///
/// # Safety
/// `context` is null or was made here, is used by no other thread, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn etude_context_free(context: *mut EtudeContext) {
    if !context.is_null() {
        // Nobody is told of a failure to free.
        entry(|| {
            // SAFETY: the caller's promise.
            drop(unsafe { Box::from_raw(context) });
            Ok(())
        });
    }
}

/// Waits until everything that was enqueued on the context's stream is done. The CPU has nothing to wait for.
///
/// # Safety
/// `context` is null or one of ours.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn etude_synchronize(context: *const EtudeContext) -> EtudeStatus {
    // SAFETY: the caller's promise.
    entry(|| match &unsafe { some("etude_synchronize", "context", context) }?.place {
        Place::Cpu(_) => Ok(()),
        #[cfg(feature = "cuda")]
        Place::Cuda(cuda) => cuda.synchronize(),
    })
}
