//! `etude devices`: what there is to compute on.

use crate::failure::Failure;
use etude::device::Cpu;
#[cfg(feature = "cuda")]
use etude::device::cuda::{CardReport, cards};
#[cfg(feature = "wgpu")]
use etude::device::wgpu::{AdapterReport, adapters};
use etude::simd::Simd;

/// Lists every device, and why one cannot be used.
pub fn list() -> Result<(), Failure> {
    let cpu = Cpu::<f32>::new(0)?;
    println!("cpu      {} threads, {:?}", cpu.threads(), Simd::best());
    #[cfg(feature = "cuda")]
    match cards() {
        Err(why) => println!("{why}"),
        Ok(cards) => cards.iter().for_each(card),
    }
    #[cfg(feature = "wgpu")]
    adapters().iter().for_each(adapter);
    Ok(())
}

#[cfg(feature = "cuda")]
fn card(c: &CardReport) {
    println!("cuda {:>2}  {}", c.ordinal, c.name);
    println!(
        "         compute capability {}.{}, {} MiB, driver for CUDA {}.{}, kernels {}",
        c.capability.0,
        c.capability.1,
        c.memory >> 20,
        c.driver.0,
        c.driver.1,
        c.origin
    );
    if let Some(why) = &c.unusable {
        println!("         cannot be used: {why}");
    }
}

#[cfg(feature = "wgpu")]
fn adapter(a: &AdapterReport) {
    println!("wgpu {:>2}  {} ({}, {}, {})", a.index, a.name, a.backend, a.kind, a.driver);
    println!(
        "         largest buffer {} MiB, {} KiB workgroup memory, {} threads a workgroup, {} storage buffers; {}",
        a.max_buffer >> 20,
        a.workgroup_memory >> 10,
        a.workgroup_threads,
        a.storage_buffers,
        if a.features.is_empty() { "no optional features".into() } else { a.features.join(", ") }
    );
    if let Some(why) = &a.unusable {
        println!("         cannot be used: {why}");
    } else if a.is_software() {
        println!("         computes on the processor: taken only when ETUDE_ADAPTER names it");
    }
}
