//! Ways to train beside the first of them: means over seeds, and differences with intervals.

use super::measure::{Measure, Prepared, Takes, Tested, Truth, Values, Weighted};
use crate::data::random::Random;
use crate::{Error, Result};
use rayon::prelude::*;
use serde::{Serialize, Serializer};

/// Of the draws.
const SEED: u64 = 1979;

/// What a way differs from the first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Over seeds; positive where the measure is higher than the first's.
    pub mean: f64,
    /// Where its 95 % interval begins.
    pub low: f64,
    /// Where it ends.
    pub high: f64,
}

impl Difference {
    /// Whether all of the interval lies on one side of 0.
    pub fn excludes_zero(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }

    /// Whether a way is shown to be better than the first in this measure, or worse; `None` where the interval holds 0.
    pub fn better(&self, measure: Measure) -> Option<bool> {
        self.excludes_zero().then_some((self.mean > 0.0) != measure.lower_is_better())
    }
}

/// A measure of a way.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Value {
    /// Over seeds; `None` if it is undefined for one.
    pub mean: Option<f64>,
    /// The sample deviation (n − 1) over seeds; `None` with one.
    pub sd: Option<f64>,
    /// To the first way; `None` of the first itself, and where the bootstrap says nothing, see [`compare`].
    pub difference: Option<Difference>,
}

/// What a way comes to, in each measure. In JSON an object with the names of the measures.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Compared {
    values: [Value; Measure::ALL.len()],
}

impl Compared {
    /// One measure.
    pub fn of(&self, measure: Measure) -> &Value {
        &self.values[measure as usize]
    }
}

impl Serialize for Compared {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.collect_map(Measure::ALL.iter().zip(&self.values))
    }
}

/// Compares ways to train with the first: `ways[w][s]` is what way `w` made of the takes with seed `s`.
///
/// An interval is from the 2.5th to the 97.5th percentile of `draws` draws of a bootstrap. Each draws as many groups of takes as
/// there are, with replacement, and one seed less than there are, likewise, and takes the difference of the means over the drawn
/// seeds; the same draw on both sides. Drawing both ways through the table of groups by seeds counts what a group and what a
/// training adds by chance (Owen 2007, "The pigeonhole bootstrap"); one seed less makes the variance of so few right (Rao and Wu
/// 1988). With one seed an interval is of groups alone.
///
/// What such an interval holds was measured on planted differences, 40 groups of five takes: where groups add most of the chance,
/// 93 to 97 of 100; where trainings add all of it, 83 with five seeds and 91 with ten; where takes add all of it, 99 and more, as
/// their noise counts more than once.
///
/// A draw in which a measure is undefined is left out; there is no interval where more than a tenth are, nor of fewer than two
/// groups.
///
/// The draws are always the same, and the result has the same bits on any number of threads.
///
/// # Errors
/// [`Error::Shape`] where lengths or numbers of seeds differ.
pub fn compare(takes: &Takes, ways: &[Vec<Tested>], draws: usize) -> Result<Vec<Compared>> {
    let Some((first, others)) = ways.split_first() else { return Ok(Vec::new()) };
    check(takes, ways)?;
    let (units, groups) = numbered(&takes.groups);
    let truth = Truth::new(takes, units);
    let draws = Draws { groups, seeds: first.len(), count: if groups < 2 { 0 } else { draws } };
    let first = Way::new(&truth, first, &draws);
    let compared = |way: &Vec<Tested>| Way::new(&truth, way, &draws).beside(Some(&first));
    let others: Vec<Compared> = others.par_iter().map(compared).collect();
    Ok([first.beside(None)].into_iter().chain(others).collect())
}

/// That every list has a value for each take, and every way as many seeds.
fn check(takes: &Takes, ways: &[Vec<Tested>]) -> Result<()> {
    let fault = |(argument, message): (&'static str, String)| Error::shape("compare", argument, message);
    takes.fit().map_err(fault)?;
    let seeds = ways[0].len();
    for (w, way) in ways.iter().enumerate() {
        if way.is_empty() || way.len() != seeds {
            let message = format!("way {} has {} seeds, where the first has {seeds}", w + 1, way.len());
            return Err(Error::shape("compare", "ways", message));
        }
        for (s, tested) in way.iter().enumerate() {
            let place = |(argument, message)| (argument, format!("way {}, seed {}: {message}", w + 1, s + 1));
            tested.fit(takes.ratings.len()).map_err(place).map_err(fault)?;
        }
    }
    Ok(())
}

/// Numbers from 0 on for each name, in the names' order, and how many there are.
fn numbered(names: &[usize]) -> (Vec<usize>, usize) {
    let mut known = names.to_vec();
    known.sort_unstable();
    known.dedup();
    (names.iter().map(|name| known.partition_point(|k| k < name)).collect(), known.len())
}

/// The draws of the bootstrap.
struct Draws {
    groups: usize,
    seeds: usize,
    count: usize,
}

impl Draws {
    /// One less than there are: as many would make the variance of few seeds' mean too small, of five by a fifth.
    fn drawn_seeds(&self) -> usize {
        (self.seeds - 1).max(1)
    }

    /// How often a draw has each group and each seed.
    fn draw(&self, index: usize) -> (Vec<f64>, Vec<f64>) {
        let mut random = Random::new(SEED, index as u64);
        let mut times = |n: usize, drawn: usize| {
            let mut times = vec![0.0; n];
            (0..drawn).for_each(|_| times[random.below(n)] += 1.0);
            times
        };
        (times(self.groups, self.groups), times(self.seeds, self.drawn_seeds()))
    }
}

/// A way to train.
struct Way {
    /// As measured with each seed.
    seeds: Vec<Values>,
    /// The mean over the drawn seeds in each draw.
    draws: Vec<Values>,
}

impl Way {
    fn new(truth: &Truth<'_>, tested: &[Tested], draws: &Draws) -> Self {
        let prepared: Vec<Prepared> = tested.iter().map(|tested| Prepared::new(truth, tested)).collect();
        let all = Weighted::new(truth, &vec![1.0; draws.groups]);
        let seeds = prepared.iter().map(|seed| seed.measures(&all)).collect();
        let of_draw = |index: usize| {
            let (groups, times) = draws.draw(index);
            let weighted = Weighted::new(truth, &groups);
            let mut sums = [Some(0.0); Measure::ALL.len()];
            for (seed, times) in prepared.iter().zip(times).filter(|(_, times)| *times > 0.0) {
                for (sum, value) in sums.iter_mut().zip(seed.measures(&weighted)) {
                    *sum = sum.zip(value).map(|(sum, value)| sum + times * value);
                }
            }
            sums.map(|sum| sum.map(|sum| sum / draws.drawn_seeds() as f64))
        };
        Self { seeds, draws: (0..draws.count).map(of_draw).collect() }
    }

    /// Its values, and what they differ from the first way's.
    fn beside(&self, first: Option<&Self>) -> Compared {
        let value = |measure: Measure| {
            let of = |way: &Self| way.seeds.iter().map(|values| values[measure as usize]).collect();
            let own: Option<Vec<f64>> = of(self);
            let (mean, sd) = own.map_or((None, None), |own| (Some(average(&own)), deviation(&own)));
            let difference = first.and_then(|first| {
                let of_first: Option<Vec<f64>> = of(first);
                let (low, high) = self.interval(first, measure)?;
                Some(Difference { mean: mean? - average(&of_first?), low, high })
            });
            Value { mean, sd, difference }
        };
        Compared { values: Measure::ALL.map(value) }
    }

    /// The percentiles of the differences to the first way.
    fn interval(&self, first: &Self, measure: Measure) -> Option<(f64, f64)> {
        let place = measure as usize;
        let both = self.draws.iter().zip(&first.draws);
        let mut differences: Vec<f64> =
            both.filter_map(|(own, first)| Some(own[place]? - first[place]?)).collect();
        if differences.is_empty() || (self.draws.len() - differences.len()) * 10 > self.draws.len() {
            return None;
        }
        differences.sort_by(f64::total_cmp);
        Some((quantile(&differences, 0.025), quantile(&differences, 0.975)))
    }
}

pub(super) fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Sample deviation (n − 1), of more than one.
pub(super) fn deviation(values: &[f64]) -> Option<f64> {
    let mean = average(values);
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt())
}

/// The value below which a share of the sorted values lies, between two of them linearly.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[at as usize], sorted[(at.ceil() as usize).min(sorted.len() - 1)]);
    low + (high - low) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sixty takes in twelve groups and four melodies, and what three seeds made of them.
    fn study(stream: u64) -> (Takes, Vec<Tested>) {
        let mut random = Random::new(5, stream);
        let mut list = |levels: usize| -> Vec<f32> {
            (0..60).map(|_| random.below(levels) as f32 / levels as f32).collect()
        };
        let flags = |v: Vec<f32>| Some(v.iter().map(|v| *v > 0.5).collect());
        let takes = Takes {
            ratings: list(5),
            pass: flags(list(90)),
            melodies: list(4).iter().map(|m| Some((m * 4.0) as usize)).collect(),
            groups: list(12).iter().map(|g| (g * 36.0) as usize).collect(),
        };
        let mut tested = || Tested { predictions: list(9), passed: flags(list(90)), neighbours: list(70) };
        let seeds = (0..3).map(|_| tested()).collect();
        (takes, seeds)
    }

    #[test]
    fn an_interval_is_of_plain_measures_under_each_draw() {
        let ((takes, first), (_, second)) = (study(0), study(1));
        let (units, groups) = numbered(&takes.groups);
        let draws = Draws { groups, seeds: 3, count: 60 };
        let compared = compare(&takes, &[first.clone(), second.clone()], draws.count).unwrap();
        for measure in Measure::ALL {
            let mut differences: Vec<f64> = (0..draws.count)
                .map(|index| {
                    let (of_groups, of_seeds) = draws.draw(index);
                    assert_eq!(of_groups.iter().sum::<f64>(), groups as f64);
                    assert_eq!(of_seeds.iter().sum::<f64>(), 2.0);
                    let weights: Vec<f64> = units.iter().map(|&unit| of_groups[unit]).collect();
                    let of = |tested: &Tested| measure.of(&takes, tested, &weights).unwrap();
                    let both = first.iter().zip(&second).zip(of_seeds);
                    both.map(|((first, second), times)| times * (of(second) - of(first))).sum::<f64>() / 2.0
                })
                .collect();
            differences.sort_by(f64::total_cmp);
            let found = compared[1].of(measure).difference.clone().unwrap();
            // 59 · 0.025 = 1.475.
            let low = differences[1] + 0.475 * (differences[2] - differences[1]);
            let high = differences[58] - 0.475 * (differences[58] - differences[57]);
            assert!((found.low - low).abs() < 1e-12 && (found.high - high).abs() < 1e-12, "{measure}");
        }
    }

    #[test]
    fn draws_differ_and_seeds_are_drawn_evenly() {
        let draws = Draws { groups: 4, seeds: 5, count: 2000 };
        let mut sums = [0.0; 5];
        for index in 0..draws.count {
            let (_, seeds) = draws.draw(index);
            sums.iter_mut().zip(seeds).for_each(|(sum, times)| *sum += times);
        }
        assert!(sums.iter().all(|sum| (1480.0..1720.0).contains(sum)), "{sums:?}");
        assert_ne!(draws.draw(0), draws.draw(1));
        assert_eq!(Draws { seeds: 1, ..draws }.draw(7).1, [1.0]);
    }
}
