//! What a call returns, and why it failed.

use crate::{Error, Result};
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Counts up when a struct or a function changes; compare it with etude_abi_version() where the library is loaded at run time.
pub const ETUDE_ABI_VERSION: u32 = 1;

/// What a call returns: one of ETUDE_OK, ETUDE_INVALID_ARGUMENT, ETUDE_DEVICE_FAILED and ETUDE_PANICKED. Where it is not
/// ETUDE_OK, etude_last_error() says why, and what a call was to write holds nothing of use.
pub type EtudeStatus = i32;
/// The call did what it says.
pub const ETUDE_OK: EtudeStatus = 0;
/// An argument is null, or does not fit the others.
pub const ETUDE_INVALID_ARGUMENT: EtudeStatus = 1;
/// There is no such device, or it could not do what was asked: memory ran out, the driver failed.
pub const ETUDE_DEVICE_FAILED: EtudeStatus = 2;
/// A fault in the library, caught before it reached the caller. The context should be freed and not used again.
pub const ETUDE_PANICKED: EtudeStatus = 3;

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Runs the body of an entry; what goes wrong becomes a status and the thread's message.
pub(super) fn entry(body: impl FnOnce() -> Result<()>) -> EtudeStatus {
    let (status, message) = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return ETUDE_OK,
        Ok(Err(error)) => match error {
            Error::Device { .. } => (ETUDE_DEVICE_FAILED, error.to_string()),
            _ => (ETUDE_INVALID_ARGUMENT, error.to_string()),
        },
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            let message = format!("a fault in etude, please report it: {text}");
            // What a panic carries may panic when dropped.
            std::mem::forget(panic);
            (ETUDE_PANICKED, message)
        }
    };
    let message = CString::new(message.replace('\0', "\\0")).unwrap_or_default();
    // A thread that is ending has no message left to read.
    let _ = LAST_ERROR.try_with(|last| last.replace(message));
    status
}

/// The library's version, as "0.1.0"; static.
#[unsafe(no_mangle)]
pub extern "C" fn etude_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => panic!("a version holds no zero byte"),
        };
    VERSION.as_ptr()
}

/// The ETUDE_ABI_VERSION that the library was built with.
#[unsafe(no_mangle)]
pub extern "C" fn etude_abi_version() -> u32 {
    ETUDE_ABI_VERSION
}

/// Why the last call of this thread that failed did: UTF-8 that names the call, the argument, what was expected and what was
/// given. Empty where none failed. The library's: valid until another call of this thread fails, or the thread ends.
#[unsafe(no_mangle)]
pub extern "C" fn etude_last_error() -> *const c_char {
    LAST_ERROR.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_status_and_a_message() {
        assert_eq!(entry(|| panic!("plain\0")), ETUDE_PANICKED);
        assert_eq!(entry(|| panic!("formatted {}", 1)), ETUDE_PANICKED);
        // SAFETY: the library's own string.
        let text = unsafe { CStr::from_ptr(etude_last_error()) };
        assert_eq!(text.to_str(), Ok("a fault in etude, please report it: formatted 1"));
        assert_eq!(entry(|| std::panic::panic_any(7)), ETUDE_PANICKED);
    }
}
