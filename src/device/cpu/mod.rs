//! The CPU device: each kernel's twin, in f64 as the oracle and in f32 as a device people use.
//!
//! A twin is an ordinary function over slices. Work is cut into pieces whose
//! size depends on the shapes alone, so one thread or many give the same bits.

mod memory;
pub mod real;

use crate::device::{Buf, Device, Host, HostMut, Launch, Plan};
use crate::kernels::simd::Simd;
use crate::kernels::{Access, Elem, Params};
use crate::{Error, Result};
use bytemuck::Pod;
use half::{bf16, f16};
use memory::{Lines, Storage};
pub use real::Real;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};

/// A kernel's two CPU instances.
#[derive(Clone, Copy)]
pub struct CpuTwin {
    /// The fast one.
    pub f32: fn(Args<'_, f32>),
    /// The oracle: plain loops in double precision.
    pub f64: fn(Args<'_, f64>),
}

/// A device of `F`: `Cpu<f32>` to use, `Cpu<f64>` to check with.
pub struct Cpu<F: Real = f32> {
    shared: Arc<Shared>,
    float: std::marker::PhantomData<fn() -> F>,
}

struct Shared {
    work: Work,
    pool: Option<rayon::ThreadPool>,
    /// Held while a plan runs and while host code copies: buffers are shared by clones.
    lock: Mutex<()>,
}

impl<F: Real> Cpu<F> {
    /// A device that runs on `threads` threads; 0 takes every core.
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
            return Err(Error::device("cpu", format!("this processor has no {simd:?}")));
        }
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let pool = match threads {
            1 => None,
            n => Some(
                rayon::ThreadPoolBuilder::new()
                    .num_threads(n)
                    .thread_name(|i| format!("etude-cpu-{i}"))
                    .build()
                    .map_err(|e| Error::device("cpu", format!("cannot start {n} threads: {e}")))?,
            ),
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
        Ok(self.storage(buf)?.range(buf).start)
    }

    /// Takes `len` elements of a caller's memory at `pointer`, without a copy. [`Elem::Real`] is `F` there.
    ///
    /// # Safety
    /// As long as a clone of the buffer lives the memory stays valid, and while the device writes it nobody else uses it, nor writes it
    /// while the device reads.
    ///
    /// # Errors
    /// When the pointer is null, or not aligned to an element.
    pub unsafe fn import(&self, pointer: *mut c_void, elem: Elem, len: usize) -> Result<Buf> {
        let align = match elem {
            Elem::Real => align_of::<F>(),
            Elem::Index => align_of::<u32>(),
            Elem::F16 | Elem::Bf16 => align_of::<u16>(),
        };
        if pointer.is_null() && len > 0 {
            return Err(Error::device("cpu", format!("an imported pointer to {len} elements is null")));
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
            Some(pool) => pool.install(|| f(self.shared.work)),
            None => f(self.shared.work),
        }
    }

    fn storage<'b>(&self, buf: &'b Buf) -> Result<&'b Storage<F>> {
        buf.storage::<Storage<F>>().ok_or_else(|| {
            Error::device(self.name(), "the buffer belongs to another device: copy it through host memory")
        })
    }
}

impl<F: Real> Device for Cpu<F> {
    fn name(&self) -> String {
        "cpu".into()
    }

    fn alloc(&self, elem: Elem, len: usize) -> Result<Buf> {
        let storage = Storage::<F>::new(elem, len).ok_or_else(|| {
            Error::device("cpu", format!("out of memory for a buffer of {len} elements: use a smaller batch"))
        })?;
        Ok(Buf::new(storage, elem, len))
    }

    fn alloc_scratch(&self, _len: usize) -> Result<Buf> {
        self.alloc(Elem::Real, 0)
    }

    fn write(&self, dst: &Buf, src: Host<'_>) -> Result<()> {
        same_len("write", dst.len(), src.len())?;
        let storage = self.storage(dst)?;
        let _held = self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the lock keeps plans and other copies away while the slice lives.
        unsafe {
            match (dst.elem(), src) {
                (Elem::Index, Host::U32(s)) => storage.slice_mut::<u32>(dst).copy_from_slice(s),
                (Elem::Real, Host::F32(s)) => copy(storage.slice_mut(dst), s, |v| F::of(f64::from(v))),
                (Elem::Real, Host::F64(s)) => copy(storage.slice_mut(dst), s, F::of),
                (Elem::F16, Host::F16(s)) => storage.slice_mut::<f16>(dst).copy_from_slice(s),
                (Elem::F16, Host::F32(s)) => copy(storage.slice_mut(dst), s, f16::from_f32),
                (Elem::F16, Host::F64(s)) => copy(storage.slice_mut(dst), s, f16::from_f64),
                (Elem::Bf16, Host::Bf16(s)) => storage.slice_mut::<bf16>(dst).copy_from_slice(s),
                (Elem::Bf16, Host::F32(s)) => copy(storage.slice_mut(dst), s, bf16::from_f32),
                (Elem::Bf16, Host::F64(s)) => copy(storage.slice_mut(dst), s, bf16::from_f64),
                (elem, _) => return Err(elem_mismatch("write", elem)),
            }
        }
        Ok(())
    }

    fn read(&self, src: &Buf, dst: HostMut<'_>) -> Result<()> {
        same_len("read", dst.len(), src.len())?;
        let storage = self.storage(src)?;
        let _held = self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: as in `write`.
        unsafe {
            match (src.elem(), dst) {
                (Elem::Index, HostMut::U32(d)) => d.copy_from_slice(storage.slice(src)),
                (Elem::Real, HostMut::F32(d)) => copy(d, storage.slice::<F>(src), |v| v.get() as f32),
                (Elem::Real, HostMut::F64(d)) => copy(d, storage.slice::<F>(src), Real::get),
                (Elem::F16, HostMut::F16(d)) => d.copy_from_slice(storage.slice(src)),
                (Elem::F16, HostMut::F32(d)) => copy(d, storage.slice(src), f16::to_f32),
                (Elem::F16, HostMut::F64(d)) => copy(d, storage.slice(src), f16::to_f64),
                (Elem::Bf16, HostMut::Bf16(d)) => d.copy_from_slice(storage.slice(src)),
                (Elem::Bf16, HostMut::F32(d)) => copy(d, storage.slice(src), bf16::to_f32),
                (Elem::Bf16, HostMut::F64(d)) => copy(d, storage.slice(src), bf16::to_f64),
                (elem, _) => return Err(elem_mismatch("read", elem)),
            }
        }
        Ok(())
    }

    fn compile(&self, launches: Vec<Launch>) -> Result<Box<dyn Plan>> {
        for launch in &launches {
            launch.check()?;
            launch.check_ranges(|buf| Ok(self.storage(buf)?.range(buf)))?;
        }
        Ok(Box::new(CpuPlan::<F> {
            shared: Arc::clone(&self.shared),
            launches,
            float: std::marker::PhantomData,
        }))
    }
}

fn copy<A: Copy, B>(dst: &mut [B], src: &[A], f: impl Fn(A) -> B) {
    for (d, &s) in dst.iter_mut().zip(src) {
        *d = f(s);
    }
}

fn same_len(op: &'static str, a: usize, b: usize) -> Result<()> {
    if a == b { Ok(()) } else { Err(Error::shape(op, "length", format!("{a} elements against {b}"))) }
}

fn elem_mismatch(op: &'static str, elem: Elem) -> Error {
    Error::shape(
        op,
        "element type",
        format!("the buffer holds {elem:?} elements, the host slice another type"),
    )
}

struct CpuPlan<F: Real> {
    shared: Arc<Shared>,
    launches: Vec<Launch>,
    float: std::marker::PhantomData<fn() -> F>,
}

impl<F: Real> CpuPlan<F> {
    fn each(&self, launches: &[Launch]) {
        let _held = self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let go = || {
            for launch in launches {
                let work = self.shared.work;
                (F::twin(&launch.kernel.cpu))(Args { launch, float: std::marker::PhantomData, work });
            }
        };
        match &self.shared.pool {
            Some(pool) => pool.install(go),
            None => go(),
        }
    }
}

impl<F: Real> Plan for CpuPlan<F> {
    fn run(&mut self) -> Result<()> {
        self.each(&self.launches);
        Ok(())
    }

    fn run_one(&mut self, index: usize) -> Result<()> {
        let launch = self.launches.get(index..=index).ok_or_else(|| {
            Error::device("cpu", format!("the plan has {} launches, asked for {index}", self.launches.len()))
        })?;
        self.each(launch);
        Ok(())
    }
}

/// What a twin receives: its parameters, its buffers and its threads.
pub struct Args<'a, F> {
    launch: &'a Launch,
    float: std::marker::PhantomData<fn() -> F>,
    /// How to spread work over threads.
    pub work: Work,
}

/// One bound buffer: consumed into the slice its row promises.
pub struct Bound<'a, F> {
    buf: &'a Buf,
    access: Access,
    storage: &'a Storage<F>,
}

impl<'a, F: Real> Args<'a, F> {
    /// The launch's parameter struct.
    pub fn params<P: Pod>(&self) -> P {
        self.launch.params.get()
    }

    /// The raw parameters.
    pub fn raw_params(&self) -> &'a Params {
        &self.launch.params
    }

    /// The buffers in binding order; consumes the arguments, so that each is taken once.
    pub fn bufs<const N: usize>(self) -> [Bound<'a, F>; N] {
        assert_eq!(N, self.launch.bufs.len(), "{}: twin and row disagree", self.launch.kernel.name);
        std::array::from_fn(|i| {
            let buf = &self.launch.bufs[i];
            let storage = buf.storage().expect("checked when the plan was compiled");
            Bound { buf, access: self.launch.kernel.bindings[i].access, storage }
        })
    }
}

impl<'a, F: Real> Bound<'a, F> {
    /// The elements of a floating-point input.
    pub fn input(self) -> &'a [F] {
        assert!(self.access == Access::In && self.buf.elem() == Elem::Real);
        // SAFETY: `Launch::check` saw that no written binding overlaps this one; the plan holds the lock.
        unsafe { self.storage.slice(self.buf) }
    }

    /// Lends `f` the elements of a floating-point input in whatever type it is stored, widened where that is 16 bits.
    pub fn widened<R>(self, f: impl FnOnce(&[F]) -> R) -> R {
        assert!(self.access == Access::In);
        let fill: &dyn Fn(&mut [F]) = match self.buf.elem() {
            Elem::F16 => {
                // SAFETY: as in `input`.
                let from: &[f16] = unsafe { self.storage.slice(self.buf) };
                &move |to| copy(to, from, |v| F::of(v.to_f64()))
            }
            Elem::Bf16 => {
                // SAFETY: as in `input`.
                let from: &[bf16] = unsafe { self.storage.slice(self.buf) };
                &move |to| copy(to, from, |v| F::of(v.to_f64()))
            }
            _ => return f(self.input()),
        };
        with_scratch(self.buf.len(), |wide| {
            fill(wide);
            f(wide)
        })
    }

    /// The elements of a `u32` input.
    pub fn index(self) -> &'a [u32] {
        assert!(self.access == Access::In && self.buf.elem() == Elem::Index);
        // SAFETY: as in `input`.
        unsafe { self.storage.slice(self.buf) }
    }

    /// The elements of a `u32` output.
    pub fn index_output(self) -> &'a mut [u32] {
        assert!(self.access != Access::In && self.buf.elem() == Elem::Index);
        // SAFETY: as in `output`.
        unsafe { self.storage.slice_mut(self.buf) }
    }

    /// The elements of a floating-point output, or of one updated in place.
    pub fn output(self) -> &'a mut [F] {
        assert!(self.access != Access::In && self.buf.elem() == Elem::Real);
        // SAFETY: `Launch::check` saw that no other binding overlaps this one, `Args::bufs` hands
        // each out once, and the plan holds the lock.
        unsafe { self.storage.slice_mut(self.buf) }
    }
}

/// Spreads work over the device's threads.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    threads: usize,
    /// The instruction set of the f32 twins.
    pub simd: Simd,
}

impl Work {
    /// Calls `f(i, piece)` for each `len`-element piece of `out`; the last may be shorter.
    pub fn pieces<T: Send>(self, out: &mut [T], len: usize, f: impl Fn(usize, &mut [T]) + Sync + Send) {
        use rayon::prelude::*;
        let len = len.max(1);
        if self.threads == 1 || out.len() <= len {
            out.chunks_mut(len).enumerate().for_each(|(i, piece)| f(i, piece));
        } else {
            out.par_chunks_mut(len).enumerate().for_each(|(i, piece)| f(i, piece));
        }
    }

    /// As [`Work::pieces`] over two outputs cut in step.
    pub fn pieces2<T: Send, U: Send>(
        self,
        (a, a_len): (&mut [T], usize),
        (b, b_len): (&mut [U], usize),
        f: impl Fn(usize, &mut [T], &mut [U]) + Sync + Send,
    ) {
        use rayon::prelude::*;
        let (a_len, b_len) = (a_len.max(1), b_len.max(1));
        if self.threads == 1 || a.len() <= a_len {
            a.chunks_mut(a_len).zip(b.chunks_mut(b_len)).enumerate().for_each(|(i, (a, b))| f(i, a, b));
        } else {
            let pieces = a.par_chunks_mut(a_len).zip(b.par_chunks_mut(b_len));
            pieces.enumerate().for_each(|(i, (a, b))| f(i, a, b));
        }
    }

    /// As [`Work::pieces`] over three outputs cut in step.
    pub fn pieces3<T: Send>(
        self,
        (a, a_len): (&mut [T], usize),
        (b, b_len): (&mut [T], usize),
        (c, c_len): (&mut [T], usize),
        f: impl Fn(usize, &mut [T], &mut [T], &mut [T]) + Sync + Send,
    ) {
        use rayon::prelude::*;
        let (a_len, b_len, c_len) = (a_len.max(1), b_len.max(1), c_len.max(1));
        if self.threads == 1 || a.len() <= a_len {
            let pieces = a.chunks_mut(a_len).zip(b.chunks_mut(b_len)).zip(c.chunks_mut(c_len));
            pieces.enumerate().for_each(|(i, ((a, b), c))| f(i, a, b, c));
        } else {
            let pieces = a.par_chunks_mut(a_len).zip(b.par_chunks_mut(b_len)).zip(c.par_chunks_mut(c_len));
            pieces.enumerate().for_each(|(i, ((a, b), c))| f(i, a, b, c));
        }
    }

    /// Calls `f(i)` for each `i` in `0..n`.
    pub fn each(self, n: usize, f: impl Fn(usize) + Sync + Send) {
        use rayon::prelude::*;
        if self.threads == 1 || n <= 1 {
            (0..n).for_each(f);
        } else {
            (0..n).into_par_iter().with_max_len(1).for_each(f);
        }
    }
}

/// Lends `f` a scratch slice of `len` unspecified elements, 64-byte aligned, kept by the
/// thread from call to call so that a replayed step allocates nothing. Calls may nest.
pub fn with_scratch<T: Pod, R>(len: usize, f: impl FnOnce(&mut [T]) -> R) -> R {
    thread_local!(static SCRATCH: std::cell::RefCell<Vec<Lines>> = const { std::cell::RefCell::new(Vec::new()) });
    // Taken out while in use, so that a nested call, or another piece of work that this thread
    // picks up meanwhile, gets memory of its own.
    let mut lines = SCRATCH.with_borrow_mut(|free| free.pop().unwrap_or_default());
    let result = f(lines.slice_of(len));
    SCRATCH.with_borrow_mut(|free| free.push(lines));
    result
}
