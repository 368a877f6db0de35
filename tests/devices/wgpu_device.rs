//! The WGSL device's edges: whatever fails is an error with advice, never a panic; work inside a caller's
//! device; windows of one buffer; grids longer than an adapter takes.

use crate::child::{arguments, child, run};
use crate::gpu;
use crate::launch::{add, fails};
use crate::table::{CASES, WGPU, fault, faults};
use etude::device::wgpu::wgpu;
use etude::device::wgpu::{ADAPTER_VARIABLE, Select, Wgpu, adapters};
use etude::device::{Device, Launch};
use etude::graph::Graph;
use etude::kernel::{Elem, Params};
use etude::kernels::{activation, elementwise};
use etude::ops;
use std::collections::HashSet;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(v) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return v;
        }
    }
}

/// A caller's own device, with limits and memory as the caller likes.
fn foreign(
    thresholds: wgpu::MemoryBudgetThresholds,
    limits: impl FnOnce(&mut wgpu::Limits),
) -> Result<(wgpu::Adapter, wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::PRIMARY,
        memory_budget_thresholds: thresholds,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let wanted = gpu::wgpu().adapter_name().to_string();
    let adapter = block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY))
        .into_iter()
        .find(|a| a.get_info().name == wanted)
        .unwrap();
    let mut required = wgpu::Limits::default();
    limits(&mut required);
    let (device, queue) = block_on(
        adapter.request_device(&wgpu::DeviceDescriptor { required_limits: required, ..Default::default() }),
    )?;
    Ok((adapter, device, queue))
}

fn limited(limits: impl FnOnce(&mut wgpu::Limits)) -> Wgpu {
    let (adapter, device, queue) = foreign(Default::default(), limits).unwrap();
    Wgpu::from_parts(&adapter, device, queue)
}

#[test]
fn adapters_are_listed_and_selected_by_name_or_index() {
    let all = adapters();
    assert!(!all.is_empty());
    let wanted = gpu::wgpu().adapter_name().to_string();
    let report = all.iter().find(|r| r.name == wanted).unwrap();
    assert_eq!(report.unusable, None);
    assert!(report.max_buffer >= 128 << 20 && !report.driver.is_empty());
    assert!(["vulkan", "metal", "dx12"].contains(&report.backend.as_str()), "{}", report.backend);
    for name in [report.index.to_string(), wanted[1..].to_uppercase()] {
        assert_eq!(Wgpu::new(&Select::Adapter(name)).unwrap().adapter_name(), wanted);
    }
    fails(Wgpu::new(&Select::Adapter("no such adapter".into())), &["no such adapter", &wanted]);
    fails(Wgpu::new(&Select::Adapter("999".into())), &["999", &wanted]);
}

#[test]
fn the_environment_selects_an_adapter() {
    let name = gpu::wgpu().adapter_name().to_string();
    let on = |adapter: &str| {
        run(child("wgpu_device::host_copies_convert_and_check").env(ADAPTER_VARIABLE, adapter))
    };
    on(&name).unwrap();
    assert!(on("no such adapter").is_err());
}

#[test]
#[cfg(target_os = "linux")]
fn no_driver_at_all_is_an_error() {
    // Both names the Vulkan loader has had for its list of drivers.
    let none = [("VK_DRIVER_FILES", "/dev/null"), ("VK_ICD_FILENAMES", "/dev/null"), (ADAPTER_VARIABLE, "")];
    run(child("wgpu_device::child_without_drivers").envs(none)).unwrap();
}

#[test]
#[ignore = "run by no_driver_at_all_is_an_error"]
fn child_without_drivers() {
    assert!(adapters().is_empty());
    fails(Wgpu::new(&Select::Auto), &["use the CPU", "there are: none"]);
    fails(Wgpu::new(&Select::Software), &["mesa-vulkan-drivers"]);
}

#[test]
fn a_software_adapter_is_never_taken_unasked() {
    if std::env::var_os(ADAPTER_VARIABLE).is_some() {
        return; // asked for
    }
    match Wgpu::new(&Select::Auto) {
        Ok(device) => assert!(!device.is_software()),
        Err(e) => {
            let text = e.to_string();
            assert!(text.contains(ADAPTER_VARIABLE) && text.contains("use the CPU"), "{text}");
        }
    }
}

#[test]
fn a_lost_device_is_an_error_everywhere() {
    let device = gpu::wgpu();
    let d: &dyn Device = &device;
    let (a, y) = (d.upload(&[1.0f32; 1000]).unwrap(), d.alloc(Elem::Real, 1000).unwrap());
    let mut plan = add(d, &a, &a, &y).unwrap();
    plan.run().unwrap();
    plan.run().unwrap();
    device.raw().0.destroy();
    let mut faults = 0;
    for _ in 0..4 {
        faults += usize::from(plan.run().is_err());
    }
    assert!(faults >= 3, "{faults} of 4 runs failed");
    fails(plan.run(), &["lost"]);
    fails(plan.run_one(0), &["lost"]);
    fails(d.download(&y), &["lost"]);
    fails(d.alloc(Elem::Real, 7), &["lost"]);
    fails(d.write(&a, (&[0.0f32; 1000]).into()), &["lost"]);
    fails(add(d, &a, &a, &y), &["lost"]);
}

#[test]
fn a_callers_lost_device_is_an_error_when_read() {
    let device = limited(|_| {});
    let d: &dyn Device = &device;
    let (a, y) = (d.upload(&[1.0f32; 1000]).unwrap(), d.alloc(Elem::Real, 1000).unwrap());
    let mut plan = add(d, &a, &a, &y).unwrap();
    device.raw().0.destroy();
    for _ in 0..5 {
        let _ = plan.run();
    }
    assert!(plan.run_one(0).is_err() | d.download(&y).is_err());
    assert!(d.download(&y).is_err());
    let _ = d.alloc(Elem::Real, 7);
    let _ = add(d, &a, &a, &y);
}

#[test]
fn buffers_beyond_the_limits_and_beyond_memory_are_errors() {
    let small = limited(|l| {
        l.max_buffer_size = 1 << 20;
        l.max_storage_buffer_binding_size = 1 << 20;
    });
    fails(small.alloc(Elem::Real, (1 << 18) + 1), &["1048580", "smaller batch"]);
    fails(small.alloc(Elem::Real, usize::MAX), &["smaller batch"]);
    small.alloc(Elem::Real, 1 << 18).unwrap();

    let nothing = wgpu::MemoryBudgetThresholds { for_resource_creation: Some(0), for_device_loss: None };
    // Only drivers that report a budget can be limited this way; a card's refuses wgpu's own few buffers already.
    match foreign(nothing, |_| {}) {
        Err(e) => assert!(e.to_string().contains("memory"), "{e}"),
        Ok((adapter, device, queue)) => {
            if let Err(e) = Wgpu::from_parts(&adapter, device, queue).alloc(Elem::Real, 1 << 20) {
                assert!(e.to_string().contains("out of memory"), "{e}");
            }
        }
    }
}

#[test]
fn too_many_buffers_are_an_error() {
    let few = limited(|l| l.max_storage_buffers_per_shader_stage = 2);
    let d: &dyn Device = &few;
    let a = d.upload(&[1.0f32; 10]).unwrap();
    let y = d.alloc(Elem::Real, 10).unwrap();
    fails(add(d, &a, &a, &y), &["elementwise_add", "3 buffers", "2"]);
}

#[test]
fn long_grids_are_folded() {
    // Five workgroups a side: 25 of 1024 elements in a plane.
    let device = limited(|l| l.max_compute_workgroups_per_dimension = 5);
    let d: &dyn Device = &device;
    for n in [5 * 1024, 5 * 1024 + 1, 11 * 1024, 23 * 1024 + 7, 25 * 1024] {
        let values: Vec<f32> = (0..n).map(|i| i as f32).collect();
        let a = d.upload(&values).unwrap();
        let y = d.upload(&vec![f32::NAN; n]).unwrap();
        add(d, &a, &a, &y).unwrap().run().unwrap();
        assert!(d.download(&y).unwrap().iter().zip(&values).all(|(y, v)| *y == 2.0 * v), "{n}");
    }
    let n = 26 * 1024;
    let (a, y) = (d.alloc(Elem::Real, n).unwrap(), d.alloc(Elem::Real, n).unwrap());
    fails(add(d, &a, &a, &y), &["elementwise_add", "26", "smaller batch"]);
}

#[test]
fn windows_of_one_buffer_may_be_read_and_written_together() {
    let device = gpu::wgpu();
    let d: &dyn Device = &device;
    let values: Vec<f32> = (0..256).map(|i| i as f32).collect();
    let flat = d.upload(&values).unwrap();
    let (a, b, y) =
        (flat.window(0, 50).unwrap(), flat.window(64, 50).unwrap(), flat.window(128, 50).unwrap());
    let mut plan = add(d, &a, &b, &y).unwrap();
    plan.run().unwrap();
    d.write(&b, (&[1000.0f32; 50]).into()).unwrap();
    let first = d.download(&y).unwrap();
    plan.run().unwrap();
    let second = d.download(&y).unwrap();
    for i in 0..50 {
        assert_eq!((first[i], second[i]), (64.0 + 2.0 * i as f32, 1000.0 + i as f32));
    }
    // What lies between is untouched.
    assert_eq!(d.download(&flat).unwrap()[178..], values[178..]);
    fails(add(d, &a, &a, &a), &["overlaps"]);
}

#[test]
fn buffers_of_another_device_are_refused() {
    let (one, two) = (gpu::wgpu(), gpu::wgpu());
    let a = (&one as &dyn Device).upload(&[1.0f32; 10]).unwrap();
    let y = (&two as &dyn Device).alloc(Elem::Real, 10).unwrap();
    fails((&two as &dyn Device).download(&a), &["another device"]);
    fails(add(&two, &a, &a, &y), &["another device"]);
    let cpu = etude::device::Cpu::<f32>::new(1).unwrap();
    fails((&cpu as &dyn Device).download(&a), &["another device"]);
}

#[test]
fn works_on_a_callers_device_and_buffers() {
    let (adapter, raw, queue) = foreign(Default::default(), |_| {}).unwrap();
    let device = Wgpu::from_parts(&adapter, raw.clone(), queue.clone());
    let d: &dyn Device = &device;
    let theirs = raw.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 4096,
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC,
        mapped_at_creation: false,
    });
    let values: Vec<f32> = (0..1024).map(|i| i as f32).collect();
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_ne_bytes()).collect();
    queue.write_buffer(&theirs, 0, &bytes);
    let x = device.import(theirs.clone(), 256, Elem::Real, 100).unwrap();
    let y = device.import(theirs.clone(), 2048, Elem::Real, 100).unwrap();
    add(d, &x, &x, &y).unwrap().run().unwrap();
    let sums = d.download(&y).unwrap();
    assert!(sums.iter().zip(64..).all(|(s, i)| *s == 2.0 * i as f32), "{sums:?}");
    let (same, offset, size) = device.export(&y).unwrap();
    assert!(same == theirs && (offset, size) == (2048, 400));

    fails(device.import(theirs.clone(), 6, Elem::Real, 1), &["multiple of 4"]);
    fails(device.import(theirs.clone(), 3840, Elem::Real, 65), &["4096"]);
    let overlapping = device.import(theirs.clone(), 2304, Elem::Real, 100).unwrap();
    fails(add(d, &x, &overlapping, &y), &["overlaps"]);
    let uniform = raw.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 4096,
        usage: wgpu::BufferUsages::UNIFORM,
        mapped_at_creation: false,
    });
    fails(device.import(uniform, 0, Elem::Real, 1), &["STORAGE"]);
}

/// burn and cubecl place tensors in one buffer at multiples of what the adapter needs; a slice of one may begin anywhere.
#[test]
fn a_callers_tensors_may_begin_anywhere() {
    for own_alignment in [true, false] {
        // On an adapter whose least is WebGPU's 256 nothing else can be bound in place.
        let least =
            foreign(Default::default(), |_| {}).unwrap().0.limits().min_storage_buffer_offset_alignment;
        let (adapter, raw, queue) = foreign(Default::default(), |l| {
            if own_alignment {
                l.min_storage_buffer_offset_alignment = least;
            }
        })
        .unwrap();
        let device = Wgpu::from_parts(&adapter, raw.clone(), queue.clone());
        let d: &dyn Device = &device;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let buffer = |usage| {
            raw.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: 1 << 16,
                usage,
                mapped_at_creation: false,
            })
        };
        let pool = buffer(usage);
        let values: Vec<f32> = (0..1 << 14).map(|i| i as f32).collect();
        let n = 1500;
        for [a, b, y] in [
            [u64::from(least), 9000 + 8, 20_000],
            [4, 4, 4 * 1501],
            [4 * 3001, 4 * 1501, 4],
            [u64::from(least), 256 * 40, 256 * 100],
            [256, 256 * 40, 256 * 100 + 4],
        ] {
            queue.write_buffer(&pool, 0, bytemuck::cast_slice(&values));
            let [x, z, sum] = [a, b, y].map(|at| device.import(pool.clone(), at, Elem::Real, n).unwrap());
            let mut plan = add(d, &x, &z, &sum).unwrap();
            plan.run().unwrap();
            plan.run().unwrap();
            let all = d.download(&device.import(pool.clone(), 0, Elem::Real, values.len()).unwrap()).unwrap();
            let [a, b, y] = [a, b, y].map(|at| at as usize / 4);
            for (i, v) in all.iter().enumerate() {
                let want =
                    if (y..y + n).contains(&i) { values[i - y + a] + values[i - y + b] } else { values[i] };
                assert_eq!(*v, want, "{i}, of {a} + {b} at {y}");
            }
        }
        // A buffer that cannot be copied is used in place, or refused.
        let fixed = buffer(wgpu::BufferUsages::STORAGE);
        let at = |offset| device.import(fixed.clone(), offset, Elem::Real, 10).unwrap();
        let y = d.alloc(Elem::Real, 10).unwrap();
        let aligned = add(d, &at(256), &at(64), &y);
        assert_eq!(aligned.is_ok(), own_alignment && least <= 64);
        fails(add(d, &at(256), &at(4), &y), &["elementwise_add", "`b`", "byte 4", "COPY_SRC"]);
        fails(add(d, &y, &y, &at(4)), &["elementwise_add", "`y`", "COPY_DST"]);
    }
}

#[test]
fn every_kernel_runs_on_windows_between_alignments() {
    faults(|i, _| fault(i, WGPU.odd[i].as_ref()?));
    let ran = CASES.iter().zip(&WGPU.odd).filter(|(_, odd)| odd.is_some());
    let done: HashSet<_> = ran.map(|(case, _)| case.stem).collect();
    let stems: HashSet<_> = etude::kernels::REGISTRY.iter().map(|r| r.0).collect();
    assert_eq!(done, stems, "a stem has no small case");
}

#[test]
fn a_callers_device_with_too_low_limits_is_an_error() {
    let y = |d: &Wgpu| d.alloc(Elem::Real, 10).unwrap();
    let slow = limited(|l| {
        l.max_compute_invocations_per_workgroup = 64;
        l.max_compute_workgroup_size_x = 64;
    });
    fails(
        add(&slow, &y(&slow), &y(&slow), &y(&slow)),
        &["elementwise_add", "256 threads", "64", "default limits"],
    );
    let tight = limited(|l| l.max_compute_workgroup_storage_size = 512);
    add(&tight, &y(&tight), &y(&tight), &y(&tight)).unwrap();
    let mut g = Graph::new();
    let x = g.bind(&y(&tight), &[10]).unwrap();
    let target = g.bind(&y(&tight), &[10]).unwrap();
    let loss = ops::loss::mse(&mut g, x, target, Default::default()).unwrap();
    fails(g.compile(&tight, &[loss]), &["loss_mse", "1024 bytes", "512", "default limits"]);
}

#[test]
fn features_that_are_not_there_are_errors_or_not_needed() {
    // Requested without any.
    let plain = limited(|_| {});
    fails(plain.alloc(Elem::F16, 10), &["has no f16", "use f32"]);
    fails(plain.alloc(Elem::Bf16, 10), &["bf16", "use f16 or f32"]);
    let (a, y) = (plain.alloc(Elem::Real, 10).unwrap(), plain.alloc(Elem::Real, 10).unwrap());
    // Without timestamps, time is the host's.
    assert!(add(&plain, &a, &a, &y).unwrap().time_one(0).unwrap() > 0.0);
}

/// The driver's own refusal, in a process that may not have more memory.
#[test]
#[cfg(target_os = "linux")]
fn memory_that_cannot_be_had_is_an_error() {
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -v 6000000 && exec \"$0\" \"$@\""]).arg(std::env::current_exe().unwrap());
    run(limited.args(arguments("wgpu_device::child_without_memory"))).unwrap();
}

#[test]
#[ignore = "run by memory_that_cannot_be_had_is_an_error"]
fn child_without_memory() {
    let device = gpu::wgpu();
    if !device.is_software() {
        return; // its memory is not this process's
    }
    let d: &dyn Device = &device;
    let (mut held, piece) = (Vec::new(), 1 << 25);
    let refused = loop {
        match d.alloc(Elem::Real, piece) {
            Ok(buf) => held.push(buf),
            Err(e) => break e.to_string(),
        }
        assert!(held.len() < 100, "the limit does not hold");
    };
    eprintln!("after {} x 128 MiB: {refused}", held.len());
    assert!(refused.contains("out of memory") && refused.contains("smaller batch"), "{refused}");
    // Once memory is given back, the device goes on.
    held.clear();
    let a = d.upload(&[1.0f32; 1000]).unwrap();
    let y = d.alloc(Elem::Real, 1000).unwrap();
    add(d, &a, &a, &y).unwrap().run().unwrap();
    assert_eq!(d.download(&y).unwrap(), [2.0; 1000]);
}

#[test]
fn a_kernel_without_a_shader_and_wrong_params_are_errors() {
    let device = gpu::wgpu();
    let d: &dyn Device = &device;
    let a = d.upload(&[1.0f32; 10]).unwrap();
    let y = d.alloc(Elem::Real, 10).unwrap();
    let bufs = vec![a.clone(), a.clone(), y.clone()];
    let launch = Launch { kernel: &elementwise::ADD, bufs, params: Params::new(&[10u32]) };
    fails(d.compile(vec![launch]), &["elementwise_add", "params of 4 bytes", "8"]);
    let plan = add(d, &a, &a, &y).unwrap().run_one(1);
    fails(plan, &["1 launches", "asked for 1"]);
}

#[test]
fn checked_and_profiled_runs_work_launch_by_launch() {
    let device = gpu::wgpu();
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
    // The device's clock agrees with the host's where submission and waiting weigh nothing.
    let n = 1 << 22;
    let (a, y) = (d.alloc(Elem::Real, n).unwrap(), d.alloc(Elem::Real, n).unwrap());
    let mut plan = add(d, &a, &a, &y).unwrap();
    plan.run_one(0).unwrap();
    let start = std::time::Instant::now();
    let (device_s, host_s) = (plan.time_one(0).unwrap(), start.elapsed().as_secs_f64());
    eprintln!("device {device_s:e} s, host {host_s:e} s");
    assert!(device_s > 0.0 && device_s <= host_s);
    d.write(&x, (&[1.0f32, f32::INFINITY, 3.0]).into()).unwrap();
    fails(step.run_checked(d), &["elementwise_add", "`y`[1]"]);
}

#[test]
fn host_copies_convert_and_check() {
    let device = gpu::wgpu();
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
    let none = d.alloc(Elem::Real, 0).unwrap();
    assert!(d.download(&none).unwrap().is_empty());
    // Windows are read and written where they are.
    d.write(&wide.window(1, 1).unwrap(), (&[5.0f32]).into()).unwrap();
    assert_eq!(d.download(&wide.window(1, 2).unwrap()).unwrap(), [5.0, 7.0]);
}
