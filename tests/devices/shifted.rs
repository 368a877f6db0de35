//! Windows that begin where no alignment does.

use etude::device::{Buf, Device, Host, HostMut, Launch, Plan};
use etude::kernel::Elem;
use std::ops::Deref;

/// A device all of whose buffers begin so many bytes, and an element at least, after where one may.
pub struct Shifted<D>(pub D, pub usize);

impl<'a, D: Deref<Target = dyn Device + 'a> + Send + Sync> Device for Shifted<D> {
    fn name(&self) -> String {
        format!("{}, shifted", self.0.name())
    }
    fn alloc(&self, elem: Elem, len: usize) -> etude::Result<Buf> {
        let first = (self.1 / elem.bytes::<f32>()).max(1);
        self.0.alloc(elem, len + first)?.window(first, len)
    }
    fn write(&self, dst: &Buf, src: Host<'_>) -> etude::Result<()> {
        self.0.write(dst, src)
    }
    fn read(&self, src: &Buf, dst: HostMut<'_>) -> etude::Result<()> {
        self.0.read(src, dst)
    }
    fn compile(&self, launches: Vec<Launch>) -> etude::Result<Box<dyn Plan>> {
        self.0.compile(launches)
    }
}

/// A device of whose buffers, counted as they are made, those begin one element after where one may that the function says.
#[cfg(feature = "cuda-on-cpu")]
pub struct ShiftedSome<D>(pub D, pub fn(usize) -> bool, pub std::sync::atomic::AtomicUsize);

#[cfg(feature = "cuda-on-cpu")]
impl<D: Device> Device for ShiftedSome<D> {
    fn name(&self) -> String {
        format!("{}, some shifted", self.0.name())
    }
    fn alloc(&self, elem: Elem, len: usize) -> etude::Result<Buf> {
        let first = usize::from((self.1)(self.2.fetch_add(1, std::sync::atomic::Ordering::Relaxed)));
        self.0.alloc(elem, len + first)?.window(first, len)
    }
    fn write(&self, dst: &Buf, src: Host<'_>) -> etude::Result<()> {
        self.0.write(dst, src)
    }
    fn read(&self, src: &Buf, dst: HostMut<'_>) -> etude::Result<()> {
        self.0.read(src, dst)
    }
    fn compile(&self, launches: Vec<Launch>) -> etude::Result<Box<dyn Plan>> {
        self.0.compile(launches)
    }
}
