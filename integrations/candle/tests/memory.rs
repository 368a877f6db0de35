//! Nothing is copied on the way: counts what an op allocates.

use candle_core::{DType, Device, Result, Tensor};
use etude_candle::{ContrastiveOptions, ConvOptions1d, Samples, contrastive, conv1d};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, counting bytes.
struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does it all.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that a call allocates; the first one, which starts threads and fills their scratch memory, is not counted.
fn allocated(f: impl Fn() -> Result<Tensor>) -> Result<usize> {
    f()?;
    let before = BYTES.load(Ordering::Relaxed);
    f()?;
    Ok(BYTES.load(Ordering::Relaxed) - before)
}

/// One test, so that no other allocates meanwhile.
#[test]
fn inputs_are_read_where_they_lie() -> Result<()> {
    // A second thread would fill scratch memory of its own whenever it first comes to take part.
    // SAFETY: nothing else runs yet that could look at the environment.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", "1") };
    // A long input of which a short output is made.
    let x = Tensor::zeros((4, 8, 1 << 15), DType::F32, &Device::Cpu)?;
    let w = Tensor::zeros((1, 8, 3), DType::F32, &Device::Cpu)?;
    let options = ConvOptions1d { stride: 1000, ..Default::default() };
    let (input, bytes) = (4 * x.elem_count(), allocated(|| conv1d(&x, &w, None, options))?);
    assert!(bytes < input / 4, "conv1d allocates {bytes} bytes for an input of {input}");

    // The gradient is as large as the input, and all that is made.
    let z = Tensor::zeros((8192, 8), DType::F32, &Device::Cpu)?;
    let labels = Tensor::zeros(8192, DType::F32, &Device::Cpu)?;
    let loss = || contrastive(Samples::new(&z, &labels), ContrastiveOptions::default());
    let (input, bytes) = (4 * z.elem_count(), allocated(loss)?);
    assert!(bytes < input + input / 4, "the loss allocates {bytes} bytes for embeddings of {input}");
    Ok(())
}
