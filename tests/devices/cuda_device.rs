//! The CUDA device on a card, and what it says where there is none.
//!
//! With an NVIDIA card these tests run on it. Without one, each needs the device to say clearly why, which is tested too.

use crate::child::{child, run};
use crate::launch::{add, fails};
use etude::cases;
use etude::device::cuda::cudarc::driver::sys;
use etude::device::cuda::{Cuda, NVRTC_VARIABLE, Origin, cards, compile, fatbin, nvrtc_version, toolkit};
use etude::device::{Device, Launch};
use etude::graph::Graph;
use etude::kernel::{Elem, Params};
use etude::kernels::source::CUDA;
use etude::kernels::{REGISTRY, activation, elementwise};
use etude::ops;

/// Set by `scripts/cuda-check`: there must be an NVRTC then.
const NEEDS_NVRTC: &str = "ETUDE_NEEDS_NVRTC";

/// What NVRTC compiles every source for here; nvcc does for every architecture.
const ARCHITECTURE: &str = "sm_90a";

/// The first card; where there is none that can be used, the reason has been checked and printed.
fn card() -> Option<Cuda> {
    match Cuda::new(0) {
        Ok(device) => Some(device),
        Err(e) => {
            let text = e.to_string();
            assert!(text.starts_with("cuda: ") && text.contains("the CPU"), "{text}");
            eprintln!("not run on a card: {text}");
            None
        }
    }
}

#[test]
fn a_machine_without_a_card_is_told_what_to_do() {
    match cards() {
        // The only errors that a machine without NVIDIA's hardware can meet.
        Err(e) => {
            let text = e.to_string();
            assert!(text.contains("driver") && text.contains("the CPU"), "{text}");
            fails(Cuda::new(0), &[&text]);
            fails(Cuda::new(7), &[&text]);
        }
        Ok(all) => fails(Cuda::new(all.len()), &["no card", "there are"]),
    }
}

#[test]
fn every_source_compiles_with_nvrtc() {
    let version = match nvrtc_version() {
        Ok(version) => version,
        Err(e) => {
            let text = e.to_string();
            assert!(std::env::var_os(NEEDS_NVRTC).is_none(), "{text}");
            assert!(text.contains("nvidia-cuda-nvrtc") && text.contains("LD_LIBRARY_PATH"), "{text}");
            eprintln!("not compiled: {text}");
            return;
        }
    };
    eprintln!("NVRTC {}.{}", version.0, version.1);
    let faults: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = CUDA
            .iter()
            .map(|s| (s.0, ARCHITECTURE))
            .chain(["sm_80", "sm_100"].map(|arch| ("elementwise", arch)))
            .map(|(stem, arch)| scope.spawn(move || check_compiled(stem, arch)))
            .collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    fails(compile("elementwise", "sm_12345"), &["elementwise.cu", "sm_12345"]);
    fails(compile("no such stem", "sm_80"), &["no such stem"]);
}

/// Whether the machine code of a stem has all entry points of its rows.
fn check_compiled(stem: &str, arch: &str) -> Vec<String> {
    let code = match compile(stem, arch) {
        Ok(code) => code,
        Err(e) => return vec![e.to_string()],
    };
    // `instructions` has its rows in a module of tests.
    let rows = REGISTRY.iter().find(|r| r.0 == stem).map_or(&[][..], |r| r.1);
    assert!(!rows.is_empty() || stem == "instructions", "{stem}");
    rows.iter()
        .map(|k| format!(".text.{}\0", k.name))
        .filter(|section| !code.windows(section.len()).any(|w| w == section.as_bytes()))
        .map(|section| format!("kernels/{stem}.cu for {arch} has no {section}"))
        .collect()
}

#[test]
fn the_build_embeds_a_fatbin_of_every_source_or_none() {
    for (stem, _) in CUDA {
        assert_eq!(fatbin(stem).is_some(), toolkit().is_some(), "{stem}");
    }
    assert!(fatbin("no such stem").is_none());
}

#[test]
fn every_case_matches_the_oracle() {
    let Some(device) = card() else { return };
    let mut faults = Vec::new();
    let table = cases::all();
    for case in &table {
        match case.parity(&device) {
            Ok((e, _)) if e <= case.tolerance => {}
            Ok((e, at)) => {
                faults.push(format!("{} {}: {e:e} at {at}, over {:e}", case.stem, case.name, case.tolerance));
            }
            Err(e) => faults.push(format!("{} {}: {e}", case.stem, case.name)),
        }
    }
    assert!(faults.is_empty(), "{} of {} cases:\n{}", faults.len(), table.len(), faults.join("\n"));
}

#[test]
fn a_run_repeats_bit_for_bit_with_and_without_graphs() {
    let (Some(device), Some(plain)) = (card(), card()) else { return };
    plain.use_graphs(false);
    let bits =
        |o: cases::Outcome| -> Vec<u64> { o.into_iter().flat_map(|(_, v)| v).map(f64::to_bits).collect() };
    for case in cases::all() {
        let first = bits(case.run(&device).unwrap());
        assert_eq!(first, bits(case.run(&device).unwrap()), "{} {}", case.stem, case.name);
        assert_eq!(first, bits(case.run(&plain).unwrap()), "{} {}: graph", case.stem, case.name);
    }
}

#[test]
fn nvrtc_and_the_fatbin_agree() {
    if toolkit().is_none() || card().is_none() || nvrtc_version().is_err() {
        return;
    }
    // The variable is read when a device is made.
    let told =
        |nvrtc: &str| run(child("cuda_device::child_runs_what_it_was_told_to").env(NVRTC_VARIABLE, nvrtc));
    told("0").unwrap();
    told("1").unwrap();
}

#[test]
#[ignore = "run by nvrtc_and_the_fatbin_agree"]
fn child_runs_what_it_was_told_to() {
    let device = card().unwrap();
    let told = std::env::var(NVRTC_VARIABLE).is_ok_and(|v| v == "1");
    assert_eq!(device.card().origin == Origin::Nvrtc, told);
    for case in cases::all() {
        let (error, at) = case.parity(&device).unwrap();
        assert!(error <= case.tolerance, "{} {}: {error:e} at {at}", case.stem, case.name);
    }
}

/// cudarc waits for the whole context before its first stream, which ends a capture on any other thread.
#[test]
fn devices_start_while_other_threads_capture() {
    if card().is_none() {
        return;
    }
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..8 {
                    let device = card().unwrap();
                    let d: &dyn Device = &device;
                    let (a, y) = (d.upload(&[1.0f32, 2.0]).unwrap(), d.alloc(Elem::Real, 2).unwrap());
                    add(d, &a, &a, &y).unwrap().run().unwrap();
                    assert_eq!(d.download(&y).unwrap(), [2.0, 4.0]);
                }
            });
        }
    });
}

#[test]
fn checked_and_profiled_runs_work_launch_by_launch() {
    let Some(device) = card() else { return };
    let d: &dyn Device = &device;
    let x = d.upload(&[1.0f32, -2.0, 3.0]).unwrap();
    let mut g = Graph::new();
    let v = g.bind(&x, &[3]).unwrap();
    let twice = ops::add(&mut g, v, v).unwrap();
    let y = ops::activation::relu(&mut g, twice).unwrap();
    let mut step = g.compile(d, &[y]).unwrap();
    step.run_checked(d).unwrap();
    assert_eq!(d.download(step.buf(y).unwrap()).unwrap(), [2.0, 0.0, 6.0]);
    let rows = step.profile().unwrap();
    let names: Vec<_> = rows.iter().map(|r| r.0.name).collect();
    assert_eq!(names, [elementwise::ADD.name, activation::RELU_FWD.name]);
    assert!(rows.iter().all(|r| r.2 > 0.0));
    d.write(&x, (&[1.0f32, f32::INFINITY, 3.0]).into()).unwrap();
    fails(step.run_checked(d), &["elementwise_add", "`y`[1]"]);
}

#[test]
fn host_copies_convert_and_check() {
    let Some(device) = card() else { return };
    let d: &dyn Device = &device;
    let wide = d.upload(&[0.1f64, -1e30, 7.0]).unwrap();
    assert_eq!(d.download(&wide).unwrap(), [0.1f32, -1e30, 7.0]);
    assert_eq!(d.download_f64(&wide).unwrap()[0], f64::from(0.1f32));
    let index = d.upload(&[1u32, u32::MAX]).unwrap();
    let mut back = [0u32; 2];
    d.read(&index, etude::device::HostMut::U32(&mut back)).unwrap();
    assert_eq!(back, [1, u32::MAX]);
    fails(d.download(&index), &["element type"]);
    fails(d.write(&index, (&[1.0f32, 2.0]).into()), &["element type"]);
    fails(d.write(&wide, (&[1.0f32]).into()), &["1"]);
    assert!(d.download(&d.alloc(Elem::Real, 33).unwrap()).unwrap().iter().all(|v| *v == 0.0));
    assert!(d.download(&d.alloc(Elem::Real, 0).unwrap()).unwrap().is_empty());
    d.write(&wide.window(1, 1).unwrap(), (&[5.0f32]).into()).unwrap();
    assert_eq!(d.download(&wide.window(1, 2).unwrap()).unwrap(), [5.0, 7.0]);
    // More than one piece of the memory that reads go through.
    let long: Vec<f32> = (0..700_001).map(|i| i as f32).collect();
    assert_eq!(d.download(&d.upload(&long).unwrap()).unwrap(), long);
}

#[test]
fn too_much_memory_and_too_many_blocks_are_errors() {
    let Some(device) = card() else { return };
    let d: &dyn Device = &device;
    fails(d.alloc(Elem::Real, 1 << 46), &["out of memory", "MiB", "smaller batch"]);
    fails(d.alloc(Elem::Real, usize::MAX), &["out of memory"]);
    // The device goes on.
    assert_eq!(d.download(&d.upload(&[3.0f32]).unwrap()).unwrap(), [3.0]);
    let (a, y) = (d.alloc(Elem::Real, 10).unwrap(), d.alloc(Elem::Real, 10).unwrap());
    fails(add(d, &a, &a, &y).unwrap().run_one(1), &["1 launches", "asked for 1"]);
}

#[test]
fn buffers_of_another_device_are_refused() {
    let (Some(one), Some(two)) = (card(), card()) else { return };
    let a = (&one as &dyn Device).upload(&[1.0f32; 10]).unwrap();
    let y = (&two as &dyn Device).alloc(Elem::Real, 10).unwrap();
    fails((&two as &dyn Device).download(&a), &["another device"]);
    fails(add(&two, &a, &a, &y), &["another device"]);
    let cpu = etude::device::Cpu::<f32>::new(1).unwrap();
    fails((&cpu as &dyn Device).download(&a), &["another device"]);
}

#[test]
fn works_on_a_callers_stream_and_memory() {
    let Some(theirs) = card() else { return };
    let stream = theirs.stream().context().new_stream().unwrap();
    let device = Cuda::from_parts(stream).unwrap();
    let d: &dyn Device = &device;
    let flat = (&theirs as &dyn Device).upload(&(0..1024).map(|i| i as f32).collect::<Vec<_>>()).unwrap();
    theirs.synchronize().unwrap();
    let (address, bytes) = theirs.export(&flat).unwrap();
    assert_eq!(bytes, 4096);
    // SAFETY: `flat` is kept, and its own device does nothing meanwhile.
    let take = |at: u64, n| unsafe { device.import(address + at, Elem::Real, n, flat.clone()) };
    let (x, y) = (take(256, 100).unwrap(), take(2048, 100).unwrap());
    drop(flat.clone());
    add(d, &x, &x, &y).unwrap().run().unwrap();
    let sums = d.download(&y).unwrap();
    assert!(sums.iter().zip(64..).all(|(s, i)| *s == 2.0 * i as f32), "{sums:?}");
    fails(take(3, 1), &["multiple of 4"]);
    fails(take(4092, 1 << 40), &["allocated"]);
    let host = [0f32; 4];
    // SAFETY: refused before anything uses it.
    fails(unsafe { device.import(host.as_ptr() as u64, Elem::Real, 4, ()) }, &["no memory of"]);
    let overlapping = take(2304, 100).unwrap();
    fails(add(d, &x, &overlapping, &y), &["overlaps"]);
}

/// As PyTorch's expandable segments and its asynchronous allocator have it. Everything goes with the process.
#[test]
fn memory_of_mapped_pieces_and_of_another_pool_is_taken() {
    let Some(device) = card() else { return };
    let d: &dyn Device = &device;
    let done = |code: sys::CUresult| assert_eq!(code, sys::CUresult::CUDA_SUCCESS);
    let (mut base, mut piece, mut pooled) = (0, 0, 0);
    // SAFETY: a new device's context is current, every description is whole, and all pointers are valid.
    unsafe {
        let mut wanted: sys::CUmemAllocationProp = std::mem::zeroed();
        wanted.type_ = sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED;
        wanted.location.type_ = sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE;
        let least = sys::CUmemAllocationGranularity_flags::CU_MEM_ALLOC_GRANULARITY_MINIMUM;
        done(sys::cuMemGetAllocationGranularity(&raw mut piece, &raw const wanted, least));
        done(sys::cuMemAddressReserve(&raw mut base, 4 * piece, 0, 0, 0));
        for i in 0..2 {
            let mut memory = 0;
            done(sys::cuMemCreate(&raw mut memory, piece, &raw const wanted, 0));
            done(sys::cuMemMap(base + (i * piece) as u64, piece, 0, memory, 0));
        }
        let flags = sys::CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
        let access = sys::CUmemAccessDesc { location: wanted.location, flags };
        done(sys::cuMemSetAccess(base, 2 * piece, &raw const access, 1));
        done(sys::cuMemAllocAsync(&raw mut pooled, 4096, device.stream().cu_stream()));
    }
    // SAFETY: nobody else knows of the memory, which is never freed.
    let take = |at, bytes: usize| unsafe { device.import(at, Elem::Real, bytes / 4, ()) };
    let whole = take(base, 2 * piece).unwrap();
    let values: Vec<f32> = (0..whole.len()).map(|i| (i % 1000) as f32).collect();
    d.write(&whole, (&values[..]).into()).unwrap();
    assert_eq!(
        d.download(&take(base + piece as u64 - 8, 16).unwrap()).unwrap(),
        values[piece / 4 - 2..][..4]
    );
    fails(take(base + piece as u64, piece + 4), &["allocated"]);
    let sums = take(pooled, 4096).unwrap();
    let window = whole.window(7, 1024).unwrap();
    add(d, &window, &window, &sums).unwrap().run().unwrap();
    assert_eq!(d.download(&sums).unwrap()[..3], [14.0, 16.0, 18.0]);
}

#[test]
fn memory_is_kept_until_it_is_counted() {
    let Some(device) = card() else { return };
    let before = device.memory_in_use().unwrap();
    let buf = device.alloc(Elem::Real, 64 << 20).unwrap();
    assert!(device.memory_in_use().unwrap() >= before + (256 << 20));
    drop(buf);
    // Others may use the card meanwhile, but hardly so much.
    assert!(device.memory_in_use().unwrap() < before + (128 << 20));
}

#[test]
fn a_device_whose_context_died_says_so_ever_after() {
    // In a process of its own: the context is dead for all of it.
    if card().is_none() {
        return;
    }
    run(&mut child("cuda_device::child_kills_its_context")).unwrap();
}

#[test]
#[ignore = "run by a_device_whose_context_died_says_so_ever_after"]
fn child_kills_its_context() {
    let device = card().unwrap();
    let d: &dyn Device = &device;
    let a = d.upload(&[1.0f32; 1 << 10]).unwrap();
    let y = d.alloc(Elem::Real, 1 << 10).unwrap();
    // Params that lie about the length: the kernel reads far beyond what is mapped.
    let params = Params::new(&elementwise::ElementwiseParams { n: u32::MAX, factor: 1.0 });
    let bufs = vec![a.clone(), a.clone(), y.clone()];
    let mut plan = d.compile(vec![Launch { kernel: &elementwise::ADD, bufs, params }]).unwrap();
    fails(plan.run_one(0), &["ETUDE_DEBUG"]);
    fails(plan.run(), &["lost"]);
    fails(d.download(&y), &["lost"]);
    fails(d.alloc(Elem::Real, 7), &["lost"]);
    fails(d.write(&a, (&[0.0f32; 1 << 10]).into()), &["lost"]);
    fails(add(d, &a, &a, &y), &["lost"]);
}

/// A line for each launch of the case table: kernel, threads and bytes of dynamic shared memory of a block, and whether it is
/// timed.
#[test]
#[ignore = "run by scripts/cuda-check, which reads what it prints"]
fn blocks_of_the_case_table() {
    let cpu = etude::device::Cpu::<f32>::new(1).unwrap();
    for case in cases::all() {
        for launch in case.prepare(&cpu).unwrap().step.recorded() {
            let (name, cuda) = (launch.kernel.name, &launch.kernel.cuda);
            println!("block {name} {} {} {}", cuda.block, (cuda.shared)(&launch.params), case.bench);
        }
    }
}
