//! What the CUDA device asks of the driver, by a driver that plays a card: memory, a caller's memory, what is loaded when.
//!
//! Each test runs in a process of its own, which finds that driver. Nothing is computed there.

use crate::child::{child, run};
use crate::driver::Driver;
use crate::launch::{add, fails};
use etude::Result;
use etude::device::cuda::Cuda;
use etude::device::{Buf, Device};
use etude::embed::{Buffers, Contrastive};
use etude::kernel::Elem;
use std::sync::{Arc, Mutex};

const MIB: usize = 1 << 20;

fn play(test: &str) {
    run(child(&format!("cuda_driver::{test}")).envs(Driver::new().variables())).unwrap();
}

fn card() -> Cuda {
    Cuda::new(0).unwrap()
}

/// The calls so far, each with its two numbers.
fn log() -> Vec<String> {
    let text = std::fs::read_to_string(std::env::var_os("FAKE_LOG").unwrap()).unwrap();
    text.lines().map(str::to_string).collect()
}

/// How many calls begin so.
fn calls(what: &str) -> usize {
    log().iter().filter(|line| line.starts_with(what)).count()
}

fn mib(d: &dyn Device, count: usize) -> Result<Buf> {
    d.alloc(Elem::Real, count * MIB / 4)
}

#[test]
fn memory_stays_in_a_pool_of_the_devices_own() {
    play("child_allocates_again");
}

#[test]
#[ignore = "run by memory_stays_in_a_pool_of_the_devices_own"]
fn child_allocates_again() {
    let device = card();
    for _ in 0..3 {
        let buf = mib(&device, 8).unwrap();
        assert!((&device as &dyn Device).download(&buf).unwrap().iter().all(|v| *v == 0.0));
        drop(buf);
        // By itself a pool gives back what is free here.
        device.synchronize().unwrap();
    }
    assert_eq!((calls("cuMemAllocFromPoolAsync"), calls("card gives")), (3, 1), "{:?}", log());
    assert_eq!(calls("cuMemAllocAsync"), 0);
    // The release threshold.
    assert_eq!(calls(&format!("cuMemPoolSetAttribute 4 {}", u64::MAX)), 1);
    // What is in use is what buffers hold.
    assert_eq!(device.memory_in_use().unwrap(), 0);
    let buf = mib(&device, 5).unwrap();
    drop(mib(&device, 7).unwrap());
    assert_eq!(device.memory_in_use().unwrap(), 5 * MIB);
    assert_eq!((&device as &dyn Device).download(&buf).unwrap().len(), 5 * MIB / 4);
}

#[test]
fn a_full_card_is_tidied_before_it_is_an_error() {
    play("child_fills_the_card");
}

#[test]
#[ignore = "run by a_full_card_is_tidied_before_it_is_an_error"]
fn child_fills_the_card() {
    let device = card();
    let d: &dyn Device = &device;
    drop(mib(d, 40).unwrap());
    // 40 of 64 MiB are kept, of another size.
    let most = mib(d, 50).unwrap();
    assert_eq!(calls("cuMemPoolTrimTo 0"), 1);
    let before = log().len();
    fails(mib(d, 20), &["out of memory", "20 MiB asked for", "14 MiB free of 64 MiB", "smaller batch"]);
    // Tried twice, and not for ever.
    assert_eq!(log()[before..].iter().filter(|l| l.starts_with("cuMemAllocFromPool")).count(), 2);
    drop(most);
    assert!(mib(d, 60).is_ok());
    // What no card of this size can hold is not asked for, nor is anything tidied away for it.
    let before = log().len();
    fails(mib(d, 65), &["out of memory", "65 MiB asked for", "the card has 64 MiB"]);
    fails(d.alloc(Elem::Real, usize::MAX), &["out of memory", "17592186044416 MiB", "64 MiB"]);
    fails(d.alloc(Elem::F16, usize::MAX / 2), &["out of memory", "64 MiB"]);
    assert_eq!(log().len(), before, "{:?}", log());
}

#[test]
fn the_pool_goes_after_its_buffers_and_before_the_context() {
    play("child_drops_the_device_first");
}

#[test]
#[ignore = "run by the_pool_goes_after_its_buffers_and_before_the_context"]
fn child_drops_the_device_first() {
    let device = card();
    let (one, two) = (mib(&device, 1).unwrap(), mib(&device, 2).unwrap());
    drop(device);
    drop(one);
    assert_eq!(calls("cuMemPoolDestroy"), 0);
    drop(two);
    let log = log();
    let at = |what: &str| log.iter().rposition(|line| line.starts_with(what)).unwrap();
    // Nothing was in use.
    assert!(at("cuMemFreeAsync 2097152") < at("cuMemPoolDestroy 0"), "{log:?}");
    assert!(at("cuMemPoolDestroy") < at("cuStreamDestroy_v2"), "{log:?}");
    assert!(at("cuStreamDestroy_v2") < at("cuDevicePrimaryCtxRelease_v2"), "{log:?}");
}

#[test]
fn a_card_without_pools_allocates_without() {
    let driver = Driver::new();
    let mut command = child("cuda_driver::child_has_no_pools");
    run(command.envs(driver.variables()).env("FAKE_POOLS", "0")).unwrap();
}

#[test]
#[ignore = "run by a_card_without_pools_allocates_without"]
fn child_has_no_pools() {
    let device = card();
    let buf = mib(&device, 40).unwrap();
    fails(mib(&device, 40), &["out of memory", "24 MiB free of 64 MiB"]);
    drop(buf);
    assert!(mib(&device, 40).is_ok());
    assert_eq!(device.memory_in_use().unwrap(), 0);
    assert_eq!((calls("cuMemPool"), calls("cuMemAlloc "), calls("cuMemFree ")), (0, 3, 2), "{:?}", log());
}

#[test]
fn a_callers_memory_is_followed_to_its_end() {
    play("child_imports");
}

/// Where `driver.cpp` has its places, a GiB apart.
const fn place(index: u64) -> u64 {
    0x1000_0000_0000 + (index << 30)
}

#[test]
#[ignore = "run by a_callers_memory_is_followed_to_its_end"]
fn child_imports() {
    let device = card();
    let words = MIB / 4;
    // SAFETY: nothing uses the memory.
    let take = |at, len| unsafe { device.import(at, Elem::Real, len, ()) };
    // Three pieces of 2 MiB, a hole of 2 MiB, another piece.
    for (from, len) in [(0, 6), (1, 5), (1, 2), (2, 4), (5, 1), (8, 2)] {
        take(place(0) + (from * MIB) as u64, len * words).unwrap();
    }
    fails(take(place(0), 6 * words + 1), &["6291460 bytes", "6291456 are allocated"]);
    fails(take(place(0) + MIB as u64, 9 * words), &["5242880 are allocated"]);
    fails(take(place(0) + 6 * MIB as u64, 1), &["no memory of Fake"]);
    // A pool's, of which the driver tells no range: as far as the reservation goes.
    take(place(1), 2 * words).unwrap();
    fails(take(place(1), 2 * words + 1), &["2097156 bytes", "not allocated"]);
    fails(take(place(1) + MIB as u64, 1 << 50), &["not allocated"]);
    // Of others.
    fails(take(place(2), 1), &["the host's memory"]);
    fails(take(place(3), 1), &["card 1"]);
    fails(take(place(4), 1), &["another context"]);
    let host = [0f32; 4];
    fails(take(host.as_ptr() as u64, 4), &["no memory of Fake"]);
    // No answer; no memory behind the address; a following piece of another context.
    fails(take(place(5), 1), &["0 bytes at"]);
    fails(take(place(6), 1), &["not allocated"]);
    take(place(7), 2 * words).unwrap();
    fails(take(place(7), 2 * words + 1), &["another context"]);
    // What no address reaches, and nothing at all.
    fails(take(place(0), usize::MAX), &["cannot be allocated"]);
    fails(take(place(0), usize::MAX / 4), &["beyond all addresses"]);
    fails(take(place(0) + 2, 1), &["multiple of 4"]);
    assert_eq!(take(0, 0).unwrap().len(), 0);
    // The device's own, which it gives back once.
    let own = mib(&device, 1).unwrap();
    let (address, bytes) = device.export(&own).unwrap();
    drop(take(address, bytes / 4).unwrap());
    assert_eq!(calls("cuMemFreeAsync"), 0);
}

#[test]
fn nvrtc_compiles_once_and_says_so() {
    play("child_compiles");
}

#[test]
#[ignore = "run by nvrtc_compiles_once_and_says_so"]
fn child_compiles() {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let listening = || {
        let device = card();
        let to = Arc::clone(&told);
        device.on_compile(move |stems| {
            // Before, not after.
            assert_eq!(calls("compile"), 0);
            to.lock().unwrap().push(stems.join(" "));
        });
        device
    };
    let device = listening();
    let (a, y) = (mib(&device, 1).unwrap(), mib(&device, 1).unwrap());
    assert!(told.lock().unwrap().is_empty());
    add(&device, &a, &a, &y).unwrap().run().unwrap();
    add(&device, &a, &a, &y).unwrap().run().unwrap();
    assert_eq!(*told.lock().unwrap(), ["elementwise"]);
    assert_eq!(calls("compile elementwise.cu"), 1);
    // Loaded before it is captured, and launched as a graph.
    let log = log();
    let at = |what: &str| log.iter().position(|line| line.starts_with(what)).unwrap();
    let order =
        ["compile", "cuModuleLoadData", "cuModuleGetFunction", "cuStreamBeginCapture_v2", "cuLaunchKernel"];
    assert!(order.map(at).is_sorted() && at("cuLaunchKernel") < at("cuGraphLaunch"), "{log:?}");
    // Another device, as another process would, finds it in the cache.
    let other = listening();
    let (a, y) = (mib(&other, 1).unwrap(), mib(&other, 1).unwrap());
    add(&other, &a, &a, &y).unwrap().run().unwrap();
    assert_eq!((told.lock().unwrap().len(), calls("compile"), calls("cuModuleLoadData")), (1, 1, 2));
}

#[test]
fn a_call_takes_what_the_one_before_it_left() {
    play("child_runs_once");
}

#[test]
#[ignore = "run by a_call_takes_what_the_one_before_it_left"]
fn child_runs_once() {
    let device = card();
    let d: &dyn Device = &device;
    let z = d.alloc(Elem::Real, 64 * 16).unwrap();
    let (labels, loss, dz) = (d.alloc(Elem::Real, 64), d.alloc(Elem::Real, 1), d.alloc(Elem::Real, 64 * 16));
    let (labels, loss, dz) = (labels.unwrap(), loss.unwrap(), dz.unwrap());
    let call = Contrastive::all([64, 16], Default::default()).unwrap();
    let sets = [Buffers { embeddings: &z, labels: &labels, weights: None }];
    call.run(d, &sets, &loss, &[&dz]).unwrap();
    device.synchronize().unwrap();
    let before = log().len();
    call.run(d, &sets, &loss, &[&dz]).unwrap();
    let again = log().split_off(before);
    let calls = |what: &str| again.iter().filter(|line| line.starts_with(what)).count();
    // Tickets and partial sums, out of the pool and back; one launch. Nothing is asked, loaded, captured or waited for.
    assert_eq!((calls("cuMemAllocFromPoolAsync"), calls("cuMemFreeAsync")), (2, 2), "{again:?}");
    assert_eq!((calls("cuLaunchKernel"), again.len()), (1, 5), "{again:?}");
}
