//! The WGSL device: any GPU that Vulkan, Metal or DX12 reaches, through wgpu.
//!
//! A plan is one command buffer with one compute pass, submitted once a run: pipelines and bind groups
//! are built when it is compiled, and the params of all launches lie in one uniform buffer that each
//! dispatch reads at an offset of its own. wgpu puts a barrier between dispatches that touch the same
//! buffer.
//!
//! wgpu reports most errors out of band and panics where nobody listens, so every call that can fail
//! runs inside error scopes (`Shared::guarded`).
//!
//! To add a shader (`elementwise.wgsl` is the one to read first):
//!
//! 1. `shaders/<stem>.wgsl` with one entry point per kernel, named as the kernel; binding i of group 0 is
//!    binding i of the row (`read` for inputs, `read_write` for the rest), the params struct is
//!    `@group(1) @binding(0) var<uniform>` with the Rust struct's name and members. A module may declare
//!    several globals at one binding: an entry point declares what it uses, and may use eight of the row's.
//!    `prelude.wgsl` is appended.
//! 2. The stem in `sources![..]` of `src/kernels/source.rs`, and `groups` in each row. A second entry in `groups` is a
//!    second stage, the entry point `<name>_2`, which starts when all workgroups of the first are done.
//! 3. An `override` constant named as a member of the params struct receives that member's value when a plan is
//!    compiled: loops over it unroll, and each value gets a pipeline of its own.
//! 4. Workgroup memory is not zeroed at the start.
//! 5. The stem leaves `MISSING` in `tests/wgpu_parity.rs`, which then runs its cases; `tests/wgpu_shaders.rs` checks
//!    the source against the row without a device.

mod adapter;
mod plan;
pub mod shaders;

use crate::device::{Buf, Device, Host, HostMut, Launch, Plan, Traffic};
use crate::kernels::Elem;
use crate::{Error, Result};
use adapter::block_on;
pub use adapter::{ADAPTER_VARIABLE, AdapterReport, Select, adapters};
use half::f16;
use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
/// The wgpu this device is built on, for callers who bring their own device or buffers.
pub use wgpu;
use wgpu::{BufferDescriptor, BufferUsages, ErrorFilter};

/// What this device calls itself in messages.
const NAME: &str = "wgpu";

/// What copies and bindings count in, and bytes of an `f32` and of a `u32`.
const BYTES: u64 = 4;

/// Bytes of an element.
fn bytes_of(elem: Elem) -> u64 {
    match elem {
        Elem::Real | Elem::Index => BYTES,
        Elem::F16 | Elem::Bf16 => 2,
    }
}

/// The uses a buffer must allow for launches, reads and writes.
const USES: BufferUsages = BufferUsages::STORAGE.union(BufferUsages::COPY_SRC).union(BufferUsages::COPY_DST);

fn fault(message: impl Into<String>) -> Error {
    Error::device(NAME, message)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A device of wgpu's. Clones share it.
#[derive(Clone)]
pub struct Wgpu {
    shared: Arc<Shared>,
}

/// What a device and its plans share.
struct Shared {
    /// Keeps the driver loaded where we loaded it.
    _instance: Option<wgpu::Instance>,
    token: Arc<Token>,
    name: String,
    software: bool,
    device: wgpu::Device,
    queue: wgpu::Queue,
    limits: wgpu::Limits,
    /// Why the device is gone, once it is.
    lost: Arc<Mutex<Option<String>>>,
    pipelines: Mutex<plan::Pipelines>,
    /// Host-visible memory that reads go through; grows to the largest.
    staging: Mutex<Option<wgpu::Buffer>>,
    traffic: Mutex<Traffic>,
}

/// A buffer's memory: ours, or a caller's from `base` on.
struct Memory {
    /// Whose it is.
    owner: Arc<Token>,
    buffer: wgpu::Buffer,
    /// Where element 0 is, in bytes.
    base: u64,
}

/// Stands for one device. wgpu's own handles compare equal across instances.
struct Token;

/// A window of a wgpu buffer, in bytes.
struct Window<'a> {
    buffer: &'a wgpu::Buffer,
    offset: u64,
    size: u64,
}

impl Window<'_> {
    /// The size in whole words, which copies and bindings take. A buffer ends at a whole word, so this reaches
    /// past its end for no window.
    fn words(&self) -> u64 {
        self.size.next_multiple_of(BYTES)
    }

    /// Copies start at whole words, and end there or at the end of the buffer.
    fn whole_words(&self, op: &'static str) -> Result<()> {
        let end = self.offset + self.words();
        if self.offset.is_multiple_of(BYTES) && (self.words() == self.size || end == self.buffer.size()) {
            return Ok(());
        }
        let message = "a window of f16 starts at an even element, and ends at one or with its buffer";
        Err(Error::shape(op, "window", message))
    }

    fn meets(&self, other: &Window<'_>) -> bool {
        self.buffer == other.buffer
            && self.offset < other.offset + other.size
            && other.offset < self.offset + self.size
    }
}

impl Shared {
    /// Runs `f` and turns what wgpu reports meanwhile into an error.
    fn guarded<T>(&self, what: &str, f: impl FnOnce() -> T) -> Result<T> {
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

    fn alive(&self) -> Result<()> {
        match &*lock(&self.lost) {
            None => Ok(()),
            Some(why) => Err(fault(format!(
                "{} was lost ({why}): its buffers are gone, start again from the last saved model",
                self.name
            ))),
        }
    }

    /// The one way to the queue: it counts.
    fn submit(&self, encoder: wgpu::CommandEncoder) -> wgpu::SubmissionIndex {
        lock(&self.traffic).submissions += 1;
        self.queue.submit([encoder.finish()])
    }

    /// Waits until the submission, or all so far, are done.
    fn wait(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<()> {
        let done = self.device.poll(wgpu::PollType::Wait { submission_index: submission, timeout: None });
        self.alive()?;
        done.map(drop).map_err(|e| fault(format!("waiting for {} failed: {e}", self.name)))
    }

    fn create(&self, what: &str, size: u64, usage: BufferUsages) -> Result<wgpu::Buffer> {
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

    fn window<'b>(&self, buf: &'b Buf) -> Result<Window<'b>> {
        let memory = buf
            .storage::<Memory>()
            .filter(|m| Arc::ptr_eq(&m.owner, &self.token))
            .ok_or_else(|| fault("the buffer belongs to another device: copy it through host memory"))?;
        let bytes = bytes_of(buf.elem());
        Ok(Window {
            buffer: &memory.buffer,
            offset: memory.base + bytes * buf.offset() as u64,
            size: bytes * buf.len() as u64,
        })
    }

    /// Whether kernels can read such elements here.
    fn takes(&self, elem: Elem) -> Result<()> {
        match elem {
            Elem::Bf16 => Err(fault("WGSL has no bf16: use f16 or f32, or the CPU")),
            Elem::F16 if !self.device.features().contains(wgpu::Features::SHADER_F16) => {
                Err(fault(format!("{} has no f16: use f32, or the CPU", self.name)))
            }
            _ => Ok(()),
        }
    }
}

impl Wgpu {
    /// A device on the selected adapter.
    ///
    /// # Errors
    /// When there is no such adapter, it cannot be used, or the driver refuses; the text lists the
    /// adapters there are.
    pub fn new(select: &Select) -> Result<Self> {
        let instance = adapter::instance();
        let (adapter, _) = adapter::choose(&instance, select)?;
        let optional = wgpu::Features::SHADER_F16 | wgpu::Features::TIMESTAMP_QUERY;
        let (device, queue) = block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("etude"),
            required_features: adapter.features() & optional,
            required_limits: adapter::limits(&adapter.limits()),
            memory_hints: wgpu::MemoryHints::Performance,
            ..Default::default()
        }))
        .map_err(|e| fault(format!("{}: {e}", adapter.get_info().name)))?;
        let made = Self::build(Some(instance), &adapter, device, queue);
        // Ours to listen to; a caller's device has its caller's callback.
        let lost = Arc::clone(&made.shared.lost);
        made.shared.device.set_device_lost_callback(move |reason, message| {
            *lock(&lost) = Some(format!("{reason:?}: {message}"));
        });
        Ok(made)
    }

    /// A device over a caller's own, to work inside another framework: launches go to `queue`, in
    /// order with the caller's.
    ///
    /// Kernels stay within the limits that `device` was requested with; the caller's error and
    /// device-lost callbacks are left alone. A lost device then shows when something is read.
    pub fn from_parts(adapter: &wgpu::Adapter, device: wgpu::Device, queue: wgpu::Queue) -> Self {
        Self::build(None, adapter, device, queue)
    }

    fn build(
        instance: Option<wgpu::Instance>,
        adapter: &wgpu::Adapter,
        device: wgpu::Device,
        queue: wgpu::Queue,
    ) -> Self {
        let info = adapter.get_info();
        Self {
            shared: Arc::new(Shared {
                _instance: instance,
                token: Arc::new(Token),
                name: info.name,
                software: info.device_type == wgpu::DeviceType::Cpu,
                limits: device.limits(),
                device,
                queue,
                lost: Arc::default(),
                pipelines: Mutex::default(),
                staging: Mutex::default(),
                traffic: Mutex::default(),
            }),
        }
    }

    /// The adapter's name.
    pub fn adapter_name(&self) -> &str {
        &self.shared.name
    }

    /// Whether the adapter computes on the processor.
    pub fn is_software(&self) -> bool {
        self.shared.software
    }

    /// wgpu's device and queue.
    pub fn raw(&self) -> (&wgpu::Device, &wgpu::Queue) {
        (&self.shared.device, &self.shared.queue)
    }

    /// Takes `len` elements of a caller's buffer from byte `offset` on. What was written to it through the same queue before a
    /// run is seen by the run. The buffer must be of the device that this one was made from.
    ///
    /// Any multiple of 4 is an offset. At multiples of the device's `min_storage_buffer_offset_alignment` the memory is used in
    /// place: 256 under WebGPU's default limits, and as little as the adapter needs (often 32 or 16) where the device was
    /// requested with that limit, as burn and cubecl do for the tensors they place in one buffer. Elsewhere, in the middle of
    /// a tensor say, each launch copies it to an aligned place, and back where it writes, for which the buffer needs
    /// `COPY_SRC` and `COPY_DST`.
    ///
    /// # Errors
    /// When the buffer cannot be bound as storage, the offset is no multiple of 4, or the range is beyond the buffer.
    pub fn import(&self, buffer: wgpu::Buffer, offset: u64, elem: Elem, len: usize) -> Result<Buf> {
        if !buffer.usage().contains(BufferUsages::STORAGE) {
            return Err(fault(
                "an imported buffer needs usage STORAGE (and COPY_SRC, COPY_DST to read and write)",
            ));
        }
        if !offset.is_multiple_of(wgpu::COPY_BUFFER_ALIGNMENT) {
            return Err(fault(format!("an imported buffer's offset {offset} is no multiple of 4")));
        }
        self.shared.takes(elem)?;
        match bytes_of(elem).checked_mul(len as u64).and_then(|n| n.checked_add(offset)) {
            Some(end) if end.next_multiple_of(BYTES) <= buffer.size() => {}
            _ => {
                let size = buffer.size();
                return Err(fault(format!(
                    "{len} elements from byte {offset} on of a buffer of {size} bytes"
                )));
            }
        }
        let memory = Memory { owner: Arc::clone(&self.shared.token), buffer, base: offset };
        Ok(Buf::new(memory, elem, len))
    }

    /// The wgpu buffer behind `buf`, and its byte offset and size in it.
    ///
    /// # Errors
    /// When it is another device's.
    pub fn export(&self, buf: &Buf) -> Result<(wgpu::Buffer, u64, u64)> {
        let window = self.shared.window(buf)?;
        Ok((window.buffer.clone(), window.offset, window.size))
    }
}

fn same_len(op: &'static str, a: usize, b: usize) -> Result<()> {
    if a == b { Ok(()) } else { Err(Error::shape(op, "length", format!("{a} elements against {b}"))) }
}

fn elem_mismatch(op: &'static str, elem: Elem) -> Error {
    let message = format!("the buffer holds {elem:?} elements, the host slice another type");
    Error::shape(op, "element type", message)
}

impl Device for Wgpu {
    fn name(&self) -> String {
        NAME.into()
    }

    fn alloc(&self, elem: Elem, len: usize) -> Result<Buf> {
        self.shared.takes(elem)?;
        let size = bytes_of(elem).saturating_mul(len as u64);
        let buffer = self.shared.create("a buffer", size, USES)?;
        Ok(Buf::new(Memory { owner: Arc::clone(&self.shared.token), buffer, base: 0 }, elem, len))
    }

    fn write(&self, dst: &Buf, src: Host<'_>) -> Result<()> {
        same_len("write", dst.len(), src.len())?;
        let mut bytes: Cow<'_, [u8]> = match (dst.elem(), src) {
            (Elem::Index, Host::U32(s)) => Cow::Borrowed(bytemuck::cast_slice(s)),
            (Elem::Real, Host::F32(s)) => Cow::Borrowed(bytemuck::cast_slice(s)),
            (Elem::Real, Host::F64(s)) => {
                Cow::Owned(s.iter().flat_map(|&v| (v as f32).to_ne_bytes()).collect())
            }
            (Elem::F16, Host::F16(s)) => Cow::Borrowed(bytemuck::cast_slice(s)),
            (Elem::F16, Host::F32(s)) => {
                Cow::Owned(s.iter().flat_map(|&v| f16::from_f32(v).to_ne_bytes()).collect())
            }
            (Elem::F16, Host::F64(s)) => {
                Cow::Owned(s.iter().flat_map(|&v| f16::from_f64(v).to_ne_bytes()).collect())
            }
            (elem, _) => return Err(elem_mismatch("write", elem)),
        };
        let window = self.shared.window(dst)?;
        if bytes.is_empty() {
            return Ok(());
        }
        window.whole_words("write")?;
        if window.words() > window.size {
            bytes.to_mut().extend_from_slice(&[0; 2]);
        }
        lock(&self.shared.traffic).writes += 1;
        self.shared.guarded("write", || self.shared.queue.write_buffer(window.buffer, window.offset, &bytes))
    }

    fn read(&self, src: &Buf, dst: HostMut<'_>) -> Result<()> {
        same_len("read", dst.len(), src.len())?;
        let copy: &mut dyn FnMut(&[u8]) = match (src.elem(), dst) {
            (Elem::Index, HostMut::U32(d)) => &mut |bytes| bytemuck::cast_slice_mut(d).copy_from_slice(bytes),
            (Elem::Real, HostMut::F32(d)) => &mut |bytes| bytemuck::cast_slice_mut(d).copy_from_slice(bytes),
            (Elem::Real, HostMut::F64(d)) => &mut |bytes| {
                for (d, b) in d.iter_mut().zip(bytes.as_chunks().0) {
                    *d = f64::from(f32::from_ne_bytes(*b));
                }
            },
            (Elem::F16, HostMut::F16(d)) => &mut |bytes| bytemuck::cast_slice_mut(d).copy_from_slice(bytes),
            (Elem::F16, HostMut::F32(d)) => &mut |bytes| {
                for (d, b) in d.iter_mut().zip(bytes.as_chunks().0) {
                    *d = f16::from_ne_bytes(*b).to_f32();
                }
            },
            (Elem::F16, HostMut::F64(d)) => &mut |bytes| {
                for (d, b) in d.iter_mut().zip(bytes.as_chunks().0) {
                    *d = f16::from_ne_bytes(*b).to_f64();
                }
            },
            (elem, _) => return Err(elem_mismatch("read", elem)),
        };
        let window = self.shared.window(src)?;
        if window.size == 0 {
            return Ok(());
        }
        self.shared.read(&window, copy)
    }

    fn compile(&self, launches: Vec<Launch>) -> Result<Box<dyn Plan>> {
        Ok(Box::new(plan::WgpuPlan::new(Arc::clone(&self.shared), launches)?))
    }

    fn traffic(&self) -> Option<Traffic> {
        Some(*lock(&self.shared.traffic))
    }
}

impl Shared {
    fn read(&self, window: &Window<'_>, copy: &mut dyn FnMut(&[u8])) -> Result<()> {
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
