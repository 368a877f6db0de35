//! The scalars of a launch, one encoding for all devices.

use bytemuck::{NoUninit, Pod};

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
            pub const LAYOUT: $crate::kernel::Layout = $crate::kernel::Layout {
                name: stringify!($name),
                members: &[$((stringify!($member), $crate::kernel::params!(@ $scalar))),*],
            };
        }
    };
    (@ u32) => { $crate::kernel::Scalar::U32 };
    (@ f32) => { $crate::kernel::Scalar::F32 };
}
pub(crate) use params;
