//! The CUDA devices that tests run on: the sources on the CPU (feature `cuda-on-cpu`), and a card (feature `cuda-on-card`).

use etude::device::Device;

/// Every one of them, of its own: devices run one step at a time.
pub fn devices() -> Vec<Box<dyn Device>> {
    vec![
        #[cfg(feature = "cuda-on-cpu")]
        Box::new(etude::device::cuda::CudaOnCpu::new().unwrap()),
        #[cfg(feature = "cuda-on-card")]
        Box::new(etude::device::cuda::Cuda::new(0).unwrap()),
    ]
}
