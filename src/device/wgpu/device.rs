//! The device itself.

use super::adapter::{self, Select};
use super::plan::WgpuPlan;
use super::shared::{BYTES, Memory, NAME, Shared, Token, USES, fault, lock};
use crate::Result;
use crate::device::buf::Buf;
use crate::device::host::{Host, HostMut, decode, encode, same_len};
use crate::device::interface::{Device, Plan};
use crate::device::launch::Launch;
use crate::device::pending::{Pending, block_on};
use crate::device::traffic::Traffic;
use crate::kernel::{Elem, Scratch};
use std::sync::{Arc, Mutex};
use wgpu::BufferUsages;

/// A device of wgpu's. Clones share it.
#[derive(Clone)]
pub struct Wgpu {
    pub(super) shared: Arc<Shared>,
}

impl Wgpu {
    /// A device on the selected adapter.
    ///
    /// # Errors
    /// When there is no such adapter, it cannot be used, or the driver refuses; the text lists the
    /// adapters there are.
    pub fn new(select: &Select) -> Result<Self> {
        block_on(Self::new_async(select))
    }

    /// [`Wgpu::new`] for code that runs in browsers too.
    ///
    /// # Errors
    /// As there.
    pub async fn new_async(select: &Select) -> Result<Self> {
        let instance = adapter::instance();
        let (adapter, report) = adapter::choose(&instance, select).await?;
        let optional = wgpu::Features::SHADER_F16 | wgpu::Features::TIMESTAMP_QUERY;
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("etude"),
            required_features: adapter.features() & optional,
            required_limits: adapter::limits(&adapter.limits()),
            memory_hints: wgpu::MemoryHints::Performance,
            ..Default::default()
        };
        let made = adapter.request_device(&descriptor).await;
        let (device, queue) = made.map_err(|e| fault(format!("{}: {e}", report.name)))?;
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
                name: adapter::name(&info),
                software: info.device_type == wgpu::DeviceType::Cpu,
                limits: device.limits(),
                device,
                queue,
                lost: Arc::default(),
                pipelines: Mutex::default(),
                staging: Mutex::default(),
                traffic: Mutex::default(),
                untold: Mutex::default(),
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
        match (elem.bytes::<f32>() as u64).checked_mul(len as u64).and_then(|n| n.checked_add(offset)) {
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

impl Device for Wgpu {
    fn name(&self) -> String {
        NAME.into()
    }

    fn alloc(&self, elem: Elem, len: usize) -> Result<Buf> {
        self.shared.takes(elem)?;
        let size = elem.bytes::<f32>().saturating_mul(len) as u64;
        let buffer = self.shared.create("a buffer", size, USES)?;
        Ok(Buf::new(Memory { owner: Arc::clone(&self.shared.token), buffer, base: 0 }, elem, len))
    }

    fn scratch(&self, need: Scratch) -> usize {
        need.wgsl
    }

    fn write(&self, dst: &Buf, src: Host<'_>) -> Result<()> {
        same_len("write", src.len(), dst.len())?;
        let mut bytes = encode::<f32>(dst.elem(), src)?;
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
        block_on(self.read_async(src, dst))
    }

    fn read_async<'a>(&'a self, src: &'a Buf, dst: HostMut<'a>) -> Pending<'a, ()> {
        Box::pin(async move {
            same_len("read", dst.len(), src.len())?;
            let window = self.shared.window(src)?;
            if window.size == 0 {
                return decode::<f32>(src.elem(), dst, |_| Ok(()));
            }
            let mapped = self.shared.read(&window).await?;
            decode::<f32>(src.elem(), dst, |to| mapped.copy_to(to))
        })
    }

    fn compile(&self, launches: Vec<Launch>) -> Result<Box<dyn Plan>> {
        Ok(Box::new(WgpuPlan::new(Arc::clone(&self.shared), launches)?))
    }

    fn traffic(&self) -> Option<Traffic> {
        Some(*lock(&self.shared.traffic))
    }
}
