//! Between which grades judges would put a take, learned from takes that a network was not trained on.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// The share of takes whose rating an interval is to hold.
pub const LEVEL: f64 = 0.9;

/// Held-out takes that say how far off a prediction is: those whose own predictions lie nearest to it.
const NEAREST: usize = 50;

/// Held-out takes that are kept at most, evenly spaced by their predictions.
const MOST: usize = 4096;

/// How far predictions are off, depending on what they are: judges agree on the best and the worst more than on what is between.
///
/// Split conformal prediction (Papadopoulos et al. 2002; Lei et al. 2018), made local: of the absolute errors of the 50 held-out
/// takes with the nearest predictions, the one of rank ⌈0.9·(n + 1)⌉ is how far the interval reaches to both sides. Of takes
/// like these it holds the rating of nine in ten.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// Predictions of held-out takes, ascending.
    predictions: Vec<f32>,
    /// How far each was off.
    errors: Vec<f32>,
}

impl Interval {
    /// Of takes that the network was not trained on. `None` of fewer than 9, of which no interval can say as much, where
    /// something is no number, or there are not as many ratings as predictions.
    pub fn of(predictions: &[f32], ratings: &[f32]) -> Option<Self> {
        let mut pairs: Vec<(f32, f32)> =
            predictions.iter().zip(ratings).map(|(&p, &r)| (p, (p - r).abs())).collect();
        if predictions.len() != ratings.len()
            || rank(pairs.len()).is_none()
            || pairs.iter().any(|(p, e)| !p.is_finite() || !e.is_finite())
        {
            return None;
        }
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let kept = pairs.len().min(MOST);
        let (predictions, errors) = (0..kept).map(|i| pairs[i * pairs.len() / kept]).unzip();
        Some(Self { predictions, errors })
    }

    /// The lowest and the highest rating, in 0..=1, that a take of this prediction is taken to have.
    pub fn at(&self, prediction: f32) -> [f32; 2] {
        let most = self.predictions.len();
        let count = NEAREST.min(most);
        let mut from =
            self.predictions.partition_point(|&p| p < prediction).saturating_sub(count).min(most - count);
        // The window moves on as long as what it gains is nearer than what it leaves.
        while from + count < most
            && self.predictions[from + count] - prediction < prediction - self.predictions[from]
        {
            from += 1;
        }
        let mut errors = self.errors[from..from + count].to_vec();
        errors.sort_by(f32::total_cmp);
        let reach = rank(count).and_then(|rank| errors.get(rank)).copied().unwrap_or(1.0);
        [(prediction - reach).clamp(0.0, 1.0), (prediction + reach).clamp(0.0, 1.0)]
    }

    /// Checks one that was read.
    ///
    /// # Errors
    /// [`Error::Config`] that says what cannot be.
    pub fn check(&self) -> Result<()> {
        let fits = self.predictions.len() == self.errors.len()
            && self.predictions.len() <= MOST
            && rank(self.predictions.len()).is_some()
            && self.predictions.iter().all(|p| p.is_finite())
            && self.predictions.is_sorted()
            && self.errors.iter().all(|e| e.is_finite() && *e >= 0.0);
        match fits {
            true => Ok(()),
            false => Err(Error::config(format!(
                "an interval of {} predictions and {} errors: expected as many, from 9 to {MOST}, ascending, and errors of 0 or \
                 more",
                self.predictions.len(),
                self.errors.len()
            ))),
        }
    }
}

/// From 0, the rank of the error that nine in ten are within; `None` of too few.
fn rank(count: usize) -> Option<usize> {
    let rank = (LEVEL * (count + 1) as f64).ceil() as usize;
    (1..=count).contains(&rank).then(|| rank - 1)
}

/// How often intervals held the rating, fold by fold: those of each fold are learned from the takes of all others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// The share that was to be held, [`LEVEL`].
    pub level: f64,
    /// The share that was.
    pub held: f64,
    /// The mean width of the intervals.
    pub width: f64,
}

impl Coverage {
    /// Of (fold, prediction, rating) of held-out takes; `None` of fewer than two folds, or where other folds have too few takes.
    pub fn of(takes: &[(u64, f32, f32)]) -> Option<Self> {
        let mut folds: Vec<u64> = takes.iter().map(|take| take.0).collect();
        folds.sort_unstable();
        folds.dedup();
        if folds.len() < 2 {
            return None;
        }
        let (mut held, mut width) = (0_usize, 0.0);
        for fold in folds {
            let others = takes.iter().filter(|take| take.0 != fold);
            let (predictions, ratings): (Vec<f32>, Vec<f32>) = others.map(|take| (take.1, take.2)).unzip();
            let interval = Interval::of(&predictions, &ratings)?;
            for &(_, prediction, rating) in takes.iter().filter(|take| take.0 == fold) {
                let [low, high] = interval.at(prediction);
                held += usize::from((low..=high).contains(&rating));
                width += f64::from(high - low);
            }
        }
        let of = takes.len() as f64;
        Some(Self { level: LEVEL, held: held as f64 / of, width: width / of })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_say_how_far_it_reaches() {
        // Off by 0.01 where predictions are low, by up to 0.3 where they are high.
        let predictions: Vec<f32> = (0..200).map(|i| i as f32 / 200.0).collect();
        let ratings: Vec<f32> = predictions
            .iter()
            .enumerate()
            .map(|(i, p)| p + if i < 100 { 0.01 } else { 0.003 * (i % 100) as f32 })
            .collect();
        let interval = Interval::of(&predictions, &ratings).unwrap();
        assert_eq!(interval.predictions.len(), 200);
        let reach = |p: f32| p - interval.at(p)[0];
        assert!((reach(0.2) - 0.01).abs() < 1e-6);
        // Of 50 takes the 46th: the nearest to 0.8 are 135 to 184.
        assert!((reach(0.8) - 0.003 * 80.0).abs() < 0.0031, "{}", reach(0.8));
        assert_eq!(interval.at(0.005)[0], 0.0);
        assert_eq!(interval.at(0.995)[1], 1.0);
        for p in [-5.0, 0.0, 0.5, 1.0, 5.0, f32::MAX] {
            let [low, high] = interval.at(p);
            assert!((0.0..=1.0).contains(&low) && low <= high && high <= 1.0);
        }
        interval.check().unwrap();
    }

    #[test]
    fn few_takes_say_nothing() {
        assert!(Interval::of(&[0.5; 8], &[0.5; 8]).is_none());
        // Of nine the largest error.
        let errors = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.25];
        let [low, high] = Interval::of(&[0.5; 9], &errors.map(|e| 0.5 + e)).unwrap().at(0.5);
        assert_eq!([low, high], [0.25, 0.75]);
        assert!(
            Interval::of(&[f32::NAN; 9], &[0.5; 9]).is_none()
                && Interval::of(&[0.5; 10], &[0.5; 9]).is_none()
        );
        let many = Interval::of(&vec![0.5; 10_000], &vec![0.75; 10_000]).unwrap();
        assert_eq!((many.predictions.len(), many.at(0.5)), (MOST, [0.25, 0.75]));
    }

    #[test]
    fn one_that_was_read_is_checked() {
        let good = Interval { predictions: vec![0.5; 9], errors: vec![0.0; 9] };
        good.check().unwrap();
        for bad in [
            Interval { predictions: vec![0.5; 8], errors: vec![0.0; 8] },
            Interval { predictions: vec![0.5; 9], errors: vec![0.0; 10] },
            Interval { errors: vec![-0.1; 9], ..good.clone() },
            Interval { errors: vec![f32::NAN; 9], ..good.clone() },
            Interval { predictions: (0..9).map(|i| -(i as f32)).collect(), ..good.clone() },
        ] {
            assert!(bad.check().unwrap_err().to_string().contains("an interval of"));
        }
    }

    #[test]
    fn coverage_is_told_by_folds_that_were_held_out() {
        // Every error of the first fold is twice as large as that of the second.
        let takes: Vec<(u64, f32, f32)> =
            (0..100).map(|i| (i % 2, 0.5, 0.5 + 0.001 * (i / 2) as f32 * (2 - i % 2) as f32)).collect();
        let coverage = Coverage::of(&takes).unwrap();
        // The second fold is always within the first's; of the first the 23 whose error is at most half the 46th's.
        assert!((coverage.held - (50.0 + 23.0) / 100.0).abs() < 0.011, "{coverage:?}");
        assert_eq!(coverage.level, 0.9);
        assert!(Coverage::of(&takes[..1]).is_none() && Coverage::of(&[]).is_none());
        assert!(Coverage::of(&takes[..10]).is_none());
    }
}
