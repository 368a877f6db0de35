//! What the device and its plans share: wgpu's handles, and what can go wrong with them.

use super::adapter::block_on;
use crate::device::buf::Buf;
use crate::device::traffic::Traffic;
use crate::kernel::Elem;
use crate::{Error, Result};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wgpu::{BufferDescriptor, BufferUsages, ErrorFilter};

/// What this device calls itself in messages.
pub(super) const NAME: &str = "wgpu";

/// What copies and bindings count in, and bytes of an `f32` and of a `u32`.
pub(super) const BYTES: u64 = 4;

/// The uses a buffer must allow for launches, reads and writes.
pub(super) const USES: BufferUsages =
    BufferUsages::STORAGE.union(BufferUsages::COPY_SRC).union(BufferUsages::COPY_DST);

pub(super) fn fault(message: impl Into<String>) -> Error {
    Error::device(NAME, message)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a device and its plans share.
pub(super) struct Shared {
    /// Keeps the driver loaded where we loaded it.
    pub(super) _instance: Option<wgpu::Instance>,
    pub(super) token: Arc<Token>,
    pub(super) name: String,
    pub(super) software: bool,
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) limits: wgpu::Limits,
    /// Why the device is gone, once it is.
    pub(super) lost: Arc<Mutex<Option<String>>>,
    pub(super) pipelines: Mutex<Pipelines>,
    /// Host-visible memory that reads go through; grows to the largest.
    pub(super) staging: Mutex<Option<wgpu::Buffer>>,
    pub(super) traffic: Mutex<Traffic>,
}

/// A buffer's memory: ours, or a caller's from `base` on.
pub(super) struct Memory {
    /// Whose it is.
    pub(super) owner: Arc<Token>,
    pub(super) buffer: wgpu::Buffer,
    /// Where element 0 is, in bytes.
    pub(super) base: u64,
}

/// Stands for one device. wgpu's own handles compare equal across instances.
pub(super) struct Token;

/// A window of a wgpu buffer, in bytes.
pub(super) struct Window<'a> {
    pub(super) buffer: &'a wgpu::Buffer,
    pub(super) offset: u64,
    pub(super) size: u64,
}

impl Window<'_> {
    /// The size in whole words, which copies and bindings take. A buffer ends at a whole word, so this reaches
    /// past its end for no window.
    pub(super) fn words(&self) -> u64 {
        self.size.next_multiple_of(BYTES)
    }

    /// Copies start at whole words, and end there or at the end of the buffer.
    pub(super) fn whole_words(&self, op: &'static str) -> Result<()> {
        let end = self.offset + self.words();
        if self.offset.is_multiple_of(BYTES) && (self.words() == self.size || end == self.buffer.size()) {
            return Ok(());
        }
        let message = "a window of f16 starts at an even element, and ends at one or with its buffer";
        Err(Error::shape(op, "window", message))
    }

    pub(super) fn meets(&self, other: &Window<'_>) -> bool {
        self.buffer == other.buffer
            && self.offset < other.offset + other.size
            && other.offset < self.offset + self.size
    }
}

impl Shared {
    /// Runs `f` and turns what wgpu reports meanwhile into an error.
    pub(super) fn guarded<T>(&self, what: &str, f: impl FnOnce() -> T) -> Result<T> {
        self.alive()?;
        // Scopes belong to this thread and are popped in reverse.
        let internal = self.device.push_error_scope(ErrorFilter::Internal);
        let memory = self.device.push_error_scope(ErrorFilter::OutOfMemory);
        let validation = self.device.push_error_scope(ErrorFilter::Validation);
        let value = f();
        let faults = [block_on(validation.pop()), block_on(memory.pop()), block_on(internal.pop())];
        self.alive()?;
        match faults.into_iter().flatten().next() {
            None => Ok(value),
            Some(wgpu::Error::OutOfMemory { .. }) => {
                Err(fault(format!("{what}: out of memory on {}: use a smaller batch", self.name)))
            }
            Some(e) => Err(fault(format!("{what}: {e}"))),
        }
    }

    pub(super) fn alive(&self) -> Result<()> {
        match &*lock(&self.lost) {
            None => Ok(()),
            Some(why) => Err(fault(format!(
                "{} was lost ({why}): its buffers are gone, start again from the last saved model",
                self.name
            ))),
        }
    }

    /// The one way to the queue: it counts.
    pub(super) fn submit(&self, encoder: wgpu::CommandEncoder) -> wgpu::SubmissionIndex {
        lock(&self.traffic).submissions += 1;
        self.queue.submit([encoder.finish()])
    }

    /// Waits until the submission, or all so far, are done.
    pub(super) fn wait(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<()> {
        let done = self.device.poll(wgpu::PollType::Wait { submission_index: submission, timeout: None });
        self.alive()?;
        done.map(drop).map_err(|e| fault(format!("waiting for {} failed: {e}", self.name)))
    }

    pub(super) fn create(&self, what: &str, size: u64, usage: BufferUsages) -> Result<wgpu::Buffer> {
        let limit = self.limits.max_buffer_size.min(self.limits.max_storage_buffer_binding_size);
        if size > limit {
            return Err(fault(format!(
                "{what} of {size} bytes, but {} takes at most {limit}: use a smaller batch",
                self.name
            )));
        }
        self.guarded(what, || {
            self.device.create_buffer(&BufferDescriptor {
                label: None,
                size: size.next_multiple_of(BYTES).max(BYTES),
                usage,
                mapped_at_creation: false,
            })
        })
    }

    pub(super) fn window<'b>(&self, buf: &'b Buf) -> Result<Window<'b>> {
        let memory = buf
            .storage::<Memory>()
            .filter(|m| Arc::ptr_eq(&m.owner, &self.token))
            .ok_or_else(|| fault("the buffer belongs to another device: copy it through host memory"))?;
        let bytes = buf.elem().bytes::<f32>() as u64;
        Ok(Window {
            buffer: &memory.buffer,
            offset: memory.base + bytes * buf.offset() as u64,
            size: bytes * buf.len() as u64,
        })
    }

    /// Whether kernels can read such elements here.
    pub(super) fn takes(&self, elem: Elem) -> Result<()> {
        match elem {
            Elem::Bf16 => Err(fault("WGSL has no bf16: use f16 or f32, or the CPU")),
            Elem::F16 if !self.device.features().contains(wgpu::Features::SHADER_F16) => {
                Err(fault(format!("{} has no f16: use f32, or the CPU", self.name)))
            }
            _ => Ok(()),
        }
    }
}

/// What a device has compiled so far.
#[derive(Default)]
pub(super) struct Pipelines {
    /// By stem and what it reads.
    pub(super) modules: HashMap<(&'static str, Elem), wgpu::ShaderModule>,
    /// Group 1: one slot of params.
    pub(super) params: Option<wgpu::BindGroupLayout>,
    /// By entry point: group 0 and the whole.
    pub(super) layouts: HashMap<&'static str, (wgpu::BindGroupLayout, wgpu::PipelineLayout)>,
    /// By entry point, what it reads, and the values of its overrides.
    pub(super) pipelines: HashMap<(String, Elem, Vec<u64>), wgpu::ComputePipeline>,
}

impl Shared {
    /// Hands `copy` what a window holds, after all that was submitted before.
    pub(super) fn read(&self, window: &Window<'_>, copy: &mut dyn FnMut(&[u8])) -> Result<()> {
        window.whole_words("read")?;
        let (size, mut staging) = (window.words(), lock(&self.staging));
        let buffer = match staging.take() {
            Some(b) if b.size() >= size => b,
            _ => {
                let size = size.next_power_of_two().min(self.limits.max_buffer_size);
                self.create("memory to read through", size, BufferUsages::MAP_READ | BufferUsages::COPY_DST)?
            }
        };
        lock(&self.traffic).reads += 1;
        let (sender, receiver) = std::sync::mpsc::channel();
        let submission = self.guarded("read", || {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(window.buffer, window.offset, &buffer, 0, size);
            let submission = self.submit(encoder);
            buffer.map_async(wgpu::MapMode::Read, 0..size, move |result| {
                // The receiver may be gone when waiting failed.
                let _ = sender.send(result);
            });
            submission
        })?;
        self.wait(Some(submission))?;
        let lost =
            |e: String| fault(format!("reading from {} failed, the device may be lost: {e}", self.name));
        receiver.try_recv().map_err(|e| lost(e.to_string()))?.map_err(|e| lost(e.to_string()))?;
        {
            let view = buffer.get_mapped_range(0..size).map_err(|e| lost(e.to_string()))?;
            copy(&view[..window.size as usize]);
        }
        buffer.unmap();
        *staging = Some(buffer);
        Ok(())
    }
}
