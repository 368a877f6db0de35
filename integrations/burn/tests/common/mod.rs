//! The device under test, and numbers for it.

use burn::tensor::{Device, DeviceKind, Tensor, TensorData};
use std::sync::OnceLock;

/// A software adapter, so that the tests say the same everywhere; autodiff on.
pub fn device() -> Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    let init = || etude_burn::init(Device::wgpu_options().device_kind(DeviceKind::Cpu)).unwrap();
    DEVICE.get_or_init(init).clone().autodiff()
}

/// Standard normal numbers.
pub fn normal(seed: u64, n: usize) -> Vec<f32> {
    etude::cases::normal(seed, n).into_iter().map(|v| v as f32).collect()
}

/// Labels of five bins.
pub fn labels(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 7 % 5) as f32).collect()
}

pub fn tensor<const D: usize>(values: &[f32], shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), &device())
}
