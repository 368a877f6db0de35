//! `etude devices`: what there is to compute on.

use crate::failure::Failure;
use crate::out::say;
use etude::device::Cpu;
#[cfg(feature = "cuda")]
use etude::device::cuda::{CardReport, cards};
#[cfg(feature = "wgpu")]
use etude::device::wgpu::{AdapterReport, adapters};
use etude::simd::Simd;

/// Lists every device, and why one cannot be used.
pub fn list() -> Result<(), Failure> {
    let cpu = Cpu::<f32>::new(0)?;
    say!("cpu      {} threads, {:?}", cpu.threads(), Simd::best());
    #[cfg(feature = "cuda")]
    match cards() {
        Err(why) => say!("{why}"),
        Ok(cards) => cards.iter().for_each(card),
    }
    #[cfg(feature = "wgpu")]
    adapters().iter().for_each(adapter);
    Ok(())
}

#[cfg(feature = "cuda")]
fn card(c: &CardReport) {
    say!("cuda {:>2}  {}", c.ordinal, c.name);
    say!(
        "         compute capability {}.{}, {} MiB, driver for CUDA {}.{}, kernels {}",
        c.capability.0,
        c.capability.1,
        c.memory >> 20,
        c.driver.0,
        c.driver.1,
        c.origin
    );
    if let Some(why) = &c.unusable {
        say!("         cannot be used: {why}");
    }
}

#[cfg(feature = "wgpu")]
fn adapter(a: &AdapterReport) {
    say!("wgpu {:>2}  {} ({}, {}, {})", a.index, a.name, a.backend, a.kind, a.driver);
    say!(
        "         largest buffer {} MiB, {} KiB workgroup memory, {} threads a workgroup, {} storage buffers; {}",
        a.max_buffer >> 20,
        a.workgroup_memory >> 10,
        a.workgroup_threads,
        a.storage_buffers,
        if a.features.is_empty() { "no optional features".into() } else { a.features.join(", ") }
    );
    if let Some(why) = &a.unusable {
        say!("         cannot be used: {why}");
    } else if a.is_software() {
        say!("         computes on the processor: taken only when ETUDE_ADAPTER names it");
    }
}
