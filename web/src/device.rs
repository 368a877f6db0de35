//! Where to compute.

use crate::thrown;
use etude::device::wgpu::Select;
use etude::device::{Cpu, Device, Wgpu};
use wasm_bindgen::prelude::*;

/// The GPU through WebGPU, or the processor.
#[wasm_bindgen]
pub struct Processor {
    pub(crate) device: Box<dyn Device>,
    /// Whether it is no GPU, but a program on the processor that stands in for one.
    pub software: bool,
}

#[wasm_bindgen]
impl Processor {
    /// The processor, on one thread, with SIMD128.
    pub fn cpu() -> Result<Self, JsError> {
        Ok(Self { device: Box::new(Cpu::<f32>::new(1).map_err(thrown)?), software: false })
    }

    /// The GPU that the browser offers; where it has none, the program that stands in for one.
    pub async fn gpu() -> Result<Self, JsError> {
        let device = match Wgpu::new_async(&Select::Auto).await {
            Ok(device) => device,
            Err(_) => Wgpu::new_async(&Select::Software).await.map_err(thrown)?,
        };
        Ok(Self { software: device.is_software(), device: Box::new(device) })
    }
}
