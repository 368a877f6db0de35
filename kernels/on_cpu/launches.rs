//! Writes the launches of the case table, with their buffers, for `sanitize.cpp` to run again under sanitizers.
//!
//! `cuda_launches OUT LIMIT` writes `OUT/launches`, the C++ that the build made of the CUDA sources to `OUT/sources`, and says
//! what it left out: launches whose cost, flops and bytes together, is above LIMIT.

use bytemuck::Pod;
use etude::cases;
use etude::device::cuda::{CudaOnCpu, SOURCES_DIR};
use etude::device::{Buf, Device, Host, HostMut, Launch, Plan};
use etude::kernel::{Access, Elem};
use etude::{Error, Result};
use half::{bf16, f16};
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
    /// What a buffer holds.
    fn bytes(&self, buf: &Buf) -> Result<Vec<u8>> {
        fn read<T: Pod>(len: usize, read: impl FnOnce(&mut [T]) -> Result<()>) -> Result<Vec<u8>> {
            let mut elements = vec![T::zeroed(); len];
            read(&mut elements)?;
            Ok(bytemuck::cast_slice(&elements).to_vec())
        }
        let (device, len) = (&self.device, buf.len());
        match buf.elem() {
            Elem::Real => read::<f32>(len, |v| device.read(buf, v.into())),
            Elem::Index => read::<u32>(len, |v| device.read(buf, v.into())),
            Elem::F16 => read::<f16>(len, |v| device.read(buf, v.into())),
            Elem::Bf16 => read::<bf16>(len, |v| device.read(buf, v.into())),
        }
    }
}

impl Plan for Recording {
    fn run(&mut self) -> Result<()> {
        (0..self.launches.len()).try_for_each(|i| self.run_one(i))
    }

    /// Runs and writes, all numbers 32 bits wide in the machine's order and what follows a length as long as that says: length
    /// and text of the case's and of the kernel's name; grid, block and bytes of shared memory; length and bytes of the params;
    /// the number of tickets; the number of buffers, and for each its address modulo 64, its length and what it holds, and the
    /// length and contents of what it holds afterwards, 0 where it is not written.
    fn run_one(&mut self, index: usize) -> Result<()> {
        let launch = self.launches[index].clone();
        let kernel = launch.kernel;
        let before = launch.bufs.iter().map(|b| self.bytes(b)).collect::<Result<Vec<_>>>()?;
        self.plan.run_one(index)?;
        let cost = (kernel.cost)(&launch.params);
        let cost = cost.flops + cost.bytes;
        let mut notes = self.notes.lock().map_err(|e| Error::config(e.to_string()))?;
        if cost > notes.limit {
            let what = format!("{} of {}", kernel.name, notes.case);
            let left = notes.left_out.entry(what).or_default();
            *left = (left.0 + 1, cost);
            return Ok(());
        }
        let cuda = &kernel.cuda;
        let mut out = Vec::new();
        let number = |out: &mut Vec<u8>, v: usize| out.extend((v as u32).to_ne_bytes());
        let run_of = |out: &mut Vec<u8>, bytes: &[u8]| {
            number(out, bytes.len());
            out.extend(bytes);
        };
        run_of(&mut out, notes.case.as_bytes());
        run_of(&mut out, kernel.name.as_bytes());
        for v in (cuda.grid)(&launch.params).into_iter().chain([cuda.block, (cuda.shared)(&launch.params)]) {
            number(&mut out, v as usize);
        }
        run_of(&mut out, launch.params.as_bytes());
        number(&mut out, cuda.tickets.map_or(0, |count| count(&launch.params) as usize));
        number(&mut out, launch.bufs.len());
        for ((binding, buf), before) in kernel.bindings.iter().zip(&launch.bufs).zip(before) {
            number(&mut out, self.device.address(buf)? % 64);
            run_of(&mut out, &before);
            let after = if binding.access == Access::In { Vec::new() } else { self.bytes(buf)? };
            run_of(&mut out, &after);
        }
        notes.written += 1;
        notes.file.write_all(&out).map_err(Error::io("launches", "write"))
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
    for case in table {
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
