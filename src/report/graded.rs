//! Takes that several graded: the label that their grades make, a network's predictions against it, and the graders against
//! each other.

use super::metrics::Metrics;
use super::ordinal::{krippendorff, level, majority};
use super::scores::best_threshold;
use crate::data::Graders;

/// What several gave the same takes. An *expert* is one of them, who may have graded in more than one *pass*.
#[derive(Debug, Clone, PartialEq)]
pub struct Graded {
    /// Grades that the scale has, where it has whole steps.
    levels: Option<u8>,
    /// The passes of each expert.
    passes: Vec<Vec<usize>>,
    /// Of each expert the mean of what their passes gave each take, in 0..=1.
    means: Vec<Vec<Option<f64>>>,
    /// Of each take the level that each pass gave it; nothing but `None` on a scale without whole steps.
    table: Vec<Vec<Option<u8>>>,
}

/// Somebody who graded: what they made of each take, in 0..=1, and the levels that they gave it, pass by pass.
struct Judge<'a> {
    ratings: &'a [Option<f32>],
    passes: Vec<Vec<Option<u8>>>,
}

/// The mean of those that are there.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), v| (sum + v, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// Means to six digits: thirds are not exact, and means that are the same should tie.
fn rounded(means: &[Option<f64>]) -> Vec<Option<f32>> {
    means.iter().map(|mean| mean.map(|mean| ((mean * 1e6).round() / 1e6) as f32)).collect()
}

/// The takes for which both are known.
fn both<A: Copy, B: Copy>(a: &[Option<A>], b: &[Option<B>]) -> (Vec<A>, Vec<B>) {
    a.iter().zip(b).filter_map(|(a, b)| Some(((*a)?, (*b)?))).unzip()
}

impl Graded {
    /// `takes` are the grades of each take in 0..=1, a place a pass of `graders`.
    pub fn new<'a>(graders: &Graders, takes: impl IntoIterator<Item = &'a [Option<f32>]>) -> Self {
        let (levels, passes) = (graders.scale.levels(), graders.passes());
        let takes: Vec<&[Option<f32>]> = takes.into_iter().collect();
        let of_expert = |own: &Vec<usize>| {
            let of_take = |take: &&[Option<f32>]| {
                mean(own.iter().filter_map(|&pass| take.get(pass).copied().flatten().map(f64::from)))
            };
            takes.iter().map(of_take).collect()
        };
        let places = |take: &&[Option<f32>]| take.iter().map(|grade| level((*grade)?, levels?)).collect();
        let (means, table) = (passes.iter().map(of_expert).collect(), takes.iter().map(places).collect());
        Self { levels, passes, means, table }
    }

    /// The label of each take: the [`majority`] of its grades.
    pub fn labels(&self) -> Vec<Option<u8>> {
        self.labels_without(&[])
    }

    /// The same without some passes.
    fn labels_without(&self, passes: &[usize]) -> Vec<Option<u8>> {
        let of_take = |take: &Vec<Option<u8>>| {
            let others = take.iter().enumerate().filter(|(pass, _)| !passes.contains(pass));
            majority(&others.filter_map(|(_, level)| *level).collect::<Vec<_>>())
        };
        self.table.iter().map(of_take).collect()
    }

    /// The label of each take as a number in 0..=1, the lowest grade being 0.
    pub fn targets(&self) -> Vec<Option<f32>> {
        let top = f32::from(self.levels.unwrap_or(2) - 1);
        self.labels().into_iter().map(|label| Some(f32::from(label?) / top)).collect()
    }

    /// The level that each prediction stands for; `None` where the scale has no whole steps, there are not as many predictions as
    /// takes, or one is no number.
    fn levels_of(&self, predictions: &[f32]) -> Option<Vec<Option<u8>>> {
        let levels = self.levels.filter(|_| predictions.len() == self.table.len())?;
        let made: Vec<Option<u8>> = predictions.iter().map(|&p| level(p, levels)).collect();
        (!made.contains(&None)).then_some(made)
    }

    /// Of each take its label, see [`Self::labels`], and the level that its prediction stands for; nothing where there
    /// are not both.
    pub fn beside_labels(&self, predictions: &[f32]) -> Vec<Option<(u8, u8)>> {
        let Some(made) = self.levels_of(predictions) else { return vec![None; self.table.len()] };
        self.labels().into_iter().zip(made).map(|(label, made)| label.zip(made)).collect()
    }

    /// Adds to `metrics` how good predictions of these takes, in 0..=1, are on the graders' scale: against the [`Self::labels`],
    /// of those takes that have one; and Krippendorff's α of all passes with the predictions as one more.
    ///
    /// Nothing is added where the scale has no whole steps, or a prediction is no number.
    pub fn measure(&self, metrics: Metrics, predictions: &[f32]) -> Metrics {
        let Some(made) = self.levels_of(predictions) else { return metrics };
        let (predicted, labels) = both(&made, &self.labels());
        let mut table = self.table.clone();
        table.iter_mut().zip(made).for_each(|(take, made)| take.push(made));
        Metrics { krippendorff: krippendorff(&table), ..metrics.with_levels(&predicted, &labels) }
    }

    /// The grade of each expert from which on a take best passes, see [`best_threshold`].
    pub fn thresholds(&self, pass: &[bool]) -> Vec<f32> {
        let pass: Vec<Option<bool>> = pass.iter().copied().map(Some).collect();
        let of_expert = |means: &Vec<Option<f64>>| {
            let (own, pass) = both(&rounded(means), &pass);
            best_threshold(&own, &pass)
        };
        self.means.iter().map(of_expert).collect()
    }

    /// How good an expert is by what the others say, the mean over the experts: what a network's metrics stand beside.
    ///
    /// - Of ratings, in 0..=1: what the expert gave, passes averaged, against the mean of the other experts.
    /// - On the scale: each pass against the majority of those of the *other* experts, never the expert's own other one; the mean
    ///   over the expert's passes.
    /// - Between pass and fail, where `pass` says how the takes were judged: the expert's grades against that, by their own of
    ///   the `thresholds`, which were chosen on other takes, where there are any.
    /// - Krippendorff's α of all passes.
    ///
    /// `None` where there are fewer than two experts. A label of fewer graders is a worse one: for what a network makes of the
    /// same labels, see [`Self::in_their_place`].
    pub fn agreement(&self, pass: Option<&[bool]>, thresholds: Option<&[f32]>) -> Option<Metrics> {
        let pass: Option<Vec<Option<bool>>> = pass.map(|pass| pass.iter().copied().map(Some).collect());
        let mean = self.over_experts(|expert| {
            let ratings = &rounded(&self.means[expert])[..];
            let given =
                |pass: usize| self.table.iter().map(|take| take.get(pass).copied().flatten()).collect();
            let passes = self.passes[expert].iter().map(|&pass| given(pass)).collect();
            let metrics = self.beside_others(expert, &Judge { ratings, passes });
            let Some(pass) = &pass else { return metrics };
            let (own, pass) = both(ratings, pass);
            let threshold = thresholds.and_then(|thresholds| thresholds.get(expert).copied());
            metrics.with_pass(&own, &pass, threshold.unwrap_or(f32::NAN))
        })?;
        Some(Metrics { krippendorff: krippendorff(&self.table), ..mean })
    }

    /// How good predictions are in the place of each expert: against the others, of the takes that the expert graded; the mean
    /// over the experts. What [`Self::agreement`] says of the experts, it says of the network, by the same labels.
    ///
    /// `on_scale` are the predictions that become grades, `predictions` those that are ratings.
    pub fn in_their_place(&self, predictions: &[f32], on_scale: &[f32]) -> Option<Metrics> {
        let made = self.levels_of(on_scale);
        self.over_experts(|expert| {
            let graded =
                |&(take, _): &(usize, f32)| self.means[expert].get(take).is_some_and(Option::is_some);
            let own = predictions.iter().copied().enumerate().map(|p| Some(p).filter(graded).map(|(_, p)| p));
            self.beside_others(
                expert,
                &Judge { ratings: &own.collect::<Vec<_>>(), passes: made.iter().cloned().collect() },
            )
        })
    }

    /// The mean over the experts, where there are two.
    fn over_experts(&self, of: impl Fn(usize) -> Metrics) -> Option<Metrics> {
        let experts = self.passes.len();
        (experts > 1).then(|| Metrics::mean_sd(&(0..experts).map(of).collect::<Vec<_>>()).0)
    }

    /// How good somebody is in the place of an expert, by what the others say.
    fn beside_others(&self, expert: usize, judge: &Judge<'_>) -> Metrics {
        let others = |take: usize| {
            let others = self.means.iter().enumerate().filter(|&(other, _)| other != expert);
            mean(others.filter_map(|(_, means)| means[take]))
        };
        let others: Vec<Option<f64>> = (0..self.table.len()).map(others).collect();
        let (own, others) = both(judge.ratings, &rounded(&others));
        let labels = self.labels_without(&self.passes[expert]);
        let of_pass = |pass: &Vec<Option<u8>>| {
            // What the expert did not grade, nobody grades in the expert's place.
            let graded =
                pass.iter().zip(judge.ratings).map(|(level, rating)| level.filter(|_| rating.is_some()));
            let (given, labels) = both(&graded.collect::<Vec<_>>(), &labels);
            Metrics::default().with_levels(&given, &labels)
        };
        let on_scale: Vec<Metrics> = judge.passes.iter().map(of_pass).collect();
        Metrics::new(&own, &others).or(&Metrics::mean_sd(&on_scale).0)
    }
}
