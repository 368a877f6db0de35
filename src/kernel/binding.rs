//! The buffers of a kernel: what their elements are and how it touches them.

/// What the elements of a buffer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Elem {
    /// The device's floating-point type: f32, or f64 on the oracle.
    Real,
    /// `u32`: row indices, counters, seeds, frame counts.
    Index,
    /// IEEE half precision, on every device: kernels read it and compute in [`Elem::Real`].
    F16,
    /// The upper half of an f32, on every device; read as [`Elem::F16`] is.
    Bf16,
}

impl Elem {
    /// Bytes of an element on a device whose [`Elem::Real`] is `F`.
    pub const fn bytes<F>(self) -> usize {
        match self {
            Self::Real => size_of::<F>(),
            Self::Index => size_of::<u32>(),
            Self::F16 | Self::Bf16 => size_of::<u16>(),
        }
    }
}

/// How a kernel touches one of its buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only read.
    In,
    /// Every element written with `=`, never read before.
    Out,
    /// Read and written in place: parameters, optimizer state, accumulators.
    InOut,
    /// The kernel's own while it runs, for what one stage leaves to the next: what it holds before and after means nothing. A
    /// twin that needs none leaves it as it is, as those for the CPU do.
    Scratch,
}

impl Access {
    /// Whether what the buffer holds before the launch counts.
    pub const fn reads(self) -> bool {
        matches!(self, Self::In | Self::InOut)
    }

    /// Whether what the buffer holds after the launch counts.
    pub const fn writes(self) -> bool {
        matches!(self, Self::Out | Self::InOut)
    }
}

/// One buffer argument of a kernel.
#[derive(Debug, Clone, Copy)]
pub struct Binding {
    /// Name used in the kernel's source, e.g. `x`, `weight`, `dy`.
    pub name: &'static str,
    /// Read, written or both.
    pub access: Access,
    /// Element type.
    pub elem: Elem,
}

impl Binding {
    /// A floating-point input.
    pub const fn input(name: &'static str) -> Self {
        Self { name, access: Access::In, elem: Elem::Real }
    }
    /// A floating-point input whose elements are stored as `elem`.
    pub const fn stored(name: &'static str, elem: Elem) -> Self {
        Self { name, access: Access::In, elem }
    }
    /// A `u32` input.
    pub const fn index(name: &'static str) -> Self {
        Self { name, access: Access::In, elem: Elem::Index }
    }
    /// A floating-point output.
    pub const fn output(name: &'static str) -> Self {
        Self { name, access: Access::Out, elem: Elem::Real }
    }
    /// A `u32` output.
    pub const fn index_output(name: &'static str) -> Self {
        Self { name, access: Access::Out, elem: Elem::Index }
    }
    /// Floating-point scratch.
    pub const fn scratch(name: &'static str) -> Self {
        Self { name, access: Access::Scratch, elem: Elem::Real }
    }
    /// A floating-point buffer updated in place.
    pub const fn inout(name: &'static str) -> Self {
        Self { name, access: Access::InOut, elem: Elem::Real }
    }
}

/// How many elements of scratch a launch needs, by who runs it; CPU twins need none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scratch {
    /// The CUDA twin.
    pub cuda: usize,
    /// The WGSL twin.
    pub wgsl: usize,
}

impl Scratch {
    /// Enough for any.
    pub fn most(self) -> usize {
        self.cuda.max(self.wgsl)
    }
}

/// How exact products are, and their factors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Factors as they are. The CPU computes wide convolutions from fewer products than the sum has terms (Toom–Cook tiles):
    /// within the rounding of a plain f32 sum, but what is no number, or far larger than its neighbours, shows in all results
    /// of its tile.
    #[default]
    F32,
    /// CUDA devices may round them to ten bits (tf32, an error of 2⁻¹¹ each) for the tensor cores; sums stay in f32. Other
    /// devices compute in f32.
    Tf32,
    /// Factors as they are, and each term of a sum a product of its own.
    Exact,
}
