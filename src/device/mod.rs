//! Devices: where buffers live and lists of launches run.
//!
//! A device knows kernels as named launches; it never sees an op, a shape or a
//! gradient, and does not grow when an op is added.

#[cfg(feature = "cuda")]
mod bytes;
pub mod cpu;
#[cfg(any(feature = "cuda", feature = "cuda-on-cpu"))]
pub mod cuda;
#[cfg(feature = "wgpu")]
pub mod wgpu;

use crate::kernels::{Access, Elem, Kernel, Params};
use crate::{Error, Result};
use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

#[cfg(feature = "cuda")]
pub use self::cuda::Cuda;
#[cfg(feature = "wgpu")]
pub use self::wgpu::Wgpu;
pub use cpu::Cpu;

/// A device buffer, or a window into one; cloning shares the memory, which is
/// freed with the last clone.
#[derive(Clone)]
pub struct Buf {
    storage: Arc<dyn Any + Send + Sync>,
    elem: Elem,
    offset: usize,
    len: usize,
}

impl std::fmt::Debug for Buf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buf({:?}[{}..{}])", self.elem, self.offset, self.offset + self.len)
    }
}

impl Buf {
    /// Wraps a device's own storage of `len` elements.
    pub(crate) fn new<S: Any + Send + Sync>(storage: S, elem: Elem, len: usize) -> Self {
        Self { storage: Arc::new(storage), elem, offset: 0, len }
    }

    /// The device's storage, if it is of type `S`.
    pub(crate) fn storage<S: Any>(&self) -> Option<&S> {
        self.storage.downcast_ref()
    }

    /// First element of the window, counted in elements from the start of the storage.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// Element type.
    pub fn elem(&self) -> Elem {
        self.elem
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Elements `offset..offset + len` of this buffer, sharing its memory.
    ///
    /// # Errors
    /// When the window reaches beyond the buffer.
    pub fn window(&self, offset: usize, len: usize) -> Result<Self> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(Self { offset: self.offset + offset, len, ..self.clone() }),
            _ => Err(Error::shape(
                "window",
                "offset",
                format!("elements {offset}..{offset}+{len} of a buffer of {}", self.len),
            )),
        }
    }

    /// Whether the two share an element.
    pub fn overlaps(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.storage, &other.storage)
            && self.offset < other.offset + other.len
            && other.offset < self.offset + self.len
    }
}

/// Host memory to copy from. Floats of either precision are rounded to what the buffer stores; the 16-bit ones go into buffers
/// of their own type alone.
#[derive(Debug, Clone, Copy)]
pub enum Host<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Double precision.
    F64(&'a [f64]),
    /// Indices.
    U32(&'a [u32]),
    /// Half precision.
    F16(&'a [half::f16]),
    /// The upper halves of f32.
    Bf16(&'a [half::bf16]),
}

/// Host memory to copy into: as [`Host`], the other way.
#[derive(Debug)]
pub enum HostMut<'a> {
    /// Single precision.
    F32(&'a mut [f32]),
    /// Double precision.
    F64(&'a mut [f64]),
    /// Indices.
    U32(&'a mut [u32]),
    /// Half precision.
    F16(&'a mut [half::f16]),
    /// The upper halves of f32.
    Bf16(&'a mut [half::bf16]),
}

macro_rules! host_from {
    ($($variant:ident $t:ty),*) => {$(
        impl<'a> From<&'a [$t]> for Host<'a> { fn from(s: &'a [$t]) -> Self { Self::$variant(s) } }
        impl<'a> From<&'a Vec<$t>> for Host<'a> { fn from(s: &'a Vec<$t>) -> Self { Self::$variant(s) } }
        impl<'a, const N: usize> From<&'a [$t; N]> for Host<'a> { fn from(s: &'a [$t; N]) -> Self { Self::$variant(s) } }
        impl<'a> From<&'a mut [$t]> for HostMut<'a> { fn from(s: &'a mut [$t]) -> Self { Self::$variant(s) } }
        impl<'a> From<&'a mut Vec<$t>> for HostMut<'a> { fn from(s: &'a mut Vec<$t>) -> Self { Self::$variant(s) } }
    )*};
}
host_from!(F32 f32, F64 f64, U32 u32, F16 half::f16, Bf16 half::bf16);

impl Host<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(s) => s.len(),
            Self::F64(s) => s.len(),
            Self::U32(s) => s.len(),
            Self::F16(s) => s.len(),
            Self::Bf16(s) => s.len(),
        }
    }

    /// The elements of a buffer that holds it.
    pub fn elem(&self) -> Elem {
        match self {
            Self::F32(_) | Self::F64(_) => Elem::Real,
            Self::U32(_) => Elem::Index,
            Self::F16(_) => Elem::F16,
            Self::Bf16(_) => Elem::Bf16,
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl HostMut<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(s) => s.len(),
            Self::F64(s) => s.len(),
            Self::U32(s) => s.len(),
            Self::F16(s) => s.len(),
            Self::Bf16(s) => s.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One kernel over bound buffers.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The registry row.
    pub kernel: &'static Kernel,
    /// One buffer per binding, in order.
    pub bufs: Vec<Buf>,
    /// The scalars.
    pub params: Params,
}

impl Launch {
    /// Checks what every device relies on: the row's count and element types, and that
    /// nothing a launch writes overlaps anything else it touches.
    pub(crate) fn check(&self) -> Result<()> {
        let rows = self.kernel.bindings;
        let fault = |message: String| Err(Error::shape(self.kernel.name, "bindings", message));
        if rows.len() != self.bufs.len() {
            return fault(format!("takes {} buffers, was given {}", rows.len(), self.bufs.len()));
        }
        for (i, (row, buf)) in rows.iter().zip(&self.bufs).enumerate() {
            if row.elem != buf.elem() {
                return fault(format!(
                    "`{}` takes {:?} elements, was given {:?}",
                    row.name,
                    row.elem,
                    buf.elem()
                ));
            }
            if row.access != Access::In {
                for (j, other) in self.bufs.iter().enumerate() {
                    if i != j && buf.overlaps(other) {
                        return fault(format!("written `{}` overlaps `{}`", row.name, rows[j].name));
                    }
                }
            }
        }
        Ok(())
    }

    /// [`Self::check`] sees windows of one buffer; two imports of the same memory meet only here, by where they lie.
    pub(crate) fn check_ranges<N: PartialOrd>(&self, range: impl Fn(&Buf) -> Result<Range<N>>) -> Result<()> {
        let rows = self.kernel.bindings;
        let ranges = self.bufs.iter().map(range).collect::<Result<Vec<_>>>()?;
        for (i, row) in rows.iter().enumerate().filter(|(_, row)| row.access != Access::In) {
            for (j, other) in rows.iter().enumerate() {
                let (a, b) = (&ranges[i], &ranges[j]);
                if i != j && a.start < b.end && b.start < a.end {
                    let message = format!("overlaps `{}`, which the launch writes", row.name);
                    return Err(Error::shape(self.kernel.name, other.name, message));
                }
            }
        }
        Ok(())
    }
}

/// What a device has been asked for so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Kernels started; a launch may take several.
    pub dispatches: u64,
    /// Lists of commands handed to the driver.
    pub submissions: u64,
    /// Copies from host memory.
    pub writes: u64,
    /// Copies to host memory, each of which waits.
    pub reads: u64,
}

impl Traffic {
    /// What came after `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            dispatches: self.dispatches - before.dispatches,
            submissions: self.submissions - before.submissions,
            writes: self.writes - before.writes,
            reads: self.reads - before.reads,
        }
    }
}

/// Where buffers live and launches run.
pub trait Device: Send + Sync {
    /// Name as `--device` takes it and messages show it: `cpu`, `cuda`, `wgpu`.
    fn name(&self) -> String;

    /// A zeroed buffer.
    ///
    /// # Errors
    /// When the memory cannot be had.
    fn alloc(&self, elem: Elem, len: usize) -> Result<Buf>;

    /// Memory for a binding that is [scratch](crate::kernels::Access::Scratch). A device whose kernels use none gives none: its
    /// buffer is empty.
    ///
    /// # Errors
    /// As [`Self::alloc`].
    fn alloc_scratch(&self, len: usize) -> Result<Buf> {
        self.alloc(Elem::Real, len)
    }

    /// Copies host memory into a whole buffer.
    ///
    /// # Errors
    /// When lengths or element types differ, or the buffer is another device's.
    fn write(&self, dst: &Buf, src: Host<'_>) -> Result<()>;

    /// Copies a whole buffer into host memory, after all launches before it.
    ///
    /// # Errors
    /// As [`Device::write`].
    fn read(&self, src: &Buf, dst: HostMut<'_>) -> Result<()>;

    /// Prepares a list of launches to be run again and again as one submission.
    ///
    /// # Errors
    /// When a launch breaks its kernel's row, or the device cannot build it.
    fn compile(&self, launches: Vec<Launch>) -> Result<Box<dyn Plan>>;

    /// Runs launches that nobody will want again, and waits no longer than [`Plan::run`] does.
    ///
    /// # Errors
    /// As [`Device::compile`] and [`Plan::run`].
    fn run_once(&self, launches: Vec<Launch>) -> Result<()> {
        self.compile(launches)?.run()
    }

    /// What it has been asked for since it was made; nothing where there is no such traffic to count.
    fn traffic(&self) -> Option<Traffic> {
        None
    }
}

/// A compiled list of launches.
pub trait Plan: Send {
    /// Runs every launch in order, as one submission.
    ///
    /// # Errors
    /// When the device fails.
    fn run(&mut self) -> Result<()>;

    /// Runs launch `index` alone and waits for it: for debugging and profiles.
    ///
    /// # Errors
    /// When the device fails or there is no such launch.
    fn run_one(&mut self, index: usize) -> Result<()>;

    /// As [`Plan::run_one`], and how many seconds it took: by the device's clock where it has one, else by
    /// the host's, which counts submission and waiting too.
    ///
    /// # Errors
    /// As [`Plan::run_one`].
    fn time_one(&mut self, index: usize) -> Result<f64> {
        let start = std::time::Instant::now();
        self.run_one(index)?;
        Ok(start.elapsed().as_secs_f64())
    }
}

impl dyn Device + '_ {
    /// A new buffer holding `src`.
    ///
    /// # Errors
    /// As [`Device::alloc`].
    pub fn upload<'a>(&self, src: impl Into<Host<'a>>) -> Result<Buf> {
        let src = src.into();
        let buf = self.alloc(src.elem(), src.len())?;
        self.write(&buf, src)?;
        Ok(buf)
    }

    /// A buffer's contents as f32.
    ///
    /// # Errors
    /// As [`Device::read`].
    pub fn download(&self, buf: &Buf) -> Result<Vec<f32>> {
        let mut out = vec![0f32; buf.len()];
        self.read(buf, HostMut::F32(&mut out))?;
        Ok(out)
    }

    /// A buffer's contents as f64.
    ///
    /// # Errors
    /// As [`Device::read`].
    pub fn download_f64(&self, buf: &Buf) -> Result<Vec<f64>> {
        let mut out = vec![0f64; buf.len()];
        self.read(buf, HostMut::F64(&mut out))?;
        Ok(out)
    }
}
