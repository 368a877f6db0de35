//! What a device, its buffers and its plans share: the context, its stream, memory in the order of the stream.

use super::card::{CardReport, OLDEST_DRIVER};
use super::fault::{explain, fault, is_sticky, lock};
use super::pool::Pool;
use crate::device::buf::Buf;
use crate::{Error, Result};
use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{CudaEvent, CudaFunction, CudaModule, CudaStream, DriverError, result};
use std::any::Any;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

/// What a device, its buffers and its plans share.
pub(super) struct Shared {
    /// Where memory comes from in the stream's order, if this card has that. Buffers hold what they are of, so all have been
    /// freed when it goes; first of all, while there is a context.
    pub(super) pool: Option<Pool>,
    pub(super) stream: Arc<CudaStream>,
    pub(super) card: CardReport,
    /// Most bytes of shared memory of a block, when asked for.
    pub(super) shared_memory: u32,
    pub(super) functions: Mutex<Functions>,
    /// Told of the stems that are about to be compiled.
    pub(super) compiling: Mutex<Option<Notice>>,
    /// Whether plans are captured as graphs.
    pub(super) graphs: AtomicBool,
    pub(super) staging: Mutex<Option<Pinned>>,
    /// Why the device is gone, once it is.
    pub(super) lost: Mutex<Option<String>>,
}

pub(super) type Notice = Box<dyn Fn(&[&str]) + Send + Sync>;

/// A buffer's memory on the card: ours, or a caller's.
pub(super) struct Memory {
    pub(super) owner: Arc<Shared>,
    pub(super) pointer: u64,
    /// What is freed with it: our own allocation, or what a caller gave to keep theirs alive.
    pub(super) keeper: Keeper,
}

pub(super) enum Keeper {
    Ours,
    Theirs(#[expect(dead_code, reason = "held until the buffer is gone")] Box<dyn Any + Send + Sync>),
}

impl Drop for Memory {
    fn drop(&mut self) {
        // A lost context frees all its memory with itself.
        if matches!(self.keeper, Keeper::Ours) && self.pointer != 0 && self.owner.bind().is_ok() {
            // SAFETY: allocated by `Shared::reserve`, in the same way, and freed once.
            let freed = unsafe {
                if self.owner.pool.is_some() {
                    result::free_async(self.pointer, self.owner.stream.cu_stream())
                } else {
                    result::free_sync(self.pointer)
                }
            };
            // Nobody to tell but the next call.
            let _ = self.owner.check("freeing memory", freed);
        }
    }
}

impl Memory {
    /// Where it is on the card.
    pub(super) fn pointer(&self) -> u64 {
        self.pointer
    }
}

/// Host memory that the card copies to directly.
pub(super) struct Pinned(pub(super) *mut c_void);

// SAFETY: plain memory, used behind a mutex.
unsafe impl Send for Pinned {}

impl Shared {
    /// Makes the context current on this thread.
    pub(super) fn bind(&self) -> Result<()> {
        if let Some(why) = &*lock(&self.lost) {
            return Err(fault(format!(
                "{} was lost ({why}): its buffers are gone, start the program again from the last saved model",
                self.card.name
            )));
        }
        let context = self.stream.context().cu_ctx();
        let bound = result::ctx::get_current().and_then(|current| match current {
            Some(current) if current == context => Ok(()),
            // SAFETY: the context is alive as long as the stream is.
            _ => unsafe { result::ctx::set_current(context) },
        });
        self.check("entering the context", bound)
    }

    /// An error of the driver's as ours; marks the device as lost when it is.
    pub(super) fn check<T>(&self, what: &str, result: Result<T, DriverError>) -> Result<T> {
        result.map_err(|e| {
            let text = explain(what, e);
            if is_sticky(e.0) {
                lock(&self.lost).get_or_insert_with(|| text.clone());
            }
            fault(format!("{}: {text}", self.card.name))
        })
    }

    /// Waits for everything submitted so far.
    pub(super) fn wait(&self, what: &str) -> Result<()> {
        // SAFETY: the stream is alive, its context bound by the caller.
        self.check(what, unsafe { result::stream::synchronize(self.stream.cu_stream()) })
    }

    /// Zeroed memory.
    pub(super) fn allocate(self: &Arc<Self>, bytes: usize) -> Result<Memory> {
        self.bind()?;
        let mut memory = Memory { owner: Arc::clone(self), pointer: 0, keeper: Keeper::Ours };
        if bytes == 0 {
            return Ok(memory);
        }
        if bytes > self.card.memory {
            return Err(fault(format!(
                "{}: out of memory: {} MiB asked for, the card has {} MiB: use a smaller batch",
                self.card.name,
                mib(bytes),
                mib(self.card.memory)
            )));
        }
        let full = |made: &Result<u64, DriverError>| {
            matches!(made, Err(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY)))
        };
        let mut made = self.reserve(bytes);
        if full(&made) && self.pool.is_some() {
            // What the pool keeps may do in one piece with what else is free.
            self.give_back()?;
            made = self.reserve(bytes);
        }
        if full(&made) {
            return Err(self.out_of_memory(bytes));
        }
        memory.pointer = self.check("allocating memory", made)?;
        let stream = self.stream.cu_stream();
        // SAFETY: the memory is ours and has that many bytes.
        let zeroed = unsafe { result::memset_d8_async(memory.pointer, 0, bytes, stream) };
        self.check("zeroing memory", zeroed)?;
        Ok(memory)
    }

    /// Memory with anything in it; the context is bound.
    fn reserve(&self, bytes: usize) -> Result<u64, DriverError> {
        // SAFETY: the context is bound and the stream its own.
        unsafe {
            match &self.pool {
                Some(pool) => pool.allocate(bytes, self.stream.cu_stream()),
                None => result::malloc_sync(bytes),
            }
        }
    }

    /// Waits, and gives back what the pool keeps; the context is bound.
    pub(super) fn give_back(&self) -> Result<()> {
        self.wait("waiting")?;
        self.pool.as_ref().map_or(Ok(()), |pool| self.check("giving memory back", pool.trim()))
    }

    fn out_of_memory(&self, bytes: usize) -> Error {
        let free = result::mem_get_info().map(|(free, _)| format!("{} MiB free", mib(free)));
        fault(format!(
            "{}: out of memory: {} MiB asked for, {} of {} MiB: use a smaller batch, or end what else runs on the card \
             (nvidia-smi lists it)",
            self.card.name,
            mib(bytes),
            free.unwrap_or_else(|_| "too little free".into()),
            mib(self.card.memory)
        ))
    }

    /// The address of a buffer's first element.
    pub(super) fn address(self: &Arc<Self>, buf: &Buf) -> Result<u64> {
        let memory = buf
            .storage::<Memory>()
            .filter(|m| Arc::ptr_eq(&m.owner, self))
            .ok_or_else(|| fault("the buffer belongs to another device: copy it through host memory"))?;
        Ok(memory.pointer + (buf.offset() * buf.elem().bytes::<f32>()) as u64)
    }

    /// The seconds between two events of the stream, once the later one is reached.
    pub(super) fn elapsed(&self, start: &CudaEvent, end: &CudaEvent) -> Result<f64> {
        self.check("waiting for a launch", end.synchronize())?;
        type Elapsed = unsafe extern "C" fn(*mut f32, sys::CUevent, sys::CUevent) -> CUresult;
        let mut ms = 0f32;
        // cudarc's own asks for a symbol that drivers before CUDA 12.8 lack, and panics.
        let (name, mut function) = (c"cuEventElapsedTime".as_ptr(), std::ptr::null_mut());
        let oldest = (1000 * OLDEST_DRIVER.0 + 10 * OLDEST_DRIVER.1) as i32;
        // SAFETY: the pointers are valid, and the last may be null.
        let asked =
            unsafe { sys::cuGetProcAddress_v2(name, &raw mut function, oldest, 0, std::ptr::null_mut()) };
        self.check("asking for the clock", asked.result())?;
        // SAFETY: null or a function of this type, by cuda.h of that version; both events are alive and have been reached.
        let code = unsafe {
            let function = std::mem::transmute::<*mut c_void, Option<Elapsed>>(function);
            let function = function.ok_or_else(|| fault("the driver has no clock"))?;
            function(&raw mut ms, start.cu_event(), end.cu_event())
        };
        self.check("reading the clock", code.result())?;
        Ok(f64::from(ms) * 1e-3)
    }
}

fn mib(bytes: usize) -> usize {
    bytes.div_ceil(1 << 20)
}

/// What a device has loaded so far.
#[derive(Default)]
pub(super) struct Functions {
    /// By stem.
    pub(super) modules: HashMap<&'static str, Arc<CudaModule>>,
    /// By entry point.
    pub(super) functions: HashMap<&'static str, Loaded>,
}

/// A loaded function, and what the driver says of it.
pub(super) struct Loaded {
    pub(super) function: CudaFunction,
    /// Most threads of a block.
    pub(super) threads: u32,
    /// Bytes of static shared memory.
    pub(super) fixed: u32,
    /// Whether it may have all the dynamic shared memory that there is.
    pub(super) opened: bool,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Bound for the pool too, which goes next.
        let bound = self.bind().is_ok();
        if let Some(pinned) = lock(&self.staging).take()
            && bound
        {
            // SAFETY: allocated by `read_bytes`, freed once; the stream has nothing left that uses it.
            let _ = unsafe { result::free_host(pinned.0) };
        }
    }
}
