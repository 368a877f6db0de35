//! Writes the launches of the case table, with their buffers, for `sanitize.cpp` to run again under sanitizers.
//!
//! `cuda_launches OUT LIMIT` writes `OUT/launches`, the C++ that the build made of the CUDA sources to `OUT/sources`, and says
//! what it left out: launches whose cost, flops and bytes together, is above LIMIT.

use etude::cases;
use etude::device::cuda::{CudaOnCpu, SOURCES_DIR};
use etude::device::{Buf, Device, Host, HostMut, Launch, Plan};
use etude::kernels::{Access, Elem, REGISTRY};
use etude::{Error, Result};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// A device that notes what runs on it.
struct Recorder {
    device: Arc<CudaOnCpu>,
    notes: Arc<Mutex<Notes>>,
}

struct Notes {
    file: std::io::BufWriter<std::fs::File>,
    limit: u64,
    case: String,
    written: usize,
    left_out: BTreeMap<String, (usize, u64)>,
}

impl Device for Recorder {
    fn name(&self) -> String {
        self.device.name()
    }
    fn alloc(&self, elem: Elem, len: usize) -> Result<Buf> {
        self.device.alloc(elem, len)
    }
    fn write(&self, dst: &Buf, src: Host<'_>) -> Result<()> {
        self.device.write(dst, src)
    }
    fn read(&self, src: &Buf, dst: HostMut<'_>) -> Result<()> {
        self.device.read(src, dst)
    }
    fn compile(&self, launches: Vec<Launch>) -> Result<Box<dyn Plan>> {
        let plan = self.device.compile(launches.clone())?;
        let (device, notes) = (Arc::clone(&self.device), Arc::clone(&self.notes));
        Ok(Box::new(Recording { plan, launches, device, notes }))
    }
}

struct Recording {
    plan: Box<dyn Plan>,
    launches: Vec<Launch>,
    device: Arc<CudaOnCpu>,
    notes: Arc<Mutex<Notes>>,
}

impl Recording {
    /// A buffer's elements as 32-bit words.
    fn words(&self, buf: &Buf) -> Result<Vec<u32>> {
        let mut words = vec![0; buf.len()];
        match buf.elem() {
            Elem::Real => self.device.read(buf, HostMut::F32(bytemuck::cast_slice_mut(&mut words)))?,
            Elem::Index => self.device.read(buf, HostMut::U32(&mut words))?,
        }
        Ok(words)
    }
}

impl Plan for Recording {
    fn run(&mut self) -> Result<()> {
        (0..self.launches.len()).try_for_each(|i| self.run_one(i))
    }

    /// Runs and writes, all numbers 32 bits wide in the machine's order: length and text of the case's and of the kernel's name;
    /// grid, block and bytes of shared memory; length and words of the params; whether a ticket is drawn; the number of
    /// buffers, and for each its length, its address modulo 64, what it holds, whether it is written and, if so, what it holds
    /// afterwards.
    fn run_one(&mut self, index: usize) -> Result<()> {
        let launch = self.launches[index].clone();
        let kernel = launch.kernel;
        let before = launch.bufs.iter().map(|b| self.words(b)).collect::<Result<Vec<_>>>()?;
        self.plan.run_one(index)?;
        let cost = (kernel.cost)(&launch.params);
        let cost = cost.flops + cost.bytes;
        let after = launch.bufs.iter().map(|b| self.words(b)).collect::<Result<Vec<_>>>()?;
        let mut notes = self.notes.lock().map_err(|e| Error::config(e.to_string()))?;
        if cost > notes.limit {
            let case = notes.case.clone();
            let left = notes.left_out.entry(format!("{} of {case}", kernel.name)).or_default();
            *left = (left.0 + 1, cost);
            return Ok(());
        }
        let cuda = kernel.cuda.ok_or_else(|| Error::config("the device has run it"))?;
        let mut words: Vec<u32> = Vec::new();
        for text in [notes.case.as_str(), kernel.name] {
            let mut bytes = text.as_bytes().to_vec();
            bytes.resize(bytes.len().next_multiple_of(4), b' ');
            words.push(bytes.len() as u32);
            words.extend(bytes.chunks_exact(4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]])));
        }
        words.extend((cuda.grid)(&launch.params));
        words.extend([cuda.block, (cuda.shared)(&launch.params)]);
        let params = launch.params.as_bytes();
        words.push(params.len() as u32 / 4);
        words.extend(params.chunks_exact(4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]])));
        words.extend([u32::from(cuda.ticket), launch.bufs.len() as u32]);
        for (i, binding) in kernel.bindings.iter().enumerate() {
            let written = binding.access != Access::In;
            words.extend([before[i].len() as u32, (self.device.address(&launch.bufs[i])? % 64) as u32]);
            words.extend(&before[i]);
            words.push(u32::from(written));
            if written {
                words.extend(&after[i]);
            }
        }
        notes.written += 1;
        notes.file.write_all(bytemuck::cast_slice(&words)).map_err(Error::io("launches", "write"))
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [out, limit] = arguments.as_slice() else {
        return Err(Error::config("usage: cuda_launches OUT LIMIT"));
    };
    let limit = limit.parse().map_err(|e| Error::config(format!("{limit}: {e}")))?;
    let out = Path::new(out);
    let sources = out.join("sources");
    std::fs::create_dir_all(&sources).map_err(Error::io(&sources, "create"))?;
    for entry in std::fs::read_dir(SOURCES_DIR).map_err(Error::io(SOURCES_DIR, "list"))?.flatten() {
        let to = sources.join(entry.file_name());
        std::fs::copy(entry.path(), &to).map_err(Error::io(&to, "write"))?;
    }
    let path = out.join("launches");
    let file = std::fs::File::create(&path).map_err(Error::io(&path, "create"))?;
    let notes = Arc::new(Mutex::new(Notes {
        file: std::io::BufWriter::new(file),
        limit,
        case: String::new(),
        written: 0,
        left_out: BTreeMap::new(),
    }));
    let recorder = Recorder { device: Arc::new(CudaOnCpu::with_seed(0)?), notes: Arc::clone(&notes) };
    let table = cases::all();
    let total = table.len();
    let mut whole = 0;
    let has_cuda = |stem: &str| {
        REGISTRY.iter().any(|(name, kernels)| *name == stem && kernels.iter().all(|k| k.cuda.is_some()))
    };
    for case in table {
        if !has_cuda(case.stem) {
            println!("left out, no CUDA source yet: {} {}", case.stem, case.name);
            continue;
        }
        let lock = || notes.lock().map_err(|e| Error::config(e.to_string()));
        let left_out = {
            let mut notes = lock()?;
            notes.case = format!("{} {}", case.stem, case.name);
            notes.left_out.len()
        };
        case.run(&recorder)?;
        whole += usize::from(lock()?.left_out.len() == left_out);
    }
    let mut notes = notes.lock().map_err(|e| Error::config(e.to_string()))?;
    notes.file.flush().map_err(Error::io(&path, "write"))?;
    let left: usize = notes.left_out.values().map(|l| l.0).sum();
    println!(
        "{} launches; {whole} of {total} cases whole; left out, as above {limit} flops and bytes: {left}",
        notes.written
    );
    for (what, (times, cost)) in &notes.left_out {
        println!("  {what}, {cost} flops and bytes, {times} times");
    }
    Ok(())
}
