//! Each wrapper of an instruction in `kernels/prelude.cuh` by itself, bit for bit: what a card gives may differ from the plain
//! body that runs on the CPU, in which lane holds what above all. What is expected is written from the manual of PTX, its tables
//! of fragments and its rules of rounding. All numbers of a matrix differ and all sums are exact, so that a swapped row, column,
//! lane or register shows in whole numbers.
//!
//! A test a wrapper; `scripts/gpu-report` runs these before anything else on a card.

use crate::gpu;
use etude::device::{Device, HostMut, Launch};
use etude::kernel::Twin;
use etude::kernel::{Binding, Cost, Cuda, Kernel, Layout, Params};
use half::{bf16, f16};

const WARP: u32 = 32;

/// The row of `kernels/instructions.cu` that tries a wrapper.
fn row(wrapper: &str) -> &'static Kernel {
    let nothing = Twin { f32: |_| (), f64: |_| () };
    Box::leak(Box::new(Kernel {
        name: format!("instructions_{wrapper}").leak(),
        bindings: const { &[Binding::index("x"), Binding::index_output("y")] },
        params: Layout { name: "", members: &[] },
        cpu: nothing,
        workgroups: &[],
        cuda: Cuda::new(WARP, |_| [1, 1, 1]),
        cost: |_| Cost::default(),
    }))
}

/// The `words` that a device makes of `x`.
fn run(device: &dyn Device, wrapper: &str, x: &[u32], words: usize) -> Vec<u32> {
    let bufs = vec![device.upload(x).unwrap(), device.upload(&vec![0xdead_beef_u32; words]).unwrap()];
    let launch = Launch { kernel: row(wrapper), bufs: bufs.clone(), params: Params::new(&()) };
    device.compile(vec![launch]).unwrap().run().unwrap();
    let mut y = vec![0; words];
    device.read(&bufs[1], HostMut::U32(&mut y)).unwrap();
    y
}

/// Fails where a device's words are not these; the last lane has as many as the first.
fn check(wrapper: &str, x: &[u32], want: &[u32]) {
    check_by(wrapper, x, want, |got, want| got == want);
}

fn check_by(wrapper: &str, x: &[u32], want: &[u32], alike: impl Fn(u32, u32) -> bool) {
    for device in gpu::cuda() {
        let got = run(&*device, wrapper, x, want.len());
        let each = want.len() / WARP as usize;
        let wrong: Vec<String> = (got.iter().zip(want).enumerate())
            .filter(|(_, (got, want))| !alike(**got, **want))
            .map(|(i, (got, want))| format!("lane {}, word {}: {got:#x}, not {want:#x}", i / each, i % each))
            .collect();
        let (count, some) = (wrong.len(), wrong[..wrong.len().min(8)].join("; "));
        assert!(count == 0, "{wrapper} on {}: {count} of {} words: {some}", device.name(), want.len());
    }
}

fn bits(values: impl IntoIterator<Item = f32>) -> Vec<u32> {
    values.into_iter().map(f32::to_bits).collect()
}

/// Two numbers of 16 bits, the first in the lower half.
fn both(pair: &[u16]) -> u32 {
    u32::from(pair[0]) | u32::from(pair[1]) << 16
}

fn pairs(values: &[u16]) -> Vec<u32> {
    values.chunks(2).map(both).collect()
}

/// Numbers as f32 that 16 bits do not hold: ties either way, what is next to them, and the largest that round to a number.
fn unrounded(ulp: f32, largest: f32) -> Vec<f32> {
    let of = |i: usize| {
        let base = [1.0, 1.5, 3.0, 1000.0, 6.25e-2][i % 5];
        let part = [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 0.499, 0.501, 1.499][i % 10];
        let magnitude = match i % 16 {
            14 => largest,
            15 => 0.0,
            _ => base * (1.0 + ulp * part),
        };
        if i.is_multiple_of(3) { -magnitude } else { magnitude }
    };
    (0..64).map(of).collect()
}

#[test]
fn round_f16x2() {
    let mut x = unrounded(2f32.powi(-10), 65_519.0);
    // Below the smallest normal number in steps of 2^-24, with ties.
    x[..8].copy_from_slice(&[0.5, 1.0, 1.5, 2.5, -3.5, 1022.5, 1023.5, -0.49].map(|v| v * 2f32.powi(-24)));
    x[8..10].copy_from_slice(&[65_520.0, f32::NEG_INFINITY]);
    let want: Vec<u16> = x.iter().map(|v| f16::from_f32(*v).to_bits()).collect();
    check("round_f16x2", &bits(x), &pairs(&want));
}

#[test]
fn round_bf16x2() {
    let mut x = unrounded(2f32.powi(-7), 3.38e38);
    x[..3].copy_from_slice(&[f32::INFINITY, f32::MAX, -1e-30]);
    let want: Vec<u16> = x.iter().map(|v| bf16::from_f32(*v).to_bits()).collect();
    check("round_bf16x2", &bits(x), &pairs(&want));
}

/// Numbers of 16 bits with `fraction` bits after the point: normal, subnormal, 0 and infinite.
fn patterns(fraction: u32) -> Vec<u16> {
    let infinite = 0x7fff >> fraction << fraction;
    let of = |i: u16| match i % 8 {
        0 => 0,
        1 => 1 + i,
        2 => infinite,
        _ => (i.wrapping_mul(509) & 0x7fff) % infinite,
    };
    (0..64).map(|i| of(i) | (i % 5 % 2) << 15).collect()
}

#[test]
fn halves_as_they_are_stored() {
    let x = patterns(10);
    let want: Vec<u32> =
        x[..32].iter().flat_map(|v| [f16::from_bits(*v).to_f32().to_bits(), (*v).into()]).collect();
    check("half", &pairs(&x), &want);
}

#[test]
fn bfloats_as_they_are_stored() {
    let x = patterns(7);
    let want: Vec<u32> =
        x[..32].iter().flat_map(|v| [bf16::from_bits(*v).to_f32().to_bits(), (*v).into()]).collect();
    check("bfloat", &pairs(&x), &want);
}

#[test]
fn float2_of_f16x2() {
    let x = patterns(10);
    check("float2_of_f16x2", &pairs(&x), &bits(x.iter().map(|v| f16::from_bits(*v).to_f32())));
}

#[test]
fn fma_f16x2() {
    let step = 2f64.powi(-10);
    let of = |i: u32| {
        let i = f64::from(i);
        let (a, b) = (1.0 + (i + 1.0) * step, 1.0 + (65.0 - i) * step);
        // Less the product as far as 16 bits hold it: what is left is what a product of its own would have lost.
        [a, b, -f16::from_f64(a * b).to_f64() + if i % 2.0 == 0.0 { 0.0 } else { 0.25 }]
    };
    let numbers: Vec<[f16; 3]> = (0..64).map(|i| of(i).map(f16::from_f64)).collect();
    let side = |k: usize| pairs(&numbers.iter().map(|v| v[k].to_bits()).collect::<Vec<_>>());
    // In f64 without rounding.
    let exact = |v: &[f16; 3]| v[0].to_f64() * v[1].to_f64() + v[2].to_f64();
    let want: Vec<u16> = numbers.iter().map(|v| f16::from_f64(exact(v)).to_bits()).collect();
    check("fma_f16x2", &[side(0), side(1), side(2)].concat(), &pairs(&want));
}

#[test]
fn rsqrt_approx() {
    // The prelude's TINY first.
    let x: Vec<f32> = (0..32).map(|i| (1.2e-38 * 6.5f64.powi(3 * i) as f32).min(f32::MAX)).collect();
    let want = x.iter().map(|v| (1.0 / f64::from(*v).sqrt()) as f32);
    check_by("rsqrt_approx", &bits(x.iter().copied()), &bits(want), |got, want| got.abs_diff(want) <= 2);
}

#[test]
fn to_tf32() {
    let low = [0, 1, 0xfff, 0x1000, 0x1001, 0x1fff, 0x2fff, 0x3000];
    let x: Vec<u32> = (0..32)
        .map(|i: u32| {
            (((0x3f80_0000 + i * 0x0151_4000) & !0x1fff) | low[i as usize % 8]) ^ ((i / 3 % 2) << 31)
        })
        .collect();
    // To nearest, ties away from zero; what is below a tf32's bits is nobody's.
    let want: Vec<u32> = x.iter().map(|v| (v + 0x1000) & !0x1fff).collect();
    check_by("to_tf32", &x, &want, |got, want| got & !0x1fff == want);
}

/// Where lane `l`'s copy or row lies, as in `kernels/instructions.cu`.
fn place_of(l: usize) -> usize {
    (5 * l + 3) % 32
}

#[test]
fn copy_async16() {
    let x: Vec<u32> = (0..128).map(|i| 0x1000_0000 + i * 77).collect();
    let want = (0..32).map(|l| (l + 1) % 32).flat_map(|l| (0..4).map(move |k| (l, k)));
    let want: Vec<u32> = want.map(|(l, k)| if l % 3 == 0 { 0 } else { x[4 * place_of(l) + k] }).collect();
    check("copy_async16", &x, &want);
}

#[test]
fn copy_async4() {
    let x: Vec<u32> = (0..32).map(|i| 0x1000_0000 + i * 77).collect();
    let want: Vec<u32> =
        (0..32).map(|l| (l + 1) % 32).map(|l| if l % 3 == 0 { 0 } else { x[place_of(l)] }).collect();
    check("copy_async4", &x, &want);
}

#[test]
fn copy_wait() {
    let x: Vec<u32> = (0..64).map(|i| 0x1000_0000 + i * 77).collect();
    check("copy_wait", &x, &x);
}

/// Element `k` of row `r` of matrix `m`, of four of 8 x 8.
fn element(m: usize, r: usize, k: usize) -> u16 {
    (8 * (8 * m + r) + k) as u16 * 251 + 7
}

/// The rows of these matrices where `instructions.cu` takes them from.
fn matrices() -> Vec<u32> {
    let mut x = vec![0; 128];
    for (m, r) in (0..4).flat_map(|m| (0..8).map(move |r| (m, r))) {
        let row: Vec<u16> = (0..8).map(|k| element(m, r, k)).collect();
        x[4 * place_of(8 * m + r)..][..4].copy_from_slice(&pairs(&row));
    }
    x
}

#[test]
fn load_matrices() {
    // ldmatrix: thread t has elements 2 (t mod 4) and the next of row t / 4.
    let of = |l: usize, m| both(&[0, 1].map(|e| element(m, l / 4, l % 4 * 2 + e)));
    let want: Vec<u32> = (0..32).flat_map(|l| (0..4).map(move |m| of(l, m))).collect();
    check("load_matrices", &matrices(), &want);
}

#[test]
fn load_matrices_transposed() {
    let of = |l: usize, m| both(&[0, 1].map(|e| element(m, l % 4 * 2 + e, l / 4)));
    let want: Vec<u32> = (0..32).flat_map(|l| (0..4).map(move |m| of(l, m))).collect();
    check("load_matrices_transposed", &matrices(), &want);
}

/// Factors a [16, K] and b [K, 8] and summand c [16, 8] of an mma with K columns: whole numbers, all different.
struct Mma<const K: usize>;

impl<const K: usize> Mma<K> {
    fn a(i: usize, k: usize) -> f32 {
        ((i * K + k) * 37 % (16 * K)) as f32 - (8 * K) as f32
    }
    fn b(k: usize, j: usize) -> f32 {
        ((k * 8 + j) * 29 % (8 * K)) as f32 + 1.0
    }
    fn c(i: usize, j: usize) -> f32 {
        ((i * 8 + j) * 113) as f32 - 5000.0
    }
    fn d(i: usize, j: usize) -> f32 {
        Self::c(i, j) + (0..K).map(|k| Self::a(i, k) * Self::b(k, j)).sum::<f32>()
    }

    /// Elements c0 to c3 of each lane: rows groupID, and groupID + 8 for the last two, columns 2 threadID_in_group and the next.
    fn summand(of: fn(usize, usize) -> f32) -> Vec<u32> {
        bits((0..32).flat_map(|l| (0..4).map(move |i| of(l / 4 + i / 2 * 8, l % 4 * 2 + i % 2))))
    }
}

#[test]
fn mma_tf32() {
    type M = Mma<8>;
    // a0 to a3: rows groupID for a0 and a2, and 8 more; columns threadID_in_group for a0 and a1, and 4 more.
    let a = (0..32).flat_map(|l| (0..4).map(move |i| M::a(l / 4 + i % 2 * 8, l % 4 + i / 2 * 4)));
    // b0 and b1: rows threadID_in_group, and 4 more; column groupID.
    let b = (0..32).flat_map(|l| (0..2).map(move |i| M::b(l % 4 + i * 4, l / 4)));
    check("mma_tf32", &[bits(a), bits(b), M::summand(M::c)].concat(), &M::summand(M::d));
}

/// The fragments of m16n8k16, two numbers to a register.
fn of_16_bits(round: fn(f32) -> u16) -> Vec<u32> {
    type M = Mma<16>;
    // a0 to a7: rows groupID for a0, a1, a4 and a5, else 8 more; columns 2 threadID_in_group and the next, from a4 on 8 more.
    let a =
        (0..32).flat_map(|l| (0..8).map(move |i| M::a(l / 4 + i / 2 % 2 * 8, l % 4 * 2 + i % 2 + i / 4 * 8)));
    // b0 to b3: rows 2 threadID_in_group and the next, from b2 on 8 more; column groupID.
    let b = (0..32).flat_map(|l| (0..4).map(move |i| M::b(l % 4 * 2 + i % 2 + i / 2 * 8, l / 4)));
    let factors: Vec<u16> = a.chain(b).map(round).collect();
    [pairs(&factors), M::summand(M::c)].concat()
}

#[test]
fn mma_f16() {
    check("mma_f16", &of_16_bits(|v| f16::from_f32(v).to_bits()), &Mma::<16>::summand(Mma::<16>::d));
}

#[test]
fn mma_bf16() {
    check("mma_bf16", &of_16_bits(|v| bf16::from_f32(v).to_bits()), &Mma::<16>::summand(Mma::<16>::d));
}
