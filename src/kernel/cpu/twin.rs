//! A twin, the float it is generic over, and its arguments.

use super::scratch::with_scratch;
use super::work::Work;
use crate::kernel::binding::{Access, Binding, Elem};
use crate::kernel::params::Params;
use bytemuck::Pod;
use half::{bf16, f16};
use std::marker::PhantomData;

/// A kernel's two CPU instances.
#[derive(Clone, Copy)]
pub struct Twin {
    /// The fast one.
    pub f32: fn(Args<'_, f32>),
    /// The oracle: plain loops in double precision.
    pub f64: fn(Args<'_, f64>),
}

/// `f32` or `f64`.
pub trait Real:
    num_traits::Float
    + num_traits::NumAssign
    + bytemuck::Pod
    + std::iter::Sum
    + std::fmt::Debug
    + Send
    + Sync
    + 'static
{
    /// From double precision, rounded.
    fn of(v: f64) -> Self;
    /// To double precision, exact.
    fn get(self) -> f64;
    /// The twin's instance for this float.
    fn twin(twin: &Twin) -> fn(Args<'_, Self>);
}

impl Real for f32 {
    fn of(v: f64) -> Self {
        v as f32
    }
    fn get(self) -> f64 {
        f64::from(self)
    }
    fn twin(twin: &Twin) -> fn(Args<'_, Self>) {
        twin.f32
    }
}

impl Real for f64 {
    fn of(v: f64) -> Self {
        v
    }
    fn get(self) -> f64 {
        self
    }
    fn twin(twin: &Twin) -> fn(Args<'_, Self>) {
        twin.f64
    }
}

/// Where a bound buffer lies in memory.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    start: *mut u8,
    /// Elements.
    len: usize,
}

// SAFETY: an address; what is behind it is only touched through `Args`, whose maker promises that it may be.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// `len` elements from `start` on.
    pub(crate) fn new(start: *mut u8, len: usize) -> Self {
        Self { start, len }
    }
}

/// What a twin receives: its parameters, its buffers and its threads.
pub struct Args<'a, F> {
    params: &'a Params,
    bindings: &'static [Binding],
    memory: &'a [Memory],
    /// How to spread work over threads.
    pub work: Work,
    float: PhantomData<fn() -> F>,
}

/// One bound buffer: consumed into the slice its row promises.
pub struct Bound<'a, F> {
    binding: &'static Binding,
    memory: &'a Memory,
    float: PhantomData<fn() -> F>,
}

impl<'a, F: Real> Args<'a, F> {
    /// The arguments of one run of a twin.
    ///
    /// # Safety
    /// There is a range of memory for each binding, valid and aligned for as many elements of its type for as long as the
    /// arguments live; while they do, nobody else touches what a binding writes, nobody writes what one reads, and no range that
    /// is written overlaps another.
    pub(crate) unsafe fn new(
        params: &'a Params,
        bindings: &'static [Binding],
        memory: &'a [Memory],
        work: Work,
    ) -> Self {
        Self { params, bindings, memory, work, float: PhantomData }
    }

    /// The launch's parameter struct.
    pub fn params<P: Pod>(&self) -> P {
        self.params.get()
    }

    /// The raw parameters.
    pub fn raw_params(&self) -> &'a Params {
        self.params
    }

    /// The buffers in binding order; consumes the arguments, so that each is taken once.
    pub fn bufs<const N: usize>(self) -> [Bound<'a, F>; N] {
        assert_eq!(N, self.bindings.len(), "twin and row disagree about {:?}", self.bindings);
        std::array::from_fn(|i| Bound {
            binding: &self.bindings[i],
            memory: &self.memory[i],
            float: PhantomData,
        })
    }
}

impl<'a, F: Real> Bound<'a, F> {
    /// The elements, to read.
    ///
    /// # Safety
    /// `T` is the binding's element type.
    unsafe fn read<T: Pod>(self) -> &'a [T] {
        assert!(self.binding.access == Access::In, "`{}` is written", self.binding.name);
        // SAFETY: the promise of `Args::new`.
        unsafe { std::slice::from_raw_parts(self.memory.start.cast(), self.memory.len) }
    }

    /// The elements, to write.
    ///
    /// # Safety
    /// As for [`Self::read`].
    unsafe fn write<T: Pod>(self) -> &'a mut [T] {
        assert!(self.binding.access != Access::In, "`{}` is read", self.binding.name);
        // SAFETY: the promise of `Args::new`; `Args::bufs` hands each out once.
        unsafe { std::slice::from_raw_parts_mut(self.memory.start.cast(), self.memory.len) }
    }

    fn expect(&self, elem: Elem) {
        assert!(self.binding.elem == elem, "`{}` holds {:?}", self.binding.name, self.binding.elem);
    }

    /// The elements of a floating-point input.
    pub fn input(self) -> &'a [F] {
        self.expect(Elem::Real);
        // SAFETY: the type was looked at.
        unsafe { self.read() }
    }

    /// Lends `f` the elements of a floating-point input in whatever type it is stored, widened where that is 16 bits.
    pub fn widened<R>(self, f: impl FnOnce(&[F]) -> R) -> R {
        fn widen<S: Pod, F: Real, R>(from: &[S], wide: impl Fn(S) -> f64, f: impl FnOnce(&[F]) -> R) -> R {
            with_scratch(from.len(), |to| {
                to.iter_mut().zip(from).for_each(|(to, &v)| *to = F::of(wide(v)));
                f(to)
            })
        }
        match self.binding.elem {
            // SAFETY: the type was looked at.
            Elem::F16 => widen(unsafe { self.read::<f16>() }, f16::to_f64, f),
            // SAFETY: as above.
            Elem::Bf16 => widen(unsafe { self.read::<bf16>() }, bf16::to_f64, f),
            _ => f(self.input()),
        }
    }

    /// The elements of a `u32` input.
    pub fn index(self) -> &'a [u32] {
        self.expect(Elem::Index);
        // SAFETY: as in `input`.
        unsafe { self.read() }
    }

    /// The elements of a `u32` output.
    pub fn index_output(self) -> &'a mut [u32] {
        self.expect(Elem::Index);
        // SAFETY: as in `input`.
        unsafe { self.write() }
    }

    /// The elements of a floating-point output, or of one updated in place.
    pub fn output(self) -> &'a mut [F] {
        self.expect(Elem::Real);
        // SAFETY: as in `input`.
        unsafe { self.write() }
    }
}
