//! Which adapters there are and which one is taken.

use crate::device::pending::block_on;
use crate::{Error, Result};
use wgpu::{
    Adapter, AdapterInfo, Backends, DeviceType, DownlevelFlags, Instance, InstanceDescriptor, InstanceFlags,
    Limits, PowerPreference, RequestAdapterOptions,
};

/// The environment variable that selects an adapter, by a part of its name or by index.
pub const ADAPTER_VARIABLE: &str = "ETUDE_ADAPTER";

/// Which adapter to take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Select {
    /// What `ETUDE_ADAPTER` says; else the best hardware, and never a software adapter. In a browser the GPU that it offers.
    #[default]
    Auto,
    /// The adapter with this index in [`adapters`], or whose name contains this, in any case.
    Adapter(String),
    /// A software adapter: to check results, not for speed.
    Software,
}

/// An adapter and whether it can be used.
#[derive(Debug, Clone)]
pub struct AdapterReport {
    /// What `ETUDE_ADAPTER` takes besides the name.
    pub index: usize,
    /// Name, as the driver gives it.
    pub name: String,
    /// `vulkan`, `metal` or `dx12`; in a browser `webgpu`.
    pub backend: String,
    /// Driver and its version.
    pub driver: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    pub kind: &'static str,
    /// Largest buffer that a kernel can be given, in bytes.
    pub max_buffer: u64,
    /// Workgroup memory in bytes.
    pub workgroup_memory: u32,
    /// Most threads of a workgroup.
    pub workgroup_threads: u32,
    /// Most storage buffers of a kernel.
    pub storage_buffers: u32,
    /// Optional features that it has: `f16`, `timestamps`, `subgroups`.
    pub features: Vec<&'static str>,
    /// Why it cannot be used, if so.
    pub unusable: Option<String>,
}

impl AdapterReport {
    /// Whether it computes on the processor.
    pub fn is_software(&self) -> bool {
        self.kind == "software"
    }
}

/// The backends that the kernels are written for.
const BACKENDS: Backends =
    Backends::VULKAN.union(Backends::METAL).union(Backends::DX12).union(Backends::BROWSER_WEBGPU);

/// An instance of the backends. Debug builds hand the driver what release builds do: wgpu would
/// add source lines to a shader, and drivers compile a tenth longer. `WGPU_DEBUG` and `WGPU_VALIDATION` ask for that.
pub(super) fn instance() -> Instance {
    Instance::new(InstanceDescriptor {
        backends: BACKENDS,
        flags: InstanceFlags::empty().with_env(),
        ..InstanceDescriptor::new_without_display_handle()
    })
}

/// A browser has one adapter for whoever asks, and takes a wish.
async fn enumerate(instance: &Instance) -> Vec<Adapter> {
    if cfg!(target_family = "wasm") {
        let power_preference = PowerPreference::HighPerformance;
        let options = RequestAdapterOptions { power_preference, ..Default::default() };
        return instance.request_adapter(&options).await.into_iter().collect();
    }
    instance.enumerate_adapters(BACKENDS).await
}

/// WebGPU's default limits in what compute shaders need, but buffers as large as the adapter takes.
pub(super) fn limits(has: &Limits) -> Limits {
    let web = Limits::default();
    Limits {
        max_bind_groups: web.max_bind_groups,
        max_storage_buffers_per_shader_stage: web.max_storage_buffers_per_shader_stage,
        min_uniform_buffer_offset_alignment: web.min_uniform_buffer_offset_alignment,
        min_storage_buffer_offset_alignment: web.min_storage_buffer_offset_alignment,
        max_compute_workgroup_storage_size: web.max_compute_workgroup_storage_size,
        max_compute_invocations_per_workgroup: web.max_compute_invocations_per_workgroup,
        max_compute_workgroup_size_x: web.max_compute_workgroup_size_x,
        max_compute_workgroup_size_y: web.max_compute_workgroup_size_y,
        max_compute_workgroup_size_z: web.max_compute_workgroup_size_z,
        max_compute_workgroups_per_dimension: web.max_compute_workgroups_per_dimension,
        ..has.clone()
    }
}

/// Why kernels cannot run on an adapter of these limits and abilities, if so.
fn unusable(has: &Limits, flags: DownlevelFlags) -> Option<String> {
    if !flags.contains(DownlevelFlags::COMPUTE_SHADERS) {
        return Some("has no compute shaders".into());
    }
    let mut missing = Vec::new();
    limits(has).check_limits_with_fail_fn(has, false, |name, wanted, has| {
        missing.push(format!("{name} is {has}, the kernels need {wanted}"));
    });
    if missing.is_empty() { None } else { Some(missing.join("; ")) }
}

/// What an adapter is called; browsers rather don't say.
pub(super) fn name(info: &AdapterInfo) -> String {
    if info.name.is_empty() { "the GPU".into() } else { info.name.clone() }
}

fn report(index: usize, adapter: &Adapter) -> AdapterReport {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    AdapterReport {
        index,
        name: name(&info),
        backend: info.backend.to_str().to_string(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
        kind: match info.device_type {
            DeviceType::DiscreteGpu => "discrete",
            DeviceType::IntegratedGpu => "integrated",
            DeviceType::VirtualGpu => "virtual",
            DeviceType::Cpu => "software",
            DeviceType::Other => "other",
        },
        max_buffer: limits.max_buffer_size.min(limits.max_storage_buffer_binding_size),
        workgroup_memory: limits.max_compute_workgroup_storage_size,
        workgroup_threads: limits.max_compute_invocations_per_workgroup,
        storage_buffers: limits.max_storage_buffers_per_shader_stage,
        features: [
            (wgpu::Features::SHADER_F16, "f16"),
            (wgpu::Features::TIMESTAMP_QUERY, "timestamps"),
            (wgpu::Features::SUBGROUP, "subgroups"),
        ]
        .into_iter()
        .filter(|(f, _)| features.contains(*f))
        .map(|(_, name)| name)
        .collect(),
        unusable: unusable(&limits, adapter.get_downlevel_capabilities().flags),
    }
}

/// Every adapter that Vulkan, Metal or DX12 offers, in the order that `ETUDE_ADAPTER` counts. In a browser none: it is asked for
/// one alone, by [`Wgpu::new_async`](super::Wgpu::new_async).
pub fn adapters() -> Vec<AdapterReport> {
    let all = block_on(async { Ok(enumerate(&instance()).await) }).unwrap_or_default();
    all.iter().enumerate().map(|(i, a)| report(i, a)).collect()
}

/// Takes an adapter of the instance's.
pub(super) async fn choose(instance: &Instance, select: &Select) -> Result<(Adapter, AdapterReport)> {
    let variable = std::env::var(ADAPTER_VARIABLE).ok().filter(|v| !v.is_empty());
    let select = match (select, variable) {
        (Select::Auto, Some(wanted)) => Select::Adapter(wanted),
        (select, _) => select.clone(),
    };
    let mut all: Vec<_> = enumerate(instance)
        .await
        .into_iter()
        .enumerate()
        .map(|(i, a)| {
            let r = report(i, &a);
            (a, r)
        })
        .collect();
    let list = all.iter().map(|(_, r)| format!("{} {} ({})", r.index, r.name, r.kind)).collect::<Vec<_>>();
    let list = if list.is_empty() { "none".into() } else { list.join(", ") };
    let rank = |r: &AdapterReport| match r.kind {
        "discrete" => 0,
        "integrated" => 1,
        "virtual" => 2,
        _ => 3,
    };
    let found = match &select {
        Select::Auto => all
            .iter()
            .filter(|(_, r)| !r.is_software())
            .min_by_key(|(_, r)| (r.unusable.is_some(), rank(r)))
            .map(|(_, r)| r.index),
        Select::Software => all.iter().find(|(_, r)| r.is_software()).map(|(_, r)| r.index),
        Select::Adapter(wanted) => match wanted.parse::<usize>() {
            Ok(index) => (index < all.len()).then_some(index),
            Err(_) => all
                .iter()
                .filter(|(_, r)| r.name.to_lowercase().contains(&wanted.to_lowercase()))
                .min_by_key(|(_, r)| r.unusable.is_some())
                .map(|(_, r)| r.index),
        },
    };
    let Some(found) = found else {
        let advice = match &select {
            _ if cfg!(target_family = "wasm") => {
                "this browser has no such adapter for WebGPU: use the CPU".into()
            }
            Select::Auto => format!(
                "no hardware adapter: install a Vulkan driver, use the CPU, or name a software adapter in \
                 {ADAPTER_VARIABLE}"
            ),
            Select::Software => "no software adapter: install Mesa's (Debian: mesa-vulkan-drivers)".into(),
            Select::Adapter(wanted) => format!("no adapter is called or numbered `{wanted}`"),
        };
        return Err(Error::device("wgpu", format!("{advice}; there are: {list}")));
    };
    let (adapter, report) = all.swap_remove(found);
    match &report.unusable {
        Some(why) => Err(Error::device(
            "wgpu",
            format!(
                "{} cannot be used: {why}; update its driver, name another adapter in {ADAPTER_VARIABLE}, or use \
                 the CPU; there are: {list}",
                report.name
            ),
        )),
        None => Ok((adapter, report)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_without_what_kernels_need_says_so() {
        let (web, all) = (Limits::default(), DownlevelFlags::all());
        assert_eq!(unusable(&web, all), None);
        let why = unusable(&web, all - DownlevelFlags::COMPUTE_SHADERS).unwrap();
        assert_eq!(why, "has no compute shaders");
        let weak = Limits {
            max_storage_buffers_per_shader_stage: 4,
            max_compute_invocations_per_workgroup: 128,
            min_storage_buffer_offset_alignment: 512,
            ..web.clone()
        };
        let why = unusable(&weak, all).unwrap();
        for part in [
            "max_storage_buffers_per_shader_stage is 4, the kernels need 8",
            "max_compute_invocations_per_workgroup is 128, the kernels need 256",
            "min_storage_buffer_offset_alignment is 512, the kernels need 256",
        ] {
            assert!(why.contains(part), "{why}");
        }
        // What an adapter has beyond the defaults does not matter, but for the size of buffers.
        let strong = Limits { max_buffer_size: 1 << 40, max_compute_invocations_per_workgroup: 1024, ..web };
        assert_eq!(unusable(&strong, all), None);
        let asked = limits(&strong);
        assert_eq!((asked.max_buffer_size, asked.max_compute_invocations_per_workgroup), (1 << 40, 256));
    }
}
