//! Which cards there are, and whether they can be used.

use super::compile::{Origin, origin};
use super::fault::{explain, fault};
use super::library;
use crate::Result;
use cudarc::driver::sys::{self, CUdevice_attribute as Attribute};
use cudarc::driver::{CudaContext, result};
use std::sync::Arc;

/// The oldest driver, by the CUDA version that it brings.
pub(super) const OLDEST_DRIVER: (u32, u32) = (12, 0);

/// The oldest cards, by compute capability: the kernels copy to shared memory asynchronously and multiply bf16.
const OLDEST_CARD: (u32, u32) = (8, 0);

/// A card, and whether it can be used.
#[derive(Debug, Clone)]
pub struct CardReport {
    /// What [`Cuda::new`](super::Cuda::new) takes; `CUDA_VISIBLE_DEVICES` decides which cards are counted.
    pub ordinal: usize,
    /// Name, as the driver gives it.
    pub name: String,
    /// Compute capability: major, minor.
    pub capability: (u32, u32),
    /// Its memory in bytes.
    pub memory: usize,
    /// Its second-level cache in bytes.
    pub l2: usize,
    /// The newest CUDA version that the driver runs.
    pub driver: (u32, u32),
    /// Where its kernels come from.
    pub origin: Origin,
    /// Why it cannot be used, if so.
    pub unusable: Option<String>,
}

/// Every NVIDIA card that the driver shows.
///
/// # Errors
/// When there is no driver, it is too old or it fails; the text says what to do.
pub fn cards() -> Result<Vec<CardReport>> {
    let driver = driver()?;
    let count = result::device::get_count().map_err(|e| fault(explain("counting cards", e)))?;
    (0..count as usize).map(|ordinal| report(ordinal, driver)).collect()
}

pub(super) fn report(ordinal: usize, driver: (u32, u32)) -> Result<CardReport> {
    let ask = || {
        let card = result::device::get(ordinal as i32)?;
        // SAFETY: the handle is the driver's own.
        let attribute = |a| unsafe { result::device::get_attribute(card, a) }.map(|v| v as u32);
        let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        // SAFETY: as above.
        let memory = unsafe { result::device::total_mem(card) }?;
        let l2 = attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)? as usize;
        Ok((result::device::get_name(card)?, (major, minor), memory, l2))
    };
    let (name, capability, memory, l2) = ask().map_err(|e| fault(explain("asking for a card", e)))?;
    let unusable = too_old(capability);
    Ok(CardReport { ordinal, name, capability, memory, l2, driver, origin: origin(driver), unusable })
}

fn too_old(capability: (u32, u32)) -> Option<String> {
    let ((major, minor), (needs, _)) = (capability, OLDEST_CARD);
    (capability < OLDEST_CARD).then(|| {
        format!(
            "compute capability {major}.{minor}, the kernels need {needs}.0 (Ampere) or newer: use the WGSL device or \
             the CPU"
        )
    })
}

/// Starts the driver; the CUDA version that it brings.
pub(super) fn driver() -> Result<(u32, u32)> {
    if !library::is_driver_present() {
        return Err(fault(
            "no NVIDIA driver here (libcuda is not found): install it, or use the WGSL device or the CPU",
        ));
    }
    library::check_driver_first()?;
    let mut version = 0;
    // SAFETY: the pointer is valid.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }
        .result()
        .map_err(|e| fault(explain("asking for the driver's version", e)))?;
    let version = (version as u32 / 1000, version as u32 % 1000 / 10);
    check_driver(version)?;
    // After the version: an old driver lacks what is called in a new one, and is to be updated, not mended.
    library::check_driver()?;
    result::init().map_err(|e| fault(explain("starting the driver", e)))?;
    Ok(version)
}

fn check_driver(version: (u32, u32)) -> Result<()> {
    let ((has, has_minor), (major, minor)) = (version, OLDEST_DRIVER);
    if version < OLDEST_DRIVER {
        return Err(fault(format!(
            "the NVIDIA driver is for CUDA {has}.{has_minor}, {major}.{minor} is the oldest that will do: update the driver, or \
             use the CPU"
        )));
    }
    Ok(())
}

/// The primary context of a card that can be used.
pub(super) fn context(ordinal: usize) -> Result<Arc<CudaContext>> {
    let all = cards()?;
    let Some(card) = all.get(ordinal) else {
        let names = all.iter().map(|c| format!("{} {}", c.ordinal, c.name)).collect::<Vec<_>>();
        let names = if names.is_empty() { "none".into() } else { names.join(", ") };
        return Err(fault(format!("no card {ordinal}; there are: {names}")));
    };
    usable(card)?;
    CudaContext::new(ordinal).map_err(|e| fault(format!("{}: {}", card.name, explain("starting", e))))
}

pub(super) fn usable(card: &CardReport) -> Result<()> {
    match &card.unusable {
        Some(why) => Err(fault(format!("{} cannot be used: {why}", card.name))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_cards_that_are_too_old_are_named_with_advice() {
        assert!(check_driver((12, 0)).is_ok() && check_driver((13, 1)).is_ok());
        let text = check_driver((11, 8)).unwrap_err().to_string();
        assert!(text.contains("11.8") && text.contains("12.0") && text.contains("update"), "{text}");
        assert_eq!([(8, 0), (8, 9), (9, 0), (12, 1)].map(too_old), [None, None, None, None]);
        let text = too_old((7, 5)).unwrap();
        assert!(text.contains("7.5") && text.contains("the CPU"), "{text}");
    }
}
