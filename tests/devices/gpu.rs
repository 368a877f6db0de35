//! The GPU devices that tests run on: the CUDA sources on the CPU (feature `cuda-on-cpu`) and on a card (feature `cuda-on-card`),
//! and WGSL on a software adapter (Mesa's lavapipe), or on the one that `ETUDE_ADAPTER` names. What is asked for must be there.

#[cfg(any(feature = "wgpu", feature = "cuda-on-cpu", feature = "cuda-on-card"))]
use etude::cases::Case;
use etude::device::Device;
#[cfg(feature = "wgpu")]
use etude::device::wgpu::{ADAPTER_VARIABLE, Select, Wgpu};
#[cfg(any(feature = "wgpu", feature = "cuda-on-cpu", feature = "cuda-on-card"))]
use etude::kernel::Elem;

/// Every one of them; `ETUDE_TEST_DEVICES=wgpu`, which is for tests of another driver, leaves out the CUDA sources, whose part
/// no driver changes, and `ETUDE_TEST_DEVICES=cuda`, which is for tests of those sources, leaves out WGSL. Devices run one step
/// at a time, so who asks gets its own.
pub fn devices() -> Vec<Box<dyn Device>> {
    let devices = std::iter::empty();
    #[cfg(any(feature = "cuda-on-cpu", feature = "cuda-on-card"))]
    let devices = devices.chain(if wanted("cuda") { cuda() } else { Vec::new() });
    #[cfg(feature = "wgpu")]
    let devices = devices.chain(wanted("wgpu").then(|| Box::new(wgpu()) as Box<dyn Device>));
    devices.collect()
}

#[cfg(any(feature = "wgpu", feature = "cuda-on-cpu", feature = "cuda-on-card"))]
fn wanted(device: &str) -> bool {
    std::env::var("ETUDE_TEST_DEVICES").map_or(true, |asked| asked.is_empty() || asked == device)
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
