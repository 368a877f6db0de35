//! What can go wrong, and what to do about it.

use crate::Error;
use cudarc::driver::DriverError;
use cudarc::driver::sys::{self, CUresult};
use std::ffi::{CStr, c_char};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What this device calls itself in messages.
pub(super) const NAME: &str = "cuda";

pub(super) fn fault(message: impl Into<String>) -> Error {
    Error::device(NAME, message)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether an error leaves the context unusable: whatever is called next fails too.
pub(super) fn is_sticky(code: CUresult) -> bool {
    use CUresult::*;
    matches!(
        code,
        CUDA_ERROR_ECC_UNCORRECTABLE
            | CUDA_ERROR_NVLINK_UNCORRECTABLE
            | CUDA_ERROR_ILLEGAL_ADDRESS
            | CUDA_ERROR_LAUNCH_TIMEOUT
            | CUDA_ERROR_CONTEXT_IS_DESTROYED
            | CUDA_ERROR_ASSERT
            | CUDA_ERROR_HARDWARE_STACK_ERROR
            | CUDA_ERROR_ILLEGAL_INSTRUCTION
            | CUDA_ERROR_MISALIGNED_ADDRESS
            | CUDA_ERROR_INVALID_ADDRESS_SPACE
            | CUDA_ERROR_INVALID_PC
            | CUDA_ERROR_LAUNCH_FAILED
            | CUDA_ERROR_EXTERNAL_DEVICE
            | CUDA_ERROR_UNKNOWN
    )
}

/// The error's name and what to do about it.
pub(super) fn explain(what: &str, error: DriverError) -> String {
    use CUresult::*;
    let advice = match error.0 {
        CUDA_ERROR_NO_DEVICE => "the driver sees no NVIDIA GPU: look at CUDA_VISIBLE_DEVICES, or use the CPU",
        CUDA_ERROR_STUB_LIBRARY => {
            "the libcuda found is the toolkit's stub: take its folder out of LD_LIBRARY_PATH"
        }
        CUDA_ERROR_SYSTEM_DRIVER_MISMATCH | CUDA_ERROR_SYSTEM_NOT_READY => {
            "the driver was updated under a running system, or is not ready: restart the machine"
        }
        CUDA_ERROR_OUT_OF_MEMORY => {
            "out of memory: use a smaller batch, or end what else runs on the card (nvidia-smi lists it)"
        }
        CUDA_ERROR_NO_BINARY_FOR_GPU | CUDA_ERROR_INVALID_IMAGE | CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
            "the kernels were compiled for a newer driver or another card: update the driver, or install an NVRTC of the \
             driver's CUDA version and set ETUDE_NVRTC=1"
        }
        CUDA_ERROR_ECC_UNCORRECTABLE | CUDA_ERROR_NVLINK_UNCORRECTABLE => {
            "the card's memory is faulty: reset the card, and replace it if that happens again"
        }
        CUDA_ERROR_LAUNCH_TIMEOUT => {
            "a kernel ran longer than the system lets a card with a display: use a smaller batch"
        }
        CUDA_ERROR_DEVICE_UNAVAILABLE => {
            "another process has the card for itself: see `nvidia-smi -q -d COMPUTE`"
        }
        code if is_sticky(code) => {
            "a kernel failed: ETUDE_DEBUG=1 names it, compute-sanitizer its line; please report it"
        }
        _ => "see `nvidia-smi`",
    };
    let mut name = std::ptr::null();
    // SAFETY: the pointer to write to is valid. A code the driver does not know leaves it null.
    let _ = unsafe { sys::cuGetErrorName(error.0, &raw mut name) };
    format!("{what}: {} ({advice})", text(name))
}

/// What a NUL-terminated string of the driver's says.
fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return "unknown".into();
    }
    // SAFETY: not null, and the driver's strings are constants that end in a null byte.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_that_kill_the_context_lose_the_device() {
        use CUresult::*;
        for code in [CUDA_ERROR_ILLEGAL_ADDRESS, CUDA_ERROR_LAUNCH_FAILED, CUDA_ERROR_MISALIGNED_ADDRESS] {
            assert!(is_sticky(code), "{code:?}");
        }
        for code in [CUDA_ERROR_OUT_OF_MEMORY, CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_NO_DEVICE] {
            assert!(!is_sticky(code), "{code:?}");
        }
    }
}
