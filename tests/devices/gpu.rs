//! The GPU devices that tests run on: the CUDA sources on the CPU (feature `cuda-on-cpu`) and on a card (feature `cuda-on-card`),
//! and WGSL on a software adapter (Mesa's lavapipe), or on the one that `ETUDE_ADAPTER` names. What is asked for must be there.

use etude::cases::Case;
#[cfg(feature = "wgpu")]
use etude::device::wgpu::{ADAPTER_VARIABLE, Select, Wgpu};
use etude::device::{Buf, Device, Host, HostMut, Launch, Plan};
use etude::kernel::Elem;
use std::ops::Deref;

/// Every one of them; `ETUDE_TEST_DEVICES=wgpu`, which is for tests of another driver, leaves out the CUDA sources, whose part
/// no driver changes. Devices run one step at a time, so who asks gets its own.
pub fn devices() -> Vec<Box<dyn Device>> {
    let devices = std::iter::empty();
    #[cfg(any(feature = "cuda-on-cpu", feature = "cuda-on-card"))]
    let devices = devices.chain(match std::env::var("ETUDE_TEST_DEVICES").as_deref() {
        Ok("wgpu") => Vec::new(),
        _ => cuda(),
    });
    #[cfg(feature = "wgpu")]
    let devices = devices.chain([Box::new(wgpu()) as Box<dyn Device>]);
    devices.collect()
}

/// What runs the CUDA sources.
#[cfg(any(feature = "cuda-on-cpu", feature = "cuda-on-card"))]
pub fn cuda() -> Vec<Box<dyn Device>> {
    vec![
        #[cfg(feature = "cuda-on-cpu")]
        Box::new(etude::device::cuda::CudaOnCpu::new().unwrap()),
        #[cfg(feature = "cuda-on-card")]
        Box::new(etude::device::cuda::Cuda::new(0).unwrap()),
    ]
}

/// Whether `device` can hold what a case stores. WGSL has no bf16, and f16 only where the adapter has it; that the others are
/// refused is for `wgpu_parity` to see.
#[cfg(any(feature = "wgpu", feature = "cuda-on-cpu", feature = "cuda-on-card"))]
pub fn holds(device: &dyn Device, case: &Case) -> bool {
    let wgsl = device.name().starts_with("wgpu");
    !wgsl || [Elem::F16, Elem::Bf16].into_iter().all(|e| !case.stores(e) || device.alloc(e, 1).is_ok())
}

/// The adapter that the caller names, else a software one, so that tests say the same everywhere.
#[cfg(feature = "wgpu")]
pub fn adapter() -> Select {
    if std::env::var_os(ADAPTER_VARIABLE).is_some() { Select::Auto } else { Select::Software }
}

/// The WGSL device on [`adapter`].
#[cfg(feature = "wgpu")]
pub fn wgpu() -> Wgpu {
    Wgpu::new(&adapter()).unwrap_or_else(|e| {
        panic!("{e}\ninstall Mesa's software Vulkan: apt-get install mesa-vulkan-drivers")
    })
}

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
