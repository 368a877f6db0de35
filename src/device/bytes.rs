//! Host slices as the bytes of a device whose `Real` is f32.

use super::{Host, HostMut};
use crate::kernels::Elem;
use crate::{Error, Result};
use bytemuck::{Pod, cast_slice, cast_slice_mut};
use half::{bf16, f16};
use std::borrow::Cow;

/// Bytes of an element.
pub(super) fn size(elem: Elem) -> usize {
    match elem {
        Elem::F16 | Elem::Bf16 => 2,
        Elem::Real | Elem::Index => 4,
    }
}

fn mismatch(op: &'static str, elem: Elem) -> Error {
    let message = format!("the buffer holds {elem:?} elements, the host slice another type");
    Error::shape(op, "element type", message)
}

/// The bytes of `src` as elements of type `elem`.
///
/// # Errors
/// When the types do not convert.
pub(super) fn encode(elem: Elem, src: Host<'_>) -> Result<Cow<'_, [u8]>> {
    fn convert<S: Copy, D: Pod>(src: &[S], to: impl Fn(S) -> D) -> Cow<'static, [u8]> {
        let values: Vec<D> = src.iter().map(|&v| to(v)).collect();
        Cow::Owned(cast_slice(&values).to_vec())
    }
    Ok(match (elem, src) {
        (Elem::Index, Host::U32(s)) => Cow::Borrowed(cast_slice(s)),
        (Elem::Real, Host::F32(s)) => Cow::Borrowed(cast_slice(s)),
        (Elem::F16, Host::F16(s)) => Cow::Borrowed(cast_slice(s)),
        (Elem::Bf16, Host::Bf16(s)) => Cow::Borrowed(cast_slice(s)),
        (Elem::Real, Host::F64(s)) => convert(s, |v| v as f32),
        (Elem::F16, Host::F32(s)) => convert(s, f16::from_f32),
        (Elem::F16, Host::F64(s)) => convert(s, f16::from_f64),
        (Elem::Bf16, Host::F32(s)) => convert(s, bf16::from_f32),
        (Elem::Bf16, Host::F64(s)) => convert(s, bf16::from_f64),
        (elem, _) => return Err(mismatch("write", elem)),
    })
}

/// Fills `dst` from elements of type `elem`, whose bytes `read` delivers.
///
/// # Errors
/// When the types do not convert, or `read` fails.
pub(super) fn decode(elem: Elem, dst: HostMut<'_>, read: impl FnOnce(&mut [u8]) -> Result<()>) -> Result<()> {
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
    match (elem, dst) {
        (Elem::Index, HostMut::U32(d)) => read(cast_slice_mut(d)),
        (Elem::Real, HostMut::F32(d)) => read(cast_slice_mut(d)),
        (Elem::F16, HostMut::F16(d)) => read(cast_slice_mut(d)),
        (Elem::Bf16, HostMut::Bf16(d)) => read(cast_slice_mut(d)),
        (Elem::Real, HostMut::F64(d)) => convert(d, read, |v: f32| f64::from(v)),
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

    fn there_and_back<'a>(elem: Elem, src: Host<'a>, dst: HostMut<'_>) {
        let bytes = encode(elem, src).unwrap();
        assert_eq!(bytes.len(), size(elem) * src.len());
        decode(elem, dst, |to| {
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
            there_and_back(elem, (&narrow[..]).into(), (&mut w[..]).into());
            there_and_back(elem, (&wide[..]).into(), (&mut n[..]).into());
            assert_eq!((w, n), (wide, narrow), "{elem:?}");
        }
        let mut words = [0; 2];
        there_and_back(Elem::Index, (&[7u32, u32::MAX][..]).into(), (&mut words[..]).into());
        assert_eq!(words, [7, u32::MAX]);
        let halves = [f16::from_f32(0.1), f16::MAX];
        let mut back = [f16::ZERO; 2];
        there_and_back(Elem::F16, (&halves[..]).into(), (&mut back[..]).into());
        assert_eq!(back, halves);
    }

    #[test]
    fn what_does_not_convert_is_refused() {
        for (elem, src) in [
            (Elem::Index, Host::F32(&[1.0])),
            (Elem::Real, Host::U32(&[1])),
            (Elem::Bf16, Host::F16(&[f16::ONE])),
        ] {
            assert!(encode(elem, src).unwrap_err().to_string().contains("element type"));
        }
        let refused = decode(Elem::Real, (&mut [0u32][..]).into(), |_| unreachable!());
        assert!(refused.unwrap_err().to_string().contains("element type"));
    }
}
