//! What a kernel is: a row of plain data that every device reads, and its Rust twin.
//!
//! A kernel knows raw buffers and one plain parameter struct, nothing else. The
//! same bytes are the CUDA by-value argument, the WGSL uniform and the argument
//! of the CPU twin; the same row names the entry point everywhere. A stem names
//! one family of kernels in every language: `kernels/conv1d.cu`,
//! `shaders/conv1d.wgsl`, `src/kernels/conv1d.rs`; the op that launches them is
//! `src/ops/conv1d.rs`.

pub mod activation;
pub mod batch_norm;
pub mod contrastive;
pub mod conv1d;
pub mod conv2d;
pub mod conv_block;
mod conv_grid;
mod conv_lanes;
pub mod dropout;
pub mod elementwise;
pub mod feed;
pub mod gather;
pub mod linear;
pub mod loss;
pub mod microkernel;
pub mod optim;
mod pairwise;
pub mod peak;
pub mod pool;
pub mod simd;
pub mod similarity;
pub mod source;
mod transpose;

use crate::device::cpu::CpuTwin;
use bytemuck::{NoUninit, Pod};

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

/// How a kernel touches one of its buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only read.
    In,
    /// Every element written with `=`, never read before.
    Out,
    /// Read and written in place: parameters, optimizer state, accumulators.
    InOut,
    /// The kernel's own while it runs, for what one stage leaves to the next: what it holds before and after means nothing. A twin
    /// that needs none leaves it as it is, as those for the CPU do.
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

/// Arithmetic and compulsory memory traffic of one launch: the roofline's two axes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations (a fused multiply-add counts two).
    pub flops: u64,
    /// Bytes that must be read or written once, at four bytes an element.
    pub bytes: u64,
}

impl Cost {
    /// `flops` operations over `elements` four-byte elements.
    pub const fn new(flops: usize, elements: usize) -> Self {
        Self { flops: flops as u64, bytes: 4 * elements as u64 }
    }
}

impl std::ops::Add for Cost {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { flops: self.flops + other.flops, bytes: self.bytes + other.bytes }
    }
}

impl std::iter::Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), std::ops::Add::add)
    }
}

/// The scalars of one launch, as the bytes of a plain `#[repr(C)]` struct of `u32`/`f32`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Params {
    words: [u32; Self::WORDS],
    bytes: usize,
}

impl Params {
    const WORDS: usize = 24;

    /// Bytes of the largest params struct.
    pub const MAX_BYTES: usize = 4 * Self::WORDS;

    /// Packs `p`, a `#[repr(C)]` struct of `u32` and `f32` fields.
    ///
    /// A struct larger than 96 bytes or not a multiple of 4 does not compile.
    pub fn new<P: NoUninit>(p: &P) -> Self {
        const {
            assert!(size_of::<P>() <= 4 * Self::WORDS && size_of::<P>().is_multiple_of(4));
        }
        let mut words = [0; Self::WORDS];
        bytemuck::cast_slice_mut::<u32, u8>(&mut words)[..size_of::<P>()]
            .copy_from_slice(bytemuck::bytes_of(p));
        Self { words, bytes: size_of::<P>() }
    }

    /// Unpacks the struct that [`Params::new`] packed.
    pub fn get<P: Pod>(&self) -> P {
        debug_assert_eq!(self.bytes, size_of::<P>(), "a kernel read another kernel's params");
        bytemuck::pod_read_unaligned(&bytemuck::cast_slice::<u32, u8>(&self.words)[..size_of::<P>()])
    }

    /// The packed bytes, as a GPU receives them.
    pub fn as_bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.bytes]
    }
}

/// A scalar of a params struct, four bytes wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    /// `u32`; `unsigned` in CUDA.
    U32,
    /// `f32`; `float` in CUDA.
    F32,
}

/// A params struct as data: `#[repr(C)]` in Rust, the struct of the same name in CUDA and WGSL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The struct's name.
    pub name: &'static str,
    /// Name and type of each member, one after the other without padding.
    pub members: &'static [(&'static str, Scalar)],
}

impl Layout {
    /// Bytes of the struct.
    pub const fn bytes(&self) -> usize {
        4 * self.members.len()
    }
}

/// Declares a params struct and its [`Layout`].
macro_rules! params {
    ($(#[$about:meta])* pub struct $name:ident { $($(#[$of:meta])* pub $member:ident: $scalar:ident,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
        #[repr(C)]
        pub struct $name { $($(#[$of])* pub $member: $scalar,)* }

        impl $name {
            /// What it is made of.
            pub const LAYOUT: $crate::kernels::Layout = $crate::kernels::Layout {
                name: stringify!($name),
                members: &[$((stringify!($member), $crate::kernels::params!(@ $scalar))),*],
            };
        }
    };
    (@ u32) => { $crate::kernels::Scalar::U32 };
    (@ f32) => { $crate::kernels::Scalar::F32 };
}
use params;

/// How many workgroups a stage takes. `[n, 1, 1]` may be any `n`: a device folds it over y, and the
/// shader numbers its workgroups with `group_of`. Other grids must keep each side within 65,535.
pub type Groups = fn(&Params) -> [u32; 3];

/// Elements that a workgroup of an elementwise shader owns: four for each of 256 threads.
pub const SPAN: u32 = 1024;

/// Workgroups for `n` elements at [`SPAN`] each.
pub const fn spans(n: u32) -> [u32; 3] {
    [n.div_ceil(SPAN), 1, 1]
}

/// Launch geometry of a CUDA twin: always one launch, whatever the WGSL twin takes. `kernels/README.md` has the
/// conventions.
#[derive(Clone, Copy)]
pub struct Cuda {
    /// Threads of a block; the kernel may rely on it.
    pub block: u32,
    /// Blocks. Depends on the params alone, so that a launch sums in the same order on every card. `y` and `z` stay
    /// within 65,535; a side of 0 is not launched.
    pub grid: fn(&Params) -> [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: fn(&Params) -> u32,
    /// Tickets of the launch. A block that is done draws one, so that the last of all, or of all that share a ticket, can finish
    /// the work: where there are any, the kernel takes `unsigned* ticket` after its params, all 0 at the start and 0 again at the end.
    pub tickets: Option<fn(&Params) -> u32>,
}

impl Cuda {
    /// A launch without dynamic shared memory or tickets.
    pub const fn new(block: u32, grid: fn(&Params) -> [u32; 3]) -> Self {
        Self { block, grid, shared: |_| 0, tickets: None }
    }

    /// With dynamic shared memory, in bytes.
    #[must_use]
    pub const fn shared(mut self, shared: fn(&Params) -> u32) -> Self {
        self.shared = shared;
        self
    }

    /// With a last block that finishes the launch.
    #[must_use]
    pub const fn ticket(self) -> Self {
        self.tickets(|_| 1)
    }

    /// With as many tickets, at least one, whatever the params: a last block for each part of the launch.
    #[must_use]
    pub const fn tickets(mut self, tickets: fn(&Params) -> u32) -> Self {
        self.tickets = Some(tickets);
        self
    }
}

/// How exact the factors of a product are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// As they are.
    #[default]
    F32,
    /// CUDA devices may round them to ten bits (tf32, an error of 2⁻¹¹ each) for the tensor cores; sums stay in f32. Other
    /// devices compute in f32.
    Tf32,
}

/// A row of the kernel registry.
pub struct Kernel {
    /// Entry point, `<stem>_<what>`: `conv1d_bwd_x` is in `conv1d.cu` and `conv1d.wgsl`.
    pub name: &'static str,
    /// The buffers in binding order: inputs first, then outputs.
    pub bindings: &'static [Binding],
    /// The params struct that all twins take.
    pub params: Layout,
    /// The CPU twin, for f32 (a device people use) and f64 (the oracle).
    pub cpu: CpuTwin,
    /// The stages of the WGSL twin and how many workgroups each takes; empty while there is no shader.
    ///
    /// Stage one is the entry point `name`, stage two `name_2`, and so on: what needs all of a launch's
    /// workgroups to be done before it goes on. All stages have the same bindings and params.
    pub groups: &'static [Groups],
    /// How the CUDA twin is launched; none while there is no CUDA source.
    pub cuda: Option<Cuda>,
    /// Roofline cost of a launch with these params.
    pub cost: fn(&Params) -> Cost,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel")
            .field("name", &self.name)
            .field("bindings", &self.bindings)
            .finish_non_exhaustive()
    }
}

/// Every kernel of the crate, by stem.
pub static REGISTRY: &[(&str, &[&Kernel])] = &[
    ("activation", activation::KERNELS),
    ("batch_norm", batch_norm::KERNELS),
    ("contrastive", contrastive::KERNELS),
    ("conv1d", conv1d::KERNELS),
    ("conv2d", conv2d::KERNELS),
    ("conv_block", conv_block::KERNELS),
    ("dropout", dropout::KERNELS),
    ("elementwise", elementwise::KERNELS),
    ("feed", feed::KERNELS),
    ("gather", gather::KERNELS),
    ("linear", linear::KERNELS),
    ("loss", loss::KERNELS),
    ("optim", optim::KERNELS),
    ("pool", pool::KERNELS),
    ("similarity", similarity::KERNELS),
];

/// The row that reads elements of type `elem` among those for f32, f16 and bf16.
pub(crate) fn stored_as(elem: Elem, [real, f16, bf16]: [&'static Kernel; 3]) -> Option<&'static Kernel> {
    match elem {
        Elem::Real => Some(real),
        Elem::F16 => Some(f16),
        Elem::Bf16 => Some(bf16),
        Elem::Index => None,
    }
}

/// Looks a kernel up by its entry point.
pub fn by_name(name: &str) -> Option<&'static Kernel> {
    REGISTRY.iter().flat_map(|(_, kernels)| *kernels).copied().find(|k| k.name == name)
}
