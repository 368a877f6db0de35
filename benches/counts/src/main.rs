//! What `scripts/counts` runs under callgrind: each hot kernel once before it is counted, and once counted and dumped under its
//! name.
//!
//! One thread, AVX2: valgrind knows no AVX-512, so a processor looks to the crate as one without it. Run by itself the program
//! refuses a wider set, so that nothing else is ever counted by mistake.

#[path = "../../shared/step.rs"]
mod shared;

use etude::cases::{Case, Input, Role, normal, uniform};
use etude::device::Cpu;
use etude::graph::Step;
use etude::ops::batch_norm::{BatchNormOptions, BatchNormVars, batch_norm};
use etude::ops::contrastive::{ContrastiveOptions, contrastive};
use etude::ops::conv_block::{ConvBlock, Features, Mode, conv_block, mean_over_time};
use etude::ops::conv1d::{ConvOptions1d, conv1d};
use etude::ops::conv2d::{ConvOptions2d, conv2d};
use etude::ops::linear::{Activation, linear};
use etude::ops::optim::{Adam, Sgd, adam, sgd};
use etude::ops::similarity::{Similarity, similarity};
use etude::simd::Simd;
use etude::{Error, Result};
use std::ffi::CString;
use std::hint::black_box;

fn main() -> Result<()> {
    if Simd::best() != Simd::Avx2 {
        let found = Simd::best();
        return Err(Error::config(format!("counts are of AVX2, and this is {found:?}: run scripts/counts")));
    }
    let device = Cpu::<f32>::new(1)?;
    for mut case in cases() {
        let name = format!("{}, {}", case.stem, case.name);
        // The loss has both in one pass, and the optimizers have no backward.
        if matches!(case.stem, "contrastive" | "optim") {
            count(&name, &mut case.prepare(&device)?.step)?;
            continue;
        }
        count(&format!("{name}, forward and backward"), &mut case.prepare(&device)?.step)?;
        case.inputs.iter_mut().filter(|i| i.role == Role::Grad).for_each(|i| i.role = Role::Constant);
        count(&format!("{name}, forward"), &mut case.prepare(&device)?.step)?;
    }
    count("training step, B 64 T 1000", &mut shared::record(&device, 64)?)
}

/// What is set up at the first run is not counted.
fn count(name: &str, step: &mut Step) -> Result<()> {
    step.run()?;
    let name = CString::new(name).map_err(|e| Error::config(e.to_string()))?;
    callgrind(START, 0);
    let done = black_box(step).run();
    callgrind(DUMP_AT, name.as_ptr() as usize);
    callgrind(STOP, 0);
    done
}

/// Requests of valgrind's `callgrind.h`.
const START: usize = 0x4354_0004;
const STOP: usize = 0x4354_0005;
const DUMP_AT: usize = 0x4354_0003;

/// Asks callgrind for something, in the words of `valgrind.h`: rotations that add up to none, and what it knows them by. A
/// processor makes nothing of them.
fn callgrind(request: usize, argument: usize) {
    let words = [request, argument, 0, 0, 0, 0];
    // SAFETY: valgrind reads the words, and a string where the first of them says so, and answers in rdx; without it nothing
    // happens.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") words.as_ptr(),
            inout("rdx") 0_usize => _,
        );
    }
}

fn cases() -> Vec<Case> {
    let mut all = vec![
        conv(1, 64, 128, 512, 5, 1),
        conv(1, 128, 128, 256, 3, 1),
        conv(16, 1, 4, 1000, 7, 3),
        conv(16, 4, 8, 332, 7, 3),
        square(),
        block(),
        normalised(),
    ];
    for (d, n) in [(16, 512), (128, 256)] {
        all.extend([random(2 * n, d), clustered(2 * n, d)]);
        let kinds = [Similarity::Dot, Similarity::Cosine, Similarity::Euclidean];
        all.extend(kinds.map(|kind| pairs(kind, n, d)));
    }
    all.extend([dense(512, 16, 8), dense(64, 64, 32), momentum(), adaptive()]);
    all
}

fn conv(batch: usize, cin: usize, cout: usize, t: usize, taps: usize, stride: usize) -> Case {
    let inputs = vec![Input::normal(1, &[batch, cin, t]), Input::normal(2, &[cout, cin, taps])];
    let name = format!("B {batch} {cin} to {cout} T {t} k {taps} s {stride}");
    let options = ConvOptions1d { stride, ..Default::default() };
    Case::new("conv1d", name, inputs, move |g, v| conv1d(g, v[0], v[1], None, options))
}

fn square() -> Case {
    let inputs = vec![Input::normal(1, &[1, 64, 28, 28]), Input::normal(2, &[64, 64, 3, 3])];
    let options = ConvOptions2d { padding: [1; 2], ..Default::default() };
    Case::new("conv2d", "B 1 64 to 64 28 x 28 k 3", inputs, move |g, v| conv2d(g, v[0], v[1], None, options))
}

/// The network's three layers and the mean over time.
fn block() -> Case {
    const LAYERS: [[usize; 2]; 3] = [[1, 4], [4, 8], [8, 16]];
    let mut inputs = vec![Input::normal(1, &[4, 1, 1000, 16])];
    for [cin, cout] in LAYERS {
        inputs.push(Input::normal(2, &[cout, cin, 7]));
        inputs.extend(affine(cout));
    }
    Case::new("conv_block", "B 64 T 1000, three layers", inputs, |g, v| {
        let mut x = Features::input(g, v[0], 64)?;
        for v in v[1..].chunks_exact(5) {
            let (weight, gamma, beta, running_mean, running_var) = (v[0], v[1], v[2], v[3], v[4]);
            let (stride, eps, momentum) = (3, 1e-5, 0.1);
            let layer = ConvBlock { weight, gamma, beta, running_mean, running_var, stride, eps, momentum };
            x = conv_block(g, x, &layer, Mode::Train)?;
        }
        mean_over_time(g, x, None)
    })
}

fn normalised() -> Case {
    let inputs = std::iter::once(Input::normal(1, &[64, 4, 331])).chain(affine(4)).collect();
    Case::new("batch_norm", "B 64 4 channels T 331", inputs, |g, v| {
        let vars = BatchNormVars { gamma: v[1], beta: v[2], running_mean: v[3], running_var: v[4] };
        batch_norm(g, v[0], vars, BatchNormOptions::default())
    })
}

/// Gamma, beta and the running statistics.
fn affine(channels: usize) -> [Input; 4] {
    let near_one =
        |role| Input::real(&[channels], uniform(6, channels).iter().map(|v| 0.5 + v).collect(), role);
    [near_one(Role::Grad), Input::normal(5, &[channels]), state(7, channels), near_one(Role::State)]
}

fn random(n: usize, d: usize) -> Case {
    loss("random", Input::normal(1, &[n, d]), n, d)
}

/// Rows about the centre of their class, as training leaves them.
fn clustered(n: usize, d: usize) -> Case {
    let (centres, noise, class) = (normal(3, 5 * d), normal(4, n * d), binned(n));
    let at = |e: usize| centres[class[e / d] as usize * d + e % d] + 0.05 * noise[e];
    loss("five centres", Input::real(&[n, d], (0..n * d).map(at).collect(), Role::Grad), n, d)
}

fn binned(n: usize) -> Vec<f64> {
    uniform(2, n).iter().map(|y| (5.0 * y).floor()).collect()
}

fn loss(what: &str, z: Input, n: usize, d: usize) -> Case {
    let inputs = vec![z, Input::real(&[n], binned(n), Role::Constant)];
    let options = ContrastiveOptions { margin: 0.5, ..Default::default() };
    let build = move |g: &mut _, v: &[_]| contrastive(g, v[0], v[1], options);
    Case::new("contrastive", format!("{what} N {n} D {d}"), inputs, build)
}

fn pairs(kind: Similarity, n: usize, d: usize) -> Case {
    let inputs = vec![Input::normal(1, &[n, d]), Input::normal(2, &[n, d])];
    let name = format!("{kind:?} N {n} D {d}").to_lowercase();
    Case::new("similarity", name, inputs, move |g, v| similarity(g, v[0], v[1], kind))
}

fn dense(batch: usize, i: usize, o: usize) -> Case {
    let inputs = vec![Input::normal(1, &[batch, i]), Input::normal(2, &[o, i]), Input::normal(3, &[o])];
    let build = |g: &mut _, v: &[_]| linear(g, v[0], v[1], Some(v[2]), Activation::Relu);
    Case::new("linear", format!("B {batch} {i} to {o}"), inputs, build)
}

fn state(seed: u64, n: usize) -> Input {
    Input::real(&[n], normal(seed, n), Role::State)
}

fn rates() -> Input {
    Input::real(&[3], vec![0.05, 0.271, 0.002_996], Role::Constant)
}

fn momentum() -> Case {
    let n = 40_009;
    let inputs = vec![rates(), Input::real(&[n], normal(1, n), Role::Constant), state(2, n), state(3, n)];
    let options = Sgd { momentum: 0.9, weight_decay: 0.01 };
    Case::new("optim", format!("sgd n {n}"), inputs, move |g, v| {
        sgd(g, v[2], v[1], v[3], v[0], options)?;
        Ok(v[2])
    })
}

fn adaptive() -> Case {
    let n = 40_009;
    let second = Input::real(&[n], normal(4, n).into_iter().map(|v| 1e-3 * v * v).collect(), Role::State);
    let first = Input::real(&[n], normal(1, n), Role::Constant);
    let inputs = vec![rates(), first, state(2, n), state(3, n), second];
    Case::new("optim", format!("adam n {n}"), inputs, move |g, v| {
        adam(g, v[2], v[1], [v[3], v[4]], v[0], Adam::default())?;
        Ok(v[2])
    })
}
