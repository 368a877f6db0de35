//! The device on a card.

use super::card::{CardReport, context, driver, report, usable};
use super::fault::{NAME, explain, fault, lock};
use super::plan::CudaPlan;
use super::pool::Pool;
use super::shared::{Keeper, Memory, Pinned, Shared};
use crate::Result;
use crate::device::buf::Buf;
use crate::device::host::{Host, HostMut, decode, encode, same_len};
use crate::device::interface::{Device, Plan};
use crate::device::launch::Launch;
use crate::kernel::{Elem, Scratch};
use cudarc::driver::sys::CUdevice_attribute as Attribute;
use cudarc::driver::{CudaStream, result};
use std::any::Any;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Bytes of pinned memory that reads go through, a piece at a time.
const STAGING: usize = 1 << 20;

/// A card of NVIDIA's through the CUDA driver. Clones share it.
///
/// A plan's launches are captured once as a CUDA graph; [`Plan::run`] submits it. Everything happens in the order of one
/// stream: a read waits for all launches before it.
#[derive(Clone)]
pub struct Cuda {
    shared: Arc<Shared>,
}

impl Cuda {
    /// The card `ordinal`, with a stream of its own. `CUDA_VISIBLE_DEVICES` decides which cards are counted.
    ///
    /// # Errors
    /// When there is no driver or no such card, or it cannot be used; the text says why and what to do.
    pub fn new(ordinal: usize) -> Result<Self> {
        let context = context(ordinal)?;
        let fail = |e| fault(format!("card {ordinal}: {}", explain("starting", e)));
        // Else cudarc waits for all of the context before its first stream, which ends the captures of every other thread.
        // SAFETY: nothing here lets cudarc order streams by its events, and the handle of the context is this device's own.
        unsafe { context.disable_event_tracking() };
        Self::from_parts(context.new_stream().map_err(fail)?)
    }

    /// As [`Self::new`], on a raw `CUstream` of the card's primary context, the one that the CUDA runtime uses; null is the
    /// default stream.
    ///
    /// # Safety
    /// The stream lives as long as the device and its buffers.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub unsafe fn on_stream(ordinal: usize, stream: *mut c_void) -> Result<Self> {
        let context = context(ordinal)?;
        // SAFETY: the caller's promise; a borrowed stream is not destroyed.
        Self::from_parts(unsafe { context.wrap_borrowed_stream(stream.cast()) })
    }

    /// A device on a caller's stream (and the stream's context), to work inside another framework: launches and copies go
    /// to that stream, in order with the caller's own.
    ///
    /// [`cudarc::driver::CudaContext::wrap_borrowed_stream`] makes such a stream from a raw one.
    ///
    /// # Errors
    /// When the card cannot be used.
    pub fn from_parts(stream: Arc<CudaStream>) -> Result<Self> {
        let context = stream.context();
        let card = report(context.ordinal(), driver()?)?;
        usable(&card)?;
        let fail = |e| fault(format!("{}: {}", card.name, explain("starting", e)));
        context.bind_to_thread().map_err(fail)?;
        let attribute = |a| context.attribute(a).map_err(fail);
        let shared_memory =
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)? as u32;
        let pools = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED)? != 0;
        let pool = pools.then(|| Pool::new(context.cu_device())).transpose().map_err(fail)?;
        Ok(Self {
            shared: Arc::new(Shared {
                pool,
                stream,
                card,
                shared_memory,
                compiling: Mutex::default(),
                functions: Mutex::default(),
                graphs: AtomicBool::new(true),
                staging: Mutex::default(),
                lost: Mutex::default(),
            }),
        })
    }

    /// What is known about the card, and where its kernels come from.
    pub fn card(&self) -> &CardReport {
        &self.shared.card
    }

    /// The stream that everything is submitted to.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.shared.stream
    }

    /// Whether plans compiled from now on are captured as graphs; they are unless told otherwise. Without, a run submits
    /// launch after launch: to measure what graphs gain, and for tools that do not see into them.
    pub fn use_graphs(&self, yes: bool) {
        self.shared.graphs.store(yes, Ordering::Relaxed);
    }

    /// Has `tell` called with the stems that NVRTC is about to compile, each time it is, on the thread that waits for it: the
    /// largest take ten to twenty seconds of a core, and nothing else shows. It must not use the device, which waits for it too.
    /// Replaces what was set before.
    pub fn on_compile(&self, tell: impl Fn(&[&str]) + Send + Sync + 'static) {
        *lock(&self.shared.compiling) = Some(Box::new(tell));
    }

    /// Takes `len` elements of a caller's device memory at address `pointer`, without a copy. `keeper` is dropped with the
    /// last buffer over it.
    ///
    /// # Safety
    /// The memory belongs to this device's context, stays allocated until `keeper` is dropped, and nobody else uses it in
    /// another stream while launches may.
    ///
    /// # Errors
    /// When the memory is another card's or the host's, not aligned to an element, or not allocated to its end. Where the driver
    /// does not know the end, as of other pools, the caller's word is taken.
    pub unsafe fn import(
        &self,
        pointer: u64,
        elem: Elem,
        len: usize,
        keeper: impl Any + Send + Sync,
    ) -> Result<Buf> {
        self.shared.bind()?;
        let size_of = elem.bytes::<f32>();
        if !pointer.is_multiple_of(size_of as u64) {
            return Err(fault(format!("an imported address {pointer:#x} is no multiple of {size_of}")));
        }
        let bytes = len.checked_mul(size_of).ok_or_else(|| {
            fault(format!("{len} elements at {pointer:#x}, where so many bytes cannot be allocated"))
        })?;
        self.shared.check_import(pointer, bytes as u64)?;
        let keeper = Keeper::Theirs(Box::new(keeper));
        Ok(Buf::new(Memory { owner: Arc::clone(&self.shared), pointer, keeper }, elem, len))
    }

    /// The address of `buf` on the card and its size in bytes; valid while a clone of the buffer lives.
    ///
    /// # Errors
    /// When it is another device's.
    pub fn export(&self, buf: &Buf) -> Result<(u64, usize)> {
        Ok((self.shared.address(buf)?, buf.elem().bytes::<f32>() * buf.len()))
    }

    /// Bytes of the card's memory that are in use, by anybody. What this device keeps for its next buffers is given back first.
    ///
    /// # Errors
    /// When the driver does not answer.
    pub fn memory_in_use(&self) -> Result<usize> {
        self.shared.bind()?;
        self.shared.give_back()?;
        let info = result::mem_get_info();
        self.shared.check("asking for free memory", info).map(|(free, total)| total.saturating_sub(free))
    }

    /// Waits until everything submitted is done.
    ///
    /// # Errors
    /// When a launch failed.
    pub fn synchronize(&self) -> Result<()> {
        self.shared.bind()?;
        self.shared.wait("waiting")
    }
}

impl Device for Cuda {
    fn name(&self) -> String {
        NAME.into()
    }

    fn alloc(&self, elem: Elem, len: usize) -> Result<Buf> {
        let memory = self.shared.allocate(len.saturating_mul(elem.bytes::<f32>()))?;
        Ok(Buf::new(memory, elem, len))
    }

    fn scratch(&self, need: Scratch) -> usize {
        need.cuda
    }

    fn write(&self, dst: &Buf, src: Host<'_>) -> Result<()> {
        same_len("write", src.len(), dst.len())?;
        let bytes = encode::<f32>(dst.elem(), src)?;
        let address = self.shared.address(dst)?;
        self.shared.bind()?;
        if bytes.is_empty() {
            return Ok(());
        }
        let stream = self.shared.stream.cu_stream();
        // SAFETY: the buffer has as many bytes. From memory that is not pinned, the driver has taken its copy on return.
        self.shared.check("write", unsafe { result::memcpy_htod_async(address, &bytes, stream) })
    }

    fn read(&self, src: &Buf, dst: HostMut<'_>) -> Result<()> {
        same_len("read", dst.len(), src.len())?;
        decode::<f32>(src.elem(), dst, |to| self.read_bytes(src, to))
    }

    fn compile(&self, launches: Vec<Launch>) -> Result<Box<dyn Plan>> {
        let captured = self.shared.graphs.load(Ordering::Relaxed);
        Ok(Box::new(CudaPlan::new(Arc::clone(&self.shared), launches, captured)?))
    }

    fn run_once(&self, launches: Vec<Launch>) -> Result<()> {
        // Tickets are allocated anew, which the pool makes cheap: kept ones would be shared with the graph of a caller who
        // captures this stream, and runs it where they like.
        CudaPlan::new(Arc::clone(&self.shared), launches, false)?.run()
    }
}

impl Cuda {
    fn read_bytes(&self, src: &Buf, dst: &mut [u8]) -> Result<()> {
        let shared = &self.shared;
        let mut address = shared.address(src)?;
        shared.bind()?;
        let mut staging = lock(&shared.staging);
        let pinned = match &mut *staging {
            Some(pinned) => pinned.0,
            empty => {
                // SAFETY: the context is bound.
                let made = unsafe { result::malloc_host(STAGING, 0) };
                empty.insert(Pinned(shared.check("allocating pinned memory", made)?)).0
            }
        };
        for piece in dst.chunks_mut(STAGING) {
            // SAFETY: the pinned memory has STAGING bytes, the buffer as many from `address` on, and the slice over the
            // former is only used after the copy is done.
            unsafe {
                let through = std::slice::from_raw_parts_mut(pinned.cast::<u8>(), piece.len());
                let stream = shared.stream.cu_stream();
                shared.check("read", result::memcpy_dtoh_async(through, address, stream))?;
                shared.wait("read")?;
                piece.copy_from_slice(through);
            }
            address += piece.len() as u64;
        }
        Ok(())
    }
}
