//! Compiled lists of launches.

use super::compile;
use super::driver::{Memory, NAME, Shared, fault, lock};
use super::launch::Ready;
use crate::Result;
use crate::device::{Buf, Launch, Plan, bytes};
use crate::kernels::{Kernel, REGISTRY};
use cudarc::driver::sys::{CUevent_flags, CUfunction_attribute as Attribute, CUgraphInstantiate_flags};
use cudarc::driver::sys::{CUstream, CUstreamCaptureMode};
use cudarc::driver::{
    CudaContext, CudaEvent, CudaFunction, CudaGraph, CudaModule, CudaStream, DriverError, result,
};
use cudarc::nvrtc::Ptx;
use rayon::prelude::*;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Arc;

/// Dynamic shared memory that a launch gets unasked.
const SHARED_UNASKED: u32 = 48 << 10;

/// What a device has loaded so far.
#[derive(Default)]
pub(super) struct Functions {
    /// By stem.
    modules: HashMap<&'static str, Arc<CudaModule>>,
    /// By entry point.
    functions: HashMap<&'static str, CudaFunction>,
}

fn stem(kernel: &Kernel) -> Result<&'static str> {
    let row = REGISTRY.iter().find(|(_, rows)| rows.iter().any(|k| k.name == kernel.name));
    row.map(|r| r.0).ok_or_else(|| fault(format!("{} is not registered", kernel.name)))
}

impl Functions {
    /// Loads what `launches` need and is not loaded yet.
    fn load(&mut self, shared: &Shared, launches: &[Ready]) -> Result<()> {
        let mut missing = Vec::new();
        for launch in launches {
            let stem = stem(launch.kernel)?;
            if !self.modules.contains_key(stem) && !missing.contains(&stem) {
                missing.push(stem);
            }
        }
        let arch = compile::architecture(shared.card.capability);
        // NVRTC takes a second or so a source.
        let code = missing
            .par_iter()
            .map(|stem| compile::binary(stem, &arch, shared.card.origin))
            .collect::<Result<Vec<_>>>()?;
        for (stem, code) in missing.into_iter().zip(code) {
            let loaded = shared.stream.context().load_module(Ptx::from_binary(code));
            let module = shared.check(&format!("loading kernels/{stem}.cu"), loaded)?;
            self.modules.insert(stem, module);
        }
        Ok(())
    }

    /// The function of a launch, ready for its block and its dynamic shared memory.
    fn get(&mut self, shared: &Shared, launch: &Ready) -> Result<CudaFunction> {
        let (kernel, block, dynamic) = (launch.kernel, launch.block, launch.shared);
        let stem = stem(kernel)?;
        let what = format!("loading {}", kernel.name);
        let function = match self.functions.get(kernel.name) {
            Some(function) => function.clone(),
            None => {
                let module = self.modules.get(stem).ok_or_else(|| fault(format!("{stem} is not loaded")))?;
                let function = shared.check(&what, module.load_function(kernel.name))?;
                self.functions.insert(kernel.name, function.clone());
                function
            }
        };
        // Asking also loads what the driver loads lazily, which a graph's capture forbids.
        let ask = |attribute| shared.check(&what, function.get_attribute(attribute)).map(|v| v as u32);
        let threads = ask(Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?;
        if block > threads {
            return Err(fault(format!(
                "{} takes blocks of at most {threads} threads, its row says {block}",
                kernel.name
            )));
        }
        let fixed = ask(Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?;
        if fixed.saturating_add(dynamic) > shared.shared_memory {
            return Err(fault(format!(
                "{} needs {} bytes of shared memory, {} has {} for a block",
                kernel.name,
                u64::from(fixed) + u64::from(dynamic),
                shared.card.name,
                shared.shared_memory
            )));
        }
        if fixed + dynamic > SHARED_UNASKED {
            // For all launches of the function alike, so: the most that it can have.
            let most = (shared.shared_memory - fixed) as i32;
            let attribute = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            shared.check(&what, function.set_attribute(attribute, most))?;
        }
        Ok(function)
    }
}

/// A launch, and the function that it runs.
struct Bound {
    launch: Ready,
    grid: [u32; 3],
    function: CudaFunction,
}

impl Bound {
    fn name(&self) -> &'static str {
        self.launch.kernel.name
    }

    fn submit(&self, stream: CUstream) -> Result<(), DriverError> {
        let [x, y, z] = self.grid;
        let mut places: Vec<*mut c_void> = self.launch.arguments().map(|a| a.0).collect();
        // SAFETY: the arguments are those of kernels/README.md, which the driver copies before it returns. The plan keeps the
        // buffers, and so the addresses, alive.
        unsafe {
            result::launch_kernel(
                self.function.cu_function(),
                (x, y, z),
                (self.launch.block, 1, 1),
                self.launch.shared,
                stream,
                &mut places,
            )
        }
    }
}

/// A list of launches, captured as a CUDA graph.
pub(super) struct CudaPlan {
    shared: Arc<Shared>,
    /// One per launch; none where the grid is empty.
    launches: Vec<Option<Bound>>,
    /// The whole list; none where nothing is launched, or the device was told to do without.
    graph: Option<CudaGraph>,
    clock: Option<[CudaEvent; 2]>,
    /// The tickets of the launches that draw, in their order: zero before and after each run.
    _tickets: Memory,
    /// Keeps the buffers alive.
    _bufs: Vec<Buf>,
}

// SAFETY: a graph may be used from any thread, one at a time, and the plan is used through `&mut`.
unsafe impl Send for CudaPlan {}

impl CudaPlan {
    /// Captured as a graph where `captured`; otherwise a run submits launch after launch.
    pub(super) fn new(shared: Arc<Shared>, launches: Vec<Launch>, captured: bool) -> Result<Self> {
        shared.bind()?;
        let drawn =
            |l: &Launch| l.kernel.cuda.and_then(|c| c.tickets).map_or(0, |count| count(&l.params) as usize);
        let tickets = shared.allocate(launches.iter().map(drawn).sum::<usize>() * size_of::<u32>())?;
        let mut free = tickets.pointer();
        let ready = launches
            .iter()
            .map(|launch| {
                let take = |n: u32| {
                    let first = free;
                    free += u64::from(n) * size_of::<u32>() as u64;
                    first
                };
                let ready = Ready::new(NAME, launch, |buf| shared.address(buf), take)?;
                launch.check_ranges(|buf| {
                    let start = shared.address(buf)?;
                    Ok(start..start + (bytes::size(buf.elem()) * buf.len()) as u64)
                })?;
                Ok(ready)
            })
            .collect::<Result<Vec<_>>>()?;
        let mut functions = lock(&shared.functions);
        functions.load(&shared, &ready)?;
        let mut list = Vec::with_capacity(ready.len());
        for launch in ready {
            let function = functions.get(&shared, &launch)?;
            list.push(launch.grid.map(|grid| Bound { launch, grid, function }));
        }
        drop(functions);
        let graph = if captured { capture(&shared, list.iter().flatten())? } else { None };
        let bufs = launches.into_iter().flat_map(|l| l.bufs).collect();
        Ok(Self { shared, launches: list, graph, clock: None, _tickets: tickets, _bufs: bufs })
    }

    fn launch(&self, index: usize) -> Result<Option<&Bound>> {
        self.launches
            .get(index)
            .map(Option::as_ref)
            .ok_or_else(|| fault(format!("the plan has {} launches, asked for {index}", self.launches.len())))
    }
}

/// A stream of ours in whatever context. cudarc's `new_stream` may wait for all of the context first, which ends the captures of
/// every other thread.
struct Aside {
    stream: CUstream,
    context: Arc<CudaContext>,
}

impl Aside {
    fn new(context: &Arc<CudaContext>) -> Result<Self, DriverError> {
        context.bind_to_thread()?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking)?;
        Ok(Self { stream, context: Arc::clone(context) })
    }

    /// For calls of cudarc's; nobody may use it once `self` is dropped.
    fn borrowed(&self) -> Arc<CudaStream> {
        // SAFETY: a stream of this context; whoever calls keeps `self` as long.
        unsafe { self.context.wrap_borrowed_stream(self.stream) }
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: ours, destroyed once.
            let _ = unsafe { result::stream::destroy(self.stream) };
        }
    }
}

/// The launches in order as one graph. Captured in a stream of its own, so that a caller's stream, and buffers that
/// other threads free meanwhile, stay out of it.
fn capture<'a>(shared: &Shared, launches: impl Iterator<Item = &'a Bound>) -> Result<Option<CudaGraph>> {
    let mut launches = launches.peekable();
    if launches.peek().is_none() {
        return Ok(None);
    }
    let what = "capturing a graph";
    let own = shared.check(what, Aside::new(shared.stream.context()))?;
    let aside = own.borrowed(); // the graph keeps it, and is only ever launched in the device's stream
    let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    shared.check(what, aside.begin_capture(mode))?;
    let submitted = launches
        .try_for_each(|l| shared.check(&format!("capturing {}", l.name()), l.submit(aside.cu_stream())));
    // The capture ends whatever happened in it.
    let graph = aside.end_capture(CUgraphInstantiate_flags(0));
    submitted?;
    let graph = shared.check(what, graph)?;
    if let Some(graph) = &graph {
        // SAFETY: both are alive, and the context is bound.
        let uploaded = unsafe { result::graph::upload(graph.cu_graph_exec(), shared.stream.cu_stream()) };
        shared.check(what, uploaded)?;
    }
    Ok(graph)
}

impl Plan for CudaPlan {
    fn run(&mut self) -> Result<()> {
        self.shared.bind()?;
        let Some(graph) = &self.graph else {
            return self.launches.iter().flatten().try_for_each(|launch| {
                self.shared.check(launch.name(), launch.submit(self.shared.stream.cu_stream()))
            });
        };
        // SAFETY: both are alive, the context is bound, and `&mut self` keeps others away from the graph.
        let run = unsafe { result::graph::launch(graph.cu_graph_exec(), self.shared.stream.cu_stream()) };
        self.shared.check("run", run)
    }

    fn run_one(&mut self, index: usize) -> Result<()> {
        self.shared.bind()?;
        let Some(launch) = self.launch(index)? else { return Ok(()) };
        let name = launch.name();
        self.shared.check(name, launch.submit(self.shared.stream.cu_stream()))?;
        self.shared.wait(name)
    }

    fn time_one(&mut self, index: usize) -> Result<f64> {
        self.shared.bind()?;
        let shared = Arc::clone(&self.shared);
        let [start, end] = match self.clock.take() {
            Some(clock) => clock,
            None => {
                let event = || {
                    let made = shared.stream.context().new_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
                    shared.check("making a clock", made)
                };
                [event()?, event()?]
            }
        };
        let Some(launch) = self.launch(index)? else { return Ok(0.0) };
        let name = launch.name();
        shared.check(name, start.record(&shared.stream))?;
        shared.check(name, launch.submit(shared.stream.cu_stream()))?;
        shared.check(name, end.record(&shared.stream))?;
        let seconds = shared.elapsed(&start, &end)?;
        self.clock = Some([start, end]);
        Ok(seconds)
    }
}

impl Drop for CudaPlan {
    fn drop(&mut self) {
        // The graph may still be running; it is destroyed with this. Memory is given back in the order of the stream.
        if self.graph.is_some() && self.shared.bind().is_ok() {
            let _ = self.shared.wait("waiting");
        }
    }
}
