//! Where to compute.

use crate::{json, thrown};
use etude::device::wgpu::Select;
use etude::device::{Cpu, Device, Wgpu};
use serde::Serialize;
use wasm_bindgen::prelude::*;

/// The GPU through WebGPU, or the processor.
#[wasm_bindgen]
pub struct Processor {
    pub(crate) device: Box<dyn Device>,
    about: About,
}

#[derive(Serialize)]
struct About {
    /// `wgpu` or `cpu`.
    device: String,
    /// Whether it is no GPU, but a program on the processor that stands in for one.
    software: bool,
}

#[wasm_bindgen]
impl Processor {
    /// The processor, on one thread, with SIMD128.
    pub fn cpu() -> Result<Self, JsError> {
        let device = Box::new(Cpu::<f32>::new(1).map_err(thrown)?);
        let about = About { device: device.name(), software: false };
        Ok(Self { device, about })
    }

    /// The GPU that the browser offers; where it has none, the program that stands in for one.
    pub async fn gpu() -> Result<Self, JsError> {
        let device = match Wgpu::new_async(&Select::Auto).await {
            Ok(device) => device,
            Err(_) => Wgpu::new_async(&Select::Software).await.map_err(thrown)?,
        };
        let about = About { device: device.name(), software: device.is_software() };
        Ok(Self { device: Box::new(device), about })
    }

    /// `{device, software}`.
    pub fn about(&self) -> Result<String, JsError> {
        json(&self.about)
    }
}
