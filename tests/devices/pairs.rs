//! The pair kernels with all their options crossed at random, against the f64 oracle: the WGSL shaders, and the CUDA sources run
//! on the CPU. What the case table leaves out: weights with every form, 16-bit rows with every option, masked rows full of NaN,
//! duplicates, offsets, tiles of every width, and enough rows for the kernels' large variants.

use crate::gpu;
use etude::cases::{Case, Data, Input, Role, normal, uniform};
use etude::device::{Cpu, Device};
use etude::kernel::Elem;
use etude::ops::contrastive::{
    ContrastiveOptions, Labels, Metric, contrastive, contrastive_cross, contrastive_halves,
};
use etude::ops::similarity::{Similarity, similarity};
use proptest::prelude::*;
use std::sync::LazyLock;

/// The devices of one test, which keep the kernels they compile; devices run one step at a time, so tests share none.
type Devices = LazyLock<Vec<Box<dyn Device>>>;

/// `‖got − want‖ ≤ tolerance·(‖want‖ + floor)` for every output and gradient on every device.
fn check(devices: &[Box<dyn Device>], case: &Case, tolerance: f64, floor: f64) -> Result<(), TestCaseError> {
    let want = case.run(&Cpu::<f64>::new(1).unwrap()).unwrap();
    for device in devices {
        if !gpu::holds(&**device, case) {
            continue;
        }
        let got = case.run(&**device).unwrap();
        for ((what, want), (_, got)) in want.iter().zip(&got) {
            let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|v| v * v).sum::<f64>().sqrt();
            let off = norm(&mut got.iter().zip(want).map(|(g, w)| g - w));
            let size = norm(&mut want.iter().copied());
            prop_assert!(
                off <= tolerance * (size + floor),
                "{} {} {what}: off by {off:e} of {size:e}",
                device.name(),
                case.name
            );
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    All,
    Halves,
    Cross,
}

/// What the rows are like.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Plain,
    /// Every third row is the first or zero.
    Duplicates,
    /// Ten times as far from the origin as from each other.
    Offset,
}

/// Rows of `kind`, those of weight 0 not numbers.
fn rows(seed: u64, n: usize, d: usize, kind: Kind, stored: Elem, weights: Option<&[f64]>) -> Input {
    let mut z = normal(seed, n * d);
    match kind {
        Kind::Plain => {}
        Kind::Duplicates => (0..n).step_by(3).for_each(|i| match i % 2 {
            0 => z[i * d..][..d].fill(0.0),
            _ => z.copy_within(..d, i * d),
        }),
        Kind::Offset => z.iter_mut().for_each(|v| *v += 10.0),
    }
    for (row, _) in z.chunks_exact_mut(d).zip(weights.unwrap_or(&[])).filter(|(_, w)| **w == 0.0) {
        row.fill(f64::NAN);
    }
    Input::real(&[n, d], z, Role::Grad).stored(stored)
}

/// Labels whose differences are exact in f32, so that no device disagrees on which pairs are positive.
fn labels(seed: u64, n: usize, binned: bool) -> Vec<f64> {
    let steps = if binned { 5.0 } else { 64.0 };
    uniform(seed, n)
        .into_iter()
        .map(|y| (steps * y).floor() * if binned { 1.0 } else { 1.0 / 64.0 })
        .collect()
}

/// A fifth of them 0.
fn weights(seed: u64, n: usize) -> Vec<f64> {
    uniform(seed, n).into_iter().map(|w| f64::from((1.25 * w - 0.25).max(0.0) as f32)).collect()
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    n: usize,
    m: usize,
    d: usize,
}

#[derive(Debug, Clone, Copy)]
struct Loss {
    form: Form,
    opts: ContrastiveOptions,
    binned: bool,
    kind: Kind,
    stored: Elem,
    weighted: [bool; 2],
    seed: u64,
}

fn loss_case(Shape { n, m, d }: Shape, l: Loss) -> Case {
    let Loss { form, opts, binned, kind, weighted, seed, .. } = l;
    let stored = if form == Form::Halves { Elem::Real } else { l.stored };
    let side = |seed: u64, n: usize, weighted: bool| {
        let weights = weighted.then(|| weights(seed + 2, n));
        let mut labels = labels(seed + 1, n, binned);
        for (label, _) in labels.iter_mut().zip(weights.as_deref().unwrap_or(&[])).filter(|(_, w)| **w == 0.0)
        {
            *label = f64::NAN;
        }
        let z = rows(seed, n, d, kind, stored, weights.as_deref());
        let constant = |v: Vec<f64>| Input::real(&[n], v, Role::Constant);
        [z, constant(labels), constant(weights.unwrap_or_else(|| vec![f64::NAN; n]))]
    };
    let mut inputs = Vec::from(side(seed, n, weighted[0]));
    match form {
        Form::All => {}
        Form::Halves => {
            let mut pairing: Vec<u32> = (0..n as u32).collect();
            pairing.rotate_left(seed as usize % n);
            inputs.push(Input::index(&[n], pairing));
        }
        Form::Cross => inputs.extend(side(seed + 7, m, weighted[1])),
    }
    Case::new("contrastive", format!("n{n} m{m} d{d} {l:?}"), inputs, move |g, v| {
        let of = |at: usize, weighted: bool| match weighted {
            true => Labels::weighted(v[at], v[at + 1]),
            false => v[at].into(),
        };
        match form {
            Form::All => contrastive(g, v[0], of(1, weighted[0]), opts),
            Form::Halves => contrastive_halves(g, v[0], of(1, weighted[0]), v[3], opts),
            Form::Cross => contrastive_cross(g, v[0], of(1, weighted[0]), v[3], of(4, weighted[1]), opts),
        }
    })
}

/// What f32 sums keep, by the rows' kind.
fn tolerance(l: &Loss, d: usize) -> f64 {
    match (l.kind, l.opts.metric) {
        // In one dimension pairs as near as 1e-3 of the norm are common.
        _ if d == 1 => 1e-4,
        // Tensor cores give |a|² + |b|² − 2·a·b, of which a hundredth is left.
        (Kind::Offset, _) if l.stored != Elem::Real => 1e-4,
        // Rows of norm 1 round by 6e-8, at a tenth of it apart.
        (Kind::Offset, Metric::Cosine) => 3e-5,
        _ => 1e-5,
    }
}

fn options() -> impl Strategy<Value = ContrastiveOptions> {
    let metric = prop_oneof![Just(Metric::Euclidean), Just(Metric::Cosine)];
    let tau = prop_oneof![Just(0.0f32), Just(0.2f32), Just(1.1f32)];
    (metric, 0.1f32..3.0, tau, 0.1f32..3.0, prop_oneof![Just(1.0f32), Just(-2.5f32)]).prop_map(
        |(metric, margin, tau, weight, grad_scale)| ContrastiveOptions {
            metric,
            margin,
            tau,
            weight,
            grad_scale,
        },
    )
}

fn loss() -> impl Strategy<Value = Loss> {
    let form = prop_oneof![2 => Just(Form::All), 1 => Just(Form::Halves), 2 => Just(Form::Cross)];
    let kind = prop_oneof![Just(Kind::Plain), Just(Kind::Duplicates), Just(Kind::Offset)];
    (form, options(), any::<bool>(), kind, stored(), any::<[bool; 2]>(), any::<u32>()).prop_map(
        |(form, opts, binned, kind, stored, weighted, seed)| Loss {
            form,
            opts,
            binned,
            kind,
            stored,
            weighted,
            seed: u64::from(seed),
        },
    )
}

fn stored() -> impl Strategy<Value = Elem> {
    prop_oneof![Just(Elem::Real), Just(Elem::F16), Just(Elem::Bf16)]
}

/// Few rows of any width, around the tiles' edges.
fn shape() -> impl Strategy<Value = Shape> {
    let d = prop_oneof![1usize..40, 60usize..70, 120usize..140, 250usize..260, 505usize..=512];
    (2usize..150, 1usize..150, d).prop_map(|(n, m, d)| Shape { n, m, d })
}

/// Widths that the loss has on WGSL, whose driver compiles the shaders for each width anew and keeps what it has compiled: most
/// are the case table's. A quad and less, whole quads and not, and both sides of where more threads share a row, and where its
/// columns are more than these take at once (64) and than a workgroup takes (128).
const LOSS_WIDTHS: &[usize] = &[1, 4, 10, 16, 17, 31, 33, 64, 65, 130, 511];

/// Those of a matrix.
const MATRIX_WIDTHS: &[usize] = &[1, 2, 3, 6, 10, 16, 17, 32, 33, 47, 64, 65, 128, 130, 512];

/// Those of a matrix of rows in 16 bits, which only differ in how they are read.
const HALF_MATRIX_WIDTHS: &[usize] = &[2, 47, 64, 515];

/// Checks a case of rows of width `d`, on WGSL of the nearest of `widths`; `case` also says what it is held to.
fn check_near(
    devices: &[Box<dyn Device>],
    d: usize,
    widths: &[usize],
    case: impl Fn(usize) -> (Case, f64, f64),
) -> Result<(), TestCaseError> {
    let nearest = *widths.iter().min_by_key(|w| w.abs_diff(d)).unwrap();
    devices.iter().try_for_each(|device| {
        let wgsl = device.name().starts_with("wgpu");
        let (case, tolerance, floor) = case(if wgsl { nearest } else { d });
        check(std::slice::from_ref(device), &case, tolerance, floor)
    })
}

const SIMILARITIES: [Similarity; 4] =
    [Similarity::Dot, Similarity::Cosine, Similarity::SquaredEuclidean, Similarity::Euclidean];

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..Default::default() })]

    #[test]
    fn every_option_of_the_loss_matches_the_oracle(shape in shape(), l in loss()) {
        static DEVICES: Devices = LazyLock::new(gpu::devices);
        check_near(&DEVICES, shape.d, LOSS_WIDTHS, |d| (loss_case(Shape { d, ..shape }, l), tolerance(&l, d), 1e-3))?;
    }

    /// A number that is none, in any place: NaN where its sample counts, on every device or on none.
    #[test]
    fn what_is_no_number_is_seen_everywhere(
        shape in shape(), l in loss(), place in 0usize..6, bad in 0usize..4, at in any::<u32>(),
    ) {
        static DEVICES: Devices = LazyLock::new(gpu::devices);
        let bad = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0][bad];
        for device in DEVICES.iter() {
            let widths = if device.name().starts_with("wgpu") { LOSS_WIDTHS } else { &[shape.d][..] };
            let d = *widths.iter().min_by_key(|w| w.abs_diff(shape.d)).unwrap();
            let mut case = loss_case(Shape { d, ..shape }, l);
            if !gpu::holds(&**device, &case) {
                continue;
            }
            let place = if l.form == Form::Cross { place } else { place % 3 };
            let rows = if place < 3 { shape.n } else { shape.m };
            let (row, first) = (at as usize % rows, place / 3 * 3);
            let at = if place % 3 == 0 { row * d + at as usize / rows % d } else { row };
            case.inputs[place] = case.inputs[place].clone().but(at, bad);
            let weighted = l.weighted[place / 3];
            let masked = weighted && matches!(&case.inputs[first + 2].data, Data::Real(w) if w[row] == 0.0);
            // -1 is no bad number of a row, and weights that are not read are none.
            let counts = !masked && (place % 3 > 0 || bad != -1.0) && (place % 3 < 2 || weighted);
            let [want, got] = [case.run(&Cpu::<f64>::new(1).unwrap()), case.run(&**device)].map(|o| o.unwrap()[0].1[0]);
            // Of halves a row may be in no pair that counts.
            prop_assert!(want.is_nan() == counts || l.form == Form::Halves, "oracle {want}: {}", case.name);
            prop_assert!(got.is_nan() == want.is_nan(), "{} {got} not {want}: {}", device.name(), case.name);
        }
    }

    #[test]
    fn every_kind_of_matrix_matches_the_oracle(
        Shape { n, m, d } in shape(), kind in 0usize..4, stored in stored(), duplicates in any::<bool>(), seed in any::<u32>(),
    ) {
        static DEVICES: Devices = LazyLock::new(gpu::devices);
        let (of, seed) = (SIMILARITIES[kind], u64::from(seed));
        let like = if duplicates { Kind::Duplicates } else { Kind::Plain };
        let widths = if stored == Elem::Real { MATRIX_WIDTHS } else { HALF_MATRIX_WIDTHS };
        check_near(&DEVICES, d, widths, |d| {
            let inputs = vec![rows(seed, n, d, like, stored, None), rows(seed + 3, m, d, like, stored, None)];
            let case = Case::new("similarity", format!("{of:?} {n} {m} {d} {stored:?} {duplicates}"), inputs, move |g, v| {
                similarity(g, v[0], v[1], of)
            });
            // A cosine in one dimension is ±1: its gradient is 0 but for rounding.
            (case, if d == 1 { 1e-4 } else { 1e-5 }, if d == 1 { 1.0 } else { 1e-3 })
        })?;
    }
}

const LOSS: Loss = Loss {
    form: Form::All,
    opts: ContrastiveOptions {
        metric: Metric::Euclidean,
        margin: 0.5,
        tau: 0.0,
        weight: 1.0,
        grad_scale: 1.0,
    },
    binned: true,
    kind: Kind::Plain,
    stored: Elem::Real,
    weighted: [false; 2],
    seed: 1,
};

fn with(metric: Metric, form: Form, stored: Elem) -> Loss {
    Loss { form, stored, opts: ContrastiveOptions { metric, ..LOSS.opts }, ..LOSS }
}

/// Two thousand rows, narrow and wide.
#[test]
fn thousands_of_rows_match_the_oracle() {
    let devices = gpu::devices();
    for (n, d, l) in [
        (2048, 16, with(Metric::Euclidean, Form::All, Elem::Real)),
        (2047, 5, with(Metric::Cosine, Form::All, Elem::Real)),
        (1500, 16, Loss { weighted: [true; 2], ..with(Metric::Cosine, Form::All, Elem::Bf16) }),
        (2048, 16, with(Metric::Euclidean, Form::All, Elem::F16)),
        (600, 512, with(Metric::Euclidean, Form::All, Elem::F16)),
        (500, 300, with(Metric::Euclidean, Form::All, Elem::Real)),
    ] {
        check(&devices, &loss_case(Shape { n, m: 0, d }, l), 1e-5, 0.0).unwrap();
    }
}

/// Enough rows for the larger tiles, for a visit to memory amid the sums, and for sums of 65,536 losses to a thousandth of a
/// percent.
#[test]
fn long_sets_match_the_oracle() {
    let devices = gpu::devices();
    for (n, m, d, metric, stored) in [
        (8300, 40, 6, Metric::Euclidean, Elem::Real),
        (37, 9000, 70, Metric::Cosine, Elem::Real),
        (40, 65_536, 2, Metric::Euclidean, Elem::Real),
        (33, 5000, 20, Metric::Cosine, Elem::F16),
        (5000, 33, 9, Metric::Euclidean, Elem::Bf16),
    ] {
        check(&devices, &loss_case(Shape { n, m, d }, with(metric, Form::Cross, stored)), 1e-5, 0.0).unwrap();
    }
    let inputs = || vec![Input::normal(1, &[8300, 6]), Input::normal(2, &[40, 6])];
    for of in SIMILARITIES {
        let case = Case::new("similarity", format!("long {of:?}"), inputs(), move |g, v| {
            similarity(g, v[0], v[1], of)
        });
        check(&devices, &case, 1e-5, 0.0).unwrap();
    }
}

/// What is masked out is never read: the cases above hold NaN there.
#[test]
fn masked_rows_hold_nan() {
    let case = loss_case(Shape { n: 60, m: 50, d: 3 }, Loss { weighted: [true; 2], ..LOSS });
    let (Data::Real(z), Data::Real(w)) = (&case.inputs[0].data, &case.inputs[2].data) else { panic!() };
    assert!(z.iter().any(|v| v.is_nan()) && w.contains(&0.0));
}

/// Clusters much tighter than they are apart, whose pairs alone count: all others are beyond the margin, or alike.
#[test]
fn near_duplicates_keep_three_digits() {
    let devices = gpu::devices();
    let (clusters, n) = (4, 56);
    for (metric, d) in
        [Metric::Euclidean, Metric::Cosine].into_iter().flat_map(|m| [2, 33, 130].map(|d| (m, d)))
    {
        for (spread, alike) in [1e-2, 1e-3, 1e-6].into_iter().flat_map(|s| [(s, false), (s, true)]) {
            let (centres, noise) = (normal(1, clusters * d), normal(2, n * d));
            // Far apart in direction as in place.
            let far = |e: usize| if e % d == e / d % clusters % d { 3.0 * (d as f64).sqrt() } else { 0.0 };
            let z = (0..n * d)
                .map(|e| centres[e / d % clusters * d + e % d] + far(e) + spread * noise[e])
                .collect();
            let labels = (0..n).map(|i| if alike { i % clusters } else { i / clusters } as f64).collect();
            let inputs = vec![Input::real(&[n, d], z, Role::Grad), Input::real(&[n], labels, Role::Constant)];
            let opts = ContrastiveOptions { metric, margin: 1e-3, ..Default::default() };
            let case = Case::new(
                "contrastive",
                format!("{metric:?} d{d} {spread:e} {alike}"),
                inputs,
                move |g, v| contrastive(g, v[0], v[1], opts),
            );
            check(&devices, &case, 1e-3, 0.0).unwrap();
        }
    }
}

/// From where squares vanish in f32 to where they overflow; right in the range that the kernel's header names.
#[test]
fn no_size_of_numbers_makes_a_nan() {
    let devices = gpu::devices();
    for metric in [Metric::Euclidean, Metric::Cosine] {
        for size in [1e-44, 1e-30, 1e-20, 1e-12, 1e12, 1e18, 1e25, 1e30] {
            let mut z: Vec<f64> = normal(5, 60 * 4).iter().map(|v| v * size).collect();
            z[..8].copy_from_slice(&[0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
            let labels = (0..60).map(|i| f64::from(i % 2)).collect();
            let inputs =
                vec![Input::real(&[60, 4], z, Role::Grad), Input::real(&[60], labels, Role::Constant)];
            let opts = ContrastiveOptions { metric, ..Default::default() };
            let case = Case::new("contrastive", format!("{metric:?} {size:e}"), inputs, move |g, v| {
                contrastive(g, v[0], v[1], opts)
            });
            for device in &devices {
                let got = case.run(&**device).unwrap();
                let nan = got.iter().flat_map(|(_, v)| v).any(|v| v.is_nan());
                assert!(!nan, "{} {}", device.name(), case.name);
            }
            if (1e-12..=1e12).contains(&size) {
                check(&devices, &case, 1e-4, 0.0).unwrap();
            }
        }
    }
}

/// Only the ratios of weights count, in second derivatives as in the loss: products of any two may be beyond f32. Weights
/// themselves are normal numbers: a card may flush others to zero.
#[test]
fn second_derivatives_do_not_depend_on_the_size_of_weights() {
    let mut devices = gpu::devices();
    devices.push(Box::new(Cpu::<f32>::new(1).unwrap()));
    let (n, m, d) = (40, 21, 5);
    for metric in [Metric::Euclidean, Metric::Cosine] {
        let opts = ContrastiveOptions { metric, margin: 2.0, ..Default::default() };
        for (own, others) in [(1e-25, 1e-30), (1e25, 1e30), (1e30, 1e-30), (1.0, 1e-34)] {
            let samples = |seed, n: usize, size: f64| {
                let weights = uniform(seed + 2, n).into_iter().map(|w| w * size).collect();
                let [labels, weights] =
                    [uniform(seed + 1, n), weights].map(|values| Input::real(&[n], values, Role::Constant));
                [Input::normal(seed, &[n, d]), labels, weights]
            };
            let name = |what| format!("{what} {metric:?} {own:e} {others:e}");
            let all = samples(1, n, own).to_vec();
            let cross = [all.clone(), samples(4, m, others).to_vec()].concat();
            let all = Case::new("contrastive_hvp", name("all"), all, move |g, v| {
                let loss = contrastive(g, v[0], Labels::weighted(v[1], v[2]), opts)?;
                Ok(g.gradients(loss, None, &[v[0]])?[0])
            });
            let cross = Case::new("contrastive_hvp", name("across"), cross, move |g, v| {
                let labels = [Labels::weighted(v[1], v[2]), Labels::weighted(v[4], v[5])];
                let loss = contrastive_cross(g, v[0], labels[0], v[3], labels[1], opts)?;
                Ok(g.gradients(loss, None, &[v[0]])?[0])
            });
            check(&devices, &all, 1e-5, 0.0).unwrap();
            check(&devices, &cross, 1e-5, 0.0).unwrap();
        }
    }
}
