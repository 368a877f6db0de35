//! What is measured.

use crate::args::DeviceName;
#[cfg(feature = "cuda")]
use crate::device::cuda;
use etude::Result;
#[cfg(feature = "cuda")]
use etude::device::Cuda;
#[cfg(feature = "wgpu")]
use etude::device::wgpu::{AdapterReport, Select, Wgpu, adapters};
use etude::device::{Cpu, Device};
use etude::kernel::Cost;
use etude::simd::Simd;
use serde_json::{Value, json};

/// A device, and what only its own type says.
pub enum Target {
    Cpu(Cpu<f32>),
    #[cfg(feature = "cuda")]
    Cuda(Cuda),
    #[cfg(feature = "wgpu")]
    Wgpu(Wgpu, Option<AdapterReport>),
}

impl Target {
    /// Opens the device of that name; `threads` are the CPU's.
    pub fn open(name: DeviceName, threads: usize) -> Result<Self> {
        match name {
            DeviceName::Cpu => Ok(Self::Cpu(Cpu::new(threads)?)),
            #[cfg(feature = "cuda")]
            DeviceName::Cuda => Ok(Self::Cuda(cuda()?)),
            #[cfg(feature = "wgpu")]
            DeviceName::Wgpu => {
                let device = Wgpu::new(&Select::Auto)?;
                let report = adapters().into_iter().find(|a| a.name == device.adapter_name());
                Ok(Self::Wgpu(device, report))
            }
            DeviceName::Auto => {
                #[cfg(feature = "cuda")]
                if let Ok(target) = Self::open(DeviceName::Cuda, threads) {
                    return Ok(target);
                }
                #[cfg(feature = "wgpu")]
                if let Ok(target) = Self::open(DeviceName::Wgpu, threads) {
                    return Ok(target);
                }
                Self::open(DeviceName::Cpu, threads)
            }
        }
    }

    pub fn device(&self) -> &dyn Device {
        match self {
            Self::Cpu(device) => device,
            #[cfg(feature = "cuda")]
            Self::Cuda(device) => device,
            #[cfg(feature = "wgpu")]
            Self::Wgpu(device, _) => device,
        }
    }

    /// The CPU, if it is that.
    pub fn cpu(&self) -> Option<&Cpu<f32>> {
        match self {
            Self::Cpu(device) => Some(device),
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => None,
            #[cfg(feature = "wgpu")]
            Self::Wgpu(..) => None,
        }
    }

    /// Whether it is a GPU, and no program that plays one.
    pub fn is_card(&self) -> bool {
        match self {
            Self::Cpu(_) => false,
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => true,
            #[cfg(feature = "wgpu")]
            Self::Wgpu(device, _) => !device.is_software(),
        }
    }

    /// What is done here for that cost.
    pub fn cost(&self, cost: Cost) -> Cost {
        if matches!(self, Self::Cpu(_)) { cost.on_cpu() } else { cost }
    }

    /// Whether a launch is timed by the device's own clock, one by one; else a list of them by the host's.
    pub fn has_clock(&self) -> bool {
        match self {
            #[cfg(feature = "wgpu")]
            Self::Wgpu(_, report) => report.as_ref().is_some_and(|r| r.features.contains(&"timestamps")),
            _ => false,
        }
    }

    /// Bytes that inputs must go beyond for a launch to find nothing of them in the cache; 0 to leave them, where nobody says how
    /// large it is.
    pub fn cache(&self) -> usize {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda(device) => device.card().l2,
            _ => 0,
        }
    }

    /// Bytes of the card's memory that are in use, by anybody; 0 where that cannot be asked.
    pub fn used(&self) -> Result<usize> {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda(device) => device.memory_in_use(),
            _ => Ok(0),
        }
    }

    /// The device for people: what it is called, then what is known of it.
    pub fn title(&self) -> (String, String) {
        match self {
            Self::Cpu(device) => {
                (format!("CPU, {} threads", device.threads()), format!("{:?} instructions", Simd::best()))
            }
            #[cfg(feature = "cuda")]
            Self::Cuda(device) => {
                let card = device.card();
                let (major, minor) = card.driver;
                let about = format!("CUDA, driver for {major}.{minor}, kernels {}", card.origin);
                (card.name.clone(), about)
            }
            #[cfg(feature = "wgpu")]
            Self::Wgpu(device, report) => {
                let about = report.as_ref().map_or_else(String::new, |r| {
                    let features = if r.features.is_empty() { "none".into() } else { r.features.join(", ") };
                    format!("{}, {}, {}, features: {features}", r.backend, r.kind, r.driver)
                });
                (device.adapter_name().to_string(), about)
            }
        }
    }

    pub fn info(&self) -> Value {
        let mut info = json!({"version": env!("CARGO_PKG_VERSION"), "build": env!("ETUDE_BUILD")});
        let more = match self {
            Self::Cpu(device) => json!({"device": "cpu", "threads": device.threads()}),
            #[cfg(feature = "cuda")]
            Self::Cuda(device) => {
                let card = device.card();
                json!({"device": "cuda", "card": card.name, "capability": card.capability, "memory": card.memory,
                       "l2": card.l2, "driver_cuda": card.driver, "kernels": card.origin.to_string()})
            }
            #[cfg(feature = "wgpu")]
            Self::Wgpu(device, report) => {
                let (driver, backend) = report.as_ref().map_or(("", ""), |r| (&r.driver, &r.backend));
                json!({"device": "wgpu", "card": device.adapter_name(), "driver": driver, "backend": backend,
                       "software": device.is_software()})
            }
        };
        if let (Value::Object(info), Value::Object(more)) = (&mut info, more) {
            info.extend(more);
        }
        info
    }
}
