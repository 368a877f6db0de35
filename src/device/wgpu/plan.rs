//! Compiled lists of launches.

use super::shaders::Entry;
use super::shared::{BYTES, Shared, Submission, USES, Window, fault, lock};
use crate::device::buf::Buf;
use crate::device::interface::Plan;
use crate::device::launch::Launch;
use crate::device::pending::{Pending, block_on};
use crate::kernel::{Access, Kernel, Params};
use crate::{Error, Result};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use wgpu::{BindGroupDescriptor, BindGroupEntry, BindingResource, BufferBinding, BufferSize, BufferUsages};

/// From one launch's params to the next: what every adapter takes as a uniform offset.
const SLOT: u64 = 256;

/// Runs that may be under way at once. With more, the host would only get ahead of itself; but a browser tells of the end of a
/// run milliseconds late, in which a GPU does several.
const IN_FLIGHT: usize = if cfg!(target_family = "wasm") { 16 } else { 2 };

/// Memory that stands in for a window which cannot be bound where it is: an input in the same buffer as an output, or whatever
/// starts between the adapter's alignments.
struct Aside {
    home: wgpu::Buffer,
    offset: u64,
    size: u64,
    copy: wgpu::Buffer,
    /// Whether the dispatch writes it.
    back: bool,
}

struct Dispatch {
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    params: u32,
    groups: [u32; 3],
    asides: Vec<Aside>,
}

impl Dispatch {
    /// What must be copied back when it is done.
    fn backs(&self) -> impl Iterator<Item = &Aside> {
        self.asides.iter().filter(|a| a.back)
    }
}

/// A list of launches as one command buffer.
pub(super) struct WgpuPlan {
    shared: Arc<Shared>,
    dispatches: Vec<Dispatch>,
    /// The dispatches of each launch.
    launches: Vec<Range<usize>>,
    params: wgpu::BindGroup,
    in_flight: VecDeque<Submission>,
    clock: Option<Clock>,
    /// Keeps the buffers alive.
    _bufs: Vec<Buf>,
}

/// Folds a linear grid over y and checks what the adapter takes; `None` for an empty grid.
fn fold(shared: &Shared, kernel: &Kernel, [x, y, z]: [u32; 3]) -> Result<Option<[u32; 3]>> {
    if x == 0 || y == 0 || z == 0 {
        return Ok(None);
    }
    let most = shared.limits.max_compute_workgroups_per_dimension;
    let folded = if x > most && y == 1 && z == 1 {
        let rows = x.div_ceil(most);
        [x.div_ceil(rows), rows, 1]
    } else {
        [x, y, z]
    };
    if folded.iter().any(|&n| n > most) {
        return Err(fault(format!(
            "{} needs {x} x {y} x {z} workgroups, {} takes {most} a side: use a smaller batch",
            kernel.name, shared.name
        )));
    }
    Ok(Some(folded))
}

/// The device's clock before and after a launch.
struct Clock {
    queries: wgpu::QuerySet,
    times: wgpu::Buffer,
}

impl Clock {
    fn new(shared: &Shared) -> Result<Self> {
        let times = shared.create("times", 16, BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC)?;
        let descriptor =
            wgpu::QuerySetDescriptor { label: Some("times"), ty: wgpu::QueryType::Timestamp, count: 2 };
        let queries = shared.guarded("times", || shared.device.create_query_set(&descriptor))?;
        Ok(Self { queries, times })
    }
}

impl WgpuPlan {
    /// The dispatches of a launch.
    fn range(&self, index: usize) -> Result<Range<usize>> {
        self.launches
            .get(index)
            .cloned()
            .ok_or_else(|| fault(format!("the plan has {} launches, asked for {index}", self.launches.len())))
    }

    pub(super) fn new(shared: Arc<Shared>, launches: Vec<Launch>) -> Result<Self> {
        let size = SLOT * launches.len().max(1) as u64;
        if size > u64::from(u32::MAX) || size > shared.limits.max_buffer_size {
            return Err(fault(format!("a plan of {} launches is too long", launches.len())));
        }
        let buffer = shared.guarded("params", || {
            shared.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("params"),
                size,
                usage: BufferUsages::UNIFORM | BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        })?;
        let mut bytes = vec![0u8; size as usize];
        let mut pipelines = lock(&shared.pipelines);
        let layout = pipelines.params(&shared)?;
        let params = shared.guarded("params", || {
            let resource = BindingResource::Buffer(BufferBinding {
                buffer: &buffer,
                offset: 0,
                size: BufferSize::new(Params::MAX_BYTES as u64),
            });
            shared.device.create_bind_group(&BindGroupDescriptor {
                label: Some("params"),
                layout: &layout,
                entries: &[BindGroupEntry { binding: 0, resource }],
            })
        })?;
        let mut dispatches = Vec::new();
        let mut ranges = Vec::new();
        for (i, launch) in launches.iter().enumerate() {
            launch.check()?;
            let kernel = launch.kernel;
            shared.takes(kernel.stored())?;
            if kernel.workgroups.is_empty() {
                return Err(fault(format!("{} has no shader yet: train on the CPU", kernel.name)));
            }
            let (given, wanted) = (launch.params.as_bytes().len(), kernel.params.bytes());
            if given != wanted {
                return Err(fault(format!(
                    "{}: params of {given} bytes, the kernel's {wanted}",
                    kernel.name
                )));
            }
            let at = i * SLOT as usize;
            bytes[at..at + launch.params.as_bytes().len()].copy_from_slice(launch.params.as_bytes());
            let start = dispatches.len();
            for (stage, groups) in kernel.workgroups.iter().enumerate() {
                // A stage that has nothing to do is not compiled.
                if let Some(groups) = fold(&shared, kernel, groups(&launch.params))? {
                    let (entry, layout, pipeline) =
                        pipelines.pipeline(&shared, kernel, stage, &launch.params)?;
                    let (group, asides) = bind(&shared, launch, entry, &layout)?;
                    dispatches.push(Dispatch { pipeline, group, params: at as u32, groups, asides });
                }
            }
            ranges.push(start..dispatches.len());
        }
        drop(pipelines);
        shared.guarded("params", || shared.queue.write_buffer(&buffer, 0, &bytes))?;
        let bufs = launches.into_iter().flat_map(|l| l.bufs).collect();
        Ok(Self {
            shared,
            dispatches,
            launches: ranges,
            params,
            in_flight: VecDeque::new(),
            clock: None,
            _bufs: bufs,
        })
    }

    /// Submits dispatches; with a `clock`, the times before and after them go to it.
    fn submit(&self, range: Range<usize>, clock: Option<&Clock>) -> Result<Submission> {
        let shared = &self.shared;
        shared.guarded("run", || {
            let mut encoder = shared.device.create_command_encoder(&Default::default());
            let mut dispatched = 0;
            let mut rest = &self.dispatches[range];
            let mut first = true;
            while !rest.is_empty() {
                for aside in &rest[0].asides {
                    encoder.copy_buffer_to_buffer(&aside.home, aside.offset, &aside.copy, 0, aside.size);
                }
                // One pass up to where something must be copied: nearly always all of them.
                let goes_on =
                    |pair: &&[Dispatch]| pair[0].backs().next().is_none() && pair[1].asides.is_empty();
                let end = 1 + rest.windows(2).take_while(goes_on).count();
                let last = end == rest.len();
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: None,
                    timestamp_writes: clock.filter(|_| first || last).map(|clock| {
                        wgpu::ComputePassTimestampWrites {
                            query_set: &clock.queries,
                            beginning_of_pass_write_index: first.then_some(0),
                            end_of_pass_write_index: last.then_some(1),
                        }
                    }),
                });
                first = false;
                let mut pipeline = None;
                for dispatch in &rest[..end] {
                    if pipeline != Some(&dispatch.pipeline) {
                        pass.set_pipeline(&dispatch.pipeline);
                        pipeline = Some(&dispatch.pipeline);
                    }
                    pass.set_bind_group(0, &dispatch.group, &[]);
                    pass.set_bind_group(1, &self.params, &[dispatch.params]);
                    let [x, y, z] = dispatch.groups;
                    pass.dispatch_workgroups(x, y, z);
                    dispatched += 1;
                }
                drop(pass);
                for aside in rest[end - 1].backs() {
                    encoder.copy_buffer_to_buffer(&aside.copy, 0, &aside.home, aside.offset, aside.size);
                }
                rest = &rest[end..];
            }
            if let Some(clock) = clock {
                encoder.resolve_query_set(&clock.queries, 0..2, &clock.times, 0);
            }
            lock(&shared.traffic).dispatches += dispatched;
            shared.submit(encoder)
        })
    }
}

/// Binds the buffers that a launch's stage uses, in place where that can be. An input in the same wgpu buffer as an output is
/// read from a copy, since within one dispatch a buffer is either read-only or writable; a window between the adapter's
/// alignments is copied to an aligned place, and back when it is written.
fn bind(
    shared: &Shared,
    launch: &Launch,
    entry: &Entry,
    layout: &wgpu::BindGroupLayout,
) -> Result<(wgpu::BindGroup, Vec<Aside>)> {
    let rows = launch.kernel.bindings;
    let windows = launch.bufs.iter().map(|b| shared.window(b)).collect::<Result<Vec<_>>>()?;
    let align = u64::from(shared.limits.min_storage_buffer_offset_alignment);
    let mut asides = Vec::new();
    let mut places: Vec<(u32, wgpu::Buffer, u64, u64)> = Vec::with_capacity(entry.storage.len());
    for binding in entry.storage.iter().map(|s| s.binding) {
        let i = binding as usize;
        let (row, window) = (&rows[i], &windows[i]);
        // Launch::check sees windows of one `Buf`; two imports of one wgpu buffer meet only here.
        let meets = |written: &dyn Fn(usize) -> bool, test: &dyn Fn(&Window<'_>) -> bool| {
            windows.iter().enumerate().any(|(j, other)| i != j && written(j) && test(other))
        };
        let written = |j: usize| rows[j].access != Access::In;
        if meets(&written, &|other| window.meets(other)) {
            return Err(Error::shape(
                launch.kernel.name,
                row.name,
                "overlaps a buffer that the launch writes",
            ));
        }
        let size = window.words().max(BYTES);
        let beside = row.access == Access::In && meets(&written, &|other| window.buffer == other.buffer);
        if window.size > 0 && (beside || !window.offset.is_multiple_of(align)) {
            let back = written(i);
            let mut needed = BufferUsages::COPY_SRC;
            needed.set(BufferUsages::COPY_DST, back);
            if !window.buffer.usage().contains(needed) {
                return Err(fault(format!(
                    "{}: `{}` starts at byte {} of its buffer, {} binds multiples of {align}{}: create the buffer with \
                     {needed:?}, so that it can be copied, or move it",
                    launch.kernel.name,
                    row.name,
                    window.offset,
                    shared.name,
                    if beside { " and an output lies in the same buffer" } else { "" },
                )));
            }
            window.whole_words(launch.kernel.name)?;
            let copy = shared.create("a copy", size, USES)?;
            places.push((binding, copy.clone(), 0, size));
            asides.push(Aside {
                home: window.buffer.clone(),
                offset: window.offset,
                size: window.words(),
                copy,
                back,
            });
            continue;
        }
        places.push((binding, window.buffer.clone(), window.offset, size));
    }
    let entries: Vec<_> = places
        .iter()
        .map(|(binding, buffer, offset, size)| BindGroupEntry {
            binding: *binding,
            resource: BindingResource::Buffer(BufferBinding {
                buffer,
                offset: *offset,
                size: BufferSize::new(*size),
            }),
        })
        .collect();
    let descriptor = BindGroupDescriptor { label: Some(&entry.name), layout, entries: &entries };
    let group = shared.guarded(&entry.name, || shared.device.create_bind_group(&descriptor))?;
    Ok((group, asides))
}

impl Plan for WgpuPlan {
    fn run(&mut self) -> Result<()> {
        block_on(self.run_async())
    }

    fn run_async(&mut self) -> Pending<'_, ()> {
        Box::pin(async {
            while self.in_flight.len() >= IN_FLIGHT {
                if let Some(oldest) = self.in_flight.pop_front() {
                    self.shared.wait(oldest).await?;
                }
            }
            let submission = self.submit(0..self.dispatches.len(), None)?;
            self.in_flight.push_back(submission);
            Ok(())
        })
    }

    fn run_one(&mut self, index: usize) -> Result<()> {
        block_on(self.run_one_async(index))
    }

    fn run_one_async(&mut self, index: usize) -> Pending<'_, ()> {
        Box::pin(async move {
            let submission = self.submit(self.range(index)?, None)?;
            self.shared.wait(submission).await
        })
    }

    fn time_one(&mut self, index: usize) -> Result<f64> {
        let range = self.range(index)?;
        if range.is_empty() || !self.shared.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            let start = std::time::Instant::now();
            self.run_one(index)?;
            return Ok(start.elapsed().as_secs_f64());
        }
        let clock = match self.clock.take() {
            Some(clock) => clock,
            None => Clock::new(&self.shared)?,
        };
        self.submit(range, Some(&clock))?;
        let mut ticks = [0u64; 2];
        let window = Window { buffer: &clock.times, offset: 0, size: 16 };
        block_on(self.shared.read(&window))?.copy_to(bytemuck::cast_slice_mut(&mut ticks))?;
        self.clock = Some(clock);
        let nanoseconds = f64::from(self.shared.queue.get_timestamp_period());
        Ok(ticks[1].saturating_sub(ticks[0]) as f64 * nanoseconds * 1e-9)
    }
}
