//! A kernel of this crate on a runtime that is not this crate's: bare wgpu launches the contrastive loss from the plain data of
//! `etude::kernels`, and a double loop checks it.
//!
//!     cargo run --release --example raw_wgpu

use etude::kernel::{Access, Kernel, Params};
use etude::kernels::contrastive::{ALL, ContrastiveParams, Metric};
use std::num::NonZeroU64;
use std::task::{Context, Poll, Waker};
use wgpu::util::{BufferInitDescriptor, DeviceExt};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const ROWS: usize = 100;
const COLUMNS: usize = 24;
const MARGIN: f32 = 0.5;

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
        std::thread::yield_now();
    }
}

/// Every stage of a kernel, in order: what a runtime has to do, whichever the row.
fn launch(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    kernel: &Kernel,
    params: &Params,
    buffers: &[&wgpu::Buffer],
) -> Result<()> {
    let shader = kernel.wgsl().ok_or("no WGSL twin")?;
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some(shader.stem),
        source: wgpu::ShaderSource::Wgsl(shader.source.as_str().into()),
    });
    let entry = |binding, ty, size| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: size },
        count: None,
    };
    // Group 0: the row's bindings. Group 1: its params.
    let of_row: Vec<_> = (0..)
        .zip(kernel.bindings)
        .map(|(i, b)| entry(i, wgpu::BufferBindingType::Storage { read_only: b.access == Access::In }, None))
        .collect();
    let of_params = entry(0, wgpu::BufferBindingType::Uniform, NonZeroU64::new(kernel.params.bytes() as u64));
    let uniform = device.create_buffer_init(&BufferInitDescriptor {
        label: None,
        contents: params.as_bytes(),
        usage: wgpu::BufferUsages::UNIFORM,
    });
    let groups = [(of_row, buffers), (vec![of_params], &[&uniform][..])].map(|(entries, buffers)| {
        let layout = device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
        let entries: Vec<_> = (0..)
            .zip(buffers)
            .map(|(binding, b)| wgpu::BindGroupEntry { binding, resource: b.as_entire_binding() })
            .collect();
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &layout,
            entries: &entries,
        });
        (layout, group)
    });
    let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &[Some(&groups[0].0), Some(&groups[1].0)],
        immediate_size: 0,
    });
    let constants = kernel.wgsl_constants(params);

    let mut encoder = device.create_command_encoder(&Default::default());
    {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_bind_group(0, &groups[0].1, &[]);
        pass.set_bind_group(1, &groups[1].1, &[]);
        for (stage, count) in kernel.workgroups.iter().enumerate() {
            let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(kernel.name),
                layout: Some(&layout),
                module: &module,
                entry_point: Some(&kernel.wgsl_entry(stage)),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &constants,
                    ..Default::default()
                },
                cache: None,
            });
            pass.set_pipeline(&pipeline);
            let [x, y, z] = count(params);
            pass.dispatch_workgroups(x, y, z); // short enough here that x needs no folding
        }
    }
    queue.submit([encoder.finish()]);
    Ok(())
}

fn main() -> Result<()> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapter = block_on(instance.request_adapter(&Default::default()))?;
    let (device, queue) = block_on(adapter.request_device(&Default::default()))?;

    let z: Vec<f32> = (0..ROWS * COLUMNS).map(|i| (0.37 * i as f32).sin()).collect();
    let labels: Vec<f32> = (0..ROWS).map(|i| (i % 5) as f32).collect();
    let p = ContrastiveParams {
        n: ROWS as u32,
        m: 0,
        d: COLUMNS as u32,
        metric: Metric::Euclidean as u32,
        margin: MARGIN,
        tau: 0.0,
        weight: 1.0,
        weighted: 0,
        grad_scale: 1.0,
    };
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
    let upload = |values: &[f32]| {
        device.create_buffer_init(&BufferInitDescriptor {
            label: None,
            contents: bytemuck::cast_slice(values),
            usage,
        })
    };
    let empty = |len: usize| {
        let size = 4 * len as u64;
        device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    };
    let (z_buffer, labels_buffer) = (upload(&z), upload(&labels));
    let (loss, dz, part) = (empty(1), empty(z.len()), empty(p.parts().wgsl));
    // No weights: the row takes any buffer in their place.
    let buffers = [&z_buffer, &labels_buffer, &labels_buffer, &loss, &dz, &part];
    launch(&device, &queue, &ALL, &Params::new(&p), &buffers)?;

    let read = |buffer: &wgpu::Buffer| -> Result<Vec<f32>> {
        let (sender, receiver) = std::sync::mpsc::channel();
        wgpu::util::DownloadBuffer::read_buffer(&device, &queue, &buffer.slice(..), move |bytes| {
            // The receiver waits below.
            let _ = sender.send(bytes.map(|b| bytemuck::pod_collect_to_vec(&b)));
        });
        device.poll(wgpu::PollType::wait_indefinitely())?;
        Ok(receiver.recv()??)
    };
    let (loss, dz) = (read(&loss)?[0], read(&dz)?);
    let (wanted, gradient) = definition(&z, &labels);
    let (mut error, mut norm) = (0.0, 0.0);
    for (&g, w) in dz.iter().zip(&gradient) {
        (error, norm) = (error + (f64::from(g) - w).powi(2), norm + w * w);
    }
    let error = (error / norm).sqrt().max((f64::from(loss) / wanted - 1.0).abs());
    println!("{}: loss {loss}, relative error {error:.1e}", adapter.get_info().name);
    // f32 sums of at most 100 terms.
    if error.is_nan() || error > 1e-5 {
        return Err(format!("the loss is {wanted}").into());
    }
    Ok(())
}

/// The loss and its gradient as they are defined, in f64.
fn definition(z: &[f32], labels: &[f32]) -> (f64, Vec<f64>) {
    let pairs = (ROWS * (ROWS - 1) / 2) as f64;
    let (mut loss, mut gradient) = (0.0, vec![0.0; z.len()]);
    for (i, a) in z.chunks(COLUMNS).enumerate() {
        for (j, b) in z.chunks(COLUMNS).enumerate().take(i) {
            let difference: Vec<f64> = a.iter().zip(b).map(|(a, b)| f64::from(a - b)).collect();
            let distance = difference.iter().map(|v| v * v).sum::<f64>().sqrt();
            let apart = f64::from((labels[i] - labels[j]).abs());
            let short = (f64::from(MARGIN) * apart - distance).max(0.0);
            let (cost, slope) = if apart == 0.0 {
                (distance * distance / 2.0, distance)
            } else {
                (short * short / 2.0, -short)
            };
            loss += cost / pairs;
            for (k, v) in difference.iter().enumerate().filter(|_| distance > 0.0) {
                gradient[i * COLUMNS + k] += slope * v / distance / pairs;
                gradient[j * COLUMNS + k] -= slope * v / distance / pairs;
            }
        }
    }
    (loss, gradient)
}
