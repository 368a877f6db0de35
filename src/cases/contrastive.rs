use super::{Case, Data, Input, Role, normal, uniform};
use crate::kernel::Elem;
use crate::ops::contrastive::{
    ContrastiveOptions, Labels, Metric, bins, contrastive, contrastive_cross, contrastive_halves,
};

const METRICS: [Metric; 2] = [Metric::Euclidean, Metric::Cosine];

/// Integer labels of five bins.
fn binned(seed: u64, n: usize) -> Input {
    Input::real(&[n], uniform(seed, n).iter().map(|y| (5.0 * y).floor()).collect(), Role::Constant)
}

/// Ratings as they are.
fn continuous(seed: u64, n: usize) -> Input {
    Input::real(&[n], uniform(seed, n), Role::Constant)
}

fn name(what: &str, n: usize, d: usize, o: ContrastiveOptions) -> String {
    format!("{what} n{n} d{d} {:?} margin {} tau {} weight {}", o.metric, o.margin, o.tau, o.weight)
}

const NEAR: &str = "pairs at 1e-3 to 3e-3 of the norm lose up to 6e-8 / 1e-3 of their difference; nearer \
                    ones are computed on their own in f64";

/// All pairs, binned or not.
fn all(what: &str, z: Input, labels: Input, opts: ContrastiveOptions) -> Case {
    let (n, d) = (z.shape[0], z.shape[1]);
    Case::new("contrastive", name(what, n, d, opts), vec![z, labels], move |g, v| {
        contrastive(g, v[0], v[1], opts)
    })
}

fn halves(what: &str, z: Input, labels: Input, pairing: Input, opts: ContrastiveOptions) -> Case {
    let (n, d) = (z.shape[0], z.shape[1]);
    Case::new("contrastive", name(what, n, d, opts), vec![z, labels, pairing], move |g, v| {
        contrastive_halves(g, v[0], v[1], v[2], opts)
    })
}

fn cross(what: &str, z: [Input; 2], labels: [Input; 2], opts: ContrastiveOptions) -> Case {
    let (n, m, d) = (z[0].shape[0], z[1].shape[0], z[0].shape[1]);
    let ([z, others], [of_z, of_o]) = (z, labels);
    let name = name(&format!("{what} m{m}"), n, d, opts);
    Case::new("contrastive", name, vec![z, of_z, others, of_o], move |g, v| {
        contrastive_cross(g, v[0], v[1], v[2], v[3], opts)
    })
}

/// Weights from 0 to 2, every third of them 0.
fn weights(seed: u64, n: usize) -> Input {
    let weights =
        uniform(seed, n).into_iter().enumerate().map(|(i, w)| if i % 3 == 1 { 0.0 } else { 2.0 * w });
    Input::real(&[n], weights.collect(), Role::Constant)
}

/// All forms with weights; masked rows hold NaN and infinities where `holes` says so.
fn weighted(n: usize, m: usize, d: usize, holes: bool, opts: ContrastiveOptions) -> Vec<Case> {
    let rows = |seed: u64, n: usize| {
        let (mut z, weights) = (Input::normal(seed, &[n, d]), weights(seed + 1, n));
        let mut labels = continuous(seed + 2, n);
        if holes {
            for i in (1..n).step_by(3) {
                if let (Data::Real(z), Data::Real(labels)) = (&mut z.data, &mut labels.data) {
                    z[i * d..][..d].fill(if i % 2 == 0 { f64::NAN } else { f64::INFINITY });
                    labels[i] = f64::NAN;
                }
            }
        }
        [z, labels, weights]
    };
    let what = if holes { "weights, masked rows not finite" } else { "weights" };
    let (a, b) = (rows(n as u64 + 100, n), rows(m as u64 + 200, m));
    let name = |form: &str| name(&format!("{form} {what}"), n, d, opts);
    let pairing = Input::index(&[n], (0..n as u32).rev().collect());
    vec![
        Case::new("contrastive", name("all"), a.to_vec(), move |g, v| {
            contrastive(g, v[0], Labels::weighted(v[1], v[2]), opts)
        }),
        Case::new("contrastive", name("halves"), [&a[..], &[pairing]].concat(), move |g, v| {
            contrastive_halves(g, v[0], Labels::weighted(v[1], v[2]), v[3], opts)
        }),
        Case::new("contrastive", name(&format!("cross m{m}")), [&a[..], &b].concat(), move |g, v| {
            let (of_z, of_o) = (Labels::weighted(v[1], v[2]), Labels::weighted(v[4], v[5]));
            contrastive_cross(g, v[0], of_z, v[3], of_o, opts)
        }),
        Case::new(
            "contrastive",
            name(&format!("cross m{m}, z not weighted")),
            // Without weights nothing is masked.
            [&[Input::normal(n as u64, &[n, d]), continuous(3, n)], &b[..]].concat(),
            move |g, v| contrastive_cross(g, v[0], v[1], v[2], Labels::weighted(v[3], v[4]), opts),
        ),
        Case::new(
            "contrastive",
            name(&format!("cross m{m}, others not weighted")),
            [&a[..], &[Input::normal(m as u64, &[m, d]), continuous(4, m)]].concat(),
            move |g, v| contrastive_cross(g, v[0], Labels::weighted(v[1], v[2]), v[3], v[4], opts),
        ),
    ]
}

/// What makes the loss NaN, and in which place of the inputs: rows, labels, weights of one set and then of the others.
const NO_NUMBERS: [(&str, usize, f64); 11] = [
    ("NaN in a row", 0, f64::NAN),
    ("infinity in a row", 0, f64::INFINITY),
    ("NaN as a label", 1, f64::NAN),
    ("infinity as a label", 1, f64::INFINITY),
    ("a negative label", 1, -0.25),
    ("NaN as a weight", 2, f64::NAN),
    ("infinity as a weight", 2, f64::INFINITY),
    ("a negative weight", 2, -1.0),
    ("NaN in another's row", 3, f64::NAN),
    ("NaN as another's label", 4, f64::NAN),
    ("a negative weight of another", 5, -1.0),
];

/// The loss where one number is none: NaN on every device. All pairs are positive with `alike` labels, else most are negative,
/// whose hinge must not count NaN as 0.
fn no_numbers(
    n: usize,
    m: usize,
    d: usize,
    alike: bool,
    stored: Elem,
    opts: ContrastiveOptions,
) -> Vec<Case> {
    let set = |seed: u64, n: usize| {
        let labels = uniform(seed, n).iter().map(|y| if alike { 1.0 } else { 9.0 * y }).collect();
        let weights = uniform(seed + 1, n).iter().map(|w| 0.5 + w).collect();
        let z = Input::normal(seed + 2, &[n, d]).but(0, 0.0).stored(stored);
        [z, Input::real(&[n], labels, Role::Constant), Input::real(&[n], weights, Role::Constant)]
    };
    let mut cases = Vec::new();
    for (i, (what, place, value)) in NO_NUMBERS.into_iter().enumerate() {
        let mut inputs = [set(31, n), set(41, m)].concat();
        // Here the first, there the last, or one between.
        let len: usize = inputs[place].shape.iter().product();
        inputs[place] = inputs[place].clone().but([len - 1, 0, len / 2][i % 3], value);
        let name = |form: &str, w: &str| {
            name(&format!("{form} {what}{w} {stored:?} alike {alike} m{m}"), n, d, opts)
        };
        cases.push(Case::new("contrastive", name("cross", ""), inputs.clone(), move |g, v| {
            let (of_z, of_o) = (Labels::weighted(v[1], v[2]), Labels::weighted(v[4], v[5]));
            contrastive_cross(g, v[0], of_z, v[3], of_o, opts)
        }));
        if place > 2 {
            continue;
        }
        let own = inputs[..3].to_vec();
        cases.push(Case::new("contrastive", name("all", ""), own.clone(), move |g, v| {
            contrastive(g, v[0], Labels::weighted(v[1], v[2]), opts)
        }));
        if place < 2 {
            let own = own[..2].to_vec();
            cases.push(Case::new("contrastive", name("all", ", no weights"), own, move |g, v| {
                contrastive(g, v[0], v[1], opts)
            }));
        }
        if stored == Elem::Real && n.is_multiple_of(2) {
            let pairing = Input::index(&[n], (0..n as u32).rev().collect());
            cases.push(Case::new(
                "contrastive",
                name("halves", ""),
                [&own[..], &[pairing]].concat(),
                move |g, v| contrastive_halves(g, v[0], Labels::weighted(v[1], v[2]), v[3], opts),
            ));
        }
    }
    cases
}

/// A row that is no number and the only one that counts: there is no pair, and the loss is NaN all the same.
fn one_that_counts(opts: ContrastiveOptions) -> Case {
    let weights = (0..5).map(|i| f64::from(u8::from(i == 2))).collect();
    let inputs = vec![
        Input::normal(1, &[5, 3]).but(7, f64::NAN),
        continuous(2, 5),
        Input::real(&[5], weights, Role::Constant),
    ];
    Case::new("contrastive", name("all one counts, and is NaN", 5, 3, opts), inputs, move |g, v| {
        contrastive(g, v[0], Labels::weighted(v[1], v[2]), opts)
    })
}

/// Labels on a grid as wide as `tau`: neighbours are positive, whatever their difference rounds to.
fn grid(steps: usize, from: f64, tau: f32, opts: ContrastiveOptions) -> Case {
    let labels = (0..=steps).map(|i| from + f64::from(tau) * i as f64).collect();
    let labels = Input::real(&[steps + 1], labels, Role::Constant);
    let what = format!("neighbours on a grid from {from}");
    all(&what, Input::normal(8, &[steps + 1, 3]), labels, ContrastiveOptions { tau, ..opts })
}

/// What labels are near, and what is no number.
fn labels_and_numbers(opts: ContrastiveOptions) -> Vec<Case> {
    let mut cases = vec![one_that_counts(opts)];
    for (steps, from, tau) in [(10, 0.0, 0.1), (100, 90.0, 0.1), (20, 0.0, 0.05), (40, 3.0, 0.7)] {
        cases.push(grid(steps, from, tau, opts));
    }
    let shapes = match opts.metric {
        Metric::Euclidean => [
            (4, 1, 1, false, Elem::Real),
            (40, 9, 130, true, Elem::Real),
            (130, 33, 300, false, Elem::Real),
            (66, 33, 16, false, Elem::F16),
        ],
        Metric::Cosine => [
            (66, 131, 5, false, Elem::Real),
            (130, 9, 130, false, Elem::Real),
            (3, 4, 2, true, Elem::Real),
            (40, 9, 131, false, Elem::Bf16),
        ],
    };
    for (n, m, d, alike, stored) in shapes {
        cases.extend(no_numbers(n, m, d, alike, stored, opts));
    }
    cases
}

/// Embeddings as training leaves them, a cluster a label: whole tiles of them are beyond their margins, or of one label.
fn classes(opts: ContrastiveOptions) -> Vec<Case> {
    let (n, m, d) = (250, 120, 20);
    let rows = |seed: u64, n: usize, role: Role| {
        let (centres, noise) = (normal(13, 5 * d), normal(seed, n * d));
        let rows = (0..n * d).map(|e| centres[e / d % 5 * d + e % d] + 0.05 * noise[e]);
        Input::real(&[n, d], rows.collect(), role)
    };
    let labels = |n: usize| Input::real(&[n], (0..n).map(|i| (i % 5) as f64).collect(), Role::Constant);
    let ratings = |seed: u64, n: usize| {
        let within = uniform(seed, n);
        Input::real(&[n], (0..n).map(|i| (i % 5) as f64 + within[i]).collect(), Role::Constant)
    };
    // Beyond some margins and within others; ratings are at a hinge now and then.
    let wide = ContrastiveOptions { margin: 2.0, ..opts };
    vec![
        all("a cluster a label", rows(14, n, Role::Grad), labels(n), opts),
        all("a cluster a label", rows(14, n, Role::Constant), labels(n), wide),
        all("a cluster a range of ratings", rows(14, n, Role::Constant), ratings(15, n), wide),
        cross(
            "a cluster a label",
            [rows(14, n, Role::Constant), rows(16, m, Role::Constant)],
            [labels(n), labels(m)],
            wide,
        ),
    ]
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for metric in METRICS {
        let paper = ContrastiveOptions { metric, ..Default::default() };
        let other = ContrastiveOptions { margin: 2.0, tau: 0.2, weight: 0.3, ..paper };
        // Tiles are 48 rows of sixteens, blocks of tiles from 96 rows: below, at and beyond each.
        for (n, d) in [
            (2, 1),
            (3, 2),
            (7, 5),
            (16, 15),
            (17, 16),
            (47, 17),
            (48, 32),
            (64, 16),
            (67, 31),
            (97, 48),
            (130, 130),
            (211, 64),
            (293, 3),
        ] {
            let seed = (n * 1000 + d) as u64;
            let z = || Input::normal(seed, &[n, d]);
            cases.push(all("all binned", z(), binned(seed + 1, n), paper));
            cases.push(all("all continuous", z(), continuous(seed + 2, n), other));
            let permutation = (0..n as u32).rev().collect();
            let pairing = Input::index(&[n], permutation);
            cases.push(halves("halves continuous", z(), continuous(seed + 3, n), pairing, other));
            let pairs = (0..n as u32 / 2 * 2).collect();
            let pairing = Input::index(&[n / 2, 2], pairs);
            cases.push(halves("halves binned", z(), binned(seed + 3, n), pairing, paper));
            for m in [1, n / 2 + 1, 2 * n + 5] {
                let others = Input::normal(seed + 5, &[m, d]);
                let labels = [continuous(seed + 4, n), continuous(seed + 6, m)];
                cases.push(cross("cross continuous", [z(), others.clone()], labels, other));
                let labels = [binned(seed + 4, n), binned(seed + 6, m)];
                cases.push(cross("cross binned", [z(), others], labels, paper));
            }
        }
        for d in [16, 128] {
            cases.push(all("all", Input::normal(1, &[1024, d]), binned(2, 1024), paper).timed());
        }
        cases.push(all("all", Input::normal(1, &[64, 16]), binned(2, 64), paper).timed());
        for (n, m, d) in [(3, 2, 1), (6, 9, 4), (17, 5, 16), (50, 33, 31), (97, 140, 64), (211, 96, 17)] {
            cases.extend(weighted(n, m, d, false, paper));
            cases.extend(weighted(n, m, d, true, other));
        }
        for stored in [Elem::F16, Elem::Bf16] {
            for (n, m, d) in [(3, 2, 1), (16, 5, 16), (67, 33, 31), (130, 97, 130)] {
                let rows = |seed: u64, n: usize| Input::normal(seed, &[n, d]).stored(stored);
                let what = format!("{stored:?}");
                cases.push(all(&what, rows(1, n), continuous(2, n), other));
                let [of_z, of_o] = [continuous(3, n), continuous(4, m)];
                cases.push(cross(&what, [rows(5, n), rows(6, m)], [of_z, of_o], paper));
            }
        }
        // One label: every pair is positive. All different, none is.
        let (n, d) = (70, 6);
        let z = || Input::normal(9, &[n, d]);
        let label = |f: fn(usize) -> f64| Input::real(&[n], (0..n).map(f).collect(), Role::Constant);
        cases.push(all("one label", z(), label(|_| 3.0), paper));
        cases.push(all("no two labels alike", z(), label(|i| i as f64), paper));
        // Ratings exactly on the edges of ten bins.
        let edges: Vec<f32> = (0..n).map(|i| (i % 11) as f32 / 10.0).collect();
        let edges = bins(&edges, 10).expect("ratings from 0 to 1");
        let edges = edges.into_iter().map(f64::from).collect();
        cases.push(all("bin edges", z(), Input::real(&[n], edges, Role::Constant), paper));

        cases.extend(labels_and_numbers(paper));

        // Far from the origin, where norms and products cancel, and near-duplicates.
        let shifted: Vec<f64> = normal(11, n * d).iter().map(|v| 100.0 + v).collect();
        cases.push(
            all("shifted by 100", Input::real(&[n, d], shifted, Role::Grad), binned(12, n), paper)
                .within(1e-4, "cosine: rows of norm 1 round by 6e-8, at 1e-2 of it apart"),
        );
        let mut rows = normal(10, n * d);
        rows[..2 * d].fill(0.0);
        rows.copy_within(2 * d..9 * d, 50 * d);
        let z = Input::real(&[n, d], rows, Role::Constant); // on corners: see tests/kernels/contrastive_loss.rs
        cases.push(all("zero and duplicate rows", z, binned(12, n), paper));
        // A few clusters much tighter than they are apart. Their pairs are smooth at the h of the check
        // only where the spread is beyond it.
        for (spread, role) in [(3e-3, Role::Grad), (1e-3, Role::Grad), (1e-6, Role::Constant)] {
            let noise = normal(14, n * d);
            let centres = normal(13, 5 * d);
            let rows = (0..n * d).map(|e| centres[e / d % 5 * d + e % d] + spread * noise[e]).collect();
            let what = format!("clusters of {spread:e}");
            let z = Input::real(&[n, d], rows, role);
            cases.push(all(&what, z, binned(15, n), paper).within(2e-4, NEAR));
        }
        cases.extend(classes(paper));
    }
    cases
}
