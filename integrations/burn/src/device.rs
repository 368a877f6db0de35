//! One wgpu device for burn and for Etude.

use burn::backend::DispatchDevice;
use burn::tensor::Device;
use burn::tensor::wgpu::{WgpuOptions, WgpuSetup};
use burn_cubecl::CubeDevice;
use etude::device::wgpu::Wgpu;
use etude::{Error, Result};
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

/// Etude's side of the devices of burn's that were shared.
static SHARED: LazyLock<Mutex<HashMap<CubeDevice, Wgpu>>> = LazyLock::new(Mutex::default);

fn fault(message: impl Into<String>) -> Error {
    Error::device("burn", message)
}

/// Starts burn's wgpu runtime as `options` say and [shares](share) it. The first thing to do with a device: a runtime that
/// burn has started already cannot be asked for its queue.
///
/// # Errors
/// When burn cannot start the runtime, or has done so before.
pub fn init(options: WgpuOptions) -> Result<Device> {
    let (device, setup) = options.init_with_setup().map_err(|e| fault(e.to_string()))?;
    share(&device, &setup)?;
    Ok(device)
}

/// Lets kernels run on tensors of `device`, whose wgpu device and queue are those of `setup`: what burn's
/// `init_with_setup` gave with it, or what it was made from with `WgpuOptions::setup`.
///
/// # Errors
/// When `device` is none of wgpu's.
pub fn share(device: &Device, setup: &WgpuSetup) -> Result<()> {
    let key = cube(device).ok_or_else(|| fault(format!("{device:?} is no wgpu device")))?;
    let wgpu = Wgpu::from_parts(&setup.adapter, setup.device.clone(), setup.queue.clone());
    SHARED.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), wgpu);
    Ok(())
}

/// The wgpu device behind burn's.
fn cube(device: &Device) -> Option<&CubeDevice> {
    let device = match device.as_dispatch() {
        DispatchDevice::Autodiff(device) => device,
        device => device,
    };
    match device {
        DispatchDevice::Cube(device @ CubeDevice::Wgpu(_)) => Some(device),
        _ => None,
    }
}

/// Etude's side of a device.
pub(crate) fn shared(device: &CubeDevice) -> Result<Wgpu> {
    let shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.get(device).cloned().ok_or_else(|| {
        fault(format!("{device:?} is not shared: make it with etude_burn::init, or call etude_burn::share"))
    })
}

/// Whether kernels can run where a tensor is.
pub(crate) fn check(device: &Device) -> Result<()> {
    let device = cube(device).ok_or_else(|| {
        fault(format!(
            "a tensor is on {device:?}, the kernels run on wgpu: make it on a device of etude_burn::init"
        ))
    })?;
    shared(device).map(drop)
}
