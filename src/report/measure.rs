//! Measures of a network for comparisons: each takes a weight per take, how often a bootstrap drew it.
//!
//! In the formulas `y` are ratings, `p` predictions, `w ≥ 0` weights, `ȳ` and `p̄` weighted means, and `W` is `Σw`. A weight of 2
//! is the take twice, 0 is without it. All sums run in f64. A measure is undefined where [`super::scores`] has none: of no
//! takes, of constant ratings, of what is not finite, of one class.
//!
//! **Cost**, for `n` takes: a network is prepared once, in O(n log n) and a visit to each pair of takes of one melody; a draw is
//! then O(n) and an addition for each pair of groups that share a melody, without a copy of the takes.

use crate::names::named;
use std::collections::HashMap;

/// How good a network is, in one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Coefficient of determination, `1 − Σw(y−p)² / Σw(y−ȳ)²`.
    R2,
    /// Pearson's correlation, `Σw(y−ȳ)(p−p̄) / √(Σw(y−ȳ)² Σw(p−p̄)²)`; undefined where the predictions are constant.
    Pearson,
    /// Mean absolute error, `Σw|y−p| / W`.
    Mae,
    /// Area under the ROC curve: of all pairs of a pass `i` and a fail `j`, each weighted by `wᵢwⱼ`, the share with `pᵢ > pⱼ`; a
    /// tie counts half. Undefined unless both classes occur.
    Auc,
    /// Share of decisions between pass and fail that are right, `Σw[right] / W`.
    Accuracy,
    /// Of all pairs of takes of one melody with different ratings, each weighted by `wᵢwⱼ`, the share that the predictions put in
    /// the same order; a tie of predictions counts half. Undefined without such pairs.
    Order,
    /// [`Measure::R2`] of another prediction: what a take's neighbours in the embedding were rated, see [`super::neighbours`].
    Neighbours,
    /// Calibration error. The takes in the order of their predictions make ten parts, each of the weight `W/10`, a take at a
    /// border shared between two and takes of the same prediction spread evenly over theirs; the mean over parts of
    /// `|mean prediction − mean rating|`.
    Calibration,
}

named!(Measure, "measure":
    R2 "r2", Pearson "pearson", Mae "mae", Auc "auc", Accuracy "accuracy", Order "order", Neighbours "neighbours",
    Calibration "calibration");

/// Parts of [`Measure::Calibration`].
const PARTS: f64 = 10.0;

impl Measure {
    /// Its name in the head of a table.
    pub fn label(self) -> &'static str {
        match self {
            Self::R2 => "R²",
            Self::Pearson => "r",
            Self::Mae => "MAE",
            Self::Auc => "AUC",
            Self::Accuracy => "pass/fail",
            Self::Order => "order in melody",
            Self::Neighbours => "kNN R²",
            Self::Calibration => "calibration error",
        }
    }

    /// Whether it is an error, which is better the lower it is.
    pub fn lower_is_better(self) -> bool {
        matches!(self, Self::Mae | Self::Calibration)
    }

    /// Its value for these takes with a weight each. Undefined, too, where lengths differ or a weight is not finite or negative.
    pub fn of(self, takes: &Takes, tested: &Tested, weights: &[f64]) -> Option<f64> {
        let n = takes.ratings.len();
        let fit = takes.fit().is_ok() && tested.fit(n).is_ok() && weights.len() == n;
        if !fit || !weights.iter().all(|w| w.is_finite() && *w >= 0.0) {
            return None;
        }
        let truth = Truth::new(takes, (0..n).collect());
        let weighted = Weighted::new(&truth, weights);
        Prepared::new(&truth, tested).measures(&weighted)[self as usize]
    }
}

/// A value of each measure, in the order of [`Measure::ALL`].
pub(super) type Values = [Option<f64>; Measure::ALL.len()];

/// What is known of the takes that networks were tested on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Takes {
    /// What each was rated.
    pub ratings: Vec<f32>,
    /// Whether each passed, where that was judged.
    pub pass: Option<Vec<bool>>,
    /// Which melody each is of.
    pub melodies: Vec<Option<usize>>,
    /// What each is drawn together with: the takes of one performer, or of one melody.
    pub groups: Vec<usize>,
}

/// A number for each name, from 0 on and the same for the same: melodies and groups, as [`Takes`] has them.
pub fn numbers<'a>(names: impl IntoIterator<Item = Option<&'a str>>) -> Vec<Option<usize>> {
    let mut known: HashMap<&str, usize> = HashMap::new();
    let number = |name: Option<&'a str>| {
        let next = known.len();
        Some(*known.entry(name?).or_insert(next))
    };
    names.into_iter().map(number).collect()
}

/// What the networks of one seed made of the takes, in the order of [`Takes`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tested {
    /// The rating that each was given.
    pub predictions: Vec<f32>,
    /// Whether each was found to pass.
    pub passed: Option<Vec<bool>>,
    /// What each one's neighbours in the embedding were rated.
    pub neighbours: Vec<f32>,
}

/// That a list is as long as the ratings; else its name and what is wrong with it.
fn same(argument: &'static str, got: usize, n: usize) -> Result<(), (&'static str, String)> {
    if got == n { Ok(()) } else { Err((argument, format!("{got} values, where the ratings are {n}"))) }
}

impl Takes {
    /// That all lists are equally long.
    pub(super) fn fit(&self) -> Result<(), (&'static str, String)> {
        let n = self.ratings.len();
        same("pass", self.pass.as_ref().map_or(n, Vec::len), n)?;
        same("melodies", self.melodies.len(), n)?;
        same("groups", self.groups.len(), n)
    }
}

impl Tested {
    /// That all lists have `n` values.
    pub(super) fn fit(&self, n: usize) -> Result<(), (&'static str, String)> {
        same("predictions", self.predictions.len(), n)?;
        same("passed", self.passed.as_ref().map_or(n, Vec::len), n)?;
        same("neighbours", self.neighbours.len(), n)
    }
}

/// As f64, if all are finite.
fn finite(values: &[f32]) -> Option<Vec<f64>> {
    values.iter().map(|v| v.is_finite().then_some(f64::from(*v))).collect()
}

/// Whether two of the values that have a weight differ. Exact: a mean rounded in f64 would leave a tiny spread of equal values.
fn vary(values: &[f64], weights: &[f64]) -> bool {
    let mut drawn = values.iter().zip(weights).filter(|(_, w)| **w > 0.0).map(|(v, _)| *v);
    drawn.next().is_some_and(|first| drawn.any(|v| v != first))
}

/// `Σ wv`.
fn sum(values: &[f64], weights: &[f64]) -> f64 {
    values.iter().zip(weights).map(|(v, w)| w * v).sum()
}

/// The takes as every network is measured against them.
pub(super) struct Truth<'a> {
    takes: &'a Takes,
    /// The unit of each take: those of one unit have one weight.
    units: Vec<usize>,
    ratings: Option<Vec<f64>>,
    pairs: Pairs,
}

impl<'a> Truth<'a> {
    /// Takes that [`Takes::fit`], each in a unit.
    pub(super) fn new(takes: &'a Takes, units: Vec<usize>) -> Self {
        let ratings = finite(&takes.ratings);
        let pairs = Pairs::new(ratings.as_deref().unwrap_or_default(), &takes.melodies, &units);
        Self { takes, units, ratings, pairs }
    }
}

/// Two takes of one melody.
struct Pair {
    /// The one that was rated lower.
    low: usize,
    high: usize,
    /// Where the two units of this pair stand in [`Pairs::units`].
    place: usize,
}

/// The pairs of takes of one melody with different ratings, added up by pairs of units.
struct Pairs {
    each: Vec<Pair>,
    /// The units of pairs, the smaller first, each once and sorted.
    units: Vec<(usize, usize)>,
    /// How many pairs each place has.
    counts: Vec<f64>,
}

impl Pairs {
    fn new(ratings: &[f64], melodies: &[Option<usize>], units: &[usize]) -> Self {
        let mut order: Vec<usize> = (0..ratings.len()).filter(|&i| melodies[i].is_some()).collect();
        order.sort_by(|&a, &b| melodies[a].cmp(&melodies[b]).then(ratings[a].total_cmp(&ratings[b])));
        let mut found: Vec<((usize, usize), usize, usize)> = Vec::new();
        for melody in order.chunk_by(|&a, &b| melodies[a] == melodies[b]) {
            for (k, &low) in melody.iter().enumerate() {
                for &high in melody[k + 1..].iter().filter(|&&high| ratings[low] < ratings[high]) {
                    let (a, b) = (units[low], units[high]);
                    found.push(((a.min(b), a.max(b)), low, high));
                }
            }
        }
        found.sort_unstable();
        let mut pairs = Self { each: Vec::with_capacity(found.len()), units: Vec::new(), counts: Vec::new() };
        for (units, low, high) in found {
            if pairs.units.last() != Some(&units) {
                pairs.units.push(units);
                pairs.counts.push(0.0);
            }
            let place = pairs.units.len() - 1;
            pairs.counts[place] += 1.0;
            pairs.each.push(Pair { low, high, place });
        }
        pairs
    }

    /// Of each place, how many pairs these predictions put in order.
    fn in_order(&self, predictions: &[f64]) -> Vec<f64> {
        let mut in_order = vec![0.0; self.counts.len()];
        for &Pair { low, high, place } in &self.each {
            let (low, high) = (predictions[low], predictions[high]);
            in_order[place] += if low == high { 0.5 } else { f64::from(u8::from(low < high)) };
        }
        in_order
    }
}

/// Weights, and what every network's measures need of them.
pub(super) struct Weighted {
    each: Vec<f64>,
    total: f64,
    /// The ratings' distances from their weighted mean, and the sum of their squares, where ratings vary.
    spread: Option<(Vec<f64>, f64)>,
    /// The products of the weights of [`Pairs::units`], and what all pairs weigh together.
    products: Vec<f64>,
    pairs: f64,
}

impl Weighted {
    /// With a weight for each unit.
    pub(super) fn new(truth: &Truth<'_>, of_units: &[f64]) -> Self {
        let each: Vec<f64> = truth.units.iter().map(|&unit| of_units[unit]).collect();
        let total: f64 = each.iter().sum();
        let spread = truth.ratings.as_ref().filter(|ratings| vary(ratings, &each)).map(|ratings| {
            let mean = sum(ratings, &each) / total;
            let away: Vec<f64> = ratings.iter().map(|y| y - mean).collect();
            let squares = away.iter().zip(&each).map(|(y, w)| w * y * y).sum();
            (away, squares)
        });
        let products: Vec<f64> = truth.pairs.units.iter().map(|&(a, b)| of_units[a] * of_units[b]).collect();
        let pairs = dot(&products, &truth.pairs.counts);
        Self { each, total, spread, products, pairs }
    }
}

/// Products that are added side by side.
const SIDE: usize = 8;

/// `Σ ab`, in the order of eight sums side by side.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (a.as_chunks::<SIDE>(), b.as_chunks::<SIDE>());
    let mut sums = [0.0; SIDE];
    for (a, b) in a.0.iter().zip(b.0) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f64>() + a.1.iter().zip(b.1).map(|(a, b)| a * b).sum::<f64>()
}

/// What a network made of the takes, ready to be measured under any weights.
pub(super) struct Prepared {
    of_predictions: Option<OfPredictions>,
    /// 1 where the decision between pass and fail was right.
    right: Option<Vec<f64>>,
    /// Squared errors of what the neighbours say.
    neighbours: Option<Vec<f64>>,
}

/// What a network's predictions are measured by.
struct OfPredictions {
    predictions: Vec<f64>,
    absolute: Vec<f64>,
    squares: Vec<f64>,
    ranked: Vec<Ranked>,
    /// Whether there are passes and fails.
    has_pass: bool,
    /// See [`Pairs::in_order`].
    in_order: Vec<f64>,
}

/// A take in the order of predictions.
struct Ranked {
    take: usize,
    /// Whether the next has the same prediction.
    ties: bool,
    passes: bool,
    /// Prediction less rating.
    error: f64,
}

impl Prepared {
    /// Of what was [tested](Tested::fit) on these takes.
    pub(super) fn new(truth: &Truth<'_>, tested: &Tested) -> Self {
        let right = truth.takes.pass.as_ref().zip(tested.passed.as_ref()).map(|(pass, passed)| {
            pass.iter().zip(passed).map(|(a, b)| f64::from(u8::from(a == b))).collect()
        });
        let ratings = truth.ratings.as_ref();
        let neighbours = ratings.zip(finite(&tested.neighbours));
        let neighbours =
            neighbours.map(|(ratings, q)| ratings.iter().zip(q).map(|(y, q)| (y - q).powi(2)).collect());
        let of_predictions = ratings
            .zip(finite(&tested.predictions))
            .map(|(ratings, predictions)| OfPredictions::new(truth, ratings, predictions));
        Self { of_predictions, right, neighbours }
    }

    /// Every measure.
    pub(super) fn measures(&self, weighted: &Weighted) -> Values {
        let mut values = Values::default();
        if weighted.total <= 0.0 {
            return values;
        }
        let mut set = |measure: Measure, value: Option<f64>| values[measure as usize] = value;
        let Weighted { each, total, spread, .. } = weighted;
        let r2 = |squares: &Vec<f64>| spread.as_ref().map(|(_, all)| 1.0 - dot(squares, each) / all);
        set(Measure::Accuracy, self.right.as_ref().map(|right| dot(right, each) / total));
        set(Measure::Neighbours, self.neighbours.as_ref().and_then(r2));
        if let Some(of) = &self.of_predictions {
            let (auc, calibration) = of.along_predictions(weighted);
            set(Measure::R2, r2(&of.squares));
            set(Measure::Pearson, of.pearson(weighted));
            set(Measure::Mae, Some(dot(&of.absolute, each) / total));
            set(Measure::Auc, auc);
            set(Measure::Calibration, Some(calibration));
            set(
                Measure::Order,
                (weighted.pairs > 0.0).then(|| dot(&of.in_order, &weighted.products) / weighted.pairs),
            );
        }
        values
    }
}

impl OfPredictions {
    fn new(truth: &Truth<'_>, ratings: &[f64], predictions: Vec<f64>) -> Self {
        let errors: Vec<f64> = predictions.iter().zip(ratings).map(|(p, y)| p - y).collect();
        let mut order: Vec<usize> = (0..ratings.len()).collect();
        order.sort_by(|&a, &b| predictions[a].total_cmp(&predictions[b]));
        let pass = truth.takes.pass.as_ref();
        let ranked = order.iter().enumerate().map(|(rank, &take)| Ranked {
            take,
            // `==`, so that 0.0 and −0.0 tie although total_cmp orders them.
            ties: order.get(rank + 1).is_some_and(|&next| predictions[next] == predictions[take]),
            passes: pass.is_some_and(|pass| pass[take]),
            error: errors[take],
        });
        Self {
            ranked: ranked.collect(),
            absolute: errors.iter().map(|e| e.abs()).collect(),
            squares: errors.iter().map(|e| e * e).collect(),
            has_pass: pass.is_some(),
            in_order: truth.pairs.in_order(&predictions),
            predictions,
        }
    }

    fn pearson(&self, weighted: &Weighted) -> Option<f64> {
        let (away, yy) = weighted.spread.as_ref()?;
        if !vary(&self.predictions, &weighted.each) {
            return None;
        }
        let mean = dot(&self.predictions, &weighted.each) / weighted.total;
        let (mut xx, mut xy) = (0.0, 0.0);
        for ((p, y), w) in self.predictions.iter().zip(away).zip(&weighted.each) {
            let x = p - mean;
            xx += w * x * x;
            xy += w * x * y;
        }
        Some((xy / (xx.sqrt() * yy.sqrt())).clamp(-1.0, 1.0))
    }

    /// AUC and calibration error, which both go along the order of predictions, takes that tie together.
    fn along_predictions(&self, weighted: &Weighted) -> (Option<f64>, f64) {
        let (mut above, mut passes, mut fails) = (0.0, 0.0, 0.0);
        let (mut pass, mut weight, mut error) = (0.0, 0.0, 0.0);
        // Parts are counted in tenths of a weight: those of whole weights are whole.
        let (mut apart, mut part, mut room) = (0.0, 0.0, weighted.total);
        for Ranked { take, ties, passes: is_pass, error: own } in &self.ranked {
            let w = weighted.each[*take];
            weight += w;
            error += w * own;
            pass += if *is_pass { w } else { 0.0 };
            if *ties || weight == 0.0 {
                continue;
            }
            let fail = weight - pass;
            above += pass * (fails + 0.5 * fail);
            (passes, fails) = (passes + pass, fails + fail);
            let (mut left, mean) = (PARTS * weight, error / weight);
            while left >= room {
                apart += f64::abs(part + room * mean);
                (left, part, room) = (left - room, 0.0, weighted.total);
            }
            (part, room) = (part + left * mean, room - left);
            (pass, weight, error) = (0.0, 0.0, 0.0);
        }
        let auc = (self.has_pass && passes > 0.0 && fails > 0.0).then(|| above / (passes * fails));
        (auc, (apart + part.abs()) / (PARTS * weighted.total))
    }
}
