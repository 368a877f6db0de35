//! Compiled lists of launches.

use super::fault::{NAME, fault, lock};
use super::launch::Ready;
use super::shared::{Memory, Shared};
use crate::Result;
use crate::device::buf::Buf;
use crate::device::interface::Plan;
use crate::device::launch::Launch;
use cudarc::driver::sys::{CUevent_flags, CUgraphInstantiate_flags, CUstream, CUstreamCaptureMode};
use cudarc::driver::{CudaContext, CudaEvent, CudaFunction, CudaGraph, CudaStream, DriverError, result};
use std::ffi::c_void;
use std::sync::Arc;

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
        let drawn = |l: &Launch| l.kernel.cuda.tickets.map_or(0, |count| count(&l.params) as usize);
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
                    Ok(start..start + (buf.elem().bytes::<f32>() * buf.len()) as u64)
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
