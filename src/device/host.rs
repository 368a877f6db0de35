//! Host memory, and how its elements become a device's.

use crate::kernel::{Elem, Real};
use crate::{Error, Result};
use bytemuck::{Pod, bytes_of, cast_slice, cast_slice_mut};
use half::{bf16, f16};
use std::borrow::Cow;

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

/// Checks that a copy has as many elements on both sides.
pub(super) fn same_len(op: &'static str, host: usize, buffer: usize) -> Result<()> {
    if host == buffer {
        return Ok(());
    }
    Err(Error::shape(op, "length", format!("{host} elements against the buffer's {buffer}")))
}

fn mismatch(op: &'static str, elem: Elem) -> Error {
    let message = format!("the buffer holds {elem:?} elements, the host slice another type");
    Error::shape(op, "element type", message)
}

/// The bytes of `src` as elements of type `elem`, on a device whose [`Elem::Real`] is `F`.
///
/// # Errors
/// When the types do not convert.
pub(super) fn encode<F: Real>(elem: Elem, src: Host<'_>) -> Result<Cow<'_, [u8]>> {
    fn convert<S: Copy, D: Pod>(src: &[S], to: impl Fn(S) -> D) -> Cow<'static, [u8]> {
        let mut bytes = vec![0; src.len() * size_of::<D>()];
        for (to_bytes, &v) in bytes.chunks_exact_mut(size_of::<D>()).zip(src) {
            to_bytes.copy_from_slice(bytes_of(&to(v)));
        }
        Cow::Owned(bytes)
    }
    let narrow = size_of::<F>() == size_of::<f32>();
    Ok(match (elem, src) {
        (Elem::Index, Host::U32(s)) => Cow::Borrowed(cast_slice(s)),
        (Elem::Real, Host::F32(s)) if narrow => Cow::Borrowed(cast_slice(s)),
        (Elem::Real, Host::F64(s)) if !narrow => Cow::Borrowed(cast_slice(s)),
        (Elem::F16, Host::F16(s)) => Cow::Borrowed(cast_slice(s)),
        (Elem::Bf16, Host::Bf16(s)) => Cow::Borrowed(cast_slice(s)),
        (Elem::Real, Host::F32(s)) => convert(s, |v| F::of(f64::from(v))),
        (Elem::Real, Host::F64(s)) => convert(s, F::of),
        (Elem::F16, Host::F32(s)) => convert(s, f16::from_f32),
        // Through f32, as x86 does it: without instructions for f16, `from_f64` does not look at the mantissa's last 32 bits.
        (Elem::F16, Host::F64(s)) => convert(s, |v| f16::from_f32(v as f32)),
        (Elem::Bf16, Host::F32(s)) => convert(s, bf16::from_f32),
        (Elem::Bf16, Host::F64(s)) => convert(s, bf16::from_f64),
        (elem, _) => return Err(mismatch("write", elem)),
    })
}

/// Fills `dst` from elements of type `elem`, whose bytes `read` delivers, on a device whose [`Elem::Real`] is `F`.
///
/// # Errors
/// When the types do not convert, or `read` fails.
pub(super) fn decode<F: Real>(
    elem: Elem,
    dst: HostMut<'_>,
    read: impl FnOnce(&mut [u8]) -> Result<()>,
) -> Result<()> {
    fn convert<S: Pod, D>(
        dst: &mut [D],
        read: impl FnOnce(&mut [u8]) -> Result<()>,
        to: impl Fn(S) -> D,
    ) -> Result<()> {
        let mut values = vec![S::zeroed(); dst.len()];
        read(cast_slice_mut(&mut values))?;
        dst.iter_mut().zip(values).for_each(|(d, v)| *d = to(v));
        Ok(())
    }
    let narrow = size_of::<F>() == size_of::<f32>();
    match (elem, dst) {
        (Elem::Index, HostMut::U32(d)) => read(cast_slice_mut(d)),
        (Elem::Real, HostMut::F32(d)) if narrow => read(cast_slice_mut(d)),
        (Elem::Real, HostMut::F64(d)) if !narrow => read(cast_slice_mut(d)),
        (Elem::F16, HostMut::F16(d)) => read(cast_slice_mut(d)),
        (Elem::Bf16, HostMut::Bf16(d)) => read(cast_slice_mut(d)),
        (Elem::Real, HostMut::F32(d)) => convert(d, read, |v: F| v.get() as f32),
        (Elem::Real, HostMut::F64(d)) => convert(d, read, F::get),
        (Elem::F16, HostMut::F32(d)) => convert(d, read, f16::to_f32),
        (Elem::F16, HostMut::F64(d)) => convert(d, read, f16::to_f64),
        (Elem::Bf16, HostMut::F32(d)) => convert(d, read, bf16::to_f32),
        (Elem::Bf16, HostMut::F64(d)) => convert(d, read, bf16::to_f64),
        (elem, _) => Err(mismatch("read", elem)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back<F: Real>(elem: Elem, src: Host<'_>, dst: HostMut<'_>) {
        let bytes = encode::<F>(elem, src).unwrap();
        assert_eq!(bytes.len(), elem.bytes::<F>() * src.len());
        decode::<F>(elem, dst, |to| {
            to.copy_from_slice(&bytes);
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn values_convert_there_and_back() {
        // Short enough for the 8 bits of a bf16.
        let (wide, narrow) = ([0.5f64, -3.0, 96.0], [0.5f32, -3.0, 96.0]);
        for elem in [Elem::Real, Elem::F16, Elem::Bf16] {
            let (mut w, mut n) = ([0.0; 3], [0.0; 3]);
            there_and_back::<f32>(elem, (&narrow[..]).into(), (&mut w[..]).into());
            there_and_back::<f32>(elem, (&wide[..]).into(), (&mut n[..]).into());
            assert_eq!((w, n), (wide, narrow), "{elem:?}");
            (w, n) = ([0.0; 3], [0.0; 3]);
            there_and_back::<f64>(elem, (&narrow[..]).into(), (&mut w[..]).into());
            there_and_back::<f64>(elem, (&wide[..]).into(), (&mut n[..]).into());
            assert_eq!((w, n), (wide, narrow), "{elem:?} of f64");
        }
        let mut words = [0; 2];
        there_and_back::<f32>(Elem::Index, (&[7u32, u32::MAX][..]).into(), (&mut words[..]).into());
        assert_eq!(words, [7, u32::MAX]);
        let halves = [f16::from_f32(0.1), f16::MAX];
        let mut back = [f16::ZERO; 2];
        there_and_back::<f32>(Elem::F16, (&halves[..]).into(), (&mut back[..]).into());
        assert_eq!(back, halves);
    }

    #[test]
    fn what_does_not_convert_is_refused() {
        for (elem, src) in [
            (Elem::Index, Host::F32(&[1.0])),
            (Elem::Real, Host::U32(&[1])),
            (Elem::Bf16, Host::F16(&[f16::ONE])),
        ] {
            assert!(encode::<f32>(elem, src).unwrap_err().to_string().contains("element type"));
        }
        let refused = decode::<f32>(Elem::Real, (&mut [0u32][..]).into(), |_| unreachable!());
        assert!(refused.unwrap_err().to_string().contains("element type"));
    }
}
