//! Statistics of a study: measures under weights and neighbours against scikit-learn and scipy (values made by
//! `tests/golden/sklearn/paired.py`), and what the intervals of differences are worth.

use etude::contrastive::Metric;
use etude::report::measure::{Measure, Takes, Tested};
use etude::report::neighbours::neighbours;
use etude::report::paired::{Compared, Difference, compare};
use proptest::prelude::*;
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/sklearn/paired.json")).unwrap()
}

fn each<T>(of: &Value, as_t: impl Fn(&Value) -> T) -> Vec<T> {
    of.as_array().unwrap().iter().map(as_t).collect()
}

fn numbers(of: &Value) -> Vec<f32> {
    each(of, |v| v.as_f64().unwrap() as f32)
}

fn flags(of: &Value) -> Vec<bool> {
    each(of, |v| v.as_bool().unwrap())
}

#[test]
fn weighted_measures_are_scikit_learns() {
    let mut compared = [0; Measure::ALL.len()];
    for (i, case) in golden()["cases"].as_array().unwrap().iter().enumerate() {
        let ratings = numbers(&case["y"]);
        let takes = Takes {
            pass: Some(flags(&case["passes"])),
            melodies: each(&case["melody"], |v| v.as_u64().map(|v| v as usize)),
            groups: vec![0; ratings.len()],
            ratings,
        };
        let tested = Tested {
            predictions: numbers(&case["p"]),
            passed: Some(flags(&case["passed"])),
            neighbours: numbers(&case["q"]),
        };
        let weights = each(&case["w"], |v| v.as_f64().unwrap());
        for measure in Measure::ALL {
            let Some(want) = case["values"].get(measure.name()) else { continue };
            let (got, want) = (measure.of(&takes, &tested, &weights).unwrap(), want.as_f64().unwrap());
            assert!((got - want).abs() < 1e-12, "case {i}, {measure}: {got}, want {want}");
            compared[measure as usize] += 1;
        }
    }
    assert!(compared.iter().all(|count| *count >= 4), "{compared:?}");
}

#[test]
fn neighbours_are_scikit_learns() {
    for (i, case) in golden()["neighbours"].as_array().unwrap().iter().enumerate() {
        let metric: Metric = case["metric"].as_str().unwrap().parse().unwrap();
        let (known, ratings, asked) =
            (numbers(&case["known"]), numbers(&case["ratings"]), numbers(&case["asked"]));
        let (width, k) = (case["width"].as_u64().unwrap() as usize, case["k"].as_u64().unwrap() as usize);
        let found = neighbours(&known, &ratings, &asked, width, k, metric.into()).unwrap();
        let wanted = numbers(&case["found"]);
        assert_eq!(found.len(), wanted.len());
        for (got, want) in found.iter().zip(&wanted) {
            assert!((got - want).abs() < 1e-6, "case {i}: {got}, want {want}");
        }
    }
}

/// Takes and what was made of them, values on few levels so that they tie.
fn case(n: usize, seed: u64) -> (Takes, Tested, Vec<f64>) {
    let mut random = Random(seed);
    let mut list = |levels: f64| -> Vec<f32> {
        (0..n).map(|_| ((random.unit() * levels).floor() / levels) as f32).collect()
    };
    let (ratings, predictions, neighbours) = (list(6.0), list(9.0), list(1000.0));
    let flag = |v: Vec<f32>| Some(v.iter().map(|v| *v > 0.4).collect());
    let (pass, passed) = (flag(list(100.0)), flag(list(100.0)));
    let melodies = list(4.0).iter().map(|v| Some((v * 4.0) as usize).filter(|m| *m > 0)).collect();
    let weights = list(4.0).iter().map(|v| f64::from(v * 4.0)).collect();
    (
        Takes { groups: (0..n).collect(), ratings, pass, melodies },
        Tested { predictions, passed, neighbours },
        weights,
    )
}

/// The takes in this order; one may stand there more than once.
fn chosen(takes: &Takes, tested: &Tested, which: &[usize]) -> (Takes, Tested) {
    fn of<T: Copy>(list: &[T], which: &[usize]) -> Vec<T> {
        which.iter().map(|&i| list[i]).collect()
    }
    let takes = Takes {
        ratings: of(&takes.ratings, which),
        pass: takes.pass.as_ref().map(|pass| of(pass, which)),
        melodies: of(&takes.melodies, which),
        groups: of(&takes.groups, which),
    };
    let tested = Tested {
        predictions: of(&tested.predictions, which),
        passed: tested.passed.as_ref().map(|passed| of(passed, which)),
        neighbours: of(&tested.neighbours, which),
    };
    (takes, tested)
}

fn alike(a: Option<f64>, b: Option<f64>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() < 1e-12 * (1.0 + a.abs()),
        (a, b) => a == b,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// A weight of 2 is the take twice; no order of the takes and no factor of the weights counts.
    #[test]
    fn a_weight_is_as_many_takes(n in 1usize..60, seed in any::<u64>()) {
        let (takes, tested, weights) = case(n, seed);
        let again: Vec<usize> = (0..n).flat_map(|i| vec![i; weights[i] as usize]).collect();
        let turned: Vec<usize> = again.iter().rev().copied().collect();
        let half: Vec<f64> = weights.iter().map(|w| 0.37 * w).collect();
        for measure in Measure::ALL {
            let weighted = measure.of(&takes, &tested, &weights);
            for which in [&again, &turned] {
                let (takes, tested) = chosen(&takes, &tested, which);
                let repeated = measure.of(&takes, &tested, &vec![1.0; which.len()]);
                prop_assert!(alike(weighted, repeated), "{measure}: {weighted:?}, repeated {repeated:?}");
            }
            prop_assert!(alike(weighted, measure.of(&takes, &tested, &half)), "{measure}: {weighted:?}");
        }
    }
}

#[test]
fn weights_of_one_are_the_plain_scores() {
    use etude::report::scores;
    let (takes, tested, _) = case(300, 5);
    let of = |measure: Measure| measure.of(&takes, &tested, &[1.0; 300]);
    let (p, y, pass) = (&tested.predictions, &takes.ratings, takes.pass.as_ref().unwrap());
    assert!(alike(of(Measure::R2), scores::r2(p, y)));
    assert!(alike(of(Measure::Pearson), scores::pearson(p, y)));
    assert!(alike(of(Measure::Mae), scores::mae(p, y)));
    assert!(alike(of(Measure::Auc), scores::auc(p, pass)));
    assert!(alike(of(Measure::Neighbours), scores::r2(&tested.neighbours, y)));
}

#[test]
fn what_is_undefined_is_none() {
    use Measure::{Accuracy, Auc, Calibration, Mae, Neighbours, Order, Pearson, R2};
    let (takes, tested, _) = case(40, 1);
    let defined = |takes: &Takes, tested: &Tested, weights: &[f64]| {
        Measure::ALL.into_iter().filter(|m| m.of(takes, tested, weights).is_some()).collect::<Vec<_>>()
    };
    let ones = [1.0; 40];
    assert_eq!(defined(&takes, &tested, &ones), Measure::ALL);
    for weights in [&[0.0; 40][..], &[1.0; 39], &[f64::NAN; 40], &[f64::INFINITY; 40], &[-1.0; 40]] {
        assert_eq!(defined(&takes, &tested, weights), []);
    }
    assert_eq!(defined(&Takes::default(), &Tested::default(), &[]), []);

    // Ratings that are constant where there is a weight; 0.3 summed up is not 40 · 0.3.
    let mut flat = takes.clone();
    flat.ratings = vec![0.3; 40];
    (flat.ratings[7], flat.melodies[7], flat.melodies[8]) = (0.9, Some(1), Some(1));
    let mut without = ones;
    without[7] = 0.0;
    assert_eq!(defined(&flat, &tested, &ones), Measure::ALL);
    assert_eq!(defined(&flat, &tested, &without), [Mae, Auc, Accuracy, Calibration]);
    // A constant prediction.
    let constant = Tested { predictions: vec![0.1; 40], ..tested.clone() };
    let most = [R2, Mae, Auc, Accuracy, Order, Neighbours, Calibration];
    assert_eq!(defined(&takes, &constant, &ones), most);
    assert_eq!(Order.of(&takes, &constant, &ones), Some(0.5));
    assert_eq!(Auc.of(&takes, &constant, &ones), Some(0.5));
    // Without pass and fail, or without one of them.
    let unjudged = Takes { pass: None, ..takes.clone() };
    assert_eq!(defined(&unjudged, &tested, &ones), [R2, Pearson, Mae, Order, Neighbours, Calibration]);
    let all_pass = Takes { pass: Some(vec![true; 40]), ..takes.clone() };
    assert_eq!(
        defined(&all_pass, &tested, &ones),
        [R2, Pearson, Mae, Accuracy, Order, Neighbours, Calibration]
    );
    let undecided = Tested { passed: None, ..tested.clone() };
    assert_eq!(defined(&takes, &undecided, &ones), [R2, Pearson, Mae, Auc, Order, Neighbours, Calibration]);
    // Melodies that nobody knows, or that nobody sang twice.
    for melodies in [vec![None; 40], (0..40).map(Some).collect()] {
        let alone = Takes { melodies, ..takes.clone() };
        let most = [R2, Pearson, Mae, Auc, Accuracy, Neighbours, Calibration];
        assert_eq!(defined(&alone, &tested, &ones), most);
    }
    // What is no number.
    let mut bad = tested.clone();
    bad.predictions[3] = f32::NAN;
    assert_eq!(defined(&takes, &bad, &ones), [Accuracy, Neighbours]);
    bad = Tested { neighbours: vec![f32::INFINITY; 40], ..tested.clone() };
    assert_eq!(defined(&takes, &bad, &ones), [R2, Pearson, Mae, Auc, Accuracy, Order, Calibration]);
    let mut unrated = takes.clone();
    unrated.ratings[0] = f32::NAN;
    assert_eq!(defined(&unrated, &tested, &ones), [Accuracy]);
}

/// SplitMix64 (Steele, Lea and Flood 2014), apart from the crate's own draws.
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// About normal, with variance 1: twelve uniform ones.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

/// A study whose truth is known: predictions are off by about 0.5, those of the second way by `further` more on average.
struct Planted {
    groups: usize,
    /// Takes of each group.
    takes: usize,
    seeds: usize,
    further: f64,
    /// Deviation of what the second way is further off by: over groups, over trainings, over takes.
    by_group: f64,
    by_seed: f64,
    by_take: f64,
}

impl Planted {
    fn study(&self, random: &mut Random) -> (Takes, Vec<Vec<Tested>>) {
        let n = self.groups * self.takes;
        let groups: Vec<usize> = (0..n).map(|i| i / self.takes).collect();
        let takes = Takes { ratings: vec![0.0; n], pass: None, melodies: vec![None; n], groups };
        let by_group: Vec<f64> = (0..self.groups).map(|_| self.by_group * random.normal()).collect();
        let base: Vec<f64> = (0..n).map(|_| random.unit()).collect();
        let tested = |off: Vec<f64>| Tested {
            neighbours: vec![0.0; n],
            predictions: off.into_iter().map(|v| v as f32).collect(),
            passed: None,
        };
        let way = |second: bool, random: &mut Random| {
            let of_seed = |_| {
                let by_seed = self.by_seed * random.normal();
                let off = |i: usize| {
                    let own = self.further + by_group[i / self.takes];
                    // Errors of 2 to 3, so that the mean absolute error is the mean.
                    2.0 + base[i] + by_seed + self.by_take * random.normal() + if second { own } else { 0.0 }
                };
                tested((0..n).map(off).collect())
            };
            (0..self.seeds).map(of_seed).collect::<Vec<_>>()
        };
        let ways = vec![way(false, random), way(true, random)];
        (takes, ways)
    }

    /// Of so many studies, the share whose interval holds the truth, and how wide it is on average.
    fn coverage(&self, studies: usize, draws: usize, groups: impl Fn(usize) -> usize) -> (f64, f64) {
        let mut random = Random(1);
        let (mut held, mut width) = (0.0, 0.0);
        for _ in 0..studies {
            let (mut takes, ways) = self.study(&mut random);
            (0..takes.groups.len()).for_each(|i| takes.groups[i] = groups(i));
            let compared = compare(&takes, &ways, draws).unwrap();
            let Difference { low, high, .. } = compared[1].of(Measure::Mae).difference.clone().unwrap();
            held += f64::from(u8::from((low..=high).contains(&self.further)));
            width += high - low;
        }
        (held / studies as f64, width / studies as f64)
    }
}

#[test]
fn an_interval_holds_what_was_planted() {
    let plain =
        Planted { groups: 40, takes: 5, seeds: 5, further: 0.1, by_group: 0.2, by_seed: 0.05, by_take: 0.2 };
    for planted in [
        Planted { ..plain },
        // One kind of chance alone; then nothing planted.
        Planted { by_seed: 0.0, by_take: 0.0, ..plain },
        Planted { by_group: 0.0, by_take: 0.0, seeds: 10, ..plain },
        Planted { further: 0.0, ..plain },
    ] {
        let (held, _) = planted.coverage(200, 300, |i| i / planted.takes);
        let Planted { further, by_group, by_seed, by_take, .. } = planted;
        println!("{further} {by_group} {by_seed} {by_take}: {held}");
        assert!((0.88..=0.99).contains(&held), "{further} {by_group} {by_seed} {by_take}: {held}");
    }
}

#[test]
fn takes_of_a_group_are_not_drawn_alone() {
    let planted =
        Planted { groups: 30, takes: 10, seeds: 2, further: 0.1, by_group: 0.3, by_seed: 0.0, by_take: 0.1 };
    let (held, wide) = planted.coverage(100, 200, |i| i / planted.takes);
    let (alone_held, narrow) = planted.coverage(100, 200, |i| i);
    println!("{held} {wide}, alone {alone_held} {narrow}");
    assert!(held >= 0.88 && alone_held < 0.7, "{held} {alone_held}");
    assert!(wide > 2.0 * narrow, "{wide} {narrow}");
    // Where groups have nothing in common, both say the same.
    let apart = Planted { by_group: 0.0, by_take: 0.5, ..planted };
    let ratio = apart.coverage(50, 200, |i| i / apart.takes).1 / apart.coverage(50, 200, |i| i).1;
    assert!((0.9..1.1).contains(&ratio), "{ratio}");
}

#[test]
fn chance_of_training_widens_the_interval() {
    let planted =
        Planted { groups: 40, takes: 5, seeds: 5, further: 0.1, by_group: 0.05, by_seed: 0.0, by_take: 0.0 };
    let noisy = Planted { by_seed: 0.1, ..planted };
    let (narrow, wide) = (planted.coverage(20, 300, |i| i / 5).1, noisy.coverage(20, 300, |i| i / 5).1);
    assert!(wide > 3.0 * narrow, "{wide} {narrow}");
}

/// Three ways, four seeds.
fn study() -> (Takes, Vec<Vec<Tested>>) {
    let (mut takes, ..) = case(120, 3);
    takes.groups.iter_mut().for_each(|group| *group = 1000 - *group / 7 * 3);
    let way = |w: u64| (0..4).map(|s| case(120, 100 + 10 * w + s).1).collect();
    (takes, (0..3).map(way).collect())
}

#[test]
fn a_comparison_has_the_same_bits_on_any_number_of_threads() {
    let (takes, ways) = study();
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        serde_json::to_string(&pool.install(|| compare(&takes, &ways, 200)).unwrap()).unwrap()
    };
    let one = on(1);
    assert_eq!((on(2), on(5)), (one.clone(), one));
}

#[test]
fn differences_are_to_the_first_way() {
    let (takes, mut ways) = study();
    // The second is the first in another order of seeds: a mean that is the same, an interval that is not nothing.
    ways[1] = ways[0].iter().rev().cloned().collect();
    // The third is the first, each prediction a tenth higher.
    ways[2] = ways[0].clone();
    ways[2].iter_mut().flat_map(|tested| &mut tested.predictions).for_each(|p| *p += 2.0);
    let compared = compare(&takes, &ways, 200).unwrap();
    let difference = |w: usize, m: Measure| compared[w].of(m).difference.clone();
    for measure in Measure::ALL {
        assert_eq!(difference(0, measure), None);
        let values: Vec<f64> =
            ways[0].iter().map(|tested| measure.of(&takes, tested, &[1.0; 120]).unwrap()).collect();
        let mean = values.iter().sum::<f64>() / 4.0;
        let sd = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 3.0).sqrt();
        let own = compared[0].of(measure);
        assert!(
            (own.mean.unwrap() - mean).abs() < 1e-12 && (own.sd.unwrap() - sd).abs() < 1e-12,
            "{measure}"
        );
        let other = difference(1, measure).unwrap();
        assert!(other.mean.abs() < 1e-12 && other.low < 0.0 && other.high > 0.0, "{measure} {other:?}");
        assert!(!other.excludes_zero());
    }
    // What does not see how high a prediction is stays what it is in every draw; every draw errs 2 more.
    for measure in [Measure::Auc, Measure::Accuracy, Measure::Order, Measure::Neighbours] {
        let same = difference(2, measure).unwrap();
        assert_eq!((same.mean, same.low, same.high), (0.0, 0.0, 0.0), "{measure}");
    }
    let worse = difference(2, Measure::Calibration).unwrap();
    assert!(worse.excludes_zero() && worse.low > 1.0 && worse.low <= worse.mean && worse.mean <= worse.high);
    let below = difference(2, Measure::R2).unwrap();
    assert!(below.excludes_zero() && below.high < 0.0);

    // One seed has no deviation, but groups to draw.
    let one: Vec<Vec<Tested>> = ways.iter().map(|way| way[..1].to_vec()).collect();
    let compared = compare(&takes, &one, 200).unwrap();
    assert!(compared.iter().all(|way| way.of(Measure::R2).sd.is_none()));
    assert!(compared[1].of(Measure::R2).difference.is_some());
}

#[test]
fn an_interval_needs_groups_and_draws() {
    let (takes, ways) = study();
    let differs = |takes: &Takes, ways: &[Vec<Tested>], draws: usize| {
        let compared = compare(takes, ways, draws).unwrap();
        Measure::ALL.map(|m| compared[1].of(m).difference.is_some())
    };
    assert_eq!(differs(&takes, &ways, 50), [true; 8]);
    assert_eq!(differs(&takes, &ways, 0), [false; 8]);
    assert_eq!(differs(&Takes { groups: vec![3; 120], ..takes.clone() }, &ways, 50), [false; 8]);
    // One group of twenty holds the only pass: a third of the draws lack it; then three in a hundred.
    let of = |groups: usize| {
        let pass = Some(takes.groups.iter().map(|g| takes.groups[..groups * 7].contains(g)).collect());
        let takes = Takes { pass, ..takes.clone() };
        differs(&takes, &ways, 300)[Measure::Auc as usize]
    };
    assert_eq!((of(1), of(4)), (false, true));
    // A training that came to nothing: a correlation of no spread has no mean, what has one keeps it.
    let mut failed = ways.clone();
    failed[1][2].predictions = vec![0.5; 120];
    let compared = compare(&takes, &failed, 50).unwrap();
    assert_eq!(*compared[1].of(Measure::Pearson), etude::report::paired::Value::default());
    assert!(compared[1].of(Measure::R2).difference.is_some());
    // Nothing to compare.
    assert_eq!(compare(&takes, &[], 50).unwrap(), []);
    let nothing =
        compare(&Takes::default(), &[vec![Tested::default()], vec![Tested::default()]], 50).unwrap();
    assert_eq!(nothing, [Compared::default(), Compared::default()]);
}

#[test]
fn lists_that_do_not_fit_are_named() {
    let (takes, ways) = study();
    let refused = |change: &dyn Fn(&mut Takes, &mut Vec<Vec<Tested>>), words: &[&str]| {
        let (mut takes, mut ways) = (takes.clone(), ways.clone());
        change(&mut takes, &mut ways);
        let message = compare(&takes, &ways, 10).unwrap_err().to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    };
    refused(
        &|takes, _| {
            takes.groups.pop();
        },
        &["groups", "119", "120"],
    );
    refused(
        &|takes, _| {
            takes.melodies.pop();
        },
        &["melodies"],
    );
    refused(&|takes, _| takes.pass = Some(vec![]), &["pass", "0 values"]);
    refused(
        &|_, ways| {
            ways[2].pop();
        },
        &["way 3", "3 seeds", "4"],
    );
    refused(&|_, ways| ways.iter_mut().for_each(Vec::clear), &["way 1", "0 seeds"]);
    refused(
        &|_, ways| {
            ways[1][2].predictions.pop();
        },
        &["predictions", "way 2, seed 3"],
    );
    refused(&|_, ways| ways[0][0].passed = Some(vec![true]), &["passed", "way 1, seed 1"]);
    refused(&|_, ways| ways[0][3].neighbours.clear(), &["neighbours", "way 1, seed 4"]);
}

#[test]
fn a_comparison_is_json_with_names() {
    let (takes, ways) = study();
    let json = serde_json::to_value(compare(&takes, &ways, 50).unwrap()).unwrap();
    for measure in Measure::ALL {
        assert!(json[0][measure.name()]["difference"].is_null(), "{measure}");
        for key in ["mean", "low", "high"] {
            assert!(json[1][measure.name()]["difference"][key].is_f64(), "{measure} {key}");
        }
        assert!(json[2][measure.name()]["mean"].is_f64() && json[2][measure.name()]["sd"].is_f64());
    }
    assert_eq!(json[1].as_object().unwrap().len(), Measure::ALL.len());
}

#[test]
fn the_first_of_equally_near_rows_count() {
    let near = |known: &[f32], ratings: &[f32], asked: &[f32], k: usize, metric: Metric| {
        neighbours(known, ratings, asked, 2, k, metric.into()).unwrap()
    };
    // Four rows around the asked one, all at the same distance.
    let (known, ratings) = ([1.0, 0.0, 0.0, 1.0, -1.0, 0.0, 0.0, -1.0], [0.0, 1.0, 4.0, 9.0]);
    assert_eq!(near(&known, &ratings, &[0.0; 2], 1, Metric::Euclidean), [0.0]);
    assert_eq!(near(&known, &ratings, &[0.0; 2], 3, Metric::Euclidean), [5.0 / 3.0]);
    assert_eq!(near(&known, &ratings, &[0.0; 2], 9, Metric::Euclidean), [3.5]);
    // By angle: a row of zeros is at 1 from all, as is what stands upright on it; length does not count.
    assert_eq!(near(&known, &ratings, &[0.0; 2], 2, Metric::Cosine), [0.5]);
    assert_eq!(
        near(&[9.0, 9.0, 0.0, 1.0, 0.0, 0.0], &[1.0, 2.0, 3.0], &[0.1, 0.1], 1, Metric::Cosine),
        [1.0]
    );
    assert_eq!(
        near(&[9.0, 9.0, 0.0, 1.0, 0.0, 0.0], &[1.0, 2.0, 3.0], &[0.1, 0.1], 1, Metric::Euclidean),
        [3.0]
    );
    assert_eq!(
        near(&[-1.0, -1.0, 0.0, 0.0, 1.0, -1.0], &[1.0, 2.0, 3.0], &[2.0, 2.0], 1, Metric::Cosine),
        [2.0]
    );
    // What is no number tells nothing.
    let found = near(&known, &ratings, &[f32::NAN, 0.0, 0.9, 0.1], 1, Metric::Euclidean);
    assert!(found[0].is_nan() && found[1] == 0.0);
    assert!(near(&known, &ratings, &[f32::INFINITY, 0.0], 1, Metric::Cosine)[0].is_nan());
    assert!(near(&known, &ratings, &[], 1, Metric::Cosine).is_empty());
}

#[test]
fn rows_that_do_not_fit_are_named() {
    let refused = |known: &[f32], ratings: &[f32], asked: &[f32], width: usize, k: usize| {
        neighbours(known, ratings, asked, width, k, Metric::Euclidean.into()).unwrap_err().to_string()
    };
    assert!(refused(&[0.0; 5], &[0.0; 2], &[0.0; 2], 2, 1).contains("known: 5 values"));
    assert!(refused(&[], &[], &[0.0; 2], 2, 1).contains("known"));
    assert!(refused(&[0.0; 4], &[0.0; 2], &[0.0; 3], 2, 1).contains("asked: 3 values"));
    assert!(refused(&[0.0; 4], &[0.0; 2], &[0.0; 2], 0, 1).contains("width"));
    assert!(refused(&[0.0; 4], &[0.0; 2], &[0.0; 2], 2, 0).contains("k: 0"));
    assert!(refused(&[0.0; 4], &[0.0; 2], &[0.0; 2], usize::MAX, 1).contains("known"));
}

#[cfg(feature = "cli")]
mod picture {
    use super::*;
    use etude::report::plots::intervals_svg;

    fn row(label: &str, low: f64, high: f64) -> (String, Option<Difference>) {
        (label.into(), Some(Difference { mean: (low + high) / 2.0, low, high }))
    }

    /// How often a colour is drawn with, but for the keys.
    fn marks(svg: &str, colour: &str) -> usize {
        svg.lines().filter(|line| line.starts_with("<circle") && line.contains(colour)).count() - 1
    }

    #[test]
    fn an_interval_is_coloured_by_the_side_that_it_lies_on() {
        let rows = [
            ("first".into(), None),
            row("higher", 0.01, 0.03),
            row("higher too", 0.02, 0.03),
            row("lower", -0.03, -0.01),
            row("both", -0.03, 0.04),
            ("none".into(), None),
            row("wild", f64::NEG_INFINITY, f64::NAN),
        ];
        let svg = intervals_svg("Title", "under", "difference of R²", &rows).unwrap();
        for word in ["Title", "under", "difference of R²", "baseline", "better", "worse", "holds 0"] {
            assert_eq!(svg.matches(&format!("\n{word}\n")).count(), 1, "{word}");
        }
        assert_eq!(svg.matches("\nno interval\n").count(), 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        // A disc of the keys is a filled circle and its outline.
        for (colour, rows) in [("#0072B2", 2), ("#D55E00", 1), ("#5C5C5C", 1)] {
            assert_eq!(marks(&svg, colour), rows, "{colour}");
        }
        for rows in [&rows[..0], &rows[..1], &[rows[1].clone()]] {
            intervals_svg("", "", "", rows).unwrap();
        }
    }

    #[test]
    fn labels_are_cut_and_rows_make_it_higher() {
        let of = |label: &str, rows: usize| {
            let rows: Vec<_> = (0..rows).map(|i| row(label, -0.01 * i as f64, 0.01)).collect();
            intervals_svg("Title", "under", "axis", &rows).unwrap()
        };
        let size = |svg: &str, key: &str| -> u32 {
            let rest = &svg[svg.find(key).unwrap() + key.len()..];
            rest[..rest.find('"').unwrap()].parse().unwrap()
        };
        let (few, many) = (of("a", 3), of("a", 200));
        assert_eq!(size(&many, "height=\"") - size(&few, "height=\""), 24 * 197);
        let long = of(&"x".repeat(300), 3);
        assert!(long.contains(&format!("\n{}…\n", "x".repeat(60))) && !long.contains(&"x".repeat(61)));
        assert!(size(&long, "width=\"") > size(&few, "width=\""));
        assert_eq!(size(&long, "width=\""), size(&of(&"x".repeat(61), 3), "width=\""));
    }
}
