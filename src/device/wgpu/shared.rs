//! What the device and its plans share: wgpu's handles, and what can go wrong with them.

use crate::device::buf::Buf;
use crate::device::traffic::Traffic;
use crate::kernel::Elem;
use crate::{Error, Result};
use futures_channel::oneshot;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
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
    /// What a browser has yet to tell of calls that are over.
    pub(super) untold: Mutex<Vec<Untold>>,
}

/// The error of a call, if there was one.
type Untold = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// Work that was handed to the queue, to wait for.
pub(super) struct Submission {
    index: wgpu::SubmissionIndex,
    /// Where waiting is the browser's.
    done: Option<oneshot::Receiver<()>>,
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
    /// Runs `f` and turns what wgpu reports meanwhile into an error. A browser reports later: the error is then that of the next
    /// call, or of what is awaited next.
    pub(super) fn guarded<T>(&self, what: &str, f: impl FnOnce() -> T) -> Result<T> {
        self.alive()?;
        // Scopes belong to this thread and are popped in reverse.
        let internal = self.device.push_error_scope(ErrorFilter::Internal);
        let memory = self.device.push_error_scope(ErrorFilter::OutOfMemory);
        let validation = self.device.push_error_scope(ErrorFilter::Validation);
        let value = f();
        let (validation, memory, internal) = (validation.pop(), memory.pop(), internal.pop());
        let (what, name) = (what.to_string(), self.name.clone());
        let mut untold: Untold = Box::pin(async move {
            let faults = [validation.await, memory.await, internal.await];
            match faults.into_iter().flatten().next() {
                None => Ok(()),
                Some(wgpu::Error::OutOfMemory { .. }) => {
                    Err(fault(format!("{what}: out of memory on {name}: use a smaller batch")))
                }
                Some(e) => Err(fault(format!("{what}: {e}"))),
            }
        });
        let told = untold.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if told.is_pending() {
            lock(&self.untold).push(untold);
        }
        self.alive()?;
        match told {
            Poll::Ready(Err(e)) => Err(e),
            _ => Ok(value),
        }
    }

    /// Whether the device is there, and no call failed that is over.
    pub(super) fn alive(&self) -> Result<()> {
        let mut fault = Ok(());
        let mut context = Context::from_waker(Waker::noop());
        lock(&self.untold).retain_mut(|untold| match untold.as_mut().poll(&mut context) {
            Poll::Ready(told) => {
                fault = std::mem::replace(&mut fault, Ok(())).and(told);
                false
            }
            Poll::Pending => true,
        });
        match &*lock(&self.lost) {
            None => fault,
            Some(why) => Err(self::fault(format!(
                "{} was lost ({why}): its buffers are gone, start again from the last saved model",
                self.name
            ))),
        }
    }

    /// The one way to the queue: it counts.
    pub(super) fn submit(&self, encoder: wgpu::CommandEncoder) -> Submission {
        lock(&self.traffic).submissions += 1;
        let index = self.queue.submit([encoder.finish()]);
        let done = cfg!(target_family = "wasm").then(|| {
            let (sender, receiver) = oneshot::channel();
            self.queue.on_submitted_work_done(move || {
                // Whoever waited may have given up.
                let _ = sender.send(());
            });
            receiver
        });
        Submission { index, done }
    }

    /// Waits until a submission is done, and for what went wrong so far.
    pub(super) async fn wait(&self, Submission { index, done }: Submission) -> Result<()> {
        // In a browser this returns at once.
        let polled = self.device.poll(wgpu::PollType::Wait { submission_index: Some(index), timeout: None });
        if let Some(done) = done {
            // What is dropped unsent belonged to a device that is lost, which is told below.
            let _ = done.await;
        }
        self.told().await?;
        self.alive()?;
        polled.map(drop).map_err(|e| fault(format!("waiting for {} failed: {e}", self.name)))
    }

    /// Waits for what calls that are over reported: the first error.
    async fn told(&self) -> Result<()> {
        let all = std::mem::take(&mut *lock(&self.untold));
        let mut fault = Ok(());
        for untold in all {
            fault = fault.and(untold.await);
        }
        fault
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

/// What a window held, to be copied from memory that reads go through.
pub(super) struct Mapped<'a> {
    shared: &'a Shared,
    buffer: wgpu::Buffer,
    bytes: usize,
}

impl Mapped<'_> {
    /// Copies it, and gives the memory back.
    pub(super) fn copy_to(self, to: &mut [u8]) -> Result<()> {
        {
            let words = (self.bytes as u64).next_multiple_of(BYTES);
            let view = self.buffer.get_mapped_range(0..words).map_err(|e| self.shared.unread(&e))?;
            to.copy_from_slice(&view[..self.bytes]);
        }
        self.buffer.unmap();
        *lock(&self.shared.staging) = Some(self.buffer);
        Ok(())
    }
}

impl Shared {
    fn unread(&self, why: &dyn std::fmt::Display) -> Error {
        fault(format!("reading from {} failed, the device may be lost: {why}", self.name))
    }

    /// What a window holds after all that was submitted before.
    pub(super) async fn read(&self, window: &Window<'_>) -> Result<Mapped<'_>> {
        window.whole_words("read")?;
        let size = window.words();
        let staging = lock(&self.staging).take();
        let buffer = match staging {
            Some(b) if b.size() >= size => b,
            _ => {
                let size = size.next_power_of_two().min(self.limits.max_buffer_size);
                self.create("memory to read through", size, BufferUsages::MAP_READ | BufferUsages::COPY_DST)?
            }
        };
        lock(&self.traffic).reads += 1;
        let (sender, receiver) = oneshot::channel();
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
        self.wait(submission).await?;
        receiver.await.map_err(|e| self.unread(&e))?.map_err(|e| self.unread(&e))?;
        Ok(Mapped { shared: self, buffer, bytes: window.size as usize })
    }
}
