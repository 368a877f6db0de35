//! Where calls run, and how their pointers become buffers.

use super::pointer::{Pointer, give, null, some};
use super::status::{EtudeStatus, entry};
use crate::device::{Buf, Cpu, Device};
use crate::kernel::Elem;
use crate::{Error, Result};
use std::cell::RefCell;
use std::ffi::c_void;
use std::ops::Range;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Where calls run. Made by etude_cpu_new() and its like, freed by etude_context_free().
///
/// Any thread may use it, several at once too; on the CPU their calls then wait for each other. A child of fork() may use and
/// free a context of the CPU that its parent made: it starts threads of its own. One of CUDA is an error there, as CUDA is.
pub struct EtudeContext {
    /// Never null; another one in a forked child.
    home: AtomicPtr<Home>,
}

/// What a context is in one process.
struct Home {
    place: Place,
    /// Threads do not survive a fork, and neither do locks that others held.
    process: u32,
}

enum Place {
    Cpu(Cpu<f32>),
    #[cfg(feature = "cuda")]
    Cuda(crate::device::Cuda),
}

impl EtudeContext {
    fn new(place: Place) -> Self {
        let home = Box::new(Home { place, process: std::process::id() });
        Self { home: AtomicPtr::new(Box::into_raw(home)) }
    }

    fn home(&self) -> &Home {
        // SAFETY: made by `new` or `place`, and freed by `drop` alone.
        unsafe { &*self.home.load(Ordering::Acquire) }
    }

    /// Where calls of this process run.
    fn place(&self) -> Result<&Place> {
        let home = self.home();
        if home.process == std::process::id() {
            return Ok(&home.place);
        }
        let own = match &home.place {
            Place::Cpu(cpu) => Self::new(Place::Cpu(Cpu::new(cpu.threads())?)),
            #[cfg(feature = "cuda")]
            Place::Cuda(_) => {
                let message =
                    "the context was made before fork(): make another in a process that was not forked";
                return Err(Error::device("cuda", message));
            }
        };
        // The parent's is left as it is: to end its threads is to wait for threads that are not here. Where another thread was
        // first, its threads are taken, and `own` is dropped with those it started.
        let parents = std::ptr::from_ref(home).cast_mut();
        let made = own.home.load(Ordering::Relaxed);
        if self.home.compare_exchange(parents, made, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            std::mem::forget(own);
        }
        Ok(&self.home().place)
    }
}

impl Drop for EtudeContext {
    fn drop(&mut self) {
        if self.home().process == std::process::id() {
            // SAFETY: of `Box::into_raw`, and nobody uses the context any more.
            drop(unsafe { Box::from_raw(*self.home.get_mut()) });
        }
    }
}

/// A call's name and where it runs: what turns its pointers into buffers, none of which may overlap one that is written.
pub(super) struct Call<'a> {
    place: &'a Place,
    op: &'static str,
    given: RefCell<Vec<Given>>,
}

/// Memory that a call was given.
struct Given {
    argument: &'static str,
    bytes: Range<usize>,
    written: bool,
}

impl<'a> Call<'a> {
    /// # Safety
    /// `context` is null or one of ours.
    pub(super) unsafe fn new(op: &'static str, context: *const EtudeContext) -> Result<Self> {
        // SAFETY: the caller's promise.
        let place = unsafe { some(op, "context", context) }?.place()?;
        Ok(Self { place, op, given: RefCell::default() })
    }

    pub(super) fn device(&self) -> &'a dyn Device {
        match self.place {
            Place::Cpu(cpu) => cpu,
            #[cfg(feature = "cuda")]
            Place::Cuda(cuda) => cuda,
        }
    }

    /// Whether the host sees what pointers lead to.
    pub(super) fn on_host(&self) -> bool {
        matches!(self.place, Place::Cpu(_))
    }

    /// What is wrong with an argument.
    pub(super) fn wrong(&self, argument: &'static str, message: String) -> Error {
        Error::shape(self.op, argument, message)
    }

    /// A struct of options, shapes or pointers, on the host.
    ///
    /// # Safety
    /// As [`some`].
    pub(super) unsafe fn described<T>(&self, argument: &'static str, pointer: *const T) -> Result<&'a T> {
        // SAFETY: the caller's promise.
        let given = unsafe { some(self.op, argument, pointer) }?;
        self.keep_apart(argument, pointer, size_of::<T>())?;
        Ok(given)
    }

    /// Remembers the memory of an argument; an error where one that is written overlaps another.
    fn keep_apart(&self, argument: &'static str, pointer: impl Pointer, len: usize) -> Result<()> {
        let (start, written) = (pointer.address() as usize, pointer.written());
        let bytes = start..start.saturating_add(len);
        let mut given = self.given.borrow_mut();
        let shared = |other: &&Given| {
            let common = other.bytes.start.max(bytes.start)..other.bytes.end.min(bytes.end);
            (written || other.written) && !common.is_empty()
        };
        if let Some(other) = given.iter().find(shared) {
            // First the one that is written.
            let pair = [(argument, &bytes), (other.argument, &other.bytes)];
            let [(first, at), (second, of)] = if written { pair } else { [pair[1], pair[0]] };
            let message = format!(
                "overlaps `{second}`: addresses {at:#x?} and {of:#x?}; what a call writes must share nothing with its other \
                 arguments"
            );
            return Err(self.wrong(first, message));
        }
        given.push(Given { argument, bytes, written });
        Ok(())
    }

    /// Memory of a tensor, read where the pointer is `*const` and written where it is `*mut`.
    ///
    /// # Safety
    /// `pointer` is null or leads to as many elements as `shape` has, which stay as they are until the buffer is dropped and what
    /// was launched with it is done.
    pub(super) unsafe fn optional(
        &self,
        argument: &'static str,
        pointer: impl Pointer,
        elem: Elem,
        shape: &[usize],
    ) -> Result<Option<Buf>> {
        let address = pointer.address();
        if address.is_null() {
            return Ok(None);
        }
        let fail = |message: String| self.wrong(argument, message);
        // No object is larger than half the address space.
        let len = shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side));
        let len = len.filter(|&n| n <= isize::MAX as usize / 4);
        let len = len.ok_or_else(|| fail(format!("shape {shape:?} is beyond any memory")))?;
        // SAFETY: the caller's promise.
        let imported = unsafe {
            match self.place {
                Place::Cpu(cpu) => cpu.import(address, elem, len),
                #[cfg(feature = "cuda")]
                Place::Cuda(cuda) => cuda.import(address as u64, elem, len, ()),
            }
        };
        let buf = imported.map_err(|e| fail(e.to_string()))?;
        self.keep_apart(argument, pointer, len * elem.bytes::<f32>())?;
        Ok(Some(buf))
    }

    /// # Safety
    /// As [`Self::optional`].
    pub(super) unsafe fn buf(
        &self,
        argument: &'static str,
        pointer: impl Pointer,
        elem: Elem,
        shape: &[usize],
    ) -> Result<Buf> {
        // SAFETY: the caller's promise.
        unsafe { self.optional(argument, pointer, elem, shape) }?.ok_or_else(|| null(self.op, argument))
    }
}

/// A context for the CPU on `threads` threads, 0 for as many as there are cores; more than four times the cores, or 64 where
/// that is more, are taken for so many. Calls take host pointers, and are done when they return. The result is the same to the
/// last bit whatever the number of threads.
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
    let context = Box::new(EtudeContext::new(make()?));
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
    entry(|| match unsafe { some("etude_synchronize", "context", context) }?.place()? {
        Place::Cpu(_) => Ok(()),
        #[cfg(feature = "cuda")]
        Place::Cuda(cuda) => cuda.synchronize(),
    })
}
