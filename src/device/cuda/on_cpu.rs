//! The CUDA sources on a CPU: slow, and hard on mistakes that a GPU may hide. For tests.
//!
//! `kernels/on_cpu/cuda_on_cpu.h` says what runs how and what it can and cannot show.

use super::launch::Ready;
use crate::device::buf::Buf;
use crate::device::cpu::Cpu;
use crate::device::host::{Host, HostMut};
use crate::device::interface::{Device, Plan};
use crate::device::launch::Launch;
use crate::kernel::{Elem, Scratch};
use crate::{Error, Result};
use std::ffi::{CStr, CString, OsString, c_char, c_int, c_void};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

const NAME: &str = "cuda-on-cpu";

/// The environment variable with the seed that shuffles lanes, warps and blocks; 0, the default, is their natural order.
pub const LANE_SEED_VARIABLE: &str = "ETUDE_LANE_SEED";

/// The environment variable with the path of a shared library that has entry points of its own: C++ of [`SOURCES_DIR`], changed,
/// with `kernels/on_cpu/runtime.cpp` and a registry. They run in place of those of the same names here.
pub const LIBRARY_VARIABLE: &str = "ETUDE_ON_CPU_LIBRARY";

/// Where the build left the C++ that it made of the CUDA sources.
pub const SOURCES_DIR: &str = env!("ETUDE_ON_CPU_SOURCES");

type LaunchEntry = unsafe extern "C" fn(
    name: *const c_char,
    grid: *const u32,
    threads: u32,
    shared: u32,
    arguments: *mut *mut c_void,
    sizes: *const u32,
    count: u32,
    chosen: *const u64,
    chosen_count: u64,
    seed: u64,
    message: *mut c_char,
    capacity: usize,
) -> c_int;
type HasEntry = unsafe extern "C" fn(name: *const c_char) -> c_int;

unsafe extern "C" {
    fn etude_on_cpu_launch(
        name: *const c_char,
        grid: *const u32,
        threads: u32,
        shared: u32,
        arguments: *mut *mut c_void,
        sizes: *const u32,
        count: u32,
        chosen: *const u64,
        chosen_count: u64,
        seed: u64,
        message: *mut c_char,
        capacity: usize,
    ) -> c_int;
}

/// What the library of [`LIBRARY_VARIABLE`] brings.
#[derive(Clone, Copy)]
struct Loaded {
    launch: LaunchEntry,
    has: HasEntry,
}

/// That library, loaded once and for good, or why it cannot be.
static LOADED: LazyLock<std::result::Result<Option<Loaded>, String>> = LazyLock::new(|| {
    let Some(path) = std::env::var_os(LIBRARY_VARIABLE) else { return Ok(None) };
    load(&path).map(Some).map_err(|e| format!("{LIBRARY_VARIABLE}={}: {e}", path.display()))
});

fn load(path: &OsString) -> std::result::Result<Loaded, libloading::Error> {
    // SAFETY: the caller vouches for what it names; it was made of the C++ of `SOURCES_DIR`, whose initialisers are constants.
    let library = unsafe { libloading::Library::new(path) }?;
    // SAFETY: `kernels/on_cpu/runtime.cpp` defines both so.
    let loaded = unsafe {
        Loaded { launch: *library.get(b"etude_on_cpu_launch\0")?, has: *library.get(b"etude_on_cpu_has\0")? }
    };
    std::mem::forget(library);
    Ok(loaded)
}

/// What runs the entry point of that name: the loaded library where it has it.
fn launcher(entry: &CStr) -> LaunchEntry {
    match *LOADED {
        // SAFETY: a text that ends with a 0, which is only compared.
        Ok(Some(loaded)) if unsafe { (loaded.has)(entry.as_ptr()) } != 0 => loaded.launch,
        _ => etude_on_cpu_launch,
    }
}

/// Runs each row's CUDA source as its `cuda` says, f32, one block after another, on the calling thread.
///
/// A barrier that not all threads of a block reach, a row that disagrees with its source about arguments, and a ticket
/// that is not 0 after a run are errors.
pub struct CudaOnCpu {
    /// Owns the memory.
    host: Arc<Cpu<f32>>,
    seed: u64,
    /// Held while a plan runs.
    running: Arc<Mutex<()>>,
}

impl CudaOnCpu {
    /// A device whose seed is that of [`LANE_SEED_VARIABLE`].
    ///
    /// # Errors
    /// When the variable holds no number.
    pub fn new() -> Result<Self> {
        let seed = match std::env::var(LANE_SEED_VARIABLE) {
            Err(_) => 0,
            Ok(text) => text.trim().parse().map_err(|_| {
                Error::config(format!("{LANE_SEED_VARIABLE}={text}: set it to a whole number, or not at all"))
            })?,
        };
        Self::with_seed(seed)
    }

    /// A device that shuffles lanes, warps and blocks by `seed`; 0 leaves their natural order.
    ///
    /// # Errors
    /// As [`Cpu::new`], and when the library of [`LIBRARY_VARIABLE`] cannot be loaded.
    pub fn with_seed(seed: u64) -> Result<Self> {
        if let Err(e) = &*LOADED {
            return Err(Error::config(e.clone()));
        }
        Ok(Self { host: Arc::new(Cpu::new(1)?), seed, running: Arc::default() })
    }

    /// Where a buffer lies in memory: what its kernels are given.
    ///
    /// # Errors
    /// When it is another device's.
    pub fn address(&self, buf: &Buf) -> Result<usize> {
        self.host.address(buf)
    }

    /// Takes `len` elements of a caller's memory at `pointer`, without a copy.
    ///
    /// # Safety
    /// As [`Cpu::import`].
    ///
    /// # Errors
    /// As [`Cpu::import`].
    pub unsafe fn import(&self, pointer: *mut c_void, elem: Elem, len: usize) -> Result<Buf> {
        // SAFETY: the caller's promise.
        unsafe { self.host.import(pointer, elem, len) }
    }

    /// Runs the blocks of these numbers, x fastest, of a launch that would take too long as a whole. Tickets are 0 before, and
    /// may be anything afterwards.
    ///
    /// # Errors
    /// As [`Device::compile`] and [`Plan::run`].
    pub fn run_blocks(&self, launch: Launch, blocks: &[u64]) -> Result<()> {
        let mut plan = self.plan(vec![launch])?;
        let _held = self.lock();
        plan.launch(0, Some(blocks))
    }

    fn plan(&self, launches: Vec<Launch>) -> Result<OnCpuPlan> {
        let mut tickets: Vec<Box<[u32]>> = Vec::with_capacity(launches.len());
        let mut ready = Vec::with_capacity(launches.len());
        for launch in &launches {
            let mut drawn = Box::default();
            let address = |buf: &Buf| Ok(self.address(buf)? as u64);
            ready.push(Ready::new(NAME, launch, address, |n| {
                drawn = vec![0u32; n as usize].into_boxed_slice();
                drawn.as_mut_ptr() as u64
            })?);
            tickets.push(drawn);
        }
        let _bufs = launches.into_iter().flat_map(|l| l.bufs).collect();
        Ok(OnCpuPlan { ready, tickets, seed: self.seed, running: Arc::clone(&self.running), _bufs })
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device for CudaOnCpu {
    fn name(&self) -> String {
        NAME.into()
    }

    fn alloc(&self, elem: Elem, len: usize) -> Result<Buf> {
        self.host.alloc(elem, len)
    }

    fn scratch(&self, need: Scratch) -> usize {
        need.cuda
    }

    fn write(&self, dst: &Buf, src: Host<'_>) -> Result<()> {
        let _held = self.lock();
        self.host.write(dst, src)
    }

    fn read(&self, src: &Buf, dst: HostMut<'_>) -> Result<()> {
        let _held = self.lock();
        self.host.read(src, dst)
    }

    fn compile(&self, launches: Vec<Launch>) -> Result<Box<dyn Plan>> {
        Ok(Box::new(self.plan(launches)?))
    }
}

struct OnCpuPlan {
    ready: Vec<Ready>,
    /// The tickets of each launch, 0 but while it runs.
    tickets: Vec<Box<[u32]>>,
    seed: u64,
    running: Arc<Mutex<()>>,
    /// Keeps the addresses alive.
    _bufs: Vec<Buf>,
}

impl OnCpuPlan {
    /// Runs a launch, or `chosen` blocks of it.
    fn launch(&mut self, index: usize, chosen: Option<&[u64]>) -> Result<()> {
        let launch = &self.ready[index];
        let name = launch.kernel.name;
        let Some(grid) = launch.grid else { return Ok(()) };
        let (mut places, sizes): (Vec<_>, Vec<_>) = launch.arguments().unzip();
        let entry = CString::new(name).map_err(|e| Error::device(NAME, format!("{name}: {e}")))?;
        let mut message = vec![0u8; 4096];
        // SAFETY: the callee checks the arguments' count and sizes against the entry point before it reads them; addresses are
        // those of buffers that the plan keeps, which nobody else touches while `running` is held, and a kernel stays within them
        // or is at fault. The message is cut to its capacity and ends with a 0.
        let failed = unsafe {
            launcher(&entry)(
                entry.as_ptr(),
                grid.as_ptr(),
                launch.block,
                launch.shared,
                places.as_mut_ptr(),
                sizes.as_ptr(),
                sizes.len() as u32,
                chosen.map_or(std::ptr::null(), <[u64]>::as_ptr),
                chosen.map_or(0, <[u64]>::len) as u64,
                self.seed,
                message.as_mut_ptr().cast(),
                message.len(),
            )
        };
        let mut kept = None;
        for ticket in &mut self.tickets[index] {
            // SAFETY: a live element; read afresh because the kernel wrote it through its address.
            let drawn = unsafe { std::ptr::read_volatile(&raw const *ticket) };
            if drawn != 0 {
                *ticket = 0;
                kept = kept.or(Some(drawn));
            }
        }
        if failed != 0 {
            let end = message.iter().position(|b| *b == 0).unwrap_or(message.len());
            return Err(Error::device(NAME, String::from_utf8_lossy(&message[..end])));
        }
        if let Some(drawn) = kept.filter(|_| chosen.is_none()) {
            return Err(Error::device(
                NAME,
                format!("{name}: a ticket drawn {drawn} times and not given back"),
            ));
        }
        Ok(())
    }
}

impl Plan for OnCpuPlan {
    fn run(&mut self) -> Result<()> {
        let running = Arc::clone(&self.running);
        let _held = running.lock().unwrap_or_else(PoisonError::into_inner);
        (0..self.ready.len()).try_for_each(|i| self.launch(i, None))
    }

    fn run_one(&mut self, index: usize) -> Result<()> {
        let running = Arc::clone(&self.running);
        let _held = running.lock().unwrap_or_else(PoisonError::into_inner);
        if index >= self.ready.len() {
            let message = format!("the plan has {} launches, asked for {index}", self.ready.len());
            return Err(Error::device(NAME, message));
        }
        self.launch(index, None)
    }
}
