//! The device on a card: its memory, its stream, and what can go wrong with them.

use super::compile::{self, Origin};
use super::plan::{CudaPlan, Functions};
use crate::device::{Buf, Device, Host, HostMut, Launch, Plan, bytes};
use crate::kernels::Elem;
use crate::{Error, Result};
use cudarc::driver::sys::{self, CUdevice_attribute as Attribute, CUresult};
use cudarc::driver::{CudaContext, CudaEvent, CudaStream, DriverError, result};
use std::any::Any;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// What this device calls itself in messages.
pub(super) const NAME: &str = "cuda";

/// The oldest driver, by the CUDA version that it brings.
const OLDEST_DRIVER: (u32, u32) = (12, 0);

/// The oldest cards, by compute capability: the kernels copy to shared memory asynchronously and multiply bf16.
const OLDEST_CARD: (u32, u32) = (8, 0);

/// Bytes of pinned memory that reads go through, a piece at a time.
const STAGING: usize = 1 << 20;

pub(super) fn fault(message: impl Into<String>) -> Error {
    Error::device(NAME, message)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A card, and whether it can be used.
#[derive(Debug, Clone)]
pub struct CardReport {
    /// What [`Cuda::new`] takes; `CUDA_VISIBLE_DEVICES` decides which cards are counted.
    pub ordinal: usize,
    /// Name, as the driver gives it.
    pub name: String,
    /// Compute capability: major, minor.
    pub capability: (u32, u32),
    /// Its memory in bytes.
    pub memory: usize,
    /// Its second-level cache in bytes.
    pub l2: usize,
    /// The newest CUDA version that the driver runs.
    pub driver: (u32, u32),
    /// Where its kernels come from.
    pub origin: Origin,
    /// Why it cannot be used, if so.
    pub unusable: Option<String>,
}

/// Every NVIDIA card that the driver shows.
///
/// # Errors
/// When there is no driver, it is too old or it fails; the text says what to do.
pub fn cards() -> Result<Vec<CardReport>> {
    let driver = driver()?;
    let count = result::device::get_count().map_err(|e| fault(explain("counting cards", e)))?;
    (0..count as usize).map(|ordinal| report(ordinal, driver)).collect()
}

fn report(ordinal: usize, driver: (u32, u32)) -> Result<CardReport> {
    let ask = || {
        let card = result::device::get(ordinal as i32)?;
        // SAFETY: the handle is the driver's own.
        let attribute = |a| unsafe { result::device::get_attribute(card, a) }.map(|v| v as u32);
        let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        // SAFETY: as above.
        let memory = unsafe { result::device::total_mem(card) }?;
        let l2 = attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)? as usize;
        Ok((result::device::get_name(card)?, (major, minor), memory, l2))
    };
    let (name, capability, memory, l2) = ask().map_err(|e| fault(explain("asking for a card", e)))?;
    let unusable = too_old(capability);
    Ok(CardReport {
        ordinal,
        name,
        capability,
        memory,
        l2,
        driver,
        origin: compile::origin(driver),
        unusable,
    })
}

fn too_old(capability: (u32, u32)) -> Option<String> {
    let ((major, minor), (needs, _)) = (capability, OLDEST_CARD);
    (capability < OLDEST_CARD).then(|| {
        format!(
            "compute capability {major}.{minor}, the kernels need {needs}.0 (Ampere) or newer: use --device wgpu or \
             --device cpu"
        )
    })
}

/// Stands in where another crate has cudarc link the driver, which is then there: cudarc has no such function.
#[allow(dead_code, reason = "cudarc's own hides it")]
unsafe fn is_culib_present() -> bool {
    true
}

/// Starts the driver; the CUDA version that it brings.
fn driver() -> Result<(u32, u32)> {
    #[allow(unused_imports, reason = "for is_culib_present, if it is there")]
    use sys::*;
    static PRESENT: OnceLock<bool> = OnceLock::new();
    // Without the library every other call of cudarc's panics.
    // SAFETY: loads and unloads NVIDIA's library, whose initialisers are trusted.
    if !*PRESENT.get_or_init(|| unsafe { is_culib_present() }) {
        return Err(fault(
            "no NVIDIA driver here (libcuda is not found): install it, or use --device wgpu or --device cpu",
        ));
    }
    let mut version = 0;
    // SAFETY: the pointer is valid.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }
        .result()
        .map_err(|e| fault(explain("asking for the driver's version", e)))?;
    let version = (version as u32 / 1000, version as u32 % 1000 / 10);
    check_driver(version)?;
    result::init().map_err(|e| fault(explain("starting the driver", e)))?;
    Ok(version)
}

fn check_driver(version: (u32, u32)) -> Result<()> {
    let ((has, has_minor), (major, minor)) = (version, OLDEST_DRIVER);
    if version < OLDEST_DRIVER {
        return Err(fault(format!(
            "the NVIDIA driver is for CUDA {has}.{has_minor}, {major}.{minor} is the oldest that will do: update the driver, or \
             use --device cpu"
        )));
    }
    Ok(())
}

/// Whether an error leaves the context unusable: whatever is called next fails too.
fn is_sticky(code: CUresult) -> bool {
    use CUresult::*;
    matches!(
        code,
        CUDA_ERROR_ECC_UNCORRECTABLE
            | CUDA_ERROR_NVLINK_UNCORRECTABLE
            | CUDA_ERROR_ILLEGAL_ADDRESS
            | CUDA_ERROR_LAUNCH_TIMEOUT
            | CUDA_ERROR_CONTEXT_IS_DESTROYED
            | CUDA_ERROR_ASSERT
            | CUDA_ERROR_HARDWARE_STACK_ERROR
            | CUDA_ERROR_ILLEGAL_INSTRUCTION
            | CUDA_ERROR_MISALIGNED_ADDRESS
            | CUDA_ERROR_INVALID_ADDRESS_SPACE
            | CUDA_ERROR_INVALID_PC
            | CUDA_ERROR_LAUNCH_FAILED
            | CUDA_ERROR_EXTERNAL_DEVICE
            | CUDA_ERROR_UNKNOWN
    )
}

/// The error's name and what to do about it.
fn explain(what: &str, error: DriverError) -> String {
    use CUresult::*;
    let advice = match error.0 {
        CUDA_ERROR_NO_DEVICE => {
            "the driver sees no NVIDIA GPU: look at CUDA_VISIBLE_DEVICES, or use --device cpu"
        }
        CUDA_ERROR_STUB_LIBRARY => {
            "the libcuda found is the toolkit's stub: take its folder out of LD_LIBRARY_PATH"
        }
        CUDA_ERROR_SYSTEM_DRIVER_MISMATCH | CUDA_ERROR_SYSTEM_NOT_READY => {
            "the driver was updated under a running system, or is not ready: restart the machine"
        }
        CUDA_ERROR_OUT_OF_MEMORY => {
            "out of memory: use a smaller batch, or end what else runs on the card (nvidia-smi lists it)"
        }
        CUDA_ERROR_NO_BINARY_FOR_GPU | CUDA_ERROR_INVALID_IMAGE | CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
            "the kernels were compiled for a newer driver or another card: update the driver, or install an NVRTC of the \
             driver's CUDA version and set ETUDE_NVRTC=1"
        }
        CUDA_ERROR_ECC_UNCORRECTABLE | CUDA_ERROR_NVLINK_UNCORRECTABLE => {
            "the card's memory is faulty: reset the card, and replace it if that happens again"
        }
        CUDA_ERROR_LAUNCH_TIMEOUT => {
            "a kernel ran longer than the system lets a card with a display: use a smaller batch"
        }
        CUDA_ERROR_DEVICE_UNAVAILABLE => {
            "another process has the card for itself: see `nvidia-smi -q -d COMPUTE`"
        }
        code if is_sticky(code) => {
            "a kernel failed: ETUDE_DEBUG=1 names it, compute-sanitizer its line; please report it"
        }
        _ => "see `nvidia-smi`",
    };
    let mut name = std::ptr::null();
    // SAFETY: the pointer to write to is valid. A code the driver does not know leaves it null.
    let _ = unsafe { sys::cuGetErrorName(error.0, &raw mut name) };
    format!("{what}: {} ({advice})", compile::text(name))
}

/// A card of NVIDIA's through the CUDA driver. Clones share it.
///
/// A plan's launches are captured once as a CUDA graph; [`Plan::run`] submits it. Everything happens in the order of one
/// stream: a read waits for all launches before it.
#[derive(Clone)]
pub struct Cuda {
    shared: Arc<Shared>,
}

/// What a device, its buffers and its plans share.
pub(super) struct Shared {
    pub(super) stream: Arc<CudaStream>,
    pub(super) card: CardReport,
    /// Whether memory comes in the stream's order.
    pools: bool,
    /// Most bytes of shared memory of a block, when asked for.
    pub(super) shared_memory: u32,
    pub(super) functions: Mutex<Functions>,
    /// Whether plans are captured as graphs.
    pub(super) graphs: AtomicBool,
    staging: Mutex<Option<Pinned>>,
    /// Why the device is gone, once it is.
    lost: Mutex<Option<String>>,
}

/// A buffer's memory on the card: ours, or a caller's.
pub(super) struct Memory {
    owner: Arc<Shared>,
    pointer: u64,
    /// What is freed with it: our own allocation, or what a caller gave to keep theirs alive.
    keeper: Keeper,
}

enum Keeper {
    Ours,
    Theirs(#[expect(dead_code, reason = "held until the buffer is gone")] Box<dyn Any + Send + Sync>),
}

impl Drop for Memory {
    fn drop(&mut self) {
        // A lost context frees all its memory with itself.
        if matches!(self.keeper, Keeper::Ours) && self.pointer != 0 && self.owner.bind().is_ok() {
            // SAFETY: allocated by `allocate`, in the same way, and freed once.
            let freed = unsafe {
                if self.owner.pools {
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
struct Pinned(*mut c_void);

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
        let stream = self.stream.cu_stream();
        // SAFETY: the context is bound and the stream its own.
        let made = unsafe {
            if self.pools { result::malloc_async(stream, bytes) } else { result::malloc_sync(bytes) }
        };
        memory.pointer = match made {
            Err(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => return Err(self.out_of_memory(bytes)),
            made => self.check("allocating memory", made)?,
        };
        // SAFETY: the memory is ours and has that many bytes.
        let zeroed = unsafe { result::memset_d8_async(memory.pointer, 0, bytes, stream) };
        self.check("zeroing memory", zeroed)?;
        Ok(memory)
    }

    fn out_of_memory(&self, bytes: usize) -> Error {
        let mib = |bytes: usize| bytes.div_ceil(1 << 20);
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
        Ok(memory.pointer + (buf.offset() * bytes::size(buf.elem())) as u64)
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

/// The primary context of a card that can be used.
fn context(ordinal: usize) -> Result<Arc<CudaContext>> {
    let all = cards()?;
    let Some(card) = all.get(ordinal) else {
        let names = all.iter().map(|c| format!("{} {}", c.ordinal, c.name)).collect::<Vec<_>>();
        let names = if names.is_empty() { "none".into() } else { names.join(", ") };
        return Err(fault(format!("no card {ordinal}; there are: {names}")));
    };
    usable(card)?;
    CudaContext::new(ordinal).map_err(|e| fault(format!("{}: {}", card.name, explain("starting", e))))
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
        Ok(Self {
            shared: Arc::new(Shared {
                stream,
                card,
                pools,
                shared_memory,
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

    /// Takes `len` elements of a caller's device memory at address `pointer`, without a copy. `keeper` is dropped with the
    /// last buffer over it.
    ///
    /// # Safety
    /// The memory belongs to this device's context, stays allocated until `keeper` is dropped, and nobody else uses it in
    /// another stream while launches may.
    ///
    /// # Errors
    /// When the address is not the card's, not aligned to an element, or the range is beyond its allocation.
    pub unsafe fn import(
        &self,
        pointer: u64,
        elem: Elem,
        len: usize,
        keeper: impl Any + Send + Sync,
    ) -> Result<Buf> {
        self.shared.bind()?;
        let size_of = bytes::size(elem);
        if !pointer.is_multiple_of(size_of as u64) {
            return Err(fault(format!("an imported address {pointer:#x} is no multiple of {size_of}")));
        }
        if len > 0 {
            let (mut base, mut size) = (0, 0);
            // SAFETY: both pointers are valid; the driver checks the address.
            let found = unsafe { sys::cuMemGetAddressRange_v2(&raw mut base, &raw mut size, pointer) };
            if found != CUresult::CUDA_SUCCESS {
                return Err(fault(format!("address {pointer:#x} is no memory of {}", self.shared.card.name)));
            }
            let left = (base + size as u64).saturating_sub(pointer);
            if len.checked_mul(size_of).is_none_or(|bytes| bytes as u64 > left) {
                return Err(fault(format!(
                    "{len} elements at {pointer:#x}, where {left} bytes are allocated"
                )));
            }
        }
        let keeper = Keeper::Theirs(Box::new(keeper));
        Ok(Buf::new(Memory { owner: Arc::clone(&self.shared), pointer, keeper }, elem, len))
    }

    /// The address of `buf` on the card and its size in bytes; valid while a clone of the buffer lives.
    ///
    /// # Errors
    /// When it is another device's.
    pub fn export(&self, buf: &Buf) -> Result<(u64, usize)> {
        Ok((self.shared.address(buf)?, bytes::size(buf.elem()) * buf.len()))
    }

    /// Bytes of the card's memory that are in use, by anybody.
    ///
    /// # Errors
    /// When the driver does not answer.
    pub fn memory_in_use(&self) -> Result<usize> {
        self.synchronize()?;
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

fn usable(card: &CardReport) -> Result<()> {
    match &card.unusable {
        Some(why) => Err(fault(format!("{} cannot be used: {why}", card.name))),
        None => Ok(()),
    }
}

fn same_len(op: &'static str, a: usize, b: usize) -> Result<()> {
    if a == b { Ok(()) } else { Err(Error::shape(op, "length", format!("{a} elements against {b}"))) }
}

impl Device for Cuda {
    fn name(&self) -> String {
        NAME.into()
    }

    fn alloc(&self, elem: Elem, len: usize) -> Result<Buf> {
        let memory = self.shared.allocate(len.saturating_mul(bytes::size(elem)))?;
        Ok(Buf::new(memory, elem, len))
    }

    fn write(&self, dst: &Buf, src: Host<'_>) -> Result<()> {
        same_len("write", dst.len(), src.len())?;
        let bytes = bytes::encode(dst.elem(), src)?;
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
        bytes::decode(src.elem(), dst, |to| self.read_bytes(src, to))
    }

    fn compile(&self, launches: Vec<Launch>) -> Result<Box<dyn Plan>> {
        let captured = self.shared.graphs.load(Ordering::Relaxed);
        Ok(Box::new(CudaPlan::new(Arc::clone(&self.shared), launches, captured)?))
    }

    fn run_once(&self, launches: Vec<Launch>) -> Result<()> {
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

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(pinned) = lock(&self.staging).take()
            && self.bind().is_ok()
        {
            // SAFETY: allocated by `read_bytes`, freed once; the stream has nothing left that uses it.
            let _ = unsafe { result::free_host(pinned.0) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_cards_that_are_too_old_are_named_with_advice() {
        assert!(check_driver((12, 0)).is_ok() && check_driver((13, 1)).is_ok());
        let text = check_driver((11, 8)).unwrap_err().to_string();
        assert!(text.contains("11.8") && text.contains("12.0") && text.contains("update"), "{text}");
        assert_eq!([(8, 0), (8, 9), (9, 0), (12, 1)].map(too_old), [None, None, None, None]);
        let text = too_old((7, 5)).unwrap();
        assert!(text.contains("7.5") && text.contains("--device cpu"), "{text}");
    }

    #[test]
    fn only_errors_that_kill_the_context_lose_the_device() {
        use CUresult::*;
        for code in [CUDA_ERROR_ILLEGAL_ADDRESS, CUDA_ERROR_LAUNCH_FAILED, CUDA_ERROR_MISALIGNED_ADDRESS] {
            assert!(is_sticky(code), "{code:?}");
        }
        for code in [CUDA_ERROR_OUT_OF_MEMORY, CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_NO_DEVICE] {
            assert!(!is_sticky(code), "{code:?}");
        }
    }
}
