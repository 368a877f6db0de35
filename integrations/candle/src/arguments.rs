//! What arguments must be before an op sees them.

use candle_core::{DType, Device, Error, Result, Tensor};

/// An error of etude's, or in its form.
pub fn refused(error: etude::Error) -> Error {
    Error::wrap(error).bt()
}

fn shape(op: &'static str, argument: &'static str, message: String) -> Error {
    refused(etude::Error::shape(op, argument, message))
}

/// The dimensions of an argument; `names` are theirs.
pub fn dims<const N: usize>(
    op: &'static str,
    argument: &'static str,
    tensor: &Tensor,
    names: [&str; N],
) -> Result<[usize; N]> {
    tensor.dims().try_into().map_err(|_| {
        let names = names.join(", ");
        shape(op, argument, format!("needs the dimensions [{names}], has shape {:?}", tensor.dims()))
    })
}

/// Refuses a first argument whose numbers the kernels do not take.
pub fn float(op: &'static str, argument: &'static str, tensor: &Tensor) -> Result<()> {
    let (takes, place) = match tensor.device() {
        Device::Cpu => (&[DType::F32, DType::F64][..], "the CPU"),
        Device::Cuda(_) => (&[DType::F32][..], "CUDA"),
        Device::Metal(_) => {
            return Err(shape(
                op,
                argument,
                "is on a Metal device; move it with to_device(&Device::Cpu)".into(),
            ));
        }
    };
    if takes.contains(&tensor.dtype()) {
        return Ok(());
    }
    let message = format!(
        "has dtype {:?}, on {place} it must be one of {takes:?}; convert it with to_dtype",
        tensor.dtype()
    );
    Err(shape(op, argument, message))
}

/// Refuses an argument whose numbers or place are not those of the first one.
pub fn alike(
    op: &'static str,
    argument: &'static str,
    tensor: &Tensor,
    first: (&'static str, &Tensor),
) -> Result<()> {
    let (name, first) = first;
    if tensor.dtype() != first.dtype() {
        let message = format!(
            "has dtype {:?}, but {name} has {:?}; convert it with to_dtype",
            tensor.dtype(),
            first.dtype()
        );
        return Err(shape(op, argument, message));
    }
    if !tensor.device().same_device(first.device()) {
        let (at, wanted) = (tensor.device().location(), first.device().location());
        let message = format!("is on {at:?}, but {name} is on {wanted:?}; move it with to_device");
        return Err(shape(op, argument, message));
    }
    Ok(())
}
