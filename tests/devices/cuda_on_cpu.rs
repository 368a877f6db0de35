//! The case table through the CUDA sources, run on the CPU, against the f64 oracle, outputs poisoned first.

use crate::shifted::Shifted;
use crate::table::{self, CUDA_ON_CPU, bits, fault, faults, is_small};
use crate::trained::{self, follow_the_cpu};
use etude::device::cuda::{CudaOnCpu, LANE_SEED_VARIABLE};
use etude::device::{Device, Launch};
use etude::kernel::Twin;
use etude::kernel::{Binding, Cost, Cuda, Kernel, Layout, Params, Scalar};
use etude::kernels::REGISTRY;
use etude::kernels::source::CUDA;

#[test]
fn every_row_has_a_source() {
    for (stem, _) in REGISTRY {
        assert!(CUDA.iter().any(|s| s.0 == *stem), "no kernels/{stem}.cu");
    }
}

#[test]
fn every_case_matches_the_oracle() {
    // A seed that was asked for, which may be none of the three.
    let asked =
        std::env::var_os(LANE_SEED_VARIABLE).map(|_| table::run(|| Box::new(CudaOnCpu::new().unwrap())));
    let outcomes = asked.as_ref().unwrap_or(&CUDA_ON_CPU[0]);
    faults(|i, _| fault(i, &outcomes[i]));
}

/// The device whose lanes, warps and blocks come in their natural order.
fn natural() -> Box<dyn Device> {
    Box::new(CudaOnCpu::with_seed(0).unwrap())
}

/// Small cases, all of whose buffers begin one element after a multiple of 16 bytes.
#[test]
fn windows_may_begin_between_alignments() {
    faults(|i, case| {
        let device = Shifted::all(natural(), 0);
        is_small(case, 4000).then(|| fault(i, &case.run(&device)))?
    });
}

/// Smaller ones yet, of whose buffers some begin so, and others at a multiple of 16 bytes.
#[test]
fn some_windows_may_begin_between_alignments() {
    let some: [fn(usize) -> bool; 3] = [|i| i % 2 == 0, |i| i / 2 % 2 == 0, |i| i / 2 % 2 == 1];
    faults(|i, case| {
        let fault = |some| fault(i, &case.run(&Shifted::some(natural(), some)));
        is_small(case, 1000).then(|| some.into_iter().find_map(fault))?
    });
}

#[test]
fn any_order_of_lanes_and_blocks_gives_the_same_bits() {
    faults(|i, _| {
        let of = |seed: usize| CUDA_ON_CPU[seed][i].as_ref().map(bits);
        match (of(0), of(1), of(2)) {
            (Ok(a), Ok(b), Ok(c)) if a == b && b == c => None,
            (Ok(_), Ok(_), Ok(_)) => Some("seeds 0, 1 and 2 differ".into()),
            (Err(e), ..) | (_, Err(e), _) | (.., Err(e)) => Some(e.to_string()),
        }
    });
}

#[test]
fn three_epochs_of_training_follow_the_cpu() {
    follow_the_cpu(&trained::CUDA_ON_CPU);
}

/// `kernels/on_cpu/planted.cu`: what a run on a CPU must notice without a sanitizer.
mod planted {
    use super::*;

    const N: u32 = 64;

    /// The row of a planted kernel.
    fn row(name: &'static str) -> &'static Kernel {
        let nothing = Twin { f32: |_| (), f64: |_| () };
        Box::leak(Box::new(Kernel {
            name,
            bindings: const { &[Binding::input("x"), Binding::output("y")] },
            params: Layout { name: "unsigned", members: &[("n", Scalar::U32)] },
            cpu: nothing,
            workgroups: &[],
            cuda: if name.contains("ticket") {
                Cuda::new(N, |_| [4, 1, 1]).tickets(|_| 1)
            } else {
                Cuda::new(N, |_| [1, 1, 1]).shared(|_| 4 * N)
            },
            cost: |_| Cost::default(),
        }))
    }

    /// What `kernel` makes of 0, 1, 2, ...
    fn run(kernel: &'static Kernel, params: Params, seed: u64) -> etude::Result<Vec<f32>> {
        let device: &dyn Device = &CudaOnCpu::with_seed(seed)?;
        let x: Vec<f32> = (0..N as u16).map(f32::from).collect();
        let bufs = vec![device.upload(&x)?, device.upload(&vec![f32::NAN; x.len()])?];
        device.compile(vec![Launch { kernel, bufs: bufs.clone(), params }])?.run()?;
        device.download(&bufs[1])
    }

    fn outcome(name: &'static str, seed: u64) -> etude::Result<Vec<f32>> {
        run(row(name), Params::new(&N), seed)
    }

    #[test]
    fn a_divergent_barrier_is_an_error_that_says_who_waits_where() {
        let source = include_str!("../../kernels/on_cpu/planted.cu");
        let line = 1 + source.lines().position(|l| l.ends_with("planted: divergence_bad")).unwrap();
        for seed in 0..4 {
            let message = outcome("planted_divergence_bad", seed).unwrap_err().to_string();
            assert!(
                message.contains("planted_divergence_bad, block (0, 0, 0): divergent barrier"),
                "{message}"
            );
            let waiting = format!("threads 0-39 wait at __syncthreads (kernels/on_cpu/planted.cu:{line})");
            assert!(message.contains(&waiting), "{message}");
            assert!(message.contains("threads 40-63 have returned"), "{message}");
            assert_eq!(outcome("planted_divergence_good", seed).unwrap()[3], 4.0);
        }
    }

    #[test]
    fn a_copy_lands_only_when_it_is_waited_for() {
        assert!(outcome("planted_unawaited_copy_bad", 0).unwrap().iter().all(|v| v.is_nan()));
        assert_eq!(outcome("planted_unawaited_copy_good", 0).unwrap()[5], 5.0);
    }

    #[test]
    fn an_address_that_is_no_multiple_of_its_access_is_an_error() {
        let message = outcome("planted_misaligned_bad", 0).unwrap_err().to_string();
        assert!(message.contains("no multiple of its size (kernels/on_cpu/planted.cu:"), "{message}");
        assert_eq!(outcome("planted_misaligned_good", 0).unwrap()[16..18], [4.0, 4.0]);
    }

    /// In any order of lanes and blocks, natural ones too.
    #[test]
    fn what_blocks_hand_on_takes_a_barrier_two_fences_and_no_cache() {
        for seed in 0..16 {
            let good = outcome("planted_ticket_good", seed).unwrap();
            assert_eq!((&good[..4], good[4].is_nan()), (&[1.0, 2.0, 3.0, 4.0][..], true));
            for without in ["first_fence", "second_fence", "barrier"] {
                let name = format!("planted_ticket_{without}_bad").leak();
                let message = outcome(name, seed).unwrap_err().to_string();
                assert!(message.contains("reads by __ldcg what thread 63 of block"), "{seed} {message}");
            }
            // Stale: what the launch found there.
            let cached = outcome("planted_ticket_cached_bad", seed).unwrap();
            assert!(cached[..4].iter().all(|v| v.is_nan()), "{cached:?}");
        }
    }

    #[test]
    fn shared_memory_starts_as_nan() {
        // Twice: the second launch finds what the first left.
        for _ in 0..2 {
            let bad = outcome("planted_unwritten_shared_bad", 0).unwrap();
            assert!(bad[2].is_nan() && bad[3] == 3.0, "{bad:?}");
        }
        assert_eq!(outcome("planted_unwritten_shared_good", 0).unwrap()[2], 2.0);
    }

    #[test]
    fn a_result_that_depends_on_the_order_of_lanes_shows_by_the_seed() {
        let of = |name, seed| outcome(name, seed).unwrap();
        assert_ne!(of("planted_lane_order_bad", 0), of("planted_lane_order_bad", 1));
        assert_eq!(of("planted_lane_order_good", 0), of("planted_lane_order_good", 1));
    }

    #[test]
    fn a_row_that_disagrees_with_its_source_is_an_error() {
        let two = Params::new(&[N, N]);
        let message = run(row("planted_lane_order_good"), two, 0).unwrap_err().to_string();
        assert!(message.contains("bytes 8 8 8 in the row, 8 8 4 in the source"), "{message}");
        let message = outcome("planted_nothing", 0).unwrap_err().to_string();
        assert!(message.contains("no entry point planted_nothing"), "{message}");
    }
}
