//! What calls check, and how one launch is made.

use crate::contrastive::{Names, check_as};
use crate::device::{Buf, Device, HostMut, Launch};
use crate::kernel::{Kernel, Params};
use crate::{Error, Result};
use bytemuck::NoUninit;

pub(super) fn launch<P: NoUninit>(kernel: &'static Kernel, params: &P, bufs: &[&Buf]) -> Launch {
    Launch { kernel, params: Params::new(params), bufs: bufs.iter().map(|&b| b.clone()).collect() }
}

/// Whether labels and weights in host memory are ones that the loss takes. They are read a piece at a time: what a call allocates
/// should not grow with its inputs.
pub(super) fn look_at(
    device: &dyn Device,
    op: &'static str,
    names: Names,
    labels: &Buf,
    weights: Option<&Buf>,
) -> Result<()> {
    let [mut of_labels, mut of_weights] = [[0.0; 512]; 2];
    for first in (0..labels.len()).step_by(512) {
        let n = (labels.len() - first).min(512);
        let read =
            |buf: &Buf, to: &mut [f64]| device.read(&buf.window(first, n)?, HostMut::F64(&mut to[..n]));
        read(labels, &mut of_labels)?;
        weights.map(|weights| read(weights, &mut of_weights)).transpose()?;
        check_as(op, names, first, &of_labels[..n], weights.map(|_| &of_weights[..n]))?;
    }
    Ok(())
}

/// Looks for a label that is not finite, where the host sees them.
pub(super) fn look_for_numbers(
    device: &dyn Device,
    op: &'static str,
    argument: &'static str,
    labels: &Buf,
) -> Result<()> {
    if !device.on_host() {
        return Ok(());
    }
    let mut values = [0.0; 512];
    for first in (0..labels.len()).step_by(512) {
        let values = &mut values[..(labels.len() - first).min(512)];
        device.read(&labels.window(first, values.len())?, HostMut::F64(values))?;
        if let Some(at) = values.iter().position(|y| !y.is_finite()) {
            let message = format!("row {} is {}, must be finite", first + at, values[at]);
            return Err(Error::shape(op, argument, message));
        }
    }
    Ok(())
}

/// Whether a buffer has as many elements as its shape.
pub(super) fn fits(op: &'static str, argument: &'static str, buf: &Buf, shape: &[usize]) -> Result<()> {
    let wanted = shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side));
    if wanted == Some(buf.len()) {
        return Ok(());
    }
    Err(Error::shape(op, argument, format!("{} elements for shape {shape:?}", buf.len())))
}

/// Whether what a call of several launches writes is apart from all else that it is given; each launch sees to its own.
pub(super) fn apart(
    op: &'static str,
    read: &[(&'static str, &Buf)],
    written: &[(&'static str, Option<&Buf>)],
) -> Result<()> {
    let written = || written.iter().filter_map(|&(name, buf)| Some((name, buf?)));
    for (i, (name, buf)) in written().enumerate() {
        let others = read.iter().copied().chain(written().skip(i + 1));
        if let Some((other, _)) = { others }.find(|(_, other)| buf.overlaps(other)) {
            return Err(Error::shape(op, name, format!("overlaps `{other}`, but is written")));
        }
    }
    Ok(())
}
