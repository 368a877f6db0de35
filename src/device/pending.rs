//! Waiting for a device, where the host may and where it may not.

use crate::{Error, Result};
use std::future::{Future, ready};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

/// What a device gives when it is done.
///
/// Native devices wait inside the first poll, which is then ready. A browser lets nobody wait: there the future is one of its
/// promises, to be awaited.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// What is there already.
pub(crate) fn at_once<'a, T: Send + 'a>(value: Result<T>) -> Pending<'a, T> {
    Box::pin(ready(value))
}

/// The value of a future that waits for devices alone.
///
/// # Errors
/// The future's; and in a browser, where it has to wait.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending if cfg!(target_family = "wasm") => {
                let message = "a page cannot stand still until the GPU is done: await the asynchronous call of this name";
                return Err(Error::device("wgpu", message));
            }
            // Another thread that polls the caller's own wgpu device is about to hand over what it found.
            Poll::Pending => std::thread::yield_now(),
        }
    }
}
