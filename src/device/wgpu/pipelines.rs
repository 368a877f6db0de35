//! Shader modules, layouts and pipelines: made at first use, kept by the device.

use super::shaders::{self, Entry};
use super::shared::{Pipelines, Shared, fault};
use crate::Result;
use crate::kernel::{Kernel, Params};
use crate::kernels::source::Shader;
use wgpu::{
    BindGroupLayoutDescriptor, BindGroupLayoutEntry, BindingType, BufferBindingType, BufferSize, ShaderStages,
};

fn layout_entry(
    binding: u32,
    ty: BufferBindingType,
    dynamic: bool,
    size: Option<u64>,
) -> BindGroupLayoutEntry {
    BindGroupLayoutEntry {
        binding,
        visibility: ShaderStages::COMPUTE,
        ty: BindingType::Buffer {
            ty,
            has_dynamic_offset: dynamic,
            min_binding_size: size.and_then(BufferSize::new),
        },
        count: None,
    }
}

impl Pipelines {
    pub(super) fn params(&mut self, shared: &Shared) -> Result<wgpu::BindGroupLayout> {
        if let Some(layout) = &self.params {
            return Ok(layout.clone());
        }
        let layout = shared.guarded("params", || {
            shared.device.create_bind_group_layout(&BindGroupLayoutDescriptor {
                label: Some("params"),
                entries: &[layout_entry(0, BufferBindingType::Uniform, true, Some(Params::MAX_BYTES as u64))],
            })
        })?;
        self.params = Some(layout.clone());
        Ok(layout)
    }

    /// The layouts of an entry point: group 0 holds the buffers that it uses, not the row's others.
    fn layout(
        &mut self,
        shared: &Shared,
        entry: &'static Entry,
    ) -> Result<(wgpu::BindGroupLayout, wgpu::PipelineLayout)> {
        if let Some(layouts) = self.layouts.get(entry.name.as_str()) {
            return Ok(layouts.clone());
        }
        let limit = shared.limits.max_storage_buffers_per_shader_stage as usize;
        if entry.storage.len() > limit {
            return Err(fault(format!(
                "{} takes {} buffers, {} at most {limit}: train on the CPU",
                entry.name,
                entry.storage.len(),
                shared.name
            )));
        }
        let threads: u32 = entry.workgroup.iter().product();
        for (what, wants, has) in [
            ("threads", threads, shared.limits.max_compute_invocations_per_workgroup),
            // wgpu does not look at this one.
            ("bytes of memory", entry.workgroup_bytes, shared.limits.max_compute_workgroup_storage_size),
        ] {
            if wants > has {
                return Err(fault(format!(
                    "{} takes workgroups of {wants} {what}, {} was requested with {has} at most: request the device with \
                     WebGPU's default limits, or train on the CPU",
                    entry.name, shared.name
                )));
            }
        }
        let params = self.params(shared)?;
        let entries: Vec<_> = entry
            .storage
            .iter()
            .map(|s| {
                let ty = BufferBindingType::Storage { read_only: !s.written };
                layout_entry(s.binding, ty, false, None)
            })
            .collect();
        let label = Some(entry.name.as_str());
        let made = shared.guarded(&entry.name, || {
            let group = shared
                .device
                .create_bind_group_layout(&BindGroupLayoutDescriptor { label, entries: &entries });
            let pipeline = shared.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label,
                bind_group_layouts: &[Some(&group), Some(&params)],
                immediate_size: 0,
            });
            (group, pipeline)
        })?;
        self.layouts.insert(&entry.name, made.clone());
        Ok(made)
    }

    fn module(&mut self, shared: &Shared, shader: &'static Shader) -> Result<wgpu::ShaderModule> {
        let key = (shader.stem, shader.stored);
        if let Some(module) = self.modules.get(&key) {
            return Ok(module.clone());
        }
        let module = compile_module(shared, shader.stem, &shader.source)?;
        self.modules.insert(key, module.clone());
        Ok(module)
    }

    /// The entry point and pipeline of a kernel's stage, with overrides taken from `params`.
    pub(super) fn pipeline(
        &mut self,
        shared: &Shared,
        kernel: &'static Kernel,
        stage: usize,
        params: &Params,
    ) -> Result<(&'static Entry, wgpu::BindGroupLayout, wgpu::ComputePipeline)> {
        let shader =
            kernel.wgsl().ok_or_else(|| fault(format!("{} has no shader: train on the CPU", kernel.name)))?;
        let (stem, stored) = (shader.stem, shader.stored);
        let name = kernel.wgsl_entry(stage);
        let entry = shaders::entries(shader)?
            .iter()
            .find(|e| e.name == name)
            .ok_or_else(|| fault(format!("shaders/{stem}.wgsl has no entry point {name}")))?;
        if let Some(why) = shaders::mismatch(kernel, entry) {
            return Err(fault(format!("{name}: shader and row disagree: {why}")));
        }
        let constants = kernel.wgsl_constants(params);
        let key = (name.clone(), stored, constants.iter().map(|c| c.1.to_bits()).collect::<Vec<_>>());
        let (group, layout) = self.layout(shared, entry)?;
        if let Some(pipeline) = self.pipelines.get(&key) {
            return Ok((entry, group, pipeline.clone()));
        }
        let module = self.module(shared, shader)?;
        let pipeline = shared.guarded(&name, || {
            shared.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&name),
                layout: Some(&layout),
                module: &module,
                entry_point: Some(&name),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &constants,
                    zero_initialize_workgroup_memory: false,
                },
                cache: None,
            })
        })?;
        self.pipelines.insert(key, pipeline.clone());
        Ok((entry, group, pipeline))
    }
}

fn compile_module(shared: &Shared, stem: &str, source: &str) -> Result<wgpu::ShaderModule> {
    let descriptor =
        wgpu::ShaderModuleDescriptor { label: Some(stem), source: wgpu::ShaderSource::Wgsl(source.into()) };
    let checks =
        wgpu::ShaderRuntimeChecks { force_loop_bounding: false, ..wgpu::ShaderRuntimeChecks::checked() };
    shared.guarded(stem, || {
        // SAFETY: only the counters that end endless loops are left out; the loops of our shaders are
        // bounded by the params. Indices stay checked.
        unsafe { shared.device.create_shader_module_trusted(descriptor, checks) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::wgpu::{Select, Wgpu};

    #[test]
    fn a_shader_that_does_not_compile_is_an_error() {
        let device = Wgpu::new(&Select::Software).unwrap();
        let bad = "@compute @workgroup_size(256) fn f() { let x: f32 = 1u; }";
        let error = compile_module(&device.shared, "bad", bad).unwrap_err().to_string();
        assert!(error.contains("bad") && error.contains("1u"), "{error}");
        // The device goes on.
        assert!(compile_module(&device.shared, "good", "@compute @workgroup_size(1) fn f() {}").is_ok());
    }
}
