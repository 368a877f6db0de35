//! A launch to try a device with, and what an error must say.

use etude::device::{Buf, Device, Launch, Plan};
use etude::kernel::Params;
use etude::kernels::elementwise::{ADD, ElementwiseParams};

/// `y = a + b`, compiled.
pub fn add(device: &dyn Device, a: &Buf, b: &Buf, y: &Buf) -> etude::Result<Box<dyn Plan>> {
    let params = Params::new(&ElementwiseParams { n: y.len() as u32, factor: 1.0 });
    let bufs = vec![a.clone(), b.clone(), y.clone()];
    device.compile(vec![Launch { kernel: &ADD, bufs, params }])
}

/// Asserts that there is an error, and that it says all of `words`.
#[track_caller]
pub fn fails<T>(result: etude::Result<T>, words: &[&str]) {
    let Err(error) = result else { panic!("nothing failed") };
    let text = error.to_string();
    assert!(words.iter().all(|w| text.contains(w)), "`{text}` does not say {words:?}");
}
