//! Windows that begin where no alignment does.

use etude::device::{Buf, Device, Host, HostMut, Launch, Plan};
use etude::kernel::Elem;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A device of whose buffers, counted as they are made, some begin so many bytes, and an element at least, after where one may.
pub struct Shifted<D> {
    device: D,
    bytes: usize,
    which: fn(usize) -> bool,
    made: AtomicUsize,
}

impl<D> Shifted<D> {
    /// All of them.
    pub fn all(device: D, bytes: usize) -> Self {
        Self { device, bytes, which: |_| true, made: AtomicUsize::new(0) }
    }

    /// Those that `which` says, one element.
    #[cfg(feature = "cuda-on-cpu")]
    pub fn some(device: D, which: fn(usize) -> bool) -> Self {
        Self { device, bytes: 0, which, made: AtomicUsize::new(0) }
    }
}

impl<'a, D: Deref<Target = dyn Device + 'a> + Send + Sync> Device for Shifted<D> {
    fn name(&self) -> String {
        format!("{}, shifted", self.device.name())
    }
    fn alloc(&self, elem: Elem, len: usize) -> etude::Result<Buf> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let first = if (self.which)(number) { (self.bytes / elem.bytes::<f32>()).max(1) } else { 0 };
        self.device.alloc(elem, len + first)?.window(first, len)
    }
    fn write(&self, dst: &Buf, src: Host<'_>) -> etude::Result<()> {
        self.device.write(dst, src)
    }
    fn read(&self, src: &Buf, dst: HostMut<'_>) -> etude::Result<()> {
        self.device.read(src, dst)
    }
    fn compile(&self, launches: Vec<Launch>) -> etude::Result<Box<dyn Plan>> {
        self.device.compile(launches)
    }
}
