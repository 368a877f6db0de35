//! What every case of the table gives on each device: run once for all tests of this program, by as many threads as there are.

#[cfg(feature = "wgpu")]
use crate::{gpu, shifted::Shifted};
use etude::cases::{self, Case, Outcome};
use etude::device::{Cpu, Device};
use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

/// The case table, or what of it is of the stem that `ETUDE_TEST_STEM` names, for runs that are about one source:
/// `scripts/mutants`.
pub static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let mut cases = cases::all();
    if let Ok(stem) = std::env::var("ETUDE_TEST_STEM") {
        cases.retain(|case| case.stem == stem);
        assert!(!cases.is_empty(), "ETUDE_TEST_STEM={stem}: no case is of that stem");
    }
    cases
});

/// Whether a case's inputs have no more elements than so many, for runs of many kinds; none is one of a benchmark's.
#[cfg(any(feature = "wgpu", feature = "cuda-on-cpu"))]
pub fn is_small(case: &Case, most: usize) -> bool {
    !case.bench && case.inputs.iter().map(|i| i.shape.iter().product::<usize>()).sum::<usize>() <= most
}

/// What each of [`CASES`] gives, in their order, or why it is refused.
pub type Outcomes = Vec<etude::Result<Outcome>>;

/// The f64 oracle's.
pub static ORACLE: LazyLock<Outcomes> = LazyLock::new(|| run(|| Box::new(Cpu::<f64>::new(2).unwrap())));

/// The CPU's in f32, on one thread and on three.
pub static CPU: [LazyLock<Outcomes>; 2] = [
    LazyLock::new(|| run(|| Box::new(Cpu::<f32>::new(1).unwrap()))),
    LazyLock::new(|| run(|| Box::new(Cpu::<f32>::new(3).unwrap()))),
];

/// Those of the CUDA sources on the CPU, by seed.
#[cfg(feature = "cuda-on-cpu")]
pub static CUDA_ON_CPU: [LazyLock<Outcomes>; 3] = {
    fn seeded<const SEED: u64>() -> Outcomes {
        run(|| Box::new(etude::device::cuda::CudaOnCpu::with_seed(SEED).unwrap()))
    }
    [LazyLock::new(seeded::<0>), LazyLock::new(seeded::<1>), LazyLock::new(seeded::<2>)]
};

/// What the cases give on the WGSL device.
#[cfg(feature = "wgpu")]
pub struct OnWgpu {
    /// Each run twice.
    pub runs: [Outcomes; 2],
    /// Where all buffers begin between alignments: of small cases whose elements the adapter has.
    pub odd: Vec<Option<etude::Result<Outcome>>>,
}

/// The WGSL device's, all by one device for each stem: what its pipelines cost is paid once.
#[cfg(feature = "wgpu")]
pub static WGPU: LazyLock<OnWgpu> = LazyLock::new(|| {
    let thrice = |case: &Case, device: &dyn Device| {
        let odd = Shifted::all(device, 4);
        let small = is_small(case, 4000) && gpu::holds(&odd, case);
        ((case.run(device), case.run(device)), small.then(|| case.run(&odd)))
    };
    let (runs, odd): (Vec<_>, _) = each(|| Box::new(gpu::wgpu()), thrice).into_iter().unzip();
    let (first, second) = runs.into_iter().unzip();
    OnWgpu { runs: [first, second], odd }
});

/// The outcomes on devices that `make` makes.
pub fn run(make: impl Fn() -> Box<dyn Device> + Sync) -> Outcomes {
    each(make, |case, device| case.run(device))
}

/// What `of` gives for each case on devices that `make` makes, one a thread. A thread takes all cases of a stem, so that no two
/// devices compile the same kernels.
fn each<T: Send>(
    make: impl Fn() -> Box<dyn Device> + Sync,
    of: impl Fn(&Case, &dyn Device) -> T + Sync,
) -> Vec<T> {
    let mut stems: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    CASES.iter().enumerate().for_each(|(i, case)| stems.entry(case.stem).or_default().push(i));
    // The last, similarity, takes longest, as its shaders are the slowest to compile: it begins first.
    let todo = Mutex::new(stems.into_values().rev());
    let next = || todo.lock().unwrap().next();
    let work = || {
        let device = make();
        std::iter::from_fn(next).flatten().map(|i| (i, of(&CASES[i], &*device))).collect::<Vec<_>>()
    };
    // No more devices than one GPU takes lightly.
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let mut outcomes: Vec<_> = if threads == 1 {
        work()
    } else {
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        })
    };
    outcomes.sort_by_key(|(i, _)| *i);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// The bits of an outcome; one NaN is as good as another.
pub fn bits(outcome: &Outcome) -> Vec<u64> {
    let values = outcome.iter().flat_map(|(_, values)| values);
    values.map(|v| if v.is_nan() { f64::NAN.to_bits() } else { v.to_bits() }).collect()
}

/// Fails with what `check` finds wrong with each case.
pub fn faults(check: impl Fn(usize, &Case) -> Option<String>) {
    let of = |(i, case): (usize, &Case)| Some(format!("{} {}: {}", case.stem, case.name, check(i, case)?));
    let faults: Vec<String> = CASES.iter().enumerate().filter_map(of).collect();
    assert!(faults.is_empty(), "{} of {} cases:\n{}", faults.len(), CASES.len(), faults.join("\n"));
}

/// What is wrong with an outcome beside the oracle's.
pub fn fault(i: usize, outcome: &etude::Result<Outcome>) -> Option<String> {
    let oracle = match (&ORACLE[i], outcome) {
        (Ok(oracle), Ok(_)) => oracle,
        (Err(e), _) | (_, Err(e)) => return Some(e.to_string()),
    };
    beyond(&CASES[i], outcome.as_ref().ok()?, oracle)
}

/// What is wrong with a case of no table on `device`, beside the oracle's outcome.
#[cfg(any(feature = "wgpu", feature = "cuda-on-cpu", feature = "cuda-on-card"))]
pub fn fault_on(device: &dyn Device, case: &Case, oracle: &Outcome) -> Option<String> {
    let fault = case.run(device).map_or_else(|e| Some(e.to_string()), |ours| beyond(case, &ours, oracle))?;
    Some(format!("{}: {} {}: {fault}", device.name(), case.stem, case.name))
}

/// How far an outcome is beyond the case's tolerance.
fn beyond(case: &Case, ours: &Outcome, oracle: &Outcome) -> Option<String> {
    let (error, at) = cases::farthest(ours, oracle);
    // NaN is not within it.
    let within = error <= case.tolerance;
    (!within).then(|| format!("{error:e} at {at}, over {:e}", case.tolerance))
}
